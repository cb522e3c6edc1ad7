/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walctl expire: what [retention] does not keep is removed; with --dry-run it is only told.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "walctl/expire.h"

#define EXPIRE_JOBS 8

int
walctl_expire_open(Walctl *ctl, Repository **repo, Expire *x, Error *err)
{
    int64_t timeout_ms = WALCTL_TIMEOUT_MS;
    Error unused = {0};

    if (cli_duration_ms(&ctl->cli, "timeout", &timeout_ms, err) < 0)
        return -1;

    Deadline dl = deadline_after_ms(timeout_ms, NULL);
    RetentionRules rules = retention_rules(ctl->cfg, clock_wall_us());

    if (walctl_open_repository(ctl, false, &dl, repo, err) < 0)
        return -1;
    /* histories may be encrypted; without a key the plan keeps a little more */
    if (repository_load_identities(ctl->cfg, &(*repo)->identities, &unused) < 0)
        log_write(LOG_DEBUG, "going on without an identity: %s", unused.msg);
    return expire_plan(*repo, &rules, timeout_ms, EXPIRE_JOBS, x, err);
}

const char *
walctl_backup_kind(const Backup *backup)
{
    switch (backup->state)
    {
        case BACKUP_UNFINISHED:
            return "unfinished";
        case BACKUP_DAMAGED:
            return "damaged";
        case BACKUP_COMPLETE:
            break;
    }
    return backup->header.incremental ? "incremental" : "full";
}

int64_t
walctl_backup_time(const Backup *backup)
{
    return backup->state == BACKUP_COMPLETE ? backup->header.started_us : backup->oldest_us;
}

/* ---- text ---- */

static void
expire_print_plan(const Expire *x)
{
    char text[64], reasons[RETENTION_REASONS_MAX];

    (void) printf("backups of %" PRIu64 "\n", x->repo->description.system_identifier);
    if (x->list.count == 0)
        (void) printf("  there are none\n");
    for (size_t i = 0; i < x->list.count; i++)
    {
        const Backup *b = &x->list.items[i];
        int64_t us = walctl_backup_time(b);
        unsigned why = x->plan.reasons[i];

        (void) printf(
            "  %-6s  %-11s  %-27s  %s  %s\n", why != 0 ? "keep" : "remove", walctl_backup_kind(b),
            us != 0 ? clock_format_utc(us, text, sizeof text) : "at an unknown time", b->label,
            why != 0 ? retention_format_reasons(why, reasons) : "");
    }
    (void) printf("window\n");
    if (x->plan.pitr_from_us != 0)
        (void) printf(
            "  begins at %s%s\n", clock_format_utc(x->plan.pitr_from_us, text, sizeof text),
            x->plan.pitr_short ? ", later than pitr asks for: there is no older backup" : "");
    else
        (void) printf("  none is promised by pitr\n");
    (void) printf("WAL\n");
    if (x->plan.wal_unbounded)
        (void) printf("  all is kept: %s\n", x->plan.wal_why);
    for (size_t i = 0; !x->plan.wal_unbounded && i < x->plan.range_count; i++)
    {
        const RetentionRange *r = &x->plan.ranges[i];
        char start[LSN_TEXT_BYTES], end[LSN_TEXT_BYTES];

        (void) printf("  keep  ");
        if (r->tli != 0)
            (void) printf("timeline %" PRIu32 " ", r->tli);
        (void) printf(
            "from %s%s%s\n", lsn_format(r->start, start, sizeof start),
            r->end != UINT64_MAX ? " to " : " on",
            r->end != UINT64_MAX ? lsn_format(r->end, end, sizeof end) : "");
    }
    if (!x->plan.wal_unbounded)
        (void) printf(
            "  keep  what was stored since %s\n",
            clock_format_utc(MAX(x->plan.wal_since_us, 0), text, sizeof text));
}

static void
expire_print_result(const Expire *x, bool dry_run)
{
    char bytes[WAL_REPORT_TEXT_MAX];
    StoreCounters c = store_count_read(x->repo->counted);
    bool nothing = x->swept == 0;

    (void) printf("%s\n", dry_run ? "would be removed" : "removed");
    for (size_t i = 0; i < EXPIRE_CLASS_COUNT; i++)
        if (x->of_class[i].objects > 0)
        {
            (void) printf(
                "  %-18s %" PRIu64 " object%s, %s\n", expire_class_name((ExpireClass) i),
                x->of_class[i].objects, x->of_class[i].objects == 1 ? "" : "s",
                wal_report_format_bytes(x->of_class[i].bytes, bytes));
            nothing = false;
        }
    if (x->swept > 0)
        (void) printf("  %-18s %" PRIu64 "\n", "temporary files", x->swept);
    if (nothing)
        (void) printf("  nothing\n");
    (void) printf(
        "store requests: %" PRIu64 " list, %" PRIu64 " get, %" PRIu64 " other\n", c.lists, c.gets,
        c.puts + c.stats + c.removes);
}

/* ---- JSON ---- */

json_t *
walctl_json_removed(const Expire *x)
{
    json_t *removed = json_object();

    for (size_t i = 0; i < EXPIRE_CLASS_COUNT; i++)
    {
        char name[32];

        (void) snprintf(name, sizeof name, "%s", expire_class_name((ExpireClass) i));
        for (char *p = name; *p != '\0'; p++)
            if (*p == ' ')
                *p = '_';
        (void) json_object_set_new(
            removed, name,
            json_pack(
                "{s:I, s:I}", "objects", (json_int_t) x->of_class[i].objects, "bytes",
                (json_int_t) x->of_class[i].bytes));
    }
    return removed;
}

static json_t *
expire_json_backups(const Expire *x)
{
    json_t *list = json_array();

    for (size_t i = 0; i < x->list.count; i++)
    {
        const Backup *b = &x->list.items[i];
        char reasons[RETENTION_REASONS_MAX];

        (void) json_array_append_new(
            list,
            json_pack(
                "{s:s, s:s, s:o, s:b, s:s, s:I, s:I}", "label", b->label, "kind",
                walctl_backup_kind(b), "started", walctl_json_time(walctl_backup_time(b)), "keep",
                (int) (x->plan.reasons[i] != 0), "reasons",
                retention_format_reasons(x->plan.reasons[i], reasons), "objects",
                (json_int_t) x->of_backup[i].objects, "bytes", (json_int_t) x->of_backup[i].bytes));
    }
    return list;
}

static json_t *
expire_json_ranges(const Expire *x)
{
    json_t *list = json_array();

    for (size_t i = 0; i < x->plan.range_count; i++)
    {
        const RetentionRange *r = &x->plan.ranges[i];

        (void) json_array_append_new(
            list,
            json_pack(
                "{s:o, s:o, s:o}", "timeline", r->tli != 0 ? json_integer(r->tli) : json_null(),
                "start", walctl_json_lsn(r->start), "end",
                r->end != UINT64_MAX ? walctl_json_lsn(r->end) : json_null()));
    }
    return list;
}

static json_t *
expire_json(const Expire *x, bool dry_run)
{
    StoreCounters c = store_count_read(x->repo->counted);
    char sysid[32];

    (void) snprintf(sysid, sizeof sysid, "%" PRIu64, x->repo->description.system_identifier);
    return json_pack(
        "{s:s, s:b, s:o, s:o, s:b, s:b, s:s?, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:o}",
        "system_identifier", sysid, "dry_run", (int) dry_run, "backups", expire_json_backups(x),
        "window_start", walctl_json_time(x->plan.pitr_from_us), "window_short",
        (int) x->plan.pitr_short, "all_wal_kept", (int) x->plan.wal_unbounded, "all_wal_kept_why",
        x->plan.wal_why, "wal_kept", expire_json_ranges(x), "wal_kept_since",
        walctl_json_time(MAX(x->plan.wal_since_us, 0)), "removed", walctl_json_removed(x),
        "not_removable", (json_int_t) x->denied, "failed", (json_int_t) x->failed,
        "damaged_manifests", (json_int_t) x->plan.damaged_count, "temporary_files",
        (json_int_t) x->swept, "store_requests",
        json_pack(
            "{s:I, s:I, s:I, s:I, s:I}", "list", (json_int_t) c.lists, "get", (json_int_t) c.gets,
            "put", (json_int_t) c.puts, "stat", (json_int_t) c.stats, "remove",
            (json_int_t) c.removes));
}

/* ---- the verb ---- */

static void
expire_warn(const Expire *x)
{
    for (size_t i = 0; i < x->list.count; i++)
    {
        Error why = x->list.items[i].error;

        if (x->list.items[i].state != BACKUP_DAMAGED)
            continue;
        (void) error_wrap(
            &why, "backup \"%s\" is kept, and whatever it may need", x->list.items[i].label);
        (void) error_hint(
            &why, "If it cannot be repaired, remove it: walctl backup delete %s",
            x->list.items[i].label);
        log_error(LOG_WARNING, &why);
    }
    if (x->plan.none_restorable)
        log_write(
            LOG_WARNING, "no backup is restorable: WAL that they need is missing; none is removed");
}

void
walctl_expire_finish(const Expire *x, int *exit_code)
{
    if (x->denied > 0)
    {
        Error why = x->first_denied;

        (void) error_wrap(
            &why, "%" PRIu64 " objects were passed over, as the store does not let them be removed",
            x->denied);
        log_error(LOG_WARNING, &why);
    }
    if (x->failed > 0)
    {
        Error why = x->first_failed;

        (void) error_wrap(&why, "%" PRIu64 " objects were not removed", x->failed);
        (void) error_hint(&why, "The next run tries again.");
        log_error(LOG_ERROR, &why);
        *exit_code = 1;
    }
}

int
walctl_expire(Walctl *ctl, int *exit_code, Error *err)
{
    AUTO(repository_freep) Repository *repo = NULL;
    AUTO(expire_reset) Expire x = {0};
    bool dry_run = cli_value(&ctl->cli, "dry-run") != NULL;
    int rc;

    if (walctl_expire_open(ctl, &repo, &x, err) < 0)
        return -1;
    expire_warn(&x);
    if (!dry_run && expire_check_clock(&x, err) < 0)
        return -1;
    if (!ctl->json)
    {
        expire_print_plan(&x);
        (void) fflush(stdout);
    }
    rc = expire_run(&x, dry_run, err);
    if (ctl->json)
    {
        Error print = {0};
        json_t *doc = expire_json(&x, dry_run);

        if (walctl_print_json(doc, rc < 0 ? &print : err) < 0)
            rc = -1;
        json_decref(doc);
    }
    else
        expire_print_result(&x, dry_run);
    walctl_expire_finish(&x, exit_code);
    if (rc == 0 && x.plan.damaged_count > 0)
        *exit_code = 1;
    if (rc == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        return error_sys(err, "could not print the result");
    return rc;
}
