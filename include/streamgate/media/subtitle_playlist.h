/* Subtitles for players: the tracks named in HLS and DASH, and the canonical WebVTT (media/webvtt.h) of a track cut into segments for HLS (RFC 8216 3.5). Pure functions; relative URIs only.
 * Times of cues are those of the source. In HLS the renditions' timeline is 10 s later (SG_TIMELINE_OFFSET_S), which X-TIMESTAMP-MAP tells; in DASH the period begins where the source does. */
#ifndef STREAMGATE_MEDIA_SUBTITLE_PLAYLIST_H
#define STREAMGATE_MEDIA_SUBTITLE_PLAYLIST_H

#include <stdbool.h>

#include "streamgate/base/buf.h"
#include "streamgate/base/str.h"
#include "streamgate/media/presentation.h"

/* From where to where the segments reach, on the source's timeline: they begin where the picture does, which is a player's zero. */
struct sg_subtitle_cut { int64_t start_us, end_us; };
struct sg_subtitle_cut sg_subtitle_cut_of(const struct sg_presentation *p);
uint32_t sg_subtitle_segments(const struct sg_subtitle_cut *cut); /* at least one */
/* index.m3u8 -> seg-{n}.vtt */
enum sg_error sg_subtitle_playlist(const struct sg_subtitle_cut *cut, struct sg_buf **out) SG_NODISCARD;
/* The cues that are shown at some time of segment n; whole, also those that cross a cut. MEDIA_WORKER: text is not canonical. */
enum sg_error sg_subtitle_segment(const struct sg_subtitle_cut *cut, uint32_t n, const void *text, size_t len, struct sg_buf **out) SG_NODISCARD;

#define SG_SUBTITLE_GROUP "subs"
/* The EXT-X-MEDIA lines of the group; nothing without tracks. */
void sg_subtitle_put_hls(struct sg_text *text, const struct sg_presentation *p);
/* The AdaptationSets, numbered from first_id. */
void sg_subtitle_put_dash(struct sg_text *text, const struct sg_presentation *p, uint32_t first_id);

#endif
