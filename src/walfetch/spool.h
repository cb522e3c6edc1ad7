/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The spool, [restore] spool, from the side of the prefetcher: making, claiming and removing
 * sessions (session.h).
 *
 * A session belongs to who holds the lock on its "lock". Directories that nobody holds were left by
 * a prefetcher that was killed, and any other prefetcher removes them.
 */
#ifndef WALSTREAM_WALFETCH_SPOOL_H
#define WALSTREAM_WALFETCH_SPOOL_H

#include "common/config.h"

/*
 * Opens the directory, made if only its last part is missing. DENIED with a hint when it is another
 * user's (root's is fine), or open to others without being sticky.
 */
MUST_CHECK int spool_open(const Config *cfg, int *fd, Error *err);

/* The directory of a session, made if need be. */
MUST_CHECK int
spool_open_session(const Config *cfg, int spool_fd, const char *key, int *fd, Error *err);

/* Whether nobody holds the session; a look, not a claim. */
bool spool_lock_is_free(int dir_fd);

/*
 * Claims the session for this process, as long as *fd stays open; -1 when another has it. *again,
 * with an error: the directory was removed between opening and locking, so begin anew.
 */
MUST_CHECK int
spool_claim(int spool_fd, const char *key, int dir_fd, int *fd, bool *again, Error *err);

/* Removes a session that is claimed. The lock goes last: it says that somebody is at it. */
void spool_remove_session(int spool_fd, const char *key, int dir_fd);

/* Removes what prefetchers left behind that were killed. */
void spool_sweep(const Config *cfg, int spool_fd, const char *own_key);

/* Calls fn for each entry of a directory. */
void spool_each_file(int dir_fd, void (*fn)(void *ctx, const char *name), void *ctx);

#endif
