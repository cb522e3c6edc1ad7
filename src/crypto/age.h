/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The age v1 file format (age-encryption.org/v1, C2SP age.md) on OpenSSL: X25519 recipients or one
 * passphrase, payload in 64 KiB chunks, and a stanza of our own, "walstream", which age ignores:
 * it can be read without any key and is protected by the header's MAC.
 *
 * Everything secret is wiped when its owner is freed. Recipients and identities that are filled may
 * be used by several threads at once; an encryption and a stage belong to one.
 */
#ifndef WALSTREAM_AGE_H
#define WALSTREAM_AGE_H

#include "stream/stage.h"

#define AGE_CHUNK_BYTES 65536
#define AGE_TAG_BYTES 16
#define AGE_NONCE_BYTES 16
#define AGE_OWN_ARGS_MAX 768
#define AGE_HEADER_MAX 65536
#define AGE_RECIPIENTS_MAX 16
#define AGE_IDENTITIES_MAX 64
#define AGE_KEY_ID_BYTES 8 /* first bytes of SHA-256 of the 32-byte recipient key; hex in text */

/* ---- whom to encrypt to ---- */
typedef struct AgeRecipients AgeRecipients;

MUST_CHECK int age_recipients_new(AgeRecipients **out, Error *err);
void age_recipients_free(AgeRecipients *r);
DEFINE_AUTO(AgeRecipients, age_recipients_free);
/* "age1..."; USAGE if it is not one (no message quotes it: it might be a secret key in the wrong
 * place). A recipient that is there already is not added again. */
MUST_CHECK int age_recipients_add(AgeRecipients *r, const char *text, Error *err);
/*
 * A passphrase must be the only recipient; log2_n 10..22, 18 as age itself. Such a file cannot have
 * our stanza (age allows no other stanza beside scrypt), and each file costs a scrypt run of its
 * own: this is for identity files, not for objects of a repository.
 */
MUST_CHECK int
age_recipients_set_passphrase(AgeRecipients *r, const char *passphrase, int log2_n, Error *err);
size_t age_recipients_count(const AgeRecipients *r);
/* Comma-separated hex key ids; "scrypt" for a passphrase. Borrowed. */
const char *age_recipients_key_ids(const AgeRecipients *r);

/* ---- what to decrypt with ---- */
typedef struct AgeIdentities AgeIdentities;

MUST_CHECK int age_identities_new(AgeIdentities **out, Error *err);
void age_identities_free(AgeIdentities *ids);
DEFINE_AUTO(AgeIdentities, age_identities_free);
/* "AGE-SECRET-KEY-1..." */
MUST_CHECK int age_identities_add(AgeIdentities *ids, const char *text, Error *err);
MUST_CHECK int
age_identities_set_passphrase(AgeIdentities *ids, const char *passphrase, Error *err);
/* A file as age-keygen writes it: comments, blank lines, one key a line; refused if group or others
 * have access to it (DENIED, with a hint). USAGE if it is an age file itself, has a line that is no
 * secret key, or has no key. */
MUST_CHECK int age_identities_load(AgeIdentities *ids, const char *path, Error *err);
/* The same, and the file may also be protected by a passphrase, as `age -p` does it, armored or
 * not. DENIED if the passphrase is wrong. */
MUST_CHECK int age_identities_load_protected(
    AgeIdentities *ids, const char *path, const char *passphrase, Error *err);
size_t age_identities_count(const AgeIdentities *ids);
/* The recipient of the i-th X25519 identity as "age1...", 63 bytes with NUL. */
MUST_CHECK int
age_identities_recipient(const AgeIdentities *ids, size_t i, char *out, size_t len, Error *err);
/* Whether some identity has this key id (16 hex digits). */
bool age_identities_have_key_id(const AgeIdentities *ids, const char *key_id);

/* A new key pair as text; both NUL-terminated, identity must be wiped by the caller. */
MUST_CHECK int age_keygen(char recipient[64], char identity[80], Error *err);

/* ---- encrypting ---- */
/*
 * The header can only be written when the plain digest is known, that is last, but it stands first:
 * so its length is known beforehand, the caller leaves room and fills it in. own_args are the
 * arguments of our stanza ("1 name size digest ..."), printable ASCII with single blanks, whose
 * length must not change; NULL: no stanza. USAGE for a stanza beside a passphrase.
 */
typedef struct AgeEncryption AgeEncryption;

/* Draws a file key and wraps it for each recipient. */
MUST_CHECK int age_encryption_begin(const AgeRecipients *r, AgeEncryption **out, Error *err);
void age_encryption_free(AgeEncryption *e);
DEFINE_AUTO(AgeEncryption, age_encryption_free);
/* own_args_len 0: no stanza. */
size_t age_encryption_header_bytes(const AgeEncryption *e, size_t own_args_len);
/* Exactly age_encryption_header_bytes(e, strlen(own_args)) bytes into out. Our stanza is first. */
MUST_CHECK int age_encryption_header(
    const AgeEncryption *e, const char *own_args, uint8_t *out, size_t len, Error *err);
/* The payload: nonce and chunks. e is borrowed until the stage is freed; next becomes the stage's
 * on success only. */
MUST_CHECK int age_encryptor_new(const AgeEncryption *e, Stage *next, Stage **out, Error *err);

/* ---- decrypting ---- */
/*
 * Takes a whole age file, header first (armored ones too), and passes the plain bytes on, each
 * chunk only after it was authenticated. CORRUPT for a damaged file, wrong MAC, truncation,
 * trailing bytes; DENIED if no identity fits (hint names the key ids the object was written for).
 * ids is borrowed; next becomes the stage's on success only. own_args, if not NULL, gets the
 * arguments of our stanza once the header is authenticated ("" if there is none). It must stay
 * until the stage is freed.
 */
MUST_CHECK int age_decryptor_new(
    const AgeIdentities *ids, Stage *next, char own_args[AGE_OWN_ARGS_MAX], Stage **out,
    Error *err);

/* Whether these first bytes begin a binary age file. */
bool age_is_age(const void *data, size_t len);

/*
 * Our stanza's arguments from the first bytes of an object, without any key (so not authenticated).
 * NOT_FOUND if it is an age file whose first stanza is another; CORRUPT if it is none or data is
 * too short.
 */
MUST_CHECK int
age_peek_own_args(const void *data, size_t len, char own_args[AGE_OWN_ARGS_MAX], Error *err);

#endif
