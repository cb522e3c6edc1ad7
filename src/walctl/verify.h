/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What the parts of `walctl verify` share: verify.c lists, hands out tasks, and tells the
 * result; verify_read.c reads the WAL that a task names, verify_backup.c bundles of backups.
 */
#ifndef WALCTL_VERIFY_H
#define WALCTL_VERIFY_H

#include <pthread.h>

#include "common/progress.h"
#include "repo/backup_list.h"
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
    VERIFY_FILE,    /* history, backup history, partial segment */
    VERIFY_BUNDLE   /* all parts of a bundle, with the digest of each file in them */
} VerifyTaskKind;

/* A backup that bundles are read of: in memory until the last of them was looked at. */
typedef struct VerifyBackup
{
    Manifest manifest;
    char dependents[200]; /* what cannot be restored without it, for people */
    atomic_uint refs;
} VerifyBackup;

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
    VerifyBackup *backup; /* of BUNDLE: a reference */
    uint32_t bundle;
} VerifyTask;

/* Which objects are looked at; zero: all. */
typedef struct VerifyChoice
{
    const char *label; /* this backup only: its chain, and the WAL that they need */
    bool wal, backups;
    TimelineId timeline; /* of WAL; 0: all */
    int64_t since_us;    /* stored at or after */
    double sample;       /* percent; 0: no sample */
    uint64_t seed;       /* of the sample */
    uint32_t shard;      /* 1 .. shards */
    uint32_t shards;     /* 0: all */
} VerifyChoice;

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
    char consequence[512];
} VerifyFinding;

#define VERIFY_KEY_IDS_MAX 16

typedef struct Verify
{
    Repository *repo;
    const WalInventory *inv;
    const WalReport *report;
    const BackupList *list;
    VerifyChoice choice;
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

/*
 * Whether the object, or the group of objects that key stands for, is among those chosen by time,
 * sample and shard; the same everywhere for the same choice.
 */
bool verify_chosen(const Verify *v, const char *key, int64_t stored_us);

/* Reads and checks what t names; what is wrong becomes findings. Thread-safe. */
void verify_task_run(Verify *v, const VerifyTask *t);
void verify_run_bundle(Verify *v, const VerifyTask *t);
void verify_task_reset(VerifyTask *t);

/* Takes a task over. */
typedef void (*VerifySubmitFn)(void *ctx, VerifyTask *task);

/* What can be told of backups without reading them, and a task for each bundle that was chosen. */
MUST_CHECK int verify_list_backups(Verify *v, VerifySubmitFn submit, void *ctx, Error *err);
/* Stored bytes of the backups that verify_list_backups will go through. */
uint64_t verify_backup_bytes(const Verify *v);

/*
 * Behind the consequence of a finding about WAL that recovery needs: the first backup behind it,
 * and the backups that need it to be consistent.
 */
void verify_describe_wal_loss(const Verify *v, VerifyFinding *f);

/* Keeps it, or only counts it when there are very many. Thread-safe. */
void verify_add_finding(Verify *v, const VerifyFinding *finding);
void verify_count_good(Verify *v, uint64_t stored_bytes, uint64_t plain_bytes);
bool verify_stopped(Verify *v);
/* From the error of a read: damaged, locked, or nothing is known. */
VerifyVerdict verify_judge(Verify *v, const char *key, const Error *err);
/* Message, and the consequence where the verdict alone tells it. */
void verify_describe(VerifyFinding *f, const Error *err);

#endif
