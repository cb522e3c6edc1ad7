/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Counts what passes to the wrapped store.
 */
#include "store/wrap.h"

typedef struct StoreCount
{
    StoreWrap wrap;
    atomic_uint_least64_t puts, gets, stats, lists, removes, put_bytes, get_bytes, failures;
} StoreCount;

static void
count_add(atomic_uint_least64_t *counter, uint64_t n)
{
    (void) atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static bool
count_is_answer(const Error *err)
{
    return err->kind == ERROR_NOT_FOUND || err->kind == ERROR_EXISTS;
}

/* Passes rc through. */
static int
count_result(StoreCount *st, int rc, const Error *err)
{
    if (rc < 0 && !count_is_answer(err))
        count_add(&st->failures, 1);
    return rc;
}

static int
count_put(Store *base, const char *key, const StoreBody *body, const Deadline *dl, Error *err)
{
    StoreCount *st = (StoreCount *) base;
    int rc = store_put(st->wrap.inner, key, body, dl, err);

    count_add(&st->puts, 1);
    if (rc == 0)
        count_add(&st->put_bytes, body->bytes);
    return count_result(st, rc, err);
}

static int
count_get(
    Store *base, const char *key, ByteRange range, Stage *sink, const Deadline *dl, Error *err)
{
    StoreCount *st = (StoreCount *) base;
    uint64_t before = sink->bytes_in;
    int rc = store_get(st->wrap.inner, key, range, sink, dl, err);

    count_add(&st->gets, 1);
    count_add(&st->get_bytes, sink->bytes_in - before);
    return count_result(st, rc, err);
}

static int
count_stat(Store *base, const char *key, const Deadline *dl, StoreStat *out, Error *err)
{
    StoreCount *st = (StoreCount *) base;

    count_add(&st->stats, 1);
    return count_result(st, store_stat(st->wrap.inner, key, dl, out, err), err);
}

static int
count_list(
    Store *base, const StoreListOptions *options, StoreListFn fn, void *ctx, const Deadline *dl,
    Error *err)
{
    StoreCount *st = (StoreCount *) base;

    count_add(&st->lists, 1);
    return count_result(st, store_list(st->wrap.inner, options, fn, ctx, dl, err), err);
}

static int
count_remove(Store *base, StoreRemoved *keys, size_t count, const Deadline *dl, Error *err)
{
    StoreCount *st = (StoreCount *) base;
    int rc = store_remove(st->wrap.inner, keys, count, dl, err);

    count_add(&st->removes, 1);
    for (size_t i = 0; rc == 0 && i < count; i++)
        if (keys[i].err.kind != ERROR_NONE)
            count_add(&st->failures, 1);
    return count_result(st, rc, err);
}

static const StoreOps count_ops = {
    .put = count_put,
    .get = count_get,
    .stat = count_stat,
    .list = count_list,
    .remove = count_remove,
    .destroy = store_wrap_destroy,
};

int
store_count_new(Store *inner, Store **out, Error *err)
{
    StoreWrap *wrap;

    if (store_wrap_new(inner, &count_ops, sizeof(StoreCount), &wrap, err) < 0)
        return -1;
    *out = &wrap->base;
    return 0;
}

StoreCounters
store_count_read(const Store *base)
{
    const StoreCount *st = (const StoreCount *) base;

    assert(base->ops == &count_ops);
    return (StoreCounters){
        .puts = atomic_load_explicit(&st->puts, memory_order_relaxed),
        .gets = atomic_load_explicit(&st->gets, memory_order_relaxed),
        .stats = atomic_load_explicit(&st->stats, memory_order_relaxed),
        .lists = atomic_load_explicit(&st->lists, memory_order_relaxed),
        .removes = atomic_load_explicit(&st->removes, memory_order_relaxed),
        .put_bytes = atomic_load_explicit(&st->put_bytes, memory_order_relaxed),
        .get_bytes = atomic_load_explicit(&st->get_bytes, memory_order_relaxed),
        .failures = atomic_load_explicit(&st->failures, memory_order_relaxed),
    };
}
