/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * An LD_PRELOAD library that makes the n-th call of chosen libc functions fail, or kills the
 * process there.
 *
 *   FAILNTH_FUNC        names of functions, joined by commas: see FAILNTH_FUNCTIONS; the calls of
 *                       all of them are counted together, from the beginning of main
 *   FAILNTH_N           the call that fails, from 1; 0 or missing: none, they are only counted
 *   FAILNTH_ERRNO       name or number of the error; default EIO, ENOMEM for memory
 *   FAILNTH_KEEP=1      fail from the n-th call on
 *   FAILNTH_LOST=1      make the call that fails, as if its answer were lost; not for memory
 *   FAILNTH_KILL        1: SIGKILL in place of the n-th call; 2: right after it
 *   FAILNTH_COUNT_FILE  at its end each process adds a line with the number of calls it made
 *   FAILNTH_PROGRAM     only in processes of this name; default: all
 *
 * A failing call is not made, but for close, which closes and then fails, as on Linux. A child
 * counts on where fork left its parent. Only calls from outside libc are seen: not those of stdio,
 * for example. It does not go with statically linked programs, nor with those of a sanitizer.
 *
 * Nothing here allocates: the memory functions are those of glibc under their other names, and what
 * dlsym needs is not counted.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FAILNTH_FUNCTIONS(X)                                                                       \
    X(write)                                                                                       \
    X(pwrite)                                                                                      \
    X(writev)                                                                                      \
    X(read)                                                                                        \
    X(pread)                                                                                       \
    X(readv)                                                                                       \
    X(fsync)                                                                                       \
    X(fdatasync)                                                                                   \
    X(ftruncate)                                                                                   \
    X(close)                                                                                       \
    X(open)                                                                                        \
    X(openat)                                                                                      \
    X(fstat)                                                                                       \
    X(fstatat)                                                                                     \
    X(statx)                                                                                       \
    X(link)                                                                                        \
    X(linkat)                                                                                      \
    X(rename)                                                                                      \
    X(renameat)                                                                                    \
    X(renameat2)                                                                                   \
    X(unlink)                                                                                      \
    X(unlinkat)                                                                                    \
    X(mkdir)                                                                                       \
    X(mkdirat)                                                                                     \
    X(rmdir)                                                                                       \
    X(connect)                                                                                     \
    X(send)                                                                                        \
    X(recv)                                                                                        \
    X(malloc)                                                                                      \
    X(calloc)                                                                                      \
    X(realloc)

#define FAILNTH_ENUM(name) FAILNTH_##name,
#define FAILNTH_NAME(name) #name,

typedef enum FailnthFunction
{
    FAILNTH_FUNCTIONS(FAILNTH_ENUM) FAILNTH_COUNT
} FailnthFunction;

static const char *const failnth_names[FAILNTH_COUNT] = {FAILNTH_FUNCTIONS(FAILNTH_NAME)};

/* Set once, before main. */
static struct
{
    bool chosen[FAILNTH_COUNT];
    uint64_t n;
    int error; /* 0: the function's default */
    uint64_t kill;
    bool keep;
    bool lost;
    char count_file[4096];
} plan;

static atomic_bool armed;
static atomic_uint_least64_t calls;

/* Calls from within this file are not counted; initial-exec: its first use allocates nothing. */
static __thread bool inside __attribute__((tls_model("initial-exec")));

/* ---- what to do ---- */

__attribute__((noreturn)) static void
failnth_end(int status)
{
    for (;;)
        (void) syscall(SYS_exit_group, status);
}

__attribute__((noreturn)) static void
failnth_die(void)
{
    for (;;)
        (void) syscall(SYS_kill, (pid_t) syscall(SYS_getpid), SIGKILL);
}

typedef enum Verdict
{
    VERDICT_PASS,
    VERDICT_FAIL, /* errno is set */
    VERDICT_KILL_AFTER
} Verdict;

/* Counts a call; does not come back when the process is killed before it. */
static Verdict
failnth_judge(FailnthFunction function)
{
    if (inside || !atomic_load(&armed) || !plan.chosen[function])
        return VERDICT_PASS;

    uint64_t n = atomic_fetch_add(&calls, 1) + 1;

    if (plan.n == 0 || n < plan.n || (n > plan.n && !plan.keep))
        return VERDICT_PASS;
    if (plan.kill == 1)
        failnth_die();
    if (plan.kill == 2)
        return VERDICT_KILL_AFTER;
    errno = plan.error != 0 ? plan.error : function >= FAILNTH_malloc ? ENOMEM : EIO;
    return VERDICT_FAIL;
}

static void
failnth_after(Verdict verdict)
{
    if (verdict == VERDICT_KILL_AFTER)
        failnth_die();
}

/* The function itself, behind ours; errno stays. */
static void *
failnth_find(const char *name, _Atomic(void *) *found)
{
    void *address = atomic_load(found);

    if (address == NULL)
    {
        bool was_inside = inside;
        int saved = errno;

        inside = true;
        address = dlsym(RTLD_NEXT, name);
        inside = was_inside;
        errno = saved;
        atomic_store(found, address);
    }
    if (address == NULL)
    {
        static const char text[] = "failnth: a function is not there\n";

        (void) syscall(SYS_write, STDERR_FILENO, text, sizeof text - 1);
        failnth_end(99);
    }
    return address;
}

/* ---- setup ---- */

static void
failnth_usage(const char *what, const char *value)
{
    char text[256];
    int len = snprintf(text, sizeof text, "failnth: bad %s \"%.100s\"\n", what, value);

    (void) syscall(SYS_write, STDERR_FILENO, text, (size_t) len);
    failnth_end(99);
}

static uint64_t
failnth_read_number(const char *name)
{
    const char *text = getenv(name);
    char *end;

    if (text == NULL || text[0] == '\0')
        return 0;

    unsigned long long number = strtoull(text, &end, 10);

    if (*end != '\0')
        failnth_usage(name, text);
    return number;
}

static int
failnth_read_errno(void)
{
    const char *text = getenv("FAILNTH_ERRNO");

    if (text == NULL || text[0] == '\0')
        return 0;
    for (int e = 1; e < 200; e++)
    {
        const char *name = strerrorname_np(e);

        if (name != NULL && strcmp(name, text) == 0)
            return e;
    }
    return (int) failnth_read_number("FAILNTH_ERRNO");
}

static void
failnth_read_functions(const char *text)
{
    for (const char *p = text; *p != '\0';)
    {
        size_t len = strcspn(p, ",");
        bool known = false;

        for (size_t i = 0; i < FAILNTH_COUNT; i++)
            if (strlen(failnth_names[i]) == len && strncmp(failnth_names[i], p, len) == 0)
                plan.chosen[i] = known = true;
        if (!known)
            failnth_usage("FAILNTH_FUNC", text);
        p += len + (p[len] == ',');
    }
}

static void
failnth_read_plan(void)
{
    const char *functions = getenv("FAILNTH_FUNC");
    const char *file = getenv("FAILNTH_COUNT_FILE");
    const char *program = getenv("FAILNTH_PROGRAM");

    if (functions == NULL ||
        (program != NULL && strcmp(program, program_invocation_short_name) != 0))
        return;
    failnth_read_functions(functions);
    plan.error = failnth_read_errno();
    plan.n = failnth_read_number("FAILNTH_N");
    plan.kill = failnth_read_number("FAILNTH_KILL");
    plan.keep = failnth_read_number("FAILNTH_KEEP") != 0;
    plan.lost = failnth_read_number("FAILNTH_LOST") != 0;
    if (file != NULL && strlen(file) < sizeof plan.count_file)
        memcpy(plan.count_file, file, strlen(file) + 1);
    atomic_store(&armed, true);
}

/* Tells the count, once. */
static void
failnth_report(void)
{
    char text[32];

    if (!atomic_exchange(&armed, false) || plan.count_file[0] == '\0')
        return;

    int len = snprintf(text, sizeof text, "%llu\n", (unsigned long long) atomic_load(&calls));
    int fd = (int) syscall(
        SYS_openat, AT_FDCWD, plan.count_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

    if (fd < 0)
        return;
    (void) syscall(SYS_write, fd, text, (size_t) len);
    (void) syscall(SYS_close, fd);
}

typedef int (*MainFunction)(int argc, char **argv, char **envp);
static MainFunction real_main;

static int
failnth_main(int argc, char **argv, char **envp)
{
    failnth_read_plan();

    int rc = real_main(argc, argv, envp);

    failnth_report();
    return rc;
}

int __libc_start_main(
    MainFunction program, int argc, char **argv, void (*init)(void), void (*fini)(void),
    void (*rtld_fini)(void), void *stack_end);

/* So that what libraries do before main is not counted. */
int
__libc_start_main(
    MainFunction program, int argc, char **argv, void (*init)(void), void (*fini)(void),
    void (*rtld_fini)(void), void *stack_end)
{
    static _Atomic(void *) found;
    void *address = failnth_find("__libc_start_main", &found);
    __typeof__(&__libc_start_main) real;

    memcpy(&real, &address, sizeof real);
    real_main = program;
    return real(failnth_main, argc, argv, init, fini, rtld_fini, stack_end);
}

void
exit(int status)
{
    static _Atomic(void *) found;
    void *address = failnth_find("exit", &found);
    void (*real)(int);

    failnth_report();
    memcpy(&real, &address, sizeof real);
    real(status);
    failnth_end(status);
}

void
_exit(int status)
{
    failnth_report();
    failnth_end(status);
}

/* ---- memory ---- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

void *
malloc(size_t size)
{
    Verdict verdict = failnth_judge(FAILNTH_malloc);
    void *result = verdict == VERDICT_FAIL ? NULL : __libc_malloc(size);

    failnth_after(verdict);
    return result;
}

void *
calloc(size_t count, size_t size)
{
    Verdict verdict = failnth_judge(FAILNTH_calloc);
    void *result = verdict == VERDICT_FAIL ? NULL : __libc_calloc(count, size);

    failnth_after(verdict);
    return result;
}

void *
realloc(void *old, size_t size)
{
    Verdict verdict = failnth_judge(FAILNTH_realloc);
    void *result = verdict == VERDICT_FAIL ? NULL : __libc_realloc(old, size);

    failnth_after(verdict);
    return result;
}

/* ---- files and network ---- */

/* Calls the function of that symbol with arguments, or fails in the name of function. */
#define FAILNTH_CALL(Result, symbol, function, parameters, arguments)                              \
    static _Atomic(void *) found;                                                                  \
    void *address = failnth_find(#symbol, &found);                                                 \
    Result(*real) parameters;                                                                      \
    Verdict verdict = failnth_judge(FAILNTH_##function);                                           \
    int fault = errno;                                                                             \
                                                                                                   \
    if (verdict == VERDICT_FAIL && !plan.lost)                                                     \
        return -1;                                                                                 \
    memcpy(&real, &address, sizeof real);                                                          \
                                                                                                   \
    Result result = real arguments;                                                                \
                                                                                                   \
    failnth_after(verdict);                                                                        \
    if (verdict == VERDICT_FAIL)                                                                   \
    {                                                                                              \
        errno = fault;                                                                             \
        return -1;                                                                                 \
    }                                                                                              \
    return result

/* One that takes what it is given. */
#define FAILNTH_WRAP(Result, symbol, function, parameters, arguments)                              \
    Result symbol parameters;                                                                      \
    Result symbol parameters                                                                       \
    {                                                                                              \
        FAILNTH_CALL(Result, symbol, function, parameters, arguments);                             \
    }

FAILNTH_WRAP(ssize_t, write, write, (int fd, const void *buf, size_t len), (fd, buf, len))
FAILNTH_WRAP(ssize_t, read, read, (int fd, void *buf, size_t len), (fd, buf, len))
FAILNTH_WRAP(
    ssize_t, pwrite, pwrite, (int fd, const void *buf, size_t len, off_t at), (fd, buf, len, at))
FAILNTH_WRAP(
    ssize_t, pwrite64, pwrite, (int fd, const void *buf, size_t len, off64_t at),
    (fd, buf, len, at))
FAILNTH_WRAP(ssize_t, pread, pread, (int fd, void *buf, size_t len, off_t at), (fd, buf, len, at))
FAILNTH_WRAP(
    ssize_t, pread64, pread, (int fd, void *buf, size_t len, off64_t at), (fd, buf, len, at))
FAILNTH_WRAP(
    ssize_t, writev, writev, (int fd, const struct iovec *iov, int count), (fd, iov, count))
FAILNTH_WRAP(ssize_t, readv, readv, (int fd, const struct iovec *iov, int count), (fd, iov, count))
FAILNTH_WRAP(int, fsync, fsync, (int fd), (fd))
FAILNTH_WRAP(int, fdatasync, fdatasync, (int fd), (fd))
FAILNTH_WRAP(int, ftruncate, ftruncate, (int fd, off_t len), (fd, len))
FAILNTH_WRAP(int, fstat, fstat, (int fd, struct stat *sb), (fd, sb))
FAILNTH_WRAP(
    int, fstatat, fstatat, (int dir, const char *path, struct stat *sb, int flags),
    (dir, path, sb, flags))
FAILNTH_WRAP(
    int, statx, statx, (int dir, const char *path, int flags, unsigned mask, struct statx *sx),
    (dir, path, flags, mask, sx))
FAILNTH_WRAP(int, link, link, (const char *from, const char *to), (from, to))
FAILNTH_WRAP(
    int, linkat, linkat, (int from_dir, const char *from, int to_dir, const char *to, int flags),
    (from_dir, from, to_dir, to, flags))
FAILNTH_WRAP(int, rename, rename, (const char *from, const char *to), (from, to))
FAILNTH_WRAP(
    int, renameat, renameat, (int from_dir, const char *from, int to_dir, const char *to),
    (from_dir, from, to_dir, to))
FAILNTH_WRAP(
    int, renameat2, renameat2,
    (int from_dir, const char *from, int to_dir, const char *to, unsigned flags),
    (from_dir, from, to_dir, to, flags))
FAILNTH_WRAP(int, unlink, unlink, (const char *path), (path))
FAILNTH_WRAP(int, unlinkat, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
FAILNTH_WRAP(int, mkdir, mkdir, (const char *path, mode_t mode), (path, mode))
FAILNTH_WRAP(int, mkdirat, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode))
FAILNTH_WRAP(int, rmdir, rmdir, (const char *path), (path))
FAILNTH_WRAP(
    ssize_t, send, send, (int fd, const void *buf, size_t len, int flags), (fd, buf, len, flags))
FAILNTH_WRAP(ssize_t, recv, recv, (int fd, void *buf, size_t len, int flags), (fd, buf, len, flags))

int
connect(int fd, const struct sockaddr *address_, socklen_t len)
{
    FAILNTH_CALL(
        int, connect, connect, (int, const struct sockaddr *, socklen_t), (fd, address_, len));
}

/* What the compiler calls in their place where it knows the size of the buffer (_FORTIFY_SOURCE).
 */
FAILNTH_WRAP(
    ssize_t, __read_chk, read, (int fd, void *buf, size_t len, size_t room), (fd, buf, len, room))
FAILNTH_WRAP(
    ssize_t, __pread_chk, pread, (int fd, void *buf, size_t len, off_t at, size_t room),
    (fd, buf, len, at, room))
FAILNTH_WRAP(
    ssize_t, __pread64_chk, pread, (int fd, void *buf, size_t len, off64_t at, size_t room),
    (fd, buf, len, at, room))
FAILNTH_WRAP(
    ssize_t, __recv_chk, recv, (int fd, void *buf, size_t len, size_t room, int flags),
    (fd, buf, len, room, flags))
FAILNTH_WRAP(int, __open_2, open, (const char *path, int flags), (path, flags))
FAILNTH_WRAP(int, __open64_2, open, (const char *path, int flags), (path, flags))
FAILNTH_WRAP(int, __openat_2, openat, (int dir, const char *path, int flags), (dir, path, flags))
FAILNTH_WRAP(int, __openat64_2, openat, (int dir, const char *path, int flags), (dir, path, flags))

/* The mode of a variadic open: there only when a file may be created. */
#define FAILNTH_MODE(flags, mode)                                                                  \
    mode_t mode = 0;                                                                               \
                                                                                                   \
    if (((flags) &O_CREAT) != 0 || ((flags) &O_TMPFILE) == O_TMPFILE)                              \
    {                                                                                              \
        va_list ap;                                                                                \
                                                                                                   \
        va_start(ap, flags);                                                                       \
        mode = va_arg(ap, mode_t);                                                                 \
        va_end(ap);                                                                                \
    }

int
open(const char *path, int flags, ...)
{
    FAILNTH_MODE(flags, mode)
    FAILNTH_CALL(int, open, open, (const char *, int, ...), (path, flags, mode));
}

int
open64(const char *path, int flags, ...)
{
    FAILNTH_MODE(flags, mode)
    FAILNTH_CALL(int, open64, open, (const char *, int, ...), (path, flags, mode));
}

int
openat(int dir, const char *path, int flags, ...)
{
    FAILNTH_MODE(flags, mode)
    FAILNTH_CALL(int, openat, openat, (int, const char *, int, ...), (dir, path, flags, mode));
}

int
openat64(int dir, const char *path, int flags, ...)
{
    FAILNTH_MODE(flags, mode)
    FAILNTH_CALL(int, openat64, openat, (int, const char *, int, ...), (dir, path, flags, mode));
}

int
close(int fd)
{
    Verdict verdict = failnth_judge(FAILNTH_close);
    int saved = errno;
    int rc = (int) syscall(SYS_close, fd); /* gone even if we say that it failed */

    if (verdict == VERDICT_FAIL)
    {
        errno = saved;
        return -1;
    }
    failnth_after(verdict);
    return rc;
}
