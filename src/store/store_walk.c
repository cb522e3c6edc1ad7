/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Listings of any length, a request after the other.
 */
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fs.h"

#define WALK_STEP 1000 /* what S3 answers at most: a step is a request */

typedef struct WalkEntry
{
    char key[STORE_KEY_MAX + 1];
    bool is_prefix;
    uint64_t bytes;
    int64_t modified_us;
} WalkEntry;

/* What one request has told. */
typedef struct WalkStep
{
    WalkEntry *entries; /* WALK_STEP of them */
    size_t count;
} WalkStep;

static int
walk_note(void *ctx, const StoreEntry *entry, Error *err UNUSED)
{
    WalkStep *step = ctx;
    WalkEntry *to = &step->entries[step->count++];

    (void) snprintf(to->key, sizeof to->key, "%s", entry->key);
    to->is_prefix = entry->is_prefix;
    to->bytes = entry->bytes;
    to->modified_us = entry->modified_us;
    return step->count < WALK_STEP ? 0 : 1;
}

/* Returns what fn does: 0 to go on. */
static int
walk_tell(const WalkStep *step, StoreListFn fn, void *ctx, Error *err)
{
    for (size_t i = 0; i < step->count; i++)
    {
        const WalkEntry *from = &step->entries[i];
        StoreEntry entry = {
            .key = from->key,
            .bytes = from->bytes,
            .modified_us = from->modified_us,
            .is_prefix = from->is_prefix};
        int rc = fn(ctx, &entry, err);

        if (rc != 0)
            return rc;
    }
    return 0;
}

int
store_walk(
    Store *st, const StoreListOptions *options, int64_t timeout_ms, const atomic_bool *cancel,
    StoreListFn fn, void *ctx, Error *err)
{
    AUTO(free_text) char *memory = malloc(WALK_STEP * sizeof(WalkEntry));
    WalkStep step = {.entries = (WalkEntry *) (void *) memory};
    StoreListOptions rest = *options;
    char last[STORE_KEY_MAX + 1];
    int rc = 0;

    if (memory == NULL)
        return error_nomem(err);
    do
    {
        Deadline dl = deadline_after_ms(timeout_ms, cancel);

        step.count = 0;
        if (store_list(st, &rest, walk_note, &step, &dl, err) < 0)
            return error_wrap(err, "could not list \"%s\"", options->prefix);
        rc = walk_tell(&step, fn, ctx, err);
        if (step.count > 0)
            (void) snprintf(last, sizeof last, "%s", step.entries[step.count - 1].key);
        rest.start_after = last;
    } while (rc == 0 && step.count == WALK_STEP);
    return rc < 0 ? -1 : 0;
}
