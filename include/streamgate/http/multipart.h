/* Streaming multipart/form-data parser (RFC 7578, RFC 2046): bounded memory, never more than one delimiter of look-ahead. Pure; one owner. */
#ifndef STREAMGATE_HTTP_MULTIPART_H
#define STREAMGATE_HTTP_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/error.h"

struct sg_multipart;
struct sg_multipart_part { const char *name; const char *filename; /* NULL: a field */ const char *content_type; /* NULL: none */ };
struct sg_multipart_events {
    /* An error from any of them stops the parser and comes back from feed. */
    enum sg_error (*part_begin)(void *arg, const struct sg_multipart_part *part);
    enum sg_error (*part_data)(void *arg, const uint8_t *data, size_t len);
    enum sg_error (*part_end)(void *arg);
    void *arg;
};
/* content_type: the request's header; INVALID when it is not multipart/form-data with a boundary of 1 to 70 legal characters. Part headers together at most 4 KiB, at most 64 parts. */
enum sg_error sg_multipart_create(const char *content_type, const struct sg_multipart_events *events, struct sg_multipart **out) SG_NODISCARD;
void sg_multipart_destroy(struct sg_multipart **m);
enum sg_error sg_multipart_feed(struct sg_multipart *m, const uint8_t *data, size_t len) SG_NODISCARD; /* MALFORMED on a syntax error */
enum sg_error sg_multipart_finish(struct sg_multipart *m) SG_NODISCARD; /* MALFORMED unless the closing delimiter was seen */
const char *sg_multipart_why(const struct sg_multipart *m); /* static sentence for the last MALFORMED or INVALID */

#endif
