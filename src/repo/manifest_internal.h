/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Between the files of the manifest: manifest_header.c and manifest_lines.c know what stands in a
 * line, manifest_scan.c in which order lines may come, manifest_write.c, manifest_read.c and
 * manifest_load.c use them. Nobody else includes it but their tests.
 */
#ifndef WALSTREAM_MANIFEST_INTERNAL_H
#define WALSTREAM_MANIFEST_INTERNAL_H

#include <jansson.h>

#include "common/bulk.h"
#include "repo/manifest.h"
#include "repo/manifest_members.h"

#define MANIFEST_LINE_MAX ((size_t) 8 * 1024 * 1024) /* with its newline */
/* As stored; about ten million files. */
#define MANIFEST_STORED_MAX ((size_t) 1 << 30)
#define MANIFEST_PLAIN_MAX (UINT64_C(16) << 30)
#define MANIFEST_USES_MAX 1024
#define MANIFEST_OWNER_MAX 256 /* of names of users and groups, with NUL */

/* ---- one line ---- */

typedef enum ManifestLineKind
{
    MANIFEST_LINE_HEADER,
    MANIFEST_LINE_FILE,
    MANIFEST_LINE_PART,
    MANIFEST_LINE_TRAILER
} ManifestLineKind;

/*
 * What a line says; {0} before its first use. The values point into the line itself.
 * What a line cannot know is not set: part.first_frame, and part.owner where it has none.
 */
typedef struct ManifestLine
{
    ManifestLineKind kind;
    ManifestMembers members;
    BackupHeader header;
    BackupFile file;
    BackupPart part;
    uint64_t trailer_lines;
    char path[DATA_PATH_MAX];
    char user[MANIFEST_OWNER_MAX], group[MANIFEST_OWNER_MAX];
    char owner[BACKUP_LABEL_NAME_MAX];
} ManifestLine;

void manifest_line_reset(ManifestLine *line); /* fit for AUTO */

/*
 * text is without its newline. checksum: of file lines. CORRUPT for anything that FORMAT.md does
 * not allow in a line. line holds nothing after a failure.
 */
MUST_CHECK int manifest_line_parse(
    const char *text, size_t len, ChecksumAlgorithm checksum, ManifestLine *line, Error *err);

/* The header line. cluster: the repository's. */
void manifest_format_header(const BackupHeader *header, const char *cluster, StrBuf *out);
/* value: that of the member "header". Its cluster is not looked at. */
MUST_CHECK int manifest_parse_header(const json_t *value, BackupHeader *out, Error *err);

/* ---- lines in their order ---- */

typedef struct ManifestScan
{
    /* set by the caller */
    const ManifestHandlers *handlers;
    void *ctx;
    const char *label;          /* of the backup whose manifest it is; "" when not known */
    const Repository *repo;     /* whose cluster the header must name; NULL: not looked at */
    ChecksumAlgorithm checksum; /* when there is no header */
    bool lines_only;            /* no header, no trailer */
    bool one_bundle;            /* that in "bundle", and no other */
    bool unfinished;            /* the last bundle may have no parts yet */
    /* its own */
    StrBuf partial;      /* the beginning of a line */
    uint64_t line_count; /* so far, the header among them */
    bool has_header, has_trailer;
    BackupHeader header;
    ManifestLine line;
    bool handler_failed; /* the error is a handler's */
    /* the bundle whose lines these are */
    bool in_bundle;
    uint32_t bundle;
    uint64_t content_end; /* of its last file */
    uint32_t part_count;
    uint32_t frame_count;
    uint64_t plain_bytes;
    bool ended;                             /* its last frame came */
    char owner_text[BACKUP_LABEL_NAME_MAX]; /* of its parts */
    uint32_t owner_bundle;
    uint8_t *seen; /* bundles that came, a bit each */
    size_t seen_bytes;
} ManifestScan;

/* After its fields were set, the others 0. */
void manifest_scan_begin(ManifestScan *scan);
/* Text of lines, cut anywhere. */
MUST_CHECK int manifest_scan_text(ManifestScan *scan, const char *text, size_t len, Error *err);
/* No more comes: CORRUPT unless it is all there. */
MUST_CHECK int manifest_scan_end(ManifestScan *scan, Error *err);
void manifest_scan_reset(ManifestScan *scan); /* fit for AUTO */

/* Frames of text through scan, to its end. */
MUST_CHECK int manifest_scan_frames(ManifestScan *scan, Bulk *frames, Error *err);
/* The same without the end. */
MUST_CHECK int manifest_scan_some_frames(ManifestScan *scan, Bulk *frames, Error *err);

#endif
