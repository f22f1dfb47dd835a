/* Probe: which streams become tracks, what they are, and the whole index of the file. Nothing is
 * decoded; a decoder is opened on the parameter sets alone, to learn the true picture size and
 * sample aspect ratio. */
#include <libavutil/display.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "streamgate/base/language.h"
#include "streamgate/base/str.h"

#include "av_container.h"
#include "av_describe.h"

/* A tag with more subtags than there is room for is told by its language alone. */
static void fill_language(const AVStream *stream, struct sg_track *track)
{
    const AVDictionaryEntry *e = av_dict_get(stream->metadata, "language", NULL, 0);
    const char *given = e && e->value ? e->value : "und";
    char tag[SG_LANGUAGE_SIZE];
    if (sg_language_parse(given, strlen(given), tag) != SG_OK)
        memcpy(tag, "und", sizeof("und"));
    sg_language_shorten(tag);
    size_t len = strlen(tag) < sizeof(track->language) ? strlen(tag) : strcspn(tag, "-");
    memcpy(track->language, tag, len);
    track->language[len] = '\0';
}

static void fill_title(const AVStream *stream, struct sg_track *track)
{
    const AVDictionaryEntry *e = av_dict_get(stream->metadata, "title", NULL, 0);
    if (!e || !e->value)
        return;
    size_t len = strlen(e->value);
    if (!sg_str_is_utf8(e->value, len) || sg_str_has_control(e->value, len))
        return;
    if (len >= sizeof(track->title))
        len = sizeof(track->title) - 1;
    while (len && !sg_str_is_utf8(e->value, len))
        len--;
    memcpy(track->title, e->value, len);
    track->title[len] = 0;
}

void sgav_probe_texts(const AVStream *stream, struct sg_track *track)
{
    fill_language(stream, track);
    fill_title(stream, track);
}

uint16_t sgav_rotation_of(const AVStream *stream)
{
    const uint8_t *matrix = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, NULL);
    if (!matrix)
        return 0;
    double degrees = -av_display_rotation_get((const int32_t *)(const void *)matrix);
    if (isnan(degrees))
        return 0;
    int quarter = (int)lround(degrees / 90) % 4;
    return (uint16_t)((quarter + 4) % 4 * 90);
}

static bool sar_sane(AVRational sar)
{
    return sar.num > 0 && sar.den > 0 && sar.num / sar.den < 64 && sar.den / sar.num < 64;
}

AVRational sgav_sar_of(const AVStream *stream, const AVCodecContext *decoder)
{
    if (sar_sane(stream->sample_aspect_ratio))
        return stream->sample_aspect_ratio;
    if (sar_sane(stream->codecpar->sample_aspect_ratio))
        return stream->codecpar->sample_aspect_ratio;
    if (decoder && sar_sane(decoder->sample_aspect_ratio))
        return decoder->sample_aspect_ratio;
    return (AVRational){1, 1};
}

/* H.264 and MPEG-4 tell their size in the stream only once a frame begins: the first packet, with
 * decoding itself switched off. */
static enum sg_error feed_first(struct sgav_source *source, const AVStream *stream,
                                AVCodecContext *decoder)
{
    struct sgav_walk walk;
    struct sgav_sample first;
    AVPacket *packet = av_packet_alloc();
    if (!packet)
        return SG_ERR_NO_MEMORY;
    sgav_sample_get(source, stream, 0, &first);
    enum sg_error err = sgav_read_from(&walk, source, stream, first.dts);
    if (!err && sgav_read_next(&walk, packet) == SG_OK) {
        decoder->skip_frame = AVDISCARD_ALL;
        (void)avcodec_send_packet(decoder, packet); /* a damaged frame is not the file's end */
    }
    av_packet_free(&packet);
    return err;
}

static enum sg_error fill_picture(struct sgav_source *source, AVStream *stream,
                                  const struct sg_media_limits *limits, struct sg_track *track,
                                  char why[SG_MEDIA_MESSAGE_MAX])
{
    AVCodecParameters *par = stream->codecpar;
    if ((int64_t)par->width * par->height > (int64_t)limits->max_pixels)
        return sgav_fail(SG_ERR_TOO_LARGE, why,
                         "The picture is %dx%d; at most %llu pixels are taken.", par->width,
                         par->height, (unsigned long long)limits->max_pixels);
    AVCodecContext *decoder = NULL;
    enum sg_error err = sgav_codec_open(stream, limits->max_pixels, &decoder);
    if (!err && !source->container && (par->codec_id == AV_CODEC_ID_H264 || par->width <= 0))
        err = feed_first(source, stream, decoder);
    if (err) {
        avcodec_free_context(&decoder);
        return sgav_fail(err, why, "The parameters of the %s video cannot be read.",
                         track->codec_name);
    }
    if (decoder->width > 0 && decoder->height > 0) {
        par->width = decoder->width;
        par->height = decoder->height;
    }
    AVRational sar = sgav_sar_of(stream, decoder);
    avcodec_free_context(&decoder);
    if (par->width <= 0 || par->height <= 0 || par->width > UINT16_MAX || par->height > UINT16_MAX)
        return sgav_fail(SG_ERR_UNPROCESSABLE, why, "The size of the picture is not known.");
    if ((int64_t)par->width * par->height > (int64_t)limits->max_pixels)
        return sgav_fail(SG_ERR_TOO_LARGE, why,
                         "The picture is %dx%d; at most %llu pixels are taken.", par->width,
                         par->height, (unsigned long long)limits->max_pixels);
    track->width = (uint32_t)par->width;
    track->height = (uint32_t)par->height;
    track->sar_num = (uint32_t)sar.num;
    track->sar_den = (uint32_t)sar.den;
    track->rotation = sgav_rotation_of(stream);
    int64_t wide = av_rescale(par->width, sar.num, sar.den);
    uint32_t w = (uint32_t)(wide > 0 ? wide : 1), h = track->height;
    bool turned = track->rotation % 180 != 0;
    track->display_width = turned ? h : w;
    track->display_height = turned ? w : h;
    return SG_OK;
}

/* Video: a multiple of the stream's own scale, fine enough to squeeze hidden frames; audio: the
 * sample rate, as the init segment has it. */
static enum sg_error fill_timescale(const AVStream *stream, struct sg_track *track)
{
    if (stream->time_base.num != 1 || stream->time_base.den <= 0)
        return SG_ERR_UNPROCESSABLE;
    uint32_t scale = (uint32_t)stream->time_base.den;
    track->stream_tb_num = 1;
    track->stream_tb_den = scale;
    if (track->kind == SG_TRACK_AUDIO)
        track->timescale = track->sample_rate;
    else
        track->timescale = scale * (scale < 90000 ? (90000 + scale - 1) / scale : 1);
    return SG_OK;
}

/* All that is told alike of tracks that are cut and of those that are only described. */
static enum sg_error probe_track(struct sgav_source *source, AVStream *stream,
                                 const struct sg_media_limits *limits, struct sg_track *track,
                                 char why[SG_MEDIA_MESSAGE_MAX])
{
    const AVCodecParameters *par = stream->codecpar;
    track->codec = sgav_codec_of(par->codec_id);
    track->stream = (uint32_t)stream->index;
    snprintf(track->codec_name, sizeof(track->codec_name), "%s", avcodec_get_name(par->codec_id));
    track->copyable = sgav_copyable(source, stream);
    if (sgav_codec_string(par, track->codecs, sizeof(track->codecs)))
        track->codecs[0] = 0;
    fill_language(stream, track);
    fill_title(stream, track);
    if (track->kind == SG_TRACK_VIDEO) {
        enum sg_error err = fill_picture(source, stream, limits, track, why);
        if (err)
            return err;
    } else {
        if (par->sample_rate <= 0 || par->ch_layout.nb_channels <= 0 ||
            par->ch_layout.nb_channels > UINT16_MAX)
            return sgav_fail(SG_ERR_UNPROCESSABLE, why,
                             "The parameters of the %s audio cannot be read.", track->codec_name);
        track->sample_rate = (uint32_t)par->sample_rate;
        track->channels = (uint16_t)par->ch_layout.nb_channels;
    }
    return SG_OK;
}

/* What cutting a track needs to begin with. */
static enum sg_error prepare_track(const AVStream *stream, struct sg_track *track,
                                   char why[SG_MEDIA_MESSAGE_MAX])
{
    if (!track->codecs[0])
        return sgav_fail(SG_ERR_UNSUPPORTED_MEDIA, why,
                         "The %s track lacks the parameters players need.", track->codec_name);
    enum sg_error err = fill_timescale(stream, track);
    return err ? sgav_fail(err, why, "The time scale of track %d makes no sense.", stream->index)
               : SG_OK;
}

/* What the transport stream form can carry: ISO/IEC 13818-1 has no mapping players know for the
 * rest. */
static bool ts_carries(const struct sg_track *t)
{
    switch (t->codec) {
    case SG_CODEC_H264:
    case SG_CODEC_HEVC:
        return t->rotation == 0; /* it can be told in an SEI, which browsers do not heed */
    case SG_CODEC_AAC:
    case SG_CODEC_MP3:
    case SG_CODEC_AC3:
    case SG_CODEC_EAC3:
        return true;
    default:
        return false;
    }
}

struct index_build {
    struct sg_media_index index;
    struct sg_track *tracks;
    struct sgav_choice choice;
};

/* Track and stream; the track's name, kind and default are set. */
static enum sg_error fill_track(struct sgav_source *source, const struct sg_media_limits *limits,
                                const struct index_build *b, uint32_t number,
                                char why[SG_MEDIA_MESSAGE_MAX])
{
    struct sg_track *t = &b->tracks[number];
    AVStream *stream =
        t->kind == SG_TRACK_VIDEO ? b->choice.video : b->choice.audio[number - !!b->choice.video];
    enum sg_error err = probe_track(source, stream, limits, t, why);
    if (err)
        return err;
    return b->choice.packaged ? prepare_track(stream, t, why)
                              : sgav_describe_track(source, stream, t, why);
}

/* What most players have comes before what the source chose, as the MPEG-TS form has this one
 * alone. Of what is only described all becomes the same codec. */
static unsigned default_audio(const struct sgav_choice *c)
{
    unsigned best = 0, best_rank = UINT_MAX;
    for (unsigned i = 0; i < c->n_audio; i++) {
        enum sg_codec codec = sgav_codec_of(c->audio[i]->codecpar->codec_id);
        bool chosen = c->audio[i]->disposition & AV_DISPOSITION_DEFAULT;
        unsigned rank = c->packaged ? sg_codec_rank(codec) : 0;
        rank = 2 * rank + !chosen;
        if (rank < best_rank) {
            best = i;
            best_rank = rank;
        }
    }
    return best;
}

static enum sg_error probe_tracks(struct sgav_source *source, const struct sg_media_limits *limits,
                                  struct index_build *b, char why[SG_MEDIA_MESSAGE_MAX])
{
    struct sg_track *t = b->tracks;
    enum sg_error err = SG_OK;
    if (b->choice.video) {
        t->kind = SG_TRACK_VIDEO;
        snprintf(t->name, sizeof(t->name), "original");
        t++->is_default = true;
    }
    unsigned first = default_audio(&b->choice);
    for (unsigned i = 0; i < b->choice.n_audio; i++, t++) {
        t->kind = SG_TRACK_AUDIO;
        t->is_default = i == first;
        snprintf(t->name, sizeof(t->name), i ? "audio-%u" : "audio", i + 1);
    }
    for (uint32_t i = 0; i < b->index.n_tracks && !err; i++)
        err = fill_track(source, limits, b, i, why);
    return err;
}

static enum sg_error index_tracks(struct sgav_source *source, const struct sg_media_limits *limits,
                                  struct index_build *b, char why[SG_MEDIA_MESSAGE_MAX])
{
    struct sg_track *video = b->choice.video ? b->tracks : NULL, *audio = NULL;
    bool ts = true;
    b->index.independent = true;
    for (uint32_t i = 0; i < b->index.n_tracks; i++) {
        struct sg_track *t = &b->tracks[i];
        enum sg_error err = t == video
                                ? sgav_index_video(source, limits, t, &b->index.independent, why)
                                : sgav_index_audio(source, limits, t, video, why);
        if (err)
            return err;
        if (t->kind == SG_TRACK_AUDIO && t->is_default)
            audio = t;
        if (t->kind == SG_TRACK_VIDEO || t->is_default)
            ts = ts && ts_carries(t);
    }
    b->index.ts = ts;
    if (ts && audio)
        sgav_index_add_ts_audio(source, audio, video);
    for (uint32_t i = 0; i < b->index.n_tracks; i++)
        for (uint32_t k = 0; k < b->tracks[i].n_segments && !ts; k++)
            ((struct sg_segment *)b->tracks[i].segments)[k].bytes_ts = 0;
    return SG_OK;
}

static void name_format(const struct sgav_source *source, const struct index_build *b,
                        struct sg_media_index *index)
{
    const struct sgav_container *c = source->container;
    bool quicktime = source->iso.quicktime;
    const char *format = c ? c->format : quicktime ? "mov" : "mp4";
    const char *type = !b->choice.video ? (c ? c->audio : "audio/mp4")
                       : c              ? c->video
                       : quicktime      ? "video/quicktime"
                                        : "video/mp4";
    snprintf(index->format, sizeof(index->format), "%s", format);
    snprintf(index->content_type, sizeof(index->content_type), "%s", type);
}

static enum sg_error fill_index(const struct sgav_source *source,
                                const struct sg_media_limits *limits, struct index_build *b,
                                char why[SG_MEDIA_MESSAGE_MAX])
{
    struct sg_media_index *index = &b->index;
    int64_t first_ms = INT64_MAX, end_ms = 0;
    for (uint32_t i = 0; i < index->n_tracks; i++) {
        const struct sg_track *t = &b->tracks[i];
        int64_t start = av_rescale(t->start, 1000, t->timescale);
        int64_t end = av_rescale(t->start + (int64_t)t->duration, 1000, t->timescale);
        first_ms = start < first_ms ? start : first_ms;
        end_ms = end > end_ms ? end : end_ms;
    }
    if (first_ms < 0)
        first_ms = 0;
    if (source->container) { /* it speaks of the whole; its tracks may not each */
        first_ms = 0;
        end_ms = source->fmt->duration / (AV_TIME_BASE / 1000);
    }
    index->duration_ms = end_ms > first_ms ? (uint64_t)(end_ms - first_ms) : 1;
    if (index->duration_ms > limits->max_duration_ms)
        return sgav_fail(SG_ERR_TOO_LARGE, why, "The file lasts %llu s; at most %llu are taken.",
                         (unsigned long long)index->duration_ms / 1000,
                         (unsigned long long)limits->max_duration_ms / 1000);
    name_format(source, b, index);
    index->fmp4 = b->choice.packaged;
    index->texts = sgav_text_any(source->fmt);
    index->needs_walk = b->choice.packaged && source->iso.fragmented;
    return SG_OK;
}

static void clear_tracks(struct index_build *b)
{
    for (uint32_t i = 0; i < b->index.n_tracks; i++) {
        free((void *)b->tracks[i].segments);
        b->tracks[i] = (struct sg_track){0};
    }
    b->index = (struct sg_media_index){0};
}

static enum sg_error build(struct sgav_source *source, const struct sg_media_limits *limits,
                           struct index_build *b, char why[SG_MEDIA_MESSAGE_MAX])
{
    b->index.n_tracks = b->choice.n_audio + (b->choice.video != NULL);
    b->index.tracks = b->tracks;
    enum sg_error err = probe_tracks(source, limits, b, why);
    if (!err && b->choice.packaged)
        err = index_tracks(source, limits, b, why);
    for (uint32_t i = 0; i < b->index.n_tracks && !err; i++)
        err = sgav_content_check(source, source->fmt->streams[b->tracks[i].stream],
                                 b->choice.packaged, why);
    return err ? err : fill_index(source, limits, b, why);
}

enum sg_error sgav_probe(struct sgav_source *source, const struct sg_media_limits *limits,
                         void **out, size_t *out_len, char why[SG_MEDIA_MESSAGE_MAX])
{
    struct index_build b = {0};
    enum sg_error err = SG_ERR_NO_MEMORY;
    b.choice.audio = calloc(source->fmt->nb_streams + 1, sizeof(AVStream *));
    b.tracks = calloc(source->fmt->nb_streams + 1, sizeof(*b.tracks));
    if (!b.choice.audio || !b.tracks)
        goto out;
    if ((err = sgav_choose(source, &b.choice, why)))
        goto out;
    err = build(source, limits, &b, why);
    if (err == SG_ERR_UNSUPPORTED_MEDIA && b.choice.packaged) {
        /* The codecs would do, but not how they are used: parameters that change midway. */
        clear_tracks(&b);
        if (!(err = sgav_choose_described(source, &b.choice, why)))
            err = build(source, limits, &b, why);
    }
    if (!err)
        err = sg_media_index_encode(&b.index, out, out_len);
out:
    if (b.tracks)
        clear_tracks(&b);
    free(b.tracks);
    free(b.choice.audio);
    return err;
}
