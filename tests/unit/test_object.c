/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Objects: every codec, plain and encrypted, there and back; conflicts; damage; swapped names.
 */
#include "repo/object.h"

#include "common/fs.h"
#include "common/parse.h"
#include "tap.h"

#include "stream_test.h"

#include "object_test.h"

#define KEY "live/00000001/000000010000000000000001/00000000-00001000"
#define OTHER_KEY "live/00000001/000000010000000000000002/00000000-00001000"

static const Deadline no_limit = {.at_ms = INT64_MAX};

typedef enum Lock
{
    LOCK_NONE,
    LOCK_ONE,
    LOCK_TWO
} Lock;

static const struct
{
    const char *label;
    CodecSpec codec;
    Lock lock;
} formats[] = {
    {"none", {CODEC_NONE, 0}, LOCK_NONE},
    {"lz4", {CODEC_LZ4, 0}, LOCK_NONE},
    {"zstd", {CODEC_ZSTD, 0}, LOCK_NONE},
    {"none, encrypted", {CODEC_NONE, 0}, LOCK_ONE},
    {"lz4, encrypted", {CODEC_LZ4, 0}, LOCK_ONE},
    {"zstd, encrypted", {CODEC_ZSTD, 0}, LOCK_ONE},
    {"lz4, two recipients", {CODEC_LZ4, 0}, LOCK_TWO},
};

/* One key pair per index, made once, and what is built of them. */
static char recipient_texts[3][64];
static char identity_texts[3][80];

static AgeRecipients *
recipients_new(Lock lock)
{
    AgeRecipients *r = NULL;
    Error err = {0};
    int rc = 0;

    if (lock == LOCK_NONE)
        return NULL;
    rc = age_recipients_new(&r, &err);
    if (rc == 0)
        rc = age_recipients_add(r, recipient_texts[0], &err);
    if (rc == 0 && lock == LOCK_TWO)
        rc = age_recipients_add(r, recipient_texts[1], &err);
    if (rc < 0)
        abort();
    return r;
}

static AgeIdentities *
identities_new(int which)
{
    AgeIdentities *ids = NULL;
    Error err = {0};

    if (age_identities_new(&ids, &err) < 0 ||
        age_identities_add(ids, identity_texts[which], &err) < 0)
        abort();
    return ids;
}

/* Puts data under KEY in an empty store. */
static int
put(OneStore *one, size_t f, const void *data, size_t len, ObjectPutResult *result, Error *err)
{
    AUTO(age_recipients_freep) AgeRecipients *r = recipients_new(formats[f].lock);
    ObjectFormat format = {.codec = formats[f].codec, .recipients = r};

    return object_put_bytes(&one->store, &format, KEY, data, len, &no_limit, result, err);
}

static bool
label_equal(const ObjectLabel *a, const ObjectLabel *b)
{
    return a->version == b->version && strcmp(a->key, b->key) == 0 &&
           a->plain_bytes == b->plain_bytes && memcmp(a->sha256, b->sha256, SHA256_BYTES) == 0 &&
           strcmp(a->key_ids, b->key_ids) == 0 && a->encrypted == b->encrypted;
}

/* ---- there and back ---- */

static const struct
{
    const char *label;
    TestData kind;
    size_t len;
} inputs[] = {
    {"empty", TEST_TEXT, 0},
    {"one byte", TEST_TEXT, 1},
    {"5000 bytes", TEST_TEXT, 5000},
    {"64 KiB of noise", TEST_RANDOM, 65536},
    {"1 MiB of noise", TEST_RANDOM, 1 << 20},
    {"300000 zeros", TEST_ZEROS, 300000},
};

static void
test_round_trip(void)
{
    static const size_t steps[] = {0, 1, 777};

    for (size_t f = 0; f < ARRAY_COUNT(formats); f++)
    {
        AUTO(age_identities_freep) AgeIdentities *ids = identities_new(0);

        for (size_t i = 0; i < ARRAY_COUNT(inputs); i++)
        {
            size_t len = inputs[i].len;
            uint8_t *data = test_data_new(inputs[i].kind, len);
            OneStore one;
            ObjectPutResult result = OBJECT_SAME;
            ObjectLabel peeked = {0};
            Error err = {0};
            char *text = NULL;
            size_t text_len = 0;
            bool good;

            one_store_init(&one);
            good = put(&one, f, data, len, &result, &err) == 0 && result == OBJECT_CREATED;
            good = good && object_peek(&one.store, KEY, &no_limit, &peeked, &err) == 0 &&
                   strcmp(peeked.key, KEY) == 0 && peeked.plain_bytes == len &&
                   peeked.encrypted == (formats[f].lock != LOCK_NONE);
            for (size_t s = 0; s < ARRAY_COUNT(steps); s++)
            {
                TestSink sink;
                ObjectLabel label = {0};

                one.step = steps[s];
                test_sink_init(&sink, 0);
                good = good &&
                       object_get(
                           &one.store, KEY, ids, len, &sink.stage, &no_limit, &label, &err) == 0 &&
                       sink.finished && test_sink_holds(&sink, data, len) &&
                       label_equal(&label, &peeked);
                test_sink_reset(&sink);
            }
            good = good &&
                   object_get_bytes(&one.store, KEY, ids, len, &text, &text_len, &no_limit, &err) ==
                       0 &&
                   text_len == len && memcmp(text, data, len) == 0 && text[len] == '\0';
            free(text);
            ok(good, "%s: %s", formats[f].label, inputs[i].label);
            if (!good)
                diag("%s", err.msg);

            /* again: the encrypted bytes differ, the plain ones do not */
            ok(put(&one, f, data, len, &result, &err) == 0 && result == OBJECT_SAME,
               "%s: %s, put again", formats[f].label, inputs[i].label);

            if (len > 0)
            {
                TestSink sink;

                test_sink_init(&sink, 0);
                ok(object_get(&one.store, KEY, ids, len - 1, &sink.stage, &no_limit, NULL, &err) <
                           0 &&
                       err.kind == ERROR_CORRUPT && !sink.finished,
                   "%s: %s, one byte less allowed", formats[f].label, inputs[i].label);
                test_sink_reset(&sink);
            }
            one_store_reset(&one);
            free(data);
        }
    }
}

/* Every format may find what every other put. */
static void
test_same_across_formats(void)
{
    static const uint8_t data[] = "the same bytes, whatever the container";
    bool good = true;

    for (size_t f = 0; f < ARRAY_COUNT(formats); f++)
    {
        OneStore one;
        ObjectPutResult result = OBJECT_SAME;
        Error err = {0};

        one_store_init(&one);
        good = put(&one, f, data, sizeof data, &result, &err) == 0 && good;
        for (size_t other = 0; other < ARRAY_COUNT(formats); other++)
            good = put(&one, other, data, sizeof data, &result, &err) == 0 &&
                   result == OBJECT_SAME && good;
        one_store_reset(&one);
    }
    ok(good, "the same bytes are the same in every format");
}

/* ---- the key is taken ---- */

static void
test_taken(void)
{
    /* SHA-256 of "abc" and of "abd" */
    static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    static const char abd[] = "a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9";
    OneStore one;
    ObjectPutResult result = OBJECT_SAME;
    ObjectLabel label = {0};
    Error err = {0};

    one_store_init(&one);
    ok(put(&one, 1, "abc", 3, &result, &err) == 0 && put(&one, 1, "abd", 3, &result, &err) < 0 &&
           err.kind == ERROR_CONFLICT && strstr(err.msg, abc) != NULL &&
           strstr(err.msg, abd) != NULL && strstr(err.msg, KEY) != NULL && err.hint[0] != '\0',
       "other bytes: conflict that names both digests");
    ok(object_peek(&one.store, KEY, &no_limit, &label, &err) == 0 && label.plain_bytes == 3 &&
           label.sha256[0] == 0xba,
       "and nothing was changed");
    ok(put(&one, 1, "abcd", 4, &result, &err) < 0 && err.kind == ERROR_CONFLICT,
       "other length: conflict");
    one.vanished = true;
    ok(put(&one, 1, "abc", 3, &result, &err) < 0 && err.kind == ERROR_TRANSIENT,
       "exists, then does not: transient");
    one.vanished = false;
    one_store_set(&one, KEY, "garbage", 7);
    ok(put(&one, 1, "abc", 3, &result, &err) < 0 && err.kind == ERROR_CORRUPT,
       "something without a label is there: corrupt");
    one_store_set(&one, KEY, "", 0);
    ok(put(&one, 1, "abc", 3, &result, &err) < 0 && err.kind == ERROR_CORRUPT,
       "something empty is there: corrupt");
    one_store_reset(&one);

    ok(object_peek(&one.store, KEY, &no_limit, &label, &err) < 0 && err.kind == ERROR_NOT_FOUND,
       "peek: not found");

    TestSink sink;

    test_sink_init(&sink, 0);
    ok(object_get(&one.store, KEY, NULL, 100, &sink.stage, &no_limit, NULL, &err) < 0 &&
           err.kind == ERROR_NOT_FOUND && !sink.finished,
       "get: not found");

    ObjectFormat format = {.codec = {CODEC_LZ4, 0}};

    ok(object_put_bytes(&one.store, &format, "a key", "x", 1, &no_limit, &result, &err) < 0 &&
           err.kind == ERROR_USAGE && one.data == NULL,
       "a key that no label can hold is refused");

    AUTO(age_recipients_freep) AgeRecipients *passphrase = NULL;
    bool good = age_recipients_new(&passphrase, &err) == 0 &&
                age_recipients_set_passphrase(passphrase, "correct horse", 10, &err) == 0;

    format.recipients = passphrase;
    ok(good && object_put_bytes(&one.store, &format, KEY, "x", 1, &no_limit, &result, &err) < 0 &&
           err.kind == ERROR_USAGE && one.data == NULL,
       "a passphrase cannot encrypt an object");
}

/* The answer to a put is lost, the retry finds the key taken: by our own bytes. */
static void
test_lost_answer(void)
{
    static const StoreRetryOptions options = {
        .first_delay_ms = 1, .max_delay_ms = 2, .try_timeout_ms = 600000};

    for (uint64_t n = 1; n <= 3; n++)
    {
        const StoreFaultPlan plan = {.fail_at = n, .kind = ERROR_TRANSIENT, .after = true};
        Store *inner = NULL;
        Store *faulty = NULL;
        AUTO(store_freep) Store *store = NULL;
        AUTO(free_text) char *text = NULL;
        size_t len = 0;
        Error err = {0};
        ObjectFormat format = {.codec = {CODEC_LZ4, 0}};
        ObjectPutResult result = OBJECT_CREATED;
        bool good = store_memory_new(&inner, &err) == 0 &&
                    store_fault_new(inner, &plan, &faulty, &err) == 0 &&
                    store_retry_new(faulty, &options, &store, &err) == 0;

        good =
            good && object_put_bytes(store, &format, KEY, "abc", 3, &no_limit, &result, &err) == 0;
        /* call 1 is the put; the peek and the get are what n = 2 and 3 hit */
        good = good && result == (n == 1 ? OBJECT_SAME : OBJECT_CREATED) &&
               object_put_bytes(store, &format, KEY, "abc", 3, &no_limit, &result, &err) == 0 &&
               result == OBJECT_SAME &&
               object_get_bytes(store, KEY, NULL, 100, &text, &len, &no_limit, &err) == 0 &&
               len == 3 && memcmp(text, "abc", 3) == 0;
        ok(good, "the answer to call %d is lost: nothing is", (int) n);
        if (!good)
            diag("%s", err.msg);
    }
}

/* ---- keys ---- */

static void
test_wrong_identity(void)
{
    for (size_t f = 0; f < ARRAY_COUNT(formats); f++)
    {
        AUTO(age_identities_freep) AgeIdentities *right = identities_new(0);
        AUTO(age_identities_freep) AgeIdentities *wrong = identities_new(2);
        AUTO(age_identities_freep) AgeIdentities *empty = NULL;
        OneStore one;
        TestSink sink;
        ObjectPutResult result;
        ObjectLabel label = {0};
        Error err = {0};
        bool good;

        if (formats[f].lock == LOCK_NONE)
            continue;
        one_store_init(&one);
        test_sink_init(&sink, 0);
        good = put(&one, f, "secret", 6, &result, &err) == 0 &&
               age_identities_new(&empty, &err) == 0 &&
               object_peek(&one.store, KEY, &no_limit, &label, &err) == 0;

        ok(good && object_get(&one.store, KEY, NULL, 100, &sink.stage, &no_limit, NULL, &err) < 0 &&
               err.kind == ERROR_DENIED && strstr(err.hint, label.key_ids) != NULL &&
               sink.calls == 0,
           "%s: no identities: denied, and the hint has the key ids", formats[f].label);
        ok(object_get(&one.store, KEY, empty, 100, &sink.stage, &no_limit, NULL, &err) < 0 &&
               err.kind == ERROR_DENIED && sink.calls == 0,
           "%s: an empty set of identities: denied", formats[f].label);
        ok(object_get(&one.store, KEY, wrong, 100, &sink.stage, &no_limit, NULL, &err) < 0 &&
               err.kind == ERROR_DENIED && sink.calls == 0,
           "%s: wrong identity: denied", formats[f].label);
        ok(object_get(&one.store, KEY, right, 100, &sink.stage, &no_limit, NULL, &err) == 0,
           "%s: right identity", formats[f].label);
        if (formats[f].lock == LOCK_TWO)
        {
            AUTO(age_identities_freep) AgeIdentities *second = identities_new(1);
            TestSink again;

            test_sink_init(&again, 0);
            ok(object_get(&one.store, KEY, second, 100, &again.stage, &no_limit, NULL, &err) == 0 &&
                   test_sink_holds(&again, "secret", 6),
               "%s: the other identity", formats[f].label);
            test_sink_reset(&again);
        }
        test_sink_reset(&sink);
        one_store_reset(&one);
    }
}

/* ---- damage ---- */

static void
test_swapped(void)
{
    for (size_t f = 0; f < ARRAY_COUNT(formats); f++)
    {
        AUTO(age_identities_freep) AgeIdentities *ids = identities_new(0);
        OneStore one;
        TestSink sink;
        ObjectPutResult result;
        ObjectLabel label;
        Error err = {0};
        bool good;

        one_store_init(&one);
        test_sink_init(&sink, 0);
        good = put(&one, f, "bytes", 5, &result, &err) == 0;
        (void) snprintf(one.key, sizeof one.key, "%s", OTHER_KEY);
        ok(good && object_peek(&one.store, OTHER_KEY, &no_limit, &label, &err) < 0 &&
               err.kind == ERROR_CORRUPT && strstr(err.msg, "\"" KEY "\"") != NULL &&
               strstr(err.msg, "\"" OTHER_KEY "\"") != NULL,
           "%s: under another name, peek refuses and names both", formats[f].label);
        ok(object_get(&one.store, OTHER_KEY, ids, 100, &sink.stage, &no_limit, NULL, &err) < 0 &&
               err.kind == ERROR_CORRUPT && strstr(err.msg, "\"" KEY "\"") != NULL &&
               strstr(err.msg, "\"" OTHER_KEY "\"") != NULL && !sink.finished,
           "%s: under another name, get refuses and names both", formats[f].label);
        test_sink_reset(&sink);
        one_store_reset(&one);
    }
}

static void
test_damaged(void)
{
    static const uint8_t flips[] = {0x01, 0x80, 0xFF};
    static const uint8_t data[] = "0123456789 0123456789 0123456789 some bytes to be kept";

    for (size_t f = 0; f < ARRAY_COUNT(formats); f++)
    {
        AUTO(age_identities_freep) AgeIdentities *ids = identities_new(0);
        OneStore one;
        ObjectPutResult result;
        Error err = {0};
        size_t refused = 0;
        bool good;

        one_store_init(&one);
        good = put(&one, f, data, sizeof data, &result, &err) == 0;
        for (size_t at = 0; good && at < one.len; at++)
        {
            for (size_t i = 0; i < ARRAY_COUNT(flips); i++)
            {
                TestSink sink;

                test_sink_init(&sink, 0);
                one.data[at] ^= flips[i];
                if (object_get(
                        &one.store, KEY, ids, sizeof data, &sink.stage, &no_limit, NULL, &err) < 0)
                {
                    /* a changed stanza is one that fits no identity */
                    good = good && !sink.finished &&
                           (err.kind == ERROR_CORRUPT ||
                            (formats[f].lock != LOCK_NONE && err.kind == ERROR_DENIED));
                    refused++;
                }
                else
                    good = good && test_sink_holds(&sink, data, sizeof data);
                if (!good)
                    diag("byte %zu of %zu ^ %02x: %s", at, one.len, flips[i], err.msg);
                one.data[at] ^= flips[i];
                test_sink_reset(&sink);
            }
        }
        ok(good && refused + 8 > one.len * 3,
           "%s: damaged at every byte (%zu refused of %zu bytes)", formats[f].label, refused,
           one.len);

        size_t whole = one.len;

        for (one.len = 0; good && one.len < whole; one.len++)
        {
            TestSink sink;

            test_sink_init(&sink, 0);
            good = object_get(
                       &one.store, KEY, ids, sizeof data, &sink.stage, &no_limit, NULL, &err) < 0 &&
                   err.kind == ERROR_CORRUPT && !sink.finished;
            if (!good)
                diag("%zu bytes of %zu: %s", one.len, whole, err.msg);
            test_sink_reset(&sink);
        }
        ok(good, "%s: truncated at every length", formats[f].label);
        one_store_reset(&one);
    }
}

/* The label is right about everything but the digest or the size: only possible without encryption.
 */
static void
test_wrong_promise(void)
{
    static const struct
    {
        const char *label;
        const char *from, *to;
    } changes[] = {
        {"another digest", "ba7816bf", "ba7816be"},
        {"a larger size", "0000000000000003 ", "0000000000000004 "},
        {"a smaller size", "0000000000000003 ", "0000000000000002 "},
    };

    for (size_t i = 0; i < ARRAY_COUNT(changes); i++)
    {
        OneStore one;
        TestSink sink;
        ObjectPutResult result;
        Error err = {0};

        one_store_init(&one);
        test_sink_init(&sink, 0);

        bool good = put(&one, 1, "abc", 3, &result, &err) == 0;
        uint8_t *at = memmem(one.data, one.len, changes[i].from, strlen(changes[i].from));

        if (at != NULL)
            memcpy(at, changes[i].to, strlen(changes[i].to));
        ok(good && at != NULL &&
               object_get(&one.store, KEY, NULL, 100, &sink.stage, &no_limit, NULL, &err) < 0 &&
               err.kind == ERROR_CORRUPT && !sink.finished,
           "label with %s", changes[i].label);
        test_sink_reset(&sink);
        one_store_reset(&one);
    }
}

/*
 * An age file for our identity that has another stanza of ours, or none: no object, and above all
 * not "not found".
 */
static void
test_foreign_age(void)
{
    static const struct
    {
        const char *label, *own_args;
    } cases[] = {
        {"no label", NULL},
        {"a label of version 3",
         "3 " KEY " 0000000000000003 "
         "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad 0123456789abcdef"},
        {"half a label of version 2", "2 " KEY},
        {"a label without key ids",
         "1 " KEY " 0000000000000003 "
         "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(age_recipients_freep) AgeRecipients *recipients = recipients_new(LOCK_ONE);
        AUTO(age_identities_freep) AgeIdentities *ids = identities_new(0);
        AUTO(age_encryption_freep) AgeEncryption *encryption = NULL;
        TestSink file, sink;
        OneStore one;
        Stage *age = NULL;
        Stage *codec = NULL;
        ObjectLabel label;
        Error err = {0};
        uint8_t header[1024];
        size_t header_len = 0;
        bool good = age_encryption_begin(recipients, &encryption, &err) == 0;

        one_store_init(&one);
        test_sink_init(&file, 0);
        test_sink_init(&sink, 0);
        if (good)
            header_len = age_encryption_header_bytes(
                encryption, cases[i].own_args != NULL ? strlen(cases[i].own_args) : 0);
        good =
            good && header_len <= sizeof header &&
            age_encryption_header(encryption, cases[i].own_args, header, header_len, &err) == 0 &&
            stage_write(&file.stage, header, header_len, &err) == 0 &&
            age_encryptor_new(encryption, &file.stage, &age, &err) == 0 &&
            codec_encoder_new((CodecSpec){CODEC_LZ4, 0}, 3, age, &codec, &err) == 0 &&
            test_push(codec, (const uint8_t *) "abc", 3, 3, &err) == 0;
        if (good)
            one_store_set(&one, KEY, file.data, file.len);
        ok(good && object_peek(&one.store, KEY, &no_limit, &label, &err) < 0 &&
               err.kind == ERROR_CORRUPT,
           "age file with %s: peek", cases[i].label);
        ok(good && object_get(&one.store, KEY, ids, 100, &sink.stage, &no_limit, NULL, &err) < 0 &&
               err.kind == ERROR_CORRUPT && !sink.finished,
           "age file with %s: get", cases[i].label);
        test_sink_reset(&file);
        test_sink_reset(&sink);
        one_store_reset(&one);
    }
}

/* ---- sinks that fail ---- */

typedef struct RudeSink
{
    Stage stage;
    bool in_finish;
} RudeSink;

static int
rude_write(Stage *st, const void *buf UNUSED, size_t len UNUSED, Error *err)
{
    return ((RudeSink *) st)->in_finish ? 0 : error_set(err, ERROR_NOT_FOUND, "no such directory");
}

static int
rude_finish(Stage *st UNUSED, Error *err)
{
    return error_set(err, ERROR_NOT_FOUND, "no such directory");
}

static const StageOps rude_ops = {"rude", rude_write, rude_finish, NULL};

static void
test_failing_sink(void)
{
    OneStore one;
    ObjectPutResult result;
    Error err = {0};
    bool good;

    one_store_init(&one);
    good = put(&one, 1, "abc", 3, &result, &err) == 0;
    for (int in_finish = 0; in_finish < 2; in_finish++)
    {
        RudeSink sink = {.in_finish = in_finish != 0};

        stage_init(&sink.stage, &rude_ops, NULL);
        ok(good && object_get(&one.store, KEY, NULL, 100, &sink.stage, &no_limit, NULL, &err) < 0 &&
               err.kind == ERROR_IO,
           "a sink's \"not found\" in %s is not the store's", in_finish ? "finish" : "write");
    }
    one_store_reset(&one);
}

/* ---- memory ---- */

static void
test_pool_too_small(void)
{
    ChunkPool *pool = NULL;
    ChunkBuf body;
    Error err = {0};
    ObjectFormat format = {.codec = {CODEC_NONE, 0}};
    ObjectWriter *w = NULL;
    ObjectLabel label;
    uint8_t *data = test_data_new(TEST_RANDOM, 200000);
    bool good = chunk_pool_new(4096, 4, &pool, &err) == 0;

    chunkbuf_init(&body, pool, no_limit);
    good = good && object_writer_new(&format, KEY, 0, &body, &w, &err) == 0;
    ok(good && object_writer_write(w, data, 200000, &err) < 0 && err.kind == ERROR_NOMEM &&
           strstr(err.msg, KEY) != NULL,
       "an object larger than the pool fails at once");
    object_writer_free(w);
    chunkbuf_reset(&body);
    ok(chunk_pool_in_use(pool) == 0, "and gives everything back");
    w = NULL;
    good = object_writer_new(&format, KEY, 10, &body, &w, &err) == 0;
    ok(good && object_writer_write(w, data, 10, &err) == 0 &&
           object_writer_finish(w, &label, &err) == 0 && label.plain_bytes == 10 &&
           body.chunk_count == 1,
       "a small one then fits");
    object_writer_free(w);
    object_writer_free(NULL);
    chunkbuf_reset(&body);
    chunk_pool_free(pool);
    free(data);
}

/* ---- version 2: the payload is the caller's, and the digest is the payload's ---- */

static const struct
{
    const char *label;
    Lock lock;
} locks[] = {{"not encrypted", LOCK_NONE}, {"encrypted", LOCK_ONE}, {"two recipients", LOCK_TWO}};

static void
test_payload_round_trip(void)
{
    static const size_t lengths[] = {0, 1, 100, 65535, 65536, 65537, 131072, 300000};
    static const size_t steps[] = {0, 1000};

    for (size_t l = 0; l < ARRAY_COUNT(locks); l++)
    {
        AUTO(age_recipients_freep) AgeRecipients *r = recipients_new(locks[l].lock);
        AUTO(age_identities_freep) AgeIdentities *ids = identities_new(0);
        AUTO(object_sealed_reset) ObjectSealed sealed = {0};
        uint8_t *buf = NULL;
        size_t cap = 0;

        for (size_t i = 0; i < ARRAY_COUNT(lengths); i++)
        {
            uint8_t *data = test_data_new(TEST_RANDOM, lengths[i]);
            OneStore one;
            ObjectPutResult result = OBJECT_SAME;
            ObjectLabel peeked = {0};
            Error err = {0};
            size_t len = 0;
            bool good;

            one_store_init(&one);
            good =
                object_seal(r, KEY, data, lengths[i], &sealed, &err) == 0 &&
                (locks[l].lock != LOCK_NONE || lengths[i] == 0 || sealed.iov[1].iov_base == data) &&
                object_put_sealed(&one.store, &sealed, &no_limit, &result, &err) == 0 &&
                result == OBJECT_CREATED && one.len == sealed.bytes &&
                object_peek(&one.store, KEY, &no_limit, &peeked, &err) == 0 &&
                peeked.version == 2 && peeked.plain_bytes == lengths[i] &&
                label_equal(&peeked, &sealed.label);
            for (size_t s = 0; s < ARRAY_COUNT(steps); s++)
            {
                ObjectLabel label = {0};

                one.step = steps[s];
                good = good &&
                       object_get_payload(
                           &one.store, KEY, ids, lengths[i], &buf, &cap, &len, &no_limit, &label,
                           &err) == 0 &&
                       len == lengths[i] && (len == 0 || memcmp(buf, data, len) == 0) &&
                       label_equal(&label, &peeked) && label.version == 2 &&
                       cap <= MAX(lengths[i], (size_t) 65536);
            }
            ok(good, "payload of %zu bytes, %s %s", lengths[i], locks[l].label, err.msg);
            ok(object_seal(r, KEY, data, lengths[i], &sealed, &err) == 0 &&
                   object_put_sealed(&one.store, &sealed, &no_limit, &result, &err) == 0 &&
                   result == OBJECT_SAME,
               "payload of %zu bytes, %s: put again", lengths[i], locks[l].label);
            if (lengths[i] > 0)
            {
                ok(object_get_payload(
                       &one.store, KEY, ids, lengths[i] - 1, &buf, &cap, &len, &no_limit, NULL,
                       &err) < 0 &&
                       err.kind == ERROR_CORRUPT,
                   "payload of %zu bytes, %s: one byte less allowed", lengths[i], locks[l].label);
                data[lengths[i] / 2] ^= 1;
                ok(object_seal(r, KEY, data, lengths[i], &sealed, &err) == 0 &&
                       object_put_sealed(&one.store, &sealed, &no_limit, &result, &err) < 0 &&
                       err.kind == ERROR_CONFLICT,
                   "payload of %zu bytes, %s: other bytes conflict", lengths[i], locks[l].label);
            }
            one_store_reset(&one);
            free(data);
        }
        free(buf);
    }
}

/* What belongs to one version is not taken for the other. */
static void
test_payload_versions(void)
{
    OneStore one;
    AUTO(object_sealed_reset) ObjectSealed sealed = {0};
    ObjectPutResult result;
    ObjectLabel label = {0};
    TestSink sink;
    Error err = {0};
    uint8_t *buf = NULL;
    size_t cap = 0;
    size_t len = 0;

    one_store_init(&one);
    test_sink_init(&sink, 0);
    ok(object_seal(NULL, KEY, "abc", 3, &sealed, &err) == 0 &&
           object_put_sealed(&one.store, &sealed, &no_limit, &result, &err) == 0 &&
           object_get(&one.store, KEY, NULL, 100, &sink.stage, &no_limit, NULL, &err) < 0 &&
           err.kind == ERROR_CORRUPT && strstr(err.msg, "version 2") != NULL && sink.calls == 0,
       "get refuses version 2: %s", err.msg);
    ok(put(&one, 1, "abc", 3, &result, &err) < 0 && err.kind == ERROR_CONFLICT &&
           strstr(err.msg, "version 2") != NULL,
       "the same size and digest under another version is a conflict: %s", err.msg);
    one_store_reset(&one);
    one_store_init(&one);
    ok(put(&one, 1, "abc", 3, &result, &err) == 0 &&
           object_peek(&one.store, KEY, &no_limit, &label, &err) == 0 && label.version == 1 &&
           object_get_payload(&one.store, KEY, NULL, 100, &buf, &cap, &len, &no_limit, NULL, &err) <
               0 &&
           err.kind == ERROR_CORRUPT && strstr(err.msg, "version 1") != NULL,
       "get_payload refuses version 1: %s", err.msg);
    (void) snprintf(one.key, sizeof one.key, "%s", OTHER_KEY);
    ok(object_get_payload(&one.store, KEY, NULL, 100, &buf, &cap, &len, &no_limit, NULL, &err) <
               0 &&
           err.kind == ERROR_NOT_FOUND,
       "payload: not found");
    ok(object_get_payload(
           &one.store, OTHER_KEY, NULL, 100, &buf, &cap, &len, &no_limit, NULL, &err) < 0 &&
           err.kind == ERROR_CORRUPT && strstr(err.msg, "\"" KEY "\"") != NULL,
       "payload: swapped objects are seen");
    ok(object_seal(NULL, "a key", "x", 1, &sealed, &err) < 0 && err.kind == ERROR_USAGE,
       "payload: a key that no label can hold is refused");

    AUTO(age_recipients_freep) AgeRecipients *passphrase = NULL;
    bool good = age_recipients_new(&passphrase, &err) == 0 &&
                age_recipients_set_passphrase(passphrase, "correct horse", 10, &err) == 0;

    ok(good && object_seal(passphrase, KEY, "x", 1, &sealed, &err) < 0 && err.kind == ERROR_USAGE,
       "payload: a passphrase cannot encrypt it");
    free(buf);
    test_sink_reset(&sink);
    one_store_reset(&one);
}

static void
test_payload_damaged(void)
{
    static const uint8_t data[] = "some frames that somebody has made, behind one another";

    for (size_t l = 0; l < ARRAY_COUNT(locks); l++)
    {
        AUTO(age_recipients_freep) AgeRecipients *r = recipients_new(locks[l].lock);
        AUTO(age_identities_freep) AgeIdentities *right = identities_new(0);
        AUTO(age_identities_freep) AgeIdentities *wrong = identities_new(2);
        AUTO(object_sealed_reset) ObjectSealed sealed = {0};
        OneStore one;
        ObjectPutResult result;
        Error err = {0};
        uint8_t *buf = NULL;
        size_t cap = 0;
        size_t len = 0;
        bool good;

        one_store_init(&one);
        good = object_seal(r, KEY, data, sizeof data, &sealed, &err) == 0 &&
               object_put_sealed(&one.store, &sealed, &no_limit, &result, &err) == 0;
        if (locks[l].lock != LOCK_NONE)
        {
            ok(good &&
                   object_get_payload(
                       &one.store, KEY, NULL, 100, &buf, &cap, &len, &no_limit, NULL, &err) < 0 &&
                   err.kind == ERROR_DENIED && err.hint[0] != '\0',
               "payload, %s: no identities", locks[l].label);
            ok(object_get_payload(
                   &one.store, KEY, wrong, 100, &buf, &cap, &len, &no_limit, NULL, &err) < 0 &&
                   err.kind == ERROR_DENIED,
               "payload, %s: wrong identity", locks[l].label);
        }
        /* unlike frames with checksums, nothing may change unseen here */
        for (size_t at = 0; good && at < one.len; at++)
        {
            one.data[at] ^= 0x01;
            good = object_get_payload(
                       &one.store, KEY, right, 100, &buf, &cap, &len, &no_limit, NULL, &err) < 0 &&
                   (err.kind == ERROR_CORRUPT ||
                    (locks[l].lock != LOCK_NONE && err.kind == ERROR_DENIED));
            one.data[at] ^= 0x01;
            if (!good)
                diag("byte %zu of %zu: %s", at, one.len, err.msg);
        }
        ok(good, "payload, %s: damaged at every byte", locks[l].label);

        size_t whole = one.len;

        for (one.len = 0; good && one.len < whole; one.len++)
            good = object_get_payload(
                       &one.store, KEY, right, 100, &buf, &cap, &len, &no_limit, NULL, &err) < 0 &&
                   err.kind == ERROR_CORRUPT;
        ok(good, "payload, %s: truncated at every length", locks[l].label);

        uint8_t *longer = malloc(whole + 1);

        if (longer == NULL)
            abort();
        memcpy(longer, one.data, whole);
        longer[whole] = 0;
        one_store_set(&one, KEY, longer, whole + 1);
        ok(object_get_payload(
               &one.store, KEY, right, 100, &buf, &cap, &len, &no_limit, NULL, &err) < 0 &&
               err.kind == ERROR_CORRUPT,
           "payload, %s: a byte behind it", locks[l].label);
        free(longer);
        free(buf);
        one_store_reset(&one);
    }
}

int
main(void)
{
    Error err = {0};

    for (size_t i = 0; i < ARRAY_COUNT(recipient_texts); i++)
        if (age_keygen(recipient_texts[i], identity_texts[i], &err) < 0)
            return 1;
    test_round_trip();
    test_same_across_formats();
    test_taken();
    test_lost_answer();
    test_wrong_identity();
    test_swapped();
    test_damaged();
    test_wrong_promise();
    test_foreign_age();
    test_failing_sink();
    test_pool_too_small();
    test_payload_round_trip();
    test_payload_versions();
    test_payload_damaged();
    return done_testing();
}
