/* HLS playlists (RFC 8216 and draft-pantos-hls-rfc8216bis): pure functions of the index. Relative URIs only, so the bytes are the same for every viewer. */
#ifndef STREAMGATE_MEDIA_PLAYLIST_H
#define STREAMGATE_MEDIA_PLAYLIST_H

#include <stdbool.h>

#include "streamgate/base/buf.h"
#include "streamgate/media/index.h"

/* Below /stream/{id}/. fMP4 form: master.m3u8 -> {track}/index.m3u8 -> init.mp4 and seg-{n}.m4s. TS form: master-ts.m3u8 -> {main track}/index-ts.m3u8 -> seg-{n}.ts, n from 0.
 * UNSUPPORTED_MEDIA when the source cannot be packaged in that form. */
enum sg_error sg_playlist_master(const struct sg_media_index *index, bool ts, struct sg_buf **out) SG_NODISCARD;
enum sg_error sg_playlist_media(const struct sg_media_index *index, const struct sg_track *track, bool ts, struct sg_buf **out) SG_NODISCARD;

#endif
