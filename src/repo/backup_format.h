/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A backup in the repository (FORMAT.md, "Backups"): what its manifest says, as values, and the
 * names of its objects.
 *
 *   backup/<label>/start                       claims the label: who, when, what it resumes
 *   backup/<label>/bundle/<bundle 8>/<part 8>  a tar archive, in parts of whole frames
 *   backup/<label>/bundle/<bundle 8>/index     manifest lines of a finished bundle (for resuming)
 *   backup/<label>/manifest                    last: the backup exists when it does
 *   pin/<label>/<until>                        a person wants it kept; until YYYYMMDDThhmmssZ or
 * "forever"
 *
 * start, index, manifest and pin are never encrypted: a host that has only the public key must be
 * able to make incrementals, and retention needs no secret.
 */
#ifndef WALSTREAM_BACKUP_FORMAT_H
#define WALSTREAM_BACKUP_FORMAT_H

#include "pg/backup_label.h"
#include "pg/backup_manifest.h"
#include "pg/block_set.h"
#include "pg/data_file.h"
#include "repo/repository.h"

#define BACKUP_FORMAT 1
#define BACKUP_LABEL_NAME_MAX 64 /* with NUL */
#define BACKUP_CHAIN_MAX 1024
#define BACKUP_FRAME_BYTES (1024u * 1024u)     /* plain bytes of each frame but a bundle's last */
#define BACKUP_PART_BYTES (8u * 1024u * 1024u) /* stored: a part is closed when it reaches this */
#define BACKUP_PART_MAX_FRAMES 256u            /* or this many frames */
/* Stored: of any codec, a frame of BACKUP_FRAME_BYTES that cannot be compressed. */
#define BACKUP_FRAME_MAX_BYTES (BACKUP_FRAME_BYTES + 64u * 1024u)
/* Stored: the frames of a part, before encryption. */
#define BACKUP_PART_MAX_BYTES (BACKUP_PART_BYTES + BACKUP_FRAME_MAX_BYTES)
#define BACKUP_BUNDLES_MAX (1u << 24)           /* bundles are numbered below this */
#define BACKUP_BUNDLE_BYTES (UINT64_C(1) << 30) /* plain: no file is begun behind this */
#define BACKUP_MANIFEST_HEADER_MAX (1024u * 1024u)

/* ---- names ---- */

/* 1..63 of [A-Za-z0-9._-], not beginning with '.'. */
bool backup_label_name_valid(const char *label);
/* "20260301T091407Z-full" or "...-incremental" (wall_us: when it begins) into buf of
 * BACKUP_LABEL_NAME_MAX. Returns buf. */
char *backup_label_name(int64_t wall_us, bool incremental, char *buf);

/* All write a key into buf of LAYOUT_KEY_MAX bytes and return buf. */
char *backup_start_key(const char *label, char *buf);
char *backup_manifest_key(const char *label, char *buf);
char *backup_part_key(const char *label, uint32_t bundle, uint32_t part, char *buf);
char *backup_index_key(const char *label, uint32_t bundle, char *buf);
char *backup_prefix(const char *label, char *buf); /* "backup/<label>/" */
/* until_us is 0, forever, or a time before the year 10000, rounded up to a second. */
char *backup_pin_key(const char *label, int64_t until_us, char *buf);

typedef enum BackupKeyKind
{
    BACKUP_KEY_START,
    BACKUP_KEY_MANIFEST,
    BACKUP_KEY_PART,
    BACKUP_KEY_INDEX,
    BACKUP_KEY_PIN
} BackupKeyKind;

typedef struct BackupKey
{
    BackupKeyKind kind;
    char label[BACKUP_LABEL_NAME_MAX];
    uint32_t bundle; /* PART, INDEX */
    uint32_t part;
    int64_t until_us; /* PIN; 0: forever */
} BackupKey;

/* Strict reading of a key below backup/ or pin/; false for anything else. */
MUST_CHECK bool backup_key_parse(const char *key, BackupKey *out);

/* ---- what a manifest says ---- */

typedef struct BackupDatabase
{
    uint32_t oid;
    char *name;       /* owned */
    uint32_t row_xid; /* xmin of its row in pg_database, read before the first file was copied: the
                         same in a later backup says that it was not dropped and created again with
                         this OID meanwhile; 0 not known */
} BackupDatabase;

/* The first line. Times are microseconds since 1970, UTC, by the server's clock. */
typedef struct BackupHeader
{
    char label[BACKUP_LABEL_NAME_MAX];
    bool incremental;
    char (*chain)[BACKUP_LABEL_NAME_MAX]; /* owned; of an incremental: the full first, its parent
                                             last */
    size_t chain_count;                   /* 0 for a full */
    char (*uses)[BACKUP_LABEL_NAME_MAX];  /* owned; unfinished backups that bundles are in */
    size_t uses_count;
    uint64_t system_identifier;
    int pg_major;
    uint32_t catalog_version;
    uint32_t segment_bytes; /* of WAL */
    bool data_checksums;
    bool from_standby;
    bool source_stream; /* BASE_BACKUP; else the files were read */
    TimelineId tli;     /* of start and stop */
    Lsn start_lsn;      /* redo point: WAL is needed from here ... */
    Lsn stop_lsn;       /* ... to here */
    int64_t started_us; /* after pg_backup_start */
    int64_t stopped_us; /* after pg_backup_stop: no commit before stop_lsn has a later time */
    ChecksumAlgorithm checksum;
    TablespaceMap tablespaces;
    BackupDatabase *databases; /* owned; NULL when it could not be asked */
    size_t database_count;
    char codec[16];
    char key_ids[OBJECT_KEY_IDS_MAX]; /* "" : parts are not encrypted */
    char host[64];                    /* where walbackup ran */
    char created_by[64];              /* "walstream 0.1.0" */
    /* totals, of what is in the lines that follow */
    uint64_t file_count;
    uint64_t full_bytes;   /* of the restored directory */
    uint64_t plain_bytes;  /* of file contents as they are in the bundles */
    uint64_t stored_bytes; /* of the parts, as objects */
    uint64_t part_count;
    uint64_t reused_bytes;   /* stored bytes of parts that belong to backups in "uses" */
    uint64_t damaged_blocks; /* with a wrong checksum */
} BackupHeader;

void backup_header_reset(BackupHeader *header); /* fit for AUTO */
/* Owned things are copied; *out is overwritten. */
MUST_CHECK int backup_header_copy(const BackupHeader *header, BackupHeader *out, Error *err);

typedef enum BackupFileKind
{
    BACKUP_FILE_WHOLE,
    BACKUP_FILE_INCREMENTAL, /* what is stored is INCREMENTAL.<name> */
    BACKUP_FILE_FOLDER       /* nothing is stored */
} BackupFileKind;

/* One file or folder of the data directory. */
typedef struct BackupFile
{
    BackupFileKind kind;
    const char *path; /* of the restored file, relative to the data directory; tablespaces as
                         pg_tblspc/<oid>/... */
    uint32_t mode;    /* permission bits */
    const char *user; /* names of owner and group; "" not known */
    const char *group;
    int64_t modified_s;
    uint64_t bytes;                       /* of the file as it is restored */
    uint64_t stored_bytes;                /* of its content in the bundle: the same when WHOLE */
    uint32_t bundle;                      /* where it is; see BackupBundle */
    uint64_t offset;                      /* of its content in the tar archive */
    uint8_t checksum[CHECKSUM_MAX_BYTES]; /* of the content in the bundle, by header's algorithm */
    uint8_t xxh128[16];                   /* of the same, canonical (big-endian) */
    uint32_t truncation_blocks;           /* INCREMENTAL */
    BlockSet blocks;                      /* INCREMENTAL: the blocks stored, in this order; owned */
    BlockSet damaged;                     /* blocks of the file with a wrong checksum; owned */
} BackupFile;

void backup_file_reset(BackupFile *file); /* its sets; fit for AUTO */

#define BACKUP_ARCHIVE_NAME_MAX (DATA_PATH_MAX + 16)

/*
 * What PostgreSQL's manifest says of the file as it lies in the archive, not of a FOLDER: an
 * incremental one as INCREMENTAL.<name>, which is made in name; else the path is file's.
 */
PgManifestFile backup_file_pg_entry(
    const BackupFile *file, ChecksumAlgorithm checksum, char name[BACKUP_ARCHIVE_NAME_MAX]);

/* One part of a bundle. */
typedef struct BackupPart
{
    uint32_t bundle;       /* number within this backup's manifest */
    uint32_t part;         /* 0, 1, ... without a gap */
    const char *owner;     /* label of the backup whose objects these are; NULL or "" when it is
                              written: of the backup that the manifest is of */
    uint32_t owner_bundle; /* its number there */
    uint32_t first_frame;  /* of the bundle */
    uint32_t frame_count;
    const uint32_t *frame_bytes; /* stored lengths, in the payload, one behind the other */
    uint64_t last_plain_bytes; /* of the last frame: BACKUP_FRAME_BYTES except at a bundle's end */
    uint64_t stored_bytes;     /* of the object */
} BackupPart;

#endif
