/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Conformance of every codec, and that the lz4 and zstd tools open what we write and we what they
 * write. A new codec is one row in specs[].
 */
#include "stream/codec.h"

#include <malloc.h>

#include "common/bytes.h"
#include "common/clock.h"
#include "common/fs.h"
#include "tap.h"

#include "stream_test.h"

#include "tool_test.h"

static const struct
{
    const char *name;
    const char *tool;      /* the command-line tool that opens it */
    size_t small_memory;   /* bound of an encoder's memory for 4 KiB ... */
    size_t segment_memory; /* ... and for 16 MiB */
} specs[] = {
    {"none", "lz4", 16 << 10, 80 << 10},    {"lz4", "lz4", 320 << 10, 4 << 20},
    {"lz4:9", "lz4", 576 << 10, 4 << 20},   {"zstd:-5", "zstd", 320 << 10, 2 << 20},
    {"zstd:1", "zstd", 320 << 10, 2 << 20}, {"zstd", "zstd", 320 << 10, 5 << 20},
    {"zstd:19", "zstd", 1 << 20, 96 << 20},
};

#define SPEC_COUNT ARRAY_COUNT(specs)

static CodecSpec
spec_of(const char *name)
{
    CodecSpec spec = {0};
    Error err = {0};

    if (codec_parse(name, &spec, &err) < 0)
        abort();
    return spec;
}

/* Encodes into sink, which the caller resets. */
static int
encode(
    const char *name, uint64_t hint, const uint8_t *data, size_t len, size_t step, TestSink *sink,
    Error *err)
{
    Stage *st = NULL;

    if (codec_encoder_new(spec_of(name), hint, &sink->stage, &st, err) < 0)
        return -1;
    return test_push(st, data, len, step, err);
}

static int
decode(uint64_t max, const uint8_t *data, size_t len, size_t step, TestSink *sink, Error *err)
{
    Stage *st = NULL;

    if (codec_decoder_new(max, &sink->stage, &st, err) < 0)
        return -1;
    return test_push(st, data, len, step, err);
}

/* Whether data decodes to want, given in pieces of step. */
static bool
decodes_to(const uint8_t *data, size_t len, size_t step, const uint8_t *want, size_t want_len)
{
    TestSink sink;
    Error err = {0};

    test_sink_init(&sink, 0);

    bool good = decode(want_len, data, len, step, &sink, &err) == 0 && sink.finished &&
                test_sink_holds(&sink, want, want_len);

    if (!good)
        diag("decode: %s, %zu bytes of %zu", err.msg, sink.len, want_len);
    test_sink_reset(&sink);
    return good;
}

/* Whether data is refused as CORRUPT, with nothing finished. */
static bool
is_corrupt(const uint8_t *data, size_t len, uint64_t max)
{
    TestSink sink;
    Error err = {0};

    test_sink_init(&sink, 0);

    bool good = decode(max, data, len, len > 0 ? len : 1, &sink, &err) < 0 &&
                err.kind == ERROR_CORRUPT && !sink.finished && sink.len <= max;

    test_sink_reset(&sink);
    return good;
}

/* ---- names ---- */

static const struct
{
    const char *text;
    int rc;
    CodecMethod method;
    int level;
    const char *formatted;
} names[] = {
    {"none", 0, CODEC_NONE, 0, "none"},
    {"lz4", 0, CODEC_LZ4, 0, "lz4"},
    {"lz4:1", 0, CODEC_LZ4, 1, "lz4:1"},
    {"lz4:12", 0, CODEC_LZ4, 12, "lz4:12"},
    {"zstd", 0, CODEC_ZSTD, 0, "zstd"},
    {"zstd:19", 0, CODEC_ZSTD, 19, "zstd:19"},
    {"zstd:-7", 0, CODEC_ZSTD, -7, "zstd:-7"},
    {"zstd:0", 0, CODEC_ZSTD, 0, "zstd"},
    {"", -1, 0, 0, NULL},
    {":", -1, 0, 0, NULL},
    {"gzip", -1, 0, 0, NULL},
    {"lz", -1, 0, 0, NULL},
    {"lz44", -1, 0, 0, NULL},
    {"LZ4", -1, 0, 0, NULL},
    {"none:", -1, 0, 0, NULL},
    {"none:1", -1, 0, 0, NULL},
    {"lz4:", -1, 0, 0, NULL},
    {"lz4:0", -1, 0, 0, NULL},
    {"lz4:13", -1, 0, 0, NULL},
    {"lz4:-1", -1, 0, 0, NULL},
    {"lz4:1 ", -1, 0, 0, NULL},
    {"zstd:20", -1, 0, 0, NULL},
    {"zstd:-8", -1, 0, 0, NULL},
    {"zstd:-0", -1, 0, 0, NULL},
    {"zstd:+3", -1, 0, 0, NULL},
    {"zstd:--3", -1, 0, 0, NULL},
    {"zstd:3:3", -1, 0, 0, NULL},
    {"zstd:4294967299", -1, 0, 0, NULL},
};

static void
test_names(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
    {
        CodecSpec spec = {0};
        Error err = {0};
        char buf[16];
        int rc = codec_parse(names[i].text, &spec, &err);

        ok(rc == names[i].rc &&
               (rc < 0 ? err.kind == ERROR_USAGE
                       : spec.method == names[i].method && spec.level == names[i].level &&
                             strcmp(codec_format(spec, buf, sizeof buf), names[i].formatted) == 0),
           "name \"%s\"", names[i].text);
    }
}

/* ---- what goes in comes out ---- */

static const struct
{
    const char *label;
    TestData kind;
    size_t len;
} inputs[] = {
    {"empty", TEST_TEXT, 0},
    {"one byte", TEST_TEXT, 1},
    {"4 KiB of text", TEST_TEXT, 4096},
    {"64 KiB of text", TEST_TEXT, 65536},
    {"64 KiB less one of noise", TEST_RANDOM, 65535},
    {"64 KiB and one of noise", TEST_RANDOM, 65537},
    {"1 MiB of noise", TEST_RANDOM, 1 << 20},
    {"3 MiB of text", TEST_TEXT, 3 << 20},
    {"5 MiB of zeros", TEST_ZEROS, 5 << 20},
};

static void
test_round_trip(void)
{
    static const size_t steps[] = {1021, 65536, SIZE_MAX / 2};

    for (size_t s = 0; s < SPEC_COUNT; s++)
    {
        for (size_t i = 0; i < ARRAY_COUNT(inputs); i++)
        {
            size_t len = inputs[i].len;
            uint8_t *data = test_data_new(inputs[i].kind, len);
            const uint64_t hints[] = {0, len, 4096}; /* not known, right, wrong */
            bool good = true;

            for (size_t h = 0; h < ARRAY_COUNT(hints); h++)
            {
                TestSink sink;
                Error err = {0};
                size_t step = steps[(h + i) % ARRAY_COUNT(steps)];

                test_sink_init(&sink, 0);
                good = encode(specs[s].name, hints[h], data, len, step, &sink, &err) == 0 &&
                       sink.finished && good;
                good = good && decodes_to(sink.data, sink.len, steps[h], data, len);
                /* noise must not grow by more than one per cent and the frame */
                good = good && sink.len <= len + len / 100 + 64;
                test_sink_reset(&sink);
            }
            ok(good, "%s: %s", specs[s].name, inputs[i].label);
            free(data);
        }
    }
}

static void
test_cuts(void)
{
    enum
    {
        LEN = 700
    };
    uint8_t *data = test_data_new(TEST_TEXT, LEN);

    for (size_t s = 0; s < SPEC_COUNT; s++)
    {
        bool good = true;
        TestSink sink;
        Error err = {0};

        for (size_t cut = 0; cut <= LEN; cut++)
        {
            Stage *st = NULL;

            test_sink_init(&sink, 0);
            good = codec_encoder_new(spec_of(specs[s].name), LEN, &sink.stage, &st, &err) == 0 &&
                   stage_write(st, data, cut, &err) == 0 && good;
            good = test_push(st, data + cut, LEN - cut, LEN, &err) == 0 && good;
            good = good && decodes_to(sink.data, sink.len, sink.len, data, LEN);
            if (cut < LEN)
                test_sink_reset(&sink);
        }
        ok(good, "%s: encoder's input cut at every byte", specs[s].name);

        TestSink encoded = sink;

        for (size_t cut = 0; cut <= encoded.len; cut++)
        {
            Stage *st = NULL;

            test_sink_init(&sink, 0);
            good = codec_decoder_new(LEN, &sink.stage, &st, &err) == 0 &&
                   stage_write(st, encoded.data, cut, &err) == 0 && good;
            good = test_push(st, encoded.data + cut, encoded.len - cut, LEN, &err) == 0 && good;
            good = good && test_sink_holds(&sink, data, LEN);
            test_sink_reset(&sink);
        }
        ok(good, "%s: decoder's input cut at every byte", specs[s].name);
        ok(decodes_to(encoded.data, encoded.len, 1, data, LEN),
           "%s: decoder's input in single bytes", specs[s].name);
        test_sink_reset(&encoded);
    }
    free(data);
}

/* ---- a successor that fails ---- */

static void
test_failing_successor(void)
{
    enum
    {
        LEN = 300000
    };
    uint8_t *data = test_data_new(TEST_RANDOM, LEN);

    for (size_t s = 0; s < SPEC_COUNT; s++)
    {
        for (int decoding = 0; decoding < 2; decoding++)
        {
            TestSink encoded;
            bool good = true;
            bool done = false;
            uint64_t n = 0;
            Error err = {0};

            test_sink_init(&encoded, 0);
            good = encode(specs[s].name, LEN, data, LEN, 10000, &encoded, &err) == 0;
            while (!done && good && n < 1000)
            {
                TestSink sink;

                err = (Error){0};
                test_sink_init(&sink, ++n);

                int rc = decoding ? decode(LEN, encoded.data, encoded.len, 10000, &sink, &err)
                                  : encode(specs[s].name, LEN, data, LEN, 10000, &sink, &err);

                done = rc == 0;
                good = done ? sink.finished && sink.calls == n - 1
                            : err.kind == ERROR_IO && sink.calls == n && !sink.finished;
                test_sink_reset(&sink);
            }
            ok(good && done && n > 3, "%s: %s, the successor fails at each of %d calls",
               specs[s].name, decoding ? "decoder" : "encoder", (int) n - 1);
            test_sink_reset(&encoded);
        }
    }
    free(data);
}

/* ---- damage ---- */

static void
test_damage(void)
{
    static const uint8_t flips[] = {0x01, 0x10, 0x80, 0xFF};
    enum
    {
        LEN = 3000
    };
    uint8_t *data = test_data_new(TEST_TEXT, LEN);

    for (size_t s = 0; s < SPEC_COUNT; s++)
    {
        TestSink encoded, sink;
        Error err = {0};
        bool good = true;
        int refused = 0;

        test_sink_init(&encoded, 0);
        good = encode(specs[s].name, LEN, data, LEN, LEN, &encoded, &err) == 0;
        for (size_t len = 0; len < encoded.len; len++)
            good = is_corrupt(encoded.data, len, LEN) && good;
        ok(good, "%s: truncated at every length", specs[s].name);

        for (size_t at = 0; at < encoded.len; at++)
        {
            for (size_t f = 0; f < ARRAY_COUNT(flips); f++)
            {
                test_sink_init(&sink, 0);
                encoded.data[at] ^= flips[f];
                if (decode(LEN, encoded.data, encoded.len, encoded.len, &sink, &err) < 0)
                {
                    good = err.kind == ERROR_CORRUPT && !sink.finished && good;
                    refused++;
                }
                else if (!test_sink_holds(&sink, data, LEN))
                {
                    diag("byte %zu ^ %02x went unnoticed", at, flips[f]);
                    good = false;
                }
                encoded.data[at] ^= flips[f];
                test_sink_reset(&sink);
            }
        }
        ok(good && refused > (int) encoded.len * 3, "%s: a damaged byte anywhere", specs[s].name);

        for (int b = 0; b < 256; b++)
        {
            uint8_t *longer = malloc(encoded.len + 1);

            if (longer == NULL)
                abort();
            memcpy(longer, encoded.data, encoded.len);
            longer[encoded.len] = (uint8_t) b;
            good = is_corrupt(longer, encoded.len + 1, LEN) && good;
            free(longer);
        }
        ok(good, "%s: a byte behind the frame", specs[s].name);
        ok(is_corrupt(encoded.data, encoded.len, LEN - 1) &&
               decodes_to(encoded.data, encoded.len, encoded.len, data, LEN),
           "%s: one byte more than allowed", specs[s].name);
        test_sink_reset(&encoded);
    }
    free(data);
}

static void
test_expansion(void)
{
    enum
    {
        LEN = 64 << 20
    };
    uint8_t *data = test_data_new(TEST_ZEROS, LEN);

    for (size_t s = 1; s < SPEC_COUNT - 1; s++)
    {
        TestSink encoded;
        Error err = {0};

        test_sink_init(&encoded, 0);
        ok(encode(specs[s].name, 0, data, LEN, LEN, &encoded, &err) == 0 &&
               encoded.len < LEN / 200 && is_corrupt(encoded.data, encoded.len, 1 << 20),
           "%s: %zu bytes that would become 64 MiB", specs[s].name, encoded.len);
        test_sink_reset(&encoded);
    }
    free(data);
}

/* ---- several frames ---- */

static size_t
put_skippable(uint8_t *to, uint32_t magic, size_t len)
{
    put_u32le(to, magic);
    put_u32le(to + 4, (uint32_t) len);
    memset(to + 8, 0x28, len);
    return 8 + len;
}

static void
test_frames(void)
{
    enum
    {
        LEN = 5000
    };
    uint8_t *data = test_data_new(TEST_TEXT, LEN);
    uint8_t skips[3][64];
    size_t skip_lens[3];
    static uint8_t all[200000];
    static uint8_t want[SPEC_COUNT * LEN];
    size_t all_len = 0;
    bool good = true;
    Error err = {0};

    skip_lens[0] = put_skippable(skips[0], 0x184D2A50, 30);
    skip_lens[1] = put_skippable(skips[1], 0x184D2A5F, 1);
    skip_lens[2] = put_skippable(skips[2], 0x184D2A55, 0);

    /* every codec behind every other, skippable frames before, between and behind */
    for (size_t s = 0; s < SPEC_COUNT; s++)
    {
        TestSink encoded;

        memcpy(all + all_len, skips[s % 3], skip_lens[s % 3]);
        all_len += skip_lens[s % 3];
        test_sink_init(&encoded, 0);
        good = encode(specs[s].name, LEN, data, LEN, LEN, &encoded, &err) == 0 && good;
        memcpy(all + all_len, encoded.data, encoded.len);
        all_len += encoded.len;
        memcpy(want + s * LEN, data, LEN);
        test_sink_reset(&encoded);
    }
    memcpy(all + all_len, skips[0], skip_lens[0]);
    all_len += skip_lens[0];
    ok(good && decodes_to(all, all_len, all_len, want, sizeof want),
       "frames of all codecs in a row");
    ok(decodes_to(all, all_len, 1, want, sizeof want), "frames of all codecs, in single bytes");
    ok(is_corrupt(all, all_len - 1, sizeof want), "truncated in the skippable frame at the end");
    ok(is_corrupt(all, all_len - skip_lens[0] + 5, sizeof want), "truncated in its length");
    ok(is_corrupt(all, all_len, sizeof want - 1), "the limit counts over all frames");
    ok(is_corrupt(skips[0], skip_lens[0], 100), "a skippable frame alone");
    ok(is_corrupt(all, 0, 100), "nothing at all");
    ok(is_corrupt((const uint8_t *) "plain text that is no frame", 27, 100), "no frame");
    free(data);
}

/* ---- memory ---- */

static size_t
memory_used(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

/* Under a sanitizer mallinfo2 counts nothing, and this says little. */
static void
test_memory(void)
{
    static const struct
    {
        const char *label;
        size_t len;
    } sizes[] = {{"4 KiB", 4096}, {"16 MiB", 16 << 20}};
    uint8_t *data = test_data_new(TEST_TEXT, 16 << 20);

    for (size_t s = 0; s < SPEC_COUNT; s++)
    {
        for (size_t i = 0; i < ARRAY_COUNT(sizes); i++)
        {
            size_t bound = i == 0 ? specs[s].small_memory : specs[s].segment_memory;
            Stage *digest = NULL;
            Stage *st = NULL;
            Error err = {0};
            size_t used = 0;
            size_t step = MIN(sizes[i].len, (size_t) 256 << 10);
            bool good = stage_digest_new(NULL, &digest, &err) == 0;
            size_t before = memory_used();
            int64_t begin = clock_monotonic_us();

            good =
                codec_encoder_new(spec_of(specs[s].name), sizes[i].len, digest, &st, &err) == 0 &&
                good;
            /* level 19 takes long for all of it, and has taken its memory with the first bytes */
            for (size_t at = 0; at < sizes[i].len && at < (2 << 20); at += step)
            {
                good = stage_write(st, data + at, step, &err) == 0 && good;
                used = MAX(used, memory_used() - before);
            }
            good = stage_finish(st, &err) == 0 && good;
            stage_free(st);

            int64_t took = clock_monotonic_us() - begin;

            ok(good && used <= bound, "%s: memory for %s: %zu KiB", specs[s].name, sizes[i].label,
               used >> 10);
            diag("%s: %s took %lld us", specs[s].name, sizes[i].label, (long long) took);
        }
    }
    free(data);
}

/* ---- the command-line tools ---- */

static void
test_tools_read(void)
{
    static uint8_t skippable[64];
    size_t skippable_len = put_skippable(skippable, 0x184D2A50, 40);

    for (size_t s = 0; s < SPEC_COUNT; s++)
    {
        for (size_t i = 0; i < ARRAY_COUNT(inputs); i++)
        {
            char tool[8];
            char path[128];
            char *const from_stdin[] = {tool, (char[]){"-d"}, (char[]){"-q"}, NULL};
            char *const from_file[] = {tool,           (char[]){"-d"}, (char[]){"-q"},
                                       (char[]){"-c"}, path,           NULL};
            uint8_t *data = test_data_new(inputs[i].kind, inputs[i].len);
            TestSink encoded;
            Error err = {0};
            bool good;

            (void) snprintf(tool, sizeof tool, "%s", specs[s].tool);
            tool_file_path("encoded", path, sizeof path);
            test_sink_init(&encoded, 0);
            /* as in an object: behind a skippable frame */
            good = stage_write(&encoded.stage, skippable, skippable_len, &err) == 0 &&
                   encode(
                       specs[s].name, inputs[i].len, data, inputs[i].len, 1 << 20, &encoded,
                       &err) == 0 &&
                   tool_file_write("encoded", encoded.data, encoded.len);
            good = good && tool_run(from_stdin, "encoded", "plain") &&
                   tool_file_holds("plain", data, inputs[i].len) &&
                   tool_run(from_file, "encoded", "plain") &&
                   tool_file_holds("plain", data, inputs[i].len);
            ok(good, "%s -d opens %s: %s", specs[s].tool, specs[s].name, inputs[i].label);
            test_sink_reset(&encoded);
            free(data);
        }
    }
}

static void
test_tools_write(void)
{
    static char *const commands[][8] = {
        {"lz4", "-1", "-q", "-c"},
        {"lz4", "-9", "-q", "-c"},
        {"lz4", "-BD", "-q", "-c"},
        {"lz4", "-q", "-B7", "-BD", "-BX", "-c"},
        {"lz4", "-q", "-B4", "--no-frame-crc", "-c"},
        {"lz4", "--content-size", "-q", "-c", "ARG"},
        {"zstd", "-1", "-q", "-c"},
        {"zstd", "-19", "-q", "-c"},
        {"zstd", "--no-check", "-q", "-c"},
        {"zstd", "-q", "-c", "ARG"},
        {"zstd", "-T2", "-q", "-c"},
    };

    for (size_t c = 0; c < ARRAY_COUNT(commands); c++)
    {
        char title[128] = "";
        bool good = true;
        char path[128];
        char *argv[9] = {NULL};

        tool_file_path("plain", path, sizeof path);
        for (size_t a = 0; a < 8 && commands[c][a] != NULL; a++)
        {
            size_t used = strlen(title);

            (void) snprintf(title + used, sizeof title - used, "%s ", commands[c][a]);
            argv[a] = strcmp(commands[c][a], "ARG") == 0 ? path : commands[c][a];
        }
        for (size_t i = 0; i < ARRAY_COUNT(inputs); i++)
        {
            uint8_t *data = test_data_new(inputs[i].kind, inputs[i].len);
            char encoded_path[128];
            char *encoded = NULL;
            size_t encoded_len = 0;
            Error err = {0};

            tool_file_path("encoded", encoded_path, sizeof encoded_path);
            if (!tool_file_write("plain", data, inputs[i].len) ||
                !tool_run(argv, "plain", "encoded") ||
                fs_read_file(encoded_path, 64 << 20, &encoded, &encoded_len, &err) < 0 ||
                !decodes_to((const uint8_t *) encoded, encoded_len, 65536, data, inputs[i].len))
            {
                diag("%s: %s %s", title, inputs[i].label, err.msg);
                good = false;
            }
            free(encoded);
            free(data);
        }
        ok(good, "we open what is made by %s", title);
    }
}

int
main(void)
{
    if (!tool_files_begin())
        return 1;
    test_names();
    test_memory();
    test_round_trip();
    test_cuts();
    test_failing_successor();
    test_damage();
    test_expansion();
    test_frames();
    test_tools_read();
    test_tools_write();
    tool_files_end();
    return done_testing();
}
