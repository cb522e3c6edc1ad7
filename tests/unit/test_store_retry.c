/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The retry store over stores that fail: every call of a workload once, in the middle of a get and
 * of a list, for ever, slowly. And the counters. Time passes only where something sleeps.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conformance/store_conformance.h"
#include "fake_clock.h"
#include "store/wrap.h"
#include "tap.h"

#define OBJECT_BYTES 600000

/* Set by the next sleep, if there is one. */
static atomic_bool *sleep_cancels;

/* In place of the C library's. */
int
nanosleep(const struct timespec *ts, struct timespec *left UNUSED)
{
    fake_clock_move_ms((int64_t) ts->tv_sec * 1000 + ts->tv_nsec / 1000000);
    if (sleep_cancels != NULL)
        atomic_store(sleep_cancels, true);
    return 0;
}

static const StoreRetryOptions quick = {.first_delay_ms = 1, .max_delay_ms = 4};

static Deadline
soon(void)
{
    return deadline_after_ms(30000, NULL);
}

/* Ends the test: the stage for it could not be set up. */
static void
must(int rc, const Error *err)
{
    if (rc == 0)
        return;
    diag("%s", err->msg);
    abort();
}

static Store *
memory_new(void)
{
    Store *st;
    Error err;

    must(store_memory_new(&st, &err), &err);
    return st;
}

static Store *
retry_new(Store *inner, const StoreRetryOptions *options)
{
    Store *st;
    Error err;

    must(store_retry_new(inner, options, &st, &err), &err);
    return st;
}

static char object[OBJECT_BYTES];

static void
object_fill(void)
{
    for (size_t i = 0; i < sizeof object; i++)
        object[i] = (char) (i * 31 + i / 251);
}

/* ---- a store that breaks in the middle ---- */

typedef struct Flaky
{
    StoreWrap wrap;
    size_t get_bytes;    /* a get breaks after so many; 0: never */
    size_t list_entries; /* the same for a list */
    unsigned
        remove_at;    /* every so many keys of a remove answer TRANSIENT, the others are removed */
    ErrorKind kind;   /* what stat answers; NONE: as the inner store */
    int64_t sleep_ms; /* what stat takes, within its deadline */
    unsigned calls;
} Flaky;

typedef struct FlakySink
{
    Stage stage;
    Stage *target;
    size_t left;
    bool broken;
} FlakySink;

static int
flaky_sink_write(Stage *base, const void *buf, size_t len, Error *err)
{
    FlakySink *sink = (FlakySink *) base;
    size_t now = MIN(len, sink->left);

    if (stage_write(sink->target, buf, now, err) < 0)
        return -1;
    sink->left -= now;
    if (now == len)
        return 0;
    sink->broken = true;
    return error_set(err, ERROR_TRANSIENT, "connection lost");
}

static int
flaky_sink_finish(Stage *base, Error *err)
{
    (void) base;
    (void) err;
    return 0;
}

static void
flaky_sink_destroy(Stage *base)
{
    (void) base;
}

static const StageOps flaky_sink_ops = {
    .name = "flaky",
    .write = flaky_sink_write,
    .finish = flaky_sink_finish,
    .destroy = flaky_sink_destroy,
};

static int
flaky_put(Store *base, const char *key, const StoreBody *body, const Deadline *dl, Error *err)
{
    return store_put(((Flaky *) base)->wrap.inner, key, body, dl, err);
}

static int
flaky_get(
    Store *base, const char *key, ByteRange range, Stage *target, const Deadline *dl, Error *err)
{
    Flaky *st = (Flaky *) base;
    FlakySink sink = {.target = target, .left = st->get_bytes == 0 ? SIZE_MAX : st->get_bytes};

    st->calls++;
    stage_init(&sink.stage, &flaky_sink_ops, NULL);
    return store_get(st->wrap.inner, key, range, &sink.stage, dl, err);
}

static int
flaky_stat(Store *base, const char *key, const Deadline *dl, StoreStat *out, Error *err)
{
    Flaky *st = (Flaky *) base;

    st->calls++;
    if (st->sleep_ms > 0)
    {
        deadline_sleep_ms(dl, st->sleep_ms);
        if (deadline_check(dl, "waiting for an answer", err) < 0)
            return -1;
    }
    if (st->kind != ERROR_NONE)
        return error_set(err, st->kind, "the answer of call %u", st->calls);
    return store_stat(st->wrap.inner, key, dl, out, err);
}

typedef struct FlakyList
{
    StoreListFn fn;
    void *ctx;
    size_t left;
} FlakyList;

static int
flaky_list_entry(void *ctx, const StoreEntry *entry, Error *err)
{
    FlakyList *list = ctx;

    if (list->left == 0)
        return error_set(err, ERROR_TRANSIENT, "connection lost");
    list->left--;
    return list->fn(list->ctx, entry, err);
}

static int
flaky_list(
    Store *base, const StoreListOptions *options, StoreListFn fn, void *ctx, const Deadline *dl,
    Error *err)
{
    Flaky *st = (Flaky *) base;
    FlakyList list = {.fn = fn, .ctx = ctx};

    st->calls++;
    list.left = st->list_entries == 0 ? SIZE_MAX : st->list_entries;
    return store_list(st->wrap.inner, options, flaky_list_entry, &list, dl, err);
}

static int
flaky_remove(Store *base, StoreRemoved *keys, size_t count, const Deadline *dl, Error *err)
{
    Flaky *st = (Flaky *) base;

    st->calls++;
    for (size_t i = 0; i < count; i++)
        if (st->remove_at > 0 && i % st->remove_at == st->remove_at - 1)
            (void) error_set(&keys[i].err, ERROR_TRANSIENT, "slow down");
        else if (store_remove(st->wrap.inner, &keys[i], 1, dl, err) < 0)
            return -1;
    return 0;
}

static const StoreOps flaky_ops = {
    .put = flaky_put,
    .get = flaky_get,
    .stat = flaky_stat,
    .list = flaky_list,
    .remove = flaky_remove,
    .destroy = store_wrap_destroy,
};

/* Over a memory store that holds object, and a, b, c/1, c/2, c/3, d. */
static Flaky *
flaky_new(void)
{
    static const char *const keys[] = {"a", "b", "c/1", "c/2", "c/3", "d"};
    Store *inner = memory_new();
    StoreWrap *wrap;
    Error err;

    must(store_put_bytes(inner, "object", object, sizeof object, &err), &err);
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++)
        must(store_put_bytes(inner, keys[i], keys[i], strlen(keys[i]), &err), &err);
    must(store_wrap_new(inner, &flaky_ops, sizeof(Flaky), &wrap, &err), &err);
    return (Flaky *) wrap;
}

/* ---- every call of a workload ---- */

typedef struct Names
{
    char text[256];
    int limit; /* answers 1 at so many; 0: never */
    int count;
} Names;

static int
names_add(void *ctx, const StoreEntry *entry, Error *err)
{
    Names *names = ctx;
    size_t len = strlen(names->text);

    (void) err;
    (void) snprintf(names->text + len, sizeof names->text - len, "%s ", entry->key);
    return ++names->count == names->limit ? 1 : 0;
}

/* What a client does; 0 when all came out right. EXISTS is success, as for a caller who compares.
 */
static int
workload_run(Store *st, Error *err)
{
    static const char *const keys[] = {"w/1", "w/2", "w/3"};
    StoreRemoved removed[] = {{.key = "w/2"}, {.key = "w/9"}};
    StoreListOptions options = {.prefix = "w/"};
    Names names = {0}, rest = {0}, first = {.limit = 1};
    Deadline dl = soon();
    StoreStat stat = {0};

    for (size_t i = 0; i < ARRAY_COUNT(keys); i++)
        if (store_put_bytes(st, keys[i], object, sizeof object, err) < 0 &&
            err->kind != ERROR_EXISTS)
            return -1;
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++)
        if (!store_holds(st, keys[i], object, sizeof object))
            return error_set(err, ERROR_CORRUPT, "other bytes");
    if (store_stat(st, "w/1", &dl, &stat, err) < 0 || stat.bytes != sizeof object)
        return error_wrap(err, "stat");
    if (store_stat(st, "nothing", &dl, &stat, err) == 0 || err->kind != ERROR_NOT_FOUND)
        return error_wrap(err, "stat of nothing");
    if (store_list(st, &options, names_add, &names, &dl, err) < 0 ||
        strcmp(names.text, "w/1 w/2 w/3 ") != 0)
        return error_wrap(err, "list");
    if (store_list(st, &options, names_add, &first, &dl, err) < 0 ||
        strcmp(first.text, "w/1 ") != 0)
        return error_wrap(err, "list that is stopped");
    if (store_remove(st, removed, 2, &dl, err) < 0 || removed[0].err.kind != ERROR_NONE)
        return error_wrap(err, "remove");
    if (store_list(st, &options, names_add, &rest, &dl, err) < 0 ||
        strcmp(rest.text, "w/1 w/3 ") != 0)
        return error_wrap(err, "list of the rest");
    return 0;
}

/* Fails call n once, for every n until there is none; *runs with a fault. */
static bool
workload_all_faults(ErrorKind kind, bool after, bool with_retry, unsigned *runs, unsigned *failed)
{
    *runs = *failed = 0;
    for (uint64_t n = 1;; n++)
    {
        StoreFaultPlan plan = {.fail_at = n, .kind = kind, .after = after};
        Store *fault;
        Error err = {0};

        must(store_fault_new(memory_new(), &plan, &fault, &err), &err);

        AUTO(store_freep) Store *st = with_retry ? retry_new(fault, &quick) : fault;
        int rc = workload_run(st, &err);

        if (store_fault_calls(fault) < n)
            return true;
        (*runs)++;
        if (rc < 0)
            (*failed)++;
        if (rc < 0 && with_retry && err.kind != kind)
            diag("call %llu: %s", (unsigned long long) n, err.msg);
        if (n > 1000)
            return false;
    }
}

static void
test_every_call(void)
{
    static const struct
    {
        const char *label;
        ErrorKind kind;
        bool after, retry, fails;
    } cases[] = {
        {"transient, before the store sees it", ERROR_TRANSIENT, false, true, false},
        {"transient, after the store has done it", ERROR_TRANSIENT, true, true, false},
        {"a try's own time-out", ERROR_TIMEOUT, false, true, false},
        {"a try's own time-out, after the store has done it", ERROR_TIMEOUT, true, true, false},
        {"denied is final", ERROR_DENIED, false, true, true},
        {"corrupt is final", ERROR_CORRUPT, false, true, true},
        {"without the retry store each fault is noticed", ERROR_TRANSIENT, false, false, true},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        unsigned runs, failed;
        bool ended =
            workload_all_faults(cases[i].kind, cases[i].after, cases[i].retry, &runs, &failed);

        /* three puts, three gets, two stats, three lists, one remove; more where a retry is a call
         */
        ok(ended && runs >= 12 && failed == (cases[i].fails ? runs : 0),
           "each call of a workload fails once: %s (%u of %u runs failed)", cases[i].label, failed,
           runs);
    }
}

static void
test_put_outcome_unknown(void)
{
    StoreFaultPlan plan = {.fail_at = 1, .kind = ERROR_TRANSIENT, .after = true};
    Store *fault;
    Error err = {0};

    must(store_fault_new(memory_new(), &plan, &fault, &err), &err);

    AUTO(store_freep) Store *st = retry_new(fault, &quick);

    ok(store_put_bytes(st, "key", "x", 1, &err) < 0 && err.kind == ERROR_EXISTS,
       "a put whose first answer was lost says EXISTS");
    ok(store_fault_calls(fault) == 2, "after a second try");
}

/* ---- in the middle ---- */

static void
test_get_resumes(void)
{
    static const struct
    {
        const char *label;
        ByteRange range;
        size_t break_at;
        size_t want_at, want_len;
        unsigned most_calls;
    } cases[] = {
        {"whole object", {0, 0}, 100000, 0, OBJECT_BYTES, 7},
        {"breaks at portions", {0, 0}, 262144, 0, OBJECT_BYTES, 4},
        {"a range", {1000, 500000}, 123457, 1000, 500000, 6},
        {"breaks behind the last byte of the range", {10, 200000}, 100000, 10, 200000, 3},
        {"to the end from the middle", {OBJECT_BYTES - 10, 0}, 3, OBJECT_BYTES - 10, 10, 5},
        {"beyond the end", {OBJECT_BYTES, 10}, 1, 0, 0, 1},
        {"one byte at a time", {5, 40}, 1, 5, 40, 41},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Flaky *flaky = flaky_new();
        AUTO(store_freep) Store *st = retry_new(&flaky->wrap.base, &quick);
        AUTO(collect_reset) CollectSink sink;
        Deadline dl = soon();
        Error err = {0};

        flaky->get_bytes = cases[i].break_at;
        collect_init(&sink);

        int rc = store_get(st, "object", cases[i].range, &sink.stage, &dl, &err);

        if (!ok(rc == 0 && sink.len == cases[i].want_len &&
                    (sink.len == 0 ||
                     memcmp(sink.data, object + cases[i].want_at, sink.len) == 0) &&
                    flaky->calls <= cases[i].most_calls,
                "get goes on where it broke: %s", cases[i].label))
            diag("%zu bytes in %u calls: %s", sink.len, flaky->calls, rc < 0 ? err.msg : "");
    }
}

static void
test_list_resumes(void)
{
    static const struct
    {
        const char *label;
        StoreListOptions options;
        int limit;
        const char *want;
    } cases[] = {
        {"all", {.prefix = ""}, 0, "a b c/1 c/2 c/3 d object "},
        {"a folder", {.prefix = "c/"}, 0, "c/1 c/2 c/3 "},
        {"by folder", {.prefix = "", .by_folder = true}, 0, "a b c/ d object "},
        {"from a key on", {.prefix = "", .start_after = "c/1"}, 0, "c/2 c/3 d object "},
        {"stopped", {.prefix = ""}, 4, "a b c/1 c/2 "},
        {"nothing", {.prefix = "q"}, 0, ""},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        for (size_t entries = 1; entries <= 3; entries++)
        {
            Flaky *flaky = flaky_new();
            AUTO(store_freep) Store *st = retry_new(&flaky->wrap.base, &quick);
            Names names = {.limit = cases[i].limit};
            Deadline dl = soon();
            Error err = {0};

            flaky->list_entries = entries;

            int rc = store_list(st, &cases[i].options, names_add, &names, &dl, &err);

            if (!ok(rc == 0 && strcmp(names.text, cases[i].want) == 0,
                    "list goes on where it broke after %zu: %s", entries, cases[i].label))
                diag("%s: %s", names.text, rc < 0 ? err.msg : "success");
        }
}

static void
test_remove_resumes(void)
{
    Flaky *flaky = flaky_new();
    AUTO(store_freep) Store *st = retry_new(&flaky->wrap.base, &quick);
    StoreRemoved keys[] = {
        {.key = "a"}, {.key = "b"}, {.key = "c/1"}, {.key = "c/2"}, {.key = "d"}};
    StoreListOptions options = {.prefix = ""};
    Names names = {0};
    Deadline dl = soon();
    Error err = {0};
    bool gone = true;

    flaky->remove_at = 2;
    ok(store_remove(st, keys, ARRAY_COUNT(keys), &dl, &err) == 0, "keys that answer later");
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++)
        gone = gone && keys[i].err.kind == ERROR_NONE;
    ok(gone, "each key has its last answer");
    ok(store_list(st, &options, names_add, &names, &dl, &err) == 0 &&
           strcmp(names.text, "c/3 object ") == 0,
       "they are gone");

    /* a key that never answers */
    StoreRemoved never[] = {{.key = "c/3"}, {.key = "object"}};
    Deadline short_dl = deadline_after_ms(60, NULL);

    flaky->remove_at = 1;
    ok(store_remove(st, never, 2, &short_dl, &err) == 0 && never[0].err.kind == ERROR_TRANSIENT &&
           never[1].err.kind == ERROR_TRANSIENT,
       "at the deadline each key keeps its own answer");
}

/* ---- the end ---- */

static void
test_gives_up(void)
{
    static const struct
    {
        const char *label;
        int64_t timeout_ms, try_timeout_ms, sleep_ms;
        ErrorKind kind, want;
        bool gave_up;
        unsigned least_calls, most_calls;
    } cases[] = {
        {"a store that always fails", 150, 0, 0, ERROR_TRANSIENT, ERROR_TRANSIENT, true, 30, 10000},
        {"a store that never answers", 150, 20, 10000, ERROR_NONE, ERROR_TIMEOUT, true, 7, 8},
        {"one that never answers, no bound of a try", 60, 0, 10000, ERROR_NONE, ERROR_TIMEOUT, true,
         1, 1},
        {"fails, then no answer", 150, 0, 30, ERROR_TRANSIENT, ERROR_TRANSIENT, true, 5, 5},
        {"a final answer", 150, 0, 0, ERROR_DENIED, ERROR_DENIED, false, 1, 1},
        {"what is not there", 150, 0, 0, ERROR_NOT_FOUND, ERROR_NOT_FOUND, false, 1, 1},
        {"out of memory", 150, 0, 0, ERROR_NOMEM, ERROR_NOMEM, false, 1, 1},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        StoreRetryOptions options = {
            .first_delay_ms = 1, .max_delay_ms = 4, .try_timeout_ms = cases[i].try_timeout_ms};
        Flaky *flaky = flaky_new();
        AUTO(store_freep) Store *st = retry_new(&flaky->wrap.base, &options);
        Deadline dl = deadline_after_ms(cases[i].timeout_ms, NULL);
        int64_t begin = clock_monotonic_ms();
        StoreStat stat;
        Error err = {0};

        flaky->kind = cases[i].kind;
        flaky->sleep_ms = cases[i].sleep_ms;

        int rc = store_stat(st, "object", &dl, &stat, &err);
        int64_t took = clock_monotonic_ms() - begin;

        if (!ok(rc < 0 && err.kind == cases[i].want &&
                    (strncmp(err.msg, "gave up after ", 14) == 0) == cases[i].gave_up,
                "%s: %s", cases[i].label, error_kind_name(cases[i].want)) ||
            !ok(flaky->calls >= cases[i].least_calls && flaky->calls <= cases[i].most_calls &&
                    took <= cases[i].timeout_ms,
                "%s: tries and time", cases[i].label))
            diag(
                "%s; %u calls in %lld ms", rc < 0 ? err.msg : "success", flaky->calls,
                (long long) took);
    }
}

static void
test_message(void)
{
    Flaky *flaky = flaky_new();
    AUTO(store_freep) Store *st = retry_new(&flaky->wrap.base, &quick);
    Deadline dl = deadline_after_ms(30, NULL);
    char want[64];
    StoreStat stat;
    Error err = {0};

    flaky->kind = ERROR_TRANSIENT;
    ok(store_stat(st, "object", &dl, &stat, &err) < 0, "fails");
    (void) snprintf(want, sizeof want, "the answer of call %u", flaky->calls);
    if (!ok(strstr(err.msg, want) != NULL && strstr(err.msg, " tries in 0.0 s: ") != NULL,
            "the message has number, time and last cause"))
        diag("%s", err.msg);
}

static void
test_cancel(void)
{
    static const StoreRetryOptions slow = {.first_delay_ms = 20000, .max_delay_ms = 20000};
    static const struct
    {
        const char *label;
        int64_t sleep_ms;
        const StoreRetryOptions *options;
    } cases[] = {
        {"during a try", 30000, &quick},
        {"during a delay", 0, &slow},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Flaky *flaky = flaky_new();
        AUTO(store_freep) Store *st = retry_new(&flaky->wrap.base, cases[i].options);
        atomic_bool cancel = false;
        Deadline dl = deadline_after_ms(60000, &cancel);
        int64_t begin = clock_monotonic_ms();
        StoreStat stat;
        Error err = {0};

        flaky->kind = ERROR_TRANSIENT;
        flaky->sleep_ms = cases[i].sleep_ms;
        sleep_cancels = &cancel;

        int rc = store_stat(st, "object", &dl, &stat, &err);
        int64_t took = clock_monotonic_ms() - begin;

        sleep_cancels = NULL;
        /* the flag is looked at every 100 ms */
        if (!ok(rc < 0 && err.kind == ERROR_CANCELED && took <= 100, "canceled %s", cases[i].label))
            diag("%s after %lld ms", rc < 0 ? err.msg : "success", (long long) took);
    }
}

static int
names_refuse(void *ctx, const StoreEntry *entry, Error *err)
{
    (void) entry;
    (*(int *) ctx)++;
    return error_set(err, ERROR_TRANSIENT, "the callback's own");
}

static int
sink_refuse(Stage *st, const void *buf, size_t len, Error *err)
{
    (void) st;
    (void) buf;
    (void) len;
    return error_set(err, ERROR_TRANSIENT, "the sink's own");
}

static void
test_own_errors(void)
{
    static const StageOps refuse_ops = {
        .name = "refuse",
        .write = sink_refuse,
        .finish = flaky_sink_finish,
        .destroy = flaky_sink_destroy,
    };
    Flaky *flaky = flaky_new();
    AUTO(store_freep) Store *st = retry_new(&flaky->wrap.base, &quick);
    StoreListOptions options = {.prefix = ""};
    Deadline dl = soon();
    Stage sink;
    Error err = {0};
    int calls = 0;

    stage_init(&sink, &refuse_ops, NULL);
    ok(store_get(st, "object", (ByteRange){0}, &sink, &dl, &err) < 0 &&
           strcmp(err.msg, "the sink's own") == 0 && flaky->calls == 1,
       "what the sink says is not repeated");
    ok(store_list(st, &options, names_refuse, &calls, &dl, &err) < 0 &&
           strcmp(err.msg, "the callback's own") == 0 && calls == 1 && flaky->calls == 2,
       "what the callback says is not repeated");
}

/* ---- counters ---- */

static void
test_counters(void)
{
    Flaky *flaky = flaky_new();
    StoreListOptions options = {.prefix = ""};
    StoreRemoved keys[] = {{.key = "a"}, {.key = "b"}, {.key = "d"}};
    Names names = {0};
    Deadline dl = soon();
    StoreStat stat;
    Store *st;
    Error err = {0};

    must(store_count_new(&flaky->wrap.base, &st, &err), &err);
    must(store_put_bytes(st, "new", "12345", 5, &err), &err);
    (void) store_holds(st, "new", "12345", 5);
    ok(store_put_bytes(st, "new", "123", 3, &err) < 0, "put of what exists");
    ok(store_stat(st, "none", &dl, &stat, &err) < 0, "stat of what is not there");
    flaky->get_bytes = 100;
    ok(!store_holds(st, "object", object, sizeof object), "a get that breaks");
    flaky->kind = ERROR_TRANSIENT;
    ok(store_stat(st, "object", &dl, &stat, &err) < 0, "a stat that fails");
    must(store_list(st, &options, names_add, &names, &dl, &err), &err);
    flaky->remove_at = 2;
    must(store_remove(st, keys, ARRAY_COUNT(keys), &dl, &err), &err);

    StoreCounters c = store_count_read(st);

    ok(c.puts == 2 && c.gets == 2 && c.stats == 2 && c.lists == 1 && c.removes == 1, "calls");
    ok(c.put_bytes == 5 && c.get_bytes == 105, "bytes");
    ok(c.failures == 3, "failures: a get, a stat, a key that was not removed");
    store_free(st);
}

int
main(void)
{
    fake_clock_stop();
    object_fill();
    test_every_call();
    test_put_outcome_unknown();
    test_get_resumes();
    test_list_resumes();
    test_remove_resumes();
    test_gives_up();
    test_message();
    test_cancel();
    test_own_errors();
    test_counters();
    return done_testing();
}
