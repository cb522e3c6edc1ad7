/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Base64: the vectors of RFC 4648, and that only canonical text is taken.
 */
#include "crypto/base64.h"

#include <string.h>

#include "tap.h"

static const struct
{
    const char *plain, *raw, *padded;
} vectors[] = {
    {"", "", ""},
    {"f", "Zg", "Zg=="},
    {"fo", "Zm8", "Zm8="},
    {"foo", "Zm9v", "Zm9v"},
    {"foob", "Zm9vYg", "Zm9vYg=="},
    {"fooba", "Zm9vYmE", "Zm9vYmE="},
    {"foobar", "Zm9vYmFy", "Zm9vYmFy"},
    {"\xff\xff\xfe\xfb", "///++w", "///++w=="},
};

static const struct
{
    const char *label, *text;
} bad_raw[] =
    {
        {"one digit", "Z"},
        {"five digits", "Zm9vY"},
        {"padding", "Zg=="},
        {"bits left over, two digits", "Zh"},
        {"bits left over, three digits", "Zm9"},
        {"line feed", "Zm9v\n"},
        {"blank", "Zm 9v"},
        {"URL alphabet", "--__"},
        {"byte above ASCII", "Zm9\xe9"},
},
  bad_padded[] = {
      {"no padding", "Zg"},       {"one of two paddings", "Zg="}, {"three paddings", "Z==="},
      {"only padding", "===="},   {"padding within", "Zg==Zg=="}, {"padding too many", "Zm9v===="},
      {"bits left over", "Zh=="},
};

int
main(void)
{
    uint8_t out[16];
    size_t len;

    for (size_t i = 0; i < ARRAY_COUNT(vectors); i++)
    {
        size_t plain_len = strlen(vectors[i].plain);
        char text[32];
        union
        {
            const char *text;
            const uint8_t *bytes;
        } plain = {vectors[i].plain};

        len = base64_encode_raw(plain.bytes, plain_len, text);
        ok(len == strlen(vectors[i].raw) && len == BASE64_RAW_LEN(plain_len) &&
               memcmp(text, vectors[i].raw, len) == 0,
           "encode to \"%s\"", vectors[i].raw);
        ok(base64_decode_raw(vectors[i].raw, strlen(vectors[i].raw), out, sizeof out, &len) &&
               len == plain_len && memcmp(out, plain.bytes, len) == 0,
           "decode \"%s\"", vectors[i].raw);
        ok(base64_decode_padded(
               vectors[i].padded, strlen(vectors[i].padded), out, sizeof out, &len) &&
               len == plain_len && memcmp(out, plain.bytes, len) == 0,
           "decode padded \"%s\"", vectors[i].padded);
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad_raw); i++)
        ok(!base64_decode_raw(bad_raw[i].text, strlen(bad_raw[i].text), out, sizeof out, &len),
           "refuse: %s", bad_raw[i].label);
    for (size_t i = 0; i < ARRAY_COUNT(bad_padded); i++)
        ok(!base64_decode_padded(
               bad_padded[i].text, strlen(bad_padded[i].text), out, sizeof out, &len),
           "refuse padded: %s", bad_padded[i].label);
    ok(!base64_decode_raw("Zm9v", 4, out, 2, &len), "refuse more than there is room for");
    ok(base64_decode_raw("Zm9v", 4, out, 3, &len) && len == 3, "exact room");
    return done_testing();
}
