/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * One WAL file out of the repository; see fetch.h.
 */
#include "walfetch/fetch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fs.h"
#include "pg/control.h"

#define FETCH_PAUSE_MS 200
#define FETCH_PAUSE_MAX_MS 2000
#define FETCH_FIRM_TRIES 3 /* of what a repetition hardly changes: damage, refusal */
#define FETCH_BACKUP_FILE_MAX (1024 * 1024)

int
fetch_open_repository(
    const Config *cfg, const char *data_dir, const Deadline *dl, Repository **out, Error *err)
{
    AUTO(repository_freep) Repository *repo = NULL;
    RepositoryOptions options = {.need_identities = true};
    ControlFile control = {0};

    if (control_read(data_dir, &control, err) == 0)
        options.system_identifier = control.system_identifier;
    else if (err->kind != ERROR_NOT_FOUND)
        return -1;
    if (repository_open(cfg, &options, dl, &repo, err) < 0)
    {
        if (err->kind == ERROR_NOT_FOUND)
            err->kind = ERROR_IO;
        return -1;
    }
    if (control.segment_bytes != 0 && control.segment_bytes != repo->description.segment_bytes)
        return error_set(
            err, ERROR_CONFLICT,
            "the server has WAL segments of %u bytes, the repository of cluster \"%s\" of %u",
            control.segment_bytes, cfg->cluster.name, repo->description.segment_bytes);
    *out = steal(repo);
    return 0;
}

int
fetch_history(
    Repository *repo, TimelineId tli, const Deadline *dl, char **text, size_t *len,
    TimelineHistory *history, Error *err)
{
    WalFileName name = {.kind = WAL_FILE_HISTORY, .tli = tli};
    AUTO(free_text) char *got = NULL;
    char key[LAYOUT_KEY_MAX];

    (void) layout_wal_file_key(&name, key);
    if (object_get_bytes(
            repo->store, key, repo->identities, TIMELINE_HISTORY_MAX_BYTES, &got, len, dl, err) < 0)
        return -1;
    if (timeline_parse_history(tli, got, *len, history, err) < 0)
        return error_wrap(err, "object \"%s\"", key);
    *text = steal(got);
    return 0;
}

static int
fetch_history_into(Repository *repo, TimelineId tli, int fd, const Deadline *dl, Error *err)
{
    AUTO(timeline_history_reset) TimelineHistory history = {0};
    AUTO(free_text) char *text = NULL;
    size_t len;

    if (fetch_history(repo, tli, dl, &text, &len, &history, err) < 0)
        return -1;
    return fs_write_all(fd, text, len, "timeline history file", err);
}

/* .backup and .partial: what was archived, no more is known of them. */
static int
fetch_object_into(
    Repository *repo, const WalFileName *parsed, int fd, const Deadline *dl, Error *err)
{
    AUTO(stage_freep) Stage *sink = NULL;
    uint64_t max =
        parsed->kind == WAL_FILE_PARTIAL ? repo->description.segment_bytes : FETCH_BACKUP_FILE_MAX;
    char key[LAYOUT_KEY_MAX];

    (void) layout_wal_file_key(parsed, key);
    if (stage_fd_sink_new(fd, "WAL file", &sink, err) < 0)
        return -1;
    return object_get(repo->store, key, repo->identities, max, sink, dl, NULL, err);
}

/*
 * A .partial of a segment of several parts. The first one tells whether it is there; a part that is
 * missing behind it is no absence.
 */
static int
fetch_partial_parts_into(
    Repository *repo, const WalFileName *parsed, int fd, const Deadline *dl, Error *err)
{
    const RepositoryDescription *d = &repo->description;
    char key[LAYOUT_KEY_MAX];
    size_t len = strlen(layout_wal_file_key(parsed, key));

    for (uint64_t at = 0; at < d->segment_bytes; at += d->part_bytes)
    {
        AUTO(stage_freep) Stage *sink = NULL;
        ObjectLabel label;

        (void) snprintf(
            key + len, sizeof key - len, "/%08" PRIX64 "-%08" PRIX64, at, at + d->part_bytes);
        if (stage_fd_sink_new(fd, "WAL file", &sink, err) < 0)
            return -1;
        if (object_get(repo->store, key, repo->identities, d->part_bytes, sink, dl, &label, err) <
            0)
        {
            if (at > 0 && err->kind == ERROR_NOT_FOUND)
                err->kind = ERROR_IO;
            return -1;
        }
        if (label.plain_bytes != d->part_bytes)
            return error_set(
                err, ERROR_CORRUPT, "object \"%s\" holds %" PRIu64 " bytes instead of %u", key,
                label.plain_bytes, d->part_bytes);
    }
    return 0;
}

static int
fetch_once(
    Repository *repo, const char *name, const WalFileName *parsed, SegmentGrowth *growth, int fd,
    const Deadline *dl, SegmentRead *read, Error *err)
{
    SegmentNo segno;

    if (parsed->kind == WAL_FILE_SEGMENT)
    {
        if (growth != NULL)
            return segment_growth_read(growth, false, dl, read, err);
        if (!wal_file_segment_no(parsed, repo->description.segment_bytes, &segno))
            return error_set(
                err, ERROR_USAGE, "there is no WAL segment \"%s\" when segments have %u bytes",
                name, repo->description.segment_bytes);
        return segment_read(repo, parsed->tli, segno, false, fd, dl, read, err);
    }
    if (ftruncate(fd, 0) < 0 || lseek(fd, 0, SEEK_SET) < 0)
    {
        (void) error_sys(err, "could not empty a file");
        err->kind = ERROR_IO;
        return -1;
    }
    if (parsed->kind == WAL_FILE_HISTORY)
        return fetch_history_into(repo, parsed->tli, fd, dl, err);
    if (parsed->kind == WAL_FILE_PARTIAL &&
        repo->description.part_bytes < repo->description.segment_bytes)
        return fetch_partial_parts_into(repo, parsed, fd, dl, err);
    return fetch_object_into(repo, parsed, fd, dl, err);
}

/*
 * A store that lost everything at once (a file system that is not mounted, a bucket that was
 * removed) misses each file with certainty. So absence counts only while the description is there.
 */
static int
fetch_confirm_absence(Repository *repo, const char *name, const Deadline *dl, Error *err)
{
    StoreStat st;
    Error why = {0};

    if (store_stat(repo->store, REPOSITORY_DESCRIPTION_KEY, dl, &st, &why) == 0)
        return error_set(err, ERROR_NOT_FOUND, "the repository does not have \"%s\"", name);
    *err = why;
    if (err->kind == ERROR_NOT_FOUND)
    {
        err->kind = ERROR_IO;
        return error_wrap(err, "the repository's \"%s\" has gone", REPOSITORY_DESCRIPTION_KEY);
    }
    return error_wrap(err, "could not make sure that the repository is there");
}

int
fetch_file(
    Repository *repo, const char *name, const WalFileName *parsed, SegmentGrowth *growth, int fd,
    const Deadline *dl, SegmentRead *read, Error *err)
{
    int64_t pause_ms = FETCH_PAUSE_MS;
    SegmentRead unused;

    for (int tries = 1;; tries++)
    {
        if (fetch_once(repo, name, parsed, growth, fd, dl, read != NULL ? read : &unused, err) == 0)
            return 0;
        if (err->kind == ERROR_NOT_FOUND)
        {
            (void) fetch_confirm_absence(repo, name, dl, err);
            if (err->kind == ERROR_NOT_FOUND)
                return -1;
        }
        switch (err->kind)
        {
            case ERROR_USAGE:
            case ERROR_NOMEM:
            case ERROR_TIMEOUT:
            case ERROR_CANCELED:
                return error_wrap(err, "could not restore \"%s\"", name);
            case ERROR_CORRUPT: /* on the way, perhaps */
            case ERROR_DENIED:
            case ERROR_CONFLICT:
                if (tries >= FETCH_FIRM_TRIES)
                    return error_wrap(err, "could not restore \"%s\"", name);
                break;
            default:
                if (err->sys_errno == ENOSPC || err->sys_errno == EDQUOT || err->sys_errno == EROFS)
                    return error_wrap(err, "could not restore \"%s\"", name);
                break;
        }
        if (deadline_left_ms(dl) <= pause_ms)
            return error_wrap(err, "could not restore \"%s\"", name);
        deadline_sleep_ms(dl, pause_ms);
        pause_ms = MIN(pause_ms * 2, (int64_t) FETCH_PAUSE_MAX_MS);
    }
}
