/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The shared credentials file: any bytes give two keys that can stand in a header, or an error and
 * nothing.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/credentials.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fuzz_check(bool good, const char *what)
{
    if (good)
        return;
    (void) fprintf(stderr, "broken: %s\n", what);
    abort();
}

static bool
fuzz_header_text(const char *text, size_t size)
{
    size_t len = strnlen(text, size);

    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return len < size;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(credentials_reset) Credentials c;
    Error err = {.kind = ERROR_NONE};
    /* a copy of its own, so that a read behind its end is seen */
    char *text = malloc(size + 1);

    fuzz_check(text != NULL, "malloc");
    if (size > 0)
        memcpy(text, data, size);
    text = realloc(text, size > 0 ? size : 1);
    fuzz_check(text != NULL, "realloc");
    if (credentials_parse_file(text, size, "default", &c, &err) == 0)
        fuzz_check(
            c.access_key[0] != '\0' && c.secret_key[0] != '\0' &&
                fuzz_header_text(c.access_key, sizeof c.access_key) &&
                fuzz_header_text(c.secret_key, sizeof c.secret_key) &&
                fuzz_header_text(c.session_token, sizeof c.session_token),
            "keys are there and can stand in a header");
    else
    {
        fuzz_check(
            err.kind == ERROR_NOT_FOUND || err.kind == ERROR_DENIED || err.kind == ERROR_CORRUPT,
            "the kind is one that is promised");
        if (err.kind == ERROR_CORRUPT)
            fuzz_check(
                c.access_key[0] == '\0' && c.secret_key[0] == '\0' && c.session_token[0] == '\0',
                "nothing is handed out on failure");
    }
    free(text);
    return 0;
}
