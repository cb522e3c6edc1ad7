/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * A directory for a unit test's files, below $TESTDIR or $TMPDIR or /tmp, removed at its end.
 */
#ifndef WALSTREAM_TEMPDIR_H
#define WALSTREAM_TEMPDIR_H

#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char tempdir_path[256];

static int
tempdir_remove_entry(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void) st;
    (void) type;
    (void) walk;
    (void) remove(path);
    return 0;
}

static void
tempdir_remove(void)
{
    (void) nftw(tempdir_path, tempdir_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Makes it; ends the program if that cannot be done. Returns its path. */
__attribute__((unused)) static const char *
tempdir_make(void)
{
    const char *top = getenv("TESTDIR");

    if (top == NULL)
        top = getenv("TMPDIR");
    if (top == NULL)
        top = "/tmp";
    (void) snprintf(tempdir_path, sizeof tempdir_path, "%s/walstream-unit.XXXXXX", top);
    if (mkdtemp(tempdir_path) == NULL || atexit(tempdir_remove) != 0)
    {
        perror(tempdir_path);
        exit(1);
    }
    return tempdir_path;
}

/* "<directory>/name"; valid to the end, the same name gives the same text. */
__attribute__((unused)) static const char *
tempdir_name(const char *name)
{
    static char names[128][512];
    char path[512];
    size_t i;

    (void) snprintf(path, sizeof path, "%s/%s", tempdir_path, name);
    for (i = 0; i < sizeof names / sizeof names[0]; i++)
    {
        if (names[i][0] == '\0')
            memcpy(names[i], path, sizeof path);
        if (strcmp(names[i], path) == 0)
            return names[i];
    }
    fprintf(stderr, "too many names\n");
    exit(1);
}

/* The files in a directory that are not hidden; 0 where it cannot be read. */
__attribute__((unused)) static size_t
tempdir_count(const char *dir)
{
    DIR *d = opendir(dir);
    size_t count = 0;

    for (const struct dirent *e; d != NULL && (e = readdir(d)) != NULL;)
        count += e->d_name[0] != '.' ? 1u : 0u;
    if (d != NULL)
        (void) closedir(d);
    return count;
}

/* Writes a file there; returns its path. Ends the program if that cannot be done. */
__attribute__((unused)) static const char *
tempdir_write(const char *name, const void *data, size_t len)
{
    const char *path = tempdir_name(name);
    FILE *f = fopen(path, "we");

    if (f == NULL || fwrite(data, 1, len, f) != len || fclose(f) != 0)
    {
        perror(path);
        exit(1);
    }
    return path;
}

#endif
