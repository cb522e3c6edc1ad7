/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * walctl keygen FILE: makes an identity file as age-keygen does, mode 0600, and prints the
 * recipient.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fs.h"
#include "walctl/walctl.h"

int
walctl_keygen(Walctl *ctl, int *exit_code UNUSED, Error *err)
{
    const char *path = ctl->cli.args[0];
    char recipient[64], identity[80], text[256], when[40];
    AUTO(fd_close) int fd = -1;
    int rc;

    if (age_keygen(recipient, identity, err) < 0)
        return -1;
    (void) snprintf(
        text, sizeof text, "# created: %s\n# public key: %s\n%s\n",
        clock_format_iso(clock_wall_us(), when, sizeof when), recipient, identity);
    explicit_bzero(identity, sizeof identity);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
    {
        explicit_bzero(text, sizeof text);
        return error_sys(err, "could not create \"%s\"", path);
    }
    rc = fs_write_all(fd, text, strlen(text), path, err);
    explicit_bzero(text, sizeof text);
    if (rc == 0 && fsync(fd) < 0)
        rc = error_sys(err, "could not sync \"%s\"", path);
    if (rc < 0)
    {
        (void) unlink(path);
        return -1;
    }
    if (ctl->json ? printf("{\"recipient\": \"%s\"}\n", recipient) < 0
                  : printf("recipient = %s\n", recipient) < 0)
        return error_set(err, ERROR_IO, "could not print the recipient");
    return 0;
}
