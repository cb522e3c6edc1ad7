/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Text of manifests and their indexes. What is accepted keeps its promises: paths stay in the data
 * directory, files do not overlap, parts are numbered from 0 and their frames add up; and what was
 * read is written so that it is read again as the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repo/manifest_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fuzz_check(bool good, const char *what)
{
    if (good)
        return;
    (void) fprintf(stderr, "broken: %s\n", what);
    abort();
}

typedef struct FuzzRun
{
    ChecksumAlgorithm checksum;
    bool in_bundle;
    uint32_t bundle;
    uint64_t content_end;
    uint32_t parts, frames;
    StrBuf text; /* all lines, written again */
} FuzzRun;

static int
fuzz_header(void *ctx, const BackupHeader *header, Error *err UNUSED)
{
    FuzzRun *run = ctx;

    run->checksum = header->checksum;
    fuzz_check(backup_label_name_valid(header->label), "the label is valid");
    fuzz_check(header->incremental == (header->chain_count > 0), "an incremental has a chain");
    fuzz_check(header->chain_count <= BACKUP_CHAIN_MAX, "which is bounded");
    fuzz_check(
        header->start_lsn != LSN_INVALID && header->start_lsn <= header->stop_lsn,
        "it begins before it ends");
    manifest_format_header(header, "main", &run->text);
    return 0;
}

static int
fuzz_file(void *ctx, const BackupFile *file, Error *err UNUSED)
{
    FuzzRun *run = ctx;
    const char *path = file->path;

    manifest_format_file(file, run->checksum, &run->text);
    fuzz_check(
        path[0] != '/' && path[0] != '\0' && strlen(path) < DATA_PATH_MAX &&
            path[strlen(path) - 1] != '/' && strstr(path, "//") == NULL &&
            strstr(path, "/../") == NULL && strncmp(path, "../", 3) != 0 &&
            strcmp(path, "..") != 0 &&
            (strlen(path) < 3 || strcmp(path + strlen(path) - 3, "/..") != 0),
        "a path stays in the data directory");
    if (file->kind == BACKUP_FILE_FOLDER)
        return 0;
    if (!run->in_bundle || run->bundle != file->bundle)
    {
        run->in_bundle = true;
        run->bundle = file->bundle;
        run->content_end = 0;
        run->parts = 0;
        run->frames = 0;
    }
    fuzz_check(run->parts == 0, "files come before parts");
    fuzz_check(file->offset >= run->content_end, "files do not overlap");
    run->content_end = file->offset + file->stored_bytes;
    fuzz_check(
        run->content_end >= file->offset && run->content_end <= INT64_MAX &&
            file->bytes <= INT64_MAX,
        "sizes do not overflow");
    fuzz_check(
        block_set_end(&file->blocks) <= BLOCK_SET_MAX_BLOCK &&
            file->truncation_blocks <= BLOCK_SET_MAX_BLOCK,
        "blocks are bounded");
    return 0;
}

static int
fuzz_part(void *ctx, const BackupPart *part, Error *err UNUSED)
{
    FuzzRun *run = ctx;
    uint64_t stored = 0;

    manifest_format_part(part, &run->text);
    if (!run->in_bundle || run->bundle != part->bundle)
    {
        run->in_bundle = true;
        run->bundle = part->bundle;
        run->parts = 0;
        run->frames = 0;
    }
    fuzz_check(part->part == run->parts++, "parts come in a row");
    fuzz_check(part->first_frame == run->frames, "frames too");
    fuzz_check(
        part->frame_count >= 1 && part->frame_count <= BACKUP_PART_MAX_FRAMES,
        "a part has a number of frames that can be");
    run->frames += part->frame_count;
    for (uint32_t i = 0; i < part->frame_count; i++)
    {
        fuzz_check(
            part->frame_bytes[i] >= 1 && part->frame_bytes[i] <= BACKUP_FRAME_MAX_BYTES,
            "a frame is bounded");
        stored += part->frame_bytes[i];
    }
    fuzz_check(stored <= BACKUP_PART_MAX_BYTES && stored < part->stored_bytes, "a part is bounded");
    fuzz_check(
        part->last_plain_bytes >= 1 && part->last_plain_bytes <= BACKUP_FRAME_BYTES,
        "its last frame is");
    fuzz_check(
        part->owner[0] == '\0' || backup_label_name_valid(part->owner), "its owner has a label");
    return 0;
}

/* The text in pieces of step bytes. */
static int
fuzz_scan(FuzzRun *run, const char *text, size_t len, size_t step, bool lines_only, Error *err)
{
    static const ManifestHandlers handlers = {
        .header = fuzz_header, .file = fuzz_file, .part = fuzz_part};
    AUTO(manifest_scan_reset)
    ManifestScan scan = {
        .handlers = &handlers,
        .ctx = run,
        .label = "",
        .checksum = run->checksum,
        .lines_only = lines_only};
    int rc = 0;

    manifest_scan_begin(&scan);
    for (size_t at = 0; at < len && rc == 0; at += step)
        rc = manifest_scan_text(&scan, text + at, MIN(step, len - at), err);
    if (rc == 0)
        rc = manifest_scan_end(&scan, err);
    fuzz_check(
        rc == 0 || err->kind == ERROR_CORRUPT || err->kind == ERROR_NOMEM, "a failure is CORRUPT");
    return rc;
}

static void
fuzz_mode(const char *text, size_t len, bool lines_only)
{
    FuzzRun whole = {.checksum = CHECKSUM_CRC32C};
    FuzzRun cut = whole;
    Error err = {0};

    strbuf_init(&whole.text, SIZE_MAX);
    strbuf_init(&cut.text, SIZE_MAX);

    int rc = fuzz_scan(&whole, text, len, MAX(len, (size_t) 1), lines_only, &err);
    int rc_cut = fuzz_scan(&cut, text, len, 7, lines_only, &err);

    fuzz_check(
        rc == rc_cut && strcmp(strbuf_text(&whole.text), strbuf_text(&cut.text)) == 0,
        "how the text is cut makes no difference");
    strbuf_reset(&cut.text);
    /* a manifest needs its trailer to be read again, which no handler sees */
    if (rc == 0 && lines_only)
    {
        FuzzRun again = {.checksum = CHECKSUM_CRC32C};

        strbuf_init(&again.text, SIZE_MAX);
        fuzz_check(
            fuzz_scan(&again, strbuf_text(&whole.text), whole.text.len, SIZE_MAX / 2, true, &err) ==
                    0 &&
                strcmp(strbuf_text(&whole.text), strbuf_text(&again.text)) == 0,
            "what was read is read again as the same");
        strbuf_reset(&again.text);
    }
    strbuf_reset(&whole.text);
}

/* Each line by the plain reader and by jansson. */
static void
fuzz_members(const char *text, size_t len)
{
    static ManifestMembers m, any;
    const char *end = text + len;

    for (const char *line = text; line < end;)
    {
        const char *newline = memchr(line, '\n', (size_t) (end - line));
        size_t line_len = (size_t) ((newline == NULL ? end : newline) - line);
        Error err = {0};
        bool good = manifest_members_read(&m, line, line_len, &err) == 0;

        if (good && m.doc == NULL)
        {
            fuzz_check(
                manifest_members_read_any(&any, line, line_len, &err) == 0 ||
                    err.kind == ERROR_NOMEM,
                "what is plain is JSON");
            for (int c = 'A'; c <= 'z' && any.doc != NULL; c++)
            {
                const ManifestMember *a = manifest_member(&m, (char) c);
                const ManifestMember *b = manifest_member(&any, (char) c);

                fuzz_check(
                    a->type == b->type && a->number == b->number && a->len == b->len &&
                        (a->len == 0 || memcmp(a->text, b->text, a->len) == 0),
                    "and means the same");
            }
        }
        line += line_len + 1;
    }
    manifest_members_reset(&m);
    manifest_members_reset(&any);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_members((const char *) data, size);
    fuzz_mode((const char *) data, size, false);
    fuzz_mode((const char *) data, size, true);
    return 0;
}
