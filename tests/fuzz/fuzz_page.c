/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The check of WAL segments. The input is a byte of choices and the beginning of a segment; zeros
 * are behind it. The outcome must not depend on how the bytes are cut into portions, and of what is
 * accepted nothing but zeros may lie behind the end that is told.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "pg/page.h"

#define FUZZ_SEGMENT_BYTES (1024u * 1024u)
#define FUZZ_SEGNO 5
#define FUZZ_REPAIR_HEADERS 0x01 /* for pages of 1 kB, so that the search comes past the first */
#define FUZZ_MARK 0x02
#define FUZZ_EXPECT_LITTLE 0x04

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fuzz_check(bool good, const char *what)
{
    if (good)
        return;
    (void) fprintf(stderr, "broken: %s\n", what);
    abort();
}

static int
fuzz_run(
    const WalExpect *expect, const uint8_t *segment, size_t portion, size_t portioned,
    WalCheck *check, bool *complete, Error *err)
{
    size_t at = 0;

    wal_check_init(check, expect);
    while (at < FUZZ_SEGMENT_BYTES)
    {
        size_t n = at < portioned ? MIN(portion, portioned - at) : FUZZ_SEGMENT_BYTES - at;

        if (wal_check_write(check, segment + at, n, err) < 0)
            return -1;
        at += n;
    }
    return wal_check_finish(check, complete, err);
}

static void
fuzz_repair_headers(uint8_t *segment, size_t size)
{
    for (uint32_t at = 0; at < size; at += 1024)
    {
        uint8_t *p = segment + at;

        p[0] = 0x18;
        p[1] = 0xD1;
        p[2] = (uint8_t) ((p[2] & 0x0D) | (at == 0 ? 2 : 0));
        p[3] = 0;
        put_u32le(p + 4, 1);
        put_u64le(p + 8, (Lsn) FUZZ_SEGNO * FUZZ_SEGMENT_BYTES + at);
        if (at == 0)
        {
            put_u32le(p + 32, FUZZ_SEGMENT_BYTES);
            put_u32le(p + 36, 1024);
        }
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t segment[FUZZ_SEGMENT_BYTES];
    static const char mark[] = "walstream: padded WAL segment";
    static size_t dirty = 0;

    if (size == 0)
        return 0;

    uint8_t choice = data[0];
    WalExpect expect = {
        .segment_bytes = FUZZ_SEGMENT_BYTES, .segno = FUZZ_SEGNO, .pg_major = 18, .tli = 1};

    data++;
    size = MIN(size - 1, FUZZ_SEGMENT_BYTES);
    memset(segment, 0, dirty);
    memcpy(segment, data, size);
    dirty = MIN(size + WAL_PAGE_LONG_BYTES, FUZZ_SEGMENT_BYTES);
    if ((choice & FUZZ_REPAIR_HEADERS) != 0)
        fuzz_repair_headers(segment, size);
    if ((choice & FUZZ_MARK) != 0)
    {
        memset(segment + FUZZ_SEGMENT_BYTES - WAL_PAD_MARK_BYTES, 0, WAL_PAD_MARK_BYTES);
        memcpy(segment + FUZZ_SEGMENT_BYTES - WAL_PAD_MARK_BYTES, mark, sizeof mark);
        dirty = FUZZ_SEGMENT_BYTES;
    }
    if ((choice & FUZZ_EXPECT_LITTLE) != 0)
    {
        expect.pg_major = 0;
        expect.tli = 0;
        expect.segno = get_u64le(segment + 8) / FUZZ_SEGMENT_BYTES;
    }

    WalCheck whole, cut;
    bool whole_complete = false, cut_complete = false;
    Error whole_err = {.kind = ERROR_NONE}, cut_err = {.kind = ERROR_NONE};
    int whole_rc = fuzz_run(&expect, segment, 1, 0, &whole, &whole_complete, &whole_err);
    int cut_rc = fuzz_run(
        &expect, segment, (size_t) (choice >> 3) + 1,
        size + 64 < FUZZ_SEGMENT_BYTES ? size + 64 : 0, &cut, &cut_complete, &cut_err);

    fuzz_check(whole_rc == cut_rc && whole_complete == cut_complete, "portions make no difference");
    if (whole_rc < 0)
    {
        fuzz_check(
            whole_err.kind == cut_err.kind &&
                (whole_err.kind == ERROR_CORRUPT || whole_err.kind == ERROR_CONFLICT),
            "the kind is CORRUPT or CONFLICT");
        return 0;
    }
    fuzz_check(whole.data_end == cut.data_end, "the end is the same");
    fuzz_check(whole.data_end <= FUZZ_SEGMENT_BYTES, "the end lies in the segment");
    fuzz_check(!(whole.padded && whole_complete), "a marked segment is not complete");

    uint64_t behind = whole.data_end + WAL_PAGE_LONG_BYTES; /* of a cut header bytes are left */

    if (behind < FUZZ_SEGMENT_BYTES - WAL_PAD_MARK_BYTES)
        fuzz_check(
            segment[behind] == 0 && memcmp(
                                        segment + behind, segment + behind + 1,
                                        FUZZ_SEGMENT_BYTES - WAL_PAD_MARK_BYTES - 1 - behind) == 0,
            "only zeros behind the end");
    return 0;
}
