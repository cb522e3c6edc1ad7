/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The text builder: growth, the maximum, the sticky failure.
 */
#include "common/strbuf.h"

#include <stdlib.h>
#include <string.h>

#include "tap.h"

/* malloc'd text longer than the small buffer of strbuf_printf */
static void
test_growth(void)
{
    AUTO(strbuf_reset) StrBuf sb;
    char want[20001];
    Error err;

    strbuf_init(&sb, 20000);
    ok(strcmp(strbuf_text(&sb), "") == 0 && strbuf_finish(&sb, &err) == 0, "empty at birth");
    strbuf_append(&sb, NULL, 0);
    ok(sb.len == 0 && strcmp(strbuf_text(&sb), "") == 0, "nothing appended is nothing");
    strbuf_putc(&sb, 'a');
    strbuf_puts(&sb, "bc");
    strbuf_append(&sb, "d\0e", 3);
    strbuf_printf(&sb, "%d-%s", 42, "x");
    ok(sb.len == 10 && memcmp(strbuf_text(&sb), "abcd\0e42-x", 11) == 0, "all ways to append");

    strbuf_clear(&sb);
    for (size_t i = 0; i < 20000; i++)
    {
        want[i] = (char) ('a' + i % 26);
        strbuf_putc(&sb, want[i]);
    }
    want[20000] = '\0';
    ok(strbuf_finish(&sb, &err) == 0 && sb.len == 20000 && strcmp(strbuf_text(&sb), want) == 0,
       "byte by byte up to the maximum");
    ok(sb.cap <= 20001, "memory stays within the maximum");

    strbuf_clear(&sb);
    strbuf_printf(&sb, "%s", want);
    ok(strbuf_finish(&sb, &err) == 0 && strcmp(strbuf_text(&sb), want) == 0,
       "a long formatted text");
}

static void
test_printf_lengths(void)
{
    char text[601];

    memset(text, 'y', sizeof text);
    /* around the buffer that strbuf_printf tries first */
    for (int len = 250; len <= 260; len++)
    {
        AUTO(strbuf_reset) StrBuf sb;
        Error err;

        strbuf_init(&sb, 600);
        strbuf_puts(&sb, "<");
        strbuf_printf(&sb, "%.*s", len, text);
        strbuf_puts(&sb, ">");
        ok(strbuf_finish(&sb, &err) == 0 && sb.len == (size_t) len + 2 &&
               sb.data[sb.len - 1] == '>' && strlen(sb.data) == sb.len,
           "a formatted text of %d bytes", len);
    }
}

static void
test_maximum(void)
{
    static const struct
    {
        const char *label;
        size_t max, append;
        int rc;
    } cases[] = {
        {"exactly the maximum", 100, 100, 0},
        {"one byte more", 100, 101, -1},
        {"far more", 100, 4000, -1},
        {"nothing allowed, nothing given", 0, 0, 0},
        {"nothing allowed, one byte given", 0, 1, -1},
    };
    static const char data[4000];

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(strbuf_reset) StrBuf sb;
        Error err = {.kind = ERROR_NONE};

        strbuf_init(&sb, cases[i].max);
        strbuf_append(&sb, data, cases[i].append);

        int rc = strbuf_finish(&sb, &err);

        ok(rc == cases[i].rc && (rc == 0 || err.kind == ERROR_CORRUPT), "%s", cases[i].label);
    }

    AUTO(strbuf_reset) StrBuf sb;
    Error err;

    strbuf_init(&sb, 10);
    strbuf_puts(&sb, "12345678901");
    strbuf_puts(&sb, "1");
    ok(strbuf_finish(&sb, &err) == -1 && sb.len == 0, "a failure is sticky");
    strbuf_append(&sb, data, SIZE_MAX);
    ok(strbuf_finish(&sb, &err) == -1, "a length that would overflow is refused");
    strbuf_clear(&sb);
    strbuf_puts(&sb, "new");
    ok(strbuf_finish(&sb, &err) == 0 && strcmp(strbuf_text(&sb), "new") == 0,
       "ready again after strbuf_clear");
    strbuf_reset(&sb);
    ok(sb.data == NULL && sb.max == 10 && strcmp(strbuf_text(&sb), "") == 0,
       "strbuf_reset keeps the maximum only");

    strbuf_init(&sb, SIZE_MAX);
    strbuf_puts(&sb, "x");
    strbuf_append(&sb, data, SIZE_MAX - 1);
    ok(strbuf_finish(&sb, &err) == -1 && err.kind == ERROR_CORRUPT,
       "without a maximum a size that cannot be is refused");
}

static void
test_out_of_memory(void)
{
    AUTO(strbuf_reset) StrBuf sb;
    Error err;

    /* the flag as strbuf_reserve sets it when realloc fails */
    strbuf_init(&sb, 10);
    sb.failed = true;
    strbuf_puts(&sb, "x");
    ok(sb.len == 0 && strbuf_finish(&sb, &err) == -1 && err.kind == ERROR_NOMEM,
       "out of memory is told as such");
}

static void
test_json(void)
{
    AUTO(strbuf_reset) StrBuf sb;
    Error err;

    strbuf_init(&sb, 1000);
    strbuf_put_json(&sb, "");
    strbuf_put_json(&sb, "a/b\xC3\xA4");
    strbuf_put_json(&sb, "\"q\\\n\x01\x7f.");
    ok(strbuf_finish(&sb, &err) == 0 &&
           strcmp(strbuf_text(&sb), "\"\"\"a/b\xC3\xA4\"\"\\\"q\\\\\\u000a\\u0001\x7f.\"") == 0,
       "JSON strings: %s", strbuf_text(&sb));
}

int
main(void)
{
    test_growth();
    test_printf_lengths();
    test_maximum();
    test_json();
    test_out_of_memory();
    return done_testing();
}
