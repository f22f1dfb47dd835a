/* An output's file: MP4 by libavformat's muxer, on the caller's descriptor. Edit lists put every
 * track where it belongs on the source's timeline; the movie's scale is the video's, so that they
 * do so to the tick. Nothing in it tells when or by what it was made. */
#include <errno.h>
#include <libavutil/mem.h>
#include <stdlib.h>
#include <unistd.h>

#include "av_transcode_core.h"

enum { BUFFER_BYTES = 256 << 10, EARLY_MAX = 1 << 20, MOVIE_SCALE = 48000 };

static int file_write(void *opaque, uint8_t *bytes, int len)
{
    struct xc_output *o = opaque;
    for (int done = 0; done < len;) {
        ssize_t n = pwrite(o->plan->fd, bytes + done, (size_t)(len - done), o->file_pos);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            o->io_error = n < 0 ? errno : EIO;
            return AVERROR(o->io_error);
        }
        done += (int)n;
        o->file_pos += n;
    }
    if (o->file_pos > o->file_size)
        o->file_size = o->file_pos;
    return len;
}

/* The muxer goes back to write a size. */
static int file_read(void *opaque, uint8_t *out, int len)
{
    struct xc_output *o = opaque;
    ssize_t n = pread(o->plan->fd, out, (size_t)len, o->file_pos);
    if (n <= 0)
        return n < 0 ? AVERROR(errno) : AVERROR_EOF;
    o->file_pos += n;
    return (int)n;
}

static int64_t file_seek(void *opaque, int64_t offset, int whence)
{
    struct xc_output *o = opaque;
    if (whence & AVSEEK_SIZE)
        return o->file_size;
    whence &= ~AVSEEK_FORCE;
    int64_t base = whence == SEEK_CUR ? o->file_pos : whence == SEEK_END ? o->file_size : 0;
    int64_t to;
    if (__builtin_add_overflow(base, offset, &to) || to < 0)
        return AVERROR(EINVAL);
    return o->file_pos = to;
}

static enum sg_error fail_write(struct xc_output *o, int r)
{
    if (o->io_error)
        r = AVERROR(o->io_error);
    return xc_fail_av(o->x, r, o->io_error ? SG_ERR_IO : SG_ERR_UNPROCESSABLE,
                      "The output cannot be written");
}

static void copy_tag(AVStream *to, const AVStream *from, const char *name)
{
    const AVDictionaryEntry *e = av_dict_get(from->metadata, name, NULL, 0);
    if (e && e->value)
        (void)av_dict_set(&to->metadata, name, e->value, 0);
}

static bool copy_parameters(AVStream *to, const AVStream *from)
{
    if (avcodec_parameters_copy(to->codecpar, from->codecpar) < 0)
        return false;
    to->codecpar->codec_tag =
        from->codecpar->codec_id == AV_CODEC_ID_HEVC ? MKTAG('h', 'v', 'c', '1') : 0;
    to->sample_aspect_ratio = from->sample_aspect_ratio;
    to->avg_frame_rate = from->avg_frame_rate;
    size_t size = 0;
    const uint8_t *matrix = av_stream_get_side_data(from, AV_PKT_DATA_DISPLAYMATRIX, &size);
    uint8_t *copy = matrix ? av_stream_new_side_data(to, AV_PKT_DATA_DISPLAYMATRIX, size) : NULL;
    if (matrix && !copy)
        return false;
    if (copy)
        memcpy(copy, matrix, size);
    return true;
}

static const struct xc_sound *sound_of(const struct xc *x, const struct sg_transcode_audio *a)
{
    for (uint32_t i = 0; i < x->n_sounds; i++) {
        const struct xc_sound *s = &x->sounds[i];
        if ((uint32_t)s->input->stream->index == a->stream && s->channels == a->channels &&
            s->bitrate == a->bitrate)
            return s;
    }
    return NULL;
}

/* Streams in the plan's order, the video first. That of an encoder learns its parameters later. */
static bool add_streams(struct xc_output *o)
{
    const struct sg_transcode_output *plan = o->plan;
    if (o->video) {
        AVStream *s = avformat_new_stream(o->mux, NULL);
        if (!s)
            return false;
        bool copy = plan->video == SG_TRANSCODE_VIDEO_COPY;
        o->base[s->index] = s->time_base = (AVRational){1, o->video->scale};
        s->disposition = AV_DISPOSITION_DEFAULT;
        copy_tag(s, o->video->stream, "language");
        if (copy && !copy_parameters(s, o->video->stream))
            return false;
    }
    for (uint32_t i = 0; i < plan->n_audios; i++) {
        const struct sg_transcode_audio *a = &plan->audios[i];
        const struct xc_sound *sound = a->copy ? NULL : sound_of(o->x, a);
        const AVStream *from = o->x->inputs[a->stream].stream;
        AVStream *s = avformat_new_stream(o->mux, NULL);
        if (!s || !(sound ? avcodec_parameters_from_context(s->codecpar, sound->encoder) >= 0
                          : copy_parameters(s, from)))
            return false;
        o->base[s->index] = s->time_base = (AVRational){1, s->codecpar->sample_rate};
        s->disposition = i ? 0 : AV_DISPOSITION_DEFAULT;
        copy_tag(s, from, "language");
        copy_tag(s, from, "title");
    }
    return true;
}

enum sg_error xc_mux_open(struct xc_output *o)
{
    if (avformat_alloc_output_context2(&o->mux, NULL, "mp4", NULL) < 0 || !add_streams(o))
        goto no_memory;
    o->min_pts = o->end_pts = INT64_MIN;
    o->packet = av_packet_alloc();
    o->last = av_packet_alloc();
    o->scaled = av_frame_alloc();
    uint8_t *buffer = av_malloc(BUFFER_BYTES);
    if (buffer)
        o->mux->pb =
            avio_alloc_context(buffer, BUFFER_BYTES, 1, o, file_read, file_write, file_seek);
    if (!o->mux->pb)
        av_free(buffer);
    if (!o->mux->pb || !o->packet || !o->last || !o->scaled)
        goto no_memory;
    o->mux->flags |= AVFMT_FLAG_BITEXACT;
    o->mux->avoid_negative_ts = AVFMT_AVOID_NEG_TS_DISABLED;
    o->mux->strict_std_compliance = FF_COMPLIANCE_EXPERIMENTAL;
    return SG_OK;
no_memory:
    return xc_fail(o->x, SG_ERR_NO_MEMORY, "There is not enough memory.");
}

enum sg_error xc_mux_header(struct xc_output *o)
{
    AVDictionary *options = NULL;
    int scale = o->video ? o->video->scale : o->mux->streams[0]->codecpar->sample_rate;
    int r = av_dict_set_int(&options, "movie_timescale", scale > 0 ? scale : MOVIE_SCALE, 0);
    if (r >= 0 && o->video)
        r = av_dict_set_int(&options, "video_track_timescale", scale, 0);
    if (r >= 0)
        r = avformat_write_header(o->mux, &options);
    av_dict_free(&options);
    if (r < 0)
        return fail_write(o, r);
    o->header = true;
    for (size_t i = 0; i < o->n_early; i++) {
        enum sg_error err = xc_mux_packet(o, o->early[i]);
        av_packet_free(&o->early[i]);
        if (err)
            return err;
    }
    o->n_early = 0;
    return SG_OK;
}

static enum sg_error keep_early(struct xc_output *o, AVPacket *packet)
{
    if (o->n_early == o->cap_early) {
        size_t cap = o->cap_early ? 2 * o->cap_early : 64;
        if (cap > EARLY_MAX)
            return xc_fail(o->x, SG_ERR_UNPROCESSABLE,
                           "The video begins too long after the audio.");
        AVPacket **grown = realloc(o->early, cap * sizeof(AVPacket *));
        if (!grown)
            return xc_fail(o->x, SG_ERR_NO_MEMORY, "There is not enough memory.");
        o->early = grown;
        o->cap_early = cap;
    }
    AVPacket *copy = av_packet_alloc();
    if (!copy)
        return xc_fail(o->x, SG_ERR_NO_MEMORY, "There is not enough memory.");
    av_packet_move_ref(copy, packet);
    o->early[o->n_early++] = copy;
    return SG_OK;
}

enum sg_error xc_mux_packet(struct xc_output *o, AVPacket *packet)
{
    if (!o->header)
        return keep_early(o, packet);
    const AVStream *s = o->mux->streams[packet->stream_index];
    av_packet_rescale_ts(packet, o->base[packet->stream_index], s->time_base);
    int r = av_interleaved_write_frame(o->mux, packet);
    return r < 0 ? fail_write(o, r) : SG_OK;
}

enum sg_error xc_mux_end(struct xc_output *o)
{
    int r = av_write_trailer(o->mux);
    avio_flush(o->mux->pb);
    if (r >= 0)
        r = o->mux->pb->error;
    return r < 0 ? fail_write(o, r) : SG_OK;
}

void xc_mux_close(struct xc_output *o)
{
    for (size_t i = 0; i < o->n_early; i++)
        av_packet_free(&o->early[i]);
    free(o->early);
    o->early = NULL;
    av_packet_free(&o->packet);
    av_packet_free(&o->last);
    av_frame_free(&o->scaled);
    xc_graph_close(&o->graph);
    avcodec_free_context(&o->encoder);
    if (o->mux && o->mux->pb) {
        av_freep(&o->mux->pb->buffer);
        avio_context_free(&o->mux->pb);
    }
    avformat_free_context(o->mux);
    o->mux = NULL;
}
