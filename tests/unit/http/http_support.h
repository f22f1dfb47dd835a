/* A request with an arena, services and configuration of its own, for tests of the http floor. */
#ifndef STREAMGATE_TESTS_HTTP_SUPPORT_H
#define STREAMGATE_TESTS_HTTP_SUPPORT_H

#include "streamgate/http/request.h"
#include "streamgate/http/response.h"

#include "support/unit.h"

struct http_fixture {
    struct sg_services svc;
    struct sg_request req;
    struct sg_response res;
};

/* overrides: NULL-terminated "section.key=value" list, or NULL. */
void fixture_open(struct http_fixture *f, const char *const *overrides);
void fixture_close(struct http_fixture *f);
void fixture_header(struct http_fixture *f, const char *name, const char *value);
/* Forgets request headers and the failure, clears the response. */
void fixture_reset(struct http_fixture *f);
/* Value of a response header or NULL. */
const char *fixture_answer(const struct http_fixture *f, const char *name);
/* The response's body as JSON; the caller owns it. */
json_t *fixture_body(const struct http_fixture *f);

#endif
