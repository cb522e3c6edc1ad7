/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walbackup: makes one base backup, full or incremental.
 */
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cli.h"
#include "common/log.h"
#include "common/parse.h"
#include "walbackup/result.h"

#define BACKUP_TIMEOUT_MS (INT64_C(5) * 60 * 1000)
#define BACKUP_JOBS_MAX 64

#define COMMON_OPTIONS                                                                             \
    {"label", 'l', "LABEL", "Name of the backup; otherwise made from the time."},                  \
        {"jobs", 'j', "NUMBER",                                                                    \
         "Workers, and connections to the store, 1 to 64; default [backup] jobs."},                \
        {"rate-limit", 'r', "BYTES", "Read no more than this in a second."},                       \
        {"checkpoint", 0, "KIND", "fast: begin at once; spread: when the checkpoint is done."},    \
        {"source", 0, "SOURCE", "local: read [cluster] data; stream: replication protocol."},      \
        {"checksum", 0, "ALGORITHM", "Of each file: crc32c or sha256."},                           \
        {"wal-timeout", 0, "DURATION", "How long to wait for WAL to be in the repository."},       \
        {"timeout", 't', "DURATION", "How long to try each request of the store; default 5min."},  \
        {"no-resume", 0, NULL, "Take up nothing that failed backups have stored."},                \
    {                                                                                              \
        "output", 'o', "FORMAT", "text (default) or json."                                         \
    }

static const CliOption full_options[] = {
    COMMON_OPTIONS,
};

static const CliOption incremental_options[] = {
    COMMON_OPTIONS,
    {"parent", 'p', "LABEL", "The backup to build on; otherwise the newest that can be."},
};

static const char *const no_arguments[] = {"[OPTION]...", NULL};
static const char *const backup_usages[] = {"full|incremental [OPTION]...", NULL};

#define BACKUP_EXIT_CODES                                                                          \
    "0  the backup exists, with all WAL that it needs\n"                                           \
    "1  failed, with a message on stderr; there is no backup\n"                                    \
    "2  wrong usage or configuration\n"

static const CliSpec backup_verbs[] = {
    {.name = "full",
     .summary = "Back up the whole cluster.",
     .usages = no_arguments,
     .options = full_options,
     .option_count = ARRAY_COUNT(full_options),
     .exit_codes = BACKUP_EXIT_CODES},
    {.name = "incremental",
     .summary = "Back up what has changed since an earlier backup.",
     .usages = no_arguments,
     .options = incremental_options,
     .option_count = ARRAY_COUNT(incremental_options),
     .exit_codes = BACKUP_EXIT_CODES},
};

static const CliSpec backup_cli = {
    .name = "walbackup",
    .summary = "Makes a base backup of a PostgreSQL cluster in a walstream repository.",
    .usages = backup_usages,
    .verbs = backup_verbs,
    .verb_count = ARRAY_COUNT(backup_verbs),
    .exit_codes = BACKUP_EXIT_CODES,
};

typedef struct WalBackup
{
    CliResult cli;
    Config *cfg;
    bool json;
    BackupRun run;
    atomic_bool cancel;
    atomic_bool ended;
    sigset_t signals;
    pthread_t signal_thread;
} WalBackup;

/* ---- options ---- */

/* An option's value, or the configuration's. */
static const char *
backup_text(const WalBackup *b, const char *name, const char *configured)
{
    const char *value = cli_value(&b->cli, name);

    return value != NULL ? value : configured;
}

static int
backup_read_numbers(WalBackup *b, Error *err)
{
    BackupOptions *o = &b->run.options;
    const char *jobs = cli_value(&b->cli, "jobs");
    const char *rate = cli_value(&b->cli, "rate-limit");
    uint32_t n = (uint32_t) b->cfg->backup.jobs;

    if (jobs != NULL && (!parse_u32(jobs, &n) || n == 0 || n > BACKUP_JOBS_MAX))
        return error_set(
            err, ERROR_USAGE, "--jobs \"%s\" is not a number from 1 to %d", jobs, BACKUP_JOBS_MAX);
    o->jobs = n;
    o->rate_limit_bytes = b->cfg->backup.rate_limit_bytes;
    if (rate != NULL && !parse_bytes(rate, &o->rate_limit_bytes))
        return error_set(err, ERROR_USAGE, "--rate-limit \"%s\" is not a size", rate);
    o->wal_timeout_ms = b->cfg->backup.wal_timeout_ms;
    o->timeout_ms = BACKUP_TIMEOUT_MS;
    if (cli_duration_ms(&b->cli, "wal-timeout", &o->wal_timeout_ms, err) < 0)
        return -1;
    return cli_duration_ms(&b->cli, "timeout", &o->timeout_ms, err);
}

static int
backup_read_choices(WalBackup *b, Error *err)
{
    BackupOptions *o = &b->run.options;
    const char *checkpoint = backup_text(b, "checkpoint", b->cfg->backup.checkpoint);
    const char *source = backup_text(b, "source", b->cfg->backup.source);
    const char *checksum = backup_text(b, "checksum", b->cfg->backup.checksum);
    const char *output = backup_text(b, "output", "text");

    o->fast_checkpoint = strcmp(checkpoint, "fast") == 0;
    if (!o->fast_checkpoint && strcmp(checkpoint, "spread") != 0)
        return error_set(
            err, ERROR_USAGE, "--checkpoint \"%s\" is neither fast nor spread", checkpoint);
    o->stream = strcmp(source, "stream") == 0 ||
                (strcmp(source, "auto") == 0 && b->cfg->cluster.data[0] == '\0');
    if (!o->stream && strcmp(source, "local") != 0 && strcmp(source, "auto") != 0)
        return error_set(err, ERROR_USAGE, "--source \"%s\" is neither local nor stream", source);
    if (!o->stream && b->cfg->cluster.data[0] == '\0')
    {
        (void) error_set(err, ERROR_USAGE, "[cluster] data is not set");
        return error_hint(err, "Set it to the data directory, or use --source=stream.");
    }
    if (!checksum_parse_name(checksum, &o->checksum) || o->checksum == CHECKSUM_NONE)
        return error_set(
            err, ERROR_USAGE, "--checksum \"%s\" is neither crc32c nor sha256", checksum);
    b->json = strcmp(output, "json") == 0;
    if (!b->json && strcmp(output, "text") != 0)
        return error_set(err, ERROR_USAGE, "--output \"%s\" is neither text nor json", output);
    return 0;
}

static int
backup_read_options(WalBackup *b, Error *err)
{
    BackupOptions *o = &b->run.options;

    o->incremental = strcmp(b->cli.verb->name, "incremental") == 0;
    o->resume = cli_value(&b->cli, "no-resume") == NULL;
    o->label = cli_value(&b->cli, "label");
    o->parent = cli_value(&b->cli, "parent");
    if (o->label != NULL && !backup_label_name_valid(o->label))
    {
        (void) error_set(err, ERROR_USAGE, "--label \"%s\" cannot name a backup", o->label);
        return error_hint(
            err, "A label is 1 to 63 letters, digits, '.', '_' and '-', and begins with no dot.");
    }
    if (o->parent != NULL && !backup_label_name_valid(o->parent))
        return error_set(err, ERROR_USAGE, "--parent \"%s\" cannot name a backup", o->parent);
    if (backup_read_numbers(b, err) < 0)
        return -1;
    return backup_read_choices(b, err);
}

/* ---- signals: one thread waits for them ---- */

static void *
backup_signal_main(void *arg)
{
    WalBackup *b = arg;

    while (!atomic_load(&b->ended))
    {
        struct timespec wait = {.tv_nsec = 200L * 1000 * 1000};
        int sig = sigtimedwait(&b->signals, NULL, &wait);

        if (sig > 0 && !atomic_exchange(&b->cancel, true))
            log_write(LOG_INFO, "stopping");
    }
    return NULL;
}

static int
backup_with_signals(WalBackup *b, Error *err)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct sigaction was;
    int rc;

    (void) signal(SIGPIPE, SIG_IGN);
    (void) sigemptyset(&b->signals);
    for (size_t i = 0; i < ARRAY_COUNT(signals); i++)
        /* nohup, and shells in the background, ignore some: they stay so */
        if (sigaction(signals[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN)
            (void) sigaddset(&b->signals, signals[i]);
    (void) pthread_sigmask(SIG_BLOCK, &b->signals, NULL);
    if (pthread_create(&b->signal_thread, NULL, backup_signal_main, b) != 0)
        return error_set(err, ERROR_IO, "could not start the signal thread");
    rc = backup_run(&b->run, err);
    atomic_store(&b->ended, true);
    (void) pthread_join(b->signal_thread, NULL);
    return rc;
}

static int
backup_main(WalBackup *b, int argc, char **argv, Error *err)
{
    int64_t begin_ms = clock_monotonic_ms();

    if (cli_parse(&backup_cli, argc, argv, &b->cli, err) < 0)
        return -1;
    if (b->cli.action != CLI_RUN)
        return cli_answer(&backup_cli, &b->cli, err);
    if (config_load(b->cli.config_file, &b->cli.overrides, &b->cfg, err) < 0)
        return -1;
    cli_open_log("walbackup", b->cfg);
    if (backup_read_options(b, err) < 0)
        return -1;
    /* freed memory goes back to the system, and threads share two arenas: the bound is for real */
    (void) mallopt(M_ARENA_MAX, 2);
    (void) mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
    b->run.cfg = b->cfg;
    b->run.cancel = &b->cancel;
    if (backup_with_signals(b, err) < 0)
        return -1;
    if (result_print(&b->run, clock_monotonic_ms() - begin_ms, b->json, err) < 0)
        return error_wrap(err, "backup \"%s\" is complete", b->run.header.label);
    return 0;
}

int
main(int argc, char **argv)
{
    static WalBackup b;
    Error err = {0};
    int rc;

    log_open("walbackup", LOG_INFO, LOG_FORMAT_TEXT);
    rc = backup_main(&b, argc, argv, &err);
    if (rc < 0)
        log_error(LOG_ERROR, &err);
    backup_header_reset(&b.run.header);
    config_free(b.cfg);
    cli_reset(&b.cli);
    return rc == 0 ? 0 : err.kind == ERROR_USAGE ? 2 : 1;
}
