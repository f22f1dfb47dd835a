/* The steps before the handler: id, route, limits, identity and size. All of them work on the head
 * alone, so whatever they refuse is refused before a body byte is stored and before 100 Continue.
 */
#include <string.h>

#include "streamgate/base/log.h"

#include "exchange.h"

/* Lower case; the length decides first, so that most headers cost one comparison each. */
static const struct known_name {
    const char *name;
    size_t len;
} known_names[KNOWN_COUNT] = {
    [KNOWN_AUTHORIZATION] = {"authorization", 13},
    [KNOWN_CONTENT_LENGTH] = {"content-length", 14},
    [KNOWN_CONTENT_TYPE] = {"content-type", 12},
    [KNOWN_FORWARDED_FOR] = {"x-forwarded-for", 15},
    [KNOWN_METHOD_OVERRIDE] = {"x-http-method-override", 22},
    [KNOWN_FORWARDED_PROTO] = {"x-forwarded-proto", 17},
    [KNOWN_ORIGIN] = {"origin", 6},
    [KNOWN_PREFLIGHT_METHOD] = {"access-control-request-method", 29},
    [KNOWN_REQUEST_ID] = {"x-request-id", 12},
    [KNOWN_TRACEPARENT] = {"traceparent", 11},
    [KNOWN_TRANSFER_ENCODING] = {"transfer-encoding", 17},
};

enum sg_error sg_exchange_set_method(struct sg_exchange *x, const char *method)
{
    enum sg_error err = sg_method_parse(method, &x->req.method);
    x->method_slot = err == SG_OK ? (unsigned)x->req.method : METHOD_OTHER;
    return err;
}

/* ---- id ---- */

static bool is_request_id(const char *s)
{
    size_t n = 0;
    for (; s[n] != '\0'; n++) {
        char c = s[n];
        bool ok = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                  c == '.' || c == '_' || c == '-';
        if (!ok || n == SG_ULID_SIZE - 1) {
            return false;
        }
    }
    return n > 0;
}

/* RFC 9110 5.5: white space around a value is no part of it. libmicrohttpd leaves what trails. */
static enum sg_error trim_values(struct sg_request *req)
{
    for (unsigned i = 0; i < req->n_headers; i++) {
        const char *value = req->headers[i].value;
        size_t len = strlen(value);
        size_t kept = len;
        while (kept > 0 && (value[kept - 1] == ' ' || value[kept - 1] == '\t')) {
            kept--;
        }
        if (kept != len) {
            req->headers[i].value = sg_arena_strndup(req->arena, value, kept);
            if (!req->headers[i].value) {
                return SG_ERR_NO_MEMORY;
            }
        }
    }
    return SG_OK;
}

static void find_known(struct sg_exchange *x)
{
    for (unsigned i = 0; i < x->req.n_headers; i++) {
        const char *name = x->req.headers[i].name;
        size_t len = strlen(name);
        for (unsigned k = 0; k < KNOWN_COUNT; k++) {
            if (len == known_names[k].len && !x->known[k] &&
                sg_str_ieq(name, known_names[k].name)) {
                x->known[k] = x->req.headers[i].value;
                break;
            }
        }
    }
}

/* First of all: a refusal at any step must know whether a body is still to come, since then the
 * connection ends with it. */
static enum sg_error read_framing(struct sg_exchange *x)
{
    struct sg_request *req = &x->req;
    const char *length = x->known[KNOWN_CONTENT_LENGTH];
    if (x->known[KNOWN_TRANSFER_ENCODING]) {
        if (length || strcmp(x->known[KNOWN_TRANSFER_ENCODING], "chunked") != 0) {
            return SG_ERR_MALFORMED;
        }
        req->chunked = true;
    } else if (length) {
        if (sg_str_to_u64(length, strlen(length), INT64_MAX, &req->content_length) != SG_OK) {
            return SG_ERR_MALFORMED;
        }
        req->has_content_length = true;
    }
    x->wants_body = req->chunked || req->content_length > 0;
    return SG_OK;
}

/* What the nearest proxy said: the last element. */
static bool last_is(const char *list, const char *word)
{
    const char *comma = strrchr(list, ',');
    const char *last = comma ? comma + 1 + strspn(comma + 1, " \t") : list;
    return sg_str_ieq(last, word);
}

static enum sg_error find_client(struct sg_exchange *x)
{
    struct sg_request *req = &x->req;
    const struct sg_cidr_list *trusted =
        atomic_load_explicit(&req->svc->trusted_proxies, memory_order_acquire);
    bool forwarded = x->known[KNOWN_FORWARDED_FOR] || x->known[KNOWN_FORWARDED_PROTO];
    if (!forwarded || !trusted || !sg_cidr_list_contains(trusted, &req->peer)) {
        return SG_OK;
    }
    /* A proxy may add its own line below one that the client made up. */
    const char *path, *proto;
    enum sg_error err = sg_request_header_list(req, "x-forwarded-for", &path);
    if (err == SG_OK) {
        err = sg_request_header_list(req, "x-forwarded-proto", &proto);
    }
    if (err != SG_OK) {
        return err; /* never taken for the proxy itself */
    }
    req->client = sg_address_client(&req->peer, path, trusted);
    req->secure = proto && last_is(proto, "https");
    return SG_OK;
}

enum sg_error sg_step_id(struct sg_exchange *x)
{
    struct sg_request *req = &x->req;
    enum sg_error err = trim_values(req);
    find_known(x);
    if (read_framing(x) != SG_OK) {
        x->wants_body = true; /* its end is unknown */
        x->route_err =
            sg_request_fail(req, SG_ERR_MALFORMED, NULL, "The length of the content is unclear");
    }
    const char *given = x->known[KNOWN_REQUEST_ID];
    if (given && is_request_id(given)) {
        memcpy(req->id, given, strlen(given) + 1);
    } else {
        sg_ulid_make(req->id);
    }
    sg_trace_begin(x->known[KNOWN_TRACEPARENT], &req->trace);
    if (err == SG_OK) {
        err = find_client(x);
    }
    return err;
}

/* ---- route ---- */

/* "/stream/{id}/~{token}/rest" becomes "/stream/{id}/rest". Every such element goes, the first is
 * the token: what is routed, logged and cached never holds one. */
static void cut_token(struct sg_exchange *x, char *path, size_t len)
{
    static const char prefix[] = "/stream/";
    if (len < sizeof(prefix) - 1 || memcmp(path, prefix, sizeof(prefix) - 1) != 0) {
        return;
    }
    x->playback = true;
    char *after_id = strchr(path + sizeof(prefix) - 1, '/');
    char *at = after_id ? strstr(after_id, "/~") : NULL;
    while (at) {
        char *end = strchr(at + 1, '/');
        size_t token_len = end ? (size_t)(end - at) - 2 : strlen(at) - 2;
        if (!x->req.playback_token) {
            x->req.playback_token = sg_arena_strndup(x->req.arena, at + 2, token_len);
            x->req.playback_token_len = x->req.playback_token ? token_len : 0;
        }
        if (!end) {
            *at = '\0';
            return;
        }
        memmove(at, end, strlen(end) + 1);
        at = strstr(at, "/~");
    }
}

static enum sg_error decode_path(struct sg_exchange *x)
{
    struct sg_request *req = &x->req;
    size_t len = strlen(x->target_path);
    char *path = sg_arena_strndup(req->arena, x->target_path, len);
    if (!path) {
        return SG_ERR_NO_MEMORY;
    }
    if (memchr(path, '%', len)) {
        if (sg_percent_decode(path, len, true, &len) != SG_OK) {
            return sg_request_fail(req, SG_ERR_MALFORMED, NULL,
                                   "The path holds a percent escape that is broken or not allowed");
        }
        path[len] = '\0';
        if (!sg_str_is_utf8(path, len)) {
            return sg_request_fail(req, SG_ERR_INVALID, NULL, "The path must be UTF-8");
        }
    }
    cut_token(x, path, len);
    req->path = path;
    return SG_OK;
}

static enum sg_error answer_options(struct sg_exchange *x)
{
    sg_response_empty(&x->res, 204);
    x->answered = true;
    return SG_OK;
}

/* Splits a copy of the path, so it can be asked again for another method. */
static enum sg_error find(struct sg_exchange *x, enum sg_method method, enum sg_route_match *out)
{
    struct sg_request *req = &x->req;
    char *storage = sg_arena_strdup(req->arena, req->path);
    if (!storage) {
        return SG_ERR_NO_MEMORY;
    }
    req->route = NULL;
    req->n_params = 0;
    *out = sg_route_find(req->svc->routes, method, storage, req, x->allow);
    return SG_OK;
}

/* A POST that means another method, where that method's row takes it; else it is the POST it is. */
static enum sg_error find_row(struct sg_exchange *x, enum sg_route_match *out)
{
    struct sg_request *req = &x->req;
    const char *meant = x->known[KNOWN_METHOD_OVERRIDE];
    enum sg_method method;
    if (req->method == SG_POST && meant && sg_method_parse(meant, &method) == SG_OK) {
        enum sg_error err = find(x, method, out);
        if (err != SG_OK) {
            return err;
        }
        if (*out == SG_MATCH_FOUND && req->route->overridable) {
            return sg_exchange_set_method(x, meant);
        }
    }
    return find(x, req->method, out);
}

/* A miss is not answered before the address's limit was taken: it is kept in route_err. */
enum sg_error sg_step_route(struct sg_exchange *x)
{
    struct sg_request *req = &x->req;
    req->query = x->query;
    if (x->route_err != SG_OK) {
        return SG_OK;
    }
    if (req->method == SG_OPTIONS && strcmp(x->target_path, "*") == 0) {
        static const char all[] = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
        memcpy(x->allow, all, sizeof(all));
        return SG_OK;
    }
    x->route_err = decode_path(x);
    if (x->route_err != SG_OK) {
        return SG_OK;
    }
    enum sg_route_match match;
    enum sg_error err = find_row(x, &match);
    if (err != SG_OK) {
        return err;
    }
    switch (match) {
    case SG_MATCH_FOUND:
        break;
    case SG_MATCH_METHOD:
        x->route_err = req->method == SG_OPTIONS ? SG_OK : SG_ERR_METHOD_NOT_ALLOWED;
        break;
    case SG_MATCH_NOT_FOUND:
        sg_metric_add(SG_METRIC_NOT_FOUND, 0, 1);
        x->route_err = SG_ERR_NOT_FOUND;
        break;
    }
    return SG_OK;
}

/* ---- limits ---- */

static enum sg_error take(struct sg_exchange *x, enum sg_limit_scope scope, const uint8_t id[16])
{
    struct sg_limit_verdict v;
    const struct sg_route *route = x->req.route;
    sg_ratelimit_take(x->req.svc->ratelimit, route ? route->limit : SG_LIMIT_DEFAULT, scope, id,
                      &v);
    if (!x->have_verdict || !v.allowed || v.remaining < x->verdict.remaining) {
        x->verdict = v;
        x->have_verdict = true;
    }
    return v.allowed ? SG_OK : SG_ERR_RATE_LIMITED;
}

enum sg_error sg_step_limit_address(struct sg_exchange *x)
{
    if (!x->req.route || !x->req.route->unlimited) {
        uint8_t id[16];
        sg_address_limit_id(&x->req.client, id);
        enum sg_error err = take(x, SG_SCOPE_IP, id);
        if (err != SG_OK) {
            return err;
        }
    }
    if (x->route_err != SG_OK) {
        return x->route_err;
    }
    return x->req.route ? SG_OK : answer_options(x);
}

enum sg_error sg_step_limit_user(struct sg_exchange *x)
{
    uint8_t id[16];
    if (x->req.route->unlimited || x->req.identity.user_id[0] == '\0' ||
        sg_ulid_parse(x->req.identity.user_id, id) != SG_OK) {
        return SG_OK;
    }
    return take(x, SG_SCOPE_USER, id);
}

/* ---- identity ---- */

static enum sg_error check_role(struct sg_exchange *x)
{
    struct sg_request *req = &x->req;
    if (req->identity.role >= req->route->role) {
        return SG_OK;
    }
    if (req->identity.role == SG_ROLE_NONE) {
        return sg_request_fail(req, SG_ERR_UNAUTHENTICATED, NULL,
                               "This needs an API key: Authorization: Bearer <key>");
    }
    return sg_request_fail(req, SG_ERR_FORBIDDEN, NULL, "This needs the role %s or a higher one",
                           sg_role_name(req->route->role));
}

/* UNAUTHENTICATED: the key is not one. */
static enum sg_error check_key(struct sg_exchange *x, const char *value)
{
    struct sg_request *req = &x->req;
    if (!sg_str_istarts(value, "bearer ")) {
        return sg_request_fail(req, SG_ERR_UNAUTHENTICATED, NULL,
                               "The Authorization header must be of the form Bearer <key>");
    }
    const char *token = value + 7;
    while (*token == ' ') {
        token++;
    }
    enum sg_error err = sg_identity_bearer(req->svc->identity, token, strlen(token), req->may_block,
                                           &req->identity);
    if (err == SG_ERR_WOULD_BLOCK) {
        /* An address that failed too often does not get the database read for its guesses; keys in
         * memory still work. */
        uint8_t id[16];
        sg_address_limit_id(&req->client, id);
        if (!sg_ratelimit_peek(req->svc->ratelimit, SG_LIMIT_AUTH, SG_SCOPE_IP, id)) {
            return SG_ERR_UNAUTHENTICATED; /* charging it finds the bucket empty */
        }
        return err;
    }
    if (err == SG_ERR_UNAUTHENTICATED) {
        return sg_request_fail(req, err, NULL, "The API key is unknown, revoked or expired");
    }
    return err;
}

enum sg_error sg_step_identify(struct sg_exchange *x)
{
    const char *value = x->known[KNOWN_AUTHORIZATION];
    if (!value) {
        return check_role(x);
    }
    enum sg_error err = check_key(x, value);
    if (err == SG_OK) {
        sg_metric_add(SG_METRIC_AUTH_SUCCESS, x->p->key_accepted, 1);
        return check_role(x);
    }
    if (err == SG_ERR_UNAUTHENTICATED) {
        sg_metric_add(SG_METRIC_AUTH_FAILED, x->p->key_refused, 1);
    }
    return err;
}

/* ---- size ---- */

static bool is_json_type(const char *type)
{
    static const char json[] = "application/json";
    return strcspn(type, "; \t") == sizeof(json) - 1 && sg_str_istarts(type, json);
}

static uint64_t body_bound(const struct sg_exchange *x)
{
    switch (x->req.route->body) {
    case SG_BODY_JSON:
        return sg_config_uint(x->config, SG_SET_server_max_json_bytes);
    case SG_BODY_STREAM:
        return sg_config_uint(x->config, x->req.route->max_body);
    default:
        return 0;
    }
}

/* Content that is not what it will be taken for: packed (RFC 9110 8.4), or a piece of a whole that
 * this server would take for the whole (RFC 9110 9.3.4; what curl -C sends). */
static enum sg_error check_coding(struct sg_request *req)
{
    const char *coding = sg_request_header(req, "content-encoding");
    if (coding && !sg_str_ieq(coding, "identity")) {
        enum sg_error err = sg_request_answer_header(req, "Accept-Encoding", "identity");
        return err != SG_OK ? err
                            : sg_request_fail(req, SG_ERR_UNSUPPORTED_MEDIA, "Content-Encoding",
                                              "must be identity: the content is taken as it comes");
    }
    if (sg_request_header(req, "content-range")) {
        return sg_request_fail(req, SG_ERR_INVALID, "Content-Range",
                               "must not be sent: parts of a file go by chunks or tus");
    }
    return SG_OK;
}

enum sg_error sg_step_size(struct sg_exchange *x)
{
    struct sg_request *req = &x->req;
    enum sg_error err;
    x->body_bound = body_bound(x);
    if (req->content_length > x->body_bound) {
        return sg_request_fail(req, SG_ERR_TOO_LARGE, NULL,
                               "The content must not be longer than %llu bytes",
                               (unsigned long long)x->body_bound);
    }
    if (req->route->body == SG_BODY_JSON && x->wants_body) {
        const char *type = x->known[KNOWN_CONTENT_TYPE];
        if (!type || !is_json_type(type)) {
            return sg_request_fail(req, SG_ERR_UNSUPPORTED_MEDIA, NULL,
                                   "The Content-Type must be application/json");
        }
    }
    if (x->wants_body && (err = check_coding(req)) != SG_OK) {
        return err;
    }
    bool upload = req->route->body == SG_BODY_STREAM;
    if (upload && atomic_load_explicit(&req->svc->draining, memory_order_acquire)) {
        return SG_ERR_DRAINING;
    }
    return SG_OK;
}

enum sg_error sg_step_begin_body(struct sg_exchange *x)
{
    const struct sg_route *route = x->req.route;
    return route->body == SG_BODY_STREAM && route->body_begin ? route->body_begin(&x->req) : SG_OK;
}
