/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * AWS Signature Version 4, as S3 wants it: the path is encoded once and dot segments stay. What is
 * signed is what is sent: the caller uses the same encoded path and query for its URL.
 */
#ifndef WALSTREAM_SIGV4_H
#define WALSTREAM_SIGV4_H

#include "common/strbuf.h"
#include "store/credentials.h"

#define SIGV4_MAX_PAIRS 16
#define SIGV4_DATE_SIZE 17 /* "20260301T091407Z" and NUL */
#define SIGV4_SHA256_HEX_SIZE 65

/* A query parameter (plain, not encoded) or a header (lower-case name). Borrowed. */
typedef struct SigV4Pair
{
    const char *name, *value;
} SigV4Pair;

typedef struct SigV4Request
{
    const char *method;
    const char *path;  /* encoded, begins with '/' */
    const char *query; /* canonical, from sigv4_encode_query; "" if none */
    const SigV4Pair *headers;
    size_t header_count; /* at most SIGV4_MAX_PAIRS; all of them are signed */
    const char *payload_sha256;
    const char *region, *service;
    const char *date; /* as in the x-amz-date header */
} SigV4Request;

/* Percent-encodes every byte but A-Za-z0-9-._~ (and '/' if keep_slash). */
void sigv4_encode(StrBuf *out, const char *text, bool keep_slash);

/* "a=1&b=" sorted by encoded name, then value; at most SIGV4_MAX_PAIRS. */
MUST_CHECK int sigv4_encode_query(StrBuf *out, const SigV4Pair *query, size_t count, Error *err);

/* The time of x-amz-date; buf holds SIGV4_DATE_SIZE bytes. Returns buf. */
char *sigv4_format_date(int64_t wall_us, char *buf);

/* Appends the value of the Authorization header to out. */
MUST_CHECK int
sigv4_sign(const SigV4Request *request, const Credentials *credentials, StrBuf *out, Error *err);

#endif
