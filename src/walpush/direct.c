/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walpush-direct: what walpush becomes when no walstream answers. Stores one file by itself.
 *
 * Memory: the compressed object of one segment, or of 16 MiB of a large one, and what libcurl and
 * OpenSSL need.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

#include "common/fs.h"
#include "common/log.h"
#include "pg/control.h"
#include "pg/page.h"
#include "repo/archive.h"
#include "walpush/options.h"

/*
 * Whose WAL it is: from pg_control of the data directory, which is where archive_command runs, or
 * from the segment itself. 0: neither is there, the repository's only cluster is meant. A history
 * file says nothing of its cluster: when there is a control file and it cannot be read, that is an
 * error, or WAL of one cluster would get into the repository of another.
 */
static int
push_system_identifier(int fd, uint64_t *out, Error *err)
{
    uint8_t header[WAL_PAGE_LONG_BYTES];
    ControlFile control;
    WalPageHeader page;
    Error unused;
    size_t got;

    *out = 0;
    if (control_read(".", &control, err) == 0)
        *out = control.system_identifier;
    else if (
        fs_pread_full(fd, header, sizeof header, 0, &got, "WAL file", &unused) == 0 &&
        wal_page_read(header, got, &page) && page.is_long &&
        wal_page_magic_version(page.magic) != 0)
        *out = page.system_identifier;
    else if (err->kind != ERROR_NOT_FOUND)
        return -1;
    return 0;
}

static int
push_run(PushOptions *options, int argc, char **argv, Error *err)
{
    AUTO(fd_close) int fd = -1;
    AUTO(repository_freep) Repository *repo = NULL;
    RepositoryOptions open_options = {0};
    ArchiveResult result;
    Deadline dl;

    if (push_read_options(&push_direct_spec, argc, argv, options, err) < 0)
        return -1;
    if (options->answered)
        return 0;
    dl = deadline_after_ms(options->timeout_ms, NULL);
    /* not blocking: a pipe in its place is refused later, and must not be waited for */
    fd = open(options->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return error_sys(err, "could not open \"%s\"", options->path);
    if (push_system_identifier(fd, &open_options.system_identifier, err) < 0 ||
        repository_open(options->cfg, &open_options, &dl, &repo, err) < 0)
        return error_wrap(err, "could not archive \"%s\"", options->name);
    repo->format.parallel_digest = true;
    if (archive_file(repo, fd, options->name, &dl, &result, err) < 0)
        return -1;
    log_write(
        LOG_DEBUG, "\"%s\" %s", options->name,
        result == ARCHIVE_STORED ? "stored" : "was there already");
    return 0;
}

int
main(int argc, char **argv)
{
    PushOptions options = {0};
    Error err = {0};
    int rc;

    (void) signal(SIGPIPE, SIG_IGN);
    log_open("walpush", LOG_INFO, LOG_FORMAT_TEXT);
    rc = push_run(&options, argc, argv, &err);
    if (rc < 0)
        log_error(LOG_ERROR, &err);
    push_options_reset(&options);
    return rc == 0 ? 0 : err.kind == ERROR_USAGE ? 2 : 1;
}
