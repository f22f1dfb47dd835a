/* The pool: creation, submission with affinity and overflow, readiness, and the end. The threads
 * are in dispatcher.c. */
#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/metrics.h"

#include "dispatcher.h"

#define WORKERS_MAX 4096u
#define TIMEOUT_MAX_MS (UINT64_C(1000) * 60 * 60 * 24 * 365) /* sums of times cannot wrap */

static const char *const default_argv[] = {"streamgate", "media-worker", NULL};

static const char *const failure_labels[SG_MEDIA_FAILURES] = {
    [SG_MEDIA_CRASH] = "reason=\"crash\"",
    [SG_MEDIA_TIMED_OUT] = "reason=\"timeout\"",
    [SG_MEDIA_PROTOCOL] = "reason=\"protocol\"",
};

static enum sg_error define_metrics(struct sg_media_pool *pool)
{
    char labels[32];
    enum sg_error err = SG_OK;
    for (unsigned i = 0; err == SG_OK && i < SG_MEDIA_OPS; i++) {
        (void)snprintf(labels, sizeof(labels), "op=\"%u\"", i);
        err = sg_metric_define(SG_METRIC_MEDIA_WORKER_REQUESTS, labels, &pool->op_series[i]);
    }
    if (err == SG_OK)
        err = sg_metric_define(SG_METRIC_MEDIA_WORKER_REQUESTS, "op=\"other\"",
                               &pool->op_series[SG_MEDIA_OPS]);
    for (unsigned i = 0; err == SG_OK && i < SG_MEDIA_FAILURES; i++)
        err = sg_metric_define(SG_METRIC_MEDIA_WORKER_FAILURES, failure_labels[i],
                               &pool->failure_series[i]);
    return err;
}

static enum sg_error copy_command(struct sg_media_pool *pool, const char *exe,
                                  const char *const *argv)
{
    size_t n = 0;
    if (argv == NULL)
        argv = default_argv;
    while (argv[n] != NULL)
        n++;
    pool->exe = strdup(exe != NULL ? exe : "/proc/self/exe");
    pool->argv = calloc(n + 1, sizeof(*pool->argv));
    if (pool->exe == NULL || pool->argv == NULL)
        return SG_ERR_NO_MEMORY;
    for (size_t i = 0; i < n; i++) {
        pool->argv[i] = strdup(argv[i]);
        if (pool->argv[i] == NULL)
            return SG_ERR_NO_MEMORY;
    }
    return SG_OK;
}

static enum sg_error init_sync(struct sg_media_pool *pool)
{
    pthread_condattr_t attr;
    if (pthread_mutex_init(&pool->lock, NULL) != 0)
        return SG_ERR_NO_MEMORY;
    if (pthread_condattr_init(&attr) != 0) {
        (void)pthread_mutex_destroy(&pool->lock);
        return SG_ERR_NO_MEMORY;
    }
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    int rc = pthread_cond_init(&pool->answered, &attr);
    (void)pthread_condattr_destroy(&attr);
    if (rc != 0) {
        (void)pthread_mutex_destroy(&pool->lock);
        return SG_ERR_NO_MEMORY;
    }
    return SG_OK;
}

/* Threads take no signals: those are for the thread that waits for them. */
static enum sg_error start_threads(struct sg_media_pool *pool)
{
    sigset_t all, old;
    enum sg_error err = SG_OK;
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    for (unsigned i = 0; err == SG_OK && i < pool->n; i++) {
        struct sg_dispatcher *d = &pool->dispatchers[i];
        char name[24];
        d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (d->wake_fd < 0) {
            err = sg_error_from_errno(errno);
        } else if (pthread_create(&d->thread, NULL, sg_dispatcher_main, d) != 0) {
            (void)close(d->wake_fd);
            err = SG_ERR_UNAVAILABLE;
        } else {
            pool->started++;
            (void)snprintf(name, sizeof(name), "media-%u", i);
            (void)pthread_setname_np(d->thread, name);
        }
    }
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    return err;
}

static void free_pool(struct sg_media_pool *pool)
{
    for (size_t i = 0; pool->argv != NULL && pool->argv[i] != NULL; i++)
        free(pool->argv[i]);
    free(pool->argv);
    free(pool->exe);
    free(pool);
}

enum sg_error sg_media_pool_create(const struct sg_media_pool_params *params,
                                   struct sg_media_pool **out)
{
    struct sg_media_pool *pool = NULL;
    enum sg_error err;
    if (params->workers == 0 || params->workers > WORKERS_MAX || params->timeout_ms == 0)
        return SG_ERR_INVALID;
    pool = calloc(1, sizeof(*pool) + params->workers * sizeof(pool->dispatchers[0]));
    if (pool == NULL)
        return SG_ERR_NO_MEMORY;
    pool->memory_bytes = params->memory_bytes;
    pool->max_reply_bytes = params->max_reply_bytes;
    pool->timeout_ms = params->timeout_ms;
    pool->n = params->workers;
    for (unsigned i = 0; i < pool->n; i++) {
        pool->dispatchers[i].pool = pool;
        pool->dispatchers[i].number = i;
        pool->dispatchers[i].process.sock = -1;
    }
    err = copy_command(pool, params->exe, params->argv);
    if (err == SG_OK)
        err = define_metrics(pool);
    if (err == SG_OK)
        err = init_sync(pool);
    if (err != SG_OK) {
        free_pool(pool);
        return err;
    }
    err = start_threads(pool);
    if (err != SG_OK) {
        sg_media_pool_destroy(&pool);
        return err;
    }
    *out = pool;
    return SG_OK;
}

void sg_media_pool_destroy(struct sg_media_pool **pool)
{
    struct sg_media_pool *p = *pool;
    if (p == NULL)
        return;
    *pool = NULL;
    (void)pthread_mutex_lock(&p->lock);
    p->stopping = true;
    (void)pthread_cond_broadcast(&p->answered);
    (void)pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->started; i++)
        sg_dispatcher_wake(&p->dispatchers[i]);
    for (unsigned i = 0; i < p->started; i++)
        (void)pthread_join(p->dispatchers[i].thread, NULL);
    (void)pthread_mutex_lock(&p->lock);
    while (p->checkers > 0)
        (void)pthread_cond_wait(&p->answered, &p->lock);
    (void)pthread_mutex_unlock(&p->lock);
    for (unsigned i = 0; i < p->started; i++)
        (void)close(p->dispatchers[i].wake_fd);
    (void)pthread_cond_destroy(&p->answered);
    (void)pthread_mutex_destroy(&p->lock);
    free_pool(p);
}

static enum sg_error make_node(const struct sg_media_pool *pool, const struct sg_media_call *call,
                               struct sg_media_node **out)
{
    if (call->payload_len > SG_MEDIA_PAYLOAD_MAX)
        return SG_ERR_INVALID;
    uint64_t timeout_ms = call->timeout_ms != 0 ? call->timeout_ms : pool->timeout_ms;
    struct sg_media_node *node = malloc(sizeof(*node) + call->payload_len);
    if (node == NULL)
        return SG_ERR_NO_MEMORY;
    *node = (struct sg_media_node){
        .op = call->op,
        .fd = -1,
        .timeout_ms = timeout_ms < TIMEOUT_MAX_MS ? timeout_ms : TIMEOUT_MAX_MS,
        .queued_ms = sg_clock_mono_ms(),
        .done = call->done,
        .arg = call->arg,
        .payload_len = call->payload_len,
    };
    if (call->payload_len > 0)
        memcpy(node->payload, call->payload, call->payload_len);
    if (call->fd >= 0) {
        enum sg_error err = sg_process_source(call->fd, &node->fd);
        if (err != SG_OK) {
            free(node);
            return err;
        }
    }
    *out = node;
    return SG_OK;
}

/* The process the affinity names when it is free, also while the callback of its last call still
 * runs: a caller that goes on from there should find its file open. Else another idle one; when the
 * one named is down, the ready one with the least to do. pool->lock is held. */
static struct sg_dispatcher *choose(struct sg_media_pool *pool, uint64_t affinity)
{
    unsigned first = (unsigned)(affinity % pool->n);
    struct sg_dispatcher *preferred = &pool->dispatchers[first];
    struct sg_dispatcher *least = NULL;
    if (preferred->idle || (preferred->ready && !preferred->busy && preferred->queued == 0))
        return preferred;
    for (unsigned i = 1; i < pool->n; i++) {
        struct sg_dispatcher *d = &pool->dispatchers[(first + i) % pool->n];
        if (d->idle)
            return d;
        if (d->ready && (least == NULL || d->queued < least->queued))
            least = d;
    }
    return preferred->ready || least == NULL ? preferred : least;
}

enum sg_error sg_media_pool_submit(struct sg_media_pool *pool, const struct sg_media_call *call)
{
    struct sg_media_node *node = NULL;
    bool wake = false;
    enum sg_error err = make_node(pool, call, &node);
    if (err != SG_OK)
        return err;
    (void)pthread_mutex_lock(&pool->lock);
    struct sg_dispatcher *d = choose(pool, call->affinity);
    if (pool->stopping || d->queued >= SG_MEDIA_QUEUE_MAX) {
        err = SG_ERR_UNAVAILABLE;
    } else {
        /* One without a process waits for the earliest deadline in its queue, which this call may
         * change. */
        wake = d->idle || !d->ready;
        d->idle = false;
        sg_dispatcher_push(d, node);
    }
    (void)pthread_mutex_unlock(&pool->lock);
    if (err != SG_OK)
        sg_media_node_free(node);
    else if (wake)
        sg_dispatcher_wake(d);
    return err;
}

static struct timespec deadline_after(uint64_t ms)
{
    struct timespec t;
    const uint64_t max_ms = UINT64_C(1000) * 60 * 60 * 24;
    if (ms > max_ms)
        ms = max_ms;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += (time_t)(ms / 1000);
    t.tv_nsec += (long)(ms % 1000) * 1000000L;
    if (t.tv_nsec >= 1000000000L) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000L;
    }
    return t;
}

/* An answer to a call is as good as one to a ping: processes that are all busy with regular work
 * are no failure. */
enum sg_error sg_media_pool_check(struct sg_media_pool *pool, uint64_t timeout_ms)
{
    const struct timespec deadline = deadline_after(timeout_ms);
    (void)pthread_mutex_lock(&pool->lock);
    uint64_t before = pool->answers;
    pool->checkers++;
    for (unsigned i = 0; i < pool->n; i++)
        pool->dispatchers[i].ping = true;
    (void)pthread_mutex_unlock(&pool->lock);

    for (unsigned i = 0; i < pool->n; i++)
        sg_dispatcher_wake(&pool->dispatchers[i]);

    int rc = 0;
    (void)pthread_mutex_lock(&pool->lock);
    while (pool->answers == before && !pool->stopping && rc == 0)
        rc = pthread_cond_timedwait(&pool->answered, &pool->lock, &deadline);
    enum sg_error err = pool->answers != before ? SG_OK : SG_ERR_UNAVAILABLE;
    pool->checkers--;
    if (pool->stopping)
        (void)pthread_cond_broadcast(&pool->answered);
    (void)pthread_mutex_unlock(&pool->lock);
    return err;
}

unsigned sg_media_pool_alive(struct sg_media_pool *pool)
{
    unsigned alive = 0;
    (void)pthread_mutex_lock(&pool->lock);
    for (unsigned i = 0; i < pool->n; i++)
        alive += pool->dispatchers[i].ready ? 1 : 0;
    (void)pthread_mutex_unlock(&pool->lock);
    return alive;
}
