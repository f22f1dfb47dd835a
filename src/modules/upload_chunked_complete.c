/* Completion of a chunked upload.
 *
 * Invariants: asking again gets the same answer, the asset or the refusal; of several that ask at
 * once one does the work and all get the asset. A completion that comes too early breaks nothing
 * off. */
#include <string.h>

#include "streamgate/base/str.h"
#include "streamgate/http/asset_view.h"

#include "upload_chunked.h"

struct completing {
    const char *id;
    bool has_sha256;
    uint8_t sha256[SG_SHA256_LEN];
    bool again; /* it was done before */
    struct upload_completion c;
};

static enum sg_error read_completing(struct sg_request *req, struct completing *k)
{
    json_t *body = NULL;
    enum sg_error err = sg_request_json(req, true, &body);
    if (err != SG_OK)
        return err;
    const char *name;
    json_t *value;
    json_object_foreach(body, name, value)
    {
        k->has_sha256 = strcmp(name, "sha256") == 0;
        err = k->has_sha256
                  ? upload_take_sha256(req, value, k->sha256)
                  : sg_request_fail(req, SG_ERR_INVALID, sg_arena_strdup(req->arena, name),
                                    "is not a field of a completion");
        if (err != SG_OK)
            break;
    }
    json_decref(body);
    return err;
}

#define NAMED_RUNS 8

/* 409 that names the first missing chunks; GET of the upload tells them all. */
static enum sg_error fail_missing(struct sg_request *req, const struct sg_upload_fields *f)
{
    json_t *missing = NULL;
    bool truncated;
    enum sg_error err = upload_missing(req->svc, f, &missing, &truncated);
    if (err != SG_OK)
        return err;
    struct sg_text text = {0};
    size_t n = json_array_size(missing);
    for (size_t i = 0; i < n && i < NAMED_RUNS; i++) {
        const json_t *run = json_array_get(missing, i);
        json_int_t first = json_integer_value(json_object_get(run, "first"));
        json_int_t last = json_integer_value(json_object_get(run, "last"));
        sg_text_printf(&text, "%s%" JSON_INTEGER_FORMAT, i > 0 ? ", " : "", first);
        if (last > first)
            sg_text_printf(&text, "-%" JSON_INTEGER_FORMAT, last);
    }
    json_decref(missing);
    if (text.failed || text.ptr == NULL)
        err = sg_request_fail(req, SG_ERR_CONFLICT, NULL, "chunks are missing");
    else
        err = sg_request_fail(req, SG_ERR_CONFLICT, NULL, "chunks are missing: %s%s", text.ptr,
                              n > NAMED_RUNS ? " and more" : "");
    sg_text_free(&text);
    return err;
}

/* Holding the claim. */
static enum sg_error complete_claimed(struct sg_request *req, struct completing *k)
{
    struct sg_upload *u = NULL;
    enum sg_error err = upload_get(req->svc, k->id, &u);
    if (err == SG_ERR_NOT_FOUND)
        return sg_request_fail(req, err, NULL, "there is no such upload");
    if (err != SG_OK)
        return err;
    k->again = u->f.state == SG_UPLOAD_DONE;
    /* Checked under the claim and again by upload_complete: here it gives the better answer. */
    if (u->f.state == SG_UPLOAD_ACTIVE && u->f.offset_bytes < u->f.size_bytes)
        err = fail_missing(req, &u->f);
    sg_upload_free(&u);
    if (err != SG_OK || k->again)
        return err;
    err = upload_complete(&k->c);
    if (err != SG_OK && err != SG_ERR_SUPERSEDED && k->c.why[0] != '\0')
        return sg_request_fail(req, err, NULL, "%s", k->c.why);
    return err;
}

/* Each try waits for the one before it, so a few suffice however many clients ask. */
#define COMPLETE_TRIES 8

/* Several may complete at once: the newer takes the claim from an older that has not begun yet,
 * which then waits in its turn, and finds the work done. */
static enum sg_error complete(struct sg_request *req, struct completing *k)
{
    enum sg_error err = SG_ERR_SUPERSEDED;
    for (int i = 0; i < COMPLETE_TRIES && err == SG_ERR_SUPERSEDED; i++) {
        struct upload_claim *claim = NULL;
        err = upload_claim_take(req->svc->uploads->claims, k->id, UPLOAD_SLOT_ALL, &claim);
        if (err == SG_ERR_UNAVAILABLE)
            return sg_request_fail(req, SG_ERR_CONFLICT, NULL,
                                   "is being completed by other requests; ask again");
        if (err != SG_OK)
            return err;
        k->c = (struct upload_completion){.svc = req->svc,
                                          .id = k->id,
                                          .request_id = req->id,
                                          .claim = claim,
                                          .expected = k->has_sha256 ? k->sha256 : NULL};
        err = complete_claimed(req, k);
        upload_claim_release(&claim);
    }
    return err;
}

static enum sg_error answer_asset(struct sg_request *req, struct sg_response *res,
                                  const struct completing *k)
{
    struct sg_asset_entry *e = NULL;
    enum sg_error err = sg_asset_load(req, k->id, &e);
    if (err == SG_ERR_NOT_FOUND)
        return sg_request_fail(req, SG_ERR_GONE, NULL, "the asset of this upload was deleted");
    if (err != SG_OK)
        return err;
    /* For one just made this was checked on the way. */
    if (k->has_sha256 && !sg_equal_const_time(k->sha256, e->asset->f.sha256, SG_SHA256_LEN)) {
        sg_asset_entry_unref(e);
        return sg_request_fail(req, SG_ERR_DIGEST_MISMATCH, "sha256",
                               "is not the SHA-256 of the asset made of this upload");
    }
    char etag[SG_ETAG_SIZE];
    sg_asset_etag(e->asset, etag);
    json_t *body = sg_asset_json(req, e);
    sg_asset_entry_unref(e);
    if (body == NULL)
        return SG_ERR_NO_MEMORY;
    err = sg_response_json(res, k->again ? 200 : 201, body);
    if (err == SG_OK)
        err = sg_response_headerf(req, res, "ETag", "%s", etag);
    if (err == SG_OK)
        err = sg_response_headerf(req, res, "Location", "/api/v1/assets/%s", k->id);
    return err != SG_OK || k->again ? err : upload_add_timing(req, res, &k->c.t);
}

enum sg_error chunked_complete(struct sg_request *req, struct sg_response *res)
{
    struct sg_upload *u = NULL;
    struct completing k = {0};
    enum sg_error err =
        upload_load(req, sg_request_param(req, "id"), UPLOAD_KIND_BIT(SG_UPLOAD_CHUNKED), &u);
    if (err == SG_OK)
        err = read_completing(req, &k);
    /* Before the claim, which would break off the chunks on their way. */
    if (err == SG_OK && u->f.state == SG_UPLOAD_ACTIVE && u->f.offset_bytes < u->f.size_bytes)
        err = fail_missing(req, &u->f);
    if (err == SG_OK) {
        k.id = u->f.id;
        k.again = u->f.state == SG_UPLOAD_DONE;
        if (!k.again)
            err = complete(req, &k);
    }
    if (err == SG_OK)
        err = answer_asset(req, res, &k);
    sg_upload_free(&u);
    return err;
}
