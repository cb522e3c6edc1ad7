/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * The stage wrappers and the small stages: digest, slice, sinks.
 */
#include <fcntl.h>
#include <unistd.h>

#include "common/fs.h"
#include "common/parse.h"
#include "tap.h"

#include "stream_test.h"

static const struct
{
    const char *label;
    const char *text;
    const char *sha256;
} digests[] = {
    {"nothing", "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"two blocks", "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static void
test_digest(void)
{
    for (size_t i = 0; i < ARRAY_COUNT(digests); i++)
    {
        for (int with_next = 0; with_next < 2; with_next++)
        {
            size_t len = strlen(digests[i].text);
            TestSink sink;
            Stage *st = NULL;
            Error err = {0};
            char hex[65];
            bool good;

            test_sink_init(&sink, 0);
            good = stage_digest_new(with_next ? &sink.stage : NULL, &st, &err) == 0;
            /* in two halves, so that state is carried */
            good = good && stage_write(st, digests[i].text, len / 2, &err) == 0 &&
                   stage_write(st, digests[i].text + len / 2, len - len / 2, &err) == 0 &&
                   stage_finish(st, &err) == 0;
            good = good &&
                   strcmp(format_hex(stage_digest_sha256(st), 32, hex), digests[i].sha256) == 0 &&
                   st->bytes_in == len &&
                   (!with_next || (sink.finished && test_sink_holds(&sink, digests[i].text, len)));
            ok(good, "digest: %s, %s", digests[i].label, with_next ? "passing on" : "as a sink");
            stage_free(st);
            test_sink_reset(&sink);
        }
    }
}

static const struct
{
    const char *label;
    uint64_t skip, len;
    const char *want;
    int rc;
} slices[] = {
    {"all", 0, UINT64_MAX, "0123456789", 0},
    {"exactly all", 0, 10, "0123456789", 0},
    {"front", 0, 3, "012", 0},
    {"middle", 4, 2, "45", 0},
    {"to the end", 7, UINT64_MAX, "789", 0},
    {"last byte", 9, 1, "9", 0},
    {"nothing", 5, 0, "", 0},
    {"behind the end, to the end", 20, UINT64_MAX, "", 0},
    {"one byte too few", 8, 3, "89", -1},
    {"wholly behind the end", 10, 1, "", -1},
};

static void
test_slice(void)
{
    static const uint8_t data[] = "0123456789";

    for (size_t i = 0; i < ARRAY_COUNT(slices); i++)
    {
        bool good = true;

        for (size_t step = 1; step <= 10; step++)
        {
            TestSink sink;
            Stage *st = NULL;
            Error err = {0};
            int rc;

            test_sink_init(&sink, 0);
            good =
                stage_slice_new(slices[i].skip, slices[i].len, &sink.stage, &st, &err) == 0 && good;
            rc = test_push(st, data, 10, step, &err);
            good = good && rc == slices[i].rc && (rc == 0 || err.kind == ERROR_CORRUPT) &&
                   sink.finished == (rc == 0) &&
                   test_sink_holds(&sink, slices[i].want, strlen(slices[i].want));
            test_sink_reset(&sink);
        }
        ok(good, "slice: %s", slices[i].label);
    }
}

static void
test_memory_sink(void)
{
    uint8_t buf[8];
    size_t len = 99;
    Stage *st = NULL;
    Error err = {0};
    bool good = stage_memory_sink_new(buf, sizeof buf, &len, &st, &err) == 0;

    ok(good && len == 0, "memory sink: begins empty");
    ok(stage_write(st, "abc", 3, &err) == 0 && len == 3 && stage_write(st, "defgh", 5, &err) == 0 &&
           len == 8 && memcmp(buf, "abcdefgh", 8) == 0,
       "memory sink: takes as much as there is room for");
    ok(stage_write(st, "i", 1, &err) < 0 && err.kind == ERROR_CORRUPT && len == 8,
       "memory sink: refuses one byte more");
    ok(st->state == STAGE_FAILED, "a failed stage stays failed");
    stage_free(st);
}

static void
test_fd_sink(void)
{
    char path[] = "/tmp/walstream-test-XXXXXX";
    AUTO(fd_close) int fd = mkstemp(path);
    char back[16] = "";
    Stage *st = NULL;
    Error err = {0};
    bool good = fd >= 0 && stage_fd_sink_new(fd, "test file", &st, &err) == 0 &&
                stage_write(st, "hello", 5, &err) == 0 && stage_finish(st, &err) == 0;

    stage_free(st);
    ok(good && pread(fd, back, sizeof back, 0) == 5 && memcmp(back, "hello", 5) == 0,
       "fd sink: writes");
    (void) unlink(path);

    AUTO(fd_close) int full = open("/dev/full", O_WRONLY | O_CLOEXEC);

    st = NULL;
    good = full >= 0 && stage_fd_sink_new(full, "full device", &st, &err) == 0 &&
           stage_write(st, "hello", 5, &err) < 0;
    stage_free(st);
    ok(good && err.kind == ERROR_IO && strstr(err.msg, "full device") != NULL,
       "fd sink: names the file that cannot be written");
}

int
main(void)
{
    test_digest();
    test_slice();
    test_memory_sink();
    test_fd_sink();

    Error err = {0};
    Stage *st = NULL;

    ok(stage_digest_new(NULL, &st, &err) == 0 && stage_write(st, NULL, 0, &err) == 0 &&
           st->bytes_in == 0,
       "a write of nothing does nothing");
    stage_free(st);
    stage_free(NULL);
    return done_testing();
}
