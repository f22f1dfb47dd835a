/* From a body to an asset.
 *
 * Invariants: nothing is visible before the transaction commits; whatever ends the request earlier
 * (an error, a dropped connection, a crash) leaves no row, and no file that the next start would
 * not remove. The file is probed while it is being synced: both only read what the page cache
 * already holds. */
#include "upload_ingest.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/fs.h"
#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"
#include "streamgate/base/validate.h"
#include "streamgate/http/digest_field.h"
#include "streamgate/http/multipart.h"

#include "upload_form.h"

static uint32_t kind_requests[INGEST_KINDS], kind_success[INGEST_KINDS], kind_failed[INGEST_KINDS];

enum sg_error ingest_define_metrics(void)
{
    static const char *const labels[INGEST_KINDS] = {
        [INGEST_RAW] = "kind=\"raw\"", [INGEST_FORM] = "kind=\"multipart\""};
    for (int k = 0; k < INGEST_KINDS; k++) {
        enum sg_error err =
            sg_metric_define(SG_METRIC_UPLOAD_REQUESTS, labels[k], &kind_requests[k]);
        if (err == SG_OK)
            err = sg_metric_define(SG_METRIC_UPLOAD_SUCCESS, labels[k], &kind_success[k]);
        if (err == SG_OK)
            err = sg_metric_define(SG_METRIC_UPLOAD_FAILED, labels[k], &kind_failed[k]);
        if (err != SG_OK)
            return err;
    }
    return SG_OK;
}

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
        sg_metric_add(SG_METRIC_UPLOAD_FAILED, kind_failed[in->kind], 1);
    sg_metric_gauge_add(SG_METRIC_UPLOADS_IN_FLIGHT, 0, -1);
    sg_sha256_destroy(&in->sha);
    sg_sha256_destroy(&in->body_sha);
    sg_multipart_destroy(&in->form);
    free(in->form_state);
    free(in);
}

/* Room for need more bytes beside the reserve, which the database lives on when uploads took the
 * rest. */
static enum sg_error check_space(struct sg_request *req, uint64_t need)
{
    uint64_t avail, total;
    enum sg_error err = sg_blob_space(req->svc->blobs, &avail, &total);
    if (err != SG_OK)
        return err;
    uint64_t keep = sg_config_uint(sg_services_config(req->svc), SG_SET_storage_min_free);
    if (avail < keep || avail - keep < need)
        return sg_request_fail(req, SG_ERR_NO_SPACE, NULL, "the storage is full");
    return SG_OK;
}

enum sg_error ingest_begin(struct sg_request *req, enum ingest_kind kind, struct ingest **out)
{
    bool has_digest;
    uint8_t digest[SG_SHA256_LEN];
    if (sg_content_digest_parse(sg_request_header(req, "content-digest"), &has_digest, digest) !=
        SG_OK)
        return sg_request_fail(req, SG_ERR_INVALID, "Content-Digest",
                               "must be an RFC 9530 dictionary such as sha-256=:<base64>:");
    if (req->has_content_length && req->content_length == 0)
        return sg_request_fail(req, SG_ERR_INVALID, "body", "must not be empty");
    if (!req->may_block)
        return SG_ERR_WOULD_BLOCK;
    enum sg_error err = check_space(req, req->has_content_length ? req->content_length : 0);
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
    sg_metric_add(SG_METRIC_UPLOAD_REQUESTS, kind_requests[kind], 1);
    sg_metric_gauge_add(SG_METRIC_UPLOADS_IN_FLIGHT, 0, 1);
    req->state = in;
    req->state_free = ingest_free;
    err = sg_sha256_create(&in->sha);
    if (err == SG_OK && kind == INGEST_FORM && has_digest)
        err = sg_sha256_create(&in->body_sha);
    if (err == SG_OK)
        *out = in;
    return err;
}

/* ---- early writeback: the disk works while the body still arrives, so that the sync at the end is
 * short ---- */

#define WRITEBACK_BYTES (8u << 20)

struct writeback {
    int fd; /* its own */
    uint64_t offset, len;
};

static void writeback_run(void *arg)
{
    struct writeback *w = arg;
    sg_fs_start_writeback(w->fd, w->offset, w->len);
    close(w->fd);
    free(w);
}

/* A hint only: when anything is short it is left out. */
static void start_writeback(struct sg_request *req, struct ingest *in)
{
    uint64_t from = in->written_back;
    in->written_back = in->size_bytes;
    struct writeback *w = malloc(sizeof *w);
    if (w == NULL)
        return;
    *w = (struct writeback){
        .fd = fcntl(in->fd, F_DUPFD_CLOEXEC, 3), .offset = from, .len = in->size_bytes - from};
    if (w->fd >= 0 && sg_pool_submit(req->svc->sync, writeback_run, w) == SG_OK)
        return;
    if (w->fd >= 0)
        close(w->fd);
    free(w);
}

enum sg_error ingest_write(struct sg_request *req, struct ingest *in, const uint8_t *data,
                           size_t len)
{
    enum sg_error err = sg_fs_write_all(in->fd, data, len);
    if (err != SG_OK)
        return err;
    sg_sha256_update(in->sha, data, len);
    in->size_bytes += len;
    if (in->size_bytes - in->written_back < WRITEBACK_BYTES)
        return SG_OK;
    start_writeback(req, in);
    /* What the headers told was checked at the beginning, but they need not tell, and others
     * upload too. */
    return check_space(req, 0);
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

struct timing {
    uint64_t sync_ns, probe_ns, publish_ns, commit_ns;
};

/* Syncs and probes at the same time. The probe's error wins: it says more. */
static enum sg_error sync_and_probe(struct sg_request *req, struct ingest *in, struct timing *t,
                                    struct sg_media_index **out)
{
    struct sync_job job = {.fd = in->fd};
    pthread_mutex_init(&job.lock, NULL);
    pthread_cond_init(&job.cond, NULL);
    if (sg_pool_submit(req->svc->sync, sync_run, &job) != SG_OK)
        sync_run(&job);

    char why[SG_MEDIA_MESSAGE_MAX] = "";
    struct sg_media_index *index = NULL;
    uint64_t start = sg_clock_mono_ns();
    enum sg_error err =
        sg_media_probe(req->svc->media, in->id, in->fd, &req->svc->media_limits, &index, why);
    t->probe_ns = sg_clock_mono_ns() - start;

    pthread_mutex_lock(&job.lock);
    while (!job.finished)
        pthread_cond_wait(&job.cond, &job.lock);
    pthread_mutex_unlock(&job.lock);
    pthread_cond_destroy(&job.cond);
    pthread_mutex_destroy(&job.lock);
    t->sync_ns = job.took_ns;
    sg_metric_observe_ns(SG_METRIC_UPLOAD_FINISH_PROBE, 0, t->probe_ns);

    if (err != SG_OK)
        return sg_request_fail(req, err, "body", "%s", why[0] != '\0' ? why : sg_error_title(err));
    if (job.err != SG_OK) {
        sg_media_index_unref(index);
        return job.err;
    }
    *out = index;
    return SG_OK;
}

/* ---- the transaction ---- */

struct commit {
    const struct sg_asset_fields *fields;
    const void *index;
    size_t index_len;
    struct sg_audit_event event;
};

static enum sg_error commit_rows(struct sg_db_conn *c, void *arg)
{
    struct commit *commit = arg;
    enum sg_error err = sg_asset_insert(c, commit->fields, commit->index, commit->index_len);
    return err != SG_OK ? err : sg_audit_append(c, &commit->event);
}

static void fill_fields(struct sg_request *req, const struct ingest *in,
                        const struct sg_media_index *index, const uint8_t sha256[SG_SHA256_LEN],
                        struct sg_asset_fields *f)
{
    const struct sg_config *cfg = sg_services_config(req->svc);
    const struct sg_track *video = sg_media_index_video(index);
    const struct sg_track *audio = sg_media_index_audio(index);
    enum sg_asset_policy policy = SG_POLICY_SIGNED;
    if (in->edit.has_policy)
        policy = in->edit.policy;
    else if (strcmp(sg_config_string(cfg, SG_SET_playback_default_policy), "public") == 0)
        policy = SG_POLICY_PUBLIC;
    uint64_t now = sg_clock_wall_ms();
    *f = (struct sg_asset_fields){
        .status = SG_ASSET_READY,
        .policy = policy,
        .title = in->edit.title != NULL ? in->edit.title : in->filename,
        .description = in->edit.description != NULL ? in->edit.description : "",
        .tags_json = in->edit.tags_json != NULL ? in->edit.tags_json : "[]",
        .custom_json = in->edit.custom_json != NULL ? in->edit.custom_json : "{}",
        .filename = in->filename,
        .size_bytes = in->size_bytes,
        .content_type = index->content_type,
        .duration_ms = index->duration_ms,
        .width = video != NULL ? video->display_width : 0,
        .height = video != NULL ? video->display_height : 0,
        .video_codec = video != NULL ? video->codec_name : "",
        .audio_codec = audio != NULL ? audio->codec_name : "",
        .frame_rate_num = video != NULL ? video->fps_num : 0,
        .frame_rate_den = video != NULL ? video->fps_den : 1,
        .error = "",
        .version = 1,
        .created_ms = now,
        .updated_ms = now,
    };
    memcpy(f->id, in->id, SG_ULID_SIZE);
    memcpy(f->owner, req->identity.user_id, SG_ULID_SIZE);
    memcpy(f->sha256, sha256, SG_SHA256_LEN);
}

static enum sg_error commit_asset(struct sg_request *req, struct ingest *in,
                                  const struct sg_media_index *index,
                                  const struct sg_asset_fields *fields)
{
    void *encoded = NULL;
    size_t encoded_len;
    enum sg_error err = sg_media_index_encode(index, &encoded, &encoded_len);
    if (err != SG_OK)
        return err;
    char sha[2 * SG_SHA256_LEN + 1];
    sg_hex_encode(fields->sha256, SG_SHA256_LEN, sha);
    struct commit commit = {
        .fields = fields,
        .index = encoded,
        .index_len = encoded_len,
        .event = {.event_type = "data",
                  .actor = req->identity.user_id,
                  .action = "asset.create",
                  .resource = sg_arena_printf(req->arena, "asset/%s", in->id),
                  .result = "success",
                  .details = sg_arena_printf(req->arena, "{\"sha256\":\"%s\",\"size\":%" PRIu64 "}",
                                             sha, in->size_bytes),
                  .request_id = req->id},
    };
    if (commit.event.resource == NULL || commit.event.details == NULL)
        err = SG_ERR_NO_MEMORY;
    else
        err = sg_db_write(req->svc->db, commit_rows, &commit);
    free(encoded);
    return err;
}

static enum sg_error respond(struct sg_request *req, struct sg_response *res,
                             const struct ingest *in, const struct sg_asset_fields *fields,
                             struct sg_media_index *index)
{
    struct sg_asset *asset = NULL;
    enum sg_error err = sg_asset_create(fields, &asset);
    if (err != SG_OK)
        return err;
    struct sg_asset_entry entry = {.asset = asset, .index = index};
    json_t *body = sg_asset_json(req, &entry);
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

static enum sg_error add_timing(struct sg_request *req, struct sg_response *res,
                                const struct timing *t)
{
    return sg_response_headerf(req, res, "Server-Timing",
                               "sync;dur=%.3f, probe;dur=%.3f, publish;dur=%.3f, commit;dur=%.3f",
                               (double)t->sync_ns / 1e6, (double)t->probe_ns / 1e6,
                               (double)t->publish_ns / 1e6, (double)t->commit_ns / 1e6);
}

static enum sg_error publish_and_commit(struct sg_request *req, struct ingest *in, struct timing *t,
                                        const struct sg_asset_fields *fields,
                                        const struct sg_media_index *index)
{
    uint64_t start = sg_clock_mono_ns();
    enum sg_error err = sg_blob_publish(req->svc->blobs, in->id);
    if (err != SG_OK)
        return err;
    in->published = true;
    t->publish_ns = sg_clock_mono_ns() - start;
    sg_metric_observe_ns(SG_METRIC_UPLOAD_FINISH_SYNC, 0, t->sync_ns + t->publish_ns);
    err = commit_asset(req, in, index, fields);
    t->commit_ns = sg_clock_mono_ns() - start - t->publish_ns;
    if (err != SG_OK && sg_blob_remove(req->svc->blobs, in->id) != SG_OK)
        sg_warn_log("upload", "file of %s has no row; the next start will remove it", in->id);
    return err;
}

static enum sg_error check_content(struct sg_request *req, struct ingest *in,
                                   uint8_t sha256[SG_SHA256_LEN])
{
    if (in->size_bytes == 0)
        return sg_request_fail(req, SG_ERR_INVALID, "body", "must not be empty");
    sg_sha256_final(in->sha, sha256);
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

enum sg_error ingest_finish(struct sg_request *req, struct sg_response *res, struct ingest *in)
{
    uint8_t sha256[SG_SHA256_LEN];
    struct timing t = {0};
    struct sg_media_index *index = NULL;
    struct sg_asset_fields fields;
    enum sg_error err = check_content(req, in, sha256);
    if (err == SG_OK)
        err = sync_and_probe(req, in, &t, &index);
    if (err != SG_OK)
        return err;
    fill_fields(req, in, index, sha256, &fields);
    err = publish_and_commit(req, in, &t, &fields, index);
    if (err == SG_OK) {
        in->done = true;
        sg_metric_add(SG_METRIC_UPLOAD_SUCCESS, kind_success[in->kind], 1);
        sg_metric_add(SG_METRIC_CREATE_METADATA_SUCCESS, 0, 1);
        sg_metric_observe_bytes(SG_METRIC_UPLOAD_SIZE, 0, in->size_bytes);
        sg_metric_observe_ns(SG_METRIC_UPLOAD_LATENCY, 0, sg_clock_mono_ns() - in->begun_ns);
        err = respond(req, res, in, &fields, index);
    }
    if (err == SG_OK)
        err = add_timing(req, res, &t);
    sg_media_index_unref(index);
    return err;
}
