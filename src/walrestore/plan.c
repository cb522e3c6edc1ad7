/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The plan of a restore; see plan.h.
 */
#include "walrestore/plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/array.h"
#include "pg/incremental_file.h"
#include "walrestore/chain.h"

#define PLAN_TEMPLATE_PREFIX "template"

/* Labels, key ids and frame tables of older backups. */
typedef struct PlanText
{
    struct PlanText *next;
    uint32_t words[]; /* aligned for frame tables */
} PlanText;

struct PlanMemory
{
    Bulk files, pieces, ranges;
};

/*
 * What is to come of a file from the older backups. Of most files that is the same from backup to
 * backup, as chain_begin says it, and is not written down.
 */
typedef struct PlanWanted
{
    const BlockRange *ranges; /* in wanted_memory; NULL: what chain_begin says */
    uint32_t count;
    bool open; /* something is */
    bool seen; /* the layer being read has the file */
} PlanWanted;

/* What is needed while manifests are read only. */
typedef struct PlanLoad
{
    Plan *plan;
    PlanLayer *layer;
    PlanWanted *wanted; /* of each file */
    size_t open;        /* files with something wanted */
    Bulk wanted_memory; /* of wanted, then of their ranges */
    uint64_t system_identifier;
} PlanLoad;

const BackupFile *
plan_entry(const Plan *plan, size_t i)
{
    return manifest_file(&plan->newest, i);
}

PlanFile *
plan_file(const Plan *plan, size_t i)
{
    bulk_look(&plan->memory->files);
    /* who goes through pieces asks for the file of each */
    bulk_look(&plan->memory->pieces);
    bulk_look(&plan->memory->ranges);
    return &plan->files[i];
}

static PlanWanted *
plan_wanted(PlanLoad *load, size_t i)
{
    bulk_look(&load->wanted_memory);
    return &load->wanted[i];
}

static void *
plan_keep(Plan *plan, const void *data, size_t len, Error *err)
{
    PlanText *text = malloc(sizeof *text + len);

    if (text == NULL)
    {
        (void) error_nomem(err);
        return NULL;
    }
    memcpy(text->words, data, len);
    text->next = plan->texts;
    plan->texts = text;
    return text->words;
}

static const char *
plan_keep_text(Plan *plan, const char *text, Error *err)
{
    return plan_keep(plan, text, strlen(text) + 1, err);
}

/* The next piece is of this bundle. */
static int
plan_note_bundle(PlanLayer *layer, uint32_t bundle, Error *err)
{
    PlanBundle *bundles;

    if (layer->bundle_count > 0 && layer->bundles[layer->bundle_count - 1].bundle == bundle)
    {
        layer->bundles[layer->bundle_count - 1].end++;
        return 0;
    }
    bundles =
        array_grow(layer->bundles, layer->bundle_count, &layer->bundle_cap, sizeof *bundles, err);
    if (bundles == NULL)
        return -1;
    layer->bundles = bundles;
    bundles[layer->bundle_count++] =
        (PlanBundle){.bundle = bundle, .first = layer->piece_count, .end = layer->piece_count + 1};
    return 0;
}

/* Layers are made one after the other, so that the pieces of each lie together. */
static PlanPiece *
plan_add_piece(PlanLoad *load, uint32_t bundle, Error *err)
{
    PlanLayer *layer = load->layer;
    PlanPiece *piece;

    if (plan_note_bundle(layer, bundle, err) < 0)
        return NULL;
    piece = bulk_add(&load->plan->memory->pieces, sizeof *piece, err);
    if (piece == NULL)
        return NULL;
    if (layer->pieces == NULL)
        layer->pieces = piece;
    layer->piece_count++;
    piece->bundle = bundle;
    return piece;
}

static PlanPart *
plan_add_part(PlanLayer *layer, Error *err)
{
    PlanPart *parts =
        array_grow(layer->parts, layer->part_count, &layer->part_cap, sizeof *parts, err);

    if (parts == NULL)
        return NULL;
    layer->parts = parts;
    parts[layer->part_count] = (PlanPart){0};
    return &parts[layer->part_count++];
}

/* ---- pieces ---- */

/* take is a subset of stored, the blocks of the content in their order. */
static int
plan_set_ranges(
    const Plan *plan, PlanPiece *piece, const BlockSet *take, const BlockSet *stored, Error *err)
{
    uint32_t before = 0;
    size_t s = 0;

    piece->ranges = bulk_add(&plan->memory->ranges, take->count * sizeof *piece->ranges, err);
    if (piece->ranges == NULL)
        return -1;
    for (size_t t = 0; t < take->count; t++)
    {
        const BlockRange *range = &take->ranges[t];

        /* ranges of a set do not touch, so that each of take lies within one of stored */
        while (s < stored->count &&
               stored->ranges[s].first + stored->ranges[s].count <= range->first)
            before += stored->ranges[s++].count;
        assert(s < stored->count && stored->ranges[s].first <= range->first);
        piece->ranges[piece->range_count++] = (PlanRange){
            .block = range->first,
            .count = range->count,
            .at = before + (range->first - stored->ranges[s].first)};
    }
    return 0;
}

/* take NULL: all of a whole file. */
static int
plan_take(PlanLoad *load, size_t file, const BackupFile *from, const BlockSet *take, Error *err)
{
    const Plan *plan = load->plan;
    PlanPiece *piece = plan_add_piece(load, from->bundle, err);

    if (piece == NULL)
        return -1;
    piece->file = (uint32_t) file;
    piece->offset = from->offset;
    piece->stored_bytes = from->stored_bytes;
    if (take == NULL)
        return 0;
    if (from->kind == BACKUP_FILE_INCREMENTAL)
    {
        piece->header_bytes = incremental_header_bytes((uint32_t) block_set_blocks(&from->blocks));
        return plan_set_ranges(plan, piece, take, &from->blocks, err);
    }
    piece->ranges = bulk_add(&plan->memory->ranges, take->count * sizeof *piece->ranges, err);
    if (piece->ranges == NULL)
        return -1;
    for (size_t i = 0; i < take->count; i++)
        piece->ranges[piece->range_count++] = (PlanRange){
            .block = take->ranges[i].first,
            .count = take->ranges[i].count,
            .at = take->ranges[i].first};
    return 0;
}

static uint64_t
plan_piece_bytes(const PlanPiece *piece)
{
    uint64_t blocks = 0;

    if (piece->ranges == NULL)
        return piece->stored_bytes;
    for (uint32_t i = 0; i < piece->range_count; i++)
        blocks += piece->ranges[i].count;
    return blocks * DATA_PAGE_BYTES;
}

bool
plan_piece_run(const PlanPiece *piece, uint64_t from, uint64_t to, PlanRun *out)
{
    uint32_t low = 0, high = piece->range_count;
    uint64_t start, end;

    to = MIN(to, piece->stored_bytes);
    if (from >= to)
        return false;
    if (piece->ranges == NULL)
    {
        *out = (PlanRun){.content = from, .to = from, .bytes = to - from};
        return true;
    }
    while (low < high)
    {
        uint32_t mid = low + (high - low) / 2;
        const PlanRange *range = &piece->ranges[mid];

        if (piece->header_bytes + ((uint64_t) range->at + range->count) * DATA_PAGE_BYTES <= from)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == piece->range_count)
        return false;
    start = piece->header_bytes + (uint64_t) piece->ranges[low].at * DATA_PAGE_BYTES;
    end = start + (uint64_t) piece->ranges[low].count * DATA_PAGE_BYTES;
    if (start >= to)
        return false;
    out->content = MAX(start, from);
    out->bytes = MIN(end, to) - out->content;
    out->to = (uint64_t) piece->ranges[low].block * DATA_PAGE_BYTES + (out->content - start);
    return true;
}

/* ---- names ---- */

uint32_t
plan_path_tablespace(const char *path, const char **rest)
{
    static const char top[] = "pg_tblspc/";
    const char *p = path + sizeof top - 1;
    uint64_t oid = 0;

    if (strncmp(path, top, sizeof top - 1) != 0 || *p == '\0')
        return 0;
    for (; *p >= '0' && *p <= '9'; p++)
    {
        oid = oid * 10 + (uint64_t) (*p - '0');
        if (oid > UINT32_MAX)
            return 0;
    }
    if (*p != '/' && *p != '\0')
        return 0;
    if (rest != NULL)
        *rest = *p == '/' ? p + 1 : p;
    return (uint32_t) oid;
}

/* The database that a file belongs to; 0 for what belongs to none. */
static uint32_t
plan_path_database(const char *path)
{
    static const char base[] = "base/";
    const char *p = path;
    uint64_t oid = 0;

    if (strncmp(path, base, sizeof base - 1) == 0)
        p = path + sizeof base - 1;
    else if (plan_path_tablespace(path, &p) != 0)
    {
        p = strchr(p, '/'); /* behind PG_15_202209061 */
        if (p == NULL)
            return 0;
        p++;
    }
    else
        return 0;
    for (; *p >= '0' && *p <= '9' && oid <= UINT32_MAX; p++)
        oid = oid * 10 + (uint64_t) (*p - '0');
    return *p == '/' && oid <= UINT32_MAX ? (uint32_t) oid : 0;
}

/* ---- which databases ---- */

static bool
plan_database_named(const PlanOptions *options, const char *name)
{
    for (size_t i = 0; i < options->database_count; i++)
        if (strcmp(options->databases[i], name) == 0)
            return true;
    return false;
}

static int
plan_check_databases(const BackupHeader *header, const PlanOptions *options, Error *err)
{
    if (header->databases == NULL)
    {
        (void) error_set(
            err, ERROR_USAGE,
            "cannot restore single databases: backup \"%s\" does not say which there were",
            header->label);
        return error_hint(
            err, "It was streamed by a role that could not ask by SQL; only a restore of the whole "
                 "cluster is possible.");
    }
    for (size_t i = 0; i < options->database_count; i++)
    {
        bool found = false;

        for (size_t k = 0; k < header->database_count && !found; k++)
            found = strcmp(header->databases[k].name, options->databases[i]) == 0;
        if (!found)
            return error_set(
                err, ERROR_USAGE, "there is no database \"%.100s\" in backup \"%s\"",
                options->databases[i], header->label);
    }
    return 0;
}

/* Named ones and templates; a database that the backup does not know of stays too. */
static bool
plan_database_wanted(const BackupHeader *header, const PlanOptions *options, uint32_t oid)
{
    for (size_t i = 0; i < header->database_count; i++)
    {
        const char *name = header->databases[i].name;

        if (header->databases[i].oid == oid)
            return plan_database_named(options, name) ||
                   strncmp(name, PLAN_TEMPLATE_PREFIX, sizeof PLAN_TEMPLATE_PREFIX - 1) == 0;
    }
    return true;
}

/* ---- the newest backup ---- */

/* How the server starts is said by this restore, not by what was backed up: often a standby. */
static bool
plan_is_made(const char *path)
{
    static const char *const made[] = {PLAN_PG_MANIFEST, PLAN_RECOVERY_SIGNAL, PLAN_STANDBY_SIGNAL};

    for (size_t i = 0; i < ARRAY_COUNT(made); i++)
        if (strcmp(path, made[i]) == 0)
            return true;
    return false;
}

static PlanState
plan_first_state(const Plan *plan, const PlanOptions *options, const BackupFile *entry)
{
    uint32_t database;

    if (entry->kind == BACKUP_FILE_FOLDER)
        return PLAN_FOLDER;
    if (plan_is_made(entry->path))
        return PLAN_MADE;
    database = options->database_count > 0 ? plan_path_database(entry->path) : 0;
    if (database != 0 && !plan_database_wanted(&plan->newest.header, options, database))
        return PLAN_ZERO;
    return PLAN_FETCH;
}

static int
plan_newest_file(PlanLoad *load, size_t i, Error *err)
{
    Plan *plan = load->plan;
    const BackupFile *entry = plan_entry(plan, i);
    AUTO(block_set_reset) BlockSet wanted = {0};

    if (plan_file(plan, i)->state != PLAN_FETCH)
        return 0;
    if (entry->kind == BACKUP_FILE_WHOLE)
    {
        if (entry->stored_bytes != entry->bytes)
            return error_set(
                err, ERROR_CORRUPT,
                "the manifest contradicts itself about the length of file \"%s\"", entry->path);
        if (entry->bytes == 0)
            return 0;
        return plan_take(load, i, entry, NULL, err);
    }
    if (plan->layer_count == 1)
        return error_set(
            err, ERROR_CORRUPT, "the manifest of a full backup has incremental file \"%s\"",
            entry->path);
    if (chain_begin(entry, &wanted, err) < 0)
        return -1;
    if (wanted.count > 0)
    {
        plan_wanted(load, i)->open = true;
        load->open++;
    }
    if (entry->blocks.count == 0)
        return 0;
    return plan_take(load, i, entry, &entry->blocks, err);
}

/* The header of a manifest must be what the list said, before lengths in it are believed. */
static int
plan_check_header(const BackupHeader *header, const char *label, uint64_t sysid, Error *err)
{
    if (strcmp(header->label, label) != 0 || header->system_identifier != sysid)
        return error_set(
            err, ERROR_CORRUPT,
            "the manifest of backup \"%s\" is that of backup \"%s\" of system identifier %" PRIu64,
            label, header->label, header->system_identifier);
    return 0;
}

static int
plan_load_newest(PlanLoad *load, const PlanOptions *options, Error *err)
{
    Plan *plan = load->plan;
    const BackupHeader *header = &plan->newest.header;
    PlanLayer *layer;

    if (plan->newest.file_count > UINT32_MAX)
        return error_set(err, ERROR_CORRUPT, "the manifest has too many files");
    if (options->database_count > 0 && plan_check_databases(header, options, err) < 0)
        return -1;
    plan->layer_count = 1 + header->chain_count;
    plan->layers = calloc(plan->layer_count, sizeof *plan->layers);
    if (plan->layers == NULL)
        return error_nomem(err);
    plan->files =
        bulk_add(&plan->memory->files, (plan->newest.file_count + 1) * sizeof *plan->files, err);
    load->wanted =
        bulk_add(&load->wanted_memory, (plan->newest.file_count + 1) * sizeof *load->wanted, err);
    if (plan->files == NULL || load->wanted == NULL)
        return -1;
    layer = load->layer = &plan->layers[0];
    layer->label = header->label;
    layer->key_ids = header->key_ids;
    for (size_t i = 0; i < plan->newest.file_count; i++)
    {
        const BackupFile *entry = plan_entry(plan, i);

        if (!data_path_valid(entry->path))
            return error_set(
                err, ERROR_CORRUPT, "the manifest has a file named \"%.200s\"", entry->path);
        plan_file(plan, i)->state = plan_first_state(plan, options, entry);
        if (plan_newest_file(load, i, err) < 0)
            return -1;
    }
    for (size_t i = 0; i < plan->newest.part_count; i++)
    {
        PlanPart *part = plan_add_part(layer, err);

        if (part == NULL)
            return -1;
        part->part = plan->newest.parts[i];
    }
    return 0;
}

/* ---- the older ones ---- */

static int
plan_older_header(void *ctx, const BackupHeader *header, Error *err)
{
    PlanLoad *load = ctx;

    if (plan_check_header(header, load->layer->label, load->system_identifier, err) < 0)
        return -1;
    load->layer->key_ids = plan_keep_text(load->plan, header->key_ids, err);
    return load->layer->key_ids == NULL ? -1 : 0;
}

/* What is still wanted of file i, into *out, which is empty. */
static int
plan_read_wanted(PlanLoad *load, size_t i, BlockSet *out, Error *err)
{
    const PlanWanted *wanted = plan_wanted(load, i);

    if (wanted->ranges == NULL)
        return chain_begin(plan_entry(load->plan, i), out, err);
    for (uint32_t k = 0; k < wanted->count; k++)
        if (block_set_add(out, wanted->ranges[k].first, wanted->ranges[k].count, err) < 0)
            return -1;
    return 0;
}

/* It has become less, and is rest. */
static int
plan_write_wanted(PlanLoad *load, size_t i, const BlockSet *rest, Error *err)
{
    PlanWanted *wanted = plan_wanted(load, i);
    BlockRange *ranges;

    if (rest->count == 0)
    {
        wanted->open = false;
        load->open--;
        return 0;
    }
    ranges = bulk_add(&load->wanted_memory, rest->count * sizeof *ranges, err);
    if (ranges == NULL)
        return -1;
    memcpy(ranges, rest->ranges, rest->count * sizeof *ranges);
    wanted->ranges = ranges;
    wanted->count = (uint32_t) rest->count;
    return 0;
}

static int
plan_older_file(void *ctx, const BackupFile *older, Error *err)
{
    PlanLoad *load = ctx;
    const Plan *plan = load->plan;
    const BackupFile *newest = manifest_find(&plan->newest, older->path);
    AUTO(block_set_reset) BlockSet wanted = {0};
    AUTO(block_set_reset) BlockSet take = {0};
    uint64_t before;
    size_t i;

    if (newest == NULL || older->kind == BACKUP_FILE_FOLDER)
        return 0;
    i = (size_t) (newest - plan->newest.files);
    if (!plan_wanted(load, i)->open || plan_wanted(load, i)->seen)
        return 0;
    plan_wanted(load, i)->seen = true;
    if (plan_read_wanted(load, i, &wanted, err) < 0)
        return -1;
    before = block_set_blocks(&wanted);
    if (chain_take(older, &wanted, &take, err) < 0)
        return -1;
    /* blocks only go from it */
    if (block_set_blocks(&wanted) < before && plan_write_wanted(load, i, &wanted, err) < 0)
        return -1;
    if (take.count == 0)
        return 0;
    return plan_take(load, i, older, &take, err);
}

static int
plan_older_part(void *ctx, const BackupPart *older, Error *err)
{
    PlanLoad *load = ctx;
    PlanPart *part = plan_add_part(load->layer, err);

    if (part == NULL)
        return -1;
    part->part = *older;
    part->part.frame_bytes = plan_keep(
        load->plan, older->frame_bytes, older->frame_count * sizeof *older->frame_bytes, err);
    if (part->part.frame_bytes == NULL)
        return -1;
    /* nearly always the backup itself, or the one of the part before */
    if (strcmp(older->owner, load->layer->label) == 0)
        part->part.owner = load->layer->label;
    else if (load->layer->part_count > 1 && strcmp(older->owner, part[-1].part.owner) == 0)
        part->part.owner = part[-1].part.owner;
    else
        part->part.owner = plan_keep_text(load->plan, older->owner, err);
    return part->part.owner == NULL ? -1 : 0;
}

static int
plan_load_older(PlanLoad *load, Repository *repo, const Deadline *dl, size_t layer, Error *err)
{
    static const ManifestHandlers handlers = {
        .header = plan_older_header, .file = plan_older_file, .part = plan_older_part};
    Plan *plan = load->plan;
    const BackupHeader *header = &plan->newest.header;

    load->layer = &plan->layers[layer];
    /* a file whose blocks are still missing must be in each backup until they are found */
    for (size_t i = 0; i < plan->newest.file_count; i++)
        plan_wanted(load, i)->seen = false;
    if (manifest_read(repo, load->layer->label, dl, &handlers, load, err) < 0)
        return -1;
    for (size_t i = 0; i < plan->newest.file_count; i++)
        if (plan_wanted(load, i)->open && !plan_wanted(load, i)->seen)
            return error_set(
                err, ERROR_CORRUPT,
                "backup \"%s\" has no file \"%s\", which blocks of backup \"%s\" belong to",
                load->layer->label, plan_entry(plan, i)->path, header->label);
    return 0;
}

/* ---- sorting and sums ---- */

static int
plan_compare_bundles(const void *a, const void *b)
{
    const PlanBundle *x = a, *y = b;

    return x->bundle < y->bundle ? -1 : x->bundle > y->bundle;
}

static int
plan_compare_parts(const void *a, const void *b)
{
    const BackupPart *x = &((const PlanPart *) a)->part, *y = &((const PlanPart *) b)->part;

    if (x->bundle != y->bundle)
        return x->bundle < y->bundle ? -1 : 1;
    return x->part < y->part ? -1 : x->part > y->part;
}

static int
plan_finish(Plan *plan, Error *err)
{
    for (size_t l = 0; l < plan->layer_count; l++)
    {
        PlanLayer *layer = &plan->layers[l];

        if (layer->bundle_count > 1)
            qsort(
                layer->bundles, layer->bundle_count, sizeof *layer->bundles, plan_compare_bundles);
        if (layer->part_count > 1)
            qsort(layer->parts, layer->part_count, sizeof *layer->parts, plan_compare_parts);
        for (size_t i = 0; i < layer->piece_count; i++)
        {
            const PlanPiece *piece = &layer->pieces[i];
            PlanFile *file = plan_file(plan, piece->file);

            /* content that overlaps would be written twice, and checksums would not tell */
            if (i > 0 && piece[-1].bundle == piece->bundle &&
                piece[-1].offset + piece[-1].stored_bytes > piece->offset)
                return error_set(
                    err, ERROR_CORRUPT,
                    "the manifest of backup \"%s\" has two files at the same place of bundle "
                    "%" PRIu32,
                    layer->label, piece->bundle);
            atomic_fetch_add(&file->left, plan_piece_bytes(piece));
        }
    }
    return 0;
}

uint64_t
plan_part_start(const BackupPart *part)
{
    return (uint64_t) part->first_frame * BACKUP_FRAME_BYTES;
}

uint64_t
plan_part_end(const BackupPart *part)
{
    return plan_part_start(part) + (uint64_t) (part->frame_count - 1) * BACKUP_FRAME_BYTES +
           part->last_plain_bytes;
}

/* The first piece of the bundle that ends behind start. */
static size_t
plan_find_piece(const PlanLayer *layer, uint32_t bundle, uint64_t start)
{
    const PlanBundle want = {.bundle = bundle};
    const PlanBundle *found =
        layer->bundle_count > 0
            ? bsearch(&want, layer->bundles, layer->bundle_count, sizeof want, plan_compare_bundles)
            : NULL;
    size_t low, high;

    if (found == NULL)
        return layer->piece_count;
    low = found->first;
    high = found->end;
    while (low < high)
    {
        size_t mid = low + (high - low) / 2;

        if (layer->pieces[mid].offset + layer->pieces[mid].stored_bytes <= start)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

bool
plan_range_wanted(
    const Plan *plan, const PlanLayer *layer, uint32_t bundle, uint64_t start, uint64_t end,
    size_t first)
{
    for (size_t i = first; i < layer->piece_count; i++)
    {
        const PlanPiece *piece = &layer->pieces[i];
        PlanRun run;

        if (piece->bundle != bundle || piece->offset >= end)
            return false;
        if (plan_file(plan, piece->file)->state == PLAN_FETCH &&
            plan_piece_run(
                piece, start > piece->offset ? start - piece->offset : 0, end - piece->offset,
                &run))
            return true;
    }
    return false;
}

void
plan_select(Plan *plan)
{
    plan->fetch_bytes = plan->write_bytes = plan->keep_bytes = plan->zero_bytes = 0;
    plan->fetch_parts = plan->write_files = plan->keep_files = plan->zero_files = 0;
    for (size_t l = 0; l < plan->layer_count; l++)
    {
        PlanLayer *layer = &plan->layers[l];

        layer->fetch_bytes = 0;
        layer->fetch_parts = 0;
        for (size_t i = 0; i < layer->part_count; i++)
        {
            PlanPart *part = &layer->parts[i];

            uint64_t start = plan_part_start(&part->part);

            part->piece = plan_find_piece(layer, part->part.bundle, start);
            part->wanted = plan_range_wanted(
                plan, layer, part->part.bundle, start, plan_part_end(&part->part), part->piece);
            if (!part->wanted)
                continue;
            layer->fetch_bytes += part->part.stored_bytes;
            layer->fetch_parts++;
        }
        plan->fetch_bytes += layer->fetch_bytes;
        plan->fetch_parts += layer->fetch_parts;
    }
    for (size_t i = 0; i < plan->newest.file_count; i++)
    {
        uint64_t bytes = plan_entry(plan, i)->bytes;

        switch (plan_file(plan, i)->state)
        {
            case PLAN_FETCH:
                plan->write_bytes += bytes;
                plan->write_files++;
                break;
            case PLAN_KEEP:
                plan->keep_bytes += bytes;
                plan->keep_files++;
                break;
            case PLAN_ZERO:
                plan->zero_bytes += bytes;
                plan->zero_files++;
                break;
            case PLAN_MADE:
            case PLAN_FOLDER:
                break;
        }
    }
}

/* ---- all of it ---- */

static int
plan_load_all(
    PlanLoad *load, Repository *repo, const char *label, const PlanOptions *options,
    int64_t timeout_ms, const atomic_bool *cancel, Error *err)
{
    Plan *plan = load->plan;
    Deadline dl = deadline_after_ms(timeout_ms, cancel);
    const BackupHeader *header = &plan->newest.header;

    plan->memory = calloc(1, sizeof *plan->memory);
    if (plan->memory == NULL)
        return error_nomem(err);
    plan->memory->files.dir = plan->memory->pieces.dir = plan->memory->ranges.dir = repo->scratch;
    load->wanted_memory.dir = repo->scratch;
    load->system_identifier = repo->description.system_identifier;
    if (manifest_load(repo, label, &dl, &plan->newest, err) < 0 ||
        plan_check_header(header, label, load->system_identifier, err) < 0 ||
        plan_load_newest(load, options, err) < 0)
        return error_wrap(err, "could not read backup \"%s\"", label);
    for (size_t l = 1; l < plan->layer_count; l++)
    {
        PlanLayer *layer = &plan->layers[l];

        layer->label = header->chain[header->chain_count - l];
        layer->key_ids = "";
        if (load->open == 0)
            continue; /* nothing is wanted of it */
        dl = deadline_after_ms(timeout_ms, cancel);
        if (plan_load_older(load, repo, &dl, l, err) < 0)
            return error_wrap(
                err, "could not read backup \"%s\", which \"%s\" builds on", layer->label, label);
    }
    if (plan_finish(plan, err) < 0)
        return -1;
    plan_select(plan);
    return 0;
}

int
plan_load(
    Repository *repo, const char *label, const PlanOptions *options, int64_t timeout_ms,
    const atomic_bool *cancel, Plan *out, Error *err)
{
    PlanLoad load = {.plan = out};
    int rc = plan_load_all(&load, repo, label, options, timeout_ms, cancel, err);

    bulk_reset(&load.wanted_memory);
    return rc;
}

void
plan_reset(Plan *plan)
{
    for (size_t l = 0; plan->layers != NULL && l < plan->layer_count; l++)
    {
        PlanLayer *layer = &plan->layers[l];

        free(layer->bundles);
        free(layer->parts);
    }
    if (plan->memory != NULL)
    {
        bulk_reset(&plan->memory->files);
        bulk_reset(&plan->memory->pieces);
        bulk_reset(&plan->memory->ranges);
    }
    while (plan->texts != NULL)
    {
        PlanText *next = plan->texts->next;

        free(plan->texts);
        plan->texts = next;
    }
    free(plan->layers);
    free(plan->memory);
    manifest_reset(&plan->newest);
    *plan = (Plan){0};
}
