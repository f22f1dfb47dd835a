/* The reaper's decision on made-up clocks and counts. The thread is tested on sockets in
 * tests/loopback. */
#include "reaper.h"
#include "support/unit.h"

static const struct sg_reap_limits limits = {
    .header_ms = 10000, .idle_ms = 60000, .min_rate = 1024};

static enum sg_reap judge(struct sg_watched *w, uint64_t now, uint64_t received, uint64_t acked)
{
    const struct sg_tcp_counts counts = {.received = received, .acked = acked, .established = true};
    bool wants = sg_reap_wants_counts(w, now);
    return sg_reap_judge(w, &limits, wants ? &counts : NULL, now);
}

static void test_head(void **state)
{
    (void)state;
    struct sg_watched w = {0};
    sg_watched_set(&w, SG_WATCH_HEAD, 1000);
    assert_int_equal(judge(&w, 1250, 0, 0), SG_REAP_NO);
    assert_false(sg_reap_wants_counts(&w, 2000)); /* at most once a second */
    assert_true(sg_reap_wants_counts(&w, 2250));
    assert_int_equal(judge(&w, 30000, 0, 0), SG_REAP_NO);
    assert_int_equal(judge(&w, 40000, 1, 0), SG_REAP_NO); /* the first byte */
    assert_false(sg_reap_wants_counts(&w, 45000));
    assert_int_equal(judge(&w, 49999, 0, 0), SG_REAP_NO);
    assert_int_equal(judge(&w, 50000, 0, 0), SG_REAP_HEADER);
    /* The next request's head counts from its own first byte. */
    atomic_store(&w.consumed, 500);
    sg_watched_set(&w, SG_WATCH_HEAD, 60000);
    assert_int_equal(judge(&w, 60250, 500, 0), SG_REAP_NO);
    assert_int_equal(judge(&w, 119999, 500, 0), SG_REAP_NO);
    assert_int_equal(judge(&w, 120000, 500, 0), SG_REAP_IDLE);
    /* Pipelined: a part of it had come with the request before. */
    sg_watched_set(&w, SG_WATCH_HEAD, 200000);
    assert_int_equal(judge(&w, 200250, 501, 0), SG_REAP_NO);
    assert_int_equal(judge(&w, 210250, 501, 0), SG_REAP_HEADER);
    /* After a chunked body what was used is unknown: only what comes later counts. */
    atomic_store(&w.consumed_unknown, true);
    sg_watched_set(&w, SG_WATCH_HEAD, 300000);
    assert_int_equal(judge(&w, 300250, 9000, 0), SG_REAP_NO);
    assert_int_equal(judge(&w, 320000, 9000, 0), SG_REAP_NO);
    assert_int_equal(judge(&w, 330000, 9001, 0), SG_REAP_NO);
    assert_int_equal(judge(&w, 340000, 9001, 0), SG_REAP_HEADER);
}

static void test_body(void **state)
{
    (void)state;
    struct sg_watched w = {0};
    sg_watched_set(&w, SG_WATCH_BODY, 1000);
    assert_int_equal(judge(&w, 10999, 0, 0), SG_REAP_NO);
    atomic_store(&w.body_bytes, 10 * 1024);
    assert_int_equal(judge(&w, 11000, 0, 0), SG_REAP_NO);
    assert_int_equal(judge(&w, 12000, 0, 0), SG_REAP_BODY);
    atomic_store(&w.body_bytes, 1 << 20);
    assert_int_equal(judge(&w, 100000, 0, 0), SG_REAP_NO);
    const struct sg_reap_limits none = {.header_ms = 1, .idle_ms = 1};
    atomic_store(&w.body_bytes, 0);
    assert_int_equal(sg_reap_judge(&w, &none, NULL, 100000), SG_REAP_NO);
}

/* A body's counts are asked for only when nothing came since the last look. */
static void test_body_end(void **state)
{
    (void)state;
    struct sg_watched w = {0};
    const struct sg_tcp_counts ended = {.peer_ended = true};
    const struct sg_tcp_counts open = {.established = true};
    sg_watched_set(&w, SG_WATCH_BODY, 1000);
    assert_false(sg_reap_wants_counts(&w, 1250));
    assert_int_equal(sg_reap_judge(&w, &limits, NULL, 1250), SG_REAP_NO);
    assert_true(sg_reap_wants_counts(&w, 1500));
    atomic_store(&w.body_bytes, 1);
    assert_false(sg_reap_wants_counts(&w, 1500));
    assert_int_equal(sg_reap_judge(&w, &limits, NULL, 1500), SG_REAP_NO);
    assert_true(sg_reap_wants_counts(&w, 1750));
    assert_true(sg_reap_must_repeat_end(&w, &ended));
    assert_false(sg_reap_must_repeat_end(&w, &open));
    sg_watched_set(&w, SG_WATCH_HEAD, 2000);
    assert_true(sg_reap_must_repeat_end(&w, &ended));
    static const enum sg_watch busy[] = {SG_WATCH_WORK, SG_WATCH_SEND, SG_WATCH_LINGER};
    for (size_t i = 0; i < SG_ARRAY_LEN(busy); i++) {
        sg_watched_set(&w, busy[i], 3000);
        assert_false(sg_reap_must_repeat_end(&w, &ended));
    }
}

static void test_send(void **state)
{
    (void)state;
    struct sg_watched w = {0};
    sg_watched_set(&w, SG_WATCH_SEND, 1000);
    assert_int_equal(judge(&w, 1500, 0, 0), SG_REAP_NO);
    assert_int_equal(judge(&w, 2000, 0, 5000), SG_REAP_NO);
    assert_int_equal(judge(&w, 31000, 0, 5000), SG_REAP_NO);
    assert_int_equal(judge(&w, 32000, 0, 5000 + 30 * 1024), SG_REAP_NO);
    assert_int_equal(judge(&w, 62000, 0, 5000 + 60 * 1024 - 1), SG_REAP_READ);
    sg_watched_set(&w, SG_WATCH_SEND, 70000); /* another response starts anew */
    assert_int_equal(judge(&w, 99999, 0, 5000), SG_REAP_NO);
    assert_int_equal(judge(&w, 129998, 0, 5000), SG_REAP_NO);
    assert_int_equal(judge(&w, 129999, 0, 5000), SG_REAP_READ);
}

static void test_others(void **state)
{
    (void)state;
    struct sg_watched w = {0};
    sg_watched_set(&w, SG_WATCH_WORK, 1000);
    assert_int_equal(judge(&w, 10000000, 0, 0), SG_REAP_NO);
    sg_watched_set(&w, SG_WATCH_LINGER, 1000);
    assert_int_equal(judge(&w, 5999, 0, 0), SG_REAP_NO);
    assert_int_equal(judge(&w, 6000, 0, 0), SG_REAP_LINGER);
    sg_watched_set(&w, SG_WATCH_HEAD, 2000);
    assert_int_equal(judge(&w, 1000, 0, 0), SG_REAP_NO); /* began after the scan's clock was read */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head), cmocka_unit_test(test_body),   cmocka_unit_test(test_body_end),
        cmocka_unit_test(test_send), cmocka_unit_test(test_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
