/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Reading age files: the stage that takes a header apart, finds the file key and opens the payload,
 * and the look at our own stanza that needs no key; see age.h.
 *
 *   FIRST --first byte--> HEADER --MAC line--> NONCE --16 bytes--> PAYLOAD
 *         age_decryptor_begin    age_decryptor_end_header         age_decryptor_take_payload
 *
 * With armor, each line's bytes enter HEADER, NONCE and PAYLOAD the same way.
 */
#include <stdlib.h>
#include <string.h>

#include "crypto/age_armor.h"
#include "crypto/age_payload.h"

typedef enum AgeDecryptorState
{
    AGE_DECRYPTOR_FIRST,
    AGE_DECRYPTOR_HEADER,
    AGE_DECRYPTOR_NONCE,
    AGE_DECRYPTOR_PAYLOAD
} AgeDecryptorState;

typedef struct AgeDecryptor
{
    Stage stage;
    const AgeIdentities *ids;
    char *own_args; /* AGE_OWN_ARGS_MAX bytes of the caller, or NULL */
    AgeDecryptorState state;
    bool is_armored;
    AgeArmor armor;
    size_t line_at; /* in a header: where its last line begins */
    uint8_t file_key[AGE_FILE_KEY_BYTES];
    AgePayload payload;
    size_t fill; /* of buf: header text, then nonce, then sealed bytes */
    uint8_t buf[AGE_SEALED_CHUNK_BYTES];
    uint8_t plain[AGE_CHUNK_BYTES];
} AgeDecryptor;

static_assert(AGE_HEADER_MAX <= AGE_SEALED_CHUNK_BYTES, "a header fits where a chunk does");

/* ---- our own stanza ---- */

bool
age_is_age(const void *data, size_t len)
{
    return len >= AGE_INTRO_BYTES && memcmp(data, AGE_INTRO, AGE_INTRO_BYTES) == 0;
}

/* Copies what stands behind the type; "" if the stanza is not ours. */
static int
age_copy_own_args(AgeText args, char own_args[AGE_OWN_ARGS_MAX], Error *err)
{
    const size_t type_len = strlen("walstream");

    own_args[0] = '\0';
    if (!age_stanza_is(args, "walstream"))
        return 0;
    if (args.len <= type_len + 1 || args.len - type_len - 1 >= AGE_OWN_ARGS_MAX)
        return error_set(
            err, ERROR_CORRUPT, "damaged age header: the walstream stanza is empty or too long");
    memcpy(own_args, args.data + type_len + 1, args.len - type_len - 1);
    own_args[args.len - type_len - 1] = '\0';
    return 0;
}

int
age_peek_own_args(const void *data, size_t len, char own_args[AGE_OWN_ARGS_MAX], Error *err)
{
    AgeText args;

    own_args[0] = '\0';
    if (!age_is_age(data, len))
        return error_set(err, ERROR_CORRUPT, "not an age file");
    if (age_stanza_parse_args(
            (const char *) data + AGE_INTRO_BYTES, len - AGE_INTRO_BYTES, &args, err) < 0 ||
        age_copy_own_args(args, own_args, err) < 0)
        return -1;
    if (own_args[0] == '\0')
        return error_set(err, ERROR_NOT_FOUND, "age file was not written by walstream");
    return 0;
}

/* ---- the header ---- */

static int
age_decryptor_check_intro(const AgeDecryptor *d, Error *err)
{
    static const char family[] = "age-encryption.org/";

    if (memcmp(d->buf, AGE_INTRO, MIN(d->fill, AGE_INTRO_BYTES)) == 0)
        return 0;
    if (d->fill >= AGE_INTRO_BYTES && memcmp(d->buf, family, sizeof family - 1) == 0)
        return error_set(
            err, ERROR_CORRUPT, "damaged age header: its version is not age-encryption.org/v1");
    return error_set(
        err, ERROR_CORRUPT, "damaged age header: it does not begin with age-encryption.org/v1");
}

static int
age_decryptor_end_header(AgeDecryptor *d, Error *err)
{
    AgeHeader header;
    AgeStanza first;
    size_t at = 0;

    if (age_header_parse((const char *) d->buf, d->fill, &header, err) < 0 ||
        age_identities_unwrap(d->ids, &header, d->file_key, err) < 0)
        return -1;
    if (d->own_args != NULL && age_header_next(&header, &at, &first) &&
        age_copy_own_args(first.args, d->own_args, err) < 0)
        return -1;
    d->state = AGE_DECRYPTOR_NONCE;
    d->fill = 0;
    return 0;
}

/* Takes bytes up to the end of a line; the line that begins with "---" ends the header. */
static int
age_decryptor_take_header(AgeDecryptor *d, const uint8_t **data, size_t *len, Error *err)
{
    const uint8_t *feed = memchr(*data, '\n', *len);
    size_t n = feed == NULL ? *len : (size_t) (feed - *data) + 1;
    size_t room = AGE_HEADER_MAX - d->fill;

    if (n > room && d->fill >= AGE_INTRO_BYTES)
        return error_set(
            err, ERROR_CORRUPT, "damaged age header: it is longer than %d bytes", AGE_HEADER_MAX);
    n = MIN(n, room); /* less than n only when the first line is none of ours, found below */
    memcpy(d->buf + d->fill, *data, n);
    d->fill += n;
    *data += n;
    *len -= n;
    if (d->line_at < AGE_INTRO_BYTES && age_decryptor_check_intro(d, err) < 0)
        return -1;
    if (feed == NULL)
        return 0;
    if (d->fill - d->line_at > 3 && memcmp(d->buf + d->line_at, "---", 3) == 0)
        return age_decryptor_end_header(d, err);
    d->line_at = d->fill;
    return 0;
}

/* ---- the payload ---- */

static int
age_decryptor_take_nonce(AgeDecryptor *d, const uint8_t **data, size_t *len, Error *err)
{
    size_t n = MIN(*len, AGE_NONCE_BYTES - d->fill);

    memcpy(d->buf + d->fill, *data, n);
    d->fill += n;
    *data += n;
    *len -= n;
    if (d->fill < AGE_NONCE_BYTES)
        return 0;
    if (age_payload_init(&d->payload, d->file_key, d->buf, false, err) < 0)
        return -1;
    crypto_wipe(d->file_key, sizeof d->file_key);
    d->state = AGE_DECRYPTOR_PAYLOAD;
    d->fill = 0;
    return 0;
}

static int
age_decryptor_bad_chunk(const AgeDecryptor *d, const char *what, Error *err)
{
    return error_set(
        err, ERROR_CORRUPT, "damaged age payload: chunk %llu %s",
        (unsigned long long) d->payload.chunk_no, what);
}

/*
 * A full chunk may turn out to be an inner one where the last is due, or the other way about: that
 * tells a file that was cut or continued at a chunk's end from one that was changed, and its bytes
 * are genuine, so they are passed on before the error.
 */
static int
age_decryptor_open_full(AgeDecryptor *d, const uint8_t *sealed, bool at_end, Error *err)
{
    ByteView view = {sealed, AGE_SEALED_CHUNK_BYTES};
    bool as_due, otherwise = false;

    if (age_payload_open(&d->payload, view, at_end, d->plain, &as_due, err) < 0 ||
        (!as_due && age_payload_open(&d->payload, view, !at_end, d->plain, &otherwise, err) < 0))
        return -1;
    if (!as_due && !otherwise)
        return age_decryptor_bad_chunk(d, "was changed or is out of place", err);
    d->fill = 0;
    if (stage_write(d->stage.next, d->plain, AGE_CHUNK_BYTES, err) < 0)
        return -1;
    if (otherwise)
        return error_set(
            err, ERROR_CORRUPT, "damaged age payload: %s",
            at_end ? "the file is cut off behind a chunk" : "bytes follow its last chunk");
    return 0;
}

static int
age_decryptor_take_payload(AgeDecryptor *d, const uint8_t **data, size_t *len, Error *err)
{
    if (d->fill == AGE_SEALED_CHUNK_BYTES)
        return age_decryptor_open_full(d, d->buf, false, err);
    if (d->fill == 0 && *len > AGE_SEALED_CHUNK_BYTES)
    {
        const uint8_t *sealed = *data;

        *data += AGE_SEALED_CHUNK_BYTES;
        *len -= AGE_SEALED_CHUNK_BYTES;
        return age_decryptor_open_full(d, sealed, false, err);
    }

    size_t n = MIN(*len, AGE_SEALED_CHUNK_BYTES - d->fill);

    memcpy(d->buf + d->fill, *data, n);
    d->fill += n;
    *data += n;
    *len -= n;
    return 0;
}

static int
age_decryptor_open_last(AgeDecryptor *d, Error *err)
{
    bool authentic;

    if (d->fill == AGE_SEALED_CHUNK_BYTES)
        return age_decryptor_open_full(d, d->buf, true, err);
    if (d->fill < AGE_TAG_BYTES)
        return age_decryptor_bad_chunk(d, "is cut off", err);
    if (age_payload_open(
            &d->payload, (ByteView){d->buf, d->fill}, true, d->plain, &authentic, err) < 0)
        return -1;
    if (!authentic)
        return age_decryptor_bad_chunk(d, "was changed, or the file is cut off", err);
    if (d->fill == AGE_TAG_BYTES && d->payload.chunk_no > 1)
        return error_set(err, ERROR_CORRUPT, "damaged age payload: its last chunk is empty");
    return stage_write(d->stage.next, d->plain, d->fill - AGE_TAG_BYTES, err);
}

/* ---- the stage ---- */

static int
age_decryptor_take(AgeDecryptor *d, const uint8_t *data, size_t len, Error *err)
{
    while (len > 0)
    {
        int rc = -1;

        switch (d->state)
        {
            case AGE_DECRYPTOR_FIRST:
            case AGE_DECRYPTOR_HEADER:
                rc = age_decryptor_take_header(d, &data, &len, err);
                break;
            case AGE_DECRYPTOR_NONCE:
                rc = age_decryptor_take_nonce(d, &data, &len, err);
                break;
            case AGE_DECRYPTOR_PAYLOAD:
                rc = age_decryptor_take_payload(d, &data, &len, err);
                break;
        }
        if (rc < 0)
            return -1;
    }
    return 0;
}

static int
age_decryptor_write(Stage *st, const void *buf, size_t len, Error *err)
{
    AgeDecryptor *d = (AgeDecryptor *) st;
    const uint8_t *at = buf;

    if (d->state == AGE_DECRYPTOR_FIRST)
    {
        d->is_armored = age_armor_may_begin(at[0]);
        d->state = AGE_DECRYPTOR_HEADER;
    }
    if (!d->is_armored)
        return age_decryptor_take(d, at, len, err);
    while (len > 0)
    {
        uint8_t line[AGE_ARMOR_LINE_BYTES];
        size_t line_len;

        if (age_armor_take(&d->armor, &at, &len, line, &line_len, err) < 0 ||
            age_decryptor_take(d, line, line_len, err) < 0)
            return -1;
    }
    return 0;
}

static int
age_decryptor_finish(Stage *st, Error *err)
{
    AgeDecryptor *d = (AgeDecryptor *) st;

    if (d->is_armored && age_armor_finish(&d->armor, err) < 0)
        return -1;
    switch (d->state)
    {
        case AGE_DECRYPTOR_FIRST:
            return error_set(err, ERROR_CORRUPT, "damaged age header: the file is empty");
        case AGE_DECRYPTOR_HEADER:
            return error_set(err, ERROR_CORRUPT, "damaged age header: the file ends within it");
        case AGE_DECRYPTOR_NONCE:
            return error_set(
                err, ERROR_CORRUPT, "damaged age header: the file ends before its payload");
        case AGE_DECRYPTOR_PAYLOAD:
            break;
    }
    return age_decryptor_open_last(d, err);
}

static void
age_decryptor_destroy(Stage *st)
{
    AgeDecryptor *d = (AgeDecryptor *) st;

    age_payload_reset(&d->payload);
    crypto_wipe(d, sizeof *d);
    free(d);
}

static const StageOps age_decryptor_ops = {
    .name = "decrypt",
    .write = age_decryptor_write,
    .finish = age_decryptor_finish,
    .destroy = age_decryptor_destroy,
};

int
age_decryptor_new(
    const AgeIdentities *ids, Stage *next, char own_args[AGE_OWN_ARGS_MAX], Stage **out, Error *err)
{
    AgeDecryptor *d = calloc(1, sizeof *d);

    if (d == NULL)
        return error_nomem(err);
    d->ids = ids;
    d->own_args = own_args;
    if (own_args != NULL)
        own_args[0] = '\0';
    stage_init(&d->stage, &age_decryptor_ops, next);
    *out = &d->stage;
    return 0;
}
