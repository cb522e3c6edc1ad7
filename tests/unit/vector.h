/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Reads a file of tests/vectors that is compressed with zstd.
 */
#ifndef WALSTREAM_TEST_VECTOR_H
#define WALSTREAM_TEST_VECTOR_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

/* The plain bytes, *len of them; ends the program when the file is not there or not whole. */
__attribute__((unused)) static uint8_t *
vector_read(const char *path, size_t *len)
{
    static uint8_t packed[1024 * 1024];
    FILE *f = fopen(path, "rb");
    size_t packed_len = f != NULL ? fread(packed, 1, sizeof packed, f) : 0;
    unsigned long long plain = ZSTD_getFrameContentSize(packed, packed_len);
    uint8_t *data = plain <= 64 * 1024 * 1024 ? malloc((size_t) plain) : NULL;

    if (f != NULL)
        (void) fclose(f);
    if (data == NULL || ZSTD_decompress(data, (size_t) plain, packed, packed_len) != plain)
    {
        printf("Bail out! could not read test vector %s\n", path);
        exit(1);
    }
    *len = (size_t) plain;
    return data;
}

#endif
