/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * age files of any bytes: header, armor and payload. They open or are refused as CORRUPT or DENIED,
 * and how the bytes are cut into writes changes nothing.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/age.h"
#include "crypto/age_header.h"

#define PLAIN_MAX_BYTES (1 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fuzz_check(bool good, const char *what)
{
    if (good)
        return;
    (void) fprintf(stderr, "broken: %s\n", what);
    abort();
}

/* The identity of most files in tests/vectors/age-cctv, so that seeds from there open. */
static AgeIdentities *
fuzz_identities(void)
{
    static AgeIdentities *ids;
    Error err;

    if (ids == NULL)
        fuzz_check(
            age_identities_new(&ids, &err) == 0 &&
                age_identities_add(
                    ids,
                    "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0",
                    &err) == 0,
            "the identity");
    return ids;
}

static int
fuzz_decrypt(
    const uint8_t *data, size_t size, size_t piece, char own_args[AGE_OWN_ARGS_MAX], uint8_t *plain,
    size_t *plain_len, Error *err)
{
    AUTO(stage_freep) Stage *chain = NULL;

    *plain_len = 0;
    fuzz_check(
        stage_memory_sink_new(plain, PLAIN_MAX_BYTES, plain_len, &chain, err) == 0 &&
            age_decryptor_new(fuzz_identities(), chain, own_args, &chain, err) == 0,
        "the stages");
    for (size_t at = 0; at < size; at += piece)
        if (stage_write(chain, data + at, MIN(piece, size - at), err) < 0)
            return -1;
    return stage_finish(chain, err);
}

static void
fuzz_check_peek(const void *data, size_t size)
{
    char own_args[AGE_OWN_ARGS_MAX];
    Error err = {.kind = ERROR_NONE};

    if (age_peek_own_args(data, size, own_args, &err) < 0)
    {
        fuzz_check(
            err.kind == ERROR_CORRUPT || err.kind == ERROR_NOT_FOUND, "peek: CORRUPT or NOT_FOUND");
        fuzz_check(own_args[0] == '\0', "peek: nothing on failure");
        return;
    }
    fuzz_check(own_args[0] != '\0', "peek: something on success");
    for (const char *c = own_args; *c != '\0'; c++)
        fuzz_check(*c >= 32 && *c <= 126, "peek: printable");
}

static void
fuzz_check_header(const char *text, size_t size)
{
    AgeHeader header;
    AgeStanza stanza;
    Error err = {.kind = ERROR_NONE};
    size_t at = 0, count = 0;

    if (age_header_parse(text, size, &header, &err) < 0)
    {
        fuzz_check(err.kind == ERROR_CORRUPT, "header: CORRUPT");
        return;
    }
    while (age_header_next(&header, &at, &stanza))
        count++;
    fuzz_check(count == header.stanza_count && at == header.stanzas_end, "header: every stanza");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t plain[2][PLAIN_MAX_BYTES];
    char own_args[2][AGE_OWN_ARGS_MAX];
    size_t plain_len[2];
    Error err[2] = {{.kind = ERROR_NONE}, {.kind = ERROR_NONE}};

    if (size > PLAIN_MAX_BYTES)
        return 0;
    fuzz_check_peek(data, size);
    fuzz_check_header((const char *) data, size);

    int whole = fuzz_decrypt(data, size, size + 1, own_args[0], plain[0], &plain_len[0], &err[0]);
    int cut = fuzz_decrypt(
        data, size, size == 0 ? 1 : 1 + data[size - 1] % 97U, own_args[1], plain[1], &plain_len[1],
        &err[1]);

    fuzz_check(
        whole == 0 || err[0].kind == ERROR_CORRUPT || err[0].kind == ERROR_DENIED,
        "opens, CORRUPT or DENIED");
    fuzz_check(whole == cut && err[0].kind == err[1].kind, "writes cut otherwise, another outcome");
    fuzz_check(
        plain_len[0] == plain_len[1] && memcmp(plain[0], plain[1], plain_len[0]) == 0 &&
            strcmp(own_args[0], own_args[1]) == 0,
        "writes cut otherwise, other bytes");
    return 0;
}
