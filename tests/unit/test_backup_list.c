/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The list of backups: complete, unfinished, damaged, pinned, with whole and broken chains, and
 * what it asks of the store.
 */
#include "repo/backup_list.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "tempdir.h"

#define SYSTEM_IDENTIFIER UINT64_C(7300000000000000001)
#define T0 INT64_C(1772356447000000)
#define MINUTE_US INT64_C(60000000)
#define TIMEOUT_MS 300000
#define CHAIN_WORDS 8

static const Deadline no_deadline = {.at_ms = INT64_MAX};

static void
test_repo_init(Repository *repo, Store *store)
{
    *repo = (Repository){
        .store = store,
        .format = {.codec = {.method = CODEC_LZ4}},
        .description = {.cluster = "main", .system_identifier = SYSTEM_IDENTIFIER}};
}

static Store *
new_store(void)
{
    Store *store = NULL;
    Error err = {0};

    if (store_memory_new(&store, &err) < 0)
        abort();
    return store;
}

/* Labels in a row, joined by blanks, into a list of them. */
static size_t
read_words(const char *words, char (*out)[BACKUP_LABEL_NAME_MAX])
{
    size_t count = 0;

    while (*words != '\0')
    {
        size_t len = strcspn(words, " ");

        memcpy(out[count], words, len);
        out[count++][len] = '\0';
        words += len + (words[len] == ' ' ? 1 : 0);
    }
    return count;
}

/* A complete backup that began that many minutes after T0. */
static void
put_backup(Repository *repo, const char *label, int minutes, const char *chain, const char *uses)
{
    static char chain_labels[CHAIN_WORDS][BACKUP_LABEL_NAME_MAX];
    static char uses_labels[CHAIN_WORDS][BACKUP_LABEL_NAME_MAX];
    AUTO(manifest_writer_freep) ManifestWriter *w = NULL;
    BackupHeader header = {
        .chain = chain_labels,
        .chain_count = read_words(chain, chain_labels),
        .uses = uses_labels,
        .uses_count = read_words(uses, uses_labels),
        .system_identifier = SYSTEM_IDENTIFIER,
        .pg_major = 15,
        .segment_bytes = 16u << 20,
        .tli = 1,
        .start_lsn = 0x2000028,
        .stop_lsn = 0x2000100,
        .started_us = T0 + minutes * MINUTE_US,
        .stopped_us = T0 + minutes * MINUTE_US,
        .codec = "lz4"};
    uint64_t stored;
    Error err = {0};

    header.incremental = header.chain_count > 0;
    (void) snprintf(header.label, sizeof header.label, "%s", label);
    if (manifest_writer_new((CodecSpec){.method = CODEC_LZ4}, NULL, &w, &err) < 0 ||
        manifest_writer_put(w, repo, &header, &no_deadline, &stored, &err) < 0)
    {
        printf("Bail out! %s\n", err.msg);
        exit(1);
    }
}

static void
put_object(Store *store, const char *key, const void *data, size_t len)
{
    struct iovec iov = {.iov_len = len};
    StoreBody body = {.iov = &iov, .iov_count = 1, .bytes = len};
    Error err = {0};

    /* a store does not write to what it is given */
    memcpy(&iov.iov_base, &data, sizeof data);
    if (store_put(store, key, &body, &no_deadline, &err) < 0)
        abort();
}

/* The manifest of "from" as that of "label", its first len bytes, with one byte changed. */
static void
put_damaged(Store *store, const char *from, const char *label, size_t len, size_t change)
{
    AUTO(stage_freep) Stage *sink = NULL;
    char key[LAYOUT_KEY_MAX];
    uint8_t data[8192];
    size_t got;
    Error err = {0};

    if (stage_memory_sink_new(data, sizeof data, &got, &sink, &err) < 0 ||
        store_get(store, backup_manifest_key(from, key), (ByteRange){0}, sink, &no_deadline, &err) <
            0)
        abort();
    data[change] ^= 0x20;
    put_object(store, backup_manifest_key(label, key), data, MIN(len, got));
}

static void
put_start(Repository *repo, const char *label, const char *resumes)
{
    BackupStart start = {.host = "db1", .started_us = T0};
    Error err = {0};

    (void) snprintf(start.label, sizeof start.label, "%s", label);
    (void) snprintf(start.resumes[0], sizeof start.resumes[0], "%s", resumes);
    if (backup_start_put(repo, &start, &no_deadline, &err) < 0)
        abort();
}

static void
put_pin(Store *store, const char *label, int64_t until_us)
{
    char key[LAYOUT_KEY_MAX];

    put_object(store, backup_pin_key(label, until_us, key), "{}", 2);
}

/* ---- what is told of each ---- */

static const char *
describe(const BackupList *list, const Backup *b, char *buf, size_t len)
{
    static const char *const states[] = {"complete", "unfinished", "damaged"};

    (void) snprintf(
        buf, len, "%s%s%s%s%s%s", states[b->state], b->chain_broken ? " broken" : "",
        b->parent != SIZE_MAX ? " on " : "",
        b->parent != SIZE_MAX ? list->items[b->parent].label : "",
        b->resumes[0][0] != '\0' ? " of " : "", b->resumes[0]);
    return buf;
}

static void
test_states(Store *store, const char *kind)
{
    static const struct
    {
        const char *label, *want;
    } cases[] = {
        {"full1", "complete"},
        {"inc1", "complete on full1"},
        {"inc2", "complete on inc1"},
        {"full2", "complete"},
        {"orphan", "complete broken"},
        {"on-orphan", "complete broken"},
        {"on-damaged", "complete broken"},
        {"on-running", "complete broken"},
        {"other-way", "complete broken"},
        {"on-inc-as-full", "complete broken"},
        {"uses-good", "complete"},
        {"uses-gone", "complete broken"},
        {"on-uses-gone", "complete broken"},
        {"running", "unfinished"},
        {"resuming", "unfinished of running"},
        {"no-start", "unfinished"},
        {"bad-start", "unfinished"},
        {"cut", "damaged"},
        {"empty", "damaged"},
        {"flipped", "damaged"},
        {"swapped", "damaged"},
        {"garbage", "damaged"},
    };
    AUTO(backup_list_reset) BackupList list = {0};
    Repository repo;
    Error err = {0};
    char buf[256];
    char key[LAYOUT_KEY_MAX];

    test_repo_init(&repo, store);
    put_backup(&repo, "full1", 10, "", "");
    put_backup(&repo, "inc1", 20, "full1", "");
    put_backup(&repo, "inc2", 30, "full1 inc1", "");
    put_backup(&repo, "full2", 15, "", "");
    put_backup(&repo, "orphan", 40, "gone", "");
    put_backup(&repo, "on-orphan", 41, "gone orphan", "");
    put_backup(&repo, "on-damaged", 42, "flipped", "");
    put_backup(&repo, "on-running", 43, "running", "");
    /* inc1 is there, but was not made on full2 */
    put_backup(&repo, "other-way", 44, "full2 inc1", "");
    put_backup(&repo, "on-inc-as-full", 45, "inc1", "");
    put_backup(&repo, "uses-good", 5, "", "running");
    put_backup(&repo, "uses-gone", 46, "", "running gone");
    put_backup(&repo, "on-uses-gone", 47, "uses-gone", "");
    put_start(&repo, "running", "");
    put_start(&repo, "resuming", "running");
    put_object(store, backup_part_key("no-start", 0, 0, key), "x", 1);
    put_object(store, backup_start_key("bad-start", key), "x", 1);
    put_damaged(store, "full1", "cut", 200, 8000);
    put_object(store, backup_manifest_key("empty", key), "", 0);
    put_damaged(store, "full1", "swapped", 8192, 8000);
    put_object(store, backup_manifest_key("garbage", key), "garbage", 7);
    put_object(store, "backup/.hidden/manifest", "x", 1);
    put_object(store, "backup/file", "x", 1);

    /* labelled and long as it should be, but one byte of the header's frame is another one */
    AUTO(store_freep) Store *aside = new_store();
    Repository aside_repo;
    AUTO(stage_freep) Stage *sink = NULL;
    uint8_t data[8192];
    size_t len;

    test_repo_init(&aside_repo, aside);
    put_backup(&aside_repo, "flipped", 1, "", "");
    if (stage_memory_sink_new(data, sizeof data, &len, &sink, &err) < 0 ||
        store_get(
            aside, backup_manifest_key("flipped", key), (ByteRange){0}, sink, &no_deadline, &err) <
            0)
        abort();
    data[200] ^= 1;
    put_object(store, key, data, len);

    int64_t before_us = clock_wall_us();

    if (!ok(backup_list_read(&repo, TIMEOUT_MS, 4, &list, &err) == 0, "%s: the list is read %s",
            kind, err.msg))
        return;
    ok(list.count == ARRAY_COUNT(cases), "%s: %zu backups, and nothing else", kind, list.count);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        const Backup *b = backup_list_find(&list, cases[i].label);

        ok(b != NULL && strcmp(describe(&list, b, buf, sizeof buf), cases[i].want) == 0 &&
               (b->state == BACKUP_DAMAGED) == (b->error.kind == ERROR_CORRUPT) &&
               (b->state == BACKUP_UNFINISHED) == (b->newest_us > 0) &&
               b->oldest_us <= b->newest_us && !b->pinned,
           "%s: %s is %s: %s", kind, cases[i].label, b != NULL ? buf : "not there",
           b != NULL ? b->error.msg : "");
    }

    bool ascending = true;

    for (size_t i = 1; i < list.count; i++)
    {
        const Backup *a = &list.items[i - 1], *b = &list.items[i];

        if (a->state == BACKUP_COMPLETE && b->state == BACKUP_COMPLETE)
            ascending = ascending && a->header.started_us <= b->header.started_us;
        ascending = ascending && (b->state != BACKUP_DAMAGED || a->state == BACKUP_DAMAGED);
    }
    ok(ascending, "%s: they come by time, damaged ones first", kind);
    ok(list.store_now_us >= before_us, "%s: the store's clock is not behind ours", kind);
    ok(backup_list_find(&list, "gone") == NULL, "%s: another is not found", kind);
    ok(backup_list_newest(&list) == backup_list_find(&list, "inc2"),
       "%s: the newest is the last with a whole chain", kind);
}

static void
test_empty(void)
{
    AUTO(store_freep) Store *store = new_store();
    AUTO(backup_list_reset) BackupList list = {0};
    Repository repo;
    Error err = {0};

    test_repo_init(&repo, store);
    put_pin(store, "gone", 0);
    ok(backup_list_read(&repo, TIMEOUT_MS, 8, &list, &err) == 0 && list.count == 0 &&
           backup_list_newest(&list) == NULL && backup_list_find(&list, "gone") == NULL,
       "a repository without backups");
}

/* ---- pins ---- */

static void
test_pins(void)
{
    static const int64_t day_us = INT64_C(86400000000);
    static const struct
    {
        const char *label;
        int64_t days[3]; /* from now; 0: none, INT64_MAX: forever */
        bool pinned;
        int64_t want; /* days */
    } cases[] = {
        {"none", {0}, false, 0},
        {"forever", {INT64_MAX}, true, INT64_MAX},
        {"until", {5}, true, 5},
        {"expired", {-1}, false, 0},
        {"longest", {5, 9, 7}, true, 9},
        {"forever-and-until", {5, INT64_MAX, 7}, true, INT64_MAX},
        {"expired-and-until", {-9, 3, -2}, true, 3},
    };
    AUTO(store_freep) Store *store = new_store();
    AUTO(backup_list_reset) BackupList list = {0};
    int64_t now_us = clock_wall_us() / 1000000 * 1000000;
    Repository repo;
    Error err = {0};

    test_repo_init(&repo, store);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        put_backup(&repo, cases[i].label, (int) i, "", "");
        for (size_t p = 0; p < 3 && cases[i].days[p] != 0; p++)
            put_pin(
                store, cases[i].label,
                cases[i].days[p] == INT64_MAX ? 0 : now_us + cases[i].days[p] * day_us);
    }
    put_object(store, "pin/none/sometime", "x", 1);
    put_object(store, "pin/none", "x", 1);
    ok(backup_list_read(&repo, TIMEOUT_MS, 1, &list, &err) == 0, "backups with pins: %s", err.msg);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        const Backup *b = backup_list_find(&list, cases[i].label);
        int64_t want =
            cases[i].want == INT64_MAX || !cases[i].pinned ? 0 : now_us + cases[i].want * day_us;

        ok(b != NULL && b->pinned == cases[i].pinned && b->pinned_until_us == want, "pinned: %s",
           cases[i].label);
    }
}

/* ---- start objects ---- */

static void
test_start(void)
{
    AUTO(store_freep) Store *store = new_store();
    Repository repo;
    BackupStart start = {
        .label = "b1",
        .incremental = true,
        .parent = "f1",
        .resumes = {"b0", "a9", "a8"},
        .host = "d\"b",
        .started_us = T0 + 5};
    BackupStart got = {0};
    Error err = {0};
    char key[LAYOUT_KEY_MAX];

    test_repo_init(&repo, store);
    ok(backup_start_put(&repo, &start, &no_deadline, &err) == 0 &&
           backup_start_read(&repo, "b1", &no_deadline, &got, &err) == 0 &&
           strcmp(got.label, "b1") == 0 && got.incremental &&
           memcmp(got.resumes, start.resumes, sizeof got.resumes) == 0 &&
           strcmp(got.parent, "f1") == 0 && strcmp(got.host, "d\"b") == 0 &&
           got.started_us == T0 + 5,
       "a start object is put and read %s", err.msg);
    ok(backup_start_put(&repo, &start, &no_deadline, &err) == 0,
       "the same again, after an answer was lost");
    start.started_us++;
    ok(backup_start_put(&repo, &start, &no_deadline, &err) == -1 && err.kind == ERROR_EXISTS,
       "the label is taken: %s", err.msg);
    ok(backup_start_read(&repo, "b2", &no_deadline, &got, &err) == -1 &&
           err.kind == ERROR_NOT_FOUND,
       "there is none: %s", err.msg);

    static const struct
    {
        const char *label, *text;
    } bad[] = {
        {"nothing", ""},
        {"an array", "[1]"},
        {"a later format",
         "{\"format\": 2, \"label\": \"bad\", \"kind\": \"full\", \"parent\": \"\", \"resumes\": "
         "\"\", \"host\": \"\", \"started\": \"2026-03-01T09:14:07.120000Z\"}"},
        {"another label",
         "{\"format\": 1, \"label\": \"b1\", \"kind\": \"full\", \"parent\": \"\", \"resumes\": "
         "\"\", \"host\": \"\", \"started\": \"2026-03-01T09:14:07.120000Z\"}"},
        {"another kind",
         "{\"format\": 1, \"label\": \"bad\", \"kind\": \"half\", \"parent\": \"\", \"resumes\": "
         "\"\", \"host\": \"\", \"started\": \"2026-03-01T09:14:07.120000Z\"}"},
        {"an impossible label",
         "{\"format\": 1, \"label\": \"bad\", \"kind\": \"full\", "
         "\"parent\": \"\", \"resumes\": \"../b\", \"host\": \"\", \"started\": "
         "\"2026-03-01T09:14:07.120000Z\"}"},
        {"an impossible label among the others",
         "{\"format\": 1, \"label\": \"bad\", \"kind\": \"full\", \"parent\": \"\", \"resumes\": "
         "\"b\", "
         "\"resumes_too\": [\"a\", \"../b\"], \"host\": \"\", "
         "\"started\": \"2026-03-01T09:14:07.120000Z\"}"},
        {"the others without the first", "{\"format\": 1, \"label\": \"bad\", \"kind\": \"full\", "
                                         "\"parent\": \"\", \"resumes\": \"\", "
                                         "\"resumes_too\": [\"a\"], \"host\": \"\", "
                                         "\"started\": \"2026-03-01T09:14:07.120000Z\"}"},
        {"more of them than may be", "{\"format\": 1, \"label\": \"bad\", \"kind\": \"full\", "
                                     "\"parent\": \"\", \"resumes\": \"b\", "
                                     "\"resumes_too\": [\"1\", \"2\", \"3\", \"4\", \"5\", \"6\", "
                                     "\"7\", \"8\"], \"host\": \"\", "
                                     "\"started\": \"2026-03-01T09:14:07.120000Z\"}"},
        {"no time", "{\"format\": 1, \"label\": \"bad\", \"kind\": \"full\", \"parent\": \"\", "
                    "\"resumes\": \"\", "
                    "\"host\": \"\"}"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
    {
        AUTO(store_freep) Store *other = new_store();
        ObjectPutResult result;

        test_repo_init(&repo, other);
        if (object_put_bytes(
                other, &repo.format, backup_start_key("bad", key), bad[i].text, strlen(bad[i].text),
                &no_deadline, &result, &err) < 0)
            abort();
        ok(backup_start_read(&repo, "bad", &no_deadline, &got, &err) == -1 &&
               err.kind == ERROR_CORRUPT,
           "a start object with %s: %s", bad[i].label, err.msg);
    }
}

/* ---- requests ---- */

static void
test_requests(void)
{
    Store *counted = NULL;
    AUTO(backup_list_reset) BackupList list = {0};
    Repository repo;
    Error err = {0};
    char label[BACKUP_LABEL_NAME_MAX];
    char key[LAYOUT_KEY_MAX];

    if (store_count_new(new_store(), &counted, &err) < 0)
        abort();

    AUTO(store_freep) Store *store = counted;

    test_repo_init(&repo, store);
    for (int i = 0; i < 1000; i++)
    {
        (void) snprintf(label, sizeof label, "b%d", i);
        put_backup(&repo, label, i, "", "");
        for (uint32_t part = 0; part < 3; part++)
            put_object(store, backup_part_key(label, 0, part, key), "x", 1);
    }
    put_start(&repo, "running", "");

    StoreCounters before = store_count_read(store);
    int rc = backup_list_read(&repo, TIMEOUT_MS, 8, &list, &err);
    StoreCounters after = store_count_read(store);

    ok(rc == 0 && list.count == 1001, "a thousand backups and one that is running %s", err.msg);
    ok(after.gets - before.gets == 1002 && after.lists - before.lists == 3 &&
           after.stats == before.stats && after.puts == before.puts,
       "%" PRIu64 " GETs, %" PRIu64 " LISTs", after.gets - before.gets, after.lists - before.lists);
    ok(after.get_bytes - before.get_bytes < 1002 * 16384, "%" PRIu64 " bytes",
       after.get_bytes - before.get_bytes);
}

/* ---- failures ---- */

/* Whatever call fails in whatever way, nobody takes a backup for missing that was not seen. */
static void
test_failures(void)
{
    static const ErrorKind kinds[] = {ERROR_TRANSIENT, ERROR_TIMEOUT, ERROR_DENIED,
                                      ERROR_IO,        ERROR_NOMEM,   ERROR_CANCELED};
    size_t tried = 0;
    size_t wrong = 0;

    for (size_t k = 0; k < ARRAY_COUNT(kinds); k++)
    {
        bool failed = true;

        for (uint64_t n = 1; failed && n < 100; n++)
        {
            AUTO(backup_list_reset) BackupList list = {0};
            StoreFaultPlan plan = {.fail_at = n, .kind = kinds[k]};
            Store *inner = new_store();
            Store *faulty = NULL;
            Repository repo;
            Error err = {0};

            test_repo_init(&repo, inner);
            put_backup(&repo, "b1", 1, "", "");
            put_backup(&repo, "b2", 2, "b1", "");
            put_start(&repo, "running", "b1");
            if (store_fault_new(inner, &plan, &faulty, &err) < 0)
                abort();

            AUTO(store_freep) Store *store = faulty;

            repo.store = store;
            failed = backup_list_read(&repo, TIMEOUT_MS, 1 + (unsigned) n % 3, &list, &err) < 0;
            if (failed && (err.kind != kinds[k] || list.count != 0 || list.items != NULL))
                wrong++;
            if (!failed && list.count != 3)
                wrong++;
            tried++;
        }
    }
    ok(wrong == 0 && tried == ARRAY_COUNT(kinds) * 8,
       "a failure of any of the calls is one of the list (%zu lists read)", tried);
}

/* A manifest that comes between the look for it and the list of the backup's objects. */
typedef struct LateStore
{
    Store store; /* in place */
    Store *inner;
    int misses; /* GETs of the manifest that are answered NOT_FOUND */
} LateStore;

static int
late_get(Store *st, const char *key, ByteRange range, Stage *sink, const Deadline *dl, Error *err)
{
    LateStore *late = (LateStore *) st;

    if (late->misses > 0 && strstr(key, "manifest") != NULL)
    {
        late->misses--;
        return error_set(err, ERROR_NOT_FOUND, "not yet");
    }
    return store_get(late->inner, key, range, sink, dl, err);
}

static int
late_list(
    Store *st, const StoreListOptions *options, StoreListFn fn, void *ctx, const Deadline *dl,
    Error *err)
{
    return store_list(((LateStore *) st)->inner, options, fn, ctx, dl, err);
}

static void
test_late_manifest(void)
{
    static const StoreOps ops = {.get = late_get, .list = late_list};
    static char url[] = "test://late";
    AUTO(store_freep) Store *inner = new_store();
    AUTO(backup_list_reset) BackupList list = {0};
    LateStore late = {.store = {.ops = &ops, .caps = inner->caps, .url = url}, .inner = inner};
    Repository repo;
    Error err = {0};

    test_repo_init(&repo, inner);
    put_start(&repo, "b1", "");
    put_backup(&repo, "b1", 1, "", "");
    repo.store = &late.store;
    late.misses = 1;
    ok(backup_list_read(&repo, TIMEOUT_MS, 1, &list, &err) == 0 && list.count == 1 &&
           list.items[0].state == BACKUP_COMPLETE,
       "a backup that becomes complete while it is looked at is complete %s", err.msg);
}

int
main(void)
{
    AUTO(store_freep) Store *memory = new_store();
    AUTO(store_freep) Store *files = NULL;
    Error err = {0};

    if (store_file_new(tempdir_make(), true, &files, &err) < 0)
        abort();
    test_states(memory, "memory");
    test_states(files, "files");
    test_empty();
    test_pins();
    test_start();
    test_requests();
    test_failures();
    test_late_manifest();
    return done_testing();
}
