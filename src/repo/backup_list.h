/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The backups of a repository: those that exist (with the header of their manifest) and those that
 * have begun and have no manifest: running, or failed.
 *
 * One LIST by folder, then one GET of a few KiB for each backup, several at a time; for one without
 * a manifest a LIST of its objects.
 */
#ifndef WALSTREAM_BACKUP_LIST_H
#define WALSTREAM_BACKUP_LIST_H

#include "repo/manifest.h"

/* An unfinished backup whose newest object is older than this is not running any more. */
#define BACKUP_ABANDONED_MS (INT64_C(24) * 3600 * 1000)
/* Only one younger than this may be resumed, so that none is removed while it is taken up. */
#define BACKUP_RESUMABLE_MS (INT64_C(12) * 3600 * 1000)
/* How many unfinished backups a start object names. */
#define BACKUP_RESUMES_MAX 8

typedef enum BackupState
{
    BACKUP_COMPLETE,
    BACKUP_UNFINISHED, /* no manifest */
    BACKUP_DAMAGED     /* there is a manifest and it cannot be read: error says why */
} BackupState;

typedef struct Backup
{
    char label[BACKUP_LABEL_NAME_MAX];
    BackupState state;
    BackupHeader header; /* COMPLETE */
    Error error;         /* DAMAGED */
    int64_t newest_us;   /* UNFINISHED: when its newest object was stored, by the store's clock */
    int64_t oldest_us;   /* UNFINISHED: and its oldest, when it began; 0 not known */
    /* UNFINISHED: from its start object; the first "" ends them */
    char resumes[BACKUP_RESUMES_MAX][BACKUP_LABEL_NAME_MAX];
    /* UNFINISHED: from the same; of an incremental its parent. "" full, or not known */
    char made_on[BACKUP_LABEL_NAME_MAX];
    bool pinned;
    int64_t pinned_until_us; /* 0: forever */
    size_t parent; /* COMPLETE incrementals with a whole chain: its index; else SIZE_MAX */
    /* COMPLETE: a link of the chain, or a backup whose bundles are used, is missing, damaged or
     * another one than it was: it cannot be restored */
    bool chain_broken;
    const char *broken_by; /* chain_broken: its label; borrowed from a header of the list */
} Backup;

typedef struct BackupList
{
    /* owned; by time: complete ones by started_us, others by newest_us (damaged ones first) */
    Backup *items;
    size_t count;
    size_t cap;
    int64_t store_now_us; /* the store's clock, as far as it tells: newest_us of anything seen, or
                             ours if that is later */
} BackupList;

void backup_list_reset(BackupList *list); /* fit for AUTO */

/*
 * timeout_ms  for each request
 * jobs        requests at a time
 * A manifest that the store did not give is an error of the whole list, so that nobody takes a
 * backup for missing that was only not seen.
 */
MUST_CHECK int
backup_list_read(Repository *repo, int64_t timeout_ms, unsigned jobs, BackupList *out, Error *err);

/* NULL if there is none; borrowed. */
const Backup *backup_list_find(const BackupList *list, const char *label);
/* The newest that is complete with an unbroken chain, NULL if none. */
const Backup *backup_list_newest(const BackupList *list);

/* The start object, put when a backup begins. EXISTS: the label is taken. */
typedef struct BackupStart
{
    char label[BACKUP_LABEL_NAME_MAX];
    bool incremental;
    char parent[BACKUP_LABEL_NAME_MAX]; /* what an incremental is made on, so that it is kept */
    /* unfinished backups that may be taken up, so that they are kept; the first "" ends them */
    char resumes[BACKUP_RESUMES_MAX][BACKUP_LABEL_NAME_MAX];
    char host[64];
    int64_t started_us;
} BackupStart;
MUST_CHECK int
backup_start_put(Repository *repo, const BackupStart *start, const Deadline *dl, Error *err);
MUST_CHECK int backup_start_read(
    Repository *repo, const char *label, const Deadline *dl, BackupStart *out, Error *err);

#endif
