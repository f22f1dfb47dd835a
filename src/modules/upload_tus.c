/* tus 1.0.0 (https://tus.io/protocols/resumable-upload) with creation, creation-with-upload,
 * creation-defer-length, checksum, concatenation, expiration and termination. HEAD reads the row
 * and waits for nobody; a PATCH takes the upload over from one that hangs. */
#include "upload_tus.h"

#include <inttypes.h>
#include <string.h>

#include "streamgate/base/log.h"
#include "streamgate/modules/modules.h"

/* ---- OPTIONS ---- */

static enum sg_error tus_options(struct sg_request *req, struct sg_response *res)
{
    static const struct sg_header offers[] = {
        {"Tus-Version", "1.0.0"},
        {"Tus-Extension", "creation,creation-with-upload,creation-defer-length,checksum,"
                          "concatenation,expiration,termination"},
        {"Tus-Checksum-Algorithm", SG_TUS_ALGORITHMS},
    };
    uint64_t max = sg_config_uint(sg_services_config(req->svc), SG_SET_upload_max_size);
    sg_response_empty(res, 204);
    enum sg_error err = sg_response_headerf(req, res, "Tus-Max-Size", "%" PRIu64, max);
    for (size_t i = 0; i < SG_ARRAY_LEN(offers) && err == SG_OK; i++)
        err = sg_response_header(req, res, offers[i].name, offers[i].value);
    return err;
}

/* ---- HEAD ---- */

static enum sg_error add_state(struct sg_request *req, struct sg_response *res,
                               const struct sg_upload_fields *f)
{
    enum sg_error err = sg_response_headerf(req, res, "Upload-Offset", "%" PRIu64, f->offset_bytes);
    if (err == SG_OK)
        err = f->has_size
                  ? sg_response_headerf(req, res, "Upload-Length", "%" PRIu64, f->size_bytes)
                  : sg_response_header(req, res, "Upload-Defer-Length", "1");
    if (err == SG_OK && f->metadata[0] != '\0')
        err = sg_response_header(req, res, "Upload-Metadata", f->metadata);
    if (err == SG_OK && f->kind == SG_UPLOAD_TUS_PARTIAL)
        err = sg_response_header(req, res, "Upload-Concat", "partial");
    if (err == SG_OK && f->kind == SG_UPLOAD_TUS_FINAL)
        err = sg_response_headerf(req, res, "Upload-Concat", "final;%s", f->parts);
    if (err == SG_OK && f->state == SG_UPLOAD_ACTIVE)
        err = tus_add_expires(req, res, f->expires_ms);
    if (err == SG_OK && f->state == SG_UPLOAD_DONE)
        err = tus_add_asset(req, res, f->id);
    return err;
}

static enum sg_error refuse_failed(struct sg_request *req, const struct sg_upload_fields *f)
{
    return sg_request_fail(req, SG_ERR_GONE, NULL, "the upload failed: %s", f->error_detail);
}

static enum sg_error tus_head(struct sg_request *req, struct sg_response *res)
{
    struct sg_upload *row = NULL;
    enum sg_error err = tus_check_version(req);
    if (err != SG_OK)
        return err;
    if (!req->may_block)
        return SG_ERR_WOULD_BLOCK;
    err = upload_load(req, sg_request_param(req, "id"), UPLOAD_KINDS_TUS, &row);
    if (err != SG_OK)
        return err;
    sg_response_empty(res, 200);
    res->cache_control = "no-store";
    err = upload_check_owed(req->svc, &row->f);
    if (err == SG_ERR_QUOTA)
        err = tus_fail_owed(req);
    else if (err == SG_OK)
        err = row->f.state == SG_UPLOAD_FAILED ? refuse_failed(req, &row->f)
                                               : add_state(req, res, &row->f);
    sg_upload_free(&row);
    return err;
}

/* ---- PATCH ---- */

struct size_write {
    const struct sg_config *cfg;
    const char *id, *owner;
    uint64_t size_bytes, more;
};

static enum sg_error write_size(struct sg_db_conn *c, void *arg)
{
    const struct size_write *w = arg;
    enum sg_error err = upload_quota_grow(c, w->cfg, w->owner, w->more);
    return err != SG_OK ? err : sg_upload_set_size(c, w->id, w->size_bytes);
}

/* Upload-Length with a PATCH: for an upload whose length was deferred. */
static enum sg_error settle_length(struct sg_request *req, struct tus_state *t,
                                   const struct sg_upload_fields *f)
{
    const uint64_t offset = f->offset_bytes;
    uint64_t max = sg_config_uint(sg_services_config(req->svc), SG_SET_upload_max_size);
    if (!t->has_length || (t->has_size && t->length == t->size_bytes))
        return SG_OK;
    if (t->has_size)
        return sg_request_fail(req, SG_ERR_INVALID, "Upload-Length",
                               "is %" PRIu64 " already and cannot be changed", t->size_bytes);
    if (t->length < offset || (t->length == 0 && t->kind == SG_UPLOAD_TUS))
        return sg_request_fail(req, SG_ERR_INVALID, "Upload-Length",
                               "must not be less than what is there");
    if (t->length > max)
        return sg_request_fail(req, SG_ERR_TOO_LARGE, "Upload-Length",
                               "must be at most %" PRIu64 " bytes", max);
    if (req->content_length > t->length - offset)
        return sg_request_fail(req, SG_ERR_TOO_LARGE, "Content-Length",
                               "must not be more than what is missing");
    enum sg_error err = upload_quota_check(req, t->length - offset, UPLOAD_NO_ASSET);
    struct size_write w = {.cfg = sg_services_config(req->svc),
                           .id = t->id,
                           .owner = f->owner,
                           .size_bytes = t->length,
                           .more = t->length - offset};
    if (err == SG_OK)
        err = sg_db_write(req->svc->db, write_size, &w);
    if (err == SG_ERR_CONFLICT)
        return sg_request_fail(req, err, "Upload-Length", "another request changed the upload");
    if (err == SG_ERR_QUOTA && req->fail_detail == NULL)
        return sg_request_fail(req, err, NULL, "This would exceed your quota");
    t->has_size = true;
    t->size_bytes = t->length;
    return err;
}

static enum sg_error check_row(struct sg_request *req, const struct sg_upload_fields *f,
                               uint64_t offset)
{
    if (f->kind == SG_UPLOAD_TUS_FINAL)
        return sg_request_fail(req, SG_ERR_FORBIDDEN, NULL, "a final upload takes no bytes");
    if (f->state == SG_UPLOAD_FAILED)
        return refuse_failed(req, f);
    /* Before anybody is broken off for it. */
    return f->offset_bytes != offset ? tus_offset_conflict(req, f->offset_bytes) : SG_OK;
}

static enum sg_error read_patch(struct sg_request *req, struct tus_state *t, uint64_t *offset)
{
    bool has_offset = false;
    enum sg_error err = tus_check_version(req);
    if (err == SG_OK)
        err = tus_check_type(req);
    if (err == SG_OK)
        err = tus_number(req, "Upload-Offset", &has_offset, offset);
    if (err == SG_OK && !has_offset)
        err = sg_request_fail(req, SG_ERR_INVALID, "Upload-Offset", "must be given");
    if (err == SG_OK)
        err = tus_number(req, "Upload-Length", &t->has_length, &t->length);
    return err == SG_OK ? tus_read_checksum(req, t) : err;
}

static enum sg_error open_patch(struct sg_request *req, struct tus_state *t, uint64_t offset)
{
    struct sg_upload *row = NULL;
    enum sg_error err = upload_load(req, sg_request_param(req, "id"), UPLOAD_KINDS_TUS, &row);
    if (err != SG_OK)
        return err;
    const struct sg_upload_fields *f = &row->f;
    err = check_row(req, f, offset);
    memcpy(t->id, f->id, sizeof t->id);
    t->kind = f->kind;
    t->has_size = f->has_size;
    t->size_bytes = f->size_bytes;
    t->settled = f->state == SG_UPLOAD_DONE;
    if (err == SG_OK)
        err = settle_length(req, t, f);
    sg_upload_free(&row);
    /* One that is complete is told so again: the answer to its last bytes may have been lost. */
    if (err == SG_OK && t->settled && !tus_has_body(req)) {
        t->begun_at = offset;
        return SG_OK;
    }
    return err == SG_OK ? tus_body_open(req, t, offset) : err;
}

static enum sg_error tus_patch_begin(struct sg_request *req)
{
    struct tus_state *t = req->state;
    uint64_t offset = 0;
    enum sg_error err = t == NULL ? tus_state_create(req, &t) : SG_OK;
    if (err == SG_OK)
        err = read_patch(req, t, &offset);
    if (err != SG_OK)
        return err;
    return req->may_block ? open_patch(req, t, offset) : SG_ERR_WOULD_BLOCK;
}

static enum sg_error tus_patch(struct sg_request *req, struct sg_response *res)
{
    struct tus_state *t = req->state;
    sg_response_empty(res, 204);
    if (t->append != NULL)
        return tus_body_finish(req, res, t);
    enum sg_error err = sg_response_headerf(req, res, "Upload-Offset", "%" PRIu64, t->begun_at);
    return err == SG_OK && t->kind == SG_UPLOAD_TUS ? tus_add_asset(req, res, t->id) : err;
}

/* ---- DELETE ---- */

static enum sg_error tus_delete(struct sg_request *req, struct sg_response *res)
{
    struct sg_upload *row = NULL;
    enum sg_error err = tus_check_version(req);
    if (err == SG_OK)
        err = upload_load(req, sg_request_param(req, "id"), UPLOAD_KINDS_TUS, &row);
    if (err != SG_OK)
        return err;
    err = upload_remove(req->svc, row->f.id, req->identity.user_id, "upload.abort", req->id);
    sg_upload_free(&row);
    if (err == SG_ERR_NOT_FOUND)
        return sg_request_fail(req, err, NULL, "there is no such upload");
    if (err == SG_OK)
        sg_response_empty(res, 204);
    return err;
}

/* ---- rows ---- */

static const struct sg_header spoken[] = {{"Tus-Resumable", "1.0.0"}};
#define SPOKEN .headers = spoken, .n_headers = SG_ARRAY_LEN(spoken)

static const struct sg_route routes[] = {
    {.method = SG_OPTIONS,
     .path = TUS_PATH,
     .handle = tus_options,
     .summary = "What of tus is offered",
     .success = 204,
     SPOKEN},
    {.method = SG_OPTIONS,
     .path = TUS_PATH "/{id}",
     .handle = tus_options,
     .summary = "What of tus is offered",
     .success = 204,
     SPOKEN},
    {.method = SG_POST,
     .path = TUS_PATH,
     .handle = tus_post,
     .body = SG_BODY_STREAM,
     .body_begin = tus_post_begin,
     .body_data = tus_body_data,
     .max_body = SG_SET_upload_max_size,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_UPLOAD,
     .blocking = true,
     .summary = "Begin a tus upload, a part of one, or join parts",
     .request_type = "application/offset+octet-stream",
     .success = 201,
     SPOKEN},
    {.method = SG_HEAD,
     .path = TUS_PATH "/{id}",
     .handle = tus_head,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_METADATA,
     .overridable = true,
     .summary = "How far a tus upload is",
     SPOKEN},
    {.method = SG_PATCH,
     .path = TUS_PATH "/{id}",
     .handle = tus_patch,
     .body = SG_BODY_STREAM,
     .body_begin = tus_patch_begin,
     .body_data = tus_body_data,
     .max_body = SG_SET_upload_max_size,
     .role = SG_ROLE_CREATOR,
     /* Parts of one upload: the rate that is right for uploads would end one with small
      * chunks in a 429, which clients do not try again. */
     .limit = SG_LIMIT_DEFAULT,
     .blocking = true,
     .overridable = true,
     .summary = "The next bytes of a tus upload",
     .request_type = "application/offset+octet-stream",
     .success = 204,
     SPOKEN},
    {.method = SG_DELETE,
     .path = TUS_PATH "/{id}",
     .handle = tus_delete,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_METADATA,
     .blocking = true,
     .overridable = true,
     .summary = "Abort a tus upload; of one that is done, forget it (the asset stays)",
     .success = 204,
     SPOKEN},
};

const struct sg_module sg_tus_module = {
    .name = "tus", .routes = routes, .n_routes = SG_ARRAY_LEN(routes)};
