/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Files as we use them; see fs.h.
 */
#include "common/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void
fd_close(int *fd)
{
    int saved = errno;

    if (*fd >= 0)
        (void) close(*fd);
    *fd = -1;
    errno = saved;
}

void
free_text(char **p)
{
    free(*p);
    *p = NULL;
}

void *
fs_alloc_io(size_t bytes)
{
    enum
    {
        PAGE = 4096
    };

    return aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
}

int
fs_write_all(int fd, const void *buf, size_t len, const char *what, Error *err)
{
    const char *p = buf;

    while (len > 0)
    {
        ssize_t n = write(fd, p, MIN(len, (size_t) SSIZE_MAX));

        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = ENOSPC; /* no progress and no errno: the disk is full */
        if (n <= 0)
            return error_sys(err, "could not write \"%s\"", what);
        p += n;
        len -= (size_t) n;
    }
    return 0;
}

/* With at < 0 from the file's own position. */
static int
fs_read_loop(int fd, void *buf, size_t len, off_t at, size_t *got, const char *what, Error *err)
{
    char *p = buf;
    size_t have = 0;

    while (have < len)
    {
        size_t want = MIN(len - have, (size_t) SSIZE_MAX);
        ssize_t n =
            at < 0 ? read(fd, p + have, want) : pread(fd, p + have, want, at + (off_t) have);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_sys(err, "could not read \"%s\"", what);
        if (n == 0)
            break;
        have += (size_t) n;
    }
    *got = have;
    return 0;
}

int
fs_read_full(int fd, void *buf, size_t len, size_t *got, const char *what, Error *err)
{
    return fs_read_loop(fd, buf, len, -1, got, what, err);
}

int
fs_pread_full(int fd, void *buf, size_t len, off_t at, size_t *got, const char *what, Error *err)
{
    assert(at >= 0);
    return fs_read_loop(fd, buf, len, at, got, what, err);
}

static int
fs_read_opened(int fd, const char *path, size_t max_bytes, char **out, size_t *len, Error *err)
{
    AUTO(free_text) char *text = NULL;
    struct stat st;
    size_t cap, have = 0;

    assert(max_bytes < SIZE_MAX / 4);
    if (fstat(fd, &st) < 0)
        return error_sys(err, "could not stat \"%s\"", path);

    /*
     * A regular file tells its size, so that one read is enough; the byte beyond it finds the end,
     * or a file that has grown. Pipes and /proc do not tell, and the buffer grows as needed.
     */
    cap = S_ISREG(st.st_mode) && st.st_size > 0 ? (size_t) st.st_size : 4096;
    cap = MIN(cap, max_bytes) + 1;
    for (;;)
    {
        size_t got;
        char *bigger = realloc(text, cap + 1);

        if (bigger == NULL)
        {
            (void) error_nomem(err);
            return error_wrap(err, "could not read \"%s\"", path);
        }
        text = bigger;
        if (fs_read_full(fd, text + have, cap - have, &got, path, err) < 0)
            return -1;
        have += got;
        if (have < cap)
            break;
        if (have > max_bytes)
            return error_set(
                err, ERROR_CORRUPT, "could not read \"%s\": larger than the limit of %zu bytes",
                path, max_bytes);
        cap = MIN(cap * 2, max_bytes + 1);
    }
    text[have] = '\0';
    *len = have;
    *out = steal(text);
    return 0;
}

int
fs_read_file(const char *path, size_t max_bytes, char **out, size_t *len, Error *err)
{
    AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return error_sys(err, "could not open \"%s\"", path);
    return fs_read_opened(fd, path, max_bytes, out, len, err);
}

int
fs_read_secret_file(const char *path, size_t max_bytes, char **out, size_t *len, Error *err)
{
    AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return error_sys(err, "could not open \"%s\"", path);
    if (fstat(fd, &st) < 0)
        return error_sys(err, "could not stat \"%s\"", path);
    if ((st.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    {
        (void) error_set(
            err, ERROR_DENIED, "group or others have access to \"%s\" (mode %04o)", path,
            st.st_mode & 07777u);
        return error_hint(err, "Make it private: chmod 600 \"%s\".", path);
    }
    return fs_read_opened(fd, path, max_bytes, out, len, err);
}

int
fs_sync_dir(const char *path, Error *err)
{
    AUTO(fd_close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return error_sys(err, "could not open directory \"%s\"", path);
    /* some file systems do not know fsync of a directory; nothing more can be done there */
    if (fsync(fd) < 0 && errno != EBADF && errno != EINVAL)
        return error_sys(err, "could not fsync directory \"%s\"", path);
    return 0;
}

/* The directory that path is an entry of, in memory of its own: "." for a bare name. */
static char *
fs_copy_parent(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (slash == NULL)
        return strdup(".");
    while (slash > path && slash[-1] == '/')
        slash--;
    return slash == path ? strdup("/") : strndup(path, (size_t) (slash - path));
}

static int
fs_sync_parent(const char *path, Error *err)
{
    AUTO(free_text) char *parent = fs_copy_parent(path);

    if (parent == NULL)
        return error_nomem(err);
    return fs_sync_dir(parent, err);
}

static int
fs_make_dir(const char *path, mode_t mode, bool durable, Error *err)
{
    struct stat st;
    int saved;

    if (mkdir(path, mode) == 0)
        return durable ? fs_sync_parent(path, err) : 0;
    saved = errno;
    if (stat(path, &st) == 0)
    {
        if (S_ISDIR(st.st_mode))
            return 0;
        saved = ENOTDIR;
    }
    errno = saved;
    return error_sys(err, "could not create directory \"%s\"", path);
}

int
fs_make_dirs(const char *path, mode_t mode, bool durable, Error *err)
{
    AUTO(free_text) char *prefix = strdup(path);

    if (prefix == NULL)
        return error_nomem(err);
    for (char *p = prefix; *p != '\0'; p++)
    {
        /* at each slash that ends a name: the directories above the last one */
        if (*p != '/' || p == prefix || p[-1] == '/')
            continue;
        *p = '\0';
        if (fs_make_dir(prefix, mode, durable, err) < 0)
            return -1;
        *p = '/';
    }
    return fs_make_dir(prefix, mode, durable, err);
}

/* Copies src_fd from offset 0 to its end into fd, inside the kernel where that is possible. */
static int
fs_copy_bytes(int src_fd, int fd, const char *dest, Error *err)
{
    char buf[65536];
    off_t at = 0;

    /*
     * Whatever stops copy_file_range (other file systems, an old kernel, an end that it merely
     * believes in), the plain loop goes on at the same offset and reports what is really wrong.
     */
    for (;;)
    {
        ssize_t n = copy_file_range(src_fd, &at, fd, NULL, 1 << 30, 0);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
    }
    for (;;)
    {
        size_t got;

        if (fs_pread_full(src_fd, buf, sizeof buf, at, &got, "source file", err) < 0)
            return error_wrap(err, "could not copy to \"%s\"", dest);
        if (got == 0)
            return 0;
        if (fs_write_all(fd, buf, got, dest, err) < 0)
            return -1;
        at += (off_t) got;
    }
}

static int
fs_fill(int src_fd, int fd, const char *dest, bool durable, Error *err)
{
    if (fs_copy_bytes(src_fd, fd, dest, err) < 0)
        return -1;
    if (durable && fsync(fd) < 0)
        return error_sys(err, "could not fsync \"%s\"", dest);
    return 0;
}

/* Gives the complete file at tmp its name; the directory entry's fsync is the caller's. */
static int
fs_rename_tmp(const char *tmp, const char *dest, Error *err)
{
    if (rename(tmp, dest) == 0)
        return 0;
    (void) error_sys(err, "could not rename \"%s\" to \"%s\"", tmp, dest);
    (void) unlink(tmp);
    return -1;
}

/* Closes where that may fail; the scope's own release has nothing left to do. */
static int
fs_close(int *fd)
{
    int rc = close(*fd);

    *fd = -1;
    return rc;
}

/* The way of file systems without nameless files. */
static int
fs_place_named(int src_fd, const char *tmp, const char *dest, mode_t mode, bool durable, Error *err)
{
    AUTO(fd_close) int fd = -1;

    /* left by a process that had our id and was killed */
    if (unlink(tmp) < 0 && errno != ENOENT)
        return error_sys(err, "could not remove \"%s\"", tmp);
    fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0)
        return error_sys(err, "could not create \"%s\"", tmp);
    if (fs_fill(src_fd, fd, tmp, durable, err) < 0)
    {
        (void) unlink(tmp);
        return -1;
    }

    /* before the rename: a network file system may tell only now that the disk is full */
    if (fs_close(&fd) < 0)
    {
        (void) error_sys(err, "could not close \"%s\"", tmp);
        (void) unlink(tmp);
        return -1;
    }
    return fs_rename_tmp(tmp, dest, err);
}

/*
 * Names the nameless file fd. linkat cannot replace, so an existing dest takes a detour over tmp.
 * Sets *unsupported, without error, when it cannot be named (no /proc, a file system without
 * links): the other way needs less, and reports what is really wrong.
 */
static int
fs_link_nameless(int fd, const char *tmp, const char *dest, bool *unsupported, Error *err)
{
    char proc[64];

    (void) snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, proc, AT_FDCWD, dest, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    if (errno != EEXIST)
    {
        *unsupported = true;
        return 0;
    }
    if (unlink(tmp) < 0 && errno != ENOENT)
        return error_sys(err, "could not remove \"%s\"", tmp);
    if (linkat(AT_FDCWD, proc, AT_FDCWD, tmp, AT_SYMLINK_FOLLOW) < 0)
        return error_sys(err, "could not link \"%s\"", tmp);
    return fs_rename_tmp(tmp, dest, err);
}

/*
 * What a crash may leave behind: nothing, when dest did not exist and the file system knows
 * nameless files; else "<dest>.tmp.<pid>", which the next process with this id removes, and which a
 * person may remove at any time. dest itself is always absent, old or complete.
 */
int
fs_place_copy(int src_fd, const char *dest, mode_t mode, bool durable, Error *err)
{
    AUTO(free_text) char *parent = fs_copy_parent(dest);
    AUTO(free_text) char *tmp = NULL;
    AUTO(fd_close) int fd = -1;
    bool unsupported = false;

    if (parent == NULL || asprintf(&tmp, "%s.tmp.%d", dest, (int) getpid()) < 0)
    {
        tmp = NULL; /* asprintf leaves it undefined */
        return error_nomem(err);
    }

    fd = open(parent, O_TMPFILE | O_WRONLY | O_CLOEXEC, mode);
    if (fd >= 0)
    {
        if (fs_fill(src_fd, fd, dest, durable, err) < 0 ||
            fs_link_nameless(fd, tmp, dest, &unsupported, err) < 0)
            return -1;
    }
    else if (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)
        unsupported = true; /* EISDIR: a kernel that does not know the flag */
    else
        return error_sys(err, "could not create a file in \"%s\"", parent);

    if (unsupported && fs_place_named(src_fd, tmp, dest, mode, durable, err) < 0)
        return -1;
    return durable ? fs_sync_dir(parent, err) : 0;
}

/* ---- files without a name ---- */

const char *
fs_scratch_dir(const char *spool)
{
    const char *tmp = getenv("TMPDIR");

    if (spool != NULL && spool[0] != '\0' && access(spool, W_OK | X_OK) == 0)
        return spool;
    return tmp != NULL && tmp[0] != '\0' ? tmp : "/tmp";
}

int
fs_open_nameless(const char *dir, Error *err)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    AUTO(free_text) char *name = NULL;

    if (fd >= 0)
        return fd;
    /* a file system that has no nameless files */
    if (asprintf(&name, "%s/walstream.XXXXXX", dir) < 0)
    {
        name = NULL; /* asprintf leaves it undefined */
        return error_nomem(err);
    }
    fd = mkostemp(name, O_CLOEXEC);
    if (fd >= 0 && unlink(name) == 0)
        return fd;
    (void) error_sys(err, "could not create a temporary file in \"%s\"", dir);
    fd_close(&fd);
    return -1;
}
