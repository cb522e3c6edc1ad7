/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * One base backup from its beginning to its manifest. Steps, and what a kill leaves behind:
 *
 *   1 open the repository, connect, check system identifier, version, WAL archiving    nothing
 *   2 choose the parent (incremental), what to resume; put backup/<label>/start        a claimed
 * label 3 start the backup in the server: start LSN, checkpoint                            the
 * server forgets 4 files into bundles, by source_local or source_stream parts, indexes 5 stop the
 * backup in the server: stop LSN, backup_label, tablespace_map            (as above) 6
 * backup_label, tablespace_map, backup_manifest, global/pg_control into the last bundle 7 all parts
 * durable; the repository has the WAL from start to stop LSN             a finished copy 8 put the
 * manifest                                                                 the backup
 *
 * Until 8 nothing is visible as a backup; the next run takes up finished bundles (their indexes
 * tell what is in them, digests prove it), `walctl expire` removes what nobody took up.
 */
#ifndef WALBACKUP_BACKUP_RUN_H
#define WALBACKUP_BACKUP_RUN_H

#include "common/progress.h"
#include "repo/backup_list.h"
#include "repo/bundle_write.h"

typedef struct BackupOptions
{
    bool incremental;
    const char *label;         /* NULL: made from the time */
    const char *parent;        /* NULL: the newest that can be one */
    unsigned jobs;             /* workers, and connections to the store */
    uint64_t rate_limit_bytes; /* read from the server in a second; 0: no bound */
    bool fast_checkpoint;
    bool stream; /* BASE_BACKUP instead of reading files */
    bool resume; /* take up bundles of a failed run; on by default */
    ChecksumAlgorithm checksum;
    int64_t wal_timeout_ms;
    int64_t timeout_ms; /* of each request to the store, tries included */
} BackupOptions;

typedef struct BackupRun
{
    const Config *cfg;
    BackupOptions options;
    const atomic_bool *cancel; /* set by a signal */
    Repository *repo;
    BackupHeader header; /* filled as things become known */
    Manifest parent;     /* of an incremental */
    ManifestWriter *manifest;
    BundleSet *bundles;
    Progress progress;
    int64_t limiter_from_ms; /* the rate limit's account; see backup_run_throttle */
    atomic_uint_fast64_t limiter_bytes;
    atomic_uint_fast64_t damaged_blocks;
    atomic_uint_fast64_t vanished_files;
} BackupRun;

/* What the server hands over at the end; texts owned. */
typedef struct BackupEnd
{
    char *label_text;
    size_t label_len;
    char *map_text; /* NULL or "": no tablespaces */
    size_t map_len;
    uint8_t control[8192]; /* global/pg_control, copied last; CRC checked */
    size_t control_len;
} BackupEnd;

void backup_end_reset(BackupEnd *end); /* fit for AUTO */

/*
 * Steps 3 to 5: fill start and stop of run->header (LSNs, timeline, times, databases, tablespaces)
 * and end; put all files but those of step 6 into run->bundles, all writers closed.
 * Errors: what server, files and store answer. Damaged pages are none: they are logged (WARNING,
 * file and block) and counted.
 */
MUST_CHECK int source_local_run(BackupRun *run, BackupEnd *end, Error *err);
MUST_CHECK int source_stream_run(BackupRun *run, BackupEnd *end, Error *err);

/* Waits so that no more than the rate limit is read; from any worker, after reading bytes. */
void backup_run_throttle(BackupRun *run, uint64_t bytes);

/* The whole of it. What is known of the backup is in run->header afterwards. */
MUST_CHECK int backup_run(BackupRun *run, Error *err);

#endif
