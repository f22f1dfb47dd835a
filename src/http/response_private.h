/* What problem.c, range.c and conditional.c need of a response beyond the public calls. */
#ifndef STREAMGATE_HTTP_RESPONSE_PRIVATE_H
#define STREAMGATE_HTTP_RESPONSE_PRIVATE_H

#include <stdbool.h>

#include "streamgate/http/response.h"

/* Drops buf, fd, parts and content type; status, headers and validators stay. */
void response_drop_body(struct sg_response *res);
/* name and value are not copied: static, or in the request's arena. NO_MEMORY when the table is
 * full. */
enum sg_error response_static_header(struct sg_response *res, const char *name,
                                     const char *value) SG_NODISCARD;
/* Codes that steer the daemon inside: a client never learns of them. */
bool error_is_internal(enum sg_error err);

#endif
