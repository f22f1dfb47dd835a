/* Which picture stands for a film when nobody says: of a few key frames of its first third the one
 * that shows most. Openings are often black, titles are two colours, fades are nearly one. If none
 * will do, the rest of the film is looked at likewise. Bounded: so many key frames, each decoded
 * alone. */
#include <libswscale/swscale.h>
#include <math.h>

#include "streamgate/base/str.h"

#include "av_picture.h"

enum {
    CANDIDATES = 8, /* a round */
    PACKETS_MAX = 600,
    LOOK_WIDTH = 64,
    LOOK_HEIGHT = 36,
    LUMA_MIN = 20,
    LUMA_MAX = 235,
    SPREAD_MIN = 8, /* standard deviation of luma */
};

/* Bits of a picture's histogram of luma below which it is a title or a fade. */
static const double DETAIL_MIN = 3.0;
/* Rounds, in parts of the film. */
static const double rounds[][2] = {{0.0, 0.3}, {0.3, 0.9}};

struct look {
    struct sgav_source *source;
    AVStream *stream;
    AVCodecContext *decoder;
    AVPacket *packet;
    AVFrame *frame;
    double best;
    bool fit; /* the best is more than a makeshift */
    int64_t best_pts;
};

struct detail {
    double mean, spread, bits;
};

static struct detail detail_of(const AVFrame *f)
{
    unsigned counts[256] = {0};
    double sum = 0, squares = 0, bits = 0, n = (double)f->width * f->height;
    for (int y = 0; y < f->height; y++)
        for (int x = 0; x < f->width; x++) {
            uint8_t v = f->data[0][(ptrdiff_t)y * f->linesize[0] + x];
            counts[v]++;
            sum += v;
            squares += (double)v * v;
        }
    for (size_t i = 0; i < SG_ARRAY_LEN(counts); i++)
        if (counts[i])
            bits -= counts[i] / n * log2(counts[i] / n);
    double mean = sum / n, variance = squares / n - mean * mean;
    return (struct detail){.mean = mean, .spread = variance > 0 ? sqrt(variance) : 0, .bits = bits};
}

/* The picture of the packet alone. */
static bool decode_key(struct look *l)
{
    avcodec_flush_buffers(l->decoder);
    av_frame_unref(l->frame);
    if (avcodec_send_packet(l->decoder, l->packet) < 0)
        return false;
    if (avcodec_receive_frame(l->decoder, l->frame) >= 0)
        return true;
    return avcodec_send_packet(l->decoder, NULL) >= 0 &&
           avcodec_receive_frame(l->decoder, l->frame) >= 0;
}

/* Reads the key frame at or before the time, or where that is not known one near it. */
static enum sg_error read_key(struct look *l, int64_t target)
{
    struct sgav_walk walk;
    enum sg_error err = sgav_read_from(&walk, l->source, l->stream, target);
    for (unsigned n = 0; n < PACKETS_MAX && !err; n++) {
        err = sgav_read_next(&walk, l->packet);
        if (!err && (l->packet->flags & AV_PKT_FLAG_KEY) &&
            !(l->packet->flags & AV_PKT_FLAG_DISCARD))
            return SG_OK;
    }
    return err ? err : SG_ERR_NOT_FOUND;
}

/* What cannot be read or decoded is no candidate. */
static enum sg_error look_at(struct look *l, int64_t target)
{
    enum sg_error err = read_key(l, target);
    if (err)
        return err == SG_ERR_NO_MEMORY ? err : SG_OK;
    int64_t pts = l->packet->pts != AV_NOPTS_VALUE ? l->packet->pts : target;
    if (pts == l->best_pts || !decode_key(l))
        return SG_OK;
    AVFrame *small = NULL;
    err = sgav_picture_scale(l->frame, LOOK_WIDTH, LOOK_HEIGHT, SWS_AREA, &small);
    if (err)
        return err == SG_ERR_NO_MEMORY ? err : SG_OK;
    struct detail d = detail_of(small);
    av_frame_free(&small);
    bool fit =
        d.mean >= LUMA_MIN && d.mean <= LUMA_MAX && d.spread >= SPREAD_MIN && d.bits >= DETAIL_MIN;
    if (l->best_pts == AV_NOPTS_VALUE || fit > l->fit || (fit == l->fit && d.bits > l->best)) {
        l->best = d.bits;
        l->fit = fit;
        l->best_pts = pts;
    }
    return SG_OK;
}

static enum sg_error choose(struct look *l, uint64_t duration_ms)
{
    enum sg_error err = SG_OK;
    for (size_t r = 0; r < SG_ARRAY_LEN(rounds) && !l->fit; r++)
        for (int i = 0; i < CANDIDATES && !err; i++) {
            double part =
                rounds[r][0] + (rounds[r][1] - rounds[r][0]) * (2 * i + 1) / (2 * CANDIDATES);
            int64_t ms = (int64_t)(part * (double)duration_ms);
            err = look_at(l, av_rescale_q(ms, (AVRational){1, 1000}, l->stream->time_base) +
                                 sgav_start_of(l->source, l->stream));
        }
    return err;
}

enum sg_error sgav_poster_choose(struct sgav_source *source, AVStream *stream,
                                 const struct media_call *call, int64_t *pts)
{
    struct look l = {.source = source, .stream = stream, .best_pts = AV_NOPTS_VALUE};
    enum sg_error err = sgav_codec_open(stream, call->limits.max_pixels, &l.decoder);
    if (err)
        return err;
    l.decoder->flags |= AV_CODEC_FLAG_OUTPUT_CORRUPT;
    l.decoder->skip_loop_filter = AVDISCARD_ALL;
    l.packet = av_packet_alloc();
    l.frame = av_frame_alloc();
    err = l.packet && l.frame ? choose(&l, call->time_ms) : SG_ERR_NO_MEMORY;
    if (!err && l.best_pts != AV_NOPTS_VALUE)
        *pts = l.best_pts;
    av_frame_free(&l.frame);
    av_packet_free(&l.packet);
    avcodec_free_context(&l.decoder);
    return err;
}
