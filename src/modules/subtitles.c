/* Subtitles over HTTP: upload, list, change, delete, extract. A track is a row with its text; each
 * change is one of the asset. */
#include "subtitles.h"

#include <string.h>

#include "streamgate/base/metrics.h"
#include "streamgate/modules/modules.h"
#include "streamgate/store/audit_store.h"

uint32_t subtitles_series[2][SG_SUBTITLE_SOURCE_COUNT];

bool subtitles_label_holds(const char *s, size_t len)
{
    enum { CHARACTERS_MAX = 64 };
    return len < SG_SUBTITLE_LABEL_SIZE && sg_str_is_utf8(s, len) && !sg_str_has_control(s, len) &&
           sg_utf8_length(s, len) <= CHARACTERS_MAX;
}

enum sg_error subtitles_language(struct sg_request *req, char out[SG_LANGUAGE_SIZE])
{
    const char *s = sg_request_param(req, "lang");
    if (sg_language_parse(s, strlen(s), out) != SG_OK)
        return sg_request_fail(req, SG_ERR_INVALID, "lang",
                               "must be a language tag (BCP 47) of at most 35 characters, such as "
                               "en or pt-BR");
    return SG_OK;
}

/* ---- changes ---- */

static enum sg_error write_change(struct sg_db_conn *c, void *arg)
{
    struct subtitles_change *ch = arg;
    enum sg_error err = ch->write(c, ch);
    if (err != SG_OK)
        return err;
    return sg_audit_append(c,
                           &(struct sg_audit_event){
                               .event_type = "data",
                               .actor = ch->req->identity.user_id,
                               .action = ch->action,
                               .resource = sg_arena_printf(ch->req->arena, "asset/%s/subtitles/%s",
                                                           ch->asset_id, ch->track.language),
                               .result = "success",
                               .request_id = ch->req->id,
                           });
}

enum sg_error subtitles_commit(struct subtitles_change *ch)
{
    enum sg_error err = sg_db_write(ch->req->svc->db, write_change, ch);
    sg_asset_cache_invalidate(ch->req->svc->assets, ch->asset_id);
    if (err == SG_ERR_NOT_FOUND)
        return sg_request_fail(ch->req, err, NULL, "the asset has no subtitles of this language");
    if (err == SG_ERR_TOO_LARGE)
        return sg_request_fail(ch->req, SG_ERR_CONFLICT, NULL,
                               "the asset has %d tracks of subtitles, which is as many as it may",
                               SG_SUBTITLES_MAX);
    return err;
}

static const struct sg_subtitle *find(const struct sg_asset_entry *e, const char *language)
{
    for (size_t i = 0; i < e->subtitles.n; i++)
        if (strcmp(e->subtitles.items[i].language, language) == 0)
            return &e->subtitles.items[i];
    return NULL;
}

static enum sg_error answer_track(struct sg_request *req, struct sg_response *res, unsigned status,
                                  const struct sg_asset_entry *e, const char *language)
{
    const struct sg_subtitle *t = find(e, language);
    char token[SG_PLAYBACK_TOKEN_SIZE];
    if (t == NULL)
        return sg_request_fail(req, SG_ERR_NOT_FOUND, NULL,
                               "the asset has no subtitles of this language");
    enum sg_error err = sg_asset_fresh_token(req, e->asset, token);
    json_t *body = err == SG_OK ? sg_subtitle_json(req, e, t, token) : NULL;
    if (body == NULL)
        return err != SG_OK ? err : SG_ERR_NO_MEMORY;
    return sg_response_json(res, status, body);
}

enum sg_error subtitles_answer(struct sg_request *req, struct sg_response *res, unsigned status,
                               const char *language)
{
    struct sg_asset_entry *e;
    enum sg_error err = sg_asset_load_owned(req, false, &e);
    if (err != SG_OK)
        return err;
    err = answer_track(req, res, status, e, language);
    sg_asset_entry_unref(e);
    return err;
}

/* ---- reading ---- */

static enum sg_error list_get(struct sg_request *req, struct sg_response *res)
{
    struct sg_asset_entry *e;
    char token[SG_PLAYBACK_TOKEN_SIZE];
    enum sg_error err = sg_asset_load_owned(req, true, &e);
    if (err != SG_OK)
        return err;
    err = sg_asset_fresh_token(req, e->asset, token);
    json_t *body = NULL;
    if (err == SG_OK)
        body = json_pack("{s:o}", "items", sg_subtitles_json(req, e, token));
    sg_asset_entry_unref(e);
    if (body == NULL)
        return err != SG_OK ? err : SG_ERR_NO_MEMORY;
    return sg_response_json(res, 200, body);
}

static enum sg_error track_get(struct sg_request *req, struct sg_response *res)
{
    struct sg_asset_entry *e;
    char language[SG_LANGUAGE_SIZE];
    enum sg_error err = sg_asset_load_owned(req, true, &e);
    if (err != SG_OK)
        return err;
    err = subtitles_language(req, language);
    if (err == SG_OK)
        err = answer_track(req, res, 200, e, language);
    sg_asset_entry_unref(e);
    return err;
}

/* ---- changing ---- */

static enum sg_error patch_flag(struct sg_request *req, const char *name, const json_t *value,
                                bool *out)
{
    if (!json_is_boolean(value))
        return sg_request_fail(req, SG_ERR_INVALID, name, "must be true or false");
    *out = json_is_true(value);
    return SG_OK;
}

static enum sg_error patch_member(struct sg_request *req, struct sg_subtitle *t, const char *name,
                                  const json_t *value)
{
    const char *s = json_string_value(value);
    if (strcmp(name, "label") == 0) {
        size_t len = json_string_length(value);
        if (s == NULL || !subtitles_label_holds(s, len))
            return sg_request_fail(req, SG_ERR_INVALID, name, SUBTITLE_LABEL_RULE);
        memcpy(t->label, s, len + 1);
        return SG_OK;
    }
    if (strcmp(name, "kind") == 0) {
        if (s == NULL || sg_subtitle_kind_parse(s, &t->kind) != SG_OK)
            return sg_request_fail(req, SG_ERR_INVALID, name, "must be subtitles or captions");
        return SG_OK;
    }
    if (strcmp(name, "default") == 0)
        return patch_flag(req, name, value, &t->is_default);
    if (strcmp(name, "forced") == 0)
        return patch_flag(req, name, value, &t->forced);
    return sg_request_fail(req, SG_ERR_INVALID, name, "is not a field of subtitles");
}

/* What the members change is laid over the row as it is in the transaction. */
struct patch {
    struct subtitles_change change;
    json_t *members;
};

static enum sg_error apply_patch(struct sg_request *req, json_t *members, struct sg_subtitle *t)
{
    const char *name;
    json_t *value;
    enum sg_error err = SG_OK;
    json_object_foreach(members, name, value)
    {
        err = patch_member(req, t, name, value);
        if (err != SG_OK)
            break;
    }
    return err;
}

static enum sg_error write_patch(struct sg_db_conn *c, struct subtitles_change *ch)
{
    struct patch *p = (struct patch *)(void *)ch;
    struct sg_subtitle now;
    enum sg_error err = sg_subtitle_get(c, ch->asset_id, ch->track.language, &now);
    if (err == SG_OK)
        err = apply_patch(ch->req, p->members, &now);
    now.updated_ms = sg_clock_wall_ms();
    return err == SG_OK ? sg_subtitle_update(c, ch->asset_id, &now) : err;
}

static enum sg_error write_delete(struct sg_db_conn *c, struct subtitles_change *ch)
{
    return sg_subtitle_delete(c, ch->asset_id, ch->track.language, sg_clock_wall_ms());
}

/* The asset of the path, its owner's, and the language. */
static enum sg_error begin_change(struct sg_request *req, struct subtitles_change *ch)
{
    struct sg_asset_entry *e;
    enum sg_error err = sg_asset_load_owned(req, false, &e);
    if (err != SG_OK)
        return err;
    ch->req = req;
    ch->asset_id = sg_arena_strdup(req->arena, e->asset->f.id);
    sg_asset_entry_unref(e);
    return ch->asset_id != NULL ? subtitles_language(req, ch->track.language) : SG_ERR_NO_MEMORY;
}

static enum sg_error track_patch(struct sg_request *req, struct sg_response *res)
{
    struct patch p = {.change = {.action = "subtitles.update", .write = write_patch}};
    struct sg_subtitle tried = {0};
    enum sg_error err = begin_change(req, &p.change);
    if (err == SG_OK)
        err = sg_request_json(req, false, &p.members);
    if (err == SG_OK) /* says what is wrong before anything is written */
        err = apply_patch(req, p.members, &tried);
    if (err == SG_OK)
        err = subtitles_commit(&p.change);
    json_decref(p.members);
    return err == SG_OK ? subtitles_answer(req, res, 200, p.change.track.language) : err;
}

static enum sg_error track_delete(struct sg_request *req, struct sg_response *res)
{
    struct subtitles_change ch = {.action = "subtitles.delete", .write = write_delete};
    enum sg_error err = begin_change(req, &ch);
    if (err == SG_OK)
        err = subtitles_commit(&ch);
    if (err == SG_OK)
        sg_response_empty(res, 204);
    return err;
}

/* ---- the module ---- */

static enum sg_error subtitles_init(struct sg_services *svc)
{
    static const char *const labels[SG_SUBTITLE_SOURCE_COUNT] = {
        [SG_SUBTITLE_SIDECAR] = "source=\"sidecar\"",
        [SG_SUBTITLE_EMBEDDED] = "source=\"embedded\"",
    };
    enum sg_error err = SG_OK;
    for (unsigned i = 0; i < SG_SUBTITLE_SOURCE_COUNT && err == SG_OK; i++) {
        err = sg_metric_define(SG_METRIC_SUBTITLES_WRITTEN, labels[i], &subtitles_series[0][i]);
        if (err == SG_OK)
            err = sg_metric_define(SG_METRIC_SUBTITLES_REFUSED, labels[i], &subtitles_series[1][i]);
    }
    return err == SG_OK ? subtitles_extract_register(svc) : err;
}

static const struct sg_param_doc put_query[] = {
    {"label", "string", "What players call the track, at most 64 characters"},
    {"kind", "string", "subtitles (default) or captions (with sounds described)"},
    {"default", "boolean", "Whether players show it by themselves; one track of an asset at most"},
    {"forced", "boolean", "Whether it holds only what is shown to everybody"},
};

#define TRACK_SCHEMA "{\"$ref\":\"#/components/schemas/Subtitle\"}"
#define LIST_SCHEMA                                                                                \
    "{\"type\":\"object\",\"properties\":{\"items\":{\"type\":\"array\",\"items\":" TRACK_SCHEMA   \
    "}}}"
#define PATCH_SCHEMA                                                                               \
    "{\"type\":\"object\",\"properties\":{\"label\":{\"type\":\"string\",\"maxLength\":64},"       \
    "\"kind\":{\"enum\":[\"subtitles\",\"captions\"]},\"default\":{\"type\":\"boolean\"},"         \
    "\"forced\":{\"type\":\"boolean\"}},\"additionalProperties\":false}"

static const struct sg_route routes[] = {
    {.method = SG_GET,
     .path = "/api/v1/assets/{id}/subtitles",
     .handle = list_get,
     .role = SG_ROLE_VIEWER,
     .limit = SG_LIMIT_METADATA,
     .summary = "List the subtitles of an asset",
     .response_schema = LIST_SCHEMA},
    {.method = SG_GET,
     .path = "/api/v1/assets/{id}/subtitles/{lang}",
     .handle = track_get,
     .role = SG_ROLE_VIEWER,
     .limit = SG_LIMIT_METADATA,
     .summary = "Fetch what is known of one track of subtitles",
     .response_schema = TRACK_SCHEMA},
    {.method = SG_PUT,
     .path = "/api/v1/assets/{id}/subtitles/{lang}",
     .handle = subtitles_put,
     .body = SG_BODY_STREAM,
     .body_begin = subtitles_put_begin,
     .body_data = subtitles_put_data,
     .max_body = SG_SET_subtitles_max_size,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_UPLOAD,
     .summary = "Upload subtitles of a language: SRT, WebVTT or ASS; 200 when they replace others",
     .query = put_query,
     .n_query = SG_ARRAY_LEN(put_query),
     .request_type = "application/octet-stream",
     .response_schema = TRACK_SCHEMA,
     .success = 201},
    {.method = SG_PATCH,
     .path = "/api/v1/assets/{id}/subtitles/{lang}",
     .handle = track_patch,
     .body = SG_BODY_JSON,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_METADATA,
     .blocking = true,
     .summary = "Change how a track of subtitles is named and chosen",
     .request_schema = PATCH_SCHEMA,
     .response_schema = TRACK_SCHEMA},
    {.method = SG_DELETE,
     .path = "/api/v1/assets/{id}/subtitles/{lang}",
     .handle = track_delete,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_METADATA,
     .blocking = true,
     .summary = "Delete a track of subtitles",
     .success = 204},
    {.method = SG_POST,
     .path = "/api/v1/assets/{id}/subtitles/extract",
     .handle = subtitles_extract_post,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_METADATA,
     .blocking = true,
     .summary =
         "Extract the tracks of text in the asset's file, as a job; an upload whose file has "
         "some gets one by itself",
     .success = 202},
};

const struct sg_module sg_subtitles_module = {.name = "subtitles",
                                              .routes = routes,
                                              .n_routes = SG_ARRAY_LEN(routes),
                                              .init = subtitles_init};
