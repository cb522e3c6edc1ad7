/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Receiving WAL; see receiver.h.
 *
 * The flush position told to the server is ledger.durable and nothing else, and never beyond what
 * was received on this connection and is known to be the same WAL (assembly_confirmed). So it is 0
 * at no time (a synchronous standby must not be), it never runs ahead of the repository, and after
 * a new start the slot keeps what has to be sent again. With [stream] synchronous the write
 * position is the flush position too: a commit at synchronous_commit = remote_write waits for the
 * former, and this process's memory, which is all that has "written" it, dies with the host.
 *
 * The socket is read as long as there is memory. When there is none for STALL_MS the copy is ended
 * in order: a socket left unread has kept a server's checkpointer waiting on the slot.
 */
#include "walstream/receiver.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/log.h"
#include "pg/replmsg.h"

#define CONNECT_MS 30000
#define PLAN_MS 120000
#define STATUS_EVERY_MS 10000      /* status updates, with a request to answer */
#define REPLY_UNCHANGED_MS 1000    /* between answers to "reply now" when nothing has moved */
#define SILENCE_MS 60000           /* without any message from the server: it is gone */
#define STALL_MS 2000              /* without memory before the stream is closed */
#define STOP_DRAIN_MS 10000        /* for the last pieces when we are told to stop */
#define SHUTDOWN_PATIENCE_MS 10000 /* how long a stopping server waits for an upload */
#define CATCH_UP_SILENCE_MS                                                                        \
    200 /* the server is not sending, although it has more: do not wait for it */
#define CATCH_UP_WAIT_MS 5000 /* the longest that catching up may hold a piece back */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 5000
#define BACKOFF_CONFLICT_MS 30000
#define STEADY_MS 10000 /* a connection that lasted so long starts the back-off anew */
#define LOG_AGAIN_MS 60000

struct Receiver
{
    ReceiverOptions options;
    Assembly *assembly;
    ResumeMemory memory;
    int wake_fd;
    atomic_bool stop;
    _Atomic(const Config *) config;
    _Atomic int64_t alive_ms;
    const Config *config_seen;

    int64_t stop_by_ms; /* monotonic, once we were told to stop; 0 not noticed yet */

    /* of the running connection; receiving thread only */
    Source source;
    TimelineId tli;
    Lsn server_end;
    Lsn told_write, told_flush;
    int64_t told_ms;
    int64_t heard_ms;
    bool heard; /* a message has come since START_REPLICATION: the server has that WAL */
    bool reply_wanted;
    Lsn stop_lsn;           /* received when we were told to stop, or reached endpos */
    unsigned shutdown_asks; /* "reply now" in quick succession, with all WAL sent */
    int64_t shutdown_ms;

    pthread_mutex_t lock; /* guards status */
    ReceiverStatus status;
};

const char *
receiver_state_name(ReceiverState state)
{
    static const char *const names[] = {
        [RECEIVER_CONNECTING] = "connecting", [RECEIVER_STREAMING] = "streaming",
        [RECEIVER_STALLED] = "stalled",       [RECEIVER_DRAINING] = "draining",
        [RECEIVER_WAITING] = "waiting",       [RECEIVER_STOPPED] = "stopped"};

    return names[state];
}

/* ---- life ---- */

int
receiver_new(const ReceiverOptions *options, Receiver **out, Error *err)
{
    AUTO(receiver_freep) Receiver *r = calloc(1, sizeof *r);
    AssemblyOptions assembly = {
        .repo = options->repo,
        .pool = options->pool,
        .uploader = options->uploader,
        .ledger = options->ledger,
        .streamed = options->streamed,
        .counters = options->counters};

    if (r == NULL)
        return error_nomem(err);
    r->options = *options;
    (void) pthread_mutex_init(&r->lock, NULL);
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (r->wake_fd < 0)
        return error_sys(err, "could not make an event descriptor");
    if (assembly_new(&assembly, &r->assembly, err) < 0)
        return -1;
    *out = steal(r);
    return 0;
}

void
receiver_free(Receiver *r)
{
    if (r == NULL)
        return;
    source_close(&r->source);
    assembly_free(r->assembly);
    resume_memory_reset(&r->memory);
    fd_close(&r->wake_fd);
    (void) pthread_mutex_destroy(&r->lock);
    free(r);
}

void
receiver_wake(Receiver *r)
{
    uint64_t one = 1;
    int saved = errno;

    /* full means it is awake already */
    if (write(r->wake_fd, &one, sizeof one) < 0)
        errno = saved;
}

void
receiver_stop(Receiver *r)
{
    atomic_store(&r->stop, true);
    receiver_wake(r);
}

void
receiver_set_config(Receiver *r, const Config *cfg)
{
    atomic_store(&r->config, cfg);
    receiver_wake(r);
}

ReceiverStatus
receiver_status(Receiver *r)
{
    ReceiverStatus status;

    (void) pthread_mutex_lock(&r->lock);
    status = r->status;
    (void) pthread_mutex_unlock(&r->lock);
    return status;
}

static void
receiver_set_state(Receiver *r, ReceiverState state)
{
    bool changed;

    (void) pthread_mutex_lock(&r->lock);
    changed = r->status.state != state || r->status.state_since_us == 0;
    r->status.state = state;
    if (changed)
        r->status.state_since_us = clock_wall_us();
    (void) pthread_mutex_unlock(&r->lock);
    if (changed && r->options.state_changed != NULL)
        r->options.state_changed(r->options.state_ctx, state);
}

static void
receiver_publish(Receiver *r)
{
    (void) pthread_mutex_lock(&r->lock);
    r->status.tli = r->tli;
    r->status.received = assembly_position(r->assembly);
    r->status.server_end = r->server_end;
    r->status.waiting_bytes = assembly_waiting_bytes(r->assembly, &r->status.waiting_since_us);
    (void) pthread_mutex_unlock(&r->lock);
}

int64_t
receiver_alive_ms(Receiver *r)
{
    return atomic_load(&r->alive_ms);
}

/* The pace follows a reload at once; what else changed counts from the next connection. */
static const Config *
receiver_config(Receiver *r)
{
    const Config *cfg = atomic_load(&r->config);

    atomic_store(&r->alive_ms, clock_monotonic_ms());

    if (cfg != r->config_seen)
    {
        r->config_seen = cfg;
        assembly_set_pace(
            r->assembly, cfg->stream.flush_interval_ms, cfg->stream.synchronous,
            cfg->stream.max_put_rate);
    }
    return cfg;
}

static void
receiver_clear_wake(Receiver *r)
{
    uint64_t count;

    while (read(r->wake_fd, &count, sizeof count) > 0)
        continue;
}

/* ---- talking to the server ---- */

/* What the server may know now. */
static void
receiver_positions(const Receiver *r, Lsn *write, Lsn *flush)
{
    Lsn received = assembly_position(r->assembly);

    /*
     * The server may still answer that the WAL is not there any more. A slot set back to there
     * would be lost at the next checkpoint, the new one for a lost one too: 0 moves nothing.
     */
    *flush = r->heard
                 ? MIN(ledger_position(r->options.ledger).durable, assembly_confirmed(r->assembly))
                 : LSN_INVALID;
    *write = r->config_seen->stream.synchronous ? *flush : received;
}

static int
receiver_send_status(Receiver *r, bool ask, Error *err)
{
    Lsn write_lsn, flush_lsn;

    receiver_positions(r, &write_lsn, &flush_lsn);

    uint8_t message[REPLMSG_STATUS_BYTES];
    ReplStatus status = {
        .write = write_lsn,
        .flush = flush_lsn,
        .apply = LSN_INVALID, /* nothing is replayed here: remote_apply must not be satisfied */
        .wall_us = clock_wall_us(),
        .reply_now = ask};

    replmsg_format_status(&status, message);
    if (PQputCopyData(r->source.conn, (const char *) message, sizeof message) <= 0 ||
        PQflush(r->source.conn) < 0)
        return source_error(&r->source, NULL, "could not send the status", err);
    r->told_write = status.write;
    r->told_flush = status.flush;
    r->told_ms = clock_monotonic_ms();
    r->reply_wanted = false;
    return 0;
}

/* Sends what the server should know by now. */
static int
receiver_send_status_if_due(Receiver *r, Error *err)
{
    int64_t since = clock_monotonic_ms() - r->told_ms;
    Lsn write_lsn, flush_lsn;

    receiver_positions(r, &write_lsn, &flush_lsn);
    if (since >= STATUS_EVERY_MS)
        return receiver_send_status(r, true, err);
    if (flush_lsn != r->told_flush)
        return receiver_send_status(r, false, err);
    if (r->reply_wanted && (write_lsn != r->told_write || since >= REPLY_UNCHANGED_MS))
        return receiver_send_status(r, false, err);
    return 0;
}

/*
 * The server asks for an answer: because time passed, or because it shuts down and waits until
 * flush is all it sent. In both cases what is here goes out now.
 */
static int
receiver_reply_asked(Receiver *r, Error *err)
{
    Lsn position = assembly_position(r->assembly);

    r->reply_wanted = true;
    if (r->server_end > position)
        return 0;
    if (r->told_flush < position && clock_monotonic_ms() - r->told_ms < 5000)
        r->shutdown_asks++;
    if (r->shutdown_asks == 3)
    {
        r->shutdown_ms = clock_monotonic_ms();
        log_write(LOG_INFO, "the server is shutting down, storing what it sent");
    }
    return assembly_cut(r->assembly, err);
}

/* When the last pieces must be stored (monotonic); INT64_MAX: nobody has told us to stop. */
static int64_t
receiver_stop_by_ms(Receiver *r)
{
    if (!atomic_load(&r->stop))
        return INT64_MAX;
    if (r->stop_by_ms == 0)
        r->stop_by_ms = clock_monotonic_ms() + STOP_DRAIN_MS;
    return r->stop_by_ms;
}

/* ---- one connection ---- */

typedef enum SessionEnd
{
    SESSION_ENDED,   /* the server ended the stream, of this timeline or altogether */
    SESSION_STALLED, /* no memory: go on when there is room */
    SESSION_DONE     /* stop, or endpos is durable */
} SessionEnd;

/* Waits until the memory has room for more, at most STALL_MS; tells the server meanwhile. */
static int
receiver_wait_room(Receiver *r, bool *room, Error *err)
{
    int64_t until = clock_monotonic_ms() + STALL_MS;

    *room = false;
    while (!atomic_load(&r->stop) && clock_monotonic_ms() < until)
    {
        struct pollfd p = {.fd = r->wake_fd, .events = POLLIN};

        if (chunk_pool_in_use(r->options.pool) < chunk_pool_limit(r->options.pool))
        {
            *room = true;
            return 0;
        }
        if (!uploader_drop_background(r->options.uploader))
            (void) poll(&p, 1, 100);
        receiver_clear_wake(r);
        if (assembly_cut_if_due(r->assembly, err) < 0 || receiver_send_status_if_due(r, err) < 0)
            return -1;
    }
    return 0;
}

/* The server has what was asked for. */
static void
receiver_first_word(Receiver *r)
{
    char start[LSN_TEXT_BYTES], durable[LSN_TEXT_BYTES];

    r->heard = true;
    log_write(
        LOG_INFO, "streaming timeline %u from %s, durable up to %s", r->tli,
        lsn_format(assembly_position(r->assembly), start, sizeof start),
        lsn_format(ledger_position(r->options.ledger).durable, durable, sizeof durable));
    counter_add(&r->options.counters->connections, 1);
    receiver_set_state(r, RECEIVER_STREAMING);
}

/* One CopyData message. *stalled: the memory is full, the rest of the message was not taken. */
static int
receiver_take_message(Receiver *r, const char *data, size_t len, bool *stalled, Error *err)
{
    ReplMsg msg;

    r->heard_ms = clock_monotonic_ms();
    if (!r->heard)
        receiver_first_word(r);
    if (replmsg_parse(data, len, &msg, err) < 0)
        return error_wrap(err, "could not receive WAL");
    r->server_end = MAX(r->server_end, msg.server_end);
    if (msg.kind == REPLMSG_KEEPALIVE)
        return msg.reply_now ? receiver_reply_asked(r, err) : 0;

    r->shutdown_asks = 0;
    for (size_t done = 0; done < msg.len;)
    {
        size_t taken;
        bool room;

        if (assembly_write(
                r->assembly, msg.start + done, msg.data + done, msg.len - done, &taken, err) < 0)
            return -1;
        done += taken;
        if (done == msg.len)
            break;
        if (receiver_wait_room(r, &room, err) < 0)
            return -1;
        if (!room)
        {
            *stalled = true;
            return 0;
        }
    }
    return 0;
}

/*
 * The server has more than the rest of this part ready, and is sending it: the part will be whole
 * in a moment, and is cheaper to store than pieces of it.
 */
static bool
receiver_catching_up(const Receiver *r)
{
    int64_t since_us;

    return r->server_end >
               assembly_position(r->assembly) + r->options.repo->description.part_bytes &&
           clock_monotonic_ms() - r->heard_ms < CATCH_UP_SILENCE_MS &&
           assembly_waiting_bytes(r->assembly, &since_us) > 0 &&
           clock_monotonic_us() - since_us < CATCH_UP_WAIT_MS * (int64_t) 1000;
}

/*
 * As many uploads at once as there are workers; the bytes in between gather. More pieces would only
 * wait for a worker, and a store that is slower than flush-interval would never catch up with them.
 */
static bool
receiver_cut_wanted(const Receiver *r)
{
    return ledger_position(r->options.ledger).open < r->options.workers && !receiver_catching_up(r);
}

static bool
receiver_endpos_reached(const Receiver *r)
{
    return r->options.endpos != LSN_INVALID && assembly_position(r->assembly) >= r->options.endpos;
}

/*
 * Everything that is not a message: pieces that are due, the status, time running out. *done: we
 * were told to stop, or have reached endpos, and all is stored.
 */
static int
receiver_housekeeping(Receiver *r, int64_t *stop_ms, bool *done, Error *err)
{
    int64_t now = clock_monotonic_ms();

    if (uploader_failure(r->options.uploader, true, err))
        return -1;
    if (receiver_cut_wanted(r) && assembly_cut_if_due(r->assembly, err) < 0)
        return -1;
    if (atomic_load(&r->stop) || receiver_endpos_reached(r))
    {
        if (*stop_ms == 0)
        {
            *stop_ms = now;
            r->stop_lsn = assembly_position(r->assembly);
            if (assembly_cut(r->assembly, err) < 0)
                return -1;
        }
        /* not "nothing is open": a server under load sends more all the time */
        *done = ledger_position(r->options.ledger).durable >= r->stop_lsn ||
                now >= receiver_stop_by_ms(r);
    }
    if (receiver_send_status_if_due(r, err) < 0)
        return -1;
    if (now - r->heard_ms > SILENCE_MS)
        return error_set(
            err, ERROR_TRANSIENT, "no word from the server for %d seconds", SILENCE_MS / 1000);
    if (r->shutdown_asks >= 3 && (now - r->shutdown_ms > SHUTDOWN_PATIENCE_MS ||
                                  uploader_state(r->options.uploader).failing ||
                                  assembly_confirmed(r->assembly) < assembly_position(r->assembly)))
        return error_set(
            err, ERROR_TRANSIENT,
            "the server shuts down and what it sent cannot be stored now: letting it go, the slot "
            "keeps the WAL");
    return 0;
}

static int64_t
receiver_wait_ms(const Receiver *r, int64_t stop_ms)
{
    int64_t now = clock_monotonic_ms();
    int64_t wait = r->told_ms + STATUS_EVERY_MS - now;

    if (receiver_cut_wanted(r))
        wait = MIN(wait, assembly_next_cut_ms(r->assembly) - now);
    if (r->reply_wanted)
        wait = MIN(wait, r->told_ms + REPLY_UNCHANGED_MS - now);
    if (stop_ms != 0)
        wait = MIN(wait, 100);
    return MAX(MIN(wait, 1000), 0);
}

/* The copy phase, from the answer to START_REPLICATION to its end. */
static int
receiver_stream(Receiver *r, SessionEnd *end, Error *err)
{
    int64_t stop_ms = 0;
    bool done = false;

    r->told_ms = r->heard_ms = clock_monotonic_ms();
    r->told_flush = r->told_write = LSN_INVALID;
    r->shutdown_asks = 0;
    r->heard = false;
    if (receiver_send_status(r, true, err) < 0) /* the answer is the first message, at the latest */
        return -1;
    for (;;)
    {
        /* what comes after we were told to stop is not taken: uploads of it would have no end */
        bool stopping = stop_ms != 0 && atomic_load(&r->stop);
        char *data = NULL;
        bool stalled = false;
        int n = stopping ? 0 : PQgetCopyData(r->source.conn, &data, 1);
        int rc = 0;

        if (n > 0)
        {
            rc = receiver_take_message(r, data, (size_t) n, &stalled, err);
            PQfreemem(data);
        }
        if (rc < 0)
            return -1;
        if (n == -1)
        {
            *end = SESSION_ENDED;
            return 0;
        }
        if (n == -2)
            return source_error(&r->source, NULL, "could not receive WAL", err);
        (void) receiver_config(r);
        if (receiver_housekeeping(r, &stop_ms, &done, err) < 0)
            return -1;
        receiver_publish(r);
        if (done || stalled)
        {
            *end = done ? SESSION_DONE : SESSION_STALLED;
            return 0;
        }
        if (n > 0)
            continue;
        if (stopping)
        {
            struct pollfd p = {.fd = r->wake_fd, .events = POLLIN};

            (void) poll(&p, 1, (int) receiver_wait_ms(r, stop_ms));
        }
        else
            source_wait(&r->source, r->wake_fd, receiver_wait_ms(r, stop_ms));
        receiver_clear_wake(r);
        if (!stopping && PQconsumeInput(r->source.conn) == 0)
            return source_error(&r->source, NULL, "could not receive WAL", err);
        if (PQflush(r->source.conn) < 0)
            return source_error(&r->source, NULL, "could not send the status", err);
    }
}

/* Begins the copy at point; NOT_FOUND when the server has that WAL no more. */
static int
receiver_stream_from(
    Receiver *r, const ResumePoint *point, const Deadline *dl, SessionEnd *end, Error *err)
{
    AUTO(free_text) char *memory = NULL;
    KnownPiece *known;
    size_t known_count;
    uint32_t segment_bytes = r->options.repo->description.segment_bytes;
    Lsn segment = wal_segment_start(wal_segment_of(point->start, segment_bytes), segment_bytes);
    /* what was seen of this part itself: uploads that ran side by side may have left a hole in it
     */
    Lsn durable = point->start;
    bool streaming;

    if (resume_read_known(r->options.repo, point, dl, &known, &known_count, err) < 0)
        return -1;
    memory = (char *) known;
    for (size_t i = 0; i < known_count; i++)
        durable = MAX(durable, segment + known[i].extent.end);
    ledger_restart(r->options.ledger, point->tli, durable);
    if (assembly_begin(r->assembly, point->tli, point->start, known, known_count, err) < 0)
        return -1;
    r->tli = point->tli;
    receiver_publish(r);
    if (source_start(
            &r->source, receiver_config(r)->stream.slot, point->tli, point->start, dl, &streaming,
            err) < 0)
        return -1;
    *end = SESSION_ENDED;
    if (!streaming)
        return 0;
    if (PQsetnonblocking(r->source.conn, 1) < 0)
        return source_error(&r->source, NULL, "could not set the connection up", err);

    int rc = receiver_stream(r, end, err);

    if (rc < 0)
        return -1;
    if (*end != SESSION_ENDED)
    {
        Deadline soon = deadline_after_ms(5000, NULL);
        Error ignored;

        /* the last word: what has become durable; then the copy is ended in order */
        if (receiver_send_status(r, false, &ignored) == 0 &&
            PQputCopyEnd(r->source.conn, NULL) > 0 && PQflush(r->source.conn) >= 0)
            rc = source_finish_copy(&r->source, &soon, &ignored);
        return 0;
    }
    (void) PQsetnonblocking(r->source.conn, 0);

    Deadline soon = deadline_after_ms(CONNECT_MS, &r->stop);

    return source_finish_copy(&r->source, &soon, err);
}

/* A server that is behind what the repository holds is a lagging replica, or has lost WAL. */
static int
receiver_check_server_not_behind(Receiver *r, const ResumePoint *point, Error *err)
{
    char theirs[LSN_TEXT_BYTES], ours[LSN_TEXT_BYTES];

    if (r->source.info.flush >= point->start)
    {
        if (r->source.info.flush < point->durable)
            log_write(
                LOG_WARNING,
                "the server has WAL of timeline %u up to %s, the repository up to %s: nothing is "
                "reported to the server as stored until it has sent the same WAL up to there",
                point->tli, lsn_format(r->source.info.flush, theirs, sizeof theirs),
                lsn_format(point->durable, ours, sizeof ours));
        return 0;
    }
    return error_set(
        err, ERROR_TRANSIENT,
        "the server has WAL of timeline %u up to %s only, the repository up to %s: waiting for it; "
        "if it "
        "is no replica catching up, it has lost commits that exist only in the repository",
        point->tli, lsn_format(r->source.info.flush, theirs, sizeof theirs),
        lsn_format(point->durable, ours, sizeof ours));
}

static void
receiver_report_gap(Receiver *r, const ResumePoint *point, const Deadline *dl)
{
    char from[LSN_TEXT_BYTES], to[LSN_TEXT_BYTES];
    Error err;

    if (!resume_gap_is_news(&r->memory, point))
        return;
    log_write(
        LOG_ERROR,
        "WAL is missing: the server no longer has timeline %u from %s to %s, and the repository "
        "does not "
        "have it; recovery cannot cross it unless archive_command fills it. Take a new base backup",
        point->gap_tli, lsn_format(point->gap_start, from, sizeof from),
        lsn_format(point->gap_end, to, sizeof to));
    counter_add(&r->options.counters->gaps_recorded, 1);
    if (resume_record_gap(
            r->options.repo, point, "the server had removed the WAL before it was streamed", dl,
            &err) < 0)
        log_error(LOG_ERROR, &err);
}

static int
receiver_session(Receiver *r, SessionEnd *end, Error *err)
{
    const Config *cfg = receiver_config(r);
    Deadline dl = deadline_after_ms(CONNECT_MS, &r->stop);
    AUTO(resume_plan_reset) ResumePlan plan = {0};

    receiver_set_state(r, RECEIVER_CONNECTING);
    if (source_connect(cfg->cluster.conninfo, &dl, &r->source, err) < 0)
        return -1;
    dl = deadline_after_ms(PLAN_MS, &r->stop);
    if (resume_make_plan(
            r->options.repo, &r->source, cfg->cluster.conninfo, cfg->stream.slot, &r->memory, &dl,
            &plan, err) < 0)
        return -1;
    r->server_end = r->source.info.flush;
    (void) pthread_mutex_lock(&r->lock);
    r->status.slot = plan.slot;
    r->status.server_version = r->source.info.version;
    (void) source_describe(cfg->cluster.conninfo, r->status.server, sizeof r->status.server);
    (void) pthread_mutex_unlock(&r->lock);

    for (size_t i = 0; i < plan.count; i++)
    {
        const ResumePoint *point = &plan.points[i];

        if (receiver_check_server_not_behind(r, point, err) < 0)
            return -1;
        if (i > 0)
            receiver_report_gap(r, point, &dl);
        if (receiver_stream_from(r, point, &dl, end, err) == 0)
            return 0;
        /* that WAL is gone: only then the next place, and the gap between them is reported there */
        if (err->kind != ERROR_NOT_FOUND || i + 1 == plan.count ||
            assembly_position(r->assembly) != point->start)
            return -1;
        log_write(LOG_WARNING, "%s", err->msg);
    }
    return -1; /* not reached: a plan has at least one point */
}

/* ---- between connections ---- */

/* Stores what was received; false when we are told to stop before that is done. */
static bool
receiver_drain(Receiver *r)
{
    Deadline dl = deadline_after_ms(-1, NULL);
    Error err;

    receiver_set_state(r, RECEIVER_DRAINING);
    if (assembly_cut(r->assembly, &err) < 0)
        log_error(LOG_WARNING, &err);
    receiver_publish(r);
    while (ledger_position(r->options.ledger).open > 0)
    {
        Deadline slice;

        dl.at_ms = receiver_stop_by_ms(r);
        slice = deadline_sooner(&dl, 200);
        /*
         * After a failure the ledger cannot become empty; the repository tells where to go on. The
         * ledger knows of it also when the failure ended the stream and was taken note of there.
         */
        if (uploader_failure(r->options.uploader, true, &err) ||
            ledger_position(r->options.ledger).failed)
            break;
        (void) receiver_config(r);
        if (deadline_left_ms(&dl) == 0)
        {
            log_write(LOG_WARNING, "stopping with WAL received but not stored; the slot keeps it");
            break;
        }
        if (ledger_wait_empty(r->options.ledger, &slice, &err) == 0)
            break;
    }
    assembly_end(r->assembly);
    (void) pthread_mutex_lock(&r->lock);
    r->status.waiting_bytes = 0;
    r->status.waiting_since_us = 0;
    (void) pthread_mutex_unlock(&r->lock);
    return !atomic_load(&r->stop);
}

static void
receiver_back_off(Receiver *r, int64_t ms)
{
    Deadline dl = deadline_after_ms(ms, &r->stop);

    receiver_set_state(r, RECEIVER_WAITING);
    while (deadline_left_ms(&dl) > 0)
    {
        struct pollfd p = {.fd = r->wake_fd, .events = POLLIN};

        (void) poll(&p, 1, (int) MIN(deadline_left_ms(&dl), 1000));
        receiver_clear_wake(r);
        (void) receiver_config(r);
    }
}

int
receiver_run(Receiver *r, Error *err)
{
    int64_t backoff_ms = BACKOFF_FIRST_MS;
    int64_t logged_ms = 0;
    char logged[sizeof err->msg] = "";

    while (!atomic_load(&r->stop))
    {
        SessionEnd end = SESSION_ENDED;
        int64_t began = clock_monotonic_ms();
        int rc = receiver_session(r, &end, err);

        source_close(&r->source);
        if (rc < 0 && err->kind == ERROR_USAGE)
            return -1;
        if (rc < 0 && err->kind != ERROR_CANCELED)
        {
            uploader_note_error(r->options.uploader, err);
            /* the same again is said once a minute */
            if (strcmp(logged, err->msg) != 0 || clock_monotonic_ms() - logged_ms > LOG_AGAIN_MS)
            {
                log_error(err->kind == ERROR_CONFLICT ? LOG_ERROR : LOG_WARNING, err);
                (void) snprintf(logged, sizeof logged, "%s", err->msg);
                logged_ms = clock_monotonic_ms();
            }
        }
        else
            logged[0] = '\0';
        if (end == SESSION_STALLED)
        {
            counter_add(&r->options.counters->stream_stalls, 1);
            log_write(
                LOG_WARNING,
                "the buffers are full: the stream is closed until they have been stored, the "
                "slot keeps the WAL on the server");
        }
        if (!receiver_drain(r) || end == SESSION_DONE)
            break;
        if (clock_monotonic_ms() - began > STEADY_MS || end == SESSION_STALLED)
            backoff_ms = BACKOFF_FIRST_MS;
        receiver_back_off(
            r, rc < 0 && err->kind == ERROR_CONFLICT ? BACKOFF_CONFLICT_MS : backoff_ms);
        backoff_ms = MIN(backoff_ms * 2, BACKOFF_MAX_MS);
    }
    receiver_set_state(r, RECEIVER_STOPPED);
    return 0;
}
