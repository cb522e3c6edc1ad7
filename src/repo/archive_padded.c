/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Padded segments and the pieces they were made of; see archive_padded.h.
 */
#include "repo/archive_padded.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "common/fs.h"
#include "repo/catalog.h"
#include "repo/segment_read.h"

#define PADDED_READ_BYTES (128 * 1024)

/* SHA-256 of [start, end) of the file. */
static int
archive_padded_digest(
    int fd, const char *name, const WalExtent *range, uint8_t *sha256, const Deadline *dl,
    Error *err)
{
    AUTO(stage_freep) Stage *digest = NULL;
    AUTO(free_text) char *buf = fs_alloc_io(PADDED_READ_BYTES);

    if (buf == NULL)
        return error_nomem(err);
    if (stage_digest_new(NULL, &digest, err) < 0)
        return -1;
    for (uint32_t at = range->start; at < range->end;)
    {
        size_t want = MIN(range->end - at, PADDED_READ_BYTES);
        size_t got;

        if (deadline_check(dl, "reading WAL", err) < 0 ||
            fs_pread_full(fd, buf, want, (off_t) at, &got, name, err) < 0)
            return -1;
        if (got < want)
            return error_set(err, ERROR_CORRUPT, "\"%s\" ended while it was read", name);
        if (stage_write(digest, buf, got, err) < 0)
            return -1;
        at += (uint32_t) got;
    }
    if (stage_finish(digest, err) < 0)
        return -1;
    memcpy(sha256, stage_digest_sha256(digest), SHA256_BYTES);
    return 0;
}

/* Whether [start, end) of the file holds nothing but zeros. */
static int
archive_padded_is_zero(
    int fd, const char *name, uint64_t start, uint64_t end, bool *zero, Error *err)
{
    AUTO(free_text) char *buf = fs_alloc_io(PADDED_READ_BYTES);

    if (buf == NULL)
        return error_nomem(err);
    *zero = true;
    for (uint64_t at = start; at < end && *zero;)
    {
        size_t got;

        if (fs_pread_full(
                fd, buf, (size_t) MIN(end - at, PADDED_READ_BYTES), (off_t) at, &got, name, err) <
            0)
            return -1;
        if (got == 0)
            return error_set(err, ERROR_CORRUPT, "\"%s\" ended while it was read", name);
        for (size_t i = 0; i < got && *zero; i++)
            *zero = buf[i] == 0;
        at += got;
    }
    return 0;
}

static int
archive_padded_equals(
    Repository *repo, int fd, const char *name, const WalExtent *piece, const Deadline *dl,
    bool *equal, Error *err)
{
    uint8_t sha256[SHA256_BYTES];
    char key[LAYOUT_KEY_MAX];
    ObjectLabel label;

    (void) layout_piece_key(piece, repo->description.segment_bytes, key);
    if (object_peek(repo->store, key, dl, &label, err) < 0 ||
        archive_padded_digest(fd, name, piece, sha256, dl, err) < 0)
        return -1;
    *equal = label.plain_bytes == piece->end - piece->start &&
             memcmp(label.sha256, sha256, SHA256_BYTES) == 0;
    return 0;
}

int
archive_padded_is_stored(
    Repository *repo, int fd, const char *name, TimelineId tli, SegmentNo segno, uint64_t data_end,
    const Deadline *dl, bool *stored, Error *err)
{
    /* the mark is none of the WAL: a piece that reaches so far has more than the file */
    uint32_t comparable = repo->description.segment_bytes - SEGMENT_PAD_MARK_BYTES;
    AUTO(catalog_pieces_reset) CatalogPieces pieces = {0};
    uint32_t cursor = 0;

    *stored = false;
    if (catalog_list_pieces(repo, tli, segno, dl, &pieces, err) < 0)
        return -1;
    while (cursor < data_end)
    {
        WalExtent *best = NULL;
        bool equal;

        for (size_t i = 0; i < pieces.count; i++)
        {
            WalExtent *piece = &pieces.items[i];

            if (piece->start <= cursor && piece->end > cursor && piece->end <= comparable &&
                (best == NULL || piece->end > best->end))
                best = piece;
        }
        if (best == NULL) /* data_end is that of a page: what is left may be padding */
            return archive_padded_is_zero(fd, name, cursor, data_end, stored, err);
        if (archive_padded_equals(repo, fd, name, best, dl, &equal, err) < 0)
            return -1;
        if (equal)
            cursor = best->end;
        else
            best->end =
                best->start; /* stored after this copy was made: it goes on where the copy ends */
    }
    *stored = true;
    return 0;
}
