/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A repository, opened from the configuration: the store with its retries, where the cluster lives
 * in it, how objects are written, what they are read with.
 */
#ifndef WALSTREAM_REPOSITORY_H
#define WALSTREAM_REPOSITORY_H

#include "common/config.h"
#include "repo/object.h"

#define REPOSITORY_FORMAT 1
#define REPOSITORY_DESCRIPTION_KEY "cluster.json"
#define REPOSITORY_DESCRIPTION_MAX 65536
#define REPOSITORY_PREFIX_MAX 128

/* cluster.json, FORMAT.md section 5 */
typedef struct RepositoryDescription
{
    char cluster[64];
    uint64_t system_identifier;
    int pg_major;
    uint32_t segment_bytes;
    uint32_t part_bytes;
    bool conditional_create;
    char created[40];
    char created_by[64];
} RepositoryDescription;

typedef struct Repository
{
    Store *store;   /* owned; keys relative to <cluster>/<system-identifier>/; retries inside */
    Store *counted; /* borrowed: within store, for store_count_read: requests as they were made */
    RepositoryDescription description;
    ObjectFormat format;       /* recipients owned */
    AgeRecipients *recipients; /* NULL: not encrypted */
    AgeIdentities *identities; /* NULL when none is configured */
    ChunkPool *pool;           /* borrowed: buffers for objects being written */
    ChunkPool *own_pool;       /* owned; NULL when the options gave one */
    char *scratch; /* owned; for the files of a Bulk: see fs_scratch_dir; NULL: memory alone */
} Repository;

typedef struct RepositoryOptions
{
    uint64_t system_identifier; /* 0: the only one there is under the cluster's name */
    bool need_identities;       /* load identity-file (DENIED if it cannot be read) */
    ChunkPool *pool;            /* borrowed; NULL: one of its own, 18 MiB at most */
} RepositoryOptions;

/* The store of [repository], not yet inside a cluster: counting and retry around the driver. */
MUST_CHECK int repository_open_store(
    const Config *cfg, bool conditional_create, bool create_root, Store **out, Error *err);

/*
 * Opens and reads cluster.json.
 *
 * Errors   NOT_FOUND with a hint to run `walctl init`; USAGE for a system identifier that has to be
 *          chosen; CORRUPT, DENIED, TRANSIENT, TIMEOUT from the store
 */
MUST_CHECK int repository_open(
    const Config *cfg, const RepositoryOptions *options, const Deadline *dl, Repository **out,
    Error *err);
void repository_free(Repository *repo);
DEFINE_AUTO(Repository, repository_free);

/* "<cluster>/<system identifier>/" into buf of REPOSITORY_PREFIX_MAX bytes. Returns buf. */
char *repository_prefix(const char *cluster, uint64_t system_identifier, char *buf);

MUST_CHECK int
repository_parse_description(const char *text, size_t len, RepositoryDescription *out, Error *err);
/* JSON text with a newline; *out is the caller's (free). */
MUST_CHECK int
repository_format_description(const RepositoryDescription *d, char **out, Error *err);

/* Recipients from [encryption]; *out NULL when there are none. */
MUST_CHECK int repository_load_recipients(const Config *cfg, AgeRecipients **out, Error *err);
MUST_CHECK int repository_load_identities(const Config *cfg, AgeIdentities **out, Error *err);

#endif
