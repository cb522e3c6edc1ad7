/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * WAL positions, segments and file names, as PostgreSQL counts them (access/xlogdefs.h,
 * access/xlog_internal.h). A segment size always comes from the server or the repository.
 */
#ifndef WALSTREAM_WAL_H
#define WALSTREAM_WAL_H

#include "common/error.h"

typedef uint64_t Lsn;
typedef uint32_t TimelineId;
typedef uint64_t SegmentNo;

#define LSN_INVALID ((Lsn) 0)
#define LSN_TEXT_BYTES 20
#define WAL_SEGMENT_NAME_LEN 24
#define WAL_NAME_MAX 64
#define WAL_SEGMENT_MIN_BYTES (1024u * 1024u)
#define WAL_SEGMENT_MAX_BYTES (1024u * 1024u * 1024u)

/* "16/B374D48" or "16/0B374D48"; hex digits of either case, at most 8 each side. */
MUST_CHECK bool lsn_parse(const char *text, Lsn *out);
/* "%X/%08X"; buf of LSN_TEXT_BYTES. Returns buf. */
char *lsn_format(Lsn lsn, char *buf, size_t len);

bool wal_segment_bytes_valid(uint64_t segment_bytes); /* power of two, 1 MB..1 GB */
SegmentNo wal_segment_of(Lsn lsn, uint32_t segment_bytes);
Lsn wal_segment_start(SegmentNo segno, uint32_t segment_bytes);
uint32_t wal_segment_offset(Lsn lsn, uint32_t segment_bytes);
/* The "log" of the file name, LSN / 4 GiB. */
uint32_t wal_segment_log(SegmentNo segno, uint32_t segment_bytes);

/* 24 digits and NUL into buf of 25 or more. Returns buf. */
char *
wal_segment_name(TimelineId tli, SegmentNo segno, uint32_t segment_bytes, char *buf, size_t len);

typedef enum WalFileKind
{
    WAL_FILE_SEGMENT, /* 24 hex */
    WAL_FILE_HISTORY, /* 8 hex ".history" */
    WAL_FILE_BACKUP,  /* 24 hex "." 8 hex ".backup" */
    WAL_FILE_PARTIAL  /* 24 hex ".partial" */
} WalFileKind;

typedef struct WalFileName
{
    WalFileKind kind;
    TimelineId tli;
    uint32_t log;    /* first and ... */
    uint32_t seg;    /* ... second half of the number; not for HISTORY */
    uint32_t offset; /* of BACKUP */
} WalFileName;

/* Strict: upper-case hex, timeline not 0, nothing behind. false for anything else. */
MUST_CHECK bool wal_file_name_parse(const char *name, WalFileName *out);
/* false if seg is out of range for this segment size. */
MUST_CHECK bool
wal_file_segment_no(const WalFileName *name, uint32_t segment_bytes, SegmentNo *out);

#endif
