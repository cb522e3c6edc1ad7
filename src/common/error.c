/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Errors as values; see error.h.
 */
#define WALSTREAM_ERROR_C
#include "common/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *
error_kind_name(ErrorKind kind)
{
    switch (kind)
    {
        case ERROR_NONE:
            return "none";
        case ERROR_NOT_FOUND:
            return "not found";
        case ERROR_EXISTS:
            return "exists";
        case ERROR_TRANSIENT:
            return "transient";
        case ERROR_TIMEOUT:
            return "timeout";
        case ERROR_DENIED:
            return "denied";
        case ERROR_CONFLICT:
            return "conflict";
        case ERROR_CORRUPT:
            return "corrupt";
        case ERROR_USAGE:
            return "usage";
        case ERROR_IO:
            return "io";
        case ERROR_NOMEM:
            return "out of memory";
        case ERROR_CANCELED:
            return "canceled";
    }
    return "unknown";
}

PRINTF_LIKE(4, 0)
static int
error_fill(Error *err, ErrorKind kind, int sys_errno, const char *fmt, va_list ap)
{
    err->kind = kind;
    err->sys_errno = sys_errno;
    err->hint[0] = '\0';
    (void) vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    return -1;
}

int
error_set(Error *err, ErrorKind kind, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void) error_fill(err, kind, 0, fmt, ap);
    va_end(ap);
    return -1;
}

int
error_sys(Error *err, const char *fmt, ...)
{
    int saved = errno;
    ErrorKind kind = ERROR_IO;
    va_list ap;

    if (saved == ENOENT)
        kind = ERROR_NOT_FOUND;
    else if (saved == EEXIST)
        kind = ERROR_EXISTS;
    else if (saved == EACCES || saved == EPERM)
        kind = ERROR_DENIED;
    else if (saved == ENOMEM)
        kind = ERROR_NOMEM;

    va_start(ap, fmt);
    (void) error_fill(err, kind, saved, fmt, ap);
    va_end(ap);

    char buf[128];
    /* the GNU variant returns the text, which need not be in the buffer */
    const char *reason = strerror_r(saved, buf, sizeof buf);
    size_t reason_len = strnlen(reason, sizeof buf);
    size_t len = strlen(err->msg);

    /* a message that fills the room gives way to the cause */
    len = MIN(len, sizeof err->msg - 1 - 2 - reason_len);
    memcpy(err->msg + len, ": ", 2);
    memcpy(err->msg + len + 2, reason, reason_len);
    err->msg[len + 2 + reason_len] = '\0';
    return -1;
}

int
error_nomem(Error *err)
{
    err->kind = ERROR_NOMEM;
    err->sys_errno = ENOMEM;
    err->hint[0] = '\0';
    memcpy(err->msg, "out of memory", sizeof "out of memory");
    return -1;
}

int
error_wrap(Error *err, const char *fmt, ...)
{
    char context[sizeof err->msg];
    size_t cause_len = strlen(err->msg);
    size_t room = sizeof err->msg - 1 - cause_len;
    va_list ap;

    va_start(ap, fmt);
    (void) vsnprintf(context, sizeof context, fmt, ap);
    va_end(ap);

    size_t context_len = strlen(context);

    if (room < 3)
        return -1;
    if (context_len > room - 2)
        context_len = room - 2;
    memmove(err->msg + context_len + 2, err->msg, cause_len + 1);
    memcpy(err->msg, context, context_len);
    memcpy(err->msg + context_len, ": ", 2);
    return -1;
}

int
error_hint(Error *err, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void) vsnprintf(err->hint, sizeof err->hint, fmt, ap);
    va_end(ap);
    return -1;
}
