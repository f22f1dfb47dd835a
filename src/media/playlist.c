/* HLS playlists, RFC 8216 (section numbers below are its). A playlist is first a list of rows
 * (rows.h), so both forms share the arithmetic. EXTINF is the difference of two rounded instants,
 * never a rounded difference: the sum of all of them is the track's duration to the microsecond. */
#include "streamgate/media/playlist.h"

#include <inttypes.h>
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/media/subtitle_playlist.h"

#include "playlist_audio.h"
#include "playlist_iframes.h"
#include "rows.h"

enum { VERSION_FMP4 = 7, VERSION_TS = 6, MASTER_CODECS_MAX = 8 };

/* A master playlist being written. */
struct master {
    const struct sg_presentation *p;
    bool ts;
    struct sound_groups sounds; /* none: sound has no renditions of its own */
};

/* 4.3.5.1, where it is true; sound is always so. */
static bool independent(const struct sg_media_index *index, const struct sg_track *track)
{
    return track->kind == SG_TRACK_AUDIO || index->independent;
}

static const char *independent_tag(bool is)
{
    return is ? "#EXT-X-INDEPENDENT-SEGMENTS\n" : "";
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

/* Every codec a viewer may meet: the track's own, and those of the sound that goes with it. */
struct codecs {
    const char *seen[1 + MASTER_CODECS_MAX];
    uint32_t n;
};

static void add_codec(struct codecs *c, const struct sg_track *t)
{
    for (uint32_t i = 0; i < c->n; i++)
        if (strcmp(c->seen[i], t->codecs) == 0)
            return;
    if (c->n < SG_ARRAY_LEN(c->seen))
        c->seen[c->n++] = t->codecs;
}

static void put_codecs(struct sg_text *text, const struct master *m, const struct sg_offer *offer,
                       const struct sound_group *group)
{
    struct codecs c = {.seen = {offer->track->codecs}, .n = 1};
    const struct sg_track *muxed = m->ts ? sg_media_index_audio(offer->file->index) : NULL;
    if (muxed)
        add_codec(&c, muxed);
    for (uint32_t i = 0; group && i < m->p->n_audios; i++) {
        const struct sg_offer *o = sound_group_member(m->p, group, i);
        if (o)
            add_codec(&c, o->track);
    }
    sg_text_puts(text, ",CODECS=\"");
    for (uint32_t i = 0; i < c.n; i++)
        sg_text_printf(text, "%s%s", i ? "," : "", c.seen[i]);
    sg_text_puts(text, "\"");
}

static void put_picture(struct sg_text *text, const struct sg_track *video)
{
    uint64_t milli = ((uint64_t)video->fps_num * 1000 + video->fps_den / 2) / video->fps_den;
    sg_text_printf(text, ",RESOLUTION=%ux%u,FRAME-RATE=%" PRIu64 ".%03u", video->display_width,
                   video->display_height, milli / 1000, (unsigned)(milli % 1000));
}

static enum sg_error finish(struct sg_text *text, struct sg_buf **out)
{
    enum sg_error err =
        text->failed ? SG_ERR_NO_MEMORY : sg_buf_create_take(text->ptr, text->len, out);
    if (err)
        sg_text_free(text);
    return err;
}

/* 4.3.4.2 */
static enum sg_error put_variant(struct sg_text *text, const struct master *m,
                                 const struct sg_offer *offer, const struct sound_group *group)
{
    const struct sg_track *track = offer->track;
    struct rates rates;
    enum sg_error err = track_rates(offer->file->index, track, m->ts, &rates);
    if (err)
        return err;
    bool video = track->kind == SG_TRACK_VIDEO;
    sg_text_printf(text, "#EXT-X-STREAM-INF:BANDWIDTH=%" PRIu64 ",AVERAGE-BANDWIDTH=%" PRIu64,
                   rates.peak + (video && group ? group->most.peak : 0),
                   rates.average + (video && group ? group->most.average : 0));
    put_codecs(text, m, offer, group);
    if (video)
        put_picture(text, track);
    if (group)
        sg_text_printf(text, ",AUDIO=\"%s\"", group->id);
    sg_text_printf(text, "%s\n%s/index%s.m3u8\n",
                   m->p->n_texts ? ",SUBTITLES=\"" SG_SUBTITLE_GROUP "\"" : "", track->name,
                   m->ts ? "-ts" : "");
    return SG_OK;
}

static bool offered(const struct master *m, const struct sg_offer *offer)
{
    return m->ts ? offer->file->index->ts : offer->file->index->fmp4;
}

static enum sg_error put_pictures(struct sg_text *text, const struct master *m,
                                  const struct sound_group *group)
{
    enum sg_error err = SG_OK;
    for (uint32_t i = 0; i < m->p->n_videos && !err; i++)
        if (offered(m, &m->p->videos[i]))
            err = put_variant(text, m, &m->p->videos[i], group);
    return err;
}

/* Every picture; without one, the sound that is chosen when nobody chooses. */
static enum sg_error put_variants(struct sg_text *text, const struct master *m,
                                  const struct sound_group *group)
{
    const struct sg_presentation *p = m->p;
    if (p->n_videos > 0)
        return put_pictures(text, m, group);
    if (!m->ts)
        return put_variant(text, m,
                           group ? sound_group_member(p, group, p->default_audio)
                                 : &p->audios[p->default_audio],
                           group);
    for (uint32_t i = 0; i < p->n_files; i++) {
        const struct sg_media_file *f = &p->files[i];
        if (f->index->ts)
            return put_variant(text, m, &(struct sg_offer){f, sg_media_index_main(f->index)}, NULL);
    }
    return SG_OK;
}

static bool all_independent(const struct master *m)
{
    for (uint32_t i = 0; i < m->p->n_videos; i++)
        if (offered(m, &m->p->videos[i]) && !m->p->videos[i].file->index->independent)
            return false;
    return true;
}

enum sg_error sg_playlist_master(const struct sg_presentation *p, bool ts, struct sg_buf **out)
{
    if (ts ? !p->ts : !p->fmp4)
        return SG_ERR_UNSUPPORTED_MEDIA;
    struct master m = {.p = p, .ts = ts};
    enum sg_error err = SG_OK;
    if (!ts && p->n_audios > (p->n_videos ? 0U : 1U))
        err = sound_groups_of(p, &m.sounds);
    if (err)
        return err;
    struct sg_text text = {0};
    sg_text_printf(&text, "#EXTM3U\n#EXT-X-VERSION:%d\n%s", ts ? VERSION_TS : VERSION_FMP4,
                   independent_tag(all_independent(&m)));
    sound_groups_put(&text, p, &m.sounds);
    sg_subtitle_put_hls(&text, p);
    if (m.sounds.n == 0)
        err = put_variants(&text, &m, NULL);
    for (uint32_t i = 0; i < m.sounds.n && !err; i++)
        err = put_variants(&text, &m, &m.sounds.group[i]);
    if (!err && !ts)
        err = playlist_put_iframes(&text, p);
    if (err) {
        sg_text_free(&text);
        return err;
    }
    return finish(&text, out);
}

static void put_rows(struct sg_text *text, const struct rows *rows, bool ts)
{
    for (uint32_t i = 0; i < rows->n; i++) {
        int64_t us = rows->row[i].end_us - rows->row[i].start_us;
        sg_text_printf(text, "#EXTINF:%" PRId64 ".%06u,\nseg-%u.%s\n", us / 1000000,
                       (unsigned)(us % 1000000), i, ts ? "ts" : "m4s");
    }
}

/* 4.3.5.2: of what has no end yet players show the newest, where a film is to begin at its start. A
 * millisecond, as shaka-player takes 0 for nothing said. */
#define START "#EXT-X-START:TIME-OFFSET=0.001\n"

/* What a media playlist says besides its rows. */
struct form {
    bool ts, event, ended;
    uint64_t target_s; /* at least */
};

static enum sg_error put_media(const struct sg_media_index *index, const struct sg_track *track,
                               const struct form *form, struct sg_buf **out)
{
    struct rows rows = {0};
    enum sg_error err = track->n_segments ? rows_create(index, track, form->ts, &rows) : SG_OK;
    if (err)
        return err;
    uint64_t target_s = rows.n ? rows_target_s(&rows) : 1;
    struct sg_text text = {0};
    sg_text_printf(&text,
                   "#EXTM3U\n#EXT-X-VERSION:%d\n#EXT-X-TARGETDURATION:%" PRIu64
                   "\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:%s\n%s%s%s",
                   form->ts ? VERSION_TS : VERSION_FMP4,
                   target_s > form->target_s ? target_s : form->target_s,
                   form->event ? "EVENT" : "VOD", independent_tag(independent(index, track)),
                   form->event ? START : "", form->ts ? "" : "#EXT-X-MAP:URI=\"init.mp4\"\n");
    put_rows(&text, &rows, form->ts);
    if (form->ended)
        sg_text_puts(&text, "#EXT-X-ENDLIST\n");
    rows_destroy(&rows);
    return finish(&text, out);
}

static bool in_form(const struct sg_media_index *index, const struct sg_track *track, bool ts)
{
    return ts ? index->ts && track == sg_media_index_main(index) : index->fmp4;
}

enum sg_error sg_playlist_media(const struct sg_media_index *index, const struct sg_track *track,
                                bool ts, struct sg_buf **out)
{
    if (!in_form(index, track, ts))
        return SG_ERR_UNSUPPORTED_MEDIA;
    return put_media(index, track, &(struct form){.ts = ts, .ended = true}, out);
}

/* ---- one of several (6.2.4) ---- */

static enum sg_error longest_of_base(const struct sg_media_index *index, bool ts, uint64_t *longest)
{
    for (uint32_t i = 0; i < index->n_tracks; i++) {
        struct rows rows = {0};
        if (!in_form(index, &index->tracks[i], ts))
            continue;
        enum sg_error err = rows_create(index, &index->tracks[i], ts, &rows);
        if (err)
            return err;
        if (rows_target_s(&rows) > *longest)
            *longest = rows_target_s(&rows);
        rows_destroy(&rows);
    }
    return SG_OK;
}

/* The target must neither change while a playlist grows (6.2.1) nor when renditions come and go, as
 * playlists are kept for ever. So it is what the base, which never changes, demands; without one it
 * is what the longest segment made here can be where pictures come steadily: cuts fall on the first
 * key frame after segment_ms. A picture that is shown for longer makes a segment that is longer,
 * and put_media the target with it: then it does change, since no live playlist knows of a gap
 * before it is there, and a target that is too small is the greater fault. */
static enum sg_error target_of(const struct sg_presentation *p, bool ts,
                               const struct sg_playlist_growth *growth, struct form *form)
{
    bool based = false;
    for (uint32_t i = 0; i < p->n_files; i++) {
        if (p->files[i].role != SG_FILE_BASE)
            continue;
        based = true;
        enum sg_error err = longest_of_base(p->files[i].index, ts, &form->target_s);
        if (err)
            return err;
    }
    if (!based)
        form->target_s = ((uint64_t)growth->segment_ms + growth->keyframe_ms + 999) / 1000;
    form->event = !based && !ts;
    return SG_OK;
}

enum sg_error sg_playlist_offer(const struct sg_presentation *p, const struct sg_offer *offer,
                                bool ts, const struct sg_playlist_growth *growth,
                                struct sg_buf **out)
{
    struct form form = {.ts = ts, .ended = !p->live};
    if (!in_form(offer->file->index, offer->track, ts))
        return SG_ERR_UNSUPPORTED_MEDIA;
    enum sg_error err = target_of(p, ts, growth, &form);
    return err ? err : put_media(offer->file->index, offer->track, &form, out);
}
