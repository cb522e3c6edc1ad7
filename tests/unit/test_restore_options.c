/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "walrestore/options.h"

#include <string.h>

#include "tap.h"

#define US INT64_C(1000000)

static void
test_times(void)
{
    static const struct
    {
        const char *label, *text;
        bool good;
        int64_t want_us;
        bool zone;
    } cases[] = {
        {"ISO 8601", "2026-03-01T09:14:07Z", true, 1772356447 * US, true},
        {"PostgreSQL's form", "2026-03-01 09:14:07.12+01", true, 1772352847 * US + 120000, true},
        {"offset with colon", "2026-03-01 09:14:07+05:30", true, 1772336647 * US, true},
        {"offset without colon", "2026-03-01 09:14:07-0330", true, 1772369047 * US, true},
        {"blank before the zone", "2026-03-01 09:14:07 UTC", true, 1772356447 * US, true},
        {"no zone", "2026-03-01 09:14:07", true, 1772356447 * US, false},
        {"no seconds", "2026-03-01 09:14", true, 1772356440 * US, false},
        {"microseconds", "2026-03-01 09:14:07.000001Z", true, 1772356447 * US + 1, true},
        {"29 February of a leap year", "2024-02-29 00:00:00Z", true, 1709164800 * US, true},
        {"29 February of another", "2026-02-29 00:00:00Z", false, 0, false},
        {"month 13", "2026-13-01 00:00:00Z", false, 0, false},
        {"hour 24", "2026-03-01 24:00:00Z", false, 0, false},
        {"second 60", "2026-03-01 09:14:60Z", false, 0, false},
        {"seven digits", "2026-03-01 09:14:07.0000001Z", false, 0, false},
        {"a point without digits", "2026-03-01 09:14:07.Z", false, 0, false},
        {"a day without time", "2026-03-01", false, 0, false},
        {"a zone by name", "2026-03-01 09:14:07 Europe/Berlin", false, 0, false},
        {"an ambiguous zone", "2026-03-01 09:14:07 CST", false, 0, false},
        {"something behind the offset", "2026-03-01 09:14:07+01x", false, 0, false},
        {"offset of one digit", "2026-03-01 09:14:07+1", false, 0, false},
        {"offset of 16 hours", "2026-03-01 09:14:07+16", false, 0, false},
        {"before 1970", "1969-12-31 23:59:59Z", false, 0, false},
        {"day first", "01-03-2026 09:14:07Z", false, 0, false},
        {"nothing", "", false, 0, false},
        {"now", "now", false, 0, false},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        int64_t got = -1;
        bool zone = false;
        bool good = restore_parse_time(cases[i].text, &got, &zone);

        ok(good == cases[i].good && (!good || (got == cases[i].want_us && zone == cases[i].zone)),
           "time: %s", cases[i].label);
    }
}

#define MAX_ARGS 8

static void
test_options(void)
{
    static const struct
    {
        const char *label;
        const char *args[MAX_ARGS];
        bool good;
        RecoveryTargetKind kind;
    } cases[] = {
        {"latest", {"--to=/d"}, true, RECOVERY_LATEST},
        {"time", {"--to", "/d", "--target-time=2026-03-01 09:14:07Z"}, true, RECOVERY_TIME},
        {"lsn", {"--to=/d", "--target-lsn=1/A0"}, true, RECOVERY_LSN},
        {"xid with epoch", {"--to=/d", "--target-xid=4294967999"}, true, RECOVERY_XID},
        {"name", {"--to=/d", "--target-name=before"}, true, RECOVERY_NAME},
        {"immediate", {"--to=/d", "--target=immediate"}, true, RECOVERY_IMMEDIATE},
        {"latest by name", {"--to=/d", "--target=latest"}, true, RECOVERY_LATEST},
        {"exclusive", {"--to=/d", "--target-xid=700", "--exclusive"}, true, RECOVERY_XID},
        {"pause", {"--to=/d", "--target-xid=700", "--target-action=pause"}, true, RECOVERY_XID},
        {"standby", {"--to=/d", "--standby", "--timeline=latest"}, true, RECOVERY_LATEST},
        {"no directory", {"--target=latest"}, false, 0},
        {"empty directory", {"--to="}, false, 0},
        {"two targets", {"--to=/d", "--target-xid=700", "--target-lsn=0/1"}, false, 0},
        {"two targets, one general",
         {"--to=/d", "--target=immediate", "--target-lsn=0/1"},
         false,
         0},
        {"exclusive without target", {"--to=/d", "--exclusive"}, false, 0},
        {"exclusive name", {"--to=/d", "--target-name=x", "--exclusive"}, false, 0},
        {"action without target", {"--to=/d", "--target-action=pause"}, false, 0},
        {"unknown action", {"--to=/d", "--target-xid=700", "--target-action=stop"}, false, 0},
        {"standby with target", {"--to=/d", "--standby", "--target-xid=700"}, false, 0},
        {"unknown target", {"--to=/d", "--target=newest"}, false, 0},
        {"xid 0", {"--to=/d", "--target-xid=0"}, false, 0},
        {"lsn 0", {"--to=/d", "--target-lsn=0/0"}, false, 0},
        {"name of 64 bytes",
         {"--to=/d", "--target-name="
                     "0123456789012345678901234567890123456789012345678901234567890123"},
         false,
         0},
        {"timeline 0", {"--to=/d", "--timeline=0"}, false, 0},
        {"timeline oldest", {"--to=/d", "--timeline=oldest"}, false, 0},
        {"tablespaces", {"--to=/d", "--tablespace=16388=/a", "--tablespace=16389=/b"}, true, 0},
        {"tablespace twice", {"--to=/d", "--tablespace=7=/a", "--tablespace=7=/b"}, false, 0},
        {"tablespace of a relative path", {"--to=/d", "--tablespace=7=a"}, false, 0},
        {"tablespace without path", {"--to=/d", "--tablespace=7="}, false, 0},
        {"tablespace without OID", {"--to=/d", "--tablespace==/a"}, false, 0},
        {"tablespace by path", {"--to=/d", "--tablespace=/old=/new"}, false, 0},
        {"65 jobs", {"--to=/d", "--jobs=65"}, false, 0},
        {"no job", {"--to=/d", "-j0"}, false, 0},
        {"label with a slash", {"--to=/d", "--backup=../x"}, false, 0},
        {"output", {"--to=/d", "--output=yaml"}, false, 0},
        {"an argument", {"--to=/d", "latest"}, false, 0},
        {"timeout of nothing", {"--to=/d", "--timeout=0"}, false, 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        char words[MAX_ARGS][128];
        char *argv[MAX_ARGS + 1] = {words[0]};
        AUTO(restore_options_reset) RestoreOptions o = {0};
        Error err = {0};
        int argc = 1, rc;

        (void) snprintf(words[0], sizeof words[0], "walrestore");
        for (size_t k = 0; cases[i].args[k] != NULL; k++, argc++)
        {
            (void) snprintf(words[argc], sizeof words[argc], "%s", cases[i].args[k]);
            argv[argc] = words[argc];
        }
        rc = restore_options_parse(argc, argv, &o, &err);
        if (cases[i].good)
            ok(rc == 0 && o.target.kind == cases[i].kind, "%s%s%s", cases[i].label,
               rc < 0 ? ": " : "", err.msg);
        else
            ok(rc < 0 && err.kind == ERROR_USAGE, "refused: %s", cases[i].label);
    }
}

static void
test_values(void)
{
    char a0[] = "walrestore", a1[] = "--to=/data", a2[] = "--target-xid=4294967999",
         a3[] = "--tablespace=16388=/srv/a=b", a4[] = "--only-database=one",
         a5[] = "--only-database=two", a6[] = "--timeline=3", a7[] = "--exclusive";
    char *argv[] = {a0, a1, a2, a3, a4, a5, a6, a7, NULL};
    AUTO(restore_options_reset) RestoreOptions o = {0};
    Error err;

    ok(restore_options_parse(8, argv, &o, &err) == 0, "all at once");
    ok(strcmp(o.to, "/data") == 0 && o.target.xid == 703 && o.target.exclusive && o.target.tli == 3,
       "target");
    ok(o.tablespaces.count == 1 && o.tablespaces.items[0].oid == 16388 &&
           strcmp(o.tablespaces.items[0].path, "/srv/a=b") == 0,
       "the path of a tablespace may have an equals sign");
    ok(o.database_count == 2 && strcmp(o.databases[1], "two") == 0, "databases");
    ok(o.action == RESTORE_PROMOTE && o.jobs == RESTORE_JOBS_DEFAULT && o.space_check && !o.json &&
           !o.delta && !o.standby && !o.timeline_current,
       "defaults");
}

int
main(void)
{
    test_times();
    test_options();
    test_values();
    return done_testing();
}
