/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Bytes that must be kept until it is known what becomes of them: in memory up to a bound, behind
 * that in a file without a name, which is gone when we are, however we end.
 */
#ifndef WALBACKUP_SPILL_H
#define WALBACKUP_SPILL_H

#include "common/error.h"

#define SPILL_MEMORY_BYTES (16u * 1024u * 1024u)

typedef struct Spill
{
    const char *dir; /* borrowed: where the file is made */
    size_t max;      /* bytes in memory */
    uint8_t *data;   /* owned */
    size_t used;
    size_t cap;
    int fd; /* -1: not needed so far */
    uint64_t file_bytes;
} Spill;

void spill_init(Spill *spill, const char *dir, size_t max);
void spill_reset(Spill *spill); /* fit for AUTO */
void spill_clear(Spill *spill); /* empty again; memory and file are kept */

uint64_t spill_bytes(const Spill *spill);
MUST_CHECK int spill_append(Spill *spill, const void *data, size_t len, Error *err);
/* All of it to fn, in order, in portions of up to 256 KiB. */
MUST_CHECK int spill_replay(
    Spill *spill, int (*fn)(void *ctx, const void *data, size_t len, Error *err), void *ctx,
    Error *err);

#endif
