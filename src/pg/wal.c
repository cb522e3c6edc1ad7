/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * WAL positions, segments and file names; see wal.h.
 */
#include "pg/wal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/parse.h"

#define TIMELINE_DIGITS 8
#define BACKUP_SUFFIX ".backup"
#define HISTORY_SUFFIX ".history"
#define PARTIAL_SUFFIX ".partial"

/* Reads 1 to 8 hex digits of either case; returns what is behind them, NULL if that is not there.
 */
static const char *
lsn_parse_half(const char *text, uint64_t *out)
{
    uint64_t value = 0;
    size_t digits = 0;

    for (;; text++, digits++)
    {
        char c = *text;
        int digit;

        if (c >= '0' && c <= '9')
            digit = c - '0';
        else if (c >= 'A' && c <= 'F')
            digit = c - 'A' + 10;
        else if (c >= 'a' && c <= 'f')
            digit = c - 'a' + 10;
        else
            break;
        if (digits == 8)
            return NULL;
        value = value << 4 | (uint64_t) digit;
    }
    *out = value;
    return digits > 0 ? text : NULL;
}

bool
lsn_parse(const char *text, Lsn *out)
{
    uint64_t high, low;

    text = lsn_parse_half(text, &high);
    if (text == NULL || *text != '/')
        return false;
    text = lsn_parse_half(text + 1, &low);
    if (text == NULL || *text != '\0')
        return false;
    *out = high << 32 | low;
    return true;
}

char *
lsn_format(Lsn lsn, char *buf, size_t len)
{
    (void) snprintf(buf, len, "%" PRIX32 "/%08" PRIX32, (uint32_t) (lsn >> 32), (uint32_t) lsn);
    return buf;
}

bool
wal_segment_bytes_valid(uint64_t segment_bytes)
{
    return segment_bytes >= WAL_SEGMENT_MIN_BYTES && segment_bytes <= WAL_SEGMENT_MAX_BYTES &&
           (segment_bytes & (segment_bytes - 1)) == 0;
}

SegmentNo
wal_segment_of(Lsn lsn, uint32_t segment_bytes)
{
    assert(wal_segment_bytes_valid(segment_bytes));
    return lsn / segment_bytes;
}

Lsn
wal_segment_start(SegmentNo segno, uint32_t segment_bytes)
{
    assert(wal_segment_bytes_valid(segment_bytes));
    return segno * segment_bytes;
}

uint32_t
wal_segment_offset(Lsn lsn, uint32_t segment_bytes)
{
    assert(wal_segment_bytes_valid(segment_bytes));
    return (uint32_t) (lsn & (segment_bytes - 1));
}

static uint64_t
wal_segments_per_log(uint32_t segment_bytes)
{
    assert(wal_segment_bytes_valid(segment_bytes));
    return (UINT64_C(1) << 32) / segment_bytes;
}

uint32_t
wal_segment_log(SegmentNo segno, uint32_t segment_bytes)
{
    return (uint32_t) (segno / wal_segments_per_log(segment_bytes));
}

char *
wal_segment_name(TimelineId tli, SegmentNo segno, uint32_t segment_bytes, char *buf, size_t len)
{
    uint64_t per_log = wal_segments_per_log(segment_bytes);

    (void) snprintf(
        buf, len, "%08" PRIX32 "%08" PRIX32 "%08" PRIX32, tli, (uint32_t) (segno / per_log),
        (uint32_t) (segno % per_log));
    return buf;
}

/* Eight upper-case digits; the caller knows that so many characters are there. */
static bool
wal_name_read_number(const char *text, uint32_t *out)
{
    uint64_t value;

    if (!parse_hex_upper(text, 8, &value))
        return false;
    *out = (uint32_t) value;
    return true;
}

bool
wal_file_name_parse(const char *name, WalFileName *out)
{
    WalFileName found = {.kind = WAL_FILE_SEGMENT};
    size_t len = strnlen(name, WAL_NAME_MAX);

    if (len < TIMELINE_DIGITS || !wal_name_read_number(name, &found.tli) || found.tli == 0)
        return false;
    if (strcmp(name + TIMELINE_DIGITS, HISTORY_SUFFIX) == 0)
    {
        found.kind = WAL_FILE_HISTORY;
        *out = found;
        return true;
    }
    if (len < WAL_SEGMENT_NAME_LEN || !wal_name_read_number(name + 8, &found.log) ||
        !wal_name_read_number(name + 16, &found.seg))
        return false;

    const char *rest = name + WAL_SEGMENT_NAME_LEN;
    size_t rest_len = len - WAL_SEGMENT_NAME_LEN;

    if (rest_len == 0)
        found.kind = WAL_FILE_SEGMENT;
    else if (strcmp(rest, PARTIAL_SUFFIX) == 0)
        found.kind = WAL_FILE_PARTIAL;
    else if (
        rest_len == 1 + 8 + sizeof BACKUP_SUFFIX - 1 && rest[0] == '.' &&
        wal_name_read_number(rest + 1, &found.offset) && strcmp(rest + 9, BACKUP_SUFFIX) == 0)
        found.kind = WAL_FILE_BACKUP;
    else
        return false;
    *out = found;
    return true;
}

bool
wal_file_segment_no(const WalFileName *name, uint32_t segment_bytes, SegmentNo *out)
{
    uint64_t per_log = wal_segments_per_log(segment_bytes);

    if (name->kind == WAL_FILE_HISTORY || name->seg >= per_log)
        return false;
    *out = name->log * per_log + name->seg;
    return true;
}
