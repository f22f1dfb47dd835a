/* The pipeline every request takes, without a socket: id -> route -> limit(ip) -> identify -> limit(user) -> size -> body -> HANDLE -> conditional/range -> finish. The table of steps is in
 * pipeline.c. mhd_server.c drives it for real connections, the loopback tests drive it directly. One thread at a time touches an exchange. */
#ifndef STREAMGATE_SERVER_PIPELINE_H
#define STREAMGATE_SERVER_PIPELINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "streamgate/http/request.h"
#include "streamgate/http/response.h"
#include "streamgate/http/route.h"

struct sg_pipeline;
enum sg_error sg_pipeline_create(struct sg_services *svc, struct sg_pipeline **out) SG_NODISCARD; /* defines request metric series from svc->routes */
void sg_pipeline_destroy(struct sg_pipeline **p);

/* What the transport does for the pipeline. resume may be called on any thread; after suspend the transport must call sg_pipeline_continue once resumed. */
struct sg_transport {
    void (*suspend)(void *conn);
    void (*resume)(void *conn);
    void *conn;
};

/* The head of a request, as the transport parsed it. Everything must live until sg_pipeline_finish. */
struct sg_request_head {
    const char *method, *target_path, *query, *version; /* target_path still percent-encoded */
    const struct sg_header *headers; unsigned n_headers;
    struct sg_address peer;
};

enum sg_step {
    SG_STEP_BODY,     /* wants body bytes (or the end of the body) */
    SG_STEP_RESPOND,  /* the response is ready: sg_exchange_response */
    SG_STEP_SUSPENDED /* suspend was called; sg_pipeline_continue after the resume */
};
struct sg_exchange;

/* Begins: everything up to `size` (and body_begin). On NO_MEMORY nothing exists and the transport closes the connection. */
enum sg_error sg_pipeline_begin(struct sg_pipeline *p, const struct sg_transport *t, const struct sg_request_head *head, struct sg_exchange **out, enum sg_step *step) SG_NODISCARD;
enum sg_step sg_pipeline_body(struct sg_exchange *x, const uint8_t *data, size_t len);
enum sg_step sg_pipeline_body_end(struct sg_exchange *x);
enum sg_step sg_pipeline_continue(struct sg_exchange *x);
struct sg_response *sg_exchange_response(struct sg_exchange *x); /* final: headers complete, ranges applied */
struct sg_request *sg_exchange_request(struct sg_exchange *x);
/* Always, once: after the last byte was handed over (completed) or the connection was lost. Frees the exchange. */
void sg_pipeline_finish(struct sg_exchange *x, bool completed, uint64_t bytes_sent);
/* A request refused before the pipeline (guard): counts, audits and gives a 400-class problem with Connection: close through the same exchange. */
enum sg_error sg_pipeline_refuse(struct sg_pipeline *p, const struct sg_transport *t, const struct sg_request_head *head, enum sg_error err, const char *reason, struct sg_exchange **out) SG_NODISCARD;

#endif
