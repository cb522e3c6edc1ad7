/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * One file of the data directory into a bundle; see local.h.
 *
 * The server writes meanwhile. What it changes after the start LSN comes again from WAL, so a file
 * may be a mixture of moments. Its size is that of the moment it was opened: what is appended later
 * is left to WAL, what was cut off is filled with zeros, as PostgreSQL's own backups do.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/log.h"
#include "pg/incremental_file.h"
#include "repo/file_digest.h"
#include "walbackup/changes.h"
#include "walbackup/local.h"
#include "walbackup/resume.h"

#define LOCAL_DAMAGE_WARNINGS 100
#define LOCAL_PAGE_TRIES 3
#define LOCAL_PAGE_PAUSE_MS 50
#define LOCAL_PAUSES_MAX 200 /* a file of garbage must not take hours */
#define LOCAL_PAGES_PER_READ (LOCAL_READ_BYTES / DATA_PAGE_BYTES)

/* A file being copied. */
typedef struct LocalFile
{
    LocalCopier *c;
    int fd;
    char path[DATA_PATH_MAX];
    uint64_t bytes;
    uint64_t listed_bytes; /* that it had when it was listed: what progress counts on */
    uint64_t shown_bytes;  /* of these, in progress */
    bool pages;            /* of a relation, in whole pages with checksums */
    RelationFile rel;
    bool buffered; /* all of it is in the copier's buffer */
    BackupFile line;
} LocalFile;

static void
local_file_reset(LocalFile *f)
{
    fd_close(&f->fd);
    backup_file_reset(&f->line);
}

/* ---- copier ---- */

int
local_copier_init(LocalRun *local, LocalCopier *out, Error *err)
{
    *out = (LocalCopier){.local = local, .buf = fs_alloc_io(LOCAL_READ_BYTES)};
    if (out->buf == NULL)
        return error_nomem(err);
    return bundle_writer_new(local->run->bundles, &out->writer, err);
}

void
local_copier_reset(LocalCopier *c)
{
    bundle_writer_free(c->writer);
    free(c->buf);
    *c = (LocalCopier){0};
}

static void
local_look_up_owner(LocalOwner *owner, uid_t uid, gid_t gid)
{
    char buf[4096];
    struct passwd pw, *user = NULL;
    struct group gr, *group = NULL;

    if (owner->known && owner->uid == uid && owner->gid == gid)
        return;
    *owner = (LocalOwner){.known = true, .uid = uid, .gid = gid};
    if (getpwuid_r(uid, &pw, buf, sizeof buf, &user) == 0 && user != NULL)
        (void) snprintf(owner->user, sizeof owner->user, "%s", user->pw_name);
    if (getgrgid_r(gid, &gr, buf, sizeof buf, &group) == 0 && group != NULL)
        (void) snprintf(owner->group, sizeof owner->group, "%s", group->gr_name);
}

int
local_copy_folder(LocalCopier *c, const WalkFolder *folder, Error *err)
{
    const char *path = walk_folder_path(&c->local->walk, folder);
    BackupFile line = {.kind = BACKUP_FILE_FOLDER, .mode = folder->mode};

    if (path[0] == '\0')
        return 0; /* the data directory itself */
    local_look_up_owner(&c->owner, folder->uid, folder->gid);
    line.path = path;
    line.user = c->owner.user;
    line.group = c->owner.group;
    line.modified_s = folder->modified_s;
    return bundle_writer_begin_file(c->writer, &line, err);
}

/* ---- reading ---- */

/* Progress within a file, some of which is read twice. */
static void
local_show(LocalFile *f, uint64_t bytes)
{
    uint64_t more = MIN(bytes, f->listed_bytes - f->shown_bytes);

    f->shown_bytes += more;
    progress_add(&f->c->local->run->progress, more, 0);
}

/*
 * Fills len bytes from at; *got is how many the file still has, the rest is zeros.
 */
static int
local_read(LocalFile *f, void *buf, size_t len, uint64_t at, size_t *got, Error *err)
{
    BackupRun *run = f->c->local->run;

    if (atomic_load(&f->c->local->stop) || atomic_load(run->cancel))
        return error_set(err, ERROR_CANCELED, "canceled");
    if (fs_pread_full(f->fd, buf, len, (off_t) at, got, f->path, err) < 0)
        return -1;
    memset((uint8_t *) buf + *got, 0, len - *got);
    backup_run_throttle(run, *got, &f->c->local->stop);
    local_show(f, *got);
    return 0;
}

static uint32_t
local_fork_block(const LocalFile *f, uint32_t block)
{
    return f->rel.segment * DATA_SEGMENT_BLOCKS + block;
}

/* A page that was being written when it was read is right the next time. */
static int
local_retry_page(LocalFile *f, uint8_t *page, uint32_t block, bool *good, Error *err)
{
    LocalRun *local = f->c->local;
    Lsn start = local->run->header.start_lsn;
    uint8_t again[DATA_PAGE_BYTES];
    Deadline dl = deadline_after_ms(-1, local->run->cancel);
    size_t got;

    *good = false;
    for (int i = 1; i < LOCAL_PAGE_TRIES && !*good; i++)
    {
        if (fs_pread_full(
                f->fd, again, sizeof again, (off_t) block * DATA_PAGE_BYTES, &got, f->path, err) <
            0)
            return -1;
        if (got < sizeof again)
        {
            *good = true; /* cut off meanwhile: WAL tells */
            break;
        }
        *good = data_page_good(again, local_fork_block(f, block), start);
        memcpy(page, again, sizeof again);
        if (!*good && atomic_fetch_add(&local->pauses, 1) < LOCAL_PAUSES_MAX)
            deadline_sleep_ms(&dl, LOCAL_PAGE_PAUSE_MS);
    }
    return 0;
}

static int
local_note_damage(LocalFile *f, const uint8_t *page, uint32_t block, Error *err)
{
    LocalRun *local = f->c->local;
    unsigned logged = atomic_fetch_add(&local->damage_logged, 1);

    (void) atomic_fetch_add(&local->run->damaged_blocks, 1);
    if (logged < LOCAL_DAMAGE_WARNINGS)
        log_write(
            LOG_WARNING,
            "page checksum mismatch in file \"%s\", block %" PRIu32 ": it has %04X, %04X is right",
            f->path, block, data_page_stored_checksum(page),
            data_page_checksum(page, local_fork_block(f, block)));
    else if (logged == LOCAL_DAMAGE_WARNINGS)
        log_write(LOG_WARNING, "more pages are damaged; they are in the backup's manifest only");
    return block_set_add(&f->line.damaged, block, 1, err);
}

/*
 * Checks count pages in buf, the first of which is block; reads those again that are wrong, and
 * records those that stay so.
 */
static int
local_check_pages(LocalFile *f, uint8_t *buf, uint32_t block, size_t count, Error *err)
{
    Lsn start = f->c->local->run->header.start_lsn;

    if (!f->pages)
        return 0;
    for (size_t i = 0; i < count; i++)
    {
        uint8_t *page = buf + i * DATA_PAGE_BYTES;
        uint32_t number = block + (uint32_t) i;
        bool good = data_page_good(page, local_fork_block(f, number), start);

        if (!good && local_retry_page(f, page, number, &good, err) < 0)
            return -1;
        if (!good && local_note_damage(f, page, number, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- what is stored, or would be ---- */

/* Into the bundle; with d only into its digests. */
static int
local_pass(LocalFile *f, FileDigester *d, const void *data, size_t len, Error *err)
{
    return d != NULL ? file_digester_add(d, data, len, err)
                     : bundle_writer_write(f->c->writer, data, len, err);
}

/* All of the file; it stays in the buffer if it fits. */
static int
local_pass_whole(LocalFile *f, FileDigester *d, bool check, Error *err)
{
    uint8_t *buf = f->c->buf;

    for (uint64_t at = 0; at < f->bytes; at += LOCAL_READ_BYTES)
    {
        size_t len = (size_t) MIN(f->bytes - at, LOCAL_READ_BYTES);
        uint32_t block = (uint32_t) (at / DATA_PAGE_BYTES);
        size_t got = len;

        if ((!f->buffered && local_read(f, buf, len, at, &got, err) < 0) ||
            (check && local_check_pages(f, buf, block, got / DATA_PAGE_BYTES, err) < 0) ||
            local_pass(f, d, buf, len, err) < 0)
            return -1;
    }
    f->buffered = f->bytes <= LOCAL_READ_BYTES;
    return 0;
}

/* Pages are checked when they are stored. */
static int
local_pass_unchecked(LocalFile *f, FileDigester *d, Error *err)
{
    return local_pass_whole(f, d, false, err);
}

static int
local_pass_range(LocalFile *f, FileDigester *d, BlockRange range, Error *err)
{
    for (uint32_t done = 0; done < range.count;)
    {
        uint32_t pages = MIN(range.count - done, LOCAL_PAGES_PER_READ);
        uint64_t at = (uint64_t) (range.first + done) * DATA_PAGE_BYTES;
        uint8_t *buf = f->buffered ? f->c->buf + at : f->c->buf;
        size_t got = (size_t) pages * DATA_PAGE_BYTES;

        if (!f->buffered && local_read(f, buf, got, at, &got, err) < 0)
            return -1;
        if (local_check_pages(f, buf, range.first + done, got / DATA_PAGE_BYTES, err) < 0 ||
            local_pass(f, d, buf, (size_t) pages * DATA_PAGE_BYTES, err) < 0)
            return -1;
        done += pages;
    }
    return 0;
}

/* An incremental file of the blocks in line.blocks. */
static int
local_pass_incremental(LocalFile *f, FileDigester *d, Error *err)
{
    uint64_t header_bytes = incremental_header_bytes((uint32_t) block_set_blocks(&f->line.blocks));
    AUTO(free_text) char *header = malloc(header_bytes);

    if (header == NULL)
        return error_nomem(err);
    incremental_format_header(&f->line.blocks, f->line.truncation_blocks, (uint8_t *) header);
    if (local_pass(f, d, header, header_bytes, err) < 0)
        return -1;
    for (size_t i = 0; i < f->line.blocks.count; i++)
        if (local_pass_range(f, d, f->line.blocks.ranges[i], err) < 0)
            return -1;
    return 0;
}

/* What line says is stored. */
static int
local_pass_content(LocalFile *f, FileDigester *d, Error *err)
{
    return f->line.kind == BACKUP_FILE_WHOLE ? local_pass_whole(f, d, true, err)
                                             : local_pass_incremental(f, d, err);
}

/* Of what pass lets pass. */
static int
local_digest(
    LocalFile *f, int (*pass)(LocalFile *f, FileDigester *d, Error *err), FileDigest *out,
    Error *err)
{
    AUTO(file_digester_freep) FileDigester *d = NULL;

    if (file_digester_new(f->c->local->run->options.checksum, &d, err) < 0 ||
        file_digester_begin(d, err) < 0 || pass(f, d, err) < 0)
        return -1;
    return file_digester_end(d, out, err);
}

/* ---- what a failed backup has stored ---- */

/* *taken: the content that line says is there. */
static int
local_take_up(LocalFile *f, bool *taken, Error *err)
{
    BackupRun *run = f->c->local->run;
    FileDigest digest;

    *taken = false;
    if (!resume_has(run->resume, &f->line))
        return 0;
    if (local_digest(f, local_pass_content, &digest, err) < 0 ||
        resume_take(run->resume, &f->line, &digest, taken, err) < 0)
        return -1;
    if (*taken)
        return 0;
    /* they are found again when the file is stored */
    (void) atomic_fetch_sub(&run->damaged_blocks, block_set_blocks(&f->line.damaged));
    block_set_reset(&f->line.damaged);
    return 0;
}

/* ---- storing ---- */

static int
local_put(LocalFile *f, Error *err)
{
    BundleWriter *writer = f->c->writer;
    bool taken;

    if (local_take_up(f, &taken, err) < 0)
        return -1;
    if (taken)
        return 0;
    if (bundle_writer_begin_file(writer, &f->line, err) < 0 || local_pass_content(f, NULL, err) < 0)
        return -1;
    return bundle_writer_end_file(writer, err);
}

static int
local_store_whole(LocalFile *f, Error *err)
{
    f->line.kind = BACKUP_FILE_WHOLE;
    f->line.stored_bytes = f->bytes;
    return local_put(f, err);
}

/* The blocks in line.blocks, none of them: nothing has changed. */
static int
local_store_incremental(LocalFile *f, Error *err)
{
    f->line.kind = BACKUP_FILE_INCREMENTAL;
    f->line.truncation_blocks = (uint32_t) (f->bytes / DATA_PAGE_BYTES);
    f->line.stored_bytes = incremental_file_bytes((uint32_t) block_set_blocks(&f->line.blocks));
    return local_put(f, err);
}

/* ---- what has changed ---- */

/* Looks at each page. One with a wrong checksum is stored: what it says of itself is not to be
 * trusted. */
static int
local_find_changed_pages(LocalFile *f, const BackupFile *entry, BlockSet *changed, Error *err)
{
    const BackupRun *run = f->c->local->run;

    for (uint64_t at = 0; at < f->bytes; at += LOCAL_READ_BYTES)
    {
        size_t len = (size_t) MIN(f->bytes - at, LOCAL_READ_BYTES);
        uint32_t first = (uint32_t) (at / DATA_PAGE_BYTES);
        size_t got;

        if (local_read(f, f->c->buf, len, at, &got, err) < 0)
            return -1;
        for (uint32_t i = 0; i < len / DATA_PAGE_BYTES; i++)
        {
            const uint8_t *page = f->c->buf + (size_t) i * DATA_PAGE_BYTES;

            if (!change_page(page, first + i, run->parent.header.start_lsn, entry) &&
                (!f->pages ||
                 data_page_good(page, local_fork_block(f, first + i), run->header.start_lsn)))
                continue;
            if (block_set_add(changed, first + i, 1, err) < 0)
                return -1;
        }
    }
    f->buffered = f->bytes <= LOCAL_READ_BYTES;
    return 0;
}

static int
local_store_pages(LocalFile *f, const BackupFile *entry, Error *err)
{
    uint32_t blocks = (uint32_t) (f->bytes / DATA_PAGE_BYTES);
    bool whole = false;
    int rc = f->c->local->summaries != NULL
                 ? summaries_find(
                       f->c->local->summaries, &f->rel, blocks,
                       (uint32_t) (entry->bytes / DATA_PAGE_BYTES), &whole, &f->line.blocks, err)
                 : local_find_changed_pages(f, entry, &f->line.blocks, err);

    if (rc < 0 || (!whole && change_add_damaged(entry, blocks, &f->line.blocks, err) < 0))
        return -1;
    if (!whole && !change_nearly_all(block_set_blocks(&f->line.blocks), blocks))
        return local_store_incremental(f, err);
    block_set_reset(&f->line.blocks);
    return local_store_whole(f, err);
}

static int
local_store_if_other(LocalFile *f, const BackupFile *entry, Error *err)
{
    FileDigest digest;

    if (local_digest(f, local_pass_unchecked, &digest, err) < 0)
        return -1;
    if (memcmp(digest.xxh128, entry->xxh128, sizeof digest.xxh128) == 0)
        return local_store_incremental(f, err);
    return local_store_whole(f, err);
}

/* ---- one file ---- */

/* 1 when it is there, 0 when it has vanished. */
static int
local_open(LocalFile *f, Error *err)
{
    LocalRun *local = f->c->local;
    LocalOwner *owner = &f->c->owner;
    struct stat sb;

    f->fd = openat(local->data_fd, f->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (f->fd < 0 && errno == ENOENT)
    {
        (void) atomic_fetch_add(&local->run->vanished_files, 1);
        return 0;
    }
    if (f->fd < 0 || fstat(f->fd, &sb) < 0)
    {
        (void) error_sys(err, "could not open \"%s/%s\"", local->data, f->path);
        if (err->kind == ERROR_DENIED)
            return error_hint(err, WALK_OWNER_HINT);
        return -1;
    }
    if (!S_ISREG(sb.st_mode))
        return error_set(
            err, ERROR_IO, "\"%s/%s\" is not a regular file any more", local->data, f->path);
    f->bytes = (uint64_t) sb.st_size;
    local_look_up_owner(owner, sb.st_uid, sb.st_gid);
    f->line = (BackupFile){
        .path = f->path,
        .mode = sb.st_mode & 07777,
        .user = owner->user,
        .group = owner->group,
        .modified_s = sb.st_mtim.tv_sec,
        .bytes = f->bytes};
    f->pages = data_file_parse_relation(f->path, &f->rel) && local->run->header.data_checksums;
    if (f->bytes > LOCAL_READ_BYTES)
        (void) posix_fadvise(f->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    return 1;
}

static int
local_store(LocalFile *f, Error *err)
{
    LocalRun *local = f->c->local;
    BackupRun *run = local->run;
    const BackupFile *entry;

    switch (change_rule(
        run->options.incremental ? &run->parent : NULL, &run->header, local->summaries != NULL,
        f->path, f->bytes, &entry))
    {
        case CHANGE_WHOLE:
            break;
        case CHANGE_DIGEST:
            return local_store_if_other(f, entry, err);
        case CHANGE_PAGES:
            return local_store_pages(f, entry, err);
        case CHANGE_LEAVE_OUT:
            return 0;
    }
    return local_store_whole(f, err);
}

int
local_copy_file(LocalCopier *c, const WalkFile *file, Error *err)
{
    AUTO(local_file_reset) LocalFile f = {.c = c, .fd = -1, .listed_bytes = file->bytes};
    int there;

    (void) walk_file_path(&c->local->walk, file, f.path);
    there = local_open(&f, err);
    if (there < 0)
        return -1;
    if (there == 1 && local_store(&f, err) < 0)
        return err->kind == ERROR_CANCELED ? -1 : error_wrap(err, "file \"%s\"", f.path);
    progress_add(&c->local->run->progress, f.listed_bytes - f.shown_bytes, 1);
    return 0;
}
