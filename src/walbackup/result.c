/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * See result.h.
 */
#include "walbackup/result.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

static char *
result_format_bytes(uint64_t bytes, char *buf, size_t len)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double) bytes;
    size_t unit = 0;

    while (value >= 1024 && unit + 1 < ARRAY_COUNT(units))
    {
        value /= 1024;
        unit++;
    }
    (void) snprintf(buf, len, "%.*f %s", unit == 0 ? 0 : 1, value, units[unit]);
    return buf;
}

/* How much smaller what is stored is than what was put in; 1 for nothing. */
static double
result_ratio(const BackupHeader *header)
{
    return header->stored_bytes > 0 ? (double) header->plain_bytes / (double) header->stored_bytes
                                    : 1;
}

static json_t *
result_lsn(Lsn lsn)
{
    char text[LSN_TEXT_BYTES];

    return json_string(lsn_format(lsn, text, sizeof text));
}

static json_t *
result_time(int64_t wall_us)
{
    char text[40];

    return json_string(clock_format_iso(wall_us, text, sizeof text));
}

static json_t *
result_labels(char (*labels)[BACKUP_LABEL_NAME_MAX], size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        (void) json_array_append_new(list, json_string(labels[i]));
    return list;
}

static int
result_print_json(const BackupRun *run, int64_t elapsed_ms, Error *err)
{
    const BackupHeader *h = &run->header;
    char sysid[32];
    json_t *doc;
    int rc = 0;

    (void) snprintf(sysid, sizeof sysid, "%" PRIu64, h->system_identifier);
    doc = json_pack(
        "{s:s, s:s, s:o, s:o, s:s, s:i, s:s, s:b, s:I, s:o, s:o, s:o, s:o, s:f, s:I, s:I, s:I, "
        "s:I, s:I, s:f, s:I, s:I, s:s, s:b, s:b}",
        "label", h->label, "kind", h->incremental ? "incremental" : "full", "chain",
        result_labels(h->chain, h->chain_count), "uses", result_labels(h->uses, h->uses_count),
        "system_identifier", sysid, "postgresql_major", h->pg_major, "source",
        h->source_stream ? "stream" : "local", "from_standby", (int) h->from_standby, "timeline",
        (json_int_t) h->tli, "start_lsn", result_lsn(h->start_lsn), "stop_lsn",
        result_lsn(h->stop_lsn), "started", result_time(h->started_us), "stopped",
        result_time(h->stopped_us), "seconds", (double) elapsed_ms / 1000, "files",
        (json_int_t) h->file_count, "full_bytes", (json_int_t) h->full_bytes, "plain_bytes",
        (json_int_t) h->plain_bytes, "stored_bytes", (json_int_t) h->stored_bytes, "reused_bytes",
        (json_int_t) h->reused_bytes, "ratio", result_ratio(h), "damaged_blocks",
        (json_int_t) h->damaged_blocks, "vanished_files",
        (json_int_t) atomic_load(&run->vanished_files), "codec", h->codec, "encrypted",
        (int) (h->key_ids[0] != '\0'), "data_checksums", (int) h->data_checksums);
    if (doc == NULL)
        return error_nomem(err);
    if (json_dumpf(doc, stdout, JSON_INDENT(2)) < 0 || puts("") < 0 || fflush(stdout) != 0)
        rc = error_sys(err, "could not print the result");
    json_decref(doc);
    return rc;
}

static int
result_print_text(const BackupRun *run, int64_t elapsed_ms, Error *err)
{
    const BackupHeader *h = &run->header;
    char start[LSN_TEXT_BYTES], stop[LSN_TEXT_BYTES];
    char full[32], plain[32], stored[32], time[40];

    (void) printf("backup      %s (%s)\n", h->label, h->incremental ? "incremental" : "full");
    if (h->incremental)
        (void) printf("builds on   %s\n", h->chain[h->chain_count - 1]);
    (void) printf(
        "database    %s in %" PRIu64 " files\n",
        result_format_bytes(h->full_bytes, full, sizeof full), h->file_count);
    (void) printf(
        "stored      %s of %s, %.1f times smaller\n",
        result_format_bytes(h->stored_bytes, stored, sizeof stored),
        result_format_bytes(h->plain_bytes, plain, sizeof plain), result_ratio(h));
    if (h->reused_bytes > 0)
        (void) printf(
            "taken up    %s of them from",
            result_format_bytes(h->reused_bytes, stored, sizeof stored));
    for (size_t i = 0; h->reused_bytes > 0 && i < h->uses_count; i++)
        (void) printf(
            "%s \"%s\"%s", i > 0 ? "," : "", h->uses[i], i + 1 == h->uses_count ? "\n" : "");
    (void) printf(
        "WAL         %s to %s, timeline %" PRIu32 "\n",
        lsn_format(h->start_lsn, start, sizeof start), lsn_format(h->stop_lsn, stop, sizeof stop),
        h->tli);
    (void) printf("consistent  %s\n", clock_format_utc(h->stopped_us, time, sizeof time));
    (void) printf("took        %.1f s\n", (double) elapsed_ms / 1000);
    if (h->damaged_blocks > 0)
        (void) printf("DAMAGED     %" PRIu64 " pages with a wrong checksum\n", h->damaged_blocks);
    if (fflush(stdout) != 0 || ferror(stdout))
        return error_sys(err, "could not print the result");
    return 0;
}

int
result_print(const BackupRun *run, int64_t elapsed_ms, bool json, Error *err)
{
    return json ? result_print_json(run, elapsed_ms, err) : result_print_text(run, elapsed_ms, err);
}
