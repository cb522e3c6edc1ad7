/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * sd_notify; see notify.h.
 */
#include "walstream/notify.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void
notify_init(Notify *n)
{
    const char *path = getenv("NOTIFY_SOCKET");

    memset(n, 0, sizeof *n);
    (void) pthread_mutex_init(&n->lock, NULL);
    if (path != NULL && (path[0] == '/' || path[0] == '@') && strlen(path) < sizeof n->path)
        (void) snprintf(n->path, sizeof n->path, "%s", path);
    n->watchdog = getenv("WATCHDOG_USEC") != NULL;
}

/* A manager that cannot be told is no reason to fail. */
static void
notify_send(const Notify *n, const char *text)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    size_t len = strlen(n->path);
    int fd;

    if (len == 0)
        return;
    memcpy(addr.sun_path, n->path, len + 1);
    if (addr.sun_path[0] == '@')
        addr.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    (void) sendto(
        fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *) &addr,
        (socklen_t) (offsetof(struct sockaddr_un, sun_path) + len));
    (void) close(fd);
}

void
notify_ready(Notify *n)
{
    bool first;

    (void) pthread_mutex_lock(&n->lock);
    first = !n->ready_said;
    n->ready_said = true;
    (void) pthread_mutex_unlock(&n->lock);
    if (first)
        notify_send(n, "READY=1");
}

void
notify_stopping(Notify *n)
{
    notify_send(n, "STOPPING=1");
}

void
notify_status(Notify *n, const char *text)
{
    char message[sizeof n->last_status + sizeof "STATUS="];
    bool same;

    (void) pthread_mutex_lock(&n->lock);
    same = strncmp(n->last_status, text, sizeof n->last_status - 1) == 0;
    (void) snprintf(n->last_status, sizeof n->last_status, "%.255s", text);
    (void) snprintf(message, sizeof message, "STATUS=%s", n->last_status);
    (void) pthread_mutex_unlock(&n->lock);
    if (!same)
        notify_send(n, message);
}

void
notify_watchdog(Notify *n)
{
    if (n->watchdog)
        notify_send(n, "WATCHDOG=1");
}
