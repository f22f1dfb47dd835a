/* Clocks, times as text, ULIDs. A process-wide offset lets tests move time; the clocks themselves
 * are the kernel's. */
#include "streamgate/base/clock.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "streamgate/base/crypto.h"

#define MS_MAX_RFC3339 UINT64_C(253402300799999) /* 9999-12-31T23:59:59.999Z */
#define ULID_CHARS 26
#define ULID_MS_MASK ((UINT64_C(1) << 48) - 1)

static _Atomic int64_t test_offset_ms;

static const char day_names[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char month_names[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static uint64_t offset_ms(void)
{
    return (uint64_t)atomic_load_explicit(&test_offset_ms, memory_order_relaxed);
}

uint64_t sg_clock_mono_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec + offset_ms() * 1000000;
}

uint64_t sg_clock_mono_ms(void)
{
    return sg_clock_mono_ns() / 1000000;
}

uint64_t sg_clock_wall_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000 + offset_ms();
}

void sg_clock_test_advance_ms(int64_t ms)
{
    if (ms == 0)
        atomic_store(&test_offset_ms, 0);
    else
        atomic_fetch_add(&test_offset_ms, ms);
}

static void split_utc(uint64_t wall_ms, struct tm *tm)
{
    time_t seconds = (time_t)((wall_ms > MS_MAX_RFC3339 ? MS_MAX_RFC3339 : wall_ms) / 1000);
    gmtime_r(&seconds, tm);
}

void sg_time_rfc3339(uint64_t wall_ms, char out[SG_TIME_SIZE])
{
    struct tm tm;
    if (wall_ms > MS_MAX_RFC3339)
        wall_ms = MS_MAX_RFC3339;
    split_utc(wall_ms, &tm);
    /* The masks only tell the compiler the widths. */
    snprintf(out, SG_TIME_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ",
             (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)(tm.tm_mon + 1) % 100,
             (unsigned)tm.tm_mday % 100, (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100,
             (unsigned)tm.tm_sec % 100, (unsigned)(wall_ms % 1000));
}

void sg_time_http_date(uint64_t wall_ms, char out[SG_HTTP_DATE_SIZE])
{
    struct tm tm;
    split_utc(wall_ms, &tm);
    snprintf(out, SG_HTTP_DATE_SIZE, "%s, %02u %s %04u %02u:%02u:%02u GMT",
             day_names[(unsigned)tm.tm_wday % 7], (unsigned)tm.tm_mday % 100,
             month_names[(unsigned)tm.tm_mon % 12], (unsigned)(tm.tm_year + 1900) % 10000,
             (unsigned)tm.tm_hour % 100, (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
}

static int digits_at(const char *s, size_t n)
{
    int value = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return -1;
        value = value * 10 + (s[i] - '0');
    }
    return value;
}

enum sg_error sg_time_parse_http_date(const char *s, uint64_t *wall_ms)
{
    if (strnlen(s, SG_HTTP_DATE_SIZE) != strlen("Sun, 06 Nov 1994 08:49:37 GMT"))
        return SG_ERR_INVALID;
    int month = -1;
    for (int i = 0; i < 12; i++) {
        if (memcmp(s + 8, month_names[i], 3) == 0)
            month = i;
    }
    struct tm tm = {.tm_mday = digits_at(s + 5, 2),
                    .tm_mon = month,
                    .tm_year = digits_at(s + 12, 4) - 1900,
                    .tm_hour = digits_at(s + 17, 2),
                    .tm_min = digits_at(s + 20, 2),
                    .tm_sec = digits_at(s + 23, 2)};
    if (month < 0 || tm.tm_mday < 0 || tm.tm_year < 70 || tm.tm_hour < 0 || tm.tm_min < 0 ||
        tm.tm_sec < 0)
        return SG_ERR_INVALID;
    time_t seconds = timegm(&tm);
    if (seconds < 0)
        return SG_ERR_INVALID;
    /* Writing it again refuses wrong separators, week days and days a month does not have at once.
     */
    char again[SG_HTTP_DATE_SIZE];
    sg_time_http_date((uint64_t)seconds * 1000, again);
    if (strcmp(s, again) != 0)
        return SG_ERR_INVALID;
    *wall_ms = (uint64_t)seconds * 1000;
    return SG_OK;
}

static const char crockford[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

void sg_ulid_format(const uint8_t in[16], char out[SG_ULID_SIZE])
{
    uint64_t hi = 0, lo = 0;
    for (int i = 0; i < 8; i++) {
        hi = hi << 8 | in[i];
        lo = lo << 8 | in[8 + i];
    }
    for (int i = ULID_CHARS - 1; i >= 0; i--) {
        out[i] = crockford[lo & 31];
        lo = lo >> 5 | hi << 59;
        hi >>= 5;
    }
    out[ULID_CHARS] = '\0';
}

enum sg_error sg_ulid_parse(const char *s, uint8_t out[16])
{
    if (strnlen(s, SG_ULID_SIZE) != ULID_CHARS || s[0] > '7')
        return SG_ERR_INVALID; /* 26 characters hold 130 bits: the first has three */
    uint64_t hi = 0, lo = 0;
    for (size_t i = 0; i < ULID_CHARS; i++) {
        const char *at = memchr(crockford, s[i], sizeof(crockford) - 1);
        if (at == NULL)
            return SG_ERR_INVALID;
        hi = hi << 5 | lo >> 59;
        lo = lo << 5 | (uint64_t)(at - crockford);
    }
    for (int i = 7; i >= 0; i--) {
        out[i] = (uint8_t)hi;
        out[8 + i] = (uint8_t)lo;
        hi >>= 8;
        lo >>= 8;
    }
    return SG_OK;
}

/* Adds one to the 80 random bits; a carry out of them goes into the time, so order is kept in any
 * case. */
static void ulid_increment(uint8_t id[16])
{
    for (int i = 15; i >= 0; i--) {
        if (++id[i] != 0)
            return;
    }
}

void sg_ulid_make(char out[SG_ULID_SIZE])
{
    static _Thread_local uint8_t last[16];
    static _Thread_local uint64_t last_ms;

    uint64_t now = sg_clock_wall_ms() & ULID_MS_MASK;
    if (now > last_ms) {
        last_ms = now;
        sg_random(last + 6, 10);
        for (int i = 5; i >= 0; i--) {
            last[i] = (uint8_t)now;
            now >>= 8;
        }
    } else {
        ulid_increment(last);
        last_ms = 0;
        for (int i = 0; i < 6; i++)
            last_ms = last_ms << 8 | last[i];
    }
    sg_ulid_format(last, out);
}
