/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Messages between our processes: whole messages, descriptors, deadlines, sockets left over.
 */
#include "common/localsock.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fs.h"
#include "tap.h"
#include "tempdir.h"

static char path[4096];

static void
test_talk(void)
{
    Deadline dl = deadline_after_ms(300000, NULL);
    Error err = {0};
    int listening, again, client, server;
    int fds[LOCALSOCK_FDS_MAX];
    int pipe_fds[2];
    char buf[128];
    size_t len, count;
    struct stat sb;

    ok(localsock_listen(path, &listening, &err) == 0, "listens: %s", err.msg);
    ok(stat(path, &sb) == 0 && (sb.st_mode & 0777) == 0600, "the socket is ours alone");
    ok(localsock_accept(listening, 0, &server, &err) == 0 && server == -1, "nobody has come");
    ok(localsock_connect(path, &dl, &client, &err) == 0 &&
           localsock_accept(listening, 60000, &server, &err) == 0 && server >= 0,
       "one connection");
    ok(pipe(pipe_fds) == 0 && localsock_send(client, "one", 3, pipe_fds, 2, &dl, &err) == 0 &&
           localsock_send(client, "two", 3, NULL, 0, &dl, &err) == 0,
       "two messages, the first with two descriptors");
    ok(localsock_receive(
           server, buf, sizeof buf, &len, fds, LOCALSOCK_FDS_MAX, &count, &dl, &err) == 0 &&
           len == 3 && strcmp(buf, "one") == 0 && count == 2,
       "the first comes by itself, with both");
    ok(write(fds[1], "x", 1) == 1 && read(pipe_fds[0], buf, 1) == 1 && buf[0] == 'x',
       "and they are the same pipe");
    (void) close(fds[0]);
    (void) close(fds[1]);
    ok(localsock_receive(server, buf, sizeof buf, &len, fds, 0, &count, &dl, &err) == 0 &&
           len == 3 && strcmp(buf, "two") == 0 && count == 0,
       "then the second");
    ok(localsock_send(client, "three", 5, pipe_fds, 2, &dl, &err) == 0 &&
           localsock_receive(server, buf, sizeof buf, &len, fds, 1, &count, &dl, &err) == 0 &&
           count == 1,
       "descriptors beyond what is wanted are closed");
    (void) close(fds[0]);
    memset(buf, 'a', sizeof buf);
    ok(localsock_send(client, buf, 100, NULL, 0, &dl, &err) == 0 &&
           localsock_receive(server, buf, 50, &len, fds, 0, &count, &dl, &err) < 0 &&
           err.kind == ERROR_CORRUPT,
       "a message that is too long is refused");

    Deadline soon = deadline_after_ms(30, NULL);

    ok(localsock_receive(server, buf, sizeof buf, &len, fds, 0, &count, &soon, &err) < 0 &&
           err.kind == ERROR_TIMEOUT,
       "waiting has an end");
    ok(localsock_listen(path, &again, &err) < 0 && err.kind == ERROR_EXISTS,
       "a second one cannot listen there: %s", err.msg);
    (void) close(client);
    ok(localsock_receive(server, buf, sizeof buf, &len, fds, 0, &count, &dl, &err) == 0 && len == 0,
       "the peer's end is seen");
    ok(localsock_send(server, "x", 1, NULL, 0, &dl, &err) < 0 && err.kind == ERROR_TRANSIENT,
       "sending to nobody is an error, not a signal");
    (void) close(server);
    (void) close(listening);
    (void) close(pipe_fds[0]);
    (void) close(pipe_fds[1]);
}

static void
test_left_over(void)
{
    Deadline dl = deadline_after_ms(300000, NULL);
    Error err = {0};
    char missing[5000];
    int fd;

    ok(localsock_connect(path, &dl, &fd, &err) < 0 && err.kind == ERROR_NOT_FOUND,
       "a socket that nobody serves any more: %s", err.msg);
    ok(localsock_listen(path, &fd, &err) == 0, "is replaced");
    (void) close(fd);
    (void) snprintf(missing, sizeof missing, "%s.not", path);
    ok(localsock_connect(missing, &dl, &fd, &err) < 0 && err.kind == ERROR_NOT_FOUND, "no socket");
    memset(missing, 'a', 200);
    missing[200] = '\0';
    ok(localsock_connect(missing, &dl, &fd, &err) < 0 && err.kind == ERROR_USAGE,
       "a path that is too long: %s", err.msg);
    ok(localsock_listen("/nonexistent/socket", &fd, &err) < 0, "no folder: %s", err.msg);

    /* somebody's file, named by mistake */
    (void) snprintf(missing, sizeof missing, "%s.file", path);
    fd = open(missing, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        abort();
    (void) close(fd);
    ok(localsock_listen(missing, &fd, &err) < 0 && access(missing, F_OK) == 0,
       "a file is not removed for a socket: %s", err.msg);
    (void) unlink(missing);
}

int
main(void)
{
    tempdir_make();
    (void) snprintf(path, sizeof path, "%s/socket", tempdir_path);
    test_talk();
    test_left_over();
    return done_testing();
}
