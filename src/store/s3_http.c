/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * libcurl easy handles in a pool; see s3_http.h. A handle is used by one thread at a time and goes
 * back with its connection open, so that the next request finds it warm: the most recently used is
 * taken first, and there are as many as there were ever requests at once.
 */
#include "store/s3_http.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "common/parse.h"
#include "store/curl_lazy.h"

#define S3_HTTP_BUFFER_BYTES (256L << 10)
#define S3_HTTP_MAX_HEADER 512

typedef struct S3HttpHandle S3HttpHandle;
struct S3HttpHandle
{
    CURL *curl;
    S3HttpHandle *next;
    char error_text[CURL_ERROR_SIZE];
};

struct S3Http
{
    char *ca_file;
    int64_t connect_timeout_ms, stall_timeout_ms;
    pthread_mutex_t lock; /* guards idle */
    S3HttpHandle *idle;
};

/* One request under way. */
typedef struct S3HttpTransfer
{
    S3Http *http;
    S3HttpHandle *handle;
    const S3HttpRequest *request;
    const Deadline *dl;
    S3HttpAnswer *answer;
    Error *err;

    size_t body_part; /* where reading the request's body is */
    size_t body_offset;

    bool to_sink; /* decided with the first byte of the answer's body */
    bool body_begun;
    uint64_t body_seen; /* bytes of the answer's body so far */
    bool sink_failed;   /* err holds why */
    bool sink_done;     /* it has all it wanted: the rest is not waited for */

    curl_off_t seen_up, seen_down; /* progress, to notice that there is none */
    int64_t progress_at_ms;
    bool stalled;
} S3HttpTransfer;

int
s3_http_new(const S3HttpOptions *options, S3Http **out, Error *err)
{
    S3Http *http;

    if (curl_lazy_load(err) < 0)
        return -1;
    /* libcurl notices a bad file only when it connects, and says little then */
    if (options->ca_file != NULL && access(options->ca_file, R_OK) < 0)
    {
        (void) error_sys(
            err, "could not read file of trusted certificates \"%s\"", options->ca_file);
        err->kind = ERROR_USAGE;
        return -1;
    }

    http = calloc(1, sizeof *http);
    if (http == NULL)
        return error_nomem(err);
    if (options->ca_file != NULL && (http->ca_file = strdup(options->ca_file)) == NULL)
    {
        free(http);
        return error_nomem(err);
    }
    http->connect_timeout_ms = options->connect_timeout_ms;
    http->stall_timeout_ms = options->stall_timeout_ms;
    if (pthread_mutex_init(&http->lock, NULL) != 0)
    {
        free(http->ca_file);
        free(http);
        return error_nomem(err);
    }
    *out = http;
    return 0;
}

void
s3_http_free(S3Http *http)
{
    if (http == NULL)
        return;
    while (http->idle != NULL)
    {
        S3HttpHandle *handle = http->idle;

        http->idle = handle->next;
        curl_lazy.easy_cleanup(handle->curl);
        free(handle);
    }
    (void) pthread_mutex_destroy(&http->lock);
    free(http->ca_file);
    free(http);
}

void
s3_http_answer_init(S3HttpAnswer *answer)
{
    memset(answer, 0, sizeof *answer);
    strbuf_init(&answer->body, S3_XML_MAX_BYTES);
}

void
s3_http_answer_reset(S3HttpAnswer *answer)
{
    strbuf_reset(&answer->body);
}

static S3HttpHandle *
s3_http_take_handle(S3Http *http)
{
    S3HttpHandle *handle;

    (void) pthread_mutex_lock(&http->lock);
    handle = http->idle;
    if (handle != NULL)
        http->idle = handle->next;
    (void) pthread_mutex_unlock(&http->lock);
    if (handle != NULL)
        return handle;

    handle = calloc(1, sizeof *handle);
    if (handle == NULL)
        return NULL;
    handle->curl = curl_lazy.easy_init();
    if (handle->curl == NULL)
    {
        free(handle);
        return NULL;
    }
    return handle;
}

static void
s3_http_give_handle(S3Http *http, S3HttpHandle *handle)
{
    /* forgets pointers into the request; connections and TLS sessions stay */
    curl_lazy.easy_reset(handle->curl);
    (void) pthread_mutex_lock(&http->lock);
    handle->next = http->idle;
    http->idle = handle;
    (void) pthread_mutex_unlock(&http->lock);
}

/* ---- callbacks ---- */

static size_t
s3_http_on_read(char *buf, size_t size, size_t count, void *ctx)
{
    S3HttpTransfer *t = ctx;
    const StoreBody *body = t->request->body;
    size_t room = size * count;
    size_t done = 0;

    while (body != NULL && done < room && t->body_part < body->iov_count)
    {
        const struct iovec *part = &body->iov[t->body_part];
        size_t len = MIN(part->iov_len - t->body_offset, room - done);

        if (len > 0)
            memcpy(buf + done, (const char *) part->iov_base + t->body_offset, len);
        done += len;
        t->body_offset += len;
        if (t->body_offset == part->iov_len)
        {
            t->body_part++;
            t->body_offset = 0;
        }
    }
    return done;
}

/* libcurl rewinds when a kept connection turns out to be dead before anything was answered. */
static int
s3_http_on_seek(void *ctx, curl_off_t offset, int origin)
{
    S3HttpTransfer *t = ctx;
    const StoreBody *body = t->request->body;
    uint64_t left = (uint64_t) offset;

    if (origin != SEEK_SET || offset < 0)
        return CURL_SEEKFUNC_FAIL;
    t->body_part = 0;
    t->body_offset = 0;
    for (; body != NULL && t->body_part < body->iov_count; t->body_part++)
    {
        size_t len = body->iov[t->body_part].iov_len;

        if (left < len)
        {
            t->body_offset = (size_t) left;
            return CURL_SEEKFUNC_OK;
        }
        left -= len;
    }
    return left == 0 ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL;
}

/* Passes on the part of a piece of body that lies in the wanted range. */
static int
s3_http_write_sink(S3HttpTransfer *t, const char *buf, size_t len)
{
    S3HttpAnswer *answer = t->answer;
    ByteRange want = t->request->range;
    uint64_t skip = 0;

    /* a 200 to a ranged request begins at the object's first byte */
    if (answer->status == 200 && t->body_seen < want.offset)
        skip = MIN(want.offset - t->body_seen, len);
    t->body_seen += len;
    buf += skip;
    len -= (size_t) skip;
    if (want.len > 0 && len > want.len - answer->sink_bytes)
    {
        if (answer->status == 206)
        {
            t->sink_failed = true;
            return error_set(t->err, ERROR_CORRUPT, "the store sent more than was asked for");
        }
        len = (size_t) (want.len - answer->sink_bytes);
    }
    if (stage_write(t->request->sink, buf, len, t->err) < 0)
    {
        t->sink_failed = true;
        return -1;
    }
    answer->sink_bytes += len;
    if (answer->status == 200 && want.len > 0 && answer->sink_bytes == want.len)
        t->sink_done = !answer->has_length || t->body_seen < answer->length;
    return t->sink_done ? -1 : 0;
}

/* The answer's head is complete: may its body go to the sink? */
static int
s3_http_begin_body(S3HttpTransfer *t)
{
    S3HttpAnswer *answer = t->answer;
    ByteRange want = t->request->range;

    t->body_begun = true;
    if (t->request->sink == NULL || (answer->status != 200 && answer->status != 206))
        return 0;
    t->to_sink = true;
    if (answer->status == 206)
    {
        uint64_t last = answer->range_total - 1;

        if (want.len > 0 && want.len - 1 < last - MIN(want.offset, last))
            last = want.offset + want.len - 1;
        if (!answer->has_range || answer->range_first != want.offset || answer->range_last != last)
        {
            t->sink_failed = true;
            return error_set(t->err, ERROR_CORRUPT, "the store answered with another range");
        }
    }
    else if (!answer->has_length && !answer->chunked)
    {
        /* its end could not be told from a lost connection */
        t->sink_failed = true;
        return error_set(t->err, ERROR_CORRUPT, "the store does not tell the object's length");
    }
    return 0;
}

static size_t
s3_http_on_write(char *buf, size_t size, size_t count, void *ctx)
{
    S3HttpTransfer *t = ctx;
    size_t len = size * count;

    if (!t->body_begun && s3_http_begin_body(t) < 0)
        return 0;
    if (t->to_sink)
        return s3_http_write_sink(t, buf, len) < 0 ? 0 : len;
    if (len <= t->answer->body.max - t->answer->body.len)
        strbuf_append(&t->answer->body, buf, len);
    else
        t->answer->body.failed = t->answer->body.too_long = true;
    return t->answer->body.failed ? 0 : len;
}

/* value of "name: value\r\n" if the line has that name; out is terminated, blanks trimmed. */
static bool
s3_http_header_value(const char *line, size_t len, const char *name, char *out, size_t out_size)
{
    size_t name_len = strlen(name);

    if (len <= name_len || line[name_len] != ':' || strncasecmp(line, name, name_len) != 0)
        return false;
    line += name_len + 1;
    len -= name_len + 1;
    while (len > 0 && (*line == ' ' || *line == '\t'))
        line++, len--;
    while (len > 0 && (unsigned char) line[len - 1] <= ' ')
        len--;
    if (len >= out_size)
        return false;
    memcpy(out, line, len);
    out[len] = '\0';
    for (char *p = out; *p != '\0'; p++)
        if ((unsigned char) *p < ' ' || *p == 0x7f)
            *p = ' ';
    return true;
}

/* "bytes first-last/total" */
static bool
s3_http_parse_range(char *text, S3HttpAnswer *answer)
{
    char *first = text + strlen("bytes "), *last, *total;

    if (strncmp(text, "bytes ", strlen("bytes ")) != 0)
        return false;
    last = strchr(first, '-');
    total = strchr(first, '/');
    if (last == NULL || total == NULL || total < last)
        return false;
    *last++ = '\0';
    *total++ = '\0';
    return parse_u64(first, &answer->range_first) && parse_u64(last, &answer->range_last) &&
           parse_u64(total, &answer->range_total) && answer->range_first <= answer->range_last &&
           answer->range_last < answer->range_total;
}

static int64_t
s3_http_parse_date(const char *text)
{
    time_t t = curl_lazy.getdate(text, NULL);

    return t < 0 ? 0 : (int64_t) t * 1000000;
}

static size_t
s3_http_on_header(char *line, size_t size, size_t count, void *ctx)
{
    S3HttpTransfer *t = ctx;
    S3HttpAnswer *answer = t->answer;
    size_t len = size * count;
    char value[S3_HTTP_MAX_HEADER];

    if (len > 5 && strncmp(line, "HTTP/", 5) == 0)
    {
        /* a new head: what came before was a 100, or of a try that libcurl has repeated */
        StrBuf body = answer->body;

        strbuf_clear(&body);
        memset(answer, 0, sizeof *answer);
        answer->body = body;
        (void) curl_lazy.easy_getinfo(t->handle->curl, CURLINFO_RESPONSE_CODE, &answer->status);
    }
    else if (s3_http_header_value(line, len, "content-length", value, sizeof value))
        answer->has_length = parse_u64(value, &answer->length);
    else if (s3_http_header_value(line, len, "content-range", value, sizeof value))
        answer->has_range = s3_http_parse_range(value, answer);
    else if (s3_http_header_value(line, len, "transfer-encoding", value, sizeof value))
        answer->chunked = strcasecmp(value, "chunked") == 0;
    else if (s3_http_header_value(line, len, "date", value, sizeof value))
        answer->date_us = s3_http_parse_date(value);
    else if (s3_http_header_value(line, len, "last-modified", value, sizeof value))
        answer->modified_us = s3_http_parse_date(value);
    else if (s3_http_header_value(line, len, "etag", value, sizeof value))
        answer->has_etag = value[0] != '\0';
    else if (s3_http_header_value(line, len, "x-amz-bucket-region", value, sizeof value))
        (void) snprintf(
            answer->bucket_region, sizeof answer->bucket_region, "%.*s",
            (int) sizeof answer->bucket_region - 1, value);
    else if (s3_http_header_value(line, len, "x-amz-request-id", value, sizeof value))
        (void) snprintf(
            answer->request_id, sizeof answer->request_id, "%.*s",
            (int) sizeof answer->request_id - 1, value);
    return len;
}

/* Called often while bytes move and at least once a second while none do. */
static int
s3_http_on_progress(
    void *ctx, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
    S3HttpTransfer *t = ctx;
    int64_t now = clock_monotonic_ms();

    (void) down_total;
    (void) up_total;
    if (deadline_left_ms(t->dl) == 0)
        return 1;
    if (down != t->seen_down || up != t->seen_up)
    {
        t->seen_down = down;
        t->seen_up = up;
        t->progress_at_ms = now;
    }
    else if (now - t->progress_at_ms >= t->http->stall_timeout_ms)
    {
        t->stalled = true;
        return 1;
    }
    return 0;
}

/* ---- one request ---- */

static bool
s3_http_set_up(S3HttpTransfer *t, struct curl_slist *headers)
{
    CURL *curl = t->handle->curl;
    const S3HttpRequest *request = t->request;
    int64_t left = deadline_left_ms(t->dl);
    int64_t connect = MIN(t->http->connect_timeout_ms, LONG_MAX);
    bool good = true;

#define SET(option, value) good = curl_lazy.easy_setopt(curl, option, value) == CURLE_OK && good
    SET(CURLOPT_URL, request->url);
    SET(CURLOPT_PATH_AS_IS, 1L);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_ERRORBUFFER, t->handle->error_text);
    SET(CURLOPT_HTTPHEADER, headers);
    SET(CURLOPT_USERAGENT, "walstream/" WALSTREAM_VERSION);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long) connect);
    SET(CURLOPT_TIMEOUT_MS, left >= LONG_MAX ? 0L : (long) MAX(left, 1));
    SET(CURLOPT_BUFFERSIZE, S3_HTTP_BUFFER_BYTES);
    SET(CURLOPT_UPLOAD_BUFFERSIZE, S3_HTTP_BUFFER_BYTES);
    SET(CURLOPT_SSLVERSION, (long) CURL_SSLVERSION_TLSv1_2);
    if (t->http->ca_file != NULL)
        SET(CURLOPT_CAINFO, t->http->ca_file);
    SET(CURLOPT_NOPROGRESS, 0L);
    SET(CURLOPT_XFERINFOFUNCTION, s3_http_on_progress);
    SET(CURLOPT_XFERINFODATA, t);
    SET(CURLOPT_WRITEFUNCTION, s3_http_on_write);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_HEADERFUNCTION, s3_http_on_header);
    SET(CURLOPT_HEADERDATA, t);
    if (strcmp(request->method, "HEAD") == 0)
        SET(CURLOPT_NOBODY, 1L);
    else if (strcmp(request->method, "PUT") == 0 || strcmp(request->method, "POST") == 0)
    {
        uint64_t bytes = request->body == NULL ? 0 : request->body->bytes;

        SET(CURLOPT_UPLOAD, 1L);
        SET(CURLOPT_CUSTOMREQUEST, request->method);
        SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t) bytes);
        SET(CURLOPT_READFUNCTION, s3_http_on_read);
        SET(CURLOPT_READDATA, t);
        SET(CURLOPT_SEEKFUNCTION, s3_http_on_seek);
        SET(CURLOPT_SEEKDATA, t);
    }
    else
    {
        SET(CURLOPT_HTTPGET, 1L);
        SET(CURLOPT_CUSTOMREQUEST, request->method);
    }
#undef SET
    return good;
}

/* Headers may hold a session token: they are wiped before their memory is given back. */
static void
s3_http_free_headers(struct curl_slist *headers)
{
    for (struct curl_slist *h = headers; h != NULL; h = h->next)
        OPENSSL_cleanse(h->data, strlen(h->data));
    curl_lazy.slist_free_all(headers);
}

static int
s3_http_make_headers(const S3HttpRequest *request, struct curl_slist **out, Error *err)
{
    struct curl_slist *headers = NULL;

    for (size_t i = 0; i < request->header_count + 2; i++)
    {
        /* 100-continue costs a round trip; chunked uploads are not what was signed */
        const char *line = i < request->header_count    ? request->headers[i]
                           : i == request->header_count ? "Expect:"
                                                        : "Transfer-Encoding:";
        struct curl_slist *grown = curl_lazy.slist_append(headers, line);

        if (grown == NULL)
        {
            s3_http_free_headers(headers);
            return error_nomem(err);
        }
        headers = grown;
    }
    *out = headers;
    return 0;
}

/* What libcurl's code means to the caller. err may hold the sink's error. */
static int
s3_http_judge(S3HttpTransfer *t, CURLcode code, Error *err)
{
    const char *text =
        t->handle->error_text[0] != '\0' ? t->handle->error_text : curl_lazy.easy_strerror(code);

    if (code == CURLE_OK || t->sink_done)
        return 0;
    if (t->sink_failed)
        return -1;
    /* the server had refused and closed before all was sent: its answer is what counts */
    if (code == CURLE_SEND_ERROR && t->answer->status >= 400)
        return 0;
    if (deadline_left_ms(t->dl) == 0)
        return deadline_check(t->dl, "waiting for the store", err);
    if (t->stalled)
        return error_set(
            err, ERROR_TRANSIENT, "no byte came or went for %lld ms",
            (long long) t->http->stall_timeout_ms);
    if (t->answer->body.too_long)
        return error_set(
            err, ERROR_CORRUPT, "the store's answer is longer than %u bytes", S3_XML_MAX_BYTES);

    switch (code)
    {
        case CURLE_OUT_OF_MEMORY:
            return error_nomem(err);
        case CURLE_URL_MALFORMAT:
        case CURLE_UNSUPPORTED_PROTOCOL:
            return error_set(err, ERROR_USAGE, "%s", text);
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_ISSUER_ERROR:
            (void) error_set(err, ERROR_DENIED, "%s", text);
            return error_hint(
                err,
                "The store's certificate is not trusted: check the name in \"endpoint\", and set "
                "\"ca-file\" if the store has a certificate authority of its own.");
        case CURLE_SSL_CACERT_BADFILE:
            (void) error_set(err, ERROR_DENIED, "%s", text);
            return error_hint(
                err, "Check that \"ca-file\" names a file of PEM certificates that can be read.");
        case CURLE_WRITE_ERROR: /* ours, by way of strbuf */
            return t->answer->body.failed ? error_nomem(err)
                                          : error_set(err, ERROR_TRANSIENT, "%s", text);
        default:
            return error_set(err, ERROR_TRANSIENT, "%s", text);
    }
}

/* The whole body came, as HTTP counts; did it hold all that the head promised? */
static int
s3_http_check_sink(const S3HttpTransfer *t, Error *err)
{
    const S3HttpAnswer *answer = t->answer;
    uint64_t want = 0;

    if (t->request->sink == NULL || (answer->status != 200 && answer->status != 206))
        return 0;
    if (answer->status == 206)
    {
        if (!t->body_begun || !answer->has_range)
            return error_set(err, ERROR_CORRUPT, "the store answered with an empty range");
        want = answer->range_last - answer->range_first + 1;
    }
    else if (answer->has_length)
    {
        want = answer->length - MIN(answer->length, t->request->range.offset);
        if (t->request->range.len > 0)
            want = MIN(want, t->request->range.len);
    }
    else if (answer->chunked)
        return 0; /* libcurl has seen the last chunk */
    else
        return error_set(err, ERROR_CORRUPT, "the store does not tell the object's length");
    if (answer->sink_bytes != want)
        return error_set(
            err, ERROR_CORRUPT, "the store sent %llu bytes instead of %llu",
            (unsigned long long) answer->sink_bytes, (unsigned long long) want);
    return 0;
}

int
s3_http_send(
    S3Http *http, const S3HttpRequest *request, const Deadline *dl, S3HttpAnswer *answer,
    Error *err)
{
    S3HttpTransfer t = {.http = http, .request = request, .dl = dl, .answer = answer, .err = err};
    struct curl_slist *headers = NULL;
    CURLcode code;
    int rc;

    if (deadline_check(dl, "waiting for the store", err) < 0)
        return -1;
    if (s3_http_make_headers(request, &headers, err) < 0)
        return -1;
    t.handle = s3_http_take_handle(http);
    if (t.handle == NULL)
    {
        s3_http_free_headers(headers);
        return error_nomem(err);
    }
    t.handle->error_text[0] = '\0';
    t.progress_at_ms = clock_monotonic_ms();
    if (s3_http_set_up(&t, headers))
    {
        code = curl_lazy.easy_perform(t.handle->curl);
        rc = s3_http_judge(&t, code, err);
        if (rc == 0)
            rc = s3_http_check_sink(&t, err);
    }
    else
        rc = error_set(err, ERROR_IO, "could not set up libcurl for a request");
    s3_http_give_handle(http, t.handle);
    s3_http_free_headers(headers);
    return rc;
}
