/* A picture: decode from the key frame at or before the time asked for (or chosen), apply sample
 * aspect ratio and rotation, scale, encode as JPEG. Bounded in frames; the decoder is bounded in
 * pixels. */
#include <libswscale/swscale.h>

#include "streamgate/base/str.h"

#include "av_picture.h"

enum { FRAMES_MAX = 600, STEP_BACK_S = 10, WIDTH_DEFAULT = 1280, WIDTH_MIN = 16, SIDE_MAX = 16384 };

struct poster {
    struct sgav_source *source;
    AVStream *stream;
    AVCodecContext *decoder;
    AVPacket *packet;
    AVFrame *frame;  /* decoded last */
    AVFrame *chosen; /* the last shown at or before the time */
    int64_t target;
};

/* Takes what the decoder has; true once the frame to show is known. */
static bool take_frames(struct poster *p)
{
    while (avcodec_receive_frame(p->decoder, p->frame) >= 0) {
        int64_t pts = p->frame->pts; /* AVI does not know it */
        if (pts == AV_NOPTS_VALUE)
            pts = p->frame->best_effort_timestamp;
        bool hidden = p->frame->flags & AV_FRAME_FLAG_DISCARD;
        if (p->chosen->buf[0] && pts != AV_NOPTS_VALUE && pts > p->target)
            return true;
        if (!hidden || !p->chosen->buf[0]) {
            av_frame_unref(p->chosen);
            av_frame_move_ref(p->chosen, p->frame);
        }
        if (!hidden && pts != AV_NOPTS_VALUE && pts >= p->target)
            return true;
        av_frame_unref(p->frame);
    }
    return false;
}

/* Reading from `from` on. */
static enum sg_error decode_from(struct poster *p, int64_t from)
{
    struct sgav_walk walk;
    if (sgav_read_from(&walk, p->source, p->stream, from))
        return SG_ERR_UNPROCESSABLE;
    bool done = false;
    for (unsigned n = 0; n < FRAMES_MAX && !done; n++) {
        if (sgav_read_next(&walk, p->packet))
            break;
        int r = avcodec_send_packet(p->decoder, p->packet);
        if (r == AVERROR(ENOMEM))
            return SG_ERR_NO_MEMORY;
        done = take_frames(p);
    }
    if (!done && avcodec_send_packet(p->decoder, NULL) >= 0)
        (void)take_frames(p);
    return p->chosen->buf[0] ? SG_OK : SG_ERR_UNPROCESSABLE;
}

/* Containers that are sought in inexactly may show nothing near the time: then from farther back,
 * and at last from the beginning. */
static enum sg_error decode(struct poster *p)
{
    enum sg_error err = decode_from(p, p->target);
    int64_t start = sgav_start_of(p->source, p->stream);
    int64_t back = av_rescale_q(STEP_BACK_S, (AVRational){1, 1}, p->stream->time_base);
    const int64_t earlier[] = {p->target - back, start};
    for (size_t i = 0; i < SG_ARRAY_LEN(earlier); i++) {
        if (err != SG_ERR_UNPROCESSABLE || !p->source->container || p->target <= start)
            break;
        avcodec_flush_buffers(p->decoder);
        err = decode_from(p, earlier[i] > start ? earlier[i] : start);
    }
    return err;
}

static int even(int64_t v)
{
    return v < 2 ? 2 : (int)(v & ~INT64_C(1));
}

/* The picture before it is turned: w x h such that after rotation it is `width` wide. */
static void target_size(const struct poster *p, uint32_t width, uint16_t rotation, int *w, int *h)
{
    AVRational sar = sgav_sar_of(p->stream, p->decoder);
    int64_t full_w = av_rescale(p->chosen->width, sar.num, sar.den), full_h = p->chosen->height;
    bool turned = rotation % 180 != 0;
    int64_t display = turned ? full_h : full_w;
    int64_t wanted = width ? width : WIDTH_DEFAULT;
    if (wanted < WIDTH_MIN)
        wanted = WIDTH_MIN;
    if (wanted > display)
        wanted = display;
    *w = even(turned ? av_rescale(full_w, wanted, display) : wanted);
    *h = even(turned ? wanted : av_rescale(full_h, wanted, display));
}

static enum sg_error picture(struct poster *p, const struct media_call *call, struct sgav_body *out)
{
    AVFrame *scaled = NULL;
    int w, h;
    uint16_t rotation = sgav_rotation_of(p->stream);
    enum sg_error err = decode(p);
    if (err)
        return err;
    target_size(p, call->width, rotation, &w, &h);
    if (w > SIDE_MAX || h > SIDE_MAX)
        return SG_ERR_TOO_LARGE;
    if (!(err = sgav_picture_scale(p->chosen, w, h, SWS_BICUBIC, &scaled)) &&
        !(err = sgav_picture_turn(&scaled, rotation)))
        err = sgav_picture_encode(scaled, out);
    av_frame_free(&scaled);
    return err;
}

enum sg_error sgav_render_poster(struct sgav_source *source, const struct media_call *call,
                                 struct sgav_body *out)
{
    struct poster p = {.source = source, .stream = sgav_picture_stream(source)};
    if (!p.stream)
        return SG_ERR_NOT_FOUND;
    int64_t ms = (int64_t)(call->any ? call->time_ms / 10 : call->time_ms);
    p.target = av_rescale_q(ms, (AVRational){1, 1000}, p.stream->time_base) +
               sgav_start_of(source, p.stream);
    sgav_plain_set_delay(source, p.stream);
    enum sg_error err = call->any ? sgav_poster_choose(source, p.stream, call, &p.target) : SG_OK;
    if (!err)
        err = sgav_codec_open(p.stream, call->limits.max_pixels, &p.decoder);
    p.packet = av_packet_alloc();
    p.frame = av_frame_alloc();
    p.chosen = av_frame_alloc();
    if (!err)
        err = p.packet && p.frame && p.chosen ? picture(&p, call, out) : SG_ERR_NO_MEMORY;
    av_frame_free(&p.chosen);
    av_frame_free(&p.frame);
    av_packet_free(&p.packet);
    avcodec_free_context(&p.decoder);
    return err;
}
