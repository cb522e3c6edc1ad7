/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Which backup an incremental one builds on.
 */
#ifndef WALBACKUP_PARENT_H
#define WALBACKUP_PARENT_H

#include "walbackup/backup_run.h"

/*
 * Whether blocks of parent may be used for a backup from header->start_lsn to header->stop_lsn on
 * header->tli (LSN_INVALID and 0: not known yet) of a server with this history: it ended before the
 * server's history left its timeline, began before this one did and ended before it does. CONFLICT,
 * with a hint, if not.
 */
MUST_CHECK int parent_check(
    const BackupHeader *parent, const BackupHeader *header, const TimelineHistory *history,
    Error *err);

/*
 * Chooses (run->options.parent, or the newest that fits), loads it into run->parent and makes
 * run->header.chain. Errors: NOT_FOUND with a hint when there is none; CONFLICT; what the store
 * answers.
 */
MUST_CHECK int parent_choose(BackupRun *run, const BackupList *list, Error *err);

#endif
