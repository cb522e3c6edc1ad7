/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Batches of WAL segments; see target_read.h.
 */
#include "walrestore/target_read.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/workers.h"
#include "repo/segment_read.h"

#define TARGET_READ_BYTES (256 * 1024)

static_assert(TARGET_JOBS_MAX <= WORKERS_MAX, "a thread for each job");

void
target_batch_init(TargetBatch *batch, const TargetSearch *search)
{
    uint64_t fit = TARGET_BATCH_BYTES / search->inv->segment_bytes;

    assert(search->jobs >= 1 && search->jobs <= TARGET_JOBS_MAX);
    *batch = (TargetBatch){.search = search, .kept = -1};
    batch->room = (size_t) MAX(1, MIN(fit, UINT64_C(2) * search->jobs));
    for (size_t i = 0; i < ARRAY_COUNT(batch->fds); i++)
        batch->fds[i] = -1;
}

void
target_batch_reset(TargetBatch *batch)
{
    for (size_t i = 0; i < ARRAY_COUNT(batch->fds); i++)
        fd_close(&batch->fds[i]);
    fd_close(&batch->kept);
}

/* An empty file: a new one without a name, or *fd cut. */
static int
target_batch_empty(int *fd, Error *err)
{
    const char *dir = getenv("TMPDIR");
    char path[512];

    if (*fd >= 0)
        return ftruncate(*fd, 0) == 0 ? 0 : error_sys(err, "could not empty a temporary file");
    if (dir == NULL || dir[0] == '\0')
        dir = "/tmp";
    if ((size_t) snprintf(path, sizeof path, "%s/walrestore.XXXXXX", dir) >= sizeof path)
        return error_set(err, ERROR_USAGE, "the name of the directory in TMPDIR is too long");
    *fd = mkostemp(path, O_CLOEXEC);
    if (*fd < 0)
        return error_sys(err, "could not create a temporary file in \"%s\"", dir);
    if (unlink(path) < 0)
        return error_sys(err, "could not remove temporary file \"%s\"", path);
    return 0;
}

static int
target_batch_fetch_one(void *ctx, size_t i, Error *err)
{
    TargetBatch *batch = ctx;
    const TargetSearch *search = batch->search;
    SegmentNo segno = batch->first + i;
    TimelineId tli = recovery_segment_timeline(search->inv, batch->history, segno);
    Deadline dl = deadline_after_ms(search->timeout_ms, search->cancel);
    char name[WAL_SEGMENT_NAME_LEN + 1];
    SegmentRead result;

    (void) wal_segment_name(tli, segno, search->inv->segment_bytes, name, sizeof name);
    if (tli == 0)
        (void) error_set(err, ERROR_TRANSIENT, "the listing has nothing of it");
    else if (
        target_batch_empty(&batch->fds[i], err) == 0 &&
        segment_read(search->repo, tli, segno, false, batch->fds[i], &dl, &result, err) == 0)
        return 0;
    /* of what was listed, this says nothing about the target */
    if (err->kind == ERROR_NOT_FOUND)
        err->kind = ERROR_TRANSIENT;
    return error_wrap(err, "could not read WAL segment %s", name);
}

int
target_batch_fetch(
    TargetBatch *batch, const TimelineHistory *history, SegmentNo first, size_t count, Error *err)
{
    assert(count >= 1 && count <= batch->room);
    batch->history = history;
    batch->first = first;
    batch->count = count;
    return workers_each(batch->search->jobs, count, target_batch_fetch_one, batch, err);
}

static int
target_batch_push(const TargetBatch *batch, int fd, WalScan *scan, Error *err)
{
    AUTO(free_text) char *buf = malloc(TARGET_READ_BYTES);
    uint32_t left = batch->search->inv->segment_bytes;
    off_t at = 0;

    if (buf == NULL)
        return error_nomem(err);
    while (left > 0)
    {
        size_t n = MIN(left, TARGET_READ_BYTES);
        size_t got;
        int rc;

        if (fs_pread_full(fd, buf, n, at, &got, "a temporary file", err) < 0)
            return -1;
        if (got < n)
            return error_set(err, ERROR_IO, "a temporary file is shorter than what was written");
        rc = wal_scan_write(scan, buf, n, err);
        if (rc != 0)
            return rc;
        at += (off_t) n;
        left -= (uint32_t) n;
    }
    return 0;
}

int
target_batch_scan(TargetBatch *batch, size_t i, WalScan *scan, Error *err)
{
    assert(i < batch->count);
    return target_batch_push(batch, batch->fds[i], scan, err);
}

void
target_batch_keep_first(TargetBatch *batch)
{
    int fd = batch->fds[0];

    batch->fds[0] = batch->kept;
    batch->kept = fd;
}

void
target_batch_forget_kept(TargetBatch *batch)
{
    fd_close(&batch->kept);
    batch->kept = -1;
}

int
target_batch_scan_kept(TargetBatch *batch, WalScan *scan, Error *err)
{
    assert(batch->kept >= 0);
    return target_batch_push(batch, batch->kept, scan, err);
}
