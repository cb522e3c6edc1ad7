/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What `walctl info` gathers about one system identifier, and the part of it that is about backups.
 */
#ifndef WALCTL_INFO_H
#define WALCTL_INFO_H

#include "repo/recovery.h"
#include "walctl/walctl.h"

typedef struct Info
{
    Repository *repo;
    WalInventory inv;
    WalReport report;
    BackupList backups;
    RecoveryWindows windows;
} Info;

const char *info_time(int64_t us, char *buf, size_t len);

/* Backups, and what can be recovered from them. */
void info_print_backups(const Info *info);

/* Arrays; NULL when memory is out. */
json_t *info_json_backups(const Info *info);
json_t *info_json_windows(const Info *info);

/* Whether the WAL that a complete backup needs is all there. */
bool info_backup_consistent(const Info *info, const Backup *backup);

#endif
