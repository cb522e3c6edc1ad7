/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * libcurl, loaded when it is first needed. With all that it depends on it takes five milliseconds
 * to load, several times what storing a file needs otherwise; a program whose repository is file://
 * does without.
 */
#ifndef WALSTREAM_CURL_LAZY_H
#define WALSTREAM_CURL_LAZY_H

#define CURL_DISABLE_TYPECHECK /* its macros call the functions by name */
#include <curl/curl.h>

#include "common/error.h"

/* Its functions under their names without "curl_"; set by curl_lazy_load. */
#define CURL_LAZY_FUNCTIONS(X)                                                                     \
    X(easy_cleanup)                                                                                \
    X(easy_getinfo)                                                                                \
    X(easy_init)                                                                                   \
    X(easy_perform)                                                                                \
    X(easy_reset)                                                                                  \
    X(easy_setopt)                                                                                 \
    X(easy_strerror)                                                                               \
    X(getdate)                                                                                     \
    X(global_init)                                                                                 \
    X(slist_append)                                                                                \
    X(slist_free_all)

typedef struct CurlLazy
{
#define CURL_LAZY_FIELD(name) __typeof__(&curl_##name) name;
    CURL_LAZY_FUNCTIONS(CURL_LAZY_FIELD)
#undef CURL_LAZY_FIELD
} CurlLazy;

extern CurlLazy curl_lazy;

/* Loads and initializes it once a process; IO when it is not there. Thread-safe. */
MUST_CHECK int curl_lazy_load(Error *err);

#endif
