/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The names in a repository; see layout.h.
 */
#include "repo/layout.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/parse.h"

#define CLUSTER_NAME_MAX 63

uint32_t
layout_part_bytes(uint32_t segment_bytes)
{
    assert(wal_segment_bytes_valid(segment_bytes));
    return MIN(segment_bytes, LAYOUT_PART_MAX_BYTES);
}

static bool
layout_extent_is_part(const WalExtent *extent, uint32_t segment_bytes)
{
    uint32_t part_bytes = layout_part_bytes(segment_bytes);

    return extent->start < extent->end && extent->end <= segment_bytes &&
           extent->start % part_bytes == 0 && extent->end - extent->start == part_bytes;
}

char *
layout_segment_key(TimelineId tli, SegmentNo segno, uint32_t segment_bytes, char *buf)
{
    char name[WAL_SEGMENT_NAME_LEN + 1];

    (void) snprintf(
        buf, LAYOUT_KEY_MAX, "wal/%08" PRIX32 "/%08" PRIX32 "/%s", tli,
        wal_segment_log(segno, segment_bytes),
        wal_segment_name(tli, segno, segment_bytes, name, sizeof name));
    return buf;
}

char *
layout_part_key(const WalExtent *part, uint32_t segment_bytes, char *buf)
{
    assert(layout_extent_is_part(part, segment_bytes));
    (void) layout_segment_key(part->tli, part->segno, segment_bytes, buf);
    if (segment_bytes > LAYOUT_PART_MAX_BYTES)
    {
        size_t len = strlen(buf);

        (void) snprintf(
            buf + len, LAYOUT_KEY_MAX - len, "/%08" PRIX32 "-%08" PRIX32, part->start, part->end);
    }
    return buf;
}

char *
layout_wal_file_key(const WalFileName *name, char *buf)
{
    char segment[WAL_SEGMENT_NAME_LEN + 1];

    (void) snprintf(
        segment, sizeof segment, "%08" PRIX32 "%08" PRIX32 "%08" PRIX32, name->tli, name->log,
        name->seg);
    switch (name->kind)
    {
        case WAL_FILE_HISTORY:
            (void) snprintf(
                buf, LAYOUT_KEY_MAX, "wal/%08" PRIX32 "/%08" PRIX32 ".history", name->tli,
                name->tli);
            break;
        case WAL_FILE_BACKUP:
            (void) snprintf(
                buf, LAYOUT_KEY_MAX, "wal/%08" PRIX32 "/%08" PRIX32 "/%s.%08" PRIX32 ".backup",
                name->tli, name->log, segment, name->offset);
            break;
        case WAL_FILE_PARTIAL:
            (void) snprintf(
                buf, LAYOUT_KEY_MAX, "wal/%08" PRIX32 "/%08" PRIX32 "/%s.partial", name->tli,
                name->log, segment);
            break;
        case WAL_FILE_SEGMENT:
            (void) snprintf(
                buf, LAYOUT_KEY_MAX, "wal/%08" PRIX32 "/%08" PRIX32 "/%s", name->tli, name->log,
                segment);
            break;
    }
    return buf;
}

char *
layout_piece_prefix(TimelineId tli, SegmentNo segno, uint32_t segment_bytes, char *buf)
{
    char name[WAL_SEGMENT_NAME_LEN + 1];

    (void) snprintf(
        buf, LAYOUT_KEY_MAX, "live/%08" PRIX32 "/%s/", tli,
        wal_segment_name(tli, segno, segment_bytes, name, sizeof name));
    return buf;
}

char *
layout_piece_key(const WalExtent *piece, uint32_t segment_bytes, char *buf)
{
    assert(piece->start < piece->end && piece->end <= segment_bytes);
    (void) layout_piece_prefix(piece->tli, piece->segno, segment_bytes, buf);

    size_t len = strlen(buf);

    (void) snprintf(
        buf + len, LAYOUT_KEY_MAX - len, "%08" PRIX32 "-%08" PRIX32, piece->start, piece->end);
    return buf;
}

char *
layout_gap_key(TimelineId tli, Lsn start, Lsn end, char *buf)
{
    assert(start < end);
    (void) snprintf(
        buf, LAYOUT_KEY_MAX, "gap/%08" PRIX32 "/%016" PRIX64 "-%016" PRIX64, tli, start, end);
    return buf;
}

/* Exactly "<digits>-<digits>", nothing behind; start before end. */
static bool
layout_read_range(const char *text, size_t digits, uint64_t *start, uint64_t *end)
{
    return strlen(text) == 2 * digits + 1 && parse_hex_upper(text, digits, start) &&
           text[digits] == '-' && parse_hex_upper(text + digits + 1, digits, end) && *start < *end;
}

/* "<start 8>-<end 8>" within a segment. */
static bool
layout_read_extent(const char *text, uint32_t segment_bytes, WalExtent *extent)
{
    uint64_t start, end;

    if (!layout_read_range(text, 8, &start, &end) || end > segment_bytes)
        return false;
    extent->start = (uint32_t) start;
    extent->end = (uint32_t) end;
    return true;
}

/* "<8 digits>/"; returns what is behind it, NULL if that is not there. */
static const char *
layout_read_folder(const char *text, uint32_t *out)
{
    uint64_t value;

    if (strnlen(text, 9) < 9 || !parse_hex_upper(text, 8, &value) || text[8] != '/')
        return NULL;
    *out = (uint32_t) value;
    return text + 9;
}

/* Behind "wal/<TLI>/". */
static bool
layout_parse_wal(const char *text, uint32_t segment_bytes, LayoutEntry *entry)
{
    if (strchr(text, '/') == NULL)
    {
        entry->kind = LAYOUT_HISTORY;
        return wal_file_name_parse(text, &entry->name) && entry->name.kind == WAL_FILE_HISTORY &&
               entry->name.tli == entry->tli;
    }

    uint32_t log;
    const char *base = layout_read_folder(text, &log);
    const char *range = base != NULL ? strchr(base, '/') : NULL;
    char segment[WAL_SEGMENT_NAME_LEN + 1];

    if (base == NULL)
        return false;
    if (range != NULL)
    {
        if (range - base != WAL_SEGMENT_NAME_LEN)
            return false;
        memcpy(segment, base, WAL_SEGMENT_NAME_LEN);
        segment[WAL_SEGMENT_NAME_LEN] = '\0';
        base = segment;
    }
    if (!wal_file_name_parse(base, &entry->name) || entry->name.tli != entry->tli ||
        entry->name.log != log ||
        !wal_file_segment_no(&entry->name, segment_bytes, &entry->extent.segno))
        return false;
    entry->extent.tli = entry->tli;

    switch (entry->name.kind)
    {
        case WAL_FILE_HISTORY:
            return false;
        case WAL_FILE_BACKUP:
            entry->kind = LAYOUT_BACKUP_FILE;
            return entry->name.offset < segment_bytes;
        case WAL_FILE_PARTIAL:
            entry->kind = LAYOUT_PARTIAL;
            return true;
        case WAL_FILE_SEGMENT:
            break;
    }
    if (segment_bytes <= LAYOUT_PART_MAX_BYTES)
    {
        entry->kind = LAYOUT_SEGMENT;
        entry->extent.end = segment_bytes;
        return range == NULL;
    }
    entry->kind = LAYOUT_PART;
    return range != NULL && layout_read_extent(range + 1, segment_bytes, &entry->extent) &&
           layout_extent_is_part(&entry->extent, segment_bytes);
}

/* Behind "live/<TLI>/". */
static bool
layout_parse_live(const char *text, uint32_t segment_bytes, LayoutEntry *entry)
{
    char segment[WAL_SEGMENT_NAME_LEN + 1];

    entry->kind = LAYOUT_PIECE;
    entry->extent.tli = entry->tli;
    if (strnlen(text, WAL_SEGMENT_NAME_LEN + 1) <= WAL_SEGMENT_NAME_LEN ||
        text[WAL_SEGMENT_NAME_LEN] != '/')
        return false;
    memcpy(segment, text, WAL_SEGMENT_NAME_LEN);
    segment[WAL_SEGMENT_NAME_LEN] = '\0';
    return wal_file_name_parse(segment, &entry->name) && entry->name.kind == WAL_FILE_SEGMENT &&
           entry->name.tli == entry->tli &&
           wal_file_segment_no(&entry->name, segment_bytes, &entry->extent.segno) &&
           layout_read_extent(text + WAL_SEGMENT_NAME_LEN + 1, segment_bytes, &entry->extent);
}

bool
layout_parse(const char *key, uint32_t segment_bytes, LayoutEntry *out)
{
    static const struct
    {
        const char *prefix;
        LayoutKind kind;
    } folders[] = {
        {"wal/", LAYOUT_SEGMENT},
        {"live/", LAYOUT_PIECE},
        {"gap/", LAYOUT_GAP},
    };

    for (size_t i = 0; i < ARRAY_COUNT(folders); i++)
    {
        size_t prefix_len = strlen(folders[i].prefix);
        LayoutEntry entry = {.kind = folders[i].kind};
        bool good;

        if (strncmp(key, folders[i].prefix, prefix_len) != 0)
            continue;

        const char *rest = layout_read_folder(key + prefix_len, &entry.tli);

        if (rest == NULL || entry.tli == 0)
            return false;
        if (entry.kind == LAYOUT_GAP)
            good = layout_read_range(rest, 16, &entry.gap_start, &entry.gap_end);
        else if (entry.kind == LAYOUT_PIECE)
            good = layout_parse_live(rest, segment_bytes, &entry);
        else
            good = layout_parse_wal(rest, segment_bytes, &entry);
        if (good)
            *out = entry;
        return good;
    }
    return false;
}

bool
layout_cluster_name_valid(const char *name)
{
    size_t len = strnlen(name, CLUSTER_NAME_MAX + 1);

    if (len == 0 || len > CLUSTER_NAME_MAX || name[0] == '.')
        return false;
    for (size_t i = 0; i < len; i++)
    {
        char c = name[i];

        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '_' || c == '-'))
            return false;
    }
    return true;
}
