/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The answers of S3 that are XML: Error, ListBucketResult, DeleteResult. The bytes come from the
 * network, perhaps not even from a store: size, depth, number of elements and length of each field
 * are bounded, and a document type declaration (entities) is refused.
 */
#ifndef WALSTREAM_S3_XML_H
#define WALSTREAM_S3_XML_H

#include "common/error.h"

#define S3_XML_MAX_BYTES (8u << 20)
#define S3_XML_MAX_ENTRIES 10000u

typedef enum S3XmlKind
{
    S3_XML_OTHER, /* well-formed, but none of the below */
    S3_XML_ERROR,
    S3_XML_LIST,
    S3_XML_DELETE
} S3XmlKind;

/* Of <Error>; fields that are missing are "". Control characters are replaced. */
typedef struct S3XmlError
{
    char code[64];
    char message[256];
    char region[64];
    char request_id[80];
} S3XmlError;

typedef struct S3XmlEntry
{
    char *key; /* decoded; owned by the answer */
    uint64_t bytes;
    int64_t modified_us;
    bool is_prefix;
} S3XmlEntry;

/* One key of <DeleteResult>. code is "" when it was deleted. */
typedef struct S3XmlDeleted
{
    char *key; /* owned by the answer */
    char code[64];
    char message[256];
} S3XmlDeleted;

typedef struct S3XmlAnswer
{
    S3XmlKind kind;
    S3XmlError error;
    S3XmlEntry *entries; /* of a list: keys and common prefixes, as the store gave them */
    size_t entry_count;
    bool truncated;
    char *next_token; /* NULL if none */
    S3XmlDeleted *deleted;
    size_t deleted_count;
} S3XmlAnswer;

/*
 * Reads a whole document. Keys that hold a NUL after decoding are left out of a list: they are not
 * ours and no C string.
 *
 * Errors   CORRUPT if it is not well-formed, has a DOCTYPE, a field that is not what it must be,
 *          or passes a bound; out is reset then
 */
MUST_CHECK int s3_xml_parse(const void *buf, size_t len, S3XmlAnswer *out, Error *err);
void s3_xml_reset(S3XmlAnswer *answer); /* fit for AUTO */

/* "2026-03-01T09:14:07.120Z" to microseconds since 1970. */
MUST_CHECK bool s3_xml_parse_time(const char *text, int64_t *out_us);

#endif
