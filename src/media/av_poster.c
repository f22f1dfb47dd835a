/* A picture: decode from the key frame at or before the time asked for, apply sample aspect ratio
 * and rotation, scale, encode as JPEG. Bounded in frames; the decoder is bounded in pixels. */
#include <libavutil/imgutils.h>
#include <libswscale/swscale.h>
#include <stdlib.h>
#include <string.h>

#include "av_media.h"

enum { FRAMES_MAX = 600, WIDTH_DEFAULT = 1280, WIDTH_MIN = 16, QUALITY = 4, SIDE_MAX = 16384 };

struct poster {
    struct sgav_source *source;
    AVStream *stream;
    AVCodecContext *decoder;
    AVPacket *packet;
    AVFrame *frame;  /* decoded last */
    AVFrame *chosen; /* the last shown at or before the time */
    int64_t target;
};

static AVStream *video_stream(const struct sgav_source *source)
{
    for (unsigned i = 0; i < source->fmt->nb_streams; i++) {
        AVStream *s = source->fmt->streams[i];
        if (s->codecpar->codec_type == AVMEDIA_TYPE_VIDEO &&
            !(s->disposition & AV_DISPOSITION_ATTACHED_PIC) && sgav_sample_count(source, s) &&
            sgav_codec_of(s->codecpar->codec_id) != SG_CODEC_OTHER)
            return s;
    }
    return NULL;
}

/* Takes what the decoder has; true once the frame to show is known. */
static bool take_frames(struct poster *p)
{
    while (avcodec_receive_frame(p->decoder, p->frame) >= 0) {
        int64_t pts = p->frame->pts;
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

static enum sg_error decode(struct poster *p)
{
    struct sgav_walk walk;
    if (sgav_read_from(&walk, p->source, p->stream, p->target))
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

static enum sg_error frame_alloc(int w, int h, AVFrame **out)
{
    AVFrame *f = av_frame_alloc();
    if (!f)
        return SG_ERR_NO_MEMORY;
    f->format = AV_PIX_FMT_YUVJ420P;
    f->width = w;
    f->height = h;
    f->color_range = AVCOL_RANGE_JPEG;
    if (av_frame_get_buffer(f, 0) < 0) {
        av_frame_free(&f);
        return SG_ERR_NO_MEMORY;
    }
    *out = f;
    return SG_OK;
}

/* JPEG is BT.601, full range, whatever the video is. */
static enum sg_error scale(const AVFrame *in, int w, int h, AVFrame **out)
{
    struct SwsContext *sws = sws_getContext(in->width, in->height, in->format, w, h,
                                            AV_PIX_FMT_YUVJ420P, SWS_BICUBIC, NULL, NULL, NULL);
    if (!sws)
        return SG_ERR_UNPROCESSABLE;
    bool hd = in->colorspace == AVCOL_SPC_BT709 ||
              (in->colorspace == AVCOL_SPC_UNSPECIFIED && in->height > 576);
    bool full = in->color_range == AVCOL_RANGE_JPEG || in->format == AV_PIX_FMT_YUVJ420P;
    (void)sws_setColorspaceDetails(sws, sws_getCoefficients(hd ? SWS_CS_ITU709 : SWS_CS_ITU601),
                                   full, sws_getCoefficients(SWS_CS_ITU601), 1, 0, 1 << 16,
                                   1 << 16);
    AVFrame *f = NULL;
    enum sg_error err = frame_alloc(w, h, &f);
    if (!err && sws_scale(sws, (const uint8_t *const *)in->data, in->linesize, 0, in->height,
                          f->data, f->linesize) <= 0)
        err = SG_ERR_UNPROCESSABLE;
    sws_freeContext(sws);
    if (err)
        av_frame_free(&f);
    else
        *out = f;
    return err;
}

/* One plane, turned clockwise. */
static void rotate_plane(const AVFrame *in, AVFrame *out, int plane, uint16_t rotation)
{
    int shift = plane ? 1 : 0, w = in->width >> shift, h = in->height >> shift;
    for (int y = 0; y < h; y++) {
        const uint8_t *row = in->data[plane] + (ptrdiff_t)y * in->linesize[plane];
        for (int x = 0; x < w; x++) {
            int to_x = rotation == 90 ? h - 1 - y : rotation == 180 ? w - 1 - x : y;
            int to_y = rotation == 90 ? x : rotation == 180 ? h - 1 - y : w - 1 - x;
            out->data[plane][(ptrdiff_t)to_y * out->linesize[plane] + to_x] = row[x];
        }
    }
}

static enum sg_error rotate(AVFrame **frame, uint16_t rotation)
{
    AVFrame *in = *frame, *out = NULL;
    if (rotation == 0)
        return SG_OK;
    bool turned = rotation % 180 != 0;
    enum sg_error err =
        frame_alloc(turned ? in->height : in->width, turned ? in->width : in->height, &out);
    if (err)
        return err;
    for (int plane = 0; plane < 3; plane++)
        rotate_plane(in, out, plane, rotation);
    av_frame_free(frame);
    *frame = out;
    return SG_OK;
}

static enum sg_error encode(AVFrame *frame, struct sgav_body *out)
{
    const AVCodec *codec = avcodec_find_encoder(AV_CODEC_ID_MJPEG);
    AVCodecContext *c = codec ? avcodec_alloc_context3(codec) : NULL;
    AVPacket *packet = av_packet_alloc();
    enum sg_error err = SG_ERR_NO_MEMORY;
    if (!c || !packet)
        goto out;
    c->width = frame->width;
    c->height = frame->height;
    c->pix_fmt = AV_PIX_FMT_YUVJ420P;
    c->color_range = AVCOL_RANGE_JPEG;
    c->time_base = (AVRational){1, 25};
    c->thread_count = 1;
    c->flags |= AV_CODEC_FLAG_QSCALE | AV_CODEC_FLAG_BITEXACT;
    c->global_quality = frame->quality = QUALITY * FF_QP2LAMBDA;
    frame->pts = 0;
    err = SG_ERR_UNPROCESSABLE;
    if (avcodec_open2(c, codec, NULL) < 0 || avcodec_send_frame(c, frame) < 0 ||
        avcodec_receive_packet(c, packet) < 0)
        goto out;
    uint8_t *data = malloc((size_t)packet->size);
    err = data ? SG_OK : SG_ERR_NO_MEMORY;
    if (data) {
        memcpy(data, packet->data, (size_t)packet->size);
        *out = (struct sgav_body){.data = data, .len = (size_t)packet->size};
    }
out:
    av_packet_free(&packet);
    avcodec_free_context(&c);
    return err;
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
    if (!(err = scale(p->chosen, w, h, &scaled)) && !(err = rotate(&scaled, rotation)))
        err = encode(scaled, out);
    av_frame_free(&scaled);
    return err;
}

enum sg_error sgav_render_poster(struct sgav_source *source, const struct media_call *call,
                                 struct sgav_body *out)
{
    struct poster p = {.source = source, .stream = video_stream(source)};
    if (!p.stream)
        return SG_ERR_NOT_FOUND;
    p.target = av_rescale_q((int64_t)call->time_ms, (AVRational){1, 1000}, p.stream->time_base);
    sgav_plain_set_delay(source, p.stream);
    enum sg_error err = sgav_codec_open(p.stream, call->limits.max_pixels, &p.decoder);
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
