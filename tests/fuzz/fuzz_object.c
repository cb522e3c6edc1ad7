/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The container of objects: label, age header, frames. Whatever is in the store under a key,
 * reading it fails with CORRUPT or DENIED, or gives the bytes that its label promises; and if they
 * were given, the label alone could be read as well and said the same. An object is of one version
 * only: as plain bytes or as payload, never both.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/primitives.h"
#include "repo/object.h"

#define FUZZ_MAX_PLAIN (256u << 10)
#define FUZZ_KEY "live/00000001/000000010000000000000001/00000000-00001000"

/* Public: the identity of the test vectors. */
#define FUZZ_IDENTITY "AGE-SECRET-KEY-13VZW7D40DV7AVYRF6VF4VTFGDFTDF25XU4EAASDNCZVXVSWDH4SQ2FKYFZ"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fuzz_check(bool good, const char *what)
{
    if (good)
        return;
    (void) fprintf(stderr, "broken: %s\n", what);
    abort();
}

/* A store in which the input is what every key has. */
typedef struct FuzzStore
{
    Store store;
    const uint8_t *data;
    size_t size;
} FuzzStore;

static int
fuzz_store_get(
    Store *st, const char *key UNUSED, ByteRange range, Stage *sink, const Deadline *dl UNUSED,
    Error *err)
{
    const FuzzStore *fuzz = (const FuzzStore *) st;

    return stage_write(
        sink, fuzz->data, range.len == 0 ? fuzz->size : MIN(range.len, fuzz->size), err);
}

static const StoreOps fuzz_store_ops = {.get = fuzz_store_get};

static AgeIdentities *
fuzz_identities(void)
{
    static AgeIdentities *ids = NULL;
    Error err = {0};

    if (ids == NULL)
        fuzz_check(
            age_identities_new(&ids, &err) == 0 &&
                age_identities_add(ids, FUZZ_IDENTITY, &err) == 0,
            "the identity is good");
    return ids;
}

/* The object as a payload; 0 if it could be read. */
static int
fuzz_payload(Store *store, const Deadline *dl, const ObjectLabel *peeked)
{
    static uint8_t *buf;
    static size_t cap;
    size_t len = SIZE_MAX;
    ObjectLabel label = {0};
    Error err = {0};
    uint8_t sha256[SHA256_BYTES];

    if (object_get_payload(
            store, FUZZ_KEY, fuzz_identities(), FUZZ_MAX_PLAIN, &buf, &cap, &len, dl, &label,
            &err) < 0)
    {
        fuzz_check(
            err.kind == ERROR_CORRUPT || err.kind == ERROR_DENIED,
            "a failure to read a payload has its kind");
        return -1;
    }
    fuzz_check(
        label.version == OBJECT_VERSION_PAYLOAD && peeked->version == label.version &&
            len <= FUZZ_MAX_PLAIN && len <= cap && label.plain_bytes == len &&
            peeked->plain_bytes == len && strcmp(label.key, FUZZ_KEY) == 0 &&
            crypto_sha256((ByteView){buf, len}, sha256, &err) == 0 &&
            memcmp(label.sha256, sha256, SHA256_BYTES) == 0,
        "the label of a payload tells the truth");
    return 0;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char url[] = "fuzz://";
    static uint8_t plain[FUZZ_MAX_PLAIN];
    FuzzStore fuzz = {.store = {.ops = &fuzz_store_ops, .url = url}, .data = data, .size = size};
    const Deadline dl = {.at_ms = INT64_MAX};
    AUTO(stage_freep) Stage *sink = NULL;
    size_t len = 0;
    ObjectLabel label = {0};
    ObjectLabel peeked = {0};
    Error err = {0};

    fuzz_check(
        stage_memory_sink_new(plain, sizeof plain, &len, &sink, &err) == 0, "a sink can be made");

    int peek_rc = object_peek(&fuzz.store, FUZZ_KEY, &dl, &peeked, &err);

    if (peek_rc < 0)
        fuzz_check(err.kind == ERROR_CORRUPT, "a label that cannot be read is CORRUPT");

    int payload_rc = fuzz_payload(&fuzz.store, &dl, &peeked);
    int rc =
        object_get(&fuzz.store, FUZZ_KEY, fuzz_identities(), sizeof plain, sink, &dl, &label, &err);

    if (rc < 0)
    {
        fuzz_check(err.kind == ERROR_CORRUPT || err.kind == ERROR_DENIED, "a failure has its kind");
        fuzz_check(sink->state != STAGE_FINISHED, "a failure leaves the sink unfinished");
        return 0;
    }
    fuzz_check(
        payload_rc < 0 && label.version == OBJECT_VERSION_PLAIN, "an object has one version");
    fuzz_check(peek_rc == 0, "what can be read has a label");
    fuzz_check(
        label.plain_bytes == len && peeked.plain_bytes == len &&
            memcmp(label.sha256, peeked.sha256, SHA256_BYTES) == 0 &&
            strcmp(label.key, FUZZ_KEY) == 0,
        "and the label tells the truth");
    return 0;
}
