/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * CRC-32C (Castagnoli), as PostgreSQL guards WAL records and pg_control with. Uses the processor's
 * instruction where there is one.
 */
#ifndef WALSTREAM_CRC32C_H
#define WALSTREAM_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/*
 * The CRC of what crc stands for followed by data; start with 0. So
 * crc32c(crc32c(0, a, n), b, m) is the CRC of a and b in one.
 */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* The same without the instruction: what runs where it is missing. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len);

/* The CRC of a and b one behind the other, from theirs and the length of b. */
uint32_t crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t len_b);

/*
 * CRCs of pieces that come in any order, with zeros between them: the remainder of a piece is
 * linear, so that those of all pieces, each shifted by the bytes behind it, are put together by
 * XOR, and zeros need not be looked at. crc32c_whole makes the usual CRC of the sum.
 */
uint32_t crc32c_piece(const void *data, size_t len, uint64_t bytes_behind);
uint32_t crc32c_whole(uint32_t pieces, uint64_t total_bytes);

#endif
