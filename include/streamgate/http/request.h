/* One request, as handlers see it. Owned by the pipeline; touched by one thread at a time.
 *
 * How a handler runs. It is first called on an I/O thread with may_block false. It may
 *   - fill in the response and return SG_OK, or return an error (see sg_request_fail);
 *   - return SG_ERR_WOULD_BLOCK, having changed nothing outside: the pipeline suspends the connection and calls the handler again on a blocking thread with
 *     may_block true (rows with .blocking skip the first call);
 *   - arrange for sg_request_wake to be called exactly once, and return SG_ERR_PENDING: the connection is suspended, and after the wake the handler is called
 *     again with woken true (may_block false), wake_err and wake_buf as given.
 * Whatever must outlive a call hangs on `state`; state_free runs when the request is finished, however it ends (a dropped connection too). */
#ifndef STREAMGATE_HTTP_REQUEST_H
#define STREAMGATE_HTTP_REQUEST_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/base/arena.h"
#include "streamgate/base/buf.h"
#include "streamgate/base/clock.h"
#include "streamgate/base/crypto.h"
#include "streamgate/http/services.h"
#include "streamgate/layers/trace.h"

enum sg_method { SG_GET, SG_HEAD, SG_POST, SG_PUT, SG_PATCH, SG_DELETE, SG_OPTIONS, SG_METHOD_COUNT };
const char *sg_method_name(enum sg_method m);
enum sg_error sg_method_parse(const char *s, enum sg_method *out) SG_NODISCARD; /* NOT_IMPLEMENTED */

struct sg_route;
#define SG_HEADERS_MAX 64
#define SG_PARAMS_MAX 4
#define SG_ANSWER_HEADERS_MAX 4

struct sg_header { const char *name, *value; }; /* NUL-terminated; good for the life of the request */
struct sg_path_param { const char *name; const char *value; };

struct sg_request {
    struct sg_services *svc;
    enum sg_method method;            /* HEAD stays HEAD; handlers treat it as GET, the pipeline drops the body */
    const char *path;                 /* percent-decoded, without a playback token element; starts with '/' */
    const char *query;                /* raw, after '?'; "" when none */
    const struct sg_route *route;     /* NULL until routed */
    uint32_t route_index;
    struct sg_path_param params[SG_PARAMS_MAX];
    unsigned n_params;
    struct sg_header headers[SG_HEADERS_MAX];
    unsigned n_headers;

    char id[SG_ULID_SIZE];            /* X-Request-Id: the client's when it is 1 to 26 of [A-Za-z0-9._-], else a new ULID */
    struct sg_trace trace;
    struct sg_address peer, client;   /* client: behind trusted proxies */
    bool secure;                      /* https, as told by a trusted proxy */
    struct sg_identity identity;
    const char *playback_token;       /* the ~{token} element without '~', or NULL; never logged */
    size_t playback_token_len;

    bool has_content_length;
    uint64_t content_length;
    bool chunked;                     /* body of unknown length */
    const char *body;                 /* SG_BODY_JSON: the whole body, NUL-terminated; else NULL */
    size_t body_len;
    uint64_t body_received;           /* bytes so far */
    struct sg_buf *body_buf;          /* during body_data: what holds the data, which a handler may keep by a reference; NULL: the data is gone after the call */

    struct sg_arena *arena;
    bool may_block, woken;
    enum sg_error wake_err;           /* with woken */
    struct sg_buf *wake_buf;          /* with woken: the request's reference, dropped by the pipeline at finish; NULL after being taken */
    struct sg_waiter waiter;          /* free for handlers to pass to sg_content_get with sg_request_wake as its function and the request as its argument */

    void *state;                      /* the handler's own */
    void (*state_free)(struct sg_request *req, void *state); /* at finish, on any thread; must not block for long */

    const char *fail_field;           /* set by sg_request_fail; arena */
    const char *fail_detail;
    struct sg_header answer_headers[SG_ANSWER_HEADERS_MAX]; /* set by sg_request_answer_header */
    unsigned n_answer_headers;

    uint64_t started_ns;              /* monotonic */
    void *transport;                  /* the pipeline's */
    _Atomic int run_state;            /* the pipeline's */
};

/* Case-insensitive; NULL when absent. First of several (rows that must be single are checked by the guard). */
const char *sg_request_header(const struct sg_request *req, const char *name);
/* All lines of a list header as one value, in order (RFC 9110 5.3). In the arena when there are several; NULL when there is none. */
enum sg_error sg_request_header_list(struct sg_request *req, const char *name, const char **out) SG_NODISCARD;
/* The sha-256 of Content-Digest (RFC 9530), of all its lines. INVALID with fail set when malformed. */
enum sg_error sg_request_content_digest(struct sg_request *req, bool *present, uint8_t sha256[SG_SHA256_LEN]) SG_NODISCARD;
const char *sg_request_param(const struct sg_request *req, const char *name); /* path parameter; NULL when the pattern has none of that name */
/* Decoded query parameter in the arena, NULL when absent. INVALID (with fail set): repeated, bad escape, NUL, bad UTF-8. */
enum sg_error sg_request_query(struct sg_request *req, const char *name, const char **out) SG_NODISCARD;
/* Strict integer in [min, max], absent gives `absent`. */
enum sg_error sg_request_query_u64(struct sg_request *req, const char *name, uint64_t min, uint64_t max, uint64_t absent, uint64_t *out) SG_NODISCARD;

/* Says why: field (or NULL) and a sentence that names the rule. Returns err, so: return sg_request_fail(req, SG_ERR_INVALID, "title", "must be ..."). The last call wins. */
enum sg_error sg_request_fail(struct sg_request *req, enum sg_error err, const char *field, const char *fmt, ...) SG_PRINTF(4, 5);
/* A header of whatever answer the request gets, a problem too. name is static. NO_MEMORY, also when there are SG_ANSWER_HEADERS_MAX. */
enum sg_error sg_request_answer_header(struct sg_request *req, const char *name, const char *fmt, ...) SG_PRINTF(3, 4) SG_NODISCARD;
/* The JSON body (object), parsed; the caller owns *out. INVALID with fail set. An empty body is INVALID unless allow_empty (then *out is an empty object). */
enum sg_error sg_request_json(struct sg_request *req, bool allow_empty, json_t **out) SG_NODISCARD;
/* INVALID, its field the member's name, when the object has one that is not among names (the last is NULL). */
enum sg_error sg_request_only(struct sg_request *req, const json_t *body, const char *const *names) SG_NODISCARD;
/* "http://host:port" for URLs in bodies: server.public_url, else scheme and checked Host. In the arena; NULL when out of memory. */
const char *sg_request_base_url(struct sg_request *req);

/* Any thread, exactly once for each SG_ERR_PENDING. arg is the request; has the type of sg_waiter.wake. Takes the reference in buf. Defined in src/server/pipeline.c's floor through a hook set there. */
void sg_request_wake(void *req, enum sg_error err, struct sg_buf *buf);
void sg_request_set_wake_hook(void (*hook)(struct sg_request *req)); /* once, at start */

#endif
