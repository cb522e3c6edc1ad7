/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What the two halves of `walctl verify` share: verify.c lists, hands out tasks, and tells the
 * result; verify_read.c reads what a task names.
 */
#ifndef WALCTL_VERIFY_H
#define WALCTL_VERIFY_H

#include "common/progress.h"
#include "walctl/walctl.h"

/* One object of a segment: [start, end) of it. */
typedef struct VerifyExtent
{
    uint32_t start;
    uint32_t end;
    uint64_t stored_bytes;
    bool part;
} VerifyExtent;

typedef enum VerifyTaskKind
{
    VERIFY_SEGMENT, /* whole, in one object, or all its parts */
    VERIFY_PIECES,  /* of a segment that is not complete: looked at as one run of WAL */
    VERIFY_OBJECTS, /* parts or pieces, each for itself */
    VERIFY_FILE     /* history, backup history, partial segment */
} VerifyTaskKind;

/* What a worker takes at once: all objects of a kind of one segment, or one small file. */
typedef struct VerifyTask
{
    VerifyTaskKind kind;
    TimelineId tli;
    SegmentNo segno;
    bool superseded;       /* pieces of a segment that is complete */
    VerifyExtent *extents; /* owned; by start */
    size_t extent_count;
    size_t extent_cap;
    char key[LAYOUT_KEY_MAX]; /* of FILE, as the rest */
    WalFileName name;
    uint64_t stored_bytes;
} VerifyTask;

typedef enum VerifyVerdict
{
    VERIFY_DAMAGED, /* read, and not what it must be */
    VERIFY_MISSING, /* certainly not there */
    VERIFY_UNREAD,  /* could not be read: nothing is known about it */
    VERIFY_LOCKED   /* encrypted, and no identity opens it */
} VerifyVerdict;

typedef struct VerifyFinding
{
    VerifyVerdict verdict;
    bool harmless; /* recovery can do without it */
    TimelineId tli;
    Lsn start, end; /* 0, 0: no range of WAL */
    char key[LAYOUT_KEY_MAX];
    char message[640];
    char consequence[WAL_REPORT_TEXT_MAX];
} VerifyFinding;

#define VERIFY_KEY_IDS_MAX 16

typedef struct Verify
{
    Repository *repo;
    const WalInventory *inv;
    const WalReport *report;
    int64_t timeout_ms; /* for an object */
    Progress progress;

    pthread_mutex_t lock; /* guards all below */
    VerifyFinding *findings;
    size_t finding_count; /* kept */
    size_t finding_cap;
    uint64_t damaged, missing, unread, locked;   /* all, also those not kept */
    uint64_t objects, stored_bytes, plain_bytes; /* that were found good */
    unsigned unread_in_a_row;
    bool stop; /* the store is away, or nothing can be opened: it makes no sense to go on */
    bool out_of_memory;
    char key_ids[VERIFY_KEY_IDS_MAX][OBJECT_KEY_IDS_MAX]; /* of what is locked */
    size_t key_id_count;
} Verify;

/* Reads and checks what t names; what is wrong becomes findings. Thread-safe. */
void verify_task_run(Verify *v, const VerifyTask *t);

/* Keeps it, or only counts it when there are very many. Thread-safe. */
void verify_add_finding(Verify *v, const VerifyFinding *finding);

#endif
