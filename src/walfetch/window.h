/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Which WAL segments the prefetcher should have: the ones behind the segment that recovery was
 * given last, as many as the configuration allows, under the names by which recovery will ask for
 * them. Knows no files, no store and no clock; the caller serializes.
 */
#ifndef WALSTREAM_WALFETCH_WINDOW_H
#define WALSTREAM_WALFETCH_WINDOW_H

#include "pg/timeline.h"

#define WINDOW_SEGMENTS_MIN 2
#define WINDOW_SEGMENTS_MAX 1024
#define WINDOW_SLOTS (WINDOW_SEGMENTS_MAX + 16)
#define WINDOW_AGAIN_MS 1000 /* before a segment that could not be had is looked for again ... */
#define WINDOW_AGAIN_MAX_MS 30000 /* ... and at most, when that goes on failing */

/* A segment that is being fetched, or ready. */
typedef struct WindowSlot
{
    SegmentNo segno;
    TimelineId tli;
    bool ready;
} WindowSlot;

typedef struct Window
{
    uint32_t segment_bytes;
    uint32_t segments; /* how many behind the position */
    WindowSlot slots[WINDOW_SLOTS];
    size_t slot_count;

    bool have_position;
    bool open;      /* recovery is finding complete segments: there may be more */
    TimelineId tli; /* position: the segment that recovery was given last */
    SegmentNo segno;
    TimelineHistory history; /* newest that recovery was given: it asks by this. Owned */
    int64_t asked_ms;        /* when recovery asked last */

    struct
    {
        bool set;
        TimelineId tli;
        SegmentNo segno; /* nothing from here on is fetched ... */
        int64_t at_ms;
        int64_t until_ms; /* ... until then, and until recovery has asked again */
        int64_t pause_ms;
    } blocked;
} Window;

/* prefetch_bytes: [restore] prefetch */
void window_init(Window *w, uint32_t segment_bytes, uint64_t prefetch_bytes);
void window_reset(Window *w);

/* The slot of a segment, NULL if there is none; borrowed until the next call. */
WindowSlot *window_find(Window *w, TimelineId tli, SegmentNo segno);
/* false when there is no room. */
bool window_add(Window *w, const WindowSlot *slot);
void window_drop(Window *w, WindowSlot *slot);
/* Whether recovery is expected to ask for it soon. */
bool window_wants(const Window *w, TimelineId tli, SegmentNo segno);
/* Takes out a ready segment that recovery went past, or away from; false when there is none. */
bool window_take_unwanted(Window *w, WindowSlot *out);

/* Recovery asks for something. */
void window_asked(Window *w, int64_t now_ms);
/* Recovery was given this complete segment. */
void window_advance(Window *w, TimelineId tli, SegmentNo segno);
/* Recovery asked for a segment that is absent, or not complete. */
void window_missed(Window *w, SegmentNo segno);
/* Recovery was given this history; its contents are taken if it is not older than what is known. */
void window_learn(Window *w, TimelineHistory *history);

/* The next segment to fetch: the first of the window that has no slot. false if there is nothing to
 * do. */
bool window_pick(const Window *w, int64_t now_ms, WindowSlot *out);
/* The prefetcher could not have it; kind NOT_FOUND: it is not there (yet). */
void window_block(Window *w, const WindowSlot *slot, ErrorKind kind, int64_t now_ms);
/* The prefetcher has it after all. */
void window_unblock(Window *w, const WindowSlot *slot);

#endif
