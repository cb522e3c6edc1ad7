/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A bound on bytes in a second; see pace.h.
 */
#include "common/pace.h"

#include "common/compiler.h"

/* Bounds with which a time in microseconds fits in 64 bits. */
#define PACE_RATE_MAX (UINT64_C(1) << 40)
#define PACE_BYTES_MAX (UINT64_C(1) << 40)

void
pace_init(Pace *pace, uint64_t bytes_per_s)
{
    pace->bytes_per_s = MIN(bytes_per_s, PACE_RATE_MAX);
    atomic_init(&pace->used_until_us, 0);
}

static int64_t
pace_time_us(const Pace *pace, uint64_t bytes)
{
    uint64_t rate = pace->bytes_per_s;
    uint64_t n = MIN(bytes, PACE_BYTES_MAX);

    return (int64_t) (n / rate * 1000000 + n % rate * 1000000 / rate);
}

int64_t
pace_take(Pace *pace, uint64_t bytes, int64_t now_us)
{
    int_fast64_t before = atomic_load(&pace->used_until_us);
    int64_t after;

    if (pace->bytes_per_s == 0)
        return 0;
    do
        after = MAX(before, now_us - PACE_BURST_US) + pace_time_us(pace, bytes);
    while (!atomic_compare_exchange_weak(&pace->used_until_us, &before, after));
    return MAX(after - now_us, 0);
}
