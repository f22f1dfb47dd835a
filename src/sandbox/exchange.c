/* One call and its answer: waiting, sending, receiving and checking. Nothing here ends a process;
 * the outcome tells whether it must go. */
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "streamgate/base/clock.h"

#include "dispatcher.h"

unsigned sg_dispatcher_wait(struct sg_dispatcher *d, uint64_t deadline_ms)
{
    struct pollfd fds[2] = {
        {.fd = d->wake_fd, .events = POLLIN},
        {.fd = d->process.pid != 0 ? d->process.sock : -1, .events = POLLIN},
    };
    for (;;) {
        int timeout = -1;
        if (deadline_ms != SG_FOREVER) {
            uint64_t now = sg_clock_mono_ms();
            uint64_t left = deadline_ms > now ? deadline_ms - now : 0;
            timeout = left < INT_MAX ? (int)left : INT_MAX;
        }
        int n = poll(fds, SG_ARRAY_LEN(fds), timeout);
        unsigned events = 0;
        if (n > 0) {
            uint64_t count;
            if (fds[0].revents != 0 && read(d->wake_fd, &count, sizeof(count)) > 0)
                events |= SG_EVENT_WAKE;
            if (fds[1].revents != 0)
                events |= SG_EVENT_SOCK;
        }
        if (events != 0)
            return events;
        if (n == 0 && sg_clock_mono_ms() >= deadline_ms)
            return 0;
    }
}

static bool is_stopping(struct sg_dispatcher *d)
{
    (void)pthread_mutex_lock(&d->pool->lock);
    bool stopping = d->pool->stopping;
    (void)pthread_mutex_unlock(&d->pool->lock);
    return stopping;
}

static void lost(struct sg_outcome *o, enum sg_error err, enum sg_media_failure failure)
{
    o->err = err;
    o->lost = true;
    o->failure = failure;
}

/* Maps the body; what a lying process sends costs it its life, what this side lacks does not. */
static void take_body(struct sg_dispatcher *d, int fd, uint64_t body_len, struct sg_outcome *o)
{
    struct sg_buf *body = NULL;
    size_t max = d->pool->max_reply_bytes < SIZE_MAX ? (size_t)d->pool->max_reply_bytes : SIZE_MAX;
    enum sg_error err = sg_buf_create_memfd(fd, max, &body);
    if (err == SG_OK && body->len != body_len) {
        sg_buf_unref(body);
        err = SG_ERR_MEDIA_WORKER;
    }
    if (err == SG_ERR_MEDIA_WORKER)
        lost(o, err, SG_MEDIA_PROTOCOL);
    else if (err != SG_OK)
        o->err = err;
    else
        o->reply.body = body;
}

static void receive_reply(struct sg_dispatcher *d, struct sg_outcome *o)
{
    struct sg_wire_in in;
    struct sg_wire_reply wire;
    enum sg_error err = sg_wire_recv(d->process.sock, d->rx, sizeof(d->rx), false, &in);
    if (err == SG_ERR_NO_DESCRIPTORS || err == SG_ERR_UNAVAILABLE) {
        o->err = err;
        return;
    }
    if (err != SG_OK) {
        lost(o, SG_ERR_MEDIA_WORKER,
             err == SG_ERR_MEDIA_WORKER ? SG_MEDIA_PROTOCOL : SG_MEDIA_CRASH);
        return;
    }
    err = sg_wire_reply_decode(d->rx, in.len, in.n_fds, &wire);
    if (err == SG_OK && wire.seq != d->seq)
        err = SG_ERR_MEDIA_WORKER;
    if (err != SG_OK) {
        lost(o, SG_ERR_MEDIA_WORKER, SG_MEDIA_PROTOCOL);
    } else {
        o->err = SG_OK;
        o->cpu_us = wire.cpu_us;
        o->reply.err = wire.err;
        o->reply.payload = wire.payload;
        o->reply.payload_len = wire.payload_len;
        (void)snprintf(o->reply.message, sizeof(o->reply.message), "%s", wire.message);
        if (wire.has_body)
            take_body(d, in.fd, wire.body_len, o);
    }
    if (in.fd >= 0)
        (void)close(in.fd);
}

static void await_reply(struct sg_dispatcher *d, uint64_t timeout_ms, struct sg_outcome *o)
{
    uint64_t now = sg_clock_mono_ms();
    uint64_t deadline = timeout_ms < SG_FOREVER - now ? now + timeout_ms : SG_FOREVER - 1;
    for (;;) {
        unsigned events = sg_dispatcher_wait(d, deadline);
        if ((events & SG_EVENT_SOCK) != 0) {
            receive_reply(d, o);
            if (o->err != SG_ERR_UNAVAILABLE)
                return;
        } else if (sg_clock_mono_ms() >= deadline) { /* whatever else woke the thread */
            lost(o, SG_ERR_MEDIA_TIMEOUT, SG_MEDIA_TIMED_OUT);
            return;
        }
        if ((events & SG_EVENT_WAKE) != 0 && is_stopping(d)) {
            o->err = SG_ERR_CANCELLED; /* the thread ends the process on its way out */
            return;
        }
    }
}

void sg_dispatcher_exchange(struct sg_dispatcher *d, const struct sg_media_node *node,
                            struct sg_outcome *o)
{
    const struct sg_wire_call_header head = {
        .magic = SG_WIRE_CALL_MAGIC,
        .kind = node != NULL ? SG_WIRE_CALL : SG_WIRE_PING,
        .seq = ++d->seq,
        .op = node != NULL ? node->op : 0,
        .payload_len = node != NULL ? (uint32_t)node->payload_len : 0,
        .n_fds = node != NULL && node->fd >= 0 ? 1 : 0,
    };
    const struct sg_wire_out out = {
        .head = &head,
        .head_len = sizeof(head),
        .tail = node != NULL ? node->payload : NULL,
        .tail_len = head.payload_len,
        .fd = node != NULL ? node->fd : -1,
    };
    enum sg_error err = sg_wire_send(d->process.sock, &out, false);
    if (err != SG_OK) {
        lost(o, err == SG_ERR_CANCELLED ? err : SG_ERR_MEDIA_WORKER, SG_MEDIA_CRASH);
        return;
    }
    d->served++;
    await_reply(d, node != NULL ? node->timeout_ms : d->pool->timeout_ms, o);
}
