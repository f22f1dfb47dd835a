/* Bodies and their ownership, headers, and problem details for every error there is. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "streamgate/base/str.h"

#include "http_support.h"

static void test_header_rules(void **state)
{
    struct http_fixture *f = *state;
    static const struct {
        const char *name, *value;
        enum sg_error err;
    } table[] = {
        {"X-A", "1", SG_OK},
        {"X-A", "a\tb", SG_OK},
        {"X-A", "\xc3\xa4", SG_OK},
        {"X-A", "", SG_ERR_INVALID},
        {"X-A", "a\rb", SG_ERR_INVALID},
        {"X-A", "a\nX-B: 1", SG_ERR_INVALID},
        {"X-A", "a\x7f", SG_ERR_INVALID},
        {"", "1", SG_ERR_INVALID},
        {"X A", "1", SG_ERR_INVALID},
        {"X:A", "1", SG_ERR_INVALID},
        {"X\r\nA", "1", SG_ERR_INVALID},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(table); i++) {
        const unsigned before = f->res.n_headers;
        assert_int_equal(sg_response_header(&f->req, &f->res, table[i].name, table[i].value),
                         table[i].err);
        assert_int_equal(sg_response_headerf(&f->req, &f->res, table[i].name, "%s", table[i].value),
                         table[i].err);
        assert_int_equal(f->res.n_headers - before, table[i].err == SG_OK ? 2 : 0);
    }
    while (f->res.n_headers < SG_RESPONSE_HEADERS_MAX)
        assert_int_equal(sg_response_header(&f->req, &f->res, "X-A", "1"), SG_OK);
    assert_int_equal(sg_response_header(&f->req, &f->res, "X-A", "1"), SG_ERR_NO_MEMORY);
}

static void test_header_copies(void **state)
{
    struct http_fixture *f = *state;
    char name[] = "X-Name", value[] = "value";
    assert_int_equal(sg_response_header(&f->req, &f->res, name, value), SG_OK);
    memset(name, 'z', 6);
    memset(value, 'z', 5);
    assert_string_equal(fixture_answer(f, "x-name"), "value");
}

static void test_json_body(void **state)
{
    struct http_fixture *f = *state;
    assert_int_equal(sg_response_json(&f->res, 201, json_pack("{s:i, s:s}", "b", 1, "a", "x")),
                     SG_OK);
    assert_int_equal(f->res.status, 201);
    assert_string_equal(f->res.content_type, "application/json");
    static const char expected[] = "{\"b\":1,\"a\":\"x\"}\n";
    assert_int_equal(f->res.len, sizeof(expected) - 1);
    assert_memory_equal(f->res.buf->data, expected, sizeof(expected) - 1);
    assert_int_equal(sg_response_json(&f->res, 200, NULL), SG_ERR_NO_MEMORY);
    assert_int_equal(f->res.status, 201);
}

/* A later body drops the earlier one; the leak checker and the descriptor tell. */
static void test_ownership(void **state)
{
    struct http_fixture *f = *state;
    assert_int_equal(sg_response_text(&f->res, 200, "text/plain", "hello"), SG_OK);
    const int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    sg_response_file(&f->res, 200, "video/mp4", fd, 1234);
    assert_null(f->res.buf);
    assert_int_equal(f->res.len, 1234);
    assert_int_equal(f->res.source, SG_SOURCE_FILE);
    sg_response_empty(&f->res, 204);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    assert_int_equal(f->res.fd, -1);
    assert_int_equal(f->res.source, SG_SOURCE_NONE);
    assert_int_equal(f->res.status, 204);
    assert_null(f->res.content_type);
    sg_response_clear(&f->res);
    assert_int_equal(f->res.status, 0);
    sg_response_clear(&f->res); /* twice is fine */
}

static const char *text_of(const json_t *body, const char *key)
{
    return json_string_value(json_object_get(body, key));
}

static void check_problem(struct http_fixture *f, enum sg_error given, enum sg_error shown)
{
    fixture_reset(f);
    assert_int_equal(sg_response_text(&f->res, 200, "text/plain", "half an answer"), SG_OK);
    assert_int_equal(sg_request_fail(&f->req, given, "title", "must be %d characters", 5), given);
    sg_response_problem(&f->req, &f->res, given);
    const unsigned status = sg_error_status(shown);
    assert_int_equal(f->res.status, status);
    assert_string_equal(f->res.content_type, "application/problem+json");
    json_t *body = fixture_body(f);
    char type[128];
    snprintf(type, sizeof(type), "urn:streamgate:problem:%s", sg_error_slug(shown));
    assert_string_equal(text_of(body, "type"), type);
    assert_string_equal(text_of(body, "title"), sg_error_title(shown));
    assert_int_equal(json_integer_value(json_object_get(body, "status")), status);
    assert_string_equal(text_of(body, "request_id"), "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    /* What the client can mend it is told. */
    bool told = shown == SG_ERR_QUOTA || shown == SG_ERR_NO_SPACE || shown == SG_ERR_FETCH;
    if (status >= 500 && !told) {
        assert_null(strstr(text_of(body, "detail"), "characters"));
        assert_null(json_object_get(body, "field"));
        assert_null(json_object_get(body, "errors"));
    } else {
        assert_string_equal(text_of(body, "detail"), "must be 5 characters");
        assert_string_equal(text_of(body, "field"), "title");
        const json_t *first = json_array_get(json_object_get(body, "errors"), 0);
        assert_string_equal(text_of(first, "field"), "title");
        assert_string_equal(text_of(first, "detail"), "must be 5 characters");
    }
    json_decref(body);
    const char *challenge = fixture_answer(f, "WWW-Authenticate");
    assert_int_equal(challenge != NULL, status == 401);
    if (challenge)
        assert_string_equal(challenge, "Bearer realm=\"streamgate\"");
}

static void test_problems(void **state)
{
    struct http_fixture *f = *state;
    for (int e = SG_OK + 1; e < SG_ERROR_COUNT; e++) {
        const enum sg_error err = (enum sg_error)e;
        const bool internal =
            err == SG_ERR_WOULD_BLOCK || err == SG_ERR_PENDING || err == SG_ERR_CONFIG;
        check_problem(f, err, internal ? SG_ERR_INTERNAL : err);
    }
    check_problem(f, SG_OK, SG_ERR_INTERNAL);
    check_problem(f, SG_ERROR_COUNT, SG_ERR_INTERNAL);
}

static void test_problem_without_reason(void **state)
{
    struct http_fixture *f = *state;
    sg_response_problem(&f->req, &f->res, SG_ERR_NOT_FOUND);
    json_t *body = fixture_body(f);
    assert_null(json_object_get(body, "detail"));
    assert_null(json_object_get(body, "errors"));
    json_decref(body);
    /* What is no UTF-8 cannot be shown, but the answer stands. */
    assert_int_equal(sg_request_fail(&f->req, SG_ERR_INVALID, "a", "bad \xff"), SG_ERR_INVALID);
    sg_response_problem(&f->req, &f->res, SG_ERR_INVALID);
    body = fixture_body(f);
    assert_null(json_object_get(body, "detail"));
    assert_string_equal(text_of(body, "field"), "a");
    json_decref(body);
}

static size_t allocations_left;

static void *counted_malloc(size_t size)
{
    if (allocations_left == 0)
        return NULL;
    allocations_left--;
    return malloc(size);
}

/* However few allocations succeed, there is an answer of the right status. */
static void test_problem_out_of_memory(void **state)
{
    struct http_fixture *f = *state;
    bool minimal = false, full = false;
    json_set_alloc_funcs(counted_malloc, free);
    for (size_t n = 0; n < 200 && !full; n++) {
        fixture_reset(f);
        (void)sg_request_fail(&f->req, SG_ERR_CONFLICT, "a", "b");
        allocations_left = n;
        sg_response_problem(&f->req, &f->res, SG_ERR_CONFLICT);
        assert_int_equal(f->res.status, 409);
        assert_string_equal(f->res.content_type, "application/problem+json");
        if (f->res.len == strlen("{\"type\":\"about:blank\"}\n"))
            minimal = true;
        else
            full = true;
    }
    json_set_alloc_funcs(malloc, free);
    assert_true(minimal);
    assert_true(full);
}

static int setup(void **state)
{
    static struct http_fixture f;
    fixture_open(&f, NULL);
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    fixture_close(*state);
    return 0;
}

#define WITH_FIXTURE(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(test_header_rules),
        WITH_FIXTURE(test_header_copies),
        WITH_FIXTURE(test_json_body),
        WITH_FIXTURE(test_ownership),
        WITH_FIXTURE(test_problems),
        WITH_FIXTURE(test_problem_without_reason),
        WITH_FIXTURE(test_problem_out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
