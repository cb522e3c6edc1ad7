/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Identity files and recipients of any bytes: keys that work, or USAGE and no key at all.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fs.h"
#include "crypto/age.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
fuzz_check(bool good, const char *what)
{
    if (good)
        return;
    (void) fprintf(stderr, "broken: %s\n", what);
    abort();
}

static void
fuzz_check_identities(const AgeIdentities *ids)
{
    AUTO(age_recipients_freep) AgeRecipients *r = NULL;
    Error err;

    fuzz_check(age_identities_count(ids) >= 1, "a key on success");
    fuzz_check(age_identities_count(ids) <= AGE_IDENTITIES_MAX, "keys are bounded");
    fuzz_check(age_recipients_new(&r, &err) == 0, "recipients");
    for (size_t i = 0; i < MIN(age_identities_count(ids), (size_t) AGE_RECIPIENTS_MAX); i++)
    {
        char recipient[64];

        fuzz_check(
            age_identities_recipient(ids, i, recipient, sizeof recipient, &err) == 0 &&
                age_recipients_add(r, recipient, &err) == 0,
            "each key has a recipient");
    }
}

static void
fuzz_check_file(const uint8_t *data, size_t size)
{
    AUTO(fd_close) int fd = memfd_create("identity", MFD_CLOEXEC);
    AUTO(age_identities_freep) AgeIdentities *ids = NULL;
    char path[64];
    Error err = {.kind = ERROR_NONE};

    fuzz_check(fd >= 0 && fchmod(fd, 0600) == 0, "memfd_create");
    fuzz_check(fs_write_all(fd, data, size, "memory", &err) == 0, "write");
    fuzz_check(age_identities_new(&ids, &err) == 0, "identities");
    (void) snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (age_identities_load(ids, path, &err) == 0)
        fuzz_check_identities(ids);
    else
    {
        fuzz_check(err.kind == ERROR_USAGE, "the kind is USAGE");
        fuzz_check(strstr(err.msg, path) != NULL, "the message names the file");
        fuzz_check(age_identities_count(ids) == 0, "no key on failure");
    }
}

static void
fuzz_check_recipient(const uint8_t *data, size_t size)
{
    AUTO(age_recipients_freep) AgeRecipients *r = NULL;
    AUTO(free_text) char *text = malloc(size + 1);
    Error err = {.kind = ERROR_NONE};

    fuzz_check(text != NULL && age_recipients_new(&r, &err) == 0, "memory");
    memcpy(text, data, size);
    text[size] = '\0';
    if (age_recipients_add(r, text, &err) == 0)
        fuzz_check(
            age_recipients_count(r) == 1 && strlen(text) == 62 &&
                strlen(age_recipients_key_ids(r)) == (size_t) 2 * AGE_KEY_ID_BYTES,
            "a recipient on success");
    else
        fuzz_check(err.kind == ERROR_USAGE && age_recipients_count(r) == 0, "a recipient is USAGE");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_check_file(data, size);
    fuzz_check_recipient(data, size);
    return 0;
}
