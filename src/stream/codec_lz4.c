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

/* Independent blocks with a content checksum, as large as hint asks for. */
static LZ4F_preferences_t
codec_lz4_prefs(int level, uint64_t hint, size_t *block_bytes)
{
    LZ4F_preferences_t prefs = {
        .frameInfo =
            {.blockMode = LZ4F_blockIndependent,
             .contentChecksumFlag = LZ4F_contentChecksumEnabled},
        .compressionLevel = level};

    if (hint > 0 && hint <= 64 * 1024)
    {
        prefs.frameInfo.blockSizeID = LZ4F_max64KB;
        *block_bytes = 64 * 1024;
    }
    else if (hint > 0 && hint <= 256 * 1024)
    {
        prefs.frameInfo.blockSizeID = LZ4F_max256KB;
        *block_bytes = 256 * 1024;
    }
    else
    {
        prefs.frameInfo.blockSizeID = LZ4F_max1MB;
        *block_bytes = 1024 * 1024;
    }
    return prefs;
}

int
codec_lz4_encoder_new(int level, uint64_t hint, Stage *next, Stage **out, Error *err)
{
    size_t block_bytes;
    LZ4F_preferences_t prefs = codec_lz4_prefs(level, hint, &block_bytes);

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

/* ---- whole frames ---- */

typedef struct CodecLz4Buffer
{
    LZ4F_cctx *ctx;
    LZ4F_preferences_t prefs;
} CodecLz4Buffer;

static void
codec_lz4_buffer_close(void *ctx)
{
    CodecLz4Buffer *b = ctx;

    if (b == NULL)
        return;
    (void) LZ4F_freeCompressionContext(b->ctx);
    free(b);
}

static int
codec_lz4_buffer_open(int level, size_t max_plain_bytes, void **ctx, size_t *bound, Error *err)
{
    CodecLz4Buffer *b = calloc(1, sizeof *b);
    size_t block_bytes;

    if (b == NULL)
        return error_nomem(err);
    if (LZ4F_isError(LZ4F_createCompressionContext(&b->ctx, LZ4F_VERSION)))
    {
        free(b);
        return error_nomem(err);
    }
    b->prefs = codec_lz4_prefs(level, max_plain_bytes, &block_bytes);
    /*
     * A checksum of the content would be a fifth of the time of compressing and half of that of
     * decompressing; the part that holds the frame has a digest of what is stored.
     */
    b->prefs.frameInfo.contentChecksumFlag = LZ4F_noContentChecksum;
    /* nothing is kept back, so that blocks are made where the data is */
    b->prefs.autoFlush = 1;
    *bound = LZ4F_compressFrameBound(max_plain_bytes, &b->prefs);
    *ctx = b;
    return 0;
}

static int
codec_lz4_buffer_compress(void *ctx, CodecBuffer buf, size_t *frame_bytes, Error *err)
{
    CodecLz4Buffer *b = ctx;
    /* data stays where it is until the end */
    const LZ4F_compressOptions_t options = {.stableSrc = 1};
    size_t at = LZ4F_compressBegin(b->ctx, buf.out, buf.out_cap, &b->prefs);
    size_t n;

    /* as in codec_lz4_begin: there is room for what it writes, its own memory may be missing */
    if (LZ4F_isError(at))
    {
        (void) error_nomem(err);
        return error_wrap(err, "could not compress: %s", LZ4F_getErrorName(at));
    }
    n = LZ4F_compressUpdate(b->ctx, buf.out + at, buf.out_cap - at, buf.in, buf.in_len, &options);
    if (LZ4F_isError(n))
        return error_set(err, ERROR_IO, "could not compress: %s", LZ4F_getErrorName(n));
    at += n;
    n = LZ4F_compressEnd(b->ctx, buf.out + at, buf.out_cap - at, &options);
    if (LZ4F_isError(n))
        return error_set(err, ERROR_IO, "could not compress: %s", LZ4F_getErrorName(n));
    *frame_bytes = at + n;
    return 0;
}

static int
codec_lz4_buffer_open_reader(void **ctx, Error *err)
{
    return codec_lz4_open(0, ctx, err);
}

static int
codec_lz4_buffer_decompress(void *ctx, CodecBuffer buf, size_t *plain_bytes, Error *err)
{
    size_t in_at = 0;
    size_t out_at = 0;

    /* whatever an earlier frame has left */
    LZ4F_resetDecompressionContext(ctx);
    for (;;)
    {
        size_t in_len = buf.in_len - in_at;
        size_t out_len = buf.out_cap - out_at;
        size_t more =
            LZ4F_decompress(ctx, buf.out + out_at, &out_len, buf.in + in_at, &in_len, NULL);

        if (LZ4F_isError(more))
            return error_set(
                err, ERROR_CORRUPT, "could not decompress lz4: %s", LZ4F_getErrorName(more));
        in_at += in_len;
        out_at += out_len;
        if (more == 0)
            break;
        if (in_len == 0 && out_len == 0)
            return error_set(
                err, ERROR_CORRUPT, "could not decompress lz4: %s",
                in_at == buf.in_len ? "the frame is cut off"
                                    : "the frame holds more than it should");
    }
    if (in_at < buf.in_len)
        return error_set(err, ERROR_CORRUPT, "could not decompress lz4: bytes follow the frame");
    *plain_bytes = out_at;
    return 0;
}

const CodecBufferOps codec_lz4_buffer_ops = {
    .open = codec_lz4_buffer_open,
    .compress = codec_lz4_buffer_compress,
    .close = codec_lz4_buffer_close,
    .magic = CODEC_LZ4_MAGIC,
    .open_reader = codec_lz4_buffer_open_reader,
    .decompress = codec_lz4_buffer_decompress,
    .close_reader = codec_lz4_close,
};
