/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Strict readers of JSON members; see json_read.h.
 */
#include "repo/json_read.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/parse.h"

/*
 * Where it has no memory for a token, jansson says that the token is invalid, or goes on without
 * some of its characters. So it is told to allocate by us, and what was read while that failed
 * counts for nothing.
 */
static _Thread_local bool json_read_failed;
static pthread_once_t json_read_once = PTHREAD_ONCE_INIT;

static void *
json_read_alloc(size_t size)
{
    void *p = malloc(size);

    if (p == NULL)
        json_read_failed = true;
    return p;
}

static void
json_read_init(void)
{
    json_set_alloc_funcs(json_read_alloc, free);
}

int
json_read_object(const char *text, size_t len, json_t **out, Error *err)
{
    json_error_t why = {0};
    json_t *doc;

    (void) pthread_once(&json_read_once, json_read_init);
    json_read_failed = false;
    doc = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (json_read_failed)
    {
        json_decref(doc);
        return error_nomem(err);
    }
    if (json_is_object(doc))
    {
        *out = doc;
        return 0;
    }
    if (doc == NULL)
        return error_set(err, ERROR_CORRUPT, "it is not a JSON object: %s", why.text);
    json_decref(doc);
    return error_set(err, ERROR_CORRUPT, "it is not a JSON object");
}

void
json_read_free(json_t **doc)
{
    json_decref(*doc);
    *doc = NULL;
}

bool
json_read_text(const json_t *doc, const char *member, char *out, size_t cap)
{
    const json_t *value = json_object_get(doc, member);
    size_t len = json_string_length(value);

    if (!json_is_string(value) || len >= cap)
        return false;
    memcpy(out, json_string_value(value), len + 1);
    return true;
}

bool
json_read_u64(const json_t *doc, const char *member, uint64_t *out)
{
    const json_t *value = json_object_get(doc, member);

    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t) json_integer_value(value);
    return true;
}

bool
json_read_u32(const json_t *doc, const char *member, uint32_t *out)
{
    uint64_t value;

    if (!json_read_u64(doc, member, &value) || value > UINT32_MAX)
        return false;
    *out = (uint32_t) value;
    return true;
}

bool
json_read_bool(const json_t *doc, const char *member, bool *out)
{
    const json_t *value = json_object_get(doc, member);

    if (!json_is_boolean(value))
        return false;
    *out = json_is_true(value);
    return true;
}

bool
json_read_lsn(const json_t *doc, const char *member, Lsn *out)
{
    const char *text = json_string_value(json_object_get(doc, member));

    return text != NULL && lsn_parse(text, out);
}

bool
json_read_time(const json_t *doc, const char *member, int64_t *wall_us)
{
    const char *text = json_string_value(json_object_get(doc, member));

    return text != NULL && clock_parse_iso(text, wall_us);
}

bool
json_read_hex(const json_t *doc, const char *member, uint8_t *out, size_t len)
{
    const json_t *value = json_object_get(doc, member);

    return json_is_string(value) &&
           parse_hex_bytes(json_string_value(value), json_string_length(value), out, len);
}
