/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The command line: what is taken, what is refused and how, and the text of --help.
 */
#include "common/cli.h"

#include <fcntl.h>
#include <string.h>

#include "common/fs.h"
#include "tap.h"
#include "tempdir.h"

#define MAX_WORDS 8

static const CliOption push_options[] = {
    {"timeout", 't', "DURATION", "How long to try before giving up."},
    {"quiet", 'q', NULL, "Say less."},
    {"force", 'f', NULL, "Do it all the same."},
};
static const char *const push_usages[] = {"[OPTION]... FILE [NAME]", NULL};
static const CliSpec push = {
    .name = "walpush",
    .summary = "walpush makes one WAL file durable.",
    .usages = push_usages,
    .options = push_options,
    .option_count = ARRAY_COUNT(push_options),
    .min_args = 1,
    .max_args = 2,
};

static const CliOption ctl_options[] = {{"output", 'o', "FORMAT", "text or json."}};
static const CliOption check_options[] = {
    {"warn", 'w', "DURATION",
     "A long help text that does not fit into what is left of one line, "
     "and so goes on in the next."},
};
static const char *const ctl_usages[] = {"VERB [OPTION]...", NULL};
static const char *const check_usages[] = {"[OPTION]...", "", NULL};
static const CliSpec ctl_verbs[] = {
    {.name = "check",
     .summary = "Looks for trouble.",
     .usages = check_usages,
     .options = check_options,
     .option_count = ARRAY_COUNT(check_options),
     .exit_codes = "0  ok\n3  unknown\n"},
    {.name = "expire", .summary = "Removes.", .usages = check_usages, .min_args = 1, .max_args = 1},
};
static const CliSpec ctl = {
    .name = "walctl",
    .summary = "walctl looks after a repository.",
    .usages = ctl_usages,
    .options = ctl_options,
    .option_count = ARRAY_COUNT(ctl_options),
    .verbs = ctl_verbs,
    .verb_count = ARRAY_COUNT(ctl_verbs),
};

/* words is NULL-terminated, without the program's name. */
static int
parse(const CliSpec *spec, const char *const *words, CliResult *out, Error *err)
{
    static char copies[MAX_WORDS + 1][200];
    char *argv[MAX_WORDS + 2] = {copies[0]};
    int argc = 1;

    (void) snprintf(copies[0], sizeof copies[0], "/usr/bin/%s", spec->name);
    for (; words[argc - 1] != NULL; argc++)
    {
        (void) snprintf(copies[argc], sizeof copies[0], "%s", words[argc - 1]);
        argv[argc] = copies[argc];
    }
    *err = (Error){.kind = ERROR_NONE};
    return cli_parse(spec, argc, argv, out, err);
}

/* All of a result in one line: "verb|option=value,...|config|override,...|argument,...". */
static const char *
describe(const CliResult *res, char *buf, size_t len)
{
    size_t used = (size_t) snprintf(buf, len, "%s|", res->verb != NULL ? res->verb->name : "");

    for (size_t i = 0; i < res->given_count; i++)
        used += (size_t) snprintf(
            buf + used, len - used, "%s%s=%s", i > 0 ? "," : "", res->given[i].option->name,
            res->given[i].value);
    used += (size_t) snprintf(
        buf + used, len - used, "|%s|", res->config_file != NULL ? res->config_file : "");
    for (size_t i = 0; i < res->overrides.count; i++)
        used += (size_t) snprintf(
            buf + used, len - used, "%s%s", i > 0 ? "," : "", res->overrides.args[i]);
    used += (size_t) snprintf(buf + used, len - used, "|");
    for (size_t i = 0; i < res->arg_count; i++)
        used += (size_t) snprintf(buf + used, len - used, "%s%s", i > 0 ? "," : "", res->args[i]);
    return buf;
}

static void
test_good(void)
{
    static const struct
    {
        const char *label;
        const CliSpec *spec;
        const char *words[MAX_WORDS];
        const char *want;
    } cases[] = {
        {"one argument", &push, {"a"}, "||||a"},
        {"two arguments", &push, {"a", "b"}, "||||a,b"},
        {"a dash is an argument", &push, {"-"}, "||||-"},
        {"an empty argument", &push, {""}, "||||"},
        {"value in the same word", &push, {"--timeout=5s", "a"}, "|timeout=5s|||a"},
        {"value in the next word", &push, {"--timeout", "5s", "a"}, "|timeout=5s|||a"},
        {"empty value", &push, {"--timeout=", "a"}, "|timeout=|||a"},
        {"value with an equals sign", &push, {"--timeout=a=b", "a"}, "|timeout=a=b|||a"},
        {"value like an option", &push, {"--timeout", "--quiet", "a"}, "|timeout=--quiet|||a"},
        {"letter, next word", &push, {"-t", "5s", "a"}, "|timeout=5s|||a"},
        {"letter, same word", &push, {"-t5s", "a"}, "|timeout=5s|||a"},
        {"letters in one word", &push, {"-qft5s", "a"}, "|quiet=,force=,timeout=5s|||a"},
        {"letters, value in the next word", &push, {"-qt", "5s", "a"}, "|quiet=,timeout=5s|||a"},
        {"option behind the argument", &push, {"a", "--quiet"}, "|quiet=|||a"},
        {"behind -- all are arguments", &push, {"--", "--quiet", "-t"}, "||||--quiet,-t"},
        {"-- as a value", &push, {"--timeout", "--", "a"}, "|timeout=--|||a"},
        {"configuration file", &push, {"--config=/x", "a"}, "||/x||a"},
        {"configuration file by letter", &push, {"-c", "/x", "a"}, "||/x||a"},
        {"the last one counts", &push, {"--config=/x", "a", "--config=/y"}, "||/y||a"},
        {"overrides",
         &push,
         {"--stream.workers=1", "a", "--log.level=info"},
         "|||--stream.workers=1,--log.level=info|a"},
        {"unknown keys are the configuration's matter",
         &push,
         {"--stream.x=1", "a"},
         "|||--stream.x=1|a"},
        {"log settings are overrides",
         &push,
         {"--log-level=debug", "--log-format", "json", "a"},
         "|||--log.level=debug,--log.format=json|a"},
        {"verb", &ctl, {"check"}, "check||||"},
        {"verb with options",
         &ctl,
         {"check", "--warn=1s", "-ojson"},
         "check|warn=1s,output=json|||"},
        {"options before the verb",
         &ctl,
         {"--output=json", "-c/x", "expire", "b"},
         "expire|output=json|/x||b"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(cli_reset) CliResult res = {0};
        char got[1024] = "";
        Error err;
        int rc = parse(cases[i].spec, cases[i].words, &res, &err);

        if (!ok(rc == 0 && res.action == CLI_RUN &&
                    strcmp(describe(&res, got, sizeof got), cases[i].want) == 0,
                "%s", cases[i].label))
            diag("%d %s %s", rc, got, err.msg);
    }
}

static void
test_bad(void)
{
    static const struct
    {
        const char *label;
        const CliSpec *spec;
        const char *words[MAX_WORDS];
        const char *message, *hint;
    } cases[] = {
        {"no argument", &push, {NULL}, "an argument is missing", "Try \"walpush --help\"."},
        {"too many",
         &push,
         {"a", "b", "c"},
         "unexpected argument \"c\"",
         "Try \"walpush --help\"."},
        {"unknown option",
         &push,
         {"--fast", "a"},
         "unknown option \"--fast\"",
         "Try \"walpush --help\"."},
        {"unknown option with value",
         &push,
         {"--fast=1", "a"},
         "unknown option \"--fast\"",
         "Try \"walpush --help\"."},
        {"no abbreviation",
         &push,
         {"--time=1", "a"},
         "unknown option \"--time\"",
         "Try \"walpush --help\"."},
        {"no extension",
         &push,
         {"--timeouts=1", "a"},
         "unknown option \"--timeouts\"",
         "Try \"walpush --help\"."},
        {"unknown letter", &push, {"-x", "a"}, "unknown option \"-x\"", "Try \"walpush --help\"."},
        {"unknown letter among others",
         &push,
         {"-qx", "a"},
         "unknown option \"-x\"",
         "Try \"walpush --help\"."},
        {"a letter that is none",
         &push,
         {"-\x1b", "a"},
         "unknown option \"-?\"",
         "Try \"walpush --help\"."},
        {"value missing",
         &push,
         {"a", "--timeout"},
         "option \"--timeout\" needs an argument: DURATION",
         "Try \"walpush --help\"."},
        {"value missing by letter",
         &push,
         {"a", "-t"},
         "option \"--timeout\" needs an argument: DURATION",
         "Try \"walpush --help\"."},
        {"value not wanted",
         &push,
         {"a", "--quiet=1"},
         "option \"--quiet\" takes no argument",
         "Try \"walpush --help\"."},
        {"empty configuration file",
         &push,
         {"--config=", "a"},
         "the argument of option \"--config\" is empty",
         "Try \"walpush --help\"."},
        {"override without value",
         &push,
         {"--stream.workers", "1"},
         "option \"--stream.workers\" needs its value in the same word, --section.key=value",
         "Try \"walpush --help\"."},
        {"override of no section",
         &push,
         {"--streams.workers=1"},
         "unknown option \"--streams.workers\"",
         "Try \"walpush --help\"."},
        {"unknown level",
         &push,
         {"--log-level=loud", "a"},
         "\"loud\" is not allowed for option \"--log-level\"",
         "Try \"walpush --help\"."},
        {"level of the other one",
         &push,
         {"--log-level=json", "a"},
         "\"json\" is not allowed for option \"--log-level\"",
         "Try \"walpush --help\"."},
        {"no verb", &ctl, {NULL}, "a verb is missing", "Try \"walctl --help\"."},
        {"unknown verb", &ctl, {"chec"}, "unknown verb \"chec\"", "Try \"walctl --help\"."},
        {"argument of a verb without",
         &ctl,
         {"check", "x"},
         "unexpected argument \"x\"",
         "Try \"walctl check --help\"."},
        {"argument of a verb missing",
         &ctl,
         {"expire"},
         "an argument is missing",
         "Try \"walctl expire --help\"."},
        {"option of another verb",
         &ctl,
         {"expire", "--warn=1s"},
         "unknown option \"--warn\"",
         "Try \"walctl expire --help\"."},
        {"option of a verb before it",
         &ctl,
         {"--warn=1s", "check"},
         "unknown option \"--warn\"",
         "Try \"walctl --help\"."},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(cli_reset) CliResult res = {0};
        Error err;
        int rc = parse(cases[i].spec, cases[i].words, &res, &err);

        if (!ok(rc == -1 && err.kind == ERROR_USAGE && strcmp(err.msg, cases[i].message) == 0 &&
                    strcmp(err.hint, cases[i].hint) == 0,
                "%s: %s", cases[i].label, cases[i].message))
            diag("%d %s; %s", rc, err.msg, err.hint);
    }
}

static void
test_values(void)
{
    static const struct
    {
        const char *label;
        const char *words[MAX_WORDS];
        int rc;
        int64_t want;
    } cases[] = {
        {"not given", {"a"}, 0, 77},
        {"given", {"a", "--timeout=5min"}, 0, 300000},
        {"twice, the last one counts", {"a", "--timeout=5min", "-t1"}, 0, 1000},
        {"not a time", {"a", "--timeout=soon"}, -1, 77},
        {"empty", {"a", "--timeout="}, -1, 77},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(cli_reset) CliResult res = {0};
        int64_t ms = 77;
        Error err;
        int rc = parse(&push, cases[i].words, &res, &err);

        if (rc == 0)
            rc = cli_duration_ms(&res, "timeout", &ms, &err);
        ok(rc == cases[i].rc && ms == cases[i].want &&
               (rc == 0 || (err.kind == ERROR_USAGE && strstr(err.msg, "--timeout") != NULL)),
           "duration %s", cases[i].label);
    }

    AUTO(cli_reset) CliResult res = {0};
    static const char *const words[] = {"-q", "a", NULL};
    Error err;

    ok(parse(&push, words, &res, &err) == 0 && strcmp(cli_value(&res, "quiet"), "") == 0 &&
           cli_value(&res, "force") == NULL && cli_value(&res, "nonsense") == NULL,
       "cli_value");
}

/* Runs cli_answer with stdout in a file; the text is the caller's. */
static char *
answer(const CliSpec *spec, const char *const *words, CliAction want)
{
    AUTO(cli_reset) CliResult res = {0};
    const char *path = tempdir_name("stdout");
    char *text = NULL;
    size_t len;
    Error err;

    if (parse(spec, words, &res, &err) < 0 || res.action != want)
        return NULL;
    (void) fflush(stdout);

    AUTO(fd_close) int saved = dup(STDOUT_FILENO);
    AUTO(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    (void) dup2(fd, STDOUT_FILENO);

    int rc = cli_answer(spec, &res, &err);

    (void) dup2(saved, STDOUT_FILENO);
    if (rc < 0 || fs_read_file(path, 100000, &text, &len, &err) < 0)
        return NULL;
    return text;
}

static bool
narrow(const char *text)
{
    while (*text != '\0')
    {
        size_t line = strcspn(text, "\n");

        if (line > 80 || (line > 0 && text[line - 1] == ' '))
            return false;
        text += line + (text[line] != '\0');
    }
    return true;
}

static void
test_help(void)
{
    static const struct
    {
        const char *label;
        const CliSpec *spec;
        const char *words[MAX_WORDS];
        const char *begins;
        const char *holds[6];
    } cases[] = {
        {"of a tool",
         &push,
         {"--help"},
         "walpush makes one WAL file durable.\n\nUsage:\n  walpush [OPTION]... FILE [NAME]\n\n"
         "Options:\n  -t, --timeout=DURATION     How long to try before giving up.\n"
         "  -q, --quiet                Say less.\n",
         {"  -c, --config=FILE ", "      --log-level=LEVEL ", "  -V, --version ",
          "stream: slot flush-interval ",
          "\nExit codes:\n  0  done\n  1  failed, with a message on stderr\n  2  "}},
        {"beats what is wrong behind it",
         &push,
         {"-qh", "--nonsense"},
         "walpush makes one WAL file durable.\n\nUsage:\n",
         {NULL}},
        {"of a tool with verbs",
         &ctl,
         {"--help", "check"},
         "walctl looks after a repository.\n\nUsage:\n  walctl VERB [OPTION]...\n\nVerbs:\n"
         "  check                      Looks for trouble.\n",
         {"  expire                     Removes.\n", "\nOptions:\n  -o, --output=FORMAT "}},
        {"of a verb",
         &ctl,
         {"check", "--help"},
         "Looks for trouble.\n\nUsage:\n  walctl check [OPTION]...\n  walctl check\n\n"
         "Options of this verb:\n  -w, --warn=DURATION        A long help text that does not fit "
         "into what is\n                             left of one line, and so goes on in the "
         "next.\n",
         {"\nOptions:\n  -o, --output=FORMAT ", "\nExit codes:\n  0  ok\n  3  unknown\n"}},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(free_text) char *text = answer(cases[i].spec, cases[i].words, CLI_HELP);
        bool good = text != NULL && narrow(text) &&
                    strncmp(text, cases[i].begins, strlen(cases[i].begins)) == 0;

        for (size_t j = 0; good && j < 6 && cases[i].holds[j] != NULL; j++)
            good = strstr(text, cases[i].holds[j]) != NULL;
        if (!ok(good, "help %s", cases[i].label))
            diag("%s", text != NULL ? text : "none");
    }

    static const char *const words[] = {"--version", NULL};
    AUTO(free_text) char *text = answer(&push, words, CLI_VERSION);

    ok(text != NULL && strcmp(text, "walpush (walstream) " WALSTREAM_VERSION "\n") == 0, "version");
}

/* What the command line said, in a configuration. */
static void
test_with_config(void)
{
    static const char conf[] = "[cluster]\nname = a\n[repository]\nurl = u\n[log]\nlevel = error\n";
    const char *path = tempdir_write("c.conf", conf, strlen(conf));
    const char *words[] = {"--config", path, "--log-level=debug", "--cluster.name=b", "x", NULL};
    AUTO(cli_reset) CliResult res = {0};
    AUTO(config_freep) Config *cfg = NULL;
    Error err;

    ok(parse(&push, words, &res, &err) == 0 &&
           config_load(res.config_file, &res.overrides, &cfg, &err) == 0 &&
           strcmp(cfg->cluster.name, "b") == 0 && strcmp(cfg->log.level, "debug") == 0,
       "overrides reach the configuration");
}

static void
test_empty(void)
{
    AUTO(cli_reset) CliResult res = {0};
    char *argv[] = {NULL};
    Error err;

    ok(cli_parse(&push, 0, argv, &res, &err) == -1 && err.kind == ERROR_USAGE,
       "a command line without even a name");
}

int
main(void)
{
    (void) tempdir_make();
    test_good();
    test_bad();
    test_values();
    test_help();
    test_with_config();
    test_empty();
    return done_testing();
}
