/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Whether the parts that manifests name are in the repository, told by listing the backups that own
 * them: one LIST per thousand objects of each, nothing is fetched. For a writer just before it puts
 * a manifest, and for a restore before it writes.
 *
 * Memory: 40 bytes a part.
 */
#ifndef WALSTREAM_PART_CHECK_H
#define WALSTREAM_PART_CHECK_H

#include "repo/backup_format.h"

typedef struct PartCheckItem
{
    const char *owner; /* label of the backup whose object it is; borrowed */
    uint32_t bundle;   /* its number there */
    uint32_t part;
    uint64_t bytes; /* of the object, as the manifest has it */
    uint64_t found_bytes;
    bool found;
} PartCheckItem;

typedef struct PartCheck
{
    PartCheckItem *items; /* owned; after part_check_run by owner, bundle and part */
    size_t count;
    size_t cap;
    bool has_start; /* the start object of the backup that part_check_run was given */
} PartCheck;

void part_check_reset(PartCheck *check); /* fit for AUTO */

/* owner must live as long as check: part->owner itself may be gone by then. */
MUST_CHECK int
part_check_add(PartCheck *check, const char *owner, const BackupPart *part, Error *err);

/*
 * Looks for all of them. The same part may have been added twice.
 *
 * start       NULL, or the label of a backup that is listed although it may own no part: see
 *             has_start
 * timeout_ms  for each request
 * jobs        backups listed at a time, 1 .. WORKERS_MAX
 * cancel      may be NULL
 */
MUST_CHECK int part_check_run(
    PartCheck *check, Repository *repo, const char *start, int64_t timeout_ms, unsigned jobs,
    const atomic_bool *cancel, Error *err);

/* Found, and as long as the manifest says. */
bool part_check_good(const PartCheckItem *item);
/* The first that is not good, NULL if all are; *count (may be NULL) of how many. */
const PartCheckItem *part_check_first_bad(const PartCheck *check, size_t *count);

#endif
