/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The conformance suite of stores over S3: s3_conformance LABEL ENDPOINT BUCKET PREFIX [CA-FILE]
 * Variants by environment: S3_VIRTUAL_HOST, S3_LOOK_FIRST, S3_WRAP=retry-count|small-pages.
 */
#include <stdlib.h>
#include <string.h>

#include "conformance/store_conformance.h"
#include "store/s3.h"
#include "tap.h"

typedef struct Maker
{
    const char *endpoint, *bucket, *prefix, *ca_file;
    unsigned made;
} Maker;

/* ---- asks for a few keys at once, so that every listing has several pages ---- */

typedef struct SmallPages
{
    Store base;
    Store *inner;
} SmallPages;

static Store *
small_pages_inner(Store *st)
{
    return ((SmallPages *) (void *) st)->inner;
}

static int
small_pages_put(Store *st, const char *key, const StoreBody *body, const Deadline *dl, Error *err)
{
    return store_put(small_pages_inner(st), key, body, dl, err);
}

static int
small_pages_get(
    Store *st, const char *key, ByteRange range, Stage *sink, const Deadline *dl, Error *err)
{
    return store_get(small_pages_inner(st), key, range, sink, dl, err);
}

static int
small_pages_stat(Store *st, const char *key, const Deadline *dl, StoreStat *out, Error *err)
{
    return store_stat(small_pages_inner(st), key, dl, out, err);
}

static int
small_pages_list(
    Store *st, const StoreListOptions *options, StoreListFn fn, void *ctx, const Deadline *dl,
    Error *err)
{
    StoreListOptions small = *options;

    small.page_keys = 3;
    return store_list(small_pages_inner(st), &small, fn, ctx, dl, err);
}

static int
small_pages_remove(Store *st, StoreRemoved *keys, size_t count, const Deadline *dl, Error *err)
{
    return store_remove(small_pages_inner(st), keys, count, dl, err);
}

static void
small_pages_destroy(Store *st)
{
    store_free(small_pages_inner(st));
    free(st->url);
    free(st);
}

static const StoreOps small_pages_ops = {
    .put = small_pages_put,
    .get = small_pages_get,
    .stat = small_pages_stat,
    .list = small_pages_list,
    .remove = small_pages_remove,
    .destroy = small_pages_destroy,
};

static int
small_pages_new(Store *inner, Store **out, Error *err)
{
    SmallPages *s = calloc(1, sizeof *s);

    if (s == NULL || (s->base.url = strdup(inner->url)) == NULL)
    {
        free(s);
        store_free(inner);
        return error_nomem(err);
    }
    s->base.ops = &small_pages_ops;
    s->base.caps = inner->caps;
    s->inner = inner;
    *out = &s->base;
    return 0;
}

/* ---- */

static int
maker_wrap(const char *wrap, Store *inner, Store **out, Error *err)
{
    StoreRetryOptions retry = {.first_delay_ms = 20, .max_delay_ms = 500, .try_timeout_ms = 20000};

    if (strcmp(wrap, "retry-count") == 0)
    {
        Store *counted;

        if (store_count_new(inner, &counted, err) < 0)
            return -1;
        return store_retry_new(counted, &retry, out, err);
    }
    if (strcmp(wrap, "small-pages") == 0)
        return small_pages_new(inner, out, err);
    store_free(inner);
    return error_set(err, ERROR_USAGE, "no such wrapper \"%s\"", wrap);
}

static int
maker_open(Maker *m, Store **out, Error *err)
{
    char prefix[256];
    const char *wrap = getenv("S3_WRAP");
    S3Options options = {
        .bucket = m->bucket,
        .prefix = prefix,
        .endpoint = m->endpoint,
        .path_style = getenv("S3_VIRTUAL_HOST") == NULL,
        .ca_file = m->ca_file,
        .conditional_create = getenv("S3_LOOK_FIRST") == NULL,
    };
    Store *s3;

    (void) snprintf(prefix, sizeof prefix, "%s/%u", m->prefix, m->made++);
    if (credentials_provider_new("environment", &options.credentials, err) < 0 ||
        store_s3_new(&options, &s3, err) < 0)
        return -1;
    if (wrap == NULL)
    {
        *out = s3;
        return 0;
    }
    return maker_wrap(wrap, s3, out, err);
}

static Store *
maker_make(void *ctx)
{
    Store *st = NULL;
    Error err = {.kind = ERROR_NONE};

    if (maker_open(ctx, &st, &err) == 0)
        return st;
    diag("%s", err.msg);
    return NULL;
}

int
main(int argc, char **argv)
{
    Maker m;

    if (argc != 5 && argc != 6)
    {
        (void) fprintf(stderr, "usage: s3_conformance LABEL ENDPOINT BUCKET PREFIX [CA-FILE]\n");
        return 2;
    }
    m = (Maker){
        .endpoint = argv[2],
        .bucket = argv[3],
        .prefix = argv[4],
        .ca_file = argc == 6 ? argv[5] : NULL,
    };
    store_conformance_run(argv[1], maker_make, &m, STORE_CONFORMANCE_QUICK);
    return done_testing();
}
