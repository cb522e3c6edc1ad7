/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Where S3 credentials come from. A provider is asked before each request and caches as it likes;
 * "auto" asks its list in order and keeps to the first that has some. Web identity, container and
 * instance metadata take their place in that list (credentials.c, credentials_auto_list).
 */
#ifndef WALSTREAM_CREDENTIALS_H
#define WALSTREAM_CREDENTIALS_H

#include <pthread.h>

#include "common/clock.h"

/* Secrets: wiped by credentials_reset; there is no formatter for them on purpose. */
typedef struct Credentials
{
    char access_key[160];
    char secret_key[160];
    char session_token[4096]; /* "" if none */
    int64_t expires_us;       /* wall clock; 0: never */
} Credentials;

void credentials_reset(Credentials *c); /* wipes; fit for AUTO */

typedef struct CredentialsProvider CredentialsProvider;

typedef struct CredentialsOps
{
    const char *name;
    /* NOT_FOUND: this provider has none, ask the next; anything else is the answer. */
    int (*load)(CredentialsProvider *p, const Deadline *dl, Credentials *out, Error *err);
    void (*destroy)(CredentialsProvider *p);
} CredentialsOps;

struct CredentialsProvider
{
    const CredentialsOps *ops;
    pthread_mutex_t lock; /* guards the fields below */
    pthread_cond_t loaded;
    bool loading; /* one thread is in load; others wait for what it brings */
    bool have_cached;
    Credentials cached;
};

/* Fills the embedded part of a provider; credentials_provider_free releases it. */
void credentials_provider_init(CredentialsProvider *p, const CredentialsOps *ops);

/*
 * how: "auto", "environment" (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN) or
 * "file[:PROFILE]" (AWS_SHARED_CREDENTIALS_FILE or ~/.aws/credentials; AWS_PROFILE or "default").
 * A credentials file that others can read is refused.
 */
MUST_CHECK int credentials_provider_new(const char *how, CredentialsProvider **out, Error *err);
void credentials_provider_free(CredentialsProvider *p);
DEFINE_AUTO(CredentialsProvider, credentials_provider_free);

/* Thread-safe; cached until shortly before expiry. DENIED with a hint when nobody has any. */
MUST_CHECK int
credentials_get(CredentialsProvider *p, const Deadline *dl, Credentials *out, Error *err);

/*
 * The keys of one profile in the text of a credentials file: "[profile]" and "name = value" lines,
 * comments with '#' or ';'. Settings that we do not know are passed over.
 *
 * Errors   NOT_FOUND if the profile is missing or holds no key; CORRUPT with the line's number
 */
MUST_CHECK int credentials_parse_file(
    const char *text, size_t len, const char *profile, Credentials *out, Error *err);

/* Forget the cached ones (after an ExpiredToken answer). Thread-safe. */
void credentials_forget(CredentialsProvider *p);

#endif
