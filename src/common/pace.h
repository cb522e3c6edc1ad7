/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A bound on bytes in a second, shared by threads. Time that was not used is not saved up: after a
 * pause it goes on at the rate, not faster.
 */
#ifndef WALSTREAM_PACE_H
#define WALSTREAM_PACE_H

#include <stdatomic.h>
#include <stdint.h>

/* What may go at once after a pause, as time at the rate. */
#define PACE_BURST_US INT64_C(100000)

typedef struct Pace
{
    uint64_t bytes_per_s;              /* 0: no bound */
    atomic_int_fast64_t used_until_us; /* the rate is used up until then, on the monotonic clock */
} Pace;

void pace_init(Pace *pace, uint64_t bytes_per_s);

/*
 * Accounts for bytes that were moved at now_us. Returns how long to wait before the next ones, in
 * microseconds: by then all bytes so far have had their time. From any thread.
 */
int64_t pace_take(Pace *pace, uint64_t bytes, int64_t now_us);

#endif
