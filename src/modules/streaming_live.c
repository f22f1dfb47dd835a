/* What is still being made, for a source that nobody can play otherwise: its playlists grow, and
 * its segments are read from where the encoder puts them. Once the renditions are whole the same
 * URLs answer from their files, so a player that began early goes on. */
#include <inttypes.h>
#include <string.h>

#include "streamgate/layers/live.h"
#include "streamgate/layers/renditions.h"
#include "streamgate/media/playlist.h"

#include "streaming.h"

bool stream_grows(const struct sg_asset_entry *e)
{
    return e->asset->f.status == SG_ASSET_PROCESSING && e->shows->n_files == 0;
}

struct sg_playlist_growth stream_growth(const struct sg_request *req)
{
    return (struct sg_playlist_growth){.segment_ms = req->svc->media_limits.segment_ms,
                                       .keyframe_ms = SG_KEYFRAME_MS};
}

/* A player reads the master playlist once: sound that it does not name then would never be heard.
 */
static bool all_sounds(const struct sg_asset_entry *e, const struct sg_live_view *v)
{
    uint32_t sounds = 0;
    for (size_t i = 0; i < e->renditions.n; i++)
        sounds += e->renditions.items[i].kind == SG_RENDITION_AUDIO &&
                  e->renditions.items[i].state == SG_RENDITION_WAITING;
    return sg_live_shows(v)->n_audios >= sounds;
}

static enum sg_error open_view(struct sg_request *req, const struct sg_asset_entry *e,
                               struct sg_live_view **out)
{
    *out = sg_live_get(req->svc->live, e->asset->f.id);
    if (*out != NULL && all_sounds(e, *out))
        return SG_OK;
    sg_live_view_unref(*out);
    return sg_request_fail(req, SG_ERR_NOT_FOUND, NULL, "nothing of the asset can be played yet");
}

static enum sg_error find(struct sg_request *req, const struct sg_live_view *v,
                          struct sg_offer *out)
{
    if (sg_presentation_find(sg_live_shows(v), sg_request_param(req, "rendition"), false, out))
        return SG_OK;
    return sg_request_fail(req, SG_ERR_NOT_FOUND, NULL,
                           "the asset has no rendition of this name yet");
}

/* Names of tracks are of one try alone, so they tell those that name them from what others showed.
 */
static const char *first_name(const struct sg_presentation *p)
{
    return p->n_videos > 0 ? p->videos[0].track->name : p->audios[0].track->name;
}

/* Each length of a growing text is a text of its own. */
static uint64_t length_of(const struct sg_presentation *p)
{
    uint64_t segments = 0;
    for (uint32_t i = 0; i < p->n_videos; i++)
        segments += p->videos[i].track->n_segments;
    for (uint32_t i = 0; i < p->n_audios; i++)
        segments += p->audios[i].track->n_segments;
    return segments;
}

enum sg_error stream_live_master(struct sg_request *req, struct sg_response *res,
                                 const struct sg_asset_entry *e)
{
    struct sg_live_view *v = NULL;
    struct sg_buf *buf = NULL;
    struct stream_content c = {.kind = STREAM_GROWING, .type = STREAM_TYPE_M3U8};
    enum sg_error err = open_view(req, e, &v);
    if (err != SG_OK)
        return err;
    stream_make_key(&c, e->asset->f.id, first_name(sg_live_shows(v)), "live-master",
                    length_of(sg_live_shows(v)));
    err = sg_playlist_master(sg_live_shows(v), false, &buf);
    if (err == SG_OK)
        err = stream_answer(req, res, e->asset, &c, buf);
    sg_live_view_unref(v);
    return err;
}

enum sg_error stream_live_playlist(struct sg_request *req, struct sg_response *res,
                                   const struct sg_asset_entry *e)
{
    struct sg_live_view *v = NULL;
    struct sg_buf *buf = NULL;
    struct sg_offer offer;
    struct stream_content c = {.kind = STREAM_GROWING, .type = STREAM_TYPE_M3U8};
    enum sg_error err = open_view(req, e, &v);
    if (err == SG_OK)
        err = find(req, v, &offer);
    if (err == SG_OK) {
        const struct sg_playlist_growth growth = stream_growth(req);
        stream_make_key(&c, offer.file->id, offer.track->name, "live", offer.track->n_segments);
        err = sg_playlist_offer(sg_live_shows(v), &offer, false, &growth, &buf);
    }
    if (err == SG_OK)
        err = stream_answer(req, res, e->asset, &c, buf);
    sg_live_view_unref(v);
    return err;
}

/* From memory, else from the disk, and then it is in memory. */
static enum sg_error answer_piece(struct sg_request *req, struct sg_response *res,
                                  const struct sg_asset_entry *e, const struct sg_live_view *v,
                                  const struct sg_offer *offer)
{
    bool init = sg_request_param(req, "n") == NULL;
    struct stream_content c = {.kind = init ? STREAM_INIT : STREAM_SEGMENT,
                               .type = offer->track->kind == SG_TRACK_VIDEO ? "video/mp4"
                                                                            : "audio/mp4"};
    uint32_t number = SG_LIVE_INIT;
    if (!init && stream_number(req, offer->track->n_segments, &number) != SG_OK)
        return sg_request_fail(req, SG_ERR_NOT_FOUND, NULL,
                               "the rendition has %" PRIu32 " segments so far",
                               offer->track->n_segments);
    stream_make_key(&c, offer->file->id, offer->track->name, init ? "live-init" : "live-m4s",
                    init ? 0 : number);
    struct sg_buf *buf = sg_content_peek(req->svc->content, c.key, c.key_len);
    if (buf == NULL && !req->may_block)
        return SG_ERR_WOULD_BLOCK;
    if (buf == NULL) {
        enum sg_error err = sg_live_read(v, offer, number, &buf);
        if (err != SG_OK)
            return err;
        sg_content_fill(req->svc->content, c.key, c.key_len, SG_OK, buf);
    }
    return stream_answer(req, res, e->asset, &c, buf);
}

enum sg_error stream_live_piece(struct sg_request *req, struct sg_response *res,
                                const struct sg_asset_entry *e)
{
    struct sg_live_view *v = NULL;
    struct sg_offer offer;
    enum sg_error err = open_view(req, e, &v);
    if (err == SG_OK)
        err = find(req, v, &offer);
    if (err == SG_OK)
        err = answer_piece(req, res, e, v, &offer);
    sg_live_view_unref(v);
    return err;
}
