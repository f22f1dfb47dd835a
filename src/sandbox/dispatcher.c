/* The dispatcher thread: starts its process, waits for it to be ready, hands it one call at a time
 * and replaces it when it dies, lies, hangs or has used much CPU. It sleeps in poll only, on the
 * socket, its eventfd and a deadline, so a death between calls is noticed at once and stopping
 * never waits for a call. Every call taken from a queue is answered exactly once. */
#include "dispatcher.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"

#define START_TIMEOUT_MS 10000u /* exec, libraries, sandbox */
#define BACKOFF_FIRST_MS 50u
#define BACKOFF_MAX_MS 5000u
#define SETTLED_MS 1000u /* a process that lived this long started well */
#define TRIES_MAX 3u
/* RLIMIT_CPU of a process, the last resort against one that escapes its deadlines; it is retired
 * after half of it. */
#define CPU_SECONDS 3600u
#define CPU_RETIRE_US (CPU_SECONDS / 2 * UINT64_C(1000000))
/* The largest media.open_contexts, and as many again for what a call opens on the way. */
#define OPEN_FILES 8192u

enum work { WORK_STOP, WORK_NONE, WORK_PING, WORK_CALL };

static const char *const failure_names[] = {
    [SG_MEDIA_CRASH] = "ended",
    [SG_MEDIA_TIMED_OUT] = "took too long",
    [SG_MEDIA_PROTOCOL] = "broke the protocol",
};

void sg_dispatcher_wake(struct sg_dispatcher *d)
{
    uint64_t one = 1;
    /* Fails only when the counter is full, and then the reader wakes all the same. */
    ssize_t n = write(d->wake_fd, &one, sizeof(one));
    (void)n;
}

void sg_dispatcher_push(struct sg_dispatcher *d, struct sg_media_node *node)
{
    node->next = NULL;
    if (d->tail != NULL)
        d->tail->next = node;
    else
        d->head = node;
    d->tail = node;
    d->queued++;
}

void sg_dispatcher_push_front(struct sg_dispatcher *d, struct sg_media_node *node)
{
    node->next = d->head;
    d->head = node;
    if (d->tail == NULL)
        d->tail = node;
    d->queued++;
}

struct sg_media_node *sg_dispatcher_pop(struct sg_dispatcher *d)
{
    struct sg_media_node *node = d->head;
    if (node == NULL)
        return NULL;
    d->head = node->next;
    if (d->head == NULL)
        d->tail = NULL;
    d->queued--;
    return node;
}

void sg_media_node_free(struct sg_media_node *node)
{
    if (node->fd >= 0)
        (void)close(node->fd);
    free(node);
}

static void finish(struct sg_media_node *node, const struct sg_media_reply *reply)
{
    node->done(node->arg, reply);
    sg_media_node_free(node);
}

static void finish_error(struct sg_media_node *node, enum sg_error err, const char *why)
{
    struct sg_media_reply reply = {.err = err};
    (void)snprintf(reply.message, sizeof(reply.message), "%s", why);
    finish(node, &reply);
}

static void set_ready(struct sg_dispatcher *d, bool ready)
{
    if (d->is_ready == ready)
        return;
    d->is_ready = ready;
    sg_metric_gauge_add(SG_METRIC_MEDIA_WORKERS, 0, ready ? 1 : -1);
    (void)pthread_mutex_lock(&d->pool->lock);
    d->ready = ready;
    d->idle = false;
    (void)pthread_mutex_unlock(&d->pool->lock);
}

/* ---- the process ---- */

static void delay_next_start(struct sg_dispatcher *d)
{
    if (d->backoff_ms == 0)
        d->backoff_ms = BACKOFF_FIRST_MS;
    else
        d->backoff_ms = d->backoff_ms < BACKOFF_MAX_MS / 2 ? d->backoff_ms * 2 : BACKOFF_MAX_MS;
    d->next_start_ms = sg_clock_mono_ms() + d->backoff_ms;
}

static enum sg_error send_hello(struct sg_dispatcher *d)
{
    const struct sg_wire_hello hello = {
        .magic = SG_WIRE_HELLO_MAGIC,
        .version = SG_WIRE_VERSION,
        .memory_bytes = d->pool->memory_bytes,
        .cpu_seconds = CPU_SECONDS,
        .file_bytes = d->pool->max_reply_bytes,
        .open_files = OPEN_FILES,
    };
    const struct sg_wire_out out = {.head = &hello, .head_len = sizeof(hello), .fd = -1};
    return sg_wire_send(d->process.sock, &out, false);
}

/* Starts a process unless its time has not come. It gets ready while the thread does something
 * else. */
static void start_process(struct sg_dispatcher *d)
{
    char how[SG_PROCESS_END_SIZE];
    uint64_t now = sg_clock_mono_ms();
    if (d->process.pid != 0 || now < d->next_start_ms)
        return;
    enum sg_error err = sg_process_start(d->pool->exe, d->pool->argv, &d->process);
    if (err == SG_OK) {
        err = send_hello(d);
        if (err != SG_OK)
            sg_process_stop(&d->process, how);
    }
    if (err != SG_OK) {
        delay_next_start(d);
        sg_warn_log("media", "process %u does not start: %s; next try in %llu ms", d->number,
                    sg_error_title(err), (unsigned long long)d->backoff_ms);
        return;
    }
    if (d->starts++ > 0)
        sg_metric_add(SG_METRIC_MEDIA_WORKER_RESTARTS, 0, 1);
    d->started_ms = now;
    d->served = 0;
}

/* Ends the process for what it did and starts the next one, at once or when its time comes. */
static void lose_process(struct sg_dispatcher *d, enum sg_media_failure failure)
{
    char how[SG_PROCESS_END_SIZE];
    bool at_once =
        !d->is_ready || (d->served == 0 && sg_clock_mono_ms() - d->started_ms < SETTLED_MS);
    set_ready(d, false);
    sg_process_stop(&d->process, how);
    if (at_once)
        delay_next_start(d);
    sg_warn_log("media", "process %u %s (%s) after %llu calls", d->number, failure_names[failure],
                how, (unsigned long long)d->served);
    start_process(d);
}

static void retire_process(struct sg_dispatcher *d)
{
    char how[SG_PROCESS_END_SIZE];
    set_ready(d, false);
    sg_process_stop(&d->process, how);
    sg_info_log("media", "process %u is replaced: it used its share of CPU time", d->number);
    start_process(d);
}

/* Answers what has waited longer than a call may take while there is no process to take it; returns
 * when the next one is due. */
static uint64_t expire_waiting(struct sg_dispatcher *d)
{
    struct sg_media_node *expired = NULL;
    uint64_t next = SG_FOREVER;
    uint64_t now = sg_clock_mono_ms();
    (void)pthread_mutex_lock(&d->pool->lock);
    struct sg_media_node **link = &d->head;
    d->tail = NULL;
    while (*link != NULL) {
        struct sg_media_node *node = *link;
        uint64_t due = node->queued_ms + node->timeout_ms;
        if (due <= now) {
            *link = node->next;
            d->queued--;
            node->next = expired;
            expired = node;
            continue;
        }
        next = due < next ? due : next;
        d->tail = node;
        link = &node->next;
    }
    (void)pthread_mutex_unlock(&d->pool->lock);
    while (expired != NULL) {
        struct sg_media_node *node = expired;
        expired = node->next;
        /* Says nothing about the file. */
        finish_error(node, SG_ERR_UNAVAILABLE, "The media process does not start");
    }
    return next;
}

/* The first reply of a process that was just started. */
static void receive_ready(struct sg_dispatcher *d)
{
    struct sg_wire_in in;
    struct sg_wire_reply reply;
    enum sg_error err = sg_wire_recv(d->process.sock, d->rx, sizeof(d->rx), false, &in);
    if (err == SG_ERR_UNAVAILABLE)
        return;
    if (err == SG_OK) {
        err = sg_wire_reply_decode(d->rx, in.len, in.n_fds, &reply);
        if (in.fd >= 0)
            (void)close(in.fd);
        if (err == SG_OK && (reply.err != SG_OK || reply.seq != 0 || reply.has_body))
            err = SG_ERR_MEDIA_WORKER;
    }
    if (err == SG_OK)
        set_ready(d, true);
    else
        lose_process(d, err == SG_ERR_MEDIA_WORKER ? SG_MEDIA_PROTOCOL : SG_MEDIA_CRASH);
}

/* One step towards a process that is ready. */
static void prepare_process(struct sg_dispatcher *d)
{
    uint64_t due = expire_waiting(d);
    if (d->process.pid == 0) {
        start_process(d);
        if (d->process.pid == 0) {
            (void)sg_dispatcher_wait(d, due < d->next_start_ms ? due : d->next_start_ms);
            return;
        }
    }
    uint64_t deadline = d->started_ms + START_TIMEOUT_MS;
    unsigned events = sg_dispatcher_wait(d, due < deadline ? due : deadline);
    if ((events & SG_EVENT_SOCK) != 0)
        receive_ready(d);
    else if (sg_clock_mono_ms() >= deadline) /* whatever else woke the thread */
        lose_process(d, SG_MEDIA_TIMED_OUT);
}

/* ---- calls ---- */

/* The process is free again, and known to live when it answered. */
static void end_exchange(struct sg_dispatcher *d, bool answered)
{
    (void)pthread_mutex_lock(&d->pool->lock);
    d->busy = false;
    if (answered) {
        d->pool->answers++;
        if (d->pool->checkers > 0)
            (void)pthread_cond_broadcast(&d->pool->answered);
    }
    (void)pthread_mutex_unlock(&d->pool->lock);
}

/* Puts back a call that never reached a process; false when it has been tried often enough. */
static bool requeue(struct sg_dispatcher *d, struct sg_media_node *node)
{
    if (++node->tries >= TRIES_MAX)
        return false;
    (void)pthread_mutex_lock(&d->pool->lock);
    sg_dispatcher_push_front(d, node);
    (void)pthread_mutex_unlock(&d->pool->lock);
    return true;
}

/* Answers the call. The next process starts before the callback runs, so that both go on side by
 * side. */
static void conclude(struct sg_dispatcher *d, struct sg_media_node *node, struct sg_outcome *o)
{
    if (o->lost) {
        if (node != NULL && o->err != SG_ERR_CANCELLED)
            sg_metric_add(SG_METRIC_MEDIA_WORKER_FAILURES, d->pool->failure_series[o->failure], 1);
        lose_process(d, o->failure);
    } else if (o->err != SG_ERR_CANCELLED) {
        d->backoff_ms = 0;
        if (o->cpu_us >= CPU_RETIRE_US)
            retire_process(d);
    }
    end_exchange(d, o->err == SG_OK);
    if (node == NULL)
        return;
    switch (o->err) {
    case SG_OK:
        finish(node, &o->reply);
        break;
    case SG_ERR_CANCELLED:
        if (o->lost && requeue(d, node))
            break;
        if (o->lost) /* it never reached one */
            finish_error(node, SG_ERR_UNAVAILABLE, "The media process failed");
        else
            finish_error(node, SG_ERR_CANCELLED, "The server is stopping");
        break;
    case SG_ERR_MEDIA_TIMEOUT:
        finish_error(node, o->err, "The media process took too long");
        break;
    case SG_ERR_MEDIA_WORKER:
        finish_error(node, o->err, "The media process failed");
        break;
    default:
        finish_error(node, o->err, "The answer of the media process could not be taken");
        break;
    }
}

static void run_call(struct sg_dispatcher *d, struct sg_media_node *node)
{
    struct sg_outcome o = {.err = SG_OK};
    if (node != NULL && node->tries == 0) {
        uint32_t op = node->op < SG_MEDIA_OPS ? node->op : SG_MEDIA_OPS;
        sg_metric_add(SG_METRIC_MEDIA_WORKER_REQUESTS, d->pool->op_series[op], 1);
    }
    sg_dispatcher_exchange(d, node, &o);
    struct sg_buf *body = o.reply.body;
    conclude(d, node, &o);
    sg_buf_unref(body);
}

/* How many queued calls are for others to take: one that is free keeps the first for itself, its
 * file may be open there. */
static size_t spare_calls(const struct sg_dispatcher *d)
{
    bool takes_one = d->ready && !d->busy && d->queued > 0;
    return d->queued - (takes_one ? 1 : 0);
}

/* From the thread's own queue first, then from the one with the most to spare. pool->lock is held.
 */
static struct sg_media_node *take_node(struct sg_dispatcher *d)
{
    struct sg_dispatcher *from = NULL;
    if (d->queued > 0)
        return sg_dispatcher_pop(d);
    for (unsigned i = 0; i < d->pool->n; i++) {
        struct sg_dispatcher *other = &d->pool->dispatchers[i];
        if (spare_calls(other) > (from != NULL ? spare_calls(from) : 0))
            from = other;
    }
    return from != NULL ? sg_dispatcher_pop(from) : NULL;
}

static enum work take_work(struct sg_dispatcher *d, struct sg_media_node **out)
{
    enum work work = WORK_NONE;
    (void)pthread_mutex_lock(&d->pool->lock);
    d->idle = false;
    if (d->pool->stopping) {
        work = WORK_STOP;
    } else if (d->is_ready && d->ping) {
        d->ping = false;
        work = WORK_PING;
    } else if (d->is_ready) {
        *out = take_node(d);
        work = *out != NULL ? WORK_CALL : WORK_NONE;
        d->idle = *out == NULL;
        d->busy = *out != NULL;
    }
    (void)pthread_mutex_unlock(&d->pool->lock);
    return work;
}

static void cancel_queue(struct sg_dispatcher *d)
{
    for (;;) {
        (void)pthread_mutex_lock(&d->pool->lock);
        struct sg_media_node *node = sg_dispatcher_pop(d);
        (void)pthread_mutex_unlock(&d->pool->lock);
        if (node == NULL)
            return;
        finish_error(node, SG_ERR_CANCELLED, "The server is stopping");
    }
}

void *sg_dispatcher_main(void *dispatcher)
{
    struct sg_dispatcher *d = dispatcher;
    char how[SG_PROCESS_END_SIZE];
    enum work work;
    do {
        struct sg_media_node *node = NULL;
        work = take_work(d, &node);
        if (work == WORK_PING || work == WORK_CALL)
            run_call(d, node);
        else if (work == WORK_NONE && !d->is_ready)
            prepare_process(d);
        else if (work == WORK_NONE && (sg_dispatcher_wait(d, SG_FOREVER) & SG_EVENT_SOCK) != 0)
            lose_process(d, SG_MEDIA_CRASH); /* it died, or spoke without being asked */
    } while (work != WORK_STOP);
    set_ready(d, false);
    sg_process_stop(&d->process, how);
    cancel_queue(d);
    return NULL;
}
