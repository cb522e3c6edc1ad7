/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Segments that walfetch has put together from pieces and padded. With archive_mode = always a
 * standby offers them to archive_command, and after its promotion it offers nothing else until it
 * was told yes. They must not be stored as complete segments; but when every byte of WAL in them is
 * in the repository already, which they came from, they are durable, and that is the answer.
 */
#ifndef WALSTREAM_ARCHIVE_PADDED_H
#define WALSTREAM_ARCHIVE_PADDED_H

#include "repo/repository.h"

/*
 * Whether [0, data_end) of the file, but for zeros at its end, equals stored pieces of this
 * segment, proved by their digests; needs no identity. *stored is false when a byte of it is not
 * known to be in the repository.
 */
MUST_CHECK int archive_padded_is_stored(
    Repository *repo, int fd, const char *name, TimelineId tli, SegmentNo segno, uint64_t data_end,
    const Deadline *dl, bool *stored, Error *err);

#endif
