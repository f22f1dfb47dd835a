/* Playlists of key frames alone (RFC 8216 4.3.3.6), for seeking at speed: an entry for each segment
 * that begins with a key frame, which is shown until the next one is. The first is shown from the
 * beginning, as players take all playlists to begin together. */
#include "playlist_iframes.h"

#include <inttypes.h>
#include <stdlib.h>

#include "streamgate/media/playlist.h"

#include "fmp4.h"
#include "rows.h"
#include "timeline.h"

enum { VERSION = 7 };

static bool has_key(const struct sg_track *t, uint32_t segment)
{
    return t->segments[segment].key_bytes > 0;
}

static int64_t start_us(const struct sg_track *t, uint32_t segment)
{
    return segment < t->n_segments ? timeline_us(t->segments[segment].start, t->timescale)
                                   : timeline_us(t->start + (int64_t)t->duration, t->timescale);
}

/* A row for each entry. UNSUPPORTED_MEDIA: there is none. */
static enum sg_error key_rows(const struct sg_media_index *index, const struct sg_track *t,
                              struct rows *out)
{
    if (!index->fmp4 || !index->iframes || t->kind != SG_TRACK_VIDEO)
        return SG_ERR_UNSUPPORTED_MEDIA;
    struct rows rows = {.row = calloc(t->n_segments, sizeof(*rows.row))};
    if (!rows.row)
        return SG_ERR_NO_MEMORY;
    for (uint32_t i = 0; i < t->n_segments; i++) {
        if (!has_key(t, i))
            continue;
        if (rows.n)
            rows.row[rows.n - 1].end_us = start_us(t, i);
        rows.row[rows.n] = (struct row){
            .start_us = rows.n ? start_us(t, i) : timeline_us(t->start, t->timescale),
            .end_us = start_us(t, t->n_segments),
            .bytes = fmp4_overhead(true, 1) + t->segments[i].key_bytes,
        };
        rows.n++;
    }
    *out = rows;
    return SG_OK;
}

enum sg_error playlist_put_iframes(struct sg_text *text, const struct sg_presentation *p)
{
    for (uint32_t i = 0; i < p->n_videos; i++) {
        const struct sg_track *t = p->videos[i].track;
        struct rows rows = {0};
        enum sg_error err = key_rows(p->videos[i].file->index, t, &rows);
        if (err == SG_ERR_UNSUPPORTED_MEDIA)
            continue;
        if (err)
            return err;
        struct rates rates = rows_rates(&rows);
        rows_destroy(&rows);
        sg_text_printf(text,
                       "#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=%" PRIu64 ",AVERAGE-BANDWIDTH=%" PRIu64
                       ",CODECS=\"%s\",RESOLUTION=%ux%u,URI=\"%s/iframes.m3u8\"\n",
                       rates.peak, rates.average, t->codecs, t->display_width, t->display_height,
                       t->name);
    }
    return SG_OK;
}

enum sg_error sg_playlist_iframes(const struct sg_media_index *index, const struct sg_track *track,
                                  bool outside, struct sg_buf **out)
{
    struct rows rows = {0};
    enum sg_error err = key_rows(index, track, &rows);
    if (err)
        return err;
    const char *folder = outside ? track->name : "", *slash = outside ? "/" : "";
    struct sg_text text = {0};
    sg_text_printf(&text,
                   "#EXTM3U\n#EXT-X-VERSION:%d\n#EXT-X-TARGETDURATION:%" PRIu64
                   "\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-I-FRAMES-ONLY\n"
                   "#EXT-X-MAP:URI=\"%s%sinit.mp4\"\n",
                   VERSION, rows_target_s(&rows), folder, slash);
    uint32_t entry = 0;
    for (uint32_t i = 0; i < track->n_segments; i++) {
        if (!has_key(track, i))
            continue;
        int64_t us = rows.row[entry].end_us - rows.row[entry].start_us;
        entry++;
        sg_text_printf(&text, "#EXTINF:%" PRId64 ".%06u,\n%s%siframe-%u.m4s\n", us / 1000000,
                       (unsigned)(us % 1000000), folder, slash, i);
    }
    sg_text_puts(&text, "#EXT-X-ENDLIST\n");
    rows_destroy(&rows);
    err = text.failed ? SG_ERR_NO_MEMORY : sg_buf_create_take(text.ptr, text.len, out);
    if (err)
        sg_text_free(&text);
    return err;
}
