/* POST: a new upload, with its first bytes or without; a part of one; or one made of parts. */
#include <inttypes.h>
#include <string.h>

#include "upload_tus.h"

/* Upload-Length, or the promise of one. */
static enum sg_error read_length(struct sg_request *req, struct tus_state *t)
{
    const char *defer;
    enum sg_error err = tus_number(req, "Upload-Length", &t->has_length, &t->length);
    if (err == SG_OK)
        err = tus_field(req, "Upload-Defer-Length", &defer);
    if (err != SG_OK)
        return err;
    if (defer != NULL && strcmp(defer, "1") != 0)
        return sg_request_fail(req, SG_ERR_INVALID, "Upload-Defer-Length", "must be 1");
    bool whole = t->concatenates && t->concat == SG_TUS_FINAL;
    if (whole && (t->has_length || defer != NULL))
        return sg_request_fail(req, SG_ERR_INVALID, "Upload-Length",
                               "a final upload is as long as its parts");
    if (!whole && t->has_length == (defer != NULL))
        return sg_request_fail(req, SG_ERR_INVALID, "Upload-Length",
                               "either this or Upload-Defer-Length must be given");
    if (t->has_length && t->length == 0 && !t->concatenates)
        return sg_request_fail(req, SG_ERR_INVALID, "Upload-Length", "must be at least 1");
    return SG_OK;
}

static enum sg_error read_concat(struct sg_request *req, struct tus_state *t)
{
    const char *value;
    enum sg_error err = tus_field(req, "Upload-Concat", &value);
    if (err != SG_OK || value == NULL)
        return err;
    t->concatenates = true;
    if (sg_tus_concat_parse(value, &t->concat, &t->urls) != SG_OK)
        return sg_request_fail(req, SG_ERR_INVALID, "Upload-Concat",
                               "must be partial, or final; and the URLs of the parts");
    if (t->concat == SG_TUS_FINAL && tus_has_body(req))
        return sg_request_fail(req, SG_ERR_INVALID, "Upload-Concat",
                               "a final upload takes no bytes of its own");
    return SG_OK;
}

static enum sg_error read_head(struct sg_request *req, struct tus_state *t)
{
    enum sg_error err = tus_check_version(req);
    if (err == SG_OK && tus_has_body(req))
        err = tus_check_type(req);
    if (err == SG_OK)
        err = read_concat(req, t);
    if (err == SG_OK)
        err = read_length(req, t);
    if (err == SG_OK && tus_has_body(req))
        err = tus_read_checksum(req, t);
    if (err == SG_OK)
        err = tus_read_metadata(req, t);
    uint64_t max = sg_config_uint(sg_services_config(req->svc), SG_SET_upload_max_size);
    if (err == SG_OK && t->has_length && t->length > max)
        err = sg_request_fail(req, SG_ERR_TOO_LARGE, "Upload-Length",
                              "must be at most %" PRIu64 " bytes", max);
    if (err == SG_OK && t->has_length && req->content_length > t->length)
        err = sg_request_fail(req, SG_ERR_TOO_LARGE, "Content-Length",
                              "must not be more than Upload-Length");
    return err;
}

static enum sg_error create(struct sg_request *req, struct tus_state *t)
{
    struct sg_upload_fields f;
    upload_fill(req, &t->edit, &f);
    f.kind = t->concatenates ? SG_UPLOAD_TUS_PARTIAL : SG_UPLOAD_TUS;
    f.filename = t->filename;
    f.metadata = t->metadata;
    f.has_size = t->has_length;
    f.size_bytes = t->length;
    enum sg_error err = upload_insert(req, &f);
    if (err != SG_OK)
        return err;
    memcpy(t->id, f.id, sizeof t->id);
    t->kind = f.kind;
    t->has_size = f.has_size;
    t->size_bytes = f.size_bytes;
    t->created = true;
    if (t->kind == SG_UPLOAD_TUS)
        upload_count_begun(INGEST_TUS);
    return SG_OK;
}

/* Without a body everything that blocks is left to the handler: one change of thread less. */
enum sg_error tus_post_begin(struct sg_request *req)
{
    struct tus_state *t = req->state;
    enum sg_error err = SG_OK;
    if (t == NULL) {
        err = tus_state_create(req, &t);
        if (err == SG_OK)
            err = read_head(req, t);
    }
    if (err != SG_OK || !tus_has_body(req))
        return err;
    if (!req->may_block)
        return SG_ERR_WOULD_BLOCK;
    err = create(req, t);
    if (err == SG_OK)
        err = tus_body_open(req, t, 0);
    t->refused = err != SG_OK;
    return err;
}

static enum sg_error answer(struct sg_request *req, struct sg_response *res, struct tus_state *t)
{
    const char *origin = sg_request_base_url(req);
    if (origin == NULL)
        return SG_ERR_NO_MEMORY;
    sg_response_empty(res, 201);
    return sg_response_headerf(req, res, "Location", "%s" TUS_PATH "/%s", origin, t->id);
}

enum sg_error tus_post(struct sg_request *req, struct sg_response *res)
{
    struct tus_state *t = req->state;
    enum sg_error err;
    if (t->concatenates && t->concat == SG_TUS_FINAL)
        err = tus_concatenate(req, res, t);
    else if (t->append != NULL)
        err = tus_body_finish(req, res, t);
    else
        err = create(req, t);
    if (err == SG_OK && tus_has_body(req) == false && !t->settled)
        err = tus_add_expires(req, res, upload_expiry_ms(req->svc, sg_clock_wall_ms()));
    return err != SG_OK ? err : answer(req, res, t);
}
