/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What the files of a data directory are, told by their paths (backup/basebackup.c,
 * common/relpath.h). Paths are relative to the data directory, with '/', as PostgreSQL's
 * backup_manifest has them: "base/5/16384_fsm.1", "pg_tblspc/16388/PG_15_202209061/5/16390".
 */
#ifndef WALSTREAM_DATA_FILE_H
#define WALSTREAM_DATA_FILE_H

#include "common/error.h"

#define DATA_PATH_MAX 1024
#define DATA_TABLESPACE_DEFAULT 1663
#define DATA_TABLESPACE_GLOBAL 1664

/*
 * Whether it can be the path of a file in a data directory: relative, shorter than DATA_PATH_MAX,
 * and without anything that leads out (empty, "." or ".." components). For all names from outside.
 */
bool data_path_valid(const char *path);

typedef enum DataFork
{
    DATA_FORK_MAIN, /* the numbers are PostgreSQL's ForkNumber */
    DATA_FORK_FSM,
    DATA_FORK_VM,
    DATA_FORK_INIT
} DataFork;

typedef struct RelationFile
{
    uint32_t tablespace; /* 1663 for base, 1664 for global */
    uint32_t database;   /* 0 for global */
    uint32_t relnode;
    DataFork fork;
    uint32_t segment;
} RelationFile;

/* A file of a permanent relation, fork by fork; false for anything else (temporary ones too). */
MUST_CHECK bool data_file_parse_relation(const char *path, RelationFile *out);

/* "t<N>_<N>" with fork and segment, in a database's folder. */
bool data_file_is_temporary(const char *path);

typedef enum DataFileUse
{
    DATA_FILE_COPY,
    DATA_FILE_SKIP,      /* not in a backup */
    DATA_FILE_KEEP_EMPTY /* a folder that must exist, without what is in it */
} DataFileUse;

/*
 * What a backup does with it, by PostgreSQL's own list for this major version. Files of unlogged
 * relations are told apart by the walker, which sees whether there is an _init fork beside them.
 * backup_label, tablespace_map, backup_manifest and global/pg_control are SKIP: they are made, or
 * copied last. Of a tablespace only the folder PG_<pg_major>_... is copied. A path below a folder
 * that is not copied is SKIP, but for pg_wal/archive_status and (17 on) pg_wal/summaries, which are
 * KEEP_EMPTY as pg_wal is. is_folder is true too of a symbolic link to a folder.
 */
DataFileUse data_file_use(const char *path, bool is_folder, int pg_major);

#endif
