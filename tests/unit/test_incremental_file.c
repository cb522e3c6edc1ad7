/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "pg/incremental_file.h"

#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "tap.h"

static bool
set_is(const BlockSet *set, const char *want)
{
    AUTO(strbuf_reset) StrBuf text = {0};

    strbuf_init(&text, 1 << 20);
    block_set_format(set, &text);
    return !text.failed && strcmp(strbuf_text(&text), want) == 0;
}

static void
test_sizes(void)
{
    static const struct
    {
        uint32_t blocks;
        uint64_t header, file;
    } cases[] = {
        {0, 12, 12},
        {1, 8192, 16384},
        {2045, 8192, 8192 + 2045 * 8192ull},
        {2046, 16384, 16384 + 2046 * 8192ull},
        {BLOCK_SET_MAX_BLOCK, 67117056, 67117056 + 8192ull * BLOCK_SET_MAX_BLOCK},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        ok(incremental_header_bytes(cases[i].blocks) == cases[i].header &&
               incremental_file_bytes(cases[i].blocks) == cases[i].file,
           "sizes with %u blocks", cases[i].blocks);
}

static void
test_round_trip(void)
{
    static const struct
    {
        const char *blocks;
        uint32_t truncation;
    } cases[] = {{"", 0}, {"", 17}, {"0", 1}, {"3-2,4", 8}, {"0-2044", 2045}, {"5-2045", 131072}};
    static uint8_t buf[3 * 8192];

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(block_set_reset) BlockSet set = {0};
        AUTO(block_set_reset) BlockSet back = {0};
        uint32_t truncation = 99;
        uint64_t header_bytes = 0;
        uint64_t want;
        bool ascending = false;
        Error err;

        if (block_set_parse(cases[i].blocks, strlen(cases[i].blocks), &set, &err) < 0)
            ok(false, "%s", err.msg);
        want = incremental_header_bytes((uint32_t) block_set_blocks(&set));
        memset(buf, 0xEE, sizeof buf);
        incremental_format_header(&set, cases[i].truncation, buf);
        ok(buf[want] == 0xEE, "\"%s\": a header of %u bytes", cases[i].blocks, (unsigned) want);
        ok(incremental_parse_header(buf, 11, &back, &truncation, &header_bytes, &ascending, &err) ==
                   0 &&
               header_bytes == 12,
           "12 bytes are needed first");
        if (want > 12)
            ok(incremental_parse_header(
                   buf, want - 1, &back, &truncation, &header_bytes, &ascending, &err) == 0 &&
                   header_bytes == want && truncation == 99,
               "then all of it");
        ok(incremental_parse_header(
               buf, sizeof buf, &back, &truncation, &header_bytes, &ascending, &err) == 1 &&
               header_bytes == want && truncation == cases[i].truncation && ascending &&
               set_is(&back, cases[i].blocks),
           "and it reads as it was written");
    }
}

static void
test_fixed(void)
{
    AUTO(block_set_reset) BlockSet set = {0};
    static const uint8_t want[] = {0x0D, 0x1F, 0xAE, 0xD3, 2, 0, 0, 0, 0x0B, 0, 0, 0,
                                   7,    0,    0,    0,    9, 2, 0, 0, 0,    0, 0, 0};
    static uint8_t buf[8192];
    Error err;

    if (block_set_add(&set, 7, 1, &err) < 0 || block_set_add(&set, 0x209, 1, &err) < 0)
        ok(false, "%s", err.msg);
    incremental_format_header(&set, 11, buf);
    ok(memcmp(buf, want, sizeof want) == 0, "the bytes are PostgreSQL's");
}

typedef struct BadHeader
{
    const char *label;
    uint32_t magic, count, truncation;
    uint32_t blocks[4];
    size_t dirty_at;   /* padding byte that is set; 0: none */
    const char *order; /* blocks that are read nevertheless */
} BadHeader;

static void
test_bad(void)
{
    static const BadHeader cases[] = {
        {"magic number", 0xD3AE1F0C, 0, 0, {0}, 0, NULL},
        {"more blocks than a file has",
         INCREMENTAL_MAGIC,
         BLOCK_SET_MAX_BLOCK + 1,
         0,
         {0},
         0,
         NULL},
        {"as many as fit into 32 bits", INCREMENTAL_MAGIC, UINT32_MAX, 0, {0}, 0, NULL},
        {"truncation length", INCREMENTAL_MAGIC, 0, BLOCK_SET_MAX_BLOCK + 1, {0}, 0, NULL},
        {"block number", INCREMENTAL_MAGIC, 1, 0, {BLOCK_SET_MAX_BLOCK}, 0, NULL},
        {"block twice", INCREMENTAL_MAGIC, 3, 9, {4, 5, 5}, 0, NULL},
        {"block twice, in no order", INCREMENTAL_MAGIC, 4, 9, {5, 4, 6, 5}, 0, NULL},
        {"first byte of padding", INCREMENTAL_MAGIC, 4, 9, {1, 2, 3, 4}, 28, NULL},
        {"last byte of padding", INCREMENTAL_MAGIC, 4, 9, {1, 2, 3, 4}, 8191, NULL},
        {"descending blocks are read", INCREMENTAL_MAGIC, 4, 9, {7, 6, 5, 2}, 0, "2,3-2"},
        {"blocks in no order are read", INCREMENTAL_MAGIC, 4, 9, {1, 4, 3, 9}, 0, "1,2-1,5"},
    };
    static uint8_t buf[8192];

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        const BadHeader *c = &cases[i];
        AUTO(block_set_reset) BlockSet set = {0};
        uint32_t truncation = 77;
        uint64_t header_bytes;
        bool ascending = true;
        Error err = {0};
        int rc;

        memset(buf, 0, sizeof buf);
        put_u32le(buf, c->magic);
        put_u32le(buf + 4, c->count);
        put_u32le(buf + 8, c->truncation);
        for (size_t k = 0; k < ARRAY_COUNT(c->blocks); k++)
            put_u32le(buf + 12 + 4 * k, c->blocks[k]);
        if (c->dirty_at > 0)
            buf[c->dirty_at] = 1;
        rc = incremental_parse_header(
            buf, sizeof buf, &set, &truncation, &header_bytes, &ascending, &err);
        if (c->order != NULL)
            ok(rc == 1 && set_is(&set, c->order) && !ascending, "%s", c->label);
        else
            ok(rc == -1 && err.kind == ERROR_CORRUPT && set.count == 0 && truncation == 77,
               "%s: %s", c->label, err.msg);
    }
}

static void
test_names(void)
{
    static const struct
    {
        const char *path, *incremental;
    } cases[] = {
        {"base/5/16384", "base/5/INCREMENTAL.16384"},
        {"16384_vm.1", "INCREMENTAL.16384_vm.1"},
        {"pg_tblspc/16388/PG_17_202406281/5/1", "pg_tblspc/16388/PG_17_202406281/5/INCREMENTAL.1"},
        {"INCREMENTAL.x/y", "INCREMENTAL.x/INCREMENTAL.y"},
    };
    static const char *const none[] = {"base/5/16384",          "base/5/INCREMENTAL.",
                                       "INCREMENTAL./x",        "base/5/incremental.1",
                                       "base/5/XINCREMENTAL.1", ""};
    char buf[1024 + 16];

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        ok(strcmp(incremental_path(cases[i].path, buf, sizeof buf), cases[i].incremental) == 0,
           "%s", cases[i].incremental);
        ok(incremental_original_path(cases[i].incremental, buf, sizeof buf) &&
               strcmp(buf, cases[i].path) == 0,
           "and back");
    }
    for (size_t i = 0; i < ARRAY_COUNT(none); i++)
        ok(!incremental_original_path(none[i], buf, sizeof buf), "\"%s\" is none", none[i]);
    ok(!incremental_original_path("base/5/INCREMENTAL.16384", buf, 12),
       "a buffer that is too short");
}

int
main(void)
{
    test_sizes();
    test_round_trip();
    test_fixed();
    test_bad();
    test_names();
    return done_testing();
}
