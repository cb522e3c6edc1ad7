/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Taking off ASCII armor; see age_armor.h.
 *
 *   BEFORE --BEGIN line--> BODY --shorter line--> END --END line--> AFTER
 *                            \------------END line------------------^
 */
#include "crypto/age_armor.h"

#include <string.h>

#include "crypto/base64.h"

#define AGE_ARMOR_BEGIN_LINE "-----BEGIN AGE ENCRYPTED FILE-----"
#define AGE_ARMOR_END_LINE "-----END AGE ENCRYPTED FILE-----"
#define AGE_ARMOR_COLUMNS 64

static int
age_armor_damaged(Error *err, const char *what)
{
    return error_set(err, ERROR_CORRUPT, "damaged age armor: %s", what);
}

static bool
age_armor_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

bool
age_armor_may_begin(uint8_t first)
{
    return first == '-' || age_armor_is_space((char) first);
}

static bool
age_armor_is_line(const AgeArmor *armor, const char *line)
{
    return armor->text_len == strlen(line) && memcmp(armor->text, line, armor->text_len) == 0;
}

static bool
age_armor_is_blank_line(const AgeArmor *armor)
{
    for (size_t i = 0; i < armor->text_len; i++)
        if (!age_armor_is_space(armor->text[i]))
            return false;
    return true;
}

static int
age_armor_take_body(AgeArmor *armor, uint8_t out[AGE_ARMOR_LINE_BYTES], size_t *out_len, Error *err)
{
    if (age_armor_is_line(armor, AGE_ARMOR_END_LINE))
    {
        armor->state = AGE_ARMOR_AFTER;
        return 0;
    }
    if (armor->state == AGE_ARMOR_END)
        return age_armor_damaged(err, "a short line is not the last one");
    if (armor->text_len == 0 || armor->text_len > AGE_ARMOR_COLUMNS)
        return age_armor_damaged(err, "a line is empty or too long");
    if (!base64_decode_padded(armor->text, armor->text_len, out, AGE_ARMOR_LINE_BYTES, out_len))
        return age_armor_damaged(err, "a line is not canonical base64");
    if (*out_len < AGE_ARMOR_LINE_BYTES)
        armor->state = AGE_ARMOR_END;
    return 0;
}

/* The line in text, complete, without its line feed. */
static int
age_armor_take_line(AgeArmor *armor, uint8_t out[AGE_ARMOR_LINE_BYTES], size_t *out_len, Error *err)
{
    if (armor->text_len > 0 && armor->text[armor->text_len - 1] == '\r')
        armor->text_len--;
    switch (armor->state)
    {
        case AGE_ARMOR_BEFORE:
            if (age_armor_is_line(armor, AGE_ARMOR_BEGIN_LINE))
                armor->state = AGE_ARMOR_BODY;
            else if (!age_armor_is_blank_line(armor))
                return age_armor_damaged(err, "its first line is not " AGE_ARMOR_BEGIN_LINE);
            return 0;
        case AGE_ARMOR_BODY:
        case AGE_ARMOR_END:
            return age_armor_take_body(armor, out, out_len, err);
        case AGE_ARMOR_AFTER:
            break;
    }
    if (!age_armor_is_blank_line(armor))
        return age_armor_damaged(err, "something follows its last line");
    return 0;
}

int
age_armor_take(
    AgeArmor *armor, const uint8_t **data, size_t *len, uint8_t out[AGE_ARMOR_LINE_BYTES],
    size_t *out_len, Error *err)
{
    const uint8_t *feed = memchr(*data, '\n', *len);
    size_t n = feed == NULL ? *len : (size_t) (feed - *data);

    *out_len = 0;
    if (n > sizeof armor->text - armor->text_len)
        return age_armor_damaged(err, "a line is too long");
    memcpy(armor->text + armor->text_len, *data, n);
    armor->text_len += n;
    *data += n;
    *len -= n;
    if (feed == NULL)
        return 0;
    *data += 1;
    *len -= 1;

    int rc = age_armor_take_line(armor, out, out_len, err);

    armor->text_len = 0;
    return rc;
}

int
age_armor_finish(AgeArmor *armor, Error *err)
{
    uint8_t out[AGE_ARMOR_LINE_BYTES];
    size_t out_len = 0;

    if (armor->text_len > 0 && age_armor_take_line(armor, out, &out_len, err) < 0)
        return -1;
    if (armor->state != AGE_ARMOR_AFTER)
        return age_armor_damaged(err, "its last line is missing");
    return 0;
}
