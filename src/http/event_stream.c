/* See event_stream.h. The text waits as it goes out. `run` settles the race between a producer and
 * a reader that is about to rest, as the pipeline does it for requests: whoever comes second
 * resumes. The reader's connection cannot go away while it rests, so resume may be called without a
 * lock. */
#include "streamgate/http/event_stream.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/metrics.h"
#include "streamgate/base/str.h"
#include "streamgate/http/response.h"

#include "response_private.h"

#define DEFAULT_MAX_BYTES ((size_t)256 << 10)

enum { RUN_READING, RUN_PARKED, RUN_WOKEN };

struct sg_event_stream {
    _Atomic unsigned refs;
    _Atomic int run;
    struct sg_event_stream_params p; /* constant, like the two below once it is read */
    void (*resume)(void *conn);
    void *conn;
    pthread_mutex_t lock; /* guards all below; leaf */
    struct sg_text text;
    size_t taken; /* of text */
    bool ended, closed, dropped;
};

enum sg_error sg_event_stream_create(const struct sg_event_stream_params *p,
                                     struct sg_event_stream **out)
{
    struct sg_event_stream *s = calloc(1, sizeof(*s));
    if (!s)
        return SG_ERR_NO_MEMORY;
    atomic_init(&s->refs, 1);
    s->p = *p;
    if (s->p.max_bytes == 0)
        s->p.max_bytes = DEFAULT_MAX_BYTES;
    pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return SG_OK;
}

struct sg_event_stream *sg_event_stream_ref(struct sg_event_stream *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

void sg_event_stream_unref(struct sg_event_stream *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    sg_text_free(&s->text);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* Something changed for the reader. */
static void wake(struct sg_event_stream *s)
{
    if (atomic_exchange_explicit(&s->run, RUN_WOKEN, memory_order_acq_rel) == RUN_PARKED)
        s->resume(s->conn);
}

static enum sg_error put(struct sg_event_stream *s, const struct sg_text *line)
{
    enum sg_error err = SG_OK;
    bool drop = false;
    pthread_mutex_lock(&s->lock);
    if (s->ended || s->closed || s->dropped) {
        err = SG_ERR_UNAVAILABLE;
    } else if (s->text.len - s->taken + line->len > s->p.max_bytes) {
        drop = s->dropped = true;
        err = SG_ERR_UNAVAILABLE;
    } else {
        if (s->taken == s->text.len)
            s->taken = s->text.len = 0;
        sg_text_append(&s->text, line->ptr, line->len);
        /* A queue with a hole in it is worth nothing. */
        drop = s->dropped = s->text.failed;
        err = s->text.failed ? SG_ERR_NO_MEMORY : SG_OK;
    }
    pthread_mutex_unlock(&s->lock);
    if (drop)
        sg_metric_add(SG_METRIC_EVENT_STREAMS_DROPPED, 0, 1);
    if (err == SG_OK || drop)
        wake(s);
    return err;
}

enum sg_error sg_event_stream_send(struct sg_event_stream *s, const struct sg_event *e)
{
    struct sg_text line = {0};
    if (e->id > 0)
        sg_text_printf(&line, "id: %" PRIu64 "\n", e->id);
    sg_text_printf(&line, "event: %s\ndata: %s\n\n", e->name, e->data);
    enum sg_error err = line.failed ? SG_ERR_NO_MEMORY : put(s, &line);
    sg_text_free(&line);
    return err;
}

void sg_event_stream_end(struct sg_event_stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->ended = true;
    pthread_mutex_unlock(&s->lock);
    wake(s);
}

void sg_event_stream_beat(struct sg_event_stream *s)
{
    struct sg_text line = {0};
    pthread_mutex_lock(&s->lock);
    bool waits = s->taken < s->text.len;
    pthread_mutex_unlock(&s->lock);
    if (waits)
        return;
    sg_text_puts(&line, ":\n\n");
    enum sg_error err = line.failed ? SG_ERR_NO_MEMORY : put(s, &line);
    (void)err; /* one that has ended needs none */
    sg_text_free(&line);
}

void sg_event_stream_attach(struct sg_event_stream *s, void (*resume)(void *conn), void *conn)
{
    s->resume = resume;
    s->conn = conn;
}

ssize_t sg_event_stream_read(struct sg_event_stream *s, char *out, size_t max)
{
    atomic_store_explicit(&s->run, RUN_READING, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    pthread_mutex_lock(&s->lock);
    size_t n = s->text.len - s->taken;
    n = n < max ? n : max;
    ssize_t out_n = (ssize_t)n;
    if (s->dropped)
        out_n = -2;
    else if (n == 0 && s->ended)
        out_n = -1;
    else if (n > 0)
        memcpy(out, s->text.ptr + s->taken, n);
    s->taken += out_n > 0 ? n : 0;
    pthread_mutex_unlock(&s->lock);
    return out_n;
}

bool sg_event_stream_park(struct sg_event_stream *s)
{
    int reading = RUN_READING;
    return atomic_compare_exchange_strong_explicit(&s->run, &reading, RUN_PARKED,
                                                   memory_order_acq_rel, memory_order_acquire);
}

bool sg_event_stream_dropped(struct sg_event_stream *s)
{
    pthread_mutex_lock(&s->lock);
    bool dropped = s->dropped;
    pthread_mutex_unlock(&s->lock);
    return dropped;
}

void sg_event_stream_close(struct sg_event_stream *s)
{
    pthread_mutex_lock(&s->lock);
    bool first = !s->closed;
    s->closed = true;
    pthread_mutex_unlock(&s->lock);
    if (first && s->p.closed)
        s->p.closed(s->p.arg);
}

void sg_response_events(struct sg_response *res, struct sg_event_stream *s)
{
    response_drop_body(res);
    res->status = 200;
    res->content_type = "text/event-stream";
    res->cache_control = "no-store";
    res->source = SG_SOURCE_EVENTS;
    res->events = s;
}
