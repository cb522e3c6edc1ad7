/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A text builder with a maximum given at birth. It keeps its first failure; callers append freely
 * and check once, with strbuf_finish.
 */
#ifndef WALSTREAM_STRBUF_H
#define WALSTREAM_STRBUF_H

#include <stdarg.h>

#include "common/error.h"

typedef struct StrBuf
{
    char *data; /* NUL-terminated once anything was appended; owned */
    size_t len;
    size_t cap;
    size_t max;  /* bytes of text, NUL not counted */
    bool failed; /* out of memory or over max; sticky */
    bool too_long;
} StrBuf;

void strbuf_init(StrBuf *sb, size_t max_bytes);
void strbuf_reset(StrBuf *sb); /* frees; fit for AUTO */
void strbuf_append(StrBuf *sb, const void *data, size_t len);
void strbuf_puts(StrBuf *sb, const char *text);
void strbuf_putc(StrBuf *sb, char c);
void strbuf_printf(StrBuf *sb, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* As a JSON string, in quotes; text is UTF-8. */
void strbuf_put_json(StrBuf *sb, const char *text);

/* Keeps the memory and the failure flag goes: ready for the next text. */
void strbuf_clear(StrBuf *sb);

/* The text so far, "" if nothing; borrowed until the next append. Meaningless after a failure. */
const char *strbuf_text(const StrBuf *sb);

/* 0 if everything appended is there; NOMEM, or CORRUPT when it would have passed the maximum. */
MUST_CHECK int strbuf_finish(const StrBuf *sb, Error *err);

#endif
