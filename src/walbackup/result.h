/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What walbackup prints when a backup was made.
 */
#ifndef WALBACKUP_RESULT_H
#define WALBACKUP_RESULT_H

#include "walbackup/backup_run.h"

/* On stdout, as text for a person or as JSON. Errors: IO, NOMEM */
MUST_CHECK int result_print(const BackupRun *run, int64_t elapsed_ms, bool json, Error *err);

#endif
