/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The configuration; see config.h. inih splits the lines. It sees them through a reader of ours
 * that counts them, checks their length and their section headers, and takes leading blanks away,
 * so that inih never joins a line to the one before.
 */
#include "common/config.h"

#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fs.h"
#include "common/parse.h"

#define CONFIG_DEFAULT_FILE "/etc/walstream/walstream.conf"
#define CONFIG_MAX_FILE_BYTES 262144
#define CONFIG_MAX_LINE_BYTES 4096

#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)
#define SECOND INT64_C(1000)
#define HOUR (3600 * SECOND)

#define TEXT(section, key, field, default_text, help)                                              \
    {                                                                                              \
        section, key, CONFIG_TEXT, default_text, 0, 0, offsetof(Config, field), false, help, NULL  \
    }

#define KEEP(key, counts, help)                                                                    \
    {                                                                                              \
        "retention", #key, CONFIG_KEEP, "", 0, counts, offsetof(Config, retention.key), false,     \
            help, NULL                                                                             \
    }

const ConfigOption config_options[] = {
    TEXT(
        "cluster", "name", cluster.name, NULL,
        "Name of the cluster: the top folder in the repository."),
    TEXT(
        "cluster", "conninfo", cluster.conninfo, "",
        "Connection string of the PostgreSQL server, as libpq takes it."),
    TEXT(
        "cluster", "data", cluster.data, "",
        "Data directory of the server, where this host can read it."),
    TEXT(
        "repository", "url", repository.url, NULL,
        "Place of the repository: s3://BUCKET/PREFIX or file:///DIRECTORY."),
    TEXT(
        "repository", "endpoint", repository.endpoint, "",
        "Address of an S3-compatible store, https://HOST[:PORT] or http://HOST[:PORT]; empty for "
        "Amazon S3."),
    TEXT("repository", "region", repository.region, "", "Region of the bucket; empty: us-east-1."),
    {"repository", "path-style", CONFIG_BOOL, "off", 0, 0, offsetof(Config, repository.path_style),
     false, "Name the bucket in the path of the URL and not in the host name.", NULL},
    TEXT(
        "repository", "ca-file", repository.ca_file, "",
        "Certificates in PEM form that may have signed the store's; empty: those of the system."),
    TEXT(
        "repository", "credentials", repository.credentials, "auto",
        "Where the credentials of the store come from: auto, environment or file[:PROFILE]."),
    TEXT(
        "compression", "method", compression.method, "lz4",
        "Compression of new objects: lz4, zstd, zstd:LEVEL or none."),
    {"encryption", "recipient", CONFIG_TEXT_LIST, "", 0, 0, offsetof(Config, encryption.recipients),
     false,
     "Public key (age1...) that new objects are encrypted to; may be given several times. Without "
     "one, objects are not encrypted.",
     NULL},
    TEXT(
        "encryption", "identity-file", encryption.identity_file, "",
        "File with the secret keys that open objects; only on hosts that restore."),
    TEXT(
        "encryption", "passphrase-file", encryption.passphrase_file, "",
        "File with the passphrase that opens identity-file, if one protects that (age -p). Objects "
        "are never encrypted with it."),
    TEXT(
        "stream", "slot", stream.slot, "walstream",
        "Name of the physical replication slot that keeps WAL on the server."),
    {"stream", "flush-interval", CONFIG_DURATION, "1s", 10, HOUR,
     offsetof(Config, stream.flush_interval_ms), true,
     "How long received WAL may wait before it goes to the repository.", NULL},
    {"stream", "synchronous", CONFIG_BOOL, "off", 0, 0, offsetof(Config, stream.synchronous), false,
     "Send WAL to the repository at once, so that the server can wait for it at commit.", NULL},
    {"stream", "workers", CONFIG_INTEGER, "2", 1, 64, offsetof(Config, stream.workers), false,
     "Number of threads that compress, encrypt and upload.", NULL},
    {"stream", "memory", CONFIG_BYTES, "64MiB", 24 * MIB, TIB,
     offsetof(Config, stream.memory_bytes), false, "Bound of the memory for buffers.", NULL},
    {"stream", "max-put-rate", CONFIG_INTEGER, "0", 0, 10000, offsetof(Config, stream.max_put_rate),
     true, "Largest number of pieces uploaded in a second; 0: no bound.", NULL},
    TEXT(
        "stream", "socket", stream.socket, "/run/walstream/walstream.sock",
        "Socket on which walstream answers walpush and walctl."),
    TEXT(
        "stream", "http", stream.http, "",
        "Address of the metrics endpoint; reserved, without effect in this version."),
    {"backup", "jobs", CONFIG_INTEGER, "2", 1, 64, offsetof(Config, backup.jobs), false,
     "Number of workers of a base backup, and of connections to the store.", NULL},
    {"backup", "rate-limit", CONFIG_BYTES, "0", 0, TIB, offsetof(Config, backup.rate_limit_bytes),
     false, "Bytes that a base backup reads from the server in a second at most; 0: no bound.",
     NULL},
    {"backup", "checkpoint", CONFIG_TEXT, "spread", 0, 0, offsetof(Config, backup.checkpoint),
     false, "Whether a base backup begins with a checkpoint at once, or one spread over time.",
     "spread fast"},
    {"backup", "source", CONFIG_TEXT, "auto", 0, 0, offsetof(Config, backup.source), false,
     "Whether a base backup reads the files of [cluster] data (local) or gets them by the "
     "replication protocol (stream); auto: local if data is set.",
     "auto local stream"},
    {"backup", "checksum", CONFIG_TEXT, "crc32c", 0, 0, offsetof(Config, backup.checksum), false,
     "Checksum of each file in a base backup.", "crc32c sha256"},
    {"backup", "wal-timeout", CONFIG_DURATION, "1h", SECOND, 7 * 24 * HOUR,
     offsetof(Config, backup.wal_timeout_ms), false,
     "How long a base backup waits for the repository to have the WAL that it needs.", NULL},
    KEEP(
        full, 1,
        "Full backups to keep: a time (30d: the younger ones) or a number (7); empty: all."),
    KEEP(
        incremental, 1,
        "Incremental backups to keep: a time or a number; empty: those whose full backup is kept."),
    KEEP(weekly, 1, "For how long (26w), or how many, first full backups of a week to keep."),
    KEEP(monthly, 1, "For how long (365d), or how many, first full backups of a month to keep."),
    KEEP(yearly, 1, "For how long (10y), or how many, first full backups of a year to keep."),
    KEEP(
        pitr, 0,
        "The time (30d) to any moment of which the cluster can be restored: what is needed for "
        "that is kept; empty: from the oldest backup that \"full\" or \"incremental\" keep."),
    TEXT(
        "restore", "spool", restore.spool, "/var/spool/walstream",
        "Directory for prefetched WAL, best on the file system of the data directory."),
    {"restore", "prefetch", CONFIG_BYTES, "256MiB", 0, TIB,
     offsetof(Config, restore.prefetch_bytes), false, "How much WAL to prefetch; 0: none.", NULL},
    {"log", "level", CONFIG_TEXT, "info", 0, 0, offsetof(Config, log.level), true,
     "Least level of the messages that are logged.", "debug info warning error"},
    {"log", "format", CONFIG_TEXT, "text", 0, 0, offsetof(Config, log.format), false,
     "Form of the log: lines of text, or a JSON object a line.", "text json"},
};
const size_t config_option_count = ARRAY_COUNT(config_options);

/* All fields are set through a pointer to one of these types, chosen by ConfigType. */
static_assert(sizeof((Config){0}.stream.workers) == sizeof(uint64_t), "integers are uint64_t");
static_assert(sizeof((Config){0}.stream.memory_bytes) == sizeof(uint64_t), "bytes are uint64_t");
static_assert(
    sizeof((Config){0}.stream.flush_interval_ms) == sizeof(int64_t), "durations are int64_t");
static_assert(sizeof((Config){0}.stream.synchronous) == sizeof(bool), "switches are bool");

#define CONFIG_OPTIONS ARRAY_COUNT(config_options)
#define CONFIG_LINE_DEFAULT 0
#define CONFIG_LINE_COMMAND (-1)

typedef struct ConfigStorage
{
    char *file;
    char *pool; /* every text that Config points to, and the sources; room is counted beforehand */
    size_t pool_used, pool_size;
    const char *values[CONFIG_OPTIONS];              /* NULL of a list */
    int lines[CONFIG_OPTIONS];                       /* where the value was set; of a list: last */
    const char *sources[CONFIG_OPTIONS];             /* of a list unused */
    const char *list_sources[CONFIG_MAX_RECIPIENTS]; /* there is one list */
} ConfigStorage;

/* ---- texts of one configuration ---- */

static const char *
config_keep_text(ConfigStorage *st, const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *kept = st->pool + st->pool_used;

    assert(bytes <= st->pool_size - st->pool_used);
    memcpy(kept, text, bytes);
    st->pool_used += bytes;
    return kept;
}

static const char *
config_keep_source(ConfigStorage *st, int line)
{
    char *kept = st->pool + st->pool_used;
    size_t room = st->pool_size - st->pool_used;

    if (line == CONFIG_LINE_DEFAULT)
        return "default";
    if (line == CONFIG_LINE_COMMAND)
        return "command line";

    int n = snprintf(kept, room, "%s line %d", st->file, line);

    assert(n > 0 && (size_t) n < room);
    st->pool_used += (size_t) n + 1;
    return kept;
}

/* ---- numbers ---- */

char *
config_format_number(ConfigType type, int64_t value, char *buf, size_t len)
{
    static const struct
    {
        ConfigType type;
        int64_t factor;
        const char *name;
    } units[] = {
        {CONFIG_BYTES, TIB, "TiB"},
        {CONFIG_BYTES, GIB, "GiB"},
        {CONFIG_BYTES, MIB, "MiB"},
        {CONFIG_BYTES, KIB, "KiB"},
        {CONFIG_DURATION, 24 * HOUR, "d"},
        {CONFIG_DURATION, HOUR, "h"},
        {CONFIG_DURATION, 60 * SECOND, "min"},
        {CONFIG_DURATION, SECOND, "s"},
        {CONFIG_DURATION, 1, "ms"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(units) && value != 0; i++)
    {
        if (units[i].type != type || value % units[i].factor != 0)
            continue;
        (void) snprintf(buf, len, "%lld%s", (long long) (value / units[i].factor), units[i].name);
        return buf;
    }
    (void) snprintf(buf, len, "%lld", (long long) value);
    return buf;
}

static int
config_check_range(const ConfigOption *opt, const char *text, uint64_t value, Error *err)
{
    char low[32], high[32];

    if (value >= (uint64_t) opt->min && value <= (uint64_t) opt->max)
        return 0;
    return error_set(
        err, ERROR_USAGE, "\"%.100s\" is not allowed for \"%s\", which must be from %s to %s", text,
        opt->key, config_format_number(opt->type, opt->min, low, sizeof low),
        config_format_number(opt->type, opt->max, high, sizeof high));
}

/* ---- setting one option ---- */

static bool
config_is_choice(const char *choices, const char *text)
{
    size_t len = strlen(text);

    for (const char *p = choices; *p != '\0';)
    {
        size_t word = strcspn(p, " ");

        if (word == len && memcmp(p, text, len) == 0)
            return true;
        p += word;
        p += strspn(p, " ");
    }
    return false;
}

static int
config_add_recipient(Config *cfg, const char *text, int line, Error *err)
{
    uint64_t i = cfg->encryption.recipient_count;

    if (text[0] == '\0')
        return error_set(err, ERROR_USAGE, "\"recipient\" is empty");
    if (i == CONFIG_MAX_RECIPIENTS)
        return error_set(
            err, ERROR_USAGE, "more than %d recipients are given", CONFIG_MAX_RECIPIENTS);
    cfg->encryption.recipients[i] = config_keep_text(cfg->storage, text);
    cfg->storage->list_sources[i] = config_keep_source(cfg->storage, line);
    cfg->encryption.recipient_count = i + 1;
    return 0;
}

/* A bare number counts; one with a unit is an age. Neither may be 0: that would keep nothing. */
static int
config_set_keep(const ConfigOption *opt, const char *text, ConfigKeep *keep, Error *err)
{
    bool counted = opt->max != 0 && parse_u64(text, &keep->count) && keep->count > 0;

    if (text[0] == '\0' || counted)
        return 0;
    keep->count = 0;
    if (text[strspn(text, "0123456789")] != '\0' && parse_duration_ms(text, &keep->ms) &&
        keep->ms > 0)
        return 0;
    return error_set(
        err, ERROR_USAGE, "\"%.100s\" is not what \"%s\" needs: a time as 30d, 26w or 1y%s", text,
        opt->key, opt->max != 0 ? ", or a number of backups above 0" : "");
}

/* Checks text against the option's type, range and choices and puts it into its field. */
static int
config_set(Config *cfg, const ConfigOption *opt, const char *text, int line, Error *err)
{
    ConfigStorage *st = cfg->storage;
    size_t index = (size_t) (opt - config_options);
    void *field = (char *) cfg + opt->offset;
    uint64_t number;
    int64_t ms;
    bool flag;

    switch (opt->type)
    {
        case CONFIG_TEXT_LIST:
            st->lines[index] = line;
            return config_add_recipient(cfg, text, line, err);
        case CONFIG_TEXT:
            if (opt->default_text == NULL && text[0] == '\0')
                return error_set(err, ERROR_USAGE, "\"%s\" is empty", opt->key);
            if (opt->choices != NULL && !config_is_choice(opt->choices, text))
                return error_set(
                    err, ERROR_USAGE,
                    "\"%.100s\" is not allowed for \"%s\", which must be one of: %s", text,
                    opt->key, opt->choices);
            break;
        case CONFIG_BOOL:
            if (!parse_bool(text, &flag))
                return error_set(
                    err, ERROR_USAGE,
                    "\"%.100s\" is not allowed for \"%s\", which must be on or off", text,
                    opt->key);
            *(bool *) field = flag;
            break;
        case CONFIG_INTEGER:
            if (!parse_u64(text, &number))
                return error_set(
                    err, ERROR_USAGE, "\"%.100s\" is not a whole number, as \"%s\" needs", text,
                    opt->key);
            if (config_check_range(opt, text, number, err) < 0)
                return -1;
            *(uint64_t *) field = number;
            break;
        case CONFIG_BYTES:
            if (!parse_bytes(text, &number))
                return error_set(
                    err, ERROR_USAGE,
                    "\"%.100s\" is not a size, as \"%s\" needs: a whole number and B, kB, KiB, MB, "
                    "MiB, GB, GiB, TB or TiB",
                    text, opt->key);
            if (config_check_range(opt, text, number, err) < 0)
                return -1;
            *(uint64_t *) field = number;
            break;
        case CONFIG_DURATION:
            if (!parse_duration_ms(text, &ms))
                return error_set(
                    err, ERROR_USAGE,
                    "\"%.100s\" is not a time, as \"%s\" needs: a whole number and ms, s, min, h, "
                    "d, w or y",
                    text, opt->key);
            if (config_check_range(opt, text, (uint64_t) ms, err) < 0)
                return -1;
            *(int64_t *) field = ms;
            break;
        case CONFIG_KEEP:
            if (config_set_keep(opt, text, field, err) < 0)
                return -1;
            break;
    }
    st->values[index] = config_keep_text(st, text);
    st->lines[index] = line;
    st->sources[index] = config_keep_source(st, line);
    if (opt->type == CONFIG_TEXT)
        *(const char **) field = st->values[index];
    return 0;
}

/* ---- names ---- */

/* section need not be terminated. */
static bool
config_section_exists(const char *section, size_t len)
{
    for (size_t i = 0; i < CONFIG_OPTIONS; i++)
    {
        if (strlen(config_options[i].section) == len &&
            memcmp(config_options[i].section, section, len) == 0)
            return true;
    }
    return false;
}

/* USAGE with a hint naming what there is. */
static int
config_find_option(const char *section, const char *key, const ConfigOption **out, Error *err)
{
    const ConfigOption *elsewhere = NULL;
    char keys[200] = "";
    size_t used = 0;

    for (size_t i = 0; i < CONFIG_OPTIONS; i++)
    {
        const ConfigOption *opt = &config_options[i];
        bool here = strcmp(opt->section, section) == 0;
        bool same = strcmp(opt->key, key) == 0;

        if (here && same)
        {
            *out = opt;
            return 0;
        }
        if (same)
            elsewhere = opt;
        if (here && used < sizeof keys)
            used += (size_t) snprintf(
                keys + used, sizeof keys - used, "%s%s", used == 0 ? "" : ", ", opt->key);
    }
    (void) error_set(err, ERROR_USAGE, "unknown key \"%.100s\" in section [%s]", key, section);
    if (elsewhere != NULL)
        return error_hint(err, "\"%s\" belongs to section [%s].", key, elsewhere->section);
    return error_hint(err, "The keys of [%s] are: %s.", section, keys);
}

/* ---- the file ---- */

typedef struct ConfigReader
{
    Config *cfg;
    const char *next; /* text not read yet */
    size_t left;      /* its bytes; it may hold a NUL */
    int line;         /* the line that inih works on, from 1 */
    bool failed;      /* err is set; inih gets no more lines */
    Error *err;
} ConfigReader;

static void
config_reader_fail(ConfigReader *rd)
{
    rd->failed = true;
    (void) error_wrap(rd->err, "%s line %d", rd->cfg->storage->file, rd->line);
}

static bool
config_is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/*
 * inih passes over what follows the bracket, cuts long names and does not tell of an empty section;
 * so the header is checked here, and inih's reading of it is the same for those that pass.
 */
static int
config_check_header(const char *line, size_t len, Error *err)
{
    const char *close = memchr(line, ']', len);
    const char *end = line + len;

    if (close == NULL)
        return error_set(err, ERROR_USAGE, "section header without \"]\"");

    const char *name = line + 1, *rest = close + 1;
    size_t name_len = (size_t) (close - name);

    while (rest < end && config_is_blank(*rest))
        rest++;
    if (rest < end && *rest != ';' && *rest != '#')
        return error_set(err, ERROR_USAGE, "text behind a section header");
    if (config_section_exists(name, name_len))
        return 0;
    if (name_len > strlen("repository.") && memcmp(name, "repository.", strlen("repository.")) == 0)
    {
        (void) error_set(
            err, ERROR_USAGE, "several repositories are not supported yet by this version");
        return error_hint(
            err, "Keep [repository] and remove [%.*s].", (int) MIN(name_len, 100), name);
    }
    return error_set(err, ERROR_USAGE, "unknown section [%.*s]", (int) MIN(name_len, 100), name);
}

static int
config_check_line(const char *line, size_t len, size_t room, Error *err)
{
    if (len > CONFIG_MAX_LINE_BYTES || len >= room)
        return error_set(err, ERROR_USAGE, "line is longer than %d bytes", CONFIG_MAX_LINE_BYTES);
    for (size_t i = 0; i < len; i++)
    {
        unsigned char c = (unsigned char) line[i];

        /* such a byte could only do harm in a log, a path or an HTTP header; NUL is one of them */
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            return error_set(err, ERROR_USAGE, "control character 0x%02X", (unsigned) c);
    }
    return len > 0 && line[0] == '[' ? config_check_header(line, len, err) : 0;
}

/* inih's ini_reader: the next line without the blanks and the line end around it; NULL at the end.
 */
static char *
config_next_line(char *str, int num, void *stream)
{
    ConfigReader *rd = stream;
    const char *line = rd->next;
    const char *text_end = line + rd->left;

    if (rd->failed || rd->left == 0)
        return NULL;
    rd->line++;

    const char *newline = memchr(line, '\n', rd->left);
    const char *end = newline == NULL ? text_end : newline;

    rd->next = newline == NULL ? text_end : newline + 1;
    rd->left = (size_t) (text_end - rd->next);
    if (end > line && newline != NULL && end[-1] == '\r')
        end--;
    if (rd->line == 1 && end - line >= 3 && memcmp(line, "\xEF\xBB\xBF", 3) == 0)
        line += 3; /* byte order mark, as some editors write it */
    while (line < end && config_is_blank(*line))
        line++;
    while (end > line && config_is_blank(end[-1]))
        end--;

    size_t len = (size_t) (end - line);

    /* inih takes a line that fills its buffer for the beginning of a longer one */
    if (config_check_line(line, len, (size_t) num - 1, rd->err) < 0)
    {
        config_reader_fail(rd);
        return NULL;
    }
    memcpy(str, line, len);
    str[len] = '\0';
    return str;
}

/* inih's ini_handler: 1 to go on. */
static int
config_take_pair(void *user, const char *section, const char *name, const char *value)
{
    ConfigReader *rd = user;
    const ConfigOption *opt;
    int first;

    if (section[0] == '\0')
        (void) error_set(
            rd->err, ERROR_USAGE, "key \"%.100s\" stands before the first section", name);
    else if (config_find_option(section, name, &opt, rd->err) == 0)
    {
        first = rd->cfg->storage->lines[opt - config_options];
        if (first != CONFIG_LINE_DEFAULT && opt->type != CONFIG_TEXT_LIST)
            (void) error_set(
                rd->err, ERROR_USAGE, "\"%s\" is given a second time, the first is on line %d",
                name, first);
        else if (config_set(rd->cfg, opt, value, rd->line, rd->err) == 0)
            return 1;
    }
    config_reader_fail(rd);
    return 0;
}

static int
config_parse(Config *cfg, const char *text, size_t len, Error *err)
{
    static char comment_prefixes[] = ";#";
    ConfigReader rd = {.cfg = cfg, .next = text, .left = len, .err = err};

    /* library-wide, always to the same values */
    ini_inline_comment_prefixes = comment_prefixes;
    ini_max_line = CONFIG_MAX_LINE_BYTES + 3;
    ini_stop_on_first_error = true;

    int rc = ini_parse_stream(config_next_line, &rd, config_take_pair, &rd);

    if (rd.failed)
        return -1;
    if (rc > 0)
        return error_set(
            err, ERROR_USAGE,
            "%s line %d: this is neither \"key = value\" nor a [section] nor a comment",
            cfg->storage->file, rc);
    return rc < 0 ? error_nomem(err) : 0;
}

/* ---- the command line ---- */

/* Splits "--section.key=value"; the parts point into arg. */
static bool
config_split_override(const char *arg, size_t *section_len, const char **key, const char **value)
{
    if (strncmp(arg, "--", 2) != 0)
        return false;

    const char *section = arg + 2;
    const char *equals = strchr(section, '=');
    const char *dot = equals == NULL ? NULL : memchr(section, '.', (size_t) (equals - section));

    if (dot == NULL)
        return false;
    *section_len = (size_t) (dot - section);
    *key = dot + 1;
    *value = equals + 1;
    return config_section_exists(section, *section_len);
}

bool
config_is_override(const char *arg)
{
    size_t section_len;
    const char *key, *value;

    return config_split_override(arg, &section_len, &key, &value);
}

static int
config_take_override(Config *cfg, const char *arg, Error *err)
{
    size_t section_len;
    const char *key_start, *value;
    const ConfigOption *opt;
    char section[64], key[64];

    if (!config_split_override(arg, &section_len, &key_start, &value))
        return error_set(err, ERROR_USAGE, "\"%s\" is not --section.key=value", arg);
    (void) snprintf(section, sizeof section, "%.*s", (int) section_len, arg + 2);
    (void) snprintf(key, sizeof key, "%.*s", (int) (value - 1 - key_start), key_start);
    if (config_find_option(section, key, &opt, err) < 0)
        return -1;
    for (const char *p = value; *p != '\0'; p++)
    {
        if (((unsigned char) *p < 0x20 && *p != '\t') || *p == 0x7f)
            return error_set(err, ERROR_USAGE, "control character in the value of \"%s\"", key);
    }
    /* the first one on the command line replaces the list of the file */
    if (opt->type == CONFIG_TEXT_LIST &&
        cfg->storage->lines[opt - config_options] != CONFIG_LINE_COMMAND)
        cfg->encryption.recipient_count = 0;
    return config_set(cfg, opt, value, CONFIG_LINE_COMMAND, err);
}

/* ---- all together ---- */

/*
 * Room for every text that can be kept. A line of the file gives at most one value, which is
 * shorter than the line, and one source, of options not more than there are.
 */
static int
config_new(
    const char *file, size_t file_bytes, const ConfigOverrides *overrides, Config **out, Error *err)
{
    AUTO(config_freep) Config *cfg = calloc(1, sizeof *cfg);
    ConfigStorage *st;
    size_t size = file_bytes + 1;

    if (cfg == NULL || (st = cfg->storage = calloc(1, sizeof *st)) == NULL)
        return error_nomem(err);
    size += (CONFIG_OPTIONS + CONFIG_MAX_RECIPIENTS) * (strlen(file) + 32);
    for (size_t i = 0; i < CONFIG_OPTIONS; i++)
        size +=
            config_options[i].default_text == NULL ? 0 : strlen(config_options[i].default_text) + 1;
    for (size_t i = 0; overrides != NULL && i < overrides->count; i++)
        size += strlen(overrides->args[i]) + 1;
    st->pool_size = size;
    st->pool = malloc(size);
    st->file = strdup(file);
    if (st->pool == NULL || st->file == NULL)
        return error_nomem(err);
    *out = steal(cfg);
    return 0;
}

static int
config_set_defaults(Config *cfg, Error *err)
{
    for (size_t i = 0; i < CONFIG_OPTIONS; i++)
    {
        const ConfigOption *opt = &config_options[i];

        if (opt->default_text != NULL && opt->type != CONFIG_TEXT_LIST &&
            config_set(cfg, opt, opt->default_text, CONFIG_LINE_DEFAULT, err) < 0)
            return error_wrap(err, "default of \"%s.%s\"", opt->section, opt->key);
    }
    return 0;
}

static int
config_check_required(const Config *cfg, Error *err)
{
    for (size_t i = 0; i < CONFIG_OPTIONS; i++)
    {
        const ConfigOption *opt = &config_options[i];

        if (opt->default_text != NULL || cfg->storage->values[i] != NULL)
            continue;
        (void) error_set(
            err, ERROR_USAGE, "%s: key \"%s\" in section [%s] is required", cfg->storage->file,
            opt->key, opt->section);
        return error_hint(err, "%s", opt->help);
    }
    return 0;
}

static const char *
config_choose_file(const char *file)
{
    if (file != NULL)
        return file;
    file = getenv("WALSTREAM_CONFIG");
    return file != NULL && file[0] != '\0' ? file : CONFIG_DEFAULT_FILE;
}

int
config_load(const char *file, const ConfigOverrides *overrides, Config **out, Error *err)
{
    AUTO(config_freep) Config *cfg = NULL;
    AUTO(free_text) char *text = NULL;
    size_t len;

    file = config_choose_file(file);
    if (fs_read_file(file, CONFIG_MAX_FILE_BYTES, &text, &len, err) < 0)
    {
        bool missing = err->kind == ERROR_NOT_FOUND;

        if (err->kind != ERROR_NOMEM)
            err->kind = ERROR_USAGE;
        (void) error_wrap(err, "could not read the configuration");
        return missing ? error_hint(
                             err, "Create this file, or name another with --config=FILE or the "
                                  "environment variable WALSTREAM_CONFIG.")
                       : -1;
    }
    if (config_new(file, len, overrides, &cfg, err) < 0 || config_set_defaults(cfg, err) < 0 ||
        config_parse(cfg, text, len, err) < 0)
        return -1;
    for (size_t i = 0; overrides != NULL && i < overrides->count; i++)
    {
        if (config_take_override(cfg, overrides->args[i], err) < 0)
            return error_wrap(err, "command line");
    }
    if (config_check_required(cfg, err) < 0)
        return -1;
    *out = steal(cfg);
    return 0;
}

void
config_free(Config *cfg)
{
    if (cfg == NULL)
        return;
    if (cfg->storage != NULL)
    {
        free(cfg->storage->file);
        free(cfg->storage->pool);
    }
    free(cfg->storage);
    free(cfg);
}

const char *
config_file(const Config *cfg)
{
    return cfg->storage->file;
}

const char *
config_value(const Config *cfg, const ConfigOption *option, size_t i, const char **source)
{
    size_t index = (size_t) (option - config_options);

    assert(index < CONFIG_OPTIONS);
    if (option->type == CONFIG_TEXT_LIST)
    {
        if (i >= cfg->encryption.recipient_count)
            return NULL;
        *source = cfg->storage->list_sources[i];
        return cfg->encryption.recipients[i];
    }
    if (i > 0)
        return NULL;
    *source = cfg->storage->sources[index];
    return cfg->storage->values[index];
}
