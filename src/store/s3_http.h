/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * One HTTP request at a time through libcurl, over connections that are kept. It knows HTTP, bodies
 * and time limits; what a status means to S3 is decided in s3.c.
 */
#ifndef WALSTREAM_S3_HTTP_H
#define WALSTREAM_S3_HTTP_H

#include "common/strbuf.h"
#include "store/s3_xml.h"
#include "store/store.h"

typedef struct S3Http S3Http;

typedef struct S3HttpOptions
{
    const char *ca_file;        /* NULL: the system's; copied */
    int64_t connect_timeout_ms; /* at least 1 */
    int64_t stall_timeout_ms;   /* at least 1 */
} S3HttpOptions;

typedef struct S3HttpRequest
{
    const char *method; /* GET HEAD PUT POST DELETE */
    const char *url;
    const char *const *headers; /* "name: value" */
    size_t header_count;
    const StoreBody *body; /* of PUT and POST; NULL is an empty one */
    Stage *sink;           /* of GET: gets the body of a 200 or 206; NULL: the answer keeps it */
    ByteRange range;       /* what sink shall get, also if the server ignores the Range header */
} S3HttpRequest;

typedef struct S3HttpAnswer
{
    long status;
    StrBuf body;         /* unless it went to the sink; cut at S3_XML_MAX_BYTES */
    uint64_t sink_bytes; /* sent to the sink */
    int64_t date_us;     /* of the Date header; 0 if none */
    int64_t modified_us; /* Last-Modified; 0 if none */
    bool has_length;
    uint64_t length; /* Content-Length */
    bool has_range;  /* Content-Range: bytes first-last/total */
    uint64_t range_first, range_last, range_total;
    bool has_etag;
    bool chunked;
    char bucket_region[64]; /* x-amz-bucket-region, "" if none */
    char request_id[80];    /* x-amz-request-id */
} S3HttpAnswer;

MUST_CHECK int s3_http_new(const S3HttpOptions *options, S3Http **out, Error *err);
void s3_http_free(S3Http *http);

void s3_http_answer_init(S3HttpAnswer *answer);
void s3_http_answer_reset(S3HttpAnswer *answer); /* fit for AUTO */

/*
 * 0 when a whole answer came, whatever its status.
 *
 * Errors   TRANSIENT for whatever the network did; DENIED if the server's certificate is not
 *          trusted; TIMEOUT, CANCELED; CORRUPT if the body is not what its own header promised;
 *          what the sink returned
 * Threads  safe
 */
MUST_CHECK int s3_http_send(
    S3Http *http, const S3HttpRequest *request, const Deadline *dl, S3HttpAnswer *answer,
    Error *err);

#endif
