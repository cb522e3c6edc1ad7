/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * One base backup from its beginning to its manifest. Steps, and what a kill leaves behind:
 *
 *   1  open the repository, connect, check system identifier and data       nothing
 *      directory; read the timeline history
 *   2  choose the parent (incremental), what to take up of failed runs;     a claimed label
 *      put backup/<label>/start
 *   3  begin the backup in the server: start LSN, checkpoint                the server forgets it
 *   4  files into bundles, by source_local or source_stream                 parts, indexes
 *   5  end the backup in the server: stop LSN, backup_label,                (as above)
 *      tablespace_map
 *   6  backup_label, tablespace_map, backup_manifest, global/pg_control     (as above)
 *      into the last bundle
 *   7  all parts are durable; the repository has the WAL from start to      a finished copy
 *      stop LSN
 *   8  all of it is still there (expire): put the manifest                  the backup
 *
 * Until 8 nothing is visible as a backup; the next run takes up finished bundles (their indexes
 * tell what is in them, digests prove it), `walctl expire` removes what nobody took up.
 */
#ifndef WALBACKUP_BACKUP_RUN_H
#define WALBACKUP_BACKUP_RUN_H

#include "common/pace.h"
#include "common/progress.h"
#include "pg/timeline.h"
#include "repo/backup_list.h"
#include "repo/bundle_write.h"
#include "walbackup/server.h"

typedef struct Resume Resume; /* resume.h */

typedef struct BackupOptions
{
    bool incremental;
    const char *label;         /* NULL: made from the time */
    const char *parent;        /* NULL: the newest that can be one */
    unsigned jobs;             /* workers, and connections to the store */
    uint64_t rate_limit_bytes; /* read from the server in a second; 0: no bound */
    bool fast_checkpoint;
    bool stream; /* BASE_BACKUP instead of reading files */
    bool resume; /* take up bundles of failed runs; on by default */
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
    BackupHeader header;     /* filled as things become known */
    Manifest parent;         /* of an incremental */
    TimelineHistory history; /* of the server's timeline when we connected */
    Server server;           /* of a local backup: open from step 1 to 5 */
    Resume *resume;          /* what failed runs left; NULL: nothing */
    ManifestWriter *manifest;
    BundleSet *bundles;
    Progress progress;
    Pace pace; /* of options.rate_limit_bytes */
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

/*
 * For source_local, when the backup has begun: it lies on timeline tli, which need not be the one
 * of run->history. Of a standby that followed a promotion it becomes known with a restart point.
 */
MUST_CHECK int backup_run_follow(BackupRun *run, TimelineId tli, Error *err);

/*
 * For the sources, when start LSN and timeline are in run->header and no file was read: whether the
 * parent fits. Errors: CONFLICT, with a hint.
 */
MUST_CHECK int backup_run_check_parent(BackupRun *run, Error *err);

/*
 * Waits so that no more than the rate limit is read; from any worker, after reading bytes. stop,
 * which may be NULL, ends the wait, as run->cancel does.
 */
void backup_run_throttle(BackupRun *run, uint64_t bytes, const atomic_bool *stop);

/* The whole of it. What is known of the backup is in run->header afterwards. */
MUST_CHECK int backup_run(BackupRun *run, Error *err);

#endif
