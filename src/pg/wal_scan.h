/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Finds in WAL what recovery targets are made of: when transactions committed or aborted, and named
 * restore points. Bytes are pushed in order, in any portions, from the start of a segment (a
 * record that began before it is passed over); over any number of segments of one timeline history.
 *
 * WAL page magic decides the version, 14 to 18. WAL ends where PostgreSQL's reader finds its end:
 * page headers, back links and CRCs of records are checked. Memory does not depend on the records.
 */
#ifndef WALSTREAM_WAL_SCAN_H
#define WALSTREAM_WAL_SCAN_H

#include "pg/wal.h"

typedef enum WalEventKind
{
    WAL_EVENT_COMMIT,
    WAL_EVENT_ABORT,
    WAL_EVENT_RESTORE_POINT
} WalEventKind;

typedef struct WalEvent
{
    WalEventKind kind;
    Lsn lsn;       /* where its record begins */
    Lsn end;       /* where the next one begins (rounded up to 8) */
    uint32_t xid;  /* of COMMIT and ABORT; of a prepared transaction, its own */
    int64_t at_us; /* since 1970, UTC: what recovery_target_time is compared with */
    char name[64]; /* of RESTORE_POINT */
} WalEvent;

/* Return 0 to go on, 1 to stop with success, -1 with err set. */
typedef int (*WalEventFn)(void *ctx, const WalEvent *event, Error *err);

typedef struct WalScan WalScan;

MUST_CHECK int wal_scan_new(
    uint32_t segment_bytes, Lsn start, WalEventFn fn, void *ctx, WalScan **out, Error *err);
void wal_scan_free(WalScan *scan);
DEFINE_AUTO(WalScan, wal_scan_free);

/*
 * 0 to go on; 1: fn wanted no more, or WAL has ended (zeros, a page or record that does not follow
 * the one before: wal_scan_end tells where); -1 what fn returned.
 */
MUST_CHECK int wal_scan_write(WalScan *scan, const void *data, size_t len, Error *err);

/* Start and end of the last whole record seen; LSN_INVALID if there was none. */
Lsn wal_scan_last(const WalScan *scan);
Lsn wal_scan_end(const WalScan *scan);
bool wal_scan_ended(const WalScan *scan); /* WAL ended inside what was pushed */
/* Whether the last byte pushed belongs to a record of which more should come. */
bool wal_scan_in_record(const WalScan *scan);

#endif
