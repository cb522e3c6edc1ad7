/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Bech32 (BIP 173, not Bech32m), in which age writes keys: a readable prefix, '1', the bytes in
 * groups of five bits, six characters of checksum. All lower or all upper case. age lifts the
 * limit of 90 characters; here BECH32_TEXT_MAX holds.
 *
 * What is decoded may be a secret: messages quote nothing, and buffers are wiped.
 */
#ifndef WALSTREAM_BECH32_H
#define WALSTREAM_BECH32_H

#include "common/error.h"

#define BECH32_TEXT_MAX 256

/*
 * hrp gets the prefix as it is written, NUL-terminated. USAGE says what is wrong: characters,
 * mixed case, checksum, padding bits, prefix or data larger than the room for it.
 */
MUST_CHECK int bech32_decode(
    const char *text, char *hrp, size_t hrp_cap, uint8_t *data, size_t data_cap, size_t *data_len,
    Error *err);

/*
 * Writes NUL-terminated text in the case of hrp, whose letters must be of one case. USAGE when it
 * needs more than out_cap bytes.
 */
MUST_CHECK int bech32_encode(
    const char *hrp, const uint8_t *data, size_t data_len, char *out, size_t out_cap, Error *err);

#endif
