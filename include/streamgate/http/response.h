/* The response a handler fills in. Strings are copied into the request's arena unless said otherwise. The pipeline adds X-Request-Id, traceparent, RateLimit-*, CORS,
 * security headers, applies conditional requests (If-None-Match against etag, If-Modified-Since) and Range (single and multipart/byteranges, If-Range, 416) to a 200 of known length, and drops the body for HEAD. */
#ifndef STREAMGATE_HTTP_RESPONSE_H
#define STREAMGATE_HTTP_RESPONSE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "streamgate/base/buf.h"
#include "streamgate/http/request.h"

enum sg_body_source { SG_SOURCE_NONE, SG_SOURCE_BUF, SG_SOURCE_FILE, SG_SOURCE_PARTS, SG_SOURCE_EVENTS };
struct sg_event_stream; /* http/event_stream.h */
#define SG_RESPONSE_HEADERS_MAX 24

/* A piece of a body: bytes [offset, offset + len) of buf or fd, preceded by `prefix`. */
struct sg_body_part { const char *prefix; size_t prefix_len; uint64_t offset, len; };

struct sg_response {
    unsigned status;
    const char *content_type;            /* NULL: none */
    const char *etag;                    /* quoted, strong; NULL: none */
    uint64_t last_modified_ms;           /* 0: none */
    const char *cache_control;           /* NULL: "no-store" */
    struct sg_header headers[SG_RESPONSE_HEADERS_MAX];
    unsigned n_headers;
    enum sg_body_source source;
    struct sg_buf *buf;                  /* SOURCE_BUF and PARTS of one: owned reference */
    int fd;                              /* SOURCE_FILE and PARTS of one: owned descriptor; -1 otherwise */
    struct sg_event_stream *events;      /* SOURCE_EVENTS: owned reference; its length is not known */
    uint64_t offset, len;                /* of the body within buf or fd */
    struct sg_body_part *parts; unsigned n_parts; /* PARTS: multipart/byteranges; the last has len 0 and the closing boundary */
    bool ranges;                         /* Accept-Ranges: bytes and Range honoured */
    bool close;                          /* Connection: close */
};

void sg_response_init(struct sg_response *res);
void sg_response_clear(struct sg_response *res); /* drops buf, closes fd; back to init */

/* Each returns SG_OK or NO_MEMORY (INVALID for a header with CR, LF, NUL or an empty value). */
enum sg_error sg_response_header(struct sg_request *req, struct sg_response *res, const char *name, const char *value) SG_NODISCARD;
enum sg_error sg_response_headerf(struct sg_request *req, struct sg_response *res, const char *name, const char *fmt, ...) SG_PRINTF(4, 5) SG_NODISCARD;
/* Steals `value` (also on failure). application/json. */
enum sg_error sg_response_json(struct sg_response *res, unsigned status, json_t *value) SG_NODISCARD;
/* content_type must be static or in the arena. Takes the caller's reference (also on failure). */
void sg_response_buf(struct sg_response *res, unsigned status, const char *content_type, struct sg_buf *buf);
/* Takes the descriptor. size: the whole file's. */
void sg_response_file(struct sg_response *res, unsigned status, const char *content_type, int fd, uint64_t size);
enum sg_error sg_response_text(struct sg_response *res, unsigned status, const char *content_type, const char *text) SG_NODISCARD; /* copies */
void sg_response_empty(struct sg_response *res, unsigned status); /* 204, 304... */

/* problem.c: the only writer of error bodies (RFC 9457). Clears res first. Internal codes and 5xx tell nothing internal. */
void sg_response_problem(struct sg_request *req, struct sg_response *res, enum sg_error err);

/* conditional.c (RFC 9110 section 13): res has etag and last_modified; turns it into 304 or 412 when the request's If-None-Match, If-Modified-Since say so. For GET and HEAD of a 200. */
void sg_conditional_apply(struct sg_request *req, struct sg_response *res);
/* For changes: If-Match against the current etag. SG_OK when absent or matching; PRECONDITION_FAILED. */
enum sg_error sg_conditional_if_match(struct sg_request *req, const char *etag) SG_NODISCARD;
/* Whether the change is for one version: false without If-Match and with "*", which only ask that there is something to change. */
bool sg_conditional_has_tags(const struct sg_request *req);

/* range.c (RFC 9110 section 14). Parsing is separate for fuzzing. At most 16 ranges; overlapping or more: the whole content is answered (allowed by 14.2). */
struct sg_range { uint64_t start, end; }; /* [start, end) */
#define SG_RANGES_MAX 16
enum sg_range_verdict { SG_RANGE_IGNORE, SG_RANGE_OK, SG_RANGE_UNSATISFIABLE };
enum sg_range_verdict sg_range_parse(const char *value, uint64_t size, struct sg_range out[SG_RANGES_MAX], unsigned *n);
void sg_range_apply(struct sg_request *req, struct sg_response *res);

#endif
