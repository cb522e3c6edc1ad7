/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A manifest in memory; see manifest.h.
 *
 * Files, and with them texts, blocks and lengths of frames, lie one behind the other in memory that
 * need not be resident (common/bulk.h). Paths are found by a table of places in the array of files,
 * open addressing, hashed with a number that nobody can know who writes manifests.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <xxhash.h>

#include "common/array.h"
#include "repo/manifest_internal.h"

#define TEXT_ALIGN _Alignof(uint64_t)
#define LOAD_FILES_MAX ((size_t) 1 << 31) /* the table has 32-bit numbers */

/* Of another path nearly always the tag tells, without a look at the path. */
typedef struct LoadSlot
{
    uint32_t tag;   /* of the hash what does not tell the slot */
    uint32_t place; /* in files, counted from 1; 0: free */
} LoadSlot;

struct ManifestStorage
{
    Bulk files;
    Bulk texts;
    Bulk table_memory;
    char *label; /* in texts: the header's would move with the Manifest */
    uint64_t seed;
    LoadSlot *table;
    size_t table_count; /* a power of two */
};

/* While it is loaded. */
typedef struct ManifestLoad
{
    Manifest *manifest;
    size_t part_cap;
} ManifestLoad;

/* ---- texts ---- */

static void *
text_copy(struct ManifestStorage *s, const void *data, size_t bytes, Error *err)
{
    void *copy = bulk_add(&s->texts, (bytes + TEXT_ALIGN - 1) / TEXT_ALIGN * TEXT_ALIGN, err);

    if (copy != NULL)
        memcpy(copy, data, bytes);
    return copy;
}

/* *text becomes a copy: of nothing, "", or what the file before had, when it is the same. */
static int
text_copy_owner(struct ManifestStorage *s, const char **text, const char *before, Error *err)
{
    if (strcmp(*text, before) == 0)
        *text = before;
    else
        *text = text_copy(s, *text, strlen(*text) + 1, err);
    return *text != NULL ? 0 : -1;
}

static int
text_copy_blocks(struct ManifestStorage *s, BlockSet *set, Error *err)
{
    if (set->count == 0)
    {
        *set = (BlockSet){0};
        return 0;
    }
    set->cap = set->count;
    set->ranges = text_copy(s, set->ranges, set->count * sizeof *set->ranges, err);
    return set->ranges != NULL ? 0 : -1;
}

/* ---- the table of paths ---- */

/* Where path is, or where it may be put, with *tag. */
static LoadSlot *
load_slot(const Manifest *m, const char *path, uint32_t *tag)
{
    struct ManifestStorage *s = m->storage;
    uint64_t hash = XXH3_64bits_withSeed(path, strlen(path), s->seed);
    size_t at = (size_t) hash & (s->table_count - 1);

    *tag = (uint32_t) (hash >> 32);
    bulk_look(&s->table_memory);
    while (s->table[at].place != 0 &&
           (s->table[at].tag != *tag ||
            strcmp(manifest_file(m, s->table[at].place - 1)->path, path) != 0))
        at = (at + 1) & (s->table_count - 1);
    return &s->table[at];
}

/* Room for one more, at most three quarters full. */
static int
load_grow_table(Manifest *m, Error *err)
{
    struct ManifestStorage *s = m->storage;
    Bulk memory = {.dir = s->table_memory.dir, .memory = BULK_TABLE_BYTES};
    size_t want = MAX((size_t) 1024, 2 * s->table_count);

    if (4 * (m->file_count + 1) <= 3 * s->table_count)
        return 0;

    LoadSlot *table = bulk_add(&memory, want * sizeof *table, err);

    if (table == NULL)
    {
        bulk_reset(&memory);
        return -1;
    }
    bulk_reset(&s->table_memory);
    s->table_memory = memory;
    s->table = table;
    s->table_count = want;
    for (size_t i = 0; i < m->file_count; i++)
    {
        uint32_t tag;
        LoadSlot *slot = load_slot(m, manifest_file(m, i)->path, &tag);

        *slot = (LoadSlot){.tag = tag, .place = (uint32_t) i + 1};
    }
    return 0;
}

/* ---- loading ---- */

static int
load_header(void *ctx, const BackupHeader *header, Error *err)
{
    Manifest *m = ((ManifestLoad *) ctx)->manifest;

    m->storage->label = text_copy(m->storage, header->label, strlen(header->label) + 1, err);
    if (m->storage->label == NULL)
        return -1;
    return backup_header_copy(header, &m->header, err);
}

static int
load_file(void *ctx, const BackupFile *file, Error *err)
{
    ManifestLoad *load = ctx;
    Manifest *m = load->manifest;
    const BackupFile *before = m->file_count > 0 ? &m->files[m->file_count - 1] : NULL;
    BackupFile copy = *file;

    if (m->file_count >= LOAD_FILES_MAX)
        return error_set(
            err, ERROR_CORRUPT, "the manifest of backup \"%s\" has more than %zu files",
            m->header.label, LOAD_FILES_MAX);
    if (load_grow_table(m, err) < 0)
        return -1;

    uint32_t tag;
    LoadSlot *slot = load_slot(m, file->path, &tag);

    if (slot->place != 0)
    {
        /* a folder may be told of by more than one */
        if (file->kind == BACKUP_FILE_FOLDER &&
            m->files[slot->place - 1].kind == BACKUP_FILE_FOLDER)
            return 0;
        return error_set(
            err, ERROR_CORRUPT, "the manifest of backup \"%s\" has file \"%s\" twice",
            m->header.label, file->path);
    }
    copy.path = text_copy(m->storage, file->path, strlen(file->path) + 1, err);
    if (copy.path == NULL ||
        text_copy_owner(m->storage, &copy.user, before != NULL ? before->user : "", err) < 0 ||
        text_copy_owner(m->storage, &copy.group, before != NULL ? before->group : "", err) < 0 ||
        text_copy_blocks(m->storage, &copy.blocks, err) < 0 ||
        text_copy_blocks(m->storage, &copy.damaged, err) < 0)
        return -1;

    BackupFile *added = bulk_add(&m->storage->files, sizeof *added, err);

    if (added == NULL)
        return -1;
    *added = copy;
    m->files = (BackupFile *) (void *) m->storage->files.data;
    *slot = (LoadSlot){.tag = tag, .place = (uint32_t) ++m->file_count};
    return 0;
}

/* A text of the owner that stays: one of the header's list, or ours of its label. */
static const char *
load_owner(const Manifest *m, const char *owner)
{
    for (size_t i = 0; i < m->header.uses_count; i++)
        if (strcmp(m->header.uses[i], owner) == 0)
            return m->header.uses[i];
    return m->storage->label;
}

static int
load_part(void *ctx, const BackupPart *part, Error *err)
{
    ManifestLoad *load = ctx;
    Manifest *m = load->manifest;
    BackupPart copy = *part;
    BackupPart *parts = array_grow(m->parts, m->part_count, &load->part_cap, sizeof *parts, err);

    if (parts == NULL)
        return -1;
    m->parts = parts;
    copy.owner = load_owner(m, part->owner);
    copy.frame_bytes = text_copy(
        m->storage, part->frame_bytes, part->frame_count * sizeof *part->frame_bytes, err);
    if (copy.frame_bytes == NULL)
        return -1;
    m->parts[m->part_count++] = copy;
    return 0;
}

static int
load_compare_parts(const void *a, const void *b)
{
    const BackupPart *left = a;
    const BackupPart *right = b;

    if (left->bundle != right->bundle)
        return left->bundle > right->bundle ? 1 : -1;
    return (left->part > right->part) - (left->part < right->part);
}

/* Gives back what doubling took too much; that this fails does no harm. */
static void *
load_shrink(void *items, size_t count, size_t item_bytes)
{
    void *shrunk = count > 0 ? realloc(items, count * item_bytes) : NULL;

    return shrunk != NULL ? shrunk : items;
}

static int
load_storage_new(const char *scratch, struct ManifestStorage **out, Error *err)
{
    struct ManifestStorage *s = calloc(1, sizeof *s);

    if (s == NULL)
        return error_nomem(err);
    s->files.dir = s->texts.dir = s->table_memory.dir = scratch;
    if (getrandom(&s->seed, sizeof s->seed, 0) != sizeof s->seed)
    {
        free(s);
        return error_sys(err, "could not get random bytes");
    }
    *out = s;
    return 0;
}

int
manifest_load(Repository *repo, const char *label, const Deadline *dl, Manifest *out, Error *err)
{
    static const ManifestHandlers handlers = {
        .header = load_header, .file = load_file, .part = load_part};
    AUTO(manifest_reset) Manifest m = {0};
    ManifestLoad load = {.manifest = &m};

    if (load_storage_new(repo->scratch, &m.storage, err) < 0)
        return -1;
    if (manifest_read(repo, label, dl, &handlers, &load, err) < 0)
        return -1;
    m.parts = load_shrink(m.parts, m.part_count, sizeof *m.parts);
    if (m.part_count > 1)
        qsort(m.parts, m.part_count, sizeof *m.parts, load_compare_parts);

    *out = m;
    m = (Manifest){0};
    return 0;
}

void
manifest_reset(Manifest *manifest)
{
    struct ManifestStorage *s = manifest->storage;

    backup_header_reset(&manifest->header);
    free(manifest->parts);
    if (s != NULL)
    {
        bulk_reset(&s->files);
        bulk_reset(&s->texts);
        bulk_reset(&s->table_memory);
    }
    free(s);
    *manifest = (Manifest){0};
}

/* ---- finding ---- */

const BackupFile *
manifest_file(const Manifest *manifest, size_t i)
{
    assert(i < manifest->file_count);
    bulk_look(&manifest->storage->files);
    bulk_look(&manifest->storage->texts);
    return &manifest->files[i];
}

const BackupFile *
manifest_find(const Manifest *manifest, const char *path)
{
    if (manifest->file_count == 0)
        return NULL;

    uint32_t tag;
    const LoadSlot *slot = load_slot(manifest, path, &tag);

    return slot->place != 0 ? manifest_file(manifest, slot->place - 1) : NULL;
}

/* Whether the part begins at or before this frame of this bundle. */
static bool
load_part_before(const BackupPart *part, uint32_t bundle, uint64_t frame)
{
    if (part->bundle != bundle)
        return part->bundle < bundle;
    return part->first_frame <= frame;
}

const BackupPart *
manifest_find_part(const Manifest *manifest, uint32_t bundle, uint64_t offset)
{
    uint64_t frame = offset / BACKUP_FRAME_BYTES;
    size_t low = 0;
    size_t high = manifest->part_count;

    while (low < high)
    {
        size_t middle = low + (high - low) / 2;

        if (load_part_before(&manifest->parts[middle], bundle, frame))
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return NULL;

    const BackupPart *part = &manifest->parts[low - 1];
    uint64_t end =
        (uint64_t) (part->first_frame + (uint64_t) part->frame_count - 1) * BACKUP_FRAME_BYTES +
        part->last_plain_bytes;

    return part->bundle == bundle && offset < end ? part : NULL;
}
