/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Bytes kept for later; see spill.h.
 */
#include "walbackup/spill.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fs.h"

#define SPILL_FIRST_BYTES (256u * 1024u)
#define SPILL_PORTION_BYTES (256u * 1024u)

void
spill_init(Spill *spill, const char *dir, size_t max)
{
    *spill = (Spill){.dir = dir, .max = max, .fd = -1};
}

void
spill_reset(Spill *spill)
{
    free(spill->data);
    fd_close(&spill->fd);
    spill_init(spill, spill->dir, spill->max);
}

void
spill_clear(Spill *spill)
{
    spill->used = 0;
    spill->file_bytes = 0;
}

uint64_t
spill_bytes(const Spill *spill)
{
    return spill->used + spill->file_bytes;
}

/* Room for all of len in memory, or as much as the bound leaves. */
static int
spill_grow(Spill *spill, size_t len, Error *err)
{
    size_t want = spill->used + MIN(len, spill->max - spill->used);
    size_t cap = MAX(spill->cap, MIN((size_t) SPILL_FIRST_BYTES, spill->max));
    uint8_t *data;

    while (cap < want)
        cap = MIN(2 * cap, spill->max);
    if (cap == spill->cap)
        return 0;
    data = realloc(spill->data, cap);
    if (data == NULL)
        return error_nomem(err);
    spill->data = data;
    spill->cap = cap;
    return 0;
}

static int
spill_open(Spill *spill, Error *err)
{
    spill->fd = fs_open_nameless(spill->dir, err);
    if (spill->fd >= 0)
        return 0;
    return error_hint(
        err, "Changed pages of a large file are kept there: set spool in section [restore], or "
             "TMPDIR.");
}

int
spill_append(Spill *spill, const void *data, size_t len, Error *err)
{
    const uint8_t *p = data;
    size_t n;

    if (spill->file_bytes == 0)
    {
        if (spill_grow(spill, len, err) < 0)
            return -1;
        n = MIN(len, spill->max - spill->used);
        if (n > 0)
            memcpy(spill->data + spill->used, p, n);
        spill->used += n;
        p += n;
        len -= n;
    }
    if (len == 0)
        return 0;
    if (spill->fd < 0 && spill_open(spill, err) < 0)
        return -1;
    if (spill->file_bytes == 0 && lseek(spill->fd, 0, SEEK_SET) < 0)
        return error_sys(err, "could not write a temporary file in \"%s\"", spill->dir);
    if (fs_write_all(spill->fd, p, len, "a temporary file", err) < 0)
        return error_wrap(err, "in \"%s\"", spill->dir);
    spill->file_bytes += len;
    return 0;
}

int
spill_replay(
    Spill *spill, int (*fn)(void *ctx, const void *data, size_t len, Error *err), void *ctx,
    Error *err)
{
    AUTO(free_text) char *portion = NULL;

    for (size_t at = 0; at < spill->used;)
    {
        size_t n = MIN(spill->used - at, (size_t) SPILL_PORTION_BYTES);

        if (fn(ctx, spill->data + at, n, err) < 0)
            return -1;
        at += n;
    }
    if (spill->file_bytes == 0)
        return 0;
    portion = fs_alloc_io(SPILL_PORTION_BYTES);
    if (portion == NULL)
        return error_nomem(err);
    for (uint64_t at = 0; at < spill->file_bytes;)
    {
        size_t n = (size_t) MIN(spill->file_bytes - at, (uint64_t) SPILL_PORTION_BYTES);
        size_t got;

        if (fs_pread_full(spill->fd, portion, n, (off_t) at, &got, "a temporary file", err) < 0)
            return -1;
        if (got != n)
            return error_set(err, ERROR_IO, "a temporary file in \"%s\" has shrunk", spill->dir);
        if (fn(ctx, portion, n, err) < 0)
            return -1;
        at += n;
    }
    return 0;
}
