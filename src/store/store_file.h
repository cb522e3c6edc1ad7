/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Inside the file store: what its two halves, single objects and walks over folders, share.
 */
#ifndef WALSTREAM_STORE_FILE_H
#define WALSTREAM_STORE_FILE_H

#include <pthread.h>
#include <sys/types.h>

#include "store/wrap.h"

#define FILE_TEMP_PREFIX ".tmp."
#define FILE_SYNCED_MAX 32

typedef struct StoreFile
{
    Store base;
    char *root; /* for messages */
    int root_fd;
    char host[65]; /* part of temporary names */
    atomic_uint_least64_t temp_count;

    /*
     * Folders whose own name is known to be durable. Each is held open: its inode number cannot
     * come back for another folder while we rely on it.
     */
    pthread_mutex_t lock;
    struct FileSynced
    {
        dev_t dev;
        ino_t ino;
        int fd;
    } synced[FILE_SYNCED_MAX]; /* under lock */
    size_t synced_count;       /* under lock; that were ever entered: the oldest makes room */
} StoreFile;

/* The kind that errno means for a file of the store, whatever was done; see store_file_new. */
ErrorKind store_file_kind(int sys_errno);

/* As error_sys, with the kind of store_file_kind and the hint that belongs to it. Returns -1. */
int store_file_error(Error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* as in error.h: analyzers do not look into other files to see that it is -1 */
#ifdef WALSTREAM_ANALYZER
#define store_file_error(...) ((void) store_file_error(__VA_ARGS__), -1)
#endif

/*
 * Opens the folder path[0..len) below root ("" is root itself; a '/' at the end is fine). create
 * makes missing ones and sees to it that the whole chain is durable.
 *
 * Errors   NOT_FOUND when missing, also when it vanished between its creation and its opening
 */
MUST_CHECK int store_file_open_folder(
    StoreFile *st, const char *path, size_t len, bool create, int *out, Error *err);

/* Fails when root was removed: nothing below it can be told to be missing for certain then. */
MUST_CHECK int store_file_check_root(const StoreFile *st, Error *err);

/* Whether a component of key begins with a reserved prefix: no object can have that name. */
bool store_file_reserved(const char *key);
bool store_file_name_reserved(const char *name);

MUST_CHECK int store_file_list(
    Store *base, const StoreListOptions *options, StoreListFn fn, void *ctx, const Deadline *dl,
    Error *err);

/* store_file_sweep for a store that is a file store. */
MUST_CHECK int store_file_sweep_temps(StoreFile *st, int64_t age_s, uint64_t *removed, Error *err);

#endif
