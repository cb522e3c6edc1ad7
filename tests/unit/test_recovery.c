/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Windows and candidates over repositories that are only told of: names of WAL objects, histories,
 * headers of backups.
 */
#include "repo/recovery.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repo/layout.h"
#include "tap.h"

#define SEG 0x100000u
#define S(n) ((Lsn) (n) *SEG)
#define SEC INT64_C(1000000)
#define T(n) (INT64_C(1700000000) * SEC + (n) *SEC) /* n seconds into the story */
#define WAL_MAX 10
#define BACKUPS_MAX 6

/* Segments first .. last of a timeline, or with end a piece of the first; stored at second at. */
typedef struct Wal
{
    TimelineId tli;
    SegmentNo first, last;
    uint32_t start, end;
    int at;
} Wal;

typedef struct Fork
{
    TimelineId tli;
    const char *text;
} Fork;

typedef struct Taken
{
    const char *label;
    TimelineId tli;
    Lsn start, stop;
    int at; /* stopped */
    bool unfinished, damaged, broken;
} Taken;

/* What the repository has. */
typedef struct World
{
    Wal wal[WAL_MAX];
    Fork forks[4];
    Taken backups[BACKUPS_MAX];
    Lsn note_start, note_end; /* a noted gap of timeline 1 */
} World;

/* Lists here are made by hand: nothing of what reads them from a repository is needed. */
__attribute__((weak)) const Backup *
backup_list_find(const BackupList *list, const char *label)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].label, label) == 0)
            return &list->items[i];
    return NULL;
}

__attribute__((weak)) const Backup *
backup_list_newest(const BackupList *list)
{
    return list->count > 0 ? &list->items[list->count - 1] : NULL;
}

static void
add_wal(WalInventory *inv, const Wal *w)
{
    SegmentNo last = w->last > w->first ? w->last : w->first;

    for (SegmentNo s = w->first; s <= last; s++)
    {
        WalExtent extent = {
            .tli = w->tli, .segno = s, .start = w->start, .end = w->end != 0 ? w->end : SEG};
        char key[LAYOUT_KEY_MAX];
        StoreEntry entry = {
            .key = w->end != 0 ? layout_piece_key(&extent, SEG, key)
                               : layout_part_key(&extent, SEG, key),
            .bytes = 100,
            .modified_us = w->at != 0 ? T(w->at) : 0};
        Error err;

        if (wal_inventory_add(inv, &entry, &err) < 0)
            abort();
    }
}

static void
add_histories(WalInventory *inv, const World *world)
{
    for (size_t i = 0; i < inv->timeline_count; i++)
    {
        WalTimeline *t = &inv->timelines[i];
        const char *text = NULL;
        Error err;

        for (size_t f = 0; f < ARRAY_COUNT(world->forks); f++)
            if (world->forks[f].tli == t->tli)
                text = world->forks[f].text;
        t->history_state = WAL_HISTORY_MISSING;
        if (t->tli != 1 && text == NULL)
            continue;
        if (timeline_parse_history(
                t->tli, text, text != NULL ? strlen(text) : 0, &t->history, &err) < 0)
            abort();
        t->history_state = t->tli == 1 ? WAL_HISTORY_NOT_NEEDED : WAL_HISTORY_READ;
    }
}

static void
world_make(const World *world, WalInventory *inv, BackupList *list)
{
    Error err;
    char key[LAYOUT_KEY_MAX];

    wal_inventory_init(inv, SEG);
    for (size_t i = 0; i < WAL_MAX && world->wal[i].tli != 0; i++)
        add_wal(inv, &world->wal[i]);
    for (size_t i = 0; i < ARRAY_COUNT(world->forks) && world->forks[i].tli != 0; i++)
    {
        StoreEntry entry = {.key = key, .bytes = 50};

        (void) snprintf(
            key, sizeof key, "wal/%08" PRIX32 "/%08" PRIX32 ".history", world->forks[i].tli,
            world->forks[i].tli);

        if (wal_inventory_add(inv, &entry, &err) < 0)
            abort();
    }
    if (world->note_end != 0)
    {
        StoreEntry entry = {.key = layout_gap_key(1, world->note_start, world->note_end, key)};

        if (wal_inventory_add(inv, &entry, &err) < 0)
            abort();
    }
    if (wal_inventory_finish(inv, &err) < 0)
        abort();
    add_histories(inv, world);

    *list = (BackupList){.items = calloc(BACKUPS_MAX, sizeof *list->items)};
    if (list->items == NULL)
        abort();
    for (size_t i = 0; i < BACKUPS_MAX && world->backups[i].label != NULL; i++)
    {
        const Taken *taken = &world->backups[i];
        Backup *b = &list->items[list->count++];

        *b = (Backup){
            .state = taken->unfinished ? BACKUP_UNFINISHED
                     : taken->damaged  ? BACKUP_DAMAGED
                                       : BACKUP_COMPLETE,
            .parent = SIZE_MAX,
            .chain_broken = taken->broken,
            .broken_by = taken->broken ? "gone" : NULL};
        (void) snprintf(b->label, sizeof b->label, "%s", taken->label);
        (void) error_set(&b->error, ERROR_CORRUPT, "it has no trailer");
        b->header.tli = taken->tli;
        b->header.start_lsn = taken->start;
        b->header.stop_lsn = taken->stop;
        b->header.stopped_us = T(taken->at);
    }
}

static void
world_reset(WalInventory *inv, BackupList *list)
{
    wal_inventory_reset(inv);
    free(list->items);
}

/* ---- worlds ---- */

/* segments 1 to 9, backups in 2 and 5 */
#define ONE_LINE                                                                                   \
    {                                                                                              \
        .wal = {{1, 1, 9, 0, 0, 100}}, .backups = {                                                \
            {"a", 1, S(2) + 0x28, S(2) + 0x100, 20, false, false, false},                          \
            {"b", 1, S(5) + 0x28, S(5) + 0x100, 50, false, false, false}                           \
        }                                                                                          \
    }

/* the same, segment 4 is missing */
#define HOLE                                                                                       \
    {                                                                                              \
        .wal = {{1, 1, 3, 0, 0, 30}, {1, 5, 9, 0, 0, 3000}}, .backups = {                          \
            {"a", 1, S(2) + 0x28, S(2) + 0x100, 20, false, false, false},                          \
            {"b", 1, S(6) + 0x28, S(6) + 0x100, 60, false, false, false}                           \
        }                                                                                          \
    }

/* 1 up to 4.5, then 2 up to 6.5, then 3; 1 and 2 went on beyond their ends for a while */
#define PROMOTED                                                                                   \
    {                                                                                              \
        .wal =                                                                                     \
            {{1, 1, 5, 0, 0, 45},                                                                  \
             {2, 4, 7, 0, 0, 65},                                                                  \
             {3, 6, 8, 0, 0, 90},                                                                  \
             {3, 9, 9, 0, 0x8000, 95}},                                                            \
        .forks = {{2, "1\t0/480000\twhy\n"}, {3, "1\t0/480000\twhy\n2\t0/680000\twhy\n"}},         \
        .backups = {                                                                               \
            {"one", 1, S(2) + 0x28, S(2) + 0x100, 20, false, false, false},                        \
            {"one-dead", 1, S(5) + 0x28, S(5) + 0x100, 48, false, false, false},                   \
            {"two", 2, S(5) + 0x28, S(5) + 0x200, 52, false, false, false},                        \
            {"two-dead", 2, S(7) + 0x28, S(7) + 0x100, 67, false, false, false},                   \
            {"three", 3, S(8) + 0x28, S(8) + 0x100, 80, false, false, false}                       \
        }                                                                                          \
    }

/* ---- candidates ---- */

static const struct
{
    const char *label;
    World world;
    RecoveryTarget target;
    const char *want; /* labels of the candidates, a blank behind each; NULL: an error */
    Lsn wal_end;      /* of the first */
    bool hole, in_flight;
    TimelineId tli;
    const char *msg, *hint; /* parts of them */
} cases[] = {
    {"latest", ONE_LINE, {.kind = RECOVERY_LATEST}, "b a ", S(10), false, false, 1, NULL, NULL},
    {"immediate",
     ONE_LINE,
     {.kind = RECOVERY_IMMEDIATE},
     "b a ",
     S(10),
     false,
     false,
     1,
     NULL,
     NULL},
    {"a transaction",
     ONE_LINE,
     {.kind = RECOVERY_XID, .xid = 7},
     "b a ",
     S(10),
     false,
     false,
     1,
     NULL,
     NULL},
    {"a name",
     ONE_LINE,
     {.kind = RECOVERY_NAME, .name = "x"},
     "b a ",
     S(10),
     false,
     false,
     1,
     NULL,
     NULL},
    {"a backup by its label",
     ONE_LINE,
     {.kind = RECOVERY_LATEST, .label = "a"},
     "a ",
     S(10),
     false,
     false,
     1,
     NULL,
     NULL},
    {"an unknown label",
     ONE_LINE,
     {.label = "c"},
     NULL,
     0,
     false,
     false,
     0,
     "there is no backup \"c\"",
     "newest backup is \"b\""},

    {"LSN between the backups",
     ONE_LINE,
     {.kind = RECOVERY_LSN, .lsn = S(4)},
     "a ",
     S(10),
     false,
     false,
     1,
     NULL,
     NULL},
    {"LSN behind both",
     ONE_LINE,
     {.kind = RECOVERY_LSN, .lsn = S(9)},
     "b a ",
     S(10),
     false,
     false,
     1,
     NULL,
     NULL},
    {"LSN is where a backup stopped",
     ONE_LINE,
     {.kind = RECOVERY_LSN, .lsn = S(5) + 0x100},
     "b a ",
     S(10),
     false,
     false,
     1,
     NULL,
     NULL},
    {"LSN is where a backup stopped, exclusive",
     ONE_LINE,
     {.kind = RECOVERY_LSN, .lsn = S(5) + 0x100, .exclusive = true},
     "b a ",
     S(10),
     false,
     false,
     1,
     NULL,
     NULL},
    {"LSN within a backup",
     ONE_LINE,
     {.kind = RECOVERY_LSN, .lsn = S(5) + 0xFF},
     "a ",
     S(10),
     false,
     false,
     1,
     NULL,
     NULL},
    {"LSN is where the first backup stopped",
     ONE_LINE,
     {.kind = RECOVERY_LSN, .lsn = S(2) + 0x100},
     "a ",
     S(10),
     false,
     false,
     1,
     NULL,
     NULL},
    {"LSN before the first backup",
     ONE_LINE,
     {.kind = RECOVERY_LSN, .lsn = S(2) + 0xFF},
     NULL,
     0,
     false,
     false,
     0,
     "target LSN 0/002000FF lies before the first backup that can be used: backup \"a\" was "
     "ready at",
     "between 2023-11-14 22:13:40.000 UTC (0/00200100) and"},
    {"LSN before the backup that was asked for",
     ONE_LINE,
     {.kind = RECOVERY_LSN, .lsn = S(4), .label = "b"},
     NULL,
     0,
     false,
     false,
     0,
     "before backup \"b\" was ready",
     "timeline 1"},
    {"the last LSN",
     ONE_LINE,
     {.kind = RECOVERY_LSN, .lsn = S(10) - 1},
     "b a ",
     S(10),
     false,
     false,
     1,
     NULL,
     NULL},
    {"LSN is the end of WAL",
     ONE_LINE,
     {.kind = RECOVERY_LSN, .lsn = S(10)},
     NULL,
     0,
     false,
     false,
     0,
     "the WAL of timeline 1 ends at 0/00A00000",
     "and 2023-11-14 22:15:00.000 UTC (0/00A00000)."},

    {"time between the backups",
     ONE_LINE,
     {.kind = RECOVERY_TIME, .time_us = T(49)},
     "a ",
     S(10),
     false,
     false,
     1,
     NULL,
     NULL},
    {"time is when a backup stopped",
     ONE_LINE,
     {.kind = RECOVERY_TIME, .time_us = T(50)},
     "b a ",
     S(10),
     false,
     false,
     1,
     NULL,
     NULL},
    {"time before the first backup",
     ONE_LINE,
     {.kind = RECOVERY_TIME, .time_us = T(20) - 1},
     NULL,
     0,
     false,
     false,
     0,
     "target time 2023-11-14 22:13:39.999 UTC lies before",
     "between"},

    {"latest behind a hole",
     HOLE,
     {.kind = RECOVERY_LATEST},
     "b a ",
     S(10),
     false,
     false,
     1,
     NULL,
     NULL},
    {"latest in front of a hole",
     HOLE,
     {.kind = RECOVERY_LATEST, .label = "a"},
     "a ",
     S(4),
     true,
     false,
     1,
     NULL,
     NULL},
    {"LSN in a hole",
     HOLE,
     {.kind = RECOVERY_LSN, .lsn = S(4) + 5},
     NULL,
     0,
     false,
     false,
     0,
     "WAL from 0/00400000 to 0/00500000 is missing",
     ", and between"},
    {"LSN is where a hole begins",
     HOLE,
     {.kind = RECOVERY_LSN, .lsn = S(4)},
     NULL,
     0,
     false,
     false,
     0,
     "is missing",
     "0/00400000), and between"},
    {"LSN behind a hole, in front of the next backup",
     HOLE,
     {.kind = RECOVERY_LSN, .lsn = S(5) + 5},
     NULL,
     0,
     false,
     false,
     0,
     "WAL from 0/00400000 to 0/00500000 is missing",
     NULL},
    {"LSN behind a hole, the backup in front of it",
     HOLE,
     {.kind = RECOVERY_LSN, .lsn = S(7), .label = "a"},
     NULL,
     0,
     false,
     false,
     0,
     "is missing",
     NULL},
    {"LSN in front of a hole",
     HOLE,
     {.kind = RECOVERY_LSN, .lsn = S(4) - 8},
     "a ",
     S(4),
     true,
     false,
     1,
     NULL,
     NULL},
    {"LSN behind a hole and a backup: not the one in front of it",
     HOLE,
     {.kind = RECOVERY_LSN, .lsn = S(7)},
     "b ",
     S(10),
     false,
     false,
     1,
     NULL,
     NULL},

    {"latest, two promotions",
     PROMOTED,
     {.kind = RECOVERY_LATEST},
     "three two one ",
     S(9) + 0x8000,
     false,
     false,
     3,
     NULL,
     NULL},
    {"latest of an old branch",
     PROMOTED,
     {.kind = RECOVERY_LATEST, .tli = 1},
     "one-dead one ",
     S(6),
     false,
     false,
     1,
     NULL,
     NULL},
    {"latest of the branch between",
     PROMOTED,
     {.kind = RECOVERY_LATEST, .tli = 2},
     "two-dead two one ",
     S(8),
     false,
     false,
     2,
     NULL,
     NULL},
    {"LSN behind the switch point: on the newest timeline",
     PROMOTED,
     {.kind = RECOVERY_LSN, .lsn = S(5) + 0x180},
     "one ",
     S(9) + 0x8000,
     false,
     false,
     3,
     NULL,
     NULL},
    {"LSN behind the switch point: on the old one",
     PROMOTED,
     {.kind = RECOVERY_LSN, .lsn = S(5) + 0x180, .tli = 1},
     "one-dead one ",
     S(6),
     false,
     false,
     1,
     NULL,
     NULL},
    {"a backup of a dead branch",
     PROMOTED,
     {.label = "two-dead"},
     NULL,
     0,
     false,
     false,
     0,
     "timeline 3 does not come from",
     "\"--timeline=2\""},
    {"a backup of the child for its parent",
     PROMOTED,
     {.label = "two", .tli = 1},
     NULL,
     0,
     false,
     false,
     0,
     "ends at 0/00500200 of timeline 2, where timeline 1 does not come from",
     "\"--timeline=2\""},
    {"an unknown timeline",
     PROMOTED,
     {.tli = 7},
     NULL,
     0,
     false,
     false,
     0,
     "nothing of it",
     "timelines 1, 2, 3."},

    {"a backup that ends at the switch point",
     {.wal = {{1, 1, 4, 0, 0, 9}, {2, 4, 6, 0, 0, 9}},
      .forks = {{2, "1\t0/480000\twhy\n"}},
      .backups = {{"a", 1, S(4) + 0x28, S(4) + 0x80000, 5, false, false, false}}},
     {.kind = RECOVERY_LATEST},
     "a ",
     S(7),
     false,
     false,
     2,
     NULL,
     NULL},
    {"a backup that ends behind it",
     {.wal = {{1, 1, 4, 0, 0, 9}, {2, 4, 6, 0, 0, 9}},
      .forks = {{2, "1\t0/480000\twhy\n"}},
      .backups = {{"a", 1, S(4) + 0x28, S(4) + 0x80008, 5, false, false, false}}},
     {.kind = RECOVERY_LATEST},
     NULL,
     0,
     false,
     false,
     0,
     "none of 1 backups can be used (1 not on the line of the timeline)",
     "walctl info"},
    {"the parent's last segment is only in the child's",
     {.wal = {{1, 1, 3, 0, 0, 9}, {2, 4, 6, 0, 0, 9}},
      .forks = {{2, "1\t0/480000\twhy\n"}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}}},
     {.kind = RECOVERY_LATEST},
     "a ",
     S(7),
     false,
     false,
     2,
     NULL,
     NULL},
    {"the child's first segment is missing: to the switch point",
     {.wal = {{1, 1, 5, 0, 0, 9}, {2, 5, 6, 0, 0, 9000}},
      .forks = {{2, "1\t0/480000\twhy\n"}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}}},
     {.kind = RECOVERY_LATEST},
     "a ",
     S(4) + 0x80000,
     true,
     false,
     2,
     NULL,
     NULL},
    {"the child's first pieces do not reach the switch point",
     {.wal = {{1, 1, 4, 0, 0, 9}, {2, 4, 0, 0, 0x1000, 9}, {2, 5, 6, 0, 0, 9000}},
      .forks = {{2, "1\t0/480000\twhy\n"}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}}},
     {.kind = RECOVERY_LATEST},
     "a ",
     S(4) + 0x1000,
     true,
     false,
     2,
     NULL,
     NULL},
    {"a piece without the beginning of its segment is of no use",
     {.wal = {{1, 1, 3, 0, 0, 9}, {1, 4, 0, 0x1000, 0x2000, 9}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}}},
     {.kind = RECOVERY_LATEST},
     "a ",
     S(4),
     true,
     true,
     1,
     NULL,
     NULL},
    {"a timeline that never wrote between two others",
     {.wal = {{1, 1, 4, 0, 0, 9}, {3, 4, 6, 0, 0, 9}},
      .forks = {{3, "1\t0/480000\twhy\n2\t0/480000\twhy\n"}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}}},
     {.kind = RECOVERY_LATEST},
     "a ",
     S(7),
     false,
     false,
     3,
     NULL,
     NULL},
    {"a newer timeline that has nothing but its history is not the latest",
     {.wal = {{1, 1, 4, 0, 0, 9}},
      .forks = {{2, "1\t0/480000\twhy\n"}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}}},
     {.kind = RECOVERY_LATEST},
     "a ",
     S(5),
     false,
     false,
     1,
     NULL,
     NULL},
    {"it can be asked for",
     {.wal = {{1, 1, 4, 0, 0, 9}},
      .forks = {{2, "1\t0/480000\twhy\n"}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}}},
     {.kind = RECOVERY_LATEST, .tli = 2},
     "a ",
     S(4) + 0x80000,
     false,
     false,
     2,
     NULL,
     NULL},
    {"the latest timeline has no history file",
     {.wal = {{1, 1, 4, 0, 0, 9}, {2, 4, 6, 0, 0, 9}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}}},
     {.kind = RECOVERY_LATEST},
     NULL,
     0,
     false,
     false,
     0,
     "cannot recover to timeline 2: its history file is missing",
     "\"--timeline\""},
    {"an older one has",
     {.wal = {{1, 1, 4, 0, 0, 9}, {2, 4, 6, 0, 0, 9}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}}},
     {.kind = RECOVERY_LATEST, .tli = 1},
     "a ",
     S(5),
     false,
     false,
     1,
     NULL,
     NULL},

    {"uploads under way",
     {.wal =
          {{1, 1, 3, 0, 0, 50},
           {1, 4, 0, 0, 0x1000, 51},
           {1, 4, 0, 0x2000, 0x3000, 49},
           {1, 5, 0, 0, 0, 640}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}}},
     {.kind = RECOVERY_LATEST},
     "a ",
     S(4) + 0x1000,
     true,
     true,
     1,
     NULL,
     NULL},
    {"not when there was time to end them",
     {.wal = {{1, 1, 3, 0, 0, 50}, {1, 4, 0, 0, 0x1000, 51}, {1, 5, 0, 0, 0, 652}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}}},
     {.kind = RECOVERY_LATEST},
     "a ",
     S(4) + 0x1000,
     true,
     false,
     1,
     NULL,
     NULL},
    {"nor where a gap was noted",
     {.wal = {{1, 1, 3, 0, 0, 50}, {1, 5, 0, 0, 0, 51}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}},
      .note_start = S(4),
      .note_end = S(5)},
     {.kind = RECOVERY_LATEST},
     "a ",
     S(4),
     true,
     false,
     1,
     NULL,
     NULL},
    {"a gap that was noted elsewhere",
     {.wal = {{1, 1, 3, 0, 0, 50}, {1, 5, 0, 0, 0, 51}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}},
      .note_start = S(1),
      .note_end = S(2)},
     {.kind = RECOVERY_LATEST},
     "a ",
     S(4),
     true,
     true,
     1,
     NULL,
     NULL},
    {"nor without times",
     {.wal = {{1, 1, 3, 0, 0, 0}, {1, 5, 0, 0, 0, 0}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}}},
     {.kind = RECOVERY_LATEST},
     "a ",
     S(4),
     true,
     false,
     1,
     NULL,
     NULL},

    {"unfinished, damaged, broken and incomplete ones are not taken",
     {.wal = {{1, 1, 9, 0, 0, 9}},
      .backups =
          {{"good", 1, S(2), S(2) + 8, 5, false, false, false},
           {"unfinished", 1, S(3), S(3) + 8, 5, true, false, false},
           {"damaged", 1, S(4), S(4) + 8, 5, false, true, false},
           {"broken", 1, S(5), S(5) + 8, 5, false, false, true},
           {"no-wal", 1, S(9), S(11), 5, false, false, false},
           {"before", 1, S(0) + 8, S(2), 5, false, false, false}}},
     {.kind = RECOVERY_LATEST},
     "good ",
     S(10),
     false,
     false,
     1,
     NULL,
     NULL},
    {"an unfinished one",
     {.wal = {{1, 1, 9, 0, 0, 9}}, .backups = {{"u", 1, S(3), S(3) + 8, 5, true, false, false}}},
     {.label = "u"},
     NULL,
     0,
     false,
     false,
     0,
     "it is running or has failed",
     NULL},
    {"a damaged one",
     {.wal = {{1, 1, 9, 0, 0, 9}}, .backups = {{"d", 1, S(3), S(3) + 8, 5, false, true, false}}},
     {.label = "d"},
     NULL,
     0,
     false,
     false,
     0,
     "it has no trailer",
     NULL},
    {"one of a broken chain",
     {.wal = {{1, 1, 9, 0, 0, 9}}, .backups = {{"b", 1, S(3), S(3) + 8, 5, false, false, true}}},
     {.label = "b"},
     NULL,
     0,
     false,
     false,
     0,
     "backup \"gone\", which it builds on, is missing",
     NULL},
    {"one without its WAL",
     {.wal = {{1, 1, 3, 0, 0, 9}}, .backups = {{"w", 1, S(3), S(5) + 8, 5, false, false, false}}},
     {.label = "w"},
     NULL,
     0,
     false,
     false,
     0,
     "0/00400000 to 0/00500008 is missing",
     NULL},
    {"one whose WAL has a hole",
     {.wal = {{1, 1, 3, 0, 0, 9}, {1, 5, 9, 0, 0, 9}},
      .backups = {{"w", 1, S(3), S(5) + 8, 5, false, false, false}}},
     {.kind = RECOVERY_LATEST},
     NULL,
     0,
     false,
     false,
     0,
     "1 without the WAL that makes it consistent",
     NULL},
    {"no backup",
     {.wal = {{1, 1, 9, 0, 0, 9}}},
     {.kind = RECOVERY_LATEST},
     NULL,
     0,
     false,
     false,
     0,
     "the repository has no backup",
     "walbackup full"},
    {"nothing at all",
     {.wal = {{0}}},
     {.kind = RECOVERY_LATEST},
     NULL,
     0,
     false,
     false,
     0,
     "the repository has no WAL",
     "make a backup"},
};

static void
test_candidates(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        WalInventory inv;
        BackupList list;
        RecoveryPlan *plans;
        size_t count;
        char got[200] = "";
        size_t len = 0;
        Error err = {0};
        const char *label = cases[i].label;

        world_make(&cases[i].world, &inv, &list);

        int rc = recovery_candidates(&list, &inv, &cases[i].target, &plans, &count, &err);

        if (cases[i].want == NULL)
        {
            if (!ok(rc < 0 && err.kind == ERROR_USAGE && strstr(err.msg, cases[i].msg) != NULL &&
                        (cases[i].hint == NULL || strstr(err.hint, cases[i].hint) != NULL),
                    "refused: %s", label))
                diag("%s / %s", err.msg, err.hint);
            ok(plans == NULL && count == 0, "refused: %s: nothing is left", label);
            world_reset(&inv, &list);
            continue;
        }
        for (size_t p = 0; rc == 0 && p < count; p++)
            len += (size_t) snprintf(
                got + len, sizeof got - len, "%s ", list.items[plans[p].backup].label);
        if (!ok(rc == 0 && strcmp(got, cases[i].want) == 0, "%s: candidates", label))
            diag("%s%s", rc < 0 ? err.msg : "", got);
        if (rc == 0)
        {
            const RecoveryPlan *plan = &plans[0];

            if (!ok(plan->wal_end == cases[i].wal_end && plan->hole == cases[i].hole &&
                        plan->in_flight == cases[i].in_flight && plan->tli == cases[i].tli,
                    "%s: its WAL", label))
                diag(
                    "end %" PRIX64 " hole %d in flight %d timeline %" PRIu32, plan->wal_end,
                    plan->hole, plan->in_flight, plan->tli);
            ok(plan->history.count > 0 &&
                   plan->history.entries[plan->history.count - 1].tli == plan->tli &&
                   plan->wal_start == list.items[plan->backup].header.start_lsn,
               "%s: history and start", label);
        }
        recovery_plans_free(plans, count);
        world_reset(&inv, &list);
    }
}

/* ---- windows ---- */

typedef struct Window
{
    TimelineId tli;
    const char *first, *last;
    Lsn start, end;
    int start_at, end_at;
    bool current, dead;
} Window;

static const struct
{
    const char *label;
    World world;
    size_t count;
    Window want[4];
} window_cases[] = {
    {"nothing", {.wal = {{0}}}, 0, {{0}}},
    {"WAL without a backup", {.wal = {{1, 1, 9, 0, 0, 9}}}, 0, {{0}}},
    {"one line", ONE_LINE, 1, {{1, "a", "b", S(2) + 0x100, S(10), 20, 100, true, false}}},
    {"a hole",
     HOLE,
     2,
     {{1, "a", "a", S(2) + 0x100, S(4), 20, 30, false, false},
      {1, "b", "b", S(6) + 0x100, S(10), 60, 3000, true, false}}},
    {"two promotions",
     PROMOTED,
     3,
     {{3, "one", "three", S(2) + 0x100, S(9) + 0x8000, 20, 95, true, false},
      {2, "one", "two-dead", S(2) + 0x100, S(8), 20, 65, false, true},
      {1, "one", "one-dead", S(2) + 0x100, S(6), 20, 45, false, true}}},
    {"an ancestor that ends where its child begins has none of its own",
     {.wal = {{1, 1, 3, 0, 0, 9}, {1, 4, 0, 0, 0x80000, 9}, {2, 4, 6, 0, 0, 9}},
      .forks = {{2, "1\t0/480000\twhy\n"}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}}},
     1,
     {{2, "a", "a", S(2) + 8, S(7), 5, 9, true, false}}},
    {"a hole at the end of uploads under way",
     {.wal = {{1, 1, 3, 0, 0, 50}, {1, 5, 0, 0, 0, 51}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}}},
     1,
     {{1, "a", "a", S(2) + 8, S(4), 5, 50, true, false}}},
    {"the newest timeline's history is missing",
     {.wal = {{1, 1, 4, 0, 0, 9}, {2, 4, 6, 0, 0, 9}},
      .backups = {{"a", 1, S(2), S(2) + 8, 5, false, false, false}}},
     1,
     {{1, "a", "a", S(2) + 8, S(5), 5, 9, false, false}}},
    {"a backup that began later was ready earlier",
     {.wal = {{1, 1, 9, 0, 0, 9}},
      .backups =
          {{"slow", 1, S(2), S(6), 60, false, false, false},
           {"quick", 1, S(3), S(4), 40, false, false, false}}},
     1,
     {{1, "quick", "slow", S(4), S(10), 40, 9, true, false}}},
};

static void
test_windows(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(window_cases); i++)
    {
        WalInventory inv;
        BackupList list;
        RecoveryWindows windows;
        Error err = {0};
        const char *label = window_cases[i].label;

        world_make(&window_cases[i].world, &inv, &list);

        int rc = recovery_windows_make(&list, &inv, &windows, &err);

        if (!ok(rc == 0 && windows.count == window_cases[i].count, "windows: %s: number", label))
            diag("%zu", windows.count);
        for (size_t w = 0; rc == 0 && w < windows.count && w < window_cases[i].count; w++)
        {
            const RecoveryWindow *got = &windows.items[w];
            const Window *want = &window_cases[i].want[w];
            char text[256];

            if (!ok(got->tli == want->tli &&
                        strcmp(list.items[got->backup].label, want->first) == 0 &&
                        strcmp(list.items[got->last_backup].label, want->last) == 0 &&
                        got->start_lsn == want->start && got->end_lsn == want->end &&
                        got->start_us == T(want->start_at) && got->end_us == T(want->end_at) &&
                        got->current == want->current && got->dead == want->dead,
                    "windows: %s: window %zu", label, w + 1))
                diag(
                    "timeline %" PRIu32 ", %s to %s, %s, current %d, dead %d", got->tli,
                    list.items[got->backup].label, list.items[got->last_backup].label,
                    recovery_format_window(got, text), got->current, got->dead);
        }
        recovery_windows_reset(&windows);
        world_reset(&inv, &list);
    }
}

static void
test_texts(void)
{
    RecoveryWindow window = {.start_lsn = S(2), .end_lsn = S(7), .start_us = T(0), .end_us = T(60)};
    char text[256];

    ok(strcmp(
           recovery_format_window(&window, text),
           "between 2023-11-14 22:13:20.000 UTC (0/00200000) and 2023-11-14 22:14:20.000 UTC "
           "(0/00700000)") == 0,
       "text of a window");
    window.end_us = 0;
    ok(strstr(recovery_format_window(&window, text), " and 0/00700000") != NULL,
       "text of a window whose end has no time");
}

static void
test_segment_timelines(void)
{
    static const World world = PROMOTED;
    static const struct
    {
        TimelineId line;
        SegmentNo segno;
        TimelineId want;
    } wants[] = {{3, 3, 1}, {3, 4, 2}, {3, 5, 2}, {3, 6, 3}, {3, 9, 3},
                 {2, 6, 2}, {2, 8, 0}, {1, 5, 1}, {3, 0, 0}, {3, 10, 0}};
    WalInventory inv;
    BackupList list;

    world_make(&world, &inv, &list);
    for (size_t i = 0; i < ARRAY_COUNT(wants); i++)
        ok(recovery_segment_timeline(
               &inv, &wal_inventory_find(&inv, wants[i].line)->history, wants[i].segno) ==
               wants[i].want,
           "segment %" PRIu64 " on the line of timeline %" PRIu32, wants[i].segno, wants[i].line);
    world_reset(&inv, &list);
}

int
main(void)
{
    test_candidates();
    test_windows();
    test_texts();
    test_segment_timelines();
    return done_testing();
}
