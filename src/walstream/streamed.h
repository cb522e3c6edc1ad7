/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What this walstream knows about segments that it has received or archived lately, so that walpush
 * can be answered without reading the repository. A bounded memory: what it has forgotten is asked
 * of the repository again.
 */
#ifndef WALSTREAM_STREAMED_H
#define WALSTREAM_STREAMED_H

#include <pthread.h>
#include <sys/stat.h>

#include "pg/wal.h"

#define STREAMED_MAX 512

typedef struct StreamedDigest
{
    uint64_t low, high; /* XXH3, 128 bits, of the whole segment */
} StreamedDigest;

typedef struct StreamedSegment
{
    char name[WAL_NAME_MAX + 1];
    TimelineId tli;
    Lsn end;
    bool received; /* through replication: digest is valid, durable when the ledger passes end */
    StreamedDigest digest;
    bool dropped;  /* it will not be stored whole by the stream: only pieces hold it */
    bool archived; /* before being asked for: the file below is durable in the repository */
    struct stat file;
} StreamedSegment;

typedef struct Streamed
{
    pthread_mutex_t lock; /* guards everything below */
    StreamedSegment items[STREAMED_MAX];
    size_t next; /* ring */
} Streamed;

void streamed_init(Streamed *s);
void streamed_destroy(Streamed *s);

/* Copies out what is known of name; false if nothing. */
MUST_CHECK bool streamed_find(Streamed *s, const char *name, StreamedSegment *out);

/* Replaces what is known of seg->name. */
void streamed_put(Streamed *s, const StreamedSegment *seg);

/* The stream has given up storing a part of name whole. */
void streamed_note_dropped(Streamed *s, const char *name);

/* name was archived from the file that file tells of; keeps what is known from the stream. */
void streamed_note_archived(Streamed *s, const char *name, const struct stat *file);

/* Whether these describe the same, unchanged file. */
bool streamed_same_file(const struct stat *a, const struct stat *b);

#endif
