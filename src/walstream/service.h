/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The service on the local socket: archives for walpush, tells the status. A few threads take one
 * connection each at a time (protocol.h).
 *
 * A segment that was streamed is answered without the store: it is durable, and the digest of
 * walpush's copy equals that of what was received. Anything else is uploaded from the descriptor
 * that walpush passed. Meanwhile the segments that PostgreSQL will offer next
 * (archive_status/<name>.ready) are uploaded ahead, through the data directory's descriptor, which
 * is walpush's too: no path or permission of ours is used.
 */
#ifndef WALSTREAM_SERVICE_H
#define WALSTREAM_SERVICE_H

#include "walstream/receiver.h"

typedef struct ServiceOptions
{
    const char *socket_path; /* borrowed, as all below */
    const char *cluster;
    const char *url;
    Repository *repo;
    Uploader *uploader;
    Ledger *ledger;
    Streamed *streamed;
    Counters *counters;
    Receiver *receiver;
    unsigned workers;
    int64_t started_us; /* wall clock */
} ServiceOptions;

typedef struct Service Service;

MUST_CHECK int service_new(const ServiceOptions *options, Service **out, Error *err);
/* Stops listening, ends what is under way, joins, removes the socket. */
void service_free(Service *s);

/* The status as JSON text; the caller's. */
MUST_CHECK int service_format_status(const ServiceOptions *options, char **out, Error *err);

#endif
