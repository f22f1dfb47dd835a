/* The daemon's half of pool_support.h. */
#include "pool_support.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"
#include "streamgate/base/str.h"

/* For what the pool has no event: spinning would take the CPU from the very processes waited for.
 */
void pause_briefly(void)
{
    (void)poll(NULL, 0, 2);
}

struct sg_media_pool *make_pool(unsigned workers, bool raw, uint64_t timeout_ms)
{
    const char *const argv[] = {"unit", raw ? "media-worker-raw" : "media-worker-test", NULL};
    const struct sg_media_pool_params params = {
        .workers = workers,
        .argv = argv,
        .memory_bytes = TEST_MEMORY,
        .max_reply_bytes = TEST_MAX_REPLY,
        .timeout_ms = timeout_ms,
    };
    struct sg_media_pool *pool = NULL;
    assert_int_equal(sg_media_pool_create(&params, &pool), SG_OK);
    return pool;
}

void waiter_init(struct waiter *w)
{
    memset(w, 0, sizeof(*w));
    assert_int_equal(pthread_mutex_init(&w->lock, NULL), 0);
    assert_int_equal(pthread_cond_init(&w->done, NULL), 0);
}

void waiter_free(struct waiter *w)
{
    result_free(&w->result);
    (void)pthread_cond_destroy(&w->done);
    (void)pthread_mutex_destroy(&w->lock);
}

void waiter_done(void *arg, const struct sg_media_reply *reply)
{
    struct waiter *w = arg;
    (void)pthread_mutex_lock(&w->lock);
    w->result.err = reply->err;
    memcpy(w->result.message, reply->message, sizeof(w->result.message));
    w->result.payload_len = reply->payload_len;
    if (reply->payload_len > 0)
        memcpy(w->result.payload, reply->payload, reply->payload_len);
    w->result.body = reply->body != NULL ? sg_buf_ref(reply->body) : NULL;
    w->result.times++;
    (void)pthread_cond_broadcast(&w->done);
    (void)pthread_mutex_unlock(&w->lock);
}

void waiter_wait(struct waiter *w)
{
    (void)pthread_mutex_lock(&w->lock);
    while (w->result.times == 0)
        (void)pthread_cond_wait(&w->done, &w->lock);
    (void)pthread_mutex_unlock(&w->lock);
}

enum sg_error submit(struct sg_media_pool *pool, const struct request *rq, struct waiter *w)
{
    const struct sg_media_call c = {
        .op = rq->op,
        .payload = rq->payload,
        .payload_len = rq->payload_len,
        .fd = rq->fd > 0 ? rq->fd : -1,
        .affinity = rq->affinity,
        .timeout_ms = rq->timeout_ms,
        .done = waiter_done,
        .arg = w,
    };
    return sg_media_pool_submit(pool, &c);
}

struct result call(struct sg_media_pool *pool, const struct request *rq)
{
    struct waiter w;
    waiter_init(&w);
    assert_int_equal(submit(pool, rq, &w), SG_OK);
    waiter_wait(&w);
    struct result r = w.result;
    w.result.body = NULL;
    waiter_free(&w);
    assert_int_equal(r.times, 1);
    return r;
}

void result_free(struct result *r)
{
    sg_buf_unref(r->body);
    r->body = NULL;
}

uint32_t result_u32(const struct result *r)
{
    uint32_t v;
    assert_int_equal(r->err, SG_OK);
    assert_int_equal(r->payload_len, sizeof(v));
    memcpy(&v, r->payload, sizeof(v));
    return v;
}

uint64_t result_u64(const struct result *r)
{
    uint64_t v;
    assert_int_equal(r->err, SG_OK);
    assert_int_equal(r->payload_len, sizeof(v));
    memcpy(&v, r->payload, sizeof(v));
    return v;
}

unsigned count_fds(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    (void)closedir(dir);
    return n;
}

unsigned trials(unsigned def)
{
    const char *text = getenv("SG_TEST_TRIALS");
    uint64_t n = def;
    if (text != NULL)
        assert_int_equal(sg_str_to_u64(text, strlen(text), 1000000, &n), SG_OK);
    return (unsigned)n;
}

static void discard(void *arg, const char *line)
{
    (void)arg;
    (void)line;
}

double failures(const char *reason)
{
    uint32_t series;
    assert_int_equal(sg_metric_define(SG_METRIC_MEDIA_WORKER_FAILURES, reason, &series), SG_OK);
    return sg_metric_read(SG_METRIC_MEDIA_WORKER_FAILURES, series);
}

double started(uint32_t op)
{
    char labels[16];
    uint32_t series;
    (void)snprintf(labels, sizeof(labels), "op=\"%u\"", op);
    assert_int_equal(sg_metric_define(SG_METRIC_MEDIA_WORKER_REQUESTS, labels, &series), SG_OK);
    return sg_metric_read(SG_METRIC_MEDIA_WORKER_REQUESTS, series);
}

void wait_started(uint32_t op, double before)
{
    uint64_t deadline = sg_clock_mono_ms() + 20000;
    while (started(op) <= before) {
        assert_true(sg_clock_mono_ms() < deadline);
        pause_briefly();
    }
}

struct result call_op(struct sg_media_pool *pool, uint32_t op)
{
    const struct request rq = {.op = op};
    return call(pool, &rq);
}

void assert_echo(struct sg_media_pool *pool)
{
    const struct request rq = {.op = OP_ECHO, .payload = "hello", .payload_len = 5};
    struct result r = call(pool, &rq);
    assert_int_equal(r.err, SG_OK);
    assert_int_equal(r.payload_len, 5);
    assert_memory_equal(r.payload, "hello", 5);
    assert_null(r.body);
}

void wait_alive(struct sg_media_pool *pool, unsigned n)
{
    uint64_t deadline = sg_clock_mono_ms() + 20000;
    while (sg_media_pool_alive(pool) != n) {
        assert_true(sg_clock_mono_ms() < deadline);
        pause_briefly();
    }
}

uint32_t pid_of(struct sg_media_pool *pool, uint64_t affinity)
{
    const struct request rq = {.op = OP_PID, .affinity = affinity};
    struct result r = call(pool, &rq);
    return result_u32(&r);
}

static unsigned fds_at_start;

int pool_group_setup(void **state)
{
    (void)state;
    if (getenv("SG_TEST_LOG") == NULL)
        sg_log_test_sink(discard, NULL);
    (void)failures(REASON_CRASH); /* makes the series before there is a second thread */
    (void)failures(REASON_TIMEOUT);
    (void)failures(REASON_PROTOCOL);
    fds_at_start = count_fds();
    return 0;
}

int pool_group_teardown(void **state)
{
    (void)state;
    return count_fds() == fds_at_start ? 0 : -1;
}
