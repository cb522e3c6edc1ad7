/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What WAL a repository holds, told by its names alone: timelines, ranges without a gap, pieces.
 */
#ifndef WALSTREAM_CATALOG_H
#define WALSTREAM_CATALOG_H

#include "pg/timeline.h"
#include "repo/repository.h"

/* WAL of one timeline without a gap, [start, end). */
typedef struct CatalogRange
{
    TimelineId tli;
    Lsn start;
    Lsn end;
    int64_t
        newest_us; /* when the newest object of it was stored, by the store's clock; 0 unknown */
    uint64_t objects;
    uint64_t stored_bytes;
} CatalogRange;

typedef struct CatalogRanges
{
    CatalogRange *items; /* owned; ascending, neither touching nor overlapping */
    size_t count;
    size_t cap;
} CatalogRanges;

void catalog_ranges_reset(CatalogRanges *ranges); /* fit for AUTO */

typedef struct CatalogTimelines
{
    TimelineId *ids; /* owned, ascending */
    size_t count;
    size_t cap;
} CatalogTimelines;

void catalog_timelines_reset(CatalogTimelines *timelines); /* fit for AUTO */

/* Timelines that have anything under wal/ or live/. Two listings by folder. */
MUST_CHECK int
catalog_list_timelines(Repository *repo, const Deadline *dl, CatalogTimelines *out, Error *err);

/*
 * The ranges of tli that end behind from (LSN_INVALID: all). One LIST per thousand objects behind
 * from. A range begins at the first object's start, even when that is a piece in the middle of a
 * segment.
 */
MUST_CHECK int catalog_list_ranges(
    Repository *repo, TimelineId tli, Lsn from, const Deadline *dl, CatalogRanges *out, Error *err);

/*
 * Where the newest log folder of tli begins, so that a caller who only cares about the end need not
 * list years of WAL; LSN_INVALID if there is no complete segment. One listing by folder.
 */
MUST_CHECK int
catalog_newest_log(Repository *repo, TimelineId tli, const Deadline *dl, Lsn *out, Error *err);

/* Pieces of one segment in the repository, by start. */
typedef struct CatalogPieces
{
    WalExtent *items; /* owned */
    size_t count;
    size_t cap;
} CatalogPieces;

void catalog_pieces_reset(CatalogPieces *pieces); /* fit for AUTO */
MUST_CHECK int catalog_list_pieces(
    Repository *repo, TimelineId tli, SegmentNo segno, const Deadline *dl, CatalogPieces *out,
    Error *err);

/* The history of tli from its stored history file; tli 1 needs none. NOT_FOUND. */
MUST_CHECK int catalog_read_history(
    Repository *repo, TimelineId tli, const Deadline *dl, TimelineHistory *out, Error *err);

#endif
