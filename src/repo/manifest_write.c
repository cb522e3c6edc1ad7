/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Writing a manifest; see manifest.h.
 *
 * Lines are collected in text; each MiB of them becomes a frame of its own behind the others in
 * frames. The header's frame is made last and put in front, the trailer's behind.
 *
 * Nothing is stored before manifest_writer_put, so that a crash leaves nothing of it.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "repo/manifest_internal.h"

#define WRITER_TEXT_BYTES ((size_t) 1024 * 1024)

struct ManifestWriter
{
    CodecSpec codec;
    pthread_mutex_t lock; /* guards all below */
    StrBuf text;          /* whole lines, not yet compressed */
    StrBuf frame;         /* while it is made */
    Bulk frames;
    uint64_t line_count;
};

int
manifest_writer_new(CodecSpec codec, const char *scratch, ManifestWriter **out, Error *err)
{
    ManifestWriter *w = calloc(1, sizeof *w);

    if (w == NULL)
        return error_nomem(err);
    if (pthread_mutex_init(&w->lock, NULL) != 0)
    {
        free(w);
        return error_nomem(err);
    }
    /* names repeat themselves too much to store them as they are */
    w->codec = codec;
    if (codec.method == CODEC_NONE)
        w->codec = (CodecSpec){.method = CODEC_LZ4};
    strbuf_init(&w->text, SIZE_MAX);
    strbuf_init(&w->frame, MANIFEST_STORED_MAX);
    w->frames = (Bulk){.dir = scratch};
    *out = w;
    return 0;
}

void
manifest_writer_free(ManifestWriter *w)
{
    if (w == NULL)
        return;
    strbuf_reset(&w->text);
    strbuf_reset(&w->frame);
    bulk_reset(&w->frames);
    (void) pthread_mutex_destroy(&w->lock);
    free(w);
}

/* Bytes behind those in out; a manifest of more than its bound could not be read. */
static int
writer_append(Bulk *out, const void *data, size_t len, Error *err)
{
    void *room;

    if (len > MANIFEST_STORED_MAX - out->used)
        return error_set(
            err, ERROR_NOMEM, "it has more than %zu bytes, compressed", MANIFEST_STORED_MAX);
    room = bulk_add(out, len, err);
    if (room == NULL)
        return -1;
    memcpy(room, data, len);
    return 0;
}

/* One frame of text behind what is in out; by way of frame, so that a failure leaves out alone. */
static int
writer_add_frame(
    CodecSpec codec, const char *text, size_t len, StrBuf *frame, Bulk *out, Error *err)
{
    AUTO(stage_freep) Stage *sink = NULL;
    AUTO(stage_freep) Stage *chain = NULL;

    strbuf_reset(frame);
    if (stage_strbuf_sink_new(frame, &sink, err) < 0 ||
        codec_encoder_new(codec, len, sink, &chain, err) < 0)
        return -1;
    (void) steal(sink); /* it is the chain's now */
    if (stage_write(chain, text, len, err) < 0 || stage_finish(chain, err) < 0)
        return -1;
    return writer_append(out, strbuf_text(frame), frame->len, err);
}

/* What was collected becomes a frame; the lock is held. A failure leaves both as they were. */
static int
writer_flush(ManifestWriter *w, Error *err)
{
    if (w->text.len == 0)
        return 0;
    if (writer_add_frame(w->codec, strbuf_text(&w->text), w->text.len, &w->frame, &w->frames, err) <
        0)
        return -1;
    strbuf_clear(&w->text);
    return 0;
}

/* The lock is held. */
static int
writer_add(ManifestWriter *w, const char *lines, size_t len, Error *err)
{
    size_t before = w->text.len;
    uint64_t count = 0;

    for (const char *p = lines; (p = memchr(p, '\n', len - (size_t) (p - lines))) != NULL; p++)
        count++;
    strbuf_append(&w->text, lines, len);
    if (strbuf_finish(&w->text, err) < 0)
    {
        w->text.failed = false;
        return -1;
    }
    if (w->text.len >= WRITER_TEXT_BYTES && writer_flush(w, err) < 0)
    {
        w->text.len = before;
        return -1;
    }
    w->line_count += count;
    return 0;
}

int
manifest_writer_add(ManifestWriter *w, const char *lines, size_t len, Error *err)
{
    if (len == 0)
        return 0;
    assert(lines[len - 1] == '\n');
    (void) pthread_mutex_lock(&w->lock);

    int rc = writer_add(w, lines, len, err);

    (void) pthread_mutex_unlock(&w->lock);
    return rc < 0 ? error_wrap(err, "could not add to the manifest") : 0;
}

/* The lock is held. */
static int
writer_replay(ManifestWriter *w, ManifestScan *scan, Error *err)
{
    if (manifest_scan_some_frames(scan, &w->frames, err) < 0 ||
        manifest_scan_text(scan, strbuf_text(&w->text), w->text.len, err) < 0)
        return -1;
    return manifest_scan_end(scan, err);
}

int
manifest_writer_replay(
    ManifestWriter *w, ChecksumAlgorithm checksum, const ManifestHandlers *handlers, void *ctx,
    Error *err)
{
    AUTO(manifest_scan_reset)
    ManifestScan scan = {
        .handlers = handlers,
        .ctx = ctx,
        .label = "",
        .checksum = checksum,
        .lines_only = true,
        .unfinished = true};

    manifest_scan_begin(&scan);
    (void) pthread_mutex_lock(&w->lock);

    int rc = writer_replay(w, &scan, err);

    (void) pthread_mutex_unlock(&w->lock);
    if (rc < 0 && !scan.handler_failed)
        return error_wrap(err, "could not read what was added to the manifest");
    return rc;
}

/* ---- putting ---- */

/* Paths that came, by their hashes: 64 bits that we make ourselves do not meet by accident. */
typedef struct PathSet
{
    Bulk memory;       /* of slots */
    uint64_t *slots;   /* 0: free */
    size_t slot_count; /* a power of two */
    size_t count;
} PathSet;

static void
path_set_reset(PathSet *set)
{
    bulk_reset(&set->memory);
    *set = (PathSet){0};
}

/* Where hash is, or where it may be put. */
static uint64_t *
path_set_slot(PathSet *set, uint64_t hash)
{
    size_t at = (size_t) hash & (set->slot_count - 1);

    bulk_look(&set->memory);
    while (set->slots[at] != 0 && set->slots[at] != hash)
        at = (at + 1) & (set->slot_count - 1);
    return &set->slots[at];
}

static int
path_set_grow(PathSet *set, Error *err)
{
    PathSet grown = {
        .memory = {.dir = set->memory.dir, .memory = BULK_TABLE_BYTES},
        .slot_count = MAX((size_t) 1024, 2 * set->slot_count),
        .count = set->count};

    grown.slots = bulk_add(&grown.memory, grown.slot_count * sizeof *grown.slots, err);
    if (grown.slots == NULL)
    {
        bulk_reset(&grown.memory);
        return -1;
    }
    for (size_t i = 0; i < set->slot_count; i++)
        if (set->slots[i] != 0)
            *path_set_slot(&grown, set->slots[i]) = set->slots[i];
    bulk_reset(&set->memory);
    *set = grown;
    return 0;
}

static int
writer_check_path(void *ctx, const BackupFile *file, Error *err)
{
    PathSet *set = ctx;
    uint64_t hash = XXH3_64bits(file->path, strlen(file->path));

    if (file->kind == BACKUP_FILE_FOLDER)
        return 0;
    if (hash == 0)
        hash = 1;
    if (4 * set->count >= 3 * set->slot_count && path_set_grow(set, err) < 0)
        return -1;

    uint64_t *slot = path_set_slot(set, hash);

    if (*slot != 0)
        return error_set(err, ERROR_CORRUPT, "file \"%s\" is in it twice", file->path);
    *slot = hash;
    set->count++;
    return 0;
}

/*
 * Reads what is about to be stored as a restore would. A backup that cannot be read back is found
 * now, while there is a server to take another one of, and not when it is needed.
 */
static int
writer_check(Bulk *payload, const Repository *repo, const char *label, Error *err)
{
    static const ManifestHandlers handlers = {.file = writer_check_path};
    AUTO(path_set_reset) PathSet paths = {.memory = {.dir = repo->scratch}};
    AUTO(manifest_scan_reset)
    ManifestScan scan = {.handlers = &handlers, .ctx = &paths, .label = label, .repo = repo};

    manifest_scan_begin(&scan);
    return manifest_scan_frames(&scan, payload, err);
}

/* The frames of one behind those of the other. */
static int
writer_copy_frames(Bulk *from, Bulk *out, Error *err)
{
    for (size_t at = 0, n; at < from->used; at += n)
    {
        n = MIN(from->used - at, WRITER_TEXT_BYTES);
        if (writer_append(out, from->data + at, n, err) < 0)
            return -1;
        bulk_release(from);
    }
    return 0;
}

/* Header, all lines, trailer. */
static int
writer_make_payload(
    ManifestWriter *w, const BackupHeader *header, const char *cluster, Bulk *out, Error *err)
{
    AUTO(strbuf_reset) StrBuf line;
    AUTO(strbuf_reset) StrBuf frame;

    strbuf_init(&line, BACKUP_MANIFEST_HEADER_MAX);
    strbuf_init(&frame, MANIFEST_STORED_MAX);
    manifest_format_header(header, cluster, &line);
    if (strbuf_finish(&line, err) < 0 ||
        writer_add_frame(w->codec, strbuf_text(&line), line.len, &frame, out, err) < 0)
        return error_wrap(err, "header");
    (void) pthread_mutex_lock(&w->lock);

    int rc = writer_flush(w, err);

    if (rc == 0)
        rc = writer_copy_frames(&w->frames, out, err);
    strbuf_clear(&line);
    strbuf_printf(&line, "{\"trailer\": {\"lines\": %llu}}\n", (unsigned long long) w->line_count);
    (void) pthread_mutex_unlock(&w->lock);
    if (rc < 0 || strbuf_finish(&line, err) < 0)
        return -1;
    return writer_add_frame(w->codec, strbuf_text(&line), line.len, &frame, out, err);
}

static int
writer_put(
    ManifestWriter *w, Repository *repo, const BackupHeader *header, const Deadline *dl,
    uint64_t *stored_bytes, Error *err)
{
    AUTO(bulk_reset) Bulk payload = {.dir = repo->scratch};
    AUTO(object_sealed_reset) ObjectSealed sealed = {0};
    char key[LAYOUT_KEY_MAX];
    ObjectPutResult result;

    if (writer_make_payload(w, header, repo->description.cluster, &payload, err) < 0 ||
        writer_check(&payload, repo, header->label, err) < 0)
        return -1;
    if (object_seal(
            NULL, backup_manifest_key(header->label, key), payload.data, payload.used, &sealed,
            err) < 0 ||
        object_put_sealed(repo->store, &sealed, dl, &result, err) < 0)
        return -1;
    *stored_bytes = sealed.bytes;
    return 0;
}

int
manifest_writer_put(
    ManifestWriter *w, Repository *repo, const BackupHeader *header, const Deadline *dl,
    uint64_t *stored_bytes, Error *err)
{
    if (writer_put(w, repo, header, dl, stored_bytes, err) < 0)
        return error_wrap(err, "could not store the manifest of backup \"%s\"", header->label);
    return 0;
}
