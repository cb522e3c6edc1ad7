/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Files: short counts, whole reads, directories, and a copy that appears in one step. The system
 * calls go through functions of this program's, which can behave as a worse system would.
 */
#undef _FORTIFY_SOURCE /* its inline functions would stand in the way of ours */

#include "common/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tap.h"
#include "tempdir.h"

/* ---- system calls that fail on demand ---- */

static struct
{
    int tmpfile_errno;  /* open with O_TMPFILE fails so */
    int linkat_errno;   /* linkat fails so */
    int fsync_errno;    /* fsync fails so */
    int rename_errno;   /* rename fails so */
    int copy_errno;     /* copy_file_range fails so, */
    bool copy_half;     /* or only once copies, and then sees an end */
    bool short_counts;  /* read, pread and write: EINTR, then a byte, and again */
    ssize_t write_room; /* bytes that still fit; -1: no limit */
    int fsyncs, tmpfiles;
    bool interrupted;
} sys = {.write_room = -1};

static void
sys_reset(void)
{
    memset(&sys, 0, sizeof sys);
    sys.write_room = -1;
}

static bool
sys_interrupts(size_t *len)
{
    if (!sys.short_counts)
        return false;
    *len = MIN(*len, 1);
    sys.interrupted = !sys.interrupted;
    if (sys.interrupted)
        errno = EINTR;
    return sys.interrupted;
}

int
open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    va_list ap;

    va_start(ap, flags);
    if ((flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE)
        mode = va_arg(ap, mode_t);
    va_end(ap);
    if ((flags & O_TMPFILE) == O_TMPFILE)
    {
        if (sys.tmpfile_errno != 0)
        {
            errno = sys.tmpfile_errno;
            return -1;
        }
        sys.tmpfiles++;
    }
    return (int) syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int
linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    if (sys.linkat_errno != 0)
    {
        errno = sys.linkat_errno;
        return -1;
    }
    return (int) syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
}

int
rename(const char *from, const char *to)
{
    if (sys.rename_errno != 0)
    {
        errno = sys.rename_errno;
        return -1;
    }
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int
fsync(int fd)
{
    sys.fsyncs++;
    if (sys.fsync_errno != 0)
    {
        errno = sys.fsync_errno;
        return -1;
    }
    return (int) syscall(SYS_fsync, fd);
}

ssize_t
copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t len, unsigned flags)
{
    if (sys.copy_errno != 0)
    {
        errno = sys.copy_errno;
        return -1;
    }
    if (sys.copy_half)
    {
        sys.copy_errno = EIO;
        len = 1000;
    }
    return syscall(SYS_copy_file_range, in, in_at, out, out_at, len, flags);
}

ssize_t
read(int fd, void *buf, size_t len)
{
    return sys_interrupts(&len) ? -1 : syscall(SYS_read, fd, buf, len);
}

ssize_t
pread(int fd, void *buf, size_t len, off_t at)
{
    return sys_interrupts(&len) ? -1 : syscall(SYS_pread64, fd, buf, len, at);
}

ssize_t
write(int fd, const void *buf, size_t len)
{
    if (sys_interrupts(&len))
        return -1;
    if (sys.write_room >= 0)
    {
        if (sys.write_room == 0)
        {
            errno = ENOSPC;
            return -1;
        }
        len = MIN(len, (size_t) sys.write_room);
        sys.write_room -= (ssize_t) len;
    }
    return syscall(SYS_write, fd, buf, len);
}

/* ---- helpers ---- */

static bool
file_holds(const char *path, const void *want, size_t want_len)
{
    AUTO(free_text) char *got = NULL;
    size_t len;
    Error err;

    if (fs_read_file(path, 1 << 24, &got, &len, &err) < 0)
        return false;
    return len == want_len && memcmp(got, want, len) == 0;
}

static int
count_entries(const char *path)
{
    DIR *dir = opendir(path);
    int count = 0;

    if (dir == NULL)
        return -1;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
        count += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    (void) closedir(dir);
    return count;
}

static int
open_descriptors(void)
{
    return count_entries("/proc/self/fd");
}

/* ---- tests ---- */

static void
test_read_write(void)
{
    char data[300], back[400];
    Error err;
    size_t got;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char) i;
    for (int worse = 0; worse < 2; worse++)
    {
        const char *how = worse ? "with short counts and EINTR" : "plainly";
        const char *path = tempdir_name("rw");
        AUTO(fd_close) int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        sys_reset();
        sys.short_counts = worse == 1;
        ok(fs_write_all(fd, data, sizeof data, path, &err) == 0, "written %s", how);
        ok(fs_pread_full(fd, back, sizeof back, 0, &got, path, &err) == 0 && got == sizeof data &&
               memcmp(back, data, got) == 0,
           "pread to the end %s", how);
        ok(fs_pread_full(fd, back, 10, 290, &got, path, &err) == 0 && got == 10 &&
               memcmp(back, data + 290, 10) == 0,
           "pread at an offset %s", how);
        ok(fs_pread_full(fd, back, 10, 1000, &got, path, &err) == 0 && got == 0,
           "pread behind the end %s", how);
        (void) lseek(fd, 5, SEEK_SET);
        ok(fs_read_full(fd, back, 20, &got, path, &err) == 0 && got == 20 &&
               memcmp(back, data + 5, 20) == 0,
           "read from the position %s", how);
        ok(fs_read_full(fd, back, 0, &got, path, &err) == 0 && got == 0, "read nothing %s", how);
    }
    sys_reset();

    AUTO(fd_close) int full = open(tempdir_name("full"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    sys.write_room = 100;
    ok(fs_write_all(full, data, sizeof data, "full", &err) == -1 && err.kind == ERROR_IO &&
           err.sys_errno == ENOSPC && strstr(err.msg, "\"full\"") != NULL,
       "a full disk: %s", err.msg);
    sys_reset();
    ok(fs_write_all(-1, data, 1, "nothing", &err) == -1 && err.sys_errno == EBADF,
       "write without a descriptor");
    ok(fs_read_full(-1, back, 1, &got, "nothing", &err) == -1 && err.sys_errno == EBADF,
       "read without a descriptor");
}

static void
test_read_file(void)
{
    static const struct
    {
        const char *label;
        size_t size, max;
        bool good;
    } cases[] = {
        {"empty", 0, 0, true},
        {"one byte, none allowed", 1, 0, false},
        {"exactly the limit", 1000, 1000, true},
        {"one byte more than the limit", 1001, 1000, false},
        {"far more than the limit", 100000, 1000, false},
        {"a page", 4096, 1000000, true},
        {"large", 500000, 1000000, true},
    };
    static char data[500001];
    Error err;
    size_t len = 0;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char) (i * 7);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        for (int worse = 0; worse < 2; worse++)
        {
            AUTO(free_text) char *text = NULL;
            const char *path = tempdir_write("whole", data, cases[i].size);

            sys.short_counts = worse == 1;

            int rc = fs_read_file(path, cases[i].max, &text, &len, &err);

            sys_reset();
            if (cases[i].good)
                ok(rc == 0 && len == cases[i].size && memcmp(text, data, len) == 0 &&
                       text[len] == '\0',
                   "whole file, %s", cases[i].label);
            else
                ok(rc == -1 && err.kind == ERROR_CORRUPT && text == NULL, "whole file, %s: %s",
                   cases[i].label, err.msg);
        }
    }

    AUTO(free_text) char *text = NULL;

    ok(fs_read_file("/proc/self/status", 100000, &text, &len, &err) == 0 && len > 100,
       "a file that does not tell its size");
    free_text(&text);
    ok(text == NULL, "free_text leaves NULL");
    ok(fs_read_file("/proc/self/status", 10, &text, &len, &err) == -1 && err.kind == ERROR_CORRUPT,
       "such a file, too large");
    ok(fs_read_file(tempdir_name("none"), 10, &text, &len, &err) == -1 &&
           err.kind == ERROR_NOT_FOUND && strstr(err.msg, "none") != NULL,
       "no such file: %s", err.msg);
    ok(fs_read_file(tempdir_path, 10, &text, &len, &err) == -1 && err.sys_errno == EISDIR,
       "a directory: %s", err.msg);
}

static void
test_directories(void)
{
    struct stat st;
    Error err;

    sys_reset();
    ok(fs_make_dirs(tempdir_name("a/b//c/"), 0750, true, &err) == 0 &&
           stat(tempdir_name("a/b/c"), &st) == 0 && S_ISDIR(st.st_mode),
       "missing parents are made");
    ok(sys.fsyncs == 3, "each new entry's parent is synced (%d)", sys.fsyncs);
    ok(fs_make_dirs(tempdir_name("a/b/c"), 0750, true, &err) == 0 && sys.fsyncs == 3,
       "what is there is left alone");
    ok(fs_make_dirs(tempdir_name("a/x"), 0750, false, &err) == 0 && sys.fsyncs == 3,
       "not durable: no sync");
    ok(fs_make_dirs("/", 0750, true, &err) == 0, "the root");

    (void) tempdir_write("file", "x", 1);
    ok(fs_make_dirs(tempdir_name("file"), 0750, true, &err) == -1 && err.sys_errno == ENOTDIR,
       "a file in the place: %s", err.msg);
    ok(fs_make_dirs(tempdir_name("file/sub"), 0750, true, &err) == -1 && err.sys_errno == ENOTDIR,
       "a file on the way: %s", err.msg);

    ok(symlink("a/b", tempdir_name("link")) == 0 &&
           fs_make_dirs(tempdir_name("link/new"), 0750, true, &err) == 0 &&
           stat(tempdir_name("a/b/new"), &st) == 0,
       "through a symbolic link");
    ok(fs_make_dirs("", 0750, true, &err) == -1 && err.kind == ERROR_NOT_FOUND, "an empty path");

    ok(fs_sync_dir(tempdir_name("a"), &err) == 0, "sync of a directory");
    ok(fs_sync_dir(tempdir_name("missing"), &err) == -1 && err.kind == ERROR_NOT_FOUND,
       "sync of a missing directory: %s", err.msg);
    sys.fsync_errno = EIO;
    ok(fs_sync_dir(tempdir_name("a"), &err) == -1 && err.kind == ERROR_IO, "a failing sync: %s",
       err.msg);
    ok(fs_make_dirs(tempdir_name("a/y"), 0750, true, &err) == -1 && err.kind == ERROR_IO,
       "a failing sync of a parent");
    sys.fsync_errno = EINVAL;
    ok(fs_sync_dir(tempdir_name("a"), &err) == 0, "a file system without sync of directories");
    sys_reset();
}

/* The ways in which fs_place_copy can go, all with the same outcome. */
static void
test_place_copy(void)
{
    static const struct
    {
        const char *label;
        int tmpfile_errno, linkat_errno, copy_errno;
        bool copy_half, short_counts;
    } ways[] = {
        {.label = "nameless file"},
        {.label = "no nameless files", .tmpfile_errno = EOPNOTSUPP},
        {.label = "a kernel without nameless files", .tmpfile_errno = EISDIR},
        {.label = "no /proc", .linkat_errno = ENOENT},
        {.label = "no links", .linkat_errno = EPERM},
        {.label = "no copy in the kernel", .copy_errno = EXDEV},
        {.label = "a copy in the kernel that stops early", .copy_half = true},
        {.label = "short counts", .copy_errno = ENOSYS, .short_counts = true},
    };
    static char data[200000];
    const char *src = NULL;

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (char) (i * 31 >> 3);
    src = tempdir_write("src", data, sizeof data);
    (void) mkdir(tempdir_name("place"), 0700);

    for (size_t i = 0; i < ARRAY_COUNT(ways); i++)
    {
        for (int durable = 0; durable < 2; durable++)
        {
            AUTO(fd_close) int fd = open(src, O_RDONLY | O_CLOEXEC);
            const char *dest = tempdir_name("place/dest");
            struct stat st;
            Error err = {.kind = ERROR_NONE};
            int fds = open_descriptors();

            sys_reset();
            sys.tmpfile_errno = ways[i].tmpfile_errno;
            sys.linkat_errno = ways[i].linkat_errno;
            sys.copy_errno = ways[i].copy_errno;
            sys.copy_half = ways[i].copy_half;
            sys.short_counts = ways[i].short_counts;
            (void) unlink(dest);
            (void) lseek(fd, 77, SEEK_SET);

            int rc = fs_place_copy(fd, dest, 0600, durable == 1, &err);
            int fsyncs = sys.fsyncs;

            sys.short_counts = false;
            ok(rc == 0 && file_holds(dest, data, sizeof data), "%s: new file %s", ways[i].label,
               rc < 0 ? err.msg : "");
            ok(stat(dest, &st) == 0 && (st.st_mode & 07777) == 0600 && st.st_nlink == 1,
               "%s: its mode", ways[i].label);
            ok(durable == 1 ? fsyncs >= 2 : fsyncs == 0, "%s: %d syncs", ways[i].label, fsyncs);

            (void) tempdir_write("place/dest", "old", 3);
            sys.copy_errno = ways[i].copy_errno;
            sys.short_counts = ways[i].short_counts;
            rc = fs_place_copy(fd, dest, 0600, durable == 1, &err);
            sys.short_counts = false;
            ok(rc == 0 && file_holds(dest, data, sizeof data), "%s: existing file replaced %s",
               ways[i].label, rc < 0 ? err.msg : "");
            ok(count_entries(tempdir_name("place")) == 1, "%s: nothing else is left",
               ways[i].label);
            ok(open_descriptors() == fds, "%s: no descriptor is left", ways[i].label);
        }
    }
    sys_reset();
}

/* After a failure the old file is there, whole, and nothing else. */
static void
test_place_copy_failures(void)
{
    static const struct
    {
        const char *label;
        int tmpfile_errno, linkat_errno, fsync_errno, rename_errno;
        ssize_t write_room;
        int want_errno;
    } cases[] = {
        {"disk full", 0, 0, 0, 0, 1000, ENOSPC},
        {"disk full, no nameless files", EOPNOTSUPP, 0, 0, 0, 1000, ENOSPC},
        {"sync fails", 0, 0, EIO, 0, -1, EIO},
        {"sync fails, no nameless files", EOPNOTSUPP, 0, EIO, 0, -1, EIO},
        {"rename fails, no links", 0, EPERM, 0, EROFS, -1, EROFS},
        {"rename fails", 0, 0, 0, EROFS, -1, EROFS},
        {"rename fails, no nameless files", EOPNOTSUPP, 0, 0, EROFS, -1, EROFS},
        {"no permission", EACCES, 0, 0, 0, -1, EACCES},
    };
    static char data[100000];
    const char *src = tempdir_write("src", data, sizeof data);

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(fd_close) int fd = open(src, O_RDONLY | O_CLOEXEC);
        const char *dest = tempdir_write("place/dest", "old", 3);
        Error err = {.kind = ERROR_NONE};
        int fds = open_descriptors();

        sys_reset();
        sys.copy_errno = EXDEV;
        sys.tmpfile_errno = cases[i].tmpfile_errno;
        sys.linkat_errno = cases[i].linkat_errno;
        sys.fsync_errno = cases[i].fsync_errno;
        sys.rename_errno = cases[i].rename_errno;
        sys.write_room = cases[i].write_room;

        int rc = fs_place_copy(fd, dest, 0600, true, &err);

        sys_reset();
        ok(rc == -1 && err.sys_errno == cases[i].want_errno, "%s: %s", cases[i].label, err.msg);
        ok(file_holds(dest, "old", 3) && count_entries(tempdir_name("place")) == 1,
           "%s: the old file and nothing else", cases[i].label);
        ok(open_descriptors() == fds, "%s: no descriptor is left", cases[i].label);
    }

    AUTO(fd_close) int fd = open(src, O_RDONLY | O_CLOEXEC);
    Error err;

    ok(fs_place_copy(fd, tempdir_name("nowhere/dest"), 0600, true, &err) == -1 &&
           err.kind == ERROR_NOT_FOUND && strstr(err.msg, "nowhere") != NULL,
       "no such directory: %s", err.msg);
    sys.tmpfile_errno = EOPNOTSUPP;
    ok(fs_place_copy(fd, tempdir_name("nowhere/dest"), 0600, true, &err) == -1 &&
           err.kind == ERROR_NOT_FOUND,
       "no such directory, no nameless files: %s", err.msg);
    sys_reset();
    (void) mkdir(tempdir_name("place/dir"), 0700);
    ok(fs_place_copy(fd, tempdir_name("place/dir"), 0600, true, &err) == -1 &&
           err.sys_errno == EISDIR && count_entries(tempdir_name("place")) == 2,
       "a directory in the place: %s", err.msg);
    ok(fs_place_copy(-1, tempdir_name("place/new"), 0600, true, &err) == -1 &&
           err.sys_errno == EBADF && count_entries(tempdir_name("place")) == 2,
       "no source: %s", err.msg);
}

/* A process with our id was killed between creation and rename. */
static void
test_place_copy_leftover(void)
{
    static const int tmpfile_errno[] = {0, EOPNOTSUPP};
    const char *src = tempdir_write("src", "new", 3);

    for (size_t i = 0; i < ARRAY_COUNT(tmpfile_errno); i++)
    {
        AUTO(fd_close) int fd = open(src, O_RDONLY | O_CLOEXEC);
        const char *dest = tempdir_write("place/dest", "old", 3);
        char left[64];
        Error err;

        (void) snprintf(left, sizeof left, "place/dest.tmp.%d", (int) getpid());
        (void) tempdir_write(left, "left over and longer", 20);
        sys.tmpfile_errno = tmpfile_errno[i];
        ok(fs_place_copy(fd, dest, 0600, true, &err) == 0 && file_holds(dest, "new", 3) &&
               access(tempdir_name(left), F_OK) < 0,
           "a left-over file is replaced, %s nameless files", i == 0 ? "with" : "without");
        sys_reset();
    }
}

/* A bare name is in the working directory. */
static void
test_place_copy_bare_name(void)
{
    AUTO(fd_close) int fd = open(tempdir_write("src", "bare", 4), O_RDONLY | O_CLOEXEC);
    Error err;

    ok(chdir(tempdir_path) == 0 && fs_place_copy(fd, "bare", 0600, true, &err) == 0 &&
           file_holds(tempdir_name("bare"), "bare", 4),
       "a name without a directory");
    (void) chdir("/");
}

static void
test_fd_close(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int before = open_descriptors();
    int none = -1;

    errno = E2BIG;
    fd_close(&fd);
    fd_close(&none);
    ok(fd == -1 && open_descriptors() == before - 1 && errno == E2BIG,
       "fd_close closes once and keeps errno");
}

static void
test_nameless(void)
{
    Error err = {0};
    char missing[512];
    int fd = fs_open_nameless(tempdir_path, &err);
    char got[4] = "";
    size_t len = 0;

    ok(fd >= 0 && fs_write_all(fd, "abc", 3, "it", &err) == 0 &&
           fs_pread_full(fd, got, 3, 0, &len, "it", &err) == 0 && strcmp(got, "abc") == 0,
       "a file without a name is written and read");
    fd_close(&fd);
    (void) snprintf(missing, sizeof missing, "%s/missing", tempdir_path);
    ok(fs_open_nameless(missing, &err) == -1 && err.kind == ERROR_NOT_FOUND &&
           strstr(err.msg, missing) != NULL,
       "folder that is missing: %s", err.msg);

    (void) setenv("TMPDIR", "/somewhere", 1);
    ok(strcmp(fs_scratch_dir(tempdir_path), tempdir_path) == 0, "the spool where it is there");
    ok(strcmp(fs_scratch_dir("/nowhere/at/all"), "/somewhere") == 0, "else TMPDIR");
    ok(strcmp(fs_scratch_dir(""), "/somewhere") == 0, "no spool");
    ok(strcmp(fs_scratch_dir(NULL), "/somewhere") == 0, "no spool known");
    (void) unsetenv("TMPDIR");
    ok(strcmp(fs_scratch_dir("/nowhere/at/all"), "/tmp") == 0, "else /tmp");
}

int
main(void)
{
    (void) umask(022);
    (void) tempdir_make();
    test_read_write();
    test_read_file();
    test_directories();
    test_place_copy();
    test_place_copy_failures();
    test_place_copy_leftover();
    test_place_copy_bare_name();
    test_fd_close();
    test_nameless();
    return done_testing();
}
