/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Block numbers as ranges; see block_set.h.
 */
#include "pg/block_set.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"

void
block_set_reset(BlockSet *set)
{
    free(set->ranges);
    *set = (BlockSet){0};
}

static uint32_t
block_range_end(const BlockRange *range)
{
    return range->first + range->count;
}

/* The first range that ends at or behind block: the one that has it, touches it or follows it. */
static size_t
block_set_find(const BlockSet *set, uint32_t block)
{
    size_t low = 0;
    size_t high = set->count;

    while (low < high)
    {
        size_t middle = low + (high - low) / 2;

        if (block_range_end(&set->ranges[middle]) < block)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Behind all that is there, or touching or overlapping the last range only. */
static int
block_set_append(BlockSet *set, uint32_t first, uint32_t end, Error *err)
{
    BlockRange *last = set->count > 0 ? &set->ranges[set->count - 1] : NULL;

    assert(last == NULL || first >= last->first);
    if (last != NULL && first <= block_range_end(last))
    {
        last->count = MAX(end, block_range_end(last)) - last->first;
        return 0;
    }

    BlockRange *ranges = array_grow(set->ranges, set->count, &set->cap, sizeof *ranges, err);

    if (ranges == NULL)
        return -1;
    set->ranges = ranges;
    set->ranges[set->count++] = (BlockRange){.first = first, .count = end - first};
    return 0;
}

int
block_set_add(BlockSet *set, uint32_t first, uint32_t count, Error *err)
{
    uint32_t end;
    size_t from, to;

    if (count == 0)
        return 0;
    if (__builtin_add_overflow(first, count, &end) || end > BLOCK_SET_MAX_BLOCK)
        return error_set(
            err, ERROR_CORRUPT, "block %" PRIu32 " and %" PRIu32 " more are too many for a file",
            first, count - 1);
    if (set->count == 0 || first >= set->ranges[set->count - 1].first)
        return block_set_append(set, first, end, err);

    /* from..to: what the new range touches or overlaps */
    from = block_set_find(set, first);
    for (to = from; to < set->count && set->ranges[to].first <= end; to++)
        ;
    if (from < to)
    {
        first = MIN(first, set->ranges[from].first);
        end = MAX(end, block_range_end(&set->ranges[to - 1]));
    }
    else
    {
        BlockRange *ranges = array_grow(set->ranges, set->count, &set->cap, sizeof *ranges, err);

        if (ranges == NULL)
            return -1;
        set->ranges = ranges;
    }
    memmove(&set->ranges[from + 1], &set->ranges[to], (set->count - to) * sizeof set->ranges[0]);
    set->count = set->count - (to - from) + 1;
    set->ranges[from] = (BlockRange){.first = first, .count = end - first};
    return 0;
}

int
block_set_add_set(BlockSet *set, const BlockSet *other, Error *err)
{
    AUTO(block_set_reset) BlockSet merged = {0};
    size_t i = 0;
    size_t k = 0;

    if (other->count == 0 || set == other)
        return 0;
    while (i < set->count || k < other->count)
    {
        bool mine =
            k == other->count || (i < set->count && set->ranges[i].first < other->ranges[k].first);
        const BlockRange *next = mine ? &set->ranges[i++] : &other->ranges[k++];

        if (block_set_append(&merged, next->first, block_range_end(next), err) < 0)
            return -1;
    }

    BlockSet before = *set;

    *set = merged;
    merged = before;
    return 0;
}

void
block_set_truncate(BlockSet *set, uint32_t limit)
{
    while (set->count > 0 && set->ranges[set->count - 1].first >= limit)
        set->count--;
    if (set->count > 0)
    {
        BlockRange *last = &set->ranges[set->count - 1];

        last->count = MIN(last->count, limit - last->first);
    }
}

int
block_set_subtract(const BlockSet *a, const BlockSet *b, BlockSet *out, Error *err)
{
    AUTO(block_set_reset) BlockSet left = {0};
    size_t k = 0;

    for (size_t i = 0; i < a->count; i++)
    {
        uint32_t first = a->ranges[i].first;
        uint32_t end = block_range_end(&a->ranges[i]);

        while (k < b->count && block_range_end(&b->ranges[k]) <= first)
            k++;
        /* a range of b that reaches behind this one of a is looked at again with the next */
        for (size_t n = k; n < b->count && b->ranges[n].first < end && first < end; n++)
        {
            if (b->ranges[n].first > first &&
                block_set_append(&left, first, b->ranges[n].first, err) < 0)
                return -1;
            first = block_range_end(&b->ranges[n]);
        }
        if (first < end && block_set_append(&left, first, end, err) < 0)
            return -1;
    }

    BlockSet before = *out;

    *out = left;
    left = before;
    return 0;
}

bool
block_set_has(const BlockSet *set, uint32_t block)
{
    /* the range that follows block ends behind it, one that only touches it ends at it */
    size_t at = block == UINT32_MAX ? set->count : block_set_find(set, block + 1);

    return at < set->count && set->ranges[at].first <= block;
}

uint64_t
block_set_blocks(const BlockSet *set)
{
    uint64_t blocks = 0;

    for (size_t i = 0; i < set->count; i++)
        blocks += set->ranges[i].count;
    return blocks;
}

uint32_t
block_set_end(const BlockSet *set)
{
    return set->count == 0 ? 0 : block_range_end(&set->ranges[set->count - 1]);
}

/* ---- as text ---- */

void
block_set_format(const BlockSet *set, StrBuf *out)
{
    uint32_t before = 0;

    for (size_t i = 0; i < set->count; i++)
    {
        const BlockRange *r = &set->ranges[i];

        strbuf_printf(out, "%s%" PRIu32, i == 0 ? "" : ",", r->first - before);
        if (r->count > 1)
            strbuf_printf(out, "-%" PRIu32, r->count - 1);
        before = block_range_end(r) - 1;
    }
}

/* Digits without a leading zero, to a number of at most BLOCK_SET_MAX_BLOCK. */
static bool
block_set_take_number(const char **at, const char *end, uint32_t *out)
{
    const char *digits = *at;
    uint32_t value = 0;

    for (; *at < end && **at >= '0' && **at <= '9'; (*at)++)
    {
        value = value * 10 + (uint32_t) (**at - '0');
        if (value > BLOCK_SET_MAX_BLOCK)
            return false;
    }
    *out = value;
    return *at > digits && (*digits != '0' || *at == digits + 1);
}

/* One range; before is the last block so far, of none in the first. */
static bool
block_set_take_range(
    const char **at, const char *end, bool is_first, uint32_t before, BlockRange *out)
{
    uint32_t more = 0;

    if (!block_set_take_number(at, end, &out->first))
        return false;
    /* the block behind the last one would be of that range */
    if (!is_first && out->first < 2)
        return false;
    out->first += before;
    if (*at < end && **at == '-')
    {
        (*at)++;
        if (!block_set_take_number(at, end, &more) || more == 0)
            return false;
    }
    out->count = more + 1;
    return out->first < BLOCK_SET_MAX_BLOCK && out->count <= BLOCK_SET_MAX_BLOCK - out->first;
}

int
block_set_parse(const char *text, size_t len, BlockSet *out, Error *err)
{
    AUTO(block_set_reset) BlockSet set = {0};
    const char *at = text;
    const char *end = len > 0 ? text + len : text;

    while (at < end)
    {
        const char *range = at;
        bool is_first = set.count == 0;
        uint32_t before = is_first ? 0 : block_set_end(&set) - 1;
        BlockRange r = {0};
        bool good = block_set_take_range(&at, end, is_first, before, &r);

        /* a comma joins: there is a range behind it */
        if (good && at < end)
            good = *at++ == ',' && at < end;
        if (!good)
            return error_set(
                err, ERROR_CORRUPT, "malformed list of blocks at byte %zu",
                (size_t) (range - text));
        if (block_set_append(&set, r.first, block_range_end(&r), err) < 0)
            return -1;
    }
    block_set_reset(out);
    *out = set;
    set = (BlockSet){0};
    return 0;
}
