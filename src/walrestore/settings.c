/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Settings for recovery; see settings.h.
 */
#include "walrestore/settings.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/clock.h"

#define SETTINGS_TARGET_PREFIX "recovery_target"
#define SETTINGS_NAME_MAX 64

const char *const settings_target_names[SETTINGS_TARGETS] = {
    "recovery_target", "recovery_target_name", "recovery_target_time", "recovery_target_xid",
    "recovery_target_lsn"};

/* ---- quoting ---- */

void
settings_quote_shell(const char *word, StrBuf *out)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+=:,./@";
    bool quote = word[0] == '\0' || word[strspn(word, plain)] != '\0';

    if (quote)
        strbuf_putc(out, '\'');
    for (const char *p = word; *p != '\0'; p++)
    {
        if (*p == '\'')
            strbuf_puts(out, "'\\''");
        else if (*p == '%')
            strbuf_puts(out, "%%");
        else
            strbuf_putc(out, *p);
    }
    if (quote)
        strbuf_putc(out, '\'');
}

void
settings_quote_value(const char *value, StrBuf *out)
{
    strbuf_putc(out, '\'');
    for (const char *p = value; *p != '\0'; p++)
    {
        if (*p == '\'' || *p == '\\')
            strbuf_putc(out, *p);
        strbuf_putc(out, *p);
    }
    strbuf_putc(out, '\'');
}

void
settings_restore_command(
    const char *walfetch, const char *config_file, const ConfigOverrides *overrides, StrBuf *out)
{
    settings_quote_shell(walfetch, out);
    strbuf_puts(out, " --config ");
    settings_quote_shell(config_file, out);
    for (size_t i = 0; i < overrides->count; i++)
    {
        strbuf_putc(out, ' ');
        settings_quote_shell(overrides->args[i], out);
    }
    strbuf_puts(out, " %f %p");
}

/* ---- lines ---- */

/* The name of the setting that a line sets; false for comments and blank lines. */
static bool
settings_line_name(const char *line, size_t len, char name[SETTINGS_NAME_MAX], size_t *end)
{
    size_t from = 0, to;

    while (from < len && (line[from] == ' ' || line[from] == '\t'))
        from++;
    for (to = from;
         to < len && (isalnum((unsigned char) line[to]) || line[to] == '_' || line[to] == '.');)
        to++;
    if (to == from || to - from >= SETTINGS_NAME_MAX)
        return false;
    memcpy(name, line + from, to - from);
    name[to - from] = '\0';
    *end = to;
    return true;
}

static bool
settings_line_is(const char *line, size_t len, const char *text)
{
    while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == ' '))
        len--;
    return len == strlen(text) && memcmp(line, text, len) == 0;
}

/* Without its newline. */
static size_t
settings_line_length(const char *line, size_t left)
{
    const char *newline = memchr(line, '\n', left);

    return newline != NULL ? (size_t) (newline - line) : left;
}

/* Whether the block that begins at text has an end; *len is what it takes, its end included. */
static bool
settings_find_end(const char *text, size_t left, size_t *len)
{
    for (size_t at = 0; at < left;)
    {
        size_t line = settings_line_length(text + at, left - at);
        bool last = settings_line_is(text + at, line, SETTINGS_END);

        at = MIN(at + line + 1, left);
        if (!last)
            continue;
        *len = at;
        return true;
    }
    return false;
}

static void
settings_copy_line(const char *line, size_t len, bool standby, StrBuf *out)
{
    char name[SETTINGS_NAME_MAX];
    size_t end;

    if (settings_line_name(line, len, name, &end) &&
        (strncasecmp(name, SETTINGS_TARGET_PREFIX, strlen(SETTINGS_TARGET_PREFIX)) == 0 ||
         (!standby && strcasecmp(name, SETTINGS_DELAY) == 0)))
        strbuf_puts(out, "# before walrestore: ");
    strbuf_append(out, line, len);
    strbuf_putc(out, '\n');
}

/* What stands behind a name, without quotes; cut where it does not fit. */
static void
settings_read_value(const char *p, const char *end, char *out, size_t cap)
{
    size_t used = 0;
    bool quoted;

    while (p < end && (*p == ' ' || *p == '\t' || *p == '='))
        p++;
    quoted = p < end && *p == '\'';
    for (p += quoted ? 1 : 0; p < end && used + 1 < cap; p++)
    {
        if (quoted ? *p == '\'' : isspace((unsigned char) *p) || *p == '#')
        {
            /* two are one */
            if (!quoted || p + 1 >= end || p[1] != '\'')
                break;
            p++;
        }
        else if (quoted && *p == '\\' && p + 1 < end)
            p++;
        out[used++] = *p;
    }
    out[used] = '\0';
}

bool
settings_find(const char *text, size_t len, const char *name, char *value, size_t cap)
{
    value[0] = '\0';
    for (size_t at = 0; at < len;)
    {
        size_t line = settings_line_length(text + at, len - at);
        char here[SETTINGS_NAME_MAX];
        size_t end;

        /* the last one counts */
        if (settings_line_name(text + at, line, here, &end) && strcasecmp(here, name) == 0)
            settings_read_value(text + at + end, text + at + line, value, cap);
        at += line + 1;
    }
    return value[0] != '\0';
}

void
settings_find_targets(const char *text, size_t len, bool found[SETTINGS_TARGETS])
{
    char value[8];

    for (size_t i = 0; i < SETTINGS_TARGETS; i++)
        found[i] = settings_find(text, len, settings_target_names[i], value, sizeof value);
}

/* ---- the block ---- */

static void
settings_put(const char *name, const char *value, StrBuf *out)
{
    strbuf_printf(out, "%s = ", name);
    settings_quote_value(value, out);
    strbuf_putc(out, '\n');
}

/* "2026-03-01 09:14:07.120000+00" */
static const char *
settings_format_time(int64_t at_us, char text[64])
{
    size_t len;

    (void) clock_format_iso(at_us, text, 40);
    len = strlen(text);
    text[10] = ' ';
    memcpy(text + len - 1, "+00", sizeof "+00"); /* for the Z */
    return text;
}

static const char *
settings_target_name(RecoveryTargetKind kind)
{
    switch (kind)
    {
        case RECOVERY_LATEST:
            break;
        case RECOVERY_IMMEDIATE:
            return "recovery_target";
        case RECOVERY_TIME:
            return "recovery_target_time";
        case RECOVERY_LSN:
            return "recovery_target_lsn";
        case RECOVERY_XID:
            return "recovery_target_xid";
        case RECOVERY_NAME:
            return "recovery_target_name";
    }
    return "";
}

static void
settings_put_target(const Settings *s, StrBuf *out)
{
    const char *name = settings_target_name(s->target->kind);
    char text[64];

    switch (s->target->kind)
    {
        case RECOVERY_LATEST:
            return;
        case RECOVERY_IMMEDIATE:
            settings_put(name, "immediate", out);
            break;
        case RECOVERY_TIME:
            settings_put(name, settings_format_time(s->target->time_us, text), out);
            break;
        case RECOVERY_LSN:
            settings_put(name, lsn_format(s->target->lsn, text, sizeof text), out);
            break;
        case RECOVERY_XID:
            (void) snprintf(text, sizeof text, "%" PRIu32, s->target->xid);
            settings_put(name, text, out);
            break;
        case RECOVERY_NAME:
            settings_put(name, s->target->name, out);
            break;
    }
    settings_put("recovery_target_inclusive", s->target->exclusive ? "off" : "on", out);
    settings_put("recovery_target_action", restore_action_name(s->action), out);
}

void
settings_rewrite(const char *old, size_t len, const Settings *settings, StrBuf *out)
{
    for (size_t at = 0; at < len;)
    {
        size_t line = settings_line_length(old + at, len - at);
        size_t block;

        if (settings_line_is(old + at, line, SETTINGS_BEGIN))
        {
            /* of a block without an end only the mark goes */
            at += settings_find_end(old + at, len - at, &block) ? block : line + 1;
            continue;
        }
        settings_copy_line(old + at, line, settings->standby, out);
        at += line + 1;
    }
    strbuf_puts(out, SETTINGS_BEGIN "\n");
    settings_put("restore_command", settings->restore_command, out);
    /* in front of the one target: the server refuses a second one, but not what is empty */
    for (size_t i = 0; i < SETTINGS_TARGETS; i++)
        if (strcmp(settings_target_names[i], settings_target_name(settings->target->kind)) != 0)
            settings_put(settings_target_names[i], "", out);
    if (!settings->standby)
        settings_put(SETTINGS_DELAY, "0", out);
    settings_put_target(settings, out);
    if (settings->tli != 0)
        strbuf_printf(out, "recovery_target_timeline = '%" PRIu32 "'\n", settings->tli);
    else
        settings_put("recovery_target_timeline", "latest", out);
    strbuf_puts(out, SETTINGS_END "\n");
}
