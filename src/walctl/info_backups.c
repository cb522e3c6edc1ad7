/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walctl info: the backups, and from when to when the cluster can be recovered.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "repo/retention.h"
#include "walctl/info.h"

bool
info_backup_consistent(const Info *info, const Backup *backup)
{
    return backup->state == BACKUP_COMPLETE &&
           retention_backup_consistent(&backup->header, &info->inv);
}

/* What keeps a backup from being restored; NULL: nothing that can be told by names. */
static const char *
info_backup_fault(const Info *info, const Backup *backup)
{
    switch (backup->state)
    {
        case BACKUP_UNFINISHED:
            return "unfinished";
        case BACKUP_DAMAGED:
            return "manifest damaged";
        case BACKUP_COMPLETE:
            break;
    }
    if (backup->chain_broken)
        return "a backup that it builds on is missing";
    if (!info_backup_consistent(info, backup))
        return "WAL that it needs is missing";
    return NULL;
}

static bool
info_backup_abandoned(const Info *info, const Backup *backup)
{
    return info->backups.store_now_us - backup->newest_us > BACKUP_ABANDONED_MS * 1000;
}

/* ---- text ---- */

static void
info_print_complete(const Info *info, const Backup *backup)
{
    const BackupHeader *h = &backup->header;
    char started[40], full[WAL_REPORT_TEXT_MAX], stored[WAL_REPORT_TEXT_MAX];
    char start[LSN_TEXT_BYTES], stop[LSN_TEXT_BYTES];
    const char *fault = info_backup_fault(info, backup);
    int64_t seconds = (h->stopped_us - h->started_us) / 1000000;

    (void) printf(
        "    %s%s%s, of a %s, took %" PRId64 " s\n", h->incremental ? "incremental on " : "full",
        h->incremental ? h->chain[h->chain_count - 1] : "", h->source_stream ? ", streamed" : "",
        h->from_standby ? "standby" : "primary", seconds);
    (void) printf(
        "    %s to %s on timeline %" PRIu32 ", begun %s\n",
        lsn_format(h->start_lsn, start, sizeof start), lsn_format(h->stop_lsn, stop, sizeof stop),
        h->tli, info_time(h->started_us, started, sizeof started));
    (void) printf(
        "    %" PRIu64 " files, %s; stored %s", h->file_count,
        wal_report_format_bytes(h->full_bytes, full),
        wal_report_format_bytes(h->stored_bytes, stored));
    if (h->stored_bytes > 0)
        (void) printf(
            ", compressed %.1f times", (double) h->plain_bytes / (double) h->stored_bytes);
    (void) printf("%s\n", h->key_ids[0] != '\0' ? ", encrypted" : "");
    if (h->damaged_blocks > 0)
        (void) printf(
            "    DAMAGED in the server: %" PRIu64 " blocks had a wrong checksum\n",
            h->damaged_blocks);
    if (fault != NULL)
        (void) printf("    CANNOT BE RESTORED: %s\n", fault);
}

static void
info_print_backup(const Info *info, const Backup *backup)
{
    char when[40];

    (void) printf("  %s", backup->label);
    if (backup->pinned)
        (void) printf(
            ", pinned %s%s", backup->pinned_until_us == 0 ? "for ever" : "until ",
            backup->pinned_until_us == 0
                ? ""
                : clock_format_utc(backup->pinned_until_us, when, sizeof when));
    (void) printf("\n");
    switch (backup->state)
    {
        case BACKUP_COMPLETE:
            info_print_complete(info, backup);
            break;
        case BACKUP_UNFINISHED:
            (void) printf(
                "    %s; its newest object was stored %s\n",
                info_backup_abandoned(info, backup) ? "abandoned: \"walctl expire\" removes it"
                                                    : "unfinished: running, or failed",
                info_time(backup->newest_us, when, sizeof when));
            break;
        case BACKUP_DAMAGED:
            (void) printf("    its manifest is DAMAGED: %s\n", backup->error.msg);
            break;
    }
}

void
info_print_backups(const Info *info)
{
    char text[256];

    (void) printf("\nbackups\n");
    for (size_t i = 0; i < info->backups.count; i++)
        info_print_backup(info, &info->backups.items[i]);
    if (info->backups.count == 0)
        (void) printf("  none: make one with \"walbackup full\"\n");
    (void) printf("\nrecoverable\n");
    for (size_t i = 0; i < info->windows.count; i++)
    {
        const RecoveryWindow *w = &info->windows.items[i];

        (void) printf(
            "  %s on timeline %" PRIu32 "%s\n", recovery_format_window(w, text), w->tli,
            w->current ? ", to the newest WAL"
            : w->dead  ? ", on a dead branch"
                       : "");
    }
    if (info->windows.count == 0)
        (void) printf("  nothing\n");
}

/* ---- JSON ---- */

static json_t *
info_json_labels(char (*labels)[BACKUP_LABEL_NAME_MAX], size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        (void) json_array_append_new(list, json_string(labels[i]));
    return list;
}

static json_t *
info_json_backup(const Info *info, const Backup *backup)
{
    static const char *const states[] = {
        [BACKUP_COMPLETE] = "complete",
        [BACKUP_UNFINISHED] = "unfinished",
        [BACKUP_DAMAGED] = "damaged",
    };
    const BackupHeader *h = &backup->header;
    const char *fault = info_backup_fault(info, backup);
    json_t *doc = json_pack(
        "{s:s, s:s, s:b, s:o, s:b, s:o}", "label", backup->label, "state", states[backup->state],
        "pinned", (int) backup->pinned, "pinned_until", walctl_json_time(backup->pinned_until_us),
        "restorable", fault == NULL, "fault",
        fault != NULL ? walctl_json_text(fault) : json_null());
    json_t *more = NULL;

    switch (backup->state)
    {
        case BACKUP_COMPLETE:
            more = json_pack(
                "{s:s, s:o, s:o, s:b, s:s, s:I, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, "
                "s:s, s:b, s:s, s:s}",
                "kind", h->incremental ? "incremental" : "full", "chain",
                info_json_labels(h->chain, h->chain_count), "uses",
                info_json_labels(h->uses, h->uses_count), "from_standby", (int) h->from_standby,
                "source", h->source_stream ? "stream" : "local", "timeline", (json_int_t) h->tli,
                "start_lsn", walctl_json_lsn(h->start_lsn), "stop_lsn",
                walctl_json_lsn(h->stop_lsn), "started", walctl_json_time(h->started_us), "stopped",
                walctl_json_time(h->stopped_us), "files", (json_int_t) h->file_count, "full_bytes",
                (json_int_t) h->full_bytes, "plain_bytes", (json_int_t) h->plain_bytes,
                "stored_bytes", (json_int_t) h->stored_bytes, "parts", (json_int_t) h->part_count,
                "damaged_blocks", (json_int_t) h->damaged_blocks, "codec", h->codec, "encrypted",
                h->key_ids[0] != '\0', "host", h->host, "created_by", h->created_by);
            break;
        case BACKUP_UNFINISHED:
            more = json_pack(
                "{s:o, s:b}", "newest_object", walctl_json_time(backup->newest_us), "abandoned",
                (int) info_backup_abandoned(info, backup));
            break;
        case BACKUP_DAMAGED:
            more = json_pack("{s:o}", "error", walctl_json_text(backup->error.msg));
            break;
    }
    if (doc == NULL || more == NULL || json_object_update(doc, more) < 0)
    {
        json_decref(doc);
        doc = NULL;
    }
    json_decref(more);
    return doc;
}

json_t *
info_json_backups(const Info *info)
{
    json_t *list = json_array();

    for (size_t i = 0; i < info->backups.count; i++)
        (void) json_array_append_new(list, info_json_backup(info, &info->backups.items[i]));
    return list;
}

json_t *
info_json_windows(const Info *info)
{
    json_t *list = json_array();

    for (size_t i = 0; i < info->windows.count; i++)
    {
        const RecoveryWindow *w = &info->windows.items[i];

        (void) json_array_append_new(
            list, json_pack(
                      "{s:I, s:s, s:s, s:o, s:o, s:o, s:o, s:b, s:b}", "timeline",
                      (json_int_t) w->tli, "first_backup", info->backups.items[w->backup].label,
                      "last_backup", info->backups.items[w->last_backup].label, "start_lsn",
                      walctl_json_lsn(w->start_lsn), "end_lsn", walctl_json_lsn(w->end_lsn),
                      "start", walctl_json_time(w->start_us), "end", walctl_json_time(w->end_us),
                      "current", (int) w->current, "dead_branch", (int) w->dead));
    }
    return list;
}
