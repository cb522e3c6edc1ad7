/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Digests of files; see file_digest.h.
 */
#include "repo/file_digest.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/crc32c.h"
#include "common/fs.h"

#define FILE_DIGEST_BUFFER (256u * 1024u)

struct FileDigester
{
    ChecksumAlgorithm algorithm;
    uint32_t crc;
    EVP_MD_CTX *sha256; /* NULL when the checksum is another */
    XXH3_state_t *xxh;
    uint64_t bytes;
};

bool
file_digest_matches(const FileDigest *digest, ChecksumAlgorithm algorithm, const BackupFile *entry)
{
    return digest->bytes == entry->stored_bytes &&
           memcmp(digest->checksum, entry->checksum, checksum_bytes(algorithm)) == 0 &&
           memcmp(digest->xxh128, entry->xxh128, sizeof digest->xxh128) == 0;
}

/* ---- as bytes pass by ---- */

static int
file_digester_fail(Error *err)
{
    return error_set(err, ERROR_IO, "could not compute SHA-256: OpenSSL failed");
}

int
file_digester_new(ChecksumAlgorithm algorithm, FileDigester **out, Error *err)
{
    AUTO(file_digester_freep) FileDigester *d = calloc(1, sizeof *d);

    if (d == NULL)
        return error_nomem(err);
    d->algorithm = algorithm;
    d->xxh = XXH3_createState();
    if (algorithm == CHECKSUM_SHA256)
        d->sha256 = EVP_MD_CTX_new();
    if (d->xxh == NULL || (algorithm == CHECKSUM_SHA256 && d->sha256 == NULL))
        return error_nomem(err);
    *out = steal(d);
    return 0;
}

void
file_digester_free(FileDigester *d)
{
    if (d == NULL)
        return;
    (void) XXH3_freeState(d->xxh);
    EVP_MD_CTX_free(d->sha256);
    free(d);
}

int
file_digester_begin(FileDigester *d, Error *err)
{
    d->crc = 0;
    d->bytes = 0;
    (void) XXH3_128bits_reset(d->xxh);
    if (d->sha256 != NULL && EVP_DigestInit_ex(d->sha256, EVP_sha256(), NULL) != 1)
        return file_digester_fail(err);
    return 0;
}

int
file_digester_add(FileDigester *d, const void *data, size_t len, Error *err)
{
    d->bytes += len;
    (void) XXH3_128bits_update(d->xxh, data, len);
    if (d->algorithm == CHECKSUM_CRC32C)
        d->crc = crc32c(d->crc, data, len);
    if (d->sha256 != NULL && EVP_DigestUpdate(d->sha256, data, len) != 1)
        return file_digester_fail(err);
    return 0;
}

int
file_digester_end(FileDigester *d, FileDigest *out, Error *err)
{
    XXH128_canonical_t canonical;

    static_assert(sizeof canonical.digest == sizeof out->xxh128, "an XXH128 has 16 bytes");
    *out = (FileDigest){.bytes = d->bytes};
    if (d->algorithm == CHECKSUM_CRC32C)
        checksum_from_crc32c(d->crc, out->checksum);
    if (d->sha256 != NULL && EVP_DigestFinal_ex(d->sha256, out->checksum, NULL) != 1)
        return file_digester_fail(err);
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(d->xxh));
    memcpy(out->xxh128, canonical.digest, sizeof out->xxh128);
    return 0;
}

/* ---- at once ---- */

int
file_digest_read(
    int fd, ChecksumAlgorithm algorithm, const char *what, const atomic_bool *stop, FileDigest *out,
    Error *err)
{
    AUTO(file_digester_freep) FileDigester *d = NULL;
    AUTO(free_text) char *buf = fs_alloc_io(FILE_DIGEST_BUFFER);
    size_t got;

    if (buf == NULL)
        return error_nomem(err);
    if (file_digester_new(algorithm, &d, err) < 0 || file_digester_begin(d, err) < 0)
        return -1;
    do
    {
        if (stop != NULL && atomic_load(stop))
            return error_set(err, ERROR_CANCELED, "stopped");
        if (fs_read_full(fd, buf, FILE_DIGEST_BUFFER, &got, what, err) < 0 ||
            file_digester_add(d, buf, got, err) < 0)
            return -1;
    } while (got > 0);
    return file_digester_end(d, out, err);
}

int
file_digest_bytes(
    const void *data, size_t len, ChecksumAlgorithm algorithm, FileDigest *out, Error *err)
{
    AUTO(file_digester_freep) FileDigester *d = NULL;

    if (file_digester_new(algorithm, &d, err) < 0 || file_digester_begin(d, err) < 0 ||
        file_digester_add(d, data, len, err) < 0)
        return -1;
    return file_digester_end(d, out, err);
}
