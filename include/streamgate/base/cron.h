/* Five-field cron expressions: minute hour day-of-month month day-of-week. Fields take *, numbers, ranges, lists and steps ("*" "5" "1-5" "1,15" "0-30/10" "*" with a step), months and week days
 * also three-letter English names; Sunday is 0 or 7. When both day fields are restricted a day has to match only one of them (as in crontab(5)). Pure, thread-safe.
 *
 * Where local time jumps: an expression whose hour is * goes by real time, so a repeated hour has its runs twice and a missing one none. One that names hours runs once: for a time that
 * does not exist at the moment of the jump, for one that exists twice at the first. */
#ifndef STREAMGATE_BASE_CRON_H
#define STREAMGATE_BASE_CRON_H

#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/error.h"
#include "streamgate/base/zone.h"

struct sg_cron {
    uint64_t minutes;           /* bit n: minute n */
    uint32_t hours, days;       /* days: bits 1 to 31 */
    uint16_t months;            /* bits 1 to 12 */
    uint8_t weekdays;           /* bits 0 to 6, 0 is Sunday */
    bool any_hour, any_day, any_weekday; /* the field began with * */
};

/* INVALID: *why (static) names the rule. A date that never comes (30 February) is INVALID too. */
enum sg_error sg_cron_parse(const char *text, struct sg_cron *out, const char **why) SG_NODISCARD;
/* The first run after after_ms (Unix ms), a whole minute but where a jump of local time says otherwise. NOT_FOUND: none within forty years. */
enum sg_error sg_cron_next(const struct sg_cron *cron, const struct sg_zone *zone, uint64_t after_ms, uint64_t *out_ms) SG_NODISCARD;

#endif
