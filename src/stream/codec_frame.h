/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Frames in memory: a buffer to one frame of a codec and back, with contexts that are kept from
 * frame to frame. The frames are those of codec.h; what differs is that both ends are at hand, so
 * that nothing is copied in between, and that lz4's have no checksum: whoever keeps a frame keeps a
 * digest of it as it is stored.
 *
 * An encoder or decoder belongs to one thread.
 */
#ifndef WALSTREAM_CODEC_FRAME_H
#define WALSTREAM_CODEC_FRAME_H

#include "stream/codec.h"

/* ---- compressing ---- */
typedef struct CodecFrameEncoder CodecFrameEncoder;

/* max_plain_bytes: of a frame, at least 1; sizes tables. */
MUST_CHECK int codec_frame_encoder_new(
    CodecSpec spec, size_t max_plain_bytes, CodecFrameEncoder **out, Error *err);
void codec_frame_encoder_free(CodecFrameEncoder *enc);
DEFINE_AUTO(CodecFrameEncoder, codec_frame_encoder_free);

/* The longest that a frame of max_plain_bytes can become. */
size_t codec_frame_bound(const CodecFrameEncoder *enc);

/* len up to max_plain_bytes; out has room for codec_frame_bound. *frame_bytes: what it became. */
MUST_CHECK int codec_frame_compress(
    CodecFrameEncoder *enc, const void *data, size_t len, uint8_t *out, size_t *frame_bytes,
    Error *err);

/* ---- decompressing ---- */
typedef struct CodecFrameDecoder CodecFrameDecoder;

MUST_CHECK int codec_frame_decoder_new(CodecFrameDecoder **out, Error *err);
void codec_frame_decoder_free(CodecFrameDecoder *dec);
DEFINE_AUTO(CodecFrameDecoder, codec_frame_decoder_free);

/*
 * Exactly one frame, of any method, that becomes exactly plain_bytes in out. CORRUPT for anything
 * else: damage, truncation, bytes behind the frame, other lengths, a skippable frame.
 */
MUST_CHECK int codec_frame_decompress(
    CodecFrameDecoder *dec, const void *frame, size_t frame_bytes, uint8_t *out, size_t plain_bytes,
    Error *err);

#endif
