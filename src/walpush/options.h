/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The command line of walpush, read alike by the fast path and by walpush-direct.
 */
#ifndef WALPUSH_OPTIONS_H
#define WALPUSH_OPTIONS_H

#include "common/cli.h"

#define PUSH_TIMEOUT_MS 60000

typedef struct PushOptions
{
    CliResult cli;
    Config *cfg;
    const char *path;   /* %p */
    const char *name;   /* %f, or the last component of path; borrowed */
    int64_t timeout_ms; /* that are left of --timeout */
    bool answered;      /* --help or --version was printed: nothing to do */
} PushOptions;

/* The command lines of walpush and of walpush-direct, which takes an option more. */
extern const CliSpec push_spec;
extern const CliSpec push_direct_spec;

/* Reads command line and configuration. USAGE. */
MUST_CHECK int
push_read_options(const CliSpec *spec, int argc, char **argv, PushOptions *out, Error *err);
void push_options_reset(PushOptions *options);

#endif
