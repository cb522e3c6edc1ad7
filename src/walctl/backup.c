/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walctl backup delete: removes one backup and what is built on it, after it has shown what that
 * means.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "repo/recovery.h"
#include "walctl/expire.h"

/* What is asked for, and what it would do. */
typedef struct Deletion
{
    Expire x;
    size_t backup;
    bool *doomed;    /* owned; of each backup of the list */
    BackupList rest; /* its items owned, what they point to not */
    RecoveryWindows before, after;
    bool last; /* nothing restorable is left */
} Deletion;

static void
deletion_reset(Deletion *d)
{
    recovery_windows_reset(&d->before);
    recovery_windows_reset(&d->after);
    free(d->rest.items);
    free(d->doomed);
    expire_reset(&d->x);
    *d = (Deletion){0};
}

static bool
deletion_is_restorable(const Deletion *d, const Backup *b)
{
    return b->state == BACKUP_COMPLETE && !b->chain_broken &&
           retention_backup_consistent(&b->header, &d->x.inv);
}

static int
deletion_think(Deletion *d, Error *err)
{
    const BackupList *list = &d->x.list;
    size_t *moved = calloc(list->count, sizeof *moved);
    bool had = false, has = false;
    int rc = -1;

    d->doomed = calloc(list->count, sizeof *d->doomed);
    d->rest.items = calloc(list->count, sizeof *d->rest.items);
    if (moved == NULL || d->doomed == NULL || d->rest.items == NULL)
        (void) error_nomem(err);
    else
        rc = 0;
    if (rc == 0)
        expire_mark_children(list, d->backup, d->doomed);
    for (size_t i = 0; rc == 0 && i < list->count; i++)
    {
        bool good = deletion_is_restorable(d, &list->items[i]);

        had = had || good;
        if (d->doomed[i])
            continue;
        has = has || good;
        moved[i] = d->rest.count;
        d->rest.items[d->rest.count++] = list->items[i];
    }
    for (size_t i = 0; rc == 0 && i < d->rest.count; i++)
        if (d->rest.items[i].parent < list->count)
            d->rest.items[i].parent = moved[d->rest.items[i].parent];
    free(moved);
    if (rc < 0)
        return -1;
    d->rest.store_now_us = list->store_now_us;
    d->last = had && !has;
    if (recovery_windows_make(list, &d->x.inv, &d->before, err) < 0 ||
        recovery_windows_make(&d->rest, &d->x.inv, &d->after, err) < 0)
        return -1;
    return 0;
}

/* Some are never removed; others only by force. */
static int
deletion_check(const Deletion *d, bool force, Error *err)
{
    const BackupList *list = &d->x.list;

    for (size_t i = 0; i < list->count; i++)
    {
        const Backup *b = &list->items[i];

        if (b->state == BACKUP_UNFINISHED && (d->x.plan.reasons[i] & RETENTION_RUNNING) != 0)
        {
            const Backup *needed = backup_list_find(list, b->made_on);

            if (d->doomed[i])
                return error_set(
                    err, ERROR_CONFLICT, "backup \"%s\" is perhaps running, or taken up by one",
                    b->label);
            if (needed != NULL && d->doomed[needed - list->items])
                return error_set(
                    err, ERROR_CONFLICT, "backup \"%s\" is running and is made on \"%s\"", b->label,
                    needed->label);
        }
        if (d->doomed[i] && (d->x.plan.reasons[i] & RETENTION_PIN) != 0 && !force)
        {
            (void) error_set(err, ERROR_CONFLICT, "backup \"%s\" is pinned", b->label);
            return error_hint(err, "Unpin it first, or use --force.");
        }
    }
    if (d->last && !force)
    {
        (void) error_set(
            err, ERROR_CONFLICT, "without backup \"%s\" nothing could be restored any more",
            list->items[d->backup].label);
        return error_hint(err, "Make another backup first, or use --force.");
    }
    return 0;
}

/* ---- showing it ---- */

static void
deletion_print_windows(const char *title, const RecoveryWindows *windows)
{
    char text[256];

    (void) printf("%s\n", title);
    if (windows->count == 0)
        (void) printf("  nothing\n");
    for (size_t i = 0; i < windows->count; i++)
        (void) printf(
            "  timeline %" PRIu32 ": %s\n", windows->items[i].tli,
            recovery_format_window(&windows->items[i], text));
}

static void
deletion_print(const Deletion *d)
{
    char text[64];

    (void) printf("backups to remove\n");
    for (size_t i = 0; i < d->x.list.count; i++)
    {
        const Backup *b = &d->x.list.items[i];
        int64_t us = walctl_backup_time(b);

        if (d->doomed[i])
            (void) printf(
                "  %-11s  %-27s  %s%s\n", walctl_backup_kind(b),
                us != 0 ? clock_format_utc(us, text, sizeof text) : "at an unknown time", b->label,
                i != d->backup ? ", which is built on it" : "");
    }
    deletion_print_windows("can be restored now", &d->before);
    deletion_print_windows("can be restored then", &d->after);
    if ((d->x.plan.reasons[d->backup] & RETENTION_PITR) != 0)
        (void) printf("pitr of [retention] is not kept without it\n");
    (void) fflush(stdout);
}

static json_t *
deletion_json_windows(const RecoveryWindows *windows)
{
    json_t *list = json_array();

    for (size_t i = 0; i < windows->count; i++)
    {
        const RecoveryWindow *w = &windows->items[i];

        (void) json_array_append_new(
            list,
            json_pack(
                "{s:I, s:o, s:o, s:o, s:o}", "timeline", (json_int_t) w->tli, "start",
                walctl_json_time(w->start_us), "end", walctl_json_time(w->end_us), "start_lsn",
                walctl_json_lsn(w->start_lsn), "end_lsn", walctl_json_lsn(w->end_lsn)));
    }
    return list;
}

static json_t *
deletion_json(const Deletion *d, bool dry_run)
{
    json_t *labels = json_array();

    for (size_t i = 0; i < d->x.list.count; i++)
        if (d->doomed[i])
            (void) json_array_append_new(labels, json_string(d->x.list.items[i].label));
    return json_pack(
        "{s:b, s:o, s:o, s:o, s:o, s:I, s:I}", "dry_run", (int) dry_run, "backups", labels,
        "windows_before", deletion_json_windows(&d->before), "windows_after",
        deletion_json_windows(&d->after), "removed", walctl_json_removed(&d->x), "not_removable",
        (json_int_t) d->x.denied, "failed", (json_int_t) d->x.failed);
}

/* On a terminal a person says yes; elsewhere --yes does. */
static int
deletion_confirm(const Walctl *ctl, bool *yes, Error *err)
{
    char answer[16];

    *yes = cli_value(&ctl->cli, "yes") != NULL;
    if (*yes)
        return 0;
    if (ctl->json || isatty(STDIN_FILENO) != 1 || isatty(STDOUT_FILENO) != 1)
    {
        (void) error_set(err, ERROR_USAGE, "nobody can be asked whether to remove it");
        return error_hint(err, "Use --yes, or --dry-run to see what it means.");
    }
    (void) printf("Remove? [y/N] ");
    (void) fflush(stdout);
    *yes = fgets(answer, sizeof answer, stdin) != NULL &&
           (strcmp(answer, "y\n") == 0 || strcmp(answer, "yes\n") == 0);
    return 0;
}

/* ---- the verb ---- */

static int
deletion_find(Deletion *d, const char *label, Error *err)
{
    const Backup *found = backup_list_find(&d->x.list, label);

    if (found == NULL)
    {
        (void) error_set(err, ERROR_NOT_FOUND, "there is no backup \"%.100s\"", label);
        return error_hint(err, "\"walctl info\" lists the backups.");
    }
    d->backup = (size_t) (found - d->x.list.items);
    return 0;
}

static int
deletion_carry_out(Walctl *ctl, Deletion *d, bool dry_run, int *exit_code, Error *err)
{
    char bytes[WAL_REPORT_TEXT_MAX];
    ExpireTally sum = {0};
    int rc = expire_run_backup(&d->x, d->backup, dry_run, err);

    for (size_t i = 0; i < EXPIRE_CLASS_COUNT; i++)
    {
        sum.objects += d->x.of_class[i].objects;
        sum.bytes += d->x.of_class[i].bytes;
    }
    walctl_expire_finish(&d->x, exit_code);
    if (d->x.denied > 0)
        *exit_code = 1;
    for (size_t i = 0; rc == 0 && i < d->x.list.count; i++)
        if (d->doomed[i] && d->x.plan.reasons[i] != 0 && d->x.denied + d->x.failed == 0)
            return error_set(
                err, ERROR_CONFLICT, "backup \"%s\" is running: something was stored meanwhile",
                d->x.list.items[i].label);
    if (ctl->json)
    {
        Error print = {0};
        json_t *doc = deletion_json(d, dry_run);

        if (walctl_print_json(doc, rc < 0 ? &print : err) < 0)
            rc = -1;
        json_decref(doc);
        return rc;
    }
    (void) printf(
        "%s %" PRIu64 " objects, %s\n", dry_run ? "would remove" : "removed", sum.objects,
        wal_report_format_bytes(sum.bytes, bytes));
    return rc;
}

int
walctl_backup(Walctl *ctl, int *exit_code, Error *err)
{
    AUTO(repository_freep) Repository *repo = NULL;
    AUTO(deletion_reset) Deletion d = {0};
    bool dry_run = cli_value(&ctl->cli, "dry-run") != NULL;
    bool yes = dry_run;

    if (strcmp(ctl->cli.args[0], "delete") != 0)
    {
        (void) error_set(err, ERROR_USAGE, "\"backup %.100s\" is not known", ctl->cli.args[0]);
        return error_hint(err, "The only one is \"walctl backup delete LABEL\".");
    }
    if (walctl_expire_open(ctl, &repo, &d.x, err) < 0 ||
        deletion_find(&d, ctl->cli.args[1], err) < 0 || deletion_think(&d, err) < 0)
        return -1;
    if (!ctl->json)
        deletion_print(&d);
    if (deletion_check(&d, cli_value(&ctl->cli, "force") != NULL, err) < 0)
        return -1;
    if (!dry_run && deletion_confirm(ctl, &yes, err) < 0)
        return -1;
    if (!yes)
    {
        (void) printf("nothing was removed\n");
        *exit_code = 1;
        return 0;
    }
    if (deletion_carry_out(ctl, &d, dry_run, exit_code, err) < 0)
        return -1;
    return fflush(stdout) == 0 ? 0 : error_sys(err, "could not print the result");
}
