/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "walbackup/spill.h"

#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "tempdir.h"

#define MEMORY 1000

typedef struct Replay
{
    uint64_t bytes;
    bool same;
    bool fail;
} Replay;

/* Byte i of what is appended. */
static uint8_t
expected(uint64_t i)
{
    return (uint8_t) (i * 31 + i / 251);
}

static int
replay_take(void *ctx, const void *data, size_t len, Error *err)
{
    Replay *r = ctx;
    const uint8_t *p = data;

    if (r->fail)
        return error_set(err, ERROR_CONFLICT, "as asked");
    for (size_t i = 0; i < len; i++)
        r->same = r->same && p[i] == expected(r->bytes + i);
    r->bytes += len;
    return 0;
}

static void
test_rounds(const char *dir)
{
    static const struct
    {
        const char *label;
        size_t bytes, portion;
        bool file;
    } cases[] = {
        {"nothing", 0, 1, false},
        {"a byte", 1, 1, false},
        {"all of the memory", MEMORY, 100, false},
        {"a byte more", MEMORY + 1, 100, true},
        {"a portion over the edge", 3 * MEMORY, 700, true},
        {"one that is larger than the memory", 600000, 600000, true},
        {"less again: what was there before does not show", 10, 3, true},
        {"more again", 5 * MEMORY, 999, true},
    };
    AUTO(spill_reset) Spill spill;
    uint8_t *data = malloc(600000);
    Error err;

    if (data == NULL)
        abort();
    spill_init(&spill, dir, MEMORY);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Replay replay = {.same = true};
        int rc = 0;

        spill_clear(&spill);
        for (size_t k = 0; k < cases[i].bytes; k++)
            data[k] = expected(k);
        for (size_t at = 0; at < cases[i].bytes && rc == 0; at += cases[i].portion)
            rc = spill_append(&spill, data + at, MIN(cases[i].portion, cases[i].bytes - at), &err);
        ok(rc == 0 && spill_bytes(&spill) == cases[i].bytes &&
               spill_replay(&spill, replay_take, &replay, &err) == 0 && replay.same &&
               replay.bytes == cases[i].bytes && (spill.fd >= 0) == cases[i].file &&
               spill.cap <= MEMORY,
           "%s", cases[i].label);
    }
    ok(tempdir_count(dir) == 0, "its file has no name");

    Replay failing = {.fail = true};

    ok(spill_replay(&spill, replay_take, &failing, &err) == -1 && err.kind == ERROR_CONFLICT,
       "an error of the taker ends it");
    free(data);
}

static void
test_no_folder(const char *dir)
{
    char missing[600];
    AUTO(spill_reset) Spill spill;
    Error err = {0};

    (void) snprintf(missing, sizeof missing, "%s/missing", dir);
    spill_init(&spill, missing, 2);
    ok(spill_append(&spill, "ab", 2, &err) == 0, "no file is needed, none is made");
    ok(spill_append(&spill, "c", 1, &err) == -1 && err.kind == ERROR_NOT_FOUND &&
           strstr(err.msg, missing) != NULL && err.hint[0] != '\0',
       "folder that is missing: %s", err.msg);
}

int
main(void)
{
    const char *dir = tempdir_make();

    test_rounds(dir);
    test_no_folder(dir);
    return done_testing();
}
