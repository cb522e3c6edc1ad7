/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What is taken up of unfinished backups, and of which. (walstream's resume.h has test_resume.)
 */
#include "walbackup/resume.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fs.h"
#include "common/log.h"
#include "pg/incremental_file.h"
#include "tap.h"

#define TIMEOUT_MS 60000
#define HOUR_US (INT64_C(3600) * 1000000)
#define NOW_US (1000 * HOUR_US)
#define BACKUPS 10
#define FILES 4
#define PAGE DATA_PAGE_BYTES
#define CONTENT_MAX (4u * PAGE)

static const Deadline no_limit = {.at_ms = INT64_MAX};

/*
 * A file and what is in it. Of one that is stored whole the text; of an incremental file the blocks
 * (as block_set_parse reads them), each full of the first letter of the text, and the truncation
 * length.
 */
typedef struct File
{
    const char *path;
    const char *text;
    const char *blocks; /* NULL: whole */
    uint32_t truncation;
} File;

typedef struct Made
{
    const char *label;
    int hours;           /* since its newest object was stored */
    const char *resumes; /* words; NULL none */
    File files[FILES];   /* each in a bundle of its own */
    BackupState state;
} Made;

typedef struct Probe
{
    File file;
    bool taken;
} Probe;

/* ---- contents ---- */

/* line: all but digests and places; for backup_file_reset. Returns the length of the content. */
static size_t
make_content(const File *file, uint8_t *content, BackupFile *line)
{
    size_t len = strlen(file->text);
    Error err;

    *line = (BackupFile){
        .path = file->path, .mode = 0600, .user = "postgres", .group = "", .modified_s = 7};
    if (file->blocks != NULL)
    {
        uint32_t count;

        if (block_set_parse(file->blocks, strlen(file->blocks), &line->blocks, &err) < 0)
            abort();
        count = (uint32_t) block_set_blocks(&line->blocks);
        line->kind = BACKUP_FILE_INCREMENTAL;
        line->truncation_blocks = file->truncation;
        len = (size_t) incremental_file_bytes(count);
        if (len > CONTENT_MAX)
            abort();
        memset(content, file->text[0], len);
        incremental_format_header(&line->blocks, file->truncation, content);
        line->bytes = (uint64_t) file->truncation * PAGE;
    }
    else
    {
        memcpy(content, file->text, len);
        line->bytes = len;
    }
    line->stored_bytes = len;
    return len;
}

/* ---- unfinished backups ---- */

static int
put_file(BundleWriter *w, const File *file, Error *err)
{
    static uint8_t content[CONTENT_MAX];
    AUTO(backup_file_reset) BackupFile line = {0};
    size_t len = make_content(file, content, &line);

    if (bundle_writer_begin_file(w, &line, err) < 0 ||
        bundle_writer_write(w, content, len, err) < 0 || bundle_writer_end_file(w, err) < 0)
        return -1;
    return bundle_writer_close(w, err);
}

static int
put_unfinished(Repository *repo, const Made *made, Error *err)
{
    AUTO(manifest_writer_freep) ManifestWriter *manifest = NULL;
    AUTO(bundle_set_freep) BundleSet *set = NULL;
    AUTO(bundle_writer_freep) BundleWriter *w = NULL;
    BundleOptions options = {
        .repo = repo,
        .label = made->label,
        .checksum = CHECKSUM_CRC32C,
        .uploaders = 1,
        .put_timeout_ms = TIMEOUT_MS};

    if (manifest_writer_new(repo->format.codec, NULL, &manifest, err) < 0)
        return -1;
    options.manifest = manifest;
    if (bundle_set_new(&options, &set, err) < 0 || bundle_writer_new(set, &w, err) < 0)
        return -1;
    for (size_t i = 0; i < FILES && made->files[i].path != NULL; i++)
        if (put_file(w, &made->files[i], err) < 0)
            return -1;
    return bundle_set_finish(set, err);
}

static void
note_backup(const Made *made, Backup *b)
{
    const char *word = made->resumes != NULL ? made->resumes : "";

    *b = (Backup){.state = made->state, .newest_us = NOW_US - made->hours * HOUR_US};
    (void) snprintf(b->label, sizeof b->label, "%s", made->label);
    for (size_t i = 0; *word != '\0' && i < BACKUP_RESUMES_MAX; i++)
    {
        size_t len = strcspn(word, " ");

        (void) snprintf(b->resumes[i], sizeof b->resumes[i], "%.*s", (int) len, word);
        word += len + strspn(word + len, " ");
    }
}

typedef struct Setup
{
    Repository repo;
    Backup backups[BACKUPS];
    BackupList list;
    atomic_bool cancel;
    BackupRun run;
    Resume *resume;
} Setup;

static void
setup_begin(Setup *s, const Made *made)
{
    Error err = {0};

    memset(s, 0, sizeof *s);
    s->repo.format.codec = (CodecSpec){CODEC_LZ4, 0};
    s->list = (BackupList){.items = s->backups, .store_now_us = NOW_US};
    s->run.options = (BackupOptions){.checksum = CHECKSUM_CRC32C, .timeout_ms = TIMEOUT_MS};
    s->run.cancel = &s->cancel;
    s->run.repo = &s->repo;
    if (store_memory_new(&s->repo.store, &err) < 0 ||
        manifest_writer_new(s->repo.format.codec, NULL, &s->run.manifest, &err) < 0)
        abort();
    for (size_t i = 0; i < BACKUPS && made[i].label != NULL; i++)
    {
        note_backup(&made[i], &s->backups[s->list.count++]);
        if (put_unfinished(&s->repo, &made[i], &err) < 0)
        {
            diag("%s", err.msg);
            abort();
        }
    }
}

static void
setup_end(Setup *s)
{
    resume_free(s->resume);
    backup_header_reset(&s->run.header);
    manifest_writer_free(s->run.manifest);
    store_free(s->repo.store);
}

/* ---- the manifest ---- */

typedef struct Found
{
    unsigned files, parts;
    char owners[256]; /* of the parts, as they come, each once */
} Found;

static int
found_file(void *ctx, const BackupFile *file, Error *err)
{
    ((Found *) ctx)->files++;
    if (strcmp(file->user, "postgres") != 0 || file->mode != 0600 || file->modified_s != 7)
        return error_set(err, ERROR_CORRUPT, "it is not as it is now");
    return 0;
}

static int
found_part(void *ctx, const BackupPart *part, Error *err UNUSED)
{
    Found *found = ctx;

    found->parts++;
    if (strstr(found->owners, part->owner) == NULL)
        (void) snprintf(
            found->owners + strlen(found->owners), sizeof found->owners - strlen(found->owners),
            " %s", part->owner);
    return 0;
}

/* Looks for the file as a backup does; true when it is taken up. */
static bool
take(Setup *s, const File *file)
{
    static uint8_t content[CONTENT_MAX];
    AUTO(backup_file_reset) BackupFile line = {0};
    size_t len = make_content(file, content, &line);
    FileDigest digest;
    bool taken = false;
    Error err = {0};

    if (file_digest_bytes(content, len, s->run.options.checksum, &digest, &err) < 0 ||
        resume_take(s->resume, &line, &digest, &taken, &err) < 0)
        diag("%s", err.msg);
    /* what is taken was worth looking for */
    return taken && resume_has(s->resume, &line);
}

/* What was taken is in the manifest, and in uses; want: labels, " a b". */
static void
check_manifest(Setup *s, const char *label, unsigned taken, const char *want)
{
    static const ManifestHandlers handlers = {.file = found_file, .part = found_part};
    Found found = {0};
    char uses[256] = "";
    Error err = {0};
    int rc = resume_finish(s->resume, &s->run, &err);

    if (rc == 0)
        rc = manifest_writer_replay(s->run.manifest, CHECKSUM_CRC32C, &handlers, &found, &err);
    for (size_t i = 0; i < s->run.header.uses_count; i++)
        (void) snprintf(
            uses + strlen(uses), sizeof uses - strlen(uses), " %s", s->run.header.uses[i]);
    if (!ok(rc == 0 && found.files == taken && found.parts == taken && strcmp(uses, want) == 0 &&
                strcmp(found.owners, want) == 0,
            "%s: the manifest has %u files of%s", label, taken, want))
        diag(
            "%s; %u files, %u parts, owners%s, uses%s", err.msg, found.files, found.parts,
            found.owners, uses);
}

/* ---- what is taken, and of whom ---- */

#define A "base/5/1"
#define B "base/5/2"

static const struct
{
    const char *label;
    Made made[BACKUPS];
    Probe probes[6];
    const char *uses; /* in the order of their bytes */
} cases[] = {
    {"there is nothing", {{0}}, {{{A, "text", NULL, 0}, false}}, ""},
    {"whole files",
     {{"u1",
       1,
       NULL,
       {{A, "text", NULL, 0}, {B, "more text", NULL, 0}, {"empty", "", NULL, 0}},
       BACKUP_UNFINISHED}},
     {{{B, "more text", NULL, 0}, true},
      {{A, "tExt", NULL, 0}, false},
      {{A, "text more", NULL, 0}, false},
      {{"base/5/3", "text", NULL, 0}, false},
      {{"empty", "", NULL, 0}, false}},
     " u1"},
    {"incremental files",
     {{"u1", 1, NULL, {{A, "a", "3,4", 10}, {B, "b", "", 10}}, BACKUP_UNFINISHED}},
     {{{A, "b", "3,4", 10}, false},
      {{A, "a", "3,5", 10}, false},
      {{A, "a", "3,4", 11}, false},
      {{A, "a", "3", 10}, false},
      {{B, "b", "", 10}, false},
      {{A, "a", "3,4", 10}, true}},
     " u1"},
    {"a whole file with the bytes of an incremental one is another thing",
     {{"u1", 1, NULL, {{A, "text", "", 1}, {B, "text", NULL, 0}}, BACKUP_UNFINISHED}},
     {{{A, "text", NULL, 0}, false}},
     ""},
    {"several failed runs",
     {{"u1",
       3,
       NULL,
       {{A, "text", NULL, 0}, {B, "a much longer text, so that it comes first", NULL, 0}},
       BACKUP_UNFINISHED},
      {"u2", 1, NULL, {{"base/5/3", "other", NULL, 0}}, BACKUP_UNFINISHED}},
     {{{"base/5/3", "other", NULL, 0}, true}, {{A, "text", NULL, 0}, true}},
     " u1 u2"},
    {"the same file in several: the one that fits, once",
     {{"u1", 3, NULL, {{A, "text", NULL, 0}}, BACKUP_UNFINISHED},
      {"u2", 1, NULL, {{A, "TEXT", NULL, 0}}, BACKUP_UNFINISHED}},
     {{{A, "Text", NULL, 0}, false}, {{A, "TEXT", NULL, 0}, true}, {{A, "TEXT", NULL, 0}, false}},
     " u2"},
    {"too old",
     {{"u1", 12, NULL, {{A, "text", NULL, 0}}, BACKUP_UNFINISHED}},
     {{{A, "text", NULL, 0}, false}},
     ""},
    {"not too old",
     {{"u1", 11, NULL, {{A, "text", NULL, 0}}, BACKUP_UNFINISHED}},
     {{{A, "text", NULL, 0}, true}},
     " u1"},
    {"old, and named by one that a young one names",
     {{"u1", 30, NULL, {{A, "text", NULL, 0}}, BACKUP_UNFINISHED},
      {"u2", 20, "u0 u1", {{B, "text", NULL, 0}}, BACKUP_UNFINISHED},
      {"u3", 2, "gone u2", {{"base/5/3", "other", NULL, 0}}, BACKUP_UNFINISHED}},
     {{{A, "text", NULL, 0}, true}},
     " u1"},
    {"old, and named by one that is not fit",
     {{"u1", 30, NULL, {{A, "text", NULL, 0}}, BACKUP_UNFINISHED},
      {"u2", 13, "u1", {{B, "text", NULL, 0}}, BACKUP_UNFINISHED},
      {"c1", 1, "u1", {{B, "text", NULL, 0}}, BACKUP_COMPLETE}},
     {{{A, "text", NULL, 0}, false}, {{B, "text", NULL, 0}, false}},
     ""},
    {"complete ones, and those of which nothing is known, are none",
     {{"c1", 1, NULL, {{A, "text", NULL, 0}}, BACKUP_COMPLETE},
      {"d1", 1, NULL, {{B, "text", NULL, 0}}, BACKUP_DAMAGED}},
     {{{A, "text", NULL, 0}, false}, {{B, "text", NULL, 0}, false}},
     ""},
};

static void
test_taken(void)
{
    for (size_t c = 0; c < ARRAY_COUNT(cases); c++)
    {
        Setup s;
        Error err = {0};
        unsigned taken = 0;

        setup_begin(&s, cases[c].made);
        ok(resume_open(&s.run, &s.list, &s.resume, &err) == 0, "%s: opened %s", cases[c].label,
           err.msg);
        for (size_t i = 0; i < ARRAY_COUNT(cases[c].probes); i++)
        {
            const Probe *probe = &cases[c].probes[i];

            if (probe->file.path == NULL)
                break;
            ok(take(&s, &probe->file) == probe->taken, "%s: file %zu is %s", cases[c].label, i,
               probe->taken ? "taken up" : "stored");
            taken += probe->taken;
        }
        check_manifest(&s, cases[c].label, taken, cases[c].uses);
        setup_end(&s);
    }
}

/* More than a start object can name: those with few bytes are left. */
static void
test_many(void)
{
    static const char text[] = "0123456789abcdefghijklmnopqrstuvwxyz";
    char labels[BACKUPS][16], paths[BACKUPS][32], texts[BACKUPS][40];
    Made made[BACKUPS] = {{0}};
    unsigned taken = 0;
    Error err = {0};
    Setup s;

    static_assert(BACKUPS > BACKUP_RESUMES_MAX, "more than can be named");
    for (int i = 0; i < BACKUPS; i++)
    {
        (void) snprintf(labels[i], sizeof labels[i], "u%d", i);
        (void) snprintf(paths[i], sizeof paths[i], "base/5/%d", i);
        /* the oldest has most; not so long that a part of it would be compressed to less */
        (void) snprintf(texts[i], sizeof texts[i], "%.*s", 35 - 3 * i, text);
        made[i] = (Made){
            .label = labels[i],
            .hours = 11 - i,
            .files = {{paths[i], texts[i], NULL, 0}},
            .state = BACKUP_UNFINISHED};
    }
    setup_begin(&s, made);
    if (resume_open(&s.run, &s.list, &s.resume, &err) < 0)
        diag("%s", err.msg);
    ok(resume_count(s.resume) == BACKUP_RESUMES_MAX &&
           resume_bundles(s.resume) == BACKUP_RESUMES_MAX,
       "no more are taken up than can be named");
    ok(resume_count(s.resume) > 0 && strcmp(resume_label(s.resume, 0), "u0") == 0,
       "that with most bytes is the first, however old");
    for (int i = 0; i < BACKUPS; i++)
        taken += take(&s, &made[i].files[0]);
    ok(taken == BACKUP_RESUMES_MAX, "of each of them something is taken");
    setup_end(&s);
}

/* ---- bundles that cannot be used ---- */

static void
drop(Setup *s, const char *key)
{
    StoreRemoved removed = {.key = key};
    Error err;

    if (store_remove(s->repo.store, &removed, 1, &no_limit, &err) < 0 ||
        removed.err.kind != ERROR_NONE)
        abort();
}

/* Puts another object in its place, with a label that fits; NULL: none. */
static void
replace(Setup *s, const char *key, const char *text)
{
    ObjectPutResult result;
    Error err;

    drop(s, key);
    if (text != NULL &&
        object_put_bytes(
            s->repo.store, &s->repo.format, key, text, strlen(text), &no_limit, &result, &err) < 0)
        abort();
}

/* The index with the first digit of a member changed. */
static void
replace_digest(Setup *s, const char *key, const char *member)
{
    AUTO(free_text) char *text = NULL;
    size_t len;
    char *at;
    Error err;

    if (object_get_bytes(s->repo.store, key, NULL, 65536, &text, &len, &no_limit, &err) < 0)
        abort();
    at = strstr(text, member);
    if (at == NULL)
        abort();
    at += strlen(member);
    *at = *at == '0' ? '1' : '0';
    replace(s, key, text);
}

typedef enum Harm
{
    HARM_NONE,
    HARM_XXH128,
    HARM_CHECKSUM,
    HARM_INDEX,
    HARM_INDEX_GONE,
    HARM_PART_GONE,
    HARM_PART_SIZE,
    HARM_RECIPIENTS,
    HARM_ALGORITHM
} Harm;

static void
do_harm(Setup *s, Harm harm)
{
    char index[LAYOUT_KEY_MAX], part[LAYOUT_KEY_MAX];

    (void) backup_index_key("u1", 0, index);
    (void) backup_part_key("u1", 0, 0, part);
    switch (harm)
    {
        case HARM_NONE:
            break;
        case HARM_XXH128:
            replace_digest(s, index, "\"x\": \"");
            break;
        case HARM_CHECKSUM:
            replace_digest(s, index, "\"c\": \"");
            break;
        case HARM_INDEX:
            replace(s, index, "{}\n");
            break;
        case HARM_INDEX_GONE:
            replace(s, index, NULL);
            break;
        case HARM_PART_GONE:
            replace(s, part, NULL);
            break;
        case HARM_PART_SIZE:
            replace(s, part, "something else");
            break;
        case HARM_RECIPIENTS:
            (void) snprintf(
                s->run.header.key_ids, sizeof s->run.header.key_ids, "0123456789abcdef");
            break;
        case HARM_ALGORITHM:
            s->run.options.checksum = CHECKSUM_SHA256;
            break;
    }
}

static void
test_harm(void)
{
    static const struct
    {
        const char *label;
        Harm harm;
        bool first, second; /* whether the file of this bundle is taken */
    } harms[] = {
        {"nothing is wrong", HARM_NONE, true, true},
        {"a wrong XXH128", HARM_XXH128, false, true},
        {"a wrong checksum", HARM_CHECKSUM, false, true},
        {"an index that is none", HARM_INDEX, false, true},
        {"no index", HARM_INDEX_GONE, false, true},
        {"a part is gone", HARM_PART_GONE, false, true},
        {"a part of another size", HARM_PART_SIZE, false, true},
        {"encrypted for others", HARM_RECIPIENTS, false, false},
        {"another algorithm", HARM_ALGORITHM, false, false},
    };
    static const Made made[BACKUPS] = {
        {"u1", 1, NULL, {{A, "text", NULL, 0}, {B, "more text", NULL, 0}}, BACKUP_UNFINISHED}};

    for (size_t i = 0; i < ARRAY_COUNT(harms); i++)
    {
        Error err = {0};
        Setup s;

        setup_begin(&s, made);
        do_harm(&s, harms[i].harm);
        ok(resume_open(&s.run, &s.list, &s.resume, &err) == 0, "%s: no failure %s", harms[i].label,
           err.msg);
        ok(take(&s, &made[0].files[0]) == harms[i].first &&
               take(&s, &made[0].files[1]) == harms[i].second,
           "%s: nothing of it is taken", harms[i].label);
        setup_end(&s);
    }
}

int
main(void)
{
    log_open("test", LOG_ERROR, LOG_FORMAT_TEXT);
    test_taken();
    test_many();
    test_harm();
    return done_testing();
}
