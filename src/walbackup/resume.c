/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Taking up what a failed backup has stored; see resume.h.
 */
#include "walbackup/resume.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/fs.h"
#include "common/log.h"

#define RESUME_NAMES_MAX 64 /* of owners and groups; more are not kept */
#define RESUME_LINES_MAX (256u * 1024u * 1024u)

typedef struct ResumeFile
{
    BackupFile line; /* path owned; the first member */
    uint32_t bundle; /* index */
    bool taken;
} ResumeFile;

typedef struct ResumeBundle
{
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

struct Resume
{
    char label[BACKUP_LABEL_NAME_MAX];
    ResumeBundle *bundles; /* owned; those that can be used */
    size_t bundle_count, bundle_cap;
    ResumeFile *files; /* owned; by path */
    size_t file_count, file_cap;
    ResumeObject *objects; /* owned; in the order of their names, while it is opened */
    size_t object_count, object_cap;
    uint32_t *indexes; /* owned; numbers of bundles with an index */
    size_t index_count, index_cap;

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
    union
    {
        const char *in;
        void *out; /* ours, allocated by resume_note_file */
    } path = {.in = file->line.path};

    free(path.out);
    backup_file_reset(&file->line);
}

void
resume_free(Resume *resume)
{
    if (resume == NULL)
        return;
    for (size_t i = 0; i < resume->bundle_count; i++)
        resume_bundle_reset(&resume->bundles[i]);
    for (size_t i = 0; i < resume->file_count; i++)
        resume_file_reset(&resume->files[i]);
    for (size_t i = 0; i < resume->name_count; i++)
        free(resume->names[i]);
    free(resume->bundles);
    free(resume->files);
    free(resume->objects);
    free(resume->indexes);
    (void) pthread_mutex_destroy(&resume->lock);
    free(resume);
}

const char *
resume_label(const Resume *resume)
{
    return resume->label;
}

uint32_t
resume_bundles(const Resume *resume)
{
    return resume != NULL ? (uint32_t) resume->bundle_count : 0;
}

/* ---- what is there ---- */

static int
resume_note_object(void *ctx, const StoreEntry *entry, Error *err)
{
    Resume *r = ctx;
    BackupKey key;

    if (!backup_key_parse(entry->key, &key) || strcmp(key.label, r->label) != 0)
        return 0;
    if (key.kind == BACKUP_KEY_INDEX)
    {
        uint32_t *indexes =
            array_grow(r->indexes, r->index_count, &r->index_cap, sizeof *indexes, err);

        if (indexes == NULL)
            return -1;
        r->indexes = indexes;
        indexes[r->index_count++] = key.bundle;
    }
    else if (key.kind == BACKUP_KEY_PART)
    {
        ResumeObject *objects =
            array_grow(r->objects, r->object_count, &r->object_cap, sizeof *objects, err);

        if (objects == NULL)
            return -1;
        r->objects = objects;
        objects[r->object_count++] =
            (ResumeObject){.bundle = key.bundle, .part = key.part, .bytes = entry->bytes};
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

/* Somebody may have begun to remove it. */
static bool
resume_is_whole(const Resume *r, const ResumeBundle *bundle)
{
    for (size_t i = 0; i < bundle->part_count; i++)
    {
        ResumeObject want = {.bundle = bundle->there, .part = bundle->parts[i].part};
        const ResumeObject *found =
            bsearch(&want, r->objects, r->object_count, sizeof *r->objects, resume_compare_objects);

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
    char *path;

    if (file->kind != BACKUP_FILE_WHOLE)
        return 0;
    files = array_grow(r->files, r->file_count, &r->file_cap, sizeof *files, err);
    if (files == NULL)
        return -1;
    r->files = files;
    path = strdup(file->path);
    if (path == NULL)
        return error_nomem(err);
    files[r->file_count] = (ResumeFile){
        .line = {
            .kind = BACKUP_FILE_WHOLE,
            .path = path,
            .bytes = file->bytes,
            .stored_bytes = file->stored_bytes,
            .offset = file->offset}};
    memcpy(
        files[r->file_count].line.checksum, file->checksum,
        sizeof files[r->file_count].line.checksum);
    memcpy(files[r->file_count].line.xxh128, file->xxh128, sizeof files[r->file_count].line.xxh128);
    r->file_count++;
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

/* Whether those who can open what we write can open it. */
static int
resume_check_keys(BackupRun *run, const Resume *r, uint32_t bundle, bool *same, Error *err)
{
    Deadline dl = deadline_after_ms(run->options.timeout_ms, run->cancel);
    char key[LAYOUT_KEY_MAX];
    ObjectLabel label;

    if (object_peek(run->repo->store, backup_part_key(r->label, bundle, 0, key), &dl, &label, err) <
        0)
        return -1;
    *same = strcmp(label.key_ids, run->header.key_ids) == 0;
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
resume_read_index(BackupRun *run, Resume *r, uint32_t bundle, Error *err)
{
    static const ManifestHandlers handlers = {.file = resume_note_file, .part = resume_note_part};
    AUTO(resume_index_reset)
    ResumeIndex index = {.resume = r, .bundle = {.there = bundle}, .first_file = r->file_count};
    Deadline dl = deadline_after_ms(run->options.timeout_ms, run->cancel);
    ResumeBundle *bundles;
    bool same;

    if (manifest_read_index(
            run->repo, r->label, bundle, run->options.checksum, &dl, &handlers, &index, err) < 0)
        return err->kind == ERROR_CORRUPT ? 0 : -1; /* of another checksum, or damaged */
    if (!resume_is_whole(r, &index.bundle))
        return 0;
    if (resume_check_keys(run, r, bundle, &same, err) < 0)
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
resume_compare_files(const void *a, const void *b)
{
    return strcmp(((const ResumeFile *) a)->line.path, ((const ResumeFile *) b)->line.path);
}

static int
resume_load(BackupRun *run, Resume *r, Error *err)
{
    Deadline dl = deadline_after_ms(run->options.timeout_ms, run->cancel);
    char prefix[LAYOUT_KEY_MAX];
    StoreListOptions options = {.prefix = backup_prefix(r->label, prefix)};

    if (store_list(run->repo->store, &options, resume_note_object, r, &dl, err) < 0)
        return -1;
    if (r->object_count > 1)
        qsort(r->objects, r->object_count, sizeof *r->objects, resume_compare_objects);
    for (size_t i = 0; i < r->index_count; i++)
        if (resume_read_index(run, r, r->indexes[i], err) < 0)
            return -1;
    if (r->file_count > 1)
        qsort(r->files, r->file_count, sizeof *r->files, resume_compare_files);
    return 0;
}

int
resume_open(BackupRun *run, const BackupList *list, Resume **out, Error *err)
{
    const Backup *newest = NULL;
    AUTO(resume_freep) Resume *r = NULL;

    *out = NULL;
    for (size_t i = 0; i < list->count; i++)
    {
        const Backup *b = &list->items[i];

        if (b->state == BACKUP_UNFINISHED &&
            list->store_now_us - b->newest_us < BACKUP_RESUMABLE_MS * 1000 &&
            (newest == NULL || b->newest_us > newest->newest_us))
            newest = b;
    }
    if (newest == NULL)
        return 0;
    r = calloc(1, sizeof *r);
    if (r == NULL)
        return error_nomem(err);
    if (pthread_mutex_init(&r->lock, NULL) != 0)
    {
        free(steal(r));
        return error_nomem(err);
    }
    memcpy(r->label, newest->label, sizeof r->label);
    if (resume_load(run, r, err) < 0)
        return error_wrap(err, "could not see what backup \"%s\" has stored", newest->label);
    if (r->bundle_count > 0)
        *out = steal(r);
    return 0;
}

/* ---- taking up ---- */

const BackupFile *
resume_find(const Resume *resume, const char *path, uint64_t bytes)
{
    ResumeFile want = {.line = {.path = path}};
    const ResumeFile *found =
        resume == NULL || resume->file_count == 0
            ? NULL
            : bsearch(&want, resume->files, resume->file_count, sizeof want, resume_compare_files);

    return found != NULL && found->line.bytes == bytes ? &found->line : NULL;
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

int
resume_take(Resume *resume, const BackupFile *entry, const BackupFile *file, Error *err)
{
    ResumeFile want = {.line = {.path = entry->path}};
    ResumeFile *taken;
    int rc;

    (void) pthread_mutex_lock(&resume->lock);
    taken = bsearch(&want, resume->files, resume->file_count, sizeof want, resume_compare_files);
    assert(taken != NULL && &taken->line == entry);
    taken->line.mode = file->mode;
    taken->line.modified_s = file->modified_s;
    taken->line.user = resume_keep_name(resume, file->user);
    taken->line.group = resume_keep_name(resume, file->group);
    rc = taken->line.user == NULL || taken->line.group == NULL
             ? error_nomem(err)
             : block_set_add_set(&taken->line.damaged, &file->damaged, err);
    if (rc == 0 && !taken->taken)
    {
        taken->taken = true;
        resume->bundles[taken->bundle].file_count++;
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
        part.owner = r->label;
        part.owner_bundle = bundle->there;
        manifest_format_part(&part, &lines);
    }
    if (strbuf_finish(&lines, err) < 0)
        return -1;
    return lines.len > 0 ? manifest_writer_add(run->manifest, strbuf_text(&lines), lines.len, err)
                         : 0;
}

static int
resume_note_use(const Resume *r, BackupHeader *header, Error *err)
{
    header->uses = calloc(1, sizeof *header->uses);
    if (header->uses == NULL)
        return error_nomem(err);
    memcpy(header->uses[0], r->label, sizeof header->uses[0]);
    header->uses_count = 1;
    return 0;
}

int
resume_finish(Resume *resume, BackupRun *run, Error *err)
{
    AUTO(free_text)
    char *memory = reallocarray(NULL, MAX(resume->file_count, 1), sizeof(ResumeFile *));
    ResumeFile **taken = (ResumeFile **) (void *) memory;
    size_t count = 0, next = 0;

    if (taken == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < resume->file_count; i++)
        if (resume->files[i].taken)
            taken[count++] = &resume->files[i];
    if (count == 0)
        return 0;
    qsort(taken, count, sizeof(void *), resume_compare_offsets);
    for (uint32_t i = 0; i < resume->bundle_count; i++)
        if (resume_add_bundle(resume, i, taken, count, &next, run, err) < 0)
            return -1;
    log_write(LOG_INFO, "took up %zu files that backup \"%s\" had stored", count, resume->label);
    return resume_note_use(resume, &run->header, err);
}
