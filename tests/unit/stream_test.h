/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * What the tests of stages share: data to feed, a sink that fails at the n-th call, and
 * whole-buffer helpers. Needs tap.h before it.
 */
#ifndef WALSTREAM_STREAM_TEST_H
#define WALSTREAM_STREAM_TEST_H

#include <stdlib.h>
#include <string.h>

#include "stream/stage.h"

/* A sink that keeps what it gets and fails at its fail_at-th call (1-based; finish counts too). */
typedef struct TestSink
{
    Stage stage;
    uint8_t *data;
    size_t len, cap;
    uint64_t calls, fail_at;
    bool finished;
} TestSink;

__attribute__((unused)) static int
test_sink_write(Stage *st, const void *buf, size_t len, Error *err)
{
    TestSink *s = (TestSink *) st;

    if (++s->calls == s->fail_at)
        return error_set(err, ERROR_IO, "planned failure");
    if (len > s->cap - s->len)
    {
        size_t cap = (s->len + len) * 2;
        uint8_t *data = realloc(s->data, cap);

        if (data == NULL)
            return error_nomem(err);
        s->data = data;
        s->cap = cap;
    }
    memcpy(s->data + s->len, buf, len);
    s->len += len;
    return 0;
}

__attribute__((unused)) static int
test_sink_finish(Stage *st, Error *err)
{
    TestSink *s = (TestSink *) st;

    if (++s->calls == s->fail_at)
        return error_set(err, ERROR_IO, "planned failure");
    s->finished = true;
    return 0;
}

/* The sink itself stays for the test to look at: test_sink_reset releases it. */
__attribute__((unused)) static const StageOps test_sink_ops = {
    .name = "test",
    .write = test_sink_write,
    .finish = test_sink_finish,
};

__attribute__((unused)) static void
test_sink_init(TestSink *s, uint64_t fail_at)
{
    memset(s, 0, sizeof *s);
    stage_init(&s->stage, &test_sink_ops, NULL);
    s->fail_at = fail_at;
}

__attribute__((unused)) static void
test_sink_reset(TestSink *s)
{
    free(s->data);
    memset(s, 0, sizeof *s);
}

__attribute__((unused)) static bool
test_sink_holds(const TestSink *s, const void *data, size_t len)
{
    return s->len == len && (len == 0 || memcmp(s->data, data, len) == 0);
}

/* A fixed pseudo-random sequence: the same data in every run. */
__attribute__((unused)) static uint32_t
test_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t) (*state >> 33);
}

typedef enum TestData
{
    TEST_RANDOM, /* cannot be compressed */
    TEST_TEXT,   /* compresses well, with matches far back */
    TEST_ZEROS
} TestData;

__attribute__((unused)) static uint8_t *
test_data_new(TestData kind, size_t len)
{
    uint8_t *data = calloc(1, len + 1);
    uint64_t state = 42;

    if (data == NULL)
        abort();
    for (size_t i = 0; kind != TEST_ZEROS && i < len; i++)
    {
        if (kind == TEST_TEXT && i >= 100 && test_random(&state) % 8 != 0)
            data[i] = data[i - 100 + i / 7 % 50];
        else
            data[i] = (uint8_t) test_random(&state);
    }
    return data;
}

/* Pushes data through in pieces of at most step bytes and finishes; frees the chain either way. */
__attribute__((unused)) static int
test_push(Stage *head, const uint8_t *data, size_t len, size_t step, Error *err)
{
    int rc = 0;

    for (size_t at = 0; at < len && rc == 0; at += step)
        rc = stage_write(head, data + at, MIN(step, len - at), err);
    if (rc == 0)
        rc = stage_finish(head, err);
    stage_free(head);
    return rc;
}

#endif
