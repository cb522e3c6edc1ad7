/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Threads that take the files of one archive stream from the thread that receives it:
 *
 *   receiver: libpq -> tar -> buffers --queue 1--> worker 1: pages, digests, tar, compress
 *                                     --queue n--> worker n
 *
 * A file belongs to one worker, the one with the shortest queue when it begins. Memory: 16 buffers
 * of 256 KiB for each worker; a full queue is back-pressure on the server.
 */
#ifndef WALBACKUP_STREAM_WORKERS_H
#define WALBACKUP_STREAM_WORKERS_H

#include "walbackup/stream_file.h"

typedef struct StreamWorkers StreamWorkers;

/* rules and set are borrowed; each worker has a bundle writer of its own. */
MUST_CHECK int stream_workers_start(
    const StreamRules *rules, BundleSet *set, unsigned count, const atomic_bool *cancel,
    StreamWorkers **out, Error *err);
/* Stops and joins the workers; files that are not whole are discarded. */
void stream_workers_free(StreamWorkers *workers);
DEFINE_AUTO(StreamWorkers, stream_workers_free);

/*
 * From one thread: begin, write ..., end (a folder: begin alone). Errors are CANCELED and those of
 * any worker, which fail all that follows. begin takes entry, also when it fails.
 */
MUST_CHECK int stream_workers_begin(StreamWorkers *workers, StreamEntry *entry, Error *err);
MUST_CHECK int
stream_workers_write(StreamWorkers *workers, const void *data, size_t len, Error *err);
void stream_workers_end(StreamWorkers *workers);

/* Waits until all is in bundles, and these are closed. */
MUST_CHECK int stream_workers_finish(StreamWorkers *workers, Error *err);

#endif
