/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The bundle writers are substitutes: each sums up what it gets of a file.
 */
#include "walbackup/stream_workers.h"

#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "tap.h"

#define FILES 300
#define LARGEST (2u * 1024u * 1024u)

/* ---- substitutes ---- */

struct BundleWriter
{
    BackupFile *file;
    uint64_t bytes;
    bool same;
};

static struct
{
    atomic_uint good, bad, folders, closed;
    unsigned number_fails; /* this file cannot be stored; 0: none */
    atomic_bool hold;      /* nothing is stored while it is set */
    bool close_fails;
} store;

static uint8_t
expected(unsigned number, uint64_t at)
{
    return (uint8_t) (number * 7 + at / 4096 + at % 4096);
}

static unsigned
file_number(const char *path)
{
    return (unsigned) strtoul(strrchr(path, '/') + 1, NULL, 10);
}

int
bundle_writer_new(BundleSet *set, BundleWriter **out, Error *err)
{
    (void) set;
    *out = calloc(1, sizeof **out);
    return *out != NULL ? 0 : error_nomem(err);
}

void
bundle_writer_free(BundleWriter *w)
{
    free(w);
}

int
bundle_writer_begin_file(BundleWriter *w, BackupFile *file, Error *err)
{
    while (atomic_load(&store.hold))
        clock_sleep_ms(1);
    if (file->kind == BACKUP_FILE_FOLDER)
    {
        atomic_fetch_add(&store.folders, 1);
        return 0;
    }
    if (store.number_fails != 0 && file_number(file->path) == store.number_fails)
        return error_set(err, ERROR_DENIED, "the store says no");
    w->file = file;
    w->bytes = 0;
    w->same = true;
    return 0;
}

int
bundle_writer_write(BundleWriter *w, const void *data, size_t len, Error *err)
{
    const uint8_t *p = data;
    unsigned number = file_number(w->file->path);

    (void) err;
    for (size_t i = 0; i < len; i += 509)
        w->same = w->same && p[i] == expected(number, w->bytes + i);
    w->bytes += len;
    return 0;
}

int
bundle_writer_end_file(BundleWriter *w, Error *err)
{
    (void) err;
    atomic_fetch_add(
        w->same && w->bytes == w->file->bytes && w->bytes == w->file->stored_bytes ? &store.good
                                                                                   : &store.bad,
        1);
    return 0;
}

int
bundle_writer_close(BundleWriter *w, Error *err)
{
    (void) w;
    if (store.close_fails)
        return error_set(err, ERROR_IO, "not closed");
    atomic_fetch_add(&store.closed, 1);
    return 0;
}

/* There is no parent. */
const BackupFile *
manifest_find(const Manifest *manifest, const char *path)
{
    (void) manifest;
    (void) path;
    return NULL;
}

/* ---- the receiver ---- */

static StreamEntry *
make_entry(unsigned number, BackupFileKind kind, size_t bytes)
{
    StreamEntry *entry = calloc(1, sizeof *entry);

    if (entry == NULL)
        abort();
    (void) snprintf(entry->path, sizeof entry->path, "data/%u", number);
    entry->file.path = entry->path;
    entry->file.kind = kind;
    entry->content_bytes = bytes;
    return entry;
}

/* Sizes around those of a buffer, empty files, large ones. */
static size_t
file_bytes(unsigned number)
{
    static const size_t sizes[] = {0, 1, 8192, 262143, 262144, 262145, 100000, 524288, LARGEST};

    return sizes[number % ARRAY_COUNT(sizes)];
}

static int
send_files(StreamWorkers *ws, Error *err)
{
    uint8_t *data = malloc(LARGEST);
    int rc = 0;

    if (data == NULL)
        abort();
    for (unsigned n = 1; n <= FILES && rc == 0; n++)
    {
        size_t bytes = file_bytes(n);
        size_t portion = 1 + n * 317 % 40000;

        for (size_t i = 0; i < bytes; i++)
            data[i] = expected(n, i);
        if (n % 10 == 0)
            rc = stream_workers_begin(ws, make_entry(n, BACKUP_FILE_FOLDER, 0), err);
        if (rc == 0)
            rc = stream_workers_begin(ws, make_entry(n, BACKUP_FILE_WHOLE, bytes), err);
        for (size_t at = 0; at < bytes && rc == 0; at += portion)
            rc = stream_workers_write(ws, data + at, MIN(portion, bytes - at), err);
        if (rc == 0)
            stream_workers_end(ws);
    }
    free(data);
    return rc;
}

static int
run(unsigned count, const atomic_bool *cancel, Error *err)
{
    BackupRun backup = {0};
    StreamRules rules = {.run = &backup, .mode = STREAM_FULL, .spill_dir = "/tmp"};
    AUTO(stream_workers_freep) StreamWorkers *ws = NULL;

    atomic_store(&store.good, 0);
    atomic_store(&store.bad, 0);
    atomic_store(&store.folders, 0);
    atomic_store(&store.closed, 0);
    if (stream_workers_start(&rules, NULL, count, cancel, &ws, err) < 0 || send_files(ws, err) < 0)
    {
        atomic_store(&store.hold, false);
        return -1;
    }
    return stream_workers_finish(ws, err);
}

int
main(void)
{
    atomic_bool cancel = false;
    Error err = {0};
    int rc;

    log_open("test", LOG_ERROR, LOG_FORMAT_TEXT);
    for (unsigned count = 1; count <= 5; count += 2)
    {
        rc = run(count, &cancel, &err);
        ok(rc == 0 && store.good == FILES && store.bad == 0 && store.folders == FILES / 10 &&
               store.closed == count,
           "%u workers: %u files, all of them whole", count, store.good);
    }

    store.number_fails = FILES / 2;
    rc = run(3, &cancel, &err);
    ok(rc == -1 && err.kind == ERROR_DENIED && store.bad == 0 && store.closed < 3,
       "a file that cannot be stored ends it: %s", err.msg);
    store.number_fails = FILES;
    rc = run(3, &cancel, &err);
    ok(rc == -1 && err.kind == ERROR_DENIED, "the last one too: %s", err.msg);
    store.number_fails = 0;

    store.close_fails = true;
    rc = run(2, &cancel, &err);
    ok(rc == -1 && err.kind == ERROR_IO, "a bundle that is not closed: %s", err.msg);
    store.close_fails = false;

    atomic_store(&store.hold, true);
    atomic_store(&cancel, true);
    rc = run(2, &cancel, &err);
    ok(rc == -1 && err.kind == ERROR_CANCELED, "canceled while nothing moves: %s", err.msg);
    return done_testing();
}
