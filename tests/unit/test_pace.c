/* SPDX-License-Identifier: PostgreSQL */
#include "common/pace.h"

#include <pthread.h>
#include <stdlib.h>

#include "common/compiler.h"
#include "tap.h"

#define KIB UINT64_C(1024)
#define SECOND INT64_C(1000000)

static const struct
{
    const char *label;
    uint64_t rate;
    struct
    {
        int64_t at_us;
        uint64_t bytes;
        int64_t wait_us;
    } takes[4];
} cases[] = {
    {"no bound", 0, {{SECOND, UINT64_MAX, 0}, {SECOND, UINT64_MAX, 0}}},
    {"each portion takes its time",
     100 * KIB,
     {{50 * SECOND, 100 * KIB, SECOND - PACE_BURST_US},
      {51 * SECOND, 50 * KIB, SECOND / 2 - PACE_BURST_US}}},
    {"two at the same time wait one behind the other",
     100 * KIB,
     {{50 * SECOND, 100 * KIB, SECOND - PACE_BURST_US},
      {50 * SECOND, 100 * KIB, 2 * SECOND - PACE_BURST_US}}},
    {"slower than the rate waits for nothing",
     100 * KIB,
     {{50 * SECOND, 10 * KIB, 0}, {51 * SECOND, 10 * KIB, 0}, {52 * SECOND, 10 * KIB, 0}}},
    {"a pause is not made up for",
     100 * KIB,
     {{50 * SECOND, 100 * KIB, SECOND - PACE_BURST_US},
      {5000 * SECOND, 100 * KIB, SECOND - PACE_BURST_US},
      {5000 * SECOND, 100 * KIB, 2 * SECOND - PACE_BURST_US}}},
    {"a rate below a byte in a microsecond", 1, {{50 * SECOND, 3, 3 * SECOND - PACE_BURST_US}}},
    {"as fast as can be said", UINT64_MAX, {{50 * SECOND, KIB, 0}, {50 * SECOND, KIB, 0}}},
};

static void
test_takes(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Pace pace;

        pace_init(&pace, cases[i].rate);
        for (size_t n = 0; n < 4 && cases[i].takes[n].at_us != 0; n++)
        {
            int64_t got = pace_take(&pace, cases[i].takes[n].bytes, cases[i].takes[n].at_us);

            if (!ok(got == cases[i].takes[n].wait_us, "%s: %zu", cases[i].label, n + 1))
                diag("%lld us", (long long) got);
        }
    }
}

enum
{
    THREADS = 4,
    TAKES = 10000
};

static void *
taker(void *arg)
{
    for (int i = 0; i < TAKES; i++)
        (void) pace_take(arg, 1000, SECOND);
    return NULL;
}

/* Nothing that a thread takes is lost. */
static void
test_threads(void)
{
    pthread_t threads[THREADS];
    Pace pace;

    pace_init(&pace, 1000000);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, taker, &pace) != 0)
            exit(1);
    for (int i = 0; i < THREADS; i++)
        (void) pthread_join(threads[i], NULL);
    ok(pace_take(&pace, 0, SECOND) == (int64_t) THREADS * TAKES * 1000 - PACE_BURST_US,
       "several threads: all of it counts");
}

int
main(void)
{
    test_takes();
    test_threads();
    return done_testing();
}
