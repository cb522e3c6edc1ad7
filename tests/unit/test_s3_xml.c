/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include <stdlib.h>
#include <string.h>

#include "common/strbuf.h"
#include "store/s3_xml.h"
#include "tap.h"

#define HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
#define NS " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""
#define LIST(inner) HEAD "<ListBucketResult" NS ">" inner "</ListBucketResult>"
#define CONTENTS(key, more) "<Contents><Key>" key "</Key>" more "</Contents>"

/* ---- listings ---- */

static const struct
{
    const char *label, *text;
    int rc;
    const char *want; /* keys, each ended by '|'; "#" and the size behind a key that has one */
    bool truncated;
    const char *token;
} list_cases[] = {
    {"no key", LIST("<IsTruncated>false</IsTruncated>"), 0, "", false, NULL},
    {"two keys", LIST(CONTENTS("a", "<Size>1</Size>") CONTENTS("b/c", "<Size>0</Size>")), 0,
     "a#1|b/c|", false, NULL},
    {"common prefixes are marked by their '/'",
     LIST(CONTENTS("b", "") "<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes>"), 0, "b|a/|",
     false, NULL},
    {"the prefix of the whole answer is no entry", LIST("<Prefix>x/</Prefix>"), 0, "", false, NULL},
    {"more to come",
     LIST("<IsTruncated>true</IsTruncated><NextContinuationToken>t/=</NextContinuationToken>"), 0,
     "", true, "t/="},
    {"encoded keys", LIST("<EncodingType>url</EncodingType>" CONTENTS("a%2Fb+c%C3%A4", "")), 0,
     "a/b c\xc3\xa4|", false, NULL},
    {"the word that they are encoded comes last",
     LIST(CONTENTS("a%2Fb", "") "<EncodingType>url</EncodingType>"), 0, "a/b|", false, NULL},
    {"not encoded: a percent sign is one", LIST(CONTENTS("a%2Fb+", "")), 0, "a%2Fb+|", false, NULL},
    {"a key with an encoded NUL is left out",
     LIST("<EncodingType>url</EncodingType>" CONTENTS("a%00b", "") CONTENTS("c", "<Size>7</Size>")),
     0, "c#7|", false, NULL},
    {"entities of XML itself", LIST(CONTENTS("a&amp;b&#47;c", "")), 0, "a&b/c|", false, NULL},
    {"CDATA", LIST(CONTENTS("<![CDATA[<x>]]>", "")), 0, "<x>|", false, NULL},
    {"an owner's key is not the key", LIST(CONTENTS("a", "<Owner><Key>b</Key></Owner>")), 0, "a|",
     false, NULL},
    {"a time in the entry",
     LIST(CONTENTS("a", "<LastModified>2026-03-01T09:14:07Z</LastModified>")), 0, "a|", false,
     NULL},
    {"a broken time is none", LIST(CONTENTS("a", "<LastModified>now</LastModified>")), 0, "a|",
     false, NULL},
    {"without a key", LIST("<Contents><Size>1</Size></Contents>"), -1, NULL, false, NULL},
    {"a size that is no number", LIST(CONTENTS("a", "<Size>-1</Size>")), -1, NULL, false, NULL},
    {"a size beyond 64 bits", LIST(CONTENTS("a", "<Size>18446744073709551616</Size>")), -1, NULL,
     false, NULL},
    {"truncated is neither", LIST("<IsTruncated>maybe</IsTruncated>"), -1, NULL, false, NULL},
    {"broken encoding", LIST("<EncodingType>url</EncodingType>" CONTENTS("a%2", "")), -1, NULL,
     false, NULL},
    {"cut", HEAD "<ListBucketResult><Contents><Key>a</Key>", -1, NULL, false, NULL},
    {"nothing", "", -1, NULL, false, NULL},
    {"HTML of a proxy", "<html><body><p>Sorry<br></body></html>", -1, NULL, false, NULL},
    {"a second root", LIST("") "<x/>", -1, NULL, false, NULL},
    {"a document type", "<!DOCTYPE ListBucketResult>" LIST(""), -1, NULL, false, NULL},
    {"a billion laughs",
     "<!DOCTYPE l [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;&a;&a;\">"
     "<!ENTITY c \"&b;&b;&b;&b;&b;&b;&b;&b;\">]><ListBucketResult>&c;</ListBucketResult>",
     -1, NULL, false, NULL},
    {"an external entity",
     "<!DOCTYPE l [<!ENTITY e SYSTEM \"file:///etc/passwd\">]>"
     "<ListBucketResult><Contents><Key>&e;</Key></Contents></ListBucketResult>",
     -1, NULL, false, NULL},
    {"an unknown entity", LIST(CONTENTS("&e;", "")), -1, NULL, false, NULL},
    {"too deep",
     "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a>"
     "</a></a></a></a></a></a></a></a></a></a></a></a></a></a></a></a></a>",
     -1, NULL, false, NULL},
    {"invalid UTF-8", LIST(CONTENTS("\xff\xfe", "")), -1, NULL, false, NULL},
};

static void
list_describe(const S3XmlAnswer *answer, StrBuf *out)
{
    for (size_t i = 0; i < answer->entry_count; i++)
    {
        const S3XmlEntry *entry = &answer->entries[i];

        strbuf_puts(out, entry->key);
        if (entry->bytes > 0)
            strbuf_printf(out, "#%llu", (unsigned long long) entry->bytes);
        if (entry->is_prefix != (entry->key[strlen(entry->key) - 1] == '/'))
            strbuf_puts(out, " (wrong kind)");
        strbuf_putc(out, '|');
    }
}

static void
test_list(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(list_cases); i++)
    {
        AUTO(s3_xml_reset) S3XmlAnswer answer = {.kind = S3_XML_OTHER};
        AUTO(strbuf_reset) StrBuf got;
        Error err = {.kind = ERROR_NONE};
        const char *text = list_cases[i].text;
        int rc = s3_xml_parse(text, strlen(text), &answer, &err);

        strbuf_init(&got, 4096);
        list_describe(&answer, &got);
        if (list_cases[i].rc < 0)
            ok(rc < 0 && err.kind == ERROR_CORRUPT && answer.entries == NULL &&
                   answer.entry_count == 0,
               "list: %s: refused", list_cases[i].label);
        else if (!ok(rc == 0 && answer.kind == S3_XML_LIST &&
                         strcmp(strbuf_text(&got), list_cases[i].want) == 0 &&
                         answer.truncated == list_cases[i].truncated &&
                         (list_cases[i].token == NULL
                              ? answer.next_token == NULL
                              : answer.next_token != NULL &&
                                    strcmp(answer.next_token, list_cases[i].token) == 0),
                     "list: %s", list_cases[i].label))
            diag("got \"%s\" %s", strbuf_text(&got), err.msg);
    }
}

/* ---- errors ---- */

static void
test_error(void)
{
    static const char text[] =
        HEAD "<Error><Code>AuthorizationHeaderMalformed</Code><Message>The region is\nwrong"
             "</Message><Region>eu-central-1</Region><RequestId>R1</RequestId>"
             "<Details><Code>Other</Code></Details></Error>";
    AUTO(s3_xml_reset) S3XmlAnswer answer = {.kind = S3_XML_OTHER};
    Error err = {.kind = ERROR_NONE};

    ok(s3_xml_parse(text, strlen(text), &answer, &err) == 0 && answer.kind == S3_XML_ERROR,
       "error: read");
    ok(strcmp(answer.error.code, "AuthorizationHeaderMalformed") == 0,
       "error: its code, not that of an element inside");
    ok(strcmp(answer.error.message, "The region is wrong") == 0, "error: the message is one line");
    ok(strcmp(answer.error.region, "eu-central-1") == 0, "error: region");
    ok(strcmp(answer.error.request_id, "R1") == 0, "error: request ID");
}

static void
test_error_long(void)
{
    AUTO(s3_xml_reset) S3XmlAnswer answer = {.kind = S3_XML_OTHER};
    AUTO(strbuf_reset) StrBuf text;
    Error err = {.kind = ERROR_NONE};

    strbuf_init(&text, 10000);
    strbuf_puts(&text, "<Error><Code>X</Code><Message>");
    for (int i = 0; i < 4096; i++)
        strbuf_putc(&text, 'm');
    strbuf_puts(&text, "</Message></Error>");
    ok(s3_xml_parse(strbuf_text(&text), text.len, &answer, &err) == 0 &&
           strlen(answer.error.message) == sizeof answer.error.message - 1,
       "error: a long message is cut");
    s3_xml_reset(&answer);

    strbuf_clear(&text);
    strbuf_puts(&text, "<Error><Code>X</Code><Message>");
    for (int i = 0; i < 4097; i++)
        strbuf_putc(&text, 'm');
    strbuf_puts(&text, "</Message></Error>");
    ok(s3_xml_parse(strbuf_text(&text), text.len, &answer, &err) < 0 && err.kind == ERROR_CORRUPT,
       "error: a field beyond its bound is refused");
}

/* ---- deletion ---- */

static void
test_delete(void)
{
    static const char text[] =
        HEAD "<DeleteResult" NS "><Deleted><Key>a</Key></Deleted><Error><Key>b</Key>"
             "<Code>AccessDenied</Code><Message>no</Message></Error><Deleted><Key>c</Key>"
             "<DeleteMarker>true</DeleteMarker></Deleted></DeleteResult>";
    static const char no_code[] = "<DeleteResult><Error><Key>a</Key></Error></DeleteResult>";
    static const char no_key[] = "<DeleteResult><Deleted></Deleted></DeleteResult>";
    AUTO(s3_xml_reset) S3XmlAnswer answer = {.kind = S3_XML_OTHER};
    Error err = {.kind = ERROR_NONE};

    ok(s3_xml_parse(text, strlen(text), &answer, &err) == 0 && answer.kind == S3_XML_DELETE &&
           answer.deleted_count == 3,
       "delete: read");
    ok(answer.deleted_count == 3 && strcmp(answer.deleted[0].key, "a") == 0 &&
           answer.deleted[0].code[0] == '\0',
       "delete: one is gone");
    ok(answer.deleted_count == 3 && strcmp(answer.deleted[1].key, "b") == 0 &&
           strcmp(answer.deleted[1].code, "AccessDenied") == 0 &&
           strcmp(answer.deleted[1].message, "no") == 0,
       "delete: one was refused");
    ok(answer.deleted_count == 3 && strcmp(answer.deleted[2].key, "c") == 0 &&
           answer.deleted[2].code[0] == '\0',
       "delete: one behind a refusal");
    s3_xml_reset(&answer);
    ok(s3_xml_parse(no_code, strlen(no_code), &answer, &err) < 0 && err.kind == ERROR_CORRUPT,
       "delete: a refusal without a code does not pass for success");
    ok(s3_xml_parse(no_key, strlen(no_key), &answer, &err) < 0 && err.kind == ERROR_CORRUPT,
       "delete: an answer for no key is refused");
}

/* ---- bounds ---- */

static void
test_bounds(void)
{
    AUTO(s3_xml_reset) S3XmlAnswer answer = {.kind = S3_XML_OTHER};
    AUTO(strbuf_reset) StrBuf text;
    Error err = {.kind = ERROR_NONE};

    strbuf_init(&text, S3_XML_MAX_BYTES + 1);
    strbuf_puts(&text, "<ListBucketResult>");
    for (unsigned i = 0; i < S3_XML_MAX_ENTRIES; i++)
        strbuf_puts(&text, "<Contents><Key>k</Key></Contents>");

    size_t len = text.len;

    strbuf_puts(&text, "</ListBucketResult>");
    ok(s3_xml_parse(strbuf_text(&text), text.len, &answer, &err) == 0 &&
           answer.entry_count == S3_XML_MAX_ENTRIES,
       "as many entries as are allowed");
    s3_xml_reset(&answer);

    text.len = len;
    strbuf_puts(&text, "<Contents><Key>k</Key></Contents></ListBucketResult>");
    ok(s3_xml_parse(strbuf_text(&text), text.len, &answer, &err) < 0 && err.kind == ERROR_CORRUPT,
       "one more is refused");
    s3_xml_reset(&answer);

    while (text.len <= S3_XML_MAX_BYTES)
        strbuf_putc(&text, ' ');
    ok(s3_xml_parse(strbuf_text(&text), text.len, &answer, &err) < 0 && err.kind == ERROR_CORRUPT,
       "a document beyond the bound is refused");
}

/* Every place where a connection may be cut. */
static void
test_cut(void)
{
    static const char text[] = LIST("<EncodingType>url</EncodingType>" CONTENTS(
        "a%20b", "<Size>5</Size>") CONTENTS("c", "") "<IsTruncated>true</IsTruncated>");
    size_t accepted = 0;

    for (size_t len = 0; len < strlen(text); len++)
    {
        AUTO(s3_xml_reset) S3XmlAnswer answer = {.kind = S3_XML_OTHER};
        Error err = {.kind = ERROR_NONE};

        if (s3_xml_parse(text, len, &answer, &err) == 0 || err.kind != ERROR_CORRUPT)
            accepted++;
    }
    ok(accepted == 0, "a listing cut anywhere is refused");
}

/* ---- times ---- */

static const struct
{
    const char *label, *text;
    bool good;
    int64_t want_us;
} time_cases[] = {
    {"milliseconds", "2026-03-01T09:14:07.120Z", true, INT64_C(1772356447120000)},
    {"none", "2026-03-01T09:14:07Z", true, INT64_C(1772356447000000)},
    {"nanoseconds are cut", "1970-01-01T00:00:00.000001999Z", true, 1},
    {"leap day", "2024-02-29T00:00:00Z", true, INT64_C(1709164800000000)},
    {"no zone", "2026-03-01T09:14:07", false, 0},
    {"another zone", "2026-03-01T09:14:07+01:00", false, 0},
    {"month 13", "2026-13-01T09:14:07Z", false, 0},
    {"a sign", "2026-03-01T09:14:-7Z", false, 0},
    {"a dot and nothing", "2026-03-01T09:14:07.Z", false, 0},
    {"something behind", "2026-03-01T09:14:07Z ", false, 0},
    {"empty", "", false, 0},
};

static void
test_time(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(time_cases); i++)
    {
        int64_t us = -1;
        bool good = s3_xml_parse_time(time_cases[i].text, &us);

        if (!ok(good == time_cases[i].good && us == (good ? time_cases[i].want_us : -1), "time: %s",
                time_cases[i].label))
            diag("got %lld", (long long) us);
    }
}

int
main(void)
{
    test_list();
    test_error();
    test_error_long();
    test_delete();
    test_bounds();
    test_cut();
    test_time();
    return done_testing();
}
