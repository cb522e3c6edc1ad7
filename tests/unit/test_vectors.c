/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Stored objects of format 1 (tests/vectors/object/v1, see the README there): the good ones must
 * open for ever and the bad ones must be refused with the right kind.
 *
 * WALSTREAM_WRITE_VECTORS=1 writes those that are missing before it reads them. A stored one is
 * never replaced: it stands for what a released version wrote.
 */
#include "common/fs.h"
#include "repo/object.h"
#include "tap.h"

#include "stream_test.h"

#include "object_test.h"

#include "tool_test.h"

#define VECTORS "tests/vectors/object/v1/"
#define KEY "live/00000001/000000010000000000000001/00000000-00001000"
#define PLAIN_MAX 100000

static const Deadline no_limit = {.at_ms = INT64_MAX};

/* ---- the plain bytes: lines of text, so that a person sees what came out ---- */

static size_t
plain_fill(char *buf, size_t len)
{
    size_t at = 0;

    for (unsigned line = 0; at < len; line++)
    {
        char text[64];
        size_t n = (size_t) snprintf(text, sizeof text, "walstream vector, line %u\n", line);

        n = MIN(n, len - at);
        memcpy(buf + at, text, n);
        at += n;
    }
    return at;
}

/* ---- how each one is made ---- */

typedef enum Lock
{
    PLAIN,
    ONE, /* identity.txt */
    BOTH /* identity.txt and other-identity.txt */
} Lock;

static const struct
{
    const char *file;
    const char *codec;
    Lock lock;
    size_t len;
} good_ones[] = {
    {"none", "none", PLAIN, 4096},
    {"lz4", "lz4", PLAIN, 4096},
    {"lz4-9", "lz4:9", PLAIN, 4096},
    {"zstd", "zstd", PLAIN, 4096},
    {"zstd-19", "zstd:19", PLAIN, 4096},
    {"empty", "lz4", PLAIN, 0},
    {"lz4-large", "lz4", PLAIN, PLAIN_MAX},
    {"age-none", "none", ONE, 4096},
    {"age-lz4", "lz4", ONE, 4096},
    {"age-zstd", "zstd", ONE, 4096},
    {"age-empty", "zstd", ONE, 0},
    {"age-two-recipients", "lz4", BOTH, 4096},
    /* more than one chunk of age's payload: stored bytes */
    {"age-none-large", "none", ONE, PLAIN_MAX},
    /* made by hand of the two above: frames of both codecs and a skippable one behind the label */
    {"mixed-frames", NULL, PLAIN, 4096},
};

typedef enum Damage
{
    EMPTY,
    CUT,         /* the last bytes are missing: arg */
    APPEND,      /* text is behind it */
    REPLACE,     /* the first occurrence of from becomes text, of the same length */
    FLIP_AT_END, /* one bit, arg bytes before the end */
    NO_LABEL,    /* the frames alone */
    LABEL_ALONE,
    ARMORED_NAME /* begins as an armored age file does */
} Damage;

static const struct
{
    const char *file;
    const char *base; /* a good one */
    Damage damage;
    size_t arg;
    const char *from, *text;
    ErrorKind kind;
    uint64_t max; /* 0: PLAIN_MAX */
} bad_ones[] = {
    {"empty", "lz4", EMPTY, 0, NULL, NULL, ERROR_CORRUPT, 0},
    {"lz4-no-label", "lz4", NO_LABEL, 0, NULL, NULL, ERROR_CORRUPT, 0},
    {"label-alone", "lz4", LABEL_ALONE, 0, NULL, NULL, ERROR_CORRUPT, 0},
    {"label-version-2", "lz4", REPLACE, 0, "walstream 1 ", "walstream 2 ", ERROR_CORRUPT, 0},
    {"label-other-word", "lz4", REPLACE, 0, "walstream 1 ", "walscream 1 ", ERROR_CORRUPT, 0},
    {"label-upper-case-size", "lz4", REPLACE, 0, " 0000000000001000 ", " 000000000000100A ",
     ERROR_CORRUPT, 0},
    {"label-size-too-large", "lz4", REPLACE, 0, " 0000000000001000 ", " 0000000000001001 ",
     ERROR_CORRUPT, 0},
    {"label-size-too-small", "lz4", REPLACE, 0, " 0000000000001000 ", " 0000000000000fff ",
     ERROR_CORRUPT, 0},
    {"label-size-absurd", "lz4", REPLACE, 0, " 0000000000001000 ", " ffffffffffffffff ",
     ERROR_CORRUPT, 0},
    {"label-other-key", "lz4", REPLACE, 0, "000000010000000000000001/", "000000010000000000000002/",
     ERROR_CORRUPT, 0},
    {"label-two-blanks", "lz4", REPLACE, 0, "walstream 1 ", "walstream 1  ", ERROR_CORRUPT, 0},
    {"lz4-cut", "lz4", CUT, 1, NULL, NULL, ERROR_CORRUPT, 0},
    {"lz4-cut-checksum", "lz4", CUT, 4, NULL, NULL, ERROR_CORRUPT, 0},
    {"lz4-checksum-wrong", "lz4", FLIP_AT_END, 1, NULL, NULL, ERROR_CORRUPT, 0},
    {"lz4-byte-behind", "lz4", APPEND, 0, NULL, "\n", ERROR_CORRUPT, 0},
    {"lz4-text-behind", "lz4", APPEND, 0, NULL, "something else", ERROR_CORRUPT, 0},
    {"none-damaged", "none", FLIP_AT_END, 1000, NULL, NULL, ERROR_CORRUPT, 0},
    {"zstd-cut", "zstd", CUT, 1, NULL, NULL, ERROR_CORRUPT, 0},
    {"zstd-checksum-wrong", "zstd", FLIP_AT_END, 1, NULL, NULL, ERROR_CORRUPT, 0},
    {"zstd-byte-behind", "zstd", APPEND, 0, NULL, "\n", ERROR_CORRUPT, 0},
    {"lz4-too-large", "lz4-large", APPEND, 0, NULL, "", ERROR_CORRUPT, 4096},
    {"age-cut", "age-none-large", CUT, 1, NULL, NULL, ERROR_CORRUPT, 0},
    {"age-cut-at-chunk", "age-none-large", CUT, PLAIN_MAX % 65536, NULL, NULL, ERROR_CORRUPT, 0},
    {"age-byte-behind", "age-lz4", APPEND, 0, NULL, "\n", ERROR_CORRUPT, 0},
    {"age-payload-damaged", "age-none-large", FLIP_AT_END, 40000, NULL, NULL, ERROR_CORRUPT, 0},
    {"age-label-size-changed", "age-lz4", REPLACE, 0, " 0000000000001000 ", " 0000000000001001 ",
     ERROR_CORRUPT, 0},
    {"age-renamed", "age-lz4", REPLACE, 0, "000000010000000000000001/", "000000010000000000000002/",
     ERROR_CORRUPT, 0},
    {"age-label-gone", "age-lz4", REPLACE, 0, "-> walstream ", "-> walscream ", ERROR_CORRUPT, 0},
    {"age-version-2", "age-lz4", REPLACE, 0, "encryption.org/v1", "encryption.org/v2",
     ERROR_CORRUPT, 0},
    {"age-armored", "age-lz4", ARMORED_NAME, 0, NULL, NULL, ERROR_CORRUPT, 0},
};

/* ---- files ---- */

static void
vector_path(const char *dir, const char *file, char *path, size_t len)
{
    (void) snprintf(path, len, VECTORS "%s/%s", dir, file);
}

static bool
vector_load(OneStore *one, const char *dir, const char *file)
{
    AUTO(free_text) char *data = NULL;
    char path[256];
    size_t len = 0;
    Error err = {0};

    vector_path(dir, file, path, sizeof path);
    if (fs_read_file(path, 1 << 20, &data, &len, &err) < 0)
    {
        diag("%s", err.msg);
        return false;
    }
    one_store_set(one, KEY, data, len);
    return true;
}

static void
vector_store(const char *dir, const char *file, const void *data, size_t len)
{
    char path[256];
    Error err = {0};

    vector_path(dir, file, path, sizeof path);

    AUTO(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    if (fd < 0)
        return; /* there already */
    if (fs_write_all(fd, data, len, path, &err) < 0)
        diag("%s", err.msg);
    diag("wrote %s", path);
}

static AgeIdentities *
identities_read(const char *file)
{
    AUTO(free_text) char *text = NULL;
    AgeIdentities *ids = NULL;
    size_t len = 0;
    Error err = {0};

    /* not age_identities_load: these are public, and so are the permissions of their files */
    if (fs_read_file(file, 4096, &text, &len, &err) < 0 || age_identities_new(&ids, &err) < 0)
    {
        diag("%s", err.msg);
        return NULL;
    }

    char *key = strstr(text, "AGE-SECRET-KEY-1");

    if (key != NULL)
        key[strcspn(key, "\n")] = '\0';
    if (key == NULL || age_identities_add(ids, key, &err) < 0)
        diag("%s has no identity", file);
    return ids;
}

/* ---- making them ---- */

static void
write_good(const AgeIdentities *ids[2])
{
    static char plain[PLAIN_MAX];

    for (size_t i = 0; i < ARRAY_COUNT(good_ones); i++)
    {
        AUTO(age_recipients_freep) AgeRecipients *recipients = NULL;
        ObjectFormat format = {0};
        ObjectPutResult result;
        OneStore one;
        Error err = {0};
        char text[64];
        int rc = 0;

        if (good_ones[i].codec == NULL)
            continue;
        one_store_init(&one);
        if (good_ones[i].lock != PLAIN)
        {
            rc = age_recipients_new(&recipients, &err);
            for (size_t k = 0; rc == 0 && k < (good_ones[i].lock == BOTH ? 2 : 1); k++)
            {
                rc = age_identities_recipient(ids[k], 0, text, sizeof text, &err);
                if (rc == 0)
                    rc = age_recipients_add(recipients, text, &err);
            }
            format.recipients = recipients;
        }
        if (rc == 0)
            rc = codec_parse(good_ones[i].codec, &format.codec, &err);
        if (rc == 0)
            rc = object_put_bytes(
                &one.store, &format, KEY, plain, plain_fill(plain, good_ones[i].len), &no_limit,
                &result, &err);
        if (rc == 0)
            vector_store("good", good_ones[i].file, one.data, one.len);
        else
            diag("%s: %s", good_ones[i].file, err.msg);
        one_store_reset(&one);
    }
}

/* Label of 4096 bytes, a frame of the first 1000, a skippable one, a zstd frame of the rest. */
static void
write_mixed(void)
{
    static char plain[PLAIN_MAX];
    TestSink sink;
    Stage *st = NULL;
    OneStore one;
    Error err = {0};

    one_store_init(&one);
    test_sink_init(&sink, 0);
    (void) plain_fill(plain, 4096);
    if (vector_load(&one, "good", "lz4") && one.len > 8)
    {
        size_t label_len = 8 + (size_t) one.data[4];

        if (stage_write(&sink.stage, one.data, label_len, &err) < 0 ||
            codec_encoder_new((CodecSpec){CODEC_LZ4, 0}, 1000, &sink.stage, &st, &err) < 0 ||
            test_push(st, (const uint8_t *) plain, 1000, 1000, &err) < 0)
            diag("%s", err.msg);
        sink.stage.state = STAGE_OPEN;
        if (stage_write(&sink.stage, "\x5A\x2A\x4D\x18\x05\0\0\0hello", 13, &err) < 0 ||
            codec_encoder_new((CodecSpec){CODEC_ZSTD, 0}, 3096, &sink.stage, &st, &err) < 0 ||
            test_push(st, (const uint8_t *) plain + 1000, 3096, 3096, &err) < 0)
            diag("%s", err.msg);
        vector_store("good", "mixed-frames", sink.data, sink.len);
    }
    test_sink_reset(&sink);
    one_store_reset(&one);
}

static void
write_bad(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(bad_ones); i++)
    {
        OneStore one;
        static uint8_t out[200000];
        size_t len, label_len;
        uint8_t *at;

        one_store_init(&one);
        if (!vector_load(&one, "good", bad_ones[i].base))
            continue;
        if (one.len < 8 || one.len > sizeof out - 100)
            continue;
        memcpy(out, one.data, one.len);
        len = one.len;
        label_len = 8 + (size_t) out[4];
        switch (bad_ones[i].damage)
        {
            case EMPTY:
                len = 0;
                break;
            case CUT:
                len -= bad_ones[i].arg;
                break;
            case APPEND:
                memcpy(out + len, bad_ones[i].text, strlen(bad_ones[i].text));
                len += strlen(bad_ones[i].text);
                break;
            case REPLACE:
                at = memmem(out, len, bad_ones[i].from, strlen(bad_ones[i].from));
                if (at != NULL)
                    memcpy(at, bad_ones[i].text, strlen(bad_ones[i].text));
                else
                    diag("%s has no %s", bad_ones[i].base, bad_ones[i].from);
                break;
            case FLIP_AT_END:
                out[len - bad_ones[i].arg] ^= 0x04;
                break;
            case NO_LABEL:
                len -= label_len;
                memmove(out, out + label_len, len);
                break;
            case LABEL_ALONE:
                len = label_len;
                break;
            case ARMORED_NAME:
                len = (size_t) snprintf(
                    (char *) out, sizeof out, "-----BEGIN AGE ENCRYPTED FILE-----\n%s\n",
                    "YWdlLWVuY3J5cHRpb24ub3JnL3YxCg==\n-----END AGE ENCRYPTED FILE-----");
                break;
        }
        vector_store("bad", bad_ones[i].file, out, len);
        one_store_reset(&one);
    }
}

/* ---- reading them ---- */

static void
read_good(const AgeIdentities *ids[2])
{
    static char plain[PLAIN_MAX];

    for (size_t i = 0; i < ARRAY_COUNT(good_ones); i++)
    {
        /* what both can open is opened with each */
        for (size_t k = 0; k < (good_ones[i].lock == BOTH ? 2 : 1); k++)
        {
            TestSink sink;
            OneStore one;
            ObjectLabel label = {0};
            Error err = {0};
            size_t len = plain_fill(plain, good_ones[i].len);

            one_store_init(&one);
            test_sink_init(&sink, 0);
            ok(vector_load(&one, "good", good_ones[i].file) &&
                   object_peek(&one.store, KEY, &no_limit, &label, &err) == 0 &&
                   label.plain_bytes == len && label.encrypted == (good_ones[i].lock != PLAIN) &&
                   object_get(
                       &one.store, KEY, ids[k], PLAIN_MAX, &sink.stage, &no_limit, NULL, &err) ==
                       0 &&
                   sink.finished && test_sink_holds(&sink, plain, len),
               "opens: %s%s %s", good_ones[i].file, k > 0 ? ", other identity" : "", err.msg);
            test_sink_reset(&sink);

            if (good_ones[i].lock == ONE)
            {
                test_sink_init(&sink, 0);
                ok(object_get(
                       &one.store, KEY, ids[1], PLAIN_MAX, &sink.stage, &no_limit, NULL, &err) <
                           0 &&
                       err.kind == ERROR_DENIED && sink.calls == 0,
                   "denied with the other identity: %s", good_ones[i].file);
                test_sink_reset(&sink);
            }
            one_store_reset(&one);
        }
    }
}

static void
read_bad(const AgeIdentities *ids[2])
{
    for (size_t i = 0; i < ARRAY_COUNT(bad_ones); i++)
    {
        TestSink sink;
        OneStore one;
        Error err = {0};
        uint64_t max = bad_ones[i].max > 0 ? bad_ones[i].max : PLAIN_MAX;

        one_store_init(&one);
        test_sink_init(&sink, 0);
        ok(vector_load(&one, "bad", bad_ones[i].file) &&
               object_get(&one.store, KEY, ids[0], max, &sink.stage, &no_limit, NULL, &err) < 0 &&
               err.kind == bad_ones[i].kind && !sink.finished && sink.len <= max,
           "refused: %s (%s)", bad_ones[i].file, err.msg);
        test_sink_reset(&sink);
        one_store_reset(&one);
    }
}

/* What FORMAT.md promises: age and lz4 or zstd are all that a person needs. */
static void
open_with_tools(void)
{
    static char plain[PLAIN_MAX];
    char age[] = "age", lz4[] = "lz4", zstd[] = "zstd", d[] = "-d", i_option[] = "-i", q[] = "-q";
    char identity[] = VECTORS "identity.txt";
    char *const decrypt[] = {age, d, i_option, identity, NULL};

    for (size_t i = 0; i < ARRAY_COUNT(good_ones); i++)
    {
        OneStore one;
        size_t len = plain_fill(plain, good_ones[i].len);
        bool good;

        if (good_ones[i].codec == NULL)
            continue; /* no tool opens frames of both codecs */

        bool is_zstd = strncmp(good_ones[i].codec, "zstd", 4) == 0;
        char *const expand[] = {is_zstd ? zstd : lz4, d, q, NULL};

        one_store_init(&one);
        good = vector_load(&one, "good", good_ones[i].file) &&
               tool_file_write("encoded", one.data, one.len);
        if (good_ones[i].lock == PLAIN)
            good = good && tool_run(expand, "encoded", "plain");
        else
            good = good && tool_run(decrypt, "encoded", "between") &&
                   tool_run(expand, "between", "plain");
        ok(good && tool_file_holds("plain", (const uint8_t *) plain, len), "%s%s -d opens: %s",
           good_ones[i].lock == PLAIN ? "" : "age -d | ", expand[0], good_ones[i].file);
        one_store_reset(&one);
    }
}

int
main(void)
{
    AUTO(age_identities_freep) AgeIdentities *one = identities_read(VECTORS "identity.txt");
    AUTO(age_identities_freep)
    AgeIdentities *other = identities_read(VECTORS "other-identity.txt");
    const AgeIdentities *ids[2] = {one, other};

    if (!ok(one != NULL && other != NULL, "the identities are there"))
        return done_testing();
    if (getenv("WALSTREAM_WRITE_VECTORS") != NULL)
    {
        write_good(ids);
        write_mixed();
        write_bad();
    }
    read_good(ids);
    read_bad(ids);
    if (!tool_files_begin())
        return 1;
    open_with_tools();
    tool_files_end();
    return done_testing();
}
