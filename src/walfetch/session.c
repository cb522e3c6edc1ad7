/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The session's name, directory and socket, from the side of walfetch; see session.h.
 */
#include "walfetch/session.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "common/bytes.h"
#include "common/fs.h"
#include "common/parse.h"
#include "common/strbuf.h"

#define SESSION_WAIT_MS 1000  /* within which a living prefetcher says "wait" */
#define SESSION_SLACK_MS 2000 /* beyond the timeout, for its last answer to arrive */

/* The n-th line (from 1) of text, cut out in place. NULL if there are not so many. */
static char *
session_cut_line(char *text, int n)
{
    char *end;

    while (--n > 0)
    {
        text = strchr(text, '\n');
        if (text == NULL)
            return NULL;
        text++;
    }
    end = strchr(text, '\n');
    if (end != NULL)
        *end = '\0';
    return text;
}

int
session_gather(const char *data_dir, const Config *cfg, SessionFacts *out, Error *err)
{
    AUTO(free_text) char *boot = NULL;
    AUTO(free_text) char *first = NULL;
    AUTO(free_text) char *third = NULL;
    char path[SESSION_PATH_MAX];
    const char *start;
    uint64_t pid;
    struct stat st;
    size_t len;

    *out = (SessionFacts){
        .cluster = cfg->cluster.name,
        .url = cfg->repository.url,
        .endpoint = cfg->repository.endpoint};
    if ((size_t) snprintf(path, sizeof path, "%s/postmaster.pid", data_dir) >= sizeof path)
        return error_set(err, ERROR_IO, "name of the data directory is too long");
    if (fs_read_file(path, 4096, &first, &len, err) < 0)
        return -1;
    third = strdup(first);
    if (third == NULL)
        return error_nomem(err);
    start = session_cut_line(third, 3);
    if (start == NULL || !parse_u64(session_cut_line(first, 1), &pid) || pid == 0 ||
        pid > INT32_MAX || !parse_u64(start, &out->postmaster_start_s))
        return error_set(err, ERROR_CORRUPT, "\"%s\" does not name a running server", path);
    out->postmaster_pid = (pid_t) pid;
    if (kill(out->postmaster_pid, 0) < 0 && errno == ESRCH)
        return error_set(err, ERROR_NOT_FOUND, "the server named in \"%s\" is not running", path);

    if (fs_read_file("/proc/sys/kernel/random/boot_id", sizeof out->boot_id - 1, &boot, &len, err) <
        0)
        return -1;
    memcpy(out->boot_id, boot, len + 1);
    out->boot_id[strcspn(out->boot_id, "\n")] = '\0';
    if (stat(data_dir, &st) < 0)
        return error_sys(err, "could not stat \"%s\"", data_dir);
    out->data_device = (uint64_t) st.st_dev;
    out->data_inode = (uint64_t) st.st_ino;
    return 0;
}

static void
session_hash_text(XXH3_state_t *state, const char *text)
{
    /* with its NUL, so that "a","bc" and "ab","c" differ */
    (void) XXH3_128bits_update(state, text, strlen(text) + 1);
}

static void
session_hash_u64(XXH3_state_t *state, uint64_t v)
{
    uint8_t bytes[8];

    put_u64le(bytes, v);
    (void) XXH3_128bits_update(state, bytes, sizeof bytes);
}

char *
session_key(const SessionFacts *facts, char key[SESSION_KEY_BYTES])
{
    XXH3_state_t state;
    XXH128_hash_t hash;

    XXH3_INITSTATE(&state);
    (void) XXH3_128bits_reset(&state);
    session_hash_text(&state, "walstream session 1");
    session_hash_text(&state, facts->boot_id);
    session_hash_u64(&state, facts->data_device);
    session_hash_u64(&state, facts->data_inode);
    session_hash_u64(&state, (uint64_t) facts->postmaster_pid);
    session_hash_u64(&state, facts->postmaster_start_s);
    session_hash_text(&state, facts->cluster);
    session_hash_text(&state, facts->url);
    session_hash_text(&state, facts->endpoint);
    hash = XXH3_128bits_digest(&state);
    (void) snprintf(
        key, SESSION_KEY_BYTES, "%016" PRIx64 "%016" PRIx64, (uint64_t) hash.high64,
        (uint64_t) hash.low64);
    return key;
}

int
session_path(const Config *cfg, const char *key, char *buf, Error *err)
{
    int len = snprintf(buf, SESSION_PATH_MAX, "%s/%s", cfg->restore.spool, key);

    if (len < 0 || len >= SESSION_PATH_MAX)
        return error_set(err, ERROR_IO, "[restore] spool is too long");
    return 0;
}

int
session_open_dir(const char *path, int *out, Error *err)
{
    AUTO(fd_close) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;

    if (fd < 0)
        return error_sys(err, "could not open \"%s\"", path);
    if (fstat(fd, &st) < 0)
        return error_sys(err, "could not stat \"%s\"", path);
    if (st.st_uid != geteuid() || (st.st_mode & 077) != 0)
        return error_set(
            err, ERROR_DENIED, "directory \"%s\" is not ours alone (owner %u, mode %03o)", path,
            (unsigned) st.st_uid, (unsigned) (st.st_mode & 0777));
    *out = fd;
    fd = -1;
    return 0;
}

int
session_take(int dir_fd, const char *name, const char *dest, Error *err)
{
    AUTO(fd_close) int fd = -1;

    if (renameat(dir_fd, name, AT_FDCWD, dest) == 0)
        return 0;
    if (errno != EXDEV)
        return error_sys(err, "could not rename \"%s\" to \"%s\"", name, dest);
    fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return error_sys(err, "could not open \"%s\"", name);
    if (fs_place_copy(fd, dest, 0600, false, err) < 0)
    {
        /* only the spool may say that there is no such file */
        if (err->kind == ERROR_NOT_FOUND)
            err->kind = ERROR_IO;
        return -1;
    }
    (void) unlinkat(dir_fd, name, 0);
    return 0;
}

char *
session_format_reply(
    SessionAnswer answer, const char *text, const char *hint, char buf[SESSION_REPLY_MAX])
{
    static const char *const words[] = {
        [SESSION_READY] = "ready",
        [SESSION_ABSENT] = "absent",
        [SESSION_UNSURE] = "unsure",
        [SESSION_DIRECT] = "direct"};
    size_t len;

    (void) snprintf(
        buf, SESSION_REPLY_MAX - 1, "%s %s\t%s", words[answer], text, hint != NULL ? hint : "");
    len = strlen(buf);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char) buf[i] < ' ' && buf[i] != '\t')
            buf[i] = ' ';
    buf[len] = '\n';
    buf[len + 1] = '\0';
    return buf;
}

bool
session_parse_reply(const char *line, SessionReply *out)
{
    static const struct
    {
        const char *word;
        SessionAnswer answer;
    } words[] = {
        {"ready ", SESSION_READY},
        {"absent ", SESSION_ABSENT},
        {"unsure ", SESSION_UNSURE},
        {"direct ", SESSION_DIRECT}};

    for (size_t i = 0; i < ARRAY_COUNT(words); i++)
    {
        size_t len = strlen(words[i].word);
        const char *tab;

        if (strncmp(line, words[i].word, len) != 0)
            continue;
        line += len;
        tab = strchr(line, '\t');
        out->answer = words[i].answer;
        out->hint[0] = '\0';
        if (tab != NULL)
            (void) snprintf(out->hint, sizeof out->hint, "%s", tab + 1);
        (void) snprintf(
            out->text, sizeof out->text, "%.*s",
            (int) (tab != NULL ? (size_t) (tab - line) : strlen(line)), line);
        /* a file of the session's own directory, nothing else */
        return out->answer != SESSION_READY ||
               (out->text[0] != '\0' && out->text[0] != '.' && strchr(out->text, '/') == NULL);
    }
    return false;
}

/* One line without its newline; what follows it stays unread, as the server says one line at a
 * time. */
static int
session_read_line(int fd, char *buf, size_t cap, const Deadline *dl, Error *err)
{
    size_t len = 0;

    while (len < cap - 1)
    {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = deadline_left_ms(dl);
        ssize_t n;

        if (poll(&p, 1, (int) MIN(left, (int64_t) INT32_MAX)) == 0)
            return error_set(err, ERROR_TIMEOUT, "no answer from the prefetcher");
        n = recv(fd, buf + len, 1, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n < 0)
            return error_sys(err, "could not read the prefetcher's answer");
        if (n == 0)
            return error_set(err, ERROR_IO, "the prefetcher ended");
        if (buf[len] == '\n')
        {
            buf[len] = '\0';
            return 0;
        }
        len++;
    }
    return error_set(err, ERROR_CORRUPT, "the prefetcher's answer is too long");
}

int
session_ask(
    int dir_fd, const char *name, int64_t timeout_ms, int *out, SessionReply *reply, Error *err)
{
    AUTO(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* a prefetcher that hangs must not be waited for when its queue of connections is full */
    struct timeval patience = {.tv_sec = SESSION_WAIT_MS / 1000};
    char line[SESSION_REPLY_MAX];
    Deadline dl;
    int len;

    if (fd < 0)
        return error_sys(err, "could not create a socket");
    (void) setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    /* a spool may have a longer path than a socket's name can be */
    (void) snprintf(
        address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" SESSION_SOCKET_NAME, dir_fd);
    if (connect(fd, (const struct sockaddr *) &address, sizeof address) < 0)
        return error_sys(err, "could not connect to the prefetcher");
    len = snprintf(line, sizeof line, "fetch %s %" PRId64 "\n", name, timeout_ms);
    if (send(fd, line, (size_t) len, MSG_NOSIGNAL) != len)
        return error_sys(err, "could not ask the prefetcher");

    dl = deadline_after_ms(SESSION_WAIT_MS, NULL);
    if (session_read_line(fd, line, sizeof line, &dl, err) < 0)
        return -1;
    if (strcmp(line, "wait") != 0)
        return error_set(err, ERROR_CORRUPT, "the prefetcher gave an unknown answer");
    dl = deadline_after_ms(timeout_ms + SESSION_SLACK_MS, NULL);
    if (session_read_line(fd, line, sizeof line, &dl, err) < 0)
        return -1;
    if (!session_parse_reply(line, reply))
        return error_set(err, ERROR_CORRUPT, "the prefetcher gave an unknown answer");
    *out = fd;
    fd = -1;
    return 0;
}
