/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Bundles: files in and out again, by our reader and by tar and the codecs' tools; what the
 * manifest says of them; failures of every put; memory; cancellation.
 */
#include <pthread.h>
#include <xxhash.h>

#include "common/crc32c.h"
#include "common/fs.h"
#include "common/parse.h"
#include "crypto/primitives.h"
#include "repo/bundle_read.h"
#include "repo/bundle_write.h"
#include "tap.h"

#include "stream_test.h"

#include "tempdir.h"
#include "tool_test.h"

#define LABEL "20260301T020000Z-full"
#define MIB (1u << 20)

static const Deadline no_limit = {.at_ms = INT64_MAX};

/* ---- what is stored ---- */

typedef struct Item
{
    const char *path;
    BackupFileKind kind;
    TestData data;
    uint64_t bytes;
    uint32_t mode;
} Item;

#define LONG_NAME_60 "a_name_of_sixty_bytes_as_somebody_may_have_chosen_for_a_file"
#define LONG_FOLDER LONG_NAME_60 "/" LONG_NAME_60

static const Item items[] = {
    {"PG_VERSION", BACKUP_FILE_WHOLE, TEST_TEXT, 3, 0600},
    {"base", BACKUP_FILE_FOLDER, TEST_ZEROS, 0, 0700},
    {"base/5", BACKUP_FILE_FOLDER, TEST_ZEROS, 0, 0750},
    {"base/5/1", BACKUP_FILE_WHOLE, TEST_ZEROS, 0, 0600},
    {"base/5/2", BACKUP_FILE_WHOLE, TEST_TEXT, 1, 0640},
    {"base/5/3", BACKUP_FILE_WHOLE, TEST_TEXT, 511, 0600},
    {"base/5/4", BACKUP_FILE_WHOLE, TEST_TEXT, 512, 0600},
    {"base/5/5", BACKUP_FILE_WHOLE, TEST_TEXT, 513, 0600},
    {"base/5/16384", BACKUP_FILE_WHOLE, TEST_RANDOM, 8 * MIB, 0600},
    {"base/5/16385", BACKUP_FILE_INCREMENTAL, TEST_TEXT, 3 * 8192, 0600},
    {"base/5/16386", BACKUP_FILE_WHOLE, TEST_ZEROS, 5 * MIB + 8192, 0600},
    {"base/5/16387", BACKUP_FILE_WHOLE, TEST_TEXT, 12 * MIB, 0600},
    {LONG_FOLDER "/more_than_100", BACKUP_FILE_WHOLE, TEST_TEXT, 100, 0600},
    {LONG_FOLDER "/" LONG_FOLDER "/" LONG_NAME_60 "/more_than_255", BACKUP_FILE_WHOLE, TEST_TEXT,
     200, 0600},
    {"with blank and 'quote'", BACKUP_FILE_WHOLE, TEST_TEXT, 10, 0600},
    {"caf\xC3\xA9", BACKUP_FILE_WHOLE, TEST_TEXT, 11, 0600},
    {"global/pg_control", BACKUP_FILE_WHOLE, TEST_TEXT, 8192, 0600},
};

static BackupFile
file_of(const Item *item)
{
    return (BackupFile){
        .kind = item->kind,
        .path = item->path,
        .mode = item->mode,
        .user = "postgres",
        .group = "",
        .modified_s = 1772356447,
        .bytes = item->kind == BACKUP_FILE_INCREMENTAL ? 10 * 8192 : item->bytes,
        .stored_bytes = item->bytes,
        .truncation_blocks = 10};
}

/* ---- a repository, and what was told to its manifest ---- */

typedef struct FoundPart
{
    BackupPart part;
    uint32_t *frame_bytes;
} FoundPart;

typedef struct Found
{
    BackupFile *files;
    size_t file_count;
    FoundPart *parts;
    size_t part_count;
} Found;

static int
found_file(void *ctx, const BackupFile *file, Error *err UNUSED)
{
    Found *found = ctx;

    found->files = reallocarray(found->files, found->file_count + 1, sizeof *found->files);
    if (found->files == NULL)
        abort();
    found->files[found->file_count] = *file;
    found->files[found->file_count].path = strdup(file->path);
    found->files[found->file_count].blocks = (BlockSet){0};
    found->files[found->file_count++].damaged = (BlockSet){0};
    return 0;
}

static int
found_part(void *ctx, const BackupPart *part, Error *err UNUSED)
{
    Found *found = ctx;
    size_t bytes = part->frame_count * sizeof(uint32_t);
    uint32_t *frame_bytes = malloc(bytes);

    found->parts = reallocarray(found->parts, found->part_count + 1, sizeof *found->parts);
    if (found->parts == NULL || frame_bytes == NULL)
        abort();
    memcpy(frame_bytes, part->frame_bytes, bytes);

    FoundPart *one = &found->parts[found->part_count++];

    one->part = *part;
    one->frame_bytes = frame_bytes;
    one->part.frame_bytes = frame_bytes;
    one->part.owner = LABEL; /* no manifest with a header has been read */
    one->part.owner_bundle = part->bundle;
    return 0;
}

static const ManifestHandlers found_handlers = {.file = found_file, .part = found_part};

static void
found_reset(Found *found)
{
    for (size_t i = 0; i < found->file_count; i++)
        free((void *) (uintptr_t) found->files[i].path);
    for (size_t i = 0; i < found->part_count; i++)
        free(found->parts[i].frame_bytes);
    free(found->files);
    free(found->parts);
    *found = (Found){0};
}

static const BackupFile *
found_find(const Found *found, const char *path)
{
    for (size_t i = 0; i < found->file_count; i++)
        if (strcmp(found->files[i].path, path) == 0)
            return &found->files[i];
    return NULL;
}

typedef struct Setup
{
    Repository repo;
    ManifestWriter *manifest;
    BundleSet *set;
    char recipient[64];
    char identity[80];
} Setup;

static void
setup_set(Setup *s, ChecksumAlgorithm checksum, unsigned uploaders, const atomic_bool *cancel)
{
    Error err = {0};

    if (manifest_writer_new((CodecSpec){CODEC_LZ4, 0}, NULL, &s->manifest, &err) < 0 ||
        bundle_set_new(
            &(BundleOptions){
                .repo = &s->repo,
                .label = LABEL,
                .manifest = s->manifest,
                .checksum = checksum,
                .uploaders = uploaders,
                .put_timeout_ms = 600000,
                .cancel = cancel},
            &s->set, &err) < 0)
    {
        diag("%s", err.msg);
        abort();
    }
}

/* Takes the store. */
static void
setup_begin(
    Setup *s, Store *store, CodecSpec codec, bool encrypted, ChecksumAlgorithm checksum,
    unsigned uploaders)
{
    Error err = {0};

    memset(s, 0, sizeof *s);
    s->repo.store = store;
    s->repo.format.codec = codec;
    if (encrypted && (age_keygen(s->recipient, s->identity, &err) < 0 ||
                      age_recipients_new(&s->repo.recipients, &err) < 0 ||
                      age_recipients_add(s->repo.recipients, s->recipient, &err) < 0 ||
                      age_identities_new(&s->repo.identities, &err) < 0 ||
                      age_identities_add(s->repo.identities, s->identity, &err) < 0))
        abort();
    s->repo.format.recipients = s->repo.recipients;
    setup_set(s, checksum, uploaders, NULL);
}

static void
setup_end_set(Setup *s)
{
    bundle_set_free(s->set);
    manifest_writer_free(s->manifest);
    s->set = NULL;
    s->manifest = NULL;
}

static void
setup_end(Setup *s)
{
    setup_end_set(s);
    store_free(s->repo.store);
    age_recipients_free(s->repo.recipients);
    age_identities_free(s->repo.identities);
}

static Store *
memory_store(void)
{
    Store *store = NULL;
    Error err = {0};

    if (store_memory_new(&store, &err) < 0)
        abort();
    return store;
}

/* All of one file; data may be freed afterwards. */
static int
store_item(BundleWriter *w, const Item *item, size_t step, Error *err)
{
    BackupFile file = file_of(item);
    uint8_t *data;
    int rc;

    if (item->kind == BACKUP_FILE_INCREMENTAL && block_set_add(&file.blocks, 3, 2, err) < 0)
        abort();
    rc = bundle_writer_begin_file(w, &file, err);
    if (item->kind != BACKUP_FILE_FOLDER)
    {
        data = test_data_new(item->data, (size_t) item->bytes);
        for (size_t at = 0; rc == 0 && at < item->bytes; at += step)
            rc = bundle_writer_write(w, data + at, MIN(step, (size_t) item->bytes - at), err);
        if (rc == 0)
            rc = bundle_writer_end_file(w, err);
        free(data);
    }
    backup_file_reset(&file);
    return rc;
}

/* ---- looking at it ---- */

/* The tar archive of a bundle, whole, by our reader; NULL if it cannot be read. */
static uint8_t *
read_bundle(Repository *repo, const Found *found, uint32_t bundle, size_t *len)
{
    AUTO(bundle_reader_freep) BundleReader *r = NULL;
    uint8_t *tar = NULL;
    uint32_t next_part = 0;
    uint32_t frames = 0;
    Error err = {0};

    *len = 0;
    if (bundle_reader_new(repo, &r, &err) < 0)
        abort();
    for (size_t p = 0; p < found->part_count; p++)
    {
        const BackupPart *part = &found->parts[p].part;

        if (part->bundle != bundle)
            continue;
        if (part->part != next_part++ || part->first_frame != frames ||
            bundle_reader_fetch(r, part, &no_limit, &err) < 0)
        {
            diag("part %u of bundle %u: %s", (unsigned) part->part, (unsigned) bundle, err.msg);
            free(tar);
            return NULL;
        }
        for (uint32_t i = 0; i < part->frame_count; i++)
        {
            const uint8_t *data;
            size_t n;

            if (bundle_reader_frame(r, i, &data, &n, &err) < 0)
            {
                diag("%s", err.msg);
                free(tar);
                return NULL;
            }
            tar = realloc(tar, *len + n);
            if (tar == NULL)
                abort();
            memcpy(tar + *len, data, n);
            *len += n;
        }
        frames += part->frame_count;
    }
    return tar;
}

/* Whether content, sums and metadata of the file are those of the item. */
static bool
file_is(const BackupFile *file, const Item *item, const uint8_t *tar, size_t tar_len)
{
    uint8_t *data = test_data_new(item->data, (size_t) item->bytes);
    size_t len = (size_t) item->bytes;
    uint8_t crc[CHECKSUM_MAX_BYTES] = {0};
    XXH128_canonical_t xxh;
    bool good;

    checksum_from_crc32c(crc32c(0, data, len), crc);
    XXH128_canonicalFromHash(&xxh, XXH3_128bits(data, len));
    good = file->kind == item->kind && file->mode == item->mode &&
           file->stored_bytes == item->bytes && file->modified_s == 1772356447 &&
           file->offset % 512 == 0 && file->offset + len <= tar_len &&
           memcmp(tar + file->offset, data, len) == 0 && memcmp(file->checksum, crc, 4) == 0 &&
           memcmp(file->xxh128, xxh.digest, sizeof file->xxh128) == 0;
    free(data);
    return good;
}

/* Parts are as FORMAT.md bounds them. */
static bool
parts_are_bounded(const Found *found)
{
    for (size_t p = 0; p < found->part_count; p++)
    {
        const BackupPart *part = &found->parts[p].part;
        uint64_t bytes = 0;
        uint64_t last = part->frame_bytes[part->frame_count - 1];
        bool is_last =
            p + 1 == found->part_count || found->parts[p + 1].part.bundle != part->bundle;

        for (uint32_t i = 0; i < part->frame_count; i++)
            bytes += part->frame_bytes[i];
        if (part->frame_count > BACKUP_PART_MAX_FRAMES || bytes - last >= BACKUP_PART_BYTES ||
            (!is_last &&
             (part->last_plain_bytes != BACKUP_FRAME_BYTES ||
              (bytes < BACKUP_PART_BYTES && part->frame_count < BACKUP_PART_MAX_FRAMES))) ||
            part->stored_bytes <= bytes)
            return false;
    }
    return true;
}

static bool
run_script(const char *script, const char *store_dir, const char *out_dir)
{
    char sh[] = "sh", c[] = "-c", name[] = "test_bundle";
    char *const argv[] = {
        sh,
        c,
        (char *) (uintptr_t) script,
        name,
        (char *) (uintptr_t) store_dir,
        (char *) (uintptr_t) out_dir,
        NULL};

    return tool_file_write("encoded", (const uint8_t *) "", 0) &&
           tool_run(argv, "encoded", "plain");
}

/* ---- there and back ---- */

static const struct
{
    const char *label;
    CodecSpec codec;
    bool encrypted;
    unsigned uploaders;
    size_t step;
} round_trips[] = {
    {"none", {CODEC_NONE, 0}, false, 1, 100000},
    {"lz4", {CODEC_LZ4, 0}, false, 2, 1 << 20},
    {"zstd", {CODEC_ZSTD, 0}, false, 2, 8192},
    {"none, encrypted", {CODEC_NONE, 0}, true, 2, 1 << 20},
    {"lz4, encrypted", {CODEC_LZ4, 0}, true, 1, 333},
    {"zstd, encrypted", {CODEC_ZSTD, 1}, true, 3, 12 << 20},
};

static void
check_extracted(const char *label, const char *out_dir)
{
    bool good = true;

    for (size_t i = 0; i < ARRAY_COUNT(items); i++)
    {
        AUTO(free_text) char *text = NULL;
        char path[1024];
        size_t len = 0;
        struct stat st;
        Error err = {0};
        uint8_t *data = test_data_new(items[i].data, (size_t) items[i].bytes);
        const char *slash = strrchr(items[i].path, '/');
        const char *name = slash != NULL ? slash + 1 : items[i].path;

        (void) snprintf(
            path, sizeof path, "%s/%.*s%s%s", out_dir, (int) (name - items[i].path), items[i].path,
            items[i].kind == BACKUP_FILE_INCREMENTAL ? "INCREMENTAL." : "", name);
        good = stat(path, &st) == 0 && (st.st_mode & 07777) == items[i].mode &&
               S_ISDIR(st.st_mode) == (items[i].kind == BACKUP_FILE_FOLDER) && good;
        if (items[i].kind != BACKUP_FILE_FOLDER)
            good = fs_read_file(path, 64 * MIB, &text, &len, &err) == 0 && len == items[i].bytes &&
                   memcmp(text, data, len) == 0 && st.st_mtime == 1772356447 && good;
        if (!good)
            diag("%s %s", path, err.msg);
        free(data);
    }
    ok(good, "%s: the tools unpack the same files", label);
}

static void
test_round_trip(void)
{
    for (size_t c = 0; c < ARRAY_COUNT(round_trips); c++)
    {
        const char *label = round_trips[c].label;
        char dir_name[32], out_name[32], script[1024];
        AUTO(bundle_writer_freep) BundleWriter *w = NULL;
        Store *store = NULL;
        Setup s;
        Found found = {0};
        Found index = {0};
        Error err = {0};
        BundleCounts counts;
        uint64_t stored = 0;
        size_t tar_len;
        bool good = true;

        (void) snprintf(dir_name, sizeof dir_name, "store%zu", c);
        (void) snprintf(out_name, sizeof out_name, "out%zu", c);
        if (store_file_new(tempdir_name(dir_name), true, &store, &err) < 0)
            abort();
        setup_begin(
            &s, store, round_trips[c].codec, round_trips[c].encrypted, CHECKSUM_CRC32C,
            round_trips[c].uploaders);
        good = bundle_writer_new(s.set, &w, &err) == 0;
        for (size_t i = 0; good && i < ARRAY_COUNT(items); i++)
            good = store_item(w, &items[i], round_trips[c].step, &err) == 0;
        good = good && bundle_writer_close(w, &err) == 0 && bundle_writer_close(w, &err) == 0 &&
               bundle_set_finish(s.set, &err) == 0;
        ok(good, "%s: stored %s", label, err.msg);
        ok(manifest_writer_replay(s.manifest, CHECKSUM_CRC32C, &found_handlers, &found, &err) ==
                   0 &&
               found.file_count == ARRAY_COUNT(items) && parts_are_bounded(&found),
           "%s: the manifest has files and parts %s", label, err.msg);

        uint8_t *tar = read_bundle(&s.repo, &found, 0, &tar_len);

        good = tar != NULL;
        for (size_t i = 0; good && i < ARRAY_COUNT(items); i++)
        {
            const BackupFile *file = found_find(&found, items[i].path);

            good = file != NULL && file->mode == items[i].mode && file->kind == items[i].kind &&
                   (file->kind == BACKUP_FILE_FOLDER || file_is(file, &items[i], tar, tar_len));
            if (!good)
                diag("%s", items[i].path);
        }
        ok(good, "%s: our reader gives the same files", label);
        free(tar);
        counts = bundle_set_counts(s.set);
        for (size_t p = 0; p < found.part_count; p++)
            stored += found.parts[p].part.stored_bytes;

        uint64_t plain = 0;

        for (size_t i = 0; i < ARRAY_COUNT(items); i++)
            plain += items[i].bytes;
        ok(counts.files == ARRAY_COUNT(items) - 2 && counts.plain_bytes == plain &&
               counts.parts == found.part_count && counts.stored_bytes == stored &&
               counts.bundles == 1 && counts.parts >= 2,
           "%s: counted", label);
        ok(manifest_read_index(
               &s.repo, LABEL, 0, CHECKSUM_CRC32C, &no_limit, &found_handlers, &index, &err) == 0 &&
               index.file_count == ARRAY_COUNT(items) - 2 && index.part_count == found.part_count,
           "%s: the index has the same, without folders %s", label, err.msg);
        for (size_t p = 0; p < found.part_count; p++)
        {
            char key[LAYOUT_KEY_MAX];
            StoreStat st = {0};

            good = store_stat(
                       s.repo.store, backup_part_key(LABEL, 0, (uint32_t) p, key), &no_limit, &st,
                       &err) == 0 &&
                   st.bytes == found.parts[p].part.stored_bytes && good;
        }
        ok(good, "%s: objects are as long as the manifest says", label);

        /* as FORMAT.md says a person can do it */
        (void) snprintf(
            script, sizeof script,
            "set -e; mkdir -p \"$2\"; for part in \"$1\"/backup/" LABEL
            "/bundle/00000000/????????; do %s < $part | %s; done | tar -x -p -C \"$2\"",
            round_trips[c].encrypted ? "age -d -i \"$2/../identity\"" : "cat",
            round_trips[c].codec.method == CODEC_ZSTD ? "zstd -d -q" : "lz4 -d -q");
        if (round_trips[c].encrypted)
            (void) tempdir_write("identity", s.identity, strlen(s.identity));
        ok(run_script(script, tempdir_name(dir_name), tempdir_name(out_name)),
           "%s: opened by the tools", label);
        check_extracted(label, tempdir_name(out_name));
        found_reset(&found);
        found_reset(&index);
        bundle_writer_freep(&w);
        w = NULL;
        setup_end(&s);
        (void) run_script("rm -rf \"$1\" \"$2\"", tempdir_name(dir_name), tempdir_name(out_name));
    }
}

/* Other checksums than CRC-32C. */
static void
test_checksums(void)
{
    static const struct
    {
        const char *label;
        ChecksumAlgorithm checksum;
    } cases[] = {{"none", CHECKSUM_NONE}, {"SHA-256", CHECKSUM_SHA256}};

    for (size_t c = 0; c < ARRAY_COUNT(cases); c++)
    {
        static const Item two[] = {
            {"a", BACKUP_FILE_WHOLE, TEST_TEXT, 300000, 0600},
            {"b", BACKUP_FILE_WHOLE, TEST_TEXT, 5, 0600}};
        AUTO(bundle_writer_freep) BundleWriter *w = NULL;
        Setup s;
        Found found = {0};
        Error err = {0};
        bool good;

        setup_begin(&s, memory_store(), (CodecSpec){CODEC_LZ4, 0}, false, cases[c].checksum, 1);
        good = bundle_writer_new(s.set, &w, &err) == 0 && store_item(w, &two[0], 1000, &err) == 0 &&
               store_item(w, &two[1], 1000, &err) == 0 && bundle_writer_close(w, &err) == 0 &&
               bundle_set_finish(s.set, &err) == 0 &&
               manifest_writer_replay(
                   s.manifest, cases[c].checksum, &found_handlers, &found, &err) == 0 &&
               found.file_count == 2;
        for (size_t i = 0; good && i < 2; i++)
        {
            uint8_t *data = test_data_new(two[i].data, (size_t) two[i].bytes);
            uint8_t want[CHECKSUM_MAX_BYTES] = {0};
            const BackupFile *file = found_find(&found, two[i].path);

            if (cases[c].checksum == CHECKSUM_SHA256 &&
                crypto_sha256((ByteView){data, (size_t) two[i].bytes}, want, &err) < 0)
                abort();
            good = file != NULL && memcmp(file->checksum, want, sizeof want) == 0;
            free(data);
        }
        ok(good, "checksum %s %s", cases[c].label, err.msg);
        found_reset(&found);
        bundle_writer_freep(&w);
        w = NULL;
        setup_end(&s);
    }
}

/* Zeros become nothing: parts are bounded by their frames, bundles by their plain bytes. */
static void
test_large(void)
{
    static const struct
    {
        const char *label;
        uint64_t bytes;
        size_t bundles, least_parts;
    } cases[] = {
        {"300 MiB of zeros", 300 * (uint64_t) MIB, 1, 2},
        {"1 GiB of zeros", 1024 * (uint64_t) MIB, 2, 5},
        {"a little less than 1 GiB of zeros", 1024 * (uint64_t) MIB - 4096, 1, 4},
    };
    uint8_t *zeros = test_data_new(TEST_ZEROS, 4 * MIB);

    for (size_t c = 0; c < ARRAY_COUNT(cases); c++)
    {
        static const Item small = {"behind", BACKUP_FILE_WHOLE, TEST_TEXT, 100, 0600};
        AUTO(bundle_writer_freep) BundleWriter *w = NULL;
        AUTO(bundle_reader_freep) BundleReader *r = NULL;
        BackupFile file = {.path = "base/5/1", .mode = 0600, .user = "", .group = ""};
        Setup s;
        Found found = {0};
        Error err = {0};
        size_t ones = 0;
        bool good;

        file.bytes = file.stored_bytes = cases[c].bytes;
        setup_begin(&s, memory_store(), (CodecSpec){CODEC_LZ4, 0}, false, CHECKSUM_CRC32C, 2);
        good = bundle_writer_new(s.set, &w, &err) == 0 &&
               bundle_writer_begin_file(w, &file, &err) == 0;
        for (uint64_t left = cases[c].bytes; good && left > 0;)
        {
            size_t n = (size_t) MIN(left, (uint64_t) 4 * MIB);

            good = bundle_writer_write(w, zeros, n, &err) == 0;
            left -= n;
        }
        good =
            good && bundle_writer_end_file(w, &err) == 0 && store_item(w, &small, 100, &err) == 0 &&
            bundle_writer_close(w, &err) == 0 && bundle_set_finish(s.set, &err) == 0 &&
            manifest_writer_replay(s.manifest, CHECKSUM_CRC32C, &found_handlers, &found, &err) == 0;
        ok(good && found.file_count == 2 && parts_are_bounded(&found) &&
               found_find(&found, "behind")->bundle == cases[c].bundles - 1 &&
               bundle_set_counts(s.set).bundles == cases[c].bundles &&
               found.part_count >= cases[c].least_parts,
           "%s: in %zu bundles and %zu parts %s", cases[c].label, cases[c].bundles,
           found.part_count, err.msg);
        good = good && bundle_reader_new(&s.repo, &r, &err) == 0;
        for (size_t p = 0; good && p < found.part_count && c == 0; p++)
        {
            good = bundle_reader_fetch(r, &found.parts[p].part, &no_limit, &err) == 0;
            for (uint32_t i = 0; good && i < found.parts[p].part.frame_count; i++)
            {
                const uint8_t *data;
                size_t n;

                good = bundle_reader_frame(r, i, &data, &n, &err) == 0;
                /* blocks that are not all zeros */
                for (size_t at = 0; good && at < n; at += 512)
                    ones += memcmp(data + at, zeros, MIN((size_t) 512, n - at)) != 0;
            }
        }
        /* two headers, 100 bytes of text */
        ok(good && ones == (c == 0 ? 3 : 0), "%s: read again %s", cases[c].label, err.msg);
        found_reset(&found);
        bundle_writer_freep(&w);
        w = NULL;
        setup_end(&s);
    }
    free(zeros);
}

/* ---- several writers ---- */

enum
{
    CROWD_WRITERS = 4, /* one digit in a path */
    CROWD_FILES = 150
};

typedef struct CrowdMember
{
    BundleSet *set;
    unsigned no;
    int rc;
    Error err;
} CrowdMember;

static Item
crowd_item(unsigned member, unsigned i, char *path, size_t len)
{
    (void) snprintf(path, len, "base/%u/%u", member, i);
    return (Item){
        .path = path,
        .kind = BACKUP_FILE_WHOLE,
        .data = i % 3 == 0 ? TEST_RANDOM : TEST_TEXT,
        .bytes = (uint64_t) (i * 7919 + member) % 100000,
        .mode = 0600};
}

static void *
crowd_main(void *arg)
{
    CrowdMember *m = arg;
    AUTO(bundle_writer_freep) BundleWriter *w = NULL;

    m->rc = bundle_writer_new(m->set, &w, &m->err);
    for (unsigned i = 0; m->rc == 0 && i < CROWD_FILES; i++)
    {
        char path[64];
        Item item = crowd_item(m->no, i, path, sizeof path);

        m->rc = store_item(w, &item, 8192, &m->err);
        if (m->rc == 0 && i % 40 == 39)
            m->rc = bundle_writer_close(w, &m->err);
    }
    if (m->rc == 0)
        m->rc = bundle_writer_close(w, &m->err);
    return NULL;
}

static int
crowd_run(BundleSet *set, Error *err)
{
    CrowdMember members[CROWD_WRITERS] = {0};
    pthread_t threads[CROWD_WRITERS];
    int rc = 0;

    for (unsigned i = 0; i < CROWD_WRITERS; i++)
    {
        members[i] = (CrowdMember){.set = set, .no = i};
        if (pthread_create(&threads[i], NULL, crowd_main, &members[i]) != 0)
            abort();
    }
    for (unsigned i = 0; i < CROWD_WRITERS; i++)
    {
        (void) pthread_join(threads[i], NULL);
        if (members[i].rc < 0 && rc == 0)
        {
            rc = -1;
            *err = members[i].err;
        }
    }
    return rc;
}

static void
test_crowd(void)
{
    Setup s;
    Found found = {0};
    Error err = {0};
    bool good;

    setup_begin(&s, memory_store(), (CodecSpec){CODEC_LZ4, 0}, true, CHECKSUM_CRC32C, 3);
    good = crowd_run(s.set, &err) == 0 && bundle_set_finish(s.set, &err) == 0 &&
           manifest_writer_replay(s.manifest, CHECKSUM_CRC32C, &found_handlers, &found, &err) == 0;
    ok(good && found.file_count == CROWD_WRITERS * CROWD_FILES && parts_are_bounded(&found) &&
           bundle_set_counts(s.set).bundles == CROWD_WRITERS * 4,
       "%d writers at once %s", CROWD_WRITERS, err.msg);
    for (uint32_t bundle = 0; good && bundle < CROWD_WRITERS * 4; bundle++)
    {
        size_t len;
        uint8_t *tar = read_bundle(&s.repo, &found, bundle, &len);
        uint64_t behind = 0;

        good = tar != NULL;
        for (size_t i = 0; good && i < found.file_count; i++)
        {
            const BackupFile *file = &found.files[i];
            uint32_t member = 0;
            uint32_t no = 0;
            char path[64];
            char digit[2] = {file->path[5], '\0'};

            if (file->bundle != bundle)
                continue;
            good = parse_u32(digit, &member) && parse_u32(file->path + 7, &no) &&
                   file->offset > behind;
            behind = file->offset;

            Item item = crowd_item(member, no, path, sizeof path);

            good = good && strcmp(path, file->path) == 0 && file_is(file, &item, tar, len);
        }
        free(tar);
    }
    ok(good, "and all that they wrote is there, in the order of the archives");
    found_reset(&found);
    setup_end(&s);
}

/* ---- failures ---- */

/* What is in a store: bundles with an index have all of their parts. */
typedef struct Seen
{
    uint32_t parts[64];
    bool index[64];
    size_t objects;
    bool foreign;
} Seen;

static int
seen_add(void *ctx, const StoreEntry *entry, Error *err UNUSED)
{
    Seen *seen = ctx;
    BackupKey key;

    seen->objects++;
    if (!backup_key_parse(entry->key, &key) || key.bundle >= 64 || strcmp(key.label, LABEL) != 0)
        seen->foreign = true;
    else if (key.kind == BACKUP_KEY_PART)
        seen->parts[key.bundle] |= 1u << key.part;
    else if (key.kind == BACKUP_KEY_INDEX)
        seen->index[key.bundle] = true;
    else
        seen->foreign = true;
    return 0;
}

/* Three bundles: of three parts, of two, of one. */
static const Item faulty_items[] = {
    {"one", BACKUP_FILE_WHOLE, TEST_RANDOM, 17 * MIB, 0600},
    {"two", BACKUP_FILE_WHOLE, TEST_RANDOM, 9 * MIB, 0600},
    {"three", BACKUP_FILE_WHOLE, TEST_TEXT, 10, 0600},
};
static const uint32_t faulty_parts[] = {7, 3, 1};

static int
faulty_run(BundleSet *set, Error *err)
{
    AUTO(bundle_writer_freep) BundleWriter *w = NULL;
    int rc = bundle_writer_new(set, &w, err);

    for (size_t i = 0; rc == 0 && i < ARRAY_COUNT(faulty_items); i++)
    {
        rc = store_item(w, &faulty_items[i], MIB, err);
        if (rc == 0)
            rc = bundle_writer_close(w, err);
    }
    if (rc == 0)
        rc = bundle_set_finish(set, err);
    return rc;
}

static const struct
{
    const char *label;
    StoreFaultPlan plan;
    bool encrypted;
    unsigned uploaders;
} faults[] = {
    {"disk full", {.kind = ERROR_IO}, false, 1},
    {"disk full, three uploaders", {.kind = ERROR_IO}, false, 3},
    {"denied, encrypted", {.kind = ERROR_DENIED}, true, 2},
    {"answer lost", {.kind = ERROR_TRANSIENT, .after = true}, false, 2},
};

static void
test_faults(void)
{
    for (size_t f = 0; f < ARRAY_COUNT(faults); f++)
    {
        bool good = true;
        uint64_t n = 1;

        for (bool failed = true; failed && n < 100; n++)
        {
            StoreFaultPlan plan = faults[f].plan;
            Store *inner = memory_store();
            Store *store = NULL;
            Setup s;
            Seen seen = {0};
            Found found = {0};
            Error err = {0};
            Error again = {0};

            plan.fail_at = n;
            if (store_fault_new(inner, &plan, &store, &err) < 0)
                abort();
            setup_begin(
                &s, store, (CodecSpec){CODEC_NONE, 0}, faults[f].encrypted, CHECKSUM_CRC32C,
                faults[f].uploaders);
            failed = faulty_run(s.set, &err) < 0;
            if (failed)
            {
                AUTO(bundle_writer_freep) BundleWriter *w = NULL;

                good = err.kind == plan.kind && good;
                /* it stays failed */
                good = bundle_set_finish(s.set, &again) < 0 && again.kind == err.kind &&
                       strcmp(again.msg, err.msg) == 0 && good;
                good = bundle_writer_new(s.set, &w, &again) == 0 &&
                       store_item(w, &faulty_items[2], MIB, &again) < 0 && again.kind == err.kind &&
                       good;
            }
            if (manifest_writer_replay(
                    s.manifest, CHECKSUM_CRC32C, &found_handlers, &found, &again) < 0)
                good = false;
            setup_end_set(&s);
            if (store_list(
                    inner, &(StoreListOptions){.prefix = ""}, seen_add, &seen, &no_limit, &again) <
                0)
                good = false;
            for (size_t i = 0; i < ARRAY_COUNT(faulty_items); i++)
            {
                if (seen.index[i] && seen.parts[i] != faulty_parts[i])
                    good = false;
                if (!failed && !seen.index[i])
                    good = false;
            }
            for (size_t i = 0; i < found.file_count; i++)
                if (!seen.index[found.files[i].bundle])
                    good = false;
            if (seen.foreign || (!failed && found.file_count != ARRAY_COUNT(faulty_items)))
                good = false;
            if (!good)
                diag("put %d: %s", (int) n, err.msg);
            found_reset(&found);
            setup_end(&s);
        }
        /* 6 parts, 3 indexes, and a run without a failure */
        ok(good && n == 11, "%s: at every put (%d)", faults[f].label, (int) n - 1);
    }
}

/* An answer that is lost and a retry: our own object is there already. */
static void
test_retries(void)
{
    static const StoreRetryOptions options = {
        .first_delay_ms = 1, .max_delay_ms = 2, .try_timeout_ms = 600000};

    for (int encrypted = 0; encrypted < 2; encrypted++)
    {
        bool good = true;

        for (uint64_t n = 1; n <= 9; n++)
        {
            const StoreFaultPlan plan = {.fail_at = n, .kind = ERROR_TRANSIENT, .after = true};
            Store *faulty = NULL;
            Store *store = NULL;
            Setup s;
            Error err = {0};

            if (store_fault_new(memory_store(), &plan, &faulty, &err) < 0 ||
                store_retry_new(faulty, &options, &store, &err) < 0)
                abort();
            setup_begin(&s, store, (CodecSpec){CODEC_NONE, 0}, encrypted != 0, CHECKSUM_CRC32C, 2);
            good = faulty_run(s.set, &err) == 0 && bundle_set_counts(s.set).parts == 6 && good;
            if (!good)
                diag("put %d: %s", (int) n, err.msg);
            setup_end(&s);
        }
        ok(good, "lost answers and retries%s", encrypted ? ", encrypted" : "");
    }
}

/* Somebody else's part under our name. */
static void
test_conflict(void)
{
    Setup s;
    Error err = {0};
    char key[LAYOUT_KEY_MAX];
    AUTO(object_sealed_reset) ObjectSealed sealed = {0};
    ObjectPutResult result;

    setup_begin(&s, memory_store(), (CodecSpec){CODEC_NONE, 0}, false, CHECKSUM_CRC32C, 2);
    ok(object_seal(NULL, backup_part_key(LABEL, 1, 1, key), "x", 1, &sealed, &err) == 0 &&
           object_put_sealed(s.repo.store, &sealed, &no_limit, &result, &err) == 0 &&
           faulty_run(s.set, &err) < 0 && err.kind == ERROR_CONFLICT &&
           strstr(err.msg, key) != NULL,
       "a part with other bytes is there: conflict");
    setup_end(&s);
}

/* Bundles that are taken up have numbers of their own. */
static void
test_numbers(void)
{
    AUTO(bundle_writer_freep) BundleWriter *w = NULL;
    Setup s;
    Found found = {0};
    Error err = {0};
    bool good;

    setup_begin(&s, memory_store(), (CodecSpec){CODEC_LZ4, 0}, false, CHECKSUM_CRC32C, 1);
    bundle_set_free(s.set);
    good = bundle_set_new(
               &(BundleOptions){
                   .repo = &s.repo,
                   .label = LABEL,
                   .manifest = s.manifest,
                   .checksum = CHECKSUM_CRC32C,
                   .first_bundle = BACKUP_BUNDLES_MAX - 1,
                   .uploaders = 1,
                   .put_timeout_ms = 600000},
               &s.set, &err) == 0 &&
           bundle_writer_new(s.set, &w, &err) == 0 && store_item(w, &items[0], 10, &err) == 0 &&
           bundle_writer_close(w, &err) == 0 && bundle_set_finish(s.set, &err) == 0 &&
           manifest_writer_replay(s.manifest, CHECKSUM_CRC32C, &found_handlers, &found, &err) == 0;
    ok(good && found.file_count == 1 && found.files[0].bundle == BACKUP_BUNDLES_MAX - 1 &&
           found.parts[0].part.bundle == BACKUP_BUNDLES_MAX - 1,
       "bundles are numbered from the first %s", err.msg);
    ok(store_item(w, &items[0], 10, &err) < 0 && err.kind == ERROR_USAGE, "and up to the last");
    found_reset(&found);
    bundle_writer_freep(&w);
    w = NULL;
    setup_end(&s);
}

/* ---- wrong use and bad names ---- */

static void
test_refused(void)
{
    static const struct
    {
        const char *label, *path;
        uint64_t bytes, stored_bytes;
    } cases[] = {
        {"absolute path", "/etc/passwd", 1, 1},
        {"no path", "", 1, 1},
        {"a path out of the folder", "base/../../x", 1, 1},
        {"a dot", "./x", 1, 1},
        {"two slashes", "base//x", 1, 1},
        {"a slash at the end", "base/", 1, 1},
        {"a whole file of two sizes", "base/x", 1, 2},
        {"a size beyond all bounds", "base/x", UINT64_MAX, UINT64_MAX},
    };
    Setup s;
    Seen seen = {0};
    Found found = {0};
    Error err = {0};
    char longest[DATA_PATH_MAX + 1];

    setup_begin(&s, memory_store(), (CodecSpec){CODEC_LZ4, 0}, false, CHECKSUM_CRC32C, 1);
    for (size_t c = 0; c < ARRAY_COUNT(cases); c++)
    {
        AUTO(bundle_writer_freep) BundleWriter *w = NULL;
        BackupFile file = {
            .path = cases[c].path, .bytes = cases[c].bytes, .stored_bytes = cases[c].stored_bytes};

        ok(bundle_writer_new(s.set, &w, &err) == 0 && store_item(w, &items[0], 10, &err) == 0 &&
               bundle_writer_begin_file(w, &file, &err) < 0 && err.kind == ERROR_USAGE &&
               bundle_writer_close(w, &err) < 0 && err.kind == ERROR_USAGE,
           "refused: %s", cases[c].label);
    }
    for (size_t len = DATA_PATH_MAX - 1; len <= DATA_PATH_MAX; len++)
    {
        AUTO(bundle_writer_freep) BundleWriter *w = NULL;
        BackupFile file = {.path = longest, .kind = BACKUP_FILE_FOLDER};

        memset(longest, 'p', len);
        longest[len] = '\0';
        for (size_t at = 100; at < len - 1; at += 101)
            longest[at] = '/';
        ok(bundle_writer_new(s.set, &w, &err) == 0 &&
               (bundle_writer_begin_file(w, &file, &err) == 0) == (len < DATA_PATH_MAX),
           "a path of %zu bytes", len);
    }
    for (int more = 0; more < 2; more++)
    {
        AUTO(bundle_writer_freep) BundleWriter *w = NULL;
        BackupFile file = {.path = "x", .bytes = 10, .stored_bytes = 10};

        ok(bundle_writer_new(s.set, &w, &err) == 0 &&
               bundle_writer_begin_file(w, &file, &err) == 0 &&
               bundle_writer_write(w, "12345678901", more ? 11 : 9, &err) == (more ? -1 : 0) &&
               (more || bundle_writer_end_file(w, &err) < 0) && err.kind == ERROR_USAGE,
           "%s bytes than announced", more ? "more" : "less");
    }

    /* the set has not failed, and the discarded bundles have left nothing behind */
    AUTO(bundle_writer_freep) BundleWriter *w = NULL;

    ok(bundle_writer_new(s.set, &w, &err) == 0 && store_item(w, &items[0], 10, &err) == 0 &&
           bundle_writer_close(w, &err) == 0 && bundle_set_finish(s.set, &err) == 0 &&
           store_list(
               s.repo.store, &(StoreListOptions){.prefix = ""}, seen_add, &seen, &no_limit, &err) ==
               0 &&
           seen.objects == 2 && !seen.foreign &&
           manifest_writer_replay(s.manifest, CHECKSUM_CRC32C, &found_handlers, &found, &err) ==
               0 &&
           found.file_count == 1,
       "other writers go on %s", err.msg);
    found_reset(&found);
    bundle_writer_freep(&w);
    w = NULL;
    setup_end_set(&s);
    ok(bundle_set_new(
           &(BundleOptions){.repo = &s.repo, .label = "../x", .uploaders = 1}, &s.set, &err) < 0 &&
           err.kind == ERROR_USAGE,
       "refused: a label out of the folder");
    setup_end(&s);
}

/* ---- memory and cancellation ---- */

/* Puts wait until they are canceled. */
typedef struct StuckStore
{
    Store store;
    atomic_int waiting;
} StuckStore;

static int
stuck_put(
    Store *st, const char *key UNUSED, const StoreBody *body UNUSED, const Deadline *dl, Error *err)
{
    StuckStore *stuck = (StuckStore *) st;

    (void) atomic_fetch_add(&stuck->waiting, 1);
    for (;;)
    {
        if (deadline_check(dl, "the store", err) < 0)
            return -1;
        deadline_sleep_ms(dl, 10);
    }
}

static void
stuck_destroy(Store *st UNUSED)
{
}

static const StoreOps stuck_ops = {.put = stuck_put, .destroy = stuck_destroy};

typedef struct Pusher
{
    BundleSet *set;
    const uint8_t *noise;
    atomic_ullong pushed;
    atomic_bool ended;
    int rc;
    Error err;
} Pusher;

static void *
pusher_main(void *arg)
{
    Pusher *p = arg;
    AUTO(bundle_writer_freep) BundleWriter *w = NULL;
    BackupFile file = {.path = "x", .bytes = 1000 * (uint64_t) MIB};

    file.stored_bytes = file.bytes;
    p->rc = bundle_writer_new(p->set, &w, &p->err);
    if (p->rc == 0)
        p->rc = bundle_writer_begin_file(w, &file, &p->err);
    while (p->rc == 0 && atomic_load(&p->pushed) < file.bytes)
    {
        p->rc = bundle_writer_write(w, p->noise, 65536, &p->err);
        if (p->rc == 0)
            (void) atomic_fetch_add(&p->pushed, 65536);
    }
    atomic_store(&p->ended, true);
    return NULL;
}

static void
test_stuck(void)
{
    static char url[] = "stuck://";
    uint8_t *noise = test_data_new(TEST_RANDOM, 65536);

    for (int encrypted = 0; encrypted < 2; encrypted++)
    {
        enum
        {
            UPLOADERS = 2
        };
        StuckStore stuck = {
            .store = {
                .ops = &stuck_ops,
                .url = url,
                .caps = {.scheme = "stuck", .max_put_bytes = UINT64_MAX}}};
        atomic_bool cancel = false;
        Setup s;
        Pusher p = {.noise = noise};
        pthread_t thread;
        uint64_t pushed;
        Error err = {0};

        setup_begin(
            &s, &stuck.store, (CodecSpec){CODEC_NONE, 0}, encrypted != 0, CHECKSUM_CRC32C, 1);
        setup_end_set(&s);
        setup_set(&s, CHECKSUM_CRC32C, UPLOADERS, &cancel);
        p.set = s.set;
        if (pthread_create(&thread, NULL, pusher_main, &p) != 0)
            abort();

        /*
         * A part of noise is 8 frames. Each uploader has one, sealed or not; the writer finds the
         * pool empty with the next frame in its hands.
         */
        uint64_t parts = 1 + 2 * UPLOADERS;
        uint64_t room = parts * BACKUP_PART_BYTES + BACKUP_FRAME_BYTES;
        Deadline dl = deadline_after_ms(300000, NULL);

        while ((atomic_load(&p.pushed) < (parts - 1) * BACKUP_PART_BYTES ||
                atomic_load(&stuck.waiting) < UPLOADERS) &&
               deadline_left_ms(&dl) > 0 && !atomic_load(&p.ended))
            clock_sleep_ms(10);
        clock_sleep_ms(500); /* for what it would take too much */
        pushed = atomic_load(&p.pushed);
        ok(pushed >= (parts - 1) * BACKUP_PART_BYTES && pushed <= room && !atomic_load(&p.ended),
           "puts are stuck%s: the writer waits after %llu MiB", encrypted ? ", encrypted" : "",
           (unsigned long long) (pushed / MIB));
        atomic_store(&cancel, true);
        (void) pthread_join(thread, NULL);
        ok(p.rc < 0 && p.err.kind == ERROR_CANCELED && bundle_set_finish(s.set, &err) < 0 &&
               err.kind == ERROR_CANCELED,
           "and is canceled: %s", p.err.msg);
        setup_end(&s);
    }
    free(noise);
}

/* Freed while puts are under way: ends at once. */
static void
test_abandoned(void)
{
    static char url[] = "stuck://";
    StuckStore stuck = {
        .store = {
            .ops = &stuck_ops,
            .url = url,
            .caps = {.scheme = "stuck", .max_put_bytes = UINT64_MAX}}};
    BundleWriter *w = NULL;
    Setup s;
    Error err = {0};
    int64_t began;
    bool good;

    setup_begin(&s, &stuck.store, (CodecSpec){CODEC_NONE, 0}, false, CHECKSUM_CRC32C, 2);
    good = bundle_writer_new(s.set, &w, &err) == 0 &&
           store_item(w, &faulty_items[1], MIB, &err) == 0 && bundle_writer_close(w, &err) == 0 &&
           store_item(w, &faulty_items[2], MIB, &err) == 0;
    began = clock_monotonic_ms();
    bundle_writer_free(w);
    bundle_writer_free(NULL);
    setup_end(&s);
    ok(good && clock_monotonic_ms() - began < 300000, "abandoned while puts are under way");
}

/* ---- reading what is not as the manifest says ---- */

static void
test_reader_refuses(void)
{
    static const struct
    {
        const char *label;
        size_t at;   /* of frame_bytes, to which ... */
        int32_t add; /* ... this is added, and taken from the next if shift is set */
        bool shift;
        int32_t frames; /* added to their count */
        uint64_t last;  /* plain bytes of the last frame; 0: as they are */
        bool last_zero;
        bool in_frame; /* found when a frame is read, not by fetch */
    } cases[] = {
        {"a frame longer", 0, 1, false, 0, 0, false, false},
        {"a frame shorter", 0, -1, false, 0, 0, false, false},
        {"a border moved", 0, 1, true, 0, 0, false, true},
        {"a border moved back", 0, -1, true, 0, 0, false, true},
        {"an absurd frame", 0, INT32_MAX, false, 0, 0, false, false},
        {"one frame less", 0, 0, false, -1, 0, false, false},
        {"no frames", 0, 0, false, -3, 0, false, false},
        {"257 frames", 0, 0, false, 254, 0, false, false},
        {"last frame holds nothing", 0, 0, false, 0, 0, true, false},
        {"last frame holds too much", 0, 0, false, 0, BACKUP_FRAME_BYTES + 1, false, false},
        {"last frame holds a byte less", 0, 0, false, 0, 600000, false, true},
        {"last frame is full", 0, 0, false, 0, BACKUP_FRAME_BYTES, false, true},
    };
    static const Item item = {"x", BACKUP_FILE_WHOLE, TEST_TEXT, 2 * MIB + 500000, 0600};
    AUTO(bundle_writer_freep) BundleWriter *w = NULL;
    AUTO(bundle_reader_freep) BundleReader *r = NULL;
    Setup s;
    Found found = {0};
    Error err = {0};
    const uint8_t *data;
    size_t n;

    setup_begin(&s, memory_store(), (CodecSpec){CODEC_LZ4, 0}, false, CHECKSUM_CRC32C, 1);
    if (!ok(bundle_writer_new(s.set, &w, &err) == 0 && store_item(w, &item, MIB, &err) == 0 &&
                bundle_writer_close(w, &err) == 0 && bundle_set_finish(s.set, &err) == 0 &&
                manifest_writer_replay(
                    s.manifest, CHECKSUM_CRC32C, &found_handlers, &found, &err) == 0 &&
                found.part_count == 1 && found.parts[0].part.frame_count == 3 &&
                bundle_reader_new(&s.repo, &r, &err) == 0 &&
                bundle_reader_fetch(r, &found.parts[0].part, &no_limit, &err) == 0 &&
                bundle_reader_frame(r, 2, &data, &n, &err) == 0 && n > 500000 &&
                bundle_reader_frame(r, 0, &data, &n, &err) == 0 && n == BACKUP_FRAME_BYTES,
            "a part to read, in any order %s", err.msg))
        return;
    for (size_t c = 0; c < ARRAY_COUNT(cases); c++)
    {
        uint32_t frame_bytes[BACKUP_PART_MAX_FRAMES + 1] = {0};
        BackupPart part = found.parts[0].part;
        bool in_fetch;
        bool in_frame = false;

        memcpy(frame_bytes, part.frame_bytes, 3 * sizeof frame_bytes[0]);
        frame_bytes[cases[c].at] += (uint32_t) cases[c].add;
        if (cases[c].shift)
            frame_bytes[cases[c].at + 1] -= (uint32_t) cases[c].add;
        part.frame_bytes = frame_bytes;
        part.frame_count += (uint32_t) cases[c].frames;
        if (cases[c].last > 0 || cases[c].last_zero)
            part.last_plain_bytes = cases[c].last;
        in_fetch = bundle_reader_fetch(r, &part, &no_limit, &err) < 0;
        for (uint32_t i = 0; !in_fetch && !in_frame && i < part.frame_count; i++)
            in_frame = bundle_reader_frame(r, i, &data, &n, &err) < 0;
        ok(in_fetch == !cases[c].in_frame && in_frame == cases[c].in_frame &&
               err.kind == ERROR_CORRUPT && strstr(err.msg, "bundle/00000000/00000000") != NULL,
           "manifest with %s: %s", cases[c].label, err.msg);
    }

    BackupPart other = found.parts[0].part;

    other.part = 1;
    ok(bundle_reader_fetch(r, &other, &no_limit, &err) < 0 && err.kind == ERROR_NOT_FOUND,
       "a part that is not there");
    ok(bundle_reader_fetch(r, &found.parts[0].part, &no_limit, &err) == 0 &&
           bundle_reader_frame(r, 1, &data, &n, &err) == 0,
       "and the reader is usable after all that");
    found_reset(&found);
    bundle_writer_freep(&w);
    w = NULL;
    setup_end(&s);
}

int
main(void)
{
    (void) tempdir_make();
    if (!tool_files_begin())
        return 1;
    test_round_trip();
    test_checksums();
    test_large();
    test_crowd();
    test_faults();
    test_retries();
    test_conflict();
    test_numbers();
    test_refused();
    test_stuck();
    test_abandoned();
    test_reader_refuses();
    tool_files_end();
    return done_testing();
}
