/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The log on stderr; see log.h.
 */
#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/utf8.h"

#define LOG_MESSAGE_BYTES 2048
/* escaped as JSON a byte is at most six; the rest is hint, time, process id, level and names */
#define LOG_EVENT_BYTES 16384

static_assert(
    LOG_MESSAGE_BYTES * 6 + sizeof(((Error *) NULL)->hint) * 6 + 1024 <= LOG_EVENT_BYTES,
    "every event fits");

static const char *log_program = "walstream";
static LogFormat log_format = LOG_FORMAT_TEXT;
static atomic_int log_least = LOG_INFO;

typedef struct LogEvent
{
    char buf[LOG_EVENT_BYTES];
    size_t len;
} LogEvent;

void
log_open(const char *program, LogLevel least, LogFormat format)
{
    log_program = program;
    log_format = format;
    log_set_level(least);
}

void
log_set_level(LogLevel least)
{
    atomic_store_explicit(&log_least, (int) least, memory_order_relaxed);
}

static const char *
log_level_name(LogLevel level)
{
    switch (level)
    {
        case LOG_DEBUG:
            return "DEBUG";
        case LOG_INFO:
            return "INFO";
        case LOG_WARNING:
            return "WARNING";
        case LOG_ERROR:
            return "ERROR";
        case LOG_FATAL:
            return "FATAL";
    }
    return "LOG";
}

bool
log_parse_level(const char *text, LogLevel *out)
{
    static const char *const names[] = {"debug", "info", "warning", "error"};

    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
    {
        if (strcmp(text, names[i]) == 0)
        {
            *out = (LogLevel) i;
            return true;
        }
    }
    return false;
}

bool
log_parse_format(const char *text, LogFormat *out)
{
    if (strcmp(text, "text") == 0)
        *out = LOG_FORMAT_TEXT;
    else if (strcmp(text, "json") == 0)
        *out = LOG_FORMAT_JSON;
    else
        return false;
    return true;
}

/* Both appenders leave room for the NUL; what would not fit is cut off. */
static void
log_put(LogEvent *ev, const char *text, size_t len)
{
    len = MIN(len, sizeof ev->buf - 1 - ev->len);
    memcpy(ev->buf + ev->len, text, len);
    ev->len += len;
}

PRINTF_LIKE(2, 3)
static void
log_printf(LogEvent *ev, const char *fmt, ...)
{
    va_list ap;
    size_t room = sizeof ev->buf - ev->len;

    va_start(ap, fmt);

    int n = vsnprintf(ev->buf + ev->len, room, fmt, ap);

    va_end(ap);
    if (n > 0)
        ev->len += MIN((size_t) n, room - 1);
}

/* A message is one line whatever is in it: libpq's have line ends, and a name may be hostile. */
static void
log_put_line(LogEvent *ev, const char *text)
{
    size_t len = strlen(text);

    while (len > 0 && (text[len - 1] == '\n' || text[len - 1] == ' '))
        len--;
    for (size_t i = 0; i < len; i++)
    {
        char c = text[i];

        if (c == '\n' || c == '\t' || c == '\r')
            c = ' ';
        else if ((unsigned char) c < 0x20 || c == 0x7f)
            c = '?';
        log_put(ev, &c, 1);
    }
}

static void
log_put_json(LogEvent *ev, const char *text)
{
    log_put(ev, "\"", 1);
    while (*text != '\0')
    {
        size_t len = utf8_length(text);

        if (len == 0)
        {
            log_printf(ev, "\\ufffd");
            text++;
            continue;
        }
        if (*text == '"' || *text == '\\')
            log_printf(ev, "\\%c", *text);
        else if (*text == '\n')
            log_printf(ev, "\\n");
        else if ((unsigned char) *text < 0x20 || *text == 0x7f)
            log_printf(ev, "\\u%04x", (unsigned) (unsigned char) *text);
        else
            log_put(ev, text, len);
        text += len;
    }
    log_put(ev, "\"", 1);
}

static void
log_event_text(LogEvent *ev, LogLevel level, const char *msg, const char *hint)
{
    char when[32];
    int pid = (int) getpid();

    (void) clock_format_utc(clock_wall_us(), when, sizeof when);
    log_printf(ev, "%s [%d] %.64s: %s:  ", when, pid, log_program, log_level_name(level));
    log_put_line(ev, msg);
    log_put(ev, "\n", 1);
    if (hint == NULL || hint[0] == '\0')
        return;
    log_printf(ev, "%s [%d] %.64s: HINT:  ", when, pid, log_program);
    log_put_line(ev, hint);
    log_put(ev, "\n", 1);
}

static void
log_event_json(LogEvent *ev, LogLevel level, const char *msg, const char *kind, const char *hint)
{
    char when[32];

    (void) clock_format_iso(clock_wall_us(), when, sizeof when);
    log_printf(
        ev, "{\"timestamp\":\"%s\",\"pid\":%d,\"program\":\"%.64s\",\"level\":\"%s\",\"message\":",
        when, (int) getpid(), log_program, log_level_name(level));
    log_put_json(ev, msg);
    if (kind != NULL)
        log_printf(ev, ",\"kind\":\"%s\"", kind);
    if (hint != NULL && hint[0] != '\0')
    {
        log_printf(ev, ",\"hint\":");
        log_put_json(ev, hint);
    }
    log_printf(ev, "}\n");
}

static bool
log_wants(LogLevel level)
{
    return (int) level >= atomic_load_explicit(&log_least, memory_order_relaxed);
}

static void
log_emit(LogLevel level, const char *msg, const char *kind, const char *hint)
{
    LogEvent ev;
    int saved = errno;
    ssize_t n;

    ev.len = 0;
    if (log_format == LOG_FORMAT_JSON)
        log_event_json(&ev, level, msg, kind, hint);
    else
        log_event_text(&ev, level, msg, hint);

    /* one write an event; when the log itself cannot be written there is no one left to tell */
    do
        n = write(STDERR_FILENO, ev.buf, ev.len);
    while (n < 0 && errno == EINTR);
    errno = saved;
}

void
log_write(LogLevel level, const char *fmt, ...)
{
    char msg[LOG_MESSAGE_BYTES];
    va_list ap;

    if (!log_wants(level))
        return;
    va_start(ap, fmt);
    (void) vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    log_emit(level, msg, NULL, NULL);
}

void
log_error(LogLevel level, const Error *err)
{
    if (log_wants(level))
        log_emit(level, err->msg, error_kind_name(err->kind), err->hint);
}
