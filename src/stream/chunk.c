/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Pool of chunks and byte strings made of them; see chunk.h.
 *
 * The pool's lock is held for a few instructions only: taking memory from the system, the callback
 * and all copying happen outside of it.
 */
#include "stream/chunk.h"

#include <stdlib.h>
#include <string.h>

#include "common/fs.h"

#define CHUNK_CANCEL_POLL_MS 100 /* how late a cancel flag may be seen by a waiting thread */

struct ChunkPool
{
    size_t chunk_bytes;
    size_t limit;
    Chunk *chunks; /* array of limit */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t returned;
    Chunk *free_list;
    size_t created; /* chunks[0 .. created) belong to somebody or are free */
    size_t in_use;
    void (*on_return)(void *ctx);
    void *on_return_ctx;
};

int
chunk_pool_new(size_t chunk_bytes, size_t limit, ChunkPool **out, Error *err)
{
    assert(chunk_bytes > 0 && limit > 0);

    ChunkPool *pool = calloc(1, sizeof *pool);

    if (pool == NULL)
        return error_nomem(err);
    pool->chunk_bytes = chunk_bytes;
    pool->limit = limit;
    pool->chunks = calloc(limit, sizeof *pool->chunks);
    if (pool->chunks == NULL)
    {
        free(pool);
        return error_nomem(err);
    }
    /* none of these can fail with the arguments given on the systems we run on */
    (void) pthread_mutex_init(&pool->lock, NULL);
    (void) clock_cond_init(&pool->returned);
    *out = pool;
    return 0;
}

void
chunk_pool_free(ChunkPool *pool)
{
    if (pool == NULL)
        return;
    /* a thread that gave back the last chunk may still be leaving the lock: wait for it here */
    (void) pthread_mutex_lock(&pool->lock);
    assert(pool->in_use == 0);
    (void) pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->created; i++)
        free(pool->chunks[i].data);
    (void) pthread_cond_destroy(&pool->returned);
    (void) pthread_mutex_destroy(&pool->lock);
    free(pool->chunks);
    free(pool);
}

size_t
chunk_pool_chunk_bytes(const ChunkPool *pool)
{
    return pool->chunk_bytes;
}

size_t
chunk_pool_limit(const ChunkPool *pool)
{
    return pool->limit;
}

size_t
chunk_pool_in_use(ChunkPool *pool)
{
    (void) pthread_mutex_lock(&pool->lock);

    size_t in_use = pool->in_use;

    (void) pthread_mutex_unlock(&pool->lock);
    return in_use;
}

void
chunk_pool_on_return(ChunkPool *pool, void (*fn)(void *ctx), void *ctx)
{
    (void) pthread_mutex_lock(&pool->lock);
    pool->on_return = fn;
    pool->on_return_ctx = ctx;
    (void) pthread_mutex_unlock(&pool->lock);
}

/* Lock held. NULL when the limit is reached; the chunk may still be without memory. */
static Chunk *
chunk_take_locked(ChunkPool *pool)
{
    Chunk *chunk = pool->free_list;

    if (chunk != NULL)
        pool->free_list = chunk->next_free;
    else if (pool->created < pool->limit)
    {
        chunk = &pool->chunks[pool->created++];
        chunk->pool = pool;
    }
    if (chunk != NULL)
    {
        pool->in_use++;
        chunk->next_free = NULL;
    }
    return chunk;
}

static void
chunk_give_back(Chunk *chunk)
{
    ChunkPool *pool = chunk->pool;

    (void) pthread_mutex_lock(&pool->lock);
    chunk->next_free = pool->free_list;
    pool->free_list = chunk;
    pool->in_use--;

    void (*fn)(void *ctx) = pool->on_return;
    void *ctx = pool->on_return_ctx;

    (void) pthread_cond_signal(&pool->returned);
    (void) pthread_mutex_unlock(&pool->lock);
    /* the pool may be gone from here on */
    if (fn != NULL)
        fn(ctx);
}

/* Gives a chunk that was just taken its memory and its first reference; false if there is none. */
static bool
chunk_prepare(Chunk *chunk)
{
    if (chunk->data == NULL)
        chunk->data = fs_alloc_io(chunk->pool->chunk_bytes);
    if (chunk->data == NULL)
    {
        chunk_give_back(chunk);
        return false;
    }
    atomic_store_explicit(&chunk->refs, 1, memory_order_relaxed);
    return true;
}

Chunk *
chunk_try_get(ChunkPool *pool)
{
    (void) pthread_mutex_lock(&pool->lock);

    Chunk *chunk = chunk_take_locked(pool);

    (void) pthread_mutex_unlock(&pool->lock);
    return chunk != NULL && chunk_prepare(chunk) ? chunk : NULL;
}

/* Lock held: waits for a chunk to come back, ms at the most. */
static void
chunk_wait_locked(ChunkPool *pool, int64_t ms)
{
    struct timespec until;

    (void) clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t) (ms / 1000);
    until.tv_nsec += (long) (ms % 1000) * 1000000L;
    if (until.tv_nsec >= 1000000000L)
    {
        until.tv_sec++;
        until.tv_nsec -= 1000000000L;
    }
    (void) pthread_cond_timedwait(&pool->returned, &pool->lock, &until);
}

int
chunk_get(ChunkPool *pool, const Deadline *dl, Chunk **out, Error *err)
{
    Chunk *chunk;
    int rc = 0;

    (void) pthread_mutex_lock(&pool->lock);
    /* the list is looked at before the deadline, so that a wake-up is never lost to a time-out */
    while ((chunk = chunk_take_locked(pool)) == NULL)
    {
        rc = deadline_check(dl, "a free buffer", err);
        if (rc < 0)
            break;
        chunk_wait_locked(pool, MIN(deadline_left_ms(dl), (int64_t) CHUNK_CANCEL_POLL_MS));
    }
    (void) pthread_mutex_unlock(&pool->lock);

    if (rc < 0)
        return -1;
    if (!chunk_prepare(chunk))
        return error_nomem(err);
    *out = chunk;
    return 0;
}

void
chunk_ref(Chunk *chunk)
{
    unsigned before = atomic_fetch_add_explicit(&chunk->refs, 1, memory_order_relaxed);

    assert(before > 0);
    (void) before;
}

void
chunk_unref(Chunk *chunk)
{
    if (chunk == NULL)
        return;

    /* release: our reads and writes are done; acquire: so are those of everybody else */
    unsigned before = atomic_fetch_sub_explicit(&chunk->refs, 1, memory_order_acq_rel);

    assert(before > 0);
    if (before == 1)
        chunk_give_back(chunk);
}

/* ---- byte strings ---- */

void
chunkbuf_init(ChunkBuf *buf, ChunkPool *pool, Deadline wait)
{
    *buf = (ChunkBuf){.pool = pool, .wait = wait};
}

void
chunkbuf_reset(ChunkBuf *buf)
{
    for (size_t i = 0; i < buf->chunk_count; i++)
        chunk_unref(buf->chunks[i]);
    free(buf->chunks);
    chunkbuf_init(buf, buf->pool, buf->wait);
}

static int
chunkbuf_add_chunk(ChunkBuf *buf, Error *err)
{
    /* more than the pool has will never come back, because we hold all of it */
    if (buf->chunk_count >= buf->pool->limit)
        return error_set(
            err, ERROR_NOMEM,
            "could not hold more than %zu bytes: all buffers of the pool are used",
            buf->pool->limit * buf->pool->chunk_bytes);

    if (buf->chunk_count == buf->chunk_cap)
    {
        size_t cap = MIN(MAX(buf->chunk_cap * 2, (size_t) 8), buf->pool->limit);
        Chunk **chunks = realloc(buf->chunks, cap * sizeof(Chunk *));

        if (chunks == NULL)
            return error_nomem(err);
        buf->chunks = chunks;
        buf->chunk_cap = cap;
    }
    if (chunk_get(buf->pool, &buf->wait, &buf->chunks[buf->chunk_count], err) < 0)
        return -1;
    buf->chunk_count++;
    return 0;
}

/* data NULL appends zeros. */
static int
chunkbuf_extend(ChunkBuf *buf, const uint8_t *data, size_t len, Error *err)
{
    size_t chunk_bytes = buf->pool->chunk_bytes;

    while (len > 0)
    {
        size_t used = (size_t) (buf->bytes % chunk_bytes);

        if (used == 0 && buf->bytes == (uint64_t) buf->chunk_count * chunk_bytes &&
            chunkbuf_add_chunk(buf, err) < 0)
            return -1;

        size_t n = MIN(len, chunk_bytes - used);
        uint8_t *dest = buf->chunks[buf->chunk_count - 1]->data + used;

        if (data == NULL)
            memset(dest, 0, n);
        else
        {
            memcpy(dest, data, n);
            data += n;
        }
        buf->bytes += n;
        len -= n;
    }
    return 0;
}

int
chunkbuf_append(ChunkBuf *buf, const void *data, size_t len, Error *err)
{
    return chunkbuf_extend(buf, data, len, err);
}

int
chunkbuf_reserve(ChunkBuf *buf, size_t len, Error *err)
{
    return chunkbuf_extend(buf, NULL, len, err);
}

void
chunkbuf_overwrite(ChunkBuf *buf, uint64_t at, const void *data, size_t len)
{
    size_t chunk_bytes = buf->pool->chunk_bytes;
    const uint8_t *from = data;

    assert(at <= buf->bytes && len <= buf->bytes - at);
    while (len > 0)
    {
        size_t used = (size_t) (at % chunk_bytes);
        size_t n = MIN(len, chunk_bytes - used);

        memcpy(buf->chunks[at / chunk_bytes]->data + used, from, n);
        from += n;
        at += n;
        len -= n;
    }
}

/* ---- the sink ---- */

typedef struct ChunkbufSink
{
    Stage stage;
    ChunkBuf *buf;
} ChunkbufSink;

static int
chunkbuf_sink_write(Stage *st, const void *data, size_t len, Error *err)
{
    return chunkbuf_append(((ChunkbufSink *) st)->buf, data, len, err);
}

static void
chunkbuf_sink_destroy(Stage *st)
{
    free(st);
}

static const StageOps chunkbuf_sink_ops = {
    .name = "buffer",
    .write = chunkbuf_sink_write,
    .destroy = chunkbuf_sink_destroy,
};

int
chunkbuf_sink_new(ChunkBuf *buf, Stage **out, Error *err)
{
    ChunkbufSink *sink = malloc(sizeof *sink);

    if (sink == NULL)
        return error_nomem(err);
    stage_init(&sink->stage, &chunkbuf_sink_ops, NULL);
    sink->buf = buf;
    *out = &sink->stage;
    return 0;
}
