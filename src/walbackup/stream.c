/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A base backup by BASE_BACKUP of the replication protocol: from anywhere, from a standby too.
 *
 *   this thread: libpq (base_backup.h) -> tar (libarchive) -> workers (stream_workers.h) -> bundles
 *
 * backup_label, tablespace_map and pg_control are kept for the end. Of an incremental backup the
 * server itself sends the changed blocks when it has WAL summaries (17 and newer); when it has none
 * it sends everything, and what has changed is told by page LSNs as on 14 to 16.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fs.h"
#include "common/log.h"
#include "pg/base_backup.h"
#include "pg/control.h"
#include "pg/incremental_file.h"
#include "walbackup/backup_run.h"
#include "walbackup/stream_workers.h"

#define STREAM_CONNECT_MS 60000
#define STREAM_ASK_MS 60000
#define STREAM_SQL_MS 10000
#define STREAM_MAP_MAX (16u * 1024u * 1024u)

typedef struct StreamReceive
{
    BackupRun *run;
    BackupEnd *end;
    Source source;
    BaseBackup bb;
    StreamMode mode;
    StreamWorkers *workers;
    uint32_t tablespace; /* of the archive */
    Error *err;          /* where tar's reader puts why it failed */
    bool failed;
} StreamReceive;

/* ---- what the server is ---- */

static int
stream_connect(StreamReceive *r, Error *err)
{
    BackupHeader *header = &r->run->header;
    const SourceInfo *info = &r->source.info;
    Deadline dl = deadline_after_ms(STREAM_CONNECT_MS, r->run->cancel);

    if (source_connect(r->run->cfg->cluster.conninfo, &dl, &r->source, err) < 0)
        return -1;
    (void) PQsetNoticeReceiver(r->source.conn, server_notice, NULL);
    /* conninfo may name several hosts, and this be another one than the first time */
    if (info->system_identifier != r->run->repo->description.system_identifier)
        return error_set(
            err, ERROR_CONFLICT,
            "the server has system identifier %" PRIu64 ", the repository is of %" PRIu64,
            info->system_identifier, r->run->repo->description.system_identifier);
    header->system_identifier = info->system_identifier;
    header->pg_major = info->version / 10000;
    header->segment_bytes = info->segment_bytes;
    header->source_stream = true;
    return source_show_bool(&r->source, "data_checksums", &dl, &header->data_checksums, err);
}

/* ---- databases ---- */

/*
 * Read twice, before the start of the backup and behind it, as the server copies files at once. A
 * database keeps its row_xid only if it is the same both times: then it was not created again
 * between the first look and the start, which no LSN of this backup would tell, nor between the
 * start and the second look, when its files may have been copied already.
 */
static void
databases_merge(BackupHeader *header, const BackupHeader *before)
{
    for (size_t i = 0; i < header->database_count; i++)
    {
        BackupDatabase *db = &header->databases[i];
        bool same = false;

        for (size_t k = 0; k < before->database_count && !same; k++)
            same =
                before->databases[k].oid == db->oid && before->databases[k].row_xid == db->row_xid;
        if (!same)
            db->row_xid = 0;
    }
}

/*
 * Asks by SQL: the databases into header (NULL: not wanted), the server's clock. Where SQL is not
 * to be had (pg_hba.conf), the backup has the clock of this host and does not list databases.
 */
static int64_t
stream_ask_sql(StreamReceive *r, BackupHeader *header)
{
    AUTO(server_close) Server server = {0};
    Deadline dl = deadline_after_ms(STREAM_SQL_MS, r->run->cancel);
    int64_t now_us;
    Error err;

    if (source_connect_sql(r->run->cfg->cluster.conninfo, &r->source, &dl, &server.sql, &err) ==
            0 &&
        server_set_up(&server, &dl, &err) == 0 &&
        (header == NULL || server_read_databases(&server, &dl, header, &err) == 0) &&
        server_now(&server, &dl, &now_us, &err) == 0)
        return now_us;
    log_write(
        header == &r->run->header ? LOG_INFO : LOG_DEBUG,
        "the backup has the clock of this host%s: %s",
        header != NULL ? " and does not list databases" : "", err.msg);
    return clock_wall_us();
}

/* ---- incremental ---- */

/*
 * Before the server does any work: whether the parent fits, as far as it can be told. Its blocks
 * may be used only for data that are not from before it; and the history that was read when the
 * parent was chosen must be this server's.
 */
static int
stream_check_parent(StreamReceive *r, Error *err)
{
    const BackupHeader *parent = &r->run->parent.header;
    const TimelineHistory *history = &r->run->history;

    if (history->count == 0 || history->entries[history->count - 1].tli != r->source.info.tli)
        return error_set(
            err, ERROR_TRANSIENT, "the server went to timeline %" PRIu32 " just now",
            r->source.info.tli);
    if (r->source.info.flush < parent->stop_lsn)
    {
        (void) error_set(
            err, ERROR_CONFLICT, "the server is behind the end of backup \"%s\"", parent->label);
        return error_hint(err, "A standby has to catch up first, or the backup be a full one.");
    }
    return 0;
}

/*
 * What the server is not told that the parent has, it sends whole:
 *
 * - Visibility maps: the WAL of a change that clears a bit there does not name the map's block, so
 *   summaries do not have it.
 * - Files that had damaged blocks: a repair is not in WAL.
 */
static bool
stream_tells_of(const BackupFile *file)
{
    RelationFile relation;

    return file->kind != BACKUP_FILE_FOLDER && file->damaged.count == 0 &&
           !(data_file_parse_relation(file->path, &relation) && relation.fork == DATA_FORK_VM);
}

/* PostgreSQL's manifest of the parent, as the files are in its archive. */
static int
stream_write_manifest(void *ctx, PgManifestWriteFn send, void *send_ctx, Error *err)
{
    const StreamReceive *r = ctx;
    const Manifest *parent = &r->run->parent;
    const BackupHeader *header = &parent->header;
    PgManifestWalRange range = {header->tli, header->start_lsn, header->stop_lsn};
    AUTO(pg_manifest_freep) PgManifestWriter *w = NULL;

    if (pg_manifest_begin(header->pg_major, header->system_identifier, send, send_ctx, &w, err) < 0)
        return -1;
    for (size_t i = 0; i < parent->file_count; i++)
    {
        const BackupFile *file = manifest_file(parent, i);
        char name[BACKUP_ARCHIVE_NAME_MAX];
        PgManifestFile out;

        if (!stream_tells_of(file))
            continue;
        out = backup_file_pg_entry(file, header->checksum, name);
        if (pg_manifest_add(w, &out, err) < 0)
            return -1;
    }
    return pg_manifest_end(w, &range, 1, err);
}

/* *begun false: the server has no WAL summaries, or not enough. */
static int
stream_begin_summaries(StreamReceive *r, const BaseBackupOptions *options, bool *begun, Error *err)
{
    Deadline dl = deadline_after_ms(STREAM_ASK_MS, r->run->cancel);
    BaseBackupOptions incremental = *options;
    bool summaries = false;
    bool refused;

    *begun = false;
    if (source_show_bool(&r->source, "summarize_wal", &dl, &summaries, err) < 0)
        return -1;
    if (!summaries)
    {
        log_write(
            LOG_INFO, "the server makes no WAL summaries (summarize_wal is off): it sends all "
                      "files, changes are told by page LSNs");
        return 0;
    }
    incremental.incremental = true;
    if (base_backup_upload_manifest(&r->source, r->run->cancel, stream_write_manifest, r, err) < 0)
        return -1;
    if (base_backup_begin(&r->source, &incremental, &r->bb, &refused, err) == 0)
    {
        *begun = true;
        r->mode = STREAM_SUMMARIES;
        return 0;
    }
    if (!refused)
        return -1;
    log_write(LOG_INFO, "%s; it sends all files, changes are told by page LSNs", err->msg);
    return 0;
}

static int
stream_begin(StreamReceive *r, Error *err)
{
    BackupRun *run = r->run;
    char label[BACKUP_LABEL_NAME_MAX + 16];
    char lsn[LSN_TEXT_BYTES];
    BaseBackupOptions options = {
        .label = label,
        .fast_checkpoint = run->options.fast_checkpoint,
        .rate_limit_bytes = run->options.rate_limit_bytes,
        .cancel = run->cancel,
    };
    bool begun = false;
    bool refused;

    (void) snprintf(label, sizeof label, "walstream %s", run->header.label);
    if (run->header.incremental && stream_check_parent(r, err) < 0)
        return -1;
    log_write(
        LOG_INFO, "beginning backup \"%s\"%s", run->header.label,
        run->options.fast_checkpoint ? "" : "; waiting for a checkpoint");
    if (run->header.incremental && run->header.pg_major >= 17 &&
        stream_begin_summaries(r, &options, &begun, err) < 0)
        return -1;
    if (!begun)
    {
        r->mode = run->header.incremental ? STREAM_LSN : STREAM_FULL;
        if (base_backup_begin(&r->source, &options, &r->bb, &refused, err) < 0)
            return -1;
    }
    run->header.start_lsn = r->bb.start_lsn;
    run->header.tli = r->bb.start_tli;
    log_write(
        LOG_INFO, "backup starts at %s on timeline %" PRIu32,
        lsn_format(run->header.start_lsn, lsn, sizeof lsn), run->header.tli);
    return backup_run_check_parent(run, err);
}

/* ---- tar ---- */

static void
archive_freep(struct archive **a)
{
    if (*a != NULL)
        (void) archive_read_free(*a);
}

static la_ssize_t
stream_tar_read(struct archive *a, void *ctx, const void **data)
{
    StreamReceive *r = ctx;
    BackupRun *run = r->run;
    size_t len;

    if (base_backup_read(&r->bb, data, &len, r->err) < 0)
    {
        r->failed = true;
        archive_set_error(a, EIO, "receiving failed");
        return -1;
    }
    /* below its least rate the server does not go */
    if (run->options.rate_limit_bytes > 0 && run->options.rate_limit_bytes < BASE_BACKUP_RATE_MIN)
        backup_run_throttle(run, len, NULL);
    progress_add(&run->progress, len, 0);
    progress_show(&run->progress);
    return (la_ssize_t) len;
}

/* What libarchive says, or why it got nothing to read. */
static int
stream_tar_error(StreamReceive *r, struct archive *a)
{
    const char *text = archive_error_string(a);

    if (r->failed)
        return -1;
    return error_set(
        r->err, ERROR_CORRUPT, "could not read the archive that the server sent: %s",
        text != NULL ? text : "no reason given");
}

/* The next portion of a file; *len 0 at its end. */
static int
stream_tar_data(StreamReceive *r, struct archive *a, uint64_t at, const void **data, size_t *len)
{
    la_int64_t offset;
    int rc = archive_read_data_block(a, data, len, &offset);

    if (rc == ARCHIVE_EOF)
    {
        *len = 0;
        return 0;
    }
    if (rc != ARCHIVE_OK)
        return stream_tar_error(r, a);
    if (offset < 0 || (uint64_t) offset != at)
        return error_set(
            r->err, ERROR_CORRUPT,
            "could not read the archive that the server sent: a file has "
            "holes");
    return 0;
}

/* One of the files that are not for the bundles. */
static int
stream_take_text(StreamReceive *r, struct archive *a, const char *path, size_t max, StrBuf *out)
{
    strbuf_init(out, max);
    for (;;)
    {
        const void *data;
        size_t len;

        if (stream_tar_data(r, a, out->len, &data, &len) < 0)
            return -1;
        if (len == 0)
            break;
        strbuf_append(out, data, len);
        if (out->failed)
            break;
    }
    if (strbuf_finish(out, r->err) < 0)
        return error_wrap(r->err, "\"%s\" that the server sent", path);
    return 0;
}

static int
stream_take_owned(
    StreamReceive *r, struct archive *a, const char *path, size_t max, char **text, size_t *len)
{
    AUTO(strbuf_reset) StrBuf out;

    if (stream_take_text(r, a, path, max, &out) < 0)
        return -1;
    free(*text);
    *len = out.len;
    *text = malloc(out.len + 1);
    if (*text == NULL)
        return error_nomem(r->err);
    memcpy(*text, strbuf_text(&out), out.len);
    (*text)[out.len] = '\0';
    return 0;
}

static int
stream_take_control(StreamReceive *r, struct archive *a, const char *path)
{
    AUTO(strbuf_reset) StrBuf out;
    BackupEnd *end = r->end;
    ControlFile control;

    if (stream_take_text(r, a, path, sizeof end->control, &out) < 0)
        return -1;
    end->control_len = out.len;
    memcpy(end->control, strbuf_text(&out), out.len);
    if (control_parse(end->control, end->control_len, &control, r->err) < 0)
        return error_wrap(r->err, "\"%s\" that the server sent", path);
    r->run->header.catalog_version = control.catalog_version;
    return 0;
}

static StreamEntry *
stream_entry_new(StreamReceive *r, struct archive_entry *ae, const char *path)
{
    StreamEntry *entry = calloc(1, sizeof *entry);
    const char *user = archive_entry_uname(ae);
    const char *group = archive_entry_gname(ae);
    char original[DATA_PATH_MAX];
    RelationFile relation;

    if (entry == NULL)
        return NULL;
    (void) snprintf(entry->path, sizeof entry->path, "%s", path);
    (void) snprintf(entry->user, sizeof entry->user, "%s", user != NULL ? user : "");
    (void) snprintf(entry->group, sizeof entry->group, "%s", group != NULL ? group : "");
    entry->file = (BackupFile){
        .kind = archive_entry_filetype(ae) == AE_IFDIR ? BACKUP_FILE_FOLDER : BACKUP_FILE_WHOLE,
        .path = entry->path,
        .mode = (uint32_t) archive_entry_perm(ae) & 07777,
        .user = entry->user,
        .group = entry->group,
        .modified_s = archive_entry_mtime(ae),
    };
    if (entry->file.kind == BACKUP_FILE_FOLDER)
        return entry;
    entry->content_bytes = (uint64_t) archive_entry_size(ae);
    if (r->mode == STREAM_SUMMARIES && incremental_original_path(path, original, sizeof original) &&
        data_file_parse_relation(original, &relation))
    {
        entry->incremental = true;
        (void) snprintf(entry->path, sizeof entry->path, "%s", original);
    }
    return entry;
}

static int
stream_take_file(StreamReceive *r, struct archive *a, struct archive_entry *ae, const char *path)
{
    StreamEntry *entry = stream_entry_new(r, ae, path);
    bool folder = archive_entry_filetype(ae) == AE_IFDIR;
    uint64_t want;
    uint64_t got = 0;

    if (entry == NULL)
        return error_nomem(r->err);
    want = entry->content_bytes;
    if (stream_workers_begin(r->workers, entry, r->err) < 0)
        return -1;
    for (; !folder;)
    {
        const void *data;
        size_t len;

        if (stream_tar_data(r, a, got, &data, &len) < 0)
            return -1;
        if (len == 0)
            break;
        got += len;
        if (got > want)
            break;
        if (stream_workers_write(r->workers, data, len, r->err) < 0)
            return -1;
    }
    if (got != want)
        return error_set(
            r->err, ERROR_CORRUPT,
            "file \"%s\" that the server sent does not have the %" PRIu64 " bytes announced", path,
            want);
    if (!folder)
        stream_workers_end(r->workers);
    progress_add(&r->run->progress, 0, 1);
    return 0;
}

static int
stream_take_entry(StreamReceive *r, struct archive *a, struct archive_entry *ae)
{
    const char *name = archive_entry_pathname(ae);
    bool folder = archive_entry_filetype(ae) == AE_IFDIR;
    bool base = r->tablespace == 0;
    char path[DATA_PATH_MAX];

    if (name == NULL)
        return error_set(r->err, ERROR_CORRUPT, "the server sends a file without a name");
    if (base_backup_map_path(r->tablespace, name, path, sizeof path, r->err) < 0)
        return -1;
    if (archive_entry_hardlink(ae) != NULL || (!folder && archive_entry_filetype(ae) != AE_IFREG) ||
        (!folder && archive_entry_size(ae) < 0))
        return error_set(
            r->err, ERROR_CORRUPT, "the server sends \"%s\", which is neither file nor folder",
            path);
    if (base && strcmp(path, "backup_label") == 0)
        return stream_take_owned(
            r, a, path, BACKUP_LABEL_MAX, &r->end->label_text, &r->end->label_len);
    if (base && strcmp(path, "tablespace_map") == 0)
        return stream_take_owned(r, a, path, STREAM_MAP_MAX, &r->end->map_text, &r->end->map_len);
    if (base && strcmp(path, "global/pg_control") == 0)
        return stream_take_control(r, a, path);
    if (!folder && strncmp(path, "pg_wal/", strlen("pg_wal/")) == 0)
        return 0;
    return stream_take_file(r, a, ae, path);
}

static int
stream_take_archive(StreamReceive *r)
{
    AUTO(archive_freep) struct archive *a = archive_read_new();

    if (a == NULL)
        return error_nomem(r->err);
    if (archive_read_support_format_tar(a) != ARCHIVE_OK ||
        archive_read_support_format_empty(a) != ARCHIVE_OK ||
        archive_read_open(a, r, NULL, stream_tar_read, NULL) != ARCHIVE_OK)
        return stream_tar_error(r, a);
    for (;;)
    {
        struct archive_entry *ae;
        int rc = archive_read_next_header(a, &ae);

        if (rc == ARCHIVE_EOF)
            return 0;
        if (rc != ARCHIVE_OK)
            return stream_tar_error(r, a);
        if (stream_take_entry(r, a, ae) < 0)
            return -1;
    }
}

static int
stream_take_archives(StreamReceive *r, Error *err)
{
    r->err = err;
    for (;;)
    {
        bool more;

        if (base_backup_next_archive(&r->bb, &r->tablespace, &more, err) < 0)
            return -1;
        if (!more)
            return 0;
        if (stream_take_archive(r) < 0)
            return -1;
    }
}

/* ---- the end ---- */

static int
stream_check_end(StreamReceive *r, Error *err)
{
    BackupHeader *header = &r->run->header;
    const BackupEnd *end = r->end;
    BackupLabel label;

    header->stop_lsn = r->bb.end_lsn;
    if (end->label_text == NULL || end->control_len == 0)
        return error_set(
            err, ERROR_CORRUPT, "the server sent no %s",
            end->label_text == NULL ? "backup_label" : "global/pg_control");
    if (backup_label_parse(end->label_text, end->label_len, header->segment_bytes, &label, err) < 0)
        return error_wrap(err, "backup_label that the server sent");
    if (label.start_lsn != header->start_lsn || label.start_tli != header->tli)
        return error_set(
            err, ERROR_CORRUPT, "the backup_label that the server sent is of another backup");
    if (r->bb.end_tli != header->tli)
        return error_set(
            err, ERROR_TRANSIENT,
            "the server went from timeline %" PRIu32 " to %" PRIu32 " during the backup",
            header->tli, r->bb.end_tli);
    if (header->stop_lsn < header->start_lsn)
        return error_set(err, ERROR_CORRUPT, "the backup ends before it has begun");
    header->from_standby = label.from_standby;
    if (end->map_len > 0 &&
        tablespace_map_parse(end->map_text, end->map_len, &header->tablespaces, err) < 0)
        return error_wrap(err, "tablespace_map that the server sent");
    return 0;
}

static int
stream_transfer(StreamReceive *r, Error *err)
{
    BackupRun *run = r->run;
    StreamRules rules = {
        .run = run,
        .mode = r->mode,
        .start_lsn = run->header.start_lsn,
        .check_pages = run->header.data_checksums,
        .spill_dir = fs_scratch_dir(run->cfg->restore.spool),
    };
    AUTO(stream_workers_freep) StreamWorkers *workers = NULL;

    if (stream_workers_start(&rules, run->bundles, run->options.jobs, run->cancel, &workers, err) <
        0)
        return -1;
    r->workers = workers;
    if (stream_take_archives(r, err) < 0 || base_backup_end(&r->bb, err) < 0)
        return -1;
    /*
     * Behind the server's last record of the backup: a commit before the stop LSN cannot have a
     * later time, so that recovery to any time from here on does not end before consistency.
     */
    run->header.stopped_us = stream_ask_sql(r, NULL);
    return stream_workers_finish(workers, err);
}

static int
stream_run(StreamReceive *r, Error *err)
{
    BackupRun *run = r->run;
    AUTO(backup_header_reset) BackupHeader before = {0};
    int rc;

    if (stream_connect(r, err) < 0)
        return -1;
    (void) stream_ask_sql(r, &before);
    if (stream_begin(r, err) < 0)
        return -1;
    run->header.started_us = stream_ask_sql(r, &run->header);
    databases_merge(&run->header, &before);
    progress_begin(&run->progress, "backing up", r->bb.total_bytes);
    rc = stream_transfer(r, err);
    progress_end(&run->progress);
    return rc < 0 ? -1 : stream_check_end(r, err);
}

int
source_stream_run(BackupRun *run, BackupEnd *end, Error *err)
{
    StreamReceive r = {.run = run, .end = end};
    int rc = stream_run(&r, err);

    base_backup_reset(&r.bb);
    source_close(&r.source); /* a backup under way ends with it */
    return rc;
}
