/* Which streams become tracks, and what is said of those that are not cut: of a file that has to be
 * transcoded only what its container and parameters tell. */
#include "av_describe.h"

#include "av_container.h"

enum { DESCRIBED_TIMESCALE = 90000 };

static const int64_t DESCRIBED_TIME_MAX_S = INT64_C(100) * 366 * 86400;

static bool is_encrypted(const AVStream *s)
{
    uint32_t tag = s->codecpar->codec_tag;
    return tag == MKTAG('e', 'n', 'c', 'v') || tag == MKTAG('e', 'n', 'c', 'a') ||
           av_stream_get_side_data(s, AV_PKT_DATA_ENCRYPTION_INIT_INFO, NULL);
}

bool sgav_stream_counts(const struct sgav_source *source, const AVStream *s)
{
    enum AVMediaType type = s->codecpar->codec_type;
    return !(s->disposition & AV_DISPOSITION_ATTACHED_PIC) &&
           (type == AVMEDIA_TYPE_VIDEO || type == AVMEDIA_TYPE_AUDIO) &&
           (source->container || sgav_sample_count(source, s));
}

/* `good`: whether a codec serves. What does not serve is remembered. */
static void collect(const struct sgav_source *source, bool (*good)(enum AVCodecID),
                    struct sgav_choice *out)
{
    out->video = NULL;
    out->n_audio = 0;
    out->refused_video = out->refused_audio = NULL;
    for (unsigned i = 0; i < source->fmt->nb_streams; i++) {
        AVStream *s = source->fmt->streams[i];
        if (!sgav_stream_counts(source, s))
            continue;
        bool video = s->codecpar->codec_type == AVMEDIA_TYPE_VIDEO;
        const char *name = avcodec_get_name(s->codecpar->codec_id);
        if (good(s->codecpar->codec_id)) {
            if (!video)
                out->audio[out->n_audio++] = s;
            else if (!out->video)
                out->video = s;
        } else if (!video) {
            out->refused_audio = name;
        } else if (!out->video) {
            out->refused_video = name;
        }
    }
}

static bool can_package(enum AVCodecID id)
{
    return sgav_codec_of(id) != SG_CODEC_OTHER;
}

/* Sound that not all browsers have is packaged beside other sound alone, never as all there is. */
static bool browsers_hear(const struct sgav_choice *c)
{
    for (unsigned i = 0; i < c->n_audio; i++)
        if (sg_codec_in_browsers(sgav_codec_of(c->audio[i]->codecpar->codec_id)))
            return true;
    return c->n_audio == 0;
}

enum sg_error sgav_choose(const struct sgav_source *source, struct sgav_choice *out,
                          char why[SG_MEDIA_MESSAGE_MAX])
{
    for (unsigned i = 0; i < source->fmt->nb_streams; i++)
        if (sgav_stream_counts(source, source->fmt->streams[i]) &&
            is_encrypted(source->fmt->streams[i]))
            return sgav_fail(SG_ERR_UNSUPPORTED_MEDIA, why, "Track %u is encrypted.", i);
    collect(source, can_package, out);
    out->packaged = !source->container && !out->refused_video &&
                    (out->n_audio || !out->refused_audio) && (out->video || out->n_audio) &&
                    browsers_hear(out);
    return out->packaged ? SG_OK : sgav_choose_described(source, out, why);
}

enum sg_error sgav_choose_described(const struct sgav_source *source, struct sgav_choice *out,
                                    char why[SG_MEDIA_MESSAGE_MAX])
{
    collect(source, sgav_codec_decodable, out);
    out->packaged = false;
    if (!out->video && out->refused_video)
        return sgav_fail(SG_ERR_UNSUPPORTED_MEDIA, why, "The video is %s, which cannot be read.",
                         out->refused_video);
    if (!out->n_audio && out->refused_audio)
        return sgav_fail(SG_ERR_UNSUPPORTED_MEDIA, why, "The audio is %s, which cannot be read.",
                         out->refused_audio);
    if (!out->video && !out->n_audio)
        return sgav_fail(SG_ERR_UNPROCESSABLE, why, "The file holds neither video nor audio.");
    return SG_OK;
}

static AVRational rate_of(const struct sgav_source *source, const AVStream *s)
{
    AVRational rate = s->avg_frame_rate;
    uint32_t n = source->container ? 0 : sgav_sample_count(source, s);
    if (n && s->duration > 0 && s->time_base.num == 1)
        av_reduce(&rate.num, &rate.den, (int64_t)n * s->time_base.den, s->duration, 1 << 24);
    if (rate.num <= 0 || rate.den <= 0)
        rate = s->r_frame_rate;
    return rate.num > 0 && rate.den > 0 ? rate : (AVRational){25, 1};
}

/* In AV_TIME_BASE, on the timeline whose 0 is where the file begins. */
static void times_of(struct sgav_source *source, AVStream *s, int64_t *start, int64_t *duration)
{
    const AVFormatContext *fmt = source->fmt;
    *start = 0;
    *duration = fmt->duration > 0 ? fmt->duration : 0;
    if (source->container) {
        if (s->start_time != AV_NOPTS_VALUE && fmt->start_time != AV_NOPTS_VALUE)
            *start = av_rescale_q(s->start_time, s->time_base, AV_TIME_BASE_Q) - fmt->start_time;
    } else {
        struct sgav_sample first;
        sgav_sample_get(source, s, 0, &first);
        /* What is decoded before time 0 is there for the sake of what is shown from then on. */
        *start = first.dts > 0 ? av_rescale_q(first.dts, s->time_base, AV_TIME_BASE_Q) : 0;
    }
    if (s->duration > 0)
        *duration = av_rescale_q(s->duration, s->time_base, AV_TIME_BASE_Q);
}

static bool sane(int64_t us)
{
    return us / AV_TIME_BASE < DESCRIBED_TIME_MAX_S && us / AV_TIME_BASE > -DESCRIBED_TIME_MAX_S;
}

enum sg_error sgav_describe_track(struct sgav_source *source, AVStream *stream,
                                  struct sg_track *track, char why[SG_MEDIA_MESSAGE_MAX])
{
    int64_t start, duration;
    times_of(source, stream, &start, &duration);
    if (!sane(start) || !sane(duration) || stream->time_base.num <= 0 || stream->time_base.den <= 0)
        return sgav_fail(SG_ERR_UNPROCESSABLE, why, "The times of track %d make no sense.",
                         stream->index);
    if (track->kind == SG_TRACK_VIDEO) {
        AVRational rate = rate_of(source, stream);
        track->fps_num = (uint32_t)rate.num;
        track->fps_den = (uint32_t)rate.den;
    }
    track->stream_tb_num = (uint32_t)stream->time_base.num;
    track->stream_tb_den = (uint32_t)stream->time_base.den;
    track->timescale =
        track->kind == SG_TRACK_VIDEO ? (uint32_t)DESCRIBED_TIMESCALE : track->sample_rate;
    track->start = av_rescale(start, track->timescale, AV_TIME_BASE);
    track->duration = (uint64_t)av_rescale(duration, track->timescale, AV_TIME_BASE);
    if (!source->container)
        track->samples = sgav_sample_count(source, stream);
    return SG_OK;
}
