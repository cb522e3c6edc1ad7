/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Strict readers of numbers in text: the whole text must be the number, no sign, no blank, no
 * overflow. All return false on anything else and leave *out alone.
 */
#ifndef WALSTREAM_PARSE_H
#define WALSTREAM_PARSE_H

#include "common/compiler.h"

MUST_CHECK bool parse_u64(const char *text, uint64_t *out);
MUST_CHECK bool parse_u32(const char *text, uint32_t *out);

/* Exactly len digits 0-9 A-F (upper case only), len 1..16; text need not be terminated. */
MUST_CHECK bool parse_hex_upper(const char *text, size_t len, uint64_t *out);

/* Lower- or upper-case hex of exactly out_len bytes; text need not be terminated. */
MUST_CHECK bool parse_hex_bytes(const char *text, size_t len, uint8_t *out, size_t out_len);

/* Writes 2 * len lower-case digits and a NUL. Returns out. */
char *format_hex(const void *data, size_t len, char *out);

/* "64MiB", "1GB" (as PostgreSQL: 1024-based), "512kB", "4096"; also B, KiB, MB, GiB, TB, TiB. */
MUST_CHECK bool parse_bytes(const char *text, uint64_t *out);

/* "100ms", "1s", "5min", "2h", "30d", "26w", "1y" (365 days); a bare number means seconds. */
MUST_CHECK bool parse_duration_ms(const char *text, int64_t *out);

/* on off true false yes no 1 0, any case. */
MUST_CHECK bool parse_bool(const char *text, bool *out);

#endif
