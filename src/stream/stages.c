/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The small stages that belong to no codec: slice and the sinks; see stage.h.
 */
#include <stdlib.h>
#include <string.h>

#include "common/fs.h"
#include "stream/stage.h"

/* ---- slice ---- */

typedef struct StageSlice
{
    Stage stage;
    uint64_t skip; /* bytes still to drop */
    uint64_t left; /* bytes still to let through; UINT64_MAX: all */
    uint64_t wanted;
} StageSlice;

static int
stage_slice_write(Stage *st, const void *buf, size_t len, Error *err)
{
    StageSlice *s = (StageSlice *) st;
    const uint8_t *from = buf;

    if (s->skip > 0)
    {
        size_t n = (size_t) MIN(s->skip, (uint64_t) len);

        s->skip -= n;
        from += n;
        len -= n;
    }
    if (s->left != UINT64_MAX)
    {
        len = (size_t) MIN(s->left, (uint64_t) len);
        s->left -= len;
    }
    return stage_write(st->next, from, len, err);
}

static int
stage_slice_finish(Stage *st, Error *err)
{
    const StageSlice *s = (const StageSlice *) st;

    if (s->left != UINT64_MAX && s->left > 0)
        return error_set(
            err, ERROR_CORRUPT, "data ends %llu bytes before the end of the %llu bytes wanted",
            (unsigned long long) s->left, (unsigned long long) s->wanted);
    return 0;
}

static void
stage_slice_destroy(Stage *st)
{
    free(st);
}

static const StageOps stage_slice_ops = {
    .name = "slice",
    .write = stage_slice_write,
    .finish = stage_slice_finish,
    .destroy = stage_slice_destroy,
};

int
stage_slice_new(uint64_t skip, uint64_t len, Stage *next, Stage **out, Error *err)
{
    StageSlice *s = malloc(sizeof *s);

    if (s == NULL)
        return error_nomem(err);
    stage_init(&s->stage, &stage_slice_ops, next);
    s->skip = skip;
    s->left = len;
    s->wanted = len;
    *out = &s->stage;
    return 0;
}

/* ---- sink: file descriptor ---- */

typedef struct StageFdSink
{
    Stage stage;
    int fd;
    char what[]; /* for messages */
} StageFdSink;

static int
stage_fd_sink_write(Stage *st, const void *buf, size_t len, Error *err)
{
    StageFdSink *s = (StageFdSink *) st;

    return fs_write_all(s->fd, buf, len, s->what, err);
}

static void
stage_fd_sink_destroy(Stage *st)
{
    free(st);
}

static const StageOps stage_fd_sink_ops = {
    .name = "file",
    .write = stage_fd_sink_write,
    .destroy = stage_fd_sink_destroy,
};

int
stage_fd_sink_new(int fd, const char *what, Stage **out, Error *err)
{
    size_t what_bytes = strlen(what) + 1;
    StageFdSink *s = malloc(sizeof *s + what_bytes);

    if (s == NULL)
        return error_nomem(err);
    stage_init(&s->stage, &stage_fd_sink_ops, NULL);
    s->fd = fd;
    memcpy(s->what, what, what_bytes);
    *out = &s->stage;
    return 0;
}

/* ---- sink: memory ---- */

typedef struct StageMemorySink
{
    Stage stage;
    uint8_t *buf;
    size_t cap;
    size_t *len;
} StageMemorySink;

static int
stage_memory_sink_write(Stage *st, const void *buf, size_t len, Error *err)
{
    StageMemorySink *s = (StageMemorySink *) st;

    if (len > s->cap - *s->len)
        return error_set(err, ERROR_CORRUPT, "more than the %zu bytes expected", s->cap);
    memcpy(s->buf + *s->len, buf, len);
    *s->len += len;
    return 0;
}

static void
stage_memory_sink_destroy(Stage *st)
{
    free(st);
}

static const StageOps stage_memory_sink_ops = {
    .name = "memory",
    .write = stage_memory_sink_write,
    .destroy = stage_memory_sink_destroy,
};

int
stage_memory_sink_new(void *buf, size_t cap, size_t *len, Stage **out, Error *err)
{
    StageMemorySink *s = malloc(sizeof *s);

    if (s == NULL)
        return error_nomem(err);
    stage_init(&s->stage, &stage_memory_sink_ops, NULL);
    s->buf = buf;
    s->cap = cap;
    s->len = len;
    *len = 0;
    *out = &s->stage;
    return 0;
}

/* ---- sink: text builder ---- */

typedef struct StageStrbufSink
{
    Stage stage;
    StrBuf *text;
} StageStrbufSink;

static int
stage_strbuf_sink_write(Stage *st, const void *buf, size_t len, Error *err)
{
    StageStrbufSink *s = (StageStrbufSink *) st;

    strbuf_append(s->text, buf, len);
    return strbuf_finish(s->text, err);
}

static void
stage_strbuf_sink_destroy(Stage *st)
{
    free(st);
}

static const StageOps stage_strbuf_sink_ops = {
    .name = "text",
    .write = stage_strbuf_sink_write,
    .destroy = stage_strbuf_sink_destroy,
};

int
stage_strbuf_sink_new(StrBuf *text, Stage **out, Error *err)
{
    StageStrbufSink *s = malloc(sizeof *s);

    if (s == NULL)
        return error_nomem(err);
    stage_init(&s->stage, &stage_strbuf_sink_ops, NULL);
    s->text = text;
    *out = &s->stage;
    return 0;
}
