/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The chunks of an age payload. Each is sealed alone, under a nonce that holds its number and
 * whether it is the last: chunks cannot be reordered, dropped or added unseen.
 */
#ifndef WALSTREAM_AGE_PAYLOAD_H
#define WALSTREAM_AGE_PAYLOAD_H

#include "crypto/age_keys.h"

#define AGE_SEALED_CHUNK_BYTES (AGE_CHUNK_BYTES + AGE_TAG_BYTES)

typedef struct AgePayload
{
    CryptoAead *aead;
    uint64_t chunk_no; /* the next one's, from 0 */
} AgePayload;

MUST_CHECK int age_payload_init(
    AgePayload *payload, const uint8_t file_key[AGE_FILE_KEY_BYTES],
    const uint8_t nonce[AGE_NONCE_BYTES], bool encrypt, Error *err);
void age_payload_reset(AgePayload *payload);

/* Writes plain.len + AGE_TAG_BYTES; out may be plain.data. */
MUST_CHECK int
age_payload_seal(AgePayload *payload, ByteView plain, bool last, uint8_t *out, Error *err);

/* Writes sealed.len - AGE_TAG_BYTES, apart from sealed. The number moves on only when the chunk was
 * authentic. */
MUST_CHECK int age_payload_open(
    AgePayload *payload, ByteView sealed, bool last, uint8_t *out, bool *authentic, Error *err);

#endif
