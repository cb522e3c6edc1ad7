/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * From the byte stream to upload jobs. The bytes of the open part (a segment, or 16 MiB of a large
 * one) stay in memory until the part is full; what a deadline does not let wait is cut off as a
 * piece meanwhile. When the part is full it is stored whole:
 *
 *      |--- piece ---|-- piece --|------ not cut yet ------|            open part
 *      0           cut(1)      cut(2)                    filled
 *
 *   no piece cut yet   the whole part is what the durable LSN waits for
 *   pieces were cut    the rest goes as a last piece, the whole part follows in the background and
 *                      supersedes the pieces
 *
 * Belongs to the receiving thread.
 */
#ifndef WALSTREAM_ASSEMBLY_H
#define WALSTREAM_ASSEMBLY_H

#include "repo/catalog.h"
#include "walstream/uploader.h"

/* A piece that the repository held when the stream resumed: received again, compared. */
typedef struct KnownPiece
{
    WalExtent extent;
    uint8_t sha256[SHA256_BYTES];
} KnownPiece;

typedef struct AssemblyOptions
{
    const Repository *repo; /* borrowed, as all below */
    ChunkPool *pool;        /* memory for received bytes */
    Uploader *uploader;
    Ledger *ledger;
    Streamed *streamed;
    Counters *counters;
} AssemblyOptions;

typedef struct Assembly Assembly;

MUST_CHECK int assembly_new(const AssemblyOptions *options, Assembly **out, Error *err);
void assembly_free(Assembly *a);
DEFINE_AUTO(Assembly, assembly_free);

/* flush-interval and bound of pieces a second (0: none); may be changed at any time. */
void assembly_set_pace(Assembly *a, int64_t flush_interval_ms, bool synchronous, uint64_t max_rate);

/*
 * Begin at start, the beginning of a part. known: what the repository holds of that part, covering
 * it from its beginning, each to be compared when it has been received again; known is copied.
 */
MUST_CHECK int assembly_begin(
    Assembly *a, TimelineId tli, Lsn start, const KnownPiece *known, size_t known_count,
    Error *err);

/*
 * Takes bytes of the stream that begin at lsn, which must be assembly_position. *taken < len only
 * when the memory is full. CONFLICT when they differ from what the repository holds; CORRUPT when
 * they are no WAL of this cluster. Then the open part has been let go of.
 */
MUST_CHECK int
assembly_write(Assembly *a, Lsn lsn, const void *data, size_t len, size_t *taken, Error *err);

/* The next byte wanted. */
Lsn assembly_position(const Assembly *a);

/*
 * Up to here what was received is either ours to store, or was compared with what the repository
 * holds. The server must not be told more: what it sends in place of a known piece that has not
 * come to its end is perhaps not what the repository holds.
 */
Lsn assembly_confirmed(const Assembly *a);

/* When the next piece must be cut (monotonic ms); INT64_MAX: nothing waits. */
int64_t assembly_next_cut_ms(const Assembly *a);

/* Cuts if it is due (or, synchronous, as soon as a worker can take it). */
MUST_CHECK int assembly_cut_if_due(Assembly *a, Error *err);

/* Cuts what there is now: the server shuts down, the stream ends, we stop. */
MUST_CHECK int assembly_cut(Assembly *a, Error *err);

/* Lets go of the open part; assembly_begin comes next. What was not cut is gone from memory. */
void assembly_end(Assembly *a);

/* Bytes received and not handed out, and since when (monotonic us; 0: none). */
uint64_t assembly_waiting_bytes(const Assembly *a, int64_t *since_us);

#endif
