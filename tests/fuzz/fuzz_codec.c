/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The decoder of compressed frames: whatever comes, it is refused as CORRUPT or gives no more than
 * the limit, and the answer does not depend on how the input is cut.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stream/codec.h"

#define FUZZ_MAX_PLAIN (1u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fuzz_check(bool good, const char *what)
{
    if (good)
        return;
    (void) fprintf(stderr, "broken: %s\n", what);
    abort();
}

/* Returns what stage_finish or the first failing write returned. */
static int
fuzz_decode(const uint8_t *data, size_t size, size_t step, uint8_t *plain, size_t *len, Error *err)
{
    AUTO(stage_freep) Stage *st = NULL;
    Stage *sink = NULL;

    fuzz_check(
        stage_memory_sink_new(plain, FUZZ_MAX_PLAIN, len, &sink, err) == 0 &&
            codec_decoder_new(FUZZ_MAX_PLAIN, sink, &st, err) == 0,
        "a decoder can be made");
    for (size_t at = 0; at < size; at += step)
    {
        if (stage_write(st, data + at, MIN(step, size - at), err) < 0)
            return -1;
    }
    return stage_finish(st, err);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t whole[FUZZ_MAX_PLAIN];
    static uint8_t pieces[FUZZ_MAX_PLAIN];
    size_t whole_len = 0;
    size_t pieces_len = 0;
    Error err = {0};
    int rc = fuzz_decode(data, size, SIZE_MAX / 2, whole, &whole_len, &err);

    if (rc < 0)
        fuzz_check(err.kind == ERROR_CORRUPT && err.msg[0] != '\0', "a failure is CORRUPT");

    int rc_pieces = fuzz_decode(data, size, 7, pieces, &pieces_len, &err);

    fuzz_check(rc == rc_pieces, "cutting the input does not change the answer");
    if (rc == 0)
        fuzz_check(
            whole_len == pieces_len && memcmp(whole, pieces, whole_len) == 0,
            "cutting the input does not change the output");
    return 0;
}
