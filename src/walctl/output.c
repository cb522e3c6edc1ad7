/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What the verbs print as JSON in the same form.
 */
#include <stdio.h>

#include "common/fs.h"
#include "common/utf8.h"
#include "walctl/walctl.h"

json_t *
walctl_json_text(const char *text)
{
    AUTO(free_text) char *copy = utf8_copy(text);

    return copy != NULL ? json_string(copy) : NULL;
}

json_t *
walctl_json_lsn(Lsn lsn)
{
    char text[LSN_TEXT_BYTES];

    return json_string(lsn_format(lsn, text, sizeof text));
}

json_t *
walctl_json_time(int64_t wall_us)
{
    char text[40];

    return wall_us == 0 ? json_null() : json_string(clock_format_iso(wall_us, text, sizeof text));
}

json_t *
walctl_json_gaps(const WalReport *report, uint32_t segment_bytes, TimelineId tli)
{
    json_t *list = json_array();

    for (size_t i = 0; i < report->gap_count; i++)
    {
        const WalGap *gap = &report->gaps[i];
        char segments[WAL_REPORT_TEXT_MAX], text[WAL_REPORT_TEXT_MAX];

        if (tli != 0 && gap->tli != tli && gap->next != tli)
            continue;
        (void) json_array_append_new(
            list,
            json_pack(
                "{s:I, s:I, s:o, s:o, s:I, s:s, s:b, s:b, s:s}", "timeline", (json_int_t) gap->tli,
                "next_timeline", (json_int_t) gap->next, "start", walctl_json_lsn(gap->start),
                "end", walctl_json_lsn(gap->end), "bytes", (json_int_t) (gap->end - gap->start),
                "segments",
                wal_report_format_segments(gap->tli, gap->start, gap->end, segment_bytes, segments),
                "dead_branch", (int) gap->dead, "by_retention", (int) gap->by_retention,
                "consequence",
                wal_report_format_consequence(
                    gap->tli, gap->start, gap->end, segment_bytes, gap->dead, text)));
    }
    return list;
}

int
walctl_print_json(const json_t *doc, Error *err)
{
    if (doc == NULL)
        return error_nomem(err);
    if (json_dumpf(doc, stdout, JSON_INDENT(2)) < 0 || puts("") < 0 || fflush(stdout) != 0)
        return error_sys(err, "could not print the result");
    return 0;
}
