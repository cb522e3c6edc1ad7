/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Objects in memory, for unit tests: a sorted array under one lock. Objects never change, so
 * readers hold a reference and not the lock while they write to their sink.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "store/wrap.h"

#define MEMORY_MAX_PUT_BYTES ((uint64_t) 1 << 30)

typedef struct MemoryObject
{
    char key[STORE_KEY_MAX + 1];
    uint64_t bytes;
    int64_t modified_us;
    size_t refs; /* under the store's lock */
    uint8_t data[];
} MemoryObject;

typedef struct StoreMemory
{
    Store base;
    pthread_mutex_t lock;
    MemoryObject **objects; /* under lock: sorted by key */
    size_t count, cap;      /* under lock */
} StoreMemory;

/* The index of the first object whose key is not below key; the lock is held. */
static size_t
memory_lower_bound(const StoreMemory *st, const char *key)
{
    size_t low = 0, high = st->count;

    while (low < high)
    {
        size_t mid = low + (high - low) / 2;

        if (strcmp(st->objects[mid]->key, key) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static bool
memory_holds(const StoreMemory *st, size_t i, const char *key)
{
    return i < st->count && strcmp(st->objects[i]->key, key) == 0;
}

static void
memory_lock(StoreMemory *st)
{
    int rc = pthread_mutex_lock(&st->lock);

    assert(rc == 0);
    (void) rc;
}

static void
memory_unlock(StoreMemory *st)
{
    int rc = pthread_mutex_unlock(&st->lock);

    assert(rc == 0);
    (void) rc;
}

/* The object with a reference for the caller, or NULL. */
static MemoryObject *
memory_find(StoreMemory *st, const char *key)
{
    MemoryObject *object = NULL;

    memory_lock(st);

    size_t i = memory_lower_bound(st, key);

    if (memory_holds(st, i, key))
    {
        object = st->objects[i];
        object->refs++;
    }
    memory_unlock(st);
    return object;
}

static void
memory_release(StoreMemory *st, MemoryObject *object)
{
    memory_lock(st);

    bool last = --object->refs == 0;

    memory_unlock(st);
    if (last)
        free(object);
}

/* Takes object into the array; the lock is held. */
static int
memory_insert(StoreMemory *st, MemoryObject *object, Error *err)
{
    size_t i = memory_lower_bound(st, object->key);

    if (memory_holds(st, i, object->key))
        return error_set(err, ERROR_EXISTS, "object \"%s\" exists", object->key);
    if (st->count == st->cap)
    {
        size_t cap = MAX(st->cap * 2, 64);
        MemoryObject **grown = reallocarray(st->objects, cap, sizeof(MemoryObject *));

        if (grown == NULL)
            return error_nomem(err);
        st->objects = grown;
        st->cap = cap;
    }
    memmove(st->objects + i + 1, st->objects + i, (st->count - i) * sizeof(MemoryObject *));
    st->objects[i] = object;
    st->count++;
    return 0;
}

static int
memory_put(Store *base, const char *key, const StoreBody *body, const Deadline *dl, Error *err)
{
    StoreMemory *st = (StoreMemory *) base;
    MemoryObject *object = malloc(sizeof *object + body->bytes);
    size_t have = 0;

    (void) dl;
    if (object == NULL)
        return error_nomem(err);
    memcpy(object->key, key, strlen(key) + 1);
    object->bytes = body->bytes;
    object->modified_us = clock_wall_us();
    object->refs = 1;
    for (size_t i = 0; i < body->iov_count; i++)
    {
        assert(body->iov[i].iov_len <= body->bytes - have);
        if (body->iov[i].iov_len > 0)
            memcpy(object->data + have, body->iov[i].iov_base, body->iov[i].iov_len);
        have += body->iov[i].iov_len;
    }
    assert(have == body->bytes);

    memory_lock(st);

    int rc = memory_insert(st, object, err);

    memory_unlock(st);
    if (rc < 0)
        free(object);
    return rc;
}

static int
memory_get(
    Store *base, const char *key, ByteRange range, Stage *sink, const Deadline *dl, Error *err)
{
    StoreMemory *st = (StoreMemory *) base;
    MemoryObject *object = memory_find(st, key);
    int rc = 0;

    if (object == NULL)
        return error_set(err, ERROR_NOT_FOUND, "object \"%s\" does not exist", key);

    uint64_t at = MIN(range.offset, object->bytes);
    uint64_t left = object->bytes - at;

    if (range.len > 0)
        left = MIN(left, range.len);
    /* in portions, as a real store would */
    while (rc == 0 && left > 0)
    {
        size_t now = (size_t) MIN(left, 256 * 1024);

        rc = deadline_check(dl, "getting an object", err);
        if (rc == 0)
            rc = stage_write(sink, object->data + at, now, err);
        at += now;
        left -= now;
    }
    memory_release(st, object);
    return rc;
}

static int
memory_stat(Store *base, const char *key, const Deadline *dl, StoreStat *out, Error *err)
{
    StoreMemory *st = (StoreMemory *) base;
    MemoryObject *object = memory_find(st, key);

    (void) dl;
    if (object == NULL)
        return error_set(err, ERROR_NOT_FOUND, "object \"%s\" does not exist", key);
    out->bytes = object->bytes;
    out->modified_us = object->modified_us;
    memory_release(st, object);
    return 0;
}

/*
 * The next entry at or behind from, copied to key; false at the end. *from moves behind the entry.
 * The lock is not held while the callback runs, which may itself put or remove.
 */
static bool
memory_list_next(
    StoreMemory *st, const StoreListOptions *options, char from[STORE_KEY_MAX + 2],
    char key[STORE_KEY_MAX + 2], StoreEntry *entry)
{
    size_t prefix_len = strlen(options->prefix);
    bool found = false;

    memory_lock(st);

    size_t i = memory_lower_bound(st, from);

    if (i < st->count && strncmp(st->objects[i]->key, options->prefix, prefix_len) == 0)
    {
        const MemoryObject *object = st->objects[i];
        const char *slash = options->by_folder ? strchr(object->key + prefix_len, '/') : NULL;
        size_t len = slash != NULL ? (size_t) (slash - object->key) + 1 : strlen(object->key);

        found = true;
        memcpy(key, object->key, len);
        key[len] = '\0';
        memcpy(from, key, len + 1);
        entry->key = key;
        entry->is_prefix = slash != NULL;
        entry->bytes = slash != NULL ? 0 : object->bytes;
        entry->modified_us = slash != NULL ? 0 : object->modified_us;
        if (slash != NULL)
            from[len - 1] = '/' + 1; /* behind everything in the folder */
        else
            memcpy(
                from + len, "-", 2); /* the lowest byte of a key: the least text greater than it */
    }
    memory_unlock(st);
    return found;
}

static int
memory_list(
    Store *base, const StoreListOptions *options, StoreListFn fn, void *ctx, const Deadline *dl,
    Error *err)
{
    StoreMemory *st = (StoreMemory *) base;
    const char *start_after = options->start_after != NULL ? options->start_after : "";
    char from[STORE_KEY_MAX + 2], key[STORE_KEY_MAX + 2];
    StoreEntry entry;

    /* what is not greater than start_after is passed over below */
    memcpy(
        from, strcmp(start_after, options->prefix) > 0 ? start_after : options->prefix,
        1 + strlen(strcmp(start_after, options->prefix) > 0 ? start_after : options->prefix));
    while (memory_list_next(st, options, from, key, &entry))
    {
        if (strcmp(key, start_after) <= 0)
            continue;

        int rc = fn(ctx, &entry, err);

        if (rc != 0)
            return rc < 0 ? -1 : 0;
        if (deadline_check(dl, "listing objects", err) < 0)
            return -1;
    }
    return 0;
}

static int
memory_remove(Store *base, StoreRemoved *keys, size_t count, const Deadline *dl, Error *err)
{
    StoreMemory *st = (StoreMemory *) base;

    (void) dl;
    (void) err;
    for (size_t k = 0; k < count; k++)
    {
        MemoryObject *object = NULL;

        memory_lock(st);

        size_t i = memory_lower_bound(st, keys[k].key);

        if (memory_holds(st, i, keys[k].key))
        {
            object = st->objects[i];
            st->count--;
            memmove(st->objects + i, st->objects + i + 1, (st->count - i) * sizeof(MemoryObject *));
        }
        memory_unlock(st);
        if (object != NULL)
            memory_release(st, object);
    }
    return 0;
}

static void
memory_destroy(Store *base)
{
    StoreMemory *st = (StoreMemory *) base;

    for (size_t i = 0; i < st->count; i++)
        free(st->objects[i]);
    free(st->objects);
    (void) pthread_mutex_destroy(&st->lock);
    free(st->base.url);
    free(st);
}

static const StoreOps memory_ops = {
    .put = memory_put,
    .get = memory_get,
    .stat = memory_stat,
    .list = memory_list,
    .remove = memory_remove,
    .destroy = memory_destroy,
};

int
store_memory_new(Store **out, Error *err)
{
    static const StoreCaps caps = {
        .scheme = "memory",
        .conditional_create = true,
        .max_put_bytes = MEMORY_MAX_PUT_BYTES,
        .max_remove_keys = 1000,
    };
    StoreMemory *st = calloc(1, sizeof *st);

    if (st == NULL)
        return error_nomem(err);
    if (store_init(&st->base, &memory_ops, &caps, "memory:", err) < 0)
    {
        free(st);
        return -1;
    }
    if (pthread_mutex_init(&st->lock, NULL) != 0)
    {
        free(st->base.url);
        free(st);
        return error_nomem(err);
    }
    *out = &st->base;
    return 0;
}
