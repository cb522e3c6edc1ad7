/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The lines of a manifest in their order; see manifest_internal.h.
 *
 *   header --> (folder | bundle: file* part+)* --> trailer
 *
 * A bundle's lines come together, and it comes once. Its files do not overlap and lie within its
 * frames; its parts are numbered from 0, and only its last frame may be short. Folders may stand
 * anywhere.
 */
#include <stdlib.h>
#include <string.h>

#include "repo/json_read.h"
#include "repo/manifest_internal.h"

#define SCAN_PORTION_BYTES ((size_t) 1024 * 1024) /* of frames, which need not be resident */

void
manifest_scan_begin(ManifestScan *scan)
{
    strbuf_init(&scan->partial, MANIFEST_LINE_MAX);
}

void
manifest_scan_reset(ManifestScan *scan)
{
    strbuf_reset(&scan->partial);
    backup_header_reset(&scan->header);
    manifest_line_reset(&scan->line);
    free(scan->seen);
    scan->seen = NULL;
    scan->seen_bytes = 0;
}

/* ---- bundles ---- */

/* No more lines of the bundle will come. */
static int
scan_close_bundle(ManifestScan *scan, Error *err)
{
    if (!scan->in_bundle)
        return 0;
    scan->in_bundle = false;
    if (scan->part_count == 0)
        return error_set(
            err, ERROR_CORRUPT, "bundle %u has files, but no parts", (unsigned) scan->bundle);
    if (scan->content_end > scan->plain_bytes)
        return error_set(
            err, ERROR_CORRUPT, "the frames of bundle %u end before its files do",
            (unsigned) scan->bundle);
    return 0;
}

/* Marks the bundle; CORRUPT if it came before. */
static int
scan_see_bundle(ManifestScan *scan, uint32_t bundle, Error *err)
{
    size_t at = bundle / 8;
    uint8_t bit = (uint8_t) (1u << bundle % 8);

    if (at >= scan->seen_bytes)
    {
        /* bundle is below BACKUP_BUNDLES_MAX */
        size_t want = MAX(at + 1, 2 * scan->seen_bytes);
        uint8_t *seen = realloc(scan->seen, want);

        if (seen == NULL)
            return error_nomem(err);
        memset(seen + scan->seen_bytes, 0, want - scan->seen_bytes);
        scan->seen = seen;
        scan->seen_bytes = want;
    }
    if ((scan->seen[at] & bit) != 0)
        return error_set(
            err, ERROR_CORRUPT, "lines of bundle %u do not come together", (unsigned) bundle);
    scan->seen[at] |= bit;
    return 0;
}

/* A line of this bundle comes. */
static int
scan_enter_bundle(ManifestScan *scan, uint32_t bundle, Error *err)
{
    if (scan->in_bundle && scan->bundle == bundle)
        return 0;
    if (scan->one_bundle && scan->bundle != bundle)
        return error_set(err, ERROR_CORRUPT, "it is of bundle %u", (unsigned) bundle);
    if (scan_close_bundle(scan, err) < 0 || scan_see_bundle(scan, bundle, err) < 0)
        return -1;
    scan->in_bundle = true;
    scan->bundle = bundle;
    scan->content_end = 0;
    scan->part_count = 0;
    scan->frame_count = 0;
    scan->plain_bytes = 0;
    scan->ended = false;
    return 0;
}

/* ---- lines ---- */

static int
scan_header(ManifestScan *scan, Error *err)
{
    BackupHeader *header = &scan->line.header;
    const json_t *doc = json_object_get(scan->line.members.doc, "header");
    char cluster[64];

    if (scan->lines_only || scan->has_header)
        return error_set(err, ERROR_CORRUPT, "a header is not expected here");
    if (scan->label[0] != '\0' && strcmp(header->label, scan->label) != 0)
        return error_set(err, ERROR_CORRUPT, "it is that of backup \"%s\"", header->label);
    if (scan->repo != NULL)
    {
        const RepositoryDescription *d = &scan->repo->description;

        if (!json_read_text(doc, "cluster", cluster, sizeof cluster) ||
            strcmp(cluster, d->cluster) != 0)
            return error_set(err, ERROR_CORRUPT, "it is not of cluster \"%s\"", d->cluster);
        if (header->system_identifier != d->system_identifier)
            return error_set(
                err, ERROR_CORRUPT, "it is of system identifier %llu, where %llu is expected",
                (unsigned long long) header->system_identifier,
                (unsigned long long) d->system_identifier);
    }
    scan->has_header = true;
    scan->header = *header;
    *header = (BackupHeader){0};
    scan->checksum = scan->header.checksum;
    if (scan->handlers->header == NULL)
        return 0;
    if (scan->handlers->header(scan->ctx, &scan->header, err) == 0)
        return 0;
    scan->handler_failed = true;
    return -1;
}

static int
scan_file(ManifestScan *scan, Error *err)
{
    const BackupFile *file = &scan->line.file;

    if (file->kind != BACKUP_FILE_FOLDER)
    {
        if (scan_enter_bundle(scan, file->bundle, err) < 0)
            return -1;
        if (scan->part_count > 0)
            return error_set(err, ERROR_CORRUPT, "a file comes behind the parts of its bundle");
        if (file->offset < scan->content_end)
            return error_set(
                err, ERROR_CORRUPT, "file \"%s\" overlaps the one before it", file->path);
        scan->content_end = file->offset + file->stored_bytes;
    }
    if (scan->handlers->file == NULL || scan->handlers->file(scan->ctx, file, err) == 0)
        return 0;
    scan->handler_failed = true;
    return -1;
}

/* The label that part.owner becomes: one of the header's, where there is one. */
static int
scan_find_owner(const ManifestScan *scan, const char *owner, const char **out, Error *err)
{
    if (owner == NULL)
    {
        *out = scan->has_header ? scan->header.label : scan->label;
        return 0;
    }
    if (!scan->has_header)
    {
        *out = owner;
        return 0;
    }
    for (size_t i = 0; i < scan->header.uses_count; i++)
    {
        *out = scan->header.uses[i];
        if (strcmp(owner, *out) == 0)
            return 0;
    }
    return error_set(
        err, ERROR_CORRUPT, "a part is of backup \"%s\", which the header does not name", owner);
}

static int
scan_part(ManifestScan *scan, Error *err)
{
    BackupPart *part = &scan->line.part;

    if (scan_enter_bundle(scan, part->bundle, err) < 0)
        return -1;
    if (part->part != scan->part_count || scan->ended)
        return error_set(
            err, ERROR_CORRUPT, "part %u of bundle %u is not the next one", (unsigned) part->part,
            (unsigned) part->bundle);
    if (scan_find_owner(scan, part->owner, &part->owner, err) < 0)
        return -1;
    if (scan->part_count == 0)
    {
        memcpy(scan->owner_text, part->owner, strlen(part->owner) + 1);
        scan->owner_bundle = part->owner_bundle;
    }
    else if (strcmp(scan->owner_text, part->owner) != 0 || scan->owner_bundle != part->owner_bundle)
        return error_set(
            err, ERROR_CORRUPT, "the parts of bundle %u are not all of one bundle",
            (unsigned) part->bundle);
    part->first_frame = scan->frame_count;
    if (__builtin_add_overflow(scan->frame_count, part->frame_count, &scan->frame_count))
        return error_set(
            err, ERROR_CORRUPT, "bundle %u has too many frames", (unsigned) part->bundle);
    scan->part_count++;
    scan->plain_bytes +=
        (uint64_t) (part->frame_count - 1) * BACKUP_FRAME_BYTES + part->last_plain_bytes;
    scan->ended = part->last_plain_bytes < BACKUP_FRAME_BYTES;
    if (scan->handlers->part == NULL || scan->handlers->part(scan->ctx, part, err) == 0)
        return 0;
    scan->handler_failed = true;
    return -1;
}

static int
scan_trailer(ManifestScan *scan, Error *err)
{
    /* of the lines so far, header and trailer are not counted */
    uint64_t between = scan->line_count - 2;

    if (scan->lines_only)
        return error_set(err, ERROR_CORRUPT, "a trailer is not expected here");
    if (scan->line.trailer_lines != between)
        return error_set(
            err, ERROR_CORRUPT, "the trailer tells of %llu lines, but there are %llu",
            (unsigned long long) scan->line.trailer_lines, (unsigned long long) between);
    scan->has_trailer = true;
    return scan_close_bundle(scan, err);
}

static int
scan_take_line(ManifestScan *scan, Error *err)
{
    if (scan->has_trailer)
        return error_set(err, ERROR_CORRUPT, "it stands behind the trailer");
    if (!scan->lines_only && !scan->has_header && scan->line.kind != MANIFEST_LINE_HEADER)
        return error_set(err, ERROR_CORRUPT, "a header is expected here");
    switch (scan->line.kind)
    {
        case MANIFEST_LINE_HEADER:
            return scan_header(scan, err);
        case MANIFEST_LINE_FILE:
            return scan_file(scan, err);
        case MANIFEST_LINE_PART:
            return scan_part(scan, err);
        case MANIFEST_LINE_TRAILER:
            return scan_trailer(scan, err);
    }
    return error_set(err, ERROR_CORRUPT, "it is of no known kind");
}

static int
scan_line(ManifestScan *scan, const char *text, size_t len, Error *err)
{
    scan->line_count++;
    if (manifest_line_parse(text, len, scan->checksum, &scan->line, err) == 0 &&
        scan_take_line(scan, err) == 0)
        return 0;
    if (!scan->handler_failed)
        (void) error_wrap(err, "line %llu", (unsigned long long) scan->line_count);
    return -1;
}

/* ---- text ---- */

int
manifest_scan_text(ManifestScan *scan, const char *text, size_t len, Error *err)
{
    while (len > 0)
    {
        const char *end = memchr(text, '\n', len);
        size_t n = end != NULL ? (size_t) (end - text) : len;

        if (n >= MANIFEST_LINE_MAX - scan->partial.len)
            return error_set(
                err, ERROR_CORRUPT, "line %llu is longer than %zu bytes",
                (unsigned long long) scan->line_count + 1, MANIFEST_LINE_MAX);
        /* most lines come whole and are read where they stand */
        if (end == NULL || scan->partial.len > 0)
        {
            strbuf_append(&scan->partial, text, n);
            if (strbuf_finish(&scan->partial, err) < 0)
                return -1;
            if (end == NULL)
                return 0;
            if (scan_line(scan, strbuf_text(&scan->partial), scan->partial.len, err) < 0)
                return -1;
            strbuf_clear(&scan->partial);
        }
        else if (scan_line(scan, text, n, err) < 0)
            return -1;
        text += n + 1;
        len -= n + 1;
    }
    return 0;
}

int
manifest_scan_end(ManifestScan *scan, Error *err)
{
    if (scan->partial.len > 0)
        return error_set(
            err, ERROR_CORRUPT, "it ends within line %llu",
            (unsigned long long) scan->line_count + 1);
    if (!scan->lines_only && !scan->has_trailer)
        return error_set(err, ERROR_CORRUPT, "it has no trailer");
    return scan->unfinished ? 0 : scan_close_bundle(scan, err);
}

/* ---- frames ---- */

typedef struct ScanStage
{
    Stage stage;
    ManifestScan *scan; /* borrowed */
} ScanStage;

static int
scan_stage_write(Stage *st, const void *buf, size_t len, Error *err)
{
    return manifest_scan_text(((ScanStage *) st)->scan, buf, len, err);
}

static const StageOps scan_stage_ops = {
    .name = "manifest",
    .write = scan_stage_write,
};

int
manifest_scan_some_frames(ManifestScan *scan, Bulk *frames, Error *err)
{
    ScanStage sink = {.scan = scan};
    AUTO(stage_freep) Stage *chain = NULL;

    if (frames->used == 0)
        return 0;
    stage_init(&sink.stage, &scan_stage_ops, NULL);
    if (codec_decoder_new(MANIFEST_PLAIN_MAX, &sink.stage, &chain, err) < 0)
        return -1;
    for (size_t at = 0, n; at < frames->used; at += n)
    {
        n = MIN(frames->used - at, SCAN_PORTION_BYTES);
        if (stage_write(chain, frames->data + at, n, err) < 0)
            return -1;
        bulk_release(frames);
    }
    return stage_finish(chain, err);
}

int
manifest_scan_frames(ManifestScan *scan, Bulk *frames, Error *err)
{
    if (manifest_scan_some_frames(scan, frames, err) < 0)
        return -1;
    return manifest_scan_end(scan, err);
}
