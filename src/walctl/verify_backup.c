/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walctl verify: backups. A task is a bundle: its parts are fetched and checked one after the
 * other, and each file in it is compared with the digests that the manifest has of it. One part and
 * one frame are in memory at a time.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repo/bundle_read.h"
#include "repo/file_digest.h"
#include "repo/retention.h"
#include "walctl/verify.h"

/* ---- the files of a bundle, as its bytes pass by ---- */

typedef struct VerifyFiles
{
    const Manifest *manifest;
    const BackupFile **files; /* of the bundle, by offset; owned */
    size_t count;
    size_t next;            /* the file that the next byte is of, or that comes behind it */
    uint64_t at;            /* position in the tar archive */
    bool skipped;           /* bytes of the file at next are missing: it is not judged */
    FileDigester *digester; /* owned */
    uint64_t wrong;         /* files with another digest */
    const char *first_wrong;
} VerifyFiles;

static int
verify_files_compare(const void *a, const void *b)
{
    const BackupFile *left = *(const BackupFile *const *) a;
    const BackupFile *right = *(const BackupFile *const *) b;

    return (left->offset > right->offset) - (left->offset < right->offset);
}

static void
verify_files_reset(VerifyFiles *vf)
{
    free(vf->files);
    file_digester_free(vf->digester);
    *vf = (VerifyFiles){0};
}

static int
verify_files_begin(VerifyFiles *vf, Error *err)
{
    vf->skipped = false;
    return file_digester_begin(vf->digester, err);
}

static int
verify_files_init(VerifyFiles *vf, const Manifest *manifest, uint32_t bundle, Error *err)
{
    *vf = (VerifyFiles){.manifest = manifest};
    vf->files = calloc(manifest->file_count + 1, sizeof(void *));
    if (vf->files == NULL)
        return error_nomem(err);
    if (file_digester_new(manifest->header.checksum, &vf->digester, err) < 0)
        return -1;
    for (size_t i = 0; i < manifest->file_count; i++)
    {
        const BackupFile *file = manifest_file(manifest, i);

        if (file->kind != BACKUP_FILE_FOLDER && file->bundle == bundle)
            vf->files[vf->count++] = file;
    }
    qsort(vf->files, vf->count, sizeof(void *), verify_files_compare);
    return verify_files_begin(vf, err);
}

static int
verify_files_end_one(VerifyFiles *vf, Error *err)
{
    const BackupFile *file = vf->files[vf->next];
    FileDigest digest;

    if (file_digester_end(vf->digester, &digest, err) < 0)
        return -1;
    if (!vf->skipped && !file_digest_matches(&digest, vf->manifest->header.checksum, file) &&
        vf->wrong++ == 0)
        vf->first_wrong = file->path;
    vf->next++;
    return verify_files_begin(vf, err);
}

/* The next bytes of the archive; data NULL: they could not be read. */
static int
verify_files_pass(VerifyFiles *vf, const uint8_t *data, uint64_t len, Error *err)
{
    uint64_t end = vf->at + len;

    while (vf->next < vf->count)
    {
        const BackupFile *file = vf->files[vf->next];
        uint64_t from = MAX(file->offset, vf->at);
        uint64_t to = MIN(file->offset + file->stored_bytes, end);

        if (file->offset >= end && file->stored_bytes > 0)
            break;
        if (to > from && data == NULL)
            vf->skipped = true;
        else if (
            to > from &&
            file_digester_add(vf->digester, data + (from - vf->at), (size_t) (to - from), err) < 0)
            return -1;
        if (file->offset + file->stored_bytes > end)
            break;
        if (verify_files_end_one(vf, err) < 0)
            return -1;
    }
    vf->at = end;
    return 0;
}

/* ---- one bundle ---- */

/* Which files have bytes in [start, end) of the archive. */
static void
verify_describe_files(
    const VerifyFiles *vf, uint64_t start, uint64_t end, const VerifyBackup *backup, char *buf,
    size_t len)
{
    const char *first = NULL;
    uint64_t count = 0;

    for (size_t i = 0; i < vf->count; i++)
    {
        const BackupFile *file = vf->files[i];

        if (file->offset >= end || file->offset + file->stored_bytes <= start)
            continue;
        if (count++ == 0)
            first = file->path;
    }
    if (count == 0)
        (void) snprintf(buf, len, "no file has bytes in it; %.199s", backup->dependents);
    else
        (void) snprintf(
            buf, len, "%" PRIu64 " %s lost, the first is %.120s; %.199s", count,
            count == 1 ? "file is" : "files are", first, backup->dependents);
}

static void
verify_part_failed(
    Verify *v, const VerifyTask *t, const VerifyFiles *vf, const BackupPart *part, uint64_t bytes,
    const Error *err)
{
    VerifyFinding f = {0};

    (void) backup_part_key(part->owner, part->owner_bundle, part->part, f.key);
    f.verdict = err->kind == ERROR_NOT_FOUND ? VERIFY_MISSING : verify_judge(v, f.key, err);
    (void) snprintf(f.message, sizeof f.message, "%.600s", err->msg);
    if (f.verdict == VERIFY_UNREAD || f.verdict == VERIFY_LOCKED)
        verify_describe(&f, err);
    else
        verify_describe_files(
            vf, vf->at, vf->at + bytes, t->backup, f.consequence, sizeof f.consequence);
    verify_add_finding(v, &f);
}

/* Every part of the bundle, in order. */
static int
verify_read_bundle(
    Verify *v, const VerifyTask *t, BundleReader *reader, VerifyFiles *vf, Error *err)
{
    const Manifest *m = &t->backup->manifest;

    for (size_t i = 0; i < m->part_count && !verify_stopped(v); i++)
    {
        const BackupPart *part = &m->parts[i];
        uint64_t bytes =
            (uint64_t) (part->frame_count - 1) * BACKUP_FRAME_BYTES + part->last_plain_bytes;
        Deadline dl = deadline_after_ms(v->timeout_ms, NULL);
        Error why = {0};
        bool good = true;

        if (part->bundle != t->bundle)
            continue;
        if (bundle_reader_fetch(reader, part, &dl, &why) < 0)
        {
            verify_part_failed(v, t, vf, part, bytes, &why);
            if (verify_files_pass(vf, NULL, bytes, err) < 0)
                return -1;
            continue;
        }
        for (uint32_t n = 0; n < part->frame_count; n++)
        {
            uint64_t expected =
                n + 1 < part->frame_count ? BACKUP_FRAME_BYTES : part->last_plain_bytes;
            const uint8_t *data;
            size_t len;

            if (good && bundle_reader_frame(reader, n, &data, &len, &why) < 0)
            {
                verify_part_failed(v, t, vf, part, expected, &why);
                good = false;
            }
            if (verify_files_pass(vf, good ? data : NULL, expected, err) < 0)
                return -1;
        }
        if (good)
            verify_count_good(v, part->stored_bytes, bytes);
    }
    return 0;
}

void
verify_run_bundle(Verify *v, const VerifyTask *t)
{
    AUTO(bundle_reader_freep) BundleReader *reader = NULL;
    AUTO(verify_files_reset) VerifyFiles vf = {0};
    const Manifest *m = &t->backup->manifest;
    VerifyFinding f = {.verdict = VERIFY_DAMAGED};
    Error err = {0};

    (void) backup_manifest_key(m->header.label, f.key);
    if (verify_files_init(&vf, m, t->bundle, &err) < 0 ||
        bundle_reader_new(v->repo, &reader, &err) < 0 ||
        verify_read_bundle(v, t, reader, &vf, &err) < 0)
    {
        f.verdict = verify_judge(v, f.key, &err);
        verify_describe(&f, &err);
        verify_add_finding(v, &f);
        return;
    }
    if (verify_stopped(v))
        return;
    if (vf.next < vf.count && vf.wrong++ == 0)
        vf.first_wrong = vf.files[vf.next]->path;
    if (vf.wrong == 0)
        return;
    (void) snprintf(
        f.message, sizeof f.message,
        "%" PRIu64 " %s in bundle %" PRIu32 " not what the manifest says, the first is %.400s",
        vf.wrong, vf.wrong == 1 ? "file is" : "files are", t->bundle, vf.first_wrong);
    (void) snprintf(f.consequence, sizeof f.consequence, "%.250s", t->backup->dependents);
    verify_add_finding(v, &f);
}

/* ---- which backups ---- */

/* Whether label is b itself or in its chain. */
static bool
verify_needs(const Backup *b, const char *label)
{
    bool needs = strcmp(b->label, label) == 0;

    for (size_t i = 0; !needs && b->state == BACKUP_COMPLETE && i < b->header.chain_count; i++)
        needs = strcmp(b->header.chain[i], label) == 0;
    return needs;
}

static bool
verify_backup_wanted(const Verify *v, const Backup *b)
{
    const Backup *chosen;

    if (b->state == BACKUP_UNFINISHED)
        return false;
    if (v->choice.label == NULL)
        return v->choice.since_us == 0 || b->state == BACKUP_DAMAGED ||
               b->header.stopped_us >= v->choice.since_us;
    chosen = backup_list_find(v->list, v->choice.label);
    return chosen != NULL && verify_needs(chosen, b->label);
}

uint64_t
verify_backup_bytes(const Verify *v)
{
    uint64_t bytes = 0;

    for (size_t i = 0; v->choice.backups && i < v->list->count; i++)
        if (v->list->items[i].state == BACKUP_COMPLETE &&
            verify_backup_wanted(v, &v->list->items[i]))
            bytes += v->list->items[i].header.stored_bytes;
    return bytes;
}

/* "backup A and 3 incrementals on it cannot be restored" */
static void
verify_describe_dependents(const Verify *v, const char *label, char *buf, size_t len)
{
    uint64_t count = 0;

    for (size_t i = 0; i < v->list->count; i++)
        if (v->list->items[i].state == BACKUP_COMPLETE &&
            strcmp(v->list->items[i].label, label) != 0 && verify_needs(&v->list->items[i], label))
            count++;
    if (count == 0)
        (void) snprintf(buf, len, "backup %s cannot be restored whole", label);
    else
        (void) snprintf(
            buf, len, "backup %s and the %" PRIu64 " that %s on it cannot be restored whole", label,
            count, count == 1 ? "builds" : "build");
}

static void
verify_backup_finding(Verify *v, const Backup *b, VerifyVerdict verdict, const char *message)
{
    VerifyFinding f = {.verdict = verdict};

    (void) backup_manifest_key(b->label, f.key);
    (void) snprintf(f.message, sizeof f.message, "%.600s", message);
    verify_describe_dependents(v, b->label, f.consequence, sizeof f.consequence);
    if (b->state == BACKUP_COMPLETE)
    {
        f.tli = b->header.tli;
        f.start = b->header.start_lsn;
        f.end = b->header.stop_lsn;
    }
    verify_add_finding(v, &f);
}

/* Whether b lies on tli, or on a timeline that left tli at or behind lsn. */
static bool
verify_follows(const Verify *v, const Backup *b, TimelineId tli, Lsn lsn)
{
    const WalTimeline *t = wal_inventory_find(v->inv, b->header.tli);
    const TimelineEntry *entry;

    if (b->header.tli == tli || t == NULL)
        return b->header.tli == tli;
    entry = timeline_find(&t->history, tli);
    return entry != NULL && entry->end >= lsn;
}

void
verify_describe_wal_loss(const Verify *v, VerifyFinding *f)
{
    const Backup *lost = NULL, *next = NULL;
    uint64_t more = 0;
    size_t used = strlen(f->consequence);
    char when[40];

    for (size_t i = 0; i < v->list->count; i++)
    {
        const Backup *b = &v->list->items[i];

        if (b->state != BACKUP_COMPLETE)
            continue;
        if (b->header.tli == f->tli && b->header.start_lsn < f->end &&
            b->header.stop_lsn > f->start)
        {
            if (lost == NULL)
                lost = b;
            else
                more++;
        }
        else if (
            b->header.start_lsn >= f->end && !b->chain_broken &&
            verify_follows(v, b, f->tli, f->end) &&
            (next == NULL || b->header.start_lsn < next->header.start_lsn))
            next = b;
    }
    if (next != NULL)
        used += (size_t) snprintf(
            f->consequence + used, sizeof f->consequence - used, "; the first one is %s, of %s",
            next->label, clock_format_utc(next->header.stopped_us, when, sizeof when));
    else
        used += (size_t) snprintf(
            f->consequence + used, sizeof f->consequence - used, "; there is none");
    if (lost != NULL && more == 0)
        (void) snprintf(
            f->consequence + used, sizeof f->consequence - used, "; backup %s cannot be restored",
            lost->label);
    else if (lost != NULL)
        (void) snprintf(
            f->consequence + used, sizeof f->consequence - used,
            "; backup %s and %" PRIu64 " more cannot be restored", lost->label, more);
}

/* A task for each bundle that was chosen. */
static int
verify_submit_bundles(Verify *v, VerifyBackup *backup, VerifySubmitFn submit, void *ctx)
{
    const Manifest *m = &backup->manifest;

    for (size_t i = 0; i < m->part_count; i++)
    {
        const BackupPart *part = &m->parts[i];
        VerifyTask task = {.kind = VERIFY_BUNDLE, .backup = backup, .bundle = part->bundle};

        if (part->part != 0)
            continue;
        (void) backup_index_key(m->header.label, part->bundle, task.key);
        if (!verify_chosen(v, task.key, 0))
            continue;
        (void) atomic_fetch_add(&backup->refs, 1);
        submit(ctx, &task);
    }
    return 0;
}

static int
verify_list_backup(Verify *v, const Backup *b, VerifySubmitFn submit, void *ctx, Error *err)
{
    VerifyTask last = {0};
    VerifyBackup *backup;
    Deadline dl = deadline_after_ms(v->timeout_ms, NULL);
    char message[BACKUP_LABEL_NAME_MAX + 64];
    Error why = {0};
    int rc;

    if (b->state == BACKUP_DAMAGED)
    {
        verify_backup_finding(v, b, VERIFY_DAMAGED, b->error.msg);
        return 0;
    }
    if (b->chain_broken)
    {
        (void) snprintf(
            message, sizeof message, "backup \"%s\", which it builds on, is missing or damaged",
            b->broken_by);
        verify_backup_finding(v, b, VERIFY_MISSING, message);
    }
    if (!retention_backup_consistent(&b->header, v->inv))
        verify_backup_finding(v, b, VERIFY_MISSING, "WAL from its start to its stop is missing");
    backup = calloc(1, sizeof *backup);
    if (backup == NULL)
        return error_nomem(err);
    /* one reference is held here until all tasks were handed out */
    atomic_init(&backup->refs, 1);
    last.backup = backup;
    verify_describe_dependents(v, b->label, backup->dependents, sizeof backup->dependents);
    rc = manifest_load(v->repo, b->label, &dl, &backup->manifest, &why);
    if (rc == 0)
        rc = verify_submit_bundles(v, backup, submit, ctx);
    else if (why.kind == ERROR_CORRUPT || why.kind == ERROR_NOT_FOUND)
    {
        verify_backup_finding(
            v, b, why.kind == ERROR_CORRUPT ? VERIFY_DAMAGED : VERIFY_MISSING, why.msg);
        rc = 0;
    }
    else
        *err = why;
    verify_task_reset(&last);
    return rc;
}

int
verify_list_backups(Verify *v, VerifySubmitFn submit, void *ctx, Error *err)
{
    for (size_t i = 0; i < v->list->count && !verify_stopped(v); i++)
        if (verify_backup_wanted(v, &v->list->items[i]) &&
            verify_list_backup(v, &v->list->items[i], submit, ctx, err) < 0)
            return -1;
    return 0;
}
