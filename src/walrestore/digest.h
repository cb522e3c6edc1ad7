/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The checksums of a file that is there: what the manifest has of it, computed by reading.
 */
#ifndef WALRESTORE_DIGEST_H
#define WALRESTORE_DIGEST_H

#include "repo/backup_format.h"

typedef struct FileDigest
{
    uint64_t bytes;
    uint8_t checksum[CHECKSUM_MAX_BYTES]; /* as backup_manifest has it */
    uint8_t xxh128[16];                   /* canonical, of manifests without other checksums too */
} FileDigest;

/* fd at its beginning; what names it in messages. */
MUST_CHECK int file_digest_read(
    int fd, ChecksumAlgorithm algorithm, const char *what, const atomic_bool *stop, FileDigest *out,
    Error *err);

/* Whether it is the content that the entry of a WHOLE file describes. */
bool
file_digest_matches(const FileDigest *digest, ChecksumAlgorithm algorithm, const BackupFile *entry);

/* Of bytes in memory. */
MUST_CHECK int file_digest_bytes(
    const void *data, size_t len, ChecksumAlgorithm algorithm, FileDigest *out, Error *err);

#endif
