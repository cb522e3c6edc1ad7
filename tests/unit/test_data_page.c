/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Pages of a PostgreSQL 15 cluster with checksums, and checksums of made-up pages as
 * storage/checksum_impl.h computes them.
 */
#include "pg/data_page.h"

#include <string.h>

#include "common/parse.h"
#include "tap.h"

/* What is not zero on a page: bytes in hex at places. */
typedef struct PageBytes
{
    uint16_t at;
    const char *hex;
} PageBytes;

static const struct
{
    const char *label;
    uint32_t block;
    Lsn lsn;
    PageBytes bytes[11];
} server_pages[] = {
    {"visibility map", 0, 0x172E8A0, {{4, "a0e87201f8d2000018000020002004200000000003"}}},
    {"B-tree page",
     1,
     0x146F0C0,
     {{4, "c0f0460112b200001c00e01ff01f042000000000e09f20"}, {8164, "01001000f734"}, {8188, "03"}}},
    {"free space map",
     2,
     0x17308F0,
     {{4, "f0087301b96100001800002000200420"},
      {28, "e4e400e4000000e4"},
      {43, "e4"},
      {59, "e4"},
      {91, "e4"},
      {155, "e4"},
      {283, "e4"},
      {539, "e4"},
      {1051, "e4"},
      {2075, "e4"},
      {4123, "e4"}}},
    {"B-tree root",
     3,
     0x133FE40,
     {{4, "40fe3301397100002000d81ff01f042000000000e89f1000d89f20"},
      {8154, "0200010010208f2f"},
      {8170, "010000000820"},
      {8184, "0100000002"}}},
};

static void
make_page(const PageBytes *bytes, size_t count, uint8_t *page)
{
    memset(page, 0, DATA_PAGE_BYTES);
    for (size_t i = 0; i < count && bytes[i].hex != NULL; i++)
        if (!parse_hex_bytes(
                bytes[i].hex, strlen(bytes[i].hex), page + bytes[i].at, strlen(bytes[i].hex) / 2))
            ok(false, "hex of a page");
}

static void
test_server_pages(void)
{
    uint8_t page[DATA_PAGE_BYTES];

    for (size_t i = 0; i < ARRAY_COUNT(server_pages); i++)
    {
        const char *label = server_pages[i].label;
        uint32_t block = server_pages[i].block;
        Lsn lsn = server_pages[i].lsn;
        bool all_noticed = true;

        make_page(server_pages[i].bytes, ARRAY_COUNT(server_pages[i].bytes), page);
        ok(data_page_lsn(page) == lsn, "%s: its LSN", label);
        ok(!data_page_is_new(page) && !data_page_is_zero(page), "%s: not new", label);
        ok(data_page_stored_checksum(page) == data_page_checksum(page, block) &&
               data_page_good(page, block, LSN_INVALID),
           "%s: its checksum", label);
        ok(!data_page_good(page, block + 1, LSN_INVALID), "%s: not in another place", label);
        for (size_t at = 0; at < DATA_PAGE_BYTES; at += 37)
        {
            page[at] ^= 0x10;
            all_noticed = all_noticed && !data_page_good(page, block, LSN_INVALID);
            page[at] ^= 0x10;
        }
        ok(all_noticed, "%s: a changed bit is noticed anywhere", label);
        page[8000] ^= 1;
        ok(!data_page_good(page, block, lsn + 1), "%s: damaged before the backup", label);
        ok(data_page_good(page, block, lsn) && data_page_good(page, block, lsn - 1),
           "%s: not judged when written since its start", label);
    }
}

static void
test_checksums(void)
{
    static const struct
    {
        uint32_t block;
        uint16_t want;
    } cases[] = {
        {0, 0xEFDD},      {1, 0xEFDC},          {131071, 0x1045},
        {131072, 0xEFDF}, {4294967294, 0x1025}, {2147483647, 0x9023},
    };
    static uint8_t buf[DATA_PAGE_BYTES + 1];
    uint8_t *page = buf;
    uint64_t state = 42;

    for (size_t i = 0; i < DATA_PAGE_BYTES; i++)
    {
        state = state * 6364136223846793005u + 1442695040888963407u;
        page[i] = (uint8_t) (state >> 56);
    }
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        ok(data_page_checksum(page, cases[i].block) == cases[i].want, "block %u", cases[i].block);
    memmove(buf + 1, buf, DATA_PAGE_BYTES);
    ok(data_page_checksum(buf + 1, 0) == 0xEFDD, "a page at an odd address");
    buf[1 + 8] ^= 0xFF;
    buf[1 + 9] ^= 0xFF;
    ok(data_page_checksum(buf + 1, 0) == 0xEFDD, "the stored checksum does not count");
    memset(page, 0xFF, DATA_PAGE_BYTES);
    ok(data_page_checksum(page, 7) == 0x0E23, "all ones");
}

static void
test_new_pages(void)
{
    static uint8_t page[DATA_PAGE_BYTES];

    ok(data_page_is_new(page) && data_page_is_zero(page) && data_page_good(page, 9, LSN_INVALID),
       "a page of zeros is good anywhere");
    page[DATA_PAGE_BYTES - 1] = 1;
    ok(data_page_is_new(page) && !data_page_is_zero(page) &&
           !data_page_good(page, 9, LSN_INVALID) && !data_page_good(page, 9, 1),
       "a new page with something on it is not");
    memset(page, 0, sizeof page);
    page[0] = 1;
    ok(!data_page_is_zero(page), "its first byte counts too");
    memset(page, 0, sizeof page);
    page[14] = 1;
    ok(!data_page_is_new(page) && data_page_checksum(page, 0) == 0x5467 &&
           !data_page_good(page, 0, LSN_INVALID),
       "a page with an upper end is not new");
}

int
main(void)
{
    test_server_pages();
    test_checksums();
    test_new_pages();
    return done_testing();
}
