/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Frames in memory: there and back with every codec and kept contexts, read by the decoder of
 * streams and by the tools, and nothing damaged taken.
 */
#include "stream/codec_frame.h"

#include "common/bytes.h"
#include "common/fs.h"
#include "tap.h"

#include "stream_test.h"

#include "tool_test.h"

#define FRAME_MAX (1u << 20)

static const struct
{
    const char *label;
    CodecSpec spec;
    const char *tool;
} specs[] = {
    {"none", {CODEC_NONE, 0}, "lz4"},  {"lz4", {CODEC_LZ4, 0}, "lz4"},
    {"lz4:9", {CODEC_LZ4, 9}, "lz4"},  {"zstd:-5", {CODEC_ZSTD, -5}, "zstd"},
    {"zstd", {CODEC_ZSTD, 0}, "zstd"}, {"zstd:9", {CODEC_ZSTD, 9}, "zstd"},
};

static const struct
{
    const char *label;
    TestData kind;
    size_t len;
} inputs[] = {
    {"nothing", TEST_TEXT, 0},
    {"one byte", TEST_TEXT, 1},
    {"512 zeros", TEST_ZEROS, 512},
    {"64 KiB of text", TEST_TEXT, 65536},
    {"64 KiB and a byte", TEST_TEXT, 65537},
    {"a full frame of text", TEST_TEXT, FRAME_MAX},
    {"a full frame of noise", TEST_RANDOM, FRAME_MAX},
    {"a full frame of zeros", TEST_ZEROS, FRAME_MAX},
};

static void
test_round_trip(void)
{
    AUTO(codec_frame_decoder_freep) CodecFrameDecoder *dec = NULL;
    Error err = {0};
    uint8_t *plain = malloc(FRAME_MAX);

    if (plain == NULL || codec_frame_decoder_new(&dec, &err) < 0)
        abort();
    for (size_t s = 0; s < ARRAY_COUNT(specs); s++)
    {
        AUTO(codec_frame_encoder_freep) CodecFrameEncoder *enc = NULL;
        char tool[16], d[] = "-d", q[] = "-q";
        char *const expand[] = {tool, d, q, NULL};

        (void) snprintf(tool, sizeof tool, "%s", specs[s].tool);
        if (!ok(codec_frame_encoder_new(specs[s].spec, FRAME_MAX, &enc, &err) == 0, "%s: encoder",
                specs[s].label))
            continue;
        for (size_t i = 0; i < ARRAY_COUNT(inputs); i++)
        {
            size_t len = inputs[i].len;
            uint8_t *data = test_data_new(inputs[i].kind, len);
            uint8_t *frame = malloc(codec_frame_bound(enc));
            size_t frame_bytes = 0;
            Stage *st = NULL;
            TestSink sink;

            if (frame == NULL)
                abort();
            test_sink_init(&sink, 0);
            memset(plain, 0xEE, FRAME_MAX);
            ok(codec_frame_compress(enc, data, len, frame, &frame_bytes, &err) == 0 &&
                   frame_bytes <= codec_frame_bound(enc) &&
                   codec_frame_decompress(dec, frame, frame_bytes, plain, len, &err) == 0 &&
                   memcmp(plain, data, len) == 0,
               "%s: %s there and back %s", specs[s].label, inputs[i].label, err.msg);
            ok(codec_decoder_new(FRAME_MAX, &sink.stage, &st, &err) == 0 &&
                   test_push(st, frame, frame_bytes, 10000, &err) == 0 &&
                   test_sink_holds(&sink, data, len),
               "%s: %s by the decoder of streams", specs[s].label, inputs[i].label);
            ok(tool_file_write("encoded", frame, frame_bytes) &&
                   tool_run(expand, "encoded", "plain") && tool_file_holds("plain", data, len),
               "%s: %s by %s -d", specs[s].label, inputs[i].label, tool);
            if (len > 0)
                ok(codec_frame_decompress(dec, frame, frame_bytes, plain, len - 1, &err) < 0 &&
                       err.kind == ERROR_CORRUPT && plain[len - 1] == data[len - 1],
                   "%s: %s into one byte less", specs[s].label, inputs[i].label);
            if (len < FRAME_MAX)
                ok(codec_frame_decompress(dec, frame, frame_bytes, plain, len + 1, &err) < 0 &&
                       err.kind == ERROR_CORRUPT,
                   "%s: %s where one byte more is due", specs[s].label, inputs[i].label);
            test_sink_reset(&sink);
            free(frame);
            free(data);
        }
    }
    free(plain);
}

static void
test_damaged(void)
{
    enum
    {
        LEN = 3000
    };
    AUTO(codec_frame_decoder_freep) CodecFrameDecoder *dec = NULL;
    Error err = {0};
    uint8_t plain[LEN];
    uint8_t *data = test_data_new(TEST_TEXT, LEN);

    if (codec_frame_decoder_new(&dec, &err) < 0)
        abort();
    for (size_t s = 0; s < ARRAY_COUNT(specs); s++)
    {
        AUTO(codec_frame_encoder_freep) CodecFrameEncoder *enc = NULL;
        uint8_t frame[2 * LEN];
        size_t n = 0;
        bool good = codec_frame_encoder_new(specs[s].spec, LEN, &enc, &err) == 0 &&
                    codec_frame_bound(enc) <= sizeof frame - 16 &&
                    codec_frame_compress(enc, data, LEN, frame, &n, &err) == 0;

        /* one memory block of exactly these bytes for each, so that reading behind it is seen */
        for (size_t cut = 0; good && cut < n; cut++)
        {
            uint8_t *copy = malloc(cut + 1);

            if (copy == NULL)
                abort();
            memcpy(copy, frame, cut);
            good = codec_frame_decompress(dec, copy, cut, plain, LEN, &err) < 0 &&
                   err.kind == ERROR_CORRUPT;
            free(copy);
        }
        ok(good, "%s: cut at every length", specs[s].label);
        for (size_t at = 0; good && at < n; at++)
        {
            frame[at] ^= 0x10;
            /*
             * a bit that means nothing may change, the content may not; only lz4 has no checksum:
             * there it is the digest of the part that tells, and here that nothing is overrun
             */
            if (codec_frame_decompress(dec, frame, n, plain, LEN, &err) == 0)
                good = specs[s].spec.method == CODEC_LZ4 || memcmp(plain, data, LEN) == 0;
            else
                good = err.kind == ERROR_CORRUPT || err.kind == ERROR_NOMEM;
            frame[at] ^= 0x10;
            if (!good)
                diag("byte %zu: %s", at, err.msg);
        }
        ok(good, "%s: damaged at every byte", specs[s].label);
        memcpy(frame + n, frame, MIN(n, (size_t) 16));
        ok(codec_frame_decompress(dec, frame, n + 1, plain, LEN, &err) < 0 &&
               err.kind == ERROR_CORRUPT,
           "%s: a byte behind it", specs[s].label);
        ok(codec_frame_decompress(dec, frame, n, plain, LEN, &err) == 0 &&
               memcmp(plain, data, LEN) == 0,
           "%s: whole, after all that", specs[s].label);
    }
    free(data);

    static const struct
    {
        const char *label, *bytes;
        size_t len;
    } foreign[] = {
        {"nothing", "", 0},
        {"text", "something else", 14},
        {"a skippable frame", "\x50\x2A\x4D\x18\x00\x00\x00\x00", 8},
        {"a magic alone", "\x04\x22\x4D\x18", 4},
    };

    for (size_t i = 0; i < ARRAY_COUNT(foreign); i++)
        ok(codec_frame_decompress(
               dec, foreign[i].bytes, foreign[i].len, plain, foreign[i].len == 8 ? 0 : LEN, &err) <
                   0 &&
               err.kind == ERROR_CORRUPT,
           "refused: %s", foreign[i].label);
}

int
main(void)
{
    if (!tool_files_begin())
        return 1;
    test_round_trip();
    test_damaged();
    tool_files_end();
    return done_testing();
}
