/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What to keep; see retention.h.
 */
#include "repo/retention.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/array.h"

#define RETENTION_DAY_US (INT64_C(24) * 3600 * 1000 * 1000)

static const struct
{
    RetentionReason reason;
    const char *name;
} retention_names[] = {
    {RETENTION_FULL, "full"},
    {RETENTION_INCREMENTAL, "incremental"},
    {RETENTION_WEEKLY, "weekly"},
    {RETENTION_MONTHLY, "monthly"},
    {RETENTION_YEARLY, "yearly"},
    {RETENTION_PITR, "pitr"},
    {RETENTION_PIN, "pin"},
    {RETENTION_CHAIN, "chain"},
    {RETENTION_NEWEST, "newest"},
    {RETENTION_RUNNING, "running"},
    {RETENTION_USED, "used"},
    {RETENTION_NO_RULE, "no rule"},
    {RETENTION_UNREADABLE, "damaged"},
    {RETENTION_STUCK, "not removable"},
};

/* When a backup was made, as far as it can be believed. */
typedef struct RetentionTime
{
    int64_t began_us;
    int64_t stopped_us;
} RetentionTime;

/* What a plan is made of. */
typedef struct RetentionMaker
{
    const RetentionRules *rules;
    const BackupList *list;
    const WalInventory *inv;
    RetentionPlan *plan;
    bool *restorable;     /* of each backup of the list */
    RetentionTime *times; /* the same */
    size_t *order;        /* the complete backups, by when they began */
    size_t *by_lsn;       /* the restorable ones, by stop_lsn */
    size_t order_count;   /* of order */
    size_t by_lsn_count;  /* of by_lsn */
    int64_t pitr_from_us; /* INT64_MAX: there is no pitr */
} RetentionMaker;

RetentionRules
retention_rules(const Config *cfg, int64_t now_us)
{
    return (RetentionRules){
        .full = cfg->retention.full,
        .incremental = cfg->retention.incremental,
        .weekly = cfg->retention.weekly,
        .monthly = cfg->retention.monthly,
        .yearly = cfg->retention.yearly,
        .pitr = cfg->retention.pitr,
        .now_us = now_us};
}

char *
retention_format_reasons(unsigned reasons, char *buf)
{
    size_t used = 0;

    buf[0] = '\0';
    for (size_t i = 0; i < ARRAY_COUNT(retention_names); i++)
    {
        if ((reasons & retention_names[i].reason) == 0)
            continue;
        used += (size_t) snprintf(
            buf + used, RETENTION_REASONS_MAX - used, "%s%s", used > 0 ? "," : "",
            retention_names[i].name);
        assert(used < RETENTION_REASONS_MAX);
    }
    return buf;
}

/* ---- small questions ---- */

static bool
retention_rule_is_set(const ConfigKeep *keep)
{
    return keep->ms > 0 || keep->count > 0;
}

/* The moment that lies ms before us; the beginning of time if that is too long ago. */
static int64_t
retention_before(int64_t us, int64_t ms)
{
    int64_t span, moment;

    if (__builtin_mul_overflow(ms, INT64_C(1000), &span) ||
        __builtin_sub_overflow(us, span, &moment))
        return INT64_MIN;
    return moment;
}

static const BackupHeader *
retention_header(const RetentionMaker *m, size_t i)
{
    return &m->list->items[i].header;
}

static bool
retention_is_complete(const RetentionMaker *m, size_t i)
{
    return m->list->items[i].state == BACKUP_COMPLETE;
}

static bool
retention_is_future(const RetentionMaker *m, size_t i)
{
    const BackupHeader *h = retention_header(m, i);

    return MAX(h->started_us, h->stopped_us) > m->rules->now_us + RETENTION_FUTURE_MS * 1000;
}

/* One from the future has the time of the next behind it, or is of now. */
static RetentionTime
retention_time(const RetentionMaker *m, size_t i)
{
    const BackupHeader *h = retention_header(m, i);
    RetentionTime t = {.began_us = h->started_us, .stopped_us = h->stopped_us};
    const BackupHeader *next = NULL;

    if (!retention_is_future(m, i))
        return t;
    for (size_t k = 0; k < m->list->count; k++)
    {
        const BackupHeader *other = retention_header(m, k);

        if (retention_is_complete(m, k) && !retention_is_future(m, k) && other->tli >= h->tli &&
            other->start_lsn >= h->start_lsn &&
            (next == NULL || other->start_lsn < next->start_lsn))
            next = other;
    }
    t.began_us = t.stopped_us = next != NULL ? next->started_us : m->rules->now_us;
    return t;
}

static Lsn
retention_segment_start(const RetentionMaker *m, Lsn lsn)
{
    return lsn - lsn % m->inv->segment_bytes;
}

static Lsn
retention_segment_end(const RetentionMaker *m, Lsn lsn)
{
    uint32_t rest = (uint32_t) (lsn % m->inv->segment_bytes);

    if (rest == 0 || lsn > UINT64_MAX - m->inv->segment_bytes)
        return lsn;
    return lsn - rest + m->inv->segment_bytes;
}

bool
retention_backup_consistent(const BackupHeader *header, const WalInventory *inv)
{
    const WalTimeline *t = wal_inventory_find(inv, header->tli);

    /* recovery reads a segment from its beginning */
    return t != NULL && header->stop_lsn > header->start_lsn &&
           wal_runs_cover(
               &t->all, header->start_lsn - header->start_lsn % inv->segment_bytes,
               header->stop_lsn);
}

static size_t
retention_find(const RetentionMaker *m, const char *label)
{
    const Backup *found = backup_list_find(m->list, label);

    return found == NULL ? SIZE_MAX : (size_t) (found - m->list->items);
}

/* ---- orders ---- */

static int
retention_compare_began(const void *a, const void *b, void *ctx)
{
    const RetentionMaker *m = ctx;
    size_t left = *(const size_t *) a;
    size_t right = *(const size_t *) b;
    int64_t left_us = m->times[left].began_us;
    int64_t right_us = m->times[right].began_us;

    if (left_us != right_us)
        return left_us < right_us ? -1 : 1;
    return (left > right) - (left < right);
}

static int
retention_compare_lsn(const void *a, const void *b, void *ctx)
{
    const RetentionMaker *m = ctx;
    const BackupHeader *left = retention_header(m, *(const size_t *) a);
    const BackupHeader *right = retention_header(m, *(const size_t *) b);

    if (left->stop_lsn != right->stop_lsn)
        return left->stop_lsn < right->stop_lsn ? -1 : 1;
    if (left->tli != right->tli)
        return left->tli < right->tli ? -1 : 1;
    return (left->start_lsn > right->start_lsn) - (left->start_lsn < right->start_lsn);
}

static int
retention_sort(RetentionMaker *m, Error *err)
{
    size_t n = MAX(m->list->count, 1);

    m->plan->count = m->list->count;
    m->plan->reasons = calloc(n, sizeof *m->plan->reasons);
    m->restorable = calloc(n, sizeof *m->restorable);
    m->times = calloc(n, sizeof *m->times);
    m->order = calloc(n, sizeof *m->order);
    m->by_lsn = calloc(n, sizeof *m->by_lsn);
    if (m->plan->reasons == NULL || m->restorable == NULL || m->times == NULL || m->order == NULL ||
        m->by_lsn == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < m->list->count; i++)
    {
        if (m->list->items[i].state == BACKUP_DAMAGED)
            m->plan->damaged_count++;
        if (!retention_is_complete(m, i))
            continue;
        m->order[m->order_count++] = i;
        m->times[i] = retention_time(m, i);
        m->restorable[i] = !m->list->items[i].chain_broken &&
                           retention_backup_consistent(retention_header(m, i), m->inv);
        if (m->restorable[i])
            m->by_lsn[m->by_lsn_count++] = i;
    }
    qsort_r(m->order, m->order_count, sizeof *m->order, retention_compare_began, m);
    qsort_r(m->by_lsn, m->by_lsn_count, sizeof *m->by_lsn, retention_compare_lsn, m);
    m->plan->none_restorable = m->order_count > 0 && m->by_lsn_count == 0;
    return 0;
}

/* ---- rules by age and number ---- */

/*
 * Marks what is younger than the rule's age, or not older than the n-th newest restorable one: what
 * cannot be restored never uses up a number, nor does the other kind of backup.
 */
static void
retention_mark_kind(RetentionMaker *m, bool incremental, const ConfigKeep *keep, unsigned reason)
{
    int64_t since_us = retention_before(m->rules->now_us, keep->ms);
    uint64_t seen = 0;

    for (size_t k = m->order_count; k-- > 0;)
    {
        size_t i = m->order[k];

        if (retention_header(m, i)->incremental != incremental)
            continue;
        if (keep->ms > 0 ? m->times[i].began_us <= since_us : seen >= keep->count)
            break;
        m->plan->reasons[i] |= reason;
        seen += m->restorable[i];
    }
}

static void
retention_mark_full(RetentionMaker *m)
{
    if (retention_rule_is_set(&m->rules->full))
    {
        retention_mark_kind(m, false, &m->rules->full, RETENTION_FULL);
        return;
    }
    for (size_t k = 0; k < m->order_count; k++)
        if (!retention_header(m, m->order[k])->incremental)
            m->plan->reasons[m->order[k]] |= RETENTION_NO_RULE;
}

/* Without a rule of their own they go with their full backup, as "full" alone decides on it. */
static void
retention_mark_incremental(RetentionMaker *m)
{
    bool full = retention_rule_is_set(&m->rules->full);

    if (retention_rule_is_set(&m->rules->incremental))
    {
        retention_mark_kind(m, true, &m->rules->incremental, RETENTION_INCREMENTAL);
        return;
    }
    for (size_t k = 0; k < m->order_count; k++)
    {
        size_t i = m->order[k];
        const BackupHeader *h = retention_header(m, i);
        size_t root;

        if (!h->incremental)
            continue;
        root = h->chain_count > 0 ? retention_find(m, h->chain[0]) : SIZE_MAX;
        if (!full)
            m->plan->reasons[i] |= RETENTION_NO_RULE;
        else if (root != SIZE_MAX && (m->plan->reasons[root] & RETENTION_FULL) != 0)
            m->plan->reasons[i] |= RETENTION_INCREMENTAL;
    }
}

/* ---- rules by calendar, in UTC ---- */

/* Days since 1970-01-01, downwards also before it. */
static int64_t
retention_day(int64_t us)
{
    return us / RETENTION_DAY_US - (us % RETENTION_DAY_US < 0);
}

/* A number for each week from Monday to Sunday: 1970-01-01 was a Thursday. */
static int64_t
retention_week(int64_t us)
{
    int64_t days = retention_day(us) + 3;

    return days / 7 - (days % 7 < 0);
}

static int64_t
retention_month(int64_t us)
{
    time_t seconds = (time_t) (retention_day(us) * 86400);
    struct tm tm;

    if (gmtime_r(&seconds, &tm) == NULL)
        return 0; /* no year of an int has it; microseconds in 64 bits cannot get there */
    return (int64_t) tm.tm_year * 12 + tm.tm_mon;
}

static int64_t
retention_year(int64_t us)
{
    int64_t month = retention_month(us);

    return month / 12 - (month % 12 < 0);
}

/* The first full backup of each period, else its first backup; newest period first. */
static void
retention_mark_periods(
    RetentionMaker *m, const ConfigKeep *keep, int64_t (*period)(int64_t us), unsigned reason)
{
    int64_t since_us = retention_before(m->rules->now_us, keep->ms);
    uint64_t seen = 0;
    size_t k = m->order_count;

    if (!retention_rule_is_set(keep))
        return;
    while (k > 0)
    {
        int64_t this = period(m->times[m->order[k - 1]].began_us);
        size_t first = SIZE_MAX, first_full = SIZE_MAX;

        for (; k > 0 && period(m->times[m->order[k - 1]].began_us) == this; k--)
        {
            size_t i = m->order[k - 1];

            if (!m->restorable[i])
                continue;
            first = i;
            if (!retention_header(m, i)->incremental)
                first_full = i;
        }
        if (first_full != SIZE_MAX)
            first = first_full;
        if (first == SIZE_MAX)
            continue;
        if (keep->ms > 0 ? m->times[first].began_us <= since_us : seen >= keep->count)
            return;
        m->plan->reasons[first] |= reason;
        seen++;
    }
}

/* ---- WAL to keep ---- */

static int
retention_add_range(RetentionMaker *m, TimelineId tli, Lsn start, Lsn end, Error *err)
{
    RetentionPlan *plan = m->plan;
    RetentionRange *ranges =
        array_grow(plan->ranges, plan->range_count, &plan->range_cap, sizeof *ranges, err);

    if (ranges == NULL)
        return -1;
    plan->ranges = ranges;
    plan->ranges[plan->range_count++] = (RetentionRange){
        .tli = tli,
        .start = retention_segment_start(m, start),
        .end = retention_segment_end(m, end)};
    return 0;
}

static int
retention_compare_ranges(const void *a, const void *b)
{
    const RetentionRange *left = a;
    const RetentionRange *right = b;

    if (left->tli != right->tli)
        return left->tli < right->tli ? -1 : 1;
    return (left->start > right->start) - (left->start < right->start);
}

static void
retention_merge_ranges(RetentionPlan *plan)
{
    size_t count = 0;

    if (plan->range_count > 1)
        qsort(plan->ranges, plan->range_count, sizeof *plan->ranges, retention_compare_ranges);
    for (size_t i = 0; i < plan->range_count; i++)
    {
        RetentionRange *last = count > 0 ? &plan->ranges[count - 1] : NULL;

        if (last != NULL && last->tli == plan->ranges[i].tli && plan->ranges[i].start <= last->end)
            last->end = MAX(last->end, plan->ranges[i].end);
        else
            plan->ranges[count++] = plan->ranges[i];
    }
    plan->range_count = count;
}

static void
retention_keep_all_wal(RetentionPlan *plan, const char *why)
{
    if (!plan->wal_unbounded)
        plan->wal_why = why;
    plan->wal_unbounded = true;
}

/* ---- lines of timelines ---- */

/* When the newest WAL of it was stored; INT64_MAX if the store does not tell. */
static int64_t
retention_newest_wal(const WalTimeline *t)
{
    int64_t newest_us = 0;

    for (size_t i = 0; i < t->all.count; i++)
    {
        if (t->all.items[i].newest_us == 0)
            return INT64_MAX;
        newest_us = MAX(newest_us, t->all.items[i].newest_us);
    }
    return newest_us;
}

/* Where ancestor leaves the line of t: 0 if it is none, UINT64_MAX if it is t. */
static Lsn
retention_line_end(const RetentionMaker *m, const WalTimeline *t, TimelineId ancestor)
{
    Lsn end = UINT64_MAX;

    if (ancestor >= t->tli)
        return ancestor == t->tli ? UINT64_MAX : 0;
    if (t->history_state == WAL_HISTORY_READ || t->history_state == WAL_HISTORY_NOT_NEEDED)
    {
        const TimelineEntry *entry = timeline_find(&t->history, ancestor);

        return entry != NULL ? entry->end : 0;
    }
    /* not known: whichever later timeline it was, its WAL begins with the segment of the switch */
    for (size_t i = 0; i < m->inv->timeline_count; i++)
    {
        const WalTimeline *other = &m->inv->timelines[i];

        if (other->tli > ancestor && other->tli <= t->tli && other->all.count > 0)
            end = MIN(end, other->all.items[0].start);
    }
    return end;
}

static bool
retention_on_line(const RetentionMaker *m, const WalTimeline *t, size_t backup)
{
    const BackupHeader *h = retention_header(m, backup);

    return h->stop_lsn <= retention_line_end(m, t, h->tli);
}

/* The last restorable backup of the line, SIZE_MAX if it has none. */
static size_t
retention_line_newest(const RetentionMaker *m, const WalTimeline *t)
{
    for (size_t k = m->by_lsn_count; k-- > 0;)
        if (retention_on_line(m, t, m->by_lsn[k]))
            return m->by_lsn[k];
    return SIZE_MAX;
}

/*
 * The last backup of the line that is as old as pitr with no younger one in front of it; if there
 * is none, the first of the line. SIZE_MAX if the line has no restorable backup. One that claims to
 * be older than those in front of it was made while the server's clock was wrong: it is passed
 * over.
 *
 * next  the first younger one, which is to be the next anchor; SIZE_MAX if there is none
 */
static size_t
retention_line_anchor(const RetentionMaker *m, const WalTimeline *t, size_t *next)
{
    size_t anchor = SIZE_MAX;

    *next = SIZE_MAX;
    for (size_t k = 0; k < m->by_lsn_count; k++)
    {
        size_t i = m->by_lsn[k];

        if (!retention_on_line(m, t, i))
            continue;
        if (anchor == SIZE_MAX || (m->times[i].stopped_us <= m->pitr_from_us &&
                                   m->times[i].stopped_us > m->times[anchor].stopped_us))
            anchor = i;
        if (m->times[i].stopped_us > m->pitr_from_us)
        {
            *next = i;
            break;
        }
    }
    return anchor;
}

/* The WAL of the line from the anchor on; the first backup of each run of it, behind holes. */
static int
retention_keep_line(RetentionMaker *m, const WalTimeline *t, size_t anchor, Error *err)
{
    const BackupHeader *a = retention_header(m, anchor);

    m->plan->reasons[anchor] |= RETENTION_PITR;
    for (size_t i = 0; i < m->inv->timeline_count; i++)
    {
        const WalTimeline *u = &m->inv->timelines[i];

        if (u->tli < a->tli || u->tli > t->tli || retention_line_end(m, t, u->tli) == 0)
            continue;
        if (retention_add_range(m, u->tli, a->start_lsn, UINT64_MAX, err) < 0)
            return -1;
        for (size_t r = wal_runs_find(&u->all, a->start_lsn); r < u->all.count; r++)
        {
            const WalRun *run = &u->all.items[r];

            if (u->tli == a->tli && run->start <= a->start_lsn)
                continue;
            for (size_t k = 0; k < m->by_lsn_count; k++)
            {
                const BackupHeader *h = retention_header(m, m->by_lsn[k]);

                if (h->tli == u->tli && h->start_lsn >= run->start && h->stop_lsn <= run->end &&
                    h->start_lsn >= a->start_lsn)
                {
                    m->plan->reasons[m->by_lsn[k]] |= RETENTION_PITR;
                    break;
                }
            }
        }
    }
    return 0;
}

static int
retention_keep_lines(RetentionMaker *m, Error *err)
{
    int64_t latest_us = 0, quiet_us;
    TimelineId highest = 0;

    for (size_t i = 0; i < m->inv->timeline_count; i++)
    {
        const WalTimeline *t = &m->inv->timelines[i];

        latest_us = MAX(latest_us, retention_newest_wal(t));
        if (t->all.count > 0)
            highest = MAX(highest, t->tli);
    }
    quiet_us = retention_before(latest_us, RETENTION_QUIET_MS);
    for (size_t i = 0; i < m->inv->timeline_count; i++)
    {
        const WalTimeline *t = &m->inv->timelines[i];
        int64_t newest_us = retention_newest_wal(t);
        bool served = newest_us > m->pitr_from_us || newest_us == latest_us ||
                      (t->tli == highest && newest_us > quiet_us);
        size_t newest, anchor, next;

        if (!served || t->all.count == 0)
            continue;
        newest = retention_line_newest(m, t);
        if (newest == SIZE_MAX)
        {
            retention_keep_all_wal(
                m->plan,
                "there is no restorable backup on the line of a timeline that has new WAL");
            continue;
        }
        m->plan->reasons[newest] |= RETENTION_NEWEST;
        if (m->pitr_from_us == INT64_MAX)
            continue;
        anchor = retention_line_anchor(m, t, &next);
        if (next != SIZE_MAX)
            m->plan->reasons[next] |= RETENTION_PITR;
        m->plan->pitr_from_us = m->times[anchor].stopped_us; /* last: the highest's */
        m->plan->pitr_short = m->plan->pitr_from_us > m->pitr_from_us;
        if (retention_keep_line(m, t, anchor, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- what the kept ones need ---- */

static bool
retention_mark(RetentionMaker *m, const char *label, unsigned reason)
{
    size_t i = retention_find(m, label);

    if (i == SIZE_MAX || (m->plan->reasons[i] & reason) != 0)
        return false;
    m->plan->reasons[i] |= reason;
    return true;
}

/* What an unfinished backup takes up, and is made on. */
static bool
retention_mark_running(RetentionMaker *m, const Backup *b)
{
    bool marked = b->made_on[0] != '\0' && retention_mark(m, b->made_on, RETENTION_CHAIN);

    for (size_t r = 0; r < BACKUP_RESUMES_MAX && b->resumes[r][0] != '\0'; r++)
        marked |= retention_mark(m, b->resumes[r], RETENTION_RUNNING);
    return marked;
}

/* Chains, bundles of other backups, and what a running backup takes up, until nothing is added. */
static void
retention_mark_needed(RetentionMaker *m)
{
    bool again = true;

    while (again)
    {
        again = false;
        for (size_t i = m->list->count; i-- > 0;)
        {
            const Backup *b = &m->list->items[i];

            if (m->plan->reasons[i] == 0)
                continue;
            if ((m->plan->reasons[i] & RETENTION_RUNNING) != 0)
                again |= retention_mark_running(m, b);
            if (b->state != BACKUP_COMPLETE)
                continue;
            for (size_t u = 0; u < b->header.uses_count; u++)
                again |= retention_mark(m, b->header.uses[u], RETENTION_USED);
            /* the parent looks after the rest of the chain */
            if (!b->chain_broken && b->parent < m->list->count)
            {
                again |= (m->plan->reasons[b->parent] & RETENTION_CHAIN) == 0;
                m->plan->reasons[b->parent] |= RETENTION_CHAIN;
                continue;
            }
            for (size_t c = 0; c < b->header.chain_count; c++)
                again |= retention_mark(m, b->header.chain[c], RETENTION_CHAIN);
        }
    }
}

/* Pins, running backups, and what nothing is known about. */
static void
retention_mark_states(RetentionMaker *m)
{
    RetentionPlan *plan = m->plan;
    int64_t now_us = MAX(m->rules->now_us, m->list->store_now_us);

    plan->wal_since_us =
        MIN(m->pitr_from_us, retention_before(m->rules->now_us, RETENTION_WAL_YOUNG_MS));
    for (size_t i = 0; i < m->list->count; i++)
    {
        const Backup *b = &m->list->items[i];

        if (b->pinned && (b->pinned_until_us == 0 || b->pinned_until_us > m->rules->now_us))
            plan->reasons[i] |= RETENTION_PIN;
        if (plan->damaged_count > 0)
            plan->reasons[i] |= RETENTION_UNREADABLE;
        if (plan->none_restorable && b->state == BACKUP_COMPLETE)
            plan->reasons[i] |= RETENTION_NEWEST;
        if (b->state != BACKUP_UNFINISHED ||
            (b->newest_us != 0 && b->newest_us <= retention_before(now_us, BACKUP_ABANDONED_MS)))
            continue;
        plan->reasons[i] |= RETENTION_RUNNING;
        plan->wal_since_us =
            MIN(plan->wal_since_us, retention_before(b->oldest_us, RETENTION_WAL_YOUNG_MS));
    }
    if (plan->damaged_count > 0)
        retention_keep_all_wal(plan, "a backup manifest cannot be read");
}

/* ---- the WAL of it all ---- */

/* Without pitr: from the oldest backup on that recovery may begin with. */
static int
retention_keep_wal_of_rules(RetentionMaker *m, Error *err)
{
    Lsn start = UINT64_MAX;

    if (!retention_rule_is_set(&m->rules->full))
    {
        retention_keep_all_wal(m->plan, "neither \"pitr\" nor \"full\" of [retention] is set");
        return 0;
    }
    for (size_t k = 0; k < m->by_lsn_count; k++)
    {
        size_t i = m->by_lsn[k];

        if ((m->plan->reasons[i] & (RETENTION_FULL | RETENTION_INCREMENTAL | RETENTION_NEWEST)) !=
                0 &&
            !retention_is_future(m, i))
            start = MIN(start, retention_header(m, i)->start_lsn);
    }
    if (start == UINT64_MAX)
    {
        retention_keep_all_wal(m->plan, "there is no restorable backup");
        return 0;
    }
    return retention_add_range(m, 0, start, UINT64_MAX, err);
}

static int
retention_keep_wal_of_backups(RetentionMaker *m, Error *err)
{
    for (size_t k = 0; k < m->order_count; k++)
    {
        const BackupHeader *h = retention_header(m, m->order[k]);

        if (m->plan->reasons[m->order[k]] != 0 &&
            retention_add_range(m, h->tli, h->start_lsn, h->stop_lsn, err) < 0)
            return -1;
    }
    return 0;
}

static int
retention_make(RetentionMaker *m, Error *err)
{
    const RetentionRules *rules = m->rules;
    bool pitr = retention_rule_is_set(&rules->pitr);

    if (pitr)
        m->pitr_from_us = retention_before(rules->now_us, rules->pitr.ms);
    if (retention_sort(m, err) < 0)
        return -1;
    retention_mark_full(m);
    retention_mark_incremental(m);
    retention_mark_periods(m, &rules->weekly, retention_week, RETENTION_WEEKLY);
    retention_mark_periods(m, &rules->monthly, retention_month, RETENTION_MONTHLY);
    retention_mark_periods(m, &rules->yearly, retention_year, RETENTION_YEARLY);
    retention_mark_states(m);
    if (retention_keep_lines(m, err) < 0 || (!pitr && retention_keep_wal_of_rules(m, err) < 0))
        return -1;
    if (pitr && m->by_lsn_count == 0)
        retention_keep_all_wal(m->plan, "there is no restorable backup");
    /* by the clock, too: a person who looks for the newest finds it */
    for (size_t k = m->order_count; k-- > 0;)
    {
        if (!m->restorable[m->order[k]])
            continue;
        m->plan->reasons[m->order[k]] |= RETENTION_NEWEST;
        break;
    }
    retention_mark_needed(m);
    if (retention_keep_wal_of_backups(m, err) < 0)
        return -1;
    retention_merge_ranges(m->plan);
    return 0;
}

int
retention_plan_make(
    const RetentionRules *rules, const BackupList *list, const WalInventory *inv,
    RetentionPlan *out, Error *err)
{
    RetentionMaker m = {
        .rules = rules, .list = list, .inv = inv, .plan = out, .pitr_from_us = INT64_MAX};
    int rc;

    *out = (RetentionPlan){0};
    rc = retention_make(&m, err);
    free(m.restorable);
    free(m.times);
    free(m.order);
    free(m.by_lsn);
    if (rc < 0)
        retention_plan_reset(out);
    return rc;
}

int
retention_plan_keep(
    RetentionPlan *plan, const BackupList *list, const WalInventory *inv, size_t i,
    RetentionReason reason, Error *err)
{
    RetentionMaker m = {.list = list, .inv = inv, .plan = plan};

    plan->reasons[i] |= (unsigned) reason;
    retention_mark_needed(&m);
    for (size_t k = 0; k < list->count; k++)
    {
        const BackupHeader *h = &list->items[k].header;

        if (plan->reasons[k] != 0 && list->items[k].state == BACKUP_COMPLETE &&
            retention_add_range(&m, h->tli, h->start_lsn, h->stop_lsn, err) < 0)
            return -1;
    }
    retention_merge_ranges(plan);
    return 0;
}

void
retention_plan_reset(RetentionPlan *plan)
{
    free(plan->reasons);
    free(plan->ranges);
    *plan = (RetentionPlan){0};
}

/* The first range of tli that ends behind lsn; NULL if there is none. */
static const RetentionRange *
retention_find_range(const RetentionPlan *plan, TimelineId tli, Lsn lsn)
{
    size_t low = 0;
    size_t high = plan->range_count;

    while (low < high)
    {
        size_t mid = low + (high - low) / 2;
        const RetentionRange *range = &plan->ranges[mid];

        if (range->tli > tli || (range->tli == tli && range->end > lsn))
            high = mid;
        else
            low = mid + 1;
    }
    return low < plan->range_count && plan->ranges[low].tli == tli ? &plan->ranges[low] : NULL;
}

static bool
retention_overlaps(const RetentionPlan *plan, TimelineId tli, Lsn start, Lsn end)
{
    const RetentionRange *range = retention_find_range(plan, tli, start);

    return range != NULL && range->start < end;
}

static bool
retention_contains(const RetentionPlan *plan, TimelineId tli, Lsn start, Lsn end)
{
    const RetentionRange *range = retention_find_range(plan, tli, start);

    return range != NULL && range->start <= start && range->end >= end;
}

bool
retention_keeps_all_wal(const RetentionPlan *plan, TimelineId tli, Lsn start, Lsn end)
{
    return plan->wal_unbounded || retention_contains(plan, 0, start, end) ||
           retention_contains(plan, tli, start, end);
}

bool
retention_keeps_wal(
    const RetentionPlan *plan, TimelineId tli, Lsn start, Lsn end, int64_t stored_us)
{
    return plan->wal_unbounded || stored_us == 0 || stored_us >= plan->wal_since_us ||
           retention_overlaps(plan, 0, start, end) || retention_overlaps(plan, tli, start, end);
}
