/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What the verbs of walctl share.
 */
#ifndef WALCTL_H
#define WALCTL_H

#include <jansson.h>

#include "common/cli.h"
#include "repo/wal_report.h"

#define WALCTL_TIMEOUT_MS 60000

typedef struct Walctl
{
    CliResult cli;
    Config *cfg;
    bool json; /* --output=json */
} Walctl;

/* A verb: what it prints goes to stdout, log lines to stderr. Sets *exit_code if that is not 0. */
typedef int (*WalctlVerb)(Walctl *ctl, int *exit_code, Error *err);

int walctl_init(Walctl *ctl, int *exit_code, Error *err);
int walctl_keygen(Walctl *ctl, int *exit_code, Error *err);
int walctl_config(Walctl *ctl, int *exit_code, Error *err);
int walctl_info(Walctl *ctl, int *exit_code, Error *err);
int walctl_verify(Walctl *ctl, int *exit_code, Error *err);
int walctl_expire(Walctl *ctl, int *exit_code, Error *err);
int walctl_pin(Walctl *ctl, int *exit_code, Error *err);
int walctl_unpin(Walctl *ctl, int *exit_code, Error *err);
int walctl_backup(Walctl *ctl, int *exit_code, Error *err);

/* Opens the repository, of --system-identifier if that was given. */
MUST_CHECK int walctl_open_repository(
    Walctl *ctl, bool need_identities, const Deadline *dl, Repository **out, Error *err);

/* ---- JSON, see output.c; NULL when memory is out, which json_pack hands on ---- */

json_t *walctl_json_lsn(Lsn lsn);
json_t *walctl_json_text(const char *text); /* what need not be UTF-8, as paths and messages */
json_t *walctl_json_time(int64_t wall_us);  /* null for 0 */
/* Of timeline tli, 0: of all. */
json_t *walctl_json_gaps(const WalReport *report, uint32_t segment_bytes, TimelineId tli);

/* On stdout; doc is borrowed, NULL: memory was out. */
MUST_CHECK int walctl_print_json(const json_t *doc, Error *err);

#endif
