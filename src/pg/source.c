/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * libpq with deadlines; see source.h.
 */
#include "pg/source.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/parse.h"

#define SOURCE_OPTIONS_MAX 96
#define SOURCE_CONNECT "could not connect to the server"
#define SOURCE_HOST_MAX 512
#define SOURCE_CANCEL_MS 2000
#define SOURCE_TRY_MS 10000 /* for one of several hosts, when conninfo has no connect_timeout */

static void
result_clearp(PGresult **res)
{
    PQclear(*res);
}

static void
conninfo_freep(PQconninfoOption **options)
{
    PQconninfoFree(*options);
}

static void
conn_finishp(PGconn **conn)
{
    PQfinish(*conn);
}

/* ---- connecting ---- */

char *
source_describe(const char *conninfo, char *buf, size_t len)
{
    static const char *const shown[] = {"host", "hostaddr", "port", "user", "dbname"};
    AUTO(conninfo_freep) PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    size_t used = 0;

    buf[0] = '\0';
    for (size_t i = 0; options != NULL && i < ARRAY_COUNT(shown); i++)
    {
        for (const PQconninfoOption *o = options; o->keyword != NULL; o++)
        {
            if (strcmp(o->keyword, shown[i]) != 0 || o->val == NULL || used >= len)
                continue;
            used += (size_t) snprintf(
                buf + used, len - used, "%s%s=%s", used > 0 ? " " : "", o->keyword, o->val);
        }
    }
    return buf;
}

typedef struct ConnectParams
{
    const char *keys[SOURCE_OPTIONS_MAX];
    const char *values[SOURCE_OPTIONS_MAX];
    size_t count;
} ConnectParams;

static void
params_add(ConnectParams *params, const char *key, const char *value)
{
    if (params->count + 1 < SOURCE_OPTIONS_MAX)
    {
        params->keys[params->count] = key;
        params->values[params->count] = value;
        params->count++;
    }
}

/* What keeps a dead network from being waited for; the user's own settings win. */
static const struct
{
    const char *key, *value;
} source_defaults[] = {
    {"application_name", "walstream"}, {"connect_timeout", "10"}, {"keepalives_idle", "10"},
    {"keepalives_interval", "5"},      {"keepalives_count", "3"}, {"tcp_user_timeout", "30000"},
};

static void
source_wait_fd(int fd, short events, int wake_fd, int64_t wait_ms)
{
    struct pollfd fds[2] = {{.fd = fd, .events = events}, {.fd = wake_fd, .events = POLLIN}};

    (void) poll(fds, wake_fd >= 0 ? 2 : 1, (int) MAX(MIN(wait_ms, 60000), 0));
}

void
source_wait(Source *source, int wake_fd, int64_t wait_ms)
{
    source_wait_fd(PQsocket(source->conn), POLLIN, wake_fd, wait_ms);
}

static void
source_copy_message(const char *message, char *buf, size_t len)
{
    size_t used = 0;

    /* several lines (a host list that failed) become one */
    for (; *message != '\0' && used + 2 < len; message++)
    {
        char c = *message;

        if (c == '\n')
        {
            while (message[1] == '\n' || message[1] == '\t')
                message++;
            if (message[1] == '\0')
                break;
            buf[used++] = ';';
            c = ' ';
        }
        else if (c == '\t')
            c = ' ';
        buf[used++] = c;
    }
    buf[used] = '\0';
}

int
source_error(Source *source, const PGresult *res, const char *what, Error *err)
{
    const char *state = res != NULL ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
    const char *primary = res != NULL ? PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    const char *hint = res != NULL ? PQresultErrorField(res, PG_DIAG_MESSAGE_HINT) : NULL;
    ErrorKind kind = ERROR_TRANSIENT;
    char message[512];

    if (primary == NULL)
        primary = res != NULL ? PQresultErrorMessage(res) : "";
    if (primary[0] == '\0')
        primary = PQerrorMessage(source->conn);
    source_copy_message(primary, message, sizeof message);
    if (state != NULL)
    {
        if (strcmp(state, "58P01") == 0)
            kind = ERROR_NOT_FOUND;
        else if (strcmp(state, "42710") == 0)
            kind = ERROR_EXISTS;
        else if (
            strcmp(state, "55000") == 0 || strncmp(state, "28", 2) == 0 ||
            strcmp(state, "42501") == 0)
            kind = ERROR_DENIED;
    }
    if (strstr(message, "is not in this server's history") != NULL)
        kind = ERROR_CONFLICT;
    (void) error_set(err, kind, "%s: %s", what, message);
    /* often it is all that helps */
    if (hint != NULL)
    {
        source_copy_message(hint, message, sizeof message);
        (void) error_hint(err, "%s", message);
    }
    return -1;
}

/* libpq would write them to stderr, between the lines of the log. */
static void
source_ignore_notice(void *ctx UNUSED, const PGresult *res UNUSED)
{
}

/* One connection with these settings; *out is the caller's. */
static int
source_open_params(const ConnectParams *params, const Deadline *dl, PGconn **out, Error *err)
{
    AUTO(conn_finishp) PGconn *conn = PQconnectStartParams(params->keys, params->values, 0);
    Source view = {.conn = conn};

    if (conn == NULL)
        return error_nomem(err);
    (void) PQsetNoticeReceiver(conn, source_ignore_notice, NULL);
    if (PQstatus(conn) == CONNECTION_BAD)
        return source_error(&view, NULL, SOURCE_CONNECT, err);
    for (PostgresPollingStatusType state = PGRES_POLLING_WRITING; state != PGRES_POLLING_OK;
         state = PQconnectPoll(conn))
    {
        if (state == PGRES_POLLING_FAILED)
            return source_error(&view, NULL, SOURCE_CONNECT, err);
        if (deadline_check(dl, "connecting to the server", err) < 0)
            return -1;
        source_wait_fd(
            PQsocket(conn), state == PGRES_POLLING_READING ? POLLIN : POLLOUT, -1,
            MIN(deadline_left_ms(dl), 100));
    }
    *out = steal(conn);
    return 0;
}

/* ---- several hosts ---- */

/* What conninfo says of several hosts: lists with commas, as libpq has them. */
typedef struct SourceHosts
{
    const char *host, *hostaddr, *port; /* NULL: not given */
    int64_t try_ms;                     /* connect_timeout */
    bool prefer_standby;                /* target_session_attrs */
} SourceHosts;

static size_t
host_list_count(const char *list)
{
    size_t count = list != NULL && list[0] != '\0' ? 1 : 0;

    for (; count > 0 && *list != '\0'; list++)
        count += *list == ',' ? 1u : 0u;
    return count;
}

/* The index-th of list, or its only one; false when it is too long to be one. */
static bool
host_list_item(const char *list, size_t index, char *buf, size_t cap)
{
    size_t len;

    for (size_t i = host_list_count(list) > 1 ? index : 0; i > 0; i--)
        list = strchr(list, ',') + 1;
    len = strcspn(list, ",");
    if (len >= cap)
        return false;
    memcpy(buf, list, len);
    buf[len] = '\0';
    return true;
}

/* How many servers there are to be tried one by one; 0: libpq shall see for itself. */
static size_t
source_hosts_count(const SourceHosts *hosts)
{
    size_t count = host_list_count(hosts->hostaddr != NULL ? hosts->hostaddr : hosts->host);
    size_t names = host_list_count(hosts->host);
    size_t ports = host_list_count(hosts->port);

    return count > 1 && (names == 0 || names == count) && (ports <= 1 || ports == count) ? count
                                                                                         : 0;
}

static void
source_hosts_note(SourceHosts *hosts, const PQconninfoOption *option)
{
    uint32_t seconds;

    if (strcmp(option->keyword, "host") == 0)
        hosts->host = option->val;
    else if (strcmp(option->keyword, "hostaddr") == 0)
        hosts->hostaddr = option->val;
    else if (strcmp(option->keyword, "port") == 0)
        hosts->port = option->val;
    else if (strcmp(option->keyword, "connect_timeout") == 0)
    {
        if (parse_u32(option->val, &seconds) && seconds > 0)
            hosts->try_ms = (int64_t) seconds * 1000;
    }
    else if (strcmp(option->keyword, "target_session_attrs") == 0)
        hosts->prefer_standby = strcmp(option->val, "prefer-standby") == 0;
}

/*
 * Each host by itself. libpq's own way through a list has no time-out for one host when it is not
 * let block: one that does not answer, the very primary that was lost, would use up all the time,
 * again and again.
 */
static int
source_open_any(
    const ConnectParams *params, const SourceHosts *hosts, size_t count, const Deadline *dl,
    PGconn **out, Error *err)
{
    size_t tries = hosts->prefer_standby ? 2 * count : count;
    char why[768] = "";
    size_t used = 0;

    for (size_t i = 0; i < tries; i++)
    {
        ConnectParams one = *params;
        int64_t ms = MIN(hosts->try_ms, deadline_left_ms(dl) / (int64_t) (tries - i));
        Deadline soon = deadline_sooner(dl, ms);
        const char *reason = err->msg;
        const struct
        {
            const char *key, *list;
        } lists[] = {{"host", hosts->host}, {"hostaddr", hosts->hostaddr}, {"port", hosts->port}};
        char items[ARRAY_COUNT(lists)][SOURCE_HOST_MAX];

        for (size_t k = 0; k < ARRAY_COUNT(lists); k++)
        {
            if (host_list_count(lists[k].list) == 0)
                continue;
            if (!host_list_item(lists[k].list, i % count, items[k], sizeof items[k]))
                return error_set(
                    err, ERROR_USAGE, "[cluster] conninfo names a %s that is too long",
                    lists[k].key);
            params_add(&one, lists[k].key, items[k]);
        }
        if (hosts->prefer_standby)
            params_add(&one, "target_session_attrs", i < count ? "standby" : "any");
        if (source_open_params(&one, &soon, out, err) == 0)
            return 0;
        if (err->kind != ERROR_TRANSIENT && err->kind != ERROR_TIMEOUT)
            return -1;
        if (strncmp(reason, SOURCE_CONNECT ": ", strlen(SOURCE_CONNECT ": ")) == 0)
            reason += strlen(SOURCE_CONNECT ": ");
        if (used < sizeof why)
            used += (size_t) snprintf(
                why + used, sizeof why - used, "%sserver %zu: %s", i > 0 ? "; " : "", i % count + 1,
                reason);
    }
    return error_set(err, ERROR_TRANSIENT, SOURCE_CONNECT ": %s", why);
}

/*
 * A connection with conninfo's settings, then ours where it has none; a replication connection, or
 * one for SQL, which with peer goes to the very server that the replication connection peer has
 * reached, where conninfo has several.
 */
static int
source_open(
    const char *conninfo, bool replication, PGconn *peer, const Deadline *dl, PGconn **out,
    Error *err)
{
    char *reason = NULL;
    AUTO(conninfo_freep) PQconninfoOption *options = PQconninfoParse(conninfo, &reason);
    ConnectParams params = {0};
    SourceHosts hosts = {.try_ms = SOURCE_TRY_MS};
    bool has_dbname = false;
    size_t count;

    if (options == NULL)
    {
        /* the reason may quote the string, and with it a password */
        PQfreemem(reason);
        return error_set(err, ERROR_USAGE, "[cluster] conninfo is not a connection string");
    }
    for (size_t i = 0; i < ARRAY_COUNT(source_defaults); i++)
        params_add(&params, source_defaults[i].key, source_defaults[i].value);
    for (const PQconninfoOption *o = options; o->keyword != NULL; o++)
    {
        if (o->val == NULL || strcmp(o->keyword, "replication") == 0)
            continue;
        if (strcmp(o->keyword, "dbname") == 0)
        {
            if (replication)
                continue;
            has_dbname = true;
        }
        source_hosts_note(&hosts, o);
        params_add(&params, o->keyword, o->val); /* the last of two wins */
    }
    if (replication)
        params_add(&params, "replication", "true");
    else if (!has_dbname)
        params_add(&params, "dbname", "postgres");
    if (peer == NULL)
    {
        count = source_hosts_count(&hosts);
        if (count > 0)
            return source_open_any(&params, &hosts, count, dl, out, err);
    }
    else
    {
        const char *address = PQhostaddr(peer);

        params_add(&params, "host", PQhost(peer));
        params_add(&params, "hostaddr", address != NULL ? address : "");
        params_add(&params, "port", PQport(peer));
        params_add(&params, "target_session_attrs", "any"); /* it may be promoted just now */
    }
    return source_open_params(&params, dl, out, err);
}

/* ---- commands ---- */

int
source_next_result(Source *source, const char *what, const Deadline *dl, PGresult **res, Error *err)
{
    for (;;)
    {
        if (PQconsumeInput(source->conn) == 0)
            return source_error(source, NULL, what, err);
        if (!PQisBusy(source->conn))
            break;
        if (deadline_check(dl, what, err) < 0)
            return -1;
        source_wait(source, -1, MIN(deadline_left_ms(dl), 100));
    }
    *res = PQgetResult(source->conn);
    return 0;
}

void
source_discard(Source *source, const Deadline *dl)
{
    Deadline soon = deadline_sooner(dl, 5000);
    Error ignored;

    for (;;)
    {
        AUTO(result_clearp) PGresult *res = NULL;

        if (source_next_result(source, "ending a command", &soon, &res, &ignored) < 0 ||
            res == NULL)
            return;
        if (PQresultStatus(res) == PGRES_COPY_BOTH || PQresultStatus(res) == PGRES_COPY_IN ||
            PQresultStatus(res) == PGRES_COPY_OUT)
            return; /* not after an error */
    }
}

void
source_cancel(Source *source)
{
    Deadline soon = deadline_after_ms(SOURCE_CANCEL_MS, NULL);
    PGcancel *cancel = PQgetCancel(source->conn);
    char ignored[256];

    if (cancel != NULL && PQcancel(cancel, ignored, sizeof ignored) == 1)
        source_discard(source, &soon);
    PQfreeCancel(cancel);
}

int
source_exec(
    Source *source, const char *sql, const char *param, const char *what, const Deadline *dl,
    PGresult **out, Error *err)
{
    AUTO(result_clearp) PGresult *first = NULL;
    int sent = param != NULL ? PQsendQueryParams(source->conn, sql, 1, NULL, &param, NULL, NULL, 0)
                             : PQsendQuery(source->conn, sql);

    if (sent == 0)
        return source_error(source, NULL, what, err);
    for (;;)
    {
        AUTO(result_clearp) PGresult *res = NULL;
        ExecStatusType status;

        if (source_next_result(source, what, dl, &res, err) < 0)
            return -1;
        if (res == NULL)
            break;
        status = PQresultStatus(res);
        if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        {
            (void) source_error(source, res, what, err);
            source_discard(source, dl);
            return -1;
        }
        if (first == NULL)
            first = steal(res);
    }
    if (first == NULL)
        return error_set(err, ERROR_TRANSIENT, "%s: the server sent no result", what);
    if (out != NULL)
        *out = steal(first);
    return 0;
}

int
source_show_bool(Source *source, const char *setting, const Deadline *dl, bool *out, Error *err)
{
    AUTO(result_clearp) PGresult *res = NULL;
    char sql[96];

    (void) snprintf(sql, sizeof sql, "SHOW %s", setting);
    if (source_exec(source, sql, NULL, sql, dl, &res, err) < 0)
        return -1;
    if (PQntuples(res) != 1 || !parse_bool(PQgetvalue(res, 0, 0), out))
        return error_set(err, ERROR_CORRUPT, "the server's answer to %s is not understood", sql);
    return 0;
}

static int
source_identify(Source *source, const Deadline *dl, Error *err)
{
    AUTO(result_clearp) PGresult *ident = NULL;
    AUTO(result_clearp) PGresult *size = NULL;
    SourceInfo *info = &source->info;
    uint64_t segment_bytes;

    if (source_exec(source, "IDENTIFY_SYSTEM", NULL, "IDENTIFY_SYSTEM", dl, &ident, err) < 0 ||
        source_exec(
            source, "SHOW wal_segment_size", NULL, "SHOW wal_segment_size", dl, &size, err) < 0)
        return -1;
    if (PQntuples(ident) != 1 || PQnfields(ident) < 3 ||
        !parse_u64(PQgetvalue(ident, 0, 0), &info->system_identifier) ||
        !parse_u32(PQgetvalue(ident, 0, 1), &info->tli) || info->tli == 0 ||
        !lsn_parse(PQgetvalue(ident, 0, 2), &info->flush))
        return error_set(
            err, ERROR_CORRUPT, "the server's answer to IDENTIFY_SYSTEM is not understood");
    if (PQntuples(size) != 1 || !parse_bytes(PQgetvalue(size, 0, 0), &segment_bytes) ||
        !wal_segment_bytes_valid(segment_bytes))
        return error_set(err, ERROR_CORRUPT, "the server's wal_segment_size is not understood");
    info->segment_bytes = (uint32_t) segment_bytes;
    info->version = PQserverVersion(source->conn);
    return 0;
}

int
source_connect(const char *conninfo, const Deadline *dl, Source *out, Error *err)
{
    AUTO(source_close) Source source = {0};

    if (source_open(conninfo, true, NULL, dl, &source.conn, err) < 0 ||
        source_identify(&source, dl, err) < 0)
        return -1;
    *out = source;
    source.conn = NULL;
    return 0;
}

int
source_connect_sql(const char *conninfo, Source *peer, const Deadline *dl, Source *out, Error *err)
{
    AUTO(source_close) Source sql = {0};

    if (source_open(conninfo, false, peer != NULL ? peer->conn : NULL, dl, &sql.conn, err) < 0)
        return -1;
    out->info = peer != NULL ? peer->info : (SourceInfo){.version = PQserverVersion(sql.conn)};
    out->conn = steal(sql.conn);
    return 0;
}

void
source_close(Source *source)
{
    PQfinish(source->conn);
    source->conn = NULL;
}

int
source_read_history(
    Source *source, TimelineId tli, const Deadline *dl, char **text, size_t *len, Error *err)
{
    AUTO(result_clearp) PGresult *res = NULL;
    char sql[64];

    (void) snprintf(sql, sizeof sql, "TIMELINE_HISTORY %u", tli);
    if (source_exec(source, sql, NULL, sql, dl, &res, err) < 0)
        return -1;
    if (PQntuples(res) != 1 || PQnfields(res) != 2)
        return error_set(err, ERROR_CORRUPT, "the server's answer to %s is not understood", sql);
    *len = (size_t) PQgetlength(res, 0, 1);
    *text = malloc(*len + 1);
    if (*text == NULL)
        return error_nomem(err);
    memcpy(*text, PQgetvalue(res, 0, 1), *len);
    (*text)[*len] = '\0';
    return 0;
}

/* ---- slots ---- */

bool
source_slot_name_valid(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");

    return len > 0 && len < 64 && name[len] == '\0';
}

/* Value of a column by name, NULL if it is not there or is null. */
static const char *
result_text(const PGresult *res, const char *column)
{
    int field = PQfnumber(res, column);

    return field >= 0 && PQgetisnull(res, 0, field) == 0 ? PQgetvalue(res, 0, field) : NULL;
}

static int
source_read_slot_sql(
    PGconn *peer, const char *conninfo, const char *slot, const Deadline *dl, SlotState *out,
    Error *err)
{
    AUTO(source_close) Source sql = {0};
    AUTO(result_clearp) PGresult *res = NULL;
    const char *text;
    uint64_t safe;

    if (source_open(conninfo, false, peer, dl, &sql.conn, err) < 0)
        return -1;
    if (source_exec(
            &sql,
            "SELECT s.*, pg_catalog.current_setting('max_slot_wal_keep_size') AS keep_size "
            "FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1",
            slot, "could not read pg_replication_slots", dl, &res, err) < 0)
        return -1;
    if (PQntuples(res) == 0)
        return 0;
    out->exists = true;
    text = result_text(res, "slot_type");
    out->physical = text != NULL && strcmp(text, "physical") == 0;
    text = result_text(res, "active");
    out->active = text != NULL && text[0] == 't';
    text = result_text(res, "restart_lsn");
    if (text != NULL && !lsn_parse(text, &out->restart_lsn))
        return error_set(err, ERROR_CORRUPT, "restart_lsn \"%s\" is not understood", text);
    text = result_text(res, "wal_status");
    (void) snprintf(out->wal_status, sizeof out->wal_status, "%s", text != NULL ? text : "none");
    text = result_text(res, "invalidation_reason");
    (void) snprintf(out->reason, sizeof out->reason, "%s", text != NULL ? text : "");
    text = result_text(res, "safe_wal_size");
    if (text != NULL) /* negative once the slot is in danger */
        out->safe_bytes = parse_u64(text, &safe) ? (int64_t) MIN(safe, INT64_MAX) : 0;
    text = result_text(res, "keep_size");
    out->bounded = text != NULL && strcmp(text, "-1") != 0;
    out->lost = strcmp(out->wal_status, "lost") == 0 || out->reason[0] != '\0';
    return 0;
}

int
source_read_slot(
    Source *source, const char *conninfo, const char *slot, const Deadline *dl, SlotState *out,
    Error *err)
{
    AUTO(result_clearp) PGresult *res = NULL;
    Deadline sooner = deadline_sooner(dl, 10000);
    Error why;
    char sql[128];

    *out = (SlotState){.safe_bytes = -1};
    *err = (Error){0};
    if (source_read_slot_sql(source->conn, conninfo, slot, &sooner, out, err) == 0)
        return 0;
    *out = (SlotState){.safe_bytes = -1};
    if (source->info.version < 150000)
    {
        out->exists = true; /* not known; creating it will tell */
        out->physical = true;
        return 0;
    }
    (void) snprintf(sql, sizeof sql, "READ_REPLICATION_SLOT %s", slot);
    if (source_exec(source, sql, NULL, "READ_REPLICATION_SLOT", dl, &res, &why) < 0)
    {
        *err = why;
        return -1;
    }
    if (PQntuples(res) != 1 || PQgetisnull(res, 0, 0))
        return 0;
    out->exists = true;
    out->physical = strcmp(PQgetvalue(res, 0, 0), "physical") == 0;
    if (PQgetisnull(res, 0, 1) == 0 && !lsn_parse(PQgetvalue(res, 0, 1), &out->restart_lsn))
        return error_set(err, ERROR_CORRUPT, "restart_lsn is not understood");
    /* invalidated, or without a reservation from the start: both protect nothing */
    out->lost = out->physical && out->restart_lsn == LSN_INVALID;
    if (out->lost)
        (void) snprintf(out->wal_status, sizeof out->wal_status, "nothing reserved");
    return 0;
}

int
source_create_slot(Source *source, const char *slot, const Deadline *dl, Error *err)
{
    char sql[160];

    (void) snprintf(sql, sizeof sql, "CREATE_REPLICATION_SLOT %s PHYSICAL RESERVE_WAL", slot);
    return source_exec(source, sql, NULL, "could not create the replication slot", dl, NULL, err);
}

int
source_drop_slot(Source *source, const char *slot, const Deadline *dl, Error *err)
{
    char sql[160];

    (void) snprintf(sql, sizeof sql, "DROP_REPLICATION_SLOT %s", slot);
    return source_exec(source, sql, NULL, "could not drop the replication slot", dl, NULL, err);
}

/* ---- streaming ---- */

int
source_start(
    Source *source, const char *slot, TimelineId tli, Lsn start, const Deadline *dl,
    bool *streaming, Error *err)
{
    AUTO(result_clearp) PGresult *res = NULL;
    char lsn[LSN_TEXT_BYTES];
    char sql[256];

    (void) snprintf(
        sql, sizeof sql, "START_REPLICATION SLOT %s PHYSICAL %s TIMELINE %u", slot,
        lsn_format(start, lsn, sizeof lsn), tli);
    if (PQsendQuery(source->conn, sql) == 0)
        return source_error(source, NULL, "START_REPLICATION", err);
    if (source_next_result(source, "START_REPLICATION", dl, &res, err) < 0)
        return -1;
    if (res == NULL)
        return error_set(err, ERROR_TRANSIENT, "START_REPLICATION: the server sent no result");
    *streaming = PQresultStatus(res) == PGRES_COPY_BOTH;
    if (*streaming)
        return 0;
    if (PQresultStatus(res) != PGRES_TUPLES_OK)
    {
        (void) source_error(source, res, "START_REPLICATION", err);
        source_discard(source, dl);
        return -1;
    }
    return source_finish_copy(source, dl, err);
}

int
source_finish_copy(Source *source, const Deadline *dl, Error *err)
{
    for (;;)
    {
        AUTO(result_clearp) PGresult *res = NULL;
        ExecStatusType status;

        if (source_next_result(source, "ending replication", dl, &res, err) < 0)
            return -1;
        if (res == NULL)
            return 0;
        status = PQresultStatus(res);
        if (status == PGRES_COPY_BOTH || status == PGRES_COPY_IN)
        {
            /* the server has ended its side; ours is still open */
            if (PQputCopyEnd(source->conn, NULL) <= 0 || PQflush(source->conn) < 0)
                return source_error(source, NULL, "ending replication", err);
        }
        else if (status == PGRES_COPY_OUT)
        {
            /* our side has ended; what was under way is not wanted: it is asked for again */
            char *data = NULL;
            int n;

            while ((n = PQgetCopyData(source->conn, &data, 1)) > 0)
                PQfreemem(data);
            if (n == -2)
                return source_error(source, NULL, "ending replication", err);
            if (n == 0)
                source_wait(source, -1, MIN(deadline_left_ms(dl), 100));
            if (deadline_check(dl, "ending replication", err) < 0)
                return -1;
        }
        else if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        {
            (void) source_error(source, res, "replication ended", err);
            source_discard(source, dl);
            return -1;
        }
    }
}
