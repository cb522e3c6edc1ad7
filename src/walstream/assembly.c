/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Cutting the stream into pieces and parts; see assembly.h.
 */
#include "walstream/assembly.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "common/parse.h"
#include "pg/page.h"

struct Assembly
{
    AssemblyOptions options;
    uint32_t segment_bytes;
    uint32_t part_bytes;
    uint32_t chunk_bytes;
    int64_t flush_interval_ms;
    bool synchronous;
    uint64_t max_rate;
    double rate_tokens; /* pieces that may be cut now */
    int64_t rate_at_ms;

    bool open;
    TimelineId tli;
    Lsn part_start;
    uint32_t filled;          /* bytes of the part received */
    uint32_t cut;             /* bytes of the part handed out or known to be stored */
    bool pieces;              /* some of the part is, or will be, stored as a piece */
    int64_t first_waiting_us; /* when the first byte behind cut came (monotonic) */
    Chunk **chunks;           /* of the part; part_bytes / chunk_bytes slots */
    size_t chunk_slots;

    KnownPiece *known; /* owned; those below known_next have been compared */
    size_t known_count;
    size_t known_next;

    XXH3_state_t *digest;
    bool digest_whole; /* the digest began at the segment's first byte */
};

int
assembly_new(const AssemblyOptions *options, Assembly **out, Error *err)
{
    AUTO(assembly_freep) Assembly *a = calloc(1, sizeof *a);

    if (a == NULL)
        return error_nomem(err);
    a->options = *options;
    a->segment_bytes = options->repo->description.segment_bytes;
    a->part_bytes = options->repo->description.part_bytes;
    a->chunk_bytes = (uint32_t) chunk_pool_chunk_bytes(options->pool);
    assert(a->part_bytes % a->chunk_bytes == 0);
    a->flush_interval_ms = 1000;
    a->chunk_slots = a->part_bytes / a->chunk_bytes;
    a->chunks = calloc(a->chunk_slots, sizeof(Chunk *));
    a->digest = XXH3_createState();
    if (a->chunks == NULL || a->digest == NULL)
        return error_nomem(err);
    *out = steal(a);
    return 0;
}

void
assembly_free(Assembly *a)
{
    if (a == NULL)
        return;
    if (a->chunks != NULL)
        assembly_end(a);
    free(a->chunks);
    free(a->known);
    (void) XXH3_freeState(a->digest);
    free(a);
}

void
assembly_set_pace(Assembly *a, int64_t flush_interval_ms, bool synchronous, uint64_t max_rate)
{
    a->flush_interval_ms = flush_interval_ms;
    a->synchronous = synchronous;
    a->max_rate = max_rate;
    a->rate_tokens = 1;
    a->rate_at_ms = clock_monotonic_ms();
}

void
assembly_end(Assembly *a)
{
    for (size_t i = 0; i < a->chunk_slots; i++)
        chunk_unref(steal(a->chunks[i]));
    a->open = false;
    a->filled = a->cut = 0;
    a->first_waiting_us = 0;
}

/* The open part is [part_start, part_start + part_bytes) from here on. */
static void
assembly_open_part(Assembly *a, Lsn start)
{
    assembly_end(a);
    a->open = true;
    a->part_start = start;
    a->pieces = false;
    if (wal_segment_offset(start, a->segment_bytes) == 0)
    {
        (void) XXH3_128bits_reset(a->digest);
        a->digest_whole = true;
    }
}

static uint32_t
assembly_part_offset(const Assembly *a)
{
    return wal_segment_offset(a->part_start, a->segment_bytes);
}

int
assembly_begin(
    Assembly *a, TimelineId tli, Lsn start, const KnownPiece *known, size_t known_count, Error *err)
{
    KnownPiece *copy = NULL;

    assert(start % a->part_bytes == 0);
    if (known_count > 0)
    {
        copy = calloc(known_count, sizeof *copy);
        if (copy == NULL)
            return error_nomem(err);
        memcpy(copy, known, known_count * sizeof *copy);
    }
    free(a->known);
    a->known = copy;
    a->known_count = known_count;
    a->known_next = 0;
    a->tli = tli;
    a->digest_whole = false;
    assembly_open_part(a, start);
    for (size_t i = 0; i < known_count; i++)
    {
        a->cut = MAX(a->cut, known[i].extent.end - assembly_part_offset(a));
        a->pieces = true;
    }
    return 0;
}

Lsn
assembly_position(const Assembly *a)
{
    return a->part_start + a->filled;
}

Lsn
assembly_confirmed(const Assembly *a)
{
    uint32_t base = assembly_part_offset(a);

    if (!a->open || a->known_next == a->known_count)
        return assembly_position(a);
    /* each of them begins at or before the end of the one before it */
    return a->part_start + (a->known_next > 0 ? a->known[a->known_next - 1].extent.end - base : 0);
}

uint64_t
assembly_waiting_bytes(const Assembly *a, int64_t *since_us)
{
    if (!a->open || a->filled <= a->cut)
    {
        *since_us = 0;
        return 0;
    }
    *since_us = a->first_waiting_us;
    return a->filled - a->cut;
}

/* ---- cutting ---- */

static WalExtent
assembly_extent(const Assembly *a, uint32_t start, uint32_t end)
{
    uint32_t base = assembly_part_offset(a);

    return (WalExtent){
        .tli = a->tli,
        .segno = wal_segment_of(a->part_start, a->segment_bytes),
        .start = base + start,
        .end = base + end};
}

/* Submits [start, end) of the part; its chunks get a reference more for the job. */
static int
assembly_submit(Assembly *a, uint32_t start, uint32_t end, bool whole, bool urgent, Error *err)
{
    WalExtent extent = assembly_extent(a, start, end);
    size_t first = start / a->chunk_bytes;
    size_t count = (end + a->chunk_bytes - 1) / a->chunk_bytes - first;
    LedgerEntry *entry = NULL;

    if (urgent &&
        ledger_append(a->options.ledger, a->part_start + end, a->first_waiting_us, &entry, err) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        chunk_ref(a->chunks[first + i]);
    if (uploader_submit_extent(
            a->options.uploader, &extent, whole, &a->chunks[first], count, start % a->chunk_bytes,
            entry, err) < 0)
    {
        for (size_t i = 0; i < count; i++)
            chunk_unref(a->chunks[first + i]);
        if (entry != NULL)
            ledger_abandon(a->options.ledger, entry); /* nothing behind it becomes durable */
        return -1;
    }
    return 0;
}

int
assembly_cut(Assembly *a, Error *err)
{
    if (!a->open || a->filled <= a->cut)
        return 0;
    if (assembly_submit(a, a->cut, a->filled, false, true, err) < 0)
        return error_wrap(err, "could not cut a piece");
    a->pieces = true;
    a->cut = a->filled;
    a->first_waiting_us = 0;
    if (a->max_rate > 0)
        a->rate_tokens -= 1;
    return 0;
}

/* When the bound of pieces a second allows the next one (monotonic ms); 0: now. */
static int64_t
assembly_rate_ms(Assembly *a)
{
    int64_t now = clock_monotonic_ms();

    if (a->max_rate == 0)
        return 0;
    a->rate_tokens += (double) (now - a->rate_at_ms) * (double) a->max_rate / 1000.0;
    a->rate_at_ms = now;
    if (a->rate_tokens > 1)
        a->rate_tokens = 1;
    if (a->rate_tokens >= 1)
        return 0;
    return now + 1 + (int64_t) ((1 - a->rate_tokens) * 1000.0 / (double) a->max_rate);
}

int64_t
assembly_next_cut_ms(const Assembly *a)
{
    if (!a->open || a->filled <= a->cut)
        return INT64_MAX;

    int64_t due = a->first_waiting_us / 1000 + (a->synchronous ? 0 : a->flush_interval_ms);

    if (a->max_rate > 0 && a->rate_tokens < 1)
        due =
            MAX(due, a->rate_at_ms + 1 +
                         (int64_t) ((1 - a->rate_tokens) * 1000.0 / (double) a->max_rate));
    return due;
}

int
assembly_cut_if_due(Assembly *a, Error *err)
{
    if (!a->open || a->filled <= a->cut)
        return 0;
    if (!a->synchronous && clock_monotonic_ms() < a->first_waiting_us / 1000 + a->flush_interval_ms)
        return 0;
    if (assembly_rate_ms(a) != 0)
        return 0;
    return assembly_cut(a, err);
}

/* ---- the end of a part and of a segment ---- */

static void
assembly_note_segment(Assembly *a)
{
    XXH128_hash_t digest = XXH3_128bits_digest(a->digest);
    StreamedSegment seg = {
        .tli = a->tli,
        .end = a->part_start + a->part_bytes,
        .received = true,
        .digest = {.low = digest.low64, .high = digest.high64}};

    if (!a->digest_whole)
        return; /* the beginning came in an earlier stream: walpush's copy is compared in the
                   repository */
    (void) wal_segment_name(
        a->tli, wal_segment_of(a->part_start, a->segment_bytes), a->segment_bytes, seg.name,
        sizeof seg.name);
    streamed_put(a->options.streamed, &seg);
}

static int
assembly_finish_part(Assembly *a, Error *err)
{
    Lsn next = a->part_start + a->part_bytes;
    bool last_of_segment = wal_segment_offset(next, a->segment_bytes) == 0;

    if (a->pieces && assembly_cut(a, err) < 0)
        return -1;
    /* noted before the job can end: a job that is given up says so there */
    if (last_of_segment)
        assembly_note_segment(a);
    if (assembly_submit(a, 0, a->part_bytes, true, !a->pieces, err) < 0)
        return error_wrap(err, "could not submit a segment");
    assembly_open_part(a, next);
    return 0;
}

/* ---- receiving ---- */

static int
assembly_compare_known(Assembly *a, const KnownPiece *piece, Error *err)
{
    uint32_t base = assembly_part_offset(a);
    uint32_t at = piece->extent.start - base;
    uint32_t end = piece->extent.end - base;
    uint8_t sha256[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool good = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;

    while (good && at < end)
    {
        uint32_t skip = at % a->chunk_bytes;
        uint32_t len = MIN(end - at, a->chunk_bytes - skip);

        good = EVP_DigestUpdate(md, a->chunks[at / a->chunk_bytes]->data + skip, len) == 1;
        at += len;
    }
    good = good && EVP_DigestFinal_ex(md, sha256, NULL) == 1;
    EVP_MD_CTX_free(md);
    if (!good)
        return error_nomem(err);
    if (memcmp(sha256, piece->sha256, SHA256_BYTES) == 0)
        return 0;

    char ours[2 * SHA256_BYTES + 1], theirs[2 * SHA256_BYTES + 1], name[WAL_SEGMENT_NAME_LEN + 1];

    (void) error_set(
        err, ERROR_CONFLICT,
        "the server sends other WAL than the repository holds: segment \"%s\", bytes %u to %u, "
        "SHA-256 %s here, %s in the repository",
        wal_segment_name(
            piece->extent.tli, piece->extent.segno, a->segment_bytes, name, sizeof name),
        piece->extent.start, piece->extent.end, format_hex(sha256, SHA256_BYTES, ours),
        format_hex(piece->sha256, SHA256_BYTES, theirs));
    return error_hint(
        err,
        "Two servers write the same timeline: stop one, or use another [cluster] name for it.");
}

/* The first page of a segment tells whose WAL it is. */
static int
assembly_check_first_page(const Assembly *a, Error *err)
{
    const RepositoryDescription *d = &a->options.repo->description;
    char lsn[LSN_TEXT_BYTES];
    WalPageHeader page;

    if (!wal_page_read(a->chunks[0]->data, WAL_PAGE_LONG_BYTES, &page) || !page.is_long ||
        wal_page_magic_version(page.magic) == 0 || page.page_address != a->part_start)
        return error_set(
            err, ERROR_CORRUPT, "what the server sent for %s does not begin with a WAL page header",
            lsn_format(a->part_start, lsn, sizeof lsn));
    if (page.system_identifier != d->system_identifier || page.segment_bytes != d->segment_bytes)
        return error_set(
            err, ERROR_CONFLICT,
            "the server sent WAL of system identifier %" PRIu64 " with segments of %u bytes, the "
            "repository is for %" PRIu64 " with %u",
            page.system_identifier, page.segment_bytes, d->system_identifier, d->segment_bytes);
    return 0;
}

int
assembly_write(Assembly *a, Lsn lsn, const void *data, size_t len, size_t *taken, Error *err)
{
    const uint8_t *from = data;

    *taken = 0;
    if (!a->open || lsn != assembly_position(a))
    {
        char want[LSN_TEXT_BYTES], got[LSN_TEXT_BYTES];

        return error_set(
            err, ERROR_CORRUPT, "the server sent WAL from %s, expected %s",
            lsn_format(lsn, got, sizeof got), lsn_format(assembly_position(a), want, sizeof want));
    }
    while (len > 0)
    {
        size_t slot = a->filled / a->chunk_bytes;
        uint32_t skip = a->filled % a->chunk_bytes;
        uint32_t n = (uint32_t) MIN(len, a->chunk_bytes - skip);
        bool first_page = a->filled < WAL_PAGE_LONG_BYTES && assembly_part_offset(a) == 0;

        if (a->chunks[slot] == NULL)
        {
            a->chunks[slot] = chunk_try_get(a->options.pool);
            if (a->chunks[slot] == NULL)
                return 0;
        }
        memcpy(a->chunks[slot]->data + skip, from, n);
        if (a->digest_whole)
            (void) XXH3_128bits_update(a->digest, from, n);
        if (a->filled + n > a->cut && a->first_waiting_us == 0)
            a->first_waiting_us = clock_monotonic_us();
        a->filled += n;
        from += n;
        len -= n;
        *taken += n;
        counter_add(&a->options.counters->received_bytes, n);

        if (first_page && a->filled >= WAL_PAGE_LONG_BYTES && assembly_check_first_page(a, err) < 0)
        {
            assembly_end(a); /* other WAL: none of it may be stored when the stream ends */
            return -1;
        }
        while (a->known_next < a->known_count &&
               a->known[a->known_next].extent.end - assembly_part_offset(a) <= a->filled)
        {
            if (assembly_compare_known(a, &a->known[a->known_next], err) < 0)
            {
                assembly_end(a);
                return -1;
            }
            a->known_next++;
        }
        if (a->filled == a->part_bytes && assembly_finish_part(a, err) < 0)
            return -1;
    }
    return 0;
}
