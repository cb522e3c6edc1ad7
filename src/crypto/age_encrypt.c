/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Writing age files: the header, whose stanzas are wrapped once at the beginning, and the stage
 * that seals the payload; see age.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/age_payload.h"
#include "crypto/base64.h"

#define AGE_OWN_PREFIX "-> walstream "
#define AGE_OWN_SUFFIX "\n\n" /* the line's end, and the empty body's */
/* "-> X25519 " share LF body LF */
#define AGE_X25519_STANZA_CHARS                                                                    \
    (10 + BASE64_RAW_LEN(CRYPTO_X25519_BYTES) + 1 + BASE64_RAW_LEN(AGE_STANZA_BODY_BYTES) + 1)

struct AgeEncryption
{
    uint8_t file_key[AGE_FILE_KEY_BYTES];
    bool is_passphrase;
    size_t stanzas_len;
    char stanzas[AGE_RECIPIENTS_MAX * AGE_X25519_STANZA_CHARS]; /* one with a passphrase is shorter
                                                                 */
};

static void
age_encryption_append(AgeEncryption *e, const void *text, size_t len)
{
    assert(len <= sizeof e->stanzas - e->stanzas_len);
    memcpy(e->stanzas + e->stanzas_len, text, len);
    e->stanzas_len += len;
}

static void
age_encryption_append_base64(AgeEncryption *e, const uint8_t *data, size_t len)
{
    char text[BASE64_RAW_LEN(AGE_STANZA_BODY_BYTES)];

    assert(len <= AGE_STANZA_BODY_BYTES);

    size_t n = base64_encode_raw(data, len, text);

    age_encryption_append(e, text, n);
}

/* Wraps the file key with wrap_key and ends the stanza whose arguments are there. */
static int
age_encryption_append_body(AgeEncryption *e, const uint8_t wrap_key[CRYPTO_KEY_BYTES], Error *err)
{
    uint8_t body[AGE_STANZA_BODY_BYTES];

    if (age_wrap_file_key(wrap_key, e->file_key, body, err) < 0)
        return -1;
    age_encryption_append(e, "\n", 1);
    age_encryption_append_base64(e, body, sizeof body);
    age_encryption_append(e, "\n", 1);
    return 0;
}

static int
age_encryption_add_x25519(AgeEncryption *e, const AgeX25519Key *recipient, Error *err)
{
    AUTO(crypto_pkey_freep) EVP_PKEY *ephemeral = NULL;
    uint8_t share[CRYPTO_X25519_BYTES], shared[CRYPTO_X25519_BYTES], wrap_key[CRYPTO_KEY_BYTES];
    int rc = -1;

    if (crypto_x25519_generate(&ephemeral, err) < 0 ||
        crypto_x25519_public(ephemeral, share, err) < 0)
        return -1;
    age_encryption_append(e, "-> X25519 ", 10);
    age_encryption_append_base64(e, share, sizeof share);
    if (crypto_x25519_shared(ephemeral, recipient->key, shared, err) == 0 &&
        age_x25519_wrap_key(shared, share, recipient->public, wrap_key, err) == 0 &&
        age_encryption_append_body(e, wrap_key, err) == 0)
        rc = 0;
    crypto_wipe(shared, sizeof shared);
    crypto_wipe(wrap_key, sizeof wrap_key);
    return rc;
}

static int
age_encryption_add_scrypt(AgeEncryption *e, const AgeRecipients *r, Error *err)
{
    uint8_t salt[AGE_SCRYPT_SALT_BYTES], wrap_key[CRYPTO_KEY_BYTES];
    char work[8];
    int rc = -1;

    if (crypto_random(salt, sizeof salt, err) < 0)
        return -1;
    (void) snprintf(work, sizeof work, " %u", r->log2_n);
    age_encryption_append(e, "-> scrypt ", 10);
    age_encryption_append_base64(e, salt, sizeof salt);
    age_encryption_append(e, work, strlen(work));
    if (age_scrypt_wrap_key(r->passphrase, salt, r->log2_n, wrap_key, err) == 0 &&
        age_encryption_append_body(e, wrap_key, err) == 0)
        rc = 0;
    crypto_wipe(wrap_key, sizeof wrap_key);
    return rc;
}

static int
age_encryption_fill(AgeEncryption *e, const AgeRecipients *r, Error *err)
{
    e->is_passphrase = r->passphrase != NULL;
    if (crypto_random(e->file_key, sizeof e->file_key, err) < 0)
        return -1;
    if (e->is_passphrase && age_encryption_add_scrypt(e, r, err) < 0)
        return -1;
    for (size_t i = 0; i < r->count; i++)
        if (age_encryption_add_x25519(e, &r->keys[i], err) < 0)
            return -1;
    return 0;
}

int
age_encryption_begin(const AgeRecipients *r, AgeEncryption **out, Error *err)
{
    *out = NULL;
    if (age_recipients_count(r) == 0)
        return error_set(err, ERROR_USAGE, "no recipient to encrypt for");

    AgeEncryption *e = calloc(1, sizeof *e);

    if (e == NULL)
        return error_nomem(err);
    if (age_encryption_fill(e, r, err) < 0)
    {
        age_encryption_free(e);
        return -1;
    }
    *out = e;
    return 0;
}

void
age_encryption_free(AgeEncryption *e)
{
    if (e == NULL)
        return;
    crypto_wipe(e, sizeof *e);
    free(e);
}

size_t
age_encryption_header_bytes(const AgeEncryption *e, size_t own_args_len)
{
    size_t own = own_args_len == 0
                     ? 0
                     : sizeof AGE_OWN_PREFIX - 1 + own_args_len + sizeof AGE_OWN_SUFFIX - 1;

    return AGE_INTRO_BYTES + own + e->stanzas_len + 4 + AGE_MAC_CHARS + 1;
}

/* The grammar of stanza arguments: printable, one blank between two. */
static int
age_check_own_args(const AgeEncryption *e, const char *own_args, size_t len, Error *err)
{
    char before = ' ';

    if (e->is_passphrase)
        return error_set(
            err, ERROR_USAGE, "an age file for a passphrase cannot have a stanza of our own");
    if (len >= AGE_OWN_ARGS_MAX)
        return error_set(err, ERROR_USAGE, "arguments of the walstream stanza are too long");
    for (size_t i = 0; i < len; i++)
    {
        if (own_args[i] == ' ' ? before == ' ' : own_args[i] < 33 || own_args[i] > 126)
            return error_set(
                err, ERROR_USAGE, "arguments of the walstream stanza are not printable");
        before = own_args[i];
    }
    if (before == ' ')
        return error_set(err, ERROR_USAGE, "arguments of the walstream stanza are empty");
    return 0;
}

int
age_encryption_header(
    const AgeEncryption *e, const char *own_args, uint8_t *out, size_t len, Error *err)
{
    size_t own_len = own_args == NULL ? 0 : strlen(own_args);
    char *at = (char *) out;
    uint8_t mac[AGE_MAC_BYTES];

    if (own_args != NULL && age_check_own_args(e, own_args, own_len, err) < 0)
        return -1;
    if (len != age_encryption_header_bytes(e, own_len))
        return error_set(
            err, ERROR_USAGE, "age header needs %zu bytes, there is room for %zu",
            age_encryption_header_bytes(e, own_len), len);
    at = mempcpy(at, AGE_INTRO, AGE_INTRO_BYTES);
    if (own_args != NULL)
    {
        at = mempcpy(at, AGE_OWN_PREFIX, sizeof AGE_OWN_PREFIX - 1);
        at = mempcpy(at, own_args, own_len);
        at = mempcpy(at, AGE_OWN_SUFFIX, sizeof AGE_OWN_SUFFIX - 1);
    }
    at = mempcpy(at, e->stanzas, e->stanzas_len);
    at = mempcpy(at, "---", 3);
    if (age_header_mac(e->file_key, (ByteView){out, (size_t) (at - (char *) out)}, mac, err) < 0)
        return -1;
    *at++ = ' ';
    at += base64_encode_raw(mac, sizeof mac, at);
    *at++ = '\n';
    assert((size_t) (at - (char *) out) == len);
    return 0;
}

/* ---- the payload ---- */

/*
 * A chunk is sealed only when a byte behind it is there or the end has come: until then it may be
 * the last one, whose nonce differs.
 */
typedef struct AgeEncryptor
{
    Stage stage;
    AgePayload payload;
    uint8_t nonce[AGE_NONCE_BYTES];
    bool nonce_written;
    size_t fill;                           /* plain bytes in chunk */
    uint8_t chunk[AGE_SEALED_CHUNK_BYTES]; /* sealed in place */
} AgeEncryptor;

static int
age_encryptor_write_nonce(AgeEncryptor *enc, Error *err)
{
    if (enc->nonce_written)
        return 0;
    enc->nonce_written = true;
    return stage_write(enc->stage.next, enc->nonce, sizeof enc->nonce, err);
}

static int
age_encryptor_emit(AgeEncryptor *enc, ByteView plain, bool last, Error *err)
{
    if (age_encryptor_write_nonce(enc, err) < 0 ||
        age_payload_seal(&enc->payload, plain, last, enc->chunk, err) < 0)
        return -1;
    enc->fill = 0;
    return stage_write(enc->stage.next, enc->chunk, plain.len + AGE_TAG_BYTES, err);
}

static int
age_encryptor_write(Stage *st, const void *buf, size_t len, Error *err)
{
    AgeEncryptor *enc = (AgeEncryptor *) st;
    const uint8_t *at = buf;

    while (len > 0)
    {
        if (enc->fill == AGE_CHUNK_BYTES &&
            age_encryptor_emit(enc, (ByteView){enc->chunk, AGE_CHUNK_BYTES}, false, err) < 0)
            return -1;
        if (enc->fill == 0 && len > AGE_CHUNK_BYTES)
        {
            /* a whole chunk with more behind it needs no copy */
            if (age_encryptor_emit(enc, (ByteView){at, AGE_CHUNK_BYTES}, false, err) < 0)
                return -1;
            at += AGE_CHUNK_BYTES;
            len -= AGE_CHUNK_BYTES;
            continue;
        }

        size_t n = MIN(len, AGE_CHUNK_BYTES - enc->fill);

        memcpy(enc->chunk + enc->fill, at, n);
        enc->fill += n;
        at += n;
        len -= n;
    }
    return 0;
}

static int
age_encryptor_finish(Stage *st, Error *err)
{
    AgeEncryptor *enc = (AgeEncryptor *) st;

    return age_encryptor_emit(enc, (ByteView){enc->chunk, enc->fill}, true, err);
}

static void
age_encryptor_destroy(Stage *st)
{
    AgeEncryptor *enc = (AgeEncryptor *) st;

    age_payload_reset(&enc->payload);
    crypto_wipe(enc->chunk, sizeof enc->chunk);
    free(enc);
}

static const StageOps age_encryptor_ops = {
    .name = "encrypt",
    .write = age_encryptor_write,
    .finish = age_encryptor_finish,
    .destroy = age_encryptor_destroy,
};

int
age_encryptor_new(const AgeEncryption *e, Stage *next, Stage **out, Error *err)
{
    AgeEncryptor *enc = calloc(1, sizeof *enc);

    if (enc == NULL)
        return error_nomem(err);
    if (crypto_random(enc->nonce, sizeof enc->nonce, err) < 0 ||
        age_payload_init(&enc->payload, e->file_key, enc->nonce, true, err) < 0)
    {
        free(enc);
        return -1;
    }
    stage_init(&enc->stage, &age_encryptor_ops, next);
    *out = &enc->stage;
    return 0;
}
