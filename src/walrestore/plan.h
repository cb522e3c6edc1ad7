/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Which bytes of which part of which backup become which bytes of which file.
 *
 *   newest manifest    which files there are
 *   layer 0            what comes from the newest backup itself
 *   layer 1, 2, ...    what comes from its parent, the parent's parent ... to the full one
 *
 * A piece is the content of one file in one bundle, and the runs of it that are wanted; every byte
 * of a restored file is in one run of one piece, or zero. A part in which nothing is wanted is not
 * fetched.
 *
 * Memory: the newest manifest; of older ones their frames only (4 bytes each). For each piece there
 * are 48 bytes, for each range of blocks in it 12, for each file 64, and 24 while the manifests are
 * read. They are in Bulks, of which at most 6 MiB each are resident, whatever the number of files.
 */
#ifndef WALRESTORE_PLAN_H
#define WALRESTORE_PLAN_H

#include "common/bulk.h"
#include "repo/manifest.h"

#define PLAN_PG_MANIFEST "backup_manifest"
#define PLAN_CONTROL "global/pg_control"
#define PLAN_RECOVERY_SIGNAL "recovery.signal"
#define PLAN_STANDBY_SIGNAL "standby.signal"

typedef enum PlanState
{
    PLAN_FETCH, /* from the repository */
    PLAN_KEEP,  /* what is there already is right */
    PLAN_ZERO,  /* of a database that is not wanted: zeros of its length */
    PLAN_MADE,  /* made here, or not at all: backup_manifest, signal files */
    PLAN_FOLDER
} PlanState;

/* Beside each entry of the newest manifest. */
typedef struct PlanFile
{
    PlanState state;
    bool present;                /* a file of this length is there: it may be kept */
    bool created;                /* guarded by the engine */
    atomic_uint_fast32_t pieces; /* crc32c_piece of all that was written */
    atomic_uint_fast64_t left;   /* bytes that are still to come */
    bool has_sha256;             /* of files whose checksum had to be computed that way */
    uint8_t sha256[SHA256_BYTES];
} PlanFile;

/* Blocks [block, block + count) of the file are the at-th and following ones that are stored. */
typedef struct PlanRange
{
    uint32_t block;
    uint32_t count;
    uint32_t at;
} PlanRange;

typedef struct PlanPiece
{
    uint32_t file; /* index into newest.files */
    uint32_t bundle;
    uint64_t offset;       /* of the content in the tar archive */
    uint64_t stored_bytes; /* of the content */
    uint64_t header_bytes; /* in front of the first block */
    PlanRange *ranges;     /* NULL: all of the content, as it is */
    uint32_t range_count;
} PlanPiece;

typedef struct PlanPart
{
    BackupPart part;
    bool wanted;
    size_t piece; /* the first that may reach into it */
} PlanPart;

/* The pieces of one bundle: the manifest has them together. */
typedef struct PlanBundle
{
    uint32_t bundle;
    size_t first, end; /* indexes of pieces */
} PlanBundle;

typedef struct PlanLayer
{
    const char *label;
    PlanPiece *pieces; /* bundle behind bundle, in no order; in each by offset */
    size_t piece_count;
    PlanBundle *bundles; /* owned; those that have pieces, by bundle */
    size_t bundle_count;
    size_t bundle_cap;
    PlanPart *parts; /* owned; by bundle and part */
    size_t part_count;
    size_t part_cap;
    uint64_t fetch_bytes; /* of wanted parts */
    size_t fetch_parts;
    const char *key_ids; /* what its parts are encrypted for; "" */
} PlanLayer;

typedef struct Plan
{
    Manifest newest;
    PlanFile *files;   /* newest.file_count of them: plan_file has them */
    PlanLayer *layers; /* owned */
    size_t layer_count;
    /* by plan_select */
    uint64_t fetch_bytes; /* of parts, as they are stored */
    size_t fetch_parts;
    uint64_t write_bytes; /* of files that are written */
    uint64_t keep_bytes;
    uint64_t zero_bytes;
    size_t write_files, keep_files, zero_files;
    struct PlanText *texts;    /* labels that were copied */
    struct PlanMemory *memory; /* of files, pieces, ranges */
} Plan;

/* What plan_load is to leave out. */
typedef struct PlanOptions
{
    const char *const *databases; /* names; none: all databases */
    size_t database_count;
} PlanOptions;

/*
 * Reads the manifests of the backup's chain, newest first, and no more of them than needed.
 *
 * Errors  NOT_FOUND, CORRUPT: a manifest of the chain; USAGE: no such database, or it is not known
 *         which there are
 */
MUST_CHECK int plan_load(
    Repository *repo, const char *label, const PlanOptions *options, int64_t timeout_ms,
    const atomic_bool *cancel, Plan *out, Error *err);
void plan_reset(Plan *plan); /* fit for AUTO */

/* Entry i of the newest manifest, and what the plan is with it. From any thread. */
const BackupFile *plan_entry(const Plan *plan, size_t i);
PlanFile *plan_file(const Plan *plan, size_t i);

/* Which parts are wanted, and the sums; again after states of files were changed to KEEP. */
void plan_select(Plan *plan);

/* The tablespace of "pg_tblspc/<oid>/..." or "pg_tblspc/<oid>"; 0 for other paths. *rest (may be
 * NULL) is what stands behind the OID and its '/', "" if nothing. */
uint32_t plan_path_tablespace(const char *path, const char **rest);

/* A run of a piece's content that is wanted. */
typedef struct PlanRun
{
    uint64_t content; /* offset in the content */
    uint64_t to;      /* offset in the file */
    uint64_t bytes;
} PlanRun;

/* The first run in [from, to) of the content; false if there is none. */
bool plan_piece_run(const PlanPiece *piece, uint64_t from, uint64_t to, PlanRun *out);

/*
 * Whether anything in [start, end) of the bundle's archive is to be fetched. first: a piece of the
 * layer that none which reaches into the range stands in front of.
 */
bool plan_range_wanted(
    const Plan *plan, const PlanLayer *layer, uint32_t bundle, uint64_t start, uint64_t end,
    size_t first);

/* Bytes of the archive in a part: [start, end). */
uint64_t plan_part_start(const BackupPart *part);
uint64_t plan_part_end(const BackupPart *part);

#endif
