/* Cron expressions and time zones, against tables made by hand and against the C library's own
 * reading of tzdata. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "streamgate/base/cron.h"

#include "support/unit.h"

static uint64_t utc_ms(const char *text)
{
    struct tm tm = {0};
    assert_non_null(strptime(text, "%Y-%m-%dT%H:%M:%SZ", &tm));
    return (uint64_t)timegm(&tm) * 1000;
}

static const struct {
    const char *cron, *zone, *after, *next;
} runs[] = {
    {"* * * * *", "UTC", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"},
    {"* * * * *", "UTC", "2026-01-01T00:00:59Z", "2026-01-01T00:01:00Z"},
    {"*/15 * * * *", "UTC", "2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z"},
    {"0 3 * * *", "UTC", "2026-12-31T03:00:00Z", "2027-01-01T03:00:00Z"},
    {"5,10 1-3 * * *", "UTC", "2026-01-01T03:10:00Z", "2026-01-02T01:05:00Z"},
    {"0 0 29 2 *", "UTC", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z"},
    {"0 0 29 feb *", "UTC", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"},
    {"0 0 31 * *", "UTC", "2026-01-31T00:00:00Z", "2026-03-31T00:00:00Z"},
    {"0 12 * * mon", "UTC", "2026-11-21T00:00:00Z", "2026-11-23T12:00:00Z"},
    {"0 12 * * 7", "UTC", "2026-11-21T00:00:00Z", "2026-11-22T12:00:00Z"},
    {"0 12 * * 5-7", "UTC", "2026-11-21T13:00:00Z", "2026-11-22T12:00:00Z"},
    {"0 12 13 * FRI", "UTC", "2026-11-10T00:00:00Z", "2026-11-13T12:00:00Z"},
    {"0 12 14 * FRI", "UTC", "2026-11-13T12:00:00Z", "2026-11-14T12:00:00Z"},  /* either day */
    {"0 12 */2 * FRI", "UTC", "2026-11-01T12:00:00Z", "2026-11-13T12:00:00Z"}, /* both days */
    {"0 3 * * *", "Europe/Berlin", "2026-07-01T00:00:00Z", "2026-07-01T01:00:00Z"},
    {"0 3 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-01-01T02:00:00Z"},
    {"0 9 * * *", "Asia/Kolkata", "2026-01-01T00:00:00Z", "2026-01-01T03:30:00Z"},
    /* Berlin, 2026-03-29: 02:00 becomes 03:00. What was left out runs at the jump, once. */
    {"30 2 * * *", "Europe/Berlin", "2026-03-28T02:00:00Z", "2026-03-29T01:00:00Z"},
    {"30 2 * * *", "Europe/Berlin", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"},
    {"30 * * * *", "Europe/Berlin", "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"},
    {"0 3 * * *", "Europe/Berlin", "2026-03-28T03:00:00Z", "2026-03-29T01:00:00Z"},
    /* Berlin, 2026-10-25: 03:00 becomes 02:00. What is there twice runs at the first. */
    {"30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"},
    {"30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"},
    {"30 * * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"},
    {"0 1 * * *", "America/New_York", "2026-10-31T12:00:00Z", "2026-11-01T05:00:00Z"},
    {"0 1 * * *", "America/New_York", "2026-11-01T05:00:00Z", "2026-11-02T06:00:00Z"},
    /* Midnight itself is left out (Santiago, 2026-09-06). */
    {"0 0 * * *", "America/Santiago", "2026-09-05T12:00:00Z", "2026-09-06T04:00:00Z"},
    /* Half an hour (Lord Howe, 2026-10-04, 02:00 becomes 02:30). */
    {"15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", "2026-10-03T15:30:00Z"},
    /* A whole day that never was (Apia, 2011-12-30). */
    {"0 10 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", "2011-12-30T10:00:00Z"},
    /* Beyond the file's transitions: the footer's rule. */
    {"30 2 * * *", "Europe/Berlin", "2045-03-25T02:00:00Z", "2045-03-26T01:00:00Z"},
    {"0 12 * * *", "Europe/Berlin", "2045-07-01T00:00:00Z", "2045-07-01T10:00:00Z"},
    {"0 12 * * *", "Australia/Sydney", "2060-01-01T02:00:00Z", "2060-01-02T01:00:00Z"},
};

static void next_runs(void **state)
{
    (void)state;
    for (size_t i = 0; i < SG_ARRAY_LEN(runs); i++) {
        struct sg_cron c;
        struct sg_zone *zone = NULL;
        const char *why = NULL;
        uint64_t next = 0;
        assert_int_equal(sg_cron_parse(runs[i].cron, &c, &why), SG_OK);
        assert_int_equal(sg_zone_open(runs[i].zone, &zone), SG_OK);
        assert_int_equal(sg_cron_next(&c, zone, utc_ms(runs[i].after), &next), SG_OK);
        if (next != utc_ms(runs[i].next))
            print_error("%s %s after %s: %llu s off\n", runs[i].cron, runs[i].zone, runs[i].after,
                        (unsigned long long)(next - utc_ms(runs[i].next)) / 1000);
        assert_int_equal(next, utc_ms(runs[i].next));
        sg_zone_close(&zone);
    }
}

static void bad_expressions(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        " ",
        "*",
        "* * * *",
        "* * * * * *",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 0 *",
        "* * * 13 *",
        "* * * * 8",
        "*/0 * * * *",
        "*/60 * * * *",
        "5/10 * * * *",
        "3-1 * * * *",
        "1- * * * *",
        "-1 * * * *",
        "1,,2 * * * *",
        ", * * * *",
        "1, * * * *",
        "+1 * * * *",
        "0x1 * * * *",
        "001 * * * *",
        "* * 30 2 *",
        "* * 31 4,6 *",
        "* * * janu *",
        "* * * * monday",
        "* * jan * *",
        "@daily",
        "? * * * *",
        "* * L * *",
        "* * * * *;",
        "*\n* * * *",
        "**** *",
        "* * * * 1#2",
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        struct sg_cron c;
        const char *why = NULL;
        if (sg_cron_parse(bad[i], &c, &why) != SG_ERR_INVALID)
            print_error("taken: '%s'\n", bad[i]);
        assert_int_equal(sg_cron_parse(bad[i], &c, &why), SG_ERR_INVALID);
        assert_non_null(why);
    }
    static const char *const good[] = {" 0 0 1 1 * ", "0-59/7\t0 1,15 JAN-DEC *", "* * 30 2 1",
                                       "0 0 * * SUN-sat", "59 23 31 12 0,7"};
    for (size_t i = 0; i < SG_ARRAY_LEN(good); i++) {
        struct sg_cron c;
        const char *why = NULL;
        assert_int_equal(sg_cron_parse(good[i], &c, &why), SG_OK);
    }
}

static void bad_zones(void **state)
{
    (void)state;
    static const char *const names[] = {"",        "/etc/passwd",    "../../../etc/passwd",
                                        "Europe/", "Europe//Berlin", "Europe/../UTC",
                                        ".hidden", "Europe/Ber lin", "Europe/Berlin\n"};
    struct sg_zone *zone = NULL;
    for (size_t i = 0; i < SG_ARRAY_LEN(names); i++)
        assert_int_equal(sg_zone_open(names[i], &zone), SG_ERR_INVALID);
    assert_int_equal(sg_zone_open("Europe/Nowhere", &zone), SG_ERR_NOT_FOUND);
    assert_int_equal(sg_zone_open("Europe", &zone), SG_ERR_NOT_FOUND);
    assert_int_equal(sg_zone_open("zone.tab", &zone), SG_ERR_INVALID);
    assert_null(zone);
}

/* Our reading of a zone against the C library's, each 6 hours of 70 years. */
static void zones_as_the_library_sees_them(void **state)
{
    (void)state;
    static const char *const names[] = {
        "Europe/Berlin",     "America/New_York", "America/Santiago",  "Australia/Lord_Howe",
        "Asia/Kolkata",      "Pacific/Apia",     "Africa/Casablanca", "Europe/Dublin",
        "America/Sao_Paulo", "Asia/Gaza",        "Antarctica/Troll",  "America/Nuuk"};
    for (size_t i = 0; i < SG_ARRAY_LEN(names); i++) {
        struct sg_zone *zone = NULL;
        assert_int_equal(sg_zone_open(names[i], &zone), SG_OK);
        assert_int_equal(setenv("TZ", names[i], 1), 0);
        tzset();
        for (int64_t t = 0; t < (int64_t)90 * 365 * 86400; t += 21600) {
            struct tm tm;
            struct sg_zone_span span;
            time_t at = (time_t)t;
            assert_non_null(localtime_r(&at, &tm));
            sg_zone_at(zone, t, &span);
            if (span.offset_s != tm.tm_gmtoff)
                print_error("%s at %lld\n", names[i], (long long)t);
            assert_int_equal(span.offset_s, tm.tm_gmtoff);
            assert_true(span.since_s <= t);
        }
        sg_zone_close(&zone);
    }
    assert_int_equal(unsetenv("TZ"), 0);
}

/* Any cut and any flipped byte of a file is taken or refused, never read past. */
static void damaged_zones(void **state)
{
    (void)state;
    FILE *f = fopen("/usr/share/zoneinfo/Europe/Berlin", "rb");
    assert_non_null(f);
    uint8_t data[8192];
    size_t len = fread(data, 1, sizeof(data), f);
    assert_int_equal(fclose(f), 0);
    for (size_t n = 0; n < len; n++) {
        struct sg_zone *zone = NULL;
        uint8_t *cut = malloc(n ? n : 1);
        assert_non_null(cut);
        memcpy(cut, data, n);
        assert_int_equal(sg_zone_parse(cut, n, &zone), SG_ERR_INVALID);
        free(cut);
        uint8_t was = data[n];
        data[n] ^= 0x81;
        if (sg_zone_parse(data, len, &zone) == SG_OK) {
            struct sg_zone_span span;
            for (int64_t t = -86400; t < (int64_t)1 << 32; t += (int64_t)1 << 24)
                sg_zone_at(zone, t, &span);
            sg_zone_close(&zone);
        }
        data[n] = was;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(next_runs),     cmocka_unit_test(bad_expressions),
        cmocka_unit_test(bad_zones),     cmocka_unit_test(zones_as_the_library_sees_them),
        cmocka_unit_test(damaged_zones),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
