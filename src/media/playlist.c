/* HLS playlists, RFC 8216 (section numbers below are its). A playlist is first a list of rows
 * (rows.h), so both forms share the arithmetic. EXTINF is the difference of two rounded instants,
 * never a rounded difference: the sum of all of them is the track's duration to the microsecond. */
#include "streamgate/media/playlist.h"

#include <inttypes.h>
#include <string.h>

#include "streamgate/base/str.h"

#include "rows.h"

enum { VERSION_FMP4 = 7, VERSION_TS = 6 };

/* 4.3.5.1, where it is true. In a master playlist it speaks of all tracks; sound is always so. */
static const char *independent(const struct sg_media_index *index, const struct sg_track *track)
{
    return track->kind == SG_TRACK_AUDIO || index->independent ? "#EXT-X-INDEPENDENT-SEGMENTS\n"
                                                               : "";
}

static enum sg_error track_rates(const struct sg_media_index *index, const struct sg_track *track,
                                 bool ts, struct rates *out)
{
    struct rows rows = {0};
    enum sg_error err = rows_create(index, track, ts, &rows);
    if (err)
        return err;
    *out = rows_rates(&rows);
    rows_destroy(&rows);
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
                   ts ? VERSION_TS : VERSION_FMP4, rows_target_s(&rows), independent(index, track));
    if (!ts)
        sg_text_puts(&text, "#EXT-X-MAP:URI=\"init.mp4\"\n");
    for (uint32_t i = 0; i < rows.n; i++) {
        int64_t us = rows.row[i].end_us - rows.row[i].start_us;
        sg_text_printf(&text, "#EXTINF:%" PRId64 ".%06u,\nseg-%u.%s\n", us / 1000000,
                       (unsigned)(us % 1000000), i, ts ? "ts" : "m4s");
    }
    sg_text_puts(&text, "#EXT-X-ENDLIST\n");
    rows_destroy(&rows);
    return finish(&text, out);
}
