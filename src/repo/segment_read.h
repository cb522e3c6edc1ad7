/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Reading one WAL segment back: the complete object, its parts, or what pieces there are, put
 * together and padded (FORMAT.md, "Reading WAL").
 */
#ifndef WALSTREAM_SEGMENT_READ_H
#define WALSTREAM_SEGMENT_READ_H

#include "pg/page.h"
#include "repo/repository.h"

#define SEGMENT_PAD_MARK "walstream: padded WAL segment"
#define SEGMENT_PAD_MARK_BYTES 32 /* with zeros behind the text */

typedef struct SegmentRead
{
    bool complete;     /* every byte of the segment was in the repository */
    uint32_t data_end; /* bytes before this are from the repository, padding behind */
    uint64_t requests; /* made of the store */
} SegmentRead;

/*
 * Writes the whole segment (always segment_bytes) to fd from offset 0. The descriptor is an empty
 * file of the caller's, which must not use it unless this returns 0: then every object that went in
 * was verified (size, SHA-256) and so were the WAL page headers (segment, system identifier).
 *
 * need_complete   NOT_FOUND instead of padding (a prefetcher must not store padded segments)
 * Errors          NOT_FOUND: certain, the repository has neither object nor piece of it;
 *                 CORRUPT names the object; DENIED, TRANSIENT, TIMEOUT: could not tell
 */
MUST_CHECK int segment_read(
    Repository *repo, TimelineId tli, SegmentNo segno, bool need_complete, int fd,
    const Deadline *dl, SegmentRead *out, Error *err);

/*
 * A segment that is asked for again and again while it grows, as a standby does: remembers how far
 * its file is filled, so that each asking fetches only the pieces that are new.
 */
typedef struct SegmentGrowth
{
    Repository *repo; /* borrowed */
    TimelineId tli;
    SegmentNo segno;
    int fd;                  /* borrowed; nobody else writes to it */
    uint32_t reached;        /* [0, reached) of the file is verified */
    uint32_t checked;        /* ... and its page headers up to here */
    WalCheck check;          /* state of that check */
    uint32_t cut;            /* a newer timeline forks here; segment size if none does */
    TimelineId history_seen; /* newest timeline whose history was looked at */
    uint32_t last_start;     /* start of the piece that reached furthest */
    int64_t full_list_ms;    /* when all pieces were listed last */
} SegmentGrowth;

/* fd: an empty file, open for reading and writing. */
void
segment_growth_init(SegmentGrowth *g, Repository *repo, TimelineId tli, SegmentNo segno, int fd);

/*
 * Brings the file up to date; otherwise as segment_read. Between two calls the caller may read the
 * file, never change it. After a failure the next call goes on from what is still certain.
 */
MUST_CHECK int segment_growth_read(
    SegmentGrowth *g, bool need_complete, const Deadline *dl, SegmentRead *out, Error *err);

/* Whether the last SEGMENT_PAD_MARK_BYTES of a segment carry the mark. */
bool segment_is_padded(const void *last_bytes);

#endif
