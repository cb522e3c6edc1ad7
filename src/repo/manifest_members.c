/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * See manifest_members.h. Whatever the plain reader does not know it leaves to jansson, never the
 * other way about: a line is accepted here only when jansson would accept it, with the same
 * meaning.
 */
#include "repo/manifest_members.h"

#include <string.h>

#include "common/parse.h"
#include "repo/json_read.h"

/* Any number of them fits an int64_t. */
#define MEMBER_DIGITS_MAX 18

void
manifest_members_reset(ManifestMembers *m)
{
    json_read_free(&m->doc);
    memset(m->letters, 0, sizeof m->letters);
    m->list_count = 0; /* list itself is large */
}

static bool
member_is_letter(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* ---- plain lines ---- */

typedef struct PlainText
{
    const char *at, *end;
} PlainText;

static bool
plain_take(PlainText *p, char c)
{
    if (p->at == p->end || *p->at != c)
        return false;
    p->at++;
    return true;
}

static void
plain_blank(PlainText *p)
{
    (void) plain_take(p, ' ');
}

/* Behind its first quotation mark. */
static bool
plain_read_text(PlainText *p, ManifestMember *out)
{
    const char *begin = p->at;

    while (p->at < p->end && *p->at >= ' ' && *p->at <= '~' && *p->at != '"' && *p->at != '\\')
        p->at++;
    out->type = MEMBER_TEXT;
    out->text = begin;
    out->len = (size_t) (p->at - begin);
    return plain_take(p, '"');
}

static bool
plain_read_digits(PlainText *p, int64_t *out)
{
    const char *begin = p->at;
    int64_t n = 0;

    while (p->at < p->end && *p->at >= '0' && *p->at <= '9' && p->at - begin < MEMBER_DIGITS_MAX)
        n = n * 10 + (*p->at++ - '0');
    if (p->at == begin || (*begin == '0' && p->at - begin > 1))
        return false;
    *out = n;
    return true;
}

static bool
plain_read_integer(PlainText *p, ManifestMember *out)
{
    bool negative = plain_take(p, '-');

    if (!plain_read_digits(p, &out->number) || (negative && out->number == 0))
        return false;
    if (negative)
        out->number = -out->number;
    out->type = MEMBER_INTEGER;
    return true;
}

/* Behind its bracket. */
static bool
plain_read_list(PlainText *p, ManifestMembers *m, ManifestMember *out)
{
    int64_t n;

    out->type = MEMBER_LIST;
    do
    {
        plain_blank(p);
        if (m->list_count == ARRAY_COUNT(m->list) || !plain_read_digits(p, &n) || n > UINT32_MAX)
            return false;
        m->list[m->list_count++] = (uint32_t) n;
    } while (plain_take(p, ','));
    return plain_take(p, ']');
}

static bool
plain_read_member(PlainText *p, ManifestMembers *m)
{
    ManifestMember *member;
    char letter;

    plain_blank(p);
    if (!plain_take(p, '"') || p->at == p->end || !member_is_letter(*p->at))
        return false;
    letter = *p->at++;
    member = &m->letters[letter - 'A'];
    if (member->type != MEMBER_NONE || !plain_take(p, '"') || !plain_take(p, ':'))
        return false;
    plain_blank(p);
    if (plain_take(p, '"'))
        return plain_read_text(p, member);
    if (letter == 'z' && plain_take(p, '['))
        return plain_read_list(p, m, member);
    return plain_read_integer(p, member);
}

/* False: it is not plain, whatever it is. */
static bool
plain_read(PlainText p, ManifestMembers *m)
{
    if (!plain_take(&p, '{'))
        return false;
    do
    {
        if (!plain_read_member(&p, m))
            return false;
    } while (plain_take(&p, ','));
    return plain_take(&p, '}') && p.at == p.end;
}

/* ---- all others ---- */

static MemberType
any_read_list(ManifestMembers *m, const json_t *value)
{
    size_t n = json_array_size(value);

    if (n > ARRAY_COUNT(m->list))
        return MEMBER_OTHER;
    for (size_t i = 0; i < n; i++)
    {
        const json_t *element = json_array_get(value, i);
        json_int_t number = json_integer_value(element);

        if (!json_is_integer(element) || number < 0 || number > UINT32_MAX)
            return MEMBER_OTHER;
        m->list[i] = (uint32_t) number;
    }
    m->list_count = n;
    return MEMBER_LIST;
}

static void
any_read_member(ManifestMembers *m, char letter, const json_t *value)
{
    ManifestMember *member = &m->letters[letter - 'A'];

    if (json_is_string(value))
        *member = (ManifestMember){
            .type = MEMBER_TEXT,
            .text = json_string_value(value),
            .len = json_string_length(value)};
    else if (json_is_integer(value))
        *member = (ManifestMember){.type = MEMBER_INTEGER, .number = json_integer_value(value)};
    else if (letter == 'z' && json_is_array(value))
        member->type = any_read_list(m, value);
    else
        member->type = MEMBER_OTHER;
}

int
manifest_members_read_any(ManifestMembers *m, const char *text, size_t len, Error *err)
{
    const char *name;
    json_t *value;

    manifest_members_reset(m);
    if (json_read_object(text, len, &m->doc, err) < 0)
        return -1;
    json_object_foreach(m->doc, name, value)
    {
        if (member_is_letter(name[0]) && name[1] == '\0')
            any_read_member(m, name[0], value);
    }
    return 0;
}

int
manifest_members_read(ManifestMembers *m, const char *text, size_t len, Error *err)
{
    manifest_members_reset(m);
    if (plain_read((PlainText){text, text + len}, m))
        return 0;
    return manifest_members_read_any(m, text, len, err);
}

/* ---- values ---- */

bool
manifest_member_u64(const ManifestMembers *m, char letter, uint64_t *out)
{
    const ManifestMember *member = manifest_member(m, letter);

    if (member->type != MEMBER_INTEGER || member->number < 0)
        return false;
    *out = (uint64_t) member->number;
    return true;
}

bool
manifest_member_u32(const ManifestMembers *m, char letter, uint32_t *out)
{
    uint64_t value;

    if (!manifest_member_u64(m, letter, &value) || value > UINT32_MAX)
        return false;
    *out = (uint32_t) value;
    return true;
}

bool
manifest_member_text(const ManifestMembers *m, char letter, char *out, size_t cap)
{
    const ManifestMember *member = manifest_member(m, letter);

    if (member->type != MEMBER_TEXT || member->len >= cap)
        return false;
    memcpy(out, member->text, member->len);
    out[member->len] = '\0';
    return true;
}

bool
manifest_member_hex(const ManifestMembers *m, char letter, uint8_t *out, size_t len)
{
    const ManifestMember *member = manifest_member(m, letter);

    return member->type == MEMBER_TEXT && parse_hex_bytes(member->text, member->len, out, len);
}
