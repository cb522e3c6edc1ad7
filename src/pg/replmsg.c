/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Streaming replication messages; see replmsg.h.
 */
#include "pg/replmsg.h"

#include "common/bytes.h"

/* 2000-01-01 in microseconds since 1970: 10957 days */
#define REPLMSG_EPOCH_US (INT64_C(10957) * 86400 * 1000000)

int64_t
replmsg_time_to_wall(int64_t pg_us)
{
    int64_t wall_us;

    return __builtin_add_overflow(pg_us, REPLMSG_EPOCH_US, &wall_us) ? INT64_MAX : wall_us;
}

int64_t
replmsg_time_from_wall(int64_t wall_us)
{
    int64_t pg_us;

    return __builtin_sub_overflow(wall_us, REPLMSG_EPOCH_US, &pg_us) ? INT64_MIN : pg_us;
}

static int64_t
replmsg_get_time(const uint8_t *p)
{
    return replmsg_time_to_wall((int64_t) get_u64be(p));
}

/* 'w', i64 start, i64 server's end, i64 time, data */
static int
replmsg_parse_data(const uint8_t *p, size_t len, ReplMsg *out, Error *err)
{
    if (len < REPLMSG_DATA_HEADER_BYTES)
        return error_set(
            err, ERROR_CORRUPT, "WAL data message of %zu bytes is shorter than its header", len);

    ReplMsg msg = {
        .kind = REPLMSG_DATA,
        .start = get_u64be(p + 1),
        .server_end = get_u64be(p + 9),
        .sent_wall_us = replmsg_get_time(p + 17),
        .data = p + REPLMSG_DATA_HEADER_BYTES,
        .len = len - REPLMSG_DATA_HEADER_BYTES,
    };

    if (msg.len > UINT64_MAX - msg.start)
    {
        char lsn[LSN_TEXT_BYTES];

        return error_set(
            err, ERROR_CORRUPT, "WAL data message begins at %s and passes the last possible LSN",
            lsn_format(msg.start, lsn, sizeof lsn));
    }
    *out = msg;
    return 0;
}

/* 'k', i64 server's end, i64 time, byte reply now */
static int
replmsg_parse_keepalive(const uint8_t *p, size_t len, ReplMsg *out, Error *err)
{
    if (len != REPLMSG_KEEPALIVE_BYTES)
        return error_set(
            err, ERROR_CORRUPT, "keepalive message has %zu bytes, expected %d", len,
            REPLMSG_KEEPALIVE_BYTES);
    *out = (ReplMsg){
        .kind = REPLMSG_KEEPALIVE,
        .server_end = get_u64be(p + 1),
        .sent_wall_us = replmsg_get_time(p + 9),
        .reply_now = p[17] != 0,
    };
    return 0;
}

int
replmsg_parse(const void *buf, size_t len, ReplMsg *out, Error *err)
{
    const uint8_t *p = buf;

    if (len == 0)
        return error_set(err, ERROR_CORRUPT, "replication message is empty");
    if (p[0] == 'w')
        return replmsg_parse_data(p, len, out, err);
    if (p[0] == 'k')
        return replmsg_parse_keepalive(p, len, out, err);
    return error_set(err, ERROR_CORRUPT, "replication message of unknown type 0x%02X", p[0]);
}

void
replmsg_format_status(const ReplStatus *status, uint8_t *out)
{
    out[0] = 'r';
    put_u64be(out + 1, status->write);
    put_u64be(out + 9, status->flush);
    put_u64be(out + 17, status->apply);
    put_u64be(out + 25, (uint64_t) replmsg_time_from_wall(status->wall_us));
    out[33] = status->reply_now ? 1 : 0;
}
