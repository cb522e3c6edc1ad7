/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walctl verify: reads back what the repository holds and tells what is damaged or missing, and
 * what that means for a recovery.
 *
 *   inventory (gaps, totals) --> list again, manifests --bounded queue--> workers: read, check -->
 * findings
 *
 * Memory: a task for each worker and as many waiting, a listing page, the manifests of backups
 * under way, the findings. Nothing is written, nothing is repaired.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/array.h"
#include "common/log.h"
#include "common/parse.h"
#include "walctl/verify.h"

#define VERIFY_JOBS_DEFAULT 4
#define VERIFY_JOBS_MAX 64
#define VERIFY_EXTENTS_MAX 1000000u
#define VERIFY_STACK_BYTES (1024 * 1024)
#define VERIFY_WAIT_MS 100

/* The verb with its threads. The listing thread fills the queue, and shows the progress meanwhile.
 */
typedef struct VerifyRun
{
    Verify v;
    WalInventory inv;
    WalReport report;
    BackupList list;
    unsigned jobs;
    int64_t begin_ms;
    uint64_t skipped; /* listed after it made no sense to go on */
    VerifyTask open;  /* the task being put together */
    bool has_open;

    pthread_t threads[VERIFY_JOBS_MAX];
    unsigned thread_count;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t filled;
    pthread_cond_t drained;
    VerifyTask queue[VERIFY_JOBS_MAX];
    size_t queued;
    bool ended;
    unsigned running;
} VerifyRun;

void
verify_task_reset(VerifyTask *t)
{
    free(t->extents);
    if (t->backup != NULL && atomic_fetch_sub(&t->backup->refs, 1) == 1)
    {
        manifest_reset(&t->backup->manifest);
        free(t->backup);
    }
    *t = (VerifyTask){0};
}

/* ---- threads ---- */

static void *
verify_worker(void *arg)
{
    VerifyRun *run = arg;

    for (;;)
    {
        VerifyTask task;

        (void) pthread_mutex_lock(&run->lock);
        while (run->queued == 0 && !run->ended)
            (void) pthread_cond_wait(&run->filled, &run->lock);
        if (run->queued == 0)
        {
            run->running--;
            (void) pthread_cond_signal(&run->drained);
            (void) pthread_mutex_unlock(&run->lock);
            return NULL;
        }
        task = run->queue[0];
        run->queued--;
        memmove(run->queue, run->queue + 1, run->queued * sizeof *run->queue);
        (void) pthread_cond_signal(&run->drained);
        (void) pthread_mutex_unlock(&run->lock);

        verify_task_run(&run->v, &task);
        verify_task_reset(&task);
    }
}

/* Waits a moment for a worker, with the lock held, and shows the progress. */
static void
verify_wait(VerifyRun *run)
{
    Deadline soon = deadline_after_ms(VERIFY_WAIT_MS, NULL);

    deadline_cond_wait(&soon, &run->drained, &run->lock);
    progress_show(&run->v.progress);
}

static void
verify_submit(void *ctx, VerifyTask *task)
{
    VerifyRun *run = ctx;

    (void) pthread_mutex_lock(&run->lock);
    while (run->queued >= run->jobs)
        verify_wait(run);
    run->queue[run->queued++] = *task;
    (void) pthread_cond_signal(&run->filled);
    (void) pthread_mutex_unlock(&run->lock);
    *task = (VerifyTask){0};
}

static void
verify_submit_open(VerifyRun *run)
{
    if (run->has_open)
        verify_submit(run, &run->open);
    run->has_open = false;
}

static int
verify_start(VerifyRun *run, Error *err)
{
    pthread_attr_t attr;
    int rc = 0;

    if (pthread_attr_init(&attr) != 0)
        return error_nomem(err);
    (void) pthread_attr_setstacksize(&attr, VERIFY_STACK_BYTES);
    while (run->thread_count < run->jobs &&
           pthread_create(&run->threads[run->thread_count], &attr, verify_worker, run) == 0)
        run->thread_count++;
    (void) pthread_attr_destroy(&attr);
    run->running = run->thread_count;
    if (run->thread_count == 0)
        rc = error_set(err, ERROR_IO, "could not start a thread");
    return rc;
}

static void
verify_join(VerifyRun *run)
{
    (void) pthread_mutex_lock(&run->lock);
    run->ended = true;
    (void) pthread_cond_broadcast(&run->filled);
    while (run->running > 0)
        verify_wait(run);
    (void) pthread_mutex_unlock(&run->lock);
    for (unsigned i = 0; i < run->thread_count; i++)
        (void) pthread_join(run->threads[i], NULL);
}

/* ---- tasks ---- */

bool
verify_chosen(const Verify *v, const char *key, int64_t stored_us)
{
    const VerifyChoice *c = &v->choice;
    size_t len = strlen(key);

    if (c->since_us != 0 && stored_us != 0 && stored_us < c->since_us)
        return false;
    if (c->shards != 0 && XXH3_64bits(key, len) % c->shards != c->shard - 1)
        return false;
    return c->sample == 0 || (double) (XXH3_64bits_withSeed(key, len, c->seed) >> 11) * 100 <
                                 c->sample * (double) (UINT64_C(1) << 53);
}

/* Of one backup: the WAL that it and its chain need to be consistent. */
static bool
verify_wal_wanted(const Verify *v, TimelineId tli, Lsn start, Lsn end)
{
    const Backup *b = v->choice.label != NULL ? backup_list_find(v->list, v->choice.label) : NULL;

    return v->choice.label == NULL ||
           (b != NULL && b->state == BACKUP_COMPLETE && b->header.tli == tli &&
            start < b->header.stop_lsn && end > b->header.start_lsn);
}

static int
verify_add_extent(VerifyTask *t, const VerifyExtent *extent, Error *err)
{
    if (t->extent_count == VERIFY_EXTENTS_MAX)
        return error_set(err, ERROR_IO, "a segment has more than %u objects", VERIFY_EXTENTS_MAX);

    VerifyExtent *grown =
        array_grow(t->extents, t->extent_count, &t->extent_cap, sizeof *grown, err);

    if (grown == NULL)
        return -1;
    t->extents = grown;
    t->extents[t->extent_count++] = *extent;
    return 0;
}

static int
verify_compare_extents(const void *a, const void *b)
{
    const VerifyExtent *left = a;
    const VerifyExtent *right = b;

    if (left->start != right->start)
        return left->start < right->start ? -1 : 1;
    return left->end < right->end ? -1 : left->end > right->end;
}

/*
 * Pieces of a segment some of whose parts are there (they were read for themselves): the run of WAL
 * needs both.
 */
static int
verify_add_parts(VerifyRun *run, VerifyTask *t, Error *err)
{
    const WalTimeline *timeline = wal_inventory_find(&run->inv, t->tli);
    uint32_t segment_bytes = run->inv.segment_bytes;
    uint32_t part_bytes = layout_part_bytes(segment_bytes);
    Lsn base = wal_segment_start(t->segno, segment_bytes);

    for (uint32_t at = 0; timeline != NULL && at < segment_bytes; at += part_bytes)
    {
        VerifyExtent part = {.start = at, .end = at + part_bytes, .part = true};

        if (wal_runs_cover(&timeline->whole, base + part.start, base + part.end) &&
            verify_add_extent(t, &part, err) < 0)
            return -1;
    }
    qsort(t->extents, t->extent_count, sizeof *t->extents, verify_compare_extents);
    return 0;
}

/* The objects of a segment are together; decides how they are looked at. */
static int
verify_close_task(VerifyRun *run, Error *err)
{
    VerifyTask *t = &run->open;
    uint32_t segment_bytes = run->inv.segment_bytes;

    if (run->has_open && t->kind != VERIFY_FILE)
    {
        const WalTimeline *timeline = wal_inventory_find(&run->inv, t->tli);
        Lsn base = wal_segment_start(t->segno, segment_bytes);
        bool complete =
            timeline != NULL && wal_runs_cover(&timeline->whole, base, base + segment_bytes);
        bool pieces = !t->extents[0].part;

        t->superseded = pieces && complete;
        t->kind = complete ? pieces ? VERIFY_OBJECTS : VERIFY_SEGMENT
                  : pieces ? VERIFY_PIECES
                           : VERIFY_OBJECTS;
        if (t->kind == VERIFY_PIECES && layout_part_bytes(segment_bytes) < segment_bytes &&
            verify_add_parts(run, t, err) < 0)
            return -1;
    }
    verify_submit_open(run);
    return 0;
}

/* "<segment>.partial/<start>-<end>": of large segments these are stored in parts, too. */
static bool
verify_parse_partial_part(const char *key, uint32_t segment_bytes, LayoutEntry *out)
{
    const char *slash = strrchr(key, '/');
    char folder[LAYOUT_KEY_MAX];

    if (slash == NULL || (size_t) (slash - key) >= sizeof folder)
        return false;
    memcpy(folder, key, (size_t) (slash - key));
    folder[slash - key] = '\0';
    return layout_parse(folder, segment_bytes, out) && out->kind == LAYOUT_PARTIAL;
}

/* One listed object becomes a task, or part of the open one. */
static int
verify_note_entry(void *ctx, const StoreEntry *entry, Error *err)
{
    VerifyRun *run = ctx;
    VerifyTask *t = &run->open;
    LayoutEntry parsed;

    if (verify_stopped(&run->v))
    {
        run->skipped++;
        return 0;
    }
    if (!layout_parse(entry->key, run->inv.segment_bytes, &parsed) &&
        !verify_parse_partial_part(entry->key, run->inv.segment_bytes, &parsed))
        return 0;

    bool part = parsed.kind == LAYOUT_SEGMENT || parsed.kind == LAYOUT_PART;

    if (part || parsed.kind == LAYOUT_PIECE)
    {
        VerifyExtent extent = {
            .start = parsed.extent.start,
            .end = parsed.extent.end,
            .stored_bytes = entry->bytes,
            .part = part};
        char group[LAYOUT_KEY_MAX];
        Lsn base = wal_segment_start(parsed.extent.segno, run->inv.segment_bytes);

        /* a segment's objects are judged together: all or none of them */
        (void) layout_segment_key(parsed.tli, parsed.extent.segno, run->inv.segment_bytes, group);
        if (!verify_chosen(&run->v, group, entry->modified_us) ||
            !verify_wal_wanted(
                &run->v, parsed.tli, base + parsed.extent.start, base + parsed.extent.end))
            return 0;

        bool same = run->has_open && t->kind != VERIFY_FILE && t->tli == parsed.tli &&
                    t->segno == parsed.extent.segno && t->extents[0].part == part;

        if (!same)
        {
            if (verify_close_task(run, err) < 0)
                return -1;
            *t = (VerifyTask){
                .kind = VERIFY_OBJECTS, .tli = parsed.tli, .segno = parsed.extent.segno};
        }
        if (verify_add_extent(t, &extent, err) < 0)
            return -1;
        run->has_open = true;
        return 0;
    }
    if (parsed.kind == LAYOUT_GAP || !verify_chosen(&run->v, entry->key, entry->modified_us) ||
        (run->v.choice.label != NULL && parsed.kind != LAYOUT_HISTORY))
        return 0;
    if (verify_close_task(run, err) < 0)
        return -1;
    *t = (VerifyTask){
        .kind = VERIFY_FILE, .tli = parsed.tli, .name = parsed.name, .stored_bytes = entry->bytes};
    (void) snprintf(t->key, sizeof t->key, "%s", entry->key);
    run->has_open = true;
    return verify_close_task(run, err);
}

static int
verify_list(VerifyRun *run, Error *err)
{
    static const char *const folders[] = {"wal/", "live/"};

    for (size_t i = 0; i < ARRAY_COUNT(folders); i++)
    {
        char prefix[32];
        StoreListOptions options = {.prefix = prefix};

        if (run->v.choice.timeline != 0)
            (void) snprintf(
                prefix, sizeof prefix, "%s%08" PRIX32 "/", folders[i], run->v.choice.timeline);
        else
            (void) snprintf(prefix, sizeof prefix, "%s", folders[i]);
        if (store_walk(
                run->v.repo->store, &options, run->v.timeout_ms, NULL, verify_note_entry, run,
                err) < 0 ||
            verify_close_task(run, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- what needs no reading ---- */

static void
verify_find_missing_histories(VerifyRun *run)
{
    for (size_t i = 0; i < run->inv.timeline_count; i++)
    {
        const WalTimeline *t = &run->inv.timelines[i];
        WalFileName name = {.kind = WAL_FILE_HISTORY, .tli = t->tli};
        VerifyFinding f = {.verdict = VERIFY_MISSING, .tli = t->tli};

        if (t->history_state != WAL_HISTORY_MISSING ||
            (run->v.choice.timeline != 0 && run->v.choice.timeline != t->tli))
            continue;
        (void) layout_wal_file_key(&name, f.key);
        (void) snprintf(f.message, sizeof f.message, "the timeline history file is missing");
        (void) snprintf(
            f.consequence, sizeof f.consequence,
            "recovery to timeline %" PRIu32 " is not possible without its history file", t->tli);
        verify_add_finding(&run->v, &f);
    }
}

static uint64_t
verify_count_gaps(const VerifyRun *run)
{
    uint64_t count = 0;

    for (size_t i = 0; i < run->report.gap_count; i++)
    {
        const WalGap *gap = &run->report.gaps[i];

        if (!gap->dead && !gap->by_retention &&
            (run->v.choice.timeline == 0 || gap->tli == run->v.choice.timeline ||
             gap->next == run->v.choice.timeline))
            count++;
    }
    return count;
}

static void
verify_sum_totals(const VerifyRun *run, uint64_t *stored_bytes)
{
    *stored_bytes = 0;
    for (size_t i = 0; i < run->inv.timeline_count; i++)
    {
        const WalTimeline *t = &run->inv.timelines[i];

        if (run->v.choice.timeline != 0 && t->tli != run->v.choice.timeline)
            continue;
        *stored_bytes += t->stored_bytes;
    }
    if (!run->v.choice.wal)
        *stored_bytes = 0;
    *stored_bytes += verify_backup_bytes(&run->v);
    /* a guess, for the progress bar */
    if (run->v.choice.sample > 0)
        *stored_bytes = (uint64_t) ((double) *stored_bytes * run->v.choice.sample / 100);
    if (run->v.choice.shards > 0)
        *stored_bytes /= run->v.choice.shards;
}

/* ---- the result ---- */

static const char *const verify_verdict_names[] = {
    [VERIFY_DAMAGED] = "damaged",
    [VERIFY_MISSING] = "missing",
    [VERIFY_UNREAD] = "not verified",
    [VERIFY_LOCKED] = "locked",
};

static int
verify_compare_findings(const void *a, const void *b)
{
    const VerifyFinding *left = a;
    const VerifyFinding *right = b;

    if (left->verdict != right->verdict)
        return left->verdict < right->verdict ? -1 : 1;
    if (left->tli != right->tli)
        return left->tli < right->tli ? -1 : 1;
    if (left->start != right->start)
        return left->start < right->start ? -1 : 1;
    return strcmp(left->key, right->key);
}

static void
verify_print_findings(const VerifyRun *run)
{
    static const char *const titles[] = {
        [VERIFY_DAMAGED] = "DAMAGED ",
        [VERIFY_MISSING] = "MISSING ",
        [VERIFY_UNREAD] = "could not verify ",
        [VERIFY_LOCKED] = "could not open "};
    char range[WAL_REPORT_TEXT_MAX];

    for (size_t i = 0; i < run->v.finding_count; i++)
    {
        const VerifyFinding *f = &run->v.findings[i];

        (void) printf("%s%s\n", titles[f->verdict], f->key);
        if (f->end > f->start)
            (void) printf(
                "  %s of timeline %" PRIu32 "\n", wal_report_format_range(f->start, f->end, range),
                f->tli);
        (void) printf("  %s\n  %s\n", f->message, f->consequence);
    }
}

static void
verify_print_gaps(const VerifyRun *run)
{
    char range[WAL_REPORT_TEXT_MAX], names[WAL_REPORT_TEXT_MAX], text[WAL_REPORT_TEXT_MAX];

    for (size_t i = 0; i < run->report.gap_count; i++)
    {
        const WalGap *gap = &run->report.gaps[i];

        if (gap->by_retention)
            continue;
        if (run->v.choice.timeline != 0 && gap->tli != run->v.choice.timeline &&
            gap->next != run->v.choice.timeline)
            continue;
        (void) printf(
            "GAP %s of timeline %" PRIu32 "%s\n  missing: %s\n  %s\n",
            wal_report_format_range(gap->start, gap->end, range), gap->tli,
            gap->dead ? " (dead branch)" : "",
            wal_report_format_segments(
                gap->tli, gap->start, gap->end, run->inv.segment_bytes, names),
            wal_report_format_consequence(
                gap->tli, gap->start, gap->end, run->inv.segment_bytes, gap->dead, text));
    }
}

static void
verify_print(const VerifyRun *run, uint64_t gaps, uint64_t skipped, int64_t elapsed_ms)
{
    const Verify *v = &run->v;
    uint64_t findings = v->damaged + v->missing + v->unread + v->locked;
    char stored[WAL_REPORT_TEXT_MAX], plain[WAL_REPORT_TEXT_MAX], lsn[LSN_TEXT_BYTES];

    verify_print_findings(run);
    if (findings > v->finding_count)
        (void) printf("... and %" PRIu64 " more\n", findings - v->finding_count);
    for (size_t i = 0; i < v->key_id_count; i++)
        (void) printf("an identity is needed for one of the key ids %s\n", v->key_ids[i]);
    if (v->choice.wal)
        verify_print_gaps(run);
    (void) printf(
        "verified %" PRIu64 " objects, %s, %s of plain data, in %.1f s\n", v->objects,
        wal_report_format_bytes(v->stored_bytes, stored),
        wal_report_format_bytes(v->plain_bytes, plain), (double) elapsed_ms / 1000);
    if (skipped > 0)
        (void) printf("gave up; %" PRIu64 " objects were not looked at\n", skipped);
    if (run->report.newest != 0)
        (void) printf(
            "last durable %s on timeline %" PRIu32 "\n",
            lsn_format(run->report.durable, lsn, sizeof lsn), run->report.newest);
    if (findings + gaps + skipped == 0)
        (void) printf(
            "%s\n", v->objects > 0 ? "all of it is there and good" : "there is nothing to verify");
    else
        (void) printf(
            "%" PRIu64 " damaged, %" PRIu64 " missing, %" PRIu64 " gaps, %" PRIu64
            " could not be verified, %" PRIu64 " could not be opened\n",
            v->damaged, v->missing, gaps, v->unread, v->locked);
}

static int
verify_print_json(const VerifyRun *run, uint64_t gaps, uint64_t skipped, int64_t ms, Error *err)
{
    const Verify *v = &run->v;
    json_t *findings = json_array(), *key_ids = json_array();
    char sysid[32];
    json_t *doc;
    int rc;

    (void) snprintf(sysid, sizeof sysid, "%" PRIu64, v->repo->description.system_identifier);
    for (size_t i = 0; i < v->finding_count; i++)
    {
        const VerifyFinding *f = &v->findings[i];
        bool range = f->end > f->start;

        (void) json_array_append_new(
            findings,
            json_pack(
                "{s:s, s:o, s:I, s:o, s:o, s:o, s:o, s:b}", "verdict",
                verify_verdict_names[f->verdict], "object", walctl_json_text(f->key), "timeline",
                (json_int_t) f->tli, "start", range ? walctl_json_lsn(f->start) : json_null(),
                "end", range ? walctl_json_lsn(f->end) : json_null(), "message",
                walctl_json_text(f->message), "consequence", walctl_json_text(f->consequence),
                "harmless", (int) f->harmless));
    }
    for (size_t i = 0; i < v->key_id_count; i++)
        (void) json_array_append_new(key_ids, json_string(v->key_ids[i]));
    doc = json_pack(
        "{s:s, s:s, s:b, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}",
        "cluster", v->repo->description.cluster, "system_identifier", sysid, "good",
        (int) (v->damaged + v->missing + v->unread + v->locked + gaps + skipped == 0),
        "objects_verified", (json_int_t) v->objects, "stored_bytes", (json_int_t) v->stored_bytes,
        "plain_bytes", (json_int_t) v->plain_bytes, "seconds", (double) ms / 1000, "damaged",
        (json_int_t) v->damaged, "missing", (json_int_t) v->missing, "not_verified",
        (json_int_t) v->unread, "locked", (json_int_t) v->locked, "not_looked_at",
        (json_int_t) skipped, "gap_count", (json_int_t) gaps, "findings", findings, "gaps",
        walctl_json_gaps(&run->report, run->inv.segment_bytes, run->v.choice.timeline),
        "key_ids_needed", key_ids, "durable_lsn",
        run->report.newest != 0 ? walctl_json_lsn(run->report.durable) : json_null());
    rc = walctl_print_json(doc, err);
    json_decref(doc);
    return rc;
}

/* Without any identity there is nothing to tell but which one is needed. */
static int
verify_need_identity(const Verify *v, Error *err)
{
    (void) error_set(
        err, ERROR_DENIED,
        "cannot verify: the repository is encrypted for key ids %.600s and there is no identity",
        v->key_ids[0]);
    return error_hint(err, "Set [encryption] identity-file to a file with one of these keys.");
}

/* ---- the verb ---- */

static int
verify_read_sample(const Walctl *ctl, VerifyChoice *c, Error *err)
{
    const char *text = cli_value(&ctl->cli, "sample");
    char number[16];
    uint32_t percent;
    size_t len = text != NULL ? strlen(text) : 0;

    if (text == NULL)
        return 0;
    (void) snprintf(number, sizeof number, "%s", text);
    if (len > 0 && len < sizeof number && number[len - 1] == '%')
        number[len - 1] = '\0';
    if (!parse_u32(number, &percent) || percent == 0 || percent > 100)
        return error_set(err, ERROR_USAGE, "--sample \"%s\" is not a number from 1 to 100", text);
    c->sample = percent;
    /* another sample each time: what one passes over, the next ones will meet */
    c->seed = (uint64_t) clock_wall_us();
    return 0;
}

static int
verify_read_shard(const Walctl *ctl, VerifyChoice *c, Error *err)
{
    const char *text = cli_value(&ctl->cli, "shard");
    const char *slash = text != NULL ? strchr(text, '/') : NULL;
    char first[16];

    if (text == NULL)
        return 0;
    if (slash != NULL && (size_t) (slash - text) < sizeof first)
    {
        memcpy(first, text, (size_t) (slash - text));
        first[slash - text] = '\0';
        if (parse_u32(first, &c->shard) && parse_u32(slash + 1, &c->shards) && c->shard >= 1 &&
            c->shard <= c->shards)
            return 0;
    }
    (void) error_set(err, ERROR_USAGE, "--shard \"%s\" is not a share of the work", text);
    return error_hint(err, "Three machines share it with --shard 1/3, --shard 2/3, --shard 3/3.");
}

/* A time, or how long ago. */
static int
verify_read_since(const Walctl *ctl, VerifyChoice *c, Error *err)
{
    const char *text = cli_value(&ctl->cli, "since");
    int64_t ms;

    if (text == NULL || clock_parse_iso(text, &c->since_us))
        return 0;
    if (parse_duration_ms(text, &ms))
    {
        c->since_us = clock_wall_us() - ms * 1000;
        return 0;
    }
    (void) error_set(err, ERROR_USAGE, "--since \"%s\" is neither a time nor a duration", text);
    return error_hint(err, "For example --since 2026-03-01T00:00:00Z, or --since 7d.");
}

static int
verify_read_options(Walctl *ctl, VerifyRun *run, Error *err)
{
    const char *jobs = cli_value(&ctl->cli, "jobs");
    const char *timeline = cli_value(&ctl->cli, "timeline");
    VerifyChoice *c = &run->v.choice;
    uint32_t n = VERIFY_JOBS_DEFAULT;

    run->v.timeout_ms = WALCTL_TIMEOUT_MS;
    c->label = cli_value(&ctl->cli, "backup");
    c->wal = cli_value(&ctl->cli, "wal") != NULL;
    c->backups = cli_value(&ctl->cli, "backups") != NULL || c->label != NULL;
    if (!c->wal && cli_value(&ctl->cli, "backups") == NULL)
        c->wal = c->backups = true;
    if (verify_read_sample(ctl, c, err) < 0 || verify_read_shard(ctl, c, err) < 0 ||
        verify_read_since(ctl, c, err) < 0)
        return -1;
    if (jobs != NULL && (!parse_u32(jobs, &n) || n == 0 || n > VERIFY_JOBS_MAX))
        return error_set(
            err, ERROR_USAGE, "--jobs \"%s\" is not a number from 1 to %d", jobs, VERIFY_JOBS_MAX);
    run->jobs = n;
    if (timeline != NULL &&
        (!parse_u32(timeline, &run->v.choice.timeline) || run->v.choice.timeline == 0))
        return error_set(err, ERROR_USAGE, "--timeline \"%s\" is not a timeline ID", timeline);
    return cli_duration_ms(&ctl->cli, "timeout", &run->v.timeout_ms, err);
}

static int
verify_gather(Walctl *ctl, VerifyRun *run, Error *err)
{
    Deadline dl = deadline_after_ms(run->v.timeout_ms, NULL);

    if (walctl_open_repository(ctl, true, &dl, &run->v.repo, err) < 0)
        return -1;
    wal_inventory_init(&run->inv, run->v.repo->description.segment_bytes);
    /* backups first: the WAL that they need was there before them */
    if (backup_list_read(run->v.repo, run->v.timeout_ms, run->jobs, &run->list, err) < 0 ||
        wal_inventory_list(run->v.repo, run->v.timeout_ms, &run->inv, err) < 0 ||
        wal_inventory_read_histories(run->v.repo, run->v.timeout_ms, &run->inv, err) < 0 ||
        wal_report_make(&run->inv, &run->report, err) < 0)
        return -1;
    if (run->v.choice.timeline != 0 &&
        wal_inventory_find(&run->inv, run->v.choice.timeline) == NULL)
        return error_set(
            err, ERROR_NOT_FOUND, "the repository holds nothing of timeline %" PRIu32,
            run->v.choice.timeline);
    if (run->v.choice.label != NULL && backup_list_find(&run->list, run->v.choice.label) == NULL)
    {
        (void) error_set(err, ERROR_NOT_FOUND, "there is no backup \"%.64s\"", run->v.choice.label);
        return error_hint(err, "\"walctl info\" lists them.");
    }
    wal_report_note_backups(&run->report, &run->inv, &run->list);
    run->v.inv = &run->inv;
    run->v.report = &run->report;
    run->v.list = &run->list;
    return 0;
}

static int
verify_run(Walctl *ctl, VerifyRun *run, int *exit_code, Error *err)
{
    uint64_t stored_bytes, gaps;
    int64_t elapsed_ms;
    int rc;

    if (verify_read_options(ctl, run, err) < 0 || verify_gather(ctl, run, err) < 0)
        return error_wrap(err, "could not verify");
    verify_sum_totals(run, &stored_bytes);
    progress_begin(&run->v.progress, "verifying", stored_bytes);
    run->begin_ms = clock_monotonic_ms();
    if (verify_start(run, err) < 0)
        return -1;
    rc = run->v.choice.wal || run->v.choice.label != NULL ? verify_list(run, err) : 0;
    if (rc == 0 && run->v.choice.backups)
        rc = verify_list_backups(&run->v, verify_submit, run, err);
    verify_join(run);
    progress_end(&run->v.progress);
    elapsed_ms = clock_monotonic_ms() - run->begin_ms;
    if (run->v.key_id_count > 0 && run->v.repo->identities == NULL)
        return verify_need_identity(&run->v, err);
    if (rc < 0)
        return error_wrap(err, "could not verify");
    if (run->v.out_of_memory)
        return error_nomem(err);

    if (run->v.choice.wal)
        verify_find_missing_histories(run);
    if (run->v.finding_count > 1)
        qsort(
            run->v.findings, run->v.finding_count, sizeof *run->v.findings,
            verify_compare_findings);
    gaps = run->v.choice.wal ? verify_count_gaps(run) : 0;
    if (run->v.damaged + run->v.missing + run->v.unread + run->v.locked + gaps + run->skipped > 0)
        *exit_code = 1;
    if (ctl->json)
        return verify_print_json(run, gaps, run->skipped, elapsed_ms, err);
    verify_print(run, gaps, run->skipped, elapsed_ms);
    if (fflush(stdout) != 0 || ferror(stdout))
        return error_sys(err, "could not print the result");
    return 0;
}

int
walctl_verify(Walctl *ctl, int *exit_code, Error *err)
{
    VerifyRun *run = calloc(1, sizeof *run);
    int rc;

    if (run == NULL)
        return error_nomem(err);
    (void) pthread_mutex_init(&run->lock, NULL);
    (void) pthread_mutex_init(&run->v.lock, NULL);
    (void) pthread_cond_init(&run->filled, NULL);
    (void) clock_cond_init(&run->drained);
    rc = verify_run(ctl, run, exit_code, err);
    (void) pthread_cond_destroy(&run->drained);
    (void) pthread_cond_destroy(&run->filled);
    (void) pthread_mutex_destroy(&run->v.lock);
    (void) pthread_mutex_destroy(&run->lock);
    verify_task_reset(&run->open);
    free(run->v.findings);
    backup_list_reset(&run->list);
    wal_report_reset(&run->report);
    wal_inventory_reset(&run->inv);
    repository_free(run->v.repo);
    free(run);
    return rc;
}
