/* HLS playlists (RFC 8216 and draft-pantos-hls-rfc8216bis): pure functions of the index. Relative URIs only, so the bytes are the same for every viewer. */
#ifndef STREAMGATE_MEDIA_PLAYLIST_H
#define STREAMGATE_MEDIA_PLAYLIST_H

#include <stdbool.h>

#include "streamgate/base/buf.h"
#include "streamgate/media/presentation.h"

/* Below /stream/{id}/. fMP4 form: master.m3u8 -> {track}/index.m3u8 -> init.mp4 and seg-{n}.m4s. TS form: master-ts.m3u8 -> {main track}/index-ts.m3u8 -> seg-{n}.ts, n from 0.
 * UNSUPPORTED_MEDIA when nothing is offered in that form. */
enum sg_error sg_playlist_master(const struct sg_presentation *p, bool ts, struct sg_buf **out) SG_NODISCARD;
enum sg_error sg_playlist_media(const struct sg_media_index *index, const struct sg_track *track, bool ts, struct sg_buf **out) SG_NODISCARD;
/* The key frames of a video track alone: below {track}/, iframes.m3u8 -> init.mp4 and iframe-{n}.m4s, n as in seg-{n}.m4s; outside: the same from beside the folder. UNSUPPORTED_MEDIA when they are not offered. */
enum sg_error sg_playlist_iframes(const struct sg_media_index *index, const struct sg_track *track, bool outside, struct sg_buf **out) SG_NODISCARD;
/* The same of one offer among all the others, which have the same target duration (6.2.4). Of an asset whose source is not offered itself, what is made for it may be played while it is made: then, and ever
 * after, the fMP4 form is an EVENT playlist (4.3.3.5), to which lines are only ever appended, the last being its end. The track may have no segment yet. growth: how long segments made here can be. */
struct sg_playlist_growth { uint32_t segment_ms, keyframe_ms; };
enum sg_error sg_playlist_offer(const struct sg_presentation *p, const struct sg_offer *offer, bool ts, const struct sg_playlist_growth *growth, struct sg_buf **out) SG_NODISCARD;

#endif
