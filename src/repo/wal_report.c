/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Gaps, branches and the durable end; see wal_report.h.
 *
 *   timeline 1   |#########|      |#######|####   dead branch
 *                           gap           ^ switch point of timeline 2
 *   timeline 2                         |###########|      durable
 *                                      its first segment is a copy up to the switch point
 */
#include "repo/wal_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/array.h"

static int
wal_report_add_gap(WalReport *r, const WalGap *gap, Error *err)
{
    WalGap *items = array_grow(r->gaps, r->gap_count, &r->gap_cap, sizeof *items, err);

    if (items == NULL)
        return -1;
    r->gaps = items;
    r->gaps[r->gap_count++] = *gap;
    return 0;
}

static int
wal_report_add_branch(WalReport *r, const WalBranch *branch, Error *err)
{
    WalBranch *items = array_grow(r->branches, r->branch_count, &r->branch_cap, sizeof *items, err);

    if (items == NULL)
        return -1;
    r->branches = items;
    r->branches[r->branch_count++] = *branch;
    return 0;
}

/* ---- lineage ---- */

static bool
wal_timeline_has_history(const WalTimeline *t)
{
    return t->history_state == WAL_HISTORY_READ || t->history_state == WAL_HISTORY_NOT_NEEDED;
}

static void
wal_report_find_end(const WalInventory *inv, WalReport *r)
{
    for (size_t i = inv->timeline_count; i-- > 0 && r->newest == 0;)
    {
        const WalTimeline *t = &inv->timelines[i];
        const WalRun *last = t->all.count > 0 ? &t->all.items[t->all.count - 1] : NULL;

        if (last == NULL)
            continue;
        r->newest = t->tli;
        r->durable = last->end;
        r->durable_us = last->end_us;
        r->lineage_known = wal_timeline_has_history(t);
    }
}

/* Where tli stops to be part of the newest timeline's past: UINT64_MAX if it never does. */
static Lsn
wal_report_alive_end(const WalInventory *inv, const WalReport *r, TimelineId tli)
{
    const WalTimeline *newest = wal_inventory_find(inv, r->newest);
    const TimelineEntry *entry;

    if (newest == NULL || !r->lineage_known)
        return UINT64_MAX;
    entry = timeline_find(&newest->history, tli);
    if (entry != NULL)
        return entry->end;
    /* one that has nothing but a history file yet is the server's next */
    return tli > r->newest ? UINT64_MAX : 0;
}

/* How far from lsn on WAL is such as complete backups of tli need; lsn if none needs it. */
static Lsn
wal_report_needed_to(const BackupList *backups, TimelineId tli, Lsn lsn, uint32_t segment_bytes)
{
    Lsn to = lsn;

    for (size_t i = 0; i < backups->count; i++)
    {
        const Backup *b = &backups->items[i];
        Lsn start, end;

        if (b->state != BACKUP_COMPLETE || b->header.tli != tli || b->header.stop_lsn == 0)
            continue;
        start =
            wal_segment_start(wal_segment_of(b->header.start_lsn, segment_bytes), segment_bytes);
        end = wal_segment_start(
            wal_segment_of(b->header.stop_lsn - 1, segment_bytes) + 1, segment_bytes);
        if (start <= lsn && end > to)
            to = end;
    }
    return to;
}

void
wal_report_note_backups(WalReport *report, const WalInventory *inv, const BackupList *backups)
{
    for (size_t i = 0; i < report->gap_count; i++)
    {
        WalGap *gap = &report->gaps[i];
        const WalTimeline *t = wal_inventory_find(inv, gap->tli);

        gap->by_retention = false;
        for (size_t n = 0; t != NULL && n < t->all.count; n++)
        {
            const WalRun *run = &t->all.items[n];
            Lsn at = run->start, to;

            if (run->end != gap->start)
                continue;
            while (at < run->end &&
                   (to = wal_report_needed_to(backups, gap->tli, at, inv->segment_bytes)) > at)
                at = to;
            gap->by_retention = at >= run->end;
        }
    }
}

bool
wal_report_is_dead(const WalInventory *inv, const WalReport *report, TimelineId tli, Lsn lsn)
{
    return lsn >= wal_report_alive_end(inv, report, tli);
}

/* ---- gaps ---- */

/* Between the runs of one timeline. */
static int
wal_report_find_inner_gaps(const WalTimeline *t, Lsn alive_end, WalReport *r, Error *err)
{
    for (size_t i = 1; i < t->all.count; i++)
    {
        WalGap gap = {
            .tli = t->tli,
            .next = t->tli,
            .start = t->all.items[i - 1].end,
            .end = t->all.items[i].start};

        /* what a child forked off within is told as the gap in front of the child */
        if (alive_end != 0 && gap.start < alive_end && gap.end > alive_end)
            continue;
        gap.dead = gap.start >= alive_end;
        if (wal_report_add_gap(r, &gap, err) < 0)
            return -1;
    }
    return 0;
}

/* Where the WAL of ancestor e that belongs to its child ends; 0: it has none. */
static Lsn
wal_report_ancestor_end(const WalInventory *inv, const TimelineEntry *e)
{
    const WalTimeline *t = wal_inventory_find(inv, e->tli);
    Lsn end = 0;

    for (size_t i = 0; t != NULL && i < t->all.count && t->all.items[i].start < e->end; i++)
        end = MIN(t->all.items[i].end, e->end);
    return end;
}

/* Between a timeline and its ancestors. *told: the WAL in front of its first run, too. */
static int
wal_report_find_junction_gap(
    const WalInventory *inv, const WalTimeline *t, WalReport *r, bool *told, Error *err)
{
    const TimelineHistory *h = &t->history;
    const TimelineEntry *self = timeline_find(h, t->tli);
    bool dead = wal_report_alive_end(inv, r, t->tli) == 0;
    Lsn first = t->all.count > 0 ? t->all.items[0].start : LSN_INVALID;

    if (t->all.count == 0 || self == NULL)
        return 0;
    for (size_t i = h->count - 1; i-- > 0;)
    {
        Lsn end = wal_report_ancestor_end(inv, &h->entries[i]);
        /* its first segment holds its parent's WAL up to the switch point, too */
        Lsn want = MIN(first, self->begin);
        WalGap before = {
            .tli = h->entries[i].tli, .next = t->tli, .start = end, .end = want, .dead = dead};
        WalGap behind = {
            .tli = t->tli, .next = t->tli, .start = self->begin, .end = first, .dead = dead};

        if (end == 0)
            continue;
        if (end < want && wal_report_add_gap(r, &before, err) < 0)
            return -1;
        *told = first > self->begin;
        if (*told && wal_report_add_gap(r, &behind, err) < 0)
            return -1;
        return 0;
    }
    return 0; /* the repository begins with this timeline */
}

/* A stream begins with a part: what begins within one has lost its beginning. */
static int
wal_report_find_first_gap(
    const WalInventory *inv, const WalTimeline *t, Lsn alive_end, WalReport *r, Error *err)
{
    Lsn first = t->all.count > 0 ? t->all.items[0].start : 0;
    WalGap gap = {
        .tli = t->tli,
        .next = t->tli,
        .start =
            first / layout_part_bytes(inv->segment_bytes) * layout_part_bytes(inv->segment_bytes),
        .end = first};

    if (gap.start == gap.end)
        return 0;
    gap.dead = gap.start >= alive_end;
    return wal_report_add_gap(r, &gap, err);
}

static int
wal_report_compare_gaps(const void *a, const void *b)
{
    const WalGap *left = a;
    const WalGap *right = b;

    if (left->tli != right->tli)
        return left->tli < right->tli ? -1 : 1;
    if (left->start != right->start)
        return left->start < right->start ? -1 : 1;
    return left->end < right->end ? -1 : left->end > right->end;
}

/* ---- branches ---- */

static int
wal_report_find_branch(const WalTimeline *t, Lsn alive_end, WalReport *r, Error *err)
{
    const WalRun *last = t->all.count > 0 ? &t->all.items[t->all.count - 1] : NULL;
    WalBranch branch = {.tli = t->tli, .start = alive_end};

    if (last == NULL || last->end <= alive_end)
        return 0;
    branch.end = last->end;
    branch.newest_us = last->newest_us;
    branch.whole = alive_end == 0;
    branch.start = MAX(alive_end, t->all.items[wal_runs_find(&t->all, alive_end)].start);
    return wal_report_add_branch(r, &branch, err);
}

/* ---- recorded gaps ---- */

/* Bytes of [start, end) that runs have; only what lies in [from, to) counts. */
static void
wal_report_cut(const WalRuns *runs, Lsn from, Lsn to, Lsn *start, const Lsn *end)
{
    while (*start < *end && *start >= from && *start < to)
    {
        size_t i = wal_runs_find(runs, *start);

        if (i == runs->count || runs->items[i].start > *start)
            return;
        *start = MIN(MIN(runs->items[i].end, to), *end);
    }
}

/* Where the next run of any timeline begins behind lsn, not beyond end. */
static Lsn
wal_report_next_start(const WalInventory *inv, Lsn lsn, Lsn end)
{
    for (size_t i = 0; i < inv->timeline_count; i++)
    {
        const WalRuns *runs = &inv->timelines[i].all;
        size_t at = wal_runs_find(runs, lsn);

        if (at < runs->count && runs->items[at].start <= lsn)
            at++;
        if (at < runs->count)
            end = MIN(end, runs->items[at].start);
    }
    return end;
}

/* Filled by its own timeline, or by descendants from their first segment on. */
static uint64_t
wal_report_missing(const WalInventory *inv, const WalGapNote *note)
{
    Lsn at = note->start;
    uint64_t missing = 0;

    while (at < note->end)
    {
        Lsn before = at;

        for (size_t i = 0; i < inv->timeline_count; i++)
        {
            const WalTimeline *t = &inv->timelines[i];
            Lsn from = 0;

            if (t->tli != note->tli)
            {
                const TimelineEntry *self = timeline_find(&t->history, t->tli);

                if (self == NULL || timeline_find(&t->history, note->tli) == NULL)
                    continue;
                from = self->begin / inv->segment_bytes * inv->segment_bytes;
            }
            wal_report_cut(&t->all, from, UINT64_MAX, &at, &note->end);
        }
        if (at == before)
        {
            Lsn next = wal_report_next_start(inv, at, note->end);

            missing += next - at;
            at = next;
        }
    }
    return missing;
}

/* ---- all together ---- */

int
wal_report_make(const WalInventory *inv, WalReport *out, Error *err)
{
    *out = (WalReport){0};
    wal_report_find_end(inv, out);
    for (size_t i = 0; i < inv->timeline_count; i++)
    {
        const WalTimeline *t = &inv->timelines[i];
        Lsn alive_end = wal_report_alive_end(inv, out, t->tli);
        bool told = false;

        if (wal_report_find_inner_gaps(t, alive_end, out, err) < 0 ||
            wal_report_find_branch(t, alive_end, out, err) < 0)
            return -1;
        if (wal_timeline_has_history(t) &&
            wal_report_find_junction_gap(inv, t, out, &told, err) < 0)
            return -1;
        if (!told && wal_report_find_first_gap(inv, t, alive_end, out, err) < 0)
            return -1;
    }
    if (out->gap_count > 1)
        qsort(out->gaps, out->gap_count, sizeof *out->gaps, wal_report_compare_gaps);
    if (inv->note_count == 0)
        return 0;
    out->notes = calloc(inv->note_count, sizeof *out->notes);
    if (out->notes == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < inv->note_count; i++)
        out->notes[out->note_count++] = (WalNoteState){
            .note = &inv->notes[i], .missing_bytes = wal_report_missing(inv, &inv->notes[i])};
    return 0;
}

void
wal_report_reset(WalReport *report)
{
    free(report->gaps);
    free(report->branches);
    free(report->notes);
    *report = (WalReport){0};
}

/* ---- texts ---- */

char *
wal_report_format_range(Lsn start, Lsn end, char *buf)
{
    char from[LSN_TEXT_BYTES], to[LSN_TEXT_BYTES];

    (void) snprintf(
        buf, WAL_REPORT_TEXT_MAX, "%s - %s", lsn_format(start, from, sizeof from),
        lsn_format(end, to, sizeof to));
    return buf;
}

char *
wal_report_format_segments(TimelineId tli, Lsn start, Lsn end, uint32_t segment_bytes, char *buf)
{
    SegmentNo first = wal_segment_of(start, segment_bytes);
    SegmentNo last = wal_segment_of(end > start ? end - 1 : start, segment_bytes);
    char from[WAL_SEGMENT_NAME_LEN + 1], to[WAL_SEGMENT_NAME_LEN + 1];

    (void) wal_segment_name(tli, first, segment_bytes, from, sizeof from);
    if (first == last)
        (void) snprintf(buf, WAL_REPORT_TEXT_MAX, "%s", from);
    else
        (void) snprintf(
            buf, WAL_REPORT_TEXT_MAX, "%s to %s (%" PRIu64 " segments)", from,
            wal_segment_name(tli, last, segment_bytes, to, sizeof to), last - first + 1);
    return buf;
}

char *
wal_report_format_consequence(
    TimelineId tli, Lsn start, Lsn end, uint32_t segment_bytes, bool dead, char *buf)
{
    Lsn next = end % segment_bytes == 0
                   ? end
                   : wal_segment_start(wal_segment_of(end, segment_bytes) + 1, segment_bytes);
    char from[LSN_TEXT_BYTES], to[LSN_TEXT_BYTES];

    (void) lsn_format(start, from, sizeof from);
    (void) lsn_format(next, to, sizeof to);
    if (dead)
        (void) snprintf(
            buf, WAL_REPORT_TEXT_MAX,
            "recovery along the dead branch of timeline %" PRIu32
            " stops at %s; the newest timeline does not need this WAL",
            tli, from);
    else
        (void) snprintf(
            buf, WAL_REPORT_TEXT_MAX,
            "recovery along timeline %" PRIu32
            " stops at %s; beyond it only from a backup that began at %s or later",
            tli, from, to);
    return buf;
}

char *
wal_report_format_bytes(uint64_t bytes, char *buf)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double) bytes;
    size_t unit = 0;

    while (value >= 1024 && unit + 1 < ARRAY_COUNT(units))
    {
        value /= 1024;
        unit++;
    }
    if (unit == 0)
        (void) snprintf(buf, WAL_REPORT_TEXT_MAX, "%" PRIu64 " bytes", bytes);
    else
        (void) snprintf(buf, WAL_REPORT_TEXT_MAX, "%.1f %s", value, units[unit]);
    return buf;
}
