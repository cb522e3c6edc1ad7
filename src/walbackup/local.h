/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Reading the files of a data directory into bundles: what its workers share, and the copying of
 * one file. The opening comment of local.c has the order of things.
 */
#ifndef WALBACKUP_LOCAL_H
#define WALBACKUP_LOCAL_H

#include <pthread.h>

#include "walbackup/backup_run.h"
#include "walbackup/summaries.h"
#include "walbackup/walk.h"

#define LOCAL_READ_BYTES (1024u * 1024u)
#define LOCAL_OWNER_NAME_MAX 64

typedef struct LocalRun
{
    BackupRun *run;
    const char *data; /* the data directory */
    int data_fd;
    Walk walk;
    Summaries *summaries; /* NULL: page LSNs */
    uint32_t *large;      /* files, the largest first; they come before the small ones */
    size_t large_count, large_cap;

    atomic_bool stop;          /* a worker has failed, or the session is lost */
    atomic_uint damage_logged; /* warnings of damaged pages */
    atomic_uint pauses;        /* before pages were read again */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t ended; /* a worker has */
    size_t next_large;    /* index into large */
    size_t next_small;    /* of all files; the large ones are passed over */
    unsigned running;
    bool failed;
    Error failure; /* the first one */
} LocalRun;

/* Names of owner and group of the last file; they are the same for all, as a rule. */
typedef struct LocalOwner
{
    bool known;
    uid_t uid;
    gid_t gid;
    char user[LOCAL_OWNER_NAME_MAX];
    char group[LOCAL_OWNER_NAME_MAX];
} LocalOwner;

/* A worker's own. */
typedef struct LocalCopier
{
    LocalRun *local;
    BundleWriter *writer; /* owned */
    uint8_t *buf;         /* LOCAL_READ_BYTES, owned */
    LocalOwner owner;
} LocalCopier;

MUST_CHECK int local_copier_init(LocalRun *local, LocalCopier *out, Error *err);
void local_copier_reset(LocalCopier *c); /* an open bundle is discarded */

/* Puts the file into the bundle, whole or its changed blocks. One that vanished is left out. */
MUST_CHECK int local_copy_file(LocalCopier *c, const WalkFile *file, Error *err);
MUST_CHECK int local_copy_folder(LocalCopier *c, const WalkFolder *folder, Error *err);

#endif
