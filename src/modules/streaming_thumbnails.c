/* The job that makes the pictures of an asset - its poster and the sheets of its storyboard - ahead
 * of the first viewer. They are content like any other: in memory while they are asked for, made
 * again when they are not. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/validate.h"
#include "streamgate/layers/jobs.h"
#include "streamgate/media/storyboard.h"

#include "streaming.h"

static const char *check_payload(const json_t *payload)
{
    const char *id = json_string_value(json_object_get(payload, "asset_id"));
    if (id == NULL || json_object_size(payload) != 1 || sg_validate_ulid(id, strlen(id)) != NULL)
        return "must be {\"asset_id\": the id of an asset}";
    return NULL;
}

struct reading {
    const char *id;
    struct sg_buf *index;
};

static enum sg_error read_index(struct sg_db_conn *c, void *arg)
{
    struct reading *r = arg;
    return sg_asset_get_index(c, r->id, &r->index);
}

/* ---- one picture ---- */

struct wait {
    pthread_mutex_t lock; /* guards the rest */
    pthread_cond_t cond;
    bool finished;
    enum sg_error err;
};

static void woken(void *arg, enum sg_error err, struct sg_buf *buf)
{
    struct wait *w = arg;
    if (buf != NULL)
        sg_buf_unref(buf);
    pthread_mutex_lock(&w->lock);
    w->err = err;
    w->finished = true;
    pthread_cond_signal(&w->cond);
    pthread_mutex_unlock(&w->lock);
}

struct rendering {
    struct sg_content_cache *cache;
    struct stream_content content;
};

static void rendered(void *arg, enum sg_error err, struct sg_buf *body, const char *why)
{
    struct rendering *r = arg;
    (void)why;
    sg_content_fill(r->cache, r->content.key, r->content.key_len, err, body);
    free(r);
}

static enum sg_error start(struct sg_services *svc, const struct stream_content *c,
                           const struct sg_render *like)
{
    struct rendering *r = malloc(sizeof *r);
    if (r == NULL)
        return SG_ERR_NO_MEMORY;
    *r = (struct rendering){.cache = svc->content, .content = *c};
    struct sg_render render = *like;
    render.limits = &svc->media_limits;
    render.done = rendered;
    render.arg = r;
    enum sg_error err = sg_media_render(svc->media, &render);
    if (err != SG_OK)
        free(r);
    return err;
}

/* Waits for it, whoever makes it. */
static enum sg_error make_picture(struct sg_services *svc, const struct stream_content *c,
                                  const struct sg_render *render)
{
    struct wait w = {.lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};
    struct sg_waiter waiter = {.wake = woken, .arg = &w};
    struct sg_buf *buf = NULL;
    switch (sg_content_get(svc->content, c->key, c->key_len, &waiter, &buf)) {
    case SG_CONTENT_HIT:
        sg_buf_unref(buf);
        w.finished = true;
        break;
    case SG_CONTENT_LEAD: {
        enum sg_error err = start(svc, c, render);
        if (err != SG_OK)
            sg_content_fill(svc->content, c->key, c->key_len, err, NULL);
        break;
    }
    case SG_CONTENT_WAIT:
        break;
    case SG_CONTENT_FULL:
        w.finished = true;
        w.err = SG_ERR_NO_MEMORY;
    }
    pthread_mutex_lock(&w.lock);
    while (!w.finished)
        pthread_cond_wait(&w.cond, &w.lock);
    pthread_mutex_unlock(&w.lock);
    pthread_cond_destroy(&w.cond);
    pthread_mutex_destroy(&w.lock);
    return w.err;
}

/* ---- all of them ---- */

static enum sg_error make_all(struct sg_job_run *run, struct sg_services *svc,
                              struct sg_render *render)
{
    struct sg_storyboard board;
    if (sg_storyboard_layout(render->index, &board) != SG_OK)
        return sg_job_run_fail(run, SG_ERR_UNPROCESSABLE, "the asset has no picture");
    for (uint32_t n = 0; n <= board.sheets; n++) {
        struct stream_content c = {.kind = n == 0 ? STREAM_POSTER : STREAM_STORYBOARD};
        if (sg_job_run_stopped(run))
            return SG_ERR_CANCELLED;
        render->kind = n == 0 ? SG_RENDER_POSTER : SG_RENDER_STORYBOARD;
        render->time_ms = SG_POSTER_ANY;
        render->number = n == 0 ? 0 : n - 1;
        if (n == 0)
            stream_poster_key(&c, render->key, render);
        else
            stream_make_key(&c, render->key, "storyboard", "jpg", render->number);
        enum sg_error err = make_picture(svc, &c, render);
        if (err != SG_OK)
            return err;
        sg_job_run_progress(
            run, &(struct sg_job_progress){
                     .percent = 100.0 * n / board.sheets, .fps = -1, .speed = -1, .eta_s = -1});
    }
    sg_job_run_result(run, json_pack("{s:i, s:i}", "posters", 1, "sheets", (int)board.sheets));
    return SG_OK;
}

static enum sg_error run_thumbnails(struct sg_job_run *run, void *arg)
{
    struct sg_services *svc = arg;
    json_t *payload = json_loads(sg_job_run_job(run)->payload, 0, NULL);
    struct reading r = {.id = json_string_value(json_object_get(payload, "asset_id"))};
    struct sg_media_index *index = NULL;
    int fd = -1;
    enum sg_error err = r.id != NULL ? sg_db_read(svc->db, read_index, &r) : SG_ERR_INVALID;
    if (err == SG_OK)
        err = sg_media_index_decode(r.index->data, r.index->len, &index);
    if (err == SG_OK)
        err = sg_blob_open(svc->blobs, r.id, &fd);
    if (err == SG_OK) {
        struct sg_render render = {
            .key = r.id, .fd = fd, .index = index, .track = sg_media_index_video(index)};
        err = make_all(run, svc, &render);
    } else if (err == SG_ERR_NOT_FOUND) {
        err = sg_job_run_fail(run, err, "there is no such asset, or nothing of it to look at");
    }
    if (fd >= 0)
        close(fd);
    sg_media_index_unref(index);
    if (r.index != NULL)
        sg_buf_unref(r.index);
    json_decref(payload);
    return err;
}

static struct sg_job_type type = {
    .name = "thumbnails",
    .summary = "Make poster and storyboard of an asset ahead of the first viewer",
    .concurrency = SG_SET_worker_housekeeping,
    .timeout = SG_SET_worker_housekeeping_timeout,
    .role = SG_ROLE_ADMIN,
    .max_attempts = 3,
    .backoff_ms = 2000,
    .backoff_max_ms = 600000,
    .check = check_payload,
    .run = run_thumbnails,
};

enum sg_error stream_thumbnails_register(struct sg_services *svc)
{
    type.arg = svc;
    return sg_jobs_register(svc->jobs, &type);
}
