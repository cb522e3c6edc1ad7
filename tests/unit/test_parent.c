/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Which backup an incremental one may build on.
 */
#include "walbackup/parent.h"

#include <string.h>

#include "tap.h"

static const char history_text[] = "1\t0/5000000\tno recovery target specified\n"
                                   "2\t0/7000000\tno recovery target specified\n";

int
main(void)
{
    static const struct
    {
        const char *label;
        BackupHeader parent;
        Lsn start;
        TimelineId tli;
        ErrorKind want;
        Lsn stop;
    } cases[] = {
        {"same timeline", {.tli = 3, .start_lsn = 0x7100000, .stop_lsn = 0x7200000}, 0, 0, 0, 0},
        {"an ancestor's, whole before the switch",
         {.tli = 1, .start_lsn = 0x4000000, .stop_lsn = 0x5000000},
         0x8000000,
         3,
         0,
         0},
        {"an ancestor's, ended behind the switch",
         {.tli = 1, .start_lsn = 0x4000000, .stop_lsn = 0x5000001},
         0,
         0,
         ERROR_CONFLICT,
         0},
        {"a timeline that is no ancestor",
         {.tli = 4, .start_lsn = 0x4000000, .stop_lsn = 0x4000100},
         0,
         0,
         ERROR_CONFLICT,
         0},
        {"another cluster",
         {.tli = 3, .start_lsn = 0x7100000, .stop_lsn = 0x7200000, .system_identifier = 1},
         0,
         0,
         ERROR_CONFLICT,
         0},
        {"another version",
         {.tli = 3, .start_lsn = 0x7100000, .stop_lsn = 0x7200000, .pg_major = 14},
         0,
         0,
         ERROR_CONFLICT,
         0},
        {"checksums were switched",
         {.tli = 3, .start_lsn = 0x7100000, .stop_lsn = 0x7200000, .data_checksums = true},
         0,
         0,
         ERROR_CONFLICT,
         0},
        {"started where we do",
         {.tli = 3, .start_lsn = 0x8000000, .stop_lsn = 0x8000100},
         0x8000000,
         3,
         ERROR_CONFLICT,
         0},
        {"started before us",
         {.tli = 3, .start_lsn = 0x7FFFFF8, .stop_lsn = 0x8000100},
         0x8000000,
         3,
         0,
         0},
        {"of a later timeline than a standby's restart point",
         {.tli = 3, .start_lsn = 0x7100000, .stop_lsn = 0x7200000},
         0x8000000,
         2,
         ERROR_CONFLICT,
         0},
        {"of an earlier timeline, where the server went to another since its history was read",
         {.tli = 1, .start_lsn = 0x4000000, .stop_lsn = 0x4000100},
         0x8000000,
         4,
         ERROR_CONFLICT,
         0},
        {"ended where we do",
         {.tli = 3, .start_lsn = 0x7100000, .stop_lsn = 0x8000100},
         0x8000000,
         3,
         0,
         0x8000100},
        /* we are a standby that is behind: its pages may be as new as its end */
        {"ended behind us",
         {.tli = 3, .start_lsn = 0x7100000, .stop_lsn = 0x8000101},
         0x8000000,
         3,
         ERROR_CONFLICT,
         0x8000100},
        {"a chain that is full",
         {.tli = 3, .start_lsn = 0x7100000, .stop_lsn = 0x7200000, .chain_count = BACKUP_CHAIN_MAX},
         0,
         0,
         ERROR_CONFLICT,
         0},
    };
    AUTO(timeline_history_reset) TimelineHistory history = {0};
    Error err = {0};

    ok(timeline_parse_history(3, history_text, strlen(history_text), &history, &err) == 0,
       "a history");
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        BackupHeader parent = cases[i].parent;
        BackupHeader now = {
            .system_identifier = 7,
            .pg_major = 15,
            .tli = cases[i].tli,
            .start_lsn = cases[i].start,
            .stop_lsn = cases[i].stop};
        int rc;

        if (parent.system_identifier == 0)
            parent.system_identifier = 7;
        if (parent.pg_major == 0)
            parent.pg_major = 15;
        err = (Error){0};
        rc = parent_check(&parent, &now, &history, &err);
        ok(rc == (cases[i].want == ERROR_NONE ? 0 : -1) && err.kind == cases[i].want, "%s",
           cases[i].label);
    }
    return done_testing();
}
