/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The conformance suite over the stores that need no server: memory, files, and each wrapping
 * store.
 */
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "conformance/store_conformance.h"
#include "tap.h"

static const StoreRetryOptions retry_options = {.first_delay_ms = 1, .max_delay_ms = 10};

/* An empty folder in *ctx each time. */
typedef struct Folder
{
    char top[256];
    int count;
} Folder;

static Store *
give(int rc, Store *const *st, const Error *err)
{
    if (rc == 0)
        return *st;
    diag("%s", err->msg);
    return NULL;
}

static Store *
make_memory(void *ctx)
{
    Store *st = NULL;
    Error err;

    (void) ctx;
    return give(store_memory_new(&st, &err), &st, &err);
}

static Store *
make_file(void *ctx)
{
    Folder *folder = ctx;
    char root[300];
    Store *st = NULL;
    Error err;

    (void) snprintf(root, sizeof root, "%s/deep/%d", folder->top, folder->count++);
    return give(store_file_new(root, true, &st, &err), &st, &err);
}

static Store *
make_retry(void *ctx)
{
    Store *st = NULL;
    Error err;

    return give(store_retry_new(make_memory(ctx), &retry_options, &st, &err), &st, &err);
}

static Store *
make_count(void *ctx)
{
    Store *st = NULL;
    Error err;

    return give(store_count_new(make_file(ctx), &st, &err), &st, &err);
}

/* With objects around the prefix that must not be seen. */
static Store *
make_prefix(void *ctx)
{
    static const char *const around[] = {"cluster", "cluster-1/x", "clusteR/x", "cluster0/x"};
    Store *inner = make_memory(ctx), *st = NULL;
    Error err;

    for (size_t i = 0; i < ARRAY_COUNT(around); i++)
        if (store_put_bytes(inner, around[i], "x", 1, &err) < 0)
            return give(-1, &st, &err);
    return give(store_prefix_new(inner, "cluster/7/", &st, &err), &st, &err);
}

static Store *
make_prefix_file(void *ctx)
{
    Store *st = NULL;
    Error err;

    return give(store_prefix_new(make_file(ctx), "cluster/7/", &st, &err), &st, &err);
}

static Store *
make_fault(void *ctx)
{
    static const StoreFaultPlan none = {.fail_at = 0, .kind = ERROR_IO};
    Store *st = NULL;
    Error err;

    return give(store_fault_new(make_memory(ctx), &none, &st, &err), &st, &err);
}

static int
folder_remove_one(const char *path, const struct stat *sb, int type, struct FTW *ftw)
{
    (void) sb;
    (void) type;
    (void) ftw;
    return remove(path);
}

int
main(void)
{
    static const struct
    {
        const char *label;
        StoreConformanceMake make;
    } stores[] = {
        {"memory", make_memory},           {"file", make_file},
        {"retry of memory", make_retry},   {"count of file", make_count},
        {"prefix of memory", make_prefix}, {"prefix of file", make_prefix_file},
        {"fault of memory", make_fault},
    };
    const char *tmp = getenv("TMPDIR");
    Folder folder = {0};

    (void) snprintf(
        folder.top, sizeof folder.top, "%s/test_store.XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(folder.top) == NULL)
        return 1;
    for (size_t i = 0; i < ARRAY_COUNT(stores); i++)
        store_conformance_run(stores[i].label, stores[i].make, &folder, 0);
    (void) nftw(folder.top, folder_remove_one, 16, FTW_DEPTH | FTW_PHYS);
    return done_testing();
}
