/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What every Store must do, whatever is behind it. Prints TAP by tests/unit/tap.h.
 */
#ifndef WALSTREAM_STORE_CONFORMANCE_H
#define WALSTREAM_STORE_CONFORMANCE_H

#include "store/store.h"

/* Makes an empty store (over S3: below a prefix that nobody used); the suite frees it. NULL: could
 * not. */
typedef Store *(*StoreConformanceMake)(void *ctx);

enum
{
    STORE_CONFORMANCE_QUICK = 1 /* fewer rounds and objects, for stores behind a network */
};

void store_conformance_run(const char *label, StoreConformanceMake make, void *ctx, unsigned flags);

/* ---- a sink to read objects into, for other tests too ---- */
typedef struct CollectSink
{
    Stage stage;
    char *data;
    size_t len, cap;
    size_t fail_at; /* the write that would pass so many bytes fails with NOMEM; SIZE_MAX: none */
} CollectSink;

/* On the caller's stack; reset frees what was collected. */
void collect_init(CollectSink *sink);
void collect_reset(CollectSink *sink); /* fit for AUTO */

/* Whether the object is exactly data[0..len). */
bool store_holds(Store *st, const char *key, const void *data, size_t len);

/* store_put of one piece of memory, within 60 s. */
MUST_CHECK int
store_put_bytes(Store *st, const char *key, const void *data, size_t len, Error *err);

#endif
