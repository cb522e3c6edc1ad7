/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "pg/backup_label.h"

#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define MIB (1024u * 1024u)
#define START_16 "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\n"
#define CHECKPOINT "CHECKPOINT LOCATION: 0/2000060\n"
#define MIDDLE                                                                                     \
    "BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIME: 2026-03-01 09:14:07 UTC\n"         \
    "LABEL: nightly\n"

static void
test_label(void)
{
    static const struct
    {
        const char *label, *text;
        uint32_t segment_bytes;
        int rc;
        BackupLabel want;
    } cases[] = {
        {"of a server",
         START_16 CHECKPOINT MIDDLE "START TIMELINE: 1\n",
         16 * MIB,
         0,
         {.start_lsn = 0x2000028, .checkpoint_lsn = 0x2000060, .start_tli = 1}},
        {"of a standby",
         "START WAL LOCATION: 1A/B3000028 (file 000000050000001A000000B3)\n"
         "CHECKPOINT LOCATION: 1A/B3000060\nBACKUP METHOD: streamed\nBACKUP FROM: standby\n"
         "START TIME: x\nLABEL: y\nSTART TIMELINE: 5\n",
         16 * MIB,
         0,
         {.start_lsn = 0x1AB3000028,
          .checkpoint_lsn = 0x1AB3000060,
          .start_tli = 5,
          .from_standby = true}},
        {"incremental",
         START_16 CHECKPOINT MIDDLE
         "START TIMELINE: 1\nINCREMENTAL FROM LSN: 0/1000028\nINCREMENTAL FROM TLI: 1\n",
         16 * MIB,
         0,
         {.start_lsn = 0x2000028,
          .checkpoint_lsn = 0x2000060,
          .start_tli = 1,
          .incremental_from_lsn = 0x1000028,
          .incremental_from_tli = 1}},
        {"incremental, with a line end in the label",
         START_16 CHECKPOINT
         "LABEL: a\nb\n"
         "START TIMELINE: 1\nINCREMENTAL FROM LSN: 0/1000028\nINCREMENTAL FROM TLI: 1\n",
         16 * MIB,
         0,
         {.start_lsn = 0x2000028,
          .checkpoint_lsn = 0x2000060,
          .start_tli = 1,
          .incremental_from_lsn = 0x1000028,
          .incremental_from_tli = 1}},
        {"the two lines that must be there",
         START_16 CHECKPOINT,
         16 * MIB,
         0,
         {.start_lsn = 0x2000028, .checkpoint_lsn = 0x2000060, .start_tli = 1}},
        {"another segment size", START_16 CHECKPOINT, MIB, -1, {0}},
        {"no segment size",
         START_16 CHECKPOINT,
         0,
         0,
         {.start_lsn = 0x2000028, .checkpoint_lsn = 0x2000060, .start_tli = 1}},
        {"nothing", "", 0, -1, {0}},
        {"no checkpoint", START_16 MIDDLE, 0, -1, {0}},
        {"no start", CHECKPOINT MIDDLE, 0, -1, {0}},
        {"the wrong way round", CHECKPOINT START_16, 0, -1, {0}},
        {"a checkpoint before its redo point",
         START_16 "CHECKPOINT LOCATION: 0/2000020\n",
         0,
         -1,
         {0}},
        {"no line end", START_16 "CHECKPOINT LOCATION: 0/2000060", 0, -1, {0}},
        {"cut off in the timeline", START_16 CHECKPOINT MIDDLE "START TIMELINE: 1", 0, -1, {0}},
        {"CR LF",
         "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\r\n" CHECKPOINT,
         0,
         -1,
         {0}},
        {"no file", "START WAL LOCATION: 0/2000028\n" CHECKPOINT, 0, -1, {0}},
        {"an empty file", "START WAL LOCATION: 0/2000028 (file )\n" CHECKPOINT, 0, -1, {0}},
        {"nothing behind (file", "START WAL LOCATION: 0/2000028 (file \n" CHECKPOINT, 0, -1, {0}},
        {"half a file",
         "START WAL LOCATION: 0/2000028 (file 0000000100000000)\n" CHECKPOINT,
         0,
         -1,
         {0}},
        {"a partial file",
         "START WAL LOCATION: 0/2000028 (file 000000010000000000000002.partial)\n" CHECKPOINT,
         0,
         -1,
         {0}},
        {"text behind the file",
         "START WAL LOCATION: 0/2000028 (file 000000010000000000000002) \n" CHECKPOINT,
         0,
         -1,
         {0}},
        {"LSN 0",
         "START WAL LOCATION: 0/0 (file 000000010000000000000000)\n" CHECKPOINT,
         0,
         -1,
         {0}},
        {"two timelines", START_16 CHECKPOINT MIDDLE "START TIMELINE: 2\n", 0, -1, {0}},
        {"timeline 0", START_16 CHECKPOINT MIDDLE "START TIMELINE: 0\n", 0, -1, {0}},
        {"from nowhere", START_16 CHECKPOINT "BACKUP FROM: x\n", 0, -1, {0}},
        {"incremental without a timeline",
         START_16 CHECKPOINT MIDDLE "START TIMELINE: 1\nINCREMENTAL FROM LSN: 0/1000028\n",
         0,
         -1,
         {0}},
        {"incremental without an LSN",
         START_16 CHECKPOINT MIDDLE "START TIMELINE: 1\nINCREMENTAL FROM TLI: 1\n",
         0,
         -1,
         {0}},
        {"incremental from a malformed LSN",
         START_16 CHECKPOINT "INCREMENTAL FROM LSN: 0\nINCREMENTAL FROM TLI: 1\n",
         0,
         -1,
         {0}},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        BackupLabel got;
        Error err = {0};
        const BackupLabel *want = &cases[i].want;
        int rc = backup_label_parse(
            cases[i].text, strlen(cases[i].text), cases[i].segment_bytes, &got, &err);

        ok(rc == cases[i].rc &&
               (rc < 0 ? err.kind == ERROR_CORRUPT
                       : got.start_lsn == want->start_lsn &&
                             got.checkpoint_lsn == want->checkpoint_lsn &&
                             got.start_tli == want->start_tli &&
                             got.from_standby == want->from_standby &&
                             got.incremental_from_lsn == want->incremental_from_lsn &&
                             got.incremental_from_tli == want->incremental_from_tli),
           "label: %s %s", cases[i].label, err.msg);
    }

    static const char with_nul[] = START_16 CHECKPOINT "LABEL: \0\n";
    char *large = malloc(BACKUP_LABEL_MAX + 1);
    BackupLabel got;
    Error err = {0};

    ok(backup_label_parse(with_nul, sizeof with_nul - 1, 0, &got, &err) == -1, "label: zero byte");
    if (large == NULL)
        abort();
    memset(large, '\n', BACKUP_LABEL_MAX + 1);
    memcpy(large, START_16 CHECKPOINT, strlen(START_16 CHECKPOINT));
    ok(backup_label_parse(large, BACKUP_LABEL_MAX, 0, &got, &err) == 0,
       "label: as large as can be");
    ok(backup_label_parse(large, BACKUP_LABEL_MAX + 1, 0, &got, &err) == -1, "label: too large");
    free(large);
}

static void
test_without_incremental(void)
{
    static const struct
    {
        const char *text, *want;
    } cases[] = {
        {START_16 MIDDLE "START TIMELINE: 1\n", START_16 MIDDLE "START TIMELINE: 1\n"},
        {START_16 "START TIMELINE: 1\nINCREMENTAL FROM LSN: 0/1000028\nINCREMENTAL FROM TLI: 1\n",
         START_16 "START TIMELINE: 1\n"},
        {"INCREMENTAL FROM TLI: 1\n \n\nx\nINCREMENTAL FROM LSN: 0/1\nLABEL: INCREMENTAL FROM TLI: "
         "1",
         " \n\nx\nLABEL: INCREMENTAL FROM TLI: 1"},
        {"INCREMENTAL FROM LSN: 0/1", ""},
        {"", ""},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(strbuf_reset) StrBuf out = {0};

        strbuf_init(&out, BACKUP_LABEL_MAX);
        backup_label_without_incremental(cases[i].text, strlen(cases[i].text), &out);
        ok(!out.failed && strcmp(strbuf_text(&out), cases[i].want) == 0,
           "without its incremental lines: %zu", i);
    }
}

static void
test_map(void)
{
    static const struct
    {
        const char *label, *text;
        int rc;
        size_t count;
        uint32_t oid;
        const char *path;   /* of the last */
        const char *format; /* NULL: as text */
    } cases[] = {
        {"nothing", "", 0, 0, 0, NULL, NULL},
        {"one", "16384 /srv/ts\n", 0, 1, 16384, "/srv/ts", NULL},
        {"two", "16384 /srv/ts\n16385 /srv/ts 2\n", 0, 2, 16385, "/srv/ts 2", NULL},
        {"escaped", "16384 /a\\\nb\\\rc\\\\d\n", 0, 1, 16384, "/a\nb\rc\\d", NULL},
        {"blanks around a path", "1 \x20/ts \n", 0, 1, 1, " /ts ", NULL},
        {"needlessly escaped", "16384 /\\a\n", 0, 1, 16384, "/a", "16384 /a\n"},
        {"CR LF", "16384 /a\r\n5 /b\r\n", 0, 2, 5, "/b", "16384 /a\n5 /b\n"},
        {"largest OID", "4294967295 /a\n", 0, 1, UINT32_MAX, "/a", NULL},
        {"cut off", "16384 /srv/ts", -1, 0, 0, NULL, NULL},
        {"cut off behind a backslash", "16384 /srv/ts\\", -1, 0, 0, NULL, NULL},
        {"escaped line end at the end", "16384 /srv/ts\\\n", -1, 0, 0, NULL, NULL},
        {"no path", "16384\n", -1, 0, 0, NULL, NULL},
        {"an empty path", "16384 \n", -1, 0, 0, NULL, NULL},
        {"no OID", " /srv/ts\n", -1, 0, 0, NULL, NULL},
        {"OID 0", "0 /srv/ts\n", -1, 0, 0, NULL, NULL},
        {"leading zero", "016384 /srv/ts\n", -1, 0, 0, NULL, NULL},
        {"OID of more than 32 bits", "4294967296 /srv/ts\n", -1, 0, 0, NULL, NULL},
        {"no number", "x /srv/ts\n", -1, 0, 0, NULL, NULL},
        {"OID twice", "16384 /a\n16384 /b\n", -1, 0, 0, NULL, NULL},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(tablespace_map_reset) TablespaceMap map = {0};
        AUTO(strbuf_reset) StrBuf text = {0};
        const char *format = cases[i].format != NULL ? cases[i].format : cases[i].text;
        Error err = {0};
        int rc = tablespace_map_parse(cases[i].text, strlen(cases[i].text), &map, &err);
        bool good = rc == cases[i].rc && map.count == cases[i].count;

        strbuf_init(&text, 1 << 20);
        if (rc < 0)
            good = good && err.kind == ERROR_CORRUPT;
        else if (good)
        {
            tablespace_map_format(&map, &text);
            good = strcmp(strbuf_text(&text), format) == 0;
            if (map.count > 0)
                good = good && map.items[map.count - 1].oid == cases[i].oid &&
                       strcmp(map.items[map.count - 1].path, cases[i].path) == 0;
        }
        ok(good, "map: %s %s", cases[i].label, err.msg);
    }
}

static void
test_map_bounds(void)
{
    AUTO(tablespace_map_reset) TablespaceMap map = {0};
    char path[1025];
    char line[1100];
    Error err = {0};

    memset(path, 'x', sizeof path);
    path[1024] = '\0';
    ok(tablespace_map_add(&map, 7, path, &err) == -1 && err.kind == ERROR_CORRUPT,
       "map: a path too long for PostgreSQL");
    path[1023] = '\0';
    ok(tablespace_map_add(&map, 7, path, &err) == 0, "map: the longest path");
    ok(tablespace_map_parse("1\0 /x\n", 6, &map, &err) == -1 && map.count == 1 &&
           map.items[0].oid == 7,
       "map: a zero byte; what was there stays");
    (void) snprintf(line, sizeof line, "4294967295 %s\n", path);
    ok(tablespace_map_parse(line, strlen(line), &map, &err) == 0 && map.count == 1 &&
           map.items[0].oid == UINT32_MAX,
       "map: the longest line");
    (void) snprintf(line, sizeof line, "4294967295 %sxxxxxxxx\n", path);
    ok(tablespace_map_parse(line, strlen(line), &map, &err) == -1, "map: a longer one");
}

int
main(void)
{
    test_label();
    test_without_incremental();
    test_map();
    test_map_bounds();
    return done_testing();
}
