/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What a service manager wants to know (sd_notify(3)): ready, status text, signs of life. Datagrams
 * to the socket named in $NOTIFY_SOCKET; nothing at all when there is none.
 */
#ifndef WALSTREAM_NOTIFY_H
#define WALSTREAM_NOTIFY_H

#include <pthread.h>
#include <stdbool.h>

typedef struct Notify
{
    char path[108]; /* "" when nobody listens; '@' first: abstract */
    bool watchdog;
    pthread_mutex_t lock; /* guards the two below */
    bool ready_said;
    char last_status[256];
} Notify;

/* From the environment. */
void notify_init(Notify *n);
void notify_ready(Notify *n); /* says it once */
void notify_stopping(Notify *n);
void notify_status(Notify *n, const char *text); /* sent when it differs from the last one */
void notify_watchdog(Notify *n);

#endif
