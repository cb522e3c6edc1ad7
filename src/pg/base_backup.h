/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * BASE_BACKUP of the replication protocol, 14 to 18: the command, its results, the archives as they
 * come. What is in the archives is the caller's business.
 *
 *   base_backup_upload_manifest   (incremental, 17+)
 *   base_backup_begin             start LSN, tablespaces
 *   base_backup_next_archive      each tablespace, the data directory last
 *   base_backup_read ...          tar
 *   base_backup_end               end LSN
 *
 * Up to 14 each archive is a CopyOut of its own; from 15 on there is one CopyOut whose messages
 * tell by their first byte what they are. A failure leaves the connection in the middle of it:
 * close it, and the server forgets the backup; only the errors of upload and begin leave it ready
 * for the next command.
 */
#ifndef WALSTREAM_BASE_BACKUP_H
#define WALSTREAM_BASE_BACKUP_H

#include "common/strbuf.h"
#include "pg/backup_manifest.h"
#include "pg/source.h"

/* The server's bounds of MAX_RATE, bytes in a second. */
#define BASE_BACKUP_RATE_MIN (UINT64_C(32) * 1024)
#define BASE_BACKUP_RATE_MAX (UINT64_C(1048576) * 1024)

/*
 * How long the server may be silent. A spread checkpoint comes before the first answer, and
 * checkpoint_timeout is at most a day. Dead connections are found by the keepalives of TCP.
 */
#define BASE_BACKUP_START_MS (INT64_C(25) * 3600 * 1000)
#define BASE_BACKUP_IDLE_MS (INT64_C(10) * 60 * 1000)

typedef struct BaseBackupOptions
{
    const char *label;
    bool fast_checkpoint;
    bool incremental;          /* after base_backup_upload_manifest; 17 and newer */
    uint64_t rate_limit_bytes; /* 0: none; brought into the bounds above */
    const atomic_bool *cancel; /* borrowed; may be NULL */
} BaseBackupOptions;

typedef struct BaseBackupTablespace
{
    uint32_t oid; /* 0: the data directory */
    char *path;   /* owned; NULL of the data directory */
} BaseBackupTablespace;

typedef struct BaseBackup
{
    Source *source; /* borrowed */
    const atomic_bool *cancel;
    Lsn start_lsn; /* the redo point */
    TimelineId start_tli;
    BaseBackupTablespace *tablespaces; /* owned; the data directory is the last */
    size_t tablespace_count;
    uint64_t total_bytes; /* about as many will come */
    Lsn end_lsn;          /* after base_backup_end */
    TimelineId end_tli;
    /* how far it has come */
    bool typed;        /* 15 and newer: messages with a type */
    bool copying;      /* in a CopyOut */
    bool in_archive;   /* 15 and newer: an archive has begun and the next has not */
    size_t archives;   /* begun */
    uint32_t next_oid; /* of the archive whose message was read ahead */
    bool has_next;
    char *message;    /* PQfreemem; what base_backup_read gave out */
    PGresult *result; /* read ahead, behind a CopyOut */
} BaseBackup;

/* The command for this server (PQserverVersion). */
void base_backup_format_command(int version, const BaseBackupOptions *options, StrBuf *out);

/*
 * UPLOAD_MANIFEST: write is called with a function (and its context) that sends text, and makes the
 * manifest of the earlier backup with it (pg_manifest_*).
 */
MUST_CHECK int base_backup_upload_manifest(
    Source *source, const atomic_bool *cancel,
    int (*write)(void *ctx, PgManifestWriteFn send, void *send_ctx, Error *err), void *ctx,
    Error *err);

/*
 * Sends the command and takes the start of the answer.
 *
 * refused  *refused is true with -1 when the server is not in the state for it (55000): WAL
 *          summaries are off, missing, or do not come on
 */
MUST_CHECK int base_backup_begin(
    Source *source, const BaseBackupOptions *options, BaseBackup *out, bool *refused, Error *err);
void base_backup_reset(BaseBackup *bb); /* fit for AUTO */

/* *more false: there is none left. What was not read of the one before is passed over. */
MUST_CHECK int
base_backup_next_archive(BaseBackup *bb, uint32_t *tablespace, bool *more, Error *err);
/* *len 0: the archive has ended. *data is borrowed until the next call. */
MUST_CHECK int base_backup_read(BaseBackup *bb, const void **data, size_t *len, Error *err);
/* After the last archive: waits until the server has stopped the backup. */
MUST_CHECK int base_backup_end(BaseBackup *bb, Error *err);

/* ---- the texts and bytes alone ---- */

typedef enum BaseBackupMessageKind
{
    BASE_BACKUP_ARCHIVE = 'n',
    BASE_BACKUP_DATA = 'd',
    BASE_BACKUP_PROGRESS = 'p',
    BASE_BACKUP_MANIFEST = 'm'
} BaseBackupMessageKind;

typedef struct BaseBackupMessage
{
    BaseBackupMessageKind kind;
    uint32_t tablespace; /* ARCHIVE: 0 is the data directory */
    const void *data;    /* DATA: borrowed from the message */
    size_t len;          /* DATA */
    uint64_t bytes;      /* PROGRESS: sent so far, of all archives */
} BaseBackupMessage;

/* A CopyData payload of 15 and newer; CORRUPT for anything that is not as the protocol has it. */
MUST_CHECK int
base_backup_parse_message(const void *buf, size_t len, BaseBackupMessage *out, Error *err);

/*
 * The path in the data directory of a name in an archive: without "./" and the '/' of a folder,
 * below pg_tblspc/<oid> for a tablespace's. buf of DATA_PATH_MAX. CORRUPT for what would not stay
 * inside: absolute names, "..", empty components; for names that are too long.
 */
MUST_CHECK int
base_backup_map_path(uint32_t tablespace, const char *name, char *buf, size_t len, Error *err);

#endif
