/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Labels as text and as skippable frames; see label.h.
 */
#include "repo/label.h"

#include <stdio.h>
#include <string.h>

#include "common/bytes.h"
#include "common/parse.h"

#define LABEL_VERSION_DIGITS 1
#define LABEL_SIZE_DIGITS 16
#define LABEL_SHA256_DIGITS (2 * (size_t) SHA256_BYTES)
#define LABEL_FRAME_MAGIC 0x184D2A50u
#define LABEL_FRAME_WORD "walstream "
#define LABEL_KEY_ID_DIGITS (2 * (size_t) AGE_KEY_ID_BYTES)

static_assert(
    LABEL_FRAME_HEADER_BYTES == 8 + sizeof LABEL_FRAME_WORD - 1, "magic, length and word");
static_assert(
    LABEL_VERSION_DIGITS + 1 + LAYOUT_KEY_MAX + LABEL_SIZE_DIGITS + 1 + LABEL_SHA256_DIGITS + 1 +
            OBJECT_KEY_IDS_MAX <
        OBJECT_LABEL_MAX,
    "the longest label fits its buffers");
static_assert(
    OBJECT_LABEL_MAX <= AGE_OWN_ARGS_MAX && LABEL_FRAME_MAX <= OBJECT_PEEK_BYTES,
    "and every place where a label is kept");

static bool
label_lower_hex(const char *text, size_t len)
{
    return strspn(text, "0123456789abcdef") >= len;
}

bool
label_key_valid(const char *key)
{
    size_t len = strnlen(key, LAYOUT_KEY_MAX);

    return len > 0 && len < LAYOUT_KEY_MAX && key[0] != '/' && key[len - 1] != '/' &&
           strstr(key, "//") == NULL &&
           strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/") == len;
}

bool
label_key_ids_valid(const char *ids)
{
    if (strnlen(ids, OBJECT_KEY_IDS_MAX) == OBJECT_KEY_IDS_MAX)
        return false;
    while (label_lower_hex(ids, LABEL_KEY_ID_DIGITS))
    {
        ids += LABEL_KEY_ID_DIGITS;
        if (*ids == '\0')
            return true;
        if (*ids++ != ',')
            return false;
    }
    return false;
}

size_t
label_text_len(const ObjectLabel *label)
{
    size_t len = LABEL_VERSION_DIGITS + 1 + strlen(label->key) + 1 + LABEL_SIZE_DIGITS + 1 +
                 LABEL_SHA256_DIGITS;

    return label->encrypted ? len + 1 + strlen(label->key_ids) : len;
}

char *
label_format(const ObjectLabel *label, char *buf)
{
    char sha256[LABEL_SHA256_DIGITS + 1];

    assert(label->version == OBJECT_VERSION_PLAIN || label->version == OBJECT_VERSION_PAYLOAD);
    (void) snprintf(
        buf, OBJECT_LABEL_MAX, "%d %s %016llx %s%s%s", label->version, label->key,
        (unsigned long long) label->plain_bytes, format_hex(label->sha256, SHA256_BYTES, sha256),
        label->encrypted ? " " : "", label->encrypted ? label->key_ids : "");
    assert(strlen(buf) == label_text_len(label));
    return buf;
}

/* The next field of *rest, which it moves behind it; NULL when there is none. */
static char *
label_next_field(char **rest)
{
    char *field = *rest;

    if (field == NULL)
        return NULL;

    char *blank = strchr(field, ' ');

    if (blank != NULL)
        *blank++ = '\0';
    *rest = blank;
    return field;
}

int
label_parse(const char *text, size_t len, bool encrypted, ObjectLabel *out, Error *err)
{
    char copy[OBJECT_LABEL_MAX];
    uint8_t size[8];

    if (len >= sizeof copy || memchr(text, '\0', len) != NULL)
        return error_set(err, ERROR_CORRUPT, "label is not a line of text");
    memcpy(copy, text, len);
    copy[len] = '\0';

    char *rest = copy;
    const char *version = label_next_field(&rest);
    const char *key = label_next_field(&rest);
    const char *plain_bytes = label_next_field(&rest);
    const char *sha256 = label_next_field(&rest);
    const char *key_ids = label_next_field(&rest);

    if (strcmp(version, "1") != 0 && strcmp(version, "2") != 0)
    {
        (void) error_set(err, ERROR_CORRUPT, "label is of neither version 1 nor 2");
        return error_hint(err, "The object is damaged, or a newer walstream wrote it.");
    }
    if (key == NULL || !label_key_valid(key))
        return error_set(err, ERROR_CORRUPT, "label has no valid key");
    if (plain_bytes == NULL || strlen(plain_bytes) != LABEL_SIZE_DIGITS ||
        !label_lower_hex(plain_bytes, LABEL_SIZE_DIGITS) ||
        !parse_hex_bytes(plain_bytes, LABEL_SIZE_DIGITS, size, sizeof size))
        return error_set(err, ERROR_CORRUPT, "label has no valid size");

    ObjectLabel label = {
        .version = version[0] == '1' ? OBJECT_VERSION_PLAIN : OBJECT_VERSION_PAYLOAD,
        .plain_bytes = get_u64be(size),
        .encrypted = encrypted};

    if (sha256 == NULL || strlen(sha256) != LABEL_SHA256_DIGITS ||
        !label_lower_hex(sha256, LABEL_SHA256_DIGITS) ||
        !parse_hex_bytes(sha256, LABEL_SHA256_DIGITS, label.sha256, SHA256_BYTES))
        return error_set(err, ERROR_CORRUPT, "label has no valid SHA-256");
    if (rest != NULL || (key_ids != NULL) != encrypted ||
        (encrypted && !label_key_ids_valid(key_ids)))
        return error_set(
            err, ERROR_CORRUPT,
            encrypted ? "label has no valid key ids" : "label has more fields than it should");
    memcpy(label.key, key, strlen(key) + 1);
    if (encrypted)
        memcpy(label.key_ids, key_ids, strlen(key_ids) + 1);
    *out = label;
    return 0;
}

/* ---- the skippable frame ---- */

size_t
label_frame_bytes(const ObjectLabel *label)
{
    return LABEL_FRAME_HEADER_BYTES + label_text_len(label);
}

size_t
label_frame_format(const ObjectLabel *label, uint8_t *out)
{
    char text[OBJECT_LABEL_MAX];
    size_t len = strlen(label_format(label, text));

    put_u32le(out, LABEL_FRAME_MAGIC);
    put_u32le(out + 4, (uint32_t) (LABEL_FRAME_HEADER_BYTES - 8 + len));
    memcpy(out + 8, LABEL_FRAME_WORD, LABEL_FRAME_HEADER_BYTES - 8);
    memcpy(out + LABEL_FRAME_HEADER_BYTES, text, len);
    return LABEL_FRAME_HEADER_BYTES + len;
}

int
label_frame_parse(const void *data, size_t len, ObjectLabel *out, size_t *frame_bytes, Error *err)
{
    const uint8_t *bytes = data;

    if (len < LABEL_FRAME_HEADER_BYTES)
        return 0;
    if (get_u32le(bytes) != LABEL_FRAME_MAGIC ||
        memcmp(bytes + 8, LABEL_FRAME_WORD, LABEL_FRAME_HEADER_BYTES - 8) != 0)
        return error_set(err, ERROR_CORRUPT, "it begins neither with a label nor as an age file");

    uint32_t body_bytes = get_u32le(bytes + 4);

    if (body_bytes < LABEL_FRAME_HEADER_BYTES - 8 || body_bytes > LABEL_FRAME_MAX - 8)
        return error_set(
            err, ERROR_CORRUPT, "label of %u bytes is not possible", (unsigned) body_bytes);
    if (len < 8 + (size_t) body_bytes)
        return 0;
    *frame_bytes = 8 + (size_t) body_bytes;
    if (label_parse(
            (const char *) bytes + LABEL_FRAME_HEADER_BYTES,
            *frame_bytes - LABEL_FRAME_HEADER_BYTES, false, out, err) < 0)
        return -1;
    return 1;
}
