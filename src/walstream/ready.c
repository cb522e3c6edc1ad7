/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Reading archive_status; see ready.h.
 */
#include "walstream/ready.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"

#define READY_SCAN_MAX 1000000

void
ready_init(ReadyCache *cache)
{
    memset(cache, 0, sizeof *cache);
    (void) pthread_mutex_init(&cache->lock, NULL);
}

void
ready_destroy(ReadyCache *cache)
{
    (void) pthread_mutex_destroy(&cache->lock);
}

static int
ready_compare(const void *a, const void *b)
{
    return memcmp(a, b, WAL_SEGMENT_NAME_LEN);
}

static bool
ready_name_of(const char *file, ReadyName name)
{
    WalFileName parsed;

    if (strlen(file) != WAL_SEGMENT_NAME_LEN + strlen(".ready") ||
        strcmp(file + WAL_SEGMENT_NAME_LEN, ".ready") != 0)
        return false;
    memcpy(name, file, WAL_SEGMENT_NAME_LEN);
    name[WAL_SEGMENT_NAME_LEN] = '\0';
    return wal_file_name_parse(name, &parsed);
}

/* Lock held. Fills the cache with the lowest names behind `after`. */
static void
ready_scan(ReadyCache *cache, int datadir, const char *after)
{
    int fd = openat(datadir, "pg_wal/archive_status", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    ReadyName *names = NULL;
    size_t count = 0, cap = 0;

    cache->count = 0;
    cache->scanned_ms = clock_monotonic_ms();
    if (dir == NULL)
    {
        if (fd >= 0)
            (void) close(fd);
        return;
    }
    while (count < READY_SCAN_MAX && (entry = readdir(dir)) != NULL)
    {
        if (count == cap)
        {
            ReadyName *grown = reallocarray(names, cap == 0 ? 1024 : cap * 2, sizeof *names);

            if (grown == NULL)
                break;
            names = grown;
            cap = cap == 0 ? 1024 : cap * 2;
        }
        if (ready_name_of(entry->d_name, names[count]) && strcmp(names[count], after) > 0)
            count++;
    }
    (void) closedir(dir);
    if (count > 1)
        qsort(names, count, sizeof *names, ready_compare);
    cache->count = MIN(count, READY_CACHE_MAX);
    if (cache->count > 0)
        memcpy(cache->names, names, cache->count * sizeof *names);
    free(names);
}

/* Lock held. */
static size_t
ready_copy(const ReadyCache *cache, const char *after, ReadyName *names, size_t want)
{
    size_t count = 0;

    for (size_t i = 0; i < cache->count && count < want; i++)
        if (strcmp(cache->names[i], after) > 0)
            memcpy(names[count++], cache->names[i], sizeof *names);
    return count;
}

size_t
ready_next(ReadyCache *cache, int datadir, const char *after, ReadyName *names, size_t want)
{
    size_t count;

    (void) pthread_mutex_lock(&cache->lock);
    count = ready_copy(cache, after, names, want);
    if (count < want && clock_monotonic_ms() - cache->scanned_ms >= READY_RESCAN_MS)
    {
        ready_scan(cache, datadir, after);
        count = ready_copy(cache, after, names, want);
    }
    (void) pthread_mutex_unlock(&cache->lock);
    return count;
}
