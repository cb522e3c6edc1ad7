/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Chains of backups of files that change at random, written by the bundle writer into a repository
 * in memory and restored: every byte must be that of the model.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fs.h"
#include "pg/incremental_file.h"
#include "repo/bundle_write.h"
#include "repo/file_digest.h"
#include "tap.h"
#include "tempdir.h"
#include "walrestore/finish.h"
#include "walrestore/parts.h"

#define SYSTEM_IDENTIFIER UINT64_C(7300000000000000001)
#define FILES 12
#define MAX_BLOCKS 300u
#define BACKUPS 5
#define PAGE DATA_PAGE_BYTES
#define OWNER "nobody"

static const Deadline no_deadline = {.at_ms = INT64_MAX};

/* One file as it is at the time of a backup, and what has become of it since the one before. */
typedef struct ModelFile
{
    char path[64];
    bool exists;
    bool fresh; /* made since the backup before: stored whole */
    uint32_t blocks;
    uint32_t tail; /* bytes behind the last block; of a file that is no relation */
    uint32_t shortest;
    uint32_t mode; /* 0: as most have */
    bool changed[MAX_BLOCKS];
    uint8_t *data;
} ModelFile;

typedef struct Model
{
    ModelFile files[FILES];
    uint64_t state;
} Model;

/* xorshift64*: the same numbers in every run */
static uint32_t
model_random(Model *m, uint32_t below)
{
    m->state ^= m->state >> 12;
    m->state ^= m->state << 25;
    m->state ^= m->state >> 27;
    return (uint32_t) ((m->state * UINT64_C(2685821657736338717)) >> 33) % below;
}

static void
die_on(int rc, const Error *err)
{
    if (rc == 0)
        return;
    diag("%s", err->msg);
    exit(1);
}

/* A page: often zeros, often alike, sometimes random. */
static void
model_fill(Model *m, uint8_t *page)
{
    switch (model_random(m, 4))
    {
        case 0:
            memset(page, 0, PAGE);
            break;
        case 1:
            memset(page, 0, PAGE);
            page[model_random(m, PAGE)] = 1;
            break;
        default:
            for (size_t i = 0; i < PAGE; i++)
                page[i] = (uint8_t) model_random(m, 256);
    }
}

static void
model_set_blocks(Model *m, ModelFile *f, uint32_t blocks)
{
    /* blocks that come to be there are zeros at first, and not always changed */
    for (uint32_t b = f->blocks; b < blocks; b++)
    {
        memset(f->data + (size_t) b * PAGE, 0, PAGE);
        f->changed[b] = model_random(m, 4) != 0;
        if (f->changed[b])
            model_fill(m, f->data + (size_t) b * PAGE);
    }
    for (uint32_t b = blocks; b < f->blocks; b++)
        f->changed[b] = false;
    f->blocks = blocks;
    f->shortest = MIN(f->shortest, blocks);
}

static void
model_change(Model *m)
{
    for (size_t i = 0; i < FILES; i++)
    {
        ModelFile *f = &m->files[i];

        f->fresh = false;
        f->shortest = f->blocks;
        memset(f->changed, 0, sizeof f->changed);
        if (!f->exists || model_random(m, 12) == 0)
        {
            f->exists = !f->exists || model_random(m, 2) == 0;
            f->fresh = true;
            f->blocks = 0;
            model_set_blocks(m, f, model_random(m, MAX_BLOCKS));
            f->tail = model_random(m, 6) == 0 ? model_random(m, PAGE) : 0;
            for (uint32_t k = 0; k < f->tail; k++)
                f->data[(size_t) f->blocks * PAGE + k] = (uint8_t) k;
            continue;
        }
        if (f->tail != 0)
        {
            f->fresh = true;
            continue;
        }
        for (uint32_t k = model_random(m, 30); f->blocks > 0 && k > 0; k--)
        {
            uint32_t b = model_random(m, f->blocks);

            model_fill(m, f->data + (size_t) b * PAGE);
            f->changed[b] = true;
        }
        if (model_random(m, 3) == 0)
            model_set_blocks(m, f, model_random(m, f->blocks + 1));
        if (model_random(m, 3) == 0)
            model_set_blocks(m, f, f->blocks + model_random(m, MIN(40u, MAX_BLOCKS - f->blocks)));
    }
}

static void
model_init(Model *m, uint64_t seed)
{
    *m = (Model){.state = seed};
    for (size_t i = 0; i < FILES; i++)
    {
        ModelFile *f = &m->files[i];

        (void) snprintf(f->path, sizeof f->path, "base/5/%zu", 16384 + i);
        f->data = calloc(MAX_BLOCKS + 1, PAGE);
        if (f->data == NULL)
            exit(1);
    }
    model_change(m);
}

static void
model_reset(Model *m)
{
    for (size_t i = 0; i < FILES; i++)
        free(m->files[i].data);
}

/* ---- a backup of the model ---- */

static void
put_file(BundleWriter *w, const char *path, uint32_t mode, const void *data, uint64_t len)
{
    BackupFile file = {
        .kind = BACKUP_FILE_WHOLE,
        .path = path,
        .mode = mode,
        .user = OWNER,
        .group = "nogroup",
        .bytes = len,
        .stored_bytes = len};
    Error err;

    die_on(bundle_writer_begin_file(w, &file, &err), &err);
    if (len > 0)
        die_on(bundle_writer_write(w, data, len, &err), &err);
    die_on(bundle_writer_end_file(w, &err), &err);
    backup_file_reset(&file);
}

static void
put_whole(BundleWriter *w, const char *path, const void *data, uint64_t len)
{
    put_file(w, path, 0600, data, len);
}

static void
put_folder(BundleWriter *w, const char *path)
{
    BackupFile file = {
        .kind = BACKUP_FILE_FOLDER, .path = path, .mode = 0700, .user = OWNER, .group = "nogroup"};
    Error err;

    die_on(bundle_writer_begin_file(w, &file, &err), &err);
}

static void
put_changes(BundleWriter *w, const ModelFile *f)
{
    BackupFile file = {
        .kind = BACKUP_FILE_INCREMENTAL,
        .path = f->path,
        .mode = 0600,
        .user = OWNER,
        .group = "nogroup",
        .bytes = (uint64_t) f->blocks * PAGE};
    uint32_t count = 0;
    uint8_t *header;
    Error err;

    for (uint32_t b = 0; b < f->blocks; b++)
        if (f->changed[b])
        {
            die_on(block_set_add(&file.blocks, b, 1, &err), &err);
            count++;
        }
    /* zeros at the end that nothing lists: the length says that they are there */
    file.truncation_blocks = block_set_end(&file.blocks) == f->blocks ? f->shortest : f->blocks;
    file.stored_bytes = incremental_file_bytes(count);
    header = malloc(incremental_header_bytes(count));
    if (header == NULL)
        exit(1);
    incremental_format_header(&file.blocks, file.truncation_blocks, header);
    die_on(bundle_writer_begin_file(w, &file, &err), &err);
    die_on(bundle_writer_write(w, header, incremental_header_bytes(count), &err), &err);
    for (uint32_t b = 0; b < f->blocks; b++)
        if (f->changed[b])
            die_on(bundle_writer_write(w, f->data + (size_t) b * PAGE, PAGE, &err), &err);
    die_on(bundle_writer_end_file(w, &err), &err);
    backup_file_reset(&file);
    free(header);
}

/*
 * What an incremental cannot say is not in the model: a block below its truncation length that was
 * cut off, came back as zeros and is not listed. Such blocks are listed here, as a server does that
 * reads them.
 */
static void
list_returned_blocks(ModelFile *f)
{
    for (uint32_t b = f->shortest; b < f->blocks; b++)
        f->changed[b] = true;
}

static char *
backup_name(size_t i, char buf[BACKUP_LABEL_NAME_MAX])
{
    (void) snprintf(buf, BACKUP_LABEL_NAME_MAX, "backup-%zu", i);
    return buf;
}

static void
put_backup(Repository *repo, Model *m, size_t number, ChecksumAlgorithm checksum)
{
    BackupHeader header = {
        .incremental = number > 0,
        .system_identifier = SYSTEM_IDENTIFIER,
        .pg_major = 15,
        .catalog_version = 202209061,
        .segment_bytes = 16u << 20,
        .tli = 1,
        .start_lsn = 0x2000028 + number * 0x1000000,
        .stop_lsn = 0x2000100 + number * 0x1000000,
        .started_us = INT64_C(1772356447120000),
        .stopped_us = INT64_C(1772356448120000),
        .checksum = checksum,
        .codec = "lz4",
        .host = "test",
        .created_by = "test"};
    char label[512];
    AUTO(manifest_writer_freep) ManifestWriter *manifest = NULL;
    AUTO(bundle_set_freep) BundleSet *set = NULL;
    AUTO(bundle_writer_freep) BundleWriter *w = NULL;
    uint8_t control[300] = {1};
    BundleOptions options = {
        .repo = repo,
        .label = backup_name(number, header.label),
        .checksum = checksum,
        .uploaders = 1,
        .put_timeout_ms = 60000};
    BundleCounts counts;
    uint64_t stored;
    Error err;

    (void) snprintf(
        label, sizeof label,
        "START WAL LOCATION: 0/%" PRIX64 " (file 0000000100000000000000%02zX)\n"
        "CHECKPOINT LOCATION: 0/%" PRIX64 "\nBACKUP METHOD: streamed\nBACKUP FROM: standby\n"
        "START TIME: 2026-03-01 09:14:07 UTC\nLABEL: test\nSTART TIMELINE: 1\n",
        header.start_lsn, 2 + number, header.start_lsn + 0x38);
    header.chain_count = number;
    header.chain = calloc(number + 1, sizeof *header.chain);
    for (size_t i = 0; i < number; i++)
        (void) backup_name(i, header.chain[i]);
    die_on(manifest_writer_new(repo->format.codec, NULL, &manifest, &err), &err);
    options.manifest = manifest;
    die_on(bundle_set_new(&options, &set, &err), &err);
    die_on(bundle_writer_new(set, &w, &err), &err);
    put_folder(w, "base");
    put_folder(w, "base/5");
    put_folder(w, "global");
    put_whole(w, "PG_VERSION", "15\n", 3);
    put_whole(w, "backup_manifest", "{}", 2);
    put_whole(w, "backup_label", label, strlen(label));
    put_whole(w, "standby.signal", "", 0); /* it is a standby's */
    put_whole(w, "recovery.signal", "", 0);
    for (size_t i = 0; i < FILES; i++)
    {
        ModelFile *f = &m->files[i];

        if (!f->exists)
            continue;
        if (number > 0 && !f->fresh)
        {
            if (f->shortest < f->blocks)
                list_returned_blocks(f);
            put_changes(w, f);
        }
        else
            put_file(
                w, f->path, f->mode != 0 ? f->mode : 0600, f->data,
                (uint64_t) f->blocks * PAGE + f->tail);
        /* files of several bundles */
        if (model_random(m, 4) == 0)
            die_on(bundle_writer_close(w, &err), &err);
    }
    put_whole(w, PLAN_CONTROL, control, sizeof control);
    die_on(bundle_writer_close(w, &err), &err);
    die_on(bundle_set_finish(set, &err), &err);
    counts = bundle_set_counts(set);
    header.file_count = counts.files;
    header.plain_bytes = counts.plain_bytes;
    header.stored_bytes = counts.stored_bytes;
    header.part_count = counts.parts;
    die_on(manifest_writer_put(manifest, repo, &header, &no_deadline, &stored, &err), &err);
    free(header.chain);
}

/* ---- restoring it ---- */

static bool
same_content(const char *top, const char *path, const uint8_t *data, uint64_t len)
{
    char name[1024];
    uint8_t *got = malloc(len + 1);
    FILE *in;
    size_t n;

    (void) snprintf(name, sizeof name, "%s/%s", top, path);
    in = fopen(name, "re");
    if (in == NULL || got == NULL)
    {
        diag("%s: %s", name, strerror(errno));
        free(got);
        return false;
    }
    n = fread(got, 1, len + 1, in);
    (void) fclose(in);
    if (n != len || memcmp(got, data, len) != 0)
    {
        size_t at = 0;

        while (at < n && at < len && got[at] == data[at])
            at++;
        diag(
            "%s: %zu bytes of %" PRIu64 ", first difference at %zu (block %zu)", path, n, len, at,
            at / PAGE);
        free(got);
        return false;
    }
    free(got);
    return true;
}

static size_t
count_entries(const char *top, const char *path)
{
    char name[1024];

    (void) snprintf(name, sizeof name, "%s/%s", top, path);
    return tempdir_count(name);
}

/* 0, or what plan, place or parts said. */
static int
restore(Repository *repo, size_t number, const char *to, Plan *plan, Error *err)
{
    const RestoreOptions options = {.to = to};
    const PlanOptions all = {.databases = NULL};
    AUTO(place_reset) Place place;
    char label[BACKUP_LABEL_NAME_MAX];
    const PartsRun run = {
        .repo = repo, .place = &place, .plan = plan, .jobs = 3, .timeout_ms = 60000};

    place_init(&place);
    if (plan_load(repo, backup_name(number, label), &all, 60000, NULL, plan, err) < 0 ||
        place_check(&place, &options, &plan->newest.header, err) < 0 ||
        place_check_space(&place, plan, err) < 0 || place_find_owners(&place, plan, err) < 0 ||
        place_begin(&place, plan, err) < 0 || place_make_folders(&place, plan, err) < 0 ||
        parts_restore(&run, err) < 0 || parts_sync(&run, err) < 0)
        return -1;
    return place_end(&place, err);
}

static void
repo_init(Repository *repo, unsigned level)
{
    Error err;

    *repo = (Repository){
        .format = {.codec = {.method = CODEC_LZ4, .level = (int) level}},
        .description = {
            .cluster = "main",
            .system_identifier = SYSTEM_IDENTIFIER,
            .pg_major = 15,
            .segment_bytes = 16u << 20}};
    die_on(store_memory_new(&repo->store, &err), &err);
}

static bool
same_checksums(const Model *m, const Plan *plan)
{
    ChecksumAlgorithm algorithm = plan->newest.header.checksum;
    uint64_t wrong = 0;

    for (size_t i = 0; i < FILES; i++)
    {
        const ModelFile *f = &m->files[i];
        const BackupFile *entry = manifest_find(&plan->newest, f->path);
        uint8_t got[CHECKSUM_MAX_BYTES];
        FileDigest want;
        Error err;

        if (!f->exists || entry == NULL)
            continue;
        parts_checksum(plan, (size_t) (entry - plan->newest.files), got);
        die_on(
            file_digest_bytes(
                f->data, (uint64_t) f->blocks * PAGE + f->tail, algorithm, &want, &err),
            &err);
        wrong += memcmp(got, want.checksum, checksum_bytes(algorithm)) != 0;
    }
    return wrong == 0;
}

static uint64_t passed_over; /* parts in which nothing was wanted */

static void
test_chains(uint64_t seed, ChecksumAlgorithm checksum)
{
    Repository repo;
    Model m;

    repo_init(&repo, 0);
    model_init(&m, seed);
    for (size_t number = 0; number < BACKUPS; number++)
    {
        AUTO(plan_reset) Plan plan = {0};
        char name[64];
        const char *to;
        uint64_t files = 0, good = 0;
        Error err = {0};

        if (number > 0)
            model_change(&m);
        put_backup(&repo, &m, number, checksum);
        (void) snprintf(name, sizeof name, "d-%" PRIu64 "-%zu-%d", seed, number, (int) checksum);
        to = tempdir_name(name);
        if (!ok(restore(&repo, number, to, &plan, &err) == 0,
                "seed %" PRIu64 ", backup %zu of a "
                "chain is restored%s%s",
                seed, number, err.msg[0] != '\0' ? ": " : "", err.msg))
            continue;
        for (size_t i = 0; i < FILES; i++)
        {
            const ModelFile *f = &m.files[i];

            if (!f->exists)
                continue;
            files++;
            good +=
                same_content(to, f->path, f->data, (uint64_t) f->blocks * PAGE + f->tail) ? 1 : 0;
        }
        ok(files == good && count_entries(to, "base/5") == files,
           "all %" PRIu64 " files are those of the model, and no other", files);
        ok(count_entries(to, "global") == 1 && count_entries(to, "") == 6,
           "pg_control has its name, and the marker is gone");
        ok(same_checksums(&m, &plan), "checksums for backup_manifest are those of the files");
        for (size_t l = 0; l < plan.layer_count; l++)
            for (size_t i = 0; i < plan.layers[l].part_count; i++)
                passed_over += plan.layers[l].parts[i].wanted ? 0 : 1;
    }
    model_reset(&m);
    store_free(repo.store);
}

/* Zero pages take no room, wherever they are; the others do. */
static void
test_sparse(void)
{
    enum
    {
        BLOCKS = 1000
    };
    static uint8_t data[BLOCKS][PAGE];
    AUTO(plan_reset) Plan plan = {0};
    Repository repo;
    Model m;
    struct stat st;
    Error err = {0};

    repo_init(&repo, 0);
    m = (Model){.state = 1};
    for (size_t i = 0; i < BLOCKS; i += 100)
        memset(data[i], 1, PAGE);
    (void) snprintf(m.files[0].path, sizeof m.files[0].path, "base/5/1");
    m.files[0].exists = true;
    m.files[0].blocks = BLOCKS;
    m.files[0].data = data[0];
    put_backup(&repo, &m, 0, CHECKSUM_CRC32C);
    ok(restore(&repo, 0, tempdir_name("sparse"), &plan, &err) == 0 &&
           same_content(tempdir_name("sparse"), "base/5/1", data[0], sizeof data),
       "a file that is mostly zeros%s%s", err.msg[0] != '\0' ? ": " : "", err.msg);
    /* a page at each end of a frame may be written in part */
    ok(stat(tempdir_name("sparse/base/5/1"), &st) == 0 && st.st_size == (off_t) sizeof data &&
           st.st_blocks * 512 < (off_t) sizeof data / 4,
       "it is sparse: %lld KiB of %zu", (long long) st.st_blocks / 2, sizeof data / 1024);
    store_free(repo.store);
}

/* What its owner may not write, and two workers write: to somebody who is not root. */
static void
test_read_only(void)
{
    enum
    {
        BLOCKS = 3000
    };
    static uint8_t data[BLOCKS][PAGE];
    AUTO(plan_reset) Plan plan = {0};
    const char *to = tempdir_name("read-only");
    const struct passwd *nobody = getpwnam(OWNER);
    uid_t user = geteuid();
    Repository repo;
    Model m = {.state = 2};
    struct stat st;
    Error err = {0};
    int rc;

    repo_init(&repo, 0);
    for (size_t i = 0; i < BLOCKS; i++)
        for (size_t k = 0; k < PAGE; k += 4)
            put_u32le(data[i] + k, model_random(&m, UINT32_MAX));
    (void) snprintf(m.files[0].path, sizeof m.files[0].path, "base/5/1");
    m.files[0].exists = true;
    m.files[0].blocks = BLOCKS;
    m.files[0].data = data[0];
    m.files[0].mode = 0400;
    put_backup(&repo, &m, 0, CHECKSUM_CRC32C);
    if (user == 0 && nobody != NULL &&
        (chmod(tempdir_path, 0711) < 0 || mkdir(to, 0700) < 0 ||
         chown(to, nobody->pw_uid, nobody->pw_gid) < 0 || seteuid(nobody->pw_uid) < 0))
        exit(1);
    rc = restore(&repo, 0, to, &plan, &err);
    if (geteuid() != user && seteuid(user) < 0)
        exit(1);
    ok(plan.fetch_parts > 2, "content in several parts");
    ok(rc == 0 && same_content(to, "base/5/1", data[0], sizeof data),
       "a read-only file in several parts%s%s", rc < 0 ? ": " : "", err.msg);
    ok(stat(tempdir_name("read-only/base/5/1"), &st) == 0 && (st.st_mode & 07777) == 0400,
       "it has its mode");
    store_free(repo.store);
}

/* Modes always, owners as root; and the room is looked at before. */
static void
test_place(void)
{
    const struct passwd *owner = getpwnam(OWNER);
    uid_t want = geteuid() == 0 && owner != NULL ? owner->pw_uid : geteuid();
    AUTO(plan_reset) Plan plan = {0};
    AUTO(place_reset) Place place;
    Repository repo;
    Model m;
    struct stat st;
    Error err = {0};

    repo_init(&repo, 0);
    model_init(&m, 7);
    put_backup(&repo, &m, 0, CHECKSUM_CRC32C);
    ok(restore(&repo, 0, tempdir_name("place"), &plan, &err) == 0, "restored%s", err.msg);
    ok(stat(tempdir_name("place/PG_VERSION"), &st) == 0 && st.st_uid == want &&
           (st.st_mode & 07777) == 0600,
       "owner and mode of a file");
    ok(stat(tempdir_name("place/base/5"), &st) == 0 && st.st_uid == want &&
           (st.st_mode & 07777) == 0700,
       "of a folder");
    ok(stat(tempdir_name("place"), &st) == 0 && st.st_uid == want && (st.st_mode & 07777) == 0700,
       "of the directory itself");

    place_init(&place);
    (void) snprintf(place.path, sizeof place.path, "%s/not/there/yet", tempdir_path);
    ok(place_check_space(&place, &plan, &err) == 0, "there is room");
    plan.newest.files[plan.newest.file_count - 1].bytes = UINT64_C(1) << 60;
    ok(place_check_space(&place, &plan, &err) < 0 && err.kind == ERROR_IO &&
           strstr(err.msg, "not enough room") != NULL && err.hint[0] != '\0',
       "for an exbibyte there is none: %s", err.msg);
    model_reset(&m);
    store_free(repo.store);
}

/* Parents made by root let the server through, whatever the umask. */
static void
test_parents(void)
{
    AUTO(plan_reset) Plan plan = {0};
    mode_t want = geteuid() == 0 ? 0755 : 0700;
    mode_t mask = umask(0077);
    Repository repo;
    Model m;
    struct stat st;
    Error err = {0};

    repo_init(&repo, 0);
    model_init(&m, 8);
    put_backup(&repo, &m, 0, CHECKSUM_CRC32C);
    (void) mkdir(tempdir_name("above"), 0700);
    ok(restore(&repo, 0, tempdir_name("above/made/data"), &plan, &err) == 0, "restored%s", err.msg);
    ok(stat(tempdir_name("above/made"), &st) == 0 && (st.st_mode & 07777) == want,
       "mode of a parent");
    ok(stat(tempdir_name("above/made/data"), &st) == 0 && (st.st_mode & 07777) == 0700,
       "mode of the directory");
    (void) umask(mask);
    model_reset(&m);
    store_free(repo.store);
}

/* The last files: whatever the backup has, the signal file is the one that was asked for. */
static void
test_signals(bool standby)
{
    static const RecoveryTarget latest = {.kind = RECOVERY_LATEST};
    Settings settings = {.restore_command = "x", .target = &latest, .tli = 1, .standby = standby};
    const char *name = standby ? "a standby" : "no standby";
    char path[64];
    const char *to;
    AUTO(plan_reset) Plan plan = {0};
    AUTO(place_reset) Place place;
    AUTO(free_text) char *manifest = NULL;
    size_t len = 0;
    Repository repo;
    Model m;
    Error err = {0};

    repo_init(&repo, 0);
    model_init(&m, 9);
    put_backup(&repo, &m, 0, CHECKSUM_CRC32C);
    (void) snprintf(path, sizeof path, "signals-%d", (int) standby);
    to = tempdir_name(path);
    ok(restore(&repo, 0, to, &plan, &err) == 0, "%s: restored%s", name, err.msg);
    place_init(&place);
    place.mode = 0700;
    (void) snprintf(place.path, sizeof place.path, "%s", to);
    place.fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ok(finish_directory(&place, &plan, &settings, &err) == 0, "%s: finished%s", name, err.msg);
    ok((faccessat(place.fd, "standby.signal", F_OK, 0) == 0) == standby, "%s: standby.signal",
       name);
    ok((faccessat(place.fd, "recovery.signal", F_OK, 0) == 0) == !standby, "%s: recovery.signal",
       name);
    (void) snprintf(path, sizeof path, "signals-%d/backup_manifest", (int) standby);
    ok(fs_read_file(tempdir_name(path), 1 << 20, &manifest, &len, &err) == 0 &&
           strstr(manifest, "PG_VERSION") != NULL && strstr(manifest, ".signal") == NULL,
       "%s: backup_manifest has none of them", name);
    model_reset(&m);
    store_free(repo.store);
}

/* Neither missing nor a directory. */
static void
test_dangling(void)
{
    const RestoreOptions options = {.to = tempdir_name("dangling")};
    const BackupHeader header = {.system_identifier = SYSTEM_IDENTIFIER, .pg_major = 15};
    AUTO(place_reset) Place place;
    Error err = {0};

    if (symlink("nowhere", options.to) < 0)
        abort();
    place_init(&place);
    ok(place_check(&place, &options, &header, &err) < 0 && err.kind == ERROR_EXISTS &&
           strstr(err.msg, "symbolic link") != NULL,
       "a link to nowhere is refused: %s", err.msg);
}

/* Two at once would remove each other's files. */
static void
test_at_once(void)
{
    const RestoreOptions options = {.to = tempdir_name("at-once"), .delta = true};
    const BackupHeader header = {.system_identifier = SYSTEM_IDENTIFIER, .pg_major = 15};
    AUTO(fd_close) int fd = -1;
    AUTO(fd_close) int other = -1;
    AUTO(place_reset) Place place;
    Error err = {0};
    const Plan plan = {0};

    if (mkdir(options.to, 0700) < 0)
        abort();
    fd = open(tempdir_name("at-once/PG_VERSION"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        abort();
    other = open(options.to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (other < 0 || flock(other, LOCK_EX) < 0)
        abort();
    place_init(&place);
    ok(place_check(&place, &options, &header, &err) < 0 && err.kind == ERROR_EXISTS &&
           strstr(err.msg, "another walrestore") != NULL,
       "at once: refused: %s", err.msg);
    place_reset(&place);
    (void) snprintf(place.path, sizeof place.path, "%s", options.to);
    place.state = PLACE_EMPTY;
    ok(place_begin(&place, &plan, &err) < 0 && strstr(err.msg, "another walrestore") != NULL,
       "at once: also where it was empty: %s", err.msg);
    place_reset(&place);
    fd_close(&other);
    (void) snprintf(place.path, sizeof place.path, "%s", options.to);
    place.state = PLACE_EMPTY;
    ok(place_begin(&place, &plan, &err) < 0 && strstr(err.msg, "any more") != NULL,
       "at once: the other one has ended: %s", err.msg);
}

/* What postmaster.pid says: only one that is not there lets a restore begin. */
static void
test_running(void)
{
    char own[64], parent[64];
    const struct
    {
        const char *label, *text, *want;
    } cases[] = {
        {"this process is in it", own, "a server is running"},
        {"a stand-alone backend", parent, "a server is running"},
        {"a process elsewhere, as from another container", "1\n/data\n", "may be running"},
        {"no such process", "2147483000\n/data\n", "may be running"},
        {"nothing in it", "", "may be running"},
    };
    const RestoreOptions options = {.to = tempdir_name("running"), .delta = true};
    const BackupHeader header = {.system_identifier = SYSTEM_IDENTIFIER, .pg_major = 15};
    char before[1024];

    (void) snprintf(own, sizeof own, "%d\n/data\n", (int) getpid());
    (void) snprintf(parent, sizeof parent, "-%d\n/data\n", (int) getpid());
    (void) mkdir(options.to, 0700);
    if (getcwd(before, sizeof before) == NULL || chdir(options.to) < 0)
        exit(1);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(place_reset) Place place;
        FILE *file = fopen("postmaster.pid", "we");
        Error err = {0};

        if (file == NULL || fputs(cases[i].text, file) < 0 || fclose(file) != 0)
            exit(1);
        place_init(&place);
        ok(place_check(&place, &options, &header, &err) < 0 && err.kind == ERROR_EXISTS &&
               strstr(err.msg, cases[i].want) != NULL && err.hint[0] != '\0',
           "postmaster.pid, %s: %s", cases[i].label, err.msg);
    }
    if (chdir(before) < 0)
        exit(1);
}

/* pg_control goes first, but not that of another place. */
static void
test_linked_global(void)
{
    AUTO(plan_reset) Plan plan = {0};
    AUTO(place_reset) Place place;
    Repository repo;
    Model m;
    struct stat st;
    Error err = {0};

    repo_init(&repo, 0);
    model_init(&m, 10);
    put_backup(&repo, &m, 0, CHECKSUM_CRC32C);
    ok(restore(&repo, 0, tempdir_name("linked"), &plan, &err) == 0, "restored%s", err.msg);
    if (rename(tempdir_name("linked/global"), tempdir_name("elsewhere")) < 0 ||
        symlink(tempdir_name("elsewhere"), tempdir_name("linked/global")) < 0)
        exit(1);
    place_init(&place);
    (void) snprintf(place.path, sizeof place.path, "%s", tempdir_name("linked"));
    place.state = PLACE_IN_USE;
    ok(place_begin(&place, &plan, &err) == 0, "begun%s", err.msg);
    ok(lstat(tempdir_name("linked/global"), &st) < 0 && errno == ENOENT, "the link is gone");
    ok(stat(tempdir_name("elsewhere/pg_control"), &st) == 0, "what it points to is there");
    model_reset(&m);
    store_free(repo.store);
}

/* What must not be removed with what does not belong. */
static void
test_outside(void)
{
    static const struct
    {
        const char *label, *path;
        bool fine;
    } cases[] = {
        {"beside it", "outside/dat", true},
        {"its name is longer", "outside/data-2/repo", true},
        {"above it", "outside", true},
        {"itself", "outside/data", false},
        {"in it", "outside/data/repo", false},
        {"in it, through a link", "outside/link/repo", false},
        {"in a tablespace", "outside/ts/repo", false},
    };
    AUTO(place_reset) Place place;

    place_init(&place);
    (void) mkdir(tempdir_name("outside"), 0700);
    (void) mkdir(tempdir_name("outside/data"), 0700);
    if (symlink("data", tempdir_name("outside/link")) < 0)
        exit(1);
    (void) snprintf(place.path, sizeof place.path, "%s", tempdir_name("outside/data"));
    place.tablespaces = calloc(1, sizeof *place.tablespaces);
    if (place.tablespaces == NULL)
        exit(1);
    place.tablespaces[0].path = strdup(tempdir_name("outside/ts"));
    place.tablespace_count = 1;
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Error err = {0};
        int rc = place_check_outside(&place, tempdir_name(cases[i].path), "repository", &err);

        ok(cases[i].fine ? rc == 0 : rc < 0 && err.kind == ERROR_USAGE && err.hint[0] != '\0',
           "a repository %s%s%s", cases[i].label, rc < 0 ? ": " : "", err.msg);
    }
}

/* ---- damage ---- */

typedef struct Forge
{
    ManifestWriter *out;
    ChecksumAlgorithm checksum;
    const char *path;
} Forge;

static int
forge_file(void *ctx, const BackupFile *file, Error *err)
{
    Forge *forge = ctx;
    BackupFile changed = *file;
    AUTO(strbuf_reset) StrBuf line;

    strbuf_init(&line, 1 << 20);
    if (strcmp(file->path, forge->path) == 0)
        changed.checksum[0] ^= 1;
    manifest_format_file(&changed, forge->checksum, &line);
    return manifest_writer_add(forge->out, strbuf_text(&line), line.len, err);
}

static int
forge_part(void *ctx, const BackupPart *part, Error *err)
{
    Forge *forge = ctx;
    AUTO(strbuf_reset) StrBuf line;

    BackupPart own = *part;

    own.owner = NULL; /* not named in a line when it is the backup itself */
    strbuf_init(&line, 1 << 20);
    manifest_format_part(&own, &line);
    return manifest_writer_add(forge->out, strbuf_text(&line), line.len, err);
}

/* The same parts, under another label, with a manifest that has another checksum for one file. */
static void
test_wrong_checksum(ChecksumAlgorithm checksum)
{
    static const ManifestHandlers handlers = {.file = forge_file, .part = forge_part};
    AUTO(manifest_writer_freep) ManifestWriter *out = NULL;
    AUTO(backup_header_reset) BackupHeader header = {0};
    AUTO(plan_reset) Plan plan = {0};
    char name[64];
    Repository repo;
    Error err = {0};
    uint64_t stored;
    Forge forge = {.checksum = checksum, .path = "PG_VERSION"};
    Model m;

    repo_init(&repo, 0);
    model_init(&m, 99);
    put_backup(&repo, &m, 0, checksum);
    die_on(manifest_writer_new(repo.format.codec, NULL, &out, &err), &err);
    forge.out = out;
    die_on(manifest_read(&repo, "backup-0", &no_deadline, &handlers, &forge, &err), &err);
    die_on(manifest_read_header(&repo, "backup-0", &no_deadline, &header, &err), &err);

    /* the manifest of this label is put anew, as it was removed */
    StoreRemoved gone = {.key = "backup/backup-0/manifest"};

    die_on(store_remove(repo.store, &gone, 1, &no_deadline, &err), &err);
    die_on(manifest_writer_put(out, &repo, &header, &no_deadline, &stored, &err), &err);
    (void) snprintf(name, sizeof name, "forged-%d", (int) checksum);
    err = (Error){0};
    ok(restore(&repo, 0, tempdir_name(name), &plan, &err) < 0 && err.kind == ERROR_CORRUPT &&
           strstr(err.msg, "PG_VERSION") != NULL && strstr(err.msg, "backup-0") != NULL,
       "a wrong checksum is found: %s", err.msg);
    (void) snprintf(name, sizeof name, "forged-%d/walrestore.incomplete", (int) checksum);
    ok(access(tempdir_name(name), F_OK) == 0, "the directory is marked as incomplete");
    (void) snprintf(name, sizeof name, "forged-%d/global/pg_control", (int) checksum);
    ok(access(tempdir_name(name), F_OK) < 0, "and has no pg_control");
    model_reset(&m);
    store_free(repo.store);
}

int
main(void)
{
    (void) tempdir_make();
    for (uint64_t seed = 1; seed <= 6; seed++)
        test_chains(seed, seed % 3 == 0 ? CHECKSUM_SHA256 : CHECKSUM_CRC32C);
    ok(passed_over > 0, "%" PRIu64 " parts were not fetched", passed_over);
    test_sparse();
    test_place();
    test_read_only();
    test_parents();
    test_signals(false);
    test_signals(true);
    test_dangling();
    test_at_once();
    test_running();
    test_linked_global();
    test_outside();
    test_wrong_checksum(CHECKSUM_CRC32C);
    test_wrong_checksum(CHECKSUM_SHA256);
    return done_testing();
}
