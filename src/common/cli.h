/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The command line, the same for all tools. A tool declares its options, and its verbs if it has
 * some, in a CliSpec; every tool also knows
 *   -h --help, -V --version, -c --config=FILE, --log-level=LEVEL, --log-format=FORMAT and
 *   --section.key=value, which overrides the configuration.
 * --name=value and --name value are the same, as are -x value and -xvalue; "--" ends the options.
 * An option given twice counts as given last. Options may stand before, between and behind the
 * arguments; those of a verb stand behind it.
 *
 * This file is linked into the statically linked fast paths: libc only.
 */
#ifndef WALSTREAM_CLI_H
#define WALSTREAM_CLI_H

#include "common/config.h"

typedef struct CliOption
{
    const char *name;     /* long name, without dashes */
    char letter;          /* short name; 0: none */
    const char *argument; /* what its argument is, "DURATION"; NULL: takes none */
    const char *help;     /* one sentence */
} CliOption;

/* A tool, or a verb of one; all texts and tables are static. */
typedef struct CliSpec
{
    const char *name;          /* "walpush"; of a verb "check" */
    const char *summary;       /* one sentence, for --help */
    const char *const *usages; /* what may follow the name, a line each; NULL-terminated */
    const CliOption *options;  /* beside the common ones */
    size_t option_count;
    size_t min_args, max_args;   /* arguments that are no options; of a tool with verbs: unused */
    const struct CliSpec *verbs; /* the first argument is one of them; NULL: no verbs */
    size_t verb_count;
    const char *exit_codes; /* lines for --help, "0  done\n1  failed\n"; NULL: the usual three */
} CliSpec;

typedef enum CliAction
{
    CLI_RUN,
    CLI_HELP,   /* cli_answer, then exit 0 */
    CLI_VERSION /* the same */
} CliAction;

typedef struct CliGiven
{
    const CliOption *option;
    const char *value; /* "" if it takes none */
} CliGiven;

/* All texts are borrowed from argv. */
typedef struct CliResult
{
    CliAction action;
    const CliSpec *verb;     /* NULL: the tool has none */
    const char *config_file; /* for config_load; NULL: not given */
    ConfigOverrides overrides;
    const char **args; /* arguments that are no options, without the verb */
    size_t arg_count;

    CliGiven *given; /* options of the tool's and the verb's tables in the order given */
    size_t given_count;
    const char **override_args;
} CliResult;

/*
 * Reads the command line.
 *
 * argc, argv  as main got them; argv[0] is passed over
 * out         for cli_reset; on --help or --version nothing behind it is looked at
 * Errors      USAGE, naming the option or argument, with the hint to try --help; NOMEM
 */
MUST_CHECK int cli_parse(const CliSpec *spec, int argc, char **argv, CliResult *out, Error *err);
void cli_reset(CliResult *res); /* fit for AUTO, also before cli_parse on a zeroed one */

/* The option's argument, "" for one that takes none, NULL if it was not given. */
const char *cli_value(const CliResult *res, const char *name);

/* The option's argument as a duration; *out is left alone if it was not given. Errors: USAGE. */
MUST_CHECK int cli_duration_ms(const CliResult *res, const char *name, int64_t *out, Error *err);

/* Prints what --help or --version asked for on stdout. Errors: IO */
MUST_CHECK int cli_answer(const CliSpec *spec, const CliResult *res, Error *err);

/* log_open as the configuration says. */
void cli_open_log(const char *program, const Config *cfg);

#endif
