/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * ASCII armor of age files (C2SP age.md, "ASCII armor"), taken off line by line. Strict: 64
 * columns, padded canonical base64, LF or CRLF, blank lines only before and behind the armor.
 */
#ifndef WALSTREAM_AGE_ARMOR_H
#define WALSTREAM_AGE_ARMOR_H

#include "common/error.h"

#define AGE_ARMOR_LINE_BYTES 48 /* that one line stands for at most */
#define AGE_ARMOR_TEXT_MAX 128  /* of any line, markers and blank ones too */

typedef enum AgeArmorState
{
    AGE_ARMOR_BEFORE, /* blank lines, then the BEGIN line */
    AGE_ARMOR_BODY,   /* full lines */
    AGE_ARMOR_END,    /* a shorter line was there: only the END line may follow */
    AGE_ARMOR_AFTER   /* blank lines */
} AgeArmorState;

typedef struct AgeArmor
{
    AgeArmorState state;
    size_t text_len;
    char text[AGE_ARMOR_TEXT_MAX]; /* the line so far */
} AgeArmor;

/* Whether a file that begins with this byte may be armored: a dash or white space. */
bool age_armor_may_begin(uint8_t first);

/*
 * Takes bytes from *data through at most one line feed and moves *data and *len on. *out_len bytes
 * of content are in out, often none. CORRUPT tells what is wrong.
 */
MUST_CHECK int age_armor_take(
    AgeArmor *armor, const uint8_t **data, size_t *len, uint8_t out[AGE_ARMOR_LINE_BYTES],
    size_t *out_len, Error *err);

/* The end of the input: takes a last line that has no line feed. CORRUPT unless the armor is
 * closed. */
MUST_CHECK int age_armor_finish(AgeArmor *armor, Error *err);

#endif
