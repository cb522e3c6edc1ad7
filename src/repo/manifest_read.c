/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Reading a manifest from the repository; see manifest.h.
 */
#include <stdlib.h>
#include <string.h>

#include "common/fs.h"
#include "repo/label.h"
#include "repo/manifest_internal.h"

/* Enough for the header of nearly every backup. */
#define HEADER_FRONT_BYTES ((size_t) 16 * 1024)
/* Where the largest header's frame has ended, whatever the codec. */
#define HEADER_FRONT_MAX ((size_t) BACKUP_MANIFEST_HEADER_MAX + 64 * 1024 + LABEL_FRAME_MAX)
#define INDEX_TEXT_MAX ((size_t) 512 * 1024 * 1024)

static const ManifestHandlers no_handlers = {0};

/* ---- the header alone ---- */

/* The first bytes of the object, as many of them as wanted there are. */
static int
header_fetch(
    Repository *repo, const char *key, size_t wanted, const Deadline *dl, StrBuf *front, Error *err)
{
    AUTO(stage_freep) Stage *sink = NULL;

    if (stage_strbuf_sink_new(front, &sink, err) < 0)
        return -1;
    return store_get(
        repo->store, key, (ByteRange){.offset = front->len, .len = wanted - front->len}, sink, dl,
        err);
}

/* The label in front; *label_bytes is its length. */
static int
header_check_label(
    const StrBuf *front, const char *key, ObjectLabel *label, size_t *label_bytes, Error *err)
{
    if (age_is_age(strbuf_text(front), front->len))
        return error_set(err, ERROR_CORRUPT, "it is encrypted, which a manifest never is");

    int rc = label_frame_parse(strbuf_text(front), front->len, label, label_bytes, err);

    if (rc < 0)
        return -1;
    if (rc == 0)
        return error_set(
            err, ERROR_CORRUPT, "it ends after %zu bytes, within its label", front->len);
    if (strcmp(label->key, key) != 0)
        return error_set(err, ERROR_CORRUPT, "it is labelled as object \"%s\"", label->key);
    if (label->version != 2)
        return error_set(err, ERROR_CORRUPT, "it has a label of version %d", label->version);
    return 0;
}

/* The header's frame from the front. 1: text has the line; 0: front ends too early. */
static int
header_decode(const StrBuf *front, size_t label_bytes, StrBuf *text, Error *err)
{
    AUTO(stage_freep) Stage *sink = NULL;

    strbuf_clear(text);
    if (stage_strbuf_sink_new(text, &sink, err) < 0)
        return -1;
    return codec_decode_first(
        front->data + label_bytes, front->len - label_bytes, BACKUP_MANIFEST_HEADER_MAX, sink, err);
}

/* From the object's front to the header line. */
static int
header_read_line(
    Repository *repo, const char *key, const Deadline *dl, StrBuf *front, StrBuf *text, Error *err)
{
    ObjectLabel label;
    size_t label_bytes;

    if (header_fetch(repo, key, HEADER_FRONT_BYTES, dl, front, err) < 0 ||
        header_check_label(front, key, &label, &label_bytes, err) < 0)
        return -1;

    int rc = header_decode(front, label_bytes, text, err);

    /* another request only if there is more of it */
    if (rc == 0 && front->len == HEADER_FRONT_BYTES && label.plain_bytes > front->len - label_bytes)
    {
        if (header_fetch(repo, key, HEADER_FRONT_MAX, dl, front, err) < 0)
            return -1;
        rc = header_decode(front, label_bytes, text, err);
    }
    if (rc < 0)
        return -1;
    if (rc == 0)
        return error_set(err, ERROR_CORRUPT, "it ends within its header");
    /* a small object is here as a whole, and a cut one is seen without reading all of it */
    if (front->len < HEADER_FRONT_BYTES && label.plain_bytes != front->len - label_bytes)
        return error_set(
            err, ERROR_CORRUPT, "it has %zu bytes behind its label, where the label says %llu",
            front->len - label_bytes, (unsigned long long) label.plain_bytes);
    return 0;
}

int
manifest_read_header(
    Repository *repo, const char *label, const Deadline *dl, BackupHeader *out, Error *err)
{
    AUTO(strbuf_reset) StrBuf front;
    AUTO(strbuf_reset) StrBuf text;
    AUTO(manifest_scan_reset)
    ManifestScan scan = {.handlers = &no_handlers, .label = label, .repo = repo};
    char key[LAYOUT_KEY_MAX];

    strbuf_init(&front, HEADER_FRONT_MAX);
    strbuf_init(&text, BACKUP_MANIFEST_HEADER_MAX);
    manifest_scan_begin(&scan);
    if (header_read_line(repo, backup_manifest_key(label, key), dl, &front, &text, err) < 0 ||
        manifest_scan_text(&scan, strbuf_text(&text), text.len, err) < 0)
        return error_wrap(err, "could not read the manifest of backup \"%s\"", label);
    if (!scan.has_header || scan.line_count != 1 || scan.partial.len > 0)
        return error_set(
            err, ERROR_CORRUPT,
            "could not read the manifest of backup \"%s\": its first frame is not the header line",
            label);
    *out = scan.header;
    scan.header = (BackupHeader){0};
    return 0;
}

/* ---- all of it ---- */

/* Keeps what comes; the object's label has said that it is not too much. */
typedef struct ReadSink
{
    Stage stage;
    Bulk *frames; /* borrowed */
} ReadSink;

static int
read_sink_write(Stage *st, const void *buf, size_t len, Error *err)
{
    Bulk *frames = ((ReadSink *) st)->frames;
    void *room;

    if (len > MANIFEST_STORED_MAX - frames->used)
        return error_set(
            err, ERROR_CORRUPT, "it has more than the %zu bytes expected", MANIFEST_STORED_MAX);
    room = bulk_add(frames, len, err);
    if (room == NULL)
        return -1;
    memcpy(room, buf, len);
    return 0;
}

static const StageOps read_sink_ops = {
    .name = "manifest",
    .write = read_sink_write,
};

int
manifest_read(
    Repository *repo, const char *label, const Deadline *dl, const ManifestHandlers *handlers,
    void *ctx, Error *err)
{
    AUTO(manifest_scan_reset)
    ManifestScan scan = {.handlers = handlers, .ctx = ctx, .label = label, .repo = repo};
    AUTO(bulk_reset) Bulk frames = {.dir = repo->scratch};
    ReadSink sink = {.frames = &frames};
    char key[LAYOUT_KEY_MAX];

    manifest_scan_begin(&scan);
    stage_init(&sink.stage, &read_sink_ops, NULL);

    int rc = object_get_payload_to(
        repo->store, backup_manifest_key(label, key), NULL, MANIFEST_STORED_MAX, &sink.stage, dl,
        err);

    if (rc == 0)
        rc = manifest_scan_frames(&scan, &frames, err);
    if (rc < 0 && !scan.handler_failed)
        return error_wrap(err, "could not read the manifest of backup \"%s\"", label);
    return rc;
}

int
manifest_read_index(
    Repository *repo, const char *label, uint32_t bundle, ChecksumAlgorithm checksum,
    const Deadline *dl, const ManifestHandlers *handlers, void *ctx, Error *err)
{
    AUTO(manifest_scan_reset)
    ManifestScan scan = {
        .handlers = handlers,
        .ctx = ctx,
        .label = label,
        .checksum = checksum,
        .lines_only = true,
        .one_bundle = true,
        .bundle = bundle};
    AUTO(free_text) char *text = NULL;
    char key[LAYOUT_KEY_MAX];
    size_t len;

    manifest_scan_begin(&scan);
    if (object_get_bytes(
            repo->store, backup_index_key(label, bundle, key), NULL, INDEX_TEXT_MAX, &text, &len,
            dl, err) < 0)
        return -1;
    if (manifest_scan_text(&scan, text, len, err) == 0 && manifest_scan_end(&scan, err) == 0)
        return 0;
    if (!scan.handler_failed)
        return error_wrap(err, "could not read index \"%s\"", key);
    return -1;
}
