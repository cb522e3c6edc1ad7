/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "repo/layout.h"

#include <stdio.h>
#include <string.h>

#include "tap.h"

#define MB (1024u * 1024u)

static void
test_keys(void)
{
    char buf[LAYOUT_KEY_MAX];
    WalFileName history = {WAL_FILE_HISTORY, 0x1A, 0, 0, 0};
    WalFileName backup = {WAL_FILE_BACKUP, 2, 1, 0xFF, 0x28};
    WalFileName partial = {WAL_FILE_PARTIAL, 2, 1, 0xFF, 0};
    WalFileName segment = {WAL_FILE_SEGMENT, 2, 1, 0xFF, 0};

    ok(layout_part_bytes(MB) == MB && layout_part_bytes(16 * MB) == 16 * MB,
       "a small segment is one part");
    ok(layout_part_bytes(32 * MB) == 16 * MB && layout_part_bytes(1024 * MB) == 16 * MB,
       "a large one has parts of 16 MiB");
    ok(strcmp(
           layout_segment_key(2, 0x1FF, 16 * MB, buf),
           "wal/00000002/00000001/0000000200000001000000FF") == 0,
       "segment: %s", buf);
    ok(strcmp(
           layout_part_key(&(WalExtent){2, 0x1FF, 0, 16 * MB}, 16 * MB, buf),
           "wal/00000002/00000001/0000000200000001000000FF") == 0,
       "the only part: %s", buf);
    ok(strcmp(
           layout_part_key(&(WalExtent){2, 7, 48 * MB, 64 * MB}, 64 * MB, buf),
           "wal/00000002/00000000/000000020000000000000007/03000000-04000000") == 0,
       "last part of a large segment: %s", buf);
    ok(strcmp(
           layout_piece_key(&(WalExtent){2, 7, 0x18, 0x2A}, 16 * MB, buf),
           "live/00000002/000000020000000000000007/00000018-0000002A") == 0,
       "piece: %s", buf);
    ok(strcmp(layout_piece_prefix(2, 7, 16 * MB, buf), "live/00000002/000000020000000000000007/") ==
           0,
       "folder of pieces: %s", buf);
    ok(strcmp(
           layout_gap_key(3, 0x3000000, 0x1605000000, buf),
           "gap/00000003/0000000003000000-0000001605000000") == 0,
       "gap: %s", buf);
    ok(strcmp(layout_wal_file_key(&history, buf), "wal/0000001A/0000001A.history") == 0,
       "history: %s", buf);
    ok(strcmp(
           layout_wal_file_key(&backup, buf),
           "wal/00000002/00000001/0000000200000001000000FF.00000028.backup") == 0,
       "backup history: %s", buf);
    ok(strcmp(
           layout_wal_file_key(&partial, buf),
           "wal/00000002/00000001/0000000200000001000000FF.partial") == 0,
       "partial: %s", buf);
    ok(strcmp(
           layout_wal_file_key(&segment, buf), "wal/00000002/00000001/0000000200000001000000FF") ==
           0,
       "segment by file name: %s", buf);
}

#define SEG "wal/00000002/00000001/000000020000000100000003"
#define LIVE "live/00000002/000000020000000100000003/"

static const struct
{
    const char *label;
    uint32_t segment_bytes;
    const char *key;
    bool good;
    LayoutEntry want;
} parse_cases[] = {
    {"segment", 16 * MB, SEG, true, {.kind = LAYOUT_SEGMENT, .extent = {2, 0x103, 0, 16 * MB}}},
    {"segment of 1 MB", MB, SEG, true, {.kind = LAYOUT_SEGMENT, .extent = {2, 0x1003, 0, MB}}},
    {"first part",
     64 * MB,
     SEG "/00000000-01000000",
     true,
     {.kind = LAYOUT_PART, .extent = {2, 0x43, 0, 16 * MB}}},
    {"last part",
     64 * MB,
     SEG "/03000000-04000000",
     true,
     {.kind = LAYOUT_PART, .extent = {2, 0x43, 48 * MB, 64 * MB}}},
    {"last part of 1 GB",
     1024 * MB,
     SEG "/3F000000-40000000",
     true,
     {.kind = LAYOUT_PART, .extent = {2, 7, 1008 * MB, 1024 * MB}}},
    {"piece",
     16 * MB,
     LIVE "00000018-0000002A",
     true,
     {.kind = LAYOUT_PIECE, .extent = {2, 0x103, 0x18, 0x2A}}},
    {"piece of a whole segment",
     16 * MB,
     LIVE "00000000-01000000",
     true,
     {.kind = LAYOUT_PIECE, .extent = {2, 0x103, 0, 16 * MB}}},
    {"piece across parts",
     64 * MB,
     LIVE "00FFFFFF-02000001",
     true,
     {.kind = LAYOUT_PIECE, .extent = {2, 0x43, 0xFFFFFF, 0x2000001}}},
    {"history", 16 * MB, "wal/0000001A/0000001A.history", true, {.kind = LAYOUT_HISTORY}},
    {"backup",
     16 * MB,
     SEG ".00000028.backup",
     true,
     {.kind = LAYOUT_BACKUP_FILE, .extent = {2, 0x103, 0, 0}}},
    {"partial",
     16 * MB,
     SEG ".partial",
     true,
     {.kind = LAYOUT_PARTIAL, .extent = {2, 0x103, 0, 0}}},
    {"partial of a large segment",
     64 * MB,
     SEG ".partial",
     true,
     {.kind = LAYOUT_PARTIAL, .extent = {2, 0x43, 0, 0}}},
    {"gap",
     16 * MB,
     "gap/00000002/0000000003000000-0000001605000000",
     true,
     {.kind = LAYOUT_GAP, .gap_start = 0x3000000, .gap_end = 0x1605000000}},

    {"empty", 16 * MB, "", false, {0}},
    {"cluster.json", 16 * MB, "cluster.json", false, {0}},
    {"folder only", 16 * MB, "wal/", false, {0}},
    {"timeline folder", 16 * MB, "wal/00000002/", false, {0}},
    {"log folder", 16 * MB, "wal/00000002/00000001/", false, {0}},
    {"large segment without parts", 64 * MB, SEG, false, {0}},
    {"small segment with a part", 16 * MB, SEG "/00000000-01000000", false, {0}},
    {"part not aligned", 64 * MB, SEG "/00800000-01800000", false, {0}},
    {"part too short", 64 * MB, SEG "/01000000-01FFFFFF", false, {0}},
    {"part too long", 64 * MB, SEG "/00000000-02000000", false, {0}},
    {"part behind the segment", 64 * MB, SEG "/04000000-05000000", false, {0}},
    {"part backwards", 64 * MB, SEG "/01000000-00000000", false, {0}},
    {"part of a backup file", 64 * MB, SEG ".00000028.backup/00000000-01000000", false, {0}},
    {"empty part name", 64 * MB, SEG "/", false, {0}},
    {"slash behind", 16 * MB, SEG "/", false, {0}},
    {"something behind", 16 * MB, SEG "x", false, {0}},
    {"unknown suffix", 16 * MB, SEG ".lz4", false, {0}},
    {"log folder of another",
     16 * MB,
     "wal/00000002/00000002/000000020000000100000003",
     false,
     {0}},
    {"timeline folder of another",
     16 * MB,
     "wal/00000003/00000001/000000020000000100000003",
     false,
     {0}},
    {"timeline 0", 16 * MB, "wal/00000000/00000001/000000000000000100000003", false, {0}},
    {"gap of timeline 0", 16 * MB, "gap/00000000/0000000003000000-0000001605000000", false, {0}},
    {"number out of range for 16 MB",
     16 * MB,
     "wal/00000002/00000001/000000020000000100000100",
     false,
     {0}},
    {"number out of range for 1 GB",
     1024 * MB,
     "wal/00000002/00000001/000000020000000100000004/00000000-01000000",
     false,
     {0}},
    {"lower-case segment", 16 * MB, "wal/00000002/00000001/0000000200000001000000ff", false, {0}},
    {"lower-case timeline", 16 * MB, "wal/0000000a/0000000a.history", false, {0}},
    {"lower-case extent", 16 * MB, LIVE "00000018-0000002a", false, {0}},
    {"history of another timeline", 16 * MB, "wal/0000001A/0000001B.history", false, {0}},
    {"history in a log folder", 16 * MB, "wal/0000001A/00000000/0000001A.history", false, {0}},
    {"segment without log folder", 16 * MB, "wal/00000002/000000020000000100000003", false, {0}},
    {"backup offset out of range", 16 * MB, SEG ".01000000.backup", false, {0}},
    {"piece without extent", 16 * MB, LIVE, false, {0}},
    {"piece empty", 16 * MB, LIVE "00000018-00000018", false, {0}},
    {"piece backwards", 16 * MB, LIVE "0000002A-00000018", false, {0}},
    {"piece behind the segment", 16 * MB, LIVE "00000018-01000001", false, {0}},
    {"piece of an extent too short", 16 * MB, LIVE "0000018-0000002A", false, {0}},
    {"piece of an extent too long", 16 * MB, LIVE "00000018-0000002A0", false, {0}},
    {"piece of an extent cut", 16 * MB, LIVE "00000018-", false, {0}},
    {"piece of a partial",
     16 * MB,
     "live/00000002/000000020000000100000003.partial/00000018-0000002A",
     false,
     {0}},
    {"piece of another timeline",
     16 * MB,
     "live/00000003/000000020000000100000003/00000018-0000002A",
     false,
     {0}},
    {"piece number out of range",
     16 * MB,
     "live/00000002/000000020000000100000100/00000018-0000002A",
     false,
     {0}},
    {"gap backwards", 16 * MB, "gap/00000002/0000001605000000-0000000003000000", false, {0}},
    {"gap of nothing", 16 * MB, "gap/00000002/0000000003000000-0000000003000000", false, {0}},
    {"gap short", 16 * MB, "gap/00000002/03000000-05000000", false, {0}},
    {"leading slash", 16 * MB, "/" SEG, false, {0}},
    {"double slash", 16 * MB, "wal//00000002/00000001/000000020000000100000003", false, {0}},
    {"other folder", 16 * MB, "state/00000002/00000001", false, {0}},
    {"prefix in capitals", 16 * MB, "WAL/0000001A/0000001A.history", false, {0}},
};

static void
layout_format(const LayoutEntry *e, uint32_t segment_bytes, char *buf)
{
    switch (e->kind)
    {
        case LAYOUT_SEGMENT:
        case LAYOUT_PART:
            (void) layout_part_key(&e->extent, segment_bytes, buf);
            break;
        case LAYOUT_PIECE:
            (void) layout_piece_key(&e->extent, segment_bytes, buf);
            break;
        case LAYOUT_HISTORY:
        case LAYOUT_BACKUP_FILE:
        case LAYOUT_PARTIAL:
            (void) layout_wal_file_key(&e->name, buf);
            break;
        case LAYOUT_GAP:
            (void) layout_gap_key(e->tli, e->gap_start, e->gap_end, buf);
            break;
    }
}

static void
test_parse(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(parse_cases); i++)
    {
        const LayoutEntry *want = &parse_cases[i].want;
        uint32_t segment_bytes = parse_cases[i].segment_bytes;
        LayoutEntry got = {.tli = 42};
        char key[LAYOUT_KEY_MAX] = "";
        bool good = layout_parse(parse_cases[i].key, segment_bytes, &got);
        bool right = good == parse_cases[i].good;

        if (right && good)
        {
            layout_format(&got, segment_bytes, key);
            right = got.kind == want->kind && got.extent.tli == want->extent.tli &&
                    got.extent.segno == want->extent.segno &&
                    got.extent.start == want->extent.start && got.extent.end == want->extent.end &&
                    got.gap_start == want->gap_start && got.gap_end == want->gap_end &&
                    got.tli == (got.kind == LAYOUT_HISTORY ? 0x1A : 2) &&
                    strcmp(key, parse_cases[i].key) == 0;
        }
        else if (right)
            right = got.tli == 42;
        ok(right, "layout_parse: %s", parse_cases[i].label);
    }
}

/* No key that is cut or has one character changed to something that is no digit may be taken. */
static void
test_damaged_keys(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(parse_cases) && parse_cases[i].good; i++)
    {
        char key[LAYOUT_KEY_MAX];
        size_t len = strlen(parse_cases[i].key);
        size_t taken = 0;
        LayoutEntry got;

        for (size_t at = 0; at < len; at++)
        {
            (void) snprintf(key, sizeof key, "%s", parse_cases[i].key);
            key[at] = 'g';
            if (key[at] != parse_cases[i].key[at] &&
                layout_parse(key, parse_cases[i].segment_bytes, &got))
                taken++;

            /* cutting ".partial" leaves a segment, which is another good name */
            key[at] = '\0';
            if (layout_parse(key, parse_cases[i].segment_bytes, &got) && key[at - 1] != '3')
                taken++;
        }
        ok(taken == 0, "no damaged form of a key is taken: %s", parse_cases[i].label);
    }
}

static void
test_cluster_names(void)
{
    static const struct
    {
        const char *label, *name;
        bool good;
    } cases[] = {
        {"plain", "user-service", true},
        {"all kinds", "A.z_9-0", true},
        {"one character", "a", true},
        {"63 characters", "012345678901234567890123456789012345678901234567890123456789012", true},
        {"64 characters", "0123456789012345678901234567890123456789012345678901234567890123",
         false},
        {"empty", "", false},
        {"dot in front", ".a", false},
        {"dot dot", "..", false},
        {"slash", "a/b", false},
        {"blank", "a b", false},
        {"umlaut", "\xC3\xA4", false},
        {"newline", "a\n", false},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        ok(layout_cluster_name_valid(cases[i].name) == cases[i].good, "cluster name: %s",
           cases[i].label);
}

int
main(void)
{
    test_keys();
    test_parse();
    test_damaged_keys();
    test_cluster_names();
    return done_testing();
}
