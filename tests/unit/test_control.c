/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "pg/control.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/crc32c.h"
#include "tap.h"
#include "vector.h"

#define VECTORS "tests/vectors/wal/"

/* What pg_controldata of the same version says. */
static const struct
{
    const char *path;
    ControlFile want;
} servers[] = {
    {VECTORS "pg14/pg_control.zst",
     {.system_identifier = 7710542781000733745,
      .control_version = 1300,
      .catalog_version = 202107181,
      .pg_major = 14,
      .checkpoint = 0x1400028,
      .redo = 0x1400028}},
    {VECTORS "pg15/pg_control.zst",
     {.system_identifier = 7710542812050494824,
      .control_version = 1300,
      .catalog_version = 202209061,
      .pg_major = 15,
      .checkpoint = 0x1300028,
      .redo = 0x1300028}},
    {VECTORS "pg16/pg_control.zst",
     {.system_identifier = 7710542788736410736,
      .control_version = 1300,
      .catalog_version = 202307071,
      .pg_major = 16,
      .checkpoint = 0x1200028,
      .redo = 0x1200028}},
    {VECTORS "pg17/pg_control.zst",
     {.system_identifier = 7710542796192875695,
      .control_version = 1700,
      .catalog_version = 202406281,
      .pg_major = 17,
      .checkpoint = 0x1200028,
      .redo = 0x1200028}},
    {VECTORS "pg18/pg_control.zst",
     {.system_identifier = 7710542803717588205,
      .control_version = 1800,
      .catalog_version = 202506291,
      .pg_major = 18,
      .checkpoint = 0x1500028,
      .redo = 0x1500028,
      .data_checksum_version = 1}},
};

static bool
control_equal(const ControlFile *a, const ControlFile *b)
{
    return a->system_identifier == b->system_identifier &&
           a->control_version == b->control_version && a->catalog_version == b->catalog_version &&
           a->pg_major == b->pg_major && a->checkpoint == b->checkpoint && a->redo == b->redo &&
           a->data_checksum_version == b->data_checksum_version;
}

static void
test_servers(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(servers); i++)
    {
        size_t len;
        uint8_t *data = vector_read(servers[i].path, &len);
        ControlFile got = {0};
        Error err = {0};
        size_t taken = 0;
        int rc = control_parse(data, len, &got, &err);

        ok(rc == 0 && control_equal(&got, &servers[i].want), "version %d is read %s",
           servers[i].want.pg_major, err.msg);
        ok(got.state == 1 && got.tli == 1 && got.min_recovery_point == 0 &&
               got.segment_bytes == WAL_SEGMENT_MIN_BYTES && got.block_bytes == 8192,
           "and the rest of it");

        for (size_t at = 0; at < 288; at++)
        {
            data[at] ^= 0x10;
            if (control_parse(data, len, &got, &err) == 0 || err.kind != ERROR_CORRUPT)
                taken++;
            data[at] ^= 0x10;
        }
        ok(taken == 0, "a flipped bit anywhere is noticed");
        free(data);
    }
}

/* Right checksum, content that cannot be. */
static void
test_content(void)
{
    static const struct
    {
        const char *label;
        size_t len;
        size_t at;
        uint32_t value;
        bool good;
    } cases[] = {
        {"shortest", 296, 228, 16 * 1024 * 1024, true},
        {"one byte short", 295, 228, 16 * 1024 * 1024, false},
        {"nothing", 0, 228, 16 * 1024 * 1024, false},
        {"unknown catalog version", 8192, 12, 209912311, true},
        {"segment size 0", 8192, 228, 0, false},
        {"segment size 2 GB", 8192, 228, 0x80000000u, false},
        {"segment size no power of two", 8192, 228, 3 * 1024 * 1024, false},
        {"block size 0", 8192, 216, 0, false},
        {"block size no power of two", 8192, 216, 8191, false},
        {"timeline 0", 8192, 48, 0, false},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        size_t len;
        uint8_t *data = vector_read(VECTORS "pg15/pg_control.zst", &len);
        ControlFile got = {.tli = 42};
        Error err = {0};
        int rc;

        put_u32le(data + cases[i].at, cases[i].value);
        put_u32le(data + 288, crc32c(0, data, 288));
        rc = control_parse(data, cases[i].len, &got, &err);
        ok(cases[i].good ? rc == 0 && (cases[i].at != 12 || got.pg_major == 0)
                         : rc == -1 && err.kind == ERROR_CORRUPT && got.tli == 42,
           "%s: %s", cases[i].label, err.msg);
        free(data);
    }
}

static void
control_write_file(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0 || write(fd, data, len) != (ssize_t) len || close(fd) != 0)
    {
        printf("Bail out! could not write %s\n", path);
        exit(1);
    }
}

static void
test_read(void)
{
    char dir[] = "/tmp/walstream-test-control-XXXXXX";
    char path[128], sub[64];
    size_t len;
    uint8_t *data = vector_read(VECTORS "pg17/pg_control.zst", &len);
    ControlFile got = {0};
    Error err = {0};

    if (mkdtemp(dir) == NULL)
        exit(1);
    (void) snprintf(sub, sizeof sub, "%s/global", dir);
    (void) snprintf(path, sizeof path, "%s/pg_control", sub);

    ok(control_read(dir, &got, &err) == -1 && err.kind == ERROR_NOT_FOUND, "no file: %s", err.msg);
    (void) mkdir(sub, 0700);
    control_write_file(path, data, len);
    ok(control_read(dir, &got, &err) == 0 && control_equal(&got, &servers[3].want), "a good file");
    data[40] ^= 1;
    control_write_file(path, data, len);
    ok(control_read(dir, &got, &err) == -1 && err.kind == ERROR_CORRUPT &&
           strstr(err.msg, path) != NULL,
       "a bad checksum that stays: %s", err.msg);
    control_write_file(path, data, 100);
    ok(control_read(dir, &got, &err) == -1 && err.kind == ERROR_CORRUPT, "a short file: %s",
       err.msg);

    char long_dir[5000];

    memset(long_dir, 'x', sizeof long_dir);
    long_dir[sizeof long_dir - 1] = '\0';
    ok(control_read(long_dir, &got, &err) == -1 && err.kind == ERROR_USAGE, "a path too long");
    (void) unlink(path);
    (void) rmdir(sub);
    (void) rmdir(dir);
    free(data);
}

int
main(void)
{
    test_servers();
    test_content();
    test_read();
    return done_testing();
}
