/* Conditional requests, RFC 9110 section 13, evaluated in the order of 13.2.2. Malformed validators
 * never match, which is the safe side for both: the whole content for reads, 412 for changes. */
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/http/response.h"

#include "response_private.h"

static bool is_ows(char c)
{
    return c == ' ' || c == '\t';
}

static bool is_etag_char(unsigned char c)
{
    return c == 0x21 || (c >= 0x23 && c != 0x7f);
}

/* One list of entity tags (RFC 9110 8.8.3) or "*". etag: ours, strong and quoted; NULL matches
 * nothing but "*" of an existing representation, which the caller vouches for. */
static bool list_matches(const char *list, const char *etag, bool weak_comparison)
{
    const size_t etag_len = etag ? strlen(etag) : 0;
    const char *p = list;
    while (is_ows(*p))
        p++;
    if (*p == '*') {
        for (p++; is_ows(*p);)
            p++;
        return *p == '\0';
    }
    bool matched = false;
    for (;;) {
        while (is_ows(*p) || *p == ',')
            p++;
        if (*p == '\0')
            return matched;
        const bool weak = p[0] == 'W' && p[1] == '/';
        if (weak)
            p += 2;
        const char *tag = p;
        if (*p != '"')
            return false;
        for (p++; is_etag_char((unsigned char)*p);)
            p++;
        if (*p != '"')
            return false;
        p++;
        const size_t len = (size_t)(p - tag);
        if ((!weak || weak_comparison) && len == etag_len && memcmp(tag, etag, len) == 0)
            matched = true;
        while (is_ows(*p))
            p++;
        if (*p != ',' && *p != '\0')
            return false;
    }
}

enum tags_verdict { TAGS_ABSENT, TAGS_MATCH, TAGS_NO_MATCH };

/* A list field may come in several lines (RFC 9110 5.3); any of them may match. */
static enum tags_verdict tags_check(const struct sg_request *req, const char *name,
                                    const char *etag, bool weak_comparison)
{
    enum tags_verdict verdict = TAGS_ABSENT;
    const unsigned char first = (unsigned char)(name[0] | 0x20);
    for (unsigned i = 0; i < req->n_headers && verdict != TAGS_MATCH; i++) {
        const struct sg_header *h = &req->headers[i];
        if ((unsigned char)(h->name[0] | 0x20) != first || !sg_str_ieq(h->name, name))
            continue;
        verdict = list_matches(h->value, etag, weak_comparison) ? TAGS_MATCH : TAGS_NO_MATCH;
    }
    return verdict;
}

/* false when the header is absent, malformed, or there is nothing to compare it with: then it is
 * ignored (13.1.3, 13.1.4). */
static bool modified_since(const struct sg_request *req, const char *name,
                           uint64_t last_modified_ms, bool *modified)
{
    const char *value = sg_request_header(req, name);
    uint64_t since_ms;
    if (!value || last_modified_ms == 0 || sg_time_parse_http_date(value, &since_ms) != SG_OK)
        return false;
    *modified = last_modified_ms / 1000 > since_ms / 1000;
    return true;
}

static void turn_not_modified(struct sg_response *res)
{
    response_drop_body(res);
    res->status = 304;
    res->ranges = false;
}

static void turn_failed(struct sg_request *req, struct sg_response *res)
{
    (void)sg_request_fail(req, SG_ERR_PRECONDITION_FAILED, NULL,
                          "the resource is not in the state the condition asks for");
    sg_response_problem(req, res, SG_ERR_PRECONDITION_FAILED);
}

void sg_conditional_apply(struct sg_request *req, struct sg_response *res)
{
    if (res->status != 200 || (req->method != SG_GET && req->method != SG_HEAD))
        return;
    bool modified;
    switch (tags_check(req, "If-Match", res->etag, false)) {
    case TAGS_NO_MATCH:
        turn_failed(req, res);
        return;
    case TAGS_ABSENT:
        if (modified_since(req, "If-Unmodified-Since", res->last_modified_ms, &modified) &&
            modified) {
            turn_failed(req, res);
            return;
        }
        break;
    case TAGS_MATCH:
        break;
    }
    switch (tags_check(req, "If-None-Match", res->etag, true)) {
    case TAGS_MATCH:
        turn_not_modified(res);
        return;
    case TAGS_NO_MATCH:
        return;
    case TAGS_ABSENT:
        break;
    }
    if (modified_since(req, "If-Modified-Since", res->last_modified_ms, &modified) && !modified)
        turn_not_modified(res);
}

enum sg_error sg_conditional_if_match(struct sg_request *req, const char *etag)
{
    if (tags_check(req, "If-Match", etag, false) != TAGS_NO_MATCH)
        return SG_OK;
    return sg_request_fail(req, SG_ERR_PRECONDITION_FAILED, NULL,
                           "the resource has changed: its ETag is not among those of If-Match");
}

bool sg_conditional_has_tags(const struct sg_request *req)
{
    return tags_check(req, "If-Match", NULL, false) == TAGS_NO_MATCH;
}
