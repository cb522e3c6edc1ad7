/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The prefetcher; see prefetch.h, and session.h for its directory and its socket.
 *
 *   main       accepts connections, notices what was taken, watches the server, tidies up
 *   worker     (PREFETCH_WORKERS) fetch the segments behind the one asked for last: "fetch.<n>",
 * verified, then renamed to the segment's name connection (one for each walfetch that asks, usually
 * one) waits for a segment that a worker has in hand, or fetches what was asked for
 *
 * Only complete segments stay in the directory. What is put together from pieces is kept in a
 * nameless file, to which the next asking adds the new pieces, and each walfetch gets a copy: so an
 * answer is never older than the question.
 *
 * A crash leaves the directory behind, unlocked. While the same server runs, walfetch may still
 * take ready segments from it (each is whole and verified), and the next prefetcher of the session
 * goes on with it; any other prefetcher on the same spool removes it. All descriptors are
 * close-on-exec; nothing is ever written to the data directory.
 *
 * Memory: a connection to the store and the windows of a decoder for each worker and connection;
 * nothing grows with segments, the WAL or the prefetch setting but 16 bytes for each segment of the
 * window.
 */
#include "walfetch/prefetch.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/log.h"
#include "common/parse.h"
#include "walfetch/fetch.h"
#include "walfetch/spool.h"
#include "walfetch/window.h"

#define PREFETCH_WORKERS 3
#define PREFETCH_CONNECTIONS 8
#define PREFETCH_IDLE_MS (5 * 60 * 1000)
#define PREFETCH_TICK_MS 1000
#define PREFETCH_TICK_BLIND_MS 100 /* without inotify */
#define PREFETCH_TIDY_MS 10000
#define PREFETCH_TRY_MS 60000 /* one segment */
#define PREFETCH_OPEN_TRY_MS 30000
#define PREFETCH_OPEN_PAUSE_MS 2000
#define PREFETCH_REQUEST_MS 5000 /* for the line to arrive */
#define PREFETCH_TAKE_MS 30000   /* for the file to be taken */
#define PREFETCH_END_MS 10000    /* for connections to come to an end */
#define PREFETCH_LOG_MAX (1024 * 1024)
#define PREFETCH_FILE_MAX 64

typedef struct Prefetcher
{
    const Config *cfg;
    Repository *repo;
    char key[SESSION_KEY_BYTES];
    int spool_fd;
    int dir_fd;
    int lock_fd;
    int listen_fd;
    int inotify_fd; /* -1: the directory is looked at again and again */
    int server_fd;  /* pidfd of the postmaster; -1: its id is asked for again and again */
    pid_t server_pid;
    atomic_bool stop; /* also the cancel flag of all deadlines */
    pthread_t workers[PREFETCH_WORKERS];
    size_t worker_count;

    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t changed;
    Window window;
    uint64_t next_file;
    unsigned connection_count;

    pthread_mutex_t growth_lock; /* guards growth and its file; taken before lock */
    SegmentGrowth growth;        /* fd -1: none */
} Prefetcher;

typedef struct PrefetchConnection
{
    Prefetcher *p;
    int fd;
} PrefetchConnection;

static atomic_bool prefetch_signaled;

/* ---- the window; all with the lock held ---- */

static char *
prefetch_segment_name(const Prefetcher *p, const WindowSlot *slot, char *buf, size_t len)
{
    return wal_segment_name(slot->tli, slot->segno, p->repo->description.segment_bytes, buf, len);
}

/* After the window has moved: removes what recovery went past, and wakes up the workers. */
static void
prefetch_moved(Prefetcher *p)
{
    char name[WAL_SEGMENT_NAME_LEN + 1];
    WindowSlot slot;

    while (window_take_unwanted(&p->window, &slot))
        (void) unlinkat(p->dir_fd, prefetch_segment_name(p, &slot, name, sizeof name), 0);
    (void) pthread_cond_broadcast(&p->changed);
}

/* Notices which ready segments walfetch has taken. */
static void
prefetch_notice_taken(Prefetcher *p)
{
    bool taken = false;
    WindowSlot last = {0};
    char name[WAL_SEGMENT_NAME_LEN + 1];

    for (size_t i = p->window.slot_count; i > 0; i--)
    {
        WindowSlot *slot = &p->window.slots[i - 1];

        if (!slot->ready ||
            faccessat(p->dir_fd, prefetch_segment_name(p, slot, name, sizeof name), F_OK, 0) == 0 ||
            errno != ENOENT)
            continue;
        if (!taken || slot->segno > last.segno)
            last = *slot;
        taken = true;
        window_drop(&p->window, slot);
    }
    if (taken)
    {
        window_asked(&p->window, clock_monotonic_ms());
        window_advance(&p->window, last.tli, last.segno);
        prefetch_moved(p);
    }
}

static void
prefetch_wait(Prefetcher *p, int64_t ms)
{
    struct timespec until;

    (void) clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000)
    {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    (void) pthread_cond_timedwait(&p->changed, &p->lock, &until);
}

/* ---- files of the session ---- */

/* An empty file "<kind>.<n>"; its name goes into name. */
static int
prefetch_create(Prefetcher *p, const char *kind, char name[PREFETCH_FILE_MAX], int *fd, Error *err)
{
    uint64_t n;

    (void) pthread_mutex_lock(&p->lock);
    n = p->next_file++;
    (void) pthread_mutex_unlock(&p->lock);
    (void) snprintf(name, PREFETCH_FILE_MAX, "%s.%llu", kind, (unsigned long long) n);
    *fd = openat(p->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (*fd < 0)
    {
        (void) error_sys(err, "could not create \"%s\" in the spool", name);
        err->kind = ERROR_IO;
        return -1;
    }
    return 0;
}

/* A copy of fd as a new "demand.<n>". */
static int
prefetch_copy(Prefetcher *p, int fd, char name[PREFETCH_FILE_MAX], Error *err)
{
    AUTO(fd_close) int made = -1;
    char path[PREFETCH_FILE_MAX + 64];

    if (prefetch_create(p, "demand", name, &made, err) < 0)
        return -1;
    (void) snprintf(path, sizeof path, "/proc/self/fd/%d/%s", p->dir_fd, name);
    (void) unlinkat(p->dir_fd, name, 0);
    if (fs_place_copy(fd, path, 0600, false, err) < 0)
    {
        err->kind = ERROR_IO;
        return -1;
    }
    return 0;
}

static void
prefetch_remove_unfinished(void *ctx, const char *name)
{
    const int *dir_fd = ctx;

    if (strncmp(name, "fetch.", 6) == 0 || strncmp(name, "demand.", 7) == 0 ||
        strcmp(name, SESSION_SOCKET_NAME) == 0)
        (void) unlinkat(*dir_fd, name, 0);
}

/* A segment that is there without a slot: from a prefetcher that was killed. Lock held. */
static void
prefetch_adopt_file(void *ctx, const char *name)
{
    Prefetcher *p = ctx;
    WindowSlot slot = {.ready = true};
    WalFileName parsed;

    if (!wal_file_name_parse(name, &parsed) || parsed.kind != WAL_FILE_SEGMENT)
        return;
    slot.tli = parsed.tli;
    if (wal_file_segment_no(&parsed, p->repo->description.segment_bytes, &slot.segno))
    {
        if (window_find(&p->window, slot.tli, slot.segno) != NULL)
            return;
        if (window_wants(&p->window, slot.tli, slot.segno) && window_add(&p->window, &slot))
            return;
    }
    (void) unlinkat(p->dir_fd, name, 0);
}

static void
prefetch_tidy(Prefetcher *p)
{
    struct stat st;

    (void) pthread_mutex_lock(&p->lock);
    if (p->window.have_position)
        spool_each_file(p->dir_fd, prefetch_adopt_file, p);
    (void) pthread_mutex_unlock(&p->lock);
    /* opened for appending, so that the next message is the first again */
    if (fstat(STDERR_FILENO, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > PREFETCH_LOG_MAX &&
        ftruncate(STDERR_FILENO, 0) < 0)
        return;
}

/* ---- workers ---- */

static int
prefetch_fetch(Prefetcher *p, const WindowSlot *slot, char file[PREFETCH_FILE_MAX], Error *err)
{
    Deadline dl = deadline_after_ms(PREFETCH_TRY_MS, &p->stop);
    AUTO(fd_close) int fd = -1;
    SegmentRead read;

    if (prefetch_create(p, "fetch", file, &fd, err) < 0)
        return -1;
    return segment_read(p->repo, slot->tli, slot->segno, true, fd, &dl, &read, err);
}

static void
prefetch_take_result(
    Prefetcher *p, const WindowSlot *done, const char *file, int rc, const Error *err)
{
    WindowSlot *slot = window_find(&p->window, done->tli, done->segno);
    char name[WAL_SEGMENT_NAME_LEN + 1];

    (void) prefetch_segment_name(p, done, name, sizeof name);
    if (rc == 0 && slot != NULL && window_wants(&p->window, done->tli, done->segno) &&
        renameat(p->dir_fd, file, p->dir_fd, name) == 0)
    {
        slot->ready = true;
        window_unblock(&p->window, done);
    }
    else
    {
        if (file[0] != '\0')
            (void) unlinkat(p->dir_fd, file, 0);
        if (slot != NULL)
            window_drop(&p->window, slot);
        if (rc < 0)
            window_block(&p->window, done, err->kind, clock_monotonic_ms());
        if (rc < 0 && err->kind != ERROR_NOT_FOUND && err->kind != ERROR_CANCELED)
            log_error(LOG_WARNING, err);
    }
    (void) pthread_cond_broadcast(&p->changed);
}

static void *
prefetch_work(void *arg)
{
    Prefetcher *p = arg;

    (void) pthread_mutex_lock(&p->lock);
    while (!atomic_load(&p->stop))
    {
        char file[PREFETCH_FILE_MAX] = "";
        WindowSlot slot;
        Error err = {0};
        int rc;

        if (!window_pick(&p->window, clock_monotonic_ms(), &slot) || !window_add(&p->window, &slot))
        {
            prefetch_wait(p, PREFETCH_TICK_MS);
            continue;
        }
        (void) pthread_mutex_unlock(&p->lock);
        rc = prefetch_fetch(p, &slot, file, &err);
        (void) pthread_mutex_lock(&p->lock);
        prefetch_take_result(p, &slot, file, rc, &err);
    }
    (void) pthread_mutex_unlock(&p->lock);
    return NULL;
}

/* ---- what walfetch asks for ---- */

/*
 * A segment that is ready, or being fetched by a worker: waits for it and moves it to a
 * "demand.<n>". False if there is no such one (any more).
 */
static bool
prefetch_give_ready(
    Prefetcher *p, TimelineId tli, SegmentNo segno, const Deadline *dl,
    char file[PREFETCH_FILE_MAX])
{
    WindowSlot *slot;
    bool given = false;

    (void) pthread_mutex_lock(&p->lock);
    for (;;)
    {
        slot = window_find(&p->window, tli, segno);
        if (slot == NULL || slot->ready || deadline_left_ms(dl) == 0)
            break;
        prefetch_wait(p, MIN(deadline_left_ms(dl), (int64_t) PREFETCH_TICK_MS));
    }
    if (slot != NULL && slot->ready)
    {
        char name[WAL_SEGMENT_NAME_LEN + 1];

        (void) snprintf(
            file, PREFETCH_FILE_MAX, "demand.%llu", (unsigned long long) p->next_file++);
        (void) prefetch_segment_name(p, slot, name, sizeof name);
        given = renameat(p->dir_fd, name, p->dir_fd, file) == 0;
        window_drop(&p->window, slot);
        if (given)
        {
            window_advance(&p->window, tli, segno);
            prefetch_moved(p);
        }
    }
    (void) pthread_mutex_unlock(&p->lock);
    return given;
}

/* The segment that is growing in our hands. growth_lock held; false if it is not this one. */
static bool
prefetch_growing(const Prefetcher *p, TimelineId tli, SegmentNo segno)
{
    return p->growth.fd >= 0 && p->growth.tli == tli && p->growth.segno == segno;
}

static void
prefetch_drop_growth(Prefetcher *p)
{
    if (p->growth.fd >= 0)
        (void) close(p->growth.fd);
    p->growth.fd = -1;
}

static int
prefetch_demand_segment(
    Prefetcher *p, const char *name, const WalFileName *parsed, SegmentNo segno, const Deadline *dl,
    char file[PREFETCH_FILE_MAX], SegmentRead *read, Error *err)
{
    AUTO(fd_close) int fd = -1;
    SegmentGrowth growth;
    char grown[PREFETCH_FILE_MAX];
    int rc;

    (void) pthread_mutex_lock(&p->growth_lock);
    if (prefetch_growing(p, parsed->tli, segno))
    {
        rc = fetch_file(p->repo, name, parsed, &p->growth, p->growth.fd, dl, read, err);
        if (rc == 0)
            rc = prefetch_copy(p, p->growth.fd, file, err);
        if (rc < 0 || read->complete)
            prefetch_drop_growth(p);
        (void) pthread_mutex_unlock(&p->growth_lock);
        return rc;
    }
    (void) pthread_mutex_unlock(&p->growth_lock);

    if (prefetch_create(p, "demand", file, &fd, err) < 0)
        return -1;
    segment_growth_init(&growth, p->repo, parsed->tli, segno, fd);
    if (fetch_file(p->repo, name, parsed, &growth, fd, dl, read, err) < 0)
        return -1;
    if (read->complete)
        return 0;

    /* It goes on growing in this file, without name; walfetch gets a copy. */
    (void) snprintf(grown, sizeof grown, "%s", file);
    (void) unlinkat(p->dir_fd, grown, 0);
    if (prefetch_copy(p, fd, file, err) < 0)
        return -1;
    (void) pthread_mutex_lock(&p->growth_lock);
    prefetch_drop_growth(p);
    p->growth = growth;
    fd = -1;
    (void) pthread_mutex_unlock(&p->growth_lock);
    return 0;
}

static int
prefetch_demand_other(
    Prefetcher *p, const char *name, const WalFileName *parsed, const Deadline *dl,
    char file[PREFETCH_FILE_MAX], Error *err)
{
    AUTO(fd_close) int fd = -1;

    if (prefetch_create(p, "demand", file, &fd, err) < 0 ||
        fetch_file(p->repo, name, parsed, NULL, fd, dl, NULL, err) < 0)
        return -1;
    if (parsed->kind == WAL_FILE_HISTORY)
    {
        AUTO(timeline_history_reset) TimelineHistory history = {0};
        AUTO(free_text) char *text = malloc(TIMELINE_HISTORY_MAX_BYTES);
        Error unused;
        size_t len;

        /* it was verified; without it there is only less to prefetch */
        if (text != NULL &&
            fs_pread_full(fd, text, TIMELINE_HISTORY_MAX_BYTES, 0, &len, name, &unused) == 0 &&
            timeline_parse_history(parsed->tli, text, len, &history, &unused) == 0)
        {
            (void) pthread_mutex_lock(&p->lock);
            window_learn(&p->window, &history);
            prefetch_moved(p);
            (void) pthread_mutex_unlock(&p->lock);
        }
    }
    return 0;
}

/* 0 with the file for the asking walfetch. */
static int
prefetch_demand(
    Prefetcher *p, const char *name, const WalFileName *parsed, const Deadline *dl,
    char file[PREFETCH_FILE_MAX], Error *err)
{
    SegmentRead read = {0};
    SegmentNo segno;
    int rc;

    (void) pthread_mutex_lock(&p->lock);
    window_asked(&p->window, clock_monotonic_ms());
    (void) pthread_mutex_unlock(&p->lock);
    file[0] = '\0';
    if (parsed->kind != WAL_FILE_SEGMENT)
        return prefetch_demand_other(p, name, parsed, dl, file, err);

    if (!wal_file_segment_no(parsed, p->repo->description.segment_bytes, &segno))
        return error_set(
            err, ERROR_USAGE, "there is no WAL segment \"%s\" when segments have %u bytes", name,
            p->repo->description.segment_bytes);
    if (prefetch_give_ready(p, parsed->tli, segno, dl, file))
        return 0;
    rc = prefetch_demand_segment(p, name, parsed, segno, dl, file, &read, err);

    (void) pthread_mutex_lock(&p->lock);
    if (rc == 0 && read.complete)
    {
        window_advance(&p->window, parsed->tli, segno);
        prefetch_moved(p);
    }
    else
        window_missed(&p->window, segno);
    (void) pthread_mutex_unlock(&p->lock);
    return rc;
}

/* Trouble of our own, which walfetch-direct, writing elsewhere, may not have. */
static bool
prefetch_is_own_trouble(const Error *err)
{
    return err->kind == ERROR_NOMEM ||
           (err->kind == ERROR_IO &&
            (err->sys_errno == ENOSPC || err->sys_errno == EDQUOT || err->sys_errno == EROFS ||
             err->sys_errno == EMFILE || err->sys_errno == ENFILE));
}

static bool
prefetch_wait_readable(const Prefetcher *p, int fd, const Deadline *dl)
{
    while (!atomic_load(&p->stop))
    {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        int64_t left = deadline_left_ms(dl);
        int rc = poll(&poll_fd, 1, (int) MIN(left, (int64_t) PREFETCH_TICK_MS));

        if (rc > 0)
            return true;
        if (left == 0 || (rc < 0 && errno != EINTR))
            return false;
    }
    return false;
}

/* "fetch NAME TIMEOUT_MS\n" */
static bool
prefetch_read_request(
    const Prefetcher *p, int fd, char name[WAL_NAME_MAX], WalFileName *parsed, int64_t *timeout_ms)
{
    Deadline dl = deadline_after_ms(PREFETCH_REQUEST_MS, &p->stop);
    char line[WAL_NAME_MAX + 64];
    size_t len = 0;
    uint64_t ms;
    char *blank;

    for (;;)
    {
        ssize_t n;

        if (len == sizeof line - 1 || !prefetch_wait_readable(p, fd, &dl))
            return false;
        n = recv(fd, line + len, sizeof line - 1 - len, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return false;
        len += (size_t) n;
        if (line[len - 1] == '\n')
            break;
    }
    line[len - 1] = '\0';
    if (strlen(line) != len - 1 || strncmp(line, "fetch ", 6) != 0)
        return false;
    blank = strchr(line + 6, ' ');
    if (blank == NULL || blank - (line + 6) >= WAL_NAME_MAX)
        return false;
    *blank = '\0';
    if (!wal_file_name_parse(line + 6, parsed) || !parse_u64(blank + 1, &ms) || ms > INT32_MAX)
        return false;
    memcpy(name, line + 6, (size_t) (blank - (line + 6)) + 1);
    *timeout_ms = (int64_t) ms;
    return true;
}

static void
prefetch_serve(Prefetcher *p, int fd)
{
    static const char wait_line[] = "wait\n";
    char reply[SESSION_REPLY_MAX];
    char file[PREFETCH_FILE_MAX] = "";
    char name[WAL_NAME_MAX];
    WalFileName parsed;
    SessionAnswer answer = SESSION_READY;
    int64_t timeout_ms;
    Error err = {0};
    Deadline dl;

    if (!prefetch_read_request(p, fd, name, &parsed, &timeout_ms) ||
        send(fd, wait_line, sizeof wait_line - 1, MSG_NOSIGNAL) < 0)
        return;
    dl = deadline_after_ms(timeout_ms, &p->stop);
    if (prefetch_demand(p, name, &parsed, &dl, file, &err) < 0)
    {
        if (file[0] != '\0')
            (void) unlinkat(p->dir_fd, file, 0);
        if (err.kind == ERROR_CANCELED)
            return; /* we are ending: that says nothing of the file */
        answer = err.kind == ERROR_NOT_FOUND     ? SESSION_ABSENT
                 : prefetch_is_own_trouble(&err) ? SESSION_DIRECT
                                                 : SESSION_UNSURE;
    }
    (void) session_format_reply(answer, answer == SESSION_READY ? file : err.msg, err.hint, reply);
    if (send(fd, reply, strlen(reply), MSG_NOSIGNAL) >= 0 && answer == SESSION_READY)
    {
        /* until walfetch has taken it, or died */
        dl = deadline_after_ms(PREFETCH_TAKE_MS, &p->stop);
        (void) prefetch_wait_readable(p, fd, &dl);
    }
    if (answer == SESSION_READY)
        (void) unlinkat(p->dir_fd, file, 0);
}

static void *
prefetch_run_connection(void *arg)
{
    PrefetchConnection c = *(PrefetchConnection *) arg;

    free(arg);
    prefetch_serve(c.p, c.fd);
    (void) close(c.fd);
    (void) pthread_mutex_lock(&c.p->lock);
    c.p->connection_count--;
    (void) pthread_cond_broadcast(&c.p->changed);
    (void) pthread_mutex_unlock(&c.p->lock);
    return NULL;
}

static void
prefetch_accept(Prefetcher *p)
{
    int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC);
    PrefetchConnection *c;
    pthread_attr_t attr;
    pthread_t thread;
    struct ucred peer;
    socklen_t len = sizeof peer;
    bool room;

    if (fd < 0)
        return;
    (void) pthread_mutex_lock(&p->lock);
    room = p->connection_count < PREFETCH_CONNECTIONS;
    if (room)
        p->connection_count++;
    (void) pthread_mutex_unlock(&p->lock);
    c = room ? malloc(sizeof *c) : NULL;
    if (c != NULL && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
        peer.uid == geteuid() && pthread_attr_init(&attr) == 0)
    {
        int rc;

        *c = (PrefetchConnection){.p = p, .fd = fd};
        (void) pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        rc = pthread_create(&thread, &attr, prefetch_run_connection, c);
        (void) pthread_attr_destroy(&attr);
        if (rc == 0)
            return;
    }
    /* walfetch sees the end of the connection and does it alone */
    free(c);
    (void) close(fd);
    if (room)
    {
        (void) pthread_mutex_lock(&p->lock);
        p->connection_count--;
        (void) pthread_mutex_unlock(&p->lock);
    }
}

/* ---- beginning and end ---- */

static int
prefetch_listen(Prefetcher *p, Error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    p->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (p->listen_fd < 0)
        return error_sys(err, "could not create a socket");
    (void) snprintf(
        address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" SESSION_SOCKET_NAME,
        p->dir_fd);
    if (bind(p->listen_fd, (const struct sockaddr *) &address, sizeof address) < 0 ||
        listen(p->listen_fd, PREFETCH_CONNECTIONS) < 0)
        return error_sys(err, "could not listen in the spool");
    return 0;
}

static bool
prefetch_server_gone(const Prefetcher *p)
{
    struct pollfd poll_fd = {.fd = p->server_fd, .events = POLLIN};

    if (p->server_fd >= 0)
        return poll(&poll_fd, 1, 0) > 0;
    return kill(p->server_pid, 0) < 0 && errno == ESRCH;
}

static bool
prefetch_should_end(Prefetcher *p)
{
    int64_t asked_ms;

    (void) pthread_mutex_lock(&p->lock);
    asked_ms = p->window.asked_ms;
    (void) pthread_mutex_unlock(&p->lock);
    return atomic_load(&prefetch_signaled) || prefetch_server_gone(p) ||
           clock_monotonic_ms() - asked_ms > PREFETCH_IDLE_MS;
}

/* Again and again, as long as somebody may ask. */
static int
prefetch_open_repository(Prefetcher *p)
{
    for (;;)
    {
        Deadline dl = deadline_after_ms(PREFETCH_OPEN_TRY_MS, &p->stop);
        Error err = {0};

        if (fetch_open_repository(p->cfg, ".", &dl, &p->repo, &err) == 0)
            return 0;
        log_error(LOG_WARNING, &err);
        clock_sleep_ms(PREFETCH_OPEN_PAUSE_MS);
        if (prefetch_should_end(p))
            return -1;
    }
}

/* What the walfetch-direct that started us was asked for tells where recovery is. */
static void
prefetch_learn_first(Prefetcher *p, const FetchOptions *options)
{
    Deadline dl = deadline_after_ms(PREFETCH_OPEN_TRY_MS, &p->stop);
    AUTO(timeline_history_reset) TimelineHistory history = {0};
    AUTO(free_text) char *text = NULL;
    SegmentNo segno;
    size_t len;
    Error err;

    (void) pthread_mutex_lock(&p->lock);
    if (options->parsed.kind == WAL_FILE_SEGMENT &&
        wal_file_segment_no(&options->parsed, p->repo->description.segment_bytes, &segno))
        window_advance(&p->window, options->parsed.tli, segno);
    (void) pthread_mutex_unlock(&p->lock);
    if (options->parsed.kind == WAL_FILE_HISTORY &&
        fetch_history(p->repo, options->parsed.tli, &dl, &text, &len, &history, &err) == 0)
    {
        (void) pthread_mutex_lock(&p->lock);
        window_learn(&p->window, &history);
        (void) pthread_mutex_unlock(&p->lock);
    }
}

static void
prefetch_watch(Prefetcher *p)
{
    char path[64];

    p->inotify_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    (void) snprintf(path, sizeof path, "/proc/self/fd/%d", p->dir_fd);
    if (p->inotify_fd >= 0 && inotify_add_watch(p->inotify_fd, path, IN_MOVED_FROM | IN_DELETE) < 0)
    {
        (void) close(p->inotify_fd);
        p->inotify_fd = -1;
    }
}

static void
prefetch_loop(Prefetcher *p)
{
    int64_t tidy_ms = clock_monotonic_ms();

    while (!prefetch_should_end(p))
    {
        struct pollfd fds[] = {
            {.fd = p->listen_fd, .events = POLLIN},
            {.fd = p->inotify_fd, .events = POLLIN},
            {.fd = p->server_fd, .events = POLLIN},
        };
        char events[4096];

        (void) poll(
            fds, ARRAY_COUNT(fds), p->inotify_fd >= 0 ? PREFETCH_TICK_MS : PREFETCH_TICK_BLIND_MS);
        if ((fds[1].revents & POLLIN) != 0)
            while (read(p->inotify_fd, events, sizeof events) > 0)
                ; /* what it was, the directory says */
        (void) pthread_mutex_lock(&p->lock);
        prefetch_notice_taken(p);
        (void) pthread_mutex_unlock(&p->lock);
        if ((fds[0].revents & POLLIN) != 0)
            prefetch_accept(p);
        if (clock_monotonic_ms() - tidy_ms > PREFETCH_TIDY_MS)
        {
            prefetch_tidy(p);
            tidy_ms = clock_monotonic_ms();
        }
    }
}

/* Stops the threads. False if a connection does not come to its end. */
static bool
prefetch_stop(Prefetcher *p)
{
    Deadline dl = deadline_after_ms(PREFETCH_END_MS, NULL);
    bool ended;

    atomic_store(&p->stop, true);
    (void) pthread_mutex_lock(&p->lock);
    (void) pthread_cond_broadcast(&p->changed);
    while (p->connection_count > 0 && deadline_left_ms(&dl) > 0)
        prefetch_wait(p, MIN(deadline_left_ms(&dl), (int64_t) PREFETCH_TICK_MS));
    ended = p->connection_count == 0;
    (void) pthread_mutex_unlock(&p->lock);
    for (size_t i = 0; i < p->worker_count; i++)
        (void) pthread_join(p->workers[i], NULL);
    return ended;
}

static void
prefetch_on_signal(int signo)
{
    (void) signo;
    atomic_store(&prefetch_signaled, true);
}

static void
prefetch_init(Prefetcher *p, const Config *cfg)
{
    *p = (Prefetcher){
        .cfg = cfg,
        .spool_fd = -1,
        .dir_fd = -1,
        .lock_fd = -1,
        .listen_fd = -1,
        .inotify_fd = -1,
        .server_fd = -1,
        .growth = {.fd = -1},
        .window = {.asked_ms = clock_monotonic_ms()},
    };
    (void) pthread_mutex_init(&p->lock, NULL);
    (void) pthread_mutex_init(&p->growth_lock, NULL);
    (void) clock_cond_init(&p->changed);
}

/* The session is ours: directory, lock, log, server. *owned false: another prefetcher has it. */
static int
prefetch_claim_session(Prefetcher *p, bool *owned, Error *err)
{
    SessionFacts facts;
    int log_fd;

    *owned = false;
    if (session_gather(".", p->cfg, &facts, err) < 0 || spool_open(p->cfg, &p->spool_fd, err) < 0)
        return -1;
    (void) session_key(&facts, p->key);
    p->server_pid = facts.postmaster_pid;
    for (int i = 0;; i++)
    {
        bool again;

        fd_close(&p->dir_fd);
        p->dir_fd = -1;
        if (spool_open_session(p->cfg, p->spool_fd, p->key, &p->dir_fd, err) < 0)
            return -1;
        if (spool_claim(p->spool_fd, p->key, p->dir_fd, &p->lock_fd, &again, err) == 0)
            break;
        if (!again || i == 3)
            return -1;
    }
    if (p->lock_fd < 0)
        return 0;
    *owned = true;
    p->server_fd = (int) syscall(SYS_pidfd_open, p->server_pid, 0);
    log_fd = openat(
        p->dir_fd, SESSION_LOG_NAME, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log_fd >= 0)
    {
        (void) dup2(log_fd, STDERR_FILENO);
        (void) close(log_fd);
    }
    spool_each_file(p->dir_fd, prefetch_remove_unfinished, &p->dir_fd);
    spool_sweep(p->cfg, p->spool_fd, p->key);
    return 0;
}

static int
prefetch_begin(Prefetcher *p, const FetchOptions *options, Error *err)
{
    if (prefetch_open_repository(p) < 0)
        return error_set(err, ERROR_CANCELED, "nobody waits for the repository any more");
    if (chdir("/") < 0) /* so that nothing of ours keeps the data directory busy */
        return error_sys(err, "could not change to the directory \"/\"");
    window_init(&p->window, p->repo->description.segment_bytes, p->cfg->restore.prefetch_bytes);
    window_asked(&p->window, clock_monotonic_ms());
    prefetch_learn_first(p, options);
    prefetch_tidy(p);
    prefetch_watch(p);
    if (prefetch_listen(p, err) < 0)
        return -1;
    for (; p->worker_count < PREFETCH_WORKERS; p->worker_count++)
        if (pthread_create(&p->workers[p->worker_count], NULL, prefetch_work, p) != 0)
            break;
    return 0;
}

int
prefetch_run(const Config *cfg, const FetchOptions *options)
{
    struct sigaction on_signal = {.sa_handler = prefetch_on_signal};
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    Prefetcher *p = malloc(sizeof *p);
    Error err = {0};
    bool owned = false;
    bool ended;
    int rc;

    if (p == NULL)
        return 1;
    (void) mallopt(M_ARENA_MAX, 2);
    (void) sigaction(SIGTERM, &on_signal, NULL);
    (void) sigaction(SIGINT, &on_signal, NULL);
    (void) sigaction(SIGPIPE, &ignore, NULL);
    (void) sigaction(SIGHUP, &ignore, NULL);
    prefetch_init(p, cfg);
    rc = prefetch_claim_session(p, &owned, &err);
    if (rc == 0 && owned)
        rc = prefetch_begin(p, options, &err);
    if (rc == 0 && owned)
        prefetch_loop(p);
    if (rc < 0)
        log_error(LOG_WARNING, &err);
    ended = prefetch_stop(p);
    if (owned)
        spool_remove_session(p->spool_fd, p->key, p->dir_fd);
    if (!ended)
        _exit(0); /* a thread still uses it all */
    prefetch_drop_growth(p);
    window_reset(&p->window);
    repository_free(p->repo);
    fd_close(&p->listen_fd);
    fd_close(&p->inotify_fd);
    fd_close(&p->server_fd);
    fd_close(&p->lock_fd);
    fd_close(&p->dir_fd);
    fd_close(&p->spool_fd);
    (void) pthread_cond_destroy(&p->changed);
    (void) pthread_mutex_destroy(&p->growth_lock);
    (void) pthread_mutex_destroy(&p->lock);
    free(p);
    return rc < 0 ? 1 : 0;
}

/* In the new process: nothing of the caller's stays open. Does not return. */
static void
prefetch_exec(const char *path, char **args)
{
    int null_fd = open("/dev/null", O_RDWR);

    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (null_fd >= 0)
            (void) dup2(null_fd, fd);
    (void) close_range(STDERR_FILENO + 1, UINT32_MAX, 0);
    (void) execv(path, args);
    _exit(1);
}

int
prefetch_start(const Config *cfg, int argc, char **argv, Error *err)
{
    AUTO(fd_close) int spool_fd = -1;
    AUTO(fd_close) int dir_fd = -1;
    char path[SESSION_PATH_MAX];
    char key[SESSION_KEY_BYTES];
    static char option[] = "--prefetcher";
    SessionFacts facts;
    char **args;
    ssize_t len;
    pid_t pid;
    int status;

    if (session_gather(".", cfg, &facts, err) < 0)
        return -1;
    if (spool_open(cfg, &spool_fd, err) < 0 ||
        spool_open_session(cfg, spool_fd, session_key(&facts, key), &dir_fd, err) < 0)
    {
        if (err->kind == ERROR_NOT_FOUND)
            err->kind = ERROR_IO; /* there is a server, but no place */
        return -1;
    }
    if (!spool_lock_is_free(dir_fd))
        return 0;
    len = readlink("/proc/self/exe", path, sizeof path - 1);
    if (len < 0)
        return error_sys(err, "could not find out where walfetch-direct is");
    path[len] = '\0';
    args = calloc((size_t) argc + 2, sizeof *args);
    if (args == NULL)
        return error_nomem(err);
    args[0] = path;
    args[1] = option;
    for (int i = 1; i < argc; i++)
        args[i + 1] = argv[i];

    /* twice, in a session of its own: the server's signals to its process groups do not reach it */
    pid = fork();
    if (pid == 0)
    {
        if (setsid() < 0 || fork() != 0)
            _exit(0);
        prefetch_exec(path, args);
    }
    free(args);
    if (pid < 0)
        return error_sys(err, "could not create a process");
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return 0;
}
