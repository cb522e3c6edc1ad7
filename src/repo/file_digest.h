/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What a manifest has of a file's content: the checksum that PostgreSQL's backup_manifest has, and
 * XXH128. Made here when a file is stored, looked at again, restored, verified.
 */
#ifndef WALSTREAM_FILE_DIGEST_H
#define WALSTREAM_FILE_DIGEST_H

#include <stdatomic.h>

#include "repo/backup_format.h"

typedef struct FileDigest
{
    uint64_t bytes;
    uint8_t checksum[CHECKSUM_MAX_BYTES]; /* zeros behind checksum_bytes() */
    uint8_t xxh128[16];                   /* canonical */
} FileDigest;

/* Whether it is the content that entry describes: stored_bytes, checksum, XXH128. */
bool
file_digest_matches(const FileDigest *digest, ChecksumAlgorithm algorithm, const BackupFile *entry);

/* ---- as bytes pass by: one after the other, for any number of files ---- */

typedef struct FileDigester FileDigester;

MUST_CHECK int file_digester_new(ChecksumAlgorithm algorithm, FileDigester **out, Error *err);
void file_digester_free(FileDigester *d);
DEFINE_AUTO(FileDigester, file_digester_free);

/* The next file; what was added of one before is forgotten. */
MUST_CHECK int file_digester_begin(FileDigester *d, Error *err);
MUST_CHECK int file_digester_add(FileDigester *d, const void *data, size_t len, Error *err);
/* Once after each begin. */
MUST_CHECK int file_digester_end(FileDigester *d, FileDigest *out, Error *err);

/* ---- at once ---- */

/* By reading: fd at its beginning; what names it in messages. stop may be NULL. */
MUST_CHECK int file_digest_read(
    int fd, ChecksumAlgorithm algorithm, const char *what, const atomic_bool *stop, FileDigest *out,
    Error *err);

/* Of bytes in memory. */
MUST_CHECK int file_digest_bytes(
    const void *data, size_t len, ChecksumAlgorithm algorithm, FileDigest *out, Error *err);

#endif
