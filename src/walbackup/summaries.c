/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * WAL summaries; see summaries.h. The rules are those of PostgreSQL (GetFileBackupMethod in
 * basebackup_incremental.c), but for what lies at or behind a limit block or the parent's end: all
 * of that is taken for changed, as pages that were made by extending a file need not be in WAL.
 */
#include "walbackup/summaries.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "common/parse.h"
#include "pg/data_page.h"

#define SUMMARIES_SQL_MS 60000
#define SUMMARIES_READ_MS (INT64_C(10) * 60 * 1000)
#define SUMMARIES_STALL_MS 60000
#define SUMMARIES_POLL_MS 200
#define SUMMARIES_RELATION UINT32_MAX /* in place of a segment: what is known of all of it */
#define SUMMARIES_NO_LIMIT UINT32_MAX

/* Of a segment file its changed blocks; of a relation, or (relnode 0) of a database, its limit. */
typedef struct SummaryEntry
{
    uint32_t tablespace, database, relnode, segment;
    uint32_t limit;
    uint32_t bits_bytes;
    uint8_t *bits; /* owned */
} SummaryEntry;

struct Summaries
{
    SummaryEntry *entries; /* owned */
    size_t count, cap;
    uint32_t *slots; /* owned; open addressing, index + 1; 0: free */
    size_t slot_count;
};

/* A summary file of the server. */
typedef struct SummaryFile
{
    TimelineId tli;
    Lsn start;
    Lsn end;
} SummaryFile;

typedef struct SummaryFiles
{
    SummaryFile *items; /* owned */
    size_t count, cap;
} SummaryFiles;

static void
result_clearp(PGresult **res)
{
    PQclear(*res);
}

static void
summary_files_reset(SummaryFiles *files)
{
    free(files->items);
    *files = (SummaryFiles){0};
}

void
summaries_free(Summaries *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->count; i++)
        free(s->entries[i].bits);
    free(s->entries);
    free(s->slots);
    free(s);
}

/* ---- the table ---- */

static size_t
summaries_hash(const SummaryEntry *key)
{
    uint64_t h = (uint64_t) key->relnode << 32 | key->segment;

    h ^= ((uint64_t) key->database << 32 | key->tablespace) * UINT64_C(0x9E3779B97F4A7C15);
    h *= UINT64_C(0xD6E8FEB86659FD93);
    return (size_t) (h ^ h >> 32);
}

/* The slot of key, or the free one where it belongs. */
static uint32_t *
summaries_slot(const Summaries *s, const SummaryEntry *key)
{
    for (size_t i = summaries_hash(key);; i++)
    {
        uint32_t *slot = &s->slots[i & (s->slot_count - 1)];
        const SummaryEntry *e = *slot != 0 ? &s->entries[*slot - 1] : NULL;

        if (e == NULL || (e->relnode == key->relnode && e->segment == key->segment &&
                          e->database == key->database && e->tablespace == key->tablespace))
            return slot;
    }
}

static int
summaries_grow_slots(Summaries *s, Error *err)
{
    uint32_t *old = s->slots;
    size_t want = s->slot_count == 0 ? 1024 : s->slot_count * 2;

    s->slots = calloc(want, sizeof *s->slots);
    if (s->slots == NULL)
    {
        s->slots = old;
        return error_nomem(err);
    }
    free(old);
    s->slot_count = want;
    for (size_t i = 0; i < s->count; i++)
        *summaries_slot(s, &s->entries[i]) = (uint32_t) i + 1;
    return 0;
}

static const SummaryEntry *
summaries_look(
    const Summaries *s, uint32_t tablespace, uint32_t database, uint32_t relnode, uint32_t segment)
{
    SummaryEntry key = {
        .tablespace = tablespace, .database = database, .relnode = relnode, .segment = segment};
    uint32_t at = s->slot_count > 0 ? *summaries_slot(s, &key) : 0;

    return at != 0 ? &s->entries[at - 1] : NULL;
}

static int
summaries_entry(Summaries *s, const SummaryEntry *key, SummaryEntry **out, Error *err)
{
    SummaryEntry *entries;
    uint32_t *slot;

    if (s->count * 2 >= s->slot_count && summaries_grow_slots(s, err) < 0)
        return -1;
    slot = summaries_slot(s, key);
    if (*slot == 0)
    {
        entries = array_grow(s->entries, s->count, &s->cap, sizeof *entries, err);
        if (entries == NULL)
            return -1;
        s->entries = entries;
        entries[s->count] = *key;
        *slot = (uint32_t) ++s->count;
    }
    *out = &s->entries[*slot - 1];
    return 0;
}

static int
summaries_mark(SummaryEntry *e, uint32_t block, Error *err)
{
    if (block / 8 >= e->bits_bytes)
    {
        uint32_t want = MAX(8, e->bits_bytes);
        uint8_t *bits;

        while (block / 8 >= want)
            want *= 2;
        bits = realloc(e->bits, want);
        if (bits == NULL)
            return error_nomem(err);
        memset(bits + e->bits_bytes, 0, want - e->bits_bytes);
        e->bits = bits;
        e->bits_bytes = want;
    }
    e->bits[block / 8] = (uint8_t) (e->bits[block / 8] | 1u << block % 8);
    return 0;
}

/* ---- one row: relfilenode, tablespace, database, fork, block, whether it is a limit ---- */

static int
summaries_note_row(Summaries *s, const PGresult *res, Error *err)
{
    SummaryEntry key = {.limit = SUMMARIES_NO_LIMIT, .segment = SUMMARIES_RELATION};
    bool is_limit = PQgetvalue(res, 0, 5)[0] == 't';
    uint32_t fork, block;
    SummaryEntry *e;

    if (!parse_u32(PQgetvalue(res, 0, 0), &key.relnode) ||
        !parse_u32(PQgetvalue(res, 0, 1), &key.tablespace) ||
        !parse_u32(PQgetvalue(res, 0, 2), &key.database) ||
        !parse_u32(PQgetvalue(res, 0, 3), &fork) || !parse_u32(PQgetvalue(res, 0, 4), &block))
        return error_set(err, ERROR_CORRUPT, "the contents of a WAL summary are not understood");
    if (fork != DATA_FORK_MAIN)
        return 0; /* the other forks are compared as they are */
    if (!is_limit)
        key.segment = block / DATA_SEGMENT_BLOCKS;
    if (summaries_entry(s, &key, &e, err) < 0)
        return -1;
    if (!is_limit)
        return summaries_mark(e, block % DATA_SEGMENT_BLOCKS, err);
    e->limit = MIN(e->limit, block);
    return 0;
}

/* Row by row: a summary may have millions. */
static int
summaries_read_file(
    Summaries *s, Server *server, const SummaryFile *file, const atomic_bool *cancel, Error *err)
{
    static const char what[] = "could not read a WAL summary";
    Deadline dl = deadline_after_ms(SUMMARIES_READ_MS, cancel);
    char start[LSN_TEXT_BYTES], end[LSN_TEXT_BYTES], sql[320];

    (void) snprintf(
        sql, sizeof sql,
        "SELECT relfilenode, reltablespace, reldatabase, relforknumber, relblocknumber, "
        "is_limit_block FROM pg_catalog.pg_wal_summary_contents(%" PRIu32 ", '%s', '%s')",
        file->tli, lsn_format(file->start, start, sizeof start),
        lsn_format(file->end, end, sizeof end));
    if (PQsendQuery(server->sql.conn, sql) == 0 || PQsetSingleRowMode(server->sql.conn) == 0)
        return source_error(&server->sql, NULL, what, err);
    for (;;)
    {
        AUTO(result_clearp) PGresult *res = NULL;

        if (source_next_result(&server->sql, what, &dl, &res, err) < 0)
            return -1;
        if (res == NULL)
            return 0;
        if (PQresultStatus(res) == PGRES_TUPLES_OK)
            continue; /* the end of the rows */
        if (PQresultStatus(res) == PGRES_SINGLE_TUPLE && PQnfields(res) == 6)
        {
            if (summaries_note_row(s, res, err) == 0)
                continue;
        }
        else
            (void) source_error(&server->sql, res, what, err);
        source_discard(&server->sql, &dl);
        return -1;
    }
}

/* ---- which summaries there are ---- */

static int
summaries_list(Server *server, const Deadline *dl, SummaryFiles *out, Error *err)
{
    static const char what[] = "could not list WAL summaries";
    AUTO(result_clearp) PGresult *res = NULL;

    if (source_exec(
            &server->sql,
            "SELECT tli, start_lsn, end_lsn FROM pg_catalog.pg_available_wal_summaries() "
            "ORDER BY tli, start_lsn, end_lsn",
            NULL, what, dl, &res, err) < 0)
        return -1;
    for (int i = 0; i < PQntuples(res); i++)
    {
        SummaryFile *items = array_grow(out->items, out->count, &out->cap, sizeof *out->items, err);
        SummaryFile file;

        if (items == NULL)
            return -1;
        out->items = items;
        if (!parse_u32(PQgetvalue(res, i, 0), &file.tli) ||
            !lsn_parse(PQgetvalue(res, i, 1), &file.start) ||
            !lsn_parse(PQgetvalue(res, i, 2), &file.end))
            return error_set(err, ERROR_CORRUPT, "the list of WAL summaries is not understood");
        items[out->count++] = file;
    }
    return 0;
}

/* How far summaries of tli reach from start without a gap. */
static Lsn
summaries_reach(const SummaryFiles *files, TimelineId tli, Lsn start)
{
    Lsn at = start;

    /* by start: one pass is enough */
    for (size_t i = 0; i < files->count; i++)
    {
        const SummaryFile *f = &files->items[i];

        if (f->tli == tli && f->start <= at && f->end > at)
            at = f->end;
    }
    return at;
}

/* The first LSN of the range that no summary has, with its timeline; false when there is none. */
static bool
summaries_missing(
    const SummaryFiles *files, const SummariesRange *range, TimelineId *tli, Lsn *missing)
{
    for (size_t i = 0; i < range->history->count; i++)
    {
        const TimelineEntry *entry = &range->history->entries[i];
        Lsn from = MAX(entry->begin, range->start);
        Lsn to = entry->tli == range->tli ? range->end : MIN(entry->end, range->end);

        if (entry->tli > range->tli || from >= to)
            continue;
        *missing = summaries_reach(files, entry->tli, from);
        *tli = entry->tli;
        if (*missing < to)
            return true;
    }
    return false;
}

/* Whether a summary says anything of the range. */
static bool
summaries_wanted(const SummaryFile *file, const SummariesRange *range)
{
    const TimelineEntry *entry = timeline_find(range->history, file->tli);

    return entry != NULL && file->tli <= range->tli &&
           file->end > MAX(entry->begin, range->start) && file->start < MIN(entry->end, range->end);
}

typedef struct SummarizerState
{
    bool on;
    Lsn summarized; /* files are written up to here */
    Lsn pending;    /* WAL is read up to here: grows as long as it works */
} SummarizerState;

static int
summaries_state(Server *server, const Deadline *dl, SummarizerState *out, Error *err)
{
    AUTO(result_clearp) PGresult *res = NULL;

    if (source_exec(
            &server->sql,
            "SELECT summarized_lsn, pending_lsn, pg_catalog.current_setting('summarize_wal') "
            "FROM pg_catalog.pg_get_wal_summarizer_state()",
            NULL, "could not ask for the state of the WAL summarizer", dl, &res, err) < 0)
        return -1;
    if (PQntuples(res) != 1 || !lsn_parse(PQgetvalue(res, 0, 0), &out->summarized) ||
        !lsn_parse(PQgetvalue(res, 0, 1), &out->pending))
        return error_set(
            err, ERROR_CORRUPT, "the state of the server's WAL summarizer is not understood");
    out->on = strcmp(PQgetvalue(res, 0, 2), "on") == 0;
    return 0;
}

/* 1: files has all of the range; 0: it will not, err says why; -1: the session, or canceled */
static int
summaries_await(
    Server *server, const SummariesRange *range, const atomic_bool *cancel, SummaryFiles *files,
    Error *err)
{
    int64_t progress_ms = clock_monotonic_ms();
    Lsn seen = LSN_INVALID;

    for (;;)
    {
        Deadline dl = deadline_after_ms(SUMMARIES_SQL_MS, cancel);
        SummarizerState state = {0};
        char text[LSN_TEXT_BYTES];
        TimelineId tli;
        Lsn missing;

        summary_files_reset(files);
        /* first the state: what it counts is in the list */
        if (summaries_state(server, &dl, &state, err) < 0 ||
            summaries_list(server, &dl, files, err) < 0)
            return -1;
        if (!summaries_missing(files, range, &tli, &missing))
            return 1;
        if (!state.on)
        {
            (void) error_set(err, ERROR_NOT_FOUND, "summarize_wal is off");
            return 0;
        }
        if (state.pending > seen)
        {
            seen = state.pending;
            progress_ms = clock_monotonic_ms();
        }
        /* what lies behind it will not be made any more */
        if (missing < state.summarized || clock_monotonic_ms() - progress_ms >= SUMMARIES_STALL_MS)
        {
            (void) error_set(
                err, ERROR_NOT_FOUND, "there is no summary of timeline %" PRIu32 " from %s on", tli,
                lsn_format(missing, text, sizeof text));
            return 0;
        }
        deadline_sleep_ms(&dl, SUMMARIES_POLL_MS);
        if (deadline_check(&dl, "waiting for WAL summaries", err) < 0)
            return -1;
    }
}

static int
summaries_load(
    Server *server, const SummariesRange *range, const atomic_bool *cancel, Summaries **out,
    Error *err)
{
    AUTO(summary_files_reset) SummaryFiles files = {0};
    AUTO(summaries_freep) Summaries *s = calloc(1, sizeof *s);
    int rc;

    if (s == NULL)
        return error_nomem(err);
    rc = summaries_await(server, range, cancel, &files, err);
    if (rc <= 0)
        return rc;
    for (size_t i = 0; i < files.count; i++)
        if (summaries_wanted(&files.items[i], range) &&
            summaries_read_file(s, server, &files.items[i], cancel, err) < 0)
            return -1;
    *out = steal(s);
    return 0;
}

int
summaries_read(
    Server *server, const SummariesRange *range, const atomic_bool *cancel, Summaries **out,
    Error *err)
{
    *out = NULL;
    if (summaries_load(server, range, cancel, out, err) == 0)
        return 0;
    /* what the server refuses (a role without the right, a summary that was removed) is no loss */
    if (err->kind == ERROR_CANCELED || err->kind == ERROR_NOMEM ||
        PQstatus(server->sql.conn) != CONNECTION_OK ||
        PQtransactionStatus(server->sql.conn) != PQTRANS_IDLE)
        return -1;
    return 0;
}

/* ---- one file ---- */

int
summaries_find(
    const Summaries *s, const RelationFile *file, uint32_t blocks, uint32_t parent_blocks,
    bool *whole, BlockSet *out, Error *err)
{
    const SummaryEntry *relation =
        summaries_look(s, file->tablespace, file->database, file->relnode, SUMMARIES_RELATION);
    const SummaryEntry *changed =
        summaries_look(s, file->tablespace, file->database, file->relnode, file->segment);
    uint64_t limit = relation != NULL ? relation->limit : UINT64_MAX;
    uint64_t first = (uint64_t) file->segment * DATA_SEGMENT_BLOCKS;
    uint32_t from = parent_blocks;

    *whole = limit <= first ||
             summaries_look(s, file->tablespace, file->database, 0, SUMMARIES_RELATION) != NULL;
    if (*whole)
        return 0;
    for (uint32_t i = 0; changed != NULL && i < changed->bits_bytes * 8 && i < blocks; i++)
        if ((changed->bits[i / 8] & 1u << i % 8) != 0 && block_set_add(out, i, 1, err) < 0)
            return -1;
    if (limit - first < from)
        from = (uint32_t) (limit - first);
    return from < blocks ? block_set_add(out, from, blocks - from, err) : 0;
}
