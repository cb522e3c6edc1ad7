/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Where objects live. A Store is a vtable; retry, rate limits, counting and fault injection are
 * stores that wrap a store. Objects are created once and never overwritten.
 *
 * Keys are relative paths of [A-Za-z0-9._-] and '/', no empty, "." or ".." component, at most
 * STORE_KEY_MAX bytes. All calls take a Deadline and return when it passes. A key, prefix or body
 * outside the limits is USAGE, found before the driver is asked.
 *
 * Errors   the driver, which knows its protocol, chooses the kind: NOT_FOUND only when the store
 * said so with certainty (a 403 is DENIED: it may hide an existing key), TRANSIENT when a retry may
 *          help, TIMEOUT and CANCELED for the deadline, DENIED for credentials, IO otherwise.
 * Threads  every call is safe from any thread; concurrent calls use separate connections.
 */
#ifndef WALSTREAM_STORE_H
#define WALSTREAM_STORE_H

#include <sys/uio.h>

#include "common/clock.h"
#include "stream/stage.h"

#define STORE_KEY_MAX 512

typedef struct Store Store;

typedef struct ByteRange
{
    uint64_t offset;
    uint64_t len; /* 0: to the end of the object */
} ByteRange;

/* The bytes of an object to create, in memory. Borrowed for the call. */
typedef struct StoreBody
{
    const struct iovec *iov;
    size_t iov_count;
    uint64_t bytes; /* sum of the parts */
} StoreBody;

typedef struct StoreStat
{
    uint64_t bytes;
    int64_t modified_us; /* wall clock of the store, since 1970; 0 if it does not tell */
} StoreStat;

typedef struct StoreEntry
{
    const char *key; /* borrowed for the callback; a common prefix ends in '/' */
    uint64_t bytes;  /* 0 for a common prefix */
    int64_t modified_us;
    bool is_prefix;
} StoreEntry;

/* Return 0 to go on, -1 with err set to stop with that error, 1 to stop with success. */
typedef int (*StoreListFn)(void *ctx, const StoreEntry *entry, Error *err);

typedef struct StoreListOptions
{
    const char *prefix; /* "" for everything; need not end at a '/' */
    /*
     * NULL, or only entries greater than this, in byte order: keys and, as they are told with their
     * '/', common prefixes. So the last entry told is where a listing goes on.
     */
    const char *start_after;
    bool by_folder;     /* what has a '/' beyond the prefix is told once, as a common prefix */
    uint32_t page_keys; /* most keys asked for at once; 0: the store's own limit */
} StoreListOptions;

/* What became of each key of store_remove. */
typedef struct StoreRemoved
{
    const char *key; /* the caller's */
    Error err;       /* kind NONE: it is gone (or never was) */
} StoreRemoved;

typedef struct StoreCaps
{
    const char *scheme;      /* "file", "s3", "memory" */
    bool conditional_create; /* put never replaces, even against a concurrent writer */
    uint64_t max_put_bytes;
    uint32_t max_remove_keys; /* at once; 0: any number */
} StoreCaps;

typedef struct StoreOps
{
    int (*put)(Store *st, const char *key, const StoreBody *body, const Deadline *dl, Error *err);
    int (*get)(
        Store *st, const char *key, ByteRange range, Stage *sink, const Deadline *dl, Error *err);
    int (*stat)(Store *st, const char *key, const Deadline *dl, StoreStat *out, Error *err);
    int (*list)(
        Store *st, const StoreListOptions *options, StoreListFn fn, void *ctx, const Deadline *dl,
        Error *err);
    int (*remove)(Store *st, StoreRemoved *keys, size_t count, const Deadline *dl, Error *err);
    void (*destroy)(Store *st); /* frees itself, its url and what it wraps */
} StoreOps;

struct Store
{
    const StoreOps *ops;
    StoreCaps caps;
    char *url; /* for messages: no query, no credentials; owned */
};

/*
 * Create the object: all of body under key, durable when this returns 0.
 *
 * Errors   EXISTS if the key is taken, and nothing was changed. After TRANSIENT or TIMEOUT the
 * object may or may not have come into being; a repeated put then answers EXISTS, which the caller
 *          settles by comparing digests.
 */
MUST_CHECK int
store_put(Store *st, const char *key, const StoreBody *body, const Deadline *dl, Error *err);

/*
 * Send the bytes of range through sink, in order. sink is borrowed: written to, neither finished
 * nor freed. A range that begins at or behind the end of the object gives no bytes and no error.
 *
 * Errors   NOT_FOUND; TRANSIENT if the connection broke; CORRUPT if a complete answer is not what
 *          its own head promised; what sink returns. After an error some bytes may have been
 *          written to sink.
 */
MUST_CHECK int
store_get(Store *st, const char *key, ByteRange range, Stage *sink, const Deadline *dl, Error *err);

MUST_CHECK int
store_stat(Store *st, const char *key, const Deadline *dl, StoreStat *out, Error *err);

/* Entries in byte order of their keys. An empty answer is success. */
MUST_CHECK int store_list(
    Store *st, const StoreListOptions *options, StoreListFn fn, void *ctx, const Deadline *dl,
    Error *err);

/*
 * store_list in requests of a thousand entries, each with timeout_ms of its own, as nobody knows
 * how many it will be. fn is not called within a request: it may take its time, and ask the store.
 *
 * cancel  may be NULL
 */
MUST_CHECK int store_walk(
    Store *st, const StoreListOptions *options, int64_t timeout_ms, const atomic_bool *cancel,
    StoreListFn fn, void *ctx, Error *err);

/*
 * Remove any number of keys (split into caps.max_remove_keys here). 0 when every key was answered
 * for, with each key's own result in keys[i].err; -1 when the request itself failed: some of the
 * keys may be gone then.
 */
MUST_CHECK int
store_remove(Store *st, StoreRemoved *keys, size_t count, const Deadline *dl, Error *err);

void store_free(Store *st); /* NULL is fine */
DEFINE_AUTO(Store, store_free);

/* Whether key has the allowed form; drivers may assert it, names from outside are checked first. */
bool store_key_valid(const char *key);

/*
 * Fits a prefix in front of every key ("" or ending in '/'). Takes ownership of inner, as every
 * wrapping store does: it is freed when the call fails, too.
 */
MUST_CHECK int store_prefix_new(Store *inner, const char *prefix, Store **out, Error *err);

/* ---- file:// ---- */
/*
 * root is an absolute path; created when missing and create is set, else NOT_FOUND.
 * put: "<dir>/.tmp.<host>.<pid>.<n>", write, fsync, link to the name (fails if taken, on NFS too),
 * unlink the temporary name, fsync the directory. A crash leaves at most a temporary name and empty
 * folders, which list hides and store_file_sweep removes.
 *
 * A key that is taken is made durable before EXISTS is answered: whoever put it may have been
 * killed between the link and its fsync. A key cannot be an object and a folder of others at once:
 * CONFLICT. Components that begin with ".tmp." or ".nfs" are reserved. Symbolic links below root
 * are not followed. A full disk, a quota and a limit of size are IO; an NFS server that is away is
 * TRANSIENT.
 */
MUST_CHECK int store_file_new(const char *root, bool create, Store **out, Error *err);

/*
 * Removes temporary files older than age_s, and folders left empty; *removed counts the files.
 * Looks through wrapping stores; other stores than files have nothing to sweep, which is success.
 */
MUST_CHECK int store_file_sweep(Store *st, int64_t age_s, uint64_t *removed, Error *err);

/* ---- memory, for unit tests ---- */
MUST_CHECK int store_memory_new(Store **out, Error *err);

/* ---- wrapping stores; each takes ownership of inner ---- */
typedef struct StoreRetryOptions
{
    int64_t first_delay_ms; /* doubled each time, with full jitter */
    int64_t max_delay_ms;
    int64_t try_timeout_ms; /* bound of one try within the caller's deadline; 0: none */
} StoreRetryOptions;

/*
 * Repeats TRANSIENT (and a try's own TIMEOUT) until the caller's deadline. Then the message is
 * "gave up after N tries in S s: last cause" and the kind is that of the last cause: TRANSIENT, or
 * TIMEOUT if the store just did not answer. CANCELED comes at once. A get is repeated from the byte
 * it had reached, never sending a byte twice; a list from the entry it had reached; a remove for
 * the keys whose own answer was TRANSIENT. A put that answers EXISTS after a try whose outcome was
 * unknown stays EXISTS. What the caller's sink or callback returns is never repeated.
 */
MUST_CHECK int
store_retry_new(Store *inner, const StoreRetryOptions *options, Store **out, Error *err);

/* Counts calls, bytes and failures by kind of call. */
typedef struct StoreCounters
{
    uint64_t puts, gets, stats, lists, removes; /* calls */
    uint64_t put_bytes, get_bytes;
    uint64_t failures; /* answers other than success, NOT_FOUND and EXISTS */
} StoreCounters;
MUST_CHECK int store_count_new(Store *inner, Store **out, Error *err);
StoreCounters store_count_read(const Store *st); /* of a store made by store_count_new */

/*
 * Fails the n-th call (1-based, counted over all kinds of call) with the given kind; for tests.
 * after: the inner call is made first and its success is then hidden, as a lost answer would.
 */
typedef struct StoreFaultPlan
{
    uint64_t fail_at;
    ErrorKind kind;
    bool after;
    bool keep_failing; /* from the n-th call on */
} StoreFaultPlan;
MUST_CHECK int store_fault_new(Store *inner, const StoreFaultPlan *plan, Store **out, Error *err);
uint64_t store_fault_calls(const Store *st); /* made so far */

#endif
