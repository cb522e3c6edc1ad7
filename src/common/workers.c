/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Threads that share items; see workers.h.
 */
#include "common/workers.h"

#include "common/clock.h"

#define WORKERS_LOOK_MS 100

/* One thread's work, and its result. */
static void
workers_work(Workers *w)
{
    Error err = {0};
    int rc = w->run(w, w->ctx, &err);

    (void) pthread_mutex_lock(&w->lock);
    if (rc < 0 && !w->failed)
    {
        w->failed = true;
        w->err = err;
        atomic_store(&w->stop, true);
    }
    w->running--;
    (void) pthread_cond_signal(&w->ended);
    (void) pthread_mutex_unlock(&w->lock);
}

static void *
workers_main(void *arg)
{
    workers_work(arg);
    return NULL;
}

bool
workers_take(Workers *w, size_t count, size_t *item)
{
    if (atomic_load(&w->stop))
        return false;
    *item = atomic_fetch_add(&w->next, 1);
    return *item < count;
}

static void
workers_wait(Workers *w, Progress *progress, const atomic_bool *cancel)
{
    (void) pthread_mutex_lock(&w->lock);
    while (w->running > 0)
    {
        Deadline soon = deadline_after_ms(WORKERS_LOOK_MS, NULL);

        deadline_cond_wait(&soon, &w->ended, &w->lock);
        if (cancel != NULL && atomic_load(cancel))
            atomic_store(&w->stop, true);
        (void) pthread_mutex_unlock(&w->lock);
        if (progress != NULL)
            progress_show(progress);
        (void) pthread_mutex_lock(&w->lock);
    }
    (void) pthread_mutex_unlock(&w->lock);
}

static void
workers_count_one(Workers *w)
{
    (void) pthread_mutex_lock(&w->lock);
    w->running++;
    (void) pthread_mutex_unlock(&w->lock);
}

/* Starts up to count threads. */
static unsigned
workers_start(Workers *w, unsigned count, pthread_t *threads)
{
    unsigned started = 0;

    for (; started < count; started++)
    {
        workers_count_one(w);
        if (pthread_create(&threads[started], NULL, workers_main, w) == 0)
            continue;
        (void) pthread_mutex_lock(&w->lock);
        w->running--;
        (void) pthread_mutex_unlock(&w->lock);
        break;
    }
    return started;
}

int
workers_run(
    unsigned count, WorkersFn run, void *ctx, Progress *progress, const atomic_bool *cancel,
    Error *err)
{
    pthread_t threads[WORKERS_MAX];
    unsigned started = 0;
    Workers w = {.run = run, .ctx = ctx};

    assert(count >= 1 && count <= WORKERS_MAX);
    if (clock_cond_init(&w.ended) != 0)
        return error_set(err, ERROR_IO, "could not make a condition variable");
    (void) pthread_mutex_init(&w.lock, NULL);
    if (count > 1 || progress != NULL || cancel != NULL)
        started = workers_start(&w, count, threads);
    if (started == 0)
    {
        workers_count_one(&w);
        workers_work(&w);
    }
    workers_wait(&w, progress, cancel);
    for (unsigned i = 0; i < started; i++)
        (void) pthread_join(threads[i], NULL);
    (void) pthread_mutex_destroy(&w.lock);
    (void) pthread_cond_destroy(&w.ended);
    if (cancel != NULL && atomic_load(cancel))
        return error_set(err, ERROR_CANCELED, "stopped by a signal");
    if (w.failed)
    {
        *err = w.err;
        return -1;
    }
    return 0;
}

typedef struct WorkersEach
{
    WorkersEachFn fn;
    void *ctx;
    size_t count;
} WorkersEach;

static int
workers_each_main(Workers *w, void *ctx, Error *err)
{
    const WorkersEach *each = ctx;
    size_t i;

    while (workers_take(w, each->count, &i))
        if (each->fn(each->ctx, i, err) < 0)
            return -1;
    return 0;
}

int
workers_each(unsigned jobs, size_t count, WorkersEachFn fn, void *ctx, Error *err)
{
    WorkersEach each = {.fn = fn, .ctx = ctx, .count = count};

    if (count == 0)
        return 0;
    return workers_run((unsigned) MIN(jobs, count), workers_each_main, &each, NULL, NULL, err);
}
