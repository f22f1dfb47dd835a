/* Cuts sound into segments, where the video is cut. Index entries alone tell all there is to know
 * of it. */
#include <stdlib.h>

#include "av_cut.h"
#include "timeline.h"

enum {
    PES_AUDIO_MAX = 2930,              /* what the muxer collects into one PES packet */
    PES_AUDIO_MAX_US = TS_LEAD_US / 2, /* and how much of the time */
    ADTS_HEADER = 7,
};

static const int64_t CENTURY_MS = INT64_C(100) * 366 * 86400 * 1000;

/* Where audio is cut: at the video's segment starts, then, where it outlasts the video by more than
 * half a segment, every segment_ms; without video every segment_ms. Boundary k ends segment k-1,
 * before merging of empty ones. */
struct audio_grid {
    const struct sg_track *video;
    uint32_t scale; /* of base and step */
    int64_t base, step;
    bool tail;
};

static void grid_init(struct audio_grid *g, const struct sg_track *audio,
                      const struct sg_track *video, int64_t start, int64_t end, uint32_t segment_ms)
{
    *g =
        (struct audio_grid){.video = video, .scale = audio->timescale, .base = start, .tail = true};
    if (video) {
        g->scale = video->timescale;
        g->base = video->start + (int64_t)video->duration;
        int64_t tail =
            av_rescale(end, 1000, audio->timescale) - av_rescale(g->base, 1000, video->timescale);
        g->tail = tail > segment_ms / 2;
    }
    g->step = av_rescale(segment_ms, g->scale, 1000);
    if (g->step == 0)
        g->step = 1;
}

/* The first instant in the audio's timescale at or after boundary k; INT64_MAX when there is no
 * such boundary. Times are below 2^56, scales below 2^31. */
static int64_t grid_at(const struct audio_grid *g, uint32_t k, uint32_t timescale)
{
    uint32_t inside = g->video ? g->video->n_segments : 0;
    if (k >= inside && !g->tail)
        return INT64_MAX;
    int64_t t =
        k < inside ? g->video->segments[k].start : g->base + (int64_t)(k - inside) * g->step;
    __int128 scaled = (__int128)t * timescale, at = scaled / g->scale;
    at += scaled > at * g->scale;
    return at < INT64_MAX ? (int64_t)at : INT64_MAX;
}

int64_t sgav_audio_first_shown(const struct sgav_source *source, const AVStream *stream)
{
    struct sgav_sample s;
    uint32_t n = sgav_sample_count(source, stream);
    for (uint32_t i = 0; i < n; i++) {
        sgav_sample_get(source, stream, i, &s);
        if (!s.discard)
            return s.dts;
    }
    return INT64_MAX;
}

bool sgav_audio_primes(const AVStream *stream, const struct sgav_sample *sample,
                       int64_t first_shown)
{
    if (sample->dts >= first_shown)
        return false;
    const AVCodecParameters *par = stream->codecpar;
    int64_t priming = par->codec_id == AV_CODEC_ID_OPUS ? 3840
                      : par->frame_size > 0             ? par->frame_size
                                                        : 1024;
    int rate = par->codec_id == AV_CODEC_ID_OPUS ? 48000 : par->sample_rate;
    return first_shown - sample->dts <=
           av_rescale_q(priming, (AVRational){1, rate}, stream->time_base);
}

static int64_t audio_time(const AVStream *stream, const struct sg_track *track, int64_t dts)
{
    if (stream->time_base.num == 1 && stream->time_base.den == (int)track->timescale)
        return dts; /* as nearly always */
    return av_rescale_q(dts, stream->time_base, (AVRational){1, (int)track->timescale});
}

/* End of the last frame kept. */
static enum sg_error audio_end(const struct sgav_source *source, const AVStream *stream,
                               const struct sg_track *track, int64_t *out)
{
    uint32_t n = sgav_sample_count(source, stream);
    struct sgav_sample s;
    if (n == 0)
        return SG_ERR_UNPROCESSABLE;
    sgav_sample_get(source, stream, 0, &s);
    int64_t first = s.dts, delta = 0;
    sgav_sample_get(source, stream, n - 1, &s);
    int64_t last = s.dts;
    bool trimmed = s.discard;
    for (uint32_t i = n - 1; i > 0 && (trimmed || !delta); i--) {
        sgav_sample_get(source, stream, i - 1, &s);
        delta = last - s.dts;
        if (trimmed) {
            trimmed = s.discard;
            last = s.dts;
        }
    }
    if (!time_sane(last, track->stream_tb_den) || !time_sane(first, track->stream_tb_den))
        return SG_ERR_UNPROCESSABLE;
    if (delta > 0 && delta < stream->time_base.den)
        *out = audio_time(stream, track, last + delta); /* audio frames are all alike */
    else
        *out = audio_time(stream, track, last + last_duration(source, stream, first, last, delta));
    return SG_OK;
}

struct audio_pass {
    struct cutter cut;
    struct audio_grid grid;
    const struct sg_media_limits *limits;
};

static enum sg_error audio_cut(const struct sgav_source *source, const AVStream *stream,
                               struct sg_track *track, struct audio_pass *p,
                               char why[SG_MEDIA_MESSAGE_MAX])
{
    const struct sg_media_limits *limits = p->limits;
    struct cutter *c = &p->cut;
    uint32_t n = sgav_sample_count(source, stream);
    int64_t first_shown = sgav_audio_first_shown(source, stream);
    uint32_t boundary = 1;
    int64_t next = grid_at(&p->grid, boundary, track->timescale);
    int64_t longest_ms = limits->max_duration_ms < (uint64_t)CENTURY_MS
                             ? (int64_t)limits->max_duration_ms
                             : CENTURY_MS;
    int64_t limit = av_rescale(longest_ms, track->timescale, 1000);
    for (uint32_t i = 0; i < n; i++) {
        struct sgav_sample e;
        sgav_sample_get(source, stream, i, &e);
        if (!sgav_audio_kept(stream, &e, first_shown))
            continue;
        if (!time_sane(e.dts, track->stream_tb_den))
            return SG_ERR_UNPROCESSABLE;
        int64_t t = audio_time(stream, track, e.dts);
        if (t > limit) /* boundaries are counted one by one: bound them first */
            return sgav_fail(SG_ERR_TOO_LARGE, why, "The audio lasts longer than %llu s.",
                             (unsigned long long)limits->max_duration_ms / 1000);
        bool cut = false;
        for (; t >= next; next = grid_at(&p->grid, ++boundary, track->timescale))
            cut = true;
        struct sg_segment *s = &c->current;
        if (cut && s->samples && e.dts > s->seek_dts && t > s->start) {
            enum sg_error err = cutter_flush(c, false, limits->max_body_bytes, why);
            if (err)
                return err;
        }
        if (!s->samples) {
            s->start = t;
            s->seek_dts = e.dts;
        }
        s->samples++;
        c->payload += e.size;
        track->bytes += e.size;
    }
    return c->current.samples ? cutter_flush(c, false, limits->max_body_bytes, why) : SG_OK;
}

enum sg_error sgav_index_audio(struct sgav_source *source, const struct sg_media_limits *limits,
                               struct sg_track *track, const struct sg_track *video,
                               char why[SG_MEDIA_MESSAGE_MAX])
{
    AVStream *stream = source->fmt->streams[track->stream];
    struct audio_pass p = {.limits = limits};
    int64_t end, first = sgav_audio_first_shown(source, stream);
    enum sg_error err =
        first == INT64_MAX ? SG_ERR_UNPROCESSABLE : audio_end(source, stream, track, &end);
    if (!err) {
        grid_init(&p.grid, track, video, audio_time(stream, track, first), end, limits->segment_ms);
        err = audio_cut(source, stream, track, &p, why);
    }
    if (!err)
        err = p.cut.n ? cutter_finish(&p.cut, track, end) : SG_ERR_UNPROCESSABLE;
    free(p.cut.segments);
    if (err == SG_ERR_UNPROCESSABLE && !why[0])
        (void)sgav_fail(err, why, "The file is damaged: the times of its audio make no sense.");
    return err;
}

/* What the samples of one audio segment cost in transport packets: the muxer collects frames into
 * PES packets; the first goes out alone (flush_at_gap in av_ts.c). */
static uint64_t ts_cost_audio(const struct sgav_source *source, AVStream *stream,
                              const struct sg_track *track, const struct sg_segment *segment,
                              int64_t first_shown)
{
    uint32_t n = sgav_sample_count(source, stream);
    uint32_t at = sgav_sample_find(source, stream, segment->seek_dts);
    uint64_t cost = 0, pending = 0;
    int64_t since = 0, most = av_rescale_q(PES_AUDIO_MAX_US, AV_TIME_BASE_Q, stream->time_base);
    uint32_t header = track->codec == SG_CODEC_AAC ? ADTS_HEADER : 0, written = 0;
    for (uint32_t left = segment->samples; left && at < n; at++) {
        struct sgav_sample e;
        sgav_sample_get(source, stream, at, &e);
        if (!sgav_audio_kept(stream, &e, first_shown))
            continue;
        uint64_t size = (uint64_t)e.size + header;
        left--;
        if (pending && (pending + size > PES_AUDIO_MAX || e.dts - since >= most || written == 1)) {
            cost += (pending + PES_HEADER + TS_PAYLOAD - 1) / TS_PAYLOAD * TS_PACKET;
            pending = 0;
        }
        if (!pending)
            since = e.dts;
        pending += size;
        written++;
    }
    return cost + (pending + PES_HEADER + TS_PAYLOAD - 1) / TS_PAYLOAD * TS_PACKET;
}

void sgav_index_add_ts_audio(struct sgav_source *source, struct sg_track *audio,
                             struct sg_track *video)
{
    AVStream *stream = source->fmt->streams[audio->stream];
    struct sg_segment *own = (struct sg_segment *)audio->segments;
    int64_t first_shown = sgav_audio_first_shown(source, stream);
    uint32_t muxed = video ? video->n_segments : 0, first = 0, end = 0;
    for (uint32_t n = 0; n < muxed; n++) {
        timeline_audio_of(video, audio, n, &first, &end);
        for (; first < end; first++)
            ((struct sg_segment *)video->segments)[n].bytes_ts +=
                ts_cost_audio(source, stream, audio, &own[first], first_shown);
    }
    for (uint32_t i = end; i < audio->n_segments; i++)
        own[i].bytes_ts = TS_TABLES + ts_cost_audio(source, stream, audio, &own[i], first_shown);
}
