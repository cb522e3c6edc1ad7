/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Backup manifests as the server writes them, byte for byte; see backup_manifest.h. The last line,
 * which begins with Manifest-Checksum, has the SHA-256 of all before it.
 */
#include "pg/backup_manifest.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <openssl/evp.h>

#include "common/bytes.h"
#include "common/parse.h"
#include "common/strbuf.h"
#include "common/utf8.h"

#define PG_MANIFEST_PATH_MAX (64u * 1024)
#define PG_MANIFEST_PIECE_BYTES (32u * 1024)
/* a path escaped byte by byte, the rest of its entry, and what waits to be handed on */
#define PG_MANIFEST_TEXT_MAX (6 * PG_MANIFEST_PATH_MAX + PG_MANIFEST_PIECE_BYTES + 1024)

/* ---- checksums ---- */

static const struct
{
    const char *name;
    size_t bytes;
} checksum_algorithms[] = {
    [CHECKSUM_NONE] = {"NONE", 0},
    [CHECKSUM_CRC32C] = {"CRC32C", 4},
    [CHECKSUM_SHA256] = {"SHA256", 32},
};

const char *
checksum_name(ChecksumAlgorithm algorithm)
{
    return checksum_algorithms[algorithm].name;
}

bool
checksum_parse_name(const char *name, ChecksumAlgorithm *out)
{
    for (size_t i = 0; i < ARRAY_COUNT(checksum_algorithms); i++)
    {
        if (strcasecmp(name, checksum_algorithms[i].name) == 0)
        {
            *out = (ChecksumAlgorithm) i;
            return true;
        }
    }
    return false;
}

size_t
checksum_bytes(ChecksumAlgorithm algorithm)
{
    return checksum_algorithms[algorithm].bytes;
}

void
checksum_from_crc32c(uint32_t crc, uint8_t out[CHECKSUM_MAX_BYTES])
{
    memset(out, 0, CHECKSUM_MAX_BYTES);
    put_u32le(out, crc);
}

/* ---- the writer ---- */

struct PgManifestWriter
{
    PgManifestWriteFn fn;
    void *ctx; /* borrowed */
    EVP_MD_CTX *digest;
    StrBuf text; /* not handed on yet */
    bool has_files;
    bool ended;
};

static int
pg_manifest_fail_digest(Error *err)
{
    return error_set(err, ERROR_IO, "could not compute SHA-256 of backup manifest: OpenSSL failed");
}

/* Hands on what has been gathered. */
static int
pg_manifest_flush(PgManifestWriter *w, Error *err)
{
    if (strbuf_finish(&w->text, err) < 0)
        return error_wrap(err, "could not write backup manifest");
    if (w->text.len == 0)
        return 0;
    if (EVP_DigestUpdate(w->digest, w->text.data, w->text.len) != 1)
        return pg_manifest_fail_digest(err);
    if (w->fn(w->ctx, w->text.data, w->text.len, err) < 0)
        return -1;
    strbuf_clear(&w->text);
    return 0;
}

int
pg_manifest_begin(
    int pg_major, uint64_t system_identifier, PgManifestWriteFn fn, void *ctx,
    PgManifestWriter **out, Error *err)
{
    AUTO(pg_manifest_freep) PgManifestWriter *w = calloc(1, sizeof *w);

    if (w == NULL)
        return error_nomem(err);
    w->fn = fn;
    w->ctx = ctx;
    strbuf_init(&w->text, PG_MANIFEST_TEXT_MAX);
    w->digest = EVP_MD_CTX_new();
    if (w->digest == NULL || EVP_DigestInit_ex(w->digest, EVP_sha256(), NULL) != 1)
        return pg_manifest_fail_digest(err);
    strbuf_printf(
        &w->text, "{ \"PostgreSQL-Backup-Manifest-Version\": %d,\n", pg_major >= 17 ? 2 : 1);
    if (pg_major >= 17)
        strbuf_printf(&w->text, "\"System-Identifier\": %" PRIu64 ",\n", system_identifier);
    strbuf_puts(&w->text, "\"Files\": [");
    *out = steal(w);
    return 0;
}

void
pg_manifest_free(PgManifestWriter *w)
{
    if (w == NULL)
        return;
    EVP_MD_CTX_free(w->digest);
    strbuf_reset(&w->text);
    free(w);
}

/* As the server's escape_json does it, to the byte: with letters, where strbuf_put_json has
 * numbers. */
static void
pg_manifest_put_json(StrBuf *out, const char *text)
{
    static const char escaped[] = "\b\f\n\r\t\"\\";
    static const char letters[] = "bfnrt\"\\";

    strbuf_putc(out, '"');
    for (const char *p = text; *p != '\0'; p++)
    {
        const char *at = strchr(escaped, *p);

        if (at != NULL)
        {
            strbuf_putc(out, '\\');
            strbuf_putc(out, letters[at - escaped]);
        }
        else if ((unsigned char) *p < ' ')
            strbuf_printf(out, "\\u%04x", (unsigned char) *p);
        else
            strbuf_putc(out, *p);
    }
    strbuf_putc(out, '"');
}

static void
pg_manifest_put_hex(StrBuf *out, const void *data, size_t len)
{
    const uint8_t *p = data;
    char digits[3];

    for (size_t i = 0; i < len; i++)
        strbuf_puts(out, format_hex(p + i, 1, digits));
}

int
pg_manifest_add(PgManifestWriter *w, const PgManifestFile *file, Error *err)
{
    StrBuf *text = &w->text;
    time_t modified = (time_t) file->modified_s;
    size_t path_len = strlen(file->path);
    char stamp[64];
    struct tm tm;

    assert(!w->ended);
    if (path_len >= PG_MANIFEST_PATH_MAX)
        return error_set(
            err, ERROR_CORRUPT, "could not write backup manifest: a path of %zu bytes is too long",
            path_len);
    if (gmtime_r(&modified, &tm) == NULL ||
        strftime(stamp, sizeof stamp, "%Y-%m-%d %H:%M:%S GMT", &tm) == 0)
        return error_set(
            err, ERROR_CORRUPT,
            "could not write backup manifest: no date is %" PRId64 " seconds from 1970",
            file->modified_s);

    strbuf_puts(text, w->has_files ? ",\n" : "\n");
    w->has_files = true;
    if (utf8_valid(file->path))
    {
        strbuf_puts(text, "{ \"Path\": ");
        pg_manifest_put_json(text, file->path);
    }
    else
    {
        strbuf_puts(text, "{ \"Encoded-Path\": \"");
        pg_manifest_put_hex(text, file->path, path_len);
        strbuf_putc(text, '"');
    }
    strbuf_printf(text, ", \"Size\": %" PRIu64 ", \"Last-Modified\": \"%s\"", file->bytes, stamp);
    if (file->algorithm != CHECKSUM_NONE)
    {
        strbuf_printf(
            text, ", \"Checksum-Algorithm\": \"%s\", \"Checksum\": \"",
            checksum_name(file->algorithm));
        pg_manifest_put_hex(text, file->checksum, checksum_bytes(file->algorithm));
        strbuf_putc(text, '"');
    }
    strbuf_puts(text, " }");
    return text->failed || text->len >= PG_MANIFEST_PIECE_BYTES ? pg_manifest_flush(w, err) : 0;
}

int
pg_manifest_end(PgManifestWriter *w, const PgManifestWalRange *ranges, size_t count, Error *err)
{
    uint8_t sum[EVP_MAX_MD_SIZE];
    unsigned int sum_len = 0;

    assert(!w->ended);
    w->ended = true;
    strbuf_puts(&w->text, "\n],\n\"WAL-Ranges\": [\n");
    for (size_t i = 0; i < count; i++)
    {
        const PgManifestWalRange *r = &ranges[i];

        /* %X/%X, as the servers up to 18 write it */
        strbuf_printf(
            &w->text,
            "%s{ \"Timeline\": %" PRIu32 ", \"Start-LSN\": \"%" PRIX32 "/%" PRIX32
            "\", \"End-LSN\": \"%" PRIX32 "/%" PRIX32 "\" }",
            i == 0 ? "" : ",\n", r->tli, (uint32_t) (r->start >> 32), (uint32_t) r->start,
            (uint32_t) (r->end >> 32), (uint32_t) r->end);
        if (w->text.len >= PG_MANIFEST_PIECE_BYTES && pg_manifest_flush(w, err) < 0)
            return -1;
    }
    strbuf_puts(&w->text, "\n],\n");
    if (pg_manifest_flush(w, err) < 0)
        return -1;
    if (EVP_DigestFinal_ex(w->digest, sum, &sum_len) != 1)
        return pg_manifest_fail_digest(err);
    strbuf_puts(&w->text, "\"Manifest-Checksum\": \"");
    pg_manifest_put_hex(&w->text, sum, sum_len);
    strbuf_puts(&w->text, "\"}\n");
    if (strbuf_finish(&w->text, err) < 0)
        return error_wrap(err, "could not write backup manifest");
    return w->fn(w->ctx, w->text.data, w->text.len, err);
}
