/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/array.h"

#include <stdlib.h>

#include "tap.h"

static void
test_growth(void)
{
    uint64_t *items = NULL;
    size_t cap = 0;
    size_t moves = 0;
    bool good = true;
    Error err = {0};

    for (size_t count = 0; good && count < 1000; count++)
    {
        size_t before = cap;
        uint64_t *grown = array_grow(items, count, &cap, sizeof *items, &err);

        good = grown != NULL && cap > count && (cap == before ? grown == items : count == before);
        if (grown == NULL)
            break;
        moves += cap != before;
        items = grown;
        items[count] = count * 3;
    }
    ok(good, "there is room for each of 1000, and nothing moves while there is room");
    ok(moves <= 8, "it doubles");
    for (size_t i = 0; good && i < 1000; i++)
        good = items[i] == i * 3;
    ok(good, "what was there stays");
    free(items);
}

static void
test_too_large(void)
{
    static const struct
    {
        const char *label;
        size_t cap, item_bytes;
    } cases[] = {
        {"twice the elements is more than a size", SIZE_MAX / 2 + 1, 1},
        {"so are their bytes", SIZE_MAX / 16, 16},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        size_t cap = cases[i].cap;
        Error err = {0};

        ok(array_grow(NULL, cap, &cap, cases[i].item_bytes, &err) == NULL &&
               err.kind == ERROR_NOMEM && cap == cases[i].cap,
           "%s", cases[i].label);
    }
}

int
main(void)
{
    test_growth();
    test_too_large();
    return done_testing();
}
