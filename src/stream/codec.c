/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Names of the methods, and the decoder, which finds out by itself what it reads; see codec.h.
 *
 * The decoder between frames and in them:
 *
 *          4 bytes are a frame's magic            end of frame
 *   MAGIC --------------------------> FRAME ---------------------> MAGIC
 *     |  4 bytes are a skippable magic           4 bytes             all passed over
 *     \---------------------------> SKIP_LENGTH ---------> SKIP ------------------> MAGIC
 *
 * Finish is allowed in MAGIC, with no byte of a further magic taken and at least one frame read.
 *
 * A frame without a content checksum is taken: the codecs' own tools make such on request, and an
 * object's label has the SHA-256 of the plain bytes, which the reader of the object compares.
 */
#include "stream/codec.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/parse.h"
#include "stream/codec_internal.h"

static const struct
{
    const char *name;
    int level_min, level_max; /* equal: the method has no levels */
    int (*encoder_new)(int level, uint64_t hint, Stage *next, Stage **out, Error *err);
} codec_methods[] = {
    [CODEC_NONE] = {"none", 0, 0, codec_none_encoder_new},
    [CODEC_LZ4] = {"lz4", 1, 12, codec_lz4_encoder_new},
    [CODEC_ZSTD] = {"zstd", -7, 19, codec_zstd_encoder_new},
};

static const CodecFrameOps *const codec_frames[] = {&codec_lz4_frame_ops, &codec_zstd_frame_ops};

/* ---- names ---- */

static bool
codec_parse_level(const char *text, int *out)
{
    bool negative = text[0] == '-';
    uint32_t value;

    if (!parse_u32(text + (negative ? 1 : 0), &value) || value > 1000 || (negative && value == 0))
        return false;
    *out = negative ? -(int) value : (int) value;
    return true;
}

int
codec_parse(const char *text, CodecSpec *out, Error *err)
{
    size_t name_len = strcspn(text, ":");

    for (size_t i = 0; i < ARRAY_COUNT(codec_methods); i++)
    {
        int min = codec_methods[i].level_min;
        int max = codec_methods[i].level_max;
        CodecSpec spec = {.method = (CodecMethod) i};

        if (strlen(codec_methods[i].name) != name_len ||
            memcmp(codec_methods[i].name, text, name_len) != 0)
            continue;
        if (text[name_len] == ':')
        {
            if (min == max)
                return error_set(err, ERROR_USAGE, "compression method \"%s\" has no levels", text);
            if (!codec_parse_level(text + name_len + 1, &spec.level) || spec.level < min ||
                spec.level > max)
                return error_set(
                    err, ERROR_USAGE, "level of compression method \"%s\" is not in %d..%d", text,
                    min, max);
        }
        *out = spec;
        return 0;
    }
    (void) error_set(err, ERROR_USAGE, "unknown compression method \"%s\"", text);
    return error_hint(err, "Known are none, lz4, lz4:LEVEL (1..12), zstd, zstd:LEVEL (-7..19).");
}

char *
codec_format(CodecSpec spec, char *buf, size_t len)
{
    const char *name = codec_methods[spec.method].name;

    if (spec.level == 0)
        (void) snprintf(buf, len, "%s", name);
    else
        (void) snprintf(buf, len, "%s:%d", name, spec.level);
    return buf;
}

int
codec_encoder_new(CodecSpec spec, uint64_t plain_bytes_hint, Stage *next, Stage **out, Error *err)
{
    assert((size_t) spec.method < ARRAY_COUNT(codec_methods));
    assert(
        spec.level == 0 || (spec.level >= codec_methods[spec.method].level_min &&
                            spec.level <= codec_methods[spec.method].level_max));
    return codec_methods[spec.method].encoder_new(spec.level, plain_bytes_hint, next, out, err);
}

/* ---- the decoder ---- */

#define CODEC_OUT_BYTES 65536

typedef enum CodecState
{
    CODEC_MAGIC,
    CODEC_FRAME,
    CODEC_SKIP_LENGTH,
    CODEC_SKIP
} CodecState;

typedef struct CodecDecoder
{
    Stage stage;
    CodecState state;
    uint8_t word[4]; /* magic or length being collected */
    size_t word_len;
    uint32_t skip_left;
    size_t frame;                         /* FRAME: index in codec_frames */
    void *ctx[ARRAY_COUNT(codec_frames)]; /* opened when first needed */
    bool any_frame;
    uint64_t plain_bytes;
    uint64_t max_plain_bytes;
    uint8_t out[CODEC_OUT_BYTES];
} CodecDecoder;

/* Runs the frame's decoder over all of the input or to the end of the frame. */
static int
codec_decode_frame(CodecDecoder *d, const uint8_t **in, size_t *in_len, Error *err)
{
    CodecStep step = {.in = *in, .in_len = *in_len, .out = d->out, .out_cap = sizeof d->out};

    do
    {
        if (codec_frames[d->frame]->step(d->ctx[d->frame], &step, err) < 0)
            return -1;
        if (step.out_len > d->max_plain_bytes - d->plain_bytes)
            return error_set(
                err, ERROR_CORRUPT, "could not decompress: more than the %llu bytes allowed",
                (unsigned long long) d->max_plain_bytes);
        d->plain_bytes += step.out_len;
        if (stage_write(d->stage.next, d->out, step.out_len, err) < 0)
            return -1;
        /* a full buffer may mean that there is more to come, even without further input */
    } while (!step.frame_done && (step.in_len > 0 || step.out_len == step.out_cap));

    *in = step.in;
    *in_len = step.in_len;
    if (step.frame_done)
        d->state = CODEC_MAGIC;
    return 0;
}

/* The word is complete: what begins here? */
static int
codec_decode_magic(CodecDecoder *d, Error *err)
{
    uint32_t magic = get_u32le(d->word);

    d->word_len = 0;
    if ((magic & CODEC_SKIPPABLE_MASK) == CODEC_SKIPPABLE_MAGIC)
    {
        d->state = CODEC_SKIP_LENGTH;
        return 0;
    }
    for (size_t i = 0; i < ARRAY_COUNT(codec_frames); i++)
    {
        const uint8_t *in = d->word;
        size_t in_len = sizeof d->word;

        if (codec_frames[i]->magic != magic)
            continue;
        if (d->ctx[i] == NULL && codec_frames[i]->open(d->max_plain_bytes, &d->ctx[i], err) < 0)
            return -1;
        d->frame = i;
        d->any_frame = true;
        d->state = CODEC_FRAME;
        return codec_decode_frame(d, &in, &in_len, err);
    }
    return error_set(
        err, ERROR_CORRUPT,
        "could not decompress: %s, but neither an lz4 nor a zstd frame (magic %08x)",
        d->any_frame ? "data goes on behind a frame" : "data begins", (unsigned) magic);
}

static int
codec_decoder_write(Stage *st, const void *buf, size_t len, Error *err)
{
    CodecDecoder *d = (CodecDecoder *) st;
    const uint8_t *in = buf;

    while (len > 0)
    {
        if (d->state == CODEC_FRAME)
        {
            if (codec_decode_frame(d, &in, &len, err) < 0)
                return -1;
            continue;
        }
        if (d->state == CODEC_SKIP)
        {
            uint32_t n = (uint32_t) MIN((size_t) d->skip_left, len);

            in += n;
            len -= n;
            d->skip_left -= n;
            if (d->skip_left == 0)
                d->state = CODEC_MAGIC;
            continue;
        }

        size_t n = MIN(sizeof d->word - d->word_len, len);

        memcpy(d->word + d->word_len, in, n);
        d->word_len += n;
        in += n;
        len -= n;
        if (d->word_len < sizeof d->word)
            break;
        if (d->state == CODEC_MAGIC)
        {
            if (codec_decode_magic(d, err) < 0)
                return -1;
        }
        else
        {
            d->word_len = 0;
            d->skip_left = get_u32le(d->word);
            d->state = d->skip_left > 0 ? CODEC_SKIP : CODEC_MAGIC;
        }
    }
    return 0;
}

static int
codec_decoder_finish(Stage *st, Error *err)
{
    const CodecDecoder *d = (const CodecDecoder *) st;

    if (d->state != CODEC_MAGIC || d->word_len > 0)
        return error_set(err, ERROR_CORRUPT, "could not decompress: data ends within a frame");
    if (!d->any_frame)
        return error_set(err, ERROR_CORRUPT, "could not decompress: there is no frame");
    return 0;
}

static void
codec_decoder_destroy(Stage *st)
{
    CodecDecoder *d = (CodecDecoder *) st;

    for (size_t i = 0; i < ARRAY_COUNT(codec_frames); i++)
        codec_frames[i]->close(d->ctx[i]);
    free(d);
}

static const StageOps codec_decoder_ops = {
    .name = "decompress",
    .write = codec_decoder_write,
    .finish = codec_decoder_finish,
    .destroy = codec_decoder_destroy,
};

int
codec_decoder_new(uint64_t max_plain_bytes, Stage *next, Stage **out, Error *err)
{
    CodecDecoder *d = calloc(1, sizeof *d);

    if (d == NULL)
        return error_nomem(err);
    stage_init(&d->stage, &codec_decoder_ops, next);
    d->state = CODEC_MAGIC;
    d->max_plain_bytes = max_plain_bytes;
    *out = &d->stage;
    return 0;
}

/* ---- the first frame ---- */

/* Steps through it; ctx is that of ops. */
static int
codec_step_first(
    const CodecFrameOps *ops, void *ctx, const uint8_t *in, size_t in_len, uint64_t max_plain_bytes,
    Stage *sink, Error *err)
{
    uint8_t out[16384];
    CodecStep step = {.in = in, .in_len = in_len, .out = out, .out_cap = sizeof out};
    uint64_t plain_bytes = 0;

    do
    {
        if (ops->step(ctx, &step, err) < 0)
            return -1;
        if (step.out_len > max_plain_bytes - plain_bytes)
            return error_set(
                err, ERROR_CORRUPT, "could not decompress: more than the %llu bytes allowed",
                (unsigned long long) max_plain_bytes);
        plain_bytes += step.out_len;
        if (stage_write(sink, out, step.out_len, err) < 0)
            return -1;
    } while (!step.frame_done && (step.in_len > 0 || step.out_len == step.out_cap));
    return step.frame_done ? 1 : 0;
}

int
codec_decode_first(const void *data, size_t len, uint64_t max_plain_bytes, Stage *sink, Error *err)
{
    if (len < 4)
        return 0;
    for (size_t i = 0; i < ARRAY_COUNT(codec_frames); i++)
    {
        void *ctx = NULL;

        if (codec_frames[i]->magic != get_u32le(data))
            continue;
        if (codec_frames[i]->open(max_plain_bytes, &ctx, err) < 0)
            return -1;

        int rc = codec_step_first(codec_frames[i], ctx, data, len, max_plain_bytes, sink, err);

        codec_frames[i]->close(ctx);
        return rc;
    }
    return error_set(
        err, ERROR_CORRUPT, "could not decompress: neither an lz4 nor a zstd frame (magic %08x)",
        (unsigned) get_u32le(data));
}
