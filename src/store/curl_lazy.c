/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Loading libcurl; see curl_lazy.h.
 */
#include "store/curl_lazy.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define CURL_SONAME "libcurl.so.4" /* the ABI since curl 7.16 */

CurlLazy curl_lazy;

static pthread_once_t curl_lazy_once = PTHREAD_ONCE_INIT;
static Error curl_lazy_error;

static bool
curl_lazy_symbol(void *library, const char *name, void *slot)
{
    void *symbol = dlsym(library, name);

    if (symbol == NULL)
    {
        (void) error_set(
            &curl_lazy_error, ERROR_IO, "\"%s\" has no function %s", CURL_SONAME, name);
        return false;
    }
    memcpy(slot, &symbol, sizeof symbol); /* ISO C has no cast from object to function pointer */
    return true;
}

static void
curl_lazy_load_once(void)
{
    void *library = dlopen(CURL_SONAME, RTLD_NOW | RTLD_LOCAL);
    CURLcode code;

    if (library == NULL)
    {
        (void) error_set(&curl_lazy_error, ERROR_IO, "could not load libcurl: %s", dlerror());
        (void) error_hint(&curl_lazy_error, "Install libcurl (Debian: libcurl4).");
        return;
    }
#define CURL_LAZY_LOAD(name)                                                                       \
    if (!curl_lazy_symbol(library, "curl_" #name, &curl_lazy.name))                                \
        return;
    CURL_LAZY_FUNCTIONS(CURL_LAZY_LOAD)
#undef CURL_LAZY_LOAD
    code = curl_lazy.global_init(CURL_GLOBAL_DEFAULT);
    if (code != CURLE_OK)
        (void) error_set(
            &curl_lazy_error, ERROR_IO, "could not initialize libcurl: %s",
            curl_lazy.easy_strerror(code));
}

int
curl_lazy_load(Error *err)
{
    (void) pthread_once(&curl_lazy_once, curl_lazy_load_once);
    if (curl_lazy_error.kind == ERROR_NONE)
        return 0;
    *err = curl_lazy_error;
    return -1;
}
