/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Timeline history files; see timeline.h.
 */
#include "pg/timeline.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/parse.h"

static bool
timeline_is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next run of characters that are not blank as text; false if there is none or it is too long.
 */
static bool
timeline_take_word(const char **at, const char *end, char *buf, size_t len)
{
    size_t n = 0;

    while (*at < end && timeline_is_blank(**at))
        (*at)++;
    while (*at < end && !timeline_is_blank(**at))
    {
        if (n + 1 >= len || **at == '\0')
            return false;
        buf[n++] = *(*at)++;
    }
    buf[n] = '\0';
    return n > 0;
}

/* One line without its line end; *is_entry false for a comment or a blank line. */
static int
timeline_parse_line(
    const char *line, const char *end, bool has_newline, bool *is_entry, TimelineEntry *out,
    Error *err)
{
    char word[24];
    uint32_t tli;
    Lsn lsn;

    while (line < end && timeline_is_blank(*line))
        line++;
    *is_entry = line < end && *line != '#';
    if (!*is_entry)
        return 0;
    if (!timeline_take_word(&line, end, word, sizeof word) || !parse_u32(word, &tli) || tli == 0)
        return error_set(err, ERROR_CORRUPT, "expected a numeric timeline ID");
    if (!timeline_take_word(&line, end, word, sizeof word) || !lsn_parse(word, &lsn))
        return error_set(err, ERROR_CORRUPT, "expected the LSN of a switch point");

    /*
     * PostgreSQL always writes a tab, a reason and a line end behind the LSN. An LSN that is the
     * last thing in the file may have lost digits with the rest, and would then be another LSN.
     */
    if (line == end && !has_newline)
        return error_set(err, ERROR_CORRUPT, "the file ends within the line");
    *out = (TimelineEntry){.tli = tli, .begin = 0, .end = lsn};
    return 0;
}

static int
timeline_append(TimelineHistory *h, size_t *cap, const TimelineEntry *entry, Error *err)
{
    TimelineEntry *entries = array_grow(h->entries, h->count, cap, sizeof *entries, err);

    if (entries == NULL)
        return -1;
    h->entries = entries;
    h->entries[h->count++] = *entry;
    return 0;
}

static int
timeline_parse_lines(TimelineId tli, const char *text, size_t len, TimelineHistory *h, Error *err)
{
    const char *end = len > 0 ? text + len : text;
    size_t cap = 0;
    size_t line_no = 0;
    Lsn begin = 0;
    TimelineId last = 0;

    while (text != end)
    {
        const char *newline = memchr(text, '\n', (size_t) (end - text));
        const char *line_end = newline != NULL ? newline : end;
        TimelineEntry entry = {0};
        bool is_entry = false;

        line_no++;
        if (timeline_parse_line(text, line_end, newline != NULL, &is_entry, &entry, err) < 0)
            return error_wrap(err, "line %zu", line_no);
        text = newline != NULL ? newline + 1 : end;
        if (!is_entry)
            continue;
        if (entry.tli <= last)
            return error_set(
                err, ERROR_CORRUPT,
                "line %zu: timeline IDs must ascend, but %" PRIu32 " follows %" PRIu32, line_no,
                entry.tli, last);
        if (entry.tli >= tli)
            return error_set(
                err, ERROR_CORRUPT,
                "line %zu: timeline ID %" PRIu32 " is not older than the timeline itself", line_no,
                entry.tli);
        if (entry.end < begin)
            return error_set(
                err, ERROR_CORRUPT, "line %zu: the switch point lies before the one above it",
                line_no);
        if (h->count + 1 >= TIMELINE_MAX_ENTRIES)
            return error_set(
                err, ERROR_CORRUPT, "it has more than %d timelines", TIMELINE_MAX_ENTRIES);
        entry.begin = begin;
        if (timeline_append(h, &cap, &entry, err) < 0)
            return -1;
        begin = entry.end;
        last = entry.tli;
    }
    if (h->count == 0 && tli > 1)
        return error_set(err, ERROR_CORRUPT, "it names no parent timeline");

    TimelineEntry newest = {.tli = tli, .begin = begin, .end = UINT64_MAX};

    return timeline_append(h, &cap, &newest, err);
}

int
timeline_parse_history(
    TimelineId tli, const char *text, size_t len, TimelineHistory *out, Error *err)
{
    AUTO(timeline_history_reset) TimelineHistory h = {0};

    assert(tli != 0);
    *out = (TimelineHistory){0};
    if (len > TIMELINE_HISTORY_MAX_BYTES)
        (void) error_set(
            err, ERROR_CORRUPT, "it is larger than %d bytes", TIMELINE_HISTORY_MAX_BYTES);
    else if (timeline_parse_lines(tli, text, len, &h, err) == 0)
    {
        out->count = h.count;
        out->entries = steal(h.entries);
        return 0;
    }
    return error_wrap(err, "could not read timeline history file \"%08" PRIX32 ".history\"", tli);
}

void
timeline_history_reset(TimelineHistory *h)
{
    free(h->entries);
    *h = (TimelineHistory){0};
}

const TimelineEntry *
timeline_find(const TimelineHistory *h, TimelineId tli)
{
    for (size_t i = 0; i < h->count; i++)
        if (h->entries[i].tli == tli)
            return &h->entries[i];
    return NULL;
}

TimelineId
timeline_of_lsn(const TimelineHistory *h, Lsn lsn)
{
    /* UINT64_MAX itself belongs to the newest, whose end says "none" */
    for (size_t i = 0; i < h->count; i++)
        if (lsn < h->entries[i].end || i + 1 == h->count)
            return h->entries[i].tli;
    return 0;
}
