/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Fills a repository for tests of reading, without the checks that the real writers make:
 *
 *   walfill CONFIG init DATA           describe the repository of the cluster in DATA
 *   walfill CONFIG put FILE            store FILE under its own name; an archive_command
 *   walfill CONFIG piece FILE START END    store bytes of a segment as a piece
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/log.h"
#include "pg/control.h"
#include "repo/repository.h"

static int
fill_init(const Config *cfg, const char *data_dir, const Deadline *dl, Error *err)
{
    AUTO(store_freep) Store *store = NULL;
    RepositoryDescription d = {
        .part_bytes = LAYOUT_PART_MAX_BYTES,
        .conditional_create = true,
        .created = "2026-03-01T09:14:07.120000Z",
        .created_by = "walfill"};
    AUTO(free_text) char *text = NULL;
    char key[REPOSITORY_PREFIX_MAX + 32];
    ControlFile control;
    struct iovec iov;

    if (control_read(data_dir, &control, err) < 0 ||
        repository_open_store(cfg, true, true, &store, err) < 0)
        return -1;
    (void) snprintf(d.cluster, sizeof d.cluster, "%s", cfg->cluster.name);
    d.system_identifier = control.system_identifier;
    d.pg_major = control.pg_major;
    d.segment_bytes = control.segment_bytes;
    d.part_bytes = layout_part_bytes(control.segment_bytes);
    if (repository_format_description(&d, &text, err) < 0)
        return -1;
    (void) repository_prefix(d.cluster, d.system_identifier, key);
    (void) strncat(key, REPOSITORY_DESCRIPTION_KEY, sizeof key - strlen(key) - 1);
    iov = (struct iovec){.iov_base = text, .iov_len = strlen(text)};

    StoreBody body = {.iov = &iov, .iov_count = 1, .bytes = iov.iov_len};

    return store_put(store, key, &body, dl, err);
}

static int
fill_put_bytes(
    Repository *repo, const char *key, const char *bytes, size_t len, const Deadline *dl,
    Error *err)
{
    ObjectPutResult result;

    return object_put_bytes(repo->store, &repo->format, key, bytes, len, dl, &result, err);
}

static int
fill_put(
    const Config *cfg, const char *path, const char *start, const char *end, const Deadline *dl,
    Error *err)
{
    const char *slash = strrchr(path, '/');
    RepositoryOptions options = {0};
    AUTO(repository_freep) Repository *repo = NULL;
    AUTO(free_text) char *bytes = NULL;
    uint32_t segment_bytes, part_bytes;
    WalFileName name;
    WalExtent extent;
    char key[LAYOUT_KEY_MAX];
    size_t len;

    if (!wal_file_name_parse(slash != NULL ? slash + 1 : path, &name))
        return error_set(err, ERROR_USAGE, "\"%s\" is no WAL file", path);
    if (fs_read_file(path, WAL_SEGMENT_MAX_BYTES, &bytes, &len, err) < 0 ||
        repository_open(cfg, &options, dl, &repo, err) < 0)
        return -1;
    if (name.kind != WAL_FILE_SEGMENT)
        return fill_put_bytes(repo, layout_wal_file_key(&name, key), bytes, len, dl, err);

    segment_bytes = repo->description.segment_bytes;
    part_bytes = layout_part_bytes(segment_bytes);
    extent.tli = name.tli;
    if (len != segment_bytes || !wal_file_segment_no(&name, segment_bytes, &extent.segno))
        return error_set(err, ERROR_USAGE, "\"%s\" is no segment of this cluster", path);
    if (start != NULL)
    {
        extent.start = (uint32_t) strtoul(start, NULL, 0);
        extent.end = (uint32_t) strtoul(end, NULL, 0);
        (void) layout_piece_key(&extent, segment_bytes, key);
        return fill_put_bytes(repo, key, bytes + extent.start, extent.end - extent.start, dl, err);
    }
    for (uint32_t at = 0; at < segment_bytes; at += part_bytes)
    {
        extent.start = at;
        extent.end = at + part_bytes;
        (void) layout_part_key(&extent, segment_bytes, key);
        if (fill_put_bytes(repo, key, bytes + at, part_bytes, dl, err) < 0)
            return -1;
    }
    return 0;
}

int
main(int argc, char **argv)
{
    Deadline dl = deadline_after_ms(60000, NULL);
    AUTO(config_freep) Config *cfg = NULL;
    Error err = {0};
    int rc = -1;

    log_open("walfill", LOG_INFO, LOG_FORMAT_TEXT);
    if (argc < 4 || config_load(argv[1], &(ConfigOverrides){0}, &cfg, &err) < 0)
        rc = -1;
    else if (strcmp(argv[2], "init") == 0)
        rc = fill_init(cfg, argv[3], &dl, &err);
    else if (strcmp(argv[2], "put") == 0)
        rc = fill_put(cfg, argv[3], NULL, NULL, &dl, &err);
    else if (strcmp(argv[2], "piece") == 0 && argc == 6)
        rc = fill_put(cfg, argv[3], argv[4], argv[5], &dl, &err);
    if (rc < 0)
        log_error(LOG_ERROR, &err);
    return rc < 0 ? 1 : 0;
}
