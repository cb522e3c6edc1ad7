/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What the verbs of walctl share.
 */
#ifndef WALCTL_H
#define WALCTL_H

#include "common/cli.h"
#include "repo/repository.h"

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

/* Opens the repository, of --system-identifier if that was given. */
MUST_CHECK int walctl_open_repository(
    Walctl *ctl, bool need_identities, const Deadline *dl, Repository **out, Error *err);

#endif
