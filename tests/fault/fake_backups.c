/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Makes a repository look as if there had been backups:
 *
 *   fake_backups CONFIG < what
 *   full LABEL DAYS SEGMENT PARTS            so many days ago, its WAL in this segment
 *   incremental LABEL DAYS SEGMENT PARTS PARENT
 *   unfinished LABEL PARTS
 *   wal FIRST LAST                           complete segments of timeline 1
 *   piece SEGMENT START END
 *
 * Bundles and WAL hold nothing of use. Chains have one link.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "common/parse.h"
#include "repo/backup_list.h"

#define FAKE_WORDS 6
#define FAKE_TIMEOUT_MS 60000

typedef struct Fake
{
    Repository *repo;
    Deadline dl;
} Fake;

static uint32_t
fake_number(const char *word)
{
    uint32_t number;

    if (word == NULL || !parse_u32(word, &number))
    {
        (void) fprintf(stderr, "a number is missing\n");
        exit(2);
    }
    return number;
}

static int
fake_put(Fake *fake, const char *key, Error *err)
{
    char text[] = "nothing";
    struct iovec iov = {.iov_base = text, .iov_len = sizeof text - 1};
    StoreBody body = {.iov = &iov, .iov_count = 1, .bytes = sizeof text - 1};

    return store_put(fake->repo->store, key, &body, &fake->dl, err);
}

static int
fake_bundle(Fake *fake, const char *label, uint32_t parts, Error *err)
{
    BackupStart start = {.host = "db1", .started_us = clock_wall_us()};
    char key[LAYOUT_KEY_MAX];

    (void) snprintf(start.label, sizeof start.label, "%s", label);
    if (backup_start_put(fake->repo, &start, &fake->dl, err) < 0)
        return -1;
    for (uint32_t i = 0; i < parts; i++)
        if (fake_put(fake, backup_part_key(label, 0, i, key), err) < 0)
            return -1;
    return 0;
}

static int
fake_backup(Fake *fake, char *const words[FAKE_WORDS], Error *err)
{
    AUTO(manifest_writer_freep) ManifestWriter *w = NULL;
    const RepositoryDescription *d = &fake->repo->description;
    char chain[1][BACKUP_LABEL_NAME_MAX] = {{0}};
    int64_t began_us = clock_wall_us() - fake_number(words[2]) * INT64_C(86400000000);
    Lsn start = (Lsn) fake_number(words[3]) * d->segment_bytes + 40;
    BackupHeader header = {
        .incremental = words[5] != NULL,
        .chain = chain,
        .chain_count = words[5] != NULL,
        .system_identifier = d->system_identifier,
        .pg_major = d->pg_major,
        .segment_bytes = d->segment_bytes,
        .tli = 1,
        .start_lsn = start,
        .stop_lsn = start + 200,
        .started_us = began_us,
        .stopped_us = began_us + 1000000,
        .codec = "lz4"};
    uint64_t stored;

    (void) snprintf(header.label, sizeof header.label, "%s", words[1]);
    (void) snprintf(chain[0], sizeof chain[0], "%s", words[5] != NULL ? words[5] : "");
    if (fake_bundle(fake, words[1], fake_number(words[4]), err) < 0 ||
        manifest_writer_new((CodecSpec){.method = CODEC_LZ4}, NULL, &w, err) < 0 ||
        manifest_writer_put(w, fake->repo, &header, &fake->dl, &stored, err) < 0)
        return -1;
    return 0;
}

static int
fake_wal(Fake *fake, uint32_t first, uint32_t last, Error *err)
{
    for (uint32_t s = first; s <= last; s++)
    {
        WalExtent extent = {
            .tli = 1, .segno = s, .start = 0, .end = fake->repo->description.segment_bytes};
        char key[LAYOUT_KEY_MAX];

        if (fake_put(fake, layout_part_key(&extent, extent.end, key), err) < 0)
            return -1;
    }
    return 0;
}

static int
fake_line(Fake *fake, char *line, Error *err)
{
    char *words[FAKE_WORDS] = {NULL};
    char *rest = line;
    char key[LAYOUT_KEY_MAX];

    for (size_t i = 0; i < FAKE_WORDS; i++)
        words[i] = strtok_r(rest, " \n", &rest);
    if (words[0] == NULL)
        return 0;
    if (strcmp(words[0], "full") == 0 || strcmp(words[0], "incremental") == 0)
        return fake_backup(fake, words, err);
    if (strcmp(words[0], "unfinished") == 0)
        return fake_bundle(fake, words[1], fake_number(words[2]), err);
    if (strcmp(words[0], "wal") == 0)
        return fake_wal(fake, fake_number(words[1]), fake_number(words[2]), err);
    if (strcmp(words[0], "piece") != 0)
        return error_set(err, ERROR_USAGE, "\"%s\" is not known", words[0]);

    WalExtent piece = {
        .tli = 1,
        .segno = fake_number(words[1]),
        .start = fake_number(words[2]),
        .end = fake_number(words[3])};

    return fake_put(
        fake, layout_piece_key(&piece, fake->repo->description.segment_bytes, key), err);
}

int
main(int argc, char **argv)
{
    AUTO(config_freep) Config *cfg = NULL;
    AUTO(repository_freep) Repository *repo = NULL;
    RepositoryOptions options = {0};
    Fake fake = {.dl = deadline_after_ms(FAKE_TIMEOUT_MS, NULL)};
    Error err = {0};
    char line[512];

    log_open("fake_backups", LOG_INFO, LOG_FORMAT_TEXT);
    if (argc != 2 || config_load(argv[1], &(ConfigOverrides){0}, &cfg, &err) < 0 ||
        repository_open(cfg, &options, &fake.dl, &repo, &err) < 0)
    {
        log_error(LOG_ERROR, &err);
        return 2;
    }
    fake.repo = repo;
    while (fgets(line, sizeof line, stdin) != NULL)
    {
        if (fake_line(&fake, line, &err) < 0)
        {
            log_error(LOG_ERROR, &err);
            return 1;
        }
    }
    return 0;
}
