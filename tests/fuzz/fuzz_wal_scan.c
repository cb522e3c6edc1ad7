/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The search for events in WAL. The input is a byte of choices and either raw bytes of a segment or
 * records: four bytes (resource manager, info, length) and the body of each, which are put on pages
 * with right links and CRCs. The outcome must not depend on how the bytes are cut into portions.
 */
#include "pg/wal_scan.h"

#include <stdio.h>

#include "../unit/wal_build.h"

#define FUZZ_SEGMENT_BYTES (1024u * 1024u)
#define FUZZ_BASE ((Lsn) 5 * FUZZ_SEGMENT_BYTES)
#define FUZZ_RAW 0x01
#define FUZZ_AT_SEGMENT_END 0x02 /* the records lie over the end of the first segment */
#define FUZZ_EVENTS_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct FuzzSeen
{
    WalEvent events[FUZZ_EVENTS_MAX];
    size_t count;
    bool ended;
    int rc;
    Lsn last, end;
} FuzzSeen;

static void
fuzz_check(bool good, const char *what)
{
    if (good)
        return;
    (void) fprintf(stderr, "broken: %s\n", what);
    abort();
}

static int
fuzz_see(void *ctx, const WalEvent *event, Error *err UNUSED)
{
    FuzzSeen *seen = ctx;

    if (seen->count == FUZZ_EVENTS_MAX)
        return 1;
    fuzz_check(
        event->lsn < event->end && event->lsn >= FUZZ_BASE &&
            memchr(event->name, '\0', sizeof event->name) != NULL,
        "an event has a place and a name with an end");
    fuzz_check(
        seen->count == 0 || seen->events[seen->count - 1].end <= event->lsn, "events ascend");
    seen->events[seen->count++] = *event;
    return 0;
}

static void
fuzz_scan(const uint8_t *wal, size_t len, size_t portion, FuzzSeen *seen)
{
    WalScan *scan;
    Error err;

    seen->count = 0;
    seen->rc = 0;
    if (wal_scan_new(FUZZ_SEGMENT_BYTES, FUZZ_BASE, fuzz_see, seen, &scan, &err) < 0)
        abort();
    for (size_t at = 0; at < len && seen->rc == 0;)
    {
        /* what was filled is not what is looked for */
        size_t n = len > FUZZ_SEGMENT_BYTES && at < FUZZ_SEGMENT_BYTES - WAL_BUILD_PAGE
                       ? FUZZ_SEGMENT_BYTES - WAL_BUILD_PAGE - at
                       : MIN(portion, len - at);

        seen->rc = wal_scan_write(scan, wal + at, n, &err);
        at += n;
    }
    seen->ended = wal_scan_ended(scan);
    seen->last = wal_scan_last(scan);
    seen->end = wal_scan_end(scan);
    wal_scan_free(scan);
}

/* To the last bytes of the first segment; made once for each version. */
static void
fuzz_fill_segment(WalBuild *b)
{
    static WalBuild made[5];
    WalBuild *m = &made[b->pg_major - 14];

    if (m->data == NULL)
    {
        wal_build_init(m, FUZZ_BASE, FUZZ_SEGMENT_BYTES, 1);
        m->pg_major = b->pg_major;
        wal_build_fill_to(m, FUZZ_BASE + FUZZ_SEGMENT_BYTES - 64);
    }
    memcpy(b->data, m->data, m->bytes);
    b->at = m->at;
    b->prev = m->prev;
}

/* Returns the bytes of WAL that were made. */
static size_t
fuzz_build(WalBuild *b, uint8_t choice, const uint8_t *data, size_t size)
{
    size_t room = 2 * FUZZ_SEGMENT_BYTES - 4 * WAL_BUILD_PAGE;

    if ((choice & FUZZ_RAW) != 0)
    {
        size = MIN(size, FUZZ_SEGMENT_BYTES);
        if (size > 0)
            memcpy(b->data, data, size);
        b->at = FUZZ_BASE;
        for (size_t at = 0; at < size; at += WAL_BUILD_PAGE, b->at += WAL_BUILD_PAGE)
        {
            Lsn page = b->at;

            wal_build_page(b, get_u32le(b->data + at + 16) & 0xFFFFF);
            b->at = page;
        }
        return size;
    }
    if ((choice & FUZZ_AT_SEGMENT_END) != 0)
        fuzz_fill_segment(b);
    while (size >= 4 && b->at - FUZZ_BASE < room)
    {
        uint32_t want = (uint32_t) (data[2] | data[3] << 8);
        uint32_t len = (uint32_t) MIN(want, size - 4);

        (void) wal_build_record(b, data[0] & 3, data[1], 7, data + 4, len);
        data += 4 + len;
        size -= 4 + len;
        if (data[-1] % 16 == 15 && len > 0)
            (void) wal_build_filler(b, 24 + 64u * data[-1]);
    }
    return (size_t) MIN(b->at - FUZZ_BASE + 64, b->bytes);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static FuzzSeen whole, cut;
    static WalBuild b;

    if (size == 0 || size > 65536)
        return 0;
    if (b.data == NULL)
        wal_build_init(&b, FUZZ_BASE, FUZZ_SEGMENT_BYTES, 2);
    b.at = FUZZ_BASE;
    b.prev = FUZZ_BASE - 64;
    b.pg_major = 14 + (data[0] >> 2) % 5;

    size_t len = fuzz_build(&b, data[0], data + 1, size - 1);

    fuzz_scan(b.data, len, len > 0 ? len : 1, &whole);
    fuzz_scan(b.data, len, (size_t) (data[0] >> 5) * 7 + 1, &cut);
    fuzz_check(
        whole.rc == cut.rc && whole.ended == cut.ended && whole.last == cut.last &&
            whole.end == cut.end && whole.count == cut.count &&
            memcmp(whole.events, cut.events, whole.count * sizeof whole.events[0]) == 0,
        "portions make no difference");
    fuzz_check(
        whole.last == LSN_INVALID ? whole.end == LSN_INVALID : whole.last < whole.end,
        "the last record has an end");
    memset(b.data, 0, MIN(len + WAL_BUILD_PAGE, b.bytes));
    return 0;
}
