/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walstream: receives WAL by streaming replication and puts it into the repository.
 *
 *   server --replication--> receiver (main thread)
 *                             | bytes into the open part (assembly), cut by time or when full
 *                             v
 *                          queues by urgency --> workers: compress, encrypt, store
 *                             ^                     |
 *   walpush --socket--> service threads             v
 *                             |                  ledger: durable LSN = gap-free prefix
 *                             v                     |
 *                          status                   +--> receiver tells the server: flush
 *
 *   signal thread: SIGTERM and SIGINT stop, SIGHUP reloads; also feeds the watchdog
 *
 * Memory: [stream] memory is split between received WAL and objects being made of it
 * (stream_split_memory); all of it is in two chunk pools.
 */
#include <errno.h>
#include <libgen.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cli.h"
#include "common/fs.h"
#include "common/localsock.h"
#include "common/log.h"
#include "common/protocol.h"
#include "walstream/notify.h"
#include "walstream/service.h"

#define STREAM_CHUNK_BYTES (256 * 1024)
#define STREAM_OPEN_MS 60000
#define STREAM_UPLOADS_GRACE_MS 5000
#define STREAM_RETRY_MAX_MS 10000
#define STREAM_LOG_AGAIN_MS 60000
#define STREAM_ALIVE_MS 180000 /* the receiver's longest wait is for a plan, two minutes */

static const CliOption stream_options[] = {
    {"endpos", 0, "LSN", "Stop when WAL up to this position is durable in the repository."},
    {"status", 's', NULL, "Print the status of the running walstream as JSON."},
};

static const char *const stream_usages[] = {"[OPTION]...", "--status", NULL};

static const CliSpec stream_cli = {
    .name = "walstream",
    .summary = "Receives WAL by streaming replication and puts it into the repository.",
    .usages = stream_usages,
    .options = stream_options,
    .option_count = ARRAY_COUNT(stream_options),
};

/* Everything that lives as long as the program runs. */
typedef struct Stream
{
    CliResult cli;
    Config *cfg;      /* replaced by the signal thread once there is a receiver */
    Config **retired; /* those before a reload: another thread may still look at them */
    size_t retired_count;
    Repository *repo;
    ChunkPool *receive_pool;
    ChunkPool *output_pool;
    unsigned workers;
    Counters counters;
    Streamed streamed;
    Ledger ledger;
    Uploader *uploader;
    _Atomic(Receiver *) receiver;
    Service *service;
    Notify notify;
    pthread_t signal_thread;
    atomic_bool ended;
    atomic_bool stop; /* before there is a receiver to stop */
    sigset_t signals;
} Stream;

/* ---- status ---- */

static int
stream_print_status(const Config *cfg, Error *err)
{
    AUTO(fd_close) int sock = -1;
    AUTO(free_text) char *text = malloc(LOCALSOCK_MESSAGE_MAX);
    Deadline dl = deadline_after_ms(5000, NULL);
    size_t len, fd_count;

    if (text == NULL)
        return error_nomem(err);
    if (localsock_connect(cfg->stream.socket, &dl, &sock, err) < 0)
    {
        if (err->kind == ERROR_NOT_FOUND)
            (void) error_hint(err, "walstream does not run, or with another [stream] socket.");
        return -1;
    }
    if (localsock_send(
            sock, "STATUS " PROTOCOL_VERSION, strlen("STATUS " PROTOCOL_VERSION), NULL, 0, &dl,
            err) < 0 ||
        localsock_receive(sock, text, LOCALSOCK_MESSAGE_MAX, &len, NULL, 0, &fd_count, &dl, err) <
            0)
        return error_wrap(err, "could not ask walstream");
    if (len == 0 || puts(text) < 0 || fflush(stdout) != 0)
        return error_set(err, ERROR_IO, "could not print the status");
    return 0;
}

/* ---- set-up ---- */

/*
 * Half for received WAL, half for objects, each at least one part and its overhead. The object
 * memory decides how many whole parts are in the making at once, whatever the number of workers.
 */
static int
stream_split_memory(Stream *s, Error *err)
{
    uint64_t part = s->repo->description.part_bytes;
    uint64_t output_min = uploader_output_bytes(part) + STREAM_CHUNK_BYTES;
    uint64_t receive_min = part + (uint64_t) 4 * STREAM_CHUNK_BYTES;
    uint64_t memory = s->cfg->stream.memory_bytes;
    uint64_t output = MAX(output_min, memory / 2);

    if (memory < output_min + receive_min)
    {
        (void) error_set(
            err, ERROR_USAGE, "[stream] memory is too small for segments of %u bytes",
            s->repo->description.segment_bytes);
        return error_hint(
            err, "Set it to %lluMiB or more.",
            (unsigned long long) ((output_min + receive_min) / (1024 * 1024) + 1));
    }
    /* two whole parts at once need a little more than half of the default 64 MiB */
    if (output < 2 * output_min && memory >= 2 * output_min + receive_min &&
        2 * output_min - output <= (uint64_t) 2 * 1024 * 1024)
        output = 2 * output_min;
    if (memory - output < receive_min)
        output = memory - receive_min;
    if (chunk_pool_new(STREAM_CHUNK_BYTES, output / STREAM_CHUNK_BYTES, &s->output_pool, err) < 0 ||
        chunk_pool_new(
            STREAM_CHUNK_BYTES, (memory - output) / STREAM_CHUNK_BYTES, &s->receive_pool, err) < 0)
        return -1;
    return 0;
}

/* The system identifier comes from the server; the repository is opened with it. */
static int
stream_open_repository(Stream *s, Error *err)
{
    AUTO(source_close) Source source = {0};
    Deadline dl = deadline_after_ms(STREAM_OPEN_MS, &s->stop);
    RepositoryOptions options = {0};

    if (source_connect(s->cfg->cluster.conninfo, &dl, &source, err) < 0)
        return -1;
    options.system_identifier = source.info.system_identifier;
    return repository_open(s->cfg, &options, &dl, &s->repo, err);
}

/* A service that starts before its server or its store waits for them; what cannot come right ends
 * it. */
static int
stream_wait_repository(Stream *s, Error *err)
{
    int64_t wait_ms = 500;
    int64_t said_ms = 0;
    char said[sizeof err->msg] = "";

    while (stream_open_repository(s, err) < 0)
    {
        Deadline dl = deadline_after_ms(wait_ms, &s->stop);

        if (err->kind != ERROR_TRANSIENT && err->kind != ERROR_TIMEOUT && err->kind != ERROR_IO)
            return -1;
        /* the same again is said once a minute */
        if (strcmp(said, err->msg) != 0 || clock_monotonic_ms() - said_ms > STREAM_LOG_AGAIN_MS)
        {
            log_error(LOG_WARNING, err);
            (void) snprintf(said, sizeof said, "%s", err->msg);
            said_ms = clock_monotonic_ms();
        }
        notify_status(&s->notify, err->msg);
        deadline_sleep_ms(&dl, wait_ms);
        if (atomic_load(&s->stop))
            return error_set(err, ERROR_CANCELED, "stopped");
        wait_ms = MIN(wait_ms * 2, STREAM_RETRY_MAX_MS);
    }
    return 0;
}

static void
stream_wake(void *ctx)
{
    Stream *s = ctx;

    if (s->receiver != NULL)
        receiver_wake(s->receiver);
}

static void
stream_state_changed(void *ctx, ReceiverState state)
{
    Stream *s = ctx;

    if (state == RECEIVER_STREAMING)
        notify_ready(&s->notify);
    if (state == RECEIVER_STOPPED)
        notify_stopping(&s->notify);
}

/* The folder of the socket, if it is missing: /run is empty after a boot. */
static int
stream_make_socket_dir(const char *socket_path, Error *err)
{
    AUTO(free_text) char *copy = strdup(socket_path);

    if (copy == NULL)
        return error_nomem(err);
    if (fs_make_dirs(dirname(copy), 0755, false, err) < 0)
        return error_wrap(err, "could not make the folder of [stream] socket");
    return 0;
}

static int
stream_set_up(Stream *s, Lsn endpos, Error *err)
{
    const Config *cfg = s->cfg; /* s->cfg may change as soon as there is a receiver */

    if (!source_slot_name_valid(cfg->stream.slot))
        return error_set(
            err, ERROR_USAGE, "[stream] slot \"%s\" is not a slot name: a-z, 0-9 and _",
            cfg->stream.slot);
    if (stream_wait_repository(s, err) < 0 || stream_split_memory(s, err) < 0)
        return -1;
    s->repo->pool = s->output_pool;
    s->workers = (unsigned) cfg->stream.workers;

    UploaderOptions uploader = {
        .repo = s->repo,
        .ledger = &s->ledger,
        .streamed = &s->streamed,
        .counters = &s->counters,
        .workers = s->workers,
        .room = stream_wake,
        .room_ctx = s};
    ReceiverOptions receiver = {
        .repo = s->repo,
        .pool = s->receive_pool,
        .ledger = &s->ledger,
        .streamed = &s->streamed,
        .counters = &s->counters,
        .endpos = endpos,
        .workers = s->workers,
        .state_changed = stream_state_changed,
        .state_ctx = s};

    if (uploader_new(&uploader, &s->uploader, err) < 0)
        return -1;
    receiver.uploader = s->uploader;

    Receiver *made;

    if (receiver_new(&receiver, &made, err) < 0)
        return -1;
    receiver_set_config(made, cfg);
    s->receiver = made;
    if (atomic_load(&s->stop))
        receiver_stop(made);

    ServiceOptions service = {
        .socket_path = cfg->stream.socket,
        .cluster = cfg->cluster.name,
        .url = cfg->repository.url,
        .repo = s->repo,
        .uploader = s->uploader,
        .ledger = &s->ledger,
        .streamed = &s->streamed,
        .counters = &s->counters,
        .receiver = s->receiver,
        .workers = s->workers,
        .started_us = clock_wall_us()};

    if (cfg->stream.socket[0] == '\0')
        return 0;
    if (stream_make_socket_dir(cfg->stream.socket, err) < 0)
        return -1;
    return service_new(&service, &s->service, err);
}

/* ---- signals ---- */

/*
 * What may change while running is in the table of options (config.h, reloadable). The old
 * configuration is kept to the end: other threads may be reading it.
 */
static void
stream_reload(Stream *s)
{
    Config *fresh;
    Config **grown;
    Error err;

    if (s->receiver == NULL)
    {
        log_write(LOG_WARNING, "not reloading the configuration while starting");
        return;
    }
    grown = reallocarray(s->retired, s->retired_count + 1, sizeof(Config *));
    if (grown == NULL)
    {
        log_write(LOG_ERROR, "could not reload the configuration: out of memory");
        return;
    }
    s->retired = grown;
    if (config_load(s->cli.config_file, &s->cli.overrides, &fresh, &err) < 0)
    {
        (void) error_wrap(&err, "could not reload the configuration, going on with the old one");
        log_error(LOG_ERROR, &err);
        return;
    }
    for (size_t i = 0; i < config_option_count; i++)
    {
        const ConfigOption *option = &config_options[i];
        const char *source;
        const char *was = config_value(s->cfg, option, 0, &source);
        const char *is = config_value(fresh, option, 0, &source);

        if (!option->reloadable && strcmp(was != NULL ? was : "", is != NULL ? is : "") != 0)
            log_write(
                LOG_WARNING, "[%s] %s takes effect when walstream is restarted", option->section,
                option->key);
    }
    s->retired[s->retired_count++] = s->cfg;
    s->cfg = fresh;
    receiver_set_config(s->receiver, fresh);
    log_write(LOG_INFO, "configuration reloaded");
}

/* One line for `systemctl status`, and a sign of life for the watchdog. */
static void
stream_tell_manager(Stream *s)
{
    Receiver *running = s->receiver;
    ReceiverStatus receiver;
    LedgerPosition ledger;
    char durable[LSN_TEXT_BYTES], text[256];

    if (running == NULL)
        return;
    receiver = receiver_status(running);
    ledger = ledger_position(&s->ledger);
    (void) snprintf(
        text, sizeof text, "%s, timeline %u, durable up to %s", receiver_state_name(receiver.state),
        receiver.tli, lsn_format(ledger.durable, durable, sizeof durable));
    notify_status(&s->notify, text);
    if (clock_monotonic_ms() - receiver_alive_ms(running) < STREAM_ALIVE_MS)
        notify_watchdog(&s->notify);
}

static void *
stream_signal_main(void *arg)
{
    Stream *s = arg;

    while (!atomic_load(&s->ended))
    {
        struct timespec wait = {.tv_sec = 1};
        int sig = sigtimedwait(&s->signals, NULL, &wait);

        if (sig == SIGHUP)
            stream_reload(s);
        else if (sig == SIGTERM || sig == SIGINT)
        {
            log_write(LOG_INFO, "stopping");
            atomic_store(&s->stop, true);
            if (s->receiver != NULL)
                receiver_stop(s->receiver);
        }
        stream_tell_manager(s);
    }
    return NULL;
}

/* ---- life ---- */

static int
stream_run(Stream *s, Lsn endpos, Error *err)
{
    int rc;

    /* freed memory goes back to the system, and threads share two arenas: the bound is for real */
    (void) mallopt(M_ARENA_MAX, 2);
    (void) mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
    (void) signal(SIGPIPE, SIG_IGN);
    (void) sigemptyset(&s->signals);
    (void) sigaddset(&s->signals, SIGTERM);
    (void) sigaddset(&s->signals, SIGINT);
    (void) sigaddset(&s->signals, SIGHUP);
    (void) pthread_sigmask(SIG_BLOCK, &s->signals, NULL);
    notify_init(&s->notify);
    streamed_init(&s->streamed);
    if (ledger_init(&s->ledger, stream_wake, s, err) < 0)
        return -1;
    if (pthread_create(&s->signal_thread, NULL, stream_signal_main, s) != 0)
        return error_set(err, ERROR_IO, "could not start the signal thread");

    rc = stream_set_up(s, endpos, err);
    if (rc == 0)
        rc = receiver_run(s->receiver, err);

    /* in pipeline order: no new work, the workers, then what they used */
    service_free(s->service);
    if (s->uploader != NULL)
        uploader_stop(s->uploader, STREAM_UPLOADS_GRACE_MS);
    atomic_store(&s->ended, true);
    (void) pthread_join(s->signal_thread, NULL);
    uploader_free(s->uploader);
    receiver_free(s->receiver);
    ledger_destroy(&s->ledger);
    streamed_destroy(&s->streamed);
    repository_free(s->repo);
    chunk_pool_free(s->receive_pool);
    chunk_pool_free(s->output_pool);
    if (rc < 0 && atomic_load(&s->stop) && err->kind == ERROR_CANCELED)
        return 0;
    return rc;
}

static int
stream_main(Stream *s, int argc, char **argv, Error *err)
{
    const char *endpos_text;
    Lsn endpos = LSN_INVALID;

    if (cli_parse(&stream_cli, argc, argv, &s->cli, err) < 0)
        return -1;
    if (s->cli.action != CLI_RUN)
        return cli_answer(&stream_cli, &s->cli, err);
    endpos_text = cli_value(&s->cli, "endpos");
    if (endpos_text != NULL && !lsn_parse(endpos_text, &endpos))
        return error_set(err, ERROR_USAGE, "--endpos \"%s\" is not an LSN", endpos_text);
    if (config_load(s->cli.config_file, &s->cli.overrides, &s->cfg, err) < 0)
        return -1;
    cli_open_log("walstream", s->cfg);
    if (cli_value(&s->cli, "status") != NULL)
        return stream_print_status(s->cfg, err);
    return stream_run(s, endpos, err);
}

int
main(int argc, char **argv)
{
    static Stream s;
    Error err = {0};
    int rc;

    log_open("walstream", LOG_INFO, LOG_FORMAT_TEXT);
    rc = stream_main(&s, argc, argv, &err);
    if (rc < 0)
        log_error(err.kind == ERROR_USAGE ? LOG_ERROR : LOG_FATAL, &err);
    config_free(s.cfg);
    for (size_t i = 0; i < s.retired_count; i++)
        config_free(s.retired[i]);
    free(s.retired);
    cli_reset(&s.cli);
    return rc == 0 ? 0 : err.kind == ERROR_USAGE ? 2 : 1;
}
