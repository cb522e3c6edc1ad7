/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * age files: what we write we read, nothing that was changed or cut is taken, secrets are neither
 * echoed nor read from files that others can read. The other implementation's view is in
 * test_age_cli.c and test_age_cctv.c.
 */
#include "crypto/age.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/parse.h"
#include "tap.h"
#include "tempdir.h"

#define KEY_RECIPIENT "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
#define KEY_SECRET "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
#define OWN_ARGS "1 wal/00000001/00000000/000000010000000000000001 0000000001000000 aa bb"

/* ---- a sink in memory, and whole files through the stages ---- */

typedef struct Bytes
{
    uint8_t *data;
    size_t len, cap;
} Bytes;

static void
bytes_reset(Bytes *b)
{
    free(b->data);
    *b = (Bytes){0};
}

static void
bytes_append(Bytes *b, const void *data, size_t len)
{
    if (b->len + len > b->cap)
    {
        b->cap = 2 * (b->len + len);
        b->data = realloc(b->data, b->cap);
    }
    if (b->data == NULL)
        abort();
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

typedef struct BytesSink
{
    Stage stage;
    Bytes *into;
    size_t fail_at; /* the n-th write fails, counted from 1; 0: none */
} BytesSink;

static int
bytes_sink_write(Stage *st, const void *buf, size_t len, Error *err)
{
    BytesSink *sink = (BytesSink *) st;

    if (sink->fail_at > 0 && --sink->fail_at == 0)
        return error_set(err, ERROR_IO, "sink is full");
    bytes_append(sink->into, buf, len);
    return 0;
}

static void
bytes_sink_destroy(Stage *st)
{
    free(st);
}

static const StageOps bytes_sink_ops = {"bytes", bytes_sink_write, NULL, bytes_sink_destroy};

static Stage *
bytes_sink(Bytes *into, size_t fail_at)
{
    BytesSink *sink = calloc(1, sizeof *sink);

    if (sink == NULL)
        abort();
    stage_init(&sink->stage, &bytes_sink_ops, NULL);
    sink->into = into;
    sink->fail_at = fail_at;
    return &sink->stage;
}

static int
push_pieces(Stage *chain, const uint8_t *data, size_t len, size_t piece, Error *err)
{
    for (size_t at = 0; at < len; at += piece)
        if (stage_write(chain, data + at, MIN(piece, len - at), err) < 0)
            return -1;
    return stage_finish(chain, err);
}

static int
encrypt_for(
    const AgeRecipients *r, const char *own_args, const Bytes *plain, size_t piece, Bytes *out,
    Error *err)
{
    AUTO(age_encryption_freep) AgeEncryption *e = NULL;
    AUTO(stage_freep) Stage *chain = NULL;
    uint8_t header[4096];

    if (age_encryption_begin(r, &e, err) < 0)
        return -1;

    size_t len = age_encryption_header_bytes(e, own_args == NULL ? 0 : strlen(own_args));

    if (len > sizeof header || age_encryption_header(e, own_args, header, len, err) < 0)
        return -1;
    bytes_append(out, header, len);
    chain = bytes_sink(out, 0);
    if (age_encryptor_new(e, chain, &chain, err) < 0)
        return -1;
    return push_pieces(chain, plain->data, plain->len, piece, err);
}

static int
decrypt_with(
    const AgeIdentities *ids, const uint8_t *data, size_t len, size_t piece, char *own_args,
    Bytes *out, Error *err)
{
    AUTO(stage_freep) Stage *chain = bytes_sink(out, 0);

    if (age_decryptor_new(ids, chain, own_args, &chain, err) < 0)
        return -1;
    return push_pieces(chain, data, len, piece, err);
}

static AgeRecipients *
recipients_of(const char *const *texts)
{
    Error err;
    AgeRecipients *r;

    if (age_recipients_new(&r, &err) < 0)
        abort();
    for (; *texts != NULL; texts++)
        if (age_recipients_add(r, *texts, &err) < 0)
            abort();
    return r;
}

static AgeIdentities *
identities_of(const char *const *texts)
{
    Error err;
    AgeIdentities *ids;

    if (age_identities_new(&ids, &err) < 0)
        abort();
    for (; *texts != NULL; texts++)
        if (age_identities_add(ids, *texts, &err) < 0)
            abort();
    return ids;
}

static Bytes
pattern_of(size_t len)
{
    Bytes b = {0};
    uint32_t x = 12345;

    bytes_append(&b, "", 1); /* so that data is never NULL */
    b.len = 0;
    for (size_t i = 0; i < len; i++)
    {
        x = x * 1664525 + 1013904223;
        bytes_append(&b, &(uint8_t){(uint8_t) (x >> 24)}, 1);
    }
    return b;
}

static bool
bytes_equal(const Bytes *a, const Bytes *b)
{
    return a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/* ---- keys ---- */

static const struct
{
    const char *label, *text, *says;
} bad_recipients[] = {
    {"secret key", KEY_SECRET, "a secret key was given"},
    {"secret key in lower case",
     "age-secret-key-1gfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpq4egaex",
     "a secret key was given"},
    {"mistyped", "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwl", "checksum"},
    {"upper case", "AGE1ZVKYG2LQZRAA2LNJVQEJ32NKUU0UES2S82HZRYE869XEEXVN73EQUNUJWJ", "prefix"},
    {"hybrid", "age1pq1x34nzsvr0rxjsgdn8zgyhfe8j7", "hybrid"},
    {"SSH key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIF", "SSH"},
    {"empty", "", "not an age recipient"},
    {"a word", "recipient", "not an age recipient"},
    {"all-zero point", "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z",
     "low order"},
};

static void
test_bad_recipients(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(bad_recipients); i++)
    {
        AUTO(age_recipients_freep) AgeRecipients *r = recipients_of((const char *const[]){NULL});
        Error err = {0};
        bool good = age_recipients_add(r, bad_recipients[i].text, &err) == -1 &&
                    err.kind == ERROR_USAGE && strstr(err.msg, bad_recipients[i].says) != NULL &&
                    strcasestr(err.msg, "gfpyy") == NULL && strcasestr(err.hint, "gfpyy") == NULL &&
                    age_recipients_count(r) == 0;

        if (!ok(good, "recipient refused: %s", bad_recipients[i].label))
            diag("%s", err.msg);
    }
}

static const struct
{
    const char *label, *text, *says;
} bad_identities[] = {
    {"recipient", KEY_RECIPIENT, "a recipient was given"},
    {"mistyped", "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEY",
     "checksum"},
    {"last character lost",
     "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAE", "checksum"},
    {"lower case", "age-secret-key-1gfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpyysjzgfpq4egaex",
     "prefix"},
    {"blank behind it",
     "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX ", "character"},
    {"hybrid", "AGE-SECRET-KEY-PQ-1XX76JRALNLXDMEW0CRK45QMCCH4X06SE84UN3VPM33W6HWDX0H3SK3ZQFR",
     "hybrid"},
    {"plugin", "AGE-PLUGIN-YUBIKEY-1QQQQ", "plugins"},
    {"empty", "", "not an age secret key"},
};

static void
test_bad_identities(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(bad_identities); i++)
    {
        AUTO(age_identities_freep) AgeIdentities *ids = identities_of((const char *const[]){NULL});
        Error err = {0};
        bool good = age_identities_add(ids, bad_identities[i].text, &err) == -1 &&
                    err.kind == ERROR_USAGE && strstr(err.msg, bad_identities[i].says) != NULL &&
                    strcasestr(err.msg, "gfpyy") == NULL && strcasestr(err.msg, "xx76") == NULL &&
                    age_identities_count(ids) == 0;

        if (!ok(good, "secret key refused: %s", bad_identities[i].label))
            diag("%s", err.msg);
    }
}

static void
test_keys(void)
{
    AUTO(age_recipients_freep)
    AgeRecipients *r = recipients_of((const char *const[]){KEY_RECIPIENT, KEY_RECIPIENT, NULL});
    AUTO(age_identities_freep)
    AgeIdentities *ids = identities_of((const char *const[]){KEY_SECRET, KEY_SECRET, NULL});
    char recipient[64], identity[80], text[64];
    Error err = {0};

    ok(age_recipients_count(r) == 1, "a recipient given twice counts once");
    ok(age_identities_count(ids) == 1, "a secret key given twice counts once");
    /* the first 8 bytes of sha256sum over the 32 bytes of KEY_RECIPIENT */
    ok(strcmp(age_recipients_key_ids(r), "82dab32a9aedffb4") == 0, "key id of the recipient");
    ok(age_identities_have_key_id(ids, "82dab32a9aedffb4"), "identities know the key id");
    ok(!age_identities_have_key_id(ids, "0000000000000000") && !age_identities_have_key_id(ids, ""),
       "identities do not know another");
    ok(age_identities_recipient(ids, 0, text, 63, &err) == 0 && strcmp(text, KEY_RECIPIENT) == 0,
       "the recipient of a secret key, in 63 bytes");
    ok(age_identities_recipient(ids, 0, text, 62, &err) == -1, "no room for it in 62 bytes");

    ok(age_keygen(recipient, identity, &err) == 0 && strlen(recipient) == 62 &&
           strlen(identity) == 74 && strncmp(identity, "AGE-SECRET-KEY-1", 16) == 0,
       "keygen");
    ok(age_recipients_add(r, recipient, &err) == 0 && age_recipients_count(r) == 2 &&
           strlen(age_recipients_key_ids(r)) == 33 && age_recipients_key_ids(r)[16] == ',',
       "two key ids, with a comma");
    ok(age_identities_add(ids, identity, &err) == 0 &&
           age_identities_recipient(ids, 1, text, sizeof text, &err) == 0 &&
           strcmp(text, recipient) == 0,
       "the new secret key belongs to the new recipient");

    size_t added = 0;

    while (age_keygen(recipient, identity, &err) == 0 &&
           age_recipients_add(r, recipient, &err) == 0)
        added++;
    ok(added + 2 == AGE_RECIPIENTS_MAX && err.kind == ERROR_USAGE,
       "a bounded number of recipients");
}

static void
test_passphrase_rules(void)
{
    AUTO(age_recipients_freep)
    AgeRecipients *keyed = recipients_of((const char *const[]){KEY_RECIPIENT, NULL});
    AUTO(age_recipients_freep) AgeRecipients *r = recipients_of((const char *const[]){NULL});
    AUTO(age_identities_freep) AgeIdentities *ids = identities_of((const char *const[]){NULL});
    AUTO(age_encryption_freep) AgeEncryption *e = NULL;
    uint8_t header[1024];
    Error err = {0};

    ok(age_encryption_begin(r, &e, &err) == -1 && err.kind == ERROR_USAGE, "no recipient at all");
    ok(age_recipients_set_passphrase(keyed, "secret", 10, &err) == -1 && err.kind == ERROR_USAGE,
       "no passphrase beside a recipient");
    ok(age_recipients_set_passphrase(r, "", 10, &err) == -1 && err.kind == ERROR_USAGE,
       "no empty passphrase");
    ok(age_recipients_set_passphrase(r, "secret", 9, &err) == -1 &&
           age_recipients_set_passphrase(r, "secret", 23, &err) == -1 && err.kind == ERROR_USAGE,
       "work factor is bounded");
    ok(age_recipients_set_passphrase(r, "secret", 10, &err) == 0 && age_recipients_count(r) == 1 &&
           strcmp(age_recipients_key_ids(r), "scrypt") == 0,
       "a passphrase");
    ok(age_recipients_add(r, KEY_RECIPIENT, &err) == -1 && err.kind == ERROR_USAGE,
       "no recipient beside a passphrase");
    ok(age_encryption_begin(r, &e, &err) == 0 &&
           age_encryption_header(
               e, OWN_ARGS, header, age_encryption_header_bytes(e, strlen(OWN_ARGS)), &err) == -1 &&
           err.kind == ERROR_USAGE,
       "no stanza of our own beside a passphrase");
    ok(age_identities_set_passphrase(ids, "", &err) == -1 && err.kind == ERROR_USAGE,
       "no empty passphrase to decrypt with");
    ok(age_identities_set_passphrase(ids, "a", &err) == 0 &&
           age_identities_set_passphrase(ids, "b", &err) == -1 && err.kind == ERROR_USAGE,
       "one passphrase to decrypt with");
}

/* ---- round trips ---- */

static void
test_round_trips(void)
{
    static const size_t sizes[] = {0, 1, 65535, 65536, 65537, 131072, 200000};
    static const size_t pieces[] = {1000003, 65536, 65537, 4096, 1};
    AUTO(age_recipients_freep)
    AgeRecipients *r = recipients_of((const char *const[]){KEY_RECIPIENT, NULL});
    AUTO(age_identities_freep)
    AgeIdentities *ids = identities_of((const char *const[]){KEY_SECRET, NULL});

    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++)
        for (size_t p = 0; p < ARRAY_COUNT(pieces); p++)
        {
            AUTO(bytes_reset) Bytes plain = pattern_of(sizes[i]), sealed = {0}, back = {0};
            char own_args[AGE_OWN_ARGS_MAX], peeked[AGE_OWN_ARGS_MAX];
            Error err = {0};
            size_t chunks = sizes[i] == 0 ? 1 : (sizes[i] + 65535) / 65536;
            size_t want =
                168 + strlen("-> walstream " OWN_ARGS "\n\n") + 16 + sizes[i] + 16 * chunks;
            bool good =
                encrypt_for(r, OWN_ARGS, &plain, pieces[p], &sealed, &err) == 0 &&
                sealed.len == want && age_is_age(sealed.data, sealed.len) &&
                decrypt_with(ids, sealed.data, sealed.len, pieces[p], own_args, &back, &err) == 0 &&
                bytes_equal(&plain, &back) && strcmp(own_args, OWN_ARGS) == 0 &&
                age_peek_own_args(sealed.data, 256, peeked, &err) == 0 &&
                strcmp(peeked, OWN_ARGS) == 0;

            if (!ok(good, "round trip of %zu bytes in pieces of %zu", sizes[i], pieces[p]))
                diag("%s; %zu bytes, expected %zu", err.msg, sealed.len, want);
        }
}

static void
test_several_recipients(void)
{
    char recipient[2][64], identity[2][80];
    Error err = {0};

    for (size_t i = 0; i < 2; i++)
        if (age_keygen(recipient[i], identity[i], &err) < 0)
            abort();

    AUTO(age_recipients_freep)
    AgeRecipients *r = recipients_of((const char *const[]){recipient[0], recipient[1], NULL});
    AUTO(age_identities_freep)
    AgeIdentities *other = identities_of((const char *const[]){KEY_SECRET, NULL});
    AUTO(bytes_reset) Bytes plain = pattern_of(100), sealed = {0};
    char label[AGE_OWN_ARGS_MAX], own_args[AGE_OWN_ARGS_MAX];

    (void) snprintf(label, sizeof label, "1 key size digest %s", age_recipients_key_ids(r));
    ok(encrypt_for(r, label, &plain, 10, &sealed, &err) == 0, "encrypt for two");
    for (size_t i = 0; i < 2; i++)
    {
        AUTO(age_identities_freep)
        AgeIdentities *ids = identities_of((const char *const[]){KEY_SECRET, identity[i], NULL});
        AUTO(bytes_reset) Bytes back = {0};

        ok(decrypt_with(ids, sealed.data, sealed.len, 50, own_args, &back, &err) == 0 &&
               bytes_equal(&plain, &back),
           "recipient %zu decrypts", i);
    }

    AUTO(bytes_reset) Bytes back = {0};

    ok(decrypt_with(other, sealed.data, sealed.len, 50, own_args, &back, &err) == -1 &&
           err.kind == ERROR_DENIED && back.len == 0 && own_args[0] == '\0',
       "another identity is denied");
    ok(strstr(err.hint, age_recipients_key_ids(r)) != NULL &&
           strstr(err.hint, "82dab32a9aedffb4") != NULL,
       "the hint names both sides' key ids");
}

static void
test_no_own_stanza(void)
{
    AUTO(age_recipients_freep)
    AgeRecipients *r = recipients_of((const char *const[]){KEY_RECIPIENT, NULL});
    AUTO(age_identities_freep)
    AgeIdentities *ids = identities_of((const char *const[]){KEY_SECRET, NULL});
    AUTO(bytes_reset) Bytes plain = pattern_of(5), sealed = {0}, back = {0};
    char own_args[AGE_OWN_ARGS_MAX] = "before";
    Error err = {0};

    ok(encrypt_for(r, NULL, &plain, 10, &sealed, &err) == 0 && sealed.len == 168 + 16 + 5 + 16,
       "encrypt without a stanza of our own");
    ok(decrypt_with(ids, sealed.data, sealed.len, 500, own_args, &back, &err) == 0 &&
           bytes_equal(&plain, &back) && own_args[0] == '\0',
       "decrypt it");
    ok(age_peek_own_args(sealed.data, sealed.len, own_args, &err) == -1 &&
           err.kind == ERROR_NOT_FOUND,
       "peek finds none");
}

static void
test_passphrase_round_trip(void)
{
    AUTO(age_recipients_freep) AgeRecipients *r = recipients_of((const char *const[]){NULL});
    AUTO(age_identities_freep)
    AgeIdentities *ids = identities_of((const char *const[]){KEY_SECRET, NULL});
    AUTO(age_identities_freep) AgeIdentities *wrong = identities_of((const char *const[]){NULL});
    AUTO(bytes_reset) Bytes plain = pattern_of(70000), sealed = {0}, back = {0};
    Error err = {0};

    if (age_recipients_set_passphrase(r, "correct horse", 10, &err) < 0 ||
        age_identities_set_passphrase(wrong, "battery staple", &err) < 0)
        abort();
    ok(encrypt_for(r, NULL, &plain, 9999, &sealed, &err) == 0, "encrypt with a passphrase");
    ok(decrypt_with(ids, sealed.data, sealed.len, 777, NULL, &back, &err) == -1 &&
           err.kind == ERROR_DENIED && strstr(err.msg, "passphrase") != NULL,
       "a key does not open it");
    ok(decrypt_with(wrong, sealed.data, sealed.len, 777, NULL, &back, &err) == -1 &&
           err.kind == ERROR_DENIED && strstr(err.msg, "battery") == NULL && back.len == 0,
       "another passphrase does not open it");
    ok(age_identities_set_passphrase(ids, "correct horse", &err) == 0 &&
           decrypt_with(ids, sealed.data, sealed.len, 777, NULL, &back, &err) == 0 &&
           bytes_equal(&plain, &back),
       "the passphrase opens it");
}

typedef struct SharedKeys
{
    const AgeRecipients *recipients;
    const AgeIdentities *ids;
} SharedKeys;

/* Returns its argument if every round trip was good, else NULL. */
static void *
use_shared_keys(void *arg)
{
    const SharedKeys *shared = arg;
    AUTO(bytes_reset) Bytes plain = pattern_of(1000);

    for (int i = 0; i < 50; i++)
    {
        AUTO(bytes_reset) Bytes sealed = {0}, back = {0};
        Error err = {0};

        if (encrypt_for(shared->recipients, OWN_ARGS, &plain, 300, &sealed, &err) < 0 ||
            decrypt_with(shared->ids, sealed.data, sealed.len, 300, NULL, &back, &err) < 0 ||
            !bytes_equal(&plain, &back))
            return NULL;
    }
    return arg;
}

static void
test_threads(void)
{
    AUTO(age_recipients_freep)
    AgeRecipients *r = recipients_of((const char *const[]){KEY_RECIPIENT, NULL});
    AUTO(age_identities_freep)
    AgeIdentities *ids = identities_of((const char *const[]){KEY_SECRET, NULL});
    SharedKeys shared = {r, ids};
    pthread_t threads[4];
    size_t good = 0;

    for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
        if (pthread_create(&threads[i], NULL, use_shared_keys, &shared) != 0)
            abort();
    for (size_t i = 0; i < ARRAY_COUNT(threads); i++)
    {
        void *result = NULL;

        (void) pthread_join(threads[i], &result);
        good += result == &shared ? 1 : 0;
    }
    ok(good == ARRAY_COUNT(threads), "four threads share recipients and identities");
}

/* ---- damage ---- */

/* Everything that was passed on must be a prefix of what was encrypted. */
static bool
is_refused(const AgeIdentities *ids, const Bytes *file, size_t len, const Bytes *plain)
{
    AUTO(bytes_reset) Bytes back = {0};
    Error err = {0};

    return decrypt_with(ids, file->data, len, 70000, NULL, &back, &err) == -1 &&
           (err.kind == ERROR_CORRUPT || err.kind == ERROR_DENIED) && back.len <= plain->len &&
           (back.len == 0 || memcmp(back.data, plain->data, back.len) == 0);
}

static void
test_damage(void)
{
    AUTO(age_recipients_freep)
    AgeRecipients *r = recipients_of((const char *const[]){KEY_RECIPIENT, NULL});
    AUTO(age_identities_freep)
    AgeIdentities *ids = identities_of((const char *const[]){KEY_SECRET, NULL});
    AUTO(bytes_reset) Bytes plain = pattern_of(30), file = {0};
    Error err = {0};
    size_t taken = 0;

    if (encrypt_for(r, OWN_ARGS, &plain, 10, &file, &err) < 0)
        abort();
    for (size_t i = 0; i < file.len; i++)
        for (unsigned bit = 0; bit < 8; bit++)
        {
            file.data[i] ^= (uint8_t) (1U << bit);
            if (!is_refused(ids, &file, file.len, &plain))
            {
                taken++;
                diag("byte %zu, bit %u", i, bit);
            }
            file.data[i] ^= (uint8_t) (1U << bit);
        }
    ok(taken == 0, "every flipped bit of a small file is noticed");

    taken = 0;
    for (size_t len = 0; len < file.len; len++)
        if (!is_refused(ids, &file, len, &plain))
            taken++;
    ok(taken == 0, "a small file cut off anywhere is noticed");

    bytes_append(&file, "x", 1);
    ok(is_refused(ids, &file, file.len, &plain), "a byte too many is noticed");
}

static void
test_damage_of_chunks(void)
{
    static const size_t cuts[] = {1, 15, 16, 17, 65551, 65552, 65553, 131103, 131104, 131105};
    AUTO(age_recipients_freep)
    AgeRecipients *r = recipients_of((const char *const[]){KEY_RECIPIENT, NULL});
    AUTO(age_identities_freep)
    AgeIdentities *ids = identities_of((const char *const[]){KEY_SECRET, NULL});
    AUTO(bytes_reset) Bytes plain = pattern_of(3 * 65536), file = {0}, swapped = {0};
    Error err = {0};

    if (encrypt_for(r, NULL, &plain, 70000, &file, &err) < 0)
        abort();

    const size_t payload = 168 + 16, sealed = 65552;

    for (size_t i = 0; i < ARRAY_COUNT(cuts); i++)
        ok(is_refused(ids, &file, file.len - cuts[i], &plain), "last %zu bytes missing", cuts[i]);

    bytes_append(&swapped, file.data, payload);
    bytes_append(&swapped, file.data + payload + sealed, sealed);
    bytes_append(&swapped, file.data + payload, sealed);
    bytes_append(&swapped, file.data + payload + 2 * sealed, sealed);
    ok(is_refused(ids, &swapped, swapped.len, &plain), "chunks in another order");
    bytes_reset(&swapped);

    bytes_append(&swapped, file.data, payload + sealed);
    bytes_append(&swapped, file.data + payload + 2 * sealed, sealed);
    ok(is_refused(ids, &swapped, swapped.len, &plain), "a chunk left out");
    bytes_append(&file, file.data, 1);
    ok(is_refused(ids, &file, file.len, &plain), "a byte behind a full last chunk");
}

static void
test_header_bound(void)
{
    AUTO(age_identities_freep)
    AgeIdentities *ids = identities_of((const char *const[]){KEY_SECRET, NULL});
    AUTO(bytes_reset) Bytes file = {0}, none = {0};
    Error err = {0};

    bytes_append(&file, "age-encryption.org/v1\n", 22);
    while (file.len < 70000)
        bytes_append(&file, "-> a b\n\n", 8);
    for (size_t piece = 1; piece < 100000; piece *= 17)
        ok(decrypt_with(ids, file.data, file.len, piece, NULL, &none, &err) == -1 &&
               err.kind == ERROR_CORRUPT && strstr(err.msg, "longer than 65536") != NULL,
           "a header without end, in pieces of %zu", piece);
    memset(file.data, 'a', file.len);
    ok(decrypt_with(ids, file.data, file.len, file.len, NULL, &none, &err) == -1 &&
           err.kind == ERROR_CORRUPT,
       "a line without end");
}

/* A successor that fails at each call: the error comes through, nothing more is written. */
static void
test_failing_successor(void)
{
    AUTO(age_recipients_freep)
    AgeRecipients *r = recipients_of((const char *const[]){KEY_RECIPIENT, NULL});
    AUTO(age_identities_freep)
    AgeIdentities *ids = identities_of((const char *const[]){KEY_SECRET, NULL});
    AUTO(bytes_reset) Bytes plain = pattern_of(150000), file = {0};
    Error err = {0};

    if (encrypt_for(r, NULL, &plain, 70000, &file, &err) < 0)
        abort();
    for (size_t n = 1; n <= 5; n++)
    {
        AUTO(age_encryption_freep) AgeEncryption *e = NULL;
        AUTO(bytes_reset) Bytes out = {0};
        AUTO(stage_freep) Stage *chain = bytes_sink(&out, n);

        if (age_encryption_begin(r, &e, &err) < 0 || age_encryptor_new(e, chain, &chain, &err) < 0)
            abort();

        int rc = push_pieces(chain, plain.data, plain.len, 40000, &err);

        ok(n < 5 ? rc == -1 && err.kind == ERROR_IO : rc == 0,
           "encrypt, successor fails at call %zu%s", n, n < 5 ? "" : ", which does not come");
    }
    for (size_t n = 1; n <= 4; n++)
    {
        AUTO(bytes_reset) Bytes out = {0};
        AUTO(stage_freep) Stage *chain = bytes_sink(&out, n);

        if (age_decryptor_new(ids, chain, NULL, &chain, &err) < 0)
            abort();

        int rc = push_pieces(chain, file.data, file.len, 40000, &err);

        ok(n < 4 ? rc == -1 && err.kind == ERROR_IO : rc == 0,
           "decrypt, successor fails at call %zu%s", n, n < 4 ? "" : ", which does not come");
    }
}

/* ---- our own stanza ---- */

static const struct
{
    const char *label, *head;
    int rc;
    ErrorKind kind;
    const char *want;
} peek_cases[] = {
    {"ours", "age-encryption.org/v1\n-> walstream 1 a/b\n", 0, ERROR_NONE, "1 a/b"},
    {"another stanza first", "age-encryption.org/v1\n-> X25519 abc\n", -1, ERROR_NOT_FOUND, ""},
    {"a type that begins alike", "age-encryption.org/v1\n-> walstreams 1 a\n", -1, ERROR_NOT_FOUND,
     ""},
    {"without arguments", "age-encryption.org/v1\n-> walstream\n", -1, ERROR_CORRUPT, ""},
    {"two blanks", "age-encryption.org/v1\n-> walstream 1  a\n", -1, ERROR_CORRUPT, ""},
    {"blank at the end", "age-encryption.org/v1\n-> walstream 1 \n", -1, ERROR_CORRUPT, ""},
    {"tab", "age-encryption.org/v1\n-> walstream 1\ta\n", -1, ERROR_CORRUPT, ""},
    {"carriage return", "age-encryption.org/v1\n-> walstream 1 a\r\n", -1, ERROR_CORRUPT, ""},
    {"too short for the line", "age-encryption.org/v1\n-> walstream 1 a", -1, ERROR_CORRUPT, ""},
    {"too short for the intro", "age-encryption.org/v1", -1, ERROR_CORRUPT, ""},
    {"no stanza", "age-encryption.org/v1\n--- abc\n", -1, ERROR_CORRUPT, ""},
    {"another version", "age-encryption.org/v2\n-> walstream 1 a\n", -1, ERROR_CORRUPT, ""},
    {"empty", "", -1, ERROR_CORRUPT, ""},
};

static void
test_peek(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(peek_cases); i++)
    {
        char own_args[AGE_OWN_ARGS_MAX] = "before";
        Error err = {0};
        int rc = age_peek_own_args(peek_cases[i].head, strlen(peek_cases[i].head), own_args, &err);

        ok(rc == peek_cases[i].rc && err.kind == peek_cases[i].kind &&
               strcmp(own_args, peek_cases[i].want) == 0,
           "peek: %s", peek_cases[i].label);
    }

    char head[2000] = "age-encryption.org/v1\n-> walstream ", own_args[AGE_OWN_ARGS_MAX];
    size_t at = strlen(head);
    Error err = {0};

    memset(head + at, 'x', AGE_OWN_ARGS_MAX);
    head[at + AGE_OWN_ARGS_MAX - 1] = '\n';
    ok(age_peek_own_args(head, at + AGE_OWN_ARGS_MAX, own_args, &err) == 0 &&
           strlen(own_args) == AGE_OWN_ARGS_MAX - 1,
       "peek: longest arguments");
    head[at + AGE_OWN_ARGS_MAX - 1] = 'x';
    head[at + AGE_OWN_ARGS_MAX] = '\n';
    ok(age_peek_own_args(head, at + AGE_OWN_ARGS_MAX + 1, own_args, &err) == -1 &&
           err.kind == ERROR_CORRUPT,
       "peek: one too long");
}

static void
test_bad_own_args(void)
{
    static const char *const bad[] = {"", " ", " a", "a ", "a  b", "a\nb", "a\tb", "\xc3\xa4"};
    AUTO(age_recipients_freep)
    AgeRecipients *r = recipients_of((const char *const[]){KEY_RECIPIENT, NULL});
    AUTO(age_encryption_freep) AgeEncryption *e = NULL;
    uint8_t header[2048];
    char longest[AGE_OWN_ARGS_MAX + 1];
    Error err = {0};

    if (age_encryption_begin(r, &e, &err) < 0)
        abort();
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        ok(age_encryption_header(
               e, bad[i], header, age_encryption_header_bytes(e, strlen(bad[i])), &err) == -1 &&
               err.kind == ERROR_USAGE,
           "arguments that cannot be written, case %zu", i);
    memset(longest, 'x', sizeof longest);
    longest[AGE_OWN_ARGS_MAX] = '\0';
    ok(age_encryption_header(
           e, longest, header, age_encryption_header_bytes(e, AGE_OWN_ARGS_MAX), &err) == -1 &&
           err.kind == ERROR_USAGE,
       "arguments that are too long");
    longest[AGE_OWN_ARGS_MAX - 1] = '\0';
    ok(age_encryption_header(
           e, longest, header, age_encryption_header_bytes(e, AGE_OWN_ARGS_MAX - 1), &err) == 0,
       "the longest arguments");
    ok(age_encryption_header(e, "a", header, age_encryption_header_bytes(e, 2), &err) == -1 &&
           err.kind == ERROR_USAGE,
       "arguments of another length than there is room for");
}

/* ---- identity files ---- */

static const char *
file_with(const void *data, size_t len, mode_t mode)
{
    const char *path = tempdir_name("identity");

    (void) unlink(path); /* it may be there without the right to write */
    (void) tempdir_write("identity", data, len);
    if (chmod(path, mode) < 0)
        abort();
    return path;
}

static const struct
{
    const char *label, *text;
    mode_t mode;
    int rc;
    ErrorKind kind;
    const char *says;
    size_t count;
} file_cases[] = {
    {"as age-keygen writes it",
     "# created: 2026-03-01T09:14:07Z\n# public key: " KEY_RECIPIENT "\n" KEY_SECRET "\n", 0600, 0,
     ERROR_NONE, "", 1},
    {"no line feed at the end", KEY_SECRET, 0400, 0, ERROR_NONE, "", 1},
    {"CRLF and blank lines", "\r\n# a\r\n" KEY_SECRET "\r\n\r\n", 0600, 0, ERROR_NONE, "", 1},
    {"group can read", KEY_SECRET "\n", 0640, -1, ERROR_DENIED, "mode 0640", 0},
    {"others can read", KEY_SECRET "\n", 0604, -1, ERROR_DENIED, "mode 0604", 0},
    {"group can write", KEY_SECRET "\n", 0620, -1, ERROR_DENIED, "mode 0620", 0},
    {"empty", "", 0600, -1, ERROR_USAGE, "no secret key", 0},
    {"comments only", "# nothing\n", 0600, -1, ERROR_USAGE, "no secret key", 0},
    {"a recipient", "# x\n" KEY_RECIPIENT "\n", 0600, -1, ERROR_USAGE, "line 2: a recipient", 0},
    {"a bad line behind a good one",
     KEY_SECRET "\nAGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEY\n",
     0600, -1, ERROR_USAGE, "line 2: not an age secret key", 0},
    {"blank before the key", " " KEY_SECRET "\n", 0600, -1, ERROR_USAGE, "line 1", 0},
    {"an age file", "age-encryption.org/v1\n-> X25519 a\n", 0600, -1, ERROR_USAGE,
     "itself encrypted", 0},
    {"an armored age file", "\n-----BEGIN AGE ENCRYPTED FILE-----\n", 0600, -1, ERROR_USAGE,
     "itself encrypted", 0},
    {"an OpenSSH key", "-----BEGIN OPENSSH PRIVATE KEY-----\nGFPYYgfpyy\n", 0600, -1, ERROR_USAGE,
     "line 1", 0},
};

static void
test_identity_files(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(file_cases); i++)
    {
        AUTO(age_identities_freep) AgeIdentities *ids = identities_of((const char *const[]){NULL});
        Error err = {0};
        int rc = age_identities_load(
            ids, file_with(file_cases[i].text, strlen(file_cases[i].text), file_cases[i].mode),
            &err);
        bool good = rc == file_cases[i].rc && err.kind == file_cases[i].kind &&
                    strstr(err.msg, file_cases[i].says) != NULL &&
                    strcasestr(err.msg, "gfpyy") == NULL && strcasestr(err.hint, "gfpyy") == NULL &&
                    age_identities_count(ids) == file_cases[i].count &&
                    (err.kind != ERROR_DENIED || strstr(err.hint, "chmod") != NULL);

        if (!ok(good, "identity file: %s", file_cases[i].label))
            diag("rc %d, %s: %s", rc, error_kind_name(err.kind), err.msg);
    }

    AUTO(age_identities_freep) AgeIdentities *ids = identities_of((const char *const[]){NULL});
    AUTO(bytes_reset) Bytes large = pattern_of(65537);
    Error err = {0};

    ok(age_identities_load(ids, "/nonexistent/identity", &err) == -1 && err.kind == ERROR_NOT_FOUND,
       "identity file: missing");
    ok(age_identities_load(ids, tempdir_path, &err) == -1 && age_identities_count(ids) == 0,
       "identity file: a directory");
    memset(large.data, '#', large.len);
    ok(age_identities_load(ids, file_with(large.data, large.len, 0600), &err) == -1 &&
           err.kind == ERROR_USAGE && strstr(err.msg, "larger") != NULL,
       "identity file: too large");
    ok(age_identities_load(ids, file_with("a\0b\n", 4, 0600), &err) == -1 &&
           err.kind == ERROR_USAGE,
       "identity file: not text");
}

static void
test_protected_identity_file(void)
{
    AUTO(age_recipients_freep) AgeRecipients *r = recipients_of((const char *const[]){NULL});
    AUTO(age_identities_freep) AgeIdentities *ids = identities_of((const char *const[]){NULL});
    AUTO(bytes_reset) Bytes plain = {0}, sealed = {0};
    Error err = {0};

    bytes_append(&plain, "# key\n" KEY_SECRET "\n", strlen("# key\n" KEY_SECRET "\n"));
    if (age_recipients_set_passphrase(r, "correct horse", 10, &err) < 0 ||
        encrypt_for(r, NULL, &plain, 9999, &sealed, &err) < 0)
        abort();

    const char *path = file_with(sealed.data, sealed.len, 0600);

    ok(age_identities_load(ids, path, &err) == -1 && err.kind == ERROR_USAGE &&
           strstr(err.hint, "passphrase") != NULL,
       "a protected identity file needs its passphrase");
    ok(age_identities_load_protected(ids, path, "wrong", &err) == -1 && err.kind == ERROR_DENIED &&
           age_identities_count(ids) == 0,
       "a wrong passphrase");
    ok(age_identities_load_protected(ids, path, "correct horse", &err) == 0 &&
           age_identities_count(ids) == 1 && age_identities_have_key_id(ids, "82dab32a9aedffb4"),
       "the right passphrase");
    sealed.data[sealed.len - 1] ^= 1;
    ok(age_identities_load_protected(
           ids, file_with(sealed.data, sealed.len, 0600), "correct horse", &err) == -1 &&
           err.kind == ERROR_CORRUPT && age_identities_count(ids) == 1,
       "a damaged protected identity file");
    ok(age_identities_load_protected(
           ids, file_with(plain.data, plain.len, 0600), "correct horse", &err) == 0,
       "a file that is not protected is taken too");
}

int
main(void)
{
    (void) tempdir_make();
    test_bad_recipients();
    test_bad_identities();
    test_keys();
    test_passphrase_rules();
    test_round_trips();
    test_several_recipients();
    test_no_own_stanza();
    test_passphrase_round_trip();
    test_threads();
    test_damage();
    test_damage_of_chunks();
    test_header_bound();
    test_failing_successor();
    test_peek();
    test_bad_own_args();
    test_identity_files();
    test_protected_identity_file();
    return done_testing();
}
