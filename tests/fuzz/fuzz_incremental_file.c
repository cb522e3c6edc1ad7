/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Headers of incremental files: what is accepted and ascends is written as it was read.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pg/incremental_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fuzz_check(bool good, const char *what)
{
    if (good)
        return;
    (void) fprintf(stderr, "broken: %s\n", what);
    abort();
}

static void
fuzz_header(const uint8_t *data, size_t size)
{
    AUTO(block_set_reset) BlockSet set = {0};
    Error err = {.kind = ERROR_NONE};
    uint32_t truncation = 0;
    uint64_t header_bytes = 0;
    bool ascending = false;
    int rc =
        incremental_parse_header(data, size, &set, &truncation, &header_bytes, &ascending, &err);

    if (rc < 0)
        fuzz_check(err.kind == ERROR_CORRUPT && set.count == 0, "CORRUPT, and nothing handed out");
    else if (rc == 0)
        fuzz_check(
            header_bytes > size && header_bytes <= incremental_header_bytes(BLOCK_SET_MAX_BLOCK),
            "more is asked for, within bounds");
    else
    {
        uint8_t *again = malloc(header_bytes);

        fuzz_check(header_bytes <= size, "a header is not longer than its file");
        fuzz_check(
            header_bytes == incremental_header_bytes((uint32_t) block_set_blocks(&set)),
            "as long as its blocks make it");
        if (again == NULL)
            abort();
        incremental_format_header(&set, truncation, again);
        fuzz_check((memcmp(again, data, header_bytes) == 0) == ascending, "written as it was read");
        free(again);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *padded;

    fuzz_header(data, size);
    /* short inputs with the padding that they need */
    if (size > 8192)
        return 0;
    padded = calloc(1, 8192);
    if (padded == NULL)
        abort();
    if (size > 0)
        memcpy(padded, data, size);
    fuzz_header(padded, 8192);
    free(padded);
    return 0;
}
