/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Sets of blocks as text: what is accepted is written as it was read.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pg/block_set.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fuzz_check(bool good, const char *what)
{
    if (good)
        return;
    (void) fprintf(stderr, "broken: %s\n", what);
    abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(block_set_reset) BlockSet set = {0};
    AUTO(block_set_reset) BlockSet none = {0};
    AUTO(strbuf_reset) StrBuf text = {0};
    Error err = {.kind = ERROR_NONE};

    if (block_set_parse((const char *) data, size, &set, &err) < 0)
    {
        fuzz_check(err.kind == ERROR_CORRUPT && set.count == 0, "CORRUPT, and nothing handed out");
        return 0;
    }
    strbuf_init(&text, size);
    block_set_format(&set, &text);
    fuzz_check(
        !text.failed && text.len == size && (size == 0 || memcmp(text.data, data, size) == 0),
        "a set has one text");
    fuzz_check(block_set_end(&set) <= BLOCK_SET_MAX_BLOCK, "blocks are bounded");
    for (size_t i = 1; i < set.count; i++)
        fuzz_check(
            set.ranges[i - 1].first + set.ranges[i - 1].count < set.ranges[i].first,
            "ranges ascend and do not touch");
    fuzz_check(block_set_subtract(&set, &set, &none, &err) == 0 && none.count == 0, "nothing left");
    return 0;
}
