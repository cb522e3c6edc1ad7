/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Standard base64 (RFC 4648, 4), canonical only: exactly one text stands for given bytes. age uses
 * it without padding in headers and with padding in armor.
 */
#ifndef WALSTREAM_BASE64_H
#define WALSTREAM_BASE64_H

#include "common/compiler.h"

/* Characters for len bytes without padding. */
#define BASE64_RAW_LEN(len) (((len) *4 + 2) / 3)

/* Writes BASE64_RAW_LEN(len) characters without NUL; returns how many. */
size_t base64_encode_raw(const uint8_t *data, size_t len, char *out);

/*
 * False on a foreign character, a length that cannot be, bits that are not zero behind the last
 * byte, padding where none belongs, or more than cap bytes.
 */
MUST_CHECK bool
base64_decode_raw(const char *text, size_t text_len, uint8_t *out, size_t cap, size_t *len);
MUST_CHECK bool
base64_decode_padded(const char *text, size_t text_len, uint8_t *out, size_t cap, size_t *len);

#endif
