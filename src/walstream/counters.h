/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * All that walstream counts, in one place, for the status and for metrics. Lock-free: each
 * counter is right by itself, a snapshot is not one instant. Reset only by a restart.
 */
#ifndef WALSTREAM_COUNTERS_H
#define WALSTREAM_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

/* name, help; the struct, the JSON status and later metrics are made from this list */
#define COUNTERS_LIST(X)                                                                           \
    X(received_bytes, "WAL bytes received by replication")                                         \
    X(connections, "replication connections made")                                                 \
    X(stream_stalls, "times the stream was closed because the buffers were full")                  \
    X(pieces_stored, "pieces of open segments stored")                                             \
    X(parts_stored, "whole segments, or parts of large ones, stored by the stream")                \
    X(parts_dropped, "whole segments given up for lack of memory; their pieces are stored")        \
    X(plain_bytes_stored, "WAL bytes stored, before compression")                                  \
    X(object_bytes_stored, "bytes of the objects made of them")                                    \
    X(upload_failures, "uploads that failed and were tried again")                                 \
    X(archive_requests, "files that walpush asked for")                                            \
    X(archive_answered_from_stream, "of these: had been streamed, digest compared")                \
    X(archive_answered_from_lookahead, "of these: had been archived ahead of being asked")         \
    X(archive_uploaded, "of these: uploaded when asked")                                           \
    X(archive_failures, "of these: refused or failed")                                             \
    X(lookahead_uploaded, "files archived ahead of being asked")                                   \
    X(gaps_recorded, "holes in the WAL that were recorded in the repository")

typedef struct Counters
{
#define COUNTERS_FIELD(name, help) atomic_uint_fast64_t name;
    COUNTERS_LIST(COUNTERS_FIELD)
#undef COUNTERS_FIELD
} Counters;

static inline void
counter_add(atomic_uint_fast64_t *counter, uint64_t n)
{
    (void) atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static inline uint64_t
counter_read(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

#endif
