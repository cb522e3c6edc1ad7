/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walrestore: a data directory from the repository.
 *
 *   main thread   decides, shows the progress        worker 1 .. n   fetch, decompress, write,
 * fsync
 *
 * A signal sets a flag that all of them look at; what is left is a directory marked as incomplete.
 */
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "common/log.h"
#include "walrestore/run.h"

static atomic_bool restore_canceled;

static void
restore_on_signal(int sig)
{
    (void) sig;
    atomic_store(&restore_canceled, true);
}

static void
restore_catch_signals(void)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
    /* the second one ends it at once */
    struct sigaction action = {.sa_handler = restore_on_signal, .sa_flags = (int) SA_RESETHAND};
    struct sigaction was;

    (void) sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < ARRAY_COUNT(signals); i++)
        /* nohup, and shells in the background, ignore some: they stay so */
        if (sigaction(signals[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN)
            (void) sigaction(signals[i], &action, NULL);
    (void) signal(SIGPIPE, SIG_IGN);
}

static int
restore_main(RestoreRun *run, int argc, char **argv, Error *err)
{
    if (restore_options_parse(argc, argv, &run->options, err) < 0)
        return -1;
    if (run->options.cli.action != CLI_RUN)
        return cli_answer(&restore_cli, &run->options.cli, err);
    if (config_load(run->options.cli.config_file, &run->options.cli.overrides, &run->cfg, err) < 0)
        return -1;
    cli_open_log("walrestore", run->cfg);
    return restore_run(run, err);
}

int
main(int argc, char **argv)
{
    RestoreRun run = {.cancel = &restore_canceled};
    Error err = {0};
    int rc;

    log_open("walrestore", LOG_INFO, LOG_FORMAT_TEXT);
    (void) umask(0077);
    restore_catch_signals();
    place_init(&run.place);
    rc = restore_main(&run, argc, argv, &err);
    if (rc < 0)
        log_error(LOG_ERROR, &err);
    restore_run_reset(&run);
    return rc == 0 ? 0 : err.kind == ERROR_USAGE ? 2 : 1;
}
