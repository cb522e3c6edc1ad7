/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Well-formed UTF-8; see utf8.h.
 */
#include "common/utf8.h"

#include <stdlib.h>
#include <string.h>

size_t
utf8_length(const char *text)
{
    const unsigned char *p = (const unsigned char *) text;
    unsigned char low = 0x80, high = 0xBF;
    size_t len;

    if (p[0] < 0x80)
        return 1;
    if (p[0] >= 0xC2 && p[0] <= 0xDF)
        len = 2;
    else if (p[0] >= 0xE0 && p[0] <= 0xEF)
        len = 3;
    else if (p[0] >= 0xF0 && p[0] <= 0xF4)
        len = 4;
    else
        return 0;
    /* the second byte's range excludes overlong forms, surrogates and what is above U+10FFFF */
    if (p[0] == 0xE0)
        low = 0xA0;
    else if (p[0] == 0xED)
        high = 0x9F;
    else if (p[0] == 0xF0)
        low = 0x90;
    else if (p[0] == 0xF4)
        high = 0x8F;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < len; i++)
    {
        if (p[i] < 0x80 || p[i] > 0xBF)
            return 0;
    }
    return len;
}

bool
utf8_valid(const char *text)
{
    while (*text != '\0')
    {
        size_t len = utf8_length(text);

        if (len == 0)
            return false;
        text += len;
    }
    return true;
}

char *
utf8_copy(const char *text)
{
    static const char replacement[] = "\xEF\xBF\xBD";
    char *copy = malloc(strlen(text) * (sizeof replacement - 1) + 1);
    char *to = copy;

    while (copy != NULL && *text != '\0')
    {
        size_t len = utf8_length(text);

        memcpy(to, len > 0 ? text : replacement, len > 0 ? len : sizeof replacement - 1);
        to += len > 0 ? len : sizeof replacement - 1;
        text += MAX(len, 1);
    }
    if (copy != NULL)
        *to = '\0';
    return copy;
}
