/* Assets: read, change, delete, list. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"
#include "streamgate/http/asset_view.h"
#include "streamgate/layers/jobs.h"
#include "streamgate/modules/modules.h"
#include "streamgate/store/upload_store.h"

static enum sg_error answer_asset(struct sg_request *req, struct sg_response *res,
                                  const struct sg_asset_entry *e)
{
    json_t *body = sg_asset_json(req, e);
    if (body == NULL)
        return SG_ERR_NO_MEMORY;
    enum sg_error err = sg_response_json(res, 200, body);
    if (err != SG_OK)
        return err;
    char etag[SG_ETAG_SIZE];
    sg_asset_etag(e->asset, etag);
    /* The ETag guards changes, whose versions it counts. The URLs of an asset that is not public
     * hold a token that runs out without a change: to say "not modified" would leave the client
     * with the old one. */
    if (e->asset->f.policy != SG_POLICY_PUBLIC)
        return sg_response_headerf(req, res, "ETag", "%s", etag);
    res->etag = sg_arena_strdup(req->arena, etag);
    return res->etag != NULL ? SG_OK : SG_ERR_NO_MEMORY;
}

static enum sg_error asset_get(struct sg_request *req, struct sg_response *res)
{
    struct sg_asset_entry *e;
    enum sg_error err = sg_asset_load_owned(req, true, &e);
    if (err != SG_OK)
        return err;
    sg_metric_add(SG_METRIC_GET_METADATA_SUCCESS, 0, 1);
    if (!req->may_block)
        sg_metric_add(SG_METRIC_GET_METADATA_CACHE_HIT, 0, 1);
    err = answer_asset(req, res, e);
    sg_asset_entry_unref(e);
    return err;
}

/* ---- change ---- */

struct change {
    const struct sg_asset_edit *edit; /* NULL: delete */
    const char *id;
    uint64_t expected;      /* version, 0: whichever is there when its turn comes */
    struct sg_asset *after; /* what an edit made; the caller's */
    bool ended_upload;      /* out: of a delete */
    struct sg_audit_event event;
};

static void apply_edit(const struct sg_asset_edit *edit, struct sg_asset_fields *f)
{
    if (edit->title != NULL)
        f->title = edit->title;
    if (edit->description != NULL)
        f->description = edit->description;
    if (edit->tags_json != NULL)
        f->tags_json = edit->tags_json;
    if (edit->custom_json != NULL)
        f->custom_json = edit->custom_json;
    if (edit->has_policy)
        f->policy = edit->policy;
    f->updated_ms = sg_clock_wall_ms();
}

/* The row is read in the transaction that writes it, so no change of another's is in between. */
static enum sg_error edit_row(struct sg_db_conn *c, struct change *ch)
{
    struct sg_asset *now = NULL;
    enum sg_error err = sg_asset_get(c, ch->id, &now);
    if (err != SG_OK)
        return err;
    struct sg_asset_fields f = now->f;
    apply_edit(ch->edit, &f);
    err = sg_asset_update(c, &f, ch->expected != 0 ? ch->expected : f.version);
    f.version++;
    if (err == SG_OK)
        err = sg_asset_create(&f, &ch->after);
    sg_asset_unref(now);
    return err;
}

/* An upload that is being made into the asset would make it again. */
static enum sg_error delete_rows(struct sg_db_conn *c, struct change *ch)
{
    enum sg_error err = sg_asset_delete(c, ch->id, ch->expected);
    if (err != SG_OK)
        return err;
    err = sg_upload_delete_processing(c, ch->id);
    ch->ended_upload = err == SG_OK;
    return err == SG_ERR_NOT_FOUND ? SG_OK : err;
}

static enum sg_error change_rows(struct sg_db_conn *c, void *arg)
{
    struct change *ch = arg;
    enum sg_error err = ch->edit != NULL ? edit_row(c, ch) : delete_rows(c, ch);
    return err != SG_OK ? err : sg_audit_append(c, &ch->event);
}

static enum sg_error commit_change(struct sg_request *req, struct change *ch, const char *action)
{
    ch->event = (struct sg_audit_event){
        .event_type = "data",
        .actor = req->identity.user_id,
        .action = action,
        .resource = sg_arena_printf(req->arena, "asset/%s", ch->id),
        .result = "success",
        .request_id = req->id,
    };
    if (ch->event.resource == NULL)
        return SG_ERR_NO_MEMORY;
    enum sg_error err = sg_db_write(req->svc->db, change_rows, ch);
    sg_asset_cache_invalidate(req->svc->assets, ch->id);
    if (err == SG_ERR_NOT_FOUND)
        return sg_request_fail(req, err, NULL, "there is no asset of this id");
    if (err == SG_ERR_PRECONDITION_FAILED)
        return sg_request_fail(req, err, "If-Match", "the asset has changed since");
    return err;
}

/* expected: the version that a change must find, 0 when any will do. */
static enum sg_error check_if_match(struct sg_request *req, const struct sg_asset *asset,
                                    uint64_t *expected)
{
    char etag[SG_ETAG_SIZE];
    sg_asset_etag(asset, etag);
    if (sg_conditional_if_match(req, etag) != SG_OK)
        return sg_request_fail(req, SG_ERR_PRECONDITION_FAILED, "If-Match",
                               "the asset has changed since; its ETag is %s", etag);
    *expected = sg_conditional_has_tags(req) ? asset->f.version : 0;
    return SG_OK;
}

static enum sg_error parse_patch(struct sg_request *req, struct sg_asset_edit *edit)
{
    json_t *patch = NULL;
    enum sg_error err = sg_request_json(req, false, &patch);
    if (err != SG_OK)
        return err;
    const char *name;
    json_t *value;
    json_object_foreach(patch, name, value)
    {
        err = sg_asset_edit_json(req, edit, name, value);
        if (err != SG_OK)
            break;
    }
    json_decref(patch);
    return err;
}

static enum sg_error asset_patch(struct sg_request *req, struct sg_response *res)
{
    struct sg_asset_edit edit = {0};
    struct change ch = {.edit = &edit};
    struct sg_asset_entry *e = NULL;
    enum sg_error err = sg_asset_load_owned(req, false, &e);
    if (err == SG_OK)
        err = check_if_match(req, e->asset, &ch.expected);
    if (err == SG_OK)
        err = parse_patch(req, &edit);
    if (err != SG_OK)
        goto out;
    ch.id = e->asset->f.id;
    err = commit_change(req, &ch, "asset.update");
    if (err != SG_OK)
        goto out;
    sg_metric_add(SG_METRIC_UPDATE_METADATA_SUCCESS, 0, 1);
    err = answer_asset(req, res,
                       &(struct sg_asset_entry){.asset = ch.after,
                                                .index = e->index,
                                                .renditions = e->renditions,
                                                .subtitles = e->subtitles,
                                                .shows = e->shows});
out:
    sg_asset_unref(ch.after);
    sg_asset_entry_unref(e);
    return err;
}

/* Its rows went with the asset's. What makes more of it has nothing to make it for. */
static void drop_renditions(struct sg_services *svc, const struct sg_asset_entry *e)
{
    for (size_t i = 0; i < e->renditions.n; i++) {
        const struct sg_rendition *r = &e->renditions.items[i];
        enum sg_job_state state;
        if (r->state == SG_RENDITION_WAITING) {
            enum sg_error err = sg_jobs_cancel(svc->jobs, r->job_id, NULL, &state);
            if (err != SG_OK && err != SG_ERR_CONFLICT && err != SG_ERR_NOT_FOUND)
                sg_warn_log("metadata", "job %s goes on for nothing: %s", r->job_id,
                            sg_error_title(err));
        }
        sg_content_invalidate(svc->content, r->id, strlen(r->id));
        if (sg_blob_remove(svc->blobs, r->id) != SG_OK)
            sg_warn_log("metadata", "file of rendition %s could not be removed yet", r->id);
    }
}

static enum sg_error asset_delete(struct sg_request *req, struct sg_response *res)
{
    struct change ch = {0};
    struct sg_asset_entry *e = NULL;
    enum sg_error err = sg_asset_load_owned(req, false, &e);
    if (err == SG_OK)
        err = check_if_match(req, e->asset, &ch.expected);
    if (err != SG_OK)
        goto out;
    const char *id = e->asset->f.id;
    ch.id = id;
    err = commit_change(req, &ch, "asset.delete");
    if (err != SG_OK)
        goto out;
    if (ch.ended_upload)
        sg_metric_gauge_add(SG_METRIC_UPLOAD_OPEN, 0, -1);
    sg_content_invalidate(req->svc->content, id, strlen(id));
    /* The row is gone, so the asset is; a file that stays behind is removed by the next start. */
    if (sg_blob_remove(req->svc->blobs, id) != SG_OK)
        sg_warn_log("metadata", "file of deleted asset %s could not be removed yet", id);
    drop_renditions(req->svc, e);
    sg_media_sweep(req->svc->media, req->svc->media_processes);
    sg_metric_add(SG_METRIC_DELETE_METADATA_SUCCESS, 0, 1);
    sg_response_empty(res, 204);
out:
    sg_asset_entry_unref(e);
    return err;
}

/* ---- list ---- */

static enum sg_error list_owner(struct sg_request *req, struct sg_asset_query *q)
{
    enum sg_error err = sg_request_query(req, "owner", &q->owner);
    if (err != SG_OK || req->identity.role == SG_ROLE_ADMIN)
        return err;
    if (q->owner != NULL && strcmp(q->owner, req->identity.user_id) != 0)
        return sg_request_fail(req, SG_ERR_FORBIDDEN, "owner",
                               "only an admin lists the assets of others");
    q->owner = req->identity.user_id;
    return SG_OK;
}

static enum sg_error list_query(struct sg_request *req, struct sg_asset_query *q)
{
    const char *status = NULL, *sort = NULL;
    uint64_t limit;
    enum sg_error err = list_owner(req, q);
    if (err == SG_OK)
        err = sg_request_query(req, "q", &q->text);
    if (err == SG_OK)
        err = sg_request_query(req, "tag", &q->tag);
    if (err == SG_OK)
        err = sg_request_query(req, "cursor", &q->cursor);
    if (err == SG_OK)
        err = sg_request_query(req, "status", &status);
    if (err == SG_OK)
        err = sg_request_query(req, "sort", &sort);
    if (err == SG_OK)
        err = sg_request_query_u64(req, "limit", 1, 200, 50, &limit);
    if (err != SG_OK)
        return err;
    q->limit = (unsigned)limit;
    enum sg_asset_status parsed;
    if (status != NULL && sg_asset_status_parse(status, &parsed) != SG_OK)
        return sg_request_fail(req, SG_ERR_INVALID, "status",
                               "must be created, uploading, processing, ready or failed");
    q->status = status != NULL ? (int)parsed : -1;
    if (sort != NULL && sg_asset_sort_parse(sort, &q->sort) != SG_OK)
        return sg_request_fail(req, SG_ERR_INVALID, "sort",
                               "must be -created_at, created_at, -updated_at or title");
    return SG_OK;
}

struct list_read {
    const struct sg_asset_query *q;
    struct sg_asset_list list;
};

static enum sg_error read_list(struct sg_db_conn *c, void *arg)
{
    struct list_read *r = arg;
    return sg_asset_list(c, r->q, &r->list);
}

/* Each item through the memory of assets, so that its renditions are there; one deleted meanwhile
 * is left out. */
static enum sg_error list_items(struct sg_request *req, const struct sg_asset_list *list,
                                json_t *items)
{
    for (size_t i = 0; i < list->n; i++) {
        struct sg_asset_entry *e = NULL;
        enum sg_error err = sg_asset_load(req, list->items[i]->f.id, &e);
        if (err == SG_ERR_NOT_FOUND)
            continue;
        if (err != SG_OK)
            return err;
        int bad = json_array_append_new(items, sg_asset_json(req, e));
        sg_asset_entry_unref(e);
        if (bad != 0)
            return SG_ERR_NO_MEMORY;
    }
    return SG_OK;
}

static enum sg_error asset_list(struct sg_request *req, struct sg_response *res)
{
    struct sg_asset_query q = {0};
    enum sg_error err = list_query(req, &q);
    if (err != SG_OK)
        return err;
    struct list_read read = {.q = &q};
    err = sg_db_read(req->svc->db, read_list, &read);
    if (err == SG_ERR_INVALID)
        return q.cursor != NULL
                   ? sg_request_fail(req, err, "cursor", "is not one of this list's cursors")
                   : sg_request_fail(req, err, "q", "must be at most 1,024 bytes and 32 words");
    if (err != SG_OK)
        return err;
    json_t *body = json_object(), *items = json_array();
    err = items != NULL ? list_items(req, &read.list, items) : SG_ERR_NO_MEMORY;
    size_t n = json_array_size(items);
    int bad = json_object_set_new(body, "items", items);
    bad |= json_object_set_new(body, "next_cursor",
                               read.list.next_cursor != NULL ? json_string(read.list.next_cursor)
                                                             : json_null());
    sg_asset_list_free(&read.list);
    if (err == SG_OK && bad != 0)
        err = SG_ERR_NO_MEMORY;
    if (err != SG_OK) {
        json_decref(body);
        return err;
    }
    sg_metric_add(SG_METRIC_SEARCH_METADATA_SUCCESS, 0, 1);
    sg_metric_add(SG_METRIC_SEARCH_METADATA_RESULTS, 0, n);
    return sg_response_json(res, 200, body);
}

static const struct sg_param_doc list_params[] = {
    {"q", "string", "Words to find in title, description, tags and file name"},
    {"tag", "string", "Only assets with this tag"},
    {"status", "string", "created, uploading, processing, ready or failed"},
    {"owner", "string", "User id; only admins see others' assets"},
    {"sort", "string", "-created_at (default), created_at, -updated_at or title"},
    {"limit", "integer", "1 to 200, 50 by default"},
    {"cursor", "string", "next_cursor of the previous page"},
};

#define ASSET_SCHEMA "{\"$ref\":\"#/components/schemas/Asset\"}"
#define LIST_SCHEMA                                                                                \
    "{\"type\":\"object\",\"properties\":{\"items\":{\"type\":\"array\",\"items\":" ASSET_SCHEMA   \
    "},\"next_cursor\":{\"type\":[\"string\",\"null\"]}}}"
#define PATCH_SCHEMA                                                                               \
    "{\"type\":\"object\",\"properties\":{\"title\":{\"type\":\"string\"},\"description\":{"       \
    "\"type\":\"string\"},\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},"          \
    "\"custom\":{\"type\":\"object\"},\"policy\":{\"type\":\"string\",\"enum\":[\"public\","       \
    "\"signed\"]}},\"additionalProperties\":false}"

static const struct sg_route routes[] = {
    {.method = SG_GET,
     .path = "/api/v1/assets",
     .handle = asset_list,
     .role = SG_ROLE_VIEWER,
     .limit = SG_LIMIT_METADATA,
     .blocking = true,
     .summary = "List and search assets",
     .query = list_params,
     .n_query = SG_ARRAY_LEN(list_params),
     .response_schema = LIST_SCHEMA},
    {.method = SG_GET,
     .path = "/api/v1/assets/{id}",
     .handle = asset_get,
     .role = SG_ROLE_VIEWER,
     .limit = SG_LIMIT_METADATA,
     .cache = SG_CACHE_REVALIDATE,
     .summary = "Fetch one asset",
     .response_schema = ASSET_SCHEMA},
    {.method = SG_PATCH,
     .path = "/api/v1/assets/{id}",
     .handle = asset_patch,
     .body = SG_BODY_JSON,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_METADATA,
     .blocking = true,
     .summary = "Change an asset; If-Match guards against lost updates",
     .request_schema = PATCH_SCHEMA,
     .response_schema = ASSET_SCHEMA},
    {.method = SG_DELETE,
     .path = "/api/v1/assets/{id}",
     .handle = asset_delete,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_METADATA,
     .blocking = true,
     .summary = "Delete an asset and its files",
     .success = 204},
};

const struct sg_module sg_metadata_module = {
    .name = "metadata", .routes = routes, .n_routes = SG_ARRAY_LEN(routes)};
