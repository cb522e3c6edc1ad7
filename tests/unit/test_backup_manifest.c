/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Texts are of the form that PostgreSQL's servers write, their last lines made by sha256sum.
 */
#include "pg/backup_manifest.h"

#include <stdlib.h>
#include <string.h>

#include "common/parse.h"
#include "common/strbuf.h"
#include "tap.h"

#define MAX_TEXT (4u << 20)

typedef struct Sink
{
    StrBuf text;
    size_t calls;
    size_t fail_at; /* this call fails; 0: none */
} Sink;

static int
sink_write(void *ctx, const void *text, size_t len, Error *err)
{
    Sink *sink = ctx;

    if (++sink->calls == sink->fail_at)
        return error_set(err, ERROR_TRANSIENT, "the sink failed");
    strbuf_append(&sink->text, text, len);
    return 0;
}

/* 1772356447 is 2026-03-01 09:14:07 */
static const PgManifestFile files_15[] = {
    {.path = "backup_label",
     .bytes = 226,
     .modified_s = 1772356447,
     .algorithm = CHECKSUM_CRC32C,
     .checksum = {0x64, 0x44, 0x02, 0x05}},
    {.path = "tab\there\"q\\", .bytes = 0, .modified_s = 0, .algorithm = CHECKSUM_CRC32C},
    {.path = "x\xff", .bytes = UINT64_MAX, .modified_s = 2147483648, .algorithm = CHECKSUM_NONE},
};
static const PgManifestWalRange ranges_15[] = {
    {.tli = 3, .start = 0x102000028, .end = 0x103000000},
    {.tli = 2, .start = 0xF0, .end = 0x102000028},
};
static const char text_15[] =
    "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n"
    "\"Files\": [\n"
    "{ \"Path\": \"backup_label\", \"Size\": 226, \"Last-Modified\": \"2026-03-01 09:14:07 GMT\", "
    "\"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"64440205\" },\n"
    "{ \"Path\": \"tab\\there\\\"q\\\\\", \"Size\": 0, \"Last-Modified\": \"1970-01-01 00:00:00 "
    "GMT\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"00000000\" },\n"
    "{ \"Encoded-Path\": \"78ff\", \"Size\": 18446744073709551615, \"Last-Modified\": "
    "\"2038-01-19 03:14:08 GMT\" }\n"
    "],\n"
    "\"WAL-Ranges\": [\n"
    "{ \"Timeline\": 3, \"Start-LSN\": \"1/2000028\", \"End-LSN\": \"1/3000000\" },\n"
    "{ \"Timeline\": 2, \"Start-LSN\": \"0/F0\", \"End-LSN\": \"1/2000028\" }\n"
    "],\n"
    "\"Manifest-Checksum\": "
    "\"82d5dbee6cbe1b00a5a832299b021e72b29244539e9a94bdd955b5d09638fef9\"}\n";

static const PgManifestFile files_17[] = {
    {.path = "global/pg_control",
     .bytes = 8192,
     .modified_s = 1772356447,
     .algorithm = CHECKSUM_SHA256,
     .checksum = {0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4,
                  0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b,
                  0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55}},
};
static const PgManifestWalRange ranges_17[] = {{.tli = 1, .start = 0x2000028, .end = 0x2000100}};
static const char text_17[] =
    "{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n"
    "\"System-Identifier\": 18446744073709551615,\n"
    "\"Files\": [\n"
    "{ \"Path\": \"global/pg_control\", \"Size\": 8192, \"Last-Modified\": \"2026-03-01 09:14:07 "
    "GMT\", \"Checksum-Algorithm\": \"SHA256\", \"Checksum\": "
    "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\" }\n"
    "],\n"
    "\"WAL-Ranges\": [\n"
    "{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }\n"
    "],\n"
    "\"Manifest-Checksum\": "
    "\"dc77bb30baa38d9416e8beb49195b13b3a88590a7edc55aaf05edc7ec054afd3\"}\n";

static const char text_empty[] =
    "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n"
    "\"Files\": [\n],\n\"WAL-Ranges\": [\n\n],\n"
    "\"Manifest-Checksum\": "
    "\"1c8c3f0bd30a0830a4f1e44d04b090e96eda6c1d221cb4c2734512dbdba9b164\"}\n";

static void
test_texts(void)
{
    static const struct
    {
        const char *label;
        int pg_major;
        const PgManifestFile *files;
        size_t file_count;
        const PgManifestWalRange *ranges;
        size_t range_count;
        const char *want;
    } cases[] = {
        {"version 1", 15, files_15, ARRAY_COUNT(files_15), ranges_15, ARRAY_COUNT(ranges_15),
         text_15},
        {"version 1 of 16", 16, files_15, ARRAY_COUNT(files_15), ranges_15, ARRAY_COUNT(ranges_15),
         text_15},
        {"version 2", 17, files_17, ARRAY_COUNT(files_17), ranges_17, ARRAY_COUNT(ranges_17),
         text_17},
        {"version 2 of 18", 18, files_17, ARRAY_COUNT(files_17), ranges_17, ARRAY_COUNT(ranges_17),
         text_17},
        {"nothing in it", 14, NULL, 0, NULL, 0, text_empty},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(pg_manifest_freep) PgManifestWriter *w = NULL;
        Sink sink = {.calls = 0};
        Error err = {0};
        bool good;

        strbuf_init(&sink.text, MAX_TEXT);
        good = pg_manifest_begin(cases[i].pg_major, UINT64_MAX, sink_write, &sink, &w, &err) == 0;
        for (size_t k = 0; good && k < cases[i].file_count; k++)
            good = pg_manifest_add(w, &cases[i].files[k], &err) == 0;
        good = good && pg_manifest_end(w, cases[i].ranges, cases[i].range_count, &err) == 0 &&
               strcmp(strbuf_text(&sink.text), cases[i].want) == 0;
        ok(good, "%s %s", cases[i].label, err.msg);
        if (!good)
            diag("%s", strbuf_text(&sink.text));
        strbuf_reset(&sink.text);
    }
}

static void
test_paths(void)
{
    static const struct
    {
        const char *label, *path, *want;
    } cases[] = {
        {"ASCII", "base/5/1", "\"Path\": \"base/5/1\","},
        {"two bytes", "\xC3\xA4", "\"Path\": \"\xC3\xA4\","},
        {"three bytes", "\xE2\x82\xAC", "\"Path\": \"\xE2\x82\xAC\","},
        {"four bytes", "\xF0\x9F\x90\x98", "\"Path\": \"\xF0\x9F\x90\x98\","},
        {"the largest", "\xF4\x8F\xBF\xBF", "\"Path\": \"\xF4\x8F\xBF\xBF\","},
        {"control characters", "\b\f\n\r\t\x01\x1F\x7F",
         "\"Path\": \"\\b\\f\\n\\r\\t\\u0001\\u001f\x7F\","},
        {"overlong, two bytes", "\xC1\xBF", "\"Encoded-Path\": \"c1bf\","},
        {"overlong, three bytes", "\xE0\x9F\xBF", "\"Encoded-Path\": \"e09fbf\","},
        {"overlong, four bytes", "\xF0\x8F\xBF\xBF", "\"Encoded-Path\": \"f08fbfbf\","},
        {"a surrogate", "\xED\xA0\x80", "\"Encoded-Path\": \"eda080\","},
        {"above 10FFFF", "\xF4\x90\x80\x80", "\"Encoded-Path\": \"f4908080\","},
        {"a byte that begins nothing", "a\xF5", "\"Encoded-Path\": \"61f5\","},
        {"a byte that only follows", "\x80", "\"Encoded-Path\": \"80\","},
        {"cut off", "\xE2\x82", "\"Encoded-Path\": \"e282\","},
        {"cut off at once", "\xF0", "\"Encoded-Path\": \"f0\","},
        {"a third byte that does not follow", "\xE2\x82\x41", "\"Encoded-Path\": \"e28241\","},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(pg_manifest_freep) PgManifestWriter *w = NULL;
        PgManifestFile file = {.path = cases[i].path};
        Sink sink = {.calls = 0};
        Error err = {0};

        strbuf_init(&sink.text, MAX_TEXT);
        ok(pg_manifest_begin(15, 1, sink_write, &sink, &w, &err) == 0 &&
               pg_manifest_add(w, &file, &err) == 0 && pg_manifest_end(w, NULL, 0, &err) == 0 &&
               strstr(strbuf_text(&sink.text), cases[i].want) != NULL,
           "path: %s", cases[i].label);
        strbuf_reset(&sink.text);
    }
}

static void
test_bounds(void)
{
    AUTO(pg_manifest_freep) PgManifestWriter *w = NULL;
    char *path = malloc(64u * 1024 + 1);
    PgManifestFile file = {.path = path};
    PgManifestFile never = {.path = "x", .modified_s = INT64_MAX};
    Sink sink = {.calls = 0};
    Error err = {0};

    if (path == NULL)
        abort();
    memset(path, '\x01', 64u * 1024);
    path[64u * 1024] = '\0';
    strbuf_init(&sink.text, MAX_TEXT);
    ok(pg_manifest_begin(15, 1, sink_write, &sink, &w, &err) == 0 &&
           pg_manifest_add(w, &file, &err) == -1 && err.kind == ERROR_CORRUPT,
       "a path that is too long");
    path[64u * 1024 - 1] = '\0';
    for (int i = 0; i < 2; i++)
        ok(pg_manifest_add(w, &file, &err) == 0, "the longest, escaped (%d)", i);
    ok(pg_manifest_add(w, &never, &err) == -1 && err.kind == ERROR_CORRUPT, "a time of no date");
    ok(pg_manifest_end(w, NULL, 0, &err) == 0, "it can be ended");
    strbuf_reset(&sink.text);
    free(path);
}

/* In pieces, and with a sink that fails at each of them. */
static void
test_pieces(void)
{
    size_t calls = 1;
    bool good = true;

    for (size_t fail_at = 0; good && fail_at <= calls; fail_at++)
    {
        AUTO(pg_manifest_freep) PgManifestWriter *w = NULL;
        Sink sink = {.fail_at = fail_at};
        Error err = {0};
        int rc;

        strbuf_init(&sink.text, MAX_TEXT);
        rc = pg_manifest_begin(17, 1, sink_write, &sink, &w, &err);
        for (size_t i = 0; rc == 0 && i < 1000; i++)
            rc = pg_manifest_add(w, &files_17[0], &err);
        if (rc == 0)
            rc = pg_manifest_end(w, ranges_17, 1, &err);
        if (fail_at == 0)
        {
            good = rc == 0 && sink.calls > 4 && sink.calls < 20;
            calls = sink.calls;
        }
        else
            good = rc == -1 && err.kind == ERROR_TRANSIENT && sink.calls == fail_at;
        strbuf_reset(&sink.text);
    }
    ok(good, "it comes in pieces, and the sink's failure is told (%zu)", calls);
}

static void
test_algorithms(void)
{
    static const struct
    {
        const char *name;
        bool good;
        ChecksumAlgorithm want;
    } cases[] = {
        {"CRC32C", true, CHECKSUM_CRC32C}, {"crc32c", true, CHECKSUM_CRC32C},
        {"SHA256", true, CHECKSUM_SHA256}, {"Sha256", true, CHECKSUM_SHA256},
        {"none", true, CHECKSUM_NONE},     {"SHA512", false, CHECKSUM_NONE},
        {"", false, CHECKSUM_NONE},        {"CRC32", false, CHECKSUM_NONE},
    };
    uint8_t sum[CHECKSUM_MAX_BYTES];
    char hex[2 * CHECKSUM_MAX_BYTES + 1];

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        ChecksumAlgorithm got = CHECKSUM_NONE;

        ok(checksum_parse_name(cases[i].name, &got) == cases[i].good && got == cases[i].want,
           "algorithm \"%s\"", cases[i].name);
    }
    ok(strcmp(checksum_name(CHECKSUM_CRC32C), "CRC32C") == 0 &&
           checksum_bytes(CHECKSUM_CRC32C) == 4 && checksum_bytes(CHECKSUM_SHA256) == 32 &&
           checksum_bytes(CHECKSUM_NONE) == 0,
       "names and sizes");
    checksum_from_crc32c(0x05024464, sum);
    ok(strcmp(format_hex(sum, 4, hex), "64440205") == 0, "CRC-32C in the order of the manifest");
}

int
main(void)
{
    test_texts();
    test_paths();
    test_bounds();
    test_pieces();
    test_algorithms();
    return done_testing();
}
