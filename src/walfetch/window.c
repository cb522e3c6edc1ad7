/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Which segments to prefetch; see window.h.
 */
#include "walfetch/window.h"

void
window_init(Window *w, uint32_t segment_bytes, uint64_t prefetch_bytes)
{
    uint64_t segments = prefetch_bytes / segment_bytes;

    *w = (Window){.segment_bytes = segment_bytes};
    segments = MAX(segments, (uint64_t) WINDOW_SEGMENTS_MIN);
    w->segments = (uint32_t) MIN(segments, (uint64_t) WINDOW_SEGMENTS_MAX);
}

void
window_reset(Window *w)
{
    timeline_history_reset(&w->history);
    w->slot_count = 0;
}

WindowSlot *
window_find(Window *w, TimelineId tli, SegmentNo segno)
{
    for (size_t i = 0; i < w->slot_count; i++)
        if (w->slots[i].tli == tli && w->slots[i].segno == segno)
            return &w->slots[i];
    return NULL;
}

bool
window_add(Window *w, const WindowSlot *slot)
{
    if (w->slot_count == WINDOW_SLOTS)
        return false;
    w->slots[w->slot_count++] = *slot;
    return true;
}

void
window_drop(Window *w, WindowSlot *slot)
{
    *slot = w->slots[--w->slot_count];
}

/*
 * The timeline under whose name recovery will ask for a segment: PostgreSQL takes the newest of its
 * history that begins at or before it.
 */
static TimelineId
window_timeline(const Window *w, SegmentNo segno)
{
    if (timeline_find(&w->history, w->tli) == NULL)
        return w->tli;
    for (size_t i = w->history.count; i > 0; i--)
        if (wal_segment_of(w->history.entries[i - 1].begin, w->segment_bytes) <= segno)
            return w->history.entries[i - 1].tli;
    return w->tli;
}

bool
window_wants(const Window *w, TimelineId tli, SegmentNo segno)
{
    return w->have_position && segno > w->segno && segno - w->segno <= w->segments &&
           tli == window_timeline(w, segno);
}

bool
window_take_unwanted(Window *w, WindowSlot *out)
{
    for (size_t i = 0; i < w->slot_count; i++)
    {
        WindowSlot *slot = &w->slots[i];

        if (!slot->ready || window_wants(w, slot->tli, slot->segno))
            continue;
        *out = *slot;
        window_drop(w, slot);
        return true;
    }
    return false;
}

void
window_asked(Window *w, int64_t now_ms)
{
    w->asked_ms = now_ms;
}

void
window_advance(Window *w, TimelineId tli, SegmentNo segno)
{
    w->have_position = true;
    w->open = true;
    w->tli = tli;
    w->segno = segno;
    if (!window_wants(w, w->blocked.tli, w->blocked.segno))
        w->blocked.set = false;
}

void
window_missed(Window *w, SegmentNo segno)
{
    /* the end of what is complete: no use in looking behind it */
    if (w->have_position && segno > w->segno)
        w->open = false;
}

void
window_learn(Window *w, TimelineHistory *history)
{
    TimelineId known = w->history.count > 0 ? w->history.entries[w->history.count - 1].tli : 0;

    if (history->count == 0 || history->entries[history->count - 1].tli < known)
        return;
    timeline_history_reset(&w->history);
    w->history = *history;
    *history = (TimelineHistory){0};
}

static bool
window_is_blocked(const Window *w, const WindowSlot *slot, int64_t now_ms)
{
    return w->blocked.set && w->blocked.tli == slot->tli && w->blocked.segno == slot->segno &&
           (now_ms < w->blocked.until_ms || w->asked_ms <= w->blocked.at_ms);
}

bool
window_pick(const Window *w, int64_t now_ms, WindowSlot *out)
{
    if (!w->have_position || !w->open || w->slot_count == WINDOW_SLOTS)
        return false;
    for (uint32_t i = 1; i <= w->segments; i++)
    {
        WindowSlot want = {.segno = w->segno + i};
        bool there = false;

        want.tli = window_timeline(w, want.segno);
        if (window_is_blocked(w, &want, now_ms))
            return false;
        for (size_t k = 0; k < w->slot_count && !there; k++)
            there = w->slots[k].tli == want.tli && w->slots[k].segno == want.segno;
        if (!there)
        {
            *out = want;
            return true;
        }
    }
    return false;
}

void
window_block(Window *w, const WindowSlot *slot, ErrorKind kind, int64_t now_ms)
{
    bool same = w->blocked.set && w->blocked.tli == slot->tli && w->blocked.segno == slot->segno;
    int64_t pause_ms = WINDOW_AGAIN_MS;

    /* what is blocked already lies in front of it, and so blocks this one too */
    if (w->blocked.set && !same && w->blocked.segno < slot->segno)
        return;
    if (kind != ERROR_NOT_FOUND && same)
        pause_ms = MIN(MAX(w->blocked.pause_ms * 2, pause_ms), (int64_t) WINDOW_AGAIN_MAX_MS);
    w->blocked.set = true;
    w->blocked.tli = slot->tli;
    w->blocked.segno = slot->segno;
    w->blocked.at_ms = now_ms;
    w->blocked.until_ms = now_ms + pause_ms;
    w->blocked.pause_ms = pause_ms;
}

void
window_unblock(Window *w, const WindowSlot *slot)
{
    if (w->blocked.tli == slot->tli && w->blocked.segno == slot->segno)
        w->blocked.set = false;
}
