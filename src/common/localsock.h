/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Messages between our own processes over a Unix socket (SOCK_SEQPACKET: one send is one receive),
 * with descriptors in passing and the peer's credentials checked. libc only: linked into the fast
 * paths.
 */
#ifndef WALSTREAM_LOCALSOCK_H
#define WALSTREAM_LOCALSOCK_H

#include "common/clock.h"

#define LOCALSOCK_MESSAGE_MAX 65536
#define LOCALSOCK_FDS_MAX 4

/*
 * Connects; the listening process must run as our user or as root (as anybody, if we are root).
 * Errors   NOT_FOUND: nobody listens there; DENIED: another user does, or we may not
 */
MUST_CHECK int localsock_connect(const char *path, const Deadline *dl, int *fd, Error *err);

/*
 * Listens at path, mode 0600; a socket that nobody answers on is replaced. The folder must exist.
 * EXISTS when another process serves there.
 */
MUST_CHECK int localsock_listen(const char *path, int *fd, Error *err);

/*
 * Accepts one connection, of our user or root (anybody, if we are root); others are dropped. Waits
 * up to wait_ms; *fd is -1 when nobody came.
 */
MUST_CHECK int localsock_accept(int listen_fd, int64_t wait_ms, int *fd, Error *err);

/* One message with descriptors (borrowed); TRANSIENT when the peer is gone. */
MUST_CHECK int localsock_send(
    int fd, const void *data, size_t len, const int *fds, size_t fd_count, const Deadline *dl,
    Error *err);

/*
 * One message, NUL-terminated in buf of cap bytes; *len 0: the peer has closed. Descriptors that
 * came along are the caller's; at most fd_max, *fd_count of them.
 */
MUST_CHECK int localsock_receive(
    int fd, char *buf, size_t cap, size_t *len, int *fds, size_t fd_max, size_t *fd_count,
    const Deadline *dl, Error *err);

#endif
