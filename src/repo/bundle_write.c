/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A worker's side of bundles: tar, frames, parts; see bundle_write.h and bundle_internal.h.
 *
 *   bundle_writer_write --> checksums, libarchive --> bundle_writer_take (its callback)
 *       --> frame is full: compress into the part --> part is full: bundle_set_submit
 *
 * libarchive hands every byte on at once (blocks of 0 bytes), so that the number of bytes seen by
 * the callback is the position in the archive: behind the header it is where the content begins.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/fs.h"
#include "pg/incremental_file.h"
#include "repo/bundle_internal.h"
#include "repo/file_digest.h"
#include "stream/codec_frame.h"

/* Checksums and copy see a slice while it is in the processor's cache. */
#define BUNDLE_SLICE_BYTES (128u * 1024u)
/* A bundle of very many small files is ended by its lines. */
#define BUNDLE_LINES_BYTES (4u * 1024u * 1024u)

struct BundleWriter
{
    BundleSet *set; /* borrowed */
    bool failed;    /* for good */
    Error failure;
    bool take_failed; /* the callback did, with take_err */
    Error take_err;

    Bundle *bundle; /* NULL: none is open; the set's in the end */
    struct archive *tar;
    uint64_t tar_bytes; /* of the bundle, so far */
    struct archive_entry *entry;

    BackupFile *file; /* the caller's; NULL: between files */
    uint64_t left;    /* of its content */
    FileDigester *digester;

    CodecFrameEncoder *encoder;
    uint8_t *frame; /* BACKUP_FRAME_BYTES of them */
    size_t frame_len;
    uint8_t *zeros; /* a full frame of zeros, compressed; NULL before there was one */
    size_t zeros_len;

    BundlePartBuf *part; /* NULL: no frame of it yet */
    BundlePartInfo info; /* of part */
};

/* ---- frames and parts ---- */

static int
bundle_writer_end_part(BundleWriter *w, Error *err)
{
    if (w->part == NULL)
        return 0;
    return bundle_set_submit(w->set, w->bundle, &w->info, steal(w->part), err);
}

static int
bundle_writer_begin_part(BundleWriter *w, Error *err)
{
    if (w->part != NULL)
        return 0;
    w->info = (BundlePartInfo){.first_frame = (uint32_t) w->bundle->frame_count};
    return bundle_set_take_part(w->set, &w->part, err);
}

static int
bundle_writer_add_frame_bytes(Bundle *bundle, size_t frame_bytes, Error *err)
{
    uint32_t *grown = array_grow(
        bundle->frame_bytes, bundle->frame_count, &bundle->frame_cap, sizeof *grown, err);

    if (grown == NULL)
        return -1;
    bundle->frame_bytes = grown;
    bundle->frame_bytes[bundle->frame_count++] = (uint32_t) frame_bytes;
    return 0;
}

/* Differs from its beginning nowhere, and begins with zeros: stops at the first other byte. */
static bool
bundle_frame_is_zeros(const uint8_t *frame, size_t len)
{
    static const uint8_t zeros[64];

    return len == BACKUP_FRAME_BYTES && memcmp(frame, zeros, sizeof zeros) == 0 &&
           memcmp(frame, frame + sizeof zeros, len - sizeof zeros) == 0;
}

/* Compresses the frame to out. What is allocated but never written has long runs of zeros. */
static int
bundle_writer_compress(BundleWriter *w, uint8_t *out, size_t *frame_bytes, Error *err)
{
    if (!bundle_frame_is_zeros(w->frame, w->frame_len))
        return codec_frame_compress(w->encoder, w->frame, w->frame_len, out, frame_bytes, err);
    if (w->zeros != NULL)
    {
        memcpy(out, w->zeros, w->zeros_len);
        *frame_bytes = w->zeros_len;
        return 0;
    }
    if (codec_frame_compress(w->encoder, w->frame, w->frame_len, out, frame_bytes, err) < 0)
        return -1;
    w->zeros = malloc(*frame_bytes);
    if (w->zeros == NULL)
        return error_nomem(err);
    memcpy(w->zeros, out, *frame_bytes);
    w->zeros_len = *frame_bytes;
    return 0;
}

/* The frame is full, or the bundle's last. */
static int
bundle_writer_end_frame(BundleWriter *w, Error *err)
{
    size_t frame_bytes;

    if (w->frame_len == 0)
        return 0;
    if (bundle_writer_begin_part(w, err) < 0 ||
        bundle_writer_compress(w, w->part->payload + w->part->len, &frame_bytes, err) < 0 ||
        bundle_writer_add_frame_bytes(w->bundle, frame_bytes, err) < 0)
        return -1;
    w->part->len += frame_bytes;
    w->info.frame_count++;
    w->info.last_plain_bytes = (uint32_t) w->frame_len;
    w->frame_len = 0;
    if (w->part->len >= BACKUP_PART_BYTES || w->info.frame_count == BACKUP_PART_MAX_FRAMES)
        return bundle_writer_end_part(w, err);
    return 0;
}

static int
bundle_writer_take_bytes(BundleWriter *w, const uint8_t *data, size_t len, Error *err)
{
    w->tar_bytes += len;
    while (len > 0)
    {
        size_t n = MIN(len, BACKUP_FRAME_BYTES - w->frame_len);

        memcpy(w->frame + w->frame_len, data, n);
        w->frame_len += n;
        data += n;
        len -= n;
        if (w->frame_len == BACKUP_FRAME_BYTES && bundle_writer_end_frame(w, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- tar ---- */

/*
 * What libarchive calls with the bytes of the archive. It never hears of our failures, which
 * bundle_writer_tar_check looks for: after an answer of -1 it would not free all that it has (seen
 * in 3.6.2).
 */
static la_ssize_t
bundle_writer_take(struct archive *tar UNUSED, void *ctx, const void *buf, size_t len)
{
    BundleWriter *w = ctx;

    if (!w->take_failed && bundle_writer_take_bytes(w, buf, len, &w->take_err) < 0)
        w->take_failed = true;
    return (la_ssize_t) len;
}

/* good: what libarchive thinks of its call. Then our own reason comes first. */
static int
bundle_writer_tar_check(const BundleWriter *w, bool good, Error *err)
{
    if (w->take_failed)
    {
        *err = w->take_err;
        return -1;
    }
    if (good)
        return 0;
    if (archive_errno(w->tar) == ENOMEM)
        return error_nomem(err);

    const char *why = archive_error_string(w->tar);

    return error_set(
        err, ERROR_IO, "could not write a tar archive: %s", why != NULL ? why : "unknown reason");
}

/* Remembers a failure of the writer: it is not usable any more, but to be freed. */
static int
bundle_writer_fail(BundleWriter *w, const Error *err)
{
    if (!w->failed)
    {
        w->failed = true;
        w->failure = *err;
    }
    return -1;
}

/* The same, of what was done for a file; what the set says of a part has nothing to do with it. */
static int
bundle_writer_fail_file(BundleWriter *w, const char *path, Error *err)
{
    Error set_err = {0};

    if (bundle_set_check(w->set, &set_err) < 0)
        *err = set_err;
    else
        (void) error_wrap(err, "could not store \"%s\"", path);
    return bundle_writer_fail(w, err);
}

/* Before every call. */
static int
bundle_writer_check(const BundleWriter *w, Error *err)
{
    if (w->failed)
    {
        *err = w->failure;
        return -1;
    }
    return bundle_set_check(w->set, err);
}

/*
 * Plain ustar headers where they suffice. Names are bytes: one that cannot be converted to UTF-8 is
 * written as it is, with a warning, which is none of ours.
 */
static int
bundle_writer_open_tar(BundleWriter *w, Error *err)
{
    w->tar = archive_write_new();
    if (w->tar == NULL)
        return error_nomem(err);
    return bundle_writer_tar_check(
        w,
        archive_write_set_format_pax_restricted(w->tar) == ARCHIVE_OK &&
            archive_write_set_bytes_per_block(w->tar, 0) == ARCHIVE_OK &&
            archive_write_open(w->tar, w, NULL, bundle_writer_take, NULL) == ARCHIVE_OK,
        err);
}

static void
bundle_writer_discard(BundleWriter *w)
{
    /* libarchive would end the archive now: nobody wants that any more */
    w->take_failed = true;
    (void) archive_write_free(w->tar);
    w->tar = NULL;
    if (w->part != NULL)
        bundle_set_give_back(w->set, steal(w->part));
    if (w->bundle != NULL)
        bundle_set_end(w->set, steal(w->bundle), true);
}

static int
bundle_writer_open_bundle(BundleWriter *w, Error *err)
{
    if (w->bundle != NULL)
        return 0;
    return bundle_set_begin(w->set, &w->bundle, err) < 0 || bundle_writer_open_tar(w, err) < 0 ? -1
                                                                                               : 0;
}

static int
bundle_writer_close_bundle(BundleWriter *w, Error *err)
{
    if (bundle_writer_tar_check(w, archive_write_close(w->tar) == ARCHIVE_OK, err) < 0 ||
        bundle_writer_end_frame(w, err) < 0 || bundle_writer_end_part(w, err) < 0)
        return -1;
    (void) archive_write_free(w->tar);
    w->tar = NULL;
    w->tar_bytes = 0;
    bundle_set_end(w->set, steal(w->bundle), false);
    return 0;
}

/* ---- files ---- */

/* The name in the archive. */
static const char *
bundle_file_name(const BackupFile *file, char name[BACKUP_ARCHIVE_NAME_MAX])
{
    if (file->kind == BACKUP_FILE_INCREMENTAL)
        return incremental_path(file->path, name, BACKUP_ARCHIVE_NAME_MAX);
    (void) snprintf(
        name, BACKUP_ARCHIVE_NAME_MAX, "%s%s", file->path,
        file->kind == BACKUP_FILE_FOLDER ? "/" : "");
    return name;
}

static int
bundle_writer_write_header(BundleWriter *w, const BackupFile *file, Error *err)
{
    struct archive_entry *entry = archive_entry_clear(w->entry);
    bool is_folder = file->kind == BACKUP_FILE_FOLDER;
    char name[BACKUP_ARCHIVE_NAME_MAX];

    archive_entry_copy_pathname(entry, bundle_file_name(file, name));
    archive_entry_set_filetype(entry, is_folder ? AE_IFDIR : AE_IFREG);
    archive_entry_set_perm(entry, (mode_t) (file->mode & 07777));
    archive_entry_set_size(entry, is_folder ? 0 : (la_int64_t) file->stored_bytes);
    archive_entry_set_mtime(entry, (time_t) file->modified_s, 0);
    if (file->user != NULL && file->user[0] != '\0')
        archive_entry_copy_uname(entry, file->user);
    if (file->group != NULL && file->group[0] != '\0')
        archive_entry_copy_gname(entry, file->group);

    int rc = archive_write_header(w->tar, entry);

    /* after a warning (about a name) the header is written all the same */
    return bundle_writer_tar_check(w, rc == ARCHIVE_OK || rc == ARCHIVE_WARN, err);
}

static int
bundle_writer_begin(BundleWriter *w, BackupFile *file, Error *err)
{
    assert(w->file == NULL);
    if (!data_path_valid(file->path))
        return error_set(err, ERROR_USAGE, "its name cannot be that of a file in a backup");
    if (file->stored_bytes > INT64_MAX ||
        (file->kind == BACKUP_FILE_WHOLE && file->stored_bytes != file->bytes))
        return error_set(err, ERROR_USAGE, "its size is not possible");
    if (w->bundle != NULL &&
        (w->tar_bytes >= BACKUP_BUNDLE_BYTES ||
         w->bundle->files.len + w->bundle->folders.len >= BUNDLE_LINES_BYTES) &&
        bundle_writer_close_bundle(w, err) < 0)
        return -1;
    if (bundle_writer_open_bundle(w, err) < 0 || bundle_writer_write_header(w, file, err) < 0 ||
        file_digester_begin(w->digester, err) < 0)
        return -1;
    file->bundle = w->bundle->no;
    file->offset = w->tar_bytes;
    if (file->kind == BACKUP_FILE_FOLDER)
    {
        manifest_format_file(file, bundle_set_options(w->set)->checksum, &w->bundle->folders);
        return strbuf_finish(&w->bundle->folders, err);
    }
    w->file = file;
    w->left = file->stored_bytes;
    return 0;
}

int
bundle_writer_begin_file(BundleWriter *w, BackupFile *file, Error *err)
{
    if (bundle_writer_check(w, err) < 0)
        return -1;
    if (bundle_writer_begin(w, file, err) < 0)
        return bundle_writer_fail_file(w, file->path, err);
    return 0;
}

/* One slice of the content. */
static int
bundle_writer_write_slice(BundleWriter *w, const uint8_t *data, size_t len, Error *err)
{
    if (file_digester_add(w->digester, data, len, err) < 0 ||
        bundle_writer_tar_check(w, archive_write_data(w->tar, data, len) == (la_ssize_t) len, err) <
            0)
        return -1;
    w->left -= len;
    return 0;
}

int
bundle_writer_write(BundleWriter *w, const void *data, size_t len, Error *err)
{
    const uint8_t *at = data;

    if (bundle_writer_check(w, err) < 0)
        return -1;
    assert(w->file != NULL);
    if (len > w->left)
    {
        (void) error_set(
            err, ERROR_USAGE, "it has more than the %llu bytes announced",
            (unsigned long long) w->file->stored_bytes);
        return bundle_writer_fail_file(w, w->file->path, err);
    }
    while (len > 0)
    {
        size_t n = MIN(len, (size_t) BUNDLE_SLICE_BYTES);

        if (bundle_writer_write_slice(w, at, n, err) < 0)
            return bundle_writer_fail_file(w, w->file->path, err);
        at += n;
        len -= n;
    }
    return 0;
}

static int
bundle_writer_end(BundleWriter *w, Error *err)
{
    BackupFile *file = w->file;
    FileDigest digest;

    if (w->left > 0)
        return error_set(
            err, ERROR_USAGE, "%llu of its %llu bytes are missing", (unsigned long long) w->left,
            (unsigned long long) file->stored_bytes);
    if (bundle_writer_tar_check(w, archive_write_finish_entry(w->tar) == ARCHIVE_OK, err) < 0)
        return -1;
    if (file_digester_end(w->digester, &digest, err) < 0)
        return -1;
    memcpy(file->checksum, digest.checksum, sizeof file->checksum);
    memcpy(file->xxh128, digest.xxh128, sizeof file->xxh128);
    manifest_format_file(file, bundle_set_options(w->set)->checksum, &w->bundle->files);
    return strbuf_finish(&w->bundle->files, err);
}

int
bundle_writer_end_file(BundleWriter *w, Error *err)
{
    if (bundle_writer_check(w, err) < 0)
        return -1;
    assert(w->file != NULL);
    if (bundle_writer_end(w, err) < 0)
        return bundle_writer_fail_file(w, w->file->path, err);
    bundle_set_count_file(w->set, w->file->stored_bytes);
    w->file = NULL;
    return 0;
}

int
bundle_writer_close(BundleWriter *w, Error *err)
{
    if (bundle_writer_check(w, err) < 0)
        return -1;
    assert(w->file == NULL);
    if (w->bundle != NULL && bundle_writer_close_bundle(w, err) < 0)
        return bundle_writer_fail(w, err);
    return 0;
}

/* ---- the writer ---- */

static int
bundle_writer_build(BundleWriter *w, Error *err)
{
    const BundleOptions *options = bundle_set_options(w->set);

    w->frame = fs_alloc_io(BACKUP_FRAME_BYTES);
    w->entry = archive_entry_new();
    if (w->frame == NULL || w->entry == NULL)
        return error_nomem(err);
    if (file_digester_new(options->checksum, &w->digester, err) < 0)
        return -1;
    return codec_frame_encoder_new(
        options->repo->format.codec, BACKUP_FRAME_BYTES, &w->encoder, err);
}

int
bundle_writer_new(BundleSet *set, BundleWriter **out, Error *err)
{
    BundleWriter *w = calloc(1, sizeof *w);

    if (w == NULL)
        return error_nomem(err);
    w->set = set;
    bundle_set_add_writer(set);
    if (bundle_writer_build(w, err) < 0)
    {
        bundle_writer_free(w);
        return -1;
    }
    *out = w;
    return 0;
}

void
bundle_writer_free(BundleWriter *w)
{
    if (w == NULL)
        return;
    bundle_writer_discard(w);
    bundle_set_remove_writer(w->set);
    codec_frame_encoder_free(w->encoder);
    archive_entry_free(w->entry);
    file_digester_free(w->digester);
    free(w->zeros);
    free(w->frame);
    free(w);
}
