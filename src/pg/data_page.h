/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A page of a relation file (storage/bufpage.h, storage/checksum_impl.h): its LSN and its checksum.
 */
#ifndef WALSTREAM_DATA_PAGE_H
#define WALSTREAM_DATA_PAGE_H

#include "pg/wal.h"

#define DATA_PAGE_BYTES 8192
/* Blocks of one relation segment file as PostgreSQL is built everywhere (1 GiB). */
#define DATA_SEGMENT_BLOCKS 131072u

Lsn data_page_lsn(const void *page);
/* pd_upper is 0: PostgreSQL has not initialized it. It is good only if all of it is zero. */
bool data_page_is_new(const void *page);
bool data_page_is_zero(const void *page);

/* block: counted over the whole fork (segment * DATA_SEGMENT_BLOCKS + block in the file). */
uint16_t data_page_checksum(const void *page, uint32_t block);
uint16_t data_page_stored_checksum(const void *page);

/*
 * What a cluster with data checksums may have at this place: a zero page, or one whose checksum is
 * right. A page with an LSN at or behind start_lsn (LSN_INVALID: none) is not judged, as it may be
 * torn and is in WAL that the backup is recovered with.
 */
bool data_page_good(const void *page, uint32_t block, Lsn start_lsn);

#endif
