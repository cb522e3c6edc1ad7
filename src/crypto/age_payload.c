/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Chunks of an age payload; see age_payload.h and C2SP age.md, "Payload".
 */
#include "crypto/age_payload.h"

#include <string.h>

#include "common/bytes.h"

static_assert(AGE_TAG_BYTES == CRYPTO_TAG_BYTES, "an age chunk ends with the cipher's tag");

int
age_payload_init(
    AgePayload *payload, const uint8_t file_key[AGE_FILE_KEY_BYTES],
    const uint8_t nonce[AGE_NONCE_BYTES], bool encrypt, Error *err)
{
    uint8_t key[CRYPTO_KEY_BYTES];
    int rc = crypto_hkdf(
        (ByteView){file_key, AGE_FILE_KEY_BYTES}, (ByteView){nonce, AGE_NONCE_BYTES}, "payload",
        key, err);

    payload->chunk_no = 0;
    if (rc == 0)
        rc = crypto_aead_new(key, encrypt, &payload->aead, err);
    crypto_wipe(key, sizeof key);
    return rc;
}

void
age_payload_reset(AgePayload *payload)
{
    crypto_aead_free(payload->aead);
    payload->aead = NULL;
}

/* Eleven bytes of big-endian number, then 1 for the last chunk. Eight bytes of number suffice. */
static void
age_payload_fill_nonce(uint64_t chunk_no, bool last, uint8_t nonce[CRYPTO_NONCE_BYTES])
{
    memset(nonce, 0, CRYPTO_NONCE_BYTES);
    put_u64be(nonce + 3, chunk_no);
    nonce[11] = last ? 1 : 0;
}

int
age_payload_seal(AgePayload *payload, ByteView plain, bool last, uint8_t *out, Error *err)
{
    uint8_t nonce[CRYPTO_NONCE_BYTES];

    age_payload_fill_nonce(payload->chunk_no++, last, nonce);
    return crypto_aead_seal(payload->aead, nonce, plain, out, err);
}

int
age_payload_open(
    AgePayload *payload, ByteView sealed, bool last, uint8_t *out, bool *authentic, Error *err)
{
    uint8_t nonce[CRYPTO_NONCE_BYTES];

    age_payload_fill_nonce(payload->chunk_no, last, nonce);
    if (crypto_aead_open(payload->aead, nonce, sealed, out, authentic, err) < 0)
        return -1;
    if (*authentic)
        payload->chunk_no++;
    return 0;
}
