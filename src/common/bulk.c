/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Memory that need not be resident; see bulk.h.
 *
 * The file is mapped shared: pages that are given back (MADV_DONTNEED) stay in the page cache or on
 * the disk, with what was written to them. The same call would empty pages that are not of the
 * file, so it never reaches into memory or behind what is mapped. Room in the
 * file is allocated before it is mapped: a full disk is seen then, and not by SIGBUS.
 */
#include "common/bulk.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "common/fs.h"

#define BULK_RESERVE_BYTES ((size_t) 16 << 30)
#define BULK_RESERVE_LEAST ((size_t) 32 << 20) /* where the address space is limited ... */
#define BULK_RESERVE_SHARE 64                  /* ... to so many times this */
#define BULK_STEP_BYTES ((size_t) 16 << 20)    /* a multiple of pages of any size */
#define BULK_FRESH_BYTES BULK_MEMORY_BYTES

static_assert(
    BULK_STEP_BYTES % BULK_MEMORY_BYTES == 0 && BULK_TABLE_BYTES % BULK_MEMORY_BYTES == 0,
    "all end where pages do");

void
bulk_reset(Bulk *bulk)
{
    int fd = bulk->file - 1;

    if (bulk->data != NULL)
        (void) munmap(bulk->data, bulk->reserved);
    fd_close(&fd);
    *bulk = (Bulk){.dir = bulk->dir, .memory = bulk->memory};
}

static int
bulk_reserve(Bulk *bulk, Error *err)
{
    struct rlimit limit;
    size_t first = BULK_RESERVE_BYTES;

    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
        while (first > BULK_RESERVE_LEAST && first > limit.rlim_cur / BULK_RESERVE_SHARE)
            first /= 2;
    for (size_t bytes = first; bytes >= BULK_RESERVE_LEAST; bytes /= 2)
    {
        void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

        if (p == MAP_FAILED)
            continue;
        bulk->data = p;
        bulk->reserved = bytes;
        return 0;
    }
    return error_nomem(err);
}

/* The next bytes of address space become the file's. */
static bool
bulk_map(Bulk *bulk, size_t bytes)
{
    Error unused;

    if (bulk->dir == NULL || bulk->no_file)
        return false;
    if (bulk->file == 0)
        bulk->file = fs_open_nameless(bulk->dir, &unused) + 1;
    if (bulk->file == 0 ||
        posix_fallocate(bulk->file - 1, (off_t) bulk->mapped, (off_t) bytes) != 0)
        return false;
    return mmap(
               bulk->data + bulk->ready, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
               bulk->file - 1, (off_t) bulk->mapped) != MAP_FAILED;
}

/* Of the address space, in front of what is mapped. */
static size_t
bulk_memory(const Bulk *bulk)
{
    return bulk->memory > 0 ? bulk->memory : BULK_MEMORY_BYTES;
}

static int
bulk_grow(Bulk *bulk, Error *err)
{
    size_t bytes = bulk->ready == 0 ? bulk_memory(bulk) : BULK_STEP_BYTES;

    if (bulk->data == NULL && bulk_reserve(bulk, err) < 0)
        return -1;
    if (bytes > bulk->reserved - bulk->ready)
        return error_nomem(err);
    if (bulk->ready > 0 && bulk_map(bulk, bytes))
        bulk->mapped += bytes;
    else
    {
        /* what is mapped must have no memory in it */
        bulk->no_file = bulk->no_file || bulk->ready > 0;
        if (mprotect(bulk->data + bulk->ready, bytes, PROT_READ | PROT_WRITE) < 0)
            return error_nomem(err);
    }
    bulk->ready += bytes;
    return 0;
}

void *
bulk_add(Bulk *bulk, size_t bytes, Error *err)
{
    void *added;

    assert(bytes > 0);
    while (bytes > bulk->ready - bulk->used)
        if (bulk_grow(bulk, err) < 0)
            return NULL;
    bulk->fresh += bytes;
    if (bulk->fresh >= BULK_FRESH_BYTES)
    {
        bulk->fresh = 0;
        bulk_release(bulk);
    }
    added = bulk->data + bulk->used;
    bulk->used += bytes;
    return added;
}

void
bulk_release(Bulk *bulk)
{
    if (bulk->mapped > 0)
        (void) madvise(bulk->data + bulk_memory(bulk), bulk->mapped, MADV_DONTNEED);
}
