/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Sources of blocks; see chain.h.
 */
#include "walrestore/chain.h"

#include <inttypes.h>

#include "pg/incremental_file.h"

/* What is listed must have the length that the file has, as stored and as restored. */
static int
chain_check(const BackupFile *file, Error *err)
{
    uint64_t listed = block_set_blocks(&file->blocks);
    uint64_t end = MAX(block_set_end(&file->blocks), file->truncation_blocks);

    if (listed > BLOCK_SET_MAX_BLOCK || end > BLOCK_SET_MAX_BLOCK ||
        file->stored_bytes != incremental_file_bytes((uint32_t) listed) ||
        file->bytes != end * DATA_PAGE_BYTES)
        return error_set(
            err, ERROR_CORRUPT,
            "the manifest contradicts itself about incremental file \"%s\": %" PRIu64
            " blocks listed, %" PRIu64 " bytes stored, %" PRIu64 " bytes restored",
            file->path, listed, file->stored_bytes, file->bytes);
    return 0;
}

int
chain_begin(const BackupFile *newest, BlockSet *wanted, Error *err)
{
    AUTO(block_set_reset) BlockSet all = {0};

    if (chain_check(newest, err) < 0)
        return -1;
    if (newest->truncation_blocks > 0 && block_set_add(&all, 0, newest->truncation_blocks, err) < 0)
        return -1;
    return block_set_subtract(&all, &newest->blocks, wanted, err);
}

int
chain_take(const BackupFile *older, BlockSet *wanted, BlockSet *take, Error *err)
{
    AUTO(block_set_reset) BlockSet rest = {0};

    if (older->kind == BACKUP_FILE_WHOLE)
    {
        uint64_t blocks = older->bytes / DATA_PAGE_BYTES;

        block_set_reset(take);
        if (block_set_add_set(take, wanted, err) < 0)
            return -1;
        block_set_truncate(take, (uint32_t) MIN(blocks, (uint64_t) BLOCK_SET_MAX_BLOCK));
        block_set_reset(wanted);
        return 0;
    }
    if (chain_check(older, err) < 0 || block_set_subtract(wanted, &older->blocks, &rest, err) < 0 ||
        block_set_subtract(wanted, &rest, take, err) < 0)
        return -1;
    block_set_truncate(&rest, older->truncation_blocks);
    block_set_reset(wanted);
    *wanted = rest;
    rest = (BlockSet){0};
    return 0;
}
