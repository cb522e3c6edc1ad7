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

int
main(void)
{
    test_known();
    test_lengths_and_cuts();
    return done_testing();
}
