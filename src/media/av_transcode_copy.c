/* Packets that go into an output as they are. Their times are put on the source's timeline, and
 * made to rise where a container has none or wrong ones. Frames that an edit list hides at the
 * beginning keep times before 0, which hides them again; those at the end are left out. */
#include "av_transcode_core.h"

static int64_t step_of(const struct xc_input *in, const AVPacket *p)
{
    if (p->duration > 0)
        return p->duration;
    AVRational base = in->stream->time_base;
    int64_t step = in->rate.num > 0 ? av_rescale_q(1, av_inv_q(in->rate), base)
                   : in->stream->codecpar->sample_rate > 0
                       ? av_rescale_q(in->stream->codecpar->frame_size,
                                      (AVRational){1, in->stream->codecpar->sample_rate}, base)
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

enum sg_error xc_copy_packet(struct xc_input *in, const AVPacket *packet)
{
    struct xc *x = in->x;
    const struct sg_media_limits *limits = x->plan->limits;
    if (in->packets > limits->max_frames)
        return xc_fail(x, SG_ERR_TOO_LARGE, "A track has more than %llu frames.",
                       (unsigned long long)limits->max_frames);
    if (packet->size <= 0 || (packet->flags & AV_PKT_FLAG_CORRUPT))
        return SG_OK;
    bool first = in->copy_dts == INT64_MIN;
    if (packet->pts == AV_NOPTS_VALUE && in->by_order && in->stream->codecpar->video_delay > 0)
        return xc_fail(
            x, SG_ERR_UNSUPPORTED_MEDIA,
            "The file does not tell when its pictures are shown: they cannot be copied.");
    int64_t pts = packet->pts;
    int64_t dts = packet->dts == AV_NOPTS_VALUE ? missing_dts(in, packet) : packet->dts - in->start;
    pts = pts == AV_NOPTS_VALUE ? dts : pts - in->start;
    if (!first && dts <= in->copy_dts)
        dts = in->copy_dts + 1;
    if (pts < dts)
        pts = dts;
    if ((packet->flags & AV_PKT_FLAG_DISCARD) && pts >= 0)
        return SG_OK;
    if (av_rescale_q(pts, in->stream->time_base, (AVRational){1, 1000}) >
        (int64_t)(limits->max_duration_ms & INT64_MAX))
        return xc_fail(x, SG_ERR_TOO_LARGE, "The file lasts longer than %llu s.",
                       (unsigned long long)limits->max_duration_ms / 1000);
    AVPacket *copy = av_packet_clone(packet);
    if (!copy)
        return xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    in->copy_dts = copy->dts = dts;
    in->copy_step = copy->duration = step_of(in, packet);
    copy->pts = pts;
    enum sg_error err = xc_spread(x, in, NULL, copy, in->stream->time_base);
    av_packet_free(&copy);
    return err;
}
