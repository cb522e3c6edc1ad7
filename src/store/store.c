/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The calls of a Store: limits and deadline are checked here, once for all drivers; and the store
 * that fits a prefix in front of every key.
 */
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/wrap.h"

static bool
key_char_valid(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
}

/*
 * Walks the components of text. The last one may be empty or dots only when it is a mere beginning:
 * ".." may still become "..x".
 */
static bool
key_components_valid(const char *text, bool beginning)
{
    size_t len = 0, dots = 0, total = 0;

    for (const char *p = text;; p++, total++)
    {
        if (total > STORE_KEY_MAX)
            return false;
        if (*p == '\0' && beginning)
            return true;
        if (*p == '\0' || *p == '/')
        {
            if (len == 0 || (dots == len && len <= 2))
                return false;
            if (*p == '\0')
                return true;
            len = dots = 0;
            continue;
        }
        if (!key_char_valid(*p))
            return false;
        len++;
        if (*p == '.')
            dots++;
    }
}

bool
store_key_valid(const char *key)
{
    return key_components_valid(key, false);
}

bool
store_key_beginning_valid(const char *text)
{
    return key_components_valid(text, true);
}

static int
store_check_key(const char *key, Error *err)
{
    if (store_key_valid(key))
        return 0;
    return error_set(err, ERROR_USAGE, "cannot use \"%.600s\" as the key of an object", key);
}

int
store_put(Store *st, const char *key, const StoreBody *body, const Deadline *dl, Error *err)
{
    if (store_check_key(key, err) < 0)
        return -1;
    if (body->bytes > st->caps.max_put_bytes)
        return error_set(
            err, ERROR_USAGE,
            "cannot put object \"%s\" of %llu bytes: the store takes at most %llu at once", key,
            (unsigned long long) body->bytes, (unsigned long long) st->caps.max_put_bytes);
    if (deadline_check(dl, "putting an object", err) < 0)
        return -1;
    return st->ops->put(st, key, body, dl, err);
}

int
store_get(Store *st, const char *key, ByteRange range, Stage *sink, const Deadline *dl, Error *err)
{
    uint64_t end;

    if (store_check_key(key, err) < 0)
        return -1;
    /* drivers may add offset and length without a thought */
    if (__builtin_add_overflow(range.offset, range.len, &end) || end > INT64_MAX)
        return error_set(
            err, ERROR_USAGE, "cannot read %llu bytes at %llu of object \"%s\": out of range",
            (unsigned long long) range.len, (unsigned long long) range.offset, key);
    if (deadline_check(dl, "getting an object", err) < 0)
        return -1;
    return st->ops->get(st, key, range, sink, dl, err);
}

int
store_stat(Store *st, const char *key, const Deadline *dl, StoreStat *out, Error *err)
{
    if (store_check_key(key, err) < 0 || deadline_check(dl, "looking up an object", err) < 0)
        return -1;
    return st->ops->stat(st, key, dl, out, err);
}

int
store_list(
    Store *st, const StoreListOptions *options, StoreListFn fn, void *ctx, const Deadline *dl,
    Error *err)
{
    if (!store_key_beginning_valid(options->prefix))
        return error_set(
            err, ERROR_USAGE, "cannot list \"%.600s\": no key begins so", options->prefix);
    if (options->start_after != NULL && strlen(options->start_after) > STORE_KEY_MAX)
        return error_set(
            err, ERROR_USAGE, "cannot list from \"%.600s\" on: longer than a key",
            options->start_after);
    if (deadline_check(dl, "listing objects", err) < 0)
        return -1;
    return st->ops->list(st, options, fn, ctx, dl, err);
}

int
store_remove(Store *st, StoreRemoved *keys, size_t count, const Deadline *dl, Error *err)
{
    size_t most = st->caps.max_remove_keys == 0 ? count : st->caps.max_remove_keys;

    for (size_t i = 0; i < count; i++)
    {
        if (store_check_key(keys[i].key, err) < 0)
            return -1;
        keys[i].err.kind = ERROR_NONE;
        keys[i].err.sys_errno = 0;
        keys[i].err.msg[0] = keys[i].err.hint[0] = '\0';
    }
    for (size_t done = 0; done < count; done += MIN(count - done, most))
        if (deadline_check(dl, "removing objects", err) < 0 ||
            st->ops->remove(st, keys + done, MIN(count - done, most), dl, err) < 0)
            return -1;
    return 0;
}

void
store_free(Store *st)
{
    if (st != NULL)
        st->ops->destroy(st);
}

/* ---- for drivers and wrapping stores ---- */

int
store_init(Store *st, const StoreOps *ops, const StoreCaps *caps, const char *url, Error *err)
{
    st->url = strdup(url);
    if (st->url == NULL)
        return error_nomem(err);
    st->ops = ops;
    st->caps = *caps;
    return 0;
}

int
store_wrap_new(Store *inner, const StoreOps *ops, size_t size, StoreWrap **out, Error *err)
{
    StoreWrap *wrap = calloc(1, size);

    assert(size >= sizeof *wrap && ops->destroy == store_wrap_destroy);
    if (wrap == NULL || store_init(&wrap->base, ops, &inner->caps, inner->url, err) < 0)
    {
        free(wrap);
        store_free(inner);
        return error_nomem(err);
    }
    wrap->inner = inner;
    *out = wrap;
    return 0;
}

void
store_wrap_destroy(Store *st)
{
    StoreWrap *wrap = (StoreWrap *) st;

    store_free(wrap->inner);
    free(wrap->base.url);
    free(wrap);
}

Store *
store_unwrap(Store *st)
{
    while (st->ops->destroy == store_wrap_destroy)
        st = ((StoreWrap *) st)->inner;
    return st;
}

/* ---- the prefix ---- */

typedef struct StorePrefix
{
    StoreWrap wrap;
    size_t len;
    char prefix[STORE_KEY_MAX + 1];
} StorePrefix;

/* Room for a prefix and a key, each of full length: the inner store refuses what is too long. */
typedef char PrefixedKey[2 * STORE_KEY_MAX + 1];

static const char *
prefix_join(const StorePrefix *st, const char *key, PrefixedKey buf)
{
    (void) snprintf(buf, sizeof(PrefixedKey), "%s%s", st->prefix, key);
    return buf;
}

static int
prefix_put(Store *base, const char *key, const StoreBody *body, const Deadline *dl, Error *err)
{
    StorePrefix *st = (StorePrefix *) base;
    PrefixedKey full;

    return store_put(st->wrap.inner, prefix_join(st, key, full), body, dl, err);
}

static int
prefix_get(
    Store *base, const char *key, ByteRange range, Stage *sink, const Deadline *dl, Error *err)
{
    StorePrefix *st = (StorePrefix *) base;
    PrefixedKey full;

    return store_get(st->wrap.inner, prefix_join(st, key, full), range, sink, dl, err);
}

static int
prefix_stat(Store *base, const char *key, const Deadline *dl, StoreStat *out, Error *err)
{
    StorePrefix *st = (StorePrefix *) base;
    PrefixedKey full;

    return store_stat(st->wrap.inner, prefix_join(st, key, full), dl, out, err);
}

typedef struct PrefixList
{
    const StorePrefix *st;
    StoreListFn fn;
    void *ctx;
} PrefixList;

static int
prefix_list_entry(void *ctx, const StoreEntry *entry, Error *err)
{
    PrefixList *list = ctx;
    StoreEntry cut = *entry;

    if (strncmp(entry->key, list->st->prefix, list->st->len) != 0)
        return error_set(
            err, ERROR_CORRUPT, "the store listed \"%s\" where only \"%s\" was asked for",
            entry->key, list->st->prefix);
    cut.key += list->st->len;
    return list->fn(list->ctx, &cut, err);
}

static int
prefix_list(
    Store *base, const StoreListOptions *options, StoreListFn fn, void *ctx, const Deadline *dl,
    Error *err)
{
    StorePrefix *st = (StorePrefix *) base;
    PrefixList list = {.st = st, .fn = fn, .ctx = ctx};
    StoreListOptions inner = *options;
    PrefixedKey prefix, start_after;

    inner.prefix = prefix_join(st, options->prefix, prefix);
    if (options->start_after != NULL)
        inner.start_after = prefix_join(st, options->start_after, start_after);
    return store_list(st->wrap.inner, &inner, prefix_list_entry, &list, dl, err);
}

static int
prefix_remove(Store *base, StoreRemoved *keys, size_t count, const Deadline *dl, Error *err)
{
    StorePrefix *st = (StorePrefix *) base;
    StoreRemoved *inner = calloc(count, sizeof *inner);
    PrefixedKey *full = calloc(count, sizeof *full);
    int rc = 0;

    if (inner == NULL || full == NULL)
        rc = error_nomem(err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        inner[i].key = prefix_join(st, keys[i].key, full[i]);
    if (rc == 0)
        rc = store_remove(st->wrap.inner, inner, count, dl, err);
    for (size_t i = 0; rc == 0 && i < count; i++)
        keys[i].err = inner[i].err;
    free(inner);
    free(full);
    return rc;
}

static const StoreOps prefix_ops = {
    .put = prefix_put,
    .get = prefix_get,
    .stat = prefix_stat,
    .list = prefix_list,
    .remove = prefix_remove,
    .destroy = store_wrap_destroy,
};

int
store_prefix_new(Store *inner, const char *prefix, Store **out, Error *err)
{
    size_t len = strlen(prefix);
    StoreWrap *wrap;

    if (!store_key_beginning_valid(prefix) || (len > 0 && prefix[len - 1] != '/'))
    {
        store_free(inner);
        return error_set(err, ERROR_USAGE, "cannot use \"%.600s\" as a folder of keys", prefix);
    }
    if (store_wrap_new(inner, &prefix_ops, sizeof(StorePrefix), &wrap, err) < 0)
        return -1;

    StorePrefix *st = (StorePrefix *) wrap;

    st->len = len;
    memcpy(st->prefix, prefix, len + 1);
    if (wrap->base.caps.max_remove_keys == 0)
        wrap->base.caps.max_remove_keys = 1000; /* bounds the memory of one remove */
    *out = &wrap->base;
    return 0;
}
