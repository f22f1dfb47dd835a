/* A sheet of a storyboard: key frames only, each the last that is shown at or before the middle of
 * its tile's interval, scaled and put side by side. Bounded: a sheet has a fixed number of tiles,
 * and of huge pictures fewer are decoded, each then for several tiles. A tile whose key frame
 * cannot be decoded shows the picture before it. */
#include <libavutil/imgutils.h>
#include <libswscale/swscale.h>

#include "streamgate/media/storyboard.h"

#include "av_picture.h"

enum { FRAMES_MAX = 600 };

/* Decoded for one sheet: a hundred of 4096x2304. */
#define PIXELS_MAX (INT64_C(100) * 4096 * 2304)

struct board {
    struct sgav_source *source;
    AVStream *stream;
    AVCodecContext *decoder;
    AVPacket *packet;
    AVFrame *frame, *sheet;
    int w, h; /* of a tile */
    uint16_t rotation;
    int64_t last_key; /* pts of the key frame used last */
    bool any;
};

/* A decoder that is given key frames alone: what it makes of one that opens a group is shown, and
 * the edges between blocks do not show at this size. */
static enum sg_error open_decoder(struct board *b, const struct media_call *call)
{
    enum sg_error err = sgav_codec_open(b->stream, call->limits.max_pixels, &b->decoder);
    if (err)
        return err;
    b->decoder->flags |= AV_CODEC_FLAG_OUTPUT_CORRUPT;
    b->decoder->skip_loop_filter = AVDISCARD_ALL;
    b->last_key = AV_NOPTS_VALUE;
    return SG_OK;
}

/* The picture of the packet. Of one that an edit list hides no picture comes: then the first that
 * is shown after it. */
static bool decode(struct board *b, struct sgav_walk *walk)
{
    bool hidden = b->packet->flags & AV_PKT_FLAG_DISCARD, got = false;
    avcodec_flush_buffers(b->decoder);
    av_frame_unref(b->frame);
    for (unsigned n = 0; n < FRAMES_MAX && !got; n++) {
        if (avcodec_send_packet(b->decoder, b->packet) < 0)
            break;
        got = avcodec_receive_frame(b->decoder, b->frame) >= 0;
        if (!hidden || got || sgav_read_next(walk, b->packet))
            break;
    }
    if (!got && avcodec_send_packet(b->decoder, NULL) >= 0)
        got = avcodec_receive_frame(b->decoder, b->frame) >= 0;
    return got;
}

/* Of a plain film the first packet is a key frame; elsewhere one must be looked for. */
static enum sg_error read_key(struct board *b, struct sgav_walk *walk)
{
    enum sg_error err = sgav_read_next(walk, b->packet);
    for (unsigned n = 1;
         n < FRAMES_MAX && !err && b->source->container && !(b->packet->flags & AV_PKT_FLAG_KEY);
         n++)
        err = sgav_read_next(walk, b->packet);
    return err;
}

/* Decodes the picture for the time into b->frame; *fresh: it is another than before. */
static enum sg_error find_picture(struct board *b, int64_t target, bool *fresh)
{
    struct sgav_walk walk;
    enum sg_error err = sgav_read_from(&walk, b->source, b->stream, target);
    if (!err)
        err = read_key(b, &walk);
    *fresh = false;
    if (err)
        return err == SG_ERR_NO_MEMORY ? err : SG_OK;
    int64_t key = b->packet->pts != AV_NOPTS_VALUE ? b->packet->pts : b->packet->dts;
    if (key == b->last_key && b->last_key != AV_NOPTS_VALUE)
        return SG_OK;
    b->last_key = key;
    *fresh = decode(b, &walk);
    return SG_OK;
}

static void paste(const struct board *b, const AVFrame *tile, uint32_t at)
{
    int x = (int)(at % SG_STORYBOARD_SIDE) * b->w, y = (int)(at / SG_STORYBOARD_SIDE) * b->h;
    for (int plane = 0; plane < 3; plane++) {
        int shift = plane ? 1 : 0;
        uint8_t *to = b->sheet->data[plane] + (ptrdiff_t)(y >> shift) * b->sheet->linesize[plane] +
                      (x >> shift);
        av_image_copy_plane(to, b->sheet->linesize[plane], tile->data[plane], tile->linesize[plane],
                            b->w >> shift, b->h >> shift);
    }
}

static enum sg_error make_tile(const struct board *b, AVFrame **tile)
{
    bool turned = b->rotation % 180 != 0;
    AVFrame *made = NULL;
    enum sg_error err =
        sgav_picture_scale(b->frame, turned ? b->h : b->w, turned ? b->w : b->h, SWS_AREA, &made);
    if (!err && !(err = sgav_picture_turn(&made, b->rotation))) {
        av_frame_free(tile);
        *tile = made;
        return SG_OK;
    }
    av_frame_free(&made);
    return err;
}

static enum sg_error fill(struct board *b, const struct media_call *call)
{
    const AVCodecParameters *par = b->stream->codecpar;
    int64_t pixels = (int64_t)par->width * par->height * call->count;
    uint32_t stride = pixels > PIXELS_MAX ? (uint32_t)(pixels / PIXELS_MAX) + 1 : 1;
    uint64_t first = (uint64_t)call->number * SG_STORYBOARD_SHEET;
    AVFrame *tile = NULL;
    enum sg_error err = SG_OK;
    for (uint32_t i = 0; i < call->count && !err; i++) {
        if (i % stride == 0) {
            int64_t ms = (int64_t)((first + i) * call->time_ms + call->time_ms / 2);
            int64_t target = av_rescale_q(ms, (AVRational){1, 1000}, b->stream->time_base) +
                             sgav_start_of(b->source, b->stream);
            bool fresh;
            err = find_picture(b, target, &fresh);
            if (!err && fresh)
                err = make_tile(b, &tile);
        }
        if (!err && tile) {
            paste(b, tile, i);
            b->any = true;
        }
    }
    av_frame_free(&tile);
    return err;
}

static enum sg_error sheet(struct board *b, const struct media_call *call, struct sgav_body *out)
{
    uint32_t columns = call->count < SG_STORYBOARD_SIDE ? call->count : SG_STORYBOARD_SIDE;
    uint32_t rows = (call->count + SG_STORYBOARD_SIDE - 1) / SG_STORYBOARD_SIDE;
    enum sg_error err = sgav_picture_alloc((int)columns * b->w, (int)rows * b->h, &b->sheet);
    if (err)
        return err;
    for (int plane = 0; plane < 3; plane++) /* black */
        memset(b->sheet->data[plane], plane ? 128 : 0,
               (size_t)b->sheet->linesize[plane] * ((size_t)b->sheet->height >> (plane ? 1 : 0)));
    err = fill(b, call);
    if (!err)
        err = b->any ? sgav_picture_encode(b->sheet, out) : SG_ERR_UNPROCESSABLE;
    return err;
}

static bool side_holds(uint32_t side)
{
    return side >= 2 && side <= SG_STORYBOARD_TILE_MAX && side % 2 == 0;
}

enum sg_error sgav_render_storyboard(struct sgav_source *source, const struct media_call *call,
                                     struct sgav_body *out)
{
    struct board b = {.source = source,
                      .stream = sgav_picture_stream(source),
                      .w = (int)call->width,
                      .h = (int)call->height};
    if (!b.stream)
        return SG_ERR_NOT_FOUND;
    if (!side_holds(call->width) || !side_holds(call->height) || call->count == 0 ||
        call->count > SG_STORYBOARD_SHEET || call->number > UINT16_MAX ||
        call->time_ms > UINT32_MAX)
        return SG_ERR_INVALID;
    b.rotation = sgav_rotation_of(b.stream);
    enum sg_error err = open_decoder(&b, call);
    b.packet = av_packet_alloc();
    b.frame = av_frame_alloc();
    if (!err)
        err = b.packet && b.frame ? sheet(&b, call, out) : SG_ERR_NO_MEMORY;
    av_frame_free(&b.sheet);
    av_frame_free(&b.frame);
    av_packet_free(&b.packet);
    avcodec_free_context(&b.decoder);
    return err;
}
