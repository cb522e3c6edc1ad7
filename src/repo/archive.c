/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Archiving one file of pg_wal; see archive.h.
 *
 * What a crash leaves: nothing, or an object that is complete under its own name (objects are
 * created in one step by the store). PostgreSQL offers the file again, the object is found and
 * compared. A segment of several parts may be left with some of them; the rest follows then.
 */
#include "repo/archive.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fs.h"
#include "pg/page.h"
#include "pg/timeline.h"
#include "repo/archive_padded.h"
#include "repo/segment_read.h"

#define ARCHIVE_READ_BYTES (1024 * 1024)
#define ARCHIVE_SMALL_MAX_BYTES (1024 * 1024) /* history and backup history files */

/* A file being archived: what stays the same for all its parts. */
typedef struct ArchiveSource
{
    Repository *repo;
    int fd;
    const char *name;
    const Deadline *dl;
    uint8_t *buf; /* ARCHIVE_READ_BYTES */
} ArchiveSource;

static int
archive_not_complete(const ArchiveSource *src, const WalCheck *check, bool padded, Error *err)
{
    (void) error_set(
        err, ERROR_CORRUPT, "\"%s\" is not a complete WAL segment: %s%" PRIu64, src->name,
        padded
            ? "walfetch put it together from pieces, and the repository does not have all WAL in "
              "it, which ends at offset "
            : "WAL ends at offset ",
        check->data_end);
    return error_hint(
        err, "The complete segment must come from the server that wrote it; do not archive "
             "restored files.");
}

/*
 * Passes [start, end) of the file through check and, if there is one, writer.
 */
static int
archive_read_range(
    ArchiveSource *src, uint64_t start, uint64_t end, WalCheck *check, ObjectWriter *writer,
    Error *err)
{
    for (uint64_t at = start; at < end;)
    {
        size_t want = (size_t) MIN(end - at, ARCHIVE_READ_BYTES);
        size_t got;

        if (deadline_check(src->dl, "reading WAL", err) < 0)
            return -1;
        if (fs_pread_full(src->fd, src->buf, want, (off_t) at, &got, src->name, err) < 0)
            return -1;
        if (got < want)
            return error_set(
                err, ERROR_CORRUPT, "\"%s\" ended at byte %" PRIu64 " while it was read", src->name,
                at + got);
        if (check != NULL && wal_check_write(check, src->buf, got, err) < 0)
            return -1;
        if (writer != NULL && object_writer_write(writer, src->buf, got, err) < 0)
            return -1;
        at += got;
    }
    return 0;
}

static int
archive_finish_check(ArchiveSource *src, WalCheck *check, Error *err)
{
    bool complete;

    if (wal_check_finish(check, &complete, err) < 0)
        return -1;
    return complete ? 0 : archive_not_complete(src, check, false, err);
}

static int
archive_is_padded(ArchiveSource *src, bool *padded, Error *err)
{
    uint8_t last[SEGMENT_PAD_MARK_BYTES];
    size_t got;

    if (fs_pread_full(
            src->fd, last, sizeof last,
            (off_t) (src->repo->description.segment_bytes - sizeof last), &got, src->name, err) < 0)
        return -1;
    *padded = got == sizeof last && segment_is_padded(last);
    return 0;
}

/* Stored as it is it must never be; but it came from the repository, and may be all there. */
static int
archive_padded(ArchiveSource *src, const WalExpect *expect, Error *err)
{
    WalCheck check;
    bool complete, stored;

    wal_check_init(&check, expect);
    if (archive_read_range(src, 0, expect->segment_bytes, &check, NULL, err) < 0 ||
        wal_check_finish(&check, &complete, err) < 0 ||
        archive_padded_is_stored(
            src->repo, src->fd, src->name, expect->tli, expect->segno, check.data_end, src->dl,
            &stored, err) < 0)
        return -1;
    return stored ? 0 : archive_not_complete(src, &check, true, err);
}

/*
 * Encodes [start, end) as the object key and puts it. check, if not NULL, sees the bytes too and is
 * finished before anything is stored.
 */
static int
archive_put_range(
    ArchiveSource *src, uint64_t start, uint64_t end, const char *key, WalCheck *check,
    ArchiveResult *result, Error *err)
{
    AUTO(chunkbuf_reset) ChunkBuf body;
    AUTO(object_writer_freep) ObjectWriter *writer = NULL;
    ObjectLabel label;
    ObjectPutResult put;

    chunkbuf_init(&body, src->repo->pool, *src->dl);
    if (object_writer_new(&src->repo->format, key, end - start, &body, &writer, err) < 0 ||
        archive_read_range(src, start, end, check, writer, err) < 0)
        return -1;
    if (check != NULL && archive_finish_check(src, check, err) < 0)
        return -1;
    if (object_writer_finish(writer, &label, err) < 0)
        return -1;
    if (object_put(src->repo->store, &label, &body, src->dl, &put, err) < 0)
        return -1;
    if (put == OBJECT_CREATED)
        *result = ARCHIVE_STORED;
    return 0;
}

static int
archive_file_bytes(ArchiveSource *src, uint64_t *bytes, Error *err)
{
    struct stat sb;

    if (fstat(src->fd, &sb) < 0)
        return error_sys(err, "could not look at \"%s\"", src->name);
    if (!S_ISREG(sb.st_mode))
        return error_set(err, ERROR_USAGE, "\"%s\" is not a regular file", src->name);
    *bytes = (uint64_t) sb.st_size;
    return 0;
}

static int
archive_check_size(ArchiveSource *src, Error *err)
{
    uint32_t want = src->repo->description.segment_bytes;
    uint64_t bytes;

    if (archive_file_bytes(src, &bytes, err) < 0)
        return -1;
    if (bytes != want)
        return error_set(
            err, wal_segment_bytes_valid(bytes) ? ERROR_CONFLICT : ERROR_CORRUPT,
            "\"%s\" has %" PRIu64 " bytes, WAL segments of this cluster have %u", src->name, bytes,
            want);
    return 0;
}

static int
archive_segment(ArchiveSource *src, const WalFileName *parsed, ArchiveResult *result, Error *err)
{
    const RepositoryDescription *d = &src->repo->description;
    WalExtent part = {.tli = parsed->tli};
    char key[LAYOUT_KEY_MAX];
    WalExpect expect = {
        .system_identifier = d->system_identifier,
        .segment_bytes = d->segment_bytes,
        .pg_major = 0, /* pg_upgrade gives a new system identifier: nothing to add here */
        .tli = parsed->tli};
    WalCheck check;
    bool padded;

    if (!wal_file_segment_no(parsed, d->segment_bytes, &expect.segno))
        return error_set(
            err, ERROR_CONFLICT, "\"%s\" is no name of a WAL segment of %u bytes", src->name,
            d->segment_bytes);
    if (archive_check_size(src, err) < 0 || archive_is_padded(src, &padded, err) < 0)
        return -1;
    if (padded)
        return archive_padded(src, &expect, err);
    part.segno = expect.segno;

    if (d->part_bytes == d->segment_bytes)
    {
        /* one pass: checked while it is encoded, stored only if the check was good */
        part.end = d->segment_bytes;
        wal_check_init(&check, &expect);
        return archive_put_range(
            src, 0, d->segment_bytes, layout_part_key(&part, d->segment_bytes, key), &check, result,
            err);
    }

    wal_check_init(&check, &expect);
    if (archive_read_range(src, 0, d->segment_bytes, &check, NULL, err) < 0 ||
        archive_finish_check(src, &check, err) < 0)
        return -1;
    for (uint64_t at = 0; at < d->segment_bytes; at += d->part_bytes)
    {
        part.start = (uint32_t) at;
        part.end = (uint32_t) (at + d->part_bytes);
        if (archive_put_range(
                src, part.start, part.end, layout_part_key(&part, d->segment_bytes, key), NULL,
                result, err) < 0)
            return -1;
    }
    return 0;
}

/*
 * "<segment>.partial": the old timeline's last segment after a promotion. Only its beginning is
 * WAL; behind the switch point a recycled file holds anything, so just the first page is checked.
 */
static int
archive_partial(ArchiveSource *src, const WalFileName *parsed, ArchiveResult *result, Error *err)
{
    const RepositoryDescription *d = &src->repo->description;
    char key[LAYOUT_KEY_MAX + 32];
    WalPageHeader page;
    SegmentNo segno;
    size_t got;

    if (!wal_file_segment_no(parsed, d->segment_bytes, &segno))
        return error_set(
            err, ERROR_CONFLICT, "\"%s\" is no name of a WAL segment of %u bytes", src->name,
            d->segment_bytes);
    if (archive_check_size(src, err) < 0 ||
        fs_pread_full(src->fd, src->buf, WAL_PAGE_LONG_BYTES, 0, &got, src->name, err) < 0)
        return -1;
    if (!wal_page_read(src->buf, got, &page) || !page.is_long ||
        wal_page_magic_version(page.magic) == 0 ||
        page.page_address != wal_segment_start(segno, d->segment_bytes))
        return error_set(
            err, ERROR_CORRUPT, "\"%s\" does not begin with the WAL page of its name", src->name);
    if (page.system_identifier != d->system_identifier)
        return error_set(
            err, ERROR_CONFLICT,
            "\"%s\" is WAL of system identifier %" PRIu64 ", the repository is for %" PRIu64,
            src->name, page.system_identifier, d->system_identifier);

    (void) layout_wal_file_key(parsed, key);
    if (d->part_bytes == d->segment_bytes)
        return archive_put_range(src, 0, d->segment_bytes, key, NULL, result, err);

    size_t key_len = strlen(key);

    for (uint64_t at = 0; at < d->segment_bytes; at += d->part_bytes)
    {
        (void) snprintf(
            key + key_len, sizeof key - key_len, "/%08" PRIX64 "-%08" PRIX64, at,
            at + d->part_bytes);
        if (archive_put_range(src, at, at + d->part_bytes, key, NULL, result, err) < 0)
            return -1;
    }
    return 0;
}

/* Timeline history and backup history files: small texts. */
static int
archive_small(ArchiveSource *src, const WalFileName *parsed, ArchiveResult *result, Error *err)
{
    char key[LAYOUT_KEY_MAX];
    AUTO(free_text) char *text = NULL;
    uint64_t bytes;
    size_t got;

    if (archive_file_bytes(src, &bytes, err) < 0)
        return -1;
    if (bytes > ARCHIVE_SMALL_MAX_BYTES)
        return error_set(
            err, ERROR_CORRUPT, "\"%s\" has %" PRIu64 " bytes, more than such a file can have",
            src->name, bytes);
    text = malloc(bytes + 1);
    if (text == NULL)
        return error_nomem(err);
    if (fs_pread_full(src->fd, text, bytes, 0, &got, src->name, err) < 0)
        return -1;
    text[got] = '\0';

    if (parsed->kind == WAL_FILE_HISTORY)
    {
        AUTO(timeline_history_reset) TimelineHistory history = {0};

        if (timeline_parse_history(parsed->tli, text, got, &history, err) < 0)
            return error_wrap(err, "\"%s\" is not a timeline history file", src->name);
    }
    else if (strstr(text, "START WAL LOCATION: ") == NULL)
        return error_set(err, ERROR_CORRUPT, "\"%s\" is not a backup history file", src->name);

    ObjectPutResult put;

    if (object_put_bytes(
            src->repo->store, &src->repo->format, layout_wal_file_key(parsed, key), text, got,
            src->dl, &put, err) < 0)
        return -1;
    if (put == OBJECT_CREATED)
        *result = ARCHIVE_STORED;
    return 0;
}

int
archive_file(
    Repository *repo, int fd, const char *name, const Deadline *dl, ArchiveResult *result,
    Error *err)
{
    AUTO(free_text) char *buf = fs_alloc_io(ARCHIVE_READ_BYTES);
    ArchiveSource src = {.repo = repo, .fd = fd, .name = name, .dl = dl, .buf = (uint8_t *) buf};
    WalFileName parsed;
    int rc = -1;

    *result = ARCHIVE_ALREADY_THERE;
    if (buf == NULL)
        return error_nomem(err);
    if (!wal_file_name_parse(name, &parsed))
        return error_set(err, ERROR_USAGE, "\"%s\" is not the name of a WAL file", name);
    switch (parsed.kind)
    {
        case WAL_FILE_SEGMENT:
            rc = archive_segment(&src, &parsed, result, err);
            break;
        case WAL_FILE_PARTIAL:
            rc = archive_partial(&src, &parsed, result, err);
            break;
        case WAL_FILE_HISTORY:
        case WAL_FILE_BACKUP:
            rc = archive_small(&src, &parsed, result, err);
            break;
    }
    if (rc < 0)
        return error_wrap(err, "could not archive \"%s\"", name);
    return 0;
}
