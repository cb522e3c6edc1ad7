/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The place where the prefetcher leaves WAL for walfetch: one directory in the spool for each
 * session.
 *
 * A session is one life of one postmaster on one data directory reading one repository: boot id,
 * device and inode of the data directory, process id and start time of the postmaster, cluster name
 * and repository all go into the name of the directory. So what an earlier restore or another
 * cluster left behind has another name and is never served; and a power failure, after which
 * unsynced files may hold anything, begins another session too.
 *
 *   <spool>/<32 hex>/lock            held (flock) by the prefetcher while it lives
 *   <spool>/<32 hex>/sock            where it listens
 *   <spool>/<32 hex>/<24 hex>        a complete, verified segment: take it by rename
 *   <spool>/<32 hex>/fetch.<n>       being fetched
 *   <spool>/<32 hex>/demand.<n>      fetched for the walfetch that asks just now
 *   <spool>/<32 hex>/log             messages of the prefetcher
 *
 * On the socket: the client says "fetch NAME TIMEOUT_MS\n", hears "wait\n" at once, and later one
 * of
 * - "ready FILE\n": rename it from the session directory
 * - "absent TEXT\n": certain
 * - "unsure TEXT\n": could not tell
 * - "direct TEXT\n": cannot help (its disk is full): do it without me
 *
 * TEXT is a message and, behind a tab, a hint. The end of the connection without one of these: the
 * prefetcher died, do it yourself.
 *
 * Linked into the static fast path: libc and common only.
 */
#ifndef WALSTREAM_WALFETCH_SESSION_H
#define WALSTREAM_WALFETCH_SESSION_H

#include <sys/types.h>

#include "common/clock.h"
#include "common/config.h"

#define SESSION_KEY_BYTES 33
#define SESSION_PATH_MAX 4096
#define SESSION_LOCK_NAME "lock"
#define SESSION_SOCKET_NAME "sock"
#define SESSION_LOG_NAME "log"
#define SESSION_REPLY_MAX 2048

typedef struct SessionFacts
{
    char boot_id[64];
    uint64_t data_device;
    uint64_t data_inode;
    pid_t postmaster_pid;
    uint64_t postmaster_start_s;
    const char *cluster; /* borrowed from the configuration, as those below */
    const char *url;
    const char *endpoint;
} SessionFacts;

/*
 * Of the server whose data directory is data_dir. NOT_FOUND when there is no running server: then
 * there is nobody to prefetch for.
 */
MUST_CHECK int
session_gather(const char *data_dir, const Config *cfg, SessionFacts *out, Error *err);

/* 32 hex digits. Returns key. */
char *session_key(const SessionFacts *facts, char key[SESSION_KEY_BYTES]);

/* "<spool>/<key>" into buf of SESSION_PATH_MAX bytes; IO when it does not fit. */
MUST_CHECK int session_path(const Config *cfg, const char *key, char *buf, Error *err);

/*
 * Opens the session's directory (O_DIRECTORY). NOT_FOUND if there is none; DENIED if it is not a
 * directory of ours that only we can use.
 */
MUST_CHECK int session_open_dir(const char *path, int *fd, Error *err);

/*
 * Gives the ready file "name" of the session to dest: a rename, or a copy when dest is on another
 * file system. NOT_FOUND if it is not there.
 */
MUST_CHECK int session_take(int dir_fd, const char *name, const char *dest, Error *err);

typedef enum SessionAnswer
{
    SESSION_READY,  /* text: the name of the file in the session */
    SESSION_ABSENT, /* text: message and hint, as in the two below */
    SESSION_UNSURE,
    SESSION_DIRECT
} SessionAnswer;

typedef struct SessionReply
{
    SessionAnswer answer;
    char text[SESSION_REPLY_MAX];
    char hint[256];
} SessionReply;

/*
 * Asks the prefetcher. -1 when there is none, when it died, or when it does not even say "wait"
 * within a second: the caller has to do without it then. The reply's file stays until *fd (from
 * socket) is closed.
 */
MUST_CHECK int session_ask(
    int dir_fd, const char *name, int64_t timeout_ms, int *fd, SessionReply *reply, Error *err);

/* A line of the answer, for the prefetcher; control characters become blanks. Returns buf. */
char *session_format_reply(
    SessionAnswer answer, const char *text, const char *hint, char buf[SESSION_REPLY_MAX]);
/* false if the line (without newline) is no answer. */
MUST_CHECK bool session_parse_reply(const char *line, SessionReply *out);

#endif
