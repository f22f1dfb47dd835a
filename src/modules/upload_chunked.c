/* Chunked uploads: announced, sent in numbered chunks in any order, completed; and the one view of
 * all uploads that outlive a request, whichever way they come in (status, list, abort). */
#include "upload_chunked.h"

#include <inttypes.h>
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/base/validate.h"
#include "streamgate/http/asset_view.h"
#include "streamgate/modules/modules.h"

#include "upload_counts.h"

/* ---- create ---- */

struct announced {
    const char *filename;             /* arena; NULL: not given */
    uint64_t size_bytes, chunk_bytes; /* 0: not given */
    bool has_sha256;
    uint8_t sha256[SG_SHA256_LEN];
    struct sg_asset_edit edit;
};

static enum sg_error take_bytes(struct sg_request *req, const char *name, const json_t *value,
                                uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) <= 0)
        return sg_request_fail(req, SG_ERR_INVALID, name,
                               "must be a number of bytes, an integer above 0");
    *out = (uint64_t)json_integer_value(value);
    return SG_OK;
}

static enum sg_error take_member(struct sg_request *req, struct announced *a, const char *name,
                                 const json_t *value)
{
    if (strcmp(name, "filename") == 0)
        return upload_take_filename(req, value, &a->filename);
    if (strcmp(name, "size") == 0)
        return take_bytes(req, "size", value, &a->size_bytes);
    if (strcmp(name, "chunk_size") == 0)
        return take_bytes(req, "chunk_size", value, &a->chunk_bytes);
    if (strcmp(name, "sha256") != 0)
        return sg_asset_edit_json(req, &a->edit, name, value);
    a->has_sha256 = true;
    return upload_take_sha256(req, value, a->sha256);
}

/* The client's chunk length, else the configured one, longer where the file would have too many. */
static enum sg_error choose_chunk(struct sg_request *req, struct announced *a)
{
    const struct sg_config *cfg = sg_services_config(req->svc);
    uint64_t most = sg_config_uint(cfg, SG_SET_upload_max_chunks);
    uint64_t least = sg_config_uint(cfg, SG_SET_upload_min_chunk_size);
    uint64_t needed = (a->size_bytes - 1) / most + 1;
    if (a->chunk_bytes == 0) {
        uint64_t usual = sg_config_uint(cfg, SG_SET_upload_chunk_size);
        a->chunk_bytes = usual > needed ? usual : needed;
        return SG_OK;
    }
    if (a->chunk_bytes < least && a->chunk_bytes < a->size_bytes)
        return sg_request_fail(req, SG_ERR_INVALID, "chunk_size",
                               "must be at least %" PRIu64 " bytes, or the whole size", least);
    if (a->chunk_bytes < needed)
        return sg_request_fail(req, SG_ERR_INVALID, "chunk_size",
                               "must be at least %" PRIu64
                               " bytes, as an upload has at most %" PRIu64 " chunks",
                               needed, most);
    return SG_OK;
}

static enum sg_error read_announced(struct sg_request *req, struct announced *a)
{
    json_t *body = NULL;
    enum sg_error err = sg_request_json(req, false, &body);
    if (err != SG_OK)
        return err;
    const char *name;
    json_t *value;
    json_object_foreach(body, name, value)
    {
        err = take_member(req, a, name, value);
        if (err != SG_OK)
            break;
    }
    json_decref(body);
    if (err != SG_OK)
        return err;
    if (a->filename == NULL)
        return sg_request_fail(req, SG_ERR_INVALID, "filename", "must be given");
    if (a->size_bytes == 0)
        return sg_request_fail(req, SG_ERR_INVALID, "size", "must be given");
    return choose_chunk(req, a);
}

static enum sg_error answer_upload(struct sg_request *req, struct sg_response *res, unsigned status,
                                   const struct sg_upload *u)
{
    json_t *body = upload_json(req, u);
    return body != NULL ? sg_response_json(res, status, body) : SG_ERR_UNAVAILABLE;
}

static enum sg_error upload_create(struct sg_request *req, struct sg_response *res)
{
    struct announced a = {0};
    enum sg_error err = read_announced(req, &a);
    if (err != SG_OK)
        return err;
    struct sg_upload u;
    upload_fill(req, &a.edit, &u.f);
    u.f.kind = SG_UPLOAD_CHUNKED;
    u.f.filename = a.filename;
    u.f.has_size = true;
    u.f.size_bytes = a.size_bytes;
    u.f.chunk_bytes = a.chunk_bytes;
    u.f.has_sha256 = a.has_sha256;
    memcpy(u.f.sha256, a.sha256, SG_SHA256_LEN);
    err = upload_insert(req, &u.f);
    if (err == SG_OK)
        upload_count_begun(INGEST_CHUNKED);
    if (err == SG_OK)
        err = answer_upload(req, res, 201, &u);
    if (err != SG_OK)
        return err;
    return sg_response_headerf(req, res, "Location", "/api/v1/uploads/%s", u.f.id);
}

/* ---- read, remove ---- */

static enum sg_error upload_show(struct sg_request *req, struct sg_response *res)
{
    struct sg_upload *u = NULL;
    enum sg_error err = upload_load(req, sg_request_param(req, "id"), UPLOAD_KINDS_ALL, &u);
    if (err == SG_OK)
        err = answer_upload(req, res, 200, u);
    sg_upload_free(&u);
    return err;
}

#define DELETE_TRIES 8

/* A newer completion or abort may have taken over: then there is another state to end. */
static enum sg_error remove_settled(struct sg_request *req, const char *id)
{
    enum sg_error err = SG_ERR_SUPERSEDED;
    for (int i = 0; i < DELETE_TRIES && err == SG_ERR_SUPERSEDED; i++)
        err = upload_remove(req->svc, id, req->identity.user_id, "upload.abort", req->id);
    return err;
}

static enum sg_error upload_delete(struct sg_request *req, struct sg_response *res)
{
    struct sg_upload *u = NULL;
    enum sg_error err = upload_load(req, sg_request_param(req, "id"), UPLOAD_KINDS_ALL, &u);
    if (err == SG_OK)
        err = remove_settled(req, u->f.id);
    sg_upload_free(&u);
    if (err == SG_ERR_NOT_FOUND && req->fail_detail == NULL)
        return sg_request_fail(req, err, NULL, "there is no such upload");
    if (err == SG_OK)
        sg_response_empty(res, 204);
    return err;
}

/* ---- list ---- */

static enum sg_error list_owner(struct sg_request *req, struct sg_upload_query *q)
{
    enum sg_error err = sg_request_query(req, "owner", &q->owner);
    if (err != SG_OK || req->identity.role == SG_ROLE_ADMIN)
        return err;
    if (q->owner != NULL && strcmp(q->owner, req->identity.user_id) != 0)
        return sg_request_fail(req, SG_ERR_FORBIDDEN, "owner",
                               "only an admin lists the uploads of others");
    q->owner = req->identity.user_id;
    return SG_OK;
}

static enum sg_error list_status(struct sg_request *req, struct sg_upload_query *q)
{
    const char *status;
    enum sg_error err = sg_request_query(req, "status", &status);
    q->state = -1;
    if (err != SG_OK || status == NULL)
        return err;
    for (int s = 0; s < SG_UPLOAD_STATE_COUNT; s++) {
        if (strcmp(status, sg_upload_state_name((enum sg_upload_state)s)) == 0)
            q->state = s;
    }
    if (q->state < 0)
        return sg_request_fail(req, SG_ERR_INVALID, "status",
                               "must be active, processing, done or failed");
    return SG_OK;
}

static enum sg_error list_kind(struct sg_request *req, struct sg_upload_query *q)
{
    const char *kind;
    enum sg_error err = sg_request_query(req, "kind", &kind);
    q->kinds = UPLOAD_KINDS_ALL;
    if (err != SG_OK || kind == NULL)
        return err;
    for (int k = 0; k < SG_UPLOAD_KIND_COUNT; k++) {
        if (strcmp(kind, sg_upload_kind_name((enum sg_upload_kind)k)) == 0)
            q->kinds = UPLOAD_KIND_BIT(k);
    }
    if (q->kinds == UPLOAD_KINDS_ALL)
        return sg_request_fail(req, SG_ERR_INVALID, "kind",
                               "must be chunked, tus, tus-partial, tus-final or import");
    return SG_OK;
}

struct list_read {
    struct sg_upload_query q;
    struct sg_upload_list list;
};

static enum sg_error list_query(struct sg_request *req, struct sg_upload_query *q)
{
    uint64_t limit;
    enum sg_error err = list_owner(req, q);
    if (err == SG_OK)
        err = list_status(req, q);
    if (err == SG_OK)
        err = list_kind(req, q);
    if (err == SG_OK)
        err = sg_request_query(req, "cursor", &q->before);
    if (err == SG_OK)
        err = sg_request_query_u64(req, "limit", 1, 200, 50, &limit);
    if (err != SG_OK)
        return err;
    if (q->before != NULL && sg_validate_ulid(q->before, strlen(q->before)) != NULL)
        return sg_request_fail(req, SG_ERR_INVALID, "cursor", "is not one of this list's cursors");
    q->limit = (unsigned)limit + 1; /* one more tells whether there is a next page */
    return SG_OK;
}

static enum sg_error read_list(struct sg_db_conn *c, void *arg)
{
    struct list_read *r = arg;
    return sg_upload_list(c, &r->q, &r->list);
}

static json_t *list_json(struct sg_request *req, const struct list_read *r)
{
    bool more = r->list.n == r->q.limit;
    size_t n = more ? r->list.n - 1 : r->list.n;
    json_t *items = json_array(), *body = json_object();
    int bad = 0;
    for (size_t i = 0; i < n && bad == 0; i++)
        bad = json_array_append_new(items, upload_json(req, r->list.items[i]));
    bad |= json_object_set_new(body, "items", items);
    bad |= json_object_set_new(body, "next_cursor",
                               more ? json_string(r->list.items[n - 1]->f.id) : json_null());
    if (bad == 0)
        return body;
    json_decref(body);
    return NULL;
}

static enum sg_error upload_list(struct sg_request *req, struct sg_response *res)
{
    struct list_read r = {0};
    enum sg_error err = list_query(req, &r.q);
    if (err == SG_OK)
        err = sg_db_read(req->svc->db, read_list, &r);
    if (err != SG_OK)
        return err;
    json_t *body = list_json(req, &r);
    sg_upload_list_free(&r.list);
    return body != NULL ? sg_response_json(res, 200, body) : SG_ERR_UNAVAILABLE;
}

/* ---- rows ---- */

static const struct sg_param_doc list_params[] = {
    {"status", "string", "active, processing, done or failed"},
    {"kind", "string", "chunked, tus, tus-partial, tus-final or import"},
    {"owner", "string", "User id; only admins see others' uploads"},
    {"limit", "integer", "1 to 200, 50 by default"},
    {"cursor", "string", "next_cursor of the previous page"},
};

#define UPLOAD_SCHEMA "{\"$ref\":\"#/components/schemas/Upload\"}"
#define ASSET_SCHEMA "{\"$ref\":\"#/components/schemas/Asset\"}"
#define LIST_SCHEMA                                                                                \
    "{\"type\":\"object\",\"properties\":{\"items\":{\"type\":\"array\",\"items\":" UPLOAD_SCHEMA  \
    "},\"next_cursor\":{\"type\":[\"string\",\"null\"]}}}"
#define SHA256_SCHEMA "{\"type\":\"string\",\"pattern\":\"^[0-9A-Fa-f]{64}$\"}"
#define CREATE_SCHEMA                                                                              \
    "{\"type\":\"object\",\"required\":[\"filename\",\"size\"],\"properties\":{"                   \
    "\"filename\":{\"type\":\"string\",\"maxLength\":255},"                                        \
    "\"size\":{\"type\":\"integer\",\"minimum\":1,\"description\":\"bytes\"},"                     \
    "\"chunk_size\":{\"type\":\"integer\",\"minimum\":1,\"description\":\"bytes of every chunk "   \
    "but the last\"},"                                                                             \
    "\"sha256\":" SHA256_SCHEMA ","                                                                \
    "\"title\":{\"type\":\"string\"},\"description\":{\"type\":\"string\"},"                       \
    "\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},"                               \
    "\"policy\":{\"type\":\"string\",\"enum\":[\"public\",\"signed\"]},"                           \
    "\"playback_policy\":{\"type\":\"string\",\"enum\":[\"public\",\"signed\"]},"                  \
    "\"custom\":{\"type\":\"object\"}},\"additionalProperties\":false}"
#define COMPLETE_SCHEMA                                                                            \
    "{\"type\":\"object\",\"properties\":{\"sha256\":" SHA256_SCHEMA                               \
    "},\"additionalProperties\":false}"
#define CHUNK_SCHEMA                                                                               \
    "{\"type\":\"object\",\"required\":[\"chunk\",\"size\",\"sha256\",\"received_bytes\"],"        \
    "\"properties\":{\"chunk\":{\"type\":\"integer\"},\"size\":{\"type\":\"integer\"},"            \
    "\"sha256\":" SHA256_SCHEMA ",\"received_bytes\":{\"type\":\"integer\"}}}"

static const struct sg_route routes[] = {
    {.method = SG_POST,
     .path = "/api/v1/uploads",
     .handle = upload_create,
     .body = SG_BODY_JSON,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_UPLOAD,
     .blocking = true,
     .tag = "upload",
     .summary = "Begin a chunked upload",
     .request_schema = CREATE_SCHEMA,
     .response_schema = UPLOAD_SCHEMA,
     .success = 201},
    {.method = SG_GET,
     .path = "/api/v1/uploads",
     .handle = upload_list,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_METADATA,
     .blocking = true,
     .tag = "upload",
     .summary = "List uploads of several requests and imports, newest first",
     .query = list_params,
     .n_query = SG_ARRAY_LEN(list_params),
     .response_schema = LIST_SCHEMA},
    {.method = SG_GET,
     .path = "/api/v1/uploads/{id}",
     .handle = upload_show,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_METADATA,
     .blocking = true,
     .tag = "upload",
     .summary = "Fetch an upload's state: what was received, and what is missing",
     .response_schema = UPLOAD_SCHEMA},
    {.method = SG_PUT,
     .path = "/api/v1/uploads/{id}/chunks/{n}",
     .handle = chunk_put,
     .body = SG_BODY_STREAM,
     .body_begin = chunk_begin,
     .body_data = chunk_data,
     .max_body = SG_SET_upload_max_size,
     .role = SG_ROLE_CREATOR,
     /* Parts of one upload: the rate that is right for uploads would slow it to a few
      * chunks a second. */
     .limit = SG_LIMIT_DEFAULT,
     .blocking = true,
     .tag = "upload",
     .summary = "Send chunk n, from 0, in any order; the same again is fine",
     .request_type = "application/octet-stream",
     .response_schema = CHUNK_SCHEMA},
    {.method = SG_POST,
     .path = "/api/v1/uploads/{id}/complete",
     .handle = chunked_complete,
     .body = SG_BODY_JSON,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_UPLOAD,
     .blocking = true,
     .tag = "upload",
     .summary = "Make the asset of a chunked upload; again gives the same asset",
     .request_schema = COMPLETE_SCHEMA,
     .response_schema = ASSET_SCHEMA,
     .success = 201},
    {.method = SG_DELETE,
     .path = "/api/v1/uploads/{id}",
     .handle = upload_delete,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_UPLOAD,
     .blocking = true,
     .tag = "upload",
     .summary = "Abort an upload; of one that is done, forget it (the asset stays)",
     .success = 204},
};

const struct sg_module sg_chunked_module = {
    .name = "chunked", .routes = routes, .n_routes = SG_ARRAY_LEN(routes)};
