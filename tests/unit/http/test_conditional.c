/* If-Match, If-None-Match and the dates, RFC 9110 13. */
#include "http_support.h"

#define ETAG "\"v1\""
#define MODIFIED_MS UINT64_C(784111777500) /* Sun, 06 Nov 1994 08:49:37.5 GMT */

struct condition {
    const char *name, *value;
};
struct condition_case {
    struct condition given[2];
    unsigned status;
};

static const struct condition_case cases[] = {
    {{{NULL, NULL}}, 200},
    {{{"If-None-Match", "\"v1\""}}, 304},
    {{{"If-None-Match", "W/\"v1\""}}, 304},
    {{{"If-None-Match", "\"v2\""}}, 200},
    {{{"If-None-Match", "\"v2\", \"v1\""}}, 304},
    {{{"If-None-Match", "\"a,\", W/\"b\" ,\t\"v1\""}}, 304},
    {{{"If-None-Match", ",\"v1\","}}, 304},
    {{{"If-None-Match", "*"}}, 304},
    {{{"If-None-Match", " * "}}, 304},
    {{{"If-None-Match", "*x"}}, 200},
    {{{"If-None-Match", "v1"}}, 200},
    {{{"If-None-Match", "\"v1"}}, 200},
    {{{"If-None-Match", "w/\"v1\""}}, 200},
    {{{"If-None-Match", "\"v1\" \"v1\""}}, 200},
    {{{"If-None-Match", ""}}, 200},
    {{{"If-None-Match", "\"v2\""}, {"if-none-match", "\"v1\""}}, 304},
    {{{"If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"}}, 304},
    {{{"If-Modified-Since", "Sun, 06 Nov 1994 08:49:38 GMT"}}, 304},
    {{{"If-Modified-Since", "Sun, 06 Nov 1994 08:49:36 GMT"}}, 200},
    {{{"If-Modified-Since", "never"}}, 200},
    {{{"If-None-Match", "\"v2\""}, {"If-Modified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"}}, 200},
    {{{"If-Match", "\"v1\""}}, 200},
    {{{"If-Match", "*"}}, 200},
    {{{"If-Match", "W/\"v1\""}}, 412},
    {{{"If-Match", "\"v2\""}}, 412},
    {{{"If-Match", "junk"}}, 412},
    {{{"If-Match", "\"v1\""}, {"If-None-Match", "\"v1\""}}, 304},
    {{{"If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:36 GMT"}}, 412},
    {{{"If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:37 GMT"}}, 200},
    {{{"If-Match", "\"v1\""}, {"If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:36 GMT"}}, 200},
};

static void serve(struct http_fixture *f)
{
    fixture_reset(f);
    assert_int_equal(sg_response_text(&f->res, 200, "text/plain", "hello"), SG_OK);
    f->res.etag = ETAG;
    f->res.last_modified_ms = MODIFIED_MS;
    f->res.cache_control = "private, no-cache";
    f->res.ranges = true;
}

static void test_apply(void **state)
{
    struct http_fixture *f = *state;
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++) {
        for (unsigned head = 0; head < 2; head++) {
            serve(f);
            f->req.method = head ? SG_HEAD : SG_GET;
            for (size_t k = 0; k < 2 && cases[i].given[k].name; k++)
                fixture_header(f, cases[i].given[k].name, cases[i].given[k].value);
            sg_conditional_apply(&f->req, &f->res);
            if (f->res.status != cases[i].status)
                print_error("case %zu: %s: %s\n", i, cases[i].given[0].name,
                            cases[i].given[0].value);
            assert_int_equal(f->res.status, cases[i].status);
        }
    }
}

static void test_not_modified_keeps_validators(void **state)
{
    struct http_fixture *f = *state;
    serve(f);
    assert_int_equal(sg_response_header(&f->req, &f->res, "Vary", "Origin"), SG_OK);
    fixture_header(f, "If-None-Match", ETAG);
    sg_conditional_apply(&f->req, &f->res);
    assert_int_equal(f->res.status, 304);
    assert_int_equal(f->res.source, SG_SOURCE_NONE);
    assert_null(f->res.buf);
    assert_null(f->res.content_type);
    assert_string_equal(f->res.etag, ETAG);
    assert_string_equal(f->res.cache_control, "private, no-cache");
    assert_string_equal(fixture_answer(f, "vary"), "Origin");
}

static void test_only_reads_of_200(void **state)
{
    struct http_fixture *f = *state;
    serve(f);
    f->req.method = SG_POST;
    fixture_header(f, "If-None-Match", "*");
    sg_conditional_apply(&f->req, &f->res);
    assert_int_equal(f->res.status, 200);
    serve(f);
    f->res.status = 404;
    fixture_header(f, "If-None-Match", "*");
    sg_conditional_apply(&f->req, &f->res);
    assert_int_equal(f->res.status, 404);
}

static void test_if_match(void **state)
{
    static const struct {
        const char *value;
        enum sg_error err;
        bool holds_to_version;
    } table[] = {
        {NULL, SG_OK, false},
        {"\"v1\"", SG_OK, true},
        {"\"v0\",\"v1\"", SG_OK, true},
        {"\"\",\"v1\"", SG_OK, true},
        {"*", SG_OK, false},
        {" * ", SG_OK, false},
        {"\"v0\"", SG_ERR_PRECONDITION_FAILED, true},
        {"W/\"v1\"", SG_ERR_PRECONDITION_FAILED, true},
        {"v1", SG_ERR_PRECONDITION_FAILED, true},
        {"", SG_ERR_PRECONDITION_FAILED, true},
    };
    struct http_fixture *f = *state;
    for (size_t i = 0; i < SG_ARRAY_LEN(table); i++) {
        fixture_reset(f);
        if (table[i].value)
            fixture_header(f, "if-match", table[i].value);
        assert_int_equal(sg_conditional_if_match(&f->req, ETAG), table[i].err);
        assert_int_equal(f->req.fail_detail != NULL, table[i].err != SG_OK);
        assert_int_equal(sg_conditional_has_tags(&f->req), table[i].holds_to_version);
    }
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apply),
        cmocka_unit_test(test_not_modified_keeps_validators),
        cmocka_unit_test(test_only_reads_of_200),
        cmocka_unit_test(test_if_match),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
