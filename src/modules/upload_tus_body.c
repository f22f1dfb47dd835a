/* The bytes of a tus upload, whichever request brings them. Invariant: an answer with Upload-Offset
 * is given only for bytes that are durable and recorded. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"

#include "upload_tus.h"

/* ---- state ---- */

/* A POST that was told of a failure will not ask for the upload it never heard of. */
struct leftover {
    struct sg_services *svc;
    char id[SG_ULID_SIZE], owner[SG_ULID_SIZE], request_id[SG_ULID_SIZE];
};

static void leftover_remove(void *arg)
{
    struct leftover *l = arg;
    enum sg_error err = upload_remove(l->svc, l->id, l->owner, "upload.abort", l->request_id);
    if (err != SG_OK && err != SG_ERR_NOT_FOUND)
        sg_warn_log("upload", "upload %s stays until it expires: %s", l->id, sg_error_title(err));
    free(l);
}

static void remove_later(struct sg_request *req, const struct tus_state *t)
{
    struct leftover *l = calloc(1, sizeof *l);
    if (l == NULL)
        return; /* it expires */
    l->svc = req->svc;
    memcpy(l->id, t->id, sizeof l->id);
    memcpy(l->owner, req->identity.user_id, sizeof l->owner);
    memcpy(l->request_id, req->id, sizeof l->request_id);
    if (sg_pool_submit(req->svc->blocking, leftover_remove, l) != SG_OK)
        free(l);
}

static void state_free(struct sg_request *req, void *state)
{
    struct tus_state *t = state;
    upload_append_abandon(&t->append);
    sg_digest_destroy(&t->digest);
    if (t->receiving)
        sg_metric_gauge_add(SG_METRIC_UPLOADS_IN_FLIGHT, 0, -1);
    if (t->created && t->refused)
        remove_later(req, t);
}

enum sg_error tus_state_create(struct sg_request *req, struct tus_state **out)
{
    struct tus_state *t = sg_arena_zalloc(req->arena, sizeof *t);
    if (t == NULL)
        return SG_ERR_NO_MEMORY;
    req->state = t;
    req->state_free = state_free;
    *out = t;
    return SG_OK;
}

/* ---- the beginning ---- */

enum sg_error tus_offset_conflict(struct sg_request *req, uint64_t offset)
{
    enum sg_error err = sg_request_answer_header(req, "Upload-Offset", "%" PRIu64, offset);
    return err != SG_OK ? err
                        : sg_request_fail(req, SG_ERR_CONFLICT, "Upload-Offset",
                                          "the upload goes on at %" PRIu64, offset);
}

/* What Content-Length announces; a body that does not is bounded as it comes. */
static enum sg_error check_fit(struct sg_request *req, const struct tus_state *t, uint64_t offset)
{
    uint64_t max = sg_config_uint(sg_services_config(req->svc), SG_SET_upload_max_size);
    uint64_t end = t->has_size ? t->size_bytes : max;
    if (req->content_length > (end > offset ? end - offset : 0))
        return sg_request_fail(req, SG_ERR_TOO_LARGE, "Content-Length",
                               "the upload must not become longer than %" PRIu64 " bytes", end);
    return t->has_size ? SG_OK : upload_quota_check(req, req->content_length, UPLOAD_NO_ASSET);
}

static enum sg_error open_append(struct sg_request *req, struct tus_state *t, uint64_t offset)
{
    const struct upload_append_params params = {.svc = req->svc,
                                                .id = t->id,
                                                .has_offset = true,
                                                .offset = offset,
                                                .all_or_nothing = t->has_checksum,
                                                .meets_quota = true};
    struct sg_upload *row = NULL;
    enum sg_error err = upload_append_open(&params, &row, &t->append);
    if (err == SG_ERR_CONFLICT && row != NULL && row->f.offset_bytes != offset)
        err = tus_offset_conflict(req, row->f.offset_bytes);
    else if (err == SG_ERR_CONFLICT)
        err = sg_request_fail(req, err, NULL, "the upload takes no more bytes");
    else if (err == SG_ERR_NOT_FOUND)
        err = sg_request_fail(req, err, NULL, "there is no such upload");
    sg_upload_free(&row);
    return err;
}

enum sg_error tus_body_open(struct sg_request *req, struct tus_state *t, uint64_t offset)
{
    enum sg_error err = check_fit(req, t, offset);
    if (err == SG_OK && t->has_checksum)
        err = sg_digest_create(t->checksum.algorithm, &t->digest);
    if (err == SG_OK)
        err = open_append(req, t, offset);
    if (err != SG_OK)
        return err;
    t->begun_at = offset;
    t->receiving = true;
    sg_metric_gauge_add(SG_METRIC_UPLOADS_IN_FLIGHT, 0, 1);
    return SG_OK;
}

/* ---- the bytes ---- */

enum sg_error tus_body_data(struct sg_request *req, const uint8_t *data, size_t len)
{
    struct tus_state *t = req->state;
    if (len == 0)
        return SG_OK;
    enum sg_error err = SG_ERR_TOO_LARGE;
    if (t->append != NULL) { /* else there was nothing left to take */
        uint64_t max = sg_config_uint(sg_services_config(req->svc), SG_SET_upload_max_size);
        uint64_t at = upload_append_received(t->append);
        if (t->has_size || (at <= max && len <= max - at))
            err = upload_append_write(t->append, req->body_buf, data, len);
    }
    if (err == SG_OK && t->digest != NULL)
        sg_digest_update(t->digest, data, len);
    t->refused = err != SG_OK && err != SG_ERR_SUPERSEDED;
    if (err == SG_ERR_TOO_LARGE)
        return sg_request_fail(req, err, NULL, "the body goes beyond the end of the upload");
    if (err == SG_ERR_NO_SPACE)
        return sg_request_fail(req, err, NULL, "the storage is full");
    if (err == SG_ERR_QUOTA)
        return sg_request_fail(req, err, NULL, "This would exceed your quota");
    return err;
}

/* ---- the end ---- */

static enum sg_error verify(struct sg_request *req, struct tus_state *t)
{
    uint8_t digest[SG_DIGEST_MAX];
    if (t->digest == NULL)
        return SG_OK;
    sg_digest_final(t->digest, digest);
    sg_digest_destroy(&t->digest);
    if (sg_equal_const_time(digest, t->checksum.digest, sg_digest_len(t->checksum.algorithm)))
        return SG_OK;
    return sg_request_fail(req, SG_ERR_CHECKSUM_MISMATCH, "Upload-Checksum",
                           "nothing of the body counts");
}

enum sg_error tus_add_expires(struct sg_request *req, struct sg_response *res, uint64_t expires_ms)
{
    char date[SG_HTTP_DATE_SIZE];
    sg_time_http_date(expires_ms, date);
    return sg_response_header(req, res, "Upload-Expires", date);
}

enum sg_error tus_add_asset(struct sg_request *req, struct sg_response *res, const char *id)
{
    return sg_response_headerf(req, res, "Content-Location", "/api/v1/assets/%s", id);
}

enum sg_error tus_fail_completion(struct sg_request *req, enum sg_error err,
                                  const struct upload_completion *c)
{
    if (err == SG_ERR_SUPERSEDED || c->why[0] == '\0')
        return err;
    return sg_request_fail(req, err, NULL, "%s", c->why);
}

enum sg_error tus_fail_owed(struct sg_request *req)
{
    return sg_request_fail(req, SG_ERR_OVER_QUOTA, NULL,
                           "every byte is there; the asset is made when your quota has room for "
                           "it before the upload expires");
}

static enum sg_error complete(struct sg_request *req, struct sg_response *res, struct tus_state *t)
{
    struct upload_completion c = {.svc = req->svc, .id = t->id, .request_id = req->id};
    enum sg_error err = upload_append_complete(t->append, &c);
    if (err == SG_ERR_QUOTA && !t->created) /* one that was created just now goes again */
        return tus_fail_owed(req);
    if (err != SG_OK)
        return tus_fail_completion(req, err, &c);
    t->settled = true;
    err = upload_add_timing(req, res, &c.t);
    return err != SG_OK ? err : tus_add_asset(req, res, t->id);
}

static enum sg_error finish(struct sg_request *req, struct sg_response *res, struct tus_state *t)
{
    enum sg_error err = verify(req, t);
    if (err == SG_OK)
        err = upload_append_commit(t->append);
    if (err == SG_ERR_QUOTA)
        return sg_request_fail(req, err, NULL, "This would exceed your quota");
    if (err != SG_OK)
        return err;
    uint64_t offset = upload_append_received(t->append);
    if (offset > t->begun_at)
        upload_count_chunk(INGEST_TUS, offset - t->begun_at);
    err = sg_response_headerf(req, res, "Upload-Offset", "%" PRIu64, offset);
    if (err != SG_OK)
        return err;
    if (t->kind == SG_UPLOAD_TUS && t->has_size && offset == t->size_bytes)
        return complete(req, res, t);
    return tus_add_expires(req, res, upload_expiry_ms(req->svc, sg_clock_wall_ms()));
}

enum sg_error tus_body_finish(struct sg_request *req, struct sg_response *res, struct tus_state *t)
{
    enum sg_error err = finish(req, res, t);
    t->refused = err != SG_OK && err != SG_ERR_SUPERSEDED;
    upload_append_close(&t->append);
    return err;
}
