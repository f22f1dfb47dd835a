/* The pipeline: the table of steps and the machine that takes an exchange through them. A step that
 * would block is run again on a blocking thread while the connection is suspended; a handler that
 * is PENDING is parked until its wake.
 *
 * Invariants: run_state is RUNNING while a thread works on the exchange, SUSPENDED when it is
 * parked and only the wake may touch it, WOKEN when a wake came. The connection is suspended before
 * run_state can become SUSPENDED, so a wake that finds SUSPENDED always has a suspended connection
 * to resume; one that finds RUNNING only leaves WOKEN, which the parking thread notices. Each
 * suspension is therefore resumed exactly once. After resume was called the caller does not touch
 * the exchange. */
#include "streamgate/server/pipeline.h"

#include <stdlib.h>
#include <string.h>

#include "streamgate/base/log.h"

#include "exchange.h"
#include "guard.h"

enum { RUN_RUNNING, RUN_SUSPENDED, RUN_WOKEN };

#define EXCHANGE_ARENA_BYTES ((size_t)8192)
#define EXCHANGE_ARENA_MAX ((size_t)1 << 20)
#define SPARES_PER_THREAD 64

/* Finished exchanges of one thread, with their arenas; only that thread touches it until the
 * pipeline is destroyed. */
struct spare_list {
    struct sg_exchange *first;
    unsigned n;
    struct spare_list *next;
};

static enum sg_error step_body(struct sg_exchange *x)
{
    (void)x;
    return SG_OK;
}

static enum sg_error step_handle(struct sg_exchange *x)
{
    return x->req.route->handle(&x->req, &x->res);
}

static const struct step {
    const char *name;
    enum sg_error (*run)(struct sg_exchange *x);
    bool may_pend;
} steps[] = {
    {"id", sg_step_id, false},
    {"route", sg_step_route, false},
    {"limit-address", sg_step_limit_address, false},
    {"identify", sg_step_identify, false},
    {"limit-user", sg_step_limit_user, false},
    {"size", sg_step_size, false},
    {"begin-body", sg_step_begin_body, false},
    {"body", step_body, false},
    {"handle", step_handle, true},
};
#define STEP_BODY_INDEX 7
#define STEP_HANDLE_INDEX 8
_Static_assert(SG_ARRAY_LEN(steps) == STEP_HANDLE_INDEX + 1, "the handler is the last step");

static struct sg_exchange *exchange_of(struct sg_request *req)
{
    return req->transport;
}

/* ---- creation ---- */

static void spare_list_free(struct spare_list *list)
{
    while (list->first) {
        struct sg_exchange *x = list->first;
        list->first = x->next_spare;
        sg_arena_destroy(&x->req.arena);
        free(x);
    }
    free(list);
}

static struct spare_list *my_spares(struct sg_pipeline *p)
{
    struct spare_list *list = pthread_getspecific(p->spares_key);
    if (list) {
        return list;
    }
    list = calloc(1, sizeof(*list));
    if (!list || pthread_setspecific(p->spares_key, list) != 0) {
        free(list);
        return NULL;
    }
    pthread_mutex_lock(&p->lists_lock);
    list->next = p->lists;
    p->lists = list;
    pthread_mutex_unlock(&p->lists_lock);
    return list;
}

static enum sg_error exchange_create(struct sg_pipeline *p, struct sg_exchange **out)
{
    struct spare_list *list = my_spares(p);
    struct sg_exchange *x = list ? list->first : NULL;
    struct sg_arena *arena = NULL;
    if (x) {
        list->first = x->next_spare;
        list->n--;
        arena = x->req.arena;
        memset(x, 0, sizeof(*x));
    } else {
        x = calloc(1, sizeof(*x));
        if (!x) {
            return SG_ERR_NO_MEMORY;
        }
        enum sg_error err = sg_arena_create(EXCHANGE_ARENA_BYTES, EXCHANGE_ARENA_MAX, &arena);
        if (err != SG_OK) {
            free(x);
            return err;
        }
    }
    x->p = p;
    x->req.arena = arena;
    x->req.svc = p->svc;
    x->req.transport = x;
    x->req.started_ns = sg_clock_mono_ns();
    x->whole_ns = x->req.started_ns;
    x->req.path = "";
    x->req.query = "";
    x->config = sg_services_config(p->svc);
    x->method_slot = METHOD_OTHER;
    sg_response_init(&x->res);
    *out = x;
    return SG_OK;
}

static void exchange_recycle(struct sg_exchange *x)
{
    sg_response_clear(&x->res);
    if (x->req.wake_buf) {
        sg_buf_unref(x->req.wake_buf);
    }
    if (x->collected.ptr) {
        sg_text_free(&x->collected);
    }
    struct spare_list *list = my_spares(x->p);
    if (list && list->n < SPARES_PER_THREAD) {
        sg_arena_reset(x->req.arena);
        x->next_spare = list->first;
        list->first = x;
        list->n++;
        return;
    }
    sg_arena_destroy(&x->req.arena);
    free(x);
}

static void on_wake(struct sg_request *req)
{
    struct sg_exchange *x = exchange_of(req);
    /* The transport is copied: once RUNNING was replaced the parking thread may go on and finish
     * the request. */
    struct sg_transport t = x->t;
    if (atomic_exchange_explicit(&req->run_state, RUN_WOKEN, memory_order_acq_rel) ==
        RUN_SUSPENDED) {
        t.resume(t.conn);
    }
}

enum sg_error sg_pipeline_create(struct sg_services *svc, struct sg_pipeline **out)
{
    struct sg_pipeline *p = calloc(1, sizeof(*p));
    if (!p) {
        return SG_ERR_NO_MEMORY;
    }
    p->svc = svc;
    p->n_routes = sg_route_table_count(svc->routes);
    if (pthread_key_create(&p->spares_key, NULL) != 0) {
        free(p);
        return SG_ERR_NO_MEMORY;
    }
    pthread_mutex_init(&p->lists_lock, NULL);
    enum sg_error err = sg_pipeline_define_series(p);
    if (err != SG_OK) {
        sg_pipeline_destroy(&p);
        return err;
    }
    sg_request_set_wake_hook(on_wake);
    *out = p;
    return SG_OK;
}

void sg_pipeline_destroy(struct sg_pipeline **pp)
{
    struct sg_pipeline *p = *pp;
    if (!p) {
        return;
    }
    *pp = NULL;
    while (p->lists) {
        struct spare_list *list = p->lists;
        p->lists = list->next;
        spare_list_free(list);
    }
    pthread_key_delete(p->spares_key);
    pthread_mutex_destroy(&p->lists_lock);
    free(p->series);
    free(p->malformed);
    free(p);
}

/* ---- the machine ---- */

static enum sg_step respond(struct sg_exchange *x)
{
    x->at = SG_ARRAY_LEN(steps);
    sg_exchange_complete_headers(x);
    x->answered_ns = sg_clock_mono_ns();
    return SG_STEP_RESPOND;
}

/* A wake came while the request was parked or was about to be: the handler goes on where only
 * non-blocking work is done. */
static void take_wake(struct sg_exchange *x)
{
    atomic_store_explicit(&x->req.run_state, RUN_RUNNING, memory_order_relaxed);
    x->req.woken = true;
    x->req.may_block = false;
}

static bool wake_is_here(struct sg_exchange *x)
{
    return atomic_load_explicit(&x->req.run_state, memory_order_acquire) == RUN_WOKEN;
}

/* True when the exchange is now parked and no longer ours; false when the wake came first. The
 * connection is suspended. */
static bool park(struct sg_exchange *x)
{
    int running = RUN_RUNNING;
    return atomic_compare_exchange_strong_explicit(&x->req.run_state, &running, RUN_SUSPENDED,
                                                   memory_order_acq_rel, memory_order_acquire);
}

/* On a blocking thread, the connection suspended: runs the step at hand to its end or until it is
 * parked. */
static void run_blocking(void *arg)
{
    struct sg_exchange *x = arg;
    struct sg_transport t = x->t;
    const struct step *step = &steps[x->at];
    enum sg_error err;
    sg_log_set_request(x->req.id);
    x->req.may_block = true;
    for (;;) {
        err = step->run(x);
        if (err == SG_ERR_PENDING && step->may_pend) {
            if (park(x)) {
                sg_log_set_request(NULL);
                return;
            }
            take_wake(x);
            continue;
        }
        if (err == SG_ERR_WOULD_BLOCK && !x->req.may_block) {
            x->req.may_block = true;
            continue;
        }
        break;
    }
    sg_log_set_request(NULL);
    x->req.may_block = false;
    x->result = err == SG_ERR_WOULD_BLOCK ? SG_ERR_INTERNAL : err;
    x->have_result = true;
    t.resume(t.conn);
}

static enum sg_step to_pool(struct sg_exchange *x)
{
    struct sg_transport t = x->t;
    t.suspend(t.conn);
    enum sg_error err = sg_pool_submit(x->p->svc->blocking, run_blocking, x);
    if (err != SG_OK) {
        x->result = err;
        x->have_result = true;
        t.resume(t.conn);
    }
    return SG_STEP_SUSPENDED;
}

/* The handler said PENDING on the thread that drives the connection. False: it was woken meanwhile
 * and runs again. */
static bool parked(struct sg_exchange *x)
{
    if (wake_is_here(x)) {
        take_wake(x);
        return false;
    }
    struct sg_transport t = x->t;
    t.suspend(t.conn);
    if (!park(x)) {
        t.resume(t.conn); /* the wake came in between and found no suspended connection */
    }
    return true;
}

static enum sg_error run_step(struct sg_exchange *x)
{
    if (x->have_result) {
        x->have_result = false;
        return x->result;
    }
    if (x->at == STEP_HANDLE_INDEX && x->req.route->blocking && !x->req.woken) {
        return SG_ERR_WOULD_BLOCK;
    }
    return steps[x->at].run(x);
}

static enum sg_step advance(struct sg_exchange *x)
{
    sg_log_set_request(x->req.id[0] ? x->req.id : NULL);
    enum sg_step out = SG_STEP_RESPOND;
    while (x->at < SG_ARRAY_LEN(steps) && !x->answered) {
        if (x->at == STEP_BODY_INDEX && x->wants_body && !x->body_done) {
            out = SG_STEP_BODY;
            break;
        }
        enum sg_error err = run_step(x);
        if (err == SG_ERR_WOULD_BLOCK) {
            out = SG_STEP_SUSPENDED;
            break;
        }
        if (err == SG_ERR_PENDING && steps[x->at].may_pend) {
            if (parked(x)) {
                sg_log_set_request(NULL);
                return SG_STEP_SUSPENDED;
            }
            continue;
        }
        if (err != SG_OK) {
            sg_exchange_fail(x, err);
            break;
        }
        x->at++;
    }
    sg_log_set_request(NULL);
    switch (out) {
    case SG_STEP_BODY:
        return SG_STEP_BODY;
    case SG_STEP_SUSPENDED:
        return to_pool(x);
    default:
        return respond(x);
    }
}

static void take_head(struct sg_exchange *x, const struct sg_transport *t,
                      const struct sg_request_head *head)
{
    x->t = *t;
    x->req.peer = head->peer;
    x->req.client = head->peer;
    x->target_path = head->target_path ? head->target_path : "";
    x->query = head->query ? head->query : "";
}

enum sg_error sg_pipeline_begin(struct sg_pipeline *p, const struct sg_transport *t,
                                const struct sg_request_head *head, struct sg_exchange **out,
                                enum sg_step *step)
{
    struct sg_exchange *x = NULL;
    enum sg_error err = exchange_create(p, &x);
    if (err != SG_OK) {
        return err;
    }
    take_head(x, t, head);
    unsigned n = head->n_headers <= SG_HEADERS_MAX ? head->n_headers : SG_HEADERS_MAX;
    memcpy(x->req.headers, head->headers, n * sizeof(*head->headers));
    x->req.n_headers = n;
    *out = x;
    x->route_err = sg_exchange_set_method(x, head->method);
    if (head->n_headers > SG_HEADERS_MAX) {
        x->route_err = SG_ERR_HEADERS_TOO_LARGE;
    }
    *step = advance(x);
    return SG_OK;
}

enum sg_error sg_pipeline_refuse(struct sg_pipeline *p, const struct sg_transport *t,
                                 const struct sg_request_head *head, enum sg_error err,
                                 const char *reason, struct sg_exchange **out)
{
    struct sg_exchange *x = NULL;
    enum sg_error created = exchange_create(p, &x);
    if (created != SG_OK) {
        return created;
    }
    take_head(x, t, head);
    /* Nothing of a malformed head is believed but the method, for the metrics, and so that HEAD
     * gets no body. */
    (void)sg_exchange_set_method(x, head->method ? head->method : "");
    sg_ulid_make(x->req.id);
    sg_trace_begin(NULL, &x->req.trace);
    const struct sg_guard_rule *rule = sg_guard_find(reason);
    (void)sg_request_fail(&x->req, err, NULL, "%s", rule ? rule->sentence : reason);
    if (rule) {
        sg_metric_add(SG_METRIC_MALFORMED_REQUESTS, p->malformed[rule - sg_guard_rules], 1);
    }
    x->req.fail_field = NULL;
    x->wants_body =
        true; /* where the body ends is not known: the connection must not be used again */
    sg_exchange_fail(x, err);
    (void)respond(x);
    *out = x;
    return SG_OK;
}

static enum sg_error collect(struct sg_exchange *x, const uint8_t *data, size_t len)
{
    sg_text_append(&x->collected, (const char *)data, len);
    return x->collected.failed ? SG_ERR_NO_MEMORY : SG_OK;
}

enum sg_step sg_pipeline_body(struct sg_exchange *x, const uint8_t *data, size_t len)
{
    struct sg_request *req = &x->req;
    enum sg_error err = SG_OK;
    if (len > x->body_bound - req->body_received) {
        err = sg_request_fail(req, SG_ERR_TOO_LARGE, NULL,
                              "The content must not be longer than %llu bytes",
                              (unsigned long long)x->body_bound);
    } else {
        req->body_received += len;
        err = req->route->body == SG_BODY_STREAM ? req->route->body_data(req, data, len)
                                                 : collect(x, data, len);
    }
    if (err == SG_OK) {
        return SG_STEP_BODY;
    }
    x->whole_ns = sg_clock_mono_ns(); /* no more of it is looked at */
    sg_exchange_fail(x, err);
    return respond(x);
}

enum sg_step sg_pipeline_body_end(struct sg_exchange *x)
{
    struct sg_request *req = &x->req;
    x->body_done = true;
    x->whole_ns = sg_clock_mono_ns();
    if (req->has_content_length && req->body_received != req->content_length) {
        sg_exchange_fail(x, sg_request_fail(req, SG_ERR_MALFORMED, NULL,
                                            "The content is shorter than its Content-Length"));
        return respond(x);
    }
    if (req->route->body == SG_BODY_JSON) {
        req->body = x->collected.ptr;
        req->body_len = x->collected.len;
    }
    return advance(x);
}

enum sg_step sg_pipeline_continue(struct sg_exchange *x)
{
    if (!x->have_result && wake_is_here(x)) {
        take_wake(x);
    }
    return advance(x);
}

struct sg_response *sg_exchange_response(struct sg_exchange *x)
{
    return &x->res;
}

struct sg_request *sg_exchange_request(struct sg_exchange *x)
{
    return &x->req;
}

void sg_pipeline_finish(struct sg_exchange *x, bool completed, uint64_t bytes_sent)
{
    sg_exchange_account(x, completed, bytes_sent);
    if (x->req.state_free) {
        x->req.state_free(&x->req, x->req.state);
    }
    exchange_recycle(x);
}
