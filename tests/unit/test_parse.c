/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The strict readers: what is not the number and nothing else is refused and leaves *out alone.
 */
#include "common/parse.h"

#include <string.h>

#include "tap.h"

#define UNTOUCHED UINT64_C(0xDEADBEEF)

static void
test_u64(void)
{
    static const struct
    {
        const char *label, *text;
        bool good;
        uint64_t want;
    } cases[] = {
        {"zero", "0", true, 0},
        {"leading zeros", "007", true, 7},
        {"the largest", "18446744073709551615", true, UINT64_MAX},
        {"one more", "18446744073709551616", false, 0},
        {"ten times more", "184467440737095516150", false, 0},
        {"empty", "", false, 0},
        {"plus sign", "+1", false, 0},
        {"minus sign", "-1", false, 0},
        {"leading blank", " 1", false, 0},
        {"trailing blank", "1 ", false, 0},
        {"trailing line end", "1\n", false, 0},
        {"hexadecimal", "0x10", false, 0},
        {"decimal point", "1.0", false, 0},
        {"exponent", "1e3", false, 0},
        {"a slash", "1/", false, 0},
        {"a colon", ":", false, 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        uint64_t value = UNTOUCHED;
        bool good = parse_u64(cases[i].text, &value);

        ok(good == cases[i].good && value == (good ? cases[i].want : UNTOUCHED), "u64: %s",
           cases[i].label);
    }
}

static void
test_u32(void)
{
    uint32_t value = 5;

    ok(parse_u32("4294967295", &value) && value == UINT32_MAX, "u32: the largest");
    value = 5;
    ok(!parse_u32("4294967296", &value) && value == 5, "u32: one more");
    ok(!parse_u32("-1", &value) && value == 5, "u32: minus sign");
}

static void
test_hex_upper(void)
{
    static const struct
    {
        const char *label, *text;
        size_t len;
        bool good;
        uint64_t want;
    } cases[] = {
        {"one digit", "F", 1, true, 15},
        {"a timeline", "0000000A", 8, true, 10},
        {"sixteen digits", "FFFFFFFFFFFFFFFF", 16, true, UINT64_MAX},
        {"only the first of more", "12ZZ", 2, true, 0x12},
        {"no digit", "1", 0, false, 0},
        {"seventeen digits", "00000000000000000", 17, false, 0},
        {"lower case", "0000000a", 8, false, 0},
        {"shorter than told", "12", 3, false, 0},
        {"G", "0G", 2, false, 0},
        {"blank", " 1", 2, false, 0},
        {"sign", "-1", 2, false, 0},
        {"between the digits and the letters", "0:", 2, false, 0},
        {"before the letters", "0@", 2, false, 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        uint64_t value = UNTOUCHED;
        bool good = parse_hex_upper(cases[i].text, cases[i].len, &value);

        ok(good == cases[i].good && value == (good ? cases[i].want : UNTOUCHED), "hex: %s",
           cases[i].label);
    }
}

static void
test_hex_bytes(void)
{
    static const struct
    {
        const char *label, *text;
        bool good;
    } cases[] = {
        {"lower case", "00abcdef", true},
        {"upper case", "00ABCDEF", true},
        {"mixed", "00aBcDeF", true},
        {"a digit short", "00abcde", false},
        {"a byte short", "00abcd", false},
        {"a byte more", "00abcdef00", false},
        {"a digit more", "00abcdef0", false},
        {"no digit", "00abcdeg", false},
        {"empty", "", false},
        {"a blank", "00abcd f", false},
    };
    static const uint8_t want[4] = {0x00, 0xAB, 0xCD, 0xEF};
    static const uint8_t untouched[4] = {1, 2, 3, 4};

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        uint8_t out[4] = {1, 2, 3, 4};
        bool good = parse_hex_bytes(cases[i].text, strlen(cases[i].text), out, sizeof out);

        ok(good == cases[i].good && memcmp(out, good ? want : untouched, 4) == 0, "hex bytes: %s",
           cases[i].label);
    }

    char text[9];

    ok(strcmp(format_hex(want, sizeof want, text), "00abcdef") == 0, "format_hex");
    ok(strcmp(format_hex(want, 0, text), "") == 0, "format_hex of nothing");
}

static void
test_bytes(void)
{
    static const struct
    {
        const char *label, *text;
        bool good;
        uint64_t want;
    } cases[] = {
        {"no unit", "4096", true, 4096},
        {"zero", "0", true, 0},
        {"B", "7B", true, 7},
        {"kB is 1024", "512kB", true, 524288},
        {"KiB", "1KiB", true, 1024},
        {"MB is 1024 kB", "1MB", true, 1048576},
        {"MiB", "64MiB", true, 67108864},
        {"GB", "1GB", true, 1073741824},
        {"GiB", "2GiB", true, UINT64_C(2147483648)},
        {"TB", "1TB", true, UINT64_C(1099511627776)},
        {"TiB", "16777215TiB", true, UINT64_C(18446742974197923840)},
        {"overflow by the unit", "16777216TiB", false, 0},
        {"overflow by the digits", "18446744073709551616", false, 0},
        {"a blank before the unit", "1 MB", false, 0},
        {"upper-case K", "1KB", false, 0},
        {"lower-case m", "1mb", false, 0},
        {"unknown unit", "1PB", false, 0},
        {"unit alone", "MB", false, 0},
        {"trailing blank", "1MB ", false, 0},
        {"fraction", "1.5GB", false, 0},
        {"minus", "-1MB", false, 0},
        {"empty", "", false, 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        uint64_t value = UNTOUCHED;
        bool good = parse_bytes(cases[i].text, &value);

        ok(good == cases[i].good && value == (good ? cases[i].want : UNTOUCHED), "bytes: %s",
           cases[i].label);
    }
}

static void
test_duration(void)
{
    static const struct
    {
        const char *label, *text;
        bool good;
        int64_t want;
    } cases[] = {
        {"a bare number is seconds", "5", true, 5000},
        {"zero", "0", true, 0},
        {"ms", "100ms", true, 100},
        {"s", "1s", true, 1000},
        {"min", "5min", true, 300000},
        {"h", "2h", true, 7200000},
        {"d", "30d", true, INT64_C(2592000000)},
        {"the largest", "9223372036854775807ms", true, INT64_MAX},
        {"one more", "9223372036854775808ms", false, 0},
        {"overflow by the unit", "9223372036854775807d", false, 0},
        {"m is ambiguous", "5m", false, 0},
        {"upper case", "5MIN", false, 0},
        {"a blank before the unit", "5 s", false, 0},
        {"minus", "-5s", false, 0},
        {"unit alone", "s", false, 0},
        {"empty", "", false, 0},
        {"two of them", "1h30min", false, 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        int64_t value = -77;
        bool good = parse_duration_ms(cases[i].text, &value);

        ok(good == cases[i].good && value == (good ? cases[i].want : -77), "duration: %s",
           cases[i].label);
    }
}

static void
test_bool(void)
{
    static const struct
    {
        const char *text;
        bool good, want;
    } cases[] = {
        {"on", true, true},        {"off", true, false},  {"true", true, true},
        {"false", true, false},    {"yes", true, true},   {"no", true, false},
        {"1", true, true},         {"0", true, false},    {"ON", true, true},
        {"False", true, false},    {"", false, false},    {"o", false, false},
        {"enabled", false, false}, {"on ", false, false}, {"2", false, false},
        {"01", false, false},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        /* both values before, so that a refusal that writes is seen */
        for (int before = 0; before < 2; before++)
        {
            bool value = before == 1;
            bool good = parse_bool(cases[i].text, &value);

            ok(good == cases[i].good && value == (good ? cases[i].want : before == 1),
               "bool: \"%s\"", cases[i].text);
        }
    }
}

int
main(void)
{
    test_u64();
    test_u32();
    test_hex_upper();
    test_hex_bytes();
    test_bytes();
    test_duration();
    test_bool();
    return done_testing();
}
