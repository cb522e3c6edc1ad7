/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * One file of BASE_BACKUP on its way from the server's archive into a bundle: its pages are checked
 * as they pass, and of an incremental backup only what has changed is stored.
 *
 *   full backup                     as it comes
 *   incremental, WAL summaries      the server chose: INCREMENTAL.<name> as it comes, its header
 * read; whole files whose digest tells more: as below incremental, page LSNs          pages of main
 * forks by change_page, others by digest: kept back (spill.h) until the end, as the size stands
 * first in a bundle
 *
 * A StreamFile belongs to one thread and works on one file after the other.
 */
#ifndef WALBACKUP_STREAM_FILE_H
#define WALBACKUP_STREAM_FILE_H

#include "walbackup/backup_run.h"

typedef enum StreamMode
{
    STREAM_FULL,
    STREAM_SUMMARIES,
    STREAM_LSN
} StreamMode;

/* What is the same for all files; must stay. */
typedef struct StreamRules
{
    BackupRun *run; /* parent, header (databases, data_checksums), damaged_blocks */
    StreamMode mode;
    Lsn start_lsn;
    bool check_pages;
    const char *spill_dir;
} StreamRules;

/* A file or folder as the archive has it; its texts point into it. */
typedef struct StreamEntry
{
    BackupFile file;        /* path: of the restored file; bytes and blocks are filled in later */
    uint64_t content_bytes; /* in the archive */
    bool incremental;       /* there it is INCREMENTAL.<name> */
    char path[DATA_PATH_MAX];
    char user[64];
    char group[64];
} StreamEntry;

void stream_entry_free(StreamEntry *entry);
DEFINE_AUTO(StreamEntry, stream_entry_free);

typedef struct StreamFile StreamFile;

/* rules and writer are borrowed. */
MUST_CHECK int
stream_file_new(const StreamRules *rules, BundleWriter *writer, StreamFile **out, Error *err);
void stream_file_free(StreamFile *sf);
DEFINE_AUTO(StreamFile, stream_file_free);

/* Takes entry, also when it fails. A folder is done with this. */
MUST_CHECK int stream_file_begin(StreamFile *sf, StreamEntry *entry, Error *err);
/* content_bytes in all, in portions that are multiples of DATA_PAGE_BYTES but for the last. */
MUST_CHECK int stream_file_write(StreamFile *sf, const void *data, size_t len, Error *err);
MUST_CHECK int stream_file_end(StreamFile *sf, Error *err);

#endif
