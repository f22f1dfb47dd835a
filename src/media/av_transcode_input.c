/* The source: opened for libavformat to read whole, hardened as av_open.c has it for all
 * sources, and decoded within the limits. What is damaged is passed over as long as most is not. */
#include <errno.h>
#include <libavutil/cpu.h>
#include <libavutil/opt.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "av_container.h"
#include "av_transcode_core.h"

enum {
    PROBE_BYTES = 8 << 20,
    ANALYZE_US = 6 * AV_TIME_BASE,
    AHEAD_MAX = 2048, /* packets */
    AHEAD_BYTES = 48 << 20,
    AHEAD_PICTURES = 20, /* of a stream: no codec shows a picture later than so many others */
    SCALE_LEAST = 90000,
    SCALE_MOST = 1000000,
    FPS_MOST = 240,
    BAD_MIN = 8, /* damaged packets before their share is looked at */
};

static enum sg_error learn(struct xc *x)
{
    unsigned n = x->fmt->nb_streams;
    const struct sg_media_limits *limits = x->plan->limits;
    AVDictionary **options = av_calloc(n + 1, sizeof(AVDictionary *));
    int64_t pixels = (int64_t)(limits->max_pixels & INT64_MAX);
    int r = options ? 0 : AVERROR(ENOMEM);
    for (unsigned i = 0; i < n && r >= 0; i++)
        r = av_dict_set_int(&options[i], "max_pixels", pixels, 0);
    if (r >= 0)
        r = avformat_find_stream_info(x->fmt, options);
    for (unsigned i = 0; options && i < n; i++)
        av_dict_free(&options[i]);
    av_free(options);
    if (r < 0)
        return xc_fail_av(x, r, SG_ERR_UNPROCESSABLE, "The streams of the file cannot be read");
    if (x->fmt->nb_streams > limits->max_streams)
        return xc_fail(x, SG_ERR_TOO_LARGE, "The file has %u tracks; at most %u are taken.",
                       x->fmt->nb_streams, limits->max_streams);
    return SG_OK;
}

enum sg_error xc_open(struct xc *x)
{
    struct stat st;
    struct iso_scan scan;
    char why[SG_MEDIA_MESSAGE_MAX] = {0};
    AVDictionary *options = NULL;
    if (fstat(x->plan->fd, &st) < 0 || !S_ISREG(st.st_mode))
        return xc_fail(x, SG_ERR_INVALID, "The source is not a file.");
    enum sg_error err = sgav_sniff(x->plan->fd, st.st_size, &scan, why);
    if (err)
        return xc_fail(x, err, "%s", why);
    x->reader = (struct sgav_reader){.fd = x->plan->fd, .size = st.st_size};
    if (sgav_reader_open(&x->reader, &x->io))
        return xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    x->fmt = avformat_alloc_context();
    if (!x->fmt || sgav_demuxer_begin(x->fmt, x->io, scan.container, &options) < 0) {
        av_dict_free(&options);
        return xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    }
    x->fmt->probesize = PROBE_BYTES;
    x->fmt->max_analyze_duration = ANALYZE_US;
    int r = avformat_open_input(&x->fmt, "", x->fmt->iformat, &options);
    av_dict_free(&options);
    if (r < 0)
        return xc_fail_av(x, r, SG_ERR_UNPROCESSABLE, "The file is damaged");
    x->container = scan.container;
    err = learn(x);
    if (err)
        return err;
    x->inputs = calloc(x->fmt->nb_streams + 1, sizeof(*x->inputs));
    if (!x->inputs)
        return xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    x->n_inputs = x->fmt->nb_streams;
    return SG_OK;
}

/* Ticks a second: the source's own, times what makes them fine enough for any player. */
static int scale_of(const AVStream *stream)
{
    int den = stream->time_base.den;
    if (den <= 0 || den > SCALE_MOST)
        return SCALE_LEAST;
    return den * (den < SCALE_LEAST ? (SCALE_LEAST + den - 1) / den : 1);
}

static bool rate_sane(AVRational r)
{
    return r.num > 0 && r.den > 0 && r.num / r.den <= FPS_MOST && r.den / r.num < 60;
}

static AVRational rate_of(const AVStream *stream)
{
    return rate_sane(stream->avg_frame_rate) ? stream->avg_frame_rate
           : rate_sane(stream->r_frame_rate) ? stream->r_frame_rate
                                             : (AVRational){25, 1};
}

enum sg_error xc_input_use(struct xc *x, uint32_t stream, bool decode, struct xc_input **out)
{
    if (stream >= x->n_inputs)
        return xc_fail(x, SG_ERR_INVALID, "The file has no track %u.", stream);
    struct xc_input *in = &x->inputs[stream];
    AVStream *s = x->fmt->streams[stream];
    in->x = x;
    in->stream = s;
    in->copied |= !decode;
    in->decoded |= decode;
    in->copy_dts = in->last_pts = INT64_MIN;
    in->last_grid = in->copy_exact = INT64_MIN;
    in->before.threads = x->plan->threads ? x->plan->threads : (unsigned)av_cpu_count();
    if (s->codecpar->codec_type == AVMEDIA_TYPE_VIDEO) {
        in->scale = scale_of(s);
        in->rate = rate_of(s);
        in->by_order = x->container && x->container->no_shown_times;
    }
    *out = in;
    return SG_OK;
}

/* libavcodec's own decoders of VP8 and VP9 leave out how far WebM's pictures can be seen through.
 */
static const AVCodec *decoder_of(const AVStream *s)
{
    enum AVCodecID id = s->codecpar->codec_id;
    const AVDictionaryEntry *alpha = av_dict_get(s->metadata, "alpha_mode", NULL, 0);
    const char *name = NULL;
    if (id == AV_CODEC_ID_AV1)
        name = "libdav1d";
    else if (alpha && strcmp(alpha->value, "1") == 0)
        name = id == AV_CODEC_ID_VP8 ? "libvpx" : id == AV_CODEC_ID_VP9 ? "libvpx-vp9" : NULL;
    const AVCodec *codec = name ? avcodec_find_decoder_by_name(name) : NULL;
    return codec ? codec : avcodec_find_decoder(id);
}

static enum sg_error open_decoder(struct xc_input *in)
{
    struct xc *x = in->x;
    const AVCodecParameters *par = in->stream->codecpar;
    const AVCodec *codec = decoder_of(in->stream);
    if (!codec)
        return xc_fail(x, SG_ERR_UNSUPPORTED_MEDIA, "Track %d is %s, which cannot be decoded.",
                       in->stream->index, avcodec_get_name(par->codec_id));
    if (par->width > 0 && par->height > 0 &&
        (uint64_t)par->width * (uint64_t)par->height > x->plan->limits->max_pixels)
        return xc_fail(x, SG_ERR_TOO_LARGE, "The picture is %dx%d; at most %llu pixels are taken.",
                       par->width, par->height, (unsigned long long)x->plan->limits->max_pixels);
    AVDictionary *options = NULL;
    AVCodecContext *c = in->decoder = avcodec_alloc_context3(codec);
    if (!c || avcodec_parameters_to_context(c, par) < 0 ||
        av_dict_set(&options, "codec_whitelist", sgav_codec_whitelist(), 0) < 0)
        return xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    c->pkt_timebase = in->stream->time_base;
    c->max_pixels = (int64_t)(x->plan->limits->max_pixels & INT64_MAX);
    if (par->codec_type == AVMEDIA_TYPE_VIDEO)
        c->thread_count = x->plan->threads ? (int)x->plan->threads : av_cpu_count();
    int r = avcodec_open2(c, codec, &options);
    av_dict_free(&options);
    if (r == AVERROR(EINVAL))
        return xc_fail(x, SG_ERR_UNSUPPORTED_MEDIA, "Track %d is %s, which is not taken.",
                       in->stream->index, avcodec_get_name(par->codec_id));
    return r < 0 ? xc_fail_av(x, r, SG_ERR_UNPROCESSABLE, "A decoder cannot be opened") : SG_OK;
}

static bool has_place(const AVStream *s)
{
    enum AVMediaType type = s->codecpar->codec_type;
    return (type == AVMEDIA_TYPE_VIDEO || type == AVMEDIA_TYPE_AUDIO) &&
           !(s->disposition & AV_DISPOSITION_ATTACHED_PIC);
}

/* Time of a packet's first picture or heard sample, in AV_TIME_BASE. */
static int64_t shown_at(const struct xc *x, const AVPacket *p)
{
    const AVStream *s = x->fmt->streams[p->stream_index];
    int64_t t = p->pts != AV_NOPTS_VALUE ? p->pts : p->dts;
    if (t == AV_NOPTS_VALUE)
        return INT64_MAX;
    int64_t us = av_rescale_q(t, s->time_base, AV_TIME_BASE_Q);
    size_t size = 0;
    const uint8_t *skip = av_packet_get_side_data(p, AV_PKT_DATA_SKIP_SAMPLES, &size);
    if (skip && size >= 4 && s->codecpar->sample_rate > 0) {
        uint32_t n = (uint32_t)skip[0] | (uint32_t)skip[1] << 8 | (uint32_t)skip[2] << 16 |
                     (uint32_t)skip[3] << 24;
        us += av_rescale(n, AV_TIME_BASE, s->codecpar->sample_rate);
    }
    return us;
}

/* Packets of each stream before what its first shows is known; sound's is its first. */
static bool know_all(const struct xc *x, const uint32_t *seen)
{
    for (unsigned i = 0; i < x->n_inputs; i++) {
        const AVStream *s = x->fmt->streams[i];
        uint32_t need = s->codecpar->codec_type == AVMEDIA_TYPE_VIDEO ? AHEAD_PICTURES : 1;
        if (has_place(s) && seen[i] < need)
            return false;
    }
    return true;
}

/* The presentation of what has no edit lists begins with the first of its streams. What is read to
 * learn it is kept. */
static enum sg_error find_start(struct xc *x, int64_t *out)
{
    uint32_t *seen = calloc(x->n_inputs + 1, sizeof(*seen));
    x->ahead = calloc(AHEAD_MAX, sizeof(AVPacket *));
    int64_t bytes = 0, first = INT64_MAX;
    enum sg_error err = SG_OK;
    if (!seen || !x->ahead)
        err = xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    while (!err && x->n_ahead < AHEAD_MAX && bytes < AHEAD_BYTES && !know_all(x, seen)) {
        AVPacket *p = av_packet_alloc();
        err = p ? xc_clock_read(x, p) : xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
        if (err) {
            av_packet_free(&p);
            err = err == SG_ERR_NOT_FOUND ? SG_OK : err; /* told when it is read for good */
            break;
        }
        x->ahead[x->n_ahead++] = p;
        bytes += p->size;
        if ((unsigned)p->stream_index >= x->n_inputs ||
            !has_place(x->fmt->streams[p->stream_index]))
            continue;
        seen[p->stream_index]++;
        int64_t at = shown_at(x, p);
        first = at < first ? at : first;
    }
    free(seen);
    *out = first == INT64_MAX ? 0 : first;
    return err;
}

enum sg_error xc_inputs_begin(struct xc *x)
{
    int64_t start = 0;
    enum sg_error err = xc_clock_open(x);
    if (!err && x->container)
        err = find_start(x, &start);
    for (unsigned i = 0; i < x->n_inputs && !err; i++) {
        struct xc_input *in = &x->inputs[i];
        if (!in->stream) {
            x->fmt->streams[i]->discard = AVDISCARD_ALL;
            continue;
        }
        in->start = av_rescale_q(start, AV_TIME_BASE_Q, in->stream->time_base);
        if (in->decoded)
            err = open_decoder(in);
        in->held = av_frame_alloc();
        in->hidden = av_packet_alloc();
        if (!err && (!in->held || !in->hidden))
            err = xc_fail(x, SG_ERR_NO_MEMORY, "There is not enough memory.");
        if (!err && in->copied)
            err = xc_copy_begin(in);
    }
    return err;
}

enum sg_error xc_read_raw(struct xc *x, AVPacket *packet)
{
    int r = av_read_frame(x->fmt, packet);
    if (r == AVERROR(ENOMEM))
        return xc_fail_av(x, r, SG_ERR_NO_MEMORY, "The file cannot be read");
    if (r == AVERROR(EIO))
        return xc_fail(x, SG_ERR_IO, "The source cannot be read.");
    return r < 0 ? SG_ERR_NOT_FOUND : SG_OK; /* its end, or damage past which nothing can be read */
}

enum sg_error xc_read(struct xc *x, AVPacket *packet)
{
    for (;;) {
        if (x->at_ahead < x->n_ahead) {
            av_packet_move_ref(packet, x->ahead[x->at_ahead]);
            av_packet_free(&x->ahead[x->at_ahead++]);
        } else {
            enum sg_error err = xc_clock_read(x, packet);
            if (err)
                return err;
        }
        if ((unsigned)packet->stream_index < x->n_inputs && x->inputs[packet->stream_index].stream)
            return SG_OK;
        av_packet_unref(packet);
    }
}

/* ending: what the decoder still holds is asked for past what is damaged. */
static enum sg_error take_frames(struct xc_input *in, bool ending)
{
    struct xc *x = in->x;
    for (unsigned damaged = 0;;) {
        int r = avcodec_receive_frame(in->decoder, x->frame);
        if (r == AVERROR(EAGAIN) || r == AVERROR_EOF)
            return SG_OK;
        if (r == AVERROR(ENOMEM))
            return xc_fail_av(x, r, SG_ERR_NO_MEMORY, "The file cannot be decoded");
        if (r < 0) {
            in->bad++;
            if (ending && damaged++ < XC_ORDER_MAX)
                continue;
            return SG_OK;
        }
        enum sg_error err = SG_OK;
        if (x->frame->flags & AV_FRAME_FLAG_DISCARD)
            ;
        else if (in->decoder->codec_type == AVMEDIA_TYPE_VIDEO)
            err = xc_picture(in, x->frame);
        else
            for (uint32_t i = 0; i < x->n_sounds && !err; i++)
                if (x->sounds[i].input == in)
                    err = xc_sound_frame(&x->sounds[i], x->frame);
        if (in->decoder->codec_type == AVMEDIA_TYPE_AUDIO) {
            in->frames++;
            x->sounded++;
        }
        av_frame_unref(x->frame);
        if (err)
            return err;
    }
}

static enum sg_error decode(struct xc_input *in, AVPacket *packet)
{
    for (;;) {
        int r = avcodec_send_packet(in->decoder, packet);
        if (r == AVERROR(ENOMEM))
            return xc_fail_av(in->x, r, SG_ERR_NO_MEMORY, "The file cannot be decoded");
        if (r < 0 && r != AVERROR(EAGAIN) && r != AVERROR_EOF)
            in->bad++;
        if (in->by_order && packet && r >= 0)
            xc_picture_packet(in, packet);
        enum sg_error err = take_frames(in, !packet);
        if (err || r != AVERROR(EAGAIN))
            return err;
    }
}

enum sg_error xc_input_packet(struct xc_input *in, AVPacket *packet)
{
    in->packets++;
    enum sg_error err = in->copied ? xc_copy_packet(in, packet) : SG_OK;
    return err || !in->decoded ? err : decode(in, packet);
}

enum sg_error xc_input_end(struct xc_input *in)
{
    if (!in->decoded)
        return SG_OK;
    enum sg_error err = decode(in, NULL);
    if (err)
        return err;
    bool video = in->decoder->codec_type == AVMEDIA_TYPE_VIDEO;
    if (in->frames == 0 && (video || in->packets))
        return xc_fail(in->x, SG_ERR_UNPROCESSABLE,
                       "The file is damaged: nothing of its %s can be decoded.",
                       video ? "video" : "audio");
    if (in->bad >= BAD_MIN && in->bad > in->packets / 2)
        return xc_fail(in->x, SG_ERR_UNPROCESSABLE,
                       "The file is damaged: %llu of %llu packets of its %s cannot be decoded.",
                       (unsigned long long)in->bad, (unsigned long long)in->packets,
                       video ? "video" : "audio");
    if (video)
        return xc_pictures_end(in);
    for (uint32_t i = 0; i < in->x->n_sounds && !err; i++)
        if (in->x->sounds[i].input == in)
            err = xc_sound_end(&in->x->sounds[i]);
    return err;
}

void xc_close(struct xc *x)
{
    xc_clock_close(x);
    for (size_t i = 0; i < x->n_ahead; i++)
        av_packet_free(&x->ahead[i]);
    free(x->ahead);
    for (unsigned i = 0; i < x->n_inputs; i++) {
        avcodec_free_context(&x->inputs[i].decoder);
        xc_graph_close(&x->inputs[i].before);
        av_frame_free(&x->inputs[i].held);
        av_packet_free(&x->inputs[i].hidden);
    }
    free(x->inputs);
    avformat_close_input(&x->fmt);
    sgav_reader_close(&x->io);
}
