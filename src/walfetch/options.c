/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Command line, caller and exit codes of walfetch; see options.h. Linked into the static fast path:
 * libc and common only.
 */
#include "walfetch/options.h"

#include <stdio.h>
#include <unistd.h>

#include "common/log.h"
#include "common/parse.h"

#define FETCH_TIMEOUT_OPTION                                                                       \
    {                                                                                              \
        "timeout", 't', "DURATION",                                                                \
            "How long to try before \"could not tell\" (default: 60s; at most 10s on a standby)."  \
    }

static const CliOption fetch_options[] = {FETCH_TIMEOUT_OPTION};

static const CliOption fetch_direct_options[] = {
    FETCH_TIMEOUT_OPTION,
    {"spent-ms", 0, "NUMBER", "How much of the timeout walfetch has used up."},
    {"prefetcher", 0, NULL,
     "Be the prefetcher of the server in this directory; NAME was asked for."},
};

static const char *const fetch_usages[] = {"[OPTIONS] NAME DESTINATION", NULL};

#define FETCH_EXIT_CODES                                                                           \
    "0    restored\n"                                                                              \
    "1    it is certain that the repository does not have the file\n"                              \
    "200  could not tell (1 if the directory has a standby.signal)\n"                              \
    "2    wrong usage or configuration, when run by hand; as 200 when a server runs it\n"

const CliSpec fetch_spec = {
    .name = "walfetch",
    .summary = "Brings one WAL file back from the repository: restore_command = 'walfetch %f %p'.",
    .usages = fetch_usages,
    .options = fetch_options,
    .option_count = ARRAY_COUNT(fetch_options),
    .min_args = 2,
    .max_args = 2,
    .exit_codes = FETCH_EXIT_CODES,
};

const CliSpec fetch_direct_spec = {
    .name = "walfetch-direct",
    .summary = "The part of walfetch that talks to the repository; walfetch runs it.",
    .usages = fetch_usages,
    .options = fetch_direct_options,
    .option_count = ARRAY_COUNT(fetch_direct_options),
    .min_args = 2,
    .max_args = 2,
    .exit_codes = FETCH_EXIT_CODES,
};

int
fetch_options_parse(const CliSpec *spec, int argc, char **argv, FetchOptions *out, Error *err)
{
    const char *spent;

    *out = (FetchOptions){.timeout_ms = FETCH_TIMEOUT_MS};
    if (cli_parse(spec, argc, argv, &out->cli, err) < 0)
        return -1;
    if (out->cli.action != CLI_RUN)
        return 0;
    out->name = out->cli.args[0];
    out->dest = out->cli.args[1];
    if (!wal_file_name_parse(out->name, &out->parsed))
        return error_set(err, ERROR_USAGE, "\"%.100s\" is not the name of a WAL file", out->name);
    if (out->dest[0] == '\0')
        return error_set(err, ERROR_USAGE, "the destination is empty");
    if (cli_duration_ms(&out->cli, "timeout", &out->timeout_ms, err) < 0)
        return -1;
    if (out->timeout_ms <= 0)
        return error_set(err, ERROR_USAGE, "the timeout must be longer than nothing");
    out->prefetcher = cli_value(&out->cli, "prefetcher") != NULL;
    spent = cli_value(&out->cli, "spent-ms");
    if (spent != NULL)
    {
        uint32_t ms;

        if (!parse_u32(spent, &ms))
            return error_set(err, ERROR_USAGE, "\"%.100s\" is not a number for --spent-ms", spent);
        out->spent_ms = (int64_t) ms;
    }
    return 0;
}

void
fetch_options_reset(FetchOptions *o)
{
    cli_reset(&o->cli);
}

FetchCaller
fetch_caller(void)
{
    if (access("standby.signal", F_OK) == 0)
        return FETCH_BY_STANDBY;
    if (access("recovery.signal", F_OK) == 0 || access("postmaster.pid", F_OK) == 0)
        return FETCH_BY_RECOVERY;
    return FETCH_BY_HAND;
}

int
fetch_exit_unsure(FetchCaller caller)
{
    return caller == FETCH_BY_STANDBY ? FETCH_EXIT_ABSENT : FETCH_EXIT_UNSURE;
}

int
fetch_exit_usage(FetchCaller caller)
{
    /* 2 would end an archive recovery, with whatever WAL it has until then */
    return caller == FETCH_BY_HAND ? FETCH_EXIT_USAGE : fetch_exit_unsure(caller);
}

int64_t
fetch_timeout_ms(const FetchOptions *o, FetchCaller caller)
{
    int64_t ms = o->timeout_ms;

    if (caller == FETCH_BY_STANDBY)
        ms = MIN(ms, (int64_t) FETCH_STANDBY_TIMEOUT_MS);
    return MAX(ms - o->spent_ms, (int64_t) 0);
}

bool
fetch_begin(
    const CliSpec *spec, int argc, char **argv, FetchCaller caller, FetchOptions *options,
    Config **cfg, int *code)
{
    Error err = {0};

    log_open(spec->name, LOG_INFO, LOG_FORMAT_TEXT);
    if (fetch_options_parse(spec, argc, argv, options, &err) < 0)
    {
        log_error(LOG_ERROR, &err);
        *code = fetch_exit_usage(caller);
        return false;
    }
    if (options->cli.action != CLI_RUN)
    {
        *code = FETCH_EXIT_DONE;
        if (cli_answer(spec, &options->cli, &err) < 0)
        {
            log_error(LOG_ERROR, &err);
            *code = fetch_exit_unsure(caller);
        }
        return false;
    }
    if (config_load(options->cli.config_file, &options->cli.overrides, cfg, &err) < 0)
    {
        log_error(LOG_ERROR, &err);
        *code = fetch_exit_usage(caller);
        return false;
    }
    cli_open_log(spec->name, *cfg);
    return true;
}
