/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Whom to encrypt to; see age.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/age_keys.h"
#include "crypto/bech32.h"

int
age_recipients_new(AgeRecipients **out, Error *err)
{
    *out = calloc(1, sizeof **out);
    return *out == NULL ? error_nomem(err) : 0;
}

void
age_recipients_free(AgeRecipients *r)
{
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->count; i++)
        EVP_PKEY_free(r->keys[i].key);
    if (r->passphrase != NULL)
        crypto_wipe(r->passphrase, strlen(r->passphrase));
    free(r->passphrase);
    free(r);
}

/* What somebody may give instead of an X25519 recipient. The text itself is never quoted. */
static int
age_recipient_refuse_other_kinds(const char *text, Error *err)
{
    if (strncasecmp(text, "age-secret-key-", strlen("age-secret-key-")) == 0)
    {
        (void) error_set(
            err, ERROR_USAGE, "a secret key was given where a recipient (age1...) is expected");
        return error_hint(
            err,
            "Use the public key that age-keygen -y prints, and consider the secret key exposed.");
    }
    if (strncmp(text, "age1pq1", 7) == 0 || strncmp(text, "age1tag", 7) == 0)
        return error_set(
            err, ERROR_USAGE,
            "hybrid and tagged age recipients are not supported, only X25519 (age1...)");
    if (strncmp(text, "ssh-", 4) == 0)
        return error_set(
            err, ERROR_USAGE, "SSH keys are not supported as recipients, only X25519 (age1...)");
    return 0;
}

/* A point of low order would make every encryption fail later. */
static int
age_recipient_check_order(EVP_PKEY *key, Error *err)
{
    AUTO(crypto_pkey_freep) EVP_PKEY *probe = NULL;
    uint8_t shared[CRYPTO_X25519_BYTES];

    if (crypto_x25519_generate(&probe, err) < 0)
        return -1;

    int rc = crypto_x25519_shared(probe, key, shared, err);

    crypto_wipe(shared, sizeof shared);
    if (rc < 0 && err->kind == ERROR_CORRUPT)
        err->kind = ERROR_USAGE;
    return rc;
}

int
age_recipients_add(AgeRecipients *r, const char *text, Error *err)
{
    char hrp[BECH32_TEXT_MAX];
    uint8_t public[CRYPTO_X25519_BYTES];
    size_t len;

    if (age_recipient_refuse_other_kinds(text, err) < 0)
        return -1;
    if (r->passphrase != NULL)
        return error_set(err, ERROR_USAGE, "a passphrase must be the only recipient");
    if (bech32_decode(text, hrp, sizeof hrp, public, sizeof public, &len, err) < 0)
        return error_wrap(err, "not an age recipient (age1...)");
    if (strcmp(hrp, "age") != 0 || len != sizeof public)
        return error_set(err, ERROR_USAGE, "not an age recipient (age1...): other prefix or size");
    for (size_t i = 0; i < r->count; i++)
        if (memcmp(r->keys[i].public, public, sizeof public) == 0)
            return 0;
    if (r->count == AGE_RECIPIENTS_MAX)
        return error_set(err, ERROR_USAGE, "more than %d recipients", AGE_RECIPIENTS_MAX);

    AUTO(crypto_pkey_freep) EVP_PKEY *key = NULL;
    char key_id[2 * AGE_KEY_ID_BYTES + 1];

    if (crypto_x25519_from_public(public, &key, err) < 0)
        return -1;
    if (age_recipient_check_order(key, err) < 0)
        return error_wrap(err, "not a usable age recipient");
    if (age_key_id(public, key_id, err) < 0)
        return -1;

    size_t used = strlen(r->key_ids);

    (void) snprintf(
        r->key_ids + used, sizeof r->key_ids - used, "%s%s", used == 0 ? "" : ",", key_id);
    memcpy(r->keys[r->count].public, public, sizeof public);
    r->keys[r->count++].key = steal(key);
    return 0;
}

int
age_recipients_set_passphrase(AgeRecipients *r, const char *passphrase, int log2_n, Error *err)
{
    if (r->count > 0 || r->passphrase != NULL)
        return error_set(err, ERROR_USAGE, "a passphrase must be the only recipient");
    if (passphrase[0] == '\0')
        return error_set(err, ERROR_USAGE, "passphrase is empty");
    if (log2_n < AGE_SCRYPT_LOG2_N_MIN || log2_n > AGE_SCRYPT_LOG2_N_MAX)
        return error_set(
            err, ERROR_USAGE, "scrypt work factor %d is not between %d and %d", log2_n,
            AGE_SCRYPT_LOG2_N_MIN, AGE_SCRYPT_LOG2_N_MAX);
    r->passphrase = strdup(passphrase);
    if (r->passphrase == NULL)
        return error_nomem(err);
    r->log2_n = (unsigned) log2_n;
    (void) snprintf(r->key_ids, sizeof r->key_ids, "scrypt");
    return 0;
}

size_t
age_recipients_count(const AgeRecipients *r)
{
    return r->passphrase != NULL ? 1 : r->count;
}

const char *
age_recipients_key_ids(const AgeRecipients *r)
{
    return r->key_ids;
}
