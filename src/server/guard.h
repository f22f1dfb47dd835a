/* The HTTP guard: refuses heads that two HTTP implementations could read differently (request
 * smuggling), which libmicrohttpd 0.9.75 accepts. Pure functions on a parsed head and on facts
 * about the memory it was parsed in; thread-safe. */
#ifndef STREAMGATE_SERVER_GUARD_H
#define STREAMGATE_SERVER_GUARD_H

#include <stdbool.h>
#include <stddef.h>

#include "streamgate/base/error.h"
#include "streamgate/http/request.h"

enum sg_guard_reason {
    SG_GUARD_OK,
    SG_GUARD_FRAMING, /* NUL, bare CR or LF, folded line: seen in memory */
    SG_GUARD_VERSION,
    SG_GUARD_METHOD,
    SG_GUARD_HEADERS_MANY,
    SG_GUARD_HEADERS_LONG,
    SG_GUARD_TARGET,
    SG_GUARD_TARGET_LONG,
    SG_GUARD_ESCAPE,
    SG_GUARD_AUTHORITY,
    SG_GUARD_HEADER_NAME,
    SG_GUARD_HEADER_VALUE,
    SG_GUARD_LOOKALIKE,
    SG_GUARD_DUPLICATE,
    SG_GUARD_HOST,
    SG_GUARD_LENGTH,
    SG_GUARD_CODING,
    SG_GUARD_LENGTH_AND_CODING,
    SG_GUARD_EXPECT,
    SG_GUARD_REASON_COUNT
};

struct sg_guard_rule {
    const char *slug; /* label of the metric */
    const char *sentence;
    enum sg_error err;
};
extern const struct sg_guard_rule sg_guard_rules[SG_GUARD_REASON_COUNT];
const struct sg_guard_rule *sg_guard_find(const char *slug); /* NULL when there is none */

struct sg_guard_head {
    const char *method, *target, *version; /* target as it came, with the query */
    const struct sg_header *headers; /* in order of arrival; n_headers may be more than were kept */
    unsigned n_headers;
    size_t bytes, max_bytes; /* of the whole head, and what is allowed */
};
/* *path_offset: where the path begins in target (after scheme and authority of an absolute form).
 * When the absolute form has no path the offset is that of the terminating NUL or of '?'. */
enum sg_guard_reason sg_guard_check(const struct sg_guard_head *head, size_t *path_offset);

/* libmicrohttpd 0.9.75 parses in place: method, target, version, names and values point into one
 * buffer, in order of arrival; a CR LF became two NULs, a bare LF one; a folded line was copied
 * elsewhere. So in a clean head every piece begins exactly where the one before it must have ended,
 * and the last one ends two line ends before the end of the head.
 * What this cannot see: a NUL directly beside a bare LF, which together leave the same two NULs as
 * CR LF. Both bytes are then taken for the line end, and nothing of either reaches a value. */
struct sg_guard_memory {
    const char *method, *target, *version;
    size_t target_len; /* when it came: the library later puts NULs into it */
    const struct sg_header *headers;
    unsigned n_headers;
    size_t bytes; /* of the whole head, from the method to the end of the empty line; all of it is
                     readable */
};
bool sg_guard_memory_clean(const struct sg_guard_memory *m);

/* 1*DIGIT within 0 ... 2^63-1 */
bool sg_guard_length_ok(const char *value);

#endif
