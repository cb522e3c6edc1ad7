/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Finding the place to stream from; see resume.h.
 */
#include "walstream/resume.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fs.h"
#include "common/log.h"

void
resume_plan_reset(ResumePlan *plan)
{
    free(plan->points);
    *plan = (ResumePlan){0};
}

void
resume_memory_reset(ResumeMemory *memory)
{
    free(memory->stored_histories);
    *memory = (ResumeMemory){0};
}

/* ---- history files ---- */

static bool
resume_history_stored(const ResumeMemory *memory, TimelineId tli)
{
    for (size_t i = 0; i < memory->stored_count; i++)
        if (memory->stored_histories[i] == tli)
            return true;
    return false;
}

static int
resume_store_history(
    Repository *repo, TimelineId tli, const char *text, size_t len, ResumeMemory *memory,
    const Deadline *dl, Error *err)
{
    WalFileName name = {.kind = WAL_FILE_HISTORY, .tli = tli};
    char key[LAYOUT_KEY_MAX];
    ObjectPutResult result;
    TimelineId *grown;

    if (object_put_bytes(
            repo->store, &repo->format, layout_wal_file_key(&name, key), text, len, dl, &result,
            err) < 0)
    {
        if (err->kind == ERROR_CONFLICT)
            (void) error_hint(
                err,
                "Two servers were promoted to timeline %u: archive only one of them, or give the "
                "other a [cluster] name of its own.",
                tli);
        return error_wrap(err, "could not store the history of timeline %u", tli);
    }
    if (result == OBJECT_CREATED)
        log_write(LOG_INFO, "stored the history of timeline %u", tli);
    if (resume_history_stored(memory, tli))
        return 0;
    grown = reallocarray(
        memory->stored_histories, memory->stored_count + 1, sizeof *memory->stored_histories);
    if (grown == NULL)
        return error_nomem(err);
    memory->stored_histories = grown;
    memory->stored_histories[memory->stored_count++] = tli;
    return 0;
}

/* Reads the history of the server's timeline and makes sure that it and its ancestors' are stored.
 */
static int
resume_secure_histories(
    Repository *repo, Source *source, ResumeMemory *memory, const Deadline *dl,
    TimelineHistory *history, Error *err)
{
    TimelineId tli = source->info.tli;
    AUTO(free_text) char *text = NULL;
    size_t len = 0;

    if (tli == 1)
        return timeline_parse_history(1, NULL, 0, history, err);
    if (source_read_history(source, tli, dl, &text, &len, err) < 0 ||
        timeline_parse_history(tli, text, len, history, err) < 0)
        return error_wrap(err, "could not read the history of timeline %u", tli);

    for (size_t i = 0; i + 1 < history->count; i++)
    {
        TimelineId ancestor = history->entries[i].tli;
        AUTO(free_text) char *older = NULL;
        size_t older_len;

        if (ancestor == 1 || resume_history_stored(memory, ancestor))
            continue;
        if (source_read_history(source, ancestor, dl, &older, &older_len, err) < 0)
        {
            if (err->kind != ERROR_NOT_FOUND)
                return -1;
            continue; /* a server keeps only what it was given; its own history names them all */
        }
        if (resume_store_history(repo, ancestor, older, older_len, memory, dl, err) < 0)
            return -1;
    }
    /* compared each time: it names all ancestors, and another server may have another one */
    return resume_store_history(repo, tli, text, len, memory, dl, err);
}

/* ---- the slot ---- */

static int
resume_secure_slot(
    Source *source, const char *conninfo, const char *slot, ResumeMemory *memory,
    const Deadline *dl, SlotState *state, Error *err)
{
    Error why = {0};

    if (source_read_slot(source, conninfo, slot, dl, state, &why) < 0)
    {
        *err = why;
        return error_wrap(err, "could not read replication slot \"%s\"", slot);
    }
    if (why.kind != ERROR_NONE && !memory->sql_refused)
    {
        memory->sql_refused = true;
        log_write(
            LOG_WARNING,
            "could not look at the health of replication slot \"%s\": %s; allow the role to "
            "connect to "
            "database \"postgres\"",
            slot, why.msg);
    }
    if (state->exists && !state->physical)
    {
        (void) error_set(err, ERROR_USAGE, "replication slot \"%s\" is not a physical one", slot);
        return error_hint(err, "Choose another name in [stream] slot.");
    }
    if (state->exists && state->lost)
    {
        log_write(
            LOG_ERROR,
            "replication slot \"%s\" is lost (%s%s%s): the server did not keep the WAL for it; "
            "making a "
            "new one. If WAL turns out to be missing, that is reported next",
            slot, state->wal_status, state->reason[0] != '\0' ? ", " : "", state->reason);
        if (source_drop_slot(source, slot, dl, err) < 0)
            return -1;
        state->exists = false;
    }
    if (!state->exists || (why.kind != ERROR_NONE && source->info.version < 150000))
    {
        if (source_create_slot(source, slot, dl, err) == 0)
            log_write(LOG_INFO, "created replication slot \"%s\"", slot);
        else if (err->kind != ERROR_EXISTS)
            return -1;
        if (source_read_slot(source, conninfo, slot, dl, state, &why) < 0)
        {
            *err = why;
            return error_wrap(err, "could not read replication slot \"%s\"", slot);
        }
    }
    if (state->bounded && !memory->unbounded_said)
    {
        memory->unbounded_said = true;
        log_write(
            LOG_INFO,
            "max_slot_wal_keep_size is set: the server gives up WAL that the slot needs when the "
            "repository is out of reach for long");
    }
    return 0;
}

/* ---- candidates ---- */

static int
resume_add_point(ResumePlan *plan, const ResumePoint *point, Error *err)
{
    ResumePoint *grown = reallocarray(plan->points, plan->count + 1, sizeof *grown);

    if (grown == NULL)
        return error_nomem(err);
    plan->points = grown;
    plan->points[plan->count++] = *point;
    return 0;
}

static Lsn
resume_part_start(Lsn lsn, uint32_t segment_bytes)
{
    uint32_t part_bytes = layout_part_bytes(segment_bytes);

    return lsn / part_bytes * part_bytes;
}

static Lsn
resume_segment_start(Lsn lsn, uint32_t segment_bytes)
{
    return lsn - wal_segment_offset(lsn, segment_bytes);
}

/* A hole [cursor, end) on entry e, as a place to begin; end UINT64_MAX: the repository's end. */
typedef struct ResumeHole
{
    const TimelineEntry *entry;
    Lsn cursor;
    Lsn end;
} ResumeHole;

static int
resume_add_hole(
    ResumePlan *plan, const ResumeHole *hole, const ResumeHole *before, uint32_t segment_bytes,
    Error *err)
{
    ResumePoint point = {
        .tli = hole->entry->tli,
        .start = resume_part_start(hole->cursor, segment_bytes),
        .durable = MAX(hole->cursor, hole->entry->begin)};

    if (before->entry != NULL)
    {
        /* what stays missing if the place before this one cannot be had */
        point.gap_tli = before->entry->tli;
        point.gap_start = MAX(before->cursor, before->entry->begin);
        point.gap_end = before->end;
        /* the next timeline is stored from the start of the segment on in which this one ends */
        if (before->end > before->entry->end)
            point.gap_end = resume_segment_start(before->entry->end, segment_bytes);
    }
    return resume_add_point(plan, &point, err);
}

int
resume_find_points(
    const TimelineHistory *history, const CatalogRanges *ranges, Lsn slot_lsn, Lsn server_flush,
    uint32_t segment_bytes, ResumePlan *out, Error *err)
{
    ResumeHole before = {0};
    size_t first = history->count;

    /* the newest timeline that there is WAL of, and its parent, whose end may be missing */
    for (size_t i = history->count; i-- > 0;)
    {
        if (ranges[i].count > 0)
        {
            first = i > 0 && ranges[i - 1].count > 0 ? i - 1 : i;
            break;
        }
    }

    for (size_t i = first; i < history->count; i++)
    {
        const TimelineEntry *entry = &history->entries[i];
        Lsn cursor = resume_segment_start(entry->begin, segment_bytes);

        if (i == first && ranges[i].count > 0)
        {
            /* what came before may have been expired; what the slot holds has never been stored */
            Lsn oldest = ranges[i].items[0].start;

            if (slot_lsn == LSN_INVALID || slot_lsn >= oldest)
                cursor = oldest;
            else
                cursor = MIN(oldest, MAX(cursor, resume_part_start(slot_lsn, segment_bytes)));
        }

        for (size_t r = 0; r < ranges[i].count; r++)
        {
            const CatalogRange *range = &ranges[i].items[r];
            ResumeHole hole = {.entry = entry, .cursor = cursor, .end = range->start};

            if (range->start >= entry->end)
                break; /* a dead branch */
            /* a hole that the slot has passed was seen, and recorded, when it came about */
            if (range->start > cursor && (slot_lsn == LSN_INVALID || range->start > slot_lsn))
            {
                if (resume_add_hole(out, &hole, &before, segment_bytes, err) < 0)
                    return -1;
                before = hole;
            }
            cursor = MAX(cursor, range->end);
        }
        if (cursor < entry->end)
        {
            ResumeHole hole = {.entry = entry, .cursor = cursor, .end = UINT64_MAX};

            if (resume_add_hole(out, &hole, &before, segment_bytes, err) < 0)
                return -1;
            before = hole;
        }
    }

    /* an empty repository, or nothing of the above can be had: what the slot holds */
    Lsn last_resort = slot_lsn != LSN_INVALID ? slot_lsn : server_flush;
    ResumePoint point = {
        .tli = timeline_of_lsn(history, last_resort),
        .start = resume_part_start(last_resort, segment_bytes),
    };

    point.durable = point.start;
    if (before.entry != NULL)
    {
        if (point.start <= before.cursor)
            return 0;
        point.gap_tli = before.entry->tli;
        point.gap_start = MAX(before.cursor, before.entry->begin);
        point.gap_end = point.start;
    }
    return resume_add_point(out, &point, err);
}

/* WAL of entry's timeline behind the point where the server's history left it. */
static void
resume_report_branch(
    const TimelineEntry *entry, const CatalogRanges *ranges, TimelineId server_tli,
    ResumeMemory *memory)
{
    const CatalogRange *last = ranges->count > 0 ? &ranges->items[ranges->count - 1] : NULL;
    char from[LSN_TEXT_BYTES], to[LSN_TEXT_BYTES], when[40];

    if (last == NULL || last->end <= entry->end ||
        (memory->branch_tli == entry->tli && memory->branch_end == last->end))
        return;
    memory->branch_tli = entry->tli;
    memory->branch_end = last->end;
    log_write(
        LOG_WARNING,
        "the repository holds WAL of timeline %u from %s to %s, stored %s, that the server on "
        "timeline "
        "%u does not have: commits in it exist only in the repository",
        entry->tli, lsn_format(entry->end, from, sizeof from), lsn_format(last->end, to, sizeof to),
        last->newest_us != 0 ? clock_format_utc(last->newest_us, when, sizeof when)
                             : "at an unknown time",
        server_tli);
}

int
resume_make_plan(
    Repository *repo, Source *source, const char *conninfo, const char *slot, ResumeMemory *memory,
    const Deadline *dl, ResumePlan *out, Error *err)
{
    const RepositoryDescription *d = &repo->description;
    AUTO(timeline_history_reset) TimelineHistory history = {0};
    CatalogRanges *ranges;
    Lsn slot_lsn;
    int rc = 0;

    if (source->info.system_identifier != d->system_identifier)
    {
        (void) error_set(
            err, ERROR_CONFLICT,
            "the server has system identifier %" PRIu64 ", the repository is for %" PRIu64,
            source->info.system_identifier, d->system_identifier);
        return error_hint(err, "Run \"walctl init\" for the new cluster and restart walstream.");
    }
    if (source->info.segment_bytes != d->segment_bytes)
        return error_set(
            err, ERROR_CONFLICT, "the server has segments of %u bytes, the repository of %u",
            source->info.segment_bytes, d->segment_bytes);
    if (resume_secure_histories(repo, source, memory, dl, &history, err) < 0 ||
        resume_secure_slot(source, conninfo, slot, memory, dl, &out->slot, err) < 0)
        return -1;

    /* a slot without a reservation, or from the future of another server, tells nothing */
    slot_lsn = out->slot.restart_lsn;
    if (slot_lsn > source->info.flush)
        slot_lsn = LSN_INVALID;

    ranges = calloc(history.count, sizeof *ranges);
    if (ranges == NULL)
        return error_nomem(err);
    for (size_t i = 0; rc == 0 && i < history.count; i++)
    {
        const TimelineEntry *entry = &history.entries[i];
        Lsn from;

        /* years of WAL need not be listed: the last 4 GiB, and all that the slot has not passed */
        rc = catalog_newest_log(repo, entry->tli, dl, &from, err);
        if (slot_lsn != LSN_INVALID && slot_lsn < from)
            from = slot_lsn;
        if (rc == 0)
            rc = catalog_list_ranges(repo, entry->tli, from, dl, &ranges[i], err);
        if (rc == 0)
            resume_report_branch(entry, &ranges[i], source->info.tli, memory);
    }
    if (rc == 0)
        rc = resume_find_points(
            &history, ranges, slot_lsn, source->info.flush, d->segment_bytes, out, err);
    for (size_t i = 0; i < history.count; i++)
        catalog_ranges_reset(&ranges[i]);
    free(ranges);
    return rc;
}

/* ---- what is there of the open part ---- */

int
resume_read_known(
    Repository *repo, const ResumePoint *point, const Deadline *dl, KnownPiece **known,
    size_t *count, Error *err)
{
    uint32_t segment_bytes = repo->description.segment_bytes;
    SegmentNo segno = wal_segment_of(point->start, segment_bytes);
    uint32_t part_start = wal_segment_offset(point->start, segment_bytes);
    uint32_t part_end = part_start + repo->description.part_bytes;
    AUTO(catalog_pieces_reset) CatalogPieces pieces = {0};
    AUTO(free_text) char *memory = NULL;
    KnownPiece *found;
    uint32_t cursor = part_start;

    *known = NULL;
    *count = 0;
    if (catalog_list_pieces(repo, point->tli, segno, dl, &pieces, err) < 0)
        return -1;
    if (pieces.count == 0)
        return 0;
    memory = calloc(pieces.count, sizeof *found);
    if (memory == NULL)
        return error_nomem(err);
    found = (KnownPiece *) (void *) memory;

    for (;;)
    {
        const WalExtent *best = NULL;
        char key[LAYOUT_KEY_MAX];
        ObjectLabel label;

        for (size_t i = 0; i < pieces.count; i++)
        {
            const WalExtent *piece = &pieces.items[i];

            if (piece->start >= part_start && piece->start <= cursor && piece->end > cursor &&
                piece->end <= part_end && (best == NULL || piece->end > best->end))
                best = piece;
        }
        if (best == NULL)
            break;
        if (object_peek(repo->store, layout_piece_key(best, segment_bytes, key), dl, &label, err) <
            0)
        {
            /* listed, and not there: nothing is known, least of all that the server lacks WAL */
            if (err->kind == ERROR_NOT_FOUND)
                err->kind = ERROR_TRANSIENT;
            if (err->kind == ERROR_CORRUPT)
                (void) error_hint(
                    err, "Move the damaged object out of the repository: what it held is asked of "
                         "the server again.");
            return error_wrap(err, "could not look at piece \"%s\"", key);
        }
        if (label.plain_bytes != best->end - best->start)
            return error_set(
                err, ERROR_CORRUPT, "piece \"%s\" holds %" PRIu64 " bytes", key, label.plain_bytes);
        found[*count].extent = *best;
        memcpy(found[*count].sha256, label.sha256, SHA256_BYTES);
        (*count)++;
        cursor = best->end;
    }
    *known = found;
    memory = NULL;
    return 0;
}

/* ---- gaps ---- */

bool
resume_gap_is_news(ResumeMemory *memory, const ResumePoint *point)
{
    if (point->gap_end <= point->gap_start)
        return false;
    for (size_t i = 0; i < MIN(memory->gap_count, RESUME_GAPS_MAX); i++)
    {
        const ResumePoint *known = &memory->gaps[i];

        if (known->gap_tli == point->gap_tli && known->gap_start == point->gap_start &&
            known->gap_end == point->gap_end)
            return false;
    }
    memory->gaps[memory->gap_count++ % RESUME_GAPS_MAX] = *point;
    return true;
}

int
resume_record_gap(
    Repository *repo, const ResumePoint *point, const char *reason, const Deadline *dl, Error *err)
{
    char from[LSN_TEXT_BYTES], to[LSN_TEXT_BYTES], when[40], key[LAYOUT_KEY_MAX];
    json_t *doc = json_pack(
        "{s:I, s:s, s:s, s:s, s:s}", "timeline", (json_int_t) point->gap_tli, "start",
        lsn_format(point->gap_start, from, sizeof from), "end",
        lsn_format(point->gap_end, to, sizeof to), "reason", reason, "noticed",
        clock_format_iso(clock_wall_us(), when, sizeof when));
    AUTO(free_text) char *text = doc != NULL ? json_dumps(doc, JSON_INDENT(2)) : NULL;
    ObjectPutResult result;

    json_decref(doc);
    if (text == NULL)
        return error_nomem(err);
    (void) layout_gap_key(point->gap_tli, point->gap_start, point->gap_end, key);
    if (object_put_bytes(repo->store, &repo->format, key, text, strlen(text), dl, &result, err) <
            0 &&
        err->kind != ERROR_CONFLICT) /* it was noted before, at another time */
        return error_wrap(err, "could not record the gap");
    return 0;
}
