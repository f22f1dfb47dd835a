/* The end of every request: the response's headers, and afterwards what is counted, logged and
 * audited. The hot path (a 200 from memory) formats its numbers by hand and copies no header. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/log.h"

#include "exchange.h"
#include "guard.h"

static const char *const class_names[CODE_CLASSES] = {"2xx", "3xx", "4xx", "5xx", "dropped"};

/* ---- series ---- */

static const char *method_label(unsigned slot)
{
    return slot == METHOD_OTHER ? "other" : sg_method_name((enum sg_method)slot);
}

static enum sg_error define_counts(struct route_series *s, const char *route, unsigned slot)
{
    for (unsigned c = 0; c < CODE_CLASSES; c++) {
        struct sg_text labels = {0};
        sg_text_printf(&labels, "method=\"%s\",route=\"%s\",code=\"%s\"", method_label(slot), route,
                       class_names[c]);
        enum sg_error err = labels.failed ? SG_ERR_NO_MEMORY
                                          : sg_metric_define(SG_METRIC_REQUEST_COUNT, labels.ptr,
                                                             &s->count[slot][c]);
        sg_text_free(&labels);
        if (err != SG_OK) {
            return err;
        }
    }
    return SG_OK;
}

static enum sg_error define_labelled(enum sg_metric m, const char *name, const char *value,
                                     uint32_t *out)
{
    struct sg_text labels = {0};
    sg_text_printf(&labels, "%s=\"%s\"", name, value);
    enum sg_error err = labels.failed ? SG_ERR_NO_MEMORY : sg_metric_define(m, labels.ptr, out);
    sg_text_free(&labels);
    return err;
}

enum sg_error sg_pipeline_define_series(struct sg_pipeline *p)
{
    enum sg_error err = SG_OK;
    p->series = calloc(p->n_routes + 1, sizeof(*p->series));
    p->malformed = calloc(SG_GUARD_REASON_COUNT, sizeof(*p->malformed));
    if (!p->series || !p->malformed) {
        return SG_ERR_NO_MEMORY;
    }
    for (size_t i = 0; i < p->n_routes && err == SG_OK; i++) {
        const struct sg_route *route = sg_route_table_at(p->svc->routes, i);
        err = define_counts(&p->series[i], route->path, route->method);
        if (err == SG_OK && route->method == SG_GET) {
            err = define_counts(&p->series[i], route->path, SG_HEAD);
        }
        if (err == SG_OK) {
            err = define_labelled(SG_METRIC_REQUEST_LATENCY, "route", route->path,
                                  &p->series[i].latency);
        }
    }
    for (unsigned slot = 0; slot <= METHOD_OTHER && err == SG_OK; slot++) {
        err = define_counts(&p->series[p->n_routes], "unmatched", slot);
    }
    if (err == SG_OK) {
        err = define_labelled(SG_METRIC_REQUEST_LATENCY, "route", "unmatched",
                              &p->series[p->n_routes].latency);
    }
    for (unsigned i = SG_GUARD_OK + 1; i < SG_GUARD_REASON_COUNT && err == SG_OK; i++) {
        err = define_labelled(SG_METRIC_MALFORMED_REQUESTS, "reason", sg_guard_rules[i].slug,
                              &p->malformed[i]);
    }
    if (err == SG_OK) {
        err = define_labelled(SG_METRIC_AUTH_SUCCESS, "method", "api_key", &p->key_accepted);
    }
    if (err == SG_OK) {
        err = define_labelled(SG_METRIC_AUTH_FAILED, "method", "api_key", &p->key_refused);
    }
    return err;
}

/* ---- headers ---- */

void sg_exchange_add(struct sg_exchange *x, const char *name, const char *value)
{
    struct sg_response *res = &x->res;
    if (res->n_headers < SG_RESPONSE_HEADERS_MAX && value && *value) {
        res->headers[res->n_headers++] = (struct sg_header){name, value};
    }
}

char *sg_exchange_number(struct sg_exchange *x, uint64_t n)
{
    char digits[21];
    size_t at = sizeof(digits) - 1;
    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + n % 10);
        n /= 10;
    } while (n > 0);
    return sg_arena_strndup(x->req.arena, digits + at, sizeof(digits) - 1 - at);
}

static const char *cache_control(const struct sg_exchange *x)
{
    static const char *const by_row[] = {
        [SG_CACHE_NONE] = "no-store",
        [SG_CACHE_REVALIDATE] = "private, no-cache",
        [SG_CACHE_SHORT] = "public, max-age=2",
        [SG_CACHE_IMMUTABLE] = "public, max-age=31536000, immutable",
    };
    if (x->res.cache_control) {
        return x->res.cache_control;
    }
    return x->req.route && x->res.status < 400 ? by_row[x->req.route->cache] : "no-store";
}

static void add_limits(struct sg_exchange *x)
{
    const struct sg_limit_verdict *v = &x->verdict;
    /* Players do not read them, so content they get carries them once half of the bucket is gone.
     */
    bool plenty = x->playback && x->res.status < 400 && v->remaining > v->limit / 2;
    if (!x->have_verdict || plenty) {
        return;
    }
    sg_exchange_add(x, "RateLimit-Limit", sg_exchange_number(x, v->limit));
    sg_exchange_add(x, "RateLimit-Remaining", sg_exchange_number(x, v->remaining));
    sg_exchange_add(x, "RateLimit-Reset", sg_exchange_number(x, (v->reset_ms + 999) / 1000));
    if (x->res.status == 429) {
        uint64_t wait_s = (v->retry_after_ms + 999) / 1000;
        sg_exchange_add(x, "Retry-After", sg_exchange_number(x, wait_s > 0 ? wait_s : 1));
    }
}

/* Formatting a date costs more than the rest of the headers together, and the same content is asked
 * for again and again. */
static char *http_date(struct sg_exchange *x, uint64_t wall_ms)
{
    static _Thread_local struct {
        uint64_t wall_ms;
        char text[SG_HTTP_DATE_SIZE];
    } last;
    if (last.wall_ms != wall_ms) {
        sg_time_http_date(wall_ms, last.text);
        last.wall_ms = wall_ms;
    }
    char *date = sg_arena_alloc(x->req.arena, SG_HTTP_DATE_SIZE);
    return date ? memcpy(date, last.text, SG_HTTP_DATE_SIZE) : NULL;
}

static void add_validators(struct sg_exchange *x)
{
    struct sg_response *res = &x->res;
    sg_exchange_add(x, "ETag", res->etag);
    if (res->last_modified_ms != 0) {
        sg_exchange_add(x, "Last-Modified", http_date(x, res->last_modified_ms));
    }
}

/* What the row and the handler want on every answer. */
static void add_given(struct sg_exchange *x)
{
    const struct sg_request *req = &x->req;
    for (size_t i = 0; req->route && i < req->route->n_headers; i++) {
        sg_exchange_add(x, req->route->headers[i].name, req->route->headers[i].value);
    }
    for (unsigned i = 0; i < req->n_answer_headers; i++) {
        sg_exchange_add(x, req->answer_headers[i].name, req->answer_headers[i].value);
    }
}

void sg_exchange_complete_headers(struct sg_exchange *x)
{
    struct sg_request *req = &x->req;
    struct sg_response *res = &x->res;
    if (res->status == 0) {
        res->status = req->route && req->route->success ? req->route->success : 200;
    }
    uint64_t whole_len = res->len;
    sg_conditional_apply(req, res);
    sg_range_apply(req, res);
    if (res->status == 304) {
        res->len =
            whole_len; /* what a Content-Length of a 304 must say, if there is one (RFC 9110 8.6) */
    }
    char *trace = NULL;
    if (!x->playback || res->status >= 400 || x->known[KNOWN_TRACEPARENT]) {
        /* Content for players, who begin no traces, goes without. */
        trace = sg_arena_alloc(req->arena, SG_TRACEPARENT_SIZE);
    }
    if (trace) {
        sg_trace_format(&req->trace, trace);
    }
    sg_exchange_add(x, "Content-Type", res->content_type);
    sg_exchange_add(x, "Cache-Control", cache_control(x));
    add_validators(x);
    sg_exchange_add(x, "X-Request-Id", req->id);
    sg_exchange_add(x, "traceparent", trace);
    add_limits(x);
    sg_exchange_add(x, "X-Content-Type-Options", "nosniff");
    sg_exchange_add(x, "Referrer-Policy", "no-referrer");
    if (res->status == 405 || (req->method == SG_OPTIONS && res->status < 400)) {
        sg_exchange_add(x, "Allow", x->allow);
    }
    add_given(x);
    sg_cors_apply(x);
    if ((x->wants_body && !x->body_done) ||
        atomic_load_explicit(&req->svc->draining, memory_order_relaxed)) {
        res->close = true;
    }
}

/* ---- refusals ---- */

static void note_denial(struct sg_exchange *x, enum sg_error err)
{
    struct sg_request *req = &x->req;
    struct sg_audit_event event = {.result = "denied", .request_id = req->id};
    switch (err) {
    case SG_ERR_UNAUTHENTICATED:
        event.event_type = "authentication";
        event.action = "request.authenticate";
        event.result = "failure";
        break;
    case SG_ERR_FORBIDDEN:
        event.event_type = "authorization";
        event.action = "request.authorize";
        break;
    case SG_ERR_RATE_LIMITED:
        event.event_type = "rate_limit";
        event.action = "request.limit";
        break;
    case SG_ERR_MALFORMED:
        event.event_type = "security";
        event.action = "request.refuse";
        break;
    default:
        return;
    }
    char client[SG_ADDRESS_TEXT];
    sg_address_format(&req->client, client);
    event.actor = req->identity.user_id[0] ? req->identity.user_id : "anonymous";
    event.resource = req->route ? req->route->path : "unmatched";
    event.details = sg_arena_printf(req->arena, "{\"client\":\"%s\",\"method\":\"%s\"}", client,
                                    method_label(x->method_slot));
    sg_audit_note(req->svc->audit, &event);
}

/* A credential that was shown and refused costs its address a token of the auth policy; when there
 * is none left, it is told to wait. */
static enum sg_error charge_failed_login(struct sg_exchange *x)
{
    if (!x->known[KNOWN_AUTHORIZATION] && !x->req.playback_token) {
        return SG_ERR_UNAUTHENTICATED;
    }
    uint8_t id[16];
    struct sg_limit_verdict v;
    sg_address_limit_id(&x->req.client, id);
    sg_ratelimit_take(x->req.svc->ratelimit, SG_LIMIT_AUTH, SG_SCOPE_IP, id, &v);
    if (v.allowed) {
        return SG_ERR_UNAUTHENTICATED;
    }
    x->verdict = v;
    x->have_verdict = true;
    return sg_request_fail(&x->req, SG_ERR_RATE_LIMITED, NULL,
                           "Too many failed authentications from this address");
}

void sg_exchange_fail(struct sg_exchange *x, enum sg_error err)
{
    if (err == SG_ERR_UNAUTHENTICATED) {
        err = charge_failed_login(x);
    }
    note_denial(x, err);
    sg_response_problem(&x->req, &x->res, err);
    x->answered = true;
}

/* ---- account ---- */

static enum code_class class_of(const struct sg_exchange *x, bool completed)
{
    if (!completed) {
        return CODE_DROPPED;
    }
    unsigned hundreds = x->res.status / 100;
    return hundreds <= 2 ? CODE_2XX : hundreds >= 5 ? CODE_5XX : (enum code_class)(hundreds - 2);
}

static void log_access(struct sg_exchange *x, bool completed, uint64_t bytes_sent)
{
    enum sg_log_level level = completed && x->res.status >= 500 ? SG_LOG_INFO : SG_LOG_DEBUG;
    if (!sg_log_enabled(level)) {
        return;
    }
    sg_log_set_request(x->req.id[0] ? x->req.id : NULL);
    sg_log(level, "access", "%s %s %u %s %llu bytes %llu us", method_label(x->method_slot),
           x->req.route ? x->req.route->path : "unmatched", x->res.status,
           completed ? "sent" : "dropped", (unsigned long long)bytes_sent,
           (unsigned long long)((sg_clock_mono_ns() - x->req.started_ns) / 1000));
    sg_log_set_request(NULL);
}

void sg_exchange_account(struct sg_exchange *x, bool completed, uint64_t bytes_sent)
{
    const struct sg_pipeline *p = x->p;
    const struct route_series *s = &p->series[x->req.route ? x->req.route_index : p->n_routes];
    enum code_class class = class_of(x, completed);
    sg_metric_add(SG_METRIC_REQUEST_COUNT, s->count[x->method_slot][class], 1);
    if (class <= CODE_3XX) {
        sg_metric_add(SG_METRIC_REQUEST_SUCCESS, 0, 1);
    } else if (class == CODE_5XX) {
        sg_metric_add(SG_METRIC_REQUEST_FAILED, 0, 1);
    }
    if (x->answered_ns != 0) {
        sg_metric_observe_ns(SG_METRIC_REQUEST_LATENCY, s->latency, x->answered_ns - x->whole_ns);
    }
    if (bytes_sent > 0 && x->req.route && x->req.route->limit == SG_LIMIT_STREAMING) {
        sg_metric_add(SG_METRIC_STREAM_BYTES, 0, bytes_sent);
    }
    log_access(x, completed, bytes_sent);
}
