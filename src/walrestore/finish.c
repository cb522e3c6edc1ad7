/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The last files of a restore; see finish.h.
 */
#include "walrestore/finish.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/log.h"
#include "repo/file_digest.h"
#include "walrestore/parts.h"

#define FINISH_BUFFER (64u * 1024u)
#define FINISH_MAP_MAX (16u * 1024u * 1024u)

/* A file that was changed after it was restored: what backup_manifest says of it. */
typedef struct FinishChanged
{
    const char *path;
    bool changed;
    FileDigest digest;
} FinishChanged;

typedef struct Finish
{
    const Place *place;
    const Plan *plan;
    FinishChanged label;
    FinishChanged map;
    /* backup_manifest while it is written */
    int fd;
    uint8_t *buffer; /* of FINISH_BUFFER */
    size_t filled;
} Finish;

/* NOT_FOUND if it is not there. */
static int
finish_read(const Finish *f, const char *name, size_t max, char **out, size_t *len, Error *err)
{
    char path[PLACE_PATH_MAX + 64];

    (void) snprintf(path, sizeof path, "%s/%s", f->place->path, name);
    return fs_read_file(path, max, out, len, err);
}

static int
finish_replace(Finish *f, FinishChanged *which, const StrBuf *text, Error *err)
{
    if (strbuf_finish(text, err) < 0 ||
        place_write_file(f->place, which->path, strbuf_text(text), text->len, err) < 0 ||
        file_digest_bytes(
            strbuf_text(text), text->len, f->plan->newest.header.checksum, &which->digest, err) < 0)
        return -1;
    which->changed = true;
    return 0;
}

/* The server does not start with the label of an incremental backup. */
static int
finish_label(Finish *f, Error *err)
{
    const BackupHeader *header = &f->plan->newest.header;
    AUTO(free_text) char *text = NULL;
    AUTO(strbuf_reset) StrBuf out;
    BackupLabel label;
    size_t len;

    strbuf_init(&out, BACKUP_LABEL_MAX);
    if (finish_read(f, f->label.path, BACKUP_LABEL_MAX, &text, &len, err) < 0 ||
        backup_label_parse(text, len, header->segment_bytes, &label, err) < 0)
        return error_wrap(err, "backup \"%s\" has no good backup_label", header->label);
    if (label.start_lsn != header->start_lsn)
        return error_set(
            err, ERROR_CORRUPT, "backup_label and manifest of backup \"%s\" name different starts",
            header->label);
    if (label.incremental_from_lsn == LSN_INVALID)
        return 0;
    backup_label_without_incremental(text, len, &out);
    return finish_replace(f, &f->label, &out, err);
}

/* Recovery makes the links by it, so that it must know the new places. */
static int
finish_map(Finish *f, Error *err)
{
    AUTO(free_text) char *text = NULL;
    AUTO(tablespace_map_reset) TablespaceMap old = {0};
    AUTO(tablespace_map_reset) TablespaceMap fresh = {0};
    AUTO(strbuf_reset) StrBuf out;
    bool mapped = false;
    size_t len;

    strbuf_init(&out, FINISH_MAP_MAX);
    for (size_t i = 0; i < f->place->tablespace_count; i++)
        mapped = mapped || f->place->tablespaces[i].mapped;
    if (!mapped)
        return 0;
    if (finish_read(f, f->map.path, FINISH_MAP_MAX, &text, &len, err) < 0 ||
        tablespace_map_parse(text, len, &old, err) < 0)
        return error_wrap(
            err, "backup \"%s\" has no good tablespace_map", f->plan->newest.header.label);
    for (size_t i = 0; i < old.count; i++)
    {
        const PlaceTablespace *ts = place_find_tablespace(f->place, old.items[i].oid);

        if (tablespace_map_add(
                &fresh, old.items[i].oid, ts != NULL ? ts->link : old.items[i].path, err) < 0)
            return -1;
    }
    tablespace_map_format(&fresh, &out);
    return finish_replace(f, &f->map, &out, err);
}

/* ---- settings ---- */

/* Only one standby can use a slot, and the one that was backed up may still do so. */
static void
finish_check_slot(const Settings *settings, const char *name, const char *text, size_t len)
{
    char value[8];

    if (settings->standby && settings_find(text, len, SETTINGS_SLOT, value, sizeof value))
        log_write(
            LOG_WARNING,
            "%s sets " SETTINGS_SLOT
            ": change it before the start if another standby still uses this slot",
            name);
}

/* It beats -D and must not be in postgresql.auto.conf: a server started here would run there. */
static void
finish_check_data(const Finish *f, const char *text, size_t len)
{
    char value[PLACE_PATH_MAX], real[PATH_MAX];

    if (settings_find(text, len, "data_directory", value, sizeof value) &&
        (realpath(value, real) == NULL || strcmp(real, f->place->path) != 0))
        log_write(
            LOG_WARNING,
            "postgresql.conf sets data_directory to \"%s\": the server would run there; change it "
            "before the start",
            value);
}

/* What of postgresql.conf does not count, and what counts too much. */
static int
finish_check_conf(const Finish *f, const Settings *settings, Error *err)
{
    AUTO(free_text) char *text = NULL;
    bool found[SETTINGS_TARGETS];
    char value[PLACE_PATH_MAX];
    size_t len;

    if (finish_read(f, "postgresql.conf", SETTINGS_FILE_MAX, &text, &len, err) < 0)
    {
        if (err->kind != ERROR_NOT_FOUND)
            return -1;
        *err = (Error){0};
        log_write(
            LOG_WARNING, "the backup has no postgresql.conf: configuration files outside the data "
                         "directory are not backed up");
        return 0;
    }
    settings_find_targets(text, len, found);
    for (size_t i = 0; i < SETTINGS_TARGETS; i++)
        if (found[i])
            log_write(
                LOG_WARNING, "postgresql.conf sets %s: " SETTINGS_FILE " overrides it",
                settings_target_names[i]);
    if (!settings->standby && settings_find(text, len, SETTINGS_DELAY, value, sizeof value))
        log_write(
            LOG_WARNING,
            "postgresql.conf sets " SETTINGS_DELAY ": " SETTINGS_FILE " overrides it with 0");
    finish_check_slot(settings, "postgresql.conf", text, len);
    finish_check_data(f, text, len);
    return 0;
}

static int
finish_settings(const Finish *f, const Settings *settings, Error *err)
{
    AUTO(free_text) char *text = NULL;
    AUTO(strbuf_reset) StrBuf out;
    size_t len = 0;

    strbuf_init(&out, 2 * (size_t) SETTINGS_FILE_MAX);
    if (finish_check_conf(f, settings, err) < 0)
        return -1;
    if (finish_read(f, SETTINGS_FILE, SETTINGS_FILE_MAX, &text, &len, err) < 0)
    {
        if (err->kind != ERROR_NOT_FOUND)
            return -1;
        *err = (Error){0};
    }
    if (text != NULL)
        finish_check_slot(settings, SETTINGS_FILE, text, len);
    settings_rewrite(text != NULL ? text : "", len, settings, &out);
    if (strbuf_finish(&out, err) < 0)
        return -1;
    return place_write_file(f->place, SETTINGS_FILE, strbuf_text(&out), out.len, err);
}

/* ---- backup_manifest ---- */

static int
finish_flush(Finish *f, Error *err)
{
    size_t len = f->filled;

    f->filled = 0;
    return fs_write_all(f->fd, f->buffer, len, PLAN_PG_MANIFEST, err);
}

static int
finish_write(void *ctx, const void *text, size_t len, Error *err)
{
    Finish *f = ctx;

    if (f->filled + len > FINISH_BUFFER && finish_flush(f, err) < 0)
        return -1;
    if (len > FINISH_BUFFER)
        return fs_write_all(f->fd, text, len, PLAN_PG_MANIFEST, err);
    memcpy(f->buffer + f->filled, text, len);
    f->filled += len;
    return 0;
}

static int
finish_add_file(const Finish *f, PgManifestWriter *w, size_t i, Error *err)
{
    const BackupFile *entry = plan_entry(f->plan, i);
    PgManifestFile file = {
        .path = entry->path,
        .bytes = entry->bytes,
        .modified_s = entry->modified_s,
        .algorithm = f->plan->newest.header.checksum};
    const FinishChanged *changed = strcmp(entry->path, f->label.path) == 0 ? &f->label
                                   : strcmp(entry->path, f->map.path) == 0 ? &f->map
                                                                           : NULL;

    if (changed != NULL && changed->changed)
    {
        file.bytes = changed->digest.bytes;
        memcpy(file.checksum, changed->digest.checksum, sizeof file.checksum);
    }
    else
        parts_checksum(f->plan, i, file.checksum);
    return pg_manifest_add(w, &file, err);
}

static int
finish_manifest(Finish *f, Error *err)
{
    const BackupHeader *header = &f->plan->newest.header;
    const PgManifestWalRange range = {
        .tli = header->tli, .start = header->start_lsn, .end = header->stop_lsn};
    AUTO(pg_manifest_freep) PgManifestWriter *w = NULL;

    if (place_file_begin(f->place, PLAN_PG_MANIFEST, &f->fd, err) < 0 ||
        pg_manifest_begin(header->pg_major, header->system_identifier, finish_write, f, &w, err) <
            0)
        return -1;
    for (size_t i = 0; i < f->plan->newest.file_count; i++)
    {
        PlanState state = plan_file(f->plan, i)->state;

        if (state != PLAN_FOLDER && state != PLAN_MADE && finish_add_file(f, w, i, err) < 0)
            return -1;
    }
    if (pg_manifest_end(w, &range, 1, err) < 0 || finish_flush(f, err) < 0)
        return -1;
    return place_file_commit(f->place, PLAN_PG_MANIFEST, f->fd, err);
}

int
finish_directory(const Place *place, const Plan *plan, const Settings *settings, Error *err)
{
    Finish f = {
        .place = place,
        .plan = plan,
        .label = {.path = "backup_label"},
        .map = {.path = "tablespace_map"},
        .fd = -1};
    const char *signal = settings->standby ? PLAN_STANDBY_SIGNAL : PLAN_RECOVERY_SIGNAL;
    int rc;

    f.buffer = fs_alloc_io(FINISH_BUFFER);
    rc = f.buffer == NULL ? error_nomem(err) : 0;
    if (rc == 0)
        rc = finish_label(&f, err);
    if (rc == 0)
        rc = finish_map(&f, err);
    if (rc == 0)
        rc = finish_settings(&f, settings, err);
    if (rc == 0)
        rc = place_write_file(place, signal, "", 0, err);
    if (rc == 0)
        rc = finish_manifest(&f, err);
    fd_close(&f.fd);
    free(f.buffer);
    return rc;
}
