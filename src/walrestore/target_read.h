/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * WAL segments of a line of timelines, fetched several at a time and looked at in order: what the
 * search for a recovery target reads with.
 */
#ifndef WALRESTORE_TARGET_READ_H
#define WALRESTORE_TARGET_READ_H

#include "pg/wal_scan.h"
#include "walrestore/target.h"

#define TARGET_BATCH_BYTES (UINT64_C(256) * 1024 * 1024)

/* Segments first .. first + count - 1 in unlinked files. */
typedef struct TargetBatch
{
    const TargetSearch *search;     /* borrowed */
    const TimelineHistory *history; /* borrowed; of the fetch under way */
    size_t room;                    /* most segments at once */
    SegmentNo first;
    size_t count;
    int fds[2 * TARGET_JOBS_MAX]; /* owned, -1: none yet */
    int kept;                     /* the first segment of the batch before */
} TargetBatch;

void target_batch_init(TargetBatch *batch, const TargetSearch *search);
void target_batch_reset(TargetBatch *batch); /* fit for AUTO */

/*
 * Fetches count (1 .. room) segments.
 *
 * Errors  as segment_read, but never NOT_FOUND: there was some of each when it was listed
 */
MUST_CHECK int target_batch_fetch(
    TargetBatch *batch, const TimelineHistory *history, SegmentNo first, size_t count, Error *err);

/* Pushes the i-th segment into scan; as wal_scan_write. */
MUST_CHECK int target_batch_scan(TargetBatch *batch, size_t i, WalScan *scan, Error *err);

/* Keeps the first segment over the next fetch; it is then what target_batch_scan_kept pushes. */
void target_batch_keep_first(TargetBatch *batch);
void target_batch_forget_kept(TargetBatch *batch);
MUST_CHECK int target_batch_scan_kept(TargetBatch *batch, WalScan *scan, Error *err);

#endif
