/* Subtitles, in the media process: a file of them, or the tracks of text in a film. What a packet
 * holds of SRT, WebVTT and ASS is text, which our own parsers take (text_cues.h); MP4's timed text
 * goes through libavcodec, which makes ASS of it. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "streamgate/base/str.h"

#include "av_media.h"
#include "text_cues.h"
#include "text_list.h"

/* Commas before the text of an event as it stands in a packet (ReadOrder, Layer, Style, Name, three
 * margins, Effect). */
enum { ASS_PACKET_COMMAS = 8 };
/* For how long a cue is shown whose end is not told. */
enum { UNTOLD_MS = 4000 };

static void free_parts(struct text_cues *cues, AVPacket **packet, AVCodecContext **decoder)
{
    text_cues_free(cues);
    av_packet_free(packet);
    avcodec_free_context(decoder);
}

/* ---- which ---- */

/* Of MP4's two kinds of text only tx3g is subtitles: "text" is QuickTime's, and holds chapters. */
static bool is_text(const AVStream *stream)
{
    switch (stream->codecpar->codec_id) {
    case AV_CODEC_ID_MOV_TEXT:
        return stream->codecpar->codec_tag == MKTAG('t', 'x', '3', 'g');
    case AV_CODEC_ID_SUBRIP:
    case AV_CODEC_ID_TEXT:
    case AV_CODEC_ID_WEBVTT:
    case AV_CODEC_ID_ASS:
        return true;
    default:
        return false;
    }
}

bool sgav_text_any(const AVFormatContext *fmt)
{
    for (unsigned i = 0; i < fmt->nb_streams; i++)
        if (is_text(fmt->streams[i]))
            return true;
    return false;
}

static void fill_track(const AVStream *stream, struct sg_subtitle_track *t)
{
    struct sg_track texts = {0};
    sgav_probe_texts(stream, &texts);
    *t = (struct sg_subtitle_track){.stream = (uint32_t)stream->index};
    snprintf(t->language, sizeof(t->language), "%s", texts.language);
    snprintf(t->title, sizeof(t->title), "%s", texts.title);
    t->forced = stream->disposition & AV_DISPOSITION_FORCED;
    t->captions = stream->disposition & (AV_DISPOSITION_HEARING_IMPAIRED | AV_DISPOSITION_CAPTIONS);
}

/* The film as its demuxer gives it packet by packet, from the beginning: a plain one was opened
 * without its samples, another was read to know it. *start_us: where its timeline begins. Takes fd.
 */
static enum sg_error open_film(int fd, const struct sg_media_limits *limits,
                               struct sgav_source **out, int64_t *start_us,
                               char why[SG_MEDIA_MESSAGE_MAX])
{
    struct sgav_source *s = NULL;
    enum sg_error err = sgav_source_open(fd, limits, &s, why);
    if (err) {
        close(fd);
        return err;
    }
    *start_us = s->container && s->fmt->start_time != AV_NOPTS_VALUE ? s->fmt->start_time : 0;
    sgav_demuxer_close(s);
    s->reader.pos = 0;
    err = sgav_demuxer_open(s, limits, why);
    if (err)
        sgav_source_close(&s);
    else
        *out = s;
    return err;
}

enum sg_error sgav_text_list(int fd, const struct media_call *call, struct sgav_body *out,
                             char why[SG_MEDIA_MESSAGE_MAX])
{
    struct sgav_source *s = NULL;
    struct sg_subtitle_tracks list = {0};
    int64_t start_us;
    enum sg_error err = open_film(fd, &call->limits, &s, &start_us, why);
    if (err)
        return err;
    for (unsigned i = 0; i < s->fmt->nb_streams && list.n < SG_SUBTITLE_TRACKS_MAX; i++)
        if (is_text(s->fmt->streams[i]))
            fill_track(s->fmt->streams[i], &list.items[list.n++]);
    sgav_source_close(&s);
    out->data = malloc(TEXT_LIST_MAX);
    if (!out->data)
        return SG_ERR_NO_MEMORY;
    return text_list_encode(&list, out->data, &out->len);
}

/* ---- a track of a film ---- */

struct extraction {
    struct sgav_source *source;
    const AVStream *stream;
    AVPacket *packet;
    AVCodecContext *decoder; /* of MP4's timed text; else NULL */
    int64_t start_us;
    struct text_cues cues;
    char *why;
};

static enum sg_error open_decoder(struct extraction *x)
{
    const AVCodec *codec = avcodec_find_decoder(AV_CODEC_ID_MOV_TEXT);
    x->decoder = codec ? avcodec_alloc_context3(codec) : NULL;
    if (!x->decoder)
        return codec ? SG_ERR_NO_MEMORY : SG_ERR_UNSUPPORTED_MEDIA;
    x->decoder->pkt_timebase = x->stream->time_base;
    if (avcodec_parameters_to_context(x->decoder, x->stream->codecpar) < 0)
        return SG_ERR_NO_MEMORY;
    int r = avcodec_open2(x->decoder, codec, NULL);
    if (r == AVERROR(ENOMEM))
        return SG_ERR_NO_MEMORY;
    return r < 0 ? sgav_fail(SG_ERR_UNPROCESSABLE, x->why, "The track of text cannot be decoded.")
                 : SG_OK;
}

static void put_ass(struct text_markup *m, const char *s, size_t len)
{
    const char *text = text_ass_field(s, s + len, ASS_PACKET_COMMAS);
    if (text)
        text_markup_ass(m, text, (size_t)(s + len - text));
}

/* MP4's timed text. What cannot be decoded is left out. */
static void put_decoded(struct extraction *x, struct text_markup *m)
{
    AVSubtitle sub = {0};
    int got = 0;
    if (avcodec_decode_subtitle2(x->decoder, &sub, &got, x->packet) >= 0 && got) {
        for (unsigned i = 0; i < sub.num_rects; i++) {
            const char *ass = sub.rects[i]->ass;
            if (i)
                text_markup_put(m, "\n", 1);
            if (ass && sg_str_is_utf8(ass, strlen(ass)))
                put_ass(m, ass, strlen(ass));
        }
        avsubtitle_free(&sub);
    }
}

static void put_packet(struct extraction *x, struct text_markup *m)
{
    const char *s = (const char *)x->packet->data;
    size_t len = x->packet->size > 0 ? (size_t)x->packet->size : 0;
    if (x->decoder) {
        put_decoded(x, m);
        return;
    }
    const char *nul = len ? memchr(s, 0, len) : NULL;
    if (nul)
        len = (size_t)(nul - s);
    if (!len || !sg_str_is_utf8(s, len))
        return;
    if (x->stream->codecpar->codec_id == AV_CODEC_ID_ASS)
        put_ass(m, s, len);
    else if (x->stream->codecpar->codec_id == AV_CODEC_ID_TEXT)
        text_markup_put(m, s, len);
    else
        text_markup_html(m, s, len, x->stream->codecpar->codec_id == AV_CODEC_ID_SUBRIP);
}

static enum sg_error add_packet(struct extraction *x)
{
    const AVPacket *p = x->packet;
    const AVRational ms = {1, 1000};
    int64_t pts = p->pts != AV_NOPTS_VALUE ? p->pts : p->dts;
    if (pts == AV_NOPTS_VALUE)
        return SG_OK;
    struct text_times t = {.start_ms =
                               av_rescale_q(pts, x->stream->time_base, ms) - x->start_us / 1000};
    int64_t shown = p->duration > 0 ? av_rescale_q(p->duration, x->stream->time_base, ms) : 0;
    if (t.start_ms > (int64_t)SG_WEBVTT_TIME_MAX_MS || t.start_ms < INT64_MIN / 2)
        return SG_OK;
    if (shown > (int64_t)SG_WEBVTT_TIME_MAX_MS)
        shown = (int64_t)SG_WEBVTT_TIME_MAX_MS;
    t.end_ms = t.start_ms + (p->duration > 0 ? shown : UNTOLD_MS);
    size_t size = 0;
    const uint8_t *settings = av_packet_get_side_data(p, AV_PKT_DATA_WEBVTT_SETTINGS, &size);
    t.settings = (const char *)settings;
    t.settings_len = settings ? size : 0;
    struct text_markup m;
    text_markup_begin(&m, &x->cues);
    put_packet(x, &m);
    return text_cues_add(&x->cues, &m, &t, x->why);
}

/* Everything but the track is left unread where the container can do that. */
static enum sg_error read_packets(struct extraction *x)
{
    AVFormatContext *fmt = x->source->fmt;
    for (unsigned i = 0; i < fmt->nb_streams; i++)
        fmt->streams[i]->discard = fmt->streams[i] == x->stream ? AVDISCARD_DEFAULT : AVDISCARD_ALL;
    for (;;) {
        int r = av_read_frame(fmt, x->packet);
        if (r == AVERROR(ENOMEM))
            return SG_ERR_NO_MEMORY;
        if (r < 0) /* a damaged end costs what lies behind it */
            return SG_OK;
        enum sg_error err =
            fmt->streams[x->packet->stream_index] == x->stream ? add_packet(x) : SG_OK;
        av_packet_unref(x->packet);
        if (err)
            return err;
    }
}

static uint64_t time_bound(const struct sg_media_limits *limits)
{
    return limits->max_duration_ms < SG_WEBVTT_TIME_MAX_MS ? limits->max_duration_ms
                                                           : SG_WEBVTT_TIME_MAX_MS;
}

enum sg_error sgav_text_extract(int fd, const struct media_call *call, struct sgav_body *out,
                                char why[SG_MEDIA_MESSAGE_MAX])
{
    struct extraction x = {.cues.max_ms = time_bound(&call->limits), .why = why};
    enum sg_error err = open_film(fd, &call->limits, &x.source, &x.start_us, why);
    if (err)
        return err;
    err = SG_ERR_INVALID;
    if (call->number >= x.source->fmt->nb_streams || !is_text(x.source->fmt->streams[call->number]))
        goto out;
    x.stream = x.source->fmt->streams[call->number];
    err = SG_ERR_NO_MEMORY;
    if (!(x.packet = av_packet_alloc()))
        goto out;
    err = x.stream->codecpar->codec_id == AV_CODEC_ID_MOV_TEXT ? open_decoder(&x) : SG_OK;
    if (!err)
        err = read_packets(&x);
    void *text = NULL;
    if (!err && !(err = text_cues_write(&x.cues, &text, &out->len, why)))
        out->data = text;
out:
    free_parts(&x.cues, &x.packet, &x.decoder);
    sgav_source_close(&x.source);
    return err;
}

/* ---- a file of subtitles ---- */

static enum sg_error read_all(int fd, uint8_t **out, size_t *out_len,
                              char why[SG_MEDIA_MESSAGE_MAX])
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return SG_ERR_INVALID;
    if (st.st_size > SG_WEBVTT_TEXT_MAX)
        return sgav_fail(SG_ERR_TOO_LARGE, why, "Subtitles may be %d MiB long at most.",
                         SG_WEBVTT_TEXT_MAX >> 20);
    size_t len = (size_t)st.st_size, have = 0;
    uint8_t *bytes = malloc(len + 1);
    if (!bytes)
        return SG_ERR_NO_MEMORY;
    while (have < len) {
        ssize_t n = pread(fd, bytes + have, len - have, (off_t)have);
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    if (have < len) {
        free(bytes);
        return SG_ERR_INTERNAL;
    }
    *out = bytes;
    *out_len = len;
    return SG_OK;
}

enum sg_error sgav_text_convert(int fd, const struct media_call *call, struct sgav_body *out,
                                char why[SG_MEDIA_MESSAGE_MAX])
{
    uint8_t *bytes = NULL;
    void *text = NULL;
    struct text_source source = {.max_ms = time_bound(&call->limits)};
    enum sg_error err = read_all(fd, &bytes, &source.len, why);
    close(fd);
    source.bytes = bytes;
    if (!err)
        err = text_convert(&source, &text, &out->len, why);
    free(bytes);
    out->data = text;
    return err;
}
