/* Clocks, RFC 3339 times and ULIDs. Thread-safe. Everything that must be tested against time asks here. */
#ifndef STREAMGATE_BASE_CLOCK_H
#define STREAMGATE_BASE_CLOCK_H

#include <stdint.h>

#include "streamgate/base/error.h"

uint64_t sg_clock_mono_ns(void); /* CLOCK_MONOTONIC */
uint64_t sg_clock_mono_ms(void);
uint64_t sg_clock_wall_ms(void); /* Unix time, CLOCK_REALTIME */
/* Tests: adds to all three clocks from now on (may be negative); 0 restores. */
void sg_clock_test_advance_ms(int64_t ms);

#define SG_TIME_SIZE 32 /* room for "2026-11-21T19:12:00.123Z" */
void sg_time_rfc3339(uint64_t wall_ms, char out[SG_TIME_SIZE]);
#define SG_HTTP_DATE_SIZE 32 /* "Sat, 21 Nov 2026 19:12:00 GMT" */
void sg_time_http_date(uint64_t wall_ms, char out[SG_HTTP_DATE_SIZE]);
enum sg_error sg_time_parse_http_date(const char *s, uint64_t *wall_ms) SG_NODISCARD; /* IMF-fixdate only */

#define SG_ULID_SIZE 27 /* 26 characters of Crockford base 32 + NUL */
/* A ULID (github.com/ulid/spec): 48-bit ms + 80 random bits; monotonic within a thread. Upper case. */
void sg_ulid_make(char out[SG_ULID_SIZE]);
enum sg_error sg_ulid_parse(const char *s, uint8_t out[16]) SG_NODISCARD; /* strict: 26 upper-case characters */
void sg_ulid_format(const uint8_t in[16], char out[SG_ULID_SIZE]);

#endif
