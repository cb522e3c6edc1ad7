/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Signature Version 4; see sigv4.h. The names of the steps are those of Amazon's description:
 * canonical request, string to sign, signing key, signature.
 */
#include "store/sigv4.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "common/parse.h"

#define SIGV4_MAX_TEXT (64u << 10)
#define SHA256_BYTES 32u

void
sigv4_encode(StrBuf *out, const char *text, bool keep_slash)
{
    static const char digits[] = "0123456789ABCDEF";

    for (const unsigned char *p = (const unsigned char *) text; *p != '\0'; p++)
    {
        bool plain = (*p >= 'A' && *p <= 'Z') || (*p >= 'a' && *p <= 'z') ||
                     (*p >= '0' && *p <= '9') || *p == '-' || *p == '.' || *p == '_' || *p == '~' ||
                     (*p == '/' && keep_slash);

        if (plain)
            strbuf_putc(out, (char) *p);
        else
        {
            strbuf_putc(out, '%');
            strbuf_putc(out, digits[*p >> 4]);
            strbuf_putc(out, digits[*p & 15]);
        }
    }
}

static int
sigv4_compare_text(const void *a, const void *b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

int
sigv4_encode_query(StrBuf *out, const SigV4Pair *query, size_t count, Error *err)
{
    StrBuf parts[SIGV4_MAX_PAIRS];
    const char *sorted[SIGV4_MAX_PAIRS];
    int rc = 0;

    assert(count <= SIGV4_MAX_PAIRS);

    /*
     * "name=value" sorts as (name, value) does: '=' ends the name, and of what an encoded name may
     * hold only '%', '-', '.' and digits are below it. To be exact, names end in a byte below all.
     */
    for (size_t i = 0; i < count; i++)
    {
        strbuf_init(&parts[i], SIGV4_MAX_TEXT);
        sigv4_encode(&parts[i], query[i].name, false);
        strbuf_putc(&parts[i], '\1');
        sigv4_encode(&parts[i], query[i].value, false);
        if (rc == 0)
            rc = strbuf_finish(&parts[i], err);
        sorted[i] = strbuf_text(&parts[i]);
    }
    if (rc == 0)
    {
        qsort(sorted, count, sizeof sorted[0], sigv4_compare_text);
        for (size_t i = 0; i < count; i++)
        {
            size_t name_len = strcspn(sorted[i], "\1");

            if (i > 0)
                strbuf_putc(out, '&');
            strbuf_append(out, sorted[i], name_len);
            strbuf_putc(out, '=');
            strbuf_puts(out, sorted[i] + name_len + 1);
        }
        rc = strbuf_finish(out, err);
    }
    for (size_t i = 0; i < count; i++)
        strbuf_reset(&parts[i]);
    return rc;
}

char *
sigv4_format_date(int64_t wall_us, char *buf)
{
    time_t seconds = (time_t) (wall_us / 1000000);
    struct tm tm = {0};

    (void) gmtime_r(&seconds, &tm);
    (void) strftime(buf, SIGV4_DATE_SIZE, "%Y%m%dT%H%M%SZ", &tm);
    return buf;
}

/* "name:value\n" for each header, blanks trimmed and runs of them folded; then the names. */
static void
sigv4_append_headers(const SigV4Request *request, const size_t *order, StrBuf *out)
{
    for (size_t i = 0; i < request->header_count; i++)
    {
        const SigV4Pair *header = &request->headers[order[i]];
        bool begun = false, blank = false;

        strbuf_puts(out, header->name);
        strbuf_putc(out, ':');
        for (const char *p = header->value; *p != '\0'; p++)
        {
            if (*p == ' ' || *p == '\t')
            {
                blank = begun;
                continue;
            }
            if (blank)
                strbuf_putc(out, ' ');
            strbuf_putc(out, *p);
            begun = true;
            blank = false;
        }
        strbuf_putc(out, '\n');
    }
}

static void
sigv4_append_names(const SigV4Request *request, const size_t *order, StrBuf *out)
{
    for (size_t i = 0; i < request->header_count; i++)
    {
        if (i > 0)
            strbuf_putc(out, ';');
        strbuf_puts(out, request->headers[order[i]].name);
    }
}

static int
sigv4_hmac(const uint8_t *key, size_t key_len, const char *text, uint8_t *out, Error *err)
{
    unsigned int len = 0;

    if (HMAC(
            EVP_sha256(), key, (int) key_len, (const unsigned char *) text, strlen(text), out,
            &len) == NULL ||
        len != SHA256_BYTES)
        return error_set(err, ERROR_IO, "could not compute HMAC-SHA256");
    return 0;
}

/* The chain over date, region, service; key is wiped by the caller. */
static int
sigv4_derive_key(
    const SigV4Request *request, const Credentials *credentials, uint8_t *key, Error *err)
{
    char secret[sizeof credentials->secret_key + 4];
    char day[9];
    int rc;

    (void) snprintf(day, sizeof day, "%.8s", request->date);
    (void) snprintf(secret, sizeof secret, "AWS4%s", credentials->secret_key);
    rc = sigv4_hmac((const uint8_t *) secret, strlen(secret), day, key, err);
    OPENSSL_cleanse(secret, sizeof secret);
    if (rc < 0 || sigv4_hmac(key, SHA256_BYTES, request->region, key, err) < 0 ||
        sigv4_hmac(key, SHA256_BYTES, request->service, key, err) < 0 ||
        sigv4_hmac(key, SHA256_BYTES, "aws4_request", key, err) < 0)
        return -1;
    return 0;
}

int
sigv4_sign(const SigV4Request *request, const Credentials *credentials, StrBuf *out, Error *err)
{
    AUTO(strbuf_reset) StrBuf text;
    size_t order[SIGV4_MAX_PAIRS];
    uint8_t digest[SHA256_BYTES], key[SHA256_BYTES];
    char hex[SIGV4_SHA256_HEX_SIZE];

    strbuf_init(&text, SIGV4_MAX_TEXT);
    assert(request->header_count <= SIGV4_MAX_PAIRS);
    for (size_t i = 0; i < request->header_count; i++)
    {
        size_t at = i;

        /* insertion: a handful of names, and the order must be by name alone */
        for (; at > 0 && strcmp(request->headers[order[at - 1]].name, request->headers[i].name) > 0;
             at--)
            order[at] = order[at - 1];
        order[at] = i;
    }

    strbuf_printf(&text, "%s\n%s\n%s\n", request->method, request->path, request->query);
    sigv4_append_headers(request, order, &text);
    strbuf_putc(&text, '\n');
    sigv4_append_names(request, order, &text);
    strbuf_printf(&text, "\n%s", request->payload_sha256);
    if (strbuf_finish(&text, err) < 0)
        return error_wrap(err, "could not sign request");
    if (EVP_Digest(strbuf_text(&text), text.len, digest, NULL, EVP_sha256(), NULL) != 1)
        return error_set(err, ERROR_IO, "could not sign request: SHA-256 failed");

    strbuf_clear(&text);
    strbuf_printf(
        &text, "AWS4-HMAC-SHA256\n%s\n%.8s/%s/%s/aws4_request\n%s", request->date, request->date,
        request->region, request->service, format_hex(digest, sizeof digest, hex));
    if (strbuf_finish(&text, err) < 0)
        return error_wrap(err, "could not sign request");
    if (sigv4_derive_key(request, credentials, key, err) < 0 ||
        sigv4_hmac(key, sizeof key, strbuf_text(&text), digest, err) < 0)
    {
        OPENSSL_cleanse(key, sizeof key);
        return error_wrap(err, "could not sign request");
    }
    OPENSSL_cleanse(key, sizeof key);

    strbuf_printf(
        out, "AWS4-HMAC-SHA256 Credential=%s/%.8s/%s/%s/aws4_request, SignedHeaders=",
        credentials->access_key, request->date, request->region, request->service);
    sigv4_append_names(request, order, out);
    strbuf_printf(out, ", Signature=%s", format_hex(digest, sizeof digest, hex));
    return strbuf_finish(out, err);
}
