/* Pictures of a film: a poster from any time, and the storyboard that players show on the seek bar.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "streamgate/http/asset_view.h"
#include "streamgate/media/storyboard.h"
#include "streamgate/modules/modules.h"

#include "streaming.h"

static enum sg_error poster_params(struct sg_request *req, const struct sg_asset_entry *e,
                                   struct sg_render *render)
{
    const char *t;
    enum sg_error err = sg_request_query(req, "t", &t);
    if (err != SG_OK)
        return err;
    uint64_t duration_ms = e->index->duration_ms;
    render->time_ms = SG_POSTER_ANY;
    if (t != NULL && sg_str_decimal_to_ms(t, strlen(t), UINT32_MAX, &render->time_ms) != SG_OK)
        return sg_request_fail(req, SG_ERR_INVALID, "t",
                               "must be seconds, such as 12 or 12.5, of at most 4294967");
    /* Whoever asks for a film's length, rounded up, means its end. */
    if (t != NULL && render->time_ms > duration_ms)
        render->time_ms = duration_ms;
    uint64_t width;
    err = sg_request_query_u64(req, "w", 16, 7680, 0, &width);
    render->width = (uint32_t)width;
    return err;
}

void stream_poster_key(struct stream_content *c, const char *id, const struct sg_render *render)
{
    char form[32];
    bool any = render->time_ms == SG_POSTER_ANY;
    snprintf(form, sizeof form, "%s-%" PRIu32, any ? "any" : "jpg", render->width);
    stream_make_key(c, id, "poster", form, any ? 0 : render->time_ms);
}

enum sg_error stream_get_poster(struct sg_request *req, struct sg_response *res)
{
    struct sg_asset_entry *e;
    enum sg_error err = stream_open_asset(req, &e);
    if (err != SG_OK)
        return err;
    struct stream_content c = {.kind = STREAM_POSTER, .type = "image/jpeg"};
    struct sg_render render = {.kind = SG_RENDER_POSTER};
    err = poster_params(req, e, &render);
    if (err == SG_OK && sg_media_index_video(e->index) == NULL)
        err = sg_request_fail(req, SG_ERR_NOT_FOUND, NULL, "the asset has no picture");
    if (err == SG_OK) {
        render.track = sg_media_index_video(e->index);
        stream_poster_key(&c, e->asset->f.id, &render);
        err = stream_answer_built(req, res, e, &c, &render);
    }
    sg_asset_entry_unref(e);
    return err;
}

/* ---- the storyboard ---- */

static enum sg_error make_vtt(const struct sg_asset_entry *e, const struct stream_text *text,
                              struct sg_buf **out)
{
    (void)text;
    return sg_storyboard_vtt(e->index, out);
}

static enum sg_error layout(struct sg_request *req, const struct sg_asset_entry *e,
                            struct sg_storyboard *out)
{
    enum sg_error err = sg_storyboard_layout(e->index, out);
    if (err == SG_ERR_UNSUPPORTED_MEDIA)
        return sg_request_fail(req, SG_ERR_NOT_FOUND, NULL, "the asset has no picture");
    return err;
}

enum sg_error stream_get_storyboard(struct sg_request *req, struct sg_response *res)
{
    struct sg_asset_entry *e;
    enum sg_error err = stream_open_asset(req, &e);
    if (err != SG_OK)
        return err;
    struct sg_storyboard board;
    struct stream_content c = {.kind = STREAM_STORYBOARD, .type = "text/vtt"};
    stream_make_key(&c, e->asset->f.id, "storyboard", "vtt", 0);
    err = layout(req, e, &board);
    if (err == SG_OK)
        err = stream_answer_text(req, res, e, &c, &(struct stream_text){.make = make_vtt});
    sg_asset_entry_unref(e);
    return err;
}

enum sg_error stream_get_sheet(struct sg_request *req, struct sg_response *res)
{
    struct sg_asset_entry *e;
    enum sg_error err = stream_open_asset(req, &e);
    if (err != SG_OK)
        return err;
    struct sg_storyboard board;
    struct stream_content c = {.kind = STREAM_STORYBOARD, .type = "image/jpeg"};
    struct sg_render render = {.kind = SG_RENDER_STORYBOARD};
    err = layout(req, e, &board);
    if (err == SG_OK && stream_number(req, board.sheets, &render.number) != SG_OK)
        err = sg_request_fail(req, SG_ERR_NOT_FOUND, NULL, "the storyboard has %" PRIu32 " sheets",
                              board.sheets);
    if (err == SG_OK) {
        stream_make_key(&c, e->asset->f.id, "storyboard", "jpg", render.number);
        err = stream_answer_built(req, res, e, &c, &render);
    }
    sg_asset_entry_unref(e);
    return err;
}
