/* Token buckets as requests see them: per address before, per user after identification, and what
 * failed authentication costs. */
#include <stdio.h>

#include "streamgate/base/metrics.h"

#include "loopback_support.h"

static void open_with(struct loop *l, const char *a, const char *b)
{
    const char *const overrides[] = {a, b, NULL};
    loop_open(l, overrides, true);
}

static unsigned as(struct loop *l, const char *path, const char *authorization,
                   struct loop_reply *r)
{
    const struct loop_request rq = {
        .method = "GET",
        .path = path,
        .headers = {{authorization ? "Authorization" : NULL, authorization}}};
    loop_send(l, &rq, r);
    return r->status;
}

static void expect(struct loop *l, const char *path, const char *authorization, unsigned status)
{
    struct loop_reply r;
    assert_int_equal(as(l, path, authorization, &r), status);
    loop_reply_free(&r);
}

static void test_address(void **state)
{
    (void)state;
    struct loop l;
    struct loop_reply r;
    open_with(&l, "ratelimit.metadata=3/1", NULL);
    for (unsigned left = 3; left-- > 0;) {
        char text[16];
        (void)snprintf(text, sizeof text, "%u", left);
        assert_int_equal(loop_get(&l, "/t/hello", &r), 200);
        assert_string_equal(loop_header(&r, "RateLimit-Limit"), "3");
        assert_string_equal(loop_header(&r, "RateLimit-Remaining"), text);
        assert_null(loop_header(&r, "Retry-After"));
        loop_reply_free(&r);
    }
    assert_int_equal(loop_get(&l, "/t/hello", &r), 429);
    assert_non_null(strstr(r.body, "rate-limited"));
    assert_string_equal(loop_header(&r, "RateLimit-Remaining"), "0");
    assert_string_equal(loop_header(&r, "RateLimit-Reset"), "3");
    assert_string_equal(loop_header(&r, "Retry-After"), "1");
    loop_reply_free(&r);
    /* Other policies, other addresses and unlimited routes are not touched by it. */
    expect(&l, "/t/who", NULL, 200);
    expect(&l, "/t/unlimited", NULL, 200);
    const struct loop_request other = {.method = "GET", .path = "/t/hello", .peer = "192.0.2.7"};
    loop_send(&l, &other, &r);
    assert_int_equal(r.status, 200);
    loop_reply_free(&r);
    sg_clock_test_advance_ms(1500);
    expect(&l, "/t/hello", NULL, 200);
    sg_clock_test_advance_ms(0);
    assert_true(sg_metric_read(SG_METRIC_RATE_LIMIT_EXCEEDED, SG_METRIC_ALL) >= 1);
    loop_close(&l);
}

static void test_user(void **state)
{
    (void)state;
    struct loop l;
    struct loop_reply r;
    open_with(&l, "ratelimit.metadata=2/1", NULL);
    static const char *const peers[] = {"192.0.2.1", "192.0.2.2", "192.0.2.3"};
    for (size_t i = 0; i < SG_ARRAY_LEN(peers); i++) {
        const struct loop_request rq = {
            .method = "GET",
            .path = "/t/hello",
            .peer = peers[i],
            .headers = {{"Authorization", loop_bearer(&l, LOOP_VIEWER)}}};
        loop_send(&l, &rq, &r);
        assert_int_equal(r.status, i < 2 ? 200 : 429);
        /* The tighter of the two verdicts is shown: the user's. */
        assert_string_equal(loop_header(&r, "RateLimit-Remaining"), i == 0 ? "1" : "0");
        loop_reply_free(&r);
    }
    loop_close(&l);
}

static void test_failed_authentication(void **state)
{
    (void)state;
    struct loop l;
    struct loop_reply r;
    open_with(&l, "ratelimit.auth=3/1", NULL);
    const char *good = loop_bearer(&l, LOOP_ADMIN);
    expect(&l, "/t/admin", good, 200);
    for (int i = 0; i < 3; i++) {
        char guess[64];
        (void)snprintf(guess, sizeof guess, "Bearer sgk_%043d", i);
        assert_int_equal(as(&l, "/t/who", guess, &r), 401);
        assert_int_equal(r.suspends, 1);
        loop_reply_free(&r);
    }
    assert_int_equal(as(&l, "/t/who", "Bearer sgk_0000000000000000000000000000000000000000009", &r),
                     429);
    assert_int_equal(r.suspends, 0); /* the database is not read for it */
    assert_non_null(loop_header(&r, "Retry-After"));
    assert_string_equal(loop_header(&r, "RateLimit-Limit"), "3");
    loop_reply_free(&r);
    expect(&l, "/t/admin", good, 200); /* a key that is known works from the same address */
    expect(&l, "/t/admin", NULL, 401); /* nothing shown, nothing charged */
    expect(&l, "/stream/X/~guess/signed", NULL, 429);
    loop_close(&l);
}

static void test_playback_guesses(void **state)
{
    (void)state;
    struct loop l;
    open_with(&l, "ratelimit.auth=2/1", NULL);
    expect(&l, "/stream/X/signed", NULL, 401);
    expect(&l, "/stream/X/~guess/signed", NULL, 401);
    expect(&l, "/stream/X/~guess/signed", NULL, 401);
    expect(&l, "/stream/X/~guess/signed", NULL, 429);
    expect(&l, "/stream/X/signed", NULL, 401);
    loop_close(&l);
}

static void test_disabled(void **state)
{
    (void)state;
    struct loop l;
    open_with(&l, "ratelimit.metadata=1/1", "ratelimit.enabled=false");
    for (int i = 0; i < 5; i++)
        expect(&l, "/t/hello", NULL, 200);
    loop_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_address),
        cmocka_unit_test(test_user),
        cmocka_unit_test(test_failed_authentication),
        cmocka_unit_test(test_playback_guesses),
        cmocka_unit_test(test_disabled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
