/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Making one file of pg_wal durable in the repository: what walpush does alone and walstream does
 * for it. Checks before storing; stores once; compares when it is there.
 */
#ifndef WALSTREAM_ARCHIVE_H
#define WALSTREAM_ARCHIVE_H

#include "repo/repository.h"

typedef enum ArchiveResult
{
    ARCHIVE_STORED,
    ARCHIVE_ALREADY_THERE
} ArchiveResult;

/*
 * Store the file that fd is open on under its name. Returns 0 only when it is durable.
 *
 * name     what PostgreSQL calls it (%f): segment, .history, .backup, .partial
 * Errors   USAGE for a name that is no WAL file's; CORRUPT for a file that is not what its name
 * says (size, magic, page address), or a segment that is not complete; CONFLICT for another system
 * identifier, another segment size, or the same name with other bytes (both digests named)
 */
MUST_CHECK int archive_file(
    Repository *repo, int fd, const char *name, const Deadline *dl, ArchiveResult *result,
    Error *err);

#endif
