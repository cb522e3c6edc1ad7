/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walctl init: creates the description of a cluster in the repository, after it has tried all that
 * the tools will need of the store. Run again, it tries the same and changes nothing.
 *
 * What a crash leaves: a probe object under state/, which means nothing.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fs.h"
#include "common/log.h"
#include "pg/control.h"
#include "pg/source.h"
#include "walctl/walctl.h"

#define INIT_SKEW_WARN_S 60
#define INIT_SKEW_FAIL_S 600 /* S3 refuses requests that are 15 minutes off */

/* What was found out about the store. */
typedef struct InitProbe
{
    bool conditional_create;
    bool may_remove;
    int64_t skew_s; /* the store's clock is ahead by */
} InitProbe;

/* ---- whose WAL ---- */

/* From the server, from the data directory, or both, which must agree. */
static int
init_identify(const Config *cfg, const Deadline *dl, RepositoryDescription *d, Error *err)
{
    bool asked = cfg->cluster.conninfo[0] != '\0';
    bool read = cfg->cluster.data[0] != '\0';

    if (!asked && !read)
    {
        (void) error_set(err, ERROR_USAGE, "neither [cluster] conninfo nor data is set");
        return error_hint(err, "Set one: the system identifier comes from there.");
    }
    if (asked)
    {
        AUTO(source_close) Source source = {0};

        if (source_connect(cfg->cluster.conninfo, dl, &source, err) < 0)
            return -1;
        d->system_identifier = source.info.system_identifier;
        d->segment_bytes = source.info.segment_bytes;
        d->pg_major = source.info.version / 10000;
    }
    if (read)
    {
        ControlFile control;

        if (control_read(cfg->cluster.data, &control, err) < 0)
            return error_wrap(err, "[cluster] data");
        if (asked && control.system_identifier != d->system_identifier)
            return error_set(
                err, ERROR_CONFLICT,
                "[cluster] conninfo leads to system identifier %" PRIu64 ", data to %" PRIu64,
                d->system_identifier, control.system_identifier);
        d->system_identifier = control.system_identifier;
        d->segment_bytes = control.segment_bytes;
        if (!asked)
            d->pg_major = control.pg_major;
    }
    d->part_bytes = layout_part_bytes(d->segment_bytes);
    return 0;
}

/* ---- encryption ---- */

/* What is encrypted here must be readable with the identity that is configured, if there is one. */
static int
init_check_encryption(const Config *cfg, Error *err)
{
    AUTO(age_recipients_freep) AgeRecipients *recipients = NULL;
    AUTO(age_identities_freep) AgeIdentities *identities = NULL;
    const char *ids;

    if (repository_load_recipients(cfg, &recipients, err) < 0 ||
        repository_load_identities(cfg, &identities, err) < 0)
        return -1;
    if (recipients == NULL)
    {
        log_write(LOG_WARNING, "no [encryption] recipient: objects are not encrypted");
        return 0;
    }
    if (identities == NULL)
        return 0;
    ids = age_recipients_key_ids(recipients);
    for (const char *id = ids; id != NULL; id = strchr(id, ','))
    {
        char one[2 * AGE_KEY_ID_BYTES + 1];

        id += *id == ',';
        (void) snprintf(one, sizeof one, "%s", id);
        if (age_identities_have_key_id(identities, one))
            return 0;
    }
    (void) error_set(
        err, ERROR_CONFLICT,
        "no identity in [encryption] identity-file belongs to a recipient (key ids %s)", ids);
    return error_hint(err, "What is encrypted so could not be restored with that file.");
}

/* ---- the store ---- */

static int
init_put_text(Store *store, const char *key, const char *text, const Deadline *dl, Error *err)
{
    union
    {
        const char *in;
        void *out; /* an iovec that is only read */
    } bytes = {.in = text};
    struct iovec iov = {.iov_base = bytes.out, .iov_len = strlen(text)};
    StoreBody body = {.iov = &iov, .iov_count = 1, .bytes = iov.iov_len};

    return store_put(store, key, &body, dl, err);
}

static int
init_get_text(Store *store, const char *key, char *buf, size_t cap, const Deadline *dl, Error *err)
{
    AUTO(stage_freep) Stage *sink = NULL;
    size_t len = 0;

    if (stage_memory_sink_new(buf, cap - 1, &len, &sink, err) < 0 ||
        store_get(store, key, (ByteRange){0}, sink, dl, err) < 0)
        return -1;
    buf[len] = '\0';
    return 0;
}

static int
init_note_probe(void *ctx, const StoreEntry *entry UNUSED, Error *err UNUSED)
{
    *(bool *) ctx = true;
    return 1;
}

/* Everything the tools do with a store, once. */
static int
init_probe_store(Store *store, const char *key, const Deadline *dl, InitProbe *probe, Error *err)
{
    static const char first[] = "walctl init, first";
    static const char second[] = "walctl init, second";
    StoreListOptions listing = {.prefix = key};
    StoreRemoved removed = {.key = key};
    char text[64];
    StoreStat st;
    bool listed = false;
    int64_t before_us = clock_wall_us();

    if (init_put_text(store, key, first, dl, err) < 0)
        return error_wrap(err, "could not create an object");
    if (store_stat(store, key, dl, &st, err) < 0)
        return error_wrap(err, "could not look at an object");
    if (st.modified_us != 0)
        probe->skew_s = (st.modified_us - (before_us + clock_wall_us()) / 2) / 1000000;

    if (init_put_text(store, key, second, dl, err) < 0 && err->kind != ERROR_EXISTS)
        return error_wrap(err, "could not try to create an object again");
    if (init_get_text(store, key, text, sizeof text, dl, err) < 0)
        return error_wrap(err, "could not read an object");
    probe->conditional_create = strcmp(text, first) == 0;
    if (!probe->conditional_create && strcmp(text, second) != 0)
        return error_set(err, ERROR_CORRUPT, "the store returned other bytes than were put");

    if (store_list(store, &listing, init_note_probe, &listed, dl, err) < 0)
        return error_wrap(err, "could not list objects");
    if (!listed)
        return error_set(
            err, ERROR_CORRUPT, "the store does not list an object that was just created");

    if (store_remove(store, &removed, 1, dl, err) < 0 && err->kind != ERROR_DENIED)
        return error_wrap(err, "could not remove an object");
    probe->may_remove = removed.err.kind == ERROR_NONE && err->kind != ERROR_DENIED;
    return 0;
}

static int
init_check_probe(const InitProbe *probe, Error *err)
{
    int64_t skew = probe->skew_s < 0 ? -probe->skew_s : probe->skew_s;

    if (skew >= INIT_SKEW_FAIL_S)
    {
        (void) error_set(
            err, ERROR_IO, "the store's clock is %lld seconds %s ours", (long long) skew,
            probe->skew_s < 0 ? "behind" : "ahead of");
        return error_hint(err, "Let this host synchronize its clock (NTP), then run init again.");
    }
    if (skew >= INIT_SKEW_WARN_S)
        log_write(
            LOG_WARNING, "the store's clock is %lld seconds %s ours", (long long) skew,
            probe->skew_s < 0 ? "behind" : "ahead of");
    if (!probe->conditional_create)
        log_write(
            LOG_WARNING, "the store replaces objects although it is asked not to: two hosts that "
                         "write the same WAL "
                         "file at the same moment are not told apart");
    return 0;
}

/* ---- the description ---- */

/* EXISTS is success when it says the same of the cluster. */
static int
init_put_description(
    Store *store, const char *key, RepositoryDescription *d, const Deadline *dl, bool *created,
    Error *err)
{
    AUTO(free_text) char *text = NULL;
    AUTO(free_text) char *there = malloc(REPOSITORY_DESCRIPTION_MAX + 1);
    RepositoryDescription old;

    if (there == NULL)
        return error_nomem(err);
    (void) clock_format_iso(clock_wall_us(), d->created, sizeof d->created);
    (void) snprintf(d->created_by, sizeof d->created_by, "walstream %s", WALSTREAM_VERSION);
    if (repository_format_description(d, &text, err) < 0)
        return -1;
    *created = init_put_text(store, key, text, dl, err) == 0;
    if (*created)
        return 0;
    if (err->kind != ERROR_EXISTS)
        return error_wrap(err, "could not create \"%s\"", key);
    if (init_get_text(store, key, there, REPOSITORY_DESCRIPTION_MAX + 1, dl, err) < 0 ||
        repository_parse_description(there, strlen(there), &old, err) < 0)
        return error_wrap(err, "could not read \"%s\"", key);
    if (old.segment_bytes != d->segment_bytes || old.system_identifier != d->system_identifier)
    {
        (void) error_set(
            err, ERROR_CONFLICT,
            "the repository was created for segments of %u bytes, the server has %u",
            old.segment_bytes, d->segment_bytes);
        return error_hint(
            err,
            "A cluster whose segment size was changed (pg_resetwal) needs a [cluster] name of its "
            "own.");
    }
    if (old.conditional_create != d->conditional_create)
        log_write(
            LOG_WARNING,
            "conditional creation was %s when the repository was created and is %s now",
            old.conditional_create ? "supported" : "not supported",
            d->conditional_create ? "supported" : "not supported");
    *d = old;
    return 0;
}

static int
init_print(const Walctl *ctl, const RepositoryDescription *d, const InitProbe *probe, bool created)
{
    if (ctl->json)
    {
        char sysid[32];

        (void) snprintf(sysid, sizeof sysid, "%" PRIu64, d->system_identifier);

        json_t *doc = json_pack(
            "{s:b, s:s, s:s, s:i, s:I, s:b, s:b, s:I, s:b}", "created", (int) created, "cluster",
            d->cluster, "system_identifier", sysid, "postgresql_major", d->pg_major,
            "segment_bytes", (json_int_t) d->segment_bytes, "conditional_create",
            (int) d->conditional_create, "may_remove", (int) probe->may_remove,
            "clock_skew_seconds", (json_int_t) probe->skew_s, "encrypted",
            (int) (ctl->cfg->encryption.recipient_count > 0));
        int rc = doc != NULL ? json_dumpf(doc, stdout, JSON_INDENT(2)) : -1;

        json_decref(doc);
        return rc < 0 || puts("") < 0 ? -1 : 0;
    }
    return printf(
               "%s cluster \"%s\", system identifier %" PRIu64
               ", PostgreSQL %d, segments of %u MB\n"
               "repository   %s\n"
               "encryption   %s\n"
               "creation     %s\n"
               "removal      %s\n",
               created ? "created" : "found", d->cluster, d->system_identifier, d->pg_major,
               d->segment_bytes / (1024 * 1024), ctl->cfg->repository.url,
               ctl->cfg->encryption.recipient_count > 0 ? "age" : "none",
               d->conditional_create ? "conditional: no writer can replace an object"
                                     : "NOT conditional: the store replaces objects",
               probe->may_remove ? "allowed (walctl expire can run with these credentials)"
                                 : "not allowed: this host can only add") < 0
               ? -1
               : 0;
}

int
walctl_init(Walctl *ctl, int *exit_code UNUSED, Error *err)
{
    Deadline dl = deadline_after_ms(WALCTL_TIMEOUT_MS, NULL);
    RepositoryDescription d = {0};
    AUTO(store_freep) Store *store = NULL;
    InitProbe probe = {0};
    char prefix[REPOSITORY_PREFIX_MAX];
    char key[REPOSITORY_PREFIX_MAX + 64];
    bool created;

    if (!layout_cluster_name_valid(ctl->cfg->cluster.name))
        return error_set(
            err, ERROR_USAGE, "[cluster] name \"%s\" is not usable as a folder: A-Z a-z 0-9 . _ -",
            ctl->cfg->cluster.name);
    (void) snprintf(d.cluster, sizeof d.cluster, "%s", ctl->cfg->cluster.name);
    if (init_check_encryption(ctl->cfg, err) < 0 || init_identify(ctl->cfg, &dl, &d, err) < 0)
        return -1;
    (void) repository_prefix(d.cluster, d.system_identifier, prefix);
    (void) snprintf(
        key, sizeof key, "%sstate/probe-%" PRIx64 "-%" PRIx64, prefix, (uint64_t) clock_wall_us(),
        (uint64_t) clock_monotonic_us());
    if (repository_open_store(ctl->cfg, true, true, &store, err) < 0 ||
        init_probe_store(store, key, &dl, &probe, err) < 0)
        return error_wrap(err, "could not use repository \"%s\"", ctl->cfg->repository.url);
    if (init_check_probe(&probe, err) < 0)
        return -1;
    d.conditional_create = probe.conditional_create;
    if (!probe.conditional_create)
    {
        store_free(steal(store));
        if (repository_open_store(ctl->cfg, false, false, &store, err) < 0)
            return -1;
    }
    (void) snprintf(key, sizeof key, "%s%s", prefix, REPOSITORY_DESCRIPTION_KEY);
    if (init_put_description(store, key, &d, &dl, &created, err) < 0)
        return -1;
    if (init_print(ctl, &d, &probe, created) < 0)
        return error_set(err, ERROR_IO, "could not print the result");
    return 0;
}
