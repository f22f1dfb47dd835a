/* The DASH manifest, ISO/IEC 23009-1 (section numbers below are its): static, profile isoff-live,
 * one adaptation set a track. Segments are listed exactly (SegmentTimeline) and addressed by
 * number, so they are the very files that HLS names. Media times carry the timeline's offset;
 * presentationTimeOffset takes it away again, so that the period begins where the source's
 * presentation does, or as little before as lead_in_us says. A segment may begin before the period
 * (encoder priming): a player cuts off what lies there. */
#include "streamgate/media/dash.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "streamgate/base/str.h"

#include "rows.h"
#include "timeline.h"

enum {
    REORDER_FRAMES = 17, /* no codec decodes a frame further ahead */
    LEAD_IN_MAX_US = 1000000,
};

/* Text of an attribute or an element: what means something to XML escaped, and the two characters
 * of UTF-8 that XML 1.0 does not take left out (control characters the index refuses). */
static void put_xml(struct sg_text *text, const char *s)
{
    for (; *s; s++) {
        if (strncmp(s, "\xef\xbf\xbe", 3) == 0 || strncmp(s, "\xef\xbf\xbf", 3) == 0) {
            s += 2;
            continue;
        }
        switch (*s) {
        case '&':
            sg_text_puts(text, "&amp;");
            break;
        case '<':
            sg_text_puts(text, "&lt;");
            break;
        case '>':
            sg_text_puts(text, "&gt;");
            break;
        case '"':
            sg_text_puts(text, "&quot;");
            break;
        case '\'':
            sg_text_puts(text, "&apos;");
            break;
        default:
            sg_text_append(text, s, 1);
        }
    }
}

static void put_attribute(struct sg_text *text, const char *name, const char *value)
{
    sg_text_printf(text, " %s=\"", name);
    put_xml(text, value);
    sg_text_puts(text, "\"");
}

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
static int64_t lead_in_us(const struct sg_media_index *index)
{
    const struct sg_track *t = sg_media_index_video(index);
    if (!t)
        return 0;
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

static int64_t presentation_end_us(const struct sg_media_index *index)
{
    int64_t end_us = 0;
    for (uint32_t i = 0; i < index->n_tracks; i++) {
        int64_t us = timeline_us(track_end(&index->tracks[i]), index->tracks[i].timescale);
        if (us > end_us)
            end_us = us;
    }
    return lead_in_us(index) + (end_us > 0 ? end_us : (int64_t)index->duration_ms * 1000);
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

static enum sg_error measure(const struct sg_media_index *index, const struct sg_track *track,
                             struct measured *out)
{
    struct rows rows = {0};
    enum sg_error err = rows_create(index, track, false, &rows);
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

static void put_set_head(struct sg_text *text, const struct sg_media_index *index, uint32_t number)
{
    const struct sg_track *t = &index->tracks[number];
    bool video = t->kind == SG_TRACK_VIDEO;
    const char *kind = video ? "video" : "audio";
    sg_text_printf(text, "    <AdaptationSet id=\"%u\" contentType=\"%s\" mimeType=\"%s/mp4\"",
                   number, kind, kind);
    if (strcmp(t->language, "und") != 0)
        put_attribute(text, "lang", t->language);
    /* 5.3.3.2 and ISO/IEC 14496-12 I.2: an open group of pictures is a point of type 3. */
    sg_text_printf(text, " segmentAlignment=\"true\" startWithSAP=\"%d\">\n",
                   video && !index->independent ? 3 : 1);
    if (t->title[0]) {
        sg_text_puts(text, "      <Label>");
        put_xml(text, t->title);
        sg_text_puts(text, "</Label>\n");
    }
    sg_text_printf(text, "      <Role schemeIdUri=\"urn:mpeg:dash:role:2011\" value=\"%s\"/>\n",
                   video || t->is_default ? "main" : "alternate");
}

static enum sg_error put_set(struct sg_text *text, const struct sg_media_index *index,
                             uint32_t number, uint64_t rate)
{
    const struct sg_track *t = &index->tracks[number];
    int64_t offset = (int64_t)SG_TIMELINE_OFFSET_S * t->timescale;
    int64_t lead_in = (lead_in_us(index) * t->timescale + 999999) / 1000000;
    if (t->start + offset < 0)
        return SG_ERR_UNSUPPORTED_MEDIA; /* no such segment can be made either */
    put_set_head(text, index, number);
    sg_text_printf(text,
                   "      <SegmentTemplate timescale=\"%u\" presentationTimeOffset=\"%" PRId64
                   "\" startNumber=\"0\" initialization=\"$RepresentationID$/init.mp4\" "
                   "media=\"$RepresentationID$/seg-$Number$.m4s\">\n",
                   t->timescale, offset - lead_in);
    put_timeline(text, t, offset);
    sg_text_puts(text, "      </SegmentTemplate>\n      <Representation");
    put_attribute(text, "id", t->name);
    put_attribute(text, "codecs", t->codecs);
    sg_text_printf(text, " bandwidth=\"%" PRIu64 "\"", rate < UINT32_MAX ? rate : UINT32_MAX);
    if (t->kind == SG_TRACK_VIDEO) {
        put_picture(text, t);
        sg_text_puts(text, "/>\n");
    } else {
        sg_text_printf(text, " audioSamplingRate=\"%u\">\n", t->sample_rate);
        put_channels(text, t);
        sg_text_puts(text, "      </Representation>\n");
    }
    sg_text_puts(text, "    </AdaptationSet>\n");
    return SG_OK;
}

static void put_mpd_head(struct sg_text *text, const struct sg_media_index *index, int64_t wait_us)
{
    int64_t longest_us = 0;
    for (uint32_t i = 0; i < index->n_tracks; i++) {
        const struct sg_track *t = &index->tracks[i];
        for (uint32_t k = 0; k < t->n_segments; k++) {
            int64_t us = timeline_us((int64_t)t->segments[k].duration, t->timescale);
            if (us > longest_us)
                longest_us = us;
        }
    }
    sg_text_puts(text, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                       "<MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\" "
                       "profiles=\"urn:mpeg:dash:profile:isoff-live:2011\" type=\"static\" ");
    put_duration(text, "mediaPresentationDuration", presentation_end_us(index));
    put_duration(text, " maxSegmentDuration", longest_us);
    put_duration(text, " minBufferTime", wait_us);
    sg_text_puts(text, ">\n  <Period id=\"0\" start=\"PT0S\">\n");
}

/* The sets first: they tell how long the wait at the beginning is, which the head says. */
static enum sg_error put_mpd(struct sg_text *text, struct sg_text *sets,
                             const struct sg_media_index *index)
{
    int64_t wait_us = 0;
    for (uint32_t i = 0; i < index->n_tracks; i++) {
        struct measured m;
        enum sg_error err = measure(index, &index->tracks[i], &m);
        if (!err)
            err = put_set(sets, index, i, m.rate);
        if (err)
            return err;
        if (m.buffer_us > wait_us)
            wait_us = m.buffer_us;
    }
    put_mpd_head(text, index, wait_us);
    sg_text_append(text, sets->ptr, sets->len);
    sg_text_puts(text, "  </Period>\n</MPD>\n");
    return sets->failed || text->failed ? SG_ERR_NO_MEMORY : SG_OK;
}

enum sg_error sg_dash_manifest(const struct sg_media_index *index, struct sg_buf **out)
{
    if (!index->fmp4)
        return SG_ERR_UNSUPPORTED_MEDIA;
    struct sg_text text = {0}, sets = {0};
    enum sg_error err = put_mpd(&text, &sets, index);
    if (!err)
        err = sg_buf_create_take(text.ptr, text.len, out);
    sg_text_free(&sets);
    if (err)
        sg_text_free(&text);
    return err;
}
