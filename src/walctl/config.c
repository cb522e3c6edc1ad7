/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walctl config: the effective settings and where each comes from. Secrets are not among them: what
 * libpq holds for one in the connection string is masked.
 */
#include <jansson.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>

#include "common/strbuf.h"
#include "walctl/walctl.h"

#define CONFIG_MASK "********"
#define CONFIG_CONNINFO_MAX 16384

static void
config_free_options(PQconninfoOption **options)
{
    PQconninfoFree(*options);
}

static bool
config_is_secret(const PQconninfoOption *option)
{
    return option->dispchar[0] == '*' || strstr(option->keyword, "password") != NULL ||
           strstr(option->keyword, "secret") != NULL;
}

/* keyword='value' as libpq reads it. */
static void
config_append_pair(StrBuf *sb, const char *keyword, const char *value)
{
    bool plain = value[0] != '\0' && strpbrk(value, " '\\\t") == NULL;

    strbuf_printf(sb, "%s%s=", sb->len > 0 ? " " : "", keyword);
    if (plain)
    {
        strbuf_puts(sb, value);
        return;
    }
    strbuf_putc(sb, '\'');
    for (; *value != '\0'; value++)
    {
        if (*value == '\'' || *value == '\\')
            strbuf_putc(sb, '\\');
        strbuf_putc(sb, *value);
    }
    strbuf_putc(sb, '\'');
}

/* The connection string as it is when it holds no secret; else put together again without. */
static int
config_mask_conninfo(const char *conninfo, StrBuf *sb, Error *err)
{
    AUTO(config_free_options) PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    bool secret = false;

    strbuf_clear(sb);
    if (options == NULL)
    {
        /* what cannot be read might hold anything */
        if (conninfo[0] != '\0')
            strbuf_puts(sb, CONFIG_MASK " (not a connection string)");
        return strbuf_finish(sb, err);
    }
    for (const PQconninfoOption *o = options; o->keyword != NULL; o++)
        secret = secret || (o->val != NULL && config_is_secret(o));
    if (!secret)
    {
        strbuf_puts(sb, conninfo);
        return strbuf_finish(sb, err);
    }
    for (const PQconninfoOption *o = options; o->keyword != NULL; o++)
        if (o->val != NULL)
            config_append_pair(sb, o->keyword, config_is_secret(o) ? CONFIG_MASK : o->val);
    return strbuf_finish(sb, err);
}

static int
config_print_one(
    const ConfigOption *option, const char *value, const char *source, json_t *settings, Error *err)
{
    if (settings == NULL)
    {
        if (printf(
                "%s.%s = %s%s# %s\n", option->section, option->key, value,
                value[0] != '\0' ? "   " : "  ", source) < 0)
            return error_sys(err, "could not print the configuration");
        return 0;
    }
    if (json_array_append_new(
            settings, json_pack(
                          "{s:s, s:s, s:o, s:s}", "section", option->section, "key", option->key,
                          "value", walctl_json_text(value), "source", source)) < 0)
        return error_nomem(err);
    return 0;
}

static int
config_print_all(const Config *cfg, json_t *settings, Error *err)
{
    AUTO(strbuf_reset) StrBuf masked;

    strbuf_init(&masked, CONFIG_CONNINFO_MAX);
    for (size_t i = 0; i < config_option_count; i++)
    {
        const ConfigOption *option = &config_options[i];
        const char *source = "default";
        const char *value;
        size_t n = 0;

        for (; (value = config_value(cfg, option, n, &source)) != NULL; n++)
        {
            if (value == cfg->cluster.conninfo)
            {
                if (config_mask_conninfo(value, &masked, err) < 0)
                    return -1;
                value = strbuf_text(&masked);
            }
            if (config_print_one(option, value, source, settings, err) < 0)
                return -1;
        }
        if (n == 0 && config_print_one(option, "", "default", settings, err) < 0)
            return -1;
    }
    return 0;
}

int
walctl_config(Walctl *ctl, int *exit_code UNUSED, Error *err)
{
    json_t *settings;
    json_t *doc;
    int rc;

    if (!ctl->json)
        return config_print_all(ctl->cfg, NULL, err);
    settings = json_array();
    if (settings == NULL)
        return error_nomem(err);
    if (config_print_all(ctl->cfg, settings, err) < 0)
    {
        json_decref(settings);
        return -1;
    }
    doc = json_pack(
        "{s:o, s:o}", "file", walctl_json_text(config_file(ctl->cfg)), "settings", settings);
    rc = walctl_print_json(doc, err);
    json_decref(doc);
    return rc;
}
