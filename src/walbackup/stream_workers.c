/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Workers of the stream; see stream_workers.h.
 */
#include "walbackup/stream_workers.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/fs.h"
#include "pg/data_page.h"

#define BUFFER_BYTES (256u * 1024u)
#define BUFFERS_PER_WORKER 16u

/* stream_file_write wants whole pages */
static_assert(BUFFER_BYTES % DATA_PAGE_BYTES == 0, "a buffer holds whole pages");

/* A portion of a file; in the first its entry, in the last the end (a small file is one of both).
 */
typedef struct StreamBuffer
{
    struct StreamBuffer *next;
    StreamEntry *entry; /* owned while it is queued */
    bool end;
    size_t len;
    uint8_t *data; /* owned */
} StreamBuffer;

typedef struct StreamWorker
{
    StreamWorkers *workers;
    BundleWriter *writer;
    StreamFile *file;
    pthread_t thread;
    bool started;
    /* guarded by workers->lock */
    StreamBuffer *head;
    StreamBuffer **tail;
    size_t queued; /* buffers, the one being worked on included */
} StreamWorker;

struct StreamWorkers
{
    const atomic_bool *cancel;
    unsigned count;
    StreamWorker *workers; /* owned */
    StreamBuffer *buffers; /* owned: all of them */
    size_t buffer_count;
    /* the receiver's */
    StreamBuffer *current; /* being filled */
    unsigned current_worker;
    /* guarded by lock */
    pthread_mutex_t lock;
    pthread_cond_t work; /* for workers: something is queued, or it ends */
    pthread_cond_t room; /* for the receiver: a buffer is free, or a worker has ended */
    StreamBuffer *free;
    bool finishing; /* nothing more comes */
    bool stopping;  /* what is queued is not wanted */
    bool failed;
    Error error;
    unsigned running;
};

/* ---- a worker ---- */

static int
worker_take(StreamWorker *w, StreamBuffer *buffer, Error *err)
{
    if (buffer->entry != NULL && stream_file_begin(w->file, steal(buffer->entry), err) < 0)
        return -1;
    if (buffer->len > 0 && stream_file_write(w->file, buffer->data, buffer->len, err) < 0)
        return -1;
    return buffer->end ? stream_file_end(w->file, err) : 0;
}

/* Lock held. */
static void
worker_release(StreamWorker *w, StreamBuffer *buffer)
{
    StreamWorkers *ws = w->workers;

    buffer->next = ws->free;
    ws->free = buffer;
    w->queued--;
    (void) pthread_cond_signal(&ws->room);
}

static int
worker_loop(StreamWorker *w, Error *err)
{
    StreamWorkers *ws = w->workers;
    Deadline never = deadline_after_ms(-1, NULL);
    int rc = 0;

    (void) pthread_mutex_lock(&ws->lock);
    while (rc == 0)
    {
        StreamBuffer *buffer = w->head;

        if (ws->stopping || ws->failed || (buffer == NULL && ws->finishing))
            break;
        if (buffer == NULL)
        {
            deadline_cond_wait(&never, &ws->work, &ws->lock);
            continue;
        }
        w->head = buffer->next;
        if (w->head == NULL)
            w->tail = &w->head;
        (void) pthread_mutex_unlock(&ws->lock);
        rc = worker_take(w, buffer, err);
        (void) pthread_mutex_lock(&ws->lock);
        worker_release(w, buffer);
    }
    if (rc == 0 && !ws->stopping && !ws->failed)
    {
        (void) pthread_mutex_unlock(&ws->lock);
        rc = bundle_writer_close(w->writer, err);
        (void) pthread_mutex_lock(&ws->lock);
    }
    (void) pthread_mutex_unlock(&ws->lock);
    return rc;
}

static void *
worker_main(void *arg)
{
    StreamWorker *w = arg;
    StreamWorkers *ws = w->workers;
    Error err = {0};
    int rc = worker_loop(w, &err);

    (void) pthread_mutex_lock(&ws->lock);
    if (rc < 0 && !ws->failed)
    {
        ws->failed = true;
        ws->error = err;
    }
    ws->running--;
    (void) pthread_cond_broadcast(&ws->work);
    (void) pthread_cond_signal(&ws->room);
    (void) pthread_mutex_unlock(&ws->lock);
    return NULL;
}

/* ---- beginning and end ---- */

static int
workers_alloc(StreamWorkers *ws, Error *err)
{
    ws->workers = calloc(ws->count, sizeof *ws->workers);
    ws->buffer_count = (size_t) ws->count * BUFFERS_PER_WORKER;
    ws->buffers = calloc(ws->buffer_count, sizeof *ws->buffers);
    if (ws->workers == NULL || ws->buffers == NULL)
        return error_nomem(err);
    for (unsigned i = 0; i < ws->count; i++)
    {
        ws->workers[i].workers = ws;
        ws->workers[i].tail = &ws->workers[i].head;
    }
    for (size_t i = 0; i < ws->buffer_count; i++)
    {
        ws->buffers[i].data = fs_alloc_io(BUFFER_BYTES);
        if (ws->buffers[i].data == NULL)
            return error_nomem(err);
        ws->buffers[i].next = ws->free;
        ws->free = &ws->buffers[i];
    }
    return 0;
}

int
stream_workers_start(
    const StreamRules *rules, BundleSet *set, unsigned count, const atomic_bool *cancel,
    StreamWorkers **out, Error *err)
{
    AUTO(stream_workers_freep) StreamWorkers *ws = NULL;
    StreamWorkers *made = calloc(1, sizeof *made);
    int rc;

    if (made == NULL)
        return error_nomem(err);
    made->cancel = cancel;
    made->count = count;
    rc = pthread_mutex_init(&made->lock, NULL);
    if (rc == 0)
        rc = clock_cond_init(&made->work);
    if (rc == 0)
        rc = clock_cond_init(&made->room);
    if (rc != 0)
    {
        free(made);
        return error_set(err, ERROR_NOMEM, "could not create a lock: %s", strerror(rc));
    }
    ws = made;
    if (workers_alloc(ws, err) < 0)
        return -1;
    for (unsigned i = 0; i < count; i++)
    {
        StreamWorker *w = &ws->workers[i];

        if (bundle_writer_new(set, &w->writer, err) < 0 ||
            stream_file_new(rules, w->writer, &w->file, err) < 0)
            return -1;
        (void) pthread_mutex_lock(&ws->lock);
        rc = pthread_create(&w->thread, NULL, worker_main, w);
        w->started = rc == 0;
        ws->running += w->started ? 1u : 0u;
        (void) pthread_mutex_unlock(&ws->lock);
        if (rc != 0)
            return error_set(err, ERROR_NOMEM, "could not create a thread: %s", strerror(rc));
    }
    *out = steal(ws);
    return 0;
}

void
stream_workers_free(StreamWorkers *ws)
{
    if (ws == NULL)
        return;
    (void) pthread_mutex_lock(&ws->lock);
    ws->stopping = true;
    (void) pthread_cond_broadcast(&ws->work);
    (void) pthread_mutex_unlock(&ws->lock);
    for (unsigned i = 0; ws->workers != NULL && i < ws->count; i++)
    {
        StreamWorker *w = &ws->workers[i];

        if (w->started)
            (void) pthread_join(w->thread, NULL);
        stream_file_free(w->file);
        bundle_writer_free(w->writer);
    }
    for (size_t i = 0; ws->buffers != NULL && i < ws->buffer_count; i++)
    {
        stream_entry_free(ws->buffers[i].entry);
        free(ws->buffers[i].data);
    }
    (void) pthread_cond_destroy(&ws->work);
    (void) pthread_cond_destroy(&ws->room);
    (void) pthread_mutex_destroy(&ws->lock);
    free(ws->workers);
    free(ws->buffers);
    free(ws);
}

/* ---- the receiver ---- */

/* An empty buffer into current. */
static int
workers_get_buffer(StreamWorkers *ws, Error *err)
{
    Deadline dl = deadline_after_ms(-1, ws->cancel);
    int rc = 0;

    (void) pthread_mutex_lock(&ws->lock);
    while (rc == 0 && !ws->failed && ws->free == NULL)
    {
        rc = deadline_check(&dl, "storing the backup", err);
        if (rc == 0)
            deadline_cond_wait(&dl, &ws->room, &ws->lock);
    }
    if (rc == 0 && ws->failed)
    {
        *err = ws->error;
        rc = -1;
    }
    if (rc == 0)
    {
        ws->current = ws->free;
        ws->free = ws->current->next;
        ws->current->next = NULL;
        ws->current->len = 0;
        ws->current->end = false;
    }
    (void) pthread_mutex_unlock(&ws->lock);
    return rc;
}

static void
workers_push(StreamWorkers *ws)
{
    StreamBuffer *buffer = steal(ws->current);
    StreamWorker *w = &ws->workers[ws->current_worker];

    (void) pthread_mutex_lock(&ws->lock);
    *w->tail = buffer;
    w->tail = &buffer->next;
    w->queued++;
    (void) pthread_cond_broadcast(&ws->work);
    (void) pthread_mutex_unlock(&ws->lock);
}

static unsigned
workers_choose(StreamWorkers *ws)
{
    unsigned best = 0;

    (void) pthread_mutex_lock(&ws->lock);
    for (unsigned i = 1; i < ws->count; i++)
        if (ws->workers[i].queued < ws->workers[best].queued)
            best = i;
    (void) pthread_mutex_unlock(&ws->lock);
    return best;
}

int
stream_workers_begin(StreamWorkers *ws, StreamEntry *entry, Error *err)
{
    assert(ws->current == NULL);
    if (workers_get_buffer(ws, err) < 0)
    {
        stream_entry_free(entry);
        return -1;
    }
    ws->current_worker = workers_choose(ws);
    ws->current->entry = entry;
    if (entry->file.kind == BACKUP_FILE_FOLDER)
        workers_push(ws);
    return 0;
}

int
stream_workers_write(StreamWorkers *ws, const void *data, size_t len, Error *err)
{
    const uint8_t *p = data;

    while (len > 0)
    {
        size_t n;

        if (ws->current->len == BUFFER_BYTES)
        {
            workers_push(ws);
            if (workers_get_buffer(ws, err) < 0)
                return -1;
        }
        n = MIN(len, BUFFER_BYTES - ws->current->len);
        memcpy(ws->current->data + ws->current->len, p, n);
        ws->current->len += n;
        p += n;
        len -= n;
    }
    return 0;
}

void
stream_workers_end(StreamWorkers *ws)
{
    ws->current->end = true;
    workers_push(ws);
}

int
stream_workers_finish(StreamWorkers *ws, Error *err)
{
    Deadline dl = deadline_after_ms(-1, ws->cancel);
    int rc = 0;

    (void) pthread_mutex_lock(&ws->lock);
    ws->finishing = true;
    (void) pthread_cond_broadcast(&ws->work);
    while (rc == 0 && ws->running > 0)
    {
        rc = deadline_check(&dl, "storing the backup", err);
        if (rc == 0)
            deadline_cond_wait(&dl, &ws->room, &ws->lock);
    }
    if (rc == 0 && ws->failed)
    {
        *err = ws->error;
        rc = -1;
    }
    (void) pthread_mutex_unlock(&ws->lock);
    return rc;
}
