/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Bech32: the vectors of BIP 173, keys of age, and every single-character error in a key.
 */
#include "crypto/bech32.h"

#include <string.h>

#include "tap.h"

static const struct
{
    const char *label, *text;
    int rc;
    const char *hrp;
    size_t len;
} decode_cases[] = {
    {"BIP 173, upper case", "A12UEL5L", 0, "A", 0},
    {"BIP 173, lower case", "a12uel5l", 0, "a", 0},
    {"BIP 173, long prefix",
     "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio1tt5tgs",
     0, "an83characterlonghumanreadablepartthatcontainsthenumber1andtheexcludedcharactersbio", 0},
    {"BIP 173, every character", "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw", 0, "abcdef", 20},
    {"BIP 173, prefix is a separator",
     "11qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqc8247j",
     0, "1", 51},
    {"BIP 173, punctuation", "?1ezyfcl", 0, "?", 0},
    {"BIP 173, space in prefix", " 1nwldj5", -1, NULL, 0},
    {"BIP 173, delete in prefix",
     "\x7f"
     "1axkwrx",
     -1, NULL, 0},
    {"BIP 173, byte above ASCII",
     "\x80"
     "1eym55h",
     -1, NULL, 0},
    {"BIP 173, no separator", "pzry9x0s0muk", -1, NULL, 0},
    {"BIP 173, empty prefix", "1pzry9x0s0muk", -1, NULL, 0},
    {"BIP 173, invalid data character", "x1b4n0q5v", -1, NULL, 0},
    {"BIP 173, checksum too short", "li1dgmt3", -1, NULL, 0},
    {"BIP 173, invalid checksum character", "de1lg7wt\xff", -1, NULL, 0},
    {"BIP 173, checksum of the upper-case prefix", "A1G7SGD8", -1, NULL, 0},
    {"BIP 173, empty prefix, ten characters", "10a06t8", -1, NULL, 0},
    {"BIP 173, empty prefix, checksum only", "1qzzfhee", -1, NULL, 0},
    {"mixed case", "A12uEL5L", -1, NULL, 0},
    {"BIP 173, words", "split1checkupstagehandshakeupstreamerranterredcaperred2y9e3w", 0, "split",
     30},
    {"two bits left over, zero", "age1pypwtrqg", 0, "age", 1},
    {"two bits left over, not zero", "age1ppnjasjq", -1, NULL, 0},
    {"five bits left over, nothing else", "age1psm9pam", -1, NULL, 0},
    {"five bits left over", "age1pyqqqqqqqmee5vf", -1, NULL, 0},
    {"Bech32m checksum", "a1lqfn3a", -1, NULL, 0},
    {"empty", "", -1, NULL, 0},
    {"age recipient", "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj", 0, "age",
     32},
    {"age secret key", "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX",
     0, "AGE-SECRET-KEY-", 32},
};

static void
test_decode(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(decode_cases); i++)
    {
        Error err = {0};
        char hrp[BECH32_TEXT_MAX];
        uint8_t data[64];
        size_t len = 999;
        int rc =
            bech32_decode(decode_cases[i].text, hrp, sizeof hrp, data, sizeof data, &len, &err);
        bool good = rc == decode_cases[i].rc;

        if (good && rc == 0)
        {
            char again[BECH32_TEXT_MAX];

            good = strcmp(hrp, decode_cases[i].hrp) == 0 && len == decode_cases[i].len &&
                   bech32_encode(hrp, data, len, again, sizeof again, &err) == 0 &&
                   strcmp(again, decode_cases[i].text) == 0;
        }
        else if (good)
            good = err.kind == ERROR_USAGE;
        if (!ok(good, "decode: %s", decode_cases[i].label))
            diag("rc %d, %s", rc, err.msg);
    }
}

static void
test_room(void)
{
    static const char text[] = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
    Error err = {0};
    char hrp[8], out[80], longer[BECH32_TEXT_MAX + 2];
    uint8_t data[32];
    size_t len;

    ok(bech32_decode(text, hrp, 3, data, sizeof data, &len, &err) == -1 && err.kind == ERROR_USAGE,
       "no room for the prefix and its NUL");
    ok(bech32_decode(text, hrp, 4, data, sizeof data, &len, &err) == 0,
       "exact room for the prefix");
    ok(bech32_decode(text, hrp, 4, data, 31, &len, &err) == -1 && err.kind == ERROR_USAGE,
       "no room for the last byte");
    ok(bech32_decode(text, hrp, 4, data, 32, &len, &err) == 0 && len == 32,
       "exact room for the data");
    ok(bech32_encode("age", data, 32, out, sizeof text, &err) == 0 && strcmp(out, text) == 0,
       "exact room for the text");
    ok(bech32_encode("age", data, 32, out, sizeof text - 1, &err) == -1 && err.kind == ERROR_USAGE,
       "no room for the text");
    ok(bech32_encode("Age", data, 32, out, sizeof out, &err) == -1,
       "mixed case in a prefix to encode");
    ok(bech32_encode("", data, 32, out, sizeof out, &err) == -1, "empty prefix to encode");

    memset(longer, 'q', sizeof longer);
    memcpy(longer, "a1", 2);
    longer[sizeof longer - 1] = '\0';
    ok(bech32_decode(longer, hrp, sizeof hrp, data, sizeof data, &len, &err) == -1 &&
           err.kind == ERROR_USAGE,
       "text beyond the maximum");
}

/* The checksum finds every error in up to four characters; one is tried exhaustively. */
static void
test_each_character_changed(void)
{
    static const char good[] =
        "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
    size_t accepted = 0, quoted = 0;

    for (size_t i = 0; i < sizeof good - 1; i++)
        for (int c = 1; c < 256; c++)
        {
            char text[sizeof good], hrp[BECH32_TEXT_MAX];
            uint8_t data[64];
            size_t len;
            Error err = {0};

            memcpy(text, good, sizeof good);
            if (text[i] == (char) c)
                continue;
            text[i] = (char) c;
            if (bech32_decode(text, hrp, sizeof hrp, data, sizeof data, &len, &err) == 0)
                accepted++;
            else if (strstr(err.msg, "GFPYY") != NULL)
                quoted++;
        }
    ok(accepted == 0, "no changed character is accepted");
    ok(quoted == 0, "no message quotes the text");
}

int
main(void)
{
    test_decode();
    test_room();
    test_each_character_changed();
    return done_testing();
}
