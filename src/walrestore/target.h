/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Finds the way to a recovery target before a byte is written: the backup to take, the timeline,
 * and the proof that PostgreSQL will reach the target with the WAL that the repository has. There
 * is no falling through: what cannot be reached is an error that says what can.
 *
 *   IMMEDIATE, LATEST, LSN  by the names of objects (and the last WAL segments in question)
 *   TIME                    proof of a commit behind the target: WAL segments from its end
 * backwards XID, NAME               WAL is searched, from the newest backup that comes into
 * question to the end of its line, then from the one before it, and so on
 *
 * Memory: little. WAL segments being looked at are unlinked files in $TMPDIR or /tmp, two for each
 * job but no more than 256 MiB in all, or one when it is larger.
 */
#ifndef WALRESTORE_TARGET_H
#define WALRESTORE_TARGET_H

#include "common/progress.h"
#include "repo/recovery.h"

#define TARGET_JOBS_MAX 64
#define TARGET_TEXT_MAX 512

/* All borrowed. */
typedef struct TargetSearch
{
    Repository *repo; /* opened with identities, if it is encrypted */
    const BackupList *backups;
    const WalInventory *inv;   /* finished, histories read */
    unsigned jobs;             /* segments read at a time; 1..TARGET_JOBS_MAX */
    int64_t timeout_ms;        /* for a segment */
    Progress *progress;        /* begun, shown and ended here when WAL is searched; may be NULL */
    const atomic_bool *cancel; /* may be NULL */
} TargetSearch;

/* What recovery will come to. */
typedef struct TargetFound
{
    RecoveryPlan plan; /* owned: backup, timeline, history, WAL that is there from wal_start on */
    /*
     * Where replay stops: LATEST the end of WAL; IMMEDIATE the stop LSN of the backup; LSN the
     * target; TIME, XID, NAME the end of the record that recovery stops at (or the start of it when
     * it stops in front of it).
     */
    Lsn lsn;
    /*
     * IMMEDIATE, when no record follows the stop LSN: recovery has to be told to stop behind the
     * one that begins here. LSN_INVALID: it need not.
     */
    Lsn last_record;
    int64_t at_us; /* of that record; LATEST: of the newest commit in the last segment; 0 unknown */
    uint32_t xid;  /* of TIME and XID: of that record; 0: none */
    uint64_t replay_bytes; /* WAL from plan.wal_start to lsn */
    /* XID: it ends with an abort, so that nothing of it will be seen */
    bool aborted;
    /*
     * NAME: restore points of that name from this backup on; recovery stops at the first.
     */
    uint64_t occurrences;
    char text[TARGET_TEXT_MAX]; /* one line for people: what will be reached */
    char note[TARGET_TEXT_MAX]; /* what they should know beside it, as a sentence; "" nothing */
} TargetFound;

/*
 * out is reset by the caller, whatever this returns.
 *
 * Errors  USAGE     the target cannot be reached: hint says what can be
 *         NOT_FOUND no such transaction or restore point in the WAL of the line
 *         DENIED    WAL that has to be read is encrypted and no identity opens it
 *         others    WAL could not be read: nothing is known about the target
 */
MUST_CHECK int
target_find(const TargetSearch *search, const RecoveryTarget *target, TargetFound *out, Error *err);
void target_found_reset(TargetFound *found); /* fit for AUTO */

#endif
