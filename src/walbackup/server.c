/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The SQL session of a backup; see server.h.
 */
#include "walbackup/server.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fs.h"
#include "common/log.h"
#include "common/parse.h"

/*
 * "walb", "acku": an advisory lock of this database and, on standbys too, of this server. It must
 * not outlive us by the minutes of a checkpoint, so the server shall look whether we are still
 * there also while it works on a query.
 */
#define SERVER_LOCK_SQL                                                                            \
    "SELECT pg_catalog.pg_try_advisory_lock(2002873442, 1633905525), "                             \
    "pg_catalog.set_config('client_connection_check_interval', '1s', false)"
/* postmaster.pid is written when the server begins, its start time is noted when it is ready */
#define SERVER_PID_FILE_SKEW_S 120
#define SERVER_PID_FILE_MAX 65536
#define SERVER_START_EXTRA_MS (INT64_C(15) * 60 * 1000)

static void
result_clearp(PGresult **res)
{
    PQclear(*res);
}

static int
server_bad_answer(const char *what, Error *err)
{
    return error_set(err, ERROR_CORRUPT, "the server's answer to %s is not understood", what);
}

/* One row with at least so many columns. */
static int
server_ask(
    Server *s, const char *sql, int columns, const char *what, const Deadline *dl, PGresult **out,
    Error *err)
{
    AUTO(result_clearp) PGresult *res = NULL;

    if (source_exec(&s->sql, sql, NULL, what, dl, &res, err) < 0)
        return -1;
    if (PQntuples(res) != 1 || PQnfields(res) < columns)
        return server_bad_answer(what, err);
    *out = steal(res);
    return 0;
}

void
server_notice(void *ctx UNUSED, const PGresult *res)
{
    /* FATAL comes so, too, to a session that asks nothing just then: why the server ends it */
    static const char *const loud[] = {"WARNING", "ERROR", "FATAL", "PANIC"};
    const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
    const char *message = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
    LogLevel level = LOG_DEBUG;

    for (size_t i = 0; severity != NULL && i < ARRAY_COUNT(loud); i++)
        if (strcmp(severity, loud[i]) == 0)
            level = LOG_WARNING;
    if (message != NULL)
        log_write(level, "the server says: %s", message);
}

/* ---- who it is ---- */

static int
server_identify(Server *s, const Deadline *dl, Error *err)
{
    static const char what[] = "could not ask the server what it is";
    AUTO(result_clearp) PGresult *res = NULL;
    uint64_t segment_bytes;
    uint32_t block_bytes, timeout_s;
    TimelineId checkpoint_tli;

    if (server_ask(
            s,
            "SELECT c.system_identifier, c.catalog_version_no, pg_catalog.pg_is_in_recovery(), "
            "pg_catalog.current_setting('data_checksums'), "
            "pg_catalog.current_setting('block_size'), "
            "(SELECT setting FROM pg_catalog.pg_settings WHERE name = 'checkpoint_timeout'), "
            "pg_catalog.current_setting('wal_segment_size') "
            "FROM pg_catalog.pg_control_system() c",
            7, what, dl, &res, err) < 0)
        return -1;
    if (!parse_u64(PQgetvalue(res, 0, 0), &s->system_identifier) ||
        !parse_u32(PQgetvalue(res, 0, 1), &s->catalog_version) ||
        !parse_u32(PQgetvalue(res, 0, 4), &block_bytes) ||
        !parse_u32(PQgetvalue(res, 0, 5), &timeout_s) ||
        !parse_bytes(PQgetvalue(res, 0, 6), &segment_bytes) ||
        !wal_segment_bytes_valid(segment_bytes))
        return server_bad_answer("what it is", err);
    if (block_bytes != DATA_PAGE_BYTES)
        return error_set(
            err, ERROR_USAGE, "cannot back up a server with pages of %" PRIu32 " bytes, only of %d",
            block_bytes, DATA_PAGE_BYTES);
    s->segment_bytes = (uint32_t) segment_bytes;
    s->in_recovery = PQgetvalue(res, 0, 2)[0] == 't';
    s->data_checksums = strcmp(PQgetvalue(res, 0, 3), "on") == 0;
    s->checkpoint_timeout_ms = (int64_t) timeout_s * 1000;
    s->pg_major = s->sql.info.version / 10000;
    return server_timelines(s, dl, &checkpoint_tli, &s->tli, err);
}

static bool
server_parse_timeline(Server *s, const char *text, TimelineId *tli)
{
    uint64_t number;

    if (s->in_recovery)
        return parse_u32(text, tli) && *tli != 0;
    if (strlen(text) != 8 || !parse_hex_upper(text, 8, &number) || number == 0)
        return false;
    *tli = (TimelineId) number;
    return true;
}

int
server_timelines(
    Server *server, const Deadline *dl, TimelineId *checkpoint, TimelineId *now, Error *err)
{
    AUTO(result_clearp) PGresult *res = NULL;

    /* of a primary pg_control is behind until the first checkpoint after its promotion */
    if (server_ask(
            server,
            server->in_recovery
                ? "SELECT c.timeline_id, greatest(r.min_recovery_end_timeline, c.timeline_id) FROM "
                  "pg_catalog.pg_control_recovery() r, pg_catalog.pg_control_checkpoint() c"
                : "SELECT w.tli, w.tli FROM (SELECT substr(pg_catalog.pg_walfile_name("
                  "pg_catalog.pg_current_wal_insert_lsn()), 1, 8) AS tli) w",
            2, "could not ask the server for its timeline", dl, &res, err) < 0)
        return -1;
    if (!server_parse_timeline(server, PQgetvalue(res, 0, 0), checkpoint) ||
        !server_parse_timeline(server, PQgetvalue(res, 0, 1), now))
        return server_bad_answer("its timeline", err);
    return 0;
}

int
server_set_up(Server *server, const Deadline *dl, Error *err)
{
    static const char what[] = "could not set up the session";

    (void) PQsetNoticeReceiver(server->sql.conn, server_notice, NULL);
    /* by itself and first: on a standby no query is possible with serializable as the default */
    if (source_exec(
            &server->sql, "SET default_transaction_isolation TO 'read committed'", NULL, what, dl,
            NULL, err) < 0 ||
        (server->sql.info.version >= 170000 &&
         source_exec(&server->sql, "SET transaction_timeout TO 0", NULL, what, dl, NULL, err) < 0))
        return -1;
    /*
     * Nothing of the user's settings may end the session. Texts come as the server has them: paths
     * and labels are bytes.
     */
    return source_exec(
        &server->sql,
        "SELECT pg_catalog.set_config('statement_timeout', '0', false), "
        "pg_catalog.set_config('lock_timeout', '0', false), "
        "pg_catalog.set_config('idle_session_timeout', '0', false), "
        "pg_catalog.set_config('client_min_messages', 'warning', false), "
        "pg_catalog.set_config('application_name', 'walbackup', false), "
        "pg_catalog.set_config('search_path', 'pg_catalog', false), "
        "pg_catalog.set_config('client_encoding', "
        "pg_catalog.current_setting('server_encoding'), false)",
        NULL, what, dl, NULL, err);
}

int
server_open(const char *conninfo, const Deadline *dl, Server *out, Error *err)
{
    AUTO(server_close) Server s = {0};

    if (source_connect_sql(conninfo, NULL, dl, &s.sql, err) < 0)
        return -1;
    if (s.sql.info.version < 140000)
        return error_set(
            err, ERROR_USAGE, "cannot back up a server of version %d, only 14 and later",
            s.sql.info.version / 10000);
    if (server_set_up(&s, dl, err) < 0 || server_identify(&s, dl, err) < 0)
        return -1;
    *out = s;
    s.sql.conn = NULL;
    return 0;
}

void
server_close(Server *server)
{
    source_close(&server->sql);
}

int
server_check(Server *server, Error *err)
{
    if (PQconsumeInput(server->sql.conn) == 1 && PQstatus(server->sql.conn) == CONNECTION_OK)
        return 0;
    (void) source_error(&server->sql, NULL, "the session of the backup was lost", err);
    return error_hint(err, "The server gives up a backup whose session ends; run walbackup again.");
}

int
server_lock(Server *server, const Deadline *dl, Error *err)
{
    AUTO(result_clearp) PGresult *res = NULL;

    if (server_ask(server, SERVER_LOCK_SQL, 1, "could not take the lock", dl, &res, err) < 0)
        return -1;
    if (PQgetvalue(res, 0, 0)[0] == 't')
        return 0;
    (void) error_set(err, ERROR_EXISTS, "another walbackup is backing up this server");
    return error_hint(err, "Wait until it has ended; pg_stat_activity has it as \"walbackup\".");
}

/* ---- whether the directory is its own ---- */

/* By what postmaster.pid says: line 3 when it began, line 4 its port. */
static int
server_check_pid_file(const char *data, const char *port, int64_t started_s, Error *err)
{
    AUTO(free_text) char *text = NULL;
    char path[4096];
    char *line;
    size_t len;
    uint64_t began = 0;
    bool same_port = false;

    (void) snprintf(path, sizeof path, "%s/postmaster.pid", data);
    if (fs_read_file(path, SERVER_PID_FILE_MAX, &text, &len, err) < 0)
    {
        if (err->kind != ERROR_NOT_FOUND)
            return -1;
        return error_set(
            err, ERROR_CONFLICT,
            "[cluster] data \"%s\" is not where the server runs: no "
            "postmaster.pid",
            data);
    }
    line = text;
    for (int n = 1; line != NULL && n <= 4; n++)
    {
        char *end = strchr(line, '\n');

        if (end != NULL)
            *end = '\0';
        if (n == 3 && !parse_u64(line, &began))
            began = 0;
        if (n == 4)
            same_port = strcmp(line, port) == 0;
        line = end != NULL ? end + 1 : NULL;
    }
    if (same_port && (int64_t) began <= started_s + 1 &&
        started_s - (int64_t) began <= SERVER_PID_FILE_SKEW_S)
        return 0;
    return error_set(
        err, ERROR_CONFLICT,
        "[cluster] data \"%s\" belongs to another server than conninfo leads to", data);
}

int
server_check_data(Server *server, const char *data, const Deadline *dl, Error *err)
{
    AUTO(result_clearp) PGresult *res = NULL;
    AUTO(result_clearp) PGresult *where = NULL;
    struct stat ours, theirs;
    uint64_t started;
    Error ignored;

    if (stat(data, &ours) < 0)
        return error_sys(err, "could not look at data directory \"%s\"", data);
    /* only some roles may ask; and its path need not be ours where one of us is in a container */
    if (server_ask(
            server, "SELECT pg_catalog.current_setting('data_directory')", 1,
            "could not ask the server for its data directory", dl, &where, &ignored) == 0 &&
        stat(PQgetvalue(where, 0, 0), &theirs) == 0)
    {
        if (ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino)
            return 0;
        return error_set(
            err, ERROR_CONFLICT, "[cluster] data is \"%s\", the server's data directory is \"%s\"",
            data, PQgetvalue(where, 0, 0));
    }
    if (server_ask(
            server,
            "SELECT pg_catalog.current_setting('port'), "
            "floor(extract(epoch FROM pg_catalog.pg_postmaster_start_time()))::bigint",
            2, "could not ask the server for its start time", dl, &res, err) < 0)
        return -1;
    if (!parse_u64(PQgetvalue(res, 0, 1), &started))
        return server_bad_answer("its start time", err);
    return server_check_pid_file(data, PQgetvalue(res, 0, 0), (int64_t) started, err);
}

/* ---- what is in it ---- */

int
server_read_databases(Server *server, const Deadline *dl, BackupHeader *header, Error *err)
{
    static const char what[] = "could not read pg_database";
    AUTO(result_clearp) PGresult *res = NULL;
    size_t count;

    if (source_exec(
            &server->sql, "SELECT oid, datname, xmin FROM pg_catalog.pg_database ORDER BY oid",
            NULL, what, dl, &res, err) < 0)
        return -1;
    for (size_t i = 0; i < header->database_count; i++)
        free(header->databases[i].name);
    free(header->databases);
    header->database_count = 0;
    count = (size_t) PQntuples(res);
    header->databases = calloc(MAX(count, 1), sizeof *header->databases);
    if (header->databases == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < count; i++)
    {
        BackupDatabase *db = &header->databases[i];

        if (PQnfields(res) != 3 || !parse_u32(PQgetvalue(res, (int) i, 0), &db->oid) ||
            !parse_u32(PQgetvalue(res, (int) i, 2), &db->row_xid))
            return server_bad_answer("a query of pg_database", err);
        db->name = strdup(PQgetvalue(res, (int) i, 1));
        if (db->name == NULL)
            return error_nomem(err);
        header->database_count++;
    }
    return 0;
}

int
server_now(Server *server, const Deadline *dl, int64_t *wall_us, Error *err)
{
    AUTO(result_clearp) PGresult *res = NULL;
    uint64_t us;

    if (server_ask(
            server,
            "SELECT (extract(epoch FROM greatest(pg_catalog.clock_timestamp(), "
            "pg_catalog.pg_last_xact_replay_timestamp())) * 1000000)::bigint",
            1, "could not ask the server for the time", dl, &res, err) < 0)
        return -1;
    if (!parse_u64(PQgetvalue(res, 0, 0), &us) || us > INT64_MAX)
        return server_bad_answer("the time", err);
    *wall_us = (int64_t) us;
    return 0;
}

/* ---- the backup ---- */

static int
server_hint_start(Error *err)
{
    if (err->kind == ERROR_DENIED && err->hint[0] == '\0')
        return error_hint(
            err, "The role needs to be a superuser or to have EXECUTE on the functions "
                 "pg_backup_start and pg_backup_stop (14: pg_start_backup, pg_stop_backup).");
    return -1;
}

int
server_backup_start(
    Server *server, const char *label, bool fast, const atomic_bool *cancel, Lsn *start, Error *err)
{
    AUTO(result_clearp) PGresult *res = NULL;
    Deadline dl =
        deadline_after_ms(server->checkpoint_timeout_ms * 2 + SERVER_START_EXTRA_MS, cancel);
    char sql[256];

    (void) snprintf(
        sql, sizeof sql, "SELECT pg_catalog.%s($1, %s%s)",
        server->pg_major >= 15 ? "pg_backup_start" : "pg_start_backup", fast ? "true" : "false",
        server->pg_major >= 15 ? "" : ", false");
    if (source_exec(
            &server->sql, sql, label, "could not begin the backup in the server", &dl, &res, err) <
        0)
        return server_hint_start(err);
    if (PQntuples(res) != 1 || !lsn_parse(PQgetvalue(res, 0, 0), start))
        return server_bad_answer("the beginning of the backup", err);
    return 0;
}

int
server_backup_stop(
    Server *server, const Deadline *dl, Lsn *stop, char **label_text, char **map_text, Error *err)
{
    AUTO(result_clearp) PGresult *res = NULL;

    if (server_ask(
            server,
            server->pg_major >= 15
                ? "SELECT lsn, labelfile, spcmapfile FROM pg_catalog.pg_backup_stop(false)"
                : "SELECT lsn, labelfile, spcmapfile FROM pg_catalog.pg_stop_backup(false, false)",
            3, "could not end the backup in the server", dl, &res, err) < 0)
    {
        if (strstr(err->msg, "promoted") != NULL)
            return error_hint(
                err, "A backup of a standby cannot outlive its promotion; run walbackup again.");
        return -1;
    }
    if (!lsn_parse(PQgetvalue(res, 0, 0), stop))
        return server_bad_answer("the end of the backup", err);
    *label_text = strdup(PQgetvalue(res, 0, 1));
    *map_text = strdup(PQgetvalue(res, 0, 2));
    return *label_text != NULL && *map_text != NULL ? 0 : error_nomem(err);
}
