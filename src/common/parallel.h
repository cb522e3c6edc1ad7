/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * One function over many items by several threads, which take the items in order.
 */
#ifndef WALSTREAM_PARALLEL_H
#define WALSTREAM_PARALLEL_H

#include "common/error.h"

#define PARALLEL_JOBS_MAX 64

/* The i-th item; from any of the threads, several at a time. */
typedef int (*ParallelFn)(void *ctx, size_t i, Error *err);

/*
 * Calls fn for 0 .. count - 1 with at most jobs at a time (1 .. PARALLEL_JOBS_MAX; one needs no
 * thread). After a failure no further item is begun; returns when all that were begun have ended,
 * with the first failure in err.
 */
MUST_CHECK int parallel_run(unsigned jobs, size_t count, ParallelFn fn, void *ctx, Error *err);

#endif
