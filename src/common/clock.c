/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Clocks and deadlines; see clock.h.
 */
#include "common/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t
clock_read_ns(clockid_t id)
{
    struct timespec ts;

    /* cannot fail for the two clocks we ask for */
    (void) clock_gettime(id, &ts);
    return (int64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t
clock_monotonic_ms(void)
{
    return clock_read_ns(CLOCK_MONOTONIC) / 1000000;
}

int64_t
clock_monotonic_us(void)
{
    return clock_read_ns(CLOCK_MONOTONIC) / 1000;
}

int64_t
clock_wall_us(void)
{
    return clock_read_ns(CLOCK_REALTIME) / 1000;
}

/* Splits into broken-down UTC and the microseconds of the second, which are never negative. */
static int
clock_split_utc(int64_t wall_us, struct tm *tm)
{
    time_t seconds = (time_t) (wall_us / 1000000);
    int micros = (int) (wall_us % 1000000);

    if (micros < 0)
    {
        micros += 1000000;
        seconds--;
    }
    (void) gmtime_r(&seconds, tm);
    return micros;
}

char *
clock_format_utc(int64_t wall_us, char *buf, size_t len)
{
    struct tm tm = {0};
    int micros = clock_split_utc(wall_us, &tm);

    (void) snprintf(
        buf, len, "%04d-%02d-%02d %02d:%02d:%02d.%03d UTC", tm.tm_year + 1900, tm.tm_mon + 1,
        tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, micros / 1000);
    return buf;
}

char *
clock_format_iso(int64_t wall_us, char *buf, size_t len)
{
    struct tm tm = {0};
    int micros = clock_split_utc(wall_us, &tm);

    (void) snprintf(
        buf, len, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", tm.tm_year + 1900, tm.tm_mon + 1,
        tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, micros);
    return buf;
}

char *
clock_format_compact(int64_t wall_us, char *buf, size_t len)
{
    struct tm tm = {0};

    (void) clock_split_utc(wall_us, &tm);
    (void) snprintf(
        buf, len, "%04d%02d%02dT%02d%02d%02dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
        tm.tm_hour, tm.tm_min, tm.tm_sec);
    return buf;
}

/*
 * Reads text by a form in which each field is as many of its letter, and everything else stands for
 * itself. Whether such a day and hour exist is not asked here.
 */
static bool
clock_read_fields(const char *text, const char *form, struct tm *tm, int *micros)
{
    if (strlen(text) != strlen(form))
        return false;
    *micros = 0;
    for (size_t i = 0; form[i] != '\0'; i++)
    {
        static const char letters[] = "YMDhmsu";
        int *const fields[] = {
            &tm->tm_year, &tm->tm_mon, &tm->tm_mday, &tm->tm_hour, &tm->tm_min, &tm->tm_sec, micros,
        };
        const char *letter = strchr(letters, form[i]);

        if (letter == NULL)
        {
            if (text[i] != form[i])
                return false;
            continue;
        }
        if (text[i] < '0' || text[i] > '9')
            return false;
        /* at most six digits each */
        int *field = fields[letter - letters];

        *field = *field * 10 + (text[i] - '0');
    }
    tm->tm_year -= 1900;
    tm->tm_mon -= 1;
    return true;
}

/* Microseconds since 1970 of text in that form, if format writes the same text for them. */
static bool
clock_parse(
    const char *text, const char *form, char *(*format)(int64_t wall_us, char *buf, size_t len),
    int64_t *wall_us)
{
    struct tm tm = {0};
    int micros;
    char again[64];

    if (!clock_read_fields(text, form, &tm, &micros))
        return false;

    int64_t value = (int64_t) timegm(&tm) * 1000000 + micros;

    /* a day, hour or second that does not exist has become another one */
    if (strcmp(format(value, again, sizeof again), text) != 0)
        return false;
    *wall_us = value;
    return true;
}

bool
clock_parse_iso(const char *text, int64_t *wall_us)
{
    return clock_parse(text, "YYYY-MM-DDThh:mm:ss.uuuuuuZ", clock_format_iso, wall_us);
}

bool
clock_parse_compact(const char *text, int64_t *wall_us)
{
    return clock_parse(text, "YYYYMMDDThhmmssZ", clock_format_compact, wall_us);
}

void
clock_sleep_ms(int64_t ms)
{
    if (ms <= 0)
        return;

    struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000};

    (void) nanosleep(&ts, NULL);
}

Deadline
deadline_after_ms(int64_t timeout_ms, const atomic_bool *cancel)
{
    Deadline dl = {.at_ms = INT64_MAX, .cancel = cancel};

    if (timeout_ms >= 0 && __builtin_add_overflow(clock_monotonic_ms(), timeout_ms, &dl.at_ms))
        dl.at_ms = INT64_MAX;
    return dl;
}

static bool
deadline_canceled(const Deadline *dl)
{
    return dl->cancel != NULL && atomic_load_explicit(dl->cancel, memory_order_acquire);
}

int64_t
deadline_left_ms(const Deadline *dl)
{
    if (deadline_canceled(dl))
        return 0;
    if (dl->at_ms == INT64_MAX)
        return INT64_MAX;
    return MAX(dl->at_ms - clock_monotonic_ms(), 0);
}

int
deadline_check(const Deadline *dl, const char *what, Error *err)
{
    if (deadline_canceled(dl))
        return error_set(err, ERROR_CANCELED, "%s: canceled", what);
    if (deadline_left_ms(dl) == 0)
        return error_set(err, ERROR_TIMEOUT, "%s: timed out", what);
    return 0;
}

Deadline
deadline_sooner(const Deadline *dl, int64_t ms)
{
    Deadline sooner = deadline_after_ms(ms, dl->cancel);

    sooner.at_ms = MIN(sooner.at_ms, dl->at_ms);
    return sooner;
}

void
deadline_sleep_ms(const Deadline *dl, int64_t ms)
{
    int64_t until = clock_monotonic_ms() + ms;

    for (;;)
    {
        int64_t left = MIN(until - clock_monotonic_ms(), deadline_left_ms(dl));

        if (left <= 0)
            return;
        clock_sleep_ms(MIN(left, 100));
    }
}

int
clock_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    int rc = pthread_condattr_init(&attr);

    if (rc != 0)
        return rc;
    (void) pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    rc = pthread_cond_init(cond, &attr);
    (void) pthread_condattr_destroy(&attr);
    return rc;
}

void
deadline_cond_wait(const Deadline *dl, pthread_cond_t *cond, pthread_mutex_t *lock)
{
    int64_t at_ms = clock_monotonic_ms() + MIN(deadline_left_ms(dl), 100);
    struct timespec until = {.tv_sec = at_ms / 1000, .tv_nsec = (at_ms % 1000) * 1000000};

    (void) pthread_cond_timedwait(cond, lock, &until);
}
