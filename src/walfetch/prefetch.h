/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The prefetcher: a process of its own, one for each session (session.h), that keeps the next WAL
 * segments ready and answers walfetch over its connections, which are open already.
 */
#ifndef WALSTREAM_WALFETCH_PREFETCH_H
#define WALSTREAM_WALFETCH_PREFETCH_H

#include "walfetch/options.h"
#include "walfetch/session.h"

/*
 * Starts the prefetcher of the server in the current directory, if it has none: a process that has
 * nothing of ours open and is nobody's child. program, argv: of this process. 0 also when there is
 * one already. NOT_FOUND: there is no server to prefetch for. Must be called before any thread is
 * started.
 */
MUST_CHECK int prefetch_start(const Config *cfg, int argc, char **argv, Error *err);

/* Is the prefetcher, until the server ends or has not asked for a while. The process's exit code.
 */
int prefetch_run(const Config *cfg, const FetchOptions *options);

#endif
