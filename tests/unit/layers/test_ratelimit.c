#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/metrics.h"
#include "streamgate/layers/ratelimit.h"

#include "layers_support.h"

static struct sg_ratelimit *make(const char *const *overrides)
{
    struct sg_config *config = support_config(overrides);
    struct sg_ratelimit *rl = NULL;
    assert_int_equal(sg_ratelimit_create(config, &rl), SG_OK);
    sg_config_unref(config);
    return rl;
}

static void number_id(uint64_t n, uint8_t id[16])
{
    memset(id, 0, 16);
    memcpy(id, &n, sizeof n);
}

static struct sg_limit_verdict take(struct sg_ratelimit *rl, enum sg_limit_policy p, uint64_t who)
{
    uint8_t id[16];
    struct sg_limit_verdict v;
    number_id(who, id);
    sg_ratelimit_take(rl, p, SG_SCOPE_IP, id, &v);
    return v;
}

static int restore_clock(void **state)
{
    (void)state;
    sg_clock_test_advance_ms(0);
    sg_metrics_reset();
    return 0;
}

static void empties_and_refills(void **state)
{
    (void)state;
    const char *const set[] = {"ratelimit.auth=3/1", NULL};
    struct sg_ratelimit *rl = make(set);
    struct sg_limit_verdict v;
    for (unsigned i = 0; i < 3; i++) {
        v = take(rl, SG_LIMIT_AUTH, 1);
        assert_true(v.allowed);
        assert_int_equal(v.limit, 3);
        assert_int_equal(v.remaining, 2 - i);
        assert_int_equal(v.retry_after_ms, 0);
        assert_in_range(v.reset_ms, 900 * (i + 1), 1000 * (i + 1));
    }
    v = take(rl, SG_LIMIT_AUTH, 1);
    assert_false(v.allowed);
    assert_int_equal(v.remaining, 0);
    assert_in_range(v.retry_after_ms, 900, 1000);
    assert_true(sg_metric_read(SG_METRIC_RATE_LIMIT_EXCEEDED, SG_METRIC_ALL) == 1);
    assert_true(take(rl, SG_LIMIT_AUTH, 2).allowed);
    sg_clock_test_advance_ms(1000);
    assert_true(take(rl, SG_LIMIT_AUTH, 1).allowed);
    assert_false(take(rl, SG_LIMIT_AUTH, 1).allowed);
    sg_ratelimit_destroy(&rl);
    assert_null(rl);
}

static void keeps_policies_and_scopes_apart(void **state)
{
    (void)state;
    const char *const set[] = {"ratelimit.auth=1/1", "ratelimit.upload=1/1", NULL};
    struct sg_ratelimit *rl = make(set);
    uint8_t id[16];
    struct sg_limit_verdict v;
    number_id(1, id);
    assert_true(take(rl, SG_LIMIT_AUTH, 1).allowed);
    assert_false(take(rl, SG_LIMIT_AUTH, 1).allowed);
    assert_true(take(rl, SG_LIMIT_UPLOAD, 1).allowed);
    sg_ratelimit_take(rl, SG_LIMIT_AUTH, SG_SCOPE_USER, id, &v);
    assert_true(v.allowed);
    assert_int_equal(sg_ratelimit_identifiers(rl), 3);
    sg_ratelimit_destroy(&rl);
}

static void survives_extremes(void **state)
{
    (void)state;
    const char *const set[] = {"ratelimit.default=1000000000/1000000000", "ratelimit.auth=1/1",
                               "ratelimit.cache=1000000000/1", NULL};
    struct sg_ratelimit *rl = make(set);
    struct sg_limit_verdict v = take(rl, SG_LIMIT_DEFAULT, 1);
    assert_int_equal(v.limit, 1000000000);
    assert_int_equal(v.remaining, 999999999);
    v = take(rl, SG_LIMIT_CACHE, 1);
    assert_in_range(v.reset_ms, 990, 1000);
    uint8_t id[16];
    number_id(1, id);
    sg_ratelimit_charge(rl, SG_LIMIT_CACHE, SG_SCOPE_IP, id, 1000000000);
    v = take(rl, SG_LIMIT_CACHE, 1);
    assert_false(v.allowed);
    assert_in_range(v.reset_ms, UINT64_C(999999000000), UINT64_C(1000000000000));
    assert_false(take(rl, SG_LIMIT_AUTH, 1).allowed && take(rl, SG_LIMIT_AUTH, 1).allowed);
    sg_clock_test_advance_ms(INT64_C(50) * 365 * 24 * 3600 * 1000);
    v = take(rl, SG_LIMIT_AUTH, 1);
    assert_true(v.allowed);
    assert_int_equal(v.remaining, 0);
    v = take(rl, SG_LIMIT_DEFAULT, 1);
    assert_int_equal(v.remaining, 999999999);
    v = take(rl, SG_LIMIT_CACHE, 1);
    assert_int_equal(v.remaining, 999999999);
    sg_ratelimit_destroy(&rl);
}

static void charges_and_peeks(void **state)
{
    (void)state;
    const char *const set[] = {"ratelimit.auth=10/1", NULL};
    struct sg_ratelimit *rl = make(set);
    uint8_t id[16];
    number_id(5, id);
    assert_true(sg_ratelimit_peek(rl, SG_LIMIT_AUTH, SG_SCOPE_IP, id));
    assert_int_equal(sg_ratelimit_identifiers(rl), 0);
    sg_ratelimit_charge(rl, SG_LIMIT_AUTH, SG_SCOPE_IP, id, 4);
    assert_int_equal(take(rl, SG_LIMIT_AUTH, 5).remaining, 5);
    sg_ratelimit_charge(rl, SG_LIMIT_AUTH, SG_SCOPE_IP, id, 4000000000u);
    assert_false(sg_ratelimit_peek(rl, SG_LIMIT_AUTH, SG_SCOPE_IP, id));
    sg_clock_test_advance_ms(1001);
    assert_true(sg_ratelimit_peek(rl, SG_LIMIT_AUTH, SG_SCOPE_IP, id));
    sg_ratelimit_destroy(&rl);
}

static void obeys_settings_at_run_time(void **state)
{
    (void)state;
    const char *const off[] = {"ratelimit.auth=1/1", "ratelimit.enabled=false", NULL};
    const char *const on[] = {"ratelimit.auth=2/1", NULL};
    struct sg_ratelimit *rl = make(off);
    (void)take(rl, SG_LIMIT_AUTH, 1);
    struct sg_limit_verdict v = take(rl, SG_LIMIT_AUTH, 1);
    assert_true(v.allowed);
    assert_int_equal(v.limit, 1);
    assert_int_equal(v.remaining, 0);
    assert_int_equal(v.retry_after_ms, 0);
    assert_true(sg_metric_read(SG_METRIC_RATE_LIMIT_EXCEEDED, SG_METRIC_ALL) == 0);
    struct sg_config *config = support_config(on);
    sg_ratelimit_configure(rl, config);
    sg_config_unref(config);
    v = take(rl, SG_LIMIT_AUTH, 1); /* the bucket is kept: still empty */
    assert_false(v.allowed);
    assert_int_equal(v.limit, 2);
    sg_clock_test_advance_ms(5000);
    assert_int_equal(take(rl, SG_LIMIT_AUTH, 1).remaining, 1);
    sg_ratelimit_destroy(&rl);
}

/* Buckets that were drawn on outlive a flood of newcomers, who are full and so the first to be
 * forgotten. */
static void forgets_the_fullest(void **state)
{
    (void)state;
    const char *const set[] = {"ratelimit.auth=100/1", "ratelimit.max_identifiers=2048", NULL};
    struct sg_ratelimit *rl = make(set);
    const unsigned guilty = 64;
    uint8_t id[16];
    for (unsigned i = 0; i < guilty; i++) {
        number_id(i, id);
        sg_ratelimit_charge(rl, SG_LIMIT_AUTH, SG_SCOPE_IP, id, 100);
    }
    for (uint64_t i = 1000; i < 101000; i++)
        (void)take(rl, SG_LIMIT_AUTH, i);
    assert_true(sg_ratelimit_identifiers(rl) <= 2048 * 5 / 4 + 2048);
    for (unsigned i = 0; i < guilty; i++)
        assert_false(take(rl, SG_LIMIT_AUTH, i).allowed);
    sg_ratelimit_destroy(&rl);
}

static size_t heap_bytes(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

static void holds_a_million(void **state)
{
    (void)state;
    const uint64_t many = 1000000;
    size_t before = heap_bytes();
    struct sg_ratelimit *rl = make(NULL);
    assert_true(heap_bytes() - before < 1024 * 1024); /* idle: next to nothing */
    for (uint64_t i = 0; i < many; i++)
        (void)take(rl, SG_LIMIT_STREAMING, i);
    size_t used = heap_bytes() - before;
    uint64_t known = sg_ratelimit_identifiers(rl);
    uint64_t began = sg_clock_mono_ns();
    for (uint64_t i = 0; i < many; i++)
        (void)take(rl, SG_LIMIT_STREAMING, i * 7919 % many);
    uint64_t ns = (sg_clock_mono_ns() - began) / many;
    print_message("%llu identifiers, %.1f bytes each, %llu ns a check\n", (unsigned long long)known,
                  (double)used / (double)known, (unsigned long long)ns);
    assert_true(known > many * 99 / 100);
    if (before > 0) /* sanitizers bring an allocator that tells nothing */
        assert_true(used > many);
    assert_true(used / known <= 64);
    sg_ratelimit_destroy(&rl);
}

struct crowd {
    struct sg_ratelimit *rl;
    atomic_uint allowed;
};

static void *crowd_member(void *arg)
{
    struct crowd *c = arg;
    for (unsigned i = 0; i < 2000; i++) {
        atomic_fetch_add(&c->allowed, take(c->rl, SG_LIMIT_UPLOAD, 9).allowed);
        (void)take(c->rl, SG_LIMIT_STREAMING, i); /* makes tables grow meanwhile */
    }
    return NULL;
}

static void never_gives_a_token_twice(void **state)
{
    (void)state;
    const char *const set[] = {"ratelimit.upload=1000/1", NULL};
    struct crowd c = {.rl = make(set)};
    pthread_t threads[8];
    uint64_t began_ms = sg_clock_mono_ms();
    for (size_t i = 0; i < SG_ARRAY_LEN(threads); i++)
        assert_int_equal(pthread_create(&threads[i], NULL, crowd_member, &c), 0);
    for (size_t i = 0; i < SG_ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    uint64_t seconds = (sg_clock_mono_ms() - began_ms) / 1000 + 1;
    assert_in_range(atomic_load(&c.allowed), 1000, 1000 + seconds);
    sg_ratelimit_destroy(&c.rl);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(empties_and_refills, restore_clock),
        cmocka_unit_test_teardown(keeps_policies_and_scopes_apart, restore_clock),
        cmocka_unit_test_teardown(survives_extremes, restore_clock),
        cmocka_unit_test_teardown(charges_and_peeks, restore_clock),
        cmocka_unit_test_teardown(obeys_settings_at_run_time, restore_clock),
        cmocka_unit_test_teardown(forgets_the_fullest, restore_clock),
        cmocka_unit_test_teardown(holds_a_million, restore_clock),
        cmocka_unit_test_teardown(never_gives_a_token_twice, restore_clock),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
