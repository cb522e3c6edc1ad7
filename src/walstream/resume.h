/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Where the stream goes on. Decided anew at each connection from what the repository holds and what
 * the server is, never from local memory:
 *
 *   1. history files of the server's timeline and its ancestors are stored, before any WAL of it
 *   2. the slot is looked at; missing or lost ones are made new
 *   3. holes and the end of the repository's WAL along the server's history are the candidates,
 * oldest first; the stream tries them in order and goes to the next when the server has that WAL no
 * more, which is a gap: recorded in the repository, and said loudly
 *
 * WAL that the repository holds on a timeline behind the point where the server left it is a dead
 * branch (or, after a failover, commits that exist only in the repository): reported, kept.
 */
#ifndef WALSTREAM_RESUME_H
#define WALSTREAM_RESUME_H

#include "pg/source.h"
#include "walstream/assembly.h"

typedef struct ResumePoint
{
    TimelineId tli;
    Lsn start;   /* of the part to stream from */
    Lsn durable; /* what is durable up to here */
    /* the hole that is left if the stream begins here instead of at the point before; equal: none
     */
    TimelineId gap_tli;
    Lsn gap_start;
    Lsn gap_end;
} ResumePoint;

typedef struct ResumePlan
{
    ResumePoint *points; /* owned; at least one, in the order to try */
    size_t count;
    SlotState slot;
} ResumePlan;

void resume_plan_reset(ResumePlan *plan); /* fit for AUTO */

#define RESUME_GAPS_MAX 16

/* What has been done or said already in this process, so that it is not at every connection. */
typedef struct ResumeMemory
{
    TimelineId *stored_histories; /* owned */
    size_t stored_count;
    TimelineId branch_tli; /* dead branch already reported, up to */
    Lsn branch_end;
    Lsn slot_lost_at;                  /* flush position of the server when a loss was reported */
    ResumePoint gaps[RESUME_GAPS_MAX]; /* reported; a ring */
    size_t gap_count;
    bool sql_refused;
    bool unbounded_said;
} ResumeMemory;

void resume_memory_reset(ResumeMemory *memory); /* fit for AUTO */

/*
 * Errors   CONFLICT: the server is another cluster, or took a timeline id that the repository knows
 * with another history; what source and repository calls give
 */
MUST_CHECK int resume_make_plan(
    Repository *repo, Source *source, const char *conninfo, const char *slot, ResumeMemory *memory,
    const Deadline *dl, ResumePlan *out, Error *err);

/*
 * The candidates alone, from plain values, oldest first (step 3; no I/O).
 *
 * history   of the server's timeline
 * ranges    what the repository holds, for each entry of history in its order
 * slot_lsn  restart_lsn, LSN_INVALID if there is none
 */
MUST_CHECK int resume_find_points(
    const TimelineHistory *history, const CatalogRanges *ranges, Lsn slot_lsn, Lsn server_flush,
    uint32_t segment_bytes, ResumePlan *out, Error *err);

/* What the repository holds of the part at point, by greedy cover, with digests. *known is the
 * caller's. */
MUST_CHECK int resume_read_known(
    Repository *repo, const ResumePoint *point, const Deadline *dl, KnownPiece **known,
    size_t *count, Error *err);

/* Whether the gap before point is to be reported: there is one, and it has not been yet. */
bool resume_gap_is_news(ResumeMemory *memory, const ResumePoint *point);

/* Leaves the note of FORMAT.md section 6; a note that is there already is fine. */
MUST_CHECK int resume_record_gap(
    Repository *repo, const ResumePoint *point, const char *reason, const Deadline *dl, Error *err);

#endif
