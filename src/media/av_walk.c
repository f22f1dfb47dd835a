/* The samples of a stream, whoever read the tables: our own reader, or the demuxer, whose packets
 * must then be asked for one by one, as only they tell presentation times. */
#include "av_container.h"

/* How far before a time reading begins in containers that do not say where key frames are. */
enum { RUN_UP_S = 3 };

static const struct iso_track *track_of(const struct sgav_source *source, const AVStream *stream)
{
    return source->movie ? source->tracks[stream->index] : NULL;
}

uint32_t sgav_sample_count(const struct sgav_source *source, const AVStream *stream)
{
    if (source->movie) {
        const struct iso_track *track = track_of(source, stream);
        return track ? track->n : 0;
    }
    int n = avformat_index_get_entries_count(stream);
    return n > 0 ? (uint32_t)n : 0;
}

void sgav_sample_of_entry(const AVStream *stream, uint32_t i, struct sgav_sample *out)
{
    const AVIndexEntry *e = avformat_index_get_entry((AVStream *)stream, (int)i);
    *out = (struct sgav_sample){.dts = e->timestamp,
                                .pts = e->timestamp,
                                .pos = e->pos,
                                .size = (uint32_t)e->size,
                                .key = e->flags & AVINDEX_KEYFRAME,
                                .discard = e->flags & AVINDEX_DISCARD_FRAME};
}

/* Number of samples with a decode time before dts. */
static uint32_t count_before(const struct iso_track *track, int64_t dts)
{
    uint32_t low = 0, high = track->n;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (track->samples[mid].dts < dts)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

uint32_t sgav_sample_find(const struct sgav_source *source, AVStream *stream, int64_t dts)
{
    const struct iso_track *track = track_of(source, stream);
    if (track) {
        uint32_t i = count_before(track, dts);
        if (i < track->n && track->samples[i].dts == dts)
            return i;
        return i ? i - 1 : track->n;
    }
    int at = av_index_search_timestamp(stream, dts, AVSEEK_FLAG_BACKWARD | AVSEEK_FLAG_ANY);
    return at < 0 ? sgav_sample_count(source, stream) : (uint32_t)at;
}

/* All streams but this one are skipped by av_read_frame from now on. */
static void select_stream(struct sgav_source *source, const AVStream *stream)
{
    for (unsigned i = 0; i < source->fmt->nb_streams; i++)
        source->fmt->streams[i]->discard =
            source->fmt->streams[i] == stream ? AVDISCARD_DEFAULT : AVDISCARD_ALL;
}

/* ANY: by decode time exactly; the caller skips what precedes the sample it wants (the demuxer
 * steps back before open key frames). */
static enum sg_error seek(struct sgav_source *source, const AVStream *stream, int64_t dts)
{
    int r = av_seek_frame(source->fmt, stream->index, dts, AVSEEK_FLAG_BACKWARD | AVSEEK_FLAG_ANY);
    return r < 0 ? SG_ERR_UNPROCESSABLE : SG_OK;
}

static enum sg_error read_packet(const struct sgav_source *source, AVPacket *packet)
{
    int r;
    do { /* not every demuxer heeds which streams are wanted */
        av_packet_unref(packet);
        r = av_read_frame(source->fmt, packet);
    } while (r >= 0 && source->fmt->streams[packet->stream_index]->discard == AVDISCARD_ALL);
    if (r == AVERROR_EOF)
        return SG_ERR_NOT_FOUND;
    return r == AVERROR(ENOMEM) ? SG_ERR_NO_MEMORY : r < 0 ? SG_ERR_UNPROCESSABLE : SG_OK;
}

enum sg_error sgav_walk_open(struct sgav_walk *walk, struct sgav_source *source,
                             const AVStream *stream, int64_t dts)
{
    *walk = (struct sgav_walk){.source = source, .stream = stream, .from = dts};
    const struct iso_track *track = track_of(source, stream);
    if (track) {
        walk->next = count_before(track, dts);
        return SG_OK;
    }
    if (!(walk->packet = av_packet_alloc()))
        return SG_ERR_NO_MEMORY;
    select_stream(source, stream);
    return seek(source, stream, dts);
}

enum sg_error sgav_walk_next(struct sgav_walk *walk, struct sgav_sample *out)
{
    if (!walk->packet) {
        if (walk->next >= sgav_sample_count(walk->source, walk->stream))
            return SG_ERR_NOT_FOUND;
        sgav_sample_get(walk->source, walk->stream, walk->next++, out);
        return SG_OK;
    }
    const AVPacket *p = walk->packet;
    sgav_reader_skim(&walk->source->reader, walk->source->io, true);
    do {
        enum sg_error err = read_packet(walk->source, walk->packet);
        if (err)
            return err;
        if (p->pts == AV_NOPTS_VALUE || p->dts == AV_NOPTS_VALUE || p->pos < 0 || p->size < 0)
            return SG_ERR_UNPROCESSABLE;
    } while (!walk->begun && p->dts < walk->from);
    walk->begun = true;
    *out = (struct sgav_sample){
        .dts = p->dts,
        .pts = p->pts,
        .pos = p->pos,
        .size = (uint32_t)p->size,
        .key = p->flags & AV_PKT_FLAG_KEY,
        .discard = p->flags & AV_PKT_FLAG_DISCARD,
        .changes = av_packet_get_side_data(p, AV_PKT_DATA_NEW_EXTRADATA, NULL) != NULL,
    };
    return SG_OK;
}

void sgav_walk_close(struct sgav_walk *walk)
{
    av_packet_free(&walk->packet);
}

/* The last key frame shown at or before pts; 0 when there is none. */
static uint32_t key_before(const struct iso_track *track, int64_t pts)
{
    uint32_t i = count_before(track, pts); /* nothing is shown before it is decoded */
    if (i == track->n)
        i--;
    for (; i > 0; i--)
        if ((track->samples[i].size & ISO_KEY) &&
            track->samples[i].dts + track->samples[i].shift <= pts)
            return i;
    return 0;
}

/* Where that cannot be found, from the beginning. */
static enum sg_error seek_foreign(struct sgav_source *source, const AVStream *stream, int64_t pts)
{
    if (source->container->key_frames_unknown)
        pts -= av_rescale_q(RUN_UP_S, (AVRational){1, 1}, stream->time_base);
    select_stream(source, stream);
    if (av_seek_frame(source->fmt, stream->index, pts, AVSEEK_FLAG_BACKWARD) >= 0 ||
        av_seek_frame(source->fmt, -1, 0, AVSEEK_FLAG_BYTE) >= 0 ||
        av_seek_frame(source->fmt, stream->index, 0, AVSEEK_FLAG_ANY) >= 0)
        return SG_OK;
    return SG_ERR_UNPROCESSABLE;
}

enum sg_error sgav_read_from(struct sgav_walk *walk, struct sgav_source *source,
                             const AVStream *stream, int64_t pts)
{
    *walk = (struct sgav_walk){.source = source, .stream = stream};
    const struct iso_track *track = track_of(source, stream);
    if (track) {
        walk->next = key_before(track, pts);
        return SG_OK;
    }
    if (source->container)
        return seek_foreign(source, stream, pts);
    struct sgav_sample first;
    sgav_sample_get(source, stream, 0, &first);
    select_stream(source, stream);
    sgav_reader_skim(&source->reader, source->io, false);
    if (av_seek_frame(source->fmt, stream->index, pts, AVSEEK_FLAG_BACKWARD) < 0)
        return seek(source, stream, first.dts);
    return SG_OK;
}

enum sg_error sgav_read_next(struct sgav_walk *walk, AVPacket *packet)
{
    if (!walk->source->movie)
        return read_packet(walk->source, packet);
    struct sgav_sample s;
    enum sg_error err = sgav_walk_next(walk, &s);
    av_packet_unref(packet);
    if (err)
        return err;
    if (s.size > INT32_MAX - AV_INPUT_BUFFER_PADDING_SIZE || av_new_packet(packet, (int)s.size) < 0)
        return SG_ERR_NO_MEMORY;
    packet->dts = s.dts;
    packet->pts = s.pts;
    packet->pos = s.pos;
    packet->stream_index = walk->stream->index;
    packet->flags = (s.key ? AV_PKT_FLAG_KEY : 0) | (s.discard ? AV_PKT_FLAG_DISCARD : 0);
    const struct fmp4_sample one = {.pos = s.pos, .size = s.size};
    return sgav_samples_copy(walk->source, &one, 1, packet->data);
}
