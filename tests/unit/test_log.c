/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The log: stderr is a pipe to ourselves, and each event is read as it was written.
 */
#include "common/log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tap.h"

static int capture_fd = -1;

static void
capture_begin(void)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0 || dup2(ends[1], STDERR_FILENO) < 0)
    {
        perror("pipe");
        exit(1);
    }
    (void) close(ends[1]);
    capture_fd = ends[0];
}

/* What was logged since the last call; a pipe keeps the order, and here all of it at once. */
static const char *
capture_take(void)
{
    static char text[65536];
    ssize_t n = read(capture_fd, text, sizeof text - 1);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

static bool
matches(const char *text, const char *pattern)
{
    regex_t re;
    bool good;

    if (regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB) != 0)
        return false;
    good = regexec(&re, text, 0, NULL, 0) == 0;
    regfree(&re);
    return good;
}

#define PREFIX                                                                                     \
    "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3} UTC \\[[0-9]+\\] walpush: "

static void
test_levels(void)
{
    static const struct
    {
        LogLevel level;
        const char *pattern;
    } cases[] = {
        {LOG_DEBUG, PREFIX "DEBUG:  number 7\n$"},     {LOG_INFO, PREFIX "INFO:  number 7\n$"},
        {LOG_WARNING, PREFIX "WARNING:  number 7\n$"}, {LOG_ERROR, PREFIX "ERROR:  number 7\n$"},
        {LOG_FATAL, PREFIX "FATAL:  number 7\n$"},
    };

    for (int least = LOG_DEBUG; least <= LOG_FATAL; least++)
    {
        log_open("walpush", LOG_DEBUG, LOG_FORMAT_TEXT);
        log_set_level((LogLevel) least);
        for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        {
            log_write(cases[i].level, "number %d", 7);

            const char *got = capture_take();

            if ((int) cases[i].level >= least)
                ok(matches(got, cases[i].pattern), "level %d at least %d is logged", (int) i,
                   least);
            else
                ok(got[0] == '\0', "level %d below %d is not logged", (int) i, least);
        }
    }
}

static void
test_text(void)
{
    static const struct
    {
        const char *label, *msg, *want;
    } cases[] = {
        {"plain", "could not read \"x\"", "could not read \"x\""},
        {"line ends at the end are dropped", "connection failed\n\n", "connection failed"},
        {"inner ones become blanks", "a\n\tb\r\nc", "a  b  c"},
        {"control characters", "a\x1b[31mb\x07\x7f", "a?[31mb??"},
        {"other bytes pass", "na\xc3\xafve \xff", "na\xc3\xafve \xff"},
        {"empty", "", ""},
        {"format characters", "100%s", "100%s"},
    };

    log_open("walpush", LOG_INFO, LOG_FORMAT_TEXT);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Error err;

        (void) error_set(&err, ERROR_IO, "%s", cases[i].msg);
        log_error(LOG_ERROR, &err);

        const char *got = capture_take();
        const char *at = strstr(got, "ERROR:  ");
        size_t len = strlen(cases[i].want);

        ok(at != NULL && strncmp(at + 8, cases[i].want, len) == 0 &&
               strcmp(at + 8 + len, "\n") == 0,
           "text, %s", cases[i].label);
    }

    Error err;

    (void) error_set(&err, ERROR_NOT_FOUND, "no file");
    (void) error_hint(&err, "Make\none.");
    log_error(LOG_FATAL, &err);
    ok(matches(
           capture_take(), PREFIX "FATAL:  no file\n[-0-9]+ [0-9:.]+ UTC \\[[0-9]+\\] walpush: "
                                  "HINT:  Make one\\.\n$"),
       "the hint is a line of its own");
    errno = E2BIG;
    log_write(LOG_INFO, "x");
    (void) capture_take();
    ok(errno == E2BIG, "errno is kept");
}

static void
test_long(void)
{
    static const LogFormat formats[] = {LOG_FORMAT_TEXT, LOG_FORMAT_JSON};
    static char filler[50000];

    for (size_t i = 0; i < ARRAY_COUNT(formats); i++)
    {
        /* each byte becomes six in JSON */
        memset(filler, '\x01', sizeof filler - 1);
        log_open("walpush", LOG_INFO, formats[i]);
        log_write(LOG_INFO, "%s", filler);

        const char *got = capture_take();
        size_t len = strlen(got);

        ok(len > 2000 && got[len - 1] == '\n' && strchr(got, '\n') == got + len - 1,
           "a message of 50 kB is cut to one line of %zu bytes", len);
        if (formats[i] == LOG_FORMAT_JSON)
        {
            json_t *doc = json_loads(got, 0, NULL);

            ok(doc != NULL, "and is still JSON");
            json_decref(doc);
        }
    }
}

static void
test_json(void)
{
    static const struct
    {
        const char *label, *msg, *want;
    } cases[] = {
        {"plain", "could not read", "could not read"},
        {"quotes and backslashes", "a \"b\" \\c", "a \"b\" \\c"},
        {"line ends", "a\nb\r\tc", "a\nb\r\tc"},
        {"control characters", "\x01\x1f\x7f", "\x01\x1f\x7f"},
        {"two, three and four bytes", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x98",
         "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x98"},
        {"a byte alone", "a\xff z", "a\xef\xbf\xbd z"},
        {"continuation alone", "\x80", "\xef\xbf\xbd"},
        {"cut sequence", "x\xe2\x82", "x\xef\xbf\xbd\xef\xbf\xbd"},
        {"cut before ASCII", "\xc3(", "\xef\xbf\xbd("},
        {"overlong slash", "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"overlong, three bytes", "\xe0\x80\xaf", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"surrogate", "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"above U+10FFFF", "\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
        {"highest code point", "\xf4\x8f\xbf\xbf", "\xf4\x8f\xbf\xbf"},
    };

    log_open("walpush", LOG_INFO, LOG_FORMAT_JSON);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        Error err;

        (void) error_set(&err, ERROR_TRANSIENT, "%s", cases[i].msg);
        (void) error_hint(&err, "%s", cases[i].msg);
        log_error(LOG_WARNING, &err);

        const char *got = capture_take();
        const char *msg = NULL, *hint = NULL, *level = NULL, *program = NULL, *kind = NULL;
        const char *when = NULL;
        int pid = 0;
        json_t *doc = json_loads(got, JSON_REJECT_DUPLICATES, NULL);
        int rc = json_unpack(
            doc, "{s:s, s:i, s:s, s:s, s:s, s:s, s:s !}", "timestamp", &when, "pid", &pid,
            "program", &program, "level", &level, "message", &msg, "kind", &kind, "hint", &hint);

        if (!ok(rc == 0 && strcmp(msg, cases[i].want) == 0 && strcmp(hint, cases[i].want) == 0,
                "JSON, %s", cases[i].label))
            diag("%s", got);
        if (i == 0)
            ok(rc == 0 && pid == (int) getpid() && strcmp(program, "walpush") == 0 &&
                   strcmp(level, "WARNING") == 0 && strcmp(kind, "transient") == 0 &&
                   matches(when, "^[-0-9]{10}T[0-9:]{8}\\.[0-9]{6}Z$"),
               "the other members");
        json_decref(doc);
    }
    log_write(LOG_INFO, "x");

    json_t *doc = json_loads(capture_take(), 0, NULL);

    ok(json_object_size(doc) == 5, "without an error there is neither kind nor hint");
    json_decref(doc);
}

static void
test_parse(void)
{
    static const struct
    {
        const char *text;
        bool good;
        LogLevel want;
    } cases[] = {
        {"debug", true, LOG_DEBUG}, {"info", true, LOG_INFO},   {"warning", true, LOG_WARNING},
        {"error", true, LOG_ERROR}, {"fatal", false, LOG_INFO}, {"Debug", false, LOG_INFO},
        {"", false, LOG_INFO},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        LogLevel level = LOG_FATAL;
        bool good = log_parse_level(cases[i].text, &level);

        ok(good == cases[i].good && level == (good ? cases[i].want : LOG_FATAL), "level \"%s\"",
           cases[i].text);
    }

    LogFormat format = LOG_FORMAT_TEXT;

    ok(log_parse_format("json", &format) && format == LOG_FORMAT_JSON, "format json");
    ok(!log_parse_format("xml", &format) && format == LOG_FORMAT_JSON, "format xml");
    ok(log_parse_format("text", &format) && format == LOG_FORMAT_TEXT, "format text");
}

int
main(void)
{
    capture_begin();
    test_levels();
    test_text();
    test_long();
    test_json();
    test_parse();
    return done_testing();
}
