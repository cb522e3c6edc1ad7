/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Parts that are there, missing, or of another size, of several owners.
 */
#include "repo/part_check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define TIMEOUT_MS 60000

/* What the repository has. Parts of 10 bytes. */
static const char *const objects[] = {
    "backup/a/start",
    "backup/a/manifest",
    "backup/a/bundle/00000000/00000000",
    "backup/a/bundle/00000000/00000001",
    "backup/a/bundle/00000000/index",
    "backup/a/bundle/0000000F/00000000",
    "backup/a-2/bundle/00000000/00000000",
    "backup/a-2/bundle/00000000/stray",
    "backup/failed/start",
    "backup/failed/bundle/00000001/00000000",
};

typedef struct Want
{
    const char *owner;
    uint32_t bundle, part;
    uint64_t bytes;
    bool good;
} Want;

#define ALL_OF_A                                                                                   \
    {"a", 0, 0, 10, true}, {"a", 0, 1, 10, true},                                                  \
    {                                                                                              \
        "a", 15, 0, 10, true                                                                       \
    }

static const struct
{
    const char *label, *start;
    Want want[6]; /* until there is no owner */
    uint64_t lists;
    bool has_start;
} cases[] = {
    {"nothing is wanted", NULL, {{0}}, 0, false},
    {"all of one backup", NULL, {ALL_OF_A}, 1, false},
    {"with its start object", "a", {ALL_OF_A}, 1, true},
    {"of three owners, in any order",
     NULL,
     {{"failed", 1, 0, 10, true}, ALL_OF_A, {"a-2", 0, 0, 10, true}},
     3,
     false},
    {"a backup without parts has a start object", "failed", {ALL_OF_A}, 2, true},
    {"and one has none", "a-2", {{"a-2", 0, 0, 10, true}}, 1, false},
    {"a part that is missing", NULL, {ALL_OF_A, {"a", 0, 2, 10, false}}, 1, false},
    {"a bundle that is missing", NULL, {ALL_OF_A, {"a", 1, 0, 10, false}}, 1, false},
    {"a part that another backup has", NULL, {{"a-2", 0, 1, 10, false}}, 1, false},
    {"a backup that is missing", NULL, {{"gone", 0, 0, 10, false}, ALL_OF_A}, 2, false},
    {"a part that is too short", NULL, {{"a", 0, 0, 11, false}, {"a", 0, 1, 10, true}}, 1, false},
    {"a part that is too long", NULL, {{"a", 0, 0, 9, false}, {"a", 0, 1, 10, true}}, 1, false},
    {"the same part twice", NULL, {{"a", 0, 1, 10, true}, {"a", 0, 1, 10, true}}, 1, false},
    {"twice, with two sizes", NULL, {{"a", 0, 1, 10, true}, {"a", 0, 1, 12, false}}, 1, false},
};

static void
put(Store *store, const char *key)
{
    char text[] = "0123456789";
    struct iovec iov = {.iov_base = text, .iov_len = 10};
    StoreBody body = {.iov = &iov, .iov_count = 1, .bytes = 10};
    Deadline dl = deadline_after_ms(TIMEOUT_MS, NULL);
    Error err = {0};

    if (store_put(store, key, &body, &dl, &err) < 0)
        abort();
}

/* How many of the wanted ones the check has, and judges as the case says. */
static size_t
count_right(const PartCheck *check, const Want *want, size_t count)
{
    size_t right = 0;

    for (size_t w = 0; w < count; w++)
        for (size_t i = 0; i < check->count; i++)
        {
            const PartCheckItem *item = &check->items[i];

            if (strcmp(item->owner, want[w].owner) == 0 && item->bundle == want[w].bundle &&
                item->part == want[w].part && item->bytes == want[w].bytes)
            {
                right += part_check_good(item) == want[w].good;
                break;
            }
        }
    return right;
}

static void
test_case(Repository *repo, size_t c)
{
    AUTO(part_check_reset) PartCheck check = {0};
    size_t count = 0, bad = 0, want_bad = 0;
    uint64_t lists = store_count_read(repo->store).lists;
    const PartCheckItem *first;
    Error err = {0};
    int rc = 0;

    for (; count < ARRAY_COUNT(cases[c].want) && cases[c].want[count].owner != NULL; count++)
    {
        const Want *want = &cases[c].want[count];
        BackupPart part = {
            .bundle = 77,
            .owner_bundle = want->bundle,
            .part = want->part,
            .stored_bytes = want->bytes};

        want_bad += !want->good;
        rc = rc == 0 ? part_check_add(&check, want->owner, &part, &err) : rc;
    }
    if (rc == 0)
        rc = part_check_run(&check, repo, cases[c].start, TIMEOUT_MS, 2, NULL, &err);
    lists = store_count_read(repo->store).lists - lists;
    first = part_check_first_bad(&check, &bad);
    ok(rc == 0 && bad == want_bad && (first != NULL) == (bad > 0), "%s: %zu are not there %s",
       cases[c].label, bad, err.msg);
    ok(count_right(&check, cases[c].want, count) == count, "%s: these", cases[c].label);
    ok(check.has_start == cases[c].has_start, "%s: start object", cases[c].label);
    ok(lists == cases[c].lists, "%s: %" PRIu64 " requests", cases[c].label, lists);
}

/* A store that does not answer is no missing part. */
static void
test_failure(Repository *repo)
{
    StoreFaultPlan plan = {.fail_at = 1, .kind = ERROR_TRANSIENT};
    AUTO(part_check_reset) PartCheck check = {0};
    BackupPart part = {.stored_bytes = 10};
    Error err = {0};

    if (store_fault_new(repo->store, &plan, &repo->store, &err) < 0 ||
        part_check_add(&check, "a", &part, &err) < 0)
        abort();
    ok(part_check_run(&check, repo, NULL, TIMEOUT_MS, 1, NULL, &err) == -1 &&
           err.kind == ERROR_TRANSIENT,
       "a listing fails: %s", err.msg);
    ok(part_check_run(&check, repo, NULL, TIMEOUT_MS, 1, NULL, &err) == 0 &&
           part_check_first_bad(&check, NULL) == NULL,
       "and works when it is repeated");
}

int
main(void)
{
    Repository repo = {0};
    Store *memory = NULL;
    Error err = {0};

    if (store_memory_new(&memory, &err) < 0 || store_count_new(memory, &repo.store, &err) < 0)
        return 1;
    for (size_t i = 0; i < ARRAY_COUNT(objects); i++)
        put(repo.store, objects[i]);
    for (size_t c = 0; c < ARRAY_COUNT(cases); c++)
        test_case(&repo, c);
    test_failure(&repo);
    store_free(repo.store);
    return done_testing();
}
