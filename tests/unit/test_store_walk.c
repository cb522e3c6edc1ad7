/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Listings in steps: each name once, in order, in as many requests as there are thousands.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/store.h"
#include "tap.h"

#define TIMEOUT_MS 60000

typedef struct Walk
{
    Store *store;
    uint64_t told;
    uint64_t prefixes;
    uint64_t until; /* 0: to the end */
    int then;       /* what is returned there */
    char last[STORE_KEY_MAX + 1];
    bool ordered;
    bool whole; /* sizes and times are told */
} Walk;

static int
note(void *ctx, const StoreEntry *entry, Error *err)
{
    Walk *walk = ctx;
    StoreStat st;
    Deadline dl = deadline_after_ms(TIMEOUT_MS, NULL);

    walk->ordered = walk->ordered && strcmp(walk->last, entry->key) < 0;
    walk->whole = walk->whole && (entry->is_prefix || entry->bytes == 1);
    (void) snprintf(walk->last, sizeof walk->last, "%s", entry->key);
    walk->told++;
    walk->prefixes += entry->is_prefix;
    /* not within a request: the store can be asked */
    if (walk->told == 1 && !entry->is_prefix &&
        (store_stat(walk->store, entry->key, &dl, &st, err) < 0 ||
         st.modified_us != entry->modified_us))
        walk->whole = false;
    if (walk->told != walk->until)
        return 0;
    return walk->then < 0 ? error_set(err, ERROR_CORRUPT, "enough") : walk->then;
}

static void
put(Store *store, const char *key)
{
    char byte = 'x';
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    StoreBody body = {.iov = &iov, .iov_count = 1, .bytes = 1};
    Deadline dl = deadline_after_ms(TIMEOUT_MS, NULL);
    Error err = {0};

    if (store_put(store, key, &body, &dl, &err) < 0)
        abort();
}

static const struct
{
    const char *label, *prefix, *after;
    bool by_folder;
    uint64_t until;
    int then;
    uint64_t told, lists;
} cases[] = {
    {"all", "", NULL, false, 0, 0, 3001, 4},
    {"a prefix", "a/", NULL, false, 0, 0, 2000,
     3}, /* whether there are more is not known at 2000 */
    {"a prefix of less than a step", "b/", NULL, false, 0, 0, 999, 1},
    {"nothing", "d/", NULL, false, 0, 0, 0, 1},
    {"behind a name", "a/", "a/00001499", false, 0, 0, 500, 1},
    {"folders", "", NULL, true, 0, 0, 3, 1},
    {"ended in the middle", "", NULL, false, 10, 1, 10, 1},
    {"ended with the last of a step", "a/", NULL, false, 1000, 1, 1000, 1},
    {"failed in the second step", "", NULL, false, 1001, -1, 1001, 2},
};

int
main(void)
{
    Store *memory = NULL, *store = NULL;
    atomic_bool canceled = true;
    Error err = {0};
    char key[32];

    if (store_memory_new(&memory, &err) < 0 || store_count_new(memory, &store, &err) < 0)
        return 1;
    for (unsigned i = 0; i < 2999; i++)
    {
        (void) snprintf(key, sizeof key, "%s/%08u", i < 2000 ? "a" : "b", i);
        put(store, key);
    }
    put(store, "c/1");
    put(store, "c/2");
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Walk walk = {
            .store = store,
            .until = cases[i].until,
            .then = cases[i].then,
            .ordered = true,
            .whole = true};
        StoreListOptions options = {
            .prefix = cases[i].prefix,
            .start_after = cases[i].after,
            .by_folder = cases[i].by_folder};
        uint64_t lists = store_count_read(store).lists;
        int rc;

        err = (Error){0};
        rc = store_walk(store, &options, TIMEOUT_MS, NULL, note, &walk, &err);
        lists = store_count_read(store).lists - lists;
        ok(cases[i].then < 0 ? rc == -1 && err.kind == ERROR_CORRUPT : rc == 0, "%s: %s",
           cases[i].label, rc < 0 ? err.msg : "good");
        ok(walk.told == cases[i].told && walk.ordered && walk.whole &&
               walk.prefixes == (cases[i].by_folder ? walk.told : 0),
           "%s: %" PRIu64 " entries", cases[i].label, walk.told);
        ok(lists == cases[i].lists, "%s: %" PRIu64 " requests", cases[i].label, lists);
    }

    Walk walk = {.store = store};
    StoreListOptions options = {.prefix = ""};

    ok(store_walk(store, &options, TIMEOUT_MS, &canceled, note, &walk, &err) == -1 &&
           err.kind == ERROR_CANCELED && walk.told == 0,
       "canceled: %s", err.msg);
    store_free(store);
    return done_testing();
}
