/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * WAL summaries of the server (17 and later, summarize_wal = on): which blocks the WAL between two
 * backups has changed. They come by SQL, pg_available_wal_summaries and pg_wal_summary_contents.
 *
 * Memory: a bit for each block of the changed relations, up to the highest changed one.
 */
#ifndef WALBACKUP_SUMMARIES_H
#define WALBACKUP_SUMMARIES_H

#include "pg/block_set.h"
#include "pg/data_file.h"
#include "walbackup/server.h"

typedef struct Summaries Summaries;

typedef struct SummariesRange
{
    const TimelineHistory *history;
    TimelineId tli; /* of end */
    Lsn start;
    Lsn end;
} SummariesRange;

/*
 * All summaries of the range, along its timelines. Waits for the server to write the last ones as
 * long as it makes progress within a minute.
 *
 * *out NULL with success: there are none, or not all; err->msg has the reason.
 * Errors: a session that is lost, CANCELED, NOMEM
 */
MUST_CHECK int summaries_read(
    Server *server, const SummariesRange *range, const atomic_bool *cancel, Summaries **out,
    Error *err);
void summaries_free(Summaries *s);
DEFINE_AUTO(Summaries, summaries_free);

/*
 * The changed blocks of a file of blocks pages, of which the parent has parent_blocks; counted in
 * the file. *whole: it was made anew since, and all of it has to be stored. Safe from any thread.
 */
MUST_CHECK int summaries_find(
    const Summaries *s, const RelationFile *file, uint32_t blocks, uint32_t parent_blocks,
    bool *whole, BlockSet *out, Error *err);

#endif
