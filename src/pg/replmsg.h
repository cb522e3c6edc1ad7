/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The messages inside CopyData while WAL is streamed (PostgreSQL's protocol chapter "Streaming
 * Replication Protocol"): read from buffers, written to buffers, no connection.
 */
#ifndef WALSTREAM_REPLMSG_H
#define WALSTREAM_REPLMSG_H

#include "pg/wal.h"

#define REPLMSG_DATA_HEADER_BYTES 25
#define REPLMSG_KEEPALIVE_BYTES 18
#define REPLMSG_STATUS_BYTES 34

typedef enum ReplMsgKind
{
    REPLMSG_DATA,     /* XLogData, 'w' */
    REPLMSG_KEEPALIVE /* primary keepalive message, 'k' */
} ReplMsgKind;

typedef struct ReplMsg
{
    ReplMsgKind kind;
    Lsn server_end;       /* the server's end of WAL */
    int64_t sent_wall_us; /* the server's clock, microseconds since 1970 */
    bool reply_now;       /* KEEPALIVE: the server wants an answer at once */
    Lsn start;            /* DATA: of the first byte */
    const uint8_t *data;  /* DATA: borrowed from the buffer */
    size_t len;
} ReplMsg;

/*
 * One CopyData payload from the server. CORRUPT for another type, a wrong length, or WAL that would
 * pass the end of the LSN space.
 */
MUST_CHECK int replmsg_parse(const void *buf, size_t len, ReplMsg *out, Error *err);

/*
 * What we tell the server ('r'). flush is what lets it remove WAL and release commits: never more
 * than what is durable. LSN_INVALID: not known.
 */
typedef struct ReplStatus
{
    Lsn write;
    Lsn flush;
    Lsn apply;
    int64_t wall_us; /* microseconds since 1970 */
    bool reply_now;  /* asks for a keepalive */
} ReplStatus;

/* Writes REPLMSG_STATUS_BYTES. */
void replmsg_format_status(const ReplStatus *status, uint8_t *out);

/* PostgreSQL's timestamps: microseconds since 2000-01-01 UTC. Values out of range are clamped. */
int64_t replmsg_time_to_wall(int64_t pg_us);
int64_t replmsg_time_from_wall(int64_t wall_us);

#endif
