/* An MPEG-TS segment: video and the default audio, each segment a muxer of its own that starts with
 * PAT and PMT and marks its first packets discontinuous (continuity counters restart). Timestamps
 * are the source's plus the timeline's offset, as in the other form. The clock reference runs a
 * fixed lead ahead of decoding, which also lets the muxer gather audio frames into full PES
 * packets. */
#include <libavcodec/bsf.h>
#include <libavutil/mem.h>
#include <stdlib.h>

#include "av_cut.h"

enum {
    PID_VIDEO = 0x100,
    PID_AUDIO = 0x101,
    PERIOD_NEVER_S = 100000,
    OUTPUT_BYTES = 1 << 18,
    TS_GAP = 90 /* 1 ms */
};

static const AVRational TS_TIME = {1, 90000};

struct output {
    uint8_t *data;
    size_t len, cap;
    uint64_t max;
};

struct track_out {
    const struct media_part *part;
    struct fmp4_sample *samples;
    uint32_t next;
    int64_t frame;        /* audio: the shortest distance of two samples, 90 kHz */
    AVBSFContext *filter; /* NULL: packets pass as they are */
    AVStream *to;
};

struct ts_mux {
    struct sgav_source *source;
    const struct media_call *call;
    AVFormatContext *mux;
    AVIOContext *io;
    AVPacket *packet;
    struct output output;
    struct track_out tracks[MEDIA_PARTS_MAX];
};

static int output_write(void *opaque, uint8_t *bytes, int n)
{
    struct output *o = opaque;
    size_t len = (size_t)n;
    if (o->len + len > o->max)
        return AVERROR(EFBIG);
    if (o->len + len > o->cap) {
        size_t cap = o->cap + o->cap / 2 + len;
        uint8_t *grown = realloc(o->data, cap);
        if (!grown)
            return AVERROR(ENOMEM);
        o->data = grown;
        o->cap = cap;
    }
    memcpy(o->data + o->len, bytes, len);
    o->len += len;
    return n;
}

static enum sg_error filter_open(struct track_out *t, const AVStream *from)
{
    const char *text = t->part->codec == SG_CODEC_H264 ? "h264_mp4toannexb,dump_extra=freq=keyframe"
                       : t->part->codec == SG_CODEC_HEVC ? "hevc_mp4toannexb"
                                                         : NULL;
    if (!text)
        return SG_OK;
    if (av_bsf_list_parse_str(text, &t->filter) < 0 ||
        avcodec_parameters_copy(t->filter->par_in, from->codecpar) < 0)
        return SG_ERR_NO_MEMORY;
    t->filter->time_base_in = TS_TIME;
    return av_bsf_init(t->filter) < 0 ? SG_ERR_UNPROCESSABLE : SG_OK;
}

static int64_t frame_time(const struct track_out *t)
{
    int64_t frame = INT64_MAX;
    for (uint32_t i = 1; i < t->part->samples; i++) {
        int64_t delta = t->samples[i].dts - t->samples[i - 1].dts;
        frame = delta < frame ? delta : frame;
    }
    return frame == INT64_MAX
               ? frame
               : av_rescale_q(frame, (AVRational){1, (int)t->part->timescale}, TS_TIME);
}

static enum sg_error track_open(struct ts_mux *m, struct track_out *t,
                                const struct media_part *part)
{
    t->part = part;
    if (part->samples == 0)
        return SG_OK;
    if (part->stream >= m->source->fmt->nb_streams)
        return SG_ERR_INVALID;
    const AVStream *from = m->source->fmt->streams[part->stream];
    enum sg_error err = sgav_samples_read(m->source, part, &t->samples);
    if (!err)
        t->frame = frame_time(t);
    if (err || (err = filter_open(t, from)))
        return err;
    t->to = avformat_new_stream(m->mux, NULL);
    if (!t->to || avcodec_parameters_copy(t->to->codecpar,
                                          t->filter ? t->filter->par_out : from->codecpar) < 0)
        return SG_ERR_NO_MEMORY;
    t->to->codecpar->codec_tag = 0;
    t->to->id = part->kind == SG_TRACK_VIDEO ? PID_VIDEO : PID_AUDIO;
    t->to->time_base = TS_TIME;
    const AVDictionaryEntry *language = av_dict_get(from->metadata, "language", NULL, 0);
    if (language && part->kind == SG_TRACK_AUDIO &&
        av_dict_set(&t->to->metadata, "language", language->value, 0) < 0)
        return SG_ERR_NO_MEMORY;
    return SG_OK;
}

static enum sg_error mux_open(struct ts_mux *m)
{
    uint8_t *buffer = av_malloc(OUTPUT_BYTES);
    if (buffer)
        m->io = avio_alloc_context(buffer, OUTPUT_BYTES, 1, &m->output, NULL, output_write, NULL);
    if (!m->io) {
        av_free(buffer);
        return SG_ERR_NO_MEMORY;
    }
    if (!(m->packet = av_packet_alloc()) ||
        avformat_alloc_output_context2(&m->mux, NULL, "mpegts", NULL) < 0)
        return SG_ERR_NO_MEMORY;
    m->mux->pb = m->io;
    m->mux->max_delay = TS_LEAD_US;
    m->mux->avoid_negative_ts = AVFMT_AVOID_NEG_TS_DISABLED;
    m->mux->flags |= AVFMT_FLAG_BITEXACT;
    m->mux->flags &= ~AVFMT_FLAG_AUTO_BSF;
    for (uint32_t i = 0; i < m->call->n_parts; i++) {
        enum sg_error err = track_open(m, &m->tracks[i], &m->call->parts[i]);
        if (err)
            return err;
    }
    AVDictionary *options = NULL;
    enum sg_error err = SG_ERR_NO_MEMORY;
    if (av_dict_set(&options, "mpegts_flags", "initial_discontinuity", 0) >= 0 &&
        av_dict_set_int(&options, "mpegts_copyts", 1, 0) >= 0 &&
        av_dict_set_int(&options, "pat_period", PERIOD_NEVER_S, 0) >= 0 &&
        av_dict_set_int(&options, "sdt_period", PERIOD_NEVER_S, 0) >= 0)
        err = avformat_write_header(m->mux, &options) < 0 ? SG_ERR_UNPROCESSABLE : SG_OK;
    av_dict_free(&options);
    return err;
}

static int64_t ts_time(int64_t t, const struct media_part *part)
{
    return av_rescale_q(t, (AVRational){1, (int)part->timescale}, TS_TIME) +
           (int64_t)SG_TIMELINE_OFFSET_S * TS_TIME.den;
}

/* One PES packet carries one time stamp and several audio frames, taken to follow each other: where
 * they do not, it must end. */
static enum sg_error flush_at_gap(struct ts_mux *m, const struct track_out *t)
{
    const struct fmp4_sample *s = &t->samples[t->next];
    if (t->part->kind != SG_TRACK_AUDIO || t->next == 0)
        return SG_OK;
    int64_t delta = ts_time(s->dts, t->part) - ts_time(s[-1].dts, t->part);
    if (t->next > 1 && delta <= t->frame + TS_GAP)
        return SG_OK;
    return av_write_frame(m->mux, NULL) < 0 ? SG_ERR_UNPROCESSABLE : SG_OK;
}

static enum sg_error write_packet(struct ts_mux *m, struct track_out *t)
{
    if (t->filter) {
        int r = av_bsf_send_packet(t->filter, m->packet);
        if (r < 0 || (r = av_bsf_receive_packet(t->filter, m->packet)) < 0)
            return r == AVERROR(ENOMEM) ? SG_ERR_NO_MEMORY : SG_ERR_UNPROCESSABLE;
    }
    m->packet->stream_index = t->to->index;
    int r = av_write_frame(m->mux, m->packet);
    av_packet_unref(m->packet);
    if (r == AVERROR(EFBIG))
        return SG_ERR_TOO_LARGE;
    return r == AVERROR(ENOMEM) ? SG_ERR_NO_MEMORY : r < 0 ? SG_ERR_UNPROCESSABLE : SG_OK;
}

static enum sg_error write_sample(struct ts_mux *m, struct track_out *t)
{
    const struct fmp4_sample *s = &t->samples[t->next];
    if (s->size > INT32_MAX - AV_INPUT_BUFFER_PADDING_SIZE ||
        av_new_packet(m->packet, (int)s->size) < 0)
        return SG_ERR_NO_MEMORY;
    enum sg_error err = flush_at_gap(m, t);
    if (!err)
        err = sgav_samples_copy(m->source, s, 1, m->packet->data);
    if (err) {
        av_packet_unref(m->packet);
        return err;
    }
    int64_t dts = ts_time(s->dts, t->part), floor = t->next ? ts_time(s[-1].dts, t->part) + 1 : dts;
    m->packet->dts = dts > floor ? dts : floor;
    m->packet->pts = ts_time(s->pts, t->part);
    if (m->packet->pts < m->packet->dts)
        m->packet->pts = m->packet->dts;
    m->packet->flags = s->key ? AV_PKT_FLAG_KEY : 0;
    t->next++;
    return write_packet(m, t);
}

/* The track whose next sample is decoded first; NULL at the end. */
static struct track_out *earliest(struct ts_mux *m)
{
    struct track_out *best = NULL;
    int64_t best_dts = INT64_MAX;
    for (uint32_t i = 0; i < m->call->n_parts; i++) {
        struct track_out *t = &m->tracks[i];
        if (t->next >= t->part->samples)
            continue;
        int64_t dts = ts_time(t->samples[t->next].dts, t->part);
        if (dts < best_dts) {
            best = t;
            best_dts = dts;
        }
    }
    return best;
}

enum sg_error sgav_render_ts(struct sgav_source *source, const struct media_call *call,
                             struct sgav_body *out)
{
    struct ts_mux m = {.source = source, .call = call, .output.max = call->limits.max_body_bytes};
    if (call->n_parts == 0)
        return SG_ERR_INVALID;
    enum sg_error err = mux_open(&m);
    bool header = !err;
    for (struct track_out *t; !err && (t = earliest(&m));)
        err = write_sample(&m, t);
    if (header && av_write_trailer(m.mux) < 0 && !err)
        err = SG_ERR_UNPROCESSABLE;
    if (m.io)
        avio_flush(m.io);
    if (!err && (m.io->error < 0 || m.output.len == 0))
        err = m.io->error == AVERROR(EFBIG) ? SG_ERR_TOO_LARGE : SG_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < call->n_parts; i++) {
        av_bsf_free(&m.tracks[i].filter);
        free(m.tracks[i].samples);
    }
    av_packet_free(&m.packet);
    avformat_free_context(m.mux);
    sgav_reader_close(&m.io);
    if (err)
        free(m.output.data);
    else
        *out = (struct sgav_body){.data = m.output.data, .len = m.output.len};
    return err;
}
