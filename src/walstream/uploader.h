/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The workers that compress, encrypt and store. Jobs wait in four queues by urgency; a worker takes
 * the most urgent one that fits into the output memory:
 *
 *   URGENT      pieces, and whole parts that the durable LSN waits for
 *   REQUESTED   files that a walpush waits for
 *   BACKGROUND  whole parts whose bytes are durable as pieces already; never all workers at once
 *   AHEAD       files that PostgreSQL will ask for next
 *
 * A job of the stream is tried until it succeeds; only a conflict, or memory running out half way,
 * ends it, and then the uploader has failed (uploader_failure) until it is cleared.
 *
 * Memory: before a job begins, the most that its object can take is reserved, so workers never wait
 * for each other's memory in the middle. The chunks of a whole part are given back while it is
 * compressed.
 */
#ifndef WALSTREAM_UPLOADER_H
#define WALSTREAM_UPLOADER_H

#include "repo/archive.h"
#include "walstream/counters.h"
#include "walstream/ledger.h"
#include "walstream/streamed.h"

typedef enum UploadUrgency
{
    UPLOAD_URGENT,
    UPLOAD_REQUESTED,
    UPLOAD_BACKGROUND,
    UPLOAD_AHEAD,
    UPLOAD_URGENCIES
} UploadUrgency;

typedef struct UploaderOptions
{
    Repository *repo; /* borrowed; its pool is the output memory */
    Ledger *ledger;   /* borrowed, like all below */
    Streamed *streamed;
    Counters *counters;
    unsigned workers;
    void (*room)(void *ctx); /* called when a job has ended; may be NULL */
    void *room_ctx;
} UploaderOptions;

typedef struct Uploader Uploader;

/* Bytes of output memory that one part of this size can need. */
uint64_t uploader_output_bytes(uint64_t plain_bytes);

MUST_CHECK int uploader_new(const UploaderOptions *options, Uploader **out, Error *err);

/*
 * Waits up to grace_ms for the queues to empty, then cancels what is left and joins the workers.
 * What is canceled is not durable and was never said to be.
 */
void uploader_stop(Uploader *u, int64_t grace_ms);
void uploader_free(Uploader *u); /* after uploader_stop; NULL is fine */

/*
 * Store [extent.start, extent.end), whose bytes are in chunks beginning at skip of the first one.
 * The references to the chunks are taken over, the array is copied. entry: what to complete in the
 * ledger (URGENT), or NULL (BACKGROUND). whole: as a part under wal/, else as a piece under live/.
 */
MUST_CHECK int uploader_submit_extent(
    Uploader *u, const WalExtent *extent, bool whole, Chunk *const *chunks, size_t chunk_count,
    uint32_t skip, LedgerEntry *entry, Error *err);

/* ---- files of pg_wal ---- */
typedef struct UploadRequest UploadRequest;

/* The descriptor is taken over. AHEAD: *out may be NULL, nobody waits. */
MUST_CHECK int uploader_submit_file(
    Uploader *u, int fd, const char *name, UploadUrgency urgency, const Deadline *dl,
    UploadRequest **out, Error *err);

/* Waits up to wait_ms; true when it has ended, *rc and *err are its result then. */
MUST_CHECK bool
uploader_request_wait(Uploader *u, UploadRequest *request, int64_t wait_ms, int *rc, Error *err);
void uploader_request_release(Uploader *u, UploadRequest *request);

/* Whether a file of this name waits or is being uploaded. */
bool uploader_has_file(Uploader *u, const char *name);

/* ---- state ---- */
/* Why the stream must begin again; false if nothing failed. clear forgets it. */
bool uploader_failure(Uploader *u, bool clear, Error *out);

/* Gives up the oldest BACKGROUND job that has not begun; false if there is none. */
bool uploader_drop_background(Uploader *u);

typedef struct UploaderState
{
    size_t queued[UPLOAD_URGENCIES];
    unsigned running;
    bool failing;          /* the last try of some upload failed */
    Error last_error;      /* kind NONE: none yet */
    int64_t last_error_us; /* wall clock */
} UploaderState;

UploaderState uploader_state(Uploader *u);

/* For errors of the stream itself, so that the status has one place for the last error. */
void uploader_note_error(Uploader *u, const Error *err);

#endif
