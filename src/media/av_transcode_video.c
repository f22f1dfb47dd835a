/* An output's video: scaled to its size, encoded by x264, its packets handed to the file and to the
 * live fragments. Key frames come where the main thread marked them and nowhere else, in closed
 * groups, so that all outputs of a source can be changed over at each of them. */
#include <libavfilter/buffersink.h>
#include <libavfilter/buffersrc.h>
#include <libavutil/cpu.h>
#include <libavutil/opt.h>
#include <stdio.h>

#include "av_transcode_core.h"

/* The peak is half as much again as the average, over two seconds (transcode.h). */
enum { PEAK_NUM = 3, PEAK_DEN = 2, BUFFER_S = 2, NEVER = 1 << 30 };

static void set_colours(AVCodecContext *c, const AVFrame *like, enum AVColorSpace matrix)
{
    bool told = like->colorspace == matrix;
    c->colorspace = matrix;
    c->color_range = AVCOL_RANGE_MPEG;
    if (matrix == AVCOL_SPC_BT709) {
        c->color_primaries = AVCOL_PRI_BT709;
        c->color_trc = AVCOL_TRC_BT709;
        return;
    }
    c->color_primaries = matrix == AVCOL_SPC_BT470BG ? AVCOL_PRI_BT470BG : AVCOL_PRI_SMPTE170M;
    c->color_trc = AVCOL_TRC_SMPTE170M;
    if (told && like->color_primaries != AVCOL_PRI_UNSPECIFIED)
        c->color_primaries = like->color_primaries;
    if (told && like->color_trc != AVCOL_TRC_UNSPECIFIED)
        c->color_trc = like->color_trc;
}

/* In which the output is written: the source's where displays know it. */
static enum AVColorSpace output_matrix(const AVFrame *like)
{
    enum AVColorSpace m = xc_matrix_of(like);
    return m == AVCOL_SPC_BT470BG || m == AVCOL_SPC_SMPTE170M ? m : AVCOL_SPC_BT709;
}

static int set_rate(AVCodecContext *c, const struct sg_transcode_output *plan)
{
    if (!plan->bitrate)
        return av_opt_set_double(c->priv_data, "crf", plan->crf, 0);
    c->bit_rate = plan->bitrate;
    c->rc_max_rate = (int64_t)plan->bitrate * PEAK_NUM / PEAK_DEN;
    int64_t buffer = c->rc_max_rate * BUFFER_S;
    c->rc_buffer_size = (int)(buffer < INT32_MAX ? buffer : INT32_MAX);
    return 0;
}

static enum sg_error open_encoder(struct xc_output *o, const AVFrame *like)
{
    const struct sg_transcode *t = o->x->plan;
    const AVCodec *codec = avcodec_find_encoder_by_name("libx264");
    if (!codec)
        return xc_fail(o->x, SG_ERR_UNAVAILABLE, "There is no encoder for H.264.");
    AVCodecContext *c = o->encoder = avcodec_alloc_context3(codec);
    if (!c)
        return xc_fail(o->x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    o->matrix = output_matrix(like);
    c->width = (int)o->plan->width;
    c->height = (int)o->plan->height;
    c->pix_fmt = AV_PIX_FMT_YUV420P;
    c->sample_aspect_ratio = (AVRational){1, 1};
    c->time_base = (AVRational){1, o->video->scale};
    c->framerate = o->video->rate;
    c->gop_size = NEVER;
    c->thread_count = t->threads ? (int)t->threads : av_cpu_count();
    c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
    c->max_pixels = (int64_t)(t->limits->max_pixels & INT64_MAX);
    set_colours(c, like, o->matrix);
    int r = set_rate(c, o->plan);
    if (r >= 0)
        r = av_opt_set(c->priv_data, "preset", t->preset, 0);
    if (r >= 0)
        r = av_opt_set(c->priv_data, "profile", "high", 0);
    if (r >= 0)
        r = av_opt_set_int(c->priv_data, "forced-idr", 1, 0);
    if (r >= 0)
        r = av_opt_set(c->priv_data, "x264-params", "scenecut=0:open-gop=0:8x8dct=1:log=-1", 0);
    if (r >= 0)
        r = avcodec_open2(c, codec, NULL);
    if (r < 0)
        return xc_fail_av(o->x, r, SG_ERR_UNPROCESSABLE, "The video encoder cannot be opened");
    AVStream *stream = o->mux->streams[0];
    if (avcodec_parameters_from_context(stream->codecpar, c) < 0)
        return xc_fail(o->x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    stream->avg_frame_rate = o->video->rate;
    stream->sample_aspect_ratio = (AVRational){1, 1};
    enum sg_error err = xc_mux_header(o);
    return err || o->plan->live_fd < 0 ? err : xc_live_open(o);
}

/* Writes the packet held back, which is not the last. */
static enum sg_error put(struct xc_output *o)
{
    AVPacket *p = o->last;
    struct xc *x = o->x;
    if (o->min_pts == INT64_MIN || p->pts < o->min_pts)
        o->min_pts = p->pts;
    enum sg_error err = o->live ? xc_live_packet(o, p) : SG_OK;
    if (!err)
        err = xc_mux_packet(o, p);
    av_packet_unref(p);
    pthread_mutex_lock(&x->lock);
    o->pictures++;
    o->done_us = av_rescale(o->end_pts, AV_TIME_BASE, o->video->scale);
    pthread_cond_signal(&x->main_wake);
    pthread_mutex_unlock(&x->lock);
    return err;
}

static enum sg_error take_packets(struct xc_output *o)
{
    for (;;) {
        int r = avcodec_receive_packet(o->encoder, o->packet);
        if (r == AVERROR(EAGAIN) || r == AVERROR_EOF)
            return SG_OK;
        if (r < 0)
            return xc_fail_av(o->x, r, SG_ERR_INTERNAL, "The video cannot be encoded");
        enum sg_error err = o->last->data ? put(o) : SG_OK;
        if (err)
            return err;
        av_packet_move_ref(o->last, o->packet);
        o->last->stream_index = 0;
        o->last->duration = o->encoder->reordered_opaque;
        if (o->last->pts + o->last->duration > o->end_pts) {
            o->end_pts = o->last->pts + o->last->duration;
            o->end_duration = o->last->duration;
        }
    }
}

static enum sg_error encode(struct xc_output *o, AVFrame *frame)
{
    if (frame)
        frame->reordered_opaque = frame->pkt_duration;
    int r = avcodec_send_frame(o->encoder, frame);
    if (r < 0)
        return xc_fail_av(o->x, r, SG_ERR_INTERNAL, "The video cannot be encoded");
    return take_packets(o);
}

enum sg_error xc_video_frame(struct xc_output *o, AVFrame *frame)
{
    struct xc_look look = xc_look_of(frame, false);
    enum sg_error err = o->encoder ? SG_OK : open_encoder(o, frame);
    if (!err && (!o->graph.graph || !xc_look_same(&look, &o->graph.look))) {
        char chain[240];
        xc_chain_scale(frame, o->plan, o->matrix, chain, sizeof(chain));
        err = xc_graph_open(o->x, &o->graph, frame, o->video->scale, chain);
        o->graph.look = look;
    }
    if (err)
        return err;
    int r = av_buffersrc_add_frame_flags(o->graph.in, frame, 0);
    if (r >= 0)
        r = av_buffersink_get_frame(o->graph.out, o->scaled);
    if (r < 0)
        return xc_fail_av(o->x, r, SG_ERR_UNPROCESSABLE, "The pictures cannot be scaled");
    err = encode(o, o->scaled);
    av_frame_unref(o->scaled);
    return err;
}

/* The file's reader takes the last packet's duration for the time from the last picture to the end.
 */
enum sg_error xc_video_end(struct xc_output *o)
{
    if (!o->encoder)
        return xc_fail(o->x, SG_ERR_UNPROCESSABLE, "No picture of the video can be decoded.");
    enum sg_error err = encode(o, NULL);
    if (err || !o->last->data)
        return err;
    o->last->duration = o->end_duration;
    return put(o);
}
