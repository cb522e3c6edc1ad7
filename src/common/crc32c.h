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

#endif
