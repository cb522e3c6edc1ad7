/* SPDX-License-Identifier: PostgreSQL */
#include "repo/wal_report.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define SEG ((Lsn) 1024 * 1024)
#define SEG_BYTES (1024u * 1024)

/* One object: a whole segment, or a piece when end is not 0. */
typedef struct Thing
{
    TimelineId tli;
    SegmentNo segno;
    uint32_t start, end;
    int64_t us;
} Thing;

typedef struct Fork
{
    TimelineId tli;
    const char *text; /* of its history file */
} Fork;

typedef struct Hole
{
    TimelineId tli, next;
    Lsn start, end;
    bool dead;
} Hole;

static void
add_thing(WalInventory *inv, const Thing *thing)
{
    WalExtent extent = {
        .tli = thing->tli,
        .segno = thing->segno,
        .start = thing->start,
        .end = thing->end != 0 ? thing->end : SEG_BYTES};
    char key[LAYOUT_KEY_MAX];
    StoreEntry entry = {.key = key, .bytes = 100, .modified_us = thing->us};
    Error err = {0};

    if (thing->end != 0)
        (void) layout_piece_key(&extent, SEG_BYTES, key);
    else
        (void) layout_part_key(&extent, SEG_BYTES, key);
    if (wal_inventory_add(inv, &entry, &err) < 0)
        abort();
}

static void
add_histories(WalInventory *inv, const Fork *forks, size_t count)
{
    for (size_t i = 0; i < inv->timeline_count; i++)
    {
        WalTimeline *t = &inv->timelines[i];
        const char *text = NULL;
        Error err = {0};

        for (size_t f = 0; f < count; f++)
            if (forks[f].tli == t->tli)
                text = forks[f].text;
        if (t->tli == 1 || text != NULL)
        {
            if (timeline_parse_history(
                    t->tli, text, text != NULL ? strlen(text) : 0, &t->history, &err) < 0)
                abort();
            t->history_state = t->tli == 1 ? WAL_HISTORY_NOT_NEEDED : WAL_HISTORY_READ;
        }
        else
            t->history_state = WAL_HISTORY_MISSING;
    }
}

/* ---- gaps, branches, end ---- */

#define THINGS_MAX 8

static const struct
{
    const char *label;
    Thing things[THINGS_MAX];
    Fork forks[3];
    size_t gap_count;
    Hole gaps[3];
    size_t branch_count;
    struct
    {
        TimelineId tli;
        Lsn start, end;
        bool whole;
    } branches[2];
    TimelineId newest;
    Lsn durable;
} cases[] = {
    {.label = "nothing"},
    {.label = "segments in a row",
     .things = {{1, 1, 0, 0, 5}, {1, 2, 0, 0, 6}, {1, 3, 0, 0, 7}},
     .newest = 1,
     .durable = 4 * SEG},
    {.label = "in any order",
     .things = {{1, 3, 0, 0, 5}, {1, 1, 0, 0, 6}, {1, 2, 0, 0, 7}},
     .newest = 1,
     .durable = 4 * SEG},
    {.label = "a segment is missing",
     .things = {{1, 1, 0, 0, 5}, {1, 3, 0, 0, 7}},
     .gap_count = 1,
     .gaps = {{1, 1, 2 * SEG, 3 * SEG, false}},
     .newest = 1,
     .durable = 4 * SEG},
    {.label = "pieces continue segments",
     .things = {{1, 1, 0, 0, 5}, {1, 2, 0, 8192, 6}, {1, 2, 8192, 9000, 7}},
     .newest = 1,
     .durable = 2 * SEG + 9000},
    {.label = "pieces fill the hole of a segment",
     .things = {{1, 1, 0, 0, 5}, {1, 2, 0, 8192, 6}, {1, 2, 8000, SEG_BYTES, 7}, {1, 3, 0, 0, 8}},
     .newest = 1,
     .durable = 4 * SEG},
    {.label = "a piece is missing",
     .things = {{1, 1, 0, 0, 5}, {1, 2, 0, 8192, 6}, {1, 2, 8200, 9000, 7}},
     .gap_count = 1,
     .gaps = {{1, 1, 2 * SEG + 8192, 2 * SEG + 8200, false}},
     .newest = 1,
     .durable = 2 * SEG + 9000},
    {.label = "the first piece of all is missing",
     .things = {{1, 2, 4096, 8192, 6}},
     .gap_count = 1,
     .gaps = {{1, 1, 2 * SEG, 2 * SEG + 4096, false}},
     .newest = 1,
     .durable = 2 * SEG + 8192},
    {.label = "the first piece of a child is missing",
     .things = {{1, 1, 0, 0, 5}, {1, 2, 0, 5000, 6}, {2, 2, 4096, 8192, 7}},
     .forks = {{2, "1\t0/201388\twhy\n"}},
     .gap_count = 1,
     .gaps = {{2, 2, 2 * SEG, 2 * SEG + 4096, false}},
     .newest = 2,
     .durable = 2 * SEG + 8192},
    {.label = "promotion in mid-segment",
     .things = {{1, 1, 0, 0, 5}, {1, 2, 0, 5000, 6}, {2, 2, 0, 0, 7}, {2, 3, 0, 0, 8}},
     .forks = {{2, "1\t0/201388\twhy\n"}},
     .newest = 2,
     .durable = 4 * SEG},
    {.label = "the parent's last piece is not needed: the child's first segment has it",
     .things = {{1, 1, 0, 0, 5}, {2, 2, 0, 0, 7}},
     .forks = {{2, "1\t0/201388\twhy\n"}},
     .newest = 2,
     .durable = 3 * SEG},
    {.label = "the parent's last segment is missing",
     .things = {{1, 1, 0, 0, 5}, {2, 3, 0, 0, 7}},
     .forks = {{2, "1\t0/301388\twhy\n"}},
     .gap_count = 1,
     .gaps = {{1, 2, 2 * SEG, 3 * SEG, false}},
     .newest = 2,
     .durable = 4 * SEG},
    {.label = "the child's first segment is missing",
     .things = {{1, 1, 0, 0, 5}, {1, 2, 0, 5000, 6}, {2, 3, 0, 0, 8}},
     .forks = {{2, "1\t0/201388\twhy\n"}},
     .gap_count = 1,
     .gaps = {{2, 2, 2 * SEG + 5000, 3 * SEG, false}},
     .newest = 2,
     .durable = 4 * SEG},
    {.label = "both sides are missing",
     .things = {{1, 1, 0, 0, 5}, {2, 4, 0, 0, 8}},
     .forks = {{2, "1\t0/301388\twhy\n"}},
     .gap_count = 2,
     .gaps = {{1, 2, 2 * SEG, 3 * SEG + 5000, false}, {2, 2, 3 * SEG + 5000, 4 * SEG, false}},
     .newest = 2,
     .durable = 5 * SEG},
    {.label = "a dead branch with a hole in it",
     .things =
         {{1, 1, 0, 0, 5}, {1, 2, 0, 0, 6}, {1, 4, 0, 0, 9}, {2, 2, 0, 0, 7}, {2, 3, 0, 0, 8}},
     .forks = {{2, "1\t0/201388\twhy\n"}},
     .gap_count = 1,
     .gaps = {{1, 1, 3 * SEG, 4 * SEG, true}},
     .branch_count = 1,
     .branches = {{1, 2 * SEG + 5000, 5 * SEG, false}},
     .newest = 2,
     .durable = 4 * SEG},
    {.label = "the switch point lies in a hole of the parent",
     .things = {{1, 1, 0, 0, 5}, {1, 5, 0, 0, 9}, {2, 3, 0, 0, 8}},
     .forks = {{2, "1\t0/301388\twhy\n"}},
     .gap_count = 1,
     .gaps = {{1, 2, 2 * SEG, 3 * SEG, false}},
     .branch_count = 1,
     .branches = {{1, 5 * SEG, 6 * SEG, false}},
     .newest = 2,
     .durable = 4 * SEG},
    {.label = "the repository begins with the child",
     .things = {{2, 3, 0, 0, 8}},
     .forks = {{2, "1\t0/201388\twhy\n"}},
     .newest = 2,
     .durable = 4 * SEG},
    {.label = "a timeline between has nothing",
     .things = {{1, 1, 0, 0, 5}, {3, 3, 0, 0, 8}},
     .forks = {{3, "1\t0/201388\twhy\n2\t0/301388\twhy\n"}},
     .gap_count = 1,
     .gaps = {{1, 3, 2 * SEG, 3 * SEG, false}},
     .newest = 3,
     .durable = 4 * SEG},
    {.label = "two promoted from one: the older is a dead branch",
     .things = {{1, 1, 0, 0, 5}, {2, 2, 0, 0, 6}, {3, 2, 0, 0, 8}},
     .forks = {{2, "1\t0/200100\twhy\n"}, {3, "1\t0/200200\twhy\n"}},
     .branch_count = 1,
     .branches = {{2, 2 * SEG, 3 * SEG, true}},
     .newest = 3,
     .durable = 3 * SEG},
    {.label = "a hole in front of a dead timeline",
     .things =
         {{1, 1, 0, 0, 5}, {1, 2, 0, 0, 5}, {1, 3, 0, 0, 5}, {2, 5, 0, 0, 6}, {3, 3, 0, 0, 8}},
     .forks = {{2, "1\t0/500000\twhy\n"}, {3, "1\t0/300200\twhy\n"}},
     .gap_count = 1,
     .gaps = {{1, 2, 4 * SEG, 5 * SEG, true}},
     .branch_count = 2,
     .branches = {{1, 3 * SEG + 0x200, 4 * SEG, false}, {2, 5 * SEG, 6 * SEG, true}},
     .newest = 3,
     .durable = 4 * SEG},
    {.label = "without a history nothing is called dead",
     .things = {{1, 1, 0, 0, 5}, {1, 2, 0, 0, 6}, {2, 4, 0, 0, 7}},
     .newest = 2,
     .durable = 5 * SEG},
};

static void
test_reports(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        WalInventory inv;
        WalReport report;
        Error err = {0};
        const char *label = cases[i].label;

        wal_inventory_init(&inv, SEG_BYTES);
        for (size_t t = 0; t < THINGS_MAX && cases[i].things[t].tli != 0; t++)
            add_thing(&inv, &cases[i].things[t]);
        if (wal_inventory_finish(&inv, &err) < 0)
            abort();
        add_histories(&inv, cases[i].forks, ARRAY_COUNT(cases[i].forks));
        if (wal_report_make(&inv, &report, &err) < 0)
            abort();
        ok(report.newest == cases[i].newest && report.durable == cases[i].durable,
           "%s: newest timeline and durable LSN", label);
        if (ok(report.gap_count == cases[i].gap_count, "%s: number of gaps", label))
        {
            for (size_t g = 0; g < report.gap_count; g++)
            {
                const WalGap *got = &report.gaps[g];
                const Hole *want = &cases[i].gaps[g];

                if (!ok(got->tli == want->tli && got->next == want->next &&
                            got->start == want->start && got->end == want->end &&
                            got->dead == want->dead,
                        "%s: gap %zu", label, g + 1))
                    diag(
                        "%u to %u, %" PRIX64 " - %" PRIX64 ", dead %d", got->tli, got->next,
                        got->start, got->end, got->dead);
            }
        }
        else
            for (size_t g = 0; g < report.gap_count; g++)
                diag(
                    "%u: %" PRIX64 " - %" PRIX64, report.gaps[g].tli, report.gaps[g].start,
                    report.gaps[g].end);
        if (ok(report.branch_count == cases[i].branch_count, "%s: number of branches", label))
        {
            for (size_t b = 0; b < report.branch_count; b++)
                ok(report.branches[b].tli == cases[i].branches[b].tli &&
                       report.branches[b].start == cases[i].branches[b].start &&
                       report.branches[b].end == cases[i].branches[b].end &&
                       report.branches[b].whole == cases[i].branches[b].whole,
                   "%s: branch %zu", label, b + 1);
        }
        wal_report_reset(&report);
        wal_inventory_reset(&inv);
    }
}

/* ---- recorded gaps ---- */

static const struct
{
    const char *label;
    Thing things[5];
    Fork forks[1];
    TimelineId tli;
    Lsn start, end;
    uint64_t missing;
} note_cases[] = {
    {"nothing came since", {{1, 1, 0, 0, 0}, {1, 4, 0, 0, 0}}, {{0}}, 1, 2 * SEG, 4 * SEG, 2 * SEG},
    {"filled", {{1, 1, 0, 0, 0}, {1, 2, 0, 0, 0}, {1, 3, 0, 0, 0}}, {{0}}, 1, 2 * SEG, 4 * SEG, 0},
    {"half filled", {{1, 1, 0, 0, 0}, {1, 3, 0, 0, 0}}, {{0}}, 1, 2 * SEG, 4 * SEG, SEG},
    {"the middle filled", {{1, 3, 0, 0, 0}}, {{0}}, 1, 2 * SEG, 5 * SEG, 2 * SEG},
    {"filled by the child's first segment",
     {{1, 1, 0, 0, 0}, {2, 2, 0, 0, 0}},
     {{2, "1\t0/200100\twhy\n"}},
     1,
     2 * SEG,
     3 * SEG,
     0},
    {"another timeline's WAL does not fill it",
     {{1, 1, 0, 0, 0}, {2, 2, 0, 0, 0}},
     {{0}},
     1,
     2 * SEG,
     3 * SEG,
     SEG},
};

static void
test_notes(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(note_cases); i++)
    {
        WalInventory inv;
        WalReport report;
        Error err = {0};
        char key[LAYOUT_KEY_MAX];
        StoreEntry entry = {
            .key = layout_gap_key(note_cases[i].tli, note_cases[i].start, note_cases[i].end, key)};

        wal_inventory_init(&inv, SEG_BYTES);
        for (size_t t = 0; t < 5 && note_cases[i].things[t].tli != 0; t++)
            add_thing(&inv, &note_cases[i].things[t]);
        if (wal_inventory_add(&inv, &entry, &err) < 0 || wal_inventory_finish(&inv, &err) < 0)
            abort();
        add_histories(&inv, note_cases[i].forks, 1);
        if (wal_report_make(&inv, &report, &err) < 0)
            abort();
        if (!ok(report.note_count == 1 && report.notes[0].missing_bytes == note_cases[i].missing,
                "recorded gap: %s", note_cases[i].label))
            diag("%" PRIu64 " bytes", report.note_count == 1 ? report.notes[0].missing_bytes : 0);
        wal_report_reset(&report);
        wal_inventory_reset(&inv);
    }
}

/* ---- runs ---- */

static void
test_runs(void)
{
    static const Thing things[] = {
        {1, 1, 0, 0, 50}, {1, 2, 0, 4096, 60}, {1, 2, 4096, 8192, 70}, {1, 1, 0, 8192, 20}};
    static const StoreEntry odd[] = {
        {.key = "wal/00000001/README", .bytes = 1},
        {.key = "live/00000001/000000010000000000000001", .bytes = 1},
        {.key = "wal/00000001/00000000/000000010000000000000001.00000028.backup", .bytes = 7},
        {.key = "wal/00000001/00000000/000000010000000000000001.partial", .bytes = 8},
        {.key = "wal/00000002/00000002.history", .bytes = 9},
    };
    WalInventory inv;
    const WalTimeline *t;
    Error err = {0};

    wal_inventory_init(&inv, SEG_BYTES);
    for (size_t i = 0; i < ARRAY_COUNT(things); i++)
        add_thing(&inv, &things[i]);
    for (size_t i = 0; i < ARRAY_COUNT(odd); i++)
        if (wal_inventory_add(&inv, &odd[i], &err) < 0)
            abort();
    if (wal_inventory_finish(&inv, &err) < 0)
        abort();
    t = wal_inventory_find(&inv, 1);
    ok(t != NULL && t->segments == 1 && t->piece_count == 3 && t->backup_files == 1 &&
           t->partials == 1,
       "objects are counted by kind");
    ok(inv.unknown == 2, "names of no kind are counted");
    ok(inv.timeline_count == 2 && wal_inventory_find(&inv, 2)->histories == 1 &&
           wal_inventory_find(&inv, 2)->all.count == 0,
       "a timeline that has nothing but its history");
    ok(wal_inventory_find(&inv, 3) == NULL, "a timeline that is not there");
    ok(t->whole.count == 1 && t->pieces.count == 2 && t->all.count == 1, "runs");
    ok(t->all.items[0].start == SEG && t->all.items[0].end == 2 * SEG + 8192 &&
           t->all.items[0].objects == 4 && t->all.items[0].stored_bytes == 400,
       "the run of all: range, objects, bytes");
    ok(t->all.items[0].oldest_us == 20 && t->all.items[0].newest_us == 70 &&
           t->all.items[0].end_us == 70,
       "the run of all: times");
    ok(wal_runs_cover(&t->all, SEG, 2 * SEG + 8192) && !wal_runs_cover(&t->all, SEG - 1, 2 * SEG) &&
           !wal_runs_cover(&t->all, 2 * SEG, 2 * SEG + 8193) &&
           wal_runs_cover(&t->pieces, 2 * SEG, 2 * SEG + 8192) &&
           !wal_runs_cover(&t->pieces, SEG, 2 * SEG),
       "what runs cover");
    wal_inventory_reset(&inv);
}

/* When the end came to be there: not when a copy of it was stored later. */
static void
test_end_time(void)
{
    static const struct
    {
        const char *label;
        Thing things[3];
        int64_t want;
    } times[] = {
        {"the piece was first, the segment came later",
         {{1, 1, 0, SEG_BYTES, 10}, {1, 1, 0, 0, 30}},
         10},
        {"the last segment", {{1, 1, 0, 0, 50}, {1, 2, 0, 0, 20}}, 20},
        {"one store that does not tell", {{1, 1, 0, 0, 0}}, 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(times); i++)
    {
        WalInventory inv;
        WalReport report;
        Error err = {0};

        wal_inventory_init(&inv, SEG_BYTES);
        for (size_t t = 0; t < 3 && times[i].things[t].tli != 0; t++)
            add_thing(&inv, &times[i].things[t]);
        if (wal_inventory_finish(&inv, &err) < 0 || wal_report_make(&inv, &report, &err) < 0)
            abort();
        ok(report.durable_us == times[i].want, "time of the durable LSN: %s", times[i].label);
        wal_report_reset(&report);
        wal_inventory_reset(&inv);
    }
}

/* A million segments are one run, and quick. */
static void
test_many(void)
{
    WalInventory inv;
    Error err = {0};
    bool good = true;

    wal_inventory_init(&inv, SEG_BYTES);
    for (SegmentNo s = 1; s <= 1000000; s++)
    {
        Thing thing = {.tli = 1, .segno = s};

        add_thing(&inv, &thing);
    }
    good = wal_inventory_finish(&inv, &err) == 0;
    ok(good && inv.timelines[0].all.count == 1 &&
           inv.timelines[0].all.items[0].objects == 1000000 && inv.timelines[0].all.cap <= 16,
       "a million segments are one run");
    wal_inventory_reset(&inv);
}

/* ---- from a repository ---- */

static void
test_list(void)
{
    static const char *const keys[] = {
        "wal/00000001/00000000/000000010000000000000001",
        "live/00000001/000000010000000000000002/00000000-00002000",
        "gap/00000001/0000000000300000-0000000000400000", "state/x"};
    Repository repo = {0};
    WalInventory inv;
    Deadline dl = deadline_after_ms(300000, NULL);
    char byte = 'x';
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    StoreBody body = {.iov = &iov, .iov_count = 1, .bytes = 1};
    Error err = {0};

    if (store_memory_new(&repo.store, &err) < 0)
        abort();
    for (size_t i = 0; i < ARRAY_COUNT(keys); i++)
        if (store_put(repo.store, keys[i], &body, &dl, &err) < 0)
            abort();
    wal_inventory_init(&inv, SEG_BYTES);
    ok(wal_inventory_list(&repo, 10000, &inv, &err) == 0 && inv.timeline_count == 1 &&
           inv.timelines[0].all.count == 1 && inv.timelines[0].all.items[0].end == 2 * SEG + 8192 &&
           inv.note_count == 1 && inv.unknown == 0,
       "a repository is listed");
    ok(inv.timelines[0].history_state == WAL_HISTORY_UNREAD, "histories are not read by that");
    ok(wal_inventory_read_histories(&repo, 10000, &inv, &err) == 0 &&
           inv.timelines[0].history_state == WAL_HISTORY_NOT_NEEDED,
       "timeline 1 needs no history file");
    wal_inventory_reset(&inv);
    store_free(repo.store);
}

/* ---- texts ---- */

static void
test_texts(void)
{
    char buf[WAL_REPORT_TEXT_MAX];
    static const struct
    {
        const char *label;
        Lsn start, end;
        const char *want;
    } segments[] = {
        {"one", SEG, 2 * SEG, "000000020000000000000001"},
        {"within one", SEG + 5, SEG + 9, "000000020000000000000001"},
        {"two", SEG + 5, 2 * SEG + 1,
         "000000020000000000000001 to 000000020000000000000002 (2 segments)"},
        {"over 4 GiB", 0xFFF00000, 0x100100000,
         "000000020000000000000FFF to 000000020000000100000000 (2 segments)"},
    };
    static const struct
    {
        uint64_t bytes;
        const char *want;
    } bytes[] = {
        {0, "0 bytes"}, {1023, "1023 bytes"}, {1024, "1.0 KiB"}, {UINT64_MAX, "16384.0 PiB"}};

    for (size_t i = 0; i < ARRAY_COUNT(segments); i++)
        ok(strcmp(
               wal_report_format_segments(2, segments[i].start, segments[i].end, SEG_BYTES, buf),
               segments[i].want) == 0,
           "segments: %s", segments[i].label);
    for (size_t i = 0; i < ARRAY_COUNT(bytes); i++)
        ok(strcmp(wal_report_format_bytes(bytes[i].bytes, buf), bytes[i].want) == 0, "bytes: %s",
           bytes[i].want);
    ok(strcmp(wal_report_format_range(0x1000000, 0x16B374D48, buf), "0/01000000 - 1/6B374D48") == 0,
       "range");
    ok(strstr(
           wal_report_format_consequence(1, SEG, 2 * SEG, SEG_BYTES, false, buf),
           "along timeline 1 stops at 0/00100000") != NULL,
       "consequence");
    ok(strstr(
           wal_report_format_consequence(1, SEG, SEG + 8192, SEG_BYTES, false, buf),
           "backup that began at 0/00200000 or later") != NULL,
       "consequence within a segment: the next one");
    ok(strstr(
           wal_report_format_consequence(1, SEG, 2 * SEG, SEG_BYTES, true, buf), "dead branch") !=
           NULL,
       "consequence on a dead branch");
}

int
main(void)
{
    test_reports();
    test_notes();
    test_runs();
    test_end_time();
    test_many();
    test_list();
    test_texts();
    return done_testing();
}
