/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Local messages; see localsock.h.
 */
#include "common/localsock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fs.h"

static int
localsock_address(const char *path, struct sockaddr_un *addr, Error *err)
{
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof addr->sun_path)
        return error_set(
            err, ERROR_USAGE, "socket path \"%s\" is longer than %zu bytes", path,
            sizeof addr->sun_path - 1);
    memcpy(addr->sun_path, path, strlen(path) + 1);
    return 0;
}

/* Our user or root; root itself takes whoever serves at the path that it was told. */
static bool
localsock_peer_trusted(int fd)
{
    struct ucred cred;
    socklen_t len = sizeof cred;

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
           (cred.uid == geteuid() || cred.uid == 0 || geteuid() == 0);
}

/* Waits for events; TIMEOUT or CANCELED by the deadline. */
static int
localsock_wait(int fd, short events, const Deadline *dl, const char *what, Error *err)
{
    for (;;)
    {
        struct pollfd p = {.fd = fd, .events = events};
        int n;

        if (deadline_check(dl, what, err) < 0)
            return -1;
        n = poll(&p, 1, (int) MIN(deadline_left_ms(dl), 100));
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return error_sys(err, "%s", what);
    }
}

int
localsock_connect(const char *path, const Deadline *dl, int *fd, Error *err)
{
    AUTO(fd_close) int sock = -1;
    struct sockaddr_un addr;

    if (localsock_address(path, &addr, err) < 0)
        return -1;
    sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock < 0)
        return error_sys(err, "could not make a socket");
    while (connect(sock, (const struct sockaddr *) &addr, sizeof addr) < 0)
    {
        if (errno == EAGAIN) /* its queue of connections is full */
        {
            if (deadline_check(dl, "connecting to walstream", err) < 0)
                return -1;
            clock_sleep_ms(1);
            continue;
        }
        if (errno == ECONNREFUSED || errno == ENOENT || errno == ENOTDIR)
            return error_set(err, ERROR_NOT_FOUND, "nobody listens on \"%s\"", path);
        return error_sys(err, "could not connect to \"%s\"", path);
    }
    if (!localsock_peer_trusted(sock))
        return error_set(
            err, ERROR_DENIED, "who listens on \"%s\" is neither our user nor root", path);
    *fd = sock;
    sock = -1;
    return 0;
}

int
localsock_listen(const char *path, int *fd, Error *err)
{
    AUTO(fd_close) int sock = -1;
    AUTO(fd_close) int probe = -1;
    Deadline soon = deadline_after_ms(1000, NULL);
    struct sockaddr_un addr;
    struct stat st;
    mode_t mask;
    int rc;

    if (localsock_address(path, &addr, err) < 0)
        return -1;
    if (localsock_connect(path, &soon, &probe, err) == 0 || err->kind != ERROR_NOT_FOUND)
    {
        (void) error_set(err, ERROR_EXISTS, "another process serves \"%s\"", path);
        return error_hint(err, "Stop it, or choose another [stream] socket.");
    }
    sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (sock < 0)
        return error_sys(err, "could not make a socket");
    if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
        return error_set(err, ERROR_EXISTS, "\"%s\" is there already and is no socket", path);
    if (unlink(path) < 0 && errno != ENOENT)
        return error_sys(err, "could not remove the old socket \"%s\"", path);
    mask = umask(0177);
    rc = bind(sock, (const struct sockaddr *) &addr, sizeof addr);
    (void) umask(mask);
    if (rc < 0)
        return error_sys(err, "could not bind socket \"%s\"", path);
    if (listen(sock, 64) < 0)
        return error_sys(err, "could not listen on \"%s\"", path);
    *fd = sock;
    sock = -1;
    return 0;
}

int
localsock_accept(int listen_fd, int64_t wait_ms, int *fd, Error *err)
{
    struct pollfd p = {.fd = listen_fd, .events = POLLIN};
    AUTO(fd_close) int sock = -1;
    int n = poll(&p, 1, (int) wait_ms);

    *fd = -1;
    if (n < 0 && errno != EINTR)
        return error_sys(err, "could not wait for connections");
    if (n <= 0)
        return 0;
    sock = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (sock < 0)
    {
        if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
            return 0; /* another thread was faster, or the peer has gone */
        return error_sys(err, "could not accept a connection");
    }
    if (!localsock_peer_trusted(sock))
        return 0;
    *fd = sock;
    sock = -1;
    return 0;
}

int
localsock_send(
    int fd, const void *data, size_t len, const int *fds, size_t fd_count, const Deadline *dl,
    Error *err)
{
    union
    {
        struct cmsghdr header; /* for alignment */
        char bytes[CMSG_SPACE(sizeof(int) * LOCALSOCK_FDS_MAX)];
    } control = {0};
    union
    {
        const void *in;
        void *out; /* sendmsg only reads */
    } bytes = {.in = data};
    struct iovec iov = {.iov_base = bytes.out, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    assert(fd_count <= LOCALSOCK_FDS_MAX);
    if (fd_count > 0)
    {
        struct cmsghdr *header;

        msg.msg_control = control.bytes;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
        header = CMSG_FIRSTHDR(&msg);
        assert(header != NULL); /* there is room for one */
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
        memcpy(CMSG_DATA(header), fds, sizeof(int) * fd_count);
    }
    for (;;)
    {
        if (sendmsg(fd, &msg, MSG_NOSIGNAL) >= 0)
            return 0;
        if (errno == EINTR)
            continue;
        if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)
            return error_set(err, ERROR_TRANSIENT, "the other side closed the connection");
        if (errno != EAGAIN)
            return error_sys(err, "could not send");
        if (localsock_wait(fd, POLLOUT, dl, "sending", err) < 0)
            return -1;
    }
}

int
localsock_receive(
    int fd, char *buf, size_t cap, size_t *len, int *fds, size_t fd_max, size_t *fd_count,
    const Deadline *dl, Error *err)
{
    union
    {
        struct cmsghdr header; /* for alignment */
        char bytes[CMSG_SPACE(sizeof(int) * LOCALSOCK_FDS_MAX)];
    } control;
    struct iovec iov = {.iov_base = buf, .iov_len = cap - 1};
    struct msghdr msg;
    ssize_t got;

    *len = 0;
    *fd_count = 0;
    for (;;)
    {
        msg = (struct msghdr){
            .msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = control.bytes,
            .msg_controllen = sizeof control.bytes};
        got = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
        if (got >= 0)
            break;
        if (errno == EINTR)
            continue;
        if (errno == ECONNRESET)
            return error_set(err, ERROR_TRANSIENT, "the other side closed the connection");
        if (errno != EAGAIN)
            return error_sys(err, "could not receive");
        if (localsock_wait(fd, POLLIN, dl, "waiting for an answer", err) < 0)
            return -1;
    }
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&msg); header != NULL;
         header = CMSG_NXTHDR(&msg, header))
    {
        size_t n;

        if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
            continue;
        n = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++)
        {
            int received;

            memcpy(&received, CMSG_DATA(header) + i * sizeof(int), sizeof received);
            if (*fd_count < fd_max)
                fds[(*fd_count)++] = received;
            else
                (void) close(received);
        }
    }
    if ((msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
    {
        for (size_t i = 0; i < *fd_count; i++)
            (void) close(fds[i]);
        *fd_count = 0;
        return error_set(err, ERROR_CORRUPT, "a message is longer than it may be");
    }
    buf[got] = '\0';
    *len = (size_t) got;
    return 0;
}
