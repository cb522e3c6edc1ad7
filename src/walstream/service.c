/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The local service; see service.h.
 */
#include "walstream/service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h> /* the digest with the widest vectors that the processor has */
#else
#include <xxhash.h>
#endif

#include "common/fs.h"
#include "common/localsock.h"
#include "common/log.h"
#include "common/parse.h"
#include "common/protocol.h"
#include "pg/control.h"
#include "walstream/ready.h"

#define SERVICE_THREADS 4
#define SERVICE_REQUEST_MS 5000 /* for a client to say what it wants */
/* to wait for the stream to bring a segment that it is just receiving, since it last came nearer */
#define SERVICE_STREAM_MS 3000
#define SERVICE_AHEAD_MS 120000
#define SERVICE_READ_BYTES (256 * 1024) /* stays in a processor's cache between read and digest */

/* A thread and what it keeps: memory that was used before is much faster than fresh memory. */
typedef struct ServiceWorker
{
    Service *s;
    pthread_t thread;
    XXH3_state_t *digest;
    char *buf; /* SERVICE_READ_BYTES */
} ServiceWorker;

struct Service
{
    ServiceOptions options;
    int listen_fd;
    atomic_bool stop;
    ServiceWorker *workers[SERVICE_THREADS];
    unsigned thread_count;
    ReadyCache ready;
};

/* One walpush being served. */
typedef struct PushRequest
{
    Service *s;
    ServiceWorker *worker;
    int sock;
    int file;    /* owned */
    int datadir; /* owned */
    char name[WAL_NAME_MAX + 1];
    Deadline dl;
    int64_t said_ms; /* when the client last heard from us */
} PushRequest;

static void
push_request_reset(PushRequest *req)
{
    fd_close(&req->file);
    fd_close(&req->datadir);
}

/* ---- answers ---- */

static int
service_answer(int sock, const char *text, Error *err)
{
    Deadline dl = deadline_after_ms(SERVICE_REQUEST_MS, NULL);

    return localsock_send(sock, text, strlen(text), NULL, 0, &dl, err);
}

/* Keeps the client waiting; fails when it has gone away or its time is up. */
static int
push_say_wait(PushRequest *req, Error *err)
{
    int64_t now = clock_monotonic_ms();

    if (atomic_load(&req->s->stop))
        return error_set(err, ERROR_CANCELED, "walstream is stopping");
    if (deadline_check(&req->dl, "archiving", err) < 0)
        return -1;
    if (req->said_ms != 0 && now - req->said_ms < PROTOCOL_WAIT_EVERY_MS)
        return 0;
    req->said_ms = now;
    return service_answer(req->sock, "WAIT", err);
}

/* ---- a segment that was streamed ---- */

static int
push_digest_file(PushRequest *req, StreamedDigest *out, Error *err)
{
    uint32_t bytes = req->s->options.repo->description.segment_bytes;
    XXH3_state_t *state = req->worker->digest;
    XXH128_hash_t hash;

    *out = (StreamedDigest){0};
    (void) XXH3_128bits_reset(state);
    for (uint64_t at = 0; at < bytes;)
    {
        size_t got;

        if (fs_pread_full(
                req->file, req->worker->buf, SERVICE_READ_BYTES, (off_t) at, &got, req->name, err) <
            0)
            return -1;
        if (got == 0)
            return error_set(
                err, ERROR_CORRUPT, "\"%s\" has only %llu bytes", req->name,
                (unsigned long long) at);
        (void) XXH3_128bits_update(state, req->worker->buf, got);
        at += got;
    }
    hash = XXH3_128bits_digest(state);
    *out = (StreamedDigest){.low = hash.low64, .high = hash.high64};
    return 0;
}

typedef enum StreamedState
{
    STREAMED_DURABLE,
    STREAMED_PENDING,
    STREAMED_UNKNOWN /* the stream has gone on to another timeline: only the repository knows */
} StreamedState;

static StreamedState
service_streamed_state(Service *s, const StreamedSegment *seg)
{
    LedgerPosition position = ledger_position(s->options.ledger);

    if (position.tli != seg->tli)
        return STREAMED_UNKNOWN;
    return position.durable >= seg->end ? STREAMED_DURABLE : STREAMED_PENDING;
}

/* The stream is in this segment, or will be in a moment; *received is how far it has come. */
static bool
service_stream_near(Service *s, const char *name, Lsn *received)
{
    const RepositoryDescription *d = &s->options.repo->description;
    ReceiverStatus status = receiver_status(s->options.receiver);
    WalFileName parsed;
    SegmentNo segno, current;

    if (status.state != RECEIVER_STREAMING || !wal_file_name_parse(name, &parsed) ||
        parsed.kind != WAL_FILE_SEGMENT || parsed.tli != status.tli ||
        !wal_file_segment_no(&parsed, d->segment_bytes, &segno))
        return false;
    *received = status.received;
    current = wal_segment_of(status.received, d->segment_bytes);
    return segno >= current && segno - current <= 2;
}

/*
 * Answers from what the stream has brought. *answered false: it must be uploaded. A copy that
 * differs is uploaded too: the comparison with the repository's own digest then says what is wrong.
 */
static int
push_from_stream(PushRequest *req, bool *answered, Error *err)
{
    Service *s = req->s;
    int64_t until = clock_monotonic_ms() + SERVICE_STREAM_MS;
    Lsn received = LSN_INVALID;
    StreamedSegment seg;
    StreamedDigest digest;

    *answered = false;
    while (!streamed_find(s->options.streamed, req->name, &seg))
    {
        Lsn now_at = LSN_INVALID;

        if (!service_stream_near(s, req->name, &now_at) || clock_monotonic_ms() >= until)
            return 0;
        /* the rest of a large segment takes longer, but still less than storing all of it again */
        if (now_at != received)
            until = clock_monotonic_ms() + SERVICE_STREAM_MS;
        received = now_at;
        if (push_say_wait(req, err) < 0)
            return -1;
        clock_sleep_ms(2);
    }
    if (!seg.received || seg.dropped)
        return 0;
    if (push_digest_file(req, &digest, err) < 0)
        return -1;
    if (digest.low != seg.digest.low || digest.high != seg.digest.high)
        return 0;
    /* received, and being stored: that is faster than storing it a second time */
    for (;;)
    {
        ReceiverStatus status = receiver_status(s->options.receiver);
        StreamedState state = service_streamed_state(s, &seg);

        if (state == STREAMED_DURABLE)
            break;
        if (state == STREAMED_UNKNOWN)
            return 0;
        if (status.state != RECEIVER_STREAMING && clock_monotonic_ms() >= until)
            return 0;
        if (push_say_wait(req, err) < 0)
            return -1;
        clock_sleep_ms(2);
        if (!streamed_find(s->options.streamed, req->name, &seg) || seg.dropped)
            return 0;
    }
    *answered = true;
    return 0;
}

/* ---- look-ahead ---- */

/* Opens pg_wal/<name> of the data directory and submits it. */
static void
push_submit_ahead(PushRequest *req, const ReadyName name)
{
    Service *s = req->s;
    Deadline dl = deadline_after_ms(SERVICE_AHEAD_MS, NULL);
    char path[sizeof "pg_wal/" + WAL_SEGMENT_NAME_LEN];
    StreamedSegment seg;
    struct stat sb;
    Error err;
    int fd;

    if (uploader_has_file(s->options.uploader, name))
        return;
    (void) snprintf(path, sizeof path, "pg_wal/%.24s", name);
    fd = openat(req->datadir, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return;
    if (fstat(fd, &sb) < 0 ||
        (streamed_find(s->options.streamed, name, &seg) &&
         ((seg.received && !seg.dropped) || (seg.archived && streamed_same_file(&seg.file, &sb)))))
    {
        (void) close(fd);
        return;
    }
    if (uploader_submit_file(s->options.uploader, fd, name, UPLOAD_AHEAD, &dl, NULL, &err) < 0)
        log_error(LOG_DEBUG, &err);
}

static void
push_look_ahead(PushRequest *req)
{
    enum
    {
        WANT_MAX = 64
    };
    ReadyName names[WANT_MAX];
    size_t want = MIN((size_t) req->s->options.workers * 4, WANT_MAX);
    size_t count = ready_next(&req->s->ready, req->datadir, req->name, names, want);

    for (size_t i = 0; i < count; i++)
        push_submit_ahead(req, names[i]);
}

/* ---- the request ---- */

/*
 * Whether the server that asks is the one whose repository this is: pg_upgrade, or a new initdb,
 * leaves the configuration as it is. A segment is checked page by page anyway, but a history file
 * says nothing of its cluster. A directory without a control file is somebody's who does it by
 * hand.
 */
static bool
push_is_our_cluster(const PushRequest *req)
{
    uint64_t ours = req->s->options.repo->description.system_identifier;
    char data_dir[64];
    ControlFile control;
    Error err;

    (void) snprintf(data_dir, sizeof data_dir, "/proc/self/fd/%d", req->datadir);
    if (control_read(data_dir, &control, &err) == 0)
        return control.system_identifier == ours;
    return err.kind == ERROR_NOT_FOUND || strlen(req->name) == WAL_SEGMENT_NAME_LEN;
}

static int
push_upload(PushRequest *req, Error *err)
{
    Service *s = req->s;
    UploadRequest *upload;
    int fd = fcntl(req->file, F_DUPFD_CLOEXEC, 0);
    int rc = 0;

    if (fd < 0)
        return error_sys(err, "could not duplicate a descriptor");
    if (uploader_submit_file(
            s->options.uploader, fd, req->name, UPLOAD_REQUESTED, &req->dl, &upload, err) < 0)
        return -1;
    push_look_ahead(req);
    while (!uploader_request_wait(s->options.uploader, upload, 100, &rc, err))
    {
        rc = push_say_wait(req, err);
        if (rc < 0)
            break;
    }
    uploader_request_release(s->options.uploader, upload);
    return rc;
}

static int
push_run(PushRequest *req, const char **how, Error *err)
{
    Service *s = req->s;
    Counters *counters = s->options.counters;
    StreamedSegment seg;
    struct stat sb;
    bool answered;

    if (push_say_wait(req, err) < 0)
        return -1;
    /* being uploaded ahead right now: wait for that, unless the stream has brought it meanwhile */
    while (uploader_has_file(s->options.uploader, req->name) &&
           !(streamed_find(s->options.streamed, req->name, &seg) && seg.received && !seg.dropped))
    {
        if (push_say_wait(req, err) < 0)
            return -1;
        clock_sleep_ms(2);
    }
    if (streamed_find(s->options.streamed, req->name, &seg) && seg.archived &&
        fstat(req->file, &sb) == 0 && streamed_same_file(&seg.file, &sb))
    {
        push_look_ahead(req);
        counter_add(&counters->archive_answered_from_lookahead, 1);
        *how = "ahead";
        return 0;
    }
    if (push_from_stream(req, &answered, err) < 0)
        return -1;
    if (answered)
    {
        counter_add(&counters->archive_answered_from_stream, 1);
        *how = "stream";
        return 0;
    }
    if (push_upload(req, err) < 0)
        return -1;
    counter_add(&counters->archive_uploaded, 1);
    *how = "uploaded";
    return 0;
}

static void
service_push(ServiceWorker *worker, int sock, const char *name, int64_t timeout_ms, const int *fds)
{
    Service *s = worker->s;
    AUTO(push_request_reset)
    PushRequest req = {
        .s = s,
        .worker = worker,
        .sock = sock,
        .file = fds[0],
        .datadir = fds[1],
        .dl = deadline_after_ms(timeout_ms, &s->stop)};
    char answer[sizeof(Error) + 64];
    const char *how;
    Error err = {0};

    (void) snprintf(req.name, sizeof req.name, "%s", name);
    counter_add(&s->options.counters->archive_requests, 1);
    if (!push_is_our_cluster(&req))
        (void) snprintf(answer, sizeof answer, "OTHER");
    else if (push_run(&req, &how, &err) == 0)
        (void) snprintf(answer, sizeof answer, "OK %s", how);
    else if (err.kind == ERROR_CANCELED && atomic_load(&s->stop))
        (void) snprintf(answer, sizeof answer, "STOPPING");
    else
    {
        counter_add(&s->options.counters->archive_failures, 1);
        (void) snprintf(
            answer, sizeof answer, "ERROR %d\t%s\t%s", (int) err.kind, err.msg, err.hint);
    }
    if (service_answer(sock, answer, &err) < 0)
        log_write(LOG_DEBUG, "walpush did not wait for its answer");
}

/* Splits at blanks, in place; the last field takes the rest. */
static size_t
service_split(char *text, char **fields, size_t max)
{
    size_t count = 0;

    while (count < max)
    {
        char *blank = count + 1 < max ? strchr(text, ' ') : NULL;

        fields[count++] = text;
        if (blank == NULL)
            break;
        *blank = '\0';
        text = blank + 1;
    }
    return count;
}

static void
service_serve(ServiceWorker *worker, int sock)
{
    Service *s = worker->s;
    char message[4096];
    char *fields[6];
    int fds[2] = {-1, -1};
    size_t len, fd_count, count;
    Deadline dl = deadline_after_ms(SERVICE_REQUEST_MS, &s->stop);
    uint64_t timeout_ms;
    Error err;

    if (localsock_receive(sock, message, sizeof message, &len, fds, 2, &fd_count, &dl, &err) < 0 ||
        len == 0)
        return;
    count = service_split(message, fields, ARRAY_COUNT(fields));
    if (count == 6 && strcmp(fields[0], "PUSH") == 0 && strcmp(fields[1], PROTOCOL_VERSION) == 0 &&
        fd_count == 2 && strlen(fields[2]) <= WAL_NAME_MAX && parse_u64(fields[3], &timeout_ms) &&
        strcmp(fields[4], s->options.cluster) == 0 && strcmp(fields[5], s->options.url) == 0)
    {
        service_push(worker, sock, fields[2], (int64_t) MIN(timeout_ms, 86400000), fds);
        return;
    }
    for (size_t i = 0; i < fd_count; i++)
        (void) close(fds[i]);
    if (count >= 2 && strcmp(fields[0], "STATUS") == 0)
    {
        char *text = NULL;

        if (service_format_status(&s->options, &text, &err) == 0 &&
            service_answer(sock, text, &err) < 0)
            log_write(LOG_DEBUG, "the status was asked for and not read");
        free(text);
        return;
    }
    if (service_answer(sock, "OTHER", &err) < 0)
        log_write(LOG_DEBUG, "a client did not wait for its answer");
}

static void *
service_main(void *arg)
{
    ServiceWorker *worker = arg;
    Service *s = worker->s;

    while (!atomic_load(&s->stop))
    {
        AUTO(fd_close) int sock = -1;
        Error err;

        if (localsock_accept(s->listen_fd, 200, &sock, &err) < 0)
        {
            log_error(LOG_WARNING, &err);
            clock_sleep_ms(200);
        }
        else if (sock >= 0)
            service_serve(worker, sock);
    }
    return NULL;
}

static void
service_free_worker(ServiceWorker *worker)
{
    if (worker == NULL)
        return;
    (void) XXH3_freeState(worker->digest);
    free(worker->buf);
    free(worker);
}

static int
service_start_worker(Service *s, ServiceWorker **out, Error *err)
{
    ServiceWorker *worker = calloc(1, sizeof *worker);

    if (worker == NULL)
        return error_nomem(err);
    worker->s = s;
    worker->digest = XXH3_createState();
    worker->buf = fs_alloc_io(SERVICE_READ_BYTES);
    if (worker->digest == NULL || worker->buf == NULL)
    {
        service_free_worker(worker);
        return error_nomem(err);
    }
    if (pthread_create(&worker->thread, NULL, service_main, worker) != 0)
    {
        service_free_worker(worker);
        return error_set(err, ERROR_IO, "could not start a service thread");
    }
    *out = worker;
    return 0;
}

int
service_new(const ServiceOptions *options, Service **out, Error *err)
{
    Service *s = calloc(1, sizeof *s);

    if (s == NULL)
        return error_nomem(err);
    s->options = *options;
    if (localsock_listen(options->socket_path, &s->listen_fd, err) < 0)
    {
        free(s);
        return -1;
    }
    ready_init(&s->ready);
    for (; s->thread_count < SERVICE_THREADS; s->thread_count++)
    {
        if (service_start_worker(s, &s->workers[s->thread_count], err) < 0)
        {
            service_free(s);
            return -1;
        }
    }
    *out = s;
    return 0;
}

void
service_free(Service *s)
{
    if (s == NULL)
        return;
    atomic_store(&s->stop, true);
    for (unsigned i = 0; i < s->thread_count; i++)
    {
        (void) pthread_join(s->workers[i]->thread, NULL);
        service_free_worker(s->workers[i]);
    }
    (void) unlink(s->options.socket_path);
    fd_close(&s->listen_fd);
    ready_destroy(&s->ready);
    free(s);
}
