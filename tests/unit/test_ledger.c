/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The ledger: completions in any order, the durable LSN only over a gap-free prefix.
 */
#include "tap.h"
#include "walstream/ledger.h"

#define EXTENTS 5

static int advances;

static void
count_advance(void *ctx)
{
    advances++;
    (void) ctx;
}

/* Extents end at 110, 120, ...; they complete in the order given, and durable must be as listed
 * after each. */
static const struct
{
    const char *label;
    int order[EXTENTS];
    Lsn durable[EXTENTS];
} cases[] = {
    {"in order", {0, 1, 2, 3, 4}, {110, 120, 130, 140, 150}},
    {"backwards", {4, 3, 2, 1, 0}, {100, 100, 100, 100, 150}},
    {"a hole in the middle", {0, 2, 3, 4, 1}, {110, 110, 110, 110, 150}},
    {"two holes", {1, 3, 0, 4, 2}, {100, 100, 120, 120, 150}},
};

static void
test_orders(void)
{
    for (size_t c = 0; c < ARRAY_COUNT(cases); c++)
    {
        Ledger ledger;
        LedgerEntry *entries[EXTENTS];
        Error err;
        bool good = true;
        int moves = 0;
        Lsn last = 100;

        if (ledger_init(&ledger, count_advance, NULL, &err) < 0)
            return;
        ledger_restart(&ledger, 3, 100);
        for (int i = 0; i < EXTENTS; i++)
            good = good &&
                   ledger_append(
                       &ledger, 110 + 10 * (Lsn) i, clock_monotonic_us(), &entries[i], &err) == 0;
        advances = 0;
        for (int i = 0; i < EXTENTS; i++)
        {
            LedgerPosition position;

            ledger_complete(&ledger, entries[cases[c].order[i]]);
            position = ledger_position(&ledger);
            good = good && position.durable == cases[c].durable[i] && position.tli == 3 &&
                   position.open == (size_t) (EXTENTS - 1 - i);
            moves += position.durable != last;
            last = position.durable;
        }
        ok(good, "%s: durable is the end of the gap-free prefix", cases[c].label);
        ok(advances == moves, "%s: told of each advance (%d)", cases[c].label, moves);
        ledger_destroy(&ledger);
    }
}

static void
test_restart(void)
{
    Ledger ledger;
    LedgerEntry *old = NULL, *fresh = NULL;
    Error err = {0};
    Deadline soon = deadline_after_ms(30, NULL);
    Deadline never = deadline_after_ms(-1, NULL);

    ok(ledger_init(&ledger, NULL, NULL, &err) == 0, "a ledger");
    ledger_restart(&ledger, 1, 1000);
    ok(ledger_append(&ledger, 1100, 1, &old, &err) == 0, "an extent of the first stream");
    ok(ledger_wait_empty(&ledger, &soon, &err) < 0 && err.kind == ERROR_TIMEOUT,
       "waiting for it times out");
    ledger_restart(&ledger, 2, 500);
    ok(ledger_wait_empty(&ledger, &never, &err) == 0, "after a restart nothing is open");
    ledger_complete(&ledger, old);
    ok(ledger_position(&ledger).durable == 500,
       "a late completion of the old stream moves nothing");
    ok(ledger_append(&ledger, 600, 1, &old, &err) == 0 &&
           ledger_append(&ledger, 700, 1, &fresh, &err) == 0,
       "two extents, of which the first");
    ledger_abandon(&ledger, old);
    ledger_complete(&ledger, fresh);
    ok(ledger_position(&ledger).durable == 500 && ledger_position(&ledger).open == 1,
       "is given up: nothing behind it counts");
    ok(ledger_position(&ledger).failed && ledger_wait_empty(&ledger, &never, &err) < 0 &&
           err.kind == ERROR_CANCELED,
       "and nobody waits for it");
    ledger_restart(&ledger, 2, 500);
    ok(!ledger_position(&ledger).failed, "a restart forgets it");
    ok(ledger_append(&ledger, 400, 1, &fresh, &err) == 0, "an extent below the start");
    ledger_complete(&ledger, fresh);
    ok(ledger_position(&ledger).durable == 500, "repeated bytes do not take the position back");
    ledger_destroy(&ledger);
}

int
main(void)
{
    test_orders();
    test_restart();
    return done_testing();
}
