/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The store that speaks S3; see s3.h. Here is what each answer means:
 *
 *   success is proved by the content too: a PUT's answer names an ETag and holds no <Error>, each
 *   key of a DELETE is answered for, a listing is in order
 *   NOT_FOUND only for 404 with NoSuchKey in S3's XML; a 404 of a proxy, of a bucket that is not
 *   there, or without a body says nothing about the key
 *
 * A crash leaves nothing behind: an object appears whole or not at all.
 */
#include "store/s3.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "common/fs.h"
#include "common/parse.h"
#include "store/s3_http.h"
#include "store/s3_xml.h"
#include "store/sigv4.h"

#define S3_MAX_KEY 1024 /* of the protocol */
#define S3_MAX_PAGE_KEYS 1000u
#define S3_MAX_REMOVE_KEYS 1000u
#define S3_MAX_PUT_BYTES (UINT64_C(5) << 30)
#define S3_MAX_EMPTY_PAGES 1000
#define S3_MAX_URL 8192 /* of a request: a key or a prefix, a token, each percent-encoded */
#define S3_MAX_EXTRA_HEADERS 4
#define S3_SHA256_EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

typedef struct S3Store
{
    Store base;
    S3Http *http;
    CredentialsProvider *credentials;
    char *bucket;
    char *prefix;    /* "" or ending in '/' */
    char *origin;    /* "https://host:port" */
    char *host;      /* as in the Host header */
    char *root_path; /* "/" or "/bucket/" */
    char *region;
    bool is_amazon;
    atomic_bool
        put_needs_md5; /* the bucket has object lock and the store knows no newer checksum */
    atomic_bool remove_one_by_one; /* the store has no multi-object delete */
    atomic_bool skew_known;
    _Atomic int64_t skew_us;
} S3Store;

/* A request as the verbs below describe it. */
typedef struct S3Call
{
    const char *method;
    const char *key; /* relative; NULL: the bucket */
    const SigV4Pair *query;
    size_t query_count;
    SigV4Pair headers[S3_MAX_EXTRA_HEADERS]; /* lower-case names */
    size_t header_count;
    char range_header[64]; /* "" if none; not signed, as a cache in between may drop it */
    const StoreBody *body;
    const char *payload_sha256; /* NULL: of nothing */
    Stage *sink;
    ByteRange range;
} S3Call;

static int
s3_hash_body(const StoreBody *body, const EVP_MD *md, uint8_t *out, Error *err)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx != NULL && EVP_DigestInit_ex(ctx, md, NULL) == 1;

    for (size_t i = 0; good && i < body->iov_count; i++)
        good = EVP_DigestUpdate(ctx, body->iov[i].iov_base, body->iov[i].iov_len) == 1;
    good = good && EVP_DigestFinal_ex(ctx, out, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return good ? 0 : error_set(err, ERROR_IO, "could not compute the digest of a request's body");
}

/* Notes how far the store's clock is from ours; half the time of the request is the error. */
static void
s3_note_date(S3Store *s3, const S3HttpAnswer *answer)
{
    if (answer->date_us == 0)
        return;
    atomic_store(&s3->skew_us, answer->date_us - clock_wall_us());
    atomic_store(&s3->skew_known, true);
}

static void
s3_append_path(const S3Store *s3, const char *key, StrBuf *out)
{
    strbuf_puts(out, s3->root_path);
    if (key != NULL)
    {
        sigv4_encode(out, s3->prefix, true);
        sigv4_encode(out, key, true);
    }
}

/* Signs and sends. 0 when an answer came, whatever it says. */
static int
s3_send(S3Store *s3, const S3Call *call, const Deadline *dl, S3HttpAnswer *answer, Error *err)
{
    AUTO(strbuf_reset) StrBuf path;
    AUTO(strbuf_reset) StrBuf query;
    AUTO(strbuf_reset) StrBuf url;
    AUTO(strbuf_reset) StrBuf lines;
    AUTO(credentials_reset) Credentials credentials = {.access_key = ""};
    SigV4Pair headers[S3_MAX_EXTRA_HEADERS + 4];
    const char *line[ARRAY_COUNT(headers) + 2];
    size_t at[ARRAY_COUNT(headers) + 1];
    size_t count = 0, line_count;
    char date[SIGV4_DATE_SIZE];

    strbuf_init(&path, S3_MAX_URL);
    strbuf_init(&query, S3_MAX_URL);
    strbuf_init(&url, 3 * S3_MAX_URL);
    strbuf_init(&lines, 3 * S3_MAX_URL);
    if (credentials_get(s3->credentials, dl, &credentials, err) < 0)
        return -1;

    s3_append_path(s3, call->key, &path);
    if (strbuf_finish(&path, err) < 0 ||
        sigv4_encode_query(&query, call->query, call->query_count, err) < 0)
        return -1;
    strbuf_printf(
        &url, "%s%s%s%s", s3->origin, strbuf_text(&path), query.len > 0 ? "?" : "",
        strbuf_text(&query));

    headers[count++] = (SigV4Pair){"host", s3->host};
    headers[count++] = (SigV4Pair){"x-amz-date", sigv4_format_date(clock_wall_us(), date)};
    headers[count++] = (SigV4Pair){
        "x-amz-content-sha256",
        call->payload_sha256 != NULL ? call->payload_sha256 : S3_SHA256_EMPTY};
    if (credentials.session_token[0] != '\0')
        headers[count++] = (SigV4Pair){"x-amz-security-token", credentials.session_token};
    for (size_t i = 0; i < call->header_count; i++)
        headers[count++] = call->headers[i];

    SigV4Request signing = {
        .method = call->method,
        .path = strbuf_text(&path),
        .query = strbuf_text(&query),
        .headers = headers,
        .header_count = count,
        .payload_sha256 = headers[2].value,
        .region = s3->region,
        .service = "s3",
        .date = date,
    };

    for (size_t i = 0; i < count; i++)
    {
        at[i] = lines.len;
        strbuf_printf(&lines, "%s: %s", headers[i].name, headers[i].value);
        strbuf_append(&lines, "", 1);
    }
    at[count] = lines.len;
    strbuf_puts(&lines, "authorization: ");
    if (sigv4_sign(&signing, &credentials, &lines, err) < 0 || strbuf_finish(&url, err) < 0)
        return -1;
    for (size_t i = 0; i <= count; i++)
        line[i] = lines.data + at[i];
    line_count = count + 1;
    if (call->range_header[0] != '\0')
        line[line_count++] = call->range_header;

    S3HttpRequest request = {
        .method = call->method,
        .url = strbuf_text(&url),
        .headers = line,
        .header_count = line_count,
        .body = call->body,
        .sink = call->sink,
        .range = call->range,
    };
    int rc = s3_http_send(s3->http, &request, dl, answer, err);

    if (credentials.session_token[0] != '\0')
        explicit_bzero(lines.data, lines.len);
    if (rc == 0)
        s3_note_date(s3, answer);
    return rc;
}

/* ---- what an answer means ---- */

/* Codes that tell more than the status does. */
static const struct
{
    const char *code;
    ErrorKind kind;
    bool forget; /* the credentials: they may have been replaced where they come from */
    const char *hint;
} s3_codes[] = {
    {"AccessDenied", ERROR_DENIED, false,
     "The credentials need s3:GetObject, s3:PutObject and s3:ListBucket on the bucket."},
    {"AccountProblem", ERROR_DENIED, false, NULL},
    {"AllAccessDisabled", ERROR_DENIED, false, NULL},
    {"BadDigest", ERROR_TRANSIENT, false, NULL}, /* damaged on the way */
    {"ConditionalRequestConflict", ERROR_TRANSIENT, false, NULL},
    {"ExpiredToken", ERROR_TRANSIENT, true, NULL},
    {"IncompleteBody", ERROR_TRANSIENT, false, NULL},
    {"InternalError", ERROR_TRANSIENT, false, NULL},
    {"InvalidAccessKeyId", ERROR_DENIED, true, "The store does not know this access key."},
    {"InvalidObjectState", ERROR_DENIED, false,
     "The object was moved to an archive class of the store and must be restored there first."},
    {"InvalidToken", ERROR_DENIED, true, NULL},
    {"MethodNotAllowed", ERROR_IO, false, NULL},
    {"NoSuchBucket", ERROR_DENIED, false,
     "Create the bucket, or correct \"url\", \"endpoint\" or \"path-style\"."},
    {"NoSuchKey", ERROR_NOT_FOUND, false, NULL},
    {"NotImplemented", ERROR_IO, false,
     "The store lacks something that walstream needs; conditional creation is the likely one."},
    {"OperationAborted", ERROR_TRANSIENT, false, NULL},
    {"PreconditionFailed", ERROR_EXISTS, false, NULL},
    {"RequestTimeout", ERROR_TRANSIENT, false, NULL},
    {"ServiceUnavailable", ERROR_TRANSIENT, false, NULL},
    {"SignatureDoesNotMatch", ERROR_DENIED, true,
     "The secret key is wrong, or a proxy between here and the store changes requests."},
    {"SlowDown", ERROR_TRANSIENT, false, NULL},
    {"TokenRefreshRequired", ERROR_TRANSIENT, true, NULL},
    {"XAmzContentSHA256Mismatch", ERROR_TRANSIENT, false, NULL},
};

static ErrorKind
s3_kind_of_status(long status)
{
    if (status == 403 || status == 401 || status == 407)
        return ERROR_DENIED;
    /* 404 without S3's word for it comes from something in between */
    if (status >= 500 || status == 404 || status == 408 || status == 425 || status == 429)
        return ERROR_TRANSIENT;
    if (status == 412)
        return ERROR_EXISTS;
    return ERROR_IO;
}

/* 3xx and the 400s of a request that was signed for another region. */
static bool
s3_is_wrong_region(const S3Store *s3, const S3HttpAnswer *answer, const S3XmlError *error)
{
    if (strcmp(error->code, "AuthorizationHeaderMalformed") == 0 ||
        strcmp(error->code, "IllegalLocationConstraintException") == 0 ||
        strcmp(error->code, "PermanentRedirect") == 0)
        return true;
    if (answer->status < 300 || answer->status >= 500)
        return false;
    if (answer->bucket_region[0] != '\0' && strcmp(answer->bucket_region, s3->region) != 0)
        return true;
    return answer->status < 400 && answer->status != 304 && answer->status != 307;
}

static int
s3_set_wrong_region(
    const S3Store *s3, const S3HttpAnswer *answer, const S3XmlError *error, Error *err)
{
    const char *right = answer->bucket_region[0] != '\0' ? answer->bucket_region : error->region;

    (void) error_set(
        err, ERROR_DENIED, "the store sends us elsewhere (HTTP %ld%s%s)", answer->status,
        error->code[0] != '\0' ? " " : "", error->code);
    if (right[0] != '\0')
        return error_hint(
            err, "The bucket is in region \"%s\", not \"%s\": set \"region\" in [repository].",
            right, s3->region);
    return error_hint(
        err, "The bucket is not in region \"%s\" or not at this endpoint.", s3->region);
}

static int
s3_set_skewed(S3Store *s3, Error *err)
{
    int64_t skew = atomic_load(&s3->skew_us) / 1000000;

    (void) error_set(
        err, ERROR_DENIED,
        "the store refuses our requests because the clock of this machine is %lld s %s the store's",
        (long long) (skew < 0 ? -skew : skew), skew < 0 ? "ahead of" : "behind");
    return error_hint(
        err, "Set the clock (chrony, ntpd): S3 refuses what is more than 15 minutes off.");
}

/* Turns an answer that is not success into an Error; xml is its parsed body, or of kind OTHER. */
static int
s3_set_error(S3Store *s3, const S3HttpAnswer *answer, const S3XmlAnswer *xml, Error *err)
{
    const S3XmlError *error = &xml->error;
    const char *request_id = answer->request_id[0] != '\0' ? answer->request_id : error->request_id;
    ErrorKind kind = s3_kind_of_status(answer->status);
    const char *hint = NULL;

    if (strcmp(error->code, "RequestTimeTooSkewed") == 0)
        return s3_set_skewed(s3, err);
    if (s3_is_wrong_region(s3, answer, error))
        return s3_set_wrong_region(s3, answer, error, err);
    if (answer->status == 307)
        kind = ERROR_TRANSIENT; /* a new bucket whose name has not spread yet */
    if (answer->status == 501)
        kind = ERROR_IO;
    if (xml->kind == S3_XML_ERROR)
    {
        /* an unknown error under status 200 happened behind the front end, as a 5xx would */
        if (answer->status < 300)
            kind = ERROR_TRANSIENT;
        else if (answer->status == 404)
            kind = ERROR_IO;
        for (size_t i = 0; i < ARRAY_COUNT(s3_codes); i++)
        {
            if (strcmp(error->code, s3_codes[i].code) != 0)
                continue;
            kind = s3_codes[i].kind;
            hint = s3_codes[i].hint;
            if (s3_codes[i].forget)
                credentials_forget(s3->credentials);
        }
        if (kind == ERROR_NOT_FOUND && answer->status != 404)
            kind = ERROR_TRANSIENT;
    }
    (void) error_set(
        err, kind, "the store answered HTTP %ld%s%s%s%s%s%s%s", answer->status,
        xml->kind == S3_XML_ERROR ? " " : " without an S3 error", error->code,
        error->message[0] != '\0' ? ": " : "", error->message,
        request_id[0] != '\0' ? " (request " : "", request_id, request_id[0] != '\0' ? ")" : "");
    if (hint != NULL)
        (void) error_hint(err, "%s", hint);
    return -1;
}

/* The XML of an answer; what is no XML has kind OTHER. */
static void
s3_read_xml(const S3HttpAnswer *answer, S3XmlAnswer *out)
{
    Error ignored;

    memset(out, 0, sizeof *out);
    if (answer->body.len > 0 &&
        s3_xml_parse(strbuf_text(&answer->body), answer->body.len, out, &ignored) < 0)
        out->kind = S3_XML_OTHER;
}

static int
s3_refuse(S3Store *s3, const S3HttpAnswer *answer, Error *err)
{
    AUTO(s3_xml_reset) S3XmlAnswer xml = {.kind = S3_XML_OTHER};

    s3_read_xml(answer, &xml);
    return s3_set_error(s3, answer, &xml, err);
}

static S3Store *
s3_of(Store *st)
{
    return (S3Store *) (void *) st;
}

/* ---- put ---- */

static int s3_stat(Store *st, const char *key, const Deadline *dl, StoreStat *out, Error *err);

/* A 200 that proves it: an ETag, and a body that is empty (what S3 sends) or at least no error. */
static int
s3_check_put(S3Store *s3, const S3HttpAnswer *answer, Error *err)
{
    AUTO(s3_xml_reset) S3XmlAnswer xml = {.kind = S3_XML_OTHER};

    s3_read_xml(answer, &xml);
    if (answer->status != 200 && answer->status != 201)
        return s3_set_error(s3, answer, &xml, err);
    if (xml.kind == S3_XML_ERROR)
        return s3_set_error(s3, answer, &xml, err);
    if (!answer->has_etag)
        return error_set(
            err, ERROR_TRANSIENT, "the store answered HTTP %ld but names no ETag", answer->status);
    return 0;
}

/* A bucket with object lock refuses a PUT without Content-MD5 or a newer checksum. */
static bool
s3_wants_md5(const S3HttpAnswer *answer)
{
    AUTO(s3_xml_reset) S3XmlAnswer xml = {.kind = S3_XML_OTHER};

    if (answer->status != 400)
        return false;
    s3_read_xml(answer, &xml);
    return strcasestr(xml.error.message, "content-md5") != NULL;
}

static int
s3_put_once(
    S3Store *s3, const char *key, const StoreBody *body, const Deadline *dl, bool *again,
    Error *err)
{
    AUTO(s3_http_answer_reset) S3HttpAnswer answer;
    uint8_t sha256[32], md5[16];
    char sha256_hex[SIGV4_SHA256_HEX_SIZE], base64[48];
    bool with_md5 = atomic_load(&s3->put_needs_md5);
    S3Call call = {.method = "PUT", .key = key, .body = body, .payload_sha256 = sha256_hex};

    s3_http_answer_init(&answer);
    *again = false;
    if (s3_hash_body(body, EVP_sha256(), sha256, err) < 0)
        return -1;
    (void) format_hex(sha256, sizeof sha256, sha256_hex);
    if (s3->base.caps.conditional_create)
        call.headers[call.header_count++] = (SigV4Pair){"if-none-match", "*"};
    if (s3->is_amazon)
    {
        (void) EVP_EncodeBlock((unsigned char *) base64, sha256, sizeof sha256);
        call.headers[call.header_count++] = (SigV4Pair){"x-amz-checksum-sha256", base64};
    }
    else if (with_md5)
    {
        if (s3_hash_body(body, EVP_md5(), md5, err) < 0)
            return -1;
        (void) EVP_EncodeBlock((unsigned char *) base64, md5, sizeof md5);
        call.headers[call.header_count++] = (SigV4Pair){"content-md5", base64};
    }
    if (s3_send(s3, &call, dl, &answer, err) < 0)
        return -1;
    if (!s3->is_amazon && !with_md5 && s3_wants_md5(&answer))
    {
        atomic_store(&s3->put_needs_md5, true);
        *again = true;
    }
    if (s3_check_put(s3, &answer, err) == 0)
        return 0;
    if (err->kind == ERROR_EXISTS)
        return error_set(err, ERROR_EXISTS, "it exists already");
    return -1;
}

static int
s3_put(Store *st, const char *key, const StoreBody *body, const Deadline *dl, Error *err)
{
    S3Store *s3 = s3_of(st);
    bool again;
    int rc;

    if (!st->caps.conditional_create)
    {
        StoreStat ignored;

        if (s3_stat(st, key, dl, &ignored, err) == 0)
            return error_set(
                err, ERROR_EXISTS, "could not create \"%s/%s\": it exists already", st->url, key);
        if (err->kind != ERROR_NOT_FOUND)
            return -1;
    }
    rc = s3_put_once(s3, key, body, dl, &again, err);
    if (rc < 0 && again)
        rc = s3_put_once(s3, key, body, dl, &again, err);
    if (rc < 0)
        return error_wrap(err, "could not create \"%s/%s\"", st->url, key);
    return 0;
}

/* ---- get, stat ---- */

static void
s3_set_range(S3Call *call, ByteRange range)
{
    uint64_t last;

    call->range = range;
    if (range.len == 0 || __builtin_add_overflow(range.offset, range.len - 1, &last))
    {
        call->range.len = 0;
        if (range.offset > 0)
            (void) snprintf(
                call->range_header, sizeof call->range_header, "range: bytes=%llu-",
                (unsigned long long) range.offset);
    }
    else
        (void) snprintf(
            call->range_header, sizeof call->range_header, "range: bytes=%llu-%llu",
            (unsigned long long) range.offset, (unsigned long long) last);
}

/* The store's own word that the range begins at or behind the end. */
static bool
s3_is_behind_end(const S3HttpAnswer *answer)
{
    AUTO(s3_xml_reset) S3XmlAnswer xml = {.kind = S3_XML_OTHER};

    if (answer->status != 416)
        return false;
    s3_read_xml(answer, &xml);
    return xml.kind == S3_XML_ERROR && strcmp(xml.error.code, "InvalidRange") == 0;
}

static int
s3_get(Store *st, const char *key, ByteRange range, Stage *sink, const Deadline *dl, Error *err)
{
    S3Store *s3 = s3_of(st);
    AUTO(s3_http_answer_reset) S3HttpAnswer answer;
    S3Call call = {.method = "GET", .key = key, .sink = sink};
    int rc;

    s3_http_answer_init(&answer);
    s3_set_range(&call, range);
    rc = s3_send(s3, &call, dl, &answer, err);
    if (rc == 0 && answer.status != 200 && answer.status != 206 &&
        !(call.range_header[0] != '\0' && s3_is_behind_end(&answer)))
        rc = s3_refuse(s3, &answer, err);
    if (rc < 0)
        return error_wrap(err, "could not read \"%s/%s\"", st->url, key);
    return 0;
}

/*
 * A HEAD is answered without a body, so its refusal does not say whether the key is missing or the
 * bucket, or which of many reasons there is for a 403. A GET of one byte says it, and answers the
 * question itself if the object has come into being meanwhile.
 */
static int
s3_stat_by_get(S3Store *s3, const char *key, const Deadline *dl, StoreStat *out, Error *err)
{
    AUTO(s3_http_answer_reset) S3HttpAnswer answer;
    S3Call call = {.method = "GET", .key = key};

    s3_http_answer_init(&answer);
    s3_set_range(&call, (ByteRange){.offset = 0, .len = 1});
    if (s3_send(s3, &call, dl, &answer, err) < 0)
        return -1;
    out->modified_us = answer.modified_us;
    if (answer.status == 206 && answer.has_range)
        out->bytes = answer.range_total;
    else if (answer.status == 200 && answer.has_length)
        out->bytes = answer.length;
    else if (s3_is_behind_end(&answer))
        out->bytes = 0;
    else
        return s3_refuse(s3, &answer, err);
    return 0;
}

static int
s3_stat(Store *st, const char *key, const Deadline *dl, StoreStat *out, Error *err)
{
    S3Store *s3 = s3_of(st);
    AUTO(s3_http_answer_reset) S3HttpAnswer answer;
    S3Call call = {.method = "HEAD", .key = key};
    int rc;

    s3_http_answer_init(&answer);
    rc = s3_send(s3, &call, dl, &answer, err);
    if (rc == 0 && answer.status == 200 && answer.has_length)
    {
        out->bytes = answer.length;
        out->modified_us = answer.modified_us;
        return 0;
    }
    if (rc == 0 && answer.status < 500)
        rc = s3_stat_by_get(s3, key, dl, out, err);
    else if (rc == 0)
        rc = s3_refuse(s3, &answer, err);
    if (rc < 0)
        return error_wrap(err, "could not look at \"%s/%s\"", st->url, key);
    return 0;
}

/* ---- list ---- */

/* One listing under way. */
typedef struct S3Listing
{
    S3Store *s3;
    const StoreListOptions *options;
    StoreListFn fn;
    void *ctx;
    char *token; /* owned; NULL on the first page */
    char *last;  /* owned; full key of the greatest entry so far, NULL if none */
    bool done;
    unsigned empty_pages;
} S3Listing;

static void
s3_listing_reset(S3Listing *listing)
{
    free(listing->token);
    free(listing->last);
}

static int
s3_list_fetch(S3Listing *listing, const Deadline *dl, S3XmlAnswer *page, Error *err)
{
    S3Store *s3 = listing->s3;
    const StoreListOptions *options = listing->options;
    AUTO(s3_http_answer_reset) S3HttpAnswer answer;
    char prefix[S3_MAX_KEY + 1], after[S3_MAX_KEY + 1], max_keys[16];
    uint32_t page_keys = options->page_keys == 0 ? S3_MAX_PAGE_KEYS : options->page_keys;
    SigV4Pair query[7] = {
        {"list-type", "2"}, {"encoding-type", "url"}, {"prefix", prefix}, {"max-keys", max_keys}};
    S3Call call = {.method = "GET", .query = query, .query_count = 4};

    s3_http_answer_init(&answer);
    (void) snprintf(max_keys, sizeof max_keys, "%u", MIN(page_keys, S3_MAX_PAGE_KEYS));
    if (snprintf(prefix, sizeof prefix, "%s%s", s3->prefix, options->prefix) > S3_MAX_KEY)
        return error_set(err, ERROR_USAGE, "the prefix is longer than %d bytes", S3_MAX_KEY);
    if (options->by_folder)
        query[call.query_count++] = (SigV4Pair){"delimiter", "/"};
    if (listing->token != NULL)
        query[call.query_count++] = (SigV4Pair){"continuation-token", listing->token};
    else if (listing->last != NULL)
        query[call.query_count++] = (SigV4Pair){"start-after", listing->last};
    else if (options->start_after != NULL)
    {
        if (snprintf(after, sizeof after, "%s%s", s3->prefix, options->start_after) > S3_MAX_KEY)
            return error_set(err, ERROR_USAGE, "the start is longer than %d bytes", S3_MAX_KEY);
        query[call.query_count++] = (SigV4Pair){"start-after", after};
    }

    if (s3_send(s3, &call, dl, &answer, err) < 0)
        return -1;
    if (answer.status != 200)
        return s3_refuse(s3, &answer, err);
    /* what is no list although it says 200 is from something in between, or cut */
    if (s3_xml_parse(strbuf_text(&answer.body), answer.body.len, page, err) < 0)
    {
        err->kind = err->kind == ERROR_CORRUPT ? ERROR_TRANSIENT : err->kind;
        return -1;
    }
    if (page->kind != S3_XML_LIST)
    {
        int rc = page->kind == S3_XML_ERROR
                     ? s3_set_error(s3, &answer, page, err)
                     : error_set(err, ERROR_TRANSIENT, "the store's answer is not a listing");

        s3_xml_reset(page);
        return rc;
    }
    return 0;
}

static int
s3_compare_entries(const void *a, const void *b)
{
    return strcmp(((const S3XmlEntry *) a)->key, ((const S3XmlEntry *) b)->key);
}

/* Whether it is a name that a Store gives: others in the bucket are not ours, and not told. */
static bool
s3_entry_valid(const char *key, bool is_prefix)
{
    char folder[STORE_KEY_MAX + 1];
    size_t len = strlen(key);

    if (!is_prefix)
        return store_key_valid(key);
    if (len < 2 || len > STORE_KEY_MAX || key[len - 1] != '/')
        return false;
    memcpy(folder, key, len - 1);
    folder[len - 1] = '\0';
    return store_key_valid(folder);
}

/* Tells one entry. 0 to go on, 1 when fn has had enough. */
static int
s3_list_tell(S3Listing *listing, const S3XmlEntry *entry, Error *err)
{
    const S3Store *s3 = listing->s3;
    const StoreListOptions *options = listing->options;
    size_t prefix_len = strlen(s3->prefix);
    int order = listing->last == NULL ? 1 : strcmp(entry->key, listing->last);
    char *copy;

    if (order == 0)
        return 0; /* a folder that goes on over the end of a page */
    if (order < 0)
    {
        (void) error_set(err, ERROR_IO, "the store does not list keys in byte order");
        return error_hint(err, "Directory buckets (S3 Express) cannot hold a repository.");
    }
    copy = strdup(entry->key);
    if (copy == NULL)
        return error_nomem(err);
    free(listing->last);
    listing->last = copy;

    if (strncmp(entry->key, s3->prefix, prefix_len) != 0 ||
        strncmp(entry->key + prefix_len, options->prefix, strlen(options->prefix)) != 0)
        return error_set(
            err, ERROR_IO, "the store lists keys without the prefix that was asked for");

    StoreEntry told = {
        .key = entry->key + prefix_len,
        .bytes = entry->bytes,
        .modified_us = entry->modified_us,
        .is_prefix = entry->is_prefix,
    };

    /* S3 begins behind start-after, but tells the folder that it lies in */
    if (options->start_after != NULL && strcmp(told.key, options->start_after) <= 0)
        return 0;
    if (!s3_entry_valid(told.key, told.is_prefix))
        return 0;
    return listing->fn(listing->ctx, &told, err);
}

static int
s3_list_page(S3Listing *listing, const Deadline *dl, Error *err)
{
    AUTO(s3_xml_reset) S3XmlAnswer page = {.kind = S3_XML_OTHER};

    if (s3_list_fetch(listing, dl, &page, err) < 0)
        return -1;
    /* keys and common prefixes are two lists, each in order */
    if (page.entry_count > 0)
        qsort(page.entries, page.entry_count, sizeof page.entries[0], s3_compare_entries);
    for (size_t i = 0; i < page.entry_count; i++)
    {
        int rc = s3_list_tell(listing, &page.entries[i], err);

        if (rc != 0)
        {
            listing->done = rc > 0;
            return rc > 0 ? 0 : -1;
        }
    }

    listing->empty_pages = page.entry_count == 0 ? listing->empty_pages + 1 : 0;
    free(listing->token);
    listing->token = steal(page.next_token);
    listing->done = !page.truncated;
    if (!listing->done &&
        (listing->empty_pages > S3_MAX_EMPTY_PAGES ||
         (listing->token == NULL && (listing->last == NULL || page.entry_count == 0))))
        return error_set(err, ERROR_IO, "the store says that a listing goes on, but not where");
    return 0;
}

static int
s3_list(
    Store *st, const StoreListOptions *options, StoreListFn fn, void *ctx, const Deadline *dl,
    Error *err)
{
    AUTO(s3_listing_reset)
    S3Listing listing = {.s3 = s3_of(st), .options = options, .fn = fn, .ctx = ctx};

    while (!listing.done)
        if (s3_list_page(&listing, dl, err) < 0)
            return error_wrap(err, "could not list \"%s/%s\"", st->url, options->prefix);
    return 0;
}

/* ---- remove ---- */

static int
s3_remove_one(S3Store *s3, const char *key, const Deadline *dl, Error *err)
{
    AUTO(s3_http_answer_reset) S3HttpAnswer answer;
    AUTO(s3_xml_reset) S3XmlAnswer xml = {.kind = S3_XML_OTHER};
    S3Call call = {.method = "DELETE", .key = key};

    s3_http_answer_init(&answer);
    if (s3_send(s3, &call, dl, &answer, err) < 0)
        return -1;
    s3_read_xml(&answer, &xml);
    if ((answer.status == 200 || answer.status == 204) && xml.kind != S3_XML_ERROR)
        return 0;
    (void) s3_set_error(s3, &answer, &xml, err);
    return err->kind == ERROR_NOT_FOUND ? 0 : -1;
}

static int
s3_remove_each(S3Store *s3, StoreRemoved *keys, size_t count, const Deadline *dl, Error *err)
{
    for (size_t i = 0; i < count; i++)
    {
        keys[i].err.kind = ERROR_NONE;
        if (s3_remove_one(s3, keys[i].key, dl, &keys[i].err) == 0)
            continue;
        (void) error_wrap(&keys[i].err, "could not remove \"%s/%s\"", s3->base.url, keys[i].key);
        /* no use in asking for the others; all of it can be asked again */
        if (keys[i].err.kind == ERROR_TRANSIENT || keys[i].err.kind == ERROR_TIMEOUT ||
            keys[i].err.kind == ERROR_CANCELED)
        {
            *err = keys[i].err;
            return -1;
        }
    }
    return 0;
}

/* <Delete> of all keys, whose characters need no escaping in XML (store_key_valid). */
static int
s3_write_delete(const S3Store *s3, const StoreRemoved *keys, size_t count, StrBuf *out, Error *err)
{
    strbuf_puts(out, "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (size_t i = 0; i < count; i++)
    {
        strbuf_puts(out, "<Object><Key>");
        strbuf_puts(out, s3->prefix);
        strbuf_puts(out, keys[i].key);
        strbuf_puts(out, "</Key></Object>");
    }
    strbuf_puts(out, "</Delete>");
    return strbuf_finish(out, err);
}

static int
s3_compare_deleted(const void *a, const void *b)
{
    return strcmp(((const S3XmlDeleted *) a)->key, ((const S3XmlDeleted *) b)->key);
}

/* Each key's own result, from a DeleteResult. A key that is not in it was not answered for. */
static void
s3_read_deleted(S3Store *s3, S3XmlAnswer *xml, StoreRemoved *key)
{
    char full[S3_MAX_KEY + 1];
    S3XmlDeleted want = {.key = full}, *found = NULL;
    S3HttpAnswer answer = {.status = 200};

    (void) snprintf(full, sizeof full, "%s%s", s3->prefix, key->key);
    if (xml->deleted_count > 0)
        found = bsearch(
            &want, xml->deleted, xml->deleted_count, sizeof xml->deleted[0], s3_compare_deleted);

    key->err.kind = ERROR_NONE;
    if (found == NULL)
        (void) error_set(&key->err, ERROR_TRANSIENT, "the store did not answer for it");
    else if (found->code[0] != '\0' && strcmp(found->code, "NoSuchKey") != 0)
    {
        S3XmlAnswer one = {.kind = S3_XML_ERROR};

        memcpy(one.error.code, found->code, sizeof one.error.code);
        memcpy(one.error.message, found->message, sizeof one.error.message);
        (void) s3_set_error(s3, &answer, &one, &key->err);
    }
    if (key->err.kind != ERROR_NONE)
        (void) error_wrap(&key->err, "could not remove \"%s/%s\"", s3->base.url, key->key);
}

/* *unknown: the store has no multi-object delete. */
static int
s3_remove_batch(
    S3Store *s3, StoreRemoved *keys, size_t count, const Deadline *dl, bool *unknown, Error *err)
{
    AUTO(s3_http_answer_reset) S3HttpAnswer answer;
    AUTO(s3_xml_reset) S3XmlAnswer xml = {.kind = S3_XML_OTHER};
    AUTO(strbuf_reset) StrBuf text;
    SigV4Pair query[] = {{"delete", ""}};
    uint8_t sha256[32], md5[16];
    char sha256_hex[SIGV4_SHA256_HEX_SIZE], base64[32];
    struct iovec iov;
    StoreBody body = {.iov = &iov, .iov_count = 1};
    S3Call call = {
        .method = "POST",
        .query = query,
        .query_count = 1,
        .headers = {{"content-type", "application/xml"}, {"content-md5", base64}},
        .header_count = 2,
        .body = &body,
        .payload_sha256 = sha256_hex,
    };

    s3_http_answer_init(&answer);
    strbuf_init(&text, S3_XML_MAX_BYTES);
    if (s3_write_delete(s3, keys, count, &text, err) < 0)
        return -1;
    iov = (struct iovec){.iov_base = text.data, .iov_len = text.len};
    body.bytes = text.len;
    if (s3_hash_body(&body, EVP_sha256(), sha256, err) < 0)
        return -1;
    (void) format_hex(sha256, sizeof sha256, sha256_hex);
    if (s3_hash_body(&body, EVP_md5(), md5, err) < 0)
    {
        *unknown = true; /* OpenSSL without MD5, as FIPS wants it: do without this request */
        return -1;
    }
    (void) EVP_EncodeBlock((unsigned char *) base64, md5, sizeof md5);

    if (s3_send(s3, &call, dl, &answer, err) < 0)
        return -1;
    s3_read_xml(&answer, &xml);
    if (answer.status == 501 || answer.status == 405 ||
        strcmp(xml.error.code, "NotImplemented") == 0 ||
        strcmp(xml.error.code, "MethodNotAllowed") == 0)
        *unknown = true;
    if (answer.status != 200 || xml.kind == S3_XML_ERROR)
        return s3_set_error(s3, &answer, &xml, err);
    if (xml.kind != S3_XML_DELETE)
        return error_set(err, ERROR_TRANSIENT, "the store's answer is not a result of deletion");
    if (xml.deleted_count > 0)
        qsort(xml.deleted, xml.deleted_count, sizeof xml.deleted[0], s3_compare_deleted);
    for (size_t i = 0; i < count; i++)
        s3_read_deleted(s3, &xml, &keys[i]);
    return 0;
}

static int
s3_remove(Store *st, StoreRemoved *keys, size_t count, const Deadline *dl, Error *err)
{
    S3Store *s3 = s3_of(st);

    for (size_t done = 0; done < count;)
    {
        size_t batch = MIN(count - done, S3_MAX_REMOVE_KEYS);
        bool unknown = batch == 1 || atomic_load(&s3->remove_one_by_one);
        int rc = -1;

        if (!unknown)
            rc = s3_remove_batch(s3, keys + done, batch, dl, &unknown, err);
        if (unknown)
        {
            if (batch > 1)
                atomic_store(&s3->remove_one_by_one, true);
            rc = s3_remove_each(s3, keys + done, batch, dl, err);
        }
        if (rc < 0)
            return error_wrap(err, "could not remove %zu objects of \"%s\"", count, st->url);
        done += batch;
    }
    return 0;
}

/* ---- making one ---- */

static void
s3_destroy(Store *st)
{
    S3Store *s3 = s3_of(st);

    s3_http_free(s3->http);
    credentials_provider_free(s3->credentials);
    free(s3->bucket);
    free(s3->prefix);
    free(s3->origin);
    free(s3->host);
    free(s3->root_path);
    free(s3->region);
    free(st->url);
    free(s3);
}

static const StoreOps s3_ops = {
    .put = s3_put,
    .get = s3_get,
    .stat = s3_stat,
    .list = s3_list,
    .remove = s3_remove,
    .destroy = s3_destroy,
};

static bool
s3_only_of(const char *text, const char *more)
{
    for (; *text != '\0'; text++)
    {
        bool alnum = (*text >= '0' && *text <= '9') || (*text >= 'a' && *text <= 'z') ||
                     (*text >= 'A' && *text <= 'Z');

        if (!alnum && strchr(more, *text) == NULL)
            return false;
    }
    return true;
}

static char *s3_format(const char *fmt, ...) PRINTF_LIKE(1, 2);

/* NULL if out of memory. */
static char *
s3_format(const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        text = NULL;
    va_end(ap);
    return text;
}

/*
 * "https://host[:port][/]" taken apart. The port is left out of host if it is the scheme's own, as
 * it is in the Host header.
 */
static int
s3_parse_endpoint(const char *endpoint, const char **scheme, char *host, size_t size, Error *err)
{
    const char *rest, *port;
    size_t len;

    if (strncmp(endpoint, "https://", 8) == 0)
        *scheme = "https", rest = endpoint + 8;
    else if (strncmp(endpoint, "http://", 7) == 0)
        *scheme = "http", rest = endpoint + 7;
    else
        return error_set(
            err, ERROR_USAGE, "invalid endpoint \"%s\": it must begin with https:// or http://",
            endpoint);
    len = strlen(rest);
    if (len > 0 && rest[len - 1] == '/')
        len--;
    if (len == 0 || len >= size)
        return error_set(err, ERROR_USAGE, "invalid endpoint \"%s\": no host name", endpoint);
    memcpy(host, rest, len);
    host[len] = '\0';
    if (!s3_only_of(host, ".-_:[]"))
        return error_set(
            err, ERROR_USAGE,
            "invalid endpoint \"%s\": it must be https://HOST or https://HOST:PORT", endpoint);
    port = strrchr(host, ':');
    if (port != NULL && strchr(port, ']') == NULL)
    {
        uint32_t number;

        if (!parse_u32(port + 1, &number) || number == 0 || number > 65535)
            return error_set(err, ERROR_USAGE, "invalid endpoint \"%s\": no such port", endpoint);
        if (number == ((*scheme)[4] == 's' ? 443u : 80u))
            host[port - host] = '\0';
    }
    return 0;
}

/* Where requests go: origin, host and the path in front of every key. */
static int
s3_set_address(S3Store *s3, const S3Options *options, Error *err)
{
    char amazon[128], host[256];
    const char *endpoint = options->endpoint;
    const char *scheme = "";
    bool path_style = options->path_style;

    if (endpoint == NULL)
    {
        (void) snprintf(
            amazon, sizeof amazon, "https://s3.%s.amazonaws.com%s", s3->region,
            strncmp(s3->region, "cn-", 3) == 0 ? ".cn" : "");
        endpoint = amazon;
        /* a dot in the bucket's name is one label more than the certificate has */
        path_style = path_style || strchr(s3->bucket, '.') != NULL;
    }
    if (s3_parse_endpoint(endpoint, &scheme, host, sizeof host, err) < 0)
        return -1;
    s3->is_amazon = strstr(host, ".amazonaws.com") != NULL;
    s3->host = path_style ? strdup(host) : s3_format("%s.%s", s3->bucket, host);
    s3->root_path = path_style ? s3_format("/%s/", s3->bucket) : strdup("/");
    if (s3->host == NULL || s3->root_path == NULL)
        return error_nomem(err);
    s3->origin = s3_format("%s://%s", scheme, s3->host);
    return s3->origin == NULL ? error_nomem(err) : 0;
}

static int
s3_fill(S3Store *s3, const S3Options *options, Error *err)
{
    size_t bucket_len = strlen(options->bucket);
    S3HttpOptions http = {
        .ca_file = options->ca_file,
        .connect_timeout_ms = options->connect_timeout_ms > 0 ? options->connect_timeout_ms : 10000,
        .stall_timeout_ms = options->stall_timeout_ms > 0 ? options->stall_timeout_ms : 20000,
    };

    if (bucket_len < 3 || bucket_len > 63 || !s3_only_of(options->bucket, ".-_") ||
        !s3_only_of((char[]){options->bucket[0], '\0'}, ""))
        return error_set(err, ERROR_USAGE, "invalid name of a bucket \"%s\"", options->bucket);
    if (options->prefix[0] != '\0' && (!store_key_valid(options->prefix) ||
                                       strlen(options->prefix) >= S3_MAX_KEY - STORE_KEY_MAX))
        return error_set(err, ERROR_USAGE, "invalid folder \"%s\" in the bucket", options->prefix);
    if (options->region != NULL && (options->region[0] == '\0' || strlen(options->region) > 63 ||
                                    !s3_only_of(options->region, "-_.")))
        return error_set(err, ERROR_USAGE, "invalid region \"%s\"", options->region);

    s3->bucket = strdup(options->bucket);
    s3->prefix = options->prefix[0] == '\0' ? strdup("") : s3_format("%s/", options->prefix);
    s3->region = strdup(options->region != NULL ? options->region : "us-east-1");
    s3->base.url = s3_format(
        "s3://%s%s%s", options->bucket, options->prefix[0] != '\0' ? "/" : "", options->prefix);
    if (s3->bucket == NULL || s3->prefix == NULL || s3->region == NULL || s3->base.url == NULL)
        return error_nomem(err);
    if (s3_set_address(s3, options, err) < 0)
        return -1;
    return s3_http_new(&http, &s3->http, err);
}

int
store_s3_new(const S3Options *options, Store **out, Error *err)
{
    S3Store *s3 = calloc(1, sizeof *s3);

    if (s3 == NULL)
    {
        credentials_provider_free(options->credentials);
        return error_nomem(err);
    }
    s3->credentials = options->credentials;
    s3->base.ops = &s3_ops;
    s3->base.caps = (StoreCaps){
        .scheme = "s3",
        .conditional_create = options->conditional_create,
        .max_put_bytes = S3_MAX_PUT_BYTES,
        .max_remove_keys = S3_MAX_REMOVE_KEYS,
    };
    if (s3_fill(s3, options, err) < 0)
    {
        s3_destroy(&s3->base);
        return error_wrap(err, "could not set up store \"s3://%s\"", options->bucket);
    }
    *out = &s3->base;
    return 0;
}

bool
store_s3_clock_skew_s(const Store *st, int64_t *out)
{
    const S3Store *s3 = (const S3Store *) (const void *) st;

    if (st->ops != &s3_ops || !atomic_load(&s3->skew_known))
        return false;
    *out = atomic_load(&s3->skew_us) / 1000000;
    return true;
}
