/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What makes restored files a data directory that recovers: backup_label and tablespace_map as the
 * server takes them, the settings, the signal file, and PostgreSQL's backup_manifest.
 */
#ifndef WALRESTORE_FINISH_H
#define WALRESTORE_FINISH_H

#include "walrestore/place.h"
#include "walrestore/settings.h"

/* All files are there. */
MUST_CHECK int
finish_directory(const Place *place, const Plan *plan, const Settings *settings, Error *err);

#endif
