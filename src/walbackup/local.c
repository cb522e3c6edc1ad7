/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A backup by reading the data directory:
 *
 *   main      begin in the server, list databases and files | watch session, progress | pg_control,
 *   worker 1                                                | folders, files          | end in the
 *   worker n                                                | files                   | server
 *
 * Large files are handed out one by one, the largest first, so that no worker is left alone with
 * one at the end; small ones in portions, as they lie beside each other.
 *
 * The list of files is made after the start LSN: a file that comes later comes from WAL. pg_control
 * is read after all others and before the end: on a standby its minimum recovery point tells
 * recovery how far the files may have come.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/array.h"
#include "common/fs.h"
#include "common/log.h"
#include "pg/control.h"
#include "walbackup/local.h"

#define LOCAL_LARGE_BYTES (1024u * 1024u)
#define LOCAL_PORTION_BYTES (8u * 1024u * 1024u)
#define LOCAL_PORTION_FILES 256
#define LOCAL_SQL_MS 60000
#define LOCAL_CONTROL_TRIES 10
#define LOCAL_CONTROL_PAUSE_MS 50
#define LOCAL_STOP_MS (INT64_C(10) * 60 * 1000) /* on a primary it switches WAL */
#define LOCAL_WATCH_MS 100

/* ---- the order of files ---- */

static int
local_compare_large(const void *a, const void *b, void *arg)
{
    Walk *walk = arg;
    uint32_t left = *(const uint32_t *) a;
    uint32_t right = *(const uint32_t *) b;
    uint64_t left_bytes = walk_file(walk, left)->bytes;
    uint64_t right_bytes = walk_file(walk, right)->bytes;

    if (left_bytes != right_bytes)
        return left_bytes < right_bytes ? 1 : -1;
    return (left > right) - (left < right);
}

static int
local_find_large(LocalRun *local, Error *err)
{
    Walk *walk = &local->walk;

    for (size_t i = 0; i < walk->file_count; i++)
    {
        uint32_t *large;

        if (walk_file(walk, i)->bytes < LOCAL_LARGE_BYTES)
            continue;
        large = array_grow(local->large, local->large_count, &local->large_cap, sizeof *large, err);
        if (large == NULL)
            return -1;
        local->large = large;
        large[local->large_count++] = (uint32_t) i;
    }
    if (local->large_count > 1)
        qsort_r(local->large, local->large_count, sizeof *local->large, local_compare_large, walk);
    return 0;
}

/* What a worker copies next: a large file, or small ones and nothing of the large ones between. */
typedef struct LocalPortion
{
    bool large;
    size_t first, end; /* of all files */
} LocalPortion;

/* False when there is nothing left. */
static bool
local_take(LocalRun *local, LocalPortion *out)
{
    Walk *walk = &local->walk;
    uint64_t bytes = 0;
    size_t count = 0;

    (void) pthread_mutex_lock(&local->lock);
    *out = (LocalPortion){.first = local->next_small};
    if (local->next_large < local->large_count)
    {
        out->large = true;
        out->first = local->large[local->next_large++];
        out->end = out->first + 1;
        (void) pthread_mutex_unlock(&local->lock);
        return true;
    }
    for (; local->next_small < walk->file_count && count < LOCAL_PORTION_FILES &&
           bytes < LOCAL_PORTION_BYTES;
         local->next_small++)
    {
        uint64_t file_bytes = walk_file(walk, local->next_small)->bytes;

        if (file_bytes >= LOCAL_LARGE_BYTES)
            continue;
        bytes += file_bytes;
        count++;
    }
    out->end = local->next_small;
    (void) pthread_mutex_unlock(&local->lock);
    return out->end > out->first;
}

/* ---- workers ---- */

static void
local_fail(LocalRun *local, const Error *err)
{
    (void) pthread_mutex_lock(&local->lock);
    /* the others are canceled because of the first */
    if (!local->failed)
    {
        local->failed = true;
        local->failure = *err;
    }
    (void) pthread_mutex_unlock(&local->lock);
    atomic_store(&local->stop, true);
}

static int
local_copy_folders(LocalCopier *c, Error *err)
{
    const Walk *walk = &c->local->walk;

    for (size_t i = 0; i < walk->folder_count; i++)
        if (local_copy_folder(c, &walk->folders[i], err) < 0)
            return -1;
    return 0;
}

typedef struct LocalWorker
{
    LocalRun *local;
    bool first;
    pthread_t thread;
} LocalWorker;

static int
local_work(const LocalWorker *worker, Error *err)
{
    AUTO(local_copier_reset) LocalCopier c = {0};
    LocalRun *local = worker->local;
    LocalPortion portion;

    if (local_copier_init(local, &c, err) < 0)
        return -1;
    if (worker->first && local_copy_folders(&c, err) < 0)
        return -1;
    while (local_take(local, &portion))
    {
        for (size_t i = portion.first; i < portion.end; i++)
        {
            const WalkFile *file = walk_file(&local->walk, i);

            if (!portion.large && file->bytes >= LOCAL_LARGE_BYTES)
                continue;
            if (atomic_load(&local->stop))
                return error_set(err, ERROR_CANCELED, "canceled");
            if (local_copy_file(&c, file, err) < 0)
                return -1;
        }
    }
    return bundle_writer_close(c.writer, err);
}

static void *
local_worker_main(void *arg)
{
    const LocalWorker *worker = arg;
    LocalRun *local = worker->local;
    Error err = {0};

    if (local_work(worker, &err) < 0)
        local_fail(local, &err);
    (void) pthread_mutex_lock(&local->lock);
    local->running--;
    (void) pthread_cond_signal(&local->ended);
    (void) pthread_mutex_unlock(&local->lock);
    return NULL;
}

/* Until all workers have ended: the session of the backup must stay there. */
static void
local_watch(LocalRun *local)
{
    BackupRun *run = local->run;
    bool running = true;
    Error err;

    while (running)
    {
        Deadline soon = deadline_after_ms(LOCAL_WATCH_MS, NULL);

        (void) pthread_mutex_lock(&local->lock);
        if (local->running > 0)
            deadline_cond_wait(&soon, &local->ended, &local->lock);
        running = local->running > 0;
        (void) pthread_mutex_unlock(&local->lock);
        if (atomic_load(run->cancel))
            atomic_store(&local->stop, true);
        if (!atomic_load(&local->stop) && server_check(&run->server, &err) < 0)
            local_fail(local, &err);
        progress_show(&run->progress);
    }
}

static int
local_copy_all(LocalRun *local, Error *err)
{
    BackupRun *run = local->run;
    AUTO(free_text) char *memory = calloc(run->options.jobs, sizeof(LocalWorker));
    LocalWorker *workers = (LocalWorker *) (void *) memory;
    unsigned started = 0;

    if (workers == NULL)
        return error_nomem(err);
    for (; started < run->options.jobs; started++)
    {
        workers[started] = (LocalWorker){.local = local, .first = started == 0};
        (void) pthread_mutex_lock(&local->lock);
        local->running++;
        (void) pthread_mutex_unlock(&local->lock);
        if (pthread_create(&workers[started].thread, NULL, local_worker_main, &workers[started]) !=
            0)
        {
            Error failure = {0};

            (void) error_set(&failure, ERROR_IO, "could not start a worker");
            local_fail(local, &failure);
            (void) pthread_mutex_lock(&local->lock);
            local->running--;
            (void) pthread_mutex_unlock(&local->lock);
            break;
        }
    }
    local_watch(local);
    for (unsigned i = 0; i < started; i++)
        (void) pthread_join(workers[i].thread, NULL);
    if (atomic_load(run->cancel))
        return error_set(err, ERROR_CANCELED, "canceled");
    if (local->failed)
    {
        *err = local->failure;
        return -1;
    }
    return 0;
}

/* ---- pg_control ---- */

static int
local_read_control(LocalRun *local, BackupEnd *end, Error *err)
{
    ControlFile control;
    char path[4096];

    (void) snprintf(path, sizeof path, "%s/global/pg_control", local->data);
    for (int i = 1;; i++)
    {
        AUTO(fd_close) int fd = openat(local->data_fd, "global/pg_control", O_RDONLY | O_CLOEXEC);

        if (fd < 0)
            return error_sys(err, "could not open \"%s\"", path);
        if (fs_read_full(fd, end->control, sizeof end->control, &end->control_len, path, err) < 0)
            return -1;
        if (control_parse(end->control, end->control_len, &control, err) == 0)
            break;
        /* the server writes it in place */
        if (i == LOCAL_CONTROL_TRIES)
            return error_wrap(err, "could not read \"%s\"", path);
        clock_sleep_ms(LOCAL_CONTROL_PAUSE_MS);
    }
    if (control.system_identifier != local->run->header.system_identifier)
        return error_set(
            err, ERROR_CONFLICT, "\"%s\" is of system identifier %" PRIu64, path,
            control.system_identifier);
    return 0;
}

/* ---- begin and end in the server ---- */

static int
local_begin(LocalRun *local, Error *err)
{
    BackupRun *run = local->run;
    Server *server = &run->server;
    BackupHeader *header = &run->header;
    TimelineId checkpoint_tli, now_tli;
    char label[BACKUP_LABEL_NAME_MAX + 16];
    char lsn[LSN_TEXT_BYTES];
    Deadline dl;

    (void) snprintf(label, sizeof label, "walstream %s", header->label);
    log_write(
        LOG_INFO, "beginning backup \"%s\"%s", header->label,
        server->in_recovery || run->options.fast_checkpoint ? "" : "; waiting for a checkpoint");
    if (server_backup_start(
            server, label, run->options.fast_checkpoint, run->cancel, &header->start_lsn, err) < 0)
        return -1;
    dl = deadline_after_ms(LOCAL_SQL_MS, run->cancel);
    if (server_timelines(server, &dl, &checkpoint_tli, &now_tli, err) < 0 ||
        server_now(server, &dl, &header->started_us, err) < 0 ||
        server_read_databases(server, &dl, header, err) < 0)
        return -1;
    if (checkpoint_tli != now_tli)
    {
        (void) error_set(
            err, ERROR_CONFLICT,
            "the standby follows timeline %" PRIu32 " and its last restart point is on %" PRIu32,
            now_tli, checkpoint_tli);
        return error_hint(err, "Run it again after the next checkpoint of the primary.");
    }
    header->tli = now_tli;
    log_write(
        LOG_INFO, "backup starts at %s on timeline %" PRIu32,
        lsn_format(header->start_lsn, lsn, sizeof lsn), header->tli);
    if (backup_run_follow(run, header->tli, err) < 0)
        return -1;
    return backup_run_check_parent(run, err);
}

static int
local_end(LocalRun *local, BackupEnd *end, Error *err)
{
    BackupRun *run = local->run;
    Server *server = &run->server;
    BackupHeader *header = &run->header;
    Deadline dl = deadline_after_ms(LOCAL_STOP_MS, run->cancel);
    TimelineId checkpoint_tli, now_tli;
    BackupLabel label;

    /* the time last: what is committed later lies behind the stop LSN */
    if (server_backup_stop(server, &dl, &header->stop_lsn, &end->label_text, &end->map_text, err) <
            0 ||
        server_now(server, &dl, &header->stopped_us, err) < 0 ||
        server_timelines(server, &dl, &checkpoint_tli, &now_tli, err) < 0)
        return -1;
    end->label_len = strlen(end->label_text);
    end->map_len = strlen(end->map_text);
    if (backup_label_parse(end->label_text, end->label_len, header->segment_bytes, &label, err) < 0)
        return error_wrap(err, "could not read the backup label that the server made");
    if (label.start_lsn != header->start_lsn)
        return error_set(
            err, ERROR_CORRUPT, "the backup label names another start than the server did");
    if (label.start_tli != header->tli || now_tli != header->tli)
    {
        (void) error_set(
            err, ERROR_CONFLICT,
            "the timeline changed from %" PRIu32 " to %" PRIu32 " during the backup",
            label.start_tli, now_tli);
        return error_hint(err, "Run it again: a backup must lie on one timeline.");
    }
    header->from_standby = label.from_standby;
    return 0;
}

static int
local_read_summaries(LocalRun *local, Error *err)
{
    BackupRun *run = local->run;
    SummariesRange range = {
        .history = &run->history,
        .tli = run->header.tli,
        .start = run->parent.header.start_lsn,
        .end = run->header.start_lsn};
    Error reason = {0};

    if (!run->options.incremental || run->server.pg_major < 17)
        return 0;
    if (summaries_read(&run->server, &range, run->cancel, &local->summaries, &reason) < 0)
    {
        *err = reason;
        return -1;
    }
    if (local->summaries == NULL)
        log_write(LOG_INFO, "looking at each page instead of WAL summaries: %s", reason.msg);
    return 0;
}

static int
local_run(LocalRun *local, BackupEnd *end, Error *err)
{
    BackupRun *run = local->run;
    WalkOptions walk = {
        .data = local->data,
        .pg_major = run->server.pg_major,
        .catalog_version = run->server.catalog_version,
        .scratch = run->repo->scratch};

    local->data_fd = open(local->data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (local->data_fd < 0)
        return error_sys(err, "could not open data directory \"%s\"", local->data);
    if (local_begin(local, err) < 0 || local_read_summaries(local, err) < 0)
        return -1;
    if (walk_data_directory(&walk, &local->walk, err) < 0 || local_find_large(local, err) < 0)
        return -1;
    tablespace_map_reset(&run->header.tablespaces);
    run->header.tablespaces = local->walk.tablespaces;
    local->walk.tablespaces = (TablespaceMap){0};

    progress_begin(&run->progress, "backing up", local->walk.bytes);
    if (local_copy_all(local, err) < 0)
    {
        progress_end(&run->progress);
        return -1;
    }
    progress_end(&run->progress);
    if (local_read_control(local, end, err) < 0)
        return -1;
    return local_end(local, end, err);
}

int
source_local_run(BackupRun *run, BackupEnd *end, Error *err)
{
    LocalRun local = {.run = run, .data = run->cfg->cluster.data, .data_fd = -1};
    int rc = clock_cond_init(&local.ended);

    if (rc != 0 || pthread_mutex_init(&local.lock, NULL) != 0)
        return error_nomem(err);
    rc = local_run(&local, end, err);
    server_close(&run->server);
    (void) pthread_cond_destroy(&local.ended);
    (void) pthread_mutex_destroy(&local.lock);
    summaries_free(local.summaries);
    free(local.large);
    walk_reset(&local.walk);
    fd_close(&local.data_fd);
    return rc;
}
