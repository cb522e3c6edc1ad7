/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The receiving thread: one replication connection after another, for ever.
 *
 *            +-----------------------------------------------------------+
 *            v                                                           |
 *   CONNECTING --> STREAMING --server ended, error--> DRAINING --> WAITING (back-off)
 *                     |                                  |
 *                     +-- buffers full (STALLED) ------->+
 *                     +-- stop, --endpos ----------------+--> done
 *
 * DRAINING: what was received is cut off as a last piece and everything handed out is stored; then
 * the next connection begins where the repository ends. So nothing that was received before a
 * server died is lost, and nothing depends on this process's memory.
 */
#ifndef WALSTREAM_RECEIVER_H
#define WALSTREAM_RECEIVER_H

#include "common/config.h"
#include "walstream/assembly.h"
#include "walstream/resume.h"

typedef enum ReceiverState
{
    RECEIVER_CONNECTING,
    RECEIVER_STREAMING,
    RECEIVER_STALLED,
    RECEIVER_DRAINING,
    RECEIVER_WAITING,
    RECEIVER_STOPPED
} ReceiverState;

const char *receiver_state_name(ReceiverState state);

/* A snapshot for the status. */
typedef struct ReceiverStatus
{
    ReceiverState state;
    TimelineId tli;
    Lsn received;             /* end of what was received */
    Lsn server_end;           /* end of WAL on the server, as it last said; LSN_INVALID unknown */
    uint64_t waiting_bytes;   /* received, not handed out */
    int64_t waiting_since_us; /* monotonic; 0: nothing waits */
    int server_version;
    char server[256];       /* host, port, user */
    SlotState slot;         /* as of the last connection */
    int64_t state_since_us; /* wall clock */
} ReceiverStatus;

typedef struct ReceiverOptions
{
    Repository *repo; /* borrowed, as all below */
    ChunkPool *pool;
    Uploader *uploader;
    Ledger *ledger;
    Streamed *streamed;
    Counters *counters;
    Lsn endpos; /* stop when this is durable; LSN_INVALID: never */
    unsigned workers;
    void (*state_changed)(
        void *ctx, ReceiverState state); /* on the receiving thread; may be NULL */
    void *state_ctx;
} ReceiverOptions;

typedef struct Receiver Receiver;

MUST_CHECK int receiver_new(const ReceiverOptions *options, Receiver **out, Error *err);
void receiver_free(Receiver *r);
DEFINE_AUTO(Receiver, receiver_free);

/* Something changed (an upload ended, a signal came): look again. Async-signal-safe. */
void receiver_wake(Receiver *r);

/* Finish the open piece and stop within seconds. Async-signal-safe. */
void receiver_stop(Receiver *r);

/* A reloaded configuration: from the next loop on. cfg is borrowed until the next call. */
void receiver_set_config(Receiver *r, const Config *cfg);

/* Runs until stopped or endpos is durable. USAGE for a configuration that can never work. */
MUST_CHECK int receiver_run(Receiver *r, Error *err);

ReceiverStatus receiver_status(Receiver *r);

/* When its loop last came round (monotonic ms): a receiver that hangs must not look alive. */
int64_t receiver_alive_ms(Receiver *r);

#endif
