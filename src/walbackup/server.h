/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The server while its files are copied: one SQL session, in which the backup is begun and ended.
 * It has to stay open in between; the server gives the backup up when it is lost.
 */
#ifndef WALBACKUP_SERVER_H
#define WALBACKUP_SERVER_H

#include "pg/data_page.h"
#include "pg/source.h"
#include "pg/timeline.h"
#include "repo/backup_format.h"

typedef struct Server
{
    Source sql;
    int pg_major;
    uint64_t system_identifier;
    uint32_t catalog_version;
    uint32_t segment_bytes;
    TimelineId tli; /* that it writes or replays */
    bool in_recovery;
    bool data_checksums;
    int64_t checkpoint_timeout_ms;
} Server;

/* For PQsetNoticeReceiver: warnings of the server go to the log. */
void server_notice(void *ctx, const PGresult *res);

/* A session of which only sql is there: settings of the role or the database do not disturb it. */
MUST_CHECK int server_set_up(Server *server, const Deadline *dl, Error *err);

/* Connects, and reads what is above. */
MUST_CHECK int server_open(const char *conninfo, const Deadline *dl, Server *out, Error *err);
void server_close(Server *server); /* fit for AUTO; gives a backup up that was not ended */

/* EXISTS when another walbackup has it. It is held until server_close, or until we are killed. */
MUST_CHECK int server_lock(Server *server, const Deadline *dl, Error *err);

/* That data is the data directory of this server, as far as it can be told. CONFLICT if not. */
MUST_CHECK int server_check_data(Server *server, const char *data, const Deadline *dl, Error *err);

/* Into header: databases with row_xid, replacing what is there. */
MUST_CHECK int
server_read_databases(Server *server, const Deadline *dl, BackupHeader *header, Error *err);

/* The server's clock, or the newest time in WAL that a standby has replayed, if that is later. */
MUST_CHECK int server_now(Server *server, const Deadline *dl, int64_t *wall_us, Error *err);

/*
 * The timelines of the last checkpoint (restart point) and of what is written or replayed now. They
 * differ on a standby that has followed another server and made no restart point since.
 */
MUST_CHECK int server_timelines(
    Server *server, const Deadline *dl, TimelineId *checkpoint, TimelineId *now, Error *err);

/* Begins the backup, which may take as long as a checkpoint. */
MUST_CHECK int server_backup_start(
    Server *server, const char *label, bool fast, const atomic_bool *cancel, Lsn *start,
    Error *err);

/* Ends it, waiting for no archiver. Texts are the caller's. */
MUST_CHECK int server_backup_stop(
    Server *server, const Deadline *dl, Lsn *stop, char **label_text, char **map_text, Error *err);

/* Whether the session is still there; from the thread that uses it, asks nothing of the server. */
MUST_CHECK int server_check(Server *server, Error *err);

#endif
