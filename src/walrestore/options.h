/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The command line of walrestore.
 */
#ifndef WALRESTORE_OPTIONS_H
#define WALRESTORE_OPTIONS_H

#include "common/cli.h"
#include "repo/recovery.h"

#define RESTORE_JOBS_DEFAULT 4
#define RESTORE_JOBS_MAX 64
#define RESTORE_TIMEOUT_MS 120000

typedef enum RestoreAction
{
    RESTORE_PROMOTE,
    RESTORE_PAUSE,
    RESTORE_SHUTDOWN
} RestoreAction;

typedef struct RestoreOptions
{
    CliResult cli;
    const char *to; /* borrowed from argv, as all texts */
    RecoveryTarget target;
    bool time_assumed_utc; /* --target-time had no time zone */
    bool timeline_current; /* --timeline=current: that of the backup */
    RestoreAction action;
    bool standby;
    bool delta;
    bool dry_run;
    bool json;
    bool space_check;
    TablespaceMap tablespaces; /* --tablespace; owned */
    const char **databases;    /* --only-database; owned array */
    size_t database_count;
    unsigned jobs;
    int64_t timeout_ms; /* of each request to the store */
    uint64_t system_identifier;
} RestoreOptions;

extern const CliSpec restore_cli;

/*
 * out is for restore_options_reset, also when this fails. When out->cli.action is not CLI_RUN
 * nothing else is filled in. Errors: USAGE.
 */
MUST_CHECK int restore_options_parse(int argc, char **argv, RestoreOptions *out, Error *err);
void restore_options_reset(RestoreOptions *o); /* fit for AUTO */

/* "promote" ...; borrowed. */
const char *restore_action_name(RestoreAction action);

/*
 * A moment in ISO 8601 or PostgreSQL's form: "2026-03-01 09:14:07.12+01", with T, seconds and
 * fraction as you like; the zone is Z, UTC, GMT or an offset. Without one it is taken as UTC and
 * *has_zone is false. false for anything else, and for moments that the calendar does not have.
 */
MUST_CHECK bool restore_parse_time(const char *text, int64_t *out_us, bool *has_zone);

#endif
