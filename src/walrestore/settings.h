/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The settings that recovery needs, as a block of lines at the end of postgresql.auto.conf. Pure.
 */
#ifndef WALRESTORE_SETTINGS_H
#define WALRESTORE_SETTINGS_H

#include "common/strbuf.h"
#include "walrestore/options.h"

#define SETTINGS_FILE "postgresql.auto.conf"
#define SETTINGS_FILE_MAX (16u * 1024 * 1024)
#define SETTINGS_TARGETS 5 /* recovery_target and _name, _time, _xid, _lsn */

/* Names of the settings that name a target; two of them are an error in PostgreSQL. */
extern const char *const settings_target_names[SETTINGS_TARGETS];

typedef struct Settings
{
    const char *restore_command;
    const RecoveryTarget *target;
    TimelineId tli;       /* 0: latest */
    RestoreAction action; /* when there is a target to stop at */
    bool standby;         /* it goes on */
} Settings;

/* What is written between these two is replaced by the next restore. */
#define SETTINGS_BEGIN "# walrestore begin: how this server recovers"
#define SETTINGS_END "# walrestore end"

/* Of a delayed standby: any recovery would wait for it, not only that of a standby. */
#define SETTINGS_DELAY "recovery_min_apply_delay"
#define SETTINGS_SLOT "primary_slot_name"

/*
 * old: what the file has. The user's lines stay as they are, but for recovery_target... ones and,
 * unless a standby is made, recovery_min_apply_delay, which become comments; the block of an
 * earlier restore goes. Our block sets these to nothing: postgresql.conf, a file that it includes,
 * or one outside the data directory may have them, and any of them would beat the target.
 */
void settings_rewrite(const char *old, size_t len, const Settings *settings, StrBuf *out);

/* Whether a configuration file sets this to anything but nothing; value is cut where it is longer.
 */
bool settings_find(const char *text, size_t len, const char *name, char *value, size_t cap);

/* Which targets it sets. */
void settings_find_targets(const char *text, size_t len, bool found[SETTINGS_TARGETS]);

/* One word for the shell, with % doubled as restore_command wants it. */
void settings_quote_shell(const char *word, StrBuf *out);
/* 'value', as configuration files have it. */
void settings_quote_value(const char *value, StrBuf *out);

/*
 * "<walfetch> --config <file> [overrides] %f %p"
 *
 * overrides  --section.key=value, as they were given to this program
 */
void settings_restore_command(
    const char *walfetch, const char *config_file, const ConfigOverrides *overrides, StrBuf *out);

#endif
