/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Whether what the plan fetches can be had: there is a key that opens it, and all parts are there,
 * as long as the manifest says. A part can be missing that somebody has removed by hand, by a rule
 * of the store, or that a copy of the repository has not got yet; that must be told before the old
 * data directory is touched.
 *
 * When parts are missing, another backup may reach the same target: it is named, not taken, as
 * something is wrong with the repository that somebody should look at first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "repo/part_check.h"
#include "walrestore/run.h"

/* Backups, finished or not, some of whose parts are missing. */
typedef struct PresentBroken
{
    char (*labels)[BACKUP_LABEL_NAME_MAX]; /* owned */
    size_t count;
    size_t cap;
} PresentBroken;

static void
present_broken_reset(PresentBroken *broken)
{
    free(broken->labels);
    *broken = (PresentBroken){0};
}

/* ---- keys ---- */

static bool
present_has_key(const AgeIdentities *ids, const char *key_ids)
{
    for (const char *p = key_ids; *p != '\0';)
    {
        size_t len = strcspn(p, ",");
        char id[2 * AGE_KEY_ID_BYTES + 1];

        if (len < sizeof id)
        {
            memcpy(id, p, len);
            id[len] = '\0';
            if (age_identities_have_key_id(ids, id))
                return true;
        }
        p += len + (p[len] == ',');
    }
    return false;
}

static int
present_check_keys(const Repository *repo, const Plan *plan, Error *err)
{
    for (size_t l = 0; l < plan->layer_count; l++)
    {
        const PlanLayer *layer = &plan->layers[l];

        if (layer->fetch_parts == 0 || layer->key_ids[0] == '\0' ||
            (repo->identities != NULL && present_has_key(repo->identities, layer->key_ids)))
            continue;
        (void) error_set(
            err, ERROR_DENIED,
            "backup \"%s\" is encrypted for key ids %.400s and there is no identity with one of "
            "them",
            layer->label, layer->key_ids);
        return error_hint(err, "Set [encryption] identity-file to a file with one of these keys.");
    }
    return 0;
}

/* ---- parts ---- */

/* The parts that are fetched; their owners' labels are the plan's. */
static int
present_find_parts(const RestoreRun *run, const Plan *plan, PartCheck *check, Error *err)
{
    for (size_t l = 0; l < plan->layer_count; l++)
        for (size_t i = 0; i < plan->layers[l].part_count; i++)
        {
            const PlanPart *part = &plan->layers[l].parts[i];

            if (part->wanted && part_check_add(check, part->part.owner, &part->part, err) < 0)
                return -1;
        }
    return part_check_run(
        check, run->repo, NULL, run->options.timeout_ms, run->options.jobs, run->cancel, err);
}

static int
present_refuse(const char *label, const PartCheck *check, Error *err)
{
    size_t count;
    const PartCheckItem *bad = part_check_first_bad(check, &count);
    char key[LAYOUT_KEY_MAX], what[96], others[96] = "";

    (void) backup_part_key(bad->owner, bad->bundle, bad->part, key);
    if (bad->found)
        (void) snprintf(
            what, sizeof what, "has %llu bytes, where the manifest says %llu",
            (unsigned long long) bad->found_bytes, (unsigned long long) bad->bytes);
    else
        (void) snprintf(what, sizeof what, "is missing");
    if (count > 1)
        (void) snprintf(
            others, sizeof others, "; of %zu parts that are needed %zu cannot be had", check->count,
            count);
    return error_set(
        err, bad->found ? ERROR_CORRUPT : ERROR_NOT_FOUND,
        "backup \"%s\" cannot be restored: part %u of bundle %u of backup \"%s\" (\"%s\") %s%s",
        label, (unsigned) bad->part, (unsigned) bad->bundle, bad->owner, key, what, others);
}

/* ---- another backup ---- */

static bool
present_is_broken(const PresentBroken *broken, const char *label)
{
    for (size_t i = 0; i < broken->count; i++)
        if (strcmp(broken->labels[i], label) == 0)
            return true;
    return false;
}

static int
present_note_broken(PresentBroken *broken, const char *label, Error *err)
{
    char(*labels)[BACKUP_LABEL_NAME_MAX];

    if (present_is_broken(broken, label))
        return 0;
    labels = array_grow(broken->labels, broken->count, &broken->cap, sizeof *labels, err);
    if (labels == NULL)
        return -1;
    broken->labels = labels;
    (void) snprintf(labels[broken->count++], sizeof *labels, "%s", label);
    return 0;
}

static int
present_note_parts(PresentBroken *broken, const PartCheck *check, Error *err)
{
    for (size_t i = 0; i < check->count; i++)
        if (!part_check_good(&check->items[i]) &&
            present_note_broken(broken, check->items[i].owner, err) < 0)
            return -1;
    return 0;
}

static bool
present_uses_broken(const Backup *b, const PresentBroken *broken)
{
    bool uses = present_is_broken(broken, b->label);

    for (size_t i = 0; i < b->header.uses_count; i++)
        uses = uses || present_is_broken(broken, b->header.uses[i]);
    return uses;
}

/* It might do without the parts that are missing, but this is not the time to try. */
static bool
present_needs_broken(const BackupList *list, const Backup *b, const PresentBroken *broken)
{
    bool needs = present_uses_broken(b, broken);

    for (size_t i = 0; !needs && i < b->header.chain_count; i++)
    {
        const Backup *older = backup_list_find(list, b->header.chain[i]);

        needs = older == NULL || present_uses_broken(older, broken);
    }
    return needs;
}

/* Whether recovery from there comes to the target that was found. */
static bool
present_reaches(const RestoreRun *run, const RecoveryPlan *way)
{
    const BackupHeader *header = &run->backups.items[way->backup].header;

    if (strcmp(header->label, run->header->label) == 0)
        return false;
    return run->options.target.kind == RECOVERY_IMMEDIATE ||
           (header->stop_lsn <= run->found.lsn && way->wal_end >= run->found.lsn);
}

/* 1: all that a restore of it needs is there; 0: it is not. */
static int
present_try(const RestoreRun *run, const char *label, PresentBroken *broken, Error *err)
{
    const RestoreOptions *o = &run->options;
    const PlanOptions options = {.databases = o->databases, .database_count = o->database_count};
    AUTO(plan_reset) Plan plan = {0};
    AUTO(part_check_reset) PartCheck check = {0};

    if (plan_load(run->repo, label, &options, o->timeout_ms, run->cancel, &plan, err) < 0 ||
        present_check_keys(run->repo, &plan, err) < 0)
    {
        /* a manifest is damaged, a database was not there yet, no key: another one may do */
        if (err->kind != ERROR_CORRUPT && err->kind != ERROR_NOT_FOUND &&
            err->kind != ERROR_USAGE && err->kind != ERROR_DENIED)
            return -1;
        return present_note_broken(broken, label, err);
    }
    if (present_find_parts(run, &plan, &check, err) < 0 ||
        present_note_parts(broken, &check, err) < 0)
        return -1;
    return part_check_first_bad(&check, NULL) == NULL;
}

/*
 * The newest backup that does, in *found; NULL: none does. Each that is tried in vain makes one
 * more known as broken, and with it all that need it.
 */
static int
present_find_other(const RestoreRun *run, PresentBroken *broken, const Backup **found, Error *err)
{
    RecoveryTarget target = run->options.target;
    RecoveryPlan *ways;
    size_t count;
    int rc = 0;

    *found = NULL;
    target.label = NULL;
    target.tli = run->found.plan.tli;
    if (recovery_candidates(&run->backups, &run->inv, &target, &ways, &count, err) < 0)
        return -1;
    for (size_t i = 0; rc == 0 && i < count; i++)
    {
        const Backup *b = &run->backups.items[ways[i].backup];

        if (!present_reaches(run, &ways[i]) || present_needs_broken(&run->backups, b, broken))
            continue;
        rc = present_try(run, b->label, broken, err);
        if (rc > 0)
            *found = b;
    }
    recovery_plans_free(ways, count);
    return rc < 0 ? -1 : 0;
}

static int
present_hint(const RestoreRun *run, PresentBroken *broken, Error *err)
{
    const Backup *other;
    char stopped[40];
    Error why = {0};

    if (present_find_other(run, broken, &other, &why) < 0)
        return error_hint(
            err, "Whether another backup can be taken could not be found out: %.170s", why.msg);
    if (other == NULL)
        return error_hint(
            err, "There is no other backup that reaches the target and has all its parts.");
    switch (run->options.target.kind)
    {
        case RECOVERY_IMMEDIATE:
            return error_hint(
                err, "\"--backup=%s\" has all its parts; it is consistent at %s.", other->label,
                clock_format_utc(other->header.stopped_us, stopped, sizeof stopped));
        case RECOVERY_NAME:
            return error_hint(
                err,
                "\"--backup=%s\" has all its parts; recovery stops at the first restore point of "
                "that name behind it.",
                other->label);
        default:
            return error_hint(
                err, "\"--backup=%s\" has all its parts and reaches the same target.",
                other->label);
    }
}

int
present_check(RestoreRun *run, Error *err)
{
    AUTO(present_broken_reset) PresentBroken broken = {0};
    AUTO(part_check_reset) PartCheck check = {0};

    if (present_check_keys(run->repo, &run->plan, err) < 0 ||
        present_find_parts(run, &run->plan, &check, err) < 0)
        return -1;
    if (part_check_first_bad(&check, NULL) == NULL)
        return 0;
    (void) present_refuse(run->header->label, &check, err);
    if (present_note_parts(&broken, &check, err) < 0)
        return -1;
    /* one plan in memory is enough; what check knows of it goes with it */
    part_check_reset(&check);
    plan_reset(&run->plan);
    return present_hint(run, &broken, err);
}
