/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The manifest of a backup: JSON, a document a line (FORMAT.md, "Manifest").
 *
 *   header line, alone in the first frame | folders and files and parts | trailer line
 *
 * It is an object with a version 2 label that is not encrypted; the header can be had by reading
 * the first bytes only. Lines of one bundle come together, files in order of their offset, parts
 * behind them.
 */
#ifndef WALSTREAM_MANIFEST_H
#define WALSTREAM_MANIFEST_H

#include "repo/backup_format.h"

/* ---- lines ---- */
/* Append one line with its newline. */
void manifest_format_file(const BackupFile *file, ChecksumAlgorithm checksum, StrBuf *out);
void manifest_format_part(const BackupPart *part, StrBuf *out);

/* ---- writing: text is compressed as it comes and kept until the end, in a Bulk ---- */
typedef struct ManifestWriter ManifestWriter;

/* scratch: the repository's; borrowed. */
MUST_CHECK int
manifest_writer_new(CodecSpec codec, const char *scratch, ManifestWriter **out, Error *err);
void manifest_writer_free(ManifestWriter *w);
DEFINE_AUTO(ManifestWriter, manifest_writer_free);
/* Whole lines; from any thread. */
MUST_CHECK int manifest_writer_add(ManifestWriter *w, const char *lines, size_t len, Error *err);

/* Return 0 to go on, -1 with err set to stop. What they are given is borrowed for the call. */
typedef struct ManifestHandlers
{
    int (*header)(void *ctx, const BackupHeader *header, Error *err); /* may be NULL, as all */
    int (*file)(void *ctx, const BackupFile *file, Error *err);
    int (*part)(void *ctx, const BackupPart *part, Error *err);
} ManifestHandlers;

/* What was added so far, read again (not header): for totals, and for PostgreSQL's manifest. */
MUST_CHECK int manifest_writer_replay(
    ManifestWriter *w, ChecksumAlgorithm checksum, const ManifestHandlers *handlers, void *ctx,
    Error *err);

/* Puts it: the backup exists when this returns 0. CONFLICT if the label has one already. */
MUST_CHECK int manifest_writer_put(
    ManifestWriter *w, Repository *repo, const BackupHeader *header, const Deadline *dl,
    uint64_t *stored_bytes, Error *err);

/* ---- reading ---- */
/* The header alone, by a range read. NOT_FOUND: there is no such backup. CORRUPT. */
MUST_CHECK int manifest_read_header(
    Repository *repo, const char *label, const Deadline *dl, BackupHeader *out, Error *err);

/*
 * All of it, line by line, after the digest of the object was found right.
 * Memory: a line; the stored manifest is in a Bulk.
 */
MUST_CHECK int manifest_read(
    Repository *repo, const char *label, const Deadline *dl, const ManifestHandlers *handlers,
    void *ctx, Error *err);

/* The lines of a finished bundle of an unfinished backup (index object); no header. */
MUST_CHECK int manifest_read_index(
    Repository *repo, const char *label, uint32_t bundle, ChecksumAlgorithm checksum,
    const Deadline *dl, const ManifestHandlers *handlers, void *ctx, Error *err);

/* ---- in memory: what restore, verify and the next incremental work with ---- */
typedef struct Manifest
{
    BackupHeader header;
    BackupFile *files; /* in the manifest's order: manifest_file has them */
    size_t file_count;
    BackupPart *parts; /* owned; by bundle and part */
    size_t part_count;
    struct ManifestStorage *storage; /* files, texts, frame tables, the index by path */
} Manifest;

/*
 * Memory: three Bulks with 220 bytes for a file with its path (measured), 8 for each run of blocks,
 * 4 for a frame; of them at most 12 MiB are resident, whatever the number of files, and of the
 * index by path 8 to 20 MiB. A path that comes twice is CORRUPT.
 */
MUST_CHECK int
manifest_load(Repository *repo, const char *label, const Deadline *dl, Manifest *out, Error *err);
void manifest_reset(Manifest *manifest); /* fit for AUTO */
/* File i of them all. What is returned, here and by manifest_find, stays until manifest_reset. From
 * any thread. */
const BackupFile *manifest_file(const Manifest *manifest, size_t i);
/* NULL if there is none; borrowed. */
const BackupFile *manifest_find(const Manifest *manifest, const char *path);
/* The part that holds this byte of the bundle's tar archive; NULL if none does. */
const BackupPart *manifest_find_part(const Manifest *manifest, uint32_t bundle, uint64_t offset);

#endif
