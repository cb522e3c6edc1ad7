/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The age test vectors of C2SP/CCTV (tests/vectors/age-cctv): each file either opens to the
 * expected bytes or is refused for the expected reason, and what is released before a failure is as
 * expected.
 *
 * Vectors of the hybrid (ML-KEM-768 and X25519) recipient type: OpenSSL 3.0 has no ML-KEM, so the
 * identity is refused as not supported, and the files by any other identity.
 */
#include <dirent.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/fs.h"
#include "common/parse.h"
#include "crypto/age.h"
#include "tap.h"

#define VECTORS "tests/vectors/age-cctv"
#define VECTORS_SUFFIX ".age-test"
#define FILE_MAX_BYTES (32 << 20)

/* ---- what a vector expects, as kind and beginning of the message ---- */

typedef struct Outcome
{
    const char *expect;
    int rc;
    ErrorKind kind;
    const char *says;
    size_t count; /* of vectors, so that none is lost unnoticed */
} Outcome;

static const Outcome outcomes[] = {
    {"success", 0, ERROR_NONE, "", 26},
    {"no match", -1, ERROR_DENIED, "no identity fits", 13},
    {"HMAC failure", -1, ERROR_CORRUPT, "age header was changed", 1},
    {"header failure", -1, ERROR_CORRUPT, "damaged age header", 62},
    {"payload failure", -1, ERROR_CORRUPT, "damaged age payload", 19},
    {"armor failure", -1, ERROR_CORRUPT, "damaged age armor", 22},
};

/* Where ours differs, with the reason. The third field is the outcome that we have. */
static const struct
{
    const char *name, *vector_expects, *we_have;
} differences[] = {
    /* armor is recognised by its first byte, and this begins with a letter */
    {"armor_garbage_leading", "armor failure", "header failure"},
    /* hybrid: the stanza is of an unknown type, which age ignores */
    {"armor_hybrid", "success", "no match"},
    {"hybrid", "success", "no match"},
    {"hybrid_and_x25519", "success", "no match"},
    {"hybrid_extra_argument", "header failure", "no match"},
    {"hybrid_grease", "success", "no match"},
    {"hybrid_identity", "header failure", "no match"},
    {"hybrid_long_file_key", "header failure", "no match"},
    {"hybrid_long_share", "header failure", "no match"},
    {"hybrid_low_order", "header failure", "no match"},
    {"hybrid_multiple_recipients", "success", "no match"},
    {"hybrid_not_canonical_enc", "header failure", "no match"},
    {"hybrid_short_share", "header failure", "no match"},
};

static const Outcome *
outcome_find(const char *expect)
{
    for (size_t i = 0; i < ARRAY_COUNT(outcomes); i++)
        if (strcmp(outcomes[i].expect, expect) == 0)
            return &outcomes[i];
    return NULL;
}

/* ---- a vector ---- */

typedef struct Vector
{
    const char *name;
    const Outcome *expect;
    bool has_payload, is_compressed;
    uint8_t payload[SHA256_DIGEST_LENGTH];
    AgeIdentities *ids;
    size_t hybrid_refused;
    uint8_t *file;
    size_t file_len;
} Vector;

static void
vector_add_identity(Vector *v, const char *text)
{
    Error err = {0};
    char recipient[64], identity[80];

    if (age_identities_add(v->ids, text, &err) == 0)
        return;
    if (err.kind == ERROR_USAGE && strstr(err.msg, "hybrid") != NULL)
        v->hybrid_refused++;
    else
        ok(false, "%s: identity: %s", v->name, err.msg);
    /* some identity, so that what follows is not about having none */
    if (age_keygen(recipient, identity, &err) < 0 || age_identities_add(v->ids, identity, &err) < 0)
        abort();
}

static void
vector_take_line(Vector *v, char *line)
{
    Error err = {0};
    char *value = strstr(line, ": ");

    if (value == NULL)
        abort();
    *value = '\0';
    value += 2;
    if (strcmp(line, "expect") == 0)
        v->expect = outcome_find(value);
    else if (strcmp(line, "payload") == 0)
        v->has_payload = parse_hex_bytes(value, strlen(value), v->payload, sizeof v->payload);
    else if (strcmp(line, "identity") == 0)
        vector_add_identity(v, value);
    else if (strcmp(line, "compressed") == 0)
        v->is_compressed = strcmp(value, "zstd") == 0;
    else if (strcmp(line, "passphrase") == 0)
        (void) (age_identities_set_passphrase(v->ids, value, &err) < 0); /* only the first is used
                                                                          */
    else if (
        strcmp(line, "file key") != 0 && strcmp(line, "armored") != 0 &&
        strcmp(line, "comment") != 0)
        ok(false, "%s: unknown key %s", v->name, line);
}

static void
vector_read(Vector *v, char *text, size_t len)
{
    char *end = memmem(text, len, "\n\n", 2);
    Error err;

    if (end == NULL || age_identities_new(&v->ids, &err) < 0)
        abort();
    *end = '\0';

    const char *body = end + 2;
    size_t body_len = len - (size_t) (body - text);

    for (char *line = strtok_r(text, "\n", &end); line != NULL; line = strtok_r(NULL, "\n", &end))
        vector_take_line(v, line);
    if (v->expect == NULL)
        abort();
    v->file = malloc(FILE_MAX_BYTES);
    if (v->file == NULL)
        abort();
    v->file_len = body_len;
    if (v->is_compressed)
        v->file_len = ZSTD_decompress(v->file, FILE_MAX_BYTES, body, body_len);
    else
        memcpy(v->file, body, body_len);
    if (ZSTD_isError(v->file_len))
        abort();
}

/* ---- running it ---- */

static int
vector_decrypt(const Vector *v, size_t piece, uint8_t digest[SHA256_DIGEST_LENGTH], Error *err)
{
    AUTO(stage_freep) Stage *chain = NULL;
    uint8_t *plain = malloc(FILE_MAX_BYTES);
    size_t plain_len = 0;
    int rc = 0;

    if (plain == NULL ||
        stage_memory_sink_new(plain, FILE_MAX_BYTES, &plain_len, &chain, err) < 0 ||
        age_decryptor_new(v->ids, chain, NULL, &chain, err) < 0)
        abort();
    for (size_t at = 0; rc == 0 && at < v->file_len; at += piece)
        rc = stage_write(chain, v->file + at, MIN(piece, v->file_len - at), err);
    if (rc == 0)
        rc = stage_finish(chain, err);
    (void) SHA256(plain, plain_len, digest);
    free(plain);
    return rc;
}

static const Outcome *
vector_outcome_here(const Vector *v)
{
    for (size_t i = 0; i < ARRAY_COUNT(differences); i++)
        if (strcmp(differences[i].name, v->name) == 0)
        {
            ok(strcmp(differences[i].vector_expects, v->expect->expect) == 0,
               "%s: differs from what it expects as listed", v->name);
            return outcome_find(differences[i].we_have);
        }
    return v->expect;
}

static void
vector_run(const Vector *v)
{
    const Outcome *want = vector_outcome_here(v);
    const size_t pieces[] = {v->file_len + 1, 4096, 65553, 1};
    bool good = true;

    for (size_t i = 0; i < ARRAY_COUNT(pieces) && good; i++)
    {
        uint8_t digest[SHA256_DIGEST_LENGTH];
        Error err = {0};

        if (pieces[i] == 1 && v->file_len > 200000)
            continue;

        int rc = vector_decrypt(v, pieces[i], digest, &err);

        good = rc == want->rc && err.kind == want->kind &&
               strncmp(err.msg, want->says, strlen(want->says)) == 0;
        if (good && v->has_payload && want == v->expect)
            good = memcmp(digest, v->payload, sizeof digest) == 0;
        if (!good)
            diag(
                "in pieces of %zu: rc %d, %s: %s", pieces[i], rc, error_kind_name(err.kind),
                err.msg);
    }
    ok(good, "%s: %s%s%s", v->name, want->expect,
       v->hybrid_refused > 0 ? "; hybrid identity not supported, refused" : "",
       want->rc == 0 || want == v->expect ? "" : " (differs)");
}

static int
vector_filter(const struct dirent *entry)
{
    size_t len = strlen(entry->d_name), suffix = strlen(VECTORS_SUFFIX);

    return len > suffix && strcmp(entry->d_name + len - suffix, VECTORS_SUFFIX) == 0;
}

int
main(void)
{
    struct dirent **names;
    int count = scandir(VECTORS, &names, vector_filter, alphasort);
    size_t seen[ARRAY_COUNT(outcomes)] = {0}, hybrid = 0;

    ok(count == 143, "all 143 vectors are there");
    for (int i = 0; i < count; i++)
    {
        AUTO(free_text) char *text = NULL;
        char path[512];
        size_t len;
        Error err;
        Vector v = {.name = names[i]->d_name};

        (void) snprintf(path, sizeof path, VECTORS "/%s", names[i]->d_name);
        names[i]->d_name[strlen(names[i]->d_name) - strlen(VECTORS_SUFFIX)] = '\0';
        if (fs_read_file(path, 1 << 20, &text, &len, &err) < 0)
            abort();
        vector_read(&v, text, len);
        vector_run(&v);
        seen[v.expect - outcomes]++;
        hybrid += v.hybrid_refused > 0 ? 1 : 0;
        age_identities_free(v.ids);
        free(v.file);
        free(names[i]);
    }
    if (count >= 0)
        free(names);
    for (size_t i = 0; i < ARRAY_COUNT(outcomes); i++)
        ok(seen[i] == outcomes[i].count, "%zu vectors expect %s", outcomes[i].count,
           outcomes[i].expect);
    ok(hybrid == 19, "19 vectors have a hybrid identity");
    return done_testing();
}
