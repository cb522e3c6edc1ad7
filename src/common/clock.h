/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Time: monotonic milliseconds for intervals, wall-clock microseconds for display, and the Deadline
 * that every call which may wait takes. Nothing in walstream waits without one.
 */
#ifndef WALSTREAM_CLOCK_H
#define WALSTREAM_CLOCK_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/error.h"

/* Milliseconds of CLOCK_MONOTONIC. */
int64_t clock_monotonic_ms(void);

/* Microseconds of CLOCK_MONOTONIC, for measuring. */
int64_t clock_monotonic_us(void);

/* Microseconds since 1970-01-01 UTC. */
int64_t clock_wall_us(void);

/* "2026-03-01 09:14:07.120 UTC" of microseconds since 1970; needs 32 bytes. Returns buf. */
char *clock_format_utc(int64_t wall_us, char *buf, size_t len);

/* "2026-03-01T09:14:07.120000Z" for JSON and objects; needs 32 bytes. Returns buf. */
char *clock_format_iso(int64_t wall_us, char *buf, size_t len);

/* Reads exactly what clock_format_iso writes. */
MUST_CHECK bool clock_parse_iso(const char *text, int64_t *wall_us);

/* "20260301T091407Z" for names: years 1970 to 9999, whole seconds; needs 32 bytes. Returns buf. */
char *clock_format_compact(int64_t wall_us, char *buf, size_t len);
/* Reads exactly what clock_format_compact writes. */
MUST_CHECK bool clock_parse_compact(const char *text, int64_t *wall_us);

/* Sleeps up to ms; returns early on a signal. */
void clock_sleep_ms(int64_t ms);

typedef struct Deadline
{
    int64_t at_ms;             /* on the monotonic clock; INT64_MAX: never by time */
    const atomic_bool *cancel; /* borrowed; may be NULL; true makes the call stop with CANCELED */
} Deadline;

/* From now; timeout_ms < 0 means never by time. */
Deadline deadline_after_ms(int64_t timeout_ms, const atomic_bool *cancel);

/* Milliseconds left, 0 when passed or canceled, INT64_MAX when there is no limit. */
int64_t deadline_left_ms(const Deadline *dl);

/* 0 while there is time; else TIMEOUT or CANCELED, "what" naming what was waited for. */
MUST_CHECK int deadline_check(const Deadline *dl, const char *what, Error *err);

/* The earlier of dl and now + ms, same cancel flag. */
Deadline deadline_sooner(const Deadline *dl, int64_t ms);

/* Sleeps ms or until the deadline, looking at the cancel flag at least every 100 ms. */
void deadline_sleep_ms(const Deadline *dl, int64_t ms);

/* A condition variable on the monotonic clock; 0 or an errno, as pthread_cond_init. */
int clock_cond_init(pthread_cond_t *cond);

/*
 * One wait on cond (made by clock_cond_init) within the deadline, at most 100 ms, so that the
 * cancel flag is seen. The caller loops over its predicate and deadline_check.
 */
void deadline_cond_wait(const Deadline *dl, pthread_cond_t *cond, pthread_mutex_t *lock);

#endif
