/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What walrestore tells: the plan before it writes, and what has become of it.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/utf8.h"
#include "walrestore/run.h"

#define REPORT_BYTES_TEXT 32

/* "12.3 MiB" */
static char *
report_bytes(uint64_t bytes, char buf[REPORT_BYTES_TEXT])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double value = (double) bytes;
    size_t unit = 0;

    for (; value >= 1024 && unit + 1 < ARRAY_COUNT(units); unit++)
        value /= 1024;
    (void) snprintf(buf, REPORT_BYTES_TEXT, unit == 0 ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return buf;
}

static const char *
report_place(const RestoreRun *run)
{
    switch (run->place.state)
    {
        case PLACE_ABSENT:
            return "will be made";
        case PLACE_EMPTY:
            return "empty";
        case PLACE_INTERRUPTED:
            return "of an interrupted restore, which is taken up";
        case PLACE_IN_USE:
            return "of this cluster; what differs is replaced, what does not belong removed";
    }
    return "";
}

/* By one part of the dry run; as many at a time as there are workers and processors. -1: nothing
 * was tried. */
static double
report_expected_s(const RestoreRun *run)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t lanes = MIN((uint64_t) run->options.jobs, (uint64_t) MAX(processors, 1L));

    if (run->try_bytes == 0)
        return -1;
    lanes = MAX(MIN(lanes, run->plan.fetch_parts), (uint64_t) 1);
    return (double) run->plan.fetch_bytes / (double) run->try_bytes * (double) run->try_ms / 1000 /
           (double) lanes;
}

static void
report_tablespaces(const RestoreRun *run)
{
    for (size_t i = 0; i < run->place.tablespace_count; i++)
    {
        const PlaceTablespace *ts = &run->place.tablespaces[i];

        if (!ts->in_place)
            (void) printf(
                "tablespace  %" PRIu32 " to \"%s\"%s\n", ts->oid, ts->path,
                ts->mapped ? " (by --tablespace)" : "");
    }
}

int
report_plan(const RestoreRun *run, Error *err)
{
    const Plan *plan = &run->plan;
    char stopped[40], a[REPORT_BYTES_TEXT], b[REPORT_BYTES_TEXT];

    if (run->options.json)
        return 0;
    (void) printf(
        "backup      %s (%s), consistent at %s\n", run->header->label,
        run->header->incremental ? "incremental" : "full",
        clock_format_utc(run->header->stopped_us, stopped, sizeof stopped));
    for (size_t i = 0; i < run->header->chain_count; i++)
        (void) printf("%s%s\n", i == 0 ? "chain       " : "            ", run->header->chain[i]);
    (void) printf("target      %s\n", run->found.text);
    if (run->options.time_assumed_utc)
        (void) printf("            the time was given without a zone and is taken as UTC\n");
    if (run->found.note[0] != '\0')
        (void) printf("            %s\n", run->found.note);
    (void) printf("directory   \"%s\" (%s)\n", run->place.path, report_place(run));
    report_tablespaces(run);
    (void) printf(
        "to fetch    %s in %zu parts, and %s of WAL by recovery\n",
        report_bytes(plan->fetch_bytes, a), plan->fetch_parts,
        report_bytes(run->found.replay_bytes, b));
    (void) printf(
        "to write    %s in %zu files\n", report_bytes(plan->write_bytes, a), plan->write_files);
    if (plan->keep_files > 0)
        (void) printf(
            "to keep     %s in %zu files\n", report_bytes(plan->keep_bytes, a), plan->keep_files);
    if (plan->zero_files > 0)
        (void) printf(
            "zeros       %s in %zu files of other databases\n", report_bytes(plan->zero_bytes, a),
            plan->zero_files);
    if (run->options.dry_run && report_expected_s(run) >= 0)
        (void) printf(
            "time        about %.0f s and what the disk needs, guessed from one part: %s in "
            "%.2f s; recovery comes on top\n",
            report_expected_s(run) + 0.5, report_bytes(run->try_bytes, a),
            (double) run->try_ms / 1000);
    if (fflush(stdout) != 0 || ferror(stdout))
        return error_sys(err, "could not print the plan");
    return 0;
}

/* ---- JSON ---- */

/* Paths and names need not be UTF-8, JSON must. */
static json_t *
report_text(const char *text)
{
    AUTO(free_text) char *copy = utf8_copy(text);

    return copy != NULL ? json_string(copy) : NULL;
}

static json_t *
report_lsn(Lsn lsn)
{
    char text[LSN_TEXT_BYTES];

    return json_string(lsn_format(lsn, text, sizeof text));
}

static json_t *
report_time(int64_t at_us)
{
    char text[40];

    return at_us == 0 ? json_null() : json_string(clock_format_iso(at_us, text, sizeof text));
}

static const char *
report_target_name(RecoveryTargetKind kind)
{
    static const char *const names[] = {
        [RECOVERY_LATEST] = "latest", [RECOVERY_TIME] = "time", [RECOVERY_LSN] = "lsn",
        [RECOVERY_XID] = "xid",       [RECOVERY_NAME] = "name", [RECOVERY_IMMEDIATE] = "immediate"};

    return names[kind];
}

static json_t *
report_json(const RestoreRun *run)
{
    const Plan *plan = &run->plan;
    json_t *chain = json_array(), *tablespaces = json_array();
    double expected_s = run->options.dry_run ? report_expected_s(run) : -1;

    for (size_t i = 0; i < run->header->chain_count; i++)
        (void) json_array_append_new(chain, json_string(run->header->chain[i]));
    for (size_t i = 0; i < run->place.tablespace_count; i++)
        if (!run->place.tablespaces[i].in_place)
            (void) json_array_append_new(
                tablespaces, json_pack(
                                 "{s:I, s:o}", "oid", (json_int_t) run->place.tablespaces[i].oid,
                                 "path", report_text(run->place.tablespaces[i].path)));
    return json_pack(
        "{s:s, s:s, s:o, s:o, s:b, s:o, s:{s:s, s:I, s:o, s:o, s:o, s:o}, s:I, s:I, s:I, s:I, s:I, "
        "s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:o}",
        "backup", run->header->label, "kind", run->header->incremental ? "incremental" : "full",
        "chain", chain, "directory", report_text(run->place.path), "dry_run",
        (int) run->options.dry_run, "tablespaces", tablespaces, "target", "kind",
        report_target_name(run->options.target.kind), "timeline", (json_int_t) run->found.plan.tli,
        "lsn", report_lsn(run->found.lsn), "time", report_time(run->found.at_us), "text",
        report_text(run->found.text), "note", report_text(run->found.note), "fetch_bytes",
        (json_int_t) plan->fetch_bytes, "fetch_parts", (json_int_t) plan->fetch_parts,
        "write_bytes", (json_int_t) plan->write_bytes, "write_files",
        (json_int_t) plan->write_files, "keep_bytes", (json_int_t) plan->keep_bytes, "keep_files",
        (json_int_t) plan->keep_files, "zero_bytes", (json_int_t) plan->zero_bytes, "zero_files",
        (json_int_t) plan->zero_files, "removed_files", (json_int_t) run->delta.removed_files,
        "compared_bytes", (json_int_t) run->delta.compared_bytes, "replay_bytes",
        (json_int_t) run->found.replay_bytes, "fetch_seconds", (double) run->fetch_ms / 1000,
        "sync_seconds", (double) run->sync_ms / 1000, "seconds", (double) run->total_ms / 1000,
        "expected_seconds", expected_s < 0 ? json_null() : json_real(expected_s));
}

int
report_result(const RestoreRun *run, Error *err)
{
    char bytes[REPORT_BYTES_TEXT];

    if (run->options.json)
    {
        json_t *doc = report_json(run);
        int rc = doc == NULL ? error_nomem(err) : 0;

        if (rc == 0 && (json_dumpf(doc, stdout, JSON_INDENT(2)) < 0 || puts("") < 0))
            rc = error_sys(err, "could not print the result");
        json_decref(doc);
        if (rc < 0)
            return -1;
    }
    else if (run->options.dry_run)
        (void) printf("nothing was written\n");
    else
        (void) printf(
            "restored    %s in %.1f s; start the server to recover\n",
            report_bytes(run->plan.write_bytes, bytes), (double) run->total_ms / 1000);
    if (fflush(stdout) != 0 || ferror(stdout))
        return error_sys(err, "could not print the result");
    return 0;
}
