/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The container of every object (FORMAT.md, "Objects"):
 *
 *   plain      skippable frame with the label, then an lz4 or zstd frame
 *   encrypted  age file whose header has the label as a stanza "walstream", payload: the frame
 *
 * The label is one line: format version, key of the object, size, SHA-256 and (encrypted) key ids.
 * It can be read without a key, so that a host which can only add is able to tell "same bytes" from
 * "other bytes". Size and digest are those of the plain bytes (version 1: WAL, small objects), or
 * of the frames as they are stored, before encryption (version 2: parts and manifests of backups).
 * Each version has its own functions for writing and reading; labels of both can be peeked at.
 */
#ifndef WALSTREAM_OBJECT_H
#define WALSTREAM_OBJECT_H

#include "crypto/age.h"
#include "repo/layout.h"
#include "store/store.h"
#include "stream/chunk.h"
#include "stream/codec.h"

#define SHA256_BYTES 32
#define OBJECT_LABEL_MAX 768
#define OBJECT_PEEK_BYTES 4096
#define OBJECT_KEY_IDS_MAX (AGE_RECIPIENTS_MAX * (2 * AGE_KEY_ID_BYTES + 1))

/* How objects are written. Borrowed by writers. */
typedef struct ObjectFormat
{
    CodecSpec codec;
    const AgeRecipients *recipients; /* X25519 only; NULL: not encrypted */
    bool parallel_digest; /* a thread more per writer: for programs that write one object at a time
                           */
} ObjectFormat;

/* What size and digest of a label are of. */
#define OBJECT_VERSION_PLAIN 1
#define OBJECT_VERSION_PAYLOAD 2

typedef struct ObjectLabel
{
    int version;
    char key[LAYOUT_KEY_MAX];
    uint64_t plain_bytes; /* of a version 2: of the payload */
    uint8_t sha256[SHA256_BYTES];
    char key_ids[OBJECT_KEY_IDS_MAX]; /* "" when not encrypted */
    bool encrypted;
} ObjectLabel;

/* ---- writing ---- */
typedef struct ObjectWriter ObjectWriter;

/*
 * key becomes part of the label. plain_bytes_hint sizes the codec. out is borrowed, empty, and
 * holds the finished object after object_writer_finish.
 */
MUST_CHECK int object_writer_new(
    const ObjectFormat *format, const char *key, uint64_t plain_bytes_hint, ChunkBuf *out,
    ObjectWriter **writer, Error *err);
MUST_CHECK int object_writer_write(ObjectWriter *w, const void *data, size_t len, Error *err);
MUST_CHECK int object_writer_finish(ObjectWriter *w, ObjectLabel *label, Error *err);
void object_writer_free(ObjectWriter *w);
DEFINE_AUTO(ObjectWriter, object_writer_free);

/* What object_put_new answers beside success. */
typedef enum ObjectPutResult
{
    OBJECT_CREATED,
    OBJECT_SAME /* it was there already, with the same plain bytes */
} ObjectPutResult;

/*
 * Creates the object; when the key is taken, compares digest and size of the labels. CONFLICT if
 * they differ, naming both digests, or if the labels are of different versions.
 */
MUST_CHECK int object_put(
    Store *store, const ObjectLabel *label, const ChunkBuf *body, const Deadline *dl,
    ObjectPutResult *result, Error *err);

/* Encodes a small object from memory and puts it. */
MUST_CHECK int object_put_bytes(
    Store *store, const ObjectFormat *format, const char *key, const void *data, size_t len,
    const Deadline *dl, ObjectPutResult *result, Error *err);

/* ---- writing version 2: frames that the caller has made ---- */

/* An object ready to be put; {0} before its first use. */
typedef struct ObjectSealed
{
    ObjectLabel label;
    struct iovec iov[2]; /* label and payload; encrypted: everything in the first */
    uint8_t *owned;      /* kept for the next object_seal */
    size_t owned_bytes;
    uint64_t bytes; /* of the object */
} ObjectSealed;

/*
 * Labels payload, and encrypts it into memory of its own when there are recipients (X25519 only);
 * without (NULL) payload is borrowed as long as out is used. out may have been used before.
 */
MUST_CHECK int object_seal(
    const AgeRecipients *recipients, const char *key, const void *payload, size_t len,
    ObjectSealed *out, Error *err);
void object_sealed_reset(ObjectSealed *s); /* fit for AUTO */
/* As object_put. */
MUST_CHECK int object_put_sealed(
    Store *store, const ObjectSealed *s, const Deadline *dl, ObjectPutResult *result, Error *err);

/* ---- reading ---- */
/*
 * The label, of either version, by a range read, without a key. NOT_FOUND; CORRUPT if it names
 * another key.
 */
MUST_CHECK int
object_peek(Store *store, const char *key, const Deadline *dl, ObjectLabel *label, Error *err);

/*
 * Sends the plain bytes through sink and finishes it, after size and SHA-256 were found right.
 * (Bytes reach sink before that: a sink must make nothing visible before its finish.)
 * max_plain_bytes bounds the expansion. sink is borrowed; not finished when this fails. CORRUPT for
 * an object with a label of version 2.
 *
 * ids      NULL or empty when there are none; DENIED then for an encrypted object
 * label    may be NULL
 */
MUST_CHECK int object_get(
    Store *store, const char *key, const AgeIdentities *ids, uint64_t max_plain_bytes, Stage *sink,
    const Deadline *dl, ObjectLabel *label, Error *err);

/* A small one into memory, NUL-terminated; *out is the caller's (free). */
MUST_CHECK int object_get_bytes(
    Store *store, const char *key, const AgeIdentities *ids, size_t max_plain_bytes, char **out,
    size_t *len, const Deadline *dl, Error *err);

/*
 * The payload of a version 2 object, whole, decrypted; authenticity, size and SHA-256 were found
 * right. CORRUPT for an object with a label of version 1; DENIED as object_get.
 *
 * max_bytes  of payload: bounds what is read
 * buf, cap   memory that the caller keeps from call to call and free()s at last; NULL and 0 at
 *            first. It grows as needed. Its contents after a failure are not to be used.
 * label      may be NULL
 */
MUST_CHECK int object_get_payload(
    Store *store, const char *key, const AgeIdentities *ids, size_t max_bytes, uint8_t **buf,
    size_t *cap, size_t *len, const Deadline *dl, ObjectLabel *label, Error *err);

/*
 * The same through sink, which is finished after all was found right, as object_get does it: for a
 * payload that is not to be in memory.
 */
MUST_CHECK int object_get_payload_to(
    Store *store, const char *key, const AgeIdentities *ids, uint64_t max_bytes, Stage *sink,
    const Deadline *dl, Error *err);

#endif
