/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Reading one WAL segment back; see segment_read.h and FORMAT.md, "Reading WAL".
 *
 *   complete object --there--> done
 *        | not there
 *   list pieces (and the parts of a large segment), cover [0, n) with them greedily
 *        | a newer timeline forks inside: n ends there
 *   fetch what the cover names, several at once, each into its own range of the file
 *        | one of them is gone: the segment was completed meanwhile, so begin again
 *   page headers, zeros, mark
 *
 * NOT_FOUND leaves this file only when the complete object was asked for after the pieces had been
 * listed and found wanting: a segment that is completed (and its pieces expired) between two
 * requests is never told as absent.
 */
#include "repo/segment_read.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fs.h"
#include "pg/timeline.h"

#define SEGMENT_THREADS 8 /* small objects are latency: several at once */
/* Of larger ones one at a time: each takes a decoder's window, and they are no latency but
 * bandwidth. */
#define SEGMENT_SMALL_BYTES (1024 * 1024)
#define SEGMENT_THREAD_STACK_BYTES (512 * 1024)
#define SEGMENT_EXTENTS_MAX 1000000u /* 12 bytes each */
#define SEGMENT_ROUNDS 4
#define SEGMENT_FULL_LIST_MS 10000
#define SEGMENT_CHECK_BYTES 65536

static_assert(sizeof SEGMENT_PAD_MARK - 1 + 3 == SEGMENT_PAD_MARK_BYTES, "FORMAT.md, section 7");

/* An object that holds [start, end) of the segment. */
typedef struct SegmentSource
{
    uint32_t start;
    uint32_t end;
    bool is_part;
    bool bad; /* found damaged: the cover has to do without it */
} SegmentSource;

typedef struct SegmentSources
{
    SegmentSource *items;
    size_t count;
    size_t cap;
} SegmentSources;

/* What one object of the cover contributes: [from, to) within its range. */
typedef struct SegmentTake
{
    size_t source;
    uint32_t from;
    uint32_t to;
    ErrorKind result; /* NONE once it is in the file */
    bool tried;
} SegmentTake;

typedef struct SegmentCover
{
    SegmentTake *takes;
    size_t count;
    uint32_t reached;
} SegmentCover;

static void
segment_sources_reset(SegmentSources *s)
{
    free(s->items);
    *s = (SegmentSources){0};
}

static void
segment_cover_reset(SegmentCover *c)
{
    free(c->takes);
    *c = (SegmentCover){0};
}

/* ---- a sink that writes at an offset of the file ---- */

typedef struct SegmentSink
{
    Stage stage;
    int fd;
    uint64_t at;
    uint64_t end;
} SegmentSink;

static int
segment_sink_write(Stage *st, const void *buf, size_t len, Error *err)
{
    SegmentSink *sink = (SegmentSink *) st;
    const char *from = buf;

    if (len > sink->end - sink->at)
        return error_set(err, ERROR_CORRUPT, "holds more bytes than its name says");
    while (len > 0)
    {
        ssize_t n = pwrite(sink->fd, from, len, (off_t) sink->at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
        {
            (void) error_sys(err, "could not write WAL segment");
            /* a full disk here says nothing of the object */
            err->kind = ERROR_IO;
            return -1;
        }
        sink->at += (uint64_t) n;
        from += n;
        len -= (size_t) n;
    }
    return 0;
}

/* Whether all of it came, the label tells (segment_get). */
static int
segment_sink_finish(Stage *st, Error *err)
{
    (void) st;
    (void) err;
    return 0;
}

static void
segment_sink_destroy(Stage *st)
{
    free(st);
}

static const StageOps segment_sink_ops = {
    .name = "WAL segment file",
    .write = segment_sink_write,
    .finish = segment_sink_finish,
    .destroy = segment_sink_destroy,
};

static int
segment_sink_new(int fd, uint32_t from, uint32_t to, Stage **out, Error *err)
{
    SegmentSink *sink = calloc(1, sizeof *sink);

    if (sink == NULL)
        return error_nomem(err);
    stage_init(&sink->stage, &segment_sink_ops, NULL);
    sink->fd = fd;
    sink->at = from;
    sink->end = to;
    *out = &sink->stage;
    return 0;
}

/* ---- one object ---- */

static char *
segment_source_key(const SegmentGrowth *g, const SegmentSource *source, char *key)
{
    uint32_t segment_bytes = g->repo->description.segment_bytes;
    WalExtent extent = {
        .tli = g->tli, .segno = g->segno, .start = source->start, .end = source->end};

    return source->is_part ? layout_part_key(&extent, segment_bytes, key)
                           : layout_piece_key(&extent, segment_bytes, key);
}

/* [from, to) of the segment out of the object that holds source's range. */
static int
segment_get(
    const SegmentGrowth *g, const SegmentSource *source, uint32_t from, uint32_t to,
    const Deadline *dl, Error *err)
{
    AUTO(stage_freep) Stage *sink = NULL;
    uint32_t bytes = source->end - source->start;
    char key[LAYOUT_KEY_MAX];
    ObjectLabel label;

    (void) segment_source_key(g, source, key);
    if (segment_sink_new(g->fd, from, to, &sink, err) < 0)
        return -1;
    if (from != source->start || to != source->end)
    {
        Stage *slice = NULL;

        if (stage_slice_new(from - source->start, to - from, sink, &slice, err) < 0)
            return -1;
        sink = slice;
    }
    if (object_get(g->repo->store, key, g->repo->identities, bytes, sink, dl, &label, err) < 0)
        return -1;
    if (label.plain_bytes != bytes)
        return error_set(
            err, ERROR_CORRUPT, "object \"%s\" holds %llu bytes instead of %u", key,
            (unsigned long long) label.plain_bytes, bytes);
    return 0;
}

/* ---- several objects at once ---- */

typedef struct SegmentFetch
{
    const SegmentGrowth *g;
    const SegmentSources *sources;
    SegmentCover *cover;
    const Deadline *dl;
    pthread_mutex_t lock; /* guards next, stop, err */
    size_t next;
    bool stop;
    Error *err; /* the first failure; a damaged object gives way to anything else */
    bool failed;
} SegmentFetch;

static void *
segment_fetch_run(void *arg)
{
    SegmentFetch *f = arg;

    for (;;)
    {
        SegmentTake *take = NULL;
        Error err = {0};
        int rc;

        (void) pthread_mutex_lock(&f->lock);
        if (!f->stop && f->next < f->cover->count)
            take = &f->cover->takes[f->next++];
        (void) pthread_mutex_unlock(&f->lock);
        if (take == NULL)
            return NULL;

        rc = segment_get(f->g, &f->sources->items[take->source], take->from, take->to, f->dl, &err);

        (void) pthread_mutex_lock(&f->lock);
        take->tried = true;
        take->result = rc < 0 ? err.kind : ERROR_NONE;
        if (rc < 0)
        {
            /* A damaged piece may be covered by another one, so go on; all else ends this round. */
            if (err.kind != ERROR_CORRUPT)
                f->stop = true;
            if (!f->failed || (f->err->kind == ERROR_CORRUPT && err.kind != ERROR_CORRUPT))
                *f->err = err;
            f->failed = true;
        }
        (void) pthread_mutex_unlock(&f->lock);
    }
}

/* 0 if every take is in the file; -1 with the failure that counts. */
static int
segment_fetch(
    const SegmentGrowth *g, const SegmentSources *sources, SegmentCover *cover, const Deadline *dl,
    Error *err)
{
    SegmentFetch f = {.g = g, .sources = sources, .cover = cover, .dl = dl, .err = err};
    pthread_t threads[SEGMENT_THREADS];
    size_t want = MIN(cover->count, (size_t) SEGMENT_THREADS);
    size_t started = 0;
    size_t large = 0;
    pthread_attr_t attr;

    for (size_t i = 0; i < cover->count; i++)
    {
        const SegmentSource *source = &sources->items[cover->takes[i].source];

        large += source->end - source->start > SEGMENT_SMALL_BYTES;
    }
    if (large > 1)
        want = 1;
    (void) pthread_mutex_init(&f.lock, NULL);
    if (want > 1 && pthread_attr_init(&attr) == 0)
    {
        (void) pthread_attr_setstacksize(&attr, SEGMENT_THREAD_STACK_BYTES);
        /* this thread is one of them; fewer than wanted only take longer */
        while (started + 1 < want &&
               pthread_create(&threads[started], &attr, segment_fetch_run, &f) == 0)
            started++;
        (void) pthread_attr_destroy(&attr);
    }
    (void) segment_fetch_run(&f);
    for (size_t i = 0; i < started; i++)
        (void) pthread_join(threads[i], NULL);
    (void) pthread_mutex_destroy(&f.lock);
    return f.failed ? -1 : 0;
}

/* ---- which objects there are, and which to take ---- */

typedef struct SegmentListing
{
    const SegmentGrowth *g;
    SegmentSources *sources;
} SegmentListing;

static int
segment_list_entry(void *ctx, const StoreEntry *entry, Error *err)
{
    SegmentListing *l = ctx;
    SegmentSources *s = l->sources;
    LayoutEntry parsed;

    /* Names that are none of ours do no harm. */
    if (!layout_parse(entry->key, l->g->repo->description.segment_bytes, &parsed) ||
        (parsed.kind != LAYOUT_PIECE && parsed.kind != LAYOUT_PART) ||
        parsed.extent.tli != l->g->tli || parsed.extent.segno != l->g->segno)
        return 0;
    if (s->count == SEGMENT_EXTENTS_MAX)
        return error_set(err, ERROR_IO, "more than %u pieces", SEGMENT_EXTENTS_MAX);
    if (s->count == s->cap)
    {
        size_t cap = s->cap == 0 ? 64 : s->cap * 2;
        SegmentSource *items = realloc(s->items, cap * sizeof *items);

        if (items == NULL)
            return error_nomem(err);
        s->items = items;
        s->cap = cap;
    }
    s->items[s->count++] = (SegmentSource){
        .start = parsed.extent.start,
        .end = parsed.extent.end,
        .is_part = parsed.kind == LAYOUT_PART};
    return 0;
}

static int
segment_list(
    const SegmentGrowth *g, const char *prefix, const char *start_after, SegmentSources *sources,
    const Deadline *dl, Error *err)
{
    SegmentListing listing = {.g = g, .sources = sources};
    StoreListOptions options = {.prefix = prefix, .start_after = start_after};

    if (store_list(g->repo->store, &options, segment_list_entry, &listing, dl, err) < 0)
    {
        /* an empty listing is no error, so this is no answer about the segment */
        if (err->kind == ERROR_NOT_FOUND)
            err->kind = ERROR_IO;
        return error_wrap(err, "could not list \"%s\"", prefix);
    }
    return 0;
}

static int
segment_source_compare(const void *a, const void *b)
{
    const SegmentSource *x = a;
    const SegmentSource *y = b;

    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/*
 * FORMAT.md section 7, step 2: from the offset reached take the object that begins at or before it
 * and ends furthest behind it. sources are sorted by start. How far it would reach: c->reached.
 */
static int
segment_cover(
    const SegmentSources *sources, uint32_t from, uint32_t limit, SegmentCover *c, Error *err)
{
    size_t i = 0;
    size_t cap = 0;

    segment_cover_reset(c);
    c->reached = from;
    while (c->reached < limit)
    {
        size_t best = SIZE_MAX;
        uint32_t best_end = c->reached;

        /* What began before and was passed over ends no further than what was taken. */
        for (; i < sources->count && sources->items[i].start <= c->reached; i++)
        {
            if (!sources->items[i].bad && sources->items[i].end > best_end)
            {
                best = i;
                best_end = sources->items[i].end;
            }
        }
        if (best == SIZE_MAX)
            break;
        if (c->count == cap)
        {
            SegmentTake *takes;

            cap = cap == 0 ? 64 : cap * 2;
            takes = realloc(c->takes, cap * sizeof *takes);
            if (takes == NULL)
                return error_nomem(err);
            c->takes = takes;
        }
        c->takes[c->count++] =
            (SegmentTake){.source = best, .from = c->reached, .to = MIN(best_end, limit)};
        c->reached = MIN(best_end, limit);
    }
    return 0;
}

/* ---- where a newer timeline forks off ---- */

/*
 * Looks at the history files of newer timelines up to the first that is missing, as PostgreSQL
 * does, and lowers g->cut to the smallest switch point inside the segment.
 */
static int
segment_find_fork(SegmentGrowth *g, const Deadline *dl, uint64_t *requests, Error *err)
{
    uint32_t segment_bytes = g->repo->description.segment_bytes;
    Lsn start = wal_segment_start(g->segno, segment_bytes);

    while (g->history_seen < UINT32_MAX)
    {
        WalFileName name = {.kind = WAL_FILE_HISTORY, .tli = g->history_seen + 1};
        AUTO(timeline_history_reset) TimelineHistory history = {0};
        AUTO(free_text) char *text = NULL;
        const TimelineEntry *entry;
        char key[LAYOUT_KEY_MAX];
        size_t len;

        (void) layout_wal_file_key(&name, key);
        (*requests)++;
        if (object_get_bytes(
                g->repo->store, key, g->repo->identities, TIMELINE_HISTORY_MAX_BYTES, &text, &len,
                dl, err) < 0)
        {
            if (err->kind == ERROR_NOT_FOUND)
                return 0;
            return -1;
        }
        if (timeline_parse_history(name.tli, text, len, &history, err) < 0)
            return error_wrap(err, "object \"%s\"", key);
        entry = timeline_find(&history, g->tli);
        if (entry != NULL && entry->end >= start && entry->end - start < segment_bytes)
            g->cut = MIN(g->cut, (uint32_t) (entry->end - start));
        g->history_seen = name.tli;
    }
    return 0;
}

/* ---- the file ---- */

void
segment_growth_init(SegmentGrowth *g, Repository *repo, TimelineId tli, SegmentNo segno, int fd)
{
    *g = (SegmentGrowth){
        .repo = repo,
        .tli = tli,
        .segno = segno,
        .fd = fd,
        .cut = repo->description.segment_bytes,
        .history_seen = tli,
    };
}

static void
segment_forget_from(SegmentGrowth *g, uint32_t reached)
{
    g->reached = reached;
    g->checked = 0;
}

/* Page headers of [checked, reached), read back from the file. */
static int
segment_check_pages(SegmentGrowth *g, Error *err)
{
    uint8_t *buf;
    int rc = 0;

    if (g->checked == 0)
    {
        WalExpect expect = {
            .system_identifier = g->repo->description.system_identifier,
            .segment_bytes = g->repo->description.segment_bytes,
            .tli = g->tli,
            .segno = g->segno,
        };

        wal_check_init(&g->check, &expect);
    }
    buf = fs_alloc_io(SEGMENT_CHECK_BYTES);
    if (buf == NULL)
        return error_nomem(err);
    while (rc == 0 && g->checked < g->reached)
    {
        size_t want = MIN((uint32_t) SEGMENT_CHECK_BYTES, g->reached - g->checked);
        size_t got;

        rc = fs_pread_full(g->fd, buf, want, (off_t) g->checked, &got, "WAL segment", err);
        if (rc == 0 && got != want)
            rc = error_set(err, ERROR_IO, "WAL segment file is shorter than what was written");
        if (rc == 0)
            rc = wal_check_write(&g->check, buf, want, err);
        g->checked += (uint32_t) want;
    }
    free(buf);
    if (rc < 0)
        segment_forget_from(g, 0);
    return rc;
}

/* Exactly segment_bytes: what is known, zeros, and the mark where there is room for it. */
static int
segment_pad(const SegmentGrowth *g, Error *err)
{
    uint32_t segment_bytes = g->repo->description.segment_bytes;
    static const char mark[SEGMENT_PAD_MARK_BYTES] = SEGMENT_PAD_MARK;

    /* shorter first: drops an earlier mark, and what a failed fetch left behind */
    if (ftruncate(g->fd, (off_t) g->reached) < 0 || ftruncate(g->fd, (off_t) segment_bytes) < 0)
    {
        (void) error_sys(err, "could not set the size of WAL segment file");
        err->kind = ERROR_IO;
        return -1;
    }
    if (segment_bytes - g->reached >= SEGMENT_PAD_MARK_BYTES)
    {
        off_t at = (off_t) (segment_bytes - SEGMENT_PAD_MARK_BYTES);

        if (pwrite(g->fd, mark, sizeof mark, at) != (ssize_t) sizeof mark)
        {
            (void) error_sys(err, "could not write WAL segment");
            err->kind = ERROR_IO;
            return -1;
        }
    }
    return 0;
}

/* ---- the steps ---- */

/* The complete segment as one object. NOT_FOUND: go on with the pieces. */
static int
segment_read_whole(SegmentGrowth *g, const Deadline *dl, SegmentRead *out, Error *err)
{
    uint32_t segment_bytes = g->repo->description.segment_bytes;
    SegmentSource whole = {.start = 0, .end = segment_bytes, .is_part = true};
    char key[LAYOUT_KEY_MAX];

    out->requests++;
    if (segment_get(g, &whole, 0, segment_bytes, dl, err) < 0)
    {
        /* Whatever it wrote is over what was there: nothing of the file is certain any more. */
        if (err->kind != ERROR_NOT_FOUND)
            segment_forget_from(g, 0);
        return -1;
    }
    segment_forget_from(g, segment_bytes);
    if (ftruncate(g->fd, (off_t) segment_bytes) < 0)
        return error_sys(err, "could not set the size of WAL segment file");
    if (segment_check_pages(g, err) < 0)
        return error_wrap(err, "object \"%s\"", segment_source_key(g, &whole, key));
    out->complete = true;
    out->data_end = segment_bytes;
    return 0;
}

/* What the store has of the segment beside the whole object, and how far it covers it. */
static int
segment_find_sources(
    SegmentGrowth *g, SegmentSources *sources, SegmentCover *cover, const Deadline *dl,
    SegmentRead *out, Error *err)
{
    uint32_t segment_bytes = g->repo->description.segment_bytes;
    bool in_parts = layout_part_bytes(segment_bytes) < segment_bytes;
    bool narrow;
    char prefix[LAYOUT_KEY_MAX + 1];

    if (in_parts)
    {
        char *end;

        (void) layout_segment_key(g->tli, g->segno, segment_bytes, prefix);
        end = prefix + strlen(prefix);
        end[0] = '/';
        end[1] = '\0';
        out->requests++;
        if (segment_list(g, prefix, NULL, sources, dl, err) < 0)
            return -1;
        if (segment_cover(sources, g->reached, segment_bytes, cover, err) < 0)
            return -1;
        if (cover->reached == segment_bytes)
            return 0;
    }

    /*
     * A second writer cuts elsewhere, and may have filled in something that begins earlier than
     * what was taken last; so every now and then, and when nothing fits, all pieces are listed.
     */
    narrow = g->reached > 0 && clock_monotonic_ms() - g->full_list_ms < SEGMENT_FULL_LIST_MS;
    (void) layout_piece_prefix(g->tli, g->segno, segment_bytes, prefix);
    for (;; narrow = false)
    {
        char after[LAYOUT_KEY_MAX + 16] = "";
        bool beyond = false;

        if (narrow)
            (void) snprintf(after, sizeof after, "%s%08X", prefix, g->last_start);
        else
            g->full_list_ms = clock_monotonic_ms();
        out->requests++;
        if (segment_list(g, prefix, narrow ? after : NULL, sources, dl, err) < 0)
            return -1;
        /* the store lists in order, but the parts of a large segment came from another folder */
        if (sources->count > 1)
            qsort(sources->items, sources->count, sizeof *sources->items, segment_source_compare);
        if (segment_cover(sources, g->reached, segment_bytes, cover, err) < 0)
            return -1;
        if (!narrow)
            return 0;
        for (size_t i = 0; i < sources->count && !beyond; i++)
            beyond = sources->items[i].start > cover->reached;
        if (!beyond)
            return 0;
        /* listed twice does no harm */
    }
}

/* Fetches what the cover names; a damaged piece is passed over if others hold the same bytes. */
static int
segment_fill(
    SegmentGrowth *g, SegmentSources *sources, SegmentCover *cover, const Deadline *dl,
    SegmentRead *out, Error *err)
{
    uint32_t target = cover->reached;
    Error damage = {0};

    for (;;)
    {
        bool damaged = false;
        bool gap = false;
        int rc;

        if (cover->reached < target)
        {
            *err = damage;
            return -1;
        }
        rc = segment_fetch(g, sources, cover, dl, err);
        for (size_t i = 0; i < cover->count; i++)
        {
            const SegmentTake *take = &cover->takes[i];

            if (take->tried)
                out->requests++;
            if (take->tried && take->result == ERROR_CORRUPT)
            {
                sources->items[take->source].bad = true;
                damaged = true;
            }
            gap = gap || !take->tried || take->result != ERROR_NONE;
            if (!gap)
            {
                g->reached = take->to;
                g->last_start = sources->items[take->source].start;
            }
        }
        if (rc == 0)
            return 0;
        if (err->kind != ERROR_CORRUPT || !damaged)
            return -1;
        if (damage.kind == ERROR_NONE)
            damage = *err;
        if (segment_cover(sources, g->reached, target, cover, err) < 0)
            return -1;
    }
}

typedef enum SegmentOutcome
{
    SEGMENT_DONE,
    SEGMENT_NOTHING, /* no piece that could be used */
    SEGMENT_CHANGED  /* something listed was gone: look again */
} SegmentOutcome;

static int
segment_read_pieces(
    SegmentGrowth *g, bool need_complete, const Deadline *dl, SegmentOutcome *outcome,
    SegmentRead *out, Error *err)
{
    uint32_t segment_bytes = g->repo->description.segment_bytes;
    AUTO(segment_sources_reset) SegmentSources sources = {0};
    AUTO(segment_cover_reset) SegmentCover cover = {0};
    char name[WAL_SEGMENT_NAME_LEN + 1];

    if (segment_find_sources(g, &sources, &cover, dl, out, err) < 0)
        return -1;
    *outcome = SEGMENT_NOTHING;
    if (cover.reached == 0 || (need_complete && cover.reached < segment_bytes))
        return 0;

    /* After the listing: what an old primary wrote behind the fork may be in it. */
    if (segment_find_fork(g, dl, &out->requests, err) < 0)
        return -1;
    if (g->cut < cover.reached)
    {
        if (need_complete || g->cut == 0)
            return 0;
        if (g->cut < g->reached)
            segment_forget_from(g, g->cut);
        if (segment_cover(&sources, g->reached, g->cut, &cover, err) < 0)
            return -1;
    }

    if (segment_fill(g, &sources, &cover, dl, out, err) < 0)
    {
        if (err->kind != ERROR_NOT_FOUND)
            return -1;
        *outcome = SEGMENT_CHANGED;
        return 0;
    }
    if (segment_check_pages(g, err) < 0)
        return error_wrap(
            err, "pieces of WAL segment \"%s\"",
            wal_segment_name(g->tli, g->segno, segment_bytes, name, sizeof name));
    if (segment_pad(g, err) < 0)
        return -1;
    out->complete = g->reached == segment_bytes;
    out->data_end = g->reached;
    *outcome = SEGMENT_DONE;
    return 0;
}

int
segment_growth_read(
    SegmentGrowth *g, bool need_complete, const Deadline *dl, SegmentRead *out, Error *err)
{
    uint32_t segment_bytes = g->repo->description.segment_bytes;
    bool in_parts = layout_part_bytes(segment_bytes) < segment_bytes;
    SegmentOutcome outcome = SEGMENT_CHANGED;
    bool nothing_before = false;
    char name[WAL_SEGMENT_NAME_LEN + 1];

    (void) wal_segment_name(g->tli, g->segno, segment_bytes, name, sizeof name);
    *out = (SegmentRead){0};
    for (int round = 0; round < SEGMENT_ROUNDS; round++)
    {
        if (!in_parts)
        {
            if (segment_read_whole(g, dl, out, err) == 0)
                return 0;
            if (err->kind != ERROR_NOT_FOUND)
                return error_wrap(err, "could not read WAL segment \"%s\"", name);
        }
        /* Asked for the whole one again after no piece was there: that was the last word. */
        if (nothing_before && !in_parts)
            break;
        if (segment_read_pieces(g, need_complete, dl, &outcome, out, err) < 0)
        {
            if (err->kind == ERROR_NOT_FOUND)
                err->kind = ERROR_IO;
            return error_wrap(err, "could not read WAL segment \"%s\"", name);
        }
        if (outcome == SEGMENT_DONE)
            return 0;
        if (outcome == SEGMENT_NOTHING && nothing_before)
            break;
        nothing_before = outcome == SEGMENT_NOTHING;
    }
    if (outcome == SEGMENT_NOTHING)
        return error_set(
            err, ERROR_NOT_FOUND, "WAL segment \"%s\" is not in the repository%s", name,
            need_complete ? " as a whole" : "");
    return error_set(
        err, ERROR_TRANSIENT, "could not read WAL segment \"%s\": its pieces keep disappearing",
        name);
}

int
segment_read(
    Repository *repo, TimelineId tli, SegmentNo segno, bool need_complete, int fd,
    const Deadline *dl, SegmentRead *out, Error *err)
{
    SegmentGrowth g;

    segment_growth_init(&g, repo, tli, segno, fd);
    return segment_growth_read(&g, need_complete, dl, out, err);
}

bool
segment_is_padded(const void *last_bytes)
{
    static const char mark[SEGMENT_PAD_MARK_BYTES] = SEGMENT_PAD_MARK;

    return memcmp(last_bytes, mark, sizeof mark) == 0;
}
