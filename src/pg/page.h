/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * WAL page headers (access/xlog_internal.h): what a segment says of itself. Used to keep wrong WAL
 * out of a repository and out of a server. Little-endian, 8 kB pages, as on every x86-64 and ARM64 build;
 * other block sizes are read from the long header.
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
    TimelineId tli;      /* of the file name; a page's may be older, never newer */
    SegmentNo segno;     /* required */
} WalExpect;

/*
 * Checks a segment as its bytes pass by, in any portions, in order, from offset 0: magic, page address,
 * system identifier, segment size and block size of the first page, header of each page. Pages that
 * are all zero are allowed only at the end (after a switch, or in a padded segment), and nothing but zeros
 * may follow the first zero page. Zero-initialised state plus wal_check_init. No allocation.
 */
typedef struct WalCheck
{
    WalExpect expect;
    uint64_t offset;            /* bytes seen */
    uint32_t block_bytes;
    bool in_zeros;              /* a zero page has been seen */
    uint64_t data_end;          /* offset behind the last byte that is not zero */
    uint64_t zero_from;         /* offset of the first page without header */
    uint8_t header[WAL_PAGE_LONG_BYTES]; /* of the current page, gathered */
    uint32_t header_have;
    bool page_nonzero;
    /* room for the completeness check (wal_check_complete) */
    uint8_t tail[64];
    uint64_t state[8];
} WalCheck;

void wal_check_init(WalCheck *check, const WalExpect *expect);
/* CORRUPT with page offset and reason; CONFLICT for another system identifier or another size. */
MUST_CHECK int wal_check_write(WalCheck *check, const void *data, size_t len, Error *err);
/*
 * After the last byte: CORRUPT if fewer or more bytes than a segment came.
 * *complete: whether the segment is finished WAL: valid pages up to its last one, or a switch record
 * (XLOG_SWITCH, resource manager 0, info 0x40) as the last record with zeros behind it. A segment
 * padded with zeros in the middle of WAL (as assembled from pieces) is not complete.
 */
MUST_CHECK int wal_check_finish(WalCheck *check, bool *complete, Error *err);

#endif
