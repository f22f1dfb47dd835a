/* A job that makes renditions: from its rows to files in their place.
 *
 * Invariants: a rendition is offered only after its file was checked, synced and renamed into its
 * place; rows of all that a try made become ready in one transaction; whatever ends a try earlier
 * leaves staged files at most, which the next try or start removes. Made twice is the same as made
 * once: a row that is not waiting any more is passed over. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/fs.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"
#include "streamgate/layers/live.h"
#include "streamgate/store/audit_store.h"

#include "transcoder.h"

/* ---- what there is to do ---- */

struct reading {
    const struct sg_job_fields *job;
    struct transcoding *t;
    struct sg_buf *index;
};

static enum sg_error read_rows(struct sg_db_conn *c, void *arg)
{
    struct reading *r = arg;
    enum sg_error err = sg_asset_get(c, r->job->asset_id, &r->t->asset);
    if (err == SG_OK)
        err = sg_asset_get_index(c, r->job->asset_id, &r->index);
    return err != SG_OK ? err : sg_rendition_list(c, r->job->asset_id, &r->t->all);
}

static bool is_due(const struct transcoding *t, const struct sg_rendition *r)
{
    return r->state == SG_RENDITION_WAITING && strcmp(r->job_id, sg_job_run_job(t->run)->id) == 0;
}

/* Whoever keeps what an earlier try showed has other bytes than this one will make. */
static enum sg_error rename_shown(struct sg_db_conn *c, void *arg)
{
    struct transcoding *t = arg;
    enum sg_error err = SG_OK;
    for (size_t i = 0; i < t->all.n && err == SG_OK; i++) {
        struct sg_rendition *r = &t->all.items[i];
        if (is_due(t, r) && r->shown)
            err = sg_rendition_rename(c, r);
        if (err == SG_ERR_NOT_FOUND) /* dropped meanwhile */
            err = SG_OK;
    }
    return err;
}

static enum sg_error load(struct transcoding *t)
{
    bool shown = false;
    struct reading r = {.job = sg_job_run_job(t->run), .t = t};
    enum sg_error err = sg_db_read(t->svc->db, read_rows, &r);
    if (err == SG_OK)
        err = sg_media_index_decode(r.index->data, r.index->len, &t->source);
    if (r.index != NULL)
        sg_buf_unref(r.index);
    if (err == SG_ERR_NOT_FOUND)
        return sg_job_run_fail(t->run, err, "the asset is not there any more");
    for (size_t i = 0; i < t->all.n && err == SG_OK; i++) {
        if (!is_due(t, &t->all.items[i]))
            continue;
        if (t->n == SG_TRANSCODE_OUTPUTS_MAX)
            return SG_ERR_TOO_LARGE;
        t->items[t->n++] = &t->all.items[i];
        shown |= t->all.items[i].shown;
    }
    if (err == SG_OK && shown) {
        err = sg_db_write(t->svc->db, rename_shown, t);
        sg_asset_cache_invalidate(t->svc->assets, r.job->asset_id);
    }
    t->live = t->asset != NULL && t->asset->f.status == SG_ASSET_PROCESSING &&
              strcmp(r.job->type, TRANSCODER_FIRST) == 0;
    return err;
}

/* ---- files ---- */

static enum sg_error stage(struct transcoding *t, const char *id, int *out)
{
    enum sg_error err = sg_blob_discard(t->svc->blobs, id); /* of a try before, like the other */
    if (err == SG_OK)
        err = sg_blob_remove(t->svc->blobs, id);
    return err == SG_OK ? sg_blob_stage(t->svc->blobs, id, out) : err;
}

/* Nobody but this try knows the file, so it needs no name. */
static enum sg_error stage_live(struct transcoding *t, int *out)
{
    char id[SG_ULID_SIZE];
    sg_ulid_make(id);
    enum sg_error err = sg_blob_stage(t->svc->blobs, id, out);
    return err == SG_OK ? sg_blob_discard(t->svc->blobs, id) : err;
}

static bool shows_early(const struct transcoding *t, uint32_t i)
{
    return t->live && t->plan.outputs[i].video != SG_TRANSCODE_VIDEO_COPY;
}

static enum sg_error open_files(struct transcoding *t)
{
    enum sg_error err = sg_blob_open(t->svc->blobs, t->asset->f.id, &t->fd);
    if (err == SG_ERR_NOT_FOUND)
        return sg_job_run_fail(t->run, err, "the asset's file is not there any more");
    if (err == SG_OK)
        err = transcoder_plan(t);
    for (uint32_t i = 0; i < t->n && err == SG_OK; i++) {
        err = stage(t, t->items[i]->id, &t->plan.outputs[i].fd);
        if (err == SG_OK && shows_early(t, i))
            err = stage_live(t, &t->plan.outputs[i].live_fd);
    }
    return err;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void close_files(struct transcoding *t)
{
    close_fd(&t->fd);
    for (uint32_t i = 0; i < t->plan.n_outputs; i++) {
        close_fd(&t->plan.outputs[i].fd);
        close_fd(&t->plan.outputs[i].live_fd);
    }
}

/* ---- making ---- */

static enum sg_error encode(struct transcoding *t)
{
    const struct sg_config *cfg = sg_services_config(t->svc);
    uint64_t free_bytes, total, keep = sg_config_uint(cfg, SG_SET_storage_min_free);
    enum sg_error err = sg_blob_space(t->svc->blobs, &free_bytes, &total);
    if (err == SG_OK && free_bytes <= keep)
        err = SG_ERR_NO_SPACE;
    if (err != SG_OK)
        return err;
    const struct sg_transcode_process process = {
        .memory_bytes = sg_config_uint(cfg, SG_SET_transcode_memory),
        .file_bytes = free_bytes - keep,
        .timeout_ms = sg_config_uint(cfg, SG_SET_transcode_timeout),
        .stall_ms = sg_config_uint(cfg, SG_SET_transcode_stall),
        .niceness = (unsigned)sg_config_uint(cfg, SG_SET_transcode_niceness),
        .spare_cpus = (unsigned)sg_config_uint(cfg, SG_SET_transcode_spare_cpus),
    };
    const struct sg_transcode_watch watch = {
        .stop_fd = sg_job_run_stop_fd(t->run),
        .event = transcoder_event,
        /* Who watches what is being made waits for the encoder more than for the server. */
        .crowded = t->live ? NULL : transcoder_crowded,
        .arg = t};
    t->streamed = sg_metric_read(SG_METRIC_STREAM_BYTES, 0);
    t->began_ns = sg_clock_mono_ns();
    sg_metric_gauge_add(SG_METRIC_TRANSCODE_RUNNING, 0, 1);
    err = sg_media_transcode(&process, &t->plan, &watch, &t->result, t->why);
    sg_metric_gauge_add(SG_METRIC_TRANSCODE_RUNNING, 0, -1);
    return err;
}

/* Synced before its place, in its place before its row. */
static enum sg_error place(struct transcoding *t)
{
    enum sg_error err = SG_OK;
    for (uint32_t i = 0; i < t->n && err == SG_OK; i++) {
        if (sg_job_run_stopped(t->run))
            return SG_ERR_CANCELLED;
        err = sg_fs_fdatasync(t->plan.outputs[i].fd);
        if (err == SG_OK)
            err = transcoder_check(t, i);
    }
    for (uint32_t i = 0; i < t->n && err == SG_OK; i++) {
        err = sg_blob_publish(t->svc->blobs, t->items[i]->id);
        t->made[i].published = err == SG_OK;
    }
    return err;
}

struct commit {
    struct transcoding *t;
    bool taken[SG_TRANSCODE_OUTPUTS_MAX]; /* the row was still waiting */
    bool ready;                           /* the asset became so */
};

static enum sg_error audit_ready(struct sg_db_conn *c, const struct transcoding *t)
{
    char resource[sizeof "asset/" + SG_ULID_SIZE];
    snprintf(resource, sizeof resource, "asset/%s", t->asset->f.id);
    return sg_audit_append(c, &(struct sg_audit_event){.event_type = "data",
                                                       .actor = "system",
                                                       .action = "asset.ready",
                                                       .resource = resource,
                                                       .result = "success"});
}

static enum sg_error write_rows(struct sg_db_conn *c, void *arg)
{
    struct commit *k = arg;
    struct transcoding *t = k->t;
    uint64_t now_ms = sg_clock_wall_ms();
    bool any = false;
    for (uint32_t i = 0; i < t->n; i++) {
        const struct sg_rendition_done done = {.id = t->items[i]->id,
                                               .size_bytes = t->result.bytes[i],
                                               .now_ms = now_ms,
                                               .index = t->made[i].index,
                                               .index_len = t->made[i].index_len};
        enum sg_error err = sg_rendition_finish(c, &done);
        if (err != SG_OK && err != SG_ERR_NOT_FOUND)
            return err;
        k->taken[i] = err == SG_OK;
        any |= k->taken[i];
    }
    if (!any) /* all of it was dropped meanwhile */
        return SG_OK;
    enum sg_error err = sg_rendition_asset_ready(c, t->asset->f.id, now_ms);
    k->ready = err == SG_OK;
    if (err == SG_ERR_NOT_FOUND) /* it is ready already, or gone */
        return SG_OK;
    return err == SG_OK ? audit_ready(c, t) : err;
}

static json_t *result_json(const struct transcoding *t)
{
    json_t *items = json_array();
    for (uint32_t i = 0; i < t->n && items != NULL; i++) {
        json_t *item = json_pack("{s:s, s:I, s:I}", "name", t->items[i]->dir, "bytes",
                                 (json_int_t)t->result.bytes[i], "frames",
                                 (json_int_t)t->result.video[i].frames);
        if (json_array_append_new(items, item) != 0) {
            json_decref(items);
            return NULL;
        }
    }
    return json_pack("{s:o}", "renditions", items);
}

static enum sg_error commit(struct transcoding *t)
{
    struct commit k = {.t = t};
    enum sg_error err = sg_db_write(t->svc->db, write_rows, &k);
    sg_asset_cache_invalidate(t->svc->assets, t->asset->f.id);
    /* After an I/O error the rows may be in the log all the same, and come back after a crash: then
     * they need their files. Else the next try or start removes them. */
    for (uint32_t i = 0; i < t->n && err == SG_ERR_IO; i++)
        t->made[i].published = false;
    if (err != SG_OK)
        return err;
    for (uint32_t i = 0; i < t->n; i++) {
        t->made[i].published = t->made[i].published && !k.taken[i]; /* the others' files go */
        if (k.taken[i])
            sg_metric_add(SG_METRIC_TRANSCODE_SUCCESS, 0, 1);
    }
    sg_metric_add(SG_METRIC_TRANSCODE_FRAMES, 0, t->result.decoded);
    sg_job_run_progress(
        t->run, &(struct sg_job_progress){.percent = 100, .fps = -1, .speed = -1, .eta_s = 0});
    sg_job_run_result(t->run, result_json(t));
    return SG_OK;
}

/* ---- the end ---- */

static void clear(struct transcoding *t)
{
    bool removed = false;
    sg_live_end(&t->making);
    close_files(t);
    for (uint32_t i = 0; i < t->n; i++) {
        const char *id = t->items[i]->id;
        enum sg_error err = sg_blob_discard(t->svc->blobs, id);
        if (err == SG_OK && t->made[i].published)
            err = sg_blob_remove(t->svc->blobs, id);
        if (err != SG_OK)
            sg_warn_log("transcoder", "file of rendition %s stays until the next start", id);
        removed |= t->made[i].published;
        if (t->shown) /* what was kept of it is not asked for any more */
            sg_content_invalidate(t->svc->content, id, strlen(id));
        free(t->made[i].index);
    }
    if (removed)
        sg_media_sweep(t->svc->media, t->svc->media_processes);
    sg_rendition_list_free(&t->all);
    sg_media_index_unref(t->source);
    if (t->asset != NULL)
        sg_asset_unref(t->asset);
    free(t);
}

static enum sg_error make(struct transcoding *t)
{
    enum sg_error err = load(t);
    if (err != SG_OK || t->n == 0)
        return err;
    err = open_files(t);
    if (err == SG_OK)
        err = encode(t);
    if (err == SG_OK)
        err = place(t);
    if (err == SG_OK)
        err = commit(t);
    if (err != SG_OK && t->why[0] != '\0')
        return sg_job_run_fail(t->run, err, "%s", t->why);
    return err;
}

enum sg_error transcoder_run(struct sg_job_run *run, void *arg)
{
    struct transcoding *t = calloc(1, sizeof *t);
    if (t == NULL)
        return SG_ERR_NO_MEMORY;
    t->svc = arg;
    t->run = run;
    t->fd = -1;
    for (uint32_t i = 0; i < SG_TRANSCODE_OUTPUTS_MAX; i++)
        t->live_tracks[i] = -1;
    enum sg_error err = make(t);
    if (err != SG_OK && !sg_job_run_stopped(run))
        sg_metric_add(SG_METRIC_TRANSCODE_FAILED, 0, 1);
    clear(t);
    return err;
}
