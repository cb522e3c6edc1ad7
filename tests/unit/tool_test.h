/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Running command-line tools (lz4, zstd, age) on files of a temporary directory. Needs tap.h before
 * it.
 */
#ifndef WALSTREAM_TOOL_TEST_H
#define WALSTREAM_TOOL_TEST_H

#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fs.h"

extern char **environ;

static char tool_dir[] = "/tmp/walstream-test-XXXXXX";

/* The files that tests use: all that tool_files_end removes. */
static const char *const tool_files[] = {"plain", "encoded", "between"};

__attribute__((unused)) static void
tool_file_path(const char *name, char *path, size_t len)
{
    (void) snprintf(path, len, "%s/%s", tool_dir, name);
}

__attribute__((unused)) static bool
tool_file_write(const char *name, const uint8_t *data, size_t len)
{
    char path[128];
    Error err = {0};

    tool_file_path(name, path, sizeof path);

    AUTO(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    return fd >= 0 && fs_write_all(fd, data, len, path, &err) == 0;
}

/* Runs argv with stdin and stdout being files in dir; true when it exits with 0. */
__attribute__((unused)) static bool
tool_run(char *const argv[], const char *in, const char *out)
{
    char in_path[128];
    char out_path[128];
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status = -1;

    tool_file_path(in, in_path, sizeof in_path);
    tool_file_path(out, out_path, sizeof out_path);
    (void) posix_spawn_file_actions_init(&actions);
    (void) posix_spawn_file_actions_addopen(&actions, 0, in_path, O_RDONLY, 0);
    (void) posix_spawn_file_actions_addopen(
        &actions, 1, out_path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    int rc = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);

    (void) posix_spawn_file_actions_destroy(&actions);
    if (rc != 0)
    {
        diag("cannot run %s: %s", argv[0], strerror(rc));
        return false;
    }
    return waitpid(pid, &status, 0) == pid && status == 0;
}

__attribute__((unused)) static bool
tool_file_holds(const char *name, const uint8_t *data, size_t len)
{
    char path[128];
    char *text = NULL;
    size_t got = 0;
    Error err = {0};

    tool_file_path(name, path, sizeof path);

    bool good = fs_read_file(path, 64 << 20, &text, &got, &err) == 0 && got == len &&
                memcmp(text, data, len) == 0;

    free(text);
    return good;
}

__attribute__((unused)) static bool
tool_files_begin(void)
{
    return mkdtemp(tool_dir) != NULL;
}

__attribute__((unused)) static void
tool_files_end(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(tool_files); i++)
    {
        char path[128];

        tool_file_path(tool_files[i], path, sizeof path);
        (void) unlink(path);
    }
    (void) rmdir(tool_dir);
}

#endif
