/* What a master playlist says of the playlists of key frames. */
#ifndef STREAMGATE_MEDIA_PLAYLIST_IFRAMES_H
#define STREAMGATE_MEDIA_PLAYLIST_IFRAMES_H

#include "streamgate/base/str.h"
#include "streamgate/media/presentation.h"

/* RFC 8216 4.3.4.3: a line for each picture whose key frames are offered. NO_MEMORY. */
enum sg_error playlist_put_iframes(struct sg_text *text,
                                   const struct sg_presentation *p) SG_NODISCARD;

#endif
