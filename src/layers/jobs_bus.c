/* Events of jobs: a ring of the latest ones, and one thread that hands them to subscribers in
 * order.
 *
 * Invariants: only the bus thread touches `subs` and calls subscribers, so each hears events in the
 * order of their numbers; a new subscriber waits in `fresh` until the thread has given it what it
 * missed. When events were overwritten before they were handed out, every subscriber is let go:
 * whoever comes back says what he saw last. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/clock.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"

#include "jobs_private.h"

#define SUBSCRIBERS_MAX 4096
#define SEQ_PER_MS 1000 /* numbers begin at the wall clock's, so they grow over restarts */

struct event {
    _Atomic unsigned refs;
    uint64_t seq;
    char job_id[SG_ULID_SIZE];
    const char *name;
    bool final;
    char *data;
};

struct sg_job_sub {
    _Atomic unsigned refs; /* the bus's and the subscriber's */
    _Atomic bool dead;
    char job_id[SG_ULID_SIZE]; /* "": all */
    struct sg_job_sub_params p;
    struct sg_job_sub *next;
};

struct jobs_bus {
    pthread_t thread;
    bool started;
    struct sg_job_sub *subs; /* the bus thread's own */

    pthread_mutex_t lock; /* guards all below; leaf */
    pthread_cond_t news;
    struct event **ring; /* by seq % kept */
    size_t kept;
    uint64_t first, last, delivered; /* first: number of the oldest in the ring */
    struct sg_job_sub *fresh;
    unsigned n_subs;
    bool stopping, someone_left;
};

static void event_unref(struct event *e)
{
    if (e && atomic_fetch_sub_explicit(&e->refs, 1, memory_order_acq_rel) == 1) {
        free(e->data);
        free(e);
    }
}

static struct event *event_ref(struct event *e)
{
    atomic_fetch_add_explicit(&e->refs, 1, memory_order_relaxed);
    return e;
}

static void sub_unref(struct sg_job_sub *s)
{
    if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
        free(s);
}

enum sg_error jobs_bus_create(size_t kept, struct jobs_bus **out)
{
    struct jobs_bus *b = calloc(1, sizeof(*b));
    if (b)
        b->ring = calloc(kept, sizeof(*b->ring));
    if (!b || !b->ring) {
        free(b);
        return SG_ERR_NO_MEMORY;
    }
    b->kept = kept;
    b->last = b->delivered = sg_clock_wall_ms() * SEQ_PER_MS;
    b->first = b->last + 1;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->news, NULL);
    *out = b;
    return SG_OK;
}

void jobs_bus_publish(struct jobs_bus *b, const char *job_id, const char *name, bool final,
                      char *data)
{
    struct event *e = data ? calloc(1, sizeof(*e)) : NULL;
    if (!e) {
        free(data);
        return;
    }
    atomic_init(&e->refs, 1);
    memcpy(e->job_id, job_id, strnlen(job_id, SG_ULID_SIZE - 1));
    e->name = name;
    e->final = final;
    e->data = data;
    pthread_mutex_lock(&b->lock);
    e->seq = ++b->last;
    struct event *old = b->ring[e->seq % b->kept];
    b->ring[e->seq % b->kept] = e;
    if (e->seq - b->first >= b->kept)
        b->first = e->seq - b->kept + 1;
    pthread_cond_signal(&b->news);
    pthread_mutex_unlock(&b->lock);
    event_unref(old);
}

uint64_t jobs_bus_last(struct jobs_bus *b)
{
    pthread_mutex_lock(&b->lock);
    uint64_t last = b->last;
    pthread_mutex_unlock(&b->lock);
    return last;
}

bool jobs_bus_keeps_since(struct jobs_bus *b, uint64_t seq)
{
    pthread_mutex_lock(&b->lock);
    bool keeps = seq + 1 >= b->first && seq <= b->last;
    pthread_mutex_unlock(&b->lock);
    return keeps;
}

bool jobs_bus_has_since(struct jobs_bus *b, const char *id, uint64_t seq)
{
    bool has = false;
    pthread_mutex_lock(&b->lock);
    for (uint64_t at = b->last; !has && at > seq && at >= b->first; at--)
        has = strcmp(b->ring[at % b->kept]->job_id, id) == 0;
    pthread_mutex_unlock(&b->lock);
    return has;
}

/* ---- subscribers ---- */

enum sg_error jobs_bus_subscribe(struct jobs_bus *b, const struct sg_job_sub_params *p,
                                 struct sg_job_sub **out)
{
    struct sg_job_sub *s = calloc(1, sizeof(*s));
    if (!s)
        return SG_ERR_NO_MEMORY;
    atomic_init(&s->refs, 2);
    s->p = *p;
    if (p->job_id)
        memcpy(s->job_id, p->job_id, strnlen(p->job_id, SG_ULID_SIZE - 1));
    s->p.job_id = NULL;
    pthread_mutex_lock(&b->lock);
    bool room = !b->stopping && b->n_subs < SUBSCRIBERS_MAX;
    if (room) {
        *out = s; /* before the thread may let it go */
        b->n_subs++;
        s->next = b->fresh;
        b->fresh = s;
        pthread_cond_signal(&b->news);
    }
    pthread_mutex_unlock(&b->lock);
    if (!room) {
        free(s);
        return SG_ERR_UNAVAILABLE;
    }
    if (p->job_id) /* who hears of all jobs is no stream but a part of the daemon */
        sg_metric_gauge_add(SG_METRIC_WORKER_SUBSCRIBERS, 0, 1);
    return SG_OK;
}

void jobs_bus_unsubscribe(struct jobs_bus *b, struct sg_job_sub **sub)
{
    struct sg_job_sub *s = *sub;
    if (!s)
        return;
    *sub = NULL;
    atomic_store(&s->dead, true);
    pthread_mutex_lock(&b->lock);
    b->someone_left = true;
    pthread_cond_signal(&b->news);
    pthread_mutex_unlock(&b->lock);
    sub_unref(s);
}

static void let_go(struct jobs_bus *b, struct sg_job_sub *s)
{
    bool stream = s->job_id[0] != '\0';
    s->p.gone(s->p.arg);
    sub_unref(s);
    if (stream)
        sg_metric_gauge_add(SG_METRIC_WORKER_SUBSCRIBERS, 0, -1);
    pthread_mutex_lock(&b->lock);
    b->n_subs--;
    pthread_mutex_unlock(&b->lock);
}

static bool hand_over(struct sg_job_sub *s, const struct event *e)
{
    if (atomic_load(&s->dead))
        return false;
    if (s->job_id[0] != '\0' && strcmp(s->job_id, e->job_id) != 0)
        return true;
    const struct sg_job_event event = {e->seq, e->job_id, e->name, e->data, e->final};
    return s->p.event(s->p.arg, &event);
}

/* Lets those go whom `e` (NULL: nothing) was the last for. */
static void tell_all(struct jobs_bus *b, const struct event *e)
{
    for (struct sg_job_sub **at = &b->subs; *at;) {
        struct sg_job_sub *s = *at;
        if (e ? hand_over(s, e) : !atomic_load(&s->dead)) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        let_go(b, s);
    }
}

/* What is kept of the events after `after`, up to `until`. The caller's references; NULL: none. */
static struct event **missed(struct jobs_bus *b, uint64_t after, uint64_t until, size_t *n)
{
    *n = 0;
    uint64_t from = after + 1 > b->first ? after + 1 : b->first;
    if (from > until)
        return NULL;
    struct event **events = calloc((size_t)(until - from + 1), sizeof(*events));
    for (uint64_t seq = from; events && seq <= until; seq++)
        events[(*n)++] = event_ref(b->ring[seq % b->kept]);
    return events;
}

/* Called under the lock, which it lets go of meanwhile. */
static void welcome(struct jobs_bus *b)
{
    struct sg_job_sub *s = b->fresh;
    b->fresh = s->next;
    size_t n;
    struct event **events = missed(b, s->p.after_seq, b->delivered, &n);
    pthread_mutex_unlock(&b->lock);
    bool stays = true;
    for (size_t i = 0; i < n; i++) {
        stays = stays && hand_over(s, events[i]);
        event_unref(events[i]);
    }
    free(events);
    if (stays) {
        s->next = b->subs;
        b->subs = s;
    } else {
        let_go(b, s);
    }
    pthread_mutex_lock(&b->lock);
}

static void deliver(struct jobs_bus *b)
{
    bool overrun = b->delivered + 1 < b->first;
    if (overrun)
        b->delivered = b->first - 1;
    struct event *e = event_ref(b->ring[(b->delivered + 1) % b->kept]);
    b->delivered++;
    pthread_mutex_unlock(&b->lock);
    if (overrun) {
        for (struct sg_job_sub *s = b->subs; s; s = s->next)
            atomic_store(&s->dead, true);
        sg_warn_log("jobs", "events came faster than they went out: subscribers are let go");
    }
    tell_all(b, e);
    event_unref(e);
    pthread_mutex_lock(&b->lock);
}

static void *bus_main(void *arg)
{
    struct jobs_bus *b = arg;
    pthread_setname_np(pthread_self(), "job-events");
    pthread_mutex_lock(&b->lock);
    for (;;) {
        if (b->fresh) {
            welcome(b);
        } else if (b->delivered < b->last) {
            deliver(b);
        } else if (b->someone_left) {
            b->someone_left = false;
            pthread_mutex_unlock(&b->lock);
            tell_all(b, NULL);
            pthread_mutex_lock(&b->lock);
        } else if (b->stopping) {
            break;
        } else {
            pthread_cond_wait(&b->news, &b->lock);
        }
    }
    pthread_mutex_unlock(&b->lock);
    for (struct sg_job_sub *s = b->subs; s; s = s->next)
        atomic_store(&s->dead, true);
    tell_all(b, NULL);
    return NULL;
}

enum sg_error jobs_bus_start(struct jobs_bus *b)
{
    b->started = pthread_create(&b->thread, NULL, bus_main, b) == 0;
    return b->started ? SG_OK : SG_ERR_NO_MEMORY;
}

void jobs_bus_stop(struct jobs_bus *b)
{
    pthread_mutex_lock(&b->lock);
    b->stopping = true;
    pthread_cond_signal(&b->news);
    pthread_mutex_unlock(&b->lock);
    if (b->started)
        pthread_join(b->thread, NULL);
    b->started = false;
}

void jobs_bus_destroy(struct jobs_bus **bus)
{
    struct jobs_bus *b = *bus;
    if (!b)
        return;
    *bus = NULL;
    jobs_bus_stop(b);
    while (b->fresh) { /* subscribed without a thread that ever ran */
        struct sg_job_sub *s = b->fresh;
        b->fresh = s->next;
        let_go(b, s);
    }
    for (size_t i = 0; i < b->kept; i++)
        event_unref(b->ring[i]);
    free(b->ring);
    pthread_cond_destroy(&b->news);
    pthread_mutex_destroy(&b->lock);
    free(b);
}
