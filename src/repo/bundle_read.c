/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Parts of bundles back; see bundle_read.h. A manifest is data like any other: what it says of a
 * part is bounded before anything is allocated or fetched.
 */
#include "repo/bundle_read.h"

#include <stdlib.h>

#include "common/fs.h"
#include "stream/codec_frame.h"

/* A writer closes a part behind the frame with which it reaches its size; noise grows a little. */
#define BUNDLE_PAYLOAD_MAX (BACKUP_PART_BYTES + 2u * BACKUP_FRAME_BYTES)

struct BundleReader
{
    Repository *repo; /* borrowed */
    CodecFrameDecoder *decoder;
    const BackupPart *part; /* the caller's; NULL: none is fetched */
    uint8_t *payload;
    size_t payload_cap;
    size_t frame_at[BACKUP_PART_MAX_FRAMES]; /* where each begins in payload */
    uint8_t *plain;                          /* BACKUP_FRAME_BYTES of them */
};

int
bundle_reader_new(Repository *repo, BundleReader **out, Error *err)
{
    BundleReader *r = calloc(1, sizeof *r);

    if (r == NULL)
        return error_nomem(err);
    r->repo = repo;
    r->plain = fs_alloc_io(BACKUP_FRAME_BYTES);
    if (r->plain == NULL || codec_frame_decoder_new(&r->decoder, err) < 0)
    {
        bundle_reader_free(r);
        return error_nomem(err);
    }
    *out = r;
    return 0;
}

void
bundle_reader_free(BundleReader *r)
{
    if (r == NULL)
        return;
    codec_frame_decoder_free(r->decoder);
    free(r->payload);
    free(r->plain);
    free(r);
}

/* Where each frame begins; *bytes is the length of the payload. */
static int
bundle_reader_lay_out(BundleReader *r, const BackupPart *part, size_t *bytes, Error *err)
{
    size_t at = 0;

    if (part->frame_count == 0 || part->frame_count > BACKUP_PART_MAX_FRAMES)
        return error_set(
            err, ERROR_CORRUPT, "the manifest says that it has %u frames",
            (unsigned) part->frame_count);
    if (part->last_plain_bytes == 0 || part->last_plain_bytes > BACKUP_FRAME_BYTES)
        return error_set(
            err, ERROR_CORRUPT, "the manifest says that its last frame holds %llu bytes",
            (unsigned long long) part->last_plain_bytes);
    for (uint32_t i = 0; i < part->frame_count; i++)
    {
        r->frame_at[i] = at;
        if (part->frame_bytes[i] > BUNDLE_PAYLOAD_MAX - at)
            return error_set(
                err, ERROR_CORRUPT, "the manifest says that it has more than %u bytes",
                (unsigned) BUNDLE_PAYLOAD_MAX);
        at += part->frame_bytes[i];
    }
    *bytes = at;
    return 0;
}

static int
bundle_reader_get(BundleReader *r, const BackupPart *part, const Deadline *dl, Error *err)
{
    char key[LAYOUT_KEY_MAX];
    size_t want = 0;
    size_t got;

    r->part = NULL;
    (void) backup_part_key(part->owner, part->owner_bundle, part->part, key);
    if (bundle_reader_lay_out(r, part, &want, err) < 0)
        return error_wrap(err, "could not read object \"%s\"", key);
    if (object_get_payload(
            r->repo->store, key, r->repo->identities, want, &r->payload, &r->payload_cap, &got, dl,
            NULL, err) < 0)
        return -1;
    if (got != want)
        return error_set(
            err, ERROR_CORRUPT,
            "could not read object \"%s\": its frames have %zu bytes, where the manifest says %zu",
            key, got, want);
    r->part = part;
    return 0;
}

int
bundle_reader_fetch(BundleReader *r, const BackupPart *part, const Deadline *dl, Error *err)
{
    if (bundle_reader_get(r, part, dl, err) == 0)
        return 0;
    if (err->kind != ERROR_CORRUPT)
        return -1;
    *err = (Error){0};
    return bundle_reader_get(r, part, dl, err);
}

int
bundle_reader_frame(BundleReader *r, uint32_t i, const uint8_t **data, size_t *len, Error *err)
{
    const BackupPart *part = r->part;

    assert(part != NULL && i < part->frame_count);

    size_t plain_bytes =
        i + 1 < part->frame_count ? BACKUP_FRAME_BYTES : (size_t) part->last_plain_bytes;

    if (codec_frame_decompress(
            r->decoder, r->payload + r->frame_at[i], part->frame_bytes[i], r->plain, plain_bytes,
            err) < 0)
    {
        char key[LAYOUT_KEY_MAX];

        return error_wrap(
            err, "could not read frame %u of object \"%s\"", (unsigned) i,
            backup_part_key(part->owner, part->owner_bundle, part->part, key));
    }
    *data = r->plain;
    *len = plain_bytes;
    return 0;
}
