/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Reading one WAL segment back: the complete object, its parts, or what pieces there are, put together
 * and padded (FORMAT.md, "Reading WAL").
 */
#ifndef WALSTREAM_SEGMENT_READ_H
#define WALSTREAM_SEGMENT_READ_H

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
 * Writes the whole segment (always segment_bytes) to fd from offset 0. The descriptor is an empty file
 * of the caller's, which must not use it unless this returns 0: then every object that went in
 * was verified (size, SHA-256) and so were the WAL page headers (segment, system identifier).
 *
 * need_complete   NOT_FOUND instead of padding (a prefetcher must not store padded segments)
 * Errors          NOT_FOUND: certain, the repository has neither object nor piece of it;
 *                 CORRUPT names the object; DENIED, TRANSIENT, TIMEOUT: could not tell
 */
MUST_CHECK int segment_read(
    Repository *repo, TimelineId tli, SegmentNo segno, bool need_complete, int fd,
    const Deadline *dl, SegmentRead *out, Error *err);

/* Whether the last SEGMENT_PAD_MARK_BYTES of a segment carry the mark. */
bool segment_is_padded(const void *last_bytes);

#endif
