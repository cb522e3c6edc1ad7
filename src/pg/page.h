/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * WAL page headers (access/xlog_internal.h): what a segment says of itself. Used to keep wrong WAL
 * out of a repository and out of a server. Little-endian, 8 kB pages, as on every x86-64 and ARM64
 * build; other block sizes are read from the long header.
 */
#ifndef WALSTREAM_PAGE_H
#define WALSTREAM_PAGE_H

#include "pg/wal.h"

#define WAL_PAGE_SHORT_BYTES 24
#define WAL_PAGE_LONG_BYTES 40

/* The PostgreSQL major version that writes this page magic (14..18), 0 if unknown to us. */
int wal_page_magic_version(uint16_t magic);
/* The reverse: 0 if unknown. */
uint16_t wal_page_version_magic(int pg_major);

typedef struct WalPageHeader
{
    uint16_t magic;
    uint16_t info;
    TimelineId tli;
    Lsn page_address;
    uint32_t rem_len;
    bool is_long;
    uint64_t system_identifier; /* these three only when is_long */
    uint32_t segment_bytes;
    uint32_t block_bytes;
} WalPageHeader;

/* len of at least WAL_PAGE_SHORT_BYTES; false when too short for the form it announces. */
MUST_CHECK bool wal_page_read(const void *data, size_t len, WalPageHeader *out);

/* What a segment must be to be accepted; 0 in a field: not checked. */
typedef struct WalExpect
{
    uint64_t system_identifier;
    uint32_t segment_bytes; /* required */
    int pg_major;
    TimelineId tli;  /* of the file name; a page's may be older, never newer */
    SegmentNo segno; /* required */
} WalExpect;

/*
 * Checks a segment as its bytes pass by, in any portions, in order, from offset 0: the header of
 * each page (magic, address, timeline, and in the first page system identifier, segment size, block
 * size) and the chain of records (lengths, back links, continuations over pages). Reads headers
 * only; no allocation.
 *
 * WAL may end inside the segment: in front of a record, or anywhere when the segment was cut and
 * padded. From there on all must be zeros, except for the pad mark (FORMAT.md, "Reading WAL") in
 * the last WAL_PAD_MARK_BYTES.
 */
#define WAL_PAD_MARK_BYTES 32
#define WAL_RECORD_HEADER_BYTES 24

typedef struct WalCheck
{
    WalExpect expect;
    uint64_t offset;   /* bytes seen */
    uint64_t data_end; /* after the end: nothing but zeros (or the mark) from here on */
    bool padded;       /* it carries the pad mark */

    /* the rest is private to page.c */
    int state;       /* what is read next: page header, record header, zeros */
    int stop_reason; /* why only zeros may follow */
    uint64_t at;     /* offset of the next byte to be looked at */
    uint32_t block_bytes;
    uint16_t magic; /* of the first page */
    TimelineId tli; /* of the last page; never goes back */
    uint32_t need;  /* bytes of the page header */
    uint32_t have;
    uint32_t record_have;
    uint32_t record_left; /* bytes of the current record behind the page end reached */
    bool foreign_switch;  /* it begins with what looks like the end of a switch record */
    Lsn record_at;        /* the current record, LSN_INVALID if it began in front of the segment */
    Lsn record_prev;      /* the whole record in front of it, LSN_INVALID: not known */
    uint8_t header[WAL_PAGE_LONG_BYTES];
    uint8_t record[WAL_RECORD_HEADER_BYTES];
    uint8_t tail[WAL_PAD_MARK_BYTES];
    uint32_t tail_have;
} WalCheck;

void wal_check_init(WalCheck *check, const WalExpect *expect);
/*
 * CORRUPT with the offset and the reason; CONFLICT for another system identifier or another segment
 * size. After a failure the state must not be used further.
 */
MUST_CHECK int wal_check_write(WalCheck *check, const void *data, size_t len, Error *err);
/*
 * After the last byte: CORRUPT if fewer bytes than a segment came.
 *
 * *complete: whether the segment is finished WAL: its last record reaches or crosses the end of the
 * segment, or is a switch record (XLOG_SWITCH, its CRC is checked) with zeros behind it. A segment
 * padded in the middle of WAL (as assembled from pieces) is not complete, and that is no error
 * here.
 *
 * What cannot be told: a segment without the mark that was cut on its last page, within the last
 * record and behind the record's back link (its first 16 bytes), and padded with zeros. It looks
 * like a record of zeros; only the next segment has the bytes that its CRC needs. Padding by
 * walstream carries the mark wherever 32 bytes or more are missing.
 */
MUST_CHECK int wal_check_finish(WalCheck *check, bool *complete, Error *err);

#endif
