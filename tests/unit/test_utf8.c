/* SPDX-License-Identifier: PostgreSQL */
#include "common/utf8.h"

#include <stdlib.h>
#include <string.h>

#include "tap.h"

static const struct
{
    const char *label, *text;
    size_t length; /* of the first sequence */
    bool valid;
} cases[] = {
    {"nothing", "", 1, true},
    {"ASCII", "base/5/16384", 1, true},
    {"two bytes", "\xC3\xA4", 2, true},
    {"three", "\xE2\x82\xAC.", 3, true},
    {"four", "\xF0\x9F\x98\x80", 4, true},
    {"the last of all", "\xF4\x8F\xBF\xBF", 4, true},
    {"above it", "\xF4\x90\x80\x80", 0, false},
    {"overlong slash", "\xC0\xAF", 0, false},
    {"overlong in three", "\xE0\x9F\xBF", 0, false},
    {"overlong in four", "\xF0\x8F\xBF\xBF", 0, false},
    {"a surrogate", "\xED\xA0\x80", 0, false},
    {"below the surrogates", "\xED\x9F\xBF", 3, true},
    {"a continuation alone", "\x80", 0, false},
    {"Latin-1", "f\xFC", 1, false},
    {"cut after one", "\xE2", 0, false},
    {"cut after two", "a\xE2\x82", 1, false},
    {"cut after three", "\xF0\x9F\x98", 0, false},
    {"FF", "\xFF", 0, false},
};

static const struct
{
    const char *label, *text, *want;
} copies[] = {
    {"nothing", "", ""},
    {"valid", "a\xC3\xA4\xF0\x9F\x98\x80", "a\xC3\xA4\xF0\x9F\x98\x80"},
    {"Latin-1", "f\xFC.", "f\xEF\xBF\xBD."},
    {"cut", "a\xE2\x82", "a\xEF\xBF\xBD\xEF\xBF\xBD"},
};

int
main(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(copies); i++)
    {
        char *copy = utf8_copy(copies[i].text);

        ok(copy != NULL && strcmp(copy, copies[i].want) == 0, "copy: %s", copies[i].label);
        free(copy);
    }
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        ok(utf8_length(cases[i].text) == cases[i].length &&
               utf8_valid(cases[i].text) == cases[i].valid,
           "%s", cases[i].label);
    return done_testing();
}
