/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What both halves of walfetch, the fast one and walfetch-direct, agree on: the command line, who
 * has called, and what an exit code says to the caller.
 */
#ifndef WALSTREAM_WALFETCH_OPTIONS_H
#define WALSTREAM_WALFETCH_OPTIONS_H

#include "common/cli.h"
#include "pg/wal.h"

#define FETCH_TIMEOUT_MS 60000
#define FETCH_STANDBY_TIMEOUT_MS 10000

/*
 * PostgreSQL takes 1 to 125 as "the archive ends here", at which archive recovery opens the
 * database, and more as a reason to stop. A running standby asks again after 1, and would be taken
 * down by more.
 */
#define FETCH_EXIT_DONE 0
#define FETCH_EXIT_ABSENT 1
#define FETCH_EXIT_USAGE 2
#define FETCH_EXIT_UNSURE 200

typedef enum FetchCaller
{
    FETCH_BY_HAND,
    FETCH_BY_RECOVERY, /* a server in archive recovery: the archive must not seem to end */
    FETCH_BY_STANDBY   /* standby.signal: it asks again */
} FetchCaller;

typedef struct FetchOptions
{
    CliResult cli;
    const char *name; /* %f */
    const char *dest; /* %p */
    WalFileName parsed;
    int64_t timeout_ms;
    int64_t spent_ms; /* of the timeout, by the fast half */
    bool prefetcher;  /* walfetch-direct: be the prefetcher, name is what was asked for first */
} FetchOptions;

/* The command lines of walfetch and of walfetch-direct, which takes some options more. */
extern const CliSpec fetch_spec;
extern const CliSpec fetch_direct_spec;

/* USAGE with the reason. name and dest are set and valid when out->cli.action is CLI_RUN. */
MUST_CHECK int
fetch_options_parse(const CliSpec *spec, int argc, char **argv, FetchOptions *out, Error *err);
void fetch_options_reset(FetchOptions *o); /* fit for AUTO */

/* Looks at the signal files and postmaster.pid of the current directory, the data directory. */
FetchCaller fetch_caller(void);

/* "could not find out", and the same of a wrong command line or configuration. */
int fetch_exit_unsure(FetchCaller caller);
int fetch_exit_usage(FetchCaller caller);

/* How long this call may still take: a standby has better things to do than to wait. */
int64_t fetch_timeout_ms(const FetchOptions *o, FetchCaller caller);

/*
 * The beginning of main, the same in both: command line, configuration, log. Returns false when the
 * program is to end with *code. options and *cfg are to be reset and freed by the caller either
 * way.
 */
bool fetch_begin(
    const CliSpec *spec, int argc, char **argv, FetchCaller caller, FetchOptions *options,
    Config **cfg, int *code);

#endif
