/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Timeline history files: what is accepted is a gap-free row of timelines.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "pg/timeline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fuzz_check(bool good, const char *what)
{
    if (good)
        return;
    (void) fprintf(stderr, "broken: %s\n", what);
    abort();
}

static void
fuzz_history(TimelineId tli, const char *text, size_t len)
{
    AUTO(timeline_history_reset) TimelineHistory h = {0};
    Error err = {.kind = ERROR_NONE};
    Lsn begin = 0;

    if (timeline_parse_history(tli, text, len, &h, &err) < 0)
    {
        fuzz_check(err.kind == ERROR_CORRUPT, "the kind is CORRUPT");
        fuzz_check(h.entries == NULL && h.count == 0, "nothing is handed out on failure");
        return;
    }
    fuzz_check(h.count >= 1 && h.count <= TIMELINE_MAX_ENTRIES, "entries are bounded");
    for (size_t i = 0; i < h.count; i++)
    {
        const TimelineEntry *e = &h.entries[i];

        fuzz_check(e->begin == begin && e->end >= begin, "no gap, no step back");
        fuzz_check(i == 0 || e->tli > h.entries[i - 1].tli, "ids ascend");
        fuzz_check(timeline_find(&h, e->tli) == e, "an entry is found");
        fuzz_check(e->begin == e->end || timeline_of_lsn(&h, e->begin) == e->tli, "by LSN too");
        begin = e->end;
    }
    fuzz_check(h.entries[h.count - 1].tli == tli && begin == UINT64_MAX, "the newest is last");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const TimelineId tlis[] = {1, 2, 3, UINT32_MAX};

    for (size_t i = 0; i < ARRAY_COUNT(tlis); i++)
        fuzz_history(tlis[i], (const char *) data, size);
    return 0;
}
