/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The log on stderr, one line an event, text or JSON:
 *   2026-03-01 09:14:07.120 UTC [4711] walpush: ERROR:  could not ...
 * then optional DETAIL: and HINT: lines. A line is written with one write(2), so that lines of
 * several processes do not mix. Libraries do not log; the place that ends the handling does.
 */
#ifndef WALSTREAM_LOG_H
#define WALSTREAM_LOG_H

#include "common/error.h"

typedef enum LogLevel
{
    LOG_DEBUG,
    LOG_INFO,
    LOG_WARNING,
    LOG_ERROR,
    LOG_FATAL
} LogLevel;

typedef enum LogFormat
{
    LOG_FORMAT_TEXT,
    LOG_FORMAT_JSON
} LogFormat;

/* program is borrowed for life. Default: INFO, text. Thread-safe after this call. */
void log_open(const char *program, LogLevel least, LogFormat format);
void log_set_level(LogLevel least);

/* "debug", "info", "warning", "error"; "text", "json". False, *out alone, on anything else. */
MUST_CHECK bool log_parse_level(const char *text, LogLevel *out);
MUST_CHECK bool log_parse_format(const char *text, LogFormat *out);

void log_write(LogLevel level, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Message from err, with its hint as a HINT: line. */
void log_error(LogLevel level, const Error *err);

#endif
