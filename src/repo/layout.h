/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The names in a repository (FORMAT.md, "Names"), made and read here and nowhere else. Keys are
 * relative to "<cluster>/<system identifier>/".
 *
 * A part is the unit that is stored whole: the segment itself up to 16 MiB, else an aligned slice
 * of 16 MiB of it. So memory and object sizes do not grow with --wal-segsize.
 */
#ifndef WALSTREAM_LAYOUT_H
#define WALSTREAM_LAYOUT_H

#include "pg/wal.h"

#define LAYOUT_KEY_MAX 128
#define LAYOUT_PART_MAX_BYTES (16u * 1024u * 1024u)

/* Bytes of one part of segments of this size. */
uint32_t layout_part_bytes(uint32_t segment_bytes);

/* A run of bytes within one segment, [start, end), 0 <= start < end <= segment size. */
typedef struct WalExtent
{
    TimelineId tli;
    SegmentNo segno;
    uint32_t start;
    uint32_t end;
} WalExtent;

/* All write a key into buf of LAYOUT_KEY_MAX bytes and return buf. */

/* "wal/<TLI>/<log>/<24 hex>", or with "/<start>-<end>" behind it when a segment has several parts.
 */
char *layout_part_key(const WalExtent *part, uint32_t segment_bytes, char *buf);
/* "wal/<TLI>/<log>/<24 hex>": the object, or the folder of the parts. */
char *layout_segment_key(TimelineId tli, SegmentNo segno, uint32_t segment_bytes, char *buf);
/* "wal/<TLI>/<8 hex>.history" and "wal/<TLI>/<log>/<24 hex>.<8 hex>.backup", ".partial". */
char *layout_wal_file_key(const WalFileName *name, char *buf);
/* "live/<TLI>/<24 hex>/<start>-<end>" */
char *layout_piece_key(const WalExtent *piece, uint32_t segment_bytes, char *buf);
/* "live/<TLI>/<24 hex>/" */
char *layout_piece_prefix(TimelineId tli, SegmentNo segno, uint32_t segment_bytes, char *buf);
/* "gap/<TLI>/<start 16 hex>-<end 16 hex>" */
char *layout_gap_key(TimelineId tli, Lsn start, Lsn end, char *buf);

typedef enum LayoutKind
{
    LAYOUT_SEGMENT, /* a whole segment in one object */
    LAYOUT_PART,    /* an aligned part of a large segment */
    LAYOUT_PIECE,
    LAYOUT_HISTORY,
    LAYOUT_BACKUP_FILE,
    LAYOUT_PARTIAL,
    LAYOUT_GAP
} LayoutKind;

typedef struct LayoutEntry
{
    LayoutKind kind;
    TimelineId tli;
    WalExtent extent; /* SEGMENT, PART, PIECE; BACKUP_FILE and PARTIAL: segment, no range */
    WalFileName name; /* all but GAP; of a PART or PIECE, that of its segment */
    Lsn gap_start, gap_end;
} LayoutEntry;

/* Strict reading of a key below wal/, live/ or gap/; false for anything else. */
MUST_CHECK bool layout_parse(const char *key, uint32_t segment_bytes, LayoutEntry *out);

/* A usable [cluster] name: 1..63 of [A-Za-z0-9._-], not beginning with '.'. */
bool layout_cluster_name_valid(const char *name);

#endif
