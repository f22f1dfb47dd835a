/* The DASH manifest (ISO/IEC 23009-1): a pure function of the presentation, over the same fMP4 segments as HLS. Relative URIs only, so the bytes are the same for every viewer. */
#ifndef STREAMGATE_MEDIA_DASH_H
#define STREAMGATE_MEDIA_DASH_H

#include "streamgate/base/buf.h"
#include "streamgate/media/presentation.h"

/* Below /stream/{id}/: manifest.mpd -> {track}/init.mp4 and {track}/seg-{n}.m4s, n from 0. UNSUPPORTED_MEDIA when nothing is offered as fMP4; NO_MEMORY. */
enum sg_error sg_dash_manifest(const struct sg_presentation *p, struct sg_buf **out) SG_NODISCARD;

#endif
