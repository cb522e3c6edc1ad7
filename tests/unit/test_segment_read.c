/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Tests of reading WAL segments back: complete objects, parts, pieces in every arrangement, forks,
 * damage, and failures of the store at every call.
 */
#include "repo/segment_read.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "tap.h"

#define MB (1024u * 1024u)
#define SYSTEM_IDENTIFIER 7300000000000000001u
#define PAGE_BYTES 8192u
#define SEGNO 5u

static const ObjectFormat plain_format = {.codec = {.method = CODEC_LZ4}};

/* A segment in the middle of one huge record: valid pages from the first to the last. */
static uint8_t *
test_make_segment(TimelineId tli, SegmentNo segno, uint32_t segment_bytes)
{
    uint8_t *data = calloc(1, segment_bytes);
    uint32_t left = 900u * MB;
    uint32_t noise = 12345;

    if (data == NULL)
        abort();
    for (uint32_t at = 0; at < segment_bytes; at++)
    {
        noise = noise * 1664525u + 1013904223u;
        data[at] = (uint8_t) (noise >> 28);
    }
    for (uint32_t at = 0; at < segment_bytes; at += PAGE_BYTES)
    {
        bool first = at == 0;
        uint8_t *page = data + at;

        memset(page, 0, first ? 40 : 24);
        page[0] = 0x10;
        page[1] = 0xD1;
        page[2] = first ? 0x3 : 0x1; /* continues a record; long header */
        put_u32le(page + 4, tli);
        put_u64le(page + 8, segno * segment_bytes + at);
        put_u32le(page + 16, left);
        if (first)
        {
            put_u64le(page + 24, SYSTEM_IDENTIFIER);
            put_u32le(page + 32, segment_bytes);
            put_u32le(page + 36, PAGE_BYTES);
        }
        left -= PAGE_BYTES - (first ? 40u : 24u);
    }
    return data;
}

typedef struct World
{
    Store *memory; /* in repo.store, below what wraps it */
    Repository repo;
    uint8_t *wal;
} World;

static void
world_open(World *w, uint32_t segment_bytes)
{
    Error err = {0};

    *w = (World){0};
    if (store_memory_new(&w->memory, &err) < 0)
        abort();
    w->repo.store = w->memory;
    w->repo.description.segment_bytes = segment_bytes;
    w->repo.description.system_identifier = SYSTEM_IDENTIFIER;
    w->wal = test_make_segment(1, SEGNO, segment_bytes);
}

static void
world_close(World *w)
{
    store_free(w->repo.store);
    free(w->wal);
}

static void
world_put(World *w, const char *label_key, const char *key, const void *data, size_t len)
{
    Deadline dl = deadline_after_ms(-1, NULL);
    ObjectPutResult result;
    Error err = {0};

    if (strcmp(label_key, key) == 0)
    {
        if (object_put_bytes(w->memory, &plain_format, key, data, len, &dl, &result, &err) < 0)
        {
            diag("put: %s", err.msg);
            abort();
        }
        return;
    }

    /* swapped: made for one name and stored under another */
    Store *other;
    Stage *sink;
    static uint8_t raw[2 * MB];
    size_t raw_len = 0;

    if (store_memory_new(&other, &err) < 0 ||
        object_put_bytes(other, &plain_format, label_key, data, len, &dl, &result, &err) < 0 ||
        stage_memory_sink_new(raw, sizeof raw, &raw_len, &sink, &err) < 0 ||
        store_get(other, label_key, (ByteRange){0, 0}, sink, &dl, &err) < 0)
        abort();

    struct iovec iov = {.iov_base = raw, .iov_len = raw_len};
    StoreBody body = {.iov = &iov, .iov_count = 1, .bytes = raw_len};

    if (store_put(w->memory, key, &body, &dl, &err) < 0)
        abort();
    stage_free(sink);
    store_free(other);
}

/* Stores damaged bytes under key: an object whose middle was changed. */
static void
world_put_damaged(World *w, const char *key, const void *data, size_t len)
{
    Deadline dl = deadline_after_ms(-1, NULL);
    static uint8_t raw[2 * MB];
    size_t raw_len = 0;
    Store *other;
    Stage *sink;
    ObjectPutResult result;
    Error err = {0};

    if (store_memory_new(&other, &err) < 0 ||
        object_put_bytes(other, &plain_format, key, data, len, &dl, &result, &err) < 0 ||
        stage_memory_sink_new(raw, sizeof raw, &raw_len, &sink, &err) < 0 ||
        store_get(other, key, (ByteRange){0, 0}, sink, &dl, &err) < 0)
        abort();
    raw[raw_len - raw_len / 4] ^= 0x55;

    struct iovec iov = {.iov_base = raw, .iov_len = raw_len};
    StoreBody body = {.iov = &iov, .iov_count = 1, .bytes = raw_len};

    if (store_put(w->memory, key, &body, &dl, &err) < 0)
        abort();
    stage_free(sink);
    store_free(other);
}

static void
world_put_piece(World *w, uint32_t start, uint32_t end, bool damaged)
{
    WalExtent extent = {.tli = 1, .segno = SEGNO, .start = start, .end = end};
    char key[LAYOUT_KEY_MAX];

    (void) layout_piece_key(&extent, w->repo.description.segment_bytes, key);
    if (damaged)
        world_put_damaged(w, key, w->wal + start, end - start);
    else
        world_put(w, key, key, w->wal + start, end - start);
}

static void
world_put_part(World *w, uint32_t start, uint32_t end)
{
    WalExtent extent = {.tli = 1, .segno = SEGNO, .start = start, .end = end};
    char key[LAYOUT_KEY_MAX];

    (void) layout_part_key(&extent, w->repo.description.segment_bytes, key);
    world_put(w, key, key, w->wal + start, end - start);
}

static void
world_put_history(World *w, TimelineId tli, const char *text)
{
    WalFileName name = {.kind = WAL_FILE_HISTORY, .tli = tli};
    char key[LAYOUT_KEY_MAX];

    (void) layout_wal_file_key(&name, key);
    world_put(w, key, key, text, strlen(text));
}

static int
test_file(void)
{
    int fd = memfd_create("segment", MFD_CLOEXEC);

    if (fd < 0)
        abort();
    return fd;
}

/* The file is what it must be: WAL up to data_end, zeros, and the mark if there is room. */
static bool
world_file_right(const World *w, int fd, uint32_t data_end)
{
    uint32_t segment_bytes = w->repo.description.segment_bytes;
    uint8_t *want = calloc(1, segment_bytes);
    uint8_t *got = calloc(1, segment_bytes);
    struct stat st;
    bool right;

    if (want == NULL || got == NULL || fstat(fd, &st) < 0)
        abort();
    memcpy(want, w->wal, data_end);
    if (segment_bytes - data_end >= SEGMENT_PAD_MARK_BYTES)
        memcpy(
            want + segment_bytes - SEGMENT_PAD_MARK_BYTES, SEGMENT_PAD_MARK,
            sizeof SEGMENT_PAD_MARK - 1);
    right = st.st_size == (off_t) segment_bytes &&
            pread(fd, got, segment_bytes, 0) == (ssize_t) segment_bytes &&
            memcmp(got, want, segment_bytes) == 0;
    if (right)
        right = segment_is_padded(got + segment_bytes - SEGMENT_PAD_MARK_BYTES) ==
                (segment_bytes - data_end >= SEGMENT_PAD_MARK_BYTES);
    free(want);
    free(got);
    return right;
}

typedef struct PieceCase
{
    const char *label;
    struct
    {
        uint32_t start, end;
        bool damaged;
    } pieces[6];
    const char *history[2]; /* of timelines 2 and 3 */
    bool whole;
    bool need_complete;
    ErrorKind kind; /* NONE: success */
    uint32_t data_end;
    bool complete;
} PieceCase;

static const PieceCase piece_cases[] = {
    {.label = "nothing there", .kind = ERROR_NOT_FOUND},
    {.label = "the whole segment", .whole = true, .data_end = MB, .complete = true},
    {.label = "the whole one beside pieces",
     .whole = true,
     .pieces = {{0, 100, false}},
     .data_end = MB,
     .complete = true},
    {.label = "one piece", .pieces = {{0, 5000, false}}, .data_end = 5000},
    {.label = "a piece of one byte", .pieces = {{0, 1, false}}, .data_end = 1},
    {.label = "a piece that ends in a page header",
     .pieces = {{0, PAGE_BYTES + 10, false}},
     .data_end = PAGE_BYTES + 10},
    {.label = "pieces side by side",
     .pieces = {{0, 5000, false}, {5000, 5001, false}, {5001, 70000, false}},
     .data_end = 70000},
    {.label = "overlapping pieces of two writers",
     .pieces =
         {{0, 5000, false},
          {0, 300, false},
          {300, 9000, false},
          {4000, 8000, false},
          {7000, 30000, false}},
     .data_end = 30000},
    {.label = "a gap ends it",
     .pieces = {{0, 5000, false}, {5001, 70000, false}},
     .data_end = 5000},
    {.label = "no piece at the beginning", .pieces = {{1, 5000, false}}, .kind = ERROR_NOT_FOUND},
    {.label = "all of it in pieces",
     .pieces = {{0, 500000, false}, {400000, MB, false}},
     .data_end = MB,
     .complete = true},
    {.label = "all of it in pieces, whole needed",
     .pieces = {{0, 500000, false}, {400000, MB, false}},
     .need_complete = true,
     .data_end = MB,
     .complete = true},
    {.label = "not all of it, whole needed",
     .pieces = {{0, 500000, false}},
     .need_complete = true,
     .kind = ERROR_NOT_FOUND},
    {.label = "room for the mark exactly",
     .pieces = {{0, MB - SEGMENT_PAD_MARK_BYTES, false}},
     .data_end = MB - SEGMENT_PAD_MARK_BYTES},
    {.label = "no room for the mark",
     .pieces = {{0, MB - SEGMENT_PAD_MARK_BYTES + 1, false}},
     .data_end = MB - SEGMENT_PAD_MARK_BYTES + 1},
    {.label = "a damaged piece", .pieces = {{0, 5000, true}}, .kind = ERROR_CORRUPT},
    {.label = "a damaged piece at the end",
     .pieces = {{0, 5000, false}, {5000, 20000, true}},
     .kind = ERROR_CORRUPT},
    {.label = "a damaged piece that others cover",
     .pieces = {{0, 5000, false}, {5000, 20000, true}, {4000, 12000, false}, {12000, 20000, false}},
     .data_end = 20000},
    {.label = "a damaged piece that others cover in part",
     .pieces = {{0, 5000, false}, {5000, 20000, true}, {4000, 12000, false}},
     .kind = ERROR_CORRUPT},
    {.label = "a damaged piece that is not needed",
     .pieces = {{0, 5000, false}, {10, 4000, true}},
     .data_end = 5000},
    {.label = "a fork inside",
     .pieces = {{0, 5000, false}, {5000, 70000, false}},
     .history = {"1\t0/501770\tfork\n"},
     .data_end = 0x1770},
    {.label = "a fork behind what is there",
     .pieces = {{0, 5000, false}},
     .history = {"1\t0/501770\tfork\n"},
     .data_end = 5000},
    {.label = "a fork in another segment",
     .pieces = {{0, 70000, false}},
     .history = {"1\t0/601770\tfork\n"},
     .data_end = 70000},
    {.label = "a fork in front of the segment",
     .pieces = {{0, 70000, false}},
     .history = {"1\t0/4FFFFF\tfork\n"},
     .data_end = 70000},
    {.label = "a fork at its first byte",
     .pieces = {{0, 70000, false}},
     .history = {"1\t0/500000\tfork\n"},
     .kind = ERROR_NOT_FOUND},
    {.label = "two forks, the earlier one counts",
     .pieces = {{0, 70000, false}},
     .history = {"1\t0/508000\tfork\n", "1\t0/504000\tfork\n"},
     .data_end = 0x4000},
    {.label = "a fork when the whole segment is there",
     .whole = true,
     .history = {"1\t0/508000\tfork\n"},
     .data_end = MB,
     .complete = true},
    {.label = "all in pieces, but a fork inside, whole needed",
     .pieces = {{0, MB, false}},
     .history = {"1\t0/508000\tfork\n"},
     .need_complete = true,
     .kind = ERROR_NOT_FOUND},
    {.label = "a history that makes no sense",
     .pieces = {{0, 70000, false}},
     .history = {"nonsense\n"},
     .kind = ERROR_CORRUPT},
};

static void
world_fill(World *w, const PieceCase *c)
{
    for (size_t i = 0; i < ARRAY_COUNT(c->pieces) && c->pieces[i].end > 0; i++)
        world_put_piece(w, c->pieces[i].start, c->pieces[i].end, c->pieces[i].damaged);
    if (c->whole)
        world_put_part(w, 0, w->repo.description.segment_bytes);
    for (size_t i = 0; i < ARRAY_COUNT(c->history); i++)
        if (c->history[i] != NULL)
            world_put_history(w, (TimelineId) (i + 2), c->history[i]);
}

static void
test_pieces(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(piece_cases); i++)
    {
        const PieceCase *c = &piece_cases[i];
        Deadline dl = deadline_after_ms(-1, NULL);
        int fd = test_file();
        SegmentRead read;
        Error err = {0};
        World w;
        int rc;

        world_open(&w, MB);
        world_fill(&w, c);
        rc = segment_read(&w.repo, 1, SEGNO, c->need_complete, fd, &dl, &read, &err);
        if (c->kind != ERROR_NONE)
            ok(rc < 0 && err.kind == c->kind, "%s: %s", c->label, error_kind_name(c->kind));
        else
            ok(rc == 0 && read.complete == c->complete && read.data_end == c->data_end &&
                   world_file_right(&w, fd, c->data_end),
               "%s: %u bytes", c->label, c->data_end);
        if (rc < 0 && err.kind != c->kind)
            diag("%s", err.msg);
        else if (rc == 0 && c->kind == ERROR_NONE && read.data_end != c->data_end)
            diag("data ends at %u", read.data_end);
        (void) close(fd);
        world_close(&w);
    }
}

/* Each failing call of the store, in each case: never NOT_FOUND for what is there, never a wrong
 * file. */
static void
test_faults(void)
{
    static const struct
    {
        ErrorKind kind;
        bool keep_failing;
    } plans[] = {{ERROR_TRANSIENT, false}, {ERROR_DENIED, true}, {ERROR_TIMEOUT, true}};

    for (size_t i = 0; i < ARRAY_COUNT(piece_cases); i++)
    {
        const PieceCase *c = &piece_cases[i];
        unsigned runs = 0;
        bool good = true;
        World w;

        world_open(&w, MB);
        world_fill(&w, c);
        for (size_t k = 0; k < ARRAY_COUNT(plans); k++)
        {
            for (uint64_t n = 1;; n++)
            {
                StoreFaultPlan plan = {
                    .fail_at = n, .kind = plans[k].kind, .keep_failing = plans[k].keep_failing};
                Deadline dl = deadline_after_ms(-1, NULL);
                Store *borrowed = NULL;
                Repository repo = w.repo;
                int fd = test_file();
                SegmentRead read;
                Error err = {0};
                bool fired;
                int rc;

                /* a view, so that freeing the faulty store leaves the world's store alone */
                if (store_prefix_new(w.memory, "", &borrowed, &err) < 0 ||
                    store_fault_new(borrowed, &plan, &repo.store, &err) < 0)
                    abort();
                rc = segment_read(&repo, 1, SEGNO, c->need_complete, fd, &dl, &read, &err);
                fired = store_fault_calls(repo.store) >= n;
                if (rc == 0)
                    good = good && c->kind == ERROR_NONE && read.data_end == c->data_end &&
                           world_file_right(&w, fd, c->data_end);
                else if (err.kind == ERROR_NOT_FOUND)
                    good = good && !fired && c->kind == ERROR_NOT_FOUND;
                runs++;
                (void) close(fd);
                if (!good)
                    diag(
                        "call %u failing with %s: rc %d, %s", (unsigned) n,
                        error_kind_name(plans[k].kind), rc, err.msg);
                /* frees the wrappers, and the memory store with them: the world gets a new one */
                store_free(repo.store);
                if (store_memory_new(&w.memory, &err) < 0)
                    abort();
                w.repo.store = w.memory;
                world_fill(&w, c);
                if (!fired || !good)
                    break;
            }
        }
        ok(good && runs >= ARRAY_COUNT(plans) * 2, "%s: %u runs with a fault", c->label, runs);
        world_close(&w);
    }
}

static void
test_objects(void)
{
    Deadline dl = deadline_after_ms(-1, NULL);
    char key[LAYOUT_KEY_MAX];
    char other[LAYOUT_KEY_MAX];
    SegmentRead read;
    Error err = {0};
    World w;
    int fd;

    world_open(&w, MB);
    (void) layout_segment_key(1, SEGNO, MB, key);
    (void) layout_segment_key(1, SEGNO + 1, MB, other);
    world_put(&w, other, key, w.wal, MB);
    fd = test_file();
    ok(segment_read(&w.repo, 1, SEGNO, false, fd, &dl, &read, &err) < 0 &&
           err.kind == ERROR_CORRUPT && strstr(err.msg, key) != NULL,
       "an object swapped for another is refused and named");
    (void) close(fd);
    world_close(&w);

    world_open(&w, MB);
    world_put(&w, key, key, w.wal, MB - PAGE_BYTES);
    fd = test_file();
    ok(segment_read(&w.repo, 1, SEGNO, false, fd, &dl, &read, &err) < 0 &&
           err.kind == ERROR_CORRUPT && strstr(err.msg, key) != NULL,
       "a segment object that is too short is refused");
    (void) close(fd);
    world_close(&w);

    world_open(&w, MB);
    world_put_damaged(&w, key, w.wal, MB);
    fd = test_file();
    ok(segment_read(&w.repo, 1, SEGNO, true, fd, &dl, &read, &err) < 0 &&
           err.kind == ERROR_CORRUPT && strstr(err.msg, key) != NULL,
       "a damaged segment object is refused and named");
    (void) close(fd);
    world_close(&w);

    world_open(&w, MB);
    put_u64le(w.wal + PAGE_BYTES + 8, 0x12345678);
    world_put_part(&w, 0, MB);
    fd = test_file();
    ok(segment_read(&w.repo, 1, SEGNO, false, fd, &dl, &read, &err) < 0 &&
           err.kind == ERROR_CORRUPT,
       "a segment with a page of another place is refused");
    (void) close(fd);
    world_close(&w);

    world_open(&w, MB);
    put_u64le(w.wal + 24, SYSTEM_IDENTIFIER + 1);
    world_put_piece(&w, 0, 5000, false);
    fd = test_file();
    ok(segment_read(&w.repo, 1, SEGNO, false, fd, &dl, &read, &err) < 0 &&
           err.kind == ERROR_CONFLICT,
       "pieces of another cluster are refused");
    (void) close(fd);
    world_close(&w);
}

static void
test_parts(void)
{
    static const struct
    {
        const char *label;
        uint32_t parts[2]; /* numbers of the parts there are, UINT32_MAX: none */
        uint32_t piece_start, piece_end;
        bool need_complete;
        ErrorKind kind;
        uint32_t data_end;
    } cases[] = {
        {"both parts", {0, 1}, 0, 0, true, ERROR_NONE, 32 * MB},
        {"first part only", {0, UINT32_MAX}, 0, 0, false, ERROR_NONE, 16 * MB},
        {"first part only, whole needed", {0, UINT32_MAX}, 0, 0, true, ERROR_NOT_FOUND, 0},
        {"second part only", {1, UINT32_MAX}, 0, 0, false, ERROR_NOT_FOUND, 0},
        {"first part and a piece over its end",
         {0, UINT32_MAX},
         16 * MB - 1000,
         16 * MB + 5000,
         false,
         ERROR_NONE,
         16 * MB + 5000},
        {"a piece that joins up with the second part",
         {1, UINT32_MAX},
         0,
         16 * MB,
         true,
         ERROR_NONE,
         32 * MB},
        {"no part", {UINT32_MAX, UINT32_MAX}, 0, 5000, false, ERROR_NONE, 5000},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Deadline dl = deadline_after_ms(-1, NULL);
        int fd = test_file();
        SegmentRead read;
        Error err = {0};
        World w;
        int rc;

        world_open(&w, 32 * MB);
        for (size_t k = 0; k < 2; k++)
            if (cases[i].parts[k] != UINT32_MAX)
                world_put_part(&w, cases[i].parts[k] * 16 * MB, (cases[i].parts[k] + 1) * 16 * MB);
        if (cases[i].piece_end > 0)
            world_put_piece(&w, cases[i].piece_start, cases[i].piece_end, false);
        rc = segment_read(&w.repo, 1, SEGNO, cases[i].need_complete, fd, &dl, &read, &err);
        if (cases[i].kind != ERROR_NONE)
            ok(rc < 0 && err.kind == cases[i].kind, "32 MB, %s", cases[i].label);
        else
            ok(rc == 0 && read.data_end == cases[i].data_end &&
                   read.complete == (cases[i].data_end == 32 * MB) &&
                   world_file_right(&w, fd, cases[i].data_end),
               "32 MB, %s", cases[i].label);
        if (rc < 0 && err.kind != cases[i].kind)
            diag("%s", err.msg);
        (void) close(fd);
        world_close(&w);
    }
}

static bool
growth_is(SegmentGrowth *g, const World *w, uint32_t data_end, uint64_t max_requests)
{
    Deadline dl = deadline_after_ms(-1, NULL);
    SegmentRead read;
    Error err = {0};

    if (segment_growth_read(g, false, &dl, &read, &err) < 0)
    {
        diag("%s", err.msg);
        return false;
    }
    if (read.requests > max_requests)
        diag("%u requests", (unsigned) read.requests);
    if (read.data_end != data_end)
        diag("data ends at %u", read.data_end);
    return read.data_end == data_end && world_file_right(w, g->fd, data_end) &&
           read.requests <= max_requests;
}

static void
test_growth(void)
{
    Deadline dl = deadline_after_ms(-1, NULL);
    int fd = test_file();
    SegmentGrowth g;
    SegmentRead read;
    Error err = {0};
    World w;

    world_open(&w, MB);
    segment_growth_init(&g, &w.repo, 1, SEGNO, fd);
    ok(segment_growth_read(&g, false, &dl, &read, &err) < 0 && err.kind == ERROR_NOT_FOUND,
       "growing: nothing yet");
    world_put_piece(&w, 0, 5000, false);
    ok(growth_is(&g, &w, 5000, 4), "growing: the first piece");
    world_put_piece(&w, 5000, 9000, false);
    world_put_piece(&w, 9000, MB - 10, false);
    ok(growth_is(&g, &w, MB - 10, 5), "growing: two more, only they are fetched");
    ok(growth_is(&g, &w, MB - 10, 3), "growing: nothing new");
    world_put_part(&w, 0, MB);
    ok(growth_is(&g, &w, MB, 1), "growing: complete");
    (void) close(fd);
    world_close(&w);

    fd = test_file();
    world_open(&w, MB);
    segment_growth_init(&g, &w.repo, 1, SEGNO, fd);
    world_put_piece(&w, 0, 5000, false);
    world_put_piece(&w, 5000, 9000, false);
    ok(growth_is(&g, &w, 9000, 5), "growing: two pieces");
    world_put_piece(&w, 20000, 30000, false);
    world_put_piece(&w, 3000, 20000, false);
    ok(growth_is(&g, &w, 30000, 6), "growing: what another writer filled in earlier is found");
    world_put_history(&w, 2, "1\t0/501770\tfork\n");
    ok(growth_is(&g, &w, 0x1770, 4), "growing: a fork that came later cuts it");
    ok(growth_is(&g, &w, 0x1770, 5), "growing: it stays cut");
    world_put_piece(&w, 0x1770, 6050, true);
    ok(growth_is(&g, &w, 0x1770, 5), "growing: what is behind the fork is not looked at");
    (void) close(fd);
    world_close(&w);
}

/* A store in which the segment is completed, and its pieces expire, just after they were listed. */
typedef struct RaceStore
{
    Store store;
    World *world;
    bool listed;
} RaceStore;

static int
race_get(Store *st, const char *key, ByteRange range, Stage *sink, const Deadline *dl, Error *err)
{
    return store_get(((RaceStore *) st)->world->memory, key, range, sink, dl, err);
}

static int
race_list(
    Store *st, const StoreListOptions *options, StoreListFn fn, void *ctx, const Deadline *dl,
    Error *err)
{
    RaceStore *race = (RaceStore *) st;
    int rc = store_list(race->world->memory, options, fn, ctx, dl, err);

    if (!race->listed)
    {
        WalExtent extent = {.tli = 1, .segno = SEGNO, .start = 0, .end = 5000};
        char key[LAYOUT_KEY_MAX];
        StoreRemoved removed = {.key = layout_piece_key(&extent, MB, key)};

        race->listed = true;
        world_put_part(race->world, 0, MB);
        if (store_remove(race->world->memory, &removed, 1, dl, err) < 0)
            return -1;
    }
    return rc;
}

static void
race_destroy(Store *st)
{
    (void) st;
}

static void
test_race(void)
{
    static const StoreOps ops = {.get = race_get, .list = race_list, .destroy = race_destroy};

    for (int with_piece = 0; with_piece < 2; with_piece++)
    {
        Deadline dl = deadline_after_ms(-1, NULL);
        int fd = test_file();
        RaceStore race = {.store = {.ops = &ops}};
        Repository repo;
        SegmentRead read;
        Error err = {0};
        World w;

        world_open(&w, MB);
        race.world = &w;
        repo = w.repo;
        repo.store = &race.store;
        if (with_piece)
            world_put_piece(&w, 0, 5000, false);
        ok(segment_read(&repo, 1, SEGNO, false, fd, &dl, &read, &err) == 0 && read.complete &&
               world_file_right(&w, fd, MB),
           "completed while it was looked for, %s", with_piece ? "one piece" : "no piece");
        (void) close(fd);
        world_close(&w);
    }
}

int
main(void)
{
    test_pieces();
    test_race();
    test_objects();
    test_parts();
    test_growth();
    test_faults();
    return done_testing();
}
