/* Cuts the video into segments, at key frames. Its samples are passed once, in decode order, and
 * gathered into groups: a key frame and what is decoded after it. A group with leading pictures -
 * decoded after the key frame but shown before it - is an open one: they refer to the group before,
 * so a segment that begins with it cannot be decoded alone. A cut is put off to the next closed
 * group where that does not make the segment twice as long as it should be; where it would, the
 * index says that its segments are not independent. */
#include <stdlib.h>

#include "av_cut.h"

enum {
    PES_DTS = 5,
    ACCESS_UNIT_DELIMITER = 7,
    PCR_FIELD = 8,
    WAITING_MAX = 256, /* groups; open ones have two frames at least */
};

struct group {
    int64_t dts;         /* of its first sample */
    int64_t key_pts;     /* of its first sample, if that is a key frame */
    int64_t first_shown; /* presentation time of the first shown in decode order */
    int64_t least_shown;
    uint64_t payload, ts;
    uint32_t samples, shown, key_bytes;
    bool cuttable; /* begins with a key frame that is shown */
    bool open;
};

struct video_pass {
    struct cutter cut;
    const struct sg_media_limits *limits;
    struct sg_track *track;
    int64_t threshold; /* stream units: a key frame this far from the segment's start ends it */
    int64_t longest;   /* to wait for a closed group */
    int64_t first_dts, last_dts, last_delta, max_pts;
    uint32_t early; /* shown samples whose decode times will be moved */
    uint32_t shown; /* in the current segment */
    uint64_t shown_total;
    uint32_t hidden; /* discarded samples since the last shown one; at the end they are left out */
    uint64_t hidden_bytes, hidden_ts; /* of those */
    bool any_hidden, dependent;
    uint32_t parameter_bytes;
    struct group group;    /* being gathered */
    struct group *waiting; /* complete, of no segment yet; WAITING_MAX */
    uint32_t n_waiting;
};

static uint32_t ts_cost(const struct video_pass *p, const struct sgav_sample *s)
{
    uint64_t pes = PES_HEADER + ACCESS_UNIT_DELIMITER + (uint64_t)s->size;
    if (s->pts != s->dts)
        pes += PES_DTS;
    if (s->key)
        pes += p->parameter_bytes;
    uint64_t cost = (pes + PCR_FIELD + TS_PAYLOAD - 1) / TS_PAYLOAD * TS_PACKET;
    return cost < UINT32_MAX ? (uint32_t)cost : UINT32_MAX;
}

static void add_group(struct video_pass *p, const struct group *g)
{
    struct sg_segment *s = &p->cut.current;
    if (!s->samples) {
        s->seek_dts = g->dts;
        s->start = INT64_MAX;
        s->bytes_ts = TS_TABLES;
        /* Key frames of open groups in a row, without what lies between, decoders put in a wrong
         * order. */
        s->key_bytes = g->open ? 0 : g->key_bytes;
        p->dependent |= g->open;
    }
    /* Leading pictures are shown before the key frame, which stays the segment's start: only the
     * first segment begins with whatever is shown first. */
    if (g->shown && p->cut.n == 0 && g->least_shown < s->start)
        s->start = g->least_shown;
    else if (g->shown && p->shown == 0)
        s->start = g->first_shown;
    s->samples += g->samples;
    s->bytes_ts += g->ts;
    p->cut.payload += g->payload;
    p->shown += g->shown;
}

static bool ends_segment(const struct video_pass *p, const struct group *g)
{
    const struct sg_segment *s = &p->cut.current;
    return g->cuttable && p->shown && g->key_pts - s->start >= p->threshold && g->dts > s->seek_dts;
}

/* The waiting group to cut at when the first is an open one at which a cut is due: 0 when no closed
 * one is near enough, n_waiting when none of them - that is not known yet, or the end is near. Once
 * segments are not independent all is as it would be without open groups. */
static uint32_t closed_group(const struct video_pass *p, bool final)
{
    const struct sg_segment *s = &p->cut.current;
    uint64_t bytes = p->cut.payload, ts = s->bytes_ts, samples = s->samples;
    if (p->dependent)
        return 0;
    for (uint32_t i = 0; i < p->n_waiting; i++) {
        const struct group *g = &p->waiting[i];
        if (g->cuttable && g->key_pts - s->start > p->longest)
            return 0;
        if (i && g->cuttable && !g->open)
            return i;
        bytes += g->payload;
        ts += g->ts;
        samples += g->samples;
        if (samples > UINT32_MAX || ts > p->limits->max_body_bytes ||
            bytes + fmp4_overhead(true, (uint32_t)samples) > p->limits->max_body_bytes)
            return 0;
    }
    if (final)
        return p->max_pts - s->start > p->longest ? 0 : p->n_waiting;
    return p->n_waiting == WAITING_MAX ? 0 : p->n_waiting;
}

static enum sg_error begin_segment(struct video_pass *p, const struct group *g,
                                   char why[SG_MEDIA_MESSAGE_MAX])
{
    enum sg_error err = cutter_flush(&p->cut, true, p->limits->max_body_bytes, why);
    if (err)
        return err;
    p->shown = 0;
    add_group(p, g);
    return SG_OK;
}

/* Gives the waiting groups to segments, as far as can be told. */
static enum sg_error settle(struct video_pass *p, bool final, char why[SG_MEDIA_MESSAGE_MAX])
{
    uint32_t done = 0;
    while (p->n_waiting) {
        uint32_t take = 1;
        if (ends_segment(p, &p->waiting[0])) {
            uint32_t at = p->waiting[0].open ? closed_group(p, final) : 0;
            if (at == p->n_waiting && !final)
                break;
            for (uint32_t i = 0; i < at; i++)
                add_group(p, &p->waiting[i]);
            take = at;
            if (at < p->n_waiting) {
                enum sg_error err = begin_segment(p, &p->waiting[at], why);
                if (err)
                    return err;
                take++;
            }
        } else {
            add_group(p, &p->waiting[0]);
        }
        done += take;
        p->waiting += take;
        p->n_waiting -= take;
    }
    struct group *begin = p->waiting - done;
    for (uint32_t i = 0; done && i < p->n_waiting; i++)
        begin[i] = p->waiting[i];
    p->waiting = begin;
    return SG_OK;
}

static enum sg_error end_group(struct video_pass *p, bool final, char why[SG_MEDIA_MESSAGE_MAX])
{
    p->waiting[p->n_waiting++] = p->group;
    return settle(p, final, why);
}

static void begin_group(struct video_pass *p, const struct sgav_sample *s)
{
    bool first = p->group.samples == 0;
    p->group = (struct group){
        .dts = s->dts,
        .key_pts = s->key ? s->pts : INT64_MIN,
        .least_shown = INT64_MAX,
        .key_bytes = s->key && !s->discard ? s->size : 0,
        .cuttable = s->key && !s->discard,
        .open = first && !s->key, /* what it needs is not there at all */
    };
}

/* Whether a sample that is shown can be decoded no earlier than fmp4_decode_time allows: not when
 * it is shown before that, nor when there are more of them than can be told apart there. */
static bool early_sane(struct video_pass *p, const struct sgav_sample *s)
{
    uint32_t timescale = p->track->timescale;
    int64_t scale = timescale / p->track->stream_tb_den;
    if (!fmp4_decode_early(s->dts * scale, timescale))
        return true;
    return !fmp4_decode_early(s->pts * scale, timescale) && p->early++ < FMP4_EARLY_MAX;
}

static enum sg_error video_sample(struct video_pass *p, const struct sgav_sample *s,
                                  char why[SG_MEDIA_MESSAGE_MAX])
{
    if (!time_sane(s->pts, p->track->stream_tb_den) || !time_sane(s->dts, p->track->stream_tb_den))
        return sgav_fail(SG_ERR_UNPROCESSABLE, why,
                         "The file is damaged: a frame has no usable time.");
    if (s->changes)
        return sgav_fail(SG_ERR_UNSUPPORTED_MEDIA, why, "The video changes its parameters midway.");
    struct group *g = &p->group;
    if (g->samples == 0 || (s->key && !s->discard)) {
        enum sg_error err = g->samples ? end_group(p, false, why) : SG_OK;
        if (err)
            return err;
        begin_group(p, s);
    }
    uint32_t ts = ts_cost(p, s);
    g->samples++;
    g->ts += ts;
    g->payload += s->size;
    g->open |= s->pts < g->key_pts;
    p->track->bytes += s->size;
    if (s->dts > p->last_dts)
        p->last_delta = s->dts - p->last_dts;
    p->last_dts = s->dts;
    if (s->discard) {
        p->any_hidden = true;
        p->hidden++;
        p->hidden_bytes += s->size;
        p->hidden_ts += ts;
        return SG_OK;
    }
    if (!early_sane(p, s))
        return sgav_fail(SG_ERR_UNPROCESSABLE, why,
                         "The file is damaged: its video begins before time 0.");
    p->hidden = 0;
    p->hidden_bytes = p->hidden_ts = 0;
    if (g->shown++ == 0)
        g->first_shown = s->pts;
    if (s->pts < g->least_shown)
        g->least_shown = s->pts;
    if (s->pts > p->max_pts)
        p->max_pts = s->pts;
    p->shown_total++;
    return SG_OK;
}

static enum sg_error video_finish(struct sgav_source *source, const AVStream *stream,
                                  struct video_pass *p, char why[SG_MEDIA_MESSAGE_MAX])
{
    struct sg_track *t = p->track;
    if (p->shown_total == 0)
        return sgav_fail(SG_ERR_UNPROCESSABLE, why, "The video shows no frame.");
    enum sg_error err = end_group(p, true, why);
    if (err)
        return err;
    p->cut.current.samples -= p->hidden;
    p->cut.current.bytes_ts -= p->hidden_ts;
    p->cut.payload -= p->hidden_bytes;
    t->bytes -= p->hidden_bytes;
    if ((err = cutter_flush(&p->cut, true, p->limits->max_body_bytes, why)))
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

/* Segments may be a little short of the length asked for, as key frames come on a grid and their
 * times are rounded. By how much must not depend on the film's frame rate, which is not known while
 * one is cut that is still made (av_transcode_live.c). */
static void set_lengths(struct video_pass *p, const AVStream *stream, uint32_t segment_ms)
{
    int64_t slack = stream->time_base.den / 100;
    int64_t length = av_rescale(segment_ms, stream->time_base.den, 1000);
    p->threshold = length > 2 * slack ? length - slack : length;
    p->longest = 2 * length;
}

enum sg_error sgav_index_video(struct sgav_source *source, const struct sg_media_limits *limits,
                               struct sg_track *track, bool *independent,
                               char why[SG_MEDIA_MESSAGE_MAX])
{
    AVStream *stream = source->fmt->streams[track->stream];
    struct sgav_sample sample;
    struct sgav_walk walk = {0};
    struct group *waiting = calloc(WAITING_MAX, sizeof(*waiting));
    struct video_pass p = {
        .limits = limits, .track = track, .max_pts = INT64_MIN, .waiting = waiting};
    enum sg_error err = SG_ERR_NO_MEMORY;
    if (!waiting)
        goto out;
    p.parameter_bytes = (uint32_t)stream->codecpar->extradata_size;
    sgav_sample_get(source, stream, 0, &sample);
    p.first_dts = p.last_dts = sample.dts;
    set_lengths(&p, stream, limits->segment_ms);
    err = sgav_walk_open(&walk, source, stream, sample.dts);
    for (uint64_t n = 0; !err; n++) {
        err = sgav_walk_next(&walk, &sample);
        if (err == SG_ERR_NOT_FOUND)
            break;
        if (err)
            (void)sgav_fail(err, why, "The file is damaged: frame %llu cannot be read.",
                            (unsigned long long)n);
        else if (n >= limits->max_frames)
            err = sgav_fail(SG_ERR_TOO_LARGE, why, "The video has more than %llu frames.",
                            (unsigned long long)limits->max_frames);
        else
            err = video_sample(&p, &sample, why);
    }
    if (err == SG_ERR_NOT_FOUND)
        err = video_finish(source, stream, &p, why);
    if (!err)
        *independent = !p.dependent;
out:
    free(p.cut.segments);
    free(waiting);
    sgav_walk_close(&walk);
    return err;
}
