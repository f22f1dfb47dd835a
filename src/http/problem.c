/* RFC 9457 problem details: the only writer of error bodies. Invariants: a body is always produced,
 * even out of memory; 5xx bodies tell nothing of the inside, but for what is the client's own to
 * mend; internal codes leave as internal-error. */
#include <jansson.h>
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/http/response.h"

#include "response_private.h"

#define TYPE_PREFIX "urn:streamgate:problem:"

static void keep(struct sg_buf *buf)
{
    (void)buf; /* static storage: the first reference is never dropped */
}

/* "about:blank" (RFC 9457 4.2.1): the status code says all there is. */
static const char minimal_body[] = "{\"type\":\"about:blank\"}\n";
static struct sg_buf minimal_problem = {
    .data = (const uint8_t *)minimal_body,
    .len = sizeof(minimal_body) - 1,
    .refs = 1,
    .release = keep,
};

bool error_is_internal(enum sg_error err)
{
    return err == SG_OK || err == SG_ERR_WOULD_BLOCK || err == SG_ERR_PENDING ||
           err == SG_ERR_CONFIG || (unsigned)err >= SG_ERROR_COUNT;
}

static bool is_text(const char *s)
{
    return s && sg_str_is_utf8(s, strlen(s));
}

/* The client's mistake, in the handler's words. */
static int add_reason(json_t *body, const struct sg_request *req)
{
    int failed = 0;
    if (is_text(req->fail_detail))
        failed |= json_object_set_new(body, "detail", json_string(req->fail_detail));
    if (is_text(req->fail_field)) {
        failed |= json_object_set_new(body, "field", json_string(req->fail_field));
        json_t *item = json_object();
        failed |= json_object_set_new(item, "field", json_string(req->fail_field));
        if (is_text(req->fail_detail))
            failed |= json_object_set_new(item, "detail", json_string(req->fail_detail));
        json_t *list = json_array();
        failed |= json_array_append_new(list, item);
        failed |= json_object_set_new(body, "errors", list);
    }
    return failed;
}

/* A quota, a full disk and a source elsewhere are no secrets of the inside. */
static bool tells_reason(const struct sg_request *req, enum sg_error err)
{
    bool open = err == SG_ERR_QUOTA || err == SG_ERR_NO_SPACE || err == SG_ERR_FETCH;
    return sg_error_status(err) < 500 || (open && req->fail_detail != NULL);
}

static json_t *problem_body(const struct sg_request *req, enum sg_error err)
{
    const unsigned status = sg_error_status(err);
    json_t *body = json_object();
    int failed =
        json_object_set_new(body, "type", json_sprintf("%s%s", TYPE_PREFIX, sg_error_slug(err)));
    failed |= json_object_set_new(body, "title", json_string(sg_error_title(err)));
    failed |= json_object_set_new(body, "status", json_integer((json_int_t)status));
    if (tells_reason(req, err))
        failed |= add_reason(body, req);
    else
        failed |= json_object_set_new(
            body, "detail",
            json_string("The request was not completed; its request_id stands in the log."));
    if (is_text(req->id) && req->id[0] != '\0')
        failed |= json_object_set_new(body, "request_id", json_string(req->id));
    if (failed) {
        json_decref(body);
        return NULL;
    }
    return body;
}

void sg_response_problem(struct sg_request *req, struct sg_response *res, enum sg_error err)
{
    if (error_is_internal(err))
        err = SG_ERR_INTERNAL;
    sg_response_clear(res);
    const unsigned status = sg_error_status(err);
    if (sg_response_json(res, status, problem_body(req, err)) != SG_OK)
        sg_response_buf(res, status, NULL, sg_buf_ref(&minimal_problem));
    res->content_type = "application/problem+json";
    if (err == SG_ERR_UNAUTHENTICATED &&
        response_static_header(res, "WWW-Authenticate", "Bearer realm=\"streamgate\"") != SG_OK)
        res->n_headers = 0; /* cannot be: the table was just emptied */
}
