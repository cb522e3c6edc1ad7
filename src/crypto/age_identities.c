/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What to decrypt with; see age.h. A secret key lives only inside its EVP_PKEY, which OpenSSL
 * wipes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/age_keys.h"
#include "crypto/bech32.h"

#define AGE_SECRET_HRP "AGE-SECRET-KEY-"

int
age_identities_new(AgeIdentities **out, Error *err)
{
    *out = calloc(1, sizeof **out);
    return *out == NULL ? error_nomem(err) : 0;
}

void
age_identities_free(AgeIdentities *ids)
{
    if (ids == NULL)
        return;
    for (size_t i = 0; i < ids->count; i++)
        EVP_PKEY_free(ids->keys[i].key);
    if (ids->passphrase != NULL)
        crypto_wipe(ids->passphrase, strlen(ids->passphrase));
    free(ids->passphrase);
    free(ids);
}

static int
age_identity_decode(const char *text, uint8_t secret[CRYPTO_X25519_BYTES], Error *err)
{
    char hrp[BECH32_TEXT_MAX];
    size_t len;

    if (strncmp(text, "AGE-SECRET-KEY-PQ-1", strlen("AGE-SECRET-KEY-PQ-1")) == 0)
        return error_set(
            err, ERROR_USAGE,
            "hybrid age secret keys are not supported, only X25519 (AGE-SECRET-KEY-1...)");
    if (strncmp(text, "AGE-PLUGIN-", strlen("AGE-PLUGIN-")) == 0)
        return error_set(
            err, ERROR_USAGE, "age plugins are not supported, only X25519 (AGE-SECRET-KEY-1...)");
    if (strncmp(text, "age1", 4) == 0)
        return error_set(
            err, ERROR_USAGE,
            "a recipient was given where a secret key (AGE-SECRET-KEY-1...) is expected");
    if (bech32_decode(text, hrp, sizeof hrp, secret, CRYPTO_X25519_BYTES, &len, err) < 0)
        return error_wrap(err, "not an age secret key (AGE-SECRET-KEY-1...)");
    if (strcmp(hrp, AGE_SECRET_HRP) != 0 || len != CRYPTO_X25519_BYTES)
        return error_set(
            err, ERROR_USAGE, "not an age secret key (AGE-SECRET-KEY-1...): other prefix or size");
    return 0;
}

static int
age_identities_add_secret(AgeIdentities *ids, const uint8_t secret[CRYPTO_X25519_BYTES], Error *err)
{
    AUTO(crypto_pkey_freep) EVP_PKEY *key = NULL;
    uint8_t public[CRYPTO_X25519_BYTES];

    if (crypto_x25519_from_secret(secret, &key, err) < 0 ||
        crypto_x25519_public(key, public, err) < 0)
        return -1;
    for (size_t i = 0; i < ids->count; i++)
        if (memcmp(ids->keys[i].public, public, sizeof public) == 0)
            return 0;
    if (ids->count == AGE_IDENTITIES_MAX)
        return error_set(err, ERROR_USAGE, "more than %d secret keys", AGE_IDENTITIES_MAX);
    memcpy(ids->keys[ids->count].public, public, sizeof public);
    ids->keys[ids->count++].key = steal(key);
    return 0;
}

int
age_identities_add(AgeIdentities *ids, const char *text, Error *err)
{
    uint8_t secret[CRYPTO_X25519_BYTES];
    int rc = age_identity_decode(text, secret, err);

    if (rc == 0)
        rc = age_identities_add_secret(ids, secret, err);
    crypto_wipe(secret, sizeof secret);
    return rc;
}

int
age_identities_set_passphrase(AgeIdentities *ids, const char *passphrase, Error *err)
{
    if (passphrase[0] == '\0')
        return error_set(err, ERROR_USAGE, "passphrase is empty");
    if (ids->passphrase != NULL)
        return error_set(err, ERROR_USAGE, "a passphrase is set already");
    ids->passphrase = strdup(passphrase);
    return ids->passphrase == NULL ? error_nomem(err) : 0;
}

size_t
age_identities_count(const AgeIdentities *ids)
{
    return ids->count;
}

int
age_identities_recipient(const AgeIdentities *ids, size_t i, char *out, size_t len, Error *err)
{
    assert(i < ids->count);
    return bech32_encode("age", ids->keys[i].public, CRYPTO_X25519_BYTES, out, len, err);
}

bool
age_identities_have_key_id(const AgeIdentities *ids, const char *key_id)
{
    for (size_t i = 0; i < ids->count; i++)
    {
        char own[2 * AGE_KEY_ID_BYTES + 1];
        Error ignored; /* a key whose id cannot be computed is none that fits */

        if (age_key_id(ids->keys[i].public, own, &ignored) == 0 && strcmp(own, key_id) == 0)
            return true;
    }
    return false;
}

char *
age_identities_list_key_ids(const AgeIdentities *ids, char *out, size_t len)
{
    size_t used = (size_t) snprintf(out, len, "none");

    for (size_t i = 0; i < ids->count; i++)
    {
        char own[2 * AGE_KEY_ID_BYTES + 1];
        Error ignored;

        if (i == 0)
            used = 0;
        if (used + 1 + sizeof own > len || age_key_id(ids->keys[i].public, own, &ignored) < 0)
            break;
        used += (size_t) snprintf(out + used, len - used, "%s%s", i == 0 ? "" : ",", own);
    }
    return out;
}

int
age_keygen(char recipient[64], char identity[80], Error *err)
{
    uint8_t secret[CRYPTO_X25519_BYTES], public[CRYPTO_X25519_BYTES];
    AUTO(crypto_pkey_freep) EVP_PKEY *key = NULL;
    int rc = -1;

    if (crypto_random(secret, sizeof secret, err) == 0 &&
        crypto_x25519_from_secret(secret, &key, err) == 0 &&
        crypto_x25519_public(key, public, err) == 0 &&
        bech32_encode("age", public, sizeof public, recipient, 64, err) == 0 &&
        bech32_encode(AGE_SECRET_HRP, secret, sizeof secret, identity, 80, err) == 0)
        rc = 0;
    crypto_wipe(secret, sizeof secret);
    return rc;
}
