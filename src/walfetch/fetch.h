/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Getting one WAL file out of the repository into an open file, with the patience and the doubts
 * that walfetch needs. Used by walfetch-direct and by its prefetcher.
 */
#ifndef WALSTREAM_WALFETCH_FETCH_H
#define WALSTREAM_WALFETCH_FETCH_H

#include "pg/timeline.h"
#include "repo/segment_read.h"

/*
 * Opens the repository of the cluster in data_dir (by its system identifier; the only one under the
 * cluster's name if there is no pg_control).
 *
 * Errors   never NOT_FOUND: a repository that cannot be opened says nothing of its files.
 *          CONFLICT if its segment size is not the server's
 */
MUST_CHECK int fetch_open_repository(
    const Config *cfg, const char *data_dir, const Deadline *dl, Repository **out, Error *err);

/*
 * The file "name" (parsed: what it says) into fd, an empty file opened for reading and writing.
 * A segment that is not complete is put together from pieces and padded.
 *
 * growth   NULL, or of this very segment and on this fd, kept from an earlier call
 * read     what came of a segment; may be NULL
 * Errors   NOT_FOUND: certain, the repository was there and did not have it. All else: could not
 * tell, and trying again until the deadline (damaged or refused: a few times only) did not help. IO
 * and NOMEM may be trouble of this host, such as a full disk
 */
MUST_CHECK int fetch_file(
    Repository *repo, const char *name, const WalFileName *parsed, SegmentGrowth *growth, int fd,
    const Deadline *dl, SegmentRead *read, Error *err);

/* A timeline history file, verified; reset by the caller. Errors as above, one try. */
MUST_CHECK int fetch_history(
    Repository *repo, TimelineId tli, const Deadline *dl, char **text, size_t *len,
    TimelineHistory *history, Error *err);

#endif
