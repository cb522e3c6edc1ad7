/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Providers of S3 credentials; see credentials.h. The environment and the shared file are here;
 * others embed CredentialsProvider and are named in credentials_auto_list.
 */
#include "store/credentials.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>

#include "common/fs.h"
#include "common/strbuf.h"

#define CREDENTIALS_MAX_FILE_BYTES (1u << 20)
#define CREDENTIALS_EARLY_US (5 * 60 * INT64_C(1000000)) /* new ones are asked for that early */
#define CREDENTIALS_MAX_PROVIDERS 8

void
credentials_reset(Credentials *c)
{
    OPENSSL_cleanse(c, sizeof *c);
}

/* Copies a value that will stand in a header: printable ASCII without blanks, of bounded length. */
static int
credentials_copy(char *to, size_t size, const char *from, size_t len, const char *name, Error *err)
{
    if (len >= size)
        return error_set(err, ERROR_CORRUPT, "%s is longer than %zu characters", name, size - 1);
    for (size_t i = 0; i < len; i++)
        if (from[i] <= ' ' || from[i] > '~')
            return error_set(
                err, ERROR_CORRUPT, "%s holds a blank or another character that cannot be in it",
                name);
    memcpy(to, from, len);
    to[len] = '\0';
    return 0;
}

/* Both keys or neither. */
static int
credentials_check_pair(
    const Credentials *c, const char *where, const char *access_name, const char *secret_name,
    Error *err)
{
    bool has_access = c->access_key[0] != '\0', has_secret = c->secret_key[0] != '\0';

    if (has_access && has_secret)
        return 0;
    if (!has_access && !has_secret)
        return error_set(err, ERROR_NOT_FOUND, "no %s %s", access_name, where);
    return error_set(
        err, ERROR_DENIED, "%s is given %s, but %s is not", has_access ? access_name : secret_name,
        where, has_access ? secret_name : access_name);
}

/* ---- environment ---- */

static int
credentials_load_environment(
    CredentialsProvider *p, const Deadline *dl, Credentials *out, Error *err)
{
    const struct
    {
        const char *name;
        char *to;
        size_t size;
    } fields[] = {
        {"AWS_ACCESS_KEY_ID", out->access_key, sizeof out->access_key},
        {"AWS_SECRET_ACCESS_KEY", out->secret_key, sizeof out->secret_key},
        {"AWS_SESSION_TOKEN", out->session_token, sizeof out->session_token},
    };

    (void) p;
    (void) dl;
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++)
    {
        const char *value = getenv(fields[i].name);

        if (value != NULL &&
            credentials_copy(
                fields[i].to, fields[i].size, value, strlen(value), fields[i].name, err) < 0)
        {
            err->kind = ERROR_DENIED;
            return -1;
        }
    }
    return credentials_check_pair(out, "in the environment", fields[0].name, fields[1].name, err);
}

static void
credentials_destroy_plain(CredentialsProvider *p)
{
    free(p);
}

static const CredentialsOps credentials_environment_ops = {
    .name = "environment",
    .load = credentials_load_environment,
    .destroy = credentials_destroy_plain,
};

static int
credentials_new_environment(CredentialsProvider **out, Error *err)
{
    CredentialsProvider *p = calloc(1, sizeof *p);

    if (p == NULL)
        return error_nomem(err);
    credentials_provider_init(p, &credentials_environment_ops);
    *out = p;
    return 0;
}

/* ---- shared file ---- */

typedef struct CredentialsFile
{
    CredentialsProvider base;
    char *profile; /* owned; NULL: AWS_PROFILE or "default" */
} CredentialsFile;

/* A line without blanks and comment around it. */
typedef struct CredentialsLine
{
    const char *text;
    size_t len;
    bool indented;
} CredentialsLine;

static bool
credentials_is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\v' || c == '\f';
}

static CredentialsLine
credentials_trim(const char *text, size_t len)
{
    CredentialsLine line = {.indented = len > 0 && credentials_is_blank(*text)};

    while (len > 0 && credentials_is_blank(*text))
        text++, len--;
    while (len > 0 && credentials_is_blank(text[len - 1]))
        len--;
    line.text = text;
    line.len = len;
    return line;
}

/* Takes one "name = value" of the wanted profile. *nested: it opens a block of indented settings.
 */
static int
credentials_take_setting(
    CredentialsLine line, unsigned number, Credentials *out, bool *nested, Error *err)
{
    static const struct
    {
        const char *name;
        size_t offset, size;
    } fields[] = {
        {"aws_access_key_id", offsetof(Credentials, access_key), sizeof out->access_key},
        {"aws_secret_access_key", offsetof(Credentials, secret_key), sizeof out->secret_key},
        {"aws_session_token", offsetof(Credentials, session_token), sizeof out->session_token},
        {"aws_security_token", offsetof(Credentials, session_token), sizeof out->session_token},
    };
    const char *equals = memchr(line.text, '=', line.len);

    if (equals == NULL)
        return error_set(err, ERROR_CORRUPT, "line %u: neither [profile] nor name = value", number);

    CredentialsLine name = credentials_trim(line.text, (size_t) (equals - line.text));
    CredentialsLine value =
        credentials_trim(equals + 1, line.len - (size_t) (equals - line.text) - 1);

    *nested = value.len == 0;
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++)
        if (strlen(fields[i].name) == name.len &&
            strncasecmp(fields[i].name, name.text, name.len) == 0 &&
            credentials_copy(
                (char *) out + fields[i].offset, fields[i].size, value.text, value.len,
                fields[i].name, err) < 0)
            return error_wrap(err, "line %u", number);
    return 0;
}

/* Whether "[name]" is the profile; files of the "config" kind say "[profile name]". */
static int
credentials_match_section(
    CredentialsLine line, unsigned number, const char *profile, bool *match, Error *err)
{
    CredentialsLine name;

    if (line.text[line.len - 1] != ']')
        return error_set(err, ERROR_CORRUPT, "line %u: no ] at the end", number);
    name = credentials_trim(line.text + 1, line.len - 2);
    if (name.len > 8 && memcmp(name.text, "profile ", 8) == 0)
        name = credentials_trim(name.text + 8, name.len - 8);
    *match = name.len == strlen(profile) && memcmp(name.text, profile, name.len) == 0;
    return 0;
}

int
credentials_parse_file(
    const char *text, size_t len, const char *profile, Credentials *out, Error *err)
{
    bool match = false, found = false, nested = false;
    unsigned number = 0;
    char where[192];

    memset(out, 0, sizeof *out);
    while (len > 0)
    {
        const char *end = memchr(text, '\n', len);
        size_t line_len = end == NULL ? len : (size_t) (end - text);
        CredentialsLine line = credentials_trim(text, line_len);
        int rc = 0;

        number++;
        len -= end == NULL ? len : line_len + 1;
        text += end == NULL ? line_len : line_len + 1;
        if (line.len == 0 || line.text[0] == '#' || line.text[0] == ';')
            continue;
        if (line.text[0] == '[')
        {
            rc = credentials_match_section(line, number, profile, &match, err);
            found = found || match;
            nested = false;
        }
        else if (match && !(nested && line.indented))
            rc = credentials_take_setting(line, number, out, &nested, err);
        if (rc < 0)
        {
            credentials_reset(out);
            return -1;
        }
    }
    (void) snprintf(where, sizeof where, "in profile \"%.128s\"", profile);
    if (!found)
        return error_set(err, ERROR_NOT_FOUND, "no profile \"%.128s\"", profile);
    return credentials_check_pair(out, where, "aws_access_key_id", "aws_secret_access_key", err);
}

/* The rule that libpq has for key files: the owner's alone, or root's and read by one group. */
static int
credentials_check_mode(int fd, Error *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return error_sys(err, "could not look at it");
    if (!S_ISREG(st.st_mode))
        return error_set(err, ERROR_DENIED, "it is not a regular file");
    if ((st.st_mode & (st.st_uid == 0 ? S_IWGRP | S_IXGRP | S_IRWXO : S_IRWXG | S_IRWXO)) == 0)
        return 0;
    (void) error_set(err, ERROR_DENIED, "others can read or write it");
    return error_hint(err, "chmod 0600 it, or 0640 if it belongs to root: it holds a secret key.");
}

static int
credentials_find_file(char *path, size_t size, Error *err)
{
    const char *given = getenv("AWS_SHARED_CREDENTIALS_FILE");
    const char *home = getenv("HOME");
    struct passwd pw, *found = NULL;
    char text[4096];
    int len;

    if (given != NULL && given[0] != '\0')
        len = snprintf(path, size, "%s", given);
    else
    {
        if (home == NULL || home[0] == '\0')
        {
            if (getpwuid_r(getuid(), &pw, text, sizeof text, &found) != 0 || found == NULL)
                return error_set(
                    err, ERROR_NOT_FOUND, "no home directory to look for .aws/credentials in");
            home = pw.pw_dir;
        }
        len = snprintf(path, size, "%s/.aws/credentials", home);
    }
    if (len < 0 || (size_t) len >= size)
        return error_set(err, ERROR_USAGE, "the path of the credentials file is too long");
    return 0;
}

static int
credentials_load_file(CredentialsProvider *p, const Deadline *dl, Credentials *out, Error *err)
{
    const CredentialsFile *file = (const CredentialsFile *) (const void *) p;
    const char *profile = file->profile != NULL ? file->profile : getenv("AWS_PROFILE");
    AUTO(fd_close) int fd = -1;
    char path[4096];
    char *text;
    size_t len = 0;
    int rc;

    (void) dl;
    if (profile == NULL || profile[0] == '\0')
        profile = "default";
    if (credentials_find_file(path, sizeof path, err) < 0)
        return -1;
    /* not blocking: it might be a pipe */
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
    {
        /* ENOTDIR: a home such as /dev/null */
        bool missing = errno == ENOENT || errno == ENOTDIR;

        (void) error_sys(err, "could not open credentials file \"%s\"", path);
        if (missing)
            err->kind = ERROR_NOT_FOUND;
        return -1;
    }
    if (credentials_check_mode(fd, err) < 0)
        return error_wrap(err, "could not use credentials file \"%s\"", path);

    text = malloc(CREDENTIALS_MAX_FILE_BYTES);
    if (text == NULL)
        return error_nomem(err);
    rc = fs_read_full(fd, text, CREDENTIALS_MAX_FILE_BYTES, &len, path, err);
    if (rc == 0 && len == CREDENTIALS_MAX_FILE_BYTES)
        rc = error_set(err, ERROR_CORRUPT, "it is larger than 1 MiB");
    if (rc == 0)
        rc = credentials_parse_file(text, len, profile, out, err);
    OPENSSL_cleanse(text, len);
    free(text);
    if (rc < 0)
    {
        /* something is wrong with it: nobody else is asked, and a retry does not help */
        if (err->kind == ERROR_CORRUPT)
            err->kind = ERROR_DENIED;
        return error_wrap(err, "could not use credentials file \"%s\"", path);
    }
    return 0;
}

static void
credentials_destroy_file(CredentialsProvider *p)
{
    CredentialsFile *file = (CredentialsFile *) (void *) p;

    free(file->profile);
    free(file);
}

static const CredentialsOps credentials_file_ops = {
    .name = "file",
    .load = credentials_load_file,
    .destroy = credentials_destroy_file,
};

static int
credentials_new_file(const char *profile, CredentialsProvider **out, Error *err)
{
    CredentialsFile *file = calloc(1, sizeof *file);

    if (file == NULL)
        return error_nomem(err);
    if (profile != NULL && (file->profile = strdup(profile)) == NULL)
    {
        free(file);
        return error_nomem(err);
    }
    credentials_provider_init(&file->base, &credentials_file_ops);
    *out = &file->base;
    return 0;
}

/* ---- auto ---- */

typedef struct CredentialsAuto
{
    CredentialsProvider base;
    CredentialsProvider *list[CREDENTIALS_MAX_PROVIDERS]; /* owned */
    size_t count;
    CredentialsProvider *chosen; /* the first that had some; NULL before that */
} CredentialsAuto;

static int
credentials_new_default_file(CredentialsProvider **out, Error *err)
{
    return credentials_new_file(NULL, out, err);
}

/* In the order in which they are asked. */
static int (*const credentials_auto_list[])(CredentialsProvider **out, Error *err) = {
    credentials_new_environment,
    credentials_new_default_file,
};
static_assert(ARRAY_COUNT(credentials_auto_list) <= CREDENTIALS_MAX_PROVIDERS, "list is too long");

static int
credentials_load_auto(CredentialsProvider *p, const Deadline *dl, Credentials *out, Error *err)
{
    CredentialsAuto *list = (CredentialsAuto *) (void *) p;
    AUTO(strbuf_reset) StrBuf tried;

    strbuf_init(&tried, sizeof err->msg);
    if (list->chosen != NULL)
    {
        int rc = list->chosen->ops->load(list->chosen, dl, out, err);

        if (rc == 0 || err->kind != ERROR_NOT_FOUND)
            return rc;
        list->chosen = NULL;
    }
    for (size_t i = 0; i < list->count; i++)
    {
        if (list->list[i]->ops->load(list->list[i], dl, out, err) == 0)
        {
            list->chosen = list->list[i];
            return 0;
        }
        if (err->kind != ERROR_NOT_FOUND)
            return -1;
        strbuf_printf(
            &tried, "%s%s: %s", tried.len > 0 ? "; " : "", list->list[i]->ops->name, err->msg);
    }
    return error_set(
        err, ERROR_NOT_FOUND, "%s", tried.failed ? "no source has any" : strbuf_text(&tried));
}

static void
credentials_destroy_auto(CredentialsProvider *p)
{
    CredentialsAuto *list = (CredentialsAuto *) (void *) p;

    for (size_t i = 0; i < list->count; i++)
        credentials_provider_free(list->list[i]);
    free(list);
}

static const CredentialsOps credentials_auto_ops = {
    .name = "auto",
    .load = credentials_load_auto,
    .destroy = credentials_destroy_auto,
};

static int
credentials_new_auto(CredentialsProvider **out, Error *err)
{
    CredentialsAuto *list = calloc(1, sizeof *list);

    if (list == NULL)
        return error_nomem(err);
    credentials_provider_init(&list->base, &credentials_auto_ops);
    for (size_t i = 0; i < ARRAY_COUNT(credentials_auto_list); i++)
    {
        if (credentials_auto_list[i](&list->list[i], err) < 0)
        {
            credentials_provider_free(&list->base);
            return -1;
        }
        list->count++;
    }
    *out = &list->base;
    return 0;
}

/* ---- for all ---- */

void
credentials_provider_init(CredentialsProvider *p, const CredentialsOps *ops)
{
    pthread_condattr_t attr;

    p->ops = ops;
    p->loading = false;
    p->have_cached = false;
    memset(&p->cached, 0, sizeof p->cached);
    /* none of these can fail on Linux with these values */
    (void) pthread_mutex_init(&p->lock, NULL);
    (void) pthread_condattr_init(&attr);
    (void) pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void) pthread_cond_init(&p->loaded, &attr);
    (void) pthread_condattr_destroy(&attr);
}

int
credentials_provider_new(const char *how, CredentialsProvider **out, Error *err)
{
    if (strcmp(how, "auto") == 0)
        return credentials_new_auto(out, err);
    if (strcmp(how, "environment") == 0)
        return credentials_new_environment(out, err);
    if (strcmp(how, "file") == 0)
        return credentials_new_file(NULL, out, err);
    if (strncmp(how, "file:", 5) == 0 && how[5] != '\0')
        return credentials_new_file(how + 5, out, err);
    (void) error_set(err, ERROR_USAGE, "unknown source of credentials \"%s\"", how);
    return error_hint(err, "It is one of auto, environment, file, file:PROFILE.");
}

void
credentials_provider_free(CredentialsProvider *p)
{
    if (p == NULL)
        return;
    credentials_reset(&p->cached);
    (void) pthread_cond_destroy(&p->loaded);
    (void) pthread_mutex_destroy(&p->lock);
    p->ops->destroy(p);
}

static bool
credentials_fresh(const CredentialsProvider *p, int64_t early_us)
{
    return p->have_cached &&
           (p->cached.expires_us == 0 || p->cached.expires_us - early_us > clock_wall_us());
}

/* Under the lock: another thread is asking the source; waits for it as long as the deadline allows.
 */
static int
credentials_wait(CredentialsProvider *p, const Deadline *dl, Error *err)
{
    while (p->loading)
    {
        /* in slices, as nobody wakes us when the caller is told to stop */
        int64_t until_ms = clock_monotonic_ms() + MIN(deadline_left_ms(dl), 100);
        struct timespec until = {
            .tv_sec = (time_t) (until_ms / 1000),
            .tv_nsec = (long) (until_ms % 1000) * 1000000,
        };

        (void) pthread_cond_timedwait(&p->loaded, &p->lock, &until);
        if (p->loading && deadline_check(dl, "waiting for S3 credentials", err) < 0)
            return -1;
    }
    return 0;
}

/* Under the lock, which is let go while the source is asked. */
static int
credentials_load(CredentialsProvider *p, const Deadline *dl, Error *err)
{
    AUTO(credentials_reset) Credentials fresh = {.access_key = ""};
    int rc;

    p->loading = true;
    (void) pthread_mutex_unlock(&p->lock);
    rc = p->ops->load(p, dl, &fresh, err);
    (void) pthread_mutex_lock(&p->lock);
    p->loading = false;
    (void) pthread_cond_broadcast(&p->loaded);
    if (rc == 0)
    {
        p->cached = fresh;
        p->have_cached = true;
        return 0;
    }
    /* the source is out of order, but what it gave last has minutes to live */
    if (credentials_fresh(p, 0))
        return 0;
    if (err->kind != ERROR_NOT_FOUND)
        return error_wrap(err, "could not get S3 credentials");
    err->kind = ERROR_DENIED;
    (void) error_wrap(err, "no S3 credentials");
    return error_hint(
        err, "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write ~/.aws/credentials (mode "
             "0600).");
}

int
credentials_get(CredentialsProvider *p, const Deadline *dl, Credentials *out, Error *err)
{
    int rc = 0;

    (void) pthread_mutex_lock(&p->lock);
    while (rc == 0 && !credentials_fresh(p, CREDENTIALS_EARLY_US))
    {
        if (p->loading)
        {
            rc = credentials_wait(p, dl, err);
            continue;
        }
        rc = credentials_load(p, dl, err);
        break;
    }
    if (rc == 0)
        *out = p->cached;
    (void) pthread_mutex_unlock(&p->lock);
    return rc;
}

void
credentials_forget(CredentialsProvider *p)
{
    (void) pthread_mutex_lock(&p->lock);
    credentials_reset(&p->cached);
    p->have_cached = false;
    (void) pthread_mutex_unlock(&p->lock);
}
