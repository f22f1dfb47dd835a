/* Playback: playlists, segments, pictures and the original, each a pure function of an immutable
 * source, kept in memory and computed once however many ask.
 *
 * Every resource of an asset passes stream_open_asset, which is the gate: it fails closed, and
 * playlists hold relative URIs only, so a token in the path gates all below it. */
#include "streaming.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"
#include "streamgate/http/asset_view.h"
#include "streamgate/media/dash.h"
#include "streamgate/media/playlist.h"
#include "streamgate/modules/modules.h"

#define TYPE_VTT "text/vtt"
#define TYPE_MPD "application/dash+xml"

static uint32_t kind_requests[STREAM_KINDS], kind_builds[STREAM_KINDS];
static uint32_t token_ok, token_bad;

static enum sg_error streaming_init(struct sg_services *svc)
{
    static const char *const labels[STREAM_KINDS] = {
        [STREAM_MASTER] = "kind=\"master\"",   [STREAM_PLAYLIST] = "kind=\"playlist\"",
        [STREAM_INIT] = "kind=\"init\"",       [STREAM_SEGMENT] = "kind=\"segment\"",
        [STREAM_POSTER] = "kind=\"poster\"",   [STREAM_STORYBOARD] = "kind=\"storyboard\"",
        [STREAM_SOURCE] = "kind=\"source\"",   [STREAM_DOWNLOAD] = "kind=\"download\"",
        [STREAM_GROWING] = "kind=\"growing\"", [STREAM_SUBTITLES] = "kind=\"subtitles\"",
    };
    enum sg_error err = SG_OK;
    for (int k = 0; k < STREAM_KINDS && err == SG_OK; k++) {
        err = sg_metric_define(SG_METRIC_STREAM_REQUESTS, labels[k], &kind_requests[k]);
        if (err == SG_OK)
            err = sg_metric_define(SG_METRIC_STREAM_BUILDS, labels[k], &kind_builds[k]);
    }
    if (err == SG_OK)
        err = sg_metric_define(SG_METRIC_AUTH_SUCCESS, "method=\"playback_token\"", &token_ok);
    if (err == SG_OK)
        err = sg_metric_define(SG_METRIC_AUTH_FAILED, "method=\"playback_token\"", &token_bad);
    if (err == SG_OK)
        err = stream_thumbnails_register(svc);
    return err;
}

/* ---- the gate ---- */

static enum sg_error deny(struct sg_request *req, const char *asset_id, enum sg_error err)
{
    sg_metric_add(SG_METRIC_AUTH_FAILED, token_bad, 1);
    sg_audit_note(req->svc->audit,
                  &(struct sg_audit_event){
                      .event_type = "authorization",
                      .actor = "anonymous",
                      .action = "playback",
                      .resource = sg_arena_printf(req->arena, "asset/%s", asset_id),
                      .result = "denied",
                      .request_id = req->id,
                  });
    if (err == SG_ERR_FORBIDDEN)
        return sg_request_fail(req, err, "token", "is not for this asset or this address");
    return sg_request_fail(req, SG_ERR_UNAUTHENTICATED, "token",
                           "a valid playback token is needed: /stream/{id}/~{token}/...");
}

static enum sg_error check_gate(struct sg_request *req, const struct sg_asset *asset)
{
    if (asset->f.policy == SG_POLICY_PUBLIC)
        return SG_OK;
    if (asset->f.policy != SG_POLICY_SIGNED || req->playback_token == NULL)
        return deny(req, asset->f.id, SG_ERR_UNAUTHENTICATED);
    enum sg_error err = sg_playback_token_check(req->svc->signer, req->playback_token,
                                                req->playback_token_len, asset->f.id, &req->client);
    if (err != SG_OK)
        return deny(req, asset->f.id, err);
    sg_metric_add(SG_METRIC_AUTH_SUCCESS, token_ok, 1);
    return SG_OK;
}

enum sg_error stream_open_asset(struct sg_request *req, struct sg_asset_entry **out)
{
    struct sg_asset_entry *e = NULL;
    enum sg_error err = sg_asset_load(req, sg_request_param(req, "id"), &e);
    if (err != SG_OK)
        return err;
    err = check_gate(req, e->asset);
    bool playable =
        e->asset->f.status == SG_ASSET_READY || e->asset->f.status == SG_ASSET_PROCESSING;
    if (err == SG_OK && (!playable || e->index == NULL))
        err = sg_request_fail(req, SG_ERR_NOT_FOUND, NULL, "the asset is not ready to play");
    if (err != SG_OK) {
        sg_asset_entry_unref(e);
        return err;
    }
    *out = e;
    return SG_OK;
}

/* ---- answering ---- */

void stream_count(enum stream_kind kind)
{
    sg_metric_add(SG_METRIC_STREAM_REQUESTS, kind_requests[kind], 1);
}

/* Numbers are formatted by hand: this runs for every segment. */
void stream_make_key(struct stream_content *c, const char *id, const char *track, const char *form,
                     uint64_t number)
{
    char digits[20];
    size_t n = 0, len = SG_ULID_SIZE - 1;
    memcpy(c->key, id, len);
    c->key[len++] = '/';
    const char *const words[] = {track, "/", form, "/"};
    for (size_t i = 0; i < SG_ARRAY_LEN(words); i++) {
        size_t w = strlen(words[i]);
        memcpy(c->key + len, words[i], w);
        len += w;
    }
    do {
        digits[n++] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    while (n > 0)
        c->key[len++] = digits[--n];
    c->key[len] = '\0';
    c->key_len = len;
}

/* A strong validator: the source's hash and the key name these bytes for ever. */
const char *stream_etag(struct sg_request *req, const struct sg_asset *asset,
                        const struct stream_content *c)
{
    size_t tail = c->key_len - SG_ULID_SIZE; /* after "{id}/" */
    char *etag = sg_arena_alloc(req->arena, 1 + 16 + 1 + tail + 2);
    if (etag == NULL)
        return NULL;
    etag[0] = '"';
    sg_hex_encode(asset->f.sha256, 8, etag + 1);
    etag[17] = '-';
    memcpy(etag + 18, c->key + SG_ULID_SIZE, tail);
    for (size_t i = 18; i < 18 + tail; i++)
        if (etag[i] == '/')
            etag[i] = '.';
    etag[18 + tail] = '"';
    etag[19 + tail] = '\0';
    return etag;
}

/* Takes the reference to buf. */
enum sg_error stream_answer(struct sg_request *req, struct sg_response *res,
                            const struct sg_asset *asset, const struct stream_content *c,
                            struct sg_buf *buf)
{
    sg_response_buf(res, 200, c->type, buf);
    res->etag = stream_etag(req, asset, c);
    bool is_public = asset->f.policy == SG_POLICY_PUBLIC;
    if (c->kind == STREAM_GROWING)
        res->cache_control = "no-cache";
    else if (c->kind != STREAM_MASTER && c->kind != STREAM_SUBTITLES)
        res->cache_control = is_public ? "public, max-age=31536000, immutable"
                                       : "private, max-age=31536000, immutable";
    else if (!is_public) /* the row's own says public */
        res->cache_control = "private, max-age=2";
    res->ranges = c->kind == STREAM_SEGMENT || c->kind == STREAM_INIT;
    stream_count(c->kind);
    return res->etag != NULL ? SG_OK : SG_ERR_NO_MEMORY;
}

/* ---- texts ---- */

enum sg_error stream_answer_text(struct sg_request *req, struct sg_response *res,
                                 struct sg_asset_entry *e, const struct stream_content *c,
                                 const struct stream_text *text)
{
    struct sg_buf *buf = sg_content_peek(req->svc->content, c->key, c->key_len);
    if (buf == NULL) {
        enum sg_error err = text->make(e, text, &buf);
        if (err != SG_OK)
            return err;
        sg_metric_add(SG_METRIC_STREAM_BUILDS, kind_builds[c->kind], 1);
        sg_content_fill(req->svc->content, c->key, c->key_len, SG_OK, buf);
    }
    return stream_answer(req, res, e->asset, c, buf);
}

static enum sg_error make_playlist(const struct sg_asset_entry *e, const struct stream_text *text,
                                   struct sg_buf **out)
{
    return text->offer.track != NULL
               ? sg_playlist_offer(e->shows, &text->offer, text->ts, &text->growth, out)
               : sg_playlist_master(e->shows, text->ts, out);
}

static enum sg_error media_playlist(struct sg_request *req, struct sg_response *res,
                                    struct sg_asset_entry *e, const struct stream_text *text)
{
    struct stream_content c = {.kind = STREAM_PLAYLIST, .type = STREAM_TYPE_M3U8};
    stream_make_key(&c, text->offer.file->id, text->offer.track->name,
                    text->ts ? "m3u8-ts" : "m3u8", 0);
    return stream_answer_text(req, res, e, &c, text);
}

static enum sg_error make_manifest(const struct sg_asset_entry *e, const struct stream_text *text,
                                   struct sg_buf **out)
{
    (void)text;
    return sg_dash_manifest(e->shows, out);
}

/* Not every source can be packaged in both forms: the probe decides. */
static enum sg_error check_form(struct sg_request *req, const struct sg_asset_entry *e, bool ts)
{
    if (ts ? e->shows->ts : e->shows->fmp4)
        return SG_OK;
    return sg_request_fail(req, SG_ERR_NOT_FOUND, NULL,
                           e->asset->f.status == SG_ASSET_PROCESSING
                               ? "the %s form is not there yet"
                               : "the %s form is not offered for this source",
                           ts ? "MPEG-TS" : "fragmented MP4");
}

/* What is made of all that an asset offers carries the tag of it: more offers, another text. */
static enum sg_error get_master_in(struct sg_request *req, struct sg_response *res, bool ts)
{
    struct sg_asset_entry *e;
    enum sg_error err = stream_open_asset(req, &e);
    if (err != SG_OK)
        return err;
    struct stream_content c = {.kind = STREAM_MASTER, .type = STREAM_TYPE_M3U8};
    stream_make_key(&c, e->asset->f.id, "master", ts ? "m3u8-ts" : "m3u8", e->shows->tag);
    bool grows = !ts && stream_grows(e);
    err = grows ? stream_live_master(req, res, e) : check_form(req, e, ts);
    if (err == SG_OK && !grows)
        err = stream_answer_text(req, res, e, &c,
                                 &(struct stream_text){.make = make_playlist, .ts = ts});
    sg_asset_entry_unref(e);
    return err;
}

static enum sg_error get_master(struct sg_request *req, struct sg_response *res)
{
    return get_master_in(req, res, false);
}

static enum sg_error get_master_ts(struct sg_request *req, struct sg_response *res)
{
    return get_master_in(req, res, true);
}

static enum sg_error get_dash(struct sg_request *req, struct sg_response *res)
{
    struct sg_asset_entry *e;
    enum sg_error err = stream_open_asset(req, &e);
    if (err != SG_OK)
        return err;
    struct stream_content c = {.kind = STREAM_MASTER, .type = TYPE_MPD};
    stream_make_key(&c, e->asset->f.id, "manifest", "mpd", e->shows->tag);
    err = check_form(req, e, false);
    if (err == SG_OK)
        err = stream_answer_text(req, res, e, &c, &(struct stream_text){.make = make_manifest});
    sg_asset_entry_unref(e);
    return err;
}

enum sg_error stream_find(struct sg_request *req, const struct sg_asset_entry *e, bool ts,
                          struct sg_offer *out)
{
    enum sg_error err = check_form(req, e, ts);
    if (err != SG_OK)
        return err;
    if (!sg_presentation_find(e->shows, sg_request_param(req, "rendition"), ts, out))
        return sg_request_fail(req, SG_ERR_NOT_FOUND, NULL,
                               "the asset has no rendition of this name and form");
    return SG_OK;
}

static enum sg_error get_playlist_in(struct sg_request *req, struct sg_response *res, bool ts)
{
    struct sg_asset_entry *e;
    enum sg_error err = stream_open_asset(req, &e);
    if (err != SG_OK)
        return err;
    struct stream_text text = {.make = make_playlist, .ts = ts, .growth = stream_growth(req)};
    bool grows = !ts && stream_grows(e);
    err = grows ? stream_live_playlist(req, res, e) : stream_find(req, e, ts, &text.offer);
    if (err == SG_OK && !grows)
        err = media_playlist(req, res, e, &text);
    sg_asset_entry_unref(e);
    return err;
}

static enum sg_error get_playlist(struct sg_request *req, struct sg_response *res)
{
    return get_playlist_in(req, res, false);
}

static enum sg_error get_playlist_ts(struct sg_request *req, struct sg_response *res)
{
    return get_playlist_in(req, res, true);
}

/* ---- built content: computed in a media process, once ---- */

struct build {
    struct sg_services *svc;
    struct stream_content content;
    struct sg_asset_entry *entry;
    uint64_t started_ns;
};

static void build_done(void *arg, enum sg_error err, struct sg_buf *body, const char *why)
{
    struct build *b = arg;
    sg_metric_observe_ns(SG_METRIC_STREAM_BUILD_LATENCY, 0, sg_clock_mono_ns() - b->started_ns);
    if (err != SG_OK)
        sg_warn_log("streaming", "%s could not be built: %s: %s", b->content.key,
                    sg_error_slug(err), why != NULL ? why : "");
    sg_content_fill(b->svc->content, b->content.key, b->content.key_len, err, body);
    sg_asset_entry_unref(b->entry);
    free(b);
}

static enum sg_error start_build(struct sg_request *req, struct sg_asset_entry *e,
                                 const struct stream_content *c, struct sg_render *render)
{
    int fd = -1;
    if (render->key == NULL) {
        render->key = e->asset->f.id;
        render->index = e->index;
    }
    enum sg_error err = sg_blob_open(req->svc->blobs, render->key, &fd);
    if (err != SG_OK)
        return err;
    struct build *b = malloc(sizeof *b);
    if (b == NULL) {
        close(fd);
        return SG_ERR_NO_MEMORY;
    }
    *b = (struct build){.svc = req->svc,
                        .content = *c,
                        .entry = sg_asset_entry_ref(e),
                        .started_ns = sg_clock_mono_ns()};
    render->fd = fd;
    render->limits = &req->svc->media_limits;
    render->done = build_done;
    render->arg = b;
    sg_metric_add(SG_METRIC_STREAM_BUILDS, kind_builds[c->kind], 1);
    err = sg_media_render(req->svc->media, render);
    if (err != SG_OK) {
        sg_asset_entry_unref(b->entry);
        free(b);
    }
    close(fd);
    return err;
}

enum sg_error stream_answer_built(struct sg_request *req, struct sg_response *res,
                                  struct sg_asset_entry *e, const struct stream_content *c,
                                  struct sg_render *render)
{
    if (req->woken) {
        if (req->wake_err != SG_OK)
            return req->wake_err;
        struct sg_buf *buf = req->wake_buf;
        req->wake_buf = NULL;
        return stream_answer(req, res, e->asset, c, buf);
    }
    struct sg_buf *buf = NULL;
    if (!req->may_block) {
        buf = sg_content_peek(req->svc->content, c->key, c->key_len);
        return buf != NULL ? stream_answer(req, res, e->asset, c, buf) : SG_ERR_WOULD_BLOCK;
    }
    req->waiter = (struct sg_waiter){.wake = sg_request_wake, .arg = req};
    switch (sg_content_get(req->svc->content, c->key, c->key_len, &req->waiter, &buf)) {
    case SG_CONTENT_HIT:
        return stream_answer(req, res, e->asset, c, buf);
    case SG_CONTENT_WAIT:
        return SG_ERR_PENDING;
    case SG_CONTENT_LEAD: {
        enum sg_error err = start_build(req, e, c, render);
        if (err != SG_OK) /* wakes this request too, with the error */
            sg_content_fill(req->svc->content, c->key, c->key_len, err, NULL);
        return SG_ERR_PENDING;
    }
    case SG_CONTENT_FULL:
        break;
    }
    return SG_ERR_NO_MEMORY;
}

/* What a media process makes of one offer. */
static void render_offer(struct sg_render *render, const struct sg_offer *offer)
{
    render->key = offer->file->id;
    render->index = offer->file->index;
    render->track = offer->track;
}

static enum sg_error get_init(struct sg_request *req, struct sg_response *res)
{
    struct sg_asset_entry *e;
    enum sg_error err = stream_open_asset(req, &e);
    if (err != SG_OK)
        return err;
    struct stream_content c = {.kind = STREAM_INIT};
    struct sg_render render = {.kind = SG_RENDER_INIT};
    struct sg_offer offer;
    bool grows = stream_grows(e);
    err = grows ? stream_live_piece(req, res, e) : stream_find(req, e, false, &offer);
    if (err == SG_OK && !grows) {
        render_offer(&render, &offer);
        c.type = render.track->kind == SG_TRACK_VIDEO ? "video/mp4" : "audio/mp4";
        stream_make_key(&c, offer.file->id, render.track->name, "init", 0);
        err = stream_answer_built(req, res, e, &c, &render);
    }
    sg_asset_entry_unref(e);
    return err;
}

enum sg_error stream_number(struct sg_request *req, uint32_t count, uint32_t *out)
{
    const char *n = sg_request_param(req, "n");
    uint64_t number;
    if (sg_str_to_u64(n, strlen(n), UINT32_MAX, &number) != SG_OK || number >= count ||
        (n[0] == '0' && n[1] != '\0'))
        return SG_ERR_NOT_FOUND;
    *out = (uint32_t)number;
    return SG_OK;
}

static enum sg_error get_segment_in(struct sg_request *req, struct sg_response *res, bool ts)
{
    struct sg_asset_entry *e;
    enum sg_error err = stream_open_asset(req, &e);
    if (err != SG_OK)
        return err;
    struct stream_content c = {.kind = STREAM_SEGMENT};
    struct sg_render render = {.kind = ts ? SG_RENDER_SEGMENT_TS : SG_RENDER_SEGMENT_FMP4};
    struct sg_offer offer;
    bool grows = !ts && stream_grows(e);
    err = grows ? stream_live_piece(req, res, e) : stream_find(req, e, ts, &offer);
    if (err != SG_OK || grows)
        goto out;
    render_offer(&render, &offer);
    uint32_t count = ts ? sg_media_index_ts_segments(render.index) : render.track->n_segments;
    if (stream_number(req, count, &render.number) != SG_OK) {
        err = sg_request_fail(req, SG_ERR_NOT_FOUND, NULL, "the rendition has %" PRIu32 " segments",
                              count);
        goto out;
    }
    c.type = ts ? "video/mp2t" : render.track->kind == SG_TRACK_VIDEO ? "video/mp4" : "audio/mp4";
    stream_make_key(&c, offer.file->id, render.track->name, ts ? "ts" : "m4s", render.number);
    err = stream_answer_built(req, res, e, &c, &render);
out:
    sg_asset_entry_unref(e);
    return err;
}

static enum sg_error get_segment(struct sg_request *req, struct sg_response *res)
{
    return get_segment_in(req, res, false);
}

static enum sg_error get_segment_ts(struct sg_request *req, struct sg_response *res)
{
    return get_segment_in(req, res, true);
}

static const struct sg_param_doc poster_query[] = {
    {"t", "number",
     "Where, in seconds, past the end as at the end; when absent a telling picture is chosen"},
    {"w", "integer", "Width in pixels, 16 to 7680; never enlarged"},
};

#define PLAYBACK                                                                                   \
    .method = SG_GET, .role = SG_ROLE_NONE, .limit = SG_LIMIT_STREAMING, .cache = SG_CACHE_SHORT

static const struct sg_route routes[] = {
    {PLAYBACK, .path = "/stream/{id}/master.m3u8", .handle = get_master,
     .summary = "HLS master playlist, fragmented MP4", .response_type = STREAM_TYPE_M3U8},
    {PLAYBACK, .path = "/stream/{id}/master-ts.m3u8", .handle = get_master_ts,
     .summary = "HLS master playlist, MPEG-TS", .response_type = STREAM_TYPE_M3U8},
    {PLAYBACK, .path = "/stream/{id}/manifest.mpd", .handle = get_dash, .summary = "DASH manifest",
     .response_type = TYPE_MPD},
    {PLAYBACK, .path = "/stream/{id}/{rendition}/index.m3u8", .handle = get_playlist,
     .summary = "HLS media playlist, fragmented MP4", .response_type = STREAM_TYPE_M3U8},
    {PLAYBACK, .path = "/stream/{id}/{rendition}/index-ts.m3u8", .handle = get_playlist_ts,
     .summary = "HLS media playlist, MPEG-TS", .response_type = STREAM_TYPE_M3U8},
    {PLAYBACK, .path = "/stream/{id}/{rendition}/init.mp4", .handle = get_init,
     .summary = "Initialisation segment", .response_type = "video/mp4"},
    {PLAYBACK, .path = "/stream/{id}/{rendition}/seg-{n}.m4s", .handle = get_segment,
     .summary = "Segment, fragmented MP4", .response_type = "video/mp4"},
    {PLAYBACK, .path = "/stream/{id}/{rendition}/seg-{n}.ts", .handle = get_segment_ts,
     .summary = "Segment, MPEG-TS", .response_type = "video/mp2t"},
    {PLAYBACK, .path = "/stream/{id}/iframes.m3u8", .handle = stream_get_main_iframes,
     .summary = "HLS playlist of the key frames of the picture", .response_type = STREAM_TYPE_M3U8},
    {PLAYBACK, .path = "/stream/{id}/{rendition}/iframes.m3u8", .handle = stream_get_iframes,
     .summary = "HLS playlist of the key frames", .response_type = STREAM_TYPE_M3U8},
    {PLAYBACK, .path = "/stream/{id}/{rendition}/iframe-{n}.m4s", .handle = stream_get_iframe,
     .summary = "Key frame, fragmented MP4", .response_type = "video/mp4"},
    {PLAYBACK, .path = "/stream/{id}/poster.jpg", .handle = stream_get_poster,
     .summary = "A picture from the film", .response_type = "image/jpeg", .query = poster_query,
     .n_query = SG_ARRAY_LEN(poster_query)},
    {PLAYBACK, .path = "/stream/{id}/storyboard.vtt", .handle = stream_get_storyboard,
     .summary = "Which small picture to show for which time", .response_type = TYPE_VTT},
    {PLAYBACK, .path = "/stream/{id}/storyboard-{n}.jpg", .handle = stream_get_sheet,
     .summary = "Small pictures of the storyboard, a hundred a sheet",
     .response_type = "image/jpeg"},
    {PLAYBACK, .path = "/stream/{id}/subs/{lang}.vtt", .handle = stream_get_subtitles,
     .summary = "Subtitles of one language", .response_type = TYPE_VTT},
    {PLAYBACK, .path = "/stream/{id}/subs/{lang}/index.m3u8", .handle = stream_get_subtitle_list,
     .summary = "HLS playlist of subtitles", .response_type = STREAM_TYPE_M3U8},
    {PLAYBACK, .path = "/stream/{id}/subs/{lang}/seg-{n}.vtt",
     .handle = stream_get_subtitle_segment, .summary = "Segment of subtitles",
     .response_type = TYPE_VTT},
    {PLAYBACK, .path = "/stream/{id}/source", .handle = stream_get_source,
     .summary = "The file as it was uploaded", .response_type = "application/octet-stream"},
    {PLAYBACK, .path = "/stream/{id}/{rendition}/download.mp4", .handle = stream_get_download,
     .summary = "A rendition as one MP4 file", .response_type = "video/mp4"},
};

const struct sg_module sg_streaming_module = {.name = "streaming",
                                              .routes = routes,
                                              .n_routes = SG_ARRAY_LEN(routes),
                                              .init = streaming_init};
