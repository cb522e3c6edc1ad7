/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Which blocks of a file an incremental backup must have. Modification times are never asked.
 *
 *   no such file in the parent, re-created, empty, or no multiple of a page   whole
 *   not a relation's main fork                                                whole, or nothing
 * when it is (free space map, visibility map, pg_xact ...: their LSNs              byte for byte
 * the do not tell)                                                          parent's, by digest a
 * main fork                                                               pages with an LSN at or
 * behind the parent's start LSN, new pages, and those behind the parent's end with WAL summaries
 * from the parent's start to ours                        what they list (also of the visibility
 *                                                                             map), without reading
 * the file
 *
 * "Nothing" is an incremental file with no block whose truncation length is the file's.
 */
#ifndef WALBACKUP_CHANGES_H
#define WALBACKUP_CHANGES_H

#include "repo/manifest.h"

typedef enum ChangeRule
{
    CHANGE_WHOLE,  /* store all of it */
    CHANGE_DIGEST, /* read it: whole, or nothing if it has the parent's digest */
    CHANGE_LSN,    /* look at each page */
} ChangeRule;

/*
 * parent   NULL for a full backup
 * path     of the data file
 * bytes    its size now
 * entry    the parent's entry of it (NULL: none), borrowed
 */
ChangeRule
change_rule(const Manifest *parent, const char *path, uint64_t bytes, const BackupFile **entry);

/*
 * Whether a page of a main fork must be stored: its LSN is at or behind since, it is new (LSN 0),
 * or its block lies at or behind parent_blocks.
 */
bool change_page(const void *page, uint32_t block, Lsn since, uint32_t parent_blocks);

#endif
