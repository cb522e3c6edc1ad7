/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Parts that were removed before the manifest is put.
 */
#include "walbackup/stored.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repo/backup_list.h"
#include "repo/bundle_write.h"
#include "tap.h"

#define LABEL "own"
#define USED "failed"
#define TIMEOUT_MS 300000

static const Deadline no_limit = {.at_ms = INT64_MAX};

typedef struct Setup
{
    Repository repo;
    ManifestWriter *manifest;
    char uses[1][BACKUP_LABEL_NAME_MAX];
    BackupHeader header;
} Setup;

/* One file in one bundle. */
static int
put_bundle(Setup *s, const char *label, const char *path, Error *err)
{
    AUTO(manifest_writer_freep) ManifestWriter *unused = NULL;
    AUTO(bundle_set_freep) BundleSet *set = NULL;
    AUTO(bundle_writer_freep) BundleWriter *w = NULL;
    BackupFile file = {
        .path = path, .mode = 0600, .user = "", .group = "", .bytes = 5, .stored_bytes = 5};
    BundleOptions options = {
        .repo = &s->repo,
        .label = label,
        .manifest = s->manifest,
        .checksum = CHECKSUM_CRC32C,
        .first_bundle = strcmp(label, LABEL) == 0 ? 1 : 0,
        .uploaders = 1,
        .put_timeout_ms = TIMEOUT_MS};
    BackupStart start = {.started_us = 1};

    (void) snprintf(start.label, sizeof start.label, "%s", label);
    if (backup_start_put(&s->repo, &start, &no_limit, err) < 0 ||
        manifest_writer_new((CodecSpec){CODEC_LZ4, 0}, NULL, &unused, err) < 0)
        return -1;
    if (strcmp(label, LABEL) != 0)
        options.manifest = unused;
    if (bundle_set_new(&options, &set, err) < 0 || bundle_writer_new(set, &w, err) < 0 ||
        bundle_writer_begin_file(w, &file, err) < 0 ||
        bundle_writer_write(w, "text\n", 5, err) < 0 || bundle_writer_end_file(w, err) < 0 ||
        bundle_writer_close(w, err) < 0)
        return -1;
    return bundle_set_finish(set, err);
}

static int
note_size(void *ctx, const StoreEntry *entry, Error *err UNUSED)
{
    *(uint64_t *) ctx = entry->bytes;
    return 0;
}

/* Backup "own", whose bundle 0 is that of "failed". */
static void
setup_begin(Setup *s, uint64_t wrong_bytes)
{
    static const uint32_t frame = 100;
    char key[LAYOUT_KEY_MAX];
    StoreListOptions list = {.prefix = backup_part_key(USED, 0, 0, key)};
    AUTO(strbuf_reset) StrBuf line;
    BackupPart part = {
        .owner = USED, .frame_count = 1, .frame_bytes = &frame, .last_plain_bytes = 2048};
    Error err = {0};

    memset(s, 0, sizeof *s);
    s->repo.format.codec = (CodecSpec){CODEC_LZ4, 0};
    (void) snprintf(s->uses[0], sizeof s->uses[0], USED);
    (void) snprintf(s->header.label, sizeof s->header.label, LABEL);
    s->header.uses = s->uses;
    s->header.uses_count = 1;
    strbuf_init(&line, 4096);
    if (store_memory_new(&s->repo.store, &err) < 0 ||
        manifest_writer_new(s->repo.format.codec, NULL, &s->manifest, &err) < 0 ||
        put_bundle(s, USED, "base/5/1", &err) < 0 || put_bundle(s, LABEL, "base/5/2", &err) < 0 ||
        store_list(s->repo.store, &list, note_size, &part.stored_bytes, &no_limit, &err) < 0)
    {
        diag("%s", err.msg);
        abort();
    }
    part.stored_bytes += wrong_bytes;
    manifest_format_part(&part, &line);
    if (manifest_writer_add(s->manifest, strbuf_text(&line), line.len, &err) < 0)
        abort();
}

static void
setup_end(Setup *s)
{
    manifest_writer_free(s->manifest);
    store_free(s->repo.store);
}

int
main(void)
{
    static const struct
    {
        const char *label, *removed;
        uint64_t wrong_bytes;
        bool good;
    } cases[] = {
        {"all is there", NULL, 0, true},
        {"its start object is gone", "backup/own/start", 0, false},
        {"a part of its own is gone", "backup/own/bundle/00000001/00000000", 0, false},
        {"a part that it has taken up is gone", "backup/failed/bundle/00000000/00000000", 0, false},
        {"a part that it has taken up is of another size", NULL, 1, false},
        {"the start object of what it has taken up is not needed", "backup/failed/start", 0, true},
        {"nor is an index", "backup/own/bundle/00000001/index", 0, true},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        StoreRemoved removed = {.key = cases[i].removed};
        Setup s;
        Error err = {0};
        int rc;

        setup_begin(&s, cases[i].wrong_bytes);
        if (removed.key != NULL && (store_remove(s.repo.store, &removed, 1, &no_limit, &err) < 0 ||
                                    removed.err.kind != ERROR_NONE))
            abort();
        rc = stored_check(&s.repo, &s.header, s.manifest, CHECKSUM_CRC32C, TIMEOUT_MS, &err);
        ok(cases[i].good ? rc == 0 : rc < 0 && err.kind == ERROR_CONFLICT && err.hint[0] != '\0',
           "%s: %s", cases[i].label, rc < 0 ? err.msg : "good");
        setup_end(&s);
    }
    return done_testing();
}
