/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Looking for the ends of transactions and for restore points; see wal_scan.h. Layouts are those of
 * PostgreSQL's access/xlog_internal.h, access/xlogrecord.h and access/xact.h, 14 to 18.
 *
 *   SCAN_PAGE     gathers a page header                      -> SCAN_RECORD (wal_scan_begin_page)
 *   SCAN_RECORD   reads records: of each its header and CRC, -> SCAN_PAGE at the end of a page
 *                 of interesting ones some fields
 *   SCAN_ENDED    there is no record where one should be
 *   SCAN_STOPPED  the caller wants no more
 *
 * A record is never put together: what is wanted of it is gathered field by field, each saying
 * which is the next (wal_scan_take_field), so that a commit record of many MB needs no memory.
 */
#include "pg/wal_scan.h"

#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/crc32c.h"
#include "pg/page.h"

/* xlp_info */
#define PAGE_FIRST_IS_CONTRECORD 0x0001
#define PAGE_FIRST_IS_OVERWRITE_CONTRECORD 0x0008

#define PAGE_MIN_BYTES 1024u
#define PAGE_MAX_BYTES 65536u

/* offsets in a record header */
#define RECORD_AT_XID 4
#define RECORD_AT_PREV 8
#define RECORD_AT_INFO 16
#define RECORD_AT_RMGR 17
#define RECORD_AT_CRC 20
#define RECORD_MAX_BYTES 0x3FFFFFFFu

#define RMGR_XLOG 0
#define XLOG_INFO_MASK 0xF0
#define XLOG_SWITCH 0x40
#define XLOG_RESTORE_POINT 0x70

#define RMGR_XACT 1
#define XACT_INFO_MASK 0x70
#define XACT_COMMIT 0x00
#define XACT_ABORT 0x20
#define XACT_COMMIT_PREPARED 0x30
#define XACT_ABORT_PREPARED 0x40
#define XACT_HAS_INFO 0x80

/* xinfo, in the order in which the parts stand in the record */
#define XINFO_DBINFO (1u << 0)
#define XINFO_SUBXACTS (1u << 1)
#define XINFO_RELATIONS (1u << 2)
#define XINFO_DROPPED_STATS (1u << 8) /* 15 and later */
#define XINFO_INVALS (1u << 3)
#define XINFO_TWOPHASE (1u << 4)

#define XACT_TIME_BYTES 8
#define XACT_DBINFO_BYTES 8
#define RESTORE_POINT_BYTES (8 + 64)

/* ids of what stands between a record's header and its main data */
#define BLOCK_ID_DATA_SHORT 255
#define BLOCK_ID_DATA_LONG 254
#define BLOCK_ID_ORIGIN 253
#define BLOCK_ID_TOPLEVEL_XID 252

/* 2000-01-01, where PostgreSQL counts from */
#define POSTGRES_EPOCH_US (INT64_C(946684800) * 1000000)

#define SCAN_FIELD_MAX RESTORE_POINT_BYTES

enum
{
    SCAN_PAGE,
    SCAN_RECORD,
    SCAN_ENDED,
    SCAN_STOPPED
};

/* The field that is gathered. */
enum
{
    FIELD_NONE, /* the rest of the record is of no interest */
    FIELD_LENGTH,
    FIELD_HEADER,
    FIELD_BLOCK_ID,
    FIELD_DATA_SHORT,
    FIELD_DATA_LONG,
    FIELD_TIME,
    FIELD_RESTORE_POINT,
    FIELD_XINFO,
    FIELD_COUNT, /* of scan->part */
    FIELD_TWOPHASE_XID,
    FIELD_FOREIGN_END /* info, resource manager and CRC, if it is a header's end */
};

/* What may stand in front of the xid of a prepared transaction: a count and as many items. */
static const struct
{
    uint32_t flag;
    uint32_t item_bytes;
} xact_parts[] = {
    {XINFO_SUBXACTS, 4},
    {XINFO_RELATIONS, 12},
    {XINFO_DROPPED_STATS, 12}, /* 16 from PostgreSQL 18 on */
    {XINFO_INVALS, 16},        /* of commits only */
};

#define XACT_PART_DROPPED_STATS 2
#define XACT_PART_INVALS 3

struct WalScan
{
    uint32_t segment_bytes;
    WalEventFn fn;
    void *ctx;
    int state;
    Lsn at;      /* of the next byte */
    Lsn skip_to; /* bytes in front of it say nothing */

    /* pages */
    uint16_t magic; /* of the first page, 0: none seen yet */
    uint32_t block_bytes;
    TimelineId tli; /* of the last page */
    uint32_t page_have;
    uint8_t page[WAL_PAGE_LONG_BYTES];

    /* the record being read */
    bool in_record;
    bool foreign;        /* it began in front of the scan */
    bool foreign_switch; /* ... and ended like a switch record */
    Lsn record_at;       /* where it begins */
    uint32_t length;     /* of all of it; of a foreign one what is left of it */
    uint32_t seen;
    uint32_t crc; /* of the bytes behind its header */
    uint8_t header[WAL_RECORD_HEADER_BYTES];
    int field;
    uint32_t field_at; /* offset in the record */
    uint32_t field_bytes;
    uint8_t bytes[SCAN_FIELD_MAX]; /* of the field */
    uint32_t data_bytes;           /* of its main data */
    uint32_t xinfo;
    size_t part;
    WalEvent event;
    bool has_event;

    /* records that are read */
    Lsn prev; /* LSN_INVALID: not known */
    Lsn last;
    Lsn end;
};

int
wal_scan_new(uint32_t segment_bytes, Lsn start, WalEventFn fn, void *ctx, WalScan **out, Error *err)
{
    WalScan *scan = calloc(1, sizeof *scan);

    assert(wal_segment_bytes_valid(segment_bytes) && start % segment_bytes == 0);
    *out = scan;
    if (scan == NULL)
        return error_nomem(err);
    scan->segment_bytes = segment_bytes;
    scan->at = start;
    scan->skip_to = start;
    scan->fn = fn;
    scan->ctx = ctx;
    return 0;
}

void
wal_scan_free(WalScan *scan)
{
    free(scan);
}

Lsn
wal_scan_last(const WalScan *scan)
{
    return scan->last;
}

Lsn
wal_scan_end(const WalScan *scan)
{
    return scan->end;
}

bool
wal_scan_ended(const WalScan *scan)
{
    return scan->state == SCAN_ENDED;
}

/* lsn itself, if a segment ends there. */
static Lsn
wal_scan_segment_end(const WalScan *scan, Lsn lsn)
{
    return (lsn + scan->segment_bytes - 1) / scan->segment_bytes * scan->segment_bytes;
}

bool
wal_scan_in_record(const WalScan *scan)
{
    return scan->in_record && scan->state < SCAN_ENDED;
}

static int64_t
wal_scan_time(const uint8_t *bytes)
{
    int64_t us;

    /* "infinity" and what is near it */
    if (__builtin_add_overflow((int64_t) get_u64le(bytes), POSTGRES_EPOCH_US, &us))
        return INT64_MAX;
    return us;
}

/* Next wanted: bytes at offset at of the record. What would lie outside it is not there. */
static void
wal_scan_want(WalScan *scan, int field, uint64_t at, uint32_t bytes)
{
    bool there = field == FIELD_LENGTH || at + bytes <= scan->length;

    scan->field = there ? field : FIELD_NONE;
    scan->field_at = there ? (uint32_t) at : 0;
    scan->field_bytes = there ? bytes : 0;
}

/* ---- pages ---- */

static uint32_t
wal_scan_page_header_bytes(const WalScan *scan)
{
    return (scan->at - scan->page_have) % scan->segment_bytes == 0 ? WAL_PAGE_LONG_BYTES
                                                                   : WAL_PAGE_SHORT_BYTES;
}

/* Whether the header gathered is the one that belongs here. */
static bool
wal_scan_page_valid(const WalScan *scan, const WalPageHeader *h, Lsn address)
{
    if (scan->magic != 0 ? h->magic != scan->magic : wal_page_magic_version(h->magic) == 0)
        return false;
    if (h->page_address != address || h->tli == 0 || h->tli < scan->tli ||
        h->is_long != (address % scan->segment_bytes == 0))
        return false;
    if (!h->is_long)
        return true;
    return h->segment_bytes == scan->segment_bytes && h->block_bytes >= PAGE_MIN_BYTES &&
           h->block_bytes <= PAGE_MAX_BYTES && (h->block_bytes & (h->block_bytes - 1)) == 0 &&
           (scan->block_bytes == 0 || h->block_bytes == scan->block_bytes);
}

/* The header of a page is gathered and scan->at is behind it. */
static void
wal_scan_begin_page(WalScan *scan)
{
    Lsn address = scan->at - scan->page_have;
    bool first = scan->magic == 0;
    WalPageHeader h;

    if (!wal_page_read(scan->page, scan->page_have, &h) || !wal_scan_page_valid(scan, &h, address))
    {
        scan->state = SCAN_ENDED;
        return;
    }
    scan->page_have = 0;
    scan->state = SCAN_RECORD;
    scan->magic = h.magic;
    scan->tli = h.tli;
    if (h.is_long)
        scan->block_bytes = h.block_bytes;

    bool continues = (h.info & PAGE_FIRST_IS_CONTRECORD) != 0;

    /* a crash cut the record that should go on here; it was given up and another one begins */
    if ((h.info & PAGE_FIRST_IS_OVERWRITE_CONTRECORD) != 0)
        scan->in_record = false;
    if (first && continues && h.rem_len > 0 && h.rem_len <= RECORD_MAX_BYTES)
    {
        scan->in_record = true;
        scan->foreign = true;
        scan->length = h.rem_len;
        scan->seen = 0;
        scan->field = FIELD_NONE;
        /* a switch record whose header is split by the end of the segment has its end here */
        if (h.rem_len == 8 || h.rem_len == 16)
            wal_scan_want(scan, FIELD_FOREIGN_END, h.rem_len - 8, 8);
    }
    else if (
        continues != scan->in_record || (scan->in_record && h.rem_len != scan->length - scan->seen))
        scan->state = SCAN_ENDED;
}

/* ---- the fields of a record ---- */

/*
 * Whether the record is one that is told. Which fields are read then, depends on the kind: an
 * unfinished prepared transaction ends under the xid that is in the record, not that of the
 * session that ends it.
 */
static bool
wal_scan_is_event(WalScan *scan)
{
    uint8_t info = scan->header[RECORD_AT_INFO];
    uint8_t rmgr = scan->header[RECORD_AT_RMGR];

    if (rmgr == RMGR_XLOG && (info & XLOG_INFO_MASK) == XLOG_RESTORE_POINT)
    {
        scan->event.kind = WAL_EVENT_RESTORE_POINT;
        return true;
    }
    if (rmgr != RMGR_XACT)
        return false;
    switch (info & XACT_INFO_MASK)
    {
        case XACT_COMMIT:
        case XACT_COMMIT_PREPARED:
            scan->event.kind = WAL_EVENT_COMMIT;
            return true;
        case XACT_ABORT:
        case XACT_ABORT_PREPARED:
            scan->event.kind = WAL_EVENT_ABORT;
            return true;
        default:
            return false;
    }
}

static bool
wal_scan_is_prepared(const WalScan *scan)
{
    uint8_t op = scan->header[RECORD_AT_INFO] & XACT_INFO_MASK;

    return op == XACT_COMMIT_PREPARED || op == XACT_ABORT_PREPARED;
}

/* Main data begins at offset at of the record. */
static void
wal_scan_begin_data(WalScan *scan, uint32_t at)
{
    bool is_point = scan->event.kind == WAL_EVENT_RESTORE_POINT;
    uint32_t bytes = is_point ? RESTORE_POINT_BYTES : XACT_TIME_BYTES;

    if (scan->data_bytes >= bytes)
        wal_scan_want(scan, is_point ? FIELD_RESTORE_POINT : FIELD_TIME, at, bytes);
    else
        scan->field = FIELD_NONE;
}

/* The first part from scan->part on that the record has, or the xid behind all of them. */
static void
wal_scan_next_part(WalScan *scan, uint64_t at)
{
    bool commit = scan->event.kind == WAL_EVENT_COMMIT;
    int pg_major = wal_page_magic_version(scan->magic);

    for (; scan->part < ARRAY_COUNT(xact_parts); scan->part++)
    {
        if ((scan->xinfo & xact_parts[scan->part].flag) == 0 ||
            (scan->part == XACT_PART_DROPPED_STATS && pg_major < 15) ||
            (scan->part == XACT_PART_INVALS && !commit))
            continue;
        wal_scan_want(scan, FIELD_COUNT, at, 4);
        return;
    }
    if ((scan->xinfo & XINFO_TWOPHASE) != 0)
        wal_scan_want(scan, FIELD_TWOPHASE_XID, at, 4);
    else
        scan->field = FIELD_NONE;
}

static void
wal_scan_skip_part(WalScan *scan, uint32_t count, uint64_t at)
{
    uint32_t item_bytes = xact_parts[scan->part].item_bytes;

    if (scan->part == XACT_PART_DROPPED_STATS && wal_page_magic_version(scan->magic) >= 18)
        item_bytes = 16;
    scan->part++;
    wal_scan_next_part(scan, at + (uint64_t) count * item_bytes);
}

/* What stands in front of the main data: nothing but origin and top-level xid, in what we read. */
static void
wal_scan_take_block_id(WalScan *scan, uint8_t id, uint32_t at)
{
    switch (id)
    {
        case BLOCK_ID_DATA_SHORT:
            wal_scan_want(scan, FIELD_DATA_SHORT, at, 1);
            break;
        case BLOCK_ID_DATA_LONG:
            wal_scan_want(scan, FIELD_DATA_LONG, at, 4);
            break;
        case BLOCK_ID_ORIGIN:
            wal_scan_want(scan, FIELD_BLOCK_ID, (uint64_t) at + 2, 1);
            break;
        case BLOCK_ID_TOPLEVEL_XID:
            wal_scan_want(scan, FIELD_BLOCK_ID, (uint64_t) at + 4, 1);
            break;
        default:
            scan->field = FIELD_NONE;
    }
}

/* The whole header is read: what is to be read of the rest. False: WAL ended in front of it. */
static bool
wal_scan_take_header(WalScan *scan)
{
    Lsn prev = get_u64le(scan->header + RECORD_AT_PREV);

    if (scan->prev != LSN_INVALID ? prev != scan->prev : prev >= scan->record_at)
        return false;
    scan->field = FIELD_NONE;
    if (wal_scan_is_event(scan))
        wal_scan_want(scan, FIELD_BLOCK_ID, WAL_RECORD_HEADER_BYTES, 1);
    return true;
}

/* All bytes of the field are there. False: WAL ended in front of this record. */
static bool
wal_scan_take_field(WalScan *scan)
{
    const uint8_t *bytes = scan->bytes;
    uint32_t behind = scan->field_at + scan->field_bytes;

    switch (scan->field)
    {
        case FIELD_LENGTH:
            /* never split by the end of a page, as records are aligned */
            memcpy(scan->header, bytes, 8);
            scan->length = get_u32le(bytes);
            if (scan->length == 0 && scan->foreign_switch && scan->prev == LSN_INVALID)
            {
                scan->in_record = false;
                scan->skip_to = wal_scan_segment_end(scan, scan->at);
                return true;
            }
            if (scan->length < WAL_RECORD_HEADER_BYTES || scan->length > RECORD_MAX_BYTES)
                return false;
            wal_scan_want(scan, FIELD_HEADER, 8, WAL_RECORD_HEADER_BYTES - 8);
            return true;
        case FIELD_HEADER:
            memcpy(scan->header + 8, bytes, WAL_RECORD_HEADER_BYTES - 8);
            return wal_scan_take_header(scan);
        case FIELD_BLOCK_ID:
            wal_scan_take_block_id(scan, bytes[0], behind);
            return true;
        case FIELD_DATA_SHORT:
            scan->data_bytes = bytes[0];
            wal_scan_begin_data(scan, behind);
            return true;
        case FIELD_DATA_LONG:
            scan->data_bytes = get_u32le(bytes);
            wal_scan_begin_data(scan, behind);
            return true;
        case FIELD_TIME:
            scan->has_event = true;
            scan->event.at_us = wal_scan_time(bytes);
            scan->event.xid = get_u32le(scan->header + RECORD_AT_XID);
            scan->field = FIELD_NONE;
            if (!wal_scan_is_prepared(scan))
                return true;
            scan->event.xid = 0;
            if ((scan->header[RECORD_AT_INFO] & XACT_HAS_INFO) != 0)
                wal_scan_want(scan, FIELD_XINFO, behind, 4);
            return true;
        case FIELD_XINFO:
            scan->xinfo = get_u32le(bytes);
            scan->part = 0;
            wal_scan_next_part(
                scan,
                (uint64_t) behind + ((scan->xinfo & XINFO_DBINFO) != 0 ? XACT_DBINFO_BYTES : 0));
            return true;
        case FIELD_COUNT:
            wal_scan_skip_part(scan, get_u32le(bytes), behind);
            return true;
        case FIELD_TWOPHASE_XID:
            scan->event.xid = get_u32le(bytes);
            scan->field = FIELD_NONE;
            return true;
        case FIELD_FOREIGN_END:
            scan->foreign_switch =
                bytes[1] == RMGR_XLOG && (bytes[0] & XLOG_INFO_MASK) == XLOG_SWITCH;
            scan->field = FIELD_NONE;
            return true;
        case FIELD_RESTORE_POINT:
            scan->has_event = true;
            scan->event.at_us = wal_scan_time(bytes);
            memcpy(scan->event.name, bytes + 8, sizeof scan->event.name - 1);
            scan->field = FIELD_NONE;
            return true;
        default:
            return true;
    }
}

/* ---- records ---- */

static void
wal_scan_begin_record(WalScan *scan)
{
    scan->in_record = true;
    scan->foreign = false;
    scan->record_at = scan->at;
    scan->length = UINT32_MAX; /* until it is read */
    scan->seen = 0;
    scan->crc = 0;
    scan->event = (WalEvent){.lsn = scan->at};
    scan->has_event = false;
    wal_scan_want(scan, FIELD_LENGTH, 0, 8);
}

static bool
wal_scan_is_switch(const uint8_t *header)
{
    return header[RECORD_AT_RMGR] == RMGR_XLOG &&
           (header[RECORD_AT_INFO] & XLOG_INFO_MASK) == XLOG_SWITCH;
}

/* All bytes of the record are seen. 0, 1 or -1 as wal_scan_write. */
static int
wal_scan_finish_record(WalScan *scan, Error *err)
{
    scan->in_record = false;
    scan->skip_to = (scan->at + 7) & ~UINT64_C(7);
    if (scan->foreign)
        return 0;
    if (crc32c(scan->crc, scan->header, RECORD_AT_CRC) != get_u32le(scan->header + RECORD_AT_CRC))
    {
        scan->state = SCAN_ENDED;
        return 1;
    }
    /* the rest of the segment belongs to a switch record */
    if (wal_scan_is_switch(scan->header))
        scan->skip_to =
            (scan->skip_to + scan->segment_bytes - 1) / scan->segment_bytes * scan->segment_bytes;
    scan->prev = scan->record_at;
    scan->last = scan->record_at;
    scan->end = scan->skip_to;
    if (!scan->has_event)
        return 0;
    scan->event.end = scan->end;

    int rc = scan->fn(scan->ctx, &scan->event, err);

    if (rc != 0)
        scan->state = SCAN_STOPPED;
    return rc;
}

/*
 * The quick way over records that lie wholly in p, room bytes of one page, and are neither told nor
 * a switch. Stops in front of any other. Returns the bytes passed.
 */
static size_t
wal_scan_skip_records(WalScan *scan, const uint8_t *p, size_t room)
{
    size_t i = 0;

    while (room - i >= WAL_RECORD_HEADER_BYTES)
    {
        const uint8_t *record = p + i;
        uint64_t length = get_u32le(record);
        uint64_t step = (length + 7) & ~UINT64_C(7);

        if (length < WAL_RECORD_HEADER_BYTES || step >= room - i ||
            record[RECORD_AT_RMGR] <= RMGR_XACT || scan->prev == LSN_INVALID ||
            get_u64le(record + RECORD_AT_PREV) != scan->prev)
            break;

        uint32_t crc =
            crc32c(0, record + WAL_RECORD_HEADER_BYTES, (size_t) length - WAL_RECORD_HEADER_BYTES);

        if (crc32c(crc, record, RECORD_AT_CRC) != get_u32le(record + RECORD_AT_CRC))
            break;
        scan->prev = scan->at;
        scan->last = scan->at;
        scan->at += step;
        scan->end = scan->at;
        i += (size_t) step;
    }
    scan->skip_to = scan->at;
    return i;
}

/* n bytes of the record at p, none of them behind its end. False: WAL ended in front of it. */
static bool
wal_scan_read_record(WalScan *scan, const uint8_t *p, size_t n)
{
    if (!scan->foreign && scan->seen + n > WAL_RECORD_HEADER_BYTES)
    {
        size_t skip =
            scan->seen < WAL_RECORD_HEADER_BYTES ? WAL_RECORD_HEADER_BYTES - scan->seen : 0;

        scan->crc = crc32c(scan->crc, p + skip, n - skip);
    }
    while (n > 0)
    {
        uint32_t step = (uint32_t) n;

        if (scan->field != FIELD_NONE)
        {
            uint32_t field_end = scan->field_at + scan->field_bytes;

            if (scan->seen < scan->field_at)
                step = MIN(step, scan->field_at - scan->seen);
            else
            {
                step = MIN(step, field_end - scan->seen);
                memcpy(scan->bytes + (scan->seen - scan->field_at), p, step);
            }
        }
        scan->seen += step;
        scan->at += step;
        p += step;
        n -= step;
        if (scan->field != FIELD_NONE && scan->seen == scan->field_at + scan->field_bytes &&
            !wal_scan_take_field(scan))
            return false;
    }
    return true;
}

/*
 * Bytes at p, all on one page and behind its header. *used of them are taken; 0, 1 or -1 as
 * wal_scan_write.
 */
static int
wal_scan_walk_page(WalScan *scan, const uint8_t *p, size_t len, size_t *used, Error *err)
{
    size_t n;

    if (!scan->in_record)
    {
        n = wal_scan_skip_records(scan, p, len);
        *used = n;
        if (n > 0)
            return 0;
        wal_scan_begin_record(scan);
    }
    /* until the header is read its length is the bound: nobody knows how long the record is */
    n = len;
    if (!scan->foreign && scan->seen < WAL_RECORD_HEADER_BYTES)
        n = MIN(n, (scan->seen < 8 ? 8 : WAL_RECORD_HEADER_BYTES) - scan->seen);
    else
        n = MIN(n, scan->length - scan->seen);
    *used = n;
    if (!wal_scan_read_record(scan, p, n))
    {
        scan->state = SCAN_ENDED;
        return 1;
    }
    if (!scan->in_record || scan->seen < scan->length)
        return 0;
    return wal_scan_finish_record(scan, err);
}

int
wal_scan_write(WalScan *scan, const void *data, size_t len, Error *err)
{
    const uint8_t *p = data;

    while (len > 0 && scan->state < SCAN_ENDED)
    {
        size_t n;

        if (scan->skip_to > scan->at)
        {
            /* filling, or what a switch record left of a segment: there pages may lack headers */
            n = (size_t) MIN(len, scan->skip_to - scan->at);
            scan->at += n;
        }
        else if (scan->state == SCAN_PAGE)
        {
            uint32_t need = wal_scan_page_header_bytes(scan);

            n = MIN(len, need - scan->page_have);
            memcpy(scan->page + scan->page_have, p, n);
            scan->page_have += (uint32_t) n;
            scan->at += n;
            if (scan->page_have == need)
                wal_scan_begin_page(scan);
            p += n;
            len -= n;
            continue;
        }
        else
        {
            size_t room = scan->block_bytes - (size_t) (scan->at & (scan->block_bytes - 1));
            int rc = wal_scan_walk_page(scan, p, MIN(len, room), &n, err);

            if (rc != 0)
                return rc;
        }
        scan->state = (scan->at & (scan->block_bytes - 1)) == 0 ? SCAN_PAGE : SCAN_RECORD;
        p += n;
        len -= n;
    }
    return scan->state < SCAN_ENDED ? 0 : 1;
}
