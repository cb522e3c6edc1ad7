/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * From parts of bundles to files.
 *
 *   worker: next wanted part -> fetch, digest, decrypt -> wanted frames: decompress -> pwrite
 *
 * Every byte is written once, and not at all where pages are zero: files are made with their length
 * and stay sparse there. The CRC-32C of a file is put together from those of its pieces, in
 * whatever order they come, and compared when the last one has come.
 *
 * Memory: for each worker a part as it is stored, and a frame of 1 MiB.
 */
#ifndef WALRESTORE_PARTS_H
#define WALRESTORE_PARTS_H

#include "common/progress.h"
#include "walrestore/place.h"

typedef struct PartsRun
{
    Repository *repo;
    const Place *place;
    Plan *plan;
    unsigned jobs;      /* parts unpacked at a time */
    int64_t timeout_ms; /* for each part */
    const atomic_bool *cancel;
    Progress *progress; /* counts stored bytes; NULL: none */
} PartsRun;

/* Writes all that is PLAN_FETCH and has content. Errors: CORRUPT naming file and part. */
MUST_CHECK int parts_restore(const PartsRun *run, Error *err);

/*
 * The second pass, over all files: makes those without content, verifies checksums that cannot be
 * put together (SHA-256: by reading), and makes everything durable, folders too.
 */
MUST_CHECK int parts_sync(const PartsRun *run, Error *err);

/* Fetches and decompresses the first wanted part, writing nothing; *bytes of it, *ms it took. */
MUST_CHECK int parts_try(const PartsRun *run, uint64_t *bytes, int64_t *ms, Error *err);

/* The checksum of a restored file as backup_manifest has it; out of CHECKSUM_MAX_BYTES. */
void parts_checksum(const Plan *plan, size_t file, uint8_t *out);

#endif
