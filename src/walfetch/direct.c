/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walfetch-direct: the half of walfetch that talks to the repository. walfetch runs it when there
 * is nothing ready and no prefetcher to ask. It starts one, for the next time, and meanwhile
 * fetches the file itself.
 *
 * The file comes into being as a nameless file in the destination's directory and gets its name
 * when it is complete and verified, so that being killed at any point leaves nothing (where the
 * file system has no nameless files: in $TMPDIR, nameless too, and is then copied by
 * fs_place_copy).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/log.h"
#include "walfetch/fetch.h"
#include "walfetch/options.h"
#include "walfetch/prefetch.h"

#define DIRECT_FILE_MODE 0600
#define DIRECT_OPEN_PAUSE_MS 1000
#define DIRECT_WARN_EVERY 64 /* segments */

/* A nameless file, in the destination's directory if that can be (*linkable). */
static int
direct_open_nameless(const char *dest, int *out, bool *linkable, Error *err)
{
    const char *last = strrchr(dest, '/');
    AUTO(free_text) char *dir = NULL;
    const char *tmp = getenv("TMPDIR");
    char path[SESSION_PATH_MAX];
    int fd;

    if (last == NULL)
        dir = strdup(".");
    else
        dir = last == dest ? strdup("/") : strndup(dest, (size_t) (last - dest));
    if (dir == NULL)
        return error_nomem(err);
    fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, DIRECT_FILE_MODE);
    *linkable = fd >= 0;
    if (fd < 0 && errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
    {
        (void) error_sys(err, "could not create a file in \"%s\"", dir);
        err->kind = ERROR_IO;
        return -1;
    }
    if (fd < 0)
    {
        if ((size_t) snprintf(
                path, sizeof path, "%s/walfetch.XXXXXX",
                tmp != NULL && tmp[0] != '\0' ? tmp : P_tmpdir) >= sizeof path)
            return error_set(err, ERROR_IO, "TMPDIR is too long");
        fd = mkostemp(path, O_CLOEXEC);
        if (fd < 0)
        {
            (void) error_sys(err, "could not create \"%s\"", path);
            err->kind = ERROR_IO;
            return -1;
        }
        (void) unlink(path);
    }
    *out = fd;
    return 0;
}

/* PostgreSQL has removed the destination before it asks; by hand it may be there. */
static int
direct_place(int fd, bool linkable, const char *dest, Error *err)
{
    char proc[64];

    (void) snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
    if (linkable && linkat(AT_FDCWD, proc, AT_FDCWD, dest, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    if (fs_place_copy(fd, dest, DIRECT_FILE_MODE, false, err) < 0)
    {
        if (err->kind == ERROR_NOT_FOUND)
            err->kind = ERROR_IO;
        return -1;
    }
    return 0;
}

/*
 * One warning for a recovery that has to do without prefetching, or nearly: a call knows nothing of
 * the others, so it is told with what is asked for first and then with few segments.
 */
static void
direct_warn_prefetch(const FetchOptions *options, const Error *err)
{
    Error told = *err;

    if (options->parsed.kind == WAL_FILE_SEGMENT && options->parsed.seg % DIRECT_WARN_EVERY != 0)
        return;
    (void) error_wrap(&told, "no WAL is prefetched");
    log_error(LOG_WARNING, &told);
}

/*
 * A server waits: what is not there now (a file system that is not mounted yet, say) may come. A
 * person rather hears at once what is wrong.
 */
static int
direct_open_repository(
    const Config *cfg, FetchCaller caller, const Deadline *dl, Repository **out, Error *err)
{
    for (;;)
    {
        if (fetch_open_repository(cfg, ".", dl, out, err) == 0)
            return 0;
        if (caller == FETCH_BY_HAND || (err->kind != ERROR_IO && err->kind != ERROR_TRANSIENT) ||
            deadline_left_ms(dl) <= DIRECT_OPEN_PAUSE_MS)
            return -1;
        deadline_sleep_ms(dl, DIRECT_OPEN_PAUSE_MS);
    }
}

static int
direct_fetch(const Config *cfg, const FetchOptions *options, FetchCaller caller, Error *err)
{
    Deadline dl = deadline_after_ms(fetch_timeout_ms(options, caller), NULL);
    AUTO(repository_freep) Repository *repo = NULL;
    AUTO(fd_close) int fd = -1;
    SegmentRead read = {0};
    bool linkable = false;

    if (direct_open_nameless(options->dest, &fd, &linkable, err) < 0 ||
        direct_open_repository(cfg, caller, &dl, &repo, err) < 0)
        return error_wrap(err, "could not restore \"%s\"", options->name);
    if (fetch_file(repo, options->name, &options->parsed, NULL, fd, &dl, &read, err) < 0)
        return -1;
    if (direct_place(fd, linkable, options->dest, err) < 0)
        return error_wrap(err, "could not restore \"%s\"", options->name);
    return 0;
}

int
main(int argc, char **argv)
{
    FetchCaller caller = fetch_caller();
    AUTO(fetch_options_reset) FetchOptions options = {0};
    AUTO(config_freep) Config *cfg = NULL;
    Error err = {0};
    int code;

    if (!fetch_begin(&fetch_direct_spec, argc, argv, caller, &options, &cfg, &code))
        return code;
    if (options.prefetcher)
        return prefetch_run(cfg, &options);

    /* First, as it takes a while to be ready; it is another process and holds nothing up. */
    if (cfg->restore.prefetch_bytes > 0 && prefetch_start(cfg, argc, argv, &err) < 0 &&
        err.kind != ERROR_NOT_FOUND)
        direct_warn_prefetch(&options, &err);

    if (direct_fetch(cfg, &options, caller, &err) == 0)
        return FETCH_EXIT_DONE;
    if (err.kind == ERROR_NOT_FOUND)
    {
        log_error(caller == FETCH_BY_HAND ? LOG_ERROR : LOG_DEBUG, &err);
        return FETCH_EXIT_ABSENT;
    }
    log_error(LOG_ERROR, &err);
    return err.kind == ERROR_USAGE ? fetch_exit_usage(caller) : fetch_exit_unsure(caller);
}
