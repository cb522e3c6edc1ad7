/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Inventories by listing: what several listings at the same time find is what was put.
 */
#include "repo/wal_inventory.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define SEGMENT_BYTES (16u * 1024u * 1024u)

typedef struct Put
{
    Store *store;
    WalInventory *want;
    uint64_t objects;
} Put;

static void
put_key(Put *put, const char *key)
{
    static char byte = 'x';
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    StoreBody body = {.iov = &iov, .iov_count = 1, .bytes = 1};
    Deadline dl = deadline_after_ms(300000, NULL);
    StoreEntry entry = {.key = key, .bytes = 1};
    Error err = {0};

    if (store_put(put->store, key, &body, &dl, &err) < 0 ||
        (put->want != NULL && wal_inventory_add(put->want, &entry, &err) < 0))
        abort();
    put->objects++;
}

static void
put_segments(Put *put, TimelineId tli, SegmentNo first, SegmentNo count)
{
    char key[LAYOUT_KEY_MAX];

    for (SegmentNo n = first; n < first + count; n++)
        put_key(put, layout_segment_key(tli, n, SEGMENT_BYTES, key));
}

static bool
same_runs(const WalRuns *a, const WalRuns *b)
{
    bool same = a->count == b->count;

    for (size_t i = 0; same && i < a->count; i++)
        same = a->items[i].start == b->items[i].start && a->items[i].end == b->items[i].end &&
               a->items[i].objects == b->items[i].objects;
    return same;
}

static bool
same_logs(const WalTimeline *a, const WalTimeline *b)
{
    bool same = a->log_count == b->log_count;

    for (size_t i = 0; same && i < a->log_count; i++)
    {
        const WalLog *log = wal_timeline_find_log(b, a->logs[i].log);

        same = log != NULL && log->objects == a->logs[i].objects &&
               log->stored_bytes == a->logs[i].stored_bytes &&
               (i == 0 || a->logs[i].log > a->logs[i - 1].log) &&
               /* the store tells, the entries that were added one by one do not */
               log->oldest_us > 0 && log->newest_us >= log->oldest_us &&
               log->newest_us < INT64_MAX && a->logs[i].oldest_us == INT64_MIN &&
               a->logs[i].newest_us == INT64_MAX;
    }
    return same;
}

static const struct
{
    const char *label;
    SegmentNo first, second, third; /* segments of timelines 1, 2 and 300; a hole in each */
    SegmentNo pieces;               /* segments with pieces, three each */
} cases[] = {
    {"nothing", 0, 0, 0, 0},
    {"less than a listing", 300, 0, 0, 5},
    {"exactly a listing", 999, 0, 0, 0}, /* and one history file */
    {"one log folder more", 1300, 0, 0, 0},
    {"many log folders", 9000, 0, 0, 400},
    {"several timelines", 2100, 1500, 3000, 0},
    {"the second listing is of another timeline", 1010, 20, 2000, 0},
};

int
main(void)
{
    for (size_t c = 0; c < ARRAY_COUNT(cases); c++)
    {
        WalInventory want, got;
        Repository repo = {0};
        Put put = {.want = &want};
        Store *memory = NULL;
        Error err = {0};
        char key[LAYOUT_KEY_MAX];

        wal_inventory_init(&want, SEGMENT_BYTES);
        wal_inventory_init(&got, SEGMENT_BYTES);
        if (store_memory_new(&memory, &err) < 0 || store_count_new(memory, &repo.store, &err) < 0)
            abort();
        put.store = repo.store;
        put_segments(&put, 1, 3, cases[c].first);
        put_segments(&put, 1, 3 + cases[c].first + 2, cases[c].first / 2);
        put_segments(&put, 2, 100, cases[c].second);
        put_segments(&put, 300, 70000, cases[c].third);
        for (SegmentNo n = 0; n < cases[c].pieces; n++)
            for (uint32_t i = 0; i < 3; i++)
            {
                WalExtent piece = {
                    .tli = 1, .segno = 100000 + n, .start = i * 8192, .end = (i + 1) * 8192};

                put_key(&put, layout_piece_key(&piece, SEGMENT_BYTES, key));
            }
        put_key(&put, "wal/00000002/00000002.history");
        put_key(&put, "gap/00000001/0000000001000000-0000000002000000");

        uint64_t lists = store_count_read(repo.store).lists;

        ok(wal_inventory_finish(&want, &err) == 0 &&
               wal_inventory_list(&repo, 10000, &got, &err) == 0,
           "%s: listed %s", cases[c].label, err.msg);
        lists = store_count_read(repo.store).lists - lists;

        bool same = got.timeline_count == want.timeline_count && got.note_count == 1;

        for (size_t i = 0; same && i < want.timeline_count; i++)
        {
            const WalTimeline *a = &want.timelines[i], *b = &got.timelines[i];

            same = a->tli == b->tli && a->segments == b->segments &&
                   a->piece_count == b->piece_count && a->histories == b->histories &&
                   same_runs(&a->whole, &b->whole) && same_runs(&a->pieces, &b->pieces) &&
                   same_runs(&a->all, &b->all) && same_logs(a, b);
        }
        ok(same, "%s: all of it, once", cases[c].label);
        ok(lists <= 3 + put.objects / 1000 + 2 * 40,
           "%s: %" PRIu64 " objects in %" PRIu64 " requests", cases[c].label, put.objects, lists);
        wal_inventory_reset(&want);
        wal_inventory_reset(&got);
        store_free(repo.store);
    }
    return done_testing();
}
