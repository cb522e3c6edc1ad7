/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Taking up what unfinished backups have stored; see resume.h.
 */
#include "walbackup/resume.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/fs.h"
#include "common/log.h"
#include "pg/incremental_file.h"

#define RESUME_NAMES_MAX 64 /* of owners and groups; more are not kept */
#define RESUME_LINES_MAX (256u * 1024u * 1024u)
#define RESUME_BUNDLES_MAX (BACKUP_BUNDLES_MAX / 2) /* as many are left for new ones */

typedef struct ResumeFile
{
    BackupFile line;
    char *path;      /* owned; line.path */
    uint32_t bundle; /* index */
    bool taken;
} ResumeFile;

typedef struct ResumeBundle
{
    size_t source;     /* index */
    uint32_t there;    /* its number in the backup that has it */
    BackupPart *parts; /* owned, with their frame_bytes */
    size_t part_count, part_cap;
    size_t file_count; /* taken */
} ResumeBundle;

/* A part as the store lists it. */
typedef struct ResumeObject
{
    uint32_t bundle, part;
    uint64_t bytes;
} ResumeObject;

/* An unfinished backup. */
typedef struct ResumeSource
{
    char label[BACKUP_LABEL_NAME_MAX];
    ResumeObject *objects; /* owned; by bundle and part */
    size_t object_count, object_cap;
    uint32_t *indexes; /* owned; numbers of bundles with an index */
    size_t index_count, index_cap;
    uint64_t bytes;    /* of its parts */
    size_t file_count; /* taken */
} ResumeSource;

struct Resume
{
    ChecksumAlgorithm checksum;
    ResumeSource *sources; /* owned; once it is open, those that have bundles */
    size_t source_count, source_cap;
    ResumeBundle *bundles; /* owned; those that can be used */
    size_t bundle_count, bundle_cap;
    ResumeFile *files; /* owned; by resume_compare_files */
    size_t file_count, file_cap;

    pthread_mutex_t lock; /* guards what is taken, and names */
    char *names[RESUME_NAMES_MAX];
    size_t name_count;
};

static void
resume_bundle_reset(ResumeBundle *bundle)
{
    union
    {
        const uint32_t *in;
        void *out; /* ours, allocated by resume_note_part */
    } frames;

    for (size_t i = 0; i < bundle->part_count; i++)
    {
        frames.in = bundle->parts[i].frame_bytes;
        free(frames.out);
    }
    free(bundle->parts);
    *bundle = (ResumeBundle){0};
}

static void
resume_file_reset(ResumeFile *file)
{
    backup_file_reset(&file->line);
    free(file->path);
}

static void
resume_source_reset(ResumeSource *source)
{
    free(source->objects);
    free(source->indexes);
    *source = (ResumeSource){0};
}

void
resume_free(Resume *resume)
{
    if (resume == NULL)
        return;
    for (size_t i = 0; i < resume->source_count; i++)
        resume_source_reset(&resume->sources[i]);
    for (size_t i = 0; i < resume->bundle_count; i++)
        resume_bundle_reset(&resume->bundles[i]);
    for (size_t i = 0; i < resume->file_count; i++)
        resume_file_reset(&resume->files[i]);
    for (size_t i = 0; i < resume->name_count; i++)
        free(resume->names[i]);
    free(resume->sources);
    free(resume->bundles);
    free(resume->files);
    (void) pthread_mutex_destroy(&resume->lock);
    free(resume);
}

static int
resume_new(ChecksumAlgorithm checksum, Resume **out, Error *err)
{
    Resume *r = calloc(1, sizeof *r);

    if (r == NULL)
        return error_nomem(err);
    if (pthread_mutex_init(&r->lock, NULL) != 0)
    {
        free(r);
        return error_nomem(err);
    }
    r->checksum = checksum;
    *out = r;
    return 0;
}

size_t
resume_count(const Resume *resume)
{
    return resume != NULL ? resume->source_count : 0;
}

const char *
resume_label(const Resume *resume, size_t i)
{
    assert(i < resume_count(resume));
    return resume->sources[i].label;
}

uint32_t
resume_bundles(const Resume *resume)
{
    return resume != NULL ? (uint32_t) resume->bundle_count : 0;
}

/* ---- who is fit ---- */

static bool
resume_is_young(const BackupList *list, const Backup *b)
{
    return list->store_now_us - b->newest_us < BACKUP_RESUMABLE_MS * 1000;
}

/* Whether a start object of those that are fit so far names it. */
static bool
resume_is_named(const BackupList *list, const bool *fit, const Backup *b)
{
    for (size_t i = 0; i < list->count; i++)
        for (size_t k = 0; fit[i] && k < BACKUP_RESUMES_MAX; k++)
            if (strcmp(list->items[i].resumes[k], b->label) == 0)
                return true;
    return false;
}

static int
resume_add_source(Resume *r, const char *label, Error *err)
{
    ResumeSource *sources =
        array_grow(r->sources, r->source_count, &r->source_cap, sizeof *sources, err);

    if (sources == NULL)
        return -1;
    r->sources = sources;
    sources[r->source_count] = (ResumeSource){0};
    memcpy(sources[r->source_count++].label, label, sizeof sources->label);
    return 0;
}

static int
resume_find_sources(Resume *r, const BackupList *list, Error *err)
{
    AUTO(free_text) char *memory = calloc(MAX(list->count, 1), sizeof(bool));
    bool *fit = (bool *) (void *) memory;
    bool again = true;

    if (fit == NULL)
        return error_nomem(err);
    while (again)
    {
        again = false;
        for (size_t i = list->count; i-- > 0;)
        {
            const Backup *b = &list->items[i];

            if (fit[i] || b->state != BACKUP_UNFINISHED ||
                (!resume_is_young(list, b) && !resume_is_named(list, fit, b)))
                continue;
            fit[i] = true;
            again = true;
            if (resume_add_source(r, b->label, err) < 0)
                return -1;
        }
    }
    return 0;
}

/* ---- what is there ---- */

static int
resume_note_object(void *ctx, const StoreEntry *entry, Error *err)
{
    ResumeSource *s = ctx;
    BackupKey key;

    if (!backup_key_parse(entry->key, &key) || strcmp(key.label, s->label) != 0)
        return 0;
    if (key.kind == BACKUP_KEY_INDEX)
    {
        uint32_t *indexes =
            array_grow(s->indexes, s->index_count, &s->index_cap, sizeof *indexes, err);

        if (indexes == NULL)
            return -1;
        s->indexes = indexes;
        indexes[s->index_count++] = key.bundle;
    }
    else if (key.kind == BACKUP_KEY_PART)
    {
        ResumeObject *objects =
            array_grow(s->objects, s->object_count, &s->object_cap, sizeof *objects, err);

        if (objects == NULL)
            return -1;
        s->objects = objects;
        objects[s->object_count++] =
            (ResumeObject){.bundle = key.bundle, .part = key.part, .bytes = entry->bytes};
        s->bytes += entry->bytes;
    }
    return 0;
}

static int
resume_compare_objects(const void *a, const void *b)
{
    const ResumeObject *left = a;
    const ResumeObject *right = b;

    if (left->bundle != right->bundle)
        return left->bundle < right->bundle ? -1 : 1;
    return (left->part > right->part) - (left->part < right->part);
}

static int
resume_list_source(BackupRun *run, ResumeSource *s, Error *err)
{
    char prefix[LAYOUT_KEY_MAX];
    StoreListOptions options = {.prefix = backup_prefix(s->label, prefix)};

    if (store_walk(
            run->repo->store, &options, run->options.timeout_ms, run->cancel, resume_note_object, s,
            err) < 0)
        return error_wrap(err, "could not see what backup \"%s\" has stored", s->label);
    if (s->object_count > 1)
        qsort(s->objects, s->object_count, sizeof *s->objects, resume_compare_objects);
    return 0;
}

/* Somebody may have begun to remove it. */
static bool
resume_is_whole(const ResumeSource *s, const ResumeBundle *bundle)
{
    for (size_t i = 0; i < bundle->part_count; i++)
    {
        ResumeObject want = {.bundle = bundle->there, .part = bundle->parts[i].part};
        const ResumeObject *found =
            bsearch(&want, s->objects, s->object_count, sizeof *s->objects, resume_compare_objects);

        if (found == NULL || found->bytes != bundle->parts[i].stored_bytes)
            return false;
    }
    return bundle->part_count > 0;
}

/* ---- an index ---- */

typedef struct ResumeIndex
{
    Resume *resume;
    ResumeBundle bundle;
    size_t first_file; /* of resume->files */
} ResumeIndex;

static int
resume_note_file(void *ctx, const BackupFile *file, Error *err)
{
    ResumeIndex *index = ctx;
    Resume *r = index->resume;
    ResumeFile *files;
    ResumeFile *one;
    char *path;

    if (file->kind == BACKUP_FILE_FOLDER || file->stored_bytes == 0 ||
        (file->kind == BACKUP_FILE_INCREMENTAL && file->stored_bytes == incremental_file_bytes(0)))
        return 0;
    files = array_grow(r->files, r->file_count, &r->file_cap, sizeof *files, err);
    if (files == NULL)
        return -1;
    r->files = files;
    path = strdup(file->path);
    if (path == NULL)
        return error_nomem(err);
    one = &files[r->file_count++];
    /* nothing else of it is of use */
    *one = (ResumeFile){
        .line =
            {.kind = file->kind,
             .path = path,
             .stored_bytes = file->stored_bytes,
             .offset = file->offset},
        .path = path};
    memcpy(one->line.checksum, file->checksum, sizeof one->line.checksum);
    memcpy(one->line.xxh128, file->xxh128, sizeof one->line.xxh128);
    return 0;
}

static int
resume_note_part(void *ctx, const BackupPart *part, Error *err)
{
    ResumeBundle *bundle = &((ResumeIndex *) ctx)->bundle;
    BackupPart *parts =
        array_grow(bundle->parts, bundle->part_count, &bundle->part_cap, sizeof *parts, err);
    uint32_t *frames;

    if (parts == NULL)
        return -1;
    bundle->parts = parts;
    frames = malloc(MAX(part->frame_count, 1) * sizeof *frames);
    if (frames == NULL)
        return error_nomem(err);
    memcpy(frames, part->frame_bytes, part->frame_count * sizeof *frames);
    parts[bundle->part_count] = *part;
    parts[bundle->part_count].frame_bytes = frames;
    bundle->part_count++;
    return 0;
}

/* What makes a bundle one that cannot be used, and nothing else. */
static bool
resume_is_lost(const Error *err)
{
    return err->kind == ERROR_CORRUPT || err->kind == ERROR_NOT_FOUND;
}

/* Whether those who can open what we write can open it. */
static int
resume_check_keys(BackupRun *run, const char *label, uint32_t bundle, bool *same, Error *err)
{
    Deadline dl = deadline_after_ms(run->options.timeout_ms, run->cancel);
    char key[LAYOUT_KEY_MAX];
    ObjectLabel part;

    *same = false;
    if (object_peek(run->repo->store, backup_part_key(label, bundle, 0, key), &dl, &part, err) < 0)
        return resume_is_lost(err) ? 0 : -1;
    *same = strcmp(part.key_ids, run->header.key_ids) == 0;
    return 0;
}

static void
resume_index_reset(ResumeIndex *index)
{
    Resume *r = index->resume;

    resume_bundle_reset(&index->bundle);
    while (r->file_count > index->first_file)
        resume_file_reset(&r->files[--r->file_count]);
}

/* Reads the index of one bundle; what cannot be used is left out. */
static int
resume_read_index(BackupRun *run, Resume *r, size_t source, uint32_t bundle, Error *err)
{
    static const ManifestHandlers handlers = {.file = resume_note_file, .part = resume_note_part};
    const ResumeSource *s = &r->sources[source];
    AUTO(resume_index_reset)
    ResumeIndex index = {
        .resume = r, .bundle = {.source = source, .there = bundle}, .first_file = r->file_count};
    Deadline dl = deadline_after_ms(run->options.timeout_ms, run->cancel);
    ResumeBundle *bundles;
    bool same;

    if (manifest_read_index(
            run->repo, s->label, bundle, run->options.checksum, &dl, &handlers, &index, err) < 0)
        return resume_is_lost(err) ? 0 : -1; /* of another checksum, damaged, or removed */
    if (r->file_count == index.first_file || !resume_is_whole(s, &index.bundle))
        return 0;
    if (resume_check_keys(run, s->label, bundle, &same, err) < 0)
        return -1;
    if (!same)
        return 0;
    bundles = array_grow(r->bundles, r->bundle_count, &r->bundle_cap, sizeof *bundles, err);
    if (bundles == NULL)
        return -1;
    r->bundles = bundles;
    for (size_t i = index.first_file; i < r->file_count; i++)
        r->files[i].bundle = (uint32_t) r->bundle_count;
    bundles[r->bundle_count++] = index.bundle;
    index.bundle = (ResumeBundle){0};
    index.first_file = r->file_count;
    return 0;
}

static int
resume_read_source(BackupRun *run, Resume *r, size_t source, Error *err)
{
    const ResumeSource *s = &r->sources[source];

    for (size_t i = 0; i < s->index_count && r->bundle_count < RESUME_BUNDLES_MAX; i++)
        if (resume_read_index(run, r, source, s->indexes[i], err) < 0)
            return error_wrap(err, "could not read what backup \"%s\" has stored", s->label);
    return 0;
}

/* Those with most bytes first. */
static int
resume_compare_sources(const void *a, const void *b)
{
    const ResumeSource *left = a;
    const ResumeSource *right = b;

    if (left->bytes != right->bytes)
        return left->bytes < right->bytes ? 1 : -1;
    return strcmp(left->label, right->label);
}

/* What is the same for a content that was found and one that is looked for. */
static int
resume_compare_contents(const BackupFile *left, const BackupFile *right)
{
    int order = strcmp(left->path, right->path);

    if (order != 0)
        return order;
    if (left->kind != right->kind)
        return left->kind < right->kind ? -1 : 1;
    return (left->stored_bytes > right->stored_bytes) - (left->stored_bytes < right->stored_bytes);
}

static int
resume_compare_files(const void *a, const void *b)
{
    const ResumeFile *left = a;
    const ResumeFile *right = b;
    int order = resume_compare_contents(&left->line, &right->line);

    return order != 0 ? order : (left->bundle > right->bundle) - (left->bundle < right->bundle);
}

/* Reads all sources, and keeps those that have bundles of use. */
static int
resume_load(BackupRun *run, Resume *r, Error *err)
{
    size_t kept = 0;

    for (size_t i = 0; i < r->source_count; i++)
        if (resume_list_source(run, &r->sources[i], err) < 0)
            return -1;
    if (r->source_count > 1)
        qsort(r->sources, r->source_count, sizeof *r->sources, resume_compare_sources);
    for (size_t i = 0; i < r->source_count && kept < BACKUP_RESUMES_MAX; i++)
    {
        size_t before = r->bundle_count;
        ResumeSource source = r->sources[i];

        r->sources[i] = r->sources[kept];
        r->sources[kept] = source;
        if (resume_read_source(run, r, kept, err) < 0)
            return -1;
        if (r->bundle_count > before)
            kept++;
    }
    while (r->source_count > kept)
        resume_source_reset(&r->sources[--r->source_count]);
    if (r->file_count > 1)
        qsort(r->files, r->file_count, sizeof *r->files, resume_compare_files);
    return 0;
}

int
resume_open(BackupRun *run, const BackupList *list, Resume **out, Error *err)
{
    AUTO(resume_freep) Resume *r = NULL;

    *out = NULL;
    if (resume_new(run->options.checksum, &r, err) < 0 || resume_find_sources(r, list, err) < 0 ||
        resume_load(run, r, err) < 0)
        return -1;
    if (r->bundle_count > 0)
        *out = steal(r);
    return 0;
}

/* ---- taking up ---- */

/* The first that has the path, kind and length of file; resume->file_count if there is none. */
static size_t
resume_find(const Resume *resume, const BackupFile *file)
{
    size_t low = 0;
    size_t high = resume->file_count;

    while (low < high)
    {
        size_t middle = low + (high - low) / 2;

        if (resume_compare_contents(&resume->files[middle].line, file) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < resume->file_count && resume_compare_contents(&resume->files[low].line, file) != 0)
        return resume->file_count;
    return low;
}

bool
resume_has(const Resume *resume, const BackupFile *file)
{
    return resume != NULL && resume_find(resume, file) < resume->file_count;
}

/* Names of owners come again and again. Lock held. NULL when memory is out. */
static const char *
resume_keep_name(Resume *r, const char *name)
{
    for (size_t i = 0; i < r->name_count; i++)
        if (strcmp(r->names[i], name) == 0)
            return r->names[i];
    if (r->name_count == RESUME_NAMES_MAX)
        return "";
    r->names[r->name_count] = strdup(name);
    return r->names[r->name_count] != NULL ? r->names[r->name_count++] : NULL;
}

/* Lock held. */
static int
resume_take_file(Resume *resume, ResumeFile *found, const BackupFile *file, Error *err)
{
    BackupFile *line = &found->line;

    line->mode = file->mode;
    line->modified_s = file->modified_s;
    line->bytes = file->bytes;
    line->truncation_blocks = file->truncation_blocks;
    line->user = resume_keep_name(resume, file->user);
    line->group = resume_keep_name(resume, file->group);
    if (line->user == NULL || line->group == NULL)
        return error_nomem(err);
    if (block_set_add_set(&line->blocks, &file->blocks, err) < 0 ||
        block_set_add_set(&line->damaged, &file->damaged, err) < 0)
        return -1;
    found->taken = true;
    resume->bundles[found->bundle].file_count++;
    resume->sources[resume->bundles[found->bundle].source].file_count++;
    return 0;
}

int
resume_take(
    Resume *resume, const BackupFile *file, const FileDigest *digest, bool *taken, Error *err)
{
    int rc = 0;

    *taken = false;
    if (resume == NULL)
        return 0;
    (void) pthread_mutex_lock(&resume->lock);
    for (size_t i = resume_find(resume, file);
         rc == 0 && !*taken && i < resume->file_count &&
         resume_compare_contents(&resume->files[i].line, file) == 0;
         i++)
    {
        ResumeFile *found = &resume->files[i];

        /* a path comes once in a backup */
        if (found->taken || !file_digest_matches(digest, resume->checksum, &found->line))
            continue;
        rc = resume_take_file(resume, found, file, err);
        *taken = rc == 0;
    }
    (void) pthread_mutex_unlock(&resume->lock);
    return rc;
}

/* ---- into the manifest ---- */

static int
resume_compare_offsets(const void *a, const void *b)
{
    const ResumeFile *left = *(const ResumeFile *const *) a;
    const ResumeFile *right = *(const ResumeFile *const *) b;

    if (left->bundle != right->bundle)
        return left->bundle < right->bundle ? -1 : 1;
    return (left->line.offset > right->line.offset) - (left->line.offset < right->line.offset);
}

/* Files from *next on that are of this bundle, then its parts. */
static int
resume_add_bundle(
    Resume *r, uint32_t number, ResumeFile *const *taken, size_t count, size_t *next,
    BackupRun *run, Error *err)
{
    const ResumeBundle *bundle = &r->bundles[number];
    AUTO(strbuf_reset) StrBuf lines;

    strbuf_init(&lines, RESUME_LINES_MAX);
    for (; *next < count && taken[*next]->bundle == number; (*next)++)
    {
        taken[*next]->line.bundle = number;
        manifest_format_file(&taken[*next]->line, run->options.checksum, &lines);
    }
    for (size_t i = 0; bundle->file_count > 0 && i < bundle->part_count; i++)
    {
        BackupPart part = bundle->parts[i];

        part.bundle = number;
        part.owner = r->sources[bundle->source].label;
        part.owner_bundle = bundle->there;
        manifest_format_part(&part, &lines);
    }
    if (strbuf_finish(&lines, err) < 0)
        return -1;
    return lines.len > 0 ? manifest_writer_add(run->manifest, strbuf_text(&lines), lines.len, err)
                         : 0;
}

static int
resume_note_uses(const Resume *r, BackupHeader *header, Error *err)
{
    header->uses = calloc(MAX(r->source_count, 1), sizeof *header->uses);
    if (header->uses == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < r->source_count; i++)
    {
        const ResumeSource *s = &r->sources[i];

        if (s->file_count == 0)
            continue;
        log_write(
            LOG_INFO, "took up %zu file%s that backup \"%s\" had stored", s->file_count,
            s->file_count == 1 ? "" : "s", s->label);
        memcpy(header->uses[header->uses_count++], s->label, sizeof header->uses[0]);
    }
    return 0;
}

int
resume_finish(Resume *resume, BackupRun *run, Error *err)
{
    size_t most = resume != NULL ? resume->file_count : 0;
    AUTO(free_text) char *memory = reallocarray(NULL, MAX(most, 1), sizeof(ResumeFile *));
    ResumeFile **taken = (ResumeFile **) (void *) memory;
    size_t count = 0, next = 0;

    if (taken == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < most; i++)
        if (resume->files[i].taken)
            taken[count++] = &resume->files[i];
    if (count == 0)
        return 0;
    qsort(taken, count, sizeof(void *), resume_compare_offsets);
    for (uint32_t i = 0; i < resume->bundle_count; i++)
        if (resume_add_bundle(resume, i, taken, count, &next, run, err) < 0)
            return -1;
    return resume_note_uses(resume, &run->header, err);
}
