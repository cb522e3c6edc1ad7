/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * How far long work has come: on a terminal a bar with rate and time left, drawn again and again on
 * one line of stderr; elsewhere a line of the log a minute.
 */
#ifndef WALSTREAM_PROGRESS_H
#define WALSTREAM_PROGRESS_H

#include <stdatomic.h>
#include <stdint.h>

#include "common/compiler.h"

#define PROGRESS_TEXT_MAX 256

typedef struct Progress
{
    const char *what; /* "verifying WAL"; borrowed */
    uint64_t total_bytes;
    atomic_uint_fast64_t bytes; /* done; counted by any thread */
    atomic_uint_fast64_t items;
    bool terminal;
    bool drawn; /* something stands on the terminal's line */
    int64_t begin_ms;
    int64_t next_ms; /* when to show it again */
} Progress;

/* Total in bytes; more may be done than was thought. */
void progress_begin(Progress *p, const char *what, uint64_t total_bytes);

/* From any thread. */
void progress_add(Progress *p, uint64_t bytes, uint64_t items);

/* Shows it if it is time; often, from one thread. */
void progress_show(Progress *p);

/* Takes the bar from the terminal. */
void progress_end(Progress *p);

/* ---- the text alone ---- */

typedef struct ProgressState
{
    const char *what;
    uint64_t bytes, total_bytes, items;
    int64_t elapsed_ms;
    int width; /* of the terminal; 0: no bar */
} ProgressState;

/* buf of PROGRESS_TEXT_MAX bytes; never longer than width when there is one. Returns buf. */
char *progress_format(const ProgressState *state, char *buf);

#endif
