/* The queues between the main thread and the outputs', and what they tell each other. */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "av_transcode_core.h"

enum { PROGRESS_MS = 250 };

void xc_item_free(struct xc_item *item)
{
    av_frame_free(&item->frame);
    av_packet_free(&item->packet);
}

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void xc_event_post(struct xc *x, const struct sg_transcode_event *event)
{
    struct xc_event *e = malloc(sizeof(*e));
    if (!e) {
        (void)xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
        return;
    }
    *e = (struct xc_event){.event = *event};
    pthread_mutex_lock(&x->lock);
    if (x->last_event)
        x->last_event->next = e;
    else
        x->first_event = e;
    x->last_event = e;
    pthread_cond_signal(&x->main_wake);
    pthread_mutex_unlock(&x->lock);
}

/* How far the slowest output is; true when there is something new to tell. */
static bool progress(struct xc *x, struct sg_transcode_event *out)
{
    *out = (struct sg_transcode_event){.kind = SG_TRANSCODE_PROGRESS};
    int64_t us = x->decoded_us;
    uint64_t work = x->decoded + x->sounded + x->copied;
    uint64_t frames = x->decoded ? x->decoded : x->sounded ? x->sounded : x->copied;
    pthread_mutex_lock(&x->lock);
    for (uint32_t i = 0; i < x->plan->n_outputs; i++) {
        const struct xc_output *o = &x->outputs[i];
        if (o->plan->video == SG_TRANSCODE_VIDEO_H264) {
            us = o->done_us < us ? o->done_us : us;
            work += o->pictures;
        }
        if (o->video)
            frames = o->pictures < frames ? o->pictures : frames;
    }
    pthread_mutex_unlock(&x->lock);
    out->done_us = us > 0 ? (uint64_t)us : 0;
    out->frames = frames;
    bool fresh = work != x->told_work;
    x->told_work = work;
    return fresh;
}

void xc_events_tell(struct xc *x)
{
    pthread_mutex_lock(&x->lock);
    struct xc_event *e = x->first_event;
    x->first_event = x->last_event = NULL;
    pthread_mutex_unlock(&x->lock);
    while (e) {
        struct xc_event *next = e->next;
        x->sink->event(x->sink->arg, &e->event);
        free(e);
        e = next;
    }
    struct sg_transcode_event p;
    int64_t now = now_ms();
    if (now - x->told_ms >= PROGRESS_MS && progress(x, &p)) {
        x->told_ms = now;
        x->sink->event(x->sink->arg, &p);
    }
}

/* Until something happened or it is time to tell progress. Under the lock. */
static void wait_main(struct xc *x)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += PROGRESS_MS * 1000000L;
    if (until.tv_nsec >= 1000000000L) {
        until.tv_nsec -= 1000000000L;
        until.tv_sec++;
    }
    (void)pthread_cond_timedwait(&x->main_wake, &x->lock, &until);
}

static bool has_room(const struct xc_output *o, enum xc_kind kind)
{
    return o->count < XC_QUEUE_MAX && (kind != XC_FRAME || o->frames_waiting < XC_QUEUE_FRAMES);
}

void xc_queue_push(struct xc_output *o, struct xc_item item)
{
    struct xc *x = o->x;
    pthread_mutex_lock(&x->lock);
    while (!has_room(o, item.kind) && !x->err) {
        wait_main(x);
        pthread_mutex_unlock(&x->lock);
        xc_events_tell(x);
        pthread_mutex_lock(&x->lock);
    }
    bool take = !x->err;
    if (take) {
        o->items[(o->head + o->count++) % XC_QUEUE_MAX] = item;
        o->frames_waiting += item.kind == XC_FRAME;
        pthread_cond_signal(&o->wake);
    }
    pthread_mutex_unlock(&x->lock);
    if (!take)
        xc_item_free(&item);
}

void xc_queue_close(struct xc_output *o)
{
    pthread_mutex_lock(&o->x->lock);
    o->closed = true;
    pthread_cond_signal(&o->wake);
    pthread_mutex_unlock(&o->x->lock);
}

bool xc_queue_pop(struct xc_output *o, struct xc_item *out)
{
    struct xc *x = o->x;
    pthread_mutex_lock(&x->lock);
    while (o->count == 0 && !o->closed)
        pthread_cond_wait(&o->wake, &x->lock);
    bool got = o->count > 0;
    if (got) {
        *out = o->items[o->head];
        o->head = (o->head + 1) % XC_QUEUE_MAX;
        o->count--;
        o->frames_waiting -= out->kind == XC_FRAME;
        pthread_cond_signal(&x->main_wake);
    }
    pthread_mutex_unlock(&x->lock);
    return got;
}

void xc_done(struct xc_output *o)
{
    pthread_mutex_lock(&o->x->lock);
    o->done = true;
    pthread_cond_signal(&o->x->main_wake);
    pthread_mutex_unlock(&o->x->lock);
}

static bool all_done(const struct xc *x)
{
    for (uint32_t i = 0; i < x->plan->n_outputs; i++)
        if (x->outputs[i].running && !x->outputs[i].done)
            return false;
    return true;
}

void xc_wait_done(struct xc *x)
{
    pthread_mutex_lock(&x->lock);
    while (!all_done(x)) {
        wait_main(x);
        pthread_mutex_unlock(&x->lock);
        xc_events_tell(x);
        pthread_mutex_lock(&x->lock);
    }
    pthread_mutex_unlock(&x->lock);
    xc_events_tell(x);
}
