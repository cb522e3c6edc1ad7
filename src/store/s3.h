/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * s3://bucket/prefix: Amazon S3 and what speaks its protocol, through libcurl, signed by us
 * (Signature Version 4). One try per call; wrap with store_retry_new. FORMAT.md says nothing of
 * this: the repository does not depend on the kind of store.
 */
#ifndef WALSTREAM_S3_H
#define WALSTREAM_S3_H

#include "store/credentials.h"
#include "store/store.h"

typedef struct S3Options
{
    const char *bucket;
    const char *prefix;   /* "" or "some/folder" */
    const char *endpoint; /* "https://host[:port]", "http://..."; NULL: Amazon's for region */
    const char *region;   /* NULL: us-east-1 */
    bool path_style;
    const char *ca_file;              /* NULL: the system's */
    CredentialsProvider *credentials; /* ownership is taken */
    bool conditional_create;          /* send If-None-Match: *; else look first, then put */
    int64_t connect_timeout_ms;       /* 0: 10 s */
    int64_t stall_timeout_ms;         /* no byte for that long: TRANSIENT; 0: 20 s */
} S3Options;

MUST_CHECK int store_s3_new(const S3Options *options, Store **out, Error *err);

/*
 * Seconds by which the store's clock is ahead of ours, from the Date header of its last answer.
 * false if it has not answered yet.
 */
bool store_s3_clock_skew_s(const Store *st, int64_t *out);

#endif
