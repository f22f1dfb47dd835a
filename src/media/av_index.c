/* Cuts tracks into segments. Video is cut at key frames; its samples are walked once in skim mode,
 * because only packets, not index entries, tell presentation times. (Measured: 108,000 frames in 48
 * ms, next to 26 ms for opening the file; discarding all but key frames is faster but gives wrong
 * times, as the demuxer then loses its place among the composition offsets.) Audio needs index
 * entries alone. */
#include <stdlib.h>

#include "av_media.h"
#include "timeline.h"

enum {
    TS_PACKET = 188,
    TS_PAYLOAD = 184,
    TS_TABLES = 3 * TS_PACKET, /* PAT, PMT, SDT once a segment */
    PES_HEADER = 14,           /* with a PTS */
    PES_DTS = 5,
    ACCESS_UNIT_DELIMITER = 7,
    PES_AUDIO_MAX = 2930, /* what the muxer collects into one PES packet */
    PCR_FIELD = 8,
    ADTS_HEADER = 7,
};

/* The last frame's duration is believed up to this; sample tables can claim anything. */
static const int64_t LAST_FRAME_MAX_S = 10;

struct cutter {
    struct sg_segment *segments;
    size_t n, cap;
    struct sg_segment current;
    uint64_t payload; /* of current */
};

static enum sg_error cutter_flush(struct cutter *c, bool video, uint64_t max_bytes,
                                  char why[SG_MEDIA_MESSAGE_MAX])
{
    c->current.bytes_fmp4 = c->payload + fmp4_overhead(video, c->current.samples);
    if (c->current.bytes_fmp4 > max_bytes || c->current.bytes_ts > max_bytes ||
        c->payload > UINT32_MAX - 8)
        return sgav_fail(SG_ERR_UNPROCESSABLE, why,
                         "Segment %zu would be %llu bytes, as the file has no key frame for so "
                         "long; at most %llu fit.",
                         c->n, (unsigned long long)c->current.bytes_fmp4,
                         (unsigned long long)max_bytes);
    if (c->n == c->cap) {
        size_t cap = c->cap ? 2 * c->cap : 64;
        struct sg_segment *grown = realloc(c->segments, cap * sizeof(*grown));
        if (!grown)
            return SG_ERR_NO_MEMORY;
        c->segments = grown;
        c->cap = cap;
    }
    c->segments[c->n++] = c->current;
    c->current = (struct sg_segment){0};
    c->payload = 0;
    return SG_OK;
}

/* Segment starts are set; durations follow from them. */
static enum sg_error cutter_finish(struct cutter *c, struct sg_track *t, int64_t end)
{
    for (size_t i = 0; i < c->n; i++) {
        int64_t next = i + 1 < c->n ? c->segments[i + 1].start : end;
        if (next <= c->segments[i].start)
            return SG_ERR_UNPROCESSABLE;
        c->segments[i].duration = (uint64_t)(next - c->segments[i].start);
        t->samples += c->segments[i].samples;
    }
    t->start = c->segments[0].start;
    t->duration = (uint64_t)(end - t->start);
    t->n_segments = (uint32_t)c->n;
    t->segments = c->segments;
    c->segments = NULL;
    return SG_OK;
}

static const int64_t CENTURY_MS = INT64_C(100) * 366 * 86400 * 1000;

/* Within a century: what is farther is refused, so no sum overflows. */
static bool time_sane(int64_t t, uint32_t tb_den)
{
    int64_t bound = CENTURY_MS / 1000 * tb_den;
    return t > -bound && t < bound;
}

struct video_pass {
    struct cutter cut;
    const struct sg_media_limits *limits;
    struct sg_track *track;
    int64_t
        threshold; /* stream units: a key frame this far from the segment's start begins the next */
    int64_t first_dts, last_dts, last_delta, max_pts;
    uint32_t shown; /* in the current segment */
    uint64_t shown_total;
    uint32_t hidden; /* discarded samples since the last shown one; at the end they are left out */
    uint64_t hidden_bytes; /* of those */
    uint32_t hidden_ts;
    bool any_hidden;
    uint32_t parameter_bytes;
};

static uint32_t ts_cost_video(const struct video_pass *p, const AVPacket *packet)
{
    uint64_t pes = PES_HEADER + ACCESS_UNIT_DELIMITER + (uint64_t)packet->size;
    if (packet->pts != packet->dts)
        pes += PES_DTS;
    if (packet->flags & AV_PKT_FLAG_KEY)
        pes += p->parameter_bytes;
    uint64_t cost = (pes + PCR_FIELD + TS_PAYLOAD - 1) / TS_PAYLOAD * TS_PACKET;
    return cost < UINT32_MAX ? (uint32_t)cost : UINT32_MAX;
}

static enum sg_error video_cut(struct video_pass *p, const AVPacket *packet,
                               char why[SG_MEDIA_MESSAGE_MAX])
{
    struct sg_segment *s = &p->cut.current;
    bool key = (packet->flags & AV_PKT_FLAG_KEY) && !(packet->flags & AV_PKT_FLAG_DISCARD);
    if (key && p->shown && packet->pts - s->start >= p->threshold && packet->dts > s->seek_dts) {
        enum sg_error err = cutter_flush(&p->cut, true, p->limits->max_body_bytes, why);
        if (err)
            return err;
        p->shown = 0;
    }
    if (!s->samples) {
        s->seek_dts = packet->dts;
        s->start = INT64_MAX;
        s->bytes_ts = TS_TABLES;
    }
    return SG_OK;
}

static enum sg_error video_packet(struct video_pass *p, const AVPacket *packet,
                                  char why[SG_MEDIA_MESSAGE_MAX])
{
    if (packet->pts == AV_NOPTS_VALUE || packet->dts == AV_NOPTS_VALUE ||
        !time_sane(packet->pts, p->track->stream_tb_den) ||
        !time_sane(packet->dts, p->track->stream_tb_den))
        return sgav_fail(SG_ERR_UNPROCESSABLE, why,
                         "The file is damaged: a frame has no usable time.");
    if (av_packet_get_side_data(packet, AV_PKT_DATA_NEW_EXTRADATA, NULL))
        return sgav_fail(SG_ERR_UNSUPPORTED_MEDIA, why, "The video changes its parameters midway.");
    enum sg_error err = video_cut(p, packet, why);
    if (err)
        return err;
    struct sg_segment *s = &p->cut.current;
    uint32_t ts = ts_cost_video(p, packet);
    s->samples++;
    s->bytes_ts += ts;
    p->cut.payload += (uint32_t)packet->size;
    p->track->bytes += (uint32_t)packet->size;
    if (packet->dts > p->last_dts)
        p->last_delta = packet->dts - p->last_dts;
    p->last_dts = packet->dts;
    if (packet->flags & AV_PKT_FLAG_DISCARD) {
        p->any_hidden = true;
        p->hidden++;
        p->hidden_bytes += (uint32_t)packet->size;
        p->hidden_ts += ts;
        return SG_OK;
    }
    p->hidden = p->hidden_ts = 0;
    p->hidden_bytes = 0;
    /* Leading pictures of an open group are shown before its key frame, which stays the segment's
     * start: only the first segment begins with whatever is shown first. */
    if (p->shown == 0 || (p->cut.n == 0 && packet->pts < s->start))
        s->start = packet->pts;
    if (packet->pts > p->max_pts)
        p->max_pts = packet->pts;
    p->shown++;
    p->shown_total++;
    return SG_OK;
}

/* As long as the frame before, when that is believable. */
static int64_t usual_duration(const AVStream *stream, int64_t delta)
{
    if (delta > 0 && delta <= LAST_FRAME_MAX_S * stream->time_base.den)
        return delta;
    int64_t frame = stream->time_base.den / 25;
    return frame ? frame : 1;
}

/* How long the last frame lasts: what is left of the stream's duration, else as long as the one
 * before. */
static int64_t last_duration(const struct sgav_source *source, const AVStream *stream,
                             int64_t first_dts, int64_t last_dts, int64_t delta)
{
    int64_t left = 0;
    if (!source->iso.fragmented && stream->duration > 0 &&
        time_sane(stream->duration, (uint32_t)stream->time_base.den))
        left = first_dts + stream->duration - last_dts;
    return left > 0 && left <= LAST_FRAME_MAX_S * stream->time_base.den
               ? left
               : usual_duration(stream, delta);
}

static enum sg_error video_finish(struct sgav_source *source, const AVStream *stream,
                                  struct video_pass *p, char why[SG_MEDIA_MESSAGE_MAX])
{
    struct sg_track *t = p->track;
    if (p->shown_total == 0)
        return sgav_fail(SG_ERR_UNPROCESSABLE, why, "The video shows no frame.");
    if (!p->any_hidden && p->first_dts < -(int64_t)SG_TIMELINE_OFFSET_S * t->stream_tb_den)
        return sgav_fail(SG_ERR_UNPROCESSABLE, why,
                         "The file is damaged: its video begins before time 0.");
    p->cut.current.samples -= p->hidden;
    p->cut.current.bytes_ts -= p->hidden_ts;
    p->cut.payload -= p->hidden_bytes;
    t->bytes -= p->hidden_bytes;
    enum sg_error err = cutter_flush(&p->cut, true, p->limits->max_body_bytes, why);
    if (err)
        return err;
    int64_t left = p->any_hidden
                       ? usual_duration(stream, p->last_delta)
                       : last_duration(source, stream, p->first_dts, p->last_dts, p->last_delta);
    int64_t scale = t->timescale / t->stream_tb_den;
    for (size_t i = 0; i < p->cut.n; i++)
        p->cut.segments[i].start *= scale;
    if ((err = cutter_finish(&p->cut, t, (p->max_pts + left) * scale)))
        return sgav_fail(err, why, "The file is damaged: its key frames are out of order.");
    int num = 25, den = 1;
    av_reduce(&num, &den, (int64_t)p->shown_total * t->timescale, (int64_t)t->duration, 1 << 24);
    t->fps_num = (uint32_t)(num > 0 ? num : 1);
    t->fps_den = (uint32_t)(den > 0 ? den : 1);
    return SG_OK;
}

enum sg_error sgav_index_video(struct sgav_source *source, const struct sg_media_limits *limits,
                               struct sg_track *track, char why[SG_MEDIA_MESSAGE_MAX])
{
    AVStream *stream = source->fmt->streams[track->stream];
    const AVIndexEntry *first = avformat_index_get_entry(stream, 0);
    AVPacket *packet = av_packet_alloc();
    if (!packet)
        return SG_ERR_NO_MEMORY;
    struct video_pass p = {.limits = limits, .track = track, .max_pts = INT64_MIN};
    p.parameter_bytes = (uint32_t)stream->codecpar->extradata_size;
    p.first_dts = p.last_dts = first->timestamp;
    AVRational rate = stream->avg_frame_rate;
    int64_t half =
        rate.num > 0 && rate.den > 0
            ? av_rescale_q(1, av_mul_q(av_inv_q(rate), (AVRational){1, 2}), stream->time_base)
            : stream->time_base.den / 100;
    p.threshold = av_rescale(limits->segment_ms, stream->time_base.den, 1000);
    p.threshold = p.threshold > 2 * half ? p.threshold - half : p.threshold;
    sgav_source_select(source, stream->index);
    enum sg_error err = sgav_source_seek(source, track->stream, first->timestamp);
    for (uint64_t n = 0; !err; n++) {
        err = sgav_source_skim(source, packet);
        if (err == SG_ERR_NOT_FOUND)
            break;
        if (err)
            (void)sgav_fail(err, why, "The file is damaged: frame %llu cannot be read.",
                            (unsigned long long)n);
        else if (n >= limits->max_frames)
            err = sgav_fail(SG_ERR_TOO_LARGE, why, "The video has more than %llu frames.",
                            (unsigned long long)limits->max_frames);
        else
            err = video_packet(&p, packet, why);
    }
    if (err == SG_ERR_NOT_FOUND)
        err = video_finish(source, stream, &p, why);
    free(p.cut.segments);
    av_packet_free(&packet);
    return err;
}

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
}

/* Sign of t (audio timescale) against boundary k; negative when there is no such boundary. */
static int grid_compare(const struct audio_grid *g, uint32_t k, int64_t t, uint32_t timescale)
{
    uint32_t inside = g->video ? g->video->n_segments : 0;
    if (k < inside)
        return timeline_compare(t, timescale, g->video->segments[k].start, g->scale);
    return g->tail
               ? timeline_compare(t, timescale, g->base + (int64_t)(k - inside) * g->step, g->scale)
               : -1;
}

int64_t sgav_audio_first_shown(AVStream *stream)
{
    int n = avformat_index_get_entries_count(stream);
    for (int i = 0; i < n; i++) {
        const AVIndexEntry *e = avformat_index_get_entry(stream, i);
        if (!(e->flags & AVINDEX_DISCARD_FRAME))
            return e->timestamp;
    }
    return INT64_MAX;
}

bool sgav_audio_kept(const AVStream *stream, const AVIndexEntry *entry, int64_t first_shown)
{
    if (!(entry->flags & AVINDEX_DISCARD_FRAME))
        return true;
    if (entry->timestamp >= first_shown)
        return false;
    const AVCodecParameters *par = stream->codecpar;
    int64_t priming = par->codec_id == AV_CODEC_ID_OPUS ? 3840
                      : par->frame_size > 0             ? par->frame_size
                                                        : 1024;
    int rate = par->codec_id == AV_CODEC_ID_OPUS ? 48000 : par->sample_rate;
    return first_shown - entry->timestamp <=
           av_rescale_q(priming, (AVRational){1, rate}, stream->time_base);
}

static int64_t audio_time(const AVStream *stream, const struct sg_track *track, int64_t dts)
{
    return av_rescale_q(dts, stream->time_base, (AVRational){1, (int)track->timescale});
}

/* End of the last frame kept. */
static enum sg_error audio_end(const struct sgav_source *source, AVStream *stream,
                               const struct sg_track *track, int64_t *out)
{
    int n = avformat_index_get_entries_count(stream);
    const AVIndexEntry *e = n ? avformat_index_get_entry(stream, n - 1) : NULL;
    if (!e)
        return SG_ERR_UNPROCESSABLE;
    int64_t last = e->timestamp, first = avformat_index_get_entry(stream, 0)->timestamp, delta = 0;
    bool trimmed = e->flags & AVINDEX_DISCARD_FRAME;
    for (int i = n - 2; i >= 0 && (trimmed || !delta); i--) {
        e = avformat_index_get_entry(stream, i);
        delta = last - e->timestamp;
        if (trimmed) {
            trimmed = e->flags & AVINDEX_DISCARD_FRAME;
            last = e->timestamp;
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

static enum sg_error audio_cut(AVStream *stream, struct sg_track *track,
                               const struct audio_grid *grid, const struct sg_media_limits *limits,
                               struct cutter *c, char why[SG_MEDIA_MESSAGE_MAX])
{
    int n = avformat_index_get_entries_count(stream);
    int64_t first_shown = sgav_audio_first_shown(stream);
    uint32_t boundary = 1;
    int64_t longest_ms = limits->max_duration_ms < (uint64_t)CENTURY_MS
                             ? (int64_t)limits->max_duration_ms
                             : CENTURY_MS;
    int64_t limit = av_rescale(longest_ms, track->timescale, 1000);
    for (int i = 0; i < n; i++) {
        const AVIndexEntry *e = avformat_index_get_entry(stream, i);
        if (!sgav_audio_kept(stream, e, first_shown))
            continue;
        if (!time_sane(e->timestamp, track->stream_tb_den))
            return SG_ERR_UNPROCESSABLE;
        int64_t t = audio_time(stream, track, e->timestamp);
        if (t > limit) /* boundaries are counted one by one: bound them first */
            return sgav_fail(SG_ERR_TOO_LARGE, why, "The audio lasts longer than %llu s.",
                             (unsigned long long)limits->max_duration_ms / 1000);
        bool cut = false;
        while (grid_compare(grid, boundary, t, track->timescale) >= 0) {
            boundary++;
            cut = true;
        }
        struct sg_segment *s = &c->current;
        if (cut && s->samples && e->timestamp > s->seek_dts && t > s->start) {
            enum sg_error err = cutter_flush(c, false, limits->max_body_bytes, why);
            if (err)
                return err;
        }
        if (!s->samples) {
            s->start = t;
            s->seek_dts = e->timestamp;
        }
        s->samples++;
        c->payload += (uint64_t)e->size;
        track->bytes += (uint64_t)e->size;
    }
    return c->current.samples ? cutter_flush(c, false, limits->max_body_bytes, why) : SG_OK;
}

enum sg_error sgav_index_audio(struct sgav_source *source, const struct sg_media_limits *limits,
                               struct sg_track *track, const struct sg_track *video,
                               char why[SG_MEDIA_MESSAGE_MAX])
{
    AVStream *stream = source->fmt->streams[track->stream];
    struct cutter c = {0};
    struct audio_grid grid;
    int64_t end, first = sgav_audio_first_shown(stream);
    enum sg_error err =
        first == INT64_MAX ? SG_ERR_UNPROCESSABLE : audio_end(source, stream, track, &end);
    if (!err) {
        grid_init(&grid, track, video, audio_time(stream, track, first), end, limits->segment_ms);
        err = audio_cut(stream, track, &grid, limits, &c, why);
    }
    if (!err)
        err = c.n ? cutter_finish(&c, track, end) : SG_ERR_UNPROCESSABLE;
    free(c.segments);
    if (err == SG_ERR_UNPROCESSABLE && !why[0])
        (void)sgav_fail(err, why, "The file is damaged: the times of its audio make no sense.");
    return err;
}

/* What the samples of one audio segment cost in transport packets: the muxer collects frames into
 * PES packets. */
static uint64_t ts_cost_audio(AVStream *stream, const struct sg_track *track,
                              const struct sg_segment *segment, int64_t first_shown)
{
    int n = avformat_index_get_entries_count(stream);
    int at = av_index_search_timestamp(stream, segment->seek_dts,
                                       AVSEEK_FLAG_BACKWARD | AVSEEK_FLAG_ANY);
    uint64_t cost = 0, pending = 0;
    uint32_t header = track->codec == SG_CODEC_AAC ? ADTS_HEADER : 0;
    for (uint32_t left = segment->samples; left && at >= 0 && at < n; at++) {
        const AVIndexEntry *e = avformat_index_get_entry(stream, at);
        if (!sgav_audio_kept(stream, e, first_shown))
            continue;
        uint64_t size = (uint64_t)e->size + header;
        left--;
        if (pending && pending + size > PES_AUDIO_MAX) {
            cost += (pending + PES_HEADER + TS_PAYLOAD - 1) / TS_PAYLOAD * TS_PACKET;
            pending = 0;
        }
        pending += size;
    }
    return cost + (pending + PES_HEADER + TS_PAYLOAD - 1) / TS_PAYLOAD * TS_PACKET;
}

void sgav_index_add_ts_audio(struct sgav_source *source, struct sg_track *audio,
                             struct sg_track *video)
{
    AVStream *stream = source->fmt->streams[audio->stream];
    struct sg_segment *own = (struct sg_segment *)audio->segments;
    int64_t first_shown = sgav_audio_first_shown(stream);
    uint32_t muxed = video ? video->n_segments : 0, first = 0, end = 0;
    for (uint32_t n = 0; n < muxed; n++) {
        timeline_audio_of(video, audio, n, &first, &end);
        for (; first < end; first++)
            ((struct sg_segment *)video->segments)[n].bytes_ts +=
                ts_cost_audio(stream, audio, &own[first], first_shown);
    }
    for (uint32_t i = end; i < audio->n_segments; i++)
        own[i].bytes_ts = TS_TABLES + ts_cost_audio(stream, audio, &own[i], first_shown);
}
