/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A clock that stands still until the test moves it, so that nothing a test says of time depends on
 * how busy the machine is. It takes the place of the C library's clock_gettime in the program that
 * includes this: the monotonic clock stands once fake_clock_stop was called, the wall clock goes
 * on. What sleeps or waits does so for real, unless the test takes the place of that too.
 */
#ifndef WALSTREAM_FAKE_CLOCK_H
#define WALSTREAM_FAKE_CLOCK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static atomic_bool fake_clock_stands;
static atomic_int_least64_t fake_clock_ns;

int
clock_gettime(clockid_t id, struct timespec *ts)
{
    if (id == CLOCK_MONOTONIC && atomic_load(&fake_clock_stands))
    {
        int64_t ns = atomic_load(&fake_clock_ns);

        ts->tv_sec = (time_t) (ns / 1000000000);
        ts->tv_nsec = (long) (ns % 1000000000);
        return 0;
    }
    return (int) syscall(SYS_clock_gettime, id, ts);
}

/* It shows the time of this call until it is moved. */
__attribute__((unused)) static void
fake_clock_stop(void)
{
    struct timespec ts;

    (void) syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &ts);
    atomic_store(&fake_clock_ns, (int64_t) ts.tv_sec * 1000000000 + ts.tv_nsec);
    atomic_store(&fake_clock_stands, true);
}

__attribute__((unused)) static void
fake_clock_move_ms(int64_t ms)
{
    (void) atomic_fetch_add(&fake_clock_ns, ms * 1000000);
}

#endif
