/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Compression codecs as stages. Every method writes standard frames with a content checksum, which
 * the lz4 and zstd command-line tools open; "none" is an LZ4 frame of stored blocks, so that even
 * an uncompressed object has a magic, a checksum and an end. FORMAT.md, "Codecs".
 */
#ifndef WALSTREAM_CODEC_H
#define WALSTREAM_CODEC_H

#include "stream/stage.h"

typedef enum CodecMethod
{
    CODEC_NONE,
    CODEC_LZ4,
    CODEC_ZSTD
} CodecMethod;

typedef struct CodecSpec
{
    CodecMethod method;
    int level; /* 0: the method's default */
} CodecSpec;

/* "none", "lz4", "lz4:LEVEL" (1..12), "zstd", "zstd:LEVEL" (-7..19); USAGE otherwise. */
MUST_CHECK int codec_parse(const char *text, CodecSpec *out, Error *err);

/* "lz4", "zstd:3" ... into buf of 16 bytes. Returns buf. */
char *codec_format(CodecSpec spec, char *buf, size_t len);

/*
 * One frame per chain. plain_bytes_hint: bytes that will come, 0 if not known (sizes windows and
 * tables: memory for a 4 KiB piece must not be that of 16 MiB). Independent 64 KiB..4 MiB blocks,
 * linked where the method does it, content checksum on.
 */
MUST_CHECK int
codec_encoder_new(CodecSpec spec, uint64_t plain_bytes_hint, Stage *next, Stage **out, Error *err);

/*
 * Reads any method by its magic, skips skippable frames before, between and behind, accepts
 * concatenated frames. CORRUPT for: unknown magic, wrong checksum, truncation, trailing bytes, more
 * than max_plain_bytes, no frame at all.
 */
MUST_CHECK int codec_decoder_new(uint64_t max_plain_bytes, Stage *next, Stage **out, Error *err);

/*
 * The first frame alone, of data that may be cut anywhere; sink is written to and not finished.
 *
 * 1    all of it went to sink, and its checksum is right
 * 0    data ends within it; what is in sink means nothing
 * -1   CORRUPT: no frame of any method, damaged, more than max_plain_bytes; what sink returns
 */
MUST_CHECK int
codec_decode_first(const void *data, size_t len, uint64_t max_plain_bytes, Stage *sink, Error *err);

#endif
