/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * See parent.h.
 */
#include "walbackup/parent.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

#define PARENT_HINT "Make a full backup, or name an earlier one with --parent."

int
parent_check(
    const BackupHeader *parent, const BackupHeader *header, const TimelineHistory *history,
    Error *err)
{
    const TimelineEntry *entry = timeline_find(history, parent->tli);

    if (parent->system_identifier != header->system_identifier ||
        parent->pg_major != header->pg_major)
        return error_set(err, ERROR_CONFLICT, "backup \"%s\" is of another cluster", parent->label);
    if (entry == NULL || parent->stop_lsn > entry->end)
    {
        (void) error_set(
            err, ERROR_CONFLICT,
            "backup \"%s\" of timeline %" PRIu32 " is not of the server's history", parent->label,
            parent->tli);
        return error_hint(err, PARENT_HINT);
    }
    if (parent->data_checksums != header->data_checksums)
    {
        (void) error_set(
            err, ERROR_CONFLICT, "data checksums were switched %s since backup \"%s\"",
            header->data_checksums ? "on" : "off", parent->label);
        return error_hint(err, "Make a full backup.");
    }
    if (header->start_lsn != LSN_INVALID && parent->start_lsn >= header->start_lsn)
    {
        (void) error_set(
            err, ERROR_CONFLICT, "no checkpoint was made since backup \"%s\" began", parent->label);
        return error_hint(
            err, "On a standby the last restart point counts: try again after the next checkpoint "
                 "of the primary.");
    }
    /* what was read when we connected says nothing of where another timeline comes from */
    if (header->tli != 0 && history->entries[history->count - 1].tli != header->tli)
    {
        (void) error_set(
            err, ERROR_CONFLICT,
            "the server went from timeline %" PRIu32 " to %" PRIu32 " just now",
            history->entries[history->count - 1].tli, header->tli);
        return error_hint(err, "Run it again.");
    }
    /* its pages may be as new as its end, and would come into a cluster that is older */
    if (header->stop_lsn != LSN_INVALID && parent->stop_lsn > header->stop_lsn)
    {
        (void) error_set(
            err, ERROR_CONFLICT, "the backup ends before the earlier backup \"%s\" does",
            parent->label);
        return error_hint(err, "A standby has to catch up first.");
    }
    if (parent->chain_count + 1 > BACKUP_CHAIN_MAX)
    {
        (void) error_set(
            err, ERROR_CONFLICT, "backup \"%s\" has %zu backups in its chain", parent->label,
            parent->chain_count);
        return error_hint(err, "Make a full backup.");
    }
    return 0;
}

static int
parent_make_chain(const BackupHeader *parent, BackupHeader *header, Error *err)
{
    size_t count = parent->chain_count + 1;

    header->chain = calloc(count, sizeof *header->chain);
    if (header->chain == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < parent->chain_count; i++)
        memcpy(header->chain[i], parent->chain[i], sizeof header->chain[i]);
    memcpy(header->chain[count - 1], parent->label, sizeof header->chain[count - 1]);
    header->chain_count = count;
    return 0;
}

/* The one that was named. */
static int
parent_find_named(const BackupRun *run, const BackupList *list, const Backup **out, Error *err)
{
    const Backup *b = backup_list_find(list, run->options.parent);

    if (b == NULL || b->state == BACKUP_UNFINISHED)
        return error_set(
            err, ERROR_NOT_FOUND, "there is no backup \"%s\"%s", run->options.parent,
            b != NULL ? " that is complete" : "");
    if (b->state == BACKUP_DAMAGED)
    {
        *err = b->error;
        return error_wrap(err, "backup \"%s\" cannot be a parent", b->label);
    }
    if (b->chain_broken)
        return error_set(
            err, ERROR_CONFLICT, "backup \"%s\" cannot be a parent: its chain is broken", b->label);
    *out = b;
    return parent_check(&b->header, &run->header, &run->history, err);
}

/* The newest that fits. */
static int
parent_find_newest(const BackupRun *run, const BackupList *list, const Backup **out, Error *err)
{
    Error why = {0};

    for (size_t i = list->count; i-- > 0;)
    {
        const Backup *b = &list->items[i];

        if (b->state != BACKUP_COMPLETE || b->chain_broken)
            continue;
        if (parent_check(&b->header, &run->header, &run->history, &why) == 0)
        {
            *out = b;
            return 0;
        }
        log_write(LOG_INFO, "not the parent: %s", why.msg);
        /* what holds for the newest by this will hold for the older ones */
        if (b->header.data_checksums != run->header.data_checksums)
            break;
    }
    (void) error_set(
        err, ERROR_NOT_FOUND, "there is no backup that an incremental one could build on%s%s",
        why.kind != ERROR_NONE ? ": " : "", why.kind != ERROR_NONE ? why.msg : "");
    return error_hint(err, "Make a full backup first: walbackup full.");
}

int
parent_choose(BackupRun *run, const BackupList *list, Error *err)
{
    Deadline dl = deadline_after_ms(run->options.timeout_ms, run->cancel);
    const Backup *chosen = NULL;
    int rc = run->options.parent != NULL ? parent_find_named(run, list, &chosen, err)
                                         : parent_find_newest(run, list, &chosen, err);

    if (rc < 0)
        return -1;
    if (manifest_load(run->repo, chosen->label, &dl, &run->parent, err) < 0)
        return error_wrap(err, "could not read the manifest of backup \"%s\"", chosen->label);
    return parent_make_chain(&run->parent.header, &run->header, err);
}
