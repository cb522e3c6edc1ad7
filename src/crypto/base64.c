/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Canonical base64; see base64.h. OpenSSL's decoder accepts more than one text for the same bytes.
 */
#include "crypto/base64.h"

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t
base64_encode_raw(const uint8_t *data, size_t len, char *out)
{
    uint32_t bits = 0;
    unsigned have = 0;
    size_t n = 0;

    for (size_t i = 0; i < len; i++)
    {
        bits = bits << 8 | data[i];
        for (have += 8; have >= 6; have -= 6)
            out[n++] = base64_digits[bits >> (have - 6) & 63];
    }
    if (have > 0)
        out[n++] = base64_digits[bits << (6 - have) & 63];
    return n;
}

static int
base64_digit_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+')
        return 62;
    return c == '/' ? 63 : -1;
}

bool
base64_decode_raw(const char *text, size_t text_len, uint8_t *out, size_t cap, size_t *len)
{
    uint32_t bits = 0;
    unsigned have = 0;
    size_t n = 0;

    if (text_len % 4 == 1)
        return false;
    for (size_t i = 0; i < text_len; i++)
    {
        int value = base64_digit_value(text[i]);

        if (value < 0)
            return false;
        bits = (bits << 6 | (uint32_t) value) & 0xFFFF;
        have += 6;
        if (have >= 8)
        {
            have -= 8;
            if (n == cap)
                return false;
            out[n++] = (uint8_t) (bits >> have);
        }
    }
    if ((bits & ((UINT32_C(1) << have) - 1)) != 0)
        return false;
    *len = n;
    return true;
}

bool
base64_decode_padded(const char *text, size_t text_len, uint8_t *out, size_t cap, size_t *len)
{
    size_t padding = 0;

    if (text_len % 4 != 0)
        return false;
    while (padding < 2 && padding < text_len && text[text_len - 1 - padding] == '=')
        padding++;
    /* two digits carry one byte, three carry two: the rest of four is exactly the padding */
    return base64_decode_raw(text, text_len - padding, out, cap, len);
}
