/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What an incremental backup stores of a file. The parent's manifest is a table here.
 */
#include "walbackup/changes.h"

#include <string.h>

#include "common/bytes.h"
#include "pg/data_page.h"
#include "tap.h"

#define SINCE 0x3000000u

static BackupFile files[] = {
    {.path = "PG_VERSION", .bytes = 3},
    {.path = "base/5/100", .bytes = 81920},
    {.path = "base/5/101", .bytes = 81920, .kind = BACKUP_FILE_INCREMENTAL},
    {.path = "base/5/102", .bytes = 81000},
    {.path = "base/5/100_fsm", .bytes = 24576},
    {.path = "base/5/100_vm", .bytes = 8192},
    {.path = "base/5/101_fsm", .bytes = 24576, .kind = BACKUP_FILE_INCREMENTAL},
    {.path = "base/6/100", .bytes = 81920},
    {.path = "base/7/100", .bytes = 81920},
    {.path = "global/1262", .bytes = 8192},
    {.path = "pg_tblspc/16388/PG_15_202209061/5/100", .bytes = 8192},
};

/* In place of the one that looks into a manifest that was loaded. */
const BackupFile *
manifest_find(const Manifest *manifest UNUSED, const char *path)
{
    for (size_t i = 0; i < ARRAY_COUNT(files); i++)
        if (strcmp(files[i].path, path) == 0)
            return &files[i];
    return NULL;
}

static void
test_rules(void)
{
    static BackupDatabase was[] = {{5, NULL, 700}, {6, NULL, 701}, {7, NULL, 0}};
    static BackupDatabase is[] = {{5, NULL, 700}, {6, NULL, 999}, {7, NULL, 0}};
    static const struct
    {
        const char *label, *path;
        uint64_t bytes;
        bool summaries, checksums;
        ChangeRule want;
    } cases[] = {
        {"no relation's", "PG_VERSION", 3, false, true, CHANGE_WHOLE},
        {"main fork", "base/5/100", 81920, false, true, CHANGE_PAGES},
        {"main fork, summaries", "base/5/100", 81920, true, true, CHANGE_PAGES},
        {"grown", "base/5/100", 819200, false, true, CHANGE_PAGES},
        {"of an incremental parent", "base/5/101", 81920, false, true, CHANGE_PAGES},
        {"new", "base/5/999", 81920, false, true, CHANGE_WHOLE},
        {"empty now", "base/5/100", 0, false, true, CHANGE_WHOLE},
        {"a page in part", "base/5/100", 8191, false, true, CHANGE_WHOLE},
        {"the parent's had a page in part", "base/5/102", 81920, false, true, CHANGE_WHOLE},
        {"larger than a segment", "base/5/100", UINT64_C(2) << 30, false, true, CHANGE_WHOLE},
        {"free space map", "base/5/100_fsm", 24576, false, true, CHANGE_DIGEST},
        {"free space map of another size", "base/5/100_fsm", 32768, false, true, CHANGE_WHOLE},
        {"free space map, digest not known", "base/5/101_fsm", 24576, false, true, CHANGE_WHOLE},
        {"visibility map", "base/5/100_vm", 8192, false, true, CHANGE_DIGEST},
        {"visibility map, no checksums", "base/5/100_vm", 8192, false, false, CHANGE_LEAVE_OUT},
        {"visibility map, no checksums, new", "base/5/999_vm", 8192, false, false, CHANGE_WHOLE},
        {"visibility map that is new", "base/5/101_vm", 8192, false, false, CHANGE_LEAVE_OUT},
        {"visibility map, no checksums, summaries", "base/5/100_vm", 8192, true, false,
         CHANGE_DIGEST},
        {"visibility map, no checksums, summaries, left out of the parent", "base/5/101_vm", 8192,
         true, false, CHANGE_LEAVE_OUT},
        {"visibility map, no checksums, summaries, new", "base/5/999_vm", 8192, true, false,
         CHANGE_WHOLE},
        {"visibility map, summaries, not in the parent", "base/5/101_vm", 8192, true, true,
         CHANGE_WHOLE},
        {"database made anew", "base/6/100", 81920, false, true, CHANGE_WHOLE},
        {"database made anew, summaries tell", "base/6/100", 81920, true, true, CHANGE_PAGES},
        {"database not known", "base/7/100", 81920, false, true, CHANGE_WHOLE},
        {"shared", "global/1262", 8192, false, true, CHANGE_PAGES},
        {"in a tablespace", "pg_tblspc/16388/PG_15_202209061/5/100", 8192, false, true,
         CHANGE_PAGES},
    };
    Manifest parent = {.header = {.databases = was, .database_count = ARRAY_COUNT(was)}};
    const BackupFile *entry;

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        BackupHeader now = {
            .databases = is,
            .database_count = ARRAY_COUNT(is),
            .data_checksums = cases[i].checksums};

        ok(change_rule(&parent, &now, cases[i].summaries, cases[i].path, cases[i].bytes, &entry) ==
               cases[i].want,
           "rule: %s", cases[i].label);
        ok(change_rule(NULL, &now, cases[i].summaries, cases[i].path, cases[i].bytes, &entry) ==
               CHANGE_WHOLE,
           "rule, full: %s", cases[i].label);
    }
}

static void
test_pages(void)
{
    static const struct
    {
        const char *label;
        uint64_t lsn;
        uint32_t block;
        bool want;
    } cases[] = {
        {"older", SINCE - 1, 3, false},
        {"at the parent's start", SINCE, 3, true},
        {"newer", SINCE + 1, 3, true},
        {"of the other half of an LSN", UINT64_C(1) << 32, 3, true},
        {"new", 0, 3, true},
        {"behind the parent's end", SINCE - 1, 10, true},
        {"the parent's last", SINCE - 1, 9, false},
        {"damaged in the parent", SINCE - 1, 5, true},
    };
    static BlockRange damaged = {5, 1};
    static const BackupFile parent = {
        .bytes = 10 * DATA_PAGE_BYTES, .damaged = {.ranges = &damaged, .count = 1}};
    static uint8_t page[DATA_PAGE_BYTES];

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        put_u32le(page, (uint32_t) (cases[i].lsn >> 32));
        put_u32le(page + 4, (uint32_t) cases[i].lsn);
        ok(change_page(page, cases[i].block, SINCE, &parent) == cases[i].want, "page: %s",
           cases[i].label);
    }
    ok(!change_nearly_all(9, 10), "nine of ten blocks are not nearly all");
    ok(change_nearly_all(10, 10), "ten are");
    ok(!change_nearly_all(0, 0), "none of none are not");
}

int
main(void)
{
    test_rules();
    test_pages();
    return done_testing();
}
