/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * One line of a manifest, written and read; see manifest_internal.h. Everything that can be said of
 * a line by itself is checked here.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/parse.h"
#include "common/utf8.h"
#include "repo/json_read.h"
#include "repo/manifest_internal.h"

#define LINE_MODE_MAX 07777u
#define LINE_PAGE_BYTES 8192u

/* ---- writing ---- */

/* The first member: a path by its small letter, or in hex by the capital one. */
static void
line_put_path(StrBuf *out, char letter, const char *path)
{
    if (utf8_valid(path))
    {
        strbuf_printf(out, "{\"%c\": ", letter);
        strbuf_put_json(out, path);
        return;
    }
    strbuf_printf(out, "{\"%c\": \"", letter - 'a' + 'A');
    for (const char *p = path; *p != '\0'; p++)
        strbuf_printf(out, "%02x", (unsigned) (unsigned char) *p);
    strbuf_putc(out, '"');
}

/* Names of users that are not UTF-8 count as not known. */
static void
line_put_owner(StrBuf *out, const char *member, const char *name)
{
    if (name == NULL || name[0] == '\0' || strlen(name) >= MANIFEST_OWNER_MAX || !utf8_valid(name))
        return;
    strbuf_printf(out, ", \"%s\": ", member);
    strbuf_put_json(out, name);
}

static void
line_put_hex(StrBuf *out, const char *member, const uint8_t *data, size_t len)
{
    char hex[2 * CHECKSUM_MAX_BYTES + 1];

    assert(2 * len < sizeof hex);
    strbuf_printf(out, ", \"%s\": \"%s\"", member, format_hex(data, len, hex));
}

static void
line_put_blocks(StrBuf *out, const char *member, const BlockSet *blocks)
{
    strbuf_printf(out, ", \"%s\": \"", member);
    block_set_format(blocks, out);
    strbuf_putc(out, '"');
}

void
manifest_format_file(const BackupFile *file, ChecksumAlgorithm checksum, StrBuf *out)
{
    bool folder = file->kind == BACKUP_FILE_FOLDER;

    line_put_path(out, folder ? 'd' : 'f', file->path);
    strbuf_printf(out, ", \"m\": \"%04o\"", (unsigned) (file->mode & LINE_MODE_MAX));
    line_put_owner(out, "u", file->user);
    line_put_owner(out, "g", file->group);
    if (!folder)
    {
        strbuf_printf(out, ", \"t\": %" PRId64 ", \"s\": %" PRIu64, file->modified_s, file->bytes);
        if (file->stored_bytes != file->bytes)
            strbuf_printf(out, ", \"n\": %" PRIu64, file->stored_bytes);
        strbuf_printf(out, ", \"b\": %u, \"o\": %" PRIu64, (unsigned) file->bundle, file->offset);
        if (checksum != CHECKSUM_NONE)
            line_put_hex(out, "c", file->checksum, checksum_bytes(checksum));
        line_put_hex(out, "x", file->xxh128, sizeof file->xxh128);
        if (file->kind == BACKUP_FILE_INCREMENTAL)
        {
            strbuf_printf(out, ", \"i\": %u", (unsigned) file->truncation_blocks);
            line_put_blocks(out, "k", &file->blocks);
        }
        if (file->damaged.count > 0)
            line_put_blocks(out, "w", &file->damaged);
    }
    strbuf_puts(out, "}\n");
}

void
manifest_format_part(const BackupPart *part, StrBuf *out)
{
    strbuf_printf(
        out, "{\"p\": %u, \"b\": %u, \"z\": [", (unsigned) part->part, (unsigned) part->bundle);
    for (uint32_t i = 0; i < part->frame_count; i++)
        strbuf_printf(out, "%s%u", i > 0 ? ", " : "", (unsigned) part->frame_bytes[i]);
    strbuf_printf(
        out, "], \"l\": %" PRIu64 ", \"s\": %" PRIu64, part->last_plain_bytes, part->stored_bytes);
    if (part->owner != NULL && part->owner[0] != '\0')
    {
        strbuf_puts(out, ", \"u\": ");
        strbuf_put_json(out, part->owner);
        strbuf_printf(out, ", \"v\": %u", (unsigned) part->owner_bundle);
    }
    strbuf_puts(out, "}\n");
}

/* ---- reading ---- */

static int
line_bad_member(char letter, Error *err)
{
    return error_set(err, ERROR_CORRUPT, "it has no valid member \"%c\"", letter);
}

/* The path by its letter or, in hex, by the capital one, of which the line has exactly one. */
static bool
line_read_path(ManifestLine *line, char letter)
{
    const ManifestMembers *m = &line->members;
    char capital = (char) (letter - 'a' + 'A');
    size_t bytes = manifest_member(m, capital)->len / 2;

    if (!manifest_has_member(m, capital))
        return manifest_member_text(m, letter, line->path, sizeof line->path) &&
               data_path_valid(line->path);
    if (manifest_has_member(m, letter) || bytes >= sizeof line->path ||
        !manifest_member_hex(m, capital, (uint8_t *) line->path, bytes) ||
        memchr(line->path, '\0', bytes) != NULL)
        return false;
    line->path[bytes] = '\0';
    return data_path_valid(line->path);
}

/* Four octal digits. */
static bool
line_read_mode(const ManifestMembers *m, uint32_t *out)
{
    char text[5];
    uint32_t mode = 0;

    if (!manifest_member_text(m, 'm', text, sizeof text) || strlen(text) != 4)
        return false;
    for (size_t i = 0; i < 4; i++)
    {
        if (text[i] < '0' || text[i] > '7')
            return false;
        mode = mode << 3 | (uint32_t) (text[i] - '0');
    }
    *out = mode;
    return true;
}

/* The name into buf; "" when there is none. */
static bool
line_read_owner(
    const ManifestMembers *m, char letter, char buf[MANIFEST_OWNER_MAX], const char **out)
{
    *out = "";
    if (!manifest_has_member(m, letter))
        return true;
    *out = buf;
    return manifest_member_text(m, letter, buf, MANIFEST_OWNER_MAX);
}

static int
line_read_blocks(const ManifestMembers *m, char letter, BlockSet *out, Error *err)
{
    const ManifestMember *member = manifest_member(m, letter);

    if (member->type != MEMBER_TEXT)
        return line_bad_member(letter, err);
    if (block_set_parse(member->text, member->len, out, err) < 0)
        return error_wrap(err, "member \"%c\"", letter);
    return 0;
}

/* What files and folders have. */
static int
line_parse_entry(ManifestLine *line, char letter, Error *err)
{
    const ManifestMembers *m = &line->members;
    BackupFile *file = &line->file;

    if (!line_read_path(line, letter))
        return line_bad_member(letter, err);
    file->path = line->path;
    if (!line_read_mode(m, &file->mode))
        return line_bad_member('m', err);
    if (!line_read_owner(m, 'u', line->user, &file->user))
        return line_bad_member('u', err);
    if (!line_read_owner(m, 'g', line->group, &file->group))
        return line_bad_member('g', err);
    return 0;
}

/* Which blocks, and that sizes agree with them (FORMAT.md, "Restoring a chain"). */
static int
line_parse_incremental(ManifestLine *line, Error *err)
{
    BackupFile *file = &line->file;

    file->kind = BACKUP_FILE_INCREMENTAL;
    if (!manifest_member_u32(&line->members, 'i', &file->truncation_blocks) ||
        file->truncation_blocks > BLOCK_SET_MAX_BLOCK)
        return line_bad_member('i', err);
    if (line_read_blocks(&line->members, 'k', &file->blocks, err) < 0)
        return -1;

    uint64_t blocks = MAX(file->truncation_blocks, block_set_end(&file->blocks));

    if (file->bytes != blocks * LINE_PAGE_BYTES)
        return line_bad_member('s', err);
    if (file->stored_bytes < block_set_blocks(&file->blocks) * LINE_PAGE_BYTES)
        return line_bad_member('n', err);
    return 0;
}

static int
line_parse_file(ManifestLine *line, ChecksumAlgorithm checksum, Error *err)
{
    const ManifestMembers *m = &line->members;
    const ManifestMember *modified = manifest_member(m, 't');
    BackupFile *file = &line->file;
    uint64_t end;

    if (line_parse_entry(line, 'f', err) < 0)
        return -1;
    if (modified->type != MEMBER_INTEGER)
        return line_bad_member('t', err);
    file->modified_s = modified->number;
    if (!manifest_member_u64(m, 's', &file->bytes))
        return line_bad_member('s', err);
    file->stored_bytes = file->bytes;
    if (manifest_has_member(m, 'n') && !manifest_member_u64(m, 'n', &file->stored_bytes))
        return line_bad_member('n', err);
    if (!manifest_member_u32(m, 'b', &file->bundle) || file->bundle >= BACKUP_BUNDLES_MAX)
        return line_bad_member('b', err);
    if (!manifest_member_u64(m, 'o', &file->offset) ||
        __builtin_add_overflow(file->offset, file->stored_bytes, &end) || end > INT64_MAX)
        return line_bad_member('o', err);
    if (checksum != CHECKSUM_NONE &&
        !manifest_member_hex(m, 'c', file->checksum, checksum_bytes(checksum)))
        return line_bad_member('c', err);
    if (!manifest_member_hex(m, 'x', file->xxh128, sizeof file->xxh128))
        return line_bad_member('x', err);
    if (manifest_has_member(m, 'w') && line_read_blocks(m, 'w', &file->damaged, err) < 0)
        return -1;
    if (manifest_has_member(m, 'i'))
        return line_parse_incremental(line, err);
    file->kind = BACKUP_FILE_WHOLE;
    return file->stored_bytes == file->bytes ? 0 : line_bad_member('n', err);
}

static int
line_parse_folder(ManifestLine *line, Error *err)
{
    line->file.kind = BACKUP_FILE_FOLDER;
    return line_parse_entry(line, 'd', err);
}

/* Lengths of frames, none longer than one can be; *total is their sum. */
static bool
line_read_frames(ManifestLine *line, uint64_t *total)
{
    const ManifestMembers *m = &line->members;

    if (manifest_member(m, 'z')->type != MEMBER_LIST || m->list_count == 0)
        return false;
    *total = 0;
    for (size_t i = 0; i < m->list_count; i++)
    {
        if (m->list[i] < 1 || m->list[i] > BACKUP_FRAME_MAX_BYTES)
            return false;
        *total += m->list[i];
    }
    line->part.frame_count = (uint32_t) m->list_count;
    line->part.frame_bytes = m->list;
    return *total <= BACKUP_PART_MAX_BYTES;
}

/* The label in front and, encrypted, the age header and 16 bytes each 64 KiB. */
static bool
line_part_bytes_possible(uint64_t stored, uint64_t frames)
{
    return stored > frames &&
           stored <= frames + frames / 65536 * 16 + AGE_HEADER_MAX + OBJECT_LABEL_MAX;
}

static int
line_parse_part(ManifestLine *line, Error *err)
{
    const ManifestMembers *m = &line->members;
    BackupPart *part = &line->part;
    uint64_t frames;

    if (!manifest_member_u32(m, 'p', &part->part))
        return line_bad_member('p', err);
    if (!manifest_member_u32(m, 'b', &part->bundle) || part->bundle >= BACKUP_BUNDLES_MAX)
        return line_bad_member('b', err);
    if (!line_read_frames(line, &frames))
        return line_bad_member('z', err);
    if (!manifest_member_u64(m, 'l', &part->last_plain_bytes) || part->last_plain_bytes < 1 ||
        part->last_plain_bytes > BACKUP_FRAME_BYTES)
        return line_bad_member('l', err);
    if (!manifest_member_u64(m, 's', &part->stored_bytes) ||
        !line_part_bytes_possible(part->stored_bytes, frames))
        return line_bad_member('s', err);
    part->owner_bundle = part->bundle;
    if (!manifest_has_member(m, 'u'))
        return 0;
    if (!manifest_member_text(m, 'u', line->owner, sizeof line->owner) ||
        !backup_label_name_valid(line->owner))
        return line_bad_member('u', err);
    part->owner = line->owner;
    if (!manifest_member_u32(m, 'v', &part->owner_bundle) ||
        part->owner_bundle >= BACKUP_BUNDLES_MAX)
        return line_bad_member('v', err);
    return 0;
}

static int
line_parse_trailer(ManifestLine *line, Error *err)
{
    const json_t *trailer = json_object_get(line->members.doc, "trailer");

    if (!json_read_u64(trailer, "lines", &line->trailer_lines))
        return error_set(err, ERROR_CORRUPT, "it has no valid member \"lines\"");
    return 0;
}

void
manifest_line_reset(ManifestLine *line)
{
    backup_header_reset(&line->header);
    backup_file_reset(&line->file);
    manifest_members_reset(&line->members);
    /* not the whole of it: the names are long */
    line->file = (BackupFile){0};
    line->part = (BackupPart){0};
    line->trailer_lines = 0;
}

/* By the member that tells what it is. */
static int
line_parse_members(ManifestLine *line, ChecksumAlgorithm checksum, Error *err)
{
    const ManifestMembers *m = &line->members;

    if (manifest_has_member(m, 'f') || manifest_has_member(m, 'F'))
    {
        line->kind = MANIFEST_LINE_FILE;
        return line_parse_file(line, checksum, err);
    }
    if (manifest_has_member(m, 'd') || manifest_has_member(m, 'D'))
    {
        line->kind = MANIFEST_LINE_FILE;
        return line_parse_folder(line, err);
    }
    if (manifest_has_member(m, 'p'))
    {
        line->kind = MANIFEST_LINE_PART;
        return line_parse_part(line, err);
    }
    if (json_object_get(m->doc, "header") != NULL)
    {
        line->kind = MANIFEST_LINE_HEADER;
        return manifest_parse_header(json_object_get(m->doc, "header"), &line->header, err);
    }
    if (json_object_get(m->doc, "trailer") != NULL)
    {
        line->kind = MANIFEST_LINE_TRAILER;
        return line_parse_trailer(line, err);
    }
    return error_set(err, ERROR_CORRUPT, "it is neither header, file, folder, part nor trailer");
}

int
manifest_line_parse(
    const char *text, size_t len, ChecksumAlgorithm checksum, ManifestLine *line, Error *err)
{
    manifest_line_reset(line);
    if (manifest_members_read(&line->members, text, len, err) < 0)
        return -1;
    if (line_parse_members(line, checksum, err) < 0)
    {
        manifest_line_reset(line);
        return -1;
    }
    return 0;
}
