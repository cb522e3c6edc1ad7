/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The configuration: the table, the file, the command line over it, and errors that name the line.
 */
#include "common/config.h"

#include <string.h>

#include "common/parse.h"
#include "tap.h"
#include "tempdir.h"

#define BASE "[cluster]\nname = a\n[repository]\nurl = file:///srv/wal\n"
#define BASE_LINES 4

static const ConfigOption *
find_option(const char *section, const char *key)
{
    for (size_t i = 0; i < config_option_count; i++)
    {
        if (strcmp(config_options[i].section, section) == 0 &&
            strcmp(config_options[i].key, key) == 0)
            return &config_options[i];
    }
    return NULL;
}

static int
load(const void *text, size_t len, const ConfigOverrides *overrides, Config **out, Error *err)
{
    *err = (Error){.kind = ERROR_NONE};
    return config_load(tempdir_write("test.conf", text, len), overrides, out, err);
}

static bool
value_is(const Config *cfg, const char *section, const char *key, size_t i, const char *want)
{
    const char *source = NULL;
    const char *got = config_value(cfg, find_option(section, key), i, &source);

    return want == NULL ? got == NULL : got != NULL && strcmp(got, want) == 0;
}

static bool
source_is(const Config *cfg, const char *section, const char *key, size_t i, const char *want)
{
    const char *source = NULL;

    return config_value(cfg, find_option(section, key), i, &source) != NULL &&
           strcmp(source, want) == 0;
}

static void
test_table(void)
{
    for (size_t i = 0; i < config_option_count; i++)
    {
        const ConfigOption *opt = &config_options[i];
        size_t help = strlen(opt->help);
        bool unique = true, grouped = true;

        for (size_t j = 0; j < i; j++)
        {
            unique = unique && (strcmp(opt->section, config_options[j].section) != 0 ||
                                strcmp(opt->key, config_options[j].key) != 0);
            unique = unique && opt->offset != config_options[j].offset;
            grouped = grouped && (strcmp(opt->section, config_options[j].section) != 0 ||
                                  strcmp(opt->section, config_options[i - 1].section) == 0);
        }
        ok(unique && grouped && help > 0 && opt->help[help - 1] == '.' && opt->min <= opt->max,
           "row %s.%s is in order", opt->section, opt->key);
    }
}

static void
test_defaults(void)
{
    AUTO(config_freep) Config *cfg = NULL;
    Error err;

    if (!ok(load(BASE, strlen(BASE), NULL, &cfg, &err) == 0, "required keys are enough"))
    {
        diag("%s", err.msg);
        return;
    }
    ok(strcmp(cfg->cluster.name, "a") == 0 && strcmp(cfg->repository.url, "file:///srv/wal") == 0,
       "they are read");
    ok(strcmp(cfg->cluster.conninfo, "") == 0 && strcmp(cfg->cluster.data, "") == 0 &&
           strcmp(cfg->repository.endpoint, "") == 0 && strcmp(cfg->repository.region, "") == 0 &&
           strcmp(cfg->repository.ca_file, "") == 0 &&
           strcmp(cfg->encryption.identity_file, "") == 0 &&
           strcmp(cfg->encryption.passphrase_file, "") == 0 && strcmp(cfg->stream.http, "") == 0,
       "a text that was not given is empty");
    ok(strcmp(cfg->repository.credentials, "auto") == 0 &&
           strcmp(cfg->compression.method, "lz4") == 0 &&
           strcmp(cfg->stream.slot, "walstream") == 0 &&
           strcmp(cfg->stream.socket, "/run/walstream/walstream.sock") == 0 &&
           strcmp(cfg->restore.spool, "/var/spool/walstream") == 0 &&
           strcmp(cfg->log.level, "info") == 0 && strcmp(cfg->log.format, "text") == 0,
       "texts with a default");
    ok(!cfg->repository.path_style && !cfg->stream.synchronous, "switches are off");
    ok(cfg->stream.flush_interval_ms == 1000 && cfg->stream.workers == 2 &&
           cfg->stream.memory_bytes == UINT64_C(64) << 20 && cfg->stream.max_put_rate == 0 &&
           cfg->restore.prefetch_bytes == UINT64_C(256) << 20,
       "numbers");
    ok(cfg->encryption.recipient_count == 0 && value_is(cfg, "encryption", "recipient", 0, NULL),
       "no recipient");
    ok(value_is(cfg, "stream", "memory", 0, "64MiB") &&
           source_is(cfg, "stream", "memory", 0, "default") &&
           value_is(cfg, "stream", "memory", 1, NULL),
       "config_value of a default");
    ok(strcmp(config_file(cfg), tempdir_name("test.conf")) == 0, "config_file");
}

static void
test_values(void)
{
    static const struct
    {
        const char *label, *text, *section, *key, *want;
    } cases[] = {
        {"plain", "[stream]\nslot = s\n", "stream", "slot", "s"},
        {"no blanks", "[stream]\nslot=s\n", "stream", "slot", "s"},
        {"no line end", "[stream]\nslot=s", "stream", "slot", "s"},
        {"tabs", "[stream]\n\tslot\t=\ts\t\n", "stream", "slot", "s"},
        {"colon", "[stream]\nslot: s\n", "stream", "slot", "s"},
        {"CRLF", "[stream]\r\nslot = s\r\n\r\n", "stream", "slot", "s"},
        {"comment lines", "# a\n[stream]\n; b\n  # c\nslot = s\n", "stream", "slot", "s"},
        {"trailing comment", "[stream]\nslot = s ; x = y\n", "stream", "slot", "s"},
        {"trailing comment with #", "[stream]\nslot = s # x\n", "stream", "slot", "s"},
        {"comment behind a tab", "[stream]\nslot = s\t;x\n", "stream", "slot", "s"},
        {"comment behind a header", "[stream] ; x]\nslot = s\n", "stream", "slot", "s"},
        {"no blank before ;", "[stream]\nslot = s;x#y\n", "stream", "slot", "s;x#y"},
        {"equals sign in the value", "[stream]\nslot = a = b\n", "stream", "slot", "a = b"},
        {"brackets in the value", "[stream]\nslot = [a]\n", "stream", "slot", "[a]"},
        {"quotes are text", "[stream]\nslot = \"a\"\n", "stream", "slot", "\"a\""},
        {"empty", "[stream]\nslot =\n", "stream", "slot", ""},
        {"comment alone", "[stream]\nslot = ; none\n", "stream", "slot", ""},
        {"indented key is no continuation", "[stream]\nsocket = a\n  slot = b\n", "stream", "slot",
         "b"},
        {"section in two parts", "[stream]\nsocket = a\n[log]\n[stream]\nslot = b\n", "stream",
         "slot", "b"},
        {"UTF-8", "[stream]\nslot = \xc3\xa9\n", "stream", "slot", "\xc3\xa9"},
        {"a connection string", "[cluster]\nconninfo = host=/run user='x y' port=1\n", "cluster",
         "conninfo", "host=/run user='x y' port=1"},
        {"a number keeps its text", "[stream]\nmemory = 1GB\n", "stream", "memory", "1GB"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(config_freep) Config *cfg = NULL;
        char text[512];
        Error err;

        (void) snprintf(text, sizeof text, BASE "%s", cases[i].text);

        int rc = load(text, strlen(text), NULL, &cfg, &err);

        if (!ok(rc == 0 && value_is(cfg, cases[i].section, cases[i].key, 0, cases[i].want),
                "value: %s", cases[i].label))
            diag("%s", err.msg);
    }

    AUTO(config_freep) Config *cfg = NULL;
    Error err;

    ok(load("\xef\xbb\xbf" BASE, strlen(BASE) + 3, NULL, &cfg, &err) == 0, "byte order mark");
}

static void
test_numbers(void)
{
    static const struct
    {
        const char *label, *section, *key, *text;
        bool good;
        uint64_t want;
    } cases[] = {
        {"the least", "stream", "workers", "1", true, 1},
        {"the largest", "stream", "workers", "64", true, 64},
        {"below", "stream", "workers", "0", false, 0},
        {"above", "stream", "workers", "65", false, 0},
        {"negative", "stream", "workers", "-1", false, 0},
        {"beyond 64 bits", "stream", "workers", "18446744073709551617", false, 0},
        {"with a unit", "stream", "workers", "2MB", false, 0},
        {"empty", "stream", "workers", "", false, 0},
        {"least memory", "stream", "memory", "24MiB", true, UINT64_C(24) << 20},
        {"a byte less", "stream", "memory", "25165823", false, 0},
        {"above 63 bits", "stream", "memory", "16777215TiB", false, 0},
        {"unknown unit", "stream", "memory", "1 MB", false, 0},
        {"no prefetch", "restore", "prefetch", "0", true, 0},
        {"any rate", "stream", "max-put-rate", "0", true, 0},
        {"rate above", "stream", "max-put-rate", "10001", false, 0},
        {"shortest interval", "stream", "flush-interval", "10ms", true, 10},
        {"longest interval", "stream", "flush-interval", "60min", true, 3600000},
        {"shorter", "stream", "flush-interval", "9ms", false, 0},
        {"longer", "stream", "flush-interval", "3601", false, 0},
        {"no time", "stream", "flush-interval", "soon", false, 0},
        {"on", "stream", "synchronous", "on", true, 1},
        {"TRUE", "repository", "path-style", "TRUE", true, 1},
        {"no switch", "stream", "synchronous", "maybe", false, 0},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(config_freep) Config *cfg = NULL;
        char text[512], where[600], at[32];
        Error err;

        (void) snprintf(
            text, sizeof text, BASE "[%s]\n%s = %s\n", cases[i].section, cases[i].key,
            cases[i].text);
        (void) snprintf(at, sizeof at, "line %d: ", BASE_LINES + 2);
        (void) snprintf(where, sizeof where, "%s %s", tempdir_name("test.conf"), at);

        int rc = load(text, strlen(text), NULL, &cfg, &err);

        if (!cases[i].good)
        {
            ok(rc == -1 && cfg == NULL && err.kind == ERROR_USAGE &&
                   strncmp(err.msg, where, strlen(where)) == 0 &&
                   strstr(err.msg, cases[i].key) != NULL,
               "%s %s: %s", cases[i].key, cases[i].label, err.msg);
            continue;
        }

        const ConfigOption *opt = find_option(cases[i].section, cases[i].key);
        const char *field = rc == 0 ? (const char *) cfg + opt->offset : NULL;
        uint64_t got = UINT64_MAX;
        bool flag;

        if (field != NULL && opt->type == CONFIG_BOOL)
        {
            memcpy(&flag, field, sizeof flag);
            got = flag ? 1 : 0;
        }
        else if (field != NULL)
            memcpy(&got, field, sizeof got);
        ok(rc == 0 && got == cases[i].want, "%s %s", cases[i].key, cases[i].label);
    }
}

/* Each is the whole file; the message is behind the file's name. */
static void
test_errors(void)
{
    static const struct
    {
        const char *label, *text;
        size_t len; /* 0: up to the NUL */
        const char *message, *hint;
    } cases[] = {
        {"unknown key", BASE "[stream]\nworker = 1\n", 0,
         " line 6: unknown key \"worker\" in section [stream]",
         "The keys of [stream] are: slot, flush-interval, synchronous, workers, memory, "
         "max-put-rate, socket, http."},
        {"key of another section", BASE "workers = 1\n", 0,
         " line 5: unknown key \"workers\" in section [repository]",
         "\"workers\" belongs to section [stream]."},
        {"keys are lower case", "[cluster]\nName = a\n", 0,
         " line 2: unknown key \"Name\" in section [cluster]", NULL},
        {"unknown section", "\n\n[streams]\n", 0, " line 3: unknown section [streams]", ""},
        {"empty section name", "[]\n", 0, " line 1: unknown section []", ""},
        {"blanks in a section name", "[ cluster ]\n", 0, " line 1: unknown section [ cluster ]",
         ""},
        {"section cut to a known name",
         "[clusterxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx]\n", 0,
         " line 1: unknown section "
         "[clusterxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx]",
         ""},
        {"second repository", BASE "[repository.other]\nurl = s3://b/p\n", 0,
         " line 5: several repositories are not supported yet by this version",
         "Keep [repository] and remove [repository.other]."},
        {"header without bracket", "[cluster\nname = a\n", 0,
         " line 1: section header without \"]\"", ""},
        {"text behind a header", "[cluster] name = a\n", 0, " line 1: text behind a section header",
         ""},
        {"key before a section", "name = a\n", 0,
         " line 1: key \"name\" stands before the first section", ""},
        {"key given twice", "[cluster]\nname = a\n\nname = b\n", 0,
         " line 4: \"name\" is given a second time, the first is on line 2", ""},
        {"the same value twice", "[cluster]\nname = a\nname = a\n", 0,
         " line 3: \"name\" is given a second time, the first is on line 2", ""},
        {"no equals sign", "[cluster]\nname\n", 0,
         " line 2: this is neither \"key = value\" nor a [section] nor a comment", ""},
        {"equals sign in a comment", "[cluster]\nname ; = a\n", 0,
         " line 2: this is neither \"key = value\" nor a [section] nor a comment", ""},
        {"no key", "[cluster]\n= a\n", 0, " line 2: unknown key \"\" in section [cluster]", NULL},
        {"NUL in a value", "[cluster]\nname = a\0b\n", 21, " line 2: control character 0x00", ""},
        {"NUL alone", "\0", 1, " line 1: control character 0x00", ""},
        {"NUL behind the required", BASE "\0[nonsense", sizeof(BASE) + 9,
         " line 5: control character 0x00", ""},
        {"carriage return inside", "[cluster]\nname = a\rb\n", 0, " line 2: control character 0x0D",
         ""},
        {"escape", "[cluster]\nname = \x1b[0m\n", 0, " line 2: control character 0x1B", ""},
        {"required text empty", "[cluster]\nname =\n", 0, " line 2: \"name\" is empty", ""},
        {"recipient empty", "[encryption]\nrecipient = ; later\n", 0,
         " line 2: \"recipient\" is empty", ""},
        {"no choice", "[log]\nlevel = loud\n", 0,
         " line 2: \"loud\" is not allowed for \"level\", which must be one of: debug info warning "
         "error",
         ""},
        {"part of a choice", "[log]\nformat = tex\n", 0,
         " line 2: \"tex\" is not allowed for \"format\", which must be one of: text json", ""},
        {"two choices", "[log]\nformat = text json\n", 0,
         " line 2: \"text json\" is not allowed for \"format\", which must be one of: text json",
         ""},
        {"range of bytes", "[stream]\nmemory = 1MB\n", 0,
         " line 2: \"1MB\" is not allowed for \"memory\", which must be from 24MiB to 1TiB", ""},
        {"range of a time", "[stream]\nflush-interval = 1ms\n", 0,
         " line 2: \"1ms\" is not allowed for \"flush-interval\", which must be from 10ms to 1h",
         ""},
        {"empty file", "", 0, ": key \"name\" in section [cluster] is required", NULL},
        {"no repository", "[cluster]\nname = a\n", 0,
         ": key \"url\" in section [repository] is required", NULL},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(config_freep) Config *cfg = NULL;
        size_t len = cases[i].len != 0 ? cases[i].len : strlen(cases[i].text);
        char want[1200];
        Error err;

        (void) snprintf(want, sizeof want, "%s%s", tempdir_name("test.conf"), cases[i].message);

        int rc = load(cases[i].text, len, NULL, &cfg, &err);

        if (!ok(rc == -1 && cfg == NULL && err.kind == ERROR_USAGE && strcmp(err.msg, want) == 0 &&
                    (cases[i].hint == NULL ? err.hint[0] != '\0'
                                           : strcmp(err.hint, cases[i].hint) == 0),
                "error: %s", cases[i].label))
            diag("%d %s; %s", rc, err.msg, err.hint);
    }
}

/* A file of BASE and one line of so many bytes, "slot = xxx...". */
static void
test_long_lines(void)
{
    static const struct
    {
        size_t len;
        bool good;
    } cases[] = {
        {199, true},   {200, true},   {201, true},   {4095, true},  {4096, true},    {4097, false},
        {4098, false}, {4099, false}, {4100, false}, {8193, false}, {100000, false},
    };
    static char text[200000];
    char source[600];
    Error err;

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(config_freep) Config *cfg = NULL;
        size_t used = (size_t) snprintf(text, sizeof text, BASE "[stream]\nslot = ");

        memset(text + used, 'x', cases[i].len - 7);
        used += cases[i].len - 7;
        memcpy(text + used, "\nhttp = end\n", 12);

        int rc = load(text, used + 12, NULL, &cfg, &err);

        if (cases[i].good)
            ok(rc == 0 && strlen(cfg->stream.slot) == cases[i].len - 7 &&
                   strcmp(cfg->stream.http, "end") == 0,
               "a line of %zu bytes", cases[i].len);
        else
            ok(rc == -1 && err.kind == ERROR_USAGE &&
                   strstr(err.msg, " line 6: line is longer than 4096 bytes") != NULL,
               "a line of %zu bytes: %s", cases[i].len, err.msg);
    }

    /* a message does not lose file and line because of a long key */
    AUTO(config_freep) Config *cfg = NULL;

    (void) snprintf(text, sizeof text, "[stream]\n%04000d = 1\n", 1);
    ok(load(text, strlen(text), NULL, &cfg, &err) == -1 && strstr(err.msg, " line 2: ") != NULL,
       "a key of 4000 bytes");
    memset(text, '\n', sizeof text);
    (void) snprintf(text + 150000, 1000, BASE);
    (void) snprintf(source, sizeof source, "%s line 150002", tempdir_name("test.conf"));
    ok(load(text, 150000 + strlen(BASE), NULL, &cfg, &err) == 0 &&
           source_is(cfg, "cluster", "name", 0, source),
       "many lines");

    static char huge[300000];
    AUTO(config_freep) Config *none = NULL;

    memset(huge, '\n', sizeof huge);
    ok(load(huge, sizeof huge, NULL, &none, &err) == -1 && err.kind == ERROR_USAGE &&
           strstr(err.msg, "larger than") != NULL,
       "a huge file: %s", err.msg);
}

static void
test_recipients(void)
{
    AUTO(config_freep) Config *cfg = NULL;
    char text[2000], source[600];
    size_t used;
    Error err;

    ok(load(
           BASE "[encryption]\nrecipient = age1a\n\nrecipient = age1b ; x\n", strlen(BASE) + 54,
           NULL, &cfg, &err) == 0 &&
           cfg->encryption.recipient_count == 2 &&
           strcmp(cfg->encryption.recipients[0], "age1a") == 0 &&
           strcmp(cfg->encryption.recipients[1], "age1b") == 0 &&
           value_is(cfg, "encryption", "recipient", 1, "age1b") &&
           value_is(cfg, "encryption", "recipient", 2, NULL),
       "recipients collect in order");
    (void) snprintf(source, sizeof source, "%s line 8", tempdir_name("test.conf"));
    ok(source_is(cfg, "encryption", "recipient", 1, source), "each has its line");

    for (int count = CONFIG_MAX_RECIPIENTS; count <= CONFIG_MAX_RECIPIENTS + 1; count++)
    {
        AUTO(config_freep) Config *many = NULL;

        used = (size_t) snprintf(text, sizeof text, BASE "[encryption]\n");
        for (int i = 0; i < count; i++)
            used += (size_t) snprintf(text + used, sizeof text - used, "recipient = age1%d\n", i);

        int rc = load(text, used, NULL, &many, &err);

        if (count == CONFIG_MAX_RECIPIENTS)
            ok(rc == 0 && many->encryption.recipient_count == CONFIG_MAX_RECIPIENTS,
               "%d recipients", count);
        else
            ok(rc == -1 && err.kind == ERROR_USAGE && strstr(err.msg, " line 22: ") != NULL,
               "%d recipients: %s", count, err.msg);
    }
}

static void
test_overrides(void)
{
    static const struct
    {
        const char *label;
        const char *args[4];
        const char *section, *key;
        const char *want[3];
    } good[] = {
        {"beats the file", {"--cluster.name=b"}, "cluster", "name", {"b"}},
        {"beats a default", {"--stream.memory=1GiB"}, "stream", "memory", {"1GiB"}},
        {"the last one counts",
         {"--log.level=debug", "--log.level=error"},
         "log",
         "level",
         {"error"}},
        {"equals sign in the value",
         {"--cluster.conninfo=host=x port=1"},
         "cluster",
         "conninfo",
         {"host=x port=1"}},
        {"no comment", {"--stream.slot=a ; b # c"}, "stream", "slot", {"a ; b # c"}},
        {"empty", {"--stream.slot="}, "stream", "slot", {""}},
        {"replaces the list",
         {"--encryption.recipient=age1c"},
         "encryption",
         "recipient",
         {"age1c"}},
        {"collects a list",
         {"--encryption.recipient=age1c", "--encryption.recipient=age1d"},
         "encryption",
         "recipient",
         {"age1c", "age1d"}},
    };
    static const struct
    {
        const char *label, *arg, *message;
    } bad[] = {
        {"unknown key", "--stream.worker=1",
         "command line: unknown key \"worker\" in section [stream]"},
        {"out of range", "--stream.workers=0",
         "command line: \"0\" is not allowed for \"workers\", which must be from 1 to 64"},
        {"second repository", "--repository.b.url=x",
         "command line: unknown key \"b.url\" in section [repository]"},
        {"required text empty", "--cluster.name=", "command line: \"name\" is empty"},
        {"line end", "--cluster.name=a\nb",
         "command line: control character in the value of \"name\""},
        {"no override", "--timeout=5", "command line: \"--timeout=5\" is not --section.key=value"},
    };
    static const char text[] = BASE "[encryption]\nrecipient = age1a\nrecipient = age1b\n";
    Error err;

    for (size_t i = 0; i < ARRAY_COUNT(good); i++)
    {
        AUTO(config_freep) Config *cfg = NULL;
        ConfigOverrides ov = {.args = good[i].args};

        while (ov.count < 4 && good[i].args[ov.count] != NULL)
            ov.count++;

        bool same = load(text, strlen(text), &ov, &cfg, &err) == 0;

        for (size_t j = 0; j < 3 && same; j++)
        {
            same = value_is(cfg, good[i].section, good[i].key, j, good[i].want[j]) &&
                   (good[i].want[j] == NULL ||
                    source_is(cfg, good[i].section, good[i].key, j, "command line"));
        }
        ok(same, "override %s", good[i].label);
    }
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
    {
        AUTO(config_freep) Config *cfg = NULL;
        ConfigOverrides ov = {.args = &bad[i].arg, .count = 1};

        ok(load(text, strlen(text), &ov, &cfg, &err) == -1 && cfg == NULL &&
               err.kind == ERROR_USAGE && strcmp(err.msg, bad[i].message) == 0,
           "override %s: %s", bad[i].label, err.msg);
    }

    AUTO(config_freep) Config *cfg = NULL;
    static const char *const required[] = {"--cluster.name=x", "--repository.url=y"};
    ConfigOverrides ov = {.args = required, .count = 2};

    ok(load("", 0, &ov, &cfg, &err) == 0 && strcmp(cfg->repository.url, "y") == 0,
       "the command line can give what is required");
}

static void
test_is_override(void)
{
    static const struct
    {
        const char *arg;
        bool want;
    } cases[] = {
        {"--stream.workers=1", true},
        {"--stream.nonsense=1", true},
        {"--repository.b.url=x", true},
        {"--stream.workers=", true},
        {"--stream.workers", false},
        {"-stream.workers=1", false},
        {"stream.workers=1", false},
        {"--streams.workers=1", false},
        {"--timeout=1.5", false},
        {"--config=stream.conf", false},
        {"--", false},
        {"", false},
        {"--.workers=1", false},
        {"--stream=a.b", false},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        ok(config_is_override(cases[i].arg) == cases[i].want, "\"%s\" is %san override",
           cases[i].arg, cases[i].want ? "" : "not ");
}

static void
test_which_file(void)
{
    AUTO(config_freep) Config *cfg = NULL;
    AUTO(config_freep) Config *other = NULL;
    AUTO(config_freep) Config *none = NULL;
    const char *a = tempdir_write("a.conf", BASE, strlen(BASE));
    const char *b = tempdir_write("b.conf", BASE, strlen(BASE));
    Error err;

    (void) setenv("WALSTREAM_CONFIG", b, 1);
    ok(config_load(a, NULL, &cfg, &err) == 0 && strcmp(config_file(cfg), a) == 0,
       "the argument beats the environment");
    ok(config_load(NULL, NULL, &other, &err) == 0 && strcmp(config_file(other), b) == 0,
       "the environment beats the default");
    (void) setenv("WALSTREAM_CONFIG", tempdir_name("missing"), 1);
    ok(config_load(NULL, NULL, &none, &err) == -1 && err.kind == ERROR_USAGE &&
           strstr(err.msg, "missing") != NULL && strstr(err.hint, "--config") != NULL,
       "a missing file: %s", err.msg);
    (void) setenv("WALSTREAM_CONFIG", "", 1);
    if (access("/etc/walstream/walstream.conf", F_OK) != 0)
        ok(config_load(NULL, NULL, &none, &err) == -1 && err.kind == ERROR_USAGE &&
               strstr(err.msg, "/etc/walstream/walstream.conf") != NULL && err.hint[0] != '\0',
           "an empty variable is none, and a missing default file an error: %s", err.msg);
    (void) unsetenv("WALSTREAM_CONFIG");
    ok(config_load(tempdir_path, NULL, &none, &err) == -1 && err.kind == ERROR_USAGE,
       "a directory: %s", err.msg);
    config_free(NULL);
}

static void
test_keep(void)
{
    static const struct
    {
        const char *label, *key, *text;
        int rc;
        ConfigKeep want;
    } cases[] = {
        {"days", "full", "30d", 0, {.ms = INT64_C(30) * 86400000}},
        {"weeks", "weekly", "26w", 0, {.ms = INT64_C(26) * 7 * 86400000}},
        {"years of 365 days", "monthly", "1y", 0, {.ms = INT64_C(365) * 86400000}},
        {"a number counts", "full", "7", 0, {.count = 7}},
        {"empty is no rule", "incremental", "", 0, {0}},
        {"nothing would be kept", "full", "0", -1, {0}},
        {"nothing would be kept either", "full", "0d", -1, {0}},
        {"pitr is a time", "pitr", "7", -1, {0}},
        {"no unit that we know", "yearly", "2months", -1, {0}},
        {"a sign", "full", "-1", -1, {0}},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        AUTO(config_freep) Config *cfg = NULL;
        char text[200];
        Error err = {0};
        int len = snprintf(
            text, sizeof text, "%s\n[retention]\n%s = %s\n", BASE, cases[i].key, cases[i].text);
        int rc = load(text, (size_t) len, NULL, &cfg, &err);
        const ConfigOption *opt = config_options;

        while (strcmp(opt->section, "retention") != 0 || strcmp(opt->key, cases[i].key) != 0)
            opt++;

        const ConfigKeep *got = rc < 0 ? NULL : (const void *) ((const char *) cfg + opt->offset);

        ok(rc == cases[i].rc && (rc == 0 || err.kind == ERROR_USAGE) &&
               (got == NULL || (got->ms == cases[i].want.ms && got->count == cases[i].want.count)),
           "retention: %s %s", cases[i].label, err.msg);
    }
}

/* The file that people begin with; tests run in the top of the tree. */
static void
test_example(void)
{
    AUTO(config_freep) Config *cfg = NULL;
    Error err = {.kind = ERROR_NONE};

    ok(config_load("doc/walstream.conf.example", NULL, &cfg, &err) == 0,
       "the example is read without an error %s", err.msg);
}

/* What is printed in messages and the man page reads back as the same number. */
static void
test_format_number(void)
{
    static const struct
    {
        ConfigType type;
        int64_t value;
        const char *want;
    } cases[] = {
        {CONFIG_INTEGER, 1024, "1024"},    {CONFIG_BYTES, 0, "0"},
        {CONFIG_BYTES, 1023, "1023"},      {CONFIG_BYTES, 1536, "1536"},
        {CONFIG_BYTES, 24 << 20, "24MiB"}, {CONFIG_BYTES, INT64_C(1) << 40, "1TiB"},
        {CONFIG_DURATION, 10, "10ms"},     {CONFIG_DURATION, 90000, "90s"},
        {CONFIG_DURATION, 120000, "2min"}, {CONFIG_DURATION, 3600000, "1h"},
        {CONFIG_DURATION, 86400000, "1d"}, {CONFIG_DURATION, 0, "0"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        char buf[32];
        uint64_t bytes = 0;
        int64_t ms = 0;
        bool back = cases[i].type == CONFIG_DURATION
                        ? parse_duration_ms(cases[i].want, &ms) && ms == cases[i].value
                        : parse_bytes(cases[i].want, &bytes) && bytes == (uint64_t) cases[i].value;

        ok(strcmp(
               config_format_number(cases[i].type, cases[i].value, buf, sizeof buf),
               cases[i].want) == 0 &&
               back,
           "%lld is %s", (long long) cases[i].value, cases[i].want);
    }
}

int
main(void)
{
    (void) tempdir_make();
    (void) unsetenv("WALSTREAM_CONFIG");
    test_table();
    test_defaults();
    test_values();
    test_numbers();
    test_errors();
    test_long_lines();
    test_recipients();
    test_overrides();
    test_is_override();
    test_which_file();
    test_keep();
    test_example();
    test_format_number();
    return done_testing();
}
