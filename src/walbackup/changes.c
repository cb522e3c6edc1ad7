/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What an incremental backup stores of a file; see changes.h.
 */
#include "walbackup/changes.h"

#include <stdio.h>
#include <string.h>

#include "pg/data_page.h"

static uint32_t
change_row_xid(const BackupHeader *header, uint32_t oid)
{
    for (size_t i = 0; i < header->database_count; i++)
        if (header->databases[i].oid == oid)
            return header->databases[i].row_xid;
    return 0;
}

/* Whether it is certain that the database is the one that the parent has. */
static bool
change_same_database(const BackupHeader *parent, const BackupHeader *now, uint32_t oid)
{
    uint32_t was = change_row_xid(parent, oid);

    return oid == 0 || (was != 0 && was == change_row_xid(now, oid));
}

/* The main fork that a file of another fork belongs to: "base/5/16384" of "base/5/16384_vm.1". */
static bool
change_main_fork_path(const char *path, char *buf, size_t len)
{
    const char *name = strrchr(path, '/');
    const char *mark = name != NULL ? strchr(name, '_') : NULL;
    int n = mark != NULL ? snprintf(buf, len, "%.*s", (int) (mark - path), path) : -1;

    return n > 0 && (size_t) n < len;
}

ChangeRule
change_rule(
    const Manifest *parent, const BackupHeader *now, bool summaries, const char *path,
    uint64_t bytes, const BackupFile **entry)
{
    char main_fork[DATA_PATH_MAX];
    RelationFile rel;

    *entry = parent != NULL ? manifest_find(parent, path) : NULL;
    if (parent == NULL || !data_file_parse_relation(path, &rel))
        return CHANGE_WHOLE;
    if (rel.fork == DATA_FORK_VM && (!summaries || *entry == NULL) && !now->data_checksums &&
        change_main_fork_path(path, main_fork, sizeof main_fork) &&
        manifest_find(parent, main_fork) != NULL)
        return CHANGE_LEAVE_OUT;
    if (*entry == NULL || (*entry)->kind == BACKUP_FILE_FOLDER || bytes == 0 ||
        bytes % DATA_PAGE_BYTES != 0 || (*entry)->bytes % DATA_PAGE_BYTES != 0 ||
        bytes / DATA_PAGE_BYTES > DATA_SEGMENT_BLOCKS)
        return CHANGE_WHOLE;
    if (rel.fork != DATA_FORK_MAIN)
        return (*entry)->kind == BACKUP_FILE_WHOLE && (*entry)->bytes == bytes ? CHANGE_DIGEST
                                                                               : CHANGE_WHOLE;
    if (!summaries && !change_same_database(&parent->header, now, rel.database))
        return CHANGE_WHOLE;
    return CHANGE_PAGES;
}

bool
change_page(const void *page, uint32_t block, Lsn since, const BackupFile *entry)
{
    Lsn lsn = data_page_lsn(page);

    return block >= entry->bytes / DATA_PAGE_BYTES || lsn == LSN_INVALID || lsn >= since ||
           block_set_has(&entry->damaged, block);
}

int
change_add_damaged(const BackupFile *entry, uint32_t blocks, BlockSet *changed, Error *err)
{
    for (size_t i = 0; i < entry->damaged.count && entry->damaged.ranges[i].first < blocks; i++)
    {
        BlockRange range = entry->damaged.ranges[i];

        if (block_set_add(changed, range.first, MIN(range.count, blocks - range.first), err) < 0)
            return -1;
    }
    return 0;
}

bool
change_nearly_all(uint64_t changed_blocks, uint64_t blocks)
{
    return changed_blocks * 10 > blocks * 9;
}
