/* Cron expressions: strict parsing, and the search for the next run. The search walks local time in
 * the largest steps that cannot jump over a match, and looks at each jump of the clock it meets. */
#include "streamgate/base/cron.h"

#include <string.h>

#include "streamgate/base/str.h"

#define DAY_S 86400
#define HOUR_S 3600
#define HORIZON_S ((int64_t)40 * 366 * DAY_S)

struct field {
    const char *name;
    unsigned min, max;
    const char *names; /* three letters each, from number `names_from` on; NULL: none */
    unsigned names_from;
};
enum { MINUTE, HOUR, DAY, MONTH, WEEKDAY, FIELDS };
static const struct field fields[FIELDS] = {
    [MINUTE] = {"the minute must be *, or numbers 0 to 59", 0, 59, NULL, 0},
    [HOUR] = {"the hour must be *, or numbers 0 to 23", 0, 23, NULL, 0},
    [DAY] = {"the day of the month must be *, or numbers 1 to 31", 1, 31, NULL, 0},
    [MONTH] = {"the month must be *, numbers 1 to 12, or jan to dec", 1, 12,
               "janfebmaraprmayjunjulaugsepoctnovdec", 1},
    [WEEKDAY] = {"the day of the week must be *, numbers 0 to 7, or sun to sat", 0, 7,
                 "sunmontuewedthufrisat", 0},
};

/* ---- parsing ---- */

static bool read_name(const struct field *f, const char **s, unsigned *out)
{
    for (unsigned i = 0; f->names && f->names[(size_t)i * 3] != '\0'; i++) {
        const char *name = f->names + (size_t)i * 3;
        if (((*s)[0] | 0x20) == name[0] && (*s)[0] != '\0' && ((*s)[1] | 0x20) == name[1] &&
            (*s)[1] != '\0' && ((*s)[2] | 0x20) == name[2]) {
            *s += 3;
            *out = f->names_from + i;
            return true;
        }
    }
    return false;
}

static bool read_value(const struct field *f, const char **s, unsigned max, unsigned *out)
{
    if (f && read_name(f, s, out))
        return true;
    size_t len = strspn(*s, "0123456789");
    uint64_t n;
    if (len == 0 || len > 2 || sg_str_to_u64(*s, len, max, &n) != SG_OK)
        return false;
    *s += len;
    *out = (unsigned)n;
    return true;
}

/* One element of a list: * or n or n-m, each with an optional step (n/step is not one: it says
 * different things to different crons). */
static bool read_element(const struct field *f, const char **s, uint64_t *bits)
{
    unsigned from = f->min, to = f->max, step = 1;
    bool range = true;
    if (**s == '*') {
        (*s)++;
        if (f == &fields[WEEKDAY])
            to = 6;
    } else {
        if (!read_value(f, s, f->max, &from))
            return false;
        range = **s == '-';
        to = from;
        if (range) {
            (*s)++;
            if (!read_value(f, s, f->max, &to))
                return false;
        }
    }
    if (range && **s == '/') {
        (*s)++;
        if (!read_value(NULL, s, 59, &step) || step == 0)
            return false;
    }
    if (from < f->min || to < from)
        return false;
    for (unsigned n = from; n <= to; n += step)
        *bits |= (uint64_t)1 << n;
    return true;
}

static bool read_field(const struct field *f, const char **s, uint64_t *bits)
{
    *bits = 0;
    for (;;) {
        if (!read_element(f, s, bits))
            return false;
        if (**s != ',')
            return true;
        (*s)++;
    }
}

/* Whether some day of some month can match at all. */
static bool has_date(const struct sg_cron *c)
{
    static const uint8_t longest[13] = {0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (c->any_day || !c->any_weekday)
        return true;
    for (unsigned m = 1; m <= 12; m++)
        if ((c->months >> m & 1) && (c->days & ((2u << longest[m]) - 1)))
            return true;
    return false;
}

enum sg_error sg_cron_parse(const char *text, struct sg_cron *out, const char **why)
{
    uint64_t bits[FIELDS];
    bool any[FIELDS];
    const char *s = text;
    for (unsigned i = 0; i < FIELDS; i++) {
        size_t blank = strspn(s, " \t");
        if (i > 0 && blank == 0) {
            *why = i < FIELDS && *s == '\0' ? "must have five fields" : fields[i - 1].name;
            return SG_ERR_INVALID;
        }
        s += blank;
        if (*s == '\0') {
            *why = "must have five fields";
            return SG_ERR_INVALID;
        }
        any[i] = *s == '*';
        if (!read_field(&fields[i], &s, &bits[i])) {
            *why = fields[i].name;
            return SG_ERR_INVALID;
        }
    }
    s += strspn(s, " \t");
    if (*s != '\0') {
        *why = "must have five fields";
        return SG_ERR_INVALID;
    }
    struct sg_cron c = {
        .minutes = bits[MINUTE],
        .hours = (uint32_t)bits[HOUR],
        .days = (uint32_t)bits[DAY],
        .months = (uint16_t)bits[MONTH],
        .weekdays = (uint8_t)((bits[WEEKDAY] | bits[WEEKDAY] >> 7) & 0x7f),
        .any_hour = any[HOUR],
        .any_day = any[DAY],
        .any_weekday = any[WEEKDAY],
    };
    if (!has_date(&c)) {
        *why = "names a date that never comes";
        return SG_ERR_INVALID;
    }
    *out = c;
    return SG_OK;
}

/* ---- the next run ---- */

struct civil {
    int64_t day; /* from 1970-01-01 */
    unsigned month, mday, weekday, hour, minute;
};

/* unix_s + offset, taken apart; local seconds are not negative for any time asked about. */
static struct civil take_apart(int64_t local_s)
{
    struct civil v = {.day = local_s / DAY_S};
    int64_t z = v.day + 719468;
    int64_t era = z / 146097;
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    v.mday = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
    v.month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    v.weekday = (unsigned)((v.day + 4) % 7);
    v.hour = (unsigned)(local_s % DAY_S / HOUR_S);
    v.minute = (unsigned)(local_s % HOUR_S / 60);
    return v;
}

static bool day_matches(const struct sg_cron *c, const struct civil *v)
{
    bool day = c->days >> v->mday & 1, weekday = c->weekdays >> v->weekday & 1;
    if (!(c->months >> v->month & 1))
        return false;
    return c->any_day || c->any_weekday ? day && weekday : day || weekday;
}

static bool matches(const struct sg_cron *c, int64_t local_s)
{
    struct civil v = take_apart(local_s);
    return day_matches(c, &v) && (c->hours >> v.hour & 1) && (c->minutes >> v.minute & 1);
}

/* Whether a local time that the jump left out would have been one. */
static bool skipped_matches(const struct sg_cron *c, const struct sg_zone_span *span)
{
    int64_t end = span->since_s + span->offset_s;
    int64_t local = span->since_s + span->before_s;
    for (local += (60 - local % 60) % 60; local < end; local += 60)
        if (matches(c, local))
            return true;
    return false;
}

/* Whether t's local time came a first time before the clock went back. */
static bool is_repeat(const struct sg_zone_span *span, int64_t t)
{
    return span->since_s != INT64_MIN && span->before_s > span->offset_s &&
           t - span->since_s < span->before_s - span->offset_s;
}

/* Seconds to the next minute, hour or day whose beginning may match. */
static int64_t step_of(const struct sg_cron *c, int64_t local_s)
{
    struct civil v = take_apart(local_s);
    if (!day_matches(c, &v))
        return DAY_S - local_s % DAY_S;
    if (!(c->hours >> v.hour & 1))
        return HOUR_S - local_s % HOUR_S;
    return 60 - local_s % 60;
}

/* From t on by a step of local time; where the clock jumped in between, to the jump itself at the
 * latest, so that it is looked at. */
static int64_t advance(const struct sg_zone *zone, int64_t t, int64_t step)
{
    struct sg_zone_span span;
    int64_t next = t + step;
    sg_zone_at(zone, next, &span);
    return span.since_s > t && span.since_s < next ? span.since_s : next;
}

enum sg_error sg_cron_next(const struct sg_cron *cron, const struct sg_zone *zone,
                           uint64_t after_ms, uint64_t *out_ms)
{
    int64_t after = (int64_t)(after_ms / 1000);
    int64_t end = after + HORIZON_S;
    struct sg_zone_span span;
    for (int64_t t = after + 1; t < end;) {
        sg_zone_at(zone, t, &span);
        int64_t local = t + span.offset_s;
        bool jumped = span.since_s == t && span.offset_s > span.before_s;
        bool runs =
            local % 60 == 0 && matches(cron, local) && (cron->any_hour || !is_repeat(&span, t));
        if (runs || (!cron->any_hour && jumped && skipped_matches(cron, &span))) {
            *out_ms = (uint64_t)t * 1000;
            return SG_OK;
        }
        t = advance(zone, t, step_of(cron, local));
    }
    return SG_ERR_NOT_FOUND;
}
