/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walctl info: what backups and WAL the repository holds and what can be recovered, told by
 * listings, the headers of manifests, and the history files, if they can be opened. It informs:
 * whatever it finds, its exit code is 0.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/parse.h"
#include "walctl/info.h"

#define INFO_CLUSTERS_MAX 1024

typedef struct InfoClusters
{
    size_t prefix_len;
    uint64_t ids[INFO_CLUSTERS_MAX];
    size_t count;
} InfoClusters;

#define INFO_JOBS 8

/* ---- which clusters ---- */

static int
info_note_cluster(void *ctx, const StoreEntry *entry, Error *err)
{
    InfoClusters *found = ctx;
    const char *name = entry->key + found->prefix_len;
    size_t len = strlen(name);
    char digits[32];
    uint64_t id;

    if (!entry->is_prefix || len < 2 || len > sizeof digits)
        return 0;
    memcpy(digits, name, len - 1);
    digits[len - 1] = '\0';
    if (!parse_u64(digits, &id) || id == 0)
        return 0;
    if (found->count == ARRAY_COUNT(found->ids))
        return error_set(err, ERROR_IO, "more than %d system identifiers", INFO_CLUSTERS_MAX);
    found->ids[found->count++] = id;
    return 0;
}

/* All system identifiers under the cluster's name, or the one that was chosen. */
static int
info_find_clusters(Walctl *ctl, const Deadline *dl, InfoClusters *found, Error *err)
{
    const char *chosen = cli_value(&ctl->cli, "system-identifier");
    AUTO(store_freep) Store *store = NULL;
    char prefix[REPOSITORY_PREFIX_MAX];

    if (chosen != NULL)
    {
        if (!parse_u64(chosen, &found->ids[0]) || found->ids[0] == 0)
            return error_set(
                err, ERROR_USAGE, "--system-identifier \"%s\" is not a number", chosen);
        found->count = 1;
        return 0;
    }
    if (!layout_cluster_name_valid(ctl->cfg->cluster.name))
        return error_set(
            err, ERROR_USAGE, "[cluster] name \"%s\" is not usable as a folder",
            ctl->cfg->cluster.name);
    (void) snprintf(prefix, sizeof prefix, "%s/", ctl->cfg->cluster.name);
    found->prefix_len = strlen(prefix);

    StoreListOptions options = {.prefix = prefix, .by_folder = true};

    if (repository_open_store(ctl->cfg, true, false, &store, err) < 0)
        return -1;
    if (store_list(store, &options, info_note_cluster, found, dl, err) < 0)
        return error_wrap(
            err, "could not list the clusters of repository \"%s\"", ctl->cfg->repository.url);
    if (found->count > 0)
        return 0;
    (void) error_set(
        err, ERROR_NOT_FOUND, "repository \"%s\" holds no cluster \"%s\"", store->url,
        ctl->cfg->cluster.name);
    return error_hint(err, "Create it with \"walctl init\".");
}

/* ---- gathering ---- */

static void
info_reset(Info *info)
{
    recovery_windows_reset(&info->windows);
    backup_list_reset(&info->backups);
    wal_report_reset(&info->report);
    wal_inventory_reset(&info->inv);
    repository_free(info->repo);
    *info = (Info){0};
}

static int
info_gather(Walctl *ctl, uint64_t system_identifier, int64_t timeout_ms, Info *info, Error *err)
{
    RepositoryOptions options = {.system_identifier = system_identifier};
    Deadline dl = deadline_after_ms(timeout_ms, NULL);
    Error why = {0};

    if (repository_open(ctl->cfg, &options, &dl, &info->repo, err) < 0)
        return -1;
    /* whoever may not read the identity is told all that needs none */
    if (repository_load_identities(ctl->cfg, &info->repo->identities, &why) < 0)
    {
        (void) error_wrap(&why, "going on without an identity");
        log_error(LOG_WARNING, &why);
    }
    wal_inventory_init(&info->inv, info->repo->description.segment_bytes);
    /* backups first: the WAL that they need was there before them */
    if (backup_list_read(info->repo, timeout_ms, INFO_JOBS, &info->backups, err) < 0 ||
        wal_inventory_list(info->repo, timeout_ms, &info->inv, err) < 0 ||
        wal_inventory_read_histories(info->repo, timeout_ms, &info->inv, err) < 0 ||
        wal_report_make(&info->inv, &info->report, err) < 0 ||
        recovery_windows_make(&info->backups, &info->inv, &info->windows, err) < 0)
        return -1;
    wal_report_note_backups(&info->report, &info->inv, &info->backups);
    return 0;
}

/* ---- text ---- */

const char *
info_time(int64_t us, char *buf, size_t len)
{
    return us == 0 ? "at an unknown time" : clock_format_utc(us, buf, len);
}

static void
info_print_history(const WalTimeline *t)
{
    const TimelineHistory *h = &t->history;
    char lsn[LSN_TEXT_BYTES];

    (void) printf("\ntimeline %" PRIu32, t->tli);
    switch (t->history_state)
    {
        case WAL_HISTORY_NOT_NEEDED:
            (void) printf("\n");
            break;
        case WAL_HISTORY_READ:
            (void) printf(
                ", from timeline %" PRIu32 " at %s\n", h->entries[h->count - 2].tli,
                lsn_format(h->entries[h->count - 2].end, lsn, sizeof lsn));
            break;
        case WAL_HISTORY_MISSING:
            (void) printf(
                "\n  its history file is MISSING: recovery to this timeline is not possible\n");
            break;
        case WAL_HISTORY_ENCRYPTED:
            (void) printf(
                "\n  its history is encrypted and cannot be opened here: parent, switch point and "
                "gaps between\n"
                "  timelines are not known\n");
            if (t->history_error.hint[0] != '\0')
                (void) printf("  %s\n", t->history_error.hint);
            break;
        case WAL_HISTORY_DAMAGED:
            (void) printf("\n  its history file is DAMAGED: %s\n", t->history_error.msg);
            break;
        case WAL_HISTORY_UNREAD:
            (void) printf("\n  its history could not be read: %s\n", t->history_error.msg);
            break;
    }
}

static void
info_print_run(const Info *info, const WalTimeline *t, const WalRun *run)
{
    char range[WAL_REPORT_TEXT_MAX], names[WAL_REPORT_TEXT_MAX], bytes[WAL_REPORT_TEXT_MAX];
    char from[40], to[40];

    (void) printf(
        "  %s   %s\n", wal_report_format_range(run->start, run->end, range),
        wal_report_format_segments(t->tli, run->start, run->end, info->inv.segment_bytes, names));
    (void) printf(
        "    stored %s to %s, %" PRIu64 " objects, %s\n",
        info_time(run->oldest_us, from, sizeof from), info_time(run->newest_us, to, sizeof to),
        run->objects, wal_report_format_bytes(run->stored_bytes, bytes));
}

/* Parts of a run that no complete object holds: calls fn for each. */
static void
info_each_piece_only(
    const WalTimeline *t, const WalRun *run, void (*fn)(void *ctx, Lsn start, Lsn end), void *ctx)
{
    size_t i = wal_runs_find(&t->whole, run->start);
    Lsn at = run->start;

    while (at < run->end)
    {
        bool more = i < t->whole.count && t->whole.items[i].start < run->end;
        Lsn next = more ? t->whole.items[i].start : run->end;

        if (next > at)
            fn(ctx, at, next);
        if (!more)
            return;
        at = MAX(at, t->whole.items[i].end);
        i++;
    }
}

static void
info_print_piece_only(void *ctx UNUSED, Lsn start, Lsn end)
{
    char range[WAL_REPORT_TEXT_MAX];

    (void) printf("    in pieces only: %s\n", wal_report_format_range(start, end, range));
}

static void
info_print_gap(const Info *info, const WalGap *gap)
{
    char range[WAL_REPORT_TEXT_MAX], names[WAL_REPORT_TEXT_MAX], text[WAL_REPORT_TEXT_MAX];

    if (gap->by_retention)
    {
        (void) printf(
            "  not kept %s: in front of it stands what backups need to be consistent\n",
            wal_report_format_range(gap->start, gap->end, range));
        return;
    }
    (void) printf(
        "  GAP %s   %s\n    %s\n", wal_report_format_range(gap->start, gap->end, range),
        wal_report_format_segments(gap->tli, gap->start, gap->end, info->inv.segment_bytes, names),
        wal_report_format_consequence(
            gap->tli, gap->start, gap->end, info->inv.segment_bytes, gap->dead, text));
}

/* Runs and gaps of a timeline in the order of their LSNs. */
static void
info_print_timeline(const Info *info, const WalTimeline *t)
{
    const WalReport *r = &info->report;
    char bytes[WAL_REPORT_TEXT_MAX];
    size_t gap = 0;

    info_print_history(t);
    while (gap < r->gap_count && r->gaps[gap].tli < t->tli)
        gap++;
    for (size_t i = 0; i < t->all.count; i++)
    {
        for (; gap < r->gap_count && r->gaps[gap].tli == t->tli &&
               r->gaps[gap].start < t->all.items[i].start;
             gap++)
            info_print_gap(info, &r->gaps[gap]);
        info_print_run(info, t, &t->all.items[i]);
        info_each_piece_only(t, &t->all.items[i], info_print_piece_only, NULL);
    }
    for (; gap < r->gap_count && r->gaps[gap].tli == t->tli; gap++)
        info_print_gap(info, &r->gaps[gap]);
    (void) printf(
        "  %" PRIu64 " segments, %" PRIu64 " parts of segments, %" PRIu64 " pieces, %" PRIu64
        " history files, %" PRIu64 " backup history files, %" PRIu64 " partial segments, %s\n",
        t->segments, t->parts, t->piece_count, t->histories, t->backup_files, t->partials,
        wal_report_format_bytes(t->stored_bytes, bytes));
}

static void
info_print_branches(const Info *info)
{
    const WalReport *r = &info->report;
    char range[WAL_REPORT_TEXT_MAX], when[40];

    for (size_t i = 0; i < r->branch_count; i++)
    {
        const WalBranch *b = &r->branches[i];

        (void) printf(
            "\ndead branch: %s of timeline %" PRIu32 ", %s timeline %" PRIu32
            "\n  stored until %s; its commits are not on timeline %" PRIu32 "\n",
            wal_report_format_range(b->start, b->end, range), b->tli,
            b->whole ? "which is no ancestor of" : "beyond the switch point to", r->newest,
            info_time(b->newest_us, when, sizeof when), r->newest);
    }
}

static void
info_print_notes(const Info *info)
{
    char range[WAL_REPORT_TEXT_MAX], bytes[WAL_REPORT_TEXT_MAX], when[40];

    for (size_t i = 0; i < info->report.note_count; i++)
    {
        const WalNoteState *n = &info->report.notes[i];

        (void) printf(
            "\nrecorded gap: %s of timeline %" PRIu32 ", noticed %s\n",
            wal_report_format_range(n->note->start, n->note->end, range), n->note->tli,
            info_time(n->note->noted_us, when, sizeof when));
        if (n->missing_bytes == 0)
            (void) printf("  archived segments have filled it since\n");
        else
            (void) printf(
                "  %s of it %s still missing\n", wal_report_format_bytes(n->missing_bytes, bytes),
                n->missing_bytes == 1 ? "is" : "are");
    }
}

static void
info_print(const Walctl *ctl, const Info *info)
{
    const RepositoryDescription *d = &info->repo->description;
    const WalReport *r = &info->report;
    char bytes[WAL_REPORT_TEXT_MAX], lsn[LSN_TEXT_BYTES], when[40];
    uint64_t stored = 0;

    (void) printf(
        "cluster        %s\n"
        "identifier     %" PRIu64 "\n"
        "PostgreSQL     %d, segments of %" PRIu32 " MB\n"
        "repository     %s\n"
        "created        %s by %s\n"
        "creation       %s\n",
        d->cluster, d->system_identifier, d->pg_major, d->segment_bytes / (1024 * 1024),
        ctl->cfg->repository.url, d->created, d->created_by,
        d->conditional_create ? "conditional" : "NOT conditional");
    for (size_t i = 0; i < info->inv.timeline_count; i++)
    {
        info_print_timeline(info, &info->inv.timelines[i]);
        stored += info->inv.timelines[i].stored_bytes;
    }
    info_print_branches(info);
    info_print_notes(info);
    if (info->inv.unknown > 0)
        (void) printf("\n%" PRIu64 " objects have names of no kind\n", info->inv.unknown);
    if (r->newest == 0)
        (void) printf("\nno WAL\n");
    else
        (void) printf(
            "\nlast durable   %s on timeline %" PRIu32 ", stored %s\n",
            lsn_format(r->durable, lsn, sizeof lsn), r->newest,
            info_time(r->durable_us, when, sizeof when));
    (void) printf("stored         %s of WAL\n", wal_report_format_bytes(stored, bytes));
    info_print_backups(info);
}

/* ---- JSON ---- */

static void
info_add_piece_only(void *ctx, Lsn start, Lsn end)
{
    (void) json_array_append_new(
        ctx, json_pack("{s:o, s:o}", "start", walctl_json_lsn(start), "end", walctl_json_lsn(end)));
}

static json_t *
info_json_runs(const Info *info, const WalTimeline *t)
{
    json_t *list = json_array();

    for (size_t i = 0; i < t->all.count; i++)
    {
        const WalRun *run = &t->all.items[i];
        json_t *pieces = json_array();
        char first[WAL_SEGMENT_NAME_LEN + 1], last[WAL_SEGMENT_NAME_LEN + 1];
        uint32_t bytes = info->inv.segment_bytes;

        info_each_piece_only(t, run, info_add_piece_only, pieces);
        (void) json_array_append_new(
            list,
            json_pack(
                "{s:o, s:o, s:s, s:s, s:o, s:o, s:I, s:I, s:o}", "start",
                walctl_json_lsn(run->start), "end", walctl_json_lsn(run->end), "first_segment",
                wal_segment_name(
                    t->tli, wal_segment_of(run->start, bytes), bytes, first, sizeof first),
                "last_segment",
                wal_segment_name(
                    t->tli, wal_segment_of(run->end - 1, bytes), bytes, last, sizeof last),
                "first_stored", walctl_json_time(run->oldest_us), "last_stored",
                walctl_json_time(run->newest_us), "objects", (json_int_t) run->objects,
                "stored_bytes", (json_int_t) run->stored_bytes, "pieces_only", pieces));
    }
    return list;
}

static json_t *
info_json_timeline(const Info *info, const WalTimeline *t)
{
    const TimelineHistory *h = &t->history;
    bool forked = t->history_state == WAL_HISTORY_READ;

    return json_pack(
        "{s:I, s:s, s:o, s:o, s:o, s:o, s:{s:I, s:I, s:I, s:I, s:I, s:I}, s:I}", "timeline",
        (json_int_t) t->tli, "history", wal_history_state_name(t->history_state), "history_error",
        t->history_error.kind != ERROR_NONE ? walctl_json_text(t->history_error.msg) : json_null(),
        "parent", forked ? json_integer(h->entries[h->count - 2].tli) : json_null(), "switch_point",
        forked ? walctl_json_lsn(h->entries[h->count - 2].end) : json_null(), "ranges",
        info_json_runs(info, t), "objects", "segments", (json_int_t) t->segments, "parts",
        (json_int_t) t->parts, "pieces", (json_int_t) t->piece_count, "histories",
        (json_int_t) t->histories, "backup_files", (json_int_t) t->backup_files, "partials",
        (json_int_t) t->partials, "stored_bytes", (json_int_t) t->stored_bytes);
}

static json_t *
info_json_requests(const Info *info)
{
    StoreCounters c = store_count_read(info->repo->counted);

    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I}", "gets", (json_int_t) c.gets, "stats", (json_int_t) c.stats,
        "lists", (json_int_t) c.lists, "get_bytes", (json_int_t) c.get_bytes, "failures",
        (json_int_t) c.failures);
}

static json_t *
info_json(const Info *info)
{
    const RepositoryDescription *d = &info->repo->description;
    const WalReport *r = &info->report;
    json_t *timelines = json_array(), *branches = json_array(), *notes = json_array();
    uint64_t stored = 0;
    char sysid[32];

    (void) snprintf(sysid, sizeof sysid, "%" PRIu64, d->system_identifier);
    for (size_t i = 0; i < info->inv.timeline_count; i++)
    {
        (void) json_array_append_new(timelines, info_json_timeline(info, &info->inv.timelines[i]));
        stored += info->inv.timelines[i].stored_bytes;
    }
    for (size_t i = 0; i < r->branch_count; i++)
    {
        const WalBranch *b = &r->branches[i];

        (void) json_array_append_new(
            branches, json_pack(
                          "{s:I, s:o, s:o, s:o, s:b}", "timeline", (json_int_t) b->tli, "start",
                          walctl_json_lsn(b->start), "end", walctl_json_lsn(b->end), "last_stored",
                          walctl_json_time(b->newest_us), "whole_timeline", (int) b->whole));
    }
    for (size_t i = 0; i < r->note_count; i++)
    {
        const WalNoteState *n = &r->notes[i];

        (void) json_array_append_new(
            notes, json_pack(
                       "{s:I, s:o, s:o, s:o, s:I}", "timeline", (json_int_t) n->note->tli, "start",
                       walctl_json_lsn(n->note->start), "end", walctl_json_lsn(n->note->end),
                       "recorded", walctl_json_time(n->note->noted_us), "missing_bytes",
                       (json_int_t) n->missing_bytes));
    }
    return json_pack(
        "{s:s, s:i, s:I, s:b, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:o, s:o, "
        "s:o}",
        "system_identifier", sysid, "postgresql_major", d->pg_major, "segment_bytes",
        (json_int_t) d->segment_bytes, "conditional_create", (int) d->conditional_create, "created",
        d->created, "created_by", d->created_by, "timelines", timelines, "gaps",
        walctl_json_gaps(r, d->segment_bytes, 0), "dead_branches", branches, "recorded_gaps", notes,
        "newest_timeline", r->newest != 0 ? json_integer(r->newest) : json_null(), "durable_lsn",
        r->newest != 0 ? walctl_json_lsn(r->durable) : json_null(), "durable_at",
        walctl_json_time(r->durable_us), "stored_bytes", (json_int_t) stored, "unknown_objects",
        (json_int_t) info->inv.unknown, "backups", info_json_backups(info), "windows",
        info_json_windows(info), "store_requests", info_json_requests(info));
}

/* ---- the verb ---- */

int
walctl_info(Walctl *ctl, int *exit_code UNUSED, Error *err)
{
    int64_t timeout_ms = WALCTL_TIMEOUT_MS;
    InfoClusters *clusters = calloc(1, sizeof *clusters);
    json_t *list = ctl->json ? json_array() : NULL;
    json_t *doc = NULL;
    int rc = clusters != NULL && (!ctl->json || list != NULL) ? 0 : error_nomem(err);

    if (rc == 0)
        rc = cli_duration_ms(&ctl->cli, "timeout", &timeout_ms, err);

    Deadline dl = deadline_after_ms(timeout_ms, NULL);

    if (rc == 0)
        rc = info_find_clusters(ctl, &dl, clusters, err);
    for (size_t i = 0; rc == 0 && i < clusters->count; i++)
    {
        AUTO(info_reset) Info info = {0};

        rc = info_gather(ctl, clusters->ids[i], timeout_ms, &info, err);
        if (rc == 0 && list != NULL && json_array_append_new(list, info_json(&info)) < 0)
            rc = error_nomem(err);
        if (rc == 0 && list == NULL)
        {
            if (i > 0)
                (void) printf("\n\n");
            info_print(ctl, &info);
        }
    }
    free(clusters);
    if (rc == 0 && list != NULL)
    {
        doc = json_pack(
            "{s:s, s:o, s:O}", "cluster", ctl->cfg->cluster.name, "repository",
            walctl_json_text(ctl->cfg->repository.url), "clusters", list);
        rc = walctl_print_json(doc, err);
        json_decref(doc);
    }
    json_decref(list);
    if (rc == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        return error_sys(err, "could not print the result");
    return rc;
}
