/* Key frames for seeking at speed: their playlists, and each of them as a fragment of its own. */
#include <inttypes.h>

#include "streamgate/http/asset_view.h"
#include "streamgate/media/playlist.h"

#include "streaming.h"

static enum sg_error make_inside(const struct sg_asset_entry *e, const struct stream_text *text,
                                 struct sg_buf **out)
{
    (void)e;
    return sg_playlist_iframes(text->offer.file->index, text->offer.track, false, out);
}

static enum sg_error make_outside(const struct sg_asset_entry *e, const struct stream_text *text,
                                  struct sg_buf **out)
{
    (void)e;
    return sg_playlist_iframes(text->offer.file->index, text->offer.track, true, out);
}

/* Sound has no key frames, and of what was indexed long ago they are not known. */
static enum sg_error check_offer(struct sg_request *req, const struct sg_offer *offer)
{
    if (offer->track->kind == SG_TRACK_VIDEO && offer->file->index->iframes)
        return SG_OK;
    return sg_request_fail(req, SG_ERR_NOT_FOUND, NULL, "the rendition has no key frames on offer");
}

enum sg_error stream_get_iframes(struct sg_request *req, struct sg_response *res)
{
    struct sg_asset_entry *e;
    enum sg_error err = stream_open_asset(req, &e);
    if (err != SG_OK)
        return err;
    struct stream_content c = {.kind = STREAM_PLAYLIST, .type = STREAM_TYPE_M3U8};
    struct stream_text text = {.make = make_inside};
    err = stream_find(req, e, false, &text.offer);
    if (err == SG_OK)
        err = check_offer(req, &text.offer);
    if (err == SG_OK) {
        stream_make_key(&c, text.offer.file->id, text.offer.track->name, "iframes", 0);
        err = stream_answer_text(req, res, e, &c, &text);
    }
    sg_asset_entry_unref(e);
    return err;
}

/* Of the picture that is offered first; which that is may change. */
enum sg_error stream_get_main_iframes(struct sg_request *req, struct sg_response *res)
{
    struct sg_asset_entry *e;
    enum sg_error err = stream_open_asset(req, &e);
    if (err != SG_OK)
        return err;
    struct stream_content c = {.kind = STREAM_MASTER, .type = STREAM_TYPE_M3U8};
    struct stream_text text = {.make = make_outside};
    stream_make_key(&c, e->asset->f.id, "master", "iframes", e->shows->tag);
    if (e->shows->n_videos == 0)
        err = sg_request_fail(req, SG_ERR_NOT_FOUND, NULL, "the asset has no picture");
    if (err == SG_OK) {
        text.offer = e->shows->videos[0];
        err = check_offer(req, &text.offer);
    }
    if (err == SG_OK)
        err = stream_answer_text(req, res, e, &c, &text);
    sg_asset_entry_unref(e);
    return err;
}

enum sg_error stream_get_iframe(struct sg_request *req, struct sg_response *res)
{
    struct sg_asset_entry *e;
    enum sg_error err = stream_open_asset(req, &e);
    if (err != SG_OK)
        return err;
    struct stream_content c = {.kind = STREAM_SEGMENT, .type = "video/mp4"};
    struct sg_render render = {.kind = SG_RENDER_IFRAME};
    struct sg_offer offer;
    err = stream_find(req, e, false, &offer);
    if (err == SG_OK)
        err = check_offer(req, &offer);
    if (err == SG_OK && (stream_number(req, offer.track->n_segments, &render.number) != SG_OK ||
                         offer.track->segments[render.number].key_bytes == 0))
        err = sg_request_fail(req, SG_ERR_NOT_FOUND, NULL,
                              "the rendition has no such key frame; it has %" PRIu32 " segments",
                              offer.track->n_segments);
    if (err == SG_OK) {
        render.key = offer.file->id;
        render.index = offer.file->index;
        render.track = offer.track;
        stream_make_key(&c, offer.file->id, offer.track->name, "iframe", render.number);
        err = stream_answer_built(req, res, e, &c, &render);
    }
    sg_asset_entry_unref(e);
    return err;
}
