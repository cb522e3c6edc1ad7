/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The memory of the data path: a pool of equal chunks with a hard limit, and byte strings
 * (ChunkBuf) made of them. Memory use is a formula: limit x chunk size.
 *
 * Chunks are reference-counted, so that WAL that was received once can be in a piece and in a whole
 * segment at the same time, and can be given back while the second is being compressed.
 */
#ifndef WALSTREAM_CHUNK_H
#define WALSTREAM_CHUNK_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/uio.h>

#include "common/clock.h"
#include "stream/stage.h"

typedef struct ChunkPool ChunkPool;

typedef struct Chunk
{
    struct Chunk *next_free;
    ChunkPool *pool;
    atomic_uint refs;
    uint8_t *data; /* chunk_pool_chunk_bytes() of them */
} Chunk;

/* Memory is taken from the system as chunks are first used, never more than limit of them. */
MUST_CHECK int chunk_pool_new(size_t chunk_bytes, size_t limit, ChunkPool **out, Error *err);
void chunk_pool_free(ChunkPool *pool); /* all chunks must be back */
DEFINE_AUTO(ChunkPool, chunk_pool_free);

size_t chunk_pool_chunk_bytes(const ChunkPool *pool);
size_t chunk_pool_limit(const ChunkPool *pool);
size_t chunk_pool_in_use(ChunkPool *pool);

/* NULL when the pool is exhausted or the system has no memory. refs is 1. Thread-safe. */
Chunk *chunk_try_get(ChunkPool *pool);

/* Waits for one; TIMEOUT, CANCELED or NOMEM. Thread-safe. */
MUST_CHECK int chunk_get(ChunkPool *pool, const Deadline *dl, Chunk **out, Error *err);

void chunk_ref(Chunk *chunk);
void chunk_unref(Chunk *chunk); /* NULL is fine; back into the pool at 0 */

/* Called (from any thread, pool lock not held) each time a chunk went back; ctx is borrowed. */
void chunk_pool_on_return(ChunkPool *pool, void (*fn)(void *ctx), void *ctx);

/* A byte string in chunks: all full but the last. */
typedef struct ChunkBuf
{
    ChunkPool *pool;
    Chunk **chunks; /* owned array, each element a reference */
    size_t chunk_count;
    size_t chunk_cap;
    uint64_t bytes;
    Deadline wait; /* how long an append may wait for a chunk */
} ChunkBuf;

void chunkbuf_init(ChunkBuf *buf, ChunkPool *pool, Deadline wait);
void chunkbuf_reset(ChunkBuf *buf); /* gives everything back; fit for AUTO */
MUST_CHECK int chunkbuf_append(ChunkBuf *buf, const void *data, size_t len, Error *err);

/* Appends len bytes of zeros, to be filled later by chunkbuf_overwrite. */
MUST_CHECK int chunkbuf_reserve(ChunkBuf *buf, size_t len, Error *err);
void chunkbuf_overwrite(ChunkBuf *buf, uint64_t at, const void *data, size_t len);

/* A sink that appends; buf is borrowed. */
MUST_CHECK int chunkbuf_sink_new(ChunkBuf *buf, Stage **out, Error *err);

#endif
