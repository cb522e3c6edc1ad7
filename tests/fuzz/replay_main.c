/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Runs a fuzz target over files without a fuzzing engine, and over the beginnings of each file, as
 * most parsers must survive truncation. Prints TAP.
 *
 * Arguments are files and directories. Without any, fuzz_X takes the directory tests/fuzz/corpus/X
 * below the working directory, for `prove`. A directory without files is a failure: a corpus that
 * went missing must not look like one that passed.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/fs.h"
#include "tap.h"

#define REPLAY_MAX_BYTES (16U << 20)
#define REPLAY_MAX_CUTS 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In memory of exactly this size, so that a sanitizer sees a read behind its end. */
static bool
replay_bytes(const char *data, size_t size)
{
    uint8_t *copy = malloc(MAX(size, 1));

    if (copy == NULL)
        return false;
    memcpy(copy, data, size);

    int rc = LLVMFuzzerTestOneInput(copy, size);

    free(copy);
    return rc == 0;
}

static void
replay_file(const char *path)
{
    AUTO(free_text) char *data = NULL;
    size_t size, step;
    bool good;
    Error err;

    if (fs_read_file(path, REPLAY_MAX_BYTES, &data, &size, &err) < 0)
    {
        ok(false, "%s: %s", path, err.msg);
        return;
    }
    /* told beforehand: after a crash this is the last line */
    diag("%s", path);
    good = replay_bytes(data, size);
    step = size / REPLAY_MAX_CUTS + 1;
    for (size_t cut = 0; cut < size; cut += step)
        good = replay_bytes(data, cut) && good;
    ok(good, "%s", path);
}

static int
replay_skip_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void
replay_directory(const char *path)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, replay_skip_hidden, alphasort);

    if (count <= 0)
        ok(false, "%s holds files", path);
    for (int i = 0; i < count; i++)
    {
        AUTO(free_text) char *file = NULL;

        if (asprintf(&file, "%s/%s", path, entries[i]->d_name) < 0)
        {
            file = NULL;
            ok(false, "%s: out of memory", path);
        }
        else
            replay_file(file);
        free(entries[i]);
    }
    free(entries);
}

static void
replay_path(const char *path)
{
    struct stat st;

    if (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))
        replay_file(path);
    else
        replay_directory(path);
}

int
main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        replay_path(argv[i]);
    if (argc == 1)
    {
        AUTO(free_text) char *path = NULL;
        const char *name = strrchr(argv[0], '/');

        name = name == NULL ? argv[0] : name + 1;
        if (strncmp(name, "fuzz_", 5) != 0 || asprintf(&path, "tests/fuzz/corpus/%s", name + 5) < 0)
        {
            path = NULL;
            ok(false, "%s: the name does not begin with fuzz_", argv[0]);
        }
        else
            replay_path(path);
    }
    return done_testing();
}
