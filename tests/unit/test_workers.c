/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Items taken by several threads.
 */
#include "common/workers.h"

#include <stdatomic.h>

#include "common/clock.h"
#include "tap.h"

#define ITEMS 1000

typedef struct Work
{
    atomic_uint seen[ITEMS];
    atomic_uint running, most;
    size_t fail_at; /* SIZE_MAX: none */
} Work;

static int
work_item(void *ctx, size_t i, Error *err)
{
    Work *work = ctx;
    unsigned running = atomic_fetch_add(&work->running, 1) + 1;
    unsigned most = atomic_load(&work->most);

    while (running > most && !atomic_compare_exchange_weak(&work->most, &most, running))
        ;
    (void) atomic_fetch_add(&work->seen[i], 1);
    /* behind one that fails each takes so long that a stalled machine does not get through all */
    if (i % 100 == 0 || (work->fail_at != SIZE_MAX && i > work->fail_at))
        clock_sleep_ms(i == work->fail_at ? 5 : 50);
    (void) atomic_fetch_sub(&work->running, 1);
    if (i == work->fail_at)
        return error_set(err, ERROR_CORRUPT, "item %zu", i);
    return 0;
}

typedef struct Threads
{
    atomic_uint threads, items;
    atomic_bool cancel;
    bool stops; /* sets cancel half way and goes on slowly, until it is seen */
    bool own;   /* run was called in the caller's thread */
    pthread_t caller;
} Threads;

static int
threads_run(Workers *w, void *ctx, Error *err UNUSED)
{
    Threads *t = ctx;
    size_t i;

    (void) atomic_fetch_add(&t->threads, 1);
    if (pthread_equal(pthread_self(), t->caller))
        t->own = true;
    while (workers_take(w, ITEMS, &i))
    {
        (void) atomic_fetch_add(&t->items, 1);
        if (!t->stops || i < ITEMS / 2)
            continue;
        atomic_store(&t->cancel, true);
        clock_sleep_ms(50);
    }
    return 0;
}

static void
test_run(void)
{
    Threads alone = {.caller = pthread_self()},
            canceled = {.stops = true, .caller = pthread_self()};
    Error err = {0};
    int rc;

    ok(workers_run(1, threads_run, &alone, NULL, NULL, &err) == 0 &&
           atomic_load(&alone.threads) == 1 && atomic_load(&alone.items) == ITEMS && alone.own,
       "one that nobody watches works in the caller's thread");
    rc = workers_run(4, threads_run, &canceled, NULL, &canceled.cancel, &err);
    ok(rc < 0 && err.kind == ERROR_CANCELED && atomic_load(&canceled.threads) == 4 &&
           atomic_load(&canceled.items) < ITEMS && !canceled.own,
       "canceled: %u of %d items, %s", atomic_load(&canceled.items), ITEMS, err.msg);
}

int
main(void)
{
    static const struct
    {
        const char *label;
        unsigned jobs;
        size_t count;
        size_t fail_at;
    } cases[] = {
        {"nothing to do", 4, 0, SIZE_MAX},
        {"one item", 4, 1, SIZE_MAX},
        {"one thread", 1, 50, SIZE_MAX},
        {"several threads", 4, ITEMS, SIZE_MAX},
        {"more threads than items", 8, 3, SIZE_MAX},
        {"the first one fails", 4, ITEMS, 0},
        {"one in the middle fails", 4, ITEMS, 500},
        {"the only thread fails", 1, ITEMS, 7},
    };

    for (size_t c = 0; c < ARRAY_COUNT(cases); c++)
    {
        static Work work;
        Error err = {0};
        size_t done = 0, twice = 0;
        bool fails = cases[c].fail_at != SIZE_MAX;

        for (size_t i = 0; i < ITEMS; i++)
            atomic_store(&work.seen[i], 0);
        atomic_store(&work.most, 0);
        work.fail_at = cases[c].fail_at;

        int rc = workers_each(cases[c].jobs, cases[c].count, work_item, &work, &err);

        for (size_t i = 0; i < ITEMS; i++)
        {
            done += atomic_load(&work.seen[i]) > 0;
            twice += atomic_load(&work.seen[i]) > 1;
        }
        ok(rc == (fails ? -1 : 0) && (!fails || err.kind == ERROR_CORRUPT), "%s: result %s",
           cases[c].label, err.msg);
        ok(twice == 0 && (fails ? done < cases[c].count : done == cases[c].count),
           "%s: %zu items once", cases[c].label, done);
        ok(atomic_load(&work.most) <= cases[c].jobs && atomic_load(&work.running) == 0,
           "%s: %u at a time", cases[c].label, atomic_load(&work.most));
    }
    test_run();
    return done_testing();
}
