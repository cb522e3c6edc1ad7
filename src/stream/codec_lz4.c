/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * LZ4 frames, through the library's LZ4F functions.
 *
 * Blocks are independent and as large as the data needs, 64 KiB to 1 MiB: larger ones compress no
 * better (a match reaches back 64 KiB) and cost memory on both sides. Memory of an encoder is three
 * blocks and 16 KiB, 256 KiB more from level 3 on; of a decoder one block of the frame's size, up
 * to 4 MiB when other tools wrote it, and 128 KiB.
 */
#include <lz4frame.h>
#include <stdlib.h>

#include "stream/codec_internal.h"

/* ---- encoder ---- */

typedef struct CodecLz4
{
    Stage stage;
    LZ4F_cctx *ctx;
    LZ4F_preferences_t prefs;
    bool begun;
    size_t slice_bytes; /* input given to the library at once */
    size_t out_cap;
    uint8_t out[]; /* out_cap: enough for a slice and what the library had kept back */
} CodecLz4;

/* Hands on what the library produced; size_or_error is its answer. */
static int
codec_lz4_emit(CodecLz4 *c, size_t size_or_error, Error *err)
{
    if (LZ4F_isError(size_or_error))
        return error_set(err, ERROR_IO, "could not compress: %s", LZ4F_getErrorName(size_or_error));
    return stage_write(c->stage.next, c->out, size_or_error, err);
}

static int
codec_lz4_begin(CodecLz4 *c, Error *err)
{
    if (c->begun)
        return 0;
    c->begun = true;

    size_t n = LZ4F_compressBegin(c->ctx, c->out, c->out_cap, &c->prefs);

    /* the library takes its tables and its block buffer here */
    if (LZ4F_isError(n))
    {
        (void) error_nomem(err);
        return error_wrap(err, "could not compress: %s", LZ4F_getErrorName(n));
    }
    return codec_lz4_emit(c, n, err);
}

static int
codec_lz4_write(Stage *st, const void *buf, size_t len, Error *err)
{
    CodecLz4 *c = (CodecLz4 *) st;
    const uint8_t *in = buf;

    if (codec_lz4_begin(c, err) < 0)
        return -1;
    while (len > 0)
    {
        size_t n = MIN(len, c->slice_bytes);

        if (codec_lz4_emit(c, LZ4F_compressUpdate(c->ctx, c->out, c->out_cap, in, n, NULL), err) <
            0)
            return -1;
        in += n;
        len -= n;
    }
    return 0;
}

static int
codec_lz4_finish(Stage *st, Error *err)
{
    CodecLz4 *c = (CodecLz4 *) st;

    if (codec_lz4_begin(c, err) < 0)
        return -1;
    return codec_lz4_emit(c, LZ4F_compressEnd(c->ctx, c->out, c->out_cap, NULL), err);
}

static void
codec_lz4_destroy(Stage *st)
{
    CodecLz4 *c = (CodecLz4 *) st;

    (void) LZ4F_freeCompressionContext(c->ctx);
    free(c);
}

static const StageOps codec_lz4_ops = {
    .name = "lz4",
    .write = codec_lz4_write,
    .finish = codec_lz4_finish,
    .destroy = codec_lz4_destroy,
};

int
codec_lz4_encoder_new(int level, uint64_t hint, Stage *next, Stage **out, Error *err)
{
    LZ4F_preferences_t prefs = {
        .frameInfo =
            {.blockMode = LZ4F_blockIndependent,
             .contentChecksumFlag = LZ4F_contentChecksumEnabled},
        .compressionLevel = level};
    size_t block_bytes;

    if (hint > 0 && hint <= 64 * 1024)
    {
        prefs.frameInfo.blockSizeID = LZ4F_max64KB;
        block_bytes = 64 * 1024;
    }
    else if (hint > 0 && hint <= 256 * 1024)
    {
        prefs.frameInfo.blockSizeID = LZ4F_max256KB;
        block_bytes = 256 * 1024;
    }
    else
    {
        prefs.frameInfo.blockSizeID = LZ4F_max1MB;
        block_bytes = 1024 * 1024;
    }

    /* the bound for a slice of one block counts what may be kept back from before, and the end */
    size_t out_cap = LZ4F_compressBound(block_bytes, &prefs) + LZ4F_HEADER_SIZE_MAX;
    CodecLz4 *c = malloc(sizeof *c + out_cap);

    if (c == NULL)
        return error_nomem(err);
    stage_init(&c->stage, &codec_lz4_ops, next);
    c->prefs = prefs;
    c->begun = false;
    c->slice_bytes = block_bytes;
    c->out_cap = out_cap;
    if (LZ4F_isError(LZ4F_createCompressionContext(&c->ctx, LZ4F_VERSION)))
    {
        free(c);
        return error_nomem(err);
    }
    *out = &c->stage;
    return 0;
}

/* ---- decoder ---- */

static int
codec_lz4_open(uint64_t max_plain_bytes UNUSED, void **ctx, Error *err)
{
    LZ4F_dctx *dctx;

    if (LZ4F_isError(LZ4F_createDecompressionContext(&dctx, LZ4F_VERSION)))
        return error_nomem(err);
    *ctx = dctx;
    return 0;
}

static int
codec_lz4_step(void *ctx, CodecStep *step, Error *err)
{
    size_t in_len = step->in_len;

    step->out_len = step->out_cap;

    size_t more = LZ4F_decompress(ctx, step->out, &step->out_len, step->in, &in_len, NULL);

    if (LZ4F_isError(more))
        return error_set(
            err, ERROR_CORRUPT, "could not decompress lz4: %s", LZ4F_getErrorName(more));
    step->in += in_len;
    step->in_len -= in_len;
    step->frame_done = more == 0;
    return 0;
}

static void
codec_lz4_close(void *ctx)
{
    (void) LZ4F_freeDecompressionContext(ctx);
}

const CodecFrameOps codec_lz4_frame_ops = {
    .magic = CODEC_LZ4_MAGIC,
    .open = codec_lz4_open,
    .step = codec_lz4_step,
    .close = codec_lz4_close,
};
