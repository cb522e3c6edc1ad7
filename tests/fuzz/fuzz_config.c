/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The configuration reader: any file gives a configuration whose every value is known and in range,
 * or a USAGE error that names the file.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/config.h"
#include "common/fs.h"

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
fuzz_check_config(const Config *cfg)
{
    for (size_t i = 0; i < config_option_count; i++)
    {
        const ConfigOption *opt = &config_options[i];
        const char *source = NULL;
        const char *value = config_value(cfg, opt, 0, &source);

        if (opt->type == CONFIG_TEXT_LIST)
            continue;
        fuzz_check(value != NULL && source != NULL, "every option has a value and a source");
        fuzz_check(opt->default_text != NULL || value[0] != '\0', "required ones are not empty");
        fuzz_check(strpbrk(value, "\r\n") == NULL, "a value is one line");
    }
    fuzz_check(cfg->encryption.recipient_count <= CONFIG_MAX_RECIPIENTS, "recipients are bounded");
    fuzz_check(cfg->stream.workers >= 1 && cfg->stream.workers <= 64, "workers in range");
    fuzz_check(cfg->stream.memory_bytes >= UINT64_C(24) << 20, "memory in range");
    fuzz_check(
        cfg->stream.flush_interval_ms >= 10 && cfg->stream.flush_interval_ms <= 3600000,
        "flush interval in range");
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO(fd_close) int fd = memfd_create("config", MFD_CLOEXEC);
    AUTO(config_freep) Config *cfg = NULL;
    char path[64];
    Error err = {.kind = ERROR_NONE};

    fuzz_check(fd >= 0, "memfd_create");
    fuzz_check(fs_write_all(fd, data, size, "memory", &err) == 0, "write");
    (void) snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (config_load(path, NULL, &cfg, &err) == 0)
        fuzz_check_config(cfg);
    else
    {
        fuzz_check(cfg == NULL, "nothing is handed out on failure");
        fuzz_check(err.kind == ERROR_USAGE, "the kind is USAGE");
        fuzz_check(strstr(err.msg, path) != NULL, "the message names the file");
    }
    return 0;
}
