/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * BASE_BACKUP; see base_backup.h. backup/basebackup.c and basebackup_copy.c are the server's side,
 * the protocol chapter "Streaming Replication Protocol" has the messages.
 */
#include "pg/base_backup.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/bytes.h"
#include "common/parse.h"
#include "pg/data_file.h"

#define BASE_BACKUP_WHAT "BASE_BACKUP"
#define UPLOAD_WHAT "UPLOAD_MANIFEST"
#define UPLOAD_PIECE_BYTES 65536

static void
result_clearp(PGresult **res)
{
    PQclear(*res);
}

/* ---- texts and bytes ---- */

/* A literal of the replication grammar: quotes doubled, nothing else is special. */
static void
command_quote(StrBuf *out, const char *text)
{
    strbuf_putc(out, '\'');
    for (; *text != '\0'; text++)
    {
        if (*text == '\'')
            strbuf_putc(out, '\'');
        strbuf_putc(out, *text);
    }
    strbuf_putc(out, '\'');
}

void
base_backup_format_command(int version, const BaseBackupOptions *options, StrBuf *out)
{
    uint64_t rate = options->rate_limit_bytes;
    uint64_t rate_kb = MIN(MAX(rate, BASE_BACKUP_RATE_MIN), BASE_BACKUP_RATE_MAX) / 1024;

    if (version < 150000)
    {
        strbuf_puts(out, "BASE_BACKUP LABEL ");
        command_quote(out, options->label);
        strbuf_puts(out, " PROGRESS");
        if (options->fast_checkpoint)
            strbuf_puts(out, " FAST");
        strbuf_puts(out, " NOWAIT");
        if (rate > 0)
            strbuf_printf(out, " MAX_RATE %" PRIu64, rate_kb);
        strbuf_puts(out, " TABLESPACE_MAP NOVERIFY_CHECKSUMS MANIFEST 'no'");
        return;
    }
    strbuf_puts(out, "BASE_BACKUP (LABEL ");
    command_quote(out, options->label);
    strbuf_printf(
        out, ", PROGRESS, CHECKPOINT '%s', WAIT 0", options->fast_checkpoint ? "fast" : "spread");
    if (rate > 0)
        strbuf_printf(out, ", MAX_RATE %" PRIu64, rate_kb);
    strbuf_puts(out, ", TABLESPACE_MAP, VERIFY_CHECKSUMS 0, MANIFEST 'no'");
    if (options->incremental)
        strbuf_puts(out, ", INCREMENTAL");
    strbuf_putc(out, ')');
}

/* "base.tar", "16388.tar" */
static bool
archive_parse_name(const char *name, uint32_t *tablespace)
{
    size_t len = strlen(name);
    char oid[16];

    if (strcmp(name, "base.tar") == 0)
    {
        *tablespace = 0;
        return true;
    }
    if (len <= 4 || strcmp(name + len - 4, ".tar") != 0 || len - 4 >= sizeof oid)
        return false;
    memcpy(oid, name, len - 4);
    oid[len - 4] = '\0';
    return parse_u32(oid, tablespace) && *tablespace != 0;
}

/* name and path, each with its NUL, and nothing behind */
static int
message_parse_archive(const char *text, size_t len, BaseBackupMessage *out, Error *err)
{
    size_t name_len = strnlen(text, len);
    size_t path_len = name_len < len ? strnlen(text + name_len + 1, len - name_len - 1) : 0;

    if (name_len == len || name_len + path_len + 2 != len)
        return error_set(err, ERROR_CORRUPT, "the server's message of a new archive is malformed");
    if (!archive_parse_name(text, &out->tablespace))
        return error_set(
            err, ERROR_CORRUPT, "the server sends an archive \"%.64s\", which is not understood",
            text);
    return 0;
}

int
base_backup_parse_message(const void *buf, size_t len, BaseBackupMessage *out, Error *err)
{
    const uint8_t *p = buf;
    BaseBackupMessage msg = {0};

    if (len == 0)
        return error_set(err, ERROR_CORRUPT, "the server's message has no bytes");
    switch (p[0])
    {
        case BASE_BACKUP_ARCHIVE:
            msg.kind = BASE_BACKUP_ARCHIVE;
            if (message_parse_archive((const char *) p + 1, len - 1, &msg, err) < 0)
                return -1;
            break;
        case BASE_BACKUP_DATA:
            msg.kind = BASE_BACKUP_DATA;
            msg.data = p + 1;
            msg.len = len - 1;
            break;
        case BASE_BACKUP_PROGRESS:
            msg.kind = BASE_BACKUP_PROGRESS;
            if (len != 9)
                return error_set(
                    err, ERROR_CORRUPT, "the server's progress message has %zu bytes instead of 9",
                    len);
            msg.bytes = get_u64be(p + 1);
            break;
        case BASE_BACKUP_MANIFEST:
            msg.kind = BASE_BACKUP_MANIFEST;
            if (len != 1)
                return error_set(
                    err, ERROR_CORRUPT, "the server's manifest message has %zu bytes instead of 1",
                    len);
            break;
        default:
            return error_set(
                err, ERROR_CORRUPT, "the server's message of type 0x%02X is not understood", p[0]);
    }
    *out = msg;
    return 0;
}

int
base_backup_map_path(uint32_t tablespace, const char *name, char *buf, size_t len, Error *err)
{
    const char *rest = strncmp(name, "./", 2) == 0 ? name + 2 : name;
    size_t used = 0;
    size_t n = strlen(rest);

    if (n > 1 && rest[n - 1] == '/')
        n--;
    if (tablespace != 0)
        used = (size_t) snprintf(buf, len, "pg_tblspc/%" PRIu32 "/", tablespace);
    if (used >= len || n >= len - used)
        return error_set(
            err, ERROR_CORRUPT, "the server sends a file whose name \"%.64s...\" is too long",
            name);
    memcpy(buf + used, rest, n);
    buf[used + n] = '\0';
    if (!data_path_valid(buf + used))
        return error_set(
            err, ERROR_CORRUPT,
            "the server sends a file \"%.512s\", which is not in its data "
            "directory",
            name);
    return 0;
}

/* ---- results ---- */

static const char *
result_sqlstate(const PGresult *res)
{
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

    return state != NULL ? state : "";
}

/* "recptr, tli" of start and end. */
static int
result_parse_position(const PGresult *res, Lsn *lsn, TimelineId *tli, Error *err)
{
    if (PQntuples(res) != 1 || PQnfields(res) < 2 || !lsn_parse(PQgetvalue(res, 0, 0), lsn) ||
        *lsn == LSN_INVALID || !parse_u32(PQgetvalue(res, 0, 1), tli) || *tli == 0)
        return error_set(
            err, ERROR_CORRUPT, "the server's answer to BASE_BACKUP is not understood");
    return 0;
}

/* A result with rows, which is the caller's; any error of the server's is ours. */
static int
backup_rows(BaseBackup *bb, const Deadline *dl, PGresult **out, Error *err)
{
    AUTO(result_clearp) PGresult *res = bb->result;

    bb->result = NULL;
    if (res == NULL && source_next_result(bb->source, BASE_BACKUP_WHAT, dl, &res, err) < 0)
        return -1;
    if (res == NULL)
        return error_set(err, ERROR_TRANSIENT, BASE_BACKUP_WHAT ": the server sent no result");
    if (PQresultStatus(res) != PGRES_TUPLES_OK)
        return source_error(bb->source, res, BASE_BACKUP_WHAT, err);
    *out = steal(res);
    return 0;
}

static int
backup_read_tablespaces(BaseBackup *bb, const PGresult *res, Error *err)
{
    size_t cap = 0;

    if (PQnfields(res) < 3 || PQntuples(res) < 1)
        return error_set(err, ERROR_CORRUPT, "the server's list of tablespaces is not understood");
    for (int i = 0; i < PQntuples(res); i++)
    {
        BaseBackupTablespace ts = {0};
        bool base = PQgetisnull(res, i, 0) != 0;
        bool last = i + 1 == PQntuples(res);
        uint64_t kb = 0;
        BaseBackupTablespace *items;

        /* base is the last: that is how 14's archives are told apart */
        if (base != last ||
            (!base && (!parse_u32(PQgetvalue(res, i, 0), &ts.oid) || ts.oid == 0)) ||
            (PQgetisnull(res, i, 2) == 0 && !parse_u64(PQgetvalue(res, i, 2), &kb)))
            return error_set(
                err, ERROR_CORRUPT, "the server's list of tablespaces is not understood");
        items = array_grow(bb->tablespaces, bb->tablespace_count, &cap, sizeof *items, err);
        if (items == NULL)
            return -1;
        bb->tablespaces = items;
        if (!base)
        {
            ts.path = strdup(PQgetvalue(res, i, 1));
            if (ts.path == NULL)
                return error_nomem(err);
        }
        bb->tablespaces[bb->tablespace_count++] = ts;
        bb->total_bytes += MIN(kb, UINT64_MAX / 4096 / (uint64_t) PQntuples(res)) * 1024;
    }
    return 0;
}

int
base_backup_begin(
    Source *source, const BaseBackupOptions *options, BaseBackup *out, bool *refused, Error *err)
{
    AUTO(base_backup_reset)
    BaseBackup bb = {
        .source = source,
        .cancel = options->cancel,
        .typed = source->info.version >= 150000,
    };
    AUTO(strbuf_reset) StrBuf command;
    AUTO(result_clearp) PGresult *start = NULL;
    AUTO(result_clearp) PGresult *tablespaces = NULL;
    Deadline dl = deadline_after_ms(BASE_BACKUP_START_MS, options->cancel);

    *refused = false;
    strbuf_init(&command, 4096);
    base_backup_format_command(source->info.version, options, &command);
    if (strbuf_finish(&command, err) < 0)
        return -1;
    if (PQsendQuery(source->conn, strbuf_text(&command)) == 0)
        return source_error(source, NULL, BASE_BACKUP_WHAT, err);
    if (source_next_result(source, BASE_BACKUP_WHAT, &dl, &start, err) < 0)
    {
        if (err->kind == ERROR_CANCELED)
            source_cancel(source);
        return -1;
    }
    if (start != NULL && PQresultStatus(start) == PGRES_FATAL_ERROR)
    {
        *refused = strcmp(result_sqlstate(start), "55000") == 0;
        (void) source_error(source, start, BASE_BACKUP_WHAT, err);
        source_discard(source, &dl);
        return -1;
    }
    bb.result = steal(start);
    if (backup_rows(&bb, &dl, &start, err) < 0 ||
        result_parse_position(start, &bb.start_lsn, &bb.start_tli, err) < 0 ||
        backup_rows(&bb, &dl, &tablespaces, err) < 0 ||
        backup_read_tablespaces(&bb, tablespaces, err) < 0)
        return -1;
    *out = bb;
    bb = (BaseBackup){0};
    return 0;
}

void
base_backup_reset(BaseBackup *bb)
{
    for (size_t i = 0; i < bb->tablespace_count; i++)
        free(bb->tablespaces[i].path);
    free(bb->tablespaces);
    PQfreemem(bb->message);
    PQclear(bb->result);
    *bb = (BaseBackup){0};
}

/* ---- archives ---- */

/*
 * The next CopyData, *len 0 at the end of the CopyOut. What comes behind it is read at once: when
 * the server has failed, that is the error, and not the archive that was cut off.
 */
static int
backup_read_copy(BaseBackup *bb, size_t *len, Error *err)
{
    PGconn *conn = bb->source->conn;
    Deadline dl = deadline_after_ms(BASE_BACKUP_IDLE_MS, bb->cancel);

    *len = 0;
    PQfreemem(bb->message);
    bb->message = NULL;
    for (;;)
    {
        int n = PQgetCopyData(conn, &bb->message, 1);

        if (n > 0)
        {
            *len = (size_t) n;
            return 0;
        }
        if (n == -2)
            return source_error(bb->source, NULL, BASE_BACKUP_WHAT, err);
        if (n == -1)
            break;
        if (deadline_check(&dl, "receiving the backup from the server", err) < 0)
            return -1;
        source_wait(bb->source, -1, MIN(deadline_left_ms(&dl), 100));
        if (PQconsumeInput(conn) == 0)
            return source_error(bb->source, NULL, BASE_BACKUP_WHAT, err);
    }
    bb->copying = false;
    if (source_next_result(bb->source, BASE_BACKUP_WHAT, &dl, &bb->result, err) < 0)
        return -1;
    if (bb->result != NULL && PQresultStatus(bb->result) == PGRES_FATAL_ERROR)
        return source_error(bb->source, bb->result, BASE_BACKUP_WHAT, err);
    return 0;
}

/* Goes into the CopyOut that must come now. */
static int
backup_begin_copy(BaseBackup *bb, Error *err)
{
    AUTO(result_clearp) PGresult *res = bb->result;
    Deadline dl = deadline_after_ms(BASE_BACKUP_IDLE_MS, bb->cancel);

    bb->result = NULL;
    if (res == NULL && source_next_result(bb->source, BASE_BACKUP_WHAT, &dl, &res, err) < 0)
        return -1;
    if (res == NULL || PQresultStatus(res) != PGRES_COPY_OUT)
        return source_error(bb->source, res, BASE_BACKUP_WHAT, err);
    bb->copying = true;
    return 0;
}

/* 15 and newer: to the next message that matters; *len 0 at the next archive, or the end. */
static int
backup_read_typed(BaseBackup *bb, const void **data, size_t *len, Error *err)
{
    *len = 0;
    while (bb->copying && !bb->has_next)
    {
        BaseBackupMessage msg;
        size_t n;

        if (backup_read_copy(bb, &n, err) < 0)
            return -1;
        if (n == 0)
            break;
        if (base_backup_parse_message(bb->message, n, &msg, err) < 0)
            return -1;
        if (msg.kind == BASE_BACKUP_ARCHIVE)
        {
            bb->has_next = true;
            bb->next_oid = msg.tablespace;
            break;
        }
        if (msg.kind == BASE_BACKUP_MANIFEST)
            return error_set(
                err, ERROR_CORRUPT, "the server sends a manifest, which was not asked for");
        if (msg.kind != BASE_BACKUP_DATA)
            continue;
        if (!bb->in_archive)
            return error_set(
                err, ERROR_CORRUPT, "the server sends data that belongs to no archive");
        if (msg.len > 0)
        {
            *data = msg.data;
            *len = msg.len;
            return 0;
        }
    }
    bb->in_archive = false;
    return 0;
}

int
base_backup_read(BaseBackup *bb, const void **data, size_t *len, Error *err)
{
    *len = 0;
    if (bb->typed)
        return backup_read_typed(bb, data, len, err);
    if (!bb->copying)
        return 0;
    if (backup_read_copy(bb, len, err) < 0)
        return -1;
    *data = bb->message;
    return 0;
}

static int
backup_pass_rest(BaseBackup *bb, Error *err)
{
    const void *data;
    size_t len;

    do
    {
        if (base_backup_read(bb, &data, &len, err) < 0)
            return -1;
    } while (len > 0);
    return 0;
}

int
base_backup_next_archive(BaseBackup *bb, uint32_t *tablespace, bool *more, Error *err)
{
    const BaseBackupTablespace *want;

    if (bb->archives == 0 && bb->typed && backup_begin_copy(bb, err) < 0)
        return -1;
    if (backup_pass_rest(bb, err) < 0)
        return -1;
    *more = bb->archives < bb->tablespace_count;
    if (!*more)
    {
        if (bb->has_next)
            return error_set(err, ERROR_CORRUPT, "the server sends an archive twice");
        return 0;
    }
    want = &bb->tablespaces[bb->archives++];
    if (!bb->typed)
    {
        *tablespace = want->oid;
        return backup_begin_copy(bb, err);
    }
    if (!bb->has_next || bb->next_oid != want->oid)
        return error_set(
            err, ERROR_CORRUPT, "the server does not send tablespace %" PRIu32 " in its turn",
            want->oid);
    bb->has_next = false;
    bb->in_archive = true;
    *tablespace = want->oid;
    return 0;
}

int
base_backup_end(BaseBackup *bb, Error *err)
{
    AUTO(result_clearp) PGresult *res = NULL;
    Deadline dl = deadline_after_ms(BASE_BACKUP_IDLE_MS, bb->cancel);

    if (backup_rows(bb, &dl, &res, err) < 0 ||
        result_parse_position(res, &bb->end_lsn, &bb->end_tli, err) < 0)
        return -1;
    /* an error may still come */
    for (;;)
    {
        AUTO(result_clearp) PGresult *rest = NULL;

        if (source_next_result(bb->source, BASE_BACKUP_WHAT, &dl, &rest, err) < 0)
            return -1;
        if (rest == NULL)
            return 0;
        if (PQresultStatus(rest) != PGRES_COMMAND_OK)
            return source_error(bb->source, rest, BASE_BACKUP_WHAT, err);
    }
}

/* ---- the manifest of the earlier backup ---- */

typedef struct ManifestUpload
{
    Source *source;
    const atomic_bool *cancel;
    char *piece; /* UPLOAD_PIECE_BYTES; borrowed */
    size_t used;
} ManifestUpload;

/* Until the server has taken what libpq holds. Input is read too: it may be the server's error. */
static int
upload_flush(ManifestUpload *up, Error *err)
{
    PGconn *conn = up->source->conn;
    Deadline dl = deadline_after_ms(BASE_BACKUP_IDLE_MS, up->cancel);

    for (;;)
    {
        struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN | POLLOUT};
        int left = PQflush(conn);

        if (left < 0)
            return source_error(up->source, NULL, UPLOAD_WHAT, err);
        if (left == 0)
            return 0;
        if (deadline_check(&dl, "sending the manifest to the server", err) < 0)
            return -1;
        (void) poll(&fd, 1, (int) MIN(deadline_left_ms(&dl), 100));
        if ((fd.revents & (POLLIN | POLLERR | POLLHUP)) != 0 && PQconsumeInput(conn) == 0)
            return source_error(up->source, NULL, UPLOAD_WHAT, err);
    }
}

static int
upload_piece(ManifestUpload *up, Error *err)
{
    PGconn *conn = up->source->conn;

    if (up->used == 0)
        return 0;
    /* libpq's buffer is empty before each piece: 0, "would block", is not to be expected */
    if (PQputCopyData(conn, up->piece, (int) up->used) != 1)
        return source_error(up->source, NULL, UPLOAD_WHAT, err);
    up->used = 0;
    return upload_flush(up, err);
}

static int
upload_text(void *ctx, const void *text, size_t len, Error *err)
{
    ManifestUpload *up = ctx;
    const char *p = text;

    while (len > 0)
    {
        size_t n = MIN(len, UPLOAD_PIECE_BYTES - up->used);

        memcpy(up->piece + up->used, p, n);
        up->used += n;
        p += n;
        len -= n;
        if (up->used == UPLOAD_PIECE_BYTES && upload_piece(up, err) < 0)
            return -1;
    }
    return 0;
}

/* The results that come at the end. */
static int
upload_finish(ManifestUpload *up, Error *err)
{
    Deadline dl = deadline_after_ms(BASE_BACKUP_IDLE_MS, up->cancel);

    for (;;)
    {
        AUTO(result_clearp) PGresult *res = NULL;

        if (source_next_result(up->source, UPLOAD_WHAT, &dl, &res, err) < 0)
            return -1;
        if (res == NULL)
            return 0;
        if (PQresultStatus(res) != PGRES_COMMAND_OK)
        {
            (void) source_error(up->source, res, UPLOAD_WHAT, err);
            source_discard(up->source, &dl);
            return -1;
        }
    }
}

static int
upload_run(
    ManifestUpload *up, int (*write)(void *ctx, PgManifestWriteFn send, void *send_ctx, Error *err),
    void *ctx, Error *err)
{
    AUTO(result_clearp) PGresult *res = NULL;
    Deadline dl = deadline_after_ms(BASE_BACKUP_IDLE_MS, up->cancel);

    if (PQsendQuery(up->source->conn, "UPLOAD_MANIFEST") == 0)
        return source_error(up->source, NULL, UPLOAD_WHAT, err);
    if (upload_flush(up, err) < 0 ||
        source_next_result(up->source, UPLOAD_WHAT, &dl, &res, err) < 0)
        return -1;
    if (res == NULL || PQresultStatus(res) != PGRES_COPY_IN)
    {
        (void) source_error(up->source, res, UPLOAD_WHAT, err);
        source_discard(up->source, &dl);
        return -1;
    }
    if (write(ctx, upload_text, up, err) < 0 || upload_piece(up, err) < 0)
        return -1;
    if (PQputCopyEnd(up->source->conn, NULL) != 1)
        return source_error(up->source, NULL, UPLOAD_WHAT, err);
    if (upload_flush(up, err) < 0)
        return -1;
    return upload_finish(up, err);
}

int
base_backup_upload_manifest(
    Source *source, const atomic_bool *cancel,
    int (*write)(void *ctx, PgManifestWriteFn send, void *send_ctx, Error *err), void *ctx,
    Error *err)
{
    char *piece = malloc(UPLOAD_PIECE_BYTES);
    ManifestUpload up = {.source = source, .cancel = cancel, .piece = piece};
    int rc;

    if (piece == NULL)
        return error_nomem(err);
    if (PQsetnonblocking(source->conn, 1) != 0)
        rc = source_error(source, NULL, UPLOAD_WHAT, err);
    else
    {
        rc = upload_run(&up, write, ctx, err);
        /* commands are short: they go out in one write */
        if (PQsetnonblocking(source->conn, 0) != 0 && rc == 0)
            rc = source_error(source, NULL, UPLOAD_WHAT, err);
    }
    free(piece);
    return rc;
}
