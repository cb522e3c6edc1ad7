/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * See wal_wait.h.
 *
 * What a crash leaves: pieces and segments of WAL, which are complete under their own names.
 */
#include "walbackup/wal_wait.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/log.h"
#include "pg/page.h"
#include "repo/archive.h"
#include "repo/catalog.h"

#define WAL_WAIT_FIRST_MS 100
#define WAL_WAIT_STEP_MS 1000
#define WAL_WAIT_MAX_MS 5000
#define WAL_WAIT_HELP_MS 4000
#define WAL_WAIT_HELP_AGAIN_MS 60000
#define WAL_WAIT_READ_BYTES (1024u * 1024u)

typedef struct WalWait
{
    BackupRun *run;
    const char *data; /* the data directory; NULL: not ours to read */
    Lsn from;         /* beginning of start_lsn's segment */
    Lsn stop;
    Lsn reached; /* the repository has it from from to here */
    bool told;
} WalWait;

static int
wal_wait_look(WalWait *w, CatalogRanges *ranges, Error *err)
{
    Deadline dl = deadline_after_ms(w->run->options.timeout_ms, w->run->cancel);

    catalog_ranges_reset(ranges);
    if (catalog_list_ranges(w->run->repo, w->run->header.tli, w->from, &dl, ranges, err) < 0)
        return -1;
    w->reached = w->from;
    for (size_t i = 0; i < ranges->count; i++)
        if (ranges->items[i].start <= w->from && ranges->items[i].end > w->from)
            w->reached = ranges->items[i].end;
    return 0;
}

/* ---- helping ---- */

/* WAL of one segment, [0, end) in file, of which [start, end) is missing. */
typedef struct WalHelp
{
    WalWait *w;
    WalExtent extent;
    int fd;
    char name[WAL_NAME_MAX];
    uint8_t *buf; /* WAL_WAIT_READ_BYTES */
    Deadline dl;
} WalHelp;

/* Passes [start, end) of the file to the check or the writer. */
static int
wal_help_read(
    WalHelp *h, uint32_t start, uint32_t end, WalCheck *check, ObjectWriter *writer, Error *err)
{
    for (uint32_t at = start; at < end;)
    {
        size_t want = MIN(end - at, WAL_WAIT_READ_BYTES);
        size_t got;

        if (fs_pread_full(h->fd, h->buf, want, at, &got, h->name, err) < 0)
            return -1;
        if (got < want)
            return error_set(err, ERROR_CORRUPT, "\"%s\" is shorter than a segment", h->name);
        if (check != NULL && wal_check_write(check, h->buf, got, err) < 0)
            return -1;
        if (writer != NULL && object_writer_write(writer, h->buf, got, err) < 0)
            return -1;
        at += (uint32_t) got;
    }
    return 0;
}

static int
wal_help_put_piece(WalHelp *h, const WalExtent *piece, Error *err)
{
    Repository *repo = h->w->run->repo;
    AUTO(chunkbuf_reset) ChunkBuf body;
    AUTO(object_writer_freep) ObjectWriter *writer = NULL;
    char key[LAYOUT_KEY_MAX];
    ObjectLabel label;
    ObjectPutResult put;

    (void) layout_piece_key(piece, repo->description.segment_bytes, key);
    chunkbuf_init(&body, repo->pool, h->dl);
    if (object_writer_new(&repo->format, key, piece->end - piece->start, &body, &writer, err) < 0 ||
        wal_help_read(h, piece->start, piece->end, NULL, writer, err) < 0 ||
        object_writer_finish(writer, &label, err) < 0)
        return -1;
    return object_put(repo->store, &label, &body, &h->dl, &put, err);
}

static int
wal_help_store(WalHelp *h, Error *err)
{
    const RepositoryDescription *d = &h->w->run->repo->description;
    WalExpect expect = {
        .system_identifier = d->system_identifier,
        .segment_bytes = d->segment_bytes,
        .pg_major = h->w->run->header.pg_major,
        .tli = h->extent.tli,
        .segno = h->extent.segno};
    ArchiveResult result;
    WalCheck check;

    if (h->extent.start == 0 && h->extent.end == d->segment_bytes)
        return archive_file(h->w->run->repo, h->fd, h->name, &h->dl, &result, err);

    /* a file that is kept for reuse has older WAL behind its end; none of it is below the stop */
    wal_check_init(&check, &expect);
    if (wal_help_read(h, 0, h->extent.end, &check, NULL, err) < 0)
        return -1;
    for (uint32_t at = h->extent.start; at < h->extent.end;)
    {
        WalExtent piece = h->extent;

        piece.start = at;
        piece.end = MIN(h->extent.end, (at / d->part_bytes + 1) * d->part_bytes);
        if (wal_help_put_piece(h, &piece, err) < 0)
            return -1;
        at = piece.end;
    }
    return 0;
}

static int
wal_help_segment(WalWait *w, const WalExtent *extent, Error *err)
{
    AUTO(free_text) char *buf = fs_alloc_io(WAL_WAIT_READ_BYTES);
    AUTO(fd_close) int fd = -1;
    WalHelp h = {.w = w, .extent = *extent, .buf = (uint8_t *) buf};
    char path[4096];

    if (buf == NULL)
        return error_nomem(err);
    h.dl = deadline_after_ms(w->run->options.timeout_ms, w->run->cancel);
    (void) wal_segment_name(
        extent->tli, extent->segno, w->run->repo->description.segment_bytes, h.name, sizeof h.name);
    (void) snprintf(path, sizeof path, "%s/pg_wal/%s", w->data, h.name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_sys(err, "could not open \"%s\"", path);
    h.fd = fd;
    return wal_help_store(&h, err);
}

/* What of [from, stop) is in no range, one segment after the other. */
static int
wal_help(WalWait *w, const CatalogRanges *ranges, Error *err)
{
    uint32_t segment_bytes = w->run->repo->description.segment_bytes;
    Lsn at = w->from;

    while (at < w->stop)
    {
        SegmentNo segno = wal_segment_of(at, segment_bytes);
        Lsn segment_start = wal_segment_start(segno, segment_bytes);
        Lsn end = MIN(segment_start + segment_bytes, w->stop);
        Lsn covered = LSN_INVALID;

        for (size_t i = 0; i < ranges->count; i++)
        {
            const CatalogRange *r = &ranges->items[i];

            if (r->start <= at && r->end > at)
                covered = r->end;
            else if (r->start > at)
                end = MIN(end, r->start);
        }
        if (covered == LSN_INVALID)
        {
            WalExtent extent = {
                .tli = w->run->header.tli,
                .segno = segno,
                .start = (uint32_t) (at - segment_start),
                .end = (uint32_t) (end - segment_start)};

            if (wal_help_segment(w, &extent, err) < 0)
                return -1;
        }
        at = covered != LSN_INVALID ? covered : end;
    }
    return 0;
}

/* The history file of the backup's timeline: without it no later timeline finds its way back. */
static int
wal_help_history(WalWait *w, Error *err)
{
    AUTO(timeline_history_reset) TimelineHistory history = {0};
    AUTO(fd_close) int fd = -1;
    TimelineId tli = w->run->header.tli;
    Deadline dl = deadline_after_ms(w->run->options.timeout_ms, w->run->cancel);
    ArchiveResult result;
    char name[WAL_NAME_MAX], path[4096];

    if (tli == 1 || w->data == NULL)
        return 0;
    if (catalog_read_history(w->run->repo, tli, &dl, &history, err) == 0 ||
        err->kind != ERROR_NOT_FOUND)
        return 0; /* it is there; it may be encrypted for others */
    (void) snprintf(name, sizeof name, "%08" PRIX32 ".history", tli);
    (void) snprintf(path, sizeof path, "%s/pg_wal/%s", w->data, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_sys(err, "could not open \"%s\"", path);
    return archive_file(w->run->repo, fd, name, &dl, &result, err);
}

/* ---- waiting ---- */

static int
wal_wait_gave_up(const WalWait *w, Error *err)
{
    const BackupHeader *header = &w->run->header;
    char at[LSN_TEXT_BYTES], stop[LSN_TEXT_BYTES], segment[WAL_NAME_MAX];
    uint32_t segment_bytes = w->run->repo->description.segment_bytes;

    (void) error_set(
        err, ERROR_TIMEOUT,
        "after %" PRId64 " s the repository still lacks WAL from %s to %s (segment %s), without "
        "which the backup is not consistent",
        w->run->options.wal_timeout_ms / 1000, lsn_format(w->reached, at, sizeof at),
        lsn_format(w->stop, stop, sizeof stop),
        wal_segment_name(
            header->tli, wal_segment_of(w->reached, segment_bytes), segment_bytes, segment,
            sizeof segment));
    if (header->from_standby)
        return error_hint(
            err, "Does archive_command or walstream work on the primary? SELECT pg_switch_wal() "
                 "there completes the segment.");
    return error_hint(
        err, "Does archive_command work (pg_stat_archiver), or does walstream run? The next try "
             "takes up what is stored.");
}

static void
wal_wait_tell(WalWait *w)
{
    char at[LSN_TEXT_BYTES], stop[LSN_TEXT_BYTES];

    if (w->told)
        return;
    w->told = true;
    log_write(
        LOG_INFO, "waiting until the repository has WAL up to %s; it has it up to %s",
        lsn_format(w->stop, stop, sizeof stop), lsn_format(w->reached, at, sizeof at));
}

int
wal_wait(BackupRun *run, Error *err)
{
    uint32_t segment_bytes = run->repo->description.segment_bytes;
    AUTO(catalog_ranges_reset) CatalogRanges ranges = {0};
    Deadline dl = deadline_after_ms(run->options.wal_timeout_ms, run->cancel);
    WalWait w = {
        .run = run,
        .data = run->options.stream ? NULL : run->cfg->cluster.data,
        .from =
            wal_segment_start(wal_segment_of(run->header.start_lsn, segment_bytes), segment_bytes),
        .stop = run->header.stop_lsn};
    int64_t help_ms = clock_monotonic_ms() + WAL_WAIT_HELP_MS;
    int64_t pause_ms = WAL_WAIT_FIRST_MS;
    Lsn last = LSN_INVALID;
    Error why = {0};

    if (wal_help_history(&w, &why) < 0)
        log_error(LOG_WARNING, &why);
    for (;;)
    {
        if (wal_wait_look(&w, &ranges, err) < 0)
            return error_wrap(err, "could not see whether the repository has the backup's WAL");
        if (w.reached >= w.stop)
            return 0;
        if (w.reached > last)
        {
            help_ms = clock_monotonic_ms() + WAL_WAIT_HELP_MS;
            last = w.reached;
        }
        if (deadline_left_ms(&dl) == 0)
            return atomic_load(run->cancel) ? deadline_check(&dl, "waiting for WAL", err)
                                            : wal_wait_gave_up(&w, err);
        if (pause_ms >= WAL_WAIT_STEP_MS)
            wal_wait_tell(&w);
        if (w.data != NULL && clock_monotonic_ms() >= help_ms)
        {
            help_ms = clock_monotonic_ms() + WAL_WAIT_HELP_AGAIN_MS;
            if (wal_help(&w, &ranges, &why) == 0)
            {
                log_write(LOG_INFO, "stored the WAL that was missing from this server's pg_wal");
                continue;
            }
            log_write(LOG_INFO, "could not store the missing WAL from pg_wal: %s", why.msg);
        }
        deadline_sleep_ms(&dl, pause_ms);
        pause_ms = MIN(pause_ms * 2, WAL_WAIT_MAX_MS);
    }
}
