/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Carrying out a retention plan; see expire.h.
 */
#include "repo/expire.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/parse.h"

#define EXPIRE_BATCH 1000
#define EXPIRE_BATCH_FAILURES 3 /* in a row: whatever it is, it will not go away now */
#define EXPIRE_LOG_BYTES (UINT64_C(1) << 32)
#define EXPIRE_LOG_PARTS (EXPIRE_LOG_BYTES / WAL_SEGMENT_MIN_BYTES)
#define EXPIRE_SWEEP_AGE_S (INT64_C(24) * 3600)
#define EXPIRE_CLOCK_KEY_MAX 64

static const char *const expire_class_names[] = {
    [EXPIRE_BACKUPS] = "backups",
    [EXPIRE_ABANDONED] = "abandoned backups",
    [EXPIRE_WAL] = "WAL",
    [EXPIRE_PIECES] = "pieces of WAL",
    [EXPIRE_SUPERSEDED] = "superseded pieces",
    [EXPIRE_PINS] = "pins",
    [EXPIRE_GAPS] = "notes of gaps",
};
_Static_assert(ARRAY_COUNT(expire_class_names) == EXPIRE_CLASS_COUNT, "a name for each");

const char *
expire_class_name(ExpireClass class)
{
    return expire_class_names[class];
}

/* Tells fn every name below prefix. */
static int
expire_walk(const Expire *x, const char *prefix, StoreListFn fn, void *ctx, Error *err)
{
    StoreListOptions options = {.prefix = prefix};

    return store_walk(x->repo->store, &options, x->timeout_ms, NULL, fn, ctx, err);
}

/* ---- removing ---- */

typedef struct ExpireName
{
    char key[LAYOUT_KEY_MAX];
    uint64_t bytes;
    ExpireClass class;
    size_t backup; /* SIZE_MAX: of none */
    bool gone;
} ExpireName;

/* Names that are to be removed together. */
typedef struct ExpireBatch
{
    Expire *x;
    bool dry_run;
    ExpireName *names; /* owned; EXPIRE_BATCH */
    StoreRemoved *removed;
    size_t count;
    unsigned failures; /* requests, in a row */
    bool *stuck;       /* owned; of each backup: an object of it was not removed */
} ExpireBatch;

static void
expire_batch_reset(ExpireBatch *batch)
{
    free(batch->names);
    free(batch->removed);
    free(batch->stuck);
    *batch = (ExpireBatch){0};
}

static int
expire_batch_init(ExpireBatch *batch, Expire *x, bool dry_run, Error *err)
{
    *batch = (ExpireBatch){.x = x, .dry_run = dry_run};
    batch->names = calloc(EXPIRE_BATCH, sizeof *batch->names);
    batch->removed = calloc(EXPIRE_BATCH, sizeof *batch->removed);
    batch->stuck = calloc(x->list.count + 1, sizeof *batch->stuck);
    if (batch->names == NULL || batch->removed == NULL || batch->stuck == NULL)
    {
        expire_batch_reset(batch);
        return error_nomem(err);
    }
    return 0;
}

/* What became of one name. */
static void
expire_note_result(ExpireBatch *batch, ExpireName *name, const Error *why)
{
    Expire *x = batch->x;

    name->gone = why->kind == ERROR_NONE || why->kind == ERROR_NOT_FOUND;
    if (!name->gone && name->backup != SIZE_MAX)
        batch->stuck[name->backup] = true;
    if (name->gone)
    {
        x->of_class[name->class].objects++;
        x->of_class[name->class].bytes += name->bytes;
        if (name->backup != SIZE_MAX)
        {
            x->of_backup[name->backup].objects++;
            x->of_backup[name->backup].bytes += name->bytes;
        }
    }
    else if (why->kind == ERROR_DENIED)
    {
        if (x->denied++ == 0)
        {
            x->first_denied = *why;
            (void) error_wrap(&x->first_denied, "could not remove \"%s\"", name->key);
        }
    }
    else if (x->failed++ == 0)
    {
        x->first_failed = *why;
        (void) error_wrap(&x->first_failed, "could not remove \"%s\"", name->key);
    }
}

/* Removes what was gathered. The names stay to be looked at until the next is added. */
static int
expire_batch_flush(ExpireBatch *batch, Error *err)
{
    Expire *x = batch->x;
    Deadline dl = deadline_after_ms(x->timeout_ms, NULL);
    Error why = {0};

    if (batch->count == 0)
        return 0;
    for (size_t i = 0; i < batch->count; i++)
        batch->removed[i] = (StoreRemoved){.key = batch->names[i].key};
    if (!batch->dry_run &&
        store_remove(x->repo->store, batch->removed, batch->count, &dl, &why) < 0)
    {
        if (why.kind == ERROR_CANCELED || why.kind == ERROR_NOMEM ||
            ++batch->failures == EXPIRE_BATCH_FAILURES)
        {
            *err = why;
            return error_wrap(err, "could not remove objects");
        }
        /* some of them may be gone; the next run will see */
        for (size_t i = 0; i < batch->count; i++)
            expire_note_result(batch, &batch->names[i], &why);
        return 0;
    }
    batch->failures = 0;
    for (size_t i = 0; i < batch->count; i++)
        expire_note_result(batch, &batch->names[i], &batch->removed[i].err);
    return 0;
}

static int
expire_batch_end(ExpireBatch *batch, Error *err)
{
    int rc = expire_batch_flush(batch, err);

    batch->count = 0;
    return rc;
}

static int
expire_batch_add(
    ExpireBatch *batch, const char *key, uint64_t bytes, ExpireClass class, size_t backup,
    Error *err)
{
    ExpireName *name;

    if (batch->count == EXPIRE_BATCH && expire_batch_end(batch, err) < 0)
        return -1;
    name = &batch->names[batch->count++];
    *name = (ExpireName){.bytes = bytes, .class = class, .backup = backup};
    (void) snprintf(name->key, sizeof name->key, "%s", key);
    return 0;
}

/* ---- 0: pins that came meanwhile ---- */

static int
expire_note_new_pin(void *ctx, const StoreEntry *entry, Error *err)
{
    Expire *x = ctx;
    const Backup *found;
    BackupKey key;
    size_t i;

    if (!backup_key_parse(entry->key, &key) || key.kind != BACKUP_KEY_PIN ||
        (key.until_us != 0 && key.until_us <= x->rules.now_us))
        return 0;
    found = backup_list_find(&x->list, key.label);
    i = found != NULL ? (size_t) (found - x->list.items) : SIZE_MAX;
    if (found == NULL || x->plan.reasons[i] != 0)
        return 0;
    return retention_plan_keep(&x->plan, &x->list, &x->inv, i, RETENTION_PIN, err);
}

/* Listing much WAL takes minutes; whoever has pinned a backup in them was told that it is kept. */
static int
expire_read_new_pins(Expire *x, Error *err)
{
    return expire_walk(x, "pin/", expire_note_new_pin, x, err);
}

/* ---- 1: manifests ---- */

static size_t
expire_depth(const Backup *b)
{
    return b->state == BACKUP_COMPLETE ? b->header.chain_count : 0;
}

/*
 * Those of one depth of chain in one request, the deepest first. What stays keeps its parents,
 * whose turn has not come. The manifest's size is not known here: it is counted with the rest.
 */
static int
expire_remove_manifests(ExpireBatch *batch, Error *err)
{
    Expire *x = batch->x;
    size_t depth = 0;

    for (size_t i = 0; i < x->list.count; i++)
        depth = MAX(depth, expire_depth(&x->list.items[i]));
    for (size_t level = depth + 1; level-- > 0;)
    {
        for (size_t first = 0; first < x->list.count;)
        {
            size_t i;

            for (i = first; i < x->list.count && batch->count < EXPIRE_BATCH; i++)
            {
                const Backup *b = &x->list.items[i];
                char key[LAYOUT_KEY_MAX];

                if (x->plan.reasons[i] == 0 && b->state != BACKUP_UNFINISHED &&
                    expire_depth(b) == level &&
                    expire_batch_add(
                        batch, backup_manifest_key(b->label, key), 0, EXPIRE_BACKUPS, i, err) < 0)
                    return -1;
            }
            first = i;
            if (expire_batch_flush(batch, err) < 0)
                return -1;
            for (size_t k = 0; k < batch->count; k++)
                if (!batch->names[k].gone && retention_plan_keep(
                                                 &x->plan, &x->list, &x->inv,
                                                 batch->names[k].backup, RETENTION_STUCK, err) < 0)
                    return -1;
            batch->count = 0;
        }
    }
    return 0;
}

/* ---- 2: the other objects of backups ---- */

/* A backup's folder. */
typedef struct ExpireFolder
{
    char prefix[LAYOUT_KEY_MAX];
    size_t backup;
    bool any_start;
    uint64_t start_bytes;
} ExpireFolder;

static int
expire_folder_compare(const void *a, const void *b)
{
    return strcmp(((const ExpireFolder *) a)->prefix, ((const ExpireFolder *) b)->prefix);
}

static bool
expire_is_unfinished(const Expire *x, const ExpireFolder *folder)
{
    return x->list.items[folder->backup].state == BACKUP_UNFINISHED;
}

static ExpireClass
expire_class_of(const Backup *backup)
{
    return backup->state == BACKUP_UNFINISHED ? EXPIRE_ABANDONED : EXPIRE_BACKUPS;
}

static bool
expire_folder_has(const ExpireFolder *folder, const char *key)
{
    return strncmp(key, folder->prefix, strlen(folder->prefix)) == 0;
}

typedef struct ExpireBackupWalk
{
    ExpireBatch *batch;
    ExpireFolder *at; /* names are told in the order of the folders */
    const ExpireFolder *end;
} ExpireBackupWalk;

static int
expire_note_backup_object(void *ctx, const StoreEntry *entry, Error *err)
{
    ExpireBackupWalk *walk = ctx;
    const Expire *x = walk->batch->x;
    ExpireFolder *folder;
    BackupKey key;

    while (walk->at < walk->end && strcmp(walk->at->prefix, entry->key) < 0 &&
           !expire_folder_has(walk->at, entry->key))
        walk->at++;
    if (walk->at == walk->end)
        return 1;
    folder = walk->at;
    /* of a backup that came into being meanwhile */
    if (!expire_folder_has(folder, entry->key))
        return 0;
    if (backup_key_parse(entry->key, &key))
    {
        if (key.kind == BACKUP_KEY_START)
        {
            folder->any_start = true;
            folder->start_bytes = entry->bytes;
            return 0;
        }
        /* counted in step 1; one that came into being since then is not ours to remove */
        if (key.kind == BACKUP_KEY_MANIFEST)
            return 0;
    }
    return expire_batch_add(
        walk->batch, entry->key, entry->bytes, expire_class_of(&x->list.items[folder->backup]),
        folder->backup, err);
}

/* All but the start objects of folders that lie one behind the other. */
static int
expire_remove_folders(ExpireBatch *batch, ExpireFolder *first, const ExpireFolder *end, Error *err)
{
    const Expire *x = batch->x;
    StoreListOptions options = {.prefix = "backup/", .start_after = first->prefix};
    ExpireBackupWalk walk = {.batch = batch, .at = first, .end = end};

    return store_walk(
        x->repo->store, &options, x->timeout_ms, NULL, expire_note_backup_object, &walk, err);
}

/* Only of those of which nothing else is left. */
static int
expire_remove_starts(ExpireBatch *batch, const ExpireFolder *folders, Error *err)
{
    const Expire *x = batch->x;

    if (expire_batch_end(batch, err) < 0)
        return -1;
    for (size_t i = 0; i < x->list.count; i++)
    {
        const Backup *b = &x->list.items[folders[i].backup];
        char key[LAYOUT_KEY_MAX];

        if (folders[i].any_start && !batch->stuck[folders[i].backup] &&
            expire_batch_add(
                batch, backup_start_key(b->label, key), folders[i].start_bytes, expire_class_of(b),
                folders[i].backup, err) < 0)
            return -1;
    }
    return expire_batch_end(batch, err);
}

typedef struct ExpireAliveWalk
{
    int64_t since_us;
    bool alive;
} ExpireAliveWalk;

static int
expire_note_alive(void *ctx, const StoreEntry *entry, Error *err UNUSED)
{
    ExpireAliveWalk *walk = ctx;
    BackupKey key;

    if (entry->modified_us == 0 || entry->modified_us > walk->since_us ||
        (backup_key_parse(entry->key, &key) && key.kind == BACKUP_KEY_MANIFEST))
        walk->alive = true;
    return walk->alive ? 1 : 0;
}

/* An unfinished backup is looked at again just before it goes. */
static int
expire_look_again(Expire *x, const ExpireFolder *folder, Error *err)
{
    ExpireAliveWalk alive = {.since_us = x->rules.now_us - BACKUP_ABANDONED_MS * 1000};

    if (expire_walk(x, folder->prefix, expire_note_alive, &alive, err) < 0)
        return -1;
    if (alive.alive)
        x->plan.reasons[folder->backup] |= RETENTION_RUNNING;
    return 0;
}

/* Those between two that stay are listed together: most have but a few objects. */
static int
expire_remove_sorted(ExpireBatch *batch, ExpireFolder *folders, Error *err)
{
    Expire *x = batch->x;
    size_t end;

    for (size_t i = 0; i < x->list.count; i = end)
    {
        end = i + 1;
        if (x->plan.reasons[folders[i].backup] == 0 && expire_is_unfinished(x, &folders[i]) &&
            expire_look_again(x, &folders[i], err) < 0)
            return -1;
        if (x->plan.reasons[folders[i].backup] != 0)
            continue;
        while (!expire_is_unfinished(x, &folders[i]) && end < x->list.count &&
               x->plan.reasons[folders[end].backup] == 0 && !expire_is_unfinished(x, &folders[end]))
            end++;
        if (expire_remove_folders(batch, &folders[i], &folders[end], err) < 0)
            return -1;
    }
    return expire_remove_starts(batch, folders, err);
}

static int
expire_remove_backups(ExpireBatch *batch, Error *err)
{
    const Expire *x = batch->x;
    ExpireFolder *folders = calloc(x->list.count + 1, sizeof *folders);
    int rc;

    if (folders == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < x->list.count; i++)
    {
        (void) backup_prefix(x->list.items[i].label, folders[i].prefix);
        folders[i].backup = i;
    }
    qsort(folders, x->list.count, sizeof *folders, expire_folder_compare);
    rc = expire_remove_sorted(batch, folders, err);
    free(folders);
    return rc;
}

/* ---- 3: WAL ---- */

typedef struct ExpireWalWalk
{
    ExpireBatch *batch;
    const char *end; /* a folder that is not looked at; "": none is behind it */
} ExpireWalWalk;

static int
expire_note_wal(void *ctx, const StoreEntry *entry, Error *err)
{
    const ExpireWalWalk *walk = ctx;
    const Expire *x = walk->batch->x;
    LayoutEntry parsed;
    Lsn start, end;

    if (walk->end[0] != '\0' && strcmp(entry->key, walk->end) >= 0)
        return 1;
    if (!layout_parse(entry->key, x->inv.segment_bytes, &parsed) || parsed.kind == LAYOUT_HISTORY ||
        parsed.kind == LAYOUT_GAP)
        return 0;
    /* of what is about a segment, the segment */
    start = wal_segment_start(parsed.extent.segno, x->inv.segment_bytes);
    end = start + x->inv.segment_bytes;
    if (retention_keeps_wal(&x->plan, parsed.tli, start, end, entry->modified_us))
        return 0;
    return expire_batch_add(walk->batch, entry->key, entry->bytes, EXPIRE_WAL, SIZE_MAX, err);
}

typedef enum ExpireLogFate
{
    EXPIRE_LOG_STAYS,
    EXPIRE_LOG_GOES,
    EXPIRE_LOG_MIXED /* or it cannot be told without its names */
} ExpireLogFate;

static ExpireLogFate
expire_judge_log(const Expire *x, TimelineId tli, const WalLog *log)
{
    Lsn start = (Lsn) log->log << 32;
    Lsn end = log->log == UINT32_MAX ? UINT64_MAX : start + EXPIRE_LOG_BYTES;

    if (log->oldest_us >= x->plan.wal_since_us ||
        retention_keeps_all_wal(&x->plan, tli, start, end))
        return EXPIRE_LOG_STAYS;
    return retention_keeps_wal(&x->plan, tli, start, end, log->newest_us) ? EXPIRE_LOG_MIXED
                                                                          : EXPIRE_LOG_GOES;
}

/* "wal/<TLI 8>/<log 8>/" into buf of LAYOUT_KEY_MAX. Returns buf. */
static char *
expire_log_prefix(TimelineId tli, uint32_t log, char *buf)
{
    (void) snprintf(buf, LAYOUT_KEY_MAX, "wal/%08" PRIX32 "/%08" PRIX32 "/", tli, log);
    return buf;
}

/* A dry run needs no names of what goes as a whole: the inventory has counted it. */
static bool
expire_needs_listing(ExpireBatch *batch, TimelineId tli, const WalLog *log, bool count)
{
    ExpireTally *tally = &batch->x->of_class[EXPIRE_WAL];
    ExpireLogFate fate = expire_judge_log(batch->x, tli, log);

    if (fate != EXPIRE_LOG_GOES || !batch->dry_run)
        return fate != EXPIRE_LOG_STAYS;
    if (count)
    {
        tally->objects += log->objects;
        tally->bytes += log->stored_bytes;
    }
    return false;
}

/*
 * Only the folders in which something may go are listed, however much WAL there is; those that lie
 * one behind the other together, as a folder has fewer names than an answer.
 */
static int
expire_remove_wal_of(ExpireBatch *batch, const WalTimeline *t, Error *err)
{
    const Expire *x = batch->x;
    char prefix[LAYOUT_KEY_MAX], first[LAYOUT_KEY_MAX], end[LAYOUT_KEY_MAX];
    StoreListOptions options = {.prefix = prefix, .start_after = first};
    ExpireWalWalk walk = {.batch = batch, .end = end};
    size_t next;

    (void) snprintf(prefix, sizeof prefix, "wal/%08" PRIX32 "/", t->tli);
    for (size_t i = 0; i < t->log_count; i = next)
    {
        next = i + 1;
        if (!expire_needs_listing(batch, t->tli, &t->logs[i], true))
            continue;
        while (next < t->log_count && expire_needs_listing(batch, t->tli, &t->logs[next], false))
            next++;
        (void) expire_log_prefix(t->tli, t->logs[i].log, first);
        end[0] = '\0';
        if (next < t->log_count)
            (void) expire_log_prefix(t->tli, t->logs[next].log, end);
        if (store_walk(x->repo->store, &options, x->timeout_ms, NULL, expire_note_wal, &walk, err) <
            0)
            return -1;
    }
    return 0;
}

static int
expire_remove_wal(ExpireBatch *batch, Error *err)
{
    Expire *x = batch->x;

    for (size_t i = 0; !x->plan.wal_unbounded && i < x->inv.timeline_count; i++)
        if (expire_remove_wal_of(batch, &x->inv.timelines[i], err) < 0)
            return -1;
    return expire_batch_end(batch, err);
}

/* ---- 3 and 4: pieces ---- */

/* The complete segments or parts of one log: when each was stored. */
typedef struct ExpirePieces
{
    ExpireBatch *batch;
    uint32_t part_bytes;
    TimelineId tli; /* 0: nothing was read yet */
    uint32_t log;
    int64_t *stored_us; /* owned; EXPIRE_LOG_PARTS; 0: not there */
} ExpirePieces;

static int
expire_note_whole(void *ctx, const StoreEntry *entry, Error *err UNUSED)
{
    ExpirePieces *p = ctx;
    LayoutEntry parsed;
    Lsn start;

    if (!layout_parse(entry->key, p->batch->x->inv.segment_bytes, &parsed) ||
        (parsed.kind != LAYOUT_SEGMENT && parsed.kind != LAYOUT_PART))
        return 0;
    start = wal_segment_start(parsed.extent.segno, p->batch->x->inv.segment_bytes) +
            parsed.extent.start;
    p->stored_us[(start % EXPIRE_LOG_BYTES) / p->part_bytes] = entry->modified_us;
    return 0;
}

static int
expire_read_log(ExpirePieces *p, TimelineId tli, uint32_t log, Error *err)
{
    char prefix[LAYOUT_KEY_MAX];

    if (p->tli == tli && p->log == log)
        return 0;
    memset(p->stored_us, 0, EXPIRE_LOG_PARTS * sizeof *p->stored_us);
    p->tli = tli;
    p->log = log;
    return expire_walk(p->batch->x, expire_log_prefix(tli, log, prefix), expire_note_whole, p, err);
}

/* Whoever reads the pieces just now has an hour to be done. */
static int64_t
expire_superseded_before(const Expire *x)
{
    return x->rules.now_us - EXPIRE_SUPERSEDED_MS * 1000;
}

static bool
expire_is_superseded(const ExpirePieces *p, Lsn start, Lsn end)
{
    int64_t before_us = expire_superseded_before(p->batch->x);

    for (Lsn part = start - start % p->part_bytes; part < end; part += p->part_bytes)
    {
        int64_t stored_us = p->stored_us[(part % EXPIRE_LOG_BYTES) / p->part_bytes];

        if (stored_us == 0 || stored_us > before_us)
            return false;
    }
    return true;
}

/* What is complete in this folder has been so for long, and the segment at base stays. */
static bool
expire_is_settled(const Expire *x, const WalTimeline *t, uint32_t log, Lsn base)
{
    const WalLog *found = wal_timeline_find_log(t, log);

    return found != NULL && found->newest_us <= expire_superseded_before(x) &&
           retention_keeps_all_wal(&x->plan, t->tli, base, base + x->inv.segment_bytes);
}

static int
expire_note_piece(void *ctx, const StoreEntry *entry, Error *err)
{
    ExpirePieces *p = ctx;
    const Expire *x = p->batch->x;
    const WalTimeline *t;
    LayoutEntry parsed;
    Lsn base, start, end;
    uint32_t log;

    if (!layout_parse(entry->key, x->inv.segment_bytes, &parsed) || parsed.kind != LAYOUT_PIECE)
        return 0;
    base = wal_segment_start(parsed.extent.segno, x->inv.segment_bytes);
    start = base + parsed.extent.start;
    end = base + parsed.extent.end;
    if (!retention_keeps_wal(
            &x->plan, parsed.tli, base, base + x->inv.segment_bytes, entry->modified_us))
        return expire_batch_add(p->batch, entry->key, entry->bytes, EXPIRE_PIECES, SIZE_MAX, err);
    t = wal_inventory_find(&x->inv, parsed.tli);
    if (t == NULL || !wal_runs_cover(&t->whole, start, end))
        return 0;
    log = wal_segment_log(parsed.extent.segno, x->inv.segment_bytes);
    if (!expire_is_settled(x, t, log, base))
    {
        if (expire_read_log(p, parsed.tli, log, err) < 0)
            return -1;
        if (!expire_is_superseded(p, start, end))
            return 0;
    }
    return expire_batch_add(p->batch, entry->key, entry->bytes, EXPIRE_SUPERSEDED, SIZE_MAX, err);
}

static int
expire_remove_pieces(ExpireBatch *batch, Error *err)
{
    Expire *x = batch->x;
    ExpirePieces p = {.batch = batch, .part_bytes = layout_part_bytes(x->inv.segment_bytes)};
    int rc;

    p.stored_us = calloc(EXPIRE_LOG_PARTS, sizeof *p.stored_us);
    if (p.stored_us == NULL)
        return error_nomem(err);
    rc = expire_walk(x, "live/", expire_note_piece, &p, err);
    free(p.stored_us);
    return rc < 0 ? -1 : expire_batch_end(batch, err);
}

/* ---- 5: pins and notes ---- */

/* Those that have ended; for ever lasts longer than the backup, a day. */
static int
expire_note_pin(void *ctx, const StoreEntry *entry, Error *err)
{
    ExpireBatch *batch = ctx;
    const Expire *x = batch->x;
    BackupKey key;
    bool over;

    if (!backup_key_parse(entry->key, &key) || key.kind != BACKUP_KEY_PIN)
        return 0;
    over = (key.until_us != 0 && key.until_us <= x->rules.now_us) ||
           (backup_list_find(&x->list, key.label) == NULL && entry->modified_us != 0 &&
            entry->modified_us < x->rules.now_us - BACKUP_ABANDONED_MS * 1000);
    if (!over)
        return 0;
    return expire_batch_add(batch, entry->key, entry->bytes, EXPIRE_PINS, SIZE_MAX, err);
}

static int
expire_note_gap(void *ctx, const StoreEntry *entry, Error *err)
{
    ExpireBatch *batch = ctx;
    const Expire *x = batch->x;
    LayoutEntry parsed;

    if (!layout_parse(entry->key, x->inv.segment_bytes, &parsed) || parsed.kind != LAYOUT_GAP ||
        retention_keeps_wal(
            &x->plan, parsed.tli, parsed.gap_start, parsed.gap_end, entry->modified_us))
        return 0;
    return expire_batch_add(batch, entry->key, entry->bytes, EXPIRE_GAPS, SIZE_MAX, err);
}

static int
expire_remove_notes(ExpireBatch *batch, Error *err)
{
    Expire *x = batch->x;

    if (expire_walk(x, "pin/", expire_note_pin, batch, err) < 0 ||
        expire_walk(x, "gap/", expire_note_gap, batch, err) < 0)
        return -1;
    return expire_batch_end(batch, err);
}

/* ---- all of it ---- */

int
expire_plan(
    Repository *repo, const RetentionRules *rules, int64_t timeout_ms, unsigned jobs, Expire *out,
    Error *err)
{
    *out = (Expire){.repo = repo, .timeout_ms = timeout_ms, .rules = *rules};
    wal_inventory_init(&out->inv, repo->description.segment_bytes);
    /* WAL after the backups, so that those which are complete have theirs */
    if (backup_list_read(repo, timeout_ms, jobs, &out->list, err) < 0 ||
        wal_inventory_list(repo, timeout_ms, &out->inv, err) < 0 ||
        wal_inventory_read_histories(repo, timeout_ms, &out->inv, err) < 0 ||
        retention_plan_make(rules, &out->list, &out->inv, &out->plan, err) < 0)
        return -1;
    out->of_backup = calloc(MAX(out->list.count, (size_t) 1), sizeof *out->of_backup);
    return out->of_backup != NULL ? 0 : error_nomem(err);
}

static int
expire_refuse_clock(int64_t ahead_us, Error *err)
{
    int64_t s = ahead_us / 1000000;

    (void) error_set(
        err, ERROR_IO, "the store's clock is %lld seconds %s ours: what is old cannot be told",
        (long long) (s < 0 ? -s : s), s < 0 ? "behind" : "ahead of");
    return error_hint(err, "Let this host synchronize its clock (NTP), then run it again.");
}

int
expire_check_clock(const Expire *x, Error *err)
{
    char text[] = "walctl expire";
    struct iovec iov = {.iov_base = text, .iov_len = sizeof text - 1};
    StoreBody body = {.iov = &iov, .iov_count = 1, .bytes = sizeof text - 1};
    Deadline dl = deadline_after_ms(x->timeout_ms, NULL);
    char key[EXPIRE_CLOCK_KEY_MAX];
    StoreRemoved removed = {.key = key};
    StoreStat st;
    int64_t begin_us = clock_wall_us();
    int64_t ahead_us;

    (void) snprintf(
        key, sizeof key, "state/clock-%" PRIx64 "-%" PRIx64, (uint64_t) begin_us,
        (uint64_t) clock_monotonic_us());
    if (store_put(x->repo->store, key, &body, &dl, err) < 0)
    {
        if (err->kind != ERROR_DENIED)
            return error_wrap(err, "could not ask the store for its time");
        ahead_us = MAX(x->list.store_now_us - begin_us, 0);
    }
    else
    {
        Error unused = {0};
        int rc;

        if (store_stat(x->repo->store, key, &dl, &st, err) < 0)
            return error_wrap(err, "could not ask the store for its time");
        ahead_us = st.modified_us == 0 ? 0 : st.modified_us - (begin_us + clock_wall_us()) / 2;
        rc = store_remove(x->repo->store, &removed, 1, &dl, &unused);
        (void) rc; /* it means nothing if it stays */
    }
    if (ahead_us > EXPIRE_SKEW_MAX_S * INT64_C(1000000) ||
        ahead_us < -EXPIRE_SKEW_MAX_S * INT64_C(1000000))
        return expire_refuse_clock(ahead_us, err);
    *err = (Error){0};
    return 0;
}

int
expire_run(Expire *x, bool dry_run, Error *err)
{
    AUTO(expire_batch_reset) ExpireBatch batch = {0};

    if (expire_batch_init(&batch, x, dry_run, err) < 0 || expire_read_new_pins(x, err) < 0 ||
        expire_remove_manifests(&batch, err) < 0 || expire_remove_backups(&batch, err) < 0 ||
        expire_remove_wal(&batch, err) < 0 || expire_remove_pieces(&batch, err) < 0 ||
        expire_remove_notes(&batch, err) < 0)
        return -1;
    if (!dry_run && store_file_sweep(x->repo->store, EXPIRE_SWEEP_AGE_S, &x->swept, err) < 0)
        return error_wrap(err, "could not tidy up");
    return 0;
}

void
expire_mark_children(const BackupList *list, size_t backup, bool *doomed)
{
    const char *label = list->items[backup].label;

    doomed[backup] = true;
    for (size_t i = 0; i < list->count; i++)
    {
        const BackupHeader *h = &list->items[i].header;
        bool needs = false;

        if (list->items[i].state != BACKUP_COMPLETE)
            continue;
        for (size_t c = 0; c < h->chain_count; c++)
            needs = needs || strcmp(h->chain[c], label) == 0;
        for (size_t u = 0; u < h->uses_count; u++)
            needs = needs || strcmp(h->uses[u], label) == 0;
        /* who builds on one that uses the bundles is found there */
        if (needs && !doomed[i])
            expire_mark_children(list, i, doomed);
    }
}

static int
expire_note_pin_of(void *ctx, const StoreEntry *entry, Error *err)
{
    return expire_batch_add(ctx, entry->key, entry->bytes, EXPIRE_PINS, SIZE_MAX, err);
}

/* Pins of what goes, and of it only. */
static int
expire_remove_pins_of(ExpireBatch *batch, const char *label, Error *err)
{
    char prefix[LAYOUT_KEY_MAX];

    (void) snprintf(prefix, sizeof prefix, "pin/%s/", label);
    if (expire_walk(batch->x, prefix, expire_note_pin_of, batch, err) < 0)
        return -1;
    return expire_batch_end(batch, err);
}

int
expire_run_backup(Expire *x, size_t backup, bool dry_run, Error *err)
{
    AUTO(expire_batch_reset) ExpireBatch batch = {0};
    bool *doomed = calloc(x->list.count, sizeof *doomed);
    int rc;

    if (doomed == NULL)
        return error_nomem(err);
    expire_mark_children(&x->list, backup, doomed);
    for (size_t i = 0; i < x->list.count; i++)
        x->plan.reasons[i] = doomed[i] ? 0 : x->plan.reasons[i] | RETENTION_NO_RULE;
    free(doomed);
    rc = expire_batch_init(&batch, x, dry_run, err);
    if (rc == 0)
        rc = expire_remove_manifests(&batch, err);
    if (rc == 0)
        rc = expire_remove_backups(&batch, err);
    for (size_t i = 0; rc == 0 && i < x->list.count; i++)
        if (x->plan.reasons[i] == 0 && x->list.items[i].pinned)
            rc = expire_remove_pins_of(&batch, x->list.items[i].label, err);
    return rc;
}

void
expire_reset(Expire *x)
{
    retention_plan_reset(&x->plan);
    wal_inventory_reset(&x->inv);
    backup_list_reset(&x->list);
    free(x->of_backup);
    *x = (Expire){0};
}
