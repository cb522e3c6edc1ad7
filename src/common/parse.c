/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Strict readers of numbers in text; see parse.h.
 */
#include "common/parse.h"

#include <string.h>
#include <strings.h>

/* Reads the digits at the start; *end is behind them. False if there are none or on overflow. */
static bool
parse_digits(const char *text, const char **end, uint64_t *out)
{
    uint64_t value = 0;
    const char *p = text;

    for (; *p >= '0' && *p <= '9'; p++)
    {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t) (*p - '0'), &value))
            return false;
    }
    if (p == text)
        return false;
    *end = p;
    *out = value;
    return true;
}

bool
parse_u64(const char *text, uint64_t *out)
{
    const char *end;
    uint64_t value;

    if (!parse_digits(text, &end, &value) || *end != '\0')
        return false;
    *out = value;
    return true;
}

bool
parse_u32(const char *text, uint32_t *out)
{
    uint64_t value;

    if (!parse_u64(text, &value) || value > UINT32_MAX)
        return false;
    *out = (uint32_t) value;
    return true;
}

bool
parse_hex_upper(const char *text, size_t len, uint64_t *out)
{
    uint64_t value = 0;

    if (len < 1 || len > 16)
        return false;
    for (size_t i = 0; i < len; i++)
    {
        char c = text[i];

        if (c >= '0' && c <= '9')
            value = value << 4 | (uint64_t) (c - '0');
        else if (c >= 'A' && c <= 'F')
            value = value << 4 | (uint64_t) (c - 'A' + 10);
        else
            return false;
    }
    *out = value;
    return true;
}

static int
parse_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool
parse_hex_bytes(const char *text, size_t len, uint8_t *out, size_t out_len)
{
    if (len != out_len * 2)
        return false;
    /* all of text is looked at before out is touched */
    for (size_t i = 0; i < len; i++)
    {
        if (parse_hex_digit(text[i]) < 0)
            return false;
    }
    for (size_t i = 0; i < out_len; i++)
        out[i] =
            (uint8_t) ((unsigned) parse_hex_digit(text[2 * i]) << 4 | (unsigned) parse_hex_digit(text[2 * i + 1]));
    return true;
}

char *
format_hex(const void *data, size_t len, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *bytes = data;

    for (size_t i = 0; i < len; i++)
    {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * len] = '\0';
    return out;
}

bool
parse_bytes(const char *text, uint64_t *out)
{
    static const struct
    {
        const char *name;
        int shift;
    } units[] = {
        {"", 0},     {"B", 0},   {"kB", 10},  {"KiB", 10}, {"MB", 20},
        {"MiB", 20}, {"GB", 30}, {"GiB", 30}, {"TB", 40},  {"TiB", 40},
    };
    const char *unit;
    uint64_t value;

    if (!parse_digits(text, &unit, &value))
        return false;
    for (size_t i = 0; i < ARRAY_COUNT(units); i++)
    {
        if (strcmp(unit, units[i].name) != 0)
            continue;
        if (__builtin_mul_overflow(value, UINT64_C(1) << units[i].shift, &value))
            return false;
        *out = value;
        return true;
    }
    return false;
}

#define DAY_MS INT64_C(86400000)

bool
parse_duration_ms(const char *text, int64_t *out)
{
    static const struct
    {
        const char *name;
        int64_t ms;
    } units[] = {
        {"", 1000},         {"ms", 1},     {"s", 1000},       {"min", 60 * 1000},
        {"h", 3600 * 1000}, {"d", DAY_MS}, {"w", 7 * DAY_MS}, {"y", 365 * DAY_MS},
    };
    const char *unit;
    uint64_t number;
    int64_t value;

    if (!parse_digits(text, &unit, &number))
        return false;
    for (size_t i = 0; i < ARRAY_COUNT(units); i++)
    {
        if (strcmp(unit, units[i].name) != 0)
            continue;
        if (__builtin_mul_overflow(number, units[i].ms, &value))
            return false;
        *out = value;
        return true;
    }
    return false;
}

bool
parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"on", "true", "yes", "1"};
    static const char *const no[] = {"off", "false", "no", "0"};

    for (size_t i = 0; i < ARRAY_COUNT(yes); i++)
    {
        if (strcasecmp(text, yes[i]) == 0)
        {
            *out = true;
            return true;
        }
        if (strcasecmp(text, no[i]) == 0)
        {
            *out = false;
            return true;
        }
    }
    return false;
}
