/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The plain reader of lines must say what jansson says, or nothing: both read the same lines, and
 * what damage makes of them.
 */
#include "repo/manifest_members.h"

#include <stdlib.h>
#include <string.h>

#include "tap.h"

static bool
same_member(const ManifestMember *a, const ManifestMember *b)
{
    if (a->type != b->type)
        return false;
    if (a->type == MEMBER_TEXT)
        return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
    return a->type != MEMBER_INTEGER || a->number == b->number;
}

static bool
same_members(const ManifestMembers *a, const ManifestMembers *b)
{
    for (int c = 'A'; c <= 'z'; c++)
        if (!same_member(manifest_member(a, (char) c), manifest_member(b, (char) c)))
            return false;
    return a->list_count == b->list_count &&
           memcmp(a->list, b->list, a->list_count * sizeof *a->list) == 0;
}

/* Both ways; *plain: it was read without jansson. */
static bool
same_both_ways(const char *text, size_t len, bool *plain)
{
    static ManifestMembers a, b;
    Error err = {0}, any_err = {0};
    /* a block of exactly these bytes, so that reading behind it is seen */
    char *copy = malloc(len + (len == 0));

    if (copy == NULL)
        abort();
    memcpy(copy, text, len);

    int rc = manifest_members_read(&a, copy, len, &err);
    int any_rc = manifest_members_read_any(&b, copy, len, &any_err);
    bool same = rc == any_rc && (rc < 0 ? err.kind == any_err.kind : same_members(&a, &b));

    *plain = rc == 0 && a.doc == NULL;
    manifest_members_reset(&a);
    manifest_members_reset(&b);
    free(copy);
    return same;
}

static const struct
{
    const char *label, *text;
    bool plain;
} lines[] = {
    {"a file",
     "{\"f\": \"base/5/16384\", \"m\": \"0600\", \"u\": \"postgres\", \"t\": 1795273016, \"s\": "
     "8192, \"b\": 0, \"o\": 1024, \"c\": \"dac55f1e\", \"x\": "
     "\"e2c08dd1b82f1e0fac7293f7084bfcff\", \"i\": 1, \"k\": \"3-2,4\"}",
     true},
    {"a part", "{\"p\": 0, \"b\": 2, \"z\": [20158, 7], \"l\": 246272, \"s\": 20320}", true},
    {"without blanks", "{\"p\":0,\"z\":[1,2],\"t\":-5}", true},
    {"the largest of 18 digits", "{\"s\": 999999999999999999}", true},
    {"19 digits", "{\"s\": 9223372036854775807}", false},
    {"too large", "{\"s\": 9223372036854775808}", false},
    {"a number that begins with 0", "{\"s\": 01}", false},
    {"zero", "{\"s\": 0}", true},
    {"minus zero", "{\"s\": -0}", false},
    {"a minus alone", "{\"s\": -}", false},
    {"a fraction", "{\"s\": 1.0}", false},
    {"an exponent", "{\"s\": 1e3}", false},
    {"true", "{\"s\": true}", false},
    {"an escape", "{\"f\": \"a\\u0041\\n\"}", false},
    {"UTF-8", "{\"f\": \"caf\xC3\xA9\"}", false},
    {"not UTF-8", "{\"f\": \"caf\xC3\"}", false},
    {"a control character", "{\"f\": \"a\tb\"}", false},
    {"DEL", "{\"f\": \"a\x7F\"}", false},
    {"twice the same", "{\"f\": \"a\", \"f\": \"b\"}", false},
    {"a long name", "{\"header\": {\"format\": 1}}", false},
    {"a long name among short ones", "{\"f\": \"a\", \"new\": {\"f\": 1}}", false},
    {"a name that is no letter", "{\"[\": 1}", false},
    {"no name", "{\"\": 1}", false},
    {"another list", "{\"y\": [1]}", false},
    {"an empty list", "{\"z\": []}", false},
    {"a list with a large number", "{\"z\": [1, 4294967296]}", false},
    {"a list with a negative number", "{\"z\": [1, -1]}", false},
    {"a list with a text", "{\"z\": [1, \"2\"]}", false},
    {"an unfinished list", "{\"z\": [1, ]}", false},
    {"z as a text", "{\"z\": \"1\"}", true},
    {"two blanks", "{\"f\":  \"a\"}", false},
    {"a blank behind", "{\"f\": \"a\"} ", false},
    {"a blank before the colon", "{\"f\" : \"a\"}", false},
    {"a comma too many", "{\"f\": \"a\",}", false},
    {"more behind", "{\"f\": \"a\"}}", false},
    {"an empty object", "{}", false},
    {"an array", "[1]", false},
    {"nothing", "", false},
    {"no object", "1", false},
};

static void
test_lines(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(lines); i++)
    {
        bool plain;
        bool same = same_both_ways(lines[i].text, strlen(lines[i].text), &plain);

        ok(same && plain == lines[i].plain, "%s: the same both ways, %s", lines[i].label,
           plain ? "plain" : "by jansson");
    }
}

/* The first two lines: every byte replaced by each of these, taken away, and all behind it. */
static void
test_damage(void)
{
    static const char other[] = " 09-.\"\\[]{},:azAZe\x1F\x7F\xC3";

    for (size_t i = 0; i < 2; i++)
    {
        char text[512];
        size_t len = strlen(lines[i].text);
        size_t tried = 0;
        bool good = true, plain;

        for (size_t at = 0; at < len; at++)
        {
            memcpy(text, lines[i].text, len);
            for (const char *c = other; *c != '\0'; c++, tried++)
            {
                text[at] = *c;
                good = same_both_ways(text, len, &plain) && good;
            }
            memmove(text + at, lines[i].text + at + 1, len - at - 1);
            good = same_both_ways(text, len - 1, &plain) && good;
            good = same_both_ways(lines[i].text, at, &plain) && good;
        }
        ok(good && tried > len * 20, "%s: %zu kinds of damage, the same both ways", lines[i].label,
           tried);
    }
}

/* As many frames as a part can have, and one more. */
static void
test_long_list(void)
{
    for (size_t n = BACKUP_PART_MAX_FRAMES; n <= BACKUP_PART_MAX_FRAMES + 1; n++)
    {
        char text[16 * BACKUP_PART_MAX_FRAMES];
        size_t len = (size_t) snprintf(text, sizeof text, "{\"z\": [");
        bool plain;

        for (size_t i = 0; i < n; i++)
            len += (size_t) snprintf(text + len, sizeof text - len, "%s%zu", i ? ", " : "", i);
        len += (size_t) snprintf(text + len, sizeof text - len, "]}");
        ok(same_both_ways(text, len, &plain) && plain == (n == BACKUP_PART_MAX_FRAMES),
           "a list of %zu", n);
    }
}

int
main(void)
{
    test_lines();
    test_damage();
    test_long_list();
    return done_testing();
}
