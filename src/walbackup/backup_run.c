/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * One base backup; see backup_run.h.
 */
#include "walbackup/backup_run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/log.h"
#include "pg/control.h"
#include "repo/catalog.h"
#include "repo/file_digest.h"
#include "walbackup/parent.h"
#include "walbackup/resume.h"
#include "walbackup/stored.h"
#include "walbackup/wal_wait.h"
#include "walbackup/walk.h"

#define BACKUP_CONNECT_MS 60000
#define BACKUP_LABEL_TRIES 3
#define BACKUP_THROTTLE_STEP_MS 100
#define BACKUP_FILE_MODE 0600

void
backup_end_reset(BackupEnd *end)
{
    free(end->label_text);
    free(end->map_text);
    *end = (BackupEnd){0};
}

/* ---- rate limit ---- */

void
backup_run_throttle(BackupRun *run, uint64_t bytes, const atomic_bool *stop)
{
    int64_t until_us = clock_monotonic_us();

    until_us += pace_take(&run->pace, bytes, until_us);
    while (!atomic_load(run->cancel) && (stop == NULL || !atomic_load(stop)))
    {
        int64_t ahead_ms = (until_us - clock_monotonic_us()) / 1000;

        if (ahead_ms <= 0)
            return;
        clock_sleep_ms(MIN(ahead_ms, BACKUP_THROTTLE_STEP_MS));
    }
}

/* ---- 1: who and where ---- */

/* Of the server's timeline; the files of pg_wal are those that the server itself believes. */
static int
backup_read_local_history(BackupRun *run, Error *err)
{
    TimelineId tli = run->server.tli;
    AUTO(free_text) char *text = NULL;
    char path[4096];
    size_t len;

    if (tli == 1)
        return timeline_parse_history(1, NULL, 0, &run->history, err);
    (void) snprintf(
        path, sizeof path, "%s/pg_wal/%08" PRIX32 ".history", run->cfg->cluster.data, tli);
    if (fs_read_file(path, TIMELINE_HISTORY_MAX_BYTES, &text, &len, err) < 0)
        return -1;
    return timeline_parse_history(tli, text, len, &run->history, err);
}

int
backup_run_follow(BackupRun *run, TimelineId tli, Error *err)
{
    if (run->server.tli == tli || !run->options.incremental)
        return 0;
    run->server.tli = tli;
    timeline_history_reset(&run->history);
    if (backup_read_local_history(run, err) < 0)
        return error_wrap(err, "could not read the history of timeline %" PRIu32, tli);
    return 0;
}

static int
backup_connect_local(BackupRun *run, const Deadline *dl, Error *err)
{
    BackupHeader *header = &run->header;
    ControlFile control;

    if (run->cfg->cluster.conninfo[0] == '\0')
        return error_set(err, ERROR_USAGE, "[cluster] conninfo is not set");
    if (control_read(run->cfg->cluster.data, &control, err) < 0)
    {
        (void) error_wrap(err, "[cluster] data");
        return err->kind == ERROR_DENIED ? error_hint(err, WALK_OWNER_HINT) : -1;
    }
    if (server_open(run->cfg->cluster.conninfo, dl, &run->server, err) < 0)
        return -1;
    if (control.system_identifier != run->server.system_identifier)
        return error_set(
            err, ERROR_CONFLICT,
            "[cluster] conninfo leads to system identifier %" PRIu64 ", data to %" PRIu64,
            run->server.system_identifier, control.system_identifier);
    if (server_check_data(&run->server, run->cfg->cluster.data, dl, err) < 0 ||
        server_lock(&run->server, dl, err) < 0)
        return -1;
    header->system_identifier = run->server.system_identifier;
    header->pg_major = run->server.pg_major;
    header->catalog_version = run->server.catalog_version;
    header->segment_bytes = run->server.segment_bytes;
    header->data_checksums = run->server.data_checksums;
    header->from_standby = run->server.in_recovery;
    /* a standby that takes its WAL from the archive alone need not have the file */
    if (run->options.incremental && backup_read_local_history(run, err) < 0)
        return error_wrap(err, "could not read the history of timeline %" PRIu32, run->server.tli);
    return 0;
}

/* source_stream_run connects anew; this only finds out which repository and which parent. */
static int
backup_connect_stream(BackupRun *run, const Deadline *dl, Error *err)
{
    AUTO(source_close) Source source = {0};
    AUTO(free_text) char *text = NULL;
    size_t len = 0;

    if (source_connect(run->cfg->cluster.conninfo, dl, &source, err) < 0)
        return -1;
    run->header.system_identifier = source.info.system_identifier;
    run->header.pg_major = source.info.version / 10000;
    run->header.segment_bytes = source.info.segment_bytes;
    run->header.source_stream = true;
    if (source_show_bool(&source, "data_checksums", dl, &run->header.data_checksums, err) < 0)
        return -1;
    if (source.info.tli > 1 &&
        source_read_history(&source, source.info.tli, dl, &text, &len, err) < 0)
        return error_wrap(err, "could not read the history of timeline %" PRIu32, source.info.tli);
    return timeline_parse_history(source.info.tli, text, len, &run->history, err);
}

static int
backup_open(BackupRun *run, Error *err)
{
    Deadline dl = deadline_after_ms(MAX(run->options.timeout_ms, BACKUP_CONNECT_MS), run->cancel);
    BackupHeader *header = &run->header;
    RepositoryOptions options = {0};
    int rc = run->options.stream ? backup_connect_stream(run, &dl, err)
                                 : backup_connect_local(run, &dl, err);

    if (rc < 0)
        return -1;
    options.system_identifier = header->system_identifier;
    if (repository_open(run->cfg, &options, &dl, &run->repo, err) < 0)
        return -1;
    if (run->repo->description.segment_bytes != header->segment_bytes)
        return error_set(
            err, ERROR_CONFLICT,
            "the server has WAL segments of %" PRIu32 " bytes, the repository is for %" PRIu32,
            header->segment_bytes, run->repo->description.segment_bytes);
    header->incremental = run->options.incremental;
    header->checksum = run->options.checksum;
    (void) codec_format(run->repo->format.codec, header->codec, sizeof header->codec);
    (void) snprintf(
        header->key_ids, sizeof header->key_ids, "%s",
        run->repo->recipients != NULL ? age_recipients_key_ids(run->repo->recipients) : "");
    (void) snprintf(
        header->created_by, sizeof header->created_by, "walstream %s", WALSTREAM_VERSION);
    if (gethostname(header->host, sizeof header->host - 1) < 0)
        header->host[0] = '\0';
    return 0;
}

/* ---- 2: parent, label ---- */

int
backup_run_check_parent(BackupRun *run, Error *err)
{
    if (!run->options.incremental)
        return 0;
    return parent_check(&run->parent.header, &run->header, &run->history, err);
}

/* What cannot be taken up is stored again, which is no failure. */
static void
backup_take_up(BackupRun *run, const BackupList *list)
{
    Error why = {0};

    if (resume_open(run, list, &run->resume, &why) < 0)
        log_write(LOG_WARNING, "taking up nothing of a failed backup: %s", why.msg);
    for (size_t i = 0; i < resume_count(run->resume); i++)
        log_write(
            LOG_INFO, "backup \"%s\" has failed or still runs: what it has stored is taken up",
            resume_label(run->resume, i));
}

static int
backup_prepare(BackupRun *run, Error *err)
{
    bool resume = run->options.resume && !run->options.stream;
    AUTO(backup_list_reset) BackupList list = {0};

    if (!run->options.incremental && !resume)
        return 0;
    if (backup_list_read(run->repo, run->options.timeout_ms, run->options.jobs, &list, err) < 0)
        return error_wrap(err, "could not list the backups");
    if (run->options.incremental && parent_choose(run, &list, err) < 0)
        return -1;
    if (resume)
        backup_take_up(run, &list);
    return 0;
}

/* A label that was not chosen by a person is made from the time, and there may be one already. */
static int
backup_claim_label(BackupRun *run, Error *err)
{
    BackupStart start = {.incremental = run->options.incremental};

    (void) snprintf(start.host, sizeof start.host, "%s", run->header.host);
    /* so that expire, while we run, keeps what we build on */
    if (run->header.chain_count > 0)
        memcpy(start.parent, run->header.chain[run->header.chain_count - 1], sizeof start.parent);
    for (size_t i = 0; i < resume_count(run->resume); i++)
        (void) snprintf(
            start.resumes[i], sizeof start.resumes[i], "%s", resume_label(run->resume, i));
    for (int i = 1;; i++)
    {
        Deadline dl = deadline_after_ms(run->options.timeout_ms, run->cancel);

        start.started_us = clock_wall_us();
        if (run->options.label != NULL)
            (void) snprintf(start.label, sizeof start.label, "%s", run->options.label);
        else
            (void) backup_label_name(start.started_us, start.incremental, start.label);
        if (backup_start_put(run->repo, &start, &dl, err) == 0)
            break;
        if (err->kind != ERROR_EXISTS || run->options.label != NULL || i == BACKUP_LABEL_TRIES)
            return -1;
        deadline_sleep_ms(&dl, 1000);
    }
    memcpy(run->header.label, start.label, sizeof run->header.label);
    return 0;
}

static int
backup_make_bundles(BackupRun *run, Error *err)
{
    BundleOptions options = {
        .repo = run->repo,
        .label = run->header.label,
        .checksum = run->options.checksum,
        .first_bundle = resume_bundles(run->resume),
        .uploaders = run->options.jobs,
        .put_timeout_ms = run->options.timeout_ms,
        .cancel = run->cancel};

    if (manifest_writer_new(run->repo->format.codec, run->repo->scratch, &run->manifest, err) < 0)
        return -1;
    options.manifest = run->manifest;
    return bundle_set_new(&options, &run->bundles, err);
}

/* ---- 6: the last files ---- */

/* What is known of each file so far, for PostgreSQL's manifest. */
typedef struct FinalFiles
{
    BackupRun *run;
    const BackupEnd *end;
    BundleWriter *writer;
    PgManifestWriter *pg; /* while files are replayed into it */
    BackupFile label, map, control;
    int64_t now_s;
    uint64_t manifest_bytes; /* of the first pass, which counts */
    bool store;              /* the second pass, which stores */
    uint32_t mode;           /* of PG_VERSION, which the server made: owner and mode for ours */
    char user[64], group[64];
} FinalFiles;

static int
final_write_manifest(void *ctx, const void *text, size_t len, Error *err)
{
    FinalFiles *f = ctx;

    if (f->store)
        return bundle_writer_write(f->writer, text, len, err);
    f->manifest_bytes += len;
    return 0;
}

static int
final_add_file(void *ctx, const BackupFile *file, Error *err)
{
    FinalFiles *f = ctx;
    char name[BACKUP_ARCHIVE_NAME_MAX];
    PgManifestFile entry;

    if (file->kind == BACKUP_FILE_FOLDER)
        return 0;
    entry = backup_file_pg_entry(file, f->run->options.checksum, name);
    return pg_manifest_add(f->pg, &entry, err);
}

static int
final_pass(FinalFiles *f, Error *err)
{
    static const ManifestHandlers handlers = {.file = final_add_file};
    BackupRun *run = f->run;
    AUTO(pg_manifest_freep) PgManifestWriter *pg = NULL;
    PgManifestWalRange range = {run->header.tli, run->header.start_lsn, run->header.stop_lsn};

    if (pg_manifest_begin(
            run->header.pg_major, run->header.system_identifier, final_write_manifest, f, &pg,
            err) < 0)
        return -1;
    f->pg = pg;
    if (manifest_writer_replay(run->manifest, run->options.checksum, &handlers, f, err) < 0 ||
        final_add_file(f, &f->label, err) < 0 ||
        (f->end->map_len > 0 && final_add_file(f, &f->map, err) < 0) ||
        final_add_file(f, &f->control, err) < 0)
        return -1;
    return pg_manifest_end(pg, &range, 1, err);
}

static int
final_note_owner(void *ctx, const BackupFile *file, Error *err UNUSED)
{
    FinalFiles *f = ctx;

    if (strcmp(file->path, "PG_VERSION") != 0)
        return 0;
    f->mode = file->mode;
    (void) snprintf(f->user, sizeof f->user, "%s", file->user);
    (void) snprintf(f->group, sizeof f->group, "%s", file->group);
    return 0;
}

static BackupFile
final_file(const FinalFiles *f, const char *path, uint64_t bytes)
{
    return (BackupFile){
        .kind = BACKUP_FILE_WHOLE,
        .path = path,
        .mode = f->mode,
        .user = f->user,
        .group = f->group,
        .modified_s = f->now_s,
        .bytes = bytes,
        .stored_bytes = bytes};
}

static int
final_store(FinalFiles *f, BackupFile *file, const void *data, Error *err)
{
    if (bundle_writer_begin_file(f->writer, file, err) < 0 ||
        bundle_writer_write(f->writer, data, file->stored_bytes, err) < 0)
        return -1;
    return bundle_writer_end_file(f->writer, err);
}

static int
final_store_manifest(FinalFiles *f, Error *err)
{
    BackupFile manifest;

    if (final_pass(f, err) < 0)
        return -1;
    manifest = final_file(f, "backup_manifest", f->manifest_bytes);
    f->store = true;
    if (bundle_writer_begin_file(f->writer, &manifest, err) < 0 || final_pass(f, err) < 0)
        return -1;
    return bundle_writer_end_file(f->writer, err);
}

/*
 * What pg_combinebackup and the server know an incremental by. The server has written these lines
 * when it made the incremental itself.
 */
static int
backup_mark_incremental(const BackupRun *run, BackupEnd *end, Error *err)
{
    const BackupHeader *parent = &run->parent.header;
    AUTO(strbuf_reset) StrBuf text;
    BackupLabel label;
    char lsn[LSN_TEXT_BYTES];

    strbuf_init(&text, BACKUP_LABEL_MAX);
    if (!run->header.incremental)
        return 0;
    if (backup_label_parse(
            end->label_text, end->label_len, run->header.segment_bytes, &label, err) < 0)
        return error_wrap(err, "could not read the backup label that the server made");
    if (label.incremental_from_lsn != LSN_INVALID)
        return 0;
    strbuf_append(&text, end->label_text, end->label_len);
    strbuf_printf(
        &text, "INCREMENTAL FROM LSN: %s\nINCREMENTAL FROM TLI: %" PRIu32 "\n",
        lsn_format(parent->start_lsn, lsn, sizeof lsn), parent->tli);
    if (strbuf_finish(&text, err) < 0)
        return -1;
    free(end->label_text);
    end->label_len = text.len;
    end->label_text = steal(text.data);
    return 0;
}

static int
backup_store_last(BackupRun *run, const BackupEnd *end, Error *err)
{
    static const ManifestHandlers owner = {.file = final_note_owner};
    AUTO(bundle_writer_freep) BundleWriter *writer = NULL;
    FileDigest control;
    FinalFiles f = {
        .run = run, .end = end, .now_s = clock_wall_us() / 1000000, .mode = BACKUP_FILE_MODE};

    /* all lines of the other files must be there */
    if (bundle_set_finish(run->bundles, err) < 0 ||
        manifest_writer_replay(run->manifest, run->options.checksum, &owner, &f, err) < 0 ||
        bundle_writer_new(run->bundles, &writer, err) < 0)
        return -1;
    f.writer = writer;
    f.label = final_file(&f, "backup_label", end->label_len);
    f.map = final_file(&f, "tablespace_map", end->map_len);
    f.control = final_file(&f, "global/pg_control", end->control_len);
    if (final_store(&f, &f.label, end->label_text, err) < 0 ||
        (end->map_len > 0 && final_store(&f, &f.map, end->map_text, err) < 0) ||
        file_digest_bytes(end->control, end->control_len, run->options.checksum, &control, err) < 0)
        return -1;
    /* the bundle's writer makes it too, but PostgreSQL's manifest stands in front of pg_control */
    memcpy(f.control.checksum, control.checksum, sizeof f.control.checksum);
    if (final_store_manifest(&f, err) < 0 || final_store(&f, &f.control, end->control, err) < 0 ||
        bundle_writer_close(writer, err) < 0)
        return -1;
    return bundle_set_finish(run->bundles, err);
}

/* ---- 8: the manifest ---- */

static int
backup_sum_file(void *ctx, const BackupFile *file, Error *err UNUSED)
{
    BackupHeader *header = ctx;

    if (file->kind == BACKUP_FILE_FOLDER)
        return 0;
    header->file_count++;
    header->full_bytes += file->bytes;
    header->plain_bytes += file->stored_bytes;
    header->damaged_blocks += block_set_blocks(&file->damaged);
    return 0;
}

static int
backup_sum_part(void *ctx, const BackupPart *part, Error *err UNUSED)
{
    BackupHeader *header = ctx;

    header->part_count++;
    header->stored_bytes += part->stored_bytes;
    if (part->owner != NULL && part->owner[0] != '\0' && strcmp(part->owner, header->label) != 0)
        header->reused_bytes += part->stored_bytes;
    return 0;
}

/* The chain may have been removed while this ran, by a person or by retention elsewhere. */
static int
backup_check_chain(BackupRun *run, Error *err)
{
    for (size_t i = 0; i < run->header.chain_count; i++)
    {
        AUTO(backup_header_reset) BackupHeader header = {0};
        Deadline dl = deadline_after_ms(run->options.timeout_ms, run->cancel);

        if (manifest_read_header(run->repo, run->header.chain[i], &dl, &header, err) < 0)
            return error_wrap(
                err, "backup \"%s\", which this one builds on, is not there any more",
                run->header.chain[i]);
    }
    return 0;
}

static int
backup_put_manifest(BackupRun *run, Error *err)
{
    static const ManifestHandlers sums = {.file = backup_sum_file, .part = backup_sum_part};
    uint64_t stored_bytes;
    Deadline dl;

    if (manifest_writer_replay(run->manifest, run->options.checksum, &sums, &run->header, err) <
            0 ||
        backup_check_chain(run, err) < 0 ||
        stored_check(
            run->repo, &run->header, run->manifest, run->options.checksum, run->options.timeout_ms,
            err) < 0)
        return -1;
    dl = deadline_after_ms(run->options.timeout_ms, run->cancel);
    if (manifest_writer_put(run->manifest, run->repo, &run->header, &dl, &stored_bytes, err) < 0)
        return error_wrap(err, "could not store the manifest");
    return 0;
}

/* ---- all of it ---- */

static int
backup_run_steps(BackupRun *run, BackupEnd *end, Error *err)
{
    int rc;

    if (backup_open(run, err) < 0 || backup_prepare(run, err) < 0 ||
        backup_claim_label(run, err) < 0 || backup_make_bundles(run, err) < 0)
        return -1;
    rc = run->options.stream ? source_stream_run(run, end, err) : source_local_run(run, end, err);
    if (rc < 0 || backup_run_check_parent(run, err) < 0)
        return -1;
    if (resume_finish(run->resume, run, err) < 0 || backup_mark_incremental(run, end, err) < 0 ||
        backup_store_last(run, end, err) < 0)
        return -1;
    /* their buffers, before there is a manifest in memory */
    bundle_set_free(steal(run->bundles));
    if (wal_wait(run, err) < 0)
        return -1;
    return backup_put_manifest(run, err);
}

int
backup_run(BackupRun *run, Error *err)
{
    AUTO(backup_end_reset) BackupEnd end = {0};
    int rc;

    pace_init(&run->pace, run->options.rate_limit_bytes);
    rc = backup_run_steps(run, &end, err);
    bundle_set_free(run->bundles);
    run->bundles = NULL;
    manifest_writer_free(run->manifest);
    run->manifest = NULL;
    resume_free(run->resume);
    run->resume = NULL;
    manifest_reset(&run->parent);
    timeline_history_reset(&run->history);
    server_close(&run->server);
    repository_free(run->repo);
    run->repo = NULL;
    if (rc == 0)
        return 0;
    if (run->header.label[0] != '\0')
        return error_wrap(err, "backup \"%s\" failed", run->header.label);
    return error_wrap(err, "could not back up");
}
