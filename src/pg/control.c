/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * pg_control; see control.h. The offsets are those of 64-bit little-endian builds.
 */
#include "pg/control.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "common/crc32c.h"
#include "common/fs.h"

#define CONTROL_MIN_BYTES 296
#define CONTROL_FILE_BYTES 8192
#define CONTROL_READ_TRIES 10
#define CONTROL_READ_PAUSE_MS 20

#define CONTROL_AT_SYSTEM_IDENTIFIER 0
#define CONTROL_AT_VERSION 8
#define CONTROL_AT_CATALOG_VERSION 12
#define CONTROL_AT_STATE 16
#define CONTROL_AT_CHECKPOINT 32
#define CONTROL_AT_REDO 40
#define CONTROL_AT_TIMELINE 48
#define CONTROL_AT_MIN_RECOVERY_POINT 136
#define CONTROL_AT_BLOCK_BYTES 216
#define CONTROL_AT_SEGMENT_BYTES 228
#define CONTROL_AT_CHECKSUM_VERSION 252

/* Where the CRC of all bytes before it stands: 14 to 17, and 18, which has one more field. */
static const size_t control_crc_offsets[] = {288, 292};

static const struct
{
    uint32_t catalog_version;
    int pg_major;
} control_catalogs[] = {
    {202107181, 14}, {202209061, 15}, {202307071, 16}, {202406281, 17}, {202506291, 18},
};

static bool
control_crc_valid(const uint8_t *p)
{
    for (size_t i = 0; i < ARRAY_COUNT(control_crc_offsets); i++)
        if (crc32c(0, p, control_crc_offsets[i]) == get_u32le(p + control_crc_offsets[i]))
            return true;
    return false;
}

int
control_parse(const void *data, size_t len, ControlFile *out, Error *err)
{
    const uint8_t *p = data;

    if (len < CONTROL_MIN_BYTES)
        return error_set(
            err, ERROR_CORRUPT, "it has %zu bytes, a control file has %d", len, CONTROL_FILE_BYTES);
    if (!control_crc_valid(p))
        return error_set(err, ERROR_CORRUPT, "checksum mismatch");

    ControlFile c = {
        .system_identifier = get_u64le(p + CONTROL_AT_SYSTEM_IDENTIFIER),
        .control_version = get_u32le(p + CONTROL_AT_VERSION),
        .catalog_version = get_u32le(p + CONTROL_AT_CATALOG_VERSION),
        .state = get_u32le(p + CONTROL_AT_STATE),
        .checkpoint = get_u64le(p + CONTROL_AT_CHECKPOINT),
        .redo = get_u64le(p + CONTROL_AT_REDO),
        .tli = get_u32le(p + CONTROL_AT_TIMELINE),
        .min_recovery_point = get_u64le(p + CONTROL_AT_MIN_RECOVERY_POINT),
        .segment_bytes = get_u32le(p + CONTROL_AT_SEGMENT_BYTES),
        .block_bytes = get_u32le(p + CONTROL_AT_BLOCK_BYTES),
        .data_checksum_version = get_u32le(p + CONTROL_AT_CHECKSUM_VERSION),
    };

    for (size_t i = 0; i < ARRAY_COUNT(control_catalogs); i++)
        if (control_catalogs[i].catalog_version == c.catalog_version)
            c.pg_major = control_catalogs[i].pg_major;

    /* the checksum is right: what is wrong now is a layout that we do not know, not damage */
    if (!wal_segment_bytes_valid(c.segment_bytes))
        return error_set(
            err, ERROR_CORRUPT, "its WAL segment size of %" PRIu32 " bytes is invalid",
            c.segment_bytes);
    if (c.block_bytes < 1024 || c.block_bytes > 32768 || (c.block_bytes & (c.block_bytes - 1)) != 0)
        return error_set(
            err, ERROR_CORRUPT, "its block size of %" PRIu32 " bytes is invalid", c.block_bytes);
    if (c.system_identifier == 0 || c.tli == 0)
        return error_set(err, ERROR_CORRUPT, "it names no system identifier or no timeline");
    *out = c;
    return 0;
}

static int
control_read_once(const char *path, ControlFile *out, Error *err)
{
    uint8_t buf[CONTROL_FILE_BYTES];
    size_t got;
    AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return error_sys(err, "could not open control file \"%s\"", path);
    if (fs_read_full(fd, buf, sizeof buf, &got, path, err) < 0)
        return -1;
    if (control_parse(buf, got, out, err) < 0)
        return error_wrap(err, "could not read control file \"%s\"", path);
    return 0;
}

int
control_read(const char *data_dir, ControlFile *out, Error *err)
{
    char path[4096];
    int len = snprintf(path, sizeof path, "%s/global/pg_control", data_dir);

    if (len < 0 || (size_t) len >= sizeof path)
        return error_set(
            err, ERROR_USAGE, "path of data directory \"%.64s...\" is too long", data_dir);
    for (int left = CONTROL_READ_TRIES;; left--)
    {
        if (control_read_once(path, out, err) == 0)
            return 0;
        if (err->kind != ERROR_CORRUPT || left == 1)
            return -1;
        clock_sleep_ms(CONTROL_READ_PAUSE_MS);
    }
}
