/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * WAL made by hand: records with right links and CRCs on right pages, over any number of segments.
 */
#ifndef WALSTREAM_WAL_BUILD_H
#define WALSTREAM_WAL_BUILD_H

#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/crc32c.h"
#include "pg/page.h"

#define WAL_BUILD_PAGE 8192u
#define WAL_BUILD_EPOCH_US (INT64_C(946684800) * 1000000)

typedef struct WalBuild
{
    uint8_t *data; /* owned; zeros behind what was written */
    size_t bytes;
    Lsn base; /* of data; where a segment begins */
    Lsn at;
    Lsn prev;
    uint32_t segment_bytes;
    TimelineId tli;
    uint64_t system_identifier;
    int pg_major;
} WalBuild;

__attribute__((unused)) static void
wal_build_init(WalBuild *b, Lsn base, uint32_t segment_bytes, size_t segments)
{
    *b = (WalBuild){
        .bytes = segments * segment_bytes,
        .base = base,
        .at = base,
        .prev = base - 64,
        .segment_bytes = segment_bytes,
        .tli = 1,
        .system_identifier = 7300000000000000001u,
        .pg_major = 15};
    b->data = calloc(1, b->bytes);
    if (b->data == NULL)
        abort();
}

__attribute__((unused)) static void
wal_build_reset(WalBuild *b)
{
    free(b->data);
    b->data = NULL;
}

__attribute__((unused)) static uint8_t *
wal_build_byte(const WalBuild *b, Lsn lsn)
{
    if (lsn < b->base || lsn - b->base >= b->bytes)
        abort();
    return b->data + (lsn - b->base);
}

/* The header of the page that begins at b->at; left: bytes of the current record behind it. */
__attribute__((unused)) static void
wal_build_page(WalBuild *b, uint32_t left)
{
    bool is_long = b->at % b->segment_bytes == 0;
    uint8_t *page = wal_build_byte(b, b->at);
    uint16_t magic = wal_page_version_magic(b->pg_major);

    page[0] = (uint8_t) magic;
    page[1] = (uint8_t) (magic >> 8);
    page[2] = (uint8_t) ((left > 0 ? 1 : 0) | (is_long ? 2 : 0));
    put_u32le(page + 4, b->tli);
    put_u64le(page + 8, b->at);
    put_u32le(page + 16, left);
    if (is_long)
    {
        put_u64le(page + 24, b->system_identifier);
        put_u32le(page + 32, b->segment_bytes);
        put_u32le(page + 36, WAL_BUILD_PAGE);
    }
    b->at += is_long ? WAL_PAGE_LONG_BYTES : WAL_PAGE_SHORT_BYTES;
}

/* Where a record of len bytes (with its header) that is begun now would begin. */
__attribute__((unused)) static Lsn
wal_build_raw(WalBuild *b, const uint8_t *bytes, uint32_t len)
{
    Lsn start = LSN_INVALID;

    for (uint32_t i = 0; i < len; i++)
    {
        if (b->at % WAL_BUILD_PAGE == 0)
            wal_build_page(b, i > 0 ? len - i : 0);
        if (i == 0)
            start = b->at;
        *wal_build_byte(b, b->at++) = bytes[i];
    }
    b->at = (b->at + 7) & ~UINT64_C(7);
    return start;
}

/* body: all behind the record's header. Returns where the record begins. */
__attribute__((unused)) static Lsn
wal_build_record(
    WalBuild *b, uint8_t rmgr, uint8_t info, uint32_t xid, const void *body, uint32_t len)
{
    uint8_t *record = calloc(1, (size_t) WAL_RECORD_HEADER_BYTES + len);

    if (record == NULL)
        abort();
    put_u32le(record, WAL_RECORD_HEADER_BYTES + len);
    put_u32le(record + 4, xid);
    put_u64le(record + 8, b->prev);
    record[16] = info;
    record[17] = rmgr;
    if (len > 0)
        memcpy(record + WAL_RECORD_HEADER_BYTES, body, len);

    uint32_t crc = crc32c(0, record + WAL_RECORD_HEADER_BYTES, len);

    put_u32le(record + 20, crc32c(crc, record, 20));
    b->prev = wal_build_raw(b, record, WAL_RECORD_HEADER_BYTES + len);
    free(record);
    return b->prev;
}

/* A record of no interest (heap), len bytes in all. */
__attribute__((unused)) static Lsn
wal_build_filler(WalBuild *b, uint32_t len)
{
    uint8_t *body = malloc(len);

    if (body == NULL || len < WAL_RECORD_HEADER_BYTES)
        abort();
    memset(body, 'f', len);

    Lsn lsn = wal_build_record(b, 10, 0, 0, body, len - WAL_RECORD_HEADER_BYTES);

    free(body);
    return lsn;
}

/* With records of no interest to lsn, a multiple of 8 with room for one. */
__attribute__((unused)) static void
wal_build_fill_to(WalBuild *b, Lsn lsn)
{
    while (b->at < lsn)
    {
        Lsn page = b->at % WAL_BUILD_PAGE == 0
                       ? b->at + (b->at % b->segment_bytes == 0 ? WAL_PAGE_LONG_BYTES
                                                                : WAL_PAGE_SHORT_BYTES)
                       : b->at;
        Lsn end = MIN(lsn, (page / WAL_BUILD_PAGE + 1) * WAL_BUILD_PAGE);
        Lsn left = end - page;

        if (left < WAL_RECORD_HEADER_BYTES)
        {
            /* over the end of the page */
            (void) wal_build_filler(b, 64);
            continue;
        }
        if (left > 1024 && left - 1024 >= WAL_RECORD_HEADER_BYTES)
            left = 1024;
        (void) wal_build_filler(b, (uint32_t) left);
    }
}

__attribute__((unused)) static Lsn
wal_build_end_of_xact(WalBuild *b, uint8_t info, uint32_t xid, int64_t at_us)
{
    uint8_t body[2 + 8] = {255, 8};

    put_u64le(body + 2, (uint64_t) (at_us - WAL_BUILD_EPOCH_US));
    return wal_build_record(b, 1, info, xid, body, sizeof body);
}

__attribute__((unused)) static Lsn
wal_build_commit(WalBuild *b, uint32_t xid, int64_t at_us)
{
    return wal_build_end_of_xact(b, 0x00, xid, at_us);
}

__attribute__((unused)) static Lsn
wal_build_abort(WalBuild *b, uint32_t xid, int64_t at_us)
{
    return wal_build_end_of_xact(b, 0x20, xid, at_us);
}

__attribute__((unused)) static Lsn
wal_build_point(WalBuild *b, const char *name, int64_t at_us)
{
    uint8_t body[2 + 8 + 64] = {255, 72};

    put_u64le(body + 2, (uint64_t) (at_us - WAL_BUILD_EPOCH_US));
    memcpy(body + 10, name, strlen(name));
    return wal_build_record(b, 0, 0x70, 0, body, sizeof body);
}

/* The rest of the segment is skipped. */
__attribute__((unused)) static Lsn
wal_build_switch(WalBuild *b)
{
    Lsn lsn = wal_build_record(b, 0, 0x40, 0, NULL, 0);

    b->at = (b->at + b->segment_bytes - 1) / b->segment_bytes * b->segment_bytes;
    return lsn;
}

#endif
