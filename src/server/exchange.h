/* One request on its way through the pipeline, shared by pipeline*.c and cors.c. Everything here is
 * touched by one thread at a time: the thread that drives the connection, or, while the connection
 * is suspended, the blocking thread that runs one step. */
#ifndef STREAMGATE_SERVER_EXCHANGE_H
#define STREAMGATE_SERVER_EXCHANGE_H

#include <pthread.h>

#include "streamgate/base/metrics.h"
#include "streamgate/server/pipeline.h"

/* The headers the pipeline itself reads, found in one pass. */
enum known_header {
    KNOWN_AUTHORIZATION,
    KNOWN_CONTENT_LENGTH,
    KNOWN_CONTENT_TYPE,
    KNOWN_FORWARDED_FOR,
    KNOWN_FORWARDED_PROTO,
    KNOWN_METHOD_OVERRIDE,
    KNOWN_ORIGIN,
    KNOWN_PREFLIGHT_METHOD,
    KNOWN_REQUEST_ID,
    KNOWN_TRACEPARENT,
    KNOWN_TRANSFER_ENCODING,
    KNOWN_COUNT
};

enum code_class { CODE_2XX, CODE_3XX, CODE_4XX, CODE_5XX, CODE_DROPPED, CODE_CLASSES };

/* Requests whose method is not one of ours are counted as one more method. */
#define METHOD_OTHER SG_METHOD_COUNT
struct route_series {
    uint32_t count[SG_METHOD_COUNT + 1][CODE_CLASSES];
    uint32_t latency;
};

struct spare_list;
struct sg_pipeline {
    struct sg_services *svc;
    pthread_key_t spares_key;   /* struct spare_list of the calling thread */
    pthread_mutex_t lists_lock; /* guards lists; leaf */
    struct spare_list *lists;
    size_t n_routes;
    struct route_series *series; /* n_routes of them and one for what no route matched */
    uint32_t *malformed;         /* by enum sg_guard_reason */
    uint32_t key_accepted, key_refused;
};

struct sg_exchange {
    struct sg_pipeline *p;
    struct sg_transport t;
    const struct sg_config *config;
    struct sg_request req;
    struct sg_response res;
    const char *known[KNOWN_COUNT];
    const char *target_path, *query;

    unsigned at;      /* index in the table of steps */
    bool have_result; /* a blocking thread ran the step; result is what it said */
    enum sg_error result;
    bool needs_pool; /* the step at hand must not be tried on an I/O thread */

    unsigned method_slot;    /* of route_series.count */
    enum sg_error route_err; /* what to answer once the address's limit was taken */
    char allow[64]; /* with METHOD_NOT_ALLOWED, and for OPTIONS: what the resource answers to */
    bool answered;  /* the response is made; steps that are left do not run */
    bool playback;  /* a route below /stream/ */

    struct sg_limit_verdict verdict; /* the tighter one */
    bool have_verdict;

    /* Between them lies the server's own time: not the client's, which sends its body before and
     * reads the answer after. answered_ns is 0 until there is an answer. */
    uint64_t whole_ns, answered_ns;

    bool wants_body, body_done;
    uint64_t body_bound;
    struct sg_text collected; /* SG_BODY_JSON */

    struct sg_exchange *next_spare;
};

/* pipeline_steps.c. WOULD_BLOCK and PENDING as handlers; any other error is answered as such. */
enum sg_error sg_step_id(struct sg_exchange *x);
enum sg_error sg_step_route(struct sg_exchange *x);
enum sg_error sg_step_limit_address(struct sg_exchange *x);
enum sg_error sg_step_identify(struct sg_exchange *x);
enum sg_error sg_step_limit_user(struct sg_exchange *x);
enum sg_error sg_step_size(struct sg_exchange *x);
enum sg_error sg_step_begin_body(struct sg_exchange *x);
/* What the method is called in metrics; METHOD_OTHER when unknown. */
enum sg_error sg_exchange_set_method(struct sg_exchange *x, const char *method);

/* pipeline_finish.c */
void sg_exchange_fail(struct sg_exchange *x,
                      enum sg_error err); /* turns the response into a problem; audits, charges */
void sg_exchange_complete_headers(struct sg_exchange *x); /* once, on the final response */
enum sg_error sg_pipeline_define_series(struct sg_pipeline *p) SG_NODISCARD;
/* A header of static name whose value lives as long as the exchange: no copy. */
void sg_exchange_add(struct sg_exchange *x, const char *name, const char *value);
/* Decimal digits in the arena; NULL when it is exhausted. */
char *sg_exchange_number(struct sg_exchange *x, uint64_t n);
void sg_exchange_account(struct sg_exchange *x, bool completed, uint64_t bytes_sent);

/* cors.c */
void sg_cors_apply(struct sg_exchange *x);

#endif
