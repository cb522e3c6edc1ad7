/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Events of WAL that real servers wrote, compared with what the servers said of them, and of WAL
 * made here for what no server writes on demand. All of it in portions of several sizes.
 */
#include "pg/wal_scan.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/parse.h"
#include "tap.h"
#include "vector.h"
#include "wal_build.h"

#define VECTORS "tests/vectors/wal/events/"
#define SEG 0x100000u
#define BASE ((Lsn) 16 * SEG)
#define T0 INT64_C(1700000000000000)
#define EVENTS_MAX 1024

typedef struct Seen
{
    WalEvent events[EVENTS_MAX];
    size_t count;
    size_t stop_at; /* says 1 at this one, counted from 1 */
    size_t fail_at;
} Seen;

static int
seen_add(void *ctx, const WalEvent *event, Error *err)
{
    Seen *seen = ctx;

    if (seen->count == EVENTS_MAX)
        abort();
    seen->events[seen->count++] = *event;
    if (seen->count == seen->fail_at)
        return error_set(err, ERROR_IO, "no more room");
    return seen->count == seen->stop_at ? 1 : 0;
}

/* The result of the last write; *ended, *last, *end may be NULL. */
static int
scan_bytes(
    Lsn start, uint32_t segment_bytes, const uint8_t *data, size_t len, size_t portion, Seen *seen,
    bool *ended, Lsn *last, Lsn *end)
{
    AUTO(wal_scan_freep) WalScan *scan = NULL;
    Error err = {0};
    int rc = 0;

    if (wal_scan_new(segment_bytes, start, seen_add, seen, &scan, &err) < 0)
        abort();
    for (size_t at = 0; at < len && rc == 0; at += portion)
    {
        /* of its own size, so that a sanitizer sees a read behind it */
        size_t n = MIN(portion, len - at);
        uint8_t *copy = malloc(n);

        if (copy == NULL)
            abort();
        memcpy(copy, data + at, n);
        rc = wal_scan_write(scan, copy, n, &err);
        free(copy);
    }
    *ended = wal_scan_ended(scan);
    *last = wal_scan_last(scan);
    *end = wal_scan_end(scan);
    return rc;
}

/* ---- real servers ---- */

static const struct
{
    int pg_major;
    SegmentNo first;
} servers[] = {{14, 9}, {15, 7}, {16, 6}, {17, 6}, {18, 7}};

#define SERVER_SEGMENTS 2

/* The next word, which ends at a blank or newline; NUL-terminated in place. */
static char *
take_word(char **at, char end)
{
    char *word = *at;
    char *behind = strchr(word, end);

    if (behind == NULL)
        abort();
    *behind = '\0';
    *at = behind + 1;
    return word;
}

static size_t
read_expected(int pg_major, WalEvent *want)
{
    char path[128];
    size_t len;
    size_t count = 0;

    (void) snprintf(path, sizeof path, VECTORS "pg%d/events.zst", pg_major);

    uint8_t *data = vector_read(path, &len);
    char *text = calloc(1, len + 1);
    char *at = text;

    if (text == NULL)
        abort();
    memcpy(text, data, len);
    free(data);
    while (*at != '\0')
    {
        char *line = take_word(&at, '\n');
        WalEvent *e = &want[count++];
        uint64_t us = 0;

        if (count == EVENTS_MAX)
            abort();
        *e = (WalEvent){.kind = WAL_EVENT_ABORT};
        if (strncmp(line, "abort ", 6) == 0)
        {
            if (!parse_u32(line + 6, &e->xid))
                abort();
        }
        else if (strncmp(line, "commit ", 7) == 0)
        {
            line += 7;
            e->kind = WAL_EVENT_COMMIT;
            if (!parse_u32(take_word(&line, ' '), &e->xid) ||
                (strcmp(line, "?") != 0 && !parse_u64(line, &us)))
                abort();
            e->at_us = (int64_t) us;
        }
        else
        {
            line += 6;
            e->kind = WAL_EVENT_RESTORE_POINT;
            if (!lsn_parse(take_word(&line, ' '), &e->end))
                abort();
            (void) snprintf(e->name, sizeof e->name, "%s", line);
        }
    }
    free(text);
    return count;
}

static bool
event_matches(const WalEvent *got, const WalEvent *want)
{
    return got->kind == want->kind && got->xid == want->xid &&
           (want->at_us == 0 || got->at_us == want->at_us) &&
           (want->end == 0 || got->end == want->end) && strcmp(got->name, want->name) == 0 &&
           got->lsn < got->end && got->at_us > INT64_C(1700000000) * 1000000;
}

static size_t
count_matching(const Seen *seen, const WalEvent *want, size_t count)
{
    size_t i = 0;

    while (i < count && i < seen->count && event_matches(&seen->events[i], &want[i]))
        i++;
    if (i < count || i < seen->count)
        diag(
            "event %zu of %zu: kind %d xid %" PRIu32 " at %" PRId64, i, count, seen->events[i].kind,
            seen->events[i].xid, seen->events[i].at_us);
    return i;
}

static void
test_servers(void)
{
    static const size_t portions[] = {SERVER_SEGMENTS * SEG, 8192, 1000, 24, 5};
    static uint8_t wal[SERVER_SEGMENTS * SEG];
    static WalEvent want[EVENTS_MAX];
    static Seen seen;

    for (size_t i = 0; i < ARRAY_COUNT(servers); i++)
    {
        size_t count = read_expected(servers[i].pg_major, want);
        Lsn start = servers[i].first * SEG;
        bool ended;
        Lsn last, end;

        for (size_t s = 0; s < SERVER_SEGMENTS; s++)
        {
            char path[128], name[32];
            size_t len;

            (void) snprintf(
                path, sizeof path, VECTORS "pg%d/%s.zst", servers[i].pg_major,
                wal_segment_name(1, servers[i].first + s, SEG, name, sizeof name));

            uint8_t *data = vector_read(path, &len);

            if (len != SEG)
                abort();
            memcpy(wal + s * SEG, data, SEG);
            free(data);
        }
        for (size_t p = 0; p < ARRAY_COUNT(portions); p++)
        {
            seen.count = 0;

            int rc =
                scan_bytes(start, SEG, wal, sizeof wal, portions[p], &seen, &ended, &last, &end);

            ok(rc == 0 && !ended && count_matching(&seen, want, count) == seen.count &&
                   seen.count == count,
               "PostgreSQL %d: %zu events in portions of %zu", servers[i].pg_major, count,
               portions[p]);
            ok(end == start + sizeof wal && last > seen.events[count - 1].lsn,
               "PostgreSQL %d: a switch record is the last and ends with its segment",
               servers[i].pg_major);
        }

        /* the second segment alone: what begins in it */
        size_t behind = 0;

        while (behind < count && seen.events[behind].lsn < start + SEG)
            behind++;
        seen.count = 0;
        ok(scan_bytes(start + SEG, SEG, wal + SEG, SEG, SEG, &seen, &ended, &last, &end) == 0 &&
               behind > 0 && behind < count &&
               count_matching(&seen, want + behind, count - behind) == count - behind &&
               seen.count == count - behind,
           "PostgreSQL %d: the record that a segment begins within is passed over",
           servers[i].pg_major);
    }
}

/* ---- records made here ---- */

typedef struct Made
{
    WalBuild b;
    Seen seen;
    int rc;
    bool ended;
    Lsn last, end;
} Made;

static void
made_begin(Made *m)
{
    memset(m, 0, sizeof *m);
    wal_build_init(&m->b, BASE, SEG, 4);
}

/* Scans what was written, in portions; false when they make a difference. */
static bool
made_scan(Made *m, size_t bytes)
{
    static const size_t portions[] = {4 * SEG, 1, 13, 4096};
    static Seen other;

    for (size_t p = 0; p < ARRAY_COUNT(portions); p++)
    {
        Seen *seen = p == 0 ? &m->seen : &other;
        bool ended;
        Lsn last, end;

        seen->count = 0;
        seen->stop_at = m->seen.stop_at;
        seen->fail_at = m->seen.fail_at;

        int rc = scan_bytes(BASE, SEG, m->b.data, bytes, portions[p], seen, &ended, &last, &end);

        if (p == 0)
        {
            m->rc = rc;
            m->ended = ended;
            m->last = last;
            m->end = end;
        }
        else if (
            rc != m->rc || ended != m->ended || last != m->last || end != m->end ||
            seen->count != m->seen.count ||
            memcmp(seen->events, m->seen.events, seen->count * sizeof seen->events[0]) != 0)
            return false;
    }
    return true;
}

/* Where the record of 64 bytes is put that the cases change: from 0 to 64 bytes before page ends.
 */
static void
test_places(void)
{
    static const struct
    {
        const char *label;
        Lsn page_end;
    } ends[] = {{"page", BASE + 2 * WAL_BUILD_PAGE}, {"segment", BASE + SEG}};

    for (size_t i = 0; i < ARRAY_COUNT(ends); i++)
    {
        for (Lsn before = 0; before <= 64; before += 8)
        {
            Made m;

            made_begin(&m);
            if (before == 8 || before == 16)
            {
                /* a filler has at least the bytes of a header */
                wal_build_fill_to(&m.b, ends[i].page_end - 64);
                (void) wal_build_filler(&m.b, (uint32_t) (64 - before));
            }
            else
                wal_build_fill_to(&m.b, ends[i].page_end - before);

            Lsn at = wal_build_commit(&m.b, 77, T0);
            Lsn end = m.b.at;
            Lsn point = wal_build_point(&m.b, "p", T0 + 1);

            ok(made_scan(&m, m.b.bytes) && m.rc == 1 && m.ended && m.seen.count == 2 &&
                   m.seen.events[0].lsn == at && m.seen.events[0].end == end &&
                   m.seen.events[0].xid == 77 && m.seen.events[0].at_us == T0 &&
                   m.seen.events[1].lsn == point && strcmp(m.seen.events[1].name, "p") == 0 &&
                   m.last == point && m.end == m.b.at,
               "a commit %" PRIu64 " bytes before the end of a %s", before, ends[i].label);
            wal_build_reset(&m.b);
        }
    }
}

/* A prepared transaction that ends; all parts in front of its xid. */
static Lsn
build_prepared(WalBuild *b, uint8_t op, uint32_t xinfo, uint32_t items, uint32_t xid)
{
    static const struct
    {
        uint32_t flag, item_bytes;
    } parts[] = {{1u << 1, 4}, {1u << 2, 12}, {1u << 8, 12}, {1u << 3, 16}};
    size_t cap = 64 + (size_t) items * 64;
    uint8_t *body = calloc(1, cap);
    size_t n = 5; /* id and length of main data, in front of it all */

    if (body == NULL)
        abort();
    put_u64le(body + n, (uint64_t) (T0 - WAL_BUILD_EPOCH_US));
    n += 8;
    put_u32le(body + n, xinfo);
    n += 4;
    if ((xinfo & 1) != 0)
        n += 8;
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++)
    {
        uint32_t item = i == 2 && b->pg_major >= 18 ? 16 : parts[i].item_bytes;

        if ((xinfo & parts[i].flag) == 0)
            continue;
        put_u32le(body + n, items);
        memset(body + n + 4, 0xEE, (size_t) items * item);
        n += 4 + (size_t) items * item;
    }
    put_u32le(body + n, xid);
    n += 4;
    body[0] = 254;
    put_u32le(body + 1, (uint32_t) (n - 5));

    Lsn lsn = wal_build_record(b, 1, op | 0x80, 5, body, (uint32_t) n);

    free(body);
    return lsn;
}

static void
test_prepared(void)
{
    static const struct
    {
        const char *label;
        int pg_major;
        uint8_t op;
        uint32_t xinfo;
        uint32_t items;
        WalEventKind kind;
        uint32_t want;
    } cases[] = {
        {"nothing but the xid", 14, 0x30, 0x10, 0, WAL_EVENT_COMMIT, 900},
        {"a database", 14, 0x30, 0x11, 0, WAL_EVENT_COMMIT, 900},
        {"all parts, 14", 14, 0x30, 0x1F, 3, WAL_EVENT_COMMIT, 900},
        {"all parts, 15", 15, 0x30, 0x11F, 3, WAL_EVENT_COMMIT, 900},
        {"all parts, 17", 17, 0x30, 0x11F, 3, WAL_EVENT_COMMIT, 900},
        {"all parts, 18", 18, 0x30, 0x11F, 3, WAL_EVENT_COMMIT, 900},
        {"an abort, 14", 14, 0x40, 0x17, 3, WAL_EVENT_ABORT, 900},
        {"an abort, 18", 18, 0x40, 0x117, 3, WAL_EVENT_ABORT, 900},
        {"over many pages and two segments", 16, 0x30, 0x11F, 40000, WAL_EVENT_COMMIT, 900},
        {"no xid", 15, 0x30, 0x2, 3, WAL_EVENT_COMMIT, 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Made m;

        made_begin(&m);
        m.b.pg_major = cases[i].pg_major;
        (void) wal_build_filler(&m.b, 100);

        Lsn at = build_prepared(&m.b, cases[i].op, cases[i].xinfo, cases[i].items, 900);

        (void) wal_build_filler(&m.b, 100);
        ok(made_scan(&m, m.b.bytes) && m.seen.count == 1 && m.seen.events[0].lsn == at &&
               m.seen.events[0].kind == cases[i].kind && m.seen.events[0].xid == cases[i].want &&
               m.seen.events[0].at_us == T0 && m.end == m.b.at,
           "prepared: %s", cases[i].label);
        wal_build_reset(&m.b);
    }
}

/* Main data that is not what its kind says: told as far as it goes, never read beyond. */
static void
test_odd_records(void)
{
    static const struct
    {
        const char *label;
        uint8_t rmgr, info;
        uint8_t body[32];
        uint32_t len;
        size_t count;
        uint32_t xid;
    } cases[] = {
        {"a commit without data", 1, 0x00, {0}, 0, 0, 0},
        {"a commit with short data", 1, 0x00, {255, 7, 1, 2, 3, 4, 5, 6, 7}, 9, 0, 0},
        {"a length that goes beyond", 1, 0x00, {255, 200, 1, 2, 3}, 5, 0, 0},
        {"a long length that goes beyond", 1, 0x00, {254, 255, 255, 255, 255, 1}, 6, 0, 0},
        {"a cut long length", 1, 0x00, {254, 8, 0}, 3, 0, 0},
        {"a block", 1, 0x00, {0, 0, 0, 0, 255, 8}, 20, 0, 0},
        {"an origin", 1, 0x00, {253, 1, 0, 255, 8}, 13, 1, 5},
        {"an origin and a top-level xid", 1, 0x20, {253, 1, 0, 252, 1, 0, 0, 0, 255, 8}, 18, 1, 5},
        {"an origin that goes beyond", 1, 0x00, {253, 1}, 2, 0, 0},
        {"prepared, a count that goes beyond",
         1,
         0xB0,
         {255, 20, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 255, 255, 255, 255},
         22,
         1,
         0},
        {"prepared, without info", 1, 0x30, {255, 8}, 10, 1, 0},
        {"PREPARE itself", 1, 0x10, {255, 8}, 10, 0, 0},
        {"an assignment", 1, 0x50, {255, 8}, 10, 0, 0},
        {"invalidations", 1, 0x60, {255, 8}, 10, 0, 0},
        {"a short restore point", 0, 0x70, {255, 20}, 22, 0, 0},
        {"a checkpoint", 0, 0x10, {255, 20}, 22, 0, 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Made m;

        made_begin(&m);
        (void) wal_build_filler(&m.b, 100);
        (void) wal_build_record(&m.b, cases[i].rmgr, cases[i].info, 5, cases[i].body, cases[i].len);

        Lsn last = wal_build_commit(&m.b, 6, T0);

        ok(made_scan(&m, m.b.bytes) && m.last == last && m.seen.count == cases[i].count + 1 &&
               (cases[i].count == 0 || m.seen.events[0].xid == cases[i].xid),
           "odd: %s", cases[i].label);
        wal_build_reset(&m.b);
    }
}

/* ---- where WAL ends ---- */

typedef enum Damage
{
    NOTHING,
    FLIP,      /* a bit of the byte at arg in the second commit */
    ZERO_FROM, /* all zeros from arg bytes behind its start on */
    CUT,       /* pushed up to there only */
    PAGE_BYTE  /* a bit of byte arg of the header of the page behind it */
} Damage;

static void
test_ends(void)
{
    static const struct
    {
        const char *label;
        Damage damage;
        uint32_t arg;
        size_t count; /* events told */
        bool ended;
    } cases[] = {
        {"all is well", NOTHING, 0, 3, true},
        {"a wrong length", FLIP, 1, 1, true},
        {"a wrong xid", FLIP, 4, 1, true},
        {"a wrong back link", FLIP, 8, 1, true},
        {"a wrong info", FLIP, 16, 1, true},
        {"a wrong resource manager", FLIP, 17, 1, true},
        {"a wrong CRC", FLIP, 20, 1, true},
        {"a wrong time", FLIP, 26, 1, true},
        {"a wrong last byte", FLIP, 33, 1, true},
        {"no record", ZERO_FROM, 0, 1, true},
        {"zeros behind its length", ZERO_FROM, 4, 1, true},
        {"zeros for its time", ZERO_FROM, 26, 1, true},
        {"zeros for its last bytes", ZERO_FROM, 32, 1, true},
        {"zeros behind it", ZERO_FROM, 40, 2, true},
        {"cut in front of it", CUT, 0, 1, false},
        {"cut within it", CUT, 33, 1, false},
        {"cut behind it", CUT, 34, 2, false},
        {"the next page: magic", PAGE_BYTE, 0, 2, true},
        {"the next page: long header", PAGE_BYTE, 2, 2, true},
        {"the next page: timeline", PAGE_BYTE, 4, 2, true},
        {"the next page: address", PAGE_BYTE, 9, 2, true},
        {"the next page: rest of the record", PAGE_BYTE, 16, 2, true},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Made m;
        size_t len;

        made_begin(&m);
        m.b.tli = 2;
        (void) wal_build_filler(&m.b, 100);
        (void) wal_build_commit(&m.b, 1, T0);

        Lsn before = m.b.prev;
        Lsn at = wal_build_commit(&m.b, 2, T0 + 2);
        Lsn page = BASE + WAL_BUILD_PAGE;

        (void) wal_build_filler(&m.b, 10000);
        (void) wal_build_commit(&m.b, 3, T0 + 3);
        len = m.b.bytes;
        if (cases[i].damage == FLIP)
            *wal_build_byte(&m.b, at + cases[i].arg) ^= 1;
        if (cases[i].damage == ZERO_FROM)
            memset(
                wal_build_byte(&m.b, at + cases[i].arg), 0, m.b.bytes - (at + cases[i].arg - BASE));
        if (cases[i].damage == CUT)
            len = (size_t) (at + cases[i].arg - BASE);
        if (cases[i].damage == PAGE_BYTE) /* of the timeline: to 0 */
            *wal_build_byte(&m.b, page + cases[i].arg) ^= 2;

        ok(made_scan(&m, len) && m.seen.count == cases[i].count && m.ended == cases[i].ended &&
               m.rc == (m.ended ? 1 : 0),
           "end of WAL: %s", cases[i].label);
        ok(m.seen.count == 3 || m.last == (cases[i].count == 1 ? before : at),
           "end of WAL: %s: the last record", cases[i].label);
        wal_build_reset(&m.b);
    }
}

/* A crash left the first part of a record; the server went on behind it. */
static void
test_overwritten(void)
{
    Made m;
    uint8_t body[2 + 16] = {255, 16};

    made_begin(&m);
    (void) wal_build_commit(&m.b, 1, T0);

    Lsn prev = m.b.prev;

    (void) wal_build_filler(&m.b, 10000); /* of this the first page stays */
    memset(wal_build_byte(&m.b, BASE + WAL_BUILD_PAGE), 0, WAL_BUILD_PAGE);
    m.b.at = BASE + WAL_BUILD_PAGE;
    m.b.prev = prev;
    (void) wal_build_record(&m.b, 0, 0xD0, 0, body, sizeof body);
    *wal_build_byte(&m.b, BASE + WAL_BUILD_PAGE + 2) |= 0x08;
    (void) wal_build_commit(&m.b, 2, T0 + 1);
    ok(made_scan(&m, m.b.bytes) && m.seen.count == 2 && m.seen.events[1].xid == 2,
       "a record that was given up after a crash");

    *wal_build_byte(&m.b, BASE + WAL_BUILD_PAGE + 2) &= 0xF7;
    ok(made_scan(&m, m.b.bytes) && m.seen.count == 1 && m.ended && m.last == prev,
       "without that flag WAL ends in front of the record");
    wal_build_reset(&m.b);
}

static void
test_switches(void)
{
    for (Lsn before = 0; before <= 64; before += 8)
    {
        Made m;

        /* in front of it there is a filler, or nothing */
        if (before < 64 && 64 - before < WAL_RECORD_HEADER_BYTES)
            continue;
        made_begin(&m);
        wal_build_fill_to(&m.b, BASE + SEG - 64);
        if (before < 64)
            (void) wal_build_filler(&m.b, (uint32_t) (64 - before));
        (void) wal_build_switch(&m.b);

        Lsn next = m.b.at;

        (void) wal_build_commit(&m.b, 9, T0);
        ok(made_scan(&m, m.b.bytes) && m.seen.count == 1 && m.seen.events[0].xid == 9,
           "a switch %" PRIu64 " bytes before the end of a segment", before);

        /* and from the segment behind: its rest may begin there */
        if (next > BASE + SEG)
        {
            m.seen.count = 0;
            ok(scan_bytes(
                   BASE + SEG, SEG, m.b.data + SEG, m.b.bytes - SEG, SEG, &m.seen, &m.ended,
                   &m.last, &m.end) == 1 &&
                   m.seen.count == 1,
               "a switch %" PRIu64 " bytes before the end, from the next segment on", before);
        }
        wal_build_reset(&m.b);
    }
}

static void
test_callbacks(void)
{
    Made m;

    made_begin(&m);
    for (uint32_t i = 0; i < 4; i++)
        (void) wal_build_commit(&m.b, i + 3, T0 + i);
    m.seen.stop_at = 2;
    ok(made_scan(&m, m.b.bytes) && m.rc == 1 && m.seen.count == 2 && !m.ended,
       "the caller wants no more");
    m.seen.stop_at = 0;
    m.seen.fail_at = 3;
    ok(made_scan(&m, m.b.bytes) && m.rc == -1 && m.seen.count == 3 && !m.ended, "the caller fails");
    wal_build_reset(&m.b);
}

/* A child's first segment: pages of its parent in front of its own. */
static void
test_timelines(void)
{
    Made m;

    made_begin(&m);
    (void) wal_build_commit(&m.b, 1, T0);
    wal_build_fill_to(&m.b, BASE + WAL_BUILD_PAGE);
    m.b.tli = 2;
    (void) wal_build_commit(&m.b, 2, T0);
    wal_build_fill_to(&m.b, BASE + 2 * WAL_BUILD_PAGE);
    ok(made_scan(&m, m.b.bytes) && m.seen.count == 2 && m.end == BASE + 2 * WAL_BUILD_PAGE,
       "timelines ascend");
    m.b.tli = 1;
    (void) wal_build_commit(&m.b, 3, T0);
    ok(made_scan(&m, m.b.bytes) && m.seen.count == 2 && m.ended, "a page of an older timeline");
    wal_build_reset(&m.b);
}

int
main(void)
{
    test_servers();
    test_places();
    test_prepared();
    test_odd_records();
    test_ends();
    test_overwritten();
    test_switches();
    test_callbacks();
    test_timelines();
    return done_testing();
}
