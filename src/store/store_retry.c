/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Repeats what may work next time: a growing delay with full jitter (so that many clients of a
 * store that comes back do not come in step), until the caller's deadline.
 */
#include <stdlib.h>
#include <string.h>

#include "store/wrap.h"

typedef struct StoreRetry
{
    StoreWrap wrap;
    StoreRetryOptions options;
    atomic_uint_least64_t random;
} StoreRetry;

/* One call with its tries. */
typedef struct RetryRun
{
    StoreRetry *st;
    const Deadline *dl;
    int64_t begin_ms;
    int64_t delay_ms; /* the next delay is at most this */
    unsigned tries;   /* that failed */
    Error cause;      /* of the last one that failed for a reason of its own */
} RetryRun;

static void
retry_begin(RetryRun *run, Store *base, const Deadline *dl)
{
    run->st = (StoreRetry *) base;
    run->dl = dl;
    run->begin_ms = clock_monotonic_ms();
    run->delay_ms = run->st->options.first_delay_ms;
    run->tries = 0;
    run->cause.kind = ERROR_NONE;
}

static Deadline
retry_try_deadline(const RetryRun *run)
{
    int64_t ms = run->st->options.try_timeout_ms;

    return ms > 0 ? deadline_sooner(run->dl, ms) : *run->dl;
}

/* 0..most, evenly; splitmix64 over a counter, which needs no lock. */
static int64_t
retry_random(StoreRetry *st, int64_t most)
{
    uint64_t x = atomic_fetch_add(&st->random, 0x9E3779B97F4A7C15u);

    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    return (int64_t) (x % ((uint64_t) most + 1));
}

static bool
retry_canceled(const RetryRun *run)
{
    return run->dl->cancel != NULL && atomic_load(run->dl->cancel);
}

/* Always -1. */
static int
retry_give_up(const RetryRun *run, Error *err)
{
    *err = run->cause;
    return error_wrap(
        err, "gave up after %u %s in %.1f s", run->tries, run->tries == 1 ? "try" : "tries",
        (double) (clock_monotonic_ms() - run->begin_ms) / 1000);
}

/*
 * After a try that failed with err. true: the delay has passed, try again. false: err is the answer
 * to the caller.
 */
static bool
retry_again(RetryRun *run, Error *err)
{
    int64_t left = deadline_left_ms(run->dl);

    if (err->kind != ERROR_TRANSIENT && err->kind != ERROR_TIMEOUT)
        return false;
    run->tries++;
    /* a try cut short by the caller's deadline hides nothing that an earlier one has told */
    if (err->kind == ERROR_TRANSIENT || left > 0 || run->cause.kind == ERROR_NONE)
        run->cause = *err;
    if (retry_canceled(run))
    {
        (void) error_set(err, ERROR_CANCELED, "canceled after %u tries", run->tries);
        return false;
    }
    if (left <= run->st->options.first_delay_ms)
    {
        (void) retry_give_up(run, err);
        return false;
    }

    /* at most half of what is left, so that the last tries come before the deadline */
    deadline_sleep_ms(run->dl, retry_random(run->st, MIN(run->delay_ms, left / 2)));
    run->delay_ms = MIN(run->delay_ms * 2, run->st->options.max_delay_ms);
    if (retry_canceled(run))
    {
        (void) error_set(err, ERROR_CANCELED, "canceled after %u tries", run->tries);
        return false;
    }
    if (deadline_left_ms(run->dl) == 0)
    {
        (void) retry_give_up(run, err);
        return false;
    }
    return true;
}

static int
retry_put(Store *base, const char *key, const StoreBody *body, const Deadline *dl, Error *err)
{
    RetryRun run;

    retry_begin(&run, base, dl);
    for (;;)
    {
        Deadline once = retry_try_deadline(&run);

        if (store_put(run.st->wrap.inner, key, body, &once, err) == 0)
            return 0;
        if (!retry_again(&run, err))
            return -1;
    }
}

static int
retry_stat(Store *base, const char *key, const Deadline *dl, StoreStat *out, Error *err)
{
    RetryRun run;

    retry_begin(&run, base, dl);
    for (;;)
    {
        Deadline once = retry_try_deadline(&run);

        if (store_stat(run.st->wrap.inner, key, &once, out, err) == 0)
            return 0;
        if (!retry_again(&run, err))
            return -1;
    }
}

/* ---- get: goes on behind the bytes that reached the caller's sink ---- */

typedef struct RetrySink
{
    Stage stage;
    Stage *target; /* borrowed: the caller's sink */
    uint64_t sent; /* over all tries */
    bool failed;   /* target did: its error is the caller's own */
} RetrySink;

static int
retry_sink_write(Stage *base, const void *buf, size_t len, Error *err)
{
    RetrySink *sink = (RetrySink *) base;

    if (stage_write(sink->target, buf, len, err) < 0)
    {
        sink->failed = true;
        return -1;
    }
    sink->sent += len;
    return 0;
}

static int
retry_sink_finish(Stage *base, Error *err)
{
    (void) base;
    (void) err;
    return 0;
}

static void
retry_sink_destroy(Stage *base)
{
    (void) base; /* on the stack of retry_get */
}

static const StageOps retry_sink_ops = {
    .name = "retry",
    .write = retry_sink_write,
    .finish = retry_sink_finish,
    .destroy = retry_sink_destroy,
};

static int
retry_get(
    Store *base, const char *key, ByteRange range, Stage *target, const Deadline *dl, Error *err)
{
    RetrySink sink = {.target = target};
    RetryRun run;

    retry_begin(&run, base, dl);
    for (;;)
    {
        Deadline once = retry_try_deadline(&run);
        ByteRange rest = {.offset = range.offset + sink.sent};

        if (range.len > 0)
        {
            /* all of it came before the try failed; length 0 would mean to the end */
            if (sink.sent >= range.len)
                return 0;
            rest.len = range.len - sink.sent;
        }
        stage_init(&sink.stage, &retry_sink_ops, NULL);
        if (store_get(run.st->wrap.inner, key, rest, &sink.stage, &once, err) == 0)
            return 0;
        if (sink.failed || !retry_again(&run, err))
            return -1;
    }
}

/* ---- list: goes on behind the entry that the caller was told last ---- */

typedef struct RetryList
{
    StoreListFn fn;
    void *ctx;
    int stop;                            /* what the callback said, when it ended the listing */
    char last[STORE_KEY_MAX + 1];        /* told; "" if nothing yet */
    char start_after[STORE_KEY_MAX + 1]; /* of the try under way: a copy, as last moves meanwhile */
} RetryList;

static int
retry_list_entry(void *ctx, const StoreEntry *entry, Error *err)
{
    RetryList *list = ctx;
    size_t len = strlen(entry->key);

    if (len > STORE_KEY_MAX)
    {
        list->stop = -1;
        return error_set(
            err, ERROR_CORRUPT, "the store listed a key of %zu bytes: \"%.100s...\"", len,
            entry->key);
    }

    memcpy(list->last, entry->key, len + 1);
    list->stop = list->fn(list->ctx, entry, err);
    return list->stop;
}

static int
retry_list(
    Store *base, const StoreListOptions *options, StoreListFn fn, void *ctx, const Deadline *dl,
    Error *err)
{
    RetryList list = {.fn = fn, .ctx = ctx};
    StoreListOptions rest = *options;
    RetryRun run;

    retry_begin(&run, base, dl);
    for (;;)
    {
        Deadline once = retry_try_deadline(&run);

        if (store_list(run.st->wrap.inner, &rest, retry_list_entry, &list, &once, err) == 0)
            return 0;
        if (list.stop != 0)
            return list.stop < 0 ? -1 : 0; /* enough: a failure behind that takes nothing away */
        if (!retry_again(&run, err))
            return -1;
        if (list.last[0] != '\0')
        {
            memcpy(list.start_after, list.last, sizeof list.last);
            rest.start_after = list.start_after;
        }
    }
}

/* ---- remove: goes on with the keys that may work next time ---- */

/* Packs the keys to be asked for again to the front of rest; *index keeps their place in keys. */
static size_t
retry_remove_rest(StoreRemoved *rest, size_t *index, size_t count, StoreRemoved *keys)
{
    size_t left = 0;

    for (size_t i = 0; i < count; i++)
    {
        keys[index[i]].err = rest[i].err;
        if (rest[i].err.kind != ERROR_TRANSIENT)
            continue;
        index[left] = index[i];
        rest[left].key = rest[i].key;
        rest[left].err = rest[i].err;
        left++;
    }
    return left;
}

static int
retry_remove_run(
    RetryRun *run, StoreRemoved *rest, size_t *index, StoreRemoved *keys, size_t count, Error *err)
{
    for (size_t i = 0; i < count; i++)
    {
        rest[i].key = keys[i].key;
        index[i] = i;
    }
    for (;;)
    {
        Deadline once = retry_try_deadline(run);
        int rc = store_remove(run->st->wrap.inner, rest, count, &once, err);

        if (rc == 0)
        {
            count = retry_remove_rest(rest, index, count, keys);
            if (count == 0)
                return 0;
            *err = rest[0].err;
        }
        if (retry_again(run, err))
            continue;
        /* each key has its answer, even if it is "not now" */
        return rc == 0 && err->kind != ERROR_CANCELED ? 0 : -1;
    }
}

static int
retry_remove(Store *base, StoreRemoved *keys, size_t count, const Deadline *dl, Error *err)
{
    StoreRemoved *rest = calloc(count, sizeof *rest);
    size_t *index = calloc(count, sizeof *index);
    RetryRun run;
    int rc;

    retry_begin(&run, base, dl);
    if (rest == NULL || index == NULL)
        rc = error_nomem(err);
    else
        rc = retry_remove_run(&run, rest, index, keys, count, err);
    free(rest);
    free(index);
    return rc;
}

static const StoreOps retry_ops = {
    .put = retry_put,
    .get = retry_get,
    .stat = retry_stat,
    .list = retry_list,
    .remove = retry_remove,
    .destroy = store_wrap_destroy,
};

int
store_retry_new(Store *inner, const StoreRetryOptions *options, Store **out, Error *err)
{
    StoreWrap *wrap;

    assert(options->first_delay_ms >= 1 && options->max_delay_ms >= options->first_delay_ms);
    assert(options->max_delay_ms <= INT64_MAX / 2 && options->try_timeout_ms >= 0);
    if (store_wrap_new(inner, &retry_ops, sizeof(StoreRetry), &wrap, err) < 0)
        return -1;

    StoreRetry *st = (StoreRetry *) wrap;

    st->options = *options;
    atomic_init(&st->random, (uint64_t) clock_wall_us() ^ (uint64_t) (uintptr_t) st);
    if (wrap->base.caps.max_remove_keys == 0)
        wrap->base.caps.max_remove_keys = 1000; /* bounds the memory of one remove */
    *out = &wrap->base;
    return 0;
}
