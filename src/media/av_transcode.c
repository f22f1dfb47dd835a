/* Carries out a plan: opens the source, starts the outputs' threads, feeds them, and says what came
 * out. Whatever fails stops all of it; the first failure is the one that is told. */
#include "av_transcode.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "av_transcode_core.h"

enum { SIDE_MAX = 16384, PRESET_MAX = 15, CRF_MAX = 51, CHANNELS_MAX = 2 };

enum sg_error xc_fail(struct xc *x, enum sg_error err, const char *fmt, ...)
{
    char why[SG_MEDIA_MESSAGE_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(why, sizeof(why), fmt, args);
    va_end(args);
    pthread_mutex_lock(&x->lock);
    if (!x->err) {
        x->err = err;
        memcpy(x->why, why, sizeof(x->why));
        pthread_cond_signal(&x->main_wake);
    }
    pthread_mutex_unlock(&x->lock);
    return err;
}

enum sg_error xc_fail_av(struct xc *x, int r, enum sg_error err, const char *what)
{
    if (r == AVERROR(ENOMEM))
        return xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    if (r == AVERROR(ENOSPC) || r == AVERROR(EFBIG) || r == AVERROR(EDQUOT))
        return xc_fail(x, SG_ERR_NO_SPACE, "There is no space for the output.");
    return xc_fail(x, err, "%s (%s).", what, av_err2str(r));
}

bool xc_failed(struct xc *x)
{
    pthread_mutex_lock(&x->lock);
    bool failed = x->err != SG_OK;
    pthread_mutex_unlock(&x->lock);
    return failed;
}

static enum sg_error one_item(struct xc_output *o, struct xc_item *item)
{
    if (item->kind == XC_FRAME)
        return xc_video_frame(o, item->frame);
    AVPacket *p = item->packet;
    bool main = p->stream_index == 0;
    if (main && o->plan->video == SG_TRANSCODE_VIDEO_COPY) {
        if (o->min_pts == INT64_MIN || p->pts < o->min_pts)
            o->min_pts = p->pts;
        if (p->pts + p->duration > o->end_pts)
            o->end_pts = p->pts + p->duration;
        pthread_mutex_lock(&o->x->lock);
        o->pictures++;
        pthread_mutex_unlock(&o->x->lock);
    }
    enum sg_error err = main && o->live && !o->video ? xc_live_packet(o, p) : SG_OK;
    return err ? err : xc_mux_packet(o, p);
}

static enum sg_error end_output(struct xc_output *o)
{
    enum sg_error err = o->plan->video == SG_TRANSCODE_VIDEO_H264 ? xc_video_end(o) : SG_OK;
    if (!err && o->live)
        err = xc_live_end(o);
    return err ? err : xc_mux_end(o);
}

static void *run_output(void *arg)
{
    struct xc_output *o = arg;
    struct xc_item item;
    enum sg_error err = SG_OK;
    (void)pthread_setname_np(pthread_self(), "rendition");
    if (o->plan->video != SG_TRANSCODE_VIDEO_H264)
        err = xc_mux_header(o);
    if (!err && !o->video && o->plan->live_fd >= 0)
        err = xc_live_open(o);
    while (xc_queue_pop(o, &item)) {
        if (!err && !(err = xc_failed(o->x) ? SG_ERR_CANCELLED : SG_OK))
            err = one_item(o, &item);
        xc_item_free(&item);
    }
    if (!err && !xc_failed(o->x))
        (void)end_output(o);
    xc_done(o);
    return NULL;
}

static bool output_sane(const struct sg_transcode_output *o)
{
    if (o->n_audios > SG_TRANSCODE_AUDIOS_MAX ||
        (o->video == SG_TRANSCODE_VIDEO_NONE && o->n_audios == 0))
        return false;
    if (o->video == SG_TRANSCODE_VIDEO_H264 &&
        (o->width < 2 || o->height < 2 || o->width % 2 || o->height % 2 || o->width > SIDE_MAX ||
         o->height > SIDE_MAX || o->bitrate > INT32_MAX / 4 || o->crf > CRF_MAX))
        return false;
    for (uint32_t i = 0; i < o->n_audios; i++)
        if (!o->audios[i].copy && (o->audios[i].channels < 1 ||
                                   o->audios[i].channels > CHANNELS_MAX || !o->audios[i].bitrate))
            return false;
    return true;
}

static bool plan_sane(const struct sg_transcode *t)
{
    bool sane = t->n_outputs > 0 && t->n_outputs <= SG_TRANSCODE_OUTPUTS_MAX &&
                t->keyframe_ms > 0 && t->preset && strlen(t->preset) <= PRESET_MAX &&
                t->threads <= 64;
    for (uint32_t i = 0; sane && i < t->n_outputs; i++)
        sane = output_sane(&t->outputs[i]);
    return sane;
}

static bool stream_is(const struct xc *x, uint32_t stream, enum AVMediaType type)
{
    return stream < x->n_inputs && x->fmt->streams[stream]->codecpar->codec_type == type;
}

static enum sg_error use_streams(struct xc *x, struct xc_output *o)
{
    const struct sg_transcode_output *plan = o->plan;
    enum sg_error err = SG_OK;
    bool good = plan->video == SG_TRANSCODE_VIDEO_NONE ||
                stream_is(x, plan->video_stream, AVMEDIA_TYPE_VIDEO);
    for (uint32_t i = 0; i < plan->n_audios; i++)
        good = good && stream_is(x, plan->audios[i].stream, AVMEDIA_TYPE_AUDIO);
    if (!good)
        return xc_fail(x, SG_ERR_UNPROCESSABLE,
                       "The file does not show the tracks that it showed before.");
    if (plan->video != SG_TRANSCODE_VIDEO_NONE) {
        bool decode = plan->video == SG_TRANSCODE_VIDEO_H264;
        err = xc_input_use(x, plan->video_stream, decode, &o->video);
        if (!err && decode && (int)plan->width > o->video->max_width) {
            o->video->max_width = (int)plan->width;
            o->video->max_height = (int)plan->height;
        }
    }
    for (uint32_t i = 0; i < plan->n_audios && !err; i++) {
        const struct sg_transcode_audio *a = &plan->audios[i];
        struct xc_input *in = NULL;
        struct xc_sound *sound = NULL;
        err = xc_input_use(x, a->stream, !a->copy, &in);
        if (!err && !a->copy)
            err = xc_sound_open(x, in, a, &sound);
    }
    return err;
}

static enum sg_error prepare(struct xc *x)
{
    uint32_t n = x->plan->n_outputs;
    x->packet = av_packet_alloc();
    x->frame = av_frame_alloc();
    x->sounds = calloc((size_t)n * SG_TRANSCODE_AUDIOS_MAX, sizeof(*x->sounds));
    if (!x->packet || !x->frame || !x->sounds)
        return xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    enum sg_error err = xc_open(x);
    for (uint32_t i = 0; i < n && !err; i++)
        err = use_streams(x, &x->outputs[i]);
    if (!err)
        err = xc_inputs_begin(x);
    for (uint32_t i = 0; i < n && !err; i++)
        err = xc_mux_open(&x->outputs[i]);
    return err;
}

static enum sg_error feed(struct xc *x)
{
    enum sg_error err = SG_OK;
    while (!err && !xc_failed(x)) {
        err = xc_read(x, x->packet);
        if (!err)
            err = xc_input_packet(&x->inputs[x->packet->stream_index], x->packet);
        av_packet_unref(x->packet);
        xc_events_tell(x);
    }
    if (err != SG_ERR_NOT_FOUND)
        return err;
    err = SG_OK;
    for (unsigned i = 0; i < x->n_inputs && !err; i++)
        if (x->inputs[i].stream)
            err = xc_input_end(&x->inputs[i]);
    return err;
}

static void run(struct xc *x)
{
    enum sg_error err = prepare(x);
    for (uint32_t i = 0; i < x->plan->n_outputs && !err; i++) {
        struct xc_output *o = &x->outputs[i];
        if (pthread_create(&o->thread, NULL, run_output, o))
            err = xc_fail(x, SG_ERR_NO_MEMORY, "A thread cannot be started.");
        else
            o->running = true;
    }
    if (!err)
        err = feed(x);
    for (uint32_t i = 0; i < x->plan->n_outputs; i++)
        xc_queue_close(&x->outputs[i]);
    xc_wait_done(x);
    for (uint32_t i = 0; i < x->plan->n_outputs; i++)
        if (x->outputs[i].running)
            pthread_join(x->outputs[i].thread, NULL);
}

static void fill_result(const struct xc *x, struct sg_transcode_result *out)
{
    *out = (struct sg_transcode_result){.decoded = x->decoded};
    for (uint32_t i = 0; i < x->plan->n_outputs; i++) {
        const struct xc_output *o = &x->outputs[i];
        out->bytes[i] = (uint64_t)o->file_size;
        if (!o->video || !o->pictures)
            continue;
        out->video[i].frames = o->pictures;
        out->video[i].start_us = av_rescale(o->min_pts, AV_TIME_BASE, o->video->scale);
        out->video[i].end_us = av_rescale(o->end_pts, AV_TIME_BASE, o->video->scale);
    }
}

static void destroy(struct xc *x)
{
    for (uint32_t i = 0; x->outputs && i < x->plan->n_outputs; i++) {
        struct xc_output *o = &x->outputs[i];
        struct xc_item item;
        xc_queue_close(o);
        while (xc_queue_pop(o, &item))
            xc_item_free(&item);
        xc_live_close(o);
        xc_mux_close(o);
        pthread_cond_destroy(&o->wake);
    }
    for (uint32_t i = 0; i < x->n_sounds; i++)
        xc_sound_close(&x->sounds[i]);
    free(x->sounds);
    free(x->outputs);
    xc_close(x);
    av_packet_free(&x->packet);
    av_frame_free(&x->frame);
    for (struct xc_event *e = x->first_event; e;) {
        struct xc_event *next = e->next;
        free(e);
        e = next;
    }
    pthread_cond_destroy(&x->main_wake);
    pthread_mutex_destroy(&x->lock);
}

/* Locks and outputs; false: no memory. */
static bool create(struct xc *x)
{
    pthread_condattr_t monotonic;
    if (pthread_condattr_init(&monotonic))
        return false;
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&x->lock, NULL);
    (void)pthread_cond_init(&x->main_wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    x->outputs = calloc(x->plan->n_outputs, sizeof(*x->outputs));
    for (uint32_t i = 0; x->outputs && i < x->plan->n_outputs; i++) {
        struct xc_output *o = &x->outputs[i];
        *o = (struct xc_output){.x = x, .plan = &x->plan->outputs[i], .number = i};
        (void)pthread_cond_init(&o->wake, NULL);
    }
    return x->outputs != NULL;
}

enum sg_error sgav_transcode(const struct sg_transcode *t, const struct sgav_transcode_sink *sink,
                             struct sg_transcode_result *out, char why[SG_MEDIA_MESSAGE_MAX])
{
    struct xc x = {.plan = t, .sink = sink};
    if (!plan_sane(t))
        return sgav_fail(SG_ERR_INVALID, why, "The plan makes no sense.");
    if (create(&x))
        run(&x);
    else
        x.err = SG_ERR_NO_MEMORY;
    enum sg_error err = x.err;
    if (err)
        (void)sgav_fail(err, why, "%s", x.why[0] ? x.why : "There is not enough memory.");
    else
        fill_result(&x, out);
    destroy(&x);
    return err;
}
