/* What people ask of the queue, checked. */
#include <stdlib.h>
#include <string.h>

#include "streamgate/base/json.h"
#include "streamgate/base/validate.h"
#include "streamgate/store/audit_store.h"

#include "worker.h"

#define PAYLOAD_MAX_BYTES 16384
#define ATTEMPTS_MAX 100

/* An integer member in [min, max]; absent leaves *out. */
static enum sg_error read_number(struct sg_request *req, const json_t *body, const char *name,
                                 unsigned min, unsigned max, unsigned *out)
{
    const json_t *value = json_object_get(body, name);
    if (value == NULL)
        return SG_OK;
    json_int_t n = json_integer_value(value);
    if (!json_is_integer(value) || n < (json_int_t)min || n > (json_int_t)max)
        return sg_request_fail(req, SG_ERR_INVALID, name, "must be an integer from %u to %u", min,
                               max);
    *out = (unsigned)n;
    return SG_OK;
}

static enum sg_error read_payload(struct sg_request *req, const json_t *body, struct worker_wish *w)
{
    const json_t *payload = json_object_get(body, "payload");
    w->payload = "{}";
    if (payload == NULL)
        return SG_OK;
    if (!json_is_object(payload))
        return sg_request_fail(req, SG_ERR_INVALID, "payload", "must be an object");
    const char *rule = w->type->check != NULL           ? w->type->check(payload)
                       : json_object_size(payload) != 0 ? "must be empty for jobs of this type"
                                                        : NULL;
    if (rule != NULL)
        return sg_request_fail(req, SG_ERR_INVALID, "payload", "%s", rule);
    size_t len = 0;
    char *text = sg_json_dump(payload, &len);
    if (text != NULL && len <= PAYLOAD_MAX_BYTES)
        w->payload = sg_arena_strndup(req->arena, text, len);
    bool got = text != NULL;
    free(text);
    if (got && len > PAYLOAD_MAX_BYTES)
        return sg_request_fail(req, SG_ERR_INVALID, "payload", "must be at most %d bytes of JSON",
                               PAYLOAD_MAX_BYTES);
    return got && w->payload != NULL ? SG_OK : SG_ERR_NO_MEMORY;
}

enum sg_error worker_wish_read(struct sg_request *req, const json_t *body, struct worker_wish *out)
{
    struct worker_wish w = {.priority = SG_JOB_PRIORITY_DEFAULT};
    const char *type = json_string_value(json_object_get(body, "type"));
    w.type = type != NULL ? sg_jobs_type(req->svc->jobs, type) : NULL;
    if (w.type == NULL)
        return sg_request_fail(req, SG_ERR_INVALID, "type", "must be the name of a type of job");
    if (w.type->role == SG_ROLE_NONE || req->identity.role < w.type->role)
        return sg_request_fail(req, SG_ERR_FORBIDDEN, "type", "is not yours to ask for");
    /* Nobody overtakes everybody: what is above the middle is the administrator's. */
    unsigned most =
        req->identity.role >= SG_ROLE_ADMIN ? SG_JOB_PRIORITY_MAX : SG_JOB_PRIORITY_DEFAULT;
    enum sg_error err = read_number(req, body, "priority", 0, most, &w.priority);
    w.max_attempts = w.type->max_attempts;
    if (err == SG_OK)
        err = read_number(req, body, "max_attempts", 1, ATTEMPTS_MAX, &w.max_attempts);
    if (err == SG_OK)
        err = read_payload(req, body, &w);
    if (err == SG_OK)
        *out = w;
    return err;
}

struct loading {
    const char *id;
    struct sg_job *job;
};

static enum sg_error get_job(struct sg_db_conn *c, void *arg)
{
    struct loading *l = arg;
    return sg_job_get(c, l->id, &l->job);
}

enum sg_error worker_job_load(struct sg_request *req, struct sg_job **out)
{
    struct loading l = {.id = sg_request_param(req, "id")};
    enum sg_error err = SG_ERR_NOT_FOUND;
    if (sg_validate_ulid(l.id, strlen(l.id)) == NULL)
        err = sg_db_read(req->svc->db, get_job, &l);
    if (err == SG_ERR_NOT_FOUND)
        return sg_request_fail(req, err, NULL, "there is no job of this id");
    if (err != SG_OK)
        return err;
    if (req->identity.role < SG_ROLE_ADMIN && strcmp(l.job->f.owner, req->identity.user_id) != 0) {
        sg_job_free(&l.job);
        return sg_request_fail(req, SG_ERR_FORBIDDEN, NULL, "the job is another user's");
    }
    *out = l.job;
    return SG_OK;
}

enum sg_error worker_audit_run(struct sg_db_conn *c, void *arg, const char *id)
{
    const struct worker_audit *a = arg;
    char resource[64];
    size_t kind = strlen(a->kind), len = strlen(id);
    if (kind + len + 2 > sizeof resource)
        return SG_ERR_INTERNAL;
    memcpy(resource, a->kind, kind);
    resource[kind] = '/';
    memcpy(resource + kind + 1, id, len + 1);
    return sg_audit_append(c, &(struct sg_audit_event){.event_type = "admin",
                                                       .actor = a->req->identity.user_id,
                                                       .action = a->action,
                                                       .resource = resource,
                                                       .result = "success",
                                                       .request_id = a->req->id});
}
