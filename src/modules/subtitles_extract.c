/* The tracks of text in a film, as a job: a process of its own reads the file, once for each track.
 * Done twice is the same as done once, and what somebody uploaded is never written over. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "streamgate/base/log.h"
#include "streamgate/base/metrics.h"
#include "streamgate/layers/jobs.h"
#include "streamgate/layers/subtitles.h"
#include "streamgate/store/audit_store.h"
#include "streamgate/store/blob.h"

#include "subtitles.h"

struct extraction {
    struct sg_services *svc;
    struct sg_job_run *run;
    const char *asset_id;
    struct sg_subtitle_film *film;
    struct sg_subtitle_tracks tracks;
    char languages[SG_SUBTITLE_TRACKS_MAX][SG_LANGUAGE_SIZE]; /* of the tracks, each once */
    json_t *written, *skipped;
};

/* ---- names ---- */

static bool is_taken(const struct extraction *x, uint32_t upto, const char *language)
{
    for (uint32_t i = 0; i < upto; i++)
        if (strcmp(x->languages[i], language) == 0)
            return true;
    return false;
}

/* A language has one track; further ones of it get a private subtag that says what they are. */
static void name_track(struct extraction *x, uint32_t i)
{
    const struct sg_subtitle_track *t = &x->tracks.items[i];
    char out[SG_LANGUAGE_SIZE];
    snprintf(out, SG_LANGUAGE_SIZE, "%s", t->language);
    if (is_taken(x, i, out))
        snprintf(out, SG_LANGUAGE_SIZE, "%s-x-%s", t->language,
                 t->forced     ? "forced"
                 : t->captions ? "captions"
                               : "more");
    for (unsigned n = 2; is_taken(x, i, out); n++)
        snprintf(out, SG_LANGUAGE_SIZE, "%s-x-%u", t->language, n);
    memcpy(x->languages[i], out, sizeof out);
}

/* Those that say everything come first, as the plain name is theirs. */
static int rank(const struct sg_subtitle_track *t)
{
    return t->forced ? 2 : t->captions ? 1 : 0;
}

static void name_tracks(struct extraction *x)
{
    struct sg_subtitle_tracks sorted = {0};
    for (int r = 0; r <= 2; r++)
        for (uint32_t i = 0; i < x->tracks.n; i++)
            if (rank(&x->tracks.items[i]) == r)
                sorted.items[sorted.n++] = x->tracks.items[i];
    x->tracks = sorted;
    for (uint32_t i = 0; i < x->tracks.n; i++)
        name_track(x, i);
}

/* ---- one track ---- */

struct writing {
    const struct extraction *x;
    struct sg_subtitle track;
    const struct sg_subtitle_text *text;
    bool created;
};

static enum sg_error write_track(struct sg_db_conn *c, void *arg)
{
    struct writing *w = arg;
    char resource[sizeof "asset//subtitles/" + SG_ULID_SIZE + SG_LANGUAGE_SIZE];
    const struct sg_subtitle_put put = {.asset_id = w->x->asset_id,
                                        .track = &w->track,
                                        .text = w->text->text->data,
                                        .text_len = w->text->text->len};
    enum sg_error err = sg_subtitle_put(c, &put, &w->created);
    if (err != SG_OK)
        return err;
    snprintf(resource, sizeof resource, "asset/%s/subtitles/%s", w->x->asset_id, w->track.language);
    return sg_audit_append(c, &(struct sg_audit_event){.event_type = "data",
                                                       .actor = "system",
                                                       .action = "subtitles.extract",
                                                       .resource = resource,
                                                       .result = "success"});
}

static enum sg_error skip(struct extraction *x, uint32_t i, const char *why)
{
    json_t *item = json_pack("{s:s, s:i, s:s}", "language", x->languages[i], "stream",
                             (int)x->tracks.items[i].stream, "why", why);
    return json_array_append_new(x->skipped, item) == 0 ? SG_OK : SG_ERR_NO_MEMORY;
}

static enum sg_error store(struct extraction *x, uint32_t i, const struct sg_subtitle_text *text)
{
    const struct sg_subtitle_track *t = &x->tracks.items[i];
    struct writing w = {.x = x, .text = text};
    w.track.source = SG_SUBTITLE_EMBEDDED;
    w.track.kind = t->captions ? SG_SUBTITLE_CAPTIONS : SG_SUBTITLE_SUBTITLES;
    w.track.forced = t->forced;
    w.track.cues = text->cues;
    w.track.created_ms = w.track.updated_ms = sg_clock_wall_ms();
    memcpy(w.track.language, x->languages[i], SG_LANGUAGE_SIZE);
    snprintf(w.track.label, sizeof w.track.label, "%s", t->title);
    enum sg_error err = sg_db_write(x->svc->db, write_track, &w);
    sg_asset_cache_invalidate(x->svc->assets, x->asset_id);
    if (err == SG_ERR_EXISTS)
        return skip(x, i, "subtitles of this language were uploaded");
    if (err == SG_ERR_TOO_LARGE)
        return skip(x, i, "the asset has as many tracks of subtitles as it may");
    if (err != SG_OK)
        return err;
    sg_metric_add(SG_METRIC_SUBTITLES_WRITTEN, subtitles_series[0][SG_SUBTITLE_EMBEDDED], 1);
    return json_array_append_new(x->written, json_string(x->languages[i])) == 0 ? SG_OK
                                                                                : SG_ERR_NO_MEMORY;
}

static enum sg_error extract_one(struct extraction *x, uint32_t i)
{
    struct sg_subtitle_text text;
    char why[SG_MEDIA_MESSAGE_MAX];
    enum sg_error err = sg_subtitle_film_extract(x->film, x->tracks.items[i].stream, &text, why);
    switch (err) {
    case SG_OK:
        err = store(x, i, &text);
        sg_buf_unref(text.text);
        return err;
    case SG_ERR_UNSUPPORTED_MEDIA:
    case SG_ERR_UNPROCESSABLE:
    case SG_ERR_TOO_LARGE: /* the track's own fault; the others may be good */
        sg_metric_add(SG_METRIC_SUBTITLES_REFUSED, subtitles_series[1][SG_SUBTITLE_EMBEDDED], 1);
        return skip(x, i, why[0] != '\0' ? why : sg_error_title(err));
    default:
        return err;
    }
}

/* ---- the job ---- */

static enum sg_error extract_all(struct extraction *x)
{
    char why[SG_MEDIA_MESSAGE_MAX];
    enum sg_error err = sg_subtitle_film_tracks(x->film, &x->tracks, why);
    if (err != SG_OK)
        return why[0] != '\0' ? sg_job_run_fail(x->run, err, "%s", why) : err;
    name_tracks(x);
    for (uint32_t i = 0; i < x->tracks.n && err == SG_OK; i++) {
        err = extract_one(x, i);
        sg_job_run_progress(
            x->run,
            &(struct sg_job_progress){
                .percent = 100.0 * (i + 1) / x->tracks.n, .fps = -1, .speed = -1, .eta_s = -1});
    }
    return err;
}

static enum sg_error open_film(struct extraction *x, int fd)
{
    const struct sg_config *cfg = sg_services_config(x->svc);
    const struct sg_subtitle_film_params params = {
        .fd = fd,
        .stop_fd = sg_job_run_stop_fd(x->run),
        .limits = &x->svc->media_limits,
        .process = {.memory_bytes = sg_config_uint(cfg, SG_SET_media_memory),
                    .timeout_ms = sg_config_uint(cfg, SG_SET_subtitles_timeout)},
    };
    return sg_subtitle_film_open(&params, &x->film);
}

static enum sg_error run_extract(struct sg_job_run *run, void *arg)
{
    struct extraction x = {
        .svc = arg, .run = run, .asset_id = sg_job_run_job(run)->asset_id, .written = json_array()};
    int fd = -1;
    x.skipped = json_array();
    enum sg_error err = x.written != NULL && x.skipped != NULL
                            ? sg_blob_open(x.svc->blobs, x.asset_id, &fd)
                            : SG_ERR_NO_MEMORY;
    if (err == SG_ERR_NOT_FOUND)
        err = sg_job_run_fail(run, err, "the asset's file is not there any more");
    if (err == SG_OK)
        err = open_film(&x, fd);
    if (err == SG_OK)
        err = extract_all(&x);
    sg_subtitle_film_close(&x.film);
    if (fd >= 0)
        close(fd);
    if (err == SG_OK)
        sg_job_run_result(run,
                          json_pack("{s:O, s:O}", "languages", x.written, "skipped", x.skipped));
    json_decref(x.written);
    json_decref(x.skipped);
    return err;
}

static struct sg_job_type type = {.name = SG_SUBTITLES_JOB,
                                  .summary = "Extract the tracks of text in an asset's file",
                                  .concurrency = SG_SET_subtitles_jobs,
                                  .timeout = SG_SET_subtitles_timeout,
                                  .role = SG_ROLE_NONE,
                                  .max_attempts = 3,
                                  .backoff_ms = 10000,
                                  .backoff_max_ms = 600000,
                                  .run = run_extract};

enum sg_error subtitles_extract_register(struct sg_services *svc)
{
    type.arg = svc;
    return sg_jobs_register(svc->jobs, &type);
}

/* ---- asked for ---- */

static enum sg_error audit_job(struct sg_db_conn *c, void *arg, const char *id)
{
    struct sg_request *req = arg;
    return sg_audit_append(c, &(struct sg_audit_event){
                                  .event_type = "data",
                                  .actor = req->identity.user_id,
                                  .action = "job.create",
                                  .resource = sg_arena_printf(req->arena, "job/%s", id),
                                  .result = "success",
                                  .request_id = req->id,
                              });
}

struct open_job {
    const char *asset_id;
    struct sg_job_list list;
};

static enum sg_error read_last(struct sg_db_conn *c, void *arg)
{
    struct open_job *o = arg;
    const struct sg_job_query q = {
        .type = SG_SUBTITLES_JOB, .asset_id = o->asset_id, .state = -1, .limit = 1};
    return sg_job_list(c, &q, &o->list);
}

/* The job that does it already, or a new one. */
static enum sg_error find_or_submit(struct sg_request *req, const struct sg_asset_fields *asset,
                                    char id[SG_ULID_SIZE])
{
    struct open_job open = {.asset_id = asset->id};
    enum sg_error err = sg_db_read(req->svc->db, read_last, &open);
    if (err != SG_OK)
        return err;
    bool is_open = open.list.n > 0 && !sg_job_state_final(open.list.items[0]->f.state);
    if (is_open)
        memcpy(id, open.list.items[0]->f.id, SG_ULID_SIZE);
    sg_job_list_free(&open.list);
    if (is_open)
        return SG_OK;
    struct sg_job_fields f;
    const struct sg_job_needs none = {0};
    sg_subtitles_job(asset, &f);
    err = sg_jobs_submit(req->svc->jobs, &f, &none,
                         &(struct sg_job_also){.run = audit_job, .arg = req});
    if (err == SG_OK)
        memcpy(id, f.id, SG_ULID_SIZE);
    return err;
}

enum sg_error subtitles_extract_post(struct sg_request *req, struct sg_response *res)
{
    struct sg_asset_entry *e;
    char id[SG_ULID_SIZE];
    enum sg_error err = sg_asset_load_owned(req, false, &e);
    if (err != SG_OK)
        return err;
    if (e->index == NULL)
        err = sg_request_fail(req, SG_ERR_CONFLICT, NULL, "the asset's file is not there yet");
    if (err == SG_OK)
        err = find_or_submit(req, &e->asset->f, id);
    sg_asset_entry_unref(e);
    if (err != SG_OK)
        return err;
    json_t *body = json_pack("{s:s}", "job", id);
    if (body == NULL)
        return SG_ERR_NO_MEMORY;
    err = sg_response_json(res, 202, body);
    return err == SG_OK ? sg_response_headerf(req, res, "Location", "/api/v1/jobs/%s", id) : err;
}
