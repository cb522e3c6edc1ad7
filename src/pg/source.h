/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The server that WAL comes from, through libpq: one replication connection, and short SQL
 * connections to look at the slot. Every call has a deadline; libpq is never let block by itself.
 */
#ifndef WALSTREAM_SOURCE_H
#define WALSTREAM_SOURCE_H

#include <libpq-fe.h>

#include "common/clock.h"
#include "pg/wal.h"

typedef struct SourceInfo
{
    uint64_t system_identifier;
    TimelineId tli;
    Lsn flush; /* end of WAL on the server */
    uint32_t segment_bytes;
    int version; /* as PQserverVersion: 150018 */
} SourceInfo;

typedef struct Source
{
    PGconn *conn;
    SourceInfo info;
} Source;

/* The parts of [cluster] conninfo that are safe to print: host, port, user, dbname. Returns buf. */
char *source_describe(const char *conninfo, char *buf, size_t len);

/* Connects in physical replication mode and fills info (IDENTIFY_SYSTEM, wal_segment_size). */
MUST_CHECK int source_connect(const char *conninfo, const Deadline *dl, Source *out, Error *err);
void source_close(Source *source); /* fit for AUTO; a closed one is fine */

/*
 * For SQL, to the very server that the replication connection peer has reached, also where conninfo
 * has several hosts; database "postgres" unless conninfo names one. info is peer's. peer NULL: to
 * any host of conninfo, and of info only the version.
 */
MUST_CHECK int
source_connect_sql(const char *conninfo, Source *peer, const Deadline *dl, Source *out, Error *err);

/* ---- commands ---- */
/* The next result of a command under way; *res NULL when there is none left. */
MUST_CHECK int source_next_result(
    Source *source, const char *what, const Deadline *dl, PGresult **res, Error *err);
/*
 * One command with one parameter (NULL: none), one result with rows (or without), the rest drained.
 * what     names it in messages
 * out      NULL: the result is not wanted; else the caller's (PQclear)
 */
MUST_CHECK int source_exec(
    Source *source, const char *sql, const char *param, const char *what, const Deadline *dl,
    PGresult **out, Error *err);
/* SHOW of a setting that is on or off. */
MUST_CHECK int
source_show_bool(Source *source, const char *setting, const Deadline *dl, bool *out, Error *err);
/*
 * After an error: takes what the server still sends for the command, so that the next one can be
 * sent. A connection that is broken shows there.
 */
void source_discard(Source *source, const Deadline *dl);

/*
 * Has the server end the command that it is busy with, and waits a moment for that: a server that
 * waits for a checkpoint does not notice for minutes that its client has gone.
 */
void source_cancel(Source *source);

/* TIMELINE_HISTORY; *text is the caller's. NOT_FOUND when the server has no such file. */
MUST_CHECK int source_read_history(
    Source *source, TimelineId tli, const Deadline *dl, char **text, size_t *len, Error *err);

/* ---- slots ---- */
bool source_slot_name_valid(const char *name);

typedef struct SlotState
{
    bool exists;
    bool physical;
    bool active;
    bool lost;           /* invalidated: the server keeps nothing for it */
    Lsn restart_lsn;     /* LSN_INVALID: none reserved */
    char wal_status[32]; /* "" when it could not be asked */
    char reason[64];     /* invalidation_reason, 17 and newer */
    int64_t
        safe_bytes; /* WAL that may still be written before it is lost; -1 no bound or unknown */
    bool bounded;   /* max_slot_wal_keep_size is set */
} SlotState;

/*
 * Over an SQL connection of its own (database "postgres" unless conninfo names one) to the server
 * that source is connected to, also where conninfo has several hosts. When SQL is
 * not to be had (DENIED by pg_hba.conf), READ_REPLICATION_SLOT on the replication connection tells
 * less, and on 14 nothing: then wal_status is "" and *err holds why, with 0 returned.
 */
MUST_CHECK int source_read_slot(
    Source *source, const char *conninfo, const char *slot, const Deadline *dl, SlotState *out,
    Error *err);

/* CREATE_REPLICATION_SLOT ... PHYSICAL RESERVE_WAL. EXISTS when another was faster. */
MUST_CHECK int source_create_slot(Source *source, const char *slot, const Deadline *dl, Error *err);
MUST_CHECK int source_drop_slot(Source *source, const char *slot, const Deadline *dl, Error *err);

/* ---- streaming ---- */
/*
 * START_REPLICATION. 0 with *streaming true: the connection is in copy mode. 0 with *streaming
 * false: the server has nothing of this timeline at or behind start, it ended there (promotion).
 * Errors: NOT_FOUND when the WAL is not there any more (58P01); CONFLICT when start is not in the
 * server's history; DENIED when the slot is invalid; TRANSIENT otherwise.
 */
MUST_CHECK int source_start(
    Source *source, const char *slot, TimelineId tli, Lsn start, const Deadline *dl,
    bool *streaming, Error *err);

/* Waits for the socket, or wake_fd (-1: none) to become readable, at most wait_ms. */
void source_wait(Source *source, int wake_fd, int64_t wait_ms);

/*
 * After the server ended the copy (PQgetCopyData gave -1): takes the results. NOT_FOUND when it
 * was "WAL segment has already been removed", CONFLICT as in source_start.
 */
MUST_CHECK int source_finish_copy(Source *source, const Deadline *dl, Error *err);

/* libpq's message without the line end, as the cause in err; kind from its SQLSTATE if there is
 * one. */
int source_error(Source *source, const PGresult *res, const char *what, Error *err);

#endif
