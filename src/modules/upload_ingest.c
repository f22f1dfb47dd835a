/* From a body to an asset.
 *
 * Invariants: nothing is visible before the transaction commits; whatever ends the request earlier
 * (an error, a dropped connection, a crash) leaves no row, and no file that the next start would
 * not remove. The file is probed while it is being synced: both only read what the page cache
 * already holds. */
#include "upload_ingest.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/fs.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"
#include "streamgate/base/validate.h"
#include "streamgate/http/multipart.h"

#include "upload_form.h"
#include "upload_session.h"

struct discard {
    struct sg_services *svc;
    char id[SG_ULID_SIZE];
};

static void discard_staged(void *arg)
{
    struct discard *d = arg;
    if (sg_blob_discard(d->svc->blobs, d->id) != SG_OK)
        sg_warn_log("upload", "staged file %s could not be removed; the next start will", d->id);
    sg_media_sweep(d->svc->media, d->svc->media_processes); /* it may have been probed */
    free(d);
}

/* Removing a large file takes a while: not on an I/O thread when that can be helped. */
static void discard_later(struct sg_request *req, const char *id)
{
    struct discard *d = malloc(sizeof *d);
    if (d == NULL) {
        sg_warn_log("upload", "staged file %s stays until the next start", id);
        return;
    }
    d->svc = req->svc;
    memcpy(d->id, id, SG_ULID_SIZE);
    if (sg_pool_submit(req->svc->blocking, discard_staged, d) != SG_OK)
        discard_staged(d);
}

static void ingest_free(struct sg_request *req, void *state)
{
    struct ingest *in = state;
    if (in->fd >= 0)
        close(in->fd);
    if (!in->published)
        discard_later(req, in->id);
    if (!in->done)
        upload_count_failure(in->kind);
    sg_metric_gauge_add(SG_METRIC_UPLOADS_IN_FLIGHT, 0, -1);
    upload_quota_drop(req->svc->uploads, req->identity.user_id, in->held);
    sg_hasher_destroy(&in->hasher);
    sg_sha256_destroy(&in->body_sha);
    sg_multipart_destroy(&in->form);
    free(in->form_state);
    free(in);
}

enum sg_error ingest_begin(struct sg_request *req, enum upload_count_kind kind, struct ingest **out)
{
    bool has_digest;
    uint8_t digest[SG_SHA256_LEN];
    enum sg_error err = sg_request_content_digest(req, &has_digest, digest);
    if (err != SG_OK)
        return err;
    if (req->has_content_length && req->content_length == 0)
        return sg_request_fail(req, SG_ERR_INVALID, "body", "must not be empty");
    if (!req->may_block)
        return SG_ERR_WOULD_BLOCK;
    uint64_t announced = req->has_content_length ? req->content_length : 0;
    err = upload_quota_check(req, announced, UPLOAD_NEW_ASSET);
    if (err != SG_OK)
        return err;

    struct ingest *in = calloc(1, sizeof *in);
    if (in == NULL)
        return SG_ERR_NO_MEMORY;
    in->kind = kind;
    in->fd = -1;
    in->begun_ns = sg_clock_mono_ns();
    in->has_digest = has_digest;
    memcpy(in->digest, digest, has_digest ? sizeof digest : 0);
    sg_ulid_make(in->id);
    err = sg_blob_stage(req->svc->blobs, in->id, &in->fd);
    if (err != SG_OK) {
        free(in);
        return err;
    }
    upload_count_begun(kind);
    sg_metric_gauge_add(SG_METRIC_UPLOADS_IN_FLIGHT, 0, 1);
    in->held = announced;
    upload_quota_hold(req->svc->uploads, req->identity.user_id, announced);
    req->state = in;
    req->state_free = ingest_free;
    struct sg_sha256 *sha = NULL;
    err = sg_hasher_create(req->svc->hashing, &sha, &in->hasher);
    if (err == SG_OK && kind == INGEST_FORM && has_digest)
        err = sg_sha256_create(&in->body_sha);
    if (err == SG_OK)
        *out = in;
    return err;
}

#define WRITEBACK_BYTES (8u << 20)

/* A body of unknown length is counted as it comes. */
static void hold_more(struct sg_request *req, struct ingest *in)
{
    if (in->size_bytes <= in->held)
        return;
    upload_quota_hold(req->svc->uploads, req->identity.user_id, in->size_bytes - in->held);
    in->held = in->size_bytes;
}

enum sg_error ingest_write(struct sg_request *req, struct ingest *in, const uint8_t *data,
                           size_t len)
{
    enum sg_error err = sg_fs_write_all(in->fd, data, len);
    if (err != SG_OK)
        return err;
    sg_hasher_update(in->hasher, req->body_buf, data, len);
    in->size_bytes += len;
    if (in->size_bytes - in->written_back < WRITEBACK_BYTES)
        return SG_OK;
    /* The disk works while the body still comes, so that the sync at the end is short. */
    upload_start_writeback(req->svc, in->fd, in->written_back, in->size_bytes);
    in->written_back = in->size_bytes;
    hold_more(req, in);
    /* What the headers told was checked at the beginning, but they need not tell, and others
     * upload too. */
    err = upload_space(req->svc, 0);
    return err == SG_ERR_NO_SPACE ? sg_request_fail(req, err, NULL, "the storage is full") : err;
}

/* ---- the transaction ---- */

struct commit {
    const struct sg_config *cfg;
    const struct sg_asset_fields *fields;
    struct upload_file *file;
    struct sg_audit_event event;
};

static enum sg_error commit_rows(struct sg_db_conn *c, void *arg)
{
    struct commit *commit = arg;
    enum sg_error err =
        upload_quota_commit(c, commit->cfg, commit->fields->owner, commit->fields->size_bytes);
    if (err == SG_OK)
        err = sg_asset_insert(c, commit->fields, commit->file->encoded, commit->file->encoded_len);
    if (err == SG_OK)
        err = upload_file_begin(c, commit->file, commit->fields);
    return err != SG_OK ? err : sg_audit_append(c, &commit->event);
}

static void fill_fields(struct sg_request *req, const struct ingest *in,
                        const struct upload_file *file, struct sg_asset_fields *f)
{
    int asked = in->edit.has_policy ? (int)in->edit.policy : -1;
    uint64_t now = sg_clock_wall_ms();
    *f = (struct sg_asset_fields){
        .policy = upload_policy(sg_services_config(req->svc), asked),
        .title = in->edit.title != NULL ? in->edit.title : in->filename,
        .description = in->edit.description != NULL ? in->edit.description : "",
        .tags_json = in->edit.tags_json != NULL ? in->edit.tags_json : "[]",
        .custom_json = in->edit.custom_json != NULL ? in->edit.custom_json : "{}",
        .filename = in->filename,
        .version = 1,
        .created_ms = now,
        .updated_ms = now,
    };
    memcpy(f->owner, req->identity.user_id, SG_ULID_SIZE);
    upload_file_describe(file, f);
}

static enum sg_error commit_asset(struct sg_request *req, struct upload_file *file,
                                  const struct sg_asset_fields *fields)
{
    char sha[2 * SG_SHA256_LEN + 1];
    sg_hex_encode(fields->sha256, SG_SHA256_LEN, sha);
    struct commit commit = {
        .cfg = sg_services_config(req->svc),
        .fields = fields,
        .file = file,
        .event = {.event_type = "data",
                  .actor = req->identity.user_id,
                  .action = "asset.create",
                  .resource = sg_arena_printf(req->arena, "asset/%s", file->id),
                  .result = "success",
                  .details = sg_arena_printf(req->arena, "{\"sha256\":\"%s\",\"size\":%" PRIu64 "}",
                                             sha, file->size_bytes),
                  .request_id = req->id},
    };
    if (commit.event.resource == NULL || commit.event.details == NULL)
        return SG_ERR_NO_MEMORY;
    uint64_t start = sg_clock_mono_ns();
    enum sg_error err = sg_db_write(req->svc->db, commit_rows, &commit);
    file->t.commit_ns = sg_clock_mono_ns() - start;
    if (err == SG_ERR_QUOTA)
        return sg_request_fail(req, err, NULL, "This would exceed your quota");
    return err;
}

static enum sg_error planned(const struct sg_rendition_plan *plan, struct sg_rendition_list *out)
{
    if (plan->n == 0)
        return SG_OK;
    out->items = malloc(plan->n * sizeof *out->items);
    if (out->items == NULL)
        return SG_ERR_NO_MEMORY;
    memcpy(out->items, plan->items, plan->n * sizeof *out->items);
    out->n = plan->n;
    return SG_OK;
}

static enum sg_error respond(struct sg_request *req, struct sg_response *res,
                             const struct ingest *in, const struct sg_asset_fields *fields,
                             const struct upload_file *file)
{
    struct sg_asset *asset = NULL;
    enum sg_error err = sg_asset_create(fields, &asset);
    if (err != SG_OK)
        return err;
    struct sg_asset_entry *entry = NULL;
    struct sg_rendition_list list = {0};
    struct sg_subtitle_list none = {0};
    err = planned(file->plan, &list);
    if (err == SG_OK)
        err = sg_asset_entry_create(asset, file->index, &list, &none, &entry);
    json_t *body = err == SG_OK ? sg_asset_json(req, entry) : NULL;
    sg_asset_entry_unref(entry);
    char etag[SG_ETAG_SIZE];
    sg_asset_etag(asset, etag);
    sg_asset_unref(asset);
    if (body == NULL)
        return SG_ERR_NO_MEMORY;
    err = sg_response_json(res, 201, body);
    if (err != SG_OK)
        return err;
    res->etag = sg_arena_strdup(req->arena, etag);
    return sg_response_headerf(req, res, "Location", "/api/v1/assets/%s", in->id);
}

enum sg_error upload_add_timing(struct sg_request *req, struct sg_response *res,
                                const struct upload_timing *t)
{
    return sg_response_headerf(req, res, "Server-Timing",
                               "hash;dur=%.3f, sync;dur=%.3f, probe;dur=%.3f, publish;dur=%.3f, "
                               "commit;dur=%.3f",
                               (double)t->hash_ns / 1e6, (double)t->sync_ns / 1e6,
                               (double)t->probe_ns / 1e6, (double)t->publish_ns / 1e6,
                               (double)t->commit_ns / 1e6);
}

static enum sg_error check_content(struct sg_request *req, struct ingest *in,
                                   uint8_t sha256[SG_SHA256_LEN])
{
    if (in->size_bytes == 0)
        return sg_request_fail(req, SG_ERR_INVALID, "body", "must not be empty");
    struct sg_sha256 *sha = sg_hasher_take(in->hasher);
    sg_sha256_final(sha, sha256);
    sg_sha256_destroy(&sha);
    sg_metric_observe_ns(SG_METRIC_UPLOAD_CHECKSUM, 0, sg_hasher_busy_ns(in->hasher));
    if (!in->has_digest)
        return SG_OK;
    uint8_t content[SG_SHA256_LEN];
    memcpy(content, sha256, sizeof content);
    if (in->body_sha != NULL)
        sg_sha256_final(in->body_sha, content);
    if (!sg_equal_const_time(content, in->digest, sizeof content))
        return sg_request_fail(req, SG_ERR_DIGEST_MISMATCH, "Content-Digest",
                               "is not the SHA-256 of the content received");
    return SG_OK;
}

static enum sg_error make_asset(struct sg_request *req, struct ingest *in, struct upload_file *file,
                                struct sg_asset_fields *fields)
{
    enum sg_error err = upload_file_examine(file);
    if (err != SG_OK && file->index == NULL)
        return sg_request_fail(req, err, "body", "%s",
                               file->why[0] != '\0' ? file->why : sg_error_title(err));
    if (err == SG_OK)
        err = upload_file_publish(file);
    if (err != SG_OK)
        return err;
    fill_fields(req, in, file, fields);
    err = commit_asset(req, file, fields);
    if (err == SG_ERR_IO) {
        /* The row may be in the log all the same, and come back after a crash: then it needs its
         * file. Else the next start removes it. */
        sg_warn_log("upload", "the file of %s stays until the next start", file->id);
        in->published = !file->shared;
        return err;
    }
    if (err != SG_OK) {
        upload_file_retract(file);
        return err;
    }
    upload_file_settle(file);
    in->published = in->done = true;
    upload_count_success(in->kind, in->size_bytes);
    sg_metric_observe_ns(SG_METRIC_UPLOAD_LATENCY, 0, sg_clock_mono_ns() - in->begun_ns);
    return SG_OK;
}

enum sg_error ingest_finish(struct sg_request *req, struct sg_response *res, struct ingest *in)
{
    struct upload_file file = {.svc = req->svc, .fd = in->fd, .size_bytes = in->size_bytes};
    memcpy(file.id, in->id, SG_ULID_SIZE);
    struct sg_asset_fields fields;
    enum sg_error err = check_content(req, in, file.sha256);
    file.t.hash_ns = sg_hasher_busy_ns(in->hasher);
    if (err == SG_OK)
        err = make_asset(req, in, &file, &fields);
    if (err == SG_OK)
        err = respond(req, res, in, &fields, &file);
    if (err == SG_OK)
        err = upload_add_timing(req, res, &file.t);
    upload_file_clear(&file);
    return err;
}
