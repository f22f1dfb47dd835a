/* Bodies: streaming, JSON, bounds, refusals at each point, and connections lost at each point. */
#include "loopback_support.h"

static struct loop loop;

static int setup(void **state)
{
    (void)state;
    static const char *const overrides[] = {"upload.max_size=1000", "server.max_json_bytes=100",
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

static struct loop_request upload(const char *path, const char *body)
{
    return (struct loop_request){.method = "PUT",
                                 .path = path,
                                 .body = body,
                                 .headers = {{"Authorization", loop_bearer(&loop, LOOP_CREATOR)}}};
}

static const char *bytes_of(size_t n)
{
    static char text[2001];
    memset(text, 'x', n);
    text[n] = '\0';
    return text;
}

static void test_stream(void **state)
{
    (void)state;
    struct loop_reply r;
    static const size_t pieces[] = {0, 1, 7, 999};
    for (size_t i = 0; i < SG_ARRAY_LEN(pieces); i++) {
        for (int chunked = 0; chunked < 2; chunked++) {
            memset(&loop_seen, 0, sizeof loop_seen);
            struct loop_request rq = upload("/t/upload/blocks", bytes_of(1000));
            rq.piece = pieces[i];
            rq.chunked = chunked;
            loop_send(&loop, &rq, &r);
            assert_int_equal(r.status, 201);
            assert_string_equal(r.body, "{\"size\":1000}\n");
            assert_false(r.close);
            assert_int_equal(loop_seen.upload_bytes, 1000);
            assert_int_equal(loop_seen.upload_begins, 1);
            assert_int_equal(loop_seen.upload_ends, 1);
            assert_int_equal(loop_seen.frees, 1);
            loop_reply_free(&r);
        }
    }
    struct loop_request empty = upload("/t/upload/x", NULL);
    loop_send(&loop, &empty, &r);
    assert_int_equal(r.status, 201);
    assert_int_equal(r.pieces, 0);
    loop_reply_free(&r);
}

/* Refused on the head: not a byte is asked for. */
static void expect_early(struct loop_request rq, unsigned status)
{
    struct loop_reply r;
    memset(&loop_seen, 0, sizeof loop_seen);
    loop_send(&loop, &rq, &r);
    assert_int_equal(r.status, status);
    assert_int_equal(r.pieces, 0);
    assert_true(r.close);
    assert_int_equal(loop_seen.upload_begins, 0);
    loop_reply_free(&r);
}

static void test_refused_early(void **state)
{
    (void)state;
    expect_early(upload("/t/upload/x", bytes_of(1001)), 413);
    expect_early(upload("/t/upload/refused", "abc"), 507);
    struct loop_request rq = upload("/t/upload/x", "abc");
    rq.headers[0].name = NULL;
    expect_early(rq, 401);
    rq = upload("/t/upload/x", "abc");
    rq.headers[0].value = loop_bearer(&loop, LOOP_VIEWER);
    expect_early(rq, 403);
    rq = (struct loop_request){.method = "GET", .path = "/t/hello", .body = "abc"};
    expect_early(rq, 413);
    static const char *const lengths[] = {"-1", "+1", "1 2", "0x1", "9223372036854775808", ""};
    for (size_t i = 0; i < SG_ARRAY_LEN(lengths); i++) {
        rq = upload("/t/upload/x", "abc");
        rq.no_length = true;
        rq.headers[1] = (struct sg_header){"Content-Length", lengths[i]};
        expect_early(rq, 400);
    }
    rq.headers[1].value = "9223372036854775807";
    expect_early(rq, 413);
    rq.headers[1] = (struct sg_header){"Transfer-Encoding", "gzip"};
    expect_early(rq, 400);
}

static void test_refused_in_body(void **state)
{
    (void)state;
    struct loop_reply r;
    struct loop_request rq = upload("/t/upload/x", bytes_of(1001));
    rq.chunked = true;
    rq.piece = 100;
    memset(&loop_seen, 0, sizeof loop_seen);
    loop_send(&loop, &rq, &r);
    assert_int_equal(r.status, 413);
    assert_int_equal(r.pieces, 11);
    assert_true(r.close);
    assert_int_equal(loop_seen.frees, 1);
    assert_int_equal(loop_seen.upload_ends, 0);
    loop_reply_free(&r);
    rq = upload("/t/upload/x", "abc!def");
    rq.piece = 2;
    loop_send(&loop, &rq, &r);
    assert_int_equal(r.status, 422);
    assert_int_equal(r.pieces, 2);
    assert_true(r.close);
    loop_reply_free(&r);
    /* An empty chunked body where none is taken is no body. */
    rq = (struct loop_request){.method = "GET", .path = "/t/hello", .chunked = true};
    loop_send(&loop, &rq, &r);
    assert_int_equal(r.status, 200);
    loop_reply_free(&r);
    rq.body = "x";
    loop_send(&loop, &rq, &r);
    assert_int_equal(r.status, 413);
    loop_reply_free(&r);
}

static void expect_json(const char *method, const char *type, const char *body, bool chunked,
                        unsigned status)
{
    struct loop_reply r;
    const struct loop_request rq = {.method = method,
                                    .path = "/t/json",
                                    .body = body,
                                    .chunked = chunked,
                                    .piece = 3,
                                    .headers = {{type ? "Content-Type" : NULL, type}}};
    loop_send(&loop, &rq, &r);
    if (r.status != status)
        fail_msg("%s %s %s: %u", method, type ? type : "-", body, r.status);
    if (status == 200)
        assert_int_equal(strncmp(r.body, body, strlen(body)), 0);
    loop_reply_free(&r);
}

static void test_json(void **state)
{
    (void)state;
    static const char *const good[] = {"application/json", "Application/JSON; charset=utf-8",
                                       "application/json ;x=y"};
    for (size_t i = 0; i < SG_ARRAY_LEN(good); i++) {
        expect_json("POST", good[i], "{\"a\":\"b\"}", false, 200);
        expect_json("POST", good[i], "{\"a\":\"b\"}", true, 200);
    }
    expect_json("PATCH", "application/json", "{\"a\":\"b\"}", false, 200);
    expect_json("PATCH", "application/merge-patch+json", "{}", false, 415);
    expect_json("POST", "application/jsonx", "{}", false, 415);
    expect_json("POST", "text/plain", "{}", false, 415);
    expect_json("POST", NULL, "{}", false, 415);
    expect_json("POST", "application/json", "{", false, 400);
    expect_json("POST", "application/json", "", false, 400);
    struct sg_text t = {0};
    sg_text_printf(&t, "{\"a\":\"%s\"}", bytes_of(92));
    assert_int_equal(t.len, 100);
    expect_json("POST", "application/json", t.ptr, false, 200);
    expect_json("POST", "application/json", t.ptr, true, 200);
    sg_text_free(&t);
    sg_text_printf(&t, "{\"a\":\"%s\"}", bytes_of(93));
    expect_json("POST", "application/json", t.ptr, false, 413);
    expect_json("POST", "application/json", t.ptr, true, 413);
    sg_text_free(&t);
}

static void test_dropped(void **state)
{
    (void)state;
    static const enum loop_drop drops[] = {LOOP_DROP_AT_BODY, LOOP_DROP_IN_BODY,
                                           LOOP_DROP_AT_RESPONSE};
    for (size_t i = 0; i < SG_ARRAY_LEN(drops); i++) {
        struct loop_reply r;
        struct loop_request rq = upload("/t/upload/blocks", "abcdef");
        rq.piece = 2;
        rq.drop = drops[i];
        memset(&loop_seen, 0, sizeof loop_seen);
        loop_send(&loop, &rq, &r);
        assert_int_equal(loop_seen.upload_begins, 1);
        assert_int_equal(loop_seen.upload_ends, drops[i] == LOOP_DROP_AT_RESPONSE ? 1 : 0);
        assert_int_equal(loop_seen.frees, 1);
        loop_reply_free(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream),          cmocka_unit_test(test_refused_early),
        cmocka_unit_test(test_refused_in_body), cmocka_unit_test(test_json),
        cmocka_unit_test(test_dropped),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
