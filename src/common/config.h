/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The configuration: one table declares each option (name, type, unit, default, range, reloadable,
 * help). The reader, --help, the man page walstream.conf(5) and `walctl config` come from it.
 *
 * An INI file: --config FILE, else $WALSTREAM_CONFIG, else /etc/walstream/walstream.conf. The
 * command line's --section.key=value beats the file. Unknown sections and keys are errors with file
 * and line.
 * ';' and '#' begin a comment at the start of a line, or after a blank. Of the repeatable key
 * (recipient) every line counts, and the command line's replace the file's; another key given twice
 * in the file is an error, on the command line the last one counts.
 *
 * This file is linked into the statically linked fast paths: libc and inih only.
 */
#ifndef WALSTREAM_CONFIG_H
#define WALSTREAM_CONFIG_H

#include "common/error.h"

#define CONFIG_MAX_RECIPIENTS 16

/* What a rule of [retention] keeps; both 0: the rule is not there. */
typedef struct ConfigKeep
{
    int64_t ms;     /* what is younger; 0: not by age */
    uint64_t count; /* that many; 0: not by number */
} ConfigKeep;

typedef struct Config
{
    struct
    {
        const char *name;     /* required */
        const char *conninfo; /* "" default */
        const char *data;     /* "" if not given */
    } cluster;
    struct
    {
        const char *url;      /* required */
        const char *endpoint; /* "" if not given, as all text below */
        const char *region;
        bool path_style;
        const char *ca_file;
        const char *credentials; /* "auto" */
    } repository;
    struct
    {
        const char *method; /* "lz4" */
    } compression;
    struct
    {
        const char *recipients[CONFIG_MAX_RECIPIENTS]; /* key: recipient, repeatable */
        uint64_t recipient_count;
        const char *identity_file;
        const char *passphrase_file;
    } encryption;
    struct
    {
        const char *slot;
        int64_t flush_interval_ms; /* 1s; 10ms..1h */
        bool synchronous;          /* off */
        uint64_t workers;          /* 2; 1..64 */
        uint64_t memory_bytes;     /* 64MiB; at least 24MiB */
        uint64_t max_put_rate; /* uploads of pieces per second, 0 (default): no bound; 0..10000 */
        const char *socket;    /* /run/walstream/walstream.sock */
        const char *http;      /* reserved for the metrics endpoint */
    } stream;
    struct
    {
        uint64_t jobs;             /* 2; 1..64: workers, and as many connections */
        uint64_t rate_limit_bytes; /* a second, as read from the server; 0: no bound */
        const char *checkpoint;    /* spread, fast */
        const char *source;        /* auto, local, stream */
        const char *checksum;      /* crc32c, sha256 */
        int64_t wal_timeout_ms;    /* 1h */
    } backup;
    struct
    {
        ConfigKeep full, incremental, weekly, monthly, yearly;
        ConfigKeep pitr; /* by age only */
    } retention;
    struct
    {
        const char *spool;       /* /var/spool/walstream */
        uint64_t prefetch_bytes; /* 256MiB; 0: no prefetch */
    } restore;
    struct
    {
        const char *level;  /* debug info warning error */
        const char *format; /* text, json */
    } log;

    struct ConfigStorage *storage; /* texts and sources; owned */
} Config;

/* argv-like list of "--section.key=value" arguments that a tool's option reader set aside. */
typedef struct ConfigOverrides
{
    const char *const *args;
    size_t count;
} ConfigOverrides;

/*
 * file NULL: from the environment or the default place. A missing default file is an error with a
 * hint, as is a missing required key. All errors are USAGE with "FILE line N: ...".
 */
MUST_CHECK int
config_load(const char *file, const ConfigOverrides *overrides, Config **out, Error *err);
void config_free(Config *cfg);
DEFINE_AUTO(Config, config_free);

/* The file that was read; borrowed. */
const char *config_file(const Config *cfg);

/* Whether arg has the form --section.key=value with a section that exists. */
bool config_is_override(const char *arg);

/* ---- the table, for help texts and `walctl config` ---- */
typedef enum ConfigType
{
    CONFIG_TEXT,
    CONFIG_TEXT_LIST,
    CONFIG_BOOL,
    CONFIG_INTEGER,
    CONFIG_BYTES,
    CONFIG_DURATION,
    CONFIG_KEEP /* "30d" or "7"; empty: none. max 0: an age only */
} ConfigType;

typedef struct ConfigOption
{
    const char *section, *key;
    ConfigType type;
    const char *default_text; /* NULL: required */
    int64_t min, max;         /* of numbers: bytes, milliseconds, count */
    size_t offset;            /* of the field in Config */
    bool reloadable;          /* walstream takes a change on SIGHUP */
    const char *help;         /* one sentence */
    const char *choices;      /* of text: the only values, separated by blanks; NULL: any */
} ConfigOption;

extern const ConfigOption config_options[];
extern const size_t config_option_count;

/* A number of the option's type with its unit, "24MiB", "1h"; 32 bytes are enough. Returns buf. */
char *config_format_number(ConfigType type, int64_t value, char *buf, size_t len);

/* The effective value as text (a list: its i-th), and where it comes from: "default", "FILE line
 * N", "command line". Both borrowed from cfg. NULL value behind the end of a list. */
const char *
config_value(const Config *cfg, const ConfigOption *option, size_t i, const char **source);

#endif
