/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Finding recovery targets in repositories in memory, whose WAL is made here or was written by a
 * real server.
 */
#include "walrestore/target.h"

#include <inttypes.h>
#include <stdio.h>

#include "pg/wal_scan.h"
#include "repo/layout.h"
#include "tap.h"
#include "vector.h"
#include "wal_build.h"

#define SEG 0x100000u
#define S(n) ((Lsn) (n) *SEG)
#define SEC INT64_C(1000000)
#define T(n) (INT64_C(1700000000) * SEC + (n) *SEC)
#define FIRST 16u
#define SEGMENTS 14u
#define BACKUPS 4
#define EVERY (SEG / 4) /* between commits */

static const Deadline no_limit = {.at_ms = INT64_MAX};

/* Lists here are made by hand: nothing of what reads them from a repository is needed. */
__attribute__((weak)) const Backup *
backup_list_find(const BackupList *list, const char *label)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].label, label) == 0)
            return &list->items[i];
    return NULL;
}

__attribute__((weak)) const Backup *
backup_list_newest(const BackupList *list)
{
    return list->count > 0 ? &list->items[list->count - 1] : NULL;
}

typedef struct World
{
    Repository repo;
    ObjectFormat format;
    WalInventory inv;
    Backup backups[BACKUPS];
    BackupList list;
    atomic_bool cancel;
} World;

static void
world_open(World *w, uint64_t system_identifier)
{
    Error err;

    memset(w, 0, sizeof *w);
    w->format.codec.method = CODEC_LZ4;
    if (store_memory_new(&w->repo.store, &err) < 0)
        abort();
    w->repo.description.segment_bytes = SEG;
    w->repo.description.part_bytes = 16 * SEG;
    w->repo.description.system_identifier = system_identifier;
    w->list.items = w->backups;
}

static void
world_close(World *w)
{
    wal_inventory_reset(&w->inv);
    store_free(w->repo.store);
}

static void
world_put(World *w, const char *key, const void *data, size_t len)
{
    ObjectPutResult result;
    Error err;

    if (object_put_bytes(w->repo.store, &w->format, key, data, len, &no_limit, &result, &err) < 0)
    {
        diag("put %s: %s", key, err.msg);
        abort();
    }
}

/* Segments first .. last - 1 of tli, of what b has; end: of the last one, as a piece; 0: whole. */
static void
world_put_wal(
    World *w, const WalBuild *b, TimelineId tli, SegmentNo first, SegmentNo last, uint32_t end)
{
    for (SegmentNo s = first; s < last; s++)
    {
        bool piece = s + 1 == last && end != 0;
        WalExtent extent = {.tli = tli, .segno = s, .end = piece ? end : SEG};
        char key[LAYOUT_KEY_MAX];

        world_put(
            w, piece ? layout_piece_key(&extent, SEG, key) : layout_part_key(&extent, SEG, key),
            wal_build_byte(b, S(s)), extent.end);
    }
}

static void
world_list(World *w)
{
    Error err;

    wal_inventory_reset(&w->inv);
    wal_inventory_init(&w->inv, SEG);
    if (wal_inventory_list(&w->repo, -1, &w->inv, &err) < 0 ||
        wal_inventory_read_histories(&w->repo, -1, &w->inv, &err) < 0)
    {
        diag("list: %s", err.msg);
        abort();
    }
}

static void
world_add_backup(World *w, const char *label, TimelineId tli, Lsn start, Lsn stop, int64_t at_us)
{
    Backup *b = &w->backups[w->list.count++];

    *b = (Backup){.state = BACKUP_COMPLETE, .parent = SIZE_MAX};
    (void) snprintf(b->label, sizeof b->label, "%s", label);
    b->header.tli = tli;
    b->header.start_lsn = start;
    b->header.stop_lsn = stop;
    b->header.stopped_us = at_us;
}

static int
world_find(World *w, const RecoveryTarget *target, unsigned jobs, TargetFound *found, Error *err)
{
    TargetSearch search = {
        .repo = &w->repo,
        .backups = &w->list,
        .inv = &w->inv,
        .jobs = jobs,
        .timeout_ms = -1,
        .cancel = &w->cancel};

    return target_find(&search, target, found, err);
}

/* ---- one timeline ---- */

/*
 * Four commits a segment, xid 1000 + n at T(n); none in segments IDLE .. BUSY - 1. The last segment
 * is a piece that ends within a record.
 */
#define IDLE (FIRST + 6)
#define BUSY (FIRST + 10)
#define COMMITS ((SEGMENTS - 4) * 4)

typedef struct Line
{
    WalBuild b;
    WalEvent commits[COMMITS];
    Lsn point[3];     /* ends of the restore points */
    Lsn last;         /* start of the last whole record */
    Lsn end;          /* of it */
    uint32_t written; /* bytes of the last segment */
} Line;

static void
line_commit(Line *l, uint32_t n)
{
    l->commits[n].lsn = wal_build_commit(&l->b, 1000 + n, T(n));
    l->commits[n].end = l->b.at;
}

static void
line_make(Line *l)
{
    uint32_t n = 0;

    wal_build_init(&l->b, S(FIRST), SEG, SEGMENTS);
    for (SegmentNo s = FIRST; s < FIRST + SEGMENTS; s++)
    {
        for (Lsn at = S(s) + EVERY; at <= S(s + 1); at += EVERY)
        {
            if (s == FIRST + SEGMENTS - 1 && at == S(s + 1))
                break;
            /* the last of a segment lies over its end */
            wal_build_fill_to(&l->b, at - (at == S(s + 1) ? 24 : 4096));
            if (s < IDLE || s >= BUSY)
                line_commit(l, n++);
            if (n == 5 || n == 21)
                (void) wal_build_abort(&l->b, 77, T(n - 1) + 1000);
            if (n == 6 || n == 22 || n == 23)
            {
                (void) wal_build_point(&l->b, "twice", T(n - 1) + 2000);
                l->point[n == 6 ? 0 : n - 21] = l->b.at;
            }
        }
    }
    if (n + 1 != COMMITS)
        abort();
    l->last = l->b.prev;
    l->end = l->b.at;
    (void) wal_build_filler(&l->b, 3000);
    l->written = (uint32_t) (l->b.at - 1000 - S(FIRST + SEGMENTS - 1));
}

/* What of the times that were asked for is told. */
typedef struct Case
{
    const char *label;
    RecoveryTarget target;
    const char *backup; /* NULL: an error */
    int commit;         /* where it stops, -1: see lsn */
    bool behind;        /* that commit */
    Lsn lsn;
    ErrorKind kind;
    const char *msg, *hint; /* or the text and the note */
} Case;

static void
run_case(World *w, const Line *l, const Case *c, unsigned jobs)
{
    AUTO(target_found_reset) TargetFound found = {0};
    Error err = {0};
    int rc = world_find(w, &c->target, jobs, &found, &err);

    if (c->backup == NULL)
    {
        if (!ok(rc < 0 && err.kind == c->kind && strstr(err.msg, c->msg) != NULL &&
                    (c->hint == NULL || strstr(err.hint, c->hint) != NULL),
                "refused with %u jobs: %s", jobs, c->label))
            diag("%d %s / %s / %s", rc, err.msg, err.hint, found.text);
        return;
    }
    if (!ok(rc == 0 && strcmp(w->list.items[found.plan.backup].label, c->backup) == 0,
            "backup with %u jobs: %s", jobs, c->label))
    {
        diag("%d %s / %s", rc, err.msg, err.hint);
        return;
    }

    const WalEvent *commit = c->commit >= 0 ? &l->commits[c->commit] : NULL;
    Lsn want = commit == NULL ? c->lsn : c->behind ? commit->end : commit->lsn;

    if (!ok(found.lsn == want && found.replay_bytes == want - found.plan.wal_start &&
                (commit == NULL ||
                 (found.at_us == T(c->commit) && found.xid == 1000 + (uint32_t) c->commit)),
            "where with %u jobs: %s", jobs, c->label))
        diag(
            "%" PRIX64 " instead of %" PRIX64 ", xid %" PRIu32 ": %s", found.lsn, want, found.xid,
            found.text);
    if (!ok((c->msg == NULL || strstr(found.text, c->msg) != NULL) &&
                (c->hint != NULL ? strstr(found.note, c->hint) != NULL : found.note[0] == '\0'),
            "what is told: %s", c->label))
        diag("%s / %s", found.text, found.note);
}

static void
run_cases(World *w, const Line *l, const Case *cases, size_t count)
{
    static const unsigned jobs[] = {1, 3, 16};

    for (size_t j = 0; j < ARRAY_COUNT(jobs); j++)
        for (size_t i = 0; i < count; i++)
            run_case(w, l, &cases[i], jobs[j]);
}

#define COMMIT_B 13 /* the first behind backup b */

static void
line_add_backups(World *w, const Line *l)
{
    /* they stop where a commit begins */
    world_add_backup(w, "a", 1, l->commits[0].lsn - 1024, l->commits[2].lsn, T(1) + SEC / 2);
    world_add_backup(
        w, "b", 1, l->commits[COMMIT_B - 2].lsn - 1024, l->commits[COMMIT_B].lsn,
        T(COMMIT_B - 1) + SEC / 2);
}

static void
test_line(void)
{
    static Line l;
    World w;
    char last_lsn[64], lsn[LSN_TEXT_BYTES];

    line_make(&l);
    (void) snprintf(
        last_lsn, sizeof last_lsn, "--target-lsn=%s", lsn_format(l.last, lsn, sizeof lsn));
    world_open(&w, l.b.system_identifier);
    world_put_wal(&w, &l.b, 1, FIRST, FIRST + SEGMENTS, l.written);
    line_add_backups(&w, &l);
    world_list(&w);

    int newest = COMMITS - 2;
    Case cases[] = {
        {"latest",
         {.kind = RECOVERY_LATEST},
         "b",
         -1,
         false,
         l.end,
         0,
         "the end of WAL on timeline 1, last commit 2023-11-14",
         NULL},
        {"latest from the first",
         {.kind = RECOVERY_LATEST, .label = "a"},
         "a",
         -1,
         false,
         l.end,
         0,
         NULL,
         NULL},
        {"immediate",
         {.kind = RECOVERY_IMMEDIATE},
         "b",
         -1,
         false,
         l.commits[COMMIT_B].lsn,
         0,
         "backup \"b\" is consistent",
         NULL},
        {"immediate from the first",
         {.kind = RECOVERY_IMMEDIATE, .label = "a"},
         "a",
         -1,
         false,
         l.commits[2].lsn,
         0,
         NULL,
         NULL},

        {"time of a commit, inclusive",
         {.kind = RECOVERY_TIME, .time_us = T(8)},
         "a",
         9,
         false,
         0,
         0,
         "up to 2023-11-14 22:13:28.000 UTC, in front of the commit of transaction 1009",
         NULL},
        {"time of a commit, exclusive",
         {.kind = RECOVERY_TIME, .time_us = T(8), .exclusive = true},
         "a",
         8,
         false,
         0,
         0,
         "before 2023",
         NULL},
        {"time between commits",
         {.kind = RECOVERY_TIME, .time_us = T(8) + 5},
         "a",
         9,
         false,
         0,
         0,
         NULL,
         NULL},
        {"time of the second backup",
         {.kind = RECOVERY_TIME, .time_us = T(COMMIT_B - 1) + SEC / 2},
         "b",
         COMMIT_B,
         false,
         0,
         0,
         NULL,
         NULL},
        {"a moment before",
         {.kind = RECOVERY_TIME, .time_us = T(COMMIT_B - 1) + SEC / 2 - 1},
         "a",
         COMMIT_B,
         false,
         0,
         0,
         NULL,
         NULL},
        {"time of the last commit before idle segments",
         {.kind = RECOVERY_TIME, .time_us = T(23)},
         "b",
         24,
         false,
         0,
         0,
         NULL,
         NULL},
        {"time behind idle segments",
         {.kind = RECOVERY_TIME, .time_us = T(30)},
         "b",
         31,
         false,
         0,
         0,
         NULL,
         NULL},
        {"the last time that can be reached",
         {.kind = RECOVERY_TIME, .time_us = T(newest) - 1},
         "b",
         newest,
         false,
         0,
         0,
         NULL,
         NULL},
        {"the newest commit, exclusive",
         {.kind = RECOVERY_TIME, .time_us = T(newest), .exclusive = true},
         "b",
         newest,
         false,
         0,
         0,
         NULL,
         NULL},
        {"the newest commit, inclusive",
         {.kind = RECOVERY_TIME, .time_us = T(newest)},
         NULL,
         0,
         false,
         0,
         ERROR_USAGE,
         "the newest commit on timeline 1 up to the end of WAL at",
         "Without a target"},
        {"a time to come",
         {.kind = RECOVERY_TIME, .time_us = T(1000000)},
         NULL,
         0,
         false,
         0,
         ERROR_USAGE,
         "cannot be reached",
         "Without a target"},
        {"the newest commit, exclusive, and a little",
         {.kind = RECOVERY_TIME, .time_us = T(newest) + 1, .exclusive = true},
         NULL,
         0,
         false,
         0,
         ERROR_USAGE,
         "is of 2023-11-14 22:13:58.000 UTC",
         NULL},
        {"a time before all",
         {.kind = RECOVERY_TIME, .time_us = T(0)},
         NULL,
         0,
         false,
         0,
         ERROR_USAGE,
         "before the first backup",
         "timeline 1: between"},

        {"a transaction",
         {.kind = RECOVERY_XID, .xid = 1020},
         "b",
         20,
         true,
         0,
         0,
         "behind the commit of transaction 1020",
         NULL},
        {"a transaction, exclusive",
         {.kind = RECOVERY_XID, .xid = 1020, .exclusive = true},
         "b",
         20,
         false,
         0,
         0,
         "in front of the commit",
         NULL},
        {"one over the end of a segment",
         {.kind = RECOVERY_XID, .xid = 1019},
         "b",
         19,
         true,
         0,
         0,
         NULL,
         NULL},
        {"one in front of the second backup",
         {.kind = RECOVERY_XID, .xid = 1007},
         "a",
         7,
         true,
         0,
         0,
         NULL,
         NULL},
        {"one over the end of a segment in front of it",
         {.kind = RECOVERY_XID, .xid = 1003},
         "a",
         3,
         true,
         0,
         0,
         NULL,
         NULL},
        {"one within the second backup",
         {.kind = RECOVERY_XID, .xid = 1000 + COMMIT_B - 1},
         "a",
         COMMIT_B - 1,
         true,
         0,
         0,
         NULL,
         NULL},
        {"the first behind it",
         {.kind = RECOVERY_XID, .xid = 1000 + COMMIT_B},
         "b",
         COMMIT_B,
         true,
         0,
         0,
         NULL,
         NULL},
        {"the last",
         {.kind = RECOVERY_XID, .xid = 1000 + COMMITS - 2},
         "b",
         newest,
         true,
         0,
         0,
         NULL,
         NULL},
        {"one within the first backup",
         {.kind = RECOVERY_XID, .xid = 1001},
         NULL,
         0,
         false,
         0,
         ERROR_USAGE,
         "before backup \"a\" is consistent",
         "timeline 1"},
        {"one in front of all backups",
         {.kind = RECOVERY_XID, .xid = 999},
         NULL,
         0,
         false,
         0,
         ERROR_NOT_FOUND,
         "there is no end of transaction 999",
         "timeline 1"},
        {"one of the first backup, from the second",
         {.kind = RECOVERY_XID, .xid = 1007, .label = "b"},
         NULL,
         0,
         false,
         0,
         ERROR_NOT_FOUND,
         "no end of transaction 1007",
         NULL},
        {"one whose xid came round: the newer one",
         {.kind = RECOVERY_XID, .xid = 77},
         "b",
         -1,
         false,
         0,
         0,
         "behind the abort of transaction 77",
         "rolled back"},
        {"both from the first backup",
         {.kind = RECOVERY_XID, .xid = 77, .label = "a"},
         "a",
         -1,
         false,
         0,
         0,
         "abort",
         "There are 2 of them behind backup \"a\""},

        {"a name that is there several times",
         {.kind = RECOVERY_NAME, .name = "twice"},
         "b",
         -1,
         false,
         l.point[1],
         0,
         "restore point \"twice\"",
         "There are 2 of them"},
        {"the same from the first backup",
         {.kind = RECOVERY_NAME, .name = "twice", .label = "a"},
         "a",
         -1,
         false,
         l.point[0],
         0,
         NULL,
         "There are 3 of them"},
        {"a name that is not there",
         {.kind = RECOVERY_NAME, .name = "once"},
         NULL,
         0,
         false,
         0,
         ERROR_NOT_FOUND,
         "no restore point \"once\" in the WAL of timeline 1",
         "timeline 1"},

        {"LSN of a record",
         {.kind = RECOVERY_LSN, .lsn = l.commits[20].lsn},
         "b",
         -1,
         false,
         l.commits[20].lsn,
         0,
         "behind the first record at LSN",
         NULL},
        {"LSN within a record",
         {.kind = RECOVERY_LSN, .lsn = l.commits[20].lsn + 3, .exclusive = true},
         "b",
         -1,
         false,
         l.commits[20].lsn + 3,
         0,
         "in front of the first record",
         NULL},
        {"LSN of the last whole record",
         {.kind = RECOVERY_LSN, .lsn = l.last},
         "b",
         -1,
         false,
         l.last,
         0,
         NULL,
         NULL},
        {"LSN behind its beginning",
         {.kind = RECOVERY_LSN, .lsn = l.last + 1},
         NULL,
         0,
         false,
         0,
         ERROR_USAGE,
         "no record begins there or behind it",
         last_lsn},
        {"LSN of a record that is cut",
         {.kind = RECOVERY_LSN, .lsn = l.end},
         NULL,
         0,
         false,
         0,
         ERROR_USAGE,
         "no record begins",
         last_lsn},
        {"LSN behind all WAL",
         {.kind = RECOVERY_LSN, .lsn = S(FIRST + SEGMENTS)},
         NULL,
         0,
         false,
         0,
         ERROR_USAGE,
         "the WAL of timeline 1 ends at",
         "timeline 1"},
        {"LSN where a backup stopped, exclusive",
         {.kind = RECOVERY_LSN, .lsn = l.commits[COMMIT_B].lsn, .exclusive = true},
         "b",
         -1,
         false,
         l.commits[COMMIT_B].lsn,
         0,
         NULL,
         NULL},
    };

    /* where the aborts are was not kept: the records behind commits 4 and 20 */
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        if (cases[i].target.kind == RECOVERY_XID && cases[i].target.xid == 77)
            cases[i].lsn = l.commits[cases[i].target.label != NULL ? 4 : 20].end + 40;
    run_cases(&w, &l, cases, ARRAY_COUNT(cases));

    atomic_store(&w.cancel, true);
    for (int kind = RECOVERY_LATEST; kind < RECOVERY_IMMEDIATE; kind++)
    {
        AUTO(target_found_reset) TargetFound found = {0};
        RecoveryTarget target = {
            .kind = (RecoveryTargetKind) kind,
            .time_us = T(20),
            .lsn = S(FIRST + 6),
            .xid = 1020,
            .name = "x"};
        Error err;

        ok(world_find(&w, &target, 2, &found, &err) < 0 && err.kind == ERROR_CANCELED,
           "canceled: kind %d", kind);
    }
    world_close(&w);
    wal_build_reset(&l.b);
}

/* ---- as soon as it is consistent ---- */

/* Only where nothing follows the backup must the end of it be named. */
static void
test_immediate(void)
{
    static Line l;
    static const struct
    {
        const char *label;
        bool at_end; /* the backup stops where the last whole record ends */
        bool cut;    /* there is the beginning of another one */
    } cases[] = {
        {"records follow", false, true},
        {"the beginning of a record follows", true, true},
        {"nothing follows", true, false},
    };

    line_make(&l);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(target_found_reset) TargetFound found = {0};
        RecoveryTarget target = {.kind = RECOVERY_IMMEDIATE};
        Lsn stop = cases[i].at_end ? l.end : l.commits[COMMITS - 2].lsn;
        uint32_t end = (uint32_t) (l.end - S(FIRST + SEGMENTS - 1));
        Error err = {0};
        World w;

        world_open(&w, l.b.system_identifier);
        world_put_wal(&w, &l.b, 1, FIRST, FIRST + SEGMENTS, cases[i].cut ? l.written : end);
        world_add_backup(&w, "a", 1, l.commits[COMMITS - 4].lsn, stop, T(COMMITS - 2));
        world_list(&w);
        if (!ok(world_find(&w, &target, 2, &found, &err) == 0 && found.lsn == stop &&
                    found.last_record == (cases[i].at_end ? l.last : LSN_INVALID),
                "immediate: %s", cases[i].label))
            diag("%s, %" PRIX64, err.msg, found.last_record);
        world_close(&w);
    }
    wal_build_reset(&l.b);
}

/* ---- a hole, and nothing that was committed ---- */

static void
test_hole(void)
{
    static Line l;
    World w;
    char last_lsn[64], lsn[LSN_TEXT_BYTES];
    Lsn last = l.commits[0].lsn;

    line_make(&l);
    world_open(&w, l.b.system_identifier);
    world_put_wal(&w, &l.b, 1, FIRST, FIRST + 2, 0);
    world_put_wal(&w, &l.b, 1, FIRST + 3, FIRST + SEGMENTS, 0);
    world_add_backup(&w, "a", 1, l.commits[0].lsn - 1024, l.commits[2].lsn, T(1) + SEC / 2);
    world_list(&w);
    /* in memory all came at once */
    for (size_t i = 0; i < w.inv.timelines[0].all.count; i++)
        w.inv.timelines[0].all.items[i].newest_us += (int64_t) i * 3600 * SEC;

    /* commit 7 lies over the hole's beginning; the record in front of it is the last */
    last = l.commits[7].lsn;
    for (Lsn at = l.commits[7].lsn - 8; at > S(FIRST + 1); at -= 8)
    {
        const uint8_t *p = wal_build_byte(&l.b, at);
        uint32_t len = get_u32le(p);

        if (len >= 24 && len < 4096 && ((at + len + 7) & ~UINT64_C(7)) == l.commits[7].lsn)
        {
            last = at;
            break;
        }
    }
    (void) snprintf(
        last_lsn, sizeof last_lsn, "\"--target-lsn=%s\" recovers all",
        lsn_format(last, lsn, sizeof lsn));

    const Case cases[] = {
        {"latest in front of a hole",
         {.kind = RECOVERY_LATEST},
         NULL,
         0,
         false,
         0,
         ERROR_USAGE,
         "WAL from 0/01200000 to 0/01300000 is missing",
         last_lsn},
        {"that LSN", {.kind = RECOVERY_LSN, .lsn = last}, "a", -1, false, last, 0, NULL, NULL},
        {"the next one",
         {.kind = RECOVERY_LSN, .lsn = last + 1},
         NULL,
         0,
         false,
         0,
         ERROR_USAGE,
         "no record begins",
         last_lsn},
        {"a commit that the hole cut",
         {.kind = RECOVERY_XID, .xid = 1007},
         NULL,
         0,
         false,
         0,
         ERROR_NOT_FOUND,
         "no end of transaction",
         NULL},
        {"the one in front of it",
         {.kind = RECOVERY_XID, .xid = 1006},
         "a",
         6,
         true,
         0,
         0,
         NULL,
         NULL},
        {"a time behind the hole",
         {.kind = RECOVERY_TIME, .time_us = T(20)},
         NULL,
         0,
         false,
         0,
         ERROR_USAGE,
         "the newest commit on timeline 1 in front of the hole in its WAL at 0/01200000 is of "
         "2023-11-14 22:13:26",
         last_lsn},
        {"a time in front of it",
         {.kind = RECOVERY_TIME, .time_us = T(5)},
         "a",
         6,
         false,
         0,
         0,
         NULL,
         NULL},
    };

    run_cases(&w, &l, cases, ARRAY_COUNT(cases));
    for (size_t i = 0; i < w.inv.timelines[0].all.count; i++)
        w.inv.timelines[0].all.items[i].newest_us -= (int64_t) i * 3600 * SEC;

    const Case flight[] = {
        {"latest while uploads are under way",
         {.kind = RECOVERY_LATEST},
         "a",
         -1,
         false,
         l.commits[7].lsn,
         0,
         "the end of WAL",
         "had not arrived"}};

    run_cases(&w, &l, flight, ARRAY_COUNT(flight));
    world_close(&w);
    wal_build_reset(&l.b);
}

/* A commit behind the target has its place in front of the end of the backup. */
static void
test_times_that_jump(void)
{
    WalBuild b;
    World w;
    TargetFound found = {0};
    RecoveryTarget target = {.kind = RECOVERY_TIME, .time_us = T(101)};
    Error err = {0};
    Lsn stop[2];

    wal_build_init(&b, S(FIRST), SEG, 3);
    (void) wal_build_filler(&b, 1000);
    stop[0] = b.at;
    (void) wal_build_commit(&b, 5, T(99));
    wal_build_fill_to(&b, S(FIRST) + 0x8000);

    Lsn start = b.at;
    Lsn jump = wal_build_commit(&b, 6, T(102));

    stop[1] = b.at;
    (void) wal_build_commit(&b, 7, T(104));
    wal_build_fill_to(&b, S(FIRST + 1) + 0x8000);
    world_open(&w, b.system_identifier);
    world_put_wal(&w, &b, 1, FIRST, FIRST + 2, 0);
    world_add_backup(&w, "early", 1, S(FIRST) + 0x28, stop[0], T(50));
    world_add_backup(&w, "late", 1, start, stop[1], T(100));
    world_list(&w);
    ok(world_find(&w, &target, 2, &found, &err) == 0 && found.plan.backup == 0 &&
           found.lsn == jump && found.xid == 6,
       "recovery from the newest backup would stop before it is consistent: %s", err.msg);
    target_found_reset(&found);
    target.label = "late";
    ok(world_find(&w, &target, 2, &found, &err) < 0 && err.kind == ERROR_USAGE &&
           strstr(err.msg, "before backup \"late\" is consistent") != NULL,
       "so it is refused when it was asked for: %s", err.msg);
    target_found_reset(&found);
    world_close(&w);
    wal_build_reset(&b);

    /* no commit at all */
    wal_build_init(&b, S(FIRST), SEG, 3);
    wal_build_fill_to(&b, S(FIRST + 2));
    world_open(&w, b.system_identifier);
    world_put_wal(&w, &b, 1, FIRST, FIRST + 2, 0);
    world_add_backup(&w, "a", 1, S(FIRST) + 0x28, S(FIRST) + 0x1000, T(50));
    world_list(&w);
    target.label = NULL;
    ok(world_find(&w, &target, 2, &found, &err) < 0 && err.kind == ERROR_USAGE &&
           strstr(err.msg, "there is no commit from backup \"a\" on") != NULL,
       "no commit at all: %s", err.msg);
    target_found_reset(&found);
    world_close(&w);
    wal_build_reset(&b);
}

/* ---- two timelines ---- */

static void
test_timelines(void)
{
    static const char history[] = "1\t0/1180000\twhy\n";
    static const char third[] = "1\t0/1180000\tx\n2\t0/1280000\tx\n";
    WalBuild old, young;
    World w;
    TargetFound found = {0};
    Error err = {0};
    Lsn fork = S(FIRST + 1) + 0x80000;

    wal_build_init(&old, S(FIRST), SEG, 4);
    (void) wal_build_commit(&old, 10, T(10));
    wal_build_fill_to(&old, fork);
    young = old;
    young.data = malloc(old.bytes);
    if (young.data == NULL)
        abort();
    memcpy(young.data, old.data, old.bytes);
    (void) wal_build_commit(&old, 20, T(20));
    (void) wal_build_point(&old, "lost", T(21));
    wal_build_fill_to(&old, S(FIRST + 3));

    young.tli = 2;
    (void) wal_build_commit(&young, 20, T(30));
    (void) wal_build_point(&young, "won", T(31));
    wal_build_fill_to(&young, S(FIRST + 3));

    world_open(&w, old.system_identifier);
    world_put_wal(&w, &old, 1, FIRST, FIRST + 3, 0);
    world_put_wal(&w, &young, 2, FIRST + 1, FIRST + 3, 0);
    world_put(&w, "wal/00000002/00000002.history", history, sizeof history - 1);
    world_add_backup(&w, "a", 1, S(FIRST) + 0x28, S(FIRST) + 0x400, T(5));
    world_list(&w);
    /* the commit of 10 is within the backup */

    static const struct
    {
        const char *label;
        RecoveryTarget target;
        int64_t at_us; /* 0: not found */
        TimelineId tli;
    } cases[] = {
        {"a transaction on both", {.kind = RECOVERY_XID, .xid = 20}, T(30), 2},
        {"the old one of it", {.kind = RECOVERY_XID, .xid = 20, .tli = 1}, T(20), 1},
        {"a name of the dead branch", {.kind = RECOVERY_NAME, .name = "lost"}, 0, 0},
        {"on its timeline", {.kind = RECOVERY_NAME, .name = "lost", .tli = 1}, T(21), 1},
        {"a name of the newest", {.kind = RECOVERY_NAME, .name = "won"}, T(31), 2},
        {"not on the old one", {.kind = RECOVERY_NAME, .name = "won", .tli = 1}, 0, 0},
        {"a time", {.kind = RECOVERY_TIME, .time_us = T(15)}, T(30), 2},
        {"on the old one", {.kind = RECOVERY_TIME, .time_us = T(15), .tli = 1}, T(20), 1},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        int rc = world_find(&w, &cases[i].target, 4, &found, &err);

        if (!ok(cases[i].at_us == 0
                    ? rc < 0 && err.kind == ERROR_NOT_FOUND
                    : rc == 0 && found.at_us == cases[i].at_us && found.plan.tli == cases[i].tli,
                "two timelines: %s", cases[i].label))
            diag("%d %s %s", rc, err.msg, found.text);
        target_found_reset(&found);
    }

    world_put(&w, "wal/00000003/00000003.history", third, sizeof third - 1);
    world_list(&w);

    RecoveryTarget latest = {.kind = RECOVERY_LATEST};

    ok(world_find(&w, &latest, 4, &found, &err) == 0 && found.plan.tli == 2 &&
           strstr(found.note, "Timeline 3 has begun") != NULL,
       "a timeline that nothing came of is told of: %s", found.note);
    target_found_reset(&found);
    world_close(&w);
    wal_build_reset(&old);
    wal_build_reset(&young);
}

/* ---- what cannot be read ---- */

static void
test_failures(void)
{
    static Line l;
    World w;
    RecoveryTarget target = {.kind = RECOVERY_XID, .xid = 1007};
    TargetFound found = {0};
    Error err = {0};
    bool good = true;
    uint64_t n = 0;
    int rc = -1;

    line_make(&l);
    /* each call of the store fails once */
    static const ErrorKind kinds[] = {ERROR_TRANSIENT, ERROR_NOT_FOUND};

    for (size_t k = 0; k < ARRAY_COUNT(kinds); k++)
    {
        bool failed = true; /* until no call is left that could */

        for (n = 1; failed && good && n < 100; n++)
        {
            StoreFaultPlan plan = {.fail_at = n, .kind = kinds[k]};

            world_open(&w, l.b.system_identifier);
            world_put_wal(&w, &l.b, 1, FIRST, FIRST + SEGMENTS, l.written);
            line_add_backups(&w, &l);
            world_list(&w);
            if (store_fault_new(w.repo.store, &plan, &w.repo.store, &err) < 0)
                abort();
            rc = world_find(&w, &target, 1, &found, &err);
            failed = store_fault_calls(w.repo.store) >= n;
            good = rc == 0 ? found.plan.backup == 0 && found.lsn == l.commits[7].end
                           : err.kind != ERROR_NOT_FOUND && err.kind != ERROR_USAGE;
            if (!good)
                diag("call %" PRIu64 ": %d, %s", n, rc, err.msg);
            target_found_reset(&found);
            world_close(&w);
        }
        ok(good && !failed && rc == 0 && n > 10,
           "a failed read never is a transaction that is not there (%s)",
           error_kind_name(kinds[k]));
    }

    /* encrypted */
    AUTO(age_identities_freep) AgeIdentities *ids = NULL;
    AUTO(age_recipients_freep) AgeRecipients *recipients = NULL;
    char recipient[64], identity[80];

    world_open(&w, l.b.system_identifier);
    if (age_keygen(recipient, identity, &err) < 0 || age_identities_new(&ids, &err) < 0 ||
        age_identities_add(ids, identity, &err) < 0 || age_recipients_new(&recipients, &err) < 0 ||
        age_recipients_add(recipients, recipient, &err) < 0)
        abort();
    w.format.recipients = recipients;
    world_put_wal(&w, &l.b, 1, FIRST, FIRST + SEGMENTS, l.written);
    line_add_backups(&w, &l);
    world_list(&w);
    ok(world_find(&w, &target, 3, &found, &err) < 0 && err.kind == ERROR_DENIED,
       "encrypted, without an identity: %s", err.msg);
    target_found_reset(&found);
    target.kind = RECOVERY_LATEST;
    ok(world_find(&w, &target, 3, &found, &err) == 0 && found.at_us == 0,
       "the end of WAL is known without one: %s", found.text);
    target_found_reset(&found);
    target.kind = RECOVERY_XID;
    w.repo.identities = ids;
    ok(world_find(&w, &target, 3, &found, &err) == 0 && found.lsn == l.commits[7].end,
       "encrypted, with its identity");
    target_found_reset(&found);
    world_close(&w);
    wal_build_reset(&l.b);
}

/* ---- WAL of a real server ---- */

static void
test_server(void)
{
    World w;
    TargetFound found = {0};
    RecoveryTarget target = {.kind = RECOVERY_NAME, .name = "before the flood"};
    WalBuild b = {.data = calloc(2, SEG), .bytes = (size_t) 2 * SEG, .base = S(7)};
    Error err = {0};

    for (SegmentNo s = 7; s < 9; s++)
    {
        char path[128], name[32];
        size_t len;

        (void) snprintf(
            path, sizeof path, "tests/vectors/wal/events/pg18/%s.zst",
            wal_segment_name(1, s, SEG, name, sizeof name));

        uint8_t *data = vector_read(path, &len);

        memcpy(wal_build_byte(&b, S(s)), data, len);
        free(data);
    }
    world_open(&w, get_u64le(b.data + 24));
    world_put_wal(&w, &b, 1, 7, 9, 0);
    world_add_backup(&w, "a", 1, S(7) + 0x28, S(7) + 0x60, INT64_C(1795000000) * SEC);
    world_list(&w);
    ok(world_find(&w, &target, 2, &found, &err) == 0 && found.occurrences == 1 && found.xid == 0 &&
           found.lsn > S(7) && found.lsn < S(8),
       "a restore point of a server: %s", found.text);

    Lsn point = found.lsn;

    target_found_reset(&found);
    target = (RecoveryTarget){.kind = RECOVERY_LATEST};
    ok(world_find(&w, &target, 2, &found, &err) == 0 && found.lsn == S(9) && found.at_us > 0,
       "its end: %s", found.text);
    target = (RecoveryTarget){.kind = RECOVERY_TIME, .time_us = found.at_us - 1};
    target_found_reset(&found);
    ok(world_find(&w, &target, 2, &found, &err) == 0 && found.at_us == target.time_us + 1 &&
           found.lsn > point,
       "its last commit by time: %s", found.text);
    target_found_reset(&found);
    world_close(&w);
    wal_build_reset(&b);
}

int
main(void)
{
    test_line();
    test_immediate();
    test_hole();
    test_times_that_jump();
    test_timelines();
    test_failures();
    test_server();
    return done_testing();
}
