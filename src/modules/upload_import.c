/* Imports by URL: announced here, fetched by a job (upload_import_try.c), shown and ended like
 * every other upload. */
#include "upload_import.h"

#include <stdlib.h>
#include <string.h>

#include "streamgate/base/log.h"
#include "streamgate/base/str.h"
#include "streamgate/base/validate.h"
#include "streamgate/layers/fetch.h"
#include "streamgate/modules/modules.h"

struct wanted {
    const char *url, *filename; /* arena; NULL: not given */
    bool has_sha256;
    uint8_t sha256[SG_SHA256_LEN];
    struct sg_asset_edit edit;
};

static enum sg_error take_url(struct sg_request *req, const json_t *value, const char **out)
{
    enum sg_error err = upload_take_text(req, "url", value, out);
    if (err != SG_OK)
        return err;
    const char *why = NULL;
    struct sg_cidr_list *allow = upload_import_allowed(req->svc);
    err = sg_fetch_check_url(*out, allow, &why);
    sg_cidr_list_destroy(&allow);
    return err == SG_ERR_INVALID || err == SG_ERR_FORBIDDEN
               ? sg_request_fail(req, err, "url", "%s", why)
               : err;
}

static enum sg_error take_member(struct sg_request *req, const char *name, const json_t *value,
                                 struct wanted *w)
{
    if (strcmp(name, "url") == 0)
        return take_url(req, value, &w->url);
    if (strcmp(name, "filename") == 0)
        return upload_take_filename(req, value, &w->filename);
    if (strcmp(name, "sha256") == 0) {
        w->has_sha256 = true;
        return upload_take_sha256(req, value, w->sha256);
    }
    return sg_asset_edit_json(req, &w->edit, name, value);
}

static enum sg_error read_wanted(struct sg_request *req, struct wanted *w)
{
    json_t *body = NULL;
    enum sg_error err = sg_request_json(req, false, &body);
    if (err != SG_OK)
        return err;
    const char *name;
    json_t *value;
    json_object_foreach(body, name, value)
    {
        err = take_member(req, name, value, w);
        if (err != SG_OK)
            break;
    }
    json_decref(body);
    if (err == SG_OK && w->url == NULL)
        return sg_request_fail(req, SG_ERR_INVALID, "url", "must be given");
    return err;
}

/* The source may know a better one when it is asked. */
static enum sg_error usual_name(struct sg_request *req, const char *url, const char **out)
{
    char name[SG_FETCH_NAME_SIZE];
    if (sg_fetch_name_from_url(url, name) != SG_OK) {
        *out = UPLOAD_IMPORT_NAME;
        return SG_OK;
    }
    *out = sg_arena_strdup(req->arena, name);
    return *out != NULL ? SG_OK : SG_ERR_NO_MEMORY;
}

static enum sg_error answer(struct sg_request *req, struct sg_response *res,
                            const struct sg_upload *u)
{
    json_t *body = upload_json(req, u);
    enum sg_error err = body != NULL ? sg_response_json(res, 202, body) : SG_ERR_NO_MEMORY;
    if (err != SG_OK)
        return err;
    return sg_response_headerf(req, res, "Location", "/api/v1/uploads/%s", u->f.id);
}

struct queueing {
    const struct sg_upload_fields *upload;
    uint64_t most; /* imports that may wait or run */
    unsigned attempts;
};

static enum sg_error queue_import(struct sg_db_conn *c, void *arg)
{
    const struct queueing *q = arg;
    uint64_t open = 0;
    enum sg_error err = sg_job_count_open(c, UPLOAD_IMPORT_NAME, &open);
    if (err == SG_OK && open >= q->most)
        err = SG_ERR_UNAVAILABLE;
    if (err != SG_OK)
        return err;
    struct sg_job_fields job = {.type = UPLOAD_IMPORT_NAME,
                                .payload = "{}",
                                .priority = SG_JOB_PRIORITY_DEFAULT,
                                .run_at_ms = q->upload->created_ms,
                                .max_attempts = q->attempts,
                                .created_ms = q->upload->created_ms};
    memcpy(job.id, q->upload->id, SG_ULID_SIZE);
    memcpy(job.owner, q->upload->owner, SG_ULID_SIZE);
    return sg_job_insert(c, &job, NULL);
}

static enum sg_error accept_import(struct sg_request *req, struct sg_response *res,
                                   const struct sg_upload *u)
{
    const struct sg_config *cfg = sg_services_config(req->svc);
    struct queueing q = {.upload = &u->f,
                         .most = sg_config_uint(cfg, SG_SET_import_workers) +
                                 sg_config_uint(cfg, SG_SET_import_max_queued),
                         .attempts = (unsigned)sg_config_uint(cfg, SG_SET_import_attempts)};
    enum sg_error err = upload_insert_with(req, &u->f, queue_import, &q);
    if (err == SG_ERR_UNAVAILABLE)
        return sg_request_fail(req, err, NULL, "too many imports are waiting; try again later");
    if (err != SG_OK)
        return err;
    /* The rows are there: the import runs even if its answer cannot be made. */
    upload_count_begun(INGEST_IMPORT);
    sg_jobs_inserted(req->svc->jobs, UPLOAD_IMPORT_NAME, u->f.id);
    return answer(req, res, u);
}

static enum sg_error import_post(struct sg_request *req, struct sg_response *res)
{
    if (sg_config_uint(sg_services_config(req->svc), SG_SET_import_workers) == 0)
        return sg_request_fail(req, SG_ERR_FORBIDDEN, NULL, "imports by URL are switched off");
    struct wanted w = {0};
    struct sg_upload u;
    enum sg_error err = read_wanted(req, &w);
    if (err == SG_OK && w.filename == NULL)
        err = usual_name(req, w.url, &w.filename);
    if (err != SG_OK)
        return err;
    upload_fill(req, &w.edit, &u.f);
    u.f.kind = SG_UPLOAD_IMPORT;
    u.f.url = w.url;
    u.f.filename = w.filename;
    u.f.has_sha256 = w.has_sha256;
    memcpy(u.f.sha256, w.sha256, SG_SHA256_LEN);
    return accept_import(req, res, &u);
}

#define UPLOAD_SCHEMA "{\"$ref\":\"#/components/schemas/Upload\"}"
#define IMPORT_SCHEMA                                                                              \
    "{\"type\":\"object\",\"required\":[\"url\"],\"properties\":{"                                 \
    "\"url\":{\"type\":\"string\",\"format\":\"uri\"},\"filename\":{\"type\":\"string\"},"         \
    "\"title\":{\"type\":\"string\"},\"description\":{\"type\":\"string\"},"                       \
    "\"tags\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}},"                               \
    "\"policy\":{\"type\":\"string\",\"enum\":[\"public\",\"signed\"]},"                           \
    "\"custom\":{\"type\":\"object\"},"                                                            \
    "\"sha256\":{\"type\":\"string\",\"pattern\":\"^[0-9a-fA-F]{64}$\"}},"                         \
    "\"additionalProperties\":false}"

static const struct sg_route routes[] = {
    {.method = SG_POST,
     .path = "/api/v1/uploads/import",
     .handle = import_post,
     .body = SG_BODY_JSON,
     .role = SG_ROLE_CREATOR,
     .limit = SG_LIMIT_UPLOAD,
     .blocking = true,
     .summary = "Import a file from an http or https URL, in the background",
     .tag = "upload",
     .request_schema = IMPORT_SCHEMA,
     .response_schema = UPLOAD_SCHEMA,
     .success = 202},
};

static struct sg_job_type type = {
    .name = UPLOAD_IMPORT_NAME,
    .summary = "Fetch a file from a URL, to be an asset",
    .concurrency = SG_SET_import_workers,
    .timeout = SG_SET_import_timeout,
    .role = SG_ROLE_NONE,
    .max_attempts = 5, /* import.attempts tells each */
    .backoff_ms = 1000,
    .backoff_max_ms = 60000,
    .goes_on = true,
    .run = upload_import_run,
};

/* Imports that were accepted by a daemon that knew no jobs for them. */
struct adoption {
    struct sg_db_conn *c;
    unsigned attempts;
};

static enum sg_error adopt(void *arg, const struct sg_upload *u)
{
    const struct adoption *a = arg;
    struct sg_job *job = NULL;
    if (u->f.kind != SG_UPLOAD_IMPORT)
        return SG_OK;
    enum sg_error err = sg_job_get(a->c, u->f.id, &job);
    sg_job_free(&job);
    if (err != SG_ERR_NOT_FOUND)
        return err;
    struct queueing q = {.upload = &u->f, .most = UINT64_MAX, .attempts = a->attempts};
    return queue_import(a->c, &q);
}

static enum sg_error adopt_all(struct sg_db_conn *c, void *arg)
{
    struct adoption a = {.c = c};
    a.attempts = (unsigned)sg_config_uint(arg, SG_SET_import_attempts);
    return sg_upload_each_open(c, adopt, &a);
}

/* ---- jobs that ended without their handler's doing ---- */

struct dropped {
    struct sg_services *svc;
    char id[SG_ULID_SIZE];
};

/* The row says failed since the job's end, by a trigger; what it had goes. */
static void clean_up(void *arg)
{
    struct dropped *d = arg;
    struct sg_upload *row = NULL;
    enum sg_error err = upload_get(d->svc, d->id, &row);
    if (err == SG_OK && row->f.kind == SG_UPLOAD_IMPORT && row->f.state == SG_UPLOAD_FAILED) {
        upload_count_failed(SG_UPLOAD_IMPORT);
        upload_hash_forget(d->svc->uploads, d->id);
        if (sg_blob_discard(d->svc->blobs, d->id) != SG_OK)
            sg_warn_log("import", "staged file of %s stays until the next start", d->id);
    }
    sg_upload_free(&row);
    free(d);
}

static bool job_ended(void *arg, const struct sg_job_event *e)
{
    bool counts = e->final && (strstr(e->data, "cancelled") != NULL || strstr(e->data, "dead"));
    struct dropped *d = counts ? malloc(sizeof *d) : NULL;
    if (d == NULL)
        return true;
    d->svc = arg;
    memcpy(d->id, e->job_id, SG_ULID_SIZE);
    if (sg_pool_submit(d->svc->sync, clean_up, d) != SG_OK)
        free(d); /* expiry finds it */
    return true;
}

static void no_more(void *arg)
{
    (void)arg;
}

static struct sg_job_sub *subscription;

static enum sg_error import_init(struct sg_services *svc)
{
    enum sg_error err = sg_fetch_init();
    if (err != SG_OK)
        return err;
    type.arg = svc;
    err = sg_jobs_register(svc->jobs, &type);
    if (err == SG_OK)
        err = sg_db_write(svc->db, adopt_all, atomic_load(&svc->config));
    const struct sg_job_sub_params p = {.after_seq = sg_jobs_last_event(svc->jobs),
                                        .event = job_ended,
                                        .gone = no_more,
                                        .arg = svc};
    if (err == SG_OK)
        err = sg_jobs_subscribe(svc->jobs, &p, &subscription);
    if (err != SG_OK)
        sg_fetch_end();
    return err;
}

static void import_shutdown(struct sg_services *svc)
{
    if (subscription != NULL)
        sg_jobs_unsubscribe(svc->jobs, &subscription);
    sg_fetch_end();
}

const struct sg_module sg_import_module = {.name = "import",
                                           .routes = routes,
                                           .n_routes = SG_ARRAY_LEN(routes),
                                           .init = import_init,
                                           .shutdown = import_shutdown};
