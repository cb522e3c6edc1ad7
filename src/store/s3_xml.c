/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * XML answers of S3 through expat; see s3_xml.h. Elements are known by their whole path from the
 * root, so that an element of the same name elsewhere is never mistaken for them.
 */
#include "store/s3_xml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <expat.h>

#include "common/array.h"
#include "common/parse.h"

#define S3_XML_MAX_DEPTH 16
#define S3_XML_MAX_PATH 256
#define S3_XML_MAX_FIELD 4096 /* a key of 1024 bytes, each percent-encoded, and then some */

typedef struct S3XmlReader
{
    XML_Parser parser;
    S3XmlAnswer *answer;
    Error *err;
    bool failed;
    bool url_encoded;           /* <EncodingType>url</EncodingType>; may come behind the keys */
    char path[S3_XML_MAX_PATH]; /* "/ListBucketResult/Contents/Key" */
    size_t path_len;
    unsigned depth;
    char text[S3_XML_MAX_FIELD + 1]; /* of the innermost element so far */
    size_t text_len;
    size_t entry_cap, deleted_cap;
} S3XmlReader;

static void
s3_xml_fail(S3XmlReader *r, ErrorKind kind, const char *why)
{
    if (r->failed)
        return;
    r->failed = true;
    if (kind == ERROR_NOMEM)
        (void) error_nomem(r->err);
    else
        (void) error_set(r->err, kind, "%s", why);
    (void) XML_StopParser(r->parser, XML_FALSE);
}

/* array_grow with a bound; NULL when reading has failed. */
static void *
s3_xml_grow(S3XmlReader *r, void *items, size_t count, size_t *cap, size_t item_bytes)
{
    void *grown;

    if (count >= S3_XML_MAX_ENTRIES)
    {
        s3_xml_fail(r, ERROR_CORRUPT, "too many entries in one answer");
        return NULL;
    }
    grown = array_grow(items, count, cap, item_bytes, r->err);
    if (grown == NULL)
        s3_xml_fail(r, ERROR_NOMEM, "");
    return grown;
}

static void
s3_xml_begin_entry(S3XmlReader *r, bool is_prefix)
{
    S3XmlAnswer *answer = r->answer;
    S3XmlEntry *entries =
        s3_xml_grow(r, answer->entries, answer->entry_count, &r->entry_cap, sizeof *entries);

    if (entries == NULL)
        return;
    answer->entries = entries;
    entries[answer->entry_count++] = (S3XmlEntry){.is_prefix = is_prefix};
}

static void
s3_xml_begin_deleted(S3XmlReader *r)
{
    S3XmlAnswer *answer = r->answer;
    S3XmlDeleted *deleted =
        s3_xml_grow(r, answer->deleted, answer->deleted_count, &r->deleted_cap, sizeof *deleted);

    if (deleted == NULL)
        return;
    answer->deleted = deleted;
    deleted[answer->deleted_count++] = (S3XmlDeleted){0};
}

static void XMLCALL
s3_xml_on_start(void *ctx, const XML_Char *name, const XML_Char **attributes)
{
    S3XmlReader *r = ctx;
    size_t len = strlen(name);

    (void) attributes;
    if (r->failed)
        return;
    if (r->depth >= S3_XML_MAX_DEPTH || len + 1 >= sizeof r->path - r->path_len)
    {
        s3_xml_fail(r, ERROR_CORRUPT, "elements are nested too deeply");
        return;
    }
    r->path[r->path_len] = '/';
    memcpy(r->path + r->path_len + 1, name, len + 1);
    r->path_len += len + 1;
    r->depth++;
    r->text_len = 0;

    if (r->depth == 1)
    {
        if (strcmp(r->path, "/Error") == 0)
            r->answer->kind = S3_XML_ERROR;
        else if (strcmp(r->path, "/ListBucketResult") == 0)
            r->answer->kind = S3_XML_LIST;
        else if (strcmp(r->path, "/DeleteResult") == 0)
            r->answer->kind = S3_XML_DELETE;
    }
    else if (strcmp(r->path, "/ListBucketResult/Contents") == 0)
        s3_xml_begin_entry(r, false);
    else if (strcmp(r->path, "/ListBucketResult/CommonPrefixes") == 0)
        s3_xml_begin_entry(r, true);
    else if (
        strcmp(r->path, "/DeleteResult/Deleted") == 0 ||
        strcmp(r->path, "/DeleteResult/Error") == 0)
        s3_xml_begin_deleted(r);
}

static void XMLCALL
s3_xml_on_text(void *ctx, const XML_Char *text, int len)
{
    S3XmlReader *r = ctx;

    if (r->failed || r->depth == 0)
        return;
    if ((size_t) len > S3_XML_MAX_FIELD - r->text_len)
    {
        s3_xml_fail(r, ERROR_CORRUPT, "a field is too long");
        return;
    }
    memcpy(r->text + r->text_len, text, (size_t) len);
    r->text_len += (size_t) len;
}

/* A message from outside goes into ours: cut, one line, nothing that moves a terminal. */
static void
s3_xml_copy_message(char *to, size_t size, const char *from)
{
    size_t len = strnlen(from, size - 1);

    memcpy(to, from, len);
    to[len] = '\0';
    for (char *p = to; *p != '\0'; p++)
        if ((unsigned char) *p < ' ' || *p == 0x7f)
            *p = ' ';
}

static void
s3_xml_copy_text(S3XmlReader *r, char **to)
{
    free(*to);
    *to = strdup(r->text);
    if (*to == NULL)
        s3_xml_fail(r, ERROR_NOMEM, "");
}

/* A time that cannot be read is one that was not told: nothing depends on it but display and age.
 */
static int64_t
s3_xml_time_or_0(const char *text)
{
    int64_t us = 0;

    return s3_xml_parse_time(text, &us) ? us : 0;
}

static void
s3_xml_end_of_error(S3XmlReader *r, const char *leaf)
{
    S3XmlError *error = &r->answer->error;

    if (strcmp(leaf, "Code") == 0)
        s3_xml_copy_message(error->code, sizeof error->code, r->text);
    else if (strcmp(leaf, "Message") == 0)
        s3_xml_copy_message(error->message, sizeof error->message, r->text);
    else if (strcmp(leaf, "Region") == 0)
        s3_xml_copy_message(error->region, sizeof error->region, r->text);
    else if (strcmp(leaf, "RequestId") == 0)
        s3_xml_copy_message(error->request_id, sizeof error->request_id, r->text);
}

static void
s3_xml_end_of_list(S3XmlReader *r, const char *leaf)
{
    S3XmlAnswer *answer = r->answer;

    if (strcmp(leaf, "IsTruncated") == 0)
    {
        if (!parse_bool(r->text, &answer->truncated))
            s3_xml_fail(r, ERROR_CORRUPT, "IsTruncated is neither true nor false");
    }
    else if (strcmp(leaf, "NextContinuationToken") == 0)
        s3_xml_copy_text(r, &answer->next_token);
    else if (strcmp(leaf, "EncodingType") == 0)
        r->url_encoded = strcmp(r->text, "url") == 0;
    else if (answer->entry_count > 0)
    {
        S3XmlEntry *entry = &answer->entries[answer->entry_count - 1];

        if (strcmp(leaf, "Contents/Key") == 0 || strcmp(leaf, "CommonPrefixes/Prefix") == 0)
            s3_xml_copy_text(r, &entry->key);
        else if (strcmp(leaf, "Contents/Size") == 0)
        {
            if (!parse_u64(r->text, &entry->bytes))
                s3_xml_fail(r, ERROR_CORRUPT, "Size is not a number");
        }
        else if (strcmp(leaf, "Contents/LastModified") == 0)
            entry->modified_us = s3_xml_time_or_0(r->text);
    }
}

static void
s3_xml_end_of_deleted(S3XmlReader *r, const char *leaf)
{
    if (r->answer->deleted_count == 0)
        return;

    S3XmlDeleted *deleted = &r->answer->deleted[r->answer->deleted_count - 1];

    if (strcmp(leaf, "Deleted/Key") == 0 || strcmp(leaf, "Error/Key") == 0)
        s3_xml_copy_text(r, &deleted->key);
    else if (strcmp(leaf, "Error/Code") == 0)
        s3_xml_copy_message(deleted->code, sizeof deleted->code, r->text);
    else if (strcmp(leaf, "Error/Message") == 0)
        s3_xml_copy_message(deleted->message, sizeof deleted->message, r->text);
    else if (strcmp(leaf, "Error") == 0 && deleted->code[0] == '\0')
        s3_xml_fail(r, ERROR_CORRUPT, "an Error without a Code");
}

static void XMLCALL
s3_xml_on_end(void *ctx, const XML_Char *name)
{
    S3XmlReader *r = ctx;

    if (r->failed)
        return;
    r->text[r->text_len] = '\0';

    const char *leaf = strchr(r->path + 1, '/');

    if (leaf != NULL)
    {
        if (r->answer->kind == S3_XML_ERROR)
            s3_xml_end_of_error(r, leaf + 1);
        else if (r->answer->kind == S3_XML_LIST)
            s3_xml_end_of_list(r, leaf + 1);
        else if (r->answer->kind == S3_XML_DELETE)
            s3_xml_end_of_deleted(r, leaf + 1);
    }
    r->path_len -= strlen(name) + 1;
    r->path[r->path_len] = '\0';
    r->depth--;
    r->text_len = 0;
}

static void XMLCALL
s3_xml_on_doctype(
    void *ctx, const XML_Char *name, const XML_Char *sysid, const XML_Char *pubid, int internal)
{
    (void) name;
    (void) sysid;
    (void) pubid;
    (void) internal;
    s3_xml_fail(ctx, ERROR_CORRUPT, "it has a document type declaration");
}

static int
s3_xml_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

/* In place. 1: decoded, 0: it holds a NUL, -1: not percent-encoding. */
static int
s3_xml_decode_url(char *text)
{
    char *to = text;
    bool has_nul = false;

    for (const char *from = text; *from != '\0'; from++)
    {
        if (*from == '+')
            *to++ = ' ';
        else if (*from != '%')
            *to++ = *from;
        else
        {
            int high = s3_xml_hex_digit(from[1]);
            int low = high < 0 ? -1 : s3_xml_hex_digit(from[2]);

            if (low < 0)
                return -1;
            has_nul = has_nul || (high == 0 && low == 0);
            *to++ = (char) (high << 4 | low);
            from += 2;
        }
    }
    *to = '\0';
    return has_nul ? 0 : 1;
}

/* What can only be judged when all is there: keys present, and decoded if the store encoded them.
 */
static int
s3_xml_complete(S3XmlReader *r, Error *err)
{
    S3XmlAnswer *answer = r->answer;
    size_t kept = 0;

    for (size_t i = 0; i < answer->entry_count; i++)
    {
        S3XmlEntry *entry = &answer->entries[i];
        int usable;

        if (entry->key == NULL)
            return error_set(err, ERROR_CORRUPT, "an entry without a key");
        usable = r->url_encoded ? s3_xml_decode_url(entry->key) : 1;
        if (usable < 0)
            return error_set(err, ERROR_CORRUPT, "a key is not percent-encoded as promised");
        if (usable == 0)
        {
            free(entry->key);
            entry->key = NULL;
            continue;
        }
        if (kept != i)
        {
            answer->entries[kept] = *entry;
            entry->key = NULL;
        }
        kept++;
    }
    answer->entry_count = kept;
    for (size_t i = 0; i < answer->deleted_count; i++)
        if (answer->deleted[i].key == NULL)
            return error_set(err, ERROR_CORRUPT, "an entry without a key");
    return 0;
}

int
s3_xml_parse(const void *buf, size_t len, S3XmlAnswer *out, Error *err)
{
    S3XmlReader *r;
    int rc = 0;

    memset(out, 0, sizeof *out);
    if (len > S3_XML_MAX_BYTES)
        return error_set(err, ERROR_CORRUPT, "could not read XML: %zu bytes are too many", len);
    r = calloc(1, sizeof *r);
    if (r == NULL)
        return error_nomem(err);
    r->answer = out;
    r->err = err;
    r->parser = XML_ParserCreate(NULL);
    if (r->parser == NULL)
    {
        free(r);
        return error_nomem(err);
    }
    XML_SetUserData(r->parser, r);
    XML_SetElementHandler(r->parser, s3_xml_on_start, s3_xml_on_end);
    XML_SetCharacterDataHandler(r->parser, s3_xml_on_text);
    XML_SetStartDoctypeDeclHandler(r->parser, s3_xml_on_doctype);

    if (XML_Parse(r->parser, buf, (int) len, 1) != XML_STATUS_OK && !r->failed)
    {
        enum XML_Error code = XML_GetErrorCode(r->parser);

        r->failed = true;
        if (code == XML_ERROR_NO_MEMORY)
            (void) error_nomem(err);
        else
            (void) error_set(
                err, ERROR_CORRUPT, "%s in line %lu", XML_ErrorString(code),
                (unsigned long) XML_GetCurrentLineNumber(r->parser));
    }
    if (r->failed || s3_xml_complete(r, err) < 0)
    {
        s3_xml_reset(out);
        rc = error_wrap(err, "could not read XML");
    }
    XML_ParserFree(r->parser);
    free(r);
    return rc;
}

void
s3_xml_reset(S3XmlAnswer *answer)
{
    for (size_t i = 0; i < answer->entry_count; i++)
        free(answer->entries[i].key);
    for (size_t i = 0; i < answer->deleted_count; i++)
        free(answer->deleted[i].key);
    free(answer->entries);
    free(answer->deleted);
    free(answer->next_token);
    memset(answer, 0, sizeof *answer);
}

/* Exactly width digits at *text, which moves behind them. */
static bool
s3_xml_take_number(const char **text, int width, int min, int max, int *out)
{
    int value = 0;

    for (int i = 0; i < width; i++, (*text)++)
    {
        if (**text < '0' || **text > '9')
            return false;
        value = value * 10 + (**text - '0');
    }
    *out = value;
    return value >= min && value <= max;
}

static bool
s3_xml_take_char(const char **text, char c)
{
    if (**text != c)
        return false;
    (*text)++;
    return true;
}

bool
s3_xml_parse_time(const char *text, int64_t *out_us)
{
    struct tm tm = {0};
    int64_t micros = 0, unit = 100000;

    if (!s3_xml_take_number(&text, 4, 1970, 9999, &tm.tm_year) || !s3_xml_take_char(&text, '-') ||
        !s3_xml_take_number(&text, 2, 1, 12, &tm.tm_mon) || !s3_xml_take_char(&text, '-') ||
        !s3_xml_take_number(&text, 2, 1, 31, &tm.tm_mday) || !s3_xml_take_char(&text, 'T') ||
        !s3_xml_take_number(&text, 2, 0, 23, &tm.tm_hour) || !s3_xml_take_char(&text, ':') ||
        !s3_xml_take_number(&text, 2, 0, 59, &tm.tm_min) || !s3_xml_take_char(&text, ':') ||
        !s3_xml_take_number(&text, 2, 0, 60, &tm.tm_sec))
        return false;
    if (s3_xml_take_char(&text, '.'))
    {
        if (*text < '0' || *text > '9')
            return false;
        for (; *text >= '0' && *text <= '9'; text++, unit /= 10)
            micros += unit * (*text - '0');
    }
    if (!s3_xml_take_char(&text, 'Z') || *text != '\0')
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *out_us = (int64_t) timegm(&tm) * 1000000 + micros;
    return true;
}
