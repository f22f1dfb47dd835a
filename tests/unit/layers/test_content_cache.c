#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/metrics.h"
#include "streamgate/layers/content_cache.h"

#include "layers_support.h"

#define CROWD 1000u

static struct sg_content_cache *make(const char *const *overrides)
{
    struct sg_config *config = support_config(overrides);
    struct sg_content_cache *c = NULL;
    assert_int_equal(sg_content_cache_create(config, &c), SG_OK);
    sg_config_unref(config);
    return c;
}

static struct sg_buf *text_buf(const char *text)
{
    struct sg_buf *buf = NULL;
    assert_int_equal(sg_buf_create_copy(text, strlen(text), &buf), SG_OK);
    return buf;
}

struct woken {
    struct sg_waiter waiter;
    unsigned times, order;
    enum sg_error err;
    struct sg_buf *buf;
};

static unsigned wake_order;

static void wake(void *arg, enum sg_error err, struct sg_buf *buf)
{
    struct woken *w = arg;
    w->times++;
    w->order = ++wake_order;
    w->err = err;
    w->buf = buf;
}

static enum sg_content_state ask(struct sg_content_cache *c, const char *key, struct woken *w)
{
    *w = (struct woken){.waiter = {.wake = wake, .arg = w}};
    return sg_content_get(c, key, strlen(key), &w->waiter, &w->buf);
}

static void fill(struct sg_content_cache *c, const char *key, const char *text)
{
    struct sg_buf *buf = text_buf(text);
    sg_content_fill(c, key, strlen(key), SG_OK, buf);
    sg_buf_unref(buf);
}

static void assert_buf(struct sg_buf *buf, const char *text)
{
    assert_non_null(buf);
    assert_int_equal(buf->len, strlen(text));
    assert_memory_equal(buf->data, text, buf->len);
    sg_buf_unref(buf);
}

static int teardown(void **state)
{
    (void)state;
    sg_clock_test_advance_ms(0);
    sg_metrics_reset();
    return 0;
}

static double streaming(struct sg_content_cache *c, enum sg_metric m)
{
    sg_cache_tick(sg_content_cache_base(c), false);
    return sg_metric_read(m, SG_METRIC_ALL);
}

static void one_leads_others_wait(void **state)
{
    (void)state;
    struct sg_content_cache *c = make(NULL);
    struct woken w[4];
    wake_order = 0;
    assert_int_equal(ask(c, "a/1", &w[0]), SG_CONTENT_LEAD);
    assert_int_equal(ask(c, "a/1", &w[1]), SG_CONTENT_WAIT);
    assert_int_equal(ask(c, "a/1", &w[2]), SG_CONTENT_WAIT);
    assert_int_equal(ask(c, "a/2", &w[3]), SG_CONTENT_LEAD);
    assert_null(sg_content_peek(c, "a/1", 3));
    fill(c, "a/1", "one");
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(w[i].times, 1);
        assert_int_equal(w[i].order, i + 1);
        assert_int_equal(w[i].err, SG_OK);
        assert_buf(w[i].buf, "one");
    }
    assert_int_equal(w[3].times, 0);
    fill(c, "a/2", "two");
    assert_buf(w[3].buf, "two");
    assert_int_equal(ask(c, "a/1", &w[0]), SG_CONTENT_HIT);
    assert_buf(w[0].buf, "one");
    assert_int_equal(w[0].times, 0);
    assert_buf(sg_content_peek(c, "a/2", 3), "two");
    assert_true(streaming(c, SG_METRIC_CACHE_HIT) == 2);
    assert_true(streaming(c, SG_METRIC_CACHE_MISS) == 2);
    assert_true(streaming(c, SG_METRIC_CACHE_WAITERS) == 2);
    assert_true(streaming(c, SG_METRIC_CACHE_ENTRIES) == 2);
    assert_true(streaming(c, SG_METRIC_CACHE_SIZE) >= 6);
    sg_content_cache_destroy(&c);
    assert_null(c);
}

static void failure_reaches_all_and_is_not_kept(void **state)
{
    (void)state;
    struct sg_content_cache *c = make(NULL);
    struct woken w[2];
    assert_int_equal(ask(c, "k", &w[0]), SG_CONTENT_LEAD);
    assert_int_equal(ask(c, "k", &w[1]), SG_CONTENT_WAIT);
    sg_content_fill(c, "k", 1, SG_ERR_MEDIA_TIMEOUT, NULL);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(w[i].times, 1);
        assert_int_equal(w[i].err, SG_ERR_MEDIA_TIMEOUT);
        assert_null(w[i].buf);
    }
    assert_int_equal(ask(c, "k", &w[0]), SG_CONTENT_LEAD);
    sg_content_fill(c, "k", 1, SG_OK, NULL); /* no content is no success */
    assert_int_equal(w[0].err, SG_ERR_INTERNAL);
    sg_content_cache_destroy(&c);
}

static void invalidation_forgets_prefix(void **state)
{
    (void)state;
    struct sg_content_cache *c = make(NULL);
    struct woken w;
    fill(c, "a/1", "one");
    fill(c, "ab/1", "other");
    assert_int_equal(ask(c, "a/2", &w), SG_CONTENT_LEAD);
    sg_content_invalidate(c, "a/", 2);
    assert_null(sg_content_peek(c, "a/1", 3));
    assert_buf(sg_content_peek(c, "ab/1", 4), "other");
    fill(c, "a/2", "two");
    assert_int_equal(w.err, SG_OK); /* the waiter has its answer */
    assert_buf(w.buf, "two");
    assert_null(sg_content_peek(c, "a/2", 3)); /* and nobody else */
    assert_int_equal(ask(c, "a/2", &w), SG_CONTENT_LEAD);
    fill(c, "a/2", "new");
    assert_buf(w.buf, "new");
    assert_buf(sg_content_peek(c, "a/2", 3), "new");
    sg_content_cache_destroy(&c);
}

struct asking {
    struct sg_content_cache *c;
    struct woken again;
    enum sg_content_state state;
};

static void wake_and_ask(void *arg, enum sg_error err, struct sg_buf *buf)
{
    struct asking *a = arg;
    assert_int_equal(err, SG_OK);
    sg_buf_unref(buf);
    a->state = ask(a->c, "k", &a->again);
}

/* Called without a lock: a waiter may ask at once. */
static void waking_may_ask_again(void **state)
{
    (void)state;
    struct asking a = {.c = make(NULL)};
    struct sg_waiter waiter = {.wake = wake_and_ask, .arg = &a};
    struct sg_buf *buf = NULL;
    assert_int_equal(sg_content_get(a.c, "k", 1, &waiter, &buf), SG_CONTENT_LEAD);
    fill(a.c, "k", "text");
    assert_int_equal(a.state, SG_CONTENT_HIT);
    assert_buf(a.again.buf, "text");
    sg_content_cache_destroy(&a.c);
}

static void bounds_follow_settings(void **state)
{
    (void)state;
    const char *const none[] = {"cache.streaming=0/1min/0", NULL};
    const char *const some[] = {"cache.streaming=100/1min/1MiB", NULL};
    struct sg_content_cache *c = make(none);
    struct woken w;
    fill(c, "k", "text");
    assert_int_equal(ask(c, "k", &w), SG_CONTENT_LEAD);
    struct sg_config *config = support_config(some);
    sg_cache_configure(sg_content_cache_base(c), config);
    sg_config_unref(config);
    fill(c, "k", "text");
    assert_buf(w.buf, "text");
    assert_buf(sg_content_peek(c, "k", 1), "text");
    sg_clock_test_advance_ms(61000);
    sg_cache_tick(sg_content_cache_base(c), true);
    assert_true(sg_metric_read(SG_METRIC_CACHE_ENTRIES, SG_METRIC_ALL) == 0);
    assert_null(sg_content_peek(c, "k", 1));
    sg_content_cache_destroy(&c);
}

static void *count_ref(void *value)
{
    ++*(int *)value;
    return value;
}

static void count_unref(void *value)
{
    --*(int *)value;
}

static void namespaces_publish_their_lru(void **state)
{
    (void)state;
    const char *const set[] = {"cache.metadata=2/1min/0", NULL};
    struct sg_config *config = support_config(set);
    struct sg_cache *c = NULL;
    int refs[40] = {0};
    const struct sg_cache_params params = {SG_CACHE_METADATA, count_ref, count_unref};
    assert_int_equal(sg_cache_create(config, &params, &c), SG_OK);
    for (unsigned i = 0; i < SG_ARRAY_LEN(refs); i++)
        assert_int_equal(sg_lru_put(sg_cache_lru(c), &i, sizeof i, &refs[i], 1), SG_OK);
    assert_null(sg_lru_get(sg_cache_lru(c), "none", 4));
    sg_cache_tick(c, false);
    assert_true(sg_metric_read(SG_METRIC_CACHE_MISS, SG_METRIC_ALL) == 1);
    assert_true(sg_metric_read(SG_METRIC_CACHE_EVICTION, SG_METRIC_ALL) > 0);
    sg_cache_destroy(&c);
    for (unsigned i = 0; i < SG_ARRAY_LEN(refs); i++)
        assert_int_equal(refs[i], 0);
    sg_config_unref(config);
}

/* ---- threads ---- */

struct crowd {
    struct sg_content_cache *c;
    pthread_mutex_t lock; /* guards all_in, and guards answered against its signal */
    pthread_cond_t changed;
    atomic_uint builds, answered, wrong;
    unsigned asked;
};

struct member {
    struct sg_waiter waiter;
    struct crowd *crowd;
};

static void crowd_wake(void *arg, enum sg_error err, struct sg_buf *buf)
{
    struct member *m = arg;
    struct crowd *crowd = m->crowd;
    if (err != SG_OK || buf == NULL || buf->len != 4 || memcmp(buf->data, "text", 4) != 0)
        atomic_fetch_add(&crowd->wrong, 1);
    sg_buf_unref(buf);
    free(m);
    pthread_mutex_lock(&crowd->lock);
    atomic_fetch_add(&crowd->answered, 1);
    pthread_cond_broadcast(&crowd->changed);
    pthread_mutex_unlock(&crowd->lock);
}

static void *crowd_asks(void *arg)
{
    struct crowd *crowd = arg;
    struct member *m = calloc(1, sizeof *m);
    struct sg_buf *buf = NULL;
    m->crowd = crowd;
    m->waiter = (struct sg_waiter){.wake = crowd_wake, .arg = m};
    enum sg_content_state state = sg_content_get(crowd->c, "seg", 3, &m->waiter, &buf);
    pthread_mutex_lock(&crowd->lock);
    crowd->asked++;
    pthread_cond_broadcast(&crowd->changed);
    /* The leader fills late, when half of the crowd waits already, and early enough for the rest to
     * race with it. */
    while (state == SG_CONTENT_LEAD && crowd->asked < CROWD / 2)
        pthread_cond_wait(&crowd->changed, &crowd->lock);
    pthread_mutex_unlock(&crowd->lock);
    if (state == SG_CONTENT_LEAD) {
        atomic_fetch_add(&crowd->builds, 1);
        fill(crowd->c, "seg", "text");
    } else if (state == SG_CONTENT_HIT) {
        crowd_wake(m, SG_OK, buf);
    }
    return NULL;
}

static void a_thousand_wait_for_one_build(void **state)
{
    (void)state;
    static pthread_t threads[CROWD];
    struct crowd crowd = {.c = make(NULL)};
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    pthread_mutex_init(&crowd.lock, NULL);
    pthread_cond_init(&crowd.changed, NULL);
    for (unsigned i = 0; i < CROWD; i++)
        assert_int_equal(pthread_create(&threads[i], &attr, crowd_asks, &crowd), 0);
    for (unsigned i = 0; i < CROWD; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&crowd.builds), 1);
    assert_int_equal(atomic_load(&crowd.answered), CROWD);
    assert_int_equal(atomic_load(&crowd.wrong), 0);
    assert_true(sg_metric_read(SG_METRIC_CACHE_WAITERS, 0) >= CROWD / 2 - 1);
    pthread_attr_destroy(&attr);
    pthread_mutex_destroy(&crowd.lock);
    pthread_cond_destroy(&crowd.changed);
    sg_content_cache_destroy(&crowd.c);
}

#define RACERS 8u
#define ROUNDS 300u

struct race {
    struct sg_content_cache *c;
    pthread_barrier_t start, end;
    atomic_uint builds[ROUNDS], answered;
};

static void race_wake(void *arg, enum sg_error err, struct sg_buf *buf)
{
    struct race *r = arg;
    assert_int_equal(err, SG_OK);
    sg_buf_unref(buf);
    atomic_fetch_add(&r->answered, 1);
}

static void *racer(void *arg)
{
    struct race *r = arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct sg_waiter waiter = {.wake = race_wake, .arg = r};
        struct sg_buf *buf = NULL;
        pthread_barrier_wait(&r->start);
        enum sg_content_state state = sg_content_get(r->c, &i, sizeof i, &waiter, &buf);
        if (state == SG_CONTENT_LEAD) {
            atomic_fetch_add(&r->builds[i], 1);
            struct sg_buf *built = text_buf("x");
            sg_content_fill(r->c, &i, sizeof i, SG_OK, built);
            sg_buf_unref(built);
        } else if (state == SG_CONTENT_HIT) {
            race_wake(r, SG_OK, buf);
        }
        pthread_barrier_wait(
            &r->end); /* every waiter of the round is woken by now: `waiter` may go */
    }
    return NULL;
}

/* Get against fill, again and again: never two builds, never a wakeup lost. */
static void racing_get_and_fill(void **state)
{
    (void)state;
    static struct race r;
    pthread_t threads[RACERS];
    r.c = make(NULL);
    pthread_barrier_init(&r.start, NULL, RACERS);
    pthread_barrier_init(&r.end, NULL, RACERS);
    for (unsigned i = 0; i < RACERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, racer, &r), 0);
    for (unsigned i = 0; i < RACERS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < ROUNDS; i++)
        assert_int_equal(atomic_load(&r.builds[i]), 1);
    assert_int_equal(atomic_load(&r.answered), RACERS * ROUNDS);
    pthread_barrier_destroy(&r.start);
    pthread_barrier_destroy(&r.end);
    sg_content_cache_destroy(&r.c);
}

static void *invalidator(void *arg)
{
    struct race *r = arg;
    for (unsigned i = 0; i < ROUNDS; i++) {
        pthread_barrier_wait(&r->start);
        sg_content_invalidate(r->c, "p/", 2);
        pthread_barrier_wait(&r->end);
    }
    return NULL;
}

/* A build begun before an invalidation is never found in memory after it, however fill and
 * invalidate interleave. */
static void racing_fill_and_invalidate(void **state)
{
    (void)state;
    static struct race r;
    pthread_t thread;
    r.c = make(NULL);
    pthread_barrier_init(&r.start, NULL, 2);
    pthread_barrier_init(&r.end, NULL, 2);
    assert_int_equal(pthread_create(&thread, NULL, invalidator, &r), 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        struct woken w;
        assert_int_equal(ask(r.c, "p/1", &w), SG_CONTENT_LEAD);
        pthread_barrier_wait(&r.start);
        fill(r.c, "p/1", "old");
        pthread_barrier_wait(&r.end);
        assert_buf(w.buf, "old");
        assert_null(sg_content_peek(r.c, "p/1", 3));
    }
    pthread_join(thread, NULL);
    pthread_barrier_destroy(&r.start);
    pthread_barrier_destroy(&r.end);
    sg_content_cache_destroy(&r.c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(one_leads_others_wait, teardown),
        cmocka_unit_test_teardown(failure_reaches_all_and_is_not_kept, teardown),
        cmocka_unit_test_teardown(invalidation_forgets_prefix, teardown),
        cmocka_unit_test_teardown(waking_may_ask_again, teardown),
        cmocka_unit_test_teardown(bounds_follow_settings, teardown),
        cmocka_unit_test_teardown(namespaces_publish_their_lru, teardown),
        cmocka_unit_test_teardown(a_thousand_wait_for_one_build, teardown),
        cmocka_unit_test_teardown(racing_get_and_fill, teardown),
        cmocka_unit_test_teardown(racing_fill_and_invalidate, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
