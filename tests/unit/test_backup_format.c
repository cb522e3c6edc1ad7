/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Names of backups and their objects.
 */
#include "repo/backup_format.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

#define MAX_LABEL "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff123"
#define UNTIL_US INT64_C(1772356447000000) /* 2026-03-01 09:14:07 */

static void
test_labels(void)
{
    static const struct
    {
        const char *text;
        bool valid;
    } cases[] = {
        {"20260301T091407Z-full", true},
        {"a", true},
        {"before_upgrade.2", true},
        {MAX_LABEL, true},
        {MAX_LABEL "4", false},
        {"", false},
        {".hidden", false},
        {"..", false},
        {"a/b", false},
        {"a b", false},
        {"a\t", false},
        {"\xC3\xA4", false},
    };
    char buf[BACKUP_LABEL_NAME_MAX];

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        ok(backup_label_name_valid(cases[i].text) == cases[i].valid, "label \"%s\" is %s",
           cases[i].text, cases[i].valid ? "good" : "refused");
    ok(strcmp(backup_label_name(UNTIL_US + 999999, false, buf), "20260301T091407Z-full") == 0 &&
           backup_label_name_valid(buf),
       "a full backup's name: %s", buf);
    ok(strcmp(backup_label_name(UNTIL_US, true, buf), "20260301T091407Z-incremental") == 0 &&
           backup_label_name_valid(buf),
       "an incremental's: %s", buf);
}

static void
test_keys(void)
{
    char buf[LAYOUT_KEY_MAX];

    ok(strcmp(backup_prefix("b1", buf), "backup/b1/") == 0, "prefix: %s", buf);
    ok(strcmp(backup_pin_key("b1", UNTIL_US + 1, buf), "pin/b1/20260301T091408Z") == 0,
       "a pin lasts no shorter than asked: %s", buf);
    ok(strcmp(
           backup_part_key(MAX_LABEL, UINT32_MAX, UINT32_MAX, buf),
           "backup/" MAX_LABEL "/bundle/FFFFFFFF/FFFFFFFF") == 0,
       "the longest key fits: %s", buf);
}

/* The key that an accepted one is written as. */
static const char *
write_again(const BackupKey *key, char *buf)
{
    switch (key->kind)
    {
        case BACKUP_KEY_START:
            return backup_start_key(key->label, buf);
        case BACKUP_KEY_MANIFEST:
            return backup_manifest_key(key->label, buf);
        case BACKUP_KEY_PART:
            return backup_part_key(key->label, key->bundle, key->part, buf);
        case BACKUP_KEY_INDEX:
            return backup_index_key(key->label, key->bundle, buf);
        case BACKUP_KEY_PIN:
            return backup_pin_key(key->label, key->until_us, buf);
    }
    return "";
}

static void
test_parse(void)
{
    static const struct
    {
        const char *key;
        bool good;
        BackupKey want;
    } cases[] = {
        {"backup/b1/start", true, {.kind = BACKUP_KEY_START, .label = "b1"}},
        {"backup/b1/manifest", true, {.kind = BACKUP_KEY_MANIFEST, .label = "b1"}},
        {"backup/b1/bundle/0000001A/000000FF",
         true,
         {.kind = BACKUP_KEY_PART, .label = "b1", .bundle = 0x1A, .part = 0xFF}},
        {"backup/b1/bundle/FFFFFFFF/index",
         true,
         {.kind = BACKUP_KEY_INDEX, .label = "b1", .bundle = UINT32_MAX}},
        {"pin/b1/forever", true, {.kind = BACKUP_KEY_PIN, .label = "b1"}},
        {"pin/b1/20260301T091407Z",
         true,
         {.kind = BACKUP_KEY_PIN, .label = "b1", .until_us = UNTIL_US}},
        {"backup/" MAX_LABEL "/start", true, {.kind = BACKUP_KEY_START, .label = MAX_LABEL}},
        {.key = "backup/" MAX_LABEL "4/start"},
        {.key = "backup/b1"},
        {.key = "backup/b1/"},
        {.key = "backup//start"},
        {.key = "backup/.b1/start"},
        {.key = "backup/b1/start/"},
        {.key = "backup/b1/Start"},
        {.key = "backup/b1/manifest.tmp"},
        {.key = "backup/b1/bundle/0000001a/000000FF"},
        {.key = "backup/b1/bundle/0000001A"},
        {.key = "backup/b1/bundle/0000001A/"},
        {.key = "backup/b1/bundle/0000001A/0000FF"},
        {.key = "backup/b1/bundle/0000001A/000000FF0"},
        {.key = "backup/b1/bundle/00000001A/000000FF"},
        {.key = "backup/b1/bundle/0000001A/Index"},
        {.key = "pin/b1/"},
        {.key = "pin/b1"},
        {.key = "pin/b1/never"},
        {.key = "pin/b1/20260231T091407Z"},
        {.key = "pin/b1/19700101T000000Z"},
        {.key = "pin/b1/20260301T091407Z/x"},
        {.key = "pins/b1/forever"},
        {.key = "wal/00000001/00000001.history"},
        {.key = ""},
    };
    char again[LAYOUT_KEY_MAX];

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        const BackupKey *want = &cases[i].want;
        BackupKey got = {0};
        bool good = backup_key_parse(cases[i].key, &got);

        ok(good == cases[i].good && got.kind == want->kind && got.bundle == want->bundle &&
               got.part == want->part && got.until_us == want->until_us &&
               strcmp(got.label, want->label) == 0 &&
               (!good || strcmp(write_again(&got, again), cases[i].key) == 0),
           "key \"%s\" is %s", cases[i].key, cases[i].good ? "read and written" : "refused");
    }
}

static void
test_header_copy(void)
{
    AUTO(backup_header_reset) BackupHeader from = {.label = "b2", .incremental = true};
    AUTO(backup_header_reset) BackupHeader to = {0};
    Error err = {0};

    from.chain = calloc(1, sizeof *from.chain);
    from.uses = calloc(2, sizeof *from.uses);
    from.databases = calloc(1, sizeof *from.databases);
    if (from.chain == NULL || from.uses == NULL || from.databases == NULL)
        abort();
    (void) snprintf(from.chain[0], sizeof from.chain[0], "%s", "b1");
    (void) snprintf(from.uses[1], sizeof from.uses[1], "%s", "u2");
    from.chain_count = 1;
    from.uses_count = 2;
    from.databases[0] = (BackupDatabase){.oid = 5, .name = strdup("postgres")};
    from.database_count = 1;
    ok(tablespace_map_add(&from.tablespaces, 16388, "/srv/ts", &err) == 0 &&
           backup_header_copy(&from, &to, &err) == 0,
       "a header is copied");
    ok(to.chain != from.chain && strcmp(to.chain[0], "b1") == 0 && to.uses_count == 2 &&
           strcmp(to.uses[1], "u2") == 0 && strcmp(to.databases[0].name, "postgres") == 0 &&
           to.databases[0].name != from.databases[0].name && to.tablespaces.count == 1 &&
           strcmp(to.tablespaces.items[0].path, "/srv/ts") == 0 && strcmp(to.label, "b2") == 0,
       "with what it owns");
    backup_header_reset(&to);
    ok(to.chain == NULL && to.databases == NULL && to.tablespaces.items == NULL,
       "and empty after its reset");

    BackupHeader plain = {.label = "b1"};

    ok(backup_header_copy(&plain, &to, &err) == 0 && to.databases == NULL && to.chain_count == 0,
       "that nobody asked for databases stays so");
}

int
main(void)
{
    test_labels();
    test_keys();
    test_parse();
    test_header_copy();
    return done_testing();
}
