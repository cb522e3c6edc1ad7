/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What is stored before the manifest is; see stored.h.
 */
#include "walbackup/stored.h"

#include <stdlib.h>
#include <string.h>

#include "common/array.h"

#define STORED_HINT                                                                                \
    "Was this run suspended? \"walctl expire\" removes what has no manifest after a day. Run "     \
    "walbackup again."

typedef struct StoredPart
{
    uint64_t bytes;
    uint32_t owner; /* 0: the backup itself; else index + 1 in header->uses */
    uint32_t bundle, part;
    bool found;
} StoredPart;

typedef struct Stored
{
    const BackupHeader *header;
    StoredPart *parts; /* owned; by owner, bundle, part once they are all there */
    size_t count, cap;
    uint32_t owner; /* whose objects are listed */
    bool start;     /* its start object is there */
} Stored;

static void
stored_reset(Stored *s)
{
    free(s->parts);
    *s = (Stored){0};
}

static const char *
stored_label(const Stored *s, uint32_t owner)
{
    return owner == 0 ? s->header->label : s->header->uses[owner - 1];
}

static int
stored_note_part(void *ctx, const BackupPart *part, Error *err)
{
    Stored *s = ctx;
    StoredPart *parts = array_grow(s->parts, s->count, &s->cap, sizeof *parts, err);
    StoredPart one = {
        .bytes = part->stored_bytes, .bundle = part->owner_bundle, .part = part->part};

    if (parts == NULL)
        return -1;
    s->parts = parts;
    for (size_t i = 0; part->owner[0] != '\0' && i < s->header->uses_count; i++)
        if (strcmp(s->header->uses[i], part->owner) == 0)
            one.owner = (uint32_t) i + 1;
    s->parts[s->count++] = one;
    return 0;
}

static int
stored_compare(const void *a, const void *b)
{
    const StoredPart *left = a;
    const StoredPart *right = b;

    if (left->owner != right->owner)
        return left->owner < right->owner ? -1 : 1;
    if (left->bundle != right->bundle)
        return left->bundle < right->bundle ? -1 : 1;
    return (left->part > right->part) - (left->part < right->part);
}

static int
stored_note_object(void *ctx, const StoreEntry *entry, Error *err UNUSED)
{
    Stored *s = ctx;
    StoredPart want = {.owner = s->owner};
    StoredPart *found;
    BackupKey key;

    if (!backup_key_parse(entry->key, &key))
        return 0;
    if (key.kind == BACKUP_KEY_START)
        s->start = true;
    if (key.kind != BACKUP_KEY_PART || s->count == 0)
        return 0;
    want.bundle = key.bundle;
    want.part = key.part;
    found = bsearch(&want, s->parts, s->count, sizeof want, stored_compare);
    if (found != NULL)
        found->found = found->bytes == entry->bytes;
    return 0;
}

/* The start object goes last when a backup is removed: a part may be gone while it is there. */
static int
stored_check_owner(Stored *s, Repository *repo, int64_t timeout_ms, Error *err)
{
    char prefix[LAYOUT_KEY_MAX];
    StoreListOptions options = {.prefix = backup_prefix(stored_label(s, s->owner), prefix)};

    s->start = false;
    if (store_walk(repo->store, &options, timeout_ms, NULL, stored_note_object, s, err) < 0)
        return error_wrap(err, "could not see whether all parts are there");
    if (s->owner > 0 || s->start)
        return 0;
    (void) error_set(
        err, ERROR_CONFLICT, "object \"%s\" is not there any more",
        backup_start_key(s->header->label, prefix));
    return error_hint(err, STORED_HINT);
}

int
stored_check(
    Repository *repo, const BackupHeader *header, ManifestWriter *manifest,
    ChecksumAlgorithm checksum, int64_t timeout_ms, Error *err)
{
    static const ManifestHandlers handlers = {.part = stored_note_part};
    AUTO(stored_reset) Stored s = {.header = header};
    char key[LAYOUT_KEY_MAX];

    if (manifest_writer_replay(manifest, checksum, &handlers, &s, err) < 0)
        return -1;
    if (s.count > 1)
        qsort(s.parts, s.count, sizeof *s.parts, stored_compare);
    for (; s.owner <= header->uses_count; s.owner++)
        if (stored_check_owner(&s, repo, timeout_ms, err) < 0)
            return -1;
    for (size_t i = 0; i < s.count; i++)
    {
        const StoredPart *part = &s.parts[i];

        if (part->found)
            continue;
        (void) error_set(
            err, ERROR_CONFLICT, "object \"%s\" is not there any more, or of another size",
            backup_part_key(stored_label(&s, part->owner), part->bundle, part->part, key));
        return error_hint(err, STORED_HINT);
    }
    return 0;
}
