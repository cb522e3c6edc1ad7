/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "walrestore/chain.h"

#include <string.h>

#include "pg/incremental_file.h"
#include "tap.h"

#define WHOLE UINT32_MAX

/* A file in one backup: blocks and truncation length, or WHOLE and its length in blocks. */
typedef struct Version
{
    uint32_t truncation;
    const char *blocks; /* as BlockSet's text; of a whole file: NULL */
    uint32_t whole_blocks;
} Version;

static void
version_make(const Version *v, BackupFile *out)
{
    Error err;

    *out = (BackupFile){.path = "base/5/1"};
    if (v->truncation == WHOLE)
    {
        out->kind = BACKUP_FILE_WHOLE;
        out->bytes = out->stored_bytes = (uint64_t) v->whole_blocks * DATA_PAGE_BYTES;
        return;
    }
    out->kind = BACKUP_FILE_INCREMENTAL;
    out->truncation_blocks = v->truncation;
    if (block_set_parse(v->blocks, strlen(v->blocks), &out->blocks, &err) < 0)
        ok(false, "%s", err.msg);
    out->bytes = (uint64_t) MAX(v->truncation, block_set_end(&out->blocks)) * DATA_PAGE_BYTES;
    out->stored_bytes = incremental_file_bytes((uint32_t) block_set_blocks(&out->blocks));
}

static void
test_sources(void)
{
    static const struct
    {
        const char *label;
        Version chain[4]; /* newest first */
        size_t count;
        /* of each block of the file the backup that it comes from, 0 the newest; '.': zeros */
        const char *want;
    } cases[] = {
        {"all from the full one", {{5, "", 0}, {WHOLE, NULL, 5}}, 2, "11111"},
        {"some from the newest", {{5, "1,2", 0}, {WHOLE, NULL, 5}}, 2, "10101"},
        {"each from its newest copy",
         {{6, "0", 0}, {6, "0-1", 0}, {6, "0-2", 0}, {WHOLE, NULL, 6}},
         4,
         "012333"},
        {"it grew", {{4, "4-1", 0}, {WHOLE, NULL, 4}}, 2, "111100"},
        {"it grew over a hole", {{3, "5", 0}, {WHOLE, NULL, 3}}, 2, "111..0"},
        {"it was truncated and grew again", {{2, "2,2", 0}, {WHOLE, NULL, 6}}, 2, "110.0"},
        {"it was truncated", {{2, "", 0}, {WHOLE, NULL, 6}}, 2, "11"},
        {"to nothing", {{0, "", 0}, {WHOLE, NULL, 6}}, 2, ""},
        {"the full one is shorter: extended by zeros",
         {{6, "", 0}, {6, "5", 0}, {WHOLE, NULL, 3}},
         3,
         "222..1"},
        {"a whole file in the middle ends the search",
         {{4, "0", 0}, {WHOLE, NULL, 2}, {WHOLE, NULL, 4}},
         3,
         "01.."},
        {"an older one has blocks behind the newest's truncation",
         {{2, "3", 0}, {4, "2-1", 0}, {WHOLE, NULL, 4}},
         3,
         "22.0"},
        {"what was truncated in between does not come back",
         {{5, "4", 0}, {2, "2", 0}, {WHOLE, NULL, 5}},
         3,
         "221.0"},
        {"nothing is left for the full one", {{2, "0", 0}, {2, "1", 0}, {WHOLE, NULL, 2}}, 3, "01"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(block_set_reset) BlockSet wanted = {0};
        BackupFile file;
        char got[32];
        size_t blocks;
        Error err;
        int rc;

        version_make(&cases[i].chain[0], &file);
        blocks = (size_t) (file.bytes / DATA_PAGE_BYTES);
        for (uint32_t b = 0; b < blocks; b++)
            got[b] = block_set_has(&file.blocks, b) ? '0' : '.';
        got[blocks] = '\0';
        rc = chain_begin(&file, &wanted, &err);
        backup_file_reset(&file);
        for (size_t k = 1; rc == 0 && k < cases[i].count && wanted.count > 0; k++)
        {
            AUTO(block_set_reset) BlockSet take = {0};

            version_make(&cases[i].chain[k], &file);
            rc = chain_take(&file, &wanted, &take, &err);
            for (uint32_t b = 0; rc == 0 && b < blocks; b++)
                if (block_set_has(&take, b))
                    got[b] = got[b] == '.' ? (char) ('0' + k) : 'X'; /* never twice */
            backup_file_reset(&file);
        }
        if (!ok(rc == 0 && strcmp(got, cases[i].want) == 0, "%s", cases[i].label))
            diag("got %s", got);
    }
}

static void
test_contradictions(void)
{
    static const struct
    {
        const char *label;
        int64_t more_bytes, more_stored;
    } cases[] = {
        {"restored length", 8192, 0},
        {"no multiple of a page", 1, 0},
        {"stored length", 0, 8192},
        {"stored length, shorter", 0, -1},
    };
    const Version version = {.truncation = 4, .blocks = "1,4"};

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(block_set_reset) BlockSet wanted = {0};
        AUTO(block_set_reset) BlockSet take = {0};
        BackupFile file;
        Error err = {0};

        version_make(&version, &file);
        file.bytes += (uint64_t) cases[i].more_bytes;
        file.stored_bytes += (uint64_t) cases[i].more_stored;
        ok(chain_begin(&file, &wanted, &err) < 0 && err.kind == ERROR_CORRUPT,
           "contradiction in the newest: %s", cases[i].label);
        err.kind = ERROR_NONE;
        ok(block_set_add(&wanted, 0, 3, &err) == 0 && chain_take(&file, &wanted, &take, &err) < 0 &&
               err.kind == ERROR_CORRUPT,
           "contradiction in an older one: %s", cases[i].label);
        backup_file_reset(&file);
    }
}

int
main(void)
{
    test_sources();
    test_contradictions();
    return done_testing();
}
