/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What can be recovered: windows of time and LSN without a hole, and for one target the backup and
 * WAL that reach it. Pure, over a list of backups and an inventory with histories read.
 *
 * The times of WAL are those of the store, which are later than the commits in it by the streaming
 * lag; a restore looks into the WAL itself (src/walrestore) before it says yes.
 */
#ifndef WALSTREAM_RECOVERY_H
#define WALSTREAM_RECOVERY_H

#include "repo/backup_list.h"
#include "repo/wal_inventory.h"

#define RECOVERY_POINT_TEXT_MAX 80

/* From the stop of a backup, along one line of timelines, to the first hole. */
typedef struct RecoveryWindow
{
    TimelineId tli;     /* the line: this timeline and its ancestors */
    size_t backup;      /* the first backup in it, index into the list */
    size_t last_backup; /* the newest */
    Lsn start_lsn;      /* stop_lsn of the first backup */
    Lsn end_lsn;
    int64_t start_us; /* stopped_us of the first backup */
    int64_t end_us;   /* when the last WAL of it was stored; 0 unknown */
    bool current;     /* it reaches the end of the newest timeline (but for uploads under way) */
    bool dead;        /* part of it is on a branch that the newest timeline does not come from */
} RecoveryWindow;

typedef struct RecoveryWindows
{
    RecoveryWindow *items; /* owned; by line (newest timeline first), then by start */
    size_t count;
    size_t cap;
} RecoveryWindows;

MUST_CHECK int recovery_windows_make(
    const BackupList *list, const WalInventory *inv, RecoveryWindows *out, Error *err);
void recovery_windows_reset(RecoveryWindows *windows); /* fit for AUTO */

typedef enum RecoveryTargetKind
{
    RECOVERY_LATEST,
    RECOVERY_TIME,
    RECOVERY_LSN,
    RECOVERY_XID,
    RECOVERY_NAME,
    RECOVERY_IMMEDIATE
} RecoveryTargetKind;

typedef struct RecoveryTarget
{
    RecoveryTargetKind kind;
    int64_t time_us; /* since 1970, UTC */
    Lsn lsn;
    uint32_t xid;
    char name[64];
    bool exclusive;    /* recovery_target_inclusive = off */
    TimelineId tli;    /* 0: latest */
    const char *label; /* --backup; NULL: choose */
} RecoveryTarget;

/* A way from a backup to a target. */
typedef struct RecoveryPlan
{
    size_t backup;           /* index into the list */
    TimelineId tli;          /* of the target: what recovery_target_timeline becomes */
    TimelineHistory history; /* of tli; owned */
    Lsn wal_start;           /* the backup's start_lsn */
    Lsn wal_end;             /* end of the WAL without a hole along history, from wal_start */
    int64_t wal_end_us;      /* when the last of it was stored */
    bool hole; /* there is more WAL of the line behind wal_end, which cannot be reached */
    /*
     * of a hole: all that is behind it was stored within minutes of what is in front of it, and no
     * gap was noted. Several uploads run at a time; this is what a listing among them sees, and
     * what is left when a host is lost. None of it was acknowledged.
     */
    bool in_flight;
    Lsn hole_end; /* of a hole: where WAL goes on */
} RecoveryPlan;

#define RECOVERY_IN_FLIGHT_US (INT64_C(600) * 1000000)

void recovery_plan_reset(RecoveryPlan *plan); /* fit for AUTO */

/*
 * Backups that are on the line of target->tli and whose own WAL is there, newest first, that can
 * come into question: for LSN those with stop_lsn at or before it (inclusive or not: the record
 * that PostgreSQL stops behind or in front of is the first one that begins there or later, and all
 * that makes the backup consistent is in front of it) and WAL beyond it; for TIME those stopped at
 * or before it; otherwise all. The first one that the target is reached from is the one to take;
 * for XID and NAME the caller looks into the WAL behind each (wal_scan.h).
 *
 * The latest timeline is the newest one that there is WAL of.
 *
 * candidates  owned by the caller (free), count in *count
 * Errors      USAGE with a hint that says what can be reached: no backup, target before the first
 *             backup, an unknown timeline or label, LSN behind the end of the WAL, a hole before it
 */
MUST_CHECK int recovery_candidates(
    const BackupList *list, const WalInventory *inv, const RecoveryTarget *target,
    RecoveryPlan **candidates, size_t *count, Error *err);
void recovery_plans_free(RecoveryPlan *plans, size_t count);

/*
 * The timeline whose file PostgreSQL will read segno from, on the line of history: the newest one
 * that has begun in it or before and that there is any of. 0: there is none.
 */
TimelineId
recovery_segment_timeline(const WalInventory *inv, const TimelineHistory *history, SegmentNo segno);

/*
 * Sets the hint of err to what can be reached on the line of tli: the windows next to at_us or lsn,
 * of which either may be 0; the newest when both are. Returns -1.
 */
int recovery_hint_windows(
    const BackupList *list, const WalInventory *inv, TimelineId tli, int64_t at_us, Lsn lsn,
    Error *err);

/* "2026-03-01 09:14:07.120 UTC (0/03000060)", without the time if that is 0; buf of
 * RECOVERY_POINT_TEXT_MAX. Returns buf. */
char *recovery_format_point(int64_t at_us, Lsn lsn, char *buf);

/* "between 2026-03-01 09:14:07 UTC (0/3000060) and ..." of a window, into buf of 256. Returns buf.
 */
char *recovery_format_window(const RecoveryWindow *window, char *buf);

#endif
