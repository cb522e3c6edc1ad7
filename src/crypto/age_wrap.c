/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * How a file key is wrapped for a key or a passphrase, and found again in a header; see age_keys.h.
 * Chapter names are those of C2SP age.md.
 */
#include <string.h>

#include "crypto/age_keys.h"
#include "crypto/base64.h"

/* A wrap key is used for one file key only, so the nonce may be fixed. */
static const uint8_t age_wrap_nonce[CRYPTO_NONCE_BYTES];

int
age_key_id(
    const uint8_t public[CRYPTO_X25519_BYTES], char out[2 * AGE_KEY_ID_BYTES + 1], Error *err)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[CRYPTO_SHA256_BYTES];

    if (crypto_sha256((ByteView){public, CRYPTO_X25519_BYTES}, digest, err) < 0)
        return -1;
    for (size_t i = 0; i < AGE_KEY_ID_BYTES; i++)
    {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[2 * AGE_KEY_ID_BYTES] = '\0';
    return 0;
}

int
age_x25519_wrap_key(
    const uint8_t shared[CRYPTO_X25519_BYTES], const uint8_t share[CRYPTO_X25519_BYTES],
    const uint8_t recipient[CRYPTO_X25519_BYTES], uint8_t out[CRYPTO_KEY_BYTES], Error *err)
{
    uint8_t salt[2 * CRYPTO_X25519_BYTES];

    memcpy(salt, share, CRYPTO_X25519_BYTES);
    memcpy(salt + CRYPTO_X25519_BYTES, recipient, CRYPTO_X25519_BYTES);
    return crypto_hkdf(
        (ByteView){shared, CRYPTO_X25519_BYTES}, (ByteView){salt, sizeof salt}, AGE_X25519_INFO,
        out, err);
}

int
age_scrypt_wrap_key(
    const char *passphrase, const uint8_t salt[AGE_SCRYPT_SALT_BYTES], unsigned log2_n,
    uint8_t out[CRYPTO_KEY_BYTES], Error *err)
{
    uint8_t labelled[sizeof AGE_SCRYPT_SALT_LABEL - 1 + AGE_SCRYPT_SALT_BYTES];

    memcpy(labelled, AGE_SCRYPT_SALT_LABEL, sizeof AGE_SCRYPT_SALT_LABEL - 1);
    memcpy(labelled + sizeof AGE_SCRYPT_SALT_LABEL - 1, salt, AGE_SCRYPT_SALT_BYTES);
    return crypto_scrypt(passphrase, (ByteView){labelled, sizeof labelled}, log2_n, out, err);
}

int
age_wrap_file_key(
    const uint8_t wrap_key[CRYPTO_KEY_BYTES], const uint8_t file_key[AGE_FILE_KEY_BYTES],
    uint8_t body[AGE_STANZA_BODY_BYTES], Error *err)
{
    AUTO(crypto_aead_freep) CryptoAead *aead = NULL;

    if (crypto_aead_new(wrap_key, true, &aead, err) < 0)
        return -1;
    return crypto_aead_seal(
        aead, age_wrap_nonce, (ByteView){file_key, AGE_FILE_KEY_BYTES}, body, err);
}

static int
age_unwrap_file_key(
    const uint8_t wrap_key[CRYPTO_KEY_BYTES], const uint8_t body[AGE_STANZA_BODY_BYTES],
    uint8_t file_key[AGE_FILE_KEY_BYTES], bool *fits, Error *err)
{
    AUTO(crypto_aead_freep) CryptoAead *aead = NULL;

    if (crypto_aead_new(wrap_key, false, &aead, err) < 0)
        return -1;
    return crypto_aead_open(
        aead, age_wrap_nonce, (ByteView){body, AGE_STANZA_BODY_BYTES}, file_key, fits, err);
}

/* ---- stanzas of the types we know, checked before anything is decrypted ---- */

typedef struct AgeX25519Stanza
{
    uint8_t share[CRYPTO_X25519_BYTES];
    uint8_t body[AGE_STANZA_BODY_BYTES];
} AgeX25519Stanza;

typedef struct AgeScryptStanza
{
    uint8_t salt[AGE_SCRYPT_SALT_BYTES];
    unsigned log2_n;
    uint8_t body[AGE_STANZA_BODY_BYTES];
} AgeScryptStanza;

static int
age_x25519_stanza_read(const AgeStanza *stanza, AgeX25519Stanza *out, Error *err)
{
    AgeText share;
    size_t len;

    if (age_stanza_arg_count(stanza->args) != 2 || !age_stanza_arg(stanza->args, 1, &share) ||
        !base64_decode_raw(share.data, share.len, out->share, sizeof out->share, &len) ||
        len != sizeof out->share)
        return error_set(
            err, ERROR_CORRUPT,
            "damaged age header: an X25519 stanza does not have one share of 32 bytes");
    return age_stanza_body(stanza, out->body, err);
}

/* Decimal without leading zero, as the chapter on the scrypt stanza asks. */
static bool
age_scrypt_read_log2_n(AgeText text, unsigned *out)
{
    unsigned value = 0;

    if (text.len == 0 || text.len > 2 || text.data[0] == '0')
        return false;
    for (size_t i = 0; i < text.len; i++)
    {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        value = value * 10 + (unsigned) (text.data[i] - '0');
    }
    *out = value;
    return value <= AGE_SCRYPT_LOG2_N_MAX;
}

static int
age_scrypt_stanza_read(const AgeStanza *stanza, AgeScryptStanza *out, Error *err)
{
    AgeText salt, work;
    size_t len;

    if (age_stanza_arg_count(stanza->args) != 3 || !age_stanza_arg(stanza->args, 1, &salt) ||
        !age_stanza_arg(stanza->args, 2, &work) ||
        !base64_decode_raw(salt.data, salt.len, out->salt, sizeof out->salt, &len) ||
        len != sizeof out->salt)
        return error_set(
            err, ERROR_CORRUPT,
            "damaged age header: a scrypt stanza does not have one salt of 16 bytes");
    if (!age_scrypt_read_log2_n(work, &out->log2_n))
        return error_set(
            err, ERROR_CORRUPT, "damaged age header: a scrypt work factor is not a number up to %d",
            AGE_SCRYPT_LOG2_N_MAX);
    return age_stanza_body(stanza, out->body, err);
}

static int
age_header_check_stanzas(const AgeHeader *header, Error *err)
{
    AgeStanza stanza;
    size_t at = 0;

    while (age_header_next(header, &at, &stanza))
    {
        AgeX25519Stanza x25519;
        AgeScryptStanza scrypt;

        if (age_stanza_is(stanza.args, "X25519") &&
            age_x25519_stanza_read(&stanza, &x25519, err) < 0)
            return -1;
        if (!age_stanza_is(stanza.args, "scrypt"))
            continue;
        if (age_scrypt_stanza_read(&stanza, &scrypt, err) < 0)
            return -1;
        /* whoever decrypts with a passphrase relies on only its holders having encrypted */
        if (header->stanza_count != 1)
            return error_set(
                err, ERROR_CORRUPT, "damaged age header: a scrypt stanza is not the only stanza");
    }
    return 0;
}

/* ---- trying identities ---- */

static int
age_try_x25519(
    const AgeX25519Key *own, EVP_PKEY *share_key, const AgeX25519Stanza *stanza,
    uint8_t file_key[AGE_FILE_KEY_BYTES], bool *fits, Error *err)
{
    uint8_t shared[CRYPTO_X25519_BYTES], wrap_key[CRYPTO_KEY_BYTES];
    int rc = -1;

    if (crypto_x25519_shared(own->key, share_key, shared, err) < 0)
        (void) error_wrap(err, "damaged age header");
    else if (
        age_x25519_wrap_key(shared, stanza->share, own->public, wrap_key, err) == 0 &&
        age_unwrap_file_key(wrap_key, stanza->body, file_key, fits, err) == 0)
        rc = 0;
    crypto_wipe(shared, sizeof shared);
    crypto_wipe(wrap_key, sizeof wrap_key);
    return rc;
}

static int
age_try_x25519_stanza(
    const AgeIdentities *ids, const AgeStanza *stanza, uint8_t file_key[AGE_FILE_KEY_BYTES],
    bool *fits, Error *err)
{
    AgeX25519Stanza parts;
    AUTO(crypto_pkey_freep) EVP_PKEY *share_key = NULL;

    if (age_x25519_stanza_read(stanza, &parts, err) < 0 ||
        crypto_x25519_from_public(parts.share, &share_key, err) < 0)
        return -1;
    for (size_t i = 0; i < ids->count && !*fits; i++)
        if (age_try_x25519(&ids->keys[i], share_key, &parts, file_key, fits, err) < 0)
            return -1;
    return 0;
}

static int
age_try_scrypt_stanza(
    const AgeIdentities *ids, const AgeStanza *stanza, uint8_t file_key[AGE_FILE_KEY_BYTES],
    bool *fits, Error *err)
{
    AgeScryptStanza parts;
    uint8_t wrap_key[CRYPTO_KEY_BYTES];
    int rc = -1;

    if (age_scrypt_stanza_read(stanza, &parts, err) == 0 &&
        age_scrypt_wrap_key(ids->passphrase, parts.salt, parts.log2_n, wrap_key, err) == 0)
        rc = age_unwrap_file_key(wrap_key, parts.body, file_key, fits, err);
    crypto_wipe(wrap_key, sizeof wrap_key);
    return rc;
}

/*
 * Says for whom the object was written, if our stanza tells. It is not authenticated here, but what
 * passed the header's grammar is printable.
 */
static int
age_refuse_no_match(const AgeIdentities *ids, const AgeHeader *header, Error *err)
{
    AgeStanza first;
    AgeText key_ids;
    size_t at = 0;
    char own[64];

    if (!age_header_next(header, &at, &first))
        return error_set(err, ERROR_CORRUPT, "damaged age header: it has no recipient stanza");
    if (age_stanza_is(first.args, "scrypt"))
        return error_set(
            err, ERROR_DENIED, "no identity fits: encrypted with %s passphrase",
            ids->passphrase == NULL ? "a" : "another");
    (void) error_set(err, ERROR_DENIED, "no identity fits: encrypted for other recipients");
    if (age_stanza_is(first.args, "walstream") && age_stanza_arg(first.args, 5, &key_ids))
        return error_hint(
            err, "It was written for the key ids %.*s; the identities here have %s.",
            (int) MIN(key_ids.len, 130), key_ids.data,
            age_identities_list_key_ids(ids, own, sizeof own));
    return error_hint(err, "Give the identity file of one of its recipients.");
}

int
age_identities_unwrap(
    const AgeIdentities *ids, const AgeHeader *header, uint8_t file_key[AGE_FILE_KEY_BYTES],
    Error *err)
{
    AgeStanza stanza;
    size_t at = 0;
    bool fits = false;

    if (age_header_check_stanzas(header, err) < 0)
        return -1;
    while (!fits && age_header_next(header, &at, &stanza))
    {
        if (age_stanza_is(stanza.args, "X25519") &&
            age_try_x25519_stanza(ids, &stanza, file_key, &fits, err) < 0)
            return -1;
        if (ids->passphrase != NULL && age_stanza_is(stanza.args, "scrypt") &&
            age_try_scrypt_stanza(ids, &stanza, file_key, &fits, err) < 0)
            return -1;
    }
    if (!fits)
        return age_refuse_no_match(ids, header, err);

    uint8_t mac[AGE_MAC_BYTES];

    if (age_header_mac(file_key, (ByteView){header->text, header->covered_len}, mac, err) < 0)
        return -1;
    if (!crypto_equal(mac, header->mac, sizeof mac))
        return error_set(err, ERROR_CORRUPT, "age header was changed: its MAC is wrong");
    return 0;
}

int
age_header_mac(
    const uint8_t file_key[AGE_FILE_KEY_BYTES], ByteView covered, uint8_t mac[AGE_MAC_BYTES],
    Error *err)
{
    uint8_t key[CRYPTO_KEY_BYTES];
    int rc = crypto_hkdf(
        (ByteView){file_key, AGE_FILE_KEY_BYTES}, (ByteView){NULL, 0}, "header", key, err);

    if (rc == 0)
        rc = crypto_hmac_sha256(key, covered, mac, err);
    crypto_wipe(key, sizeof key);
    return rc;
}
