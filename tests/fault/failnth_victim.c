/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Calls one function three times in a folder of its own and tells what came of it: "ok" or the name
 * of errno, a line each. For the test of failnth itself, so it tells by the bare system call.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char text[16] = "0123456789";
static int file, sockets[2];
static char name[16]; /* another at each call */

static struct iovec *
part(void)
{
    static struct iovec iov = {.iov_base = text, .iov_len = 1};

    return &iov;
}

/* The size is not known to the compiler: so it calls the checking variants, where there are some.
 */
static size_t
one(void)
{
    static volatile size_t size = 1;

    return size;
}

static long
keep(void *p)
{
    free(p);
    return p != NULL ? 0 : -1;
}

static long
keep_fd(int fd)
{
    /* as a system call, so that closes are counted alone */
    return fd < 0 ? -1 : syscall(SYS_close, fd);
}

static long
call(const char *function)
{
    struct statx sx;
    struct stat sb;
    char buf[4];
    int flags = O_RDONLY | O_CREAT;
    void *(*volatile real)(void *, size_t) = realloc; /* of NULL, it would become a malloc */

#define IS(f) (strcmp(function, #f) == 0)
    if (IS(write))
        return write(file, text, 1);
    if (IS(pwrite))
        return pwrite(file, text, 1, 5);
    if (IS(writev))
        return writev(file, part(), 1);
    if (IS(read))
        return read(file, buf, one());
    if (IS(pread))
        return pread(file, buf, one(), 0);
    if (IS(readv))
        return readv(file, part(), 1);
    if (IS(fsync))
        return fsync(file);
    if (IS(fdatasync))
        return fdatasync(file);
    if (IS(ftruncate))
        return ftruncate(file, 5);
    if (IS(close))
        return close(dup(file));
    if (IS(open))
        return keep_fd(open(name, flags, 0600));
    if (IS(openat))
        return keep_fd(openat(AT_FDCWD, name, flags, 0600));
    if (IS(fstat))
        return fstat(file, &sb);
    if (IS(fstatat))
        return fstatat(AT_FDCWD, "file", &sb, 0);
    if (IS(statx))
        return statx(AT_FDCWD, "file", 0, STATX_NLINK, &sx);
    if (IS(link))
        return link("file", name);
    if (IS(linkat))
        return linkat(AT_FDCWD, "file", AT_FDCWD, name, 0);
    if (IS(rename))
        return rename("file", "file");
    if (IS(renameat))
        return renameat(AT_FDCWD, "file", AT_FDCWD, "file");
    if (IS(renameat2))
        return renameat2(AT_FDCWD, "file", AT_FDCWD, "file", 0);
    if (IS(unlink))
        return unlink(name) < 0 && errno == ENOENT ? 0 : -1;
    if (IS(unlinkat))
        return unlinkat(AT_FDCWD, name, 0) < 0 && errno == ENOENT ? 0 : -1;
    if (IS(mkdir))
        return mkdir(name, 0700);
    if (IS(mkdirat))
        return mkdirat(AT_FDCWD, name, 0700);
    if (IS(rmdir))
        return rmdir(name) < 0 && errno == ENOENT ? 0 : -1;
    if (IS(connect))
        return connect(sockets[0], NULL, 0) < 0 && errno == EINVAL ? 0 : -1;
    if (IS(send))
        return send(sockets[0], text, 1, 0);
    if (IS(recv))
        return recv(sockets[1], buf, one(), 0);
    if (IS(malloc))
        return keep(malloc(one()));
    if (IS(calloc))
        return keep(calloc(one(), one()));
    if (IS(realloc))
        return keep(real(NULL, one()));
#undef IS
    errno = ENOSYS;
    return -1;
}

static void
tell(const char *line)
{
    (void) syscall(SYS_write, STDOUT_FILENO, line, strlen(line));
}

int
main(int argc, char **argv)
{
    if (argc != 3 || chdir(argv[1]) < 0)
        return 2;
    file = (int) syscall(SYS_openat, AT_FDCWD, "file", O_RDWR | O_CREAT, 0600);
    if (file < 0 || syscall(SYS_pwrite64, file, text, sizeof text, 0) < 0 ||
        socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) < 0 ||
        syscall(SYS_write, sockets[0], text, sizeof text) < 0)
        return 3;
    for (int i = 1; i <= 3; i++)
    {
        char line[64];

        name[0] = (char) ('0' + i);
        name[1] = '\0';
        errno = 0;

        long rc = call(argv[2]);
        int e = errno;

        (void) snprintf(line, sizeof line, "%s\n", rc >= 0 ? "ok" : strerrorname_np(e));
        tell(line);
    }
    return 0;
}
