/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What is in a repository; see catalog.h.
 */
#include "repo/catalog.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/fs.h"
#include "common/parse.h"

void
catalog_ranges_reset(CatalogRanges *ranges)
{
    free(ranges->items);
    *ranges = (CatalogRanges){0};
}

void
catalog_timelines_reset(CatalogTimelines *timelines)
{
    free(timelines->ids);
    *timelines = (CatalogTimelines){0};
}

void
catalog_pieces_reset(CatalogPieces *pieces)
{
    free(pieces->items);
    *pieces = (CatalogPieces){0};
}

/* ---- timelines ---- */

typedef struct TimelineListing
{
    size_t prefix_len;
    CatalogTimelines *out;
} TimelineListing;

static int
catalog_note_timeline(void *ctx, const StoreEntry *entry, Error *err)
{
    TimelineListing *listing = ctx;
    const char *name = entry->key + listing->prefix_len;
    CatalogTimelines *out = listing->out;
    uint64_t tli;

    if (!entry->is_prefix || strlen(name) != 9 || !parse_hex_upper(name, 8, &tli) || tli == 0)
        return 0;
    for (size_t i = 0; i < out->count; i++)
        if (out->ids[i] == tli)
            return 0;

    TimelineId *ids = array_grow(out->ids, out->count, &out->cap, sizeof *ids, err);

    if (ids == NULL)
        return -1;
    out->ids = ids;
    out->ids[out->count++] = (TimelineId) tli;
    return 0;
}

static int
catalog_compare_timelines(const void *a, const void *b)
{
    TimelineId left = *(const TimelineId *) a;
    TimelineId right = *(const TimelineId *) b;

    return (left > right) - (left < right);
}

int
catalog_list_timelines(Repository *repo, const Deadline *dl, CatalogTimelines *out, Error *err)
{
    static const char *const prefixes[] = {"wal/", "live/"};

    for (size_t i = 0; i < ARRAY_COUNT(prefixes); i++)
    {
        TimelineListing listing = {.prefix_len = strlen(prefixes[i]), .out = out};
        StoreListOptions options = {.prefix = prefixes[i], .by_folder = true};

        if (store_list(repo->store, &options, catalog_note_timeline, &listing, dl, err) < 0)
            return error_wrap(err, "could not list timelines");
    }
    if (out->count > 1)
        qsort(out->ids, out->count, sizeof *out->ids, catalog_compare_timelines);
    return 0;
}

/* ---- ranges ---- */

typedef struct RangeListing
{
    const Repository *repo;
    Lsn from;
    CatalogRanges *out;
} RangeListing;

static int
catalog_compare_ranges(const void *a, const void *b)
{
    const CatalogRange *left = a;
    const CatalogRange *right = b;

    return (left->start > right->start) - (left->start < right->start);
}

/* Appends, growing the last range when the new one touches it. Input comes roughly in order. */
static int
catalog_add_range(CatalogRanges *ranges, const CatalogRange *add, Error *err)
{
    CatalogRange *last = ranges->count > 0 ? &ranges->items[ranges->count - 1] : NULL;
    CatalogRange *items;

    if (last != NULL && add->start >= last->start && add->start <= last->end)
    {
        last->end = MAX(last->end, add->end);
        last->newest_us = MAX(last->newest_us, add->newest_us);
        last->objects += add->objects;
        last->stored_bytes += add->stored_bytes;
        return 0;
    }
    items = array_grow(ranges->items, ranges->count, &ranges->cap, sizeof *items, err);
    if (items == NULL)
        return -1;
    ranges->items = items;
    ranges->items[ranges->count++] = *add;
    return 0;
}

static int
catalog_note_range(void *ctx, const StoreEntry *entry, Error *err)
{
    RangeListing *listing = ctx;
    uint32_t segment_bytes = listing->repo->description.segment_bytes;
    LayoutEntry parsed;
    Lsn base;

    if (!layout_parse(entry->key, segment_bytes, &parsed))
        return 0;
    if (parsed.kind != LAYOUT_SEGMENT && parsed.kind != LAYOUT_PART && parsed.kind != LAYOUT_PIECE)
        return 0;
    base = wal_segment_start(parsed.extent.segno, segment_bytes);

    CatalogRange range = {
        .tli = parsed.tli,
        .start = base + parsed.extent.start,
        .end = base + parsed.extent.end,
        .newest_us = entry->modified_us,
        .objects = 1,
        .stored_bytes = entry->bytes};

    if (range.end <= listing->from)
        return 0;
    return catalog_add_range(listing->out, &range, err);
}

/* Sorted and coalesced, in place. */
static int
catalog_merge_ranges(CatalogRanges *ranges, Error *err)
{
    CatalogRanges merged = {0};

    if (ranges->count == 0)
        return 0;
    qsort(ranges->items, ranges->count, sizeof *ranges->items, catalog_compare_ranges);
    for (size_t i = 0; i < ranges->count; i++)
    {
        if (catalog_add_range(&merged, &ranges->items[i], err) < 0)
        {
            catalog_ranges_reset(&merged);
            return -1;
        }
    }
    catalog_ranges_reset(ranges);
    *ranges = merged;
    return 0;
}

int
catalog_list_ranges(
    Repository *repo, TimelineId tli, Lsn from, const Deadline *dl, CatalogRanges *out, Error *err)
{
    uint32_t segment_bytes = repo->description.segment_bytes;
    SegmentNo segno = wal_segment_of(from, segment_bytes);
    char wal_prefix[32], live_prefix[32];
    char wal_after[LAYOUT_KEY_MAX], live_after[LAYOUT_KEY_MAX];
    RangeListing listing = {.repo = repo, .from = from, .out = out};

    (void) snprintf(wal_prefix, sizeof wal_prefix, "wal/%08X/", tli);
    (void) snprintf(live_prefix, sizeof live_prefix, "live/%08X/", tli);

    StoreListOptions wal = {.prefix = wal_prefix};
    StoreListOptions live = {.prefix = live_prefix};

    if (segno > 0)
    {
        wal.start_after = layout_segment_key(tli, segno - 1, segment_bytes, wal_after);
        live.start_after = layout_piece_prefix(tli, segno, segment_bytes, live_after);
    }
    if (store_list(repo->store, &wal, catalog_note_range, &listing, dl, err) < 0 ||
        store_list(repo->store, &live, catalog_note_range, &listing, dl, err) < 0)
        return error_wrap(err, "could not list WAL of timeline %u", tli);
    return catalog_merge_ranges(out, err);
}

/* ---- newest log ---- */

static int
catalog_note_log(void *ctx, const StoreEntry *entry, Error *err UNUSED)
{
    Lsn *newest = ctx;
    const char *slash = strchr(entry->key, '/'); /* wal/<TLI>/<log>/ */
    uint64_t log;

    slash = slash != NULL ? strchr(slash + 1, '/') : NULL;
    if (!entry->is_prefix || slash == NULL || strlen(slash + 1) != 9 ||
        !parse_hex_upper(slash + 1, 8, &log))
        return 0;
    *newest = MAX(*newest, (Lsn) log << 32);
    return 0;
}

int
catalog_newest_log(Repository *repo, TimelineId tli, const Deadline *dl, Lsn *out, Error *err)
{
    char prefix[32];

    (void) snprintf(prefix, sizeof prefix, "wal/%08X/", tli);

    StoreListOptions options = {.prefix = prefix, .by_folder = true};

    *out = LSN_INVALID;
    if (store_list(repo->store, &options, catalog_note_log, out, dl, err) < 0)
        return error_wrap(err, "could not list WAL of timeline %u", tli);
    return 0;
}

/* ---- pieces of a segment ---- */

typedef struct PieceListing
{
    uint32_t segment_bytes;
    CatalogPieces *out;
} PieceListing;

static int
catalog_note_piece(void *ctx, const StoreEntry *entry, Error *err)
{
    PieceListing *listing = ctx;
    CatalogPieces *out = listing->out;
    LayoutEntry parsed;
    WalExtent *items;

    if (!layout_parse(entry->key, listing->segment_bytes, &parsed) || parsed.kind != LAYOUT_PIECE)
        return 0;
    items = array_grow(out->items, out->count, &out->cap, sizeof *items, err);
    if (items == NULL)
        return -1;
    out->items = items;
    out->items[out->count++] = parsed.extent; /* names sort by start, then end */
    return 0;
}

int
catalog_list_pieces(
    Repository *repo, TimelineId tli, SegmentNo segno, const Deadline *dl, CatalogPieces *out,
    Error *err)
{
    char prefix[LAYOUT_KEY_MAX];
    PieceListing listing = {.segment_bytes = repo->description.segment_bytes, .out = out};
    StoreListOptions options = {
        .prefix = layout_piece_prefix(tli, segno, listing.segment_bytes, prefix)};

    if (store_list(repo->store, &options, catalog_note_piece, &listing, dl, err) < 0)
        return error_wrap(err, "could not list pieces");
    return 0;
}

/* ---- history ---- */

int
catalog_read_history(
    Repository *repo, TimelineId tli, const Deadline *dl, TimelineHistory *out, Error *err)
{
    WalFileName name = {.kind = WAL_FILE_HISTORY, .tli = tli};
    char key[LAYOUT_KEY_MAX];
    AUTO(free_text) char *text = NULL;
    size_t len;

    if (tli == 1)
        return timeline_parse_history(1, NULL, 0, out, err);
    if (object_get_bytes(
            repo->store, layout_wal_file_key(&name, key), repo->identities,
            TIMELINE_HISTORY_MAX_BYTES, &text, &len, dl, err) < 0)
        return -1;
    if (timeline_parse_history(tli, text, len, out, err) < 0)
        return error_wrap(err, "\"%s\"", key);
    return 0;
}
