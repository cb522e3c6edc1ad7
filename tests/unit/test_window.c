/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Which segments the prefetcher wants, and when. The tool's file is included, as tools are in no
 * library.
 */
#include "walfetch/window.c"

#include <string.h>

#include "tap.h"

#define MB (1024u * 1024u)

/* Picks all there is to pick, as workers do; "1/5 1/6" (timeline/segment number). */
static const char *
pick_all(Window *w, int64_t now_ms)
{
    static char text[512];
    WindowSlot slot;
    size_t len = 0;

    text[0] = '\0';
    while (window_pick(w, now_ms, &slot) && window_add(w, &slot))
        len += (size_t) snprintf(
            text + len, sizeof text - len, "%s%u/%llu", len > 0 ? " " : "", slot.tli,
            (unsigned long long) slot.segno);
    return text;
}

static void
drop(Window *w, TimelineId tli, SegmentNo segno)
{
    window_drop(w, window_find(w, tli, segno));
}

static void
learn(Window *w, TimelineId tli, const char *text)
{
    TimelineHistory history;
    Error err;

    if (timeline_parse_history(tli, text, strlen(text), &history, &err) < 0)
        printf("Bail out! %s\n", err.msg);
    window_learn(w, &history);
    timeline_history_reset(&history);
}

static void
test_size(void)
{
    static const struct
    {
        const char *label;
        uint32_t segment_bytes;
        uint64_t prefetch_bytes;
        uint32_t want;
    } cases[] = {
        {"256 MiB of 16 MB segments", 16 * MB, 256 * (uint64_t) MB, 16},
        {"two at least", 1024 * MB, 256 * (uint64_t) MB, 2},
        {"never too many", MB, UINT64_MAX, WINDOW_SEGMENTS_MAX},
        {"not quite another one", 16 * MB, 63 * (uint64_t) MB, 3},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Window w;

        window_init(&w, cases[i].segment_bytes, cases[i].prefetch_bytes);
        ok(w.segments == cases[i].want, "size: %s", cases[i].label);
        window_reset(&w);
    }
}

static void
test_moving(void)
{
    WindowSlot slot;
    Window w;

    window_init(&w, MB, 3 * MB);
    ok(strcmp(pick_all(&w, 0), "") == 0, "nothing before recovery has asked for a segment");
    window_advance(&w, 1, 10);
    ok(strcmp(pick_all(&w, 0), "1/11 1/12 1/13") == 0, "the next ones");
    ok(strcmp(pick_all(&w, 0), "") == 0, "each once");
    for (size_t i = 0; i < w.slot_count; i++)
        w.slots[i].ready = true;

    drop(&w, 1, 11);
    window_advance(&w, 1, 11);
    ok(!window_take_unwanted(&w, &slot), "what lies ahead is kept");
    ok(strcmp(pick_all(&w, 0), "1/14") == 0, "one taken, one more");

    window_advance(&w, 1, 12);
    ok(window_take_unwanted(&w, &slot) && slot.segno == 12 && !window_take_unwanted(&w, &slot),
       "what recovery went past is given up");
    window_advance(&w, 2, 12);
    ok(window_take_unwanted(&w, &slot) && slot.tli == 1 && slot.segno == 13,
       "what is of another timeline, too");
    ok(window_find(&w, 1, 14) != NULL && !window_take_unwanted(&w, &slot),
       "but not what is in somebody's hands");
    ok(strcmp(pick_all(&w, 0), "2/13 2/14 2/15") == 0, "the other timeline's are wanted");
    window_advance(&w, 2, 3);
    ok(strcmp(pick_all(&w, 0), "2/4 2/5 2/6") == 0, "back");
    window_reset(&w);
}

static void
test_end(void)
{
    WindowSlot eleven = {.tli = 1, .segno = 11};
    WindowSlot twelve = {.tli = 1, .segno = 12};
    Window w;

    window_init(&w, MB, 3 * MB);
    window_advance(&w, 1, 10);
    window_missed(&w, 11);
    ok(strcmp(pick_all(&w, 0), "") == 0, "nothing is looked for behind what recovery missed");
    window_advance(&w, 1, 11);
    ok(strcmp(pick_all(&w, 0), "1/12 1/13 1/14") == 0, "until it got it");
    window_missed(&w, 5);
    ok(w.open, "a miss in front of the position means nothing");
    window_reset(&w);

    window_init(&w, MB, 3 * MB);
    window_advance(&w, 1, 10);
    window_asked(&w, 50);
    (void) pick_all(&w, 100);
    drop(&w, 1, 12);
    window_block(&w, &twelve, ERROR_NOT_FOUND, 100);
    ok(strcmp(pick_all(&w, 200), "") == 0, "an absent one is not looked for at once");
    drop(&w, 1, 11);
    window_block(&w, &eleven, ERROR_NOT_FOUND, 110);
    ok(w.blocked.segno == 11, "the first of the absent ones counts");
    drop(&w, 1, 13);
    window_block(&w, &(WindowSlot){.tli = 1, .segno = 13}, ERROR_NOT_FOUND, 120);
    ok(w.blocked.segno == 11, "not a later one");
    ok(strcmp(pick_all(&w, 5000), "") == 0, "nor later, as long as recovery does not ask");
    window_asked(&w, 600);
    ok(strcmp(pick_all(&w, 1000), "") == 0, "nor soon when it does");
    ok(strcmp(pick_all(&w, 1200), "1/11 1/12 1/13") == 0, "but then");
    window_reset(&w);

    window_init(&w, MB, 2 * MB);
    window_advance(&w, 1, 10);
    for (int i = 0; i < 8; i++)
        window_block(&w, &eleven, ERROR_TRANSIENT, 0);
    ok(w.blocked.until_ms == WINDOW_AGAIN_MAX_MS, "failures are waited out longer and longer");
    window_unblock(&w, &eleven);
    window_block(&w, &eleven, ERROR_TRANSIENT, 0);
    ok(w.blocked.until_ms == WINDOW_AGAIN_MS, "success ends that");
    window_advance(&w, 1, 11);
    ok(!w.blocked.set, "and so does getting there in another way");
    window_reset(&w);
}

static void
test_timelines(void)
{
    Window w;

    window_init(&w, MB, 4 * MB);
    learn(&w, 3, "1\t0/C01000\tx\n2\t0/D01000\tx\n");
    window_advance(&w, 1, 10);
    ok(strcmp(pick_all(&w, 0), "1/11 2/12 3/13 3/14") == 0,
       "names by the history: the newest timeline that begins in or before the segment");
    learn(&w, 2, "1\t0/B01000\tx\n");
    ok(w.history.count == 3, "an older timeline's history does not replace a newer one's");
    learn(&w, 4, "1\t0/B01000\tx\n");
    ok(window_wants(&w, 4, 11) && !window_wants(&w, 1, 11) && !window_wants(&w, 3, 13),
       "a newer one does");
    window_advance(&w, 2, 12);
    ok(window_wants(&w, 2, 13) && !window_wants(&w, 4, 13),
       "recovery on a timeline that is no ancestor goes its own way");
    window_reset(&w);
}

int
main(void)
{
    test_size();
    test_moving();
    test_end();
    test_timelines();
    return done_testing();
}
