/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Walking a data directory; see walk.h.
 */
#include "walbackup/walk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/array.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/parse.h"

#define WALK_TEXT_MAX UINT32_MAX

/* The names of one folder, while it is looked at. */
typedef struct WalkNames
{
    char *text; /* owned: the names, each with its end */
    size_t text_len, text_cap;
    uint32_t *items; /* owned; where each begins in text */
    size_t count, cap;
    uint32_t *unlogged; /* relations with an init fork, ascending */
    size_t unlogged_count, unlogged_cap;
} WalkNames;

typedef struct Walker
{
    const WalkOptions *options;
    Walk *out;
    int data_fd;
} Walker;

static void
walk_dir_close(DIR **dir)
{
    if (*dir != NULL)
        (void) closedir(*dir);
}

static void
walk_names_reset(WalkNames *names)
{
    free(names->text);
    free(names->items);
    free(names->unlogged);
    *names = (WalkNames){0};
}

void
walk_reset(Walk *walk)
{
    bulk_reset(&walk->text);
    free(walk->folders);
    bulk_reset(&walk->files);
    tablespace_map_reset(&walk->tablespaces);
    *walk = (Walk){0};
}

const char *
walk_folder_path(const Walk *walk, const WalkFolder *folder)
{
    return (const char *) walk->text.data + folder->path;
}

const WalkFile *
walk_file(Walk *walk, size_t i)
{
    assert(i < walk->file_count);
    bulk_look(&walk->files);
    return (const WalkFile *) (const void *) walk->files.data + i;
}

static int
walk_join(const char *folder, const char *name, char *buf)
{
    int n = snprintf(buf, DATA_PATH_MAX, "%s%s%s", folder, folder[0] != '\0' ? "/" : "", name);

    return n >= 0 && n < DATA_PATH_MAX ? 0 : -1;
}

char *
walk_file_path(Walk *walk, const WalkFile *file, char *buf)
{
    bulk_look(&walk->text);
    /* it fit when it was added */
    (void) walk_join(
        walk_folder_path(walk, &walk->folders[file->folder]),
        (const char *) walk->text.data + file->name, buf);
    return buf;
}

/* ---- what was found ---- */

static int
walk_add_text(Walk *walk, const char *text, uint32_t *at, Error *err)
{
    size_t len = strlen(text) + 1;
    void *room;

    if (walk->text.used + len > WALK_TEXT_MAX)
        return error_set(err, ERROR_NOMEM, "the data directory has too many files");
    *at = (uint32_t) walk->text.used;
    room = bulk_add(&walk->text, len, err);
    if (room == NULL)
        return -1;
    memcpy(room, text, len);
    return 0;
}

static int
walk_add_folder(Walk *walk, const char *path, const struct stat *sb, bool keep_empty, Error *err)
{
    WalkFolder folder = {
        .mode = sb->st_mode & 07777,
        .uid = sb->st_uid,
        .gid = sb->st_gid,
        .modified_s = sb->st_mtim.tv_sec,
        .keep_empty = keep_empty};
    WalkFolder *folders =
        array_grow(walk->folders, walk->folder_count, &walk->folder_cap, sizeof *folders, err);

    if (folders == NULL)
        return -1;
    walk->folders = folders;
    if (walk_add_text(walk, path, &folder.path, err) < 0)
        return -1;
    folders[walk->folder_count++] = folder;
    return 0;
}

static int
walk_add_file(Walk *walk, uint32_t folder, const char *name, uint64_t bytes, Error *err)
{
    WalkFile file = {.bytes = bytes, .folder = folder};
    WalkFile *room;

    if (walk_add_text(walk, name, &file.name, err) < 0)
        return -1;
    room = bulk_add(&walk->files, sizeof *room, err);
    if (room == NULL)
        return -1;
    *room = file;
    walk->file_count++;
    walk->bytes += bytes;
    return 0;
}

/* ---- one folder ---- */

static int
walk_compare_names(const void *a, const void *b, void *arg)
{
    const char *text = arg;

    return strcmp(text + *(const uint32_t *) a, text + *(const uint32_t *) b);
}

static int
walk_compare_numbers(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *) a;
    uint32_t right = *(const uint32_t *) b;

    return (left > right) - (left < right);
}

static int
walk_keep_name(WalkNames *names, const char *name, Error *err)
{
    size_t len = strlen(name) + 1;
    uint32_t *items = array_grow(names->items, names->count, &names->cap, sizeof *items, err);

    if (items == NULL)
        return -1;
    names->items = items;
    if (names->text_len + len > WALK_TEXT_MAX)
        return error_set(err, ERROR_NOMEM, "a folder has too many files");
    if (names->text_len + len > names->text_cap)
    {
        size_t want = MAX(names->text_cap * 2, (size_t) 65536);
        char *grown = realloc(names->text, want);

        if (grown == NULL)
            return error_nomem(err);
        names->text = grown;
        names->text_cap = want;
    }
    memcpy(names->text + names->text_len, name, len);
    items[names->count++] = (uint32_t) names->text_len;
    names->text_len += len;
    return 0;
}

static int
walk_note_name(const char *folder, const char *name, WalkNames *names, Error *err)
{
    char path[DATA_PATH_MAX];
    RelationFile rel;
    uint32_t *unlogged;

    if (walk_keep_name(names, name, err) < 0)
        return -1;
    if (walk_join(folder, name, path) < 0 || !data_file_parse_relation(path, &rel) ||
        rel.fork != DATA_FORK_INIT)
        return 0;
    unlogged = array_grow(
        names->unlogged, names->unlogged_count, &names->unlogged_cap, sizeof *unlogged, err);
    if (unlogged == NULL)
        return -1;
    names->unlogged = unlogged;
    unlogged[names->unlogged_count++] = rel.relnode;
    return 0;
}

/* 0 with no names when the folder has vanished. */
static int
walk_read_names(Walker *w, const char *folder, WalkNames *names, Error *err)
{
    AUTO(walk_dir_close) DIR *dir = NULL;
    AUTO(fd_close)
    int fd =
        openat(w->data_fd, folder[0] != '\0' ? folder : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct dirent *entry;

    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
    {
        (void) error_sys(err, "could not open folder \"%s/%s\"", w->options->data, folder);
        return err->kind == ERROR_DENIED ? error_hint(err, WALK_OWNER_HINT) : -1;
    }
    dir = fdopendir(fd);
    if (dir == NULL)
        return error_sys(err, "could not open folder \"%s/%s\"", w->options->data, folder);
    (void) fd_steal(&fd);
    for (;;)
    {
        errno = 0;
        entry = readdir(dir);
        if (entry == NULL)
            break;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (walk_note_name(folder, entry->d_name, names, err) < 0)
            return -1;
    }
    if (errno != 0)
        return error_sys(err, "could not read folder \"%s/%s\"", w->options->data, folder);
    if (names->count > 1)
        qsort_r(names->items, names->count, sizeof *names->items, walk_compare_names, names->text);
    if (names->unlogged_count > 1)
        qsort(
            names->unlogged, names->unlogged_count, sizeof *names->unlogged, walk_compare_numbers);
    return 0;
}

/* Of an unlogged relation only the init fork is kept: recovery makes the rest from it. */
static bool
walk_is_unlogged(const WalkNames *names, const char *path)
{
    RelationFile rel;

    return names->unlogged_count > 0 && data_file_parse_relation(path, &rel) &&
           rel.fork != DATA_FORK_INIT &&
           bsearch(
               &rel.relnode, names->unlogged, names->unlogged_count, sizeof *names->unlogged,
               walk_compare_numbers) != NULL;
}

/* pg_tblspc/<oid>: of what it leads to only the folder of this version is this cluster's. */
static int
walk_tablespace(Walker *w, const char *path, uint32_t oid, Error *err)
{
    char target[DATA_PATH_MAX], inside[DATA_PATH_MAX];
    ssize_t len = readlinkat(w->data_fd, path, target, sizeof target - 1);
    struct stat sb;

    if (len < 0 && errno == ENOENT)
        return 0;
    if (len < 0)
        return error_sys(err, "could not read symbolic link \"%s/%s\"", w->options->data, path);
    if ((size_t) len >= sizeof target - 1)
        return error_set(
            err, ERROR_USAGE, "symbolic link \"%s/%s\" leads to a path that is too long",
            w->options->data, path);
    target[len] = '\0';
    if (tablespace_map_add(&w->out->tablespaces, oid, target, err) < 0)
        return -1;
    if (fstatat(w->data_fd, path, &sb, 0) < 0)
        return error_sys(err, "could not look at tablespace \"%s\"", target);
    if (walk_add_folder(w->out, path, &sb, true, err) < 0)
        return -1;
    if (snprintf(
            inside, sizeof inside, "%s/PG_%d_%" PRIu32, path, w->options->pg_major,
            w->options->catalog_version) >= (int) sizeof inside)
        return error_set(err, ERROR_USAGE, "path \"%.100s...\" is too long", path);
    if (fstatat(w->data_fd, inside, &sb, 0) < 0)
    {
        if (errno == ENOENT)
            return 0;
        return error_sys(err, "could not look at \"%s/%s\"", w->options->data, inside);
    }
    return walk_add_folder(w->out, inside, &sb, false, err);
}

static int
walk_link(Walker *w, const char *folder, const char *name, const char *path, Error *err)
{
    struct stat sb;
    uint32_t oid;

    if (strcmp(folder, "pg_tblspc") == 0 && parse_u32(name, &oid))
        return walk_tablespace(w, path, oid, err);
    if (strcmp(path, "pg_wal") == 0 && fstatat(w->data_fd, path, &sb, 0) == 0)
        return walk_add_folder(w->out, path, &sb, true, err);
    log_write(
        LOG_WARNING,
        "symbolic link \"%s/%s\" is not in the backup: PostgreSQL's own leave them out",
        w->options->data, path);
    return 0;
}

static int
walk_entry(
    Walker *w, uint32_t folder, const char *folder_path, const WalkNames *names, const char *name,
    Error *err)
{
    char path[DATA_PATH_MAX];
    struct stat sb;
    DataFileUse use;

    if (walk_join(folder_path, name, path) < 0)
        return error_set(
            err, ERROR_USAGE, "path \"%.64s.../%.64s\" is too long", folder_path, name);
    if (fstatat(w->data_fd, path, &sb, AT_SYMLINK_NOFOLLOW) < 0)
    {
        if (errno == ENOENT)
            return 0;
        return error_sys(err, "could not look at \"%s/%s\"", w->options->data, path);
    }
    use = data_file_use(path, !S_ISREG(sb.st_mode), w->options->pg_major);
    if (use == DATA_FILE_SKIP)
        return 0;
    if (S_ISLNK(sb.st_mode))
        return walk_link(w, folder_path, name, path, err);
    if (S_ISDIR(sb.st_mode))
        return walk_add_folder(w->out, path, &sb, use == DATA_FILE_KEEP_EMPTY, err);
    if (!S_ISREG(sb.st_mode))
    {
        log_write(
            LOG_WARNING, "special file \"%s/%s\" is not in the backup", w->options->data, path);
        return 0;
    }
    if (walk_is_unlogged(names, path))
        return 0;
    return walk_add_file(w->out, folder, name, (uint64_t) sb.st_size, err);
}

/* The server wants these in an empty pg_wal; PostgreSQL's own backups have them. */
static int
walk_add_wal_folders(Walker *w, Error *err)
{
    struct stat sb;

    if (fstatat(w->data_fd, "pg_wal", &sb, 0) < 0)
        return error_sys(err, "could not look at \"%s/pg_wal\"", w->options->data);
    if (walk_add_folder(w->out, "pg_wal/archive_status", &sb, true, err) < 0)
        return -1;
    return w->options->pg_major >= 17 ? walk_add_folder(w->out, "pg_wal/summaries", &sb, true, err)
                                      : 0;
}

static int
walk_folder(Walker *w, uint32_t folder, Error *err)
{
    AUTO(walk_names_reset) WalkNames names = {0};
    char path[DATA_PATH_MAX];

    /* the text may move while it is added to */
    (void) snprintf(path, sizeof path, "%s", walk_folder_path(w->out, &w->out->folders[folder]));
    if (walk_read_names(w, path, &names, err) < 0)
        return -1;
    for (size_t i = 0; i < names.count; i++)
        if (walk_entry(w, folder, path, &names, names.text + names.items[i], err) < 0)
            return -1;
    return 0;
}

int
walk_data_directory(const WalkOptions *options, Walk *out, Error *err)
{
    AUTO(fd_close) int data_fd = open(options->data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    Walker w = {.options = options, .out = out, .data_fd = data_fd};
    struct stat sb;

    out->text.dir = out->files.dir = options->scratch;
    if (data_fd < 0 || fstat(data_fd, &sb) < 0)
        return error_sys(err, "could not open data directory \"%s\"", options->data);
    if (walk_add_folder(out, "", &sb, false, err) < 0)
        return -1;
    /* the list grows while it is gone through */
    for (uint32_t i = 0; i < out->folder_count; i++)
        if (!out->folders[i].keep_empty && walk_folder(&w, i, err) < 0)
            return -1;
    return walk_add_wal_folders(&w, err);
}
