/* Every step of the pipeline and what it refuses, without sockets. */
#include <stdio.h>

#include "streamgate/base/metrics.h"

#include "loopback_support.h"

static struct loop loop;

static int setup(void **state)
{
    (void)state;
    static const char *const overrides[] = {
        "server.cors_origins=https://a.example, https://b.example",
        "server.trusted_proxies=10.0.0.0/8", "upload.max_size=1000", "server.max_json_bytes=100",
        NULL};
    loop_open(&loop, overrides, true);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    loop_close(&loop);
    return 0;
}

static void expect_header(const struct loop_reply *r, const char *name, const char *value)
{
    const char *got = loop_header(r, name);
    if (!got || (value && strcmp(got, value) != 0))
        fail_msg("%s: wanted %s, got %s", name, value ? value : "any", got ? got : "none");
}

static void expect_problem(const struct loop_reply *r, unsigned status, const char *slug)
{
    assert_int_equal(r->status, status);
    expect_header(r, "Content-Type", "application/problem+json");
    expect_header(r, "Cache-Control", "no-store");
    assert_non_null(strstr(r->body, slug));
    assert_non_null(strstr(r->body, loop_header(r, "X-Request-Id")));
}

static void test_answer(void **state)
{
    (void)state;
    struct loop_reply r;
    assert_int_equal(loop_get(&loop, "/t/hello", &r), 200);
    assert_string_equal(r.body, "hello, world");
    expect_header(&r, "Content-Type", "text/plain");
    expect_header(&r, "ETag", "\"v1\"");
    expect_header(&r, "Last-Modified", "Tue, 14 Nov 2023 22:13:20 GMT");
    expect_header(&r, "Cache-Control", "private, no-cache");
    expect_header(&r, "Accept-Ranges", "bytes");
    expect_header(&r, "X-Content-Type-Options", "nosniff");
    expect_header(&r, "Referrer-Policy", "no-referrer");
    expect_header(&r, "RateLimit-Limit", "500");
    expect_header(&r, "RateLimit-Remaining", NULL);
    expect_header(&r, "RateLimit-Reset", "1");
    assert_int_equal(strlen(loop_header(&r, "X-Request-Id")), 26);
    assert_int_equal(strlen(loop_header(&r, "traceparent")), 55);
    assert_false(r.close);
    loop_reply_free(&r);
    assert_int_equal(loop_get(&loop, "/t/unlimited", &r), 200);
    assert_null(loop_header(&r, "RateLimit-Limit"));
    loop_reply_free(&r);
}

static void test_ids(void **state)
{
    (void)state;
    struct loop_reply r;
    struct loop_request rq = {
        .method = "GET",
        .path = "/t/hello",
        .headers = {{"x-request-id", "my-id_1.x"},
                    {"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}}};
    loop_send(&loop, &rq, &r);
    expect_header(&r, "X-Request-Id", "my-id_1.x");
    assert_int_equal(
        strncmp(loop_header(&r, "traceparent"), "00-0af7651916cd43dd8448eb211c80319c-", 36), 0);
    assert_null(strstr(loop_header(&r, "traceparent"), "b7ad6b7169203331"));
    loop_reply_free(&r);
    static const char *const bad[] = {"", "a b", "<script>", "abcdefghijklmnopqrstuvwxyza"};
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        rq.headers[0].value = bad[i];
        loop_send(&loop, &rq, &r);
        assert_int_equal(strlen(loop_header(&r, "X-Request-Id")), 26);
        assert_string_not_equal(loop_header(&r, "X-Request-Id"), bad[i]);
        loop_reply_free(&r);
    }
}

static void test_routing(void **state)
{
    (void)state;
    struct loop_reply r;
    double lost = sg_metric_read(SG_METRIC_NOT_FOUND, SG_METRIC_ALL);
    loop_get(&loop, "/t/nothing", &r);
    expect_problem(&r, 404, "not-found");
    expect_header(&r, "RateLimit-Limit", "1000"); /* a miss costs, too */
    loop_reply_free(&r);
    assert_int_equal((int)(sg_metric_read(SG_METRIC_NOT_FOUND, SG_METRIC_ALL) - lost), 1);
    loop_get(&loop, "/t/h%65llo", &r);
    assert_int_equal(r.status, 200);
    loop_reply_free(&r);
    static const char *const bad[] = {"/t%2fhello", "/t/hello%00", "/t/%zz", "/t/hello%ff"};
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        loop_get(&loop, bad[i], &r);
        assert_int_equal(r.status, 400);
        loop_reply_free(&r);
    }
    const struct loop_request put = {.method = "PUT", .path = "/t/hello"};
    loop_send(&loop, &put, &r);
    expect_problem(&r, 405, "method-not-allowed");
    expect_header(&r, "Allow", "GET, HEAD, DELETE, OPTIONS");
    loop_reply_free(&r);
    const struct loop_request brew = {.method = "BREW", .path = "/t/hello"};
    loop_send(&loop, &brew, &r);
    expect_problem(&r, 501, "not-implemented");
    loop_reply_free(&r);
}

static void test_head_and_options(void **state)
{
    (void)state;
    struct loop_reply r;
    const struct loop_request head = {.method = "HEAD", .path = "/t/hello"};
    loop_send(&loop, &head, &r);
    assert_int_equal(r.status, 200);
    assert_int_equal(r.len, 0);
    expect_header(&r, "ETag", "\"v1\"");
    loop_reply_free(&r);
    const struct loop_request options = {.method = "OPTIONS", .path = "/t/hello"};
    loop_send(&loop, &options, &r);
    assert_int_equal(r.status, 204);
    expect_header(&r, "Allow", "GET, HEAD, DELETE, OPTIONS");
    loop_reply_free(&r);
    const struct loop_request none = {.method = "OPTIONS", .path = "/nowhere"};
    loop_send(&loop, &none, &r);
    assert_int_equal(r.status, 404);
    loop_reply_free(&r);
    const struct loop_request star = {.method = "OPTIONS", .path = "*"};
    loop_send(&loop, &star, &r);
    assert_int_equal(r.status, 204);
    loop_reply_free(&r);
}

static void test_cors(void **state)
{
    (void)state;
    struct loop_reply r;
    struct loop_request rq = {
        .method = "GET", .path = "/t/hello", .headers = {{"Origin", "https://b.example"}}};
    loop_send(&loop, &rq, &r);
    expect_header(&r, "Access-Control-Allow-Origin", "https://b.example");
    expect_header(&r, "Vary", "Origin");
    expect_header(&r, "Access-Control-Expose-Headers", NULL);
    loop_reply_free(&r);
    static const char *const others[] = {"https://c.example", "https://a.example.evil", "https://a",
                                         ""};
    for (size_t i = 0; i < SG_ARRAY_LEN(others); i++) {
        rq.headers[0].value = others[i];
        loop_send(&loop, &rq, &r);
        assert_null(loop_header(&r, "Access-Control-Allow-Origin"));
        expect_header(&r, "Vary", "Origin");
        loop_reply_free(&r);
    }
    const struct loop_request preflight = {
        .method = "OPTIONS",
        .path = "/t/hello",
        .headers = {{"Origin", "https://a.example"}, {"Access-Control-Request-Method", "DELETE"}}};
    loop_send(&loop, &preflight, &r);
    assert_int_equal(r.status, 204);
    expect_header(&r, "Access-Control-Allow-Origin", "https://a.example");
    expect_header(&r, "Access-Control-Allow-Methods", "GET, HEAD, DELETE, OPTIONS");
    expect_header(&r, "Access-Control-Allow-Headers", NULL);
    loop_reply_free(&r);
    loop_get(&loop, "/stream/x/master.m3u8", &r);
    expect_header(&r, "Access-Control-Allow-Origin", "*");
    assert_null(loop_header(&r, "Vary"));
    loop_reply_free(&r);
}

static void expect_row(struct loop_request *rq, const char *method, const char *meant,
                       const char *row)
{
    struct loop_reply r;
    rq->method = method;
    rq->headers[0] = (struct sg_header){"X-HTTP-Method-Override", meant};
    loop_send(&loop, rq, &r);
    assert_int_equal(r.status, 204);
    expect_header(&r, "X-Row", row);
    loop_reply_free(&r);
}

static void test_overridden_methods(void **state)
{
    (void)state;
    struct loop_request rq = {
        .path = "/t/over/x",
        .headers = {{NULL, NULL}, {"Authorization", loop_bearer(&loop, LOOP_CREATOR)}}};
    expect_row(&rq, "POST", "PATCH", "patch");
    expect_row(&rq, "DELETE", "PATCH", "delete"); /* only a POST may mean something else */
    static const char *const others[] = {"DELETE", "patch", "PUT", "GET", "BREW", "OPTIONS", ""};
    for (size_t i = 0; i < SG_ARRAY_LEN(others); i++)
        expect_row(&rq, "POST", others[i], "post");
    /* What guards the row guards it this way too. */
    struct loop_reply r;
    rq.method = "POST";
    rq.headers[0] = (struct sg_header){"X-HTTP-Method-Override", "PATCH"};
    rq.headers[1] = (struct sg_header){0};
    loop_send(&loop, &rq, &r);
    expect_problem(&r, 401, "unauthenticated");
    loop_reply_free(&r);
}

static void test_headers_of_every_answer(void **state)
{
    (void)state;
    struct loop_reply r;
    struct loop_request rq = {.method = "PATCH",
                              .path = "/t/over/x",
                              .query = "fail",
                              .headers = {{"Authorization", loop_bearer(&loop, LOOP_CREATOR)}}};
    loop_send(&loop, &rq, &r);
    expect_problem(&r, 409, "conflict");
    expect_header(&r, "X-Always", "1");
    expect_header(&r, "X-Row", "patch");
    loop_reply_free(&r);
    rq.headers[0] = (struct sg_header){0};
    loop_send(&loop, &rq, &r); /* refused before the handler */
    expect_problem(&r, 401, "unauthenticated");
    expect_header(&r, "X-Always", "1");
    assert_null(loop_header(&r, "X-Row"));
    loop_reply_free(&r);
}

static void test_options_row(void **state)
{
    (void)state;
    struct loop_reply r;
    struct loop_request rq = {
        .method = "OPTIONS",
        .path = "/t/over/x",
        .headers = {{"Origin", "https://a.example"}, {"Access-Control-Request-Method", "PATCH"}}};
    loop_send(&loop, &rq, &r);
    assert_int_equal(r.status, 204);
    expect_header(&r, "X-Row", "options");
    expect_header(&r, "Allow", "POST, PATCH, DELETE, OPTIONS");
    expect_header(&r, "Access-Control-Allow-Methods", "POST, PATCH, DELETE, OPTIONS");
    loop_reply_free(&r);
}

static void test_conditional_and_ranges(void **state)
{
    (void)state;
    struct loop_reply r;
    struct loop_request rq = {
        .method = "GET", .path = "/t/hello", .headers = {{"If-None-Match", "\"v0\", \"v1\""}}};
    loop_send(&loop, &rq, &r);
    assert_int_equal(r.status, 304);
    assert_int_equal(r.len, 0);
    expect_header(&r, "ETag", "\"v1\"");
    loop_reply_free(&r);
    rq.headers[0] = (struct sg_header){"Range", "bytes=7-"};
    loop_send(&loop, &rq, &r);
    assert_int_equal(r.status, 206);
    assert_string_equal(r.body, "world");
    expect_header(&r, "Content-Range", "bytes 7-11/12");
    loop_reply_free(&r);
    rq.headers[0].value = "bytes=0-1,3-4";
    loop_send(&loop, &rq, &r);
    assert_int_equal(r.status, 206);
    assert_int_equal(strncmp(loop_header(&r, "Content-Type"), "multipart/byteranges", 20), 0);
    assert_non_null(strstr(r.body, "bytes 3-4/12"));
    loop_reply_free(&r);
    rq.headers[0].value = "bytes=12-";
    loop_send(&loop, &rq, &r);
    assert_int_equal(r.status, 416);
    expect_header(&r, "Content-Range", "bytes */12");
    loop_reply_free(&r);
    rq.path = "/t/file";
    rq.headers[0].value = "bytes=-3";
    loop_send(&loop, &rq, &r);
    assert_int_equal(r.status, 206);
    assert_string_equal(r.body, "fff");
    loop_reply_free(&r);
}

static void test_playback_token(void **state)
{
    (void)state;
    struct loop_reply r;
    static const struct {
        const char *path, *rest, *token, *cut;
    } cases[] = {
        {"/stream/ID/~tok/v/index.m3u8", "v/index.m3u8", "tok", "/stream/ID/v/index.m3u8"},
        {"/stream/ID/%7Etok/a", "a", "tok", "/stream/ID/a"},
        {"/stream/ID/~one/~two/a", "a", "one", "/stream/ID/a"},
        {"/stream/ID/a~b/c", "a~b/c", "", "/stream/ID/a~b/c"},
    };
    for (size_t i = 0; i < SG_ARRAY_LEN(cases); i++) {
        assert_int_equal(loop_get(&loop, cases[i].path, &r), 200);
        json_t *j = json_loads(r.body, 0, NULL);
        assert_string_equal(json_string_value(json_object_get(j, "rest")), cases[i].rest);
        assert_string_equal(json_string_value(json_object_get(j, "token")), cases[i].token);
        assert_string_equal(json_string_value(json_object_get(j, "path")), cases[i].cut);
        json_decref(j);
        expect_header(&r, "Cache-Control", "public, max-age=31536000, immutable");
        loop_reply_free(&r);
    }
    loop_get(&loop, "/stream/ID/~tok", &r);
    assert_int_equal(r.status, 404);
    assert_null(strstr(r.body, "tok"));
    loop_reply_free(&r);
}

static void test_proxies(void **state)
{
    (void)state;
    struct loop_reply r;
    struct loop_request rq = {
        .method = "GET",
        .path = "/t/who",
        .peer = "10.1.2.3",
        .headers = {{"X-Forwarded-For", "9.9.9.9, 10.0.0.1"}, {"X-Forwarded-Proto", "https"}}};
    loop_send(&loop, &rq, &r);
    assert_non_null(strstr(r.body, "9.9.9.9"));
    assert_non_null(strstr(r.body, "true"));
    loop_reply_free(&r);
    /* A line of the client's own above the one that the proxy added. */
    struct loop_request forged = {.method = "GET",
                                  .path = "/t/who",
                                  .peer = "10.1.2.3",
                                  .headers = {{"X-Forwarded-For", "1.1.1.1"},
                                              {"X-Forwarded-Proto", "https"},
                                              {"X-Forwarded-For", "9.9.9.9"},
                                              {"X-Forwarded-Proto", "http"}}};
    loop_send(&loop, &forged, &r);
    assert_non_null(strstr(r.body, "9.9.9.9"));
    assert_null(strstr(r.body, "1.1.1.1"));
    assert_null(strstr(r.body, "true"));
    loop_reply_free(&r);
    rq.peer = "192.0.2.1";
    loop_send(&loop, &rq, &r);
    assert_non_null(strstr(r.body, "192.0.2.1"));
    assert_null(strstr(r.body, "true"));
    loop_reply_free(&r);
}

static void test_roles(void **state)
{
    (void)state;
    struct loop_reply r;
    struct loop_request rq = {
        .method = "GET", .path = "/t/admin", .headers = {{"Authorization", NULL}}};
    double accepted = sg_metric_read(SG_METRIC_AUTH_SUCCESS, SG_METRIC_ALL);
    double refused = sg_metric_read(SG_METRIC_AUTH_FAILED, SG_METRIC_ALL);
    loop_get(&loop, "/t/admin", &r);
    expect_problem(&r, 401, "unauthenticated");
    expect_header(&r, "WWW-Authenticate", NULL);
    loop_reply_free(&r);
    rq.headers[0].value = loop_bearer(&loop, LOOP_CREATOR);
    loop_send(&loop, &rq, &r);
    expect_problem(&r, 403, "forbidden");
    assert_null(loop_header(&r, "WWW-Authenticate"));
    loop_reply_free(&r);
    rq.headers[0].value = loop_bearer(&loop, LOOP_ADMIN);
    loop_send(&loop, &rq, &r);
    assert_int_equal(r.status, 200);
    assert_int_equal(r.suspends, 1); /* the key was not in memory: read on a blocking thread */
    loop_reply_free(&r);
    loop_send(&loop, &rq, &r);
    assert_int_equal(r.status, 200);
    assert_int_equal(r.suspends, 0);
    assert_non_null(strstr(r.body, "admin"));
    loop_reply_free(&r);
    static const char *const bad[] = {"Basic YTpi", "Bearer", "Bearer nonsense",
                                      "Bearer sgk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    for (size_t i = 0; i < SG_ARRAY_LEN(bad); i++) {
        rq.headers[0].value = bad[i];
        loop_send(&loop, &rq, &r);
        expect_problem(&r, 401, "unauthenticated");
        loop_reply_free(&r);
    }
    loop_get(&loop, "/t/secret", &r); /* a handler's own refusal */
    expect_problem(&r, 403, "forbidden");
    loop_reply_free(&r);
    assert_int_equal((int)(sg_metric_read(SG_METRIC_AUTH_SUCCESS, SG_METRIC_ALL) - accepted), 3);
    assert_int_equal((int)(sg_metric_read(SG_METRIC_AUTH_FAILED, SG_METRIC_ALL) - refused), 4);
}

struct audited {
    struct sg_text out;
    uint64_t last;
};

static enum sg_error export_audit(struct sg_db_conn *c, void *arg)
{
    struct audited *a = arg;
    const struct sg_audit_query q = {.limit = 1000};
    return sg_audit_export(c, &q, &a->out, &a->last);
}

static void test_audit(void **state)
{
    (void)state;
    struct audited a = {0};
    sg_audit_tick(loop.svc.audit);
    assert_int_equal(sg_db_read(loop.svc.db, export_audit, &a), SG_OK);
    assert_non_null(a.out.ptr);
    assert_non_null(strstr(a.out.ptr, "request.authenticate"));
    assert_non_null(strstr(a.out.ptr, "request.authorize"));
    assert_non_null(strstr(a.out.ptr, "/t/admin"));
    assert_null(strstr(a.out.ptr, "sgk_"));
    sg_text_free(&a.out);
}

static void test_metrics(void **state)
{
    (void)state;
    struct loop_reply r;
    double count = sg_metric_read(SG_METRIC_REQUEST_COUNT, SG_METRIC_ALL);
    double good = sg_metric_read(SG_METRIC_REQUEST_SUCCESS, SG_METRIC_ALL);
    double bad = sg_metric_read(SG_METRIC_REQUEST_FAILED, SG_METRIC_ALL);
    loop_get(&loop, "/t/hello", &r);
    loop_reply_free(&r);
    loop_get(&loop, "/t/always", &r); /* a handler that breaks the contract */
    expect_problem(&r, 500, "internal-error");
    loop_reply_free(&r);
    const struct loop_request dropped = {
        .method = "GET", .path = "/t/hello", .drop = LOOP_DROP_AT_RESPONSE};
    loop_send(&loop, &dropped, &r);
    loop_reply_free(&r);
    assert_int_equal((int)(sg_metric_read(SG_METRIC_REQUEST_COUNT, SG_METRIC_ALL) - count), 3);
    assert_int_equal((int)(sg_metric_read(SG_METRIC_REQUEST_SUCCESS, SG_METRIC_ALL) - good), 1);
    assert_int_equal((int)(sg_metric_read(SG_METRIC_REQUEST_FAILED, SG_METRIC_ALL) - bad), 1);
    struct sg_text text = {0};
    sg_metrics_write(&text, false);
    assert_non_null(strstr(text.ptr, "method=\"GET\",route=\"/t/hello\",code=\"dropped\""));
    assert_non_null(strstr(text.ptr, "method=\"other\",route=\"unmatched\",code=\"5xx\""));
    sg_text_free(&text);
}

static void test_draining(void **state)
{
    (void)state;
    struct loop_reply r;
    atomic_store(&loop.svc.draining, true);
    loop_get(&loop, "/t/hello", &r);
    assert_int_equal(r.status, 200);
    assert_true(r.close);
    loop_reply_free(&r);
    const struct loop_request put = {
        .method = "PUT",
        .path = "/t/upload/x",
        .body = "abc",
        .headers = {{"Authorization", loop_bearer(&loop, LOOP_ADMIN)}}};
    loop_send(&loop, &put, &r);
    expect_problem(&r, 503, "draining");
    assert_true(r.close);
    loop_reply_free(&r);
    atomic_store(&loop.svc.draining, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer),
        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_routing),
        cmocka_unit_test(test_head_and_options),
        cmocka_unit_test(test_cors),
        cmocka_unit_test(test_conditional_and_ranges),
        cmocka_unit_test(test_playback_token),
        cmocka_unit_test(test_proxies),
        cmocka_unit_test(test_roles),
        cmocka_unit_test(test_audit),
        cmocka_unit_test(test_overridden_methods),
        cmocka_unit_test(test_headers_of_every_answer),
        cmocka_unit_test(test_options_row),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_draining),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
