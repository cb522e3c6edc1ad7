/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * LSNs, WAL file names and keys of a repository: whatever is accepted is written the same again.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "repo/layout.h"

#define FUZZ_NAME_MAX 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fuzz_check(bool good, const char *what)
{
    if (good)
        return;
    (void) fprintf(stderr, "broken: %s\n", what);
    abort();
}

static void
fuzz_layout(const char *key, uint32_t segment_bytes)
{
    LayoutEntry e;
    char again[LAYOUT_KEY_MAX] = "";

    if (!layout_parse(key, segment_bytes, &e))
        return;
    fuzz_check(e.tli != 0, "no timeline 0");
    switch (e.kind)
    {
        case LAYOUT_SEGMENT:
        case LAYOUT_PART:
            (void) layout_part_key(&e.extent, segment_bytes, again);
            break;
        case LAYOUT_PIECE:
            (void) layout_piece_key(&e.extent, segment_bytes, again);
            break;
        case LAYOUT_HISTORY:
        case LAYOUT_BACKUP_FILE:
        case LAYOUT_PARTIAL:
            (void) layout_wal_file_key(&e.name, again);
            break;
        case LAYOUT_GAP:
            (void) layout_gap_key(e.tli, e.gap_start, e.gap_end, again);
            break;
    }
    fuzz_check(strcmp(key, again) == 0, "a key is written the same again");
    fuzz_check(e.extent.end <= segment_bytes, "the extent lies in the segment");
}

static void
fuzz_file_name(const char *name)
{
    WalFileName parsed;
    char key[LAYOUT_KEY_MAX];

    if (!wal_file_name_parse(name, &parsed))
        return;
    fuzz_check(parsed.tli != 0, "no timeline 0");
    (void) layout_wal_file_key(&parsed, key);

    const char *base = strrchr(key, '/');

    fuzz_check(base != NULL && strcmp(base + 1, name) == 0, "a name is written the same again");
}

static void
fuzz_lsn(const char *text)
{
    Lsn lsn, again;
    char buf[LSN_TEXT_BYTES];

    if (lsn_parse(text, &lsn))
        fuzz_check(
            lsn_parse(lsn_format(lsn, buf, sizeof buf), &again) && lsn == again,
            "an LSN is read the same again");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t segment_sizes[] = {1u << 20, 16u << 20, 32u << 20, 1u << 30};
    char name[FUZZ_NAME_MAX];

    if (size >= sizeof name)
        return 0;
    if (size > 0)
        memcpy(name, data, size);
    name[size] = '\0';
    fuzz_lsn(name);
    fuzz_file_name(name);
    for (size_t i = 0; i < ARRAY_COUNT(segment_sizes); i++)
        fuzz_layout(name, segment_sizes[i]);
    (void) layout_cluster_name_valid(name);
    return 0;
}
