/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The names of a backup's objects, and the values that its manifest is made of; see
 * backup_format.h.
 */
#include "repo/backup_format.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/parse.h"
#include "pg/incremental_file.h"

#define BACKUP_FOLDER "backup/"
#define PIN_FOLDER "pin/"
#define PIN_FOREVER "forever"

static_assert(
    sizeof BACKUP_FOLDER + BACKUP_LABEL_NAME_MAX + sizeof "/bundle/00000000/00000000" <=
        LAYOUT_KEY_MAX,
    "the longest key fits its buffers");

/* ---- names ---- */

bool
backup_label_name_valid(const char *label)
{
    /* the same letters and lengths */
    return layout_cluster_name_valid(label);
}

char *
backup_label_name(int64_t wall_us, bool incremental, char *buf)
{
    char when[32];

    (void) snprintf(
        buf, BACKUP_LABEL_NAME_MAX, "%s-%s", clock_format_compact(wall_us, when, sizeof when),
        incremental ? "incremental" : "full");
    return buf;
}

char *
backup_start_key(const char *label, char *buf)
{
    (void) snprintf(buf, LAYOUT_KEY_MAX, BACKUP_FOLDER "%s/start", label);
    return buf;
}

char *
backup_manifest_key(const char *label, char *buf)
{
    (void) snprintf(buf, LAYOUT_KEY_MAX, BACKUP_FOLDER "%s/manifest", label);
    return buf;
}

char *
backup_part_key(const char *label, uint32_t bundle, uint32_t part, char *buf)
{
    (void) snprintf(
        buf, LAYOUT_KEY_MAX, BACKUP_FOLDER "%s/bundle/%08" PRIX32 "/%08" PRIX32, label, bundle,
        part);
    return buf;
}

char *
backup_index_key(const char *label, uint32_t bundle, char *buf)
{
    (void) snprintf(
        buf, LAYOUT_KEY_MAX, BACKUP_FOLDER "%s/bundle/%08" PRIX32 "/index", label, bundle);
    return buf;
}

char *
backup_prefix(const char *label, char *buf)
{
    (void) snprintf(buf, LAYOUT_KEY_MAX, BACKUP_FOLDER "%s/", label);
    return buf;
}

char *
backup_pin_key(const char *label, int64_t until_us, char *buf)
{
    char until[32] = PIN_FOREVER;

    assert(until_us >= 0);
    if (until_us != 0)
        (void) clock_format_compact(
            until_us / 1000000 * 1000000 + (until_us % 1000000 != 0 ? 1000000 : 0), until,
            sizeof until);
    (void) snprintf(buf, LAYOUT_KEY_MAX, PIN_FOLDER "%s/%s", label, until);
    return buf;
}

/* "<label>/" at the front of text; returns what is behind it, NULL if that is not there. */
static const char *
backup_read_label(const char *text, char *label)
{
    const char *slash = strchr(text, '/');
    size_t len = slash != NULL ? (size_t) (slash - text) : 0;

    if (len == 0 || len >= BACKUP_LABEL_NAME_MAX)
        return NULL;
    memcpy(label, text, len);
    label[len] = '\0';
    return backup_label_name_valid(label) ? slash + 1 : NULL;
}

/* Behind "backup/<label>/bundle/". */
static bool
backup_parse_bundle(const char *text, BackupKey *key)
{
    uint64_t bundle, part;

    if (strnlen(text, 9) < 9 || !parse_hex_upper(text, 8, &bundle) || text[8] != '/')
        return false;
    key->bundle = (uint32_t) bundle;
    text += 9;
    if (strcmp(text, "index") == 0)
    {
        key->kind = BACKUP_KEY_INDEX;
        return true;
    }
    if (strlen(text) != 8 || !parse_hex_upper(text, 8, &part))
        return false;
    key->kind = BACKUP_KEY_PART;
    key->part = (uint32_t) part;
    return true;
}

/* Behind "pin/<label>/". */
static bool
backup_parse_pin(const char *text, BackupKey *key)
{
    key->kind = BACKUP_KEY_PIN;
    if (strcmp(text, PIN_FOREVER) == 0)
        return true;
    /* 0 would mean forever */
    return clock_parse_compact(text, &key->until_us) && key->until_us > 0;
}

/* Behind "backup/<label>/". */
static bool
backup_parse_object(const char *text, BackupKey *key)
{
    static const char bundle[] = "bundle/";

    if (strcmp(text, "start") == 0)
        key->kind = BACKUP_KEY_START;
    else if (strcmp(text, "manifest") == 0)
        key->kind = BACKUP_KEY_MANIFEST;
    else
        return strncmp(text, bundle, sizeof bundle - 1) == 0 &&
               backup_parse_bundle(text + sizeof bundle - 1, key);
    return true;
}

bool
backup_key_parse(const char *key, BackupKey *out)
{
    static const struct
    {
        const char *folder;
        bool (*parse)(const char *text, BackupKey *key);
    } folders[] = {
        {BACKUP_FOLDER, backup_parse_object},
        {PIN_FOLDER, backup_parse_pin},
    };

    for (size_t i = 0; i < ARRAY_COUNT(folders); i++)
    {
        size_t len = strlen(folders[i].folder);
        BackupKey parsed = {0};

        if (strncmp(key, folders[i].folder, len) != 0)
            continue;

        const char *rest = backup_read_label(key + len, parsed.label);

        if (rest == NULL || !folders[i].parse(rest, &parsed))
            return false;
        *out = parsed;
        return true;
    }
    return false;
}

/* ---- values ---- */

void
backup_header_reset(BackupHeader *header)
{
    free(header->chain);
    free(header->uses);
    tablespace_map_reset(&header->tablespaces);
    for (size_t i = 0; i < header->database_count; i++)
        free(header->databases[i].name);
    free(header->databases);
    *header = (BackupHeader){0};
}

/* What owns memory, one after the other; what was copied is in out, also when this fails. */
static int
backup_header_copy_owned(const BackupHeader *header, BackupHeader *out, Error *err)
{
    out->chain = calloc(MAX(header->chain_count, (size_t) 1), sizeof *out->chain);
    out->uses = calloc(MAX(header->uses_count, (size_t) 1), sizeof *out->uses);
    if (out->chain == NULL || out->uses == NULL)
        return error_nomem(err);
    if (header->chain_count > 0)
        memcpy(out->chain, header->chain, header->chain_count * sizeof *out->chain);
    if (header->uses_count > 0)
        memcpy(out->uses, header->uses, header->uses_count * sizeof *out->uses);
    for (size_t i = 0; i < header->tablespaces.count; i++)
    {
        const TablespaceEntry *entry = &header->tablespaces.items[i];

        if (tablespace_map_add(&out->tablespaces, entry->oid, entry->path, err) < 0)
            return -1;
    }
    if (header->databases == NULL)
        return 0;
    out->databases = calloc(MAX(header->database_count, (size_t) 1), sizeof *out->databases);
    if (out->databases == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < header->database_count; i++)
    {
        out->databases[i] = header->databases[i];
        out->databases[i].name = strdup(header->databases[i].name);
        if (out->databases[i].name == NULL)
            return error_nomem(err);
        out->database_count++;
    }
    return 0;
}

int
backup_header_copy(const BackupHeader *header, BackupHeader *out, Error *err)
{
    AUTO(backup_header_reset) BackupHeader copy = *header;

    copy.chain = NULL;
    copy.uses = NULL;
    copy.tablespaces = (TablespaceMap){0};
    copy.databases = NULL;
    copy.database_count = 0;
    if (backup_header_copy_owned(header, &copy, err) < 0)
        return -1;
    *out = copy;
    copy = (BackupHeader){0};
    return 0;
}

void
backup_file_reset(BackupFile *file)
{
    block_set_reset(&file->blocks);
    block_set_reset(&file->damaged);
}

PgManifestFile
backup_file_pg_entry(
    const BackupFile *file, ChecksumAlgorithm checksum, char name[BACKUP_ARCHIVE_NAME_MAX])
{
    bool incremental = file->kind == BACKUP_FILE_INCREMENTAL;
    PgManifestFile entry = {
        .path =
            incremental ? incremental_path(file->path, name, BACKUP_ARCHIVE_NAME_MAX) : file->path,
        .bytes = file->stored_bytes,
        .modified_s = file->modified_s,
        .algorithm = checksum};

    assert(file->kind != BACKUP_FILE_FOLDER);
    memcpy(entry.checksum, file->checksum, sizeof entry.checksum);
    return entry;
}
