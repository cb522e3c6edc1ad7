/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Upload workers; see uploader.h.
 *
 * What a crash leaves: objects are created in one step, so each is there or not. The ledger, and
 * with it the flush position, only moves after the store has answered; what was stored without an
 * answer is found again when the stream resumes, or compared when it is put a second time.
 */
#include "walstream/uploader.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/log.h"

#define UPLOAD_TRY_MS 20000         /* one round of store retries for a job of the stream */
#define UPLOAD_BACKOFF_FIRST_MS 250 /* between rounds, doubling */
#define UPLOAD_BACKOFF_MAX_MS 10000
#define UPLOAD_LOG_EVERY_MS 60000

typedef struct UploadJob UploadJob;

struct UploadJob
{
    UploadJob *next;
    UploadUrgency urgency;
    uint64_t reserve_bytes;

    /* WAL of the stream */
    WalExtent extent;
    bool whole;
    Chunk **chunks; /* owned, each a reference; NULL once given back */
    size_t chunk_count;
    uint32_t skip;
    LedgerEntry *entry;

    /* a file */
    bool is_file;
    int fd;
    char name[WAL_NAME_MAX + 1];
    Deadline dl;
    UploadRequest *request;
};

struct UploadRequest
{
    unsigned refs; /* the waiter's and the job's */
    bool done;
    int rc;
    Error err;
};

typedef struct UploadQueue
{
    UploadJob *head, *tail;
    size_t count;
} UploadQueue;

struct Uploader
{
    UploaderOptions options;
    uint64_t output_limit;
    atomic_bool cancel;

    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t work;  /* something to do, or memory to do it with */
    pthread_cond_t ended; /* a job has ended */
    UploadQueue queues[UPLOAD_URGENCIES];
    UploadJob **running; /* one slot a worker */
    unsigned running_count;
    unsigned background_running;
    uint64_t reserved_bytes;
    bool stopping;
    bool failed;
    Error failure;
    bool failing;
    Error last_error;
    int64_t last_error_us;
    int64_t last_logged_ms;

    pthread_t *threads;
    unsigned thread_count;
};

typedef struct UploadWorker
{
    Uploader *u;
    unsigned slot;
} UploadWorker;

uint64_t
uploader_output_bytes(uint64_t plain_bytes)
{
    /* frame and age overhead of incompressible bytes, the header, and a chunk not filled */
    return plain_bytes + plain_bytes / 128 + 2 * (uint64_t) AGE_CHUNK_BYTES;
}

/* ---- jobs ---- */

static void
upload_job_free(UploadJob *job)
{
    if (job == NULL)
        return;
    for (size_t i = 0; i < job->chunk_count; i++)
        chunk_unref(job->chunks[i]);
    free(job->chunks);
    fd_close(&job->fd);
    free(job);
}
DEFINE_AUTO(UploadJob, upload_job_free);

/* Lock held. */
static void
upload_request_unref(UploadRequest *request)
{
    if (request != NULL && --request->refs == 0)
        free(request);
}

static void
upload_queue_push(UploadQueue *q, UploadJob *job)
{
    job->next = NULL;
    if (q->tail != NULL)
        q->tail->next = job;
    else
        q->head = job;
    q->tail = job;
    q->count++;
}

static UploadJob *
upload_queue_pop(UploadQueue *q)
{
    UploadJob *job = q->head;

    if (job == NULL)
        return NULL;
    q->head = job->next;
    if (q->head == NULL)
        q->tail = NULL;
    q->count--;
    return job;
}

static void
uploader_enqueue(Uploader *u, UploadJob *job)
{
    uint64_t chunk_bytes = chunk_pool_chunk_bytes(u->options.repo->pool);

    job->reserve_bytes = (job->reserve_bytes + chunk_bytes - 1) / chunk_bytes * chunk_bytes;
    (void) pthread_mutex_lock(&u->lock);
    upload_queue_push(&u->queues[job->urgency], job);
    (void) pthread_cond_broadcast(&u->work);
    (void) pthread_mutex_unlock(&u->lock);
}

/*
 * Lock held. The most urgent job that may begin now. A job that does not fit into the memory yet is
 * waited for: a smaller, less urgent one must not keep overtaking it.
 */
static UploadJob *
uploader_take(Uploader *u)
{
    for (int urgency = 0; urgency < UPLOAD_URGENCIES; urgency++)
    {
        UploadQueue *q = &u->queues[urgency];

        if (q->head == NULL)
            continue;
        if (urgency == UPLOAD_BACKGROUND && u->thread_count > 1 &&
            u->background_running + 1 >= u->thread_count)
            continue;
        if (u->reserved_bytes > 0 && u->reserved_bytes + q->head->reserve_bytes > u->output_limit)
            return NULL;
        return upload_queue_pop(q);
    }
    return NULL;
}

/* ---- doing it ---- */

static void
uploader_note_failure(Uploader *u, const Error *err, bool try_again)
{
    int64_t now = clock_monotonic_ms();
    bool say;

    (void) pthread_mutex_lock(&u->lock);
    say = !u->failing || now - u->last_logged_ms >= UPLOAD_LOG_EVERY_MS || !try_again;
    if (say)
        u->last_logged_ms = now;
    u->failing = true;
    u->last_error = *err;
    u->last_error_us = clock_wall_us();
    (void) pthread_mutex_unlock(&u->lock);
    if (say)
        log_error(try_again ? LOG_WARNING : LOG_ERROR, err);
}

static void
uploader_note_success(Uploader *u)
{
    bool was;

    (void) pthread_mutex_lock(&u->lock);
    was = u->failing;
    u->failing = false;
    (void) pthread_mutex_unlock(&u->lock);
    if (was)
        log_write(LOG_INFO, "uploads succeed again");
}

static void
uploader_set_failed(Uploader *u, const Error *err)
{
    (void) pthread_mutex_lock(&u->lock);
    if (!u->failed)
    {
        u->failed = true;
        u->failure = *err;
    }
    (void) pthread_mutex_unlock(&u->lock);
}

/* Encodes the job's WAL; gives the chunks of a whole part back as it goes. */
static int
upload_encode_extent(
    Uploader *u, UploadJob *job, const char *key, ChunkBuf *body, ObjectLabel *label, Error *err)
{
    AUTO(object_writer_freep) ObjectWriter *writer = NULL;
    uint64_t left = job->extent.end - job->extent.start;
    size_t skip = job->skip;

    if (object_writer_new(&u->options.repo->format, key, left, body, &writer, err) < 0)
        return -1;
    for (size_t i = 0; i < job->chunk_count; i++)
    {
        Chunk *chunk = job->chunks[i];
        size_t room = chunk_pool_chunk_bytes(chunk->pool) - skip;
        size_t len = (size_t) MIN(left, room);

        if (object_writer_write(writer, chunk->data + skip, len, err) < 0)
            return -1;
        left -= len;
        skip = 0;
        chunk_unref(steal(job->chunks[i]));
    }
    assert(left == 0);
    return object_writer_finish(writer, label, err);
}

/* Until it is stored, refused for good, or we are told to stop. */
static int
upload_put_persistently(Uploader *u, const ObjectLabel *label, const ChunkBuf *body, Error *err)
{
    int64_t backoff_ms = UPLOAD_BACKOFF_FIRST_MS;

    for (;;)
    {
        Deadline dl = deadline_after_ms(UPLOAD_TRY_MS, &u->cancel);
        ObjectPutResult result;

        if (object_put(u->options.repo->store, label, body, &dl, &result, err) == 0)
        {
            uploader_note_success(u);
            return 0;
        }
        if (atomic_load(&u->cancel) || err->kind == ERROR_CONFLICT || err->kind == ERROR_CORRUPT)
            return -1;
        counter_add(&u->options.counters->upload_failures, 1);
        (void) error_wrap(err, "could not store \"%s\", trying again", label->key);
        uploader_note_failure(u, err, true);
        dl = deadline_after_ms(-1, &u->cancel);
        deadline_sleep_ms(&dl, backoff_ms);
        backoff_ms = MIN(backoff_ms * 2, UPLOAD_BACKOFF_MAX_MS);
    }
}

static int
upload_run_extent(Uploader *u, UploadJob *job, Error *err)
{
    uint32_t segment_bytes = u->options.repo->description.segment_bytes;
    Counters *counters = u->options.counters;
    AUTO(chunkbuf_reset) ChunkBuf body;
    char key[LAYOUT_KEY_MAX];
    ObjectLabel label;

    chunkbuf_init(&body, u->options.repo->pool, deadline_after_ms(UPLOAD_TRY_MS, &u->cancel));
    (void) (job->whole ? layout_part_key(&job->extent, segment_bytes, key) : layout_piece_key(&job->extent, segment_bytes, key));
    if (upload_encode_extent(u, job, key, &body, &label, err) < 0 ||
        upload_put_persistently(u, &label, &body, err) < 0)
        return error_wrap(err, "could not store \"%s\"", key);

    counter_add(job->whole ? &counters->parts_stored : &counters->pieces_stored, 1);
    counter_add(&counters->plain_bytes_stored, label.plain_bytes);
    counter_add(&counters->object_bytes_stored, body.bytes);
    return 0;
}

static void
uploader_note_dropped(Uploader *u, const UploadJob *job)
{
    char name[WAL_SEGMENT_NAME_LEN + 1];

    streamed_note_dropped(
        u->options.streamed, wal_segment_name(
                                 job->extent.tli, job->extent.segno,
                                 u->options.repo->description.segment_bytes, name, sizeof name));
}

static void
upload_finish_extent(Uploader *u, UploadJob *job, int rc, const Error *err)
{
    if (rc == 0)
    {
        if (job->entry != NULL)
            ledger_complete(u->options.ledger, job->entry);
        return;
    }
    if (job->entry != NULL)
        ledger_abandon(u->options.ledger, job->entry);
    if (job->whole)
        uploader_note_dropped(u, job);
    if (atomic_load(&u->cancel))
        return;
    uploader_note_failure(u, err, false);
    uploader_set_failed(u, err);
}

static int
upload_run_file(Uploader *u, UploadJob *job, Error *err)
{
    struct stat before;
    ArchiveResult result;

    if (fstat(job->fd, &before) < 0)
        return error_sys(err, "could not look at \"%s\"", job->name);
    if (archive_file(u->options.repo, job->fd, job->name, &job->dl, &result, err) < 0)
        return -1;
    streamed_note_archived(u->options.streamed, job->name, &before);
    if (job->urgency == UPLOAD_AHEAD)
        counter_add(&u->options.counters->lookahead_uploaded, 1);
    return 0;
}

static void
upload_finish_file(Uploader *u, UploadJob *job, int rc, const Error *err)
{
    if (rc < 0 && job->urgency == UPLOAD_AHEAD && !atomic_load(&u->cancel))
        log_write(LOG_DEBUG, "archiving ahead: %s", err->msg);

    (void) pthread_mutex_lock(&u->lock);
    if (job->request != NULL)
    {
        job->request->done = true;
        job->request->rc = rc;
        if (rc < 0)
            job->request->err = *err;
        upload_request_unref(steal(job->request));
    }
    (void) pthread_mutex_unlock(&u->lock);
}

static void *
upload_worker_main(void *arg)
{
    UploadWorker *self = arg;
    Uploader *u = self->u;
    unsigned slot = self->slot;

    free(self);
    (void) pthread_mutex_lock(&u->lock);
    for (;;)
    {
        UploadJob *job = uploader_take(u);

        if (job == NULL)
        {
            if (u->stopping)
                break;
            (void) pthread_cond_wait(&u->work, &u->lock);
            continue;
        }
        u->running[slot] = job;
        u->running_count++;
        u->reserved_bytes += job->reserve_bytes;
        if (job->urgency == UPLOAD_BACKGROUND)
            u->background_running++;
        (void) pthread_mutex_unlock(&u->lock);

        Error err = {0};
        int rc;

        if (atomic_load(&u->cancel))
            rc = error_set(&err, ERROR_CANCELED, "canceled");
        else if (job->is_file)
            rc = upload_run_file(u, job, &err);
        else
            rc = upload_run_extent(u, job, &err);
        if (job->is_file)
            upload_finish_file(u, job, rc, &err);
        else
            upload_finish_extent(u, job, rc, &err);

        (void) pthread_mutex_lock(&u->lock);
        u->running[slot] = NULL;
        u->running_count--;
        u->reserved_bytes -= job->reserve_bytes;
        if (job->urgency == UPLOAD_BACKGROUND)
            u->background_running--;
        (void) pthread_cond_broadcast(&u->ended);
        (void) pthread_cond_broadcast(&u->work);
        (void) pthread_mutex_unlock(&u->lock);
        upload_job_free(job);
        if (u->options.room != NULL)
            u->options.room(u->options.room_ctx);
        (void) pthread_mutex_lock(&u->lock);
    }
    (void) pthread_mutex_unlock(&u->lock);
    return NULL;
}

/* ---- life ---- */

int
uploader_new(const UploaderOptions *options, Uploader **out, Error *err)
{
    Uploader *u = calloc(1, sizeof *u);

    if (u == NULL)
        return error_nomem(err);
    u->options = *options;
    u->output_limit = (uint64_t) chunk_pool_limit(options->repo->pool) *
                      chunk_pool_chunk_bytes(options->repo->pool);
    u->threads = calloc(options->workers, sizeof *u->threads);
    u->running = calloc(options->workers, sizeof(UploadJob *));
    if (u->threads == NULL || u->running == NULL || pthread_mutex_init(&u->lock, NULL) != 0)
    {
        free(u->threads);
        free(u->running);
        free(u);
        return error_nomem(err);
    }
    (void) clock_cond_init(&u->work);
    (void) clock_cond_init(&u->ended);
    for (unsigned i = 0; i < options->workers; i++)
    {
        UploadWorker *worker = malloc(sizeof *worker);

        if (worker != NULL)
            *worker = (UploadWorker){.u = u, .slot = i};
        if (worker == NULL || pthread_create(&u->threads[i], NULL, upload_worker_main, worker) != 0)
        {
            free(worker);
            uploader_stop(u, 0);
            uploader_free(u);
            return error_set(err, ERROR_IO, "could not start upload worker %u", i);
        }
        (void) pthread_mutex_lock(&u->lock);
        u->thread_count++;
        (void) pthread_mutex_unlock(&u->lock);
    }
    *out = u;
    return 0;
}

/* Lock held. */
static bool
uploader_idle(const Uploader *u)
{
    for (int i = 0; i < UPLOAD_URGENCIES; i++)
        if (u->queues[i].head != NULL)
            return false;
    return u->running_count == 0;
}

void
uploader_stop(Uploader *u, int64_t grace_ms)
{
    Deadline dl = deadline_after_ms(grace_ms, NULL);

    (void) pthread_mutex_lock(&u->lock);
    while (!uploader_idle(u) && deadline_left_ms(&dl) > 0)
        deadline_cond_wait(&dl, &u->ended, &u->lock);
    u->stopping = true;
    atomic_store(&u->cancel, true);
    (void) pthread_cond_broadcast(&u->work);
    (void) pthread_mutex_unlock(&u->lock);
    for (unsigned i = 0; i < u->thread_count; i++)
        (void) pthread_join(u->threads[i], NULL);
    u->thread_count = 0;
}

void
uploader_free(Uploader *u)
{
    if (u == NULL)
        return;
    for (int i = 0; i < UPLOAD_URGENCIES; i++)
    {
        UploadJob *job;

        while ((job = upload_queue_pop(&u->queues[i])) != NULL)
        {
            if (job->entry != NULL)
                ledger_abandon(u->options.ledger, job->entry);
            upload_job_free(job);
        }
    }
    (void) pthread_cond_destroy(&u->work);
    (void) pthread_cond_destroy(&u->ended);
    (void) pthread_mutex_destroy(&u->lock);
    free(u->threads);
    free(u->running);
    free(u);
}

/* ---- submitting ---- */

int
uploader_submit_extent(
    Uploader *u, const WalExtent *extent, bool whole, Chunk *const *chunks, size_t chunk_count,
    uint32_t skip, LedgerEntry *entry, Error *err)
{
    UploadJob *job = calloc(1, sizeof *job);

    if (job != NULL)
        job->chunks = malloc(chunk_count * sizeof(Chunk *));
    if (job == NULL || job->chunks == NULL)
    {
        free(job);
        return error_nomem(err);
    }
    memcpy(job->chunks, chunks, chunk_count * sizeof(Chunk *));
    job->chunk_count = chunk_count;
    job->fd = -1;
    job->urgency = entry != NULL ? UPLOAD_URGENT : UPLOAD_BACKGROUND;
    job->extent = *extent;
    job->whole = whole;
    job->skip = skip;
    job->entry = entry;
    job->reserve_bytes = uploader_output_bytes(extent->end - extent->start);
    uploader_enqueue(u, job);
    return 0;
}

int
uploader_submit_file(
    Uploader *u, int fd, const char *name, UploadUrgency urgency, const Deadline *dl,
    UploadRequest **out, Error *err)
{
    AUTO(upload_job_freep) UploadJob *job = calloc(1, sizeof *job);

    if (job == NULL)
    {
        (void) close(fd);
        return error_nomem(err);
    }
    job->fd = fd;
    job->is_file = true;
    job->urgency = urgency;
    job->dl = *dl;
    job->dl.cancel = &u->cancel;
    job->reserve_bytes = uploader_output_bytes(u->options.repo->description.part_bytes);
    (void) snprintf(job->name, sizeof job->name, "%s", name);
    if (out != NULL)
    {
        job->request = calloc(1, sizeof *job->request);
        if (job->request == NULL)
            return error_nomem(err);
        job->request->refs = 2;
        *out = job->request;
    }
    uploader_enqueue(u, steal(job));
    return 0;
}

bool
uploader_request_wait(Uploader *u, UploadRequest *request, int64_t wait_ms, int *rc, Error *err)
{
    Deadline dl = deadline_after_ms(wait_ms, NULL);
    bool done;

    (void) pthread_mutex_lock(&u->lock);
    while (!request->done && deadline_left_ms(&dl) > 0)
        deadline_cond_wait(&dl, &u->ended, &u->lock);
    done = request->done;
    if (done)
    {
        *rc = request->rc;
        *err = request->err;
    }
    (void) pthread_mutex_unlock(&u->lock);
    return done;
}

void
uploader_request_release(Uploader *u, UploadRequest *request)
{
    (void) pthread_mutex_lock(&u->lock);
    upload_request_unref(request);
    (void) pthread_mutex_unlock(&u->lock);
}

bool
uploader_has_file(Uploader *u, const char *name)
{
    bool found = false;

    (void) pthread_mutex_lock(&u->lock);
    for (unsigned i = 0; i < u->options.workers && !found; i++)
        found = u->running[i] != NULL && u->running[i]->is_file &&
                strcmp(u->running[i]->name, name) == 0;
    for (int q = 0; q < UPLOAD_URGENCIES && !found; q++)
        for (UploadJob *job = u->queues[q].head; job != NULL && !found; job = job->next)
            found = job->is_file && strcmp(job->name, name) == 0;
    (void) pthread_mutex_unlock(&u->lock);
    return found;
}

/* ---- state ---- */

bool
uploader_failure(Uploader *u, bool clear, Error *out)
{
    bool failed;

    (void) pthread_mutex_lock(&u->lock);
    failed = u->failed;
    if (failed)
        *out = u->failure;
    if (clear)
        u->failed = false;
    (void) pthread_mutex_unlock(&u->lock);
    return failed;
}

bool
uploader_drop_background(Uploader *u)
{
    UploadJob *job;

    (void) pthread_mutex_lock(&u->lock);
    job = upload_queue_pop(&u->queues[UPLOAD_BACKGROUND]);
    (void) pthread_mutex_unlock(&u->lock);
    if (job == NULL)
        return false;
    counter_add(&u->options.counters->parts_dropped, 1);
    uploader_note_dropped(u, job);
    upload_job_free(job);
    return true;
}

UploaderState
uploader_state(Uploader *u)
{
    UploaderState state = {0};

    (void) pthread_mutex_lock(&u->lock);
    for (int i = 0; i < UPLOAD_URGENCIES; i++)
        state.queued[i] = u->queues[i].count;
    state.running = u->running_count;
    state.failing = u->failing;
    state.last_error = u->last_error;
    state.last_error_us = u->last_error_us;
    (void) pthread_mutex_unlock(&u->lock);
    return state;
}

void
uploader_note_error(Uploader *u, const Error *err)
{
    (void) pthread_mutex_lock(&u->lock);
    u->last_error = *err;
    u->last_error_us = clock_wall_us();
    (void) pthread_mutex_unlock(&u->lock);
}
