/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * An inventory from a repository: its names by listings, its histories by reading them.
 *
 * A listing gives a thousand names a request, one after the other, so that a million segments are a
 * thousand round trips. Where a timeline has more than the first request gave, its log folders
 * (4 GiB of WAL each) are shared out among several listings at the same time.
 */
#include "repo/wal_inventory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/fs.h"
#include "common/workers.h"
#include "repo/catalog.h"

#define WAL_INVENTORY_FIRST 1000 /* names, listed before there is more than one listing */
#define WAL_INVENTORY_JOBS 8
#define WAL_INVENTORY_SLICES 32 /* more than jobs, as folders are not equally full */

/* ---- few segments ---- */

typedef struct WalFirst
{
    WalInventory *inv;
    size_t count;
    char last[STORE_KEY_MAX + 1]; /* of WAL_INVENTORY_FIRST names */
} WalFirst;

static int
wal_first_note(void *ctx, const StoreEntry *entry, Error *err)
{
    WalFirst *first = ctx;

    if (wal_inventory_add(first->inv, entry, err) < 0)
        return -1;
    if (++first->count < WAL_INVENTORY_FIRST)
        return 0;
    (void) snprintf(first->last, sizeof first->last, "%s", entry->key);
    return 1;
}

/* ---- many segments ---- */

typedef struct WalFolders
{
    char (*items)[LAYOUT_KEY_MAX]; /* "wal/00000001/00000007/", ascending; owned */
    size_t count;
    size_t cap;
} WalFolders;

static void
wal_folders_reset(WalFolders *folders)
{
    free(folders->items);
    *folders = (WalFolders){0};
}

typedef struct WalSlices
{
    Repository *repo;
    int64_t timeout_ms;
    const char *prefix; /* "wal/" */
    const char *after;  /* what is listed already ends here */
    const WalFolders *folders;
    size_t count;
    pthread_mutex_t lock; /* guards inv */
    WalInventory *inv;
} WalSlices;

/* One slice while it is listed. */
typedef struct WalSlice
{
    WalInventory inv; /* of its own, as runs grow in the order of names */
    const char *end;  /* NULL: to the end of the prefix */
} WalSlice;

static void
wal_slice_reset(WalSlice *slice)
{
    wal_inventory_reset(&slice->inv);
}

static int
wal_slice_note(void *ctx, const StoreEntry *entry, Error *err)
{
    WalSlice *slice = ctx;

    if (slice->end != NULL && strcmp(entry->key, slice->end) >= 0)
        return 1;
    return wal_inventory_add(&slice->inv, entry, err);
}

static int
wal_slice_list(void *ctx, size_t i, Error *err)
{
    WalSlices *all = ctx;
    const WalFolders *f = all->folders;
    size_t first = i * f->count / all->count, next = (i + 1) * f->count / all->count;
    AUTO(wal_slice_reset) WalSlice slice = {.end = i + 1 < all->count ? f->items[next] : NULL};
    /* a folder's name is less than what is in it, so nothing of it is passed over; the first slice
     * begins where the serial listing stopped, as files beside folders come in between */
    StoreListOptions options = {
        .prefix = all->prefix, .start_after = i == 0 ? all->after : f->items[first]};
    int rc;

    wal_inventory_init(&slice.inv, all->inv->segment_bytes);
    if (store_walk(all->repo->store, &options, all->timeout_ms, NULL, wal_slice_note, &slice, err) <
        0)
        return -1;
    (void) pthread_mutex_lock(&all->lock);
    rc = wal_inventory_add_all(all->inv, &slice.inv, err);
    (void) pthread_mutex_unlock(&all->lock);
    return rc;
}

static int
wal_folders_note(void *ctx, const StoreEntry *entry, Error *err)
{
    WalFolders *folders = ctx;

    if (!entry->is_prefix || strlen(entry->key) >= LAYOUT_KEY_MAX)
        return 0;

    char(*items)[LAYOUT_KEY_MAX] =
        array_grow(folders->items, folders->count, &folders->cap, sizeof *items, err);

    if (items == NULL)
        return -1;
    folders->items = items;
    (void) snprintf(folders->items[folders->count++], LAYOUT_KEY_MAX, "%s", entry->key);
    return 0;
}

/* The log folders of all timelines that end behind after. */
static int
wal_folders_list(
    Repository *repo, const char *prefix, const char *after, int64_t timeout_ms, WalFolders *out,
    Error *err)
{
    AUTO(wal_folders_reset) WalFolders timelines = {0};
    StoreListOptions options = {.prefix = prefix, .by_folder = true};
    Deadline dl = deadline_after_ms(timeout_ms, NULL);

    if (store_list(repo->store, &options, wal_folders_note, &timelines, &dl, err) < 0)
        return error_wrap(err, "could not list \"%s\"", prefix);
    for (size_t i = 0; i < timelines.count; i++)
    {
        const char *folder = timelines.items[i];

        options.prefix = folder;
        options.start_after = strncmp(after, folder, strlen(folder)) == 0 ? after : NULL;
        if (options.start_after == NULL && strcmp(folder, after) < 0)
            continue;
        dl = deadline_after_ms(timeout_ms, NULL);
        if (store_list(repo->store, &options, wal_folders_note, out, &dl, err) < 0)
            return error_wrap(err, "could not list \"%s\"", folder);
    }
    return 0;
}

static int
wal_inventory_list_prefix(
    Repository *repo, const char *prefix, int64_t timeout_ms, WalInventory *inv, Error *err)
{
    AUTO(wal_folders_reset) WalFolders folders = {0};
    StoreListOptions options = {.prefix = prefix};
    WalFirst first = {.inv = inv};
    int rc;

    if (store_walk(repo->store, &options, timeout_ms, NULL, wal_first_note, &first, err) < 0)
        return -1;
    if (first.count < WAL_INVENTORY_FIRST)
        return 0;
    if (wal_folders_list(repo, prefix, first.last, timeout_ms, &folders, err) < 0)
        return -1;

    WalSlices all = {
        .repo = repo,
        .timeout_ms = timeout_ms,
        .prefix = prefix,
        .after = first.last,
        .folders = &folders,
        .count = MAX(1, MIN(folders.count, WAL_INVENTORY_SLICES)),
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .inv = inv};

    rc = workers_each(WAL_INVENTORY_JOBS, all.count, wal_slice_list, &all, err);
    (void) pthread_mutex_destroy(&all.lock);
    return rc;
}

int
wal_inventory_list(Repository *repo, int64_t timeout_ms, WalInventory *inv, Error *err)
{
    /* in this order nothing is missed that a running walstream completes meanwhile */
    static const char *const prefixes[] = {"live/", "wal/", "gap/"};

    for (size_t i = 0; i < ARRAY_COUNT(prefixes); i++)
        if (wal_inventory_list_prefix(repo, prefixes[i], timeout_ms, inv, err) < 0)
            return -1;
    return wal_inventory_finish(inv, err);
}

static WalHistoryState
wal_history_failure(ErrorKind kind)
{
    switch (kind)
    {
        case ERROR_NOT_FOUND:
            return WAL_HISTORY_MISSING;
        case ERROR_CORRUPT:
            return WAL_HISTORY_DAMAGED;
        case ERROR_DENIED:
            return WAL_HISTORY_ENCRYPTED;
        default:
            return WAL_HISTORY_UNREAD;
    }
}

int
wal_inventory_read_histories(Repository *repo, int64_t timeout_ms, WalInventory *inv, Error *err)
{
    for (size_t i = 0; i < inv->timeline_count; i++)
    {
        WalTimeline *t = &inv->timelines[i];
        Error *why = &t->history_error;
        Deadline dl = deadline_after_ms(timeout_ms, NULL);

        if (catalog_read_history(repo, t->tli, &dl, &t->history, why) == 0)
        {
            t->history_state = t->tli == 1 ? WAL_HISTORY_NOT_NEEDED : WAL_HISTORY_READ;
            continue;
        }
        if (why->kind == ERROR_NOMEM || why->kind == ERROR_CANCELED)
        {
            *err = *why;
            return -1;
        }
        t->history_state = wal_history_failure(why->kind);
        /* a store that refuses access says DENIED too: only the object itself tells */
        if (why->kind == ERROR_DENIED)
        {
            WalFileName name = {.kind = WAL_FILE_HISTORY, .tli = t->tli};
            char key[LAYOUT_KEY_MAX];
            ObjectLabel label;
            Error unused = {0};

            if (object_peek(repo->store, layout_wal_file_key(&name, key), &dl, &label, &unused) <
                    0 ||
                !label.encrypted)
                t->history_state = WAL_HISTORY_UNREAD;
        }
    }
    return 0;
}
