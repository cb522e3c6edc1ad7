/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What is stored before the manifest is; see stored.h.
 */
#include "walbackup/stored.h"

#include <string.h>

#include "repo/part_check.h"

#define STORED_HINT                                                                                \
    "Was this run suspended? \"walctl expire\" removes what has no manifest after a day. Run "     \
    "walbackup again."
#define STORED_JOBS 4

typedef struct Stored
{
    const BackupHeader *header;
    PartCheck check;
} Stored;

static void
stored_reset(Stored *s)
{
    part_check_reset(&s->check);
}

static int
stored_note_part(void *ctx, const BackupPart *part, Error *err)
{
    Stored *s = ctx;
    const char *owner = s->header->label;

    for (size_t i = 0; part->owner[0] != '\0' && i < s->header->uses_count; i++)
        if (strcmp(s->header->uses[i], part->owner) == 0)
            owner = s->header->uses[i];
    return part_check_add(&s->check, owner, part, err);
}

int
stored_check(
    Repository *repo, const BackupHeader *header, ManifestWriter *manifest,
    ChecksumAlgorithm checksum, int64_t timeout_ms, Error *err)
{
    static const ManifestHandlers handlers = {.part = stored_note_part};
    AUTO(stored_reset) Stored s = {.header = header};
    const PartCheckItem *bad;
    char key[LAYOUT_KEY_MAX];

    if (manifest_writer_replay(manifest, checksum, &handlers, &s, err) < 0 ||
        part_check_run(&s.check, repo, header->label, timeout_ms, STORED_JOBS, NULL, err) < 0)
        return -1;
    bad = part_check_first_bad(&s.check, NULL);
    /* the start object goes last when a backup is removed: a part may be gone while it is there */
    if (bad != NULL)
        (void) error_set(
            err, ERROR_CONFLICT, "object \"%s\" is not there any more, or of another size",
            backup_part_key(bad->owner, bad->bundle, bad->part, key));
    else if (!s.check.has_start)
        (void) error_set(
            err, ERROR_CONFLICT, "object \"%s\" is not there any more",
            backup_start_key(header->label, key));
    else
        return 0;
    return error_hint(err, STORED_HINT);
}
