/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Arrays that double as they grow: the pointer, a count and a capacity, all 0 when empty.
 */
#ifndef WALSTREAM_ARRAY_H
#define WALSTREAM_ARRAY_H

#include "common/error.h"

/*
 * Room for one more element behind the first count of items, which is allocated for *cap elements.
 *
 *     Gap *gaps = array_grow(r->gaps, r->gap_count, &r->gap_cap, sizeof *gaps, err);
 *
 *     if (gaps == NULL)
 *         return -1;
 *     r->gaps = gaps;
 *     r->gaps[r->gap_count++] = *gap;
 *
 * items    the array, NULL at first; the caller's to free() in the end
 * Returns  the array, perhaps in another place; what is new in it is not set. NULL when memory is
 *          out: items and *cap are as before, and err says NOMEM
 */
MUST_CHECK void *array_grow(void *items, size_t count, size_t *cap, size_t item_bytes, Error *err);

#endif
