/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/crc32c.h"

#include <inttypes.h>
#include <string.h>

#include "common/compiler.h"
#include "tap.h"

/* The definition, bit by bit. */
static uint32_t
crc32c_slowly(const uint8_t *p, size_t len)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < len; i++)
    {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc & 1) != 0 ? crc >> 1 ^ 0x82F63B78u : crc >> 1;
    }
    return ~crc;
}

/* Published values: RFC 3720, appendix B.4, and the usual check value. */
static void
test_known(void)
{
    static uint8_t zeros[32], ones[32], up[32], down[32];
    const struct
    {
        const char *label;
        const void *data;
        size_t len;
        uint32_t want;
    } cases[] = {
        {"nothing", "", 0, 0},
        {"123456789", "123456789", 9, 0xE3069283},
        {"32 bytes of zeros", zeros, 32, 0x8A9136AA},
        {"32 bytes of ones", ones, 32, 0x62A8AB43},
        {"32 bytes ascending", up, 32, 0x46DD794E},
        {"32 bytes descending", down, 32, 0x113FDB5C},
    };

    memset(ones, 0xFF, sizeof ones);
    for (uint8_t i = 0; i < 32; i++)
    {
        up[i] = i;
        down[i] = (uint8_t) (31 - i);
    }
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        ok(crc32c(0, cases[i].data, cases[i].len) == cases[i].want, "%s", cases[i].label);
        ok(crc32c_portable(0, cases[i].data, cases[i].len) == cases[i].want,
           "%s, without the instruction", cases[i].label);
    }
}

static void
test_lengths_and_cuts(void)
{
    uint8_t data[300];
    size_t wrong = 0, wrong_cut = 0;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t) (i * 37 + (i >> 3));
    for (size_t at = 0; at < 8; at++)
        for (size_t len = 0; at + len <= 128; len++)
        {
            uint32_t want = crc32c_slowly(data + at, len);

            wrong += crc32c(0, data + at, len) != want;
            wrong += crc32c_portable(0, data + at, len) != want;
        }
    ok(wrong == 0, "every length to 120 at every alignment is as the definition says");

    uint32_t whole = crc32c_slowly(data, sizeof data);

    for (size_t cut = 0; cut <= sizeof data; cut++)
    {
        wrong_cut += crc32c(crc32c(0, data, cut), data + cut, sizeof data - cut) != whole;
        wrong_cut +=
            crc32c_portable(crc32c_portable(0, data, cut), data + cut, sizeof data - cut) != whole;
    }
    ok(wrong_cut == 0, "the same in two portions cut anywhere");
}

/* Combined at every cut; and from pieces in any order with zeros between them. */
static void
test_combined(void)
{
    enum
    {
        BYTES = 3000
    };
    static uint8_t data[BYTES], sparse[BYTES];
    uint32_t wrong = 0;

    for (size_t i = 0; i < BYTES; i++)
        data[i] = (uint8_t) (i * 7 + i / 256);
    for (size_t cut = 0; cut <= BYTES; cut += 11)
        if (crc32c_combine(crc32c(0, data, cut), crc32c(0, data + cut, BYTES - cut), BYTES - cut) !=
            crc32c(0, data, BYTES))
            wrong++;
    ok(wrong == 0, "CRCs of two parts combine to that of the whole");

    static const struct
    {
        const char *label;
        struct
        {
            size_t at, len;
        } pieces[4];
    } cases[] = {
        {"no piece: all zeros", {{0, 0}}},
        {"one piece is all of it", {{0, BYTES}}},
        {"in order", {{0, 1000}, {1000, 1000}, {2000, 1000}}},
        {"out of order", {{2000, 1000}, {0, 1000}, {1000, 1000}}},
        {"zeros before, between and behind", {{2000, 7}, {100, 500}, {1024, 512}}},
        {"zeros behind", {{0, 1}}},
        {"zeros before", {{BYTES - 1, 1}}},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        uint32_t pieces = 0;

        memset(sparse, 0, sizeof sparse);
        for (size_t k = 0; k < ARRAY_COUNT(cases[i].pieces); k++)
        {
            size_t at = cases[i].pieces[k].at, len = cases[i].pieces[k].len;

            memcpy(sparse + at, data + at, len);
            pieces ^= crc32c_piece(data + at, len, BYTES - at - len);
        }
        ok(crc32c_whole(pieces, BYTES) == crc32c(0, sparse, BYTES), "%s", cases[i].label);
    }
    ok(crc32c_whole(0, 0) == 0, "nothing at all");
}

/* Lengths too long to be computed: twice half of one is the same as one. */
static void
test_long(void)
{
    static const uint8_t zeros[65536];
    uint32_t crc = 0;
    uint32_t wrong = 0;

    for (uint64_t bytes = 0; bytes < UINT64_C(0x1010003); bytes += sizeof zeros)
        crc = crc32c(crc, zeros, MIN(sizeof zeros, UINT64_C(0x1010003) - bytes));
    ok(crc32c_whole(0, 0x1010003) == crc, "the CRC of more than 16 MiB of zeros");
    for (uint64_t half = 1; half <= UINT64_C(1) << 62; half = half * 2 + half % 3)
        if (crc32c_combine(0x12345678, 0, 2 * half) !=
            crc32c_combine(crc32c_combine(0x12345678, 0, half), 0, half))
            wrong++;
    ok(wrong == 0, "lengths up to 2^63");
}

int
main(void)
{
    test_combined();
    test_long();
    test_known();
    test_lengths_and_cuts();
    return done_testing();
}
