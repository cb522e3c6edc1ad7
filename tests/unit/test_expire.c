/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Expire on a repository in memory: exactly what is to go goes, and whatever fails in between,
 * nothing that can be seen lacks what it needs.
 */
#include "repo/expire.h"

#include <stdlib.h>
#include <string.h>

#include "store/wrap.h"
#include "tap.h"

#define SEG ((Lsn) 1024 * 1024)
#define SEG_BYTES (1024u * 1024)
#define HOUR INT64_C(3600000000)
#define DAY (24 * HOUR)
#define SYSTEM_IDENTIFIER UINT64_C(7300000000000000001)
#define TIMEOUT_MS 300000
#define NAMES_MAX 8192

static const Deadline no_deadline = {.at_ms = INT64_MAX};

/* ---- a store whose objects are old, some of which cannot be removed ---- */

typedef struct AgedStore
{
    StoreWrap wrap;
    const char *deny;   /* keys with this in them cannot be removed: object lock */
    const char *young;  /* keys with this in them are of now */
    int64_t ahead_us;   /* its clock */
    SegmentNo now_from; /* WAL from this segment on is of now, too */
} AgedStore;

static int64_t
aged_time(const AgedStore *st, const char *key, int64_t us)
{
    LayoutEntry parsed;

    if (st->young != NULL && strstr(key, st->young) != NULL)
        return us;
    if (strncmp(key, "state/", 6) == 0)
        return us + st->ahead_us;
    if (strstr(key, "u-running") != NULL)
        return us;
    if (layout_parse(key, SEG_BYTES, &parsed) && parsed.kind != LAYOUT_GAP &&
        parsed.kind != LAYOUT_HISTORY && parsed.extent.segno >= st->now_from)
        return us;
    return us - 39 * DAY;
}

static int
aged_put(Store *st, const char *key, const StoreBody *body, const Deadline *dl, Error *err)
{
    return store_put(((StoreWrap *) st)->inner, key, body, dl, err);
}

static int
aged_get(Store *st, const char *key, ByteRange range, Stage *sink, const Deadline *dl, Error *err)
{
    return store_get(((StoreWrap *) st)->inner, key, range, sink, dl, err);
}

static int
aged_stat(Store *st, const char *key, const Deadline *dl, StoreStat *out, Error *err)
{
    if (store_stat(((StoreWrap *) st)->inner, key, dl, out, err) < 0)
        return -1;
    out->modified_us = aged_time((AgedStore *) st, key, out->modified_us);
    return 0;
}

typedef struct AgedList
{
    const AgedStore *st;
    StoreListFn fn;
    void *ctx;
} AgedList;

static int
aged_note(void *ctx, const StoreEntry *entry, Error *err)
{
    AgedList *list = ctx;
    StoreEntry copy = *entry;

    if (!copy.is_prefix)
        copy.modified_us = aged_time(list->st, copy.key, copy.modified_us);
    return list->fn(list->ctx, &copy, err);
}

static int
aged_list(
    Store *st, const StoreListOptions *options, StoreListFn fn, void *ctx, const Deadline *dl,
    Error *err)
{
    AgedList list = {.st = (AgedStore *) st, .fn = fn, .ctx = ctx};

    return store_list(((StoreWrap *) st)->inner, options, aged_note, &list, dl, err);
}

static int
aged_remove(Store *st, StoreRemoved *keys, size_t count, const Deadline *dl, Error *err)
{
    const char *deny = ((AgedStore *) st)->deny;

    for (size_t i = 0; i < count; i++)
    {
        if (deny != NULL && strstr(keys[i].key, deny) != NULL)
            (void) error_set(&keys[i].err, ERROR_DENIED, "AccessDenied: object is locked");
        else if (store_remove(((StoreWrap *) st)->inner, &keys[i], 1, dl, err) < 0)
            return -1;
    }
    return 0;
}

static const StoreOps aged_ops = {
    .put = aged_put,
    .get = aged_get,
    .stat = aged_stat,
    .list = aged_list,
    .remove = aged_remove,
    .destroy = store_wrap_destroy,
};

/* ---- a repository ---- */

typedef struct Made
{
    Repository repo; /* repo.store is what is under test */
    Store *plain;    /* the innermost */
    AgedStore *aged;
    int64_t now_us;
} Made;

static void
must(int rc, const Error *err)
{
    if (rc < 0)
    {
        printf("Bail out! %s\n", err->msg);
        exit(1);
    }
}

static void
put_text(Made *made, const char *key)
{
    char text[] = "0123456789";
    struct iovec iov = {.iov_base = text, .iov_len = 10};
    StoreBody body = {.iov = &iov, .iov_count = 1, .bytes = 10};
    Error err = {0};

    must(store_put(made->plain, key, &body, &no_deadline, &err), &err);
}

static void
put_bundle(Made *made, const char *label, unsigned parts)
{
    char key[LAYOUT_KEY_MAX];

    for (unsigned i = 0; i < parts; i++)
        put_text(made, backup_part_key(label, 0, i, key));
    put_text(made, backup_index_key(label, 0, key));
}

static void
put_start(Made *made, const char *label)
{
    BackupStart start = {.host = "db1", .started_us = made->now_us - 40 * DAY};
    Error err = {0};

    (void) snprintf(start.label, sizeof start.label, "%s", label);
    must(backup_start_put(&made->repo, &start, &no_deadline, &err), &err);
}

static void
put_backup(
    Made *made, const char *label, int days, unsigned segno, const char *parent, const char *uses,
    unsigned parts)
{
    AUTO(manifest_writer_freep) ManifestWriter *w = NULL;
    char chain[1][BACKUP_LABEL_NAME_MAX] = {{0}};
    char used[1][BACKUP_LABEL_NAME_MAX] = {{0}};
    BackupHeader header = {
        .incremental = parent != NULL,
        .chain = chain,
        .chain_count = parent != NULL,
        .uses = used,
        .uses_count = uses != NULL,
        .system_identifier = SYSTEM_IDENTIFIER,
        .pg_major = 15,
        .segment_bytes = SEG_BYTES,
        .tli = 1,
        .start_lsn = segno * SEG + 100,
        .stop_lsn = (segno + 1) * SEG + 200,
        .started_us = made->now_us - days * DAY,
        .stopped_us = made->now_us - days * DAY + HOUR,
        .codec = "lz4"};
    uint64_t stored;
    Error err = {0};

    (void) snprintf(header.label, sizeof header.label, "%s", label);
    (void) snprintf(chain[0], sizeof chain[0], "%s", parent != NULL ? parent : "");
    (void) snprintf(used[0], sizeof used[0], "%s", uses != NULL ? uses : "");
    put_start(made, label);
    put_bundle(made, label, parts);
    must(manifest_writer_new((CodecSpec){.method = CODEC_LZ4}, NULL, &w, &err), &err);
    must(manifest_writer_put(w, &made->repo, &header, &no_deadline, &stored, &err), &err);
}

static void
put_wal(Made *made, TimelineId tli, SegmentNo segno)
{
    WalExtent extent = {.tli = tli, .segno = segno, .start = 0, .end = SEG_BYTES};
    char key[LAYOUT_KEY_MAX];

    put_text(made, layout_part_key(&extent, SEG_BYTES, key));
}

static void
put_piece(Made *made, SegmentNo segno, uint32_t start, uint32_t end)
{
    WalExtent extent = {.tli = 1, .segno = segno, .start = start, .end = end};
    char key[LAYOUT_KEY_MAX];

    put_text(made, layout_piece_key(&extent, SEG_BYTES, key));
}

static void
make_empty(Made *made)
{
    StoreWrap *wrap = NULL;
    Error err = {0};

    *made = (Made){.now_us = clock_wall_us()};
    must(store_memory_new(&made->plain, &err), &err);
    must(store_wrap_new(made->plain, &aged_ops, sizeof(AgedStore), &wrap, &err), &err);
    made->aged = (AgedStore *) wrap;
    made->aged->now_from = 50;
    made->repo = (Repository){
        .store = &wrap->base,
        .format = {.codec = {.method = CODEC_LZ4}},
        .description = {
            .cluster = "main",
            .system_identifier = SYSTEM_IDENTIFIER,
            .segment_bytes = SEG_BYTES,
            .part_bytes = SEG_BYTES}};

    put_text(made, "cluster.json");
}

/*
 * The schedule of the test: full 30 days, incremental 7, pitr 10. f1 and i1 are too old, f2 begins
 * the window, f3 is the newest.
 */
static void
make(Made *made, unsigned parts)
{
    char key[LAYOUT_KEY_MAX];

    make_empty(made);
    put_backup(made, "f1", 40, 5, NULL, "u-gone", parts);
    put_backup(made, "i1", 39, 8, "f1", NULL, 2);
    put_backup(made, "f2", 20, 20, NULL, "u-used", 2);
    put_backup(made, "i2", 6, 30, "f2", NULL, 2);
    put_backup(made, "f3", 1, 40, NULL, NULL, 2);
    put_start(made, "u-gone");
    put_bundle(made, "u-gone", 2);
    put_start(made, "u-used");
    put_bundle(made, "u-used", 2);
    put_start(made, "u-running");
    put_bundle(made, "u-running", 2);
    for (unsigned s = 3; s < 60; s++)
        put_wal(made, 1, s);
    put_wal(made, 2, 3);
    put_text(made, "wal/00000002/00000002.history");
    put_text(made, "wal/00000001/00000000/000000010000000000000005.00000028.backup");
    put_text(made, "wal/00000001/00000000/000000010000000000000014.00000028.backup");
    put_text(made, "wal/00000001/00000000/000000010000000000000006.partial");
    put_piece(made, 4, 0, 100);    /* with its WAL */
    put_piece(made, 30, 0, 100);   /* superseded */
    put_piece(made, 30, 100, 200); /* superseded */
    put_piece(made, 55, 0, 100);   /* only a moment ago */
    put_piece(made, 60, 0, 100);   /* the open segment */
    put_text(made, layout_gap_key(1, 1 * SEG, 3 * SEG, key));
    put_text(made, layout_gap_key(1, 61 * SEG, 62 * SEG, key));
    put_text(made, backup_pin_key("f3", made->now_us - DAY, key));
    put_text(made, backup_pin_key("f3", made->now_us + DAY, key));
    put_text(made, backup_pin_key("nobody", 0, key));
}

static void
unmake(Made *made)
{
    store_free(made->repo.store);
}

static RetentionRules
rules_of(const Made *made)
{
    return (RetentionRules){
        .full = {.ms = INT64_C(30) * 86400000},
        .incremental = {.ms = INT64_C(7) * 86400000},
        .pitr = {.ms = INT64_C(10) * 86400000},
        .now_us = made->now_us};
}

/* ---- what is there ---- */

typedef struct Names
{
    char (*keys)[LAYOUT_KEY_MAX];
    size_t count;
} Names;

static int
note_name(void *ctx, const StoreEntry *entry, Error *err UNUSED)
{
    Names *names = ctx;

    if (names->count == NAMES_MAX)
        abort();
    (void) snprintf(names->keys[names->count++], LAYOUT_KEY_MAX, "%s", entry->key);
    return 0;
}

static void
free_names(Names *names)
{
    free(names->keys);
}

static void
read_names(const Made *made, Names *names)
{
    StoreListOptions options = {.prefix = ""};
    Error err = {0};

    names->keys = calloc(NAMES_MAX, sizeof *names->keys);
    names->count = 0;
    must(store_list(made->plain, &options, note_name, names, &no_deadline, &err), &err);
}

static bool
has_name(const Names *names, const char *key)
{
    for (size_t i = 0; i < names->count; i++)
        if (strcmp(names->keys[i], key) == 0)
            return true;
    return false;
}

/* Whether the schedule of the test wants it gone. */
static bool
is_garbage(const Made *made, const char *key)
{
    static const char *const prefixes[] = {
        "backup/f1/",
        "backup/i1/",
        "backup/u-gone/",
        "live/00000001/000000010000000000000004/",
        "live/00000001/00000001000000000000001E/",
        "gap/00000001/0000000000100000-",
        "pin/nobody/",
        "wal/00000001/00000000/000000010000000000000005.",
        "wal/00000001/00000000/000000010000000000000006.",
        "wal/00000002/00000000/"};
    LayoutEntry parsed;
    BackupKey pin;

    for (size_t i = 0; i < ARRAY_COUNT(prefixes); i++)
        if (strncmp(key, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    if (backup_key_parse(key, &pin) && pin.kind == BACKUP_KEY_PIN)
        return pin.until_us != 0 && pin.until_us < made->now_us;
    return layout_parse(key, SEG_BYTES, &parsed) && parsed.kind == LAYOUT_SEGMENT &&
           parsed.extent.segno < 20;
}

/* Compares what is left with what was there; "except" stays although it is garbage. */
static bool
check_left(const Made *made, const Names *before, const char *except)
{
    AUTO(free_names) Names after = {0};
    bool good = true;

    read_names(made, &after);
    for (size_t i = 0; i < before->count; i++)
    {
        const char *key = before->keys[i];
        bool want = !is_garbage(made, key) || (except != NULL && strstr(key, except) != NULL);

        if (has_name(&after, key) != want)
        {
            diag("%s is %s", key, want ? "gone" : "still there");
            good = false;
        }
    }
    for (size_t i = 0; i < after.count; i++)
        if (!has_name(before, after.keys[i]) && strncmp(after.keys[i], "state/", 6) != 0)
        {
            diag("%s is new", after.keys[i]);
            good = false;
        }
    return good;
}

static int
expire(Made *made, bool dry_run, Expire *x, Error *err)
{
    RetentionRules rules = rules_of(made);

    *err = (Error){0};
    if (expire_plan(&made->repo, &rules, TIMEOUT_MS, 1, x, err) < 0)
        return -1;
    if (!dry_run && expire_check_clock(x, err) < 0)
        return -1;
    return expire_run(x, dry_run, err);
}

/* Every backup that can be seen has all that it needs. */
static bool
check_whole(Made *made, const char *label, uint64_t n)
{
    AUTO(backup_list_reset) BackupList list = {0};
    AUTO(free_names) Names names = {0};
    bool good = true;
    Error err = {0};

    must(backup_list_read(&made->repo, TIMEOUT_MS, 1, &list, &err), &err);
    read_names(made, &names);
    for (size_t i = 0; i < list.count; i++)
    {
        const Backup *b = &list.items[i];
        char key[LAYOUT_KEY_MAX];

        if (b->state != BACKUP_COMPLETE)
            continue;
        good = good && !b->chain_broken && has_name(&names, backup_part_key(b->label, 0, 1, key)) &&
               has_name(&names, backup_start_key(b->label, key));
        if (b->header.uses_count > 0)
            good = good && has_name(&names, backup_part_key(b->header.uses[0], 0, 1, key));
        for (Lsn s = b->header.start_lsn / SEG; s <= b->header.stop_lsn / SEG; s++)
        {
            WalExtent extent = {.tli = 1, .segno = s, .start = 0, .end = SEG_BYTES};

            good = good && has_name(&names, layout_part_key(&extent, SEG_BYTES, key));
        }
        if (!good)
        {
            diag("%s, call %d: %s lacks something", label, (int) n, b->label);
            return false;
        }
    }
    return good;
}

/* ---- tests ---- */

static void
test_exact(void)
{
    static const ExpireTally want[EXPIRE_CLASS_COUNT] = {
        /* two manifests, two starts, 2501 parts and an index, 2 and an index */
        [EXPIRE_BACKUPS] = {.objects = 2 + 2 + 2502 + 3},
        [EXPIRE_ABANDONED] = {.objects = 4},
        /* 17 segments, one of a dead branch, backup history, partial */
        [EXPIRE_WAL] = {.objects = 17 + 1 + 2},
        [EXPIRE_PIECES] = {.objects = 1},
        [EXPIRE_SUPERSEDED] = {.objects = 2},
        [EXPIRE_PINS] = {.objects = 2},
        [EXPIRE_GAPS] = {.objects = 1}};
    AUTO(free_names) Names before = {0};
    AUTO(free_names) Names same = {0};
    Made made;
    Error err = {0};

    make(&made, 2501);
    read_names(&made, &before);
    for (int pass = 0; pass < 3; pass++)
    {
        static const char *const passes[] = {"dry run", "run", "second run"};
        AUTO(expire_reset) Expire x = {0};

        ok(expire(&made, pass == 0, &x, &err) == 0, "%s %s", passes[pass], err.msg);
        for (size_t c = 0; c < EXPIRE_CLASS_COUNT; c++)
            ok(x.of_class[c].objects == (pass < 2 ? want[c].objects : 0), "%s: %s, %d",
               passes[pass], expire_class_name((ExpireClass) c), (int) x.of_class[c].objects);
        ok(x.denied == 0 && x.failed == 0, "%s: nothing failed", passes[pass]);
        if (pass > 0)
        {
            ok(check_left(&made, &before, NULL), "%s: exactly what is to go has gone",
               passes[pass]);
            continue;
        }
        read_names(&made, &same);
        ok(same.count == before.count, "a dry run removes and writes nothing");
    }
    unmake(&made);
}

/* Object lock answers AccessDenied for a key: it is counted, and what needs it stays. */
static void
test_denied(void)
{
    static const struct
    {
        const char *label, *deny, *stays;
        uint64_t denied;
        bool chain;
    } rows[] = {
        {"a segment", "000000010000000000000007", "000000010000000000000007", 1, false},
        {"a piece", "live/00000001/00000001000000000000001E/00000000", "/00000000-00000064", 1,
         false},
        {"a manifest", "backup/i1/manifest", NULL, 1, true},
    };

    for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
    {
        AUTO(expire_reset) Expire x = {0};
        AUTO(free_names) Names before = {0};
        AUTO(free_names) Names after = {0};
        Made made;
        Error err = {0};

        make(&made, 2);
        read_names(&made, &before);
        made.aged->deny = rows[i].deny;
        ok(expire(&made, false, &x, &err) == 0 && x.denied == rows[i].denied && x.failed == 0,
           "locked: %s, %d %s", rows[i].label, (int) x.denied, err.msg);
        ok(x.first_denied.kind == ERROR_DENIED && strstr(x.first_denied.msg, rows[i].deny) != NULL,
           "locked: %s is told: %s", rows[i].label, x.first_denied.msg);
        ok(check_whole(&made, rows[i].label, 0), "locked: %s: nothing lacks anything",
           rows[i].label);
        read_names(&made, &after);
        if (rows[i].chain)
            ok(has_name(&after, "backup/f1/manifest") &&
                   has_name(&after, "backup/u-gone/bundle/00000000/00000000") &&
                   has_name(&after, "wal/00000001/00000000/000000010000000000000005") &&
                   !has_name(&after, "wal/00000001/00000000/000000010000000000000004"),
               "locked: a manifest keeps its chain and WAL");
        else if (i == 0)
            ok(check_left(&made, &before, rows[i].stays), "locked: everything else has gone");
        unmake(&made);
    }
}

/* A bundle that stays keeps the label taken. */
static void
test_denied_part(void)
{
    AUTO(expire_reset) Expire x = {0};
    AUTO(free_names) Names after = {0};
    Made made;
    Error err = {0};

    make(&made, 2);
    made.aged->deny = "backup/f1/bundle/00000000/00000001";
    ok(expire(&made, false, &x, &err) == 0 && x.denied == 1, "locked: a part %s", err.msg);
    read_names(&made, &after);
    ok(has_name(&after, "backup/f1/start") && !has_name(&after, "backup/f1/manifest") &&
           !has_name(&after, "backup/f1/bundle/00000000/00000000"),
       "locked: with a part the start object stays, the manifest does not");
    unmake(&made);
}

/* Each call to the store fails in turn, before or after it was done, once or from then on. */
static void
test_faults(void)
{
    static const struct
    {
        const char *label;
        bool after, keep;
        ErrorKind kind;
    } rows[] = {
        {"once", false, false, ERROR_TRANSIENT},
        {"once, and it was done", true, false, ERROR_TRANSIENT},
        {"for ever", false, true, ERROR_TRANSIENT},
        {"for ever, and they were done", true, true, ERROR_TIMEOUT},
        {"refused once", false, false, ERROR_DENIED},
    };

    for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
    {
        bool whole = true, told = true, repaired = true;
        uint64_t n = 0, calls = 0;

        do
        {
            AUTO(expire_reset) Expire x = {0};
            AUTO(expire_reset) Expire again = {0};
            AUTO(free_names) Names before = {0};
            StoreFaultPlan plan = {
                .fail_at = ++n,
                .kind = rows[i].kind,
                .after = rows[i].after,
                .keep_failing = rows[i].keep};
            Store *fault;
            Made made;
            Error err = {0};
            int rc;

            make(&made, 2);
            read_names(&made, &before);
            must(store_fault_new(made.repo.store, &plan, &fault, &err), &err);
            made.repo.store = fault;
            rc = expire(&made, false, &x, &err);
            calls = store_fault_calls(fault);
            made.repo.store = &made.aged->wrap.base;
            whole = check_whole(&made, rows[i].label, n) && whole;
            /* the clock's object, and tidying, may be refused without harm */
            told = told && (rc < 0 || x.failed + x.denied > 0 || check_left(&made, &before, NULL));
            /* what has lost its manifest is an abandoned backup for the next */
            repaired = expire(&made, false, &again, &err) == 0 &&
                       check_left(&made, &before, NULL) && repaired;
            made.repo.store = fault;
            unmake(&made);
        } while (calls >= n); /* until a run makes fewer */
        ok(calls > 20, "faults %s: %d calls", rows[i].label, (int) calls);
        ok(whole, "faults %s: no backup that can be seen lacks anything", rows[i].label);
        ok(told, "faults %s: they are told", rows[i].label);
        ok(repaired, "faults %s: the next run does the rest", rows[i].label);
    }
}

/* A backup that was taken for abandoned is looked at again before it is removed. */
static void
test_revived(void)
{
    AUTO(expire_reset) Expire x = {0};
    AUTO(free_names) Names after = {0};
    RetentionRules rules;
    Made made;
    Error err = {0};

    make(&made, 2);
    rules = rules_of(&made);
    must(expire_plan(&made.repo, &rules, TIMEOUT_MS, 1, &x, &err), &err);
    made.aged->young = "u-gone/bundle/00000000/00000001";
    ok(expire_run(&x, false, &err) == 0, "expire while an old backup goes on %s", err.msg);
    read_names(&made, &after);
    ok(has_name(&after, "backup/u-gone/start") &&
           has_name(&after, "backup/u-gone/bundle/00000000/00000000"),
       "it is left alone");
    unmake(&made);
}

/* A backup that appears behind the plan's back, with WAL of its own. */
static void
test_appears(void)
{
    AUTO(expire_reset) Expire x = {0};
    AUTO(free_names) Names before = {0};
    RetentionRules rules;
    Made made;
    Error err = {0};

    make(&made, 2);
    rules = rules_of(&made);
    must(expire_plan(&made.repo, &rules, TIMEOUT_MS, 1, &x, &err), &err);
    put_backup(&made, "f4", 0, 50, NULL, NULL, 2);
    read_names(&made, &before);
    ok(expire_run(&x, false, &err) == 0 && check_left(&made, &before, NULL),
       "what appears during a run is not touched %s", err.msg);
    unmake(&made);
}

/* A pin that appears behind the plan's back keeps the backup, its chain and their WAL. */
static void
test_pinned_meanwhile(void)
{
    AUTO(expire_reset) Expire x = {0};
    AUTO(free_names) Names after = {0};
    RetentionRules rules;
    Made made;
    char key[LAYOUT_KEY_MAX];
    Error err = {0};

    make(&made, 2);
    rules = rules_of(&made);
    must(expire_plan(&made.repo, &rules, TIMEOUT_MS, 1, &x, &err), &err);
    put_text(&made, backup_pin_key("i1", made.now_us + DAY, key));
    ok(expire_run(&x, false, &err) == 0, "expire while a backup is pinned %s", err.msg);
    read_names(&made, &after);
    ok(has_name(&after, "backup/i1/manifest") && has_name(&after, "backup/f1/manifest") &&
           has_name(&after, "backup/u-gone/bundle/00000000/00000000"),
       "it stays, and what it needs");
    ok(has_name(&after, "wal/00000001/00000000/000000010000000000000005") &&
           has_name(&after, "wal/00000001/00000000/000000010000000000000008") &&
           !has_name(&after, "wal/00000001/00000000/00000001000000000000000A"),
       "so does the WAL of both, and no other");
    unmake(&made);
}

static void
test_damaged(void)
{
    AUTO(expire_reset) Expire x = {0};
    AUTO(free_names) Names before = {0};
    AUTO(free_names) Names after = {0};
    Made made;
    Error err = {0};
    char key[LAYOUT_KEY_MAX];

    make(&made, 2);
    put_text(&made, backup_manifest_key("broken", key));
    read_names(&made, &before);
    ok(expire(&made, false, &x, &err) == 0 && x.plan.damaged_count == 1 && x.plan.wal_unbounded,
       "a damaged manifest %s", err.msg);
    read_names(&made, &after);
    ok(after.count == before.count - 5, "only superseded pieces and pins go: %d",
       (int) (before.count - after.count));
    unmake(&made);
}

static void
test_clock(void)
{
    AUTO(expire_reset) Expire x = {0};
    RetentionRules rules;
    Made made;
    Error err = {0};

    make(&made, 2);
    rules = rules_of(&made);
    must(expire_plan(&made.repo, &rules, TIMEOUT_MS, 1, &x, &err), &err);
    ok(expire_check_clock(&x, &err) == 0, "the store's clock is ours %s", err.msg);
    made.aged->ahead_us = 20 * 60 * INT64_C(1000000);
    ok(expire_check_clock(&x, &err) == -1 && err.kind == ERROR_IO &&
           strstr(err.msg, "ahead") != NULL,
       "it is ahead: %s", err.msg);
    made.aged->ahead_us = -20 * 60 * INT64_C(1000000);
    ok(expire_check_clock(&x, &err) == -1 && err.kind == ERROR_IO &&
           strstr(err.msg, "behind") != NULL,
       "it is behind: %s", err.msg);
    unmake(&made);
}

static void
test_delete(void)
{
    AUTO(expire_reset) Expire x = {0};
    AUTO(free_names) Names after = {0};
    RetentionRules rules;
    Made made;
    Error err = {0};
    size_t i;

    make(&made, 2);
    rules = rules_of(&made);
    must(expire_plan(&made.repo, &rules, TIMEOUT_MS, 1, &x, &err), &err);
    i = (size_t) (backup_list_find(&x.list, "f2") - x.list.items);
    ok(expire_run_backup(&x, i, false, &err) == 0 && x.failed == 0, "delete f2 %s", err.msg);
    read_names(&made, &after);
    ok(!has_name(&after, "backup/f2/manifest") && !has_name(&after, "backup/i2/manifest") &&
           !has_name(&after, "backup/f2/start") && has_name(&after, "backup/f1/manifest") &&
           has_name(&after, "backup/f3/manifest") && has_name(&after, "backup/u-used/start") &&
           has_name(&after, "wal/00000001/00000000/000000010000000000000003"),
       "it and what is built on it have gone, nothing else");
    unmake(&made);
}

/*
 * Much WAL and many backups, with four folders of WAL (4096 segments of 1 MiB) and the backups
 * f100, f101 ... of which two in the middle stay. A dry run lists no folder that goes as a whole,
 * and what it counts is what a run removes.
 */
static void
test_requests(void)
{
    enum
    {
        BACKUPS = 40,
        LOG = 4096,
        KEPT_FROM = 2 * LOG + 20
    };
    static const char *const passes[] = {"dry run", "run"};
    ExpireTally removed[ARRAY_COUNT(passes)][EXPIRE_CLASS_COUNT];
    uint64_t lists[ARRAY_COUNT(passes)];
    Store *counted = NULL;
    Made made;
    char label[16], key[LAYOUT_KEY_MAX];
    Error err = {0};

    make_empty(&made);
    made.aged->now_from = UINT64_MAX;
    for (unsigned i = 0; i < BACKUPS; i++)
    {
        bool kept = i == BACKUPS / 2;

        (void) snprintf(label, sizeof label, "f%u", 100 + i);
        put_backup(
            &made, label, kept ? 20 : 40 + (int) i, kept ? KEPT_FROM : 10 * i, NULL, NULL, 1);
    }
    put_backup(&made, "g", 1, 3 * LOG + 10, NULL, NULL, 1);
    for (SegmentNo s = 0; s < 4 * LOG; s += s % LOG == 600 ? LOG - 600 : 1)
        put_wal(&made, 1, s);
    for (SegmentNo s = KEPT_FROM - 1; s < 3 * LOG; s++)
        if (s % LOG > 600)
            put_wal(&made, 1, s);
    put_text(&made, "wal/00000001/00000001/000000010000000100000005.00000028.backup");
    put_piece(&made, 1, 0, 100);
    put_piece(&made, KEPT_FROM + 1, 0, 100);
    put_text(&made, backup_pin_key("g", made.now_us + DAY, key));
    must(store_count_new(made.repo.store, &counted, &err), &err);
    made.repo.store = counted;
    for (size_t pass = 0; pass < ARRAY_COUNT(passes); pass++)
    {
        AUTO(expire_reset) Expire x = {0};

        lists[pass] = store_count_read(counted).lists;
        ok(expire(&made, pass == 0, &x, &err) == 0 && x.failed == 0, "much WAL, %s %s",
           passes[pass], err.msg);
        memcpy(removed[pass], x.of_class, sizeof x.of_class);
        lists[pass] = store_count_read(counted).lists - lists[pass];
    }
    ok(memcmp(removed[0], removed[1], sizeof removed[0]) == 0, "a dry run tells what is removed");
    ok(removed[1][EXPIRE_BACKUPS].objects == (BACKUPS - 1) * 4, "backups: %d",
       (int) removed[1][EXPIRE_BACKUPS].objects);
    /* 601 in each of the first two folders, those in front of the kept backup in the third */
    ok(removed[1][EXPIRE_WAL].objects == 601 + 601 + 20 + 1, "WAL: %d",
       (int) removed[1][EXPIRE_WAL].objects);
    ok(removed[1][EXPIRE_PIECES].objects == 1 && removed[1][EXPIRE_SUPERSEDED].objects == 1,
       "pieces");
    /* the names in steps of a thousand, a few folders, and nothing for each backup or folder */
    ok(lists[0] <= 30, "dry run: %d listings", (int) lists[0]);
    ok(lists[1] <= lists[0] + 3, "run: %d listings", (int) lists[1]);
    unmake(&made);
}

int
main(void)
{
    test_requests();
    test_exact();
    test_denied();
    test_denied_part();
    test_faults();
    test_revived();
    test_appears();
    test_pinned_meanwhile();
    test_damaged();
    test_clock();
    test_delete();
    return done_testing();
}
