/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What we need of global/pg_control (catalog/pg_control.h), the same offsets in 14 to 18.
 */
#ifndef WALSTREAM_CONTROL_H
#define WALSTREAM_CONTROL_H

#include "pg/wal.h"

typedef struct ControlFile
{
    uint64_t system_identifier;
    uint32_t control_version;
    uint32_t catalog_version;
    int pg_major; /* 14..18; 0 if the catalog version is unknown to us */
    uint32_t state;
    Lsn checkpoint;
    Lsn redo;
    TimelineId tli;
    Lsn min_recovery_point;
    uint32_t segment_bytes;
    uint32_t block_bytes;
    uint32_t data_checksum_version;
} ControlFile;

/* bytes of the file (at least 296); CORRUPT if its CRC32C is wrong under every layout we know. */
MUST_CHECK int control_parse(const void *data, size_t len, ControlFile *out, Error *err);

/*
 * Reads "<data_dir>/global/pg_control" ("." is fine); a running server writes it in place, so a
 * wrong CRC is read again a few times. NOT_FOUND if there is no such file.
 */
MUST_CHECK int control_read(const char *data_dir, ControlFile *out, Error *err);

#endif
