/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Objects: their container, how they are put and how they are read; see object.h.
 *
 *   writing   digest -> codec -> [age] -> buffer       room for label or header is left in front
 * and filled when digest and size are known reading   store -> container -> [age] -> codec ->
 * digest -> tail -> the caller's sink
 *
 * The container stage finds out what it has before it, takes the label off and fits in the age
 * stage when one is needed. The tail hands bytes to the caller's sink without owning it: that one
 * is finished only after all of the chain was finished and the digest was compared.
 */
#include "repo/object.h"

#include <stdlib.h>
#include <string.h>

#include "common/fs.h"
#include "common/parse.h"
#include "common/strbuf.h"
#include "crypto/primitives.h"
#include "repo/label.h"

/* ---- writing ---- */

struct ObjectWriter
{
    Stage *chain;              /* its head is the digest */
    AgeEncryption *encryption; /* NULL: not encrypted */
    ChunkBuf *out;             /* borrowed */
    ObjectLabel label;
    size_t front_bytes; /* room left for label or age header */
};

/* Puts a new stage in front of *chain; rc and *st are what its constructor gave. */
static int
object_chain_add(int rc, Stage *const *st, Stage **chain)
{
    if (rc == 0)
        *chain = *st;
    return rc;
}

/* Whom the object is for; checked, as not every set of recipients can be told in a label. */
static int
object_label_encrypted(ObjectLabel *label, const AgeRecipients *recipients, Error *err)
{
    const char *key_ids = age_recipients_key_ids(recipients);

    if (!label_key_ids_valid(key_ids))
        return error_set(
            err, ERROR_USAGE, "objects are encrypted to 1 to %d age recipients, not to \"%s\"",
            AGE_RECIPIENTS_MAX, key_ids);
    memcpy(label->key_ids, key_ids, strlen(key_ids) + 1);
    label->encrypted = true;
    return 0;
}

static int
object_writer_build(
    ObjectWriter *w, const ObjectFormat *format, uint64_t plain_bytes_hint, Error *err)
{
    AUTO(stage_freep) Stage *chain = NULL;
    Stage *st = NULL;

    if (format->recipients != NULL)
    {
        if (object_label_encrypted(&w->label, format->recipients, err) < 0 ||
            age_encryption_begin(format->recipients, &w->encryption, err) < 0)
            return -1;
        w->front_bytes = age_encryption_header_bytes(w->encryption, label_text_len(&w->label));
    }
    else
        w->front_bytes = label_frame_bytes(&w->label);

    if (chunkbuf_reserve(w->out, w->front_bytes, err) < 0 ||
        object_chain_add(chunkbuf_sink_new(w->out, &st, err), &st, &chain) < 0)
        return -1;
    if (w->encryption != NULL &&
        object_chain_add(age_encryptor_new(w->encryption, chain, &st, err), &st, &chain) < 0)
        return -1;
    if (object_chain_add(
            codec_encoder_new(format->codec, plain_bytes_hint, chain, &st, err), &st, &chain) < 0 ||
        object_chain_add(
            format->parallel_digest ? stage_digest_new_parallel(chain, &st, err)
                                    : stage_digest_new(chain, &st, err),
            &st, &chain) < 0)
        return -1;
    w->chain = steal(chain);
    return 0;
}

int
object_writer_new(
    const ObjectFormat *format, const char *key, uint64_t plain_bytes_hint, ChunkBuf *out,
    ObjectWriter **writer, Error *err)
{
    assert(out->bytes == 0);
    if (!label_key_valid(key))
        return error_set(err, ERROR_USAGE, "\"%s\" cannot be the key of an object", key);

    AUTO(object_writer_freep) ObjectWriter *w = calloc(1, sizeof *w);

    if (w == NULL)
        return error_nomem(err);
    w->out = out;
    w->label.version = OBJECT_VERSION_PLAIN;
    memcpy(w->label.key, key, strlen(key) + 1);
    if (object_writer_build(w, format, plain_bytes_hint, err) < 0)
        return error_wrap(err, "could not begin object \"%s\"", key);
    *writer = steal(w);
    return 0;
}

int
object_writer_write(ObjectWriter *w, const void *data, size_t len, Error *err)
{
    if (stage_write(w->chain, data, len, err) < 0)
        return error_wrap(err, "could not encode object \"%s\"", w->label.key);
    return 0;
}

/* Fills the room that was left in front. */
static int
object_writer_fill_front(ObjectWriter *w, Error *err)
{
    uint8_t frame[LABEL_FRAME_MAX];
    char text[OBJECT_LABEL_MAX];

    if (w->encryption == NULL)
    {
        size_t len = label_frame_format(&w->label, frame);

        assert(len == w->front_bytes);
        chunkbuf_overwrite(w->out, 0, frame, len);
        return 0;
    }

    AUTO(free_text) char *header = malloc(w->front_bytes);

    if (header == NULL)
        return error_nomem(err);
    if (age_encryption_header(
            w->encryption, label_format(&w->label, text), (uint8_t *) header, w->front_bytes, err) <
        0)
        return -1;
    chunkbuf_overwrite(w->out, 0, header, w->front_bytes);
    return 0;
}

int
object_writer_finish(ObjectWriter *w, ObjectLabel *label, Error *err)
{
    if (stage_finish(w->chain, err) < 0)
        return error_wrap(err, "could not encode object \"%s\"", w->label.key);
    w->label.plain_bytes = w->chain->bytes_in;
    memcpy(w->label.sha256, stage_digest_sha256(w->chain), SHA256_BYTES);
    if (object_writer_fill_front(w, err) < 0)
        return error_wrap(err, "could not label object \"%s\"", w->label.key);
    *label = w->label;
    return 0;
}

void
object_writer_free(ObjectWriter *w)
{
    if (w == NULL)
        return;
    stage_free(w->chain); /* before the encryption, which a stage of it borrows */
    age_encryption_free(w->encryption);
    free(w);
}

/* ---- writing version 2 ---- */

/* Room for bytes of the sealed object. */
static int
object_sealed_reserve(ObjectSealed *s, size_t bytes, Error *err)
{
    if (bytes <= s->owned_bytes)
        return 0;
    free(s->owned);
    s->owned_bytes = 0;
    s->owned = fs_alloc_io(bytes);
    if (s->owned == NULL)
        return error_nomem(err);
    s->owned_bytes = bytes;
    return 0;
}

static int
object_seal_plain(const void *payload, size_t len, ObjectSealed *out, Error *err)
{
    if (object_sealed_reserve(out, LABEL_FRAME_MAX, err) < 0)
        return -1;

    size_t front = label_frame_format(&out->label, out->owned);

    out->iov[0] = (struct iovec){.iov_base = out->owned, .iov_len = front};
    /* what is put is only read */
    out->iov[1] = (struct iovec){.iov_base = (void *) (uintptr_t) payload, .iov_len = len};
    out->bytes = front + len;
    return 0;
}

static int
object_seal_encrypted(
    const AgeRecipients *recipients, const void *payload, size_t len, ObjectSealed *out, Error *err)
{
    AUTO(age_encryption_freep) AgeEncryption *encryption = NULL;
    AUTO(stage_freep) Stage *chain = NULL;
    Stage *st = NULL;
    char text[OBJECT_LABEL_MAX];
    size_t chunks = len / AGE_CHUNK_BYTES + 1; /* one too many when len is a multiple */
    size_t bytes;
    size_t sealed = 0;

    if (object_label_encrypted(&out->label, recipients, err) < 0 ||
        age_encryption_begin(recipients, &encryption, err) < 0)
        return -1;

    size_t front = age_encryption_header_bytes(encryption, label_text_len(&out->label));

    if (__builtin_add_overflow(
            len, front + AGE_NONCE_BYTES + chunks * (size_t) AGE_TAG_BYTES, &bytes))
        return error_set(err, ERROR_USAGE, "payload of %zu bytes is too long", len);
    if (object_sealed_reserve(out, bytes, err) < 0 ||
        age_encryption_header(encryption, label_format(&out->label, text), out->owned, front, err) <
            0 ||
        object_chain_add(
            stage_memory_sink_new(out->owned + front, bytes - front, &sealed, &st, err), &st,
            &chain) < 0 ||
        object_chain_add(age_encryptor_new(encryption, chain, &st, err), &st, &chain) < 0 ||
        stage_write(chain, payload, len, err) < 0 || stage_finish(chain, err) < 0)
        return -1;
    out->bytes = front + sealed;
    out->iov[0] = (struct iovec){.iov_base = out->owned, .iov_len = front + sealed};
    out->iov[1] = (struct iovec){0};
    return 0;
}

int
object_seal(
    const AgeRecipients *recipients, const char *key, const void *payload, size_t len,
    ObjectSealed *out, Error *err)
{
    if (!label_key_valid(key))
        return error_set(err, ERROR_USAGE, "\"%s\" cannot be the key of an object", key);
    out->label = (ObjectLabel){.version = OBJECT_VERSION_PAYLOAD, .plain_bytes = len};
    memcpy(out->label.key, key, strlen(key) + 1);
    if (crypto_sha256((ByteView){payload, len}, out->label.sha256, err) < 0 ||
        (recipients == NULL ? object_seal_plain(payload, len, out, err)
                            : object_seal_encrypted(recipients, payload, len, out, err)) < 0)
        return error_wrap(err, "could not seal object \"%s\"", key);
    return 0;
}

void
object_sealed_reset(ObjectSealed *s)
{
    free(s->owned);
    *s = (ObjectSealed){0};
}

/* ---- putting ---- */

static int
object_conflict(const ObjectLabel *ours, const ObjectLabel *theirs, Error *err)
{
    char our_hex[2 * SHA256_BYTES + 1];
    char their_hex[2 * SHA256_BYTES + 1];

    (void) error_set(
        err, ERROR_CONFLICT,
        "object \"%s\" exists with other bytes: stored are %llu bytes with SHA-256 %s, to be put "
        "were %llu bytes with SHA-256 %s",
        ours->key, (unsigned long long) theirs->plain_bytes,
        format_hex(theirs->sha256, SHA256_BYTES, their_hex), (unsigned long long) ours->plain_bytes,
        format_hex(ours->sha256, SHA256_BYTES, our_hex));
    return error_hint(
        err, "Nothing was changed. Does another server write to this repository, or was this one "
             "restored without a new timeline?");
}

/* The key is taken: by the same bytes, or by others? */
static int
object_put_existing(
    Store *store, const ObjectLabel *label, const Deadline *dl, ObjectPutResult *result, Error *err)
{
    ObjectLabel stored;

    if (object_peek(store, label->key, dl, &stored, err) < 0)
    {
        /* there a moment ago, not there now: the store does not agree with itself yet */
        if (err->kind == ERROR_NOT_FOUND)
            return error_set(
                err, ERROR_TRANSIENT,
                "could not put object \"%s\": the store says that it exists, then that it does not",
                label->key);
        return error_wrap(
            err, "could not compare with object \"%s\", which exists already", label->key);
    }
    if (stored.version != label->version)
        return error_set(
            err, ERROR_CONFLICT,
            "object \"%s\" exists with a label of version %d, to be put was one of version %d",
            label->key, stored.version, label->version);
    if (stored.plain_bytes != label->plain_bytes ||
        memcmp(stored.sha256, label->sha256, SHA256_BYTES) != 0)
        return object_conflict(label, &stored, err);
    *result = OBJECT_SAME;
    return 0;
}

static int
object_put_body(
    Store *store, const ObjectLabel *label, const StoreBody *body, const Deadline *dl,
    ObjectPutResult *result, Error *err)
{
    if (store_put(store, label->key, body, dl, err) == 0)
    {
        *result = OBJECT_CREATED;
        return 0;
    }
    if (err->kind == ERROR_EXISTS)
        return object_put_existing(store, label, dl, result, err);
    return -1;
}

int
object_put_sealed(
    Store *store, const ObjectSealed *s, const Deadline *dl, ObjectPutResult *result, Error *err)
{
    StoreBody body = {.iov = s->iov, .iov_count = s->iov[1].iov_len > 0 ? 2 : 1, .bytes = s->bytes};

    return object_put_body(store, &s->label, &body, dl, result, err);
}

int
object_put(
    Store *store, const ObjectLabel *label, const ChunkBuf *body, const Deadline *dl,
    ObjectPutResult *result, Error *err)
{
    size_t chunk_bytes = chunk_pool_chunk_bytes(body->pool);
    struct iovec *iov = calloc(MAX(body->chunk_count, (size_t) 1), sizeof *iov);
    uint64_t left = body->bytes;

    if (iov == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < body->chunk_count; i++)
    {
        iov[i].iov_base = body->chunks[i]->data;
        iov[i].iov_len = (size_t) MIN(left, (uint64_t) chunk_bytes);
        left -= iov[i].iov_len;
    }

    StoreBody store_body = {.iov = iov, .iov_count = body->chunk_count, .bytes = body->bytes};
    int rc = object_put_body(store, label, &store_body, dl, result, err);

    free(iov);
    return rc;
}

#define OBJECT_SMALL_CHUNK_BYTES 16384

int
object_put_bytes(
    Store *store, const ObjectFormat *format, const char *key, const void *data, size_t len,
    const Deadline *dl, ObjectPutResult *result, Error *err)
{
    /* noise grows by less than 1/128 in every codec and in age; the front has its bound */
    size_t most = len + len / 64 + AGE_HEADER_MAX + OBJECT_SMALL_CHUNK_BYTES;
    AUTO(chunk_pool_freep) ChunkPool *pool = NULL;
    AUTO(chunkbuf_reset) ChunkBuf body = {0};
    AUTO(object_writer_freep) ObjectWriter *w = NULL;
    ObjectLabel label;

    if (chunk_pool_new(OBJECT_SMALL_CHUNK_BYTES, most / OBJECT_SMALL_CHUNK_BYTES + 1, &pool, err) <
        0)
        return -1;
    chunkbuf_init(&body, pool, *dl);
    if (object_writer_new(format, key, len, &body, &w, err) < 0 ||
        object_writer_write(w, data, len, err) < 0 || object_writer_finish(w, &label, err) < 0)
        return -1;
    return object_put(store, &label, &body, dl, result, err);
}

/* ---- reading: the label alone ---- */

/*
 * The label of an encrypted object from its first bytes, not authenticated. An age file that has
 * none is no object of ours: CORRUPT, and never NOT_FOUND, which would mean that there is no
 * object.
 */
static int
object_peek_encrypted(const void *data, size_t len, ObjectLabel *label, Error *err)
{
    char own_args[AGE_OWN_ARGS_MAX] = "";

    if (age_peek_own_args(data, len, own_args, err) < 0)
    {
        if (err->kind == ERROR_NOT_FOUND)
            err->kind = ERROR_CORRUPT;
        return -1;
    }
    return label_parse(own_args, strlen(own_args), true, label, err);
}

/* Objects cannot be swapped by whoever can write to the store. */
static int
object_check_key(const ObjectLabel *label, const char *key, Error *err)
{
    if (strcmp(label->key, key) != 0)
        return error_set(err, ERROR_CORRUPT, "it is labelled as object \"%s\"", label->key);
    return 0;
}

static int
object_peek_bytes(const char *key, const uint8_t *data, size_t len, ObjectLabel *label, Error *err)
{
    size_t frame_bytes;

    if (age_is_age(data, len))
    {
        if (object_peek_encrypted(data, len, label, err) < 0)
            return -1;
    }
    else
    {
        int rc = label_frame_parse(data, len, label, &frame_bytes, err);

        if (rc < 0)
            return -1;
        if (rc == 0)
            return error_set(err, ERROR_CORRUPT, "it ends after %zu bytes, within its label", len);
    }
    return object_check_key(label, key, err);
}

int
object_peek(Store *store, const char *key, const Deadline *dl, ObjectLabel *label, Error *err)
{
    uint8_t front[OBJECT_PEEK_BYTES];
    size_t len = 0;
    AUTO(stage_freep) Stage *sink = NULL;

    if (stage_memory_sink_new(front, sizeof front, &len, &sink, err) < 0 ||
        store_get(store, key, (ByteRange){.len = sizeof front}, sink, dl, err) < 0)
        return -1;
    if (object_peek_bytes(key, front, len, label, err) < 0)
        return error_wrap(err, "could not read the label of object \"%s\"", key);
    return 0;
}

/* ---- reading: all of it ---- */

/* Passes bytes to a sink that it does not own. */
typedef struct ObjectTail
{
    Stage stage;
    Stage *sink; /* borrowed */
} ObjectTail;

static int
object_tail_write(Stage *st, const void *buf, size_t len, Error *err)
{
    return stage_write(((ObjectTail *) st)->sink, buf, len, err);
}

static void
object_tail_destroy(Stage *st)
{
    free(st);
}

static const StageOps object_tail_ops = {
    .name = "tail",
    .write = object_tail_write,
    .destroy = object_tail_destroy,
};

static int
object_tail_new(Stage *sink, Stage **out, Error *err)
{
    ObjectTail *tail = malloc(sizeof *tail);

    if (tail == NULL)
        return error_nomem(err);
    stage_init(&tail->stage, &object_tail_ops, NULL);
    tail->sink = sink;
    *out = &tail->stage;
    return 0;
}

/* What the container stage knows about the object so far. */
typedef enum ObjectKind
{
    OBJECT_UNKNOWN, /* bytes are kept in front[] */
    OBJECT_PLAIN,
    OBJECT_ENCRYPTED
} ObjectKind;

typedef struct ObjectContainer
{
    Stage stage;
    const char *key;          /* borrowed */
    const AgeIdentities *ids; /* borrowed; may be NULL */
    int version;              /* what its label must be of */
    uint64_t max_bytes;       /* most that it may be labelled with */
    ObjectKind kind;
    uint8_t front[LABEL_FRAME_MAX];
    size_t front_len;
    char own_args[AGE_OWN_ARGS_MAX]; /* set by the age stage when the header is authenticated */
    bool has_label;
    ObjectLabel label;
} ObjectContainer;

static int
object_container_set_label(ObjectContainer *c, Error *err)
{
    if (object_check_key(&c->label, c->key, err) < 0)
        return -1;
    if (c->label.version != c->version)
        return error_set(
            err, ERROR_CORRUPT, "its label is of version %d, which %s", c->label.version,
            c->version == OBJECT_VERSION_PLAIN ? "only parts and manifests of backups have"
                                               : "parts and manifests of backups do not have");
    if (c->label.plain_bytes > c->max_bytes)
        return error_set(
            err, ERROR_CORRUPT, "it is labelled as %llu bytes, where at most %llu are expected",
            (unsigned long long) c->label.plain_bytes, (unsigned long long) c->max_bytes);
    c->has_label = true;
    return 0;
}

/* Fits the age stage in; data is what has come of the object, and serves messages only. */
static int
object_container_begin_encrypted(ObjectContainer *c, const uint8_t *data, size_t len, Error *err)
{
    Stage *age = NULL;

    if (c->ids == NULL || age_identities_count(c->ids) == 0)
    {
        ObjectLabel label;

        (void) error_set(err, ERROR_DENIED, "it is encrypted and there is no identity to open it");

        Error unused = {0};

        if (object_peek_encrypted(data, len, &label, &unused) == 0)
            return error_hint(
                err, "It was written for %.150s. Set identity-file in [encryption].",
                label.key_ids);
        return error_hint(err, "Set identity-file in [encryption].");
    }
    if (age_decryptor_new(c->ids, c->stage.next, c->own_args, &age, err) < 0)
        return -1;
    c->stage.next = age;
    c->kind = OBJECT_ENCRYPTED;
    return 0;
}

/* Bytes of the age file go on; the label is looked at as soon as it is authenticated. */
static int
object_container_decrypt(ObjectContainer *c, const void *data, size_t len, Error *err)
{
    int rc = stage_write(c->stage.next, data, len, err);

    if (!c->has_label && c->own_args[0] != '\0')
    {
        /* a wrong label is the better explanation of whatever went wrong behind it */
        if (label_parse(c->own_args, strlen(c->own_args), true, &c->label, err) < 0)
            return -1;
        if (object_container_set_label(c, err) < 0)
            return -1;
    }
    return rc;
}

/* Nothing is known yet: takes what is needed from the input, advances it and decides if it can. */
static int
object_container_detect(ObjectContainer *c, const uint8_t **data, size_t *len, Error *err)
{
    size_t n = MIN(sizeof c->front - c->front_len, *len);
    size_t frame_bytes;

    memcpy(c->front + c->front_len, *data, n);
    c->front_len += n;
    *data += n;
    *len -= n;
    /* both kinds begin with more bytes than this */
    if (c->front_len < LABEL_FRAME_HEADER_BYTES + 8)
        return 0;
    if (age_is_age(c->front, c->front_len))
    {
        if (object_container_begin_encrypted(c, c->front, c->front_len, err) < 0)
            return -1;
        return object_container_decrypt(c, c->front, c->front_len, err);
    }

    int rc = label_frame_parse(c->front, c->front_len, &c->label, &frame_bytes, err);

    if (rc <= 0)
        return rc;
    c->kind = OBJECT_PLAIN;
    if (object_container_set_label(c, err) < 0)
        return -1;
    return stage_write(c->stage.next, c->front + frame_bytes, c->front_len - frame_bytes, err);
}

static int
object_container_write(Stage *st, const void *buf, size_t len, Error *err)
{
    ObjectContainer *c = (ObjectContainer *) st;
    const uint8_t *data = buf;

    /* front[] holds the longest label, so that this decides before it is full */
    while (c->kind == OBJECT_UNKNOWN && len > 0)
    {
        if (object_container_detect(c, &data, &len, err) < 0)
            return -1;
    }
    if (c->kind == OBJECT_ENCRYPTED)
        return len > 0 ? object_container_decrypt(c, data, len, err) : 0;
    return stage_write(c->stage.next, data, len, err);
}

static int
object_container_finish(Stage *st, Error *err)
{
    const ObjectContainer *c = (const ObjectContainer *) st;

    if (c->kind == OBJECT_UNKNOWN)
        return error_set(
            err, ERROR_CORRUPT, "it ends after %zu bytes, within its label", c->front_len);
    return 0;
}

static void
object_container_destroy(Stage *st)
{
    free(st);
}

static const StageOps object_container_ops = {
    .name = "container",
    .write = object_container_write,
    .finish = object_container_finish,
    .destroy = object_container_destroy,
};

static int
object_container_new(
    const char *key, const AgeIdentities *ids, int version, uint64_t max_bytes, Stage *next,
    Stage **out, Error *err)
{
    ObjectContainer *c = calloc(1, sizeof *c);

    if (c == NULL)
        return error_nomem(err);
    stage_init(&c->stage, &object_container_ops, next);
    c->key = key;
    c->ids = ids;
    c->version = version;
    c->max_bytes = max_bytes;
    c->kind = OBJECT_UNKNOWN;
    *out = &c->stage;
    return 0;
}

/* The chain is finished: are these the bytes that the label promises? */
static int
object_check_bytes(
    const ObjectContainer *c, uint64_t bytes, const uint8_t sha256[SHA256_BYTES], Error *err)
{
    if (!c->has_label)
        return error_set(err, ERROR_CORRUPT, "it has no label");
    if (bytes != c->label.plain_bytes)
        return error_set(
            err, ERROR_CORRUPT, "it has %llu bytes, where its label says %llu",
            (unsigned long long) bytes, (unsigned long long) c->label.plain_bytes);
    if (memcmp(sha256, c->label.sha256, SHA256_BYTES) != 0)
        return error_set(err, ERROR_CORRUPT, "its bytes do not have the SHA-256 of its label");
    return 0;
}

/*
 * A sink that cannot create its file, say, answers NOT_FOUND or EXISTS about that file. Told to our
 * caller it would mean that the store has no such object.
 */
static int
object_sink_failed(Error *err)
{
    if (err->kind == ERROR_NOT_FOUND || err->kind == ERROR_EXISTS)
        err->kind = ERROR_IO;
    return -1;
}

/* Sends all of the object through the chain and finishes that. */
static int
object_get_chain(Store *store, const char *key, Stage *chain, const Deadline *dl, Error *err)
{
    if (store_get(store, key, (ByteRange){0}, chain, dl, err) < 0)
    {
        /* the store's own answer goes up as it is; what our chain did not like gets its context */
        if (chain->state != STAGE_FAILED)
            return -1;
        (void) object_sink_failed(err);
        return error_wrap(err, "could not read object \"%s\"", key);
    }
    if (stage_finish(chain, err) < 0)
    {
        (void) object_sink_failed(err);
        return error_wrap(err, "could not read object \"%s\"", key);
    }
    return 0;
}

/*
 * All of the object through to sink, which is finished when size and digest were found to be those
 * of the label. max_bytes: of what they are of, plain bytes or payload.
 */
static int
object_get_checked(
    Store *store, const char *key, const AgeIdentities *ids, int version, uint64_t max_bytes,
    Stage *sink, const Deadline *dl, ObjectLabel *label, Error *err)
{
    AUTO(stage_freep) Stage *chain = NULL;
    Stage *st = NULL;

    if (object_chain_add(object_tail_new(sink, &st, err), &st, &chain) < 0 ||
        object_chain_add(stage_digest_new(chain, &st, err), &st, &chain) < 0)
        return -1;

    const Stage *digest = chain;

    if (version == OBJECT_VERSION_PLAIN &&
        object_chain_add(codec_decoder_new(max_bytes, chain, &st, err), &st, &chain) < 0)
        return -1;
    if (object_chain_add(
            object_container_new(key, ids, version, max_bytes, chain, &st, err), &st, &chain) < 0)
        return -1;

    const ObjectContainer *container = (const ObjectContainer *) chain;

    if (object_get_chain(store, key, chain, dl, err) < 0)
        return -1;
    if (object_check_bytes(container, digest->bytes_in, stage_digest_sha256(digest), err) < 0)
        return error_wrap(err, "could not read object \"%s\"", key);
    if (stage_finish(sink, err) < 0)
        return object_sink_failed(err);
    if (label != NULL)
        *label = container->label;
    return 0;
}

int
object_get(
    Store *store, const char *key, const AgeIdentities *ids, uint64_t max_plain_bytes, Stage *sink,
    const Deadline *dl, ObjectLabel *label, Error *err)
{
    return object_get_checked(
        store, key, ids, OBJECT_VERSION_PLAIN, max_plain_bytes, sink, dl, label, err);
}

/* ---- a small one into memory ---- */

int
object_get_bytes(
    Store *store, const char *key, const AgeIdentities *ids, size_t max_plain_bytes, char **out,
    size_t *len, const Deadline *dl, Error *err)
{
    AUTO(strbuf_reset) StrBuf text;
    AUTO(stage_freep) Stage *sink = NULL;

    strbuf_init(&text, max_plain_bytes);
    if (stage_strbuf_sink_new(&text, &sink, err) < 0 ||
        object_get(store, key, ids, max_plain_bytes, sink, dl, NULL, err) < 0)
        return -1;
    /* an empty object has its terminator too */
    strbuf_append(&text, "", 0);
    if (strbuf_finish(&text, err) < 0)
        return -1;
    *len = text.len;
    *out = steal(text.data);
    return 0;
}

/* ---- version 2 ---- */

#define OBJECT_PAYLOAD_FIRST_BYTES 65536

/* Collects the payload in the caller's memory. */
typedef struct ObjectPayloadSink
{
    Stage stage;
    uint8_t **buf; /* the caller's */
    size_t *cap;
    size_t len;
    size_t max_bytes;
    const ObjectContainer *container; /* borrowed: knows the length as soon as anybody does */
} ObjectPayloadSink;

/* Makes room for need bytes, and for the whole payload if its length is known. */
static int
object_payload_reserve(ObjectPayloadSink *s, size_t need, Error *err)
{
    size_t bytes = MAX(need, (size_t) OBJECT_PAYLOAD_FIRST_BYTES);

    if (need <= *s->cap)
        return 0;
    if (s->container->has_label)
        bytes = MAX(bytes, (size_t) s->container->label.plain_bytes);
    else if (*s->cap <= s->max_bytes / 2)
        bytes = MAX(bytes, 2 * *s->cap);
    else
        bytes = MAX(bytes, s->max_bytes);

    uint8_t *larger = fs_alloc_io(bytes);

    if (larger == NULL)
        return error_nomem(err);
    if (s->len > 0)
        memcpy(larger, *s->buf, s->len);
    free(*s->buf);
    *s->buf = larger;
    *s->cap = bytes;
    return 0;
}

static int
object_payload_sink_write(Stage *st, const void *buf, size_t len, Error *err)
{
    ObjectPayloadSink *s = (ObjectPayloadSink *) st;

    if (len > s->max_bytes - s->len)
        return error_set(
            err, ERROR_CORRUPT, "it has more than the %zu bytes expected", s->max_bytes);
    if (object_payload_reserve(s, s->len + len, err) < 0)
        return -1;
    memcpy(*s->buf + s->len, buf, len);
    s->len += len;
    return 0;
}

static const StageOps object_payload_sink_ops = {
    .name = "payload",
    .write = object_payload_sink_write,
};

int
object_get_payload(
    Store *store, const char *key, const AgeIdentities *ids, size_t max_bytes, uint8_t **buf,
    size_t *cap, size_t *len, const Deadline *dl, ObjectLabel *label, Error *err)
{
    ObjectPayloadSink sink = {.buf = buf, .cap = cap, .max_bytes = max_bytes};
    AUTO(stage_freep) Stage *chain = NULL;
    uint8_t sha256[SHA256_BYTES];

    stage_init(&sink.stage, &object_payload_sink_ops, NULL);
    if (object_container_new(
            key, ids, OBJECT_VERSION_PAYLOAD, max_bytes, &sink.stage, &chain, err) < 0)
        return -1;
    sink.container = (const ObjectContainer *) chain;
    if (object_get_chain(store, key, chain, dl, err) < 0)
        return -1;
    if (crypto_sha256(
            (ByteView){sink.len > 0 ? *buf : (const uint8_t *) "", sink.len}, sha256, err) < 0 ||
        object_check_bytes(sink.container, sink.len, sha256, err) < 0)
        return error_wrap(err, "could not read object \"%s\"", key);
    *len = sink.len;
    if (label != NULL)
        *label = sink.container->label;
    return 0;
}

int
object_get_payload_to(
    Store *store, const char *key, const AgeIdentities *ids, uint64_t max_bytes, Stage *sink,
    const Deadline *dl, Error *err)
{
    return object_get_checked(
        store, key, ids, OBJECT_VERSION_PAYLOAD, max_bytes, sink, dl, NULL, err);
}
