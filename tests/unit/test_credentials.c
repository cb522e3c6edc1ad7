/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/strbuf.h"
#include "store/credentials.h"
#include "tap.h"

/* ---- the file's text ---- */

#define KEYS "aws_access_key_id = AK\naws_secret_access_key = SK\n"

static const struct
{
    const char *label, *text, *profile;
    ErrorKind kind;
    const char *access, *secret, *token;
} parse_cases[] = {
    {"one profile", "[default]\n" KEYS, "default", ERROR_NONE, "AK", "SK", ""},
    {"no newline at the end", "[default]\naws_access_key_id=AK\naws_secret_access_key=SK",
     "default", ERROR_NONE, "AK", "SK", ""},
    {"Windows line ends", "[default]\r\naws_access_key_id=AK\r\naws_secret_access_key=SK\r\n",
     "default", ERROR_NONE, "AK", "SK", ""},
    {"with a token", "[default]\n" KEYS "aws_session_token = T/+=\n", "default", ERROR_NONE, "AK",
     "SK", "T/+="},
    {"the other profile", "[a]\naws_access_key_id=x\n[b]\n" KEYS "[c]\naws_access_key_id=y\n", "b",
     ERROR_NONE, "AK", "SK", ""},
    {"[profile b]", "[profile b]\n" KEYS, "b", ERROR_NONE, "AK", "SK", ""},
    {"a name that begins another", "[default2]\n" KEYS, "default", ERROR_NOT_FOUND, NULL, NULL,
     NULL},
    {"comments, blanks, other settings",
     "# c\n; c\n\n[ default ]\nregion = x\n  aws_access_key_id  =  AK  "
     "\n\tAWS_SECRET_ACCESS_KEY=SK\n",
     "default", ERROR_NONE, "AK", "SK", ""},
    {"nested settings are not ours",
     "[default]\n" KEYS "s3 =\n  aws_access_key_id = NO\n  x = 1\nregion = y\n", "default",
     ERROR_NONE, "AK", "SK", ""},
    {"a '=' in the secret", "[default]\naws_access_key_id=AK\naws_secret_access_key=S=K=\n",
     "default", ERROR_NONE, "AK", "S=K=", ""},
    {"garbage in another profile", "[x]\ngarbage\n[default]\n" KEYS, "default", ERROR_NONE, "AK",
     "SK", ""},
    {"empty file", "", "default", ERROR_NOT_FOUND, NULL, NULL, NULL},
    {"profile without keys", "[default]\nregion = x\n", "default", ERROR_NOT_FOUND, NULL, NULL,
     NULL},
    {"only the access key", "[default]\naws_access_key_id=AK\n", "default", ERROR_DENIED, NULL,
     NULL, NULL},
    {"only the secret", "[default]\naws_secret_access_key=SK\n", "default", ERROR_DENIED, NULL,
     NULL, NULL},
    {"garbage", "[default]\ngarbage\n", "default", ERROR_CORRUPT, NULL, NULL, NULL},
    {"a section that does not end", "[default\n" KEYS, "default", ERROR_CORRUPT, NULL, NULL, NULL},
    {"a blank in a key", "[default]\naws_access_key_id=A K\n", "default", ERROR_CORRUPT, NULL, NULL,
     NULL},
    {"a control character in a key", "[default]\naws_access_key_id=A\001K\n", "default",
     ERROR_CORRUPT, NULL, NULL, NULL},
};

static void
test_parse(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(parse_cases); i++)
    {
        AUTO(credentials_reset) Credentials got = {.access_key = ""};
        Error err = {.kind = ERROR_NONE};
        const char *text = parse_cases[i].text;
        int rc = credentials_parse_file(text, strlen(text), parse_cases[i].profile, &got, &err);

        if (parse_cases[i].kind != ERROR_NONE)
        {
            if (!ok(rc < 0 && err.kind == parse_cases[i].kind, "parse: %s: refused",
                    parse_cases[i].label))
                diag("%s: %s", error_kind_name(err.kind), err.msg);
        }
        else if (!ok(rc == 0 && strcmp(got.access_key, parse_cases[i].access) == 0 &&
                         strcmp(got.secret_key, parse_cases[i].secret) == 0 &&
                         strcmp(got.session_token, parse_cases[i].token) == 0 &&
                         got.expires_us == 0,
                     "parse: %s", parse_cases[i].label))
            diag("%s", err.msg);
    }
}

static void
test_parse_long(void)
{
    AUTO(credentials_reset) Credentials got = {.access_key = ""};
    AUTO(strbuf_reset) StrBuf text;
    Error err = {.kind = ERROR_NONE};

    strbuf_init(&text, 100000);
    strbuf_puts(&text, "[default]\n" KEYS "aws_session_token=");
    for (size_t i = 0; i < sizeof got.session_token - 1; i++)
        strbuf_putc(&text, 't');
    ok(credentials_parse_file(strbuf_text(&text), text.len, "default", &got, &err) == 0 &&
           strlen(got.session_token) == sizeof got.session_token - 1,
       "parse: the longest token");
    strbuf_putc(&text, 't');
    ok(credentials_parse_file(strbuf_text(&text), text.len, "default", &got, &err) < 0 &&
           err.kind == ERROR_CORRUPT && strstr(err.msg, "line 4") != NULL,
       "parse: one more is refused, with the line's number");
    ok(got.access_key[0] == '\0' && got.secret_key[0] == '\0',
       "parse: nothing is left of a refusal");
    ok(strstr(err.msg, "tttt") == NULL, "parse: the message does not tell the value");
}

/* ---- providers ---- */

static char folder[] = "/tmp/test_credentials.XXXXXX";

static void
clear_environment(void)
{
    static const char *const names[] = {
        "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY",       "AWS_SESSION_TOKEN",
        "AWS_PROFILE",       "AWS_SHARED_CREDENTIALS_FILE",
    };

    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
        (void) unsetenv(names[i]);
    (void) setenv("HOME", folder, 1);
}

/* "" leaves a variable unset, which then is one that the case does not name. */
typedef struct Variable
{
    const char *name, *value;
} Variable;

#define FILE_TEXT                                                                                  \
    "[default]\naws_access_key_id=FA\naws_secret_access_key=FS\n"                                  \
    "[p]\naws_access_key_id=PA\naws_secret_access_key=PS\n"

static const struct
{
    const char *label, *how;
    Variable variables[4];
    const char *file; /* NULL: none */
    mode_t mode;
    ErrorKind kind;
    const char *access, *token;
} provider_cases[] = {
    {"environment",
     "environment",
     {{"AWS_ACCESS_KEY_ID", "EA"}, {"AWS_SECRET_ACCESS_KEY", "ES"}, {"AWS_SESSION_TOKEN", "ET"}},
     NULL,
     0,
     ERROR_NONE,
     "EA",
     "ET"},
    {"environment: nothing",
     "environment",
     {{NULL, NULL}},
     FILE_TEXT,
     0600,
     ERROR_DENIED,
     NULL,
     NULL},
    {"environment: half",
     "environment",
     {{"AWS_ACCESS_KEY_ID", "EA"}},
     NULL,
     0,
     ERROR_DENIED,
     NULL,
     NULL},
    {"environment: a line feed in it",
     "environment",
     {{"AWS_ACCESS_KEY_ID", "EA\nx: y"}, {"AWS_SECRET_ACCESS_KEY", "ES"}},
     NULL,
     0,
     ERROR_DENIED,
     NULL,
     NULL},
    {"file", "file", {{NULL, NULL}}, FILE_TEXT, 0600, ERROR_NONE, "FA", ""},
    {"file: AWS_PROFILE", "file", {{"AWS_PROFILE", "p"}}, FILE_TEXT, 0600, ERROR_NONE, "PA", ""},
    {"file: a profile of its own",
     "file:p",
     {{"AWS_PROFILE", "q"}},
     FILE_TEXT,
     0400,
     ERROR_NONE,
     "PA",
     ""},
    {"file: no such profile", "file:q", {{NULL, NULL}}, FILE_TEXT, 0600, ERROR_DENIED, NULL, NULL},
    {"file: missing", "file", {{NULL, NULL}}, NULL, 0, ERROR_DENIED, NULL, NULL},
    {"file: others can read it", "file", {{NULL, NULL}}, FILE_TEXT, 0604, ERROR_DENIED, NULL, NULL},
    {"file: others can write it",
     "file",
     {{NULL, NULL}},
     FILE_TEXT,
     0602,
     ERROR_DENIED,
     NULL,
     NULL},
    {"file: garbage", "file", {{NULL, NULL}}, "[default]\nxyz\n", 0600, ERROR_DENIED, NULL, NULL},
    {"file: a folder",
     "file",
     {{"AWS_SHARED_CREDENTIALS_FILE", "/"}},
     NULL,
     0,
     ERROR_DENIED,
     NULL,
     NULL},
    {"auto: the environment is first",
     "auto",
     {{"AWS_ACCESS_KEY_ID", "EA"}, {"AWS_SECRET_ACCESS_KEY", "ES"}},
     FILE_TEXT,
     0600,
     ERROR_NONE,
     "EA",
     ""},
    {"auto: the file is next", "auto", {{NULL, NULL}}, FILE_TEXT, 0600, ERROR_NONE, "FA", ""},
    {"auto: half of the environment is an error",
     "auto",
     {{"AWS_ACCESS_KEY_ID", "EA"}},
     FILE_TEXT,
     0600,
     ERROR_DENIED,
     NULL,
     NULL},
    {"auto: an open file is an error",
     "auto",
     {{NULL, NULL}},
     FILE_TEXT,
     0644,
     ERROR_DENIED,
     NULL,
     NULL},
    {"auto: nobody has any", "auto", {{NULL, NULL}}, NULL, 0, ERROR_DENIED, NULL, NULL},
    {"an empty variable is none",
     "auto",
     {{"AWS_ACCESS_KEY_ID", ""}, {"AWS_SECRET_ACCESS_KEY", ""}},
     FILE_TEXT,
     0600,
     ERROR_NONE,
     "FA",
     ""},
};

static void
write_file(const char *text, mode_t mode)
{
    char path[256];
    Error err;

    (void) snprintf(path, sizeof path, "%s/.aws", folder);
    (void) mkdir(path, 0700);
    (void) snprintf(path, sizeof path, "%s/.aws/credentials", folder);
    (void) unlink(path);
    if (text == NULL)
        return;

    AUTO(fd_close) int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);

    if (fd < 0 || fs_write_all(fd, text, strlen(text), path, &err) < 0 || fchmod(fd, mode) < 0)
        ok(false, "could not write %s", path);
}

static void
test_providers(void)
{
    Deadline dl = deadline_after_ms(300000, NULL);

    for (size_t i = 0; i < ARRAY_COUNT(provider_cases); i++)
    {
        AUTO(credentials_provider_freep) CredentialsProvider *p = NULL;
        AUTO(credentials_reset) Credentials got = {.access_key = ""};
        Error err = {.kind = ERROR_NONE};
        int rc;

        clear_environment();
        for (const Variable *v = provider_cases[i].variables; v->name != NULL; v++)
            (void) setenv(v->name, v->value, 1);
        write_file(provider_cases[i].file, provider_cases[i].mode);
        if (!ok(credentials_provider_new(provider_cases[i].how, &p, &err) == 0, "%s: made",
                provider_cases[i].label))
            continue;
        rc = credentials_get(p, &dl, &got, &err);
        if (provider_cases[i].kind != ERROR_NONE)
        {
            if (!ok(rc < 0 && err.kind == provider_cases[i].kind, "%s: refused",
                    provider_cases[i].label))
                diag("%s: %s", error_kind_name(err.kind), err.msg);
        }
        else if (!ok(rc == 0 && strcmp(got.access_key, provider_cases[i].access) == 0 &&
                         strcmp(got.session_token, provider_cases[i].token) == 0,
                     "%s", provider_cases[i].label))
            diag("%s: %s", error_kind_name(err.kind), err.msg);
    }
}

static void
test_unknown(void)
{
    static const char *const texts[] = {"", "vault", "file:", "Environment", "auto "};

    for (size_t i = 0; i < ARRAY_COUNT(texts); i++)
    {
        CredentialsProvider *p = NULL;
        Error err = {.kind = ERROR_NONE};

        ok(credentials_provider_new(texts[i], &p, &err) < 0 && err.kind == ERROR_USAGE &&
               err.hint[0] != '\0' && p == NULL,
           "source \"%s\" is refused", texts[i]);
    }
}

/* Rotated keys are read again when the old ones were refused, and not before. */
static void
test_forget(void)
{
    AUTO(credentials_provider_freep) CredentialsProvider *p = NULL;
    Credentials got;
    Deadline dl = deadline_after_ms(300000, NULL);
    Error err = {.kind = ERROR_NONE};

    clear_environment();
    write_file(FILE_TEXT, 0600);
    if (!ok(credentials_provider_new("auto", &p, &err) == 0 &&
                credentials_get(p, &dl, &got, &err) == 0,
            "forget: first"))
        return;
    write_file("[default]\naws_access_key_id=NA\naws_secret_access_key=NS\n", 0600);
    ok(credentials_get(p, &dl, &got, &err) == 0 && strcmp(got.access_key, "FA") == 0,
       "forget: they are cached");
    credentials_forget(p);
    ok(credentials_get(p, &dl, &got, &err) == 0 && strcmp(got.access_key, "NA") == 0,
       "forget: then they are read again");
    credentials_forget(p);
    write_file(NULL, 0);
    (void) setenv("AWS_ACCESS_KEY_ID", "EA", 1);
    (void) setenv("AWS_SECRET_ACCESS_KEY", "ES", 1);
    ok(credentials_get(p, &dl, &got, &err) == 0 && strcmp(got.access_key, "EA") == 0,
       "forget: when the chosen source has none any more, all are asked");
}

/* ---- a provider whose credentials expire ---- */

typedef struct Expiring
{
    CredentialsProvider base;
    int64_t life_s;
    atomic_int loads;
    bool broken;
    atomic_bool hold; /* the answer does not come while it is set */
} Expiring;

static int
expiring_load(CredentialsProvider *p, const Deadline *dl UNUSED, Credentials *out, Error *err)
{
    Expiring *e = (Expiring *) (void *) p;

    int loads = atomic_fetch_add(&e->loads, 1) + 1;

    while (atomic_load(&e->hold))
        clock_sleep_ms(1);
    if (e->broken)
        return error_set(err, ERROR_TRANSIENT, "out of order");
    (void) snprintf(out->access_key, sizeof out->access_key, "A%d", loads);
    (void) snprintf(out->secret_key, sizeof out->secret_key, "S");
    out->expires_us = e->life_s == 0 ? 0 : clock_wall_us() + e->life_s * 1000000;
    return 0;
}

static void
expiring_destroy(CredentialsProvider *p)
{
    (void) p;
}

static const CredentialsOps expiring_ops = {
    .name = "expiring",
    .load = expiring_load,
    .destroy = expiring_destroy,
};

static const struct
{
    const char *label;
    int64_t life_s;
    bool break_it;
    const char *second; /* access key of the second get; NULL: it fails */
    int loads;
} expiry_cases[] = {
    {"never", 0, false, "A1", 1},
    {"in an hour", 3600, false, "A1", 1},
    {"soon: new ones in time", 240, false, "A2", 2},
    {"soon, and the source is out of order: the old ones do", 240, true, "A1", 2},
    {"past, and the source is out of order", -1, true, NULL, 2},
};

static void
test_expiry(void)
{
    Deadline dl = deadline_after_ms(300000, NULL);

    for (size_t i = 0; i < ARRAY_COUNT(expiry_cases); i++)
    {
        Expiring e = {.life_s = expiry_cases[i].life_s};
        Credentials got;
        Error err = {.kind = ERROR_NONE};
        int rc;

        credentials_provider_init(&e.base, &expiring_ops);
        if (!ok(credentials_get(&e.base, &dl, &got, &err) == 0 && strcmp(got.access_key, "A1") == 0,
                "expiry: %s: first", expiry_cases[i].label))
            continue;
        e.broken = expiry_cases[i].break_it;
        rc = credentials_get(&e.base, &dl, &got, &err);
        if (expiry_cases[i].second == NULL)
            ok(rc < 0 && err.kind == ERROR_TRANSIENT, "expiry: %s", expiry_cases[i].label);
        else
            ok(rc == 0 && strcmp(got.access_key, expiry_cases[i].second) == 0, "expiry: %s",
               expiry_cases[i].label);
        ok(e.loads == expiry_cases[i].loads, "expiry: %s: loads", expiry_cases[i].label);
        credentials_provider_free(&e.base);
    }
}

/* ---- threads ---- */

typedef struct Waiter
{
    Expiring *source;
    int rc;
    Error err;
} Waiter;

static void *
waiter_main(void *arg)
{
    Waiter *w = arg;
    Credentials got;
    Deadline dl = deadline_after_ms(300000, NULL);

    w->rc = credentials_get(&w->source->base, &dl, &got, &w->err);
    return NULL;
}

static void
test_threads(void)
{
    Expiring e = {.life_s = 0, .hold = true};
    Waiter waiters[8];
    pthread_t ids[ARRAY_COUNT(waiters)];
    Credentials got;
    Error err = {.kind = ERROR_NONE};
    int good = 0;

    credentials_provider_init(&e.base, &expiring_ops);
    for (size_t i = 0; i < ARRAY_COUNT(waiters); i++)
    {
        waiters[i] = (Waiter){.source = &e};
        (void) pthread_create(&ids[i], NULL, waiter_main, &waiters[i]);
    }
    for (int i = 0; i < 120000 && atomic_load(&e.loads) == 0; i++)
        clock_sleep_ms(1);

    Deadline dl = deadline_after_ms(50, NULL);

    ok(credentials_get(&e.base, &dl, &got, &err) < 0 && err.kind == ERROR_TIMEOUT &&
           atomic_load(&e.loads) == 1,
       "who waits for another thread's question stops at the deadline");
    atomic_store(&e.hold, false);
    for (size_t i = 0; i < ARRAY_COUNT(waiters); i++)
    {
        (void) pthread_join(ids[i], NULL);
        good += waiters[i].rc == 0;
    }
    ok(good == (int) ARRAY_COUNT(waiters) && e.loads == 1, "one question serves all who wait");
    credentials_provider_free(&e.base);
}

int
main(void)
{
    char path[256];

    if (mkdtemp(folder) == NULL)
        return 1;
    test_parse();
    test_parse_long();
    test_providers();
    test_unknown();
    test_forget();
    test_expiry();
    test_threads();

    write_file(NULL, 0);
    (void) snprintf(path, sizeof path, "%s/.aws", folder);
    (void) rmdir(path);
    (void) rmdir(folder);
    return done_testing();
}
