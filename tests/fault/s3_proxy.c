/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * An HTTP proxy in front of a store, which breaks things on demand. Requests are passed on byte for
 * byte (the signature covers the Host header), over one connection to the store for each of a
 * client's.
 *
 *   s3_proxy HOST:PORT     the store, plain HTTP
 *
 * Prints "PORT CONTROL-PORT" and runs until its standard input ends. Commands come over connections
 * to the control port, one a line, each answered with a line:
 *
 *   add METHOD REGEX SKIP TIMES ACTION [ARG...]    "ok ID"
 *       of the requests with this METHOD ('*': any) and a target that matches the extended REGEX,
 *       lets SKIP pass and breaks the next TIMES (0: all). The first rule that applies is taken.
 *
 *   hits ID       "ok N": how many requests the rule has broken
 *
 *   clear         forgets all rules; stalled connections are closed
 *
 *   down, up      closes all connections and refuses new ones; takes them again
 *
 *   stats         "ok requests N get N put N head N post N delete N connections N"
 *
 * Actions:
 *
 *   delay MS                     passes it on later, if the client is still there then
 *
 *   reset                        connection reset once the head of the request is read
 *
 *   cut-request BYTES            passes on so much of the request's body, then closes both ends
 *
 *   stall                        reads no body and answers nothing
 *
 *   status CODE [S3CODE [HEADER:VALUE]]       answers itself, with S3's XML if there is an S3CODE
 *
 *   pass-status CODE [S3CODE [HEADER:VALUE]]  the same after the store has done it
 *
 *   refuse-keys CODE S3CODE      answers a removal of many objects: an error for each of its keys
 *
 *   html CODE                    answers itself as a proxy that knows nothing of S3
 *
 *   pass-reset                   the store does it, the answer is lost
 *
 *   cut-answer BYTES             closes after so much of the answer's body
 *
 *   reset-answer BYTES           the same with a reset
 *
 *   stall-answer BYTES           stops there
 *
 *   corrupt BYTE                 flips a bit of that byte of the answer's body
 *
 *   shorten BYTES                leaves so much of the answer's end away, and from Content-Length
 *
 *   no-range                     hides the Range header from the store
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <regex.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/parse.h"

#define PROXY_HEAD_BYTES (64u << 10)
#define PROXY_BUFFER_BYTES (256u << 10)
#define PROXY_DELETE_BYTES (4u << 20)
#define PROXY_MAX_RULES 64
#define PROXY_MAX_CONNECTIONS 512
#define PROXY_MAX_WORDS 12

typedef enum ProxyAction
{
    PROXY_PASS,
    PROXY_DELAY,
    PROXY_RESET,
    PROXY_CUT_REQUEST,
    PROXY_STALL,
    PROXY_STATUS,
    PROXY_PASS_STATUS,
    PROXY_REFUSE_KEYS,
    PROXY_HTML,
    PROXY_PASS_RESET,
    PROXY_CUT_ANSWER,
    PROXY_RESET_ANSWER,
    PROXY_STALL_ANSWER,
    PROXY_CORRUPT,
    PROXY_SHORTEN,
    PROXY_NO_RANGE
} ProxyAction;

static const struct
{
    const char *name;
    ProxyAction action;
    bool has_number;
} proxy_actions[] = {
    {"delay", PROXY_DELAY, true},
    {"reset", PROXY_RESET, false},
    {"cut-request", PROXY_CUT_REQUEST, true},
    {"stall", PROXY_STALL, false},
    {"status", PROXY_STATUS, true},
    {"pass-status", PROXY_PASS_STATUS, true},
    {"refuse-keys", PROXY_REFUSE_KEYS, true},
    {"html", PROXY_HTML, true},
    {"pass-reset", PROXY_PASS_RESET, false},
    {"cut-answer", PROXY_CUT_ANSWER, true},
    {"reset-answer", PROXY_RESET_ANSWER, true},
    {"stall-answer", PROXY_STALL_ANSWER, true},
    {"corrupt", PROXY_CORRUPT, true},
    {"shorten", PROXY_SHORTEN, true},
    {"no-range", PROXY_NO_RANGE, false},
};

/* What is done to one request. */
typedef struct ProxyFault
{
    ProxyAction action;
    uint64_t number;
    char s3_code[64];
    char header[192];
} ProxyFault;

typedef struct ProxyRule
{
    bool used;
    char method[8];
    regex_t target;
    uint64_t skip, times; /* still to skip, still to break; times 0 from the start: all */
    bool for_ever;
    uint64_t hits;
    ProxyFault fault;
} ProxyRule;

static struct
{
    pthread_mutex_t lock; /* guards all of this */
    pthread_cond_t changed;
    ProxyRule rules[PROXY_MAX_RULES];
    size_t rule_count;
    uint64_t generation; /* of the rules: a stalled connection ends with the next */
    uint64_t requests, gets, puts, heads, posts, deletes, connections;
    int clients[PROXY_MAX_CONNECTIONS]; /* descriptors, -1: free */
    int listener;                       /* -1: down */
    uint16_t port;
    struct sockaddr_in store;
} proxy = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER, .listener = -1};

/* One side of a connection with what was read too early. */
typedef struct ProxySide
{
    int fd;
    char *buf; /* PROXY_BUFFER_BYTES */
    size_t len;
} ProxySide;

typedef struct ProxyHead
{
    char text[PROXY_HEAD_BYTES + 1]; /* with the empty line, terminated */
    size_t len;
    bool chunked, has_length;
    uint64_t length;
} ProxyHead;

static void
proxy_die(const char *what)
{
    perror(what);
    exit(1);
}

static bool
proxy_write(int fd, const char *data, size_t len)
{
    while (len > 0)
    {
        ssize_t n = send(fd, data, len, MSG_NOSIGNAL);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return false;
        data += n;
        len -= (size_t) n;
    }
    return true;
}

/* Reads more behind what is there. */
static bool
proxy_read_more(ProxySide *side)
{
    ssize_t n;

    do
        n = recv(side->fd, side->buf + side->len, PROXY_BUFFER_BYTES - side->len, 0);
    while (n < 0 && errno == EINTR);
    if (n <= 0)
        return false;
    side->len += (size_t) n;
    return true;
}

static void
proxy_consume(ProxySide *side, size_t len)
{
    memmove(side->buf, side->buf + len, side->len - len);
    side->len -= len;
}

/* The value of a header, or NULL; *len is its length without blanks around it. */
static char *
proxy_find_header(char *head, const char *name, size_t *len)
{
    size_t name_len = strlen(name);

    for (char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line + 2, "\r\n"))
    {
        char *value = line + 2 + name_len + 1;

        if (strncasecmp(line + 2, name, name_len) != 0 || line[2 + name_len] != ':')
            continue;
        while (*value == ' ')
            value++;
        *len = strcspn(value, "\r\n");
        return value;
    }
    return NULL;
}

/* Takes a head from the side. false at its end or when it is none. */
static bool
proxy_take_head(ProxySide *side, ProxyHead *head)
{
    char *end, *value;
    size_t len;

    while ((end = memmem(side->buf, side->len, "\r\n\r\n", 4)) == NULL)
        if (side->len >= PROXY_HEAD_BYTES || !proxy_read_more(side))
            return false;
    head->len = (size_t) (end - side->buf) + 4;
    if (head->len > PROXY_HEAD_BYTES)
        return false;
    memcpy(head->text, side->buf, head->len);
    head->text[head->len] = '\0';
    proxy_consume(side, head->len);

    value = proxy_find_header(head->text, "transfer-encoding", &len);
    head->chunked = value != NULL;
    value = proxy_find_header(head->text, "content-length", &len);
    head->has_length = false;
    head->length = 0;
    if (value != NULL)
    {
        char number[24] = "";

        if (len < sizeof number)
            memcpy(number, value, len);
        head->has_length = parse_u64(number, &head->length);
    }
    return true;
}

/* Where bytes go, and what happens to them on the way. */
typedef struct ProxyFlow
{
    int to;           /* -1: nowhere */
    uint64_t seen;    /* bytes so far */
    uint64_t stop_at; /* the flow ends there: proxy_flow returns false */
    uint64_t flip_at; /* UINT64_MAX: nowhere */
    uint64_t hide_at; /* what is behind is not passed on */
    bool stopped;
    bool to_broken; /* the receiver went away; what comes is thrown away */
} ProxyFlow;

static const ProxyFlow proxy_flow_plain = {
    .to = -1, .stop_at = UINT64_MAX, .flip_at = UINT64_MAX, .hide_at = UINT64_MAX};

/* Moves len bytes on, some of them from the side's buffer. */
static bool
proxy_flow(ProxySide *from, ProxyFlow *flow, uint64_t len)
{
    while (len > 0 || flow->seen >= flow->stop_at)
    {
        size_t part, shown;

        if (flow->seen >= flow->stop_at)
        {
            flow->stopped = true;
            return false;
        }
        if (from->len == 0 && !proxy_read_more(from))
            return false;
        part = (size_t) (from->len < len ? from->len : len);
        if (part > flow->stop_at - flow->seen)
            part = (size_t) (flow->stop_at - flow->seen);
        if (flow->flip_at >= flow->seen && flow->flip_at - flow->seen < part)
            from->buf[flow->flip_at - flow->seen] ^= 0x10;
        shown = flow->seen >= flow->hide_at         ? 0
                : part > flow->hide_at - flow->seen ? (size_t) (flow->hide_at - flow->seen)
                                                    : part;
        if (flow->to >= 0 && !flow->to_broken && !proxy_write(flow->to, from->buf, shown))
            flow->to_broken = true;
        flow->seen += part;
        len -= part;
        if (part == from->len)
            from->len = 0;
        else
            proxy_consume(from, part);
    }
    return true;
}

/* A chunked body, its framing passed on as it is. */
static bool
proxy_flow_chunks(ProxySide *from, ProxyFlow *flow)
{
    for (;;)
    {
        char *end;
        uint64_t size = 0;

        while ((end = memmem(from->buf, from->len, "\r\n", 2)) == NULL)
            if (from->len >= 100 || !proxy_read_more(from))
                return false;
        for (const char *p = from->buf; p < end && *p != ';'; p++)
        {
            int digit = *p >= '0' && *p <= '9'   ? *p - '0'
                        : *p >= 'a' && *p <= 'f' ? *p - 'a' + 10
                        : *p >= 'A' && *p <= 'F' ? *p - 'A' + 10
                                                 : -1;
            if (digit < 0 || size > UINT32_MAX)
                return false;
            size = size * 16 + (uint64_t) digit;
        }
        /* its line, its bytes and the line end behind them; no trailers, as S3 sends none */
        if (!proxy_flow(from, flow, (uint64_t) (end - from->buf) + 2 + size + 2))
            return false;
        if (size == 0)
            return true;
    }
}

/* ---- rules ---- */

static bool
proxy_match(ProxyRule *rule, const char *method, const char *target)
{
    return rule->used && (rule->method[0] == '*' || strcmp(rule->method, method) == 0) &&
           regexec(&rule->target, target, 0, NULL, 0) == 0;
}

/* Counts the request and tells what to do with it. */
static ProxyFault
proxy_decide(const char *method, const char *target, uint64_t *generation)
{
    ProxyFault fault = {.action = PROXY_PASS};

    (void) pthread_mutex_lock(&proxy.lock);
    proxy.requests++;
    proxy.gets += strcmp(method, "GET") == 0;
    proxy.puts += strcmp(method, "PUT") == 0;
    proxy.heads += strcmp(method, "HEAD") == 0;
    proxy.posts += strcmp(method, "POST") == 0;
    proxy.deletes += strcmp(method, "DELETE") == 0;
    *generation = proxy.generation;
    for (size_t i = 0; i < proxy.rule_count && fault.action == PROXY_PASS; i++)
    {
        ProxyRule *rule = &proxy.rules[i];

        if (!proxy_match(rule, method, target) || (!rule->for_ever && rule->times == 0))
            continue;
        if (rule->skip > 0)
        {
            rule->skip--;
            continue;
        }
        if (!rule->for_ever)
            rule->times--;
        rule->hits++;
        fault = rule->fault;
    }
    (void) pthread_mutex_unlock(&proxy.lock);
    return fault;
}

/* Until the rules change or the client goes. */
static void
proxy_stall(int client, uint64_t generation)
{
    for (;;)
    {
        struct pollfd p = {.fd = client, .events = POLLRDHUP};
        bool over;

        (void) pthread_mutex_lock(&proxy.lock);
        over = proxy.generation != generation;
        (void) pthread_mutex_unlock(&proxy.lock);
        if (over || (poll(&p, 1, 50) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0))
            return;
    }
}

static void
proxy_reset_socket(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

/* ---- one request ---- */

static bool
proxy_answer(int client, const char *method, const ProxyFault *fault)
{
    char body[512] = "", answer[1400];
    const char *type = "application/xml";
    unsigned code = (unsigned) fault->number;

    if (fault->action == PROXY_HTML)
    {
        type = "text/html";
        (void) snprintf(
            body, sizeof body, "<html><head><title>%u</title></head><body><hr>proxy</body></html>",
            code);
    }
    else if (fault->s3_code[0] != '\0')
        (void) snprintf(
            body, sizeof body,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code>"
            "<Message>made by s3_proxy</Message><RequestId>P1</RequestId></Error>",
            fault->s3_code);
    (void) snprintf(
        answer, sizeof answer,
        "HTTP/1.1 %u Fault\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s%s\r\n%s", code, type,
        strlen(body), fault->header, fault->header[0] != '\0' ? "\r\n" : "",
        strcmp(method, "HEAD") == 0 ? "" : body);
    return proxy_write(client, answer, strlen(answer));
}

static bool
proxy_connect(ProxySide *store)
{
    int one = 1;

    if (store->fd >= 0)
        return true;
    store->len = 0;
    store->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (store->fd < 0)
        return false;
    if (connect(store->fd, (struct sockaddr *) &proxy.store, sizeof proxy.store) < 0)
    {
        (void) close(store->fd);
        store->fd = -1;
        return false;
    }
    (void) setsockopt(store->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return true;
}

/* Takes out the line of a header. */
static void
proxy_drop_header(ProxyHead *head, const char *name)
{
    size_t len;
    char *value = proxy_find_header(head->text, name, &len);
    char *line, *next;

    if (value == NULL)
        return;
    line = value;
    while (line[-1] != '\n')
        line--;
    next = value + len + 2;
    memmove(line, next, strlen(next) + 1);
    head->len = strlen(head->text);
}

/* Makes Content-Length smaller, keeping the number of digits. */
static void
proxy_shorten_head(ProxyHead *head, uint64_t by)
{
    size_t len;
    char *value = proxy_find_header(head->text, "content-length", &len);
    char number[32];

    if (value == NULL || by > head->length)
        return;
    (void) snprintf(
        number, sizeof number, "%0*llu", (int) len, (unsigned long long) (head->length - by));
    memcpy(value, number, len);
}

/* The answer of the store on its way to the client. false: the connection ends. */
static bool
proxy_pass_answer(
    ProxySide *client, ProxySide *store, const char *method, const ProxyFault *fault,
    uint64_t generation, ProxyHead *head)
{
    ProxyFlow flow = proxy_flow_plain;
    bool hide = fault->action == PROXY_PASS_RESET || fault->action == PROXY_PASS_STATUS;
    bool has_body, good = true;

    if (!proxy_take_head(store, head))
        return false;
    has_body = strcmp(method, "HEAD") != 0 && strncmp(head->text + 9, "204", 3) != 0 &&
               strncmp(head->text + 9, "304", 3) != 0;
    if (fault->action == PROXY_SHORTEN)
    {
        proxy_shorten_head(head, fault->number);
        flow.hide_at = head->length - (fault->number < head->length ? fault->number : head->length);
    }
    if (fault->action == PROXY_CORRUPT)
        flow.flip_at = fault->number;
    if (fault->action == PROXY_CUT_ANSWER || fault->action == PROXY_RESET_ANSWER ||
        fault->action == PROXY_STALL_ANSWER)
        flow.stop_at = fault->number;
    flow.to = hide ? -1 : client->fd;
    if (!hide && !proxy_write(client->fd, head->text, head->len))
        return false;
    if (has_body && head->chunked)
        good = proxy_flow_chunks(store, &flow);
    else if (has_body && head->has_length)
        good = proxy_flow(store, &flow, head->length);
    else if (has_body)
    {
        (void) proxy_flow(store, &flow, UINT64_MAX); /* to the end of the connection */
        good = false;
    }
    if (flow.stopped && fault->action == PROXY_STALL_ANSWER)
        proxy_stall(client->fd, generation);
    if (flow.stopped && fault->action == PROXY_RESET_ANSWER)
        proxy_reset_socket(client->fd);
    if (fault->action == PROXY_PASS_RESET)
    {
        proxy_reset_socket(client->fd);
        return false;
    }
    if (good && fault->action == PROXY_PASS_STATUS)
        return proxy_answer(client->fd, method, fault);
    return good && !flow.to_broken;
}

/* Reads and drops the body of a request that the proxy answers itself. */
static bool
proxy_drop_body(ProxySide *client, uint64_t len)
{
    ProxyFlow flow = proxy_flow_plain;

    return proxy_flow(client, &flow, len);
}

/* Reads a DeleteObjects request and answers with an error for each of its keys, which are plain. */
static bool
proxy_refuse_keys(ProxySide *client, uint64_t len, const ProxyFault *fault)
{
    static const char begin[] = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<DeleteResult>";
    static const char end[] = "</DeleteResult>";
    char *request = NULL, *answer = NULL;
    size_t have = 0, size, at;
    bool good = false;

    if (len > PROXY_DELETE_BYTES)
        return false;
    request = malloc(len + 1);
    /* a key has at least 22 bytes of request around it, and less than 160 of answer */
    size = 1024 + 9 * (size_t) len;
    answer = malloc(size);
    if (request == NULL || answer == NULL)
        proxy_die("malloc");
    while (have < len && (client->len > 0 || proxy_read_more(client)))
    {
        size_t part = client->len < len - have ? client->len : (size_t) len - have;

        memcpy(request + have, client->buf, part);
        proxy_consume(client, part);
        have += part;
    }
    request[have] = '\0';
    at = (size_t) snprintf(answer, size, "%s", begin);
    for (const char *key = strstr(request, "<Key>"); key != NULL; key = strstr(key + 1, "<Key>"))
    {
        int key_len = (int) strcspn(key + 5, "<");

        at += (size_t) snprintf(
            answer + at, size - at,
            "<Error><Key>%.*s</Key><Code>%s</Code><Message>made by s3_proxy</Message></Error>",
            key_len, key + 5, fault->s3_code);
    }
    (void) snprintf(answer + at, size - at, "%s", end);
    if (have == len)
    {
        char head[128];

        (void) snprintf(
            head, sizeof head,
            "HTTP/1.1 %u Fault\r\nContent-Type: application/xml\r\nContent-Length: %zu\r\n\r\n",
            (unsigned) fault->number, strlen(answer));
        good = proxy_write(client->fd, head, strlen(head)) &&
               proxy_write(client->fd, answer, strlen(answer));
    }
    free(request);
    free(answer);
    return good;
}

/* One request and its answer. false: the connection ends. */
static bool
proxy_serve_one(ProxySide *client, ProxySide *store, ProxyHead *head)
{
    char method[8] = "", target[4096] = "";
    uint64_t generation, length;
    ProxyFault fault;
    ProxyFlow flow = proxy_flow_plain;
    const char *space, *end;

    if (!proxy_take_head(client, head))
        return false;
    space = strchr(head->text, ' ');
    end = space == NULL ? NULL : strchr(space + 1, ' ');
    if (end == NULL || (size_t) (space - head->text) >= sizeof method ||
        (size_t) (end - space) >= sizeof target || head->chunked)
        return false;
    memcpy(method, head->text, (size_t) (space - head->text));
    memcpy(target, space + 1, (size_t) (end - space - 1));
    length = head->has_length ? head->length : 0;

    fault = proxy_decide(method, target, &generation);
    if (fault.action == PROXY_RESET)
    {
        proxy_reset_socket(client->fd);
        return false;
    }
    if (fault.action == PROXY_STALL)
    {
        proxy_stall(client->fd, generation);
        return false;
    }
    if (fault.action == PROXY_REFUSE_KEYS)
        return proxy_refuse_keys(client, length, &fault);
    if (fault.action == PROXY_STATUS || fault.action == PROXY_HTML)
        return proxy_drop_body(client, length) && proxy_answer(client->fd, method, &fault);
    if (fault.action == PROXY_DELAY)
    {
        struct pollfd gone = {.fd = client->fd, .events = POLLRDHUP};

        (void) nanosleep(
            &(struct timespec){
                .tv_sec = (time_t) (fault.number / 1000),
                .tv_nsec = (long) (fault.number % 1000) * 1000000},
            NULL);
        /* as if it had still been on its way when the client died */
        if (poll(&gone, 1, 0) > 0)
            return false;
    }
    if (fault.action == PROXY_NO_RANGE)
        proxy_drop_header(head, "range");

    if (!proxy_connect(store) || !proxy_write(store->fd, head->text, head->len))
        return false;
    flow.to = store->fd;
    if (fault.action == PROXY_CUT_REQUEST)
        flow.stop_at = fault.number;
    if (!proxy_flow(client, &flow, length))
        return false;
    return proxy_pass_answer(client, store, method, &fault, generation, head);
}

static void *
proxy_serve(void *arg)
{
    int fd = (int) (intptr_t) arg;
    ProxySide client = {.fd = fd, .buf = malloc(PROXY_BUFFER_BYTES)};
    ProxySide store = {.fd = -1, .buf = malloc(PROXY_BUFFER_BYTES)};
    ProxyHead *head = malloc(sizeof *head);

    if (client.buf == NULL || store.buf == NULL || head == NULL)
        proxy_die("malloc");
    while (proxy_serve_one(&client, &store, head))
        ;
    if (store.fd >= 0)
        (void) close(store.fd);
    (void) pthread_mutex_lock(&proxy.lock);
    for (size_t i = 0; i < PROXY_MAX_CONNECTIONS; i++)
        if (proxy.clients[i] == fd)
            proxy.clients[i] = -1;
    (void) close(fd);
    (void) pthread_mutex_unlock(&proxy.lock);
    free(client.buf);
    free(store.buf);
    free(head);
    return NULL;
}

/* ---- listening ---- */

static int
proxy_listen(uint16_t *port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int one = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons(*port),
        .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)},
    };
    socklen_t len = sizeof address;

    (void) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof address) < 0 ||
        listen(fd, 256) < 0 || getsockname(fd, (struct sockaddr *) &address, &len) < 0)
        proxy_die("could not listen");
    *port = ntohs(address.sin_port);
    return fd;
}

static void
proxy_adopt(int fd)
{
    pthread_t id;
    pthread_attr_t attr;
    int one = 1;
    bool kept = false;

    (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void) pthread_mutex_lock(&proxy.lock);
    for (size_t i = 0; i < PROXY_MAX_CONNECTIONS && !kept && proxy.listener >= 0; i++)
        if (proxy.clients[i] < 0)
        {
            proxy.clients[i] = fd;
            proxy.connections++;
            kept = true;
        }
    (void) pthread_mutex_unlock(&proxy.lock);
    if (!kept)
    {
        (void) close(fd);
        return;
    }
    (void) pthread_attr_init(&attr);
    (void) pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&id, &attr, proxy_serve, (void *) (intptr_t) fd) != 0)
        proxy_die("pthread_create");
    (void) pthread_attr_destroy(&attr);
}

static void *
proxy_accept_main(void *arg)
{
    (void) arg;
    for (;;)
    {
        int listener, fd;

        (void) pthread_mutex_lock(&proxy.lock);
        while (proxy.listener < 0)
            (void) pthread_cond_wait(&proxy.changed, &proxy.lock);
        listener = proxy.listener;
        (void) pthread_mutex_unlock(&proxy.lock);

        /* woken now and then, as a close does not wake it */
        struct pollfd p = {.fd = listener, .events = POLLIN};

        if (poll(&p, 1, 20) <= 0 || (p.revents & POLLIN) == 0)
            continue;
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            proxy_adopt(fd);
    }
    return NULL;
}

/* ---- control ---- */

static const char *
proxy_do_add(char **words, size_t count, char *answer, size_t size)
{
    ProxyRule rule = {.used = true};
    const char *why = NULL;
    size_t i;

    for (i = 0; count >= 6 && i < sizeof proxy_actions / sizeof proxy_actions[0]; i++)
        if (strcmp(words[5], proxy_actions[i].name) == 0)
            break;
    if (count < 6 || i == sizeof proxy_actions / sizeof proxy_actions[0])
        return "error no such action";
    if (strlen(words[1]) >= sizeof rule.method || !parse_u64(words[3], &rule.skip) ||
        !parse_u64(words[4], &rule.times))
        return "error METHOD REGEX SKIP TIMES";
    rule.fault.action = proxy_actions[i].action;
    if (proxy_actions[i].has_number && (count < 7 || !parse_u64(words[6], &rule.fault.number)))
        return "error a number is missing";
    if (count > 7)
        (void) snprintf(rule.fault.s3_code, sizeof rule.fault.s3_code, "%s", words[7]);
    if (count > 8)
        (void) snprintf(rule.fault.header, sizeof rule.fault.header, "%s", words[8]);
    (void) snprintf(rule.method, sizeof rule.method, "%s", words[1]);
    rule.for_ever = rule.times == 0;
    if (regcomp(&rule.target, words[2], REG_EXTENDED | REG_NOSUB) != 0)
        return "error no such expression";

    (void) pthread_mutex_lock(&proxy.lock);
    if (proxy.rule_count == PROXY_MAX_RULES)
        why = "error too many rules";
    else
    {
        (void) snprintf(answer, size, "ok %zu", proxy.rule_count);
        proxy.rules[proxy.rule_count++] = rule;
    }
    (void) pthread_mutex_unlock(&proxy.lock);
    if (why != NULL)
        regfree(&rule.target);
    return why == NULL ? answer : why;
}

static void
proxy_do_clear(void)
{
    (void) pthread_mutex_lock(&proxy.lock);
    for (size_t i = 0; i < proxy.rule_count; i++)
        regfree(&proxy.rules[i].target);
    proxy.rule_count = 0;
    proxy.generation++;
    (void) pthread_mutex_unlock(&proxy.lock);
}

static void
proxy_do_down(void)
{
    (void) pthread_mutex_lock(&proxy.lock);
    if (proxy.listener >= 0)
        (void) close(proxy.listener);
    proxy.listener = -1;
    for (size_t i = 0; i < PROXY_MAX_CONNECTIONS; i++)
        if (proxy.clients[i] >= 0)
        {
            proxy_reset_socket(proxy.clients[i]);
            (void) shutdown(proxy.clients[i], SHUT_RDWR);
        }
    (void) pthread_mutex_unlock(&proxy.lock);
}

static void
proxy_do_up(void)
{
    (void) pthread_mutex_lock(&proxy.lock);
    if (proxy.listener < 0)
        proxy.listener = proxy_listen(&proxy.port);
    (void) pthread_cond_broadcast(&proxy.changed);
    (void) pthread_mutex_unlock(&proxy.lock);
}

static const char *
proxy_do_hits(char **words, size_t count, char *answer, size_t size)
{
    uint64_t id;
    const char *text = answer;

    if (count < 2 || !parse_u64(words[1], &id))
        return "error a number is missing";
    (void) pthread_mutex_lock(&proxy.lock);
    if (id < proxy.rule_count)
        (void) snprintf(answer, size, "ok %llu", (unsigned long long) proxy.rules[id].hits);
    else
        text = "error no such rule";
    (void) pthread_mutex_unlock(&proxy.lock);
    return text;
}

static const char *
proxy_do(char **words, size_t count, char *answer, size_t size)
{
    if (count == 0)
        return "error no command";
    if (strcmp(words[0], "add") == 0)
        return proxy_do_add(words, count, answer, size);
    if (strcmp(words[0], "hits") == 0)
        return proxy_do_hits(words, count, answer, size);
    if (strcmp(words[0], "clear") == 0)
    {
        proxy_do_clear();
        return "ok";
    }
    if (strcmp(words[0], "down") == 0)
    {
        proxy_do_down();
        return "ok";
    }
    if (strcmp(words[0], "up") == 0)
    {
        proxy_do_up();
        return "ok";
    }
    if (strcmp(words[0], "stats") == 0)
    {
        (void) pthread_mutex_lock(&proxy.lock);
        (void) snprintf(
            answer, size,
            "ok requests %llu get %llu put %llu head %llu post %llu delete %llu connections %llu",
            (unsigned long long) proxy.requests, (unsigned long long) proxy.gets,
            (unsigned long long) proxy.puts, (unsigned long long) proxy.heads,
            (unsigned long long) proxy.posts, (unsigned long long) proxy.deletes,
            (unsigned long long) proxy.connections);
        (void) pthread_mutex_unlock(&proxy.lock);
        return answer;
    }
    return "error no such command";
}

/* One controller at a time: its lines until it closes. */
static void
proxy_control(int fd)
{
    FILE *in = fdopen(fd, "r");
    char *line = NULL;
    size_t size = 0;

    if (in == NULL)
        proxy_die("fdopen");
    while (getline(&line, &size, in) > 0)
    {
        char *words[PROXY_MAX_WORDS], answer[256], *rest = line;
        size_t count = 0;
        const char *said;

        while (count < PROXY_MAX_WORDS && (words[count] = strtok_r(rest, " \r\n", &rest)) != NULL)
            count++;
        said = proxy_do(words, count, answer, sizeof answer);
        if (!proxy_write(fd, said, strlen(said)) || !proxy_write(fd, "\n", 1))
            break;
    }
    free(line);
    (void) fclose(in);
}

static void *
proxy_control_main(void *arg)
{
    int listener = (int) (intptr_t) arg;

    for (;;)
    {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd >= 0)
            proxy_control(fd);
    }
    return NULL;
}

int
main(int argc, char **argv)
{
    pthread_t accepting, controlling;
    uint16_t control_port = 0;
    uint32_t store_port = 0;
    char *colon = argc == 2 ? strrchr(argv[1], ':') : NULL;
    char byte;
    int control;

    if (colon == NULL || !parse_u32(colon + 1, &store_port) || store_port > 65535)
    {
        (void) fprintf(stderr, "usage: s3_proxy ADDRESS:PORT\n");
        return 2;
    }
    *colon = '\0';
    proxy.store =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t) store_port)};
    if (inet_pton(AF_INET, argv[1], &proxy.store.sin_addr) != 1)
    {
        (void) fprintf(stderr, "s3_proxy: \"%s\" is not an IPv4 address\n", argv[1]);
        return 2;
    }
    (void) signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < PROXY_MAX_CONNECTIONS; i++)
        proxy.clients[i] = -1;
    proxy_do_up();
    control = proxy_listen(&control_port);
    if (pthread_create(&accepting, NULL, proxy_accept_main, NULL) != 0 ||
        pthread_create(&controlling, NULL, proxy_control_main, (void *) (intptr_t) control) != 0)
        proxy_die("pthread_create");
    printf("%u %u\n", proxy.port, control_port);
    (void) fflush(stdout);
    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    return 0;
}
