/* Small helpers over jansson: strict parsing with a depth bound, and dumping. json_t stays jansson's. A json_t has one owner at a time. */
#ifndef STREAMGATE_BASE_JSON_H
#define STREAMGATE_BASE_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "streamgate/base/error.h"
#include "streamgate/base/str.h"

/* RFC 8259 object or array; duplicate keys, NUL in strings, invalid UTF-8, trailing bytes and nesting deeper than 32 are INVALID.
 * why (may be NULL) receives a short position message. The caller owns *out. */
enum sg_error sg_json_parse(const char *text, size_t len, json_t **out, char why[128]) SG_NODISCARD;
/* Compact, keys in insertion order, malloc'ed, NUL-terminated. NULL when out of memory. */
char *sg_json_dump(const json_t *value, size_t *out_len);
/* The same with sorted keys: a canonical form to hash. */
char *sg_json_dump_canonical(const json_t *value, size_t *out_len);

#endif
