/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Headers of incremental files; see incremental_file.h.
 */
#include "pg/incremental_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"

/* 64 MiB, and so is what a reader may have to hold of one. */
static_assert(
    INCREMENTAL_FIXED_BYTES + 4ull * BLOCK_SET_MAX_BLOCK < UINT32_MAX, "a header fits into memory");

uint64_t
incremental_header_bytes(uint32_t block_count)
{
    uint64_t bytes = INCREMENTAL_FIXED_BYTES + 4 * (uint64_t) block_count;

    if (block_count == 0)
        return bytes;
    return (bytes + DATA_PAGE_BYTES - 1) / DATA_PAGE_BYTES * DATA_PAGE_BYTES;
}

uint64_t
incremental_file_bytes(uint32_t block_count)
{
    return incremental_header_bytes(block_count) + (uint64_t) block_count * DATA_PAGE_BYTES;
}

void
incremental_format_header(const BlockSet *blocks, uint32_t truncation_blocks, uint8_t *out)
{
    uint32_t count = (uint32_t) block_set_blocks(blocks);
    uint8_t *end = out + incremental_header_bytes(count);

    put_u32le(out, INCREMENTAL_MAGIC);
    put_u32le(out + 4, count);
    put_u32le(out + 8, truncation_blocks);
    out += INCREMENTAL_FIXED_BYTES;
    for (size_t i = 0; i < blocks->count; i++)
        for (uint32_t k = 0; k < blocks->ranges[i].count; k++, out += 4)
            put_u32le(out, blocks->ranges[i].first + k);
    memset(out, 0, (size_t) (end - out));
}

/* ---- reading ---- */

static int
incremental_compare_blocks(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *) a;
    uint32_t right = *(const uint32_t *) b;

    return (left > right) - (left < right);
}

static void
incremental_free_numbers(uint32_t **numbers)
{
    free(*numbers);
}

/* Numbers in no order, sorted beforehand: a set is slow at taking them one by one. */
static int
incremental_read_unsorted(const uint8_t *list, uint32_t count, BlockSet *out, Error *err)
{
    AUTO(incremental_free_numbers) uint32_t *numbers = reallocarray(NULL, count, sizeof *numbers);

    if (numbers == NULL)
        return error_nomem(err);
    for (uint32_t i = 0; i < count; i++)
        numbers[i] = get_u32le(list + (size_t) i * 4);
    qsort(numbers, count, sizeof *numbers, incremental_compare_blocks);
    for (uint32_t i = 0; i < count; i++)
    {
        if (i > 0 && numbers[i] == numbers[i - 1])
            return error_set(
                err, ERROR_CORRUPT, "it lists block %" PRIu32 " more than once", numbers[i]);
        if (block_set_add(out, numbers[i], 1, err) < 0)
            return -1;
    }
    return 0;
}

static int
incremental_read_list(
    const uint8_t *list, uint32_t count, BlockSet *out, bool *ascending, Error *err)
{
    for (uint32_t i = 0; i < count; i++)
    {
        uint32_t block = get_u32le(list + (size_t) i * 4);

        if (i > 0 && block < block_set_end(out))
        {
            *ascending = false;
            block_set_reset(out);
            return incremental_read_unsorted(list, count, out, err);
        }
        if (block_set_add(out, block, 1, err) < 0)
            return -1;
    }
    *ascending = true;
    return 0;
}

static int
incremental_read_header(
    const uint8_t *p, size_t len, BlockSet *blocks, uint32_t *truncation_blocks,
    uint64_t *header_bytes, bool *ascending, Error *err)
{
    AUTO(block_set_reset) BlockSet set = {0};
    bool in_order = true;
    uint32_t count, truncation;

    *header_bytes = INCREMENTAL_FIXED_BYTES;
    if (len < INCREMENTAL_FIXED_BYTES)
        return 0;
    if (get_u32le(p) != INCREMENTAL_MAGIC)
        return error_set(
            err, ERROR_CORRUPT, "magic number %08" PRIX32 " is not %08X", get_u32le(p),
            INCREMENTAL_MAGIC);
    count = get_u32le(p + 4);
    truncation = get_u32le(p + 8);
    if (count > BLOCK_SET_MAX_BLOCK || truncation > BLOCK_SET_MAX_BLOCK)
        return error_set(
            err, ERROR_CORRUPT,
            "%" PRIu32 " blocks and a truncation length of %" PRIu32 " are too many for a file",
            count, truncation);
    *header_bytes = incremental_header_bytes(count);
    if (len < *header_bytes)
        return 0;
    if (incremental_read_list(p + INCREMENTAL_FIXED_BYTES, count, &set, &in_order, err) < 0)
        return -1;
    for (size_t i = INCREMENTAL_FIXED_BYTES + (size_t) count * 4; i < *header_bytes; i++)
        if (p[i] != 0)
            return error_set(err, ERROR_CORRUPT, "the padding of its header is not zero");

    block_set_reset(blocks);
    *blocks = set;
    set = (BlockSet){0};
    *truncation_blocks = truncation;
    *ascending = in_order;
    return 1;
}

int
incremental_parse_header(
    const void *data, size_t len, BlockSet *blocks, uint32_t *truncation_blocks,
    uint64_t *header_bytes, bool *ascending, Error *err)
{
    int rc =
        incremental_read_header(data, len, blocks, truncation_blocks, header_bytes, ascending, err);

    return rc < 0 ? error_wrap(err, "could not read the header of an incremental file") : rc;
}

/* ---- names ---- */

static size_t
incremental_folder_len(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? 0 : (size_t) (slash - path) + 1;
}

char *
incremental_path(const char *path, char *buf, size_t len)
{
    size_t folder = incremental_folder_len(path);
    int n = snprintf(buf, len, "%.*s" INCREMENTAL_PREFIX "%s", (int) folder, path, path + folder);

    assert(n >= 0 && (size_t) n < len);
    (void) n;
    return buf;
}

bool
incremental_original_path(const char *path, char *buf, size_t len)
{
    static const size_t prefix = sizeof INCREMENTAL_PREFIX - 1;
    size_t folder = incremental_folder_len(path);

    if (strncmp(path + folder, INCREMENTAL_PREFIX, prefix) != 0 || path[folder + prefix] == '\0')
        return false;

    int n = snprintf(buf, len, "%.*s%s", (int) folder, path, path + folder + prefix);

    return n >= 0 && (size_t) n < len;
}
