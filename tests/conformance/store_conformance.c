/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The suite; see store_conformance.h. Each case has a store of its own.
 */
#include "conformance/store_conformance.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define RACERS 8
#define BIG_BYTES ((size_t) 17 * 1024 * 1024)
#define REMOVE_MANY 1003 /* more than S3 takes at once */

typedef struct Suite
{
    const char *label; /* of the store */
    const char *name;  /* of the case */
    Store *st;
    unsigned flags;
} Suite;

/* ---- helpers ---- */

static Deadline
soon(void)
{
    return deadline_after_ms(600000, NULL);
}

static int
collect_write(Stage *base, const void *buf, size_t len, Error *err)
{
    CollectSink *sink = (CollectSink *) base;

    if (sink->len + len > sink->fail_at)
        return error_set(err, ERROR_NOMEM, "the sink fails as told");
    if (sink->cap - sink->len < len)
    {
        size_t cap = MAX(sink->cap * 2, sink->len + len);
        char *grown = realloc(sink->data, cap);

        if (grown == NULL)
            return error_nomem(err);
        sink->data = grown;
        sink->cap = cap;
    }
    memcpy(sink->data + sink->len, buf, len);
    sink->len += len;
    return 0;
}

static int
collect_finish(Stage *base, Error *err)
{
    (void) base;
    (void) err;
    return 0;
}

static void
collect_destroy(Stage *base)
{
    (void) base;
}

static const StageOps collect_ops = {
    .name = "collect",
    .write = collect_write,
    .finish = collect_finish,
    .destroy = collect_destroy,
};

void
collect_init(CollectSink *sink)
{
    *sink = (CollectSink){.fail_at = SIZE_MAX};
    stage_init(&sink->stage, &collect_ops, NULL);
}

void
collect_reset(CollectSink *sink)
{
    free(sink->data);
    sink->data = NULL;
    sink->len = sink->cap = 0;
}

int
store_put_bytes(Store *st, const char *key, const void *data, size_t len, Error *err)
{
    char *copy = malloc(MAX(len, 1)); /* iov_base is not const; and this finds reads beyond len */
    Deadline dl = soon();

    if (copy == NULL)
        return error_nomem(err);
    if (len > 0)
        memcpy(copy, data, len);

    struct iovec part = {.iov_base = copy, .iov_len = len};
    StoreBody body = {.iov = &part, .iov_count = 1, .bytes = len};
    int rc = store_put(st, key, &body, &dl, err);

    free(copy);
    return rc;
}

bool
store_holds(Store *st, const char *key, const void *data, size_t len)
{
    AUTO(collect_reset) CollectSink sink;
    Deadline dl = soon();
    Error err;

    collect_init(&sink);
    if (store_get(st, key, (ByteRange){0}, &sink.stage, &dl, &err) < 0)
    {
        diag("get %s: %s", key, err.msg);
        return false;
    }
    if (sink.len != len || (len > 0 && memcmp(sink.data, data, len) != 0))
    {
        diag("%s: %zu bytes, other than the %zu expected", key, sink.len, len);
        return false;
    }
    return true;
}

__attribute__((format(printf, 3, 4))) static bool
check(const Suite *s, bool good, const char *fmt, ...)
{
    char what[256];
    va_list ap;

    va_start(ap, fmt);
    (void) vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    return ok(good, "%s: %s: %s", s->label, s->name, what);
}

/* Checks that a call failed with kind. */
static void
check_kind(const Suite *s, int rc, const Error *err, ErrorKind kind, const char *what)
{
    if (!check(s, rc < 0 && err->kind == kind, "%s: %s", what, error_kind_name(kind)))
        diag("got %s: %s", rc < 0 ? error_kind_name(err->kind) : "success", rc < 0 ? err->msg : "");
}

static bool
put_text(const Suite *s, const char *key, const char *text)
{
    Error err;

    if (store_put_bytes(s->st, key, text, strlen(text), &err) == 0)
        return true;
    diag("put %s: %s", key, err.msg);
    return false;
}

/* Puts each key with its own name as content; one test. */
static void
put_keys(const Suite *s, const char *const *keys, size_t count)
{
    bool good = true;

    for (size_t i = 0; i < count; i++)
        good = put_text(s, keys[i], keys[i]) && good;
    (void) check(s, good, "%zu objects put", count);
}

/* ---- create ---- */

typedef struct Racer
{
    Store *st;
    pthread_barrier_t *start;
    const char *key;
    char fill;
    int rc;
    Error err;
} Racer;

enum
{
    RACER_BYTES = 300000
};

static void *
racer_run(void *arg)
{
    Racer *r = arg;
    char *data = malloc(RACER_BYTES);

    if (data == NULL)
        abort();
    memset(data, r->fill, RACER_BYTES);
    (void) pthread_barrier_wait(r->start);
    r->rc = store_put_bytes(r->st, r->key, data, RACER_BYTES, &r->err);
    free(data);
    return NULL;
}

static void
case_race(const Suite *s)
{
    int rounds = (s->flags & STORE_CONFORMANCE_QUICK) != 0 ? 3 : 10;
    int bad_counts = 0, bad_kinds = 0, bad_contents = 0;

    if (!s->st->caps.conditional_create)
    {
        (void) check(s, true, "# SKIP the store cannot create conditionally");
        return;
    }
    for (int round = 0; round < rounds; round++)
    {
        Racer racers[RACERS];
        pthread_t threads[RACERS];
        pthread_barrier_t start;
        char key[64], data[RACER_BYTES];
        int winners = 0;

        (void) snprintf(key, sizeof key, "race/%d/object", round);
        if (pthread_barrier_init(&start, NULL, RACERS) != 0)
            abort();
        for (int i = 0; i < RACERS; i++)
        {
            racers[i] = (Racer){.st = s->st, .start = &start, .key = key, .fill = (char) ('a' + i)};
            if (pthread_create(&threads[i], NULL, racer_run, &racers[i]) != 0)
                abort();
        }
        for (int i = 0; i < RACERS; i++)
        {
            (void) pthread_join(threads[i], NULL);
            if (racers[i].rc == 0)
            {
                winners++;
                memset(data, racers[i].fill, sizeof data);
            }
            else if (racers[i].err.kind != ERROR_EXISTS)
            {
                diag("%s", racers[i].err.msg);
                bad_kinds++;
            }
        }
        (void) pthread_barrier_destroy(&start);
        bad_counts += winners != 1;
        bad_contents += winners == 1 && !store_holds(s->st, key, data, sizeof data);
    }
    (void) check(s, bad_counts == 0, "exactly one of %d writers creates the object", RACERS);
    (void) check(s, bad_kinds == 0, "the others are told that it exists");
    (void) check(s, bad_contents == 0, "the content is the winner's, whole");
}

static void
case_create_only(const Suite *s)
{
    Error err;

    (void) check(s, put_text(s, "a/object", "first"), "put");
    check_kind(
        s, store_put_bytes(s->st, "a/object", "second", 6, &err), &err, ERROR_EXISTS, "put again");
    check_kind(
        s, store_put_bytes(s->st, "a/object", "first", 5, &err), &err, ERROR_EXISTS,
        "put the same bytes again");
    (void) check(s, store_holds(s->st, "a/object", "first", 5), "the first content stays");
}

static void
case_empty_object(const Suite *s)
{
    Deadline dl = soon();
    StoreStat stat;
    Error err;
    StoreBody nothing = {.iov = NULL, .iov_count = 0, .bytes = 0};

    (void) check(s, store_put_bytes(s->st, "empty", "", 0, &err) == 0, "put");
    (void) check(s, store_put(s->st, "no-parts", &nothing, &dl, &err) == 0, "put without parts");
    (void) check(s, store_holds(s->st, "empty", "", 0), "get");
    (void) check(s, store_holds(s->st, "no-parts", "", 0), "get without parts");
    (void) check(
        s, store_stat(s->st, "empty", &dl, &stat, &err) == 0 && stat.bytes == 0, "stat says 0");
    check_kind(
        s, store_put_bytes(s->st, "empty", "x", 1, &err), &err, ERROR_EXISTS, "it is create-only");
}

/* Bytes that differ from place to place. */
static char *
pattern_new(size_t len)
{
    char *data = malloc(len);
    uint32_t x = 12345;

    if (data == NULL)
        abort();
    for (size_t i = 0; i < len; i++)
    {
        x = x * 1664525 + 1013904223;
        data[i] = (char) (x >> 24);
    }
    return data;
}

static void
case_big_object(const Suite *s)
{
    char *data = pattern_new(BIG_BYTES);
    struct iovec parts[200];
    size_t at = 0, count = 0;
    Deadline dl = soon();
    StoreStat stat;
    Error err = {0};

    /* parts of many sizes, also empty ones */
    while (count < ARRAY_COUNT(parts) - 1)
    {
        size_t len = count % 7 == 3 ? 0 : count * 997 % 131072;

        len = MIN(len, BIG_BYTES - at);
        parts[count++] = (struct iovec){.iov_base = data + at, .iov_len = len};
        at += len;
    }
    parts[count++] = (struct iovec){.iov_base = data + at, .iov_len = BIG_BYTES - at};

    StoreBody body = {.iov = parts, .iov_count = count, .bytes = BIG_BYTES};

    if (!check(s, store_put(s->st, "big", &body, &dl, &err) == 0, "put of 17 MiB in parts"))
        diag("%s", err.msg);
    (void) check(s, store_holds(s->st, "big", data, BIG_BYTES), "get");
    (void) check(
        s, store_stat(s->st, "big", &dl, &stat, &err) == 0 && stat.bytes == BIG_BYTES, "stat");
    free(data);
}

/* ---- read ---- */

static void
case_ranges(const Suite *s)
{
    enum
    {
        LEN = 700000
    };
    static const struct
    {
        const char *label;
        uint64_t offset, len;
        size_t want_at, want_len;
    } cases[] = {
        {"from the middle, a few bytes", 1000, 10, 1000, 10},
        {"one byte", 0, 1, 0, 1},
        {"length 0: all", 0, 0, 0, LEN},
        {"length 0 from the middle: to the end", 300001, 0, 300001, LEN - 300001},
        {"a large piece", 1, LEN - 2, 1, LEN - 2},
        {"exactly all", 0, LEN, 0, LEN},
        {"longer than the object", 5, LEN, 5, LEN - 5},
        {"the last byte", LEN - 1, 1, LEN - 1, 1},
        {"the last byte, to the end", LEN - 1, 0, LEN - 1, 1},
        {"at the end", LEN, 10, 0, 0},
        {"at the end, length 0", LEN, 0, 0, 0},
        {"beyond the end", LEN + 1000, 10, 0, 0},
        {"far beyond the end", (uint64_t) 1 << 40, 0, 0, 0},
    };
    char *data = pattern_new(LEN);
    Error err;

    (void) check(s, store_put_bytes(s->st, "object", data, LEN, &err) == 0, "put");
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(collect_reset) CollectSink sink;
        ByteRange range = {.offset = cases[i].offset, .len = cases[i].len};
        Deadline dl = soon();

        collect_init(&sink);

        int rc = store_get(s->st, "object", range, &sink.stage, &dl, &err);

        if (!check(
                s,
                rc == 0 && sink.len == cases[i].want_len &&
                    (sink.len == 0 || memcmp(sink.data, data + cases[i].want_at, sink.len) == 0),
                "%s", cases[i].label))
            diag("%zu bytes, %s", sink.len, rc < 0 ? err.msg : "success");
    }
    free(data);
}

static void
case_missing(const Suite *s)
{
    static const char *const missing[] = {"object/below", "objec", "object0", "other/folder/x"};
    Deadline dl = soon();

    (void) check(s, put_text(s, "object", "x") && put_text(s, "folder/x", "x"), "put");
    for (size_t i = 0; i < ARRAY_COUNT(missing) + 1; i++)
    {
        const char *key = i < ARRAY_COUNT(missing) ? missing[i] : "folder";
        AUTO(collect_reset) CollectSink sink;
        StoreStat stat;
        Error err = {0};

        collect_init(&sink);
        check_kind(
            s, store_get(s->st, key, (ByteRange){0}, &sink.stage, &dl, &err), &err, ERROR_NOT_FOUND,
            "get of what is not there");
        (void) check(s, sink.len == 0, "no byte came");
        check_kind(
            s, store_get(s->st, key, (ByteRange){.offset = 5, .len = 1}, &sink.stage, &dl, &err),
            &err, ERROR_NOT_FOUND, "get of a range of what is not there");
        check_kind(
            s, store_stat(s->st, key, &dl, &stat, &err), &err, ERROR_NOT_FOUND,
            "stat of what is not there");
    }
}

static void
case_stat_time(const Suite *s)
{
    Deadline dl = soon();
    StoreStat stat = {0};
    Error err;

    (void) check(s, put_text(s, "object", "12345"), "put");
    (void) check(
        s, store_stat(s->st, "object", &dl, &stat, &err) == 0 && stat.bytes == 5, "its size");

    int64_t age_us = clock_wall_us() - stat.modified_us;

    (void) check(
        s, stat.modified_us == 0 || (age_us > -120000000 && age_us < 120000000),
        "its time is now, if the store tells it");
}

static void
case_sink_fails(const Suite *s)
{
    AUTO(collect_reset) CollectSink sink;
    char *data = pattern_new(BIG_BYTES);
    Deadline dl = soon();
    Error err = {0};

    (void) check(s, store_put_bytes(s->st, "big", data, BIG_BYTES, &err) == 0, "put");
    collect_init(&sink);
    sink.fail_at = 1000000;
    check_kind(
        s, store_get(s->st, "big", (ByteRange){0}, &sink.stage, &dl, &err), &err, ERROR_NOMEM,
        "the sink's error is passed on");
    (void) check(
        s, sink.len <= sink.fail_at && memcmp(sink.data, data, sink.len) == 0,
        "what came before is right");
    (void) check(s, store_holds(s->st, "big", data, BIG_BYTES), "the store still works");
    free(data);
}

/* ---- keys ---- */

static void
case_keys(const Suite *s)
{
    static const struct
    {
        const char *label, *key;
    } good[] = {
        {"all characters", "ABCDEFGHIJKLMNOPQRSTUVWXYZ/abcdefghijklmnopqrstuvwxyz/0123456789._-"},
        {"one character", "x"},
        {"dots in a component", "...a/.b/c..d/e."},
        {"three dots", "f/.../g"},
        {"a dash first", "-/--"},
        {"only an underscore", "_/_"},
        {"upper case is another key", "f/.../G"},
    };
    static const struct
    {
        const char *label, *key;
    } bad[] = {
        {"empty", ""},
        {"a slash first", "/a"},
        {"a slash last", "a/"},
        {"two slashes", "a//b"},
        {"a dot", "a/./b"},
        {"two dots", "a/../b"},
        {"two dots alone", ".."},
        {"a blank", "a b"},
        {"a percent sign", "a%2Fb"},
        {"a plus", "a+b"},
        {"not ASCII", "\xc3\xa4"},
        {"a line feed", "a\n"},
        {"a backslash", "a\\b"},
        {"a star", "*"},
    };
    char longest[STORE_KEY_MAX + 2];
    Error err = {0};

    for (size_t i = 0; i < ARRAY_COUNT(good); i++)
        (void) check(
            s,
            store_key_valid(good[i].key) && put_text(s, good[i].key, good[i].label) &&
                store_holds(s->st, good[i].key, good[i].label, strlen(good[i].label)),
            "%s", good[i].label);
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
    {
        (void) check(s, !store_key_valid(bad[i].key), "%s: not valid", bad[i].label);
        check_kind(
            s, store_put_bytes(s->st, bad[i].key, "x", 1, &err), &err, ERROR_USAGE, bad[i].label);
    }

    for (size_t i = 0; i < sizeof longest; i++)
        longest[i] = i % 128 == 127 ? '/' : (char) ('a' + i % 26);
    longest[STORE_KEY_MAX + 1] = '\0';
    longest[STORE_KEY_MAX] = 'x';
    (void) check(s, !store_key_valid(longest), "one byte too long: not valid");
    check_kind(
        s, store_put_bytes(s->st, longest, "x", 1, &err), &err, ERROR_USAGE, "one byte too long");
    longest[STORE_KEY_MAX] = '\0';
    longest[STORE_KEY_MAX - 1] = 'x';
    (void) check(s, store_key_valid(longest), "as long as can be: valid");
    /* a prefix in front of the keys makes the longest shorter */
    if (store_put_bytes(s->st, longest, "long", 4, &err) < 0 && err.kind == ERROR_USAGE)
        longest[STORE_KEY_MAX - 128] = '\0', longest[STORE_KEY_MAX - 129] = 'x',
                                (void) put_text(s, longest, "long");
    (void) check(s, store_holds(s->st, longest, "long", 4), "%zu bytes", strlen(longest));
}

/* ---- list ---- */

typedef struct Listing
{
    char *keys[2000];
    bool is_prefix[2000];
    uint64_t bytes[2000];
    size_t count;
    size_t stop_at; /* the callback answers stop_with at this entry, counted from 1; 0: never */
    int stop_with;
} Listing;

static void
listing_reset(Listing *l)
{
    for (size_t i = 0; i < l->count; i++)
        free(l->keys[i]);
    l->count = 0;
}

static int
listing_add(void *ctx, const StoreEntry *entry, Error *err)
{
    Listing *l = ctx;

    if (l->count == ARRAY_COUNT(l->keys))
        return error_set(err, ERROR_CORRUPT, "more entries than were put");
    l->keys[l->count] = strdup(entry->key);
    l->is_prefix[l->count] = entry->is_prefix;
    l->bytes[l->count] = entry->bytes;
    l->count++;
    if (l->count == l->stop_at)
        return l->stop_with < 0 ? error_set(err, ERROR_CONFLICT, "the callback says no")
                                : l->stop_with;
    return 0;
}

static bool
listing_is(const Listing *l, const char *const *keys, size_t count)
{
    bool same = l->count == count;

    for (size_t i = 0; same && i < count; i++)
        same = strcmp(l->keys[i], keys[i]) == 0 &&
               l->is_prefix[i] == (keys[i][strlen(keys[i]) - 1] == '/');
    if (!same)
        for (size_t i = 0; i < MAX(l->count, count); i++)
            diag(
                "%zu: got %s, want %s", i, i < l->count ? l->keys[i] : "-",
                i < count ? keys[i] : "-");
    return same;
}

static int
list_into(const Suite *s, const StoreListOptions *options, Listing *l, Error *err)
{
    Deadline dl = soon();

    return store_list(s->st, options, listing_add, l, &dl, err);
}

/* In byte order: '-' and '.' come before '/', digits, upper case, '_', lower case. */
static const char *const listed[] = {
    "A",
    "a-/c",
    "a-b",
    "a.b",
    "a/-",
    "a/b",
    "a/b-c/d",
    "a/b0",
    "a/c/d/e/f",
    "a/c/e",
    "a/d",
    "a0",
    "aB/x",
    "a_",
    "aa/b",
    "b/c/d",
    "b/c/e",
    "b/c0/d",
    "wal/00000001/x",
    "wal/00000001/y",
    "wal/00000002/x",
    "x",
    "x.y/z",
    "zz/zz/zz/zz",
};

static void
case_list(const Suite *s)
{
    static const struct
    {
        const char *label;
        StoreListOptions options;
        const char *want[ARRAY_COUNT(listed)]; /* NULL first: what is in listed[from..to) */
        size_t from, to;
    } cases[] = {
        {"all, in byte order", {.prefix = ""}, {NULL}, 0, 24},
        {"all, pages of 3", {.prefix = "", .page_keys = 3}, {NULL}, 0, 24},
        {"all, pages of 1", {.prefix = "", .page_keys = 1}, {NULL}, 0, 24},
        {"a folder", {.prefix = "a/"}, {NULL}, 4, 11},
        {"a folder below", {.prefix = "a/c/"}, {NULL}, 8, 10},
        {"a prefix that ends within a name", {.prefix = "a"}, {NULL}, 1, 15},
        {"the same, pages of 2", {.prefix = "a", .page_keys = 2}, {NULL}, 1, 15},
        {"a prefix within a name below a folder", {.prefix = "a/b"}, {NULL}, 5, 8},
        {"a prefix with a dash", {.prefix = "a-"}, {NULL}, 1, 3},
        {"a prefix that is a key", {.prefix = "A"}, {NULL}, 0, 1},
        {"a prefix that is a folder without its slash", {.prefix = "b/c"}, {NULL}, 15, 18},
        {"nothing has it", {.prefix = "q"}, {NULL}, 0, 0},
        {"a folder that is not there", {.prefix = "q/r/"}, {NULL}, 0, 0},
        {"a key as a folder", {.prefix = "A/"}, {NULL}, 0, 0},
        {"a key and one byte more", {.prefix = "a/b0x"}, {NULL}, 0, 0},
        {"after a key", {.prefix = "", .start_after = "a/b-c/d"}, {NULL}, 7, 24},
        {"after the first key", {.prefix = "", .start_after = "A"}, {NULL}, 1, 24},
        {"after the last key", {.prefix = "", .start_after = "zz/zz/zz/zz"}, {NULL}, 0, 0},
        {"after what is no key", {.prefix = "", .start_after = "a/c/d"}, {NULL}, 8, 24},
        {"after a folder", {.prefix = "", .start_after = "a/c/"}, {NULL}, 8, 24},
        {"after a name between", {.prefix = "", .start_after = "a/b/zz"}, {NULL}, 7, 24},
        {"after what is behind the prefix", {.prefix = "a/", .start_after = "b"}, {NULL}, 0, 0},
        {"after what is before the prefix", {.prefix = "b/", .start_after = "a/b"}, {NULL}, 15, 18},
        {"after a key within the prefix",
         {.prefix = "wal/0000", .start_after = "wal/00000001/x"},
         {NULL},
         19,
         21},
        {"the same, pages of 1",
         {.prefix = "wal/0000", .start_after = "wal/00000001/x", .page_keys = 1},
         {NULL},
         19,
         21},
        {"after the empty text", {.prefix = "", .start_after = ""}, {NULL}, 0, 24},
        {"by folder",
         {.prefix = "", .by_folder = true},
         {"A", "a-/", "a-b", "a.b", "a/", "a0", "aB/", "a_", "aa/", "b/", "wal/", "x", "x.y/",
          "zz/"},
         0,
         14},
        {"by folder, pages of 2",
         {.prefix = "", .by_folder = true, .page_keys = 2},
         {"A", "a-/", "a-b", "a.b", "a/", "a0", "aB/", "a_", "aa/", "b/", "wal/", "x", "x.y/",
          "zz/"},
         0,
         14},
        {"by folder below one",
         {.prefix = "a/", .by_folder = true},
         {"a/-", "a/b", "a/b-c/", "a/b0", "a/c/", "a/d"},
         0,
         6},
        {"by folder, a prefix within a name",
         {.prefix = "wal/0", .by_folder = true},
         {"wal/00000001/", "wal/00000002/"},
         0,
         2},
        {"by folder, a folder without its slash",
         {.prefix = "b/c", .by_folder = true},
         {"b/c/", "b/c0/"},
         0,
         2},
        {"by folder, after a key",
         {.prefix = "a/", .by_folder = true, .start_after = "a/b"},
         {"a/b-c/", "a/b0", "a/c/", "a/d"},
         0,
         4},
        {"by folder, after a folder",
         {.prefix = "a/", .by_folder = true, .start_after = "a/c/"},
         {"a/d"},
         0,
         1},
        {"by folder, after a folder, pages of 1",
         {.prefix = "", .by_folder = true, .start_after = "b/", .page_keys = 1},
         {"wal/", "x", "x.y/", "zz/"},
         0,
         4},
        {"by folder, after a key inside a folder",
         {.prefix = "", .by_folder = true, .start_after = "wal/00000001/x"},
         {"x", "x.y/", "zz/"},
         0,
         3},
        {"by folder, after a folder without its slash",
         {.prefix = "b/", .by_folder = true, .start_after = "b/c"},
         {"b/c/", "b/c0/"},
         0,
         2},
    };
    const char *scrambled[ARRAY_COUNT(listed)];

    static_assert(ARRAY_COUNT(listed) == 24, "the cases count on it");
    for (size_t i = 0; i < ARRAY_COUNT(listed); i++)
        scrambled[i * 7 % ARRAY_COUNT(listed)] = listed[i];
    put_keys(s, scrambled, ARRAY_COUNT(listed));
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(listing_reset) Listing l = {0};
        Error err = {0};
        int rc = list_into(s, &cases[i].options, &l, &err);
        const char *const *want = cases[i].want[0] != NULL ? cases[i].want : listed + cases[i].from;

        if (!check(
                s, rc == 0 && listing_is(&l, want, cases[i].to - cases[i].from), "%s",
                cases[i].label))
            diag("%s", rc < 0 ? err.msg : "success");
    }
}

static void
case_list_sizes(const Suite *s)
{
    AUTO(listing_reset) Listing l = {0};
    StoreListOptions options = {.prefix = ""};
    Error err;

    (void) check(
        s, put_text(s, "a", "") && put_text(s, "b", "12345") && put_text(s, "c/d", "123"), "put");
    (void) check(
        s,
        list_into(s, &options, &l, &err) == 0 && l.count == 3 && l.bytes[0] == 0 &&
            l.bytes[1] == 5 && l.bytes[2] == 3,
        "sizes are told");
}

static void
case_list_empty(const Suite *s)
{
    static const StoreListOptions options[] = {
        {.prefix = ""},
        {.prefix = "", .by_folder = true},
        {.prefix = "a/b", .start_after = "a/b/c", .page_keys = 1},
    };

    for (size_t i = 0; i < ARRAY_COUNT(options); i++)
    {
        AUTO(listing_reset) Listing l = {0};
        Error err;

        (void) check(
            s, list_into(s, &options[i], &l, &err) == 0 && l.count == 0,
            "nothing there is success (%zu)", i);
    }
}

static void
case_list_stop(const Suite *s)
{
    static const char *const keys[] = {"a", "b/c", "b/d", "e", "f"};

    put_keys(s, keys, ARRAY_COUNT(keys));
    for (uint32_t page = 0; page < 4; page++)
        for (size_t stop = 1; stop <= ARRAY_COUNT(keys); stop++)
        {
            AUTO(listing_reset) Listing yes = {.stop_at = stop, .stop_with = 1};
            AUTO(listing_reset) Listing no = {.stop_at = stop, .stop_with = -1};
            StoreListOptions options = {.prefix = "", .page_keys = page};
            Error err = {0};

            (void) check(
                s, list_into(s, &options, &yes, &err) == 0 && listing_is(&yes, keys, stop),
                "callback ends it at entry %zu, pages of %u", stop, page);
            (void) check(
                s,
                list_into(s, &options, &no, &err) < 0 && err.kind == ERROR_CONFLICT &&
                    no.count == stop,
                "callback fails it at entry %zu, pages of %u", stop, page);
        }
}

static void
case_list_bad(const Suite *s)
{
    static const char *const prefixes[] = {"/", "a//", "../", "a/../", "./", "a b", "a/%"};

    for (size_t i = 0; i < ARRAY_COUNT(prefixes); i++)
    {
        AUTO(listing_reset) Listing l = {0};
        StoreListOptions options = {.prefix = prefixes[i]};
        Error err = {0};

        check_kind(s, list_into(s, &options, &l, &err), &err, ERROR_USAGE, prefixes[i]);
    }
}

/* ---- remove ---- */

static bool
removed_all(const StoreRemoved *keys, size_t count)
{
    bool good = true;

    for (size_t i = 0; i < count; i++)
        if (keys[i].err.kind != ERROR_NONE)
        {
            diag("%s: %s", keys[i].key, keys[i].err.msg);
            good = false;
        }
    return good;
}

static void
case_remove(const Suite *s)
{
    StoreRemoved keys[] = {
        {.key = "a/b/c"}, {.key = "never/was"}, {.key = "a/b"}, {.key = "d"}, {.key = "d/e"},
    };
    AUTO(listing_reset) Listing l = {0};
    StoreListOptions options = {.prefix = ""};
    static const char *const left[] = {"a/b/d", "x"};
    Deadline dl = soon();
    StoreStat stat;
    Error err = {0};

    (void) check(
        s,
        put_text(s, "a/b/c", "1") && put_text(s, "a/b/d", "2") && put_text(s, "d", "3") &&
            put_text(s, "x", "4"),
        "put");
    (void) check(
        s,
        store_remove(s->st, keys, ARRAY_COUNT(keys), &dl, &err) == 0 &&
            removed_all(keys, ARRAY_COUNT(keys)),
        "present and absent keys");
    check_kind(
        s, store_stat(s->st, "a/b/c", &dl, &stat, &err), &err, ERROR_NOT_FOUND, "it is gone");
    (void) check(
        s, list_into(s, &options, &l, &err) == 0 && listing_is(&l, left, 2), "others stay");
    (void) check(
        s, put_text(s, "a/b/c", "again") && store_holds(s->st, "a/b/c", "again", 5),
        "its key can be used again");
    (void) check(s, store_remove(s->st, NULL, 0, &dl, &err) == 0, "no keys at all");

    StoreRemoved bad = {.key = "a/../b"};

    check_kind(s, store_remove(s->st, &bad, 1, &dl, &err), &err, ERROR_USAGE, "a bad key");
}

static void
case_remove_many(const Suite *s)
{
    StoreRemoved *removed = calloc(REMOVE_MANY, sizeof *removed);
    char(*keys)[32] = calloc(REMOVE_MANY, sizeof *keys);
    AUTO(listing_reset) Listing before = {0}, after = {0};
    StoreListOptions options = {.prefix = ""};
    Deadline dl = soon();
    Error err = {0};
    bool good = true;
    /* every seventh only, where each takes its time; removing what is not there is success */
    size_t step = (s->flags & STORE_CONFORMANCE_QUICK) != 0 ? 7 : 1;

    if (removed == NULL || keys == NULL)
        abort();
    for (size_t i = 0; i < REMOVE_MANY; i++)
    {
        (void) snprintf(keys[i], sizeof keys[i], "many/%02zu/%04zu", i / 100, i);
        removed[i].key = keys[i];
        if (i % step == 0)
            good = put_text(s, keys[i], keys[i]) && good;
    }
    (void) check(s, good && put_text(s, "stays", "x"), "put");
    (void) check(
        s,
        list_into(s, &options, &before, &err) == 0 &&
            before.count == (REMOVE_MANY + step - 1) / step + 1,
        "listed");
    (void) check(
        s,
        store_remove(s->st, removed, REMOVE_MANY, &dl, &err) == 0 &&
            removed_all(removed, REMOVE_MANY),
        "%d keys at once", REMOVE_MANY);
    (void) check(
        s,
        list_into(s, &options, &after, &err) == 0 && after.count == 1 &&
            strcmp(after.keys[0], "stays") == 0,
        "only they are gone");
    free(removed);
    free(keys);
}

/* ---- deadlines ---- */

/* Every kind of call, with that deadline, ends with that kind and does nothing. */
static void
check_all_calls(const Suite *s, const Deadline *dl, ErrorKind kind)
{
    AUTO(collect_reset) CollectSink sink;
    AUTO(listing_reset) Listing l = {0};
    StoreRemoved removed = {.key = "object"};
    StoreListOptions options = {.prefix = ""};
    StoreBody body = {0};
    StoreStat stat;
    Error err = {0};

    collect_init(&sink);
    check_kind(s, store_put(s->st, "new", &body, dl, &err), &err, kind, "put");
    check_kind(
        s, store_get(s->st, "object", (ByteRange){0}, &sink.stage, dl, &err), &err, kind, "get");
    check_kind(s, store_stat(s->st, "object", dl, &stat, &err), &err, kind, "stat");
    check_kind(s, store_list(s->st, &options, listing_add, &l, dl, &err), &err, kind, "list");
    check_kind(s, store_remove(s->st, &removed, 1, dl, &err), &err, kind, "remove");
    (void) check(s, sink.len == 0 && l.count == 0, "nothing was told");
    (void) check(s, store_holds(s->st, "object", "x", 1), "nothing was removed");

    Deadline now = soon();

    check_kind(
        s, store_stat(s->st, "new", &now, &stat, &err), &err, ERROR_NOT_FOUND, "nothing was put");
}

static void
case_deadline(const Suite *s)
{
    Deadline past = deadline_after_ms(0, NULL);

    (void) check(s, put_text(s, "object", "x"), "put");
    check_all_calls(s, &past, ERROR_TIMEOUT);
}

static void
case_cancel(const Suite *s)
{
    atomic_bool cancel = true;
    Deadline canceled = deadline_after_ms(60000, &cancel);

    (void) check(s, put_text(s, "object", "x"), "put");
    check_all_calls(s, &canceled, ERROR_CANCELED);
}

static void
case_caps(const Suite *s)
{
    StoreBody body = {.bytes = UINT64_MAX};
    Deadline dl = soon();
    Error err = {0};

    (void) check(s, s->st->caps.scheme != NULL && s->st->caps.scheme[0] != '\0', "scheme");
    (void) check(s, s->st->url != NULL && s->st->url[0] != '\0', "URL for messages");
    (void) check(s, s->st->caps.max_put_bytes >= BIG_BYTES, "takes objects of 17 MiB");
    check_kind(
        s, store_put(s->st, "huge", &body, &dl, &err), &err, ERROR_USAGE,
        "more than it takes at once");
}

void
store_conformance_run(const char *label, StoreConformanceMake make, void *ctx, unsigned flags)
{
    static const struct
    {
        const char *name;
        void (*run)(const Suite *s);
    } cases[] = {
        {"capabilities", case_caps},
        {"create only", case_create_only},
        {"race", case_race},
        {"empty object", case_empty_object},
        {"big object", case_big_object},
        {"ranges", case_ranges},
        {"missing", case_missing},
        {"size and time", case_stat_time},
        {"failing sink", case_sink_fails},
        {"keys", case_keys},
        {"list", case_list},
        {"list sizes", case_list_sizes},
        {"list of nothing", case_list_empty},
        {"list stopped", case_list_stop},
        {"list of bad prefixes", case_list_bad},
        {"remove", case_remove},
        {"remove many", case_remove_many},
        {"deadline passed", case_deadline},
        {"canceled", case_cancel},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(store_freep) Store *st = make(ctx);
        Suite suite = {.label = label, .name = cases[i].name, .st = st, .flags = flags};

        if (st == NULL)
            (void) check(&suite, false, "could not make the store");
        else
            cases[i].run(&suite);
    }
}
