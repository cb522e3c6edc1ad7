/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The stage that measures SHA-256; see stage.h. Parallel, a thread of its own reads the caller's
 * buffer while the next stage does, and both are done when the write returns: the same bytes, no
 * copy, and a compressor and the digest take the time of the slower one.
 */
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "stream/stage.h"

typedef struct StageDigest
{
    Stage stage;
    EVP_MD_CTX *ctx;
    uint8_t sha256[32];

    bool parallel; /* thread and what follows are in use */
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    const void *buf; /* to be digested; NULL: nothing to do */
    size_t len;
    bool failed;
    bool ending;
} StageDigest;

static int
stage_digest_failed(Error *err)
{
    return error_set(err, ERROR_IO, "could not compute SHA-256: OpenSSL failed");
}

static void *
stage_digest_main(void *arg)
{
    StageDigest *d = arg;

    (void) pthread_mutex_lock(&d->lock);
    for (;;)
    {
        const void *buf = d->buf;
        size_t len = d->len;
        bool good;

        if (buf == NULL)
        {
            if (d->ending)
                break;
            (void) pthread_cond_wait(&d->changed, &d->lock);
            continue;
        }
        (void) pthread_mutex_unlock(&d->lock);
        good = EVP_DigestUpdate(d->ctx, buf, len) == 1;
        (void) pthread_mutex_lock(&d->lock);
        d->failed = d->failed || !good;
        d->buf = NULL;
        (void) pthread_cond_signal(&d->changed);
    }
    (void) pthread_mutex_unlock(&d->lock);
    return NULL;
}

static int
stage_digest_write_parallel(StageDigest *d, const void *buf, size_t len, Error *err)
{
    bool failed;
    int rc;

    (void) pthread_mutex_lock(&d->lock);
    d->buf = buf;
    d->len = len;
    (void) pthread_cond_signal(&d->changed);
    (void) pthread_mutex_unlock(&d->lock);

    rc = d->stage.next != NULL ? stage_write(d->stage.next, buf, len, err) : 0;

    (void) pthread_mutex_lock(&d->lock);
    while (d->buf != NULL)
        (void) pthread_cond_wait(&d->changed, &d->lock);
    failed = d->failed;
    (void) pthread_mutex_unlock(&d->lock);
    return rc == 0 && failed ? stage_digest_failed(err) : rc;
}

static int
stage_digest_write(Stage *st, const void *buf, size_t len, Error *err)
{
    StageDigest *d = (StageDigest *) st;

    if (d->parallel)
        return stage_digest_write_parallel(d, buf, len, err);
    if (EVP_DigestUpdate(d->ctx, buf, len) != 1)
        return stage_digest_failed(err);
    return st->next != NULL ? stage_write(st->next, buf, len, err) : 0;
}

static int
stage_digest_finish(Stage *st, Error *err)
{
    StageDigest *d = (StageDigest *) st;

    if (EVP_DigestFinal_ex(d->ctx, d->sha256, NULL) != 1)
        return stage_digest_failed(err);
    return 0;
}

static void
stage_digest_destroy(Stage *st)
{
    StageDigest *d = (StageDigest *) st;

    if (d->parallel)
    {
        (void) pthread_mutex_lock(&d->lock);
        d->ending = true;
        (void) pthread_cond_signal(&d->changed);
        (void) pthread_mutex_unlock(&d->lock);
        (void) pthread_join(d->thread, NULL);
        (void) pthread_cond_destroy(&d->changed);
        (void) pthread_mutex_destroy(&d->lock);
    }
    EVP_MD_CTX_free(d->ctx);
    free(d);
}

static const StageOps stage_digest_ops = {
    .name = "digest",
    .write = stage_digest_write,
    .finish = stage_digest_finish,
    .destroy = stage_digest_destroy,
};

int
stage_digest_new(Stage *next, Stage **out, Error *err)
{
    StageDigest *d = calloc(1, sizeof *d);

    if (d == NULL)
        return error_nomem(err);
    d->ctx = EVP_MD_CTX_new();
    if (d->ctx == NULL || EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) != 1)
    {
        stage_digest_destroy(&d->stage);
        return error_set(err, ERROR_IO, "could not set up SHA-256: OpenSSL failed");
    }
    stage_init(&d->stage, &stage_digest_ops, next);
    *out = &d->stage;
    return 0;
}

int
stage_digest_new_parallel(Stage *next, Stage **out, Error *err)
{
    Stage *st;
    StageDigest *d;

    if (stage_digest_new(next, &st, err) < 0)
        return -1;
    d = (StageDigest *) st;
    if (pthread_mutex_init(&d->lock, NULL) == 0)
    {
        if (pthread_cond_init(&d->changed, NULL) == 0)
        {
            d->parallel = pthread_create(&d->thread, NULL, stage_digest_main, d) == 0;
            if (!d->parallel)
                (void) pthread_cond_destroy(&d->changed);
        }
        if (!d->parallel)
            (void) pthread_mutex_destroy(&d->lock);
    }
    *out = st; /* without a thread it works as well, one after the other */
    return 0;
}

const uint8_t *
stage_digest_sha256(const Stage *st)
{
    assert(st->ops == &stage_digest_ops && st->state == STAGE_FINISHED);
    return ((const StageDigest *) st)->sha256;
}
