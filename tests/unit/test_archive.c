/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Archiving segments: what is refused, what is found to be there, and segments that were padded.
 */
#include "repo/archive.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bytes.h"
#include "repo/segment_read.h"
#include "tap.h"

#define SEG (1024u * 1024u)
#define PAGE_BYTES 8192u
#define SYSTEM_IDENTIFIER 7300000000000000001u
#define SEGNO 5u
#define NAME "000000010000000000000005"

static Repository repo;
static uint8_t wal[SEG];

/* In the middle of one huge record: valid pages from the first to the last. */
static void
make_wal(void)
{
    uint32_t left = 900u * SEG;
    uint32_t noise = 12345;

    for (uint32_t at = 0; at < SEG; at++)
    {
        noise = noise * 1664525u + 1013904223u;
        wal[at] = (uint8_t) (1 + (noise >> 29));
    }
    for (uint32_t at = 0; at < SEG; at += PAGE_BYTES)
    {
        bool first = at == 0;
        uint8_t *page = wal + at;

        memset(page, 0, first ? 40 : 24);
        page[0] = 0x10;
        page[1] = 0xD1;
        page[2] = first ? 0x3 : 0x1;
        put_u32le(page + 4, 1);
        put_u64le(page + 8, (uint64_t) SEGNO * SEG + at);
        put_u32le(page + 16, left);
        if (first)
        {
            put_u64le(page + 24, SYSTEM_IDENTIFIER);
            put_u32le(page + 32, SEG);
            put_u32le(page + 36, PAGE_BYTES);
        }
        left -= PAGE_BYTES - (first ? 40u : 24u);
    }
}

static void
open_repository(void)
{
    Error err = {0};

    memset(&repo, 0, sizeof repo);
    repo.format.codec.method = CODEC_LZ4;
    repo.description = (RepositoryDescription){
        .system_identifier = SYSTEM_IDENTIFIER,
        .pg_major = 15,
        .segment_bytes = SEG,
        .part_bytes = SEG};
    if (store_memory_new(&repo.store, &err) < 0 ||
        chunk_pool_new(64 * 1024, 40, &repo.pool, &err) < 0)
        abort();
}

static void
close_repository(void)
{
    store_free(repo.store);
    chunk_pool_free(repo.pool);
}

static void
put_piece(uint32_t start, uint32_t end)
{
    WalExtent piece = {.tli = 1, .segno = SEGNO, .start = start, .end = end};
    Deadline dl = deadline_after_ms(300000, NULL);
    char key[LAYOUT_KEY_MAX];
    ObjectPutResult result;
    Error err = {0};

    if (object_put_bytes(
            repo.store, &repo.format, layout_piece_key(&piece, SEG, key), wal + start, end - start,
            &dl, &result, &err) < 0)
        printf("Bail out! %s\n", err.msg);
}

static int
file_of(const uint8_t *data, size_t len)
{
    int fd = memfd_create("wal", MFD_CLOEXEC);

    if (fd < 0 || write(fd, data, len) != (ssize_t) len)
        abort();
    return fd;
}

static int
push(int fd, ArchiveResult *result, Error *err)
{
    Deadline dl = deadline_after_ms(300000, NULL);

    *err = (Error){0};
    return archive_file(&repo, fd, NAME, &dl, result, err);
}

/* What walfetch makes of the pieces that there are. */
static int
padded_file(void)
{
    int fd = memfd_create("padded", MFD_CLOEXEC);
    Deadline dl = deadline_after_ms(300000, NULL);
    SegmentRead read;
    Error err = {0};

    if (fd < 0 || segment_read(&repo, 1, SEGNO, false, fd, &dl, &read, &err) < 0)
        printf("Bail out! %s\n", err.msg);
    return fd;
}

static void
test_complete(void)
{
    ArchiveResult result;
    Error err;
    int fd = file_of(wal, SEG);

    open_repository();
    ok(push(fd, &result, &err) == 0 && result == ARCHIVE_STORED, "a complete segment is stored");
    ok(push(fd, &result, &err) == 0 && result == ARCHIVE_ALREADY_THERE, "again: it is there");
    (void) close(fd);
    wal[SEG / 2 + 100] ^= 1;
    fd = file_of(wal, SEG);
    wal[SEG / 2 + 100] ^= 1;
    ok(push(fd, &result, &err) < 0 && err.kind == ERROR_CONFLICT, "other bytes: %s", err.msg);
    (void) close(fd);
    close_repository();
}

static void
test_padded(void)
{
    ArchiveResult result;
    Error err;
    int fd;
    uint8_t byte = 0xEE;

    open_repository();
    put_piece(0, 100000);
    put_piece(50000, 300000);
    fd = padded_file();
    ok(push(fd, &result, &err) == 0 && result == ARCHIVE_ALREADY_THERE,
       "a padded segment whose WAL is all in the repository is durable: %s", err.msg);

    put_piece(300000, 400000);
    put_piece(200000, 500000);
    ok(push(fd, &result, &err) == 0 && result == ARCHIVE_ALREADY_THERE,
       "also when there is more of it by now: %s", err.msg);

    /* WAL that was streamed into the file since */
    if (pwrite(fd, wal + 300000, 200100, 300000) != 200100)
        abort();
    ok(push(fd, &result, &err) < 0 && err.kind == ERROR_CORRUPT,
       "with WAL that the repository does not have it is refused: %s", err.msg);
    put_piece(500000, 500100);
    ok(push(fd, &result, &err) == 0, "until that is stored");
    if (pwrite(fd, &byte, 1, 123456) != 1)
        abort();
    ok(push(fd, &result, &err) < 0 && err.kind == ERROR_CORRUPT, "a byte differs: %s", err.msg);
    (void) close(fd);
    close_repository();
}

static void
test_refused(void)
{
    static uint8_t cut[SEG];
    static const struct
    {
        const char *label;
        uint32_t at;
        uint8_t flip;
        size_t len;
        ErrorKind kind;
    } cases[] = {
        {"too short", 0, 0, SEG - 1, ERROR_CORRUPT},
        {"another segment size", 0, 0, SEG / 2, ERROR_CORRUPT},
        {"another system identifier", 24, 1, SEG, ERROR_CONFLICT},
        {"another page address", 8, 1, SEG, ERROR_CORRUPT},
        {"no magic", 1, 0x80, SEG, ERROR_CORRUPT},
        {"a damaged page header in the middle", 64 * PAGE_BYTES + 9, 1, SEG, ERROR_CORRUPT},
    };
    ArchiveResult result;
    Error err;
    int fd;

    open_repository();
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        wal[cases[i].at] ^= cases[i].flip;
        fd = file_of(wal, cases[i].len);
        wal[cases[i].at] ^= cases[i].flip;
        ok(push(fd, &result, &err) < 0 && err.kind == cases[i].kind, "%s: %s", cases[i].label,
           err.msg);
        (void) close(fd);
    }
    memcpy(cut, wal, 700000);
    fd = file_of(cut, SEG);
    ok(push(fd, &result, &err) < 0 && err.kind == ERROR_CORRUPT, "cut, without a mark: %s",
       err.msg);
    (void) close(fd);
    close_repository();
}

int
main(void)
{
    make_wal();
    test_complete();
    test_padded();
    test_refused();
    return done_testing();
}
