/*
 * SPDX-License-Identifier: PostgreSQL
 */
#include "pg/replmsg.h"

#include <inttypes.h>
#include <string.h>

#include "tap.h"

#define START "\x00\x00\x00\x16\x0B\x37\x4D\x48"
#define END "\x00\x00\x00\x16\x0C\x00\x00\x00"
#define SECOND "\x00\x00\x00\x00\x00\x0F\x42\x40" /* 2000-01-01 00:00:01 */
#define SECOND_WALL INT64_C(946684801000000)

static void
test_parse(void)
{
    static const struct
    {
        const char *label;
        const char *bytes;
        size_t len;
        bool good;
        ReplMsg want;
    } cases[] = {
        {"data",
         "w" START END SECOND "abc",
         28,
         true,
         {REPLMSG_DATA, 0x160C000000, SECOND_WALL, false, 0x160B374D48, NULL, 3}},
        {"data of no bytes",
         "w" START END SECOND,
         25,
         true,
         {REPLMSG_DATA, 0x160C000000, SECOND_WALL, false, 0x160B374D48, NULL, 0}},
        {"data with a cut header", "w" START END SECOND, 24, false, {0}},
        {"data type only", "w", 1, false, {0}},
        {"data up to the last LSN",
         "w\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFC" END SECOND "abc",
         28,
         true,
         {REPLMSG_DATA, 0x160C000000, SECOND_WALL, false, UINT64_MAX - 3, NULL, 3}},
        {"data past the last LSN",
         "w\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFD" END SECOND "abc",
         28,
         false,
         {0}},
        {"keepalive",
         "k" END SECOND "\x00",
         18,
         true,
         {REPLMSG_KEEPALIVE, 0x160C000000, SECOND_WALL, false, 0, NULL, 0}},
        {"keepalive that wants an answer",
         "k" END SECOND "\x01",
         18,
         true,
         {REPLMSG_KEEPALIVE, 0x160C000000, SECOND_WALL, true, 0, NULL, 0}},
        {"keepalive short", "k" END SECOND, 17, false, {0}},
        {"keepalive long", "k" END SECOND "\x01\x00", 19, false, {0}},
        {"empty", "", 0, false, {0}},
        {"our own type", "r" START START START SECOND "\x00", 34, false, {0}},
        {"unknown type", "x" END SECOND "\x01", 18, false, {0}},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        const ReplMsg *want = &cases[i].want;
        ReplMsg got = {.len = 42};
        Error err = {0};
        int rc = replmsg_parse(cases[i].bytes, cases[i].len, &got, &err);

        if (!cases[i].good)
        {
            ok(rc == -1 && err.kind == ERROR_CORRUPT && got.len == 42, "%s: %s", cases[i].label,
               err.msg);
            continue;
        }
        ok(rc == 0 && got.kind == want->kind && got.server_end == want->server_end &&
               got.sent_wall_us == want->sent_wall_us && got.reply_now == want->reply_now &&
               got.start == want->start && got.len == want->len &&
               (got.kind == REPLMSG_DATA
                    ? (const char *) got.data == cases[i].bytes + REPLMSG_DATA_HEADER_BYTES
                    : got.data == NULL),
           "%s", cases[i].label);
    }
}

static void
test_status(void)
{
    static const struct
    {
        const char *label;
        ReplStatus status;
        const char *want;
    } cases[] = {
        {"status",
         {0x160C000000, 0x160B374D48, 0, SECOND_WALL, false},
         "r" END START "\0\0\0\0\0\0\0\0" SECOND "\0"},
        {"status that wants an answer",
         {0x160C000000, 0, 0x160B374D48, SECOND_WALL, true},
         "r" END "\0\0\0\0\0\0\0\0" START SECOND "\1"},
        {"status from before 2000",
         {0, 0, 0, SECOND_WALL - 1000001, false},
         "r\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        uint8_t out[REPLMSG_STATUS_BYTES + 1];

        out[REPLMSG_STATUS_BYTES] = 0xA5;
        replmsg_format_status(&cases[i].status, out);
        ok(memcmp(out, cases[i].want, REPLMSG_STATUS_BYTES) == 0 &&
               out[REPLMSG_STATUS_BYTES] == 0xA5,
           "%s", cases[i].label);
    }
}

static void
test_time(void)
{
    static const struct
    {
        const char *label;
        int64_t pg_us, wall_us;
    } cases[] = {
        {"2000-01-01", 0, INT64_C(946684800000000)},
        {"1970-01-01", INT64_C(-946684800000000), 0},
        {"2026-03-01 09:14:07.12", INT64_C(825671647120000), INT64_C(1772356447120000)},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        ok(replmsg_time_to_wall(cases[i].pg_us) == cases[i].wall_us &&
               replmsg_time_from_wall(cases[i].wall_us) == cases[i].pg_us,
           "%s there and back", cases[i].label);
    ok(replmsg_time_to_wall(INT64_MAX) == INT64_MAX, "the largest is clamped");
    ok(replmsg_time_from_wall(INT64_MIN) == INT64_MIN, "the smallest is clamped");
}

int
main(void)
{
    test_parse();
    test_status();
    test_time();
    return done_testing();
}
