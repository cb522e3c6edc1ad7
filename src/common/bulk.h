/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Memory for what grows with the number of files of a cluster. It is never moved, so that pointers
 * into it stay good. Up to BULK_MEMORY_BYTES, or what was set, it is memory like any other; what
 * lies behind is a file without a name, mapped, and what was looked at in it is given back every
 * now and then. So a list of millions of files stays out of what the process keeps resident.
 *
 *   address space | memory | file, mapped ...    | reserved ...
 *                 ^ data                  ^ used, ready
 *
 * Where no file can be made (no folder that can be written to, a full disk), it is all memory.
 *
 * Whoever goes through a bulk or finds something in it calls bulk_look for each thing that he looks
 * at: the bound is as good as that. Nothing is lost by a look too many, and what is in memory alone
 * is never given back.
 */
#ifndef WALSTREAM_BULK_H
#define WALSTREAM_BULK_H

#include <stdatomic.h>

#include "common/error.h"

#define BULK_MEMORY_BYTES ((size_t) 2 * 1024 * 1024)
/* Of a table that is looked into at random: whole for some million files. */
#define BULK_TABLE_BYTES ((size_t) 16 * 1024 * 1024)
#define BULK_LOOKS 64 /* each may map 64 KiB: 4 MiB at most */

/* {.dir = ...} before its first use. */
typedef struct Bulk
{
    const char *dir; /* borrowed: where the file is made; NULL: memory alone */
    size_t memory;   /* bytes in front of what is mapped; 0: BULK_MEMORY_BYTES */
    uint8_t *data;   /* what was added, one behind the other; NULL: nothing yet */
    size_t used;
    size_t ready;    /* can be used without asking the kernel */
    size_t reserved; /* of address space */
    size_t mapped;   /* bytes behind memory that are of the file */
    size_t fresh;    /* added since what is mapped was given back */
    bool no_file;    /* it could not be made, or not be made larger */
    int file;        /* its descriptor and 1; 0: none */
    atomic_uint looks;
} Bulk;

void bulk_reset(Bulk *bulk); /* fit for AUTO; dir and memory stay */

/*
 * Room for bytes, behind what was added before, with nothing between them; zeros. NULL when memory
 * is out. One thread at a time.
 */
MUST_CHECK void *bulk_add(Bulk *bulk, size_t bytes, Error *err);

/* Gives back the pages of the file; whoever looks at them gets them again. From any thread, while
 * nothing is added. */
void bulk_release(Bulk *bulk);

/* Something in it is about to be looked at. The same. */
static inline void
bulk_look(Bulk *bulk)
{
    if (bulk->mapped > 0 &&
        atomic_fetch_add_explicit(&bulk->looks, 1, memory_order_relaxed) % BULK_LOOKS == 0)
        bulk_release(bulk);
}

#endif
