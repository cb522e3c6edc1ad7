/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Zstandard frames, through the library's streaming functions, in the calling thread.
 *
 * Memory of an encoder follows the hint: with 1.5.4 at level 3 it is 0.1 MiB for 4 KiB and 3.6 MiB
 * for 16 MiB, at level 19 it is 0.3 and 90 MiB (tests/unit/test_codec.c holds the bounds). A
 * decoder holds the window that the frame asks for and 256 KiB.
 */
#include <limits.h>
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "stream/codec_internal.h"

#define CODEC_ZSTD_LEVEL 3 /* what the library calls its default, made fixed */

/*
 * "Size hint" in the library's words: sizes window and tables without promising the size to the
 * reader. Its name is kept for static linking (as experimental), its number is public. A smaller
 * window alone would leave the tables as they are: 80 MiB at level 19.
 */
#define CODEC_ZSTD_SIZE_HINT ZSTD_c_experimentalParam7
#define CODEC_ZSTD_OUT_BYTES 32768

/* The decoder takes windows up to the expected size, at least what every reader should (RFC 8878).
 */
#define CODEC_ZSTD_READ_LOG_MIN 23
#define CODEC_ZSTD_READ_LOG_MAX 27

static int
codec_zstd_log2_ceil(uint64_t n)
{
    int log = 0;

    while (log < 63 && (UINT64_C(1) << log) < n)
        log++;
    return log;
}

static int
codec_zstd_fail(size_t code, ErrorKind kind, const char *what, Error *err)
{
    if (ZSTD_getErrorCode(code) == ZSTD_error_memory_allocation)
        return error_nomem(err);
    return error_set(err, kind, "could not %s zstd: %s", what, ZSTD_getErrorName(code));
}

/* ---- encoder ---- */

typedef struct CodecZstd
{
    Stage stage;
    ZSTD_CCtx *ctx;
    uint8_t out[CODEC_ZSTD_OUT_BYTES];
} CodecZstd;

/* One call of the library; *left is its answer, 0 when nothing more is held back. */
static int
codec_zstd_compress(
    CodecZstd *c, ZSTD_inBuffer *in, ZSTD_EndDirective directive, size_t *left, Error *err)
{
    ZSTD_outBuffer out = {.dst = c->out, .size = sizeof c->out};

    *left = ZSTD_compressStream2(c->ctx, &out, in, directive);
    if (ZSTD_isError(*left))
        return codec_zstd_fail(*left, ERROR_IO, "compress", err);
    return stage_write(c->stage.next, c->out, out.pos, err);
}

static int
codec_zstd_write(Stage *st, const void *buf, size_t len, Error *err)
{
    ZSTD_inBuffer in = {.src = buf, .size = len};
    size_t left;

    while (in.pos < in.size)
    {
        if (codec_zstd_compress((CodecZstd *) st, &in, ZSTD_e_continue, &left, err) < 0)
            return -1;
    }
    return 0;
}

static int
codec_zstd_finish(Stage *st, Error *err)
{
    ZSTD_inBuffer in = {.src = "", .size = 0};
    size_t left;

    do
    {
        if (codec_zstd_compress((CodecZstd *) st, &in, ZSTD_e_end, &left, err) < 0)
            return -1;
    } while (left > 0);
    return 0;
}

static void
codec_zstd_destroy(Stage *st)
{
    CodecZstd *c = (CodecZstd *) st;

    (void) ZSTD_freeCCtx(c->ctx);
    free(c);
}

static const StageOps codec_zstd_ops = {
    .name = "zstd",
    .write = codec_zstd_write,
    .finish = codec_zstd_finish,
    .destroy = codec_zstd_destroy,
};

/* Level and checksum; answers as the library does. */
static size_t
codec_zstd_set(ZSTD_CCtx *ctx, int level)
{
    size_t rc =
        ZSTD_CCtx_setParameter(ctx, ZSTD_c_compressionLevel, level == 0 ? CODEC_ZSTD_LEVEL : level);

    if (!ZSTD_isError(rc))
        rc = ZSTD_CCtx_setParameter(ctx, ZSTD_c_checksumFlag, 1);
    return rc;
}

int
codec_zstd_encoder_new(int level, uint64_t hint, Stage *next, Stage **out, Error *err)
{
    CodecZstd *c = malloc(sizeof *c);
    size_t rc;

    if (c == NULL)
        return error_nomem(err);
    stage_init(&c->stage, &codec_zstd_ops, next);
    c->ctx = ZSTD_createCCtx();
    if (c->ctx == NULL)
    {
        free(c);
        return error_nomem(err);
    }
    rc = codec_zstd_set(c->ctx, level);
    if (!ZSTD_isError(rc))
        rc = ZSTD_CCtx_setParameter(
            c->ctx, CODEC_ZSTD_SIZE_HINT, (int) MIN(hint, (uint64_t) INT_MAX));
    if (ZSTD_isError(rc))
    {
        codec_zstd_destroy(&c->stage);
        return codec_zstd_fail(rc, ERROR_IO, "set up", err);
    }
    *out = &c->stage;
    return 0;
}

/* ---- decoder ---- */

#define CODEC_ZSTD_HEADER_MAX 18 /* magic and frame header */

typedef struct CodecZstdReader
{
    ZSTD_DCtx *ctx;
    size_t frame_in; /* bytes of the present frame that the library has */
} CodecZstdReader;

static void
codec_zstd_close(void *ctx)
{
    CodecZstdReader *reader = ctx;

    if (reader == NULL)
        return;
    (void) ZSTD_freeDCtx(reader->ctx);
    free(reader);
}

static int
codec_zstd_open(uint64_t max_plain_bytes, void **ctx, Error *err)
{
    int window_log = codec_zstd_log2_ceil(max_plain_bytes);
    CodecZstdReader *reader = calloc(1, sizeof *reader);

    if (reader == NULL)
        return error_nomem(err);
    reader->ctx = ZSTD_createDCtx();
    if (reader->ctx == NULL)
    {
        codec_zstd_close(reader);
        return error_nomem(err);
    }
    window_log = MIN(MAX(window_log, CODEC_ZSTD_READ_LOG_MIN), CODEC_ZSTD_READ_LOG_MAX);

    size_t rc = ZSTD_DCtx_setParameter(reader->ctx, ZSTD_d_windowLogMax, window_log);

    if (ZSTD_isError(rc))
    {
        codec_zstd_close(reader);
        return codec_zstd_fail(rc, ERROR_IO, "set up", err);
    }
    *ctx = reader;
    return 0;
}

static int
codec_zstd_step(void *ctx, CodecStep *step, Error *err)
{
    CodecZstdReader *reader = ctx;
    ZSTD_inBuffer in = {.src = step->in, .size = step->in_len};
    ZSTD_outBuffer out = {.dst = step->out, .size = step->out_cap};

    /*
     * The header goes in byte by byte. When a call completes a header that an earlier one began,
     * the library (seen in 1.5.4) looks for a whole frame at the start of that call's input, behind
     * the magic, and takes what it finds there for the frame: forged bytes could pass as an empty
     * one.
     */
    if (reader->frame_in < CODEC_ZSTD_HEADER_MAX)
        in.size = MIN(in.size, (size_t) 1);

    size_t more = ZSTD_decompressStream(reader->ctx, &out, &in);

    if (ZSTD_isError(more))
        return codec_zstd_fail(more, ERROR_CORRUPT, "decompress", err);
    step->in += in.pos;
    step->in_len -= in.pos;
    step->out_len = out.pos;
    step->frame_done = more == 0;
    reader->frame_in = step->frame_done ? 0 : reader->frame_in + in.pos;
    return 0;
}

const CodecFrameOps codec_zstd_frame_ops = {
    .magic = CODEC_ZSTD_MAGIC,
    .open = codec_zstd_open,
    .step = codec_zstd_step,
    .close = codec_zstd_close,
};

/* ---- whole frames ---- */

static void
codec_zstd_buffer_close(void *ctx)
{
    (void) ZSTD_freeCCtx(ctx);
}

static int
codec_zstd_buffer_open(int level, size_t max_plain_bytes, void **ctx, size_t *bound, Error *err)
{
    ZSTD_CCtx *cctx = ZSTD_createCCtx();

    if (cctx == NULL)
        return error_nomem(err);

    size_t rc = codec_zstd_set(cctx, level);

    if (ZSTD_isError(rc))
    {
        codec_zstd_buffer_close(cctx);
        return codec_zstd_fail(rc, ERROR_IO, "set up", err);
    }
    *bound = ZSTD_compressBound(max_plain_bytes) + sizeof(uint32_t); /* the checksum */
    *ctx = cctx;
    return 0;
}

static int
codec_zstd_buffer_compress(void *ctx, CodecBuffer buf, size_t *frame_bytes, Error *err)
{
    *frame_bytes = ZSTD_compress2(ctx, buf.out, buf.out_cap, buf.in, buf.in_len);
    if (ZSTD_isError(*frame_bytes))
        return codec_zstd_fail(*frame_bytes, ERROR_IO, "compress", err);
    return 0;
}

static int
codec_zstd_buffer_open_reader(void **ctx, Error *err)
{
    *ctx = ZSTD_createDCtx();
    return *ctx == NULL ? error_nomem(err) : 0;
}

static int
codec_zstd_buffer_decompress(void *ctx, CodecBuffer buf, size_t *plain_bytes, Error *err)
{
    size_t first = ZSTD_findFrameCompressedSize(buf.in, buf.in_len);

    if (ZSTD_isError(first))
        return codec_zstd_fail(first, ERROR_CORRUPT, "decompress", err);
    if (first != buf.in_len)
        return error_set(err, ERROR_CORRUPT, "could not decompress zstd: bytes follow the frame");
    *plain_bytes = ZSTD_decompressDCtx(ctx, buf.out, buf.out_cap, buf.in, buf.in_len);
    if (ZSTD_isError(*plain_bytes))
        return codec_zstd_fail(*plain_bytes, ERROR_CORRUPT, "decompress", err);
    return 0;
}

static void
codec_zstd_buffer_close_reader(void *ctx)
{
    (void) ZSTD_freeDCtx(ctx);
}

const CodecBufferOps codec_zstd_buffer_ops = {
    .open = codec_zstd_buffer_open,
    .compress = codec_zstd_buffer_compress,
    .close = codec_zstd_buffer_close,
    .magic = CODEC_ZSTD_MAGIC,
    .open_reader = codec_zstd_buffer_open_reader,
    .decompress = codec_zstd_buffer_decompress,
    .close_reader = codec_zstd_buffer_close_reader,
};
