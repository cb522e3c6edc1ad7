/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The bounded text builder; see strbuf.h.
 */
#include "common/strbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void
strbuf_init(StrBuf *sb, size_t max_bytes)
{
    *sb = (StrBuf){.max = max_bytes};
}

void
strbuf_reset(StrBuf *sb)
{
    free(sb->data);
    strbuf_init(sb, sb->max);
}

static void
strbuf_fail(StrBuf *sb, bool too_long)
{
    if (sb->failed)
        return;
    sb->failed = true;
    sb->too_long = too_long;
}

/* Makes room for extra bytes of text and their NUL; false and a sticky failure if that cannot be.
 */
static bool
strbuf_reserve(StrBuf *sb, size_t extra)
{
    size_t need, cap;

    if (sb->failed)
        return false;
    if (extra > sb->max - sb->len || __builtin_add_overflow(sb->len, extra, &need) ||
        __builtin_add_overflow(need, 1, &need))
    {
        strbuf_fail(sb, true);
        return false;
    }
    if (need <= sb->cap)
        return true;

    /* doubling, so that many small appends stay cheap, but never past the maximum */
    if (__builtin_mul_overflow(sb->cap, 2, &cap))
        cap = need;
    cap = MAX(cap, 64);
    if (sb->max < SIZE_MAX)
        cap = MIN(cap, sb->max + 1);
    cap = MAX(cap, need);

    char *data = realloc(sb->data, cap);

    if (data == NULL)
    {
        strbuf_fail(sb, false);
        return false;
    }
    sb->data = data;
    sb->cap = cap;
    return true;
}

void
strbuf_append(StrBuf *sb, const void *data, size_t len)
{
    if (!strbuf_reserve(sb, len))
        return;
    if (len > 0)
        memcpy(sb->data + sb->len, data, len);
    sb->len += len;
    sb->data[sb->len] = '\0';
}

void
strbuf_puts(StrBuf *sb, const char *text)
{
    strbuf_append(sb, text, strlen(text));
}

void
strbuf_putc(StrBuf *sb, char c)
{
    strbuf_append(sb, &c, 1);
}

void
strbuf_printf(StrBuf *sb, const char *fmt, ...)
{
    char small[256];
    va_list ap;

    if (sb->failed)
        return;
    va_start(ap, fmt);

    int len = vsnprintf(small, sizeof small, fmt, ap);

    va_end(ap);
    if (len < 0)
    {
        strbuf_fail(sb, false);
        return;
    }
    if ((size_t) len < sizeof small)
    {
        strbuf_append(sb, small, (size_t) len);
        return;
    }
    if (!strbuf_reserve(sb, (size_t) len))
        return;
    va_start(ap, fmt);
    (void) vsnprintf(sb->data + sb->len, (size_t) len + 1, fmt, ap);
    va_end(ap);
    sb->len += (size_t) len;
}

void
strbuf_put_json(StrBuf *sb, const char *text)
{
    strbuf_putc(sb, '"');
    while (*text != '\0')
    {
        /* what needs no escape, at once */
        size_t len = 0;

        while ((unsigned char) text[len] >= 0x20 && text[len] != '"' && text[len] != '\\')
            len++;
        strbuf_append(sb, text, len);
        text += len;
        if (*text == '\0')
            break;
        if (*text == '"' || *text == '\\')
            strbuf_printf(sb, "\\%c", *text);
        else
            strbuf_printf(sb, "\\u%04x", (unsigned) (unsigned char) *text);
        text++;
    }
    strbuf_putc(sb, '"');
}

void
strbuf_clear(StrBuf *sb)
{
    sb->len = 0;
    sb->failed = false;
    sb->too_long = false;
    if (sb->data != NULL)
        sb->data[0] = '\0';
}

const char *
strbuf_text(const StrBuf *sb)
{
    return sb->data == NULL ? "" : sb->data;
}

int
strbuf_finish(const StrBuf *sb, Error *err)
{
    if (!sb->failed)
        return 0;
    if (sb->too_long)
        return error_set(err, ERROR_CORRUPT, "text is longer than the limit of %zu bytes", sb->max);
    return error_nomem(err);
}
