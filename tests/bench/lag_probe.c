/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * How long a commit takes to become durable, seen from outside: lag_probe CONNINFO RECEIVER SECONDS
 *
 * Commits a row of its own every few milliseconds and notes when the commit returned and up to
 * where WAL was flushed then, which is the commit or a little more. Asks pg_stat_replication every
 * few milliseconds how far the receiver of that application_name has reported WAL durable. Prints
 * one delay a line, in microseconds. A commit that is not durable ten seconds after the end of the
 * run is a failure.
 */
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define COMMIT_EVERY_US 20000
#define POLL_EVERY_US 2000
#define PATIENCE_US 10000000
#define COMMITS_MAX 100000

typedef struct Commit
{
    uint64_t lsn;
    int64_t at_us;
} Commit;

static int64_t
probe_now_us(void)
{
    struct timespec ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Runs a statement; the only value of its first row, or 0 if there is none. */
static uint64_t
probe_query(PGconn *conn, const char *sql, const char *parameter)
{
    PGresult *res =
        PQexecParams(conn, sql, parameter != NULL ? 1 : 0, NULL, &parameter, NULL, NULL, 0);
    uint64_t value = 0;

    if (PQresultStatus(res) != PGRES_TUPLES_OK && PQresultStatus(res) != PGRES_COMMAND_OK)
    {
        (void) fprintf(stderr, "lag_probe: %s", PQerrorMessage(conn));
        exit(1);
    }
    if (PQntuples(res) > 0 && !PQgetisnull(res, 0, 0))
        value = strtoull(PQgetvalue(res, 0, 0), NULL, 10);
    PQclear(res);
    return value;
}

static PGconn *
probe_connect(const char *conninfo)
{
    PGconn *conn = PQconnectdb(conninfo);

    if (PQstatus(conn) != CONNECTION_OK)
    {
        (void) fprintf(stderr, "lag_probe: %s", PQerrorMessage(conn));
        exit(1);
    }
    return conn;
}

int
main(int argc, char **argv)
{
    static Commit commits[COMMITS_MAX];
    size_t made = 0, durable = 0;
    PGconn *conn;
    int64_t end_us, next_us;

    if (argc != 4)
    {
        (void) fprintf(stderr, "usage: lag_probe CONNINFO RECEIVER SECONDS\n");
        return 2;
    }
    conn = probe_connect(argv[1]);
    (void) probe_query(conn, "SET synchronous_commit = local", NULL);
    (void) probe_query(conn, "CREATE TABLE IF NOT EXISTS lag_probe (at timestamptz)", NULL);
    next_us = probe_now_us();
    end_us = next_us + strtoll(argv[3], NULL, 10) * 1000000;

    for (;;)
    {
        int64_t now = probe_now_us();
        uint64_t lsn;

        if (now < end_us && now >= next_us && made < COMMITS_MAX)
        {
            (void) probe_query(conn, "INSERT INTO lag_probe VALUES (clock_timestamp())", NULL);
            commits[made].at_us = probe_now_us();
            commits[made].lsn =
                probe_query(conn, "SELECT pg_current_wal_flush_lsn() - '0/0'", NULL);
            made++;
            next_us = now + COMMIT_EVERY_US;
        }
        lsn = probe_query(
            conn,
            "SELECT max(flush_lsn - '0/0') FROM pg_stat_replication WHERE application_name = $1",
            argv[2]);
        now = probe_now_us();
        while (durable < made && commits[durable].lsn <= lsn)
            (void) printf("%lld\n", (long long) (now - commits[durable++].at_us));
        if (now >= end_us && durable == made)
            break;
        if (now >= end_us + PATIENCE_US)
        {
            (void) fprintf(
                stderr, "lag_probe: %zu of %zu commits are not durable\n", made - durable, made);
            return 1;
        }
        (void) nanosleep(&(struct timespec){.tv_nsec = POLL_EVERY_US * 1000}, NULL);
    }
    PQfinish(conn);
    return 0;
}
