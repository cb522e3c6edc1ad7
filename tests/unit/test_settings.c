/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "walrestore/settings.h"

#include <string.h>

#include "tap.h"

static void
test_quoting(void)
{
    static const struct
    {
        const char *label, *text, *shell, *value;
    } cases[] = {
        {"a plain path", "/etc/walstream/walstream.conf", "/etc/walstream/walstream.conf",
         "'/etc/walstream/walstream.conf'"},
        {"blanks", "/my conf", "'/my conf'", "'/my conf'"},
        {"quote", "/it's", "'/it'\\''s'", "'/it''s'"},
        {"percent sign", "/100%f", "'/100%%f'", "'/100%f'"},
        {"backslash", "/a\\b", "'/a\\b'", "'/a\\\\b'"},
        {"dollar and backtick", "/$HOME`x`", "'/$HOME`x`'", "'/$HOME`x`'"},
        {"nothing", "", "''", "''"},
        {"tilde", "~root", "'~root'", "'~root'"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(strbuf_reset) StrBuf shell, value;

        strbuf_init(&shell, 1000);
        strbuf_init(&value, 1000);
        settings_quote_shell(cases[i].text, &shell);
        settings_quote_value(cases[i].text, &value);
        ok(strcmp(strbuf_text(&shell), cases[i].shell) == 0, "shell: %s", cases[i].label);
        ok(strcmp(strbuf_text(&value), cases[i].value) == 0, "value: %s", cases[i].label);
    }

    static const char *const args[] = {"--repository.url=file:///a b"};
    const ConfigOverrides overrides = {.args = args, .count = 1};
    AUTO(strbuf_reset) StrBuf command;

    strbuf_init(&command, 1000);
    settings_restore_command("/usr/bin/walfetch", "/etc/w.conf", &overrides, &command);
    ok(strcmp(
           strbuf_text(&command), "/usr/bin/walfetch --config /etc/w.conf "
                                  "'--repository.url=file:///a b' %f %p") == 0,
       "restore_command");
}

#define BLOCK(lines) SETTINGS_BEGIN "\nrestore_command = 'x'\n" lines SETTINGS_END "\n"
#define NO_TARGET "recovery_target = ''\n"
#define NO_NAME "recovery_target_name = ''\n"
#define NO_TIME "recovery_target_time = ''\n"
#define NO_XID "recovery_target_xid = ''\n"
#define NO_LSN "recovery_target_lsn = ''\n"
#define NONE NO_TARGET NO_NAME NO_TIME NO_XID NO_LSN
#define NO_DELAY "recovery_min_apply_delay = '0'\n"
#define LATEST BLOCK(NONE NO_DELAY "recovery_target_timeline = 'latest'\n")

static void
test_rewriting(void)
{
    static const RecoveryTarget latest = {.kind = RECOVERY_LATEST};
    static const RecoveryTarget at_time = {
        .kind = RECOVERY_TIME, .time_us = INT64_C(1772356447120000)};
    static const RecoveryTarget at_lsn = {
        .kind = RECOVERY_LSN, .lsn = 0x1000000A0, .exclusive = true};
    static const RecoveryTarget at_xid = {.kind = RECOVERY_XID, .xid = 4000000000u};
    static const RecoveryTarget at_name = {.kind = RECOVERY_NAME, .name = "it's"};
    static const RecoveryTarget immediate = {.kind = RECOVERY_IMMEDIATE};
    static const struct
    {
        const char *label, *old;
        Settings settings;
        const char *want;
    } cases[] = {
        {"an empty file", "", {.target = &latest}, LATEST},
        {"the user's lines stay",
         "# hand-made\nwork_mem = '1MB'\n",
         {.target = &latest},
         "# hand-made\nwork_mem = '1MB'\n" LATEST},
        {"a last line without newline",
         "work_mem = '1MB'",
         {.target = &latest},
         "work_mem = '1MB'\n" LATEST},
        {"the block of an earlier restore goes",
         "a = 1\n" LATEST "b = 2\n",
         {.target = &latest},
         "a = 1\nb = 2\n" LATEST},
        {"a block without end keeps what follows",
         SETTINGS_BEGIN "\nb = 2\n",
         {.target = &latest},
         "b = 2\n" LATEST},
        {"other targets become comments",
         "recovery_target_name = 'x'\n  RECOVERY_TARGET_TIME='y'\nrecovery_min_apply_delay = 1\n"
         "#recovery_target = 'immediate'\n",
         {.target = &latest},
         "# before walrestore: recovery_target_name = 'x'\n"
         "# before walrestore:   RECOVERY_TARGET_TIME='y'\n"
         "# before walrestore: recovery_min_apply_delay = 1\n"
         "#recovery_target = 'immediate'\n" LATEST},
        {"the delay of a standby stays for a standby",
         "recovery_min_apply_delay = 1\n",
         {.target = &latest, .standby = true},
         "recovery_min_apply_delay = 1\n" BLOCK(NONE "recovery_target_timeline = 'latest'\n")},
        {"timeline",
         "",
         {.target = &latest, .tli = 12},
         BLOCK(NONE NO_DELAY "recovery_target_timeline = '12'\n")},
        {"time",
         "",
         {.target = &at_time, .tli = 1},
         BLOCK(NO_TARGET NO_NAME NO_XID NO_LSN NO_DELAY
               "recovery_target_time = '2026-03-01 09:14:07.120000+00'\n"
               "recovery_target_inclusive = 'on'\nrecovery_target_action = 'promote'\n"
               "recovery_target_timeline = '1'\n")},
        {"LSN, exclusive, pause",
         "",
         {.target = &at_lsn, .action = RESTORE_PAUSE, .tli = 1},
         BLOCK(NO_TARGET NO_NAME NO_TIME NO_XID NO_DELAY
               "recovery_target_lsn = '1/000000A0'\n"
               "recovery_target_inclusive = 'off'\nrecovery_target_action = 'pause'\n"
               "recovery_target_timeline = '1'\n")},
        {"xid, shutdown",
         "",
         {.target = &at_xid, .action = RESTORE_SHUTDOWN, .tli = 1},
         BLOCK(NO_TARGET NO_NAME NO_TIME NO_LSN NO_DELAY
               "recovery_target_xid = '4000000000'\n"
               "recovery_target_inclusive = 'on'\nrecovery_target_action = 'shutdown'\n"
               "recovery_target_timeline = '1'\n")},
        {"name",
         "",
         {.target = &at_name, .tli = 1},
         BLOCK(NO_TARGET NO_TIME NO_XID NO_LSN NO_DELAY
               "recovery_target_name = 'it''s'\n"
               "recovery_target_inclusive = 'on'\nrecovery_target_action = 'promote'\n"
               "recovery_target_timeline = '1'\n")},
        {"immediate",
         "",
         {.target = &immediate, .tli = 1},
         BLOCK(NO_NAME NO_TIME NO_XID NO_LSN NO_DELAY
               "recovery_target = 'immediate'\n"
               "recovery_target_inclusive = 'on'\nrecovery_target_action = 'promote'\n"
               "recovery_target_timeline = '1'\n")},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(strbuf_reset) StrBuf out, again;
        Settings settings = cases[i].settings;

        settings.restore_command = "x";
        strbuf_init(&out, 10000);
        strbuf_init(&again, 10000);
        settings_rewrite(cases[i].old, strlen(cases[i].old), &settings, &out);
        if (!ok(strcmp(strbuf_text(&out), cases[i].want) == 0, "%s", cases[i].label))
            diag("got: %s", strbuf_text(&out));
        settings_rewrite(strbuf_text(&out), out.len, &settings, &again);
        ok(strcmp(strbuf_text(&again), cases[i].want) == 0, "%s: the same when repeated",
           cases[i].label);
    }
}

static void
test_finding(void)
{
    static const struct
    {
        const char *label, *text;
        bool want[SETTINGS_TARGETS];
    } cases[] = {
        {"none", "port = 1\n#recovery_target_name = 'x'\n", {false}},
        {"two",
         "recovery_target = 'immediate'\n recovery_target_LSN '0/1'\n",
         {true, false, false, false, true}},
        {"set to nothing", "recovery_target_name = ''\n", {false}},
        {"set to nothing later", "recovery_target_name = 'x'\nrecovery_target_name = ''", {false}},
        {"action is no target", "recovery_target_action = 'pause'\n", {false}},
        {"the last line without newline", "recovery_target_xid=5", {false, false, false, true}},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        bool got[SETTINGS_TARGETS];

        settings_find_targets(cases[i].text, strlen(cases[i].text), got);
        ok(memcmp(got, cases[i].want, sizeof got) == 0, "targets of postgresql.conf: %s",
           cases[i].label);
    }
}

static void
test_values(void)
{
    static const struct
    {
        const char *label, *text, *want;
    } cases[] = {
        {"not there", "data = 'x'\n", ""},
        {"quoted", "data_directory = '/a b'  # where", "/a b"},
        {"a quote in it", "data_directory='/it''s'\n", "/it's"},
        {"a backslash in it", "data_directory='/it\\'s'\n", "/it's"},
        {"plain", "Data_Directory\t/a#b\n", "/a"},
        {"without end", "data_directory = '/a", "/a"},
        {"nothing", "data_directory =", ""},
        {"the last one", "data_directory = 'x'\ndata_directory = ''\n", ""},
        {"too long", "data_directory = '/123456789012345'\n", "/12345678"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        char value[10];
        bool found = settings_find(
            cases[i].text, strlen(cases[i].text), "data_directory", value, sizeof value);

        ok(found == (cases[i].want[0] != '\0') && strcmp(value, cases[i].want) == 0,
           "value: %s: \"%s\"", cases[i].label, value);
    }
}

int
main(void)
{
    test_quoting();
    test_values();
    test_rewriting();
    test_finding();
    return done_testing();
}
