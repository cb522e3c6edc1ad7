/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * One restore from its beginning to its end. Until "begin" nothing is written, and everything that
 * can be known beforehand has been looked at; from then on the directory has its marker.
 *
 *   repository, backups, WAL --> target --> directory --> manifests --> compare --> parts are there
 *   --> plan is told --> begin --> clear --> folders --> parts --> fsync --> settings
 *   --> pg_control, end
 */
#ifndef WALRESTORE_RUN_H
#define WALRESTORE_RUN_H

#include "walrestore/delta.h"
#include "walrestore/target.h"

typedef struct RestoreRun
{
    RestoreOptions options;
    Config *cfg;
    const atomic_bool *cancel;
    Repository *repo;
    BackupList backups;
    WalInventory inv;
    TargetFound found;
    const BackupHeader *header; /* of the backup that is taken */
    Place place;
    Plan plan;
    DeltaCounts delta;
    char restore_command[8192];
    uint64_t try_bytes; /* --dry-run: of one part ... */
    int64_t try_ms;     /* ... and the time it took */
    int64_t begin_ms;
    int64_t fetch_ms;
    int64_t sync_ms;
    int64_t total_ms;
} RestoreRun;

MUST_CHECK int restore_run(RestoreRun *run, Error *err);
void restore_run_reset(RestoreRun *run);

/*
 * present.c: whether all that is fetched is there, and a key for it. Before a byte is written.
 *
 * Errors  DENIED: no key; NOT_FOUND, CORRUPT: a part is missing, or is of another size, and the
 *         hint says which other backup does instead. The plan may have been reset then
 */
MUST_CHECK int present_check(RestoreRun *run, Error *err);

/* report.c: the plan as text on stdout, before anything is written; the result, as options say. */
MUST_CHECK int report_plan(const RestoreRun *run, Error *err);
MUST_CHECK int report_result(const RestoreRun *run, Error *err);

#endif
