/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Members of a JSON object, strictly read: false when the member is missing, of another type, or
 * out of range, and *out is left alone.
 */
#ifndef WALSTREAM_JSON_READ_H
#define WALSTREAM_JSON_READ_H

#include <jansson.h>

#include "pg/wal.h"

/*
 * A document that is an object, *out the caller's. CORRUPT says why it is none; NOMEM is never told
 * as that, which the library alone does not tell apart.
 */
MUST_CHECK int json_read_object(const char *text, size_t len, json_t **out, Error *err);
void json_read_free(json_t **doc); /* for AUTO */

/* A text that fits cap with its NUL. */
MUST_CHECK bool json_read_text(const json_t *doc, const char *member, char *out, size_t cap);
/* An integer from 0 to INT64_MAX. */
MUST_CHECK bool json_read_u64(const json_t *doc, const char *member, uint64_t *out);
MUST_CHECK bool json_read_u32(const json_t *doc, const char *member, uint32_t *out);
MUST_CHECK bool json_read_bool(const json_t *doc, const char *member, bool *out);
/* A text as lsn_format and clock_format_iso write it. */
MUST_CHECK bool json_read_lsn(const json_t *doc, const char *member, Lsn *out);
MUST_CHECK bool json_read_time(const json_t *doc, const char *member, int64_t *wall_us);
/* Two hex digits a byte, exactly len bytes. */
MUST_CHECK bool json_read_hex(const json_t *doc, const char *member, uint8_t *out, size_t len);

#endif
