/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walfetch, the fast half: what PostgreSQL runs as restore_command.
 *
 *   ready in the session's directory?     rename it to the destination          the usual case
 *   else a prefetcher listens?            ask it, wait, rename what it made
 *   else                                  run walfetch-direct, which fetches, and starts the
 * prefetcher
 *
 * Statically linked, no TLS, no libcurl: it starts in about a millisecond. It leaves nothing behind
 * if it is killed: the rename is one step, a copy between file systems gets its name last.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/helper.h"
#include "common/log.h"
#include "walfetch/options.h"
#include "walfetch/session.h"

#define DIRECT_PROGRAM "walfetch-direct"
#define DIRECT_LEAST_MS 5000 /* what is left for it when the prefetcher has used the time up */

/* Runs walfetch-direct with our arguments. Its exit code, or UNSURE if it came to a bad end. */
static int
walfetch_run_direct(int argc, char **argv, int64_t spent_ms, FetchCaller caller)
{
    char path[SESSION_PATH_MAX];
    char spent[64];
    char **args = NULL;
    Error err = {0};
    int status;
    pid_t pid;

    if (helper_find(DIRECT_PROGRAM, path, sizeof path, &err) < 0)
    {
        log_error(LOG_ERROR, &err);
        return fetch_exit_unsure(caller);
    }
    args = calloc((size_t) argc + 2, sizeof *args);
    if (args == NULL)
    {
        log_write(LOG_ERROR, "out of memory");
        return fetch_exit_unsure(caller);
    }
    (void) snprintf(spent, sizeof spent, "--spent-ms=%lld", (long long) spent_ms);
    args[0] = path;
    args[1] = spent;
    for (int i = 1; i < argc; i++)
        args[i + 1] = argv[i];

    /*
     * A child and not an exec, so that its death (out of memory, say) does not look to a standby
     * like a reason to go down.
     */
    pid = fork();
    if (pid == 0)
    {
        (void) execv(path, args);
        (void) error_sys(&err, "could not run \"%s\"", path);
        log_error(LOG_ERROR, &err);
        _exit(fetch_exit_unsure(caller));
    }
    free(args);
    if (pid < 0)
    {
        (void) error_sys(&err, "could not create a process");
        log_error(LOG_ERROR, &err);
        return fetch_exit_unsure(caller);
    }
    while (waitpid(pid, &status, 0) < 0)
    {
        if (errno == EINTR)
            continue;
        (void) error_sys(&err, "could not wait for " DIRECT_PROGRAM);
        log_error(LOG_ERROR, &err);
        return fetch_exit_unsure(caller);
    }
    if (WIFSIGNALED(status))
        log_write(
            LOG_ERROR, "could not restore: " DIRECT_PROGRAM " was ended by signal %d",
            WTERMSIG(status));
    else
    {
        int code = WEXITSTATUS(status);

        if (code == FETCH_EXIT_DONE || code == FETCH_EXIT_ABSENT ||
            code == fetch_exit_unsure(caller) || code == fetch_exit_usage(caller))
            return code;
        /* the dynamic loader's 127, say, which would take a standby down */
        log_write(LOG_ERROR, "could not restore: " DIRECT_PROGRAM " ended with exit code %d", code);
    }
    return fetch_exit_unsure(caller);
}

/* What came of asking the session. */
typedef enum WalfetchSession
{
    WALFETCH_ANSWERED, /* *code is the answer */
    WALFETCH_DO_WITHOUT
} WalfetchSession;

static WalfetchSession
walfetch_ask_session(const FetchOptions *options, const Config *cfg, FetchCaller caller, int *code)
{
    AUTO(fd_close) int dir = -1;
    AUTO(fd_close) int connection = -1;
    SessionReply reply;
    SessionFacts facts;
    char key[SESSION_KEY_BYTES];
    char path[SESSION_PATH_MAX];
    Error err = {0};

    if (session_gather(".", cfg, &facts, &err) < 0 ||
        session_path(cfg, session_key(&facts, key), path, &err) < 0 ||
        session_open_dir(path, &dir, &err) < 0)
        return WALFETCH_DO_WITHOUT;

    *code = FETCH_EXIT_DONE;
    if (options->parsed.kind == WAL_FILE_SEGMENT &&
        session_take(dir, options->name, options->dest, &err) == 0)
        return WALFETCH_ANSWERED;

    if (session_ask(
            dir, options->name, fetch_timeout_ms(options, caller), &connection, &reply, &err) < 0)
        return WALFETCH_DO_WITHOUT;
    switch (reply.answer)
    {
        case SESSION_READY:
            if (session_take(dir, reply.text, options->dest, &err) == 0)
                return WALFETCH_ANSWERED;
            return WALFETCH_DO_WITHOUT;
        case SESSION_ABSENT:
            log_write(LOG_DEBUG, "%s", reply.text);
            *code = FETCH_EXIT_ABSENT;
            return WALFETCH_ANSWERED;
        case SESSION_UNSURE:
            (void) error_set(&err, ERROR_IO, "%s", reply.text);
            if (reply.hint[0] != '\0')
                (void) error_hint(&err, "%s", reply.hint);
            log_error(LOG_ERROR, &err);
            *code = fetch_exit_unsure(caller);
            return WALFETCH_ANSWERED;
        case SESSION_DIRECT:
            break;
    }
    return WALFETCH_DO_WITHOUT;
}

int
main(int argc, char **argv)
{
    FetchCaller caller = fetch_caller();
    int64_t begin_ms = clock_monotonic_ms();
    AUTO(fetch_options_reset) FetchOptions options = {0};
    AUTO(config_freep) Config *cfg = NULL;
    int64_t spent_ms;
    int code;

    if (!fetch_begin(&fetch_spec, argc, argv, caller, &options, &cfg, &code))
        return code;
    if (cfg->restore.prefetch_bytes > 0 &&
        walfetch_ask_session(&options, cfg, caller, &code) == WALFETCH_ANSWERED)
        return code;

    spent_ms = clock_monotonic_ms() - begin_ms;
    spent_ms = MIN(spent_ms, fetch_timeout_ms(&options, caller) - (int64_t) DIRECT_LEAST_MS);
    return walfetch_run_direct(argc, argv, MAX(spent_ms, (int64_t) 0), caller);
}
