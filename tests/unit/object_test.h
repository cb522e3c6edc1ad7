/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A store of one object for tests of the container: its bytes can be looked at, changed and served
 * in small pieces. Needs stream_test.h before it.
 */
#ifndef WALSTREAM_OBJECT_TEST_H
#define WALSTREAM_OBJECT_TEST_H

#include "store/store.h"

typedef struct OneStore
{
    Store store; /* in place: not for store_free */
    char key[256];
    uint8_t *data; /* NULL: nothing there */
    size_t len;
    size_t step;   /* bytes given to the sink at once; 0: all */
    bool vanished; /* get says NOT_FOUND though put says EXISTS */
    int puts, gets;
} OneStore;

__attribute__((unused)) static void
one_store_set(OneStore *one, const char *key, const void *data, size_t len)
{
    uint8_t *copy = malloc(len + 1);

    if (copy == NULL)
        abort();
    if (len > 0)
        memcpy(copy, data, len);
    (void) snprintf(one->key, sizeof one->key, "%s", key);
    free(one->data);
    one->data = copy;
    one->len = len;
}

__attribute__((unused)) static int
one_store_put(
    Store *st, const char *key, const StoreBody *body, const Deadline *dl UNUSED, Error *err)
{
    OneStore *one = (OneStore *) st;
    uint8_t *all = malloc(body->bytes + 1);
    size_t len = 0;

    if (all == NULL)
        abort();
    one->puts++;
    for (size_t i = 0; i < body->iov_count; i++)
    {
        memcpy(all + len, body->iov[i].iov_base, body->iov[i].iov_len);
        len += body->iov[i].iov_len;
    }
    if (one->data != NULL || len != body->bytes)
    {
        free(all);
        return error_set(err, ERROR_EXISTS, "\"%s\" exists", key);
    }
    one_store_set(one, key, all, len);
    free(all);
    return 0;
}

__attribute__((unused)) static int
one_store_get(
    Store *st, const char *key, ByteRange range, Stage *sink, const Deadline *dl UNUSED, Error *err)
{
    OneStore *one = (OneStore *) st;

    one->gets++;
    if (one->data == NULL || one->vanished || strcmp(key, one->key) != 0)
        return error_set(err, ERROR_NOT_FOUND, "there is no \"%s\"", key);

    size_t end = range.len == 0 ? one->len : (size_t) MIN(range.offset + range.len, one->len);
    size_t step = one->step > 0 ? one->step : SIZE_MAX;

    for (size_t at = (size_t) range.offset; at < end;)
    {
        size_t n = MIN(step, end - at);

        if (stage_write(sink, one->data + at, n, err) < 0)
            return -1;
        at += n;
    }
    return 0;
}

static const StoreOps one_store_ops = {.put = one_store_put, .get = one_store_get};

__attribute__((unused)) static void
one_store_init(OneStore *one)
{
    static char url[] = "test://one";

    memset(one, 0, sizeof *one);
    one->store.ops = &one_store_ops;
    one->store.caps = (StoreCaps){
        .scheme = "test",
        .conditional_create = true,
        .max_put_bytes = UINT64_MAX,
        .max_remove_keys = 1};
    one->store.url = url;
}

__attribute__((unused)) static void
one_store_reset(OneStore *one)
{
    free(one->data);
    one->data = NULL;
}

#endif
