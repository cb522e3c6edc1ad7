/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * backup_label and tablespace_map, the files that pg_backup_stop (or BASE_BACKUP) hands over and
 * recovery begins with (backup/xlogbackup.c, access/xlogrecovery.c).
 */
#ifndef WALSTREAM_BACKUP_LABEL_H
#define WALSTREAM_BACKUP_LABEL_H

#include "common/strbuf.h"
#include "pg/wal.h"

#define BACKUP_LABEL_MAX 65536
#define TABLESPACE_MAP_MAX (1024 * 1024)
#define TABLESPACE_MAX_ENTRIES 16384

typedef struct BackupLabel
{
    Lsn start_lsn;      /* START WAL LOCATION: the redo point */
    Lsn checkpoint_lsn; /* CHECKPOINT LOCATION */
    TimelineId start_tli;
    bool from_standby;        /* BACKUP FROM: standby */
    Lsn incremental_from_lsn; /* LSN_INVALID: it is of a full backup */
    TimelineId incremental_from_tli;
} BackupLabel;

/* CORRUPT when the lines that recovery needs are missing or malformed, or file name and LSN
 * contradict each other (segment_bytes 0: that is not checked). */
MUST_CHECK int backup_label_parse(
    const char *text, size_t len, uint32_t segment_bytes, BackupLabel *out, Error *err);

/*
 * text as PostgreSQL accepts it at its start: without the two INCREMENTAL FROM lines, everything
 * else byte for byte.
 */
void backup_label_without_incremental(const char *text, size_t len, StrBuf *out);

/* ---- tablespace_map: lines "<oid> <path>", newline, carriage return and backslash in the path
 * escaped by a backslash ---- */

typedef struct TablespaceEntry
{
    uint32_t oid;
    char *path; /* owned */
} TablespaceEntry;

typedef struct TablespaceMap
{
    TablespaceEntry *items; /* owned; in the order of the file */
    size_t count;
    size_t cap;
} TablespaceMap;

void tablespace_map_reset(TablespaceMap *map); /* fit for AUTO */
/*
 * *out (initialized) becomes what text says, and stays as it is on failure: CORRUPT for a malformed
 * line, an OID that is 0 or there twice, a text that is cut off, larger than TABLESPACE_MAP_MAX
 * or of more than TABLESPACE_MAX_ENTRIES.
 */
MUST_CHECK int tablespace_map_parse(const char *text, size_t len, TablespaceMap *out, Error *err);
/* path is copied. CORRUPT as above. */
MUST_CHECK int tablespace_map_add(TablespaceMap *map, uint32_t oid, const char *path, Error *err);
void tablespace_map_format(const TablespaceMap *map, StrBuf *out);

#endif
