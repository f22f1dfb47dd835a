/* The samples of a part: where they lie and when they are shown, then their bytes. The demuxer is
 * asked for times and places only; the bytes are read straight from the descriptor to where they
 * belong, neighbours in one read. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "av_media.h"

/* Samples before dts, as far as they may be moved. */
static uint32_t early_before(const struct sgav_source *source, const AVStream *stream, int64_t dts)
{
    uint32_t count = sgav_sample_count(source, stream), n = 0;
    for (; n < count && n < FMP4_EARLY_MAX; n++) {
        struct sgav_sample s;
        sgav_sample_get(source, stream, n, &s);
        if (s.dts >= dts)
            break;
    }
    return n;
}

int64_t sgav_decode_time(const struct sgav_source *source, const struct media_part *part,
                         int64_t dts)
{
    const AVStream *stream = source->fmt->streams[part->stream];
    int64_t t = av_rescale_q(dts, stream->time_base, (AVRational){1, (int)part->timescale});
    if (part->kind != SG_TRACK_VIDEO || !fmp4_decode_early(t, part->timescale))
        return t;
    return fmp4_decode_time(t, early_before(source, stream, dts), part->timescale);
}

static struct fmp4_sample sample_of(const AVStream *stream, const struct media_part *part,
                                    int64_t dts, int64_t pts)
{
    AVRational to = {1, (int)part->timescale};
    return (struct fmp4_sample){
        .dts = av_rescale_q(dts, stream->time_base, to),
        .pts = av_rescale_q(pts, stream->time_base, to),
    };
}

static enum sg_error read_video(struct sgav_source *source, const AVStream *stream,
                                const struct media_part *part, struct fmp4_sample *out)
{
    struct sgav_walk walk;
    struct sgav_sample from;
    enum sg_error err = sgav_walk_open(&walk, source, stream, part->seek_dts);
    for (uint32_t n = 0; n < part->samples && !err; n++) {
        if ((err = sgav_walk_next(&walk, &from)))
            break;
        out[n] = sample_of(stream, part, from.dts, from.pts);
        out[n].pos = from.pos;
        out[n].size = from.size;
        out[n].key = from.key;
        out[n].discard = from.discard;
    }
    sgav_walk_close(&walk);
    if (!err)
        err = fmp4_squeeze(out, part->samples, part->timescale);
    if (!err && fmp4_decode_early(out[0].dts, part->timescale)) {
        uint64_t first = early_before(source, stream, part->seek_dts);
        for (uint32_t n = 0; n < part->samples; n++)
            out[n].dts = fmp4_decode_time(out[n].dts, first + n, part->timescale);
    }
    return err == SG_ERR_NOT_FOUND ? SG_ERR_UNPROCESSABLE : err;
}

static enum sg_error read_audio(const struct sgav_source *source, AVStream *stream,
                                const struct media_part *part, struct fmp4_sample *out)
{
    uint32_t count = sgav_sample_count(source, stream), n = 0;
    uint32_t at = sgav_sample_find(source, stream, part->seek_dts);
    int64_t first_shown = sgav_audio_first_shown(source, stream);
    for (; at < count && n < part->samples; at++) {
        struct sgav_sample from;
        sgav_sample_get(source, stream, at, &from);
        if (!sgav_audio_kept(stream, &from, first_shown))
            continue;
        out[n] = sample_of(stream, part, from.dts, from.dts);
        out[n].pos = from.pos;
        out[n].size = from.size;
        out[n].key = true;
        n++;
    }
    return n == part->samples ? SG_OK : SG_ERR_UNPROCESSABLE;
}

enum sg_error sgav_samples_read(struct sgav_source *source, const struct media_part *part,
                                struct fmp4_sample **out)
{
    if (part->stream >= source->fmt->nb_streams || part->timescale > INT32_MAX)
        return SG_ERR_INVALID;
    AVStream *stream = source->fmt->streams[part->stream];
    struct fmp4_sample *samples = calloc(part->samples ? part->samples : 1, sizeof(*samples));
    if (!samples)
        return SG_ERR_NO_MEMORY;
    enum sg_error err = SG_OK;
    if (part->samples)
        err = part->kind == SG_TRACK_VIDEO ? read_video(source, stream, part, samples)
                                           : read_audio(source, stream, part, samples);
    for (uint32_t i = 1; i < part->samples && !err; i++)
        if (samples[i].dts <= samples[i - 1].dts) /* sample tables may hold durations of zero */
            samples[i].dts = samples[i - 1].dts + 1;
    if (err)
        free(samples);
    else
        *out = samples;
    return err;
}

static enum sg_error read_at(int fd, uint8_t *at, uint64_t len, int64_t pos)
{
    while (len) {
        ssize_t n = pread(fd, at, len, pos);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return SG_ERR_UNPROCESSABLE;
        at += n;
        pos += n;
        len -= (uint64_t)n;
    }
    return SG_OK;
}

enum sg_error sgav_samples_copy(const struct sgav_source *source, const struct fmp4_sample *samples,
                                uint32_t n, uint8_t *at)
{
    for (uint32_t i = 0; i < n;) {
        uint64_t run = samples[i].size;
        uint32_t k = i + 1;
        for (; k < n && samples[k].pos == samples[i].pos + (int64_t)run; k++)
            run += samples[k].size;
        enum sg_error err = read_at(source->reader.fd, at, run, samples[i].pos);
        if (err)
            return err;
        at += run;
        i = k;
    }
    return SG_OK;
}
