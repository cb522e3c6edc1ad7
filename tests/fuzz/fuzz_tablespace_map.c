/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Tablespace maps: what is accepted is written in a form that reads the same.
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

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(tablespace_map_reset) TablespaceMap map = {0};
    AUTO(tablespace_map_reset) TablespaceMap again = {0};
    AUTO(strbuf_reset) StrBuf text = {0};
    Error err = {.kind = ERROR_NONE};

    if (tablespace_map_parse((const char *) data, size, &map, &err) < 0)
    {
        fuzz_check(err.kind == ERROR_CORRUPT && map.count == 0, "CORRUPT, and nothing handed out");
        return 0;
    }
    strbuf_init(&text, size);
    tablespace_map_format(&map, &text);
    fuzz_check(!text.failed, "it does not become longer");
    fuzz_check(
        tablespace_map_parse(strbuf_text(&text), text.len, &again, &err) == 0 &&
            again.count == map.count,
        "what is written can be read");
    for (size_t i = 0; i < map.count; i++)
    {
        fuzz_check(map.items[i].oid != 0 && map.items[i].path[0] != '\0', "entries are whole");
        fuzz_check(
            again.items[i].oid == map.items[i].oid &&
                strcmp(again.items[i].path, map.items[i].path) == 0,
            "and is the same");
    }
    return 0;
}
