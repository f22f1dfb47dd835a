/* Headers, queries, bodies, the URL base, the wake. */
#include <stdio.h>

#include "http_support.h"

static void test_methods(void **state)
{
    (void)state;
    for (unsigned m = 0; m < SG_METHOD_COUNT; m++) {
        enum sg_method out = SG_METHOD_COUNT;
        assert_int_equal(sg_method_parse(sg_method_name((enum sg_method)m), &out), SG_OK);
        assert_int_equal(out, m);
    }
    static const char *const unknown[] = {"", "get", "GETX", "TRACE", "CONNECT", "GET "};
    for (size_t i = 0; i < SG_ARRAY_LEN(unknown); i++) {
        enum sg_method out = SG_PUT;
        assert_int_equal(sg_method_parse(unknown[i], &out), SG_ERR_NOT_IMPLEMENTED);
        assert_int_equal(out, SG_PUT);
    }
}

static void test_headers(void **state)
{
    struct http_fixture *f = *state;
    fixture_header(f, "Host", "a");
    fixture_header(f, "content-TYPE", "b");
    fixture_header(f, "Content-Length", "c");
    fixture_header(f, "X-Two", "1");
    fixture_header(f, "x-two", "2");
    assert_string_equal(sg_request_header(&f->req, "host"), "a");
    assert_string_equal(sg_request_header(&f->req, "Content-Type"), "b");
    assert_string_equal(sg_request_header(&f->req, "X-TWO"), "1");
    assert_null(sg_request_header(&f->req, "Content"));
    assert_null(sg_request_header(&f->req, "Hosts"));
    assert_null(sg_request_header(&f->req, "H"));
}

static void test_params(void **state)
{
    struct http_fixture *f = *state;
    f->req.params[0] = (struct sg_path_param){"id", "x"};
    f->req.n_params = 1;
    assert_string_equal(sg_request_param(&f->req, "id"), "x");
    assert_null(sg_request_param(&f->req, "i"));
    f->req.n_params = 0;
    assert_null(sg_request_param(&f->req, "id"));
}

static const struct {
    const char *query, *name;
    enum sg_error err;
    const char *value;
} queries[] = {
    {"", "a", SG_OK, NULL},
    {"a=1", "a", SG_OK, "1"},
    {"a=1", "b", SG_OK, NULL},
    {"ab=1", "a", SG_OK, NULL},
    {"a", "a", SG_OK, ""},
    {"a=", "a", SG_OK, ""},
    {"b=2&a=1", "a", SG_OK, "1"},
    {"&&a=1&", "a", SG_OK, "1"},
    {"a=x=y", "a", SG_OK, "x=y"},
    {"a=%c3%a4+%2B%26", "a", SG_OK, "\xc3\xa4 +&"},
    {"%61=1", "a", SG_OK, "1"},
    {"a+b=1", "a b", SG_OK, "1"},
    {"a=/?;:@", "a", SG_OK, "/?;:@"},
    {"a=1&a=2", "a", SG_ERR_INVALID, NULL},
    {"a=1&%61=2", "a", SG_ERR_INVALID, NULL},
    {"a=1&a=2", "b", SG_OK, NULL},
    {"a=%", "a", SG_ERR_INVALID, NULL},
    {"a=%4", "a", SG_ERR_INVALID, NULL},
    {"a=%4g", "a", SG_ERR_INVALID, NULL},
    {"a=%00", "a", SG_ERR_INVALID, NULL},
    {"a=%ff", "a", SG_ERR_INVALID, NULL},
    {"a=%c0%80", "a", SG_ERR_INVALID, NULL},
    {"%zz=1", "a", SG_ERR_INVALID, NULL},
    {"b=%zz", "a", SG_OK, NULL},
};

static void test_query(void **state)
{
    struct http_fixture *f = *state;
    for (size_t i = 0; i < SG_ARRAY_LEN(queries); i++) {
        static const char untouched[] = "untouched";
        const char *out = untouched;
        f->req.query = queries[i].query;
        f->req.fail_detail = NULL;
        assert_int_equal(sg_request_query(&f->req, queries[i].name, &out), queries[i].err);
        if (queries[i].err != SG_OK) {
            assert_ptr_equal(out, untouched);
            assert_non_null(f->req.fail_detail);
            assert_string_equal(f->req.fail_field, queries[i].name);
        } else if (queries[i].value) {
            assert_string_equal(out, queries[i].value);
        } else {
            assert_null(out);
        }
    }
}

static void test_query_u64(void **state)
{
    static const struct {
        const char *query;
        uint64_t min, max;
        enum sg_error err;
        uint64_t value;
    } table[] = {
        {"", 1, 100, SG_OK, 42},
        {"n=1", 1, 100, SG_OK, 1},
        {"n=100", 1, 100, SG_OK, 100},
        {"n=0", 1, 100, SG_ERR_INVALID, 0},
        {"n=101", 1, 100, SG_ERR_INVALID, 0},
        {"n=", 0, 100, SG_ERR_INVALID, 0},
        {"n=-1", 0, 100, SG_ERR_INVALID, 0},
        {"n=%2B1", 0, 100, SG_ERR_INVALID, 0},
        {"n=+1", 0, 100, SG_ERR_INVALID, 0},
        {"n=0x1", 0, 100, SG_ERR_INVALID, 0},
        {"n=1.0", 0, 100, SG_ERR_INVALID, 0},
        {"n=2147483648", 0, UINT64_MAX, SG_OK, UINT64_C(2147483648)},
        {"n=4294967297", 0, UINT64_MAX, SG_OK, UINT64_C(4294967297)},
        {"n=9007199254740993", 0, UINT64_MAX, SG_OK, UINT64_C(9007199254740993)},
        {"n=9223372036854775808", 0, UINT64_MAX, SG_OK, UINT64_C(9223372036854775808)},
        {"n=18446744073709551615", 0, UINT64_MAX, SG_OK, UINT64_MAX},
        {"n=18446744073709551616", 0, UINT64_MAX, SG_ERR_INVALID, 0},
    };
    struct http_fixture *f = *state;
    for (size_t i = 0; i < SG_ARRAY_LEN(table); i++) {
        uint64_t out = 7;
        f->req.query = table[i].query;
        assert_int_equal(sg_request_query_u64(&f->req, "n", table[i].min, table[i].max, 42, &out),
                         table[i].err);
        assert_true(out == (table[i].err == SG_OK ? table[i].value : 7));
    }
}

static void test_json(void **state)
{
    struct http_fixture *f = *state;
    json_t *out = NULL;
    assert_int_equal(sg_request_json(&f->req, false, &out), SG_ERR_INVALID);
    assert_null(out);
    assert_int_equal(sg_request_json(&f->req, true, &out), SG_OK);
    assert_int_equal(json_object_size(out), 0);
    json_decref(out);
    static const char good[] = "{\"a\": 1}";
    f->req.body = good;
    f->req.body_len = sizeof(good) - 1;
    assert_int_equal(sg_request_json(&f->req, false, &out), SG_OK);
    assert_int_equal(json_integer_value(json_object_get(out, "a")), 1);
    json_decref(out);
    static const char *const bad[] = {"[]", "{", "1", "{\"a\":1,\"a\":2}", "{} x", "\xff"};
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        f->req.body = bad[i];
        f->req.body_len = strlen(bad[i]);
        f->req.fail_detail = NULL;
        assert_int_equal(sg_request_json(&f->req, true, &out), SG_ERR_INVALID);
        assert_non_null(f->req.fail_detail);
    }
}

static void test_members(void **state)
{
    struct http_fixture *f = *state;
    static const char *const names[] = {"a", "b", NULL};
    json_t *body = json_pack("{s:i, s:n}", "a", 1, "b");
    assert_int_equal(sg_request_only(&f->req, body, names), SG_OK);
    assert_int_equal(json_object_set_new(body, "ab", json_null()), 0);
    assert_int_equal(sg_request_only(&f->req, body, names), SG_ERR_INVALID);
    assert_string_equal(f->req.fail_field, "ab");
    json_decref(body);
    assert_string_equal(f->req.fail_field, "ab"); /* its own copy */
}

static void test_hosts(void **state)
{
    static const struct {
        const char *host, *url;
    } table[] = {
        {"media.example", "http://media.example"},
        {"media.example:8443", "http://media.example:8443"},
        {"127.0.0.1:80", "http://127.0.0.1:80"},
        {"[::1]:8080", "http://[::1]:8080"},
        {"[2001:db8::1]", "http://[2001:db8::1]"},
        {"a_b-c.d", "http://a_b-c.d"},
        {NULL, "http://127.0.0.1:8080"},
        {"", "http://127.0.0.1:8080"},
        {"evil.example/path", "http://127.0.0.1:8080"},
        {"user@evil.example", "http://127.0.0.1:8080"},
        {"evil.example\"", "http://127.0.0.1:8080"},
        {"a b", "http://127.0.0.1:8080"},
        {"a:", "http://127.0.0.1:8080"},
        {"a:0", "http://127.0.0.1:8080"},
        {"a:65536", "http://127.0.0.1:8080"},
        {"a:80:80", "http://127.0.0.1:8080"},
        {"a:8a", "http://127.0.0.1:8080"},
        {":80", "http://127.0.0.1:8080"},
        {"::1", "http://127.0.0.1:8080"},
        {"[::1", "http://127.0.0.1:8080"},
        {"[::1]x", "http://127.0.0.1:8080"},
        {"[1.2.3.4]", "http://127.0.0.1:8080"},
        {"[zz]", "http://127.0.0.1:8080"},
    };
    struct http_fixture *f = *state;
    for (size_t i = 0; i < SG_ARRAY_LEN(table); i++) {
        fixture_reset(f);
        if (table[i].host)
            fixture_header(f, "Host", table[i].host);
        assert_string_equal(sg_request_base_url(&f->req), table[i].url);
    }
}

static void test_forwarded_host(void **state)
{
    struct http_fixture *f = *state;
    struct sg_cidr_list *trusted = NULL;
    assert_int_equal(sg_cidr_list_parse("10.0.0.0/8", &trusted), SG_OK);
    atomic_store(&f->svc.trusted_proxies, trusted);
    fixture_header(f, "Host", "inside");
    fixture_header(f, "X-Forwarded-Host", "spoofed.example, media.example ");
    assert_int_equal(sg_address_parse("192.0.2.1", 9, &f->req.peer), SG_OK);
    assert_string_equal(sg_request_base_url(&f->req), "http://inside");
    assert_int_equal(sg_address_parse("10.1.2.3", 8, &f->req.peer), SG_OK);
    f->req.secure = true;
    assert_string_equal(sg_request_base_url(&f->req), "https://media.example");
    f->req.headers[1].value = "media.example, ";
    assert_string_equal(sg_request_base_url(&f->req), "https://inside");
}

static void test_public_url(void **state)
{
    (void)state;
    static const char *const overrides[] = {"server.public_url=https://media.example/v/", NULL};
    struct http_fixture f;
    fixture_open(&f, overrides);
    fixture_header(&f, "Host", "other");
    assert_string_equal(sg_request_base_url(&f.req), "https://media.example/v");
    fixture_close(&f);
}

static int woken_calls;

static void on_wake(struct sg_request *req)
{
    assert_true(req->woken);
    woken_calls++;
}

static void test_wake(void **state)
{
    struct http_fixture *f = *state;
    struct sg_buf *a, *b;
    assert_int_equal(sg_buf_create_copy("a", 1, &a), SG_OK);
    assert_int_equal(sg_buf_create_copy("b", 1, &b), SG_OK);
    sg_request_set_wake_hook(on_wake);
    sg_request_wake(&f->req, SG_OK, a);
    assert_int_equal(woken_calls, 1);
    assert_ptr_equal(f->req.wake_buf, a);
    sg_request_wake(&f->req, SG_ERR_MEDIA_TIMEOUT, b); /* drops a: the leak checker looks */
    assert_int_equal(woken_calls, 2);
    assert_int_equal(f->req.wake_err, SG_ERR_MEDIA_TIMEOUT);
    assert_ptr_equal(f->req.wake_buf, b);
    sg_request_set_wake_hook(NULL);
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
        cmocka_unit_test(test_methods),    WITH_FIXTURE(test_headers),
        WITH_FIXTURE(test_params),         WITH_FIXTURE(test_query),
        WITH_FIXTURE(test_query_u64),      WITH_FIXTURE(test_json),
        WITH_FIXTURE(test_members),        WITH_FIXTURE(test_hosts),
        WITH_FIXTURE(test_forwarded_host), cmocka_unit_test(test_public_url),
        WITH_FIXTURE(test_wake),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
