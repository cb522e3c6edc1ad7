/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * pg_control, as it comes and with its checksum made right: what is accepted has usable sizes.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/crc32c.h"
#include "pg/control.h"

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
fuzz_control(const uint8_t *data, size_t size)
{
    ControlFile c;
    Error err = {.kind = ERROR_NONE};

    if (control_parse(data, size, &c, &err) < 0)
    {
        fuzz_check(err.kind == ERROR_CORRUPT, "the kind is CORRUPT");
        return;
    }
    fuzz_check(wal_segment_bytes_valid(c.segment_bytes), "the segment size is usable");
    fuzz_check(c.block_bytes >= 1024 && c.block_bytes <= 32768, "so is the block size");
    fuzz_check(c.system_identifier != 0 && c.tli != 0, "identifier and timeline are there");
    fuzz_check(c.pg_major == 0 || (c.pg_major >= 14 && c.pg_major <= 18), "a version that we know");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t right[8192];

    fuzz_control(data, size);
    if (size < 296)
        return 0;
    size = MIN(size, sizeof right);
    memcpy(right, data, size);
    put_u32le(right + 288, crc32c(0, right, 288));
    fuzz_control(right, size);
    put_u32le(right + 292, crc32c(0, right, 292));
    fuzz_control(right, size);
    return 0;
}
