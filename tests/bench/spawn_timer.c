/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Times programs from start to end, for the benchmark: spawn_timer LOG, then on stdin one command a
 * line, fields separated by tabs: the working directory, the program, its arguments. For each it
 * prints a line:
 *
 *   <wall us> <user us> <system us> <largest resident set, KiB> <exit code or -1> <signal or 0>
 *
 * posix_spawn, which does not copy this process, from a process that is small: what is measured is
 * the program's start and not the fork of a large script. The programs' stdout is dropped, their
 * stderr goes to LOG.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#define ARGUMENTS_MAX 64

extern char **environ;

static int64_t
timer_now_us(void)
{
    struct timespec ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static int64_t
timer_us(struct timeval tv)
{
    return (int64_t) tv.tv_sec * 1000000 + tv.tv_usec;
}

/* Fails the whole run: a benchmark that cannot start its programs measures nothing. */
static void
timer_fail(const char *what, int error)
{
    (void) fprintf(stderr, "spawn_timer: could not %s: %s\n", what, strerror(error));
    exit(1);
}

static void
timer_run(const char *cwd, char *const *argv, const char *log)
{
    posix_spawn_file_actions_t actions;
    struct rusage usage;
    int64_t begin, end;
    int status;
    int rc;
    pid_t pid;

    rc = posix_spawn_file_actions_init(&actions);
    if (rc == 0)
        rc = posix_spawn_file_actions_addchdir_np(&actions, cwd);
    if (rc == 0)
        rc = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (rc == 0)
        rc = posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    if (rc == 0)
        rc =
            posix_spawn_file_actions_addopen(&actions, 2, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (rc != 0)
        timer_fail("prepare a process", rc);

    begin = timer_now_us();
    rc = posix_spawn(&pid, argv[0], &actions, NULL, argv, environ);
    if (rc != 0)
        timer_fail(argv[0], rc);
    while (wait4(pid, &status, 0, &usage) < 0)
        if (errno != EINTR)
            timer_fail("wait", errno);
    end = timer_now_us();
    (void) posix_spawn_file_actions_destroy(&actions);

    (void) printf(
        "%lld %lld %lld %ld %d %d\n", (long long) (end - begin),
        (long long) timer_us(usage.ru_utime), (long long) timer_us(usage.ru_stime), usage.ru_maxrss,
        WIFEXITED(status) ? WEXITSTATUS(status) : -1, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    if (fflush(stdout) != 0)
        timer_fail("print the result", errno);
}

int
main(int argc, char **argv)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t len;

    if (argc != 2)
    {
        (void) fprintf(stderr, "usage: spawn_timer LOG\n");
        return 2;
    }
    while ((len = getline(&line, &cap, stdin)) > 0)
    {
        char *fields[ARGUMENTS_MAX + 2];
        size_t count = 0;

        if (line[len - 1] == '\n')
            line[len - 1] = '\0';
        for (char *at = line; at != NULL && count < ARGUMENTS_MAX + 1;)
        {
            char *tab = strchr(at, '\t');

            fields[count++] = at;
            if (tab != NULL)
                *tab++ = '\0';
            at = tab;
        }
        fields[count] = NULL;
        if (count < 2 || count > ARGUMENTS_MAX)
            timer_fail("read a command", EINVAL);
        timer_run(fields[0], fields + 1, argv[1]);
    }
    free(line);
    return 0;
}
