/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Streaming replication messages from a server.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "pg/replmsg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fuzz_check(bool good, const char *what)
{
    if (good)
        return;
    (void) fprintf(stderr, "broken: %s\n", what);
    abort();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ReplMsg msg;
    Error err = {.kind = ERROR_NONE};

    if (replmsg_parse(data, size, &msg, &err) < 0)
    {
        fuzz_check(err.kind == ERROR_CORRUPT, "the kind is CORRUPT");
        return 0;
    }
    if (msg.kind == REPLMSG_KEEPALIVE)
    {
        fuzz_check(size == REPLMSG_KEEPALIVE_BYTES && msg.len == 0, "a keepalive has no data");
        return 0;
    }
    fuzz_check(msg.data + msg.len == data + size, "the data end with the message");
    fuzz_check(msg.start + msg.len >= msg.start, "its end is an LSN");
    return 0;
}
