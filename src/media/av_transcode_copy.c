/* Packets that go into an output as they are. Their times are put on the source's timeline, and
 * made to rise where a container has none or wrong ones. Frames that an edit list hides at the
 * beginning keep times before 0, which hides them again (of sound only the last of them, which
 * primes the decoder); those at the end are left out. */
#include <libavutil/mem.h>
#include <string.h>

#include "av_transcode_core.h"

enum { ADTS_HEADER = 7, ADTS_CRC = 2, CONFIG_BYTES = 2 };

static bool is_adts(const AVPacket *p)
{
    return p->size > ADTS_HEADER && p->data[0] == 0xff && (p->data[1] & 0xf6) == 0xf0;
}

/* AAC in a transport stream says in each frame what MP4 wants said once: its AudioSpecificConfig
 * (ISO/IEC 14496-3 1.6.2.1), from the header of the first frame (1.A.2.2). */
enum sg_error xc_copy_begin(struct xc_input *in)
{
    AVCodecParameters *par = in->stream->codecpar;
    struct xc *x = in->x;
    if (par->codec_id != AV_CODEC_ID_AAC || par->extradata_size > 0)
        return SG_OK;
    const AVPacket *first = NULL;
    for (size_t i = 0; i < x->n_ahead && !first; i++)
        if (x->ahead[i]->stream_index == in->stream->index && is_adts(x->ahead[i]))
            first = x->ahead[i];
    unsigned channels = first ? (first->data[2] & 1u) << 2 | first->data[3] >> 6 : 0;
    if (!channels)
        return xc_fail(x, SG_ERR_UNSUPPORTED_MEDIA,
                       "Track %d does not say what its audio is: it cannot be copied.",
                       in->stream->index);
    unsigned type = (first->data[2] >> 6) + 1u, rate = first->data[2] >> 2 & 15u;
    par->extradata = av_mallocz(CONFIG_BYTES + AV_INPUT_BUFFER_PADDING_SIZE);
    if (!par->extradata)
        return xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    par->extradata[0] = (uint8_t)(type << 3 | rate >> 1);
    par->extradata[1] = (uint8_t)(rate << 7 | channels << 3);
    par->extradata_size = CONFIG_BYTES;
    in->adts = true;
    return SG_OK;
}

static int64_t step_of(const struct xc_input *in, const AVPacket *p)
{
    if (p->duration > 0)
        return p->duration;
    const AVCodecParameters *par = in->stream->codecpar;
    AVRational base = in->stream->time_base;
    int64_t step = in->rate.num > 0 ? av_rescale_q(1, av_inv_q(in->rate), base)
                   : par->sample_rate > 0
                       ? av_rescale_q(par->frame_size, (AVRational){1, par->sample_rate}, base)
                       : 1;
    return step > 0 ? step : 1;
}

/* Decode time of a packet whose container tells none: of the first, as much before its picture is
 * shown as the codec reorders; then a frame after the other. */
static int64_t missing_dts(const struct xc_input *in, const AVPacket *p)
{
    if (in->copy_dts != INT64_MIN)
        return in->copy_dts + in->copy_step;
    int64_t delay = in->stream->codecpar->video_delay;
    return p->pts == AV_NOPTS_VALUE ? 0
                                    : p->pts - in->start - (delay > 0 ? delay : 0) * step_of(in, p);
}

/* Sound's times in samples: in coarser units its frames would seem to be of different lengths. */
static enum sg_error spread_sound(struct xc_input *in, AVPacket *p)
{
    AVCodecParameters *par = in->stream->codecpar;
    AVRational base = in->stream->time_base, samples = {1, par->sample_rate};
    int n = av_get_audio_frame_duration2(par, p->size);
    if (par->sample_rate <= 0 || base.num != 1 || base.den >= par->sample_rate || n <= 0)
        return xc_spread(in->x, in, NULL, p, base);
    if (in->copy_exact == INT64_MIN)
        in->copy_exact = AV_NOPTS_VALUE;
    p->dts = p->pts = av_rescale_delta(base, p->dts, samples, n, &in->copy_exact, samples);
    p->duration = n;
    return xc_spread(in->x, in, NULL, p, samples);
}

/* Takes what the packet refers to. */
static enum sg_error spread(struct xc_input *in, AVPacket *p)
{
    enum sg_error err = SG_OK;
    bool sound = in->stream->codecpar->codec_type == AVMEDIA_TYPE_AUDIO;
    bool primes = sound && p->flags & AV_PKT_FLAG_DISCARD && p->pts < 0;
    if (primes && in->stream->codecpar->codec_id != AV_CODEC_ID_OPUS) {
        av_packet_unref(in->hidden);
        av_packet_move_ref(in->hidden, p);
        return SG_OK;
    }
    if (in->hidden->data)
        err = spread_sound(in, in->hidden);
    av_packet_unref(in->hidden);
    if (!err)
        err = sound ? spread_sound(in, p) : xc_spread(in->x, in, NULL, p, in->stream->time_base);
    av_packet_unref(p);
    return err;
}

static enum sg_error within_limits(struct xc_input *in, int64_t pts)
{
    struct xc *x = in->x;
    const struct sg_media_limits *limits = x->plan->limits;
    if (in->packets > limits->max_frames)
        return xc_fail(x, SG_ERR_TOO_LARGE, "A track has more than %llu frames.",
                       (unsigned long long)limits->max_frames);
    if (av_rescale_q(pts, in->stream->time_base, (AVRational){1, 1000}) >
        (int64_t)(limits->max_duration_ms & INT64_MAX))
        return xc_fail(x, SG_ERR_TOO_LARGE, "The file lasts longer than %llu s.",
                       (unsigned long long)limits->max_duration_ms / 1000);
    return SG_OK;
}

static void strip_adts(AVPacket *p)
{
    int header = is_adts(p) ? p->data[1] & 1 ? ADTS_HEADER : ADTS_HEADER + ADTS_CRC : 0;
    if (header < p->size) {
        p->data += header;
        p->size -= header;
    }
}

/* Whether a decoder could do anything with it: not before the first key frame, not when damaged. */
static bool usable(struct xc_input *in, const AVPacket *p)
{
    if (p->size <= 0 || (p->flags & AV_PKT_FLAG_CORRUPT))
        return false;
    in->copy_begun |=
        p->flags & AV_PKT_FLAG_KEY || in->stream->codecpar->codec_type == AVMEDIA_TYPE_AUDIO;
    return in->copy_begun;
}

enum sg_error xc_copy_packet(struct xc_input *in, const AVPacket *packet)
{
    struct xc *x = in->x;
    if (!usable(in, packet))
        return SG_OK;
    if (packet->pts == AV_NOPTS_VALUE && in->by_order && in->stream->codecpar->video_delay > 0)
        return xc_fail(
            x, SG_ERR_UNSUPPORTED_MEDIA,
            "The file does not tell when its pictures are shown: they cannot be copied.");
    int64_t dts = packet->dts == AV_NOPTS_VALUE ? missing_dts(in, packet) : packet->dts - in->start;
    int64_t pts = packet->pts == AV_NOPTS_VALUE ? dts : packet->pts - in->start;
    bool sound = in->stream->codecpar->codec_type == AVMEDIA_TYPE_AUDIO;
    if (sound && in->copy_dts != INT64_MIN && dts < in->copy_dts + in->copy_step / 2)
        return SG_OK; /* overlaps what there is */
    if (in->copy_dts != INT64_MIN && dts <= in->copy_dts)
        dts = in->copy_dts + 1;
    if (pts < dts)
        pts = dts;
    enum sg_error err = within_limits(in, pts);
    if (err || ((packet->flags & AV_PKT_FLAG_DISCARD) && pts >= 0))
        return err;
    AVPacket *copy = av_packet_clone(packet);
    if (!copy)
        return xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    if (in->adts)
        strip_adts(copy);
    in->copy_dts = copy->dts = dts;
    in->copy_step = copy->duration = step_of(in, packet);
    copy->pts = pts;
    x->copied++;
    if (!in->decoded && !x->decoded)
        x->decoded_us = av_rescale_q(pts, in->stream->time_base, AV_TIME_BASE_Q);
    err = spread(in, copy);
    av_packet_free(&copy);
    return err;
}
