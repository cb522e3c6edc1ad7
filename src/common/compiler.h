/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What we ask of the compiler beyond C11: attributes under short names, release tied to scope, and
 * the arithmetic that sizes from outside must go through.
 */
#ifndef WALSTREAM_COMPILER_H
#define WALSTREAM_COMPILER_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define UNUSED __attribute__((unused))

/* Calls fn(&variable) when the variable leaves its scope: AUTO(fd_close) int fd = -1; */
#define AUTO(fn) __attribute__((cleanup(fn)))

/* Gives an owning pointer its scope release: DEFINE_AUTO(Store, store_free) makes store_freep. */
#define DEFINE_AUTO(Type, free_fn)                                                                 \
    UNUSED static inline void free_fn##p(Type **p)                                                 \
    {                                                                                              \
        free_fn(*p);                                                                               \
    }                                                                                              \
    struct free_fn##_needs_semicolon

/* Takes ownership out of a scope: the variable is NULL afterwards. */
#define steal(var)                                                                                 \
    __extension__({                                                                                \
        __typeof__(var) *steal_from_ = &(var);                                                     \
        __typeof__(var) steal_value_ = *steal_from_;                                               \
        *steal_from_ = NULL;                                                                       \
        steal_value_;                                                                              \
    })

#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#endif
