/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Writes PostgreSQL's backup_manifest (backup/backup_manifest.c; version 1 up to 16, 2 from 17 on),
 * so that pg_verifybackup can judge a restored directory and the server takes it by
 * UPLOAD_MANIFEST. Text goes to a function as it is made: a million files need no memory here.
 */
#ifndef WALSTREAM_BACKUP_MANIFEST_H
#define WALSTREAM_BACKUP_MANIFEST_H

#include "pg/wal.h"

typedef enum ChecksumAlgorithm
{
    CHECKSUM_NONE,
    CHECKSUM_CRC32C,
    CHECKSUM_SHA256
} ChecksumAlgorithm;

#define CHECKSUM_MAX_BYTES 32

/* "CRC32C", "SHA256", "NONE" */
const char *checksum_name(ChecksumAlgorithm algorithm);
MUST_CHECK bool checksum_parse_name(const char *name, ChecksumAlgorithm *out); /* any case */
size_t checksum_bytes(ChecksumAlgorithm algorithm);
/* The four bytes as the manifest has them (in memory order of a little-endian machine). */
void checksum_from_crc32c(uint32_t crc, uint8_t out[CHECKSUM_MAX_BYTES]);

typedef struct PgManifestFile
{
    const char *
        path; /* any bytes, shorter than 64 KiB; one that is not UTF-8 is written as Encoded-Path */
    uint64_t bytes;
    int64_t modified_s; /* since 1970 */
    ChecksumAlgorithm algorithm;
    uint8_t checksum[CHECKSUM_MAX_BYTES];
} PgManifestFile;

typedef struct PgManifestWalRange
{
    TimelineId tli;
    Lsn start;
    Lsn end;
} PgManifestWalRange;

typedef struct PgManifestWriter PgManifestWriter;

/* Takes len bytes of text, all or an error. They come in pieces of some ten thousand. */
typedef int (*PgManifestWriteFn)(void *ctx, const void *text, size_t len, Error *err);

/* ctx is borrowed. */
MUST_CHECK int pg_manifest_begin(
    int pg_major, uint64_t system_identifier, PgManifestWriteFn fn, void *ctx,
    PgManifestWriter **out, Error *err);
MUST_CHECK int pg_manifest_add(PgManifestWriter *w, const PgManifestFile *file, Error *err);
/* The ranges and the Manifest-Checksum; nothing may be added after it. */
MUST_CHECK int
pg_manifest_end(PgManifestWriter *w, const PgManifestWalRange *ranges, size_t count, Error *err);
void pg_manifest_free(PgManifestWriter *w);
DEFINE_AUTO(PgManifestWriter, pg_manifest_free);

#endif
