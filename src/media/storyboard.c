/* See storyboard.h. A film has at most TILES_MAX tiles, so that a viewer loads few sheets whatever
 * its length, and none closer than INTERVAL_MIN_S, as key frames seldom are. */
#include "streamgate/media/storyboard.h"

#include <inttypes.h>

#include "streamgate/base/str.h"

enum { TILES_MAX = 400, INTERVAL_MIN_S = 2, TILE_WIDTH = 160 };

static uint32_t even(uint64_t v)
{
    return v < 2 ? 2 : (uint32_t)(v & ~UINT64_C(1));
}

/* As wide as wanted, never enlarged, less where it would be too high. */
static void tile_size(const struct sg_track *t, struct sg_storyboard *out)
{
    uint64_t w = t->display_width < TILE_WIDTH ? t->display_width : TILE_WIDTH;
    uint64_t h = (w * t->display_height + t->display_width / 2) / t->display_width;
    if (h > SG_STORYBOARD_TILE_MAX) {
        h = SG_STORYBOARD_TILE_MAX;
        w = h * t->display_width / t->display_height;
    }
    out->tile_width = even(w);
    out->tile_height = even(h);
}

enum sg_error sg_storyboard_layout(const struct sg_media_index *index, struct sg_storyboard *out)
{
    const struct sg_track *t = sg_media_index_video(index);
    if (!t)
        return SG_ERR_UNSUPPORTED_MEDIA;
    struct sg_storyboard b = {0};
    uint64_t whole_ms = UINT64_C(1000) * TILES_MAX;
    uint64_t interval_s = (index->duration_ms + whole_ms - 1) / whole_ms;
    b.interval_ms = 1000 * (interval_s > INTERVAL_MIN_S ? interval_s : INTERVAL_MIN_S);
    b.tiles = (uint32_t)((index->duration_ms + b.interval_ms - 1) / b.interval_ms);
    b.sheets = (b.tiles + SG_STORYBOARD_SHEET - 1) / SG_STORYBOARD_SHEET;
    tile_size(t, &b);
    *out = b;
    return SG_OK;
}

uint32_t sg_storyboard_on_sheet(const struct sg_storyboard *board, uint32_t number)
{
    uint32_t left = board->tiles - number * SG_STORYBOARD_SHEET;
    return left < SG_STORYBOARD_SHEET ? left : SG_STORYBOARD_SHEET;
}

static void put_time(struct sg_text *text, uint64_t ms)
{
    sg_text_printf(text, "%02" PRIu64 ":%02u:%02u.%03u", ms / 3600000, (unsigned)(ms / 60000 % 60),
                   (unsigned)(ms / 1000 % 60), (unsigned)(ms % 1000));
}

enum sg_error sg_storyboard_vtt(const struct sg_media_index *index, struct sg_buf **out)
{
    struct sg_storyboard b;
    enum sg_error err = sg_storyboard_layout(index, &b);
    if (err)
        return err;
    struct sg_text text = {0};
    sg_text_puts(&text, "WEBVTT\n");
    for (uint32_t i = 0; i < b.tiles; i++) {
        uint64_t from = i * b.interval_ms, to = from + b.interval_ms;
        uint32_t at = i % SG_STORYBOARD_SHEET;
        sg_text_puts(&text, "\n");
        put_time(&text, from);
        sg_text_puts(&text, " --> ");
        put_time(&text, to < index->duration_ms ? to : index->duration_ms);
        sg_text_printf(&text, "\nstoryboard-%u.jpg#xywh=%u,%u,%u,%u\n", i / SG_STORYBOARD_SHEET,
                       at % SG_STORYBOARD_SIDE * b.tile_width,
                       at / SG_STORYBOARD_SIDE * b.tile_height, b.tile_width, b.tile_height);
    }
    err = text.failed ? SG_ERR_NO_MEMORY : sg_buf_create_take(text.ptr, text.len, out);
    if (err)
        sg_text_free(&text);
    return err;
}
