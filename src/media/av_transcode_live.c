/* The main track of an output as fragments while it is made: what the packaging of the finished
 * file will give, cut by the same rules (av_video.c for closed groups of pictures, av_index.c for
 * sound without pictures), in the same scale, on the same timeline. A fragment is written as soon
 * as the packet that begins the next one is there. */
#include <errno.h>
#include <libavutil/intreadwrite.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "av_cut.h"
#include "av_transcode_core.h"

enum { PACKETS_MAX = 1 << 20, START_CODE = 3 };

static enum sg_error no_memory(struct xc_output *o)
{
    return xc_fail(o->x, SG_ERR_NO_MEMORY, "There is not enough memory.");
}

static enum sg_error write_all(struct xc_output *o, const uint8_t *at, size_t len)
{
    struct xc_segmenter *l = o->live;
    while (len) {
        ssize_t n = pwrite(l->fd, at, len, (off_t)l->offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return xc_fail_av(o->x, n < 0 ? AVERROR(errno) : AVERROR(EIO), SG_ERR_IO,
                              "The live output cannot be written");
        at += n;
        l->offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return SG_OK;
}

/* The next start code (ISO/IEC 14496-10 Annex B) at or after p; end when there is none. */
static const uint8_t *start_code(const uint8_t *p, const uint8_t *end)
{
    for (; end - p >= START_CODE; p++)
        if (p[0] == 0 && p[1] == 0 && p[2] == 1)
            return p;
    return end;
}

/* Start codes become lengths. out NULL: only reckons. Returns the length. */
static size_t with_lengths(const uint8_t *data, size_t len, uint8_t *out)
{
    const uint8_t *end = data + len, *p = start_code(data, end);
    size_t total = 0;
    while (p < end) {
        const uint8_t *unit = p + START_CODE, *next = start_code(unit, end), *stop = next;
        while (stop > unit && stop[-1] == 0)
            stop--;
        size_t n = (size_t)(stop - unit);
        if (n && out) {
            AV_WB32(out + total, (uint32_t)n);
            memcpy(out + total + 4, unit, n);
        }
        total += n ? n + 4 : 0;
        p = next;
    }
    return total;
}

/* By our own renderer, of the track alone. */
static enum sg_error write_init(struct xc_output *o)
{
    struct xc_segmenter *l = o->live;
    struct sgav_source source = {.fmt = avformat_alloc_context()};
    AVStream *s = source.fmt ? avformat_new_stream(source.fmt, NULL) : NULL;
    const AVStream *from = o->mux->streams[0];
    struct sgav_body body = {0};
    struct media_call call = {.n_parts = 1};
    call.parts[0] = (struct media_part){
        .kind = l->track.kind, .codec = l->track.codec, .timescale = l->track.timescale};
    enum sg_error err = SG_ERR_NO_MEMORY;
    if (s && avcodec_parameters_copy(s->codecpar, from->codecpar) >= 0) {
        s->codecpar->sample_aspect_ratio = (AVRational){0, 1}; /* square, and not told */
        s->time_base = (AVRational){1, (int)l->track.timescale};
        (void)av_dict_copy(&s->metadata, from->metadata, 0);
        err = sgav_render_init(&source, &call, &body);
    }
    avformat_free_context(source.fmt);
    if (err)
        return xc_fail(o->x, err, "The initialisation segment cannot be made.");
    err = write_all(o, body.data, body.len);
    free(body.data);
    if (!err)
        xc_event_post(o->x, &(struct sg_transcode_event){.kind = SG_TRANSCODE_LIVE_TRACK,
                                                         .output = o->number,
                                                         .track = l->track,
                                                         .bytes = l->offset});
    return err;
}

/* H.264's name from the sequence parameter set, which comes first. */
static void fill_video(struct xc_output *o, struct sg_track *t)
{
    const AVCodecParameters *par = o->mux->streams[0]->codecpar;
    const uint8_t *x = par->extradata, *end = x + par->extradata_size;
    const uint8_t *sps = x ? start_code(x, end) : end;
    if (end - sps >= START_CODE + 4)
        snprintf(t->codecs, sizeof(t->codecs), "avc1.%02x%02x%02x", sps[4], sps[5], sps[6]);
    t->codec = SG_CODEC_H264;
    t->timescale = (uint32_t)o->video->scale;
    t->width = t->display_width = (uint32_t)par->width;
    t->height = t->display_height = (uint32_t)par->height;
    t->sar_num = t->sar_den = 1;
    t->fps_num = (uint32_t)o->video->rate.num;
    t->fps_den = (uint32_t)o->video->rate.den;
}

static enum sg_error fill_audio(struct xc_output *o, struct sg_track *t)
{
    const AVCodecParameters *par = o->mux->streams[0]->codecpar;
    t->codec = sgav_codec_of(par->codec_id);
    t->sample_rate = t->timescale = (uint32_t)par->sample_rate;
    t->channels = (uint16_t)par->ch_layout.nb_channels;
    return sgav_codec_string(par, t->codecs, sizeof(t->codecs));
}

enum sg_error xc_live_open(struct xc_output *o)
{
    const struct sg_media_limits *limits = o->x->plan->limits;
    struct xc_segmenter *l = o->live = calloc(1, sizeof(*l));
    if (!l)
        return no_memory(o);
    struct sg_track *t = &l->track;
    AVStream *s = o->mux->streams[0];
    l->fd = o->plan->live_fd;
    l->video = o->video != NULL;
    l->max_bytes = limits->max_body_bytes;
    l->max_pts = l->first_shown = INT64_MIN;
    t->kind = l->video ? SG_TRACK_VIDEO : SG_TRACK_AUDIO;
    t->is_default = true;
    snprintf(t->name, sizeof(t->name), "%s", l->video ? "original" : "audio");
    snprintf(t->codec_name, sizeof(t->codec_name), "%s", avcodec_get_name(s->codecpar->codec_id));
    sgav_probe_texts(s, t);
    enum sg_error err = SG_OK;
    if (l->video)
        fill_video(o, t);
    else
        err = fill_audio(o, t);
    if (err)
        return xc_fail(o->x, err, "The %s audio lacks the parameters players need.", t->codec_name);
    t->stream_tb_num = 1;
    t->stream_tb_den = t->timescale;
    int64_t length = av_rescale(limits->segment_ms, t->timescale, 1000);
    int64_t slack = t->timescale / 100;
    l->threshold = l->video && length > 2 * slack ? length - slack : length;
    l->step = length > 0 ? length : 1;
    return write_init(o);
}

static enum sg_error keep(struct xc_output *o, const AVPacket *packet)
{
    struct xc_segmenter *l = o->live;
    if (l->n == l->cap) {
        uint32_t cap = l->cap ? 2 * l->cap : 256;
        AVPacket **grown =
            cap <= PACKETS_MAX ? realloc(l->packets, cap * sizeof(AVPacket *)) : NULL;
        if (!grown)
            return no_memory(o);
        l->packets = grown;
        l->cap = cap;
    }
    AVPacket *copy = av_packet_clone(packet);
    if (!copy)
        return no_memory(o);
    l->packets[l->n++] = copy;
    return SG_OK;
}

/* Of packet i of those that are kept. */
static int64_t decode_time(const struct xc_segmenter *l, int64_t dts, uint32_t i)
{
    return l->video ? fmp4_decode_time(dts, l->before + i, l->track.timescale) : dts;
}

/* moof and mdat of what is kept, malloc'ed. */
static enum sg_error build(struct xc_segmenter *l, int64_t end_dts, uint8_t **out, size_t *out_len)
{
    struct fmp4_sample *samples = calloc(l->n, sizeof(*samples));
    uint64_t overhead = fmp4_overhead(l->video, l->n), len = overhead;
    uint8_t *data = NULL;
    enum sg_error err = SG_ERR_NO_MEMORY;
    if (!samples)
        return err;
    for (uint32_t i = 0; i < l->n; i++) {
        const AVPacket *p = l->packets[i];
        size_t size = l->video ? with_lengths(p->data, (size_t)p->size, NULL) : (size_t)p->size;
        samples[i] = (struct fmp4_sample){.dts = decode_time(l, p->dts, i),
                                          .pts = l->video ? p->pts : p->dts,
                                          .size = (uint32_t)size,
                                          .key = !l->video || p->flags & AV_PKT_FLAG_KEY};
        len += size;
    }
    err = SG_ERR_TOO_LARGE;
    if (len > l->max_bytes)
        goto out;
    err = SG_ERR_NO_MEMORY;
    if (!(data = malloc(len)))
        goto out;
    struct fmp4_fragment f = {.video = l->video,
                              .sequence = l->number + 1,
                              .timescale = l->track.timescale,
                              .samples = samples,
                              .n = l->n,
                              .end_dts = end_dts};
    if ((err = fmp4_write_header(&f, data, len)))
        goto out;
    uint8_t *at = data + overhead;
    for (uint32_t i = 0; i < l->n; at += samples[i++].size)
        if (l->video)
            (void)with_lengths(l->packets[i]->data, (size_t)l->packets[i]->size, at);
        else
            memcpy(at, l->packets[i]->data, samples[i].size);
    *out = data;
    *out_len = len;
out:
    free(samples);
    if (err)
        free(data);
    return err;
}

/* Writes what is kept as a segment that lasts until `end`. */
static enum sg_error flush(struct xc_output *o, int64_t end, int64_t end_dts)
{
    struct xc_segmenter *l = o->live;
    uint8_t *data = NULL;
    size_t len = 0;
    uint64_t offset = l->offset;
    enum sg_error err = end > l->start ? build(l, end_dts, &data, &len) : SG_ERR_INTERNAL;
    if (err)
        return xc_fail(o->x, err, "Segment %u of the live output cannot be made.", l->number);
    err = write_all(o, data, len);
    free(data);
    if (err)
        return err;
    xc_event_post(o->x,
                  &(struct sg_transcode_event){.kind = SG_TRANSCODE_LIVE_SEGMENT,
                                               .output = o->number,
                                               .segment = {.start = l->start,
                                                           .duration = (uint64_t)(end - l->start),
                                                           .bytes_fmp4 = len,
                                                           .samples = l->n},
                                               .offset = offset});
    for (uint32_t i = 0; i < l->n; i++)
        av_packet_free(&l->packets[i]);
    l->before += l->n;
    l->n = 0;
    l->number++;
    return SG_OK;
}

/* Whether the packet begins a segment. */
static bool cuts(struct xc_segmenter *l, const AVPacket *p)
{
    if (l->video)
        return p->flags & AV_PKT_FLAG_KEY && p->pts - l->start >= l->threshold;
    bool cut = false;
    for (; p->dts >= l->next_cut; l->next_cut += l->step)
        cut = true;
    return cut && p->dts > l->start;
}

/* Sound is cut on a grid that begins with the first that is heard: the encoder's priming is not. */
static void begin_audio(struct xc_segmenter *l, const AVPacket *p)
{
    int64_t frame = l->par ? l->par->frame_size : 0;
    if (l->first_shown != INT64_MIN || (p->dts < 0 && p->dts + (frame ? frame : XC_AAC_FRAME) <= 0))
        return;
    l->first_shown = p->dts;
    l->next_cut = p->dts + l->step;
}

enum sg_error xc_live_packet(struct xc_output *o, const AVPacket *p)
{
    struct xc_segmenter *l = o->live;
    l->par = o->mux->streams[0]->codecpar;
    if (!l->begun)
        l->next_cut = INT64_MAX;
    if (!l->video)
        begin_audio(l, p);
    int64_t start = l->video ? p->pts : p->dts;
    if (l->n && cuts(l, p)) {
        enum sg_error err = flush(o, start, decode_time(l, p->dts, l->n));
        if (err)
            return err;
    }
    if (!l->n)
        l->start = start;
    if (l->begun && p->dts > l->last_dts)
        l->delta = p->dts - l->last_dts;
    l->begun = true;
    l->last_dts = p->dts;
    l->last_duration = p->duration;
    if (start > l->max_pts)
        l->max_pts = start;
    return keep(o, p);
}

enum sg_error xc_live_end(struct xc_output *o)
{
    struct xc_segmenter *l = o->live;
    if (!l->n)
        return SG_OK;
    int64_t last = l->video || l->delta <= 0 ? l->last_duration : l->delta;
    int64_t end = l->max_pts + (last > 0 ? last : l->delta);
    return flush(o, end, decode_time(l, l->last_dts, l->n - 1) + (end - l->max_pts));
}

void xc_live_close(struct xc_output *o)
{
    struct xc_segmenter *l = o->live;
    if (!l)
        return;
    for (uint32_t i = 0; i < l->n; i++)
        av_packet_free(&l->packets[i]);
    free(l->packets);
    free(l);
    o->live = NULL;
}
