/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "pg/data_file.h"

#include <string.h>

#include "tap.h"

static void
test_relations(void)
{
    static const struct
    {
        const char *path;
        RelationFile want;
    } good[] = {
        {"base/5/16384", {1663, 5, 16384, DATA_FORK_MAIN, 0}},
        {"base/5/16384.1", {1663, 5, 16384, DATA_FORK_MAIN, 1}},
        {"base/5/16384_fsm", {1663, 5, 16384, DATA_FORK_FSM, 0}},
        {"base/5/16384_vm.12", {1663, 5, 16384, DATA_FORK_VM, 12}},
        {"base/5/16384_init", {1663, 5, 16384, DATA_FORK_INIT, 0}},
        {"base/4294967295/4294967295", {1663, UINT32_MAX, UINT32_MAX, DATA_FORK_MAIN, 0}},
        {"global/1262", {1664, 0, 1262, DATA_FORK_MAIN, 0}},
        {"global/1262_fsm", {1664, 0, 1262, DATA_FORK_FSM, 0}},
        {"pg_tblspc/16388/PG_15_202209061/5/16390_vm", {16388, 5, 16390, DATA_FORK_VM, 0}},
    };
    static const char *const bad[] = {
        "",
        "base",
        "base/5",
        "base/5/",
        "base/5/PG_VERSION",
        "base/5/pg_filenode.map",
        "base/5/016384",
        "base/05/16384",
        "base/0/16384",
        "base/5/0",
        "base/5/4294967296",
        "base/4294967296/1",
        "base/5/99999999999999999999999",
        "base/5/16384.",
        "base/5/16384.0",
        "base/5/16384.01",
        "base/5/16384.x",
        "base/5/16384.1.2",
        "base/5/16384_",
        "base/5/16384_main",
        "base/5/16384_fsmx",
        "base/5/16384_fsm_vm",
        "base/5/16384_FSM",
        "base/5/16384 ",
        "base/5/+1",
        "base/5/16384/1",
        "base/5/t3_16384",
        "base/5/INCREMENTAL.16384",
        "./base/5/16384",
        "/base/5/16384",
        "base//5/16384",
        "xbase/5/16384",
        "global/5/16384",
        "global/pg_control",
        "pg_tblspc/16388",
        "pg_tblspc/16388/5/16390",
        "pg_tblspc/16388/PG_15/5/16390",
        "pg_tblspc/16388/PG_15_/5/16390",
        "pg_tblspc/16388/PG_15_202209061/16390",
        "pg_tblspc/1663/PG_15_202209061/5/16390",
        "pg_tblspc/1664/PG_15_202209061/5/16390",
        "pg_tblspc/x/PG_15_202209061/5/16390",
        "pg_xact/0000",
    };

    for (size_t i = 0; i < ARRAY_COUNT(good); i++)
    {
        const RelationFile *want = &good[i].want;
        RelationFile got;

        ok(data_file_parse_relation(good[i].path, &got) && got.tablespace == want->tablespace &&
               got.database == want->database && got.relnode == want->relnode &&
               got.fork == want->fork && got.segment == want->segment,
           "\"%s\"", good[i].path);
        ok(!data_file_is_temporary(good[i].path), "not temporary");
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
    {
        RelationFile got = {.relnode = 77};

        ok(!data_file_parse_relation(bad[i], &got) && got.relnode == 77, "\"%s\" is none", bad[i]);
    }
}

static void
test_temporary(void)
{
    static const struct
    {
        const char *path;
        bool want;
    } cases[] = {
        {"base/5/t3_16384", true},
        {"base/5/t3_16384_fsm", true},
        {"base/5/t3_16384_vm.2", true},
        {"base/5/t003_016384.01", true},
        {"pg_tblspc/16388/PG_15_202209061/5/t3_16390", true},
        {"base/5/t3", false},
        {"base/5/t3_", false},
        {"base/5/t_16384", false},
        {"base/5/t3_16384.", false},
        {"base/5/t3_16384_x", false},
        {"base/5/t3_16384x", false},
        {"base/5/x/t3_16384", false},
        {"base/t3_16384", false},
        {"global/t3_16384", false},
        {"t3_16384", false},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        ok(data_file_is_temporary(cases[i].path) == cases[i].want, "\"%s\" is %stemporary",
           cases[i].path, cases[i].want ? "" : "not ");
}

static void
test_use(void)
{
    static const struct
    {
        const char *path;
        bool is_folder;
        DataFileUse want;
        int since; /* the first version that does so; 0: all */
        DataFileUse before;
    } cases[] = {
        {"base", true, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"base/5", true, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"base/5/16384", false, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"base/5/PG_VERSION", false, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"base/5/t3_16384", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"global/t3_16384", false, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"base/5/pg_internal.init", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"global/pg_internal.init.4711", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"global/pg_internal.ini", false, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"global/pg_control", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"pg_stat/pg_control", false, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"global/pg_filenode.map", false, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"base/pgsql_tmp", true, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"base/pgsql_tmp/pgsql_tmp4711.0", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"base/pgsql_tmp/x", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"base/pgsql_tmpx", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"pg_wal", true, DATA_FILE_KEEP_EMPTY, 0, DATA_FILE_COPY},
        {"pg_wal/000000010000000000000001", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"pg_wal/archive_status", true, DATA_FILE_KEEP_EMPTY, 0, DATA_FILE_COPY},
        {"pg_wal/archive_status/x.done", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"pg_wal/archive_status", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"pg_wal/summaries", true, DATA_FILE_KEEP_EMPTY, 17, DATA_FILE_SKIP},
        {"pg_wal/summaries/x.summary", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"pg_wal/folder", true, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"pg_stat/pg_wal", true, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"pg_walx", true, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"pg_stat", true, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"pg_stat_tmp", true, DATA_FILE_KEEP_EMPTY, 0, DATA_FILE_COPY},
        {"pg_stat_tmp/global.stat", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"pg_replslot", true, DATA_FILE_KEEP_EMPTY, 0, DATA_FILE_COPY},
        {"pg_replslot/a/state", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"pg_replslot/a", true, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"pg_dynshmem", true, DATA_FILE_KEEP_EMPTY, 0, DATA_FILE_COPY},
        {"pg_notify", true, DATA_FILE_KEEP_EMPTY, 0, DATA_FILE_COPY},
        {"pg_stat/pg_notify", true, DATA_FILE_KEEP_EMPTY, 0, DATA_FILE_COPY},
        {"pg_serial", true, DATA_FILE_KEEP_EMPTY, 0, DATA_FILE_COPY},
        {"pg_snapshots", true, DATA_FILE_KEEP_EMPTY, 0, DATA_FILE_COPY},
        {"pg_subtrans", true, DATA_FILE_KEEP_EMPTY, 0, DATA_FILE_COPY},
        {"pg_subtrans/0000", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"pg_xact", true, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"pg_xact/0000", false, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"pg_multixact/members/0000", false, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"pg_logical/replorigin_checkpoint", false, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"pg_twophase", true, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"postmaster.pid", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"postmaster.opts", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"postmaster.pid.old", false, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"postgresql.auto.conf", false, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"postgresql.auto.conf.tmp", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"current_logfiles", false, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"current_logfiles.tmp", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"backup_label", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"backup_label.old", false, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"tablespace_map", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"backup_manifest", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"pg_xact/.DS_Store", false, DATA_FILE_SKIP, 15, DATA_FILE_COPY},
        {".DS_Stores", false, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"standby.signal", false, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"pg_tblspc", true, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"pg_tblspc/16388", true, DATA_FILE_COPY, 0, DATA_FILE_COPY},
        {"pg_tblspc/16388/x", true, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"pg_tblspc/16388/PG_1_202209061/5/16390", false, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
        {"pg_tblspc/16388/PG_13_202007201", true, DATA_FILE_SKIP, 0, DATA_FILE_COPY},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        bool good = true;

        for (int major = 14; major <= 18; major++)
        {
            DataFileUse want = major >= cases[i].since ? cases[i].want : cases[i].before;

            good = good && data_file_use(cases[i].path, cases[i].is_folder, major) == want;
        }
        ok(good, "use of %s \"%s\"", cases[i].is_folder ? "folder" : "file", cases[i].path);
    }
    for (int major = 14; major <= 18; major++)
    {
        char own[64];
        char other[64];

        (void) snprintf(own, sizeof own, "pg_tblspc/16388/PG_%d_202209061", major);
        (void) snprintf(other, sizeof other, "pg_tblspc/16388/PG_%d_202209061/5/1", major + 1);
        ok(data_file_use(own, true, major) == DATA_FILE_COPY &&
               data_file_use(other, false, major) == DATA_FILE_SKIP,
           "of a tablespace the folder of %d only", major);
        (void) snprintf(own, sizeof own, "pg_tblspc/16388/PG_%d_202209061/5/16390", major);
        ok(data_file_use(own, false, major) == DATA_FILE_COPY, "and what is in it");
    }
}

static void
test_path_valid(void)
{
    static const struct
    {
        const char *label, *path;
        bool want;
    } cases[] = {
        {"a file", "base/5/16384_fsm.1", true},     {"one name", "PG_VERSION", true},
        {"names with dots", "a/..b/.c", true},      {"empty", "", false},
        {"absolute", "/etc/passwd", false},         {"a trailing slash", "base/", false},
        {"an empty component", "base//5", false},   {"itself", ".", false},
        {"a dot between", "base/./5", false},       {"leads out", "..", false},
        {"leads out later", "base/../../x", false}, {"leads out at its end", "base/..", false},
    };
    char path[DATA_PATH_MAX + 1];

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        ok(data_path_valid(cases[i].path) == cases[i].want, "path: %s", cases[i].label);
    memset(path, 'a', sizeof path);
    path[DATA_PATH_MAX] = '\0';
    ok(!data_path_valid(path), "path: too long");
    path[DATA_PATH_MAX - 1] = '\0';
    ok(data_path_valid(path), "path: the longest");
}

int
main(void)
{
    test_relations();
    test_temporary();
    test_use();
    test_path_valid();
    return done_testing();
}
