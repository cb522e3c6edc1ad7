/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Is it UTF-8 (RFC 3629)? Names of files, users and databases need not be.
 */
#ifndef WALSTREAM_UTF8_H
#define WALSTREAM_UTF8_H

#include "common/compiler.h"

/* Bytes of the well-formed sequence at text, which is terminated; 0 if there is none. */
size_t utf8_length(const char *text);

/* All of it, which is terminated. */
bool utf8_valid(const char *text);

/* A copy with U+FFFD for each byte that is part of no sequence; NULL when memory is out. */
char *utf8_copy(const char *text);

#endif
