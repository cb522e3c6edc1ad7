/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "pg/base_backup.h"

#include <stdlib.h>
#include <string.h>

#include "pg/data_file.h"
#include "tap.h"

static void
test_command(void)
{
    static const struct
    {
        const char *label;
        int version;
        BaseBackupOptions options;
        const char *want;
    } cases[] = {
        {"14",
         140023,
         {.label = "a"},
         "BASE_BACKUP LABEL 'a' PROGRESS NOWAIT TABLESPACE_MAP NOVERIFY_CHECKSUMS MANIFEST 'no'"},
        {"14, fast, with a rate",
         140023,
         {.label = "a", .fast_checkpoint = true, .rate_limit_bytes = 10 * 1024 * 1024},
         "BASE_BACKUP LABEL 'a' PROGRESS FAST NOWAIT MAX_RATE 10240 TABLESPACE_MAP "
         "NOVERIFY_CHECKSUMS MANIFEST 'no'"},
        {"15",
         150018,
         {.label = "a"},
         "BASE_BACKUP (LABEL 'a', PROGRESS, CHECKPOINT 'spread', WAIT 0, TABLESPACE_MAP, "
         "VERIFY_CHECKSUMS 0, MANIFEST 'no')"},
        {"17, incremental, fast",
         170010,
         {.label = "a", .fast_checkpoint = true, .incremental = true},
         "BASE_BACKUP (LABEL 'a', PROGRESS, CHECKPOINT 'fast', WAIT 0, TABLESPACE_MAP, "
         "VERIFY_CHECKSUMS 0, MANIFEST 'no', INCREMENTAL)"},
        {"rate below the least",
         180004,
         {.label = "a", .rate_limit_bytes = 1},
         "BASE_BACKUP (LABEL 'a', PROGRESS, CHECKPOINT 'spread', WAIT 0, MAX_RATE 32, "
         "TABLESPACE_MAP, VERIFY_CHECKSUMS 0, MANIFEST 'no')"},
        {"rate above the greatest",
         180004,
         {.label = "a", .rate_limit_bytes = UINT64_MAX},
         "BASE_BACKUP (LABEL 'a', PROGRESS, CHECKPOINT 'spread', WAIT 0, MAX_RATE 1048576, "
         "TABLESPACE_MAP, VERIFY_CHECKSUMS 0, MANIFEST 'no')"},
        {"quote in the label",
         160000,
         {.label = "it's', WAL '"},
         "BASE_BACKUP (LABEL 'it''s'', WAL ''', PROGRESS, CHECKPOINT 'spread', WAIT 0, "
         "TABLESPACE_MAP, VERIFY_CHECKSUMS 0, MANIFEST 'no')"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(strbuf_reset) StrBuf sb;

        strbuf_init(&sb, 4096);
        base_backup_format_command(cases[i].version, &cases[i].options, &sb);
        ok(strcmp(strbuf_text(&sb), cases[i].want) == 0, "%s: %s", cases[i].label,
           strbuf_text(&sb));
    }
}

static void
test_message(void)
{
    static const struct
    {
        const char *label;
        const char *bytes;
        size_t len;
        bool good;
        BaseBackupMessage want;
    } cases[] = {
        {"base archive", "nbase.tar\0\0", 11, true, {.kind = BASE_BACKUP_ARCHIVE}},
        {"tablespace",
         "n16388.tar\0/srv/ts\0",
         19,
         true,
         {.kind = BASE_BACKUP_ARCHIVE, .tablespace = 16388}},
        {"greatest OID",
         "n4294967295.tar\0x\0",
         18,
         true,
         {.kind = BASE_BACKUP_ARCHIVE, .tablespace = 4294967295u}},
        {"OID 0", "n0.tar\0x\0", 9, false, {0}},
        {"OID too large", "n4294967296.tar\0x\0", 18, false, {0}},
        {"very long name", "n00000000000000000001.tar\0x\0", 28, false, {0}},
        {"compressed archive", "nbase.tar.gz\0\0", 14, false, {0}},
        {"name that leads away", "n../base.tar\0\0", 14, false, {0}},
        {"no name", "n\0\0", 3, false, {0}},
        {"only the end of a name", "n.tar\0\0", 7, false, {0}},
        {"name not terminated", "nbase.tar", 9, false, {0}},
        {"path missing", "nbase.tar\0", 10, false, {0}},
        {"path not terminated", "n16388.tar\0/srv", 15, false, {0}},
        {"bytes behind the path", "nbase.tar\0\0x", 12, false, {0}},
        {"archive type alone", "n", 1, false, {0}},
        {"data", "dabc", 4, true, {.kind = BASE_BACKUP_DATA, .len = 3}},
        {"no data", "d", 1, true, {.kind = BASE_BACKUP_DATA}},
        {"progress",
         "p\0\0\0\1\0\0\0\2",
         9,
         true,
         {.kind = BASE_BACKUP_PROGRESS, .bytes = 0x100000002}},
        {"progress cut", "p\0\0\0\1\0\0\0", 8, false, {0}},
        {"progress long", "p\0\0\0\1\0\0\0\2\0", 10, false, {0}},
        {"manifest", "m", 1, true, {.kind = BASE_BACKUP_MANIFEST}},
        {"manifest with more", "mx", 2, false, {0}},
        {"WAL", "w", 1, false, {0}},
        {"no bytes", "", 0, false, {0}},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        const BaseBackupMessage *want = &cases[i].want;
        BaseBackupMessage got = {.len = 42};
        /* at the end of its memory, so that a sanitizer sees a look behind it */
        char *copy = malloc(cases[i].len + (cases[i].len == 0));
        Error err = {0};
        int rc;

        if (copy == NULL)
            abort();
        memcpy(copy, cases[i].bytes, cases[i].len);
        rc = base_backup_parse_message(copy, cases[i].len, &got, &err);
        if (!cases[i].good)
            ok(rc == -1 && err.kind == ERROR_CORRUPT && got.len == 42, "%s: %s", cases[i].label,
               err.msg);
        else
            ok(rc == 0 && got.kind == want->kind && got.tablespace == want->tablespace &&
                   got.len == want->len && got.bytes == want->bytes &&
                   (got.kind != BASE_BACKUP_DATA || (const char *) got.data == copy + 1),
               "%s", cases[i].label);
        free(copy);
    }
}

static void
test_path(void)
{
    static const struct
    {
        const char *label;
        uint32_t tablespace;
        const char *name, *want; /* NULL: refused */
    } cases[] = {
        {"file", 0, "base/5/16384", "base/5/16384"},
        {"folder", 0, "base/5/", "base/5"},
        {"with its prefix", 0, "./pg_wal/archive_status", "pg_wal/archive_status"},
        {"folder with its prefix", 0, "./pg_wal/summaries/", "pg_wal/summaries"},
        {"tablespace", 16388, "PG_15_202209061/5/1", "pg_tblspc/16388/PG_15_202209061/5/1"},
        {"tablespace's folder", 16388, "PG_15_202209061/", "pg_tblspc/16388/PG_15_202209061"},
        {"greatest OID", 4294967295u, "x", "pg_tblspc/4294967295/x"},
        {"names that only look so", 0, "..a/b../.c", "..a/b../.c"},
        {"empty", 0, "", NULL},
        {"empty in a tablespace", 16388, "", NULL},
        {"slash", 0, "/", NULL},
        {"the folder itself", 0, "./", NULL},
        {"dot", 0, ".", NULL},
        {"absolute", 0, "/etc/passwd", NULL},
        {"absolute in a tablespace", 16388, "/etc/passwd", NULL},
        {"absolute behind the prefix", 0, ".//etc/passwd", NULL},
        {"up", 0, "..", NULL},
        {"up first", 0, "../x", NULL},
        {"up in a tablespace", 16388, "../16389/x", NULL},
        {"up behind the prefix", 0, "./../x", NULL},
        {"up inside", 0, "base/../../x", NULL},
        {"up last", 0, "base/..", NULL},
        {"up last, as a folder", 0, "base/../", NULL},
        {"dot inside", 0, "base/./x", NULL},
        {"empty component", 0, "base//x", NULL},
        {"two slashes at the end", 0, "base//", NULL},
    };
    char longest[DATA_PATH_MAX + 2];
    char buf[DATA_PATH_MAX];
    Error err;

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        int rc = base_backup_map_path(cases[i].tablespace, cases[i].name, buf, sizeof buf, &err);

        if (cases[i].want == NULL)
            ok(rc == -1 && err.kind == ERROR_CORRUPT, "%s: refused", cases[i].label);
        else
            ok(rc == 0 && strcmp(buf, cases[i].want) == 0, "%s", cases[i].label);
    }
    memset(longest, 'a', sizeof longest);
    longest[DATA_PATH_MAX - 1] = '\0';
    ok(base_backup_map_path(0, longest, buf, sizeof buf, &err) == 0 && strcmp(buf, longest) == 0,
       "longest name");
    ok(base_backup_map_path(1, longest, buf, sizeof buf, &err) == -1 && err.kind == ERROR_CORRUPT,
       "too long in a tablespace");
    longest[DATA_PATH_MAX - 1] = 'a';
    longest[DATA_PATH_MAX] = '\0';
    ok(base_backup_map_path(0, longest, buf, sizeof buf, &err) == -1 && err.kind == ERROR_CORRUPT,
       "too long");
}

int
main(void)
{
    test_command();
    test_message();
    test_path();
    return done_testing();
}
