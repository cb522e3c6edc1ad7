/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Waiting until the repository has the WAL that a backup is made consistent with.
 */
#ifndef WALBACKUP_WAL_WAIT_H
#define WALBACKUP_WAL_WAIT_H

#include "walbackup/backup_run.h"

/*
 * All WAL of run->header's timeline from the beginning of the segment of start_lsn to stop_lsn,
 * told by names. Asks again every second at first, then every 5 seconds, until wal_timeout_ms.
 *
 * A local backup helps when nothing comes for some seconds: it stores what is missing from the
 * server's pg_wal, up to stop_lsn, where all is flushed. So an idle standby, whose last segment
 * nobody archives, is not waited for.
 *
 * Errors: TIMEOUT with what is missing and a hint; CANCELED; what the store answers
 */
MUST_CHECK int wal_wait(BackupRun *run, Error *err);

#endif
