/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Which block of an incremental file comes from which backup of its chain (FORMAT.md, "Restoring a
 * chain"). Pure. The rules are those of pg_combinebackup's reconstruct.c, and one more: what an
 * older incremental does not list at or above its own truncation length is zeros, as it says, and
 * not looked for in the backups before it, where it may be what was there before a truncation.
 */
#ifndef WALRESTORE_CHAIN_H
#define WALRESTORE_CHAIN_H

#include "repo/backup_format.h"

/*
 * wanted (initialized) becomes the blocks that have to come from the backups before newest.
 * CORRUPT: lengths, blocks and truncation length do not fit together.
 */
MUST_CHECK int chain_begin(const BackupFile *newest, BlockSet *wanted, Error *err);

/*
 * The same file in the next older backup: take (initialized) becomes what comes from there, wanted
 * what has to come from still older ones; it is empty when the search has ended.
 */
MUST_CHECK int chain_take(const BackupFile *older, BlockSet *wanted, BlockSet *take, Error *err);

#endif
