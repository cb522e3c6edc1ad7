/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Fails chosen calls to the wrapped store; for tests.
 */
#include "store/wrap.h"

typedef struct StoreFault
{
    StoreWrap wrap;
    StoreFaultPlan plan;
    atomic_uint_least64_t calls;
} StoreFault;

/* Counts this call; whether it is one that fails. */
static bool
fault_due(StoreFault *st)
{
    uint64_t n = atomic_fetch_add(&st->calls, 1) + 1;

    if (st->plan.fail_at == 0)
        return false;
    return n == st->plan.fail_at || (st->plan.keep_failing && n > st->plan.fail_at);
}

static int
fault_fail(const StoreFault *st, const char *call, Error *err)
{
    return error_set(
        err, st->plan.kind, "fault injected %s %s", st->plan.after ? "after" : "before", call);
}

/* Whether the call ends before the inner store sees it. */
static bool
fault_before(const StoreFault *st, bool due)
{
    return due && !st->plan.after;
}

/* What becomes of the inner store's answer: a success is hidden, a failure stays. */
static int
fault_after(const StoreFault *st, bool due, int rc, const char *call, Error *err)
{
    if (due && rc == 0)
        return fault_fail(st, call, err);
    return rc;
}

static int
fault_put(Store *base, const char *key, const StoreBody *body, const Deadline *dl, Error *err)
{
    StoreFault *st = (StoreFault *) base;
    bool due = fault_due(st);

    if (fault_before(st, due))
        return fault_fail(st, "put", err);
    return fault_after(st, due, store_put(st->wrap.inner, key, body, dl, err), "put", err);
}

static int
fault_get(
    Store *base, const char *key, ByteRange range, Stage *sink, const Deadline *dl, Error *err)
{
    StoreFault *st = (StoreFault *) base;
    bool due = fault_due(st);

    if (fault_before(st, due))
        return fault_fail(st, "get", err);
    return fault_after(st, due, store_get(st->wrap.inner, key, range, sink, dl, err), "get", err);
}

static int
fault_stat(Store *base, const char *key, const Deadline *dl, StoreStat *out, Error *err)
{
    StoreFault *st = (StoreFault *) base;
    bool due = fault_due(st);

    if (fault_before(st, due))
        return fault_fail(st, "stat", err);
    return fault_after(st, due, store_stat(st->wrap.inner, key, dl, out, err), "stat", err);
}

static int
fault_list(
    Store *base, const StoreListOptions *options, StoreListFn fn, void *ctx, const Deadline *dl,
    Error *err)
{
    StoreFault *st = (StoreFault *) base;
    bool due = fault_due(st);

    if (fault_before(st, due))
        return fault_fail(st, "list", err);
    return fault_after(st, due, store_list(st->wrap.inner, options, fn, ctx, dl, err), "list", err);
}

static int
fault_remove(Store *base, StoreRemoved *keys, size_t count, const Deadline *dl, Error *err)
{
    StoreFault *st = (StoreFault *) base;
    bool due = fault_due(st);

    if (fault_before(st, due))
        return fault_fail(st, "remove", err);
    return fault_after(st, due, store_remove(st->wrap.inner, keys, count, dl, err), "remove", err);
}

static const StoreOps fault_ops = {
    .put = fault_put,
    .get = fault_get,
    .stat = fault_stat,
    .list = fault_list,
    .remove = fault_remove,
    .destroy = store_wrap_destroy,
};

int
store_fault_new(Store *inner, const StoreFaultPlan *plan, Store **out, Error *err)
{
    StoreWrap *wrap;

    if (store_wrap_new(inner, &fault_ops, sizeof(StoreFault), &wrap, err) < 0)
        return -1;
    ((StoreFault *) wrap)->plan = *plan;
    *out = &wrap->base;
    return 0;
}

uint64_t
store_fault_calls(const Store *base)
{
    const StoreFault *st = (const StoreFault *) base;

    assert(base->ops == &fault_ops);
    return atomic_load(&st->calls);
}
