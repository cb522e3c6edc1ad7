/* SPDX-License-Identifier: PostgreSQL */
#include "common/progress.h"

#include <string.h>

#include "tap.h"

#define MIB ((uint64_t) 1024 * 1024)

static const struct
{
    const char *label;
    ProgressState state;
    const char *want;
} cases[] = {
    {"nothing yet", {"reading", 0, 1000, 0, 0, 0}, "reading   0 %, 0 objects, 0 B"},
    {"no rate in the first half second",
     {"reading", 500, 1000, 3, 499, 0},
     "reading  50 %, 3 objects, 500 B"},
    {"rate and time left",
     {"reading", 10 * MIB, 40 * MIB, 3, 1000, 0},
     "reading  25 %, 3 objects, 10.0 MiB, 10.0 MiB/s, 4 s left"},
    {"minutes",
     {"reading", 10 * MIB, 2010 * MIB, 3, 1000, 0},
     "reading   0 %, 3 objects, 10.0 MiB, 10.0 MiB/s, 3 min 21 s left"},
    {"hours",
     {"reading", 1 * MIB, 18001 * MIB, 3, 1000, 0},
     "reading   0 %, 3 objects, 1.0 MiB, 1.0 MiB/s, 5 h 00 min left"},
    {"all of it",
     {"reading", 1000, 1000, 3, 1000, 0},
     "reading 100 %, 3 objects, 1000 B, 1000 B/s"},
    {"more than was thought",
     {"reading", 2000, 1000, 3, 100, 0},
     "reading 100 %, 3 objects, 2.0 KiB"},
    {"nothing to do", {"reading", 0, 0, 0, 10, 0}, "reading 100 %, 0 objects, 0 B"},
    {"a bar",
     {"reading", 500, 1000, 3, 0, 54},
     "reading [##########.........]  50 %, 3 objects, 500 B"},
    {"a full bar",
     {"reading", 1000, 1000, 3, 0, 52},
     "reading [################] 100 %, 3 objects, 1000 B"},
    {"no room for a bar", {"reading", 500, 1000, 3, 0, 40}, "reading  50 %, 3 objects, 500 B"},
    {"no room at all", {"reading", 500, 1000, 3, 0, 20}, "reading  50 %, 3 obj"},
};

static void
test_format(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        char buf[PROGRESS_TEXT_MAX];

        progress_format(&cases[i].state, buf);
        if (!ok(strcmp(buf, cases[i].want) == 0, "format: %s", cases[i].label))
            diag("\"%s\", wanted \"%s\"", buf, cases[i].want);
        if (cases[i].state.width > 0)
            ok(strlen(buf) <= (size_t) cases[i].state.width, "format: %s: fits", cases[i].label);
    }
}

int
main(void)
{
    Progress p;

    test_format();
    progress_begin(&p, "reading", 100);
    progress_add(&p, 30, 1);
    progress_add(&p, 12, 2);
    ok(atomic_load(&p.bytes) == 42 && atomic_load(&p.items) == 3, "what is done adds up");
    progress_end(&p);
    return done_testing();
}
