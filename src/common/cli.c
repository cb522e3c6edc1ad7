/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The command line; see cli.h.
 */
#include "common/cli.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/parse.h"

#define CLI_HELP_COLUMN 29
#define CLI_HELP_WIDTH 80

typedef enum CliCommon
{
    CLI_OPT_CONFIG,
    CLI_OPT_LOG_LEVEL,
    CLI_OPT_LOG_FORMAT,
    CLI_OPT_HELP,
    CLI_OPT_VERSION,
    CLI_OPT_COUNT
} CliCommon;

static const CliOption cli_common[] = {
    [CLI_OPT_CONFIG] =
        {"config", 'c', "FILE",
         "Configuration file; otherwise that of the environment variable WALSTREAM_CONFIG, or "
         "/etc/walstream/walstream.conf."},
    [CLI_OPT_LOG_LEVEL] =
        {"log-level", 0, "LEVEL",
         "Least level of the messages on stderr: debug, info, warning or error."},
    [CLI_OPT_LOG_FORMAT] = {"log-format", 0, "FORMAT", "Form of these messages: text or json."},
    [CLI_OPT_HELP] = {"help", 'h', NULL, "Print this text."},
    [CLI_OPT_VERSION] = {"version", 'V', NULL, "Print the version."},
};
static_assert(ARRAY_COUNT(cli_common) == CLI_OPT_COUNT, "an option for each");

/* The two short forms of configuration options, as the overrides that they stand for. */
static const struct
{
    CliCommon option;
    const char *value;
    const char *override;
} cli_log_overrides[] = {
    {CLI_OPT_LOG_LEVEL, "debug", "--log.level=debug"},
    {CLI_OPT_LOG_LEVEL, "info", "--log.level=info"},
    {CLI_OPT_LOG_LEVEL, "warning", "--log.level=warning"},
    {CLI_OPT_LOG_LEVEL, "error", "--log.level=error"},
    {CLI_OPT_LOG_FORMAT, "text", "--log.format=text"},
    {CLI_OPT_LOG_FORMAT, "json", "--log.format=json"},
};

typedef struct CliReader
{
    const CliSpec *spec;
    char **argv;
    int argc;
    int next; /* index of the first one not read yet */
    CliResult *res;
    Error *err;
} CliReader;

PRINTF_LIKE(2, 3)
static int
cli_refuse(const CliReader *rd, const char *fmt, ...)
{
    char msg[512];
    va_list ap;

    va_start(ap, fmt);
    (void) vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    (void) error_set(rd->err, ERROR_USAGE, "%s", msg);
    if (rd->res->verb != NULL)
        return error_hint(rd->err, "Try \"%s %s --help\".", rd->spec->name, rd->res->verb->name);
    return error_hint(rd->err, "Try \"%s --help\".", rd->spec->name);
}

/* ---- finding options ---- */

/* name need not be terminated; NULL: look for the letter. */
static const CliOption *
cli_find_in(const CliOption *options, size_t count, const char *name, size_t len, char letter)
{
    for (size_t i = 0; i < count; i++)
    {
        if (name == NULL
                ? options[i].letter == letter
                : strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0)
            return &options[i];
    }
    return NULL;
}

/* The verb's own first, then the tool's, then the common ones. */
static const CliOption *
cli_find(const CliReader *rd, const char *name, size_t len, char letter)
{
    const CliSpec *verb = rd->res->verb;
    const CliOption *opt = NULL;

    if (verb != NULL)
        opt = cli_find_in(verb->options, verb->option_count, name, len, letter);
    if (opt == NULL)
        opt = cli_find_in(rd->spec->options, rd->spec->option_count, name, len, letter);
    if (opt == NULL)
        opt = cli_find_in(cli_common, CLI_OPT_COUNT, name, len, letter);
    return opt;
}

/* ---- taking them ---- */

static int
cli_take_log_option(const CliReader *rd, CliCommon which, const char *value)
{
    for (size_t i = 0; i < ARRAY_COUNT(cli_log_overrides); i++)
    {
        if (cli_log_overrides[i].option == which && strcmp(cli_log_overrides[i].value, value) == 0)
        {
            rd->res->override_args[rd->res->overrides.count++] = cli_log_overrides[i].override;
            return 0;
        }
    }
    return cli_refuse(
        rd, "\"%.100s\" is not allowed for option \"--%s\"", value, cli_common[which].name);
}

static int
cli_take(const CliReader *rd, const CliOption *opt, const char *value)
{
    CliResult *res = rd->res;

    if (opt < cli_common || opt >= cli_common + CLI_OPT_COUNT)
    {
        res->given[res->given_count++] = (CliGiven){.option = opt, .value = value};
        return 0;
    }
    switch ((CliCommon) (opt - cli_common))
    {
        case CLI_OPT_CONFIG:
            if (value[0] == '\0')
                return cli_refuse(rd, "the argument of option \"--config\" is empty");
            res->config_file = value;
            break;
        case CLI_OPT_LOG_LEVEL:
        case CLI_OPT_LOG_FORMAT:
            return cli_take_log_option(rd, (CliCommon) (opt - cli_common), value);
        case CLI_OPT_HELP:
            res->action = CLI_HELP;
            break;
        case CLI_OPT_VERSION:
            res->action = CLI_VERSION;
            break;
        case CLI_OPT_COUNT:
            break;
    }
    return 0;
}

/* attached: the value written in the same word, NULL if there is none. */
static int
cli_take_with_value(CliReader *rd, const CliOption *opt, const char *attached)
{
    if (opt->argument == NULL)
    {
        if (attached != NULL)
            return cli_refuse(rd, "option \"--%s\" takes no argument", opt->name);
        return cli_take(rd, opt, "");
    }
    if (attached != NULL)
        return cli_take(rd, opt, attached);
    if (rd->next == rd->argc)
        return cli_refuse(rd, "option \"--%s\" needs an argument: %s", opt->name, opt->argument);
    return cli_take(rd, opt, rd->argv[rd->next++]);
}

static int
cli_read_long(CliReader *rd, const char *word)
{
    const char *name = word + 2;
    size_t len = strcspn(name, "=");
    const CliOption *opt;

    if (config_is_override(word))
    {
        rd->res->override_args[rd->res->overrides.count++] = word;
        return 0;
    }
    opt = cli_find(rd, name, len, 0);
    if (opt != NULL)
        return cli_take_with_value(rd, opt, name[len] == '=' ? name + len + 1 : NULL);
    if (memchr(name, '.', len) != NULL && name[len] == '\0')
        return cli_refuse(
            rd,
            "option \"%.100s\" needs its value in the same word, "
            "--section.key=value",
            word);
    return cli_refuse(rd, "unknown option \"--%.*s\"", (int) MIN(len, 100), name);
}

/* One word may hold several letters; the first that takes an argument takes the rest of it. */
static int
cli_read_letters(CliReader *rd, const char *word)
{
    for (const char *p = word + 1; *p != '\0' && rd->res->action == CLI_RUN; p++)
    {
        const CliOption *opt = cli_find(rd, NULL, 0, *p);

        if (opt == NULL)
            return cli_refuse(rd, "unknown option \"-%c\"", *p >= 0x20 && *p < 0x7f ? *p : '?');
        if (opt->argument != NULL)
            return cli_take_with_value(rd, opt, p[1] != '\0' ? p + 1 : NULL);
        if (cli_take(rd, opt, "") < 0)
            return -1;
    }
    return 0;
}

static int
cli_read_argument(CliReader *rd, const char *word)
{
    CliResult *res = rd->res;
    const CliSpec *spec = res->verb != NULL ? res->verb : rd->spec;

    if (spec->verbs != NULL)
    {
        for (size_t i = 0; i < spec->verb_count; i++)
        {
            if (strcmp(spec->verbs[i].name, word) == 0)
            {
                res->verb = &spec->verbs[i];
                return 0;
            }
        }
        return cli_refuse(rd, "unknown verb \"%.100s\"", word);
    }
    if (res->arg_count == spec->max_args)
        return cli_refuse(rd, "unexpected argument \"%.100s\"", word);
    res->args[res->arg_count++] = word;
    return 0;
}

static int
cli_read_all(CliReader *rd)
{
    CliResult *res = rd->res;
    bool options = true;

    while (rd->next < rd->argc && res->action == CLI_RUN)
    {
        const char *word = rd->argv[rd->next++];
        int rc;

        if (!options || word[0] != '-' || word[1] == '\0')
            rc = cli_read_argument(rd, word);
        else if (strcmp(word, "--") == 0)
        {
            options = false;
            rc = 0;
        }
        else if (word[1] == '-')
            rc = cli_read_long(rd, word);
        else
            rc = cli_read_letters(rd, word);
        if (rc < 0)
            return -1;
    }
    if (res->action != CLI_RUN)
        return 0;
    if (rd->spec->verbs != NULL && res->verb == NULL)
        return cli_refuse(rd, "a verb is missing");
    if (res->arg_count < (res->verb != NULL ? res->verb : rd->spec)->min_args)
        return cli_refuse(rd, "an argument is missing");
    return 0;
}

int
cli_parse(const CliSpec *spec, int argc, char **argv, CliResult *out, Error *err)
{
    CliReader rd = {
        .spec = spec, .argv = argv, .argc = argc, .next = argc > 0 ? 1 : 0, .res = out, .err = err};
    /* letters in one word are options too; no word can give more than it is long */
    size_t words = 1, letters = 1;

    for (int i = 1; i < argc; i++)
    {
        words++;
        letters += argv[i][0] == '-' && argv[i][1] != '-' ? strlen(argv[i]) : 1;
    }
    *out = (CliResult){.action = CLI_RUN};
    out->args = calloc(words, sizeof *out->args);
    out->override_args = calloc(words, sizeof *out->override_args);
    out->given = calloc(letters, sizeof *out->given);
    if (out->args == NULL || out->override_args == NULL || out->given == NULL)
        return error_nomem(err);
    out->overrides.args = out->override_args;
    return cli_read_all(&rd);
}

void
cli_reset(CliResult *res)
{
    free(res->args);
    free(res->override_args);
    free(res->given);
    *res = (CliResult){.action = CLI_RUN};
}

/* ---- what was given ---- */

const char *
cli_value(const CliResult *res, const char *name)
{
    for (size_t i = res->given_count; i > 0; i--)
    {
        if (strcmp(res->given[i - 1].option->name, name) == 0)
            return res->given[i - 1].value;
    }
    return NULL;
}

int
cli_duration_ms(const CliResult *res, const char *name, int64_t *out, Error *err)
{
    const char *text = cli_value(res, name);

    if (text == NULL || parse_duration_ms(text, out))
        return 0;
    return error_set(
        err, ERROR_USAGE,
        "\"%.100s\" is not a time, as option \"--%s\" needs: a whole number and ms, s, min, h or d",
        text, name);
}

/* ---- help ---- */

/* Prints text from column on, broken at blanks; the cursor stands at column used. */
static void
cli_print_wrapped(FILE *to, const char *text, int column, int used)
{
    bool fresh = true;

    if (used > 0 && used >= column)
    {
        (void) fputc('\n', to);
        used = 0;
    }
    (void) fprintf(to, "%*s", column - used, "");
    used = column;
    while (*text != '\0')
    {
        int word = (int) strcspn(text, " ");

        if (!fresh && used + 1 + word > CLI_HELP_WIDTH)
        {
            (void) fprintf(to, "\n%*s", column, "");
            used = column;
            fresh = true;
        }
        used += fprintf(to, "%s%.*s", fresh ? "" : " ", word, text);
        fresh = false;
        text += word;
        text += strspn(text, " ");
    }
    (void) fputc('\n', to);
}

static void
cli_print_options(FILE *to, const char *title, const CliOption *options, size_t count)
{
    if (count == 0)
        return;
    (void) fprintf(to, "\n%s:\n", title);
    for (size_t i = 0; i < count; i++)
    {
        const CliOption *opt = &options[i];
        char letter[] = {'-', opt->letter, ',', '\0'};
        int used = fprintf(
            to, "  %3s --%s%s%s", opt->letter != 0 ? letter : "", opt->name,
            opt->argument != NULL ? "=" : "", opt->argument != NULL ? opt->argument : "");

        cli_print_wrapped(to, opt->help, CLI_HELP_COLUMN, used);
    }
}

/* The keys of each section, from the table. */
static void
cli_print_keys(FILE *to)
{
    cli_print_wrapped(
        to, "Overrides an option of the configuration, see walstream.conf(5):", CLI_HELP_COLUMN,
        fprintf(to, "      --SECTION.KEY=VALUE"));
    for (size_t i = 0; i < config_option_count;)
    {
        const char *section = config_options[i].section;
        char line[512];
        size_t used = (size_t) snprintf(line, sizeof line, "%s:", section);

        for (; i < config_option_count && strcmp(config_options[i].section, section) == 0; i++)
        {
            if (used < sizeof line)
                used += (size_t) snprintf(
                    line + used, sizeof line - used, " %s", config_options[i].key);
        }
        cli_print_wrapped(to, line, CLI_HELP_COLUMN, 0);
    }
}

static void
cli_print_help(FILE *to, const CliSpec *spec, const CliSpec *verb)
{
    const CliSpec *subject = verb != NULL ? verb : spec;
    const char *exit_codes = subject->exit_codes != NULL ? subject->exit_codes : spec->exit_codes;

    cli_print_wrapped(to, subject->summary, 0, 0);
    (void) fprintf(to, "\nUsage:\n");
    for (const char *const *usage = subject->usages; *usage != NULL; usage++)
        (void) fprintf(
            to, "  %s%s%s%s%s\n", spec->name, verb != NULL ? " " : "",
            verb != NULL ? verb->name : "", (*usage)[0] != '\0' ? " " : "", *usage);
    if (subject->verbs != NULL)
    {
        (void) fprintf(to, "\nVerbs:\n");
        for (size_t i = 0; i < subject->verb_count; i++)
            cli_print_wrapped(
                to, subject->verbs[i].summary, CLI_HELP_COLUMN,
                fprintf(to, "  %s", subject->verbs[i].name));
    }
    if (verb != NULL)
        cli_print_options(to, "Options of this verb", verb->options, verb->option_count);
    cli_print_options(to, "Options", spec->options, spec->option_count);
    cli_print_options(to, "Options of all programs", cli_common, CLI_OPT_COUNT);
    cli_print_keys(to);
    (void) fprintf(to, "\nExit codes:\n");
    if (exit_codes == NULL)
        exit_codes =
            "0  done\n1  failed, with a message on stderr\n2  wrong usage or configuration\n";
    while (*exit_codes != '\0')
    {
        int line = (int) strcspn(exit_codes, "\n");

        (void) fprintf(to, "  %.*s\n", line, exit_codes);
        exit_codes += line;
        exit_codes += strspn(exit_codes, "\n");
    }
}

int
cli_answer(const CliSpec *spec, const CliResult *res, Error *err)
{
    if (res->action == CLI_HELP)
        cli_print_help(stdout, spec, res->verb);
    else if (res->action == CLI_VERSION)
        (void) printf("%s (walstream) %s\n", spec->name, WALSTREAM_VERSION);
    if (fflush(stdout) != 0 || ferror(stdout))
        return error_sys(err, "could not write to stdout");
    return 0;
}

void
cli_open_log(const char *program, const Config *cfg)
{
    LogLevel least = LOG_INFO;
    LogFormat format = LOG_FORMAT_TEXT;
    bool known = log_parse_level(cfg->log.level, &least);

    known = log_parse_format(cfg->log.format, &format) && known;
    assert(known); /* the table of options allows nothing else */
    (void) known;
    log_open(program, least, format);
}
