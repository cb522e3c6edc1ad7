/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Progress on stderr; see progress.h.
 */
#include "common/progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"

#define PROGRESS_DRAW_MS 200
#define PROGRESS_LOG_MS 60000
#define PROGRESS_BAR_MIN 10
#define PROGRESS_BAR_MAX 40
#define PROGRESS_RATE_FROM_MS 500 /* before that a rate is a guess */

static void
progress_format_amount(double bytes, const char *suffix, char *buf, size_t len)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t unit = 0;

    while (bytes >= 1024 && unit + 1 < ARRAY_COUNT(units))
    {
        bytes /= 1024;
        unit++;
    }
    (void) snprintf(buf, len, "%.*f %s%s", unit == 0 ? 0 : 1, bytes, units[unit], suffix);
}

/* "4 s", "3 min 20 s", "5 h 02 min" */
static void
progress_format_time(int64_t seconds, char *buf, size_t len)
{
    if (seconds < 60)
        (void) snprintf(buf, len, "%" PRId64 " s", seconds);
    else if (seconds < 3600)
        (void) snprintf(buf, len, "%" PRId64 " min %02" PRId64 " s", seconds / 60, seconds % 60);
    else
        (void) snprintf(
            buf, len, "%" PRId64 " h %02" PRId64 " min", seconds / 3600, seconds % 3600 / 60);
}

char *
progress_format(const ProgressState *state, char *buf)
{
    char done[32], rate[32] = "", left[48] = "", text[PROGRESS_TEXT_MAX];
    char bar[PROGRESS_BAR_MAX + 4] = "";
    int percent = 100;
    int room;

    if (state->total_bytes > 0)
        percent =
            (int) (100.0 * (double) MIN(state->bytes, state->total_bytes) / (double) state->total_bytes);
    progress_format_amount((double) state->bytes, "", done, sizeof done);
    if (state->elapsed_ms >= PROGRESS_RATE_FROM_MS && state->bytes > 0)
    {
        double per_s = (double) state->bytes * 1000 / (double) state->elapsed_ms;
        char time[32];

        progress_format_amount(per_s, "/s", rate, sizeof rate);
        if (state->bytes < state->total_bytes)
        {
            progress_format_time(
                (int64_t) ((double) (state->total_bytes - state->bytes) / per_s) + 1, time,
                sizeof time);
            (void) snprintf(left, sizeof left, ", %s left", time);
        }
    }
    (void) snprintf(
        text, sizeof text, "%3d %%, %" PRIu64 " objects, %s%s%s%s", percent, state->items, done,
        rate[0] != '\0' ? ", " : "", rate, left);

    /* the bar takes what the rest leaves */
    room = state->width - (int) strlen(state->what) - (int) strlen(text) - 5;
    if (state->width > 0 && room >= PROGRESS_BAR_MIN)
    {
        int cells = MIN(room, PROGRESS_BAR_MAX);

        bar[0] = ' ';
        bar[1] = '[';
        for (int i = 0; i < cells; i++)
            bar[2 + i] = i * 100 < percent * cells ? '#' : '.';
        bar[2 + cells] = ']';
        bar[3 + cells] = '\0';
    }
    (void) snprintf(buf, PROGRESS_TEXT_MAX, "%.80s%s %.120s", state->what, bar, text);
    if (state->width > 0 && state->width < PROGRESS_TEXT_MAX)
        buf[state->width] = '\0';
    return buf;
}

static int
progress_terminal_width(void)
{
    struct winsize size;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col < 20)
        return 79;
    return MIN(size.ws_col - 1, PROGRESS_TEXT_MAX - 1);
}

void
progress_begin(Progress *p, const char *what, uint64_t total_bytes)
{
    *p = (Progress){.what = what, .total_bytes = total_bytes};
    p->terminal = isatty(STDERR_FILENO) == 1;
    p->begin_ms = clock_monotonic_ms();
    p->next_ms = p->begin_ms + (p->terminal ? PROGRESS_DRAW_MS : PROGRESS_LOG_MS);
}

void
progress_add(Progress *p, uint64_t bytes, uint64_t items)
{
    (void) atomic_fetch_add_explicit(&p->bytes, bytes, memory_order_relaxed);
    (void) atomic_fetch_add_explicit(&p->items, items, memory_order_relaxed);
}

void
progress_show(Progress *p)
{
    int64_t now = clock_monotonic_ms();
    ProgressState state = {
        .what = p->what,
        .bytes = atomic_load_explicit(&p->bytes, memory_order_relaxed),
        .items = atomic_load_explicit(&p->items, memory_order_relaxed),
        .total_bytes = p->total_bytes,
        .elapsed_ms = now - p->begin_ms};
    char text[PROGRESS_TEXT_MAX];

    if (now < p->next_ms)
        return;
    p->next_ms = now + (p->terminal ? PROGRESS_DRAW_MS : PROGRESS_LOG_MS);
    if (!p->terminal)
    {
        log_write(LOG_INFO, "%s", progress_format(&state, text));
        return;
    }
    state.width = progress_terminal_width();
    (void) fprintf(stderr, "\r%s\033[K", progress_format(&state, text));
    (void) fflush(stderr);
    p->drawn = true;
}

void
progress_end(Progress *p)
{
    if (!p->drawn)
        return;
    (void) fprintf(stderr, "\r\033[K");
    (void) fflush(stderr);
    p->drawn = false;
}
