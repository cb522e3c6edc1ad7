/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The one way in which something fails. An Error is a plain value owned by the caller; a function
 * that can fail returns 0 or -1, is MUST_CHECK and takes Error *err last. Reporting never
 * allocates. Callers branch on kind, never on text.
 */
#ifndef WALSTREAM_ERROR_H
#define WALSTREAM_ERROR_H

#include "common/compiler.h"

typedef enum ErrorKind
{
    ERROR_NONE = 0,
    ERROR_NOT_FOUND, /* certain: it does not exist */
    ERROR_EXISTS,    /* create-only, and there is one already */
    ERROR_TRANSIENT, /* may work next time: network, 5xx, time-out of one try */
    ERROR_TIMEOUT,   /* the caller's deadline has passed */
    ERROR_DENIED,    /* credentials or permissions; a retry does not help */
    ERROR_CONFLICT,  /* same name, other bytes: for a human */
    ERROR_CORRUPT,   /* damaged, truncated or forged bytes */
    ERROR_USAGE,     /* command line or configuration */
    ERROR_IO,        /* the operating system said no */
    ERROR_NOMEM,
    ERROR_CANCELED /* we were asked to stop */
} ErrorKind;

typedef struct Error
{
    ErrorKind kind;
    int sys_errno;  /* errno at the point of failure, 0 if none */
    char msg[1024]; /* outermost context first, root cause last */
    char hint[256]; /* optional full sentence for the operator */
} Error;

/* "not found", "corrupt", ... for logs and JSON; borrowed, never NULL. */
const char *error_kind_name(ErrorKind kind);

/* Sets kind and message; always returns -1, so that a function can return it. */
int error_set(Error *err, ErrorKind kind, const char *fmt, ...) PRINTF_LIKE(3, 4);

/*
 * For a failed system call: message, then ": " and the text of errno. Kind NOT_FOUND for ENOENT,
 * EXISTS for EEXIST, DENIED for EACCES and EPERM, NOMEM for ENOMEM, else IO. Returns -1.
 */
int error_sys(Error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* ERROR_NOMEM with a fixed text; returns -1. */
int error_nomem(Error *err);

/*
 * Puts "context: " in front of what err holds already; kind, errno and hint stay. Text that does
 * not fit loses context, never the cause. Returns -1.
 */
int error_wrap(Error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* A full sentence telling the operator what to do; replaces an earlier hint. Returns -1. */
int error_hint(Error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

/*
 * Static analysers look at one file at a time; `make lint` tells them what these return. In the
 * file that defines them the names must stay what they are.
 */
#if defined(WALSTREAM_ANALYZER) && !defined(WALSTREAM_ERROR_C)
#define error_set(...) ((void) error_set(__VA_ARGS__), -1)
#define error_sys(...) ((void) error_sys(__VA_ARGS__), -1)
#define error_nomem(err) ((void) error_nomem(err), -1)
#define error_wrap(...) ((void) error_wrap(__VA_ARGS__), -1)
#define error_hint(...) ((void) error_hint(__VA_ARGS__), -1)
#endif

#endif
