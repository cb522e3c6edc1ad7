/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Windows and plans of recovery; see recovery.h. What is asked again and again is one question: how
 * far does PostgreSQL come from an LSN along a line of timelines (recovery_walk), which it answers
 * segment by segment with the files that are there (XLogFileReadAnyTLI).
 */
#include "repo/recovery.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"

#define RECOVERY_WINDOW_TEXT_MAX 256

void
recovery_windows_reset(RecoveryWindows *windows)
{
    free(windows->items);
    *windows = (RecoveryWindows){0};
}

void
recovery_plan_reset(RecoveryPlan *plan)
{
    timeline_history_reset(&plan->history);
    *plan = (RecoveryPlan){0};
}

void
recovery_plans_free(RecoveryPlan *plans, size_t count)
{
    for (size_t i = 0; i < count; i++)
        recovery_plan_reset(&plans[i]);
    free(plans);
}

/* ---- WAL along a line ---- */

/* The run that segno's file comes from, and in *index its timeline's entry; NULL if none does. */
static const WalRun *
recovery_find_run(const WalInventory *inv, const TimelineHistory *h, SegmentNo segno, size_t *index)
{
    Lsn start = wal_segment_start(segno, inv->segment_bytes);

    for (size_t i = h->count; i-- > 0;)
    {
        const WalTimeline *t;
        size_t at;

        if (wal_segment_of(h->entries[i].begin, inv->segment_bytes) > segno)
            continue;
        t = wal_inventory_find(inv, h->entries[i].tli);
        if (t == NULL)
            continue;
        /* a segment is read from its beginning */
        at = wal_runs_find(&t->all, start);
        if (at < t->all.count && t->all.items[at].start <= start)
        {
            *index = i;
            return &t->all.items[at];
        }
    }
    return NULL;
}

TimelineId
recovery_segment_timeline(const WalInventory *inv, const TimelineHistory *history, SegmentNo segno)
{
    size_t index;

    return recovery_find_run(inv, history, segno, &index) != NULL ? history->entries[index].tli : 0;
}

/*
 * Where the WAL that can be read from lsn on ends, and in *end_us when that came to be there. lsn
 * itself if there is none.
 */
static Lsn
recovery_walk(const WalInventory *inv, const TimelineHistory *h, Lsn lsn, int64_t *end_us)
{
    const WalRun *run;
    size_t index;

    *end_us = 0;
    while ((run = recovery_find_run(inv, h, wal_segment_of(lsn, inv->segment_bytes), &index)))
    {
        Lsn end = MIN(run->end, h->entries[index].end);

        /* where a younger timeline has begun, its own files go first */
        for (size_t i = index + 1; i < h->count; i++)
        {
            Lsn own = h->entries[i].begin - h->entries[i].begin % inv->segment_bytes;

            if (own > lsn)
                end = MIN(end, own);
        }
        if (end <= lsn)
            break;
        lsn = end;
        *end_us = end == run->end ? run->end_us : 0;
    }
    return lsn;
}

/* What there is of the line behind plan->wal_end. */
static void
recovery_look_behind(const WalInventory *inv, RecoveryPlan *plan)
{
    Lsn next = UINT64_MAX;
    int64_t newest_us = 0;
    int64_t behind_us;

    for (size_t i = 0; i < plan->history.count; i++)
    {
        const TimelineEntry *e = &plan->history.entries[i];
        const WalTimeline *t = wal_inventory_find(inv, e->tli);
        Lsn begin = MAX(plan->wal_end, e->begin - e->begin % inv->segment_bytes);

        for (size_t r = t != NULL ? wal_runs_find(&t->all, begin) : 0;
             t != NULL && r < t->all.count && t->all.items[r].start < e->end; r++)
        {
            if (MIN(t->all.items[r].end, e->end) <= begin)
                continue;
            next = MIN(next, MAX(begin, t->all.items[r].start));
            newest_us = MAX(newest_us, t->all.items[r].newest_us);
        }
    }
    plan->hole = next != UINT64_MAX;
    plan->hole_end = plan->hole ? next : LSN_INVALID;
    plan->in_flight = plan->hole && plan->wal_end_us != 0 && newest_us != 0 &&
                      !__builtin_sub_overflow(newest_us, plan->wal_end_us, &behind_us) &&
                      behind_us <= RECOVERY_IN_FLIGHT_US;
    for (size_t i = 0; plan->in_flight && i < inv->note_count; i++)
    {
        const WalGapNote *note = &inv->notes[i];

        if (timeline_find(&plan->history, note->tli) != NULL && note->start < plan->hole_end &&
            note->end > plan->wal_end)
            plan->in_flight = false;
    }
}

/* ---- which backups a line can begin with ---- */

typedef enum RecoveryFit
{
    RECOVERY_FITS,
    RECOVERY_NO_MANIFEST,
    RECOVERY_BAD_MANIFEST,
    RECOVERY_NO_PARENT,
    RECOVERY_OTHER_LINE,
    RECOVERY_NO_WAL,
    RECOVERY_FIT_COUNT
} RecoveryFit;

/* *end, *end_us: of the WAL from the backup's start on, if it comes to that. */
static RecoveryFit
recovery_fit(
    const Backup *b, const WalInventory *inv, const TimelineHistory *h, Lsn *end, int64_t *end_us)
{
    const TimelineEntry *e;

    if (b->state != BACKUP_COMPLETE)
        return b->state == BACKUP_DAMAGED ? RECOVERY_BAD_MANIFEST : RECOVERY_NO_MANIFEST;
    if (b->chain_broken)
        return RECOVERY_NO_PARENT;
    /* all of it in front of the switch point: PostgreSQL checks where the checkpoint is, and where
     * the backup became consistent */
    e = timeline_find(h, b->header.tli);
    if (e == NULL || b->header.start_lsn >= e->end || b->header.stop_lsn > e->end)
        return RECOVERY_OTHER_LINE;
    *end = recovery_walk(inv, h, b->header.start_lsn, end_us);
    return b->header.stop_lsn >= b->header.start_lsn && *end >= b->header.stop_lsn &&
                   *end > b->header.start_lsn
               ? RECOVERY_FITS
               : RECOVERY_NO_WAL;
}

static int
recovery_copy_history(const TimelineHistory *h, TimelineHistory *out, Error *err)
{
    *out = (TimelineHistory){0};
    if (h->count == 0)
        return 0;
    out->entries = calloc(h->count, sizeof *out->entries);
    if (out->entries == NULL)
        return error_nomem(err);
    memcpy(out->entries, h->entries, h->count * sizeof *out->entries);
    out->count = h->count;
    return 0;
}

/* Newest first; by LSN, which on one line is the order of time. */
static int
recovery_compare_plans(const void *a, const void *b)
{
    const RecoveryPlan *left = a;
    const RecoveryPlan *right = b;

    if (left->wal_start != right->wal_start)
        return left->wal_start > right->wal_start ? -1 : 1;
    return left->backup > right->backup ? -1 : left->backup < right->backup;
}

/*
 * Plans of all backups that fit the line of t, newest first; fits counts the others by their
 * reasons. only: of this backup alone.
 */
static int
recovery_plan_line(
    const BackupList *list, const WalInventory *inv, const WalTimeline *t, const Backup *only,
    RecoveryPlan **out, size_t *count, size_t fits[RECOVERY_FIT_COUNT], Error *err)
{
    RecoveryPlan *plans = calloc(list->count + 1, sizeof *plans);
    size_t n = 0;

    *out = NULL;
    *count = 0;
    memset(fits, 0, RECOVERY_FIT_COUNT * sizeof *fits);
    if (plans == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < list->count; i++)
    {
        const Backup *b = &list->items[i];
        RecoveryPlan *plan = &plans[n];
        RecoveryFit fit;

        if (only != NULL && b != only)
            continue;
        *plan = (RecoveryPlan){.backup = i, .tli = t->tli, .wal_start = b->header.start_lsn};
        fit = recovery_fit(b, inv, &t->history, &plan->wal_end, &plan->wal_end_us);
        fits[fit]++;
        if (fit != RECOVERY_FITS)
            continue;
        n++;
        if (recovery_copy_history(&t->history, &plan->history, err) < 0)
        {
            recovery_plans_free(plans, n);
            return -1;
        }
        recovery_look_behind(inv, plan);
    }
    qsort(plans, n, sizeof *plans, recovery_compare_plans);
    *out = plans;
    *count = n;
    return 0;
}

/* ---- windows ---- */

static bool
recovery_has_history(const WalTimeline *t)
{
    return t->history_state == WAL_HISTORY_READ || t->history_state == WAL_HISTORY_NOT_NEEDED;
}

/* The newest timeline that there is WAL of; NULL if there is none. */
static const WalTimeline *
recovery_newest(const WalInventory *inv)
{
    for (size_t i = inv->timeline_count; i-- > 0;)
        if (inv->timelines[i].all.count > 0)
            return &inv->timelines[i];
    return NULL;
}

static int
recovery_add_window(RecoveryWindows *windows, const RecoveryWindow *window, Error *err)
{
    RecoveryWindow *items =
        array_grow(windows->items, windows->count, &windows->cap, sizeof *items, err);

    if (items == NULL)
        return -1;
    windows->items = items;
    windows->items[windows->count++] = *window;
    return 0;
}

/* Whether line tli is part of the past of t up to lsn. */
static bool
recovery_line_has(const WalTimeline *t, TimelineId tli, Lsn lsn)
{
    const TimelineEntry *e = timeline_find(&t->history, tli);

    return e != NULL && lsn <= e->end;
}

/* All windows of the line of t, oldest first, behind what out has. */
static int
recovery_line_windows(
    const BackupList *list, const WalInventory *inv, const WalTimeline *t, RecoveryWindows *out,
    Error *err)
{
    const WalTimeline *newest = recovery_newest(inv);
    size_t first = out->count;
    RecoveryPlan *plans;
    size_t count;
    size_t fits[RECOVERY_FIT_COUNT];
    int rc = 0;

    if (recovery_plan_line(list, inv, t, NULL, &plans, &count, fits, err) < 0)
        return -1;
    for (size_t i = count; rc == 0 && i-- > 0;)
    {
        const RecoveryPlan *plan = &plans[i];
        const BackupHeader *header = &list->items[plan->backup].header;
        RecoveryWindow *last = out->count > first ? &out->items[out->count - 1] : NULL;
        RecoveryWindow window = {
            .tli = t->tli,
            .backup = plan->backup,
            .last_backup = plan->backup,
            .start_lsn = header->stop_lsn,
            .end_lsn = plan->wal_end,
            .start_us = header->stopped_us,
            .end_us = plan->wal_end_us,
            .current = t == newest && (!plan->hole || plan->in_flight),
            .dead = newest != NULL && newest != t && recovery_has_history(newest) &&
                    !recovery_line_has(newest, t->tli, plan->wal_end)};

        if (last == NULL || last->end_lsn != plan->wal_end)
            rc = recovery_add_window(out, &window, err);
        else if (header->stop_lsn < last->start_lsn)
        {
            /* it began later and was ready earlier */
            last->backup = plan->backup;
            last->start_lsn = header->stop_lsn;
            last->start_us = header->stopped_us;
        }
        else
            last->last_backup = plan->backup;
    }
    recovery_plans_free(plans, count);
    return rc;
}

/* Whether a line told before, of a newer timeline, has all of this window. */
static bool
recovery_window_told(const WalInventory *inv, const RecoveryWindow *window)
{
    for (size_t i = inv->timeline_count; i-- > 0 && inv->timelines[i].tli > window->tli;)
    {
        const WalTimeline *t = &inv->timelines[i];

        if (t->all.count > 0 && recovery_has_history(t) &&
            recovery_line_has(t, window->tli, window->end_lsn))
            return true;
    }
    return false;
}

int
recovery_windows_make(
    const BackupList *list, const WalInventory *inv, RecoveryWindows *out, Error *err)
{
    *out = (RecoveryWindows){0};
    for (size_t i = inv->timeline_count; i-- > 0;)
    {
        const WalTimeline *t = &inv->timelines[i];
        size_t first = out->count;
        size_t kept = first;

        if (t->all.count == 0 || !recovery_has_history(t))
            continue;
        if (recovery_line_windows(list, inv, t, out, err) < 0)
        {
            recovery_windows_reset(out);
            return -1;
        }
        for (size_t w = first; w < out->count; w++)
            if (!recovery_window_told(inv, &out->items[w]))
                out->items[kept++] = out->items[w];
        out->count = kept;
    }
    return 0;
}

/* ---- texts ---- */

char *
recovery_format_point(int64_t at_us, Lsn lsn, char *buf)
{
    char when[32], where[LSN_TEXT_BYTES];

    (void) lsn_format(lsn, where, sizeof where);
    if (at_us == 0)
        (void) snprintf(buf, RECOVERY_POINT_TEXT_MAX, "%s", where);
    else
        (void) snprintf(
            buf, RECOVERY_POINT_TEXT_MAX, "%s (%s)", clock_format_utc(at_us, when, sizeof when),
            where);
    return buf;
}

char *
recovery_format_window(const RecoveryWindow *window, char *buf)
{
    char from[RECOVERY_POINT_TEXT_MAX], to[RECOVERY_POINT_TEXT_MAX];

    (void) snprintf(
        buf, RECOVERY_WINDOW_TEXT_MAX, "between %s and %s",
        recovery_format_point(window->start_us, window->start_lsn, from),
        recovery_format_point(window->end_us, window->end_lsn, to));
    return buf;
}

static bool
recovery_window_is_behind(const RecoveryWindow *window, int64_t at_us, Lsn lsn)
{
    return at_us != 0 ? window->start_us > at_us : lsn != LSN_INVALID && window->start_lsn > lsn;
}

int
recovery_hint_windows(
    const BackupList *list, const WalInventory *inv, TimelineId tli, int64_t at_us, Lsn lsn,
    Error *err)
{
    AUTO(recovery_windows_reset) RecoveryWindows windows = {0};
    const WalTimeline *t = wal_inventory_find(inv, tli);
    char first[RECOVERY_WINDOW_TEXT_MAX], second[RECOVERY_WINDOW_TEXT_MAX];
    size_t behind = 0;
    Error ignored;

    /* a hint is not worth another error */
    if (t == NULL || !recovery_has_history(t) ||
        recovery_line_windows(list, inv, t, &windows, &ignored) < 0)
        return -1;
    if (windows.count == 0)
        return error_hint(
            err, "Nothing can be reached on timeline %" PRIu32 "; \"walctl info\" tells of others.",
            tli);
    while (behind < windows.count && !recovery_window_is_behind(&windows.items[behind], at_us, lsn))
        behind++;
    if (behind > 0 && behind < windows.count)
        return error_hint(
            err, "What can be reached on timeline %" PRIu32 ": %s, and %s.", tli,
            recovery_format_window(&windows.items[behind - 1], first),
            recovery_format_window(&windows.items[behind], second));
    return error_hint(
        err, "What can be reached on timeline %" PRIu32 ": %s.", tli,
        recovery_format_window(&windows.items[behind > 0 ? behind - 1 : 0], first));
}

/* ---- candidates ---- */

static int
recovery_list_timelines(const WalInventory *inv, Error *err)
{
    char text[160] = "";
    size_t len = 0;

    for (size_t i = 0; i < inv->timeline_count && len + 24 < sizeof text; i++)
        len += (size_t) snprintf(
            text + len, sizeof text - len, "%s%" PRIu32, i > 0 ? ", " : "", inv->timelines[i].tli);
    if (len == 0)
        return error_hint(err, "The repository has no WAL.");
    return error_hint(
        err, "The repository has timelines %s%s.", text, len + 24 < sizeof text ? "" : ", ...");
}

static int
recovery_find_timeline(const WalInventory *inv, TimelineId tli, const WalTimeline **out, Error *err)
{
    const WalTimeline *t = tli == 0 ? recovery_newest(inv) : wal_inventory_find(inv, tli);

    *out = t;
    if (t == NULL && tli == 0)
    {
        (void) error_set(err, ERROR_USAGE, "cannot recover: the repository has no WAL");
        return error_hint(err, "Archive WAL with walstream or walpush, and make a backup.");
    }
    if (t == NULL)
    {
        (void) error_set(
            err, ERROR_USAGE,
            "cannot recover to timeline %" PRIu32 ": the repository has nothing of it", tli);
        return recovery_list_timelines(inv, err);
    }
    if (recovery_has_history(t))
        return 0;
    if (t->history_error.kind != ERROR_NONE)
        *err = t->history_error;
    else
        (void) error_set(
            err, t->history_state == WAL_HISTORY_UNREAD ? ERROR_TRANSIENT : ERROR_USAGE,
            "its history file is %s", wal_history_state_name(t->history_state));
    (void) error_wrap(err, "cannot recover to timeline %" PRIu32, t->tli);
    return err->hint[0] != '\0'
               ? -1
               : error_hint(
                     err, "Without its history no other timeline can be put in its place; "
                          "\"--timeline\" chooses one.");
}

/* Why the backup that was asked for cannot be taken. */
static int
recovery_refuse_backup(const Backup *b, const WalInventory *inv, const WalTimeline *t, Error *err)
{
    Lsn end;
    int64_t end_us;
    char from[LSN_TEXT_BYTES], to[LSN_TEXT_BYTES];

    switch (recovery_fit(b, inv, &t->history, &end, &end_us))
    {
        case RECOVERY_NO_MANIFEST:
            return error_set(
                err, ERROR_USAGE,
                "cannot use backup \"%s\": it has no manifest, so it is running or has failed",
                b->label);
        case RECOVERY_BAD_MANIFEST:
            return error_set(
                err, ERROR_USAGE, "cannot use backup \"%s\": %s", b->label, b->error.msg);
        case RECOVERY_NO_PARENT:
            return error_set(
                err, ERROR_USAGE,
                "cannot use backup \"%s\": backup \"%s\", which it builds on, is missing or "
                "damaged",
                b->label, b->broken_by);
        case RECOVERY_OTHER_LINE:
            (void) error_set(
                err, ERROR_USAGE,
                "cannot use backup \"%s\": it ends at %s of timeline %" PRIu32
                ", where timeline %" PRIu32 " does not come from",
                b->label, lsn_format(b->header.stop_lsn, to, sizeof to), b->header.tli, t->tli);
            return error_hint(
                err, "\"--timeline=%" PRIu32 "\" recovers along the timeline of the backup.",
                b->header.tli);
        case RECOVERY_NO_WAL:
            return error_set(
                err, ERROR_USAGE,
                "cannot use backup \"%s\": of the WAL that makes it consistent, %s to %s is "
                "missing",
                b->label, lsn_format(end, from, sizeof from),
                lsn_format(b->header.stop_lsn, to, sizeof to));
        case RECOVERY_FITS:
        case RECOVERY_FIT_COUNT:
            break;
    }
    return error_set(err, ERROR_USAGE, "cannot use backup \"%s\"", b->label);
}

/* No backup fits the line. */
static int
recovery_refuse_line(
    const BackupList *list, const WalTimeline *t, const size_t fits[RECOVERY_FIT_COUNT], Error *err)
{
    static const char *const reasons[RECOVERY_FIT_COUNT] = {
        [RECOVERY_NO_MANIFEST] = "unfinished",
        [RECOVERY_BAD_MANIFEST] = "damaged",
        [RECOVERY_NO_PARENT] = "without a backup that it builds on",
        [RECOVERY_OTHER_LINE] = "not on the line of the timeline",
        [RECOVERY_NO_WAL] = "without the WAL that makes it consistent",
    };
    char text[400] = "";
    size_t len = 0;

    if (list->count == 0)
    {
        (void) error_set(err, ERROR_USAGE, "cannot recover: the repository has no backup");
        return error_hint(err, "Make one with \"walbackup full\".");
    }
    for (size_t i = 0; i < RECOVERY_FIT_COUNT; i++)
        if (fits[i] > 0 && len < sizeof text)
            len += (size_t) snprintf(
                text + len, sizeof text - len, "%s%zu %s", len > 0 ? ", " : "", fits[i],
                reasons[i] != NULL ? reasons[i] : "");
    (void) error_set(
        err, ERROR_USAGE,
        "cannot recover to timeline %" PRIu32 ": none of %zu backups can be used (%s)", t->tli,
        list->count, text);
    return error_hint(err, "\"walctl info\" tells what can be recovered.");
}

static char *
recovery_format_target(const RecoveryTarget *target, char *buf, size_t len)
{
    char text[32];

    if (target->kind == RECOVERY_TIME)
        (void) snprintf(
            buf, len, "target time %s", clock_format_utc(target->time_us, text, sizeof text));
    else
        (void) snprintf(buf, len, "target LSN %s", lsn_format(target->lsn, text, sizeof text));
    return buf;
}

static bool
recovery_is_too_late(const BackupHeader *header, const RecoveryTarget *target)
{
    if (target->kind == RECOVERY_TIME)
        return header->stopped_us > target->time_us;
    return target->kind == RECOVERY_LSN && header->stop_lsn > target->lsn;
}

/* All of plans are of backups that were ready behind the target. */
static int
recovery_refuse_early(
    const BackupList *list, const WalInventory *inv, const RecoveryTarget *target,
    const RecoveryPlan *oldest, Error *err)
{
    const Backup *b = &list->items[oldest->backup];
    char what[64], when[RECOVERY_POINT_TEXT_MAX];

    (void) error_set(
        err, ERROR_USAGE, "%s lies before %s \"%s\" was ready at %s",
        recovery_format_target(target, what, sizeof what),
        target->label != NULL ? "backup" : "the first backup that can be used: backup", b->label,
        recovery_format_point(b->header.stopped_us, b->header.stop_lsn, when));
    return recovery_hint_windows(
        list, inv, oldest->tli, target->kind == RECOVERY_TIME ? target->time_us : 0,
        target->kind == RECOVERY_LSN ? target->lsn : 0, err);
}

/* The newest backup in front of the target LSN has no WAL up to there. */
static int
recovery_refuse_lsn(
    const BackupList *list, const WalInventory *inv, const RecoveryTarget *target,
    const RecoveryPlan *plan, Error *err)
{
    char what[64], from[LSN_TEXT_BYTES], to[LSN_TEXT_BYTES];

    (void) recovery_format_target(target, what, sizeof what);
    (void) lsn_format(plan->wal_end, from, sizeof from);
    if (plan->hole)
        (void) error_set(
            err, ERROR_USAGE, "%s cannot be reached: WAL from %s to %s is missing", what, from,
            lsn_format(plan->hole_end, to, sizeof to));
    else
        (void) error_set(
            err, ERROR_USAGE, "%s cannot be reached: the WAL of timeline %" PRIu32 " ends at %s",
            what, plan->tli, from);
    return recovery_hint_windows(list, inv, plan->tli, 0, target->lsn, err);
}

/* Drops the plans that do not come into question for the target; an error if none is left. */
static int
recovery_filter_plans(
    const BackupList *list, const WalInventory *inv, const RecoveryTarget *target,
    RecoveryPlan *plans, size_t *count, Error *err)
{
    size_t early = SIZE_MAX; /* the first that is not too late */
    size_t kept = 0;

    for (size_t i = 0; i < *count; i++)
    {
        bool too_late = recovery_is_too_late(&list->items[plans[i].backup].header, target);

        if (!too_late && early == SIZE_MAX)
            early = i;
    }
    if (early == SIZE_MAX)
        return recovery_refuse_early(list, inv, target, &plans[*count - 1], err);
    if (target->kind == RECOVERY_LSN && plans[early].wal_end <= target->lsn)
        return recovery_refuse_lsn(list, inv, target, &plans[early], err);
    for (size_t i = 0; i < *count; i++)
    {
        if (recovery_is_too_late(&list->items[plans[i].backup].header, target) ||
            (target->kind == RECOVERY_LSN && plans[i].wal_end <= target->lsn))
            recovery_plan_reset(&plans[i]);
        else
            plans[kept++] = plans[i];
    }
    *count = kept;
    return 0;
}

int
recovery_candidates(
    const BackupList *list, const WalInventory *inv, const RecoveryTarget *target,
    RecoveryPlan **candidates, size_t *count, Error *err)
{
    const Backup *only = NULL;
    const WalTimeline *t;
    RecoveryPlan *plans;
    size_t n;
    size_t fits[RECOVERY_FIT_COUNT];

    *candidates = NULL;
    *count = 0;
    if (target->label != NULL)
    {
        const Backup *newest = backup_list_newest(list);

        only = backup_list_find(list, target->label);
        if (only == NULL)
        {
            (void) error_set(err, ERROR_USAGE, "there is no backup \"%s\"", target->label);
            if (newest != NULL)
                (void) error_hint(err, "The newest backup is \"%s\".", newest->label);
            return -1;
        }
    }
    if (recovery_find_timeline(inv, target->tli, &t, err) < 0 ||
        recovery_plan_line(list, inv, t, only, &plans, &n, fits, err) < 0)
        return -1;

    int rc = 0;

    if (n == 0)
        rc = only != NULL ? recovery_refuse_backup(only, inv, t, err)
                          : recovery_refuse_line(list, t, fits, err);
    else
        rc = recovery_filter_plans(list, inv, target, plans, &n, err);
    if (rc < 0)
    {
        recovery_plans_free(plans, n);
        return -1;
    }
    *candidates = plans;
    *count = n;
    return 0;
}
