/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The S3 store under a script's control: commands on standard input, one answer a line on standard
 * output. One process runs many commands, so that connections are kept between them. Credentials
 * are from the environment.
 *
 *   put KEY BYTES SEED           bytes that depend on the seed alone
 *   get KEY OFFSET LEN           answers with the length and whether it is what "put" with the seed
 *   getseed KEY SEED OFFSET LEN  of KEY wrote
 *   stat KEY
 *   list PREFIX [START_AFTER]    answers with the count and the SHA-256 of the keys, one a line
 *   folders PREFIX               answers with the names
 *   remove KEY...
 *   fill PREFIX COUNT THREADS    small objects PREFIX00000000 ...
 *   storm PREFIX COUNT BYTES THREADS   put, get and compare each, in parallel
 *   timeout MS                   of the following commands
 *   skew
 *
 * A word "%" stands for an empty one. Answers: "ok ..." or "error KIND: MESSAGE", with " HINT: ..."
 * if there is one.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "common/parse.h"
#include "common/strbuf.h"
#include "store/s3.h"

#define DRIVER_MAX_WORDS 4096
#define DRIVER_MAX_THREADS 64

typedef struct Driver
{
    Store *store;
    int64_t timeout_ms;
} Driver;

/* Bytes that a seed stands for: every eight differ, so that a shift or a hole shows. */
static void
driver_fill(uint8_t *buf, size_t len, uint64_t seed, uint64_t offset)
{
    for (size_t i = 0; i < len; i++)
    {
        uint64_t word = (offset + i) / 8 + seed * UINT64_C(0x9E3779B97F4A7C15);

        word ^= word >> 29;
        word *= UINT64_C(0xBF58476D1CE4E5B9);
        word ^= word >> 32;
        buf[i] = (uint8_t) (word >> (offset + i) % 8 * 8);
    }
}

static void
driver_say_error(const Error *err)
{
    printf("error %s: %s", error_kind_name(err->kind), err->msg);
    if (err->hint[0] != '\0')
        printf(" HINT: %s", err->hint);
    printf("\n");
}

/* ---- a sink that compares with what the seed stands for ---- */

typedef struct DriverSink
{
    Stage base;
    uint64_t seed, offset;
    uint64_t wrong; /* bytes */
} DriverSink;

static int
driver_sink_write(Stage *st, const void *buf, size_t len, Error *err)
{
    DriverSink *sink = (DriverSink *) (void *) st;
    const uint8_t *got = buf;
    uint8_t want[4096];

    (void) err;
    for (size_t done = 0; done < len;)
    {
        size_t part = MIN(len - done, sizeof want);

        driver_fill(want, part, sink->seed, sink->offset);
        for (size_t i = 0; i < part; i++)
            sink->wrong += want[i] != got[done + i];
        done += part;
        sink->offset += part;
    }
    return 0;
}

static int
driver_sink_finish(Stage *st, Error *err)
{
    (void) st;
    (void) err;
    return 0;
}

static void
driver_sink_destroy(Stage *st)
{
    (void) st;
}

static const StageOps driver_sink_ops = {
    .name = "compare",
    .write = driver_sink_write,
    .finish = driver_sink_finish,
    .destroy = driver_sink_destroy,
};

static int
driver_get(
    const Driver *d, const char *key, uint64_t seed, ByteRange range, uint64_t *bytes,
    uint64_t *wrong, Error *err)
{
    DriverSink sink = {.seed = seed, .offset = range.offset};
    Deadline dl = deadline_after_ms(d->timeout_ms, NULL);

    stage_init(&sink.base, &driver_sink_ops, NULL);
    if (store_get(d->store, key, range, &sink.base, &dl, err) < 0)
        return -1;
    *bytes = sink.base.bytes_in;
    *wrong = sink.wrong;
    return 0;
}

/* In pieces of unequal length, one of them empty. */
static int
driver_put(const Driver *d, const char *key, uint64_t bytes, uint64_t seed, Error *err)
{
    uint8_t *buf = malloc(bytes + 1);
    Deadline dl = deadline_after_ms(d->timeout_ms, NULL);
    int rc;

    if (buf == NULL)
        return error_nomem(err);
    driver_fill(buf, bytes, seed, 0);

    struct iovec iov[] = {
        {buf, bytes / 3},
        {buf, 0},
        {buf + bytes / 3, bytes - bytes / 3},
    };
    StoreBody body = {.iov = iov, .iov_count = ARRAY_COUNT(iov), .bytes = bytes};

    rc = store_put(d->store, key, &body, &dl, err);
    free(buf);
    return rc;
}

/* ---- many at once ---- */

typedef struct DriverCrowd
{
    const Driver *d;
    const char *prefix;
    uint64_t count, bytes;
    bool check;
    pthread_mutex_t lock; /* guards the fields below */
    uint64_t next;
    uint64_t failed, wrong;
    Error first; /* failure */
} DriverCrowd;

static int
driver_crowd_one(const DriverCrowd *crowd, uint64_t i, Error *err)
{
    char key[STORE_KEY_MAX];
    uint64_t bytes, wrong;
    int rc;

    (void) snprintf(key, sizeof key, "%s%08llu", crowd->prefix, (unsigned long long) i);
    rc = driver_put(crowd->d, key, crowd->bytes, i, err);
    /* an answer that was lost: the retry meets the object that the first try has made */
    if (rc < 0 && (err->kind != ERROR_EXISTS || !crowd->check))
        return -1;
    if (!crowd->check)
        return 0;
    if (driver_get(crowd->d, key, i, (ByteRange){.offset = 0}, &bytes, &wrong, err) < 0)
        return -1;
    if (bytes != crowd->bytes || wrong > 0)
        return error_set(
            err, ERROR_CORRUPT, "\"%s\" has %llu bytes, %llu of them wrong", key,
            (unsigned long long) bytes, (unsigned long long) wrong);
    return 0;
}

static void *
driver_crowd_main(void *arg)
{
    DriverCrowd *crowd = arg;

    for (;;)
    {
        Error err = {.kind = ERROR_NONE};
        uint64_t i;

        (void) pthread_mutex_lock(&crowd->lock);
        i = crowd->next++;
        (void) pthread_mutex_unlock(&crowd->lock);
        if (i >= crowd->count)
            return NULL;
        if (driver_crowd_one(crowd, i, &err) == 0)
            continue;
        (void) pthread_mutex_lock(&crowd->lock);
        if (crowd->failed++ == 0)
            crowd->first = err;
        (void) pthread_mutex_unlock(&crowd->lock);
    }
}

static void
driver_do_crowd(DriverCrowd *crowd, uint64_t threads)
{
    pthread_t ids[DRIVER_MAX_THREADS];
    uint64_t started = 0;
    int64_t begun_ms = clock_monotonic_ms();

    (void) pthread_mutex_init(&crowd->lock, NULL);
    for (; started < MIN(threads, DRIVER_MAX_THREADS); started++)
        if (pthread_create(&ids[started], NULL, driver_crowd_main, crowd) != 0)
            break;
    for (uint64_t i = 0; i < started; i++)
        (void) pthread_join(ids[i], NULL);
    (void) pthread_mutex_destroy(&crowd->lock);
    if (crowd->failed > 0)
    {
        printf(
            "%llu of %llu: ", (unsigned long long) crowd->failed,
            (unsigned long long) crowd->count);
        driver_say_error(&crowd->first);
    }
    else
        printf(
            "ok %llu in %lld ms\n", (unsigned long long) crowd->count,
            (long long) (clock_monotonic_ms() - begun_ms));
}

/* ---- list ---- */

typedef struct DriverList
{
    EVP_MD_CTX *digest;
    uint64_t count;
    StrBuf names;
} DriverList;

static int
driver_on_entry(void *ctx, const StoreEntry *entry, Error *err)
{
    DriverList *list = ctx;

    (void) err;
    (void) EVP_DigestUpdate(list->digest, entry->key, strlen(entry->key));
    (void) EVP_DigestUpdate(list->digest, "\n", 1);
    if (list->count < 20)
        strbuf_printf(
            &list->names, " %s%s", entry->key,
            entry->is_prefix == (entry->key[strlen(entry->key) - 1] == '/') ? "" : "(?)");
    list->count++;
    return 0;
}

static void
driver_do_list(const Driver *d, const StoreListOptions *options, bool names)
{
    DriverList list = {.digest = EVP_MD_CTX_new()};
    Deadline dl = deadline_after_ms(d->timeout_ms, NULL);
    Error err = {.kind = ERROR_NONE};
    uint8_t sha256[32];
    char hex[65];

    strbuf_init(&list.names, 1 << 20);
    (void) EVP_DigestInit_ex(list.digest, EVP_sha256(), NULL);
    if (store_list(d->store, options, driver_on_entry, &list, &dl, &err) < 0)
        driver_say_error(&err);
    else
    {
        (void) EVP_DigestFinal_ex(list.digest, sha256, NULL);
        printf(
            "ok %llu%s%s\n", (unsigned long long) list.count, names ? "" : " ",
            names ? strbuf_text(&list.names) : format_hex(sha256, sizeof sha256, hex));
    }
    EVP_MD_CTX_free(list.digest);
    strbuf_reset(&list.names);
}

/* ---- commands ---- */

static void
driver_do_remove(const Driver *d, char **keys, size_t count)
{
    StoreRemoved *removed = calloc(count + 1, sizeof *removed);
    Deadline dl = deadline_after_ms(d->timeout_ms, NULL);
    Error err = {.kind = ERROR_NONE};
    size_t gone = 0;

    if (removed == NULL)
        exit(1);
    for (size_t i = 0; i < count; i++)
        removed[i].key = keys[i];
    if (store_remove(d->store, removed, count, &dl, &err) < 0)
        driver_say_error(&err);
    else
    {
        for (size_t i = 0; i < count; i++)
        {
            if (removed[i].err.kind == ERROR_NONE)
                gone++;
            else
                err = removed[i].err;
        }
        if (gone == count)
            printf("ok %zu\n", gone);
        else
        {
            printf("%zu of %zu: ", count - gone, count);
            driver_say_error(&err);
        }
    }
    free(removed);
}

static uint64_t
driver_number(char **words, size_t count, size_t i)
{
    uint64_t n = 0;

    if (i >= count || !parse_u64(words[i], &n))
    {
        (void) fprintf(stderr, "s3_driver: word %zu must be a number\n", i);
        exit(2);
    }
    return n;
}

static void
driver_do_get(const Driver *d, char **words, size_t count, size_t seed_at)
{
    size_t at = seed_at + 1;
    uint64_t seed = seed_at > 1 ? driver_number(words, count, seed_at) : 0;
    ByteRange range = {driver_number(words, count, at), driver_number(words, count, at + 1)};
    uint64_t bytes, wrong;
    Error err = {.kind = ERROR_NONE};

    if (driver_get(d, words[1], seed, range, &bytes, &wrong, &err) < 0)
        driver_say_error(&err);
    else if (seed_at > 1 && wrong > 0)
        printf(
            "%llu bytes of %llu are wrong\n", (unsigned long long) wrong,
            (unsigned long long) bytes);
    else
        printf("ok %llu\n", (unsigned long long) bytes);
}

static void
driver_do_stat(const Driver *d, const char *key)
{
    Deadline dl = deadline_after_ms(d->timeout_ms, NULL);
    Error err = {.kind = ERROR_NONE};
    StoreStat st;

    if (store_stat(d->store, key, &dl, &st, &err) < 0)
        driver_say_error(&err);
    else
        printf(
            "ok %llu %s\n", (unsigned long long) st.bytes,
            st.modified_us / 1000000 > 1700000000 ? "dated" : "undated");
}

static void
driver_do_put(const Driver *d, char **words, size_t count)
{
    Error err = {.kind = ERROR_NONE};

    if (driver_put(
            d, words[1], driver_number(words, count, 2), driver_number(words, count, 3), &err) < 0)
        driver_say_error(&err);
    else
        printf("ok\n");
}

static void
driver_do(Driver *d, const Store *s3, char **words, size_t count)
{
    const char *verb = words[0];
    int64_t skew;

    if (strcmp(verb, "put") == 0 && count == 4)
        driver_do_put(d, words, count);
    else if (strcmp(verb, "get") == 0 && count == 4)
        driver_do_get(d, words, count, 1);
    else if (strcmp(verb, "getseed") == 0 && count == 5)
        driver_do_get(d, words, count, 2);
    else if (strcmp(verb, "stat") == 0 && count == 2)
        driver_do_stat(d, words[1]);
    else if (strcmp(verb, "list") == 0 && (count == 2 || count == 3))
        driver_do_list(
            d, &(StoreListOptions){.prefix = words[1], .start_after = count == 3 ? words[2] : NULL},
            false);
    else if (strcmp(verb, "folders") == 0 && count == 2)
        driver_do_list(d, &(StoreListOptions){.prefix = words[1], .by_folder = true}, true);
    else if (strcmp(verb, "remove") == 0 && count > 1)
        driver_do_remove(d, words + 1, count - 1);
    else if (strcmp(verb, "fill") == 0 && count == 4)
    {
        DriverCrowd crowd = {
            .d = d, .prefix = words[1], .count = driver_number(words, count, 2), .bytes = 3};

        driver_do_crowd(&crowd, driver_number(words, count, 3));
    }
    else if (strcmp(verb, "storm") == 0 && count == 5)
    {
        DriverCrowd crowd = {
            .d = d,
            .prefix = words[1],
            .count = driver_number(words, count, 2),
            .bytes = driver_number(words, count, 3),
            .check = true,
        };

        driver_do_crowd(&crowd, driver_number(words, count, 4));
    }
    else if (strcmp(verb, "timeout") == 0 && count == 2)
    {
        d->timeout_ms = (int64_t) driver_number(words, count, 1);
        printf("ok\n");
    }
    else if (strcmp(verb, "skew") == 0 && count == 1)
    {
        if (store_s3_clock_skew_s(s3, &skew))
            printf("ok %lld\n", (long long) skew);
        else
            printf("unknown\n");
    }
    else
    {
        (void) fprintf(stderr, "s3_driver: unknown command \"%s\"\n", verb);
        exit(2);
    }
}

static void
driver_run(Driver *d, const Store *s3)
{
    char *line = NULL;
    size_t size = 0;
    static char *words[DRIVER_MAX_WORDS];
    static char empty[] = "";

    while (getline(&line, &size, stdin) > 0)
    {
        size_t count = 0;
        char *rest = line;

        for (char *word; count < DRIVER_MAX_WORDS && (word = strtok_r(rest, " \n", &rest)) != NULL;)
            words[count++] = strcmp(word, "%") == 0 ? empty : word;
        if (count == 0)
            continue;
        driver_do(d, s3, words, count);
        (void) fflush(stdout);
    }
    free(line);
}

int
main(int argc, char **argv)
{
    static const struct option long_options[] = {
        {"endpoint", required_argument, NULL, 'e'},
        {"bucket", required_argument, NULL, 'b'},
        {"prefix", required_argument, NULL, 'p'},
        {"ca-file", required_argument, NULL, 'c'},
        {"region", required_argument, NULL, 'R'},
        {"credentials", required_argument, NULL, 'k'},
        {"virtual-host", no_argument, NULL, 'v'},
        {"look-first", no_argument, NULL, 'l'},
        {"retry", no_argument, NULL, 'r'},
        {"stall-ms", required_argument, NULL, 's'},
        {"connect-ms", required_argument, NULL, 'C'},
        {"try-ms", required_argument, NULL, 't'},
        {NULL, 0, NULL, 0},
    };
    S3Options options = {.prefix = "", .path_style = true, .conditional_create = true};
    StoreRetryOptions retry = {.first_delay_ms = 20, .max_delay_ms = 500, .try_timeout_ms = 20000};
    bool with_retry = false;
    const char *credentials = "environment";
    Driver d = {.timeout_ms = 60000};
    Store *s3;
    Error err = {.kind = ERROR_NONE};

    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;)
    {
        uint64_t n = 0;

        if ((c == 's' || c == 'C' || c == 't') && !parse_u64(optarg, &n))
            return 2;
        switch (c)
        {
            case 'e':
                options.endpoint = optarg;
                break;
            case 'b':
                options.bucket = optarg;
                break;
            case 'p':
                options.prefix = optarg;
                break;
            case 'c':
                options.ca_file = optarg;
                break;
            case 'R':
                options.region = optarg;
                break;
            case 'k':
                credentials = optarg;
                break;
            case 'v':
                options.path_style = false;
                break;
            case 'l':
                options.conditional_create = false;
                break;
            case 'r':
                with_retry = true;
                break;
            case 's':
                options.stall_timeout_ms = (int64_t) n;
                break;
            case 'C':
                options.connect_timeout_ms = (int64_t) n;
                break;
            case 't':
                retry.try_timeout_ms = (int64_t) n;
                break;
            default:
                return 2;
        }
    }
    if (options.bucket == NULL || options.endpoint == NULL)
    {
        (void) fprintf(stderr, "usage: s3_driver --endpoint URL --bucket NAME [options]\n");
        return 2;
    }
    if (credentials_provider_new(credentials, &options.credentials, &err) < 0 ||
        store_s3_new(&options, &s3, &err) < 0 ||
        (d.store = s3, with_retry && store_retry_new(s3, &retry, &d.store, &err) < 0))
    {
        driver_say_error(&err);
        return 1;
    }
    driver_run(&d, s3);
    store_free(d.store);
    return 0;
}
