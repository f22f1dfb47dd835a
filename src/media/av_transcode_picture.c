/* Decoded pictures: when they are shown, for how long, and which become key frames; then the
 * filters that all outputs share. Every picture is kept, but of several of one time the first. One
 * picture is held back, since how long it is shown is known when the next comes. */
#include <libavfilter/buffersink.h>
#include <libavfilter/buffersrc.h>
#include <stdlib.h>
#include <string.h>

#include "av_transcode_core.h"

enum { JUMP_BACK_S = 1, LAST_MAX_S = 10 };

static enum sg_error dispatch(struct xc_input *in, AVFrame *frame, int64_t duration)
{
    struct xc *x = in->x;
    int64_t grid =
        av_rescale_rnd(frame->pts, 1000, (int64_t)in->scale * x->plan->keyframe_ms, AV_ROUND_DOWN);
    frame->pict_type = grid > in->last_grid ? AV_PICTURE_TYPE_I : AV_PICTURE_TYPE_NONE;
    frame->key_frame = 0;
    frame->pkt_duration = duration;
    if (grid > in->last_grid)
        in->last_grid = grid;
    for (uint32_t i = 0; i < x->plan->n_outputs; i++) {
        struct xc_output *o = &x->outputs[i];
        if (o->plan->video != SG_TRANSCODE_VIDEO_H264 || o->video != in)
            continue;
        AVFrame *copy = av_frame_clone(frame);
        if (!copy)
            return xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
        xc_queue_push(o, (struct xc_item){.kind = XC_FRAME, .frame = copy});
    }
    return xc_failed(x) ? SG_ERR_CANCELLED : SG_OK;
}

/* Takes what the frame refers to. */
static enum sg_error ready(struct xc_input *in, AVFrame *frame)
{
    enum sg_error err = SG_OK;
    if (in->held->buf[0]) {
        if (frame->pts <= in->held->pts) { /* of the time of the one before, once filtered */
            av_frame_unref(frame);
            return SG_OK;
        }
        err = dispatch(in, in->held, frame->pts - in->held->pts);
        av_frame_unref(in->held);
    }
    av_frame_move_ref(in->held, frame);
    return err;
}

static enum sg_error drain(struct xc_input *in)
{
    struct xc_graph *g = &in->before;
    AVFrame *frame = in->x->frame;
    AVRational base = av_buffersink_get_time_base(g->out);
    enum sg_error err = SG_OK;
    while (!err) {
        int r = av_buffersink_get_frame(g->out, frame);
        if (r == AVERROR(EAGAIN) || r == AVERROR_EOF)
            break;
        if (r < 0)
            return xc_fail_av(in->x, r, SG_ERR_UNPROCESSABLE, "The pictures cannot be converted");
        frame->pts = av_rescale_q(frame->pts, base, (AVRational){1, in->scale});
        err = ready(in, frame);
    }
    return err;
}

static enum sg_error flush_before(struct xc_input *in)
{
    if (!in->before.graph)
        return SG_OK;
    int r = av_buffersrc_add_frame_flags(in->before.in, NULL, 0);
    if (r < 0)
        return xc_fail_av(in->x, r, SG_ERR_UNPROCESSABLE, "The pictures cannot be converted");
    return drain(in);
}

/* Filters for pictures of this look. What the old ones hold goes on its way first. */
static enum sg_error refit(struct xc_input *in, AVFrame *frame, const struct xc_look *look)
{
    char chain[700];
    AVFrame *keep = av_frame_alloc(); /* drain uses x->frame, which is this one */
    if (!keep)
        return xc_fail(in->x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    av_frame_move_ref(keep, frame);
    enum sg_error err = flush_before(in);
    av_frame_move_ref(frame, keep);
    av_frame_free(&keep);
    if (!err)
        err = xc_chain_before(in, look, chain, sizeof(chain));
    if (err)
        return err;
    xc_graph_close(&in->before);
    in->look = *look;
    if (chain[0])
        err = xc_graph_open(in->x, &in->before, frame, in->scale, chain);
    return err;
}

static enum sg_error through(struct xc_input *in, AVFrame *frame)
{
    struct xc_look look = xc_look_of(frame, in->look.interlaced || frame->interlaced_frame);
    frame->sample_aspect_ratio = (AVRational){1, 1}; /* the plan's sizes have it in them */
    if (!xc_look_same(&look, &in->look)) {
        enum sg_error err = refit(in, frame, &look);
        if (err)
            return err;
    }
    if (!in->before.graph)
        return ready(in, frame);
    int r = av_buffersrc_add_frame_flags(in->before.in, frame, 0);
    if (r < 0)
        return xc_fail_av(in->x, r, SG_ERR_UNPROCESSABLE, "The pictures cannot be converted");
    return drain(in);
}

/* How long a picture is likely to be shown. */
static int64_t guess_step(const struct xc_input *in)
{
    if (in->rate.num > 0 && in->rate.den > 0) {
        int64_t step = av_rescale(in->scale, in->rate.den, in->rate.num);
        if (step > 0)
            return step;
    }
    return in->step > 0 ? in->step : in->scale / 25;
}

void xc_picture_packet(struct xc_input *in, const AVPacket *packet)
{
    if (packet->dts == AV_NOPTS_VALUE || packet->size == 0)
        return;
    if (in->n_order == XC_ORDER_MAX)
        memmove(in->order, in->order + 1, --in->n_order * sizeof(in->order[0]));
    in->order[in->n_order++] = packet->dts;
}

/* As its container tells it, in the stream's units; AV_NOPTS_VALUE: it does not. */
static int64_t told_time(struct xc_input *in, const AVFrame *frame)
{
    if (!in->by_order || in->n_order == 0)
        return in->by_order ? AV_NOPTS_VALUE : frame->best_effort_timestamp;
    int64_t t = in->order[0];
    memmove(in->order, in->order + 1, --in->n_order * sizeof(in->order[0]));
    return t;
}

/* Time of the picture in 1/scale; INT64_MIN: it is to be left out. */
static int64_t time_of(struct xc_input *in, const AVFrame *frame)
{
    AVRational base = in->stream->time_base, to = {1, in->scale};
    int64_t t = told_time(in, frame);
    if (t == AV_NOPTS_VALUE)
        return in->last_pts == INT64_MIN ? 0 : in->last_pts + guess_step(in);
    t = av_rescale_q(t - in->start, base, to) + in->shift;
    if (in->last_pts == INT64_MIN)
        return t < 0 ? 0 : t;
    if (t > in->last_pts)
        return t;
    if (t == in->last_pts)
        return INT64_MIN;
    if (in->last_pts - t <= (int64_t)JUMP_BACK_S * in->scale)
        return in->last_pts + guess_step(in) / 2 + 1; /* half: the clock may catch up */
    /* The clock was set back: time goes on from there. */
    in->shift += in->last_pts + guess_step(in) - t;
    return in->last_pts + guess_step(in);
}

enum sg_error xc_picture(struct xc_input *in, AVFrame *frame)
{
    struct xc *x = in->x;
    const struct sg_media_limits *limits = x->plan->limits;
    if (++in->frames > limits->max_frames)
        return xc_fail(x, SG_ERR_TOO_LARGE, "The video has more than %llu frames.",
                       (unsigned long long)limits->max_frames);
    if ((uint64_t)frame->width * (uint64_t)frame->height > limits->max_pixels)
        return xc_fail(x, SG_ERR_TOO_LARGE, "The picture is %dx%d; at most %llu pixels are taken.",
                       frame->width, frame->height, (unsigned long long)limits->max_pixels);
    x->decoded++;
    int64_t pts = time_of(in, frame);
    if (pts == INT64_MIN) {
        av_frame_unref(frame);
        return SG_OK;
    }
    if (av_rescale(pts, 1000, in->scale) > (int64_t)(limits->max_duration_ms & INT64_MAX))
        return xc_fail(x, SG_ERR_TOO_LARGE, "The file lasts longer than %llu s.",
                       (unsigned long long)limits->max_duration_ms / 1000);
    if (in->last_pts != INT64_MIN)
        in->step = pts - in->last_pts;
    in->last_pts = pts;
    in->last_duration =
        av_rescale_q(frame->pkt_duration, in->stream->time_base, (AVRational){1, in->scale});
    x->decoded_us = av_rescale(pts, AV_TIME_BASE, in->scale);
    frame->pts = pts;
    return through(in, frame);
}

enum sg_error xc_pictures_end(struct xc_input *in)
{
    enum sg_error err = flush_before(in);
    if (err || !in->held->buf[0])
        return err;
    int64_t last = in->last_duration;
    if (last <= 0 || last > (int64_t)LAST_MAX_S * in->scale)
        last =
            in->step > 0 && in->step <= (int64_t)LAST_MAX_S * in->scale ? in->step : guess_step(in);
    err = dispatch(in, in->held, last);
    av_frame_unref(in->held);
    return err;
}
