/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Which backups and which WAL are kept. Pure: decides over a list of backups and an inventory, asks
 * no store, removes nothing; `walctl expire` carries it out.
 *
 * What is kept, by the rules of [retention] ("30d": what is younger; "7": that many; empty: the
 * rule is not there). Age and calendar go by when a backup began (UTC), and only restorable ones
 * are counted:
 *
 *   full         full backups; empty: all of them
 *   incremental  incremental backups; empty: those whose full backup "full" keeps
 *   weekly, monthly, yearly  of each week (Monday to Sunday, as ISO 8601 has it), month, year: its
 *                first full backup; where it has none, its first backup. A count counts weeks,
 *                months, years that have one.
 *   pitr         every moment of that time, as a duration only: the anchor, which is the newest
 *                restorable backup that is older (or the oldest there is), all WAL from its start
 *                on, the first restorable backup behind each hole in that WAL, and the oldest that
 *                is younger: the next anchor, without which the window could never move
 *   pins         as long as they last
 *
 * Always kept: what a kept incremental needs (its chain, the backups whose bundles are used), the
 * newest restorable backup, unfinished backups that may be running, what they resume and what they
 * are made on, WAL that a kept backup needs to be consistent (its start segment to its stop
 * segment), all timeline history files. Without any rule nothing but garbage is removed: abandoned
 * backups, superseded pieces.
 *
 * A line is a timeline with its ancestors up to their switch points. Anchors and the newest backup
 * are found for each line that is served: those with WAL younger than pitr, the one with the newest
 * WAL, and that of the highest timeline unless it has been quiet for 30 days while another was not.
 * So a backup on a dead branch never stands in for one that the living line needs, and the WAL of a
 * dead branch goes when it is older than pitr. Where the history of a timeline is not known (it may
 * be encrypted, and retention needs no secret) each lower timeline may be an ancestor, and ends
 * where the first WAL of a later one begins.
 *
 * Along a line the order is that of LSNs: an anchor has no younger backup in front of it, so that
 * a server's clock that was set back cannot move the window, as far as the backups that are kept
 * tell of it. A backup from the future (more than a
 * day) is taken to be as old as the next one behind it, so that it is not kept until then.
 *
 * Without pitr WAL is kept, on every timeline, from the oldest backup on that "full" or
 * "incremental" keeps. If "full" is empty too, all WAL is kept; also while a served line has no
 * restorable backup, since the WAL may belong to one that is elsewhere.
 *
 * A running backup has no LSN yet. What keeps its WAL is when that was stored, by the store's
 * clock: WAL is never removed that was stored less than RETENTION_WAL_YOUNG_MS ago, or later than
 * that much before the oldest running backup began (a standby's backup starts at its last restart
 * point, at most checkpoint_timeout, a day, before). That also keeps WAL of timelines that come
 * into being while WAL is being removed.
 *
 * A manifest that cannot be read may be one of a later version, and may need anything: while there
 * is one, no complete or unfinished backup and no WAL is removed. Nor are complete backups while
 * none of them is restorable.
 */
#ifndef WALSTREAM_RETENTION_H
#define WALSTREAM_RETENTION_H

#include "repo/backup_list.h"
#include "repo/wal_inventory.h"

#define RETENTION_WAL_YOUNG_MS (INT64_C(25) * 3600 * 1000)
#define RETENTION_FUTURE_MS (INT64_C(24) * 3600 * 1000)
#define RETENTION_QUIET_MS (INT64_C(30) * 24 * 3600 * 1000)

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
    RETENTION_PITR = 1 << 5, /* it begins the window, or what is behind a hole in it */
    RETENTION_PIN = 1 << 6,
    RETENTION_CHAIN = 1 << 7,       /* a kept incremental needs it */
    RETENTION_NEWEST = 1 << 8,      /* the last restorable backup is never removed */
    RETENTION_RUNNING = 1 << 9,     /* unfinished, and perhaps running; or used by one that is */
    RETENTION_USED = 1 << 10,       /* its bundles are used by a kept backup */
    RETENTION_NO_RULE = 1 << 11,    /* no rule speaks of it */
    RETENTION_UNREADABLE = 1 << 12, /* its manifest, or one that may need it, is damaged */
    RETENTION_STUCK = 1 << 13       /* its manifest could not be removed */
} RetentionReason;

#define RETENTION_REASONS_MAX 160
/* "full,weekly" for messages and JSON; buf of RETENTION_REASONS_MAX bytes. Returns buf. */
char *retention_format_reasons(unsigned reasons, char *buf);

/* WAL to keep: [start, end), whole segments. */
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
    RetentionRange *ranges; /* owned; ascending, neither touching nor overlapping; WAL outside all
                               of them may go, */
    size_t range_count;
    size_t range_cap;
    int64_t wal_since_us; /* unless it was stored at this time or later */
    bool wal_unbounded;   /* no WAL is removed; why: */
    const char *wal_why;  /* "because ...", borrowed; NULL */
    int64_t pitr_from_us; /* when the window of the newest line begins: stop of its anchor; 0
                             without pitr or backup */
    bool pitr_short;      /* the window is shorter than promised: there is no older backup */
    bool none_restorable; /* of the complete backups */
    size_t damaged_count; /* manifests that cannot be read */
} RetentionPlan;

/*
 * list and inventory are finished; its histories may be read. A backup counts as restorable when
 * its chain is whole and the inventory has the WAL from its start to its stop.
 */
MUST_CHECK int retention_plan_make(
    const RetentionRules *rules, const BackupList *list, const WalInventory *inv,
    RetentionPlan *out, Error *err);
void retention_plan_reset(RetentionPlan *plan); /* fit for AUTO */

/* Keeps the i-th backup after all, with what it needs. */
MUST_CHECK int retention_plan_keep(
    RetentionPlan *plan, const BackupList *list, const WalInventory *inv, size_t i,
    RetentionReason reason, Error *err);

/*
 * Whether an object that has WAL of [start, end) of tli, or whose segment that is, must stay;
 * stored_us: when it was stored, 0 not known.
 */
bool retention_keeps_wal(
    const RetentionPlan *plan, TimelineId tli, Lsn start, Lsn end, int64_t stored_us);

/* Whether all of [start, end) of tli stays, whenever it was stored. */
bool retention_keeps_all_wal(const RetentionPlan *plan, TimelineId tli, Lsn start, Lsn end);

/* Whether WAL from start to stop of this backup is there without a hole. */
bool retention_backup_consistent(const BackupHeader *header, const WalInventory *inv);

#endif
