/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "pg/block_set.h"

#include <stdlib.h>
#include <string.h>

#include "tap.h"

/* The set of text, which must be well-formed. */
static BlockSet
set_of(const char *text)
{
    BlockSet set = {0};
    Error err;

    if (block_set_parse(text, strlen(text), &set, &err) < 0)
        ok(false, "\"%s\": %s", text, err.msg);
    return set;
}

static bool
set_is(const BlockSet *set, const char *want)
{
    AUTO(strbuf_reset) StrBuf text = {0};
    Error err;
    bool good;

    strbuf_init(&text, 1 << 20);
    block_set_format(set, &text);
    good = strbuf_finish(&text, &err) == 0 && strcmp(strbuf_text(&text), want) == 0;
    if (!good)
        diag("have \"%s\", want \"%s\"", strbuf_text(&text), want);
    return good;
}

static void
test_text(void)
{
    static const struct
    {
        const char *label, *text;
        uint64_t blocks;
        uint32_t end;
    } good[] = {
        {"the empty set", "", 0, 0},
        {"the first block", "0", 1, 1},
        {"the example of the header", "3-2,4", 4, 10},
        {"the smallest gap", "0,2,2", 3, 5},
        {"the last block of all", "16777215", 1, BLOCK_SET_MAX_BLOCK},
        {"all blocks", "0-16777215", BLOCK_SET_MAX_BLOCK, BLOCK_SET_MAX_BLOCK},
        {"ranges and blocks", "10-9,81-2,100", 14, 203},
    };
    static const char *const bad[] = {
        ",",          "3,",         ",3",
        "3,,4",       "3-",         "-3",
        "3-0",        "03",         "3-2-1",
        "3,1",        "3,0",        "3 ",
        " 3",         "+3",         "3,-4",
        "16777216",   "0-16777216", "1-16777215",
        "16777214,2", "3,04",       "99999999999999999999",
        "3;4",        "a",          "0x3",
    };

    for (size_t i = 0; i < ARRAY_COUNT(good); i++)
    {
        AUTO(block_set_reset) BlockSet set = set_of(good[i].text);

        ok(set_is(&set, good[i].text) && block_set_blocks(&set) == good[i].blocks &&
               block_set_end(&set) == good[i].end,
           "%s: \"%s\"", good[i].label, good[i].text);
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
    {
        AUTO(block_set_reset) BlockSet set = set_of("7");
        Error err = {0};

        ok(block_set_parse(bad[i], strlen(bad[i]), &set, &err) == -1 && err.kind == ERROR_CORRUPT &&
               set_is(&set, "7"),
           "\"%s\" is refused, and the set stays", bad[i]);
    }

    AUTO(block_set_reset) BlockSet set = {0};
    Error err = {0};

    ok(block_set_parse("3\0", 2, &set, &err) == -1, "a NUL is refused");
    ok(block_set_parse("34", 1, &set, &err) == 0 && set_is(&set, "3"), "the length counts");
    ok(block_set_parse(NULL, 0, &set, &err) == 0 && set.count == 0, "nothing is the empty set");
}

static void
test_add(void)
{
    static const struct
    {
        const char *label, *before;
        uint32_t first, count;
        const char *want;
    } cases[] = {
        {"into nothing", "", 5, 2, "5-1"},
        {"no block", "5", 9, 0, "5"},
        {"behind", "5", 9, 1, "5,4"},
        {"touching the end", "5", 6, 1, "5-1"},
        {"before", "5", 1, 2, "1-1,3"},
        {"touching the beginning", "5", 4, 1, "4-1"},
        {"there already", "3-4", 4, 2, "3-4"},
        {"the same", "3-4", 3, 5, "3-4"},
        {"over the end", "3-4", 6, 5, "3-7"},
        {"between", "3,10", 8, 1, "3,5,5"},
        {"closing a gap", "3,2", 4, 1, "3-2"},
        {"over all", "3,2,2,2", 0, 100, "0-99"},
        {"over the middle", "3,4,4,4", 6, 6, "3,3-5,4"},
        {"the last block", "3", BLOCK_SET_MAX_BLOCK - 1, 1, "3,16777212"},
    };
    static const struct
    {
        uint32_t first, count;
    } bad[] = {
        {BLOCK_SET_MAX_BLOCK, 1}, {0, BLOCK_SET_MAX_BLOCK + 1}, {UINT32_MAX, 1}, {1, UINT32_MAX}};

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(block_set_reset) BlockSet set = set_of(cases[i].before);
        Error err;

        ok(block_set_add(&set, cases[i].first, cases[i].count, &err) == 0 &&
               set_is(&set, cases[i].want),
           "add: %s", cases[i].label);
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
    {
        AUTO(block_set_reset) BlockSet set = {0};
        Error err = {0};

        ok(block_set_add(&set, bad[i].first, bad[i].count, &err) == -1 &&
               err.kind == ERROR_CORRUPT && set.count == 0,
           "add: %u blocks from %u are too many", bad[i].count, bad[i].first);
    }
}

static void
test_sets(void)
{
    static const struct
    {
        const char *a, *b, *both, *without;
    } cases[] = {
        {"", "", "", ""},
        {"3-2", "", "3-2", "3-2"},
        {"", "3-2", "3-2", ""},
        {"3-2", "4", "3-2", "3,2"},
        {"3-2", "3-2", "3-2", ""},
        {"3-2", "0-9", "0-9", ""},
        {"0-9", "3-1,3-1", "0-9", "0-2,3-1,3"},
        {"0,2,2,2", "1,2,2", "0-6", "0,2,2,2"},
        {"0-3,6-2", "2-6", "0-11", "0-1,8-2"},
        {"10-5", "2,8-1,3", "2,8-5", "12-1,2"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(block_set_reset) BlockSet a = set_of(cases[i].a);
        AUTO(block_set_reset) BlockSet b = set_of(cases[i].b);
        AUTO(block_set_reset) BlockSet out = set_of("1,2,3");
        Error err;

        ok(block_set_subtract(&a, &b, &out, &err) == 0 && set_is(&out, cases[i].without),
           "\"%s\" without \"%s\"", cases[i].a, cases[i].b);
        ok(block_set_add_set(&out, &b, &err) == 0 && block_set_add_set(&out, &a, &err) == 0 &&
               set_is(&out, cases[i].both),
           "\"%s\" with \"%s\"", cases[i].a, cases[i].b);
        ok(block_set_subtract(&a, &b, &a, &err) == 0 && set_is(&a, cases[i].without),
           "the same in place");
        ok(block_set_add_set(&b, &b, &err) == 0 && set_is(&b, cases[i].b), "with itself");
    }
}

static void
test_truncate(void)
{
    static const struct
    {
        const char *before;
        uint32_t limit;
        const char *want;
    } cases[] = {
        {"", 5, ""},         {"3-4,9", 0, ""},     {"3-4,9", 3, ""},       {"3-4,9", 4, "3"},
        {"3-4,9", 8, "3-4"}, {"3-4,9", 16, "3-4"}, {"3-4,9", 17, "3-4,9"}, {"3-4,9", 99, "3-4,9"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(block_set_reset) BlockSet set = set_of(cases[i].before);

        block_set_truncate(&set, cases[i].limit);
        ok(set_is(&set, cases[i].want), "\"%s\" below %u", cases[i].before, cases[i].limit);
    }
}

/* Against a table of bits, blocks in no order. */
static void
test_random(void)
{
    enum
    {
        BLOCKS = 2000
    };
    AUTO(block_set_reset) BlockSet set = {0};
    bool table[BLOCKS] = {false};
    uint64_t state = 42;
    uint64_t blocks = 0;
    bool good = true;
    Error err;

    for (size_t n = 0; good && n < 400; n++)
    {
        state = state * 6364136223846793005u + 1442695040888963407u;

        uint32_t first = (uint32_t) (state >> 33) % (BLOCKS - 8);
        uint32_t count = 1 + (uint32_t) (state >> 20) % 4;

        good = block_set_add(&set, first, count, &err) == 0;
        for (uint32_t k = 0; k < count; k++)
            table[first + k] = true;
        for (size_t i = 1; good && i < set.count; i++)
            good = set.ranges[i - 1].first + set.ranges[i - 1].count < set.ranges[i].first;
    }
    ok(good, "ranges ascend and never touch");
    for (uint32_t i = 0; good && i < BLOCKS; i++)
    {
        good = block_set_has(&set, i) == table[i];
        blocks += table[i];
    }
    ok(good && block_set_blocks(&set) == blocks, "a set has what was added, and nothing else");
    ok(!block_set_has(&set, UINT32_MAX) && !block_set_has(&set, BLOCK_SET_MAX_BLOCK),
       "no block behind the last");
    block_set_reset(&set);
    ok(!block_set_has(&set, 0) && block_set_end(&set) == 0, "nothing after a reset");
}

int
main(void)
{
    test_text();
    test_add();
    test_sets();
    test_truncate();
    test_random();
    return done_testing();
}
