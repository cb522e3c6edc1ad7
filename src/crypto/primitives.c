/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Primitives of age on OpenSSL 3; see primitives.h.
 */
#include "crypto/primitives.h"

#include <limits.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Fetched once, shared read-only by all threads, kept until the process ends. */
static struct
{
    EVP_CIPHER *chacha20_poly1305;
    EVP_MD *sha256;
    EVP_MAC *hmac;
    EVP_KDF *hkdf;
    EVP_KDF *scrypt;
} crypto_algorithms;

static pthread_once_t crypto_once = PTHREAD_ONCE_INIT;

static void
crypto_fetch_algorithms(void)
{
    crypto_algorithms.chacha20_poly1305 = EVP_CIPHER_fetch(NULL, "ChaCha20-Poly1305", NULL);
    crypto_algorithms.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    crypto_algorithms.hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    crypto_algorithms.hkdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    crypto_algorithms.scrypt = EVP_KDF_fetch(NULL, "SCRYPT", NULL);
}

/* Reports what OpenSSL says and empties its queue, which libcurl and libpq look at too. */
static int
crypto_failed(Error *err, const char *what)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code == 0 ? NULL : ERR_reason_error_string(code);
    bool no_memory = code != 0 && ERR_GET_REASON(code) == ERR_R_MALLOC_FAILURE;

    if (no_memory)
        (void) error_nomem(err);
    else
        (void) error_set(
            err, ERROR_IO, "OpenSSL could not %s: %s", what,
            reason == NULL ? "no reason given" : reason);
    ERR_clear_error();
    return -1;
}

static int
crypto_need(const void *algorithm, const char *name, Error *err)
{
    if (algorithm != NULL)
        return 0;
    (void) error_set(err, ERROR_IO, "OpenSSL does not offer %s", name);
    return error_hint(
        err, "The OpenSSL configuration of this host may allow approved algorithms only.");
}

void
crypto_wipe(void *data, size_t len)
{
    OPENSSL_cleanse(data, len);
}

bool
crypto_equal(const void *a, const void *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

int
crypto_random(void *out, size_t len, Error *err)
{
    assert(len <= INT_MAX);
    if (RAND_bytes(out, (int) len) != 1)
        return crypto_failed(err, "draw random bytes");
    return 0;
}

int
crypto_sha256(ByteView data, uint8_t out[CRYPTO_SHA256_BYTES], Error *err)
{
    (void) pthread_once(&crypto_once, crypto_fetch_algorithms);
    if (crypto_need(crypto_algorithms.sha256, "SHA-256", err) < 0)
        return -1;
    if (EVP_Digest(data.data, data.len, out, NULL, crypto_algorithms.sha256, NULL) != 1)
        return crypto_failed(err, "compute a SHA-256 digest");
    return 0;
}

/* OSSL_PARAM takes pointers to non-const but only reads what is used as input. */
static OSSL_PARAM
crypto_param_bytes(const char *name, ByteView value)
{
    union
    {
        const void *in;
        void *out;
    } pun = {.in = value.data};

    return OSSL_PARAM_construct_octet_string(name, pun.out, value.len);
}

static OSSL_PARAM
crypto_param_sha256(void)
{
    static char name[] = "SHA256";

    return OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, name, 0);
}

static void
crypto_mac_ctx_freep(EVP_MAC_CTX **p)
{
    EVP_MAC_CTX_free(*p);
}

int
crypto_hmac_sha256(
    const uint8_t key[CRYPTO_KEY_BYTES], ByteView data, uint8_t out[CRYPTO_SHA256_BYTES],
    Error *err)
{
    (void) pthread_once(&crypto_once, crypto_fetch_algorithms);
    if (crypto_need(crypto_algorithms.hmac, "HMAC", err) < 0)
        return -1;

    AUTO(crypto_mac_ctx_freep) EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(crypto_algorithms.hmac);
    const OSSL_PARAM params[] = {crypto_param_sha256(), OSSL_PARAM_construct_end()};
    size_t len = 0;

    if (ctx == NULL || EVP_MAC_init(ctx, key, CRYPTO_KEY_BYTES, params) != 1 ||
        EVP_MAC_update(ctx, data.data, data.len) != 1 ||
        EVP_MAC_final(ctx, out, &len, CRYPTO_SHA256_BYTES) != 1 || len != CRYPTO_SHA256_BYTES)
        return crypto_failed(err, "compute an HMAC");
    return 0;
}

static void
crypto_kdf_ctx_freep(EVP_KDF_CTX **p)
{
    EVP_KDF_CTX_free(*p);
}

int
crypto_hkdf(
    ByteView ikm, ByteView salt, const char *info, uint8_t out[CRYPTO_KEY_BYTES], Error *err)
{
    (void) pthread_once(&crypto_once, crypto_fetch_algorithms);
    if (crypto_need(crypto_algorithms.hkdf, "HKDF", err) < 0)
        return -1;

    AUTO(crypto_kdf_ctx_freep) EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(crypto_algorithms.hkdf);
    OSSL_PARAM params[5];
    size_t n = 0;

    params[n++] = crypto_param_sha256();
    params[n++] = crypto_param_bytes(OSSL_KDF_PARAM_KEY, ikm);
    params[n++] = crypto_param_bytes(OSSL_KDF_PARAM_INFO, (ByteView){info, strlen(info)});
    /* no salt means one of zeros, which is what an absent parameter gives too */
    if (salt.len > 0)
        params[n++] = crypto_param_bytes(OSSL_KDF_PARAM_SALT, salt);
    params[n] = OSSL_PARAM_construct_end();
    if (ctx == NULL || EVP_KDF_derive(ctx, out, CRYPTO_KEY_BYTES, params) != 1)
        return crypto_failed(err, "derive a key with HKDF");
    return 0;
}

int
crypto_scrypt(
    const char *passphrase, ByteView salt, unsigned log2_n, uint8_t out[CRYPTO_KEY_BYTES],
    Error *err)
{
    assert(log2_n >= 1 && log2_n < 32);
    (void) pthread_once(&crypto_once, crypto_fetch_algorithms);
    if (crypto_need(crypto_algorithms.scrypt, "scrypt", err) < 0)
        return -1;

    AUTO(crypto_kdf_ctx_freep) EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(crypto_algorithms.scrypt);
    uint64_t work = UINT64_C(1) << log2_n;
    uint32_t block_size = 8, parallel = 1;
    /* 128 * r * N bytes of state, and some for its blocks; OpenSSL's own bound stops at 1 GiB */
    uint64_t max_memory = 1024 * work + (UINT64_C(1) << 20);
    const OSSL_PARAM params[] = {
        crypto_param_bytes(OSSL_KDF_PARAM_PASSWORD, (ByteView){passphrase, strlen(passphrase)}),
        crypto_param_bytes(OSSL_KDF_PARAM_SALT, salt),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_N, &work),
        OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_R, &block_size),
        OSSL_PARAM_construct_uint32(OSSL_KDF_PARAM_SCRYPT_P, &parallel),
        OSSL_PARAM_construct_uint64(OSSL_KDF_PARAM_SCRYPT_MAXMEM, &max_memory),
        OSSL_PARAM_construct_end(),
    };

    if (ctx == NULL || EVP_KDF_derive(ctx, out, CRYPTO_KEY_BYTES, params) != 1)
    {
        ERR_clear_error();
        return error_set(
            err, ERROR_NOMEM, "could not derive a key from the passphrase, which needs %llu MiB",
            (unsigned long long) (max_memory >> 20));
    }
    return 0;
}

int
crypto_x25519_generate(EVP_PKEY **out, Error *err)
{
    *out = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    if (*out == NULL)
        return crypto_failed(err, "generate an X25519 key");
    return 0;
}

int
crypto_x25519_from_secret(const uint8_t secret[CRYPTO_X25519_BYTES], EVP_PKEY **out, Error *err)
{
    *out = EVP_PKEY_new_raw_private_key_ex(NULL, "X25519", NULL, secret, CRYPTO_X25519_BYTES);
    if (*out == NULL)
        return crypto_failed(err, "use an X25519 secret key");
    return 0;
}

int
crypto_x25519_from_public(const uint8_t public[CRYPTO_X25519_BYTES], EVP_PKEY **out, Error *err)
{
    *out = EVP_PKEY_new_raw_public_key_ex(NULL, "X25519", NULL, public, CRYPTO_X25519_BYTES);
    if (*out == NULL)
        return crypto_failed(err, "use an X25519 public key");
    return 0;
}

int
crypto_x25519_public(const EVP_PKEY *key, uint8_t public[CRYPTO_X25519_BYTES], Error *err)
{
    size_t len = CRYPTO_X25519_BYTES;

    if (EVP_PKEY_get_raw_public_key(key, public, &len) != 1 || len != CRYPTO_X25519_BYTES)
        return crypto_failed(err, "get an X25519 public key");
    return 0;
}

static void
crypto_pkey_ctx_freep(EVP_PKEY_CTX **p)
{
    EVP_PKEY_CTX_free(*p);
}

int
crypto_x25519_shared(EVP_PKEY *own, EVP_PKEY *peer, uint8_t shared[CRYPTO_X25519_BYTES], Error *err)
{
    static const uint8_t zero[CRYPTO_X25519_BYTES];
    AUTO(crypto_pkey_ctx_freep) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL);
    size_t len = CRYPTO_X25519_BYTES;

    if (ctx == NULL || EVP_PKEY_derive_init(ctx) != 1 || EVP_PKEY_derive_set_peer(ctx, peer) != 1)
        return crypto_failed(err, "prepare an X25519 key agreement");
    /* OpenSSL refuses the all-zero result itself (RFC 7748, 6.1); an older one may not */
    if (EVP_PKEY_derive(ctx, shared, &len) != 1 || len != CRYPTO_X25519_BYTES ||
        crypto_equal(shared, zero, sizeof zero))
    {
        ERR_clear_error();
        return error_set(err, ERROR_CORRUPT, "X25519 key is a point of low order");
    }
    return 0;
}

struct CryptoAead
{
    EVP_CIPHER_CTX *ctx;
};

int
crypto_aead_new(const uint8_t key[CRYPTO_KEY_BYTES], bool encrypt, CryptoAead **out, Error *err)
{
    *out = NULL;
    (void) pthread_once(&crypto_once, crypto_fetch_algorithms);
    if (crypto_need(crypto_algorithms.chacha20_poly1305, "ChaCha20-Poly1305", err) < 0)
        return -1;

    CryptoAead *aead = calloc(1, sizeof *aead);

    if (aead == NULL)
        return error_nomem(err);
    aead->ctx = EVP_CIPHER_CTX_new();
    if (aead->ctx == NULL ||
        EVP_CipherInit_ex2(
            aead->ctx, crypto_algorithms.chacha20_poly1305, key, NULL, encrypt ? 1 : 0, NULL) != 1)
    {
        crypto_aead_free(aead);
        return crypto_failed(err, "set up ChaCha20-Poly1305");
    }
    *out = aead;
    return 0;
}

void
crypto_aead_free(CryptoAead *aead)
{
    if (aead == NULL)
        return;
    EVP_CIPHER_CTX_free(aead->ctx); /* wipes the key */
    free(aead);
}

int
crypto_aead_seal(
    CryptoAead *aead, const uint8_t nonce[CRYPTO_NONCE_BYTES], ByteView in, uint8_t *out,
    Error *err)
{
    int got = 0, rest = 0;

    assert(in.len <= INT_MAX - CRYPTO_TAG_BYTES);
    if (EVP_CipherInit_ex2(aead->ctx, NULL, NULL, nonce, 1, NULL) != 1 ||
        (in.len > 0 && EVP_CipherUpdate(aead->ctx, out, &got, in.data, (int) in.len) != 1) ||
        EVP_CipherFinal_ex(aead->ctx, out + got, &rest) != 1 ||
        (size_t) got + (size_t) rest != in.len ||
        EVP_CIPHER_CTX_ctrl(aead->ctx, EVP_CTRL_AEAD_GET_TAG, CRYPTO_TAG_BYTES, out + in.len) != 1)
        return crypto_failed(err, "encrypt");
    return 0;
}

int
crypto_aead_open(
    CryptoAead *aead, const uint8_t nonce[CRYPTO_NONCE_BYTES], ByteView in, uint8_t *out,
    bool *authentic, Error *err)
{
    assert(in.len >= CRYPTO_TAG_BYTES && in.len <= INT_MAX);

    size_t plain_len = in.len - CRYPTO_TAG_BYTES;
    int got = 0, rest = 0;
    uint8_t tag[CRYPTO_TAG_BYTES];

    memcpy(tag, (const uint8_t *) in.data + plain_len, sizeof tag);
    if (EVP_CipherInit_ex2(aead->ctx, NULL, NULL, nonce, 0, NULL) != 1 ||
        EVP_CIPHER_CTX_ctrl(aead->ctx, EVP_CTRL_AEAD_SET_TAG, sizeof tag, tag) != 1 ||
        (plain_len > 0 && EVP_CipherUpdate(aead->ctx, out, &got, in.data, (int) plain_len) != 1))
        return crypto_failed(err, "decrypt");
    *authentic = EVP_CipherFinal_ex(aead->ctx, out + got, &rest) == 1;
    ERR_clear_error();
    return 0;
}
