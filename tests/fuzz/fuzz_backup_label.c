/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Backup labels: what is accepted is consistent, and stays so without its incremental lines.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pg/backup_label.h"

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
fuzz_label(const char *text, size_t len, uint32_t segment_bytes)
{
    AUTO(strbuf_reset) StrBuf rest = {0};
    BackupLabel label, again;
    Error err = {.kind = ERROR_NONE};

    strbuf_init(&rest, len);
    backup_label_without_incremental(text, len, &rest);
    fuzz_check(!rest.failed, "it does not become longer");
    if (backup_label_parse(text, len, segment_bytes, &label, &err) < 0)
    {
        fuzz_check(err.kind == ERROR_CORRUPT, "the kind is CORRUPT");
        return;
    }
    fuzz_check(label.start_lsn != LSN_INVALID && label.start_tli != 0, "it has a start");
    fuzz_check(label.checkpoint_lsn >= label.start_lsn, "the checkpoint is behind its redo point");
    fuzz_check(
        (label.incremental_from_lsn == LSN_INVALID) == (label.incremental_from_tli == 0),
        "incremental lines come together");
    fuzz_check(
        backup_label_parse(strbuf_text(&rest), rest.len, segment_bytes, &again, &err) == 0,
        "without them it is a label");
    fuzz_check(
        again.incremental_from_lsn == LSN_INVALID && again.start_lsn == label.start_lsn &&
            again.start_tli == label.start_tli,
        "of a full backup with the same start");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_label((const char *) data, size, 0);
    fuzz_label((const char *) data, size, 16u << 20);
    return 0;
}
