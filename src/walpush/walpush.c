/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walpush %p: archive_command. The fast path, statically linked: libc, and no TLS, no HTTP.
 *
 * It passes the open file and the data directory (its working directory) to the local walstream,
 * which answers when the file is durable. Where nobody answers, or walstream has stopped or serves
 * another cluster, it becomes walpush-direct, which does it alone. It says yes only when one of the
 * two said that the file is durable; killed at any instruction it has said nothing, and PostgreSQL
 * asks again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/helper.h"
#include "common/localsock.h"
#include "common/log.h"
#include "common/parse.h"
#include "common/protocol.h"
#include "walpush/options.h"

/* What came of asking walstream. */
typedef enum AskResult
{
    ASK_DONE,   /* the file is durable */
    ASK_FAILED, /* walstream tried and failed: err says why */
    ASK_ALONE   /* nobody there who can: do it alone */
} AskResult;

/* "ERROR <kind> TAB <message> TAB <hint>" */
static void
push_read_error(char *answer, Error *err)
{
    char *kind = answer + strlen("ERROR ");
    char *message = strchr(kind, '\t');
    char *hint = message != NULL ? strchr(message + 1, '\t') : NULL;

    if (hint == NULL)
    {
        (void) error_set(err, ERROR_CORRUPT, "walstream's answer is not understood");
        return;
    }
    *message = *hint = '\0';
    (void) error_set(err, ERROR_IO, "%s", message + 1);
    if (hint[1] != '\0')
        (void) error_hint(err, "%s", hint + 1);
}

static AskResult
push_wait_answer(int sock, const Deadline *dl, Error *err)
{
    static char answer[4096];
    int64_t patience_ms = PROTOCOL_FIRST_MS;

    for (;;)
    {
        Deadline soon = deadline_sooner(dl, patience_ms);
        size_t len, fd_count;

        if (localsock_receive(sock, answer, sizeof answer, &len, NULL, 0, &fd_count, &soon, err) <
            0)
            return deadline_left_ms(dl) == 0 ? ASK_FAILED : ASK_ALONE;
        if (strcmp(answer, "WAIT") == 0)
        {
            patience_ms = PROTOCOL_SILENCE_MS;
            continue;
        }
        if (strncmp(answer, "OK ", 3) == 0)
            return ASK_DONE;
        if (strncmp(answer, "ERROR ", 6) != 0)
            return ASK_ALONE; /* it stops, or is for another cluster */
        push_read_error(answer, err);
        return ASK_FAILED;
    }
}

static AskResult
push_ask_walstream(const PushOptions *options, int file, const Deadline *dl, Error *err)
{
    AUTO(fd_close) int sock = -1;
    AUTO(fd_close) int datadir = -1;
    Deadline soon = deadline_sooner(dl, PROTOCOL_FIRST_MS);
    char request[2048];
    int len;

    if (options->cfg->stream.socket[0] == '\0' ||
        localsock_connect(options->cfg->stream.socket, &soon, &sock, err) < 0)
        return ASK_ALONE;
    datadir = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (datadir < 0)
        return ASK_ALONE;
    len = snprintf(
        request, sizeof request, "PUSH " PROTOCOL_VERSION " %s %lld %s %s", options->name,
        (long long) options->timeout_ms, options->cfg->cluster.name, options->cfg->repository.url);
    if (len < 0 || (size_t) len >= sizeof request ||
        localsock_send(sock, request, (size_t) len, (int[]){file, datadir}, 2, &soon, err) < 0)
        return ASK_ALONE;
    return push_wait_answer(sock, dl, err);
}

/*
 * Becomes walpush-direct with the same arguments and the time that is left; comes back only when
 * that cannot be run.
 */
static int
push_become_direct(int argc, char **argv, int64_t spent_ms, Error *err)
{
    char path[4096];
    char spent[64];
    char **args;

    if (helper_find("walpush-direct", path, sizeof path, err) < 0)
        return -1;
    args = calloc((size_t) argc + 2, sizeof *args);
    if (args == NULL)
        return error_nomem(err);
    (void) snprintf(spent, sizeof spent, "--spent-ms=%lld", (long long) spent_ms);
    args[0] = argv[0];
    args[1] = spent;
    for (int i = 1; i < argc; i++)
        args[i + 1] = argv[i];
    (void) execv(path, args);
    (void) error_sys(err, "could not run \"%s\"", path);
    free(args);
    return -1;
}

static int
push_run(PushOptions *options, int argc, char **argv, bool *alone, Error *err)
{
    AUTO(fd_close) int file = -1;
    int64_t begin_ms = clock_monotonic_ms();
    Deadline dl;

    if (push_read_options(&push_spec, argc, argv, options, err) < 0)
        return -1;
    if (options->answered)
        return 0;
    dl = deadline_after_ms(options->timeout_ms, NULL);
    file = open(options->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* see walpush-direct */
    if (file < 0)
        return error_sys(err, "could not open \"%s\"", options->path);

    switch (push_ask_walstream(options, file, &dl, err))
    {
        case ASK_DONE:
            return 0;
        case ASK_FAILED:
            return -1;
        case ASK_ALONE:
            break;
    }
    *alone = true;
    return push_become_direct(argc, argv, clock_monotonic_ms() - begin_ms, err);
}

int
main(int argc, char **argv)
{
    PushOptions options = {0};
    Error err = {0};
    bool alone = false;
    int rc;

    log_open("walpush", LOG_INFO, LOG_FORMAT_TEXT);
    rc = push_run(&options, argc, argv, &alone, &err);
    if (rc < 0)
        log_error(LOG_ERROR, &err);
    push_options_reset(&options);
    return rc == 0 ? 0 : err.kind == ERROR_USAGE && !alone ? 2 : 1;
}
