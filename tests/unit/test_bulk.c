/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "common/bulk.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "tap.h"
#include "tempdir.h"

#define MIB ((size_t) 1024 * 1024)
#define WORDS_PER_ADD 1000

/* Adds words, each its own number, up to count. Returns the first, NULL on failure. */
static const uint64_t *
fill(Bulk *bulk, size_t count, Error *err)
{
    for (size_t at = bulk->used / sizeof(uint64_t); at < count;)
    {
        size_t n = MIN((size_t) WORDS_PER_ADD, count - at);
        uint64_t *words = bulk_add(bulk, n * sizeof *words, err);

        if (words == NULL)
            return NULL;
        for (size_t i = 0; i < n; i++, at++)
            words[i] = words[i] == 0 ? at + 1 : 0; /* it must be zero before */
    }
    return (const uint64_t *) (const void *) bulk->data;
}

static bool
is_filled(Bulk *bulk, size_t count)
{
    const uint64_t *words = (const uint64_t *) (const void *) bulk->data;

    for (size_t i = 0; i < count; i++)
    {
        if (i % 8192 == 0)
            bulk_look(bulk);
        if (words[i] != i + 1)
            return false;
    }
    return true;
}

/* KiB of mapped files, on a disk or in memory, that are resident. */
static long
resident_kib(void)
{
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    long sum = 0;

    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, "RssFile:", 8) == 0 || strncmp(line, "RssShmem:", 9) == 0)
            sum += strtol(strchr(line, ':') + 1, NULL, 10);
    if (f != NULL)
        (void) fclose(f);
    return sum;
}

static void
test_sizes(const char *dir)
{
    char missing[512];
    const struct
    {
        const char *label, *dir;
        size_t bytes;
        bool mapped;
        size_t memory;
    } cases[] = {
        {"a little: no file", dir, 8, false, 0},
        {"all of the memory", dir, BULK_MEMORY_BYTES, false, 0},
        {"a word more", dir, BULK_MEMORY_BYTES + 8, true, 0},
        {"several steps", dir, 100 * MIB, true, 0},
        {"a table: all of its memory", dir, BULK_TABLE_BYTES, false, BULK_TABLE_BYTES},
        {"a larger table", dir, 3 * BULK_TABLE_BYTES, true, BULK_TABLE_BYTES},
        {"no folder: memory alone", NULL, 40 * MIB, false, 0},
        {"a folder that is missing: memory alone", missing, 40 * MIB, false, 0},
    };

    (void) snprintf(missing, sizeof missing, "%s/missing", dir);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(bulk_reset) Bulk bulk = {.dir = cases[i].dir, .memory = cases[i].memory};
        size_t count = cases[i].bytes / sizeof(uint64_t);
        Error err = {0};
        const uint64_t *first = fill(&bulk, 1, &err);

        ok(first != NULL && fill(&bulk, count, &err) == first && is_filled(&bulk, count) &&
               (bulk.mapped > 0) == cases[i].mapped && bulk.used == cases[i].bytes,
           "%s", cases[i].label);
        bulk_release(&bulk);
        ok(is_filled(&bulk, count), "%s: nothing is lost by giving pages back", cases[i].label);
        bulk_reset(&bulk);
        ok(bulk.data == NULL && bulk.used == 0 && bulk.dir == cases[i].dir &&
               fill(&bulk, 10, &err) != NULL && is_filled(&bulk, 10),
           "%s: empty again", cases[i].label);
    }
    ok(tempdir_count(dir) == 0, "its file has no name");
}

static void
test_resident(const char *dir)
{
    AUTO(bulk_reset) Bulk bulk = {.dir = dir};
    size_t count = 128 * MIB / sizeof(uint64_t);
    long before = resident_kib(), filled, read;
    Error err = {0};

    ok(fill(&bulk, count, &err) != NULL, "128 MiB are written");
    filled = resident_kib() - before;
    ok(is_filled(&bulk, count), "and read again");
    read = resident_kib() - before;
    bulk_release(&bulk);
    ok(filled < 16 * 1024 && read < 16 * 1024,
       "few of them are resident: %ld KiB after writing, %ld after reading, %ld given back", filled,
       read, resident_kib() - before);
}

/* As a full disk: the file can grow to a part of what is wanted. */
static void
test_full(const char *dir)
{
    AUTO(bulk_reset) Bulk bulk = {.dir = dir};
    struct rlimit before, less;
    size_t count = 80 * MIB / sizeof(uint64_t);
    Error err = {0};

    (void) signal(SIGXFSZ, SIG_IGN);
    if (getrlimit(RLIMIT_FSIZE, &before) != 0)
        abort();
    less = before;
    less.rlim_cur = 40 * MIB;
    (void) setrlimit(RLIMIT_FSIZE, &less);
    ok(fill(&bulk, count, &err) != NULL && bulk.mapped > 0 && bulk.mapped < 40 * MIB,
       "a file that cannot grow: the rest is memory");
    (void) setrlimit(RLIMIT_FSIZE, &before);
    bulk_release(&bulk);
    ok(is_filled(&bulk, count), "and nothing of it is lost");
    ok(fill(&bulk, 2 * count, &err) != NULL && bulk.mapped < 40 * MIB &&
           is_filled(&bulk, 2 * count),
       "what is memory once stays memory");
}

int
main(void)
{
    const char *dir = tempdir_make();

    test_sizes(dir);
    test_resident(dir);
    test_full(dir);
    return done_testing();
}
