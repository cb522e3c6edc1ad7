/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * From bytes to objects: the assembly, the upload workers and the ledger over a memory store, read
 * back through segment_read. Cut anywhere, resumed anywhere, with stores that fail.
 */
#include "walstream/assembly.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/log.h"
#include "fake_clock.h"
#include "repo/segment_read.h"
#include "tap.h"
#include "walstream/resume.h"

#define MB (1024u * 1024u)
#define SYSTEM_IDENTIFIER 7300000000000000001u
#define PAGE_BYTES 8192u
#define CHUNK_BYTES (64u * 1024u)

/* Everything around an assembly. */
typedef struct Bench
{
    uint32_t segment_bytes;
    Repository repo;
    ChunkPool *receive_pool;
    Counters counters;
    Streamed streamed;
    Ledger ledger;
    Uploader *uploader;
    Assembly *assembly;
    uint8_t *wal; /* two segments, segment numbers 4 and 5 */
} Bench;

static uint32_t noise = 12345;

static uint32_t
random_below(uint32_t n)
{
    noise = noise * 1664525u + 1013904223u;
    return (uint32_t) (((uint64_t) noise * n) >> 32);
}

/* WAL in the middle of one huge record: valid pages from the first to the last. */
static uint8_t *
make_wal(SegmentNo segno, uint32_t segment_bytes, uint32_t count)
{
    uint32_t bytes = segment_bytes * count;
    uint8_t *data = calloc(1, bytes);
    uint32_t left = 900u * MB;

    if (data == NULL)
        abort();
    for (uint32_t at = 0; at < bytes; at++)
        data[at] = (uint8_t) (random_below(4096) >> 8);
    for (uint32_t at = 0; at < bytes; at += PAGE_BYTES)
    {
        bool first = at % segment_bytes == 0;
        uint8_t *page = data + at;

        memset(page, 0, first ? 40 : 24);
        page[0] = 0x10;
        page[1] = 0xD1;
        page[2] = first ? 0x3 : 0x1;
        put_u32le(page + 4, 1);
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

static void
must(int rc, const Error *err)
{
    if (rc == 0)
        return;
    printf("Bail out! %s\n", err->msg);
    exit(1);
}

static void
bench_start_workers(Bench *b)
{
    Error err = {0};
    UploaderOptions uploader = {
        .repo = &b->repo,
        .ledger = &b->ledger,
        .streamed = &b->streamed,
        .counters = &b->counters,
        .workers = 3};
    AssemblyOptions assembly = {
        .repo = &b->repo,
        .pool = b->receive_pool,
        .ledger = &b->ledger,
        .streamed = &b->streamed,
        .counters = &b->counters};

    must(ledger_init(&b->ledger, NULL, NULL, &err), &err);
    must(uploader_new(&uploader, &b->uploader, &err), &err);
    assembly.uploader = b->uploader;
    must(assembly_new(&assembly, &b->assembly, &err), &err);
}

static void
bench_stop_workers(Bench *b)
{
    assembly_free(steal(b->assembly));
    uploader_stop(b->uploader, 300000);
    uploader_free(steal(b->uploader));
    ledger_destroy(&b->ledger);
}

static void
bench_open(Bench *b, uint32_t segment_bytes, Store *store, size_t receive_chunks)
{
    Error err = {0};
    uint32_t part = layout_part_bytes(segment_bytes);

    memset(b, 0, sizeof *b);
    b->segment_bytes = segment_bytes;
    b->repo.store = store;
    b->repo.format.codec.method = CODEC_LZ4;
    b->repo.description = (RepositoryDescription){
        .system_identifier = SYSTEM_IDENTIFIER,
        .pg_major = 15,
        .segment_bytes = segment_bytes,
        .part_bytes = part};
    must(
        chunk_pool_new(
            CHUNK_BYTES, uploader_output_bytes(part) * 2 / CHUNK_BYTES + 4, &b->repo.pool, &err),
        &err);
    if (receive_chunks == 0)
        receive_chunks = 3 * part / CHUNK_BYTES;
    must(chunk_pool_new(CHUNK_BYTES, receive_chunks, &b->receive_pool, &err), &err);
    streamed_init(&b->streamed);
    b->wal = make_wal(4, segment_bytes, 2);
    bench_start_workers(b);
}

static void
bench_close(Bench *b)
{
    bench_stop_workers(b);
    ok(chunk_pool_in_use(b->receive_pool) == 0 && chunk_pool_in_use(b->repo.pool) == 0,
       "all buffers are back");
    chunk_pool_free(b->receive_pool);
    chunk_pool_free(b->repo.pool);
    store_free(b->repo.store);
    streamed_destroy(&b->streamed);
    free(b->wal);
}

static Lsn
bench_start_lsn(const Bench *b)
{
    return (Lsn) 4 * b->segment_bytes;
}

/* Begins where the repository ends, as the receiver does, from [start, ...) that is known to be
 * durable. */
static int
bench_resume(Bench *b, Lsn durable, Error *err)
{
    ResumePoint point = {.tli = 1, .durable = durable};
    Deadline dl = deadline_after_ms(300000, NULL);
    KnownPiece *known;
    size_t count;
    int rc;

    point.start = durable / b->repo.description.part_bytes * b->repo.description.part_bytes;
    must(resume_read_known(&b->repo, &point, &dl, &known, &count, err), err);
    ledger_restart(&b->ledger, 1, durable);
    rc = assembly_begin(b->assembly, 1, point.start, known, count, err);
    free(known);
    return rc;
}

/* Feeds up to lsn in messages of random size; waits for memory as the receiver does. */
static int
bench_feed(Bench *b, Lsn upto, uint32_t cut_one_in, Error *err)
{
    Lsn base = bench_start_lsn(b);

    while (assembly_position(b->assembly) < upto)
    {
        Lsn at = assembly_position(b->assembly);
        size_t message = 1 + random_below(128 * 1024);
        size_t len = (size_t) MIN(upto - at, message);
        size_t taken;

        if (assembly_write(b->assembly, at, b->wal + (at - base), len, &taken, err) < 0)
            return -1;
        if (taken < len && !uploader_drop_background(b->uploader))
            clock_sleep_ms(1);
        if (cut_one_in != 0 && random_below(cut_one_in) == 0 && assembly_cut(b->assembly, err) < 0)
            return -1;
    }
    return 0;
}

static bool
bench_wait_durable(Bench *b, Lsn lsn)
{
    /* not by the clock, which may stand */
    for (int i = 0; i < 120000 && ledger_position(&b->ledger).durable < lsn; i++)
        clock_sleep_ms(1);
    return ledger_position(&b->ledger).durable == lsn;
}

/* The segment from the repository equals the WAL up to bytes; complete as told. */
static bool
bench_segment_is(Bench *b, SegmentNo segno, uint32_t bytes, bool complete)
{
    Deadline dl = deadline_after_ms(300000, NULL);
    int fd = memfd_create("segment", MFD_CLOEXEC);
    uint8_t *got = malloc(b->segment_bytes);
    const uint8_t *want = b->wal + (segno - 4) * b->segment_bytes;
    SegmentRead read;
    Error err = {0};
    bool good;

    if (fd < 0 || got == NULL)
        abort();
    good = segment_read(&b->repo, 1, segno, false, fd, &dl, &read, &err) == 0;
    if (!good)
        diag("%s", err.msg);
    good = good && read.complete == complete && read.data_end == bytes &&
           pread(fd, got, b->segment_bytes, 0) == (ssize_t) b->segment_bytes &&
           memcmp(got, want, bytes) == 0;
    (void) close(fd);
    free(got);
    return good;
}

static Store *
memory_store(void)
{
    Store *store;
    Error err = {0};

    must(store_memory_new(&store, &err), &err);
    return store;
}

/* ---- cases ---- */

static void
test_whole_and_pieces(uint32_t segment_bytes, uint32_t cut_one_in)
{
    Bench b;
    Error err = {0};
    Lsn start, middle, end;

    bench_open(&b, segment_bytes, memory_store(), 0);
    start = bench_start_lsn(&b);
    middle = start + segment_bytes + segment_bytes / 3 + 5;
    end = start + (Lsn) 2 * segment_bytes;
    ok(bench_resume(&b, start, &err) == 0 && bench_feed(&b, middle, cut_one_in, &err) == 0,
       "%u MB, a cut one message in %u: fed", segment_bytes / MB, cut_one_in);
    ok(assembly_cut(b.assembly, &err) == 0 && bench_wait_durable(&b, middle),
       "what was cut becomes durable, and no more than that");
    ok(bench_segment_is(&b, 4, segment_bytes, true), "the full segment is complete");
    ok(bench_segment_is(&b, 5, (uint32_t) (middle - start - segment_bytes), false),
       "the open segment is there up to the cut");
    ok(bench_feed(&b, end, 0, &err) == 0 && bench_wait_durable(&b, end), "the rest follows");
    bench_stop_workers(&b);
    ok(bench_segment_is(&b, 5, segment_bytes, true), "the second segment is complete");
    bench_start_workers(&b);
    bench_close(&b);
}

static void
test_resume(void)
{
    Bench b;
    Error err = {0};
    Lsn start, at, end;
    uint64_t before;

    bench_open(&b, MB, memory_store(), 0);
    start = at = bench_start_lsn(&b);
    end = start + 2 * MB;
    /* the process ends and comes back after each few bytes; the beginning of the part is sent again
     */
    for (int round = 0; at < end; round++)
    {
        Lsn step = 1 + random_below(200 * 1024);
        Lsn next = MIN(end, at + step);

        if (bench_resume(&b, at, &err) < 0 || bench_feed(&b, next, 5, &err) < 0 ||
            assembly_cut(b.assembly, &err) < 0 || !bench_wait_durable(&b, next))
            break;
        assembly_end(b.assembly);
        bench_stop_workers(&b);
        bench_start_workers(&b);
        at = next;
    }
    ok(at == end, "resumed all the way: %s", err.msg);
    ok(bench_segment_is(&b, 4, MB, true) && bench_segment_is(&b, 5, MB, true),
       "both segments are complete and the same bytes");

    /* again over what is there: nothing new, nothing in conflict */
    before = counter_read(&b.counters.upload_failures);
    ok(bench_resume(&b, start, &err) == 0 && bench_feed(&b, end, 0, &err) == 0 &&
           bench_wait_durable(&b, end) && !uploader_failure(b.uploader, false, &err) &&
           counter_read(&b.counters.upload_failures) == before,
       "the same WAL again is found to be there");
    bench_close(&b);
}

static void
test_conflict(void)
{
    Bench b;
    Error err = {0};
    Lsn start, cut;

    bench_open(&b, MB, memory_store(), 0);
    start = bench_start_lsn(&b);
    cut = start + 300000;
    ok(bench_resume(&b, start, &err) == 0 && bench_feed(&b, cut, 0, &err) == 0 &&
           assembly_cut(b.assembly, &err) == 0 && bench_wait_durable(&b, cut),
       "a piece is stored");
    assembly_end(b.assembly);
    b.wal[123456] ^= 1;
    ok(bench_resume(&b, cut, &err) == 0 && bench_feed(&b, cut + 1000, 0, &err) < 0 &&
           err.kind == ERROR_CONFLICT,
       "a server that sends other bytes is a conflict: %s", err.msg);
    ok(ledger_position(&b.ledger).durable == cut, "and nothing more is acknowledged");
    ok(assembly_cut(b.assembly, &err) == 0 && ledger_position(&b.ledger).open == 0,
       "what it sent is not stored when the stream ends");
    b.wal[123456] ^= 1;
    assembly_end(b.assembly);
    ok(bench_segment_is(&b, 4, 300000, false), "the repository is as it was");

    /* a whole segment that another writer has stored with other bytes */
    ok(bench_resume(&b, cut, &err) == 0 && bench_feed(&b, start + MB, 0, &err) == 0 &&
           bench_wait_durable(&b, start + MB),
       "the segment is finished");
    assembly_end(b.assembly);
    bench_stop_workers(&b);
    bench_start_workers(&b);
    b.wal[234567] ^= 1;
    ledger_restart(&b.ledger, 1, start);
    ok(assembly_begin(b.assembly, 1, start, NULL, 0, &err) == 0 &&
           bench_feed(&b, start + MB, 0, &err) == 0,
       "other bytes for the same segment");
    for (int i = 0; i < 120000 && !uploader_failure(b.uploader, false, &err); i++)
        clock_sleep_ms(1);
    ok(uploader_failure(b.uploader, false, &err) && err.kind == ERROR_CONFLICT,
       "the upload is refused: %s", err.msg);
    ok(ledger_position(&b.ledger).durable == start, "and not acknowledged");
    b.wal[234567] ^= 1;
    ok(bench_segment_is(&b, 4, MB, true), "the first bytes are still there");
    bench_close(&b);
}

/*
 * A server that has less WAL than the repository and writes other bytes in its place: nothing of
 * those is acknowledged, although the repository is durable beyond them.
 */
static void
test_confirmed(void)
{
    Bench b;
    Error err = {0};
    Lsn start, first, second;

    bench_open(&b, MB, memory_store(), 0);
    start = bench_start_lsn(&b);
    first = start + 200000;
    second = start + 500000;
    ok(bench_resume(&b, start, &err) == 0 && bench_feed(&b, first, 0, &err) == 0 &&
           assembly_cut(b.assembly, &err) == 0 && bench_feed(&b, second, 0, &err) == 0 &&
           assembly_cut(b.assembly, &err) == 0 && bench_wait_durable(&b, second),
       "two pieces are stored");
    ok(assembly_confirmed(b.assembly) == second, "what we received first is ours");
    assembly_end(b.assembly);

    b.wal[300000] ^= 1;
    ok(bench_resume(&b, second, &err) == 0 && assembly_confirmed(b.assembly) == start,
       "received again: nothing is confirmed at first");
    ok(bench_feed(&b, first - 1, 0, &err) == 0 && assembly_confirmed(b.assembly) == start,
       "nothing before the end of the first piece");
    ok(bench_feed(&b, first, 0, &err) == 0 && assembly_confirmed(b.assembly) == first,
       "the first piece is the same");
    ok(bench_feed(&b, second - 1, 0, &err) == 0 && assembly_confirmed(b.assembly) == first &&
           ledger_position(&b.ledger).durable == second,
       "other bytes than the second piece holds are not confirmed");
    ok(bench_feed(&b, second, 0, &err) < 0 && err.kind == ERROR_CONFLICT, "and then refused");
    b.wal[300000] ^= 1;
    ok(bench_resume(&b, second, &err) == 0 && bench_feed(&b, second + 1, 0, &err) == 0 &&
           assembly_confirmed(b.assembly) == second + 1,
       "the same bytes are confirmed");
    bench_close(&b);
}

/* A piece that is listed and cannot be had says nothing of the server's WAL. */
static void
test_known_vanishes(void)
{
    StoreFaultPlan plan = {.fail_at = 2, .kind = ERROR_NOT_FOUND};
    Store *memory = memory_store();
    Store *faulty;
    Bench b;
    Error err = {0};
    Lsn start;

    bench_open(&b, MB, memory, 0);
    start = bench_start_lsn(&b);
    ok(bench_resume(&b, start, &err) == 0 && bench_feed(&b, start + 1000, 0, &err) == 0 &&
           assembly_cut(b.assembly, &err) == 0 && bench_wait_durable(&b, start + 1000),
       "a piece is stored");

    ResumePoint point = {.tli = 1, .start = start, .durable = start + 1000};
    Deadline dl = deadline_after_ms(300000, NULL);
    KnownPiece *known = NULL;
    size_t count;

    must(store_fault_new(memory, &plan, &faulty, &err), &err);
    b.repo.store = faulty;
    ok(resume_read_known(&b.repo, &point, &dl, &known, &count, &err) < 0 &&
           err.kind == ERROR_TRANSIENT,
       "a piece that vanishes is no answer: %s", err.msg);
    ok(resume_read_known(&b.repo, &point, &dl, &known, &count, &err) == 0 && count == 1,
       "the next look has it");
    free(known);
    bench_close(&b);
}

static void
test_wrong_wal(void)
{
    static const struct
    {
        const char *label;
        uint32_t at;
        uint8_t flip;
        ErrorKind kind;
    } cases[] = {
        {"page magic", 1, 0x80, ERROR_CORRUPT},
        {"page address", 9, 1, ERROR_CORRUPT},
        {"system identifier", 25, 1, ERROR_CONFLICT},
        {"segment size", 34, 0x40, ERROR_CONFLICT},
    };

    for (size_t c = 0; c < ARRAY_COUNT(cases); c++)
    {
        Bench b;
        Error err = {0};

        bench_open(&b, MB, memory_store(), 0);
        b.wal[cases[c].at] ^= cases[c].flip;
        ok(bench_resume(&b, bench_start_lsn(&b), &err) == 0 &&
               bench_feed(&b, bench_start_lsn(&b) + 100, 0, &err) < 0 && err.kind == cases[c].kind,
           "another %s is refused: %s", cases[c].label, err.msg);
        bench_close(&b);
    }
}

/* Memory for less than two parts, and a store that is slow to come round. */
static void
test_little_memory(void)
{
    static const StoreRetryOptions retry = {.first_delay_ms = 1, .max_delay_ms = 5};
    StoreFaultPlan plan = {.fail_at = 3, .kind = ERROR_TRANSIENT};
    Store *faulty;
    Store *retrying;
    Bench b;
    Error err = {0};
    Lsn start;

    must(store_fault_new(memory_store(), &plan, &faulty, &err), &err);
    must(store_retry_new(faulty, &retry, &retrying, &err), &err);
    bench_open(&b, MB, retrying, MB / CHUNK_BYTES + 2);
    start = bench_start_lsn(&b);
    ok(bench_resume(&b, start, &err) == 0 && bench_feed(&b, start + 2 * MB, 9, &err) == 0 &&
           assembly_cut(b.assembly, &err) == 0 && bench_wait_durable(&b, start + 2 * MB),
       "two segments through a pool of little more than one");
    bench_stop_workers(&b);
    ok(bench_segment_is(&b, 4, MB, true) && bench_segment_is(&b, 5, MB, true), "all there");
    bench_start_workers(&b);
    bench_close(&b);
}

/* The n-th call of the store fails, or its answer is lost: what is durable is always there. */
static void
test_faults(void)
{
    for (uint64_t n = 1; n <= 12; n++)
    {
        for (int after = 0; after < 2; after++)
        {
            StoreFaultPlan plan = {.fail_at = n, .kind = ERROR_TRANSIENT, .after = after != 0};
            Store *memory = memory_store();
            Store *faulty;
            Bench b;
            Error err = {0};
            Lsn start, end;

            must(store_fault_new(memory, &plan, &faulty, &err), &err);
            bench_open(&b, MB, faulty, 0);
            start = bench_start_lsn(&b);
            end = start + MB + 4321;
            ledger_restart(&b.ledger, 1, start);
            ok(assembly_begin(b.assembly, 1, start, NULL, 0, &err) == 0 &&
                   bench_feed(&b, end, 6, &err) == 0 && assembly_cut(b.assembly, &err) == 0 &&
                   bench_wait_durable(&b, end),
               "call %u fails %s: all becomes durable", (unsigned) n,
               after ? "after it was done" : "before");
            bench_stop_workers(&b);
            b.repo.store = memory; /* read without faults */
            ok(bench_segment_is(&b, 4, MB, true) && bench_segment_is(&b, 5, 4321, false),
               "and it is there");
            b.repo.store = faulty;
            bench_start_workers(&b);
            bench_close(&b);
        }
    }
}

static void
test_pace(void)
{
    Bench b;
    Error err = {0};
    Lsn start;
    int64_t next;

    bench_open(&b, MB, memory_store(), 0);
    start = bench_start_lsn(&b);
    fake_clock_stop();
    assembly_set_pace(b.assembly, 50, false, 0);
    ok(bench_resume(&b, start, &err) == 0 && assembly_next_cut_ms(b.assembly) == INT64_MAX,
       "nothing to cut at first");
    ok(bench_feed(&b, start + 100, 0, &err) == 0, "bytes");
    next = assembly_next_cut_ms(b.assembly) - clock_monotonic_ms();
    ok(next >= 49 && next <= 50, "the first byte waits for the flush interval (%d ms)", (int) next);
    fake_clock_move_ms(next - 1);
    ok(assembly_cut_if_due(b.assembly, &err) == 0 && ledger_position(&b.ledger).open == 0,
       "not cut before that");
    fake_clock_move_ms(1);
    ok(assembly_cut_if_due(b.assembly, &err) == 0 && bench_wait_durable(&b, start + 100),
       "cut after that");
    assembly_set_pace(b.assembly, 1000, true, 0);
    ok(bench_feed(&b, start + 200, 0, &err) == 0 && assembly_cut_if_due(b.assembly, &err) == 0 &&
           bench_wait_durable(&b, start + 200),
       "synchronous: at once");
    assembly_set_pace(b.assembly, 1, false, 5);
    ok(bench_feed(&b, start + 300, 0, &err) == 0, "with a bound of 5 a second");
    fake_clock_move_ms(5);
    ok(assembly_cut_if_due(b.assembly, &err) == 0 && bench_wait_durable(&b, start + 300),
       "the first piece goes");
    ok(bench_feed(&b, start + 400, 0, &err) == 0, "more bytes");
    fake_clock_move_ms(5);
    next = assembly_next_cut_ms(b.assembly) - clock_monotonic_ms();
    ok(assembly_cut_if_due(b.assembly, &err) == 0 && ledger_position(&b.ledger).open == 0 &&
           next >= 190 && next <= 201,
       "the second has to wait (%d ms)", (int) next);
    fake_clock_move_ms(next);
    ok(assembly_cut_if_due(b.assembly, &err) == 0 && bench_wait_durable(&b, start + 400),
       "and goes then");
    atomic_store(&fake_clock_stands, false);
    bench_close(&b);
}

int
main(void)
{
    log_open("test_assembly", LOG_FATAL, LOG_FORMAT_TEXT);
    test_whole_and_pieces(MB, 0);
    test_whole_and_pieces(MB, 4);
    test_whole_and_pieces(16 * MB, 40);
    test_whole_and_pieces(64 * MB, 100);
    test_resume();
    test_conflict();
    test_confirmed();
    test_known_vanishes();
    test_wrong_wal();
    test_little_memory();
    test_faults();
    test_pace();
    return done_testing();
}
