/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Files of a data directory; see data_file.h.
 */
#include "pg/data_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool
data_path_valid(const char *path)
{
    if (strlen(path) >= DATA_PATH_MAX)
        return false;
    for (;;)
    {
        size_t len = strcspn(path, "/");

        if (len == 0 || (len == 1 && path[0] == '.') ||
            (len == 2 && path[0] == '.' && path[1] == '.'))
            return false;
        if (path[len] == '\0')
            return true;
        path += len + 1;
    }
}

/* ---- relations ---- */

/* A number without leading zeros, not 0, of at most 32 bits. */
static bool
data_file_take_number(const char **at, uint32_t *out)
{
    const char *p = *at;
    uint64_t value = 0;

    if (*p < '1' || *p > '9')
        return false;
    for (; *p >= '0' && *p <= '9'; p++)
    {
        value = value * 10 + (uint64_t) (*p - '0');
        if (value > UINT32_MAX)
            return false;
    }
    *at = p;
    *out = (uint32_t) value;
    return true;
}

/* Digits of any kind, at least one: what the server looks at temporary relations with. */
static bool
data_file_take_digits(const char **at)
{
    size_t len = strspn(*at, "0123456789");

    *at += len;
    return len > 0;
}

static bool
data_file_take_text(const char **at, const char *text)
{
    size_t len = strlen(text);

    if (strncmp(*at, text, len) != 0)
        return false;
    *at += len;
    return true;
}

/* "_fsm", or nothing for the main fork; false for another name. */
static bool
data_file_take_fork(const char **at, DataFork *out)
{
    *out = DATA_FORK_MAIN;
    if (**at != '_')
        return true;
    if (data_file_take_text(at, "_fsm"))
        *out = DATA_FORK_FSM;
    else if (data_file_take_text(at, "_vm"))
        *out = DATA_FORK_VM;
    else if (data_file_take_text(at, "_init"))
        *out = DATA_FORK_INIT;
    return *out != DATA_FORK_MAIN;
}

/*
 * Folder of a database, with the slash behind it: "base/5/", "pg_tblspc/16388/PG_15_202209061/5/".
 * Or "global/", whose database is 0.
 */
static bool
data_file_take_folder(const char **at, RelationFile *out)
{
    uint32_t number;

    if (data_file_take_text(at, "global/"))
    {
        out->tablespace = DATA_TABLESPACE_GLOBAL;
        out->database = 0;
        return true;
    }
    if (data_file_take_text(at, "base/"))
        out->tablespace = DATA_TABLESPACE_DEFAULT;
    else if (
        !data_file_take_text(at, "pg_tblspc/") || !data_file_take_number(at, &out->tablespace) ||
        out->tablespace == DATA_TABLESPACE_DEFAULT || out->tablespace == DATA_TABLESPACE_GLOBAL ||
        !data_file_take_text(at, "/PG_") || !data_file_take_number(at, &number) ||
        !data_file_take_text(at, "_") || !data_file_take_number(at, &number) ||
        !data_file_take_text(at, "/"))
        return false;
    return data_file_take_number(at, &out->database) && data_file_take_text(at, "/");
}

bool
data_file_parse_relation(const char *path, RelationFile *out)
{
    RelationFile file = {.segment = 0};

    if (!data_file_take_folder(&path, &file) || !data_file_take_number(&path, &file.relnode) ||
        !data_file_take_fork(&path, &file.fork))
        return false;
    if (data_file_take_text(&path, ".") && !data_file_take_number(&path, &file.segment))
        return false;
    if (*path != '\0')
        return false;
    *out = file;
    return true;
}

bool
data_file_is_temporary(const char *path)
{
    RelationFile file = {.segment = 0};

    if (!data_file_take_folder(&path, &file) || file.database == 0)
        return false;
    return data_file_take_text(&path, "t") && data_file_take_digits(&path) &&
           data_file_take_text(&path, "_") && data_file_take_digits(&path) &&
           data_file_take_fork(&path, &file.fork) &&
           (!data_file_take_text(&path, ".") || data_file_take_digits(&path)) && *path == '\0';
}

/* ---- what a backup does with it ---- */

/* Left out wherever they are, files and folders. */
static const struct
{
    const char *name;
    bool is_prefix;
    int since; /* PostgreSQL's major version; 0: all */
} data_file_skipped[] = {
    {"pgsql_tmp", true, 0},
    {".DS_Store", false, 15},
    {"postgresql.auto.conf.tmp", false, 0},
    {"current_logfiles.tmp", false, 0},
    {"pg_internal.init", true, 0}, /* and pg_internal.init.<pid> */
    {"backup_label", false, 0},
    {"tablespace_map", false, 0},
    {"backup_manifest", false, 0},
    {"postmaster.pid", false, 0},
    {"postmaster.opts", false, 0},
};

/* Folders that the server empties or fills anew when it starts, wherever they are. */
static const char *const data_file_emptied[] = {
    "pg_stat_tmp", "pg_replslot",  "pg_dynshmem", "pg_notify",
    "pg_serial",   "pg_snapshots", "pg_subtrans",
};

static bool
data_file_is_skipped_name(const char *name, size_t len, int pg_major)
{
    for (size_t i = 0; i < ARRAY_COUNT(data_file_skipped); i++)
    {
        size_t want = strlen(data_file_skipped[i].name);

        if (pg_major >= data_file_skipped[i].since && len >= want &&
            memcmp(name, data_file_skipped[i].name, want) == 0 &&
            (data_file_skipped[i].is_prefix || len == want))
            return true;
    }
    return false;
}

static bool
data_file_is(const char *path, size_t len, const char *want)
{
    return len == strlen(want) && memcmp(path, want, len) == 0;
}

/*
 * "pg_tblspc/<oid>/<name>": of a tablespace's folder a server takes the folder of its own version
 * only. Others belong to servers that share the place, or to one before an upgrade.
 */
static bool
data_file_is_foreign(const char *path, size_t len, int pg_major)
{
    char own[32];
    uint32_t oid;
    size_t own_len = (size_t) snprintf(own, sizeof own, "/PG_%d_", pg_major);
    const char *at = path;

    if (!data_file_take_text(&at, "pg_tblspc/") || !data_file_take_number(&at, &oid) || *at != '/')
        return false;
    if (len <= (size_t) (at - path)) /* the tablespace's folder itself */
        return false;
    len -= (size_t) (at - path);
    return len < own_len || memcmp(at, own, own_len) != 0;
}

/* Of a path as far as one of its components, len bytes; is_folder: of that component. */
static DataFileUse
data_file_use_of(const char *path, size_t len, bool is_folder, int pg_major)
{
    const char *slash = memrchr(path, '/', len);
    const char *name = slash == NULL ? path : slash + 1;
    size_t name_len = len - (size_t) (name - path);

    if (data_file_is_skipped_name(name, name_len, pg_major) ||
        data_file_is(path, len, "global/pg_control") || data_file_is_foreign(path, len, pg_major))
        return DATA_FILE_SKIP;
    if (!is_folder)
        return DATA_FILE_COPY;
    if (data_file_is(path, len, "pg_wal"))
        return DATA_FILE_KEEP_EMPTY;
    for (size_t i = 0; i < ARRAY_COUNT(data_file_emptied); i++)
        if (data_file_is(name, name_len, data_file_emptied[i]))
            return DATA_FILE_KEEP_EMPTY;
    return DATA_FILE_COPY;
}

DataFileUse
data_file_use(const char *path, bool is_folder, int pg_major)
{
    if (is_folder && (strcmp(path, "pg_wal/archive_status") == 0 ||
                      (pg_major >= 17 && strcmp(path, "pg_wal/summaries") == 0)))
        return DATA_FILE_KEEP_EMPTY;
    /* nothing below a folder that is not copied is */
    for (const char *p = strchr(path, '/'); p != NULL; p = strchr(p + 1, '/'))
        if (data_file_use_of(path, (size_t) (p - path), true, pg_major) != DATA_FILE_COPY)
            return DATA_FILE_SKIP;
    if (data_file_is_temporary(path))
        return DATA_FILE_SKIP;
    return data_file_use_of(path, strlen(path), is_folder, pg_major);
}
