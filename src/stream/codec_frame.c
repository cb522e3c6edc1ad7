/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Frames in memory: finds the method's functions; see codec_frame.h.
 */
#include "stream/codec_frame.h"

#include <stdlib.h>

#include "common/bytes.h"
#include "stream/codec_internal.h"

static const CodecBufferOps *const codec_buffers[] = {
    [CODEC_NONE] = &codec_none_buffer_ops,
    [CODEC_LZ4] = &codec_lz4_buffer_ops,
    [CODEC_ZSTD] = &codec_zstd_buffer_ops,
};

/* ---- compressing ---- */

struct CodecFrameEncoder
{
    const CodecBufferOps *ops;
    void *ctx;
    size_t max_plain_bytes;
    size_t bound;
};

int
codec_frame_encoder_new(CodecSpec spec, size_t max_plain_bytes, CodecFrameEncoder **out, Error *err)
{
    assert((size_t) spec.method < ARRAY_COUNT(codec_buffers) && max_plain_bytes > 0);

    CodecFrameEncoder *enc = calloc(1, sizeof *enc);

    if (enc == NULL)
        return error_nomem(err);
    enc->ops = codec_buffers[spec.method];
    enc->max_plain_bytes = max_plain_bytes;
    if (enc->ops->open(spec.level, max_plain_bytes, &enc->ctx, &enc->bound, err) < 0)
    {
        free(enc);
        return -1;
    }
    *out = enc;
    return 0;
}

void
codec_frame_encoder_free(CodecFrameEncoder *enc)
{
    if (enc == NULL)
        return;
    enc->ops->close(enc->ctx);
    free(enc);
}

size_t
codec_frame_bound(const CodecFrameEncoder *enc)
{
    return enc->bound;
}

int
codec_frame_compress(
    CodecFrameEncoder *enc, const void *data, size_t len, uint8_t *out, size_t *frame_bytes,
    Error *err)
{
    assert(len <= enc->max_plain_bytes);
    return enc->ops->compress(
        enc->ctx, (CodecBuffer){.in = data, .in_len = len, .out = out, .out_cap = enc->bound},
        frame_bytes, err);
}

/* ---- decompressing ---- */

/* "none" is a kind of lz4 frame. */
static const CodecBufferOps *const codec_read_buffers[] = {
    &codec_lz4_buffer_ops, &codec_zstd_buffer_ops};

struct CodecFrameDecoder
{
    void *ctx[ARRAY_COUNT(codec_read_buffers)]; /* opened when first needed */
};

int
codec_frame_decoder_new(CodecFrameDecoder **out, Error *err)
{
    CodecFrameDecoder *dec = calloc(1, sizeof *dec);

    if (dec == NULL)
        return error_nomem(err);
    *out = dec;
    return 0;
}

void
codec_frame_decoder_free(CodecFrameDecoder *dec)
{
    if (dec == NULL)
        return;
    for (size_t i = 0; i < ARRAY_COUNT(codec_read_buffers); i++)
        codec_read_buffers[i]->close_reader(dec->ctx[i]);
    free(dec);
}

int
codec_frame_decompress(
    CodecFrameDecoder *dec, const void *frame, size_t frame_bytes, uint8_t *out, size_t plain_bytes,
    Error *err)
{
    uint32_t magic = frame_bytes >= 4 ? get_u32le(frame) : 0;
    size_t got;

    for (size_t i = 0; i < ARRAY_COUNT(codec_read_buffers); i++)
    {
        const CodecBufferOps *ops = codec_read_buffers[i];

        if (ops->magic != magic)
            continue;
        if (dec->ctx[i] == NULL && ops->open_reader(&dec->ctx[i], err) < 0)
            return -1;
        if (ops->decompress(
                dec->ctx[i],
                (CodecBuffer){
                    .in = frame, .in_len = frame_bytes, .out = out, .out_cap = plain_bytes},
                &got, err) < 0)
            return -1;
        if (got != plain_bytes)
            return error_set(
                err, ERROR_CORRUPT,
                "could not decompress: the frame holds %zu bytes instead of %zu", got, plain_bytes);
        return 0;
    }
    return error_set(
        err, ERROR_CORRUPT, "could not decompress: neither an lz4 nor a zstd frame (magic %08x)",
        (unsigned) magic);
}
