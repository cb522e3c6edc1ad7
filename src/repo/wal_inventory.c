/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Listings as runs; see wal_inventory.h.
 */
#include "repo/wal_inventory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"

static const char *const wal_history_state_names[] = {
    [WAL_HISTORY_NOT_NEEDED] = "not needed", [WAL_HISTORY_READ] = "read",
    [WAL_HISTORY_MISSING] = "missing",       [WAL_HISTORY_ENCRYPTED] = "encrypted",
    [WAL_HISTORY_DAMAGED] = "damaged",       [WAL_HISTORY_UNREAD] = "unread",
};

const char *
wal_history_state_name(WalHistoryState state)
{
    return wal_history_state_names[state];
}

void
wal_inventory_init(WalInventory *inv, uint32_t segment_bytes)
{
    *inv = (WalInventory){.segment_bytes = segment_bytes};
}

void
wal_inventory_reset(WalInventory *inv)
{
    for (size_t i = 0; i < inv->timeline_count; i++)
    {
        WalTimeline *t = &inv->timelines[i];

        free(t->whole.items);
        free(t->pieces.items);
        free(t->all.items);
        free(t->logs);
        timeline_history_reset(&t->history);
    }
    free(inv->timelines);
    free(inv->notes);
    *inv = (WalInventory){0};
}

/* ---- runs ---- */

/* The earlier of two times, 0 being none. */
static int64_t
wal_time_min(int64_t a, int64_t b)
{
    return a == 0 ? b : b == 0 ? a : MIN(a, b);
}

/* Appends, growing the last run when the new one touches it. */
static int
wal_runs_add(WalRuns *runs, const WalRun *add, Error *err)
{
    WalRun *last = runs->count > 0 ? &runs->items[runs->count - 1] : NULL;
    WalRun *items;

    if (last != NULL && add->start >= last->start && add->start <= last->end)
    {
        if (add->end > last->end)
            last->end_us = add->end_us;
        else if (add->end == last->end)
            last->end_us = wal_time_min(last->end_us, add->end_us);
        last->end = MAX(last->end, add->end);
        last->oldest_us = wal_time_min(last->oldest_us, add->oldest_us);
        last->newest_us = MAX(last->newest_us, add->newest_us);
        last->objects += add->objects;
        last->stored_bytes += add->stored_bytes;
        return 0;
    }
    items = array_grow(runs->items, runs->count, &runs->cap, sizeof *items, err);
    if (items == NULL)
        return -1;
    runs->items = items;
    runs->items[runs->count++] = *add;
    return 0;
}

static int
wal_runs_compare(const void *a, const void *b)
{
    const WalRun *left = a;
    const WalRun *right = b;

    if (left->start != right->start)
        return left->start < right->start ? -1 : 1;
    return left->end < right->end ? -1 : left->end > right->end;
}

/* Puts both, in any order, into out as runs that do not touch. */
static int
wal_runs_merge(const WalRuns *a, const WalRuns *b, WalRuns *out, Error *err)
{
    size_t count = a->count + b->count;
    WalRun *sorted;
    int rc = 0;

    *out = (WalRuns){0};
    if (count == 0)
        return 0;
    sorted = calloc(count, sizeof *sorted);
    if (sorted == NULL)
        return error_nomem(err);
    if (a->count > 0)
        memcpy(sorted, a->items, a->count * sizeof *sorted);
    if (b->count > 0)
        memcpy(sorted + a->count, b->items, b->count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, wal_runs_compare);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = wal_runs_add(out, &sorted[i], err);
    free(sorted);
    return rc;
}

static int
wal_runs_sort(WalRuns *runs, Error *err)
{
    WalRuns none = {0};
    WalRuns sorted;

    if (wal_runs_merge(runs, &none, &sorted, err) < 0)
    {
        free(sorted.items);
        return -1;
    }
    free(runs->items);
    *runs = sorted;
    return 0;
}

size_t
wal_runs_find(const WalRuns *runs, Lsn lsn)
{
    size_t low = 0;
    size_t high = runs->count;

    while (low < high)
    {
        size_t mid = low + (high - low) / 2;

        if (runs->items[mid].end > lsn)
            high = mid;
        else
            low = mid + 1;
    }
    return low;
}

bool
wal_runs_cover(const WalRuns *runs, Lsn start, Lsn end)
{
    size_t i = wal_runs_find(runs, start);

    return i < runs->count && runs->items[i].start <= start && runs->items[i].end >= end;
}

/* ---- folders ---- */

/* As wal_runs_add: grows the last one when it is of the same log. */
static int
wal_timeline_add_log(WalTimeline *t, const WalLog *add, Error *err)
{
    WalLog *logs;

    if (t->log_count > 0 && t->logs[t->log_count - 1].log == add->log)
    {
        WalLog *last = &t->logs[t->log_count - 1];

        last->objects += add->objects;
        last->stored_bytes += add->stored_bytes;
        last->oldest_us = MIN(last->oldest_us, add->oldest_us);
        last->newest_us = MAX(last->newest_us, add->newest_us);
        return 0;
    }
    logs = array_grow(t->logs, t->log_count, &t->log_cap, sizeof *logs, err);
    if (logs == NULL)
        return -1;
    t->logs = logs;
    t->logs[t->log_count++] = *add;
    return 0;
}

static int
wal_log_compare(const void *a, const void *b)
{
    const WalLog *left = a;
    const WalLog *right = b;

    return (left->log > right->log) - (left->log < right->log);
}

static int
wal_timeline_sort_logs(WalTimeline *t, Error *err)
{
    size_t count = t->log_count;

    if (count < 2)
        return 0;
    qsort(t->logs, count, sizeof *t->logs, wal_log_compare);
    /* in place: what is written never passes what is read */
    t->log_count = 0;
    for (size_t i = 0; i < count; i++)
    {
        WalLog log = t->logs[i];

        if (wal_timeline_add_log(t, &log, err) < 0)
            return -1;
    }
    return 0;
}

const WalLog *
wal_timeline_find_log(const WalTimeline *timeline, uint32_t log)
{
    WalLog key = {.log = log};

    if (timeline->log_count == 0)
        return NULL;
    return bsearch(&key, timeline->logs, timeline->log_count, sizeof key, wal_log_compare);
}

/* ---- objects ---- */

static int
wal_inventory_timeline(WalInventory *inv, TimelineId tli, WalTimeline **out, Error *err)
{
    WalTimeline *items;

    for (size_t i = inv->timeline_count; i-- > 0;)
    {
        if (inv->timelines[i].tli == tli)
        {
            *out = &inv->timelines[i];
            return 0;
        }
    }
    items = array_grow(inv->timelines, inv->timeline_count, &inv->timeline_cap, sizeof *items, err);
    if (items == NULL)
        return -1;
    inv->timelines = items;
    *out = &inv->timelines[inv->timeline_count++];
    **out = (WalTimeline){.tli = tli, .history_state = WAL_HISTORY_UNREAD};
    return 0;
}

static int
wal_inventory_add_note(WalInventory *inv, const WalGapNote *note, Error *err)
{
    WalGapNote *items = array_grow(inv->notes, inv->note_count, &inv->note_cap, sizeof *items, err);

    if (items == NULL)
        return -1;
    inv->notes = items;
    inv->notes[inv->note_count++] = *note;
    return 0;
}

int
wal_inventory_add(WalInventory *inv, const StoreEntry *entry, Error *err)
{
    LayoutEntry parsed;
    WalTimeline *t;

    if (entry->is_prefix)
        return 0;
    if (!layout_parse(entry->key, inv->segment_bytes, &parsed))
    {
        inv->unknown++;
        return 0;
    }
    if (parsed.kind == LAYOUT_GAP)
    {
        WalGapNote note = {
            .tli = parsed.tli,
            .start = parsed.gap_start,
            .end = parsed.gap_end,
            .noted_us = entry->modified_us};

        return wal_inventory_add_note(inv, &note, err);
    }
    if (wal_inventory_timeline(inv, parsed.tli, &t, err) < 0)
        return -1;
    t->stored_bytes += entry->bytes;

    Lsn base = wal_segment_start(parsed.extent.segno, inv->segment_bytes);
    WalRun run = {
        .start = base + parsed.extent.start,
        .end = base + parsed.extent.end,
        .objects = 1,
        .stored_bytes = entry->bytes,
        .oldest_us = entry->modified_us,
        .newest_us = entry->modified_us,
        .end_us = entry->modified_us};

    if (parsed.kind != LAYOUT_PIECE && parsed.kind != LAYOUT_HISTORY)
    {
        WalLog log = {
            .log = wal_segment_log(parsed.extent.segno, inv->segment_bytes),
            .objects = 1,
            .stored_bytes = entry->bytes,
            .oldest_us = entry->modified_us != 0 ? entry->modified_us : INT64_MIN,
            .newest_us = entry->modified_us != 0 ? entry->modified_us : INT64_MAX};

        if (wal_timeline_add_log(t, &log, err) < 0)
            return -1;
    }
    switch (parsed.kind)
    {
        case LAYOUT_SEGMENT:
            t->segments++;
            return wal_runs_add(&t->whole, &run, err);
        case LAYOUT_PART:
            t->parts++;
            return wal_runs_add(&t->whole, &run, err);
        case LAYOUT_PIECE:
            t->piece_count++;
            return wal_runs_add(&t->pieces, &run, err);
        case LAYOUT_HISTORY:
            t->histories++;
            return 0;
        case LAYOUT_BACKUP_FILE:
            t->backup_files++;
            return 0;
        case LAYOUT_PARTIAL:
            t->partials++;
            return 0;
        case LAYOUT_GAP:
            break;
    }
    return 0;
}

static int
wal_timeline_add_all(WalTimeline *t, const WalTimeline *from, Error *err)
{
    for (size_t i = 0; i < from->whole.count; i++)
        if (wal_runs_add(&t->whole, &from->whole.items[i], err) < 0)
            return -1;
    for (size_t i = 0; i < from->pieces.count; i++)
        if (wal_runs_add(&t->pieces, &from->pieces.items[i], err) < 0)
            return -1;
    for (size_t i = 0; i < from->log_count; i++)
        if (wal_timeline_add_log(t, &from->logs[i], err) < 0)
            return -1;
    t->segments += from->segments;
    t->parts += from->parts;
    t->piece_count += from->piece_count;
    t->histories += from->histories;
    t->backup_files += from->backup_files;
    t->partials += from->partials;
    t->stored_bytes += from->stored_bytes;
    return 0;
}

int
wal_inventory_add_all(WalInventory *inv, const WalInventory *from, Error *err)
{
    for (size_t i = 0; i < from->timeline_count; i++)
    {
        WalTimeline *t;

        if (wal_inventory_timeline(inv, from->timelines[i].tli, &t, err) < 0 ||
            wal_timeline_add_all(t, &from->timelines[i], err) < 0)
            return -1;
    }
    for (size_t i = 0; i < from->note_count; i++)
        if (wal_inventory_add_note(inv, &from->notes[i], err) < 0)
            return -1;
    inv->unknown += from->unknown;
    return 0;
}

static int
wal_inventory_compare_timelines(const void *a, const void *b)
{
    const WalTimeline *left = a;
    const WalTimeline *right = b;

    return (left->tli > right->tli) - (left->tli < right->tli);
}

static int
wal_inventory_compare_notes(const void *a, const void *b)
{
    const WalGapNote *left = a;
    const WalGapNote *right = b;

    if (left->start != right->start)
        return left->start < right->start ? -1 : 1;
    return (left->tli > right->tli) - (left->tli < right->tli);
}

int
wal_inventory_finish(WalInventory *inv, Error *err)
{
    if (inv->timeline_count > 1)
        qsort(
            inv->timelines, inv->timeline_count, sizeof *inv->timelines,
            wal_inventory_compare_timelines);
    if (inv->note_count > 1)
        qsort(inv->notes, inv->note_count, sizeof *inv->notes, wal_inventory_compare_notes);
    for (size_t i = 0; i < inv->timeline_count; i++)
    {
        WalTimeline *t = &inv->timelines[i];

        free(t->all.items);
        t->all = (WalRuns){0};
        if (wal_timeline_sort_logs(t, err) < 0 || wal_runs_sort(&t->whole, err) < 0 ||
            wal_runs_sort(&t->pieces, err) < 0 ||
            wal_runs_merge(&t->whole, &t->pieces, &t->all, err) < 0)
            return -1;
    }
    return 0;
}

const WalTimeline *
wal_inventory_find(const WalInventory *inv, TimelineId tli)
{
    for (size_t i = 0; i < inv->timeline_count; i++)
        if (inv->timelines[i].tli == tli)
            return &inv->timelines[i];
    return NULL;
}
