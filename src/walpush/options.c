/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The command line of walpush; see options.h.
 */
#include "walpush/options.h"

#include <string.h>

#include "common/parse.h"

#define PUSH_TIMEOUT_OPTION                                                                        \
    {                                                                                              \
        "timeout", 't', "DURATION", "Fail when the file is not durable by then (default 60s)."     \
    }

static const CliOption push_options[] = {PUSH_TIMEOUT_OPTION};

static const CliOption push_direct_options[] = {
    PUSH_TIMEOUT_OPTION,
    {"spent-ms", 0, "NUMBER", "How much of the timeout walpush has used up."},
};

static const char *const push_usages[] = {"[OPTION]... PATH [NAME]", NULL};

#define PUSH_EXIT_CODES                                                                            \
    "0  the file is durable in the repository\n"                                                   \
    "1  it could not be stored; PostgreSQL asks again\n"                                           \
    "2  usage or configuration error\n"

const CliSpec push_spec = {
    .name = "walpush",
    .summary = "Makes one WAL file durable in the repository: archive_command = 'walpush %p'.",
    .usages = push_usages,
    .options = push_options,
    .option_count = ARRAY_COUNT(push_options),
    .min_args = 1,
    .max_args = 2,
    .exit_codes = PUSH_EXIT_CODES,
};

const CliSpec push_direct_spec = {
    .name = "walpush-direct",
    .summary = "The part of walpush that talks to the repository; walpush runs it.",
    .usages = push_usages,
    .options = push_direct_options,
    .option_count = ARRAY_COUNT(push_direct_options),
    .min_args = 1,
    .max_args = 2,
    .exit_codes = PUSH_EXIT_CODES,
};

int
push_read_options(const CliSpec *spec, int argc, char **argv, PushOptions *out, Error *err)
{
    const char *spent;
    uint32_t spent_ms;
    const char *slash;

    out->timeout_ms = PUSH_TIMEOUT_MS;
    if (cli_parse(spec, argc, argv, &out->cli, err) < 0)
        return -1;
    if (out->cli.action != CLI_RUN)
    {
        out->answered = true;
        return cli_answer(spec, &out->cli, err);
    }
    if (cli_duration_ms(&out->cli, "timeout", &out->timeout_ms, err) < 0 ||
        config_load(out->cli.config_file, &out->cli.overrides, &out->cfg, err) < 0)
        return -1;
    spent = cli_value(&out->cli, "spent-ms");
    if (spent != NULL)
    {
        if (!parse_u32(spent, &spent_ms))
            return error_set(err, ERROR_USAGE, "\"%.100s\" is not a number for --spent-ms", spent);
        out->timeout_ms = MAX(out->timeout_ms - (int64_t) spent_ms, 0);
    }
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
