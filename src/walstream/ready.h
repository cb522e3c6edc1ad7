/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Which segments PostgreSQL will hand to archive_command next: pg_wal/archive_status/<name>.ready.
 * The folder can hold a hundred thousand names when archiving was down, so one reading of it serves
 * many questions.
 */
#ifndef WALSTREAM_READY_H
#define WALSTREAM_READY_H

#include <pthread.h>

#include "common/error.h"
#include "pg/wal.h"

#define READY_CACHE_MAX 512
#define READY_RESCAN_MS 500

typedef char ReadyName[WAL_SEGMENT_NAME_LEN + 1];

typedef struct ReadyCache
{
    pthread_mutex_t lock; /* guards everything below */
    ReadyName names[READY_CACHE_MAX];
    size_t count;
    int64_t scanned_ms;
} ReadyCache;

void ready_init(ReadyCache *cache);
void ready_destroy(ReadyCache *cache);

/*
 * Up to want names behind `after`, lowest first. datadir is a descriptor of the data directory;
 * what cannot be read gives no names.
 */
size_t ready_next(ReadyCache *cache, int datadir, const char *after, ReadyName *names, size_t want);

#endif
