/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Segments of real servers (tests/vectors/wal/README), whole, cut and damaged, and segments made
 * here for what no server writes on demand: split headers, records given up after a crash.
 */
#include "pg/page.h"

#include <string.h>

#include "common/bytes.h"
#include "common/crc32c.h"
#include "tap.h"
#include "vector.h"

#define VECTORS "tests/vectors/wal/"
#define SEG_BYTES (1024u * 1024u)
#define PAGE 8192u
#define MARK "walstream: padded WAL segment"

static const uint8_t zeros[SEG_BYTES];

/* ---- real segments ---- */

static const struct
{
    int pg_major;
    const char *name;
    uint64_t system_identifier;
    bool switched;
} segments[] = {
    {14, "00000001000000000000000A", 7710542781000733745, false},
    {14, "000000010000000000000010", 7710542781000733745, true},
    {15, "000000010000000000000009", 7710542812050494824, false},
    {15, "00000001000000000000000F", 7710542812050494824, true},
    {15, "000000010000000000000010", 7710542812050494824, false},
    {15, "000000010000000000000011", 7710542812050494824, false},
    {15, "000000010000000000000012", 7710542812050494824, true},
    {16, "000000010000000000000008", 7710542788736410736, false},
    {16, "00000001000000000000000E", 7710542788736410736, true},
    {17, "000000010000000000000008", 7710542796192875695, false},
    {17, "00000001000000000000000E", 7710542796192875695, true},
    {18, "00000001000000000000000A", 7710542803717588205, false},
    {18, "000000010000000000000011", 7710542803717588205, true},
};

static uint8_t *
segment_read_vector(size_t i, WalExpect *expect)
{
    char path[128];
    size_t len;
    WalFileName name;

    (void) snprintf(
        path, sizeof path, VECTORS "pg%d/%s.zst", segments[i].pg_major, segments[i].name);

    uint8_t *data = vector_read(path, &len);

    *expect = (WalExpect){
        .system_identifier = segments[i].system_identifier,
        .segment_bytes = SEG_BYTES,
        .pg_major = segments[i].pg_major,
        .tli = 1,
    };
    if (len != SEG_BYTES || !wal_file_name_parse(segments[i].name, &name) ||
        !wal_file_segment_no(&name, SEG_BYTES, &expect->segno))
    {
        printf("Bail out! %s is no segment\n", path);
        exit(1);
    }
    return data;
}

typedef struct Outcome
{
    int rc;
    bool complete;
    WalCheck check;
    Error err;
} Outcome;

static Outcome
segment_check(const uint8_t *data, size_t len, size_t portion, const WalExpect *expect)
{
    Outcome out = {.rc = 0};

    wal_check_init(&out.check, expect);
    for (size_t at = 0; at < len && out.rc == 0; at += portion)
        out.rc = wal_check_write(&out.check, data + at, MIN(portion, len - at), &out.err);
    if (out.rc == 0)
        out.rc = wal_check_finish(&out.check, &out.complete, &out.err);
    return out;
}

/* Goes on from a check of the bytes in front of a cut: zeros follow, with or without the mark. */
static Outcome
segment_pad(const WalCheck *at_cut, size_t cut, bool mark)
{
    Outcome out = {.check = *at_cut};
    uint8_t tail[WAL_PAD_MARK_BYTES] = MARK;

    if (mark)
    {
        size_t n = SEG_BYTES - WAL_PAD_MARK_BYTES - cut;

        out.rc = n > 0 ? wal_check_write(&out.check, zeros, n, &out.err) : 0;
        if (out.rc == 0)
            out.rc = wal_check_write(&out.check, tail, sizeof tail, &out.err);
    }
    else
        out.rc = wal_check_write(&out.check, zeros, SEG_BYTES - cut, &out.err);
    if (out.rc == 0)
        out.rc = wal_check_finish(&out.check, &out.complete, &out.err);
    return out;
}

static void
test_real_whole(void)
{
    static const size_t portions[] = {SEG_BYTES, 65536, PAGE, 4097, 31, 1};

    for (size_t i = 0; i < ARRAY_COUNT(segments); i++)
    {
        WalExpect expect;
        uint8_t *data = segment_read_vector(i, &expect);
        uint64_t data_end = 0;

        for (size_t k = 0; k < ARRAY_COUNT(portions); k++)
        {
            Outcome out = segment_check(data, SEG_BYTES, portions[k], &expect);
            bool good = out.rc == 0 && out.complete && !out.check.padded;

            if (k == 0)
                data_end = out.check.data_end;
            good = good && out.check.data_end == data_end;
            good = good && (segments[i].switched
                                ? data_end < SEG_BYTES &&
                                      memcmp(data + data_end, zeros, SEG_BYTES - data_end) == 0 &&
                                      memcmp(data + data_end - 8, zeros, 8) != 0
                                : data_end == SEG_BYTES);
            ok(good, "PostgreSQL %d, %s is complete in portions of %zu: %s", segments[i].pg_major,
               segments[i].name, portions[k], out.err.msg);
        }
        free(data);
    }
}

static void
test_real_expectations(void)
{
    static const struct
    {
        const char *label;
        WalExpect change; /* a field that is not 0 replaces the right one */
        bool good;
        ErrorKind kind;
    } cases[] = {
        {"as it is", {0}, true, ERROR_NONE},
        {"newer timeline of the name", {.tli = 7}, true, ERROR_NONE},
        {"other system identifier", {.system_identifier = 1}, false, ERROR_CONFLICT},
        {"other segment size", {.segment_bytes = 2 * SEG_BYTES}, false, ERROR_CONFLICT},
        {"other segment", {.segno = 77}, false, ERROR_CORRUPT},
        {"other version", {.pg_major = 13}, false, ERROR_CORRUPT},
        {"version from the future", {.pg_major = 99}, false, ERROR_CORRUPT},
    };

    for (size_t i = 0; i < ARRAY_COUNT(segments); i++)
    {
        WalExpect right;
        uint8_t *data = segment_read_vector(i, &right);

        for (size_t k = 0; k < ARRAY_COUNT(cases); k++)
        {
            const WalExpect *change = &cases[k].change;
            WalExpect expect = right;

            if (change->tli != 0)
                expect.tli = change->tli;
            if (change->system_identifier != 0)
                expect.system_identifier = change->system_identifier;
            if (change->segment_bytes != 0)
                expect.segment_bytes = change->segment_bytes;
            if (change->segno != 0)
                expect.segno = change->segno;
            if (change->pg_major == 13) /* whichever known one it is not */
                expect.pg_major = right.pg_major == 18 ? 14 : right.pg_major + 1;
            else if (change->pg_major != 0)
                expect.pg_major = change->pg_major;

            Outcome out = segment_check(data, SEG_BYTES, SEG_BYTES, &expect);

            ok(cases[k].good ? out.rc == 0 && out.complete
                             : out.rc == -1 && out.err.kind == cases[k].kind,
               "PostgreSQL %d, %s, %s: %s", segments[i].pg_major, segments[i].name, cases[k].label,
               out.err.msg);
        }

        WalExpect open = {.segment_bytes = SEG_BYTES, .segno = right.segno};
        Outcome out = segment_check(data, SEG_BYTES, SEG_BYTES, &open);

        ok(out.rc == 0 && out.complete, "with nothing but its place expected");
        out = segment_check(data, SEG_BYTES - 1, SEG_BYTES, &right);
        ok(out.rc == -1 && out.err.kind == ERROR_CORRUPT, "one byte short: %s", out.err.msg);
        out = segment_check(data, PAGE, SEG_BYTES, &right);
        ok(out.rc == -1 && out.err.kind == ERROR_CORRUPT, "one page only: %s", out.err.msg);
        free(data);
    }
}

static void
test_too_long(void)
{
    WalExpect expect;
    uint8_t *data = segment_read_vector(0, &expect);
    Outcome out = {.rc = 0};

    wal_check_init(&out.check, &expect);
    ok(wal_check_write(&out.check, data, SEG_BYTES, &out.err) == 0 &&
           wal_check_write(&out.check, data, 0, &out.err) == 0,
       "a segment and nothing");
    ok(wal_check_write(&out.check, zeros, 1, &out.err) == -1 && out.err.kind == ERROR_CORRUPT,
       "a segment and one byte: %s", out.err.msg);
    free(data);
}

/*
 * Bytes 20 to 23 of a page header are filling. The remaining length says something only where a
 * record goes on.
 */
static void
test_real_damaged_headers(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(segments); i++)
    {
        WalExpect expect;
        uint8_t *data = segment_read_vector(i, &expect);
        size_t tried = 0, taken = 0;

        for (size_t page = 0; page < SEG_BYTES; page += PAGE)
        {
            size_t len = page == 0 ? WAL_PAGE_LONG_BYTES : WAL_PAGE_SHORT_BYTES;

            if (memcmp(data + page, zeros, len) == 0)
                continue;
            for (size_t at = page; at < page + len; at++)
            {
                size_t in_page = at - page;

                if ((in_page >= 20 && in_page < 24) ||
                    (in_page >= 16 && in_page < 20 && (data[page + 2] & 1) == 0))
                    continue;
                data[at] ^= 0xFF;
                tried++;

                Outcome out = segment_check(data, SEG_BYTES, SEG_BYTES, &expect);

                if (out.rc == 0 ||
                    (out.err.kind != ERROR_CORRUPT && out.err.kind != ERROR_CONFLICT))
                {
                    diag("byte %zu of the page at %zu", in_page, page);
                    taken++;
                }
                data[at] ^= 0xFF;
            }
        }
        ok(tried >= 32 && taken == 0,
           "PostgreSQL %d, %s: each of %zu damaged bytes in page headers is an error",
           segments[i].pg_major, segments[i].name, tried);
        free(data);
    }
}

/* The first cut that leaves a segment which looks complete: see wal_check_finish. */
static size_t
segment_certain_end(const uint8_t *data, const WalExpect *expect)
{
    Outcome whole = segment_check(data, SEG_BYTES, SEG_BYTES, expect);
    Lsn last = whole.check.record_at;

    if (whole.check.stop_reason != 0)
    {
        size_t end = (size_t) whole.check.data_end;

        while (data[end - 1] == 0)
            end--;
        return end; /* behind the switch record all is zero anyway */
    }
    if (last == LSN_INVALID || wal_segment_offset(last, SEG_BYTES) < SEG_BYTES - PAGE)
        last = SEG_BYTES - PAGE + 4; /* of the last page's header, the remaining length */

    /* of the last record, the back link: what is behind it is not checked */
    size_t end = wal_segment_offset(last, SEG_BYTES) + 16;

    while (data[end - 1] == 0)
        end--;
    return end;
}

static void
test_real_cut(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(segments); i++)
    {
        WalExpect expect;
        uint8_t *data = segment_read_vector(i, &expect);
        size_t certain = segment_certain_end(data, &expect);
        size_t wrong = 0, wrong_marked = 0, tried = 0;
        WalCheck check;
        Error err = {0};

        wal_check_init(&check, &expect);
        for (size_t cut = 1; cut < SEG_BYTES; cut++)
        {
            if (wal_check_write(&check, data + cut - 1, 1, &err) < 0)
                break;

            /* everywhere in the last two pages and around some page ends, elsewhere here and there
             */
            if (cut > 400 && cut < SEG_BYTES - 2 * PAGE &&
                (cut % (16 * PAGE) > 48 && cut % (16 * PAGE) < 16 * PAGE - 24) && cut % 1021 != 0 &&
                (cut + 40 < certain || cut > certain + 8))
                continue;

            Outcome out = segment_pad(&check, cut, false);

            tried++;
            if (out.rc != 0 || out.complete != (cut >= certain) || out.check.data_end > SEG_BYTES)
            {
                diag("cut at %zu: %s", cut, out.err.msg);
                wrong++;
            }
            if (cut > SEG_BYTES - WAL_PAD_MARK_BYTES)
                continue;
            out = segment_pad(&check, cut, true);
            if (out.rc != 0 || out.complete || !out.check.padded)
            {
                diag("cut at %zu, marked: %s", cut, out.err.msg);
                wrong_marked++;
            }
        }
        ok(tried > 2000 && wrong == 0,
           "PostgreSQL %d, %s: cut at %zu places and padded, it is not complete below %zu",
           segments[i].pg_major, segments[i].name, tried, certain);
        ok(wrong_marked == 0, "and with the mark never");
        free(data);
    }
}

/* A recycled segment: new WAL up to a page end, an older segment's bytes behind it. */
static void
test_real_recycled(void)
{
    WalExpect expect, older;
    uint8_t *data = segment_read_vector(5, &expect);
    uint8_t *old = segment_read_vector(4, &older);

    memcpy(data + 10 * PAGE, old + 10 * PAGE, SEG_BYTES - 10 * PAGE);

    Outcome out = segment_check(data, SEG_BYTES, SEG_BYTES, &expect);

    ok(out.rc == -1 && out.err.kind == ERROR_CORRUPT && strstr(out.err.msg, "81920") != NULL,
       "old bytes in a recycled segment: %s", out.err.msg);
    free(data);
    free(old);
}

/* ---- made segments ---- */

#define MADE_SEGNO 5
#define MADE_SYSTEM_IDENTIFIER UINT64_C(0x1122334455667788)

typedef struct Made
{
    uint8_t *data;
    uint32_t at;
    uint32_t page;
    Lsn prev;
    TimelineId tli;
} Made;

static const WalExpect made_expect = {
    .system_identifier = MADE_SYSTEM_IDENTIFIER,
    .segment_bytes = SEG_BYTES,
    .pg_major = 15,
    .tli = 3,
    .segno = MADE_SEGNO,
};

static Lsn
made_lsn(const Made *m)
{
    return (Lsn) MADE_SEGNO * SEG_BYTES + m->at;
}

/* A page header at m->at, a multiple of the page size; rem_len bytes of a record go on behind it.
 */
static void
made_page(Made *m, uint32_t rem_len, uint16_t info)
{
    uint8_t *p = m->data + m->at;
    bool is_long = m->at == 0;

    info = (uint16_t) (info | (rem_len > 0 ? 1 : 0) | (is_long ? 2 : 0));
    p[0] = 0x10;
    p[1] = 0xD1;
    p[2] = (uint8_t) info;
    put_u32le(p + 4, m->tli);
    put_u64le(p + 8, made_lsn(m));
    put_u32le(p + 16, rem_len);
    if (is_long)
    {
        put_u64le(p + 24, MADE_SYSTEM_IDENTIFIER);
        put_u32le(p + 32, SEG_BYTES);
        put_u32le(p + 36, m->page);
    }
    m->at += is_long ? WAL_PAGE_LONG_BYTES : WAL_PAGE_SHORT_BYTES;
}

/* Bytes of a record, with the headers of the pages that it enters; NULL: filling. */
static void
made_bytes(Made *m, const uint8_t *bytes, uint32_t len, uint32_t behind)
{
    while (len > 0 && m->at < SEG_BYTES)
    {
        if (m->at % m->page == 0)
            made_page(m, len + behind, 0);

        uint32_t n = MIN(len, m->page - m->at % m->page);

        if (bytes != NULL)
            memcpy(m->data + m->at, bytes, n);
        else
            memset(m->data + m->at, 0xA5, n);
        bytes = bytes != NULL ? bytes + n : NULL;
        m->at += n;
        len -= n;
    }
}

static void
made_align(Made *m)
{
    m->at = (m->at + 7) & ~7u;
    if (m->at % m->page == 0 && m->at < SEG_BYTES)
        made_page(m, 0, 0);
}

/* Whole, as far as the segment goes; of a record given up only the first kept bytes. */
static void
made_record(Made *m, uint32_t length, uint8_t info, uint8_t rmgr)
{
    uint8_t header[WAL_RECORD_HEADER_BYTES] = {0};
    Lsn at;

    made_align(m);
    at = made_lsn(m);
    put_u32le(header, length);
    put_u64le(header + 8, m->prev);
    header[16] = info;
    header[17] = rmgr;
    put_u32le(header + 20, crc32c(0, header, 20));
    made_bytes(m, header, sizeof header, length - (uint32_t) sizeof header);
    made_bytes(m, NULL, length - (uint32_t) sizeof header, 0);
    m->prev = at;
}

static void
made_switch(Made *m)
{
    made_record(m, WAL_RECORD_HEADER_BYTES, 0x40, 0);
}

/* Records up to offset at (a multiple of 8, with room for a record in front of it). */
static void
made_fill_to(Made *m, uint32_t at)
{
    for (;;)
    {
        made_align(m);
        if (m->at >= at)
            return;

        uint32_t page_end = (m->at / m->page + 1) * m->page;
        uint32_t to = MIN(page_end, at);
        uint32_t left = to - m->at;

        if (left < WAL_RECORD_HEADER_BYTES)
            left = 64; /* goes on with the next page */
        made_record(m, left < 1024 ? left : MIN(left - 512, 600), 0, 10);
    }
}

static Made
made_begin(uint32_t page, uint32_t rem_len)
{
    Made m = {.data = calloc(1, SEG_BYTES), .page = page, .tli = 3};

    if (m.data == NULL)
        abort();
    m.prev = (Lsn) MADE_SEGNO * SEG_BYTES - 64;
    made_page(&m, rem_len, 0);
    made_bytes(&m, NULL, rem_len, 0);
    return m;
}

static void
made_expect_outcome(Made *m, const char *label, bool complete)
{
    static const size_t portions[] = {SEG_BYTES, 8191, 13, 1};

    for (size_t i = 0; i < ARRAY_COUNT(portions); i++)
    {
        Outcome out = segment_check(m->data, SEG_BYTES, portions[i], &made_expect);

        ok(out.rc == 0 && out.complete == complete, "%s, portions of %zu: %scomplete %s", label,
           portions[i], complete ? "" : "not ", out.err.msg);
    }
    free(m->data);
}

static void
made_expect_error(Made *m, const char *label, const char *text)
{
    static const size_t portions[] = {SEG_BYTES, 1};

    for (size_t i = 0; i < ARRAY_COUNT(portions); i++)
    {
        Outcome out = segment_check(m->data, SEG_BYTES, portions[i], &made_expect);

        ok(out.rc == -1 && out.err.kind == ERROR_CORRUPT && strstr(out.err.msg, text) != NULL,
           "%s, portions of %zu: %s", label, portions[i], out.err.msg);
    }
    free(m->data);
}

/* Records whose headers begin 8 and 16 bytes in front of a page end, and one that just fits. */
static void
test_split_headers(void)
{
    static const uint32_t pages[] = {1024, PAGE, 65536};
    static const uint32_t lengths[] = {24, 25, 32, 100, 200000};

    for (size_t p = 0; p < ARRAY_COUNT(pages); p++)
        for (uint32_t room = 8; room <= 24; room += 8)
        {
            Made m = made_begin(pages[p], 0);
            char label[80];

            for (size_t i = 0; i < ARRAY_COUNT(lengths); i++)
            {
                uint32_t page_end;

                made_align(&m);
                page_end = (m.at / m.page + 2) * m.page;
                made_fill_to(&m, page_end - room);
                made_record(&m, lengths[i], 0, 10);
            }
            made_fill_to(&m, SEG_BYTES);
            (void) snprintf(
                label, sizeof label, "headers %u bytes in front of a page end, pages of %u", room,
                pages[p]);
            made_expect_outcome(&m, label, true);
        }
}

static void
test_segment_ends(void)
{
    static const struct
    {
        const char *label;
        uint32_t last_at; /* bytes in front of the segment's end at which the last record begins */
        uint32_t last_bytes;
    } cases[] = {
        {"last record ends with the segment", 800, 800},
        {"last record ends with filling", 800, 793},
        {"last record crosses the end", 800, 100000},
        {"header ends with the segment", 24, 100},
        {"header alone ends with the segment", 24, 24},
        {"header crosses the end after 16 bytes", 16, 100},
        {"header crosses the end after 8 bytes", 8, 24},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Made m = made_begin(PAGE, 0);

        made_fill_to(&m, SEG_BYTES - cases[i].last_at);
        made_record(&m, cases[i].last_bytes, 0, 10);
        made_expect_outcome(&m, cases[i].label, true);
    }

    Made m = made_begin(PAGE, 0);

    made_fill_to(&m, SEG_BYTES - 24);
    made_expect_outcome(&m, "room for one more header", false);
    m = made_begin(PAGE, 0);
    made_fill_to(&m, SEG_BYTES - 8);
    made_expect_outcome(&m, "room for 8 bytes more", false);
    m = made_begin(PAGE, 3 * SEG_BYTES);
    made_expect_outcome(&m, "one record goes through the whole segment", true);
    m = made_begin(PAGE, 3 * SEG_BYTES);
    memset(m.data + SEG_BYTES - PAGE, 0, PAGE);
    made_expect_outcome(&m, "the same without the last page", false);
}

static void
test_switches(void)
{
    static const struct
    {
        const char *label;
        uint32_t at;
    } cases[] = {
        {"switch record in the first page", 40 + 800},
        {"switch record in a later page", 5 * PAGE + 24 + 808},
        {"switch record behind a page header", 5 * PAGE + 24},
        {"switch record at the end of a page", 5 * PAGE - 24},
        {"switch record split 16 and 8", 5 * PAGE - 16},
        {"switch record split 8 and 16", 5 * PAGE - 8},
        {"switch record at the end of the segment", SEG_BYTES - 24},
        {"switch record across the end of the segment", SEG_BYTES - 8},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Made m = made_begin(PAGE, 0);

        made_fill_to(&m, cases[i].at);
        made_switch(&m);
        made_expect_outcome(&m, cases[i].label, true);
    }

    Made m = made_begin(PAGE, 0);

    made_fill_to(&m, 4000);
    made_switch(&m);
    m.data[m.at - 1] ^= 1;
    made_expect_outcome(&m, "switch record with a wrong checksum", false);
    m = made_begin(PAGE, 0);
    made_fill_to(&m, 4000);
    made_switch(&m);
    m.data[SEG_BYTES - 1] = 1;
    made_expect_error(&m, "the last byte behind a switch", "1048575");
    m = made_begin(PAGE, 0);
    made_fill_to(&m, 4000);
    made_switch(&m);
    m.data[m.at] = 1;
    made_expect_error(&m, "a byte right behind a switch", "a switch record ends the WAL at offset");
    m = made_begin(PAGE, 0);
    made_fill_to(&m, 4000);
    made_record(&m, 24, 0x40, 1);
    made_expect_outcome(&m, "the same info of another resource manager", false);

    /* the header of a switch record began in the segment before */
    for (uint32_t rest = 8; rest <= 16; rest += 8)
    {
        m = made_begin(PAGE, rest);
        memset(m.data + 40, 0, rest);
        m.data[40 + rest - 8] = 0x40;
        put_u32le(m.data + 40 + rest - 4, 0x12345678);
        made_expect_outcome(&m, "the rest of a switch record from the segment before", true);
        m = made_begin(PAGE, rest);
        memset(m.data + 40, 0, rest);
        m.data[40 + rest - 8] = 0x40;
        made_fill_to(&m, SEG_BYTES - 8000);
        made_expect_outcome(&m, "the same, but records follow", false);
        m = made_begin(PAGE, rest);
        made_expect_outcome(&m, "the rest of another record", false);
    }
}

/* After a crash: the record at the end of page 2 is given up, and page 3 begins with another. */
static void
test_overwritten_records(void)
{
    static const struct
    {
        const char *label;
        uint32_t room;
        bool flag;
    } cases[] = {
        {"record given up", 512, true},
        {"record given up, its header split", 8, true},
        {"the same without the flag", 512, false},
        {"a split header without the flag", 8, false},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Made m = made_begin(PAGE, 0);
        Lsn prev;

        made_fill_to(&m, 3 * PAGE - cases[i].room);
        prev = m.prev;
        made_record(&m, 5000, 0, 10);
        memset(m.data + 3 * PAGE, 0, PAGE);
        m.at = 3 * PAGE;
        m.prev = prev;
        made_page(&m, 0, cases[i].flag ? 8 : 0);
        made_record(&m, 40, 0xD0, 0); /* XLOG_OVERWRITE_CONTRECORD */
        made_fill_to(&m, SEG_BYTES);
        if (cases[i].flag)
            made_expect_outcome(&m, cases[i].label, true);
        else
            made_expect_error(&m, cases[i].label, "does not continue");
    }

    Made m = made_begin(PAGE, 0);

    m.data[2] |= 8;
    made_fill_to(&m, SEG_BYTES);
    made_expect_outcome(&m, "record of the segment before given up", true);
}

static void
test_timelines(void)
{
    Made m = made_begin(PAGE, 0);

    put_u32le(m.data + 4, 1);
    m.tli = 1;
    made_fill_to(&m, 4 * PAGE - 800);
    m.tli = 3;
    made_record(&m, 2000, 0, 10);
    made_fill_to(&m, SEG_BYTES);
    made_expect_outcome(&m, "timeline rises from 1 to 3", true);

    m = made_begin(PAGE, 0);
    made_fill_to(&m, 4 * PAGE - 800);
    m.tli = 2;
    made_fill_to(&m, SEG_BYTES);
    made_expect_error(&m, "timeline goes back", "page at offset 32768 is of timeline 2");
    m = made_begin(PAGE, 0);
    made_fill_to(&m, 4 * PAGE - 800);
    m.tli = 4;
    made_fill_to(&m, SEG_BYTES);
    made_expect_error(&m, "timeline newer than the name", "newer than timeline 3");
}

static void
test_damaged_chain(void)
{
    Made m = made_begin(PAGE, 0);
    uint32_t at;

    made_fill_to(&m, 4000);
    at = m.at;
    made_fill_to(&m, SEG_BYTES);
    put_u32le(m.data + at, 23);
    made_expect_error(&m, "record length below a header", "invalid length 23");

    m = made_begin(PAGE, 0);
    made_fill_to(&m, 4000);
    at = m.at;
    made_fill_to(&m, SEG_BYTES);
    put_u32le(m.data + at, 0xFFFFFFFF);
    made_expect_error(&m, "record length of 4 GB", "invalid length 4294967295");

    m = made_begin(PAGE, 0);
    made_fill_to(&m, 4000);
    at = m.at;
    made_fill_to(&m, SEG_BYTES);
    put_u32le(m.data + at, get_u32le(m.data + at) + 8);
    made_expect_error(&m, "record length 8 bytes too large", "offset");

    m = made_begin(PAGE, 0);
    made_fill_to(&m, 4000);
    at = m.at;
    made_fill_to(&m, SEG_BYTES);
    m.data[at + 8] ^= 8;
    made_expect_error(&m, "back link changed", "does not link");

    m = made_begin(PAGE, 0);
    put_u64le(m.data + 40 + 8, UINT64_MAX / 2);
    made_fill_to(&m, SEG_BYTES);
    put_u64le(m.data + 40 + 8, UINT64_MAX / 2);
    made_expect_error(&m, "first back link points forward", "does not link");

    m = made_begin(PAGE, 0);
    made_fill_to(&m, PAGE - 100);
    made_record(&m, 3000, 0, 10);
    made_fill_to(&m, SEG_BYTES);
    m.data[PAGE + 16] ^= 8;
    made_expect_error(&m, "continuation of another length", "another length");

    m = made_begin(PAGE, 0);
    made_fill_to(&m, SEG_BYTES);
    m.data[2 * PAGE + 2] |= 1;
    put_u32le(m.data + 2 * PAGE + 16, 64);
    made_expect_error(&m, "continuation of nothing", "that there is not");

    m = made_begin(PAGE, 0);
    made_fill_to(&m, SEG_BYTES);
    memset(m.data + 7 * PAGE, 0, PAGE);
    made_expect_error(&m, "a page of zeros between others", "a page without header");

    m = made_begin(PAGE, 0);
    made_fill_to(&m, SEG_BYTES);
    memset(m.data + 7 * PAGE + 1000, 0, SEG_BYTES - 7 * PAGE - 1000);
    m.data[8 * PAGE + 5000] = 1;
    made_expect_error(&m, "one byte in the zeros", "70536");

    m = made_begin(PAGE, 0);
    made_fill_to(&m, SEG_BYTES);
    memset(m.data, 0, SEG_BYTES);
    made_expect_error(&m, "zeros only", "begins with zeros");

    m = made_begin(PAGE, 0);
    made_fill_to(&m, SEG_BYTES);
    memset(m.data, 0, PAGE);
    made_expect_error(&m, "first page of zeros", "begins with zeros");

    m = made_begin(PAGE, 0);
    made_fill_to(&m, 4000);
    put_u32le(m.data + 36, 0);
    made_expect_error(&m, "block size 0", "a page header is cut at offset 0");
    m = made_begin(PAGE, 0);
    made_fill_to(&m, 4000);
    put_u32le(m.data + 36, 12288);
    made_expect_error(&m, "block size no power of two", "a page header is cut at offset 0");
}

static void
test_marks(void)
{
    static const struct
    {
        const char *label, *mark;
        bool good;
    } cases[] = {
        {"the mark", MARK, true},
        {"a mark with other text", "walstream: padded WAL segmend", false},
        {"a mark cut", "walstream: padded", false},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Made m = made_begin(PAGE, 0);

        made_fill_to(&m, 4000);
        memcpy(m.data + SEG_BYTES - WAL_PAD_MARK_BYTES, cases[i].mark, strlen(cases[i].mark));
        if (cases[i].good)
            made_expect_outcome(&m, cases[i].label, false);
        else
            made_expect_error(&m, cases[i].label, "there is no valid record at offset 4000");
    }

    Made m = made_begin(PAGE, 0);

    made_fill_to(&m, SEG_BYTES - 800);
    made_record(&m, 800, 0, 10);
    memcpy(m.data + SEG_BYTES - WAL_PAD_MARK_BYTES, MARK, sizeof MARK);
    memset(m.data + SEG_BYTES - 3, 0, 3);
    made_expect_outcome(&m, "the mark inside the last record", false);
    m = made_begin(PAGE, 0);
    made_fill_to(&m, 4000);
    made_switch(&m);
    memcpy(m.data + SEG_BYTES - WAL_PAD_MARK_BYTES, MARK, sizeof MARK);
    made_expect_outcome(&m, "the mark behind a switch", false);
}

/* ---- headers alone ---- */

static void
test_magics(void)
{
    static const struct
    {
        uint16_t magic;
        int version;
    } cases[] = {
        {0xD10D, 14}, {0xD110, 15}, {0xD113, 16}, {0xD116, 17},
        {0xD118, 18}, {0, 0},       {0xD101, 0},  {0xFFFF, 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        ok(wal_page_magic_version(cases[i].magic) == cases[i].version &&
               (cases[i].version == 0 ||
                wal_page_version_magic(cases[i].version) == cases[i].magic),
           "magic number %04X", cases[i].magic);
    ok(wal_page_version_magic(13) == 0 && wal_page_version_magic(0) == 0, "versions not known");
}

static void
test_page_read(void)
{
    WalExpect expect;
    uint8_t *data = segment_read_vector(2, &expect);
    WalPageHeader h = {0};

    ok(wal_page_read(data, WAL_PAGE_LONG_BYTES, &h) && h.is_long && h.magic == 0xD110 &&
           h.tli == 1 && h.page_address == 0x900000 &&
           h.system_identifier == expect.system_identifier && h.segment_bytes == SEG_BYTES &&
           h.block_bytes == PAGE,
       "a long header");
    ok(!wal_page_read(data, WAL_PAGE_LONG_BYTES - 1, &h), "a long header cut");
    ok(wal_page_read(data + PAGE, WAL_PAGE_SHORT_BYTES, &h) && !h.is_long &&
           h.page_address == 0x900000 + PAGE && h.system_identifier == 0 && h.segment_bytes == 0,
       "a short header");
    ok(!wal_page_read(data + PAGE, WAL_PAGE_SHORT_BYTES - 1, &h), "a short header cut");
    free(data);
}

int
main(void)
{
    test_magics();
    test_page_read();
    test_real_whole();
    test_real_expectations();
    test_too_long();
    test_real_damaged_headers();
    test_real_cut();
    test_real_recycled();
    test_split_headers();
    test_segment_ends();
    test_switches();
    test_overwritten_records();
    test_timelines();
    test_damaged_chain();
    test_marks();
    return done_testing();
}
