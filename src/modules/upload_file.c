/* Invariant: what publish acknowledged survives a power cut; whatever ends earlier leaves a staged
 * file at most. */
#include "upload_file.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/fs.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"
#include "streamgate/layers/jobs.h"
#include "streamgate/layers/subtitles.h"

#define HASH_BLOCK ((size_t)1 << 20)

enum sg_error upload_file_hash(struct upload_file *f)
{
    uint64_t start = sg_clock_mono_ns();
    uint8_t *block = malloc(HASH_BLOCK);
    struct sg_sha256 *sha = NULL;
    enum sg_error err = block != NULL ? sg_sha256_create(&sha) : SG_ERR_NO_MEMORY;
    for (uint64_t at = 0; at < f->size_bytes && err == SG_OK;) {
        size_t n = f->size_bytes - at < HASH_BLOCK ? (size_t)(f->size_bytes - at) : HASH_BLOCK;
        err = sg_fs_pread_all(f->fd, block, n, at);
        if (err == SG_OK)
            sg_sha256_update(sha, block, n);
        at += n;
    }
    if (err == SG_OK)
        sg_sha256_final(sha, f->sha256);
    sg_sha256_destroy(&sha);
    free(block);
    f->t.hash_ns += sg_clock_mono_ns() - start;
    return err;
}

/* ---- a twin ---- */

struct twin_read {
    const struct upload_file *f;
    struct sg_asset *asset;
    struct sg_buf *index;
};

static enum sg_error read_twin(struct sg_db_conn *c, void *arg)
{
    struct twin_read *r = arg;
    enum sg_error err = sg_asset_find_content(c, r->f->sha256, r->f->size_bytes, &r->asset);
    return err != SG_OK ? err : sg_asset_get_index(c, r->asset->f.id, &r->index);
}

static enum sg_error take_index(struct upload_file *f, const struct sg_buf *encoded)
{
    enum sg_error err = sg_media_index_decode(encoded->data, encoded->len, &f->index);
    if (err != SG_OK)
        return err;
    f->encoded = malloc(encoded->len);
    if (f->encoded == NULL)
        return SG_ERR_NO_MEMORY;
    memcpy(f->encoded, encoded->data, encoded->len);
    f->encoded_len = encoded->len;
    return SG_OK;
}

/* The same bytes were examined before. Whatever goes wrong here only means that they are examined
 * again. */
static bool find_twin(struct upload_file *f)
{
    struct twin_read r = {.f = f};
    enum sg_error err = sg_db_read(f->svc->db, read_twin, &r);
    if (err == SG_OK)
        err = take_index(f, r.index);
    if (err == SG_OK) {
        f->twin = r.asset;
        r.asset = NULL;
    } else {
        sg_media_index_unref(f->index);
        f->index = NULL;
    }
    if (r.asset != NULL)
        sg_asset_unref(r.asset);
    if (r.index != NULL)
        sg_buf_unref(r.index);
    return err == SG_OK;
}

/* ---- syncing beside the probe ---- */

struct sync_job {
    pthread_mutex_t lock; /* guards finished */
    pthread_cond_t cond;
    bool finished;
    int fd;
    enum sg_error err;
    uint64_t took_ns;
};

static void sync_run(void *arg)
{
    struct sync_job *job = arg;
    uint64_t start = sg_clock_mono_ns();
    enum sg_error err = sg_fs_fdatasync(job->fd);
    uint64_t took = sg_clock_mono_ns() - start;
    pthread_mutex_lock(&job->lock);
    job->err = err;
    job->took_ns = took;
    job->finished = true;
    pthread_cond_signal(&job->cond);
    pthread_mutex_unlock(&job->lock);
}

static void sync_begin(struct upload_file *f, struct sync_job *job)
{
    *job = (struct sync_job){.fd = f->fd, .finished = f->synced};
    pthread_mutex_init(&job->lock, NULL);
    pthread_cond_init(&job->cond, NULL);
    if (!f->synced && sg_pool_submit(f->svc->sync, sync_run, job) != SG_OK)
        sync_run(job);
}

static enum sg_error sync_wait(struct upload_file *f, struct sync_job *job)
{
    pthread_mutex_lock(&job->lock);
    while (!job->finished)
        pthread_cond_wait(&job->cond, &job->lock);
    pthread_mutex_unlock(&job->lock);
    pthread_cond_destroy(&job->cond);
    pthread_mutex_destroy(&job->lock);
    f->t.sync_ns += job->took_ns;
    f->synced = job->err == SG_OK;
    return job->err;
}

/* Syncs and probes at the same time: both only read what the page cache holds. The probe's error
 * wins: it says more. */
static enum sg_error sync_and_probe(struct upload_file *f)
{
    struct sync_job job;
    sync_begin(f, &job);
    uint64_t start = sg_clock_mono_ns();
    enum sg_error err =
        sg_media_probe(f->svc->media, f->id, f->fd, &f->svc->media_limits, &f->index, f->why);
    f->t.probe_ns = sg_clock_mono_ns() - start;
    enum sg_error sync_err = sync_wait(f, &job);
    sg_metric_observe_ns(SG_METRIC_UPLOAD_FINISH_PROBE, 0, f->t.probe_ns);
    if (err == SG_OK)
        err = sync_err;
    if (err == SG_OK)
        err = sg_media_index_encode(f->index, &f->encoded, &f->encoded_len);
    return err;
}

static enum sg_error make_plan(struct upload_file *f)
{
    f->plan = malloc(sizeof *f->plan);
    if (f->plan == NULL)
        return SG_ERR_NO_MEMORY;
    sg_renditions_plan(sg_services_config(f->svc), f->index, f->plan);
    return SG_OK;
}

enum sg_error upload_file_examine(struct upload_file *f)
{
    enum sg_error err = find_twin(f) ? SG_OK : sync_and_probe(f);
    return err == SG_OK ? make_plan(f) : err;
}

/* An earlier try of this very upload got as far as putting a file in its place, perhaps not as far
 * as making that durable. */
static enum sg_error found_in_place(struct upload_file *f)
{
    f->shared = !f->in_place;
    return sg_blob_sync_published(f->svc->blobs, f->id);
}

static enum sg_error put_in_place(struct upload_file *f)
{
    if (f->in_place)
        return found_in_place(f);
    if (f->twin != NULL) {
        enum sg_error err = sg_blob_share(f->svc->blobs, f->id, f->twin->f.id);
        f->shared = err == SG_OK;
        if (err == SG_OK)
            return SG_OK;
        if (err == SG_ERR_EXISTS)
            return found_in_place(f);
    }
    /* No twin, or it was just deleted, or has all the links it can have. */
    enum sg_error err = f->synced ? SG_OK : sg_fs_fdatasync(f->fd);
    f->synced = err == SG_OK;
    if (err == SG_OK)
        err = sg_blob_publish(f->svc->blobs, f->id);
    return err == SG_ERR_EXISTS ? found_in_place(f) : err;
}

enum sg_error upload_file_publish(struct upload_file *f)
{
    uint64_t start = sg_clock_mono_ns();
    enum sg_error err = put_in_place(f);
    f->published = err == SG_OK;
    f->t.publish_ns = sg_clock_mono_ns() - start;
    if (err == SG_OK)
        sg_metric_observe_ns(SG_METRIC_UPLOAD_FINISH_SYNC, 0, f->t.sync_ns + f->t.publish_ns);
    return err;
}

void upload_file_settle(struct upload_file *f)
{
    for (unsigned i = 0; i < f->plan->n_jobs; i++)
        sg_jobs_inserted(f->svc->jobs, f->plan->jobs[i].type,
                         f->plan->items[f->plan->jobs[i].first].job_id);
    if (f->texts_job[0] != '\0')
        sg_jobs_inserted(f->svc->jobs, SG_SUBTITLES_JOB, f->texts_job);
    if (!f->shared)
        return;
    sg_metric_add(SG_METRIC_UPLOAD_DEDUPLICATED, 0, 1);
    if (sg_blob_discard(f->svc->blobs, f->id) != SG_OK)
        sg_warn_log("upload", "staged file %s stays until the next start", f->id);
}

void upload_file_retract(struct upload_file *f)
{
    if (!f->published)
        return;
    if (sg_blob_remove(f->svc->blobs, f->id) != SG_OK)
        sg_warn_log("upload", "file of %s has no row; the next start will remove it", f->id);
    sg_media_sweep(f->svc->media, f->svc->media_processes);
    f->published = false;
}

enum sg_error upload_file_begin(struct sg_db_conn *c, struct upload_file *f,
                                const struct sg_asset_fields *asset)
{
    enum sg_error err = sg_renditions_begin(c, asset, f->plan);
    return err == SG_OK && f->index->texts ? sg_subtitles_begin(c, asset, f->texts_job) : err;
}

void upload_file_describe(const struct upload_file *f, struct sg_asset_fields *out)
{
    const struct sg_track *video = sg_media_index_video(f->index);
    const struct sg_track *audio = sg_media_index_audio(f->index);
    memcpy(out->id, f->id, SG_ULID_SIZE);
    memcpy(out->sha256, f->sha256, SG_SHA256_LEN);
    out->status = sg_media_index_packaged(f->index) ? SG_ASSET_READY : SG_ASSET_PROCESSING;
    out->size_bytes = f->size_bytes;
    out->content_type = f->index->content_type;
    out->duration_ms = f->index->duration_ms;
    out->width = video != NULL ? video->display_width : 0;
    out->height = video != NULL ? video->display_height : 0;
    out->video_codec = video != NULL ? video->codec_name : "";
    out->audio_codec = audio != NULL ? audio->codec_name : "";
    out->frame_rate_num = video != NULL ? video->fps_num : 0;
    out->frame_rate_den = video != NULL ? video->fps_den : 1;
    out->error = "";
}

enum sg_asset_policy upload_policy(const struct sg_config *cfg, int asked)
{
    if (asked >= 0)
        return (enum sg_asset_policy)asked;
    bool public = strcmp(sg_config_string(cfg, SG_SET_playback_default_policy), "public") == 0;
    return public ? SG_POLICY_PUBLIC : SG_POLICY_SIGNED;
}

void upload_file_clear(struct upload_file *f)
{
    if (f->twin != NULL)
        sg_asset_unref(f->twin);
    if (f->index != NULL)
        sg_media_index_unref(f->index);
    free(f->encoded);
    free(f->plan);
    f->plan = NULL;
    f->twin = NULL;
    f->index = NULL;
    f->encoded = NULL;
}
