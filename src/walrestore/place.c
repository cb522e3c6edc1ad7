/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Data directory and tablespaces; see place.h.
 */
#include "walrestore/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/array.h"
#include "common/clock.h"
#include "common/fs.h"
#include "common/log.h"
#include "common/parse.h"
#include "common/utf8.h"
#include "pg/control.h"
#include "repo/json_read.h"

#define PLACE_MARKER_MAX (1024 * 1024)
#define PLACE_TEMPORARY ".walrestore" /* of a file that is being written: behind its name */
#define PLACE_SMALL_MAX 65536
#define PLACE_NAMES_BUFFER 16384
#define PLACE_OWNER_HINT "A directory that is there already must belong to the user who restores."

void
place_init(Place *place)
{
    *place = (Place){.fd = -1};
}

void
place_reset(Place *place)
{
    for (size_t i = 0; i < place->tablespace_count; i++)
    {
        free(place->tablespaces[i].path);
        free(place->tablespaces[i].link);
    }
    free(place->tablespaces);
    free(place->owners);
    fd_close(&place->fd);
    place_init(place);
}

/* ---- paths ---- */

static void
place_close_dir(DIR **dir)
{
    if (*dir != NULL)
        (void) closedir(*dir);
}

/*
 * path as it will be: links resolved as far as it exists, the rest as it is written. Two names of
 * one place become the same text.
 */
static int
place_resolve(const char *path, char out[PLACE_PATH_MAX], Error *err)
{
    char whole[PLACE_PATH_MAX], front[PLACE_PATH_MAX], cwd[PLACE_PATH_MAX];
    char real[PATH_MAX];
    size_t len;

    if (path[0] != '/' && getcwd(cwd, sizeof cwd) == NULL)
        return error_sys(err, "could not find out the current directory");
    len =
        (size_t) (path[0] == '/' ? snprintf(whole, sizeof whole, "%s", path) : snprintf(whole, sizeof whole, "%s/%s", cwd, path));
    if (len >= sizeof whole)
        return error_set(err, ERROR_USAGE, "path \"%.64s...\" is too long", path);
    while (len > 1 && whole[len - 1] == '/')
        whole[--len] = '\0';
    memcpy(front, whole, len + 1);
    for (size_t end = len;;)
    {
        char *slash;

        if (realpath(front, real) != NULL)
        {
            const char *rest = whole + end;

            if (strstr(rest, "/../") != NULL || strstr(rest, "/./") != NULL ||
                strstr(rest, "//") != NULL ||
                (rest[0] != '\0' && (strcmp(whole + len - 2, "/.") == 0 ||
                                     (len >= 3 && strcmp(whole + len - 3, "/..") == 0))))
                return error_set(
                    err, ERROR_USAGE, "path \"%.300s\" has \".\" or \"..\" where nothing exists",
                    path);
            if (strcmp(real, "/") == 0 && rest[0] == '/')
                real[0] = '\0';
            if ((size_t) snprintf(out, PLACE_PATH_MAX, "%s%s", real, rest) >= PLACE_PATH_MAX)
                return error_set(err, ERROR_USAGE, "path \"%.64s...\" is too long", path);
            return 0;
        }
        if (errno != ENOENT)
            return error_sys(err, "could not look at \"%s\"", front);
        slash = strrchr(front, '/');
        assert(slash != NULL);
        end = (size_t) (slash - front);
        if (slash == front)
        {
            slash[1] = '\0';
            end = 0;
        }
        else
            *slash = '\0';
    }
}

/* Whether inner is outer, or below it. */
static bool
place_is_inside(const char *inner, const char *outer)
{
    size_t len = strlen(outer);

    if (strcmp(outer, "/") == 0)
        return true;
    return strncmp(inner, outer, len) == 0 && (inner[len] == '/' || inner[len] == '\0');
}

const PlaceTablespace *
place_find_tablespace(const Place *place, uint32_t oid)
{
    for (size_t i = 0; oid != 0 && i < place->tablespace_count; i++)
        if (place->tablespaces[i].oid == oid && !place->tablespaces[i].in_place)
            return &place->tablespaces[i];
    return NULL;
}

int
place_file_path(const Place *place, const char *path, char *buf, size_t len, Error *err)
{
    const char *rest = path;
    const PlaceTablespace *ts = place_find_tablespace(place, plan_path_tablespace(path, &rest));
    int n = ts != NULL ? snprintf(buf, len, "%s/%s", ts->path, rest)
                       : snprintf(buf, len, "%s/%s", place->path, path);

    if (n < 0 || (size_t) n >= len)
        return error_set(err, ERROR_USAGE, "path \"%.200s\" is too long", path);
    return 0;
}

/* ---- what is there ---- */

typedef enum PlaceContent
{
    PLACE_CONTENT_ABSENT,
    PLACE_CONTENT_EMPTY,
    PLACE_CONTENT_FULL
} PlaceContent;

/* allow: a name that does not count; NULL: none. */
static int
place_look(const char *path, const char *allow, PlaceContent *out, Error *err)
{
    AUTO(place_close_dir) DIR *dir = opendir(path);
    const struct dirent *entry;
    struct stat sb;

    *out = PLACE_CONTENT_ABSENT;
    if (dir == NULL && errno == ENOENT && lstat(path, &sb) == 0)
        return error_set(
            err, ERROR_EXISTS, "\"%s\" is a symbolic link to what does not exist", path);
    if (dir == NULL && errno == ENOENT)
        return 0;
    if (dir == NULL && errno == ENOTDIR)
        return error_set(err, ERROR_EXISTS, "\"%s\" is not a directory", path);
    if (dir == NULL)
        return error_sys(err, "could not open directory \"%s\"", path);
    *out = PLACE_CONTENT_EMPTY;
    for (errno = 0; (entry = readdir(dir)) != NULL; errno = 0)
    {
        const char *name = entry->d_name;

        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
            (allow != NULL && strcmp(name, allow) == 0))
            continue;
        *out = PLACE_CONTENT_FULL;
        return 0;
    }
    if (errno != 0)
        return error_sys(err, "could not read directory \"%s\"", path);
    return 0;
}

/*
 * A server that runs there has postmaster.pid. The process in it tells nothing when it is not found
 * here: the server may run in another container, or on another host.
 */
static int
place_check_not_running(const char *path, Error *err)
{
    char file[PLACE_PATH_MAX + 32], link[64];
    AUTO(free_text) char *text = NULL;
    struct stat here, there;
    size_t len;
    uint32_t pid;

    if ((size_t) snprintf(file, sizeof file, "%s/postmaster.pid", path) >= sizeof file)
        return error_set(err, ERROR_USAGE, "path \"%.64s...\" is too long", path);
    if (fs_read_file(file, PLACE_SMALL_MAX, &text, &len, err) < 0)
    {
        if (err->kind != ERROR_NOT_FOUND)
            return -1;
        *err = (Error){0};
        return 0;
    }
    text[strcspn(text, "\n")] = '\0';
    /* a stand-alone backend writes its number negative */
    if (parse_u32(text[0] == '-' ? text + 1 : text, &pid) && pid != 0 && pid <= INT32_MAX)
    {
        (void) snprintf(link, sizeof link, "/proc/%" PRIu32 "/cwd", pid);
        if (stat(path, &here) == 0 && stat(link, &there) == 0 && here.st_dev == there.st_dev &&
            here.st_ino == there.st_ino)
        {
            (void) error_set(
                err, ERROR_EXISTS, "a server is running in \"%s\": process %" PRIu32, path, pid);
            return error_hint(err, "Stop the server first.");
        }
    }
    (void) error_set(
        err, ERROR_EXISTS, "a server may be running in \"%s\": it has a postmaster.pid", path);
    return error_hint(
        err, "If there is none, in no container and on no other host either, remove "
             "postmaster.pid.");
}

/* ---- the marker ---- */

static int
place_read_marker(const char *path, json_t **out, Error *err)
{
    char file[PLACE_PATH_MAX + 32];
    AUTO(free_text) char *text = NULL;
    size_t len;

    if ((size_t) snprintf(file, sizeof file, "%s/" PLACE_MARKER, path) >= sizeof file)
        return error_set(err, ERROR_USAGE, "path \"%.64s...\" is too long", path);
    if (fs_read_file(file, PLACE_MARKER_MAX, &text, &len, err) < 0)
        return -1;
    if (json_read_object(text, len, out, err) < 0)
    {
        if (err->kind != ERROR_CORRUPT)
            return error_wrap(err, "could not read \"%s\"", file);
        (void) error_wrap(err, "\"%s\" is damaged", file);
        return error_hint(
            err, "An interrupted restore left it; empty the directory and its tablespaces.");
    }
    return 0;
}

static bool
place_marker_has_tablespace(const json_t *marker, const char *path)
{
    const json_t *list = json_object_get(marker, "tablespaces");
    AUTO(free_text) char *want = utf8_copy(path); /* as it was written */
    size_t i;
    json_t *item;

    json_array_foreach(list, i, item)
    {
        const char *text = json_string_value(item);

        if (text != NULL && want != NULL && strcmp(text, want) == 0)
            return true;
    }
    return false;
}

static int
place_write_marker(const Place *place, const BackupHeader *header, Error *err)
{
    json_t *tablespaces = json_array();
    char sysid[32], since[40];
    char *text = NULL;
    json_t *doc;
    int rc;

    for (size_t i = 0; i < place->tablespace_count; i++)
    {
        const char *path = place->tablespaces[i].path;
        AUTO(free_text) char *copy = path != NULL ? utf8_copy(path) : NULL;

        if (copy != NULL)
            (void) json_array_append_new(tablespaces, json_string(copy));
    }
    (void) snprintf(sysid, sizeof sysid, "%" PRIu64, header->system_identifier);
    doc = json_pack(
        "{s:s, s:s, s:s, s:o}", "label", header->label, "system_identifier", sysid, "since",
        clock_format_iso(clock_wall_us(), since, sizeof since), "tablespaces", tablespaces);
    if (doc != NULL)
        text = json_dumps(doc, JSON_INDENT(1));
    json_decref(doc);
    if (text == NULL)
        return error_nomem(err);
    rc = place_write_file(place, PLACE_MARKER, text, strlen(text), err);
    free(text);
    return rc;
}

bool
place_is_marked(const Place *place)
{
    char file[PLACE_PATH_MAX + 32];

    (void) snprintf(file, sizeof file, "%s/" PLACE_MARKER, place->path);
    return place->path[0] != '\0' && access(file, F_OK) == 0;
}

/* ---- decisions ---- */

static int
place_check_interrupted(Place *place, const BackupHeader *header, json_t **marker, Error *err)
{
    const char *text;
    uint64_t sysid;

    if (place_read_marker(place->path, marker, err) < 0)
        return -1;
    text = json_string_value(json_object_get(*marker, "system_identifier"));
    if (text == NULL || !parse_u64(text, &sysid) || sysid != header->system_identifier)
    {
        (void) error_set(
            err, ERROR_CONFLICT,
            "\"%s\" is an incomplete restore of system identifier %.32s, not of %" PRIu64,
            place->path, text != NULL ? text : "(unknown)", header->system_identifier);
        return error_hint(err, "Empty the directory, or restore to another one.");
    }
    place->state = PLACE_INTERRUPTED;
    return 0;
}

static int
place_check_delta(Place *place, const BackupHeader *header, Error *err)
{
    ControlFile control;

    if (control_read(place->path, &control, err) < 0)
    {
        (void) error_wrap(err, "\"%s\" cannot be restored over", place->path);
        return error_hint(
            err, "--delta needs a data directory of this cluster, or an empty directory.");
    }
    if (control.system_identifier != header->system_identifier)
        return error_set(
            err, ERROR_CONFLICT,
            "\"%s\" belongs to another cluster: its system identifier is %" PRIu64
            ", that of the backup %" PRIu64,
            place->path, control.system_identifier, header->system_identifier);
    place->state = PLACE_IN_USE;
    return 0;
}

/*
 * Opens the directory for this walrestore alone, until place_reset: of two at once in one directory
 * each would remove what the other has written. Not on file systems without such locks.
 */
static int
place_lock(Place *place, Error *err)
{
    if (place->fd >= 0)
        return 0;
    place->fd = open(place->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (place->fd < 0)
        return error_sys(err, "could not open directory \"%s\"", place->path);
    if (flock(place->fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return 0;
    (void) error_set(err, ERROR_EXISTS, "another walrestore is working in \"%s\"", place->path);
    return error_hint(err, "Wait until it has ended.");
}

static int
place_check_directory(
    Place *place, const RestoreOptions *options, const BackupHeader *header, json_t **marker,
    Error *err)
{
    PlaceContent content;

    if (place_resolve(options->to, place->path, err) < 0 ||
        place_look(place->path, PLACE_MARKER PLACE_TEMPORARY, &content, err) < 0)
        return -1;
    if (strcmp(place->path, "/") == 0)
        return error_set(err, ERROR_USAGE, "cannot restore to the root directory");
    if (content != PLACE_CONTENT_FULL)
    {
        place->state = content == PLACE_CONTENT_EMPTY ? PLACE_EMPTY : PLACE_ABSENT;
        return 0;
    }
    if (place_check_not_running(place->path, err) < 0 ||
        (!options->dry_run && place_lock(place, err) < 0))
        return -1;
    if (place_is_marked(place))
        return place_check_interrupted(place, header, marker, err);
    if (options->delta)
        return place_check_delta(place, header, err);
    (void) error_set(err, ERROR_EXISTS, "directory \"%s\" is not empty", place->path);
    return error_hint(
        err, "Restore to an empty directory, or give --delta to replace what differs from the "
             "backup and remove what does not belong.");
}

/* What pg_tblspc/<oid> of the existing directory points to, resolved; false if there is none. */
static bool
place_existing_link(const Place *place, uint32_t oid, char out[PLACE_PATH_MAX])
{
    char link[PLACE_PATH_MAX + 64], target[PLACE_PATH_MAX];
    ssize_t len;
    Error ignored;

    (void) snprintf(link, sizeof link, "%s/pg_tblspc/%" PRIu32, place->path, oid);
    len = readlink(link, target, sizeof target - 1);
    if (len <= 0 || target[0] != '/')
        return false;
    target[len] = '\0';
    return place_resolve(target, out, &ignored) == 0;
}

static int
place_check_tablespace(const Place *place, PlaceTablespace *ts, const json_t *marker, Error *err)
{
    char linked[PLACE_PATH_MAX];
    PlaceContent content;

    if (place_is_inside(ts->path, place->path) || place_is_inside(place->path, ts->path))
        return error_set(
            err, ERROR_USAGE,
            "tablespace %" PRIu32 " cannot be in \"%s\": it and the data directory \"%s\" must not "
            "be inside each other",
            ts->oid, ts->path, place->path);
    if (place_look(ts->path, "lost+found", &content, err) < 0)
        return error_wrap(err, "cannot put tablespace %" PRIu32 " there", ts->oid);
    ts->exists = content != PLACE_CONTENT_ABSENT;
    if (content != PLACE_CONTENT_FULL)
        return 0;
    if (place->state == PLACE_INTERRUPTED)
        ts->ours = place_marker_has_tablespace(marker, ts->path);
    else if (place->state == PLACE_IN_USE)
        ts->ours = place_existing_link(place, ts->oid, linked) && strcmp(linked, ts->path) == 0;
    if (ts->ours)
        return 0;
    (void) error_set(
        err, ERROR_EXISTS, "directory \"%s\" of tablespace %" PRIu32 " is not empty", ts->path,
        ts->oid);
    return error_hint(
        err, "Empty it, or name another place: --tablespace %" PRIu32 "=DIR.", ts->oid);
}

static int
place_add_tablespace(
    Place *place, const RestoreOptions *options, const TablespaceEntry *entry, const json_t *marker,
    Error *err)
{
    PlaceTablespace *ts = &place->tablespaces[place->tablespace_count];
    const char *path = entry->path;
    char resolved[PLACE_PATH_MAX];

    *ts = (PlaceTablespace){.oid = entry->oid};
    place->tablespace_count++;
    for (size_t i = 0; i < options->tablespaces.count; i++)
        if (options->tablespaces.items[i].oid == entry->oid)
        {
            path = options->tablespaces.items[i].path;
            ts->mapped = true;
        }
    if (path[0] != '/')
    {
        ts->in_place = true;
        return 0;
    }
    if (strchr(path, '\n') != NULL || strchr(path, '\r') != NULL)
    {
        (void) error_set(
            err, ERROR_USAGE, "the path of tablespace %" PRIu32 " has a line break", entry->oid);
        return error_hint(err, "Name another place: --tablespace %" PRIu32 "=DIR.", entry->oid);
    }
    if (place_resolve(path, resolved, err) < 0)
        return -1;
    ts->path = strdup(resolved);
    ts->link = strdup(path);
    if (ts->path == NULL || ts->link == NULL)
        return error_nomem(err);
    for (size_t len = strlen(ts->link); len > 1 && ts->link[len - 1] == '/'; len--)
        ts->link[len - 1] = '\0';
    if (place_check_tablespace(place, ts, marker, err) < 0)
        return -1;
    for (size_t i = 0; i + 1 < place->tablespace_count; i++)
    {
        const char *other = place->tablespaces[i].path;

        if (other != NULL && (place_is_inside(other, ts->path) || place_is_inside(ts->path, other)))
            return error_set(
                err, ERROR_USAGE,
                "tablespaces %" PRIu32 " in \"%s\" and %" PRIu32
                " in \"%s\" must not be inside each other",
                place->tablespaces[i].oid, other, ts->oid, ts->path);
    }
    return 0;
}

static int
place_check_tablespaces(
    Place *place, const RestoreOptions *options, const BackupHeader *header, const json_t *marker,
    Error *err)
{
    const TablespaceMap *map = &header->tablespaces;

    for (size_t i = 0; i < options->tablespaces.count; i++)
    {
        uint32_t oid = options->tablespaces.items[i].oid;
        bool found = false;

        for (size_t k = 0; k < map->count && !found; k++)
            found = map->items[k].oid == oid;
        if (!found)
            return error_set(
                err, ERROR_USAGE, "backup \"%s\" has no tablespace %" PRIu32, header->label, oid);
    }
    place->tablespaces = calloc(map->count + 1, sizeof *place->tablespaces);
    if (place->tablespaces == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < map->count; i++)
        if (place_add_tablespace(place, options, &map->items[i], marker, err) < 0)
            return -1;
    return 0;
}

/* The directory itself, or the nearest one that is there. */
static void
place_existing(const char *path, char out[PLACE_PATH_MAX])
{
    struct stat st;

    (void) snprintf(out, PLACE_PATH_MAX, "%s", path);
    while (stat(out, &st) < 0 && strcmp(out, "/") != 0)
    {
        char *slash = strrchr(out, '/');

        if (slash == NULL || slash == out)
            (void) snprintf(out, PLACE_PATH_MAX, "/");
        else
            *slash = '\0';
    }
}

static int
place_check_writable(const char *path, Error *err)
{
    char existing[PLACE_PATH_MAX];

    place_existing(path, existing);
    if (access(existing, W_OK | X_OK) < 0)
        return error_sys(err, "cannot write to directory \"%s\"", existing);
    return 0;
}

int
place_check(Place *place, const RestoreOptions *options, const BackupHeader *header, Error *err)
{
    json_t *marker = NULL;
    int rc;

    (void) snprintf(
        place->version_folder, sizeof place->version_folder, "PG_%d_%" PRIu32, header->pg_major,
        header->catalog_version);
    rc = place_check_directory(place, options, header, &marker, err);
    if (rc == 0)
        rc = place_check_tablespaces(place, options, header, marker, err);
    json_decref(marker);
    if (rc == 0)
        rc = place_check_writable(place->path, err);
    for (size_t i = 0; rc == 0 && i < place->tablespace_count; i++)
        if (place->tablespaces[i].path != NULL)
            rc = place_check_writable(place->tablespaces[i].path, err);
    return rc;
}

int
place_check_outside(const Place *place, const char *path, const char *what, Error *err)
{
    char resolved[PLACE_PATH_MAX];
    const char *in = NULL;

    if (place_resolve(path, resolved, err) < 0)
        return error_wrap(err, "could not look at the %s", what);
    if (place_is_inside(resolved, place->path))
        in = place->path;
    for (size_t i = 0; in == NULL && i < place->tablespace_count; i++)
        if (place->tablespaces[i].path != NULL &&
            place_is_inside(resolved, place->tablespaces[i].path))
            in = place->tablespaces[i].path;
    if (in == NULL)
        return 0;
    (void) error_set(
        err, ERROR_USAGE, "the %s \"%s\" is in \"%s\", where what does not belong is removed", what,
        path, in);
    return error_hint(err, "Move it to another place first.");
}

/* ---- room ---- */

typedef struct PlaceNeed
{
    dev_t device;
    uint64_t bytes;
    uint64_t reclaimed_bytes; /* of what is there and goes */
    const char *path;
} PlaceNeed;

static int
place_add_need(
    PlaceNeed *needs, size_t *count, const char *path, uint64_t bytes, uint64_t reclaimed_bytes,
    Error *err)
{
    char existing[PLACE_PATH_MAX];
    struct stat st;

    place_existing(path, existing);
    if (stat(existing, &st) < 0)
        return error_sys(err, "could not look at \"%s\"", existing);
    for (size_t i = 0; i < *count; i++)
        if (needs[i].device == st.st_dev)
        {
            needs[i].bytes += bytes;
            needs[i].reclaimed_bytes += reclaimed_bytes;
            return 0;
        }
    needs[(*count)++] = (PlaceNeed){
        .device = st.st_dev, .bytes = bytes, .reclaimed_bytes = reclaimed_bytes, .path = path};
    return 0;
}

static int
place_check_need(const PlaceNeed *need, Error *err)
{
    char existing[PLACE_PATH_MAX];
    struct statvfs fs;
    uint64_t available;

    place_existing(need->path, existing);
    if (statvfs(existing, &fs) < 0)
        return error_sys(err, "could not find out the free space of \"%s\"", existing);
    available = (uint64_t) fs.f_bavail * fs.f_frsize + need->reclaimed_bytes;
    if (need->bytes <= available)
        return 0;
    (void) error_set(
        err, ERROR_IO,
        "not enough room in \"%s\": %" PRIu64 " MiB are needed, %" PRIu64 " MiB are free", existing,
        need->bytes >> 20, available >> 20);
    return error_hint(
        err, "Make room, or give --no-space-check if the file system compresses its files.");
}

int
place_check_space(const Place *place, const Plan *plan, Error *err)
{
    size_t slots = place->tablespace_count + 1;
    PlaceNeed *needs = calloc(slots, sizeof *needs);
    uint64_t *bytes = calloc(slots, sizeof *bytes);
    size_t count = 0;
    int rc = needs == NULL || bytes == NULL ? error_nomem(err) : 0;

    for (size_t i = 0; rc == 0 && i < plan->newest.file_count; i++)
    {
        const BackupFile *entry = plan_entry(plan, i);
        const PlaceTablespace *ts;

        if (plan_file(plan, i)->state != PLAN_FETCH)
            continue;
        ts = place_find_tablespace(place, plan_path_tablespace(entry->path, NULL));
        bytes[ts != NULL ? (size_t) (ts - place->tablespaces) : slots - 1] += entry->bytes;
    }
    if (rc == 0)
        rc = place_add_need(
            needs, &count, place->path, bytes[slots - 1], place->reclaimed_bytes, err);
    for (size_t i = 0; rc == 0 && i < place->tablespace_count; i++)
        if (place->tablespaces[i].path != NULL)
            rc = place_add_need(
                needs, &count, place->tablespaces[i].path, bytes[i],
                place->tablespaces[i].reclaimed_bytes, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = place_check_need(&needs[i], err);
    free(needs);
    free(bytes);
    return rc;
}

/* ---- owners ---- */

static bool
place_look_up(const char *user, const char *group, uid_t *uid, gid_t *gid)
{
    char buf[PLACE_NAMES_BUFFER];
    struct passwd pw, *pw_found = NULL;
    struct group gr, *gr_found = NULL;

    if (user[0] == '\0' || getpwnam_r(user, &pw, buf, sizeof buf, &pw_found) != 0 ||
        pw_found == NULL)
        return false;
    *uid = pw.pw_uid;
    *gid = pw.pw_gid;
    if (group[0] != '\0' && getgrnam_r(group, &gr, buf, sizeof buf, &gr_found) == 0 &&
        gr_found != NULL)
        *gid = gr.gr_gid;
    return true;
}

int
place_find_owners(Place *place, const Plan *plan, Error *err)
{
    const char *missing = NULL, *user = NULL, *group = NULL;

    if (geteuid() != 0)
        return 0;
    for (size_t i = 0; i < plan->newest.file_count; i++)
    {
        const BackupFile *entry = plan_entry(plan, i);
        PlaceOwner *owners;
        uid_t uid;
        gid_t gid;

        if (user != NULL && strcmp(entry->user, user) == 0 && strcmp(entry->group, group) == 0)
            continue;
        user = entry->user;
        group = entry->group;
        if (place_owner(place, user, group, &uid, &gid))
            continue;
        if (!place_look_up(user, group, &uid, &gid))
        {
            missing = user;
            continue;
        }
        owners =
            array_grow(place->owners, place->owner_count, &place->owner_cap, sizeof *owners, err);
        if (owners == NULL)
            return -1;
        place->owners = owners;
        owners[place->owner_count++] =
            (PlaceOwner){.user = user, .group = group, .uid = uid, .gid = gid};
    }
    if (missing != NULL)
        log_write(
            LOG_WARNING, "the owner of the files is not known here%s%s%s: they will belong to root",
            missing[0] != '\0' ? ": user \"" : "", missing, missing[0] != '\0' ? "\"" : "");
    return 0;
}

bool
place_owner(const Place *place, const char *user, const char *group, uid_t *uid, gid_t *gid)
{
    for (size_t i = 0; i < place->owner_count; i++)
        if (strcmp(place->owners[i].user, user) == 0 && strcmp(place->owners[i].group, group) == 0)
        {
            *uid = place->owners[i].uid;
            *gid = place->owners[i].gid;
            return true;
        }
    return false;
}

/* What is made here, and has no entry in the manifest, belongs to the first owner there is. */
static int
place_give(const Place *place, int fd, const char *what, Error *err)
{
    if (place->owner_count > 0 && fchown(fd, place->owners[0].uid, place->owners[0].gid) < 0)
        return error_sys(err, "could not change the owner of \"%s\"", what);
    return 0;
}

/* Mode and owner of a directory that is restored into. */
static int
place_dress(const Place *place, int fd, const char *path, Error *err)
{
    if (fchmod(fd, place->mode) < 0)
    {
        (void) error_sys(err, "could not set the mode of directory \"%s\"", path);
        return err->kind == ERROR_DENIED ? error_hint(err, PLACE_OWNER_HINT) : -1;
    }
    return place_give(place, fd, path, err);
}

/* ---- doing it ---- */

static int
place_temporary_name(const char *name, char *buf, size_t len, Error *err)
{
    if ((size_t) snprintf(buf, len, "%s" PLACE_TEMPORARY, name) >= len)
        return error_set(err, ERROR_USAGE, "file name \"%.64s...\" is too long", name);
    return 0;
}

int
place_file_begin(const Place *place, const char *name, int *out, Error *err)
{
    char temporary[256];
    AUTO(fd_close) int fd = -1;
    /* readable for the group when the directory is */
    mode_t mode = (place->mode & 040) != 0 ? 0640 : 0600;

    if (place_temporary_name(name, temporary, sizeof temporary, err) < 0)
        return -1;
    if (unlinkat(place->fd, temporary, 0) < 0 && errno != ENOENT)
        return error_sys(err, "could not remove file \"%s/%s\"", place->path, temporary);
    fd = openat(place->fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0)
        return error_sys(err, "could not create file \"%s/%s\"", place->path, temporary);
    if (fchmod(fd, mode) < 0)
        return error_sys(err, "could not set the mode of file \"%s/%s\"", place->path, temporary);
    if (place_give(place, fd, name, err) < 0)
        return -1;
    *out = fd_steal(&fd);
    return 0;
}

int
place_file_commit(const Place *place, const char *name, int fd, Error *err)
{
    char temporary[256];

    if (place_temporary_name(name, temporary, sizeof temporary, err) < 0)
        return -1;
    if (fsync(fd) < 0)
        return error_sys(err, "could not sync file \"%s/%s\"", place->path, temporary);
    if (renameat(place->fd, temporary, place->fd, name) < 0)
        return error_sys(err, "could not rename file \"%s/%s\"", place->path, temporary);
    if (fsync(place->fd) < 0)
        return error_sys(err, "could not sync directory \"%s\"", place->path);
    return 0;
}

int
place_write_file(const Place *place, const char *name, const void *data, size_t len, Error *err)
{
    AUTO(fd_close) int fd = -1;

    if (place_file_begin(place, name, &fd, err) < 0 || fs_write_all(fd, data, len, name, err) < 0)
        return -1;
    return place_file_commit(place, name, fd, err);
}

/* The mode of the directory is as open to the group as "global" is. */
static mode_t
place_root_mode(const BackupFile *global)
{
    return global != NULL && (global->mode & 050) == 050 ? 0750 : 0700;
}

static int
place_remove_if_there(const Place *place, const char *name, Error *err)
{
    if (unlinkat(place->fd, name, 0) < 0 && errno != ENOENT && errno != ENOTDIR)
        return error_sys(err, "could not remove file \"%s/%s\"", place->path, name);
    return 0;
}

/* fsync of a folder below the directory, if it is there. */
static int
place_sync_folder(const Place *place, const char *name, Error *err)
{
    AUTO(fd_close) int fd = openat(place->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0 || fsync(fd) < 0)
        return error_sys(err, "could not sync directory \"%s/%s\"", place->path, name);
    return 0;
}

/*
 * The folders above belong to root when root makes them: the server must get through. There are no
 * other threads yet.
 */
static int
place_make_dirs(const char *path, Error *err)
{
    mode_t mode = geteuid() == 0 ? 0755 : 0700;
    mode_t mask = umask(0777 & ~mode);
    int rc = fs_make_dirs(path, mode, true, err);

    (void) umask(mask);
    return rc;
}

/* A link in the place of the folder goes itself: what it points to is not ours. */
static int
place_remove_control(const Place *place, Error *err)
{
    struct stat st;

    if (fstatat(place->fd, "global", &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
    {
        if (place_remove_if_there(place, "global", err) < 0)
            return -1;
    }
    else if (
        place_remove_if_there(place, PLAN_CONTROL, err) < 0 ||
        place_remove_if_there(place, PLACE_CONTROL_PENDING, err) < 0 ||
        place_sync_folder(place, "global", err) < 0)
        return -1;
    if (fsync(place->fd) < 0)
        return error_sys(err, "could not sync directory \"%s\"", place->path);
    return 0;
}

int
place_begin(Place *place, const Plan *plan, Error *err)
{
    PlaceContent content = PLACE_CONTENT_EMPTY;

    place->mode = place_root_mode(manifest_find(&plan->newest, "global"));
    if (place_make_dirs(place->path, err) < 0 || place_lock(place, err) < 0)
        return -1;
    /* another one may have come and gone since it was looked at */
    if ((place->state == PLACE_ABSENT || place->state == PLACE_EMPTY) &&
        place_look(place->path, PLACE_MARKER PLACE_TEMPORARY, &content, err) < 0)
        return -1;
    if (content == PLACE_CONTENT_FULL)
        return error_set(err, ERROR_EXISTS, "directory \"%s\" is not empty any more", place->path);
    if (place_dress(place, place->fd, place->path, err) < 0 ||
        place_write_marker(place, &plan->newest.header, err) < 0)
        return -1;
    /* from here on no server starts in it */
    return place_remove_control(place, err);
}

/* Makes one folder; its parents are there, as the manifest names them first, or are made. */
static int
place_make_folder(
    const Place *place, const char *path, mode_t mode, const char *user, const char *group,
    Error *err)
{
    AUTO(fd_close) int fd = -1;
    uid_t uid;
    gid_t gid;

    if (mkdirat(place->fd, path, 0700) < 0 && errno != EEXIST)
    {
        char parent[DATA_PATH_MAX + 1];
        const char *slash = strrchr(path, '/');

        if (errno != ENOENT || slash == NULL || (size_t) (slash - path) >= sizeof parent)
            return error_sys(err, "could not create directory \"%s/%s\"", place->path, path);
        memcpy(parent, path, (size_t) (slash - path));
        parent[slash - path] = '\0';
        if (place_make_folder(place, parent, mode, user, group, err) < 0)
            return -1;
        if (mkdirat(place->fd, path, 0700) < 0)
            return error_sys(err, "could not create directory \"%s/%s\"", place->path, path);
    }
    fd = openat(place->fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_sys(err, "could not open directory \"%s/%s\"", place->path, path);
    if (fchmod(fd, mode) < 0)
        return error_sys(err, "could not set the mode of directory \"%s/%s\"", place->path, path);
    if (place_owner(place, user, group, &uid, &gid) && fchown(fd, uid, gid) < 0)
        return error_sys(
            err, "could not change the owner of directory \"%s/%s\"", place->path, path);
    return 0;
}

/* The place of a tablespace, and the link to it. */
static int
place_make_tablespace(const Place *place, const PlaceTablespace *ts, Error *err)
{
    AUTO(fd_close) int fd = -1;
    char name[64];

    if (place_make_dirs(ts->path, err) < 0)
        return error_wrap(err, "could not make the place of tablespace %" PRIu32, ts->oid);
    fd = open(ts->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_sys(err, "could not open directory \"%s\"", ts->path);
    if (place_dress(place, fd, ts->path, err) < 0)
        return -1;
    (void) snprintf(name, sizeof name, "pg_tblspc/%" PRIu32, ts->oid);
    if (symlinkat(ts->link, place->fd, name) < 0)
        return error_sys(err, "could not create link \"%s/%s\"", place->path, name);
    if (place->owner_count > 0 &&
        fchownat(place->fd, name, place->owners[0].uid, place->owners[0].gid, AT_SYMLINK_NOFOLLOW) <
            0)
        return error_sys(err, "could not change the owner of link \"%s/%s\"", place->path, name);
    return 0;
}

int
place_make_folders(Place *place, const Plan *plan, Error *err)
{
    static const char *const needed[] = {"pg_tblspc", "pg_wal", "global"};
    const BackupFile *like = manifest_find(&plan->newest, "PG_VERSION");

    for (size_t i = 0; i < ARRAY_COUNT(needed); i++)
        if (place_make_folder(
                place, needed[i], place->mode, like != NULL ? like->user : "",
                like != NULL ? like->group : "", err) < 0)
            return -1;
    for (size_t i = 0; i < place->tablespace_count; i++)
        if (!place->tablespaces[i].in_place &&
            place_make_tablespace(place, &place->tablespaces[i], err) < 0)
            return -1;
    for (size_t i = 0; i < plan->newest.file_count; i++)
    {
        const BackupFile *entry = plan_entry(plan, i);
        const char *rest = "";
        uint32_t oid = plan_path_tablespace(entry->path, &rest);

        if (plan_file(plan, i)->state != PLAN_FOLDER ||
            (rest[0] == '\0' && place_find_tablespace(place, oid) != NULL))
            continue;
        if (place_make_folder(
                place, entry->path, entry->mode & 07777, entry->user, entry->group, err) < 0)
            return -1;
    }
    return 0;
}

int
place_end(Place *place, Error *err)
{
    if (renameat(place->fd, PLACE_CONTROL_PENDING, place->fd, PLAN_CONTROL) < 0)
        return error_sys(
            err, "could not rename file \"%s/" PLACE_CONTROL_PENDING "\"", place->path);
    if (place_sync_folder(place, "global", err) < 0 ||
        place_remove_if_there(place, PLACE_MARKER, err) < 0)
        return -1;
    if (fsync(place->fd) < 0)
    {
        (void) error_sys(err, "could not sync directory \"%s\"", place->path);
        return error_hint(
            err,
            "All of it is restored, and durable; only the removal of " PLACE_MARKER " may not be.");
    }
    return 0;
}
