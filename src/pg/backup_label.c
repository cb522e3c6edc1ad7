/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * backup_label and tablespace_map; see backup_label.h.
 */
#include "pg/backup_label.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/parse.h"

#define BACKUP_LABEL_LINE_MAX 512
#define TABLESPACE_PATH_MAX 1024 /* PostgreSQL's MAXPGPATH, its NUL included */

/* ---- backup_label ---- */

static const char backup_label_incremental_lsn[] = "INCREMENTAL FROM LSN: ";
static const char backup_label_incremental_tli[] = "INCREMENTAL FROM TLI: ";

/* If text begins with prefix: what is behind it, up to the line's end. */
static bool
backup_label_value(const char *line, size_t len, const char *prefix, const char **value)
{
    size_t prefix_len = strlen(prefix);

    if (len < prefix_len || memcmp(line, prefix, prefix_len) != 0)
        return false;
    *value = line + prefix_len;
    return true;
}

/* The line at *at as text, without its end; false when there is none that is whole. */
static bool
backup_label_take_line(const char **at, const char *end, char *buf, size_t cap)
{
    const char *newline = *at < end ? memchr(*at, '\n', (size_t) (end - *at)) : NULL;
    size_t len = newline == NULL ? 0 : (size_t) (newline - *at);

    if (newline == NULL || len >= cap)
        return false;
    memcpy(buf, *at, len);
    buf[len] = '\0';
    *at = newline + 1;
    return true;
}

/* "0/2000028 (file 000000010000000000000002)" */
static int
backup_label_parse_start(char *value, uint32_t segment_bytes, BackupLabel *out, Error *err)
{
    static const char behind_lsn[] = " (file ";
    char *space = strchr(value, ' ');
    char *name = space == NULL ? NULL : space + sizeof behind_lsn - 1;
    WalFileName file = {0};
    SegmentNo segno = 0;
    size_t len;

    if (space == NULL || strncmp(space, behind_lsn, sizeof behind_lsn - 1) != 0)
        return error_set(err, ERROR_CORRUPT, "malformed line \"START WAL LOCATION\"");
    *space = '\0';
    len = strlen(name);
    if (len == 0 || name[len - 1] != ')')
        return error_set(err, ERROR_CORRUPT, "malformed line \"START WAL LOCATION\"");
    name[len - 1] = '\0';
    if (!lsn_parse(value, &out->start_lsn) || out->start_lsn == LSN_INVALID ||
        !wal_file_name_parse(name, &file) || file.kind != WAL_FILE_SEGMENT)
        return error_set(err, ERROR_CORRUPT, "malformed line \"START WAL LOCATION\"");
    out->start_tli = file.tli;
    if (segment_bytes != 0 && (!wal_file_segment_no(&file, segment_bytes, &segno) ||
                               segno != wal_segment_of(out->start_lsn, segment_bytes)))
        return error_set(
            err, ERROR_CORRUPT, "START WAL LOCATION %s is not in WAL segment %s", value, name);
    return 0;
}

/* What may follow the first two lines, in this order. */
typedef enum BackupLabelLine
{
    BACKUP_LABEL_METHOD,
    BACKUP_LABEL_FROM,
    BACKUP_LABEL_TIME,
    BACKUP_LABEL_LABEL,
    BACKUP_LABEL_TIMELINE,
    BACKUP_LABEL_INCREMENTAL_LSN,
    BACKUP_LABEL_INCREMENTAL_TLI,
    BACKUP_LABEL_LINES
} BackupLabelLine;

static const char *const backup_label_lines[BACKUP_LABEL_LINES] = {
    [BACKUP_LABEL_METHOD] = "BACKUP METHOD: ",
    [BACKUP_LABEL_FROM] = "BACKUP FROM: ",
    [BACKUP_LABEL_TIME] = "START TIME: ",
    [BACKUP_LABEL_LABEL] = "LABEL: ",
    [BACKUP_LABEL_TIMELINE] = "START TIMELINE: ",
    [BACKUP_LABEL_INCREMENTAL_LSN] = backup_label_incremental_lsn,
    [BACKUP_LABEL_INCREMENTAL_TLI] = backup_label_incremental_tli,
};

static int
backup_label_take_value(BackupLabelLine line, const char *value, BackupLabel *out, Error *err)
{
    bool good = true;
    uint32_t tli;

    switch (line)
    {
        case BACKUP_LABEL_FROM:
            out->from_standby = strcmp(value, "standby") == 0;
            good = out->from_standby || strcmp(value, "primary") == 0;
            break;
        case BACKUP_LABEL_TIMELINE:
            good = parse_u32(value, &tli) && tli != 0;
            if (good && tli != out->start_tli)
                return error_set(
                    err, ERROR_CORRUPT,
                    "START TIMELINE %" PRIu32 " is not timeline %" PRIu32 " of START WAL LOCATION",
                    tli, out->start_tli);
            break;
        case BACKUP_LABEL_INCREMENTAL_LSN:
            good = lsn_parse(value, &out->incremental_from_lsn) &&
                   out->incremental_from_lsn != LSN_INVALID;
            break;
        case BACKUP_LABEL_INCREMENTAL_TLI:
            good = parse_u32(value, &out->incremental_from_tli) && out->incremental_from_tli != 0;
            break;
        case BACKUP_LABEL_METHOD:
        case BACKUP_LABEL_TIME:
        case BACKUP_LABEL_LABEL:
        case BACKUP_LABEL_LINES:
            break;
    }
    if (!good)
        return error_set(
            err, ERROR_CORRUPT, "malformed line \"%.*s\"",
            (int) strcspn(backup_label_lines[line], ":"), backup_label_lines[line]);
    return 0;
}

/*
 * Lines behind the first two. What is none of them is passed over, as a label may contain line
 * ends: PostgreSQL would stop there, and take an incremental backup for a full one.
 */
static int
backup_label_parse_rest(const char *at, const char *end, BackupLabel *out, Error *err)
{
    size_t next = 0;

    while (at < end)
    {
        const char *newline = memchr(at, '\n', (size_t) (end - at));
        size_t len = (size_t) (newline - at);

        for (size_t i = next; i < BACKUP_LABEL_LINES; i++)
        {
            char buf[BACKUP_LABEL_LINE_MAX];
            const char *value;
            size_t value_len;

            if (!backup_label_value(at, len, backup_label_lines[i], &value))
                continue;
            value_len = MIN((size_t) (newline - value), sizeof buf - 1);
            memcpy(buf, value, value_len);
            buf[value_len] = '\0';
            if (backup_label_take_value((BackupLabelLine) i, buf, out, err) < 0)
                return -1;
            next = i + 1;
            break;
        }
        at = newline + 1;
    }
    if ((out->incremental_from_lsn == LSN_INVALID) != (out->incremental_from_tli == 0))
        return error_set(
            err, ERROR_CORRUPT, "only one of the two lines \"INCREMENTAL FROM\" is there");
    return 0;
}

static int
backup_label_parse_text(
    const char *text, size_t len, uint32_t segment_bytes, BackupLabel *out, Error *err)
{
    const char *end = text + len;
    const char *at = text;
    char line[BACKUP_LABEL_LINE_MAX];
    const char *value;

    if (len == 0)
        return error_set(err, ERROR_CORRUPT, "it is empty");
    if (len > BACKUP_LABEL_MAX)
        return error_set(err, ERROR_CORRUPT, "it is larger than %d bytes", BACKUP_LABEL_MAX);
    if (memchr(text, '\0', len) != NULL)
        return error_set(err, ERROR_CORRUPT, "it contains a zero byte");
    /* every line has its end: what is cut off may read as another number */
    if (text[len - 1] != '\n')
        return error_set(err, ERROR_CORRUPT, "it ends within a line");

    if (!backup_label_take_line(&at, end, line, sizeof line) ||
        !backup_label_value(line, strlen(line), "START WAL LOCATION: ", &value))
        return error_set(err, ERROR_CORRUPT, "its first line is not \"START WAL LOCATION\"");
    if (backup_label_parse_start(line + (value - line), segment_bytes, out, err) < 0)
        return -1;
    if (!backup_label_take_line(&at, end, line, sizeof line) ||
        !backup_label_value(line, strlen(line), "CHECKPOINT LOCATION: ", &value))
        return error_set(err, ERROR_CORRUPT, "its second line is not \"CHECKPOINT LOCATION\"");
    if (!lsn_parse(value, &out->checkpoint_lsn))
        return error_set(err, ERROR_CORRUPT, "malformed line \"CHECKPOINT LOCATION\"");
    if (out->checkpoint_lsn < out->start_lsn)
        return error_set(
            err, ERROR_CORRUPT, "CHECKPOINT LOCATION is before START WAL LOCATION, its redo point");
    return backup_label_parse_rest(at, end, out, err);
}

int
backup_label_parse(
    const char *text, size_t len, uint32_t segment_bytes, BackupLabel *out, Error *err)
{
    *out = (BackupLabel){0};
    if (backup_label_parse_text(text, len, segment_bytes, out, err) < 0)
        return error_wrap(err, "could not read backup label");
    return 0;
}

void
backup_label_without_incremental(const char *text, size_t len, StrBuf *out)
{
    const char *at = text;
    const char *end = len > 0 ? text + len : text;

    while (at < end)
    {
        const char *newline = memchr(at, '\n', (size_t) (end - at));
        size_t line_len = (size_t) ((newline == NULL ? end : newline + 1) - at);
        const char *value;

        if (!backup_label_value(at, line_len, backup_label_incremental_lsn, &value) &&
            !backup_label_value(at, line_len, backup_label_incremental_tli, &value))
            strbuf_append(out, at, line_len);
        at += line_len;
    }
}

/* ---- tablespace_map ---- */

void
tablespace_map_reset(TablespaceMap *map)
{
    for (size_t i = 0; i < map->count; i++)
        free(map->items[i].path);
    free(map->items);
    *map = (TablespaceMap){0};
}

int
tablespace_map_add(TablespaceMap *map, uint32_t oid, const char *path, Error *err)
{
    TablespaceEntry *items;
    char *copy;

    if (oid == 0 || path[0] == '\0' || strlen(path) >= TABLESPACE_PATH_MAX)
        return error_set(
            err, ERROR_CORRUPT, "tablespace %" PRIu32 " has no location that is fit for one", oid);
    for (size_t i = 0; i < map->count; i++)
        if (map->items[i].oid == oid)
            return error_set(err, ERROR_CORRUPT, "tablespace %" PRIu32 " is there twice", oid);
    if (map->count >= TABLESPACE_MAX_ENTRIES)
        return error_set(
            err, ERROR_CORRUPT, "there are more than %d tablespaces", TABLESPACE_MAX_ENTRIES);
    items = array_grow(map->items, map->count, &map->cap, sizeof *items, err);
    if (items == NULL)
        return -1;
    map->items = items;
    copy = strdup(path);
    if (copy == NULL)
        return error_nomem(err);
    map->items[map->count++] = (TablespaceEntry){.oid = oid, .path = copy};
    return 0;
}

/* "16384 /srv/ts", escapes gone already. */
static int
tablespace_map_add_line(TablespaceMap *map, char *line, Error *err)
{
    char *space = strchr(line, ' ');
    uint32_t oid;

    if (space == NULL)
        return error_set(err, ERROR_CORRUPT, "malformed line");
    *space = '\0';
    if (!parse_u32(line, &oid) || line[0] == '0')
        return error_set(err, ERROR_CORRUPT, "malformed OID of a tablespace");
    return tablespace_map_add(map, oid, space + 1, err);
}

static int
tablespace_map_parse_text(const char *text, size_t len, TablespaceMap *map, Error *err)
{
    char line[TABLESPACE_PATH_MAX + 16];
    size_t used = 0;
    size_t line_no = 1;
    bool escaped = false;

    for (size_t i = 0; i < len; i++)
    {
        char c = text[i];

        if (c == '\0')
            return error_set(err, ERROR_CORRUPT, "line %zu contains a zero byte", line_no);
        if (!escaped && c == '\\')
        {
            escaped = true;
            continue;
        }
        if (!escaped && (c == '\n' || c == '\r'))
        {
            /* blank lines are what PostgreSQL passes over, for the sake of CR LF */
            line[used] = '\0';
            if (used > 0 && tablespace_map_add_line(map, line, err) < 0)
                return error_wrap(err, "line %zu", line_no);
            used = 0;
            line_no += c == '\n';
            continue;
        }
        escaped = false;
        if (used + 1 >= sizeof line)
            return error_set(err, ERROR_CORRUPT, "line %zu is too long", line_no);
        line[used++] = c;
    }
    if (used > 0 || escaped)
        return error_set(err, ERROR_CORRUPT, "it ends within line %zu", line_no);
    return 0;
}

int
tablespace_map_parse(const char *text, size_t len, TablespaceMap *out, Error *err)
{
    AUTO(tablespace_map_reset) TablespaceMap map = {0};

    if (len > TABLESPACE_MAP_MAX)
        (void) error_set(err, ERROR_CORRUPT, "it is larger than %d bytes", TABLESPACE_MAP_MAX);
    else if (tablespace_map_parse_text(text, len, &map, err) == 0)
    {
        tablespace_map_reset(out);
        *out = map;
        map = (TablespaceMap){0};
        return 0;
    }
    return error_wrap(err, "could not read tablespace map");
}

void
tablespace_map_format(const TablespaceMap *map, StrBuf *out)
{
    for (size_t i = 0; i < map->count; i++)
    {
        strbuf_printf(out, "%" PRIu32 " ", map->items[i].oid);
        for (const char *p = map->items[i].path; *p != '\0'; p++)
        {
            if (*p == '\n' || *p == '\r' || *p == '\\')
                strbuf_putc(out, '\\');
            strbuf_putc(out, *p);
        }
        strbuf_putc(out, '\n');
    }
}
