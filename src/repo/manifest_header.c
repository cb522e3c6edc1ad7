/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The first line of a manifest; see manifest_internal.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/fs.h"
#include "common/parse.h"
#include "common/utf8.h"
#include "repo/json_read.h"
#include "repo/label.h"
#include "repo/manifest_internal.h"

#define HEADER_NAME_MAX DATA_PATH_MAX /* of databases, paths of tablespaces */

static const char *const header_kinds[] = {"full", "incremental"};
static const char *const header_sources[] = {"local", "stream"};

/* The totals, in the order in which they are written. */
static const struct
{
    const char *member;
    size_t offset;
} header_totals[] = {
    {"files", offsetof(BackupHeader, file_count)},
    {"full_bytes", offsetof(BackupHeader, full_bytes)},
    {"plain_bytes", offsetof(BackupHeader, plain_bytes)},
    {"stored_bytes", offsetof(BackupHeader, stored_bytes)},
    {"parts", offsetof(BackupHeader, part_count)},
    {"reused_bytes", offsetof(BackupHeader, reused_bytes)},
    {"damaged_blocks", offsetof(BackupHeader, damaged_blocks)},
};

/* ---- writing ---- */

static void
header_put_text(StrBuf *out, const char *member, const char *text)
{
    strbuf_printf(out, ", \"%s\": ", member);
    strbuf_put_json(out, text);
}

static void
header_put_bool(StrBuf *out, const char *member, bool value)
{
    strbuf_printf(out, ", \"%s\": %s", member, value ? "true" : "false");
}

/* A name as member, or in hex as member_hex when it is not UTF-8. */
static void
header_put_name(StrBuf *out, const char *member, const char *name)
{
    if (utf8_valid(name))
    {
        header_put_text(out, member, name);
        return;
    }
    strbuf_printf(out, ", \"%s_hex\": \"", member);
    for (const char *p = name; *p != '\0'; p++)
        strbuf_printf(out, "%02x", (unsigned) (unsigned char) *p);
    strbuf_putc(out, '"');
}

static void
header_put_labels(
    StrBuf *out, const char *member, const char (*labels)[BACKUP_LABEL_NAME_MAX], size_t count)
{
    strbuf_printf(out, ", \"%s\": [", member);
    for (size_t i = 0; i < count; i++)
    {
        strbuf_puts(out, i > 0 ? ", " : "");
        strbuf_put_json(out, labels[i]);
    }
    strbuf_putc(out, ']');
}

void
manifest_format_header(const BackupHeader *header, const char *cluster, StrBuf *out)
{
    char text[64];

    strbuf_printf(out, "{\"header\": {\"format\": %d", BACKUP_FORMAT);
    header_put_text(out, "label", header->label);
    header_put_text(out, "kind", header_kinds[header->incremental]);
    header_put_labels(
        out, "chain", (const char(*)[BACKUP_LABEL_NAME_MAX]) header->chain, header->chain_count);
    header_put_labels(
        out, "uses", (const char(*)[BACKUP_LABEL_NAME_MAX]) header->uses, header->uses_count);
    header_put_text(out, "cluster", cluster);
    strbuf_printf(out, ", \"system_identifier\": \"%" PRIu64 "\"", header->system_identifier);
    strbuf_printf(
        out, ", \"postgresql_major\": %d, \"catalog_version\": %u, \"segment_bytes\": %u",
        header->pg_major, (unsigned) header->catalog_version, (unsigned) header->segment_bytes);
    header_put_bool(out, "data_checksums", header->data_checksums);
    header_put_bool(out, "from_standby", header->from_standby);
    header_put_text(out, "source", header_sources[header->source_stream]);
    strbuf_printf(out, ", \"timeline\": %u", (unsigned) header->tli);
    header_put_text(out, "start_lsn", lsn_format(header->start_lsn, text, sizeof text));
    header_put_text(out, "stop_lsn", lsn_format(header->stop_lsn, text, sizeof text));
    header_put_text(out, "started", clock_format_iso(header->started_us, text, sizeof text));
    header_put_text(out, "stopped", clock_format_iso(header->stopped_us, text, sizeof text));
    header_put_text(out, "checksum", checksum_name(header->checksum));

    strbuf_puts(out, ", \"tablespaces\": [");
    for (size_t i = 0; i < header->tablespaces.count; i++)
    {
        const TablespaceEntry *entry = &header->tablespaces.items[i];

        strbuf_printf(out, "%s{\"oid\": %u", i > 0 ? ", " : "", (unsigned) entry->oid);
        header_put_name(out, "path", entry->path);
        strbuf_putc(out, '}');
    }
    strbuf_putc(out, ']');
    if (header->databases != NULL)
    {
        strbuf_puts(out, ", \"databases\": [");
        for (size_t i = 0; i < header->database_count; i++)
        {
            const BackupDatabase *db = &header->databases[i];

            strbuf_printf(out, "%s{\"oid\": %u", i > 0 ? ", " : "", (unsigned) db->oid);
            header_put_name(out, "name", db->name);
            if (db->row_xid != 0)
                strbuf_printf(out, ", \"row\": %u", (unsigned) db->row_xid);
            strbuf_putc(out, '}');
        }
        strbuf_putc(out, ']');
    }

    header_put_text(out, "codec", header->codec);
    header_put_text(out, "key_ids", header->key_ids);
    /* hosts have names in ASCII; anything else is not worth a backup that fails */
    header_put_text(out, "host", utf8_valid(header->host) ? header->host : "");
    header_put_text(out, "created_by", header->created_by);
    for (size_t i = 0; i < ARRAY_COUNT(header_totals); i++)
    {
        uint64_t total;

        memcpy(&total, (const char *) header + header_totals[i].offset, sizeof total);
        strbuf_printf(out, ", \"%s\": %" PRIu64, header_totals[i].member, total);
    }
    strbuf_puts(out, "}}\n");
}

/* ---- reading ---- */

static int
header_bad_member(const char *member, Error *err)
{
    return error_set(err, ERROR_CORRUPT, "it has no valid member \"%s\"", member);
}

/* Which of the words the member is. */
static bool
header_read_word(const json_t *doc, const char *member, const char *const words[2], bool *second)
{
    const char *text = json_string_value(json_object_get(doc, member));

    for (size_t i = 0; text != NULL && i < 2; i++)
    {
        if (strcmp(text, words[i]) == 0)
        {
            *second = i == 1;
            return true;
        }
    }
    return false;
}

static int
header_compare_labels(const void *a, const void *b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* No label twice. */
static int
header_check_distinct(
    const char (*labels)[BACKUP_LABEL_NAME_MAX], size_t count, const char *member, Error *err)
{
    const char **sorted = calloc(MAX(count, (size_t) 1), sizeof *sorted);
    bool twice = false;

    if (sorted == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < count; i++)
        sorted[i] = labels[i];
    qsort(sorted, count, sizeof *sorted, header_compare_labels);
    for (size_t i = 1; i < count; i++)
        twice = twice || strcmp(sorted[i - 1], sorted[i]) == 0;
    free(sorted);
    return twice ? header_bad_member(member, err) : 0;
}

/* A list of labels of other backups, at most max of them. */
static int
header_read_labels(
    const json_t *doc, const char *member, const char *own, size_t max,
    char (**out)[BACKUP_LABEL_NAME_MAX], size_t *count, Error *err)
{
    const json_t *list = json_object_get(doc, member);
    size_t n = json_array_size(list);

    if (!json_is_array(list) || n > max)
        return header_bad_member(member, err);
    if (n == 0)
        return 0;
    *out = calloc(n, sizeof **out);
    if (*out == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < n; i++)
    {
        const char *label = json_string_value(json_array_get(list, i));

        if (label == NULL || !backup_label_name_valid(label) || strcmp(label, own) == 0)
            return header_bad_member(member, err);
        memcpy((*out)[i], label, strlen(label) + 1);
    }
    *count = n;
    return header_check_distinct((const char(*)[BACKUP_LABEL_NAME_MAX]) * out, n, member, err);
}

/* What header_put_name wrote; *out is the caller's. */
static int
header_read_name(const json_t *doc, const char *member, char **out, Error *err)
{
    char member_hex[32];
    char name[HEADER_NAME_MAX];

    (void) snprintf(member_hex, sizeof member_hex, "%s_hex", member);

    size_t hex_len = json_string_length(json_object_get(doc, member_hex));

    if (hex_len > 0)
    {
        size_t len = hex_len / 2;

        if (len >= sizeof name || !json_read_hex(doc, member_hex, (uint8_t *) name, len) ||
            memchr(name, '\0', len) != NULL)
            return header_bad_member(member_hex, err);
        name[len] = '\0';
    }
    else if (!json_read_text(doc, member, name, sizeof name) || name[0] == '\0')
        return header_bad_member(member, err);
    *out = strdup(name);
    return *out != NULL ? 0 : error_nomem(err);
}

static int
header_read_tablespaces(const json_t *doc, BackupHeader *header, Error *err)
{
    const json_t *list = json_object_get(doc, "tablespaces");

    if (!json_is_array(list))
        return header_bad_member("tablespaces", err);
    for (size_t i = 0; i < json_array_size(list); i++)
    {
        const json_t *entry = json_array_get(list, i);
        AUTO(free_text) char *path = NULL;
        uint32_t oid;

        if (!json_read_u32(entry, "oid", &oid) || oid == 0)
            return header_bad_member("tablespaces", err);
        if (header_read_name(entry, "path", &path, err) < 0 ||
            tablespace_map_add(&header->tablespaces, oid, path, err) < 0)
            return -1;
    }
    return 0;
}

static int
header_read_databases(const json_t *doc, BackupHeader *header, Error *err)
{
    const json_t *list = json_object_get(doc, "databases");

    if (list == NULL)
        return 0;
    if (!json_is_array(list))
        return header_bad_member("databases", err);
    /* also when there are none, as NULL would say that nobody asked */
    header->databases = calloc(MAX(json_array_size(list), (size_t) 1), sizeof *header->databases);
    if (header->databases == NULL)
        return error_nomem(err);
    for (size_t i = 0; i < json_array_size(list); i++)
    {
        const json_t *entry = json_array_get(list, i);
        BackupDatabase *db = &header->databases[i];

        if (!json_read_u32(entry, "oid", &db->oid) || db->oid == 0 ||
            (json_object_get(entry, "row") != NULL && !json_read_u32(entry, "row", &db->row_xid)))
            return header_bad_member("databases", err);
        if (header_read_name(entry, "name", &db->name, err) < 0)
            return -1;
        header->database_count++;
    }
    return 0;
}

/* Label, kind and the backups that it needs. */
static int
header_read_identity(const json_t *doc, BackupHeader *header, Error *err)
{
    if (!json_read_text(doc, "label", header->label, sizeof header->label) ||
        !backup_label_name_valid(header->label))
        return header_bad_member("label", err);
    if (!header_read_word(doc, "kind", header_kinds, &header->incremental))
        return header_bad_member("kind", err);
    if (header_read_labels(
            doc, "chain", header->label, BACKUP_CHAIN_MAX, &header->chain, &header->chain_count,
            err) < 0 ||
        header_read_labels(
            doc, "uses", header->label, MANIFEST_USES_MAX, &header->uses, &header->uses_count,
            err) < 0)
        return -1;
    if (header->incremental != (header->chain_count > 0))
        return header_bad_member("chain", err);
    return 0;
}

/* The server, and where in its WAL the backup lies. */
static int
header_read_server(const json_t *doc, BackupHeader *header, Error *err)
{
    char text[32];
    uint32_t major;

    if (!json_read_text(doc, "system_identifier", text, sizeof text) ||
        !parse_u64(text, &header->system_identifier) || header->system_identifier == 0)
        return header_bad_member("system_identifier", err);
    if (!json_read_u32(doc, "postgresql_major", &major) || major == 0 || major > 1000)
        return header_bad_member("postgresql_major", err);
    header->pg_major = (int) major;
    if (!json_read_u32(doc, "catalog_version", &header->catalog_version))
        return header_bad_member("catalog_version", err);
    if (!json_read_u32(doc, "segment_bytes", &header->segment_bytes) ||
        !wal_segment_bytes_valid(header->segment_bytes))
        return header_bad_member("segment_bytes", err);
    if (!json_read_bool(doc, "data_checksums", &header->data_checksums))
        return header_bad_member("data_checksums", err);
    if (!json_read_bool(doc, "from_standby", &header->from_standby))
        return header_bad_member("from_standby", err);
    if (!header_read_word(doc, "source", header_sources, &header->source_stream))
        return header_bad_member("source", err);
    if (!json_read_u32(doc, "timeline", &header->tli) || header->tli == 0)
        return header_bad_member("timeline", err);
    if (!json_read_lsn(doc, "start_lsn", &header->start_lsn) || header->start_lsn == LSN_INVALID)
        return header_bad_member("start_lsn", err);
    if (!json_read_lsn(doc, "stop_lsn", &header->stop_lsn) || header->stop_lsn < header->start_lsn)
        return header_bad_member("stop_lsn", err);
    if (!json_read_time(doc, "started", &header->started_us))
        return header_bad_member("started", err);
    if (!json_read_time(doc, "stopped", &header->stopped_us))
        return header_bad_member("stopped", err);
    return 0;
}

/* How it was stored, and by whom. */
static int
header_read_storage(const json_t *doc, BackupHeader *header, Error *err)
{
    char checksum[16];
    CodecSpec codec;

    if (!json_read_text(doc, "checksum", checksum, sizeof checksum) ||
        !checksum_parse_name(checksum, &header->checksum))
        return header_bad_member("checksum", err);
    if (!json_read_text(doc, "codec", header->codec, sizeof header->codec) ||
        codec_parse(header->codec, &codec, err) < 0)
        return header_bad_member("codec", err);
    if (!json_read_text(doc, "key_ids", header->key_ids, sizeof header->key_ids) ||
        (header->key_ids[0] != '\0' && !label_key_ids_valid(header->key_ids)))
        return header_bad_member("key_ids", err);
    if (!json_read_text(doc, "host", header->host, sizeof header->host))
        return header_bad_member("host", err);
    if (!json_read_text(doc, "created_by", header->created_by, sizeof header->created_by))
        return header_bad_member("created_by", err);
    for (size_t i = 0; i < ARRAY_COUNT(header_totals); i++)
    {
        uint64_t total;

        if (!json_read_u64(doc, header_totals[i].member, &total))
            return header_bad_member(header_totals[i].member, err);
        memcpy((char *) header + header_totals[i].offset, &total, sizeof total);
    }
    return 0;
}

int
manifest_parse_header(const json_t *value, BackupHeader *out, Error *err)
{
    AUTO(backup_header_reset) BackupHeader header = {0};
    uint32_t format;

    if (!json_read_u32(value, "format", &format))
        return header_bad_member("format", err);
    if (format != BACKUP_FORMAT)
    {
        (void) error_set(
            err, ERROR_CORRUPT, "it has format %u, this program knows format %d", (unsigned) format,
            BACKUP_FORMAT);
        return error_hint(err, "Use a newer walstream.");
    }
    if (header_read_identity(value, &header, err) < 0 ||
        header_read_server(value, &header, err) < 0 ||
        header_read_storage(value, &header, err) < 0 ||
        header_read_tablespaces(value, &header, err) < 0 ||
        header_read_databases(value, &header, err) < 0)
        return -1;
    *out = header;
    header = (BackupHeader){0};
    return 0;
}
