/* The queue over HTTP: jobs are made, shown, cancelled, tried again, watched; the queue is paused
 * and goes on. Users see and end their own jobs, administrators all of them. */
#include "worker.h"

#include <stdlib.h>
#include <string.h>

#include "streamgate/base/metrics.h"
#include "streamgate/base/validate.h"
#include "streamgate/modules/modules.h"

#define DELAY_MAX_S 31536000

/* ---- making ---- */

static enum sg_error read_needs(struct sg_request *req, const json_t *body,
                                const char *ids[SG_JOB_NEEDS_MAX], size_t *n)
{
    const json_t *list = json_object_get(body, "depends_on"), *value;
    size_t i;
    if (list == NULL)
        return SG_OK;
    if (!json_is_array(list) || json_array_size(list) > SG_JOB_NEEDS_MAX)
        return sg_request_fail(req, SG_ERR_INVALID, "depends_on",
                               "must be an array of at most %d job ids", SG_JOB_NEEDS_MAX);
    json_array_foreach(list, i, value)
    {
        const char *id = json_string_value(value);
        if (id == NULL || sg_validate_ulid(id, strlen(id)) != NULL)
            return sg_request_fail(req, SG_ERR_INVALID, "depends_on", "must hold job ids");
        ids[i] = sg_arena_strdup(req->arena, id);
        if (ids[i] == NULL)
            return SG_ERR_NO_MEMORY;
    }
    *n = json_array_size(list);
    return SG_OK;
}

static enum sg_error read_job(struct sg_request *req, const json_t *body, struct sg_job_fields *f)
{
    static const char *const known[] = {"type",       "payload", "priority", "max_attempts",
                                        "depends_on", "delay",   NULL};
    struct worker_wish w;
    enum sg_error err = sg_request_only(req, body, known);
    if (err == SG_OK)
        err = worker_wish_read(req, body, &w);
    if (err != SG_OK)
        return err;
    const json_t *delay = json_object_get(body, "delay");
    json_int_t delay_s = json_integer_value(delay);
    if (delay != NULL && (!json_is_integer(delay) || delay_s < 0 || delay_s > DELAY_MAX_S))
        return sg_request_fail(req, SG_ERR_INVALID, "delay", "must be 0 to %d seconds",
                               DELAY_MAX_S);
    memcpy(f->type, w.type->name, strlen(w.type->name) + 1);
    memcpy(f->owner, req->identity.user_id, SG_ULID_SIZE);
    f->payload = w.payload;
    f->priority = w.priority;
    f->max_attempts = w.max_attempts;
    f->run_at_ms = sg_clock_wall_ms() + (uint64_t)delay_s * 1000;
    return SG_OK;
}

struct reading {
    const char *const *ids;
    size_t n;
    const char *owner; /* NULL: anybody's will do */
};

/* Another's job is as good as none: what it is about is nobody else's business. */
static enum sg_error check_owners(struct sg_db_conn *c, void *arg)
{
    const struct reading *r = arg;
    enum sg_error err = SG_OK;
    for (size_t i = 0; i < r->n && err == SG_OK; i++) {
        struct sg_job *job = NULL;
        err = sg_job_get(c, r->ids[i], &job);
        if (err == SG_OK && r->owner && strcmp(job->f.owner, r->owner) != 0)
            err = SG_ERR_NOT_FOUND;
        sg_job_free(&job);
    }
    return err;
}

static enum sg_error answer_job(struct sg_request *req, struct sg_response *res, const char *id,
                                unsigned status);

static enum sg_error job_post(struct sg_request *req, struct sg_response *res)
{
    struct sg_job_fields f = {0};
    const char *ids[SG_JOB_NEEDS_MAX];
    struct sg_job_needs needs = {.ids = ids};
    json_t *body = NULL;
    enum sg_error err = sg_request_json(req, false, &body);
    if (err != SG_OK)
        return err;
    err = read_job(req, body, &f);
    if (err == SG_OK)
        err = read_needs(req, body, ids, &needs.n);
    json_decref(body);
    struct reading r = {ids, needs.n,
                        req->identity.role < SG_ROLE_ADMIN ? req->identity.user_id : NULL};
    if (err != SG_OK)
        return err;
    if (needs.n > 0)
        err = sg_db_read(req->svc->db, check_owners, &r);
    struct worker_audit audit = {req, "job.create", "job"};
    if (err == SG_OK)
        err = sg_jobs_submit(req->svc->jobs, &f, &needs,
                             &(struct sg_job_also){worker_audit_run, &audit});
    if (err == SG_ERR_NOT_FOUND)
        return sg_request_fail(req, SG_ERR_INVALID, "depends_on", "names a job that is not there");
    if (err == SG_ERR_CONFLICT)
        return sg_request_fail(req, err, "depends_on", "names a job that did not end well");
    if (err == SG_ERR_UNAVAILABLE)
        return sg_request_fail(req, err, NULL, "too many jobs are waiting; try again later");
    if (err == SG_OK)
        err = answer_job(req, res, f.id, 202);
    if (err != SG_OK)
        return err;
    return sg_response_headerf(req, res, "Location", "/api/v1/jobs/%s", f.id);
}

/* ---- showing ---- */

struct fetching {
    const char *id;
    struct sg_job *job;
};

static enum sg_error fetch(struct sg_db_conn *c, void *arg)
{
    struct fetching *k = arg;
    return sg_job_get(c, k->id, &k->job);
}

static enum sg_error answer_job(struct sg_request *req, struct sg_response *res, const char *id,
                                unsigned status)
{
    struct fetching k = {.id = id};
    enum sg_error err = sg_db_read(req->svc->db, fetch, &k);
    if (err == SG_OK)
        err = sg_response_json(res, status, worker_job_json(req->svc, k.job));
    sg_job_free(&k.job);
    return err;
}

static enum sg_error job_get(struct sg_request *req, struct sg_response *res)
{
    struct sg_job *job = NULL;
    enum sg_error err = worker_job_load(req, &job);
    if (err == SG_OK)
        err = sg_response_json(res, 200, worker_job_json(req->svc, job));
    sg_job_free(&job);
    return err;
}

struct listing {
    struct sg_job_query q;
    struct sg_job_list list;
};

static enum sg_error list(struct sg_db_conn *c, void *arg)
{
    struct listing *l = arg;
    return sg_job_list(c, &l->q, &l->list);
}

static enum sg_error read_query(struct sg_request *req, struct sg_job_query *q, uint64_t *limit)
{
    const char *state = NULL;
    enum sg_job_state parsed;
    q->state = -1;
    enum sg_error err = sg_request_query(req, "cursor", &q->before);
    if (err == SG_OK)
        err = sg_request_query(req, "type", &q->type);
    if (err == SG_OK)
        err = sg_request_query(req, "state", &state);
    if (err == SG_OK)
        err = sg_request_query_u64(req, "limit", 1, 200, 50, limit);
    if (err != SG_OK)
        return err;
    if (q->before != NULL && sg_validate_ulid(q->before, strlen(q->before)) != NULL)
        return sg_request_fail(req, SG_ERR_INVALID, "cursor", "is not one of this list's cursors");
    if (state != NULL) {
        if (sg_job_state_parse(state, &parsed) != SG_OK)
            return sg_request_fail(req, SG_ERR_INVALID, "state",
                                   "must be queued, running, done, failed, cancelled or dead");
        q->state = (int)parsed;
    }
    if (req->identity.role < SG_ROLE_ADMIN)
        q->owner = req->identity.user_id;
    q->limit = (unsigned)*limit + 1; /* one more tells whether another page follows */
    return SG_OK;
}

static enum sg_error job_list(struct sg_request *req, struct sg_response *res)
{
    struct listing l = {0};
    uint64_t limit;
    enum sg_error err = read_query(req, &l.q, &limit);
    if (err == SG_OK)
        err = sg_db_read(req->svc->db, list, &l);
    if (err != SG_OK)
        return err;
    size_t shown = l.list.n > limit ? (size_t)limit : l.list.n;
    json_t *items = json_array();
    int bad = items == NULL;
    for (size_t i = 0; i < shown; i++)
        bad |= json_array_append_new(items, worker_job_json(req->svc, l.list.items[i]));
    if (bad) {
        json_decref(items);
        items = NULL;
    }
    err = sg_response_json(
        res, 200, worker_page_json(items, l.list.n > limit ? l.list.items[shown - 1]->f.id : NULL));
    sg_job_list_free(&l.list);
    return err;
}

/* ---- ending, trying again ---- */

static enum sg_error job_cancel(struct sg_request *req, struct sg_response *res)
{
    struct sg_job *job = NULL;
    struct worker_audit audit = {req, "job.cancel", "job"};
    enum sg_job_state state;
    enum sg_error err = worker_job_load(req, &job);
    if (err != SG_OK)
        return err;
    err = sg_jobs_cancel(req->svc->jobs, job->f.id, &(struct sg_job_also){worker_audit_run, &audit},
                         &state);
    if (err == SG_ERR_CONFLICT)
        err = sg_request_fail(req, err, NULL, "the job has ended already");
    if (err == SG_OK)
        err = answer_job(req, res, job->f.id, state == SG_JOB_RUNNING ? 202 : 200);
    sg_job_free(&job);
    return err;
}

static enum sg_error job_retry(struct sg_request *req, struct sg_response *res)
{
    struct sg_job *job = NULL;
    struct worker_audit audit = {req, "job.retry", "job"};
    enum sg_error err = worker_job_load(req, &job);
    if (err != SG_OK)
        return err;
    err = sg_jobs_retry(req->svc->jobs, job->f.id, &(struct sg_job_also){worker_audit_run, &audit});
    if (err == SG_ERR_CONFLICT)
        err = sg_request_fail(req, err, NULL,
                              "only a job that failed, was cancelled or is dead is tried again, "
                              "and only when those it depends on are well");
    if (err == SG_OK)
        err = answer_job(req, res, job->f.id, 202);
    sg_job_free(&job);
    return err;
}

/* ---- the queue ---- */

static enum sg_error queue_get(struct sg_request *req, struct sg_response *res)
{
    return sg_response_json(res, 200, sg_jobs_status(req->svc->jobs));
}

struct noting {
    struct worker_audit audit;
    const char *what;
};

static enum sg_error note(struct sg_db_conn *c, void *arg)
{
    struct noting *n = arg;
    return worker_audit_run(c, &n->audit, n->what);
}

static enum sg_error set_paused(struct sg_request *req, struct sg_response *res, bool pause)
{
    json_t *body = NULL;
    enum sg_error err = sg_request_json(req, true, &body);
    if (err != SG_OK)
        return err;
    const json_t *value = json_object_get(body, "type");
    const char *type = json_string_value(value);
    err = sg_request_only(req, body, (const char *const[]){"type", NULL});
    if (err == SG_OK)
        err = value != NULL && type == NULL ? SG_ERR_NOT_FOUND
                                            : sg_jobs_pause(req->svc->jobs, type, pause);
    if (err == SG_ERR_NOT_FOUND)
        err = sg_request_fail(req, SG_ERR_INVALID, "type", "must be the name of a type of job");
    struct noting n = {{req, pause ? "jobs.pause" : "jobs.resume", "jobs"}, type ? type : "all"};
    if (err == SG_OK)
        err = sg_db_write(req->svc->db, note, &n);
    json_decref(body);
    return err != SG_OK ? err : queue_get(req, res);
}

static enum sg_error queue_pause(struct sg_request *req, struct sg_response *res)
{
    return set_paused(req, res, true);
}

static enum sg_error queue_resume(struct sg_request *req, struct sg_response *res)
{
    return set_paused(req, res, false);
}

/* ---- rows ---- */

static const struct sg_param_doc list_params[] = {
    {"type", "string", "only of this type"},
    {"state", "string", "queued, running, done, failed, cancelled or dead"},
    {"limit", "integer", "1 to 200, 50 by default"},
    {"cursor", "string", "next_cursor of the previous page"},
};
static const struct sg_param_doc page_params[] = {
    {"limit", "integer", "1 to 200, 50 by default"},
    {"cursor", "string", "next_cursor of the previous page"},
};
/* So that no proxy holds events back. */
static const struct sg_header stream_headers[] = {{"X-Accel-Buffering", "no"}};

#define COMMON                                                                                     \
    "\"type\":{\"type\":\"string\"},\"payload\":{\"type\":\"object\"},"                            \
    "\"priority\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":100},"                           \
    "\"max_attempts\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":100}"
#define JOB_SCHEMA                                                                                 \
    "{\"type\":\"object\",\"required\":[\"type\"],\"properties\":{" COMMON                         \
    ",\"delay\":{\"type\":\"integer\",\"description\":\"seconds\"},"                               \
    "\"depends_on\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"maxItems\":16}},"        \
    "\"additionalProperties\":false}"
#define SCHEDULE_SCHEMA                                                                            \
    "{\"type\":\"object\",\"required\":[\"type\",\"cron\"],\"properties\":{" COMMON                \
    ",\"cron\":{\"type\":\"string\",\"description\":\"minute hour day-of-month month "             \
    "day-of-week\"},\"time_zone\":{\"type\":\"string\",\"description\":\"IANA name; UTC by "       \
    "default\"},\"missed\":{\"enum\":[\"skip\",\"once\"]}},\"additionalProperties\":false}"
#define PAUSE_SCHEMA "{\"type\":\"object\",\"properties\":{\"type\":{\"type\":\"string\"}}}"

#define JOBS "/api/v1/jobs"
#define SCHEDULES "/api/v1/schedules"
#define ROW(m, p, fn, r) .method = m, .path = p, .handle = fn, .role = r, .blocking = true
static const struct sg_route routes[] = {
    {ROW(SG_POST, JOBS, job_post, SG_ROLE_CREATOR), .body = SG_BODY_JSON,
     .summary = "Put a job into the queue", .request_schema = JOB_SCHEMA, .success = 202},
    {ROW(SG_GET, JOBS, job_list, SG_ROLE_CREATOR), .summary = "List jobs, newest first",
     .query = list_params, .n_query = SG_ARRAY_LEN(list_params)},
    {ROW(SG_GET, JOBS "/{id}", job_get, SG_ROLE_CREATOR), .summary = "Fetch one job"},
    {ROW(SG_DELETE, JOBS "/{id}", job_cancel, SG_ROLE_CREATOR),
     .summary = "Cancel a job: 200 when it is, 202 while what runs it is being stopped"},
    {ROW(SG_POST, JOBS "/{id}/retry", job_retry, SG_ROLE_CREATOR),
     .summary = "Try a job again that failed, was cancelled or is dead", .success = 202},
    {ROW(SG_GET, JOBS "/{id}/events", worker_events_get, SG_ROLE_CREATOR),
     .summary = "Follow a job as Server-Sent Events, to its end; Last-Event-ID goes on",
     .response_type = "text/event-stream", .headers = stream_headers,
     .n_headers = SG_ARRAY_LEN(stream_headers)},
    {ROW(SG_GET, JOBS "/queue", queue_get, SG_ROLE_ADMIN),
     .summary = "What runs, what is paused, limits"},
    {ROW(SG_POST, JOBS "/pause", queue_pause, SG_ROLE_ADMIN), .body = SG_BODY_JSON,
     .summary = "Take no new jobs, of one type or of all", .request_schema = PAUSE_SCHEMA},
    {ROW(SG_POST, JOBS "/resume", queue_resume, SG_ROLE_ADMIN), .body = SG_BODY_JSON,
     .summary = "Take jobs again, of one type or of all", .request_schema = PAUSE_SCHEMA},
    {ROW(SG_POST, SCHEDULES, worker_schedule_post, SG_ROLE_ADMIN), .body = SG_BODY_JSON,
     .summary = "Make jobs by a cron expression", .request_schema = SCHEDULE_SCHEMA,
     .success = 201},
    {ROW(SG_GET, SCHEDULES, worker_schedule_list, SG_ROLE_ADMIN), .summary = "List schedules",
     .query = page_params, .n_query = SG_ARRAY_LEN(page_params)},
    {ROW(SG_GET, SCHEDULES "/{id}", worker_schedule_get, SG_ROLE_ADMIN),
     .summary = "Fetch one schedule"},
    {ROW(SG_DELETE, SCHEDULES "/{id}", worker_schedule_delete, SG_ROLE_ADMIN),
     .summary = "Remove a schedule; jobs it made stay", .success = 204},
};

/* ---- the module ---- */

static uint32_t state_series[SG_JOB_STATE_COUNT];

static enum sg_error worker_init(struct sg_services *svc)
{
    enum sg_error err = SG_OK;
    for (int i = 0; i < SG_JOB_STATE_COUNT && err == SG_OK; i++) {
        struct sg_text labels = {0};
        sg_text_printf(&labels, "state=\"%s\"", sg_job_state_name((enum sg_job_state)i));
        err = labels.failed ? SG_ERR_NO_MEMORY
                            : sg_metric_define(SG_METRIC_WORKER_JOBS, labels.ptr, &state_series[i]);
        sg_text_free(&labels);
    }
    return err == SG_OK ? worker_types_register(svc) : err;
}

static enum sg_error count(struct sg_db_conn *c, void *arg)
{
    return sg_job_counts(c, arg);
}

static void worker_tick(struct sg_services *svc)
{
    uint64_t counts[SG_JOB_STATE_COUNT];
    sg_jobs_configure(svc->jobs, sg_services_config(svc));
    if (atomic_load(&svc->draining))
        sg_jobs_drain(svc->jobs);
    if (sg_db_read(svc->db, count, counts) != SG_OK)
        return; /* readiness tells of it */
    for (int i = 0; i < SG_JOB_STATE_COUNT; i++)
        sg_metric_gauge_set(SG_METRIC_WORKER_JOBS, state_series[i], (double)counts[i]);
}

const struct sg_module sg_worker_module = {.name = "worker",
                                           .routes = routes,
                                           .n_routes = SG_ARRAY_LEN(routes),
                                           .init = worker_init,
                                           .tick = worker_tick};
