/* What handlers read from a request: headers, path and query parameters, the JSON body, the URL
 * base; and how they say why something failed. Looking up a header is on the hot path of every
 * segment, so it costs a byte compare a header. */
#include "streamgate/http/request.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>

#include "streamgate/base/json.h"
#include "streamgate/base/str.h"
#include "streamgate/http/digest_field.h"

#define HOST_MAX 255

static const char *const method_names[SG_METHOD_COUNT] = {
    [SG_GET] = "GET",     [SG_HEAD] = "HEAD",     [SG_POST] = "POST",       [SG_PUT] = "PUT",
    [SG_PATCH] = "PATCH", [SG_DELETE] = "DELETE", [SG_OPTIONS] = "OPTIONS",
};

/* Written at the start of a server; atomic, as in tests one follows another while a thread of the
 * first may still wake. */
static void (*_Atomic wake_hook)(struct sg_request *req);

const char *sg_method_name(enum sg_method m)
{
    return (unsigned)m < SG_METHOD_COUNT ? method_names[m] : "UNKNOWN";
}

enum sg_error sg_method_parse(const char *s, enum sg_method *out)
{
    for (unsigned m = 0; m < SG_METHOD_COUNT; m++) {
        if (strcmp(s, method_names[m]) == 0) {
            *out = (enum sg_method)m;
            return SG_OK;
        }
    }
    return SG_ERR_NOT_IMPLEMENTED;
}

const char *sg_request_header(const struct sg_request *req, const char *name)
{
    /* Setting bit 5 folds the case of letters; what it confuses besides, the full comparison tells
     * apart. */
    const unsigned char first = (unsigned char)(name[0] | 0x20);
    for (unsigned i = 0; i < req->n_headers; i++) {
        const char *candidate = req->headers[i].name;
        if ((unsigned char)(candidate[0] | 0x20) == first && sg_str_ieq(candidate, name))
            return req->headers[i].value;
    }
    return NULL;
}

enum sg_error sg_request_header_list(struct sg_request *req, const char *name, const char **out)
{
    const char *all = NULL;
    for (unsigned i = 0; i < req->n_headers; i++) {
        if (!sg_str_ieq(req->headers[i].name, name))
            continue;
        const char *value = req->headers[i].value;
        all = all ? sg_arena_printf(req->arena, "%s, %s", all, value) : value;
        if (!all)
            return SG_ERR_NO_MEMORY;
    }
    *out = all;
    return SG_OK;
}

enum sg_error sg_request_content_digest(struct sg_request *req, bool *present,
                                        uint8_t sha256[SG_SHA256_LEN])
{
    const char *value;
    enum sg_error err = sg_request_header_list(req, "content-digest", &value);
    if (err == SG_OK)
        err = sg_content_digest_parse(value, present, sha256);
    if (err == SG_ERR_INVALID)
        return sg_request_fail(req, err, "Content-Digest",
                               "must be an RFC 9530 dictionary such as sha-256=:<base64>:");
    return err;
}

const char *sg_request_param(const struct sg_request *req, const char *name)
{
    for (unsigned i = 0; i < req->n_params; i++) {
        if (strcmp(req->params[i].name, name) == 0)
            return req->params[i].value;
    }
    return NULL;
}

/* application/x-www-form-urlencoded, as browsers and curl --data-urlencode write queries: '+' is a
 * space. */
static enum sg_error decode_component(struct sg_arena *arena, const char *s, size_t len,
                                      const char **out)
{
    char *copy = sg_arena_strndup(arena, s, len);
    if (!copy)
        return SG_ERR_NO_MEMORY;
    for (size_t i = 0; i < len; i++) {
        if (copy[i] == '+')
            copy[i] = ' ';
    }
    size_t decoded;
    enum sg_error err = sg_percent_decode(copy, len, false, &decoded);
    if (err != SG_OK)
        return err;
    copy[decoded] = '\0';
    if (!sg_str_is_utf8(copy, decoded))
        return SG_ERR_INVALID;
    *out = copy;
    return SG_OK;
}

/* Whether the raw key of a pair names `name`. Most keys carry no escape and are compared in place.
 */
static enum sg_error key_matches(struct sg_request *req, const char *key, size_t len,
                                 const char *name, bool *out)
{
    if (!memchr(key, '%', len) && !memchr(key, '+', len)) {
        *out = strlen(name) == len && memcmp(key, name, len) == 0;
        return SG_OK;
    }
    const char *decoded;
    enum sg_error err = decode_component(req->arena, key, len, &decoded);
    if (err == SG_OK)
        *out = strcmp(decoded, name) == 0;
    return err;
}

static enum sg_error query_error(struct sg_request *req, enum sg_error err, const char *name)
{
    if (err != SG_ERR_INVALID)
        return err;
    return sg_request_fail(req, err, name,
                           "the query must be percent-encoded UTF-8 without NUL characters");
}

enum sg_error sg_request_query(struct sg_request *req, const char *name, const char **out)
{
    const char *found = NULL;
    const char *p = req->query ? req->query : "";
    while (*p != '\0') {
        const size_t pair_len = strcspn(p, "&");
        const char *eq = memchr(p, '=', pair_len);
        const size_t key_len = eq ? (size_t)(eq - p) : pair_len;
        bool match = false;
        enum sg_error err = key_matches(req, p, key_len, name, &match);
        if (err == SG_OK && match) {
            if (found)
                return sg_request_fail(req, SG_ERR_INVALID, name, "must be given only once");
            const char *value = eq ? eq + 1 : p + pair_len;
            err = decode_component(req->arena, value, (size_t)(p + pair_len - value), &found);
        }
        if (err != SG_OK)
            return query_error(req, err, name);
        p += pair_len;
        if (*p == '&')
            p++;
    }
    *out = found;
    return SG_OK;
}

enum sg_error sg_request_query_u64(struct sg_request *req, const char *name, uint64_t min,
                                   uint64_t max, uint64_t absent, uint64_t *out)
{
    const char *text;
    enum sg_error err = sg_request_query(req, name, &text);
    if (err != SG_OK)
        return err;
    uint64_t value = absent;
    if (text && (sg_str_to_u64(text, strlen(text), max, &value) != SG_OK || value < min))
        return sg_request_fail(req, SG_ERR_INVALID, name, "must be an integer from %llu to %llu",
                               (unsigned long long)min, (unsigned long long)max);
    *out = value;
    return SG_OK;
}

enum sg_error sg_request_fail(struct sg_request *req, enum sg_error err, const char *field,
                              const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    req->fail_detail = sg_arena_vprintf(req->arena, fmt, args);
    va_end(args);
    req->fail_field = field ? sg_arena_strdup(req->arena, field) : NULL;
    return err;
}

enum sg_error sg_request_answer_header(struct sg_request *req, const char *name, const char *fmt,
                                       ...)
{
    va_list args;
    va_start(args, fmt);
    const char *value = sg_arena_vprintf(req->arena, fmt, args);
    va_end(args);
    if (!value || req->n_answer_headers == SG_ANSWER_HEADERS_MAX)
        return SG_ERR_NO_MEMORY;
    req->answer_headers[req->n_answer_headers++] = (struct sg_header){name, value};
    return SG_OK;
}

enum sg_error sg_request_json(struct sg_request *req, bool allow_empty, json_t **out)
{
    if (!req->body || req->body_len == 0) {
        if (!allow_empty)
            return sg_request_fail(req, SG_ERR_INVALID, NULL, "a JSON object is required as body");
        json_t *empty = json_object();
        if (!empty)
            return SG_ERR_NO_MEMORY;
        *out = empty;
        return SG_OK;
    }
    json_t *value;
    char why[128] = "";
    enum sg_error err = sg_json_parse(req->body, req->body_len, &value, why);
    if (err == SG_ERR_INVALID)
        return sg_request_fail(req, err, NULL, "the body must be strict JSON; there is %s", why);
    if (err != SG_OK)
        return err;
    if (!json_is_object(value)) {
        json_decref(value);
        return sg_request_fail(req, SG_ERR_INVALID, NULL, "the body must be a JSON object");
    }
    *out = value;
    return SG_OK;
}

enum sg_error sg_request_only(struct sg_request *req, const json_t *body, const char *const *names)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)body, name, value)
    {
        size_t i = 0;
        while (names[i] && strcmp(names[i], name) != 0)
            i++;
        if (!names[i])
            return sg_request_fail(req, SG_ERR_INVALID, name, "is not a member of the body");
    }
    return SG_OK;
}

static bool port_is_valid(const char *s, size_t len)
{
    uint64_t port;
    return len <= 5 && sg_str_to_u64(s, len, UINT16_MAX, &port) == SG_OK && port > 0;
}

static bool is_host_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_';
}

/* RFC 9110 7.2 "uri-host [: port]", narrowed to names and addresses as they occur: what is accepted
 * is echoed into URLs. */
static bool host_is_valid(const char *s, size_t len)
{
    if (len == 0 || len > HOST_MAX)
        return false;
    size_t host_len;
    if (s[0] == '[') {
        const char *close = memchr(s, ']', len);
        struct sg_address address;
        if (!close)
            return false;
        host_len = (size_t)(close - s) + 1;
        if (!memchr(s, ':', host_len) || sg_address_parse(s, host_len, &address) != SG_OK)
            return false;
    } else {
        for (host_len = 0; host_len < len && is_host_char(s[host_len]);)
            host_len++;
        if (host_len == 0)
            return false;
    }
    if (host_len == len)
        return true;
    return s[host_len] == ':' && port_is_valid(s + host_len + 1, len - host_len - 1);
}

/* The last element of a list: the one the nearest proxy added, so the only one a client cannot
 * choose. */
static const char *last_element(const char *list, size_t *len)
{
    const char *comma = strrchr(list, ',');
    const char *s = comma ? comma + 1 : list;
    while (*s == ' ' || *s == '\t')
        s++;
    size_t n = strlen(s);
    while (n > 0 && (s[n - 1] == ' ' || s[n - 1] == '\t'))
        n--;
    *len = n;
    return s;
}

/* Of several lines the last: the nearest proxy's. */
static const char *last_line(const struct sg_request *req, const char *name)
{
    for (unsigned i = req->n_headers; i-- > 0;)
        if (sg_str_ieq(req->headers[i].name, name))
            return req->headers[i].value;
    return NULL;
}

const char *sg_request_base_url(struct sg_request *req)
{
    const struct sg_config *config = sg_services_config(req->svc);
    const char *public_url = sg_config_string(config, SG_SET_server_public_url);
    size_t len = strlen(public_url);
    if (len > 0) {
        while (len > 0 && public_url[len - 1] == '/')
            len--;
        return sg_arena_strndup(req->arena, public_url, len);
    }
    const struct sg_cidr_list *trusted =
        atomic_load_explicit(&req->svc->trusted_proxies, memory_order_acquire);
    const char *host = NULL;
    const char *forwarded = last_line(req, "X-Forwarded-Host");
    if (forwarded && sg_cidr_list_contains(trusted, &req->peer)) {
        host = last_element(forwarded, &len);
        if (!host_is_valid(host, len))
            host = NULL;
    }
    if (!host) {
        host = sg_request_header(req, "Host");
        len = host ? strlen(host) : 0;
        if (!host || !host_is_valid(host, len)) {
            host = sg_config_string(config, SG_SET_server_listen);
            len = strlen(host);
        }
    }
    return sg_arena_printf(req->arena, "%s://%.*s", req->secure ? "https" : "http", (int)len, host);
}

void sg_request_wake(void *arg, enum sg_error err, struct sg_buf *buf)
{
    struct sg_request *req = arg;
    sg_buf_unref(
        req->wake_buf); /* left over when a handler waits twice and did not take the first */
    req->wake_err = err;
    req->wake_buf = buf;
    req->woken = true;
    void (*hook)(struct sg_request * req) = atomic_load_explicit(&wake_hook, memory_order_acquire);
    if (hook)
        hook(req);
}

void sg_request_set_wake_hook(void (*hook)(struct sg_request *req))
{
    atomic_store_explicit(&wake_hook, hook, memory_order_release);
}
