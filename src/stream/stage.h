/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A chain that data is pushed through: source, digest, compress, encrypt, sink; the reverse for
 * reading. A stage embeds Stage first, owns its successor and never looks further than that.
 *
 *   new --> OPEN --stage_write*--> OPEN --stage_finish--> FINISHED
 *             \------- any failure -------> FAILED           (only stage_free is allowed then)
 *
 * Nothing is visible at the destination before the sink's finish has returned 0.
 */
#ifndef WALSTREAM_STAGE_H
#define WALSTREAM_STAGE_H

#include "common/strbuf.h"

typedef enum StageState
{
    STAGE_OPEN,
    STAGE_FINISHED,
    STAGE_FAILED
} StageState;

typedef struct Stage Stage;

typedef struct StageOps
{
    const char *name;
    int (*write)(Stage *st, const void *buf, size_t len, Error *err); /* takes all of it or fails */
    /* drain own state into next; a sink commits. NULL: there is nothing to do */
    int (*finish)(Stage *st, Error *err);
    /* frees itself, not next; unfinished means discarded. NULL: it is the caller's memory */
    void (*destroy)(Stage *st);
} StageOps;

struct Stage
{
    const StageOps *ops;
    Stage *next; /* owned; NULL for a sink */
    StageState state;
    uint64_t bytes_in;
};

/* Fills the embedded part; takes ownership of next. */
void stage_init(Stage *st, const StageOps *ops, Stage *next);

/* buf is the caller's and valid for the call only. len 0 is allowed and does nothing. */
MUST_CHECK int stage_write(Stage *st, const void *buf, size_t len, Error *err);

/* Walks from st to the sink: each drains into the next, then the next is finished. */
MUST_CHECK int stage_finish(Stage *st, Error *err);

/* Destroys st and everything behind it; NULL is fine. */
void stage_free(Stage *st);
DEFINE_AUTO(Stage, stage_free);

/* ---- stages that belong to no codec ---- */
/* As everywhere: a constructor that fails leaves next with the caller. */

/* SHA-256 and byte count of what passes; next may be NULL (then it is a sink). */
MUST_CHECK int stage_digest_new(Stage *next, Stage **out, Error *err);
/*
 * The same, with a thread that digests what is written while next takes it: for a program that does
 * one thing at a time. Worth it for writes of hundreds of KiB.
 */
MUST_CHECK int stage_digest_new_parallel(Stage *next, Stage **out, Error *err);
/* Valid after finish; 32 bytes, borrowed. */
const uint8_t *stage_digest_sha256(const Stage *st);

/*
 * Lets exactly [skip, skip + len) of what passes through to next, and fails with CORRUPT at finish
 * when less than that came; len UINT64_MAX: to the end, wherever that is.
 */
MUST_CHECK int stage_slice_new(uint64_t skip, uint64_t len, Stage *next, Stage **out, Error *err);

/* Sinks. The descriptor is borrowed; finish syncs nothing. "what" is copied for messages. */
MUST_CHECK int stage_fd_sink_new(int fd, const char *what, Stage **out, Error *err);

/* Into caller's memory; CORRUPT if more than cap arrives. *len is set to 0, then follows each
 * write. */
MUST_CHECK int stage_memory_sink_new(void *buf, size_t cap, size_t *len, Stage **out, Error *err);

/* Appends to text, which is borrowed and has its own maximum. */
MUST_CHECK int stage_strbuf_sink_new(StrBuf *text, Stage **out, Error *err);

#endif
