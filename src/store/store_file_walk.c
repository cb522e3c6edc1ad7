/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Walks over the folders of a file store, for list and sweep. Each folder on the way down is read
 * whole and sorted by what its entries contribute to keys: a folder "a" sorts as "a/", so that
 * "a-b" comes before "a/b" as it does in a listing of keys. Memory is bounded by the folders on one
 * path.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fs.h"
#include "store/store_file.h"

#define WALK_DEPTH_MAX (STORE_KEY_MAX / 2 + 1)
#define WALK_FOLDER_MAX_BYTES ((size_t) 256 * 1024 * 1024)

/* One folder on the path. */
typedef struct WalkFrame
{
    DIR *dir;
    char *names; /* NUL-terminated, one behind the other; a folder's ends in '/' */
    size_t names_len, names_cap;
    char **order; /* sorted */
    size_t count, next;
    size_t path_len; /* of the folder's own path, with its '/' */
} WalkFrame;

typedef struct Walk
{
    StoreFile *st;
    const Deadline *dl;
    bool temps; /* tell temporary files, too */
    size_t depth;
    WalkFrame frames[WALK_DEPTH_MAX];
    char path[STORE_KEY_MAX + 2]; /* of the entry told */
} Walk;

typedef enum WalkEvent
{
    WALK_END,
    WALK_FILE,
    WALK_FOLDER, /* path ends in '/'; walk_enter goes into it */
    WALK_LEAVE   /* the folder path is done, and closed */
} WalkEvent;

static void
walk_pop(Walk *walk)
{
    WalkFrame *frame = &walk->frames[--walk->depth];

    if (frame->dir != NULL)
        (void) closedir(frame->dir);
    free(frame->names);
    free(frame->order);
    *frame = (WalkFrame){0};
}

static void
walk_reset(Walk *walk)
{
    while (walk->depth > 0)
        walk_pop(walk);
}

static int
walk_frame_add(WalkFrame *frame, const char *name, bool folder, Error *err)
{
    size_t len = strlen(name);

    if (frame->names_cap - frame->names_len < len + 2)
    {
        size_t cap = MAX(frame->names_cap * 2, 4096);
        char *grown;

        if (cap > WALK_FOLDER_MAX_BYTES)
            return error_set(
                err, ERROR_IO, "cannot list a folder whose names take more than %zu bytes",
                WALK_FOLDER_MAX_BYTES);
        grown = realloc(frame->names, cap);
        if (grown == NULL)
            return error_nomem(err);
        frame->names = grown;
        frame->names_cap = cap;
    }
    memcpy(frame->names + frame->names_len, name, len);
    frame->names_len += len;
    if (folder)
        frame->names[frame->names_len++] = '/';
    frame->names[frame->names_len++] = '\0';
    frame->count++;
    return 0;
}

/* Whether something of that name can be a part of a key (or a temporary file that is asked for). */
static bool
walk_name_usable(const Walk *walk, const WalkFrame *frame, const char *name)
{
    if (strlen(name) + frame->path_len > STORE_KEY_MAX || !store_key_valid(name))
        return false;
    if (walk->temps && strncmp(name, FILE_TEMP_PREFIX, strlen(FILE_TEMP_PREFIX)) == 0)
        return true;
    return !store_file_name_reserved(name);
}

/* Adds the entry if it is a file or a folder; links and special files are passed over. */
static int
walk_take(Walk *walk, WalkFrame *frame, const struct dirent *entry, Error *err)
{
    unsigned char type = entry->d_type;

    if (!walk_name_usable(walk, frame, entry->d_name))
        return 0;
    if (type == DT_UNKNOWN)
    {
        struct stat sb;

        if (fstatat(dirfd(frame->dir), entry->d_name, &sb, AT_SYMLINK_NOFOLLOW) < 0)
        {
            if (errno == ENOENT)
                return 0;
            return store_file_error(err, "could not look up \"%s\"", entry->d_name);
        }
        type = S_ISDIR(sb.st_mode) ? DT_DIR : S_ISREG(sb.st_mode) ? DT_REG : DT_LNK;
    }
    if (type == DT_REG)
        return walk_frame_add(frame, entry->d_name, false, err);
    /* a folder needs room for its '/' and one byte more */
    if (type == DT_DIR && strlen(entry->d_name) + frame->path_len + 2 <= STORE_KEY_MAX)
        return walk_frame_add(frame, entry->d_name, true, err);
    return 0;
}

static int
walk_compare(const void *a, const void *b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

static int
walk_read(Walk *walk, WalkFrame *frame, Error *err)
{
    for (size_t n = 0;; n++)
    {
        if (n % 1024 == 0 && deadline_check(walk->dl, "listing objects", err) < 0)
            return -1;
        errno = 0;

        const struct dirent *entry = readdir(frame->dir);

        if (entry == NULL && errno == ENOENT && frame->path_len > 0)
            break; /* removed meanwhile, so it is empty */
        if (entry == NULL && errno != 0)
            return store_file_error(err, "could not read folder \"%s\"", walk->path);
        if (entry == NULL)
            break;
        if (walk_take(walk, frame, entry, err) < 0)
            return -1;
    }
    if (frame->count == 0)
        return 0;
    frame->order = calloc(frame->count, sizeof *frame->order);
    if (frame->order == NULL)
        return error_nomem(err);
    for (size_t i = 0, at = 0; i < frame->count; i++)
    {
        frame->order[i] = frame->names + at;
        at += strlen(frame->names + at) + 1;
    }
    qsort(frame->order, frame->count, sizeof *frame->order, walk_compare);
    return 0;
}

/* Takes over fd, the open folder walk->path. */
static int
walk_push(Walk *walk, int fd, Error *err)
{
    WalkFrame *frame = &walk->frames[walk->depth];

    assert(walk->depth < WALK_DEPTH_MAX);
    *frame = (WalkFrame){.path_len = strlen(walk->path)};
    frame->dir = fdopendir(fd);
    if (frame->dir == NULL)
    {
        (void) store_file_error(err, "could not read folder \"%s\"", walk->path);
        (void) close(fd);
        return -1;
    }
    walk->depth++;
    return walk_read(walk, frame, err);
}

/* Begins at the folder path[0..len). A missing one is an empty walk. */
static int
walk_begin(
    Walk *walk, StoreFile *st, const char *path, size_t len, bool temps, const Deadline *dl,
    Error *err)
{
    int fd;

    walk->st = st;
    walk->dl = dl;
    walk->temps = temps;
    walk->depth = 0;
    assert(len <= STORE_KEY_MAX);
    memcpy(walk->path, path, len);
    walk->path[len] = '\0';
    if (store_file_check_root(st, err) < 0)
        return -1;
    if (store_file_open_folder(st, path, len, false, &fd, err) < 0)
        /* CONFLICT: an object is there, which has nothing below it */
        return err->kind == ERROR_NOT_FOUND || err->kind == ERROR_CONFLICT ? 0 : -1;
    return walk_push(walk, fd, err);
}

/* Goes into the folder that WALK_FOLDER told; nothing happens if it is gone by now. */
static int
walk_enter(Walk *walk, Error *err)
{
    const WalkFrame *top = &walk->frames[walk->depth - 1];
    size_t len = strlen(walk->path) - 1;

    walk->path[len] = '\0';

    int fd = openat(
        dirfd(top->dir), walk->path + top->path_len,
        O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    walk->path[len] = '/';
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == ELOOP))
        return 0;
    if (fd < 0)
        return store_file_error(err, "could not open folder \"%s\"", walk->path);
    return walk_push(walk, fd, err);
}

static WalkEvent
walk_next(Walk *walk)
{
    if (walk->depth == 0)
        return WALK_END;

    WalkFrame *top = &walk->frames[walk->depth - 1];

    if (top->next == top->count)
    {
        walk->path[top->path_len] = '\0';
        walk_pop(walk);
        return WALK_LEAVE;
    }

    const char *name = top->order[top->next++];
    size_t len = strlen(name);

    memcpy(walk->path + top->path_len, name, len + 1);
    return name[len - 1] == '/' ? WALK_FOLDER : WALK_FILE;
}

/* Looks up the file that WALK_FILE told: 1 if it is there, 0 if it is gone. */
static int
walk_stat(const Walk *walk, struct stat *sb, Error *err)
{
    const WalkFrame *top = &walk->frames[walk->depth - 1];

    if (fstatat(dirfd(top->dir), walk->path + top->path_len, sb, AT_SYMLINK_NOFOLLOW) == 0)
        return S_ISREG(sb->st_mode) ? 1 : 0;
    if (errno == ENOENT)
        return 0;
    return store_file_error(err, "could not look up object \"%s\"", walk->path);
}

/* ---- list ---- */

/* Whether any object lies in the folder path: a folder without one does not exist for our callers.
 */
static int
list_folder_used(StoreFile *st, const char *path, const Deadline *dl, bool *used, Error *err)
{
    AUTO(walk_reset) Walk walk;
    WalkEvent event;

    *used = false;
    if (walk_begin(&walk, st, path, strlen(path), false, dl, err) < 0)
        return -1;
    while ((event = walk_next(&walk)) != WALK_END)
    {
        if (event == WALK_FILE)
        {
            *used = true;
            return 0;
        }
        if (event == WALK_FOLDER && walk_enter(&walk, err) < 0)
            return -1;
    }
    return 0;
}

/* Tells the entry to the callback, whose answer is returned, or 0 when there is nothing to tell. */
static int
list_file(const Walk *walk, StoreListFn fn, void *ctx, Error *err)
{
    struct stat sb;
    int there = walk_stat(walk, &sb, err);

    if (there <= 0)
        return there;

    StoreEntry entry = {
        .key = walk->path,
        .bytes = (uint64_t) sb.st_size,
        .modified_us = (int64_t) sb.st_mtim.tv_sec * 1000000 + sb.st_mtim.tv_nsec / 1000,
    };

    return fn(ctx, &entry, err);
}

static int
list_folder(const Walk *walk, StoreListFn fn, void *ctx, Error *err)
{
    StoreEntry entry = {.key = walk->path, .is_prefix = true};
    bool used;

    if (list_folder_used(walk->st, walk->path, walk->dl, &used, err) < 0)
        return -1;
    return used ? fn(ctx, &entry, err) : 0;
}

/* What becomes of the entry that the walk is at; as list_file. */
static int
list_entry(
    Walk *walk, WalkEvent event, const StoreListOptions *options, StoreListFn fn, void *ctx,
    Error *err)
{
    const char *after = options->start_after != NULL ? options->start_after : "";
    bool behind = strcmp(walk->path, after) > 0;

    if (strncmp(walk->path, options->prefix, strlen(options->prefix)) != 0)
        return 0;
    if (event == WALK_FILE)
        return behind ? list_file(walk, fn, ctx, err) : 0;
    if (options->by_folder)
        return behind ? list_folder(walk, fn, ctx, err) : 0;
    /* a folder before start_after holds nothing behind it, unless start_after itself points into it
     */
    if (behind || strncmp(after, walk->path, strlen(walk->path)) == 0)
        return walk_enter(walk, err);
    return 0;
}

int
store_file_list(
    Store *base, const StoreListOptions *options, StoreListFn fn, void *ctx, const Deadline *dl,
    Error *err)
{
    AUTO(walk_reset) Walk walk;
    const char *slash = strrchr(options->prefix, '/');
    size_t len = slash != NULL ? (size_t) (slash - options->prefix) + 1 : 0;
    WalkEvent event;

    if (walk_begin(&walk, (StoreFile *) base, options->prefix, len, false, dl, err) < 0)
        return -1;
    while ((event = walk_next(&walk)) != WALK_END)
    {
        if (event == WALK_LEAVE)
            continue;

        int rc = list_entry(&walk, event, options, fn, ctx, err);

        if (rc != 0)
            return rc < 0 ? -1 : 0;
        if (deadline_check(dl, "listing objects", err) < 0)
            return -1;
    }
    return 0;
}

/* ---- sweep ---- */

static int
sweep_file(const Walk *walk, int64_t age_s, uint64_t *removed, Error *err)
{
    const WalkFrame *top = &walk->frames[walk->depth - 1];
    const char *name = walk->path + top->path_len;
    struct stat sb;

    if (strncmp(name, FILE_TEMP_PREFIX, strlen(FILE_TEMP_PREFIX)) != 0)
        return 0;

    int there = walk_stat(walk, &sb, err);

    if (there <= 0)
        return there;
    if (clock_wall_us() / 1000000 - (int64_t) sb.st_mtim.tv_sec < age_s)
        return 0;
    if (unlinkat(dirfd(top->dir), name, 0) < 0)
    {
        if (errno == ENOENT)
            return 0;
        return store_file_error(err, "could not remove temporary file \"%s\"", walk->path);
    }
    (*removed)++;
    return 0;
}

/* Takes the folder away that WALK_LEAVE told, if it is empty. */
static void
sweep_folder(Walk *walk)
{
    if (walk->depth == 0)
        return;

    const WalkFrame *top = &walk->frames[walk->depth - 1];
    size_t len = strlen(walk->path) - 1;

    walk->path[len] = '\0';
    (void) unlinkat(dirfd(top->dir), walk->path + top->path_len, AT_REMOVEDIR);
    walk->path[len] = '/';
}

int
store_file_sweep_temps(StoreFile *st, int64_t age_s, uint64_t *removed, Error *err)
{
    AUTO(walk_reset) Walk walk;
    Deadline never = deadline_after_ms(-1, NULL);
    WalkEvent event;

    if (walk_begin(&walk, st, "", 0, true, &never, err) < 0)
        return -1;
    while ((event = walk_next(&walk)) != WALK_END)
    {
        int rc = 0;

        if (event == WALK_FILE)
            rc = sweep_file(&walk, age_s, removed, err);
        else if (event == WALK_FOLDER)
            rc = walk_enter(&walk, err);
        else
            sweep_folder(&walk);
        if (rc < 0)
            return error_wrap(err, "could not remove leftovers in \"%s\"", st->root);
    }
    return 0;
}
