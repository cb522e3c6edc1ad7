/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Timeline history files (access/timeline.c): which timeline forked from which, and where.
 */
#ifndef WALSTREAM_TIMELINE_H
#define WALSTREAM_TIMELINE_H

#include "pg/wal.h"

#define TIMELINE_HISTORY_MAX_BYTES (1024 * 1024)
#define TIMELINE_MAX_ENTRIES 65536

typedef struct TimelineEntry
{
    TimelineId tli;
    Lsn begin; /* where this timeline starts: the switch point of its parent; 0 for the first */
    Lsn end;   /* its switch point, exclusive; UINT64_MAX for the newest */
} TimelineEntry;

/* Oldest first; the last entry is the timeline that the file is named after. */
typedef struct TimelineHistory
{
    TimelineEntry *entries; /* owned */
    size_t count;
} TimelineHistory;

/*
 * text of "<tli>.history", len bytes, as PostgreSQL reads it: blank lines and '#' comments are
 * skipped, "parentTLI <blanks> hi/lo <rest>"; ids must ascend and stay below tli, switch points
 * must not go back. CORRUPT otherwise, also for a file that ends within a switch point; an empty
 * file is CORRUPT for tli > 1. tli 1 needs no text (NULL, 0).
 */
MUST_CHECK int timeline_parse_history(
    TimelineId tli, const char *text, size_t len, TimelineHistory *out, Error *err);
void timeline_history_reset(TimelineHistory *h); /* fit for AUTO */

/* Entry of tli, NULL if it is no ancestor; borrowed. */
const TimelineEntry *timeline_find(const TimelineHistory *h, TimelineId tli);
/* The timeline that a byte at lsn belongs to. 0 if h is empty. */
TimelineId timeline_of_lsn(const TimelineHistory *h, Lsn lsn);

#endif
