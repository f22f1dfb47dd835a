/* What a poster and a storyboard share: which stream is the picture's, and a decoded frame scaled,
 * turned and encoded as JPEG. */
#include "av_picture.h"

#include <libavutil/imgutils.h>
#include <libswscale/swscale.h>
#include <stdlib.h>
#include <string.h>

#include "av_describe.h"

enum { QUALITY = 4 };

AVStream *sgav_picture_stream(const struct sgav_source *source)
{
    for (unsigned i = 0; i < source->fmt->nb_streams; i++) {
        AVStream *s = source->fmt->streams[i];
        if (s->codecpar->codec_type == AVMEDIA_TYPE_VIDEO && sgav_stream_counts(source, s) &&
            sgav_codec_decodable(s->codecpar->codec_id))
            return s;
    }
    return NULL;
}

enum sg_error sgav_picture_alloc(int w, int h, AVFrame **out)
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
enum sg_error sgav_picture_scale(const AVFrame *in, int w, int h, int filter, AVFrame **out)
{
    struct SwsContext *sws = sws_getContext(in->width, in->height, in->format, w, h,
                                            AV_PIX_FMT_YUVJ420P, filter, NULL, NULL, NULL);
    if (!sws)
        return SG_ERR_UNPROCESSABLE;
    bool hd = in->colorspace == AVCOL_SPC_BT709 ||
              (in->colorspace == AVCOL_SPC_UNSPECIFIED && in->height > 576);
    bool full = in->color_range == AVCOL_RANGE_JPEG || in->format == AV_PIX_FMT_YUVJ420P;
    (void)sws_setColorspaceDetails(sws, sws_getCoefficients(hd ? SWS_CS_ITU709 : SWS_CS_ITU601),
                                   full, sws_getCoefficients(SWS_CS_ITU601), 1, 0, 1 << 16,
                                   1 << 16);
    AVFrame *f = NULL;
    enum sg_error err = sgav_picture_alloc(w, h, &f);
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

enum sg_error sgav_picture_turn(AVFrame **frame, uint16_t rotation)
{
    AVFrame *in = *frame, *out = NULL;
    if (rotation == 0)
        return SG_OK;
    bool turned = rotation % 180 != 0;
    enum sg_error err =
        sgav_picture_alloc(turned ? in->height : in->width, turned ? in->width : in->height, &out);
    if (err)
        return err;
    for (int plane = 0; plane < 3; plane++)
        rotate_plane(in, out, plane, rotation);
    av_frame_free(frame);
    *frame = out;
    return SG_OK;
}

enum sg_error sgav_picture_encode(AVFrame *frame, struct sgav_body *out)
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
