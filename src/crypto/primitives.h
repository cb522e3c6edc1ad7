/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The few primitives that age is made of, on OpenSSL 3. Algorithms are fetched once for the
 * process: a fetch by name costs more than hashing a header. OpenSSL's error queue is left empty.
 */
#ifndef WALSTREAM_CRYPTO_PRIMITIVES_H
#define WALSTREAM_CRYPTO_PRIMITIVES_H

#include <openssl/evp.h>

#include "common/error.h"

#define CRYPTO_KEY_BYTES 32
#define CRYPTO_NONCE_BYTES 12
#define CRYPTO_TAG_BYTES 16
#define CRYPTO_X25519_BYTES 32
#define CRYPTO_SHA256_BYTES 32

typedef struct ByteView
{
    const void *data;
    size_t len;
} ByteView;

void crypto_wipe(void *data, size_t len);
/* In constant time. */
bool crypto_equal(const void *a, const void *b, size_t len);
MUST_CHECK int crypto_random(void *out, size_t len, Error *err);
MUST_CHECK int crypto_sha256(ByteView data, uint8_t out[CRYPTO_SHA256_BYTES], Error *err);
MUST_CHECK int crypto_hmac_sha256(
    const uint8_t key[CRYPTO_KEY_BYTES], ByteView data, uint8_t out[CRYPTO_SHA256_BYTES],
    Error *err);
/* HKDF-SHA-256 to 32 bytes; salt may be empty. */
MUST_CHECK int crypto_hkdf(
    ByteView ikm, ByteView salt, const char *info, uint8_t out[CRYPTO_KEY_BYTES], Error *err);
/* r 8, p 1; needs 1024 * 2^log2_n bytes of memory for its duration. NOMEM when there is not as
 * much. */
MUST_CHECK int crypto_scrypt(
    const char *passphrase, ByteView salt, unsigned log2_n, uint8_t out[CRYPTO_KEY_BYTES],
    Error *err);

/* ---- X25519; an EVP_PKEY is freed by EVP_PKEY_free, which wipes it ---- */
UNUSED static inline void
crypto_pkey_freep(EVP_PKEY **p)
{
    EVP_PKEY_free(*p);
}

MUST_CHECK int crypto_x25519_generate(EVP_PKEY **out, Error *err);
MUST_CHECK int
crypto_x25519_from_secret(const uint8_t secret[CRYPTO_X25519_BYTES], EVP_PKEY **out, Error *err);
MUST_CHECK int
crypto_x25519_from_public(const uint8_t public[CRYPTO_X25519_BYTES], EVP_PKEY **out, Error *err);
MUST_CHECK int
crypto_x25519_public(const EVP_PKEY *key, uint8_t public[CRYPTO_X25519_BYTES], Error *err);
/* CORRUPT for a peer of low order, whose shared secret is all zero. own and peer are not changed.
 */
MUST_CHECK int crypto_x25519_shared(
    EVP_PKEY *own, EVP_PKEY *peer, uint8_t shared[CRYPTO_X25519_BYTES], Error *err);

/* ---- ChaCha20-Poly1305 without additional data; one key, many nonces ---- */
typedef struct CryptoAead CryptoAead;

MUST_CHECK int
crypto_aead_new(const uint8_t key[CRYPTO_KEY_BYTES], bool encrypt, CryptoAead **out, Error *err);
void crypto_aead_free(CryptoAead *aead);
DEFINE_AUTO(CryptoAead, crypto_aead_free);
/* Writes in.len + 16 bytes; out may be in.data or must not overlap it. */
MUST_CHECK int crypto_aead_seal(
    CryptoAead *aead, const uint8_t nonce[CRYPTO_NONCE_BYTES], ByteView in, uint8_t *out,
    Error *err);
/*
 * Writes in.len - 16 bytes; out may be in.data or must not overlap it. *authentic false: the tag is
 * wrong and out is to be thrown away. in.len must be at least 16.
 */
MUST_CHECK int crypto_aead_open(
    CryptoAead *aead, const uint8_t nonce[CRYPTO_NONCE_BYTES], ByteView in, uint8_t *out,
    bool *authentic, Error *err);

#endif
