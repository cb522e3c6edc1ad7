/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The spool and the sessions in it; see spool.h.
 */
#include "walfetch/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/fs.h"
#include "walfetch/session.h"

#define SPOOL_STALE_AGE_S 60
#define SPOOL_LOCK_TRIES 5
#define SPOOL_LOCK_PAUSE_MS 20

void
spool_each_file(int dir_fd, void (*fn)(void *ctx, const char *name), void *ctx)
{
    /* a description of its own: a duplicate would share the read position */
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const struct dirent *entry;
    DIR *dir;

    if (fd < 0)
        return;
    dir = fdopendir(fd);
    if (dir == NULL)
    {
        (void) close(fd);
        return;
    }
    while ((entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            fn(ctx, entry->d_name);
    (void) closedir(dir);
}

static void
spool_remove_file(void *ctx, const char *name)
{
    const int *dir_fd = ctx;

    if (strcmp(name, SESSION_LOCK_NAME) != 0)
        (void) unlinkat(*dir_fd, name, 0);
}

/* The lock goes last: as long as it is there, it says that somebody is at it. */
void
spool_remove_session(int spool_fd, const char *key, int dir_fd)
{
    spool_each_file(dir_fd, spool_remove_file, &dir_fd);
    (void) unlinkat(dir_fd, SESSION_LOCK_NAME, 0);
    (void) unlinkat(spool_fd, key, AT_REMOVEDIR);
}

int
spool_open(const Config *cfg, int *out, Error *err)
{
    const char *spool = cfg->restore.spool;
    AUTO(fd_close) int fd = -1;
    struct stat st;

    if (mkdir(spool, 0700) < 0 && errno != EEXIST)
        return error_sys(err, "could not create spool \"%s\"", spool);
    fd = open(spool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_sys(err, "could not open spool \"%s\"", spool);
    if (fstat(fd, &st) < 0)
        return error_sys(err, "could not stat spool \"%s\"", spool);
    if ((st.st_uid != geteuid() && st.st_uid != 0) ||
        ((st.st_mode & 022) != 0 && (st.st_mode & S_ISVTX) == 0))
    {
        (void) error_set(
            err, ERROR_DENIED, "spool \"%s\" belongs to another user, or others can write to it",
            spool);
        return error_hint(err, "It should belong to the server's user and have mode 0700.");
    }
    *out = fd;
    fd = -1;
    return 0;
}

int
spool_open_session(const Config *cfg, int spool_fd, const char *key, int *out, Error *err)
{
    char path[SESSION_PATH_MAX];

    if (session_path(cfg, key, path, err) < 0)
        return -1;
    if (mkdirat(spool_fd, key, 0700) < 0 && errno != EEXIST)
        return error_sys(err, "could not create \"%s\"", path);
    return session_open_dir(path, out, err);
}

bool
spool_lock_is_free(int dir_fd)
{
    AUTO(fd_close) int fd = openat(dir_fd, SESSION_LOCK_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

    return fd < 0 || flock(fd, LOCK_SH | LOCK_NB) == 0;
}

int
spool_claim(int spool_fd, const char *key, int dir_fd, int *out, bool *again, Error *err)
{
    AUTO(fd_close)
    int fd = openat(dir_fd, SESSION_LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    char path[SESSION_KEY_BYTES + sizeof SESSION_LOCK_NAME + 1];
    struct stat here;
    struct stat named;

    *again = false;
    *out = -1;
    if (fd < 0)
    {
        *again = errno == ENOENT;
        return error_sys(err, "could not create a lock file in the spool");
    }
    /* a walfetch-direct that has a look may hold it for an instant */
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++)
    {
        if (errno != EWOULDBLOCK)
            return error_sys(err, "could not lock a file in the spool");
        if (i == SPOOL_LOCK_TRIES)
            return 0;
        clock_sleep_ms(SPOOL_LOCK_PAUSE_MS);
    }
    (void) snprintf(path, sizeof path, "%s/%s", key, SESSION_LOCK_NAME);
    if (fstat(fd, &here) < 0 || fstatat(spool_fd, path, &named, AT_SYMLINK_NOFOLLOW) < 0 ||
        here.st_ino != named.st_ino || here.st_dev != named.st_dev)
    {
        *again = true;
        return error_set(err, ERROR_IO, "the session's directory was removed");
    }
    *out = fd;
    fd = -1;
    return 0;
}

typedef struct SpoolSweep
{
    const Config *cfg;
    int spool_fd;
    const char *own_key;
} SpoolSweep;

static void
spool_sweep_entry(void *ctx, const char *key)
{
    const SpoolSweep *sweep = ctx;
    AUTO(fd_close) int dir_fd = -1;
    AUTO(fd_close) int lock_fd = -1;
    char path[SESSION_PATH_MAX];
    Error unused;
    struct stat st;
    bool again;

    if (strlen(key) != SESSION_KEY_BYTES - 1 ||
        strspn(key, "0123456789abcdef") != SESSION_KEY_BYTES - 1 ||
        strcmp(key, sweep->own_key) == 0 || session_path(sweep->cfg, key, path, &unused) < 0 ||
        session_open_dir(path, &dir_fd, &unused) < 0)
        return;
    /* one without a lock may be about to get it */
    if (faccessat(dir_fd, SESSION_LOCK_NAME, F_OK, 0) < 0 &&
        (fstat(dir_fd, &st) < 0 || time(NULL) - st.st_mtime < SPOOL_STALE_AGE_S))
        return;
    if (spool_claim(sweep->spool_fd, key, dir_fd, &lock_fd, &again, &unused) == 0 && lock_fd >= 0)
        spool_remove_session(sweep->spool_fd, key, dir_fd);
}

void
spool_sweep(const Config *cfg, int spool_fd, const char *own_key)
{
    SpoolSweep sweep = {.cfg = cfg, .spool_fd = spool_fd, .own_key = own_key};

    spool_each_file(spool_fd, spool_sweep_entry, &sweep);
}
