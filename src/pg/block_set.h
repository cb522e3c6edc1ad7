/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A set of block numbers of one relation segment file, as ascending ranges: which blocks an
 * incremental file holds, which are still wanted. Its size follows the ranges, not the blocks.
 *
 * As text: "<first>[-<last>]" joined by commas, decimal, ascending, each number after the first
 * written as the distance to the one before it: {3, 4, 5, 9} is "3-2,4". "" is the empty set.
 */
#ifndef WALSTREAM_BLOCK_SET_H
#define WALSTREAM_BLOCK_SET_H

#include "common/strbuf.h"

/* Most blocks of one relation segment file, whatever --with-segsize says. */
#define BLOCK_SET_MAX_BLOCK (1u << 24)

typedef struct BlockRange
{
    uint32_t first;
    uint32_t count; /* at least 1 */
} BlockRange;

typedef struct BlockSet
{
    BlockRange *ranges; /* owned; ascending, neither touching nor overlapping */
    size_t count;
    size_t cap;
} BlockSet;

void block_set_reset(BlockSet *set); /* fit for AUTO; the set is empty and usable after it */

/*
 * In any order; ascending is quick, and of many in no order their sets are, merged by
 * block_set_add_set. Blocks that are there already are fine. CORRUPT behind BLOCK_SET_MAX_BLOCK.
 */
MUST_CHECK int block_set_add(BlockSet *set, uint32_t first, uint32_t count, Error *err);
MUST_CHECK int block_set_add_set(BlockSet *set, const BlockSet *other, Error *err);
/* Takes away what is not below limit. */
void block_set_truncate(BlockSet *set, uint32_t limit);
/* *out (initialized; may be a or b) becomes a without b. */
MUST_CHECK int block_set_subtract(const BlockSet *a, const BlockSet *b, BlockSet *out, Error *err);
bool block_set_has(const BlockSet *set, uint32_t block);
uint64_t block_set_blocks(const BlockSet *set);
/* One more than the highest block; 0 when empty. */
uint32_t block_set_end(const BlockSet *set);

void block_set_format(const BlockSet *set, StrBuf *out);
/*
 * *out (initialized) becomes what text lists, and stays as it is on failure. text need not be
 * terminated. CORRUPT for anything but the form above: one set has one text.
 */
MUST_CHECK int block_set_parse(const char *text, size_t len, BlockSet *out, Error *err);

#endif
