/* Time zones by their IANA names, from the system's tzdata (TZif, RFC 8536), without the process-wide TZ of the C library. "UTC" needs no file. An object is immutable
 * and may be used by many threads. */
#ifndef STREAMGATE_BASE_ZONE_H
#define STREAMGATE_BASE_ZONE_H

#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"

struct sg_zone;

/* NOT_FOUND: no such zone (or no tzdata); INVALID: not a name, or a file that breaks RFC 8536; NO_MEMORY; IO. */
enum sg_error sg_zone_open(const char *name, struct sg_zone **out) SG_NODISCARD;
void sg_zone_close(struct sg_zone **zone);
/* From the bytes of a TZif file: for tests and fuzzing. */
enum sg_error sg_zone_parse(const uint8_t *data, size_t len, struct sg_zone **out) SG_NODISCARD;

/* What holds at a moment: local time is UTC + offset_s, since `since_s` (Unix seconds; INT64_MIN: always), before which it was UTC + before_s. */
struct sg_zone_span { int64_t since_s; int32_t offset_s, before_s; };
void sg_zone_at(const struct sg_zone *zone, int64_t unix_s, struct sg_zone_span *out);

#endif
