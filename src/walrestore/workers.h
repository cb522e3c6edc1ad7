/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Several threads that do the same: they take items by number until there are none, the first
 * failure stops all. The caller's thread shows the progress meanwhile.
 */
#ifndef WALRESTORE_WORKERS_H
#define WALRESTORE_WORKERS_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/error.h"
#include "common/progress.h"

#define WORKERS_MAX 64

typedef struct Workers
{
    atomic_size_t next; /* the next item */
    atomic_bool stop;   /* one has failed, or we were canceled; fit for a Deadline */
    void *ctx;
    int (*run)(struct Workers *w, void *ctx, Error *err);
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t ended;
    unsigned running;
    bool failed;
    Error err; /* the first */
} Workers;

/*
 * Calls run in each of count threads (1 .. WORKERS_MAX) and waits for them.
 *
 * run       takes items with workers_take until that is false
 * progress  begun by the caller; NULL: none
 * cancel    makes workers_take false, and the whole CANCELED
 */
MUST_CHECK int workers_run(
    unsigned count, int (*run)(Workers *w, void *ctx, Error *err), void *ctx, Progress *progress,
    const atomic_bool *cancel, Error *err);

/* The number of the next item, if there is one below count and nobody has stopped. */
bool workers_take(Workers *w, size_t count, size_t *item);

#endif
