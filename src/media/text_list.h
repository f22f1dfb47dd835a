/* How the list of a film's tracks of text crosses from the media process. Layout, little-endian:
 * u32 count, then for each track u32 stream, language and title (u8 length + text), u8 forced, u8
 * captions; nothing may follow. */
#ifndef STREAMGATE_MEDIA_TEXT_LIST_H
#define STREAMGATE_MEDIA_TEXT_LIST_H

#include "streamgate/media/subtitles.h"

enum { TEXT_LIST_MAX = 4 + SG_SUBTITLE_TRACKS_MAX * (4 + 1 + 12 + 1 + 64 + 2) };

enum sg_error text_list_encode(const struct sg_subtitle_tracks *list, uint8_t out[TEXT_LIST_MAX],
                               size_t *out_len) SG_NODISCARD;
/* MEDIA_WORKER */
enum sg_error text_list_decode(const void *bytes, size_t len,
                               struct sg_subtitle_tracks *out) SG_NODISCARD;

#endif
