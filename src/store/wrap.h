/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What drivers and wrapping stores share: filling the embedded Store, and the wrapper's base.
 */
#ifndef WALSTREAM_STORE_WRAP_H
#define WALSTREAM_STORE_WRAP_H

#include "store/store.h"

/* The base of every wrapping store: embedded first. */
typedef struct StoreWrap
{
    Store base;
    Store *inner; /* owned */
} StoreWrap;

/* Copies url; nothing is left to release on failure. */
MUST_CHECK int
store_init(Store *st, const StoreOps *ops, const StoreCaps *caps, const char *url, Error *err);

/*
 * A zeroed wrapper of size bytes (StoreWrap first) with inner's capabilities and URL. ops->destroy
 * must be store_wrap_destroy. inner is freed on failure.
 */
MUST_CHECK int
store_wrap_new(Store *inner, const StoreOps *ops, size_t size, StoreWrap **out, Error *err);
void store_wrap_destroy(Store *st);

/* The innermost store. */
Store *store_unwrap(Store *st);

/* As store_key_valid for what may stand before a key: "" or any beginning of a key. */
bool store_key_beginning_valid(const char *text);

#endif
