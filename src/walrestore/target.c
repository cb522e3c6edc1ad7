/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The way to a recovery target; see target.h. What PostgreSQL does is that of its
 * access/transam/xlogrecovery.c, recoveryStopsBefore and recoveryStopsAfter:
 *
 *   TIME    stops in front of the first commit or abort behind the time (exclusive: at or behind
 *           it); without one recovery fails
 *   XID     stops behind (exclusive: in front of) the first end of that transaction
 *   NAME    stops behind the first restore point of that name
 *   LSN     stops behind (exclusive: in front of) the first record that begins there or later;
 *           without one recovery fails
 *   IMMEDIATE  stops in front of the first record behind the end of the backup; without one
 *           recovery fails
 *   all of them: when that comes before the backup is consistent, recovery fails
 *
 * "First" is from the start of the backup on, so that the choice of the backup decides which of
 * several is meant.
 */
#include "walrestore/target.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "walrestore/target_read.h"

/*
 * The times of commits ascend but for the moment between taking the time and writing the record,
 * and for clocks that are set. When a target is so much behind the end of a backup, no commit in
 * the backup's own WAL is taken to be behind the target.
 */
#define TARGET_MARGIN_US (INT64_C(60) * 1000000)

typedef struct TargetEvents
{
    WalEvent *items; /* owned; as they were found */
    size_t count;
    size_t cap;
} TargetEvents;

typedef struct TargetRun
{
    const TargetSearch *search;
    const RecoveryTarget *target;
    RecoveryPlan *plans; /* owned; the candidates */
    size_t plan_count;
    TargetBatch batch;
    bool shown; /* progress has begun */
} TargetRun;

void
target_found_reset(TargetFound *found)
{
    recovery_plan_reset(&found->plan);
    *found = (TargetFound){0};
}

static void
target_run_reset(TargetRun *run)
{
    recovery_plans_free(run->plans, run->plan_count);
    target_batch_reset(&run->batch);
    if (run->shown)
        progress_end(run->search->progress);
}

static const Backup *
target_backup(const TargetRun *run, const RecoveryPlan *plan)
{
    return &run->search->backups->items[plan->backup];
}

static SegmentNo
target_segment(const TargetRun *run, Lsn lsn)
{
    return wal_segment_of(lsn, run->search->inv->segment_bytes);
}

static Lsn
target_segment_start(const TargetRun *run, SegmentNo segno)
{
    return wal_segment_start(segno, run->search->inv->segment_bytes);
}

/* ---- progress ---- */

static void
target_expect(TargetRun *run, uint64_t bytes)
{
    Progress *p = run->search->progress;

    if (p == NULL)
        return;
    if (run->shown)
        p->total_bytes += bytes;
    else
        progress_begin(p, "searching WAL", bytes);
    run->shown = true;
}

static int
target_fetch(TargetRun *run, const RecoveryPlan *plan, SegmentNo first, size_t count, Error *err)
{
    if (target_batch_fetch(&run->batch, &plan->history, first, count, err) < 0)
        return error_wrap(err, "could not look for the recovery target in WAL");
    if (run->shown)
    {
        progress_add(
            run->search->progress, (uint64_t) count * run->search->inv->segment_bytes, count);
        progress_show(run->search->progress);
    }
    return 0;
}

/* ---- forwards ---- */

typedef struct TargetScanned
{
    Lsn last; /* LSN_INVALID: no whole record */
    Lsn end;
} TargetScanned;

/*
 * Scans the line of plan from the segment of from on, until fn wants no more, WAL ends, or all
 * records that begin in front of until were seen (need_record: and a whole one that begins there or
 * later). Segments behind that of until are read only for the record that reaches into them.
 */
static int
target_scan(
    TargetRun *run, const RecoveryPlan *plan, Lsn from, Lsn until, bool need_record, WalEventFn fn,
    void *ctx, TargetScanned *out, Error *err)
{
    AUTO(wal_scan_freep) WalScan *scan = NULL;
    SegmentNo segno = target_segment(run, from);
    SegmentNo last = target_segment(run, plan->wal_end - 1);
    SegmentNo soft = MIN(last, target_segment(run, until - 1));
    int rc = 0;

    *out = (TargetScanned){LSN_INVALID, LSN_INVALID};
    if (wal_scan_new(
            run->search->inv->segment_bytes, target_segment_start(run, segno), fn, ctx, &scan,
            err) < 0)
        return -1;
    while (rc == 0 && segno <= last)
    {
        size_t count = segno <= soft ? (size_t) MIN(run->batch.room, soft - segno + 1) : 1;

        if (target_fetch(run, plan, segno, count, err) < 0)
            return -1;
        for (size_t i = 0; rc == 0 && i < count; i++)
            rc = target_batch_scan(&run->batch, i, scan, err);
        segno += count;
        if (rc == 0 && segno > soft &&
            (need_record ? wal_scan_last(scan) != LSN_INVALID && wal_scan_last(scan) >= until
                         : !wal_scan_in_record(scan)))
            rc = 1;
    }
    out->last = wal_scan_last(scan);
    out->end = wal_scan_end(scan);
    return rc < 0 ? -1 : 0;
}

/* ---- backwards ---- */

/* What is at the end of WAL. */
typedef struct TargetTail
{
    Lsn from, until; /* only events that begin in [from, until) count */
    bool has_end;    /* a transaction ended */
    WalEvent newest; /* the latest end of a transaction */
    Lsn last;        /* start and end of the last whole record; LSN_INVALID: none was found */
    Lsn end;
} TargetTail;

static int
target_see_tail(void *ctx, const WalEvent *event, Error *err UNUSED)
{
    TargetTail *tail = ctx;

    if (event->kind == WAL_EVENT_RESTORE_POINT || event->lsn < tail->from ||
        event->lsn >= tail->until)
        return 0;
    if (!tail->has_end || event->at_us >= tail->newest.at_us)
        tail->newest = *event;
    tail->has_end = true;
    return 0;
}

/*
 * Looks at count segments from first on, and at the kept one behind them for a record that begins
 * in them and ends there.
 */
static int
target_scan_tail(
    TargetRun *run, const RecoveryPlan *plan, SegmentNo first, size_t count, TargetTail *tail,
    Error *err)
{
    AUTO(wal_scan_freep) WalScan *scan = NULL;
    Lsn behind = target_segment_start(run, first + count);
    int rc = 0;

    tail->until = behind;
    if (target_fetch(run, plan, first, count, err) < 0 ||
        wal_scan_new(
            run->search->inv->segment_bytes, target_segment_start(run, first), target_see_tail,
            tail, &scan, err) < 0)
        return -1;
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = target_batch_scan(&run->batch, i, scan, err);
    if (rc == 0 && run->batch.kept >= 0)
        rc = target_batch_scan_kept(&run->batch, scan, err);
    if (rc < 0)
        return -1;
    if (tail->last == LSN_INVALID)
    {
        tail->last = wal_scan_last(scan);
        tail->end = wal_scan_end(scan);
    }
    target_batch_keep_first(&run->batch);
    return 0;
}

/*
 * From the end of the plan's WAL backwards, until a transaction ended (need_end) or until there is
 * a whole record; within at most max_segments.
 */
static int
target_find_tail(
    TargetRun *run, const RecoveryPlan *plan, bool need_end, uint64_t max_segments,
    TargetTail *tail, Error *err)
{
    SegmentNo low = target_segment(run, plan->wal_start);
    SegmentNo high = target_segment(run, plan->wal_end - 1) + 1;
    size_t count = 1;

    *tail = (TargetTail){.from = plan->wal_start};
    target_batch_forget_kept(&run->batch);
    low = high - low > max_segments ? high - max_segments : low;
    while (high > low && (need_end ? !tail->has_end : tail->last == LSN_INVALID))
    {
        count = (size_t) MIN(count, high - low);
        if (target_scan_tail(run, plan, high - count, count, tail, err) < 0)
            return -1;
        high -= count;
        /* mostly the first has it; then more and more at once */
        if (count == run->batch.room && !run->shown)
            target_expect(run, target_segment_start(run, high - low));
        count = MIN(count * 2, run->batch.room);
    }
    return 0;
}

/* ---- what is told ---- */

static void
target_take(TargetRun *run, RecoveryPlan *plan, Lsn lsn, TargetFound *out)
{
    out->plan = *plan;
    *plan = (RecoveryPlan){0}; /* its history has moved */
    out->lsn = lsn;
    out->replay_bytes = lsn > out->plan.wal_start ? lsn - out->plan.wal_start : 0;

    /* the latest timeline is meant, and there may be one of which nothing came yet */
    const WalInventory *inv = run->search->inv;

    for (size_t i = 0; run->target->tli == 0 && i < inv->timeline_count; i++)
        if (inv->timelines[i].tli > out->plan.tli && inv->timelines[i].histories > 0)
            (void) snprintf(
                out->note, sizeof out->note,
                "Timeline %" PRIu32 " has begun, but there is no WAL of it.",
                inv->timelines[i].tli);
}

/* Where the last whole record in front of the end of WAL begins: what an LSN target can be. */
static int
target_hint_last_record(TargetRun *run, const RecoveryPlan *plan, Lsn last, Error *err)
{
    const Backup *b = target_backup(run, plan);
    char text[LSN_TEXT_BYTES];

    if (last == LSN_INVALID)
    {
        TargetTail tail;
        Error ignored;

        /* a hint is not worth another error */
        if (target_find_tail(run, plan, false, UINT64_MAX, &tail, &ignored) == 0)
            last = tail.last;
    }
    if (last != LSN_INVALID && last >= b->header.stop_lsn)
        return error_hint(
            err, "\"--target-lsn=%s\" recovers all that can be reached.",
            lsn_format(last, text, sizeof text));
    if (last != LSN_INVALID)
        return error_hint(
            err, "\"--target=immediate --backup=%s\" recovers all that can be reached.", b->label);
    return recovery_hint_windows(
        run->search->backups, run->search->inv, plan->tli, 0, plan->wal_end, err);
}

/* ---- LATEST, IMMEDIATE, LSN ---- */

static int
target_find_latest(TargetRun *run, TargetFound *out, Error *err)
{
    RecoveryPlan *plan = &run->plans[0];
    char from[LSN_TEXT_BYTES], to[LSN_TEXT_BYTES], point[RECOVERY_POINT_TEXT_MAX];
    TargetTail tail;
    Error ignored;
    Lsn end = plan->wal_end;
    int64_t at_us = 0;

    (void) lsn_format(plan->wal_end, from, sizeof from);
    (void) lsn_format(plan->hole_end, to, sizeof to);
    if (plan->hole && !plan->in_flight)
    {
        (void) error_set(
            err, ERROR_USAGE,
            "cannot recover to the end of timeline %" PRIu32
            ": WAL from %s to %s is missing, and there is more behind it",
            plan->tli, from, to);
        return target_hint_last_record(run, plan, LSN_INVALID, err);
    }

    /* it would be good to know; recovery itself will tell of what cannot be read */
    if (target_find_tail(run, plan, true, 1, &tail, &ignored) == 0)
    {
        at_us = tail.has_end ? tail.newest.at_us : 0;
        end = tail.end != LSN_INVALID ? MIN(tail.end, end) : end;
    }
    else if (ignored.kind == ERROR_CANCELED || ignored.kind == ERROR_NOMEM)
    {
        *err = ignored;
        return -1;
    }
    target_take(run, plan, end, out);
    out->at_us = at_us;
    (void) snprintf(
        out->text, sizeof out->text, "the end of WAL on timeline %" PRIu32 ", %s%s", out->plan.tli,
        at_us != 0 ? "last commit " : "", recovery_format_point(at_us, end, point));
    if (out->plan.hole)
        (void) snprintf(
            out->note, sizeof out->note,
            "WAL from %s to %s had not arrived when what is behind it was being uploaded; recovery "
            "ends in front of it.",
            from, to);
    return 0;
}

static int
target_ignore_event(void *ctx UNUSED, const WalEvent *event UNUSED, Error *err UNUSED)
{
    return 0;
}

/*
 * PostgreSQL looks whether it is consistent when it has the next record: WAL that ends at the stop
 * LSN, as that of a standby on which nothing happens may do, would make recovery fail. Then it is
 * told to stop behind the last record.
 */
static int
target_check_consistent_end(TargetRun *run, TargetFound *out, Error *err)
{
    const RecoveryPlan *plan = &run->plans[0];
    Lsn stop = target_backup(run, plan)->header.stop_lsn;
    TargetScanned scanned;
    TargetTail tail;

    if (target_scan(run, plan, stop, stop, true, target_ignore_event, NULL, &scanned, err) < 0)
        return -1;
    if (scanned.last != LSN_INVALID && scanned.last >= stop)
        return 0;
    if (target_find_tail(run, plan, false, UINT64_MAX, &tail, err) < 0)
        return -1;
    out->last_record = tail.last;
    return 0;
}

static int
target_find_immediate(TargetRun *run, TargetFound *out, Error *err)
{
    RecoveryPlan *plan = &run->plans[0];
    const Backup *b = target_backup(run, plan);
    char point[RECOVERY_POINT_TEXT_MAX];

    if (target_check_consistent_end(run, out, err) < 0)
        return -1;
    target_take(run, plan, b->header.stop_lsn, out);
    out->at_us = b->header.stopped_us;
    (void) snprintf(
        out->text, sizeof out->text, "as soon as backup \"%s\" is consistent, %s", b->label,
        recovery_format_point(b->header.stopped_us, b->header.stop_lsn, point));
    return 0;
}

static int
target_find_lsn(TargetRun *run, TargetFound *out, Error *err)
{
    RecoveryPlan *plan = &run->plans[0];
    Lsn lsn = run->target->lsn;
    char text[LSN_TEXT_BYTES];
    TargetScanned scanned;

    (void) lsn_format(lsn, text, sizeof text);
    if (target_scan(run, plan, lsn, lsn, true, target_ignore_event, NULL, &scanned, err) < 0)
        return -1;
    if (scanned.last == LSN_INVALID || scanned.last < lsn)
    {
        (void) error_set(
            err, ERROR_USAGE,
            "target LSN %s cannot be reached: no record begins there or behind it in the WAL of "
            "timeline %" PRIu32,
            text, plan->tli);
        return target_hint_last_record(run, plan, scanned.last, err);
    }
    target_take(run, plan, lsn, out);
    (void) snprintf(
        out->text, sizeof out->text, "%s the first record at LSN %s or later, on timeline %" PRIu32,
        run->target->exclusive ? "in front of" : "behind", text, out->plan.tli);
    return 0;
}

/* ---- TIME ---- */

static bool
target_is_past(const RecoveryTarget *target, const WalEvent *event)
{
    if (event->kind == WAL_EVENT_RESTORE_POINT)
        return false;
    return target->exclusive ? event->at_us >= target->time_us : event->at_us > target->time_us;
}

/* Of the events in [from, until): the first end of a transaction, and the first behind the time. */
typedef struct TargetProbe
{
    const RecoveryTarget *target;
    Lsn from, until;
    bool any;
    bool past;
    WalEvent event; /* of past */
} TargetProbe;

static int
target_see_probe(void *ctx, const WalEvent *event, Error *err UNUSED)
{
    TargetProbe *probe = ctx;

    if (event->kind == WAL_EVENT_RESTORE_POINT || event->lsn < probe->from)
        return 0;
    if (event->lsn >= probe->until)
        return 1;
    probe->any = true;
    if (!target_is_past(probe->target, event))
        return 0;
    probe->past = true;
    probe->event = *event;
    return 1;
}

/* The first event behind the time in [from, until), in one go. */
static int
target_probe(
    TargetRun *run, const RecoveryPlan *plan, Lsn from, Lsn until, TargetProbe *probe, Error *err)
{
    TargetScanned scanned;

    *probe = (TargetProbe){.target = run->target, .from = from, .until = until};
    return target_scan(run, plan, from, until, false, target_see_probe, probe, &scanned, err);
}

/*
 * Segments from first on, more and more at once, until a transaction ended in one, or up to end.
 * *next: what was not looked at.
 */
static int
target_probe_segments(
    TargetRun *run, const RecoveryPlan *plan, SegmentNo first, SegmentNo end, TargetProbe *probe,
    SegmentNo *next, Error *err)
{
    size_t count = 1;

    *probe = (TargetProbe){0};
    for (*next = first; *next < end && !probe->any; count = MIN(count * 2, run->batch.room))
    {
        SegmentNo stop = MIN(end, *next + count);

        if (target_probe(
                run, plan, MAX(plan->wal_start, target_segment_start(run, *next)),
                target_segment_start(run, stop), probe, err) < 0)
            return -1;
        *next = stop;
    }
    return 0;
}

/*
 * Where recovery will stop: *event is behind the time, and the first such one is looked for, by
 * halves, as times ascend.
 */
static int
target_locate_time(TargetRun *run, const RecoveryPlan *plan, WalEvent *event, Error *err)
{
    SegmentNo low = target_segment(run, plan->wal_start);
    SegmentNo high = target_segment(run, event->lsn);
    TargetProbe probe;

    /* the first of its own segment */
    if (target_probe(
            run, plan, MAX(plan->wal_start, target_segment_start(run, high)), event->end, &probe,
            err) < 0)
        return -1;
    if (probe.past)
        *event = probe.event;
    /* what may have an earlier one is low .. high - 1 */
    while (high > low && high - low > run->batch.room)
    {
        SegmentNo middle = low + (high - low) / 2;
        SegmentNo next;

        if (target_probe_segments(run, plan, middle, high, &probe, &next, err) < 0)
            return -1;
        if (probe.past)
            *event = probe.event;
        if (probe.past || !probe.any)
            high = middle;
        else
            low = next;
    }
    if (high == low)
        return 0;
    if (target_probe(
            run, plan, MAX(plan->wal_start, target_segment_start(run, low)),
            target_segment_start(run, high), &probe, err) < 0)
        return -1;
    if (probe.past)
        *event = probe.event;
    return 0;
}

/* There is no commit behind the time. */
static int
target_refuse_time(TargetRun *run, const RecoveryPlan *plan, const TargetTail *tail, Error *err)
{
    char when[32], last[32], where[LSN_TEXT_BYTES];
    const char *how = plan->hole ? "in front of the hole in its WAL at" : "up to the end of WAL at";

    (void) clock_format_utc(run->target->time_us, when, sizeof when);
    (void) lsn_format(plan->wal_end, where, sizeof where);
    if (tail->has_end)
        (void) error_set(
            err, ERROR_USAGE,
            "target time %s cannot be reached: the newest commit on timeline %" PRIu32
            " %s %s is of %s",
            when, plan->tli, how, where, clock_format_utc(tail->newest.at_us, last, sizeof last));
    else
        (void) error_set(
            err, ERROR_USAGE,
            "target time %s cannot be reached: there is no commit from backup \"%s\" on, on "
            "timeline %" PRIu32 " %s %s",
            when, target_backup(run, plan)->label, plan->tli, how, where);
    if (plan->hole && !plan->in_flight)
        return target_hint_last_record(run, plan, tail->last, err);
    return error_hint(
        err, "Without a target all of that is recovered: the end of WAL is what can be reached.");
}

/* Whether recovery along plan stops before its backup is consistent. */
static int
target_stops_early(TargetRun *run, const RecoveryPlan *plan, bool *early, Error *err)
{
    const BackupHeader *header = &target_backup(run, plan)->header;
    TargetProbe probe;
    int64_t behind_us;

    *early = false;
    if (__builtin_sub_overflow(run->target->time_us, header->stopped_us, &behind_us) ||
        behind_us > TARGET_MARGIN_US)
        return 0;
    if (target_probe(run, plan, header->start_lsn, header->stop_lsn, &probe, err) < 0)
        return -1;
    *early = probe.past;
    return 0;
}

static int
target_find_time(TargetRun *run, TargetFound *out, Error *err)
{
    TargetTail tail = {0};
    Lsn tail_of = LSN_INVALID; /* the end of WAL that it is of */
    char when[32], point[RECOVERY_POINT_TEXT_MAX];

    (void) clock_format_utc(run->target->time_us, when, sizeof when);
    for (size_t i = 0; i < run->plan_count; i++)
    {
        RecoveryPlan *plan = &run->plans[i];
        bool early;

        if (tail_of != plan->wal_end &&
            target_find_tail(run, plan, true, UINT64_MAX, &tail, err) < 0)
            return -1;
        tail_of = plan->wal_end;
        if (!tail.has_end || !target_is_past(run->target, &tail.newest))
            return target_refuse_time(run, plan, &tail, err);
        if (target_stops_early(run, plan, &early, err) < 0)
            return -1;
        if (early)
            continue;

        WalEvent event = tail.newest;

        if (target_locate_time(run, plan, &event, err) < 0)
            return -1;
        if (event.lsn < target_backup(run, plan)->header.stop_lsn)
            continue;
        target_take(run, plan, event.lsn, out);
        out->at_us = event.at_us;
        out->xid = event.xid;
        (void) snprintf(
            out->text, sizeof out->text,
            "%s %s, in front of the %s of transaction %" PRIu32 " at %s, on timeline %" PRIu32,
            run->target->exclusive ? "before" : "up to", when,
            event.kind == WAL_EVENT_ABORT ? "abort" : "commit", event.xid,
            recovery_format_point(event.at_us, event.lsn, point), out->plan.tli);
        return 0;
    }

    const RecoveryPlan *oldest = &run->plans[run->plan_count - 1];

    (void) error_set(
        err, ERROR_USAGE,
        "target time %s cannot be reached: a commit behind it comes before backup \"%s\" is "
        "consistent",
        when, target_backup(run, oldest)->label);
    return recovery_hint_windows(
        run->search->backups, run->search->inv, oldest->tli, run->target->time_us, 0, err);
}

/* ---- XID, NAME ---- */

/* All that matches in what was looked at. */
typedef struct TargetMatches
{
    const RecoveryTarget *target;
    Lsn from, until; /* of the scan under way: what begins there is new */
    TargetEvents found;
    Lsn broken; /* where no valid record follows, though there is more WAL; LSN_INVALID */
} TargetMatches;

static void
target_matches_reset(TargetMatches *matches)
{
    free(matches->found.items);
}

static int
target_see_match(void *ctx, const WalEvent *event, Error *err)
{
    TargetMatches *m = ctx;
    bool is_point = event->kind == WAL_EVENT_RESTORE_POINT;

    if (event->lsn < m->from || event->lsn >= m->until)
        return 0;
    if (is_point != (m->target->kind == RECOVERY_NAME) ||
        (is_point ? strcmp(event->name, m->target->name) != 0 : event->xid != m->target->xid))
        return 0;

    WalEvent *items = array_grow(m->found.items, m->found.count, &m->found.cap, sizeof *items, err);

    if (items == NULL)
        return -1;
    m->found.items = items;
    m->found.items[m->found.count++] = *event;
    return 0;
}

/* The first match in [from, until), and how many there are; NULL if there is none. */
static const WalEvent *
target_first_match(const TargetMatches *m, Lsn from, Lsn until, uint64_t *count)
{
    const WalEvent *first = NULL;

    *count = 0;
    for (size_t i = 0; i < m->found.count; i++)
    {
        const WalEvent *e = &m->found.items[i];

        if (e->lsn < from || e->lsn >= until)
            continue;
        ++*count;
        if (first == NULL || e->lsn < first->lsn)
            first = e;
    }
    return first;
}

static char *
target_format_match(const RecoveryTarget *target, char *buf, size_t len)
{
    if (target->kind == RECOVERY_NAME)
        (void) snprintf(buf, len, "restore point \"%s\"", target->name);
    else
        (void) snprintf(buf, len, "end of transaction %" PRIu32, target->xid);
    return buf;
}

static void
target_tell_match(
    TargetRun *run, RecoveryPlan *plan, const WalEvent *event, uint64_t count, TargetFound *out)
{
    bool is_point = run->target->kind == RECOVERY_NAME;
    bool before = !is_point && run->target->exclusive;
    char what[128], point[RECOVERY_POINT_TEXT_MAX];

    target_take(run, plan, before ? event->lsn : event->end, out);
    out->at_us = event->at_us;
    out->xid = is_point ? 0 : event->xid;
    out->aborted = event->kind == WAL_EVENT_ABORT;
    out->occurrences = count;
    if (is_point)
        (void) target_format_match(run->target, what, sizeof what);
    else
        (void) snprintf(
            what, sizeof what, "%s the %s of transaction %" PRIu32,
            before ? "in front of" : "behind", out->aborted ? "abort" : "commit", event->xid);
    (void) snprintf(
        out->text, sizeof out->text, "%s at %s, on timeline %" PRIu32, what,
        recovery_format_point(event->at_us, event->lsn, point), out->plan.tli);
    if (count > 1)
        (void) snprintf(
            out->note, sizeof out->note,
            "There are %" PRIu64 " of them behind backup \"%s\"; recovery stops at the first.",
            count, target_backup(run, &out->plan)->label);
    else if (out->aborted)
        (void) snprintf(
            out->note, sizeof out->note, "The transaction was rolled back: nothing of it is seen.");
}

/*
 * Looks at what of the plan's WAL was not looked at for a newer backup: *from .. *until was.
 */
static int
target_search_plan(
    TargetRun *run, const RecoveryPlan *plan, TargetMatches *m, Lsn *from, Lsn *until, Error *err)
{
    Lsn start = target_segment_start(run, target_segment(run, plan->wal_start));
    TargetScanned scanned;

    if (*from == *until || plan->wal_end <= *from)
    {
        m->until = plan->wal_end;
        *until = plan->wal_end;
    }
    else if (start < *from)
        m->until = *from;
    else
        return 0;
    m->from = start;
    *from = start;
    target_expect(run, m->until - start);
    if (target_scan(run, plan, start, m->until, false, target_see_match, m, &scanned, err) < 0)
        return -1;
    /* the last segments may have no more than the beginning of a record */
    scanned.end = MAX(scanned.end, start);
    if (target_segment(run, scanned.end) + 1 < target_segment(run, m->until - 1))
        m->broken = scanned.end;
    return 0;
}

static int
target_find_match(TargetRun *run, TargetFound *out, Error *err)
{
    AUTO(target_matches_reset) TargetMatches m = {.target = run->target};
    const RecoveryPlan *oldest = &run->plans[run->plan_count - 1];
    const RecoveryPlan *early = NULL;
    Lsn from = 0;
    Lsn until = 0;
    char what[128], first[LSN_TEXT_BYTES], last[LSN_TEXT_BYTES];

    for (size_t i = 0; i < run->plan_count; i++)
    {
        RecoveryPlan *plan = &run->plans[i];
        uint64_t count;

        if (target_search_plan(run, plan, &m, &from, &until, err) < 0)
            return -1;

        const WalEvent *event = target_first_match(&m, plan->wal_start, plan->wal_end, &count);

        if (event != NULL && event->lsn >= target_backup(run, plan)->header.stop_lsn)
        {
            target_tell_match(run, plan, event, count, out);
            return 0;
        }
        if (event != NULL)
            early = plan;
    }
    (void) target_format_match(run->target, what, sizeof what);
    if (early != NULL)
        (void) error_set(
            err, ERROR_USAGE, "%s cannot be reached: it comes before backup \"%s\" is consistent",
            what, target_backup(run, early)->label);
    else if (m.broken != LSN_INVALID)
        (void) error_set(
            err, ERROR_NOT_FOUND,
            "there is no %s in the WAL of timeline %" PRIu32
            ", which ends at %s: no valid record follows, though there is WAL up to %s",
            what, oldest->tli, lsn_format(m.broken, first, sizeof first),
            lsn_format(run->plans[0].wal_end, last, sizeof last));
    else
        (void) error_set(
            err, ERROR_NOT_FOUND, "there is no %s in the WAL of timeline %" PRIu32 " from %s to %s",
            what, oldest->tli, lsn_format(oldest->wal_start, first, sizeof first),
            lsn_format(run->plans[0].wal_end, last, sizeof last));
    return recovery_hint_windows(run->search->backups, run->search->inv, oldest->tli, 0, 0, err);
}

/* ---- all together ---- */

int
target_find(const TargetSearch *search, const RecoveryTarget *target, TargetFound *out, Error *err)
{
    AUTO(target_run_reset) TargetRun run = {.search = search, .target = target};

    *out = (TargetFound){0};
    *err = (Error){0};
    target_batch_init(&run.batch, search);
    if (recovery_candidates(
            search->backups, search->inv, target, &run.plans, &run.plan_count, err) < 0)
        return -1;
    switch (target->kind)
    {
        case RECOVERY_LATEST:
            return target_find_latest(&run, out, err);
        case RECOVERY_IMMEDIATE:
            return target_find_immediate(&run, out, err);
        case RECOVERY_LSN:
            return target_find_lsn(&run, out, err);
        case RECOVERY_TIME:
            return target_find_time(&run, out, err);
        case RECOVERY_XID:
        case RECOVERY_NAME:
            break;
    }
    return target_find_match(&run, out, err);
}
