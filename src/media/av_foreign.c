/* Opens a container other than MP4 and MOV, to describe what is in it and to decode pictures from
 * it. It is not packaged, so no sample of it is indexed. How much is read of it is bounded: enough
 * to know each stream's parameters, then its end where only that tells how long it lasts. */
#include <libavutil/opt.h>

#include "av_container.h"

enum {
    PROBE_BYTES = 8 << 20,
    ANALYZE_US = 6 * AV_TIME_BASE,
    PEEK_PACKETS = 256, /* until streams that no header declares have shown */
    PEEK_BYTES = 2 << 20,
};

/* What is read of a file whose container does not tell its duration; of a longer one the rest is
 * taken to be like it. */
static const int64_t WALK_BYTES = INT64_C(512) << 20;

/* Decoders are opened to learn parameters: of hostile pictures none may be larger than is taken. A
 * stream that appears only later has no options; what it may cost then is bounded by the process's
 * memory alone, so those that are not declared are waited for. */
static enum sg_error peek(struct sgav_source *s)
{
    AVPacket *packet = av_packet_alloc();
    if (!packet)
        return SG_ERR_NO_MEMORY;
    s->fmt->flags |= AVFMT_FLAG_NOPARSE;
    for (int n = 0; n < PEEK_PACKETS && avio_tell(s->io) < PEEK_BYTES; n++) {
        if (av_read_frame(s->fmt, packet) < 0)
            break;
        av_packet_unref(packet);
    }
    s->fmt->flags &= ~AVFMT_FLAG_NOPARSE;
    av_packet_free(&packet);
    return av_seek_frame(s->fmt, -1, 0, AVSEEK_FLAG_BYTE) < 0 ? SG_ERR_UNPROCESSABLE : SG_OK;
}

static enum sg_error learn(struct sgav_source *s, const struct sg_media_limits *limits)
{
    unsigned n = s->fmt->nb_streams;
    AVDictionary **options = av_calloc(n + 1, sizeof(AVDictionary *));
    int64_t pixels = (int64_t)(limits->max_pixels < INT64_MAX ? limits->max_pixels : INT64_MAX);
    enum sg_error err = options ? SG_OK : SG_ERR_NO_MEMORY;
    for (unsigned i = 0; i < n && !err; i++)
        if (av_dict_set_int(&options[i], "max_pixels", pixels, 0) < 0)
            err = SG_ERR_NO_MEMORY;
    if (!err) {
        int r = avformat_find_stream_info(s->fmt, options);
        err = r == AVERROR(ENOMEM) ? SG_ERR_NO_MEMORY : r < 0 ? SG_ERR_UNPROCESSABLE : SG_OK;
    }
    for (unsigned i = 0; options && i < n; i++)
        av_dict_free(&options[i]);
    av_free(options);
    return err;
}

/* When the packet ends, in AV_TIME_BASE; INT64_MIN: it does not tell. */
static int64_t packet_end(const struct sgav_source *s, const AVPacket *p)
{
    int64_t t = p->pts != AV_NOPTS_VALUE ? p->pts : p->dts;
    if (t == AV_NOPTS_VALUE)
        return INT64_MIN;
    return av_rescale_q(t + (p->duration > 0 ? p->duration : 0),
                        s->fmt->streams[p->stream_index]->time_base, AV_TIME_BASE_Q);
}

/* Reads the file for its duration. */
static enum sg_error walk(struct sgav_source *s, const struct sg_media_limits *limits)
{
    AVPacket *packet = av_packet_alloc();
    if (!packet)
        return SG_ERR_NO_MEMORY;
    int64_t start = s->fmt->start_time != AV_NOPTS_VALUE ? s->fmt->start_time : 0, end = start;
    int64_t read = 0;
    bool whole = false;
    (void)av_seek_frame(s->fmt, -1, 0, AVSEEK_FLAG_BYTE); /* else: from where it is */
    for (uint64_t n = 0; n < limits->max_frames && read < WALK_BYTES && !whole; n++) {
        whole = av_read_frame(s->fmt, packet) < 0;
        int64_t t = whole ? INT64_MIN : packet_end(s, packet);
        if (t > end)
            end = t;
        read = avio_tell(s->io);
        av_packet_unref(packet);
    }
    av_packet_free(&packet);
    if (!whole && read > 0)
        end = start + av_rescale(end - start, s->reader.size, read);
    if (end <= start)
        return SG_ERR_UNPROCESSABLE;
    s->fmt->duration = end - start;
    return SG_OK;
}

/* Whether what libavformat says of the duration was told by the file, and not reckoned from bit
 * rates, which of compressed sound are guesses. */
static bool duration_told(const struct sgav_source *s)
{
    if (s->fmt->duration == AV_NOPTS_VALUE || s->fmt->duration <= 0)
        return false;
    return s->fmt->duration_estimation_method != AVFMT_DURATION_FROM_BITRATE ||
           strcmp(s->container->format, "wav") == 0;
}

static enum sg_error open_checked(struct sgav_source *s, const struct sg_media_limits *limits,
                                  char why[SG_MEDIA_MESSAGE_MAX])
{
    enum sg_error err = sgav_demuxer_open(s, limits, why);
    if (err)
        return err;
    s->fmt->probesize = PROBE_BYTES;
    s->fmt->max_analyze_duration = ANALYZE_US;
    if (!s->container->declares)
        err = peek(s);
    if (!err)
        err = learn(s, limits);
    if (err)
        return sgav_fail(err, why, "The file is damaged: its streams cannot be read.");
    if (s->fmt->nb_streams > limits->max_streams)
        return sgav_fail(SG_ERR_TOO_LARGE, why, "The file has %u tracks; at most %u are taken.",
                         s->fmt->nb_streams, limits->max_streams);
    return SG_OK;
}

enum sg_error sgav_foreign_open(struct sgav_source *s, const struct sg_media_limits *limits,
                                char why[SG_MEDIA_MESSAGE_MAX])
{
    enum sg_error err = open_checked(s, limits, why);
    if (!err && !duration_told(s) && (err = walk(s, limits)))
        (void)sgav_fail(err, why, "The file is damaged: it cannot be told how long it lasts.");
    return err;
}

int64_t sgav_start_of(const struct sgav_source *s, const AVStream *stream)
{
    if (!s->container || s->fmt->start_time == AV_NOPTS_VALUE)
        return 0;
    return av_rescale_q(s->fmt->start_time, AV_TIME_BASE_Q, stream->time_base);
}
