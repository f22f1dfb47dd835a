/* Handlers that block and handlers that wait: the connection is suspended and resumed exactly once
 * each time, whichever side of the suspension the wake falls on. */
#include <pthread.h>

#include "loopback_support.h"

#define ROUNDS 4000
#define THREADS 4

static struct loop loop;

static int setup(void **state)
{
    (void)state;
    static const char *const overrides[] = {"ratelimit.enabled=false", NULL};
    loop_open(&loop, overrides, true);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    loop_close(&loop);
    return 0;
}

static void test_block(void **state)
{
    (void)state;
    struct loop_reply r;
    assert_int_equal(loop_get(&loop, "/t/block", &r), 200);
    assert_int_equal(r.suspends, 1);
    assert_int_equal(loop_seen.runs, 2);
    assert_int_equal(loop_seen.blocking_runs, 1);
    loop_reply_free(&r);
    memset(&loop_seen, 0, sizeof loop_seen);
    assert_int_equal(loop_get(&loop, "/t/blocking", &r), 200);
    assert_int_equal(loop_seen.runs, 1);
    loop_reply_free(&r);
}

static void pend(const char *mode, unsigned suspends_min, unsigned suspends_max)
{
    struct loop_reply r;
    const struct loop_request rq = {.method = "GET", .path = "/t/pend", .query = mode};
    loop_send(&loop, &rq, &r);
    assert_int_equal(r.status, 200);
    assert_string_equal(r.body, "woken");
    assert_in_range(r.suspends, suspends_min, suspends_max);
    loop_reply_free(&r);
}

static void test_wake_before(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++)
        pend("before", 0, 0); /* seen before the suspension: none is needed */
}

static void test_wake_races(void **state)
{
    (void)state;
    memset(&loop_seen, 0, sizeof loop_seen);
    for (int i = 0; i < ROUNDS; i++) {
        pend("", 0, 1);
        pend("twice", 0, 2);
        pend("pool", 1, 2);
        pend("block", 1, 2);
    }
    assert_int_equal(loop_seen.frees, 4 * ROUNDS);
    assert_in_range(loop_seen.woken_runs, 5 * ROUNDS, 6 * ROUNDS);
}

static void *racer(void *arg)
{
    (void)arg;
    for (int i = 0; i < ROUNDS / 4; i++) {
        pend("", 0, 1);
        pend("pool", 1, 2);
    }
    return NULL;
}

static void test_many_threads(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, racer, NULL), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

struct gate {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    bool open;
};

static void wait_gate(void *arg)
{
    struct gate *g = arg;
    pthread_mutex_lock(&g->lock);
    while (!g->open)
        pthread_cond_wait(&g->cond, &g->lock);
    pthread_mutex_unlock(&g->lock);
}

/* The pool is full: the request is answered, not lost. */
static void test_pool_refuses(void **state)
{
    (void)state;
    struct loop_reply r;
    struct gate gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false};
    const struct sg_pool_params tiny = {.name = "tiny", .threads = 1, .max_queued = 1};
    struct sg_pool *full = NULL;
    struct sg_pool *pool = loop.svc.blocking;
    assert_int_equal(sg_pool_create(&tiny, &full), SG_OK);
    for (unsigned refused = 0;
         refused < 1000;) /* one runs, one waits; then nothing is taken any more */
        refused = sg_pool_submit(full, wait_gate, &gate) == SG_OK ? 0 : refused + 1;
    loop.svc.blocking = full;
    assert_int_equal(loop_get(&loop, "/t/block", &r), 503);
    loop_reply_free(&r);
    loop.svc.blocking = pool;
    pthread_mutex_lock(&gate.lock);
    gate.open = true;
    pthread_cond_broadcast(&gate.cond);
    pthread_mutex_unlock(&gate.lock);
    sg_pool_destroy(&full);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_block),        cmocka_unit_test(test_wake_before),
        cmocka_unit_test(test_wake_races),   cmocka_unit_test(test_many_threads),
        cmocka_unit_test(test_pool_refuses),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
