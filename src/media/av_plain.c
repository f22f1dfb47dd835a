/* Opens a plain film: its sample tables are read by iso_movie.h, and the demuxer is shown the same
 * file with those tables hidden, so that it tells what the streams are without building an index of
 * every sample. Of an hour of film (108,000 pictures and 169,000 sounds) that takes 6 ms instead of
 * 25, and no packet has to be asked for to learn its time. Whatever the demuxer would have derived
 * from the samples is set from the tables. */
#include <stdlib.h>

#include "streamgate/base/fs.h"

#include "av_media.h"

enum { BOX_HEADER = 8, MOOV_MAX = 128 << 20 };

/* What libavformat works out of a track's samples. */
static void set_derived(AVStream *stream, const struct iso_track *track)
{
    AVCodecParameters *par = stream->codecpar;
    if (stream->duration > 0) /* in unsigned numbers, as there: an overflow must come out alike */
        par->bit_rate =
            (int64_t)(track->media_bytes * 8 * track->timescale / (uint64_t)stream->duration);
    if (track->edit_end < stream->duration)
        stream->duration = track->edit_end;
}

void sgav_plain_set_delay(const struct sgav_source *s, AVStream *stream)
{
    const struct iso_track *track = s->movie ? s->tracks[stream->index] : NULL;
    AVCodecParameters *par = stream->codecpar;
    if (track && track->reorders && par->codec_id == AV_CODEC_ID_H264 && par->video_delay <= 0)
        par->video_delay = iso_reorder_depth(track);
}

static struct iso_track *track_of(const struct iso_movie *movie, const AVStream *stream)
{
    for (uint32_t i = 0; i < movie->n_tracks; i++)
        if (movie->tracks[i].id <= INT32_MAX && (int)movie->tracks[i].id == stream->id)
            return &movie->tracks[i];
    return NULL;
}

/* Both readers must have found the same tracks. */
static bool match(struct sgav_source *s, const struct iso_movie *movie, struct iso_track **tracks)
{
    uint32_t matched = 0;
    for (unsigned i = 0; i < s->fmt->nb_streams; i++) {
        AVStream *stream = s->fmt->streams[i];
        enum AVMediaType type = stream->codecpar->codec_type;
        bool wanted = (type == AVMEDIA_TYPE_VIDEO || type == AVMEDIA_TYPE_AUDIO) &&
                      !(stream->disposition & AV_DISPOSITION_ATTACHED_PIC);
        struct iso_track *track = track_of(movie, stream);
        if (wanted != (track != NULL))
            return false;
        if (!track)
            continue;
        if (track->video != (type == AVMEDIA_TYPE_VIDEO) || stream->time_base.num != 1 ||
            stream->time_base.den != (int)track->timescale ||
            avformat_index_get_entries_count(stream) != 0)
            return false;
        tracks[i] = track;
        matched++;
    }
    return matched == movie->n_tracks;
}

/* The demuxer over the file with `moov` in place of its own. */
static enum sg_error open_over(struct sgav_source *s, const struct sg_media_limits *limits,
                               struct iso_movie *movie, const uint8_t *moov)
{
    char why[SG_MEDIA_MESSAGE_MAX];
    s->reader.over = moov;
    s->reader.over_pos = s->iso.moov_pos + BOX_HEADER;
    s->reader.over_len = s->iso.moov_len - BOX_HEADER;
    enum sg_error err = sgav_demuxer_open(s, limits, why);
    s->reader.over = NULL;
    struct iso_track **tracks = NULL;
    if (!err && !(tracks = calloc(s->fmt->nb_streams + 1, sizeof(struct iso_track *))))
        err = SG_ERR_NO_MEMORY;
    if (!err && !match(s, movie, tracks))
        err = SG_ERR_UNSUPPORTED_MEDIA;
    if (err) {
        free(tracks);
        sgav_demuxer_close(s);
        s->reader.pos = 0;
        return err == SG_ERR_NO_MEMORY ? err : SG_ERR_UNSUPPORTED_MEDIA;
    }
    s->tracks = tracks;
    for (unsigned i = 0; i < s->fmt->nb_streams; i++)
        if (tracks[i])
            set_derived(s->fmt->streams[i], tracks[i]);
    return SG_OK;
}

enum sg_error sgav_plain_open(struct sgav_source *s, const struct sg_media_limits *limits)
{
    int64_t len = s->iso.moov_len - BOX_HEADER;
    if (!s->iso.plain || len <= 0 || len > MOOV_MAX)
        return SG_ERR_UNSUPPORTED_MEDIA;
    uint8_t *moov = iso_alloc((size_t)len);
    if (!moov)
        return SG_ERR_NO_MEMORY;
    struct iso_movie *movie = NULL;
    enum sg_error err = SG_ERR_UNSUPPORTED_MEDIA;
    if (sg_fs_pread_all(s->reader.fd, moov, (size_t)len, (uint64_t)s->iso.moov_pos + BOX_HEADER) ==
        SG_OK)
        err =
            iso_movie_read(moov, (size_t)len, (uint64_t)s->reader.size, limits->max_frames, &movie);
    if (!err) {
        iso_movie_hide(movie, moov);
        err = open_over(s, limits, movie, moov);
    }
    free(moov);
    if (err)
        iso_movie_free(&movie);
    else
        s->movie = movie;
    return err;
}
