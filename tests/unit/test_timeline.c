/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "pg/timeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

static void
test_parse(void)
{
    static const struct
    {
        const char *label;
        TimelineId tli;
        const char *text;
        size_t want; /* entries; 0: CORRUPT */
        TimelineEntry last_but_one;
    } cases[] = {
        {"timeline 1 without a file", 1, NULL, 1, {0}},
        {"timeline 1 with comments only", 1, "# nothing\n\n", 1, {0}},
        {"one parent", 2, "1\t0/3000158\tno recovery target specified\n", 2, {1, 0, 0x3000158}},
        {"two parents, as PostgreSQL writes them",
         3,
         "1\t0/3000158\tno recovery target specified\n\n2\t0/5000000\tbefore 2000-01-01\n",
         3,
         {2, 0x3000158, 0x5000000}},
        {"ids with holes", 9, "3\tA/3000158\tx\n7\tB/0\tx\n", 3, {7, 0xA03000158, 0xB00000000}},
        {"same switch point twice",
         3,
         "1\t0/3000158\tx\n2\t0/3000158\tx\n",
         3,
         {2, 0x3000158, 0x3000158}},
        {"comments, blanks, CR LF", 2, "# c\r\n \t\r\n  1  0/3000158 \r\n", 2, {1, 0, 0x3000158}},
        {"no reason", 2, "1\t0/3000158\n", 2, {1, 0, 0x3000158}},
        {"no newline at the end", 2, "1\t0/3000158\treason", 2, {1, 0, 0x3000158}},
        {"empty", 2, "", 0, {0}},
        {"nothing", 2, NULL, 0, {0}},
        {"comments only", 2, "# 1\t0/3000158\tx\n", 0, {0}},
        {"cut in the switch point", 2, "1\t0/30001", 0, {0}},
        {"cut in front of the switch point", 2, "1\t", 0, {0}},
        {"cut in the id", 2, "1", 0, {0}},
        {"cut second line", 3, "1\t0/3000158\tx\n2\t0/50", 0, {0}},
        {"its own id", 2, "1\t0/3000158\tx\n2\t0/5000000\tx\n", 0, {0}},
        {"a newer id", 2, "3\t0/3000158\tx\n", 0, {0}},
        {"ids descend", 4, "2\t0/3000158\tx\n1\t0/5000000\tx\n", 0, {0}},
        {"an id twice", 4, "2\t0/3000158\tx\n2\t0/5000000\tx\n", 0, {0}},
        {"switch points go back", 4, "1\t0/5000000\tx\n2\t0/3000158\tx\n", 0, {0}},
        {"id 0", 2, "0\t0/3000158\tx\n", 0, {0}},
        {"id not a number", 2, "one\t0/3000158\tx\n", 0, {0}},
        {"id in hex", 20, "0A\t0/3000158\tx\n", 0, {0}},
        {"id above 32 bits", 2, "4294967297\t0/3000158\tx\n", 0, {0}},
        {"id with a sign", 2, "+1\t0/3000158\tx\n", 0, {0}},
        {"switch point not an LSN", 2, "1\t3000158\tx\n", 0, {0}},
        {"switch point above 64 bits", 2, "1\t100000000/0\tx\n", 0, {0}},
        {"switch point on the next line", 2, "1\n0/3000158\tx\n", 0, {0}},
        {"something else", 2, "<html>not found</html>\n", 0, {0}},
        {"parent of timeline 1", 1, "1\t0/3000158\tx\n", 0, {0}},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(timeline_history_reset) TimelineHistory h = {0};
        Error err = {0};
        size_t len = cases[i].text != NULL ? strlen(cases[i].text) : 0;
        int rc = timeline_parse_history(cases[i].tli, cases[i].text, len, &h, &err);
        bool good;

        if (cases[i].want == 0)
            good = rc == -1 && err.kind == ERROR_CORRUPT && h.entries == NULL && h.count == 0;
        else
        {
            good = rc == 0 && h.count == cases[i].want;
            good = good && h.entries[0].begin == 0;
            good = good && h.entries[h.count - 1].tli == cases[i].tli &&
                   h.entries[h.count - 1].end == UINT64_MAX;
            if (good && h.count > 1)
            {
                const TimelineEntry *e = &h.entries[h.count - 2];

                good = e->tli == cases[i].last_but_one.tli &&
                       e->begin == cases[i].last_but_one.begin &&
                       e->end == cases[i].last_but_one.end &&
                       h.entries[h.count - 1].begin == e->end;
            }
        }
        if (!ok(good, "history: %s", cases[i].label))
            diag("rc %d: %s", rc, err.msg);
    }
}

static void
test_nul_in_text(void)
{
    static const char text[] = "1\t0/3000158\tx\n2\0\t0/5000000\tx\n";
    AUTO(timeline_history_reset) TimelineHistory h = {0};
    Error err = {0};

    ok(timeline_parse_history(3, text, sizeof text - 1, &h, &err) == -1 &&
           err.kind == ERROR_CORRUPT,
       "history: NUL byte in an entry");
    ok(strstr(err.msg, "00000003.history") != NULL && strstr(err.msg, "line 2") != NULL,
       "the message names file and line: %s", err.msg);
}

static void
test_bounds(void)
{
    size_t cap = TIMELINE_HISTORY_MAX_BYTES + 2;
    char *text = malloc(cap);
    size_t len = 0;
    Error err = {0};

    if (text == NULL)
        abort();
    memset(text, '\n', cap);
    memcpy(text, "1 0/1 x\n", sizeof "1 0/1 x\n" - 1);
    for (size_t extra = 0; extra < 2; extra++)
    {
        AUTO(timeline_history_reset) TimelineHistory h = {0};
        int rc = timeline_parse_history(2, text, TIMELINE_HISTORY_MAX_BYTES + extra, &h, &err);

        ok(extra == 0 ? rc == 0 && h.count == 2 : rc == -1 && err.kind == ERROR_CORRUPT,
           "a file of the largest size and %zu bytes", extra);
    }

    /* the newest counts too: one parent less than TIMELINE_MAX_ENTRIES fits */
    for (size_t i = 1; i < TIMELINE_MAX_ENTRIES; i++)
        len += (size_t) snprintf(text + len, cap - len, "%zu 0/1\n", i);
    for (size_t extra = 0; extra < 2; extra++)
    {
        AUTO(timeline_history_reset) TimelineHistory h = {0};
        int rc;

        if (extra == 1)
            len += (size_t) snprintf(text + len, cap - len, "%d 0/1\n", TIMELINE_MAX_ENTRIES);
        rc = timeline_parse_history(1000000, text, len, &h, &err);
        ok(extra == 0 ? rc == 0 && h.count == TIMELINE_MAX_ENTRIES
                      : rc == -1 && err.kind == ERROR_CORRUPT,
           "a file of the most timelines and %zu", extra);
    }
    free(text);
}

static void
test_lookup(void)
{
    static const char text[] = "1\t0/3000\tx\n2\t0/3000\tx\n5\t0/9000\tx\n";
    static const struct
    {
        Lsn lsn;
        TimelineId want;
    } cases[] = {
        {0, 1},      {0x2FFF, 1}, {0x3000, 5},         {0x8FFF, 5},
        {0x9000, 7}, {0x9001, 7}, {UINT64_MAX - 1, 7}, {UINT64_MAX, 7},
    };
    AUTO(timeline_history_reset) TimelineHistory h = {0};
    const TimelineHistory empty = {0};
    Error err = {0};

    ok(timeline_parse_history(7, text, sizeof text - 1, &h, &err) == 0, "a history to look in");
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        ok(timeline_of_lsn(&h, cases[i].lsn) == cases[i].want, "LSN %llX is of timeline %u",
           (unsigned long long) cases[i].lsn, cases[i].want);
    ok(timeline_of_lsn(&empty, 5) == 0, "no timeline in an empty history");

    const TimelineEntry *e = timeline_find(&h, 5);

    ok(e != NULL && e->begin == 0x3000 && e->end == 0x9000, "timeline 5 is found");
    e = timeline_find(&h, 7);
    ok(e != NULL && e->begin == 0x9000, "and the newest");
    ok(timeline_find(&h, 3) == NULL, "timeline 3 is no ancestor");
    ok(timeline_find(&empty, 1) == NULL, "nothing in an empty history");
}

int
main(void)
{
    test_parse();
    test_nul_in_text();
    test_bounds();
    test_lookup();
    return done_testing();
}
