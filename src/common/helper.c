/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Finding helper programs; see helper.h.
 */
#include "common/helper.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool
helper_try(const char *dir, const char *sub, const char *name, char *path, size_t cap)
{
    return (size_t) snprintf(path, cap, "%s%s/%s", dir, sub, name) < cap && access(path, X_OK) == 0;
}

int
helper_find(const char *name, char *path, size_t cap, Error *err)
{
    const char *given = getenv("WALSTREAM_LIBEXEC");
    char self[4096];
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    char *slash;

    self[MAX(len, 0)] = '\0';
    slash = strrchr(self, '/');
    if (slash != NULL)
        *slash = '\0';
    if (given != NULL && given[0] != '\0')
    {
        if (helper_try(given, "", name, path, cap))
            return 0;
    }
    else if (
        (slash != NULL && (helper_try(self, "", name, path, cap) ||
                           helper_try(self, "/../libexec/walstream", name, path, cap))) ||
        helper_try(WALSTREAM_LIBEXECDIR, "", name, path, cap))
        return 0;
    (void) error_set(err, ERROR_NOT_FOUND, "could not find the program \"%s\"", name);
    return error_hint(
        err,
        "It belongs beside this program, or into ../libexec/walstream; WALSTREAM_LIBEXEC can name "
        "its folder.");
}
