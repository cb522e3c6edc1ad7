/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The command line of walrestore; see options.h.
 */
#include "walrestore/options.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/parse.h"

static const CliOption restore_options[] = {
    {"to", 0, "DIR", "The data directory to make; absent or empty, unless --delta is given."},
    {"target-time", 0, "TIME",
     "Recover to this moment: 2026-03-01 09:14:07+01. Without a zone it is UTC."},
    {"target-lsn", 0, "LSN", "Recover to this WAL position."},
    {"target-xid", 0, "XID", "Recover to the end of this transaction."},
    {"target-name", 0, "NAME", "Recover to this restore point."},
    {"target", 0, "WHAT",
     "latest (default): all WAL there is; immediate: as soon as the backup is consistent."},
    {"exclusive", 0, NULL, "Stop just before the target, not behind it."},
    {"target-action", 0, "ACTION",
     "What the server does at the target: promote (default), pause or shutdown."},
    {"timeline", 0, "TIMELINE", "A number, latest (default), or current: that of the backup."},
    {"backup", 0, "LABEL", "The backup to take; otherwise the newest that the target needs."},
    {"standby", 0, NULL, "Make a standby, which goes on following the repository or its primary."},
    {"delta", 0, NULL,
     "Over an existing data directory: keep files that are right, replace and remove others."},
    {"tablespace", 0, "OID=DIR", "Put this tablespace there; may be given several times."},
    {"only-database", 0, "NAME",
     "Restore this database; the files of others become zeros. May be given several times."},
    {"jobs", 'j', "NUMBER",
     "Workers, each with up to two connections to the store, 1 to 64; default 4."},
    {"dry-run", 'n', NULL, "Only tell what would be done, and about how long it takes."},
    {"no-space-check", 0, NULL, "Begin even if the free space seems too small."},
    {"output", 'o', "FORMAT", "text (default) or json."},
    {"timeout", 't', "DURATION", "How long to try each request to the store; default 120s."},
    {"system-identifier", 0, "NUMBER",
     "Which of several clusters under the configured name; otherwise the only one."},
};

static const char *const restore_usages[] = {"--to=DIR [TARGET] [OPTION]...", NULL};

const CliSpec restore_cli = {
    .name = "walrestore",
    .summary = "Restores a data directory from the repository, ready to recover to a target.",
    .usages = restore_usages,
    .options = restore_options,
    .option_count = ARRAY_COUNT(restore_options),
};

static const char *const restore_action_names[] = {
    [RESTORE_PROMOTE] = "promote", [RESTORE_PAUSE] = "pause", [RESTORE_SHUTDOWN] = "shutdown"};

const char *
restore_action_name(RestoreAction action)
{
    return restore_action_names[action];
}

/* ---- times ---- */

/* Exactly count digits; *p moves behind them. */
static bool
restore_take_digits(const char **p, int count, int *out)
{
    int value = 0;

    for (int i = 0; i < count; i++)
    {
        char c = (*p)[i];

        if (c < '0' || c > '9')
            return false;
        value = value * 10 + (c - '0');
    }
    *p += count;
    *out = value;
    return true;
}

static bool
restore_take_char(const char **p, char c)
{
    if (**p != c)
        return false;
    (*p)++;
    return true;
}

/* "+01", "+0130", "+01:30"; seconds east of Greenwich. */
static bool
restore_take_offset(const char **p, int *out)
{
    int sign = **p == '-' ? -1 : 1;
    int hours, minutes = 0;

    (*p)++;
    if (!restore_take_digits(p, 2, &hours))
        return false;
    if (**p == ':' || (**p >= '0' && **p <= '9'))
    {
        (void) restore_take_char(p, ':');
        if (!restore_take_digits(p, 2, &minutes))
            return false;
    }
    *out = sign * (hours * 3600 + minutes * 60);
    return hours <= 15 && minutes <= 59;
}

static bool
restore_take_zone(const char *p, int *offset_s, bool *has_zone)
{
    *offset_s = 0;
    *has_zone = false;
    while (*p == ' ')
        p++;
    if (*p == '\0')
        return true;
    *has_zone = true;
    if (strcasecmp(p, "Z") == 0 || strcasecmp(p, "UTC") == 0 || strcasecmp(p, "GMT") == 0)
        return true;
    return (*p == '+' || *p == '-') && restore_take_offset(&p, offset_s) && *p == '\0';
}

bool
restore_parse_time(const char *text, int64_t *out_us, bool *has_zone)
{
    const char *p = text;
    struct tm tm = {0};
    int fraction_us = 0, offset_s, day, month;
    time_t seconds;

    if (!restore_take_digits(&p, 4, &tm.tm_year) || !restore_take_char(&p, '-') ||
        !restore_take_digits(&p, 2, &month) || !restore_take_char(&p, '-') ||
        !restore_take_digits(&p, 2, &day))
        return false;
    if (!restore_take_char(&p, 'T') && !restore_take_char(&p, 't') && !restore_take_char(&p, ' '))
        return false;
    if (!restore_take_digits(&p, 2, &tm.tm_hour) || !restore_take_char(&p, ':') ||
        !restore_take_digits(&p, 2, &tm.tm_min))
        return false;
    if (restore_take_char(&p, ':'))
    {
        if (!restore_take_digits(&p, 2, &tm.tm_sec))
            return false;
        if (restore_take_char(&p, '.'))
        {
            int digits = 0;

            for (; *p >= '0' && *p <= '9' && digits < 6; p++, digits++)
                fraction_us = fraction_us * 10 + (*p - '0');
            if (digits == 0 || (*p >= '0' && *p <= '9'))
                return false;
            for (; digits < 6; digits++)
                fraction_us *= 10;
        }
    }
    if (!restore_take_zone(p, &offset_s, has_zone))
        return false;
    if (tm.tm_year < 1970 || tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 59)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon = month - 1;
    tm.tm_mday = day;
    seconds = timegm(&tm);
    /* timegm makes 1 March of 30 February */
    if (tm.tm_mon != month - 1 || tm.tm_mday != day)
        return false;
    *out_us = ((int64_t) seconds - offset_s) * 1000000 + fraction_us;
    return true;
}

/* ---- targets ---- */

/* Only one of the target options may be given. */
static int
restore_set_kind(
    RestoreOptions *o, RecoveryTargetKind kind, const char **was, const char *option, Error *err)
{
    if (*was != NULL && strcmp(*was, option) != 0)
        return error_set(
            err, ERROR_USAGE, "--%s and --%s cannot be given together: recovery has one target",
            *was, option);
    *was = option;
    o->target.kind = kind;
    return 0;
}

static int
restore_read_xid(RestoreOptions *o, const char *text, Error *err)
{
    uint64_t full;

    /* pg_current_xact_id() shows the epoch too, which recovery does not look at */
    if (!parse_u64(text, &full) || (uint32_t) full < 3)
        return error_set(err, ERROR_USAGE, "--target-xid \"%.100s\" is not a transaction ID", text);
    o->target.xid = (uint32_t) full;
    return 0;
}

static int
restore_read_target(RestoreOptions *o, const CliGiven *given, const char **was, Error *err)
{
    const char *name = given->option->name;
    const char *value = given->value;

    if (strcmp(name, "target-time") == 0)
    {
        bool has_zone = false;

        if (!restore_parse_time(value, &o->target.time_us, &has_zone))
        {
            (void) error_set(
                err, ERROR_USAGE, "--target-time \"%.100s\" is not a moment of time", value);
            return error_hint(
                err, "Write it as 2026-03-01 09:14:07+01: with Z, UTC or an offset for the zone.");
        }
        o->time_assumed_utc = !has_zone;
        return restore_set_kind(o, RECOVERY_TIME, was, name, err);
    }
    if (strcmp(name, "target-lsn") == 0)
    {
        if (!lsn_parse(value, &o->target.lsn) || o->target.lsn == LSN_INVALID)
            return error_set(err, ERROR_USAGE, "--target-lsn \"%.100s\" is not an LSN", value);
        return restore_set_kind(o, RECOVERY_LSN, was, name, err);
    }
    if (strcmp(name, "target-xid") == 0)
    {
        if (restore_read_xid(o, value, err) < 0)
            return -1;
        return restore_set_kind(o, RECOVERY_XID, was, name, err);
    }
    if (strcmp(name, "target-name") == 0)
    {
        size_t len = strlen(value);

        if (len == 0 || len >= sizeof o->target.name || strchr(value, '\n') != NULL)
            return error_set(
                err, ERROR_USAGE, "--target-name \"%.100s\" cannot be the name of a restore point",
                value);
        memcpy(o->target.name, value, len + 1);
        return restore_set_kind(o, RECOVERY_NAME, was, name, err);
    }
    if (strcmp(value, "immediate") == 0)
        return restore_set_kind(o, RECOVERY_IMMEDIATE, was, name, err);
    if (strcmp(value, "latest") == 0)
        return restore_set_kind(o, RECOVERY_LATEST, was, name, err);
    return error_set(
        err, ERROR_USAGE, "--target \"%.100s\" is neither latest nor immediate", value);
}

static int
restore_read_timeline(RestoreOptions *o, const char *text, Error *err)
{
    uint64_t tli = 0;

    if (strcmp(text, "latest") == 0)
        return 0;
    if (strcmp(text, "current") == 0)
    {
        o->timeline_current = true;
        return 0;
    }
    if (!parse_u64(text, &tli) || tli == 0 || tli > UINT32_MAX)
        return error_set(
            err, ERROR_USAGE, "--timeline \"%.100s\" is not a timeline ID, latest or current",
            text);
    o->target.tli = (TimelineId) tli;
    return 0;
}

static int
restore_read_tablespace(RestoreOptions *o, const char *text, Error *err)
{
    char digits[16];
    const char *equals = strchr(text, '=');
    uint32_t oid = 0;
    size_t len = equals != NULL ? (size_t) (equals - text) : 0;

    if (len > 0 && len < sizeof digits)
    {
        memcpy(digits, text, len);
        digits[len] = '\0';
        if (!parse_u32(digits, &oid))
            oid = 0;
    }
    if (equals == NULL || oid == 0 || equals[1] == '\0')
        return error_set(
            err, ERROR_USAGE, "--tablespace \"%.200s\" does not have the form OID=DIR", text);
    if (equals[1] != '/')
        return error_set(
            err, ERROR_USAGE, "--tablespace %u: \"%.200s\" is not an absolute path", oid,
            equals + 1);
    for (size_t i = 0; i < o->tablespaces.count; i++)
        if (o->tablespaces.items[i].oid == oid)
            return error_set(err, ERROR_USAGE, "--tablespace %u is given twice", oid);
    return tablespace_map_add(&o->tablespaces, oid, equals + 1, err);
}

static int
restore_read_action(RestoreOptions *o, const char *text, Error *err)
{
    for (size_t i = 0; i < ARRAY_COUNT(restore_action_names); i++)
        if (strcmp(text, restore_action_names[i]) == 0)
        {
            o->action = (RestoreAction) i;
            return 0;
        }
    return error_set(
        err, ERROR_USAGE, "--target-action \"%.100s\" is not promote, pause or shutdown", text);
}

static int
restore_read_option(RestoreOptions *o, const CliGiven *given, const char **target, Error *err)
{
    const char *name = given->option->name;
    const char *value = given->value;
    uint32_t number = 0;

    if (strncmp(name, "target", 6) == 0 && strcmp(name, "target-action") != 0)
        return restore_read_target(o, given, target, err);
    if (strcmp(name, "to") == 0)
        o->to = value;
    else if (strcmp(name, "exclusive") == 0)
        o->target.exclusive = true;
    else if (strcmp(name, "target-action") == 0)
        return restore_read_action(o, value, err);
    else if (strcmp(name, "timeline") == 0)
        return restore_read_timeline(o, value, err);
    else if (strcmp(name, "backup") == 0)
    {
        if (!backup_label_name_valid(value))
            return error_set(
                err, ERROR_USAGE, "--backup \"%.100s\" is not the label of a backup", value);
        o->target.label = value;
    }
    else if (strcmp(name, "standby") == 0)
        o->standby = true;
    else if (strcmp(name, "delta") == 0)
        o->delta = true;
    else if (strcmp(name, "tablespace") == 0)
        return restore_read_tablespace(o, value, err);
    else if (strcmp(name, "only-database") == 0)
        o->databases[o->database_count++] = value;
    else if (strcmp(name, "jobs") == 0)
    {
        if (!parse_u32(value, &number) || number == 0 || number > RESTORE_JOBS_MAX)
            return error_set(
                err, ERROR_USAGE, "--jobs \"%.100s\" is not a number from 1 to %d", value,
                RESTORE_JOBS_MAX);
        o->jobs = number;
    }
    else if (strcmp(name, "dry-run") == 0)
        o->dry_run = true;
    else if (strcmp(name, "no-space-check") == 0)
        o->space_check = false;
    else if (strcmp(name, "output") == 0)
    {
        o->json = strcmp(value, "json") == 0;
        if (!o->json && strcmp(value, "text") != 0)
            return error_set(
                err, ERROR_USAGE, "--output \"%.100s\" is neither text nor json", value);
    }
    else if (strcmp(name, "system-identifier") == 0)
    {
        if (!parse_u64(value, &o->system_identifier) || o->system_identifier == 0)
            return error_set(
                err, ERROR_USAGE, "--system-identifier \"%.100s\" is not a number", value);
    }
    return 0;
}

/* What does not go together. */
static int
restore_check_options(const RestoreOptions *o, Error *err)
{
    bool stops = o->target.kind != RECOVERY_LATEST;

    if (o->to == NULL || o->to[0] == '\0')
    {
        (void) error_set(err, ERROR_USAGE, "where to restore to was not said");
        return error_hint(err, "Name the data directory: --to=DIR.");
    }
    if (o->standby && stops)
        return error_set(
            err, ERROR_USAGE, "--standby and a target cannot be given together: a standby goes on");
    if (o->target.exclusive && o->target.kind != RECOVERY_TIME && o->target.kind != RECOVERY_LSN &&
        o->target.kind != RECOVERY_XID)
        return error_set(
            err, ERROR_USAGE,
            "--exclusive goes with --target-time, --target-lsn or --target-xid only");
    if (!stops && cli_value(&o->cli, "target-action") != NULL)
        return error_set(
            err, ERROR_USAGE, "--target-action needs a target at which recovery stops");
    if (o->timeout_ms <= 0)
        return error_set(err, ERROR_USAGE, "the timeout must be longer than nothing");
    return 0;
}

int
restore_options_parse(int argc, char **argv, RestoreOptions *out, Error *err)
{
    const char *target = NULL;

    *out = (RestoreOptions){
        .jobs = RESTORE_JOBS_DEFAULT, .timeout_ms = RESTORE_TIMEOUT_MS, .space_check = true};
    if (cli_parse(&restore_cli, argc, argv, &out->cli, err) < 0)
        return -1;
    if (out->cli.action != CLI_RUN)
        return 0;
    out->databases = calloc(out->cli.given_count + 1, sizeof *out->databases);
    if (out->databases == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < out->cli.given_count; i++)
        if (restore_read_option(out, &out->cli.given[i], &target, err) < 0)
            return -1;
    if (cli_duration_ms(&out->cli, "timeout", &out->timeout_ms, err) < 0)
        return -1;
    return restore_check_options(out, err);
}

void
restore_options_reset(RestoreOptions *o)
{
    cli_reset(&o->cli);
    tablespace_map_reset(&o->tablespaces);
    free(o->databases);
    o->databases = NULL;
}
