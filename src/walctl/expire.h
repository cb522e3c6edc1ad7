/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What the verbs that remove share.
 */
#ifndef WALCTL_EXPIRE_H
#define WALCTL_EXPIRE_H

#include "repo/expire.h"
#include "walctl/walctl.h"

/* Opens the repository and plans; both are the caller's, also after a failure. */
MUST_CHECK int walctl_expire_open(Walctl *ctl, Repository **repo, Expire *x, Error *err);

/* Logs what was refused or failed; the latter sets *exit_code. */
void walctl_expire_finish(const Expire *x, int *exit_code);

/* "full", "incremental", "unfinished", "damaged"; borrowed. */
const char *walctl_backup_kind(const Backup *backup);

/* When it began; 0 not known. */
int64_t walctl_backup_time(const Backup *backup);

/* Objects and bytes by class. */
json_t *walctl_json_removed(const Expire *x);

#endif
