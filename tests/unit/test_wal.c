/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "pg/wal.h"

#include <inttypes.h>
#include <string.h>

#include "tap.h"

#define MB (1024u * 1024u)

static void
test_lsn_parse(void)
{
    static const struct
    {
        const char *label, *text;
        bool good;
        Lsn want;
    } cases[] = {
        {"short low half", "16/B374D48", true, 0x160B374D48},
        {"zero-padded low half", "16/0B374D48", true, 0x160B374D48},
        {"lower case", "a/bcdef0", true, 0xA00BCDEF0},
        {"zero", "0/0", true, 0},
        {"largest", "FFFFFFFF/FFFFFFFF", true, UINT64_MAX},
        {"padded high half", "00000001/00000002", true, 0x100000002},
        {"no slash", "16B374D48", false, 0},
        {"low half above 32 bits", "0/1FFFFFFFF", false, 0},
        {"high half above 32 bits", "1FFFFFFFF/0", false, 0},
        {"nine digits though zero", "000000001/0", false, 0},
        {"empty", "", false, 0},
        {"no high half", "/1", false, 0},
        {"no low half", "1/", false, 0},
        {"blank in front", " 1/1", false, 0},
        {"blank behind", "1/1 ", false, 0},
        {"sign", "+1/1", false, 0},
        {"prefix", "0x1/1", false, 0},
        {"two slashes", "1/1/1", false, 0},
        {"no hex", "1/G", false, 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Lsn lsn = 42;
        bool good = lsn_parse(cases[i].text, &lsn);

        ok(good == cases[i].good && lsn == (good ? cases[i].want : 42), "lsn_parse: %s",
           cases[i].label);
    }
}

static void
test_lsn_format(void)
{
    static const struct
    {
        Lsn lsn;
        const char *want;
    } cases[] = {
        {0, "0/00000000"},
        {0x160B374D48, "16/0B374D48"},
        {UINT64_MAX, "FFFFFFFF/FFFFFFFF"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        char buf[LSN_TEXT_BYTES];

        ok(strcmp(lsn_format(cases[i].lsn, buf, sizeof buf), cases[i].want) == 0, "lsn_format: %s",
           cases[i].want);
    }
}

static void
test_segment_bytes(void)
{
    static const struct
    {
        uint64_t bytes;
        bool good;
    } cases[] = {
        {0, false},       {1, false},          {MB - 1, false},
        {MB, true},       {MB + 1, false},     {16 * MB, true},
        {24 * MB, false}, {1024 * MB, true},   {2048ull * MB, false},
        {MB / 2, false},  {UINT64_MAX, false}, {(UINT64_C(1) << 32) + MB, false},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        ok(wal_segment_bytes_valid(cases[i].bytes) == cases[i].good,
           "segment size %" PRIu64 " is %s", cases[i].bytes, cases[i].good ? "valid" : "not valid");
}

/* One row says where an LSN lies and what the file is called. */
static void
test_segments(void)
{
    static const struct
    {
        Lsn lsn;
        uint32_t segment_bytes;
        SegmentNo segno;
        uint32_t offset, log;
        const char *name;
    } cases[] = {
        {0, 16 * MB, 0, 0, 0, "000000010000000000000000"},
        {0x1000000, 16 * MB, 1, 0, 0, "000000010000000000000001"},
        {0x1FFFFFF, 16 * MB, 1, 0xFFFFFF, 0, "000000010000000000000001"},
        {0x1FFFFFFFF, 16 * MB, 0x1FF, 0xFFFFFF, 1, "0000000100000001000000FF"},
        {0x200000000, 16 * MB, 0x200, 0, 2, "000000010000000200000000"},
        {0x1FFFFFFFF, MB, 0x1FFF, 0xFFFFF, 1, "000000010000000100000FFF"},
        {0x1FFFFFFFF, 1024 * MB, 7, 0x3FFFFFFF, 1, "000000010000000100000003"},
        {UINT64_MAX, 16 * MB, UINT64_MAX >> 24, 0xFFFFFF, 0xFFFFFFFF, "00000001FFFFFFFF000000FF"},
        {UINT64_MAX, MB, UINT64_MAX >> 20, 0xFFFFF, 0xFFFFFFFF, "00000001FFFFFFFF00000FFF"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        uint32_t bytes = cases[i].segment_bytes;
        SegmentNo segno = wal_segment_of(cases[i].lsn, bytes);
        char name[WAL_SEGMENT_NAME_LEN + 1];
        WalFileName parsed;
        SegmentNo back = 0;

        ok(segno == cases[i].segno && wal_segment_offset(cases[i].lsn, bytes) == cases[i].offset &&
               wal_segment_log(segno, bytes) == cases[i].log &&
               wal_segment_start(segno, bytes) + cases[i].offset == cases[i].lsn,
           "LSN %" PRIX64 " in segments of %" PRIu32 " MB", cases[i].lsn, bytes / MB);
        ok(strcmp(wal_segment_name(1, segno, bytes, name, sizeof name), cases[i].name) == 0 &&
               wal_file_name_parse(name, &parsed) && wal_file_segment_no(&parsed, bytes, &back) &&
               back == segno,
           "is in %s and back", cases[i].name);
    }
}

static void
test_file_names(void)
{
    static const struct
    {
        const char *label, *text;
        bool good;
        WalFileName want;
    } cases[] = {
        {"segment", "0000000A0000000B000000CD", true, {WAL_FILE_SEGMENT, 0xA, 0xB, 0xCD, 0}},
        {"history", "0000000A.history", true, {WAL_FILE_HISTORY, 0xA, 0, 0, 0}},
        {"backup",
         "0000000A0000000B000000CD.00000028.backup",
         true,
         {WAL_FILE_BACKUP, 0xA, 0xB, 0xCD, 0x28}},
        {"partial",
         "0000000A0000000B000000CD.partial",
         true,
         {WAL_FILE_PARTIAL, 0xA, 0xB, 0xCD, 0}},
        {"timeline 0", "000000000000000B000000CD", false, {0}},
        {"history of timeline 0", "00000000.history", false, {0}},
        {"lower-case hex", "0000000a0000000B000000CD", false, {0}},
        {"lower-case hex in the number", "0000000A0000000B000000cd", false, {0}},
        {"lower-case hex in the offset", "0000000A0000000B000000CD.0000002a.backup", false, {0}},
        {"one digit short", "0000000A0000000B000000C", false, {0}},
        {"one digit more", "0000000A0000000B000000CD0", false, {0}},
        {"empty", "", false, {0}},
        {"timeline only", "0000000A", false, {0}},
        {"short timeline", "000000A.history", false, {0}},
        {"suffix cut", "0000000A.histor", false, {0}},
        {"suffix longer", "0000000A.historyx", false, {0}},
        {"partial twice", "0000000A0000000B000000CD.partial.partial", false, {0}},
        {"backup of short offset", "0000000A0000000B000000CD.0000028.backup", false, {0}},
        {"backup without offset", "0000000A0000000B000000CD.backup", false, {0}},
        {"backup cut", "0000000A0000000B000000CD.00000028.backu", false, {0}},
        {"compressed", "0000000A0000000B000000CD.gz", false, {0}},
        {"newline behind", "0000000A0000000B000000CD\n", false, {0}},
        {"a path", "pg_wal/0000000A0000000B000000CD", false, {0}},
        {"dot dot", "../../0000000A0000000B000000CD", false, {0}},
        {"server's own", "RECOVERYXLOG", false, {0}},
        {"very long",
         "0000000A0000000B000000CD.000000280000000000000000000000000000000000000000000000.backup",
         false,
         {0}},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        const WalFileName *want = &cases[i].want;
        WalFileName got = {.tli = 42};
        bool good = wal_file_name_parse(cases[i].text, &got);

        ok(good == cases[i].good &&
               (good ? got.kind == want->kind && got.tli == want->tli && got.log == want->log &&
                           got.seg == want->seg && got.offset == want->offset
                     : got.tli == 42),
           "wal_file_name_parse: %s", cases[i].label);
    }
}

static void
test_segment_numbers(void)
{
    static const struct
    {
        const char *label;
        WalFileName name;
        uint32_t segment_bytes;
        bool good;
        SegmentNo want;
    } cases[] = {
        {"last of a log, 16 MB", {WAL_FILE_SEGMENT, 1, 2, 0xFF, 0}, 16 * MB, true, 0x2FF},
        {"past a log, 16 MB", {WAL_FILE_SEGMENT, 1, 2, 0x100, 0}, 16 * MB, false, 0},
        {"the same, 1 MB", {WAL_FILE_SEGMENT, 1, 2, 0x100, 0}, MB, true, 0x2100},
        {"last of a log, 1 GB", {WAL_FILE_PARTIAL, 1, 2, 3, 0}, 1024 * MB, true, 11},
        {"past a log, 1 GB", {WAL_FILE_PARTIAL, 1, 2, 4, 0}, 1024 * MB, false, 0},
        {"a backup file", {WAL_FILE_BACKUP, 1, 0, 5, 0x28}, 16 * MB, true, 5},
        {"a history file has none", {WAL_FILE_HISTORY, 1, 0, 0, 0}, 16 * MB, false, 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        SegmentNo segno = 0;
        bool good = wal_file_segment_no(&cases[i].name, cases[i].segment_bytes, &segno);

        ok(good == cases[i].good && segno == cases[i].want, "segment number: %s", cases[i].label);
    }
}

int
main(void)
{
    test_lsn_parse();
    test_lsn_format();
    test_segment_bytes();
    test_segments();
    test_file_names();
    test_segment_numbers();
    return done_testing();
}
