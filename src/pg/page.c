/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * WAL pages and the chain of records across them; see page.h. Layouts and rules are those of
 * PostgreSQL's access/xlog_internal.h, access/xlogrecord.h and its WAL reader.
 */
#include "pg/page.h"

#include <inttypes.h>
#include <string.h>

#include "common/bytes.h"
#include "common/crc32c.h"

/* xlp_info */
#define PAGE_FIRST_IS_CONTRECORD 0x0001
#define PAGE_LONG_HEADER 0x0002
#define PAGE_FIRST_IS_OVERWRITE_CONTRECORD 0x0008
#define PAGE_ALL_FLAGS 0x000F

/* offsets in a page header */
#define PAGE_AT_INFO 2
#define PAGE_AT_TLI 4
#define PAGE_AT_ADDRESS 8
#define PAGE_AT_REM_LEN 16
#define PAGE_AT_SYSTEM_IDENTIFIER 24
#define PAGE_AT_SEGMENT_BYTES 32
#define PAGE_AT_BLOCK_BYTES 36

#define PAGE_MIN_BYTES 1024u
#define PAGE_MAX_BYTES 65536u

/* offsets in a record header */
#define RECORD_AT_PREV 8
#define RECORD_AT_INFO 16
#define RECORD_AT_RMGR 17
#define RECORD_AT_CRC 20

#define RECORD_MAX_BYTES 0x3FFFFFFFu /* PostgreSQL cannot read longer ones */
#define RECORD_RMGR_XLOG 0
#define RECORD_INFO_MASK 0xF0
#define RECORD_INFO_SWITCH 0x40

static const uint8_t wal_pad_mark[WAL_PAD_MARK_BYTES] = "walstream: padded WAL segment";

static const struct
{
    uint16_t magic;
    int pg_major;
} wal_page_magics[] = {
    {0xD10D, 14}, {0xD110, 15}, {0xD113, 16}, {0xD116, 17}, {0xD118, 18},
};

/*
 *  CHECK_PAGE    gathers a page header         -> CHECK_RECORD (wal_check_begin_page)
 *  CHECK_RECORD  reads a record header, skips  -> itself, or CHECK_PAGE at the end of the page
 *                the record's bytes               (wal_check_walk_record, wal_check_skip_record)
 *  CHECK_ZEROS   from either, when WAL ends (wal_check_stop); never left again
 */
enum
{
    CHECK_PAGE,
    CHECK_RECORD,
    CHECK_ZEROS
};

/* Why WAL ends; the texts go in front of "at offset N, but ...". */
enum
{
    STOP_NONE,
    STOP_SWITCH,
    STOP_END,
    STOP_PREV_LINK,
    STOP_SWITCH_CRC,
    STOP_ZERO_PAGE,
    STOP_PAGE_HEADER,
    STOP_NO_CONTINUATION,
    STOP_CONTINUATION_LENGTH,
    STOP_UNEXPECTED_CONTINUATION
};

static const char *const stop_texts[] = {
    [STOP_NONE] = "",
    [STOP_SWITCH] = "a switch record ends the WAL",
    [STOP_END] = "there is no valid record",
    [STOP_PREV_LINK] = "a record does not link to the one before it",
    [STOP_SWITCH_CRC] = "a switch record has a wrong checksum",
    [STOP_ZERO_PAGE] = "a page without header ends the WAL",
    [STOP_PAGE_HEADER] = "a page header is cut",
    [STOP_NO_CONTINUATION] = "a page does not continue the record before it",
    [STOP_CONTINUATION_LENGTH] = "a page continues a record of another length",
    [STOP_UNEXPECTED_CONTINUATION] = "a page continues a record that there is not",
};

static_assert(sizeof((WalCheck *) 0)->header == WAL_PAGE_LONG_BYTES, "room for either header");

int
wal_page_magic_version(uint16_t magic)
{
    for (size_t i = 0; i < ARRAY_COUNT(wal_page_magics); i++)
        if (wal_page_magics[i].magic == magic)
            return wal_page_magics[i].pg_major;
    return 0;
}

uint16_t
wal_page_version_magic(int pg_major)
{
    for (size_t i = 0; i < ARRAY_COUNT(wal_page_magics); i++)
        if (wal_page_magics[i].pg_major == pg_major)
            return wal_page_magics[i].magic;
    return 0;
}

bool
wal_page_read(const void *data, size_t len, WalPageHeader *out)
{
    const uint8_t *p = data;

    if (len < WAL_PAGE_SHORT_BYTES)
        return false;

    WalPageHeader h = {
        .magic = get_u16le(p),
        .info = get_u16le(p + PAGE_AT_INFO),
        .tli = get_u32le(p + PAGE_AT_TLI),
        .page_address = get_u64le(p + PAGE_AT_ADDRESS),
        .rem_len = get_u32le(p + PAGE_AT_REM_LEN),
    };

    h.is_long = (h.info & PAGE_LONG_HEADER) != 0;
    if (h.is_long)
    {
        if (len < WAL_PAGE_LONG_BYTES)
            return false;
        h.system_identifier = get_u64le(p + PAGE_AT_SYSTEM_IDENTIFIER);
        h.segment_bytes = get_u32le(p + PAGE_AT_SEGMENT_BYTES);
        h.block_bytes = get_u32le(p + PAGE_AT_BLOCK_BYTES);
    }
    *out = h;
    return true;
}

/* Offset of the first byte that is not zero, len if there is none; eight words at a time. */
static size_t
wal_find_nonzero(const uint8_t *p, size_t len)
{
    size_t i = 0;

    for (; len - i >= 64; i += 64)
    {
        uint64_t w[8];

        memcpy(w, p + i, sizeof w);
        if ((w[0] | w[1] | w[2] | w[3] | w[4] | w[5] | w[6] | w[7]) != 0)
            break;
    }
    while (i < len && p[i] == 0)
        i++;
    return i;
}

static bool
wal_is_zero(const uint8_t *p, size_t len)
{
    return wal_find_nonzero(p, len) == len;
}

void
wal_check_init(WalCheck *check, const WalExpect *expect)
{
    assert(wal_segment_bytes_valid(expect->segment_bytes));
    *check = (WalCheck){
        .expect = *expect,
        .state = CHECK_PAGE,
        .need = WAL_PAGE_SHORT_BYTES,
    };
}

static Lsn
wal_check_lsn(const WalCheck *check, uint64_t offset)
{
    return wal_segment_start(check->expect.segno, check->expect.segment_bytes) + offset;
}

/* Bytes from check->at to the end of its page; a whole page when it stands at a page's start. */
static uint64_t
wal_check_page_room(const WalCheck *check)
{
    return check->block_bytes - (check->at & (check->block_bytes - 1));
}

static bool
wal_check_info_valid(uint16_t info, uint64_t offset)
{
    return (info & ~PAGE_ALL_FLAGS) == 0 && ((info & PAGE_LONG_HEADER) != 0) == (offset == 0);
}

static bool
wal_check_timeline_valid(const WalCheck *check, TimelineId tli)
{
    return tli != 0 && tli >= check->tli && (check->expect.tli == 0 || tli <= check->expect.tli);
}

/* From offset on only zeros may follow. */
static void
wal_check_stop(WalCheck *check, int reason, uint64_t offset)
{
    check->state = CHECK_ZEROS;
    check->stop_reason = reason;
    check->data_end = offset;
}

static int
wal_check_stop_error(const WalCheck *check, uint64_t offset, Error *err)
{
    return error_set(
        err, ERROR_CORRUPT,
        "%s at offset %" PRIu64 ", but bytes that are not zero follow at offset %" PRIu64,
        stop_texts[check->stop_reason], check->data_end, offset);
}

/*
 * Whether the gathered header can be the beginning of the header that belongs here, cut and padded
 * with zeros: what is there is right as far as it goes. Of the remaining length any value is
 * possible.
 */
static bool
wal_check_header_is_cut(const WalCheck *check, uint64_t offset)
{
    uint8_t want[WAL_PAGE_LONG_BYTES];
    uint16_t magic = offset > 0 ? check->magic : wal_page_version_magic(check->expect.pg_major);
    uint16_t info = get_u16le(check->header + PAGE_AT_INFO);
    TimelineId tli = get_u32le(check->header + PAGE_AT_TLI);
    size_t n = check->have;

    while (n > 0 && check->header[n - 1] == 0)
        n--;
    if (n > PAGE_AT_INFO && !wal_check_info_valid(info, offset))
        return false;
    if (n > PAGE_AT_ADDRESS && !wal_check_timeline_valid(check, tli))
        return false;

    memcpy(want, check->header, sizeof want);
    if (magic != 0)
    {
        want[0] = (uint8_t) magic;
        want[1] = (uint8_t) (magic >> 8);
    }
    put_u64le(want + PAGE_AT_ADDRESS, wal_check_lsn(check, offset));
    if (check->expect.system_identifier != 0)
        put_u64le(want + PAGE_AT_SYSTEM_IDENTIFIER, check->expect.system_identifier);
    put_u32le(want + PAGE_AT_SEGMENT_BYTES, check->expect.segment_bytes);
    return n < check->need && memcmp(check->header, want, n) == 0;
}

static int
wal_check_magic(const WalCheck *check, uint64_t offset, uint16_t magic, Error *err)
{
    int version = wal_page_magic_version(magic);
    bool good;

    /* PostgreSQL counts the magic up from D0xx; a version too new for us is taken if not excluded
     */
    if (offset > 0)
        good = magic == check->magic;
    else if (wal_page_version_magic(check->expect.pg_major) != 0)
        good = version == check->expect.pg_major;
    else
        good = magic >> 8 == 0xD1 && (version == 0 || check->expect.pg_major == 0);
    if (good)
        return 0;
    if (version != 0)
        return error_set(
            err, ERROR_CORRUPT,
            "page at offset %" PRIu64 " was written by PostgreSQL %d (magic number %04X)", offset,
            version, magic);
    return error_set(
        err, ERROR_CORRUPT, "page at offset %" PRIu64 " has an invalid magic number %04X", offset,
        magic);
}

static int
wal_check_long_header(const WalCheck *check, const WalPageHeader *h, Error *err)
{
    if (h->segment_bytes != check->expect.segment_bytes)
        return error_set(
            err, ERROR_CONFLICT,
            "it is from a cluster with WAL segments of %" PRIu32 " bytes, not %" PRIu32,
            h->segment_bytes, check->expect.segment_bytes);
    if (check->expect.system_identifier != 0 &&
        h->system_identifier != check->expect.system_identifier)
        return error_set(
            err, ERROR_CONFLICT,
            "it is from another database system: its system identifier is %" PRIu64
            ", expected %" PRIu64,
            h->system_identifier, check->expect.system_identifier);
    if (h->block_bytes < PAGE_MIN_BYTES || h->block_bytes > PAGE_MAX_BYTES ||
        (h->block_bytes & (h->block_bytes - 1)) != 0)
        return error_set(
            err, ERROR_CORRUPT, "its WAL block size of %" PRIu32 " bytes is invalid",
            h->block_bytes);
    return 0;
}

static int
wal_check_header(const WalCheck *check, uint64_t offset, const WalPageHeader *h, Error *err)
{
    Lsn address = wal_check_lsn(check, offset);

    if (wal_check_magic(check, offset, h->magic, err) < 0)
        return -1;
    if (!wal_check_info_valid(h->info, offset))
        return error_set(
            err, ERROR_CORRUPT, "page at offset %" PRIu64 " has invalid info bits %04X", offset,
            h->info);
    /* what the segment belongs to goes first: the address of foreign WAL says nothing */
    if (h->is_long && wal_check_long_header(check, h, err) < 0)
        return -1;
    if (h->page_address != address)
    {
        char found[LSN_TEXT_BYTES], want[LSN_TEXT_BYTES];

        return error_set(
            err, ERROR_CORRUPT, "page at offset %" PRIu64 " has address %s, expected %s", offset,
            lsn_format(h->page_address, found, sizeof found),
            lsn_format(address, want, sizeof want));
    }
    if (wal_check_timeline_valid(check, h->tli))
        return 0;
    if (h->tli > check->tli)
        return error_set(
            err, ERROR_CORRUPT,
            "page at offset %" PRIu64 " is of timeline %" PRIu32 ", newer than timeline %" PRIu32
            " of the segment",
            offset, h->tli, check->expect.tli);
    return error_set(
        err, ERROR_CORRUPT,
        "page at offset %" PRIu64 " is of timeline %" PRIu32 ", behind one of timeline %" PRIu32,
        offset, h->tli, check->tli);
}

/*
 * The segment begins within a record of the segment before it. Should that be a switch record whose
 * header is split by the end of the segment (it can be, as 8 and 16 or 16 and 8 bytes), then the
 * zeros behind it are in this segment: the end of its header tells.
 */
static void
wal_check_begin_foreign(WalCheck *check, uint32_t rem_len)
{
    check->record_left = rem_len;
    check->record_have =
        rem_len == 8 || rem_len == 16 ? WAL_RECORD_HEADER_BYTES - rem_len : WAL_RECORD_HEADER_BYTES;
}

/* The header of a page is gathered and check->at is behind it. */
static int
wal_check_begin_page(WalCheck *check, Error *err)
{
    uint64_t offset = check->at - check->have;
    WalPageHeader h;

    if (wal_is_zero(check->header, check->have))
    {
        if (offset == 0)
            return error_set(err, ERROR_CORRUPT, "it begins with zeros instead of a page header");
        wal_check_stop(check, STOP_ZERO_PAGE, offset);
        return 0;
    }
    if (!wal_page_read(check->header, check->have, &h))
        return error_set(err, ERROR_CORRUPT, "page header at offset %" PRIu64 " is short", offset);

    Error reason;

    if (wal_check_header(check, offset, &h, &reason) < 0)
    {
        if (wal_check_header_is_cut(check, offset))
        {
            wal_check_stop(check, STOP_PAGE_HEADER, offset);
            return 0;
        }
        *err = reason;
        return -1;
    }
    check->tli = h.tli;
    check->have = 0;
    check->need = WAL_PAGE_SHORT_BYTES;
    check->state = CHECK_RECORD;

    bool continues = (h.info & PAGE_FIRST_IS_CONTRECORD) != 0;

    if (offset == 0)
    {
        check->magic = h.magic;
        check->block_bytes = h.block_bytes;
        if (continues)
            wal_check_begin_foreign(check, h.rem_len);
    }
    else if ((h.info & PAGE_FIRST_IS_OVERWRITE_CONTRECORD) != 0 && check->record_left > 0)
    {
        /* a crash cut the record that should go on here; it was given up and another one begins */
        check->record_left = 0;
        check->record_have = 0;
        check->record_at = LSN_INVALID;
    }
    if (check->record_left > 0 && !continues)
        wal_check_stop(check, STOP_NO_CONTINUATION, check->at);
    else if (continues && check->record_left == 0)
        wal_check_stop(check, STOP_UNEXPECTED_CONTINUATION, check->at);
    else if (continues && h.rem_len != check->record_left)
        wal_check_stop(check, STOP_CONTINUATION_LENGTH, check->at);
    return 0;
}

/*
 * The header of the current record is read and check->record_left bytes of it follow from
 * check->at: move behind them, or to the end of the page. Records begin at multiples of 8 and so do
 * pages: the filling between records never passes a page end.
 */
static void
wal_check_skip_record(WalCheck *check)
{
    uint64_t room = wal_check_page_room(check);

    if (check->record_left > room)
    {
        check->record_left -= (uint32_t) room;
        check->at += room;
        check->state = CHECK_PAGE;
        return;
    }
    check->at += ((uint64_t) check->record_left + 7) & ~UINT64_C(7);
    check->record_left = 0;
    check->record_have = 0;
    check->state = (check->at & (check->block_bytes - 1)) == 0 ? CHECK_PAGE : CHECK_RECORD;
}

/*
 * xl_tot_len of the record, of which have bytes (8 or more) in front of check->at are read. It is
 * never split, as records are aligned. The state changes when WAL ends here.
 */
static int
wal_check_length(WalCheck *check, const uint8_t *record, uint32_t have, Error *err)
{
    uint32_t length = get_u32le(record);

    if (length >= WAL_RECORD_HEADER_BYTES && length <= RECORD_MAX_BYTES)
    {
        check->record_left = length - have;
        return 0;
    }
    /* no record, or a length that was cut: nothing is behind it */
    if (!wal_is_zero(record + 4, have - 4))
        return error_set(
            err, ERROR_CORRUPT, "record at offset %" PRIu64 " has an invalid length %" PRIu32,
            check->at - have, length);
    wal_check_stop(
        check,
        length == 0 && check->foreign_switch && check->record_prev == LSN_INVALID ? STOP_SWITCH
                                                                                  : STOP_END,
        check->at - have);
    return 0;
}

/* The whole header of a record with a valid length is read. */
static void
wal_check_record(WalCheck *check, const uint8_t *record)
{
    Lsn prev = get_u64le(record + RECORD_AT_PREV);
    bool is_switch = record[RECORD_AT_RMGR] == RECORD_RMGR_XLOG &&
                     (record[RECORD_AT_INFO] & RECORD_INFO_MASK) == RECORD_INFO_SWITCH;

    if (check->record_at == LSN_INVALID)
    {
        check->foreign_switch = is_switch;
        return;
    }
    if (check->record_prev != LSN_INVALID ? prev != check->record_prev : prev >= check->record_at)
        wal_check_stop(check, STOP_PREV_LINK, check->at);
    else if (is_switch)
    {
        bool good = get_u32le(record) == WAL_RECORD_HEADER_BYTES &&
                    crc32c(0, record, RECORD_AT_CRC) == get_u32le(record + RECORD_AT_CRC);

        wal_check_stop(check, good ? STOP_SWITCH : STOP_SWITCH_CRC, check->at);
    }
}

/* A record begins at check->at. */
static void
wal_check_begin_record(WalCheck *check)
{
    if (check->record_at != LSN_INVALID)
        check->record_prev = check->record_at;
    check->record_at = wal_check_lsn(check, check->at);
}

/*
 * The quick way over records that lie wholly in this page and portion and are ordinary, from
 * check->at on. Stops in front of any other, which wal_check_walk_record then deals with. A segment
 * of small records has 16,000 in each MB; this is where the time of a check goes.
 */
static void
wal_check_skip_whole_records(WalCheck *check, const uint8_t *bytes, uint64_t len)
{
    uint64_t room = MIN(wal_check_page_room(check), len);
    uint64_t last = check->record_at != LSN_INVALID ? check->record_at : check->record_prev;
    Lsn start = wal_check_lsn(check, check->at);
    uint64_t i = 0;

    if (last == LSN_INVALID)
        return;
    while (room - i >= WAL_RECORD_HEADER_BYTES)
    {
        const uint8_t *record = bytes + i;
        uint64_t length = get_u32le(record);
        uint64_t step = (length + 7) & ~UINT64_C(7);

        /* a record that ends with the page is left too, so that the state follows the page */
        if (length < WAL_RECORD_HEADER_BYTES || step >= room - i ||
            get_u64le(record + RECORD_AT_PREV) != last ||
            record[RECORD_AT_RMGR] == RECORD_RMGR_XLOG)
            break;
        last = start + i;
        i += step;
    }
    if (i > 0)
    {
        check->at += i;
        check->record_at = last;
    }
}

/*
 * The record at check->at, as far as bytes (len of them) are there: its header, which is gathered
 * when it is split by a page end or by the end of the portion, then its length is skipped.
 */
static int
wal_check_walk_record(WalCheck *check, const uint8_t *bytes, uint64_t len, Error *err)
{
    uint64_t room = wal_check_page_room(check);
    bool split = check->record_left > 0; /* its length is known from the page before */

    if (check->record_have == 0)
        wal_check_begin_record(check);
    if (check->record_have < WAL_RECORD_HEADER_BYTES)
    {
        uint32_t n = WAL_RECORD_HEADER_BYTES - check->record_have;
        const uint8_t *record = check->record;

        if (n > room)
            n = (uint32_t) room;
        if (n > len)
            n = (uint32_t) len;
        if (n == WAL_RECORD_HEADER_BYTES)
            record = bytes; /* by far the most: nothing is copied */
        else
            memcpy(check->record + check->record_have, bytes, n);
        check->record_have += n;
        check->at += n;
        if (split)
            check->record_left -= n;
        if (check->record_have < WAL_RECORD_HEADER_BYTES && n < room)
            return 0; /* more comes with the next portion */
        if (!split && wal_check_length(check, record, check->record_have, err) < 0)
            return -1;
        if (check->state == CHECK_RECORD && check->record_have == WAL_RECORD_HEADER_BYTES)
            wal_check_record(check, record);
        if (check->state != CHECK_RECORD)
            return 0;
        if (n == room)
        {
            /* the rest of it, if any, is on the next page */
            check->state = CHECK_PAGE;
            if (check->record_left == 0)
                check->record_have = 0;
            return 0;
        }
    }
    wal_check_skip_record(check);
    return 0;
}

static int
wal_check_walk(WalCheck *check, const uint8_t *data, size_t len, Error *err)
{
    uint64_t base = check->offset;
    uint64_t end = base + len;

    while (check->at < end)
    {
        const uint8_t *bytes = data + (check->at - base);
        uint64_t left = end - check->at;

        if (check->state == CHECK_RECORD)
        {
            if (check->record_have == 0)
            {
                wal_check_skip_whole_records(check, bytes, left);
                bytes = data + (check->at - base);
                left = end - check->at;
            }
            if (wal_check_walk_record(check, bytes, left, err) < 0)
                return -1;
        }
        else if (check->state == CHECK_PAGE)
        {
            uint32_t n = (uint32_t) MIN(left, check->need - check->have);

            memcpy(check->header + check->have, bytes, n);
            check->have += n;
            check->at += n;
            if (check->have == WAL_PAGE_SHORT_BYTES &&
                (check->at == WAL_PAGE_SHORT_BYTES ||
                 (get_u16le(check->header + PAGE_AT_INFO) & PAGE_LONG_HEADER) != 0))
                check->need = WAL_PAGE_LONG_BYTES;
            if (check->have == check->need && wal_check_begin_page(check, err) < 0)
                return -1;
        }
        else
        {
            size_t zeros = wal_find_nonzero(bytes, (size_t) left);

            if (zeros < left)
                return wal_check_stop_error(check, check->at + zeros, err);
            check->at = end;
        }
    }
    check->offset = end;
    return 0;
}

int
wal_check_write(WalCheck *check, const void *data, size_t len, Error *err)
{
    const uint8_t *p = data;
    uint64_t tail_at = check->expect.segment_bytes - WAL_PAD_MARK_BYTES;
    uint64_t seen = check->offset + check->tail_have;

    if (len > check->expect.segment_bytes - seen)
        return error_set(
            err, ERROR_CORRUPT, "it is longer than a WAL segment of %" PRIu32 " bytes",
            check->expect.segment_bytes);
    if (seen < tail_at)
    {
        size_t n = (size_t) MIN(len, tail_at - seen);

        if (wal_check_walk(check, p, n, err) < 0)
            return -1;
        p += n;
        len -= n;
    }
    if (len == 0)
        return 0;

    /* the mark is no WAL: what stands in its place is looked at when all of it is there */
    memcpy(check->tail + check->tail_have, p, len);
    check->tail_have += (uint32_t) len;
    if (check->tail_have < WAL_PAD_MARK_BYTES)
        return 0;
    check->padded = memcmp(check->tail, wal_pad_mark, WAL_PAD_MARK_BYTES) == 0;
    if (check->padded)
        memset(check->tail, 0, WAL_PAD_MARK_BYTES);
    check->tail_have = 0;
    return wal_check_walk(check, check->tail, WAL_PAD_MARK_BYTES, err);
}

int
wal_check_finish(WalCheck *check, bool *complete, Error *err)
{
    uint64_t seen = check->offset + check->tail_have;

    *complete = false;
    if (seen != check->expect.segment_bytes)
        return error_set(
            err, ERROR_CORRUPT, "it has only %" PRIu64 " bytes, a WAL segment has %" PRIu32, seen,
            check->expect.segment_bytes);
    if (check->state != CHECK_ZEROS)
        check->data_end = check->expect.segment_bytes - (check->padded ? WAL_PAD_MARK_BYTES : 0);
    *complete =
        !check->padded && (check->state != CHECK_ZEROS || check->stop_reason == STOP_SWITCH);
    return 0;
}
