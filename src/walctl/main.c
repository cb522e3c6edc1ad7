/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walctl: what a person does with a repository, a verb each.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/parse.h"
#include "walctl/walctl.h"

#define OUTPUT_OPTION                                                                              \
    {                                                                                              \
        "output", 'o', "FORMAT", "text (default) or json."                                         \
    }

#define SYSTEM_IDENTIFIER_OPTION                                                                   \
    {                                                                                              \
        "system-identifier", 0, "NUMBER",                                                          \
            "Which of several clusters under the configured name; otherwise the only one."         \
    }
#define TIMEOUT_OPTION                                                                             \
    {                                                                                              \
        "timeout", 't', "DURATION",                                                                \
            "How long to try each object, or each request of a listing; default 60s."              \
    }

static const CliOption plain_options[] = {OUTPUT_OPTION};

static const CliOption info_options[] = {OUTPUT_OPTION, SYSTEM_IDENTIFIER_OPTION, TIMEOUT_OPTION};

static const CliOption verify_options[] = {
    {"wal", 0, NULL, "Verify the WAL only."},
    {"backups", 0, NULL, "Verify the backups only."},
    {"backup", 0, "LABEL", "Only this backup, those it builds on, and the WAL that it needs."},
    {"since", 0, "TIME", "Only what was stored since then: a time, or how long ago, as 7d."},
    {"sample", 0, "PERCENT", "A part of it, another one each time; 1 to 100."},
    {"shard", 0, "I/N", "The I-th of N equal shares, for several machines."},
    {"timeline", 0, "NUMBER", "Only the WAL of this timeline; otherwise of all."},
    {"jobs", 'j', "NUMBER", "How many objects to read at once, 1 to 64; default 4."},
    OUTPUT_OPTION,
    SYSTEM_IDENTIFIER_OPTION,
    TIMEOUT_OPTION,
};

#define DRY_RUN_OPTION                                                                             \
    {                                                                                              \
        "dry-run", 'n', NULL, "Only tell what would be removed."                                   \
    }

static const CliOption expire_options[] = {
    DRY_RUN_OPTION,
    OUTPUT_OPTION,
    SYSTEM_IDENTIFIER_OPTION,
    TIMEOUT_OPTION,
};

static const CliOption pin_options[] = {
    {"until", 0, "TIME", "How long: a time, or a duration from now, as 90d; otherwise for ever."},
    OUTPUT_OPTION,
    SYSTEM_IDENTIFIER_OPTION,
    TIMEOUT_OPTION,
};

static const CliOption backup_options[] = {
    DRY_RUN_OPTION,
    {"yes", 'y', NULL, "Do not ask."},
    {"force", 0, NULL, "Also if it is pinned, or nothing could be restored without it."},
    OUTPUT_OPTION,
    SYSTEM_IDENTIFIER_OPTION,
    TIMEOUT_OPTION,
};

static const char *const no_arguments[] = {"[OPTION]...", NULL};
static const char *const keygen_usages[] = {"[OPTION]... FILE", NULL};
static const char *const label_usages[] = {"[OPTION]... LABEL", NULL};
static const char *const backup_usages[] = {"delete [OPTION]... LABEL", NULL};
static const char *const walctl_usages[] = {"VERB [OPTION]...", NULL};

static const CliSpec walctl_verbs[] = {
    {.name = "init",
     .summary = "Create the cluster in the repository and try what the tools need of the store.",
     .usages = no_arguments,
     .options = plain_options,
     .option_count = ARRAY_COUNT(plain_options)},
    {.name = "keygen",
     .summary = "Make a key pair: the identity into FILE, the recipient to the screen.",
     .usages = keygen_usages,
     .options = plain_options,
     .option_count = ARRAY_COUNT(plain_options),
     .min_args = 1,
     .max_args = 1},
    {.name = "config",
     .summary = "Print the settings in effect and where each comes from.",
     .usages = no_arguments,
     .options = plain_options,
     .option_count = ARRAY_COUNT(plain_options)},
    {.name = "info",
     .summary =
         "Tell what backups and WAL the repository holds, what is missing, what can be restored.",
     .usages = no_arguments,
     .options = info_options,
     .option_count = ARRAY_COUNT(info_options),
     .exit_codes = "0  done, whatever was found\n"
                   "1  failed, with a message on stderr\n"
                   "2  wrong usage or configuration\n"},
    {.name = "verify",
     .summary = "Read everything back and check it.",
     .usages = no_arguments,
     .options = verify_options,
     .option_count = ARRAY_COUNT(verify_options),
     .exit_codes = "0  all of it is there and good\n"
                   "1  something is damaged, missing, or could not be verified\n"
                   "2  wrong usage or configuration\n"},
    {.name = "expire",
     .summary = "Remove what [retention] does not keep, and what was left behind.",
     .usages = no_arguments,
     .options = expire_options,
     .option_count = ARRAY_COUNT(expire_options),
     .exit_codes = "0  done; what the store does not let be removed was passed over\n"
                   "1  failed, in part or as a whole, or a manifest is damaged\n"
                   "2  wrong usage or configuration\n"},
    {.name = "pin",
     .summary = "Keep a backup, whatever [retention] says.",
     .usages = label_usages,
     .options = pin_options,
     .option_count = ARRAY_COUNT(pin_options),
     .min_args = 1,
     .max_args = 1},
    {.name = "unpin",
     .summary = "Leave a backup to [retention] again.",
     .usages = label_usages,
     .options = info_options,
     .option_count = ARRAY_COUNT(info_options),
     .min_args = 1,
     .max_args = 1},
    {.name = "backup",
     .summary = "Delete one backup, and those that are built on it, after showing what that means.",
     .usages = backup_usages,
     .options = backup_options,
     .option_count = ARRAY_COUNT(backup_options),
     .min_args = 2,
     .max_args = 2},
};

static const WalctlVerb walctl_functions[] = {walctl_init, walctl_keygen, walctl_config,
                                              walctl_info, walctl_verify, walctl_expire,
                                              walctl_pin,  walctl_unpin,  walctl_backup};

_Static_assert(
    ARRAY_COUNT(walctl_verbs) == ARRAY_COUNT(walctl_functions), "a function for each verb");

static const CliSpec walctl_cli = {
    .name = "walctl",
    .summary = "Sets up and inspects a walstream repository.",
    .usages = walctl_usages,
    .verbs = walctl_verbs,
    .verb_count = ARRAY_COUNT(walctl_verbs),
    .exit_codes = "0  done, nothing wrong\n"
                  "1  failed, or something is damaged or missing\n"
                  "2  usage or configuration error\n",
};

int
walctl_open_repository(
    Walctl *ctl, bool need_identities, const Deadline *dl, Repository **out, Error *err)
{
    const char *sysid = cli_value(&ctl->cli, "system-identifier");
    RepositoryOptions options = {.need_identities = need_identities};

    if (sysid != NULL && !parse_u64(sysid, &options.system_identifier))
        return error_set(err, ERROR_USAGE, "--system-identifier \"%s\" is not a number", sysid);
    return repository_open(ctl->cfg, &options, dl, out, err);
}

static int
walctl_run(Walctl *ctl, int argc, char **argv, int *exit_code, Error *err)
{
    const char *output;

    if (cli_parse(&walctl_cli, argc, argv, &ctl->cli, err) < 0)
        return -1;
    if (ctl->cli.action != CLI_RUN)
        return cli_answer(&walctl_cli, &ctl->cli, err);
    output = cli_value(&ctl->cli, "output");
    ctl->json = output != NULL && strcmp(output, "json") == 0;
    if (output != NULL && !ctl->json && strcmp(output, "text") != 0)
        return error_set(err, ERROR_USAGE, "--output \"%s\" is neither text nor json", output);

    size_t verb = (size_t) (ctl->cli.verb - walctl_verbs);

    /* a key can be made before there is a configuration that names it */
    if (walctl_functions[verb] != walctl_keygen)
    {
        if (config_load(ctl->cli.config_file, &ctl->cli.overrides, &ctl->cfg, err) < 0)
            return -1;
        cli_open_log("walctl", ctl->cfg);
    }
    return walctl_functions[verb](ctl, exit_code, err);
}

int
main(int argc, char **argv)
{
    Walctl ctl = {0};
    Error err = {0};
    int exit_code = 0;
    int rc;

    (void) signal(SIGPIPE, SIG_IGN);
    log_open("walctl", LOG_INFO, LOG_FORMAT_TEXT);
    rc = walctl_run(&ctl, argc, argv, &exit_code, &err);
    if (rc < 0)
    {
        log_error(LOG_ERROR, &err);
        exit_code = err.kind == ERROR_USAGE ? 2 : 1;
    }
    config_free(ctl.cfg);
    cli_reset(&ctl.cli);
    return exit_code;
}
