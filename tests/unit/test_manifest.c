/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Manifests: what a line may say, in which order lines may come, writing and reading them.
 */
#include "repo/manifest.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "repo/label.h"
#include "repo/manifest_internal.h"
#include "tap.h"
#include "tempdir.h"

#define LABEL "20260301T091407Z-full"
#define SYSTEM_IDENTIFIER UINT64_C(7300000000000000001)
#define X "00112233445566778899aabbccddeeff"
#define STARTED_US INT64_C(1772356447120000)

static const Deadline no_deadline = {.at_ms = INT64_MAX};

static void
test_repo_init(Repository *repo, Store *store)
{
    *repo = (Repository){
        .store = store,
        .description = {
            .cluster = "main",
            .system_identifier = SYSTEM_IDENTIFIER,
            .pg_major = 15,
            .segment_bytes = 16u << 20}};
}

static Store *
new_store(void)
{
    Store *store = NULL;
    Error err = {0};

    if (store_memory_new(&store, &err) < 0)
        abort();
    return store;
}

static BackupHeader
test_header(void)
{
    return (BackupHeader){
        .label = LABEL,
        .system_identifier = SYSTEM_IDENTIFIER,
        .pg_major = 15,
        .catalog_version = 202209061,
        .segment_bytes = 16u << 20,
        .data_checksums = true,
        .tli = 1,
        .start_lsn = 0x2000028,
        .stop_lsn = 0x2000100,
        .started_us = STARTED_US,
        .stopped_us = STARTED_US + 60000000,
        .checksum = CHECKSUM_CRC32C,
        .codec = "lz4",
        .host = "db1",
        .created_by = "walstream test",
        .file_count = 4,
        .full_bytes = UINT64_C(1) << 53,
        .plain_bytes = 10,
        .stored_bytes = INT64_MAX,
        .part_count = 2,
        .damaged_blocks = 3};
}

/* ---- one line ---- */

#define FILE_HEAD "{\"f\": \"base/5/1\", \"m\": \"0600\", \"t\": 1772356447, "
#define FILE_TAIL "\"c\": \"0a0b0c0d\", \"x\": \"" X "\"}"
#define FILE_PLACE "\"b\": 0, \"o\": 1536, "
#define PART(z, l, s) "{\"p\": 0, \"b\": 0, \"z\": " z ", \"l\": " l ", \"s\": " s "}"

static const struct
{
    const char *label, *text;
    bool good;
} line_cases[] = {
    {"a file", FILE_HEAD "\"s\": 8192, " FILE_PLACE FILE_TAIL, true},
    {"a file with members of later versions",
     FILE_HEAD "\"s\": 8192, \"later\": {\"a\": [1]}, " FILE_PLACE FILE_TAIL, true},
    {"a file with owners",
     FILE_HEAD "\"u\": \"postgres\", \"g\": \"dba\", \"s\": 1, " FILE_PLACE FILE_TAIL, true},
    {"an owner that is a number", FILE_HEAD "\"u\": 26, \"s\": 1, " FILE_PLACE FILE_TAIL, false},
    {"an empty file", FILE_HEAD "\"s\": 0, " FILE_PLACE FILE_TAIL, true},
    {"the largest file that a number can tell",
     FILE_HEAD "\"s\": 9223372036854774271, " FILE_PLACE FILE_TAIL, true},
    {"its end behind what a number can tell",
     FILE_HEAD "\"s\": 9223372036854774272, " FILE_PLACE FILE_TAIL, false},
    {"a number above 2^63", FILE_HEAD "\"s\": 9223372036854775808, " FILE_PLACE FILE_TAIL, false},
    {"a negative size", FILE_HEAD "\"s\": -1, " FILE_PLACE FILE_TAIL, false},
    {"a size with a fraction", FILE_HEAD "\"s\": 1.0, " FILE_PLACE FILE_TAIL, false},
    {"a size that is a text", FILE_HEAD "\"s\": \"1\", " FILE_PLACE FILE_TAIL, false},
    {"no size", FILE_HEAD FILE_PLACE FILE_TAIL, false},
    {"the size twice", FILE_HEAD "\"s\": 1, \"s\": 2, " FILE_PLACE FILE_TAIL, false},
    {"a time before 1970",
     "{\"f\": \"a\", \"m\": \"0600\", \"t\": -5, \"s\": 1, " FILE_PLACE FILE_TAIL, true},
    {"no time", "{\"f\": \"a\", \"m\": \"0600\", \"s\": 1, " FILE_PLACE FILE_TAIL, false},
    {"a mode of three digits",
     "{\"f\": \"a\", \"m\": \"600\", \"t\": 1, \"s\": 1, " FILE_PLACE FILE_TAIL, false},
    {"a mode with an 8",
     "{\"f\": \"a\", \"m\": \"0680\", \"t\": 1, \"s\": 1, " FILE_PLACE FILE_TAIL, false},
    {"a mode that is a number",
     "{\"f\": \"a\", \"m\": 600, \"t\": 1, \"s\": 1, " FILE_PLACE FILE_TAIL, false},
    {"no bundle", FILE_HEAD "\"s\": 1, \"o\": 1536, " FILE_TAIL, false},
    {"the last bundle", FILE_HEAD "\"s\": 1, \"b\": 16777215, \"o\": 1, " FILE_TAIL, true},
    {"a bundle above all", FILE_HEAD "\"s\": 1, \"b\": 16777216, \"o\": 1, " FILE_TAIL, false},
    {"a short checksum", FILE_HEAD "\"s\": 1, " FILE_PLACE "\"c\": \"0a0b0c\", \"x\": \"" X "\"}",
     false},
    {"no checksum", FILE_HEAD "\"s\": 1, " FILE_PLACE "\"x\": \"" X "\"}", false},
    {"no XXH128", FILE_HEAD "\"s\": 1, " FILE_PLACE "\"c\": \"0a0b0c0d\"}", false},
    {"an XXH128 of letters",
     FILE_HEAD "\"s\": 1, " FILE_PLACE
               "\"c\": \"0a0b0c0d\", \"x\": \"0011223344556677z899aabbccddeeff\"}",
     false},
    {"a whole file stored with another size",
     FILE_HEAD "\"s\": 8192, \"n\": 100, " FILE_PLACE FILE_TAIL, false},
    {"blocks with a wrong checksum",
     FILE_HEAD "\"s\": 81920, \"w\": \"3-2,4\", " FILE_PLACE FILE_TAIL, true},
    {"a broken list of them", FILE_HEAD "\"s\": 81920, \"w\": \"3-\", " FILE_PLACE FILE_TAIL,
     false},

    {"an incremental file",
     FILE_HEAD "\"s\": 81920, \"n\": 24576, \"i\": 10, \"k\": \"3,4\", " FILE_PLACE FILE_TAIL,
     true},
    {"one without a block",
     FILE_HEAD "\"s\": 81920, \"n\": 12, \"i\": 10, \"k\": \"\", " FILE_PLACE FILE_TAIL, true},
    {"one that grew",
     FILE_HEAD "\"s\": 98304, \"n\": 24576, \"i\": 10, \"k\": \"10-1\", " FILE_PLACE FILE_TAIL,
     true},
    {"one without its blocks",
     FILE_HEAD "\"s\": 81920, \"n\": 24576, \"i\": 10, " FILE_PLACE FILE_TAIL, false},
    {"one of another size than its blocks say",
     FILE_HEAD "\"s\": 81921, \"n\": 24576, \"i\": 10, \"k\": \"3,4\", " FILE_PLACE FILE_TAIL,
     false},
    {"one with less content than blocks",
     FILE_HEAD "\"s\": 81920, \"n\": 16383, \"i\": 10, \"k\": \"3,4\", " FILE_PLACE FILE_TAIL,
     false},
    {"one with a block above all",
     FILE_HEAD
     "\"s\": 137438961664, \"n\": 24576, \"i\": 10, \"k\": \"16777216\", " FILE_PLACE FILE_TAIL,
     false},
    {"one with a truncation length above all",
     FILE_HEAD
     "\"s\": 137438961664, \"n\": 24576, \"i\": 16777217, \"k\": \"1\", " FILE_PLACE FILE_TAIL,
     false},
    {"one with blocks that overflow",
     FILE_HEAD
     "\"s\": 81920, \"n\": 24576, \"i\": 10, \"k\": \"3,4294967295\", " FILE_PLACE FILE_TAIL,
     false},

    {"a folder", "{\"d\": \"base/5\", \"m\": \"0700\"}", true},
    {"a folder not in UTF-8", "{\"D\": \"626173652fff\", \"m\": \"0700\"}", true},
    {"a folder without a mode", "{\"d\": \"base/5\"}", false},

    {"a part", PART("[100]", "9728", "250"), true},
    {"a part without frames", PART("[]", "1", "250"), false},
    {"a frame of nothing", PART("[0]", "1", "250"), false},
    {"the largest frame", PART("[1114112]", "1048576", "1114300"), true},
    {"a frame above it", PART("[1114113]", "1048576", "1114300"), false},
    {"a negative frame", PART("[100, -1]", "1", "250"), false},
    {"a frame that is a text", PART("[\"100\"]", "1", "250"), false},
    {"a last frame of nothing", PART("[100]", "0", "250"), false},
    {"a last frame that is too long", PART("[100]", "1048577", "250"), false},
    {"an object smaller than its frames", PART("[100]", "1", "100"), false},
    {"an object larger than encryption makes it", PART("[100]", "1", "100000"), false},
    {"more frames than a part has",
     PART(
         "[1114112,1114112,1114112,1114112,1114112,1114112,1114112,1114112,1114112]", "1",
         "10027400"),
     false},
    {"a part of another backup",
     "{\"p\": 0, \"b\": 0, \"z\": [9], \"l\": 1, \"s\": 100, \"u\": \"b0\", \"v\": 7}", true},
    {"one without the bundle there",
     "{\"p\": 0, \"b\": 0, \"z\": [9], \"l\": 1, \"s\": 100, \"u\": \"b0\"}", false},
    {"one of no possible label",
     "{\"p\": 0, \"b\": 0, \"z\": [9], \"l\": 1, \"s\": 100, \"u\": \"../b0\", \"v\": 7}", false},

    {"a trailer", "{\"trailer\": {\"lines\": 5}}", true},
    {"a trailer without a number", "{\"trailer\": {}}", false},
    {"a trailer that is a number", "{\"trailer\": 5}", false},
    {"a header of nothing", "{\"header\": {}}", false},
    {"nothing", "", false},
    {"nothing known", "{}", false},
    {"an array", "[]", false},
    {"not JSON", "hello", false},
    {"more than one document", "{\"d\": \"a\", \"m\": \"0700\"} {}", false},
    {"a path with U+0000", "{\"d\": \"a\\u0000b\", \"m\": \"0700\"}", false},
    {"a path that is not UTF-8", "{\"d\": \"a\xFF\", \"m\": \"0700\"}", false},
};

static void
test_lines(void)
{
    AUTO(manifest_line_reset) ManifestLine line = {0};

    for (size_t i = 0; i < ARRAY_COUNT(line_cases); i++)
    {
        Error err = {0};
        int rc = manifest_line_parse(
            line_cases[i].text, strlen(line_cases[i].text), CHECKSUM_CRC32C, &line, &err);

        ok(line_cases[i].good ? rc == 0
                              : rc == -1 && err.kind == ERROR_CORRUPT && line.members.doc == NULL,
           "%s is %s%s%s", line_cases[i].label, line_cases[i].good ? "read" : "refused",
           rc < 0 ? ": " : "", rc < 0 ? err.msg : "");
    }
}

static void
test_paths(void)
{
    static const struct
    {
        const char *path;
        bool good;
    } cases[] = {
        {"base/5/16384", true},
        {"a", true},
        {"pg_tblspc/16388/PG_15_202209061/5/1", true},
        {"...", true},
        {".a/..b", true},
        {"a b\\c\"d", true},
        {"", false},
        {"/etc/passwd", false},
        {"..", false},
        {"../a", false},
        {"a/../b", false},
        {"a/..", false},
        {".", false},
        {"a/./b", false},
        {"a//b", false},
        {"a/", false},
    };
    AUTO(strbuf_reset) StrBuf text;
    AUTO(manifest_line_reset) ManifestLine line = {0};

    strbuf_init(&text, 8192);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        BackupFile folder = {.kind = BACKUP_FILE_FOLDER, .path = cases[i].path, .mode = 0700};
        AUTO(strbuf_reset) StrBuf hex;
        Error err = {0};

        strbuf_clear(&text);
        manifest_format_file(&folder, CHECKSUM_NONE, &text);

        int rc = manifest_line_parse(text.data, text.len, CHECKSUM_NONE, &line, &err);
        bool same = rc == 0 && strcmp(line.file.path, cases[i].path) == 0;

        strbuf_init(&hex, 8192);
        strbuf_puts(&hex, "{\"m\": \"0700\", \"D\": \"");
        for (const char *p = cases[i].path; *p != '\0'; p++)
            strbuf_printf(&hex, "%02x", (unsigned) (unsigned char) *p);
        strbuf_puts(&hex, "\"}");

        int hex_rc = manifest_line_parse(hex.data, hex.len, CHECKSUM_NONE, &line, &err);

        ok(cases[i].good ? same && hex_rc == 0 : rc == -1 && hex_rc == -1,
           "path \"%s\" is %s, in hex too", cases[i].path, cases[i].good ? "good" : "refused");
    }

    char longest[DATA_PATH_MAX + 1];

    for (size_t len = DATA_PATH_MAX - 1; len <= DATA_PATH_MAX; len++)
    {
        Error err = {0};
        BackupFile folder = {.kind = BACKUP_FILE_FOLDER, .path = longest, .mode = 0700};

        memset(longest, 'x', len);
        longest[len] = '\0';
        strbuf_clear(&text);
        manifest_format_file(&folder, CHECKSUM_NONE, &text);
        ok((manifest_line_parse(text.data, text.len, CHECKSUM_NONE, &line, &err) == 0) ==
               (len < DATA_PATH_MAX),
           "a path of %zu bytes is %s", len, len < DATA_PATH_MAX ? "good" : "refused");
    }
}

static bool
sets_equal(const BlockSet *a, const BlockSet *b)
{
    bool equal = a->count == b->count;

    for (size_t i = 0; equal && i < a->count; i++)
        equal =
            a->ranges[i].first == b->ranges[i].first && a->ranges[i].count == b->ranges[i].count;
    return equal;
}

static bool
files_equal(const BackupFile *a, const BackupFile *b)
{
    return a->kind == b->kind && strcmp(a->path, b->path) == 0 && a->mode == b->mode &&
           strcmp(a->user, b->user) == 0 && strcmp(a->group, b->group) == 0 &&
           a->modified_s == b->modified_s && a->bytes == b->bytes &&
           a->stored_bytes == b->stored_bytes && a->bundle == b->bundle && a->offset == b->offset &&
           memcmp(a->checksum, b->checksum, sizeof a->checksum) == 0 &&
           memcmp(a->xxh128, b->xxh128, sizeof a->xxh128) == 0 &&
           a->truncation_blocks == b->truncation_blocks && sets_equal(&a->blocks, &b->blocks) &&
           sets_equal(&a->damaged, &b->damaged);
}

static void
add_blocks(BlockSet *set, uint32_t first, uint32_t count)
{
    Error err = {0};

    if (block_set_add(set, first, count, &err) < 0)
        abort();
}

static void
test_line_round_trip(void)
{
    static const ChecksumAlgorithm algorithms[] = {CHECKSUM_NONE, CHECKSUM_CRC32C, CHECKSUM_SHA256};
    AUTO(backup_file_reset)
    BackupFile incremental = {
        .kind = BACKUP_FILE_INCREMENTAL,
        .path = "base/5/f\xFC\x01\"r",
        .mode = 04755,
        .user = "p\xC3\xB6stgres",
        .group = "d\"ba",
        .modified_s = -1,
        .bytes = 20 * 8192,
        .stored_bytes = 7 * 8192,
        .bundle = 12,
        .offset = UINT64_C(1) << 62,
        .truncation_blocks = 20};
    AUTO(strbuf_reset) StrBuf text;
    AUTO(manifest_line_reset) ManifestLine line = {0};

    add_blocks(&incremental.blocks, 3, 3);
    add_blocks(&incremental.blocks, 9, 1);
    add_blocks(&incremental.damaged, 4, 1);
    memset(incremental.xxh128, 0xA5, sizeof incremental.xxh128);
    strbuf_init(&text, 8192);
    for (size_t i = 0; i < ARRAY_COUNT(algorithms); i++)
    {
        Error err = {0};

        memset(incremental.checksum, 0, sizeof incremental.checksum);
        memset(incremental.checksum, 0x7F, checksum_bytes(algorithms[i]));
        strbuf_clear(&text);
        manifest_format_file(&incremental, algorithms[i], &text);
        ok(manifest_line_parse(text.data, text.len - 1, algorithms[i], &line, &err) == 0 &&
               line.kind == MANIFEST_LINE_FILE && files_equal(&line.file, &incremental),
           "an incremental file with %s: %.*s", checksum_name(algorithms[i]), (int) text.len - 1,
           text.data);
    }

    BackupFile odd_owner = {
        .kind = BACKUP_FILE_FOLDER, .path = "a", .mode = 0700, .user = "\xFF", .group = ""};
    Error err = {0};

    strbuf_clear(&text);
    manifest_format_file(&odd_owner, CHECKSUM_NONE, &text);
    ok(manifest_line_parse(text.data, text.len, CHECKSUM_NONE, &line, &err) == 0 &&
           strcmp(line.file.user, "") == 0,
       "an owner who is not UTF-8 is not known");

    static const uint32_t frames[] = {402113, 3991};
    BackupPart part = {
        .bundle = 3,
        .part = 2,
        .owner = "b0",
        .owner_bundle = 9,
        .frame_count = 2,
        .frame_bytes = frames,
        .last_plain_bytes = 9728,
        .stored_bytes = 406321};

    strbuf_clear(&text);
    manifest_format_part(&part, &text);
    ok(manifest_line_parse(text.data, text.len, CHECKSUM_NONE, &line, &err) == 0 &&
           line.kind == MANIFEST_LINE_PART && line.part.bundle == 3 && line.part.part == 2 &&
           strcmp(line.part.owner, "b0") == 0 && line.part.owner_bundle == 9 &&
           line.part.frame_count == 2 && line.part.frame_bytes[1] == 3991 &&
           line.part.last_plain_bytes == 9728 && line.part.stored_bytes == 406321,
       "a part: %.*s", (int) text.len - 1, text.data);
}

/* ---- the header ---- */

static void
test_header_round_trip(void)
{
    static char chain[2][BACKUP_LABEL_NAME_MAX] = {"b0", "b1"};
    static char uses[1][BACKUP_LABEL_NAME_MAX] = {"u0"};
    static char name1[] = "postgres", name2[] = "\xFF\"";
    static BackupDatabase databases[] = {{5, name1, 733}, {16390, name2, 0}};
    BackupHeader header = test_header();
    AUTO(strbuf_reset) StrBuf text;
    AUTO(manifest_line_reset) ManifestLine line = {0};
    Error err = {0};

    header.incremental = true;
    header.chain = chain;
    header.chain_count = 2;
    header.uses = uses;
    header.uses_count = 1;
    header.databases = databases;
    header.database_count = 2;
    header.source_stream = true;
    header.from_standby = true;
    (void) snprintf(
        header.key_ids, sizeof header.key_ids, "%s", "0123456789abcdef,0123456789abcde0");
    if (tablespace_map_add(&header.tablespaces, 16388, "/srv/t s\xC3\xA4", &err) < 0 ||
        tablespace_map_add(&header.tablespaces, 16389, "/srv/\xE4", &err) < 0)
        abort();
    strbuf_init(&text, 65536);
    manifest_format_header(&header, "main", &text);
    tablespace_map_reset(&header.tablespaces);

    int rc = manifest_line_parse(text.data, text.len, CHECKSUM_NONE, &line, &err);
    const BackupHeader *got = &line.header;

    if (!ok(rc == 0 && line.kind == MANIFEST_LINE_HEADER, "a header is read%s%s",
            rc < 0 ? ": " : "", err.msg))
        return;
    ok(strcmp(got->label, header.label) == 0 && got->incremental && got->chain_count == 2 &&
           strcmp(got->chain[1], "b1") == 0 && got->uses_count == 1 &&
           strcmp(got->uses[0], "u0") == 0,
       "who it is and what it needs");
    ok(got->system_identifier == header.system_identifier && got->pg_major == 15 &&
           got->catalog_version == header.catalog_version &&
           got->segment_bytes == header.segment_bytes && got->data_checksums && got->from_standby &&
           got->source_stream && got->tli == 1 && got->start_lsn == header.start_lsn &&
           got->stop_lsn == header.stop_lsn && got->started_us == header.started_us &&
           got->stopped_us == header.stopped_us,
       "the server and its WAL");
    ok(got->tablespaces.count == 2 && got->tablespaces.items[0].oid == 16388 &&
           strcmp(got->tablespaces.items[0].path, "/srv/t s\xC3\xA4") == 0 &&
           strcmp(got->tablespaces.items[1].path, "/srv/\xE4") == 0,
       "tablespaces, UTF-8 or not");
    ok(got->database_count == 2 && got->databases[1].oid == 16390 &&
           strcmp(got->databases[1].name, name2) == 0 && got->databases[0].row_xid == 733 &&
           got->databases[1].row_xid == 0,
       "databases, UTF-8 or not");
    ok(got->checksum == CHECKSUM_CRC32C && strcmp(got->codec, "lz4") == 0 &&
           strcmp(got->key_ids, header.key_ids) == 0 && strcmp(got->host, "db1") == 0 &&
           strcmp(got->created_by, "walstream test") == 0,
       "how it was stored");
    ok(got->file_count == 4 && got->full_bytes == UINT64_C(1) << 53 && got->plain_bytes == 10 &&
           got->stored_bytes == INT64_MAX && got->part_count == 2 && got->reused_bytes == 0 &&
           got->damaged_blocks == 3,
       "totals, above 2^53 too");
}

/* One thing of a good header replaced by another. */
static const struct
{
    const char *label, *from, *to;
    bool good;
} header_cases[] = {
    {"as it is", "\"full\"", "\"full\"", true},
    {"a later format", "\"format\": 1", "\"format\": 2", false},
    {"no format", "\"format\": 1, ", "", false},
    {"members of later versions", "\"format\": 1", "\"format\": 1, \"later\": null", true},
    {"no label", "\"" LABEL "\"", "null", false},
    {"an impossible label", "\"" LABEL "\"", "\"../x\"", false},
    {"another kind", "\"full\"", "\"differential\"", false},
    {"an incremental without a chain", "\"full\"", "\"incremental\"", false},
    {"a full one with a chain", "\"chain\": []", "\"chain\": [\"b0\"]", false},
    {"itself in uses", "\"uses\": []", "\"uses\": [\"" LABEL "\"]", false},
    {"one twice in uses", "\"uses\": []", "\"uses\": [\"b1\", \"b0\", \"b1\"]", false},
    {"uses with a number", "\"uses\": []", "\"uses\": [1]", false},
    {"uses that is no list", "\"uses\": []", "\"uses\": \"b0\"", false},
    {"a system identifier as a number", "\"7300000000000000001\"", "7300000000000000001", false},
    {"system identifier 0", "\"7300000000000000001\"", "\"0\"", false},
    {"a system identifier with a sign", "\"7300000000000000001\"", "\"+1\"", false},
    {"a segment size that cannot be", "16777216", "16777217", false},
    {"timeline 0", "\"timeline\": 1", "\"timeline\": 0", false},
    {"a timeline above 32 bits", "\"timeline\": 1", "\"timeline\": 4294967296", false},
    {"no start", "\"0/02000028\"", "\"0/0\"", false},
    {"an LSN as a number", "\"0/02000028\"", "33554472", false},
    {"a stop before the start", "\"0/02000100\"", "\"0/02000000\"", false},
    {"an LSN in the highest log", "\"0/02000100\"", "\"FFFFFFFF/FFFFFFFF\"", true},
    {"a time with a zone", "07.120000Z", "07.120000+01:00", false},
    {"a truth as a number", "\"data_checksums\": true", "\"data_checksums\": 1", false},
    {"an unknown checksum", "\"CRC32C\"", "\"MD5\"", false},
    {"an unknown codec", "\"lz4\"", "\"brotli\"", false},
    {"another source", "\"local\"", "\"remote\"", false},
    {"bad key ids", "\"key_ids\": \"\"", "\"key_ids\": \"xyz\"", false},
    {"a negative total", "\"files\": 4", "\"files\": -4", false},
    {"a total above 2^63", "9223372036854775807", "9223372036854775808", false},
    {"a tablespace without an oid", "\"tablespaces\": []", "\"tablespaces\": [{\"path\": \"/a\"}]",
     false},
    {"a tablespace without a path", "\"tablespaces\": []", "\"tablespaces\": [{\"oid\": 5}]",
     false},
    {"a tablespace that is a text", "\"tablespaces\": []", "\"tablespaces\": [\"/a\"]", false},
    {"databases", "\"tablespaces\"", "\"databases\": [], \"tablespaces\"", true},
    {"databases that are no list", "\"tablespaces\"", "\"databases\": {}, \"tablespaces\"", false},
    {"a name in half a byte", "\"tablespaces\"",
     "\"databases\": [{\"oid\": 1, \"name_hex\": \"abc\"}], \"tablespaces\"", false},
    {"a name with a NUL", "\"tablespaces\"",
     "\"databases\": [{\"oid\": 1, \"name_hex\": \"6100\"}], \"tablespaces\"", false},
};

static void
test_headers(void)
{
    const BackupHeader header = test_header();
    AUTO(strbuf_reset) StrBuf good;
    AUTO(manifest_line_reset) ManifestLine line = {0};

    strbuf_init(&good, 65536);
    manifest_format_header(&header, "main", &good);
    for (size_t i = 0; i < ARRAY_COUNT(header_cases); i++)
    {
        const char *at = strstr(good.data, header_cases[i].from);
        AUTO(strbuf_reset) StrBuf text;
        Error err = {0};

        strbuf_init(&text, 65536);
        if (at == NULL)
        {
            ok(false, "%s: there is something to replace", header_cases[i].label);
            continue;
        }
        strbuf_append(&text, good.data, (size_t) (at - good.data));
        strbuf_puts(&text, header_cases[i].to);
        strbuf_puts(&text, at + strlen(header_cases[i].from));

        int rc = manifest_line_parse(text.data, text.len, CHECKSUM_NONE, &line, &err);

        ok(header_cases[i].good ? rc == 0 : rc == -1 && err.kind == ERROR_CORRUPT,
           "header with %s is %s%s%s", header_cases[i].label,
           header_cases[i].good ? "read" : "refused", rc < 0 ? ": " : "", rc < 0 ? err.msg : "");
    }
}

/* ---- lines in their order ---- */

/* What a handler saw, in a text: "H", "F<path>@<offset>", "P<bundle>.<part>+<first frame>=<owner>"
 */
static int
note_header(void *ctx, const BackupHeader *header UNUSED, Error *err UNUSED)
{
    strbuf_puts(ctx, "H ");
    return 0;
}

static int
note_file(void *ctx, const BackupFile *file, Error *err UNUSED)
{
    strbuf_printf(ctx, "F%s@%" PRIu64 " ", file->path, file->offset);
    return 0;
}

static int
note_part(void *ctx, const BackupPart *part, Error *err UNUSED)
{
    strbuf_printf(
        ctx, "P%u.%u+%u=%s:%u ", part->bundle, part->part, part->first_frame, part->owner,
        part->owner_bundle);
    return 0;
}

static const ManifestHandlers note_handlers = {
    .header = note_header, .file = note_file, .part = note_part};

#define SCAN_LINES 8

/* Letters: H header, fBO a file of 100 bytes in bundle B at offset O00, d a folder, pBN a part of
 * bundle B with number N and one whole frame, qBN the same with a frame of 300 bytes, uBN a part
 * of a used backup, xBN one of a backup that is not named, T a trailer, t one that counts wrong */
static const struct
{
    const char *label, *lines;
    bool good;
    const char *want; /* seen, when good */
} scan_cases[] = {
    {"nothing between", "H T", true, "H "},
    {"a folder", "H d T", true, "H Fa@0 "},
    {"a bundle", "H f00 f01 p00 q01 T", true,
     "H Ff@0 Ff@100 P0.0+0=" LABEL ":0 P0.1+1=" LABEL ":0 "},
    {"bundles in any order, numbers missing", "H f70 q70 d f20 q20 T", true,
     "H Ff@0 P7.0+0=" LABEL ":7 Fa@0 Ff@0 P2.0+0=" LABEL ":2 "},
    {"a bundle without files", "H p00 T", true, "H P0.0+0=" LABEL ":0 "},
    {"a bundle of a used backup", "H f00 u00 u01 T", true, "H Ff@0 P0.0+0=b0:8 P0.1+1=b0:8 "},
    {"a folder within a bundle", "H f00 d f01 q00 T", true,
     "H Ff@0 Fa@0 Ff@100 P0.0+0=" LABEL ":0 "},
    {"files up to the last byte", "H f00 f02 q00 T", true, "H Ff@0 Ff@200 P0.0+0=" LABEL ":0 "},
    {"files behind the last byte", "H f00 f03 q00 T", false, NULL},
    {"nothing at all", "", false, NULL},
    {"no header", "d T", false, NULL},
    {"two headers", "H H T", false, NULL},
    {"no trailer", "H f00 q00", false, NULL},
    {"two trailers", "H T T", false, NULL},
    {"something behind the trailer", "H T d", false, NULL},
    {"a trailer that counts wrong", "H d t", false, NULL},
    {"files that overlap", "H f01 f00 q00 T", false, NULL},
    {"the same file twice", "H f00 f00 q00 T", false, NULL},
    {"a file behind the parts", "H f00 p00 f01 T", false, NULL},
    {"a bundle without parts", "H f00 T", false, NULL},
    {"a bundle without parts before another", "H f00 f10 q10 T", false, NULL},
    {"a bundle that comes back", "H f00 q00 f10 q10 p01 T", false, NULL},
    {"a part is missing", "H f00 p00 q02 T", false, NULL},
    {"the first part is missing", "H f00 q01 T", false, NULL},
    {"a part twice", "H f00 p00 p00 T", false, NULL},
    {"a part behind the end", "H f00 q00 p01 T", false, NULL},
    {"parts of two backups in a bundle", "H f00 p00 u01 T", false, NULL},
    {"a part of a backup that is not named", "H f00 x00 T", false, NULL},
};

static void
put_scan_line(const char *word, size_t lines_before, StrBuf *out)
{
    static char uses[1][BACKUP_LABEL_NAME_MAX] = {"b0"};
    uint32_t bundle = word[0] != '\0' && word[1] >= '0' ? (uint32_t) (word[1] - '0') : 0;
    uint32_t n = bundle != 0 || word[1] == '0' ? (uint32_t) (word[2] - '0') : 0;
    uint32_t frame = 1000;
    BackupHeader header = test_header();
    BackupFile file = {
        .kind = BACKUP_FILE_WHOLE,
        .path = "f",
        .mode = 0600,
        .bytes = 100,
        .stored_bytes = 100,
        .bundle = bundle,
        .offset = (uint64_t) n * 100};
    BackupFile folder = {.kind = BACKUP_FILE_FOLDER, .path = "a", .mode = 0700};
    BackupPart part = {
        .bundle = bundle,
        .part = n,
        .owner = word[0] == 'u'   ? "b0"
                 : word[0] == 'x' ? "b9"
                                  : NULL,
        .owner_bundle = 8,
        .frame_count = 1,
        .frame_bytes = &frame,
        .last_plain_bytes = word[0] == 'q' ? 300 : BACKUP_FRAME_BYTES,
        .stored_bytes = 1200};

    header.uses = uses;
    header.uses_count = 1;
    switch (word[0])
    {
        case 'H':
            manifest_format_header(&header, "main", out);
            break;
        case 'f':
            manifest_format_file(&file, CHECKSUM_CRC32C, out);
            break;
        case 'd':
            manifest_format_file(&folder, CHECKSUM_CRC32C, out);
            break;
        case 'T':
        case 't':
            strbuf_printf(
                out, "{\"trailer\": {\"lines\": %zu}}\n",
                lines_before - 1 + (word[0] == 't' ? 1 : 0));
            break;
        default:
            manifest_format_part(&part, out);
            break;
    }
}

/* The text of a row of words. */
static void
put_scan_lines(const char *words, StrBuf *out)
{
    char word[4];
    size_t count = 0;

    while (*words != '\0')
    {
        size_t len = strcspn(words, " ");

        memset(word, 0, sizeof word);
        memcpy(word, words, MIN(len, sizeof word - 1));
        put_scan_line(word, count++, out);
        words += len + (words[len] == ' ' ? 1 : 0);
    }
}

static int
scan_all(const char *text, size_t len, size_t step, StrBuf *seen, Error *err)
{
    AUTO(manifest_scan_reset)
    ManifestScan scan = {.handlers = &note_handlers, .ctx = seen, .label = LABEL};

    manifest_scan_begin(&scan);
    for (size_t at = 0; at < len; at += step)
        if (manifest_scan_text(&scan, text + at, MIN(step, len - at), err) < 0)
            return -1;
    return manifest_scan_end(&scan, err);
}

static void
test_order(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(scan_cases); i++)
    {
        AUTO(strbuf_reset) StrBuf text;
        AUTO(strbuf_reset) StrBuf seen;
        AUTO(strbuf_reset) StrBuf seen_cut;
        Error err = {0};

        strbuf_init(&text, 65536);
        strbuf_init(&seen, 65536);
        strbuf_init(&seen_cut, 65536);
        put_scan_lines(scan_cases[i].lines, &text);

        int rc = scan_all(strbuf_text(&text), text.len, SIZE_MAX / 2, &seen, &err);
        int rc_cut = scan_all(strbuf_text(&text), text.len, 1, &seen_cut, &err);

        ok(rc == rc_cut && strcmp(strbuf_text(&seen), strbuf_text(&seen_cut)) == 0 &&
               (scan_cases[i].good ? rc == 0 && strcmp(strbuf_text(&seen), scan_cases[i].want) == 0
                                   : rc == -1 && err.kind == ERROR_CORRUPT),
           "%s: %s%s", scan_cases[i].label, scan_cases[i].good ? strbuf_text(&seen) : "",
           rc < 0 ? err.msg : "");
    }

    AUTO(strbuf_reset) StrBuf text;
    AUTO(strbuf_reset) StrBuf seen;
    Error err = {0};

    strbuf_init(&text, 65536);
    strbuf_init(&seen, 65536);
    put_scan_lines("H T", &text);
    ok(scan_all(text.data, text.len - 1, 100, &seen, &err) == -1 && err.kind == ERROR_CORRUPT,
       "a cut last line: %s", err.msg);
}

static void
test_long_lines(void)
{
    char *text = malloc(MANIFEST_LINE_MAX + 2);
    ManifestHandlers none = {0};

    if (text == NULL)
        abort();
    for (size_t len = MANIFEST_LINE_MAX - 1; len <= MANIFEST_LINE_MAX; len++)
    {
        for (int cut = 0; cut < 2; cut++)
        {
            AUTO(manifest_scan_reset)
            ManifestScan scan = {.handlers = &none, .label = "", .lines_only = true};
            Error err = {0};
            int rc;

            memset(text, ' ', len);
            memcpy(text, "{\"d\":\"a\",\"m\":\"0700\"}", 20);
            text[len] = '\n';
            manifest_scan_begin(&scan);
            rc = manifest_scan_text(&scan, text, cut ? len : len + 1, &err);
            if (cut && rc == 0)
                rc = manifest_scan_text(&scan, text + len, 1, &err);
            ok(len < MANIFEST_LINE_MAX ? rc == 0 : rc == -1 && err.kind == ERROR_CORRUPT,
               "a line of %zu bytes%s", len, cut ? ", cut" : "");
        }
    }
    free(text);
}

/* ---- writing and reading ---- */

static ManifestWriter *
new_writer(const char *codec)
{
    ManifestWriter *w = NULL;
    CodecSpec spec;
    Error err = {0};

    if (codec_parse(codec, &spec, &err) < 0 || manifest_writer_new(spec, NULL, &w, &err) < 0)
        abort();
    return w;
}

static void
add_words(ManifestWriter *w, const char *words)
{
    AUTO(strbuf_reset) StrBuf text;
    Error err = {0};

    strbuf_init(&text, 65536);
    put_scan_lines(words, &text);
    if (manifest_writer_add(w, strbuf_text(&text), text.len, &err) < 0)
        abort();
}

static void
test_write_read(const char *codec)
{
    AUTO(store_freep) Store *store = new_store();
    AUTO(manifest_writer_freep) ManifestWriter *w = new_writer(codec);
    AUTO(strbuf_reset) StrBuf seen;
    AUTO(backup_header_reset) BackupHeader got = {0};
    BackupHeader header = test_header();
    Repository repo;
    uint64_t stored = 0;
    Error err = {0};
    char key[LAYOUT_KEY_MAX];
    StoreStat stat;

    test_repo_init(&repo, store);
    strbuf_init(&seen, 65536);
    add_words(w, "d");
    add_words(w, "f30 f31 q30");
    add_words(w, "f10");
    ok(manifest_writer_replay(w, CHECKSUM_CRC32C, &note_handlers, &seen, &err) == 0 &&
           strcmp(strbuf_text(&seen), "Fa@0 Ff@0 Ff@100 P3.0+0=:3 Ff@0 ") == 0,
       "%s: what was added is read again: %s", codec, strbuf_text(&seen));
    add_words(w, "p10 q11");

    /* the same path three times */
    ok(manifest_writer_put(w, &repo, &header, &no_deadline, &stored, &err) == -1 &&
           err.kind == ERROR_CORRUPT && strstr(err.msg, "twice") != NULL &&
           manifest_read_header(&repo, LABEL, &no_deadline, &got, &err) == -1 &&
           err.kind == ERROR_NOT_FOUND,
       "%s: what could not be restored is not stored: %s", codec, err.msg);

    AUTO(manifest_writer_freep) ManifestWriter *w2 = new_writer(codec);

    add_words(w2, "d");
    add_words(w2, "f30 q30");
    ok(manifest_writer_put(w2, &repo, &header, &no_deadline, &stored, &err) == 0, "%s: stored: %s",
       codec, err.msg);
    ok(store_stat(store, backup_manifest_key(LABEL, key), &no_deadline, &stat, &err) == 0 &&
           stat.bytes == stored,
       "%s: with its size", codec);
    ok(manifest_read_header(&repo, LABEL, &no_deadline, &got, &err) == 0 &&
           strcmp(got.label, LABEL) == 0 && got.stop_lsn == header.stop_lsn,
       "%s: the header alone", codec);
    strbuf_clear(&seen);
    ok(manifest_read(&repo, LABEL, &no_deadline, &note_handlers, &seen, &err) == 0 &&
           strcmp(strbuf_text(&seen), "H Fa@0 Ff@0 P3.0+0=" LABEL ":3 ") == 0,
       "%s: all of it: %s", codec, strbuf_text(&seen));

    ok(manifest_writer_put(w2, &repo, &header, &no_deadline, &stored, &err) == 0,
       "%s: the same again is fine", codec);
    add_words(w2, "d");
    ok(manifest_writer_put(w2, &repo, &header, &no_deadline, &stored, &err) == -1 &&
           err.kind == ERROR_CONFLICT,
       "%s: another one is not: %s", codec, err.msg);
    ok(manifest_read_header(&repo, "other", &no_deadline, &got, &err) == -1 &&
           err.kind == ERROR_NOT_FOUND &&
           manifest_read(&repo, "other", &no_deadline, &note_handlers, &seen, &err) == -1 &&
           err.kind == ERROR_NOT_FOUND,
       "%s: no such backup: %s", codec, err.msg);
}

static int
stop_at_file(void *ctx UNUSED, const BackupFile *file UNUSED, Error *err)
{
    return error_set(err, ERROR_CANCELED, "enough");
}

static void
test_handler_stops(void)
{
    static const ManifestHandlers handlers = {.file = stop_at_file};
    AUTO(store_freep) Store *store = new_store();
    AUTO(manifest_writer_freep) ManifestWriter *w = new_writer("zstd");
    BackupHeader header = test_header();
    Repository repo;
    uint64_t stored;
    Error err = {0};

    test_repo_init(&repo, store);
    add_words(w, "f00 q00");
    ok(manifest_writer_replay(w, CHECKSUM_CRC32C, &handlers, NULL, &err) == -1 &&
           err.kind == ERROR_CANCELED && strcmp(err.msg, "enough") == 0,
       "a handler's error comes as it is");
    ok(manifest_writer_put(w, &repo, &header, &no_deadline, &stored, &err) == 0 &&
           manifest_read(&repo, LABEL, &no_deadline, &handlers, NULL, &err) == -1 &&
           err.kind == ERROR_CANCELED && strcmp(err.msg, "enough") == 0,
       "when the stored one is read, too");
}

/* ---- in memory ---- */

/* A manifest of this many files, each in front of a part of its own bundle when its number says so.
 */
static void
put_many(Repository *repo, size_t count, const char *label)
{
    AUTO(manifest_writer_freep) ManifestWriter *w = new_writer("lz4");
    AUTO(strbuf_reset) StrBuf text;
    BackupHeader header = test_header();
    uint32_t frames[4] = {1000, 1001, 1002, 1003};
    uint64_t stored;
    Error err = {0};
    bool good = true;
    char path[64];

    (void) snprintf(header.label, sizeof header.label, "%s", label);
    strbuf_init(&text, 1u << 20);
    for (size_t i = 0; i < count && good; i++)
    {
        BackupFile file = {
            .kind = BACKUP_FILE_WHOLE,
            .path = path,
            .mode = 0600,
            .user = "postgres",
            .group = "postgres",
            .bytes = 8192,
            .stored_bytes = 8192,
            .bundle = (uint32_t) (i / 100),
            .offset = 512 + i % 100 * 9216};

        (void) snprintf(path, sizeof path, "base/%zu/%zu", 16384 + i / 1000, 20000 + i);
        manifest_format_file(&file, CHECKSUM_CRC32C, &text);
        if (i % 100 == 99 || i == count - 1)
        {
            BackupPart part = {
                .bundle = file.bundle,
                .frame_count = 4,
                .frame_bytes = frames,
                .last_plain_bytes = BACKUP_FRAME_BYTES,
                .stored_bytes = 5000};

            manifest_format_part(&part, &text);
            part.part = 1;
            part.frame_count = 1;
            part.last_plain_bytes = 512;
            part.stored_bytes = 1200;
            manifest_format_part(&part, &text);
            good = manifest_writer_add(w, strbuf_text(&text), text.len, &err) == 0;
            strbuf_clear(&text);
        }
    }
    if (!good || manifest_writer_put(w, repo, &header, &no_deadline, &stored, &err) < 0)
        abort();
}

/* scratch: where to; NULL: all of it in memory. */
static void
test_load(char *scratch)
{
    static const size_t count = 100000;
    AUTO(store_freep) Store *store = new_store();
    AUTO(manifest_reset) Manifest m = {0};
    Repository repo;
    Error err = {0};
    bool found = true;
    char path[64];

    test_repo_init(&repo, store);
    repo.scratch = scratch;
    put_many(&repo, count, LABEL);
    if (!ok(manifest_load(&repo, LABEL, &no_deadline, &m, &err) == 0, "%zu files are loaded%s",
            count, err.msg))
        return;

    for (size_t i = 0; i < count; i++)
    {
        (void) snprintf(path, sizeof path, "base/%zu/%zu", 16384 + i / 1000, 20000 + i);
        found = found && manifest_find(&m, path) == &m.files[i] &&
                manifest_file(&m, i) == &m.files[i] && strcmp(m.files[i].path, path) == 0;
    }
    ok(m.file_count == count && found, "each is found by its path");
    ok(manifest_find(&m, "base/16384/19999") == NULL && manifest_find(&m, "") == NULL,
       "others are not");
    ok(strcmp(m.files[count - 1].user, "postgres") == 0 && m.files[5].bundle == 0 &&
           strcmp(m.header.label, LABEL) == 0,
       "and has what it should");

    static const struct
    {
        uint32_t bundle;
        uint64_t offset;
        int part; /* -1: none */
    } cases[] = {
        {0, 0, 0},
        {0, 4 * BACKUP_FRAME_BYTES - 1, 0},
        {0, 4 * BACKUP_FRAME_BYTES, 1},
        {0, 4 * BACKUP_FRAME_BYTES + 511, 1},
        {0, 4 * BACKUP_FRAME_BYTES + 512, -1},
        {999, 0, 0},
        {999, 4 * BACKUP_FRAME_BYTES, 1},
        {999, UINT64_MAX, -1},
        {1000, 0, -1},
        {UINT32_MAX, 0, -1},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        const BackupPart *part = manifest_find_part(&m, cases[i].bundle, cases[i].offset);

        ok(cases[i].part < 0 ? part == NULL
                             : part != NULL && part->bundle == cases[i].bundle &&
                                   part->part == (uint32_t) cases[i].part &&
                                   strcmp(part->owner, LABEL) == 0 && part->frame_bytes[0] == 1000,
           "byte %" PRIu64 " of bundle %u is in part %d", cases[i].offset, cases[i].bundle,
           cases[i].part);
    }
}

/* A manifest that the writer would not make: text in frames, labelled as it should be. */
static void
put_text(Store *store, const char *label, const char *text, size_t header_len, size_t len)
{
    AUTO(strbuf_reset) StrBuf payload;
    AUTO(object_sealed_reset) ObjectSealed sealed = {0};
    const size_t cuts[] = {0, header_len, len};
    ObjectPutResult result;
    char key[LAYOUT_KEY_MAX];
    Error err = {0};
    bool good = true;

    strbuf_init(&payload, 64u << 20);
    for (size_t i = 0; i < 2 && good; i++)
    {
        AUTO(stage_freep) Stage *chain = NULL;
        Stage *sink = NULL;

        good = cuts[i] == cuts[i + 1] ||
               (stage_strbuf_sink_new(&payload, &sink, &err) == 0 &&
                codec_encoder_new((CodecSpec){.method = CODEC_LZ4}, 0, sink, &chain, &err) == 0 &&
                stage_write(chain, text + cuts[i], cuts[i + 1] - cuts[i], &err) == 0 &&
                stage_finish(chain, &err) == 0);
    }
    if (!good ||
        object_seal(
            NULL, backup_manifest_key(label, key), payload.data, payload.len, &sealed, &err) < 0 ||
        object_put_sealed(store, &sealed, &no_deadline, &result, &err) < 0)
        abort();
}

/* What there is in a store under a key that is hostile or damaged. */
static void
test_bad_objects(void)
{
    static const struct
    {
        const char *label, *lines;
        int header_rc, read_rc, load_rc;
    } cases[] = {
        {"good", "H d f00 q00 T", 0, 0, 0},
        {"a folder twice", "H d d T", 0, 0, 0},
        {"a file twice", "H f00 q00 f10 q10 T", 0, 0, -1},
        {"no trailer", "H d", 0, -1, -1},
        {"no header", "d T", -1, -1, -1},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(store_freep) Store *store = new_store();
        AUTO(strbuf_reset) StrBuf text;
        AUTO(backup_header_reset) BackupHeader header = {0};
        AUTO(manifest_reset) Manifest m = {0};
        ManifestHandlers none = {0};
        Repository repo;
        Error err1 = {.kind = ERROR_CORRUPT};
        Error err2 = err1;
        Error err3 = err1;

        test_repo_init(&repo, store);
        strbuf_init(&text, 65536);
        put_scan_lines(cases[i].lines, &text);
        put_text(store, LABEL, text.data, strcspn(text.data, "\n") + 1, text.len);
        ok(manifest_read_header(&repo, LABEL, &no_deadline, &header, &err1) == cases[i].header_rc &&
               manifest_read(&repo, LABEL, &no_deadline, &none, NULL, &err2) == cases[i].read_rc &&
               manifest_load(&repo, LABEL, &no_deadline, &m, &err3) == cases[i].load_rc &&
               err1.kind == ERROR_CORRUPT && err2.kind == ERROR_CORRUPT &&
               err3.kind == ERROR_CORRUPT,
           "%s: %s", cases[i].label, err3.msg);
    }

    AUTO(store_freep) Store *store = new_store();
    AUTO(strbuf_reset) StrBuf text;
    AUTO(backup_header_reset) BackupHeader header = {0};
    Repository repo;
    Error err = {0};

    test_repo_init(&repo, store);
    strbuf_init(&text, 4u << 20);
    put_scan_lines("H d T", &text);
    put_text(store, "two-lines", text.data, text.len, text.len);
    put_text(store, "other", text.data, strcspn(text.data, "\n") + 1, text.len);
    ok(manifest_read_header(&repo, "other", &no_deadline, &header, &err) == -1 &&
           err.kind == ERROR_CORRUPT,
       "the header is that of another backup: %s", err.msg);
    ok(manifest_read_header(&repo, "two-lines", &no_deadline, &header, &err) == -1 &&
           err.kind == ERROR_CORRUPT,
       "more than the header in the first frame: %s", err.msg);
    repo.description.system_identifier++;
    put_text(store, LABEL, text.data, strcspn(text.data, "\n") + 1, text.len);
    ok(manifest_read_header(&repo, LABEL, &no_deadline, &header, &err) == -1 &&
           err.kind == ERROR_CORRUPT && strstr(err.msg, "system identifier") != NULL,
       "a manifest of another system: %s", err.msg);
    test_repo_init(&repo, store);
    (void) snprintf(repo.description.cluster, sizeof repo.description.cluster, "%s", "replica");
    ok(manifest_read_header(&repo, LABEL, &no_deadline, &header, &err) == -1 &&
           err.kind == ERROR_CORRUPT && strstr(err.msg, "replica") != NULL,
       "a manifest of another cluster: %s", err.msg);

    /* more than 8 MiB from a few KiB */
    AUTO(strbuf_reset) StrBuf bomb;

    test_repo_init(&repo, store);
    strbuf_init(&bomb, 20u << 20);
    strbuf_append(&bomb, text.data, strcspn(text.data, "\n") + 1);

    size_t header_len = bomb.len;

    for (size_t i = 0; i < 9u << 20; i += 64)
        strbuf_puts(&bomb, "                                                                ");
    put_text(store, "bomb", bomb.data, header_len, bomb.len);

    ManifestHandlers none = {0};

    ok(manifest_read(&repo, "bomb", &no_deadline, &none, NULL, &err) == -1 &&
           err.kind == ERROR_CORRUPT,
       "a line without an end: %s", err.msg);
    put_text(store, "front", bomb.data + header_len, 2u << 20, 2u << 20);
    ok(manifest_read_header(&repo, "front", &no_deadline, &header, &err) == -1 &&
           err.kind == ERROR_CORRUPT,
       "a header of more than 1 MiB: %s", err.msg);
}

static void
get_object(Store *store, const char *key, StrBuf *out)
{
    AUTO(stage_freep) Stage *sink = NULL;
    Error err = {0};

    if (stage_strbuf_sink_new(out, &sink, &err) < 0 ||
        store_get(store, key, (ByteRange){0}, sink, &no_deadline, &err) < 0)
        abort();
}

static void
put_object(Store *store, const char *key, const void *data, size_t len)
{
    struct iovec iov = {.iov_len = len};
    StoreBody body = {.iov = &iov, .iov_count = 1, .bytes = len};
    Error err = {0};

    /* a store does not write to what it is given */
    memcpy(&iov.iov_base, &data, sizeof data);
    if (store_put(store, key, &body, &no_deadline, &err) < 0)
        abort();
}

/* Each byte of a stored manifest changed, and cut at each place. */
static void
test_damage(void)
{
    AUTO(store_freep) Store *store = new_store();
    AUTO(strbuf_reset) StrBuf object;
    AUTO(manifest_writer_freep) ManifestWriter *w = new_writer("lz4");
    BackupHeader header = test_header();
    ManifestHandlers none = {0};
    Repository repo;
    uint64_t stored;
    Error err = {0};
    char key[LAYOUT_KEY_MAX];
    size_t unseen = 0;
    size_t header_unseen = 0;
    size_t other_kind = 0;

    test_repo_init(&repo, store);
    add_words(w, "d f00 q00");
    if (manifest_writer_put(w, &repo, &header, &no_deadline, &stored, &err) < 0)
        abort();
    strbuf_init(&object, 65536);
    get_object(store, backup_manifest_key(LABEL, key), &object);
    for (size_t i = 0; i < 2 * object.len; i++)
    {
        AUTO(store_freep) Store *copy = new_store();
        AUTO(backup_header_reset) BackupHeader got = {0};
        size_t at = i / 2;
        bool cut = i % 2 == 0;

        object.data[at] = (char) (object.data[at] ^ 0x10);
        put_object(copy, key, object.data, cut ? at : object.len);
        object.data[at] = (char) (object.data[at] ^ 0x10);
        test_repo_init(&repo, copy);
        if (manifest_read(&repo, LABEL, &no_deadline, &none, NULL, &err) == 0)
            unseen++;
        else if (err.kind != ERROR_CORRUPT)
            other_kind++;
        if (manifest_read_header(&repo, LABEL, &no_deadline, &got, &err) == 0)
        {
            /* behind the header's frame the header cannot know; a cut is seen by the length */
            header_unseen += cut ? 1 : 0;
            other_kind += strcmp(got.label, LABEL) == 0 && got.stop_lsn == header.stop_lsn ? 0 : 1;
        }
        else if (err.kind != ERROR_CORRUPT)
            other_kind++;
    }
    ok(unseen == 0, "%zu places: no change is read", object.len);
    ok(header_unseen == 0, "the header's reader sees every cut");
    ok(other_kind == 0, "all of them are CORRUPT, and a header that is read is the right one");
}

/* Headers around the size of the first request, and how many requests they need. */
static void
test_large_headers(void)
{
    static const struct
    {
        size_t databases;
        uint64_t gets;
    } cases[] = {{0, 1}, {100, 1}, {3000, 2}};
    static char name[40];

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Store *counted = NULL;
        BackupHeader header = test_header();
        AUTO(backup_header_reset) BackupHeader got = {0};
        AUTO(manifest_writer_freep) ManifestWriter *w = new_writer("zstd");
        Repository repo;
        uint64_t stored;
        Error err = {0};
        uint32_t noise = 1;

        if (store_count_new(new_store(), &counted, &err) < 0)
            abort();

        AUTO(store_freep) Store *store = counted;

        header.database_count = cases[i].databases;
        header.databases = calloc(cases[i].databases + 1, sizeof *header.databases);
        for (size_t d = 0; d < cases[i].databases; d++)
        {
            for (size_t c = 0; c < sizeof name - 1; c++)
            {
                noise = noise * 1664525u + 1013904223u;
                name[c] = (char) ('0' + (noise >> 24) % 64);
            }
            header.databases[d] = (BackupDatabase){.oid = 5, .name = strdup(name)};
        }
        test_repo_init(&repo, store);

        int put_rc = manifest_writer_put(w, &repo, &header, &no_deadline, &stored, &err);
        uint64_t gets = store_count_read(store).gets;
        int rc = manifest_read_header(&repo, LABEL, &no_deadline, &got, &err);

        ok(put_rc == 0 && rc == 0 && got.database_count == cases[i].databases,
           "%zu databases in the header: %s", cases[i].databases, err.msg);
        ok(store_count_read(store).gets - gets == cases[i].gets,
           "need %" PRIu64 " requests of a "
           "manifest of %" PRIu64 " bytes",
           cases[i].gets, stored);
        for (size_t d = 0; d < cases[i].databases; d++)
            free(header.databases[d].name);
        free(header.databases);
    }
}

static void
test_index(void)
{
    static const struct
    {
        const char *label, *lines;
        bool good;
    } cases[] = {
        {"an index", "f30 f31 p30 q31", true},
        {"an empty one", "", true},
        {"one without parts", "f30", false},
        {"one with another bundle", "f30 q30 f10 q10", false},
        {"one with a header", "H f30 q30", false},
        {"one with a trailer", "f30 q30 T", false},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(store_freep) Store *store = new_store();
        AUTO(strbuf_reset) StrBuf text;
        AUTO(strbuf_reset) StrBuf seen;
        ObjectFormat format = {.codec = {.method = CODEC_LZ4}};
        ObjectPutResult result;
        Repository repo;
        Error err = {0};
        char key[LAYOUT_KEY_MAX];

        test_repo_init(&repo, store);
        strbuf_init(&text, 65536);
        strbuf_init(&seen, 65536);
        put_scan_lines(cases[i].lines, &text);
        if (object_put_bytes(
                store, &format, backup_index_key("b7", 3, key), strbuf_text(&text), text.len,
                &no_deadline, &result, &err) < 0)
            abort();

        int rc = manifest_read_index(
            &repo, "b7", 3, CHECKSUM_CRC32C, &no_deadline, &note_handlers, &seen, &err);

        ok(cases[i].good ? rc == 0 : rc == -1 && err.kind == ERROR_CORRUPT, "%s: %s%s",
           cases[i].label, strbuf_text(&seen), rc < 0 ? err.msg : "");
        ok(rc < 0 || text.len == 0 || strstr(strbuf_text(&seen), "P3.1+1=b7:3") != NULL,
           "%s: its parts are that backup's", cases[i].label);
        ok(manifest_read_index(
               &repo, "b7", 4, CHECKSUM_CRC32C, &no_deadline, &note_handlers, &seen, &err) == -1 &&
               err.kind == ERROR_NOT_FOUND,
           "%s: another is not found", cases[i].label);
    }
}

int
main(void)
{
    test_lines();
    test_paths();
    test_line_round_trip();
    test_header_round_trip();
    test_headers();
    test_order();
    test_long_lines();
    test_write_read("lz4");
    test_write_read("zstd:3");
    test_write_read("none");
    test_handler_stops();
    test_load(NULL);
    (void) tempdir_make();
    test_load(tempdir_path);
    test_bad_objects();
    test_damage();
    test_large_headers();
    test_index();
    return done_testing();
}
