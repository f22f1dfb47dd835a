/* Rows of unfinished uploads, their staged files, and their end. Invariants: a row never announces
 * bytes that are not on disk; an upload is removed or completed only under a claim on all of it,
 * so nobody writes to its file meanwhile. */
#include "upload_session.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/fs.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"
#include "streamgate/base/validate.h"
#include "streamgate/store/audit_store.h"

uint64_t upload_expiry_ms(struct sg_services *svc, uint64_t now_ms)
{
    return now_ms + sg_config_uint(sg_services_config(svc), SG_SET_upload_expiry);
}

/* ---- rows ---- */

void upload_fill(struct sg_request *req, const struct sg_asset_edit *edit,
                 struct sg_upload_fields *out)
{
    uint64_t now = sg_clock_wall_ms();
    *out = (struct sg_upload_fields){
        .state = SG_UPLOAD_ACTIVE,
        .filename = "",
        .title = edit->title != NULL ? edit->title : "",
        .description = edit->description != NULL ? edit->description : "",
        .tags_json = edit->tags_json != NULL ? edit->tags_json : "[]",
        .custom_json = edit->custom_json != NULL ? edit->custom_json : "{}",
        .policy = edit->has_policy ? (int)edit->policy : -1,
        .metadata = "",
        .url = "",
        .etag = "",
        .parts = "",
        .error_slug = "",
        .error_detail = "",
        .created_ms = now,
        .updated_ms = now,
        .expires_ms = upload_expiry_ms(req->svc, now),
    };
    sg_ulid_make(out->id);
    memcpy(out->owner, req->identity.user_id, SG_ULID_SIZE);
}

/* Bytes that the row adds to what its owner holds: those of a whole made of parts are held by the
 * parts until they are removed. */
static uint64_t added_bytes(const struct sg_upload_fields *f)
{
    return f->has_size && f->kind != SG_UPLOAD_TUS_FINAL ? f->size_bytes : 0;
}

static enum upload_quota_asset added_asset(const struct sg_upload_fields *f)
{
    return f->kind == SG_UPLOAD_TUS_PARTIAL ? UPLOAD_PART_ASSET : UPLOAD_NEW_ASSET;
}

struct insertion {
    const struct sg_upload_fields *f;
    const struct sg_config *cfg;
    enum sg_error (*also)(struct sg_db_conn *c, void *arg); /* NULL: nothing */
    void *arg;
    struct sg_audit_event event;
};

static enum sg_error insert_row(struct sg_db_conn *c, void *arg)
{
    struct insertion *i = arg;
    enum sg_error err =
        upload_quota_announce(c, i->cfg, i->f->owner, added_bytes(i->f), added_asset(i->f));
    if (err == SG_OK)
        err = sg_upload_insert(c, i->f);
    if (err == SG_OK && i->also != NULL)
        err = i->also(c, i->arg);
    return err != SG_OK ? err : sg_audit_append(c, &i->event);
}

enum sg_error upload_insert(struct sg_request *req, const struct sg_upload_fields *f)
{
    return upload_insert_with(req, f, NULL, NULL);
}

enum sg_error upload_insert_with(struct sg_request *req, const struct sg_upload_fields *f,
                                 enum sg_error (*also)(struct sg_db_conn *c, void *arg), void *arg)
{
    const struct sg_config *cfg = sg_services_config(req->svc);
    uint64_t size = f->has_size ? f->size_bytes : 0;
    uint64_t max = sg_config_uint(cfg, SG_SET_upload_max_size);
    if (size > max)
        return sg_request_fail(req, SG_ERR_TOO_LARGE, "size", "must be at most %llu bytes",
                               (unsigned long long)max);
    enum sg_error err = upload_quota_check(req, added_bytes(f), added_asset(f));
    if (err != SG_OK)
        return err;
    struct insertion i = {
        .f = f,
        .cfg = cfg,
        .also = also,
        .arg = arg,
        .event = {.event_type = "data",
                  .actor = req->identity.user_id,
                  .action = "upload.create",
                  .resource = sg_arena_printf(req->arena, "upload/%s", f->id),
                  .result = "success",
                  .details = sg_arena_printf(req->arena, "{\"kind\":\"%s\"}",
                                             sg_upload_kind_name(f->kind)),
                  .request_id = req->id},
    };
    if (i.event.resource == NULL || i.event.details == NULL)
        return SG_ERR_NO_MEMORY;
    err = sg_db_write(req->svc->db, insert_row, &i);
    if (err == SG_ERR_QUOTA)
        return sg_request_fail(req, err, NULL, "This would exceed your quota");
    if (err == SG_OK)
        sg_metric_gauge_add(SG_METRIC_UPLOAD_OPEN, 0, 1);
    return err;
}

struct row_read {
    const char *id;
    struct sg_upload *row;
};

static enum sg_error read_row(struct sg_db_conn *c, void *arg)
{
    struct row_read *r = arg;
    return sg_upload_get(c, r->id, &r->row);
}

enum sg_error upload_get(struct sg_services *svc, const char *id, struct sg_upload **out)
{
    struct row_read r = {.id = id};
    enum sg_error err = sg_db_read(svc->db, read_row, &r);
    if (err == SG_OK)
        *out = r.row;
    return err;
}

static enum sg_error deny(struct sg_request *req, const char *id)
{
    sg_audit_note(req->svc->audit, &(struct sg_audit_event){
                                       .event_type = "authorization",
                                       .actor = req->identity.user_id,
                                       .action = "upload.access",
                                       .resource = sg_arena_printf(req->arena, "upload/%s", id),
                                       .result = "denied",
                                       .request_id = req->id,
                                   });
    return sg_request_fail(req, SG_ERR_FORBIDDEN, NULL, "the upload belongs to someone else");
}

enum sg_error upload_load(struct sg_request *req, const char *id, unsigned kinds,
                          struct sg_upload **out)
{
    if (sg_validate_ulid(id, strlen(id)) != NULL)
        return sg_request_fail(req, SG_ERR_NOT_FOUND, NULL, "there is no such upload");
    struct sg_upload *row = NULL;
    enum sg_error err = upload_get(req->svc, id, &row);
    if (err == SG_OK && (kinds & UPLOAD_KIND_BIT(row->f.kind)) == 0)
        err = SG_ERR_NOT_FOUND;
    if (err == SG_ERR_NOT_FOUND)
        err = sg_request_fail(req, err, NULL, "there is no such upload");
    if (err == SG_OK && req->identity.role != SG_ROLE_ADMIN &&
        strcmp(req->identity.user_id, row->f.owner) != 0)
        err = deny(req, id);
    if (err != SG_OK)
        sg_upload_free(&row);
    else
        *out = row;
    return err;
}

/* ---- what is owed ---- */

/* The last byte was acknowledged, so the client has no reason to come again: it becomes an asset,
 * however long the daemon was away. */
static bool is_owed_an_asset(const struct sg_upload_fields *f)
{
    return (f->kind == SG_UPLOAD_TUS || f->kind == SG_UPLOAD_TUS_FINAL) &&
           (f->state == SG_UPLOAD_ACTIVE || f->state == SG_UPLOAD_PROCESSING) && f->has_size &&
           f->offset_bytes == f->size_bytes;
}

struct owed_read {
    const struct sg_config *cfg;
    const char *owner;
};

static enum sg_error read_owed_quota(struct sg_db_conn *c, void *arg)
{
    const struct owed_read *r = arg;
    return upload_quota_owed(c, r->cfg, r->owner);
}

enum sg_error upload_check_owed(struct sg_services *svc, const struct sg_upload_fields *f)
{
    struct owed_read r = {.cfg = sg_services_config(svc), .owner = f->owner};
    if (!is_owed_an_asset(f) || f->state != SG_UPLOAD_ACTIVE)
        return SG_OK;
    return sg_db_read(svc->db, read_owed_quota, &r);
}

/* ---- removal ---- */

struct removal {
    const char *id;
    const struct sg_config *cfg;
    uint64_t expired_before_ms; /* not 0: only when it has expired by then */
    enum sg_upload_state was;
    struct sg_audit_event event;
};

/* CONFLICT: not yet. One that is owed an asset waits for it only as long as it is not its owner who
 * has too much for another. */
static enum sg_error check_expired(struct sg_db_conn *c, const struct removal *r,
                                   const struct sg_upload_fields *f)
{
    if (f->expires_ms >= r->expired_before_ms)
        return SG_ERR_CONFLICT;
    if (!is_owed_an_asset(f))
        return SG_OK;
    enum sg_error err = upload_quota_owed(c, r->cfg, f->owner);
    return err == SG_ERR_QUOTA ? SG_OK : err == SG_OK ? SG_ERR_CONFLICT : err;
}

static enum sg_error remove_row(struct sg_db_conn *c, void *arg)
{
    struct removal *r = arg;
    struct sg_upload *row = NULL;
    enum sg_error err = sg_upload_get(c, r->id, &row);
    if (err != SG_OK)
        return err;
    r->was = row->f.state;
    if (r->expired_before_ms != 0)
        err = check_expired(c, r, &row->f);
    sg_upload_free(&row);
    if (err != SG_OK)
        return err;
    if (r->was == SG_UPLOAD_PROCESSING) {
        /* Left over by a completion that could not put it back: its asset was never ready. */
        err = sg_asset_delete(c, r->id, 0);
        if (err != SG_OK && err != SG_ERR_NOT_FOUND)
            return err;
    }
    err = sg_upload_delete(c, r->id);
    /* Forgetting one that ended long ago changes nothing anybody has. */
    bool ended = r->was == SG_UPLOAD_DONE || r->was == SG_UPLOAD_FAILED;
    if (err != SG_OK || (ended && r->expired_before_ms != 0))
        return err;
    return sg_audit_append(c, &r->event);
}

/* Under the claim. */
static enum sg_error remove_claimed(struct sg_services *svc, struct removal *r)
{
    char resource[sizeof "upload/" - 1 + SG_ULID_SIZE] = "upload/";
    memcpy(resource + sizeof "upload/" - 1, r->id, SG_ULID_SIZE);
    r->event.resource = resource;
    enum sg_error err = sg_db_write(svc->db, remove_row, r);
    if (err != SG_OK)
        return err;
    if (r->was == SG_UPLOAD_DONE || r->was == SG_UPLOAD_FAILED)
        return SG_OK;
    sg_metric_gauge_add(SG_METRIC_UPLOAD_OPEN, 0, -1);
    upload_hash_forget(svc->uploads, r->id);
    err = sg_blob_discard(svc->blobs, r->id);
    /* A completion whose last transaction failed left it in its place. */
    if (sg_blob_remove(svc->blobs, r->id) != SG_OK)
        err = SG_ERR_IO;
    sg_media_sweep(svc->media, svc->media_processes);
    if (err != SG_OK)
        sg_warn_log("upload", "file of upload %s stays until the next start", r->id);
    return SG_OK;
}

enum sg_error upload_remove(struct sg_services *svc, const char *id, const char *actor,
                            const char *action, const char *request_id)
{
    struct upload_claim *claim = NULL;
    enum sg_error err = upload_claim_take(svc->uploads->claims, id, UPLOAD_SLOT_ALL, &claim);
    if (err != SG_OK)
        return err;
    struct removal r = {.id = id,
                        .event = {.event_type = "data",
                                  .actor = actor,
                                  .action = action,
                                  .result = "success",
                                  .request_id = request_id}};
    err = upload_claim_enter(claim);
    if (err == SG_OK) {
        err = remove_claimed(svc, &r);
        upload_claim_leave(claim);
    }
    upload_claim_release(&claim);
    if (err == SG_OK && r.was == SG_UPLOAD_ACTIVE)
        sg_metric_add(SG_METRIC_UPLOAD_ABORTED, 0, 1);
    return err;
}

/* ---- the staged file ---- */

enum sg_error upload_open_staged(struct sg_services *svc, const struct sg_upload_fields *f,
                                 int *out_fd)
{
    enum sg_error err = sg_blob_open_staged(svc->blobs, f->id, out_fd);
    if (err != SG_ERR_NOT_FOUND || f->offset_bytes > 0)
        return err;
    err = sg_blob_stage(svc->blobs, f->id, out_fd);
    return err == SG_ERR_EXISTS ? sg_blob_open_staged(svc->blobs, f->id, out_fd) : err;
}

enum sg_error upload_sync_staged(struct sg_services *svc, int fd, bool first)
{
    enum sg_error err = sg_fs_fdatasync(fd);
    return err == SG_OK && first ? sg_blob_sync_staged(svc->blobs) : err;
}

/* ---- each second ---- */

#define EXPIRE_BATCH 64

struct id_batch {
    char ids[EXPIRE_BATCH][SG_ULID_SIZE];
    size_t n;
    struct sg_upload_expiry q;
};

static enum sg_error batch_add(void *arg, const char *id)
{
    struct id_batch *b = arg;
    memcpy(b->ids[b->n++], id, SG_ULID_SIZE);
    return SG_OK;
}

static enum sg_error read_expired(struct sg_db_conn *c, void *arg)
{
    struct id_batch *b = arg;
    b->n = 0;
    return sg_upload_expired(c, &b->q, batch_add, b);
}

/* One that is written to right now is left alone: its row's expiry is refreshed by the commit.
 * False: it is there still. */
static bool expire_one(struct sg_services *svc, const char *id, uint64_t now_ms)
{
    struct upload_claim *claim = NULL;
    if (upload_claim_try(svc->uploads->claims, id, UPLOAD_SLOT_ALL, &claim) != SG_OK)
        return false;
    struct removal r = {.id = id,
                        .cfg = sg_services_config(svc),
                        .expired_before_ms = now_ms,
                        .event = {.event_type = "data",
                                  .actor = "system",
                                  .action = "upload.expire",
                                  .result = "success"}};
    bool removed = false;
    if (upload_claim_enter(claim) == SG_OK) {
        removed = remove_claimed(svc, &r) == SG_OK;
        if (removed && r.was == SG_UPLOAD_ACTIVE)
            sg_metric_add(SG_METRIC_UPLOAD_EXPIRED, 0, 1);
        upload_claim_leave(claim);
    }
    upload_claim_release(&claim);
    return removed;
}

/* On a blocking thread: removing a large file takes a while. Those that stay are passed over, so
 * that however many one user has of them, nobody else's wait behind them. */
static void expire(void *arg)
{
    struct sg_services *svc = arg;
    const struct sg_config *cfg = sg_services_config(svc);
    struct id_batch b = {.n = EXPIRE_BATCH,
                         .q = {.now_ms = sg_clock_wall_ms(),
                               .max_bytes = sg_config_uint(cfg, SG_SET_quota_max_bytes),
                               .max_assets = sg_config_uint(cfg, SG_SET_quota_max_assets),
                               .limit = EXPIRE_BATCH}};
    while (b.n == EXPIRE_BATCH && !atomic_load(&svc->draining) &&
           sg_db_read(svc->db, read_expired, &b) == SG_OK)
        for (size_t i = 0; i < b.n; i++)
            b.q.skip += !expire_one(svc, b.ids[i], b.q.now_ms);
    atomic_store(&svc->uploads->expiring, false);
}

/* ---- its completion ---- */

#define RESUME_EVERY_S 5u
#define RESUME_PAUSE_MAX_S 60u

struct owed {
    char (*ids)[SG_ULID_SIZE];
    size_t n, cap;
};

static enum sg_error add_owed(void *arg, const struct sg_upload *u)
{
    struct owed *o = arg;
    if (!is_owed_an_asset(&u->f))
        return SG_OK;
    if (o->n == o->cap) {
        size_t cap = o->cap != 0 ? 2 * o->cap : EXPIRE_BATCH;
        void *grown = reallocarray(o->ids, cap, SG_ULID_SIZE);
        if (grown == NULL)
            return SG_ERR_NO_MEMORY;
        o->ids = grown;
        o->cap = cap;
    }
    memcpy(o->ids[o->n++], u->f.id, SG_ULID_SIZE);
    return SG_OK;
}

static enum sg_error read_owed(struct sg_db_conn *c, void *arg)
{
    return sg_upload_each_open(c, add_owed, arg);
}

/* The daemon was killed before it made the asset, or the storage failed then. False: it was tried,
 * and failed. */
static bool resume_one(struct sg_services *svc, const char *id)
{
    struct upload_claim *claim = NULL;
    if (upload_claim_try(svc->uploads->claims, id, UPLOAD_SLOT_ALL, &claim) != SG_OK)
        return true; /* somebody is at it */
    struct upload_completion c = {.svc = svc, .id = id, .claim = claim};
    enum sg_error err = upload_complete(&c);
    if (err == SG_OK)
        sg_info_log("upload", "upload %s, whole since before, is an asset now", id);
    else
        sg_debug_log("upload", "upload %s, whole since before: %s", id, sg_error_title(err));
    upload_claim_release(&claim);
    /* A quota is looked at before the file is. */
    return err == SG_OK || err == SG_ERR_QUOTA || err == SG_ERR_SUPERSEDED;
}

/* One after the other, on one blocking thread: each may read a whole file. What fails is tried less
 * and less often. */
static void resume_owed(void *arg)
{
    struct sg_services *svc = arg;
    struct sg_upload_memory *m = svc->uploads;
    struct owed o = {0};
    bool failed = sg_db_read(svc->db, read_owed, &o) != SG_OK;
    for (size_t i = 0; i < o.n && !atomic_load(&svc->draining); i++)
        failed |= !resume_one(svc, o.ids[i]);
    free(o.ids);
    unsigned pause_s = failed ? 2 * m->resume_pause_s : 0;
    pause_s = pause_s > RESUME_EVERY_S ? pause_s : RESUME_EVERY_S;
    m->resume_pause_s = pause_s < RESUME_PAUSE_MAX_S ? pause_s : RESUME_PAUSE_MAX_S;
    atomic_store(&m->resume_in_s, m->resume_pause_s - 1);
    atomic_store(&m->resuming, false);
}

void upload_sessions_tick(struct sg_services *svc)
{
    struct sg_upload_memory *m = svc->uploads;
    if (!atomic_exchange(&m->expiring, true) && sg_pool_submit(svc->blocking, expire, svc) != SG_OK)
        atomic_store(&m->expiring, false); /* the next second, then */
    if (atomic_load(&m->resuming))
        return;
    if (atomic_load(&m->resume_in_s) > 0) {
        atomic_fetch_sub(&m->resume_in_s, 1);
        return;
    }
    atomic_store(&m->resuming, true);
    if (sg_pool_submit(svc->blocking, resume_owed, svc) != SG_OK)
        atomic_store(&m->resuming, false);
}
