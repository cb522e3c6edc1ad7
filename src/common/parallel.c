/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * See parallel.h. The calling thread is one of the workers, so that it goes on, slower, where the
 * system gives no further thread.
 */
#include "common/parallel.h"

#include <pthread.h>

typedef struct ParallelRun
{
    ParallelFn fn;
    void *ctx;
    size_t count;
    pthread_mutex_t lock; /* guards what is below */
    size_t next;
    bool failed;
    Error error;
} ParallelRun;

static bool
parallel_take(ParallelRun *run, size_t *i)
{
    bool taken;

    (void) pthread_mutex_lock(&run->lock);
    taken = !run->failed && run->next < run->count;
    if (taken)
        *i = run->next++;
    (void) pthread_mutex_unlock(&run->lock);
    return taken;
}

static void *
parallel_work(void *arg)
{
    ParallelRun *run = arg;
    size_t i;

    while (parallel_take(run, &i))
    {
        Error err = {0};

        if (run->fn(run->ctx, i, &err) == 0)
            continue;
        (void) pthread_mutex_lock(&run->lock);
        if (!run->failed)
            run->error = err;
        run->failed = true;
        (void) pthread_mutex_unlock(&run->lock);
    }
    return NULL;
}

int
parallel_run(unsigned jobs, size_t count, ParallelFn fn, void *ctx, Error *err)
{
    ParallelRun run = {.fn = fn, .ctx = ctx, .count = count, .lock = PTHREAD_MUTEX_INITIALIZER};
    pthread_t threads[PARALLEL_JOBS_MAX];
    size_t started = 0;

    assert(jobs >= 1 && jobs <= PARALLEL_JOBS_MAX);
    while (started + 1 < jobs && started + 1 < count &&
           pthread_create(&threads[started], NULL, parallel_work, &run) == 0)
        started++;
    (void) parallel_work(&run);
    for (size_t i = 0; i < started; i++)
        (void) pthread_join(threads[i], NULL);
    (void) pthread_mutex_destroy(&run.lock);
    if (run.failed)
    {
        *err = run.error;
        return -1;
    }
    return 0;
}
