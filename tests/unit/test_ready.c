/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Which segments wait in archive_status: lowest first, only segments, also out of very many.
 */
#include "walstream/ready.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fake_clock.h"
#include "tap.h"
#include "tempdir.h"

static void
put(int dir, const char *name)
{
    char path[200];
    int fd;

    (void) snprintf(path, sizeof path, "pg_wal/archive_status/%s", name);
    fd = openat(dir, path, O_WRONLY | O_CREAT, 0600);
    if (fd >= 0)
        (void) close(fd);
}

int
main(void)
{
    static const char *const others[] = {
        "00000002.history.ready",
        "000000010000000000000001.00000028.backup.ready",
        "000000010000000000000002.partial.ready",
        "000000010000000000000003.done",
        "00000001000000000000000g.ready",
        "000000010000000000000004.ready.tmp",
    };
    ReadyCache cache;
    ReadyName names[8];
    size_t count;
    int dir;

    fake_clock_stop();
    tempdir_make();
    dir = open(tempdir_path, O_RDONLY | O_DIRECTORY);
    ready_init(&cache);
    ok(ready_next(&cache, dir, "000000010000000000000000", names, 8) == 0,
       "no archive_status: no names");
    if (mkdirat(dir, "pg_wal", 0700) < 0 || mkdirat(dir, "pg_wal/archive_status", 0700) < 0)
        return 1;
    for (size_t i = 0; i < ARRAY_COUNT(others); i++)
        put(dir, others[i]);
    for (unsigned i = 2000; i > 0; i--)
    {
        char name[64];

        (void) snprintf(name, sizeof name, "0000000100000000%08X.ready", i * 2);
        put(dir, name);
    }
    fake_clock_move_ms(READY_RESCAN_MS);
    count = ready_next(&cache, dir, "000000010000000000000005", names, 4);
    ok(count == 4 && strcmp(names[0], "000000010000000000000006") == 0 &&
           strcmp(names[3], "00000001000000000000000C") == 0,
       "the lowest behind the one named, in order");
    put(dir, "000000010000000000000007.ready");
    count = ready_next(&cache, dir, "000000010000000000000005", names, 4);
    ok(count == 4 && strcmp(names[1], "000000010000000000000008") == 0,
       "one reading serves several questions");
    fake_clock_move_ms(READY_RESCAN_MS - 1);
    count = ready_next(&cache, dir, "000000010000000000000F9E", names, 8);
    ok(count == 0, "behind the end of the cache, too early to read again");
    fake_clock_move_ms(1);
    count = ready_next(&cache, dir, "000000010000000000000F9E", names, 8);
    ok(count == 1 && strcmp(names[0], "000000010000000000000FA0") == 0,
       "later it reads again: the last one");
    ready_destroy(&cache);
    (void) close(dir);
    return done_testing();
}
