/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Comparing and clearing what is there; see delta.h.
 */
#include "walrestore/delta.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/workers.h"
#include "repo/file_digest.h"

#define DELTA_DEPTH_MAX 64

/* One walk over the directory and the tablespaces: to look, or to remove. */
typedef struct DeltaWalk
{
    const Place *place;
    const Plan *plan;
    bool remove;
    uint64_t there_bytes; /* of regular files in this tree */
    uint64_t compare_bytes;
    uint64_t removed;
} DeltaWalk;

/* What is written anew in any case, because it is changed after it was restored. */
static bool
delta_is_special(const char *path)
{
    static const char *const special[] = {
        PLAN_CONTROL, "backup_label", "tablespace_map", "postgresql.auto.conf"};

    for (size_t i = 0; i < ARRAY_COUNT(special); i++)
        if (strcmp(path, special[i]) == 0)
            return true;
    return false;
}

static PlanFile *
delta_find(const Plan *plan, const char *path, const BackupFile **entry)
{
    *entry = manifest_find(&plan->newest, path);
    return *entry == NULL ? NULL : plan_file(plan, (size_t) (*entry - plan->newest.files));
}

/* Whether a folder of this path is one of the restored directory's. */
static bool
delta_is_folder(const DeltaWalk *walk, const char *path)
{
    static const char *const needed[] = {"pg_tblspc", "pg_wal", "global"};
    const char *rest = NULL;
    uint32_t oid = plan_path_tablespace(path, &rest);
    const BackupFile *entry;
    const PlanFile *file = delta_find(walk->plan, path, &entry);

    /* where a link has to be */
    if (oid != 0 && rest[0] == '\0' && place_find_tablespace(walk->place, oid) != NULL)
        return false;
    for (size_t i = 0; i < ARRAY_COUNT(needed); i++)
        if (strcmp(path, needed[i]) == 0)
            return true;
    return file != NULL && file->state == PLAN_FOLDER;
}

static void
delta_close_dir(DIR **dir)
{
    if (*dir != NULL)
        (void) closedir(*dir);
}

/* Takes the descriptor. */
static int
delta_open_dir(int fd, const char *path, DIR **out, Error *err)
{
    *out = fdopendir(fd);
    if (*out != NULL)
        return 0;
    (void) error_sys(err, "could not read directory \"%s\"", path);
    fd_close(&fd);
    return -1;
}

static int
delta_walk_folder(DeltaWalk *walk, int fd, const char *path, bool all, int depth, Error *err);

/* A folder in dir; all: everything in it, and itself, goes. */
static int
delta_walk_subfolder(
    DeltaWalk *walk, int dir, const char *name, const char *path, bool all, int depth, Error *err)
{
    int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return error_sys(err, "could not open directory \"%s\"", path);
    if (depth == DELTA_DEPTH_MAX)
    {
        fd_close(&fd);
        return error_set(err, ERROR_IO, "directory \"%s\" is nested too deeply", path);
    }
    if (delta_walk_folder(walk, fd, path, all, depth + 1, err) < 0)
        return -1;
    if (all && walk->remove && unlinkat(dir, name, AT_REMOVEDIR) < 0)
        return error_sys(err, "could not remove directory \"%s\"", path);
    return 0;
}

static void
delta_look_at_file(DeltaWalk *walk, const char *path, const struct stat *st)
{
    const BackupFile *entry;
    PlanFile *file = delta_find(walk->plan, path, &entry);

    walk->there_bytes += (uint64_t) st->st_blocks * 512;
    /* a file with a second name is not only ours */
    if (file == NULL || file->state != PLAN_FETCH || entry->kind != BACKUP_FILE_WHOLE ||
        entry->bytes == 0 || (uint64_t) st->st_size != entry->bytes || st->st_nlink != 1 ||
        delta_is_special(path))
        return;
    file->present = true;
    walk->compare_bytes += entry->bytes;
}

/* One name in dir; all: nothing of it stays. */
static int
delta_walk_entry(
    DeltaWalk *walk, int dir, const char *name, const char *path, bool all, int depth, Error *err)
{
    const BackupFile *entry;
    const PlanFile *file;
    struct stat st;

    if (strcmp(path, PLACE_MARKER) == 0)
        return 0;
    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return error_sys(err, "could not look at \"%s\"", path);
    if (S_ISDIR(st.st_mode))
        return delta_walk_subfolder(
            walk, dir, name, path, all || !delta_is_folder(walk, path), depth, err);
    if (!walk->remove)
    {
        if (S_ISREG(st.st_mode) && all)
            walk->there_bytes += (uint64_t) st.st_blocks * 512;
        else if (S_ISREG(st.st_mode))
            delta_look_at_file(walk, path, &st);
        return 0;
    }
    file = delta_find(walk->plan, path, &entry);
    if (!all && file != NULL && file->state == PLAN_KEEP)
        return 0;
    if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
        return error_sys(err, "could not remove \"%s\"", path);
    walk->removed++;
    return 0;
}

/* Takes the descriptor. path is relative to the data directory; "" is itself. */
static int
delta_walk_folder(DeltaWalk *walk, int fd, const char *path, bool all, int depth, Error *err)
{
    AUTO(delta_close_dir) DIR *dir = NULL;
    const struct dirent *entry;

    if (delta_open_dir(fd, path, &dir, err) < 0)
        return -1;
    for (errno = 0; (entry = readdir(dir)) != NULL; errno = 0)
    {
        char below[DATA_PATH_MAX * 4];
        const char *name = entry->d_name;

        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        if ((size_t) snprintf(
                below, sizeof below, "%s%s%s", path, path[0] != '\0' ? "/" : "", name) >=
            sizeof below)
            return error_set(err, ERROR_IO, "path \"%.200s...\" is too long", path);
        if (delta_walk_entry(walk, dirfd(dir), name, below, all, depth, err) < 0)
            return -1;
    }
    if (errno != 0)
        return error_sys(err, "could not read directory \"%s\"", path);
    return 0;
}

static int
delta_walk_tablespace(DeltaWalk *walk, const PlaceTablespace *ts, Error *err)
{
    char path[DATA_PATH_MAX];
    AUTO(fd_close) int fd = open(ts->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return error_sys(err, "could not open directory \"%s\"", ts->path);
    (void) snprintf(
        path, sizeof path, "pg_tblspc/%" PRIu32 "/%s", ts->oid, walk->place->version_folder);
    if (fstatat(fd, walk->place->version_folder, &st, AT_SYMLINK_NOFOLLOW) < 0)
    {
        if (errno == ENOENT)
            return 0;
        return error_sys(err, "could not look at \"%s/%s\"", ts->path, walk->place->version_folder);
    }
    return delta_walk_entry(walk, fd, walk->place->version_folder, path, false, 0, err);
}

static int
delta_walk_data(DeltaWalk *walk, Error *err)
{
    int fd = open(walk->place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return error_sys(err, "could not open directory \"%s\"", walk->place->path);
    if (delta_walk_folder(walk, fd, "", false, 0, err) < 0)
        return error_wrap(err, "below \"%s\"", walk->place->path);
    return 0;
}

/* ---- comparing ---- */

typedef struct DeltaCompare
{
    const Place *place;
    Plan *plan;
    Progress progress;
} DeltaCompare;

static int
delta_compare_file(DeltaCompare *c, Workers *w, size_t i, Error *err)
{
    const BackupFile *entry = plan_entry(c->plan, i);
    ChecksumAlgorithm algorithm = c->plan->newest.header.checksum;
    char path[PLACE_PATH_MAX + DATA_PATH_MAX];
    AUTO(fd_close) int fd = -1;
    FileDigest digest;

    if (place_file_path(c->place, entry->path, path, sizeof path, err) < 0)
        return -1;
    fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_sys(err, "could not open file \"%s\"", path);
    if (file_digest_read(fd, algorithm, path, &w->stop, &digest, err) < 0)
    {
        /* what cannot be read cannot be kept */
        if (err->kind != ERROR_IO)
            return -1;
        return 0;
    }
    if (file_digest_matches(&digest, algorithm, entry))
        plan_file(c->plan, i)->state = PLAN_KEEP;
    progress_add(&c->progress, entry->bytes, 1);
    return 0;
}

static int
delta_compare_main(Workers *w, void *ctx, Error *err)
{
    DeltaCompare *c = ctx;
    size_t i;

    while (workers_take(w, c->plan->newest.file_count, &i))
        if (plan_file(c->plan, i)->present && delta_compare_file(c, w, i, err) < 0)
            return -1;
    return 0;
}

int
delta_compare(
    Place *place, Plan *plan, unsigned jobs, const atomic_bool *cancel, DeltaCounts *counts,
    Error *err)
{
    DeltaWalk walk = {.place = place, .plan = plan};
    DeltaCompare compare = {.place = place, .plan = plan};
    int rc;

    if (delta_walk_data(&walk, err) < 0)
        return -1;
    place->reclaimed_bytes = walk.there_bytes;
    for (size_t i = 0; i < place->tablespace_count; i++)
    {
        PlaceTablespace *ts = &place->tablespaces[i];

        walk.there_bytes = 0;
        if (ts->ours && delta_walk_tablespace(&walk, ts, err) < 0)
            return -1;
        ts->reclaimed_bytes = walk.there_bytes;
    }
    progress_begin(&compare.progress, "comparing", walk.compare_bytes);
    rc = workers_run(jobs, delta_compare_main, &compare, &compare.progress, cancel, err);
    progress_end(&compare.progress);
    if (rc < 0)
        return -1;
    counts->compared_bytes = walk.compare_bytes;
    for (size_t i = 0; i < plan->newest.file_count; i++)
    {
        const BackupFile *entry = plan_entry(plan, i);
        uint32_t oid = plan_path_tablespace(entry->path, NULL);
        uint64_t *there = &place->reclaimed_bytes;

        if (plan_file(plan, i)->state != PLAN_KEEP)
            continue;
        for (size_t k = 0; oid != 0 && k < place->tablespace_count; k++)
            if (place->tablespaces[k].oid == oid && !place->tablespaces[k].in_place)
                there = &place->tablespaces[k].reclaimed_bytes;
        *there -= MIN(*there, entry->bytes);
    }
    return 0;
}

int
delta_clean(const Place *place, const Plan *plan, DeltaCounts *counts, Error *err)
{
    DeltaWalk walk = {.place = place, .plan = plan, .remove = true};
    int rc = delta_walk_data(&walk, err);

    for (size_t i = 0; rc == 0 && i < place->tablespace_count; i++)
        if (place->tablespaces[i].ours)
            rc = delta_walk_tablespace(&walk, &place->tablespaces[i], err);
    if (rc < 0)
        return error_wrap(err, "could not remove what does not belong");
    counts->removed_files = walk.removed;
    return 0;
}
