/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Works on a file store and tells what it was answered, for the fault test of the file store:
 *
 *   store_file_driver put ROOT COUNT     puts objects 0 .. COUNT - 1: "created KEY", "exists KEY"
 *   store_file_driver read ROOT COUNT    gets and stats them: "same KEY", "wrong KEY"; lists them:
 *                                        "listed KEY", by folder "folder KEY"; "end of list"
 *   store_file_driver remove ROOT COUNT  removes them: "removed KEY"
 *   store_file_driver sweep ROOT 0       "swept N"
 *
 * Each can be "failed KIND KEY" instead. The last line is "descriptors DIFFERENCE". It tells by the
 * bare system call, as libc's may be made to fail.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "store/store.h"

enum
{
    DRIVER_BYTES = 300000, /* more than one portion of a get */
    DRIVER_KEYS = 100
};

__attribute__((format(printf, 1, 2))) static void
tell(const char *fmt, ...)
{
    char line[1600];
    va_list ap;

    va_start(ap, fmt);
    (void) vsnprintf(line, sizeof line - 1, fmt, ap);
    va_end(ap);

    size_t len = strlen(line);

    line[len] = '\n';
    (void) syscall(SYS_write, STDOUT_FILENO, line, len + 1);
}

static void
tell_failed(const char *key, const Error *err)
{
    char kind[32];

    (void) snprintf(kind, sizeof kind, "%s", error_kind_name(err->kind));
    for (char *p = kind; *p != '\0'; p++)
        if (*p == ' ')
            *p = '-';
    tell("failed %s %s: %s", kind, key, err->msg);
}

/* "d0/k0", "d1/d/k1", "k2", "d0/k3" ...: folders of their own, shared ones, none. */
static void
key_of(unsigned n, char key[64])
{
    static const char *const folders[] = {"d0/", "d1/d/", ""};

    (void) snprintf(key, 64, "%sk%u", folders[n % 3], n);
}

/* The name of the object over and over; every fourth is empty. */
static size_t
body_of(unsigned n, char body[DRIVER_BYTES])
{
    char key[64];
    size_t len, bytes = n % 4 == 3 ? 0 : DRIVER_BYTES;

    key_of(n, key);
    len = strlen(key);
    for (size_t i = 0; i < bytes; i++)
        body[i] = i % (len + 1) == len ? '\n' : key[i % (len + 1)];
    return bytes;
}

static Deadline
soon(void)
{
    return deadline_after_ms(20000, NULL);
}

static void
driver_put(Store *st, unsigned n)
{
    static char body[DRIVER_BYTES];
    size_t bytes = body_of(n, body);
    struct iovec parts[] = {
        {.iov_base = body, .iov_len = bytes / 3},
        {.iov_base = body + bytes / 3, .iov_len = bytes - bytes / 3},
    };
    StoreBody put = {.iov = parts, .iov_count = 2, .bytes = bytes};
    Deadline dl = soon();
    char key[64];
    Error err;

    key_of(n, key);
    if (store_put(st, key, &put, &dl, &err) == 0)
        tell("created %s", key);
    else if (err.kind == ERROR_EXISTS)
        tell("exists %s", key);
    else
        tell_failed(key, &err);
}

typedef struct Compare
{
    Stage stage;
    const char *want;
    size_t len, have;
    bool same;
} Compare;

static int
compare_write(Stage *base, const void *buf, size_t len, Error *err)
{
    Compare *c = (Compare *) base;

    (void) err;
    if (len > c->len - c->have || memcmp(c->want + c->have, buf, len) != 0)
        c->same = false;
    else
        c->have += len;
    return 0;
}

static int
compare_finish(Stage *base, Error *err)
{
    (void) base;
    (void) err;
    return 0;
}

static void
compare_destroy(Stage *base)
{
    (void) base;
}

static void
driver_read(Store *st, unsigned n)
{
    static const StageOps ops = {
        .name = "compare",
        .write = compare_write,
        .finish = compare_finish,
        .destroy = compare_destroy,
    };
    static char body[DRIVER_BYTES];
    Compare compare = {.want = body, .len = body_of(n, body), .same = true};
    Deadline dl = soon();
    StoreStat stat;
    char key[64];
    Error err;

    key_of(n, key);
    stage_init(&compare.stage, &ops, NULL);
    if (store_get(st, key, (ByteRange){0}, &compare.stage, &dl, &err) < 0)
        tell_failed(key, &err);
    else
        tell("%s %s", compare.same && compare.have == compare.len ? "same" : "wrong", key);
    if (store_stat(st, key, &dl, &stat, &err) < 0)
        tell_failed(key, &err);
    else
        tell("%s %s", stat.bytes == compare.len ? "same" : "wrong", key);
}

static int
driver_list_entry(void *ctx, const StoreEntry *entry, Error *err)
{
    (void) err;
    tell("%s %s", (const char *) ctx, entry->key);
    return 0;
}

static void
driver_list(Store *st, bool by_folder)
{
    StoreListOptions options = {.prefix = "", .by_folder = by_folder};
    char what[] = "listed", folder[] = "folder";
    Deadline dl = soon();
    Error err;

    if (store_list(st, &options, driver_list_entry, by_folder ? folder : what, &dl, &err) < 0)
        tell_failed("list", &err);
    else
        tell("end of list");
}

static void
driver_remove(Store *st, unsigned count)
{
    static StoreRemoved removed[DRIVER_KEYS];
    static char keys[DRIVER_KEYS][64];
    Deadline dl = soon();
    Error err;

    for (unsigned n = 0; n < count; n++)
    {
        key_of(n, keys[n]);
        removed[n].key = keys[n];
    }
    if (store_remove(st, removed, count, &dl, &err) < 0)
    {
        tell_failed("remove", &err);
        return;
    }
    for (unsigned n = 0; n < count; n++)
        if (removed[n].err.kind == ERROR_NONE)
            tell("removed %s", keys[n]);
        else
            tell_failed(keys[n], &removed[n].err);
}

static void
driver_sweep(Store *st)
{
    uint64_t removed;
    Error err;

    if (store_file_sweep(st, 0, &removed, &err) < 0)
        tell_failed("sweep", &err);
    else
        tell("swept %llu", (unsigned long long) removed);
}

static int
descriptors_open(void)
{
    int count = 0;

    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

int
main(int argc, char **argv)
{
    int before = descriptors_open();
    Store *st;
    Error err;

    if (argc != 4)
        return 2;

    unsigned count = (unsigned) strtoul(argv[3], NULL, 10);

    if (count > DRIVER_KEYS)
        return 2;
    if (store_file_new(argv[2], false, &st, &err) < 0)
    {
        tell_failed("new", &err);
    }
    else
    {
        for (unsigned n = 0; strcmp(argv[1], "put") == 0 && n < count; n++)
            driver_put(st, n);
        for (unsigned n = 0; strcmp(argv[1], "read") == 0 && n < count; n++)
            driver_read(st, n);
        if (strcmp(argv[1], "read") == 0)
        {
            driver_list(st, false);
            driver_list(st, true);
        }
        if (strcmp(argv[1], "remove") == 0)
            driver_remove(st, count);
        if (strcmp(argv[1], "sweep") == 0)
            driver_sweep(st);
        store_free(st);
    }
    tell("descriptors %d", descriptors_open() - before);
    return 0;
}
