/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The bundle writer is a substitute that keeps what it was given, and the parent's manifest is a
 * table.
 */
#include "walbackup/stream_file.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/bytes.h"
#include "common/log.h"
#include "pg/incremental_file.h"
#include "tap.h"
#include "walbackup/changes.h"

#define PAGE DATA_PAGE_BYTES
#define SINCE ((Lsn) 0x2000028)
#define START ((Lsn) 0x5000028)
#define MAX_PAGES 512

/* ---- substitutes ---- */

struct BundleWriter
{
    BackupFile *file;
    BackupFile seen; /* as it was at its beginning */
    char path[DATA_PATH_MAX];
    char blocks[256];
    char damaged[256]; /* as it was at its end */
    uint8_t data[(MAX_PAGES + 2) * PAGE];
    size_t len;
    unsigned files, folders;
};

static struct BundleWriter writer;

static void
format_set(const BlockSet *set, char *buf, size_t len)
{
    AUTO(strbuf_reset) StrBuf sb;

    strbuf_init(&sb, 4096);
    block_set_format(set, &sb);
    (void) snprintf(buf, len, "%s", strbuf_text(&sb));
}

int
bundle_writer_begin_file(BundleWriter *w, BackupFile *file, Error *err)
{
    (void) err;
    if (file->kind == BACKUP_FILE_FOLDER)
    {
        w->folders++;
        return 0;
    }
    w->file = file;
    w->seen = *file;
    (void) snprintf(w->path, sizeof w->path, "%s", file->path);
    format_set(&file->blocks, w->blocks, sizeof w->blocks);
    w->len = 0;
    return 0;
}

int
bundle_writer_write(BundleWriter *w, const void *data, size_t len, Error *err)
{
    if (w->file == NULL || len > sizeof w->data - w->len)
        return error_set(err, ERROR_IO, "the test's writer has no place");
    memcpy(w->data + w->len, data, len);
    w->len += len;
    return 0;
}

int
bundle_writer_end_file(BundleWriter *w, Error *err)
{
    if (w->len != w->seen.stored_bytes)
        return error_set(err, ERROR_IO, "not as long as it was said");
    format_set(&w->file->damaged, w->damaged, sizeof w->damaged);
    w->file = NULL;
    w->files++;
    return 0;
}

static BackupFile parent_files[] = {
    {.kind = BACKUP_FILE_WHOLE, .path = "base/5/16384", .bytes = 4 * PAGE},
    {.kind = BACKUP_FILE_WHOLE, .path = "base/5/16384.2", .bytes = 4 * PAGE},
    {.kind = BACKUP_FILE_WHOLE, .path = "base/5/16384_fsm", .bytes = 3 * PAGE},
    {.kind = BACKUP_FILE_INCREMENTAL, .path = "base/5/16385_fsm", .bytes = 3 * PAGE},
    {.kind = BACKUP_FILE_WHOLE, .path = "PG_VERSION", .bytes = 3},
};

const BackupFile *
manifest_find(const Manifest *manifest, const char *path)
{
    (void) manifest;
    for (size_t i = 0; i < ARRAY_COUNT(parent_files); i++)
        if (strcmp(parent_files[i].path, path) == 0)
            return &parent_files[i];
    return NULL;
}

/* ---- files ---- */

/* Page n of a fork with this LSN and a right checksum; LSN_INVALID: a zero page. */
static void
make_page(uint8_t *page, uint32_t block, Lsn lsn)
{
    memset(page, 0, PAGE);
    if (lsn == LSN_INVALID)
        return;
    put_u32le(page, (uint32_t) (lsn >> 32));
    put_u32le(page + 4, (uint32_t) lsn);
    page[12] = 24;
    page[15] = 0x20; /* pd_upper 8192 */
    page[17] = 0x20;
    memset(page + 4096, (int) block + 1, 4096);

    uint16_t sum = data_page_checksum(page, block);

    page[8] = (uint8_t) sum;
    page[9] = (uint8_t) (sum >> 8);
}

typedef struct Setup
{
    BackupRun run;
    BackupDatabase was, now;
    StreamRules rules;
    StreamFile *sf;
} Setup;

static void
setup_begin(Setup *s, StreamMode mode, bool checksums)
{
    Error err;

    *s = (Setup){.was = {.oid = 5, .row_xid = 700}, .now = {.oid = 5, .row_xid = 700}};
    s->run.header.incremental = mode != STREAM_FULL;
    s->run.header.data_checksums = checksums;
    s->run.header.databases = &s->now;
    s->run.header.database_count = 1;
    s->run.parent.header.databases = &s->was;
    s->run.parent.header.database_count = 1;
    s->run.parent.header.start_lsn = SINCE;
    s->rules = (StreamRules){
        .run = &s->run,
        .mode = mode,
        .start_lsn = START,
        .check_pages = checksums,
        .spill_dir = "/tmp",
    };
    if (stream_file_new(&s->rules, &writer, &s->sf, &err) < 0)
        abort();
    memset(&writer, 0, sizeof writer);
}

/* The whole way of one file; in portions of so many pages. */
static int
pass_file(
    Setup *s, const char *path, bool incremental, const uint8_t *data, size_t len, size_t pages,
    Error *err)
{
    StreamEntry *entry = calloc(1, sizeof *entry);

    if (entry == NULL)
        abort();
    (void) snprintf(entry->path, sizeof entry->path, "%s", path);
    entry->file.path = entry->path;
    entry->content_bytes = len;
    entry->incremental = incremental;
    if (stream_file_begin(s->sf, entry, err) < 0)
        return -1;
    for (size_t at = 0; at < len; at += pages * PAGE)
        if (stream_file_write(s->sf, data + at, MIN(pages * PAGE, len - at), err) < 0)
            return -1;
    return stream_file_end(s->sf, err);
}

static void
test_whole(void)
{
    static uint8_t data[5 * PAGE];
    Setup s;
    Error err = {0};

    for (uint32_t i = 0; i < 4; i++)
        make_page(data + i * PAGE, 2 * DATA_SEGMENT_BLOCKS + i, 0x3000000);
    memset(data + 4 * PAGE, 7, PAGE);

    setup_begin(&s, STREAM_FULL, true);
    ok(pass_file(&s, "base/5/16384.2", false, data, 4 * PAGE, 3, &err) == 0 &&
           writer.seen.kind == BACKUP_FILE_WHOLE && writer.seen.bytes == 4 * PAGE &&
           writer.len == 4 * PAGE && memcmp(writer.data, data, 4 * PAGE) == 0 &&
           writer.damaged[0] == '\0',
       "whole file, its segment counts in the checksums");
    ok(pass_file(&s, "base/5/16384.1", false, data, 4 * PAGE, 2, &err) == 0 &&
           strcmp(writer.damaged, "0-3") == 0 && s.run.damaged_blocks == 4,
       "as another segment all pages are damaged, and it goes on");
    ok(pass_file(&s, "base/5/16384.2", false, data, 5 * PAGE - 100, 1, &err) == 0 &&
           writer.len == 5 * PAGE - 100 && writer.damaged[0] == '\0',
       "what is no whole page is not judged");
    data[PAGE + 5000] ^= 1;
    ok(pass_file(&s, "base/5/16384.2", false, data, 4 * PAGE, 4, &err) == 0 &&
           strcmp(writer.damaged, "1") == 0 && s.run.damaged_blocks == 5,
       "one bit");
    put_u32le(data + PAGE + 4, (uint32_t) START);
    ok(pass_file(&s, "base/5/16384.2", false, data, 4 * PAGE, 4, &err) == 0 &&
           writer.damaged[0] == '\0',
       "a page changed since the start may be torn");
    ok(pass_file(&s, "pg_xact/0000", false, data, 4 * PAGE, 4, &err) == 0 &&
           writer.damaged[0] == '\0',
       "no relation, no pages");
    ok(pass_file(&s, "base/5/16390", false, data, 0, 1, &err) == 0 && writer.len == 0 &&
           writer.seen.kind == BACKUP_FILE_WHOLE,
       "empty file");
    stream_file_free(s.sf);

    setup_begin(&s, STREAM_FULL, false);
    ok(pass_file(&s, "base/5/16384.1", false, data, 4 * PAGE, 2, &err) == 0 &&
           s.run.damaged_blocks == 0,
       "a cluster without checksums");
    stream_file_free(s.sf);
}

static void
test_pages(void)
{
    static const struct
    {
        const char *label;
        uint32_t pages;
        Lsn lsns[6];
        uint32_t damage; /* page + 1 */
        const char *blocks, *damaged;
    } cases[] = {
        {"nothing changed", 4, {1, 2, 3, SINCE - 1}, 0, "", ""},
        {"at the parent's start", 4, {1, SINCE, 3, 4}, 0, "1", ""},
        {"all", 4, {SINCE, SINCE, SINCE, SINCE}, 0, "0-3", ""},
        {"first and last", 4, {SINCE, 1, 1, START}, 0, "0,3", ""},
        {"a new page", 4, {1, 1, LSN_INVALID, 1}, 0, "2", ""},
        {"grown: what is behind the parent's end, whatever its LSN",
         6,
         {1, 1, 1, 1, 1, 1},
         0,
         "4-1",
         ""},
        {"shrunk", 2, {1, SINCE}, 0, "1", ""},
        {"damaged and with an old LSN: stored as it is", 4, {1, 1, 1, 1}, 3, "2", "2"},
    };
    static uint8_t data[6 * PAGE];

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        for (size_t portion = 1; portion <= 6; portion += 5)
        {
            AUTO(block_set_reset) BlockSet blocks = {0};
            uint32_t pages = cases[i].pages;
            uint32_t truncation = 0;
            uint64_t header_bytes = 0;
            bool ascending = false;
            bool same = true;
            size_t at;
            Setup s;
            Error err = {0};
            int rc;

            setup_begin(&s, STREAM_LSN, true);
            for (uint32_t k = 0; k < pages; k++)
                make_page(data + k * PAGE, k, cases[i].lsns[k]);
            if (cases[i].damage > 0)
                data[(cases[i].damage - 1) * PAGE + 6000] ^= 1;
            rc = pass_file(&s, "base/5/16384", false, data, pages * PAGE, portion, &err);
            ok(rc == 0 && writer.seen.kind == BACKUP_FILE_INCREMENTAL &&
                   strcmp(writer.path, "base/5/16384") == 0 && writer.seen.bytes == pages * PAGE &&
                   writer.seen.truncation_blocks == pages &&
                   strcmp(writer.blocks, cases[i].blocks) == 0 &&
                   strcmp(writer.damaged, cases[i].damaged) == 0,
               "%s, portions of %zu: \"%s\"", cases[i].label, portion, writer.blocks);
            rc = incremental_parse_header(
                writer.data, writer.len, &blocks, &truncation, &header_bytes, &ascending, &err);
            at = (size_t) header_bytes;
            for (uint32_t k = 0; k < pages; k++)
            {
                if (!block_set_has(&blocks, k))
                    continue;
                same = same && memcmp(writer.data + at, data + k * PAGE, PAGE) == 0;
                at += PAGE;
            }
            ok(rc == 1 && truncation == pages && same && at == writer.len,
               "%s: these pages behind their header", cases[i].label);
            stream_file_free(s.sf);
        }
    }
}

/* By digest, left out, and what an incremental backup has whole. */
static void
test_others(void)
{
    static uint8_t data[4 * PAGE];
    XXH128_canonical_t digest;
    Setup s;
    Error err = {0};

    for (uint32_t i = 0; i < 4; i++)
        make_page(data + i * PAGE, i, 1);
    XXH128_canonicalFromHash(&digest, XXH3_128bits(data, 3 * PAGE));
    memcpy(parent_files[2].xxh128, digest.digest, sizeof digest.digest);
    memcpy(parent_files[3].xxh128, digest.digest, sizeof digest.digest);
    for (int mode = STREAM_SUMMARIES; mode <= STREAM_LSN; mode++)
    {
        const char *name = mode == STREAM_LSN ? "LSN" : "summaries";

        setup_begin(&s, (StreamMode) mode, true);
        ok(pass_file(&s, "base/5/16384_fsm", false, data, 3 * PAGE, 2, &err) == 0 &&
               writer.seen.kind == BACKUP_FILE_INCREMENTAL && writer.seen.bytes == 3 * PAGE &&
               writer.seen.truncation_blocks == 3 && writer.len == INCREMENTAL_FIXED_BYTES,
           "%s: the parent's digest: nothing", name);
        data[2 * PAGE + 5000] ^= 1;
        ok(pass_file(&s, "base/5/16384_fsm", false, data, 3 * PAGE, 1, &err) == 0 &&
               writer.seen.kind == BACKUP_FILE_WHOLE && writer.len == 3 * PAGE &&
               memcmp(writer.data, data, 3 * PAGE) == 0 && strcmp(writer.damaged, "2") == 0,
           "%s: another: whole", name);
        data[2 * PAGE + 5000] ^= 1;
        ok(pass_file(&s, "base/5/16384_fsm", false, data, 2 * PAGE, 1, &err) == 0 &&
               writer.seen.kind == BACKUP_FILE_WHOLE && writer.len == 2 * PAGE,
           "%s: another size: whole", name);
        ok(pass_file(&s, "base/5/16385_fsm", false, data, 3 * PAGE, 1, &err) == 0 &&
               writer.seen.kind == BACKUP_FILE_WHOLE && writer.len == 3 * PAGE,
           "%s: the digest of an incremental file is not that of the file", name);
        ok(pass_file(&s, "base/5/16399", false, data, 4 * PAGE, 1, &err) == 0 &&
               writer.seen.kind == BACKUP_FILE_WHOLE && writer.len == 4 * PAGE,
           "%s: not in the parent: whole", name);
        ok(pass_file(&s, "PG_VERSION", false, data, 3, 1, &err) == 0 &&
               writer.seen.kind == BACKUP_FILE_WHOLE && writer.len == 3,
           "%s: no relation: whole", name);
        ok(pass_file(&s, "base/5/16384", false, data, 4 * PAGE - 1, 1, &err) == 0 &&
               writer.seen.kind == BACKUP_FILE_WHOLE && writer.len == 4 * PAGE - 1,
           "%s: no multiple of a page: whole", name);
        stream_file_free(s.sf);
    }

    setup_begin(&s, STREAM_SUMMARIES, true);
    ok(pass_file(&s, "base/5/16384", false, data, 4 * PAGE, 1, &err) == 0 &&
           writer.seen.kind == BACKUP_FILE_WHOLE && writer.len == 4 * PAGE,
       "a main fork that the server sends whole stays whole, whatever its LSNs");
    stream_file_free(s.sf);

    setup_begin(&s, STREAM_LSN, true);
    s.now.row_xid = 701;
    ok(pass_file(&s, "base/5/16384", false, data, 4 * PAGE, 1, &err) == 0 &&
           writer.seen.kind == BACKUP_FILE_WHOLE && writer.len == 4 * PAGE,
       "a database that may have been created again: whole");
    stream_file_free(s.sf);

    setup_begin(&s, STREAM_LSN, false);
    ok(pass_file(&s, "base/5/16384_vm", false, data, PAGE, 1, &err) == 0 && writer.files == 0,
       "visibility map without checksums: left out");
    ok(pass_file(&s, "base/5/16399_vm", false, data, PAGE, 1, &err) == 0 && writer.files == 1,
       "of a relation that is new: there");
    stream_file_free(s.sf);
}

/* A repair has no WAL, and pages that it brings may have any LSN. */
static void
test_repaired(void)
{
    static const struct
    {
        const char *label;
        uint32_t pages;
        const char *damaged, *blocks, *added;
    } cases[] = {
        {"one block was damaged in the parent", 4, "1", "1", "1"},
        {"several", 4, "0-1,2", "0-1,2", "0-1,2"},
        {"some of them are not there any more", 3, "1-2", "1-1", "1-1"},
        {"none of them is", 2, "2-1", "", ""},
        {"the file has grown", 5, "3", "3-1", "3"},
    };
    static uint8_t data[5 * PAGE];

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(block_set_reset) BlockSet changed = {0};
        BackupFile *parent = &parent_files[0];
        char text[256];
        Setup s;
        Error err = {0};

        if (block_set_parse(cases[i].damaged, strlen(cases[i].damaged), &parent->damaged, &err) < 0)
            abort();
        for (uint32_t k = 0; k < cases[i].pages; k++)
            make_page(data + k * PAGE, k, 1);
        setup_begin(&s, STREAM_LSN, true);
        ok(pass_file(&s, parent->path, false, data, cases[i].pages * PAGE, 2, &err) == 0 &&
               strcmp(writer.blocks, cases[i].blocks) == 0 && writer.damaged[0] == '\0',
           "%s: \"%s\"", cases[i].label, writer.blocks);
        stream_file_free(s.sf);

        if (change_add_damaged(parent, cases[i].pages, &changed, &err) < 0)
            abort();
        format_set(&changed, text, sizeof text);
        ok(strcmp(text, cases[i].added) == 0, "%s: what is added to WAL summaries: \"%s\"",
           cases[i].label, text);
        block_set_reset(&parent->damaged);
    }
}

static void
test_folder(void)
{
    StreamEntry *entry = calloc(1, sizeof *entry);
    Setup s;
    Error err;

    if (entry == NULL)
        abort();
    setup_begin(&s, STREAM_FULL, true);
    entry->file.kind = BACKUP_FILE_FOLDER;
    entry->file.path = entry->path;
    (void) snprintf(entry->path, sizeof entry->path, "pg_wal/archive_status");
    ok(stream_file_begin(s.sf, entry, &err) == 0 && writer.folders == 1 && writer.files == 0,
       "folder");
    stream_file_free(s.sf);
}

/* A server's incremental file with every second block from first on; returns its length. */
static size_t
make_incremental(uint8_t *data, uint32_t first, uint32_t count, uint32_t truncation)
{
    AUTO(block_set_reset) BlockSet blocks = {0};
    size_t at = (size_t) incremental_header_bytes(count);
    Error err;

    for (uint32_t i = 0; i < count; i++)
    {
        if (block_set_add(&blocks, first + 2 * i, 1, &err) < 0)
            abort();
        make_page(data + at, DATA_SEGMENT_BLOCKS + first + 2 * i, 0x3000000);
        at += PAGE;
    }
    incremental_format_header(&blocks, truncation, data);
    return at;
}

static void
test_summaries(void)
{
    static uint8_t data[(MAX_PAGES + 2) * PAGE];
    static const struct
    {
        const char *label;
        uint32_t first, count, truncation, blocks;
    } cases[] = {
        {"no block", 0, 0, 7, 7},
        {"one block", 3, 1, 7, 7},
        {"it ends with its last block", 3, 3, 5, 8},
        {"truncated to nothing, and grown", 0, 2, 0, 3},
        {"many blocks", 1, 500, 2000, 2000},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        for (size_t portion = 1; portion <= 32; portion += 31)
        {
            size_t len =
                make_incremental(data, cases[i].first, cases[i].count, cases[i].truncation);
            Setup s;
            Error err = {0};
            int rc;

            setup_begin(&s, STREAM_SUMMARIES, true);
            rc = pass_file(&s, "base/5/16384.1", true, data, len, portion, &err);
            ok(rc == 0 && writer.seen.kind == BACKUP_FILE_INCREMENTAL &&
                   strcmp(writer.path, "base/5/16384.1") == 0 &&
                   writer.seen.bytes == (uint64_t) cases[i].blocks * PAGE &&
                   writer.seen.truncation_blocks == cases[i].truncation && writer.len == len &&
                   memcmp(writer.data, data, len) == 0 && writer.damaged[0] == '\0',
               "%s, portions of %zu", cases[i].label, portion);
            if (cases[i].count > 0)
            {
                data[len - 1000] ^= 1;
                rc = pass_file(&s, "base/5/16384.1", true, data, len, portion, &err);
                ok(rc == 0 && strtoul(writer.damaged, NULL, 10) ==
                                  cases[i].first + 2 * (cases[i].count - 1),
                   "%s: damage is in block %s", cases[i].label, writer.damaged);
            }
            stream_file_free(s.sf);
        }
    }
}

static void
test_malformed(void)
{
    static uint8_t data[(MAX_PAGES + 2) * PAGE];
    static const struct
    {
        const char *label;
        size_t at; /* a u32 that is changed */
        uint32_t value;
        size_t len; /* 0: as it is */
    } cases[] = {
        {"magic", 0, 0xD3AE1F0C, 0},
        {"no bytes", 0, INCREMENTAL_MAGIC, SIZE_MAX},
        {"cut in the fixed part", 0, INCREMENTAL_MAGIC, 11},
        {"cut in the header", 0, INCREMENTAL_MAGIC, 100},
        {"fewer blocks than pages", 4, 2, 0},
        {"more blocks than pages", 4, 4, 0},
        {"far more blocks than bytes", 4, 100000, 0},
        {"a count out of all bounds", 4, UINT32_MAX, 0},
        {"no blocks, and yet pages", 4, 0, 0},
        {"a block twice", 16, 3, 0},
        {"blocks in disorder", 12, 9, 0},
        {"a block out of bounds", 20, UINT32_MAX, 0},
        {"last page cut", 0, INCREMENTAL_MAGIC, 4 * PAGE - 1},
        {"a page too many", 0, INCREMENTAL_MAGIC, 5 * PAGE},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        for (size_t portion = 1; portion <= 32; portion += 31)
        {
            size_t len = make_incremental(data, 3, 3, 8);
            Setup s;
            Error err = {0};

            if (cases[i].len > 0)
                len = cases[i].len == SIZE_MAX ? 0 : cases[i].len;
            put_u32le(data + cases[i].at, cases[i].value);
            setup_begin(&s, STREAM_SUMMARIES, true);
            ok(pass_file(&s, "base/5/16384.1", true, data, len, portion, &err) == -1 &&
                   err.kind == ERROR_CORRUPT && strstr(err.msg, "base/5/16384.1") != NULL &&
                   writer.files == 0,
               "%s, portions of %zu: %s", cases[i].label, portion, err.msg);
            stream_file_free(s.sf);
        }
    }
}

int
main(void)
{
    log_open("test", LOG_ERROR, LOG_FORMAT_TEXT);
    test_whole();
    test_pages();
    test_others();
    test_repaired();
    test_folder();
    test_summaries();
    test_malformed();
    return done_testing();
}
