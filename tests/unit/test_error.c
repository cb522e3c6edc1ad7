/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Errors: kinds from errno, context in front, and a cause that is never lost.
 */
#include "common/error.h"

#include <errno.h>
#include <string.h>

#include "tap.h"

static void
test_kinds_of_errno(void)
{
    static const struct
    {
        const char *label;
        int sys_errno;
        ErrorKind kind;
    } cases[] = {
        {"ENOENT", ENOENT, ERROR_NOT_FOUND}, {"EEXIST", EEXIST, ERROR_EXISTS},
        {"EACCES", EACCES, ERROR_DENIED},    {"EPERM", EPERM, ERROR_DENIED},
        {"ENOMEM", ENOMEM, ERROR_NOMEM},     {"EIO", EIO, ERROR_IO},
        {"ENOSPC", ENOSPC, ERROR_IO},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        char want[256];
        Error err;

        errno = cases[i].sys_errno;

        int rc = error_sys(&err, "could not open \"%s\"", "x");

        (void) snprintf(
            want, sizeof want, "could not open \"x\": %s", strerror(cases[i].sys_errno));
        ok(rc == -1 && err.kind == cases[i].kind && err.sys_errno == cases[i].sys_errno &&
               strcmp(err.msg, want) == 0 && err.hint[0] == '\0',
           "%s: %s, \"%s\"", cases[i].label, error_kind_name(err.kind), err.msg);
    }
}

static void
test_kind_names(void)
{
    for (int a = ERROR_NONE; a <= ERROR_CANCELED; a++)
    {
        bool unique = strcmp(error_kind_name((ErrorKind) a), "unknown") != 0;

        for (int b = ERROR_NONE; b < a; b++)
            unique = unique &&
                     strcmp(error_kind_name((ErrorKind) a), error_kind_name((ErrorKind) b)) != 0;
        ok(unique, "kind %d has a name of its own: %s", a, error_kind_name((ErrorKind) a));
    }
    ok(strcmp(error_kind_name((ErrorKind) 999), "unknown") == 0, "a kind that does not exist");
}

static void
test_wrap(void)
{
    Error err;

    errno = EIO;
    (void) error_sys(&err, "could not read \"a\"");
    (void) error_hint(&err, "Look at the %s.", "disk");
    ok(error_wrap(&err, "could not archive \"%s\"", "b") == -1, "error_wrap returns -1");
    ok(strncmp(err.msg, "could not archive \"b\": could not read \"a\": ", 43) == 0,
       "context comes in front: %s", err.msg);
    ok(err.kind == ERROR_IO && err.sys_errno == EIO, "kind and errno stay");
    ok(strcmp(err.hint, "Look at the disk.") == 0, "the hint stays");
    (void) error_hint(&err, "Another.");
    ok(strcmp(err.hint, "Another.") == 0, "a new hint replaces the old one");
    (void) error_set(&err, ERROR_CORRUPT, "new");
    ok(err.hint[0] == '\0' && err.sys_errno == 0 && err.kind == ERROR_CORRUPT,
       "error_set leaves nothing of the old error");
    ok(error_nomem(&err) == -1 && err.kind == ERROR_NOMEM && strcmp(err.msg, "out of memory") == 0,
       "out of memory has a fixed text");
}

/* What is cut when the text does not fit is context; the cause stands at the end. */
static void
test_long_texts(void)
{
    char filler[2000];
    Error err;
    static const size_t lengths[] = {900, 1000, 1018, 1019, 1020, 1021, 1022, 1023, 1024, 1999};

    memset(filler, 'x', sizeof filler);
    filler[sizeof filler - 1] = '\0';
    for (size_t i = 0; i < ARRAY_COUNT(lengths); i++)
    {
        const char *reason = strerror(EIO);

        errno = EIO;
        (void) error_sys(&err, "%.*s", (int) lengths[i], filler);

        size_t len = strlen(err.msg);

        ok(len < sizeof err.msg && len > strlen(reason) &&
               strcmp(err.msg + len - strlen(reason), reason) == 0,
           "error_sys keeps the errno text behind %zu bytes", lengths[i]);

        (void) error_set(&err, ERROR_IO, "the cause");
        (void) error_wrap(&err, "%.*s", (int) lengths[i], filler);
        len = strlen(err.msg);
        ok(len < sizeof err.msg && strcmp(err.msg + len - 11, ": the cause") == 0,
           "error_wrap keeps the cause behind %zu bytes", lengths[i]);

        (void) error_set(&err, ERROR_IO, "%.*s", (int) lengths[i], filler);

        char cause[sizeof err.msg];

        memcpy(cause, err.msg, sizeof cause);
        (void) error_wrap(&err, "context");
        len = strlen(err.msg);
        ok(len < sizeof err.msg && len >= strlen(cause) &&
               strcmp(err.msg + len - strlen(cause), cause) == 0,
           "a cause of %zu bytes survives context", lengths[i]);
    }
}

int
main(void)
{
    test_kinds_of_errno();
    test_kind_names();
    test_wrap();
    test_long_texts();
    return done_testing();
}
