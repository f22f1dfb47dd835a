/* Renditions over HTTP, and the jobs that make them. */
#include "transcoder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/log.h"
#include "streamgate/modules/modules.h"
#include "streamgate/store/audit_store.h"

#define HEIGHT_MIN 64
#define HEIGHT_MAX 8192
#define ASKED_PRIORITY 60 /* somebody waits, but not to see anything at all */

/* ---- the ladder ---- */

static json_t *rung_json(const struct sg_rung *r)
{
    return json_pack("{s:s, s:i, s:o, s:o}", "name", r->name, "height", (int)r->height, "bitrate",
                     r->bitrate != 0 ? json_integer(r->bitrate) : json_null(), "crf",
                     r->bitrate == 0 ? json_integer(r->crf) : json_null());
}

static enum sg_error profiles_get(struct sg_request *req, struct sg_response *res)
{
    const struct sg_config *cfg = sg_services_config(req->svc);
    struct sg_ladder ladder;
    sg_ladder_of(cfg, &ladder);
    json_t *items = json_array();
    int bad = 0;
    for (unsigned i = 0; i < ladder.n; i++)
        bad |= json_array_append_new(items, rung_json(&ladder.rungs[i]));
    json_t *body = bad != 0
                       ? NULL
                       : json_pack("{s:o, s:s, s:s, s:I, s:i}", "items", items, "automatic",
                                   sg_config_string(cfg, SG_SET_transcode_automatic), "preset",
                                   sg_config_string(cfg, SG_SET_transcode_preset), "audio_bitrate",
                                   (json_int_t)sg_config_uint(cfg, SG_SET_transcode_audio_bitrate),
                                   "keyframe_ms", SG_KEYFRAME_MS);
    if (bad != 0)
        json_decref(items);
    return body != NULL ? sg_response_json(res, 200, body) : SG_ERR_NO_MEMORY;
}

static enum sg_error with_asset(struct sg_request *req, struct sg_response *res,
                                json_t *(*make)(struct sg_request *, const struct sg_asset_entry *))
{
    struct sg_asset_entry *e;
    enum sg_error err = sg_asset_load_owned(req, true, &e);
    if (err != SG_OK)
        return err;
    json_t *body = make(req, e);
    sg_asset_entry_unref(e);
    return body != NULL ? sg_response_json(res, 200, body) : SG_ERR_NO_MEMORY;
}

static json_t *list_json(struct sg_request *req, const struct sg_asset_entry *e)
{
    (void)req;
    return json_pack("{s:o}", "items", sg_renditions_json(e));
}

static enum sg_error renditions_list(struct sg_request *req, struct sg_response *res)
{
    return with_asset(req, res, list_json);
}

static enum sg_error stream_get(struct sg_request *req, struct sg_response *res)
{
    return with_asset(req, res, sg_stream_json);
}

/* ---- asking for one ---- */

/* height: the member of the body that said it. */
struct wish {
    struct sg_rung rung;
    const char *height;
};

static enum sg_error read_number(struct sg_request *req, const json_t *body, const char *name,
                                 const uint32_t range[2], json_int_t *out)
{
    const json_t *value = json_object_get(body, name);
    *out = -1;
    if (value == NULL)
        return SG_OK;
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < (json_int_t)range[0] || n > (json_int_t)range[1])
        return sg_request_fail(req, SG_ERR_INVALID, name, "must be an integer from %u to %u",
                               (unsigned)range[0], (unsigned)range[1]);
    *out = n;
    return SG_OK;
}

/* What tracks of sources and of files with several are called in URLs, and what lies beside them.
 */
static bool is_reserved(const char *name, size_t len)
{
    size_t suffix = strlen(TRANSCODER_SOUND_SUFFIX);
    return strcmp(name, "original") == 0 || strcmp(name, "subs") == 0 ||
           strncmp(name, "audio", strlen("audio")) == 0 ||
           (len >= suffix && strcmp(name + len - suffix, TRANSCODER_SOUND_SUFFIX) == 0);
}

static enum sg_error read_name(struct sg_request *req, const json_t *body, struct sg_rung *rung)
{
    const json_t *value = json_object_get(body, "name");
    if (value == NULL) {
        if (rung->name[0] == '\0')
            snprintf(rung->name, sizeof rung->name, "%up", (unsigned)rung->height);
        return SG_OK;
    }
    const char *name = json_string_value(value);
    size_t len = name != NULL ? strlen(name) : 0;
    if (len == 0 || len >= sizeof rung->name || name[0] == '-' ||
        strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != len)
        return sg_request_fail(req, SG_ERR_INVALID, "name",
                               "must be 1 to %zu of a-z, 0-9 and -, and not begin with -",
                               sizeof rung->name - 1);
    if (is_reserved(name, len))
        return sg_request_fail(
            req, SG_ERR_INVALID, "name",
            "must not be original or subs, begin with audio or end with " TRANSCODER_SOUND_SUFFIX);
    memcpy(rung->name, name, len + 1);
    return SG_OK;
}

static enum sg_error read_profile(struct sg_request *req, const char *name, struct sg_rung *out)
{
    struct sg_ladder ladder;
    sg_ladder_of(sg_services_config(req->svc), &ladder);
    for (unsigned i = 0; name != NULL && i < ladder.n; i++) {
        if (strcmp(ladder.rungs[i].name, name) == 0) {
            *out = ladder.rungs[i];
            return SG_OK;
        }
    }
    return sg_request_fail(req, SG_ERR_INVALID, "profile",
                           "must be the name of one that GET /api/v1/transcode/profiles lists");
}

static enum sg_error read_own(struct sg_request *req, const json_t *body, struct sg_rung *out)
{
    json_int_t height, bitrate, crf;
    enum sg_error err =
        read_number(req, body, "height", (const uint32_t[]){HEIGHT_MIN, HEIGHT_MAX}, &height);
    if (err == SG_OK)
        err = read_number(req, body, "bitrate", (const uint32_t[]){SG_BITRATE_MIN, SG_BITRATE_MAX},
                          &bitrate);
    if (err == SG_OK)
        err = read_number(req, body, "crf", (const uint32_t[]){SG_CRF_MIN, SG_CRF_MAX}, &crf);
    if (err != SG_OK)
        return err;
    if (height < 0)
        return sg_request_fail(req, SG_ERR_INVALID, "height", "or profile must be given");
    if ((bitrate < 0) == (crf < 0))
        return sg_request_fail(req, SG_ERR_INVALID, "bitrate",
                               "or crf must be given, and only one of them");
    *out = (struct sg_rung){.height = (uint32_t)height};
    if (bitrate > 0)
        out->bitrate = (uint32_t)bitrate;
    else
        out->crf = (uint32_t)crf;
    return SG_OK;
}

static enum sg_error read_wish(struct sg_request *req, const json_t *body, struct wish *out)
{
    static const char *const known[] = {"profile", "height", "bitrate", "crf", "name", NULL};
    enum sg_error err = sg_request_only(req, body, known);
    if (err != SG_OK)
        return err;
    const json_t *profile = json_object_get(body, "profile");
    if (profile != NULL &&
        (json_object_get(body, "height") != NULL || json_object_get(body, "bitrate") != NULL ||
         json_object_get(body, "crf") != NULL))
        return sg_request_fail(req, SG_ERR_INVALID, "profile",
                               "says height and rate already: leave those out");
    err = profile != NULL ? read_profile(req, json_string_value(profile), &out->rung)
                          : read_own(req, body, &out->rung);
    out->height = profile != NULL ? "profile" : "height";
    return err == SG_OK ? read_name(req, body, &out->rung) : err;
}

struct asking {
    const struct sg_asset_fields *asset;
    struct sg_rendition_plan plan;
    struct sg_audit_event event;
};

/* What an asset cannot be played without is made first: were another done before, the asset would
 * be ready with that alone, and what is played meanwhile would end. */
static enum sg_error queue_behind(struct asking *a, enum sg_asset_status status,
                                  const struct sg_rendition_list *all)
{
    a->plan.after[0] = '\0';
    if (status == SG_ASSET_READY)
        return SG_OK;
    if (status != SG_ASSET_PROCESSING || all->n == 0)
        return SG_ERR_CONFLICT;
    memcpy(a->plan.after, all->items[0].job_id, SG_ULID_SIZE);
    return SG_OK;
}

static enum sg_error write_wish(struct sg_db_conn *c, void *arg)
{
    struct asking *a = arg;
    struct sg_rendition_list all = {0};
    struct sg_asset *asset = NULL;
    enum sg_error err = sg_asset_get(c, a->asset->id, &asset);
    if (err == SG_OK)
        err = sg_rendition_list(c, a->asset->id, &all);
    if (err == SG_OK)
        err = queue_behind(a, asset->f.status, &all);
    sg_rendition_list_free(&all);
    sg_asset_unref(asset);
    if (err == SG_OK)
        err = sg_renditions_begin(c, a->asset, &a->plan);
    return err == SG_OK ? sg_audit_append(c, &a->event) : err;
}

static enum sg_error plan_wish(struct sg_request *req, const struct sg_asset_entry *e,
                               const struct wish *w, struct asking *a)
{
    const struct sg_rung *rung = &w->rung;
    const struct sg_track *video = e->index != NULL ? sg_media_index_video(e->index) : NULL;
    if (e->asset->f.status != SG_ASSET_READY && e->asset->f.status != SG_ASSET_PROCESSING)
        return sg_request_fail(req, SG_ERR_CONFLICT, NULL, "the asset is not ready");
    if (video == NULL)
        return sg_request_fail(req, SG_ERR_CONFLICT, NULL, "the asset has no picture");
    uint32_t shorter =
        video->display_width < video->display_height ? video->display_width : video->display_height;
    if (rung->height > shorter)
        return sg_request_fail(req, SG_ERR_INVALID, w->height,
                               "must be at most the source's, which is %u: nothing is enlarged",
                               (unsigned)shorter);
    a->plan.n = 1;
    a->plan.n_jobs = 1;
    a->plan.jobs[0] =
        (struct sg_planned_job){.type = "transcode", .priority = ASKED_PRIORITY, .n = 1};
    a->event = (struct sg_audit_event){
        .event_type = "data",
        .actor = req->identity.user_id,
        .action = "rendition.create",
        .resource = sg_arena_printf(req->arena, "asset/%s", a->asset->id),
        .details = sg_arena_printf(req->arena, "{\"name\":\"%s\"}", rung->name),
        .result = "success",
        .request_id = req->id};
    if (a->event.resource == NULL || a->event.details == NULL)
        return SG_ERR_NO_MEMORY;
    return sg_rendition_of_rung(e->index, rung, &a->plan.items[0]) ? SG_OK : SG_ERR_CONFLICT;
}

static enum sg_error refuse(struct sg_request *req, enum sg_error err, const char *name)
{
    switch (err) {
    case SG_ERR_EXISTS:
        return sg_request_fail(req, SG_ERR_CONFLICT, "name",
                               "is taken by another rendition of this asset: %s", name);
    case SG_ERR_TOO_LARGE:
        return sg_request_fail(
            req, SG_ERR_CONFLICT, NULL,
            "an asset has at most %d renditions, and those that failed count until "
            "they are deleted",
            SG_RENDITIONS_MAX);
    case SG_ERR_CONFLICT:
        return sg_request_fail(req, err, NULL, "the asset is not ready");
    default:
        return err;
    }
}

static enum sg_error ask(struct sg_request *req, struct sg_response *res,
                         const struct sg_asset_entry *e, const struct wish *w)
{
    struct asking *a = calloc(1, sizeof *a);
    if (a == NULL)
        return SG_ERR_NO_MEMORY;
    a->asset = &e->asset->f;
    const struct sg_rendition *r = &a->plan.items[0];
    enum sg_error err = plan_wish(req, e, w, a);
    if (err == SG_OK) {
        err = sg_db_write(req->svc->db, write_wish, a);
        sg_asset_cache_invalidate(req->svc->assets, e->asset->f.id);
        if (err != SG_OK)
            err = refuse(req, err, w->rung.name);
    }
    if (err == SG_OK) {
        sg_jobs_inserted(req->svc->jobs, "transcode", r->job_id);
        json_t *body = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:o, s:o}", "name", r->dir,
                                 "status", "processing", "kind", "video", "job", r->job_id, "width",
                                 (int)r->width, "height", (int)r->height, "bitrate",
                                 r->bitrate != 0 ? json_integer(r->bitrate) : json_null(), "crf",
                                 r->bitrate == 0 ? json_integer(r->crf) : json_null());
        err = body != NULL ? sg_response_json(res, 202, body) : SG_ERR_NO_MEMORY;
    }
    if (err == SG_OK)
        err = sg_response_headerf(req, res, "Location", "/api/v1/jobs/%s", r->job_id);
    free(a);
    return err;
}

static enum sg_error rendition_post(struct sg_request *req, struct sg_response *res)
{
    struct sg_asset_entry *e = NULL;
    json_t *body = NULL;
    struct wish wish;
    enum sg_error err = sg_asset_load_owned(req, false, &e);
    if (err != SG_OK)
        return err;
    err = sg_request_json(req, false, &body);
    if (err == SG_OK)
        err = read_wish(req, body, &wish);
    if (err == SG_OK)
        err = ask(req, res, e, &wish);
    json_decref(body);
    sg_asset_entry_unref(e);
    return err;
}

/* ---- rows ---- */

#define WISH_SCHEMA                                                                                \
    "{\"type\":\"object\",\"properties\":{\"profile\":{\"type\":\"string\"},"                      \
    "\"height\":{\"type\":\"integer\",\"minimum\":64},"                                            \
    "\"bitrate\":{\"type\":\"integer\",\"description\":\"bits a second\"},"                        \
    "\"crf\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":51},"                                 \
    "\"name\":{\"type\":\"string\"}},\"additionalProperties\":false}"

#define ASSET "/api/v1/assets/{id}"
#define ROW(m, p, fn, r) .method = m, .path = p, .handle = fn, .role = r, .limit = SG_LIMIT_METADATA
static const struct sg_route routes[] = {
    {ROW(SG_GET, "/api/v1/transcode/profiles", profiles_get, SG_ROLE_VIEWER),
     .summary = "The ladder: which renditions uploads get"},
    {ROW(SG_GET, ASSET "/renditions", renditions_list, SG_ROLE_VIEWER),
     .summary = "What of an asset can be played, and what is being made"},
    {ROW(SG_POST, ASSET "/renditions", rendition_post, SG_ROLE_CREATOR), .body = SG_BODY_JSON,
     .blocking = true, .summary = "Make a rendition now, by a profile or by height and rate",
     .request_schema = WISH_SCHEMA, .success = 202},
    {ROW(SG_DELETE, ASSET "/renditions/{name}", transcoder_drop, SG_ROLE_CREATOR), .blocking = true,
     .summary = "Drop a rendition", .success = 204},
    {ROW(SG_GET, ASSET "/stream", stream_get, SG_ROLE_VIEWER),
     .summary = "How to play an asset: URLs that work now, and its renditions"},
};

/* ---- jobs ---- */

static struct sg_job_type types[] = {
    {.name = "transcode",
     .summary = "Encode renditions from one decode of the source",
     .concurrency = SG_SET_transcode_jobs,
     .timeout = SG_SET_transcode_timeout,
     .role = SG_ROLE_NONE,
     .max_attempts = 3,
     .backoff_ms = 5000,
     .backoff_max_ms = 600000,
     .run = transcoder_run},
    {.name = TRANSCODER_FIRST,
     .summary = "Encode the renditions without which a source cannot be played",
     .concurrency = SG_SET_transcode_first_jobs,
     .timeout = SG_SET_transcode_timeout,
     .role = SG_ROLE_NONE,
     .max_attempts = 3,
     .backoff_ms = 2000,
     .backoff_max_ms = 600000,
     .run = transcoder_run},
    {.name = "remux",
     .summary = "Bring a source into a container that can be packaged",
     .concurrency = SG_SET_transcode_remuxes,
     .timeout = SG_SET_transcode_timeout,
     .role = SG_ROLE_NONE,
     .max_attempts = 3,
     .backoff_ms = 2000,
     .backoff_max_ms = 600000,
     .run = transcoder_run},
    {.name = "probe",
     .summary = "Look at a source again with what the program knows now",
     .concurrency = SG_SET_worker_housekeeping,
     .timeout = SG_SET_worker_housekeeping_timeout,
     .role = SG_ROLE_ADMIN,
     .max_attempts = 3,
     .backoff_ms = 2000,
     .backoff_max_ms = 600000,
     .check = transcoder_source_check,
     .run = transcoder_probe},
};

/* ---- what becomes of assets whose jobs end by themselves ---- */

struct settled {
    struct sg_services *svc;
    char job_id[SG_ULID_SIZE], asset_id[SG_ULID_SIZE];
};

static enum sg_error read_asset_id(struct sg_db_conn *c, void *arg)
{
    struct settled *s = arg;
    struct sg_job *job = NULL;
    enum sg_error err = sg_job_get(c, s->job_id, &job);
    if (err == SG_OK)
        memcpy(s->asset_id, job->f.asset_id, SG_ULID_SIZE);
    sg_job_free(&job);
    return err;
}

static void forget(void *arg)
{
    struct settled *s = arg;
    if (sg_db_read(s->svc->db, read_asset_id, s) == SG_OK && s->asset_id[0] != '\0')
        sg_asset_cache_invalidate(s->svc->assets, s->asset_id);
    free(s);
}

/* Rows of renditions follow their job by triggers; what is in memory of their asset is old then. */
static bool job_changed(void *arg, const struct sg_job_event *e)
{
    bool counts = strcmp(e->name, "state") == 0 && (e->final || strstr(e->data, "queued") != NULL);
    struct settled *s = counts ? calloc(1, sizeof *s) : NULL;
    if (s == NULL)
        return true;
    s->svc = arg;
    memcpy(s->job_id, e->job_id, strnlen(e->job_id, SG_ULID_SIZE - 1));
    if (sg_pool_submit(s->svc->sync, forget, s) != SG_OK)
        free(s);
    return true;
}

static void no_more(void *arg)
{
    (void)arg;
}

static struct sg_job_sub *subscription;

static enum sg_error transcoder_init(struct sg_services *svc)
{
    enum sg_error err = SG_OK;
    for (size_t i = 0; i < SG_ARRAY_LEN(types) && err == SG_OK; i++) {
        types[i].arg = svc;
        err = sg_jobs_register(svc->jobs, &types[i]);
    }
    const struct sg_job_sub_params p = {.after_seq = sg_jobs_last_event(svc->jobs),
                                        .event = job_changed,
                                        .gone = no_more,
                                        .arg = svc};
    return err == SG_OK ? sg_jobs_subscribe(svc->jobs, &p, &subscription) : err;
}

static void transcoder_shutdown(struct sg_services *svc)
{
    if (subscription != NULL)
        sg_jobs_unsubscribe(svc->jobs, &subscription);
}

const struct sg_module sg_transcoder_module = {.name = "transcoder",
                                               .routes = routes,
                                               .n_routes = SG_ARRAY_LEN(routes),
                                               .init = transcoder_init,
                                               .shutdown = transcoder_shutdown};
