/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Parts that are to be there; see part_check.h.
 */
#include "repo/part_check.h"

#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/workers.h"

/* A backup with parts that are looked for: items[first] .. items[first + count - 1]. */
typedef struct PartCheckOwner
{
    const char *label;
    size_t first;
    size_t count;
} PartCheckOwner;

typedef struct PartCheckRun
{
    PartCheck *check;
    Repository *repo;
    const char *start;
    int64_t timeout_ms;
    const atomic_bool *cancel;
    PartCheckOwner *owners; /* owned; by label */
    size_t owner_count;
    size_t owner_cap;
} PartCheckRun;

/* One owner while it is listed. */
typedef struct PartCheckWalk
{
    PartCheckItem *items;
    size_t count;
    bool has_start;
} PartCheckWalk;

void
part_check_reset(PartCheck *check)
{
    free(check->items);
    *check = (PartCheck){0};
}

static void
part_check_run_reset(PartCheckRun *run)
{
    free(run->owners);
}

int
part_check_add(PartCheck *check, const char *owner, const BackupPart *part, Error *err)
{
    PartCheckItem *items = array_grow(check->items, check->count, &check->cap, sizeof *items, err);

    if (items == NULL)
        return -1;
    check->items = items;
    check->items[check->count++] = (PartCheckItem){
        .owner = owner,
        .bundle = part->owner_bundle,
        .part = part->part,
        .bytes = part->stored_bytes};
    return 0;
}

/* ---- one owner ---- */

/* Where in its bundle's owner: the owners are the same. */
static int
part_check_compare_places(const PartCheckItem *left, const PartCheckItem *right)
{
    if (left->bundle != right->bundle)
        return left->bundle < right->bundle ? -1 : 1;
    return (left->part > right->part) - (left->part < right->part);
}

static int
part_check_compare(const void *a, const void *b)
{
    const PartCheckItem *left = a;
    const PartCheckItem *right = b;
    int order = left->owner == right->owner ? 0 : strcmp(left->owner, right->owner);

    return order != 0 ? order : part_check_compare_places(left, right);
}

/* The first of the owner's items that is this part or one behind it. */
static size_t
part_check_find(const PartCheckWalk *walk, const PartCheckItem *want)
{
    size_t low = 0;
    size_t high = walk->count;

    while (low < high)
    {
        size_t middle = low + (high - low) / 2;

        if (part_check_compare_places(&walk->items[middle], want) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static int
part_check_note_object(void *ctx, const StoreEntry *entry, Error *err UNUSED)
{
    PartCheckWalk *walk = ctx;
    PartCheckItem want;
    BackupKey key;

    if (!backup_key_parse(entry->key, &key))
        return 0;
    if (key.kind == BACKUP_KEY_START)
        walk->has_start = true;
    if (key.kind != BACKUP_KEY_PART)
        return 0;
    want = (PartCheckItem){.bundle = key.bundle, .part = key.part};
    for (size_t i = part_check_find(walk, &want);
         i < walk->count && part_check_compare_places(&walk->items[i], &want) == 0; i++)
    {
        walk->items[i].found = true;
        walk->items[i].found_bytes = entry->bytes;
    }
    return 0;
}

static int
part_check_list(void *ctx, size_t i, Error *err)
{
    PartCheckRun *run = ctx;
    const PartCheckOwner *owner = &run->owners[i];
    PartCheckWalk walk = {.items = &run->check->items[owner->first], .count = owner->count};
    char prefix[LAYOUT_KEY_MAX];
    StoreListOptions options = {.prefix = backup_prefix(owner->label, prefix)};

    if (store_walk(
            run->repo->store, &options, run->timeout_ms, run->cancel, part_check_note_object, &walk,
            err) < 0)
        return -1;
    /* one owner has this label, so that no other thread is here */
    if (run->start != NULL && strcmp(owner->label, run->start) == 0)
        run->check->has_start = walk.has_start;
    return 0;
}

/* ---- all of them ---- */

static int
part_check_add_owner(PartCheckRun *run, const char *label, size_t first, Error *err)
{
    PartCheckOwner *owners =
        array_grow(run->owners, run->owner_count, &run->owner_cap, sizeof *owners, err);

    if (owners == NULL)
        return -1;
    run->owners = owners;
    run->owners[run->owner_count++] = (PartCheckOwner){.label = label, .first = first};
    return 0;
}

static int
part_check_collect_owners(PartCheckRun *run, Error *err)
{
    const PartCheck *check = run->check;
    bool has_start = run->start == NULL;

    for (size_t i = 0; i < check->count; i++)
    {
        if (i == 0 || strcmp(check->items[i].owner, check->items[i - 1].owner) != 0)
        {
            if (part_check_add_owner(run, check->items[i].owner, i, err) < 0)
                return -1;
            has_start = has_start || strcmp(check->items[i].owner, run->start) == 0;
        }
        run->owners[run->owner_count - 1].count++;
    }
    return has_start ? 0 : part_check_add_owner(run, run->start, 0, err);
}

int
part_check_run(
    PartCheck *check, Repository *repo, const char *start, int64_t timeout_ms, unsigned jobs,
    const atomic_bool *cancel, Error *err)
{
    AUTO(part_check_run_reset)
    PartCheckRun run = {
        .check = check, .repo = repo, .start = start, .timeout_ms = timeout_ms, .cancel = cancel};

    check->has_start = false;
    if (check->count > 1)
        qsort(check->items, check->count, sizeof *check->items, part_check_compare);
    if (part_check_collect_owners(&run, err) < 0)
        return -1;
    if (run.owner_count > 0 && workers_each(jobs, run.owner_count, part_check_list, &run, err) < 0)
        return error_wrap(err, "could not see whether all parts are there");
    return 0;
}

bool
part_check_good(const PartCheckItem *item)
{
    return item->found && item->found_bytes == item->bytes;
}

const PartCheckItem *
part_check_first_bad(const PartCheck *check, size_t *count)
{
    const PartCheckItem *first = NULL;
    size_t bad = 0;

    for (size_t i = 0; i < check->count; i++)
        if (!part_check_good(&check->items[i]) && bad++ == 0)
            first = &check->items[i];
    if (count != NULL)
        *count = bad;
    return first;
}
