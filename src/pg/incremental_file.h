/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * PostgreSQL's own incremental file format (backup/basebackup_incremental.c, pg_combinebackup
 * reconstruct.c): "INCREMENTAL.<name>" holds some blocks of <name>.
 *
 *   u32 magic D3AE1F0D | u32 block count n | u32 truncation length in blocks | n x u32 block number
 *   zeros up to a multiple of 8192, only if n > 0 | n pages
 *
 * The truncation length is the shortest the file has been since the earlier backup: blocks below it
 * that are not listed are those of the earlier backup; blocks at or above it are listed, or zero.
 */
#ifndef WALSTREAM_INCREMENTAL_FILE_H
#define WALSTREAM_INCREMENTAL_FILE_H

#include "pg/block_set.h"
#include "pg/data_page.h"

#define INCREMENTAL_PREFIX "INCREMENTAL."
#define INCREMENTAL_MAGIC 0xD3AE1F0Du
#define INCREMENTAL_FIXED_BYTES 12u

/* Bytes of the header with n blocks listed, padding included. */
uint64_t incremental_header_bytes(uint32_t block_count);
/* Bytes of the whole file. */
uint64_t incremental_file_bytes(uint32_t block_count);

/* Exactly incremental_header_bytes() into out. */
void incremental_format_header(const BlockSet *blocks, uint32_t truncation_blocks, uint8_t *out);

/*
 * Header from the front of data into *blocks (initialized). 1: read, *header_bytes says how long it
 * is; 0: more bytes are needed (*header_bytes then says how many, at least 12); -1 CORRUPT (wrong
 * magic, more than BLOCK_SET_MAX_BLOCK blocks, a block listed twice, padding that is not zero) or
 * NOMEM. What is not read leaves *blocks, *truncation_blocks and *ascending alone. PostgreSQL lists
 * blocks ascending; others are taken too, but then blocks of the file are not in the order of the
 * set: *ascending is false.
 */
MUST_CHECK int incremental_parse_header(
    const void *data, size_t len, BlockSet *blocks, uint32_t *truncation_blocks,
    uint64_t *header_bytes, bool *ascending, Error *err);

/* "base/5/INCREMENTAL.16384" of "base/5/16384" and back; buf of DATA_PATH_MAX + 16. */
char *incremental_path(const char *path, char *buf, size_t len);
/* false if the last component does not begin with INCREMENTAL_PREFIX. */
MUST_CHECK bool incremental_original_path(const char *path, char *buf, size_t len);

#endif
