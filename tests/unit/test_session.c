/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What makes a session of walfetch, and what it hears on its socket. The tool's file is included,
 * as tools are in no library.
 */
#include "walfetch/session.c"

#include <stdlib.h>

#include "tap.h"
#include "tempdir.h"

static const SessionFacts base_facts = {
    .boot_id = "7e2a0ff6-58ab-4f2e-8f3a-1d1c8a7b2f10",
    .data_device = 65025,
    .data_inode = 131073,
    .postmaster_pid = 4711,
    .postmaster_start_s = 1772356447,
    .cluster = "user-service",
    .url = "s3://bucket/prefix",
    .endpoint = "",
};

static void
test_key(void)
{
    struct
    {
        const char *label;
        SessionFacts facts;
    } changed[8];
    char base[SESSION_KEY_BYTES];
    char key[SESSION_KEY_BYTES];
    SessionFacts same = base_facts;

    (void) session_key(&base_facts, base);
    ok(strlen(base) == 32 && strspn(base, "0123456789abcdef") == 32, "key: 32 hex digits");
    ok(strcmp(session_key(&same, key), base) == 0, "key: the same facts, the same key");
    for (size_t i = 0; i < ARRAY_COUNT(changed); i++)
        changed[i].facts = base_facts;
    changed[0].label = "another boot";
    changed[0].facts.boot_id[0] = '8';
    changed[1].label = "another device";
    changed[1].facts.data_device++;
    changed[2].label = "another directory";
    changed[2].facts.data_inode++;
    changed[3].label = "another postmaster";
    changed[3].facts.postmaster_pid++;
    changed[4].label = "the same process id, started later";
    changed[4].facts.postmaster_start_s++;
    changed[5].label = "another cluster";
    changed[5].facts.cluster = "user-services";
    changed[6].label = "another repository";
    changed[6].facts.url = "s3://bucket/prefix2";
    changed[7].label = "another endpoint";
    changed[7].facts.endpoint = "https://s3.example.net";
    for (size_t i = 0; i < ARRAY_COUNT(changed); i++)
        ok(strcmp(session_key(&changed[i].facts, key), base) != 0, "key: %s", changed[i].label);
    changed[0].facts = base_facts;
    changed[0].facts.cluster = "user-services3";
    changed[0].facts.url = "://bucket/prefix";
    ok(strcmp(session_key(&changed[0].facts, key), base) != 0, "key: text moved between fields");
}

static void
test_gather(const char *dir)
{
    static const struct
    {
        const char *label;
        const char *pid_file; /* %d: our own process id; NULL: no file */
        ErrorKind kind;
    } cases[] = {
        {"a server", "%d\n/data\n1772356447\n5432\n/run\n\n", ERROR_NONE},
        {"no file", NULL, ERROR_NOT_FOUND},
        {"empty", "", ERROR_CORRUPT},
        {"no start time", "%d\n/data\n", ERROR_CORRUPT},
        {"start time is none", "%d\n/data\nyesterday\n", ERROR_CORRUPT},
        {"single-user server", "-%d\n/data\n1772356447\n", ERROR_CORRUPT},
        {"process 0", "0\n/data\n1772356447\n", ERROR_CORRUPT},
        {"too large a process id", "99999999999\n/data\n1772356447\n", ERROR_CORRUPT},
        {"a server that is gone", "2147483647\n/data\n1772356447\n", ERROR_NOT_FOUND},
    };
    Config cfg = {.cluster.name = "c", .repository = {.url = "file:///r", .endpoint = ""}};

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        SessionFacts facts;
        char path[SESSION_PATH_MAX];
        Error err = {0};
        int rc;

        (void) snprintf(path, sizeof path, "%s/postmaster.pid", dir);
        (void) unlink(path);
        if (cases[i].pid_file != NULL)
        {
            FILE *f = fopen(path, "w");
            const char *mark = strstr(cases[i].pid_file, "%d");

            if (f == NULL)
                abort();
            if (mark == NULL)
                (void) fputs(cases[i].pid_file, f);
            else
                (void) fprintf(
                    f, "%.*s%d%s", (int) (mark - cases[i].pid_file), cases[i].pid_file,
                    (int) getpid(), mark + 2);
            (void) fclose(f);
        }
        rc = session_gather(dir, &cfg, &facts, &err);
        ok(cases[i].kind == ERROR_NONE
               ? rc == 0 && facts.postmaster_pid == getpid() &&
                     facts.postmaster_start_s == 1772356447 && strlen(facts.boot_id) == 36
               : rc < 0 && err.kind == cases[i].kind,
           "gather: %s", cases[i].label);
    }
}

static void
test_dir(const char *dir)
{
    char path[SESSION_PATH_MAX];
    char linked[SESSION_PATH_MAX];
    Error err = {0};
    int fd = -1;

    (void) snprintf(path, sizeof path, "%s/session", dir);
    ok(session_open_dir(path, &fd, &err) < 0 && err.kind == ERROR_NOT_FOUND, "directory: none");
    if (mkdir(path, 0700) < 0)
        abort();
    ok(session_open_dir(path, &fd, &err) == 0, "directory: ours alone");
    fd_close(&fd);
    (void) chmod(path, 0750);
    ok(session_open_dir(path, &fd, &err) < 0 && err.kind == ERROR_DENIED,
       "directory: one that others can read is refused");
    (void) chmod(path, 0700);
    (void) snprintf(linked, sizeof linked, "%s/linked", dir);
    if (symlink(path, linked) < 0)
        abort();
    ok(session_open_dir(linked, &fd, &err) < 0, "directory: a symbolic link is refused");
}

static void
test_reply(void)
{
    static const struct
    {
        const char *label, *line;
        bool good;
        SessionAnswer answer;
        const char *text, *hint;
    } cases[] = {
        {"ready", "ready demand.7\t", true, SESSION_READY, "demand.7", ""},
        {"absent", "absent it is not there\t", true, SESSION_ABSENT, "it is not there", ""},
        {"unsure with a hint", "unsure no\tDo this.", true, SESSION_UNSURE, "no", "Do this."},
        {"direct without a tab", "direct full", true, SESSION_DIRECT, "full", ""},
        {"a file elsewhere", "ready ../x\t", false, 0, NULL, NULL},
        {"an absolute file", "ready /etc/passwd", false, 0, NULL, NULL},
        {"no file", "ready \t", false, 0, NULL, NULL},
        {"another word", "sorry x\t", false, 0, NULL, NULL},
        {"nothing", "", false, 0, NULL, NULL},
    };
    char line[SESSION_REPLY_MAX];
    char huge[4 * SESSION_REPLY_MAX];
    SessionReply reply;

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        bool good = session_parse_reply(cases[i].line, &reply);

        ok(good == cases[i].good && (!good || (reply.answer == cases[i].answer &&
                                               strcmp(reply.text, cases[i].text) == 0 &&
                                               strcmp(reply.hint, cases[i].hint) == 0)),
           "reply: %s", cases[i].label);
    }
    (void) session_format_reply(SESSION_UNSURE, "two\nlines", "a hint", line);
    ok(strcmp(line, "unsure two lines\ta hint\n") == 0, "reply: always one line");
    memset(huge, 'x', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    (void) session_format_reply(SESSION_UNSURE, huge, NULL, line);
    ok(strlen(line) < SESSION_REPLY_MAX && line[strlen(line) - 1] == '\n',
       "reply: a long one is cut");
}

int
main(void)
{
    const char *dir = tempdir_make();

    test_key();
    test_gather(dir);
    test_dir(dir);
    test_reply();
    return done_testing();
}
