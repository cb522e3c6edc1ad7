/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Identity files: as age-keygen writes them, or inside an age file that a passphrase protects; see
 * age.h. No message quotes a line: whatever it is, it may be a secret.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fs.h"
#include "crypto/age_keys.h"

#define AGE_IDENTITY_FILE_MAX 65536

/* Text that is wiped; sized for the largest file, so that no copy is left behind by growing. */
typedef struct AgeSecretText
{
    size_t len;
    char data[AGE_IDENTITY_FILE_MAX + 1];
} AgeSecretText;

static void
age_secret_text_freep(AgeSecretText **p)
{
    if (*p != NULL)
        crypto_wipe(*p, sizeof **p);
    free(*p);
}

/* Looks at the open file, not at its name, so that nobody can change it in between. */
static int
age_identity_file_check(int fd, Error *err)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return error_sys(err, "could not look at its permissions");
    if (S_ISDIR(st.st_mode))
        return error_set(err, ERROR_USAGE, "it is a directory");
    if ((st.st_mode & (S_IRWXG | S_IRWXO)) == 0)
        return 0;
    (void) error_set(
        err, ERROR_DENIED, "group or others have access to it (mode %04o)",
        (unsigned) (st.st_mode & 07777));
    return error_hint(err, "It holds secret keys: chmod 0600 it, owned by the user who runs this.");
}

static int
age_identity_file_read(const char *path, AgeSecretText *text, Error *err)
{
    AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return error_sys(err, "could not open it");
    if (age_identity_file_check(fd, err) < 0 ||
        fs_read_full(fd, text->data, sizeof text->data, &text->len, path, err) < 0)
        return -1;
    if (text->len > AGE_IDENTITY_FILE_MAX)
        return error_set(err, ERROR_USAGE, "it is larger than %d bytes", AGE_IDENTITY_FILE_MAX);
    text->data[text->len] = '\0';
    return 0;
}

static bool
age_identity_file_is_encrypted(const AgeSecretText *text)
{
    static const char armor[] = "-----BEGIN AGE ENCRYPTED FILE-----";
    size_t blank = strspn(text->data, " \t\r\n");

    return age_is_age(text->data, text->len) ||
           strncmp(text->data + blank, armor, sizeof armor - 1) == 0;
}

static int
age_identity_file_parse(AgeIdentities *ids, AgeSecretText *text, Error *err)
{
    size_t before = ids->count;
    size_t line_no = 0;
    bool any = false;

    if (memchr(text->data, '\0', text->len) != NULL)
        return error_set(err, ERROR_USAGE, "it is not a text file");
    for (char *line = text->data, *next; line != NULL; line = next)
    {
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        line_no++;

        size_t len = strlen(line);

        if (len > 0 && line[len - 1] == '\r')
            line[len - 1] = '\0';
        if (line[0] == '\0' || line[0] == '#')
            continue;
        if (age_identities_add(ids, line, err) < 0)
        {
            /* all or nothing: a file with a bad line gives no key */
            while (ids->count > before)
                EVP_PKEY_free(ids->keys[--ids->count].key);
            return error_wrap(err, "line %zu", line_no);
        }
        any = true;
    }
    if (!any)
        return error_set(err, ERROR_USAGE, "it has no secret key (AGE-SECRET-KEY-1...)");
    return 0;
}

static int
age_identity_file_decrypt(
    const AgeSecretText *sealed, const char *passphrase, AgeSecretText *plain, Error *err)
{
    AUTO(age_identities_freep) AgeIdentities *key = NULL;
    AUTO(stage_freep) Stage *chain = NULL;

    if (age_identities_new(&key, err) < 0 ||
        age_identities_set_passphrase(key, passphrase, err) < 0 ||
        stage_memory_sink_new(plain->data, AGE_IDENTITY_FILE_MAX, &plain->len, &chain, err) < 0 ||
        age_decryptor_new(key, chain, NULL, &chain, err) < 0 ||
        stage_write(chain, sealed->data, sealed->len, err) < 0 || stage_finish(chain, err) < 0)
        return -1;
    plain->data[plain->len] = '\0';
    return 0;
}

static int
age_identity_file_load(AgeIdentities *ids, const char *path, const char *passphrase, Error *err)
{
    AUTO(age_secret_text_freep) AgeSecretText *text = calloc(1, sizeof *text);

    if (text == NULL)
        return error_nomem(err);
    if (age_identity_file_read(path, text, err) < 0)
        return -1;
    if (!age_identity_file_is_encrypted(text))
        return age_identity_file_parse(ids, text, err);
    if (passphrase == NULL)
    {
        (void) error_set(err, ERROR_USAGE, "it is itself encrypted with age");
        return error_hint(
            err, "Give its passphrase too, or decrypt it: age -d FILE > NEW, then chmod 0600 NEW.");
    }

    AUTO(age_secret_text_freep) AgeSecretText *plain = calloc(1, sizeof *plain);

    if (plain == NULL)
        return error_nomem(err);
    if (age_identity_file_decrypt(text, passphrase, plain, err) < 0)
        return -1;
    return age_identity_file_parse(ids, plain, err);
}

int
age_identities_load(AgeIdentities *ids, const char *path, Error *err)
{
    if (age_identity_file_load(ids, path, NULL, err) < 0)
        return error_wrap(err, "could not use identity file \"%s\"", path);
    return 0;
}

int
age_identities_load_protected(
    AgeIdentities *ids, const char *path, const char *passphrase, Error *err)
{
    if (age_identity_file_load(ids, path, passphrase, err) < 0)
        return error_wrap(err, "could not use identity file \"%s\"", path);
    return 0;
}
