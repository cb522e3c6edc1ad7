/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What WAL a repository holds, of all timelines at once, as runs without a hole: what `walctl info`
 * tells and `walctl verify` reads. Told by the names of the objects, and by the history files.
 *
 * Its size follows the number of runs, not of objects: a million segments in a row are one run, and
 * 40 bytes for each 4 GiB of WAL.
 */
#ifndef WALSTREAM_WAL_INVENTORY_H
#define WALSTREAM_WAL_INVENTORY_H

#include "pg/timeline.h"
#include "repo/repository.h"

/* [start, end) without a hole. Times are the store's, 0 when it does not tell. */
typedef struct WalRun
{
    Lsn start;
    Lsn end;
    uint64_t objects;
    uint64_t stored_bytes;
    int64_t oldest_us; /* of all objects in it */
    int64_t newest_us;
    int64_t end_us; /* when what is in front of its end came to be there */
} WalRun;

typedef struct WalRuns
{
    WalRun
        *items; /* owned; after wal_inventory_finish ascending, neither touching nor overlapping */
    size_t count;
    size_t cap;
} WalRuns;

/* What there is below wal/<TLI>/<log>/, 4 GiB of WAL, however many segments that is. */
typedef struct WalLog
{
    uint32_t log;
    uint64_t objects; /* segments, parts, partial segments, backup history files */
    uint64_t stored_bytes;
    int64_t oldest_us; /* INT64_MIN and INT64_MAX when the store does not tell of each of them */
    int64_t newest_us;
} WalLog;

typedef enum WalHistoryState
{
    WAL_HISTORY_NOT_NEEDED, /* timeline 1 */
    WAL_HISTORY_READ,
    WAL_HISTORY_MISSING,   /* the repository has none */
    WAL_HISTORY_ENCRYPTED, /* and there is no identity that opens it */
    WAL_HISTORY_DAMAGED,
    WAL_HISTORY_UNREAD /* the store did not give it; also before it was tried */
} WalHistoryState;

/* "not needed", "read", ...; borrowed. */
const char *wal_history_state_name(WalHistoryState state);

typedef struct WalTimeline
{
    TimelineId tli;
    WalRuns whole;  /* complete segments, and parts of large ones */
    WalRuns pieces; /* of segments */
    WalRuns all;    /* both together; made by wal_inventory_finish */
    WalLog *logs;   /* owned; ascending after wal_inventory_finish */
    size_t log_count;
    size_t log_cap;
    uint64_t segments, parts, piece_count, histories, backup_files, partials; /* objects */
    uint64_t stored_bytes;                                                    /* of all of them */
    WalHistoryState history_state;
    TimelineHistory history; /* owned; of READ and NOT_NEEDED */
    Error history_error;     /* why it was not read */
} WalTimeline;

/* A recorded gap (FORMAT.md, "Gaps"). */
typedef struct WalGapNote
{
    TimelineId tli;
    Lsn start;
    Lsn end;
    int64_t noted_us;
} WalGapNote;

typedef struct WalInventory
{
    uint32_t segment_bytes;
    WalTimeline *timelines; /* owned; ascending after wal_inventory_finish */
    size_t timeline_count;
    size_t timeline_cap;
    WalGapNote *notes; /* owned */
    size_t note_count;
    size_t note_cap;
    uint64_t unknown; /* names below wal/, live/ and gap/ that are none of the format */
} WalInventory;

void wal_inventory_init(WalInventory *inv, uint32_t segment_bytes);
void wal_inventory_reset(WalInventory *inv); /* fit for AUTO */

/* One object of a listing. Any order; in the order of names it is quick. */
MUST_CHECK int wal_inventory_add(WalInventory *inv, const StoreEntry *entry, Error *err);
/* All that from has seen, of the same segment size. */
MUST_CHECK int wal_inventory_add_all(WalInventory *inv, const WalInventory *from, Error *err);
/* After the last one: sorts, and puts runs together. */
MUST_CHECK int wal_inventory_finish(WalInventory *inv, Error *err);

/*
 * Lists wal/, live/ and gap/, one LIST per thousand objects, several at a time where there are more
 * (then some fifty more, one for each timeline and slice). inv is initialized; finishes it.
 *
 * timeout_ms  for each request, as nobody knows how many it will be
 */
MUST_CHECK int
wal_inventory_list(Repository *repo, int64_t timeout_ms, WalInventory *inv, Error *err);

/*
 * Reads the history of each timeline, one GET each, with timeout_ms for each. What cannot be read
 * is told by the timeline's history_state; fails only when it was canceled or memory is out.
 */
MUST_CHECK int
wal_inventory_read_histories(Repository *repo, int64_t timeout_ms, WalInventory *inv, Error *err);

/* NULL if nothing of it was seen; borrowed. */
const WalLog *wal_timeline_find_log(const WalTimeline *timeline, uint32_t log);

/* NULL if the repository has nothing of tli; borrowed. */
const WalTimeline *wal_inventory_find(const WalInventory *inv, TimelineId tli);

/* Whether one run holds all of [start, end). */
bool wal_runs_cover(const WalRuns *runs, Lsn start, Lsn end);

/* The first run that ends behind lsn; count if there is none. */
size_t wal_runs_find(const WalRuns *runs, Lsn lsn);

#endif
