/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Fills a repository as years would, for the benchmark: simulate_repository CONFIG SEGMENTS
 * BACKUPS. The repository exists already (walctl init). WAL segments are a few bytes without
 * meaning, as their names, sizes and times alone are what listings, info and expire look at; in a
 * file:// repository they are links to one file. Manifests are real ones, without files: a full
 * backup a week and incrementals on the other days, the last one ended today.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/config.h"
#include "common/fs.h"
#include "common/parse.h"
#include "common/workers.h"
#include "repo/layout.h"
#include "repo/manifest.h"

#define DAY_US (INT64_C(86400) * 1000000)
#define CONNECTIONS 8
#define BACKUPS_A_WEEK 7
#define LINKS_MAX 30000 /* of one file; ext4 has 65000 */

typedef struct Simulation
{
    Repository *repo;
    char root[4096]; /* of a file:// repository, with the cluster's prefix; "": another store */
    size_t segments;
    size_t backups;
    int64_t now_us;
} Simulation;

static const char content[] = "a WAL segment";

static void
simulate_key(const Simulation *sim, size_t i, char key[LAYOUT_KEY_MAX])
{
    (void) layout_segment_key(1, (SegmentNo) i + 1, sim->repo->description.segment_bytes, key);
}

/* ---- segments ---- */

/* The n-th run of LINKS_MAX: its first is a file, the others are links to it. */
static int
simulate_link_run(void *ctx, size_t n, Error *err)
{
    const Simulation *sim = ctx;
    char first[STORE_KEY_MAX + sizeof sim->root];
    char path[sizeof first];
    char key[LAYOUT_KEY_MAX];
    size_t end = MIN((n + 1) * LINKS_MAX, sim->segments);

    for (size_t i = n * LINKS_MAX; i < end; i++)
    {
        simulate_key(sim, i, key);
        (void) snprintf(path, sizeof path, "%s/%s", sim->root, key);
        if (i > n * LINKS_MAX)
        {
            if (link(first, path) == 0)
                continue;
            if (errno != ENOENT)
                return error_sys(err, "could not link \"%s\"", path);
        }
        (void) snprintf(first, sizeof first, "%s", path);
        *strrchr(first, '/') = '\0';
        if (fs_make_dirs(first, 0700, false, err) < 0)
            return -1;
        (void) snprintf(first, sizeof first, "%s", path);

        AUTO(fd_close) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

        if (fd < 0 || write(fd, content, sizeof content) != (ssize_t) sizeof content)
            return error_sys(err, "could not write \"%s\"", path);
    }
    return 0;
}

static int
simulate_put_segment(void *ctx, size_t i, Error *err)
{
    const Simulation *sim = ctx;
    Deadline dl = deadline_after_ms(60000, NULL);
    struct iovec iov = {.iov_len = sizeof content};
    StoreBody body = {.iov = &iov, .iov_count = 1, .bytes = sizeof content};
    const char *data = content;
    char key[LAYOUT_KEY_MAX];

    /* a store does not write to what it is given */
    memcpy(&iov.iov_base, &data, sizeof data);
    simulate_key(sim, i, key);
    return store_put(sim->repo->store, key, &body, &dl, err);
}

static int
simulate_segments(Simulation *sim, Error *err)
{
    if (sim->root[0] == '\0')
        return workers_each(CONNECTIONS, sim->segments, simulate_put_segment, sim, err);
    return workers_each(
        2, (sim->segments + LINKS_MAX - 1) / LINKS_MAX, simulate_link_run, sim, err);
}

/* ---- backups ---- */

static int64_t
simulate_started_us(const Simulation *sim, size_t i)
{
    return sim->now_us - (int64_t) (sim->backups - i) * DAY_US;
}

static int
simulate_put_backup(void *ctx, size_t i, Error *err)
{
    const Simulation *sim = ctx;
    const RepositoryDescription *d = &sim->repo->description;
    AUTO(manifest_writer_freep) ManifestWriter *w = NULL;
    Deadline dl = deadline_after_ms(60000, NULL);
    char chain[BACKUPS_A_WEEK][BACKUP_LABEL_NAME_MAX];
    size_t chain_count = i % BACKUPS_A_WEEK;
    size_t full = i - chain_count;
    SegmentNo start = (SegmentNo) (i * (sim->segments / sim->backups) + 1);
    BackupHeader header = {
        .incremental = chain_count > 0,
        .chain = chain,
        .chain_count = chain_count,
        .system_identifier = d->system_identifier,
        .pg_major = d->pg_major,
        .segment_bytes = d->segment_bytes,
        .data_checksums = true,
        .tli = 1,
        .start_lsn = start * d->segment_bytes + 40,
        .stop_lsn = start * d->segment_bytes + 400,
        .started_us = simulate_started_us(sim, i),
        .stopped_us = simulate_started_us(sim, i) + INT64_C(600) * 1000000,
        .checksum = CHECKSUM_CRC32C,
        .codec = "lz4",
        .host = "db1",
        .created_by = "simulate_repository",
        .file_count = 1000,
        .full_bytes = UINT64_C(1) << 30,
        .plain_bytes = UINT64_C(1) << 30,
        .stored_bytes = UINT64_C(1) << 29,
        .part_count = 64,
    };
    uint64_t stored;

    for (size_t link = 0; link < chain_count; link++)
        (void) backup_label_name(simulate_started_us(sim, full + link), link > 0, chain[link]);
    (void) backup_label_name(header.started_us, header.incremental, header.label);
    if (manifest_writer_new((CodecSpec){.method = CODEC_LZ4}, NULL, &w, err) < 0)
        return -1;
    return manifest_writer_put(w, sim->repo, &header, &dl, &stored, err);
}

/* ---- all ---- */

static int
simulate_read_arguments(char **argv, Simulation *sim, Error *err)
{
    uint64_t segments, backups;

    if (!parse_u64(argv[2], &segments) || !parse_u64(argv[3], &backups) || backups == 0 ||
        segments < backups)
        return error_set(
            err, ERROR_USAGE,
            "usage: simulate_repository CONFIG SEGMENTS BACKUPS (of them at most "
            "SEGMENTS)");
    sim->segments = (size_t) segments;
    sim->backups = (size_t) backups;
    return 0;
}

static int
simulate(char **argv, Error *err)
{
    AUTO(config_freep) Config *cfg = NULL;
    AUTO(repository_freep) Repository *repo = NULL;
    Deadline dl = deadline_after_ms(60000, NULL);
    Simulation sim = {.now_us = clock_wall_us()};
    char prefix[REPOSITORY_PREFIX_MAX];

    if (simulate_read_arguments(argv, &sim, err) < 0 ||
        config_load(argv[1], &(ConfigOverrides){0}, &cfg, err) < 0 ||
        repository_open(cfg, &(RepositoryOptions){0}, &dl, &repo, err) < 0)
        return -1;
    sim.repo = repo;
    if (strncmp(cfg->repository.url, "file://", 7) == 0)
        (void) snprintf(
            sim.root, sizeof sim.root, "%s/%s", cfg->repository.url + 7,
            repository_prefix(
                repo->description.cluster, repo->description.system_identifier, prefix));
    if (simulate_segments(&sim, err) < 0)
        return error_wrap(err, "could not make segments");
    if (workers_each(CONNECTIONS, sim.backups, simulate_put_backup, &sim, err) < 0)
        return error_wrap(err, "could not make backups");
    return 0;
}

int
main(int argc, char **argv)
{
    Error err = {0};

    if (argc != 4)
    {
        (void) fprintf(stderr, "usage: simulate_repository CONFIG SEGMENTS BACKUPS\n");
        return 2;
    }
    if (simulate(argv, &err) < 0)
    {
        (void) fprintf(stderr, "simulate_repository: %s\n", err.msg);
        return 1;
    }
    return 0;
}
