/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Which received WAL is durable: extents enter in stream order, complete in any order, and the
 * durable LSN is the end of the gap-free prefix. It is the only source of the flush position that
 * the server is told.
 *
 * One thread appends, any thread completes. All functions take the ledger's lock.
 */
#ifndef WALSTREAM_LEDGER_H
#define WALSTREAM_LEDGER_H

#include <pthread.h>

#include "common/clock.h"
#include "pg/wal.h"

typedef struct LedgerEntry LedgerEntry;

typedef struct Ledger
{
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t changed;
    LedgerEntry *head, *tail; /* oldest first; owned */
    size_t open;              /* entries not completed */
    bool failed;              /* one of them never will be */
    TimelineId tli;
    Lsn durable;
    int64_t durable_us;    /* wall clock when it last advanced; 0 never */
    int64_t last_delay_us; /* first byte received to durable, of the newest extent that became so */
    int64_t max_delay_us;  /* the longest since the start */
    void (*advanced)(void *ctx); /* called without the lock when durable moved; may be NULL */
    void *advanced_ctx;
} Ledger;

typedef struct LedgerPosition
{
    TimelineId tli;
    Lsn durable;
    size_t open;
    bool failed; /* an extent was given up: durable cannot pass it, open cannot become 0 */
    int64_t
        oldest_us; /* when the oldest byte not durable was received (monotonic); 0: none waits */
    int64_t durable_us;
    int64_t last_delay_us;
    int64_t max_delay_us;
} LedgerPosition;

MUST_CHECK int ledger_init(Ledger *ledger, void (*advanced)(void *ctx), void *ctx, Error *err);
void ledger_destroy(Ledger *ledger);

/*
 * Begin anew at a position that the repository was seen to hold. What was open before is forgotten:
 * its jobs may still complete, without effect on the position.
 */
void ledger_restart(Ledger *ledger, TimelineId tli, Lsn durable);

/* The next extent of the stream; received_us: monotonic time of its first byte. */
MUST_CHECK int
ledger_append(Ledger *ledger, Lsn end, int64_t received_us, LedgerEntry **out, Error *err);

/* The extent is durable; entry is gone after this call. */
void ledger_complete(Ledger *ledger, LedgerEntry *entry);

/*
 * The extent will never be durable in this stream: the position cannot pass it, only a restart can
 * go on. entry is gone for the caller.
 */
void ledger_abandon(Ledger *ledger, LedgerEntry *entry);

LedgerPosition ledger_position(Ledger *ledger);

/* Waits until nothing is open; TIMEOUT, or CANCELED, also once an extent was given up. */
MUST_CHECK int ledger_wait_empty(Ledger *ledger, const Deadline *dl, Error *err);

#endif
