/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The memory of recent segments; see streamed.h.
 */
#include "walstream/streamed.h"

#include <stdio.h>
#include <string.h>

void
streamed_init(Streamed *s)
{
    memset(s, 0, sizeof *s);
    (void) pthread_mutex_init(&s->lock, NULL);
}

void
streamed_destroy(Streamed *s)
{
    (void) pthread_mutex_destroy(&s->lock);
}

/* Lock held. */
static StreamedSegment *
streamed_lookup(Streamed *s, const char *name)
{
    for (size_t i = 0; i < STREAMED_MAX; i++)
        if (strcmp(s->items[i].name, name) == 0)
            return &s->items[i];
    return NULL;
}

bool
streamed_find(Streamed *s, const char *name, StreamedSegment *out)
{
    StreamedSegment *found;

    (void) pthread_mutex_lock(&s->lock);
    found = streamed_lookup(s, name);
    if (found != NULL)
        *out = *found;
    (void) pthread_mutex_unlock(&s->lock);
    return found != NULL;
}

/* Lock held. The entry of name, the oldest one being given up if there is none. */
static StreamedSegment *
streamed_claim(Streamed *s, const char *name)
{
    StreamedSegment *seg = streamed_lookup(s, name);

    if (seg != NULL)
        return seg;
    seg = &s->items[s->next];
    s->next = (s->next + 1) % STREAMED_MAX;
    memset(seg, 0, sizeof *seg);
    (void) snprintf(seg->name, sizeof seg->name, "%s", name);
    return seg;
}

void
streamed_put(Streamed *s, const StreamedSegment *seg)
{
    (void) pthread_mutex_lock(&s->lock);
    *streamed_claim(s, seg->name) = *seg;
    (void) pthread_mutex_unlock(&s->lock);
}

void
streamed_note_dropped(Streamed *s, const char *name)
{
    StreamedSegment *seg;

    (void) pthread_mutex_lock(&s->lock);
    seg = streamed_lookup(s, name);
    if (seg != NULL)
        seg->dropped = true;
    (void) pthread_mutex_unlock(&s->lock);
}

void
streamed_note_archived(Streamed *s, const char *name, const struct stat *file)
{
    StreamedSegment *seg;

    (void) pthread_mutex_lock(&s->lock);
    seg = streamed_claim(s, name);
    seg->archived = true;
    seg->file = *file;
    (void) pthread_mutex_unlock(&s->lock);
}

bool
streamed_same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}
