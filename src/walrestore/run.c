/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The steps of a restore; see run.h.
 */
#include "walrestore/run.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "walrestore/finish.h"
#include "walrestore/parts.h"

/* ---- before anything is written ---- */

static int
restore_open(RestoreRun *run, Error *err)
{
    const RestoreOptions *o = &run->options;
    const RepositoryOptions open = {
        .system_identifier = o->system_identifier, .need_identities = true};
    Deadline dl = deadline_after_ms(o->timeout_ms, run->cancel);

    if (repository_open(run->cfg, &open, &dl, &run->repo, err) < 0 ||
        backup_list_read(run->repo, o->timeout_ms, o->jobs, &run->backups, err) < 0)
        return -1;
    wal_inventory_init(&run->inv, run->repo->description.segment_bytes);
    if (wal_inventory_list(run->repo, o->timeout_ms, &run->inv, err) < 0 ||
        wal_inventory_read_histories(run->repo, o->timeout_ms, &run->inv, err) < 0)
        return -1;
    return 0;
}

/* --timeline=current: that of the backup, the newest one if none was named. */
static int
restore_resolve_timeline(RestoreRun *run, Error *err)
{
    RecoveryTarget *target = &run->options.target;
    const Backup *backup = target->label != NULL ? backup_list_find(&run->backups, target->label)
                                                 : backup_list_newest(&run->backups);

    if (!run->options.timeline_current)
        return 0;
    if (backup == NULL || backup->state != BACKUP_COMPLETE)
        return error_set(
            err, ERROR_USAGE, "there is no backup whose timeline could be the current one");
    target->tli = backup->header.tli;
    return 0;
}

static int
restore_find_target(RestoreRun *run, Error *err)
{
    const RestoreOptions *o = &run->options;
    Progress progress = {0};
    const TargetSearch search = {
        .repo = run->repo,
        .backups = &run->backups,
        .inv = &run->inv,
        .jobs = MIN(o->jobs, (unsigned) TARGET_JOBS_MAX),
        .timeout_ms = o->timeout_ms,
        .progress = &progress,
        .cancel = run->cancel};

    if (restore_resolve_timeline(run, err) < 0)
        return -1;
    if (target_find(&search, &o->target, &run->found, err) < 0)
    {
        /* no such transaction or restore point: like any other target that cannot be reached */
        if (err->kind == ERROR_NOT_FOUND)
            err->kind = ERROR_USAGE;
        return -1;
    }
    run->header = &run->backups.items[run->found.plan.backup].header;
    return 0;
}

/* What --delta would take away from itself, or from the server that is to recover. */
static int
restore_check_outside(const RestoreRun *run, Error *err)
{
    static const char file_url[] = "file://";
    const char *url = run->cfg->repository.url;
    const char *identity = run->cfg->encryption.identity_file;

    if (strncmp(url, file_url, sizeof file_url - 1) == 0 &&
        place_check_outside(&run->place, url + sizeof file_url - 1, "repository", err) < 0)
        return -1;
    if (identity != NULL && identity[0] != '\0' &&
        place_check_outside(&run->place, identity, "identity file", err) < 0)
        return -1;
    return place_check_outside(&run->place, config_file(run->cfg), "configuration file", err);
}

static int
restore_make_plan(RestoreRun *run, Error *err)
{
    const RestoreOptions *o = &run->options;
    const PlanOptions options = {.databases = o->databases, .database_count = o->database_count};

    if (place_check(&run->place, o, run->header, err) < 0 || restore_check_outside(run, err) < 0 ||
        plan_load(
            run->repo, run->header->label, &options, o->timeout_ms, run->cancel, &run->plan, err) <
            0)
        return -1;
    if (run->place.state == PLACE_IN_USE || run->place.state == PLACE_INTERRUPTED)
    {
        if (delta_compare(&run->place, &run->plan, o->jobs, run->cancel, &run->delta, err) < 0)
            return error_wrap(err, "could not compare \"%s\"", run->place.path);
        plan_select(&run->plan);
    }
    if (present_check(run, err) < 0)
        return -1;
    if (o->space_check && place_check_space(&run->place, &run->plan, err) < 0)
        return -1;
    return place_find_owners(&run->place, &run->plan, err);
}

/* ---- what the server will run ---- */

/* walfetch beside this program; otherwise the one of the server's PATH. */
static void
restore_find_walfetch(char *path, size_t len)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash;

    self[MAX(n, 0)] = '\0';
    slash = strrchr(self, '/');
    if (slash != NULL)
    {
        slash[1] = '\0';
        if ((size_t) snprintf(path, len, "%swalfetch", self) < len && access(path, X_OK) == 0)
            return;
    }
    (void) snprintf(path, len, "walfetch");
}

static int
restore_make_command(RestoreRun *run, Error *err)
{
    AUTO(strbuf_reset) StrBuf command;
    char walfetch[PATH_MAX], config[PATH_MAX];

    strbuf_init(&command, sizeof run->restore_command - 1);
    if (realpath(config_file(run->cfg), config) == NULL)
        return error_sys(err, "could not look at \"%s\"", config_file(run->cfg));
    restore_find_walfetch(walfetch, sizeof walfetch);
    settings_restore_command(walfetch, config, &run->options.cli.overrides, &command);
    if (strbuf_finish(&command, err) < 0)
        return error_wrap(err, "could not put restore_command together");
    if (strchr(strbuf_text(&command), '\n') != NULL)
        return error_set(
            err, ERROR_USAGE, "restore_command cannot be set: a name in it has a line break");
    memcpy(run->restore_command, strbuf_text(&command), command.len + 1);
    return 0;
}

/* ---- writing ---- */

static int
restore_fill(RestoreRun *run, Error *err)
{
    Progress progress;
    const PartsRun parts = {
        .repo = run->repo,
        .place = &run->place,
        .plan = &run->plan,
        .jobs = run->options.jobs,
        .timeout_ms = run->options.timeout_ms,
        .cancel = run->cancel,
        .progress = &progress};
    int64_t begin_ms = clock_monotonic_ms();
    int rc;

    progress_begin(&progress, "restoring", run->plan.fetch_bytes);
    rc = parts_restore(&parts, err);
    progress_end(&progress);
    run->fetch_ms = clock_monotonic_ms() - begin_ms;
    if (rc < 0)
        return -1;
    begin_ms = clock_monotonic_ms();
    progress_begin(&progress, "syncing", 0);
    rc = parts_sync(&parts, err);
    progress_end(&progress);
    run->sync_ms = clock_monotonic_ms() - begin_ms;
    return rc;
}

static int
restore_write(RestoreRun *run, Error *err)
{
    const RestoreOptions *o = &run->options;
    RecoveryTarget target = o->target;
    const Settings settings = {
        .restore_command = run->restore_command,
        .target = &target,
        /* a standby follows promotions; a recovery goes where the plan has looked, nowhere else */
        .tli = o->standby && o->target.tli == 0 ? 0 : run->found.plan.tli,
        .action = o->action,
        .standby = o->standby};

    if (run->found.last_record != LSN_INVALID)
    {
        target.kind = RECOVERY_LSN;
        target.lsn = run->found.last_record;
    }
    if (place_begin(&run->place, &run->plan, err) < 0)
        return -1;
    if ((run->place.state == PLACE_IN_USE || run->place.state == PLACE_INTERRUPTED) &&
        delta_clean(&run->place, &run->plan, &run->delta, err) < 0)
        return -1;
    if (place_make_folders(&run->place, &run->plan, err) < 0 || restore_fill(run, err) < 0 ||
        finish_directory(&run->place, &run->plan, &settings, err) < 0)
        return -1;
    return place_end(&run->place, err);
}

/* How fast one part comes, for the expected time. */
static int
restore_try(RestoreRun *run, Error *err)
{
    const PartsRun parts = {
        .repo = run->repo,
        .place = &run->place,
        .plan = &run->plan,
        .jobs = 1,
        .timeout_ms = run->options.timeout_ms,
        .cancel = run->cancel};

    return parts_try(&parts, &run->try_bytes, &run->try_ms, err);
}

/* What a failure leaves behind. */
static int
restore_failed(const RestoreRun *run, Error *err)
{
    bool damaged = err->kind == ERROR_CORRUPT || err->kind == ERROR_NOT_FOUND;

    if (place_is_marked(&run->place) && err->hint[0] == '\0')
        (void) error_hint(
            err, "The directory is incomplete, and no server starts in it; %s.",
            damaged ? "the same command with --backup=LABEL can take an older backup"
                    : "the same command can be given again");
    return error_wrap(err, "could not restore to \"%s\"", run->options.to);
}

int
restore_run(RestoreRun *run, Error *err)
{
    run->begin_ms = clock_monotonic_ms();
    if (restore_make_command(run, err) < 0 || restore_open(run, err) < 0 ||
        restore_find_target(run, err) < 0 || restore_make_plan(run, err) < 0 ||
        (run->options.dry_run && restore_try(run, err) < 0))
        return restore_failed(run, err);
    if (report_plan(run, err) < 0)
        return -1;
    if (!run->options.dry_run && restore_write(run, err) < 0)
        return restore_failed(run, err);
    run->total_ms = clock_monotonic_ms() - run->begin_ms;
    if (report_result(run, err) < 0)
        return run->options.dry_run ? -1 : error_wrap(err, "all is restored");
    return 0;
}

void
restore_run_reset(RestoreRun *run)
{
    plan_reset(&run->plan);
    place_reset(&run->place);
    target_found_reset(&run->found);
    wal_inventory_reset(&run->inv);
    backup_list_reset(&run->backups);
    repository_free(run->repo);
    config_free(run->cfg);
    restore_options_reset(&run->options);
}
