/* HLS playlists, RFC 8216 (section numbers below are its). A playlist is first a list of rows -
 * where a segment starts and ends in microseconds, and its bytes - so both forms share the
 * arithmetic. EXTINF is the difference of two rounded instants, never a rounded difference: the sum
 * of all of them is the track's duration to the microsecond. */
#include "streamgate/media/playlist.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/str.h"

#include "timeline.h"

enum { VERSION_FMP4 = 7, VERSION_TS = 6 };

struct row {
    int64_t start_us, end_us;
    uint64_t bytes;
};

struct rows {
    struct row *row;
    uint32_t n;
};

static int64_t segment_end(const struct sg_track *t, uint32_t i)
{
    return t->segments[i].start + (int64_t)t->segments[i].duration;
}

static void rows_of_track(const struct sg_track *t, bool ts, struct rows *out)
{
    for (uint32_t i = 0; i < t->n_segments; i++)
        out->row[i] = (struct row){
            .start_us = timeline_us(t->segments[i].start, t->timescale),
            .end_us = timeline_us(segment_end(t, i), t->timescale),
            .bytes = ts ? t->segments[i].bytes_ts : t->segments[i].bytes_fmp4,
        };
    out->n = t->n_segments;
}

/* Where audio outlasts the video, the muxed form goes on: within the last video segment, or in tail
 * segments of its own. */
static void rows_of_muxed(const struct sg_track *video, const struct sg_track *audio,
                          struct rows *out)
{
    rows_of_track(video, true, out);
    uint32_t tail = timeline_first_tail(video, audio);
    int64_t heard_us = audio->start > 0 ? timeline_us(audio->start, audio->timescale) : 0;
    if (heard_us < out->row[0].start_us)
        out->row[0].start_us = heard_us;
    struct row *last = &out->row[out->n - 1];
    int64_t audio_us =
        tail < audio->n_segments
            ? timeline_us(audio->segments[tail].start, audio->timescale)
            : timeline_us(segment_end(audio, audio->n_segments - 1), audio->timescale);
    if (audio_us > last->end_us)
        last->end_us = audio_us;
    for (uint32_t i = tail; i < audio->n_segments; i++)
        out->row[out->n++] = (struct row){
            .start_us = timeline_us(audio->segments[i].start, audio->timescale),
            .end_us = timeline_us(segment_end(audio, i), audio->timescale),
            .bytes = audio->segments[i].bytes_ts,
        };
}

static enum sg_error rows_create(const struct sg_media_index *index, const struct sg_track *track,
                                 bool ts, struct rows *out)
{
    const struct sg_track *audio = sg_media_index_audio(index);
    bool muxed = ts && track->kind == SG_TRACK_VIDEO && audio;
    out->row =
        calloc((size_t)track->n_segments + (muxed ? audio->n_segments : 0), sizeof(*out->row));
    if (!out->row)
        return SG_ERR_NO_MEMORY;
    if (muxed)
        rows_of_muxed(track, audio, out);
    else
        rows_of_track(track, ts, out);
    return SG_OK;
}

/* 4.3.3.1: each EXTINF, rounded to the nearest integer, is at most the target. */
static uint64_t target_s(const struct rows *rows)
{
    uint64_t target = 1;
    for (uint32_t i = 0; i < rows->n; i++) {
        uint64_t s = ((uint64_t)(rows->row[i].end_us - rows->row[i].start_us) + 500000) / 1000000;
        if (s > target)
            target = s;
    }
    return target;
}

static uint64_t bit_rate(uint64_t bytes, int64_t us)
{
    double rate = us > 0 ? (double)bytes * 8e6 / (double)us : 0;
    return rate < 9e18 ? (uint64_t)rate + 1 : UINT64_MAX / 2;
}

/* 4.3.4.2: the largest bit rate of any run of segments that lasts 0.5 to 1.5 times the target
 * duration. */
static uint64_t peak_rate(const struct rows *rows)
{
    int64_t target_us = (int64_t)target_s(rows) * 1000000;
    uint64_t peak = 0, any = 0;
    for (uint32_t i = 0; i < rows->n; i++) {
        uint64_t bytes = 0;
        for (uint32_t k = i; k < rows->n; k++) {
            int64_t us = rows->row[k].end_us - rows->row[i].start_us;
            bytes += rows->row[k].bytes;
            uint64_t rate = bit_rate(bytes, us);
            if (k == i && rate > any)
                any = rate;
            if (2 * us > 3 * target_us)
                break;
            if (2 * us >= target_us && rate > peak)
                peak = rate;
        }
    }
    return peak ? peak : any;
}

static uint64_t average_rate(const struct rows *rows)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < rows->n; i++)
        bytes += rows->row[i].bytes;
    return bit_rate(bytes, rows->row[rows->n - 1].end_us - rows->row[0].start_us);
}

/* 4.3.5.1, where it is true. In a master playlist it speaks of all tracks; sound is always so. */
static const char *independent(const struct sg_media_index *index, const struct sg_track *track)
{
    return track->kind == SG_TRACK_AUDIO || index->independent ? "#EXT-X-INDEPENDENT-SEGMENTS\n"
                                                               : "";
}

struct rates {
    uint64_t peak, average;
};

static enum sg_error track_rates(const struct sg_media_index *index, const struct sg_track *track,
                                 bool ts, struct rates *out)
{
    struct rows rows = {0};
    enum sg_error err = rows_create(index, track, ts, &rows);
    if (err)
        return err;
    *out = (struct rates){.peak = peak_rate(&rows), .average = average_rate(&rows)};
    free(rows.row);
    return SG_OK;
}

/* 4.2: a quoted string holds no line break and no quote. */
static void put_quoted(struct sg_text *text, const char *s)
{
    sg_text_puts(text, "\"");
    for (; *s; s++)
        sg_text_append(text, *s == '"' ? "'" : s, 1);
    sg_text_puts(text, "\"");
}

/* Every codec a viewer may meet: the track's own, and those of the audio group. */
static void put_codecs(struct sg_text *text, const struct sg_media_index *index,
                       const struct sg_track *track, bool ts)
{
    sg_text_printf(text, ",CODECS=\"%s", track->codecs);
    for (uint32_t i = 0; i < index->n_tracks; i++) {
        const struct sg_track *t = &index->tracks[i];
        bool seen = t == track || t->kind == SG_TRACK_VIDEO || (ts && !t->is_default);
        for (uint32_t k = 0; k < i && !seen; k++)
            seen = strcmp(t->codecs, index->tracks[k].codecs) == 0;
        if (!seen && track->kind == SG_TRACK_VIDEO)
            sg_text_printf(text, ",%s", t->codecs);
    }
    sg_text_puts(text, "\"");
}

static void put_picture(struct sg_text *text, const struct sg_track *video)
{
    uint64_t milli = ((uint64_t)video->fps_num * 1000 + video->fps_den / 2) / video->fps_den;
    sg_text_printf(text, ",RESOLUTION=%ux%u,FRAME-RATE=%" PRIu64 ".%03u", video->display_width,
                   video->display_height, milli / 1000, (unsigned)(milli % 1000));
}

/* 4.3.4.1, one rendition of the audio group. */
static void put_audio_media(struct sg_text *text, const struct sg_track *t)
{
    sg_text_puts(text, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=");
    put_quoted(text, t->title[0] ? t->title : t->name);
    if (strcmp(t->language, "und") != 0) {
        sg_text_puts(text, ",LANGUAGE=");
        put_quoted(text, t->language);
    }
    sg_text_printf(text, ",DEFAULT=%s,AUTOSELECT=YES,CHANNELS=\"%u\",URI=\"%s/index.m3u8\"\n",
                   t->is_default ? "YES" : "NO", t->channels, t->name);
}

/* NAMEs are unique within a group (4.3.4.1.1); titles need not be. */
static bool titles_unique(const struct sg_media_index *index)
{
    for (uint32_t i = 0; i < index->n_tracks; i++)
        for (uint32_t k = 0; k < i; k++)
            if (index->tracks[i].title[0] &&
                strcmp(index->tracks[i].title, index->tracks[k].title) == 0)
                return false;
    return true;
}

static enum sg_error audio_group(struct sg_text *text, const struct sg_media_index *index,
                                 struct rates *sum)
{
    struct rates most = {0};
    bool titles = titles_unique(index);
    for (uint32_t i = 0; i < index->n_tracks; i++) {
        struct sg_track t = index->tracks[i];
        if (t.kind != SG_TRACK_AUDIO)
            continue;
        if (!titles)
            t.title[0] = 0;
        struct rates rates;
        enum sg_error err = track_rates(index, &index->tracks[i], false, &rates);
        if (err)
            return err;
        if (rates.peak > most.peak)
            most.peak = rates.peak;
        if (rates.average > most.average)
            most.average = rates.average;
        put_audio_media(text, &t);
    }
    sum->peak += most.peak;
    sum->average += most.average;
    return SG_OK;
}

static enum sg_error finish(struct sg_text *text, struct sg_buf **out)
{
    enum sg_error err =
        text->failed ? SG_ERR_NO_MEMORY : sg_buf_create_take(text->ptr, text->len, out);
    if (err)
        sg_text_free(text);
    return err;
}

enum sg_error sg_playlist_master(const struct sg_media_index *index, bool ts, struct sg_buf **out)
{
    if (ts ? !index->ts : !index->fmp4)
        return SG_ERR_UNSUPPORTED_MEDIA;
    const struct sg_track *track = sg_media_index_main(index);
    bool group = !ts && track->kind == SG_TRACK_VIDEO && sg_media_index_audio(index);
    struct rates rates;
    enum sg_error err = track_rates(index, track, ts, &rates);
    if (err)
        return err;
    struct sg_text text = {0};
    sg_text_printf(&text, "#EXTM3U\n#EXT-X-VERSION:%d\n%s", ts ? VERSION_TS : VERSION_FMP4,
                   independent(index, track));
    if (group && (err = audio_group(&text, index, &rates))) {
        sg_text_free(&text);
        return err;
    }
    sg_text_printf(&text, "#EXT-X-STREAM-INF:BANDWIDTH=%" PRIu64 ",AVERAGE-BANDWIDTH=%" PRIu64,
                   rates.peak, rates.average);
    put_codecs(&text, index, track, ts);
    if (track->kind == SG_TRACK_VIDEO)
        put_picture(&text, track);
    sg_text_printf(&text, "%s\n%s/index%s.m3u8\n", group ? ",AUDIO=\"audio\"" : "", track->name,
                   ts ? "-ts" : "");
    return finish(&text, out);
}

enum sg_error sg_playlist_media(const struct sg_media_index *index, const struct sg_track *track,
                                bool ts, struct sg_buf **out)
{
    if (ts ? !index->ts || track != sg_media_index_main(index) : !index->fmp4)
        return SG_ERR_UNSUPPORTED_MEDIA;
    struct rows rows = {0};
    enum sg_error err = rows_create(index, track, ts, &rows);
    if (err)
        return err;
    struct sg_text text = {0};
    sg_text_printf(&text,
                   "#EXTM3U\n#EXT-X-VERSION:%d\n#EXT-X-TARGETDURATION:%" PRIu64
                   "\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n%s",
                   ts ? VERSION_TS : VERSION_FMP4, target_s(&rows), independent(index, track));
    if (!ts)
        sg_text_puts(&text, "#EXT-X-MAP:URI=\"init.mp4\"\n");
    for (uint32_t i = 0; i < rows.n; i++) {
        int64_t us = rows.row[i].end_us - rows.row[i].start_us;
        sg_text_printf(&text, "#EXTINF:%" PRId64 ".%06u,\nseg-%u.%s\n", us / 1000000,
                       (unsigned)(us % 1000000), i, ts ? "ts" : "m4s");
    }
    sg_text_puts(&text, "#EXT-X-ENDLIST\n");
    free(rows.row);
    return finish(&text, out);
}
