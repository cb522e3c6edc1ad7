/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Arrays that double; see array.h.
 */
#include "common/array.h"

#include <stdlib.h>

#define ARRAY_FIRST_ITEMS 16

void *
array_grow(void *items, size_t count, size_t *cap, size_t item_bytes, Error *err)
{
    size_t want = ARRAY_FIRST_ITEMS;
    size_t bytes;
    void *grown = NULL;

    assert(count <= *cap && item_bytes > 0);
    if (count < *cap)
        return items;
    if ((*cap == 0 || !__builtin_mul_overflow(*cap, 2, &want)) &&
        !__builtin_mul_overflow(want, item_bytes, &bytes))
        grown = realloc(items, bytes);
    if (grown == NULL)
    {
        (void) error_nomem(err);
        return NULL;
    }
    *cap = want;
    return grown;
}
