/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Where the stream goes on, from what the repository holds and the server's history.
 */
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "walstream/resume.h"

#define MB ((Lsn) 1024 * 1024)
#define SEG (1024u * 1024u)
#define INF UINT64_MAX
#define MAX_POINTS 5

typedef struct TestRange
{
    TimelineId tli;
    Lsn start, end;
} TestRange;

/* Entries of the history from {tli, begin}; a range list per case; points expected in order. */
static const struct
{
    const char *label;
    TimelineEntry history[4];
    TestRange ranges[6];
    Lsn slot, flush;
    struct
    {
        TimelineId tli;
        Lsn start, durable, gap_start, gap_end;
    } want[MAX_POINTS];
} cases[] = {
    {"an empty repository begins at the slot's segment",
     {{1, 0, INF}},
     {{0}},
     5 * MB + 100,
     9 * MB,
     {{1, 5 * MB, 5 * MB, 0, 0}}},
    {"an empty repository without a slot position begins at the server's end",
     {{1, 0, INF}},
     {{0}},
     0,
     9 * MB + 7,
     {{1, 9 * MB, 9 * MB, 0, 0}}},
    {"the end of the repository, in the middle of a segment",
     {{1, 0, INF}},
     {{1, 5 * MB, 8 * MB + 300}},
     8 * MB + 100,
     9 * MB,
     {{1, 8 * MB, 8 * MB + 300, 0, 0}}},
    {"a slot behind the repository does not take it back",
     {{1, 0, INF}},
     {{1, 5 * MB, 8 * MB + 300}},
     6 * MB,
     9 * MB,
     {{1, 8 * MB, 8 * MB + 300, 0, 0}}},
    {"a slot ahead of the repository: first the repository's end, then the slot with a gap",
     {{1, 0, INF}},
     {{1, 5 * MB, 6 * MB + 10}},
     8 * MB + 100,
     9 * MB,
     {{1, 6 * MB, 6 * MB + 10, 0, 0}, {1, 8 * MB, 8 * MB, 6 * MB + 10, 8 * MB}}},
    {"a hole behind the slot's position: a crash between parallel uploads",
     {{1, 0, INF}},
     {{1, 5 * MB, 6 * MB}, {1, 7 * MB, 8 * MB}},
     6 * MB,
     9 * MB,
     {{1, 6 * MB, 6 * MB, 0, 0}, {1, 8 * MB, 8 * MB, 6 * MB, 7 * MB}}},
    {"a hole that the slot has passed is history",
     {{1, 0, INF}},
     {{1, 3 * MB, 4 * MB}, {1, 5 * MB, 8 * MB}},
     7 * MB,
     9 * MB,
     {{1, 8 * MB, 8 * MB, 0, 0}}},
    {"uploads side by side, the first of all was not done: a hole at the beginning",
     {{1, 0, INF}},
     {{1, 6 * MB, 7 * MB}},
     5 * MB + 100,
     9 * MB,
     {{1, 5 * MB, 5 * MB, 0, 0}, {1, 7 * MB, 7 * MB, 5 * MB, 6 * MB}}},
    {"the same with pieces of one segment",
     {{1, 0, INF}},
     {{1, 5 * MB + 300, 5 * MB + 400}},
     5 * MB + 100,
     9 * MB,
     {{1, 5 * MB, 5 * MB, 0, 0}, {1, 5 * MB, 5 * MB + 400, 5 * MB, 5 * MB + 300}}},
    {"without a slot all holes are tried",
     {{1, 0, INF}},
     {{1, 3 * MB, 4 * MB}, {1, 5 * MB, 8 * MB}},
     0,
     9 * MB,
     {{1, 4 * MB, 4 * MB, 0, 0},
      {1, 8 * MB, 8 * MB, 4 * MB, 5 * MB},
      {1, 9 * MB, 9 * MB, 8 * MB, 9 * MB}}},
    {"promotion: first the rest of the old timeline, then the new one from its segment's start",
     {{1, 0, 8 * MB + 500}, {2, 8 * MB + 500, INF}},
     {{1, 5 * MB, 8 * MB + 200}},
     8 * MB + 200,
     9 * MB,
     {{1, 8 * MB, 8 * MB + 200, 0, 0}}},
    {"promotion: the old timeline is complete",
     {{1, 0, 8 * MB + 500}, {2, 8 * MB + 500, INF}},
     {{1, 5 * MB, 8 * MB + 500}},
     8 * MB + 500,
     9 * MB,
     {{2, 8 * MB, 8 * MB + 500, 0, 0}}},
    {"promotion: the repository is ahead of the switch point",
     {{1, 0, 8 * MB + 500}, {2, 8 * MB + 500, INF}},
     {{1, 5 * MB, 8 * MB + 900}},
     8 * MB + 500,
     9 * MB,
     {{2, 8 * MB, 8 * MB + 500, 0, 0}}},
    {"the new timeline has begun",
     {{1, 0, 8 * MB + 500}, {2, 8 * MB + 500, INF}},
     {{1, 5 * MB, 8 * MB + 500}, {2, 8 * MB, 9 * MB + 50}},
     9 * MB,
     10 * MB,
     {{2, 9 * MB, 9 * MB + 50, 0, 0}}},
    {"two promotions, the repository knows the first",
     {{1, 0, 4 * MB}, {2, 4 * MB, 8 * MB + 500}, {3, 8 * MB + 500, INF}},
     {{1, 2 * MB, 4 * MB}, {2, 4 * MB, 6 * MB}},
     6 * MB,
     9 * MB,
     {{2, 6 * MB, 6 * MB, 0, 0}}},
    {"segments of the new timeline were archived, but not its first",
     {{1, 0, 8 * MB + 500}, {2, 8 * MB + 500, INF}},
     {{1, 5 * MB, 8 * MB + 500}, {2, 9 * MB, 10 * MB}},
     8 * MB + 500,
     11 * MB,
     {{2, 8 * MB, 8 * MB + 500, 0, 0}, {2, 10 * MB, 10 * MB, 8 * MB + 500, 9 * MB}}},
    {"the old timeline's end is gone: what the new one repeats is not missing",
     {{1, 0, 8 * MB + 500}, {2, 8 * MB + 500, INF}},
     {{1, 5 * MB, 6 * MB}, {2, 8 * MB, 9 * MB}},
     9 * MB,
     10 * MB,
     {{1, 6 * MB, 6 * MB, 0, 0}, {2, 9 * MB, 9 * MB, 6 * MB, 8 * MB}}},
};

static void
run_case(size_t c)
{
    TimelineHistory history = {.entries = malloc(4 * sizeof(TimelineEntry))};
    CatalogRanges ranges[4] = {0};
    CatalogRange items[4][6] = {0};
    ResumePlan plan = {0};
    Error err = {0};
    size_t want = 0;
    bool good;

    memcpy(history.entries, cases[c].history, sizeof cases[c].history);
    while (history.count < 4 && cases[c].history[history.count].tli != 0)
        history.count++;
    for (size_t i = 0; i < history.count; i++)
    {
        ranges[i].items = items[i];
        for (size_t r = 0; r < 6; r++)
            if (cases[c].ranges[r].tli == history.entries[i].tli)
                ranges[i].items[ranges[i].count++] = (CatalogRange){
                    .tli = cases[c].ranges[r].tli,
                    .start = cases[c].ranges[r].start,
                    .end = cases[c].ranges[r].end};
    }
    while (want < MAX_POINTS && cases[c].want[want].tli != 0)
        want++;

    good =
        resume_find_points(&history, ranges, cases[c].slot, cases[c].flush, SEG, &plan, &err) == 0;
    /* what is wanted comes first, in order; a last resort may follow */
    ok(good && plan.count >= want, "%s: %zu points", cases[c].label, plan.count);
    for (size_t i = 0; good && i < want && i < plan.count; i++)
    {
        const ResumePoint *p = &plan.points[i];
        bool same = p->tli == cases[c].want[i].tli && p->start == cases[c].want[i].start &&
                    p->durable == cases[c].want[i].durable &&
                    (cases[c].want[i].gap_end == 0 || (p->gap_start == cases[c].want[i].gap_start &&
                                                       p->gap_end == cases[c].want[i].gap_end));

        if (!ok(same, "%s: point %zu", cases[c].label, i))
            diag(
                "got timeline %u start %lX durable %lX gap %lX-%lX", p->tli,
                (unsigned long) p->start, (unsigned long) p->durable, (unsigned long) p->gap_start,
                (unsigned long) p->gap_end);
    }
    resume_plan_reset(&plan);
    timeline_history_reset(&history);
}

int
main(void)
{
    for (size_t c = 0; c < ARRAY_COUNT(cases); c++)
        run_case(c);
    return done_testing();
}
