/* Storyboards: small pictures of a film at even intervals, on sheets, and the WebVTT file that says which is where. Pure functions of the index. */
#ifndef STREAMGATE_MEDIA_STORYBOARD_H
#define STREAMGATE_MEDIA_STORYBOARD_H

#include "streamgate/base/buf.h"
#include "streamgate/media/index.h"

#define SG_STORYBOARD_SIDE 10 /* tiles a row, and rows a sheet */
#define SG_STORYBOARD_SHEET (SG_STORYBOARD_SIDE * SG_STORYBOARD_SIDE)
#define SG_STORYBOARD_TILE_MAX 640 /* pixels, either side */

struct sg_storyboard {
    uint64_t interval_ms;                /* tile i is for [i, i + 1) intervals, and the last ends with the film */
    uint32_t tiles, sheets;              /* > 0; a sheet is as many tiles wide as it needs, and as high */
    uint32_t tile_width, tile_height;    /* pixels, even; in the display's proportions */
};

/* UNSUPPORTED_MEDIA without a video track. */
enum sg_error sg_storyboard_layout(const struct sg_media_index *index, struct sg_storyboard *out) SG_NODISCARD;
/* How many tiles sheet `number` (below `sheets`) holds. */
uint32_t sg_storyboard_on_sheet(const struct sg_storyboard *board, uint32_t number);
/* Below /stream/{id}/: storyboard.vtt -> storyboard-{n}.jpg#xywh=..., n from 0. UNSUPPORTED_MEDIA, NO_MEMORY. */
enum sg_error sg_storyboard_vtt(const struct sg_media_index *index, struct sg_buf **out) SG_NODISCARD;

#endif
