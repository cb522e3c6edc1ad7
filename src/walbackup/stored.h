/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Whether what a manifest is going to name is still in the repository.
 */
#ifndef WALBACKUP_STORED_H
#define WALBACKUP_STORED_H

#include "repo/manifest.h"

/*
 * To be asked just before the manifest is put. A backup that was suspended for a day (a laptop, a
 * virtual machine, SIGSTOP) counts as abandoned, and expire may have removed its objects, or those
 * of the unfinished backup that it has taken up.
 *
 * header    label, uses
 * manifest  has all lines
 * Errors    CONFLICT when the start object is gone, or a part that has a line is gone or of another
 *           size; what the store answers
 */
MUST_CHECK int stored_check(
    Repository *repo, const BackupHeader *header, ManifestWriter *manifest,
    ChecksumAlgorithm checksum, int64_t timeout_ms, Error *err);

#endif
