/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A file from the server's archive into a bundle; see stream_file.h.
 */
#include "walbackup/stream_file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "pg/data_page.h"
#include "pg/incremental_file.h"
#include "repo/file_digest.h"
#include "walbackup/changes.h"
#include "walbackup/spill.h"

#define DAMAGE_LOG_MAX 20 /* lines for one file */

typedef enum StreamPlan
{
    PLAN_PASS,        /* whole, as it comes */
    PLAN_INCREMENTAL, /* the server's incremental file, as it comes once its header is read */
    PLAN_PAGES,       /* changed pages are kept back */
    PLAN_DIGEST,      /* all is kept back, the digest tells at the end */
    PLAN_LEAVE_OUT
} StreamPlan;

struct StreamFile
{
    const StreamRules *rules;
    BundleWriter *writer;
    StreamEntry *entry; /* owned; NULL between files */
    StreamPlan plan;
    const BackupFile *parent; /* the parent's entry; borrowed */
    bool relation;            /* it has pages */
    uint32_t first_block;     /* of the file, in its fork */
    uint32_t next_block;      /* of the file: that the next page is */
    size_t range;             /* PLAN_INCREMENTAL: in file.blocks ... */
    uint32_t range_used;      /* ... and how much of it has passed */
    uint64_t damaged;
    bool begun;      /* in the bundle */
    uint8_t *header; /* of an incremental file, while it is not whole; owned */
    size_t header_len;
    size_t header_cap;
    FileDigester *digester; /* owned; for XXH128 alone */
    Spill spill;
};

void
stream_entry_free(StreamEntry *entry)
{
    if (entry == NULL)
        return;
    backup_file_reset(&entry->file);
    free(entry);
}

int
stream_file_new(const StreamRules *rules, BundleWriter *writer, StreamFile **out, Error *err)
{
    StreamFile *sf = calloc(1, sizeof *sf);

    if (sf == NULL)
        return error_nomem(err);
    sf->rules = rules;
    sf->writer = writer;
    spill_init(&sf->spill, rules->spill_dir, SPILL_MEMORY_BYTES);
    if (file_digester_new(CHECKSUM_NONE, &sf->digester, err) < 0)
    {
        stream_file_free(sf);
        return -1;
    }
    *out = sf;
    return 0;
}

void
stream_file_free(StreamFile *sf)
{
    if (sf == NULL)
        return;
    stream_entry_free(sf->entry);
    free(sf->header);
    file_digester_free(sf->digester);
    spill_reset(&sf->spill);
    free(sf);
}

/* ---- beginning ---- */

static StreamPlan
stream_file_plan(StreamFile *sf)
{
    const BackupRun *run = sf->rules->run;
    bool summaries = sf->rules->mode == STREAM_SUMMARIES;

    if (sf->entry->incremental)
        return PLAN_INCREMENTAL;
    if (sf->rules->mode == STREAM_FULL)
        return PLAN_PASS;
    switch (change_rule(
        &run->parent, &run->header, summaries, sf->entry->path, sf->entry->content_bytes,
        &sf->parent))
    {
        case CHANGE_PAGES:
            /* what the server sends whole with WAL summaries may be new under an old name */
            return summaries ? PLAN_PASS : PLAN_PAGES;
        case CHANGE_DIGEST:
            return PLAN_DIGEST;
        case CHANGE_LEAVE_OUT:
            return PLAN_LEAVE_OUT;
        case CHANGE_WHOLE:
            break;
    }
    return PLAN_PASS;
}

static int
stream_file_put_begin(StreamFile *sf, BackupFileKind kind, uint64_t stored_bytes, Error *err)
{
    BackupFile *file = &sf->entry->file;

    file->kind = kind;
    file->stored_bytes = stored_bytes;
    sf->begun = true;
    return bundle_writer_begin_file(sf->writer, file, err);
}

int
stream_file_begin(StreamFile *sf, StreamEntry *entry, Error *err)
{
    RelationFile relation;

    assert(sf->entry == NULL);
    sf->entry = entry;
    sf->parent = NULL;
    sf->begun = false;
    sf->damaged = 0;
    sf->next_block = 0;
    sf->range = 0;
    sf->range_used = 0;
    sf->header_len = 0;
    spill_clear(&sf->spill);
    if (entry->file.kind == BACKUP_FILE_FOLDER)
    {
        int rc = bundle_writer_begin_file(sf->writer, &entry->file, err);

        stream_entry_free(steal(sf->entry));
        return rc;
    }
    sf->relation = data_file_parse_relation(entry->path, &relation);
    sf->first_block = sf->relation ? relation.segment * DATA_SEGMENT_BLOCKS : 0;
    sf->plan = stream_file_plan(sf);
    if (sf->plan == PLAN_DIGEST && file_digester_begin(sf->digester, err) < 0)
        return -1;
    entry->file.bytes = entry->content_bytes;
    if (sf->plan != PLAN_PASS)
        return 0;
    return stream_file_put_begin(sf, BACKUP_FILE_WHOLE, entry->content_bytes, err);
}

/* ---- pages ---- */

/* What a page that passes is: its block in the file; in an incremental file the next that is
 * listed. */
static uint32_t
stream_file_next_block(StreamFile *sf)
{
    const BlockSet *blocks = &sf->entry->file.blocks;
    uint32_t block;

    if (sf->plan != PLAN_INCREMENTAL)
        return sf->next_block++;
    block = blocks->ranges[sf->range].first + sf->range_used;
    if (++sf->range_used == blocks->ranges[sf->range].count)
    {
        sf->range++;
        sf->range_used = 0;
    }
    return block;
}

/* Damage is said and noted, the backup goes on; *good false when it is damaged. */
static int
stream_file_check_page(StreamFile *sf, const uint8_t *page, uint32_t block, bool *good, Error *err)
{
    BackupFile *file = &sf->entry->file;

    *good = !sf->rules->check_pages ||
            data_page_good(page, sf->first_block + block, sf->rules->start_lsn);
    if (*good)
        return 0;
    if (sf->damaged++ < DAMAGE_LOG_MAX)
        log_write(
            LOG_WARNING, "damaged page in file \"%s\", block %" PRIu32 ": checksum mismatch",
            file->path, block);
    (void) atomic_fetch_add(&sf->rules->run->damaged_blocks, 1);
    return block_set_add(&file->damaged, block, 1, err);
}

static int
stream_file_check_pages(StreamFile *sf, const uint8_t *data, size_t len, Error *err)
{
    bool good;

    if (!sf->relation || !sf->rules->check_pages)
        return 0;
    for (; len >= DATA_PAGE_BYTES; data += DATA_PAGE_BYTES, len -= DATA_PAGE_BYTES)
        if (stream_file_check_page(sf, data, stream_file_next_block(sf), &good, err) < 0)
            return -1;
    return 0;
}

/* Keeps the pages that have changed, and those that are damaged: as the server has them. */
static int
stream_file_keep_pages(StreamFile *sf, const uint8_t *data, size_t len, Error *err)
{
    Lsn since = sf->rules->run->parent.header.start_lsn;
    size_t run_from = 0;
    size_t at = 0;

    for (; at + DATA_PAGE_BYTES <= len; at += DATA_PAGE_BYTES)
    {
        uint32_t block = stream_file_next_block(sf);
        bool good;

        if (stream_file_check_page(sf, data + at, block, &good, err) < 0)
            return -1;
        if (good && !change_page(data + at, block, since, sf->parent))
        {
            if (at > run_from && spill_append(&sf->spill, data + run_from, at - run_from, err) < 0)
                return -1;
            run_from = at + DATA_PAGE_BYTES;
        }
        else if (block_set_add(&sf->entry->file.blocks, block, 1, err) < 0)
            return -1;
    }
    return at > run_from ? spill_append(&sf->spill, data + run_from, at - run_from, err) : 0;
}

/* ---- the header of an incremental file ---- */

static int
stream_file_use_header(StreamFile *sf, Error *err)
{
    BackupFile *file = &sf->entry->file;
    uint64_t bytes;
    uint64_t count = block_set_blocks(&file->blocks);

    if (incremental_file_bytes((uint32_t) count) != sf->entry->content_bytes)
        return error_set(
            err, ERROR_CORRUPT,
            "it has %" PRIu64 " bytes, which does not fit its %" PRIu64 " blocks",
            sf->entry->content_bytes, count);
    bytes = MAX(file->truncation_blocks, block_set_end(&file->blocks));
    file->bytes = bytes * DATA_PAGE_BYTES;
    if (stream_file_put_begin(sf, BACKUP_FILE_INCREMENTAL, sf->entry->content_bytes, err) < 0)
        return -1;
    return bundle_writer_write(sf->writer, sf->header, sf->header_len, err);
}

/*
 * Takes what belongs to the header from the front of data; *used says how much. What follows it is
 * pages, on a page's boundary, as the header of a file with blocks fills whole pages.
 */
static int
stream_file_take_header(StreamFile *sf, const uint8_t *data, size_t len, size_t *used, Error *err)
{
    BackupFile *file = &sf->entry->file;
    uint64_t want = INCREMENTAL_FIXED_BYTES;

    *used = 0;
    for (;;)
    {
        size_t n = MIN(len - *used, (size_t) (want - sf->header_len));
        bool ascending = true;
        int rc;

        if (want > sf->header_cap)
        {
            uint8_t *header = realloc(sf->header, (size_t) want);

            if (header == NULL)
                return error_nomem(err);
            sf->header = header;
            sf->header_cap = (size_t) want;
        }
        memcpy(sf->header + sf->header_len, data + *used, n);
        sf->header_len += n;
        *used += n;
        if (sf->header_len < want)
            return 0;
        rc = incremental_parse_header(
            sf->header, sf->header_len, &file->blocks, &file->truncation_blocks, &want, &ascending,
            err);
        if (rc < 0)
            return -1;
        if (rc == 0)
        {
            if (want <= sf->header_len || want > sf->entry->content_bytes)
                return error_set(err, ERROR_CORRUPT, "it is too short for its header");
            continue;
        }
        if (!ascending)
            return error_set(err, ERROR_CORRUPT, "its blocks are not in order");
        if (want != sf->header_len)
            return error_set(err, ERROR_CORRUPT, "its header is malformed");
        return stream_file_use_header(sf, err);
    }
}

static int
stream_file_pass_incremental(StreamFile *sf, const uint8_t *data, size_t len, Error *err)
{
    size_t used = 0;

    if (!sf->begun && stream_file_take_header(sf, data, len, &used, err) < 0)
        return error_wrap(
            err, "incremental file of \"%s\" that the server sent", sf->entry->file.path);
    if (used == len)
        return 0;
    if (stream_file_check_pages(sf, data + used, len - used, err) < 0)
        return -1;
    return bundle_writer_write(sf->writer, data + used, len - used, err);
}

int
stream_file_write(StreamFile *sf, const void *data, size_t len, Error *err)
{
    switch (sf->plan)
    {
        case PLAN_PASS:
            if (stream_file_check_pages(sf, data, len, err) < 0)
                return -1;
            return bundle_writer_write(sf->writer, data, len, err);
        case PLAN_INCREMENTAL:
            return stream_file_pass_incremental(sf, data, len, err);
        case PLAN_PAGES:
            return stream_file_keep_pages(sf, data, len, err);
        case PLAN_DIGEST:
            if (stream_file_check_pages(sf, data, len, err) < 0 ||
                file_digester_add(sf->digester, data, len, err) < 0)
                return -1;
            return spill_append(&sf->spill, data, len, err);
        case PLAN_LEAVE_OUT:
            break;
    }
    return 0;
}

/* ---- ending ---- */

static int
stream_file_put(void *ctx, const void *data, size_t len, Error *err)
{
    StreamFile *sf = ctx;

    return bundle_writer_write(sf->writer, data, len, err);
}

/* An incremental file of ours: the blocks in file.blocks, their pages in the spill. */
static int
stream_file_put_incremental(StreamFile *sf, Error *err)
{
    BackupFile *file = &sf->entry->file;
    uint32_t count = (uint32_t) block_set_blocks(&file->blocks);
    size_t header_bytes = (size_t) incremental_header_bytes(count);

    file->truncation_blocks = (uint32_t) (file->bytes / DATA_PAGE_BYTES);
    if (header_bytes > sf->header_cap)
    {
        uint8_t *header = realloc(sf->header, header_bytes);

        if (header == NULL)
            return error_nomem(err);
        sf->header = header;
        sf->header_cap = header_bytes;
    }
    incremental_format_header(&file->blocks, file->truncation_blocks, sf->header);
    if (stream_file_put_begin(sf, BACKUP_FILE_INCREMENTAL, incremental_file_bytes(count), err) <
            0 ||
        bundle_writer_write(sf->writer, sf->header, header_bytes, err) < 0)
        return -1;
    return spill_replay(&sf->spill, stream_file_put, sf, err);
}

static int
stream_file_put_by_digest(StreamFile *sf, Error *err)
{
    BackupFile *file = &sf->entry->file;
    FileDigest digest;

    if (file_digester_end(sf->digester, &digest, err) < 0)
        return -1;
    if (memcmp(digest.xxh128, sf->parent->xxh128, sizeof digest.xxh128) == 0)
    {
        spill_clear(&sf->spill);
        return stream_file_put_incremental(sf, err);
    }
    if (stream_file_put_begin(sf, BACKUP_FILE_WHOLE, file->bytes, err) < 0)
        return -1;
    return spill_replay(&sf->spill, stream_file_put, sf, err);
}

int
stream_file_end(StreamFile *sf, Error *err)
{
    AUTO(stream_entry_freep) StreamEntry *entry = NULL;
    const char *path = sf->entry->file.path;

    if (sf->plan == PLAN_INCREMENTAL && !sf->begun)
        return error_set(
            err, ERROR_CORRUPT,
            "the server sent an incremental file of \"%s\" that ends in its "
            "header",
            path);
    if (sf->plan == PLAN_PAGES && stream_file_put_incremental(sf, err) < 0)
        return -1;
    if (sf->plan == PLAN_DIGEST && stream_file_put_by_digest(sf, err) < 0)
        return -1;
    if (sf->damaged > DAMAGE_LOG_MAX)
        log_write(
            LOG_WARNING, "file \"%s\" has %" PRIu64 " damaged pages in all", path, sf->damaged);
    if (sf->plan != PLAN_LEAVE_OUT && bundle_writer_end_file(sf->writer, err) < 0)
        return -1;
    entry = steal(sf->entry);
    return 0;
}
