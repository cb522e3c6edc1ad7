/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The pool of chunks and byte strings made of them; worth running under ThreadSanitizer.
 */
#include "stream/chunk.h"

#include "tap.h"

#include "stream_test.h"

static const Deadline no_wait = {.at_ms = 0};

static void
test_pool(void)
{
    ChunkPool *pool = NULL;
    Error err = {0};
    Chunk *chunks[3];

    ok(chunk_pool_new(100, 2, &pool, &err) == 0 && chunk_pool_chunk_bytes(pool) == 100 &&
           chunk_pool_limit(pool) == 2 && chunk_pool_in_use(pool) == 0,
       "a new pool is empty");
    chunks[0] = chunk_try_get(pool);
    chunks[1] = chunk_try_get(pool);
    ok(chunks[0] != NULL && chunks[1] != NULL && chunks[0] != chunks[1] &&
           chunk_pool_in_use(pool) == 2,
       "as many chunks as the limit");
    if (chunks[0] == NULL || chunks[1] == NULL)
        return;
    memset(chunks[0]->data, 1, 100);
    memset(chunks[1]->data, 2, 100);
    ok(chunk_try_get(pool) == NULL, "and not one more");
    ok(chunk_get(pool, &no_wait, &chunks[2], &err) < 0 && err.kind == ERROR_TIMEOUT,
       "waiting ends at the deadline");

    int64_t before = clock_monotonic_ms();
    Deadline soon = deadline_after_ms(120, NULL);

    ok(chunk_get(pool, &soon, &chunks[2], &err) < 0 && err.kind == ERROR_TIMEOUT &&
           clock_monotonic_ms() - before >= 120,
       "and not before it");

    atomic_bool cancel = true;
    Deadline canceled = deadline_after_ms(-1, &cancel);

    ok(chunk_get(pool, &canceled, &chunks[2], &err) < 0 && err.kind == ERROR_CANCELED,
       "waiting ends when canceled");

    chunk_ref(chunks[0]);
    chunk_unref(chunks[0]);
    ok(chunk_pool_in_use(pool) == 2 && chunks[0]->data[99] == 1,
       "a chunk stays while there is a reference");
    chunk_unref(chunks[0]);
    ok(chunk_pool_in_use(pool) == 1, "and goes back with the last one");
    ok(chunk_get(pool, &no_wait, &chunks[2], &err) == 0 && chunks[2] == chunks[0],
       "what is there is given even when the deadline has passed");
    chunk_unref(chunks[1]);
    chunk_unref(chunks[2]);
    chunk_unref(NULL);
    chunk_pool_free(pool);
    chunk_pool_free(NULL);
}

/* ---- threads ---- */

typedef struct Worker
{
    ChunkPool *pool;
    atomic_int *held; /* chunks held by all threads */
    int limit;
    bool good;
    uint64_t seed;
} Worker;

static void *
worker_run(void *arg)
{
    Worker *w = arg;

    w->good = true;
    for (int i = 0; i < 2000; i++)
    {
        Deadline dl = deadline_after_ms(300000, NULL);
        Chunk *chunk = NULL;
        Error err = {0};

        if (chunk_get(w->pool, &dl, &chunk, &err) < 0)
        {
            w->good = false;
            break;
        }
        if (atomic_fetch_add(w->held, 1) >= w->limit)
            w->good = false;
        /* plain memory: the thread sanitizer tells when two threads have the same chunk */
        memset(chunk->data, (int) w->seed, 64);
        if (test_random(&w->seed) % 4 == 0)
        {
            chunk_ref(chunk);
            chunk_unref(chunk);
        }
        if (chunk->data[63] != chunk->data[0])
            w->good = false;
        (void) atomic_fetch_sub(w->held, 1);
        chunk_unref(chunk);
    }
    return NULL;
}

static void
count_return(void *ctx)
{
    (void) atomic_fetch_add((atomic_int *) ctx, 1);
}

static void
test_threads(void)
{
    enum
    {
        THREADS = 6,
        LIMIT = 3
    };
    ChunkPool *pool = NULL;
    Error err = {0};
    Worker workers[THREADS];
    pthread_t threads[THREADS];
    atomic_int held = 0;
    atomic_int returns = 0;
    bool good = chunk_pool_new(64, LIMIT, &pool, &err) == 0;

    chunk_pool_on_return(pool, count_return, &returns);
    for (size_t i = 0; i < THREADS; i++)
    {
        workers[i] = (Worker){.pool = pool, .held = &held, .limit = LIMIT, .seed = i + 1};
        good = pthread_create(&threads[i], NULL, worker_run, &workers[i]) == 0 && good;
    }
    for (size_t i = 0; i < THREADS; i++)
    {
        (void) pthread_join(threads[i], NULL);
        good = good && workers[i].good;
    }
    ok(good, "%d threads share %d chunks without meeting in one", (int) THREADS, (int) LIMIT);
    ok(chunk_pool_in_use(pool) == 0 && atomic_load(&returns) == THREADS * 2000,
       "all of them went back, each with a call");
    chunk_pool_free(pool);
}

static void *
unref_later(void *arg)
{
    clock_sleep_ms(50);
    chunk_unref(arg);
    return NULL;
}

static void
test_wake(void)
{
    ChunkPool *pool = NULL;
    Error err = {0};
    pthread_t thread;
    Deadline dl = deadline_after_ms(300000, NULL);
    Chunk *again = NULL;

    (void) !chunk_pool_new(64, 1, &pool, &err);

    Chunk *only = chunk_try_get(pool);
    bool good = pthread_create(&thread, NULL, unref_later, only) == 0;

    good = chunk_get(pool, &dl, &again, &err) == 0 && good;
    (void) pthread_join(thread, NULL);
    ok(good && again == only, "a waiting thread gets the chunk that comes back");
    chunk_unref(again);
    chunk_pool_free(pool);
}

/* ---- byte strings ---- */

static bool
chunkbuf_holds(const ChunkBuf *buf, const uint8_t *data, size_t len)
{
    size_t chunk_bytes = chunk_pool_chunk_bytes(buf->pool);

    if (buf->bytes != len || buf->chunk_count != (len + chunk_bytes - 1) / chunk_bytes)
        return false;
    for (size_t at = 0; at < len; at++)
        if (buf->chunks[at / chunk_bytes]->data[at % chunk_bytes] != data[at])
            return false;
    return true;
}

static void
test_buf(void)
{
    enum
    {
        LEN = 1000
    };
    ChunkPool *pool = NULL;
    Error err = {0};
    uint8_t *data = test_data_new(TEST_RANDOM, LEN);
    bool good = true;

    (void) !chunk_pool_new(64, 16, &pool, &err); /* 1024 bytes */
    for (size_t step = 1; step <= LEN; step += step < 200 ? 1 : 100)
    {
        ChunkBuf buf;

        chunkbuf_init(&buf, pool, no_wait);
        for (size_t at = 0; at < LEN; at += step)
            good =
                chunkbuf_append(&buf, data + at, MIN(step, (size_t) LEN - at), &err) == 0 && good;
        good = good && chunkbuf_holds(&buf, data, LEN);
        chunkbuf_reset(&buf);
        good = good && buf.bytes == 0 && chunk_pool_in_use(pool) == 0;
    }
    ok(good, "append: pieces of every length");

    for (size_t reserve = 0; reserve <= 200; reserve++)
    {
        ChunkBuf buf;

        chunkbuf_init(&buf, pool, no_wait);
        good = good && chunkbuf_reserve(&buf, reserve, &err) == 0 &&
               chunkbuf_append(&buf, data + reserve, LEN - reserve, &err) == 0;
        for (size_t at = 0; at < reserve; at++)
            good = good && buf.chunks[at / 64]->data[at % 64] == 0;
        chunkbuf_overwrite(&buf, 0, data, reserve);
        good = good && chunkbuf_holds(&buf, data, LEN);
        chunkbuf_reset(&buf);
    }
    ok(good, "reserve gives zeros, overwrite fills them in");

    ChunkBuf one, two;

    chunkbuf_init(&one, pool, no_wait);
    chunkbuf_init(&two, pool, deadline_after_ms(-1, NULL));
    ok(chunkbuf_append(&two, data, LEN, &err) == 0 && chunkbuf_append(&two, data, 24, &err) == 0 &&
           two.bytes == 1024,
       "append: the whole pool");
    ok(chunkbuf_append(&two, data, 1, &err) < 0 && err.kind == ERROR_NOMEM,
       "append: does not wait for what only it could give back");
    ok(chunkbuf_append(&one, data, 1, &err) < 0 && err.kind == ERROR_TIMEOUT && one.bytes == 0,
       "append: waits for others only until the deadline");
    chunkbuf_reset(&two);

    Stage *sink = NULL;

    good = chunkbuf_sink_new(&one, &sink, &err) == 0;
    ok(test_push(sink, data, LEN, 7, &err) == 0 && good && chunkbuf_holds(&one, data, LEN),
       "sink: appends");
    chunkbuf_reset(&one);
    good = chunkbuf_sink_new(&one, &sink, &err) == 0;
    ok(test_push(sink, data, LEN, LEN, &err) == 0 && good && chunkbuf_holds(&one, data, LEN),
       "after a reset the string can be used again");
    chunkbuf_reset(&one);
    ok(chunk_pool_in_use(pool) == 0, "everything went back");
    chunk_pool_free(pool);
    free(data);
}

int
main(void)
{
    test_pool();
    test_wake();
    test_threads();
    test_buf();
    return done_testing();
}
