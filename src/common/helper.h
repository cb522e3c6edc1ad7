/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Where the helper programs are (walpush-direct, walfetch-direct), which the static fast paths hand
 * over to.
 */
#ifndef WALSTREAM_HELPER_H
#define WALSTREAM_HELPER_H

#include "common/error.h"

/*
 * The path of helper name: in $WALSTREAM_LIBEXEC if that is set, else beside the running program,
 * in
 * ../libexec/walstream as seen from it, or where `make install` puts it. NOT_FOUND, with a hint,
 * otherwise.
 */
MUST_CHECK int helper_find(const char *name, char *path, size_t cap, Error *err);

#endif
