/* SPDX-License-Identifier: PostgreSQL */
#include "common/progress.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/log.h"
#include "tap.h"

#define MIB ((uint64_t) 1024 * 1024)

static const struct
{
    const char *label;
    ProgressState state;
    const char *want;
} cases[] = {
    {"nothing yet", {"reading", 0, 1000, 0, 0, 0}, "reading   0 %, 0 objects, 0 B"},
    {"no rate in the first half second",
     {"reading", 500, 1000, 3, 499, 0},
     "reading  50 %, 3 objects, 500 B"},
    {"rate and time left",
     {"reading", 10 * MIB, 40 * MIB, 3, 1000, 0},
     "reading  25 %, 3 objects, 10.0 MiB, 10.0 MiB/s, 4 s left"},
    {"minutes",
     {"reading", 10 * MIB, 2010 * MIB, 3, 1000, 0},
     "reading   0 %, 3 objects, 10.0 MiB, 10.0 MiB/s, 3 min 21 s left"},
    {"hours",
     {"reading", 1 * MIB, 18001 * MIB, 3, 1000, 0},
     "reading   0 %, 3 objects, 1.0 MiB, 1.0 MiB/s, 5 h 00 min left"},
    {"all of it",
     {"reading", 1000, 1000, 3, 1000, 0},
     "reading 100 %, 3 objects, 1000 B, 1000 B/s"},
    {"more than was thought",
     {"reading", 2000, 1000, 3, 100, 0},
     "reading 100 %, 3 objects, 2.0 KiB"},
    {"nothing to do", {"reading", 0, 0, 0, 10, 0}, "reading 100 %, 0 objects, 0 B"},
    {"a bar",
     {"reading", 500, 1000, 3, 0, 54},
     "reading [##########.........]  50 %, 3 objects, 500 B"},
    {"a full bar",
     {"reading", 1000, 1000, 3, 0, 52},
     "reading [################] 100 %, 3 objects, 1000 B"},
    {"no room for a bar", {"reading", 500, 1000, 3, 0, 40}, "reading  50 %, 3 objects, 500 B"},
    {"no room at all", {"reading", 500, 1000, 3, 0, 20}, "reading  50 %, 3 obj"},
};

static void
test_format(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        char buf[PROGRESS_TEXT_MAX];

        progress_format(&cases[i].state, buf);
        if (!ok(strcmp(buf, cases[i].want) == 0, "format: %s", cases[i].label))
            diag("\"%s\", wanted \"%s\"", buf, cases[i].want);
        if (cases[i].state.width > 0)
            ok(strlen(buf) <= (size_t) cases[i].state.width, "format: %s: fits", cases[i].label);
    }
}

/* What was written to stderr since the last call. */
static const char *
take(int fd)
{
    static char text[4096];
    ssize_t n = read(fd, text, sizeof text - 1);

    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void
must(bool good, const char *what)
{
    if (good)
        return;
    perror(what);
    exit(1);
}

/* A minute is over when next_ms has come. */
static void
test_log_lines(void)
{
    const char *text;
    int ends[2];
    Progress p;

    must(pipe2(ends, O_NONBLOCK) == 0 && dup2(ends[1], STDERR_FILENO) >= 0, "pipe");
    log_open("walbackup", LOG_INFO, LOG_FORMAT_TEXT);
    progress_begin(&p, "reading", 100);
    ok(p.next_ms == p.begin_ms + 60000, "no terminal: the first line is due after a minute");
    progress_add(&p, 50, 2);
    progress_show(&p);
    ok(take(ends[0])[0] == '\0', "no terminal: nothing before");
    p.begin_ms -= 60000;
    p.next_ms -= 60000;
    progress_show(&p);
    text = take(ends[0]);
    if (!ok(strstr(text, "INFO:  reading  50 %, 2 objects, 50 B, 1 B/s, ") != NULL &&
                strstr(text, " left\n") != NULL && strchr(text, '\r') == NULL,
            "no terminal: a line of the log"))
        diag("%s", text);
    progress_show(&p);
    ok(take(ends[0])[0] == '\0' && p.next_ms >= p.begin_ms + 2 * 60000 - 1,
       "no terminal: the next one is due a minute later");
    progress_end(&p);
    ok(take(ends[0])[0] == '\0', "no terminal: nothing to take away");
    (void) close(ends[0]);
    (void) close(ends[1]);
}

/* What the terminal got: up to a mark, as it comes with a delay. */
static const char *
take_terminal(int terminal, int fd)
{
    static char text[4096];
    size_t len = 0;
    char *mark;

    must(write(fd, "END", 3) == 3, "terminal");
    do
    {
        ssize_t n = read(terminal, text + len, sizeof text - 1 - len);

        must(n > 0, "terminal");
        len += (size_t) n;
        text[len] = '\0';
        mark = strstr(text, "END");
    } while (mark == NULL);
    *mark = '\0';
    return text;
}

static void
test_terminal(void)
{
    struct winsize size = {.ws_row = 25, .ws_col = 70};
    int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    const char *text;
    Progress p;
    int fd;

    must(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0, "posix_openpt");
    fd = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    must(fd >= 0 && ioctl(fd, TIOCSWINSZ, &size) == 0 && dup2(fd, STDERR_FILENO) >= 0, "ptsname");
    progress_begin(&p, "reading", 100);
    ok(p.next_ms < p.begin_ms + 1000, "terminal: the bar is drawn several times a second");
    progress_add(&p, 50, 2);
    p.next_ms = p.begin_ms;
    progress_show(&p);
    text = take_terminal(terminal, fd);
    if (!ok(strncmp(text, "\rreading [####", 14) == 0 && strstr(text, "] ") != NULL &&
                strstr(text, " 50 %, 2 objects, 50 B") != NULL && strchr(text, '\n') == NULL,
            "terminal: a bar"))
        diag("\"%s\"", text);
    progress_end(&p);
    progress_end(&p);
    text = take_terminal(terminal, fd);
    ok(strcmp(text, "\r\033[K") == 0, "terminal: at the end the line is empty");
    (void) close(fd);
    (void) close(terminal);
}

int
main(void)
{
    Progress p;

    test_format();
    progress_begin(&p, "reading", 100);
    progress_add(&p, 30, 1);
    progress_add(&p, 12, 2);
    ok(atomic_load(&p.bytes) == 42 && atomic_load(&p.items) == 3, "what is done adds up");
    progress_end(&p);
    test_log_lines();
    test_terminal();
    return done_testing();
}
