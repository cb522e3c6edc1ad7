/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Connecting where conninfo names several servers: one that does not answer must not keep us from
 * the others. The servers are sockets of this test. Time passes only while the one that hangs is
 * waited for, 100 ms a look.
 */
#include "pg/source.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/fs.h"
#include "fake_clock.h"
#include "tap.h"
#include "tempdir.h"

/* What a server sends to whoever connects. */
static const char starting_up[] = "SFATAL\0C57P03\0Mthe database system is starting up\0";

typedef struct FakeServer
{
    char dir[256];
    char path[sizeof((struct sockaddr_un *) NULL)->sun_path];
    int listen_fd;
    atomic_uint connections;
    pthread_t thread;
    bool answers;
} FakeServer;

static void *
fake_server_main(void *arg)
{
    FakeServer *server = arg;
    int fd;

    while ((fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
    {
        char startup[4096];

        (void) atomic_fetch_add(&server->connections, 1);
        if (recv(fd, startup, sizeof startup, 0) > 0)
        {
            uint8_t answer[5 + sizeof starting_up] = {'E'};

            put_u32be(answer + 1, (uint32_t) sizeof answer - 1);
            memcpy(answer + 5, starting_up, sizeof starting_up);
            (void) send(fd, answer, sizeof answer, MSG_NOSIGNAL);
        }
        (void) close(fd);
    }
    return NULL;
}

/* One that listens and, like a server that hangs, never answers; or one that says why not. */
static void
fake_server_start(FakeServer *server, const char *name, bool answers)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    (void) snprintf(server->dir, sizeof server->dir, "%.100s/%s", tempdir_path, name);
    (void) snprintf(addr.sun_path, sizeof addr.sun_path, "%.80s/.s.PGSQL.5432", server->dir);
    memcpy(server->path, addr.sun_path, sizeof server->path);
    server->answers = answers;
    server->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (mkdir(server->dir, 0700) < 0 || server->listen_fd < 0 ||
        bind(server->listen_fd, (const struct sockaddr *) &addr, sizeof addr) < 0 ||
        listen(server->listen_fd, 16) < 0 ||
        (answers && pthread_create(&server->thread, NULL, fake_server_main, server) != 0))
        abort();
}

static void
fake_server_stop(FakeServer *server)
{
    (void) shutdown(server->listen_fd, SHUT_RDWR);
    if (server->answers)
        (void) pthread_join(server->thread, NULL);
    (void) close(server->listen_fd);
    (void) unlink(server->path);
    (void) rmdir(server->dir);
}

static FakeServer hangs, answers;

/* In place of libpq's: asked for before each wait. */
int
PQsocket(const PGconn *conn)
{
    static int (*libpq)(const PGconn *conn);
    const char *host = PQhost(conn);

    if (libpq == NULL)
        *(void **) &libpq = dlsym(RTLD_NEXT, "PQsocket");
    if (libpq == NULL)
        abort();
    if (host != NULL && strcmp(host, hangs.dir) == 0)
        fake_clock_move_ms(100);
    return libpq(conn);
}

static void
test_hosts(void)
{
    static const struct
    {
        const char *label;
        const char *hosts; /* h: hangs, a: answers */
        const char *more;
        unsigned tries; /* of the one that answers */
        int least_ms, most_ms;
    } cases[] = {
        {"one that answers", "a", "", 1, 0, 0},
        {"the first one hangs", "ha", "connect_timeout=1", 1, 1000, 1100},
        {"the last one hangs", "ah", "connect_timeout=1", 1, 1000, 1100},
        {"both answer", "aa", "", 2, 0, 0},
        {"time that is short is divided", "ha", "", 1, 2000, 2100},
        {"a standby, or else any", "aa", "target_session_attrs=prefer-standby", 4, 0, 0},
        {"one port for all", "aa", "port=5432", 2, 0, 0},
        {"a port for each", "aa", "port=5432,5432", 2, 0, 0},
        {"three ports for two hosts are libpq's to refuse", "aa", "port=1,2,3", 0, 0, 0},
    };

    fake_server_start(&hangs, "hangs", false);
    fake_server_start(&answers, "answers", true);
    for (size_t c = 0; c < ARRAY_COUNT(cases); c++)
    {
        Deadline dl = deadline_after_ms(4000, NULL);
        char conninfo[2048] = "host=";
        Error err = {0};
        Source source;
        int64_t begin_ms = clock_monotonic_ms();
        int64_t took_ms;
        size_t len;
        int rc;

        for (const char *h = cases[c].hosts; *h != '\0'; h++)
        {
            len = strlen(conninfo);
            (void) snprintf(
                conninfo + len, sizeof conninfo - len, "%s%s", h > cases[c].hosts ? "," : "",
                *h == 'h' ? hangs.dir : answers.dir);
        }
        len = strlen(conninfo);
        (void) snprintf(
            conninfo + len, sizeof conninfo - len, " gssencmode=disable sslmode=disable %s",
            cases[c].more);
        atomic_store(&answers.connections, 0);
        rc = source_connect(conninfo, &dl, &source, &err);
        took_ms = clock_monotonic_ms() - begin_ms;
        ok(rc < 0 && err.kind == ERROR_TRANSIENT &&
               atomic_load(&answers.connections) == cases[c].tries,
           "%s: %s", cases[c].label, err.msg);
        ok(took_ms >= cases[c].least_ms && took_ms <= cases[c].most_ms, "%s: %d ms", cases[c].label,
           (int) took_ms);
        ok(cases[c].tries == 0 || strstr(err.msg, "starting up") != NULL, "%s: the reason is told",
           cases[c].label);
    }
    fake_server_stop(&hangs);
    fake_server_stop(&answers);
}

static void
test_refused(void)
{
    static const char secret[] = "host=a,b passwort=geheim";
    Deadline dl = deadline_after_ms(1000, NULL);
    char long_host[1200];
    Error err = {0};
    Source source;

    ok(source_connect(secret, &dl, &source, &err) < 0 && err.kind == ERROR_USAGE &&
           strstr(err.msg, "geheim") == NULL,
       "no connection string, and no secret in the message: %s", err.msg);
    (void) snprintf(long_host, sizeof long_host, "host=/tmp,/%0*d", 1000, 0);
    ok(source_connect(long_host, &dl, &source, &err) < 0 && err.kind == ERROR_USAGE,
       "a host that is too long: %s", err.msg);
}

int
main(void)
{
    fake_clock_stop();
    tempdir_make();
    test_hosts();
    test_refused();
    return done_testing();
}
