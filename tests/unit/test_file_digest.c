/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Digests of files: the published values, the same however the bytes come, one file after the
 * other, and what differs from a manifest's entry.
 */
#include "repo/file_digest.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/parse.h"
#include "tap.h"
#include "tempdir.h"

/* XXH128 of nothing; by the xxhsum program. */
#define XXH_EMPTY "99aa06d3014798d86001c324468d497f"

static const struct
{
    const char *label;
    ChecksumAlgorithm algorithm;
    const char *content;
    const char *checksum; /* hex */
} cases[] = {
    {"CRC-32C, in memory order", CHECKSUM_CRC32C, "123456789", "839206e3"},
    {"CRC-32C of nothing", CHECKSUM_CRC32C, "", "00000000"},
    {"SHA-256", CHECKSUM_SHA256, "abc",
     "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"SHA-256 of nothing", CHECKSUM_SHA256, "",
     "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"none", CHECKSUM_NONE, "abc", ""},
};

static bool
same_digest(const FileDigest *a, const FileDigest *b)
{
    return a->bytes == b->bytes && memcmp(a->checksum, b->checksum, sizeof a->checksum) == 0 &&
           memcmp(a->xxh128, b->xxh128, sizeof a->xxh128) == 0;
}

static void
test_values(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        size_t len = strlen(cases[i].content);
        const char *path = tempdir_write("f", cases[i].content, len);
        AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
        char hex[2 * CHECKSUM_MAX_BYTES + 1], xxh[33];
        FileDigest memory, file;
        Error err = {0};

        ok(file_digest_bytes(cases[i].content, len, cases[i].algorithm, &memory, &err) == 0 &&
               file_digest_read(fd, cases[i].algorithm, "f", NULL, &file, &err) == 0,
           "%s: computed %s", cases[i].label, err.msg);
        (void) format_hex(memory.checksum, checksum_bytes(cases[i].algorithm), hex);
        (void) format_hex(memory.xxh128, sizeof memory.xxh128, xxh);
        ok(strcmp(hex, cases[i].checksum) == 0 && memory.bytes == len, "%s: %s", cases[i].label,
           hex);
        ok(len > 0 || strcmp(xxh, XXH_EMPTY) == 0, "%s: XXH128 %s", cases[i].label, xxh);
        ok(same_digest(&memory, &file), "%s: the same by reading", cases[i].label);
    }
}

/* One digester, several files, in portions. */
static void
test_portions(ChecksumAlgorithm algorithm)
{
    AUTO(file_digester_freep) FileDigester *d = NULL;
    static uint8_t data[10000];
    Error err = {0};

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t) (i * 31);
    if (!ok(file_digester_new(algorithm, &d, &err) == 0, "%s: made", checksum_name(algorithm)))
        return;
    for (size_t step = 1; step <= sizeof data; step = step * 7 + 1)
    {
        FileDigest want, got;
        bool good = file_digest_bytes(data, sizeof data, algorithm, &want, &err) == 0 &&
                    file_digester_begin(d, &err) == 0 &&
                    /* forgotten by the next begin */
                    file_digester_add(d, data, 17, &err) == 0 && file_digester_begin(d, &err) == 0;

        for (size_t at = 0; good && at < sizeof data; at += step)
            good = file_digester_add(d, data + at, MIN(step, sizeof data - at), &err) == 0;
        ok(good && file_digester_end(d, &got, &err) == 0 && same_digest(&want, &got),
           "%s in portions of %zu", checksum_name(algorithm), step);
    }
}

static void
test_matches(ChecksumAlgorithm algorithm)
{
    BackupFile entry = {.stored_bytes = 3};
    FileDigest digest;
    Error err = {0};

    ok(file_digest_bytes("abc", 3, algorithm, &digest, &err) == 0, "digest");
    memcpy(entry.checksum, digest.checksum, sizeof entry.checksum);
    memcpy(entry.xxh128, digest.xxh128, sizeof entry.xxh128);
    ok(file_digest_matches(&digest, algorithm, &entry), "the same content");
    entry.stored_bytes = 4;
    ok(!file_digest_matches(&digest, algorithm, &entry), "another length");
    entry.stored_bytes = 3;
    entry.xxh128[15] ^= 1;
    ok(!file_digest_matches(&digest, algorithm, &entry), "another XXH128");
    entry.xxh128[15] ^= 1;
    entry.checksum[0] ^= 1;
    ok(file_digest_matches(&digest, algorithm, &entry) == (algorithm == CHECKSUM_NONE),
       "another checksum");
}

static void
test_stop(void)
{
    const char *path = tempdir_write("stop", "abc", 3);
    AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    atomic_bool stop = true;
    FileDigest digest;
    Error err = {0};

    ok(file_digest_read(fd, CHECKSUM_CRC32C, "stop", &stop, &digest, &err) == -1 &&
           err.kind == ERROR_CANCELED,
       "stopped");
}

int
main(void)
{
    static const ChecksumAlgorithm algorithms[] = {CHECKSUM_NONE, CHECKSUM_CRC32C, CHECKSUM_SHA256};

    (void) tempdir_make();
    test_values();
    for (size_t i = 0; i < ARRAY_COUNT(algorithms); i++)
    {
        test_portions(algorithms[i]);
        test_matches(algorithms[i]);
    }
    test_stop();
    return done_testing();
}
