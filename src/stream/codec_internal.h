/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Between codec.c and the files of the methods (codec_lz4.c, codec_zstd.c, codec_none.c); nobody
 * else includes it. A new method is one file and one row in codec.c's table.
 */
#ifndef WALSTREAM_CODEC_INTERNAL_H
#define WALSTREAM_CODEC_INTERNAL_H

#include "stream/codec.h"

#define CODEC_LZ4_MAGIC 0x184D2204u
#define CODEC_ZSTD_MAGIC 0xFD2FB528u
#define CODEC_SKIPPABLE_MAGIC 0x184D2A50u /* to ...5F */
#define CODEC_SKIPPABLE_MASK 0xFFFFFFF0u

/* ---- encoders: stages that write one frame ---- */
MUST_CHECK int
codec_none_encoder_new(int level, uint64_t hint, Stage *next, Stage **out, Error *err);
MUST_CHECK int
codec_lz4_encoder_new(int level, uint64_t hint, Stage *next, Stage **out, Error *err);
MUST_CHECK int
codec_zstd_encoder_new(int level, uint64_t hint, Stage *next, Stage **out, Error *err);

/* ---- decoders of frames, used by the decoder stage of codec.c ---- */
typedef struct CodecStep
{
    const uint8_t *in; /* advanced over what was consumed */
    size_t in_len;
    uint8_t *out;
    size_t out_cap;
    size_t out_len;  /* set: bytes produced */
    bool frame_done; /* set: the frame has ended, checksum and all, and is flushed */
} CodecStep;

typedef struct CodecFrameOps
{
    uint32_t magic;
    MUST_CHECK int (*open)(uint64_t max_plain_bytes, void **ctx, Error *err);
    /*
     * One step in a frame, which begins with its magic; the next begins afresh by itself. Takes
     * input or gives output as long as there is input or undelivered output. CORRUPT for a damaged
     * frame; no further step then.
     */
    MUST_CHECK int (*step)(void *ctx, CodecStep *step, Error *err);
    void (*close)(void *ctx); /* NULL is fine */
} CodecFrameOps;

extern const CodecFrameOps codec_lz4_frame_ops;
extern const CodecFrameOps codec_zstd_frame_ops;

/* ---- whole frames from memory to memory (codec_frame.c) ---- */
typedef struct CodecBuffer
{
    const uint8_t *in;
    size_t in_len;
    uint8_t *out;
    size_t out_cap;
} CodecBuffer;

typedef struct CodecBufferOps
{
    MUST_CHECK int (*open)(
        int level, size_t max_plain_bytes, void **ctx, size_t *bound, Error *err);
    MUST_CHECK int (*compress)(void *ctx, CodecBuffer buf, size_t *frame_bytes, Error *err);
    void (*close)(void *ctx); /* NULL is fine, as for close_reader */

    uint32_t magic; /* 0: others read what this one writes, and the rest is NULL */
    MUST_CHECK int (*open_reader)(void **ctx, Error *err);
    /* CORRUPT unless all of in is one frame that fits out; usable afterwards all the same. */
    MUST_CHECK int (*decompress)(void *ctx, CodecBuffer buf, size_t *plain_bytes, Error *err);
    void (*close_reader)(void *ctx);
} CodecBufferOps;

extern const CodecBufferOps codec_none_buffer_ops;
extern const CodecBufferOps codec_lz4_buffer_ops;
extern const CodecBufferOps codec_zstd_buffer_ops;

#endif
