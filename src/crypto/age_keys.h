/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What the age modules know of each other's keys.
 */
#ifndef WALSTREAM_AGE_KEYS_H
#define WALSTREAM_AGE_KEYS_H

#include "crypto/age.h"
#include "crypto/age_header.h"
#include "crypto/primitives.h"

#define AGE_FILE_KEY_BYTES 16
#define AGE_SCRYPT_SALT_BYTES 16
#define AGE_SCRYPT_LOG2_N_MIN 10
#define AGE_SCRYPT_LOG2_N_MAX 22
#define AGE_X25519_INFO "age-encryption.org/v1/X25519"
#define AGE_SCRYPT_SALT_LABEL "age-encryption.org/v1/scrypt"

typedef struct AgeX25519Key
{
    EVP_PKEY *key;
    uint8_t public[CRYPTO_X25519_BYTES];
} AgeX25519Key;

struct AgeRecipients
{
    AgeX25519Key keys[AGE_RECIPIENTS_MAX];
    size_t count;
    char key_ids[AGE_RECIPIENTS_MAX * (2 * AGE_KEY_ID_BYTES + 1)];
    char *passphrase; /* NULL: none; then count is 0 */
    unsigned log2_n;
};

struct AgeIdentities
{
    AgeX25519Key keys[AGE_IDENTITIES_MAX];
    size_t count;
    char *passphrase; /* NULL: none */
};

/* 2 * AGE_KEY_ID_BYTES digits and a NUL. */
MUST_CHECK int age_key_id(
    const uint8_t public[CRYPTO_X25519_BYTES], char out[2 * AGE_KEY_ID_BYTES + 1], Error *err);

/* "ab,cd,..." of all identities, as far as it fits; "none" when there are none. Returns out. */
char *age_identities_list_key_ids(const AgeIdentities *ids, char *out, size_t len);

/* salt is share || recipient. */
MUST_CHECK int age_x25519_wrap_key(
    const uint8_t shared[CRYPTO_X25519_BYTES], const uint8_t share[CRYPTO_X25519_BYTES],
    const uint8_t recipient[CRYPTO_X25519_BYTES], uint8_t out[CRYPTO_KEY_BYTES], Error *err);
MUST_CHECK int age_scrypt_wrap_key(
    const char *passphrase, const uint8_t salt[AGE_SCRYPT_SALT_BYTES], unsigned log2_n,
    uint8_t out[CRYPTO_KEY_BYTES], Error *err);

MUST_CHECK int age_wrap_file_key(
    const uint8_t wrap_key[CRYPTO_KEY_BYTES], const uint8_t file_key[AGE_FILE_KEY_BYTES],
    uint8_t body[AGE_STANZA_BODY_BYTES], Error *err);

/*
 * The file key of a header whose syntax was checked, its MAC verified. DENIED if no identity fits,
 * CORRUPT for a malformed stanza of a type we know, or a wrong MAC.
 */
MUST_CHECK int age_identities_unwrap(
    const AgeIdentities *ids, const AgeHeader *header, uint8_t file_key[AGE_FILE_KEY_BYTES],
    Error *err);

/* Of the header's text through "---". */
MUST_CHECK int age_header_mac(
    const uint8_t file_key[AGE_FILE_KEY_BYTES], ByteView covered, uint8_t mac[AGE_MAC_BYTES],
    Error *err);

#endif
