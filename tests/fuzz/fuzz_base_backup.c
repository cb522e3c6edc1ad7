/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Messages of BASE_BACKUP, and names in its archives: what is accepted stays in the data directory.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pg/base_backup.h"
#include "pg/data_file.h"

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
fuzz_message(const uint8_t *data, size_t size)
{
    BaseBackupMessage msg;
    Error err = {.kind = ERROR_NONE};

    if (base_backup_parse_message(data, size, &msg, &err) < 0)
    {
        fuzz_check(err.kind == ERROR_CORRUPT, "the kind is CORRUPT");
        return;
    }
    fuzz_check(size > 0 && data[0] == (uint8_t) msg.kind, "the kind is the first byte");
    if (msg.kind == BASE_BACKUP_DATA)
        fuzz_check(
            (const uint8_t *) msg.data + msg.len == data + size, "the data end with the message");
    if (msg.kind == BASE_BACKUP_ARCHIVE)
        fuzz_check(data[size - 1] == '\0', "its texts end with the message");
}

static void
fuzz_name(uint32_t tablespace, const char *name)
{
    char path[DATA_PATH_MAX];
    char framed[DATA_PATH_MAX + 2];
    Error err = {.kind = ERROR_NONE};

    if (base_backup_map_path(tablespace, name, path, sizeof path, &err) < 0)
    {
        fuzz_check(err.kind == ERROR_CORRUPT, "the kind is CORRUPT");
        return;
    }
    (void) snprintf(framed, sizeof framed, "/%s/", path);
    fuzz_check(
        strstr(framed, "/../") == NULL && strstr(framed, "/./") == NULL &&
            strstr(framed, "//") == NULL,
        "each component is a name");
    fuzz_check(
        tablespace == 0 || strncmp(path, "pg_tblspc/16388/", strlen("pg_tblspc/16388/")) == 0,
        "below its tablespace");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *name = malloc(size + 1);

    if (name == NULL)
        abort();
    fuzz_message(data, size);
    if (size > 0)
        memcpy(name, data, size);
    name[size] = '\0';
    fuzz_name(0, name);
    fuzz_name(16388, name);
    free(name);
    return 0;
}
