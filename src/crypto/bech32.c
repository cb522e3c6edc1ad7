/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Bech32; see bech32.h. Chapter and rule names are those of BIP 173.
 */
#include "crypto/bech32.h"

#include <openssl/crypto.h>
#include <string.h>

#define BECH32_CHECKSUM_CHARS 6

static const char bech32_charset[] = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";

static uint32_t
bech32_polymod_step(uint32_t checksum, uint8_t value)
{
    static const uint32_t generator[5] = {
        0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3};
    uint32_t top = checksum >> 25;

    checksum = (checksum & 0x1FFFFFF) << 5 ^ value;
    for (unsigned i = 0; i < 5; i++)
        if ((top >> i & 1) != 0)
            checksum ^= generator[i];
    return checksum;
}

static char
bech32_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
}

/* The prefix enters the checksum in lower case: high bits, a zero, low bits. */
static uint32_t
bech32_polymod_hrp(const char *hrp, size_t len)
{
    uint32_t checksum = 1;

    for (size_t i = 0; i < len; i++)
        checksum = bech32_polymod_step(checksum, (uint8_t) ((uint8_t) bech32_lower(hrp[i]) >> 5));
    checksum = bech32_polymod_step(checksum, 0);
    for (size_t i = 0; i < len; i++)
        checksum = bech32_polymod_step(checksum, (uint8_t) bech32_lower(hrp[i]) & 31);
    return checksum;
}

/* Text length when every character may occur and case is not mixed, otherwise an error. */
static int
bech32_check_characters(const char *text, size_t *len, Error *err)
{
    bool lower = false, upper = false;
    size_t n = strnlen(text, BECH32_TEXT_MAX + 1);

    if (n > BECH32_TEXT_MAX)
        return error_set(err, ERROR_USAGE, "text is too long");
    for (size_t i = 0; i < n; i++)
    {
        if (text[i] < 33 || text[i] > 126)
            return error_set(err, ERROR_USAGE, "character %zu is not allowed", i + 1);
        lower = lower || (text[i] >= 'a' && text[i] <= 'z');
        upper = upper || (text[i] >= 'A' && text[i] <= 'Z');
    }
    if (lower && upper)
        return error_set(err, ERROR_USAGE, "upper and lower case are mixed");
    *len = n;
    return 0;
}

static int
bech32_decode_values(
    const char *text, size_t len, size_t separator, uint8_t values[BECH32_TEXT_MAX], Error *err)
{
    uint32_t checksum = bech32_polymod_hrp(text, separator);
    size_t n = 0;

    for (size_t i = separator + 1; i < len; i++)
    {
        const char *at = memchr(bech32_charset, bech32_lower(text[i]), sizeof bech32_charset - 1);

        if (at == NULL)
            return error_set(err, ERROR_USAGE, "character %zu is not allowed", i + 1);
        values[n] = (uint8_t) (at - bech32_charset);
        checksum = bech32_polymod_step(checksum, values[n++]);
    }
    if (checksum != 1)
        return error_set(err, ERROR_USAGE, "checksum is wrong: a character was mistyped or lost");
    return 0;
}

/* Five-bit values to bytes; what is left must be less than five bits, all zero. */
static int
bech32_join_bits(
    const uint8_t *values, size_t count, uint8_t *data, size_t data_cap, size_t *data_len,
    Error *err)
{
    uint32_t bits = 0;
    unsigned have = 0;
    size_t n = 0;

    for (size_t i = 0; i < count; i++)
    {
        bits = (bits << 5 | values[i]) & 0xFFF;
        have += 5;
        if (have >= 8)
        {
            have -= 8;
            if (n == data_cap)
                return error_set(err, ERROR_USAGE, "text holds too many bytes");
            data[n++] = (uint8_t) (bits >> have);
        }
    }
    if (have >= 5 || (bits & ((UINT32_C(1) << have) - 1)) != 0)
        return error_set(err, ERROR_USAGE, "text does not hold whole bytes");
    *data_len = n;
    return 0;
}

int
bech32_decode(
    const char *text, char *hrp, size_t hrp_cap, uint8_t *data, size_t data_cap, size_t *data_len,
    Error *err)
{
    size_t len;

    if (bech32_check_characters(text, &len, err) < 0)
        return -1;

    const char *last_one = memrchr(text, '1', len);

    if (last_one == NULL || last_one == text)
        return error_set(err, ERROR_USAGE, "prefix is missing");

    size_t separator = (size_t) (last_one - text);

    if (len - separator - 1 < BECH32_CHECKSUM_CHARS)
        return error_set(err, ERROR_USAGE, "text is too short");
    if (separator >= hrp_cap)
        return error_set(err, ERROR_USAGE, "prefix is too long");

    uint8_t values[BECH32_TEXT_MAX] = {0};
    int rc = bech32_decode_values(text, len, separator, values, err);

    if (rc == 0)
        rc = bech32_join_bits(
            values, len - separator - 1 - BECH32_CHECKSUM_CHARS, data, data_cap, data_len, err);
    OPENSSL_cleanse(values, sizeof values);
    if (rc < 0)
    {
        OPENSSL_cleanse(data, data_cap);
        return -1;
    }
    memcpy(hrp, text, separator);
    hrp[separator] = '\0';
    return 0;
}

int
bech32_encode(
    const char *hrp, const uint8_t *data, size_t data_len, char *out, size_t out_cap, Error *err)
{
    size_t hrp_len;

    if (bech32_check_characters(hrp, &hrp_len, err) < 0)
        return -1;
    if (hrp_len == 0)
        return error_set(err, ERROR_USAGE, "prefix is missing");
    if (data_len > BECH32_TEXT_MAX ||
        hrp_len + 1 + (data_len * 8 + 4) / 5 + BECH32_CHECKSUM_CHARS >= out_cap)
        return error_set(err, ERROR_USAGE, "text is too long");

    bool upper = false;
    uint32_t checksum = bech32_polymod_hrp(hrp, hrp_len);
    uint32_t bits = 0;
    unsigned have = 0;
    char *at = out;

    for (size_t i = 0; i < hrp_len; i++)
    {
        upper = upper || (hrp[i] >= 'A' && hrp[i] <= 'Z');
        *at++ = hrp[i];
    }
    *at++ = '1';

    /* one round more than there are bytes drains the last bits, filled up with zeros */
    for (size_t i = 0; i <= data_len; i++)
    {
        if (i < data_len)
        {
            bits = (bits << 8 | data[i]) & 0xFFF;
            have += 8;
        }
        else if (have > 0)
        {
            bits <<= 5 - have;
            have = 5;
        }
        for (; have >= 5; have -= 5)
        {
            uint8_t value = bits >> (have - 5) & 31;

            checksum = bech32_polymod_step(checksum, value);
            *at++ = bech32_charset[value];
        }
    }
    for (unsigned i = 0; i < BECH32_CHECKSUM_CHARS; i++)
        checksum = bech32_polymod_step(checksum, 0);
    checksum ^= 1;
    for (unsigned i = 0; i < BECH32_CHECKSUM_CHARS; i++)
        *at++ = bech32_charset[checksum >> (5 * (5 - i)) & 31];
    *at = '\0';

    if (upper)
        for (at = out; *at != '\0'; at++)
            if (*at >= 'a' && *at <= 'z')
                *at = (char) (*at - 'a' + 'A');
    return 0;
}
