/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Opening a repository; see repository.h.
 */
#include "repo/repository.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fs.h"
#include "common/parse.h"
#include "repo/json_read.h"
#include "store/s3.h"

/* One part, its label and the frames around it. */
#define REPOSITORY_POOL_CHUNK_BYTES (256 * 1024)
#define REPOSITORY_POOL_CHUNKS 72

static const StoreRetryOptions repository_retry = {
    .first_delay_ms = 100, .max_delay_ms = 5000, .try_timeout_ms = 30000};

static int
repository_new_s3(const Config *cfg, bool conditional_create, Store **out, Error *err)
{
    const char *rest = cfg->repository.url + strlen("s3://");
    const char *slash = strchr(rest, '/');
    size_t bucket_len = slash != NULL ? (size_t) (slash - rest) : strlen(rest);
    char bucket[256];

    if (bucket_len == 0 || bucket_len >= sizeof bucket)
        return error_set(
            err, ERROR_USAGE, "repository url \"%s\" names no bucket", cfg->repository.url);
    memcpy(bucket, rest, bucket_len);
    bucket[bucket_len] = '\0';

    AUTO(credentials_provider_freep) CredentialsProvider *credentials = NULL;

    if (credentials_provider_new(cfg->repository.credentials, &credentials, err) < 0)
        return -1;

    S3Options options = {
        .bucket = bucket,
        .prefix = slash != NULL ? slash + 1 : "",
        .endpoint = cfg->repository.endpoint[0] != '\0' ? cfg->repository.endpoint : NULL,
        .region = cfg->repository.region[0] != '\0' ? cfg->repository.region : NULL,
        .path_style = cfg->repository.path_style,
        .ca_file = cfg->repository.ca_file[0] != '\0' ? cfg->repository.ca_file : NULL,
        .credentials = steal(credentials),
        .conditional_create = conditional_create,
    };

    return store_s3_new(&options, out, err);
}

static int
repository_new_driver(
    const Config *cfg, bool conditional_create, bool create_root, Store **out, Error *err)
{
    const char *url = cfg->repository.url;

    if (strncmp(url, "s3://", 5) == 0)
        return repository_new_s3(cfg, conditional_create, out, err);
    if (strncmp(url, "file://", 7) == 0)
    {
        if (url[7] != '/')
            return error_set(
                err, ERROR_USAGE, "repository url \"%s\" needs an absolute path: file:///path",
                url);
        return store_file_new(url + 7, create_root, out, err);
    }
    return error_set(
        err, ERROR_USAGE, "repository url \"%s\" is of no known kind (file://, s3://)", url);
}

/* retry(count(driver)); *counted is borrowed from *out. */
static int
repository_new_store(
    const Config *cfg, bool conditional_create, bool create_root, Store **out, Store **counted,
    Error *err)
{
    Store *driver;

    if (repository_new_driver(cfg, conditional_create, create_root, &driver, err) < 0)
        return error_wrap(err, "could not open repository");
    if (store_count_new(driver, counted, err) < 0)
        return -1;
    return store_retry_new(*counted, &repository_retry, out, err);
}

int
repository_open_store(
    const Config *cfg, bool conditional_create, bool create_root, Store **out, Error *err)
{
    Store *counted;

    return repository_new_store(cfg, conditional_create, create_root, out, &counted, err);
}

char *
repository_prefix(const char *cluster, uint64_t system_identifier, char *buf)
{
    (void) snprintf(buf, REPOSITORY_PREFIX_MAX, "%s/%" PRIu64 "/", cluster, system_identifier);
    return buf;
}

int
repository_load_recipients(const Config *cfg, AgeRecipients **out, Error *err)
{
    AUTO(age_recipients_freep) AgeRecipients *recipients = NULL;

    *out = NULL;
    if (cfg->encryption.recipient_count == 0)
        return 0;
    if (age_recipients_new(&recipients, err) < 0)
        return -1;
    for (uint64_t i = 0; i < cfg->encryption.recipient_count; i++)
        if (age_recipients_add(recipients, cfg->encryption.recipients[i], err) < 0)
            return error_wrap(err, "[encryption] recipient");
    *out = steal(recipients);
    return 0;
}

int
repository_load_identities(const Config *cfg, AgeIdentities **out, Error *err)
{
    AUTO(age_identities_freep) AgeIdentities *identities = NULL;
    AUTO(free_text) char *passphrase = NULL;
    size_t len;

    *out = NULL;
    if (cfg->encryption.identity_file[0] == '\0')
        return 0;
    if (age_identities_new(&identities, err) < 0)
        return -1;
    if (cfg->encryption.passphrase_file[0] == '\0')
    {
        if (age_identities_load(identities, cfg->encryption.identity_file, err) < 0)
            return error_wrap(err, "[encryption] identity-file");
        *out = steal(identities);
        return 0;
    }
    if (fs_read_secret_file(cfg->encryption.passphrase_file, 4096, &passphrase, &len, err) < 0)
        return error_wrap(err, "[encryption] passphrase-file");
    passphrase[strcspn(passphrase, "\r\n")] = '\0';

    int rc =
        age_identities_load_protected(identities, cfg->encryption.identity_file, passphrase, err);

    explicit_bzero(passphrase, len);
    if (rc < 0)
        return error_wrap(err, "[encryption] identity-file");
    *out = steal(identities);
    return 0;
}

/* ---- cluster.json ---- */

static int
repository_bad_description(const char *member, Error *err)
{
    return error_set(
        err, ERROR_CORRUPT, "\"%s\" has no valid member \"%s\"", REPOSITORY_DESCRIPTION_KEY,
        member);
}

static bool
description_text(const json_t *doc, const char *member, char *out, size_t cap)
{
    const char *text = json_string_value(json_object_get(doc, member));

    if (text == NULL || strlen(text) >= cap)
        return false;
    memcpy(out, text, strlen(text) + 1);
    return true;
}

static bool
description_u32(const json_t *doc, const char *member, uint32_t *out)
{
    const json_t *value = json_object_get(doc, member);
    json_int_t n = json_integer_value(value);

    if (!json_is_integer(value) || n < 0 || n > UINT32_MAX)
        return false;
    *out = (uint32_t) n;
    return true;
}

int
repository_parse_description(const char *text, size_t len, RepositoryDescription *out, Error *err)
{
    AUTO(json_read_free) json_t *doc = NULL;
    RepositoryDescription d = {0};
    uint32_t format, major;
    char sysid[32];

    if (json_read_object(text, len, &doc, err) < 0)
        return error_wrap(err, "\"%s\"", REPOSITORY_DESCRIPTION_KEY);
    if (!description_u32(doc, "format", &format))
        return repository_bad_description("format", err);
    if (format != REPOSITORY_FORMAT)
    {
        (void) error_set(
            err, ERROR_USAGE, "repository has format %u, this program knows format %d", format,
            REPOSITORY_FORMAT);
        return error_hint(err, "Use a newer walstream.");
    }
    if (!description_text(doc, "cluster", d.cluster, sizeof d.cluster) ||
        !layout_cluster_name_valid(d.cluster))
        return repository_bad_description("cluster", err);
    if (!description_text(doc, "system_identifier", sysid, sizeof sysid) ||
        !parse_u64(sysid, &d.system_identifier) || d.system_identifier == 0)
        return repository_bad_description("system_identifier", err);
    if (!description_u32(doc, "postgresql_major", &major) || major == 0 || major > 1000)
        return repository_bad_description("postgresql_major", err);
    d.pg_major = (int) major;
    if (!description_u32(doc, "segment_bytes", &d.segment_bytes) ||
        !wal_segment_bytes_valid(d.segment_bytes))
        return repository_bad_description("segment_bytes", err);
    if (!description_u32(doc, "part_bytes", &d.part_bytes) ||
        d.part_bytes != layout_part_bytes(d.segment_bytes))
        return repository_bad_description("part_bytes", err);
    if (!json_is_boolean(json_object_get(doc, "conditional_create")))
        return repository_bad_description("conditional_create", err);
    d.conditional_create = json_is_true(json_object_get(doc, "conditional_create"));
    if (!description_text(doc, "created", d.created, sizeof d.created))
        return repository_bad_description("created", err);
    if (!description_text(doc, "created_by", d.created_by, sizeof d.created_by))
        return repository_bad_description("created_by", err);
    *out = d;
    return 0;
}

int
repository_format_description(const RepositoryDescription *d, char **out, Error *err)
{
    char sysid[32];

    (void) snprintf(sysid, sizeof sysid, "%" PRIu64, d->system_identifier);

    AUTO(json_read_free)
    json_t *doc = json_pack(
        "{s:i, s:s, s:s, s:i, s:I, s:I, s:b, s:s, s:s}", "format", REPOSITORY_FORMAT, "cluster",
        d->cluster, "system_identifier", sysid, "postgresql_major", d->pg_major, "segment_bytes",
        (json_int_t) d->segment_bytes, "part_bytes", (json_int_t) d->part_bytes,
        "conditional_create", (int) d->conditional_create, "created", d->created, "created_by",
        d->created_by);
    AUTO(free_text) char *text = doc != NULL ? json_dumps(doc, JSON_INDENT(2)) : NULL;
    size_t len;

    if (text == NULL)
        return error_nomem(err);
    len = strlen(text);
    *out = malloc(len + 2);
    if (*out == NULL)
        return error_nomem(err);
    memcpy(*out, text, len);
    memcpy(*out + len, "\n", 2);
    return 0;
}

/* ---- opening ---- */

typedef struct FoundClusters
{
    const char *prefix;
    uint64_t ids[16];
    size_t count;
} FoundClusters;

static int
repository_note_cluster(void *ctx, const StoreEntry *entry, Error *err UNUSED)
{
    FoundClusters *found = ctx;
    const char *name = entry->key + strlen(found->prefix);
    char digits[32];
    size_t len = strlen(name);
    uint64_t id;

    if (!entry->is_prefix || len < 2 || len - 1 >= sizeof digits)
        return 0;
    memcpy(digits, name, len - 1);
    digits[len - 1] = '\0';
    if (!parse_u64(digits, &id) || id == 0)
        return 0;
    if (found->count < ARRAY_COUNT(found->ids))
        found->ids[found->count] = id;
    found->count++;
    return 0;
}

/* The only system identifier below the cluster's folder. */
static int
repository_find_only(
    Store *store, const Config *cfg, const Deadline *dl, uint64_t *system_identifier, Error *err)
{
    char prefix[REPOSITORY_PREFIX_MAX];
    FoundClusters found = {.prefix = prefix};

    (void) snprintf(prefix, sizeof prefix, "%s/", cfg->cluster.name);

    StoreListOptions options = {.prefix = prefix, .by_folder = true};

    if (store_list(store, &options, repository_note_cluster, &found, dl, err) < 0)
        return -1;
    if (found.count == 0)
    {
        (void) error_set(
            err, ERROR_NOT_FOUND, "repository \"%s\" holds no cluster \"%s\"", store->url,
            cfg->cluster.name);
        return error_hint(err, "Create it with \"walctl init\".");
    }
    if (found.count > 1)
    {
        (void) error_set(
            err, ERROR_USAGE,
            "repository holds %zu system identifiers for cluster \"%s\" (%" PRIu64 ", %" PRIu64
            ", ...)",
            found.count, cfg->cluster.name, found.ids[0], found.ids[1]);
        return error_hint(
            err, "Say which with --system-identifier, or run this in the data directory.");
    }
    *system_identifier = found.ids[0];
    return 0;
}

static int
repository_read_description(
    Repository *repo, const Config *cfg, uint64_t system_identifier, const Deadline *dl, Error *err)
{
    AUTO(free_text) char *text = malloc(REPOSITORY_DESCRIPTION_MAX + 1);
    AUTO(stage_freep) Stage *sink = NULL;
    size_t len = 0;

    if (text == NULL)
        return error_nomem(err);
    if (stage_memory_sink_new(text, REPOSITORY_DESCRIPTION_MAX, &len, &sink, err) < 0)
        return -1;
    if (store_get(repo->store, REPOSITORY_DESCRIPTION_KEY, (ByteRange){0}, sink, dl, err) < 0)
    {
        if (err->kind != ERROR_NOT_FOUND)
            return error_wrap(err, "could not read \"%s\"", REPOSITORY_DESCRIPTION_KEY);
        (void) error_set(
            err, ERROR_NOT_FOUND,
            "repository \"%s\" holds no cluster \"%s\" with system identifier %" PRIu64,
            repo->store->url, cfg->cluster.name, system_identifier);
        return error_hint(err, "Create it with \"walctl init\".");
    }
    text[len] = '\0';
    if (repository_parse_description(text, len, &repo->description, err) < 0)
        return -1;
    if (repo->description.system_identifier != system_identifier ||
        strcmp(repo->description.cluster, cfg->cluster.name) != 0)
        return error_set(
            err, ERROR_CORRUPT,
            "\"%s\" describes cluster \"%s\" with system identifier %" PRIu64
            ", but lies in the folder of \"%s\" with %" PRIu64,
            REPOSITORY_DESCRIPTION_KEY, repo->description.cluster,
            repo->description.system_identifier, cfg->cluster.name, system_identifier);
    return 0;
}

int
repository_open(
    const Config *cfg, const RepositoryOptions *options, const Deadline *dl, Repository **out,
    Error *err)
{
    AUTO(repository_freep) Repository *repo = calloc(1, sizeof *repo);
    uint64_t system_identifier = options->system_identifier;
    char prefix[REPOSITORY_PREFIX_MAX];
    bool conditional_create = true;

    if (repo == NULL)
        return error_nomem(err);
    repo->scratch = strdup(fs_scratch_dir(cfg->restore.spool));
    if (repo->scratch == NULL)
        return error_nomem(err);
    if (!layout_cluster_name_valid(cfg->cluster.name))
        return error_set(
            err, ERROR_USAGE, "[cluster] name \"%s\" is not usable as a folder", cfg->cluster.name);
    if (codec_parse(cfg->compression.method, &repo->format.codec, err) < 0)
        return error_wrap(err, "[compression] method");
    if (repository_load_recipients(cfg, &repo->recipients, err) < 0)
        return -1;
    repo->format.recipients = repo->recipients;
    if (options->need_identities && repository_load_identities(cfg, &repo->identities, err) < 0)
        return -1;

    /* at most twice: whether creation is conditional stands in what is read first */
    for (;;)
    {
        Store *whole = NULL;

        if (repository_new_store(cfg, conditional_create, false, &whole, &repo->counted, err) < 0)
            return -1;
        if (system_identifier == 0 &&
            repository_find_only(whole, cfg, dl, &system_identifier, err) < 0)
        {
            store_free(whole);
            return -1;
        }
        if (store_prefix_new(
                whole, repository_prefix(cfg->cluster.name, system_identifier, prefix),
                &repo->store, err) < 0)
            return -1;
        if (repository_read_description(repo, cfg, system_identifier, dl, err) < 0)
            return -1;
        if (repo->description.conditional_create == conditional_create)
            break;
        conditional_create = repo->description.conditional_create;
        store_free(steal(repo->store));
    }

    repo->pool = options->pool;
    if (repo->pool == NULL)
    {
        if (chunk_pool_new(
                REPOSITORY_POOL_CHUNK_BYTES, REPOSITORY_POOL_CHUNKS, &repo->own_pool, err) < 0)
            return -1;
        repo->pool = repo->own_pool;
    }
    *out = steal(repo);
    return 0;
}

void
repository_free(Repository *repo)
{
    if (repo == NULL)
        return;
    store_free(repo->store);
    age_recipients_free(repo->recipients);
    age_identities_free(repo->identities);
    chunk_pool_free(repo->own_pool);
    free(repo->scratch);
    free(repo);
}
