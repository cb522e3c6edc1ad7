/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Several threads that do the same: they take items by number until there are none, the first
 * failure stops all. Where the system gives fewer threads than asked for, fewer do the work; where
 * it gives none, the caller's does.
 */
#ifndef WALSTREAM_WORKERS_H
#define WALSTREAM_WORKERS_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/error.h"
#include "common/progress.h"

#define WORKERS_MAX 64

typedef struct Workers Workers;

/* What one thread does; it takes items with workers_take until that is false. */
typedef int (*WorkersFn)(Workers *w, void *ctx, Error *err);

struct Workers
{
    atomic_size_t next; /* the next item */
    atomic_bool stop;   /* one has failed, or we were canceled; fit for a Deadline */
    void *ctx;
    WorkersFn run;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t ended;
    unsigned running;
    bool failed;
    Error err; /* the first */
};

/*
 * Calls run in each of count threads (1 .. WORKERS_MAX; one that nobody watches is the caller's
 * own) and waits for them.
 *
 * progress  begun by the caller, shown by the caller's thread meanwhile; NULL: none
 * cancel    makes workers_take false, and the whole CANCELED; NULL: none
 */
MUST_CHECK int workers_run(
    unsigned count, WorkersFn run, void *ctx, Progress *progress, const atomic_bool *cancel,
    Error *err);

/* The number of the next item, if there is one below count and nobody has stopped. */
bool workers_take(Workers *w, size_t count, size_t *item);

/* The i-th item; from any of the threads, several at a time. */
typedef int (*WorkersEachFn)(void *ctx, size_t i, Error *err);

/*
 * Calls fn for 0 .. count - 1 with at most jobs at a time (1 .. WORKERS_MAX). After a failure no
 * further item is begun; returns when all that were begun have ended, with the first failure in
 * err.
 */
MUST_CHECK int workers_each(unsigned jobs, size_t count, WorkersEachFn fn, void *ctx, Error *err);

#endif
