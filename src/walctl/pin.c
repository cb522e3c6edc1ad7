/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walctl pin and unpin: a person wants a backup kept, whatever the rules say.
 */
#include <stdio.h>
#include <string.h>

#include "common/parse.h"
#include "repo/backup_format.h"
#include "walctl/walctl.h"

#define PIN_TEXT_MAX 256

static int
pin_open(Walctl *ctl, Deadline *dl, Repository **repo, Error *err)
{
    int64_t timeout_ms = WALCTL_TIMEOUT_MS;

    if (!backup_label_name_valid(ctl->cli.args[0]))
        return error_set(
            err, ERROR_USAGE, "\"%.100s\" is not a label of a backup", ctl->cli.args[0]);
    if (cli_duration_ms(&ctl->cli, "timeout", &timeout_ms, err) < 0)
        return -1;
    *dl = deadline_after_ms(timeout_ms, NULL);
    return walctl_open_repository(ctl, false, dl, repo, err);
}

/* A backup that is running may be pinned too. */
static int
pin_find_backup(Repository *repo, const char *label, const Deadline *dl, Error *err)
{
    char key[LAYOUT_KEY_MAX];
    StoreStat st;

    if (store_stat(repo->store, backup_manifest_key(label, key), dl, &st, err) == 0)
        return 0;
    if (err->kind == ERROR_NOT_FOUND &&
        store_stat(repo->store, backup_start_key(label, key), dl, &st, err) == 0)
        return 0;
    if (err->kind != ERROR_NOT_FOUND)
        return error_wrap(err, "could not look for backup \"%s\"", label);
    (void) error_set(err, ERROR_NOT_FOUND, "there is no backup \"%s\"", label);
    return error_hint(err, "\"walctl info\" lists the backups.");
}

/* A time, or how long from now. */
static int
pin_read_until(const Walctl *ctl, int64_t *until_us, Error *err)
{
    const char *text = cli_value(&ctl->cli, "until");
    int64_t now_us = clock_wall_us();
    int64_t ms;

    *until_us = 0;
    if (text == NULL)
        return 0;
    if (!clock_parse_iso(text, until_us))
    {
        if (!parse_duration_ms(text, &ms) || __builtin_mul_overflow(ms, INT64_C(1000), until_us) ||
            __builtin_add_overflow(*until_us, now_us, until_us))
        {
            (void) error_set(
                err, ERROR_USAGE, "--until \"%.100s\" is neither a time nor a duration", text);
            return error_hint(err, "For example --until 2027-03-01T00:00:00Z, or --until 90d.");
        }
    }
    if (*until_us <= now_us)
        return error_set(err, ERROR_USAGE, "--until \"%.100s\" has passed", text);
    return 0;
}

int
walctl_pin(Walctl *ctl, int *exit_code UNUSED, Error *err)
{
    AUTO(repository_freep) Repository *repo = NULL;
    const char *label = ctl->cli.args[0];
    char key[LAYOUT_KEY_MAX], text[PIN_TEXT_MAX], until[40];
    ObjectFormat format;
    ObjectPutResult result;
    int64_t until_us;
    Deadline dl;

    if (pin_read_until(ctl, &until_us, err) < 0 || pin_open(ctl, &dl, &repo, err) < 0 ||
        pin_find_backup(repo, label, &dl, err) < 0)
        return -1;
    /* nothing but what the name says, so that the same pin again is the same object */
    (void) backup_pin_key(label, until_us, key);
    (void) snprintf(
        text, sizeof text, "{\"format\": %d, \"label\": \"%s\", \"until\": \"%s\"}\n",
        BACKUP_FORMAT, label, strrchr(key, '/') + 1);
    format = (ObjectFormat){.codec = repo->format.codec};
    if (object_put_bytes(repo->store, &format, key, text, strlen(text), &dl, &result, err) < 0)
        return error_wrap(err, "could not pin backup \"%s\"", label);
    /* expire looks for pins once more before it removes manifests */
    if (pin_find_backup(repo, label, &dl, err) < 0)
        return error_wrap(err, "the backup was removed while it was being pinned");
    if (until_us != 0)
        (void) clock_format_utc(until_us, until, sizeof until);
    if (ctl->json)
    {
        json_t *doc = json_pack(
            "{s:s, s:o, s:b}", "label", label, "until", walctl_json_time(until_us), "new",
            (int) (result == OBJECT_CREATED));
        int rc = walctl_print_json(doc, err);

        json_decref(doc);
        return rc;
    }
    (void) printf(
        "backup \"%s\" %s pinned %s%s\n", label, result == OBJECT_CREATED ? "is" : "was already",
        until_us != 0 ? "until " : "for ever", until_us != 0 ? until : "");
    return fflush(stdout) == 0 ? 0 : error_sys(err, "could not print the result");
}

/* ---- unpin ---- */

typedef struct PinRemoval
{
    Repository *repo;
    const Deadline *dl;
    uint64_t count;
} PinRemoval;

static int
pin_remove(void *ctx, const StoreEntry *entry, Error *err)
{
    PinRemoval *pins = ctx;
    StoreRemoved removed = {.key = entry->key};

    if (store_remove(pins->repo->store, &removed, 1, pins->dl, err) < 0)
        return error_wrap(err, "could not remove \"%s\"", entry->key);
    if (removed.err.kind != ERROR_NONE)
    {
        *err = removed.err;
        return error_wrap(err, "could not remove \"%s\"", entry->key);
    }
    pins->count++;
    return 0;
}

int
walctl_unpin(Walctl *ctl, int *exit_code UNUSED, Error *err)
{
    AUTO(repository_freep) Repository *repo = NULL;
    const char *label = ctl->cli.args[0];
    char prefix[LAYOUT_KEY_MAX];
    StoreListOptions options = {.prefix = prefix};
    Deadline dl;

    if (pin_open(ctl, &dl, &repo, err) < 0)
        return -1;

    PinRemoval pins = {.repo = repo, .dl = &dl};

    (void) snprintf(prefix, sizeof prefix, "pin/%s/", label);
    if (store_walk(repo->store, &options, WALCTL_TIMEOUT_MS, NULL, pin_remove, &pins, err) < 0)
        return error_wrap(err, "could not unpin backup \"%s\"", label);
    /* a label that was mistyped must not look like success */
    if (pins.count == 0 && pin_find_backup(repo, label, &dl, err) < 0)
        return -1;
    if (ctl->json)
    {
        json_t *doc =
            json_pack("{s:s, s:I}", "label", label, "pins_removed", (json_int_t) pins.count);
        int rc = walctl_print_json(doc, err);

        json_decref(doc);
        return rc;
    }
    (void) printf("backup \"%s\" %s pinned\n", label, pins.count > 0 ? "is no longer" : "was not");
    return fflush(stdout) == 0 ? 0 : error_sys(err, "could not print the result");
}
