/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Which blocks of a file an incremental backup must have. Modification times are never asked.
 *
 *   no such file in the parent, of a database that may have been          whole
 *   created again, empty, or no multiple of a page
 *   no relation's (pg_xact, PG_VERSION, ...)                              whole; they are small
 *   free space map, visibility map, init fork                             whole, or nothing when it
 *                                                                         is byte for byte the
 *                                                                         parent's, by digest
 *   main fork, with WAL summaries from the parent's start to ours         what they list, without
 *                                                                         reading the file
 *   main fork, without them                                               pages with an LSN at or
 *                                                                         behind the parent's start
 *                                                                         LSN, new pages, and those
 *                                                                         behind the parent's end
 *   of both, blocks that were damaged in the parent                       are stored again
 *
 * "Nothing" is an incremental file with no block whose truncation length is the file's.
 *
 * Why page LSNs are enough. What is stored must give, together with the parent's copies and the WAL
 * from our start LSN on, the database as it is. A change of a page is in WAL, and sets the page's
 * LSN to the end of its record. If that is at or before the parent's start LSN, the change was on
 * disk when the parent copied the page. If it is behind our start LSN, it comes from WAL, and the
 * first one after the checkpoint brings the whole page. So a page has to be stored if its LSN is
 * behind the parent's start LSN, and what was changed before our start LSN is on disk, as a
 * checkpoint (a standby's restart point) lies there. All pages of a relation that got the number of
 * a dropped one have such an LSN too, as they were written under WAL, or none: LSN 0.
 *
 * Where a page changes, or comes to be there, and its LSN does not tell:
 *
 * - Hint bits: lost, they are set again.
 * - Free space maps, and visibility maps, where clearing a bit leaves the LSN: by digest.
 * - A heap page's mark "all visible" moves its LSN only where checksums are on. The map is taken
 *   from now and the heap page from the parent, and without its mark a later change of the page
 *   would leave the bit in the map: rows that are not visible to index-only scans would be, for
 *   ever. So without checksums the visibility map of a relation that the parent has is left out,
 *   which is always right: PostgreSQL makes it again. Summaries list the heap pages, with them the
 *   map is kept, but where the parent has none: it may have been left out there, and the marks that
 *   were made before the parent are missing in the chain.
 * - CREATE DATABASE by file copy (all of 14, STRATEGY file_copy since): the files have the LSNs of
 *   the template. It has a new OID, unless the OID is that of a dropped database and was given by
 *   name, or the counter came round. Then its row in pg_database is another one, by another
 *   transaction: row_xid. It is read after the start of the backup and before its first file is
 *   copied. Equal in parent and child, the database was not created in between, nor during the
 *   parent's copying. Any ALTER DATABASE gives another row too, and one whole copy that would not
 *   have been necessary. (Summaries list the creation of databases.)
 * - pg_checksums, with the server stopped: backup_run refuses when the setting differs. Switched
 * off and on again between two backups it goes unseen; the manual asks for a full backup after it.
 */
#ifndef WALBACKUP_CHANGES_H
#define WALBACKUP_CHANGES_H

#include "repo/manifest.h"

typedef enum ChangeRule
{
    CHANGE_WHOLE,    /* store all of it */
    CHANGE_DIGEST,   /* read it: whole, or nothing if it has the parent's digest */
    CHANGE_PAGES,    /* a main fork that the parent has: what the summaries list, or change_page */
    CHANGE_LEAVE_OUT /* not in the backup */
} ChangeRule;

/*
 * parent     NULL for a full backup
 * now        header of this backup: its databases are filled (with row_xid as above), or not known
 * summaries  the blocks are known from WAL summaries; not from page LSNs
 * path       of the data file
 * bytes      its size now
 * entry      the parent's entry of it (NULL: none), borrowed
 */
ChangeRule change_rule(
    const Manifest *parent, const BackupHeader *now, bool summaries, const char *path,
    uint64_t bytes, const BackupFile **entry);

/*
 * Whether a page of a main fork must be stored: its LSN is at or behind since, it is new (LSN 0),
 * or its block lies behind the end of entry, the parent's, or was damaged there. Blocks are counted
 * in the file.
 */
bool change_page(const void *page, uint32_t block, Lsn since, const BackupFile *entry);

/*
 * Adds to changed the blocks below blocks that were damaged in the parent. Nobody writes a repair
 * to WAL, and a page that was repaired may have any LSN; one that was not is found and said again.
 */
MUST_CHECK int
change_add_damaged(const BackupFile *entry, uint32_t blocks, BlockSet *changed, Error *err);

/* Whether so many blocks of a file are so much of it that it is better stored whole (over 90 %). */
bool change_nearly_all(uint64_t changed_blocks, uint64_t blocks);

#endif
