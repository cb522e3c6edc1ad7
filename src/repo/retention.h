/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Which backups and which WAL are kept. Pure: decides over a list of backups and an inventory, asks
 * no store, removes nothing; `walctl expire` carries it out.
 *
 * What is kept, by the rules of [retention] ("30d": what is younger; "7": that many; empty: the rule
 * is not there):
 *
 *   full         full backups; empty: all of them
 *   incremental  incremental backups; empty: those whose full backup is kept by a rule of its own
 *   weekly, monthly, yearly  of each week (ISO, UTC), month, year: its first full backup; where it
 *                has none, its first backup. A count counts weeks, months, years that have one.
 *   pitr         every moment of that time: the newest restorable backup that is older than it (or
 *                the oldest there is), and all WAL from its start on. As a duration only.
 *   pins         as long as they last
 *
 * Always kept: what a kept incremental needs (its chain, the unfinished backups whose bundles are
 * used), the newest restorable backup, unfinished backups that may be running and what they resume,
 * WAL that a kept backup needs to be consistent (its start segment to its stop segment), all
 * timeline history files. Without any rule nothing but garbage is removed: abandoned backups,
 * superseded pieces.
 *
 * WAL is kept from the start of the pitr anchor on, on every timeline; without pitr, from the
 * oldest backup that "full" or "incremental" keeps. WAL of a dead branch
 * younger than pitr is kept.
 */
#ifndef WALSTREAM_RETENTION_H
#define WALSTREAM_RETENTION_H

#include "repo/backup_list.h"
#include "repo/wal_inventory.h"

typedef struct RetentionRules
{
    ConfigKeep full, incremental, weekly, monthly, yearly;
    ConfigKeep pitr;
    int64_t now_us;
} RetentionRules;

RetentionRules retention_rules(const Config *cfg, int64_t now_us);

typedef enum RetentionReason
{
    RETENTION_FULL = 1 << 0,
    RETENTION_INCREMENTAL = 1 << 1,
    RETENTION_WEEKLY = 1 << 2,
    RETENTION_MONTHLY = 1 << 3,
    RETENTION_YEARLY = 1 << 4,
    RETENTION_PITR = 1 << 5, /* it begins the window */
    RETENTION_PIN = 1 << 6,
    RETENTION_CHAIN = 1 << 7,      /* a kept incremental needs it */
    RETENTION_NEWEST = 1 << 8,     /* the last restorable backup is never removed */
    RETENTION_RUNNING = 1 << 9,    /* unfinished, and perhaps running; or used by one that is */
    RETENTION_USED = 1 << 10,      /* its bundles are used by a kept backup */
    RETENTION_NO_RULE = 1 << 11,   /* no rule speaks of it */
    RETENTION_UNREADABLE = 1 << 12 /* its manifest is damaged: removed by a person only */
} RetentionReason;

/* "full,weekly" for messages and JSON; buf of 160 bytes. Returns buf. */
char *retention_format_reasons(unsigned reasons, char *buf);

/* WAL to keep of one timeline: [start, end) and whatever else overlaps it segment-wise. */
typedef struct RetentionRange
{
    TimelineId tli; /* 0: every timeline */
    Lsn start;
    Lsn end; /* UINT64_MAX: open */
} RetentionRange;

typedef struct RetentionPlan
{
    unsigned *reasons; /* owned; of each backup of the list, 0: remove it */
    size_t count;
    RetentionRange *ranges; /* owned; WAL outside all of them may go */
    size_t range_count;
    size_t range_cap;
    bool wal_unbounded;   /* no rule bounds WAL: none is removed */
    int64_t pitr_from_us; /* when the window begins: stop of the anchor; 0 without pitr */
    bool pitr_short;      /* the window is shorter than promised: there is no older backup */
} RetentionPlan;

/*
 * list and inventory are finished. A backup counts as restorable when its chain is whole and the
 * inventory has the WAL from its start to its stop.
 */
MUST_CHECK int retention_plan_make(
    const RetentionRules *rules, const BackupList *list, const WalInventory *inv,
    RetentionPlan *out, Error *err);
void retention_plan_reset(RetentionPlan *plan); /* fit for AUTO */

/* Whether a WAL object with [start, end) of tli must stay. newest_us: when it was stored. */
bool retention_keeps_wal(
    const RetentionPlan *plan, const RetentionRules *rules, TimelineId tli, Lsn start, Lsn end,
    int64_t stored_us);

/* Whether WAL from start to stop of this backup is there without a hole. */
bool retention_backup_consistent(const BackupHeader *header, const WalInventory *inv);

#endif
