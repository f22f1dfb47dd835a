/* See subtitle_playlist.h. The segments of subtitles are a minute long whatever those of the
 * picture are: of renditions in one master playlist only these may have a target duration of their
 * own (RFC 8216 6.2.4), and a text of an hour then takes 60 requests, not 600. */
#include "streamgate/media/subtitle_playlist.h"

#include <inttypes.h>
#include <string.h>

#include "streamgate/media/webvtt.h"

#include "manifest_text.h"
#include "timeline.h"

enum { SEGMENT_S = 60, MPEGTS_HZ = 90000 };

static const int64_t SEGMENT_US = INT64_C(1000000) * SEGMENT_S;

static struct sg_subtitle_cut track_cut(const struct sg_track *t)
{
    return (struct sg_subtitle_cut){
        timeline_us(t->start, t->timescale),
        timeline_us(t->start + (int64_t)t->duration, t->timescale),
    };
}

struct sg_subtitle_cut sg_subtitle_cut_of(const struct sg_presentation *p)
{
    struct sg_subtitle_cut cut = {0};
    bool any = false;
    for (uint32_t i = 0; i < p->n_videos + p->n_audios; i++) {
        const struct sg_offer *o = i < p->n_videos ? &p->videos[i] : &p->audios[i - p->n_videos];
        struct sg_subtitle_cut one = track_cut(o->track);
        if (!any)
            cut = one;
        any = true;
        if (one.end_us > cut.end_us)
            cut.end_us = one.end_us;
    }
    if (!any)
        cut.end_us = (int64_t)p->duration_ms * 1000;
    return cut;
}

uint32_t sg_subtitle_segments(const struct sg_subtitle_cut *cut)
{
    int64_t n = (cut->end_us - cut->start_us + SEGMENT_US - 1) / SEGMENT_US;
    return n < 1 ? 1 : n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static enum sg_error finish(struct sg_text *text, struct sg_buf **out)
{
    enum sg_error err =
        text->failed ? SG_ERR_NO_MEMORY : sg_buf_create_take(text->ptr, text->len, out);
    if (err)
        sg_text_free(text);
    return err;
}

enum sg_error sg_subtitle_playlist(const struct sg_subtitle_cut *cut, struct sg_buf **out)
{
    struct sg_text text = {0};
    uint32_t n = sg_subtitle_segments(cut);
    int64_t whole_us = cut->end_us - cut->start_us;
    if (whole_us < 1)
        whole_us = 1;
    int64_t target_s = n > 1 ? SEGMENT_S : (whole_us + 999999) / 1000000;
    sg_text_printf(&text,
                   "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:%" PRId64
                   "\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n",
                   target_s);
    for (uint32_t i = 0; i < n && !text.failed; i++) {
        int64_t us = i + 1 < n ? SEGMENT_US : whole_us - (int64_t)i * SEGMENT_US;
        sg_text_printf(&text, "#EXTINF:%" PRId64 ".%06u,\nseg-%u.vtt\n", us / 1000000,
                       (unsigned)(us % 1000000), i);
    }
    sg_text_puts(&text, "#EXT-X-ENDLIST\n");
    return finish(&text, out);
}

enum sg_error sg_subtitle_segment(const struct sg_subtitle_cut *cut, uint32_t n, const void *text,
                                  size_t len, struct sg_buf **out)
{
    int64_t from_us = n ? cut->start_us + (int64_t)n * SEGMENT_US : INT64_MIN;
    int64_t to_us = n + 1 < sg_subtitle_segments(cut)
                        ? cut->start_us + ((int64_t)n + 1) * SEGMENT_US
                        : INT64_MAX;
    struct sg_webvtt_reader r;
    struct sg_webvtt_cue cue;
    struct sg_text segment = {0};
    enum sg_error err = sg_webvtt_open(&r, text, len);
    sg_text_printf(&segment, "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:%d,LOCAL:00:00:00.000\n",
                   SG_TIMELINE_OFFSET_S * MPEGTS_HZ);
    while (!err && !(err = sg_webvtt_next(&r, &cue))) {
        if ((int64_t)cue.start_ms * 1000 >= to_us)
            break; /* and so do all that follow */
        if ((int64_t)cue.end_ms * 1000 > from_us) {
            sg_text_puts(&segment, "\n");
            sg_text_append(&segment, cue.ptr, cue.len);
        }
    }
    if (err && err != SG_ERR_NOT_FOUND) {
        sg_text_free(&segment);
        return err;
    }
    return finish(&segment, out);
}

/* ---- how the tracks are named ---- */

/* NAMEs are unique within a group (RFC 8216 4.3.4.1.1), as languages are; labels need not be. */
static const char *name_of(const struct sg_presentation *p, uint32_t i)
{
    const struct sg_text_offer *t = &p->texts[i];
    for (uint32_t k = 0; k < p->n_texts; k++)
        if (k != i && (strcmp(t->label, p->texts[k].label) == 0 ||
                       strcmp(t->label, p->texts[k].language) == 0))
            return t->language;
    return t->label[0] ? t->label : t->language;
}

void sg_subtitle_put_hls(struct sg_text *text, const struct sg_presentation *p)
{
    for (uint32_t i = 0; i < p->n_texts; i++) {
        const struct sg_text_offer *t = &p->texts[i];
        sg_text_puts(text, "#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID=\"" SG_SUBTITLE_GROUP "\",NAME=");
        manifest_put_quoted(text, name_of(p, i));
        if (strcmp(t->language, "und") != 0) {
            sg_text_puts(text, ",LANGUAGE=");
            manifest_put_quoted(text, t->language);
        }
        sg_text_printf(text, ",DEFAULT=%s,AUTOSELECT=YES,FORCED=%s", t->is_default ? "YES" : "NO",
                       t->forced ? "YES" : "NO");
        if (t->captions)
            sg_text_puts(text, ",CHARACTERISTICS=\"public.accessibility.transcribes-spoken-dialog,"
                               "public.accessibility.describes-music-and-sound\"");
        sg_text_printf(text, ",URI=\"subs/%s/index.m3u8\"\n", t->language);
    }
}

static uint64_t rate_of(const struct sg_text_offer *t, const struct sg_presentation *p)
{
    uint64_t rate = p->duration_ms ? t->bytes * 8000 / p->duration_ms : 0;
    return rate < 1 ? 1 : rate < UINT32_MAX ? rate : UINT32_MAX;
}

void sg_subtitle_put_dash(struct sg_text *text, const struct sg_presentation *p, uint32_t first_id)
{
    for (uint32_t i = 0; i < p->n_texts; i++) {
        const struct sg_text_offer *t = &p->texts[i];
        const char *role = t->captions ? "caption" : t->forced ? "forced-subtitle" : "subtitle";
        sg_text_printf(text,
                       "    <AdaptationSet id=\"%u\" contentType=\"text\" mimeType=\"text/vtt\"",
                       first_id + i);
        if (strcmp(t->language, "und") != 0)
            manifest_put_attribute(text, "lang", t->language);
        sg_text_puts(text, ">\n      <Label>");
        manifest_put_xml(text, name_of(p, i));
        sg_text_printf(text,
                       "</Label>\n      <Role schemeIdUri=\"urn:mpeg:dash:role:2011\" "
                       "value=\"%s\"/>\n      <Role schemeIdUri=\"urn:mpeg:dash:role:2011\" "
                       "value=\"%s\"/>\n",
                       t->is_default ? "main" : "alternate", role);
        sg_text_printf(text,
                       "      <Representation id=\"subs-%s\" bandwidth=\"%" PRIu64
                       "\">\n        <BaseURL>subs/%s.vtt</BaseURL>\n      </Representation>\n"
                       "    </AdaptationSet>\n",
                       t->language, rate_of(t, p), t->language);
    }
}
