/* From an upload whose bytes are all durable to an asset. The order makes a crash at any point
 * harmless: the row says PROCESSING while the asset's row does; the file moves to its place before
 * the transaction that makes both final. The next start puts PROCESSING back to ACTIVE, keeps the
 * file wherever it is, and the completion is done again. Whoever deletes the asset meanwhile takes
 * the upload's row with it: nothing completes that again. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/fs.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"
#include "streamgate/store/audit_store.h"

#include "upload_session.h"

/* A media process that dies or takes too long may be the machine's fault; three completions that
 * end so are the file's. */
#define MEDIA_TRIES 3

struct completing {
    struct upload_completion *c;
    struct sg_upload *row;
    struct upload_file file;
    struct sg_asset_fields fields;
    uint64_t now_ms, expires_ms;
    enum sg_error outcome; /* of settle_failed: why it failed */
    bool mistaken;         /* the hash that this request gave is wrong */
    bool gone, had_row;    /* of tx_gone and tx_undo: the asset was deleted; its upload was not */
    struct sg_audit_event event;
    char resource[sizeof "asset/" + SG_ULID_SIZE];
    char details[160];
};

/* ---- transactions ---- */

static struct sg_upload_move move_of(const struct completing *k, enum sg_upload_state from,
                                     enum sg_upload_state to)
{
    return (struct sg_upload_move){.id = k->c->id,
                                   .from = from,
                                   .to = to,
                                   .slug = "",
                                   .detail = "",
                                   .now_ms = k->now_ms,
                                   .expires_ms = k->expires_ms};
}

/* Its bytes, and that it makes one more asset, were counted when it was announced; a bound may have
 * been lowered since. */
static enum sg_error check_quota(struct sg_db_conn *c, const struct completing *k)
{
    enum sg_error err = upload_quota_owed(c, sg_services_config(k->c->svc), k->row->f.owner);
    if (err == SG_ERR_QUOTA)
        sg_metric_add(SG_METRIC_QUOTA_EXCEEDED, 0, 1);
    return err;
}

static enum sg_error tx_begin(struct sg_db_conn *c, void *arg)
{
    struct completing *k = arg;
    struct sg_upload_move m = move_of(k, SG_UPLOAD_ACTIVE, SG_UPLOAD_PROCESSING);
    enum sg_error err = check_quota(c, k);
    if (err == SG_OK)
        err = sg_upload_move(c, &m);
    return err != SG_OK ? err : sg_asset_insert(c, &k->fields, NULL, 0);
}

/* The same before the file is looked at, which takes long: many may be told no for as long as their
 * owner has too much. */
static enum sg_error read_quota(struct sg_db_conn *c, void *arg)
{
    return check_quota(c, arg);
}

static enum sg_error tx_done(struct sg_db_conn *c, void *arg)
{
    struct completing *k = arg;
    struct sg_upload_move m = move_of(k, SG_UPLOAD_PROCESSING, SG_UPLOAD_DONE);
    enum sg_error err = sg_asset_finish(c, &k->fields, k->file.encoded, k->file.encoded_len);
    if (err == SG_OK)
        err = upload_file_begin(c, &k->file, &k->fields);
    if (err == SG_OK)
        err = sg_upload_move(c, &m);
    return err != SG_OK ? err : sg_audit_append(c, &k->event);
}

static enum sg_error tx_failed(struct sg_db_conn *c, void *arg)
{
    struct completing *k = arg;
    struct sg_upload_move m = move_of(k, SG_UPLOAD_PROCESSING, SG_UPLOAD_FAILED);
    m.slug = sg_error_slug(k->outcome);
    m.detail = k->c->why;
    enum sg_error err = sg_asset_finish(c, &k->fields, NULL, 0);
    if (err == SG_OK)
        err = sg_upload_move(c, &m);
    return err != SG_OK ? err : sg_audit_append(c, &k->event);
}

/* The asset was deleted while it was made: nothing of the upload shall stay. */
static enum sg_error tx_gone(struct sg_db_conn *c, void *arg)
{
    struct completing *k = arg;
    enum sg_error err = sg_upload_delete(c, k->c->id);
    k->gone = true;
    k->had_row = err == SG_OK;
    return err == SG_ERR_NOT_FOUND ? SG_OK : err;
}

static enum sg_error tx_undo(struct sg_db_conn *c, void *arg)
{
    struct completing *k = arg;
    struct sg_upload_move m = move_of(k, SG_UPLOAD_PROCESSING, SG_UPLOAD_ACTIVE);
    enum sg_error err = sg_asset_delete(c, k->c->id, 0);
    if (err == SG_ERR_NOT_FOUND)
        return tx_gone(c, k);
    return err != SG_OK ? err : sg_upload_move(c, &m);
}

/* ---- steps ---- */

static void describe(struct completing *k)
{
    const struct sg_upload_fields *u = &k->row->f;
    k->fields = (struct sg_asset_fields){
        .status = SG_ASSET_PROCESSING,
        .policy = upload_policy(sg_services_config(k->c->svc), u->policy),
        .title = u->title[0] != '\0' ? u->title : u->filename,
        .description = u->description,
        .tags_json = u->tags_json,
        .custom_json = u->custom_json,
        .filename = u->filename,
        .size_bytes = u->size_bytes,
        .content_type = "application/octet-stream",
        .video_codec = "",
        .audio_codec = "",
        .frame_rate_den = 1,
        .error = "",
        .version = 1,
        .created_ms = k->now_ms,
        .updated_ms = k->now_ms,
    };
    memcpy(k->fields.id, u->id, SG_ULID_SIZE);
    memcpy(k->fields.owner, u->owner, SG_ULID_SIZE);
    memcpy(k->fields.sha256, k->file.sha256, SG_SHA256_LEN);
}

static void tell(struct completing *k, const char *action, const char *result)
{
    char sha[2 * SG_SHA256_LEN + 1];
    sg_hex_encode(k->file.sha256, SG_SHA256_LEN, sha);
    snprintf(k->resource, sizeof k->resource, "asset/%s", k->c->id);
    snprintf(k->details, sizeof k->details, "{\"sha256\":\"%s\",\"size\":%" PRIu64 "}", sha,
             k->file.size_bytes);
    k->event = (struct sg_audit_event){.event_type = "data",
                                       .actor = k->row->f.owner,
                                       .action = action,
                                       .resource = k->resource,
                                       .result = result,
                                       .details = k->details,
                                       .request_id = k->c->request_id};
}

/* The file is as long as the upload. What lies behind never counted, and is not under the hash. */
static enum sg_error fit_file(struct upload_file *f)
{
    uint64_t size;
    enum sg_error err = sg_fs_size(f->fd, &size);
    if (err != SG_OK || size == f->size_bytes)
        return err;
    if (size < f->size_bytes || f->in_place)
        return SG_ERR_IO;
    f->synced = false;
    return sg_fs_truncate(f->fd, f->size_bytes);
}

/* Wherever an earlier try or run left the file. */
static enum sg_error open_file(struct completing *k)
{
    struct upload_file *f = &k->file;
    f->svc = k->c->svc;
    memcpy(f->id, k->row->f.id, SG_ULID_SIZE);
    f->size_bytes = k->row->f.size_bytes;
    f->synced = true;
    enum sg_error err = sg_blob_open_staged(f->svc->blobs, f->id, &f->fd);
    if (err == SG_ERR_NOT_FOUND) {
        err = sg_blob_open(f->svc->blobs, f->id, &f->fd);
        f->in_place = err == SG_OK;
    }
    if (err == SG_OK)
        err = fit_file(f);
    return err == SG_ERR_NOT_FOUND ? SG_ERR_IO : err;
}

static enum sg_error check_hash(struct completing *k)
{
    struct upload_completion *c = k->c;
    enum sg_error err = SG_OK;
    k->file.t.hash_ns = c->t.hash_ns;
    if (c->sha != NULL) {
        sg_sha256_final(c->sha, k->file.sha256);
        sg_sha256_destroy(&c->sha);
    } else {
        err = upload_file_hash(&k->file);
    }
    if (err != SG_OK)
        return err;
    if (k->row->f.has_sha256 &&
        !sg_equal_const_time(k->row->f.sha256, k->file.sha256, SG_SHA256_LEN)) {
        snprintf(c->why, sizeof c->why, "the SHA-256 of the whole is not the one announced");
        return SG_ERR_DIGEST_MISMATCH;
    }
    /* What this request says may be a slip of it: it costs no acknowledged byte. */
    k->mistaken =
        c->expected != NULL && !sg_equal_const_time(c->expected, k->file.sha256, SG_SHA256_LEN);
    if (!k->mistaken)
        return SG_OK;
    snprintf(c->why, sizeof c->why, "the SHA-256 of the whole is not the one of this request");
    return SG_ERR_DIGEST_MISMATCH;
}

/* Whether trying again cannot help. */
static bool is_final(enum sg_error err)
{
    return err == SG_ERR_UNSUPPORTED_MEDIA || err == SG_ERR_UNPROCESSABLE ||
           err == SG_ERR_TOO_LARGE || err == SG_ERR_DIGEST_MISMATCH || err == SG_ERR_MEDIA_WORKER ||
           err == SG_ERR_MEDIA_TIMEOUT;
}

/* *again: nothing is settled by the error. */
static enum sg_error examine(struct completing *k, bool *again)
{
    enum sg_error err = upload_file_examine(&k->file);
    memcpy(k->c->why, k->file.why, sizeof k->c->why);
    *again = (err == SG_ERR_MEDIA_WORKER || err == SG_ERR_MEDIA_TIMEOUT) &&
             upload_media_failed(k->c->svc->uploads, k->c->id) < MEDIA_TRIES;
    return err;
}

static void drop_files(struct completing *k)
{
    struct sg_services *svc = k->c->svc;
    enum sg_error err = sg_blob_discard(svc->blobs, k->c->id);
    /* An earlier completion may have left it in its place. */
    if (sg_blob_remove(svc->blobs, k->c->id) != SG_OK || err != SG_OK)
        sg_warn_log("upload", "file of upload %s stays until the next start", k->c->id);
    sg_media_sweep(svc->media, svc->media_processes);
}

/* After tx_gone. Whoever deleted the row counted that one less is open. */
static enum sg_error end_gone(struct completing *k)
{
    drop_files(k);
    snprintf(k->c->why, sizeof k->c->why, "the asset of this upload was deleted");
    if (k->had_row)
        upload_count_failed(k->row->f.kind);
    else
        upload_count_failure(upload_count_kind_of(k->row->f.kind));
    return SG_ERR_GONE;
}

static enum sg_error settle_failed(struct completing *k, enum sg_error why)
{
    if (k->c->why[0] == '\0')
        snprintf(k->c->why, sizeof k->c->why, "%s", sg_error_title(why));
    k->outcome = why;
    k->fields.status = SG_ASSET_FAILED;
    k->fields.error = k->c->why;
    k->fields.updated_ms = k->now_ms;
    tell(k, "asset.fail", "failure");
    enum sg_error err = sg_db_write(k->c->svc->db, tx_failed, k);
    sg_asset_cache_invalidate(k->c->svc->assets, k->c->id);
    if (err == SG_ERR_NOT_FOUND && sg_db_write(k->c->svc->db, tx_gone, k) == SG_OK)
        return end_gone(k);
    if (err != SG_OK)
        return err;
    drop_files(k);
    upload_count_failed(k->row->f.kind);
    return why;
}

static enum sg_error settle_done(struct completing *k)
{
    upload_file_describe(&k->file, &k->fields);
    k->fields.updated_ms = sg_clock_wall_ms();
    tell(k, "asset.create", "success");
    uint64_t start = sg_clock_mono_ns();
    enum sg_error err = sg_db_write(k->c->svc->db, tx_done, k);
    k->file.t.commit_ns += sg_clock_mono_ns() - start;
    sg_asset_cache_invalidate(k->c->svc->assets, k->c->id);
    if (err == SG_OK) {
        upload_file_settle(&k->file);
        upload_count_done(k->row->f.kind, k->file.size_bytes);
        return SG_OK;
    }
    if (err == SG_ERR_NOT_FOUND && sg_db_write(k->c->svc->db, tx_gone, k) == SG_OK)
        return end_gone(k);
    return err;
}

/* GONE: there is nothing left to undo. */
static enum sg_error undo(struct completing *k)
{
    enum sg_error err = sg_db_write(k->c->svc->db, tx_undo, k);
    sg_asset_cache_invalidate(k->c->svc->assets, k->c->id);
    return err == SG_OK && k->gone ? end_gone(k) : err;
}

/* Under the claim, all checked. */
static enum sg_error make(struct completing *k)
{
    struct sg_services *svc = k->c->svc;
    enum sg_error hashed = check_hash(k);
    if (hashed != SG_OK && (k->mistaken || !is_final(hashed)))
        return hashed;
    describe(k);
    enum sg_error err = sg_db_write(svc->db, tx_begin, k);
    if (err != SG_OK)
        return err;
    sg_asset_cache_invalidate(svc->assets, k->c->id);
    bool again = false;
    err = hashed != SG_OK ? hashed : examine(k, &again);
    if (err == SG_OK)
        err = upload_file_publish(&k->file);
    if (err == SG_OK)
        err = settle_done(k);
    else if (is_final(err) && !again)
        err = settle_failed(k, err);
    if (err == SG_OK || (is_final(err) && !again) || err == SG_ERR_GONE)
        return err;
    enum sg_error undone = undo(k);
    if (undone == SG_ERR_GONE)
        return undone;
    if (undone != SG_OK)
        sg_error_log("upload", "upload %s stays in processing until the next start: %s", k->c->id,
                     sg_error_title(undone));
    return err;
}

/* ---- what was settled before ---- */

static enum sg_error error_of_slug(const char *slug)
{
    for (int e = 1; e < SG_ERROR_COUNT; e++)
        if (strcmp(sg_error_slug((enum sg_error)e), slug) == 0)
            return (enum sg_error)e;
    return SG_ERR_UNPROCESSABLE;
}

static enum sg_error complete_row(struct completing *k)
{
    const struct sg_upload_fields *u = &k->row->f;
    switch (u->state) {
    case SG_UPLOAD_DONE:
        return SG_OK;
    case SG_UPLOAD_FAILED:
        snprintf(k->c->why, sizeof k->c->why, "%s", u->error_detail);
        return error_of_slug(u->error_slug);
    default:
        break;
    }
    if (u->state == SG_UPLOAD_PROCESSING) {
        /* We hold the claim, so nobody is at it: an earlier completion could not be undone. */
        enum sg_error undone = undo(k);
        if (undone != SG_OK)
            return undone;
    }
    if (!u->has_size || u->offset_bytes != u->size_bytes) {
        snprintf(k->c->why, sizeof k->c->why, "not all bytes are there");
        return SG_ERR_CONFLICT;
    }
    enum sg_error err = sg_db_read(k->c->svc->db, read_quota, k);
    if (err == SG_OK)
        err = open_file(k);
    if (err == SG_OK)
        err = make(k);
    if (err == SG_ERR_QUOTA)
        snprintf(k->c->why, sizeof k->c->why, "This would exceed your quota");
    return err;
}

enum sg_error upload_complete(struct upload_completion *c)
{
    enum sg_error err = upload_claim_enter(c->claim);
    if (err != SG_OK) {
        sg_sha256_destroy(&c->sha);
        return err;
    }
    struct completing k = {.c = c, .now_ms = sg_clock_wall_ms(), .file = {.fd = -1}};
    k.expires_ms = upload_expiry_ms(c->svc, k.now_ms);
    err = upload_get(c->svc, c->id, &k.row);
    if (err == SG_OK)
        err = complete_row(&k);
    upload_claim_leave(c->claim);
    c->t = k.file.t;
    if (k.file.fd >= 0)
        close(k.file.fd);
    upload_file_clear(&k.file);
    sg_upload_free(&k.row);
    sg_sha256_destroy(&c->sha);
    return err;
}
