/* Sound: decoded, mixed down, resampled to a steady stream of samples, encoded as AAC once for all
 * outputs that want it so. Where the source's times leave a gap, silence fills it; what overlaps is
 * cut. So a sample's place in the output is its time in the source, to within TOLERANCE_MS,
 * whatever the length. */
#include <libavutil/opt.h>
#include <stdlib.h>

#include "av_transcode_core.h"

enum { TOLERANCE_MS = 12, SILENCE = 4096, RATE_DEFAULT = 48000, GAP_MAX_S = 3600 };

static int rate_of(int wanted)
{
    static const int rates[] = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000};
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++)
        if (rates[i] == wanted)
            return wanted;
    return RATE_DEFAULT;
}

enum sg_error xc_sound_open(struct xc *x, struct xc_input *in,
                            const struct sg_transcode_audio *plan, struct xc_sound **out)
{
    for (uint32_t i = 0; i < x->n_sounds; i++)
        if (x->sounds[i].input == in && x->sounds[i].channels == plan->channels &&
            x->sounds[i].bitrate == plan->bitrate) {
            *out = &x->sounds[i];
            return SG_OK;
        }
    struct xc_sound *s = &x->sounds[x->n_sounds++];
    *s = (struct xc_sound){
        .input = in, .channels = plan->channels, .bitrate = plan->bitrate, .next = INT64_MIN};
    const AVCodec *codec = avcodec_find_encoder_by_name("aac");
    AVCodecContext *c = s->encoder = codec ? avcodec_alloc_context3(codec) : NULL;
    s->frame = av_frame_alloc();
    if (!c || !s->frame)
        return xc_fail(x, codec ? SG_ERR_NO_MEMORY : SG_ERR_UNAVAILABLE,
                       "The audio encoder cannot be opened.");
    c->sample_fmt = AV_SAMPLE_FMT_FLTP;
    c->sample_rate = rate_of(in->stream->codecpar->sample_rate);
    av_channel_layout_default(&c->ch_layout, plan->channels);
    c->bit_rate = plan->bitrate;
    c->time_base = (AVRational){1, c->sample_rate};
    c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER | AV_CODEC_FLAG_BITEXACT;
    int r = avcodec_open2(c, codec, NULL);
    if (r < 0)
        return xc_fail_av(x, r, SG_ERR_UNPROCESSABLE, "The audio encoder cannot be opened");
    *out = s;
    return SG_OK;
}

static enum sg_error no_memory(struct xc_sound *s)
{
    return xc_fail(s->input->x, SG_ERR_NO_MEMORY, "There is not enough memory.");
}

/* Gives what was encoded to the outputs; frame NULL: to the end. */
static enum sg_error encode(struct xc_sound *s, AVFrame *frame)
{
    struct xc *x = s->input->x;
    int r = avcodec_send_frame(s->encoder, frame);
    enum sg_error err = SG_OK;
    while (r >= 0 && !err) {
        AVPacket *p = av_packet_alloc();
        if (!p)
            return no_memory(s);
        r = avcodec_receive_packet(s->encoder, p);
        if (r >= 0)
            err = xc_spread(x, s->input, s, p, s->encoder->time_base);
        av_packet_free(&p);
    }
    if (r == AVERROR(EAGAIN) || r == AVERROR_EOF)
        return err;
    return r < 0 ? xc_fail_av(x, r, SG_ERR_INTERNAL, "The audio cannot be encoded") : err;
}

static enum sg_error send_full(struct xc_sound *s)
{
    AVFrame *f = s->frame;
    f->nb_samples = s->filled;
    f->pts = s->next - s->filled;
    s->end = s->next;
    s->filled = 0;
    enum sg_error err = encode(s, f);
    av_frame_unref(f);
    return err;
}

static bool room(struct xc_sound *s)
{
    if (s->frame->buf[0])
        return true;
    s->frame->format = s->encoder->sample_fmt;
    s->frame->sample_rate = s->encoder->sample_rate;
    s->frame->nb_samples = s->encoder->frame_size;
    return av_channel_layout_copy(&s->frame->ch_layout, &s->encoder->ch_layout) >= 0 &&
           av_frame_get_buffer(s->frame, 0) >= 0;
}

/* Takes what the resampler has, after giving it `n` samples at `data`; n < 0: all that it holds. */
static enum sg_error convert(struct xc_sound *s, const uint8_t **data, int n)
{
    static const uint8_t *const none[AV_NUM_DATA_POINTERS * 8]; /* NULL would end the stream */
    bool flush = n < 0;
    for (;;) {
        uint8_t *at[2];
        if (!room(s))
            return no_memory(s);
        for (int c = 0; c < s->channels; c++)
            at[c] = s->frame->extended_data[c] + (size_t)s->filled * sizeof(float);
        int want = s->encoder->frame_size - s->filled;
        const uint8_t **from = data ? data : (const uint8_t **)(void *)(uintptr_t)none;
        int got = swr_convert(s->swr, at, want, flush ? NULL : from, data && !flush ? n : 0);
        if (got < 0)
            return xc_fail_av(s->input->x, got, SG_ERR_UNPROCESSABLE,
                              "The audio cannot be converted");
        data = NULL;
        s->filled += got;
        s->next += got;
        if (s->filled == s->encoder->frame_size) {
            enum sg_error err = send_full(s);
            if (err)
                return err;
            continue;
        }
        if (got < want)
            return SG_OK;
    }
}

/* Silence, of output samples, straight into the frame. */
static enum sg_error silence(struct xc_sound *s, int64_t n)
{
    while (n > 0) {
        if (!room(s))
            return no_memory(s);
        int take = s->encoder->frame_size - s->filled;
        take = n < take ? (int)n : take;
        for (int c = 0; c < s->channels; c++)
            memset(s->frame->extended_data[c] + (size_t)s->filled * sizeof(float), 0,
                   (size_t)take * sizeof(float));
        s->filled += take;
        s->next += take;
        n -= take;
        enum sg_error err = s->filled == s->encoder->frame_size ? send_full(s) : SG_OK;
        if (err)
            return err;
    }
    return SG_OK;
}

/* A resampler for frames like this; what the one before holds is taken first. */
static enum sg_error refit(struct xc_sound *s, const AVFrame *frame)
{
    if (s->swr && s->in_rate == frame->sample_rate && s->in_format == frame->format &&
        av_channel_layout_compare(&s->in_layout, &frame->ch_layout) == 0)
        return SG_OK;
    enum sg_error err = s->swr ? convert(s, NULL, -1) : SG_OK;
    if (err)
        return err;
    swr_free(&s->swr);
    AVChannelLayout layout = frame->ch_layout, usual = {0};
    if (layout.order == AV_CHANNEL_ORDER_UNSPEC) {
        av_channel_layout_default(&usual, layout.nb_channels);
        layout = usual;
    }
    int r = swr_alloc_set_opts2(&s->swr, &s->encoder->ch_layout, s->encoder->sample_fmt,
                                s->encoder->sample_rate, &layout, frame->format, frame->sample_rate,
                                0, NULL);
    if (r >= 0)
        r = swr_init(s->swr);
    if (r >= 0)
        r = av_channel_layout_copy(&s->in_layout, &frame->ch_layout);
    s->in_rate = frame->sample_rate;
    s->in_format = frame->format;
    av_channel_layout_uninit(&usual);
    return r < 0 ? xc_fail_av(s->input->x, r, SG_ERR_UNPROCESSABLE, "The audio cannot be converted")
                 : SG_OK;
}

/* Where the frame belongs, in output samples; INT64_MIN: behind what there is. */
static int64_t place_of(const struct xc_sound *s, const AVFrame *frame)
{
    int64_t t = frame->best_effort_timestamp;
    if (t == AV_NOPTS_VALUE)
        return s->next == INT64_MIN ? 0 : INT64_MIN;
    return av_rescale_q(t - s->input->start, s->input->stream->time_base, s->encoder->time_base);
}

/* Makes the frame's first sample come where it belongs. *skip: samples of it to leave out. */
static enum sg_error align(struct xc_sound *s, const AVFrame *frame, int *skip)
{
    int rate = s->encoder->sample_rate;
    int64_t at = place_of(s, frame);
    if (s->next == INT64_MIN)
        s->next = at > 0 ? at : 0;
    int64_t here = s->next + (s->swr ? swr_get_delay(s->swr, rate) : 0);
    if (at == INT64_MIN)
        at = here;
    int64_t off = at - here, tolerance = (int64_t)rate * TOLERANCE_MS / 1000;
    uint64_t longest_s = s->input->x->plan->limits->max_duration_ms / 1000;
    if ((at > here ? at : here) / rate > (int64_t)longest_s + 1)
        return xc_fail(s->input->x, SG_ERR_TOO_LARGE, "The audio lasts longer than %llu s.",
                       (unsigned long long)longest_s);
    /* Hours of silence cost as much as hours of sound, and a few damaged bytes ask for them. */
    if (off / rate > GAP_MAX_S)
        return xc_fail(s->input->x, SG_ERR_UNPROCESSABLE,
                       "The audio has a gap of %lld s; at most %d s are filled.",
                       (long long)(off / rate), GAP_MAX_S);
    if (off > tolerance) {
        enum sg_error err = s->swr ? convert(s, NULL, -1) : SG_OK;
        swr_free(&s->swr);
        return err ? err : silence(s, at - s->next);
    }
    if (off < (s->frames ? -tolerance : 0)) {
        int64_t n = av_rescale(-off, frame->sample_rate, rate);
        *skip = n < frame->nb_samples ? (int)n : frame->nb_samples;
    }
    return SG_OK;
}

enum sg_error xc_sound_frame(struct xc_sound *s, AVFrame *frame)
{
    if (frame->nb_samples <= 0 || frame->sample_rate <= 0 || frame->ch_layout.nb_channels <= 0 ||
        frame->ch_layout.nb_channels > AV_NUM_DATA_POINTERS * 8)
        return SG_OK;
    int skip = 0;
    enum sg_error err = align(s, frame, &skip);
    s->frames++;
    if (err || skip >= frame->nb_samples)
        return err;
    if ((err = refit(s, frame)))
        return err;
    if (!skip)
        return convert(s, (const uint8_t **)frame->extended_data, frame->nb_samples);
    bool planar = av_sample_fmt_is_planar(frame->format);
    int planes = planar ? frame->ch_layout.nb_channels : 1;
    size_t step = (size_t)av_get_bytes_per_sample(frame->format) *
                  (planar ? 1 : (size_t)frame->ch_layout.nb_channels);
    const uint8_t *at[AV_NUM_DATA_POINTERS * 8];
    for (int i = 0; i < planes; i++)
        at[i] = frame->extended_data[i] + step * (size_t)skip;
    return convert(s, at, frame->nb_samples - skip);
}

enum sg_error xc_sound_end(struct xc_sound *s)
{
    enum sg_error err = s->swr ? convert(s, NULL, -1) : SG_OK;
    if (!err && s->filled)
        err = send_full(s);
    return err ? err : encode(s, NULL);
}

void xc_sound_close(struct xc_sound *s)
{
    avcodec_free_context(&s->encoder);
    swr_free(&s->swr);
    av_channel_layout_uninit(&s->in_layout);
    av_frame_free(&s->frame);
}

static bool wants(const struct sg_transcode_audio *a, const struct xc_input *in,
                  const struct xc_sound *s)
{
    if (a->stream != (uint32_t)in->stream->index)
        return false;
    return s ? !a->copy && a->channels == s->channels && a->bitrate == s->bitrate : a->copy;
}

static enum sg_error send_to(struct xc_output *o, int stream, const AVPacket *packet,
                             AVRational base)
{
    AVPacket *copy = av_packet_clone(packet);
    if (!copy)
        return xc_fail(o->x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    copy->stream_index = stream;
    av_packet_rescale_ts(copy, base, o->base[stream]);
    xc_queue_push(o, (struct xc_item){.kind = XC_PACKET, .packet = copy});
    return xc_failed(o->x) ? SG_ERR_CANCELLED : SG_OK;
}

enum sg_error xc_spread(struct xc *x, const struct xc_input *in, const struct xc_sound *s,
                        const AVPacket *packet, AVRational base)
{
    enum sg_error err = SG_OK;
    for (uint32_t i = 0; i < x->plan->n_outputs && !err; i++) {
        struct xc_output *o = &x->outputs[i];
        int stream = 0;
        if (o->video) {
            if (!s && o->video == in && o->plan->video == SG_TRANSCODE_VIDEO_COPY)
                err = send_to(o, stream, packet, base);
            stream++;
        }
        for (uint32_t k = 0; k < o->plan->n_audios && !err; k++)
            if (wants(&o->plan->audios[k], in, s))
                err = send_to(o, stream + (int)k, packet, base);
    }
    return err;
}
