/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What a backup takes of a data directory: its folders, and its files with their sizes, tablespaces
 * included. Names only; nothing is opened.
 *
 * Memory: 16 bytes and the name for a file, in Bulks, of which at most 12 MiB are resident; while a
 * folder is read, the name and 4 bytes for each file in it.
 */
#ifndef WALBACKUP_WALK_H
#define WALBACKUP_WALK_H

#include <sys/types.h>

#include "common/bulk.h"
#include "pg/backup_label.h"
#include "pg/data_file.h"

#define WALK_OWNER_HINT                                                                            \
    "walbackup must run as the user that owns the data directory, or as one who may read all of "  \
    "it."

/* Texts are offsets into Walk.text. */
typedef struct WalkFolder
{
    uint32_t path; /* relative to the data directory; "" is itself */
    uint32_t mode;
    uid_t uid;
    gid_t gid;
    int64_t modified_s;
    bool keep_empty; /* what is in it is not in the backup */
} WalkFolder;

typedef struct WalkFile
{
    uint64_t bytes;  /* when it was seen */
    uint32_t folder; /* index */
    uint32_t name;
} WalkFile;

typedef struct Walk
{
    Bulk text;
    WalkFolder *folders; /* owned; a folder stands in front of what is in it */
    size_t folder_count, folder_cap;
    Bulk files; /* WalkFile; by folder, then by name: walk_file has them */
    size_t file_count;
    uint64_t bytes; /* of all files */
    TablespaceMap tablespaces;
} Walk;

typedef struct WalkOptions
{
    const char *data; /* the data directory */
    int pg_major;
    uint32_t catalog_version; /* names the folder in a tablespace */
    const char *scratch;      /* for the Bulks; borrowed as long as the Walk is there */
} WalkOptions;

/*
 * What vanishes while it is looked at is not there. Special files, and symbolic links other than
 * pg_wal and those of tablespaces, are left out with a warning, as PostgreSQL does.
 * Errors: DENIED, IO, naming the file.
 */
MUST_CHECK int walk_data_directory(const WalkOptions *options, Walk *out, Error *err);
void walk_reset(Walk *walk); /* fit for AUTO */

const char *walk_folder_path(const Walk *walk, const WalkFolder *folder);
/* File i of them all. From any thread, as the next. */
const WalkFile *walk_file(Walk *walk, size_t i);
/* Into buf of DATA_PATH_MAX bytes. Returns buf. */
char *walk_file_path(Walk *walk, const WalkFile *file, char *buf);

#endif
