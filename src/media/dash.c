/* The DASH manifest, ISO/IEC 23009-1 (section numbers below are its): static, profile isoff-live,
 * one adaptation set for the pictures of one codec, one for each track of sound. Segments are
 * listed exactly (SegmentTimeline) and addressed by number, so they are the very files that HLS
 * names. Media times carry the timeline's offset; presentationTimeOffset takes it away again, so
 * that the period begins where the source's presentation does, or as little before as lead_in_us
 * says. A segment may begin before the period (encoder priming): a player cuts off what lies there.
 */
#include "streamgate/media/dash.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/media/subtitle_playlist.h"

#include "manifest_text.h"
#include "rows.h"
#include "timeline.h"

enum {
    REORDER_FRAMES = 17, /* no codec decodes a frame further ahead */
    LEAD_IN_MAX_US = 1000000,
};

static uint32_t divisor(uint32_t a, uint32_t b)
{
    while (b) {
        uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

static int64_t track_end(const struct sg_track *t)
{
    return t->start + (int64_t)t->duration;
}

/* xs:duration */
static void put_duration(struct sg_text *text, const char *name, int64_t us)
{
    sg_text_printf(text, "%s=\"PT%" PRId64 ".%06uS\"", name, us / 1000000,
                   (unsigned)(us % 1000000));
}

/* ---- what the whole says ---- */

/* Frames that an edit list hides are packed just before the first that is shown (fmp4_squeeze). A
 * browser throws away a frame that lies before the period, and with it all that need it, up to the
 * next key frame: so the period begins as much earlier as those frames take, at most. How many they
 * are is estimated: more samples than the first segment has room for at the average rate; or, when
 * decoding begins earlier than any reordering explains, all since then. */
static int64_t lead_in_of(const struct sg_track *t)
{
    const struct sg_segment *first = &t->segments[0];
    double fps = (double)t->fps_num / t->fps_den, scale = t->timescale;
    double hidden = first->samples - round((double)first->duration / scale * fps);
    double decoded = (double)first->seek_dts * t->stream_tb_num / t->stream_tb_den;
    double before = ((double)first->start / scale - decoded) * fps;
    if (before > REORDER_FRAMES && before > hidden)
        hidden = ceil(before);
    if (hidden > first->samples)
        hidden = first->samples;
    if (hidden <= 0)
        return 0;
    /* Twice fmp4_squeeze's step for a constant rate, as the rate may vary. */
    double step = 2 * floor(scale / fps / 1000) + 2;
    double us = ceil(hidden * step / scale * 1e6);
    return us < LEAD_IN_MAX_US ? (int64_t)us : LEAD_IN_MAX_US;
}

/* One period holds all, so all begin as early as one of them must. */
static int64_t lead_in_us(const struct sg_presentation *p)
{
    int64_t most_us = 0;
    for (uint32_t i = 0; i < p->n_videos; i++) {
        int64_t us = p->videos[i].file->index->fmp4 ? lead_in_of(p->videos[i].track) : 0;
        if (us > most_us)
            most_us = us;
    }
    return most_us;
}

/* The nth track that is offered as fMP4; NULL: there are fewer. */
static const struct sg_offer *offer_at(const struct sg_presentation *p, uint32_t n)
{
    for (uint32_t i = 0; i < p->n_videos; i++)
        if (p->videos[i].file->index->fmp4 && n-- == 0)
            return &p->videos[i];
    return n < p->n_audios ? &p->audios[n] : NULL;
}

static int64_t presentation_end_us(const struct sg_presentation *p)
{
    int64_t end_us = 0;
    const struct sg_offer *o;
    for (uint32_t n = 0; (o = offer_at(p, n)); n++) {
        int64_t us = timeline_us(track_end(o->track), o->track->timescale);
        if (us > end_us)
            end_us = us;
    }
    return lead_in_us(p) + (end_us > 0 ? end_us : (int64_t)p->duration_ms * 1000);
}

/* 5.3.5.2: at `rate` bits a second and this long a wait at the beginning of any segment, every
 * segment is there whole when it is due. The longest wait over all runs of segments, by the wait
 * that the segment before left over. */
static int64_t buffer_us(const struct rows *rows, uint64_t rate)
{
    double wait = 0, longest = 0;
    for (uint32_t i = 0; i < rows->n; i++) {
        if (i) {
            wait -= (double)(rows->row[i].start_us - rows->row[i - 1].start_us);
            if (wait < 0)
                wait = 0;
        }
        wait += (double)rows->row[i].bytes * 8e6 / (double)rate;
        if (wait > longest)
            longest = wait;
    }
    return longest < 1e15 ? (int64_t)longest + 1 : INT64_C(1000000000000000);
}

struct measured {
    uint64_t rate; /* @bandwidth */
    int64_t buffer_us;
};

static enum sg_error measure(const struct sg_offer *offer, struct measured *out)
{
    struct rows rows = {0};
    enum sg_error err = rows_create(offer->file->index, offer->track, false, &rows);
    if (err)
        return err;
    out->rate = rows_rates(&rows).peak;
    out->buffer_us = buffer_us(&rows, out->rate);
    rows_destroy(&rows);
    return SG_OK;
}

/* ---- a track ---- */

/* 5.3.9.6: equal neighbours are one S. */
static void put_timeline(struct sg_text *text, const struct sg_track *t, int64_t offset)
{
    sg_text_puts(text, "        <SegmentTimeline>\n");
    for (uint32_t i = 0; i < t->n_segments;) {
        const struct sg_segment *s = &t->segments[i];
        uint32_t n = 1;
        while (i + n < t->n_segments && s[n].duration == s->duration)
            n++;
        sg_text_puts(text, "          <S");
        if (i == 0)
            sg_text_printf(text, " t=\"%" PRId64 "\"", s->start + offset);
        sg_text_printf(text, " d=\"%" PRIu64 "\"", s->duration);
        if (n > 1)
            sg_text_printf(text, " r=\"%u\"", n - 1);
        sg_text_puts(text, "/>\n");
        i += n;
    }
    sg_text_puts(text, "        </SegmentTimeline>\n");
}

/* The picture as it is shown: turned, on the grid that @sar describes. */
static void put_picture(struct sg_text *text, const struct sg_track *t)
{
    bool turned = t->rotation % 180 != 0;
    uint32_t sar_num = turned ? t->sar_den : t->sar_num, sar_den = turned ? t->sar_num : t->sar_den;
    uint32_t sar = divisor(sar_num, sar_den), fps = divisor(t->fps_num, t->fps_den);
    sg_text_printf(text, " width=\"%u\" height=\"%u\" sar=\"%u:%u\" frameRate=\"%u",
                   turned ? t->height : t->width, turned ? t->width : t->height, sar_num / sar,
                   sar_den / sar, t->fps_num / fps);
    if (t->fps_den != fps)
        sg_text_printf(text, "/%u", t->fps_den / fps);
    sg_text_puts(text, "\"");
}

/* The scheme's value is a channel configuration of ISO/IEC 23003-3: the number of channels up to
 * six, 7 for eight; others have no one name. */
static void put_channels(struct sg_text *text, const struct sg_track *t)
{
    if (t->channels > 6 && t->channels != 8)
        return;
    sg_text_printf(text,
                   "        <AudioChannelConfiguration schemeIdUri=\"urn:mpeg:dash:23003:3:"
                   "audio_channel_configuration:2011\" value=\"%u\"/>\n",
                   t->channels == 8 ? 7U : t->channels);
}

/* A manifest being written. */
struct mpd {
    const struct sg_presentation *p;
    struct sg_text sets;
    int64_t wait_us; /* of the slowest track so far */
    bool shared;     /* the set has one template for all of its representations */
    uint32_t n_sets;
};

/* The pictures of a set: videos[first] and those after it that a player may switch to within the
 * set, which are of its codec. Members already in a set before are skipped by the caller. */
static bool same_codec(const struct sg_track *a, const struct sg_track *b)
{
    return a->codec == b->codec && strncmp(a->codecs, b->codecs, 4) == 0;
}

/* Then they are numbered alike, and one timeline does for both. */
static bool same_cuts(const struct sg_track *a, const struct sg_track *b)
{
    if (a->n_segments != b->n_segments || a->timescale != b->timescale ||
        a->duration != b->duration)
        return false;
    for (uint32_t i = 0; i < a->n_segments; i++)
        if (a->segments[i].start != b->segments[i].start)
            return false;
    return true;
}

static bool leads_set(const struct sg_presentation *p, uint32_t video)
{
    for (uint32_t i = 0; i < video; i++)
        if (p->videos[i].file->index->fmp4 &&
            same_codec(p->videos[i].track, p->videos[video].track))
            return false;
    return p->videos[video].file->index->fmp4;
}

static bool belongs(const struct sg_presentation *p, uint32_t lead, uint32_t video)
{
    return p->videos[video].file->index->fmp4 &&
           same_codec(p->videos[lead].track, p->videos[video].track);
}

static void put_set_head(struct mpd *m, const struct sg_track *t, bool aligned, bool closed)
{
    struct sg_text *text = &m->sets;
    const char *kind = t->kind == SG_TRACK_VIDEO ? "video" : "audio";
    sg_text_printf(text, "    <AdaptationSet id=\"%u\" contentType=\"%s\" mimeType=\"%s/mp4\"",
                   m->n_sets++, kind, kind);
    if (strcmp(t->language, "und") != 0)
        manifest_put_attribute(text, "lang", t->language);
    /* 5.3.3.2 and ISO/IEC 14496-12 I.2: an open group of pictures is a point of type 3. */
    sg_text_printf(text, " segmentAlignment=\"%s\" startWithSAP=\"%d\">\n",
                   aligned ? "true" : "false", closed ? 1 : 3);
    if (t->title[0]) {
        sg_text_puts(text, "      <Label>");
        manifest_put_xml(text, t->title);
        sg_text_puts(text, "</Label>\n");
    }
}

static void put_role(struct mpd *m, bool main)
{
    sg_text_printf(&m->sets, "      <Role schemeIdUri=\"urn:mpeg:dash:role:2011\" value=\"%s\"/>\n",
                   main ? "main" : "alternate");
}

static void put_segments(struct mpd *m, const struct sg_track *t)
{
    int64_t offset = (int64_t)SG_TIMELINE_OFFSET_S * t->timescale;
    int64_t lead_in = (lead_in_us(m->p) * t->timescale + 999999) / 1000000;
    sg_text_printf(&m->sets,
                   "      <SegmentTemplate timescale=\"%u\" presentationTimeOffset=\"%" PRId64
                   "\" startNumber=\"0\" initialization=\"$RepresentationID$/init.mp4\" "
                   "media=\"$RepresentationID$/seg-$Number$.m4s\">\n",
                   t->timescale, offset - lead_in);
    put_timeline(&m->sets, t, offset);
    sg_text_puts(&m->sets, "      </SegmentTemplate>\n");
}

static enum sg_error put_representation(struct mpd *m, const struct sg_offer *offer)
{
    const struct sg_track *t = offer->track;
    struct sg_text *text = &m->sets;
    struct measured measured;
    if (t->start + (int64_t)SG_TIMELINE_OFFSET_S * t->timescale < 0)
        return SG_ERR_UNSUPPORTED_MEDIA; /* no such segment can be made either */
    enum sg_error err = measure(offer, &measured);
    if (err)
        return err;
    if (measured.buffer_us > m->wait_us)
        m->wait_us = measured.buffer_us;
    sg_text_puts(text, "      <Representation");
    manifest_put_attribute(text, "id", t->name);
    manifest_put_attribute(text, "codecs", t->codecs);
    sg_text_printf(text, " bandwidth=\"%" PRIu64 "\"",
                   measured.rate < UINT32_MAX ? measured.rate : UINT32_MAX);
    if (t->kind == SG_TRACK_VIDEO) {
        put_picture(text, t);
        sg_text_puts(text, m->shared ? "/>\n" : ">\n");
        if (m->shared)
            return SG_OK;
    } else {
        sg_text_printf(text, " audioSamplingRate=\"%u\">\n", t->sample_rate);
        put_channels(text, t);
    }
    if (!m->shared)
        put_segments(m, t);
    sg_text_puts(text, "      </Representation>\n");
    return SG_OK;
}

static enum sg_error put_videos(struct mpd *m, uint32_t lead)
{
    const struct sg_presentation *p = m->p;
    bool aligned = true, closed = true;
    for (uint32_t i = lead; i < p->n_videos; i++) {
        if (!belongs(p, lead, i))
            continue;
        aligned = aligned && same_cuts(p->videos[lead].track, p->videos[i].track);
        closed = closed && p->videos[i].file->index->independent;
    }
    put_set_head(m, p->videos[lead].track, aligned, closed);
    put_role(m, lead == 0);
    m->shared = aligned;
    if (aligned)
        put_segments(m, p->videos[lead].track);
    enum sg_error err = SG_OK;
    for (uint32_t i = lead; i < p->n_videos && !err; i++)
        if (belongs(p, lead, i))
            err = put_representation(m, &p->videos[i]);
    sg_text_puts(&m->sets, "    </AdaptationSet>\n");
    return err;
}

static enum sg_error put_audio(struct mpd *m, uint32_t i)
{
    put_set_head(m, m->p->audios[i].track, true, true);
    put_role(m, i == m->p->default_audio);
    m->shared = true;
    put_segments(m, m->p->audios[i].track);
    enum sg_error err = put_representation(m, &m->p->audios[i]);
    sg_text_puts(&m->sets, "    </AdaptationSet>\n");
    return err;
}

static void put_mpd_head(struct sg_text *text, const struct mpd *m)
{
    int64_t longest_us = 0;
    const struct sg_offer *o;
    for (uint32_t i = 0; (o = offer_at(m->p, i)); i++) {
        for (uint32_t k = 0; k < o->track->n_segments; k++) {
            int64_t us = timeline_us((int64_t)o->track->segments[k].duration, o->track->timescale);
            if (us > longest_us)
                longest_us = us;
        }
    }
    sg_text_puts(text, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                       "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" "
                       "profiles=\"urn:mpeg:dash:profile:isoff-live:2011\" type=\"static\" ");
    put_duration(text, "mediaPresentationDuration", presentation_end_us(m->p));
    put_duration(text, " maxSegmentDuration", longest_us);
    put_duration(text, " minBufferTime", m->wait_us);
    sg_text_puts(text, ">\n  <Period id=\"0\" start=\"PT0S\">\n");
}

/* The sets first: they tell how long the wait at the beginning is, which the head says. */
static enum sg_error put_mpd(struct sg_text *text, struct mpd *m)
{
    enum sg_error err = SG_OK;
    for (uint32_t i = 0; i < m->p->n_videos && !err; i++)
        if (leads_set(m->p, i))
            err = put_videos(m, i);
    for (uint32_t i = 0; i < m->p->n_audios && !err; i++)
        err = put_audio(m, i);
    if (err)
        return err;
    sg_subtitle_put_dash(&m->sets, m->p, m->n_sets);
    put_mpd_head(text, m);
    sg_text_append(text, m->sets.ptr, m->sets.len);
    sg_text_puts(text, "  </Period>\n</MPD>\n");
    return m->sets.failed || text->failed ? SG_ERR_NO_MEMORY : SG_OK;
}

enum sg_error sg_dash_manifest(const struct sg_presentation *p, struct sg_buf **out)
{
    if (!p->fmp4)
        return SG_ERR_UNSUPPORTED_MEDIA;
    struct sg_text text = {0};
    struct mpd m = {.p = p};
    enum sg_error err = put_mpd(&text, &m);
    if (!err)
        err = sg_buf_create_take(text.ptr, text.len, out);
    sg_text_free(&m.sets);
    if (err)
        sg_text_free(&text);
    return err;
}
