/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What an inventory of WAL means for a recovery: where WAL is missing, how far the newest timeline
 * is durable, which WAL lies beyond a switch point. Pure: nothing here asks a store.
 */
#ifndef WALSTREAM_WAL_REPORT_H
#define WALSTREAM_WAL_REPORT_H

#include "repo/backup_list.h"
#include "repo/wal_inventory.h"

#define WAL_REPORT_TEXT_MAX 256

/* WAL of tli that recovery needs and the repository does not have. */
typedef struct WalGap
{
    TimelineId tli;
    TimelineId next; /* the timeline of the WAL behind it: tli, or a child of it */
    Lsn start;
    Lsn end;
    bool dead; /* only on a branch that the newest timeline does not come from */
    /*
     * All WAL in front of it, up to the gap before, is what backups need to be consistent: what
     * retention leaves of the time before the window of recovery. Nothing is lost by it.
     */
    bool by_retention;
} WalGap;

/* WAL that the newest timeline does not come from: commits that only the repository may have. */
typedef struct WalBranch
{
    TimelineId tli;
    Lsn start; /* the switch point; of a whole timeline where its WAL begins */
    Lsn end;
    int64_t newest_us;
    bool whole; /* all of the timeline is such a branch */
} WalBranch;

/* What has become of a recorded gap. */
typedef struct WalNoteState
{
    const WalGapNote *note; /* borrowed from the inventory */
    uint64_t missing_bytes; /* 0: it was filled since */
} WalNoteState;

typedef struct WalReport
{
    WalGap *gaps; /* owned; by timeline and LSN */
    size_t gap_count;
    size_t gap_cap;
    WalBranch *branches; /* owned */
    size_t branch_count;
    size_t branch_cap;
    WalNoteState *notes; /* owned; as many as the inventory has */
    size_t note_count;
    TimelineId newest;  /* the newest timeline with WAL; 0: there is no WAL */
    Lsn durable;        /* end of its last run */
    int64_t durable_us; /* when that was stored */
    bool lineage_known; /* the newest timeline's history was read */
} WalReport;

/* inv is finished, its histories read, and outlives the report. */
MUST_CHECK int wal_report_make(const WalInventory *inv, WalReport *out, Error *err);
void wal_report_reset(WalReport *report); /* fit for AUTO */

/* Tells by_retention of each gap; all gaps have it false until then. */
void wal_report_note_backups(WalReport *report, const WalInventory *inv, const BackupList *backups);

/* Whether lsn of tli is on a branch that the newest timeline does not come from. */
bool wal_report_is_dead(const WalInventory *inv, const WalReport *report, TimelineId tli, Lsn lsn);

/* ---- texts, all into buf of WAL_REPORT_TEXT_MAX bytes; return buf ---- */

/* "0/1000000 - 0/2000000" */
char *wal_report_format_range(Lsn start, Lsn end, char *buf);

/* "000000010000000000000001", or "... to ... (7 segments)": those that hold [start, end). */
char *
wal_report_format_segments(TimelineId tli, Lsn start, Lsn end, uint32_t segment_bytes, char *buf);

/*
 * What it means that [start, end) of tli cannot be had. A segment is read from its beginning, so
 * that recovery goes on with the next whole one.
 */
char *wal_report_format_consequence(
    TimelineId tli, Lsn start, Lsn end, uint32_t segment_bytes, bool dead, char *buf);

/* "17 bytes", "1.4 MiB" */
char *wal_report_format_bytes(uint64_t bytes, char *buf);

#endif
