/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Files into bundles: tar (libarchive), cut into frames of BACKUP_FRAME_BYTES, each compressed by
 * itself, collected into parts, sealed and put.
 *
 *   worker 1: file -> tar -> frame -> compress -> part --\
 *   worker 2: file -> tar -> frame -> compress -> part ----> queue --> uploader 1..n: seal, put
 *
 * A BundleWriter belongs to one worker and has one bundle open at a time. A set belongs to a
 * backup: it numbers bundles, uploads their parts, and hands finished bundles' lines to the
 * manifest, after their index. Memory: (workers + 2 * uploaders) parts of a little more than
 * BACKUP_PART_BYTES, a frame and codec for each worker, and the lines of bundles under way.
 *
 * A failed upload fails the set: every call answers with that error from then on. Killed at any
 * point: parts and indexes of an unfinished backup, which the next run takes up or expire removes.
 */
#ifndef WALSTREAM_BUNDLE_WRITE_H
#define WALSTREAM_BUNDLE_WRITE_H

#include "repo/manifest.h"

typedef struct BundleSet BundleSet;
typedef struct BundleWriter BundleWriter;

typedef struct BundleOptions
{
    Repository *repo;         /* borrowed */
    const char *label;        /* copied */
    ManifestWriter *manifest; /* borrowed */
    ChecksumAlgorithm checksum;
    uint32_t first_bundle;     /* numbers below it are taken by bundles taken up; 0 if none are */
    unsigned uploaders;        /* connections, 1..64 */
    int64_t put_timeout_ms;    /* for each part, tries included */
    const atomic_bool *cancel; /* borrowed; may be NULL */
} BundleOptions;

typedef struct BundleCounts
{
    uint64_t files;        /* ended; folders are not counted */
    uint64_t plain_bytes;  /* of their contents */
    uint64_t stored_bytes; /* of parts that are durable, as objects */
    uint64_t parts;        /* durable */
    uint64_t bundles;      /* durable, with their index */
} BundleCounts;

MUST_CHECK int bundle_set_new(const BundleOptions *options, BundleSet **out, Error *err);
/* Stops the uploaders; what was not put is discarded. */
void bundle_set_free(BundleSet *set);
DEFINE_AUTO(BundleSet, bundle_set_free);
BundleCounts bundle_set_counts(BundleSet *set); /* any thread, any time */
/* All writers are closed: waits until every part and index is durable. */
MUST_CHECK int bundle_set_finish(BundleSet *set, Error *err);

MUST_CHECK int bundle_writer_new(BundleSet *set, BundleWriter **out, Error *err);
void bundle_writer_free(BundleWriter *w); /* an open bundle is discarded */
DEFINE_AUTO(BundleWriter, bundle_writer_free);

/*
 * file: kind, path, mode, user, group, modified_s, bytes, stored_bytes, truncation_blocks, blocks
 * are the caller's and must stay until bundle_writer_end_file; the rest is filled in here. In the
 * tar the name is path, or INCREMENTAL.<name> for INCREMENTAL. FOLDER: no content, no end_file.
 */
MUST_CHECK int bundle_writer_begin_file(BundleWriter *w, BackupFile *file, Error *err);
/* file->stored_bytes in all. */
MUST_CHECK int bundle_writer_write(BundleWriter *w, const void *data, size_t len, Error *err);
/*
 * Checksums are computed here; file->damaged may have been filled since the beginning. The line of
 * the manifest is made.
 */
MUST_CHECK int bundle_writer_end_file(BundleWriter *w, Error *err);
/* Ends the open bundle (none: nothing); the next file begins another. */
MUST_CHECK int bundle_writer_close(BundleWriter *w, Error *err);

#endif
