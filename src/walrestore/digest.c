/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Checksums of files; see digest.h.
 */
#include "walrestore/digest.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/crc32c.h"
#include "common/fs.h"

#define FILE_DIGEST_BUFFER (256u * 1024u)

typedef struct FileDigestState
{
    ChecksumAlgorithm algorithm;
    uint32_t crc;
    Stage *sha256;
    XXH3_state_t *xxh;
    uint64_t bytes;
} FileDigestState;

static int
file_digest_begin(FileDigestState *st, ChecksumAlgorithm algorithm, Error *err)
{
    *st = (FileDigestState){.algorithm = algorithm};
    if (algorithm == CHECKSUM_SHA256)
        return stage_digest_new(NULL, &st->sha256, err);
    st->xxh = XXH3_createState();
    if (st->xxh == NULL || XXH3_128bits_reset(st->xxh) == XXH_ERROR)
        return error_nomem(err);
    return 0;
}

static void
file_digest_end(FileDigestState *st)
{
    stage_free(st->sha256);
    (void) XXH3_freeState(st->xxh);
}

static int
file_digest_add(FileDigestState *st, const void *data, size_t len, Error *err)
{
    st->bytes += len;
    if (st->algorithm == CHECKSUM_SHA256)
        return stage_write(st->sha256, data, len, err);
    if (st->algorithm == CHECKSUM_CRC32C)
        st->crc = crc32c(st->crc, data, len);
    (void) XXH3_128bits_update(st->xxh, data, len);
    return 0;
}

static int
file_digest_finish(FileDigestState *st, FileDigest *out, Error *err)
{
    *out = (FileDigest){.bytes = st->bytes};
    if (st->algorithm == CHECKSUM_SHA256)
    {
        if (stage_finish(st->sha256, err) < 0)
            return -1;
        memcpy(out->checksum, stage_digest_sha256(st->sha256), SHA256_BYTES);
        return 0;
    }
    if (st->algorithm == CHECKSUM_CRC32C)
        checksum_from_crc32c(st->crc, out->checksum);

    XXH128_canonical_t canonical;

    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(st->xxh));
    memcpy(out->xxh128, canonical.digest, sizeof out->xxh128);
    return 0;
}

int
file_digest_read(
    int fd, ChecksumAlgorithm algorithm, const char *what, const atomic_bool *stop, FileDigest *out,
    Error *err)
{
    void *buf = fs_alloc_io(FILE_DIGEST_BUFFER);
    FileDigestState st = {0};
    size_t got = 0;
    int rc = buf == NULL ? error_nomem(err) : file_digest_begin(&st, algorithm, err);

    while (rc == 0)
    {
        if (stop != NULL && atomic_load(stop))
            rc = error_set(err, ERROR_CANCELED, "stopped");
        if (rc == 0)
            rc = fs_read_full(fd, buf, FILE_DIGEST_BUFFER, &got, what, err);
        if (rc < 0 || got == 0)
            break;
        rc = file_digest_add(&st, buf, got, err);
    }
    if (rc == 0)
        rc = file_digest_finish(&st, out, err);
    file_digest_end(&st);
    free(buf);
    return rc;
}

bool
file_digest_matches(const FileDigest *digest, ChecksumAlgorithm algorithm, const BackupFile *entry)
{
    if (digest->bytes != entry->bytes ||
        memcmp(digest->checksum, entry->checksum, checksum_bytes(algorithm)) != 0)
        return false;
    return algorithm == CHECKSUM_SHA256 ||
           memcmp(digest->xxh128, entry->xxh128, sizeof digest->xxh128) == 0;
}

int
file_digest_bytes(
    const void *data, size_t len, ChecksumAlgorithm algorithm, FileDigest *out, Error *err)
{
    FileDigestState st;
    int rc = file_digest_begin(&st, algorithm, err);

    if (rc == 0)
        rc = file_digest_add(&st, data, len, err);
    if (rc == 0)
        rc = file_digest_finish(&st, out, err);
    file_digest_end(&st);
    return rc;
}
