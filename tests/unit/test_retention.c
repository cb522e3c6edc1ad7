/* SPDX-License-Identifier: PostgreSQL */
#include "repo/retention.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tap.h"

#define SEG ((Lsn) 1024 * 1024)
#define SEG_BYTES (1024u * 1024)
#define HOUR INT64_C(3600000000)
#define DAY (24 * HOUR)
#define DAYS(n)                                                                                    \
    {                                                                                              \
        .ms = INT64_C(n) * 24 * 3600 * 1000                                                        \
    }
#define COUNT(n)                                                                                   \
    {                                                                                              \
        .count = (n)                                                                               \
    }

/* "2026-03-01 02:00" */
static int64_t
when(const char *text)
{
    struct tm tm = {0};

    if (strptime(text, "%Y-%m-%d %H:%M", &tm) == NULL)
        abort();
    return (int64_t) timegm(&tm) * 1000000;
}

static void
add_segment(WalInventory *inv, TimelineId tli, SegmentNo segno, int64_t us)
{
    WalExtent extent = {.tli = tli, .segno = segno, .start = 0, .end = SEG_BYTES};
    char key[LAYOUT_KEY_MAX];
    StoreEntry entry = {
        .key = layout_part_key(&extent, SEG_BYTES, key), .bytes = 100, .modified_us = us};
    Error err = {0};

    if (wal_inventory_add(inv, &entry, &err) < 0)
        abort();
}

static void
set_history(WalInventory *inv, TimelineId tli, const char *text)
{
    for (size_t i = 0; i < inv->timeline_count; i++)
    {
        WalTimeline *t = &inv->timelines[i];
        Error err = {0};

        if (t->tli != tli)
            continue;
        if (timeline_parse_history(tli, text, text == NULL ? 0 : strlen(text), &t->history, &err) <
            0)
            abort();
        t->history_state = tli == 1 ? WAL_HISTORY_NOT_NEEDED : WAL_HISTORY_READ;
    }
}

static size_t
find_label(const BackupList *list, const char *label)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].label, label) == 0)
            return i;
    return SIZE_MAX;
}

/* ---- tables ---- */

#define ROWS 12
#define ROW(name, what, when_began, needs, wal, reasons)                                           \
    .label = name, .kind = what, .began = when_began, .parent = needs, .segno = wal, .want = reasons

/* One backup. Its WAL is the segment before its stop; on timeline 1 if tli is 0. */
typedef struct Row
{
    const char *label;
    char kind;          /* F, I, U unfinished, D damaged */
    const char *began;  /* it takes half an hour; U: when its newest object was stored */
    const char *parent; /* I: also what it needs of others; U: what it resumes, words */
    unsigned segno;
    const char *want; /* reasons; "": removed */
    TimelineId tli;
    const char *uses;
    const char *pin; /* "" for ever */
    const char *made_on;
    const char *first; /* U: when its oldest object was stored */
} Row;

/* Segments of a timeline, from, up to and without; stored at */
typedef struct Wal
{
    TimelineId tli;
    unsigned from, to;
    const char *at;
    const char *history;
} Wal;

typedef struct Keeps
{
    TimelineId tli;
    unsigned segno;
    bool want;
} Keeps;

static const struct
{
    const char *label;
    RetentionRules rules;
    const char *now;
    Row rows[ROWS];
    Wal wal[4];
    Keeps keeps[6];
    bool unbounded;
    bool pitr_short;
} cases[] = {
    {.label = "no rule: all backups and all WAL stay, an abandoned one goes",
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f1", 'F', "2020-01-01 02:00", NULL, 5, "chain,no rule")},
          {ROW("i1", 'I', "2020-01-01 08:00", "f1", 10, "newest,no rule")},
          {ROW("u1", 'U', "2026-03-18 23:59", NULL, 0, "")}},
     .wal = {{1, 1, 20, "2020-01-01 09:00", NULL}},
     .keeps = {{1, 1, true}},
     .unbounded = true},
    {.label = "full by age; incrementals go with theirs",
     .rules = {.full = DAYS(7)},
     .now = "2026-03-10 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-03-02 02:00", NULL, 10, "")},
          {ROW("i1", 'I', "2026-03-02 08:00", "f1", 11, "")},
          {ROW("f2", 'F', "2026-03-03 02:00", NULL, 12, "full,chain")},
          {ROW("i2", 'I', "2026-03-03 08:00", "f2", 13, "incremental")},
          {ROW("f3", 'F', "2026-03-09 02:00", NULL, 14, "full,newest")}},
     .wal = {{1, 1, 20, "2026-03-01 00:00", NULL}},
     .keeps = {{1, 11, false}, {1, 12, true}, {1, 19, true}}},
    {.label = "exactly as old as the rule is not younger",
     .rules = {.full = DAYS(7)},
     .now = "2026-03-10 02:00",
     .rows =
         {{ROW("f2", 'F', "2026-03-03 02:00", NULL, 12, "")},
          {ROW("f3", 'F', "2026-03-09 02:00", NULL, 14, "full,newest")}},
     .wal = {{1, 1, 20, "2026-03-01 00:00", NULL}}},
    /* pgbackrest/pgbackrest#748: the archive was expired before its diffs. Parents stay, and the
     * WAL that the incremental needs. */
    {.label = "what a kept incremental needs stays, though its full backup is too old",
     .rules = {.full = COUNT(1), .incremental = COUNT(1)},
     .now = "2026-03-10 00:00",
     .rows =
         {{ROW("f0", 'F', "2026-01-01 02:00", NULL, 3, "")},
          {ROW("f1", 'F', "2026-01-02 02:00", NULL, 5, "chain")},
          {ROW("i1", 'I', "2026-01-02 08:00", "f1", 7, "chain")},
          {ROW("i2", 'I', "2026-01-02 14:00", "i1", 9, "incremental")},
          {ROW("f2", 'F', "2026-01-03 02:00", NULL, 12, "full,newest")}},
     .wal = {{1, 1, 20, "2026-01-04 00:00", NULL}},
     .keeps =
         {{1, 3, false}, {1, 5, true}, {1, 6, false}, {1, 7, true}, {1, 9, true}, {1, 12, true}}},
    /* Barman 3.14: incrementals used up the number of full backups. */
    {.label = "a number of full backups counts no incrementals",
     .rules = {.full = COUNT(2)},
     .now = "2026-03-10 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-01-01 02:00", NULL, 3, "")},
          {ROW("f2", 'F', "2026-01-02 02:00", NULL, 5, "full,chain")},
          {ROW("i1", 'I', "2026-01-02 08:00", "f2", 7, "incremental")},
          {ROW("f3", 'F', "2026-01-03 02:00", NULL, 9, "full,chain")},
          {ROW("i2", 'I', "2026-01-03 08:00", "f3", 10, "incremental,chain")},
          {ROW("i3", 'I', "2026-01-03 14:00", "i2", 12, "incremental,newest")}},
     .wal = {{1, 1, 20, "2026-01-04 00:00", NULL}}},
    {.label = "what cannot be restored is not counted",
     .rules = {.full = COUNT(2)},
     .now = "2026-03-10 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-01-01 02:00", NULL, 3, "full")},
          {ROW("f2", 'F', "2026-01-02 02:00", NULL, 7, "full")}, /* its WAL is missing */
          {ROW("f3", 'F', "2026-01-03 02:00", NULL, 12, "full,newest")}},
     .wal = {{1, 1, 6, "2026-01-04 00:00", NULL}, {1, 9, 20, "2026-01-04 00:00", NULL}}},
    /* pgbackrest/pgbackrest#2103: expiry by time with nothing old enough; and here with nothing
     * young enough: the last restorable one is never removed. */
    {.label = "everything is too old: the newest stays, with its chain",
     .rules = {.full = DAYS(7), .incremental = DAYS(7), .pitr = DAYS(7)},
     .now = "2026-06-01 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-01-01 02:00", NULL, 3, "")},
          {ROW("f2", 'F', "2026-01-02 02:00", NULL, 5, "chain")},
          {ROW("i1", 'I', "2026-01-02 08:00", "f2", 7, "pitr,newest")}},
     .wal = {{1, 1, 20, "2026-01-04 00:00", NULL}},
     .keeps = {{1, 3, false}, {1, 6, false}, {1, 7, true}, {1, 19, true}}},
    {.label = "nothing is old enough: nothing goes",
     .rules = {.full = DAYS(7), .incremental = DAYS(7), .pitr = DAYS(7)},
     .now = "2026-01-03 00:00",
     .rows =
         {{ROW("f2", 'F', "2026-01-02 02:00", NULL, 5, "full,pitr,chain")},
          {ROW("i1", 'I', "2026-01-02 08:00", "f2", 7, "incremental,newest")}},
     .wal = {{1, 5, 20, "2026-01-02 09:00", NULL}},
     .pitr_short = true},
    /* a week is Monday to Sunday: 2026-12-28 to 2027-01-03 is one (2026-W53), across the year */
    {.label = "weeks around the end of a year",
     .rules = {.full = COUNT(1), .weekly = COUNT(3)},
     .now = "2027-02-01 00:00",
     .rows =
         {{ROW("sat", 'F', "2026-12-26 02:00", NULL, 3, "weekly")},
          {ROW("sun", 'F', "2026-12-27 23:00", NULL, 4, "")},
          {ROW("mon", 'F', "2026-12-28 00:00", NULL, 5, "weekly")},
          {ROW("nye", 'F', "2026-12-31 23:00", NULL, 6, "")},
          {ROW("jan3", 'F', "2027-01-03 22:00", NULL, 7, "")},
          {ROW("jan4", 'F', "2027-01-04 00:00", NULL, 8, "weekly")},
          {ROW("jan5", 'F', "2027-01-05 00:00", NULL, 9, "full,newest")}},
     .wal = {{1, 1, 20, "2027-01-06 00:00", NULL}},
     .keeps = {{1, 3, true}, {1, 4, false}, {1, 5, true}, {1, 8, true}, {1, 9, true}}},
    {.label = "a week that begins with the year (2024-W01), and one that is in the old one",
     .rules = {.full = COUNT(1), .weekly = COUNT(9)},
     .now = "2025-02-01 00:00",
     .rows =
         {{ROW("a", 'F', "2023-12-31 02:00", NULL, 3, "weekly")},
          {ROW("b", 'F', "2024-01-01 02:00", NULL, 4, "weekly")},
          {ROW("c", 'F', "2024-01-07 02:00", NULL, 5, "")},
          {ROW("d", 'F', "2024-12-29 02:00", NULL, 6, "weekly")},
          {ROW("e", 'F', "2024-12-30 02:00", NULL, 7, "weekly")},
          {ROW("f", 'F', "2025-01-05 23:00", NULL, 8, "full,newest")}},
     .wal = {{1, 1, 20, "2025-01-06 00:00", NULL}}},
    {.label = "months and years; leap day",
     .rules = {.full = COUNT(1), .monthly = COUNT(3), .yearly = DAYS(3650)},
     .now = "2024-05-01 00:00",
     .rows =
         {{ROW("a", 'F', "2022-12-31 23:00", NULL, 3, "yearly")},
          {ROW("b", 'F', "2023-01-01 00:00", NULL, 4, "yearly")},
          {ROW("c", 'F', "2024-01-31 02:00", NULL, 5, "monthly,yearly")},
          {ROW("d", 'F', "2024-02-28 02:00", NULL, 6, "monthly")},
          {ROW("e", 'F', "2024-02-29 23:00", NULL, 7, "")},
          {ROW("f", 'F', "2024-03-01 00:00", NULL, 8, "monthly")},
          {ROW("g", 'F', "2024-03-02 00:00", NULL, 9, "full,newest")}},
     .wal = {{1, 1, 20, "2024-03-06 00:00", NULL}}},
    {.label =
         "a week without a full backup: its first; one whose first cannot be restored: the next",
     .rules = {.full = COUNT(1), .incremental = COUNT(1), .weekly = COUNT(9)},
     .now = "2026-05-01 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-03-02 02:00", NULL, 3, "weekly,chain")},
          {ROW("i1", 'I', "2026-03-09 02:00", "f1", 4, "weekly,chain")},
          {ROW("i2", 'I', "2026-03-10 02:00", "i1", 5, "")},
          {ROW("f2", 'F', "2026-03-16 02:00", NULL, 9, "")},
          {ROW("f3", 'F', "2026-03-17 02:00", NULL, 13, "weekly")},
          {ROW("i3", 'I', "2026-03-23 02:00", "i1", 14, "incremental")},
          {ROW("f4", 'F', "2026-03-24 02:00", NULL, 15, "full,weekly,newest")}},
     .wal = {{1, 1, 8, "2026-03-06 00:00", NULL}, {1, 11, 20, "2026-03-25 00:00", NULL}}},
    {.label = "pitr: the anchor is the newest as old as the window, and the next is kept",
     .rules = {.full = COUNT(1), .pitr = DAYS(7)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-03-10 02:00", NULL, 3, "")},
          {ROW("f2", 'F', "2026-03-12 02:00", NULL, 5, "pitr")},
          {ROW("f3", 'F', "2026-03-13 02:00", NULL, 7, "pitr")},
          {ROW("f4", 'F', "2026-03-19 02:00", NULL, 9, "full,newest")}},
     .wal = {{1, 1, 20, "2026-03-12 00:00", NULL}},
     .keeps = {{1, 4, false}, {1, 5, true}, {1, 19, true}}},
    {.label = "pitr: the anchor is by when it had stopped",
     .rules = {.full = COUNT(1), .pitr = DAYS(7)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-03-12 02:00", NULL, 3, "pitr")},
          {ROW("f2", 'F', "2026-03-12 23:45", NULL, 5, "pitr")},
          {ROW("f3", 'F', "2026-03-19 02:00", NULL, 9, "full,newest")}},
     .wal = {{1, 1, 20, "2026-03-12 00:00", NULL}}},
    {.label = "pitr: behind a hole the first backup is kept",
     .rules = {.full = COUNT(1), .pitr = DAYS(7)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-03-12 02:00", NULL, 3, "pitr")},
          {ROW("f2", 'F', "2026-03-15 02:00", NULL, 10, "pitr")},
          {ROW("f3", 'F', "2026-03-16 02:00", NULL, 11, "")},
          {ROW("f4", 'F', "2026-03-19 02:00", NULL, 13, "full,newest")}},
     .wal = {{1, 1, 6, "2026-03-12 00:00", NULL}, {1, 8, 20, "2026-03-19 00:00", NULL}},
     .keeps = {{1, 2, false}, {1, 3, true}, {1, 8, true}}},
    {.label = "pitr: a clock that was set back does not move the window",
     .rules = {.full = COUNT(1), .pitr = DAYS(7)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-03-12 02:00", NULL, 3, "pitr")},
          {ROW("f2", 'F', "2026-03-14 02:00", NULL, 5, "pitr")},
          {ROW("f3", 'F', "2026-03-12 22:00", NULL, 7, "")}, /* really a week later */
          {ROW("f4", 'F', "2026-03-19 02:00", NULL, 9, "full,newest")}},
     .wal = {{1, 1, 20, "2026-03-12 00:00", NULL}},
     .keeps = {{1, 2, false}, {1, 3, true}}},
    {.label = "pitr: a backup from the future is as old as the next",
     .rules = {.full = COUNT(2), .pitr = DAYS(7)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f1", 'F', "2099-03-01 02:00", NULL, 3, "")},
          {ROW("f2", 'F', "2026-03-12 02:00", NULL, 5, "full,pitr")},
          {ROW("f4", 'F', "2026-03-19 02:00", NULL, 9, "full,pitr,newest")}},
     .wal = {{1, 1, 20, "2026-03-12 00:00", NULL}},
     .keeps = {{1, 3, false}, {1, 4, false}, {1, 5, true}}},
    {.label = "no pitr: the same",
     .rules = {.full = COUNT(2)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f1", 'F', "2099-03-01 02:00", NULL, 3, "")},
          {ROW("f2", 'F', "2026-03-18 02:00", NULL, 5, "full")},
          {ROW("f4", 'F', "2026-03-19 02:00", NULL, 9, "full,newest")}},
     .wal = {{1, 1, 20, "2026-03-12 00:00", NULL}},
     .keeps = {{1, 3, false}, {1, 4, false}, {1, 5, true}, {1, 9, true}}},
    {.label = "a backup on a dead branch does not stand in for one of the living line",
     .rules = {.full = COUNT(1), .pitr = DAYS(7)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-03-01 02:00", NULL, 3, "pitr,newest")},
          {ROW(
              "f2", 'F', "2026-03-10 02:00", NULL, 9,
              "full,newest")}}, /* behind the switch point */
     .wal =
         {{1, 1, 12, "2026-03-10 09:00", NULL},
          {2, 6, 20, "2026-03-19 00:00", "1\t0/680000\tno recovery target specified\n"}},
     .keeps = {{1, 2, false}, {1, 3, true}, {2, 6, true}, {1, 11, true}}},
    {.label = "the same while the history cannot be read: before the first WAL of the new timeline",
     .rules = {.full = COUNT(1), .pitr = DAYS(7)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-03-01 02:00", NULL, 3, "pitr,newest")},
          {ROW("f2", 'F', "2026-03-10 02:00", NULL, 9, "full,newest")}},
     .wal = {{1, 1, 12, "2026-03-10 09:00", NULL}, {2, 6, 20, "2026-03-19 00:00", NULL}},
     .keeps = {{1, 2, false}, {1, 3, true}, {2, 6, true}, {1, 11, true}}},
    {.label = "the WAL of a dead branch goes when it is older than pitr",
     .rules = {.full = COUNT(1), .pitr = DAYS(7)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-02-01 02:00", NULL, 3, "")},
          {ROW("f2", 'F', "2026-02-10 02:00", NULL, 12, "")}, /* dead */
          {ROW("f3", 'F', "2026-03-10 02:00", NULL, 9, "pitr"), .tli = 2},
          {ROW("f4", 'F', "2026-03-19 02:00", NULL, 13, "full,pitr,newest"), .tli = 2}},
     .wal =
         {{1, 1, 15, "2026-02-10 09:00", NULL},
          {2, 6, 10, "2026-03-12 00:00", "1\t0/680000\tx\n"},
          {2, 10, 20, "2026-03-19 00:00", NULL}},
     .keeps = {{1, 3, false}, {1, 12, false}, {1, 14, false}, {2, 8, false}, {2, 9, true}}},
    /* pgBackRest 2.22 and Barman 3.0 read the hex timeline of a name in base 10 */
    {.label = "timeline 0000000A comes after 9 and is ten",
     .rules = {.full = COUNT(1), .pitr = DAYS(7)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-03-01 02:00", NULL, 3, ""), .tli = 9},
          {ROW("f2", 'F', "2026-03-10 02:00", NULL, 7, "pitr"), .tli = 10},
          {ROW("f3", 'F', "2026-03-19 02:00", NULL, 9, "full,pitr,newest"), .tli = 10}},
     .wal =
         {{9, 1, 7, "2026-03-10 00:00", "1\t0/80000\tx\n"},
          {10, 8, 20, "2026-03-19 00:00", NULL},
          {10, 6, 8, "2026-03-11 00:00", "1\t0/80000\tx\n9\t0/680000\tx\n"}},
     .keeps = {{9, 5, false}, {10, 6, false}, {10, 7, true}, {0x10, 7, false}}},
    /* pgbackrest/pgbackrest#2622: a backup in progress on another host was removed */
    {.label = "running backups, what they resume, and WAL since before they began",
     .rules = {.full = COUNT(1)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-03-19 02:00", NULL, 15, "full,newest")},
          {ROW("u1", 'U', "2026-03-15 02:00", NULL, 0, "running")},
          {ROW("u2", 'U', "2026-03-16 02:00", "u1", 0, "running")},
          {ROW("u3", 'U', "2026-03-19 00:01", "u2", 0, "running"), .first = "2026-03-17 12:00"},
          {ROW("u4", 'U', "2026-03-19 00:00", NULL, 0, "")}},
     .wal =
         {{1, 1, 5, "2026-03-16 10:59", NULL},
          {1, 5, 10, "2026-03-16 11:00", NULL},
          {1, 10, 20, "2026-03-18 00:00", NULL}},
     .keeps = {{1, 4, false}, {1, 5, true}, {1, 10, true}}},
    {.label = "what a running incremental is made on",
     .rules = {.full = COUNT(1)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f0", 'F', "2026-03-17 02:00", NULL, 11, "")},
          {ROW("f1", 'F', "2026-03-18 02:00", NULL, 13, "chain")},
          {ROW("i1", 'I', "2026-03-18 08:00", "f1", 14, "chain")},
          {ROW("f2", 'F', "2026-03-19 02:00", NULL, 15, "full,newest")},
          {ROW("u1", 'U', "2026-03-19 02:00", NULL, 0, "running"), .made_on = "i1"}},
     .wal = {{1, 1, 20, "2026-03-16 10:59", NULL}}},
    {.label = "nobody is running: WAL that is younger than a day stays all the same",
     .rules = {.full = COUNT(1)},
     .now = "2026-03-20 00:00",
     .rows = {{ROW("f1", 'F', "2026-03-19 02:00", NULL, 15, "full,newest")}},
     .wal = {{1, 1, 5, "2026-03-18 22:59", NULL}, {1, 5, 20, "2026-03-18 23:00", NULL}},
     .keeps = {{1, 4, false}, {1, 5, true}}},
    {.label = "a running backup that does not tell when it began keeps all WAL",
     .rules = {.full = COUNT(1)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-03-19 02:00", NULL, 15, "full,newest")},
          {ROW("u3", 'U', "2026-03-19 00:01", NULL, 0, "running")}},
     .wal = {{1, 1, 20, "2016-03-16 10:59", NULL}},
     .keeps = {{1, 1, true}}},
    {.label = "a running backup takes up from several, and they from others",
     .rules = {.full = COUNT(1)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-03-02 02:00", NULL, 15, "full,newest")},
          {ROW("u0", 'U', "2026-03-17 02:00", NULL, 0, "running")},
          {ROW("u1", 'U', "2026-03-18 02:00", "u0", 0, "running")},
          {ROW("u2", 'U', "2026-03-18 05:00", NULL, 0, "running")},
          {ROW("u3", 'U', "2026-03-18 06:00", "u0", 0, "")},
          {ROW("u4", 'U', "2026-03-19 23:00", "u2 u1 gone", 0, "running")}},
     .wal = {{1, 1, 20, "2026-03-19 10:59", NULL}}},
    {.label = "bundles of others that a kept backup uses",
     .rules = {.full = COUNT(1)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("u1", 'U', "2026-03-01 02:00", NULL, 0, "used")},
          {ROW("u2", 'U', "2026-03-01 02:00", NULL, 0, "")},
          {ROW("f0", 'F', "2026-03-02 02:00", NULL, 10, ""), .uses = "u2"},
          {ROW("f1", 'F', "2026-03-03 02:00", NULL, 15, "full,newest"), .uses = "u1"}},
     .wal = {{1, 1, 20, "2026-03-16 10:59", NULL}}},
    {.label = "pins: for ever, until later, over; the chain comes with it",
     .rules = {.full = COUNT(1), .incremental = COUNT(1)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f0", 'F', "2026-01-01 02:00", NULL, 2, "chain")},
          {ROW("i0", 'I', "2026-01-01 08:00", "f0", 4, "pin"), .pin = ""},
          {ROW("f1", 'F', "2026-01-02 02:00", NULL, 6, "pin"), .pin = "2026-03-20 00:01"},
          {ROW("f2", 'F', "2026-01-03 02:00", NULL, 8, ""), .pin = "2026-03-20 00:00"},
          {ROW("f3", 'F', "2026-01-04 02:00", NULL, 10, "full,chain")},
          {ROW("i3", 'I', "2026-01-04 08:00", "f3", 12, "incremental,newest")},
          {ROW("u1", 'U', "2026-01-01 02:00", NULL, 0, "pin"), .pin = ""}},
     .wal = {{1, 1, 20, "2026-01-05 10:59", NULL}},
     .keeps =
         {{1, 2, true}, {1, 3, false}, {1, 4, true}, {1, 8, false}, {1, 9, false}, {1, 10, true}}},
    {.label = "a damaged manifest: nothing that it may need is removed",
     .rules = {.full = COUNT(1), .pitr = DAYS(1)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f0", 'F', "2026-01-01 02:00", NULL, 2, "damaged")},
          {ROW("d0", 'D', "", NULL, 0, "damaged")},
          {ROW("u1", 'U', "2026-01-01 02:00", NULL, 0, "damaged")},
          {ROW("f2", 'F', "2026-01-03 02:00", NULL, 8, "full,pitr,newest,damaged")}},
     .wal = {{1, 1, 20, "2026-01-05 10:59", NULL}},
     .keeps = {{1, 1, true}},
     .unbounded = true},
    {.label = "none is restorable: no complete one is removed, no WAL",
     .rules = {.full = COUNT(1), .pitr = DAYS(1)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f0", 'F', "2026-01-01 02:00", NULL, 2, "full,newest")},
          {ROW("f1", 'F', "2026-01-02 02:00", NULL, 4, "full,newest")}},
     .wal = {{1, 6, 20, "2026-01-05 10:59", NULL}},
     .keeps = {{1, 6, true}},
     .unbounded = true},
    {.label = "no backups: WAL is somebody's",
     .rules = {.full = COUNT(1), .pitr = DAYS(1)},
     .now = "2026-03-20 00:00",
     .wal = {{1, 6, 20, "2026-01-05 10:59", NULL}},
     .keeps = {{1, 6, true}},
     .unbounded = true},
    {.label = "an incremental whose parent is gone neither counts nor anchors",
     .rules = {.full = COUNT(1), .incremental = COUNT(1), .pitr = DAYS(7)},
     .now = "2026-03-20 00:00",
     .rows =
         {{ROW("f1", 'F', "2026-03-02 02:00", NULL, 8, "full,chain")},
          {ROW("i1", 'I', "2026-03-03 08:00", "f1", 10, "incremental,pitr,newest")},
          {ROW("i2", 'I', "2026-03-04 08:00", "gone", 12, "incremental")}},
     .wal = {{1, 1, 20, "2026-03-05 10:59", NULL}},
     .keeps = {{1, 7, false}, {1, 8, true}}},
};

/* Words, up to the number of what a start object names. */
static void
read_words(const char *words, char (*out)[BACKUP_LABEL_NAME_MAX])
{
    for (size_t i = 0; i < BACKUP_RESUMES_MAX && *words != '\0'; i++)
    {
        size_t len = strcspn(words, " ");

        (void) snprintf(out[i], BACKUP_LABEL_NAME_MAX, "%.*s", (int) len, words);
        words += len + strspn(words + len, " ");
    }
}

static void
make_list(const Row *rows, BackupList *list)
{
    list->items = calloc(ROWS, sizeof *list->items);
    for (size_t i = 0; i < ROWS && rows[i].label != NULL; i++)
    {
        const Row *row = &rows[i];
        Backup *b = &list->items[list->count++];
        BackupHeader *h = &b->header;
        int64_t us = row->began[0] != '\0' ? when(row->began) : 0;

        (void) snprintf(b->label, sizeof b->label, "%s", row->label);
        b->parent = SIZE_MAX;
        b->pinned = row->pin != NULL;
        b->pinned_until_us = row->pin != NULL && row->pin[0] != '\0' ? when(row->pin) : 0;
        if (row->kind == 'D')
        {
            b->state = BACKUP_DAMAGED;
            continue;
        }
        if (row->kind == 'U')
        {
            b->state = BACKUP_UNFINISHED;
            b->newest_us = us;
            b->oldest_us = row->first != NULL ? when(row->first) : 0;
            if (row->made_on != NULL)
                (void) snprintf(b->made_on, sizeof b->made_on, "%s", row->made_on);
            if (row->parent != NULL)
                read_words(row->parent, b->resumes);
            continue;
        }
        *h = (BackupHeader){
            .incremental = row->kind == 'I',
            .tli = row->tli != 0 ? row->tli : 1,
            .start_lsn = row->segno * SEG + 100,
            .stop_lsn = row->segno * SEG + 200,
            .started_us = us,
            .stopped_us = us + HOUR / 2};
        if (row->uses != NULL)
        {
            h->uses = calloc(1, sizeof *h->uses);
            h->uses_count = 1;
            (void) snprintf(h->uses[0], sizeof h->uses[0], "%s", row->uses);
        }
        if (row->kind != 'I')
            continue;

        const Backup *parent = NULL;

        b->parent = find_label(list, row->parent);
        b->chain_broken = b->parent == SIZE_MAX;
        if (!b->chain_broken)
            parent = &list->items[b->parent];
        h->chain_count = (parent != NULL ? parent->header.chain_count : 0) + 1;
        h->chain = calloc(h->chain_count, sizeof *h->chain);
        for (size_t c = 0; parent != NULL && c < parent->header.chain_count; c++)
            memcpy(h->chain[c], parent->header.chain[c], sizeof h->chain[c]);
        (void) snprintf(h->chain[h->chain_count - 1], sizeof h->chain[0], "%s", row->parent);
    }
}

static void
free_list(BackupList *list)
{
    for (size_t i = 0; i < list->count; i++)
    {
        free(list->items[i].header.uses);
        free(list->items[i].header.chain);
    }
    free(list->items);
}

static void
test_cases(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        RetentionRules rules = cases[i].rules;
        BackupList list = {0};
        WalInventory inv;
        RetentionPlan plan;
        Error err = {0};

        rules.now_us = when(cases[i].now);
        make_list(cases[i].rows, &list);
        wal_inventory_init(&inv, SEG_BYTES);
        for (size_t w = 0; w < ARRAY_COUNT(cases[i].wal); w++)
            for (unsigned s = cases[i].wal[w].from; s < cases[i].wal[w].to; s++)
                add_segment(&inv, cases[i].wal[w].tli, s, when(cases[i].wal[w].at));
        if (wal_inventory_finish(&inv, &err) < 0)
            abort();
        set_history(&inv, 1, NULL);
        for (size_t w = 0; w < ARRAY_COUNT(cases[i].wal); w++)
            if (cases[i].wal[w].history != NULL)
                set_history(&inv, cases[i].wal[w].tli, cases[i].wal[w].history);
        if (!ok(retention_plan_make(&rules, &list, &inv, &plan, &err) == 0, "%s", cases[i].label))
            diag("%s", err.msg);
        for (size_t b = 0; b < list.count; b++)
        {
            char got[RETENTION_REASONS_MAX];

            (void) retention_format_reasons(plan.reasons[b], got);
            if (strcmp(got, cases[i].rows[b].want) != 0)
                ok(false, "%s: %s is \"%s\", not \"%s\"", cases[i].label, list.items[b].label, got,
                   cases[i].rows[b].want);
        }
        for (size_t k = 0; k < ARRAY_COUNT(cases[i].keeps) && cases[i].keeps[k].tli != 0; k++)
        {
            const Keeps *keeps = &cases[i].keeps[k];
            Lsn start = keeps->segno * SEG;
            int64_t us = 1;

            for (size_t w = 0; w < ARRAY_COUNT(cases[i].wal); w++)
                if (cases[i].wal[w].tli == keeps->tli && cases[i].wal[w].from <= keeps->segno &&
                    cases[i].wal[w].to > keeps->segno)
                    us = when(cases[i].wal[w].at);
            ok(retention_keeps_wal(&plan, keeps->tli, start, start + SEG, us) == keeps->want,
               "%s: segment %u of %u %s", cases[i].label, keeps->segno, keeps->tli,
               keeps->want ? "stays" : "goes");
        }
        ok(plan.wal_unbounded == cases[i].unbounded, "%s: WAL %s", cases[i].label,
           cases[i].unbounded ? "is not bounded" : "is bounded");
        ok(plan.pitr_short == cases[i].pitr_short, "%s: the window %s", cases[i].label,
           cases[i].pitr_short ? "is short" : "is not short");
        retention_plan_reset(&plan);
        wal_inventory_reset(&inv);
        free_list(&list);
    }
}

/* ---- what overlaps ---- */

static void
test_keeps(void)
{
    static RetentionRange ranges[] = {
        {0, 100 * SEG, UINT64_MAX},
        {1, 5 * SEG, 6 * SEG},
        {1, 8 * SEG, 10 * SEG},
        {3, 7 * SEG, 8 * SEG}};
    static const struct
    {
        const char *label;
        TimelineId tli;
        Lsn start, end;
        int64_t us;
        bool want;
    } rows[] = {
        {"before the first", 1, 4 * SEG, 5 * SEG, 1, false},
        {"the first", 1, 5 * SEG, 6 * SEG, 1, true},
        {"a piece of it", 1, 5 * SEG + 10, 5 * SEG + 20, 1, true},
        {"between", 1, 6 * SEG, 8 * SEG, 1, false},
        {"the last of the second", 1, 9 * SEG, 10 * SEG, 1, true},
        {"behind", 1, 10 * SEG, 11 * SEG, 1, false},
        {"another timeline", 2, 5 * SEG, 6 * SEG, 1, false},
        {"another range", 3, 7 * SEG, 8 * SEG, 1, true},
        {"every timeline", 2, 100 * SEG, 101 * SEG, 1, true},
        {"across the beginning", 2, 99 * SEG, 101 * SEG, 1, true},
        {"young", 2, 5 * SEG, 6 * SEG, 1000, true},
        {"nobody knows how old", 2, 5 * SEG, 6 * SEG, 0, true},
        {"a bit too old", 2, 5 * SEG, 6 * SEG, 999, false},
    };
    RetentionPlan plan = {
        .ranges = ranges, .range_count = ARRAY_COUNT(ranges), .wal_since_us = 1000};

    for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
        ok(retention_keeps_wal(&plan, rows[i].tli, rows[i].start, rows[i].end, rows[i].us) ==
               rows[i].want,
           "keeps: %s", rows[i].label);
}

/* ---- a model of years ---- */

/*
 * Every hour fills one segment. What happened is kept twice: as it would be if nothing was ever
 * removed, and as the plans left it. What the first can do for a promise, the second must.
 */
#define SIM_DAYS 1100
#define SIM_TLIS 64
#define SIM_SEGS 30000
#define SIM_BACKUPS 8192
#define SIM_HOURS (SIM_DAYS * 24)

enum
{
    SIM_EVER = 1,
    SIM_HERE = 2
};

typedef struct SimBackup
{
    Backup b;
    const struct SimBackup *next; /* that stops in the same segment */
    bool here;                    /* in the repository */
    size_t parent;                /* SIZE_MAX: full */
    int64_t real_us;
    int64_t done_us; /* running until then */
    bool complete;   /* gets a manifest then; else it fails */
} SimBackup;

typedef struct SimMoment
{
    TimelineId tli;
    SegmentNo segno; /* to the end of this one */
    int64_t us;      /* by the server's clock, or the true one if that is earlier */
} SimMoment;

typedef struct Sim
{
    uint64_t random;
    int64_t begin_us;
    int64_t clock_us; /* the server's is ahead by */
    uint8_t wal[SIM_TLIS][SIM_SEGS];
    int32_t stored_hour[SIM_TLIS][SIM_SEGS];
    unsigned first[SIM_TLIS], end[SIM_TLIS]; /* segments that ever were */
    TimelineId parent[SIM_TLIS];
    TimelineId tli, last_tli;
    unsigned segno;
    SimBackup backups[SIM_BACKUPS];
    size_t backup_count;
    const SimBackup *stops[SIM_SEGS + 64];
    SimMoment moments[SIM_HOURS];
    size_t moment_count;
    bool histories; /* can be read */
    size_t bad;     /* broken promises */
    char why[256];  /* the first */
    size_t most_backups, most_wal, promises;
} Sim;

typedef struct SimSchedule
{
    const char *label;
    RetentionRules rules;
    bool histories;
    unsigned restore_days; /* now and then the server is restored to some time ago */
    size_t most_backups;   /* bounds of what is kept */
    size_t most_wal;
} SimSchedule;

static unsigned
sim_random(Sim *s, unsigned below)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (unsigned) (s->random % below);
}

PRINTF_LIKE(2, 3)
static void
sim_broken(Sim *s, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    if (s->bad++ == 0)
        (void) vsnprintf(s->why, sizeof s->why, fmt, ap);
    va_end(ap);
}

/* ---- the oracle: by walking backwards, segment by segment ---- */

static bool
sim_has_wal(const Sim *s, const SimBackup *b, int where)
{
    for (Lsn lsn = b->b.header.start_lsn / SEG; lsn <= b->b.header.stop_lsn / SEG; lsn++)
        if ((s->wal[b->b.header.tli][lsn] & where) == 0)
            return false;
    return true;
}

/* Complete, with its chain and the WAL to be consistent. */
static bool
sim_restorable(const Sim *s, const SimBackup *b, int where)
{
    if (!sim_has_wal(s, b, where))
        return false;
    for (const SimBackup *p = b;; p = &s->backups[p->parent])
    {
        if (!p->complete || p->done_us == INT64_MAX || (where == SIM_HERE && !p->here))
            return false;
        if (p->parent == SIZE_MAX)
            return true;
    }
}

/* Whether the end of a segment can be reached. Backups sit in [.1, .4) of segments, switch points
 * at .5 of the first segment of a timeline. */
static bool
sim_reachable(const Sim *s, TimelineId tli, SegmentNo segno, int where, int64_t now_us)
{
    for (; (s->wal[tli][segno] & where) != 0; segno--)
    {
        TimelineId from = tli;

        /* the segment of the switch is there twice */
        if (segno == s->first[tli] && s->parent[tli] != 0 &&
            (s->wal[s->parent[tli]][segno] & where) != 0)
            from = s->parent[tli];
        for (const SimBackup *b = s->stops[segno]; b != NULL; b = b->next)
            if (b->done_us <= now_us && b->b.header.tli <= tli && b->b.header.tli >= from &&
                sim_restorable(s, b, where))
                return true;
        if (segno == s->first[tli])
        {
            if (s->parent[tli] == 0)
                return false;
            tli = s->parent[tli];
            if ((s->wal[tli][segno] & where) == 0 && (s->wal[tli][segno - 1] & where) == 0)
                return false;
        }
        if (segno == 0)
            return false;
    }
    return false;
}

static size_t
sim_week_name(char *buf, size_t len, const struct tm *tm)
{
    return strftime(buf, len, "%G-W%V", tm);
}

static size_t
sim_month_name(char *buf, size_t len, const struct tm *tm)
{
    return strftime(buf, len, "%Y-%m", tm);
}

static size_t
sim_year_name(char *buf, size_t len, const struct tm *tm)
{
    return strftime(buf, len, "%Y", tm);
}

/* Made while the server's clock was wrong. */
static bool
sim_is_shifted(const SimBackup *b)
{
    return b->b.header.started_us != b->real_us;
}

/* Such a backup may be the first of a week that it says it is of. */
static bool
sim_stands_in(const Sim *s, size_t (*name)(char *, size_t, const struct tm *), const char *wanted)
{
    for (size_t i = 0; i < s->backup_count; i++)
    {
        const SimBackup *b = &s->backups[i];
        time_t began = (time_t) (b->b.header.started_us / 1000000);
        struct tm tm;
        char period[16];

        if (!sim_is_shifted(b) || !sim_restorable(s, b, SIM_EVER))
            continue;
        (void) gmtime_r(&began, &tm);
        if (name(period, sizeof period, &tm) > 0 && strcmp(period, wanted) == 0)
            return true;
    }
    return false;
}

/* Every fifth day: of each week, month, year with one the first full backup that could ever be
 * restored. */
static void
sim_check_calendar(
    Sim *s, size_t (*name)(char *, size_t, const struct tm *), const ConfigKeep *keep,
    int64_t now_us)
{
    char done[SIM_BACKUPS / 16][16];
    size_t done_count = 0;

    if (keep->ms == 0 || now_us / DAY % 5 != 0)
        return;
    for (size_t pass = 0; pass < 2; pass++)
    {
        for (size_t i = 0; i < s->backup_count; i++)
        {
            const SimBackup *b = &s->backups[i];
            time_t began = (time_t) (b->b.header.started_us / 1000000);
            struct tm tm;
            char period[16];
            bool seen = false;

            if (b->done_us > now_us || !sim_restorable(s, b, SIM_EVER) ||
                b->b.header.incremental != (pass == 1) || sim_is_shifted(b))
                continue;
            (void) gmtime_r(&began, &tm);
            if (name(period, sizeof period, &tm) == 0)
                abort();
            for (size_t d = 0; d < done_count; d++)
                seen = seen || strcmp(done[d], period) == 0;
            if (seen)
                continue;
            memcpy(done[done_count++], period, sizeof period);
            if (now_us - b->b.header.started_us >= keep->ms * 1000)
                continue;
            s->promises++;
            if (!sim_restorable(s, b, SIM_HERE) && !sim_stands_in(s, name, period))

                sim_broken(s, "%s of %s is not restorable", b->b.label, period);
        }
    }
}

static void
sim_check(Sim *s, const RetentionRules *rules)
{
    int64_t now_us = rules->now_us;
    int64_t longest_ms = 0;
    const ConfigKeep *all[] = {&rules->full,    &rules->incremental, &rules->weekly,
                               &rules->monthly, &rules->yearly,      &rules->pitr};
    size_t here = 0, wal = 0;

    for (size_t i = 0; i < ARRAY_COUNT(all); i++)
        longest_ms = MAX(longest_ms, all[i]->ms);
    /* every fifth hour of the window, others each day */
    for (size_t i = s->moment_count % 5; rules->pitr.ms > 0 && i < s->moment_count; i += 5)
    {
        const SimMoment *m = &s->moments[i];

        if (m->us < now_us - rules->pitr.ms * 1000 ||
            !sim_reachable(s, m->tli, m->segno, SIM_EVER, now_us))
            continue;
        s->promises++;
        if (!sim_reachable(s, m->tli, m->segno, SIM_HERE, now_us))
            sim_broken(
                s, "day %d: hour %zu (timeline %u, segment %u) is lost",
                (int) ((now_us - s->begin_us) / DAY), i, m->tli, (unsigned) m->segno);
    }
    sim_check_calendar(s, sim_week_name, &rules->weekly, now_us);
    sim_check_calendar(s, sim_month_name, &rules->monthly, now_us);
    sim_check_calendar(s, sim_year_name, &rules->yearly, now_us);
    for (size_t i = 0; i < s->backup_count; i++)
    {
        const SimBackup *b = &s->backups[i];

        if (!b->here)
            continue;
        here++;
        if (b->done_us > now_us)
            continue;
        if (!b->complete)
        {
            bool used = now_us - b->b.newest_us < 2 * DAY || b->b.pinned;

            for (size_t u = i + 1; u < s->backup_count; u++)
                used = used ||
                       (s->backups[u].here && s->backups[u].b.header.uses_count > 0 &&
                        strcmp(s->backups[u].b.header.uses[0], b->b.label) == 0) ||
                       (s->backups[u].here && strcmp(s->backups[u].b.resumes[0], b->b.label) == 0);
            if (!used)
                sim_broken(s, "%s is garbage and kept", b->b.label);
            continue;
        }
        if (b->parent != SIZE_MAX && !s->backups[b->parent].here)
            sim_broken(s, "%s has lost its parent", b->b.label);
        if (sim_has_wal(s, b, SIM_EVER) && !sim_has_wal(s, b, SIM_HERE))
            sim_broken(s, "%s has lost its WAL", b->b.label);
        if (b->b.header.uses_count > 0)
            for (size_t u = 0; u < s->backup_count; u++)
                if (strcmp(s->backups[u].b.label, b->b.header.uses[0]) == 0 && !s->backups[u].here)
                    sim_broken(s, "%s has lost bundles that it uses", b->b.label);
        /* a month's first, and chains, may be 40 days older than the rule; pins end, too */
        if (longest_ms > 0 && now_us - b->real_us > longest_ms * 1000 + 60 * DAY &&
            b->b.header.started_us < now_us)
            sim_broken(s, "%s is kept for ever", b->b.label);
    }
    for (TimelineId t = 1; t <= s->last_tli; t++)
        for (unsigned g = s->first[t]; g < s->end[t]; g++)
            wal += (s->wal[t][g] & SIM_HERE) != 0;
    s->most_backups = MAX(s->most_backups, here);
    s->most_wal = MAX(s->most_wal, wal);
}

/* ---- what walctl expire does ---- */

static int
sim_compare(const void *a, const void *b)
{
    const Backup *left = a;
    const Backup *right = b;

    return (left->header.started_us > right->header.started_us) -
           (left->header.started_us < right->header.started_us);
}

static void
sim_expire(Sim *s, const SimSchedule *schedule, int64_t now_us)
{
    RetentionRules rules = schedule->rules;
    BackupList list = {.store_now_us = now_us};
    WalInventory inv;
    RetentionPlan plan;
    Error err = {0};

    rules.now_us = now_us;
    list.items = calloc(SIM_BACKUPS, sizeof *list.items);
    for (size_t i = 0; i < s->backup_count; i++)
    {
        SimBackup *sb = &s->backups[i];

        if (!sb->here)
            continue;
        sb->b.state = sb->complete && sb->done_us <= now_us ? BACKUP_COMPLETE : BACKUP_UNFINISHED;
        if (sb->done_us > now_us)
            sb->b.newest_us = now_us - HOUR;
        list.items[list.count++] = sb->b;
    }
    qsort(list.items, list.count, sizeof *list.items, sim_compare);
    for (size_t i = 0; i < list.count; i++)
    {
        Backup *b = &list.items[i];

        b->parent = SIZE_MAX;
        for (size_t c = 0; b->state == BACKUP_COMPLETE && c < b->header.chain_count; c++)
        {
            b->parent = find_label(&list, b->header.chain[c]);
            b->chain_broken = b->chain_broken || b->parent == SIZE_MAX;
        }
    }
    wal_inventory_init(&inv, SEG_BYTES);
    for (TimelineId t = 1; t <= s->last_tli; t++)
        for (unsigned g = s->first[t]; g < s->end[t]; g++)
            if ((s->wal[t][g] & SIM_HERE) != 0)
                add_segment(&inv, t, g, s->begin_us + s->stored_hour[t][g] * HOUR);
    if (wal_inventory_finish(&inv, &err) < 0)
        abort();
    for (TimelineId t = 1; s->histories && t <= s->last_tli; t++)
    {
        char text[8192], line[64];

        text[0] = '\0';
        for (TimelineId p = t; s->parent[p] != 0; p = s->parent[p])
        {
            char rest[8192];

            memcpy(rest, text, sizeof rest);
            (void) snprintf(
                line, sizeof line, "%u\t%X/%X\n", s->parent[p],
                (unsigned) (((Lsn) s->first[p] * SEG + SEG / 2) >> 32),
                (unsigned) ((Lsn) s->first[p] * SEG + SEG / 2));
            (void) snprintf(text, sizeof text, "%s%.8000s", line, rest);
        }
        set_history(&inv, t, t == 1 ? NULL : text);
    }
    if (retention_plan_make(&rules, &list, &inv, &plan, &err) < 0)
        abort();
    for (size_t i = 0; i < list.count; i++)
        for (size_t k = 0; plan.reasons[i] == 0 && k < s->backup_count; k++)
            if (strcmp(s->backups[k].b.label, list.items[i].label) == 0)
            {
                if (s->backups[k].done_us > now_us)
                    /* pgbackrest/pgbackrest#2622 */
                    sim_broken(s, "%s was running and removed", list.items[i].label);
                s->backups[k].here = false;
            }
    for (TimelineId t = 1; t <= s->last_tli; t++)
        for (unsigned g = s->first[t]; g < s->end[t]; g++)
            if ((s->wal[t][g] & SIM_HERE) != 0 &&
                !retention_keeps_wal(
                    &plan, t, g * SEG, (g + 1) * SEG, s->begin_us + s->stored_hour[t][g] * HOUR))
                s->wal[t][g] &= (uint8_t) ~SIM_HERE;
    retention_plan_reset(&plan);
    wal_inventory_reset(&inv);
    free(list.items);
    sim_check(s, &rules);
}

/* ---- what happens ---- */

static void
sim_store(Sim *s, TimelineId tli, unsigned segno, int hour)
{
    if (s->end[tli] == 0)
        s->first[tli] = segno;
    s->wal[tli][segno] = SIM_EVER | SIM_HERE;
    s->stored_hour[tli][segno] = hour;
    s->end[tli] = segno + 1;
}

static void
sim_backup(Sim *s, int hour, bool incremental)
{
    int64_t now_us = s->begin_us + hour * HOUR;
    SimBackup *b = &s->backups[s->backup_count];
    size_t parent = SIZE_MAX;

    if (s->backup_count == SIM_BACKUPS)
        abort();
    *b = (SimBackup){.here = true, .real_us = now_us, .parent = SIZE_MAX, .complete = true};
    if (incremental)
    {
        /* as walbackup: the newest that can be restored, of this line */
        for (size_t i = s->backup_count; i-- > 0 && parent == SIZE_MAX;)
            if (s->backups[i].here && s->backups[i].done_us <= now_us &&
                s->backups[i].b.header.tli == s->tli && sim_restorable(s, &s->backups[i], SIM_HERE))
                parent = i;
        incremental = parent != SIZE_MAX;
    }
    (void) snprintf(
        b->b.label, sizeof b->b.label, "%05zu-%s", s->backup_count,
        incremental ? "incremental" : "full");
    b->parent = parent;
    b->b.oldest_us = now_us;
    b->b.newest_us = now_us + HOUR / 4;
    b->done_us = now_us + HOUR / 2;
    if (sim_random(s, 12) == 0)
        b->complete = false;
    else if (!incremental && sim_random(s, 10) == 0)
        b->done_us = now_us + 30 * HOUR; /* there is much to copy, or little time */

    /* a standby's begins at its last restart point */
    unsigned back = sim_random(s, 4) == 0 ? sim_random(s, 20) : 0;
    Lsn start = s->segno > s->first[s->tli] + back + 1 ? s->segno - back : s->segno;
    Lsn stop = s->segno + (Lsn) ((b->done_us - now_us) / HOUR);

    if (b->done_us < now_us + HOUR)
        stop = s->segno;
    b->b.header = (BackupHeader){
        .incremental = incremental,
        .from_standby = back > 0,
        .tli = s->tli,
        .start_lsn = start * SEG + SEG / 10,
        .stop_lsn = stop * SEG + SEG * 3 / 10,
        .started_us = now_us + s->clock_us,
        .stopped_us = b->done_us + s->clock_us};
    if (incremental)
    {
        const BackupHeader *p = &s->backups[parent].b.header;

        b->b.header.chain_count = p->chain_count + 1;
        b->b.header.chain = calloc(b->b.header.chain_count, sizeof *b->b.header.chain);
        if (p->chain_count > 0)
            memcpy(b->b.header.chain, p->chain, p->chain_count * sizeof *p->chain);
        memcpy(
            b->b.header.chain[p->chain_count], s->backups[parent].b.label, BACKUP_LABEL_NAME_MAX);
    }
    /* the one before has failed: its bundles are taken up */
    if (s->backup_count > 0 && !b[-1].complete && b[-1].here &&
        now_us - b[-1].b.newest_us < 12 * HOUR)
    {
        memcpy(b->b.resumes[0], b[-1].b.label, sizeof b->b.resumes[0]);
        b->b.header.uses = calloc(1, sizeof *b->b.header.uses);
        b->b.header.uses_count = 1;
        memcpy(b->b.header.uses[0], b[-1].b.label, BACKUP_LABEL_NAME_MAX);
    }
    if (sim_random(s, 100) == 0)
    {
        b->b.pinned = true;
        b->b.pinned_until_us = now_us + 50 * DAY;
    }
    b->next = s->stops[stop];
    s->stops[stop] = b;
    s->backup_count++;
}

/* A new timeline from the middle of segment at; its first segment is there at once. */
static void
sim_fork(Sim *s, unsigned at, int hour)
{
    if (s->last_tli + 1 == SIM_TLIS)
        return;
    s->parent[++s->last_tli] = s->tli;
    s->tli = s->last_tli;
    s->segno = at;
    sim_store(s, s->tli, at, hour);
    /* a backup that was running on what is now another server has failed */
    for (size_t i = 0; i < s->backup_count; i++)
        if (s->backups[i].done_us > s->begin_us + hour * HOUR)
        {
            s->backups[i].complete = false;
            s->backups[i].done_us = s->begin_us + hour * HOUR;
            s->backups[i].b.newest_us = s->begin_us + hour * HOUR;
        }
}

static void
sim_run(const SimSchedule *schedule, uint64_t seed)
{
    Sim *s = calloc(1, sizeof *s);
    int gap_until = 0, clock_until = 0;

    if (s == NULL)
        abort();
    s->random = seed;
    s->begin_us = when("2023-11-15 00:00");
    s->tli = s->last_tli = 1;
    s->segno = 100;
    s->histories = schedule->histories;
    for (int hour = 0; hour < SIM_HOURS; hour++)
    {
        int64_t now_us = s->begin_us + hour * HOUR;

        /* a slot was lost: WAL is missing, also that of backups which run */
        if (sim_random(s, 24 * 40) == 0)
            gap_until = hour + 1 + (int) sim_random(s, 30);
        if (hour >= gap_until)
            sim_store(s, s->tli, s->segno, hour);
        else if (s->end[s->tli] == 0)
        {
            s->first[s->tli] = s->segno;
            s->end[s->tli] = s->segno + 1;
        }
        s->moments[s->moment_count++] = (SimMoment){
            .tli = s->tli, .segno = s->segno, .us = now_us + HOUR + MIN(s->clock_us, 0)};

        if (hour >= gap_until && hour % 24 == 2)
            sim_backup(s, hour, false);
        else if (hour >= gap_until && hour % 6 == 2)
            sim_backup(s, hour, true);
        if (hour % 24 == 5)
            sim_expire(s, schedule, now_us + HOUR / 2);
        s->segno++;

        if (sim_random(s, 24 * 60) == 0)
        {
            /* the old primary goes on for a while, and even makes a backup, on a dead branch */
            TimelineId old = s->tli;
            unsigned at = s->segno;

            sim_store(s, s->tli, at, hour);
            for (unsigned more = sim_random(s, 30); more > 0; more--)
            {
                if (more == 5)
                    sim_backup(s, hour, false);
                s->segno++;
                sim_store(s, old, s->segno, hour);
            }
            sim_fork(s, at, hour);
            s->segno++;
        }
        else if (schedule->restore_days > 0 && sim_random(s, 24 * 90) == 0)
        {
            unsigned back = 24 * schedule->restore_days;

            if (s->segno > s->first[s->tli] + back + 24 &&
                (s->wal[s->tli][s->segno - back] & SIM_HERE) != 0)
            {
                sim_fork(s, s->segno - back, hour);
                s->segno++;
            }
        }
        /* the server's clock: for a day some days off; once it is decades ahead for an hour */
        if (clock_until == hour)
            s->clock_us = 0;
        if (sim_random(s, 24 * 100) == 0)
        {
            s->clock_us = ((int64_t) sim_random(s, 21) - 10) * DAY;
            clock_until = hour + 24;
        }
        if (hour == 300 * 24 + 1)
        {
            s->clock_us = 25000 * DAY;
            clock_until = hour + 2;
        }
    }
    if (!ok(s->bad == 0, "%s, seed %" PRIu64 ": each promise is kept, %zu of them over %d days",
            schedule->label, seed, s->promises, SIM_DAYS))
        diag("%zu broken, the first: %s", s->bad, s->why);
    ok(s->promises > (schedule->rules.pitr.ms > 0 ? 5000 : 50), "%s: there were promises",
       schedule->label);
    ok(s->most_backups <= schedule->most_backups && s->most_wal <= schedule->most_wal,
       "%s: growth is bounded: at most %zu backups, %zu segments", schedule->label, s->most_backups,
       s->most_wal);
    diag("%zu backups were made on %u timelines", s->backup_count, s->last_tli);
    for (size_t i = 0; i < s->backup_count; i++)
    {
        free(s->backups[i].b.header.chain);
        free(s->backups[i].b.header.uses);
    }
    free(s);
}

static const SimSchedule sim_schedules[] = {
    {.label = "the schedule of the manual",
     .rules =
         {.full = DAYS(30),
          .incremental = DAYS(7),
          .weekly = DAYS(182),
          .monthly = DAYS(365),
          .pitr = DAYS(30)},
     .histories = true,
     .restore_days = 3,
     .most_backups = 150,
     .most_wal = 75 * 24},
    {.label = "the same with encrypted histories",
     .rules =
         {.full = DAYS(30),
          .incremental = DAYS(7),
          .weekly = DAYS(182),
          .monthly = DAYS(365),
          .pitr = DAYS(30)},
     .most_backups = 150,
     .most_wal = 75 * 24},
    {.label = "few backups, a long window",
     .rules = {.full = COUNT(2), .incremental = COUNT(3), .pitr = DAYS(14)},
     .histories = true,
     .restore_days = 2,
     .most_backups = 60,
     .most_wal = 65 * 24},
    {.label = "numbers only",
     .rules = {.full = COUNT(1), .yearly = DAYS(1200)},
     .histories = true,
     .most_backups = 40,
     .most_wal = 40 * 24},
};

int
main(void)
{
    test_cases();
    test_keeps();
    for (size_t i = 0; i < ARRAY_COUNT(sim_schedules); i++)
        sim_run(&sim_schedules[i], (i + 1) * 0x9e3779b97f4a7c15U);
    return done_testing();
}
