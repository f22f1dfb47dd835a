/* TZif files (RFC 8536) of version 2 and later: the transitions of the second block, and the rule
 * of the footer for what comes after the last one. The file is the system's, but is read as if it
 * were not: every count is checked against the length before it is used. */
#include "streamgate/base/zone.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/fs.h"

#define ZONE_FOLDER "/usr/share/zoneinfo/"
#define NAME_MAX_BYTES 64
#define FILE_MAX_BYTES ((uint64_t)1 << 20)
#define HEADER_BYTES 44
#define DAY_S 86400
#define OFFSET_MAX_S (26 * 3600)

enum rule_kind { RULE_JULIAN, RULE_DAY, RULE_WEEK };

/* When a year's change comes (POSIX TZ): Jn, n or Mm.w.d, and the local time of day. */
struct rule {
    enum rule_kind kind;
    int month, week, day;
    int32_t time_s;
};

struct change {
    int64_t at_s;
    int32_t offset_s;
};

struct sg_zone {
    int32_t first_offset_s; /* before the first change */
    bool has_rule;          /* the footer changes the clock each year */
    int32_t standard_s, summer_s;
    struct rule to_summer, to_standard;
    size_t n;
    struct change changes[];
};

/* ---- calendar ---- */

/* Days from 1970-01-01 of a proleptic Gregorian date. */
static int64_t days_of(int64_t year, int month, int day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t yoe = year - era * 400;
    int64_t doy = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719468;
}

static bool is_leap(int64_t year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int64_t year_of(int64_t unix_s)
{
    int64_t days = unix_s / DAY_S - (unix_s % DAY_S < 0);
    int64_t year = 1970 + days / 366;
    while (days_of(year + 1, 1, 1) <= days)
        year++;
    while (days_of(year, 1, 1) > days)
        year--;
    return year;
}

/* ---- the footer ---- */

static bool read_number(const char **s, int max, int *out)
{
    int n = 0;
    const char *at = *s;
    while (*at >= '0' && *at <= '9' && n <= max)
        n = n * 10 + (*at++ - '0');
    if (at == *s || n > max)
        return false;
    *s = at;
    *out = n;
    return true;
}

static bool read_name(const char **s)
{
    const char *at = *s;
    if (*at == '<') {
        at += strcspn(at, ">");
        if (*at != '>')
            return false;
        *s = at + 1;
        return true;
    }
    while ((*at >= 'A' && *at <= 'Z') || (*at >= 'a' && *at <= 'z'))
        at++;
    bool ok = at - *s >= 3;
    *s = at;
    return ok;
}

/* [+-]hh[:mm[:ss]] */
static bool read_time(const char **s, int max_hours, int32_t *out)
{
    int sign = **s == '-' ? -1 : 1, hours, minutes = 0, seconds = 0;
    if (**s == '-' || **s == '+')
        (*s)++;
    if (!read_number(s, max_hours, &hours))
        return false;
    if (**s == ':') {
        (*s)++;
        if (!read_number(s, 59, &minutes))
            return false;
        if (**s == ':') {
            (*s)++;
            if (!read_number(s, 59, &seconds))
                return false;
        }
    }
    *out = sign * (hours * 3600 + minutes * 60 + seconds);
    return true;
}

static bool read_week_rule(const char **s, struct rule *r)
{
    r->kind = RULE_WEEK;
    if (!read_number(s, 12, &r->month) || *(*s)++ != '.' || !read_number(s, 5, &r->week) ||
        *(*s)++ != '.' || !read_number(s, 6, &r->day))
        return false;
    return r->month >= 1 && r->week >= 1;
}

static bool read_rule(const char **s, struct rule *r)
{
    *r = (struct rule){.kind = RULE_DAY, .time_s = 7200};
    bool ok;
    if (*(*s)++ != ',')
        return false;
    if (**s == 'M') {
        (*s)++;
        ok = read_week_rule(s, r);
    } else if (**s == 'J') {
        (*s)++;
        r->kind = RULE_JULIAN;
        ok = read_number(s, 365, &r->day) && r->day >= 1;
    } else {
        ok = read_number(s, 365, &r->day);
    }
    if (ok && **s == '/') {
        (*s)++;
        ok = read_time(s, 167, &r->time_s);
    }
    return ok;
}

/* POSIX TZ, whose offsets count westwards. */
static bool read_footer(const char *s, struct sg_zone *z)
{
    int32_t west;
    if (*s == '\0')
        return true; /* nothing is known beyond the last change */
    if (!read_name(&s) || !read_time(&s, 24, &west))
        return false;
    z->standard_s = -west;
    if (*s == '\0')
        return true;
    if (!read_name(&s))
        return false;
    z->summer_s = z->standard_s + 3600;
    if (*s != ',') {
        if (!read_time(&s, 24, &west))
            return false;
        z->summer_s = -west;
    }
    z->has_rule = read_rule(&s, &z->to_summer) && read_rule(&s, &z->to_standard);
    return z->has_rule && *s == '\0';
}

/* The day, counted from 1970, on which a year's change comes. */
static int64_t rule_day(const struct rule *r, int64_t year)
{
    int64_t first = days_of(year, 1, 1);
    if (r->kind == RULE_DAY)
        return first + r->day;
    if (r->kind == RULE_JULIAN)
        return first + r->day - 1 + (is_leap(year) && r->day >= 60);
    int64_t month = days_of(year, r->month, 1);
    int64_t weekday = ((month + 4) % 7 + 7) % 7; /* 1970-01-01 was a Thursday */
    int64_t day = month + (r->day - weekday + 7) % 7 + 7 * (int64_t)(r->week - 1);
    int64_t next = r->month == 12 ? days_of(year + 1, 1, 1) : days_of(year, r->month + 1, 1);
    return day >= next ? day - 7 : day;
}

/* ---- the file ---- */

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int64_t be64(const uint8_t *p)
{
    return (int64_t)((uint64_t)be32(p) << 32 | be32(p + 4));
}

struct counts {
    uint64_t isut, isstd, leap, time, type, chars;
};

static bool read_header(const uint8_t *p, size_t len, struct counts *c)
{
    if (len < HEADER_BYTES || memcmp(p, "TZif", 4) != 0 || p[4] < '2')
        return false;
    *c = (struct counts){be32(p + 20), be32(p + 24), be32(p + 28),
                         be32(p + 32), be32(p + 36), be32(p + 40)};
    return true;
}

static uint64_t block_bytes(const struct counts *c, unsigned time_bytes)
{
    return c->time * time_bytes + c->time + c->type * 6 + c->chars + c->leap * (time_bytes + 4u) +
           c->isstd + c->isut;
}

static bool type_offset(const uint8_t *types, const struct counts *c, uint8_t i, int32_t *out)
{
    if (i >= c->type)
        return false;
    *out = (int32_t)be32(types + (size_t)i * 6);
    return *out >= -OFFSET_MAX_S && *out <= OFFSET_MAX_S;
}

/* p: the second block, of which n_bytes are there, the footer included. */
static enum sg_error read_block(const uint8_t *p, size_t n_bytes, const struct counts *c,
                                struct sg_zone **out)
{
    uint64_t block = block_bytes(c, 8);
    if (c->type == 0 || c->type > 256 || block >= n_bytes || p[block] != '\n')
        return SG_ERR_INVALID;
    const char *footer = (const char *)p + block + 1;
    const char *end = memchr(footer, '\n', n_bytes - block - 1);
    char text[128];
    if (!end || (size_t)(end - footer) >= sizeof(text))
        return SG_ERR_INVALID;
    memcpy(text, footer, (size_t)(end - footer));
    text[end - footer] = '\0';
    struct sg_zone *z = calloc(1, sizeof(*z) + (size_t)c->time * sizeof(z->changes[0]));
    if (!z)
        return SG_ERR_NO_MEMORY;
    const uint8_t *index = p + c->time * 8, *types = index + c->time;
    bool ok = type_offset(types, c, 0, &z->first_offset_s);
    for (size_t i = 0; ok && i < c->time; i++) {
        z->changes[i].at_s = be64(p + i * 8);
        ok = type_offset(types, c, index[i], &z->changes[i].offset_s) &&
             (i == 0 || z->changes[i].at_s > z->changes[i - 1].at_s);
    }
    z->n = (size_t)c->time;
    if (!ok || !read_footer(text, z)) {
        free(z);
        return SG_ERR_INVALID;
    }
    *out = z;
    return SG_OK;
}

enum sg_error sg_zone_parse(const uint8_t *data, size_t len, struct sg_zone **out)
{
    struct counts c;
    if (!read_header(data, len, &c))
        return SG_ERR_INVALID;
    uint64_t skip = HEADER_BYTES + block_bytes(&c, 4);
    if (skip >= len || !read_header(data + skip, len - (size_t)skip, &c))
        return SG_ERR_INVALID;
    skip += HEADER_BYTES;
    return read_block(data + skip, len - (size_t)skip, &c, out);
}

/* Elements of [A-Za-z0-9._+-], none of which begins with a dot. */
static bool name_ok(const char *name)
{
    size_t len = strnlen(name, NAME_MAX_BYTES);
    if (len == 0 || len == NAME_MAX_BYTES || name[len - 1] == '/')
        return false;
    for (size_t i = 0; i < len; i++) {
        bool first = i == 0 || name[i - 1] == '/';
        if (first && (name[i] == '.' || name[i] == '/'))
            return false;
        if (!strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-/", name[i]))
            return false;
    }
    return true;
}

static enum sg_error read_file(const char *name, uint8_t **out, size_t *out_len)
{
    char path[sizeof(ZONE_FOLDER) + NAME_MAX_BYTES] = ZONE_FOLDER;
    memcpy(path + sizeof(ZONE_FOLDER) - 1, name, strlen(name) + 1);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return SG_ERR_NOT_FOUND;
    uint64_t size = 0;
    uint8_t *data = NULL;
    enum sg_error err = sg_fs_size(fd, &size);
    if (err == SG_OK && (size == 0 || size > FILE_MAX_BYTES))
        err = SG_ERR_INVALID;
    if (err == SG_OK) {
        data = malloc((size_t)size);
        err = data ? sg_fs_pread_all(fd, data, (size_t)size, 0) : SG_ERR_NO_MEMORY;
    }
    close(fd);
    if (err != SG_OK) {
        free(data);
        return err == SG_ERR_IO ? SG_ERR_NOT_FOUND : err; /* a folder of zones cannot be read */
    }
    *out = data;
    *out_len = (size_t)size;
    return SG_OK;
}

enum sg_error sg_zone_open(const char *name, struct sg_zone **out)
{
    if (!name_ok(name))
        return SG_ERR_INVALID;
    if (strcmp(name, "UTC") == 0) {
        *out = calloc(1, sizeof(**out));
        return *out ? SG_OK : SG_ERR_NO_MEMORY;
    }
    uint8_t *data = NULL;
    size_t len = 0;
    enum sg_error err = read_file(name, &data, &len);
    if (err == SG_OK)
        err = sg_zone_parse(data, len, out);
    free(data);
    return err;
}

void sg_zone_close(struct sg_zone **zone)
{
    free(*zone);
    *zone = NULL;
}

/* ---- asking ---- */

/* The latest change of the footer's rule at or before t; years around t, as a change may come in
 * the days next to New Year. */
static bool rule_change(const struct sg_zone *z, int64_t t, struct change *out)
{
    int64_t year = year_of(t);
    bool found = false;
    for (int64_t y = year - 1; y <= year + 1; y++) {
        const struct change both[] = {
            {rule_day(&z->to_summer, y) * DAY_S + z->to_summer.time_s - z->standard_s, z->summer_s},
            {rule_day(&z->to_standard, y) * DAY_S + z->to_standard.time_s - z->summer_s,
             z->standard_s},
        };
        for (size_t i = 0; i < SG_ARRAY_LEN(both); i++) {
            if (both[i].at_s <= t && (!found || both[i].at_s > out->at_s)) {
                *out = both[i];
                found = true;
            }
        }
    }
    return found;
}

void sg_zone_at(const struct sg_zone *zone, int64_t unix_s, struct sg_zone_span *out)
{
    size_t low = 0, high = zone->n; /* changes[low - 1] is the last one at or before unix_s */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (zone->changes[middle].at_s <= unix_s)
            low = middle + 1;
        else
            high = middle;
    }
    struct sg_zone_span span = {.since_s = INT64_MIN, .offset_s = zone->first_offset_s};
    if (low > 0) {
        span.since_s = zone->changes[low - 1].at_s;
        span.offset_s = zone->changes[low - 1].offset_s;
    }
    span.before_s = low > 1 ? zone->changes[low - 2].offset_s : zone->first_offset_s;
    struct change c = {0};
    if (low == zone->n && zone->has_rule && rule_change(zone, unix_s, &c) &&
        c.at_s > span.since_s) {
        span.since_s = c.at_s;
        span.before_s = c.offset_s == zone->summer_s ? zone->standard_s : zone->summer_s;
        span.offset_s = c.offset_s;
    }
    *out = span;
}
