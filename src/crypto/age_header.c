/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Reading an age header; see age_header.h. The grammar is that of C2SP age.md, "ABNF definition of
 * file header"; nothing but that grammar is taken, so that a header has exactly one spelling.
 */
#include "crypto/age_header.h"

#include <string.h>

#include "crypto/base64.h"

#define AGE_LINE_CHARS 64
#define AGE_LINE_BYTES 48

static int
age_header_damaged(Error *err, const char *what)
{
    return error_set(err, ERROR_CORRUPT, "damaged age header: %s", what);
}

/* The line at text without its line feed; false when it does not end within len. */
static bool
age_text_line(const char *text, size_t len, AgeText *line)
{
    const char *end = memchr(text, '\n', len);

    if (end == NULL)
        return false;
    *line = (AgeText){text, (size_t) (end - text)};
    return true;
}

static bool
age_text_begins(AgeText text, const char *prefix)
{
    size_t len = strlen(prefix);

    return text.len >= len && memcmp(text.data, prefix, len) == 0;
}

bool
age_stanza_arg(AgeText args, size_t i, AgeText *arg)
{
    for (;; i--)
    {
        const char *blank = memchr(args.data, ' ', args.len);
        size_t len = blank == NULL ? args.len : (size_t) (blank - args.data);

        if (i == 0)
        {
            *arg = (AgeText){args.data, len};
            return true;
        }
        if (blank == NULL)
            return false;
        args = (AgeText){blank + 1, args.len - len - 1};
    }
}

size_t
age_stanza_arg_count(AgeText args)
{
    size_t count = 1;

    for (size_t i = 0; i < args.len; i++)
        if (args.data[i] == ' ')
            count++;
    return count;
}

bool
age_stanza_is(AgeText args, const char *type)
{
    AgeText arg;

    return age_stanza_arg(args, 0, &arg) && arg.len == strlen(type) &&
           memcmp(arg.data, type, arg.len) == 0;
}

int
age_stanza_parse_args(const char *text, size_t len, AgeText *args, Error *err)
{
    AgeText line;
    char before = ' ';

    if (!age_text_line(text, len, &line))
        return age_header_damaged(err, "it ends within a line");
    if (!age_text_begins(line, "-> "))
        return age_header_damaged(err, "a recipient stanza does not begin with \"-> \"");
    *args = (AgeText){line.data + 3, line.len - 3};
    for (size_t i = 0; i < args->len; i++)
    {
        char c = args->data[i];

        if (c == ' ' ? before == ' ' : c < 33 || c > 126)
            return age_header_damaged(err, "a stanza's argument is empty or has a bad character");
        before = c;
    }
    if (before == ' ')
        return age_header_damaged(err, "a stanza's argument is empty or missing");
    return 0;
}

int
age_stanza_parse(const char *text, size_t len, size_t *at, AgeStanza *out, Error *err)
{
    size_t pos = *at;

    if (age_stanza_parse_args(text + pos, len - pos, &out->args, err) < 0)
        return -1;
    pos += 3 + out->args.len + 1;
    out->body = (AgeText){text + pos, 0};
    out->body_bytes = 0;
    for (;;)
    {
        AgeText line;
        uint8_t bytes[AGE_LINE_BYTES];
        size_t n;

        if (!age_text_line(text + pos, len - pos, &line))
            return age_header_damaged(err, "it ends within a stanza");
        if (line.len > AGE_LINE_CHARS)
            return age_header_damaged(err, "a line of a stanza's body is too long");
        if (!base64_decode_raw(line.data, line.len, bytes, sizeof bytes, &n))
            return age_header_damaged(err, "a stanza's body is not canonical base64");
        pos += line.len + 1;
        out->body.len += line.len + 1;
        out->body_bytes += n;
        if (line.len < AGE_LINE_CHARS)
            break; /* only the last line is shorter; it may be empty */
    }
    *at = pos;
    return 0;
}

int
age_stanza_body(const AgeStanza *stanza, uint8_t out[AGE_STANZA_BODY_BYTES], Error *err)
{
    size_t n;

    /* the length comes first: longer bodies would allow partitioning oracle attacks (age.md) */
    if (stanza->body_bytes != AGE_STANZA_BODY_BYTES)
        return age_header_damaged(err, "a wrapped file key has the wrong size");
    if (!base64_decode_raw(stanza->body.data, stanza->body.len - 1, out, AGE_STANZA_BODY_BYTES, &n))
        return age_header_damaged(err, "a wrapped file key is not canonical base64");
    return 0;
}

bool
age_header_next(const AgeHeader *header, size_t *at, AgeStanza *stanza)
{
    Error ignored; /* age_header_parse has taken the same text before */

    if (*at == 0)
        *at = AGE_INTRO_BYTES;
    return *at < header->stanzas_end &&
           age_stanza_parse(header->text, header->stanzas_end, at, stanza, &ignored) == 0;
}

int
age_header_parse(const char *text, size_t len, AgeHeader *out, Error *err)
{
    size_t at = AGE_INTRO_BYTES;

    *out = (AgeHeader){.text = text, .len = len};
    if (len < AGE_INTRO_BYTES || memcmp(text, AGE_INTRO, AGE_INTRO_BYTES) != 0)
        return age_header_damaged(err, "it does not begin with age-encryption.org/v1");
    while (len - at < 3 || memcmp(text + at, "---", 3) != 0)
    {
        AgeStanza stanza;

        if (age_stanza_parse(text, len, &at, &stanza, err) < 0)
            return -1;
        out->stanza_count++;
    }
    if (out->stanza_count == 0)
        return age_header_damaged(err, "it has no recipient stanza");
    out->stanzas_end = at;
    out->covered_len = at + 3;

    AgeText line;
    size_t mac_len;

    if (!age_text_line(text + at, len - at, &line) || line.len != 4 + AGE_MAC_CHARS ||
        line.data[3] != ' ' || at + line.len + 1 != len ||
        !base64_decode_raw(line.data + 4, AGE_MAC_CHARS, out->mac, AGE_MAC_BYTES, &mac_len) ||
        mac_len != AGE_MAC_BYTES)
        return age_header_damaged(err, "its MAC line is malformed");
    return 0;
}
