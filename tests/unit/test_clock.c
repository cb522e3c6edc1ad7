/*
 * SPDX-License-Identifier: PostgreSQL
 *
 * Clocks, their texts, and deadlines.
 */
#include "common/clock.h"

#include <string.h>

#include "tap.h"

static void
test_formats(void)
{
    static const struct
    {
        const char *label;
        int64_t wall_us;
        const char *utc, *iso;
    } cases[] = {
        {"the epoch", 0, "1970-01-01 00:00:00.000 UTC", "1970-01-01T00:00:00.000000Z"},
        {"one microsecond before it", -1, "1969-12-31 23:59:59.999 UTC",
         "1969-12-31T23:59:59.999999Z"},
        {"a leap day", INT64_C(1709210096123456), "2024-02-29 12:34:56.123 UTC",
         "2024-02-29T12:34:56.123456Z"},
        {"milliseconds are cut, not rounded", 1999, "1970-01-01 00:00:00.001 UTC",
         "1970-01-01T00:00:00.001999Z"},
        {"behind 2038", INT64_C(4102444800000000), "2100-01-01 00:00:00.000 UTC",
         "2100-01-01T00:00:00.000000Z"},
    };

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        char utc[32], iso[32];

        ok(strcmp(clock_format_utc(cases[i].wall_us, utc, sizeof utc), cases[i].utc) == 0,
           "%s, for display: %s", cases[i].label, utc);
        ok(strcmp(clock_format_iso(cases[i].wall_us, iso, sizeof iso), cases[i].iso) == 0,
           "%s, for machines: %s", cases[i].label, iso);

        int64_t again;

        ok(clock_parse_iso(iso, &again) && again == cases[i].wall_us, "%s, read again",
           cases[i].label);
    }
}

static void
test_parse(void)
{
    static const struct
    {
        const char *label, *text;
        bool iso, good;
        int64_t want;
    } cases[] = {
        {"iso", "2024-02-29T12:34:56.123456Z", true, true, INT64_C(1709210096123456)},
        {"iso: no fraction", "2024-02-29T12:34:56Z", true, false, 0},
        {"iso: no such day", "2023-02-29T12:34:56.123456Z", true, false, 0},
        {"iso: month 0", "2023-00-29T12:34:56.123456Z", true, false, 0},
        {"iso: hour 24", "2023-01-29T24:00:00.000000Z", true, false, 0},
        {"iso: a leap second", "2016-12-31T23:59:60.000000Z", true, false, 0},
        {"iso: no zone", "2024-02-29T12:34:56.123456", true, false, 0},
        {"iso: something behind", "2024-02-29T12:34:56.123456Z ", true, false, 0},
        {"iso: a sign", "2024-02-29T12:34:56.+23456Z", true, false, 0},
        {"iso: small t", "2024-02-29t12:34:56.123456Z", true, false, 0},
        {"iso: the year 0", "0000-01-01T00:00:00.000000Z", true, true, INT64_C(-62167219200000000)},
        {"iso: empty", "", true, false, 0},
        {"compact", "20240229T123456Z", false, true, INT64_C(1709210096000000)},
        {"compact: the last second", "99991231T235959Z", false, true, INT64_C(253402300799000000)},
        {"compact: no such day", "20240431T123456Z", false, false, 0},
        {"compact: a form of iso", "2024-02-29T12:34:56.000000Z", false, false, 0},
        {"compact: short", "20240229T12345Z", false, false, 0},
        {"compact: blanks", "20240229T1234 6Z", false, false, 0},
    };
    char buf[32];

    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
    {
        int64_t got = 7;
        bool good = cases[i].iso ? clock_parse_iso(cases[i].text, &got)
                                 : clock_parse_compact(cases[i].text, &got);

        ok(good == cases[i].good && got == (good ? cases[i].want : 7), "%s", cases[i].label);
    }
    ok(strcmp(
           clock_format_compact(INT64_C(1709210096999999), buf, sizeof buf), "20240229T123456Z") ==
           0,
       "compact is cut to seconds: %s", buf);
}

static void
test_deadlines(void)
{
    atomic_bool cancel = false;
    Deadline never = deadline_after_ms(-1, &cancel);
    Deadline now = deadline_after_ms(0, NULL);
    Deadline later = deadline_after_ms(600000, &cancel);
    Deadline huge = deadline_after_ms(INT64_MAX, NULL);
    Error err;

    ok(deadline_left_ms(&never) == INT64_MAX, "a negative time-out is none");
    ok(deadline_left_ms(&huge) == INT64_MAX, "the largest time-out does not overflow");
    ok(deadline_left_ms(&now) == 0, "a time-out of 0 has passed");
    ok(deadline_left_ms(&later) > 500000 && deadline_left_ms(&later) <= 600000,
       "ten minutes are left");
    ok(deadline_check(&later, "x", &err) == 0, "there is time");
    ok(deadline_check(&now, "upload of \"x\"", &err) == -1 && err.kind == ERROR_TIMEOUT &&
           strstr(err.msg, "upload of \"x\"") != NULL,
       "TIMEOUT names what was waited for: %s", err.msg);

    Deadline sooner = deadline_sooner(&later, 10);
    Deadline not_later = deadline_sooner(&now, 60000);

    ok(sooner.at_ms < later.at_ms && sooner.cancel == &cancel, "deadline_sooner shortens");
    ok(not_later.at_ms == now.at_ms, "deadline_sooner never lengthens");

    atomic_store(&cancel, true);
    ok(deadline_left_ms(&never) == 0 && deadline_left_ms(&sooner) == 0, "canceled: no time left");
    ok(deadline_check(&later, "x", &err) == -1 && err.kind == ERROR_CANCELED, "CANCELED");

    int64_t start = clock_monotonic_ms();

    deadline_sleep_ms(&later, 600000);
    ok(clock_monotonic_ms() - start < 300000, "a canceled sleep ends at once");
    start = clock_monotonic_us();
    deadline_sleep_ms(&huge, 20);
    ok(clock_monotonic_us() - start >= 19000, "a sleep lasts");
    start = clock_monotonic_ms();
    deadline_sleep_ms(&now, 600000);
    ok(clock_monotonic_ms() - start < 300000, "a sleep ends with the deadline");
}

int
main(void)
{
    test_formats();
    test_parse();
    test_deadlines();
    ok(clock_wall_us() > INT64_C(1700000000000000), "the wall clock knows the century");
    return done_testing();
}
