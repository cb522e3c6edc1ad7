/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * "none": an LZ4 frame whose blocks are all stored, written by hand because the library has no such
 * mode. What it takes is in lz4_Frame_format.md: magic, descriptor, blocks with the high bit of
 * their size set, end mark, XXH32 of the content.
 *
 * Memory: one block. Large writes go through without being copied.
 */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/bytes.h"
#include "stream/codec_internal.h"

#define CODEC_NONE_BLOCK_BYTES 65536
#define CODEC_NONE_BD 0x40  /* blocks of 64 KiB at the most */
#define CODEC_NONE_FLG 0x64 /* version 01, blocks independent, content checksum */
#define CODEC_NONE_STORED 0x80000000u
#define CODEC_NONE_HEADER_BYTES 7

typedef struct CodecNone
{
    Stage stage;
    XXH32_state_t *hash;
    bool begun;
    size_t block_cap;
    size_t block_len;
    uint8_t block[]; /* block_cap */
} CodecNone;

static void
codec_none_put_header(uint8_t header[CODEC_NONE_HEADER_BYTES])
{
    put_u32le(header, CODEC_LZ4_MAGIC);
    header[4] = CODEC_NONE_FLG;
    header[5] = CODEC_NONE_BD;
    header[6] = (uint8_t) (XXH32(header + 4, 2, 0) >> 8);
}

static int
codec_none_begin(CodecNone *c, Error *err)
{
    uint8_t header[CODEC_NONE_HEADER_BYTES];

    if (c->begun)
        return 0;
    c->begun = true;
    codec_none_put_header(header);
    return stage_write(c->stage.next, header, sizeof header, err);
}

static int
codec_none_emit_block(CodecNone *c, const uint8_t *data, size_t len, Error *err)
{
    uint8_t size[4];

    if (len == 0)
        return 0; /* a size of 0 would be the end mark */
    put_u32le(size, (uint32_t) len | CODEC_NONE_STORED);
    if (stage_write(c->stage.next, size, sizeof size, err) < 0)
        return -1;
    return stage_write(c->stage.next, data, len, err);
}

static int
codec_none_write(Stage *st, const void *buf, size_t len, Error *err)
{
    CodecNone *c = (CodecNone *) st;
    const uint8_t *in = buf;

    if (codec_none_begin(c, err) < 0)
        return -1;
    (void) XXH32_update(c->hash, buf, len);
    while (len > 0)
    {
        size_t n;

        if (c->block_len == 0 && len >= c->block_cap)
        {
            n = MIN(len, (size_t) CODEC_NONE_BLOCK_BYTES);
            if (codec_none_emit_block(c, in, n, err) < 0)
                return -1;
        }
        else
        {
            n = MIN(len, c->block_cap - c->block_len);
            memcpy(c->block + c->block_len, in, n);
            c->block_len += n;
            if (c->block_len == c->block_cap)
            {
                c->block_len = 0;
                if (codec_none_emit_block(c, c->block, c->block_cap, err) < 0)
                    return -1;
            }
        }
        in += n;
        len -= n;
    }
    return 0;
}

static int
codec_none_finish(Stage *st, Error *err)
{
    CodecNone *c = (CodecNone *) st;
    uint8_t end[8];

    if (codec_none_begin(c, err) < 0 || codec_none_emit_block(c, c->block, c->block_len, err) < 0)
        return -1;
    put_u32le(end, 0);
    put_u32le(end + 4, XXH32_digest(c->hash));
    return stage_write(c->stage.next, end, sizeof end, err);
}

static void
codec_none_destroy(Stage *st)
{
    CodecNone *c = (CodecNone *) st;

    (void) XXH32_freeState(c->hash);
    free(c);
}

static const StageOps codec_none_ops = {
    .name = "store",
    .write = codec_none_write,
    .finish = codec_none_finish,
    .destroy = codec_none_destroy,
};

int
codec_none_encoder_new(int level UNUSED, uint64_t hint, Stage *next, Stage **out, Error *err)
{
    size_t block_cap = CODEC_NONE_BLOCK_BYTES;

    if (hint > 0 && hint < block_cap)
        block_cap = MAX((size_t) hint, (size_t) 4096);

    CodecNone *c = malloc(sizeof *c + block_cap);

    if (c == NULL)
        return error_nomem(err);
    stage_init(&c->stage, &codec_none_ops, next);
    c->begun = false;
    c->block_cap = block_cap;
    c->block_len = 0;
    c->hash = XXH32_createState();
    if (c->hash == NULL)
    {
        free(c);
        return error_nomem(err);
    }
    (void) XXH32_reset(c->hash, 0);
    *out = &c->stage;
    return 0;
}

/* ---- whole frames: these need no state ---- */

static int
codec_none_buffer_open(
    int level UNUSED, size_t max_plain_bytes, void **ctx, size_t *bound, Error *err UNUSED)
{
    size_t blocks = max_plain_bytes / CODEC_NONE_BLOCK_BYTES + 1;

    *ctx = NULL;
    *bound = max_plain_bytes + CODEC_NONE_HEADER_BYTES + 4 * blocks + 8;
    return 0;
}

static int
codec_none_buffer_compress(
    void *ctx UNUSED, CodecBuffer buf, size_t *frame_bytes, Error *err UNUSED)
{
    uint8_t *at = buf.out + CODEC_NONE_HEADER_BYTES;

    codec_none_put_header(buf.out);
    for (size_t done = 0; done < buf.in_len;)
    {
        size_t n = MIN(buf.in_len - done, (size_t) CODEC_NONE_BLOCK_BYTES);

        put_u32le(at, (uint32_t) n | CODEC_NONE_STORED);
        memcpy(at + 4, buf.in + done, n);
        at += 4 + n;
        done += n;
    }
    put_u32le(at, 0);
    put_u32le(at + 4, XXH32(buf.in, buf.in_len, 0));
    *frame_bytes = (size_t) (at + 8 - buf.out);
    assert(*frame_bytes <= buf.out_cap);
    return 0;
}

static void
codec_none_buffer_close(void *ctx UNUSED)
{
}

const CodecBufferOps codec_none_buffer_ops = {
    .open = codec_none_buffer_open,
    .compress = codec_none_buffer_compress,
    .close = codec_none_buffer_close,
};
