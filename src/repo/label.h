/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The label of an object as text (FORMAT.md, "Label"):
 *
 *   1 <key> <plain size, 16 hex> <SHA-256, 64 hex> [<key ids>]
 *   2 <key> <payload size, 16 hex> <SHA-256 of the payload, 64 hex> [<key ids>]
 *
 * Its length depends on key and key ids alone, so that room for it can be left before the data is
 * known.
 */
#ifndef WALSTREAM_LABEL_H
#define WALSTREAM_LABEL_H

#include "repo/object.h"

/* Length of the text, without a NUL. */
size_t label_text_len(const ObjectLabel *label);

/* Into buf of OBJECT_LABEL_MAX bytes; version, key and key ids must be valid. Returns buf. */
char *label_format(const ObjectLabel *label, char *buf);

/*
 * Strict. text need not be terminated. Whether there must be key ids or must be none is told by
 * encrypted, which is where the text was found. CORRUPT.
 */
MUST_CHECK int
label_parse(const char *text, size_t len, bool encrypted, ObjectLabel *out, Error *err);

/* 1 .. LAYOUT_KEY_MAX - 1 bytes of [A-Za-z0-9._-/], no empty component. */
bool label_key_valid(const char *key);

/* Comma-separated ids of 16 lower-case hex digits. */
bool label_key_ids_valid(const char *ids);

/* ---- the skippable frame that carries the label of an object that is not encrypted ---- */

#define LABEL_FRAME_HEADER_BYTES 18 /* magic, length, "walstream " */
#define LABEL_FRAME_MAX (LABEL_FRAME_HEADER_BYTES + OBJECT_LABEL_MAX)

size_t label_frame_bytes(const ObjectLabel *label);
/* Exactly label_frame_bytes(label) bytes into out of LABEL_FRAME_MAX; returns that. */
size_t label_frame_format(const ObjectLabel *label, uint8_t *out);

/*
 * The frame at the front of data.
 *
 * 1 and *frame_bytes   read; the codec's frames begin there
 * 0                    good so far, but more bytes are needed (never beyond LABEL_FRAME_MAX)
 * -1                   CORRUPT: no such frame
 */
MUST_CHECK int
label_frame_parse(const void *data, size_t len, ObjectLabel *out, size_t *frame_bytes, Error *err);

#endif
