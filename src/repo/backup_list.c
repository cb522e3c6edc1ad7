/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The backups of a repository; see backup_list.h.
 */
#include "repo/backup_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/fs.h"
#include "common/utf8.h"
#include "common/workers.h"
#include "repo/json_read.h"

#define BACKUP_START_MAX 65536

void
backup_list_reset(BackupList *list)
{
    for (size_t i = 0; i < list->count; i++)
        backup_header_reset(&list->items[i].header);
    free(list->items);
    *list = (BackupList){0};
}

/* ---- start objects ---- */

/* The first by itself: who does not know "resumes_too" knows it. */
static void
start_put_resumes(StrBuf *text, const BackupStart *start)
{
    strbuf_puts(text, ", \"resumes\": ");
    strbuf_put_json(text, start->resumes[0]);
    for (size_t i = 1; i < BACKUP_RESUMES_MAX && start->resumes[i][0] != '\0'; i++)
    {
        strbuf_puts(text, i == 1 ? ", \"resumes_too\": [" : ", ");
        strbuf_put_json(text, start->resumes[i]);
        if (i + 1 == BACKUP_RESUMES_MAX || start->resumes[i + 1][0] == '\0')
            strbuf_putc(text, ']');
    }
}

int
backup_start_put(Repository *repo, const BackupStart *start, const Deadline *dl, Error *err)
{
    const ObjectFormat format = {.codec = repo->format.codec};
    AUTO(strbuf_reset) StrBuf text;
    char key[LAYOUT_KEY_MAX];
    char started[32];
    ObjectPutResult result;

    strbuf_init(&text, BACKUP_START_MAX);
    strbuf_printf(&text, "{\"format\": %d, \"label\": ", BACKUP_FORMAT);
    strbuf_put_json(&text, start->label);
    strbuf_printf(
        &text, ", \"kind\": \"%s\", \"parent\": ", start->incremental ? "incremental" : "full");
    strbuf_put_json(&text, start->parent);
    start_put_resumes(&text, start);
    strbuf_puts(&text, ", \"host\": ");
    strbuf_put_json(&text, utf8_valid(start->host) ? start->host : "");
    strbuf_printf(
        &text, ", \"started\": \"%s\"}\n",
        clock_format_iso(start->started_us, started, sizeof started));
    if (strbuf_finish(&text, err) < 0)
        return -1;
    if (object_put_bytes(
            repo->store, &format, backup_start_key(start->label, key), strbuf_text(&text), text.len,
            dl, &result, err) == 0)
        return 0;
    if (err->kind != ERROR_CONFLICT)
        return error_wrap(err, "could not claim label \"%s\"", start->label);
    (void) error_set(
        err, ERROR_EXISTS, "there is a backup \"%s\" already, finished or not", start->label);
    return error_hint(
        err, "Choose another label; that of a failed backup is free when walctl expire has removed "
             "it.");
}

static bool
start_read_resumes(const json_t *doc, BackupStart *start)
{
    const json_t *more = json_object_get(doc, "resumes_too");
    size_t count = json_array_size(more);

    if (!json_read_text(doc, "resumes", start->resumes[0], sizeof start->resumes[0]) ||
        (start->resumes[0][0] != '\0' && !backup_label_name_valid(start->resumes[0])))
        return false;
    if (more == NULL)
        return true;
    if (!json_is_array(more) || count >= BACKUP_RESUMES_MAX || start->resumes[0][0] == '\0')
        return false;
    for (size_t i = 0; i < count; i++)
    {
        const char *label = json_string_value(json_array_get(more, i));

        /* a valid label is short enough */
        if (label == NULL || !backup_label_name_valid(label))
            return false;
        (void) snprintf(start->resumes[i + 1], sizeof start->resumes[i + 1], "%s", label);
    }
    return true;
}

static int
backup_start_parse(const char *text, size_t len, BackupStart *out, Error *err)
{
    AUTO(json_read_free) json_t *doc = NULL;
    BackupStart start = {0};
    uint32_t format;
    char kind[16];

    if (json_read_object(text, len, &doc, err) < 0)
        return -1;
    if (!json_read_u32(doc, "format", &format) || format != BACKUP_FORMAT)
    {
        (void) error_set(err, ERROR_CORRUPT, "it is not of format %d", BACKUP_FORMAT);
        return error_hint(err, "The object is damaged, or a newer walstream wrote it.");
    }
    if (!json_read_text(doc, "label", start.label, sizeof start.label) ||
        !json_read_text(doc, "kind", kind, sizeof kind) ||
        !json_read_text(doc, "parent", start.parent, sizeof start.parent) ||
        (start.parent[0] != '\0' && !backup_label_name_valid(start.parent)) ||
        !start_read_resumes(doc, &start) ||
        !json_read_text(doc, "host", start.host, sizeof start.host) ||
        !json_read_time(doc, "started", &start.started_us))
        return error_set(err, ERROR_CORRUPT, "a member is missing or not valid");
    start.incremental = strcmp(kind, "incremental") == 0;
    if (!start.incremental && strcmp(kind, "full") != 0)
        return error_set(err, ERROR_CORRUPT, "it is of no known kind");
    *out = start;
    return 0;
}

int
backup_start_read(
    Repository *repo, const char *label, const Deadline *dl, BackupStart *out, Error *err)
{
    AUTO(free_text) char *text = NULL;
    char key[LAYOUT_KEY_MAX];
    BackupStart start;
    size_t len;

    if (object_get_bytes(
            repo->store, backup_start_key(label, key), NULL, BACKUP_START_MAX, &text, &len, dl,
            err) < 0)
        return -1;
    if (backup_start_parse(text, len, &start, err) < 0)
        return error_wrap(err, "could not read \"%s\"", key);
    if (strcmp(start.label, label) != 0)
        return error_set(err, ERROR_CORRUPT, "\"%s\" is that of backup \"%s\"", key, start.label);
    *out = start;
    return 0;
}

/* ---- labels ---- */

static int
list_note_label(void *ctx, const StoreEntry *entry, Error *err)
{
    BackupList *list = ctx;
    const char *name = entry->key + strlen("backup/");
    size_t len = strlen(name);

    if (!entry->is_prefix || len < 2 || len > BACKUP_LABEL_NAME_MAX)
        return 0;

    Backup backup = {.state = BACKUP_UNFINISHED, .parent = SIZE_MAX};

    memcpy(backup.label, name, len - 1); /* without its '/' */
    if (!backup_label_name_valid(backup.label))
        return 0;

    Backup *items = array_grow(list->items, list->count, &list->cap, sizeof *items, err);

    if (items == NULL)
        return -1;
    list->items = items;
    list->items[list->count++] = backup;
    return 0;
}

/* ---- one backup ---- */

/* What the threads work on: each has a backup of its own. */
typedef struct ListRun
{
    Repository *repo;
    BackupList *list;
    int64_t timeout_ms;
} ListRun;

/* What there is of one without a manifest. */
typedef struct ListObjects
{
    int64_t newest_us;
    int64_t oldest_us; /* 0: not known */
    bool any;
    bool has_start;
    bool has_manifest;
} ListObjects;

static int
list_note_object(void *ctx, const StoreEntry *entry, Error *err UNUSED)
{
    ListObjects *found = ctx;
    BackupKey key;

    found->any = true;
    found->newest_us = MAX(found->newest_us, entry->modified_us);
    if (entry->modified_us != 0 && (found->oldest_us == 0 || entry->modified_us < found->oldest_us))
        found->oldest_us = entry->modified_us;
    if (!backup_key_parse(entry->key, &key))
        return 0;
    found->has_start = found->has_start || key.kind == BACKUP_KEY_START;
    found->has_manifest = found->has_manifest || key.kind == BACKUP_KEY_MANIFEST;
    return 0;
}

/* The header: COMPLETE, DAMAGED, or still UNFINISHED when there is none. */
static int
list_read_manifest(const ListRun *run, Backup *backup, Error *err)
{
    Deadline dl = deadline_after_ms(run->timeout_ms, NULL);

    if (manifest_read_header(run->repo, backup->label, &dl, &backup->header, err) == 0)
    {
        backup->state = BACKUP_COMPLETE;
        return 0;
    }
    if (err->kind == ERROR_NOT_FOUND)
        return 0;
    if (err->kind != ERROR_CORRUPT)
        return -1;
    backup->state = BACKUP_DAMAGED;
    backup->error = *err;
    return 0;
}

/* What it resumes. A start object that is damaged or gone tells nothing, which is no error. */
static int
list_read_start(const ListRun *run, Backup *backup, Error *err)
{
    Deadline dl = deadline_after_ms(run->timeout_ms, NULL);
    BackupStart start;

    if (backup_start_read(run->repo, backup->label, &dl, &start, err) == 0)
    {
        memcpy(backup->resumes, start.resumes, sizeof backup->resumes);
        memcpy(backup->made_on, start.parent, sizeof backup->made_on);
        return 0;
    }
    return err->kind == ERROR_NOT_FOUND || err->kind == ERROR_CORRUPT ? 0 : -1;
}

static int
list_read_unfinished(const ListRun *run, Backup *backup, Error *err)
{
    char prefix[LAYOUT_KEY_MAX];
    StoreListOptions options = {.prefix = backup_prefix(backup->label, prefix)};
    ListObjects found = {0};

    if (store_walk(
            run->repo->store, &options, run->timeout_ms, NULL, list_note_object, &found, err) < 0)
        return -1;
    /* it was put since we looked for it */
    if (found.has_manifest && list_read_manifest(run, backup, err) < 0)
        return -1;
    if (backup->state != BACKUP_UNFINISHED)
        return 0;
    backup->newest_us = found.newest_us;
    backup->oldest_us = found.oldest_us;
    /* removed since its name was listed: left out at the end */
    if (!found.any)
        backup->label[0] = '\0';
    return found.has_start ? list_read_start(run, backup, err) : 0;
}

static int
list_read_one(void *ctx, size_t i, Error *err)
{
    const ListRun *run = ctx;
    Backup *backup = &run->list->items[i];

    if (list_read_manifest(run, backup, err) < 0 ||
        (backup->state == BACKUP_UNFINISHED && list_read_unfinished(run, backup, err) < 0))
        return error_wrap(err, "could not read backup \"%s\"", backup->label);
    return 0;
}

/* ---- order ---- */

static int64_t
list_time(const Backup *backup)
{
    return backup->state == BACKUP_COMPLETE ? backup->header.started_us : backup->newest_us;
}

static int
list_compare_times(const void *a, const void *b)
{
    const Backup *left = a;
    const Backup *right = b;

    if (list_time(left) != list_time(right))
        return list_time(left) > list_time(right) ? 1 : -1;
    return strcmp(left->label, right->label);
}

/* By time; what has vanished goes. */
static void
list_sort(BackupList *list)
{
    size_t count = 0;

    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].label[0] != '\0')
            list->items[count++] = list->items[i];
    list->count = count;
    if (count > 1)
        qsort(list->items, count, sizeof *list->items, list_compare_times);
}

/* ---- chains ---- */

/* A backup in an order of its own. */
typedef struct ListRef
{
    Backup *backup;
} ListRef;

static int
list_compare_labels(const void *a, const void *b)
{
    return strcmp(((const ListRef *) a)->backup->label, ((const ListRef *) b)->backup->label);
}

static int
list_compare_depths(const void *a, const void *b)
{
    size_t left = ((const ListRef *) a)->backup->header.chain_count;
    size_t right = ((const ListRef *) b)->backup->header.chain_count;

    return (left > right) - (left < right);
}

/* NULL if there is none. by_label: all backups, sorted by it. */
static Backup *
list_find_sorted(const ListRef *by_label, size_t count, const char *label)
{
    size_t low = 0;
    size_t high = count;

    while (low < high)
    {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(by_label[middle].backup->label, label);

        if (order == 0)
            return by_label[middle].backup;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* Whether parent, whose own chain was judged, is what the incremental was made on. */
static bool
list_parent_good(const BackupHeader *header, const Backup *parent)
{
    size_t above = header->chain_count - 1;

    if (parent == NULL || parent->state != BACKUP_COMPLETE || parent->chain_broken ||
        parent->header.chain_count != above)
        return false;
    return above == 0 ||
           memcmp(header->chain, parent->header.chain, above * sizeof *header->chain) == 0;
}

/* Sets parent and chain_broken. Whoever it was made on has been judged before. */
static void
list_judge_chain(const BackupList *list, Backup *backup, const ListRef *by_label)
{
    const BackupHeader *header = &backup->header;

    if (header->chain_count > 0)
    {
        const Backup *parent =
            list_find_sorted(by_label, list->count, header->chain[header->chain_count - 1]);

        backup->chain_broken = !list_parent_good(header, parent);
        if (!backup->chain_broken)
            backup->parent = (size_t) (parent - list->items);
        else if (parent != NULL && parent->chain_broken)
            backup->broken_by = parent->broken_by;
        else
            backup->broken_by = header->chain[header->chain_count - 1];
    }
    for (size_t i = 0; i < header->uses_count; i++)
        if (list_find_sorted(by_label, list->count, header->uses[i]) == NULL)
        {
            backup->chain_broken = true;
            backup->broken_by = header->uses[i];
        }
    if (backup->chain_broken)
        backup->parent = SIZE_MAX;
}

static int
list_judge_chains(BackupList *list, Error *err)
{
    ListRef *by_label = calloc(MAX(list->count, (size_t) 1), 2 * sizeof *by_label);

    if (by_label == NULL)
        return error_nomem(err);

    /* shorter chains first: what an incremental builds on has one link less */
    ListRef *by_depth = by_label + list->count;

    for (size_t i = 0; i < list->count; i++)
        by_label[i].backup = by_depth[i].backup = &list->items[i];
    if (list->count > 1)
    {
        qsort(by_label, list->count, sizeof *by_label, list_compare_labels);
        qsort(by_depth, list->count, sizeof *by_depth, list_compare_depths);
    }
    for (size_t i = 0; i < list->count; i++)
        if (by_depth[i].backup->state == BACKUP_COMPLETE)
            list_judge_chain(list, by_depth[i].backup, by_label);
    free(by_label);
    return 0;
}

/* ---- pins ---- */

typedef struct ListPin
{
    char label[BACKUP_LABEL_NAME_MAX];
    int64_t until_us;
} ListPin;

typedef struct ListPins
{
    ListPin *items; /* owned */
    size_t count;
    size_t cap;
    int64_t newest_us; /* of the pins themselves */
} ListPins;

static void
list_pins_reset(ListPins *pins)
{
    free(pins->items);
    *pins = (ListPins){0};
}

static int
list_note_pin(void *ctx, const StoreEntry *entry, Error *err)
{
    ListPins *pins = ctx;
    BackupKey key;

    pins->newest_us = MAX(pins->newest_us, entry->modified_us);
    if (!backup_key_parse(entry->key, &key) || key.kind != BACKUP_KEY_PIN)
        return 0;

    ListPin *items = array_grow(pins->items, pins->count, &pins->cap, sizeof *items, err);

    if (items == NULL)
        return -1;
    pins->items = items;
    pins->items[pins->count].until_us = key.until_us;
    memcpy(pins->items[pins->count++].label, key.label, sizeof key.label);
    return 0;
}

static void
list_set_pin(Backup *backup, const ListPin *pin, int64_t now_us)
{
    if (pin->until_us != 0 && pin->until_us <= now_us)
        return;
    /* the one that lasts longest; 0 is forever */
    if (!backup->pinned || pin->until_us == 0 ||
        (backup->pinned_until_us != 0 && pin->until_us > backup->pinned_until_us))
        backup->pinned_until_us = pin->until_us;
    backup->pinned = true;
}

/* Pins come in the order of their labels, as names are listed. */
static void
list_set_pins(BackupList *list, const ListPins *pins)
{
    for (size_t b = 0; b < list->count; b++)
    {
        Backup *backup = &list->items[b];

        for (size_t i = 0; i < pins->count; i++)
            if (strcmp(pins->items[i].label, backup->label) == 0)
                list_set_pin(backup, &pins->items[i], list->store_now_us);
    }
}

/* ---- all of it ---- */

static int
list_read(Repository *repo, int64_t timeout_ms, unsigned jobs, BackupList *list, Error *err)
{
    StoreListOptions labels = {.prefix = "backup/", .by_folder = true};
    StoreListOptions pin_names = {.prefix = "pin/"};
    AUTO(list_pins_reset) ListPins pins = {0};
    ListRun run = {.repo = repo, .list = list, .timeout_ms = timeout_ms};
    Deadline dl = deadline_after_ms(timeout_ms, NULL);

    if (store_list(repo->store, &labels, list_note_label, list, &dl, err) < 0)
        return -1;
    if (list->count > 0 && workers_each(jobs, list->count, list_read_one, &run, err) < 0)
        return -1;
    /* last, so that a pin put meanwhile is seen */
    dl = deadline_after_ms(timeout_ms, NULL);
    if (store_list(repo->store, &pin_names, list_note_pin, &pins, &dl, err) < 0)
        return -1;

    list->store_now_us = MAX(clock_wall_us(), pins.newest_us);
    for (size_t i = 0; i < list->count; i++)
        list->store_now_us = MAX(list->store_now_us, list->items[i].newest_us);
    list_sort(list);
    list_set_pins(list, &pins);
    return list_judge_chains(list, err);
}

int
backup_list_read(Repository *repo, int64_t timeout_ms, unsigned jobs, BackupList *out, Error *err)
{
    AUTO(backup_list_reset) BackupList list = {0};

    if (list_read(repo, timeout_ms, jobs, &list, err) < 0)
        return error_wrap(err, "could not list backups");
    *out = list;
    list = (BackupList){0};
    return 0;
}

const Backup *
backup_list_find(const BackupList *list, const char *label)
{
    for (size_t i = 0; i < list->count; i++)
        if (strcmp(list->items[i].label, label) == 0)
            return &list->items[i];
    return NULL;
}

const Backup *
backup_list_newest(const BackupList *list)
{
    for (size_t i = list->count; i > 0; i--)
        if (list->items[i - 1].state == BACKUP_COMPLETE && !list->items[i - 1].chain_broken)
            return &list->items[i - 1];
    return NULL;
}
