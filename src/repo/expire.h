/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Removes from a repository what a retention plan does not keep, in an order that makes dying at
 * any moment harmless:
 *
 *   1 manifests of removed backups, those that others build on last: a backup that can be seen
 *     always has all that it needs. One that cannot be removed (object lock) is kept, with what it
 *     needs
 *   2 their other objects, and abandoned unfinished backups, each one's start object last, so that
 *     its label cannot be taken while there is something of it
 *   3 WAL outside the plan: segments, their pieces, partial segments, backup history files
 *   4 pieces that a complete segment (or part) has superseded an hour ago or more
 *   5 pins that have ended, notes of gaps in WAL that is outside the plan
 *   6 file://: temporary files of dead processes, empty folders
 *
 * What is left by a crash after 1 are objects without a manifest: the next run takes them for an
 * abandoned backup. A second run at the same time removes the same objects, which is no error. Only
 * backups that the plan has seen are touched, and of unfinished ones only what is still older than
 * a day when it is looked at again. Timeline history files are never removed.
 *
 * Memory: the backups, the runs of WAL, and a thousand names.
 */
#ifndef WALSTREAM_EXPIRE_H
#define WALSTREAM_EXPIRE_H

#include "repo/retention.h"

#define EXPIRE_SUPERSEDED_MS (INT64_C(3600) * 1000)
#define EXPIRE_SKEW_MAX_S 600

typedef enum ExpireClass
{
    EXPIRE_BACKUPS,
    EXPIRE_ABANDONED, /* of unfinished backups */
    EXPIRE_WAL,       /* segments, parts, partial segments, backup history files */
    EXPIRE_PIECES,    /* of WAL that goes */
    EXPIRE_SUPERSEDED,
    EXPIRE_PINS,
    EXPIRE_GAPS,
    EXPIRE_CLASS_COUNT
} ExpireClass;

/* "backups", "abandoned backups", ...; borrowed. */
const char *expire_class_name(ExpireClass class);

typedef struct ExpireTally
{
    uint64_t objects;
    uint64_t bytes; /* as stored */
} ExpireTally;

typedef struct Expire
{
    Repository *repo; /* borrowed */
    int64_t timeout_ms;
    RetentionRules rules;
    BackupList list;
    WalInventory inv;
    RetentionPlan plan;

    /* what was removed; with dry_run what would be */
    ExpireTally *of_backup; /* owned; of each backup of the list */
    ExpireTally of_class[EXPIRE_CLASS_COUNT];
    uint64_t denied; /* objects that the store refused to remove: object lock, or permissions */
    uint64_t failed; /* objects that were not removed for another reason */
    uint64_t swept;  /* temporary files of file:// */
    Error first_denied;
    Error first_failed;
} Expire;

/*
 * Reads what there is and makes the plan. out is for expire_reset, also after a failure.
 *
 * rules       now_us as our clock has it
 * timeout_ms  for each request
 */
MUST_CHECK int expire_plan(
    Repository *repo, const RetentionRules *rules, int64_t timeout_ms, unsigned jobs, Expire *out,
    Error *err);

/*
 * Whether the store's clock and ours agree within EXPIRE_SKEW_MAX_S: by a clock that is wrong the
 * wrong things are old. Puts an object below state/ and removes it; where that is not allowed the
 * newest object that was seen must not be from the future. IO with a hint when they do not agree.
 */
MUST_CHECK int expire_check_clock(const Expire *x, Error *err);

/*
 * Carries the plan out; with dry_run only counts. Goes on behind objects that are not removed: see
 * denied and failed. -1 when it could not go on: a listing failed, or nearly all removals do.
 */
MUST_CHECK int expire_run(Expire *x, bool dry_run, Error *err);

/*
 * Removes one backup, whatever the rules say, and those that are built on it. The plan must not
 * keep them: its reasons of these are set to 0 here. As expire_run, steps 1 and 2 and their pins.
 */
MUST_CHECK int expire_run_backup(Expire *x, size_t backup, bool dry_run, Error *err);

/* Sets doomed[i] of the backup and of all that are built on it, or use its bundles. */
void expire_mark_children(const BackupList *list, size_t backup, bool *doomed);

void expire_reset(Expire *x); /* fit for AUTO */

#endif
