/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The engine of a restore; see parts.h.
 */
#include "walrestore/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/crc32c.h"
#include "common/fs.h"
#include "common/workers.h"
#include "pg/data_page.h"
#include "repo/bundle_read.h"
#include "repo/file_digest.h"

#define PARTS_LOCKS 64
/* Threads for each job: one of them waits for the store while another one unpacks. */
#define PARTS_CONNECTIONS 2
/* Written in a row: then the disk begins with it; less than the least is left to the end. */
#define PARTS_WRITEBACK_BYTES (8u * 1024u * 1024u)
#define PARTS_WRITEBACK_LEAST (512u * 1024u)
#define PARTS_WRITEBACK_GAP (64u * 1024u) /* not written, but passed over in a row */

/* What the threads share. */
typedef struct Parts
{
    const PartsRun *run;
    PlanPart **wanted; /* owned: in the order in which they are fetched */
    const PlanLayer **layers;
    size_t count;
    pthread_mutex_t locks[PARTS_LOCKS]; /* of file i: i % PARTS_LOCKS; guards PlanFile.created */
    sem_t unpack;                       /* as many threads as jobs may be at it */
} Parts;

/* What belongs to one thread. */
typedef struct PartsWorker
{
    Parts *parts;
    BundleReader *reader;
    int fd; /* of the file written last; -1: none */
    size_t file;
    uint64_t dirty_from, dirty_to; /* of it: written and not on its way to the disk */
    const PlanPart *part;          /* for messages */
} PartsWorker;

static const char *
parts_file_name(const BackupFile *entry)
{
    return strcmp(entry->path, PLAN_CONTROL) == 0 ? PLACE_CONTROL_PENDING : entry->path;
}

/* ---- files ---- */

/* Makes the file with its length, mode and owner; other workers must be able to open it, too. */
static int
parts_create_file(const PartsRun *run, const BackupFile *entry, int *out, Error *err)
{
    const Place *place = run->place;
    const char *name = parts_file_name(entry);
    AUTO(fd_close)
    int fd = openat(place->fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    mode_t mode = (entry->mode & 07777) | 0600;
    uid_t uid;
    gid_t gid;

    if (fd < 0)
        return error_sys(err, "could not create file \"%s/%s\"", place->path, name);
    if (mode != 0600 && fchmod(fd, mode) < 0)
        return error_sys(err, "could not set the mode of file \"%s/%s\"", place->path, name);
    if (place_owner(place, entry->user, entry->group, &uid, &gid) && fchown(fd, uid, gid) < 0)
        return error_sys(err, "could not change the owner of file \"%s/%s\"", place->path, name);
    if (entry->bytes > 0 && ftruncate(fd, (off_t) entry->bytes) < 0)
        return error_sys(
            err, "could not give file \"%s/%s\" its length of %" PRIu64 " bytes", place->path, name,
            entry->bytes);
    *out = fd_steal(&fd);
    return 0;
}

/*
 * Lets the disk begin with what was written, while the next parts are fetched and decompressed.
 * Nothing is durable by this, and an error of the disk is told by the sync at the end.
 */
static void
parts_start_writeback(PartsWorker *w)
{
    if (w->fd >= 0 && w->dirty_to - w->dirty_from >= PARTS_WRITEBACK_LEAST)
        (void) sync_file_range(
            w->fd, (off_t) w->dirty_from, (off_t) (w->dirty_to - w->dirty_from),
            SYNC_FILE_RANGE_WRITE);
    w->dirty_from = w->dirty_to = 0;
}

static void
parts_note_written(PartsWorker *w, uint64_t at, uint64_t len)
{
    if (at < w->dirty_to || at - w->dirty_to > PARTS_WRITEBACK_GAP)
    {
        parts_start_writeback(w);
        w->dirty_from = at;
    }
    w->dirty_to = at + len;
    if (w->dirty_to - w->dirty_from >= PARTS_WRITEBACK_BYTES)
    {
        parts_start_writeback(w);
        w->dirty_from = w->dirty_to = at + len;
    }
}

static void
parts_close_file(PartsWorker *w)
{
    parts_start_writeback(w);
    fd_close(&w->fd);
    w->fd = -1;
}

/* The file for writing; the first to come makes it. */
static int
parts_open_file(PartsWorker *w, size_t i, Error *err)
{
    const PartsRun *run = w->parts->run;
    const BackupFile *entry = plan_entry(run->plan, i);
    pthread_mutex_t *lock = &w->parts->locks[i % PARTS_LOCKS];
    int rc = 0;

    if (w->fd >= 0 && w->file == i)
        return 0;
    parts_close_file(w);
    w->file = i;
    (void) pthread_mutex_lock(lock);
    if (!plan_file(run->plan, i)->created)
    {
        rc = parts_create_file(run, entry, &w->fd, err);
        plan_file(run->plan, i)->created = rc == 0;
    }
    (void) pthread_mutex_unlock(lock);
    if (rc < 0 || w->fd >= 0)
        return rc;
    w->fd = openat(run->place->fd, parts_file_name(entry), O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
    if (w->fd < 0)
        return error_sys(
            err, "could not open file \"%s/%s\"", run->place->path, parts_file_name(entry));
    return 0;
}

static int
parts_pwrite(
    const PartsWorker *w, const BackupFile *entry, const uint8_t *data, uint64_t len, uint64_t at,
    Error *err)
{
    while (len > 0)
    {
        ssize_t n = pwrite(w->fd, data, len, (off_t) at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_sys(
                err, "could not write file \"%s/%s\"", w->parts->run->place->path,
                parts_file_name(entry));
        data += n;
        at += (uint64_t) n;
        len -= (uint64_t) n;
    }
    return 0;
}

/* All but the pages of the file that are zero, which the length has made. */
static int
parts_write_sparse(
    const PartsWorker *w, const BackupFile *entry, const uint8_t *data, uint64_t len, uint64_t at,
    Error *err)
{
    uint64_t from = 0; /* first byte that was neither written nor passed over */
    uint64_t pos = (DATA_PAGE_BYTES - at % DATA_PAGE_BYTES) % DATA_PAGE_BYTES;

    for (; pos + DATA_PAGE_BYTES <= len; pos += DATA_PAGE_BYTES)
    {
        if (!data_page_is_zero(data + pos))
            continue;
        if (pos > from && parts_pwrite(w, entry, data + from, pos - from, at + from, err) < 0)
            return -1;
        from = pos + DATA_PAGE_BYTES;
    }
    if (from < len)
        return parts_pwrite(w, entry, data + from, len - from, at + from, err);
    return 0;
}

void
parts_checksum(const Plan *plan, size_t file, uint8_t *out)
{
    const BackupFile *entry = plan_entry(plan, file);
    const PlanFile *state = plan_file(plan, file);

    memset(out, 0, CHECKSUM_MAX_BYTES);
    if (state->has_sha256)
        memcpy(out, state->sha256, SHA256_BYTES);
    else if (entry->kind == BACKUP_FILE_WHOLE && state->state != PLAN_ZERO)
        memcpy(out, entry->checksum, CHECKSUM_MAX_BYTES);
    else if (plan->newest.header.checksum == CHECKSUM_CRC32C)
        checksum_from_crc32c(
            crc32c_whole((uint32_t) atomic_load(&state->pieces), entry->bytes), out);
}

/* The last byte of a file has come. */
static int
parts_check_file(const PartsWorker *w, size_t i, Error *err)
{
    const Plan *plan = w->parts->run->plan;
    const BackupFile *entry = plan_entry(plan, i);
    uint8_t got[CHECKSUM_MAX_BYTES];

    if (plan->newest.header.checksum != CHECKSUM_CRC32C || entry->kind != BACKUP_FILE_WHOLE)
        return 0;
    checksum_from_crc32c(
        crc32c_whole((uint32_t) atomic_load(&plan_file(plan, i)->pieces), entry->bytes), got);
    if (memcmp(got, entry->checksum, checksum_bytes(CHECKSUM_CRC32C)) == 0)
        return 0;
    return error_set(
        err, ERROR_CORRUPT,
        "file \"%s\" does not have the checksum of the manifest (its last bytes are in part "
        "%" PRIu32 " of bundle %" PRIu32 " of backup \"%s\")",
        entry->path, w->part->part.part, w->part->part.owner_bundle, w->part->part.owner);
}

static int
parts_write(PartsWorker *w, size_t i, const uint8_t *data, uint64_t len, uint64_t at, Error *err)
{
    const Plan *plan = w->parts->run->plan;
    const BackupFile *entry = plan_entry(plan, i);
    PlanFile *file = plan_file(plan, i);

    if (len > entry->bytes || at > entry->bytes - len)
        return error_set(
            err, ERROR_CORRUPT, "the manifest has content behind the end of file \"%s\"",
            entry->path);
    if (parts_open_file(w, i, err) < 0 || parts_write_sparse(w, entry, data, len, at, err) < 0)
        return -1;
    parts_note_written(w, at, len);
    if (plan->newest.header.checksum == CHECKSUM_CRC32C)
        (void) atomic_fetch_xor(&file->pieces, crc32c_piece(data, len, entry->bytes - at - len));
    if (atomic_fetch_sub(&file->left, len) == len)
        return parts_check_file(w, i, err);
    return 0;
}

/* ---- parts ---- */

/* What is wanted of the frame that holds the archive's bytes from start on. */
static int
parts_take_frame(
    PartsWorker *w, const PlanLayer *layer, size_t first, const uint8_t *data, uint64_t start,
    uint64_t len, Error *err)
{
    const Plan *plan = w->parts->run->plan;

    for (size_t i = first; i < layer->piece_count; i++)
    {
        const PlanPiece *piece = &layer->pieces[i];
        uint64_t from, to;
        PlanRun run;

        if (piece->bundle != w->part->part.bundle || piece->offset >= start + len)
            break;
        if (plan_file(plan, piece->file)->state != PLAN_FETCH)
            continue;
        from = start > piece->offset ? start - piece->offset : 0;
        to = start + len - piece->offset;
        while (plan_piece_run(piece, from, to, &run))
        {
            if (parts_write(
                    w, piece->file, data + (piece->offset + run.content - start), run.bytes, run.to,
                    err) < 0)
                return -1;
            from = run.content + run.bytes;
        }
    }
    return 0;
}

/* Whether anything of [start, end) is wanted. *first moves to the first piece that may be in it. */
static bool
parts_frame_wanted(
    const Plan *plan, const PlanLayer *layer, uint32_t bundle, uint64_t start, uint64_t end,
    size_t *first)
{
    while (*first < layer->piece_count && layer->pieces[*first].bundle == bundle &&
           layer->pieces[*first].offset + layer->pieces[*first].stored_bytes <= start)
        (*first)++;
    return plan_range_wanted(plan, layer, bundle, start, end, *first);
}

/* The fetched part's frames, decompressed and written. */
static int
parts_unpack(PartsWorker *w, const PlanLayer *layer, Error *err)
{
    const BackupPart *part = &w->part->part;
    const PartsRun *run = w->parts->run;
    uint64_t start = plan_part_start(part), end = plan_part_end(part);
    size_t first = w->part->piece;

    for (uint32_t i = 0; i < part->frame_count; i++, start += BACKUP_FRAME_BYTES)
    {
        const uint8_t *data;
        size_t len;

        if (!parts_frame_wanted(
                run->plan, layer, part->bundle, start,
                MIN(start + (uint64_t) BACKUP_FRAME_BYTES, end), &first))
            continue;
        if (bundle_reader_frame(w->reader, i, &data, &len, err) < 0 ||
            parts_take_frame(w, layer, first, data, start, len, err) < 0)
            return -1;
    }
    if (run->progress != NULL)
        progress_add(run->progress, part->stored_bytes, 1);
    return 0;
}

static int
parts_take_part(PartsWorker *w, const PlanLayer *layer, const Deadline *dl, Error *err)
{
    int rc;

    if (bundle_reader_fetch(w->reader, &w->part->part, dl, err) < 0)
        return -1;
    while (sem_wait(&w->parts->unpack) < 0)
        ; /* interrupted */
    rc = parts_unpack(w, layer, err);
    (void) sem_post(&w->parts->unpack);
    return rc;
}

static int
parts_main(Workers *workers, void *ctx, Error *err)
{
    PartsWorker w = {.parts = ctx, .fd = -1};
    size_t i;
    int rc = bundle_reader_new(w.parts->run->repo, &w.reader, err);

    while (rc == 0 && workers_take(workers, w.parts->count, &i))
    {
        Deadline dl = deadline_after_ms(w.parts->run->timeout_ms, &workers->stop);

        w.part = w.parts->wanted[i];
        rc = parts_take_part(&w, w.parts->layers[i], &dl, err);
        if (rc < 0)
            (void) error_wrap(
                err, "could not restore part %" PRIu32 " of bundle %" PRIu32 " of backup \"%s\"",
                w.part->part.part, w.part->part.owner_bundle, w.part->part.owner);
    }
    parts_close_file(&w);
    bundle_reader_free(w.reader);
    return rc;
}

/* Every wanted part with its layer. */
static int
parts_collect(Parts *p, Error *err)
{
    const Plan *plan = p->run->plan;

    p->wanted = calloc(plan->fetch_parts + 1, sizeof(PlanPart *));
    p->layers = calloc(plan->fetch_parts + 1, sizeof(PlanLayer *));
    if (p->wanted == NULL || p->layers == NULL)
        return error_nomem(err);
    for (size_t l = 0; l < plan->layer_count; l++)
        for (size_t i = 0; i < plan->layers[l].part_count; i++)
            if (plan->layers[l].parts[i].wanted)
            {
                p->wanted[p->count] = &plan->layers[l].parts[i];
                p->layers[p->count++] = &plan->layers[l];
            }
    return 0;
}

int
parts_restore(const PartsRun *run, Error *err)
{
    Parts p = {.run = run};
    unsigned threads = MIN(run->jobs * PARTS_CONNECTIONS, (unsigned) WORKERS_MAX);
    int rc = parts_collect(&p, err);

    for (size_t i = 0; i < PARTS_LOCKS; i++)
        (void) pthread_mutex_init(&p.locks[i], NULL);
    (void) sem_init(&p.unpack, 0, run->jobs);
    if (rc == 0 && p.count > 0)
        rc = workers_run(threads, parts_main, &p, run->progress, run->cancel, err);
    (void) sem_destroy(&p.unpack);
    for (size_t i = 0; i < PARTS_LOCKS; i++)
        (void) pthread_mutex_destroy(&p.locks[i]);
    free(p.wanted);
    free(p.layers);
    return rc;
}

int
parts_try(const PartsRun *run, uint64_t *bytes, int64_t *ms, Error *err)
{
    AUTO(bundle_reader_freep) BundleReader *reader = NULL;
    Deadline dl = deadline_after_ms(run->timeout_ms, run->cancel);
    Parts p = {.run = run};
    const BackupPart *part;
    int64_t begin_ms;
    int rc = parts_collect(&p, err);

    part = p.count > 0 ? &p.wanted[0]->part : NULL;
    free(p.wanted);
    free(p.layers);
    *bytes = 0;
    *ms = 0;
    if (rc < 0 || part == NULL)
        return rc;
    if (bundle_reader_new(run->repo, &reader, err) < 0)
        return -1;
    begin_ms = clock_monotonic_ms();
    rc = bundle_reader_fetch(reader, part, &dl, err);
    for (uint32_t i = 0; rc == 0 && i < part->frame_count; i++)
    {
        const uint8_t *data;
        size_t len;

        rc = bundle_reader_frame(reader, i, &data, &len, err);
    }
    *bytes = part->stored_bytes;
    *ms = MAX(clock_monotonic_ms() - begin_ms, (int64_t) 1);
    return rc;
}

/* ---- the second pass ---- */

/* By reading: what was put together, and what has a checksum of another kind. */
static int
parts_read_back(const PartsRun *run, Workers *w, size_t i, int fd, Error *err)
{
    Plan *plan = run->plan;
    const BackupFile *entry = plan_entry(plan, i);
    ChecksumAlgorithm algorithm = plan->newest.header.checksum;
    FileDigest digest;

    if (lseek(fd, 0, SEEK_SET) < 0)
        return error_sys(err, "could not read file \"%s\"", entry->path);
    if (file_digest_read(fd, algorithm, entry->path, &w->stop, &digest, err) < 0)
        return -1;
    if (entry->kind == BACKUP_FILE_WHOLE && plan_file(plan, i)->state == PLAN_FETCH &&
        !file_digest_matches(&digest, algorithm, entry))
        return error_set(
            err, ERROR_CORRUPT,
            "file \"%s\" does not have the checksum of the manifest (its first bytes are in bundle "
            "%" PRIu32 " of backup \"%s\")",
            entry->path, entry->bundle, plan->newest.header.label);
    if (algorithm != CHECKSUM_SHA256)
        return 0;
    memcpy(plan_file(plan, i)->sha256, digest.checksum, SHA256_BYTES);
    plan_file(plan, i)->has_sha256 = true;
    return 0;
}

/* Is it one that is there after the restore? */
static bool
parts_is_file(const PlanFile *file)
{
    return file->state == PLAN_FETCH || file->state == PLAN_KEEP || file->state == PLAN_ZERO;
}

/* Files without content are made here; the last byte of all others has come. */
static int
parts_complete_main(Workers *w, void *ctx, Error *err)
{
    const PartsRun *run = ctx;
    size_t i;

    while (workers_take(w, run->plan->newest.file_count, &i))
    {
        PlanFile *file = plan_file(run->plan, i);
        const BackupFile *entry = plan_entry(run->plan, i);
        AUTO(fd_close) int fd = -1;

        if (!parts_is_file(file) || file->state == PLAN_KEEP)
            continue;
        if (file->state == PLAN_FETCH && atomic_load(&file->left) > 0)
            return error_set(
                err, ERROR_CORRUPT, "the manifest has no part with all of file \"%s\"",
                entry->path);
        if (!file->created && parts_create_file(run, entry, &fd, err) < 0)
            return -1;
        file->created = true;
    }
    return 0;
}

static int
parts_sync_file(const PartsRun *run, Workers *w, size_t i, Error *err)
{
    PlanFile *file = plan_file(run->plan, i);
    const BackupFile *entry = plan_entry(run->plan, i);
    const char *name = parts_file_name(entry);
    AUTO(fd_close) int fd = openat(run->place->fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    uid_t uid;
    gid_t gid;

    if (fd < 0)
        return error_sys(err, "could not open file \"%s/%s\"", run->place->path, name);
    if (file->state == PLAN_KEEP)
    {
        if (place_owner(run->place, entry->user, entry->group, &uid, &gid) &&
            fchown(fd, uid, gid) < 0)
            return error_sys(
                err, "could not change the owner of file \"%s/%s\"", run->place->path, name);
    }
    else if (
        run->plan->newest.header.checksum != CHECKSUM_CRC32C &&
        parts_read_back(run, w, i, fd, err) < 0)
        return -1;
    if ((file->state == PLAN_KEEP || (entry->mode & 0600) != 0600) &&
        fchmod(fd, entry->mode & 07777) < 0)
        return error_sys(err, "could not set the mode of file \"%s/%s\"", run->place->path, name);
    if (fsync(fd) < 0)
        return error_sys(err, "could not sync file \"%s/%s\"", run->place->path, name);
    return 0;
}

static int
parts_sync_folder(const PartsRun *run, const char *name, Error *err)
{
    AUTO(fd_close) int fd = openat(run->place->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0)
        return error_sys(err, "could not sync directory \"%s/%s\"", run->place->path, name);
    return 0;
}

static int
parts_sync_main(Workers *w, void *ctx, Error *err)
{
    const PartsRun *run = ctx;
    size_t i;

    while (workers_take(w, run->plan->newest.file_count, &i))
    {
        if (parts_is_file(plan_file(run->plan, i)) && parts_sync_file(run, w, i, err) < 0)
            return -1;
        if (run->progress != NULL)
            progress_add(run->progress, 0, 1);
    }
    return 0;
}

/* Folders after their files: the second round of the same threads. */
static int
parts_sync_folders_main(Workers *w, void *ctx, Error *err)
{
    const PartsRun *run = ctx;
    size_t i;

    while (workers_take(w, run->plan->newest.file_count, &i))
        if (plan_file(run->plan, i)->state == PLAN_FOLDER &&
            parts_sync_folder(run, plan_entry(run->plan, i)->path, err) < 0)
            return -1;
    return 0;
}

/*
 * All at once, which takes half the time of one file after the other (1000 files: 0.25 s instead of
 * 0.5 s). fsync of each still follows: it costs nothing then, and tells errors of older kernels.
 */
static int
parts_sync_file_systems(const PartsRun *run, Error *err)
{
    if (syncfs(run->place->fd) < 0)
        return error_sys(err, "could not sync the file system of \"%s\"", run->place->path);
    for (size_t i = 0; i < run->place->tablespace_count; i++)
    {
        const char *path = run->place->tablespaces[i].path;
        AUTO(fd_close) int fd = -1;

        if (path == NULL)
            continue;
        fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || syncfs(fd) < 0)
            return error_sys(err, "could not sync the file system of \"%s\"", path);
    }
    return 0;
}

int
parts_sync(const PartsRun *run, Error *err)
{
    PartsRun own = *run;

    if (workers_run(run->jobs, parts_complete_main, &own, run->progress, run->cancel, err) < 0 ||
        parts_sync_file_systems(run, err) < 0 ||
        workers_run(run->jobs, parts_sync_main, &own, run->progress, run->cancel, err) < 0 ||
        workers_run(run->jobs, parts_sync_folders_main, &own, run->progress, run->cancel, err) < 0)
        return -1;
    /* folders that no line of the manifest names */
    for (size_t i = 0; i < run->place->tablespace_count; i++)
        if (run->place->tablespaces[i].path != NULL &&
            fs_sync_dir(run->place->tablespaces[i].path, err) < 0)
            return -1;
    if (parts_sync_folder(run, "pg_tblspc", err) < 0 || parts_sync_folder(run, "global", err) < 0 ||
        parts_sync_folder(run, ".", err) < 0)
        return -1;
    return 0;
}
