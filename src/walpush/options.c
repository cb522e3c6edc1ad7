/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The command line of walpush; see options.h.
 */
#include "walpush/options.h"

#include <string.h>

static const CliOption push_options[] = {
    {"timeout", 't', "DURATION", "Fail when the file is not durable by then (default 60s)."},
};

static const char *const push_usages[] = {"[OPTION]... PATH [NAME]", NULL};

static const CliSpec push_cli = {
    .name = "walpush",
    .summary = "Makes one WAL file durable in the repository: archive_command = 'walpush %p'.",
    .usages = push_usages,
    .options = push_options,
    .option_count = ARRAY_COUNT(push_options),
    .min_args = 1,
    .max_args = 2,
    .exit_codes = "0  the file is durable in the repository\n"
                  "1  it could not be stored; PostgreSQL asks again\n"
                  "2  usage or configuration error\n",
};

int
push_read_options(int argc, char **argv, PushOptions *out, Error *err)
{
    const char *slash;

    out->timeout_ms = PUSH_TIMEOUT_MS;
    if (cli_parse(&push_cli, argc, argv, &out->cli, err) < 0)
        return -1;
    if (out->cli.action != CLI_RUN)
    {
        out->answered = true;
        return cli_answer(&push_cli, &out->cli, err);
    }
    if (cli_duration_ms(&out->cli, "timeout", &out->timeout_ms, err) < 0 ||
        config_load(out->cli.config_file, &out->cli.overrides, &out->cfg, err) < 0)
        return -1;
    cli_open_log("walpush", out->cfg);
    out->path = out->cli.args[0];
    slash = strrchr(out->path, '/');
    out->name = slash != NULL ? slash + 1 : out->path;
    if (out->cli.arg_count == 2)
        out->name = out->cli.args[1];
    if (strchr(out->name, ' ') != NULL || out->name[0] == '\0' || strlen(out->name) > 64)
        return error_set(err, ERROR_USAGE, "\"%s\" is not the name of a WAL file", out->name);
    return 0;
}

void
push_options_reset(PushOptions *options)
{
    config_free(options->cfg);
    cli_reset(&options->cli);
}
