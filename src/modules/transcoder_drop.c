/* Dropping a rendition. Whether the asset can do without it is decided in the transaction that
 * removes its row: of two that may not both go, one stays. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/log.h"
#include "streamgate/store/audit_store.h"

#include "transcoder.h"

struct dropping {
    const char *asset_id, *name; /* in URLs */
    bool packaged;               /* players can have the source */
    char id[SG_ULID_SIZE];
    char idle_job[SG_ULID_SIZE]; /* has nothing left to make; "" none */
    struct sg_audit_event event;
};

static bool is_open(const struct sg_rendition *r)
{
    return r->state == SG_RENDITION_WAITING;
}

/* Whether the asset is, or will be, played by others. What the first job makes is what an asset
 * that cannot be played yet waits for; later ones are extra. */
static bool can_spare(const struct dropping *d, const struct sg_rendition_list *all,
                      const struct sg_rendition *r, enum sg_asset_status status)
{
    if (d->packaged || r->state == SG_RENDITION_FAILED)
        return true;
    if (status == SG_ASSET_PROCESSING)
        return strcmp(r->job_id, all->items[0].job_id) != 0;
    if (is_open(r))
        return true;
    for (size_t i = 0; i < all->n; i++) {
        const struct sg_rendition *other = &all->items[i];
        if (other != r && other->state == SG_RENDITION_READY &&
            (other->kind == r->kind || other->kind == SG_RENDITION_ORIGINAL))
            return true;
    }
    return false;
}

/* One that others wait for ends by itself, having nothing to do. */
static enum sg_error find_idle(struct sg_db_conn *c, struct dropping *d,
                               const struct sg_rendition_list *all, const struct sg_rendition *r)
{
    struct sg_job *job = NULL;
    if (!is_open(r))
        return SG_OK;
    for (size_t i = 0; i < all->n; i++)
        if (&all->items[i] != r && is_open(&all->items[i]) &&
            strcmp(all->items[i].job_id, r->job_id) == 0)
            return SG_OK;
    enum sg_error err = sg_job_get(c, r->job_id, &job);
    if (err == SG_OK && strcmp(job->f.type, "transcode") == 0)
        memcpy(d->idle_job, r->job_id, SG_ULID_SIZE);
    sg_job_free(&job);
    return err == SG_ERR_NOT_FOUND ? SG_OK : err;
}

static const struct sg_rendition *find(const struct sg_rendition_list *all, const char *name)
{
    for (size_t i = 0; i < all->n; i++)
        if (strcmp(all->items[i].dir, name) == 0)
            return &all->items[i];
    return NULL;
}

static enum sg_error drop_one(struct sg_db_conn *c, struct dropping *d,
                              const struct sg_rendition_list *all, enum sg_asset_status status)
{
    const struct sg_rendition *r = find(all, d->name);
    if (r == NULL)
        return SG_ERR_NOT_FOUND;
    if (!can_spare(d, all, r, status))
        return SG_ERR_CONFLICT;
    enum sg_error err = find_idle(c, d, all, r);
    if (err == SG_OK)
        err = sg_rendition_delete(c, r->id);
    if (err == SG_OK)
        memcpy(d->id, r->id, SG_ULID_SIZE);
    return err == SG_OK ? sg_audit_append(c, &d->event) : err;
}

static enum sg_error drop_row(struct sg_db_conn *c, void *arg)
{
    struct dropping *d = arg;
    struct sg_rendition_list all = {0};
    struct sg_asset *asset = NULL;
    d->idle_job[0] = '\0';
    enum sg_error err = sg_asset_get(c, d->asset_id, &asset);
    if (err == SG_OK)
        err = sg_rendition_list(c, d->asset_id, &all);
    if (err == SG_OK)
        err = drop_one(c, d, &all, asset->f.status);
    sg_rendition_list_free(&all);
    sg_asset_unref(asset);
    return err;
}

static void drop_file(struct sg_services *svc, const struct dropping *d)
{
    enum sg_job_state state;
    sg_content_invalidate(svc->content, d->id, strlen(d->id));
    if (sg_blob_remove(svc->blobs, d->id) != SG_OK)
        sg_warn_log("transcoder", "file of rendition %s stays until the next start", d->id);
    sg_media_sweep(svc->media, svc->media_processes);
    if (d->idle_job[0] == '\0')
        return;
    enum sg_error err = sg_jobs_cancel(svc->jobs, d->idle_job, NULL, &state);
    if (err != SG_OK && err != SG_ERR_CONFLICT && err != SG_ERR_NOT_FOUND)
        sg_warn_log("transcoder", "job %s goes on for nothing: %s", d->idle_job,
                    sg_error_title(err));
}

static enum sg_error drop(struct sg_request *req, const struct sg_asset_entry *e, const char *name)
{
    struct dropping d = {
        .asset_id = e->asset->f.id,
        .name = name,
        .packaged = e->index != NULL && sg_media_index_packaged(e->index),
        .event = {.event_type = "data",
                  .actor = req->identity.user_id,
                  .action = "rendition.delete",
                  .resource = sg_arena_printf(req->arena, "asset/%s", e->asset->f.id),
                  .details = sg_arena_printf(req->arena, "{\"name\":\"%s\"}", name),
                  .result = "success",
                  .request_id = req->id}};
    if (d.event.resource == NULL || d.event.details == NULL)
        return SG_ERR_NO_MEMORY;
    enum sg_error err = sg_db_write(req->svc->db, drop_row, &d);
    sg_asset_cache_invalidate(req->svc->assets, e->asset->f.id);
    if (err == SG_ERR_NOT_FOUND)
        return sg_request_fail(req, err, "name",
                               "the asset has no rendition of this name that was made for it");
    if (err == SG_ERR_CONFLICT)
        return sg_request_fail(req, err, "name",
                               "is what the asset is played by; delete the asset instead");
    if (err == SG_OK)
        drop_file(req->svc, &d);
    return err;
}

enum sg_error transcoder_drop(struct sg_request *req, struct sg_response *res)
{
    struct sg_asset_entry *e = NULL;
    enum sg_error err = sg_asset_load_owned(req, false, &e);
    if (err != SG_OK)
        return err;
    err = drop(req, e, sg_request_param(req, "name"));
    if (err == SG_OK)
        sg_response_empty(res, 204);
    sg_asset_entry_unref(e);
    return err;
}
