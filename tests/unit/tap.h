/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What a unit test needs to print TAP.
 */
#ifndef WALSTREAM_TAP_H
#define WALSTREAM_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

/* weak: one count for all files of a test program */
__attribute__((weak)) int tap_run = 0;
__attribute__((weak)) int tap_failed = 0;

__attribute__((format(printf, 2, 3), unused)) static bool
ok(bool good, const char *fmt, ...)
{
    va_list ap;

    tap_run++;
    if (!good)
        tap_failed++;
    printf("%sok %d - ", good ? "" : "not ", tap_run);
    va_start(ap, fmt);
    (void) vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    (void) fflush(stdout);
    return good;
}

__attribute__((format(printf, 1, 2), unused)) static void
diag(const char *fmt, ...)
{
    va_list ap;

    printf("# ");
    va_start(ap, fmt);
    (void) vprintf(fmt, ap);
    va_end(ap);
    printf("\n");
    (void) fflush(stdout);
}

/* Ends the program: prints the plan. return done_testing(); */
__attribute__((unused)) static int
done_testing(void)
{
    printf("1..%d\n", tap_run);
    return tap_failed == 0 && tap_run > 0 ? 0 : 1;
}

#endif
