/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A part of a bundle back: fetched whole, digest and authenticity checked, frame by frame
 * decompressed. A BundleReader belongs to one thread and keeps its buffers from part to part.
 */
#ifndef WALSTREAM_BUNDLE_READ_H
#define WALSTREAM_BUNDLE_READ_H

#include "repo/manifest.h"

typedef struct BundleReader BundleReader;

MUST_CHECK int bundle_reader_new(Repository *repo, BundleReader **out, Error *err);
void bundle_reader_free(BundleReader *r);
DEFINE_AUTO(BundleReader, bundle_reader_free);

/*
 * Gets the part and checks it. NOT_FOUND, CORRUPT (digest, authenticity, other key, other length
 * than the manifest's; twice: what a network did to it is gone the second time), DENIED (no
 * identity fits), TRANSIENT, TIMEOUT. part is borrowed until the next fetch.
 */
MUST_CHECK int
bundle_reader_fetch(BundleReader *r, const BackupPart *part, const Deadline *dl, Error *err);

/*
 * The i-th frame (0 .. part->frame_count - 1) of the fetched part: *data is borrowed until the next
 * call. Its first byte is byte (first_frame + i) * BACKUP_FRAME_BYTES of the bundle's tar archive.
 * CORRUPT if it is not as long as the manifest says.
 */
MUST_CHECK int
bundle_reader_frame(BundleReader *r, uint32_t i, const uint8_t **data, size_t *len, Error *err);

#endif
