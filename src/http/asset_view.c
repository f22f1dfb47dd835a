/* Assets as JSON, and who may see one. */
#include "streamgate/http/asset_view.h"

#include <stdio.h>
#include <string.h>

#include "streamgate/base/json.h"
#include "streamgate/base/str.h"

enum sg_error sg_asset_load_owned(struct sg_request *req, bool read_public,
                                  struct sg_asset_entry **out)
{
    struct sg_asset_entry *e = NULL;
    enum sg_error err = sg_asset_load(req, sg_request_param(req, "id"), &e);
    if (err != SG_OK)
        return err;
    bool allowed = req->identity.role == SG_ROLE_ADMIN ||
                   strcmp(req->identity.user_id, e->asset->f.owner) == 0 ||
                   (read_public && e->asset->f.policy == SG_POLICY_PUBLIC);
    if (!allowed) {
        sg_audit_note(req->svc->audit,
                      &(struct sg_audit_event){
                          .event_type = "authorization",
                          .actor = req->identity.user_id,
                          .action = "asset.access",
                          .resource = sg_arena_printf(req->arena, "asset/%s", e->asset->f.id),
                          .result = "denied",
                          .request_id = req->id,
                      });
        sg_asset_entry_unref(e);
        return sg_request_fail(req, SG_ERR_FORBIDDEN, NULL, "the asset belongs to someone else");
    }
    *out = e;
    return SG_OK;
}

void sg_asset_etag(const struct sg_asset *asset, char out[SG_ETAG_SIZE])
{
    snprintf(out, SG_ETAG_SIZE, "\"v%llu\"", (unsigned long long)asset->f.version);
}

static int set_url(json_t *obj, const char *key, const char *base, const char *rest)
{
    return rest == NULL ? json_object_set_new(obj, key, json_null())
                        : json_object_set_new(obj, key, json_sprintf("%s%s", base, rest));
}

json_t *sg_playback_json(struct sg_request *req, const struct sg_asset_entry *e, const char *token)
{
    const struct sg_media_index *ix = e->index;
    const struct sg_presentation *shows = e->shows;
    const char *origin = sg_request_base_url(req);
    if (origin == NULL)
        return NULL;
    /* While the first rendition is made it can be played already. */
    bool coming = e->asset->f.status == SG_ASSET_PROCESSING && ix != NULL;
    bool ready = (e->asset->f.status == SG_ASSET_READY || coming) && ix != NULL;
    const char *base =
        sg_arena_printf(req->arena, "%s/stream/%s/%s%s%s", origin, e->asset->f.id,
                        token[0] != '\0' ? "~" : "", token, token[0] != '\0' ? "/" : "");
    json_t *obj = json_object();
    if (base == NULL || obj == NULL) {
        json_decref(obj);
        return NULL;
    }
    int bad = set_url(obj, "hls", base, ready && (shows->fmp4 || coming) ? "master.m3u8" : NULL);
    bad |= set_url(obj, "hls_ts", base, ready && shows->ts ? "master-ts.m3u8" : NULL);
    bad |= set_url(obj, "dash", base, ready && shows->fmp4 ? "manifest.mpd" : NULL);
    bad |= set_url(obj, "poster", base,
                   ready && sg_media_index_video(ix) != NULL ? "poster.jpg" : NULL);
    bad |= set_url(obj, "storyboard", base,
                   ready && sg_media_index_video(ix) != NULL ? "storyboard.vtt" : NULL);
    bad |= set_url(obj, "source", base, ready ? "source" : NULL);
    if (bad != 0) {
        json_decref(obj);
        return NULL;
    }
    return obj;
}

static json_t *track_json(const struct sg_track *t)
{
    double seconds = t->timescale != 0 ? (double)t->duration / t->timescale : 0;
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:f, s:I}", "name", t->name,
                          "status", "ready", "kind", t->kind == SG_TRACK_VIDEO ? "video" : "audio",
                          "codec", t->codec_name, "codecs", t->codecs, "language", t->language,
                          "segments", (json_int_t)t->n_segments, "duration", seconds, "bitrate",
                          (json_int_t)(seconds > 0 ? (double)t->bytes * 8 / seconds : 0));
    if (o == NULL)
        return NULL;
    int bad = 0;
    if (t->kind == SG_TRACK_VIDEO) {
        bad |= json_object_set_new(o, "width", json_integer(t->display_width));
        bad |= json_object_set_new(o, "height", json_integer(t->display_height));
    } else {
        bad |= json_object_set_new(o, "sample_rate", json_integer(t->sample_rate));
        bad |= json_object_set_new(o, "channels", json_integer(t->channels));
    }
    if (bad != 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}

/* One that is not ready: what is known of it, and which job makes it. */
static json_t *rendition_json(const struct sg_rendition *r)
{
    json_t *o =
        json_pack("{s:s, s:s, s:s, s:s, s:o, s:o}", "name", r->dir, "status",
                  sg_rendition_state_name(r->state), "kind", sg_rendition_kind_name(r->kind), "job",
                  r->job_id, "width", r->width != 0 ? json_integer(r->width) : json_null(),
                  "height", r->height != 0 ? json_integer(r->height) : json_null());
    if (o != NULL && r->state == SG_RENDITION_FAILED &&
        json_object_set_new(o, "error", json_string(r->error)) != 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}

json_t *sg_renditions_json(const struct sg_asset_entry *e)
{
    const struct sg_presentation *p = e->shows;
    json_t *list = json_array();
    int bad = list == NULL;
    for (uint32_t i = 0; i < p->n_videos && !bad; i++)
        bad |= json_array_append_new(list, track_json(p->videos[i].track));
    for (uint32_t i = 0; i < p->n_audios && !bad; i++)
        bad |= json_array_append_new(list, track_json(p->audios[i].track));
    for (size_t i = 0; i < e->renditions.n && !bad; i++)
        if (e->renditions.items[i].state != SG_RENDITION_READY)
            bad |= json_array_append_new(list, rendition_json(&e->renditions.items[i]));
    if (bad) {
        json_decref(list);
        return NULL;
    }
    return list;
}

/* A fresh token for a signed asset, "" for a public one. */
enum sg_error sg_asset_fresh_token(struct sg_request *req, const struct sg_asset *asset,
                                   char token[SG_PLAYBACK_TOKEN_SIZE])
{
    token[0] = '\0';
    if (asset->f.policy == SG_POLICY_PUBLIC)
        return SG_OK;
    uint64_t ttl_ms = sg_config_uint(sg_services_config(req->svc), SG_SET_playback_token_ttl);
    return sg_playback_token_make(req->svc->signer, asset->f.id,
                                  (sg_clock_wall_ms() + ttl_ms) / 1000, NULL, token);
}

static json_t *time_json(uint64_t ms)
{
    char text[SG_TIME_SIZE];
    sg_time_rfc3339(ms, text);
    return json_string(text);
}

static json_t *number_or_null(uint64_t v)
{
    return v != 0 ? json_integer((json_int_t)v) : json_null();
}

static json_t *text_or_null(const char *s)
{
    return s[0] != '\0' ? json_string(s) : json_null();
}

static json_t *parsed_or(const char *text, json_t *otherwise)
{
    json_t *v = NULL;
    if (sg_json_parse(text, strlen(text), &v, NULL) != SG_OK)
        return otherwise;
    json_decref(otherwise);
    return v;
}

/* Sets the probed fields; nonzero when memory is short. */
static int set_media_fields(json_t *o, const struct sg_asset_fields *f)
{
    char sha[2 * SG_SHA256_LEN + 1];
    sg_hex_encode(f->sha256, SG_SHA256_LEN, sha);
    int bad = json_object_set_new(o, "filename", json_string(f->filename));
    bad |= json_object_set_new(o, "size", json_integer((json_int_t)f->size_bytes));
    bad |= json_object_set_new(o, "sha256", json_string(sha));
    bad |= json_object_set_new(o, "content_type", json_string(f->content_type));
    bad |= json_object_set_new(o, "duration", json_real((double)f->duration_ms / 1000.0));
    bad |= json_object_set_new(o, "width", number_or_null(f->width));
    bad |= json_object_set_new(o, "height", number_or_null(f->height));
    bad |= json_object_set_new(o, "video_codec", text_or_null(f->video_codec));
    bad |= json_object_set_new(o, "audio_codec", text_or_null(f->audio_codec));
    bad |=
        json_object_set_new(o, "frame_rate",
                            f->frame_rate_num != 0 && f->frame_rate_den != 0
                                ? json_real((double)f->frame_rate_num / (double)f->frame_rate_den)
                                : json_null());
    return bad;
}

json_t *sg_stream_json(struct sg_request *req, const struct sg_asset_entry *e)
{
    char token[SG_PLAYBACK_TOKEN_SIZE];
    if (sg_asset_fresh_token(req, e->asset, token) != SG_OK)
        return NULL;
    const struct sg_asset_fields *f = &e->asset->f;
    return json_pack("{s:s, s:s, s:s, s:f, s:o, s:o}", "id", f->id, "status",
                     sg_asset_status_name(f->status), "playback_policy",
                     sg_asset_policy_name(f->policy), "duration", (double)f->duration_ms / 1000.0,
                     "playback", sg_playback_json(req, e, token), "renditions",
                     sg_renditions_json(e));
}

json_t *sg_asset_json(struct sg_request *req, const struct sg_asset_entry *e)
{
    const struct sg_asset_fields *f = &e->asset->f;
    char token[SG_PLAYBACK_TOKEN_SIZE];
    if (sg_asset_fresh_token(req, e->asset, token) != SG_OK)
        return NULL;
    json_t *o = json_object();
    if (o == NULL)
        return NULL;
    int bad = json_object_set_new(o, "id", json_string(f->id));
    bad |= json_object_set_new(o, "status", json_string(sg_asset_status_name(f->status)));
    bad |= json_object_set_new(o, "title", json_string(f->title));
    bad |= json_object_set_new(o, "description", json_string(f->description));
    bad |= json_object_set_new(o, "tags", parsed_or(f->tags_json, json_array()));
    bad |= json_object_set_new(o, "custom", parsed_or(f->custom_json, json_object()));
    bad |= json_object_set_new(o, "owner", json_string(f->owner));
    bad |= json_object_set_new(o, "playback_policy", json_string(sg_asset_policy_name(f->policy)));
    bad |= set_media_fields(o, f);
    bad |= json_object_set_new(o, "renditions", sg_renditions_json(e));
    bad |= json_object_set_new(o, "subtitles", sg_subtitles_json(req, e, token));
    bad |= json_object_set_new(o, "playback", sg_playback_json(req, e, token));
    bad |= json_object_set_new(o, "error", text_or_null(f->error));
    bad |= json_object_set_new(o, "version", json_integer((json_int_t)f->version));
    bad |= json_object_set_new(o, "created_at", time_json(f->created_ms));
    bad |= json_object_set_new(o, "updated_at", time_json(f->updated_ms));
    if (bad != 0) {
        json_decref(o);
        return NULL;
    }
    return o;
}
