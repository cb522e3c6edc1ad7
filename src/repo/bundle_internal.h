/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Between the writers of bundles (bundle_write.c: tar, frames) and the set that they belong to
 * (bundle_set.c: buffers, uploads, what is durable); nobody else includes it.
 *
 *   writer   bundle_set_begin --> take_part --> fill --> submit ... --> bundle_set_end
 *   uploader                                               seal, put        |
 *                                    all parts durable and the bundle ended: index, manifest
 *
 * A part's buffer goes with the work: the writer's from take to submit, then the uploader's, then
 * back in the pool. A bundle is the writer's up to bundle_set_end, but for what the set's lock
 * guards.
 */
#ifndef WALSTREAM_BUNDLE_INTERNAL_H
#define WALSTREAM_BUNDLE_INTERNAL_H

#include "repo/bundle_write.h"

/* What the manifest says of a part. */
typedef struct BundlePartInfo
{
    uint32_t first_frame;
    uint32_t frame_count;
    uint32_t last_plain_bytes;
    uint64_t stored_bytes; /* known when it was put */
} BundlePartInfo;

typedef struct Bundle Bundle;

struct Bundle
{
    uint32_t no;
    StrBuf folders; /* lines for the manifest alone */
    StrBuf files;   /* lines for manifest and index */
    uint32_t *frame_bytes;
    size_t frame_count;
    size_t frame_cap;

    /* guarded by the set's lock */
    BundlePartInfo *parts;
    size_t part_count;
    size_t part_cap;
    unsigned pending; /* parts submitted that are not durable */
    bool ended;
    bool discarded;
    Bundle *next; /* queue of those that wait for their index */
};

typedef struct BundlePartBuf BundlePartBuf;

struct BundlePartBuf
{
    BundlePartBuf *next; /* pool or queue */
    Bundle *bundle;      /* set when submitted, with part */
    uint32_t part;
    size_t len;
    uint8_t *payload; /* bundle_set_part_bytes() of them, page-aligned */
};

/* ---- for writers ---- */

/* The set's failure or cancellation, if there is one. */
MUST_CHECK int bundle_set_check(BundleSet *set, Error *err);
/* More writers may hold more buffers. */
void bundle_set_add_writer(BundleSet *set);
void bundle_set_remove_writer(BundleSet *set);
const BundleOptions *bundle_set_options(const BundleSet *set);

MUST_CHECK int bundle_set_begin(BundleSet *set, Bundle **out, Error *err);
/* Waits for a buffer; its len is 0. */
MUST_CHECK int bundle_set_take_part(BundleSet *set, BundlePartBuf **out, Error *err);
void bundle_set_give_back(BundleSet *set, BundlePartBuf *buf);
/* The next part of the bundle; buf is the set's from here on. */
MUST_CHECK int bundle_set_submit(
    BundleSet *set, Bundle *bundle, const BundlePartInfo *info, BundlePartBuf *buf, Error *err);
/* No part comes any more; the bundle is the set's. discard: it gets no index and no lines. */
void bundle_set_end(BundleSet *set, Bundle *bundle, bool discard);
void bundle_set_count_file(BundleSet *set, uint64_t plain_bytes);

#endif
